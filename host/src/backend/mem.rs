//! `mem:`: a filesystem in memory.

/// A filesystem in memory.
pub struct MemBackend;

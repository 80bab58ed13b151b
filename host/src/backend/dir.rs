//! `dir:`: a directory of the host.

/// A directory of the host.
pub struct DirBackend;

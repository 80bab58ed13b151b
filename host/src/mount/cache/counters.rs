//! What a mount's cache counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of a cache, since the mount was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Reads that were answered without a call of the client.
    pub hits: u64,
    /// Reads for which the server was asked.
    pub misses: u64,
    /// Pages that were read before a program asked for them.
    pub read_ahead_pages: u64,
    /// Writes of gathered pages to the server.
    pub write_backs: u64,
    /// Bytes that were written so.
    pub written_back_bytes: u64,
    /// Pages that were given up for others.
    pub evicted_pages: u64,
    /// Pages that were given up because their file had been changed elsewhere.
    pub invalidated_pages: u64,
    /// Bytes of the region that the cache holds now.
    pub held_bytes: u64,
}

impl CacheStatistics {
    pub(in crate::mount) fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            read_ahead_pages: self.read_ahead_pages + other.read_ahead_pages,
            write_backs: self.write_backs + other.write_backs,
            written_back_bytes: self.written_back_bytes + other.written_back_bytes,
            evicted_pages: self.evicted_pages + other.evicted_pages,
            invalidated_pages: self.invalidated_pages + other.invalidated_pages,
            held_bytes: self.held_bytes + other.held_bytes,
        }
    }
}

/// The same, being counted.
#[derive(Debug, Default)]
pub(in crate::mount) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) read_ahead_pages: AtomicU64,
    pub(super) write_backs: AtomicU64,
    pub(super) written_back_bytes: AtomicU64,
    pub(super) evicted_pages: AtomicU64,
    pub(super) invalidated_pages: AtomicU64,
}

impl Counters {
    /// As they are, but for what the cache holds.
    pub(in crate::mount) fn statistics(&self) -> CacheStatistics {
        CacheStatistics {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            read_ahead_pages: self.read_ahead_pages.load(Relaxed),
            write_backs: self.write_backs.load(Relaxed),
            written_back_bytes: self.written_back_bytes.load(Relaxed),
            evicted_pages: self.evicted_pages.load(Relaxed),
            invalidated_pages: self.invalidated_pages.load(Relaxed),
            held_bytes: 0,
        }
    }
}

/// Counts one more, or several.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Relaxed);
}

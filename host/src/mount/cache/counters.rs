//! What a mount's cache counts.

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
    /// Pages that were written so.
    pub written_back_pages: u64,
    /// Pages that were given up for others.
    pub evicted_pages: u64,
    /// Pages that were given up because the file had been changed elsewhere.
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
            written_back_pages: self.written_back_pages + other.written_back_pages,
            evicted_pages: self.evicted_pages + other.evicted_pages,
            invalidated_pages: self.invalidated_pages + other.invalidated_pages,
            held_bytes: self.held_bytes + other.held_bytes,
        }
    }
}

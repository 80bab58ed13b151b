//! How much there is, and how much of it is in use.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ninering_wire::{Errno, NAME_MAX, Statfs};

use super::MemLimits;

/// The block size that [`Statfs`] counts in, in bytes.
const BLOCK: u64 = 4096;
/// `statfs(2)`'s number for a filesystem in memory (`TMPFS_MAGIC`).
const TMPFS_MAGIC: u32 = 0x0102_1994;

/// A filesystem's limits, and what is taken of them.
pub(super) struct Space {
    limits: MemLimits,
    bytes: AtomicU64,
    inodes: AtomicU64,
    last_number: AtomicU64,
}

impl Space {
    /// Nothing taken yet but the root's inode.
    pub(super) fn new(limits: MemLimits) -> Self {
        Self { limits, bytes: AtomicU64::new(0), inodes: AtomicU64::new(1), last_number: AtomicU64::new(0) }
    }

    /// Takes so many bytes; `ENOSPC` where there are fewer.
    pub(super) fn take_bytes(&self, count: u64) -> Result<(), Errno> {
        take(&self.bytes, count, self.limits.bytes)
    }

    /// Gives bytes back.
    pub(super) fn return_bytes(&self, count: u64) {
        self.bytes.fetch_sub(count, Relaxed);
    }

    /// Takes an inode; `ENOSPC` where there is none left.
    pub(super) fn take_inode(&self) -> Result<(), Errno> {
        take(&self.inodes, 1, self.limits.inodes)
    }

    /// Gives an inode back.
    pub(super) fn return_inode(&self) {
        self.inodes.fetch_sub(1, Relaxed);
    }

    /// A number that no inode had before.
    pub(super) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Relaxed) + 1
    }

    /// The figures.
    pub(super) fn statfs(&self) -> Statfs {
        let free = self.limits.bytes.saturating_sub(self.bytes.load(Relaxed)) / BLOCK;
        Statfs {
            kind: TMPFS_MAGIC,
            bsize: BLOCK as u32,
            blocks: self.limits.bytes / BLOCK,
            bfree: free,
            bavail: free,
            files: self.limits.inodes,
            ffree: self.limits.inodes.saturating_sub(self.inodes.load(Relaxed)),
            fsid: 0,
            namelen: NAME_MAX as u32,
        }
    }
}

fn take(used: &AtomicU64, count: u64, limit: u64) -> Result<(), Errno> {
    let more = |used: u64| used.checked_add(count).filter(|&used| used <= limit);
    used.fetch_update(Relaxed, Relaxed, more).map(drop).map_err(|_| Errno::ENOSPC)
}

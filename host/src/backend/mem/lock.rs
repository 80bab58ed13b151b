//! Locks of open files: an inode's table of them.

use ninering_wire::{Errno, LockType};

use crate::backend::{
    LockConflict, LockRange,
    lock::{Ranges, exclude_each_other},
};

/// The locks of an inode.
#[derive(Default)]
pub(super) struct Locks(Vec<Owned>);

/// The locks of one open file.
struct Owned {
    owner: usize,
    ranges: Ranges<LockType>,
}

impl Locks {
    /// Takes or gives back a lock of `owner`'s; `false` where another's is in the way.
    pub(super) fn set(&mut self, owner: usize, kind: LockType, range: LockRange) -> bool {
        if self.conflict(owner, kind, range).is_some() {
            return false;
        }
        let all = &mut self.0;
        let at = all.iter().position(|owned| owned.owner == owner).unwrap_or_else(|| {
            all.push(Owned { owner, ranges: Ranges::default() });
            all.len() - 1
        });
        match kind {
            LockType::Unlock => all[at].ranges.remove(range),
            kind => all[at].ranges.insert(range, kind),
        }
        if all[at].ranges.is_empty() {
            all.swap_remove(at);
        }
        true
    }

    /// A lock of another than `owner` that is in the way.
    pub(super) fn conflict(&self, owner: usize, kind: LockType, range: LockRange) -> Option<LockConflict> {
        let others = self.0.iter().filter(|owned| owned.owner != owner);
        let overlapping = others.flat_map(|owned| owned.ranges.overlapping(range));
        let mut excluding = overlapping.filter(|(_, other)| exclude_each_other(kind, *other));
        excluding.next().map(|(range, kind)| LockConflict { kind, range, process: None })
    }
}

/// May a file with this access be locked so? As `fcntl(2)` has it.
pub(super) fn check_access(kind: LockType, readable: bool, writable: bool) -> Result<(), Errno> {
    match kind {
        LockType::Read if !readable => Err(Errno::EBADF),
        LockType::Write if !writable => Err(Errno::EBADF),
        _ => Ok(()),
    }
}

//! A client's process, and the open file that has its locks on a file.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ninering_wire::{Errno, LockType, lopen};

use crate::{
    backend::{LockRange, OpenRef, lock::Ranges},
    server::fid::Opened,
};

/// How many files a session may have open for the locks of those whose fids' own are another's already: `ENOLCK` for more.
const MOST_REOPENED: usize = 256;

/// A process of a client, and its locks on one file.
pub(super) struct Holder {
    pub(super) owner: Owner,
    /// The open file that has its locks, and the access mode of that.
    pub(super) file: OpenRef,
    pub(super) access: u32,
    /// Where it is opened for that alone.
    pub(super) reopened: Option<Reopened>,
    pub(super) ranges: Ranges<Held>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The session, by the address of its [`SessionLocks`](super::SessionLocks)' counter.
    pub(super) session: usize,
    pub(super) client_id: Box<[u8]>,
    pub(super) proc_id: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) kind: LockType,
    /// The fid that it was last locked by.
    pub(super) fid: usize,
}

/// What a lock is taken by: an open fid, the files that have others' locks, and the session's count of those opened for
/// locks alone.
pub(super) struct By<'a> {
    pub(super) opened: &'a Opened,
    pub(super) others: &'a [&'a OpenRef],
    pub(super) reopened: &'a Arc<AtomicUsize>,
}

/// Counts as a file that is open for locks alone, until it is dropped.
pub(super) struct Reopened(Arc<AtomicUsize>);

impl Reopened {
    fn count(all: &Arc<AtomicUsize>) -> Result<Self, Errno> {
        let more = |count: usize| (count < MOST_REOPENED).then_some(count + 1);
        all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Errno::ENOLCK)?;
        Ok(Self(Arc::clone(all)))
    }
}

impl Drop for Reopened {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open file that can have a holder's locks.
pub(super) struct LockFile {
    pub(super) file: OpenRef,
    pub(super) access: u32,
    pub(super) reopened: Option<Reopened>,
}

impl Holder {
    /// Takes a lock; `false` where another's is in the way.
    pub(super) fn take(&mut self, by: &By<'_>, held: Held, range: LockRange) -> Result<bool, Errno> {
        if !allows(self.access, held.kind) && !self.change_file(by, held.kind)? {
            return Ok(false);
        }
        let granted = self.file.locks()?.set_lock(held.kind, range)?;
        if granted {
            self.ranges.insert(range, held);
        }
        Ok(granted)
    }

    /// Moves the locks to an open file that `kind` can be taken with; `false` where one of another is in the way.
    ///
    /// Shared locks can be had twice while they move. Exclusive ones would have to be given back: `ENOLCK`.
    fn change_file(&mut self, by: &By<'_>, kind: LockType) -> Result<bool, Errno> {
        if self.ranges.iter().any(|(_, held)| held.kind == LockType::Write) {
            return Err(Errno::ENOLCK);
        }
        let mut new = by.file(kind)?;
        if !allows(new.access, LockType::Read) {
            new = by.reopen(lopen::RDWR).map_err(bad_access)?;
        }
        let locks = new.file.locks()?;
        for (range, _) in self.ranges.iter() {
            if !locks.set_lock(LockType::Read, range)? {
                locks.set_lock(LockType::Unlock, LockRange::WHOLE)?;
                return Ok(false);
            }
        }
        self.release(LockRange::WHOLE);
        (self.file, self.access, self.reopened) = (new.file, new.access, new.reopened);
        Ok(true)
    }

    /// Gives a range back. If the system call fails, that is when the file is closed.
    pub(super) fn release(&self, range: LockRange) {
        let released = self.file.locks().and_then(|locks| locks.set_lock(LockType::Unlock, range));
        if let Err(error) = released {
            tracing::warn!(%error, "cannot give back a lock before its file is closed");
        }
    }
}

/// Can a lock of this kind be had of a file that is open so?
fn allows(access: u32, kind: LockType) -> bool {
    match kind {
        LockType::Read => access != lopen::WRONLY,
        LockType::Write => access != lopen::RDONLY,
        LockType::Unlock => true,
    }
}

impl By<'_> {
    /// The open file of the fid if it has the access for `kind` and no other's locks; else one that is opened.
    ///
    /// (Where a fid does not have the access, its client does not mean `fcntl(2)`, which asks for it, but `flock(2)`.)
    pub(super) fn file(&self, kind: LockType) -> Result<LockFile, Errno> {
        let (file, access) = (self.opened.any(), self.opened.access());
        if !allows(access, kind) {
            return self.reopen(lopen::RDWR).map_err(bad_access);
        }
        if self.others.iter().any(|other| Arc::ptr_eq(other, file)) {
            return self.reopen(access);
        }
        Ok(LockFile { file: Arc::clone(file), access, reopened: None })
    }

    fn reopen(&self, access: u32) -> Result<LockFile, Errno> {
        let reopened = Some(Reopened::count(self.reopened)?);
        Ok(LockFile { file: self.opened.any().locks()?.reopen(access)?, access, reopened })
    }
}

/// Who may not open a file so cannot lock it so.
fn bad_access(error: Errno) -> Errno {
    match error {
        Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY => Errno::EBADF,
        error => error,
    }
}

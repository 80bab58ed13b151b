//! `Tlock` and `Tgetlock`: byte-range locks.
//!
//! A backend's locks belong to open files. Those of a 9P client belong to its processes, which it names by `client_id`
//! and `proc_id`, as the locks of `fcntl(2)` do: a process that has opened a file twice is not in its own way, and what it
//! has locked by one fid it unlocks by another; two that share a fid, as after `fork(2)`, exclude each other. So each
//! process has one open file for the locks that it has on a file: that of the fid which it first locked by, or, where
//! that is another process's already, one that is opened for it.
//!
//! A lock is given back when the fid is clunked that it was taken by, whoever did, and when the session ends.
//!
//! Directories have none (`EOPNOTSUPP`). On a Linux mount `flock(2)` of one works as on any filesystem, but its client keeps
//! that to itself. Here, an exclusive lock takes a file that is open for writing, which a directory never is.
//!
//! A request never waits here for another's lock. Where its client would ([`lock::FLAGS_BLOCK`]), it can be put off: a
//! [`WaitingLock`] tells when it is worth to [try again](Session::try_lock).
//!
//! `table` has the locks of all files, `holder` those of one process on one file.

mod holder;
mod table;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU8, Ordering},
};

use ninering_wire::{Errno, HEADER_LEN, Lock, LockStatus, LockType, Message, Rmessage, Str, Tmessage, lock};
use tokio::sync::{Notify, futures::Notified};

use self::table::{Found, Waits};
pub(super) use self::table::{LockTable, SessionLocks};
use super::{Session, fid::Fid, request::Request};
use crate::backend::LockRange;

/// The longest `client_id`, in bytes; Linux's client sends its host's name.
pub(super) const CLIENT_ID_MAX: usize = 255;

/// Whether a fid has locks.
#[derive(Default)]
pub(super) struct FidLocks(AtomicU8);

impl FidLocks {
    const USED: u8 = 1;
    const GONE: u8 = 2;

    /// Notes that there may be some; `EBADF` where the fid is gone.
    fn begin(&self) -> Result<(), Errno> {
        if self.0.fetch_or(Self::USED, Ordering::AcqRel) & Self::GONE == 0 { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Notes that the fid is gone; tells whether there may be some.
    fn end(&self) -> bool {
        self.0.fetch_or(Self::GONE, Ordering::AcqRel) & Self::USED != 0
    }
}

impl Session {
    /// `Tlock`.
    #[expect(clippy::too_many_arguments, reason = "they are the message's fields")]
    pub(super) fn lock(
        &self,
        request: &Request,
        number: u32,
        kind: LockType,
        flags: u32,
        (start, length): (u64, u64),
        proc_id: u32,
        client_id: &[u8],
    ) -> Result<usize, Errno> {
        // To reclaim a lock after the server began anew is to take it: it never gives others time to.
        if flags & !(lock::FLAGS_BLOCK | lock::FLAGS_RECLAIM) != 0 || client_id.len() > CLIENT_ID_MAX {
            return Err(Errno::EINVAL);
        }
        let range = LockRange::new(start, length)?;
        let fid = self.fid(request, number)?;
        if request.again.is_some_and(|(waiting, _)| !waiting.is_of(&fid)) {
            return Err(Errno::EBADF);
        }
        let granted = self.locks.set(&fid, self.locks.owner(client_id, proc_id), kind, range)?;
        let status = match (granted, request.lock_put_off()) {
            (true, _) => LockStatus::Success,
            (false, Some(put_off)) if flags & lock::FLAGS_BLOCK != 0 => return Err(put_off.put_off()),
            (false, _) => LockStatus::Blocked,
        };
        request.answer(&Rmessage::Rlock { status })
    }

    /// `Tgetlock`.
    pub(super) fn getlock(&self, request: &Request, number: u32, lock: &Lock<'_>) -> Result<usize, Errno> {
        if lock.client_id.len() > CLIENT_ID_MAX {
            return Err(Errno::EINVAL);
        }
        let range = LockRange::new(lock.start, lock.length)?;
        let fid = self.fid(request, number)?;
        // Linux's client does not say what kind of lock its process asks about, but always this.
        let kind = if lock.kind == LockType::Unlock { LockType::Write } else { lock.kind };
        let owner = self.locks.owner(&lock.client_id, lock.proc_id);
        match self.locks.conflict(&fid, &owner, kind, range)? {
            None => request.answer(&Rmessage::Rgetlock { lock: Lock { kind: LockType::Unlock, ..*lock } }),
            Some(Found { kind, range, proc_id, client_id }) => {
                let (start, length, client_id) = (range.start(), range.length(), Str(&client_id));
                request.answer(&Rmessage::Rgetlock { lock: Lock { kind, start, length, proc_id, client_id } })
            }
        }
    }

    /// Begins to wait for the lock that `message` asks for, which [`Self::handle_now`] has put off. `None` where there is
    /// nothing to wait for, or too many wait: then it is [`Self::handle_later`]'s.
    pub fn waiting_lock(&self, message: &[u8]) -> Option<WaitingLock> {
        let (message, _) = Tmessage::decode_body(*message.get(4)?, message.get(HEADER_LEN..)?).ok()?;
        let Tmessage::Tlock { fid, flags, .. } = message else { return None };
        if flags & lock::FLAGS_BLOCK == 0 {
            return None;
        }
        let fid = self.fids.get(fid).ok()?;
        // From now on its clunk wakes who waits.
        fid.locks.begin().ok()?;
        let file = fid.opened().ok()?.any().locks().ok()?.identity();
        let (changed, waits) = self.locks.wait(file)?;
        Some(WaitingLock { fid: Arc::downgrade(&fid), changed, _waits: waits })
    }
}

/// A `Tlock` that waits until nobody else has the lock.
pub struct WaitingLock {
    fid: Weak<Fid>,
    changed: Arc<Notify>,
    _waits: Waits,
}

impl WaitingLock {
    /// Completes when some lock of a client was given back, perhaps one that this waits for, or when its fid is gone.
    /// What happens from the call on counts. Nobody tells when a process of this machine gives one back: it is worth to
    /// try again from time to time.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Is it this fid that it was asked by?
    fn is_of(&self, fid: &Arc<Fid>) -> bool {
        std::ptr::eq(self.fid.as_ptr(), Arc::as_ptr(fid))
    }
}

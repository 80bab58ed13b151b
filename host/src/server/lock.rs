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

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use ninering_wire::{Errno, HEADER_LEN, Lock, LockStatus, LockType, Message, Rmessage, Str, Tmessage, lock, lopen};
use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};

use super::{
    Session,
    fid::{Fid, Opened},
    request::Request,
};
use crate::backend::{
    FileIdentity, LockRange, OpenRef,
    lock::{Ranges, exclude_each_other},
};

/// The longest `client_id`, in bytes; Linux's client sends its host's name.
pub(super) const CLIENT_ID_MAX: usize = 255;
/// How many ranges a session may have locked, in all and of one file: `ENOLCK` for more. (The kernel has a list of those
/// of a file, which it goes through for each.)
const MOST_RANGES: usize = 16_384;
const MOST_RANGES_OF_A_FILE: usize = 1024;
/// How many files a session may have open for the locks of those whose fids' own are another's already: `ENOLCK` for more.
const MOST_REOPENED: usize = 256;
/// How many requests of a session may wait for a lock at a time; one more is told that another has it.
const MOST_WAITING: usize = 256;
/// How many parts the table has, each with its own mutex.
const SHARDS: usize = 64;

/// The locks of all sessions of a server.
pub(super) struct LockTable {
    shards: [Shard; SHARDS],
}

#[derive(Default)]
struct Shard {
    files: Mutex<HashMap<FileIdentity, Vec<Holder>>>,
    /// A lock was given back.
    changed: Arc<Notify>,
}

/// A process of a client, and its locks on one file.
struct Holder {
    owner: Owner,
    /// The open file that has its locks, and the access mode of that.
    file: OpenRef,
    access: u32,
    /// Where it is opened for that alone.
    reopened: Option<Reopened>,
    ranges: Ranges<Held>,
}

/// Counts as a file that is open for locks alone, until it is dropped.
struct Reopened(Arc<AtomicUsize>);

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
struct LockFile {
    file: OpenRef,
    access: u32,
    reopened: Option<Reopened>,
}

#[derive(Clone, PartialEq, Eq)]
struct Owner {
    /// The session, by the address of its [`SessionLocks`]' counter.
    session: usize,
    client_id: Box<[u8]>,
    proc_id: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    kind: LockType,
    /// The fid that it was last locked by.
    fid: usize,
}

/// What a session has locked.
pub(super) struct SessionLocks {
    table: Arc<LockTable>,
    files: Mutex<HashSet<FileIdentity>>,
    /// How many ranges.
    ranges: Arc<AtomicUsize>,
    /// How many requests wait.
    waiting: Arc<AtomicUsize>,
    /// How many files are open for locks alone.
    reopened: Arc<AtomicUsize>,
}

/// What a lock is taken by: an open fid, the files that have others' locks, and the session's count of those opened for
/// locks alone.
struct By<'a> {
    opened: &'a Opened,
    others: &'a [&'a OpenRef],
    reopened: &'a Arc<AtomicUsize>,
}

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

impl Default for LockTable {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()) }
    }
}

impl LockTable {
    fn shard(&self, file: FileIdentity) -> &Shard {
        let mixed = (file.number ^ file.filesystem as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(mixed >> 32) as usize % SHARDS]
    }
}

impl Holder {
    /// Takes a lock; `false` where another's is in the way.
    fn take(&mut self, by: &By<'_>, held: Held, range: LockRange) -> Result<bool, Errno> {
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
    fn release(&self, range: LockRange) {
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
    fn file(&self, kind: LockType) -> Result<LockFile, Errno> {
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

impl SessionLocks {
    pub(super) fn new(table: &Arc<LockTable>) -> Self {
        let (ranges, waiting, reopened) = (Arc::default(), Arc::default(), Arc::default());
        Self { table: Arc::clone(table), files: Mutex::default(), ranges, waiting, reopened }
    }

    fn owner(&self, client_id: &[u8], proc_id: u32) -> Owner {
        Owner { session: self.session(), client_id: client_id.into(), proc_id }
    }

    fn session(&self) -> usize {
        Arc::as_ptr(&self.ranges).addr()
    }

    /// Has the session as many ranges as it may, in all or of the file of `holders`?
    fn has_enough(&self, holders: &[Holder]) -> bool {
        let own = holders.iter().filter(|holder| holder.owner.session == self.session());
        let of_the_file: usize = own.map(|holder| holder.ranges.len()).sum();
        of_the_file >= MOST_RANGES_OF_A_FILE || self.ranges.load(Ordering::Relaxed) >= MOST_RANGES
    }

    /// Notes that a holder has other ranges than before.
    fn count(&self, before: usize, after: usize) {
        self.ranges.fetch_add(after, Ordering::Relaxed);
        self.ranges.fetch_sub(before, Ordering::Relaxed);
    }

    /// Takes or gives back a lock; `false` where another's is in the way.
    fn set(&self, fid: &Fid, owner: Owner, kind: LockType, range: LockRange) -> Result<bool, Errno> {
        let opened = fid.opened()?;
        let file = opened.any().locks()?.identity();
        let shard = self.table.shard(file);
        let mut files = shard.files.lock();
        fid.locks.begin()?;
        let holders = files.entry(file).or_default();
        let at = holders.iter().position(|holder| holder.owner == owner);
        let outcome = if kind == LockType::Unlock {
            if let Some(at) = at {
                let before = holders[at].ranges.len();
                holders[at].release(range);
                holders[at].ranges.remove(range);
                self.count(before, holders[at].ranges.len());
            }
            Ok(true)
        } else if self.has_enough(holders) {
            Err(Errno::ENOLCK)
        } else {
            let held = Held { kind, fid: std::ptr::from_ref(fid).addr() };
            self.take(holders, at, opened, owner, held, range)
        };
        holders.retain(|holder| !holder.ranges.is_empty());
        if holders.is_empty() {
            files.remove(&file);
        } else if outcome == Ok(true) {
            self.files.lock().insert(file);
        }
        drop(files);
        // A shared lock may have replaced an exclusive one.
        if kind != LockType::Write && at.is_some() {
            shard.changed.notify_waiters();
        }
        outcome
    }

    /// Takes a lock for the holder at `at`, or a new one.
    fn take(
        &self,
        holders: &mut Vec<Holder>,
        at: Option<usize>,
        opened: &Opened,
        owner: Owner,
        held: Held,
        range: LockRange,
    ) -> Result<bool, Errno> {
        let Some(at) = at else {
            let others: Vec<_> = holders.iter().map(|holder| &holder.file).collect();
            let by = By { opened, others: &others, reopened: &self.reopened };
            let LockFile { file, access, reopened } = by.file(held.kind)?;
            let mut holder = Holder { owner, file, access, reopened, ranges: Ranges::default() };
            let granted = holder.take(&by, held, range)?;
            self.count(0, holder.ranges.len());
            holders.push(holder);
            return Ok(granted);
        };
        let mut holder = holders.swap_remove(at);
        let others: Vec<_> = holders.iter().map(|holder| &holder.file).collect();
        let before = holder.ranges.len();
        let by = By { opened, others: &others, reopened: &self.reopened };
        let granted = holder.take(&by, held, range);
        self.count(before, holder.ranges.len());
        holders.push(holder);
        granted
    }

    /// What is in the way of a lock: its kind, bytes, and whose it is.
    fn conflict(&self, fid: &Fid, owner: &Owner, kind: LockType, range: LockRange) -> Result<Option<Found>, Errno> {
        let opened = fid.opened()?;
        let locks = opened.any().locks()?;
        let file = locks.identity();
        let files = self.table.shard(file).files.lock();
        let holders = files.get(&file).map(Vec::as_slice).unwrap_or_default();
        for other in holders.iter().filter(|holder| holder.owner != *owner) {
            let mut overlapping = other.ranges.overlapping(range);
            if let Some((range, held)) = overlapping.find(|(_, held)| exclude_each_other(held.kind, kind)) {
                let Owner { client_id, proc_id, .. } = other.owner.clone();
                return Ok(Some(Found { kind: held.kind, range, proc_id, client_id }));
            }
        }
        let own = holders.iter().find(|holder| holder.owner == *owner);
        let found = own.map_or(Ok(locks), |own| own.file.locks())?.find_conflict(kind, range)?;
        Ok(found.map(|found| Found {
            kind: found.kind,
            range: found.range,
            proc_id: found.process.unwrap_or(0),
            client_id: Box::default(),
        }))
    }

    /// Gives back what was locked by a fid that is gone.
    pub(super) fn forget(&self, fid: &Fid) {
        if !fid.locks.end() {
            return;
        }
        if let Ok(opened) = fid.opened()
            && let Ok(locks) = opened.any().locks()
        {
            let gone = std::ptr::from_ref(fid).addr();
            self.release(locks.identity(), |held| held.fid == gone);
        }
    }

    /// Gives back all.
    pub(super) fn clear(&self) {
        let files = std::mem::take(&mut *self.files.lock());
        for file in files {
            self.release(file, |_| true);
        }
    }

    /// Gives back those of the session's locks on `file` that are `chosen`.
    fn release(&self, file: FileIdentity, chosen: impl Fn(Held) -> bool) {
        let shard = self.table.shard(file);
        let mut files = shard.files.lock();
        if let Some(holders) = files.get_mut(&file) {
            for holder in holders.iter_mut().filter(|holder| holder.owner.session == self.session()) {
                let before = holder.ranges.len();
                let ranges: Vec<_> = holder.ranges.iter().filter(|(_, held)| chosen(*held)).collect();
                for (range, _) in ranges {
                    holder.release(range);
                    holder.ranges.remove(range);
                }
                self.count(before, holder.ranges.len());
            }
            holders.retain(|holder| !holder.ranges.is_empty());
            if holders.is_empty() {
                files.remove(&file);
            }
        }
        drop(files);
        shard.changed.notify_waiters();
    }
}

impl Drop for SessionLocks {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A lock that is in the way.
struct Found {
    kind: LockType,
    range: LockRange,
    proc_id: u32,
    client_id: Box<[u8]>,
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
        let changed = Arc::clone(&self.locks.table.shard(file).changed);
        let more = |waiting: usize| (waiting < MOST_WAITING).then_some(waiting + 1);
        self.locks.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let count = Arc::clone(&self.locks.waiting);
        Some(WaitingLock { fid: Arc::downgrade(&fid), changed, count })
    }
}

/// A `Tlock` that waits until nobody else has the lock.
pub struct WaitingLock {
    fid: Weak<Fid>,
    changed: Arc<Notify>,
    count: Arc<AtomicUsize>,
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

impl Drop for WaitingLock {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

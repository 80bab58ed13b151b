//! Who has locked what, of all files.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ninering_wire::{Errno, LockType};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::holder::{By, Held, Holder, LockFile, Owner};
use crate::{
    backend::{
        FileIdentity, LockRange,
        lock::{Ranges, exclude_each_other},
    },
    server::fid::{Fid, Opened},
};

/// How many ranges a session may have locked, in all and of one file: `ENOLCK` for more. (The kernel has a list of those
/// of a file, which it goes through for each.)
const MOST_RANGES: usize = 16_384;
const MOST_RANGES_OF_A_FILE: usize = 1024;
/// How many requests of a session may wait for a lock at a time; one more is told that another has it.
const MOST_WAITING: usize = 256;
/// How many parts the table has, each with its own mutex.
const SHARDS: usize = 64;

/// The locks of all sessions of a server.
pub(in crate::server) struct LockTable {
    shards: [Shard; SHARDS],
}

#[derive(Default)]
struct Shard {
    files: Mutex<HashMap<FileIdentity, Vec<Holder>>>,
    /// A lock was given back.
    changed: Arc<Notify>,
}

/// What a session has locked.
pub(in crate::server) struct SessionLocks {
    table: Arc<LockTable>,
    files: Mutex<HashSet<FileIdentity>>,
    /// How many ranges.
    ranges: Arc<AtomicUsize>,
    /// How many requests wait.
    waiting: Arc<AtomicUsize>,
    /// How many files are open for locks alone.
    reopened: Arc<AtomicUsize>,
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

impl SessionLocks {
    pub(in crate::server) fn new(table: &Arc<LockTable>) -> Self {
        let (ranges, waiting, reopened) = (Arc::default(), Arc::default(), Arc::default());
        Self { table: Arc::clone(table), files: Mutex::default(), ranges, waiting, reopened }
    }

    pub(super) fn owner(&self, client_id: &[u8], proc_id: u32) -> Owner {
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
    pub(super) fn set(&self, fid: &Fid, owner: Owner, kind: LockType, range: LockRange) -> Result<bool, Errno> {
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
    pub(super) fn conflict(
        &self,
        fid: &Fid,
        owner: &Owner,
        kind: LockType,
        range: LockRange,
    ) -> Result<Option<Found>, Errno> {
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

    /// Counts one more request that waits for a lock on `file`, and tells what says that one was given back; `None` where
    /// too many wait.
    pub(super) fn wait(&self, file: FileIdentity) -> Option<(Arc<Notify>, Waits)> {
        let more = |waiting: usize| (waiting < MOST_WAITING).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some((Arc::clone(&self.table.shard(file).changed), Waits(Arc::clone(&self.waiting))))
    }

    /// Gives back what was locked by a fid that is gone.
    pub(in crate::server) fn forget(&self, fid: &Fid) {
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
    pub(in crate::server) fn clear(&self) {
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

/// Counts as a request that waits, until it is dropped.
pub(super) struct Waits(Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for SessionLocks {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A lock that is in the way.
pub(super) struct Found {
    pub(super) kind: LockType,
    pub(super) range: LockRange,
    pub(super) proc_id: u32,
    pub(super) client_id: Box<[u8]>,
}

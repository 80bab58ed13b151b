//! What a fid stands for, and a session's table of them.
//!
//! The table hands out shared [`Fid`]s: a request under way keeps its fid's file, whatever another request does to
//! the table meanwhile. A fid that comes to stand for something else is *replaced*, and only if it is still the one
//! that the request began with.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use ninering_wire::{Attributes, Errno, NOFID, SetAttributes, lopen, setattr};
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::{attach::Attach, lock::FidLocks, xattr::XattrFid};
use crate::backend::{NodeRef, OpenRef};

/// An open file, with what its `Tlopen` allows.
pub(super) struct Opened {
    file: OpenRef,
    access: u32,
    remove_on_clunk: bool,
}

impl Opened {
    pub(super) fn new(file: OpenRef, flags: u32) -> Self {
        Self { file, access: flags & lopen::ACCMODE, remove_on_clunk: false }
    }

    /// The same, to be removed when the fid is clunked.
    pub(super) fn removed_on_clunk(self, remove_on_clunk: bool) -> Self {
        Self { remove_on_clunk, ..self }
    }

    /// One of the access modes of [`lopen`].
    pub(super) fn access(&self) -> u32 {
        self.access
    }

    /// The file, if it was opened for reading.
    pub(super) fn readable(&self) -> Result<&OpenRef, Errno> {
        if self.access == lopen::WRONLY { Err(Errno::EBADF) } else { Ok(&self.file) }
    }

    /// The file, if it was opened for writing.
    pub(super) fn writable(&self) -> Result<&OpenRef, Errno> {
        if self.access == lopen::RDONLY { Err(Errno::EBADF) } else { Ok(&self.file) }
    }

    /// The file, however it was opened.
    pub(super) fn any(&self) -> &OpenRef {
        &self.file
    }
}

/// A directory and a name in it by which a file was found there: what `Trename` and `Tremove` act on.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) directory: NodeRef,
    pub(super) name: SmallVec<[u8; 32]>,
}

/// What a fid stands for.
pub(super) struct Fid {
    /// The file.
    pub(super) node: NodeRef,
    /// The attach that it was walked from.
    pub(super) attach: Arc<Attach>,
    /// Set once it is open, and for good.
    opened: OnceLock<Opened>,
    /// Held by the request that opens it, so that no two do.
    opening: Mutex<()>,
    /// Unknown for an export's root and for what was reached by `..`.
    pub(super) place: Mutex<Option<Place>>,
    /// Where it stands for an extended attribute of the file instead.
    xattr: Option<Box<XattrFid>>,
    /// Has it locks?
    pub(super) locks: FidLocks,
}

impl Fid {
    /// A fid for a file that is not open.
    pub(super) fn new(node: NodeRef, attach: Arc<Attach>, place: Option<Place>) -> Arc<Self> {
        Self::with(node, attach, place, OnceLock::new(), None)
    }

    /// A fid for an open file.
    pub(super) fn with_opened(node: NodeRef, attach: Arc<Attach>, place: Place, opened: Opened) -> Arc<Self> {
        Self::with(node, attach, Some(place), opened.into(), None)
    }

    /// A fid for an extended attribute of what this one stands for.
    pub(super) fn for_xattr(&self, xattr: XattrFid) -> Arc<Self> {
        let (node, attach) = (Arc::clone(&self.node), Arc::clone(&self.attach));
        Self::with(node, attach, None, OnceLock::new(), Some(Box::new(xattr)))
    }

    fn with(
        node: NodeRef,
        attach: Arc<Attach>,
        place: Option<Place>,
        opened: OnceLock<Opened>,
        xattr: Option<Box<XattrFid>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            attach,
            opened,
            opening: Mutex::default(),
            place: Mutex::new(place),
            xattr,
            locks: FidLocks::default(),
        })
    }

    /// The extended attribute that it stands for, where it stands for one.
    pub(super) fn xattr(&self) -> Option<&XattrFid> {
        self.xattr.as_deref()
    }

    /// The file's attributes, as its client is to see them.
    pub(super) fn attributes(&self, request_mask: u64) -> Result<Attributes, Errno> {
        self.attach.attributes(&*self.node, request_mask)
    }

    /// Changes the file's attributes as its client wants them.
    pub(super) fn set_attributes(&self, mut changes: SetAttributes) -> Result<(), Errno> {
        if let Some(maps) = &self.attach.maps {
            maps.take(&mut changes)?;
        }
        if changes.valid & setattr::SIZE != 0
            && let Ok(file) = self.opened().and_then(Opened::writable)
        {
            match file.set_size(changes.size) {
                Ok(()) => changes.valid &= !setattr::SIZE,
                Err(Errno::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
            // It sets these itself.
            if changes.valid & (setattr::SIZE | setattr::MTIME_SET) == 0 {
                changes.valid &= !(setattr::MTIME | setattr::CTIME);
            }
            if changes.valid == 0 {
                return Ok(());
            }
        }
        self.node.set_attributes(&changes)
    }

    pub(super) fn is_open(&self) -> bool {
        self.opened.get().is_some()
    }

    /// Is the file to be removed when the fid is clunked?
    pub(super) fn removes_on_clunk(&self) -> bool {
        self.opened.get().is_some_and(|opened| opened.remove_on_clunk)
    }

    /// The open file; `EBADF` where it is none.
    pub(super) fn opened(&self) -> Result<&Opened, Errno> {
        self.opened.get().ok_or(Errno::EBADF)
    }

    /// Runs `open`, alone and only if the fid is not open. `EINVAL` where it is, `EBUSY` where it is about to be.
    pub(super) fn while_unopened<T>(&self, open: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let _alone = self.opening.try_lock().ok_or(Errno::EBUSY)?;
        if self.is_open() { Err(Errno::EINVAL) } else { open() }
    }

    /// Opens it by `open`: [`Self::while_unopened`].
    pub(super) fn open(&self, open: impl FnOnce() -> Result<Opened, Errno>) -> Result<(), Errno> {
        self.while_unopened(|| self.opened.set(open()?).map_err(|_| Errno::EINVAL))
    }
}

/// Fids below this are kept in a vector: clients give out small numbers first.
const DENSE: u32 = 1 << 16;

/// A session's fids.
pub(super) struct FidTable {
    fids: RwLock<Fids>,
    limit: usize,
    shared: Arc<SharedFids>,
}

/// How many fids a session may have whatever others have.
const ALWAYS: usize = 16;

/// The fids of all sessions of a server together, but the first [`ALWAYS`] of each.
pub(super) struct SharedFids {
    used: AtomicUsize,
    limit: usize,
}

impl SharedFids {
    /// None yet, and at most `limit`.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// One more: `ENFILE` at the limit.
    fn take(&self) -> Result<(), Errno> {
        let more = |used: usize| (used < self.limit).then(|| used + 1);
        self.used.fetch_update(Relaxed, Relaxed, more).map(drop).map_err(|_| Errno::ENFILE)
    }

    fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Relaxed);
    }
}

#[derive(Default)]
struct Fids {
    dense: Vec<Option<Arc<Fid>>>,
    /// The standard hasher is seeded: a client cannot choose numbers that collide.
    sparse: HashMap<u32, Arc<Fid>>,
    count: usize,
}

impl FidTable {
    /// An empty table for at most `limit` fids, which count as `shared` ones.
    pub(super) fn new(limit: usize, shared: Arc<SharedFids>) -> Self {
        Self { fids: RwLock::default(), limit, shared }
    }

    /// What `number` stands for, if that is a file; `EBADF` where it is an extended attribute, or unknown. For requests,
    /// [`Session::fid`](super::Session::fid) is the way to it.
    pub(super) fn get(&self, number: u32) -> Result<Arc<Fid>, Errno> {
        self.fids.read().file(number).cloned()
    }

    /// What `number` stands for, whatever it is; `EBADF` where it is unknown.
    pub(super) fn get_any(&self, number: u32) -> Result<Arc<Fid>, Errno> {
        self.fids.read().get(number).cloned().ok_or(Errno::EBADF)
    }

    /// [`Self::get`] and [`Self::check_free`] of another number in one.
    pub(super) fn get_and_check_free(&self, number: u32, free: u32) -> Result<Arc<Fid>, Errno> {
        let fids = self.fids.read();
        let fid = fids.file(number)?;
        fids.check_free(free)?;
        Ok(Arc::clone(fid))
    }

    /// Makes `number` stand for `fid`: `EINVAL` where it is in use, `EBADF` for `NOFID`, `EMFILE` at the
    /// session's limit, `ENFILE` at that of all.
    pub(super) fn insert(&self, number: u32, fid: Arc<Fid>) -> Result<(), Errno> {
        if number == NOFID {
            return Err(Errno::EBADF);
        }
        let mut fids = self.fids.write();
        if fids.slot(number).is_some() {
            return Err(Errno::EINVAL);
        }
        if fids.count >= self.limit {
            return Err(Errno::EMFILE);
        }
        if fids.count >= ALWAYS {
            self.shared.take()?;
        }
        fids.put(number, fid);
        Ok(())
    }

    /// Is `number` free to be inserted? It may no more be when one does.
    pub(super) fn check_free(&self, number: u32) -> Result<(), Errno> {
        self.fids.read().check_free(number)
    }

    /// Makes `number` stand for `fid` instead of `old`: `EBADF` where it stands for that no more.
    pub(super) fn replace(&self, number: u32, old: &Arc<Fid>, fid: Arc<Fid>) -> Result<(), Errno> {
        let mut fids = self.fids.write();
        let slot = fids.slot(number).filter(|current| Arc::ptr_eq(current, old));
        let replaced = std::mem::replace(slot.ok_or(Errno::EBADF)?, fid);
        drop(fids);
        drop(replaced);
        Ok(())
    }

    /// Forgets `number` and returns what it stood for.
    pub(super) fn remove(&self, number: u32) -> Result<Arc<Fid>, Errno> {
        self.forget(&mut self.fids.write(), number).ok_or(Errno::EBADF)
    }

    /// Forgets `number` if it stands for `fid`, and not for something else by now.
    pub(super) fn take_back(&self, number: u32, fid: &Arc<Fid>) {
        let mut fids = self.fids.write();
        let taken = match fids.get(number) {
            Some(current) if Arc::ptr_eq(current, fid) => self.forget(&mut fids, number),
            _ => None,
        };
        drop(fids);
        drop(taken);
    }

    fn forget(&self, fids: &mut Fids, number: u32) -> Option<Arc<Fid>> {
        let forgotten = fids.remove(number)?;
        if fids.count >= ALWAYS {
            self.shared.give_back(1);
        }
        Some(forgotten)
    }

    /// Forgets them all, and returns what they stood for.
    pub(super) fn take(&self) -> impl Iterator<Item = Arc<Fid>> + use<> {
        let Fids { dense, sparse, count } = std::mem::take(&mut *self.fids.write());
        self.shared.give_back(count.saturating_sub(ALWAYS));
        dense.into_iter().flatten().chain(sparse.into_values())
    }

    /// Can no more be inserted, for there are as many as may be?
    pub(super) fn is_full(&self) -> bool {
        let count = self.count();
        count >= self.limit || count >= ALWAYS && self.shared.used.load(Relaxed) >= self.shared.limit
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.fids.read().count
    }
}

impl Drop for FidTable {
    fn drop(&mut self) {
        self.shared.give_back(self.fids.get_mut().count.saturating_sub(ALWAYS));
    }
}

impl Fids {
    fn get(&self, number: u32) -> Option<&Arc<Fid>> {
        if number < DENSE { self.dense.get(number as usize).and_then(Option::as_ref) } else { self.sparse.get(&number) }
    }

    fn file(&self, number: u32) -> Result<&Arc<Fid>, Errno> {
        self.get(number).filter(|fid| fid.xattr.is_none()).ok_or(Errno::EBADF)
    }

    fn check_free(&self, number: u32) -> Result<(), Errno> {
        if number == NOFID || self.get(number).is_some() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn slot(&mut self, number: u32) -> Option<&mut Arc<Fid>> {
        if number < DENSE {
            self.dense.get_mut(number as usize).and_then(Option::as_mut)
        } else {
            self.sparse.get_mut(&number)
        }
    }

    fn remove(&mut self, number: u32) -> Option<Arc<Fid>> {
        let removed = if number < DENSE {
            self.dense.get_mut(number as usize).and_then(Option::take)
        } else {
            self.sparse.remove(&number)
        };
        self.count -= usize::from(removed.is_some());
        removed
    }

    /// Fills a free slot.
    fn put(&mut self, number: u32, fid: Arc<Fid>) {
        self.count += 1;
        if number < DENSE {
            let index = number as usize;
            if index >= self.dense.len() {
                self.dense.resize_with(index + 1, || None);
            }
            self.dense[index] = Some(fid);
        } else {
            self.sparse.insert(number, fid);
        }
    }
}

//! Makes all fids again at a server that knows none of them, each where the [ledger](super::ledger) says that its file is.
//!
//! Fids of one file are cloned from each other, and directories are there before what is in them is walked to from them: so
//! what was one file or directory to the old server is one to the new one, which holds no more of them open than that did.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use ninering_wire::{Errno, LockStatus, MAXWELEM, NOFID, Names, Qid, Rmessage, Str, Tmessage, lopen};

use super::{
    Session,
    ledger::{Group, Ledger, Place, Root},
    recover::is_same,
    requests::walked,
    send::{Held, no_payload},
    slot::Cleanup,
};
use crate::{error::Error, ring::Ring};

/// So many files have their fids made again at a time.
const MOST_AT_ONCE: usize = 32;
/// How often it is begun anew at another connection where the server lacks something. Fids that it cannot make
/// even then are stale.
const MOST_SHORTAGES: u32 = 6;

/// The fids that paths can be walked from, with their files, by the names that lead there.
type Bases = RefCell<HashMap<Vec<Rc<[u8]>>, (u32, Qid)>>;

impl<R: Ring> Session<R> {
    /// Attaches to all roots again, by `afid` where somebody had authenticated, and makes the fids below them.
    pub(super) async fn make_all_again(&self, afid: u32) -> Result<(), Error> {
        let roots = self.with_ledger(Ledger::roots).unwrap_or_default();
        let mut attached = Vec::with_capacity(roots.len());
        for root in roots {
            let fid = self.allocate_fid()?;
            attached.push(Held { session: self, cleanup: Cleanup::Free(fid) });
            let qid = self.attach_again(&root, fid, afid).await?;
            if !is_same(qid, root.qid) {
                return Err(self.break_off("the root that the server has now is another one than before"));
            }
            self.make_again(&root, fid).await?;
            // The fid's number is free when all this is over, whatever the server says.
            self.clunk_temporary(fid).await?;
        }
        self.shortages.set(0);
        Ok(())
    }

    async fn attach_again(&self, root: &Root, fid: u32, afid: u32) -> Result<Qid, Error> {
        let (uname, aname) = (Str(&root.uname), Str(&root.aname));
        let afid = if root.authenticated { afid } else { NOFID };
        let message = Tmessage::Tattach { fid, afid, uname, aname, n_uname: root.n_uname };
        self.request(message, Cleanup::Nothing, no_payload, |reply| match reply {
            Rmessage::Rattach { qid } => Some(qid),
            _ => None,
        })
        .await
    }

    /// Makes all fids of files below a root again.
    async fn make_again(&self, root: &Rc<Root>, root_fid: u32) -> Result<(), Error> {
        let groups = self.with_ledger(|ledger| ledger.groups(root)).unwrap_or_default();
        let bases = RefCell::new(HashMap::from([(Vec::new(), (root_fid, root.qid))]));
        for equally_deep in groups.chunk_by(|one, other| one.place.names.len() == other.place.names.len()) {
            several(equally_deep.iter().map(|group| self.make_group_again(&bases, group))).await?;
        }
        Ok(())
    }

    async fn make_group_again(&self, bases: &Bases, group: &Group) -> Result<(), Error> {
        let Some((&first, others)) = group.fids.split_first() else { return Ok(()) };
        let place = if group.is_lost { None } else { self.find_again(bases, first, group).await? };
        let Some(place) = place else {
            group.fids.iter().for_each(|&fid| self.make_stale(fid));
            return Ok(());
        };
        let mut there = vec![first];
        for &fid in others {
            let clone = Tmessage::Twalk { fid: first, newfid: fid, names: Names::default() };
            match self.request(clone, Cleanup::Nothing, no_payload, walked).await {
                Ok(_) => there.push(fid),
                Err(error) => {
                    self.unless_lacking(error)?;
                    self.make_stale(fid);
                }
            }
        }
        // From what is open no path can be walked; so that comes last.
        for fid in there {
            let flags = self.with_ledger(|ledger| ledger.found_at(fid, place.clone())).flatten();
            match flags {
                Some(flags) if !self.open_again(fid, flags, group.qid).await? => self.make_stale(fid),
                Some(_) => self.lock_again(fid).await?,
                None => drop(bases.borrow_mut().entry(place.names.clone()).or_insert((fid, group.qid))),
            }
        }
        Ok(())
    }

    /// Walks to where a group's file is, by its first fid; `None` where it is not to be had, and then the server does not know
    /// that fid.
    async fn find_again(&self, bases: &Bases, fid: u32, group: &Group) -> Result<Option<Place>, Error> {
        for place in self.with_ledger(|ledger| ledger.candidates(&group.place)).unwrap_or_default() {
            let Some(qid) = self.walk_again(bases, fid, &place).await? else { continue };
            if is_same(qid, group.qid) {
                return Ok(Some(place));
            }
            self.clunk_temporary(fid).await?;
        }
        Ok(None)
    }

    /// Walks to a place, and tells the qid there; `None` if there is nothing, or not to be had, and then the server does not
    /// know the fid.
    async fn walk_again(&self, bases: &Bases, fid: u32, place: &Place) -> Result<Option<Qid>, Error> {
        let (base, mut qid, mut rest) = nearest(&bases.borrow(), &place.names);
        let mut from = base;
        let mut most = MAXWELEM;
        loop {
            let room = self.msize().min(self.ring.max_header()) as usize - 32; // both are at least 4,096
            let mut length = 0;
            let fits = |name: &&Rc<[u8]>| {
                length += name.len() + 2;
                length <= room
            };
            let count = rest.iter().take(most).take_while(fits).count();
            let (now, later) = rest.split_at(count);
            let names: Vec<_> = now.iter().map(|name| Str(name)).collect();
            let names = Names::new(&names).map_err(|_| Errno::EIO)?;
            let walk = Tmessage::Twalk { fid: from, newfid: fid, names };
            match self.request(walk, Cleanup::Nothing, no_payload, walked).await {
                Ok(qids) if qids.len() == count => {
                    qid = qids.last().copied().unwrap_or(qid);
                    if later.is_empty() {
                        return Ok(Some(qid));
                    }
                    (from, rest) = (fid, later);
                }
                // Why the next name cannot be walked is told only to who begins with it.
                Ok(qids) if from == base && !qids.is_empty() && qids.len() < most => {
                    // Some servers have made the fid after all, and others say that they have not.
                    self.clunk_temporary(fid).await?;
                    most = qids.len();
                }
                refused => {
                    if from != base || refused.is_ok() {
                        self.clunk_temporary(fid).await?;
                    }
                    return refused.err().map_or(Ok(None), |error| self.unless_lacking(error).map(|()| None));
                }
            }
        }
    }

    /// Opens a fid by the flags that it was opened with. `false` where that cannot be; then the server does not know it.
    async fn open_again(&self, fid: u32, flags: u32, qid: Qid) -> Result<bool, Error> {
        let flags = flags & !(lopen::CREATE | lopen::EXCL | lopen::TRUNC);
        match self.open(Tmessage::Tlopen { fid, flags }).await {
            Ok((opened, _)) if is_same(opened, qid) => return Ok(true),
            Ok(_) => {}
            Err(error) => self.unless_lacking(error)?,
        }
        self.clunk_temporary(fid).await?;
        Ok(false)
    }

    async fn lock_again(&self, fid: u32) -> Result<(), Error> {
        let Some(all) = self.with_ledger(|ledger| ledger.held_by(fid)).unwrap_or_default() else {
            self.lose_locks(fid);
            return Ok(());
        };
        for held in all {
            let (start, length) = (held.start, held.length());
            let (client_id, proc_id) = (Str(&held.owner.client_id), held.owner.proc_id);
            let message = Tmessage::Tlock { fid, kind: held.kind, flags: 0, start, length, proc_id, client_id };
            let status = self.request(message, Cleanup::Nothing, no_payload, |reply| match reply {
                Rmessage::Rlock { status } => Some(status),
                _ => None,
            });
            match status.await {
                Ok(LockStatus::Success) => {}
                Ok(_) | Err(Error::Errno(_)) => {
                    self.lose_locks(fid);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make_stale(&self, fid: u32) {
        self.with_ledger(|ledger| ledger.make_stale(fid));
        self.count(|recovered| recovered.stale_fids += 1);
    }

    fn lose_locks(&self, fid: u32) {
        self.with_ledger(|ledger| ledger.lose_locks(fid));
        self.count(|recovered| recovered.lost_locks += 1);
    }

    /// The error, unless it says that the server has no such file, or will not have it opened, for good. What a server lacks
    /// just now, such as descriptors, it may have in a moment: all of it is tried again then.
    fn unless_lacking(&self, error: Error) -> Result<(), Error> {
        match error {
            Error::Errno(errno) if !is_shortage(errno) || self.shortages.get() >= MOST_SHORTAGES => Ok(()),
            error => {
                if let Error::Errno(_) = error {
                    self.shortages.set(self.shortages.get() + 1);
                }
                Err(error)
            }
        }
    }
}

/// The fid that is nearest to the place to which `names` lead, its file, and the names that lead on from there.
fn nearest<'n>(bases: &HashMap<Vec<Rc<[u8]>>, (u32, Qid)>, names: &'n [Rc<[u8]>]) -> (u32, Qid, &'n [Rc<[u8]>]) {
    let near = (0..=names.len()).rev().find_map(|length| {
        let (way, rest) = names.split_at(length);
        bases.get(way).map(|&(fid, qid)| (fid, qid, rest))
    });
    near.unwrap_or((NOFID, Qid::default(), names)) // never: the root is among them
}

/// Does a server say by this that it lacks something for now?
fn is_shortage(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EAGAIN | Errno::EINTR | Errno::ENOMEM | Errno::ENFILE | Errno::EMFILE | Errno::ENOBUFS | Errno::EBUSY
    )
}

/// Does all of the jobs, several at a time; ends with the first error.
async fn several<'j>(jobs: impl Iterator<Item: Future<Output = Result<(), Error>> + 'j>) -> Result<(), Error> {
    type Job<'j> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'j>>;
    let mut waiting = jobs;
    let mut begun: Vec<Job<'j>> = Vec::new();
    poll_fn(|_| {
        loop {
            while begun.len() < MOST_AT_ONCE
                && let Some(job) = waiting.next()
            {
                begun.push(Box::pin(job));
            }
            if begun.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let before = begun.len();
            let mut failed = None;
            begun.retain_mut(|job| match job.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => {
                    failed.get_or_insert(error);
                    false
                }
            });
            if let Some(error) = failed {
                return Poll::Ready(Err(error));
            }
            if begun.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await
}

//! What becomes of a session when the connection is lost: it waits, and goes on at another one.
//!
//! The host tells by returning what was in flight with nothing written. From then on nothing is sent, operations wait
//! as they do for room in the queue, until the host has put another device in the place of the old one and
//! [`Session::reconnect`] has made all fids [again](super::restore). Then each operation sends again what was not answered, or
//! [settles](super::settle) what came of it.

use std::{cell::Cell, future::Future, mem, rc::Rc};

use ninering_wire::{Errno, NOFID, Qid, Str};

use super::{Fid, NOBODY, Session, ledger::Ledger};
use crate::{error::Error, executor::Task, ring::Ring};

/// Is there a connection?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    /// There is.
    #[default]
    Up,
    /// There is none.
    Down,
    /// There is, but only this operation may send, which makes the fids again.
    Restoring(Task),
    /// There is, but first the user authenticates, by operations that [do so](Session::while_restoring).
    Authenticating,
}

/// What recovery has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Connections that took the place of lost ones.
    pub reconnects: u64,
    /// Requests that were sent again.
    pub resent: u64,
    /// Requests of unknown fate of which it was found out that they had been done.
    pub settled: u64,
    /// Operations that were given up with an error, for nobody knows what came of them.
    pub doubtful: u64,
    /// Fids that could not be made again.
    pub stale_fids: u64,
    /// Fids whose locks could not be taken again.
    pub lost_locks: u64,
}

impl<R: Ring> Session<R> {
    /// From now on the loss of the connection does not end the session: it is to be followed by
    /// `Session::reconnect`. To be called before anything is sent.
    pub fn set_recovers(&self) {
        self.recovers.set(true);
        self.state.borrow_mut().ledger = Some(Box::default());
    }

    pub(crate) fn recovers(&self) -> bool {
        self.recovers.get()
    }

    /// What recovery has done so far.
    pub fn recovered(&self) -> Recovered {
        self.recovered.get()
    }

    /// An operation has come to its end. If what came of it is in doubt, it was given up.
    pub(crate) fn count_doubtful<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::InDoubt) = result {
            self.count(|recovered| recovered.doubtful += 1);
        }
        result
    }

    pub(crate) fn count_resent(&self) {
        self.count(|recovered| recovered.resent += 1);
    }

    /// Does the fid append whatever is written by it?
    pub(crate) fn appends(&self, fid: u32) -> bool {
        self.with_ledger(|ledger| ledger.appends(fid)) == Some(true)
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Recovered)) {
        let mut recovered = self.recovered.get();
        count(&mut recovered);
        self.recovered.set(recovered);
    }

    /// Does the operation being polled make the fids again? Then it does not wait until that is done.
    pub(crate) fn is_restoring(&self) -> bool {
        self.restorer.get() != NOBODY && self.restorer.get() == self.current.get()
    }

    pub(super) fn with_ledger<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
        self.state.borrow_mut().ledger.as_deref_mut().map(act)
    }

    /// Goes on at another connection: begins a session there, and makes all fids again; but where the user has
    /// authenticated before, yields the fid and qid to do so again, and [`Session::reconnect_as`] is to follow.
    ///
    /// # Errors
    /// The server's, or [`Error::InDoubt`] where this connection is lost too: it can be tried again. The session is
    /// broken where the server is another than before.
    pub(crate) async fn reconnect(self: &Rc<Self>) -> Result<Option<(Fid<R>, Qid)>, Error> {
        {
            let state = &mut *self.state.borrow_mut();
            if state.ledger.is_none() || matches!(state.link, Link::Restoring(_)) {
                return Err(Errno::EINVAL.into());
            }
            if state.in_flight > 0 {
                let reason = "the device has kept requests of a lost connection";
                return Err(Error::Broken(state.broken.get_or_insert_with(|| reason.into()).clone()));
            }
        }
        // The server that knew these is gone.
        let waiting = mem::take(&mut self.state.borrow_mut().to_clunk);
        waiting.into_iter().rev().for_each(|fid| self.free_fid(fid));
        self.while_restoring(async {
            self.version(self.msize()).await?;
            let roots = self.with_ledger(Ledger::roots).unwrap_or_default();
            if let Some(root) = roots.iter().find(|root| root.authenticated) {
                match self.auth(Str(&root.uname), Str(&root.aname), root.n_uname).await {
                    Ok(authentication) => return Ok(Some(authentication)),
                    // This one wants no authentication. If it does, it refuses the attach.
                    Err(Error::Errno(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            self.restore(NOFID).await?;
            Ok(None)
        })
        .await
    }

    /// Goes on, as who has authenticated by `afid`.
    ///
    /// # Errors
    /// As [`Session::reconnect`]'s.
    pub(crate) async fn reconnect_as(&self, afid: u32) -> Result<(), Error> {
        self.restore(afid).await
    }

    /// Does something at a new connection, before all others go on there.
    pub(crate) async fn while_restoring<T>(
        &self,
        operation: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let restoring = Link::Restoring(self.current.get());
        self.restorer.set(self.current.get());
        self.state.borrow_mut().link = restoring;
        let result = operation.await;
        let link = &mut self.state.borrow_mut().link;
        // If it isn't over, the connection is lost, or others are to go on with this.
        if *link == restoring {
            *link = if result.is_ok() { Link::Authenticating } else { Link::Down };
        }
        self.restorer.set(NOBODY);
        result
    }

    /// Is the operation being polled one by which the user authenticates again?
    pub(crate) fn is_authenticating_again(&self) -> bool {
        self.state.borrow().link == Link::Authenticating
    }

    async fn restore(&self, afid: u32) -> Result<(), Error> {
        self.make_all_again(afid).await?;
        self.state.borrow_mut().link = Link::Up;
        self.count(|recovered| recovered.reconnects += 1);
        self.with_ledger(Ledger::end_doubts);
        self.clunk_waiting();
        self.state.borrow_mut().wake_first_blocked();
        Ok(())
    }
}

/// Do these stand for one file?
pub(super) fn is_same(a: Qid, b: Qid) -> bool {
    (a.kind, a.path) == (b.kind, b.path)
}

/// Says, for as long as it lives, that a file is written to.
pub(crate) struct Writing<'s, R: Ring> {
    session: &'s Session<R>,
    file: u64,
    /// How many had begun to write when this was [looked at](Self::begin_alone).
    begun: Cell<u64>,
}

impl<R: Ring> Session<R> {
    /// Says that the fid's file is about to be written to; `None` where nobody needs to know.
    pub(crate) fn begin_writing(&self, fid: u32) -> Option<Writing<'_, R>> {
        if !self.recovers() {
            return None;
        }
        let file = self.with_ledger(|ledger| ledger.begin_writing(fid)).flatten()?;
        Some(Writing { session: self, file, begun: Cell::new(0) })
    }
}

impl<R: Ring> Writing<'_, R> {
    /// From now on it counts whether another operation of this session writes to the file.
    pub(crate) fn begin_alone(&self) {
        let (active, begun) = self.writers();
        self.begun.set(if active == 1 { begun } else { 0 });
    }

    /// Has none?
    pub(crate) fn was_alone(&self) -> bool {
        self.writers() == (1, self.begun.get())
    }

    fn writers(&self) -> (u32, u64) {
        self.session.with_ledger(|ledger| ledger.writers(self.file)).unwrap_or_default()
    }
}

impl<R: Ring> Drop for Writing<'_, R> {
    fn drop(&mut self) {
        self.session.with_ledger(|ledger| ledger.end_writing(self.file));
    }
}

//! Fids: which are in use, and how they are given back.

use std::{cell::Cell, mem, rc::Rc};

use ninering_wire::{Errno, NOFID, Tmessage};

use super::{FIRST_FOREIGN_FID, NOBODY, Session, SlotState, send::Refusal, slot::Cleanup};
use crate::{error::Error, ring::Ring};

/// Clunks of fids that were never opened may wait for other requests to be sent along with, but not more than these.
const MOST_UNHURRIED: u32 = 8;

impl<R: Ring> Session<R> {
    /// A fid that is not in use.
    ///
    /// # Errors
    /// `ENFILE` where there are none left.
    pub(crate) fn allocate_fid(&self) -> Result<u32, Error> {
        Ok(self.state.borrow_mut().fids.allocate().ok_or(Errno::ENFILE)?)
    }

    /// The server does not know the fid, and need not know it again.
    pub(crate) fn free_fid(&self, fid: u32) {
        self.with_ledger(|ledger| ledger.forget(fid));
        self.state.borrow_mut().fids.free(fid);
    }

    /// Gives a fid back without waiting. What was opened by it should be closed soon; others can wait a little, to
    /// be sent along with something else.
    fn clunk(&self, fid: u32, soon: bool) {
        if self.with_ledger(|ledger| ledger.is_stale(fid)) == Some(true) {
            return self.free_fid(fid);
        }
        match self.add(&Tmessage::Tclunk { fid }, Cleanup::Free(fid), None, NOBODY) {
            Ok(index) => {
                self.with_ledger(|ledger| ledger.forget(fid));
                let mut state = self.state.borrow_mut();
                if let Some(slot) = state.slots.get_mut(usize::from(index)) {
                    slot.state = SlotState::Abandoned;
                }
                self.unhurried.set(self.unhurried.get() + 1);
                if soon || self.unhurried.get() > MOST_UNHURRIED {
                    self.to_kick.set(true);
                }
            }
            // Until it is sent the fid is remembered: at another connection it may be made again, or not.
            Err(Refusal::Full) => self.state.borrow_mut().to_clunk.push(fid),
            // The session is broken: nothing needs clunking.
            Err(_) => self.free_fid(fid),
        }
    }

    /// Sends the clunks that had found no room.
    pub(super) fn clunk_waiting(&self) {
        let waiting = mem::take(&mut self.state.borrow_mut().to_clunk);
        for fid in waiting {
            self.clunk(fid, true);
        }
    }
}

/// The fids below [`FIRST_FOREIGN_FID`], from 1 up.
#[derive(Default)]
pub(super) struct Fids {
    /// So many have ever been in use at a time.
    pub(super) made: u32,
    pub(super) free: Vec<u32>,
}

impl Fids {
    pub(super) fn allocate(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            self.made = Some(self.made + 1).filter(|&fid| fid < FIRST_FOREIGN_FID)?;
            Some(self.made)
        })
    }

    pub(super) fn free(&mut self, fid: u32) {
        self.free.push(fid);
    }
}

/// A fid of a file that the server knows; clunked when this is dropped.
pub struct Fid<R: Ring> {
    session: Rc<Session<R>>,
    number: u32,
    pub(super) is_open: Cell<bool>,
}

impl<R: Ring> Fid<R> {
    pub(crate) fn new(session: &Rc<Session<R>>, number: u32) -> Self {
        Self { session: session.clone(), number, is_open: Cell::new(false) }
    }

    pub(super) fn opened(session: &Rc<Session<R>>, number: u32) -> Self {
        Self { session: session.clone(), number, is_open: Cell::new(true) }
    }

    /// The number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// It was opened, so that its clunk, which closes the file, should not be put off.
    pub fn set_open(&self) {
        self.is_open.set(true);
    }

    /// The number; it will not be clunked by this any more.
    pub(super) fn leave(mut self) -> u32 {
        mem::replace(&mut self.number, NOFID)
    }
}

impl<R: Ring> Drop for Fid<R> {
    fn drop(&mut self) {
        if self.number != NOFID {
            self.session.clunk(self.number, self.is_open.get());
        }
    }
}

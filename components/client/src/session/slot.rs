//! What is known of a request in flight, and how its reply comes in.

use std::{mem, task::Poll};

use ninering_wire::{Errno, Header, Rmessage};

use super::{
    Session, State,
    answer::{Answer, RERROR, RLERROR, Violation},
    cancel::Flush,
    recover::Link,
    visit::is_done,
};
use crate::{
    error::Error,
    executor::Task,
    ring::{Extent, ReplyHeader, Ring, Used},
};

/// What is known of a request.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) state: SlotState,
    /// As sent; the slot's index but for `Tversion`.
    pub(super) tag: u16,
    /// The request's type number.
    pub(super) kind: u8,
    /// That of the request within a `Tvisit`; 0 in any other.
    pub(super) within: u8,
    /// The most names or bytes that the reply may count.
    pub(super) limit: u32,
    pub(super) waiter: Task,
    pub(super) cleanup: Cleanup,
    pub(super) flush: Flush,
}

#[derive(Default)]
pub(super) enum SlotState {
    #[default]
    Free,
    InFlight,
    /// As before, but whoever asked is gone.
    Abandoned,
    Answered {
        header: ReplyHeader,
        written: u32,
    },
    /// It was flushed: there will be no answer.
    Flushed,
    /// It is dealt with, but its flush is in flight, and so its tag is not free.
    Drained,
    /// It came back without an answer: the connection was lost.
    Lost,
}

/// What is to be done with a request's reply if whoever asked is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cleanup {
    #[default]
    Nothing,
    /// The fid is free, whatever the reply.
    Free(u32),
    /// The fid is to be clunked if the walk to it came to its end, else it is free.
    Walked(u32),
    /// The buffer is not in use any more.
    Buffer(Extent),
    /// The request with this tag was flushed by this one.
    Flush(u16),
}

impl State {
    pub(super) fn complete(&mut self, used: Used) -> Result<(), Violation> {
        let index = used.id as usize;
        let slot = self.slots.get_mut(index).ok_or(Violation::UnknownChain)?;
        if !matches!(slot.state, SlotState::InFlight | SlotState::Abandoned) {
            return Err(Violation::UnknownChain);
        }
        if used.written == 0 && matches!(slot.flush, Flush::Sent | Flush::Done) {
            self.in_flight -= 1;
            return self.flushed(index as u16); // there are fewer slots than tags
        }
        if used.written == 0 && self.ledger.is_some() {
            self.in_flight -= 1;
            self.link = Link::Down;
            let is_waited_for = matches!(slot.state, SlotState::InFlight);
            slot.state = SlotState::Lost;
            if is_waited_for {
                self.ready.push_back(slot.waiter);
            } else {
                self.clean_up_flushed(index as u16); // as above
            }
            return Ok(());
        }
        slot.check_frame(&used)?;
        self.in_flight -= 1;
        let Used { header, written, .. } = used;
        if let SlotState::InFlight = slot.state {
            slot.state = SlotState::Answered { header, written };
            self.ready.push_back(slot.waiter);
            return Ok(());
        }
        slot.state = SlotState::Answered { header, written };
        self.clean_up(index as u16) // there are fewer slots than tags
    }

    /// A request's chain has come back without an answer, for it was flushed.
    fn flushed(&mut self, index: u16) -> Result<(), Violation> {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return Ok(()) };
        if let SlotState::InFlight = slot.state {
            slot.state = SlotState::Flushed;
            self.ready.push_back(slot.waiter);
        } else {
            self.clean_up_flushed(index);
        }
        Ok(())
    }

    /// The server has not done what was asked, and will not.
    fn clean_up_flushed(&mut self, index: u16) {
        let Some(slot) = self.release(index) else { return };
        match slot.cleanup {
            Cleanup::Nothing => {}
            Cleanup::Flush(victim) => self.flush_lost(victim),
            Cleanup::Free(fid) | Cleanup::Walked(fid) => self.fids.free(fid),
            Cleanup::Buffer(buffer) => self.buffers.push(buffer),
        }
    }

    /// A request is dealt with: what was known of it. Its tag is free, unless its flush is still in flight.
    fn release(&mut self, index: u16) -> Option<Slot> {
        let slot = self.slots.get_mut(usize::from(index))?;
        let released = mem::take(slot);
        if released.flush == Flush::Sent {
            *slot = Slot { state: SlotState::Drained, flush: Flush::Sent, ..Slot::default() };
        } else {
            self.free_tag(index);
        }
        Some(released)
    }

    /// Deals with an answer that nobody is going to look at.
    pub(super) fn clean_up(&mut self, index: u16) -> Result<(), Violation> {
        let Some(Slot { state, kind: asked, within, limit, cleanup, .. }) = self.release(index) else { return Ok(()) };
        let SlotState::Answered { header, written } = state else { return Ok(()) };
        let answer = Answer { asked, within, header, written, limit };
        match (cleanup, answer.message()?) {
            (Cleanup::Nothing, _) => {}
            (Cleanup::Free(fid), _) => self.fids.free(fid),
            (Cleanup::Buffer(buffer), _) => self.buffers.push(buffer),
            (Cleanup::Flush(victim), _) => self.flush_answered(victim, &answer),
            (
                Cleanup::Walked(fid),
                Ok(Rmessage::Rattach { .. } | Rmessage::Rauth { .. } | Rmessage::Rxattrwalk { .. }),
            ) => self.to_clunk.push(fid),
            (Cleanup::Walked(fid), Ok(Rmessage::Rwalk { qids })) if qids.len() == limit as usize => {
                self.to_clunk.push(fid);
            }
            (Cleanup::Walked(fid), Ok(Rmessage::Rvisit { message, .. })) if is_done(message) => self.to_clunk.push(fid),
            (Cleanup::Walked(fid), _) => self.fids.free(fid),
        }
        Ok(())
    }
}

impl Slot {
    /// Is this a reply to this request, of the length that it says?
    fn check_frame(&self, used: &Used) -> Result<(), Violation> {
        let asked = self.kind;
        let header = Header::decode(&used.header).map_err(|error| Violation::Malformed { asked, error })?;
        if header.kind != asked + 1 && header.kind != RLERROR && header.kind != RERROR {
            return Err(Violation::Type { asked, answered: header.kind });
        }
        if header.tag != self.tag {
            return Err(Violation::Tag { asked, sent: self.tag, received: header.tag });
        }
        if header.size != used.written {
            return Err(Violation::Size { asked, claimed: header.size, written: used.written });
        }
        Ok(())
    }
}

/// A request in flight. If it is dropped before its answer is there, the answer is still checked and cleaned up after.
pub(crate) struct Exchange<'s, R: Ring> {
    pub(super) session: &'s Session<R>,
    /// `None` when the answer was taken.
    pub(super) tag: Option<u16>,
}

impl<R: Ring> Exchange<'_, R> {
    /// The answer, once it is there; [`Error::InDoubt`] where there will be none, for the connection was lost.
    pub(crate) fn poll(&mut self) -> Poll<Result<Answer, Error>> {
        let state = &mut *self.session.state.borrow_mut();
        if let Some(reason) = &state.broken {
            return Poll::Ready(Err(Error::Broken(reason.clone())));
        }
        let Some(index) = self.tag else { return Poll::Pending };
        let Some(slot) = state.slots.get_mut(usize::from(index)) else { return Poll::Pending };
        match slot.state {
            SlotState::Answered { .. } => {}
            SlotState::Flushed => {
                self.tag = None;
                state.clean_up_flushed(index);
                return Poll::Ready(Err(Errno::EINTR.into()));
            }
            SlotState::Lost => {
                self.tag = None;
                if slot.flush == Flush::None {
                    state.release(index);
                    return Poll::Ready(Err(Error::InDoubt));
                }
                state.clean_up_flushed(index);
                return Poll::Ready(Err(Errno::EINTR.into()));
            }
            _ => return Poll::Pending,
        }
        self.tag = None;
        let Some(Slot { state: SlotState::Answered { header, written }, kind: asked, within, limit, .. }) =
            state.release(index)
        else {
            return Poll::Pending;
        };
        Poll::Ready(Ok(Answer { asked, within, header, written, limit }))
    }
}

impl<R: Ring> Drop for Exchange<'_, R> {
    fn drop(&mut self) {
        let Some(index) = self.tag else { return };
        let state = &mut *self.session.state.borrow_mut();
        let Some(slot) = state.slots.get_mut(usize::from(index)) else { return };
        match slot.state {
            SlotState::InFlight => slot.state = SlotState::Abandoned,
            SlotState::Answered { .. } => {
                if let Err(violation) = state.clean_up(index) {
                    state.broken.get_or_insert_with(|| violation.to_string().into());
                }
            }
            SlotState::Flushed | SlotState::Lost => state.clean_up_flushed(index),
            SlotState::Free | SlotState::Abandoned | SlotState::Drained => {}
        }
    }
}

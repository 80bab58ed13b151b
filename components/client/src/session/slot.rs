//! What is known of a request in flight, and how its reply comes in.

use std::{mem, task::Poll};

use ninering_wire::{Header, Rmessage};

use super::{
    Session, State,
    answer::{Answer, RLERROR, Violation},
    visit::is_done,
};
use crate::{
    error::Error,
    executor::Task,
    ring::{Extent, ReplyHeader, Ring, Used},
};
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
}

impl State {
    pub(super) fn complete(&mut self, used: Used) -> Result<(), Violation> {
        let index = used.id as usize;
        let slot = self.slots.get_mut(index).ok_or(Violation::UnknownChain)?;
        if !matches!(slot.state, SlotState::InFlight | SlotState::Abandoned) {
            return Err(Violation::UnknownChain);
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

    /// Deals with an answer that nobody is going to look at.
    pub(super) fn clean_up(&mut self, index: u16) -> Result<(), Violation> {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return Ok(()) };
        let Slot { state, kind: asked, within, limit, cleanup, .. } = mem::take(slot);
        let SlotState::Answered { header, written } = state else { return Ok(()) };
        self.free_tag(index);
        let answer = Answer { asked, within, header, written, limit };
        match (cleanup, answer.message()?) {
            (Cleanup::Nothing, _) => {}
            (Cleanup::Free(fid), _) => self.fids.free(fid),
            (Cleanup::Buffer(buffer), _) => self.buffers.push(buffer),
            (Cleanup::Walked(fid), Ok(Rmessage::Rattach { .. })) => self.to_clunk.push(fid),
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
        if header.kind != asked + 1 && header.kind != RLERROR {
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
    /// The answer, once it is there.
    pub(crate) fn poll(&mut self) -> Poll<Result<Answer, Error>> {
        let state = &mut *self.session.state.borrow_mut();
        if let Some(reason) = &state.broken {
            return Poll::Ready(Err(Error::Broken(reason.clone())));
        }
        let Some(index) = self.tag else { return Poll::Pending };
        let Some(slot) = state.slots.get_mut(usize::from(index)) else { return Poll::Pending };
        if !matches!(slot.state, SlotState::Answered { .. }) {
            return Poll::Pending;
        }
        let (asked, within, limit) = (slot.kind, slot.within, slot.limit);
        let SlotState::Answered { header, written } = mem::take(slot).state else { return Poll::Pending };
        self.tag = None;
        state.free_tag(index);
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
            SlotState::Free | SlotState::Abandoned => {}
        }
    }
}

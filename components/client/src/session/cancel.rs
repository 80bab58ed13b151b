//! Giving requests up: `Tflush`.
//!
//! An operation that is cancelled goes on to its end, for only there is it known what it holds. But its requests in flight are
//! flushed, and it sends no others. A request that is answered before its flush counts as answered: what the server did is
//! done. Else its chain comes back with nothing written, by then the server will do nothing for it, and the operation
//! gets `EINTR`.
//!
//! A tag is not used again before both are over, the request and its flush. What gives fids back is not flushed: it
//! would not be known whether the server still has them.

use ninering_wire::Tmessage;

use super::{NOBODY, Session, Slot, SlotState, State, answer::Answer, send::Refusal, slot::Cleanup};
use crate::{executor::Task, ring::Ring};

/// `Tversion`.
const TVERSION: u8 = 100;
/// `Tclunk`.
const TCLUNK: u8 = 120;
/// `Tremove`.
const TREMOVE: u8 = 122;

/// What became of giving up a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flush {
    #[default]
    None,
    /// There was no room to send it.
    Wanted,
    /// It is in flight.
    Sent,
    /// It was answered, and the chain may come back with nothing written.
    Done,
}

impl<R: Ring> Session<R> {
    /// Gives up what an operation has in flight. To be polled afterwards, for it may wait for room to send more.
    pub(crate) fn cancel(&self, task: Task) {
        {
            let state = &mut *self.state.borrow_mut();
            if state.cancelled.contains(&task) {
                return;
            }
            state.cancelled.push(task);
            for slot in state.slots.iter_mut().filter(|slot| slot.waiter == task) {
                if matches!(slot.state, SlotState::InFlight) && !matches!(slot.kind, TVERSION | TCLUNK | TREMOVE) {
                    slot.flush = Flush::Wanted;
                    state.flushes_wanted = true;
                }
            }
        }
        self.flush_waiting();
    }

    /// Was the operation being polled cancelled? What it does from now on is done in any case.
    pub(crate) fn take_cancellation(&self) -> bool {
        let task = self.current.get();
        self.state.borrow_mut().forget_cancelled(task)
    }

    /// An operation has come to its end.
    pub(crate) fn end(&self, task: Task) {
        self.leave(task);
        self.state.borrow_mut().forget_cancelled(task);
    }

    /// Sends the flushes that are wanted, as far as there is room.
    pub(super) fn flush_waiting(&self) {
        loop {
            let Some(victim) = self.state.borrow_mut().next_to_flush() else { return };
            match self.add(&Tmessage::Tflush { oldtag: victim }, Cleanup::Flush(victim), None, NOBODY) {
                Ok(index) => {
                    let state = &mut *self.state.borrow_mut();
                    if let Some(slot) = state.slots.get_mut(usize::from(index)) {
                        slot.state = SlotState::Abandoned;
                    }
                    if let Some(slot) = state.slots.get_mut(usize::from(victim)) {
                        slot.flush = Flush::Sent;
                    }
                    self.to_kick.set(true);
                }
                Err(Refusal::Full) => {
                    self.state.borrow_mut().flushes_wanted = true;
                    return;
                }
                // The session is broken: there is nothing to flush any more.
                Err(_) => return,
            }
        }
    }
}

impl State {
    /// Is this an operation that is to send nothing more?
    pub(super) fn is_cancelled(&self, task: Task) -> bool {
        !self.cancelled.is_empty() && self.cancelled.contains(&task)
    }

    fn forget_cancelled(&mut self, task: Task) -> bool {
        let place =
            if self.cancelled.is_empty() { None } else { self.cancelled.iter().position(|&other| other == task) };
        place.map(|place| self.cancelled.swap_remove(place)).is_some()
    }

    /// A request whose flush is still to be sent, and that was not answered meanwhile.
    fn next_to_flush(&mut self) -> Option<u16> {
        if !self.flushes_wanted {
            return None;
        }
        let is_in_flight = |slot: &Slot| matches!(slot.state, SlotState::InFlight | SlotState::Abandoned);
        let wanted = self.slots.iter().position(|slot| slot.flush == Flush::Wanted && is_in_flight(slot));
        self.flushes_wanted = wanted.is_some();
        wanted.map(|index| index as u16) // there are fewer slots than tags
    }

    /// A `Tflush` was lost with the connection, and so is the request, or will be.
    pub(super) fn flush_lost(&mut self, victim: u16) {
        let Some(slot) = self.slots.get_mut(usize::from(victim)) else { return };
        match (slot.flush, &slot.state) {
            (Flush::Sent, SlotState::Drained) => {
                *slot = Slot::default();
                self.free_tag(victim);
            }
            (Flush::Sent, _) => slot.flush = Flush::Done,
            _ => {}
        }
    }

    /// A `Tflush` was answered. If the server knows none, the request's own answer is waited for.
    pub(super) fn flush_answered(&mut self, victim: u16, answer: &Answer) {
        let is_done = answer.message().is_ok_and(|message| message.is_ok());
        let Some(slot) = self.slots.get_mut(usize::from(victim)) else { return };
        if slot.flush != Flush::Sent {
            return;
        }
        if let SlotState::Drained = slot.state {
            *slot = Slot::default();
            self.free_tag(victim);
        } else {
            slot.flush = if is_done { Flush::Done } else { Flush::None };
        }
    }
}

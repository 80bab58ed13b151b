//! Sending a request, and waiting for its reply.

use std::{future::poll_fn, mem, task::Poll};

use ninering_wire::{Errno, Message, NOTAG, Rmessage, Tmessage};

use super::{
    NOBODY, Session, Slot, SlotState, State,
    answer::Answer,
    cancel::Flush,
    reply::{limit, reply_len},
    slot::{Cleanup, Exchange},
    visit::within,
};
use crate::{
    error::Error,
    executor::Task,
    ring::{AddError, Ring, Transfer, Used},
};
/// Why a request was not sent.
pub(crate) enum Refusal {
    /// There is no room; the operation is polled again when there is.
    Full,
    /// Only so many bytes can be sent at once.
    Short(u64),
    Error(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl<R: Ring> Session<R> {
    /// Sends a request for the operation being polled, which is polled again when the reply is there, or, if there
    /// is no room to send, when there may be some.
    pub(crate) fn poll_send(
        &self,
        message: &Tmessage<'_>,
        cleanup: Cleanup,
        payload: Option<Transfer<'_, R::Iter>>,
    ) -> Poll<Result<Exchange<'_, R>, Refusal>> {
        match self.add(message, cleanup, payload, self.current.get()) {
            Ok(tag) => {
                self.to_kick.set(true);
                Poll::Ready(Ok(Exchange { session: self, tag: Some(tag) }))
            }
            Err(Refusal::Full) => Poll::Pending,
            Err(refusal) => Poll::Ready(Err(refusal)),
        }
    }

    /// Adds a request to the queue. Returns its slot's index.
    pub(super) fn add(
        &self,
        message: &Tmessage<'_>,
        cleanup: Cleanup,
        payload: Option<Transfer<'_, R::Iter>>,
        task: Task,
    ) -> Result<u16, Refusal> {
        let state = &mut *self.state.borrow_mut();
        if let Some(reason) = &state.broken {
            return Err(Error::Broken(reason.clone()).into());
        }
        if task != NOBODY && state.blocked.front().is_some_and(|&first| first != task) {
            return Err(self.block(state, task));
        }
        if state.is_cancelled(task) && task != self.turn.get() {
            return Err(Errno::EINTR.into());
        }
        let index = match state.free_tags.last() {
            Some(&index) => index,
            None if state.slots.len() < state.most_tags.into() => {
                let index = state.slots.len() as u16; // below `most_tags`
                state.slots.push(Slot::default());
                state.free_tags.push(index);
                index
            }
            None => return Err(self.block(state, task)),
        };
        let tag = if matches!(message, Tmessage::Tversion { .. }) { NOTAG } else { index };
        let scratch = &mut *self.scratch.borrow_mut();
        let length = match message.encode(tag, scratch) {
            Ok(length) => length,
            Err(_) => {
                scratch.resize(self.message_max.get() as usize, 0);
                message.encode(tag, scratch).map_err(|_| Errno::ENAMETOOLONG)?
            }
        };
        let reply_len = reply_len(message).min(self.ring.max_header());
        match self.ring.add(index.into(), scratch.get(..length).unwrap_or_default(), reply_len, payload) {
            Ok(()) => {
                state.free_tags.pop();
                state.in_flight += 1;
                if let Some(slot) = state.slots.get_mut(usize::from(index)) {
                    let (kind, within, limit) = (message.kind(), within(message), limit(message));
                    let flush = Flush::None;
                    *slot = Slot { state: SlotState::InFlight, tag, kind, within, limit, waiter: task, cleanup, flush };
                }
                if task != NOBODY && task != self.turn.get() && state.blocked.front() == Some(&task) {
                    state.blocked.pop_front();
                    state.wake_first_blocked();
                }
                Ok(index)
            }
            Err(AddError::Full) if state.in_flight == 0 => {
                let reason = state.broken.insert("the queue is full though nothing is in flight".into());
                Err(Error::Broken(reason.clone()).into())
            }
            Err(AddError::Full) => Err(self.block(state, task)),
            Err(AddError::Short(bytes)) => Err(Refusal::Short(bytes)),
            Err(AddError::Refused(errno)) => Err(errno.into()),
            Err(AddError::Broken(reason)) => {
                let reason = state.broken.insert(reason.into());
                Err(Error::Broken(reason.clone()).into())
            }
        }
    }

    /// Notes that an operation waits for room.
    fn block(&self, state: &mut State, task: Task) -> Refusal {
        if task != NOBODY && !state.blocked.contains(&task) {
            state.blocked.push_back(task);
        }
        // What takes the room may be waiting for the device to be told of it.
        self.to_kick.set(true);
        Refusal::Full
    }

    /// A chain has come back.
    pub(super) fn complete(&self, used: Used) {
        let state = &mut *self.state.borrow_mut();
        if state.broken.is_some() {
            return;
        }
        match state.complete(used) {
            Ok(()) => {}
            Err(violation) => state.broken = Some(violation.to_string().into()),
        }
    }

    /// A request with at most one message's payload, and what `read` makes of the reply to it. What `cleanup` names is the caller's again
    /// only if this succeeds.
    pub(crate) async fn request<'i, T>(
        &self,
        message: Tmessage<'_>,
        cleanup: Cleanup,
        payload: impl Fn() -> Option<Transfer<'i, R::Iter>>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let mut held = Held { session: self, cleanup };
        let exchange = poll_fn(|_| self.poll_send(&message, cleanup, payload())).await;
        let mut exchange = exchange.map_err(|refusal| self.error_of(refusal))?;
        // For as long as the request is in flight, the cleanup is the business of `complete`.
        held.cleanup = Cleanup::Nothing;
        let answer = poll_fn(|_| exchange.poll()).await?;
        held.cleanup = cleanup;
        let value = self.read(&answer, read)?;
        held.cleanup = Cleanup::Nothing;
        Ok(value)
    }

    /// Nobody else sends anything until the operation being polled has sent so many requests, for which there are tags;
    /// then it [leaves](Self::leave). Were two flights to share the last tags, neither would ever be complete. Returns
    /// whether it can begin now; if not, it is polled again.
    pub(super) fn take_turn(&self, requests: usize) -> bool {
        let state = &mut *self.state.borrow_mut();
        let task = self.current.get();
        let tags = state.free_tags.len() + usize::from(state.most_tags) - state.slots.len();
        let is_first = state.blocked.front().is_none_or(|&first| first == task);
        if state.broken.is_some() || is_first && tags >= requests {
            self.turn.set(task);
            return true;
        }
        self.block(state, task);
        false
    }

    /// What `read` makes of an answer. It gets the right kind of message, so there is nothing that it does not take.
    pub(crate) fn read<T>(&self, answer: &Answer, read: impl FnOnce(Rmessage<'_>) -> Option<T>) -> Result<T, Error> {
        let message = answer.message().map_err(|violation| self.break_off(&violation.to_string()))?;
        Ok(read(message?).ok_or(Errno::EIO)?)
    }

    /// Why a request without payload, or one that cannot be made shorter, was not sent.
    pub(crate) fn error_of(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Error(error) => error,
            Refusal::Full | Refusal::Short(_) => Errno::EIO.into(),
        }
    }
}

/// What is to be given back unless a request for it succeeds.
pub(super) struct Held<'s, R: Ring> {
    pub(super) session: &'s Session<R>,
    pub(super) cleanup: Cleanup,
}

impl<R: Ring> Held<'_, R> {
    pub(super) fn give_back(&mut self) {
        match mem::take(&mut self.cleanup) {
            Cleanup::Nothing | Cleanup::Flush(_) => {}
            Cleanup::Free(fid) | Cleanup::Walked(fid) => self.session.free_fid(fid),
            Cleanup::Buffer(buffer) => self.session.return_buffer(buffer),
        }
    }
}

impl<R: Ring> Drop for Held<'_, R> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Of a request that has no payload.
pub(crate) fn no_payload<'i, I>() -> Option<Transfer<'i, I>> {
    None
}

//! Sending a request, and waiting for its reply.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    task::Poll,
};

use ninering_wire::{Errno, Inner, Message, NOTAG, Qid, Qids, Rmessage, Tmessage};

use super::{
    NOBODY, Session, Slot, SlotState, State,
    answer::Answer,
    cancel::Flush,
    recover::Link,
    reply::{limit, reply_len},
    settle::Steps,
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
    /// The server does not know `Tvisit` any more.
    Visit,
    Error(Error),
}

/// What is there before a request is sent, being looked at; as [`Settling`].
type Looking<'s> = Pin<Box<dyn Future<Output = Result<Option<Qid>, Error>> + 's>>;
/// A request's fate being found out; by way of requests, so that its type must not name theirs.
type Settling<'s> = Pin<Box<dyn Future<Output = Result<Rmessage<'static>, Error>> + 's>>;

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
        let restores = match state.link {
            Link::Up => false,
            Link::Restoring(restorer) if restorer == task => true,
            _ if self.is_restoring() => return Err(Error::InDoubt.into()),
            _ if state.is_cancelled(task) => return Err(Errno::EINTR.into()),
            Link::Restoring(_) | Link::Authenticating | Link::Down => return Err(self.block(state, task)),
        };
        if let Some(ledger) = state.ledger.as_deref().filter(|_| !restores) {
            ledger.check(message)?;
            if !self.visits.get() && matches!(message, Tmessage::Tvisit { .. }) {
                return Err(Refusal::Visit);
            }
        }
        if task != NOBODY && !restores && state.blocked.front().is_some_and(|&first| first != task) {
            return Err(self.block(state, task));
        }
        // What gives a fid back is sent in any case, for its number is free when the operation is over.
        let gives_back = matches!(message, Tmessage::Tclunk { .. });
        if state.is_cancelled(task) && task != self.turn.get() && !gives_back {
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
        // Who makes the fids again is polled when one of its own requests is answered.
        if task != NOBODY && task != self.restorer.get() && !state.blocked.contains(&task) {
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
        self.request_again(message, cleanup, payload, false, read).await
    }

    /// [`Session::request`]; `doubtful` says that the request may have been done already.
    pub(super) async fn request_again<'i, T>(
        &self,
        message: Tmessage<'_>,
        cleanup: Cleanup,
        payload: impl Fn() -> Option<Transfer<'i, R::Iter>>,
        mut doubtful: bool,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let mut held = Held { session: self, cleanup };
        let before = if self.recovers() && !self.is_restoring() && !doubtful {
            let looking: Looking<'_> = Box::pin(self.look_before(&message));
            looking.await?
        } else {
            None
        };
        let mut read = Some(read);
        let mut read = |reply: Rmessage<'_>| read.take()?(reply);
        loop {
            let sent = poll_fn(|_| self.poll_send(&message, cleanup, payload())).await;
            let answer = match sent {
                Ok(mut exchange) => {
                    // For as long as the request is in flight, the cleanup is the business of `complete`.
                    held.cleanup = Cleanup::Nothing;
                    let answer = poll_fn(|_| exchange.poll()).await;
                    if matches!(answer, Ok(_) | Err(Error::InDoubt)) {
                        held.cleanup = cleanup;
                    }
                    answer
                }
                Err(Refusal::Visit) => return self.read_steps(message, doubtful, &mut held, read).await,
                Err(refusal) => Err(self.error_of(refusal)),
            };
            let value = match answer {
                Err(Error::InDoubt) if self.recovers() && !self.is_restoring() => {
                    doubtful = true;
                    self.doubt(&message, payload())?;
                    if matches!(message, Tmessage::Tvisit { .. }) {
                        return self.read_steps(message, true, &mut held, read).await;
                    }
                    continue;
                }
                answer => answer.and_then(|answer| {
                    let answer = self.gather(answer, payload());
                    self.read(&answer, |reply| {
                        self.note(&message, &reply);
                        read(reply)
                    })
                }),
            };
            let value = match value {
                Err(Error::Errno(errno)) if doubtful => {
                    let settling: Settling<'_> = Box::pin(self.settle(&message, before, errno));
                    let reply = settling.await?;
                    self.with_ledger(|ledger| ledger.note_settled(&message, &reply));
                    read(reply).ok_or(Errno::EIO)?
                }
                value => value?,
            };
            held.cleanup = Cleanup::Nothing;
            return Ok(value);
        }
    }

    /// Does a `Tvisit` by [steps](Self::by_steps).
    async fn read_steps<T>(
        &self,
        message: Tmessage<'_>,
        doubtful: bool,
        held: &mut Held<'_, R>,
        mut read: impl FnMut(Rmessage<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let Tmessage::Tvisit { fid, newfid, names, message } = message else { return Err(Errno::EIO.into()) };
        let steps: Pin<Box<dyn Future<Output = Result<Steps, Error>> + '_>> =
            Box::pin(self.by_steps((fid, newfid, names), message, doubtful));
        let Steps { qids, reply } = steps.await?;
        let qids = Qids::new(&qids).map_err(|_| Errno::EIO)?;
        let value = read(Rmessage::Rvisit { qids, message: Inner(&reply) }).ok_or(Errno::EIO)?;
        held.cleanup = Cleanup::Nothing;
        Ok(value)
    }

    /// A request came back without an answer, and is sent again.
    fn doubt(&self, message: &Tmessage<'_>, payload: Option<Transfer<'_, R::Iter>>) -> Result<(), Error> {
        self.count(|recovered| recovered.resent += 1);
        self.with_ledger(|ledger| ledger.doubt(message));
        match payload {
            Some(Transfer { iter, bytes, .. }) if !self.ring.revert(iter, bytes) => Err(Error::InDoubt),
            _ => Ok(()),
        }
    }

    /// A request was done.
    pub(super) fn note(&self, message: &Tmessage<'_>, reply: &Rmessage<'_>) {
        if self.recovers() && !self.is_restoring() {
            self.with_ledger(|ledger| ledger.note(message, reply));
        }
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

    /// The answer to a request whose payload was the last that was transferred of its iter, an error as a whole.
    pub(crate) fn gather(&self, answer: Answer, payload: Option<Transfer<'_, R::Iter>>) -> Answer {
        answer.gather(|len| payload.and_then(|Transfer { iter, bytes, .. }| self.ring.read_back(iter, bytes, len)))
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
            Refusal::Full | Refusal::Short(_) | Refusal::Visit => Errno::EIO.into(),
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

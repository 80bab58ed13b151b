//! A session with a server: requests and their replies, tags, fids (`net/9p`).
//!
//! Nothing that the server says is believed. `Slot::check_frame` looks at each reply when it comes in: that it is
//! as long as it says, and the answer to what was asked. `Answer::message` checks the rest when the reply is
//! looked at: that it decodes to its last byte, and that its counts are not above those asked for. A server that
//! fails either breaks the session, for good and with a reason that says how.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::poll_fn,
    mem,
    rc::Rc,
    task::Poll,
};

use ninering_wire::{
    Attributes, Errno, HEADER_LEN, Header, Inner, Message, NAME_MAX, NOFID, NOTAG, Names, PATH_MAX, Qid, RREAD_LEN,
    Rmessage, SetAttributes, Statfs, Str, Tmessage, VERSION_9P2000L, VERSION_NINERING, WireError, getattr,
};
use smallvec::SmallVec;

use crate::{
    error::Error,
    executor::Task,
    ring::{AddError, Extent, ReplyHeader, Ring, Transfer, Used},
};

/// The least `msize` that is of use, which is also Linux's.
pub const MIN_MSIZE: u32 = 4096;
/// The fids below this are allocated here; those from here up are for the users of [`client`](crate::client).
pub const FIRST_FOREIGN_FID: u32 = 0x8000_0000;

/// How far a `Twalk` came. Most are of one name or two; [`ninering_wire::Qids`] has room for sixteen, and is moved
/// about with all of that.
pub type Walked = SmallVec<[Qid; 2]>;

/// The task of requests that nobody waits for.
const NOBODY: Task = Task::MAX;
/// Clunks of fids that were never opened may wait for other requests to be sent along with, but not more than these.
const MOST_UNHURRIED: u32 = 8;
/// So many buffers for directory entries are kept when they are not in use.
const MOST_SPARE_BUFFERS: usize = 4;
/// Bytes of the longest message within another: a link's name and target.
const MOST_INNER: usize = HEADER_LEN + 4 + 2 + NAME_MAX + 2 + PATH_MAX + 4;
/// `Rlerror`'s type number.
const RLERROR: u8 = 7;

/// A session, from `Tversion` on, with all that is in flight in it.
pub struct Session<R: Ring> {
    pub(crate) ring: R,
    state: RefCell<State>,
    /// Requests are encoded here; as long as the longest that may be sent.
    scratch: RefCell<Vec<u8>>,
    /// Messages within others are encoded here.
    inner: Cell<Vec<u8>>,
    /// Bytes of the longest message without its payload.
    message_max: Cell<u32>,
    /// The operation being polled.
    current: Cell<Task>,
    /// The operation that is about to send several requests.
    turn: Cell<Task>,
    /// Something was added that the device should hear of.
    to_kick: Cell<bool>,
    /// Requests that were added without need to tell the device now.
    unhurried: Cell<u32>,
    ordered: Cell<bool>,
    /// The server knows `Tvisit`.
    visits: Cell<bool>,
    immediate: Cell<bool>,
    msize: Cell<u32>,
    payload_max: Cell<u32>,
}

#[derive(Default)]
struct State {
    /// By tag.
    slots: Vec<Slot>,
    free_tags: Vec<u16>,
    /// The most tags in use: a request takes at least one descriptor.
    most_tags: u16,
    /// Chains that the device has.
    in_flight: usize,
    /// Operations that can go on.
    ready: VecDeque<Task>,
    /// Operations that wait for room in the queue, in the order in which they get it.
    blocked: VecDeque<Task>,
    /// Fids to be clunked as soon as there is room.
    to_clunk: Vec<u32>,
    fids: Fids,
    /// Memory for directory entries that is not in use.
    buffers: Vec<Extent>,
    broken: Option<Rc<str>>,
}

/// What is known of a request.
#[derive(Default)]
struct Slot {
    state: SlotState,
    /// As sent; the slot's index but for `Tversion`.
    tag: u16,
    /// The request's type number.
    kind: u8,
    /// That of the request within a `Tvisit`; 0 in any other.
    within: u8,
    /// The most names or bytes that the reply may count.
    limit: u32,
    waiter: Task,
    cleanup: Cleanup,
}

#[derive(Default)]
enum SlotState {
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

/// What has come of a [visit](Session::visit).
pub(crate) struct Visited<R: Ring, T> {
    /// One for each name that could be walked.
    pub(crate) qids: Walked,
    /// What has come of the message, if all could.
    pub(crate) done: Option<Result<T, Error>>,
    /// A fid for the file, if there is one that stays: where the message was done, and perhaps where it was not.
    pub(crate) fid: Option<Fid<R>>,
}

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
    /// A session over `ring`, in which nothing was sent yet.
    pub fn new(ring: R) -> Self {
        let state = State { most_tags: ring.queue_size().clamp(2, NOTAG - 1), ..State::default() };
        // Grows to the longest message once one is sent that is longer than most.
        let message_max = ring.max_header();
        let scratch = vec![0; 1024.min(message_max as usize)];
        Self {
            ring,
            state: RefCell::new(state),
            scratch: RefCell::new(scratch),
            inner: Cell::default(),
            message_max: Cell::new(message_max),
            current: Cell::new(NOBODY),
            turn: Cell::new(NOBODY),
            to_kick: Cell::new(false),
            unhurried: Cell::new(0),
            ordered: Cell::new(false),
            visits: Cell::new(false),
            immediate: Cell::new(false),
            msize: Cell::new(0),
            payload_max: Cell::new(0),
        }
    }

    /// The longest message, in bytes; 0 before [`Session::version`].
    pub fn msize(&self) -> u32 {
        self.msize.get()
    }

    /// The most bytes of payload in one request.
    pub fn payload_max(&self) -> u32 {
        self.payload_max.get()
    }

    /// Says whether the device processes requests in the order in which they are sent, each before the next. A request
    /// then flies with those that it depends on.
    pub fn set_ordered(&self, ordered: bool) {
        self.ordered.set(ordered);
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.ordered.get()
    }

    /// Can what depends on a walk be sent along with it?
    pub(crate) fn can_visit(&self) -> bool {
        self.ordered.get() || self.visits.get()
    }

    /// Says whether the device has completed all requests when it was kicked. Then no operation has to be put by.
    pub fn set_immediate(&self, immediate: bool) {
        self.immediate.set(immediate);
    }

    pub(crate) fn is_immediate(&self) -> bool {
        self.immediate.get()
    }

    /// The most extents that the payload of one request may be in: the chain's other two descriptors are for the
    /// headers.
    pub(crate) fn most_segments(&self) -> u32 {
        u32::from(self.ring.queue_size()).saturating_sub(2)
    }

    /// The number of requests that are in flight, or whose reply nobody has looked at.
    pub fn tags_in_use(&self) -> usize {
        let state = self.state.borrow();
        state.slots.len() - state.free_tags.len()
    }

    /// The number of fids that the server knows, or is about to.
    pub fn fids_in_use(&self) -> usize {
        let fids = &self.state.borrow().fids;
        fids.made as usize - fids.free.len()
    }

    // What the executor needs.

    pub(crate) fn set_current(&self, task: Task) {
        self.current.set(task);
    }

    /// The next operation that can go on.
    pub fn next_ready(&self) -> Option<Task> {
        self.state.borrow_mut().ready.pop_front()
    }

    /// Tells the device if there is something to tell. Returns whether there was.
    pub(crate) fn kick(&self) -> bool {
        if !self.to_kick.replace(false) || self.is_broken() {
            return false;
        }
        self.unhurried.set(0);
        if let Err(reason) = self.ring.kick() {
            self.break_off(reason);
        }
        true
    }

    /// Kicks if there is something to kick for, and takes what was used; tells whether there was something.
    pub(crate) fn exchange(&self) -> bool {
        let kicked = self.kick();
        if kicked || self.is_broken() {
            self.take_used();
            self.state.borrow_mut().ready.clear();
        }
        kicked
    }

    /// What was added without hurry goes with the next kick, and there is one.
    pub(crate) fn urge(&self) {
        if self.unhurried.get() > 0 {
            self.to_kick.set(true);
        }
    }

    /// Takes what the device has returned.
    pub(crate) fn take_used(&self) {
        let mut any = false;
        let taken = self.ring.used(|used| {
            any = true;
            self.complete(used);
        });
        if let Err(reason) = taken {
            self.break_off(reason);
        }
        if any {
            self.clunk_waiting();
            let mut state = self.state.borrow_mut();
            state.wake_first_blocked();
        }
    }

    /// An operation, or its flight, has ended: it does not wait for room any more.
    pub(crate) fn leave(&self, task: Task) {
        let mut state = self.state.borrow_mut();
        if self.turn.get() == task {
            self.turn.set(NOBODY);
        }
        if let Some(place) = state.blocked.iter().position(|&blocked| blocked == task) {
            state.blocked.remove(place);
            state.wake_first_blocked();
        }
    }

    // How it ends.

    /// Is the session broken?
    pub fn is_broken(&self) -> bool {
        self.state.borrow().broken.is_some()
    }

    /// Breaks the session, unless it is broken already, and returns the error that it is broken with.
    pub fn break_off(&self, reason: &str) -> Error {
        Error::Broken(self.state.borrow_mut().broken.get_or_insert_with(|| reason.into()).clone())
    }

    // Sending and receiving.

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
    fn add(
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
                    *slot = Slot { state: SlotState::InFlight, tag, kind, within, limit, waiter: task, cleanup };
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
    fn complete(&self, used: Used) {
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

    /// Sends `N` requests, one behind the other, those that fail to be sent left out; nothing behind the first if that
    /// is left out. Only of use where the device is [ordered](Self::set_ordered): the later ones may then depend on
    /// the earlier ones.
    pub(crate) async fn flight<'m, const N: usize>(
        &self,
        request: impl Fn(usize) -> (Tmessage<'m>, Cleanup),
    ) -> Flight<'_, R> {
        let owed = match (request(0).1, request(N - 1).1) {
            (cleanup @ Cleanup::Walked(_), _) | (_, cleanup) => cleanup,
        };
        let mut flight = Flight { session: self, requests: SmallVec::new(), owed };
        poll_fn(|_| {
            if flight.requests.is_empty() && !self.take_turn(N) {
                return Poll::Pending;
            }
            while flight.requests.len() < N {
                let (message, cleanup) = request(flight.requests.len());
                let sent = match flight.requests.first() {
                    Some(Flying { sent: Err(error), .. }) => Err(error.clone()),
                    _ => match self.poll_send(&message, cleanup, None) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(sent) => sent.map_err(|refusal| self.error_of(refusal)),
                    },
                };
                if sent.is_err() {
                    drop(Held { session: self, cleanup });
                }
                if cleanup == flight.owed {
                    flight.owed = Cleanup::Nothing;
                }
                flight.requests.push(Flying { sent, cleanup });
            }
            Poll::Ready(())
        })
        .await;
        self.leave(self.current.get());
        flight
    }

    /// Walks `names` from the fid `from`, and does what `message` says with the file where that leads, of which it is
    /// given a fid: in one message if the server knows [`Tmessage::Tvisit`], in one flight if it does not. Only where it
    /// [can](Self::can_visit). `keeps` says that `message` opens that fid, and that it is to stay.
    ///
    /// # Errors
    /// Those of the walk.
    pub(crate) async fn visit<'m, T>(
        self: &Rc<Self>,
        from: u32,
        names: Names<'_>,
        keeps: bool,
        message: impl Fn(u32) -> Tmessage<'m>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<Visited<R, T>, Error> {
        if !self.visits.get() {
            return self.visit_by_flight(from, names, keeps, message, read).await;
        }
        let (newfid, cleanup) = if keeps {
            let fid = self.allocate_fid()?;
            (fid, Cleanup::Walked(fid))
        } else {
            (NOFID, Cleanup::Nothing)
        };
        let mut held = Held { session: self, cleanup };
        let mut buffer = self.inner.take();
        let length = self.encode_inner(&message(newfid), &mut buffer)?;
        let message =
            Tmessage::Tvisit { fid: from, newfid, names, message: Inner(buffer.get(..length).unwrap_or_default()) };
        held.cleanup = Cleanup::Nothing;
        let visited = self.request(message, cleanup, no_payload, |reply| match reply {
            Rmessage::Rvisit { qids, message } if qids.len() < names.len() => {
                debug_assert!(message.0.is_empty(), "checked with the answer");
                Some((Walked::from_slice(&qids), None))
            }
            Rmessage::Rvisit { qids, message } => {
                let done = match message.decode().ok()? {
                    Rmessage::Rlerror { ecode } => Err(server_errno(ecode).into()),
                    reply => Ok(read(reply)?),
                };
                Some((Walked::from_slice(&qids), Some(done)))
            }
            _ => None,
        });
        let (qids, done) = visited.await?;
        self.inner.replace(buffer);
        let fid = match done {
            Some(Ok(_)) if keeps => Some(Fid::opened(self, newfid)),
            _ if keeps => {
                self.free_fid(newfid);
                None
            }
            _ => None,
        };
        Ok(Visited { qids, done, fid })
    }

    /// Encodes a message to be put into another one, at the front of `buffer`; tells its length.
    fn encode_inner(&self, message: &Tmessage<'_>, buffer: &mut Vec<u8>) -> Result<usize, Error> {
        if buffer.is_empty() {
            buffer.resize(512, 0);
        }
        if let Ok(length) = message.encode(NOTAG, buffer) {
            return Ok(length);
        }
        buffer.resize(MOST_INNER.min(self.message_max.get() as usize), 0);
        Ok(message.encode(NOTAG, buffer).map_err(|_| Errno::ENAMETOOLONG)?)
    }

    /// [`Session::visit`] by messages of their own: `Twalk`, `message`, and `Tclunk`.
    async fn visit_by_flight<'m, T>(
        self: &Rc<Self>,
        from: u32,
        names: Names<'_>,
        keeps: bool,
        message: impl Fn(u32) -> Tmessage<'m>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<Visited<R, T>, Error> {
        let newfid = self.allocate_fid()?;
        let walk = Tmessage::Twalk { fid: from, newfid, names };
        if !keeps {
            let mut flight = self
                .flight::<3>(|index| match index {
                    0 => (walk, Cleanup::Nothing),
                    1 => (message(newfid), Cleanup::Nothing),
                    _ => (Tmessage::Tclunk { fid: newfid }, Cleanup::Free(newfid)),
                })
                .await;
            let qids = flight.take(0, walked).await?;
            let done = if qids.len() == names.len() { Some(flight.take(1, read).await) } else { None };
            return Ok(Visited { qids, done, fid: None });
        }
        let mut flight = self
            .flight::<2>(|index| match index {
                0 => (walk, Cleanup::Walked(newfid)),
                _ => (message(newfid), Cleanup::Nothing),
            })
            .await;
        let qids = flight.take(0, walked).await?;
        if qids.len() < names.len() {
            self.free_fid(newfid);
            return Ok(Visited { qids, done: None, fid: None });
        }
        let fid = Fid::new(self, newfid);
        let done = flight.take(1, read).await;
        fid.is_open.set(done.is_ok());
        Ok(Visited { qids, done: Some(done), fid: Some(fid) })
    }

    /// Nobody else sends anything until the operation being polled has sent so many requests, for which there are tags;
    /// then it [leaves](Self::leave). Were two flights to share the last tags, neither would ever be complete. Returns
    /// whether it can begin now; if not, it is polled again.
    fn take_turn(&self, requests: usize) -> bool {
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

    // Fids.

    /// A fid that is not in use.
    ///
    /// # Errors
    /// `ENFILE` where there are none left.
    pub(crate) fn allocate_fid(&self) -> Result<u32, Error> {
        Ok(self.state.borrow_mut().fids.allocate().ok_or(Errno::ENFILE)?)
    }

    pub(crate) fn free_fid(&self, fid: u32) {
        self.state.borrow_mut().fids.free(fid);
    }

    /// Gives a fid back without waiting. What was opened by it should be closed soon; others can wait a little, to
    /// be sent along with something else.
    fn clunk(&self, fid: u32, soon: bool) {
        match self.add(&Tmessage::Tclunk { fid }, Cleanup::Free(fid), None, NOBODY) {
            Ok(index) => {
                let mut state = self.state.borrow_mut();
                if let Some(slot) = state.slots.get_mut(usize::from(index)) {
                    slot.state = SlotState::Abandoned;
                }
                self.unhurried.set(self.unhurried.get() + 1);
                if soon || self.unhurried.get() > MOST_UNHURRIED {
                    self.to_kick.set(true);
                }
            }
            Err(Refusal::Full) => self.state.borrow_mut().to_clunk.push(fid),
            // The session is broken: nothing needs clunking.
            Err(_) => self.free_fid(fid),
        }
    }

    /// Sends the clunks that had found no room.
    fn clunk_waiting(&self) {
        let waiting = mem::take(&mut self.state.borrow_mut().to_clunk);
        for fid in waiting {
            self.clunk(fid, true);
        }
    }

    // Memory for directory entries.

    /// A buffer of `len` bytes, which must be the same in each call.
    pub(crate) fn take_buffer(&self, len: u32) -> Result<Extent, Error> {
        let pooled = self.state.borrow_mut().buffers.pop();
        Ok(pooled.or_else(|| self.ring.allocate(len)).ok_or(Errno::ENOMEM)?)
    }

    pub(crate) fn return_buffer(&self, buffer: Extent) {
        let buffers = &mut self.state.borrow_mut().buffers;
        if buffers.len() < MOST_SPARE_BUFFERS {
            buffers.push(buffer);
        } else {
            self.ring.release(buffer);
        }
    }

    // Requests, by name.

    /// `Tversion`: agrees with the server on the dialect, which must be 9P2000.L, and on the longest message.
    ///
    /// # Errors
    /// The session is broken where they cannot agree.
    pub async fn version(&self, msize: u32) -> Result<(), Error> {
        let asked = msize.max(MIN_MSIZE);
        // A server that does not know the longer name says so in one way or another, and is asked again.
        let mut agreed = Err(String::new());
        for dialect in [VERSION_NINERING, VERSION_9P2000L] {
            let message = Tmessage::Tversion { msize: asked, version: Str(dialect) };
            let answer = |message: Rmessage<'_>| match message {
                Rmessage::Rversion { msize, version } if *version == *dialect || *version == *VERSION_9P2000L => {
                    Some(Ok((msize, *version == *VERSION_NINERING)))
                }
                Rmessage::Rversion { version, .. } => Some(Err(format!("the server speaks {version:?}, not 9P2000.L"))),
                _ => None,
            };
            agreed = match self.request(message, Cleanup::Nothing, no_payload, answer).await {
                Err(Error::Errno(_)) if dialect == VERSION_NINERING => continue,
                answered => answered?,
            };
            if agreed.is_ok() {
                break;
            }
        }
        let (msize, visits) = agreed.map_err(|reason| self.break_off(&reason))?;
        self.visits.set(visits);
        if msize > asked {
            return Err(self.break_off(&format!("the server answered an msize of {msize} to {asked}")));
        }
        if msize < MIN_MSIZE {
            return Err(self.break_off(&format!("the server's msize of {msize} is below {MIN_MSIZE}")));
        }
        self.msize.set(msize);
        self.payload_max.set(payload_max(msize));
        self.message_max.set(msize.min(self.message_max.get()));
        Ok(())
    }

    /// `Tattach` without authentication: a fid for the root of an export.
    ///
    /// # Errors
    /// The server's.
    pub async fn attach(self: &Rc<Self>, uname: &str, aname: &str, n_uname: u32) -> Result<(Fid<R>, Qid), Error> {
        let fid = self.allocate_fid()?;
        let (uname, aname) = (uname.into(), aname.into());
        let message = Tmessage::Tattach { fid, afid: NOFID, uname, aname, n_uname };
        let qid = self.request(message, Cleanup::Walked(fid), no_payload, |reply| match reply {
            Rmessage::Rattach { qid } => Some(qid),
            _ => None,
        });
        Ok((Fid::new(self, fid), qid.await?))
    }

    /// `Twalk`: as far as the server came, and a fid for where it came to if that is the end of `names`.
    ///
    /// # Errors
    /// The server's.
    pub async fn walk(self: &Rc<Self>, from: u32, names: &Names<'_>) -> Result<(Walked, Option<Fid<R>>), Error> {
        let fid = self.allocate_fid()?;
        let message = Tmessage::Twalk { fid: from, newfid: fid, names: *names };
        let qids = self.request(message, Cleanup::Walked(fid), no_payload, walked).await?;
        if qids.len() == names.len() {
            return Ok((qids, Some(Fid::new(self, fid))));
        }
        if self.is_ordered() {
            self.free_fid(fid);
        } else {
            // Some servers (diod) have made the fid after all; Linux's client clunks it too, and others answer EBADF.
            drop(Fid::new(self, fid));
        }
        Ok((qids, None))
    }

    /// A second fid for the same file.
    ///
    /// # Errors
    /// The server's.
    pub async fn clone_fid(self: &Rc<Self>, fid: u32) -> Result<Fid<R>, Error> {
        let (_, fid) = self.walk(fid, &Names::default()).await?;
        Ok(fid.ok_or(Errno::EIO)?)
    }

    /// A request to which the reply says no more than that it was done.
    ///
    /// # Errors
    /// The server's.
    pub async fn order(&self, message: Tmessage<'_>) -> Result<(), Error> {
        self.request(message, Cleanup::Nothing, no_payload, |_| Some(())).await
    }

    /// `Tgetattr`: what `stat(2)` tells.
    ///
    /// # Errors
    /// The server's.
    pub async fn getattr(&self, fid: u32) -> Result<Attributes, Error> {
        self.request(getattr(fid), Cleanup::Nothing, no_payload, attributes).await
    }

    /// `Tsetattr`.
    ///
    /// # Errors
    /// The server's.
    pub async fn setattr(&self, fid: u32, attributes: SetAttributes) -> Result<(), Error> {
        self.order(Tmessage::Tsetattr { fid, attributes }).await
    }

    /// `Tstatfs`.
    ///
    /// # Errors
    /// The server's.
    pub async fn statfs(&self, fid: u32) -> Result<Statfs, Error> {
        self.request(Tmessage::Tstatfs { fid }, Cleanup::Nothing, no_payload, |reply| match reply {
            Rmessage::Rstatfs { statfs } => Some(statfs),
            _ => None,
        })
        .await
    }

    /// `Treadlink`.
    ///
    /// # Errors
    /// The server's.
    pub async fn readlink(&self, fid: u32) -> Result<Vec<u8>, Error> {
        self.request(Tmessage::Treadlink { fid }, Cleanup::Nothing, no_payload, |reply| match reply {
            Rmessage::Rreadlink { target } => Some(target.to_vec()),
            _ => None,
        })
        .await
    }

    /// `Tlopen` or `Tlcreate`: the file's qid and the server's `iounit`.
    ///
    /// # Errors
    /// The server's.
    pub async fn open(&self, message: Tmessage<'_>) -> Result<(Qid, u32), Error> {
        self.request(message, Cleanup::Nothing, no_payload, opened).await
    }

    /// `Tmkdir` or `Tsymlink`: the new file's qid.
    ///
    /// # Errors
    /// The server's.
    pub async fn make(&self, message: Tmessage<'_>) -> Result<Qid, Error> {
        self.request(message, Cleanup::Nothing, no_payload, made).await
    }

    /// `Tremove`: removes the file. The fid is gone whatever comes of it.
    ///
    /// # Errors
    /// The server's.
    pub async fn remove(&self, fid: Fid<R>) -> Result<(), Error> {
        let (message, cleanup) = (Tmessage::Tremove { fid: fid.number() }, Cleanup::Free(fid.number()));
        let exchange = poll_fn(|_| self.poll_send(&message, cleanup, None)).await;
        let mut exchange = exchange.map_err(|refusal| self.error_of(refusal))?;
        let number = fid.leave();
        let answer = poll_fn(|_| exchange.poll()).await?;
        self.free_fid(number);
        self.read(&answer, |_| Some(()))
    }
}

impl State {
    fn wake_first_blocked(&mut self) {
        if let Some(&task) = self.blocked.front() {
            self.ready.push_back(task);
        }
    }

    /// Frees a tag whose reply is dealt with.
    fn free_tag(&mut self, index: u16) {
        self.free_tags.push(index);
        self.wake_first_blocked();
    }

    fn complete(&mut self, used: Used) -> Result<(), Violation> {
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
    fn clean_up(&mut self, index: u16) -> Result<(), Violation> {
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

/// The fids below [`FIRST_FOREIGN_FID`], from 1 up.
#[derive(Default)]
struct Fids {
    /// So many have ever been in use at a time.
    made: u32,
    free: Vec<u32>,
}

impl Fids {
    fn allocate(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            self.made = Some(self.made + 1).filter(|&fid| fid < FIRST_FOREIGN_FID)?;
            Some(self.made)
        })
    }

    fn free(&mut self, fid: u32) {
        self.free.push(fid);
    }
}

/// A fid of a file that the server knows; clunked when this is dropped.
pub struct Fid<R: Ring> {
    session: Rc<Session<R>>,
    number: u32,
    is_open: Cell<bool>,
}

impl<R: Ring> Fid<R> {
    pub(crate) fn new(session: &Rc<Session<R>>, number: u32) -> Self {
        Self { session: session.clone(), number, is_open: Cell::new(false) }
    }

    fn opened(session: &Rc<Session<R>>, number: u32) -> Self {
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
    fn leave(mut self) -> u32 {
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

/// What is to be given back unless a request for it succeeds.
struct Held<'s, R: Ring> {
    session: &'s Session<R>,
    cleanup: Cleanup,
}

impl<R: Ring> Drop for Held<'_, R> {
    fn drop(&mut self) {
        match self.cleanup {
            Cleanup::Nothing => {}
            Cleanup::Free(fid) | Cleanup::Walked(fid) => self.session.free_fid(fid),
            Cleanup::Buffer(buffer) => self.session.return_buffer(buffer),
        }
    }
}

/// A request in flight. If it is dropped before its answer is there, the answer is still checked and cleaned up after.
pub(crate) struct Exchange<'s, R: Ring> {
    session: &'s Session<R>,
    /// `None` when the answer was taken.
    tag: Option<u16>,
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

/// Requests that were sent together: [`Session::flight`].
pub(crate) struct Flight<'s, R: Ring> {
    session: &'s Session<R>,
    requests: SmallVec<[Flying<'s, R>; 3]>,
    /// The cleanup of a request that is not sent yet.
    owed: Cleanup,
}

struct Flying<'s, R: Ring> {
    sent: Result<Exchange<'s, R>, Error>,
    cleanup: Cleanup,
}

impl<R: Ring> Drop for Flight<'_, R> {
    fn drop(&mut self) {
        match self.owed {
            // The walk that would have made the fid was not sent.
            Cleanup::Walked(fid) => self.session.free_fid(fid),
            // The walk to the fid may have been sent, but not its clunk.
            Cleanup::Free(fid) => self.session.state.borrow_mut().to_clunk.push(fid),
            Cleanup::Nothing | Cleanup::Buffer(_) => {}
        }
    }
}

impl<R: Ring> Flight<'_, R> {
    /// What `read` makes of the answer to the request at `index`, once it is there. What that request's cleanup names
    /// is the caller's again only if this succeeds. To be called once for each request, or not at all.
    pub(crate) async fn take<T>(
        &mut self,
        index: usize,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let session = self.session;
        let Some(Flying { sent, cleanup }) = self.requests.get_mut(index) else { return Err(Errno::EIO.into()) };
        let exchange = sent.as_mut().map_err(|error| error.clone())?;
        let answer = poll_fn(|_| exchange.poll()).await?;
        let mut held = Held { session, cleanup: *cleanup };
        let value = session.read(&answer, read)?;
        held.cleanup = Cleanup::Nothing;
        Ok(value)
    }
}

/// A reply of which the frame was checked.
pub(crate) struct Answer {
    /// The request's type number.
    asked: u8,
    /// That of the request within it, or 0.
    within: u8,
    header: ReplyHeader,
    written: u32,
    limit: u32,
}

impl Answer {
    /// The message, or the error that the server answered.
    pub(crate) fn message(&self) -> Result<Result<Rmessage<'_>, Errno>, Violation> {
        let asked = self.asked;
        let malformed = |error| Violation::Malformed { asked, error };
        let &[_, _, _, _, kind, _, _, ref body @ ..] = &*self.header else {
            return Err(malformed(WireError::Truncated));
        };
        let (message, rest) = Rmessage::decode_body(kind, body).map_err(malformed)?;
        // The payload is in the extents; the device has counted what it put there.
        let payload = self.written.saturating_sub(self.header.len() as u32); // `header` is a part of `written`
        if !rest.is_empty() || payload != message.payload_len() {
            return Err(Violation::Length { asked });
        }
        let counted = match &message {
            Rmessage::Rread { count } | Rmessage::Rreaddir { count } | Rmessage::Rwrite { count } => *count,
            Rmessage::Rwalk { qids } => qids.len() as u32, // at most 16
            Rmessage::Rvisit { qids, message } => {
                self.check_inner(*message, qids.len() as u32 == self.limit)?;
                qids.len() as u32
            }
            Rmessage::Rlerror { ecode } => return Ok(Err(server_errno(*ecode))),
            _ => 0,
        };
        if counted > self.limit {
            return Err(Violation::Count { asked, limit: self.limit, counted });
        }
        Ok(Ok(message))
    }

    /// Is the message within an `Rvisit` there where the walk came to its `end`, and then the answer to the one asked?
    fn check_inner(&self, message: Inner<'_>, end: bool) -> Result<(), Violation> {
        if message.0.is_empty() && !end {
            return Ok(());
        }
        let asked = self.within;
        let malformed = |error| Violation::Malformed { asked, error };
        let answered = message.decode::<Rmessage<'_>>().map_err(malformed)?.kind();
        if !end {
            return Err(Violation::Length { asked: self.asked });
        }
        if answered != asked + 1 && answered != RLERROR {
            return Err(Violation::Type { asked, answered });
        }
        Ok(())
    }
}

/// The error number that a server answered. Above those that Linux has they would be taken for pointers there, and for
/// results elsewhere.
fn server_errno(ecode: u32) -> Errno {
    if (1..4096).contains(&ecode) { Errno(ecode) } else { Errno::EIO }
}

/// Was what was to be done within a `Tvisit` done? The message was checked.
fn is_done(message: Inner<'_>) -> bool {
    message.0.get(4).is_some_and(|&kind| kind != RLERROR)
}

/// The type number of the message within a `Tvisit`; 0 for any other request.
fn within(message: &Tmessage<'_>) -> u8 {
    match message {
        Tmessage::Tvisit { message, .. } => message.0.get(4).copied().unwrap_or_default(),
        _ => 0,
    }
}

/// What a server did that no server may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    UnknownChain,
    Malformed { asked: u8, error: WireError },
    Type { asked: u8, answered: u8 },
    Tag { asked: u8, sent: u16, received: u16 },
    Size { asked: u8, claimed: u32, written: u32 },
    Count { asked: u8, limit: u32, counted: u32 },
    Length { asked: u8 },
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = |kind: u8| Tmessage::name_of(kind).unwrap_or("a request");
        match *self {
            Self::UnknownChain => formatter.write_str("the device returned a chain that it did not have"),
            Self::Malformed { asked, error } => {
                write!(formatter, "the server's answer to {} is malformed: {error}", request(asked))
            }
            Self::Type { asked, answered } => {
                let asked = request(asked);
                match Rmessage::name_of(answered).or_else(|| Tmessage::name_of(answered)) {
                    Some(answered) => write!(formatter, "the server answered {answered} to {asked}"),
                    None => write!(formatter, "the server answered an unknown message, {answered}, to {asked}"),
                }
            }
            Self::Tag { asked, sent, received } => {
                write!(formatter, "the server answered to {} with tag {received} instead of {sent}", request(asked))
            }
            Self::Size { asked, claimed, written } => {
                let asked = request(asked);
                write!(formatter, "the server's answer to {asked} says that it has {claimed} bytes, and has {written}")
            }
            Self::Count { asked, limit, counted } => {
                write!(formatter, "the server answered {counted} to {}, which asked for {limit}", request(asked))
            }
            Self::Length { asked } => {
                write!(formatter, "the server's answer to {} is longer or shorter than it should be", request(asked))
            }
        }
    }
}

/// The request for what `stat(2)` tells.
pub(crate) fn getattr(fid: u32) -> Tmessage<'static> {
    Tmessage::Tgetattr { fid, request_mask: getattr::BASIC }
}

// What the replies say.

pub(crate) fn walked(reply: Rmessage<'_>) -> Option<Walked> {
    if let Rmessage::Rwalk { qids } = reply { Some(Walked::from_slice(&qids)) } else { None }
}

pub(crate) fn attributes(reply: Rmessage<'_>) -> Option<Attributes> {
    if let Rmessage::Rgetattr { attributes } = reply { Some(attributes) } else { None }
}

/// Of `Tlopen` and `Tlcreate`.
pub(crate) fn opened(reply: Rmessage<'_>) -> Option<(Qid, u32)> {
    match reply {
        Rmessage::Rlopen { qid, iounit } | Rmessage::Rlcreate { qid, iounit } => Some((qid, iounit)),
        _ => None,
    }
}

/// Of `Tmkdir` and `Tsymlink`.
pub(crate) fn made(reply: Rmessage<'_>) -> Option<Qid> {
    match reply {
        Rmessage::Rmkdir { qid } | Rmessage::Rsymlink { qid } => Some(qid),
        _ => None,
    }
}

/// Of a request that has no payload.
pub(crate) fn no_payload<'i, I>() -> Option<Transfer<'i, I>> {
    None
}

/// The most bytes of payload in one request: whole pages, if there is room for one.
fn payload_max(msize: u32) -> u32 {
    const PAGE: u32 = 4096;
    let room = msize - ninering_wire::IOHDRSZ; // `MIN_MSIZE` is more
    if room < PAGE { room } else { room / PAGE * PAGE }
}

/// The most that the reply to this request may count.
fn limit(message: &Tmessage<'_>) -> u32 {
    match message {
        Tmessage::Tread { count, .. } | Tmessage::Twrite { count, .. } | Tmessage::Treaddir { count, .. } => *count,
        Tmessage::Twalk { names, .. } | Tmessage::Tvisit { names, .. } => names.len() as u32, // at most 16
        _ => 0,
    }
}

/// Bytes of the longest reply to this request, without its payload.
fn reply_len(message: &Tmessage<'_>) -> u32 {
    const QIDS: usize = HEADER_LEN + 2;
    match message {
        Tmessage::Twalk { names, .. } => (QIDS + names.len() * Qid::LEN).max(RREAD_LEN) as u32, // of at most 16
        Tmessage::Tvisit { names, message, .. } => {
            let inner = reply_len_of(message.0.get(4).copied().unwrap_or_default());
            (QIDS + names.len() * Qid::LEN) as u32 + inner
        }
        message => reply_len_of(message.kind()),
    }
}

/// The same of the requests of a kind, but for those that carry names.
fn reply_len_of(kind: u8) -> u32 {
    const STRING: usize = 2;
    // An `Rversion` of another dialect should be understood well enough to say so.
    const VERSION: usize = 4 + STRING + 64;
    const GETATTR: usize = 8 + Qid::LEN + 3 * 4 + 15 * 8;
    const STATFS: usize = 2 * 4 + 6 * 8 + 4;
    let body = match kind {
        // Tstatfs
        8 => STATFS,
        // Tlopen, Tlcreate
        12 | 14 => Qid::LEN + 4,
        // Tsymlink, Tmkdir, Tattach
        16 | 72 | 104 => Qid::LEN,
        // Treadlink
        22 => STRING + PATH_MAX,
        // Tgetattr
        24 => GETATTR,
        // Tversion
        100 => VERSION,
        _ => 0,
    };
    // Any request may be answered by an `Rlerror`, which is as long as an `Rread` without its payload.
    (HEADER_LEN + body).max(RREAD_LEN) as u32 // about 4 KiB at the most
}

//! A session with a server: requests and their replies, tags, fids (`net/9p`).
//!
//! Nothing that the server says is believed. `Slot::check_frame` looks at each reply when it comes in: that it is
//! as long as it says, and the answer to what was asked. `Answer::message` checks the rest when the reply is
//! looked at: that it decodes to its last byte, and that its counts are not above those asked for. A server that
//! fails either breaks the session, for good and with a reason that says how.

mod answer;
mod cancel;
mod fids;
mod flight;
mod ledger;
mod locks;
mod recover;
mod reply;
mod requests;
mod restore;
mod send;
mod settle;
mod slot;
mod visit;
mod volley;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use ninering_wire::{Errno, NOTAG, Qid};
use smallvec::SmallVec;

pub use self::{fids::Fid, recover::Recovered};
use self::{
    fids::Fids,
    ledger::Ledger,
    recover::Link,
    slot::{Slot, SlotState},
};
pub(crate) use self::{
    recover::Writing,
    requests::{attributes, getattr, made, opened},
    send::{Refusal, no_payload},
    slot::{Cleanup, Exchange},
    visit::Visited,
};
use crate::{
    error::Error,
    executor::Task,
    ring::{Extent, Ring},
};
pub(crate) use answer::server_errno;
/// The least `msize` that is of use, which is also Linux's.
pub const MIN_MSIZE: u32 = 4096;
/// The fids below this are allocated here; those from here up are for the users of [`client`](crate::client).
pub const FIRST_FOREIGN_FID: u32 = 0x8000_0000;

/// How far a `Twalk` came. Most are of one name or two.
pub type Walked = SmallVec<[Qid; 2]>;

/// The task of requests that nobody waits for.
const NOBODY: Task = Task::MAX;
/// So many buffers for directory entries are kept when they are not in use.
const MOST_SPARE_BUFFERS: usize = 4;

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
    /// The server is asked for no extension.
    plain: Cell<bool>,
    immediate: Cell<bool>,
    /// The loss of the connection does not end the session.
    recovers: Cell<bool>,
    recovered: Cell<Recovered>,
    /// The operation that makes the fids again, if there is one.
    restorer: Cell<Task>,
    /// How often the fids could not all be made again since the connection was lost, for the server lacked something.
    shortages: Cell<u32>,
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
    /// Operations that were cancelled, and have not come to their end.
    cancelled: Vec<Task>,
    /// There are slots whose flush is still to be sent.
    flushes_wanted: bool,
    /// Fids to be clunked as soon as there is room.
    to_clunk: Vec<u32>,
    fids: Fids,
    link: Link,
    /// How the fids were made, where that needs to be known.
    ledger: Option<Box<Ledger>>,
    /// Memory for directory entries that is not in use.
    buffers: Vec<Extent>,
    broken: Option<Rc<str>>,
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
            plain: Cell::new(false),
            immediate: Cell::new(false),
            recovers: Cell::new(false),
            recovered: Cell::default(),
            restorer: Cell::new(NOBODY),
            shortages: Cell::new(0),
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
        // What was sent in one flight could not be told apart again.
        self.ordered.get() && !self.recovers.get() || self.visits.get()
    }

    /// Says whether the server is to be asked for 9P2000.L alone, since it does not even refuse what it does not know.
    pub fn set_plain(&self, plain: bool) {
        self.plain.set(plain);
    }

    /// Does the server know `Tvisit`?
    pub(crate) fn knows_visits(&self) -> bool {
        self.visits.get()
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

    /// Is there something to take that has come back already?
    pub(crate) fn holds_used(&self) -> bool {
        self.ring.holds_used()
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
            self.flush_waiting();
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
}

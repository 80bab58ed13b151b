//! The ring between a client and a server that lies, and the region.

use std::{
    cell::{Cell, Ref, RefCell, RefMut},
    collections::VecDeque,
    rc::Rc,
};

use ninering_client::ring::{AddError, Direction, Extent, Ring, Transfer, Used};
use ninering_iter::{self as iter, IovIter, PAGE_SIZE, Segment};
use ninering_wire::{Errno, HEADER_LEN, Header, Message, NOTAG, RREAD_LEN, Tmessage};

use crate::{answer::Answer, script::Mode, server::Server};

/// The most bytes of header, as the host has it.
const MAX_HEADER: u32 = 8192;
/// A client that sends more requests than this in one session does not come to an end.
const MOST_REQUESTS: u32 = 1 << 20;

/// `Tflush` and the answer to it.
const TFLUSH: u8 = 108;
const RFLUSH: u8 = 109;

/// A ring; clones are the same one.
#[derive(Clone)]
pub(crate) struct LyingRing(Rc<State>);

struct State {
    server: RefCell<Server>,
    size: u16,
    /// It answers within a kick.
    immediate: bool,
    /// A chain that comes back with nothing says that the connection is lost.
    recovers: bool,
    /// Requests without payload are taken whether there is room or not, and wait.
    deferring: bool,
    answers: RefCell<VecDeque<Answer>>,
    region: RefCell<Vec<u8>>,
    /// What the client has allocated.
    own: RefCell<Vec<Extent>>,
    /// What was lent to it.
    lent: RefCell<Vec<Extent>>,
    waiting: RefCell<VecDeque<Chain>>,
    /// What the device has, those that it was told of first.
    chains: RefCell<Vec<Chain>>,
    told: Cell<usize>,
    used: RefCell<VecDeque<(Used, Vec<Extent>)>>,
    /// So many requests with payload are refused.
    refuse: Cell<u8>,
    requests: Cell<u32>,
    /// No `Tread` was answered by a lie yet.
    reads_are_true: Cell<bool>,
    /// There is no connection.
    is_lost: Cell<bool>,
}

struct Chain {
    id: u32,
    request: Vec<u8>,
    reply_len: u32,
    extents: Vec<Extent>,
    direction: Direction,
}

impl Chain {
    /// As it is sent.
    fn tag(&self) -> &[u8] {
        &self.request[5..HEADER_LEN]
    }
}

/// Where a transfer's bytes come from or go to.
pub(crate) struct Buffer(RefCell<IovIter>);

/// How a buffer is made.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) kind: iter::Kind,
    /// Bytes of each segment; whole pages are made of them where the kind asks for that.
    pub(crate) segments: Vec<u32>,
}

fn overlap(one: &Extent, other: &Extent) -> bool {
    one.offset < other.offset + u64::from(other.len) && other.offset < one.offset + u64::from(one.len)
}

fn contains(outer: &Extent, inner: &Extent) -> bool {
    outer.offset <= inner.offset && inner.offset + u64::from(inner.len) <= outer.offset + u64::from(outer.len)
}

impl LyingRing {
    pub(crate) fn new(server: Server, mode: &Mode) -> Self {
        Self(Rc::new(State {
            server: RefCell::new(server),
            size: mode.queue_size(),
            immediate: mode.immediate,
            recovers: mode.recovers(),
            deferring: mode.deferring,
            answers: RefCell::default(),
            region: RefCell::default(),
            own: RefCell::default(),
            lent: RefCell::default(),
            waiting: RefCell::default(),
            chains: RefCell::default(),
            told: Cell::new(0),
            used: RefCell::default(),
            refuse: Cell::new(0),
            requests: Cell::new(0),
            reads_are_true: Cell::new(true),
            is_lost: Cell::new(false),
        }))
    }

    pub(crate) fn server(&self) -> RefMut<'_, Server> {
        self.0.server.borrow_mut()
    }

    /// The server's answer to a request to come.
    pub(crate) fn answer(&self, answer: Answer) {
        self.0.answers.borrow_mut().push_back(answer);
    }

    /// From now on it answers as it should.
    pub(crate) fn repent(&self) {
        self.0.answers.borrow_mut().clear();
        self.0.refuse.set(0);
    }

    pub(crate) fn refuse(&self, count: u8) {
        self.0.refuse.set(count);
    }

    /// Requests that are not answered, or whose answer was not taken.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.waiting.borrow().len() + self.0.chains.borrow().len() + self.0.used.borrow().len()
    }

    /// Is what was read what the server has?
    pub(crate) fn reads_are_true(&self) -> bool {
        self.0.reads_are_true.get()
    }

    /// Extents that the client has allocated.
    pub(crate) fn allocated(&self) -> usize {
        self.0.own.borrow().len()
    }

    /// The device returns a chain, perhaps of nobody's.
    pub(crate) fn forge(&self, id: u32, header: Vec<u8>) {
        if self.0.recovers && header.is_empty() {
            self.lose();
        }
        let written = header.len() as u32;
        self.0.used.borrow_mut().push_back((Used { id, written, header: header.into() }, Vec::new()));
    }

    /// Answers one of the requests that the device was told of; tells whether there was one.
    pub(crate) fn serve(&self, which: usize) -> bool {
        let told = self.0.told.get();
        if told == 0 {
            return false;
        }
        let index = if self.server().ordered && which < 230 { 0 } else { which % told };
        // A server that says that it keeps the order, and does not, makes of its fids what it will.
        self.server().keeps_order &= index == 0;
        let Some(reply) = self.reply_to(&self.0.chains.borrow()[index]) else { return true };
        let chain = self.0.chains.borrow_mut().remove(index);
        self.0.told.set(told - 1);
        self.flush(&chain, &reply);
        let is_lost = self.0.recovers && reply.is_empty();
        self.return_chain(chain, &reply);
        if is_lost {
            self.lose();
        }
        true
    }

    fn reply_to(&self, chain: &Chain) -> Option<Vec<u8>> {
        let answer = self.0.answers.borrow_mut().pop_front().unwrap_or(Answer::Plausible(0));
        let header = Header::decode(&chain.request).expect("checked");
        let (message, _) = Tmessage::decode_body(header.kind, &chain.request[HEADER_LEN..]).expect("checked");
        if matches!(message, Tmessage::Tread { .. }) && !matches!(answer, Answer::Plausible(_) | Answer::Late) {
            self.0.reads_are_true.set(false);
        }
        let mut reply = answer.bytes(&self.server(), header.tag, &message)?;
        // What there is no space for does not come.
        let written = if chain.direction == Direction::Dest { chain.extents.as_slice() } else { &[] };
        let space = written.iter().map(|extent| extent.len as usize).sum::<usize>();
        reply.truncate(chain.reply_len as usize + space);
        self.server().follow(&message, &reply);
        Some(reply)
    }

    /// What is flushed, and was not answered, comes back with nothing, before the answer to the flush.
    fn flush(&self, flush: &Chain, reply: &[u8]) {
        let (TFLUSH, Some(RFLUSH)) = (flush.request[4], reply.get(4).copied()) else { return };
        let told = self.0.told.get();
        let place = self.0.chains.borrow()[..told].iter().position(|chain| *chain.tag() == flush.request[HEADER_LEN..]);
        if let Some(place) = place {
            let victim = self.0.chains.borrow_mut().remove(place);
            self.0.told.set(told - 1);
            self.return_chain(victim, &[]);
        }
    }

    /// The connection is lost: what is in flight comes back with nothing, now and until there is [another](Self::connect).
    pub(crate) fn lose(&self) {
        self.0.is_lost.set(true);
        self.server().lose();
        self.return_unanswered();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.0.is_lost.get()
    }

    pub(crate) fn connect(&self) {
        self.0.is_lost.set(false);
    }

    fn return_unanswered(&self) {
        let chains = self.0.chains.take().into_iter().chain(self.0.waiting.take());
        chains.for_each(|chain| self.return_chain(chain, &[]));
        self.0.told.set(0);
    }

    fn return_chain(&self, chain: Chain, reply: &[u8]) {
        let (header, mut payload) = reply.split_at(reply.len().min(chain.reply_len as usize));
        let mut written = header.len();
        if chain.direction == Direction::Dest {
            for extent in &chain.extents {
                let (now, rest) = payload.split_at(payload.len().min(extent.len as usize));
                self.0.region.borrow_mut()[extent.offset as usize..][..now.len()].copy_from_slice(now);
                written += now.len();
                payload = rest;
            }
        }
        let used = Used { id: chain.id, written: written as u32, header: header.to_vec().into() };
        self.0.used.borrow_mut().push_back((used, chain.extents));
    }

    /// Memory of the region, at the start of a page.
    fn take(&self, len: u32) -> Extent {
        let mut region = self.0.region.borrow_mut();
        // A page in between, so that no two of them are neighbours.
        let offset = (region.len() as u64 + 1).next_multiple_of(PAGE_SIZE);
        region.resize(offset as usize + len as usize, 0xee);
        Extent { offset, len }
    }

    /// Lends a buffer, in which `fill` says what each byte is; tells where its bytes are.
    pub(crate) fn lend(&self, layout: &Layout, source: bool, fill: impl Fn(u64) -> u8) -> (Buffer, Vec<Extent>) {
        let mut segments = Vec::new();
        let mut extents = Vec::new();
        let mut done = 0;
        for &len in &layout.segments {
            let whole = matches!(layout.kind, iter::Kind::Folioq | iter::Kind::Xarray);
            let extent = self.take(if whole { len.next_multiple_of(PAGE_SIZE as u32) } else { len });
            let mut region = self.0.region.borrow_mut();
            for byte in &mut region[extent.offset as usize..][..extent.len as usize] {
                if source {
                    *byte = fill(done);
                }
                done += 1;
            }
            segments.push(Segment { base: extent.offset, len: extent.len });
            if extent.len > 0 {
                extents.push(extent);
            }
        }
        let direction = if source { iter::Direction::Source } else { iter::Direction::Dest };
        let iter = IovIter::create(layout.kind, direction, segments, done).expect("a good iter");
        self.0.lent.borrow_mut().extend(&extents);
        (Buffer(RefCell::new(iter)), extents)
    }

    /// What was lent is given back: no request has it any more.
    pub(crate) fn take_back(&self, extents: &[Extent], is_broken: bool) {
        for extent in extents {
            let mut lent = self.0.lent.borrow_mut();
            let place = lent.iter().position(|lent| lent == extent).expect("it was lent");
            lent.swap_remove(place);
            assert!(is_broken || !self.is_in_flight(extent), "an operation has ended before its requests");
        }
    }

    pub(crate) fn byte(&self, extents: &[Extent], mut at: u64) -> u8 {
        for extent in extents {
            if at < extent.len.into() {
                return self.0.region.borrow()[(extent.offset + at) as usize];
            }
            at -= u64::from(extent.len);
        }
        panic!("the operation counts more bytes than it was given");
    }

    fn is_in_flight(&self, extent: &Extent) -> bool {
        let chains = self.0.chains.borrow();
        let used = self.0.used.borrow();
        let mut all = chains.iter().flat_map(|chain| &chain.extents).chain(used.iter().flat_map(|(_, held)| held));
        all.any(|held| overlap(held, extent))
    }

    fn is_leased(&self, extent: &Extent) -> bool {
        self.0.own.borrow().iter().chain(&*self.0.lent.borrow()).any(|lease| contains(lease, extent))
    }

    fn descriptors(&self) -> usize {
        self.0.chains.borrow().iter().map(|chain| 2 + chain.extents.len()).sum::<usize>()
            + self.0.used.borrow().iter().map(|(_, held)| 2 + held.len()).sum::<usize>()
    }

    /// Checks that the request is one, and may be sent now.
    fn check(&self, id: u32, header: &[u8], reply_len: u32, payload: u64) {
        self.0.requests.set(self.0.requests.get() + 1);
        assert!(self.0.requests.get() < MOST_REQUESTS, "requests without end");
        assert!(header.len() <= MAX_HEADER as usize && reply_len <= MAX_HEADER);
        assert!(reply_len as usize >= RREAD_LEN, "an error would not fit the reply's header");
        let Header { size, kind, tag } = Header::decode(header).expect("a message");
        let (message, rest) = Tmessage::decode_body(kind, &header[HEADER_LEN..]).expect("a request");
        assert!(rest.is_empty(), "there is something behind {message:?}");
        assert_eq!(u64::from(size), header.len() as u64 + payload, "the size of {message:?}");
        assert_eq!(u64::from(message.payload_len()), payload);
        assert_eq!(tag == NOTAG, matches!(message, Tmessage::Tversion { .. }));
        let chains = self.0.chains.borrow();
        let waiting = self.0.waiting.borrow();
        for chain in chains.iter().chain(&*waiting) {
            assert!(chain.id != id && chain.tag() != tag.to_le_bytes(), "the tag {tag} is in use");
            let is_flushed = chain.request[4] == TFLUSH && chain.request[HEADER_LEN..] == tag.to_le_bytes();
            assert!(!is_flushed, "the tag {tag} is being flushed");
        }
        if let Tmessage::Tflush { oldtag } = message {
            let used = self.0.used.borrow();
            let mut ids =
                chains.iter().chain(&*waiting).map(|chain| chain.id).chain(used.iter().map(|(used, _)| used.id));
            assert!(ids.any(|id| id == oldtag.into()), "a flush of what was not asked");
        }
        // What goes to where nobody is, nobody sees.
        if !self.is_lost() {
            self.server().check(size, &message);
        }
    }

    /// Gives the device what waits, as far as there is room.
    fn hand_over(&self) {
        if self.is_lost() {
            self.return_unanswered();
        }
        while !self.0.waiting.borrow().is_empty() && self.descriptors() + 2 <= self.0.size.into() {
            let chain = self.0.waiting.borrow_mut().pop_front();
            self.0.chains.borrow_mut().extend(chain);
        }
    }
}

impl Ring for LyingRing {
    type Iter = Buffer;

    fn queue_size(&self) -> u16 {
        self.0.size
    }

    fn max_header(&self) -> u32 {
        MAX_HEADER
    }

    fn add(
        &self,
        id: u32,
        header: &[u8],
        reply_len: u32,
        payload: Option<Transfer<'_, Buffer>>,
    ) -> Result<(), AddError> {
        let mut request = header.to_vec();
        let Some(Transfer { iter, direction, bytes, max_segments }) = payload else {
            if self.0.deferring {
                self.check(id, header, reply_len, 0);
                let chain = Chain { id, request, reply_len, extents: Vec::new(), direction: Direction::Source };
                self.0.waiting.borrow_mut().push_back(chain);
                return Ok(());
            }
            if self.descriptors() + 2 > self.0.size.into() {
                return Err(AddError::Full);
            }
            self.check(id, header, reply_len, 0);
            let chain = Chain { id, request, reply_len, extents: Vec::new(), direction: Direction::Source };
            self.0.chains.borrow_mut().push(chain);
            return Ok(());
        };
        self.hand_over();
        if !self.0.waiting.borrow().is_empty() {
            return Err(AddError::Full);
        }
        if let Some(left) = self.0.refuse.get().checked_sub(1) {
            self.0.refuse.set(left);
            return Err(AddError::Refused(Errno(14)));
        }
        let mut extents: Vec<Extent> = Vec::new();
        let extracted = iter.0.borrow().extract(bytes, max_segments, |iter::Extent { offset, len }| {
            extents.push(Extent { offset, len });
        });
        if extracted.bytes < bytes {
            return Err(AddError::Short(extracted.bytes));
        }
        assert!(2 + extents.len() <= self.0.size.into(), "more segments than the queue has descriptors");
        if self.descriptors() + 2 + extents.len() > self.0.size.into() {
            return Err(AddError::Full);
        }
        self.check(id, header, reply_len, if direction == Direction::Source { bytes } else { 0 });
        for extent in &extents {
            assert!(self.is_leased(extent), "{extent:?} was not lent");
            assert!(!self.is_in_flight(extent), "{extent:?} is in flight");
        }
        if direction == Direction::Source {
            let region: Ref<'_, Vec<u8>> = self.0.region.borrow();
            extents.iter().for_each(|at| request.extend(&region[at.offset as usize..][..at.len as usize]));
        }
        iter.0.borrow_mut().advance(bytes).expect("as many as were extracted");
        self.0.chains.borrow_mut().push(Chain { id, request, reply_len, extents, direction });
        Ok(())
    }

    fn revert(&self, iter: &Buffer, bytes: u64) -> bool {
        iter.0.borrow_mut().revert(bytes).is_ok()
    }

    fn read_back(&self, iter: &Buffer, back: u64, len: u32) -> Option<Vec<u8>> {
        let mut iter = iter.0.borrow().clone();
        iter.revert(back).expect("so much was transferred");
        let mut read = Vec::new();
        iter.extract(len.into(), u32::MAX, |iter::Extent { offset, len }| {
            read.extend(self.read(Extent { offset, len }).expect("the client's to read"));
        });
        Some(read)
    }

    fn kick(&self) -> Result<(), &'static str> {
        self.hand_over();
        self.0.told.set(self.0.chains.borrow().len());
        // Who is late is so within this kick.
        let is_one_less = |before: usize| self.serve(0) && self.0.told.get() < before;
        while self.0.immediate && is_one_less(self.0.told.get()) {}
        Ok(())
    }

    fn used(&self, mut take: impl FnMut(Used)) -> Result<(), &'static str> {
        if self.is_lost() {
            self.return_unanswered();
        }
        while let Some((used, _)) = { self.0.used.borrow_mut().pop_front() } {
            take(used);
        }
        if !self.0.waiting.borrow().is_empty() {
            self.hand_over();
            self.0.told.set(self.0.chains.borrow().len());
        }
        Ok(())
    }

    fn allocate(&self, len: u32) -> Option<Extent> {
        assert!(len > 0);
        let extent = self.take(len);
        self.0.own.borrow_mut().push(extent);
        Some(extent)
    }

    fn release(&self, allocation: Extent) {
        let mut own = self.0.own.borrow_mut();
        let place = own.iter().position(|own| *own == allocation).expect("an allocation, given back once");
        own.swap_remove(place);
        assert!(!self.is_in_flight(&allocation), "an allocation is given back that a request has");
    }

    fn read(&self, source: Extent) -> Option<Vec<u8>> {
        assert!(self.is_leased(&source) && !self.is_in_flight(&source), "{source:?} is not the client's to read");
        Some(self.0.region.borrow()[source.offset as usize..][..source.len as usize].to_vec())
    }

    fn iter_over(&self, allocation: Extent) -> Option<Buffer> {
        assert!(self.is_leased(&allocation));
        let segment = Segment { base: allocation.offset, len: allocation.len };
        let iter = IovIter::create(iter::Kind::Kvec, iter::Direction::Dest, vec![segment], allocation.len.into());
        iter.ok().map(|iter| Buffer(RefCell::new(iter)))
    }
}

//! A ring in memory.

use std::{
    cell::{Cell, Ref, RefCell, RefMut},
    collections::VecDeque,
    rc::Rc,
};

use ninering_client::ring::{AddError, Direction, Extent, Ring, Transfer, Used};

use super::Server;

/// Makes of a request and the honest reply to it the reply that is sent.
type Lie = Box<dyn FnMut(&[u8], Vec<u8>) -> Vec<u8>>;

/// A ring that leads to a server in the same memory; clones are the same ring.
#[derive(Clone)]
pub struct MemoryRing(Rc<State>);

struct State {
    server: RefCell<Server>,
    size: u16,
    region: RefCell<Vec<u8>>,
    chains: RefCell<VecDeque<Chain>>,
    used: RefCell<VecDeque<Used>>,
    kicks: Cell<u32>,
    /// Chains wait until [`MemoryRing::serve`] is called.
    hold: Cell<bool>,
    lie: RefCell<Option<Lie>>,
    /// The requests that were served, by name.
    log: RefCell<Vec<&'static str>>,
    allocated: Cell<usize>,
    /// Chooses which chain [`MemoryRing::serve_any`] serves.
    order: RefCell<VecDeque<usize>>,
    refuse_segments_above: Cell<u64>,
    was_kicked: Cell<usize>,
    /// Before or after which of the requests to come the server is killed.
    cuts: RefCell<VecDeque<Cut>>,
    /// There is no connection.
    is_cut: Cell<bool>,
    /// What tells apart two clients that write the same.
    on_cut: RefCell<Option<OnCut>>,
}

/// What is done to the server when the connection is cut.
type OnCut = Box<dyn FnMut(&mut Server)>;

/// When the server is killed.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// After so many requests were answered.
    pub after: usize,
    /// The next one is done before, but its answer is lost.
    pub is_done: bool,
}

struct Chain {
    id: u32,
    request: Vec<u8>,
    reply_len: usize,
    into: Vec<Extent>,
    descriptors: usize,
}

/// An iter over buffers of the region.
#[derive(Debug)]
pub struct MemoryIter {
    pub extents: Vec<Extent>,
    pub position: Cell<u64>,
}

impl MemoryIter {
    fn take(&self, mut bytes: u64) -> Vec<Extent> {
        let mut skip = self.position.get();
        let mut taken = Vec::new();
        for &Extent { offset, len } in &self.extents {
            let skipped = skip.min(len.into());
            skip -= skipped;
            let len = (u64::from(len) - skipped).min(bytes);
            bytes -= len;
            if len > 0 {
                taken.push(Extent { offset: offset + skipped, len: len as u32 });
            }
        }
        assert_eq!(bytes, 0, "the iter holds too little");
        taken
    }
}

impl MemoryRing {
    pub fn new(server: Server, size: u16) -> Self {
        Self(Rc::new(State {
            server: RefCell::new(server),
            size,
            region: RefCell::default(),
            chains: RefCell::default(),
            used: RefCell::default(),
            kicks: Cell::new(0),
            hold: Cell::new(false),
            lie: RefCell::default(),
            log: RefCell::default(),
            allocated: Cell::new(0),
            order: RefCell::default(),
            refuse_segments_above: Cell::new(u64::MAX),
            was_kicked: Cell::new(0),
            cuts: RefCell::default(),
            is_cut: Cell::new(false),
            on_cut: RefCell::default(),
        }))
    }

    /// From now on chains wait until they are served.
    pub fn hold(&self) {
        self.0.hold.set(true);
    }

    /// Serve chains in the order that these numbers choose.
    pub fn shuffle(&self, order: Vec<usize>) {
        self.hold();
        *self.0.order.borrow_mut() = order.into();
    }

    pub fn lie(&self, lie: impl FnMut(&[u8], Vec<u8>) -> Vec<u8> + 'static) {
        *self.0.lie.borrow_mut() = Some(Box::new(lie));
    }

    /// The server is killed at these points, each counted from the one before.
    pub fn cut(&self, cuts: impl IntoIterator<Item = Cut>) {
        *self.0.cuts.borrow_mut() = cuts.into_iter().collect();
    }

    /// Happens whenever the server is killed, before another one is there.
    pub fn on_cut(&self, act: impl FnMut(&mut Server) + 'static) {
        *self.0.on_cut.borrow_mut() = Some(Box::new(act));
    }

    pub fn is_cut(&self) -> bool {
        self.0.is_cut.get()
    }

    /// There is another connection.
    pub fn connect(&self) {
        self.0.is_cut.set(false);
    }

    /// Is the server killed before this request is answered? Then all that is in flight comes back unanswered.
    fn is_cut_before(&self, request: &[u8]) -> bool {
        let mut cuts = self.0.cuts.borrow_mut();
        match cuts.front_mut() {
            None => false,
            Some(Cut { after: after @ 1.., .. }) => {
                *after -= 1;
                false
            }
            Some(&mut Cut { is_done, .. }) => {
                cuts.pop_front();
                let mut server = self.0.server.borrow_mut();
                if is_done {
                    server.answer(request);
                }
                server.restart();
                if let Some(act) = &mut *self.0.on_cut.borrow_mut() {
                    act(&mut server);
                }
                self.0.is_cut.set(true);
                true
            }
        }
    }

    /// Returns all that is in flight with nothing written.
    fn return_all(&self) {
        self.0.was_kicked.set(0);
        for Chain { id, .. } in self.0.chains.borrow_mut().drain(..) {
            self.return_chain(Used { id, written: 0, header: Vec::new().into() });
        }
    }

    pub fn server(&self) -> RefMut<'_, Server> {
        self.0.server.borrow_mut()
    }

    pub fn in_flight(&self) -> usize {
        self.0.chains.borrow().len()
    }

    /// Chains that the device has, or has returned and that were not taken.
    pub fn leases(&self) -> usize {
        self.0.chains.borrow().len() + self.0.used.borrow().len()
    }

    pub fn kicks(&self) -> u32 {
        self.0.kicks.get()
    }

    pub fn allocated(&self) -> usize {
        self.0.allocated.get()
    }

    /// The most bytes that fit the limit on segments.
    pub fn fit_at_most(&self, bytes: u64) {
        self.0.refuse_segments_above.set(bytes);
    }

    /// The requests served since the last call.
    pub fn take_log(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.log.borrow_mut())
    }

    /// Serves the chain at `index` of those that the device was told of.
    pub fn serve(&self, index: usize) {
        let chain = self.0.chains.borrow_mut().remove(index).expect("there is such a chain");
        self.0.was_kicked.set(self.0.was_kicked.get() - 1);
        if self.is_cut_before(&chain.request) {
            self.0.chains.borrow_mut().push_back(chain);
            return self.return_all();
        }
        self.0.log.borrow_mut().push(Server::name_of(&chain.request));
        let honest = self.0.server.borrow_mut().answer(&chain.request);
        let reply = match &mut *self.0.lie.borrow_mut() {
            Some(lie) => lie(&chain.request, honest),
            None => honest,
        };
        // An `Rflush` brings the chain back that it is about, with nothing written.
        if let [_, _, _, _, 108, _, _, low, high] = chain.request[..]
            && reply.get(4) == Some(&109)
        {
            let is_victim = |other: &Chain| other.request[5..7] == [low, high];
            let victim = self.0.chains.borrow().iter().position(is_victim);
            if let Some(victim) = victim.and_then(|place| {
                self.0.was_kicked.set(self.0.was_kicked.get() - usize::from(place < self.0.was_kicked.get()));
                self.0.chains.borrow_mut().remove(place)
            }) {
                self.0.used.borrow_mut().push_back(Used { id: victim.id, written: 0, header: Vec::new().into() });
            }
        }
        let header = reply[..reply.len().min(chain.reply_len)].to_vec();
        let mut payload = &reply[header.len()..];
        let mut written = header.len();
        for extent in chain.into {
            let (now, rest) = payload.split_at(payload.len().min(extent.len as usize));
            self.0.region.borrow_mut()[extent.offset as usize..][..now.len()].copy_from_slice(now);
            written += now.len();
            payload = rest;
        }
        self.0.used.borrow_mut().push_back(Used { id: chain.id, written: written as u32, header: header.into() });
    }

    /// Serves one of the chains that the device was told of. Returns whether there was one.
    pub fn serve_any(&self) -> bool {
        let known = self.0.was_kicked.get();
        if known > 0 {
            let choice = self.0.order.borrow_mut().pop_front().unwrap_or(0);
            self.serve(choice % known);
        }
        known > 0
    }

    /// The device returns a chain that it does not have.
    pub fn return_chain(&self, used: Used) {
        self.0.used.borrow_mut().push_back(used);
    }

    fn extend(&self, bytes: &[u8]) -> Extent {
        let mut region = self.0.region.borrow_mut();
        let offset = region.len() as u64;
        region.extend_from_slice(bytes);
        Extent { offset, len: bytes.len() as u32 }
    }

    /// A buffer to be read into.
    pub fn buffer(&self, bytes: u32) -> (MemoryIter, Extent) {
        let extent = self.extend(&vec![0xee; bytes as usize]);
        (MemoryIter { extents: vec![extent], position: Cell::new(0) }, extent)
    }

    pub fn filled_buffer(&self, bytes: &[u8]) -> MemoryIter {
        MemoryIter { extents: vec![self.extend(bytes)], position: Cell::new(0) }
    }

    pub fn bytes(&self, extent: Extent) -> Ref<'_, [u8]> {
        Ref::map(self.0.region.borrow(), |region| &region[extent.offset as usize..][..extent.len as usize])
    }
}

impl Ring for MemoryRing {
    type Iter = MemoryIter;

    fn queue_size(&self) -> u16 {
        self.0.size
    }

    fn max_header(&self) -> u32 {
        8192
    }

    fn add(
        &self,
        id: u32,
        header: &[u8],
        reply_len: u32,
        payload: Option<Transfer<'_, MemoryIter>>,
    ) -> Result<(), AddError> {
        assert!(header.len() <= 8192 && reply_len <= 8192);
        let mut request = header.to_vec();
        let mut into = Vec::new();
        let mut descriptors = 2;
        if let Some(Transfer { iter, direction, bytes, .. }) = &payload {
            if *bytes > self.0.refuse_segments_above.get() {
                return Err(AddError::Short(self.0.refuse_segments_above.get()));
            }
            let extents = iter.take(*bytes);
            descriptors += extents.len();
            match direction {
                Direction::Source => extents.iter().for_each(|&extent| request.extend(&*self.bytes(extent))),
                Direction::Dest => into = extents,
            }
        }
        let taken: usize = self.0.chains.borrow().iter().map(|chain| chain.descriptors).sum();
        if taken + descriptors > self.0.size.into() {
            return Err(AddError::Full);
        }
        if let Some(Transfer { iter, bytes, .. }) = payload {
            iter.position.set(iter.position.get() + bytes);
        }
        let reply_len = reply_len as usize;
        self.0.chains.borrow_mut().push_back(Chain { id, request, reply_len, into, descriptors });
        Ok(())
    }

    fn revert(&self, iter: &MemoryIter, bytes: u64) -> bool {
        iter.position.set(iter.position.get() - bytes);
        true
    }

    fn read_back(&self, iter: &MemoryIter, back: u64, len: u32) -> Option<Vec<u8>> {
        let place = iter.position.replace(iter.position.get() - back);
        let extents = iter.take(len.into());
        iter.position.set(place);
        Some(extents.iter().flat_map(|&extent| self.bytes(extent).to_vec()).collect())
    }

    fn kick(&self) -> Result<(), &'static str> {
        self.0.kicks.set(self.0.kicks.get() + 1);
        if self.is_cut() {
            self.return_all();
            return Ok(());
        }
        self.0.was_kicked.set(self.in_flight());
        while !self.0.hold.get() && self.serve_any() {}
        Ok(())
    }

    fn used(&self, mut take: impl FnMut(Used)) -> Result<(), &'static str> {
        while let Some(used) = { self.0.used.borrow_mut().pop_front() } {
            take(used);
        }
        Ok(())
    }

    fn allocate(&self, len: u32) -> Option<Extent> {
        self.0.allocated.set(self.0.allocated.get() + 1);
        Some(self.extend(&vec![0; len as usize]))
    }

    fn release(&self, _: Extent) {
        self.0.allocated.set(self.0.allocated.get() - 1);
    }

    fn read(&self, source: Extent) -> Option<Vec<u8>> {
        Some(self.bytes(source).to_vec())
    }

    fn iter_over(&self, allocation: Extent) -> Option<MemoryIter> {
        Some(MemoryIter { extents: vec![allocation], position: Cell::new(0) })
    }
}

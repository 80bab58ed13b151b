//! Leases: what of the region a component may use, and which of it a request in flight holds.
//!
//! A component is leased its own allocations and the application buffers that it is lent for an operation. It names
//! memory by [`Extent`]s, which are checked here each time that they are used. The extents of a request are *in
//! flight* from [`Leases::begin`] to [`Leases::end`]: meanwhile no other request can use any byte of them, and their
//! memory is not given to anyone else, whatever becomes of the lease.
//!
//! An extent may span several leases that are neighbours in the region, as an iter joins them.
//!
//! # What becomes of a lease
//!
//! | state | allocated, lent | a request begins | its last request ends | revoked | released |
//! | --- | --- | --- | --- | --- | --- |
//! | [free](State::Free) | filled | - | | free | - |
//! | [filled](State::Filled) | - | in flight | | free | free |
//! | [in flight](State::InFlight) | - | in flight | returned | revoked | - |
//! | [returned](State::Returned) | - | in flight | | free | free |
//! | [revoked](State::Revoked) | - | - | free | revoked | - |
//!
//! A dash is refused. Nothing else leads from one state to another: a request ends when its chain is taken from the used
//! ring, or when the queue is [reset](crate::virtqueue::Driver::reset) after the device has let go of it; a component or
//! an application that goes away revokes, and waits. So the memory of a lease is the component's to read and write when
//! filled or returned, and the device's, as far as requests hold it, when in flight or revoked; what is free is neither's.

mod state;

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
    sync::Arc,
};

use smallvec::SmallVec;

pub use self::state::{Event, State};
use crate::region::{Extent, NumberHasher, PAGE, Region, pages_of};

/// Why an extent or an allocation is refused: `memory-error` of the WIT interface `memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// It is empty, overflows, or reaches past the region's end.
    #[error("the extent is empty or reaches past the region's end")]
    OutOfRange,
    /// It is not leased to this component, or not any more.
    #[error("the extent is not leased to this component")]
    NotLeased,
    /// It overlaps an extent that a request in flight holds.
    #[error("the extent overlaps one that is in flight")]
    InFlight,
    /// The region, or this component's share of it, is used up.
    #[error("no space is left in the region")]
    NoSpace,
    /// More bytes at a time than are taken.
    #[error("more bytes than are taken at a time")]
    TooLarge,
}

/// What a lease is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An allocation of the component's own.
    Own,
    /// A buffer lent to it.
    Lent,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    len: u32,
    kind: Kind,
    state: State,
    /// How many extents of requests are in it, or reach into it.
    holders: u32,
}

impl Lease {
    /// One that is new.
    fn filled(len: u32, kind: Kind) -> Self {
        Self { len, kind, state: State::Filled, holders: 0 }
    }

    /// Goes where the event leads. Tells whether that was possible.
    fn take(&mut self, event: Event) -> bool {
        let after = self.state.after(event);
        self.state = after.unwrap_or(self.state);
        after.is_some()
    }
}

/// The leases of one component.
///
/// When it is dropped, the component's own allocations go back to the region, but for those in flight: their memory
/// stays taken for as long as the region lives, since a device may still use it.
#[derive(Debug)]
pub struct Leases {
    region: Arc<Region>,
    /// By offset; no two overlap.
    leases: BTreeMap<u64, Lease>,
    /// What requests hold, sorted by offset; no two overlap. Mostly short, so that moving its entries costs less than
    /// a tree.
    held: Vec<Extent>,
    /// The extents of each request in flight.
    requests: HashMap<u32, SmallVec<[Extent; 3]>, BuildHasherDefault<NumberHasher>>,
    /// Lent buffers whose last request ended after they were revoked.
    retired: Vec<Extent>,
    limit: u64,
    allocated: u64,
}

impl Leases {
    /// No leases yet, for a component that may itself allocate `limit_bytes` of the region.
    pub fn new(region: Arc<Region>, limit_bytes: u64) -> Self {
        Self {
            region,
            leases: BTreeMap::new(),
            held: Vec::new(),
            requests: HashMap::default(),
            retired: Vec::new(),
            limit: limit_bytes,
            allocated: 0,
        }
    }

    /// Takes `len` bytes of the region for the component itself. They count as whole pages, and are zero: what was there
    /// before is not the component's to see.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] for 0 bytes, [`MemoryError::NoSpace`].
    pub fn allocate(&mut self, len: u32) -> Result<Extent, MemoryError> {
        if len == 0 {
            return Err(MemoryError::OutOfRange);
        }
        let taken = taken_by(len);
        if self.limit - self.allocated < taken {
            return Err(MemoryError::NoSpace);
        }
        let allocation = self.region.allocate(len).ok_or(MemoryError::NoSpace)?;
        self.region.clear(allocation).map_err(|_| MemoryError::OutOfRange)?;
        self.allocated += taken;
        self.leases.insert(allocation.offset, Lease::filled(len, Kind::Own));
        Ok(allocation)
    }

    /// Gives an allocation of [`allocate`](Self::allocate) back, whole.
    ///
    /// # Errors
    /// [`MemoryError::NotLeased`] where it is no allocation of this component's, [`MemoryError::InFlight`].
    pub fn release(&mut self, allocation: Extent) -> Result<(), MemoryError> {
        match self.leases.get_mut(&allocation.offset) {
            Some(lease) if lease.kind == Kind::Own && lease.len == allocation.len => {
                if !lease.take(Event::Release) {
                    return Err(MemoryError::InFlight);
                }
            }
            _ => return Err(MemoryError::NotLeased),
        }
        self.leases.remove(&allocation.offset);
        self.allocated -= taken_by(allocation.len);
        self.region.free(allocation);
        Ok(())
    }

    /// Lends the component a buffer until it is [revoked](Self::revoke). The buffer stays its owner's to free. Tells
    /// whether it could be lent: not if it is empty, not of the region, or if any of it is leased already.
    pub fn lend(&mut self, buffer: Extent) -> bool {
        let Ok(end) = self.end_of(buffer) else { return false };
        if let Some((offset, lease)) = self.leases.range(..end).next_back()
            && offset + u64::from(lease.len) > buffer.offset
        {
            return false;
        }
        self.leases.insert(buffer.offset, Lease::filled(buffer.len, Kind::Lent));
        true
    }

    /// Ends the loan of a buffer: the component can use it no more. `true` means that nobody does. `false` means that
    /// a request in flight still holds some of it: its memory must be left alone until [`retired`](Self::retired)
    /// yields it, or [`is_in_flight`](Self::is_in_flight) says no.
    pub fn revoke(&mut self, buffer: Extent) -> bool {
        if let Some(lease) = self.leases.get_mut(&buffer.offset)
            && lease.kind == Kind::Lent
            && lease.len == buffer.len
        {
            lease.take(Event::Revoke);
            if lease.state == State::Free {
                self.leases.remove(&buffer.offset);
            }
        }
        !self.is_in_flight(buffer)
    }

    /// The buffers that were in flight when they were revoked, and are not any more; each is told once.
    pub fn retired(&mut self) -> impl Iterator<Item = Extent> + '_ {
        self.retired.drain(..)
    }

    /// May the component use these bytes now: read or write them, or make them part of a request?
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`], [`MemoryError::NotLeased`], [`MemoryError::InFlight`].
    pub fn check(&self, extent: Extent) -> Result<(), MemoryError> {
        self.find(extent).map(drop)
    }

    /// The state of a whole allocation, or of a buffer as it was lent. Anything else is [`State::Free`].
    pub fn state(&self, extent: Extent) -> State {
        let lease = self.leases.get(&extent.offset).filter(|lease| lease.len == extent.len);
        lease.map_or(State::Free, |lease| lease.state)
    }

    /// Does it begin in a buffer that is lent, an application's, rather than in the component's own memory?
    pub fn is_lent(&self, extent: Extent) -> bool {
        let lease = self.leases.range(..=extent.offset).next_back();
        lease.is_some_and(|(offset, lease)| lease.kind != Kind::Own && extent.offset - offset < u64::from(lease.len))
    }

    /// Does a request in flight hold any byte of it?
    pub fn is_in_flight(&self, extent: Extent) -> bool {
        let Some(end) = extent.end() else { return false };
        let index = self.held.partition_point(|held| held.offset < end);
        index > 0 && end_of_good(self.held[index - 1]) > extent.offset
    }

    /// Puts the extents of a request in flight, all or none. `token` is the request's name until its end.
    ///
    /// # Errors
    /// As [`check`](Self::check); also [`MemoryError::InFlight`] where two of `extents` overlap, or `token` is in use.
    pub fn begin(&mut self, token: u32, extents: &[Extent]) -> Result<(), MemoryError> {
        self.begin_all(token, extents.iter().copied())
    }

    pub(crate) fn begin_all(
        &mut self,
        token: u32,
        extents: impl IntoIterator<Item = Extent>,
    ) -> Result<(), MemoryError> {
        if self.requests.contains_key(&token) {
            return Err(MemoryError::InFlight);
        }
        let mut request = SmallVec::new();
        for extent in extents {
            match self.find(extent) {
                Ok(index) => {
                    self.held.insert(index, extent);
                    request.push(extent);
                }
                Err(error) => {
                    self.let_go(&request);
                    return Err(error);
                }
            }
        }
        for &extent in &request {
            for lease in self.touched_by(extent) {
                lease.holders += 1;
                lease.take(Event::Begin);
            }
        }
        self.requests.insert(token, request);
        Ok(())
    }

    /// Ends a request: nothing of it is in flight any more. Tells whether there was one.
    pub fn end(&mut self, token: u32) -> bool {
        let Some(request) = self.requests.remove(&token) else { return false };
        self.let_go(&request);
        for extent in &request {
            self.retire(*extent);
        }
        true
    }

    /// Requests in flight that have extents.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Bytes of the region that the component has allocated itself.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The end of an extent, if it is not empty and in the region.
    fn end_of(&self, extent: Extent) -> Result<u64, MemoryError> {
        let end = extent.end().filter(|end| *end <= self.region.size() && extent.len > 0);
        end.ok_or(MemoryError::OutOfRange)
    }

    /// Checks an extent, and tells where among the held ones it belongs.
    fn find(&self, extent: Extent) -> Result<usize, MemoryError> {
        let end = self.end_of(extent)?;
        // From the lease that its last byte is in down to that of its first, without a gap.
        let mut needed = end;
        for (&offset, lease) in self.leases.range(..end).rev() {
            if lease.state == State::Revoked || offset + u64::from(lease.len) < needed {
                break;
            }
            needed = offset;
            if needed <= extent.offset {
                break;
            }
        }
        if needed > extent.offset {
            return Err(MemoryError::NotLeased);
        }
        let index = self.held.partition_point(|held| held.offset < end);
        if index > 0 && end_of_good(self.held[index - 1]) > extent.offset {
            return Err(MemoryError::InFlight);
        }
        Ok(index)
    }

    fn let_go(&mut self, extents: &[Extent]) {
        for extent in extents {
            if let Ok(index) = self.held.binary_search_by_key(&extent.offset, |held| held.offset) {
                self.held.remove(index);
            }
        }
    }

    /// One holder less for the leases that `extent` is in. Ends those that are revoked and have no other.
    fn retire(&mut self, extent: Extent) {
        let mut ended = SmallVec::<[u64; 2]>::new();
        for (&offset, lease) in self.leases.range_mut(..end_of_good(extent)).rev() {
            if offset + u64::from(lease.len) <= extent.offset {
                break;
            }
            lease.holders -= 1;
            if lease.holders == 0 && lease.take(Event::End) && lease.state == State::Free {
                ended.push(offset);
            }
        }
        for offset in ended {
            if let Some(Lease { len, .. }) = self.leases.remove(&offset) {
                self.retired.push(Extent { offset, len });
            }
        }
    }

    /// The leases that an extent is in, from the last to the first.
    fn touched_by(&mut self, extent: Extent) -> impl Iterator<Item = &mut Lease> {
        let leases = self.leases.range_mut(..end_of_good(extent)).rev();
        leases
            .take_while(move |(offset, lease)| **offset + u64::from(lease.len) > extent.offset)
            .map(|(_, lease)| lease)
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        for (&offset, lease) in &self.leases {
            let extent = Extent { offset, len: lease.len };
            if lease.kind == Kind::Own && !self.is_in_flight(extent) {
                self.region.free(extent);
            }
        }
    }
}

/// The end of an extent that was checked.
fn end_of_good(extent: Extent) -> u64 {
    extent.offset + u64::from(extent.len)
}

/// Bytes that an allocation takes from the region.
fn taken_by(len: u32) -> u64 {
    u64::from(pages_of(len)) * u64::from(PAGE)
}

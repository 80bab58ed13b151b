//! The driver's side: `virtqueue_add_sgs()`, `virtqueue_kick()` and `virtqueue_get_buf()` over extents.
//!
//! All that the driver has to know again later is in memory of its own. What it reads from the ring is the used
//! ring alone, and it believes none of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering, fence},
    },
};

use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY};
use virtio_queue::desc::{RawDescriptor, split};
use vm_memory::{Le32, VolatileMemory};

use super::{
    QueueError, RingMemory, SetupError,
    header::{Header, Headers, MAX_HEADER},
};
use crate::{
    device::DeviceQueue,
    lease::{Leases, MemoryError},
    region::{Extent, Region},
};

/// Counters of a queue, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverStatistics {
    /// Chains added.
    pub requests: u64,
    /// Chains taken back.
    pub used: u64,
    /// Chains that were refused, for whatever reason.
    pub refused: u64,
    /// Times that the device had to be told of chains.
    pub kicks: u64,
    /// Bytes of extents that the device was given to read.
    pub bytes_out: u64,
    /// Bytes that the device put into extents.
    pub bytes_in: u64,
    /// Bytes of headers that were copied, both ways.
    pub header_bytes: u64,
    /// Times that the queue was [reset](Driver::reset).
    pub resets: u64,
    /// Chains that came back by that.
    pub reset_chains: u64,
}

/// A chain that the device has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// What it was [added](Driver::add) under.
    pub id: u32,
    /// How many bytes the device says that it wrote, header and payload together; never more than there was space for.
    pub written: u32,
    /// The first of those, as many as were reserved for the reply's header or fewer.
    pub header: Vec<u8>,
}

/// The same, with the header in a buffer of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedChain {
    /// What it was [added](Driver::add) under.
    pub id: u32,
    /// As [`Used::written`].
    pub written: u32,
    /// Bytes of the header.
    pub header_len: u32,
}

/// What is known of a chain, by the index of its first descriptor.
#[derive(Clone, Copy, Debug, Default)]
struct InFlight {
    /// The chain's name among the leases; `None` for a descriptor that begins no chain in flight.
    token: Option<u32>,
    /// It has extents, which are leased to it.
    leased: bool,
    /// The driver's own name for it.
    id: u32,
    /// How often a chain has begun here.
    generation: u32,
    /// What the available ring's `idx` was when it was added.
    position: u16,
    last: u16,
    descriptors: u16,
    header: Header,
    reply: Header,
    reply_len: u32,
    /// Bytes that the device may write, header and payload.
    writable: u32,
}

/// How many low bits of a token are the index of the chain's first descriptor; the others are its generation.
const INDEX_BITS: u32 = 10;

/// The driver's side of one queue.
///
/// A component has one queue, so that the tokens of its chains are unique among its [`Leases`]. They are never told to
/// it: it names its chains itself, by ids which are only echoed.
#[derive(Debug)]
pub struct Driver {
    ring: Arc<RingMemory>,
    region: Arc<Region>,
    headers: Headers,
    chains: Box<[InFlight]>,
    /// Which descriptor follows: in a chain, or in the list of free ones. What the ring says is not believed.
    next: Box<[u16]>,
    first_free: u16,
    free: u16,
    /// Chains in flight.
    in_flight: u16,
    avail_idx: u16,
    /// The `idx` at the last kick.
    kicked_idx: u16,
    used_idx: u16,
    broken: bool,
    /// The ids of chains that a reset has ended and [`Driver::used`] has not told of yet.
    reset: VecDeque<u32>,
    statistics: DriverStatistics,
}

impl Driver {
    /// Makes a queue of `size` descriptors in memory of the region, and the device's side of it.
    ///
    /// # Errors
    /// Where the size is none, or the region has no space for it.
    pub fn new(region: Arc<Region>, size: u16) -> Result<(Self, DeviceQueue), SetupError> {
        let ring = Arc::new(RingMemory::new(Arc::clone(&region), size)?);
        let device = DeviceQueue::new(Arc::clone(&region), ring.layout)?.keeping(Arc::clone(&ring));
        let driver = Self {
            headers: Headers::new(ring.slots, size),
            chains: vec![InFlight::default(); size.into()].into(),
            next: (1..=size).collect(),
            first_free: 0,
            free: size,
            in_flight: 0,
            avail_idx: 0,
            kicked_idx: 0,
            used_idx: 0,
            broken: false,
            reset: VecDeque::new(),
            statistics: DriverStatistics::default(),
            ring,
            region,
        };
        Ok((driver, device))
    }

    /// Descriptors in the queue.
    pub fn size(&self) -> u16 {
        self.ring.layout.size
    }

    /// Chains that are added and not taken back yet.
    pub fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// Has the device broken the rules, or was it [abandoned](Self::abandon)?
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The counters.
    pub fn statistics(&self) -> DriverStatistics {
        self.statistics
    }

    /// Makes one chain of `header`, which is copied; the `out` extents, for the device to read; `reply_len` bytes of
    /// the ring's own memory for the reply's header; and the `input` extents, for the device to write. The extents
    /// are in flight until [`used`](Self::used) yields the chain, under its `id`. All or nothing.
    ///
    /// Nothing depends on the `id`: it may be that of another chain in flight.
    ///
    /// # Errors
    /// See [`QueueError`]. A chain of nothing at all is [`MemoryError::OutOfRange`], one of 4 GiB or more
    /// [`MemoryError::TooLarge`], and [`MemoryError::NoSpace`] means that the region has no room for a long header.
    pub fn add(
        &mut self,
        leases: &mut Leases,
        id: u32,
        header: &[u8],
        out: &[Extent],
        reply_len: u32,
        input: &[Extent],
    ) -> Result<(), QueueError> {
        let added = self.try_add(leases, id, header, out, reply_len, input);
        if added.is_err() {
            self.statistics.refused += 1;
        }
        added
    }

    fn try_add(
        &mut self,
        leases: &mut Leases,
        id: u32,
        header: &[u8],
        out: &[Extent],
        reply_len: u32,
        input: &[Extent],
    ) -> Result<(), QueueError> {
        if self.broken {
            return Err(QueueError::Broken);
        }
        if header.len() > MAX_HEADER as usize || reply_len > MAX_HEADER {
            return Err(QueueError::HeaderTooLarge);
        }
        let needed = usize::from(!header.is_empty()) + out.len() + usize::from(reply_len > 0) + input.len();
        if needed == 0 {
            return Err(MemoryError::OutOfRange.into());
        }
        if needed > usize::from(self.size()) {
            return Err(QueueError::TooManySegments);
        }
        if needed > usize::from(self.free) {
            return Err(QueueError::Full);
        }
        let sum = |extents: &[Extent]| extents.iter().map(|extent| u64::from(extent.len)).sum::<u64>();
        let (bytes_out, bytes_in) = (sum(out), sum(input));
        let writable = bytes_in + u64::from(reply_len);
        if u32::try_from(writable + bytes_out + header.len() as u64).is_err() {
            return Err(MemoryError::TooLarge.into());
        }

        let head = self.first_free;
        let generation = self.chains[usize::from(head)].generation.wrapping_add(1);
        let token = generation << INDEX_BITS | u32::from(head);
        let leased = !out.is_empty() || !input.is_empty();
        if leased {
            leases.begin_all(token, out.iter().chain(input).copied())?;
        }
        let headers = self.headers.take(&self.region, header.len() as u32).and_then(|header| {
            let reply = self.headers.take(&self.region, reply_len);
            let reply = reply.inspect_err(|_| self.headers.give_back(&self.region, header));
            Ok((header, reply?))
        });
        let (header_memory, reply_memory) = headers.inspect_err(|_| {
            if leased {
                leases.end(token);
            }
        })?;

        let header_extent = self.headers.extent(header_memory);
        if let Some(extent) = header_extent {
            self.region.slice(extent).map_err(|_| QueueError::Broken)?.copy_from(header);
        }
        let readable = header_extent.into_iter().chain(out.iter().copied());
        let writables = self.headers.extent(reply_memory).into_iter().chain(input.iter().copied());
        let written = VRING_DESC_F_WRITE as u16;
        let descriptors = readable.map(|extent| (extent, 0)).chain(writables.map(|extent| (extent, written)));
        let (mut last, mut following) = (head, head);
        for (done, (extent, direction)) in (1..).zip(descriptors) {
            last = following;
            following = self.next[usize::from(last)];
            let (flags, next) =
                if done == needed { (direction, 0) } else { (direction | VRING_DESC_F_NEXT as u16, following) };
            self.write_descriptor(last, extent, flags, next)?;
        }
        self.first_free = following;
        self.free -= needed as u16;
        self.chains[usize::from(head)] = InFlight {
            token: Some(token),
            leased,
            id,
            generation,
            position: self.avail_idx,
            last,
            descriptors: needed as u16,
            header: header_memory,
            reply: reply_memory,
            reply_len,
            writable: writable as u32,
        };
        self.publish(head)?;
        self.in_flight += 1;
        self.statistics.requests += 1;
        self.statistics.bytes_out += bytes_out;
        self.statistics.header_bytes += header.len() as u64;
        Ok(())
    }

    /// Are there chains of which the device was not told, and does it want to be told? If so this counts as a kick,
    /// and the caller is to make it.
    pub fn kick_needed(&mut self) -> bool {
        if self.broken || self.kicked_idx == self.avail_idx {
            return false;
        }
        // The flag is read after the new `idx` can be seen: a device sets the flag, then looks at the `idx` again.
        fence(Ordering::SeqCst);
        let flags = match self.atomic(self.ring.layout.used) {
            Ok(flags) => u16::from_le(flags.load(Ordering::Relaxed)),
            Err(_) => return false,
        };
        self.kicked_idx = self.avail_idx;
        let needed = flags & VRING_USED_F_NO_NOTIFY as u16 == 0;
        self.statistics.kicks += u64::from(needed);
        needed
    }

    /// Takes the chain that the device returned the longest ago, and ends its leases; before these, the chains that a
    /// [reset](Self::reset) has ended. A device that returns what it was not given breaks the queue.
    pub fn used(&mut self, leases: &mut Leases) -> Option<Used> {
        let mut header = Vec::new();
        let UsedChain { id, written, .. } = self.used_into(leases, &mut header)?;
        Some(Used { id, written, header })
    }

    /// As [`used`](Self::used), with the header appended to `headers`.
    pub fn used_into(&mut self, leases: &mut Leases, headers: &mut Vec<u8>) -> Option<UsedChain> {
        if !self.reset.is_empty() {
            return self.reset.pop_front().map(|id| UsedChain { id, written: 0, header_len: 0 });
        }
        if self.broken {
            return None;
        }
        let (id, len) = match self.next_used() {
            Ok(element) => element?,
            Err(_) => {
                self.broken = true;
                return None;
            }
        };
        let chain = u16::try_from(id).ok().and_then(|head| Some((head, self.chains.get(usize::from(head))?)));
        let Some((head, &InFlight { token: Some(token), id, writable, reply, reply_len, .. })) = chain else {
            self.broken = true;
            return None;
        };
        self.used_idx = self.used_idx.wrapping_add(1);
        let written = len.min(writable);
        let mut header_len = written.min(reply_len);
        match self.headers.extent(reply).and_then(|extent| self.region.slice(extent).ok()) {
            Some(slice) if header_len > 0 => {
                let start = headers.len();
                headers.resize(start + header_len as usize, 0);
                slice.copy_to(&mut headers[start..]);
            }
            _ => header_len = 0,
        }
        self.retire(leases, head, token);
        self.statistics.used += 1;
        self.statistics.header_bytes += u64::from(header_len);
        self.statistics.bytes_in += u64::from(written - header_len);
        Some(UsedChain { id, written, header_len })
    }

    /// Ends all that is in flight and breaks the queue. Returns the ids of the chains that will now never be used, in
    /// the order in which they were added. Only for when the device is gone: it must not touch the memory of any chain
    /// any more.
    pub fn abandon(&mut self, leases: &mut Leases) -> Vec<u32> {
        self.broken = true;
        let ended = self.end_all(leases);
        self.reset.drain(..).chain(ended).collect()
    }

    /// Begins the queue anew, at index 0 and with no chain in it, and makes the device's side of it for another device
    /// (a reset of the queue, VIRTIO 1.3, 2.6.1). A queue that was broken is whole again.
    ///
    /// What was in flight is ended, its leases too, and comes back by [`used`](Self::used) in the order in which it was
    /// added, with nothing written. Nothing more is known of those chains: the old device may have done what they ask
    /// for. What it has returned already is to be taken by [`used`](Self::used) before, or is forgotten likewise.
    ///
    /// # Errors
    /// [`SetupError::Attached`] where the old device's [`DeviceQueue`] is not [detached](DeviceQueue::detach) or
    /// dropped: it may still touch the ring, and the memory of the chains. Then nothing has changed.
    pub fn reset(&mut self, leases: &mut Leases) -> Result<DeviceQueue, SetupError> {
        // Who has let go of the ring cannot get at it again; what it wrote before is seen after this.
        Arc::get_mut(&mut self.ring).ok_or(SetupError::Attached)?.clear()?;
        let ended = self.end_all(leases);
        self.statistics.resets += 1;
        self.statistics.reset_chains += ended.len() as u64;
        self.reset.extend(ended);
        (self.avail_idx, self.kicked_idx, self.used_idx) = (0, 0, 0);
        self.broken = false;
        Ok(DeviceQueue::new(Arc::clone(&self.region), self.ring.layout)?.keeping(Arc::clone(&self.ring)))
    }

    /// Ends all chains that are in flight. Returns their ids, oldest first.
    fn end_all(&mut self, leases: &mut Leases) -> Vec<u32> {
        let mut ended = Vec::with_capacity(self.in_flight.into());
        for head in 0..self.size() {
            if let InFlight { token: Some(token), id, position, .. } = self.chains[usize::from(head)] {
                self.retire(leases, head, token);
                ended.push((self.avail_idx.wrapping_sub(position), id));
            }
        }
        ended.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        ended.into_iter().map(|(_, id)| id).collect()
    }

    /// Gives back all that a chain in flight took up.
    fn retire(&mut self, leases: &mut Leases, head: u16, token: u32) {
        let chain = &mut self.chains[usize::from(head)];
        chain.token = None;
        self.headers.give_back(&self.region, std::mem::take(&mut chain.reply));
        self.headers.give_back(&self.region, std::mem::take(&mut chain.header));
        self.next[usize::from(chain.last)] = self.first_free;
        self.first_free = head;
        self.free += chain.descriptors;
        self.in_flight -= 1;
        if chain.leased {
            leases.end(token);
        }
    }

    fn write_descriptor(&self, index: u16, extent: Extent, flags: u16, next: u16) -> Result<(), QueueError> {
        let descriptor = split::Descriptor::new(extent.offset, extent.len, flags, next);
        let place = self.region.mapping().get_ref(self.ring.layout.descriptor(index) as usize);
        place.map_err(|_| QueueError::Broken)?.store(RawDescriptor::from(descriptor));
        Ok(())
    }

    fn publish(&mut self, head: u16) -> Result<(), QueueError> {
        let layout = self.ring.layout;
        self.atomic(layout.avail_entry(self.avail_idx))?.store(head.to_le(), Ordering::Relaxed);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        // The device sees the chain and its entry before the new `idx`.
        self.atomic(layout.avail_idx())?.store(self.avail_idx.to_le(), Ordering::Release);
        Ok(())
    }

    /// The next element of the used ring, if there is one: `id` and `len`.
    fn next_used(&self) -> Result<Option<(u32, u32)>, QueueError> {
        let layout = self.ring.layout;
        // The element and what the device wrote are seen after the `idx`.
        let idx = u16::from_le(self.atomic(layout.used_idx())?.load(Ordering::Acquire));
        match idx.wrapping_sub(self.used_idx) {
            0 => return Ok(None),
            returned if returned > self.in_flight => return Err(QueueError::Broken),
            _ => {}
        }
        let place = layout.used_entry(self.used_idx) as usize;
        let read = |place| self.region.mapping().get_ref::<Le32>(place).map_err(|_| QueueError::Broken);
        Ok(Some((read(place)?.load().into(), read(place + 4)?.load().into())))
    }

    fn atomic(&self, place: u64) -> Result<&AtomicU16, QueueError> {
        self.region.mapping().get_atomic_ref(place as usize).map_err(|_| QueueError::Broken)
    }
}

//! The driver's side: `virtqueue_add_sgs()`, `virtqueue_kick()` and `virtqueue_get_buf()` over extents.
//!
//! All that the driver has to know again later is in memory of its own. What it reads from the ring is the used
//! ring alone, and it believes none of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use vm_memory::{Le32, VolatileMemory};

use super::{
    Features, QueueError, RingMemory, SetupError,
    descriptors::{Descriptors, Part, Taken, table_len},
    index::{Consumer, Publisher, Wish},
    slots::{self, MAX_HEADER, Piece, Slots},
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
    /// Times that there were chains which it did not want to be told of.
    pub kicks_suppressed: u64,
    /// Chains with a descriptor table of their own.
    pub indirect: u64,
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
    descriptors: Taken,
    /// The memory of its header, its reply's header, and its table.
    pieces: [Piece; 3],
    reply_len: u32,
    /// Bytes that the device may write, header and payload.
    writable: u32,
}

/// How many low bits of a token are the index of the chain's first descriptor; the others are its generation.
const INDEX_BITS: u32 = 10;

/// More parts than these are put into a table of their own, where that was negotiated. For a few, the one way costs what
/// the other does.
const MOST_DIRECT: usize = 8;

/// The driver's side of one queue.
///
/// A component has one queue, so that the tokens of its chains are unique among its [`Leases`]. They are never told to
/// it: it names its chains itself, by ids which are only echoed.
#[derive(Debug)]
pub struct Driver {
    ring: Arc<RingMemory>,
    region: Arc<Region>,
    features: Features,
    slots: Slots,
    /// By the index of their first descriptor; as many as were ever needed.
    chains: Vec<InFlight>,
    descriptors: Descriptors,
    /// Chains in flight.
    in_flight: u16,
    avail: Publisher,
    used: Consumer,
    broken: bool,
    /// The ids of chains that a reset has ended and [`Driver::used`] has not told of yet.
    reset: VecDeque<u32>,
    statistics: DriverStatistics,
}

impl Driver {
    /// Makes a queue of `size` descriptors in memory of the region, and the device's side of it, with no more features
    /// than there must be.
    ///
    /// # Errors
    /// As [`with_features`](Self::with_features).
    pub fn new(region: Arc<Region>, size: u16) -> Result<(Self, DeviceQueue), SetupError> {
        Self::with_features(region, size, Features::VERSION_1)
    }

    /// The same with the features that were [negotiated](Features::negotiate). They stay when the queue is reset.
    ///
    /// # Errors
    /// Where the size is none, the region has no space for it, or it cannot be driven with these features.
    pub fn with_features(
        region: Arc<Region>,
        size: u16,
        features: Features,
    ) -> Result<(Self, DeviceQueue), SetupError> {
        let features = features.accepted()?;
        let ring = Arc::new(RingMemory::new(Arc::clone(&region), size, features)?);
        let device = DeviceQueue::of(&ring, features)?;
        let driver = Self {
            features,
            slots: Slots::new(ring.slots, slots::slots(size, features)),
            chains: Vec::new(),
            descriptors: Descriptors::new(size),
            in_flight: 0,
            avail: Publisher::default(),
            used: Consumer::default(),
            broken: false,
            reset: VecDeque::new(),
            statistics: DriverStatistics::default(),
            ring,
            region,
        };
        Ok((driver, device))
    }

    /// What the two sides have agreed on.
    pub fn features(&self) -> Features {
        self.features
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
    /// [`MemoryError::TooLarge`], and [`MemoryError::NoSpace`] means that the region has no room for a long header or table.
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
        let free = self.descriptors.free();
        // As Linux's `virtqueue_add()` has it, but not for a few parts that leave half of the descriptors free.
        let mut indirect = self.features.contains(Features::INDIRECT)
            && needed > 1
            && (needed > MOST_DIRECT || free < needed + usize::from(self.size()) / 2);
        if free == 0 || (needed > free && !indirect) {
            return Err(QueueError::Full);
        }
        let sum = |extents: &[Extent]| extents.iter().map(|extent| u64::from(extent.len)).sum::<u64>();
        let (bytes_out, bytes_in) = (sum(out), sum(input));
        let writable = bytes_in + u64::from(reply_len);
        if u32::try_from(writable + bytes_out + header.len() as u64).is_err() {
            return Err(MemoryError::TooLarge.into());
        }

        let head = self.descriptors.head();
        if self.chains.len() <= usize::from(head) {
            self.chains.resize(usize::from(head) + 1, InFlight::default());
        }
        let generation = self.chains[usize::from(head)].generation.wrapping_add(1);
        let token = generation << INDEX_BITS | u32::from(head);
        let leased = !out.is_empty() || !input.is_empty();
        if leased {
            leases.begin_all(token, out.iter().chain(input).copied())?;
        }
        let header_len = header.len() as u32;
        let table = if indirect { table_len(needed) } else { 0 };
        let mut pieces = self.slots.take_all(&self.region, [header_len, reply_len, table]);
        if pieces.is_err() && indirect && needed <= free {
            indirect = false;
            pieces = self.slots.take_all(&self.region, [header_len, reply_len, 0]);
        }
        let pieces = pieces.inspect_err(|_| {
            if leased {
                leases.end(token);
            }
        })?;

        let [header_extent, reply_extent, table] = pieces.map(|piece| self.slots.extent(piece));
        if let Some(extent) = header_extent {
            self.region.slice(extent).map_err(|_| QueueError::Broken)?.copy_from(header);
        }
        let part = |written_by_device| move |extent| Part { extent, written_by_device };
        let readable = header_extent.into_iter().chain(out.iter().copied()).map(part(false));
        let parts = readable.chain(reply_extent.into_iter().chain(input.iter().copied()).map(part(true)));
        let layout = &self.ring.layout;
        let descriptors = match table {
            Some(table) => self.descriptors.indirect(&self.region, layout, table, parts)?,
            None => self.descriptors.chain(&self.region, layout, needed, parts)?,
        };
        self.chains[usize::from(head)] = InFlight {
            token: Some(token),
            leased,
            id,
            generation,
            position: self.avail.idx(),
            descriptors,
            pieces,
            reply_len,
            writable: writable as u32,
        };
        self.publish(head)?;
        self.in_flight += 1;
        self.statistics.requests += 1;
        self.statistics.indirect += u64::from(indirect);
        self.statistics.bytes_out += bytes_out;
        self.statistics.header_bytes += header.len() as u64;
        Ok(())
    }

    /// Are there chains of which the device was not told, and does it want to be told? If so this counts as a kick,
    /// and the caller is to make it.
    pub fn kick_needed(&mut self) -> bool {
        if self.broken || !self.avail.is_untold() {
            return false;
        }
        let layout = self.ring.layout;
        let wish = if self.features.contains(Features::EVENT_INDEX) {
            atomic(&self.region, layout.avail_event()).map(Wish::Event)
        } else {
            atomic(&self.region, layout.used).map(Wish::Flags)
        };
        let Ok(wish) = wish else { return false };
        let needed = self.avail.must_notify(wish);
        self.statistics.kicks += u64::from(needed);
        self.statistics.kicks_suppressed += u64::from(!needed);
        needed
    }

    /// Asks the device for an interrupt when it returns a chain (`virtqueue_enable_cb()`). `false` where it has returned
    /// one already: that is to be taken first, and then asked again. Who looks at the used ring after each kick of a
    /// device that answers within it needs none, and never asks.
    pub fn want_interrupt(&mut self) -> bool {
        let Ok(wish) = self.wish() else { return true };
        let Ok(idx) = atomic(&self.region, self.ring.layout.used_idx()) else { return true };
        self.broken || self.used.want_notification(idx, wish)
    }

    /// Needs no interrupts until it asks again: it is at work on the used ring.
    pub fn forgo_interrupts(&mut self) {
        if let Ok(wish) = self.wish() {
            self.used.forgo_notification(wish);
        }
    }

    /// Where the driver says when it wants to be interrupted.
    fn wish(&self) -> Result<Wish<'_, AtomicU16>, QueueError> {
        let layout = self.ring.layout;
        if self.features.contains(Features::EVENT_INDEX) {
            atomic(&self.region, layout.used_event()).map(Wish::Event)
        } else {
            atomic(&self.region, layout.avail).map(Wish::Flags)
        }
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
        let Some((head, &InFlight { token: Some(token), id, writable, pieces: [_, reply, _], reply_len, .. })) = chain
        else {
            self.broken = true;
            return None;
        };
        self.used.advance();
        let written = len.min(writable);
        let mut header_len = written.min(reply_len);
        match self.slots.extent(reply).and_then(|extent| self.region.slice(extent).ok()) {
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
        (self.avail, self.used) = (Publisher::default(), Consumer::default());
        self.broken = false;
        DeviceQueue::of(&self.ring, self.features)
    }

    /// Ends all chains that are in flight. Returns their ids, oldest first.
    fn end_all(&mut self, leases: &mut Leases) -> Vec<u32> {
        let mut ended = Vec::with_capacity(self.in_flight.into());
        for head in 0..self.chains.len() as u16 {
            if let InFlight { token: Some(token), id, position, .. } = self.chains[usize::from(head)] {
                self.retire(leases, head, token);
                ended.push((self.avail.idx().wrapping_sub(position), id));
            }
        }
        ended.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        ended.into_iter().map(|(_, id)| id).collect()
    }

    /// Gives back all that a chain in flight took up.
    fn retire(&mut self, leases: &mut Leases, head: u16, token: u32) {
        let chain = &mut self.chains[usize::from(head)];
        chain.token = None;
        self.slots.give_all_back(&self.region, std::mem::take(&mut chain.pieces));
        self.descriptors.give_back(chain.descriptors);
        self.in_flight -= 1;
        if chain.leased {
            leases.end(token);
        }
    }

    fn publish(&mut self, head: u16) -> Result<(), QueueError> {
        let layout = self.ring.layout;
        let entry = atomic(&self.region, layout.avail_entry(self.avail.idx()))?;
        entry.store(head.to_le(), Ordering::Relaxed);
        self.avail.publish(atomic(&self.region, layout.avail_idx())?);
        Ok(())
    }

    /// The next element of the used ring, if there is one: `id` and `len`.
    fn next_used(&self) -> Result<Option<(u32, u32)>, QueueError> {
        let layout = self.ring.layout;
        match self.used.available(atomic(&self.region, layout.used_idx())?) {
            0 => return Ok(None),
            returned if returned > self.in_flight => return Err(QueueError::Broken),
            _ => {}
        }
        let place = layout.used_entry(self.used.idx()) as usize;
        let read = |place| self.region.mapping().get_ref::<Le32>(place).map_err(|_| QueueError::Broken);
        Ok(Some((read(place)?.load().into(), read(place + 4)?.load().into())))
    }
}

fn atomic(region: &Region, place: u64) -> Result<&AtomicU16, QueueError> {
    region.mapping().get_atomic_ref(place as usize).map_err(|_| QueueError::Broken)
}

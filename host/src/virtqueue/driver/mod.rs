//! The driver's side: `virtqueue_add_sgs()`, `virtqueue_kick()` and `virtqueue_get_buf()` over extents.
//!
//! All that the driver has to know again later is in memory of its own. What it reads from the ring is the used
//! ring alone, and it believes none of it.

mod add;
mod notification;
mod used;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU16},
};

use vm_memory::VolatileMemory;

pub use self::used::{Used, UsedChain};
use super::{
    Features, QueueError, RingMemory, SetupError,
    descriptors::{Descriptors, Taken},
    index::{Consumer, Publisher},
    slots::{self, Piece, Slots},
};
use crate::{device::DeviceQueue, lease::Leases, region::Region};

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
}

fn atomic(region: &Region, place: u64) -> Result<&AtomicU16, QueueError> {
    region.mapping().get_atomic_ref(place as usize).map_err(|_| QueueError::Broken)
}

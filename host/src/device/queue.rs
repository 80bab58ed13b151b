//! A virtqueue, as the device sees it.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Le32, VolatileMemory, volatile_memory};

use super::Chain;
use crate::{
    region::Region,
    virtqueue::{
        Features, Layout, RingMemory, SIZES, SetupError,
        index::{Consumer, Publisher, Wish},
    },
};

/// Counters of a queue's device side, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceQueueStatistics {
    /// Chains taken from the ring.
    pub popped: u64,
    /// Chains returned.
    pub completed: u64,
    /// Entries of the available ring that were no chain, or one that is under way already.
    pub bad_chains: u64,
    /// Times that the driver had to be told of returned chains.
    pub interrupts: u64,
    /// Times that there were some which it did not want to be told of.
    pub interrupts_suppressed: u64,
}

/// What is wrong with a ring.
#[derive(Debug, thiserror::Error)]
enum RingError {
    #[error("{0} entries are said to be available")]
    TooMany(u16),
    #[error(transparent)]
    Memory(#[from] volatile_memory::Error),
}

/// The device's side of one queue: takes chains, and returns them. The driver may be hostile, and at work meanwhile.
///
/// What is wrong with one chain costs that chain: it is returned with nothing written. What leaves no chain to return
/// (an impossible index, or a head that is under way) is passed over. An available ring that claims more entries than
/// it has breaks the queue.
#[derive(Debug)]
pub struct DeviceQueue {
    region: Arc<Region>,
    layout: Layout,
    features: Features,
    avail: Consumer,
    used: Publisher,
    /// Which heads are under way, so that no more than the queue's size ever are.
    under_way: Box<[bool]>,
    state: State,
    statistics: DeviceQueueStatistics,
    /// Keeps the ring's memory from being given to someone else, or from being reset, where the region gave it.
    ring: Option<Arc<RingMemory>>,
}

/// What a queue's device side may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// All.
    Live,
    /// Return chains: the driver has made the available ring impossible.
    Broken,
    /// Nothing: the ring is not the device's any more.
    Detached,
}

impl DeviceQueue {
    /// The queue that lies in the region as `layout` says, and is used with `features`.
    ///
    /// # Errors
    /// Where the layout is impossible, or the driver has accepted features that no queue has.
    pub fn new(region: Arc<Region>, layout: Layout, features: Features) -> Result<Self, SetupError> {
        let features = features.accepted()?;
        if !SIZES.contains(&layout.size) || !layout.size.is_power_of_two() {
            return Err(SetupError::Size(layout.size));
        }
        let mut queue = Queue::new(layout.size).map_err(|_| SetupError::Size(layout.size))?;
        let halves = |address: u64| (Some(address as u32), Some((address >> 32) as u32));
        let (low, high) = halves(layout.descriptors);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(layout.avail);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(layout.used);
        queue.set_used_ring_address(low, high);
        queue.set_ready(true);
        let set = (queue.desc_table(), queue.avail_ring(), queue.used_ring());
        if set != (layout.descriptors, layout.avail, layout.used) || !queue.is_valid(region.memory()) {
            return Err(SetupError::Layout);
        }
        // It was only for its checks: to look up the one mapping again at each access costs more than all the rest.
        Ok(Self {
            region,
            layout,
            features,
            avail: Consumer::default(),
            used: Publisher::default(),
            under_way: vec![false; layout.size.into()].into(),
            state: State::Live,
            statistics: DeviceQueueStatistics::default(),
            ring: None,
        })
    }

    /// The queue in the ring of a [`Driver`](crate::virtqueue::Driver).
    pub(crate) fn of(ring: &Arc<RingMemory>, features: Features) -> Result<Self, SetupError> {
        let queue = Self::new(Arc::clone(ring.region()), ring.layout(), features)?;
        Ok(Self { ring: Some(Arc::clone(ring)), ..queue })
    }

    /// The memory that the queue and all its chains lie in.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Where the queue lies.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What the two sides have agreed on.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Has the driver made the available ring impossible, or was the queue [detached](Self::detach)? Then no chain is
    /// taken any more.
    pub fn is_broken(&self) -> bool {
        self.state != State::Live
    }

    /// The device's half of a reset: lets go of the ring. From now on nothing is taken and nothing is returned,
    /// whatever is called. What is under way is the driver's again once it is [reset](crate::virtqueue::Driver::reset):
    /// the device must not touch the memory of any chain any more when it calls this.
    pub fn detach(&mut self) {
        self.state = State::Detached;
        self.ring = None;
    }

    /// The counters.
    pub fn statistics(&self) -> DeviceQueueStatistics {
        self.statistics
    }

    /// Takes the next chain that the driver has made available. It must be given to [`complete`](Self::complete).
    ///
    /// Passes over at most as many bad ones as the queue has entries.
    pub fn pop(&mut self) -> Option<Chain> {
        for _ in 0..self.layout.size {
            if self.state != State::Live {
                return None;
            }
            let head = match self.next_head() {
                Ok(head) => head?,
                Err(error) => {
                    tracing::debug!(%error, "the driver broke the available ring");
                    self.state = State::Broken;
                    return None;
                }
            };
            match self.under_way.get_mut(usize::from(head)) {
                Some(under_way) if !*under_way => *under_way = true,
                _ => {
                    self.statistics.bad_chains += 1;
                    continue;
                }
            }
            match Chain::read(&self.region, &self.layout, self.features, head) {
                Ok(chain) => {
                    self.statistics.popped += 1;
                    return Some(chain);
                }
                Err(error) => {
                    tracing::debug!(%error, head, "the driver made a bad chain");
                    self.statistics.bad_chains += 1;
                    self.add_used(head, 0);
                }
            }
        }
        None
    }

    /// Returns a chain, with `written` bytes in the front of its writable part. To a queue that was
    /// [detached](Self::detach) nothing is returned.
    pub fn complete(&mut self, chain: Chain, written: u32) {
        if self.state == State::Detached {
            return;
        }
        self.statistics.completed += 1;
        self.add_used(chain.head(), written.min(chain.writable_len()));
    }

    fn add_used(&mut self, head: u16, written: u32) {
        self.under_way[usize::from(head)] = false;
        if let Err(error) = self.try_add_used(head, written) {
            // Impossible with the layout checked.
            tracing::error!(%error, head, "a chain cannot be returned");
            self.state = State::Broken;
        }
    }

    /// Asks the driver for a kick when there is another chain. `false` where there is one already: that is to be taken
    /// first, and then asked again. A device that looks at the ring in each kick, and is kicked for each chain, need not
    /// ask.
    pub fn want_kick(&mut self) -> bool {
        if self.state != State::Live {
            return true;
        }
        let Ok(wish) = self.wish() else { return true };
        let Ok(idx) = atomic(&self.region, self.layout.avail_idx()) else { return true };
        self.avail.want_notification(idx, wish)
    }

    /// Needs no kicks until it asks again: it is at work on the available ring.
    pub fn forgo_kicks(&mut self) {
        if self.state == State::Live
            && let Ok(wish) = self.wish()
        {
            self.avail.forgo_notification(wish);
        }
    }

    /// Were chains returned since the last call of this, and does the driver want to be told? If so this counts as an
    /// interrupt, and the caller is to raise it.
    pub fn interrupt_needed(&mut self) -> bool {
        if self.state == State::Detached || !self.used.is_untold() {
            return false;
        }
        let wish = if self.features.contains(Features::EVENT_INDEX) {
            atomic(&self.region, self.layout.used_event()).map(Wish::Event)
        } else {
            atomic(&self.region, self.layout.avail).map(Wish::Flags)
        };
        let Ok(wish) = wish else { return true };
        let needed = self.used.must_notify(wish);
        self.statistics.interrupts += u64::from(needed);
        self.statistics.interrupts_suppressed += u64::from(!needed);
        needed
    }

    /// Where the device says when it wants to be kicked.
    fn wish(&self) -> Result<Wish<'_, AtomicU16>, RingError> {
        if self.features.contains(Features::EVENT_INDEX) {
            atomic(&self.region, self.layout.avail_event()).map(Wish::Event)
        } else {
            atomic(&self.region, self.layout.used).map(Wish::Flags)
        }
    }

    fn try_add_used(&mut self, head: u16, written: u32) -> Result<(), RingError> {
        let place = self.layout.used_entry(self.used.idx()) as usize;
        self.region.mapping().get_ref::<Le32>(place)?.store(u32::from(head).into());
        self.region.mapping().get_ref::<Le32>(place + 4)?.store(written.into());
        self.used.publish(atomic(&self.region, self.layout.used_idx())?);
        Ok(())
    }

    /// Takes the next entry of the available ring, if there is one.
    fn next_head(&mut self) -> Result<Option<u16>, RingError> {
        let available = self.avail.available(atomic(&self.region, self.layout.avail_idx())?);
        if available == 0 {
            return Ok(None);
        }
        if available > self.layout.size {
            return Err(RingError::TooMany(available));
        }
        let entry = atomic(&self.region, self.layout.avail_entry(self.avail.idx()))?;
        let head = u16::from_le(entry.load(Ordering::Relaxed));
        self.avail.advance();
        Ok(Some(head))
    }
}

fn atomic(region: &Region, place: u64) -> Result<&AtomicU16, RingError> {
    Ok(region.mapping().get_atomic_ref(place as usize)?)
}

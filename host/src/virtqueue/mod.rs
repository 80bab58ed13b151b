//! A virtio 1.x split queue that lies in the region: its layout, and the driver's side of it.
//!
//! - [`Layout`]: where the descriptor table and the two rings are.
//! - [`Features`]: what the two sides agree on.
//! - [`Driver`]: adds chains and takes used ones; it stands behind the WIT interface `virtqueue`.
//! - [`DeviceQueue`]: the device's side, which trusts nothing that is in the ring.
//!
//! Source: Virtual I/O Device (VIRTIO) Version 1.3, section 2.7, and Linux's `virtio_ring.c`.

mod descriptors;
mod driver;
mod feature;
pub(crate) mod index;
mod slots;

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering, fence},
};

pub use self::{
    driver::{Driver, DriverStatistics, Used, UsedChain},
    feature::Features,
    slots::MAX_HEADER,
};
pub use crate::device::{Chain, DeviceQueue};
use crate::{
    lease::MemoryError,
    region::{Extent, Region, RegionError},
};

/// Sizes that a queue can have, in descriptors; only powers of two.
pub const SIZES: std::ops::RangeInclusive<u16> = 8..=1024;

/// Bytes of a descriptor.
pub(crate) const DESCRIPTOR: u64 = 16;
/// What each part of the ring is aligned to: more than virtio asks, so that what the driver writes and what the
/// device writes are not in one cache line.
const ALIGNMENT: u64 = 64;

/// Why a chain is not added: `queue-error` of the WIT interface `virtqueue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Not enough free descriptors now.
    #[error("the queue is full")]
    Full,
    /// More descriptors than the queue has in all.
    #[error("more segments than the queue has descriptors")]
    TooManySegments,
    /// The header, or the space for the reply's, is above [`MAX_HEADER`].
    #[error("a header of more than {MAX_HEADER} bytes")]
    HeaderTooLarge,
    /// An extent was refused, or there is no memory for a header.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The device is gone or has broken the rules.
    #[error("the queue is broken")]
    Broken,
}

/// Why a queue cannot be made, or not be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Not a power of two in [`SIZES`].
    #[error("a queue of {0} descriptors: it must be a power of two from {min} to {max}", min = SIZES.start(), max = SIZES.end())]
    Size(u16),
    /// The region has no space for it.
    #[error("the region has no space for a queue of {0} descriptors")]
    NoSpace(u16),
    /// A part of the ring is not in the region, or not aligned as virtio wants it.
    #[error("the ring is not in the region, or not aligned")]
    Layout,
    /// The features lack `VIRTIO_F_VERSION_1`, or have one that is not known here.
    #[error("a queue cannot be used with the features {0:#x}")]
    Features(u64),
    /// The queue's present device has not let go of the ring.
    #[error("a device is still attached to the queue")]
    Attached,
}

impl From<RegionError> for SetupError {
    fn from(_: RegionError) -> Self {
        Self::Layout
    }
}

/// Where the parts of a ring lie, in bytes from the region's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Descriptors in the table: a power of two.
    pub size: u16,
    /// The descriptor table: of each, `addr: u64, len: u32, flags: u16, next: u16`.
    pub descriptors: u64,
    /// The available ring: `flags: u16, idx: u16`, `size` times `head: u16`, and `used_event: u16`.
    pub avail: u64,
    /// The used ring: `flags: u16, idx: u16`, `size` times `id: u32, len: u32`, and `avail_event: u16`.
    pub used: u64,
}

impl Layout {
    /// The parts of a ring of `size` descriptors, one behind the other from `base` on.
    pub fn new(base: u64, size: u16) -> Self {
        let avail = base + DESCRIPTOR * u64::from(size);
        let used = (avail + 6 + 2 * u64::from(size)).next_multiple_of(ALIGNMENT);
        Self { size, descriptors: base, avail, used }
    }

    /// The first byte behind the used ring.
    pub fn end(&self) -> u64 {
        self.used + 6 + 8 * u64::from(self.size)
    }

    /// Where the descriptor with this index is.
    pub fn descriptor(&self, index: u16) -> u64 {
        self.descriptors + DESCRIPTOR * u64::from(index)
    }

    /// Where the available ring's `idx` is.
    pub fn avail_idx(&self) -> u64 {
        self.avail + 2
    }

    /// Where the entry of the available ring that `idx` counts is.
    pub fn avail_entry(&self, idx: u16) -> u64 {
        self.avail + 4 + 2 * u64::from(idx & (self.size - 1))
    }

    /// Where `used_event` is, by which the driver says when it wants to be interrupted.
    pub fn used_event(&self) -> u64 {
        self.avail + 4 + 2 * u64::from(self.size)
    }

    /// Where the used ring's `idx` is.
    pub fn used_idx(&self) -> u64 {
        self.used + 2
    }

    /// Where the entry of the used ring that `idx` counts is.
    pub fn used_entry(&self, idx: u16) -> u64 {
        self.used + 4 + 8 * u64::from(idx & (self.size - 1))
    }

    /// Where `avail_event` is, by which the device says when it wants to be kicked.
    pub fn avail_event(&self) -> u64 {
        self.used + 4 + 8 * u64::from(self.size)
    }
}

/// Words of the ring are little endian.
impl index::Word for AtomicU16 {
    fn load(&self, ordering: Ordering) -> u16 {
        u16::from_le(self.load(ordering))
    }

    fn store(&self, value: u16, ordering: Ordering) {
        self.store(value.to_le(), ordering);
    }

    fn fence(ordering: Ordering) {
        fence(ordering);
    }
}

/// The ring's own memory. Driver and device share it, for as long as either may touch it.
#[derive(Debug)]
pub(crate) struct RingMemory {
    region: Arc<Region>,
    layout: Layout,
    /// The table and the rings.
    rings: Extent,
    /// The slots of small headers and tables.
    slots: Extent,
}

impl RingMemory {
    fn new(region: Arc<Region>, size: u16, features: Features) -> Result<Self, SetupError> {
        if !SIZES.contains(&size) || !size.is_power_of_two() {
            return Err(SetupError::Size(size));
        }
        let allocate = |len| region.allocate(len).ok_or(SetupError::NoSpace(size));
        let rings = allocate(Layout::new(0, size).end() as u32)?;
        let slots = allocate(slots::slots_len(slots::slots(size, features))).inspect_err(|_| region.free(rings))?;
        let layout = Layout::new(rings.offset, size);
        let mut memory = Self { region, layout, rings, slots };
        memory.clear()?;
        Ok(memory)
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Makes the rings as they are before any chain was added. Alone: nobody else may be at them.
    fn clear(&mut self) -> Result<(), SetupError> {
        Ok(self.region.write(self.rings.offset, &vec![0; self.rings.len as usize])?)
    }
}

impl Drop for RingMemory {
    fn drop(&mut self) {
        self.region.free(self.rings);
        self.region.free(self.slots);
    }
}

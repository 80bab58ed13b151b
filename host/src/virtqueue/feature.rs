//! What driver and device agree on before they use a queue.

use std::ops::BitAnd;

use virtio_bindings::bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};

use super::SetupError;

/// Feature bits of virtio.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(u64);

impl Features {
    /// `VIRTIO_F_VERSION_1`: the ring is as virtio 1 has it, little endian. Without it there is nothing here.
    pub const VERSION_1: Self = Self(1 << VIRTIO_F_VERSION_1);
    /// `VIRTIO_F_EVENT_IDX`: each side says at which entry it wants to be notified next.
    pub const EVENT_INDEX: Self = Self(1 << VIRTIO_RING_F_EVENT_IDX);
    /// `VIRTIO_F_INDIRECT_DESC`: a descriptor may refer to a table of descriptors.
    pub const INDIRECT: Self = Self(1 << VIRTIO_RING_F_INDIRECT_DESC);
    /// All that there are here.
    pub const ALL: Self = Self::VERSION_1.and(Self::EVENT_INDEX).and(Self::INDIRECT);

    /// The bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Are all of `others` among these?
    pub fn contains(self, others: Self) -> bool {
        self & others == others
    }

    /// These and `others`.
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// What is used where the device offers these, and the driver `wants` those.
    ///
    /// # Errors
    /// [`SetupError::Features`] where one of them lacks [`VERSION_1`](Self::VERSION_1).
    pub fn negotiate(self, wants: Self) -> Result<Self, SetupError> {
        (self & wants).accepted()
    }

    /// These, if a queue can be driven with them alone.
    pub(crate) fn accepted(self) -> Result<Self, SetupError> {
        let good = self.contains(Self::VERSION_1) && Self::ALL.contains(self);
        if good { Ok(self) } else { Err(SetupError::Features(self.0)) }
    }
}

impl From<u64> for Features {
    fn from(bits: u64) -> Self {
        Self(bits)
    }
}

impl BitAnd for Features {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl std::fmt::Debug for Features {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Features({:#x})", self.0)
    }
}

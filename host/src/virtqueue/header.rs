//! Memory for message headers: what the ring itself owns, beside the extents that components name.

use crate::{
    lease::MemoryError,
    region::{Extent, Region},
};

/// The most bytes of header in either direction.
pub const MAX_HEADER: u32 = 65_536;

/// Bytes of a slot. Most messages, and all replies but those that carry names or data, are shorter.
const SLOT: u32 = 512;

/// Bytes of all slots of a queue: one for each descriptor, so that they never run out.
pub(super) fn slots_len(size: u16) -> u32 {
    SLOT * u32::from(size)
}

/// Where headers are put: a slot, or for a long one a run of pages. The slot that was given back last is taken
/// first, for it is in the processor's caches.
#[derive(Debug)]
pub(super) struct Headers {
    slots: Extent,
    free: Vec<u16>,
}

/// Memory for one header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Header {
    /// There is none.
    #[default]
    None,
    /// In a slot, and how many bytes of it.
    Slot(u16, u32),
    /// In pages of its own.
    Pages(Extent),
}

impl Headers {
    pub(super) fn new(slots: Extent, size: u16) -> Self {
        Self { slots, free: (0..size).rev().collect() }
    }

    /// Takes memory for `len` bytes.
    pub(super) fn take(&mut self, region: &Region, len: u32) -> Result<Header, MemoryError> {
        if len == 0 {
            return Ok(Header::None);
        }
        if len <= SLOT
            && let Some(slot) = self.free.pop()
        {
            return Ok(Header::Slot(slot, len));
        }
        region.allocate(len).map(Header::Pages).ok_or(MemoryError::NoSpace)
    }

    pub(super) fn give_back(&mut self, region: &Region, header: Header) {
        match header {
            Header::None => {}
            Header::Slot(slot, _) => self.free.push(slot),
            Header::Pages(pages) => region.free(pages),
        }
    }

    /// Where it is.
    pub(super) fn extent(&self, header: Header) -> Option<Extent> {
        match header {
            Header::None => None,
            Header::Slot(slot, len) => {
                Some(Extent { offset: self.slots.offset + u64::from(SLOT) * u64::from(slot), len })
            }
            Header::Pages(pages) => Some(pages),
        }
    }
}

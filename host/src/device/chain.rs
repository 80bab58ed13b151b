//! Chains of descriptors, as the device sees them.

use smallvec::SmallVec;
use virtio_queue::desc::{RawDescriptor, split};
use vm_memory::VolatileMemory;

use crate::{
    region::{Extent, Region},
    virtqueue::{DESCRIPTOR, Features, Layout},
};

/// A chain, read from the descriptor table once and checked. What the driver does to the table afterwards does not
/// change it; what the driver does to the memory that it names is for the reader of that memory to bear.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    /// Those that the device reads, then those that it writes.
    extents: SmallVec<[Extent; 4]>,
    readable: usize,
    readable_len: u32,
    writable_len: u32,
}

/// Why a chain is no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// An index is not one of the table.
    #[error("descriptor {0} is not in the table")]
    Index(u16),
    /// It has more descriptors than the queue.
    #[error("the descriptors form a loop")]
    Loop,
    /// A descriptor is indirect, which was not negotiated.
    #[error("an indirect descriptor, which was not negotiated")]
    Indirect,
    /// A descriptor of an indirect table is indirect.
    #[error("an indirect table in an indirect table")]
    Nested,
    /// A descriptor follows an indirect one.
    #[error("an indirect descriptor that is not the last")]
    NotLast,
    /// An indirect table is empty, not whole descriptors, or reaches past the region's end.
    #[error("{} bytes at {} are no table of descriptors", .0.len, .0.offset)]
    Table(Extent),
    /// A readable descriptor follows a writable one.
    #[error("a readable descriptor follows a writable one")]
    Order,
    /// A descriptor is empty, or reaches past the region's end.
    #[error("the descriptor of {} bytes at {} is no part of the region", .0.len, .0.offset)]
    OutOfRange(Extent),
    /// All descriptors together have 4 GiB or more.
    #[error("a chain of 4 GiB or more")]
    TooLong,
}

impl Chain {
    /// Reads the chain that begins with the descriptor `head`. Its last descriptor may be indirect, where that was
    /// negotiated; with those of the table it has no more than the queue.
    ///
    /// The iterator of virtio-queue is not used, because it ends at a bad descriptor as it does at the last one, and
    /// follows indirect ones that were not negotiated.
    pub(super) fn read(region: &Region, layout: &Layout, features: Features, head: u16) -> Result<Self, BadChain> {
        let mut chain = Self { head, extents: SmallVec::new(), readable: 0, readable_len: 0, writable_len: 0 };
        let mut total = 0u32;
        let mut index = head;
        // The table that it is in, and its length.
        let (mut table, mut count, mut nested) = (layout.descriptors, u32::from(layout.size), false);
        loop {
            if u32::from(index) >= count {
                return Err(BadChain::Index(index));
            }
            if chain.extents.len() == usize::from(layout.size) {
                return Err(BadChain::Loop);
            }
            let place = table + DESCRIPTOR * u64::from(index);
            let place = region.mapping().get_ref::<RawDescriptor>(place as usize);
            let descriptor = split::Descriptor::from(place.map_err(|_| BadChain::Index(index))?.load());
            if descriptor.refers_to_indirect_table() {
                if !features.contains(Features::INDIRECT) {
                    return Err(BadChain::Indirect);
                }
                if nested {
                    return Err(BadChain::Nested);
                }
                if descriptor.has_next() {
                    return Err(BadChain::NotLast);
                }
                let extent = Extent { offset: descriptor.addr().0, len: descriptor.len() };
                count = extent.len / DESCRIPTOR as u32;
                let whole = count > 0 && extent.len.is_multiple_of(DESCRIPTOR as u32);
                if !whole || extent.end().is_none_or(|end| end > region.size()) {
                    return Err(BadChain::Table(extent));
                }
                (table, index, nested) = (extent.offset, 0, true);
                continue;
            }
            let extent = Extent { offset: descriptor.addr().0, len: descriptor.len() };
            if extent.len == 0 || extent.end().is_none_or(|end| end > region.size()) {
                return Err(BadChain::OutOfRange(extent));
            }
            total = total.checked_add(extent.len).ok_or(BadChain::TooLong)?;
            if descriptor.is_write_only() {
                chain.writable_len += extent.len;
            } else if chain.writable_len > 0 {
                return Err(BadChain::Order);
            } else {
                chain.readable += 1;
                chain.readable_len += extent.len;
            }
            chain.extents.push(extent);
            if !descriptor.has_next() {
                return Ok(chain);
            }
            index = descriptor.next();
        }
    }

    /// The index of its first descriptor, by which it is returned.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// What the device reads.
    pub fn readable(&self) -> &[Extent] {
        &self.extents[..self.readable]
    }

    /// What the device writes.
    pub fn writable(&self) -> &[Extent] {
        &self.extents[self.readable..]
    }

    /// Bytes that the device can read.
    pub fn readable_len(&self) -> u32 {
        self.readable_len
    }

    /// Bytes that the device can write.
    pub fn writable_len(&self) -> u32 {
        self.writable_len
    }
}

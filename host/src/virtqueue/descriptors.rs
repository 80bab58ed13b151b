//! The descriptor table, and the tables that its descriptors may refer to, as the driver fills them.

use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::{RawDescriptor, split};
use vm_memory::VolatileMemory;

use super::{DESCRIPTOR, Layout, QueueError};
use crate::region::{Extent, Region};

/// A part of a chain: its memory, and who writes to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) extent: Extent,
    pub(super) written_by_device: bool,
}

/// The descriptors of a chain that is in the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) head: u16,
    last: u16,
    count: u16,
}

/// Which descriptors are free. What the ring says of that is not believed.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// Which one follows: in a chain, or in the list of free ones.
    next: Box<[u16]>,
    first_free: u16,
    free: u16,
}

impl Descriptors {
    /// A table of `size` free descriptors.
    pub(super) fn new(size: u16) -> Self {
        Self { next: (1..=size).collect(), first_free: 0, free: size }
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.free.into()
    }

    /// The head of the next chain, where one is free.
    pub(super) fn head(&self) -> u16 {
        self.first_free
    }

    /// Makes a chain of `count` parts, no more than are free.
    pub(super) fn chain(
        &mut self,
        region: &Region,
        layout: &Layout,
        count: usize,
        parts: impl Iterator<Item = Part>,
    ) -> Result<Taken, QueueError> {
        let head = self.first_free;
        let (mut last, mut following) = (head, head);
        for (done, part) in (1..).zip(parts) {
            last = following;
            following = self.next[usize::from(last)];
            let (flags, next) = if done == count { (0, 0) } else { (VRING_DESC_F_NEXT as u16, following) };
            write(region, layout.descriptor(last), part, flags, next)?;
        }
        self.first_free = following;
        self.free -= count as u16;
        Ok(Taken { head, last, count: count as u16 })
    }

    /// The same in a table of its own, for which there are 16 bytes a part: takes one descriptor, of which one must be
    /// free.
    pub(super) fn indirect(
        &mut self,
        region: &Region,
        layout: &Layout,
        table: Extent,
        parts: impl Iterator<Item = Part>,
    ) -> Result<Taken, QueueError> {
        let count = table.len / DESCRIPTOR as u32;
        for (next, part) in (1..).zip(parts) {
            let place = table.offset + DESCRIPTOR * u64::from(next - 1);
            let (flags, next) = if u32::from(next) == count { (0, 0) } else { (VRING_DESC_F_NEXT as u16, next) };
            write(region, place, part, flags, next)?;
        }
        let head = self.first_free;
        let part = Part { extent: table, written_by_device: false };
        write(region, layout.descriptor(head), part, VRING_DESC_F_INDIRECT as u16, 0)?;
        self.first_free = self.next[usize::from(head)];
        self.free -= 1;
        Ok(Taken { head, last: head, count: 1 })
    }

    /// Frees the descriptors of a chain.
    pub(super) fn give_back(&mut self, taken: Taken) {
        self.next[usize::from(taken.last)] = self.first_free;
        self.first_free = taken.head;
        self.free += taken.count;
    }
}

/// Bytes of a table of so many descriptors, which are never more than a queue has.
pub(super) fn table_len(count: usize) -> u32 {
    count as u32 * DESCRIPTOR as u32
}

fn write(region: &Region, place: u64, part: Part, flags: u16, next: u16) -> Result<(), QueueError> {
    let direction = if part.written_by_device { VRING_DESC_F_WRITE as u16 } else { 0 };
    let descriptor = split::Descriptor::new(part.extent.offset, part.extent.len, flags | direction, next);
    let place = region.mapping().get_ref(place as usize);
    place.map_err(|_| QueueError::Broken)?.store(RawDescriptor::from(descriptor));
    Ok(())
}

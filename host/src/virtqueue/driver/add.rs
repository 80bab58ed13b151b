//! `virtqueue_add_sgs()`.

use std::sync::atomic::Ordering;

use super::{Driver, InFlight, QueueError, atomic};
use crate::{
    lease::{Leases, MemoryError},
    region::Extent,
    virtqueue::{
        Features,
        descriptors::{Part, table_len},
        slots::MAX_HEADER,
    },
};

/// How many low bits of a token are the index of the chain's first descriptor; the others are its generation.
const INDEX_BITS: u32 = 10;

/// More parts than these are put into a table of their own, where that was negotiated. For a few, the one way costs what
/// the other does.
const MOST_DIRECT: usize = 8;

impl Driver {
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

    fn publish(&mut self, head: u16) -> Result<(), QueueError> {
        let layout = self.ring.layout;
        let entry = atomic(&self.region, layout.avail_entry(self.avail.idx()))?;
        entry.store(head.to_le(), Ordering::Relaxed);
        self.avail.publish(atomic(&self.region, layout.avail_idx())?);
        Ok(())
    }
}

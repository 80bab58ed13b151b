//! `virtqueue_get_buf()`.

use vm_memory::{Le32, VolatileMemory};

use super::{Driver, InFlight, QueueError, atomic};
use crate::lease::Leases;

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

impl Driver {
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

//! Application buffers: pieces of a mount's region that are lent to the client for one operation at a time.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    payload::Payload,
    region::{Extent, PAGE, Region},
};

/// Where a mount's buffers come from.
pub(crate) struct BufferPool {
    region: Arc<Region>,
    /// Told each time that a buffer comes back.
    freed: Notify,
}

impl BufferPool {
    pub(crate) fn new(region: Arc<Region>) -> Arc<Self> {
        Arc::new(Self { region, freed: Notify::new() })
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// A buffer of `len` bytes if there is room now.
    pub(crate) fn try_take(self: &Arc<Self>, len: u32) -> Option<Buffer> {
        let allocation = self.region.allocate(len.max(1))?;
        let memory = Memory::Own(Allocation { pool: Arc::clone(self), extent: allocation });
        Some(Buffer { memory, start: 0, len })
    }

    /// A buffer of `len` bytes, or of fewer where memory is scarce, but at least a page; waits for others to
    /// give theirs back where there is none at all.
    pub(crate) async fn take(self: &Arc<Self>, len: u32) -> Buffer {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let mut len = len;
            loop {
                if let Some(buffer) = self.try_take(len) {
                    return buffer;
                }
                if len <= PAGE {
                    break;
                }
                len /= 2;
            }
            freed.await;
        }
    }
}

/// A piece of a mount's region, in nobody else's hands. It goes back to the mount when it is dropped.
pub struct Buffer {
    memory: Memory,
    /// The part of it that counts.
    start: u32,
    len: u32,
}

/// What a buffer lies in.
enum Memory {
    Own(Allocation),
    /// Memory of the cache, which knows who else has a part of it.
    Shared(Arc<Allocation>),
}

/// What was allocated for a buffer; it is given back when this is dropped.
pub(crate) struct Allocation {
    pool: Arc<BufferPool>,
    extent: Extent,
}

impl Allocation {
    /// The part of it at `start`. The caller sees to it that nobody writes to what others read.
    pub(crate) fn part(self: &Arc<Self>, start: u32, len: u32) -> Buffer {
        let start = start.min(self.extent.len);
        Buffer { memory: Memory::Shared(Arc::clone(self)), start, len: len.min(self.extent.len - start) }
    }

    /// Bytes.
    pub(crate) fn len(&self) -> u32 {
        self.extent.len
    }

    /// Copies all of it to another allocation, as far as there is space.
    pub(crate) fn copy_to(&self, other: &Self) {
        if let (Ok(from), Ok(to)) = (self.pool.region.slice(self.extent), other.pool.region.slice(other.extent)) {
            from.copy_to_volatile_slice(to);
        }
    }
}

impl std::ops::Deref for Memory {
    type Target = Allocation;

    fn deref(&self) -> &Allocation {
        match self {
            Self::Own(allocation) => allocation,
            Self::Shared(allocation) => allocation,
        }
    }
}

impl Buffer {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Does it hold no byte?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Forgets the first `len` bytes.
    pub(crate) fn discard_front(&mut self, len: usize) {
        let len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
        self.start += len;
        self.len -= len;
    }

    /// Copies `bytes` into it at `at`, as many as there is space for, and tells how many.
    pub fn write(&self, at: usize, bytes: &[u8]) -> usize {
        self.payload().part(at, bytes.len()).copy_from(bytes)
    }

    /// Copies from it at `at` into `bytes`, as many as there are, and tells how many.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> usize {
        self.payload().part(at, bytes.len()).copy_to(bytes)
    }

    /// Copies its first bytes to the front of `into`, as many as there is space for.
    pub(crate) fn copy_to(&self, into: &Payload<'_>) {
        self.payload().copy_to_payload(into);
    }

    /// Copies to its front what `from` has, as much as there is space for.
    pub(crate) fn copy_from(&self, from: &Payload<'_>) {
        from.copy_to_payload(&self.payload());
    }

    /// The bytes, where they lie; the buffer goes back to the mount when the last clone is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(Frozen(self))
    }

    /// Where it lies in the mount's region.
    pub(crate) fn extent(&self) -> Extent {
        Extent { offset: self.memory.extent.offset + u64::from(self.start), len: self.len }
    }

    pub(crate) fn is_of(&self, pool: &Arc<BufferPool>) -> bool {
        Arc::ptr_eq(&self.memory.pool, pool)
    }

    /// The whole of what was allocated, to be shared in parts.
    pub(crate) fn into_shared(self) -> Arc<Allocation> {
        match self.memory {
            Memory::Own(allocation) => Arc::new(allocation),
            Memory::Shared(allocation) => allocation,
        }
    }

    fn payload(&self) -> Payload<'_> {
        self.memory.pool.region.payload(&[self.extent()]).unwrap_or_default()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.pool.region.free(self.extent);
        self.pool.freed.notify_waiters();
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Buffer").field(&self.extent()).finish()
    }
}

/// A buffer whose bytes nobody changes any more.
struct Frozen(Buffer);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        let Ok(slice) = self.0.memory.pool.region.slice(self.0.extent()) else { return &[] };
        let guard = slice.ptr_guard();
        // SAFETY: the memory stays mapped as long as the region, which `self` holds. Nobody writes to it: the extent
        // is allocated to this buffer, leases on it end before an operation gives the buffer back (a buffer that a
        // device may still write to is kept by the mount instead), and a `Frozen` is never lent again. Of shared memory
        // the cache makes a `Frozen` only while it is not lent, and lends and changes it only while there is none. The
        // region is shared with no other process.
        unsafe { std::slice::from_raw_parts(guard.as_ptr(), guard.len()) }
    }
}

//! Buffers for replies, used again and again.
//!
//! Each is about as large as the reply that it was taken for needs, not as large as `msize`: most replies are small,
//! and touching a megabyte for each costs more than answering it.

use std::sync::Arc;

use parking_lot::Mutex;

/// The smallest size: for all replies without bulk data.
const SMALLEST: usize = 256;
/// The other sizes are powers of two from this on, and [`EXTRA`] bytes.
const SECOND: usize = 4096;
/// So that a power of two of payload fits with its header.
const EXTRA: usize = 4096;
/// How many sizes there are, the largest 16 MiB and [`EXTRA`].
const SIZES: usize = 14;
/// How many bytes are kept for later use.
const MOST_KEPT: usize = 32 << 20;

/// A store of buffers, shared by all connections.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    by_size: [Vec<Vec<u8>>; SIZES],
    bytes: usize,
}

impl Buffers {
    /// A buffer of at least so many bytes; what is in them is of no meaning.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Buffer {
        let size = size_for(bytes);
        let kept = size.and_then(|size| {
            let mut free = self.free.lock();
            let kept = free.by_size[size].pop();
            free.bytes -= kept.as_ref().map_or(0, Vec::len);
            kept
        });
        let bytes = kept.unwrap_or_else(|| vec![0; length_for(bytes)]);
        Buffer { bytes, filled: 0, buffers: Arc::clone(self) }
    }
}

/// A buffer, which goes back to its store when it is dropped.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    buffers: Arc<Buffers>,
}

impl Buffer {
    /// Bytes in all.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is in it.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// What may be filled next.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Notes that so many bytes of [`Self::space`] are filled.
    pub(super) fn fill(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.bytes.len());
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let length = self.bytes.len();
        let Some(size) = size_for(length).filter(|&size| length_of(size) == length) else { return };
        let mut free = self.buffers.free.lock();
        if free.bytes + length <= MOST_KEPT {
            free.bytes += length;
            free.by_size[size].push(std::mem::take(&mut self.bytes));
        }
    }
}

/// How long a buffer is that is taken for so many bytes.
pub(super) fn length_for(bytes: usize) -> usize {
    size_for(bytes).map_or(bytes, length_of)
}

/// The smallest size with so many bytes.
fn size_for(bytes: usize) -> Option<usize> {
    (0..SIZES).find(|&size| length_of(size) >= bytes)
}

fn length_of(size: usize) -> usize {
    if size == 0 { SMALLEST } else { (SECOND << (size - 1)) + EXTRA }
}

//! A file's bytes, in chunks of 64 KiB of which only those written to exist.

use std::collections::BTreeMap;

use ninering_wire::Errno;

use super::space::Space;
use crate::payload::Payload;

/// Bytes that a chunk covers.
const CHUNK: u64 = 1 << 16;
/// Bytes that the smallest chunk has. They double as it grows, so small files are small.
const SMALLEST: usize = 512;
/// What holes are read from.
static ZEROS: [u8; 1 << 14] = [0; 1 << 14];

/// The contents of a regular file.
#[derive(Default)]
pub(super) struct Data {
    size: u64,
    /// By their place in the file divided by [`CHUNK`]. Each begins there and may end before the next begins: behind
    /// it, and where there is none, all is zero. Past the end of the file all bytes are zero as well.
    chunks: BTreeMap<u64, Vec<u8>>,
    /// Bytes of all chunks.
    allocated: u64,
}

impl Data {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in use, for which space was taken.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Copies what is at `offset` to the front of `into`.
    pub(super) fn read(&self, offset: u64, into: &Payload<'_>) -> usize {
        let there = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = into.len().min(there);
        let mut done = 0;
        while done < count {
            let (number, start) = place(offset + done as u64);
            let take = (count - done).min(CHUNK as usize - start);
            let chunk = self.chunks.get(&number).map_or(&[][..], |chunk| chunk.get(start..).unwrap_or_default());
            let chunk = &chunk[..take.min(chunk.len())];
            if done == 0 && !chunk.is_empty() {
                into.copy_from(chunk);
            } else {
                into.part(done, chunk.len()).copy_from(chunk);
            }
            fill_zero(into, done + chunk.len(), take - chunk.len());
            done += take;
        }
        count
    }

    /// Copies the bytes of `from` to `offset`. Fewer than there are where space ends; `ENOSPC` where there is none.
    pub(super) fn write(&mut self, offset: u64, from: &Payload<'_>, space: &Space) -> Result<usize, Errno> {
        let count = from.len();
        if offset.checked_add(count as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::EFBIG);
        }
        let mut done = 0;
        while done < count {
            let (number, start) = place(offset + done as u64);
            let take = (count - done).min(CHUNK as usize - start);
            match self.chunk(number, start + take, space) {
                Ok(chunk) => {
                    let target = &mut chunk[start..start + take];
                    let copied =
                        if count == take { from.copy_to(target) } else { from.part(done, take).copy_to(target) };
                    debug_assert_eq!(copied, take);
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            done += take;
        }
        self.size = self.size.max(offset + done as u64);
        Ok(done)
    }

    /// Cuts it off, or extends it with zeros.
    pub(super) fn resize(&mut self, size: u64, space: &Space) {
        if size < self.size {
            let before = self.allocated;
            let (number, end) = place(size);
            for chunk in self.chunks.split_off(&(number + u64::from(end > 0))).values() {
                self.allocated -= chunk.len() as u64;
            }
            if end > 0
                && let Some(chunk) = self.chunks.get_mut(&number)
            {
                let keep = chunk_len(end).min(chunk.len());
                self.allocated -= (chunk.len() - keep) as u64;
                chunk.truncate(keep);
                chunk.shrink_to_fit();
                if let Some(cut) = chunk.get_mut(end..) {
                    cut.fill(0);
                }
            }
            space.return_bytes(before - self.allocated);
        }
        self.size = size;
    }

    /// The chunk of that number, at least `length` bytes of it.
    fn chunk(&mut self, number: u64, length: usize, space: &Space) -> Result<&mut Vec<u8>, Errno> {
        let chunk = self.chunks.entry(number).or_default();
        if chunk.len() < length {
            let grown = chunk_len(length);
            let more = (grown - chunk.len()) as u64;
            if let Err(error) = space.take_bytes(more) {
                if chunk.is_empty() {
                    self.chunks.remove(&number);
                }
                return Err(error);
            }
            self.allocated += more;
            if chunk.is_empty() {
                *chunk = vec![0; grown];
            } else {
                chunk.reserve_exact(grown - chunk.len());
                chunk.resize(grown, 0);
            }
        }
        self.chunks.get_mut(&number).ok_or(Errno::EIO)
    }
}

/// The number of a chunk, and the place in it, of a byte.
fn place(offset: u64) -> (u64, usize) {
    (offset / CHUNK, (offset % CHUNK) as usize)
}

/// How long a chunk is made in which `length` bytes are to be.
fn chunk_len(length: usize) -> usize {
    length.next_power_of_two().max(SMALLEST)
}

fn fill_zero(into: &Payload<'_>, mut start: usize, mut count: usize) {
    while count > 0 {
        let take = count.min(ZEROS.len());
        into.part(start, take).copy_from(&ZEROS[..take]);
        (start, count) = (start + take, count - take);
    }
}

//! Folios: pieces of files in the cache, each whole pages that lie together in the region.

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;

use super::ranges::Ranges;
use crate::mount::buffer::{Allocation, BufferPool};

/// A folio with more pieces than this is written back, or given up.
const MOST_PIECES: usize = 32;

/// A piece of a file. Its memory is in exactly one of these states: nobody's but the index's, lent to write-backs (which
/// only read it), or shown to readers as plain bytes. Only in the first is it written to; otherwise a copy takes its
/// place.
pub(super) struct Folio {
    /// Tells it from others that were at its place before.
    pub(super) id: u64,
    memory: Arc<Allocation>,
    /// Which bytes are the file's.
    pub(super) valid: Ranges,
    /// Which of them the server is yet to be told.
    pub(super) dirty: Ranges,
    /// Which of them it is being told.
    pub(super) writing: Ranges,
    /// Up to where a program has read.
    read_until: u32,
    /// It was used again since it was last looked at for eviction.
    pub(super) is_hot: bool,
    /// It has been used again before, and is among those that stay longer.
    pub(super) is_main: bool,
    /// When it was read from the server.
    pub(super) filled: Instant,
    /// [`Mount::contents`](crate::mount::Mount::contents) just before that.
    pub(super) contents: u64,
}

impl Folio {
    pub(super) fn new(id: u64, memory: Arc<Allocation>, filled: Instant, contents: u64) -> Self {
        Self {
            id,
            memory,
            valid: Ranges::default(),
            dirty: Ranges::default(),
            writing: Ranges::default(),
            read_until: 0,
            is_hot: false,
            is_main: false,
            filled,
            contents,
        }
    }

    /// Bytes, valid or not.
    pub(super) fn len(&self) -> u32 {
        self.memory.len()
    }

    /// Bytes that the server does not have for sure; those that were changed again while they are written count twice.
    pub(super) fn unwritten(&self) -> u64 {
        self.dirty.count() + self.writing.count()
    }

    /// The end of what the server does not have for sure; 0 where it has all.
    pub(super) fn unwritten_end(&self) -> u32 {
        self.dirty.end().max(self.writing.end())
    }

    /// Notes that a program has read `len` bytes at `at`. Reading on is not using again.
    pub(super) fn touch(&mut self, at: u32, len: u32) {
        self.is_hot |= at < self.read_until;
        self.read_until = at + len;
    }

    /// The bytes where they lie, if nobody can change them there.
    pub(super) fn share(&self, at: u32, len: u32) -> Option<Bytes> {
        self.writing.is_empty().then(|| self.memory.part(at, len).into_bytes())
    }

    /// Copies bytes out, to the end of `target`.
    pub(super) fn copy_to(&self, at: u32, len: u32, target: &mut Vec<u8>) {
        let start = target.len();
        target.resize(start + len as usize, 0);
        self.memory.part(at, len).read(0, &mut target[start..]);
    }

    /// Changes bytes, which are valid then. `false`: others use the memory, and there is none for a copy.
    pub(super) fn write(&mut self, pool: &Arc<BufferPool>, at: u32, bytes: &[u8]) -> bool {
        if Arc::strong_count(&self.memory) > 1 {
            let Some(copy) = pool.try_take(self.len()) else { return false };
            let copy = copy.into_shared();
            self.memory.copy_to(&copy);
            self.memory = copy;
        }
        let len = bytes.len() as u32; // a part of a folio
        self.memory.part(at, len).write(0, bytes);
        self.valid.insert(at..at + len);
        true
    }

    /// The memory of a part, for a write-back to read from. `None`: readers use it.
    pub(super) fn lend(&self) -> Option<Arc<Allocation>> {
        // Readers that come later are told by `writing` to keep off.
        (Arc::strong_count(&self.memory) == 1).then(|| Arc::clone(&self.memory))
    }

    /// Takes bytes out of all sets.
    pub(super) fn cut(&mut self, range: Range<u32>) {
        self.valid.remove(range.clone());
        self.dirty.remove(range.clone());
        self.writing.remove(range);
    }

    /// Leaves of `range` only that valid what the server does not have for sure.
    pub(super) fn drop_clean(&mut self, range: Range<u32>) {
        self.valid.remove(range);
        self.dirty.iter().chain(self.writing.iter()).for_each(|kept| self.valid.insert(kept));
    }

    /// Is what is dirty in very many pieces?
    pub(super) fn is_torn(&self) -> bool {
        self.dirty.runs() > MOST_PIECES
    }

    /// Is nothing in it, or little in very many pieces, and all of that the server's?
    pub(super) fn is_useless(&self) -> bool {
        self.valid.is_empty() || self.valid.runs() > MOST_PIECES && self.unwritten() == 0
    }
}

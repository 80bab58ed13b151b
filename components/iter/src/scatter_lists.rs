//! The scatter lists of a request: what `virtqueue_add_sgs()` takes, made of iters.

use std::cell::RefCell;

use smallvec::SmallVec;

use crate::{
    iov_iter::IovIter,
    types::{Direction, Extent, IterError},
};

/// Why the lists of a request are not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An iter is not so long, goes the other way, or has no memory.
    Iter(IterError),
    /// Only so many bytes of this direction, counted over its lists, fit the limit on segments.
    Short(u64),
}

/// The scatter lists of one request while it is being added: a list is the next bytes of an iter.
///
/// What is mapped is passed at once, so that an iter which is named twice goes on where it was. When this is dropped
/// before it is [kept](Self::keep), all iters go back to where they were.
#[derive(Debug)]
pub struct ScatterLists<'i> {
    /// Each list's iter, and how far it was passed.
    passed: SmallVec<[(&'i RefCell<IovIter>, u64); 2]>,
    /// Extents that there may still be.
    segments_left: u32,
}

impl<'i> ScatterLists<'i> {
    /// No list yet, for a request of at most `max_segments` extents.
    pub fn new(max_segments: u32) -> Self {
        Self { passed: SmallVec::new(), segments_left: max_segments }
    }

    /// Maps the lists of one direction, one behind the other. No extent is of two lists: what the maker of a request
    /// names apart, the device sees apart.
    ///
    /// # Errors
    /// [`MapError`]; what was mapped before stays passed until this is dropped.
    pub fn map(
        &mut self,
        direction: Direction,
        lists: impl IntoIterator<Item = (&'i RefCell<IovIter>, u64)>,
        mut take: impl FnMut(Extent),
    ) -> Result<(), MapError> {
        let mut mapped = 0_u64;
        for (cell, bytes) in lists {
            let iter = &mut *cell.borrow_mut();
            if iter.direction() != direction {
                return Err(MapError::Iter(IterError::Direction));
            }
            if bytes > iter.count() {
                return Err(MapError::Iter(IterError::OutOfBounds));
            }
            if !iter.kind().rules().has_memory && bytes > 0 {
                return Err(MapError::Iter(IterError::Unmappable));
            }
            let extracted = iter.extract(bytes, self.segments_left, &mut take);
            mapped = mapped.saturating_add(extracted.bytes);
            if extracted.bytes < bytes {
                return Err(MapError::Short(mapped));
            }
            iter.advance(bytes).map_err(MapError::Iter)?;
            self.segments_left -= extracted.segments;
            self.passed.push((cell, bytes));
        }
        Ok(())
    }

    /// The request was added: the iters stay where they are.
    pub fn keep(mut self) {
        self.passed.clear();
    }
}

impl Drop for ScatterLists<'_> {
    fn drop(&mut self) {
        for (iter, bytes) in self.passed.drain(..) {
            let reverted = iter.borrow_mut().revert(bytes);
            debug_assert!(reverted.is_ok(), "so far it has come");
        }
    }
}

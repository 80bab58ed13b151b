//! `copy_from_iter()` and `copy_to_iter()`: the explicit bounce, for who has a way to get at the region's bytes.

use crate::{
    iov_iter::IovIter,
    types::{Direction, Extent, IterError},
};

/// Why bytes were not copied. The iter stays where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyError<E> {
    /// The iter is not so long, or goes the other way.
    Iter(IterError),
    /// Some of its memory could not be read or written; why.
    Memory(E),
}

impl IovIter {
    /// Has the next `bytes` bytes read, extent by extent in their order, and goes past them.
    ///
    /// # Errors
    /// [`IterError::Direction`], [`IterError::OutOfBounds`], and those of `read`, which is not called again then.
    pub fn copy_from<E>(&mut self, bytes: u64, read: impl FnMut(Extent) -> Result<(), E>) -> Result<(), CopyError<E>> {
        self.copy(Direction::Source, bytes, read)
    }

    /// Has `bytes` written, piece by piece in their order, each to the offset that it is given with; and goes past them.
    ///
    /// # Errors
    /// As [`copy_from`](Self::copy_from)'s.
    pub fn copy_to<E>(
        &mut self,
        bytes: &[u8],
        mut write: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), CopyError<E>> {
        let mut rest = bytes;
        self.copy(Direction::Dest, bytes.len() as u64, |extent| {
            // All extents together are as long as `bytes`.
            let (now, behind) = rest.split_at_checked(extent.len as usize).unwrap_or((rest, &[]));
            rest = behind;
            write(extent.offset, now)
        })
    }

    fn copy<E>(
        &mut self,
        direction: Direction,
        bytes: u64,
        mut each: impl FnMut(Extent) -> Result<(), E>,
    ) -> Result<(), CopyError<E>> {
        if self.direction() != direction {
            return Err(CopyError::Iter(IterError::Direction));
        }
        if bytes > self.count() {
            return Err(CopyError::Iter(IterError::OutOfBounds));
        }
        let mut copied = Ok(());
        self.extract(bytes, u32::MAX, |extent| {
            if copied.is_ok() {
                copied = each(extent);
            }
        });
        copied.map_err(CopyError::Memory)?;
        self.advance(bytes).map_err(CopyError::Iter)
    }
}

//! What iters are made of and from.

use std::fmt;

/// Bytes in a page, where segments of the kind [`Kind::Bvec`] are split.
///
/// This is what the host's `region.page-size` says, and the only size in use; an iter has no region to ask.
pub const PAGE_SIZE: u64 = 4096;

/// Which way the bytes go, seen from the iter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The iter is read from (`ITER_SOURCE`).
    Source,
    /// The iter is written to (`ITER_DEST`).
    Dest,
}

/// What the segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One buffer of an application: exactly one segment.
    Ubuf,
    /// Buffers of an application.
    Iovec,
    /// Buffers of the component's own.
    Kvec,
    /// Pieces of pages: split where a page ends, and pieces of different pages are never joined.
    Bvec,
    /// A queue of folios, whole ones, each of several pages that belong together: an extent never crosses from one into
    /// the next.
    Folioq,
    /// The pages of a file's cache, whole ones, in the order of the file; each is an extent of its own.
    Xarray,
    /// Nothing: what is put into it is dropped. It has no segments, and only a direction.
    Discard,
}

/// Where an iter is, to come [back](crate::IovIter::restore) to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IterState {
    /// Bytes before the position.
    pub passed: u64,
    /// Bytes to go.
    pub left: u64,
}

/// A run of bytes in the region, as the maker of an iter names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes from the region's start.
    pub base: u64,
    /// Bytes; may be 0.
    pub len: u32,
}

/// A run of bytes in the region, as a virtqueue takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the region's start.
    pub offset: u64,
    /// Bytes; not 0.
    pub len: u32,
}

/// Why an iter cannot be made or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IterError {
    /// [`Kind::Ubuf`] takes exactly one segment, [`Kind::Discard`] none.
    SegmentCount,
    /// A segment of [`Kind::Folioq`] or [`Kind::Xarray`] is not whole pages.
    Alignment,
    /// The iter goes the other way; and from [`Kind::Discard`] nothing can be read.
    Direction,
    /// A segment overflows the address space.
    Overflow,
    /// The count is more than the segments hold, or the move goes past the iter's start or end.
    OutOfBounds,
    /// There is no memory behind a [`Kind::Discard`] that a device could write to.
    Unmappable,
}

impl fmt::Display for IterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::SegmentCount => "an iter over one buffer takes exactly one segment, and one over nothing takes none",
            Self::Alignment => "a folio or page is not whole pages",
            Self::Direction => "the iter goes the other way",
            Self::Overflow => "a segment overflows the address space",
            Self::OutOfBounds => "the position is outside the iter",
            Self::Unmappable => "there is no memory behind what is dropped",
        })
    }
}

impl std::error::Error for IterError {}

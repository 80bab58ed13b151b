//! The iterator and the one function that looks inside it.

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

/// Where an iter is, to come [back](IovIter::restore) to.
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
    /// From [`Kind::Discard`] nothing can be read.
    Direction,
    /// A segment overflows the address space.
    Overflow,
    /// The count is more than the segments hold, or the move goes past the iter's start or end.
    OutOfBounds,
}

impl fmt::Display for IterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::SegmentCount => "an iter over one buffer takes exactly one segment, and one over nothing takes none",
            Self::Alignment => "a folio or page is not whole pages",
            Self::Direction => "nothing can be read from what is discarded",
            Self::Overflow => "a segment overflows the address space",
            Self::OutOfBounds => "the position is outside the iter",
        })
    }
}

impl std::error::Error for IterError {}

/// How far [`IovIter::extract`] came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Bytes in the extents.
    pub bytes: u64,
    /// The number of extents.
    pub segments: u32,
}

/// An iterator over segments: the analogue of `struct iov_iter`.
#[derive(Clone, Debug)]
pub struct IovIter {
    kind: Kind,
    direction: Direction,
    segments: Vec<Segment>,
    /// Bytes in all segments.
    total: u64,
    /// Bytes before the position.
    passed: u64,
    /// Bytes to go.
    left: u64,
    /// The segment at the position. Together with `offset` it always names a byte that is there, or the end of
    /// all segments: empty segments and the ends of others are stepped over at once.
    index: usize,
    /// Bytes of that segment before the position.
    offset: u32,
}

impl IovIter {
    /// An iter over the first `count` bytes of `segments`.
    ///
    /// # Errors
    /// [`IterError::SegmentCount`], [`IterError::Alignment`], [`IterError::Direction`], [`IterError::Overflow`], and
    /// [`IterError::OutOfBounds`] where the segments hold fewer than `count` bytes.
    pub fn create(kind: Kind, direction: Direction, segments: Vec<Segment>, count: u64) -> Result<Self, IterError> {
        let is_whole = |segment: &Segment| {
            segment.base.is_multiple_of(PAGE_SIZE) && u64::from(segment.len).is_multiple_of(PAGE_SIZE)
        };
        match kind {
            Kind::Ubuf if segments.len() != 1 => return Err(IterError::SegmentCount),
            Kind::Discard if !segments.is_empty() => return Err(IterError::SegmentCount),
            Kind::Discard if direction == Direction::Source => return Err(IterError::Direction),
            Kind::Folioq | Kind::Xarray if !segments.iter().all(is_whole) => return Err(IterError::Alignment),
            _ => {}
        }
        // Of nothing there is as much as is asked for.
        let mut total = if kind == Kind::Discard { count } else { 0 };
        for segment in &segments {
            segment.base.checked_add(segment.len.into()).ok_or(IterError::Overflow)?;
            total = total.checked_add(segment.len.into()).ok_or(IterError::Overflow)?;
        }
        if count > total {
            return Err(IterError::OutOfBounds);
        }
        let mut iter = Self { kind, direction, segments, total, passed: 0, left: count, index: 0, offset: 0 };
        iter.step_over_ends();
        Ok(iter)
    }

    /// What the segments are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which way the bytes go.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Bytes that are left.
    pub fn count(&self) -> u64 {
        self.left
    }

    /// Goes `bytes` forward.
    ///
    /// # Errors
    /// [`IterError::OutOfBounds`] past the end; the iter stays where it was.
    pub fn advance(&mut self, bytes: u64) -> Result<(), IterError> {
        self.left = self.left.checked_sub(bytes).ok_or(IterError::OutOfBounds)?;
        self.passed += bytes;
        let mut rest = bytes;
        // `left` never exceeds what the segments hold, so the loop ends before they do.
        while let Some(segment) = self.segments.get(self.index) {
            let here = segment.len - self.offset;
            if rest < here.into() {
                self.offset += rest as u32; // less than `here`
                break;
            }
            rest -= u64::from(here);
            self.index += 1;
            self.offset = 0;
        }
        Ok(())
    }

    /// Goes `bytes` back; that many more are left then.
    ///
    /// # Errors
    /// [`IterError::OutOfBounds`] past the start; the iter stays where it was.
    pub fn revert(&mut self, bytes: u64) -> Result<(), IterError> {
        self.passed = self.passed.checked_sub(bytes).ok_or(IterError::OutOfBounds)?;
        self.left += bytes;
        if self.kind == Kind::Discard {
            return Ok(());
        }
        let mut rest = bytes;
        while rest > self.offset.into() {
            // `passed` counts the bytes before the position, so there is a segment before this one.
            rest -= u64::from(self.offset);
            self.index -= 1;
            self.offset = self.segments[self.index].len;
        }
        self.offset -= rest as u32; // not more than `offset`
        self.step_over_ends();
        Ok(())
    }

    /// Leaves at most `bytes` to go.
    pub fn truncate(&mut self, bytes: u64) {
        self.left = self.left.min(bytes);
    }

    /// Sets the bytes that are left.
    ///
    /// # Errors
    /// [`IterError::OutOfBounds`] where the segments hold fewer from here; nothing is changed.
    pub fn reexpand(&mut self, bytes: u64) -> Result<(), IterError> {
        if bytes > self.total - self.passed {
            return Err(IterError::OutOfBounds);
        }
        self.left = bytes;
        Ok(())
    }

    /// Where it is.
    pub fn save(&self) -> IterState {
        IterState { passed: self.passed, left: self.left }
    }

    /// Goes to where it was when that was [saved](Self::save).
    ///
    /// # Errors
    /// [`IterError::OutOfBounds`] where this iter cannot have been there; it stays where it is.
    pub fn restore(&mut self, state: IterState) -> Result<(), IterError> {
        let IterState { passed, left } = state;
        if passed.checked_add(left).is_none_or(|end| end > self.total) {
            return Err(IterError::OutOfBounds);
        }
        match self.passed.checked_sub(passed) {
            Some(back) => self.revert(back)?,
            None => {
                self.left = self.total - self.passed;
                self.advance(passed - self.passed)?;
            }
        }
        self.left = left;
        Ok(())
    }

    /// All addresses and lengths of what is left, joined by *or*: its low zero bits say how everything is aligned. 0
    /// where nothing is left.
    pub fn alignment(&self) -> u64 {
        let mut all = 0;
        self.extract(u64::MAX, u32::MAX, |extent| all |= extent.offset | u64::from(extent.len));
        all
    }

    /// How many pages what is left lies in, those that several extents share counted for each; no more than `most`.
    pub fn pages(&self, most: u32) -> u32 {
        let mut pages = 0_u64;
        self.extract(u64::MAX, u32::MAX, |extent| {
            let end = extent.offset + u64::from(extent.len); // no segment overflows
            pages += end.div_ceil(PAGE_SIZE) - extent.offset / PAGE_SIZE;
        });
        u32::try_from(pages).map_or(most, |pages| pages.min(most))
    }

    /// Bytes left in the segment at hand.
    pub fn single_segment_count(&self) -> u64 {
        if self.kind == Kind::Discard {
            return self.left;
        }
        self.segments.get(self.index).map_or(0, |segment| u64::from(segment.len - self.offset).min(self.left))
    }

    /// Maps the bytes at hand to extents, in order, without moving: at most `max_bytes` bytes and `max_segments`
    /// extents. The only function that knows what the kinds are.
    ///
    /// Neighbouring bytes share an extent as far as its 32-bit length goes, but those of different pages never do in
    /// a [`Kind::Bvec`] and a [`Kind::Xarray`], nor those of different folios in a [`Kind::Folioq`], for nothing says
    /// that neighbours in the region belong together there. Of a [`Kind::Discard`] there is nothing to be mapped.
    pub fn extract(&self, max_bytes: u64, max_segments: u32, mut take: impl FnMut(Extent)) -> Extracted {
        let mut extracted = Extracted::default();
        if max_segments == 0 {
            return extracted;
        }
        let mut rest = self.left.min(max_bytes);
        let mut open: Option<Extent> = None;
        let mut skip = self.offset;
        for segment in &self.segments[self.index..] {
            let mut base = segment.base + u64::from(skip);
            let mut len = u64::from(segment.len - skip).min(rest);
            skip = 0;
            while len > 0 {
                let piece = match self.kind {
                    Kind::Ubuf | Kind::Iovec | Kind::Kvec | Kind::Folioq | Kind::Discard => len,
                    Kind::Bvec | Kind::Xarray => len.min(PAGE_SIZE - base % PAGE_SIZE),
                };
                // How much of the piece still goes into the open extent: none, or what its length field holds.
                let joined = match &open {
                    Some(extent) if extent.offset + u64::from(extent.len) == base && self.may_join(base) => {
                        piece.min(u64::from(u32::MAX - extent.len))
                    }
                    _ => 0,
                };
                let taken = if let (Some(extent), 1..) = (&mut open, joined) {
                    extent.len += joined as u32; // fits, see above
                    joined
                } else {
                    if extracted.segments == max_segments {
                        break;
                    }
                    extracted.segments += 1;
                    // A piece is part of a segment, whose length is a u32.
                    if let Some(done) = open.replace(Extent { offset: base, len: piece as u32 }) {
                        take(done);
                    }
                    piece
                };
                base += taken;
                len -= taken;
                rest -= taken;
                extracted.bytes += taken;
            }
            if len > 0 || rest == 0 {
                break;
            }
        }
        if let Some(extent) = open {
            take(extent);
        }
        extracted
    }

    /// May the byte at `address` share an extent with the one before it in the region?
    fn may_join(&self, address: u64) -> bool {
        match self.kind {
            Kind::Ubuf | Kind::Iovec | Kind::Kvec => true,
            Kind::Bvec => !address.is_multiple_of(PAGE_SIZE),
            // Each segment begins with a folio or page.
            Kind::Folioq | Kind::Xarray | Kind::Discard => false,
        }
    }

    fn step_over_ends(&mut self) {
        while self.segments.get(self.index).is_some_and(|segment| segment.len == self.offset) {
            self.index += 1;
            self.offset = 0;
        }
    }
}

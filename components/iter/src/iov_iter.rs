//! The iterator: where it is in its segments, and how it is moved.

use smallvec::SmallVec;

use crate::types::{Direction, IterError, IterState, Kind, PAGE_SIZE, Segment};

/// An iterator over segments: the analogue of `struct iov_iter`.
#[derive(Clone, Debug)]
pub struct IovIter {
    kind: Kind,
    direction: Direction,
    pub(crate) segments: SmallVec<[Segment; 1]>,
    /// Bytes in all segments.
    total: u64,
    /// Bytes before the position.
    passed: u64,
    /// Bytes to go.
    pub(crate) left: u64,
    /// The segment at the position. Together with `offset` it always names a byte that is there, or the end of
    /// all segments: empty segments and the ends of others are stepped over at once.
    pub(crate) index: usize,
    /// Bytes of that segment before the position.
    pub(crate) offset: u32,
}

impl IovIter {
    /// An iter over the first `count` bytes of `segments`.
    ///
    /// # Errors
    /// [`IterError::SegmentCount`], [`IterError::Alignment`], [`IterError::Direction`], [`IterError::Overflow`], and
    /// [`IterError::OutOfBounds`] where the segments hold fewer than `count` bytes.
    pub fn create(
        kind: Kind,
        direction: Direction,
        segments: impl IntoIterator<Item = Segment>,
        count: u64,
    ) -> Result<Self, IterError> {
        let segments: SmallVec<[Segment; 1]> = segments.into_iter().collect();
        let is_whole = |segment: &Segment| {
            segment.base.is_multiple_of(PAGE_SIZE) && u64::from(segment.len).is_multiple_of(PAGE_SIZE)
        };
        let rules = kind.rules();
        if rules.segments.is_some_and(|exactly| segments.len() != exactly) {
            return Err(IterError::SegmentCount);
        }
        if !rules.has_memory && direction == Direction::Source {
            return Err(IterError::Direction);
        }
        if rules.whole_pages && !segments.iter().all(is_whole) {
            return Err(IterError::Alignment);
        }
        // Of nothing there is as much as is asked for.
        let mut total = if rules.has_memory { 0 } else { count };
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
        if self.segments.is_empty() {
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

    /// Bytes left in the segment at hand.
    pub fn single_segment_count(&self) -> u64 {
        // Behind all segments nothing is left but what is only counted.
        self.segments.get(self.index).map_or(self.left, |segment| u64::from(segment.len - self.offset).min(self.left))
    }

    fn step_over_ends(&mut self) {
        while self.segments.get(self.index).is_some_and(|segment| segment.len == self.offset) {
            self.index += 1;
            self.offset = 0;
        }
    }
}

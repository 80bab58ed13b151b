//! Memory for message headers and indirect tables: what the ring itself owns, beside the extents that components name.

use super::Features;
use crate::{
    lease::MemoryError,
    region::{Extent, Region},
};

/// The most bytes of header in either direction.
pub const MAX_HEADER: u32 = 65_536;

/// Bytes of a slot. Most messages, and all replies but those that carry names or data, are shorter; it holds a table of
/// 32 descriptors.
const SLOT: u32 = 512;

/// How many slots a queue has, so that they never run out: one for each descriptor. With indirect descriptors each may
/// be a chain with a header, a reply's header and a table.
pub(super) fn slots(size: u16, features: Features) -> u16 {
    if features.contains(Features::INDIRECT) { 3 * size } else { size }
}

/// Bytes of so many slots.
pub(super) fn slots_len(slots: u16) -> u32 {
    SLOT * u32::from(slots)
}

/// The ring's own memory: slots, or for what is long a run of pages. The slot that was given back last is taken first,
/// for it is in the processor's caches.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Extent,
    free: Vec<u16>,
}

/// Memory for one header or table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Piece {
    /// There is none.
    #[default]
    None,
    /// In a slot, and how many bytes of it.
    Slot(u16, u32),
    /// In pages of its own.
    Pages(Extent),
}

impl Slots {
    /// `count` slots that begin where `slots` does.
    pub(super) fn new(slots: Extent, count: u16) -> Self {
        Self { slots, free: (0..count).rev().collect() }
    }

    /// Takes memory for all of these, or for none.
    pub(super) fn take_all<const N: usize>(
        &mut self,
        region: &Region,
        lens: [u32; N],
    ) -> Result<[Piece; N], MemoryError> {
        let mut pieces = [Piece::None; N];
        for (index, len) in lens.into_iter().enumerate() {
            match self.take(region, len) {
                Ok(piece) => pieces[index] = piece,
                Err(error) => {
                    self.give_all_back(region, pieces);
                    return Err(error);
                }
            }
        }
        Ok(pieces)
    }

    /// Gives memory back; the last first, so that it is taken in the same order the next time.
    pub(super) fn give_all_back<const N: usize>(&mut self, region: &Region, pieces: [Piece; N]) {
        for piece in pieces.into_iter().rev() {
            self.give_back(region, piece);
        }
    }

    /// Takes memory for `len` bytes.
    fn take(&mut self, region: &Region, len: u32) -> Result<Piece, MemoryError> {
        if len == 0 {
            return Ok(Piece::None);
        }
        if len <= SLOT
            && let Some(slot) = self.free.pop()
        {
            return Ok(Piece::Slot(slot, len));
        }
        region.allocate(len).map(Piece::Pages).ok_or(MemoryError::NoSpace)
    }

    fn give_back(&mut self, region: &Region, piece: Piece) {
        match piece {
            Piece::None => {}
            Piece::Slot(slot, _) => self.free.push(slot),
            Piece::Pages(pages) => region.free(pages),
        }
    }

    /// Where it is.
    pub(super) fn extent(&self, piece: Piece) -> Option<Extent> {
        match piece {
            Piece::None => None,
            Piece::Slot(slot, len) => {
                Some(Extent { offset: self.slots.offset + u64::from(SLOT) * u64::from(slot), len })
            }
            Piece::Pages(pages) => Some(pages),
        }
    }
}

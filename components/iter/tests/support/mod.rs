//! What the tests of the kinds share: iters, and a flat region below them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use ninering_iter::{CopyError, Direction, Extent, IovIter, IterError, Kind, PAGE_SIZE, Segment};

/// Bytes in a page.
pub const PAGE: u64 = PAGE_SIZE;

/// An iter over all of these runs of bytes.
pub fn iter(kind: Kind, direction: Direction, segments: &[(u64, u32)]) -> IovIter {
    let count = segments.iter().map(|&(_, len)| u64::from(len)).sum();
    let segments = segments.iter().map(|&(base, len)| Segment { base, len });
    IovIter::create(kind, direction, segments, count).expect("a good iter")
}

pub fn dest(kind: Kind, segments: &[(u64, u32)]) -> IovIter {
    iter(kind, Direction::Dest, segments)
}

/// The extents of the bytes at hand, within the limits.
pub fn extract(iter: &IovIter, max_bytes: u64, max_segments: u32) -> Vec<(u64, u32)> {
    let mut extents = Vec::new();
    let extracted = iter.extract(max_bytes, max_segments, |Extent { offset, len }| extents.push((offset, len)));
    assert_eq!(extracted.segments as usize, extents.len());
    assert_eq!(extracted.bytes, extents.iter().map(|&(_, len)| u64::from(len)).sum::<u64>());
    extents
}

pub fn extract_all(iter: &IovIter) -> Vec<(u64, u32)> {
    extract(iter, u64::MAX, u32::MAX)
}

/// The extents of everything, taken piece by piece as a driver does whose requests are limited.
pub fn extract_in_pieces(iter: &mut IovIter, max_bytes: u64, max_segments: u32) -> Vec<(u64, u32)> {
    let mut all = Vec::new();
    while iter.count() > 0 {
        let piece = extract(iter, max_bytes, max_segments);
        assert!(!piece.is_empty() && piece.len() <= max_segments as usize);
        let bytes = piece.iter().map(|&(_, len)| u64::from(len)).sum();
        assert!(bytes <= max_bytes);
        all.extend(piece);
        iter.advance(bytes).expect("as many as were extracted");
    }
    all
}

/// Memory below an iter.
pub struct Region(pub Vec<u8>);

impl Region {
    /// Each byte of it tells where it is.
    pub fn numbered(pages: u64) -> Self {
        Self((0..pages * PAGE).map(byte_at).collect())
    }

    pub fn zeroed(pages: u64) -> Self {
        Self(vec![0; (pages * PAGE) as usize])
    }

    pub fn bytes(&self, (offset, len): (u64, u32)) -> &[u8] {
        &self.0[offset as usize..][..len as usize]
    }

    /// `copy_from_iter()`.
    pub fn copy_from(&self, iter: &mut IovIter, bytes: u64) -> Result<Vec<u8>, CopyError<()>> {
        let mut copied = Vec::new();
        iter.copy_from(bytes, |Extent { offset, len }| {
            copied.extend(self.0.get(offset as usize..).and_then(|rest| rest.get(..len as usize)).ok_or(())?);
            Ok(())
        })?;
        Ok(copied)
    }

    /// `copy_to_iter()`.
    pub fn copy_to(&mut self, iter: &mut IovIter, bytes: &[u8]) -> Result<(), CopyError<()>> {
        iter.copy_to(bytes, |offset, bytes| {
            let target = self.0.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..bytes.len())).ok_or(())?;
            target.copy_from_slice(bytes);
            Ok(())
        })
    }
}

/// The byte of a numbered region at an offset.
pub fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8 ^ (offset >> 12) as u8
}

/// What `copy_from_iter()` and `copy_to_iter()` owe whatever the kind: the bytes of the segments, in their order, at any
/// position and in pieces of any length; and nothing beside them is touched.
pub fn copies_are_the_segments_bytes(kind: Kind, segments: &[(u64, u32)]) {
    let end = segments.iter().map(|&(base, len)| base + u64::from(len)).max().unwrap_or(0);
    let pages = end.div_ceil(PAGE) + 1;
    let region = Region::numbered(pages);
    let expected: Vec<u8> = segments.iter().flat_map(|&segment| region.bytes(segment).to_vec()).collect();
    for piece in [1, 7, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, u64::MAX] {
        let mut source = iter(kind, Direction::Source, segments);
        let mut target = iter(kind, Direction::Dest, segments);
        let mut written = Region::zeroed(pages);
        let mut copied = Vec::new();
        while source.count() > 0 {
            let now = piece.min(source.count());
            let bytes = region.copy_from(&mut source, now).expect("in the region");
            written.copy_to(&mut target, &bytes).expect("in the region");
            copied.extend(bytes);
            assert_eq!(source.count(), target.count());
        }
        assert_eq!(copied, expected, "in pieces of {piece}");
        for (at, &byte) in written.0.iter().enumerate() {
            let is_of_segment =
                segments.iter().any(|&(base, len)| (base..base + u64::from(len)).contains(&(at as u64)));
            assert_eq!(byte, if is_of_segment { region.0[at] } else { 0 }, "byte {at}, in pieces of {piece}");
        }
        // Back to the beginning, and all of it once more.
        source.revert(expected.len() as u64).expect("so far it has come");
        assert_eq!(region.copy_from(&mut source, expected.len() as u64).expect("in the region"), expected);
    }
}

/// What extraction owes whatever the kind: in pieces it yields the very bytes that it yields at once, none of them twice,
/// from any position on.
pub fn pieces_are_the_whole(kind: Kind, segments: &[(u64, u32)]) {
    let addresses = |extents: Vec<(u64, u32)>| {
        extents.into_iter().flat_map(|(offset, len)| offset..offset + u64::from(len)).collect::<Vec<_>>()
    };
    let whole = dest(kind, segments);
    let all = addresses(extract_all(&whole));
    assert_eq!(all.len() as u64, whole.count());
    for (max_bytes, max_segments) in [(100, 9), (PAGE, 1), (PAGE + 1, 2), (u64::MAX, 1), (10_000, 3)] {
        for start in [0, 1, 5, PAGE - 1, PAGE, PAGE + 1].into_iter().filter(|start| *start <= whole.count()) {
            let mut iter = dest(kind, segments);
            iter.advance(start).expect("within it");
            let pieces = addresses(extract_in_pieces(&mut iter, max_bytes, max_segments));
            assert_eq!(pieces, all[start as usize..], "{max_bytes} bytes in {max_segments}, from {start} on");
        }
    }
}

/// What every kind owes who moves about in it: advance, revert, truncate, reexpand, save and restore are of one mind, across
/// all segments; and a move that cannot be changes nothing.
pub fn moves_are_consistent(kind: Kind, segments: &[(u64, u32)]) {
    let mut iter = dest(kind, segments);
    let (total, beginning, all) = (iter.count(), iter.save(), extract_all(&iter));
    let steps: Vec<u64> = segments.iter().map(|&(_, len)| u64::from(len)).collect();
    // Segment by segment to the end, and back.
    for &step in &steps {
        iter.advance(step).expect("so much is there");
    }
    assert_eq!((iter.count(), iter.single_segment_count()), (0, 0));
    assert_eq!(iter.advance(1), Err(IterError::OutOfBounds));
    for &step in steps.iter().rev() {
        iter.revert(step).expect("so far it has come");
    }
    assert_eq!((iter.save(), extract_all(&iter)), (beginning, all.clone()));
    assert_eq!(iter.revert(1), Err(IterError::OutOfBounds));
    // From everywhere to everywhere.
    let places: Vec<u64> = [0, 1, total / 3, total / 2, total].into_iter().filter(|place| *place <= total).collect();
    for &from in &places {
        for &to in &places {
            iter.restore(beginning).expect("it was there");
            iter.advance(to).expect("so much is there");
            let (state, rest) = (iter.save(), extract_all(&iter));
            iter.restore(beginning).expect("it was there");
            iter.advance(from).expect("so much is there");
            iter.restore(state).expect("it was there");
            assert_eq!((iter.count(), extract_all(&iter)), (total - to, rest));
        }
    }
    // Cut off, and had back.
    iter.restore(beginning).expect("it was there");
    iter.truncate(total / 2);
    iter.truncate(u64::MAX);
    assert_eq!(iter.count(), total / 2);
    assert_eq!(iter.advance(total / 2 + 1), Err(IterError::OutOfBounds));
    iter.advance(total / 4).expect("so much is left");
    assert_eq!(iter.reexpand(total), if total / 4 == 0 { Ok(()) } else { Err(IterError::OutOfBounds) });
    iter.reexpand(total - total / 4).expect("so much is there");
    iter.revert(total / 4).expect("so far it has come");
    assert_eq!((iter.save(), extract_all(&iter)), (beginning, all));
}

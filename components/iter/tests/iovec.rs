//! `ITER_IOVEC`: buffers of an application.

mod support;

use ninering_iter::{Direction, IovIter, IterError, Kind, Segment};
use support::{
    Region, copies_are_the_segments_bytes, dest, extract, extract_all, iter, moves_are_consistent, pieces_are_the_whole,
};

const SEGMENTS: [(u64, u32); 6] = [(100, 50), (7000, 0), (150, 9), (9000, 5000), (14_000, 1), (20_000, 3)];

#[test]
fn copy_to_and_from() {
    copies_are_the_segments_bytes(Kind::Iovec, &SEGMENTS);
}

#[test]
fn extract_pages() {
    assert_eq!(extract_all(&dest(Kind::Iovec, &SEGMENTS)), [(100, 59), (9000, 5001), (20_000, 3)]);
    pieces_are_the_whole(Kind::Iovec, &SEGMENTS);
}

#[test]
fn iterate() {
    moves_are_consistent(Kind::Iovec, &SEGMENTS);
}

#[test]
fn the_segment_at_hand_is_counted_alone() {
    let mut iter = dest(Kind::Iovec, &SEGMENTS);
    let mut counts = vec![];
    while iter.count() > 0 {
        counts.push(iter.single_segment_count());
        iter.advance(iter.single_segment_count()).unwrap();
    }
    assert_eq!(counts, [50, 9, 5000, 1, 3], "neighbours in the region are segments of their own, empty ones none");
}

#[test]
fn segments_of_no_bytes_hold_nothing_wherever_they_are() {
    for segments in [&[][..], &[(5, 0)], &[(5, 0), (u64::MAX, 0), (6, 0)]] {
        let mut iter = dest(Kind::Iovec, segments);
        assert_eq!((iter.count(), iter.single_segment_count(), iter.pages(9), iter.alignment()), (0, 0, 0, 0));
        assert_eq!(extract_all(&iter), []);
        assert_eq!((iter.advance(1), iter.revert(1)), (Err(IterError::OutOfBounds), Err(IterError::OutOfBounds)));
        assert_eq!((iter.advance(0), iter.revert(0)), (Ok(()), Ok(())));
    }
    let mut iter = dest(Kind::Iovec, &[(1, 0), (100, 5), (2, 0), (3, 0), (200, 5), (4, 0)]);
    iter.advance(5).unwrap();
    assert_eq!((iter.single_segment_count(), extract_all(&iter)), (5, vec![(200, 5)]));
    iter.revert(1).unwrap();
    assert_eq!((iter.single_segment_count(), extract_all(&iter)), (1, vec![(104, 1), (200, 5)]));
}

#[test]
fn an_extent_longer_than_its_length_field_is_split() {
    let iter = dest(Kind::Iovec, &[(10, 7), (17, u32::MAX), (17 + u64::from(u32::MAX), 5)]);
    let end = 10 + u64::from(u32::MAX);
    assert_eq!(extract_all(&iter), [(10, u32::MAX), (end, 12)]);
    assert_eq!(extract(&iter, u64::MAX, 1), [(10, u32::MAX)]);
}

#[test]
fn more_than_the_segments_hold_is_refused() {
    let segments = vec![Segment { base: 0, len: 4 }, Segment { base: 9, len: 4 }];
    let create = |count| IovIter::create(Kind::Iovec, Direction::Source, segments.clone(), count);
    assert_eq!(create(9).err(), Some(IterError::OutOfBounds));
    // Of fewer there is the beginning; the rest can be had later.
    let mut some = create(5).unwrap();
    assert_eq!(extract_all(&some), [(0, 4), (9, 1)]);
    some.reexpand(8).unwrap();
    assert_eq!(extract_all(&some), [(0, 4), (9, 4)]);
}

#[test]
fn buffers_that_overlap_are_the_makers_affair() {
    let segments = [(10, 5), (10, 5), (12, 2)];
    let region = Region::numbered(1);
    let expected: Vec<u8> = segments.iter().flat_map(|&segment| region.bytes(segment).to_vec()).collect();
    let mut source = iter(Kind::Iovec, Direction::Source, &segments);
    assert_eq!(region.copy_from(&mut source, expected.len() as u64), Ok(expected));
    // It is the host that refuses to have a byte in flight twice.
    assert_eq!(extract_all(&dest(Kind::Iovec, &segments)), segments);
    assert_eq!(dest(Kind::Iovec, &segments).pages(9), 3);
}

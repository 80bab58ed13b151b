//! `ITER_UBUF`: one buffer of an application.

mod support;

use ninering_iter::{Direction, IovIter, IterError, Kind, Segment};
use support::{
    PAGE, copies_are_the_segments_bytes, dest, extract, extract_all, moves_are_consistent, pieces_are_the_whole,
};

#[test]
fn copy_to_and_from() {
    for segment in [(0, 1), (5, 3), (PAGE - 2, 4), (100, 3 * PAGE as u32), (PAGE, PAGE as u32)] {
        copies_are_the_segments_bytes(Kind::Ubuf, &[segment]);
    }
}

#[test]
fn extract_pages() {
    assert_eq!(
        extract_all(&dest(Kind::Ubuf, &[(100, 100_000)])),
        [(100, 100_000)],
        "pages of one buffer are one extent"
    );
    assert_eq!(extract(&dest(Kind::Ubuf, &[(100, 100_000)]), 5000, 9), [(100, 5000)]);
    pieces_are_the_whole(Kind::Ubuf, &[(100, 20_000)]);
}

#[test]
fn iterate() {
    moves_are_consistent(Kind::Ubuf, &[(77, 12_345)]);
}

#[test]
fn it_is_exactly_one_segment() {
    let segment = Segment { base: 0, len: 4 };
    for segments in [vec![], vec![segment; 2], vec![segment; 100]] {
        let made = IovIter::create(Kind::Ubuf, Direction::Source, segments, 0);
        assert_eq!(made.err(), Some(IterError::SegmentCount));
    }
}

#[test]
fn of_no_bytes_there_is_nothing() {
    let iter = dest(Kind::Ubuf, &[(100, 0)]);
    assert_eq!((iter.count(), iter.single_segment_count(), iter.alignment(), iter.pages(9)), (0, 0, 0, 0));
    assert_eq!(extract_all(&iter), []);
}

#[test]
fn alignment_and_pages() {
    let iter = dest(Kind::Ubuf, &[(512, 1024)]);
    assert_eq!((iter.alignment(), iter.pages(9)), (512 | 1024, 1));
    let mut iter = dest(Kind::Ubuf, &[(PAGE - 1, PAGE as u32 + 2)]);
    assert_eq!((iter.pages(9), iter.pages(2), iter.pages(0)), (3, 2, 0));
    iter.advance(1).unwrap();
    assert_eq!((iter.pages(9), iter.alignment()), (2, PAGE | (PAGE + 1)));
}

#[test]
fn a_buffer_at_the_end_of_the_address_space() {
    let iter = dest(Kind::Ubuf, &[(u64::MAX - 10, 10)]);
    assert_eq!(extract_all(&iter), [(u64::MAX - 10, 10)]);
    assert_eq!(iter.pages(9), 1);
    let over = IovIter::create(Kind::Ubuf, Direction::Dest, vec![Segment { base: u64::MAX - 10, len: 11 }], 0);
    assert_eq!(over.err(), Some(IterError::Overflow));
}

//! `ITER_FOLIOQ`: a queue of folios.

mod support;

use ninering_iter::{Direction, IovIter, IterError, Kind, Segment};
use support::{
    PAGE, copies_are_the_segments_bytes, dest, extract, extract_all, moves_are_consistent, pieces_are_the_whole,
};

const FOLIOS: [(u64, u32); 4] = [(8192, 16_384), (24_576, 4096), (0, 8192), (32_768, 4096)];

#[test]
fn copy_to_and_from() {
    copies_are_the_segments_bytes(Kind::Folioq, &FOLIOS);
}

#[test]
fn extract_pages() {
    assert_eq!(extract_all(&dest(Kind::Folioq, &FOLIOS)), FOLIOS, "each folio is one extent, and neighbours are two");
    pieces_are_the_whole(Kind::Folioq, &FOLIOS);
}

#[test]
fn iterate() {
    moves_are_consistent(Kind::Folioq, &FOLIOS);
}

#[test]
fn a_position_within_a_folio() {
    let mut iter = dest(Kind::Folioq, &FOLIOS);
    iter.advance(5000).unwrap();
    assert_eq!(extract(&iter, u64::MAX, 2), [(13_192, 11_384), (24_576, 4096)]);
    assert_eq!((iter.single_segment_count(), iter.pages(3), iter.pages(99)), (11_384, 3, 7));
    iter.advance(11_384).unwrap();
    assert_eq!(iter.single_segment_count(), 4096, "at its end it is at the next");
    iter.revert(1).unwrap();
    assert_eq!(extract(&iter, 2, 9), [(24_575, 1), (24_576, 1)]);
}

#[test]
fn folios_are_whole_pages() {
    for segment in [Segment { base: 1, len: 4096 }, Segment { base: PAGE, len: 100 }, Segment { base: PAGE, len: 4097 }]
    {
        let made = IovIter::create(Kind::Folioq, Direction::Dest, vec![segment], 0);
        assert_eq!(made.err(), Some(IterError::Alignment));
    }
}

#[test]
fn the_count_may_end_within_a_folio() {
    let segments = FOLIOS.map(|(base, len)| Segment { base, len }).to_vec();
    let iter = IovIter::create(Kind::Folioq, Direction::Source, segments, 17_000).unwrap();
    assert_eq!(extract_all(&iter), [(8192, 16_384), (24_576, 616)]);
}

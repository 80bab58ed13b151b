//! `ITER_XARRAY`: the pages of a file's cache.

mod support;

use ninering_iter::{Direction, IovIter, IterError, Kind, Segment};
use support::{
    PAGE, copies_are_the_segments_bytes, dest, extract, extract_all, moves_are_consistent, pieces_are_the_whole,
};

const PAGES: [(u64, u32); 4] = [(4096, 8192), (12_288, 4096), (32_768, 4096), (28_672, 4096)];

#[test]
fn copy_to_and_from() {
    copies_are_the_segments_bytes(Kind::Xarray, &PAGES);
}

#[test]
fn extract_pages() {
    let extents = [(4096, 4096), (8192, 4096), (12_288, 4096), (32_768, 4096), (28_672, 4096)];
    assert_eq!(extract_all(&dest(Kind::Xarray, &PAGES)), extents, "each page is an extent of its own");
    pieces_are_the_whole(Kind::Xarray, &PAGES);
}

#[test]
fn iterate() {
    moves_are_consistent(Kind::Xarray, &PAGES);
}

#[test]
fn a_position_within_a_page() {
    let mut iter = dest(Kind::Xarray, &PAGES);
    iter.advance(100).unwrap();
    assert_eq!(extract(&iter, u64::MAX, 2), [(4196, 3996), (8192, 4096)]);
    assert_eq!(extract(&iter, 4000, 9), [(4196, 3996), (8192, 4)]);
    assert_eq!((iter.pages(99), iter.pages(3), iter.single_segment_count()), (5, 3, 8092));
}

#[test]
fn pages_are_whole() {
    for segment in [Segment { base: 1, len: 4096 }, Segment { base: PAGE, len: 100 }] {
        let made = IovIter::create(Kind::Xarray, Direction::Dest, vec![segment], 0);
        assert_eq!(made.err(), Some(IterError::Alignment));
    }
}

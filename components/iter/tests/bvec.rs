//! `ITER_BVEC`: pieces of pages.

mod support;

use ninering_iter::Kind;
use support::{
    PAGE, copies_are_the_segments_bytes, dest, extract, extract_all, moves_are_consistent, pieces_are_the_whole,
};

const SEGMENTS: [(u64, u32); 6] = [(4000, 96), (4096, 4096), (12_288, 100), (12_388, 28), (30_000, 0), (20_000, 5000)];

#[test]
fn copy_to_and_from() {
    copies_are_the_segments_bytes(Kind::Bvec, &SEGMENTS);
}

#[test]
fn extract_pages() {
    let extents = [(4000, 96), (4096, 4096), (12_288, 128), (20_000, 480), (20_480, 4096), (24_576, 424)];
    assert_eq!(extract_all(&dest(Kind::Bvec, &SEGMENTS)), extents);
    pieces_are_the_whole(Kind::Bvec, &SEGMENTS);
}

#[test]
fn iterate() {
    moves_are_consistent(Kind::Bvec, &SEGMENTS);
}

/// In the kernel, two pages that are neighbours in memory but of different folios were made one bvec; here pieces of
/// different pages are never one extent, whether they came as one segment or as two.
#[test]
fn bvec_coalesced_across_a_folio_boundary() {
    let page = PAGE as u32;
    let apart = [(0, page), (PAGE, page), (2 * PAGE, page)];
    assert_eq!(extract_all(&dest(Kind::Bvec, &apart)), apart);
    assert_eq!(extract_all(&dest(Kind::Bvec, &[(0, 3 * page)])), apart);
    assert_eq!(extract_all(&dest(Kind::Bvec, &[(0, page - 1), (PAGE - 1, 2)])), [(0, page), (PAGE, 1)]);
}

#[test]
fn pieces_of_one_page_are_joined() {
    assert_eq!(extract_all(&dest(Kind::Bvec, &[(4096, 100), (4196, 28)])), [(4096, 128)]);
    assert_eq!(extract_all(&dest(Kind::Bvec, &[(4196, 28), (4096, 100)])), [(4196, 28), (4096, 100)], "in this order");
}

#[test]
fn limits_are_of_pages() {
    let mut iter = dest(Kind::Bvec, &[(4000, 5000)]);
    assert_eq!(extract(&iter, u64::MAX, 2), [(4000, 96), (4096, 4096)]);
    assert_eq!(extract(&iter, 97, 9), [(4000, 96), (4096, 1)]);
    assert_eq!((iter.pages(9), iter.pages(2), iter.single_segment_count()), (3, 2, 5000));
    iter.advance(97).unwrap();
    assert_eq!(extract(&iter, u64::MAX, 1), [(4097, 4095)]);
    assert_eq!(iter.alignment() & 0xff, 0xff);
}

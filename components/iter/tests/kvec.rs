//! `ITER_KVEC`: buffers of the component's own.

mod support;

use ninering_iter::{CopyError, Direction, IovIter, IterError, Kind, Segment};
use support::{
    PAGE, Region, copies_are_the_segments_bytes, dest, extract, extract_all, iter, moves_are_consistent,
    pieces_are_the_whole,
};

const SEGMENTS: [(u64, u32); 5] = [(2, 3), (40, 9000), (9050, 0), (9040, 4096), (20_000, 12_288)];

#[test]
fn copy_to_and_from() {
    copies_are_the_segments_bytes(Kind::Kvec, &SEGMENTS);
}

#[test]
fn extract_pages() {
    assert_eq!(extract_all(&dest(Kind::Kvec, &SEGMENTS)), [(2, 3), (40, 13_096), (20_000, 12_288)]);
    pieces_are_the_whole(Kind::Kvec, &SEGMENTS);
}

#[test]
fn iterate() {
    moves_are_consistent(Kind::Kvec, &SEGMENTS);
}

/// A vmalloc'd buffer in the kernel is contiguous in its addresses and not in its pages, which `virt_to_page()` does not
/// know. Here an address is an offset into the region: what is contiguous there is so for the device.
#[test]
fn vmalloc_d_kvec() {
    let long = dest(Kind::Kvec, &[(PAGE - 100, 5 * PAGE as u32)]);
    assert_eq!(extract_all(&long), [(PAGE - 100, 5 * PAGE as u32)]);
    assert_eq!(long.pages(99), 6);
    // The pages of an allocation that is not contiguous are so many segments, and are not taken for neighbours.
    let scattered = [(8 * PAGE, PAGE as u32), (3 * PAGE, PAGE as u32), (4 * PAGE, PAGE as u32), (PAGE, 100)];
    let iter = dest(Kind::Kvec, &scattered);
    assert_eq!(extract_all(&iter), [(8 * PAGE, 4096), (3 * PAGE, 8192), (PAGE, 100)]);
    copies_are_the_segments_bytes(Kind::Kvec, &scattered);
}

/// A kmalloc'd buffer is a part of a page that others have the rest of; the kernel must not take a reference to such a page.
/// Here nothing hands out a page: an extent has the very bytes of the segment.
#[test]
fn kmalloc_d_kvec() {
    let small = [(PAGE + 64, 32), (PAGE + 128, 32), (PAGE + 96, 32)];
    assert_eq!(extract_all(&dest(Kind::Kvec, &small)), [(PAGE + 64, 32), (PAGE + 128, 32), (PAGE + 96, 32)]);
    copies_are_the_segments_bytes(Kind::Kvec, &small);
    let mut region = Region::zeroed(3);
    region.copy_to(&mut dest(Kind::Kvec, &small), &[7; 96]).unwrap();
    assert_eq!(region.0.iter().filter(|&&byte| byte == 7).count(), 96);
    assert!(region.bytes((PAGE, 64)).iter().all(|&byte| byte == 0), "what is before it in its page is another's");
}

#[test]
fn both_limits_hold() {
    let iter = dest(Kind::Kvec, &[(0, 10), (20, 10), (40, 10)]);
    assert_eq!(extract(&iter, 15, 9), [(0, 10), (20, 5)]);
    assert_eq!(extract(&iter, 20, 9), [(0, 10), (20, 10)]);
    assert_eq!(extract(&iter, u64::MAX, 2), [(0, 10), (20, 10)]);
    assert_eq!(extract(&iter, u64::MAX, 0), []);
    assert_eq!(extract(&iter, 0, 9), []);
}

#[test]
fn the_last_extent_allowed_still_takes_its_neighbours() {
    assert_eq!(extract(&dest(Kind::Kvec, &[(0, 10), (10, 10), (40, 10)]), u64::MAX, 1), [(0, 20)]);
}

#[test]
fn a_move_that_cannot_be_leaves_the_iter_where_it_was() {
    let mut iter = dest(Kind::Kvec, &[(0, 10), (20, 10)]);
    iter.advance(12).unwrap();
    assert_eq!(iter.advance(9), Err(IterError::OutOfBounds));
    assert_eq!(iter.revert(13), Err(IterError::OutOfBounds));
    assert_eq!(iter.reexpand(9), Err(IterError::OutOfBounds));
    for wild in [1 << 32, 1 << 63, u64::MAX] {
        assert_eq!(iter.advance(wild), Err(IterError::OutOfBounds));
        assert_eq!(iter.revert(wild), Err(IterError::OutOfBounds));
        assert_eq!(iter.reexpand(wild), Err(IterError::OutOfBounds));
    }
    assert_eq!((iter.count(), iter.single_segment_count(), extract_all(&iter)), (8, 8, vec![(22, 8)]));
}

#[test]
fn a_state_of_another_iter_is_refused() {
    let long = dest(Kind::Kvec, &[(0, 100)]);
    let mut short = dest(Kind::Kvec, &[(0, 10)]);
    short.advance(4).unwrap();
    assert_eq!(short.restore(long.save()), Err(IterError::OutOfBounds));
    let wild = ninering_iter::IterState { passed: u64::MAX, left: 1 };
    assert_eq!(short.restore(wild), Err(IterError::OutOfBounds));
    assert_eq!((short.count(), short.single_segment_count()), (6, 6));
}

#[test]
fn a_copy_goes_one_way() {
    let mut region = Region::zeroed(1);
    let mut source = iter(Kind::Kvec, Direction::Source, &[(0, 10)]);
    assert_eq!(region.copy_to(&mut source, b"x"), Err(CopyError::Iter(IterError::Direction)));
    let mut target = dest(Kind::Kvec, &[(0, 10)]);
    assert_eq!(region.copy_from(&mut target, 1), Err(CopyError::Iter(IterError::Direction)));
    assert_eq!((source.count(), target.count()), (10, 10));
}

#[test]
fn a_copy_that_fails_leaves_the_iter_where_it_was() {
    let mut region = Region::zeroed(1);
    let mut target = dest(Kind::Kvec, &[(0, 10), (PAGE - 5, 10)]);
    assert_eq!(region.copy_to(&mut target, &[1; 21]), Err(CopyError::Iter(IterError::OutOfBounds)));
    assert_eq!(region.copy_to(&mut target, &[1; 20]), Err(CopyError::Memory(())), "the second reaches past the region");
    assert_eq!(target.count(), 20);
    assert_eq!(region.copy_to(&mut target, &[1; 15]), Ok(()));
    let mut source = iter(Kind::Kvec, Direction::Source, &[(PAGE, 1), (0, 10)]);
    assert_eq!(region.copy_from(&mut source, 5), Err(CopyError::Memory(())));
    assert_eq!(source.count(), 11);
}

#[test]
fn what_overflows_is_refused() {
    let create = |base, len| IovIter::create(Kind::Kvec, Direction::Dest, vec![Segment { base, len }], 0).err();
    assert_eq!(create(u64::MAX, 1), Some(IterError::Overflow));
    assert_eq!(create(u64::MAX - 1, 1), None);
    assert_eq!(create(u64::MAX, 0), None);
}

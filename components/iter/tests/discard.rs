//! `ITER_DISCARD`: nothing, into which bytes are dropped.

mod support;

use ninering_iter::{CopyError, Direction, IovIter, IterError, Kind, Segment};
use support::{Region, extract, extract_all};

fn discard(count: u64) -> IovIter {
    IovIter::create(Kind::Discard, Direction::Dest, vec![], count).unwrap()
}

#[test]
fn it_is_only_counted() {
    let mut iter = discard(1 << 40);
    assert_eq!((iter.count(), iter.single_segment_count(), iter.alignment(), iter.pages(9)), (1 << 40, 1 << 40, 0, 0));
    iter.advance(1 << 39).unwrap();
    let half = iter.save();
    assert_eq!(extract(&iter, u64::MAX, 9), []);
    iter.truncate(10);
    assert_eq!(iter.advance(11), Err(IterError::OutOfBounds));
    iter.restore(half).unwrap();
    iter.revert(1 << 39).unwrap();
    assert_eq!((iter.count(), iter.revert(1)), (1 << 40, Err(IterError::OutOfBounds)));
}

#[test]
fn what_is_copied_to_it_is_dropped() {
    let mut region = Region::zeroed(1);
    let mut iter = discard(100);
    assert_eq!(region.copy_to(&mut iter, &[7; 60]), Ok(()));
    assert_eq!(iter.count(), 40);
    assert_eq!(region.copy_to(&mut iter, &[7; 41]), Err(CopyError::Iter(IterError::OutOfBounds)));
    assert_eq!(iter.count(), 40);
    assert!(region.0.iter().all(|&byte| byte == 0));
}

#[test]
fn there_is_nothing_to_extract() {
    let mut iter = discard(u64::MAX);
    assert_eq!(extract_all(&iter), []);
    iter.advance(u64::MAX).unwrap();
    assert_eq!(iter.count(), 0);
    iter.revert(u64::MAX).unwrap();
    assert_eq!(iter.reexpand(u64::MAX), Ok(()));
}

#[test]
fn it_has_no_segments_and_only_one_direction() {
    let create = |direction, segments| IovIter::create(Kind::Discard, direction, segments, 5).err();
    assert_eq!(create(Direction::Source, vec![]), Some(IterError::Direction));
    assert_eq!(create(Direction::Dest, vec![Segment { base: 0, len: 5 }]), Some(IterError::SegmentCount));
}

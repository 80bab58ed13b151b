//! The iter, case by case and against a model that knows nothing but the address of each byte.

use ninering_iter::{Direction, Extent, IovIter, IterError, Kind, PAGE_SIZE, Segment};
use proptest::prelude::*;

fn iter(kind: Kind, segments: &[(u64, u32)]) -> IovIter {
    let count = segments.iter().map(|&(_, len)| u64::from(len)).sum();
    let segments = segments.iter().map(|&(base, len)| Segment { base, len }).collect();
    IovIter::create(kind, Direction::Dest, segments, count).unwrap()
}

fn extract(iter: &IovIter, max_bytes: u64, max_segments: u32) -> Vec<(u64, u32)> {
    let mut extents = Vec::new();
    let extracted = iter.extract(max_bytes, max_segments, |Extent { offset, len }| extents.push((offset, len)));
    assert_eq!(extracted.segments as usize, extents.len());
    assert_eq!(extracted.bytes, extents.iter().map(|&(_, len)| u64::from(len)).sum::<u64>());
    extents
}

#[test]
fn neighbours_share_an_extent() {
    for kind in [Kind::Iovec, Kind::Kvec] {
        let iter = iter(kind, &[(100, 50), (150, 10), (200, 8), (208, 8)]);
        assert_eq!(extract(&iter, u64::MAX, 9), [(100, 60), (200, 16)]);
    }
}

#[test]
fn a_buffer_is_one_extent_however_many_pages_it_covers() {
    assert_eq!(extract(&iter(Kind::Ubuf, &[(100, 100_000)]), u64::MAX, 9), [(100, 100_000)]);
}

#[test]
fn pieces_of_neighbouring_pages_are_not_joined() {
    assert_eq!(extract(&iter(Kind::Bvec, &[(0, 4096), (4096, 4096)]), u64::MAX, 9), [(0, 4096), (4096, 4096)]);
}

#[test]
fn a_bvec_segment_is_split_where_a_page_ends() {
    let iter = iter(Kind::Bvec, &[(4000, 5000)]);
    assert_eq!(extract(&iter, u64::MAX, 9), [(4000, 96), (4096, 4096), (8192, 808)]);
}

#[test]
fn pieces_of_one_page_are_joined() {
    assert_eq!(extract(&iter(Kind::Bvec, &[(4096, 100), (4196, 28)]), u64::MAX, 9), [(4096, 128)]);
}

#[test]
fn empty_segments_are_skipped_and_do_not_part_neighbours() {
    let iter = iter(Kind::Kvec, &[(7, 0), (100, 5), (900, 0), (105, 5), (0, 0)]);
    assert_eq!(iter.single_segment_count(), 5);
    assert_eq!(extract(&iter, u64::MAX, 9), [(100, 10)]);
}

#[test]
fn an_iter_over_nothing_has_no_extents() {
    for segments in [&[][..], &[(5, 0), (6, 0)]] {
        let mut iter = iter(Kind::Iovec, segments);
        assert_eq!((iter.count(), iter.single_segment_count()), (0, 0));
        assert_eq!(extract(&iter, u64::MAX, 9), []);
        assert_eq!(iter.advance(1), Err(IterError::OutOfBounds));
        assert_eq!(iter.revert(1), Err(IterError::OutOfBounds));
    }
}

#[test]
fn both_limits_hold() {
    let iter = iter(Kind::Kvec, &[(0, 10), (20, 10), (40, 10)]);
    assert_eq!(extract(&iter, 15, 9), [(0, 10), (20, 5)]);
    assert_eq!(extract(&iter, 20, 9), [(0, 10), (20, 10)]);
    assert_eq!(extract(&iter, u64::MAX, 2), [(0, 10), (20, 10)]);
    assert_eq!(extract(&iter, u64::MAX, 0), []);
    assert_eq!(extract(&iter, 0, 9), []);
}

#[test]
fn the_last_extent_allowed_still_takes_its_neighbours() {
    let iter = iter(Kind::Kvec, &[(0, 10), (10, 10), (40, 10)]);
    assert_eq!(extract(&iter, u64::MAX, 1), [(0, 20)]);
}

#[test]
fn an_extent_longer_than_its_length_field_is_split() {
    let iter = iter(Kind::Iovec, &[(10, 7), (17, u32::MAX), (17 + u64::from(u32::MAX), 5)]);
    let end = 10 + u64::from(u32::MAX);
    assert_eq!(extract(&iter, u64::MAX, 9), [(10, u32::MAX), (end, 12)]);
    assert_eq!(extract(&iter, u64::MAX, 1), [(10, u32::MAX)]);
}

#[test]
fn what_cannot_be_is_refused() {
    let create = |kind, segments: &[Segment], count| {
        IovIter::create(kind, Direction::Source, segments.to_vec(), count).map(|iter| iter.count())
    };
    let segment = Segment { base: 0, len: 4 };
    assert_eq!(create(Kind::Ubuf, &[], 0), Err(IterError::SegmentCount));
    assert_eq!(create(Kind::Ubuf, &[segment, segment], 8), Err(IterError::SegmentCount));
    assert_eq!(create(Kind::Kvec, &[segment, segment], 9), Err(IterError::OutOfBounds));
    assert_eq!(create(Kind::Kvec, &[Segment { base: u64::MAX, len: 1 }], 1), Err(IterError::Overflow));
    assert_eq!(create(Kind::Kvec, &[Segment { base: u64::MAX - 1, len: 1 }], 1), Ok(1));
    assert_eq!(create(Kind::Iovec, &[segment, segment], 5), Ok(5));
}

#[test]
fn a_refused_move_leaves_the_iter_where_it_was() {
    let mut iter = iter(Kind::Kvec, &[(0, 10), (20, 10)]);
    iter.advance(12).unwrap();
    assert_eq!(iter.advance(9), Err(IterError::OutOfBounds));
    assert_eq!(iter.revert(13), Err(IterError::OutOfBounds));
    assert_eq!(iter.reexpand(9), Err(IterError::OutOfBounds));
    assert_eq!((iter.count(), iter.single_segment_count()), (8, 8));
    assert_eq!(extract(&iter, u64::MAX, 9), [(22, 8)]);
}

#[test]
fn what_was_cut_off_can_be_had_back() {
    let mut iter = iter(Kind::Kvec, &[(0, 10), (20, 10)]);
    iter.advance(3).unwrap();
    iter.truncate(4);
    assert_eq!(extract(&iter, u64::MAX, 9), [(3, 4)]);
    assert_eq!(iter.single_segment_count(), 4);
    iter.reexpand(17).unwrap();
    assert_eq!(extract(&iter, u64::MAX, 9), [(3, 7), (20, 10)]);
}

#[test]
fn folios_that_are_neighbours_are_not_joined() {
    let mut iter = iter(Kind::Folioq, &[(8192, 16384), (24576, 4096)]);
    assert_eq!(extract(&iter, u64::MAX, 9), [(8192, 16384), (24576, 4096)]);
    iter.advance(5000).unwrap();
    assert_eq!(extract(&iter, u64::MAX, 9), [(13192, 11384), (24576, 4096)]);
    assert_eq!((iter.single_segment_count(), iter.pages(99)), (11384, 4));
}

#[test]
fn each_page_of_a_cache_is_an_extent() {
    let mut iter = iter(Kind::Xarray, &[(4096, 8192), (12288, 4096)]);
    iter.advance(100).unwrap();
    assert_eq!(extract(&iter, u64::MAX, 9), [(4196, 3996), (8192, 4096), (12288, 4096)]);
    assert_eq!(extract(&iter, u64::MAX, 2), [(4196, 3996), (8192, 4096)]);
}

#[test]
fn folios_and_pages_of_a_cache_are_whole() {
    for kind in [Kind::Folioq, Kind::Xarray] {
        for segment in [Segment { base: 1, len: 4096 }, Segment { base: 4096, len: 100 }] {
            assert_eq!(IovIter::create(kind, Direction::Dest, vec![segment], 0).err(), Some(IterError::Alignment));
        }
    }
}

#[test]
fn what_is_discarded_is_only_counted() {
    let mut iter = IovIter::create(Kind::Discard, Direction::Dest, vec![], 1 << 40).unwrap();
    assert_eq!((iter.count(), iter.single_segment_count(), iter.alignment(), iter.pages(9)), (1 << 40, 1 << 40, 0, 0));
    iter.advance(1 << 39).unwrap();
    let half = iter.save();
    assert_eq!(extract(&iter, u64::MAX, 9), []);
    iter.truncate(10);
    assert_eq!(iter.advance(11), Err(IterError::OutOfBounds));
    iter.restore(half).unwrap();
    iter.revert(1 << 39).unwrap();
    assert_eq!((iter.count(), iter.revert(1)), (1 << 40, Err(IterError::OutOfBounds)));
    let create = |direction, segments| IovIter::create(Kind::Discard, direction, segments, 5).err();
    assert_eq!(create(Direction::Source, vec![]), Some(IterError::Direction));
    assert_eq!(create(Direction::Dest, vec![Segment { base: 0, len: 5 }]), Some(IterError::SegmentCount));
}

#[test]
fn a_state_of_another_iter_is_refused() {
    let long = iter(Kind::Kvec, &[(0, 100)]);
    let mut short = iter(Kind::Kvec, &[(0, 10)]);
    short.advance(4).unwrap();
    assert_eq!(short.restore(long.save()), Err(IterError::OutOfBounds));
    assert_eq!((short.count(), short.single_segment_count()), (6, 6));
    let wild = ninering_iter::IterState { passed: u64::MAX, left: 1 };
    assert_eq!(short.restore(wild), Err(IterError::OutOfBounds));
}

/// The address of each byte, and no more.
struct Model {
    kind: Kind,
    addresses: Vec<u64>,
    /// The segment that each byte is of.
    owners: Vec<usize>,
    position: usize,
    end: usize,
}

impl Model {
    fn new(kind: Kind, segments: &[(u64, u32)], count: usize) -> Self {
        let addresses = segments.iter().flat_map(|&(base, len)| base..base + u64::from(len)).collect();
        let owners = segments.iter().enumerate().flat_map(|(index, &(_, len))| (0..len).map(move |_| index)).collect();
        Self { kind, addresses, owners, position: 0, end: count }
    }

    fn extract(&self, max_bytes: usize, max_segments: usize) -> Vec<(u64, u32)> {
        let mut extents: Vec<(u64, u32)> = Vec::new();
        for (index, &address) in self.addresses[self.position..self.end].iter().take(max_bytes).enumerate() {
            let joins = |&(offset, len): &(u64, u32)| {
                let same_page = offset / PAGE_SIZE == address / PAGE_SIZE;
                let together = match self.kind {
                    Kind::Ubuf | Kind::Iovec | Kind::Kvec => true,
                    Kind::Bvec | Kind::Xarray => same_page,
                    Kind::Folioq => self.owners[self.position + index] == self.owners[self.position + index - 1],
                    Kind::Discard => false,
                };
                offset + u64::from(len) == address && together
            };
            if extents.last().is_some_and(joins) {
                extents.last_mut().expect("it has just been looked at").1 += 1;
            } else if extents.len() == max_segments {
                break;
            } else {
                extents.push((address, 1));
            }
        }
        extents
    }

    fn single_segment_count(&self) -> usize {
        let owners = &self.owners[self.position..self.end];
        owners.iter().take_while(|&owner| owner == &owners[0]).count()
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Advance(usize),
    Revert(usize),
    Truncate(usize),
    Reexpand(usize),
    Extract(usize, u32),
    Save,
    Restore,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let bytes = || prop_oneof![0..64_usize, 0..20_000_usize];
    let operation = prop_oneof![
        bytes().prop_map(Operation::Advance),
        bytes().prop_map(Operation::Revert),
        bytes().prop_map(Operation::Truncate),
        bytes().prop_map(Operation::Reexpand),
        (bytes(), 0..12_u32).prop_map(|(bytes, segments)| Operation::Extract(bytes, segments)),
        Just(Operation::Save),
        Just(Operation::Restore),
    ];
    prop::collection::vec(operation, 1..40)
}

/// Segments of which many are empty, cross pages, or follow one another in the region.
fn segments() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let segment = (0..3_u8, 0..30_000_u64, prop_oneof![Just(0_u32), 1..100_u32, 4000..9000_u32]);
    prop::collection::vec(segment, 0..8).prop_map(|list| {
        let mut end = 0;
        list.into_iter()
            .map(|(how, base, len)| {
                let base = match how {
                    0 => base,
                    1 => end,
                    _ => base / PAGE_SIZE * PAGE_SIZE,
                };
                end = base + u64::from(len);
                (base, len)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn agrees_with_the_model(
        kind in prop::sample::select(vec![
            Kind::Ubuf, Kind::Iovec, Kind::Kvec, Kind::Bvec, Kind::Folioq, Kind::Xarray,
        ]),
        mut list in segments(),
        cut in 0..100_usize,
        operations in operations(),
    ) {
        if kind == Kind::Ubuf {
            list.truncate(1);
        }
        if matches!(kind, Kind::Folioq | Kind::Xarray) {
            for (base, len) in &mut list {
                (*base, *len) = (*base / PAGE_SIZE * PAGE_SIZE, *len / PAGE_SIZE as u32 * PAGE_SIZE as u32);
            }
        }
        let total = list.iter().map(|&(_, len)| len as usize).sum::<usize>();
        let count = total.saturating_sub(cut);
        let segments = list.iter().map(|&(base, len)| Segment { base, len }).collect::<Vec<_>>();
        let made = IovIter::create(kind, Direction::Source, segments.clone(), count as u64);
        if kind == Kind::Ubuf && list.is_empty() {
            prop_assert_eq!(made.err(), Some(IterError::SegmentCount));
            return Ok(());
        }
        let mut iter = made.unwrap();
        let mut model = Model::new(kind, &list, count);
        let mut saved = (iter.save(), model.position, model.end);
        for operation in operations {
            match operation {
                Operation::Advance(bytes) => {
                    let allowed = bytes <= model.end - model.position;
                    prop_assert_eq!(iter.advance(bytes as u64).is_ok(), allowed);
                    if allowed { model.position += bytes; }
                }
                Operation::Revert(bytes) => {
                    let allowed = bytes <= model.position;
                    prop_assert_eq!(iter.revert(bytes as u64).is_ok(), allowed);
                    if allowed { model.position -= bytes; }
                }
                Operation::Truncate(bytes) => {
                    iter.truncate(bytes as u64);
                    model.end = model.end.min(model.position + bytes);
                }
                Operation::Reexpand(bytes) => {
                    let allowed = bytes <= model.addresses.len() - model.position;
                    prop_assert_eq!(iter.reexpand(bytes as u64).is_ok(), allowed);
                    if allowed { model.end = model.position + bytes; }
                }
                Operation::Save => saved = (iter.save(), model.position, model.end),
                Operation::Restore => {
                    prop_assert_eq!(iter.restore(saved.0), Ok(()));
                    (model.position, model.end) = (saved.1, saved.2);
                }
                Operation::Extract(bytes, segments) => {
                    prop_assert_eq!(extract(&iter, bytes as u64, segments), model.extract(bytes, segments as usize));
                }
            }
            prop_assert_eq!(iter.count(), (model.end - model.position) as u64);
            prop_assert_eq!(iter.single_segment_count(), model.single_segment_count() as u64);
            let extents = model.extract(usize::MAX, usize::MAX);
            prop_assert_eq!(extract(&iter, u64::MAX, u32::MAX), extents.clone());
            let alignment = extents.iter().fold(0, |all, &(offset, len)| all | offset | u64::from(len));
            prop_assert_eq!(iter.alignment(), alignment);
            let pages = |&(offset, len): &(u64, u32)| (offset..offset + u64::from(len)).map(|byte| byte / PAGE_SIZE);
            let pages: usize = extents.iter().map(|extent| {
                let mut pages: Vec<_> = pages(extent).collect();
                pages.dedup();
                pages.len()
            }).sum();
            prop_assert_eq!(iter.pages(u32::MAX), pages as u32);
            prop_assert_eq!(iter.pages(2), pages.min(2) as u32);
        }
    }
}

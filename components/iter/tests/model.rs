//! Every kind, in either direction, moved, mapped and copied at random, against a model that knows nothing but the address of
//! each byte.

mod support;

use ninering_iter::{Direction, IovIter, IterError, Kind, PAGE_SIZE, Segment};
use proptest::prelude::*;
use support::{Region, byte_at, extract};

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
        if self.kind == Kind::Discard {
            return extents;
        }
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
    Copy(usize),
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
        bytes().prop_map(Operation::Copy),
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
            Kind::Ubuf, Kind::Iovec, Kind::Kvec, Kind::Bvec, Kind::Folioq, Kind::Xarray, Kind::Discard,
        ]),
        mut list in segments(),
        cut in 0..100_usize,
        is_source in any::<bool>(),
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
        let mut segments = list.iter().map(|&(base, len)| Segment { base, len }).collect::<Vec<_>>();
        // There is as much of nothing as is asked for, it has one direction, and no addresses.
        let is_nothing = kind == Kind::Discard;
        let is_source = is_source && !is_nothing;
        if is_nothing {
            segments.clear();
            list = vec![(0, count as u32)];
        }
        let direction = if is_source { Direction::Source } else { Direction::Dest };
        // All segments are within it.
        let mut region = Region::numbered(40);
        let mut expected = region.0.clone();
        let made = IovIter::create(kind, direction, segments.clone(), count as u64);
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
                Operation::Copy(bytes) => {
                    let allowed = bytes <= model.end - model.position;
                    let addresses = &model.addresses[model.position..][..if allowed { bytes } else { 0 }];
                    if is_source {
                        let copied = region.copy_from(&mut iter, bytes as u64);
                        let wanted: Vec<u8> = addresses.iter().map(|&at| byte_at(at)).collect();
                        prop_assert_eq!(copied.is_ok(), allowed);
                        prop_assert_eq!(copied.unwrap_or_default(), wanted);
                    } else {
                        let new: Vec<u8> = (0..bytes).map(|at| at as u8 ^ 0x5a).collect();
                        prop_assert_eq!(region.copy_to(&mut iter, &new).is_ok(), allowed);
                        for (&at, &byte) in addresses.iter().zip(&new).filter(|_| !is_nothing) {
                            expected[at as usize] = byte;
                        }
                        prop_assert!(region.0 == expected, "something else was written");
                    }
                    if allowed { model.position += bytes; }
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

//! Scatter lists: the counterparts of `sg_init_one()`, `sg_set_buf()`, `sg_chain()` and coalesced lists, and of
//! `virtqueue_add_sgs()`.

mod support;

use std::cell::RefCell;

use ninering_iter::{Direction, Extent, IovIter, IterError, Kind, MapError, ScatterLists};
use proptest::prelude::*;
use support::{PAGE, extract, extract_all, iter};

const SOURCE: Direction = Direction::Source;
const DEST: Direction = Direction::Dest;

fn list(kind: Kind, direction: Direction, segments: &[(u64, u32)]) -> RefCell<IovIter> {
    RefCell::new(iter(kind, direction, segments))
}

/// All of these iters.
fn all(iters: &[RefCell<IovIter>]) -> Vec<(&RefCell<IovIter>, u64)> {
    iters.iter().map(|iter| (iter, iter.borrow().count())).collect()
}

/// Maps the lists of one direction, and keeps what is mapped.
fn map(direction: Direction, lists: &[(&RefCell<IovIter>, u64)], most: u32) -> Result<Vec<(u64, u32)>, MapError> {
    let mut extents = Vec::new();
    let mut scatter = ScatterLists::new(most);
    scatter.map(direction, lists.iter().copied(), |Extent { offset, len }| extents.push((offset, len)))?;
    scatter.keep();
    Ok(extents)
}

#[test]
fn sg_init_one() {
    let one = [list(Kind::Kvec, SOURCE, &[(PAGE + 40, 100)])];
    assert_eq!(map(SOURCE, &all(&one), 1), Ok(vec![(PAGE + 40, 100)]));
    assert_eq!(map(SOURCE, &all(&one), 0), Ok(vec![]), "there is nothing left, and that needs no segment");
}

#[test]
fn sg_set_buf() {
    // Each entry of the table is a buffer, wherever it is; an empty one is none.
    let table = [(3 * PAGE + 5, 10), (PAGE, 0), (PAGE, 4096), (100, 7)];
    let set = [list(Kind::Iovec, DEST, &table)];
    assert_eq!(map(DEST, &all(&set), 3), Ok(vec![table[0], table[2], table[3]]));
}

#[test]
fn chained_lists() {
    // Of whatever kind each is, one goes on where the one before it ends.
    let chained = [
        list(Kind::Kvec, SOURCE, &[(0, 24)]),
        list(Kind::Folioq, SOURCE, &[(4 * PAGE, 8192), (2 * PAGE, 4096)]),
        list(Kind::Bvec, SOURCE, &[(PAGE - 10, 20)]),
    ];
    let extents = vec![(0, 24), (4 * PAGE, 8192), (2 * PAGE, 4096), (PAGE - 10, 10), (PAGE, 10)];
    assert_eq!(map(SOURCE, &all(&chained), 5), Ok(extents));
    assert!(chained.iter().all(|iter| iter.borrow().count() == 0), "what is mapped is passed");
}

#[test]
fn coalesced_lists() {
    let neighbours = [(PAGE, 24), (PAGE + 24, 4072), (2 * PAGE, 10)];
    let within = [list(Kind::Kvec, DEST, &neighbours)];
    assert_eq!(map(DEST, &all(&within), 1), Ok(vec![(PAGE, 4106)]), "neighbours of a list are one segment");
    let across = neighbours.map(|segment| list(Kind::Kvec, DEST, &[segment]));
    assert_eq!(map(DEST, &all(&across), 3), Ok(neighbours.to_vec()), "what the device must see apart is not joined");
}

#[test]
fn virtqueue_add_sgs() {
    let out = [list(Kind::Kvec, SOURCE, &[(0, 23)]), list(Kind::Ubuf, SOURCE, &[(23, 1000)])];
    let into = [
        list(Kind::Kvec, DEST, &[(PAGE, 11)]),
        list(Kind::Xarray, DEST, &[(2 * PAGE, 8192)]),
        list(Kind::Bvec, DEST, &[(9 * PAGE + 1, 99)]),
    ];
    let counts = || out.iter().chain(&into).map(|iter| iter.borrow().count()).collect::<Vec<_>>();
    let add = |most, add: bool| {
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        let mut lists = ScatterLists::new(most);
        lists.map(SOURCE, all(&out), |extent| readable.push((extent.offset, extent.len)))?;
        lists.map(DEST, all(&into), |extent| writable.push((extent.offset, extent.len)))?;
        if add {
            lists.keep();
        }
        Ok::<_, MapError>((readable, writable))
    };
    let before = counts();
    // All or nothing: what is refused, by the mapping or by the queue, has moved no iter.
    assert_eq!(add(1, true), Err(MapError::Short(23)));
    assert_eq!(add(2, true), Err(MapError::Short(0)), "nothing of the lists of the other direction");
    assert_eq!(add(4, true), Err(MapError::Short(11 + PAGE)));
    assert_eq!(add(5, true), Err(MapError::Short(11 + 2 * PAGE)));
    assert!(add(6, false).is_ok());
    assert_eq!(counts(), before);
    let writable = vec![(PAGE, 11), (2 * PAGE, 4096), (3 * PAGE, 4096), (9 * PAGE + 1, 99)];
    assert_eq!(add(6, true), Ok((vec![(0, 23), (23, 1000)], writable)));
    assert_eq!(counts(), [0; 5]);
}

#[test]
fn a_list_that_cannot_be_is_refused() {
    let good = list(Kind::Kvec, DEST, &[(0, 100)]);
    let discard = RefCell::new(IovIter::create(Kind::Discard, DEST, vec![], 100).unwrap());
    let source = list(Kind::Kvec, SOURCE, &[(0, 100)]);
    for (bad, bytes, error) in
        [(&discard, 1, IterError::Unmappable), (&source, 0, IterError::Direction), (&good, 41, IterError::OutOfBounds)]
    {
        assert_eq!(map(DEST, &[(&good, 60), (bad, bytes)], 9), Err(MapError::Iter(error)));
        assert_eq!(good.borrow().count(), 100);
    }
    assert_eq!(map(DEST, &[(&discard, 0)], 9), Ok(vec![]), "nothing of nothing");
}

#[test]
fn an_iter_that_is_named_twice_goes_on_where_it_was() {
    let buffer = list(Kind::Iovec, DEST, &[(0, 100), (200, 100)]);
    assert_eq!(map(DEST, &[(&buffer, 70), (&buffer, 60)], 3), Ok(vec![(0, 70), (70, 30), (200, 30)]));
    assert_eq!(map(DEST, &[(&buffer, 30), (&buffer, 41)], 3), Err(MapError::Iter(IterError::OutOfBounds)));
    assert_eq!(extract_all(&buffer.borrow()), [(230, 70)]);
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Ubuf, Kind::Iovec, Kind::Kvec, Kind::Bvec, Kind::Folioq, Kind::Xarray])
}

proptest! {
    /// Lists of any kinds and lengths: the extents are those of each iter alone, one list behind the other, as far as the
    /// limit goes; and whoever is told of fewer bytes can have just these.
    #[test]
    fn lists_are_mapped_as_each_is_alone(
        lists in prop::collection::vec((kinds(), prop::collection::vec((0..30_u64, 1..4_u32), 1..4), 0..100_u32), 0..6),
        most in 0..20_u32,
        is_source in any::<bool>(),
    ) {
        let direction = if is_source { SOURCE } else { DEST };
        let lists: Vec<_> = lists.into_iter().map(|(kind, mut pages, percent)| {
            pages.truncate(if kind == Kind::Ubuf { 1 } else { 4 });
            let segments: Vec<_> = pages.into_iter().map(|(page, count)| (page * PAGE, count * PAGE as u32)).collect();
            let iter = iter(kind, direction, &segments);
            let bytes = iter.count() * u64::from(percent) / 99;
            (RefCell::new(iter), bytes)
        }).collect();
        let before: Vec<_> = lists.iter().map(|(iter, _)| iter.borrow().save()).collect();
        let (mut expected, mut fitting) = (Vec::new(), 0);
        for (iter, bytes) in &lists {
            let segments = most - expected.len() as u32;
            let extents = extract(&iter.borrow(), *bytes, segments);
            let mapped: u64 = extents.iter().map(|&(_, len)| u64::from(len)).sum();
            fitting += mapped;
            expected.extend(extents);
            if mapped < *bytes {
                break;
            }
        }
        let asked: Vec<_> = lists.iter().map(|(iter, bytes)| (iter, *bytes)).collect();
        let total: u64 = asked.iter().map(|(_, bytes)| bytes).sum();
        let mapped = map(direction, &asked, most);
        if total == fitting {
            prop_assert_eq!(mapped, Ok(expected));
            for ((iter, bytes), before) in lists.iter().zip(before) {
                prop_assert_eq!(iter.borrow().save().passed, before.passed + bytes);
            }
        } else {
            prop_assert_eq!(mapped, Err(MapError::Short(fitting)));
            for ((iter, _), before) in lists.iter().zip(before) {
                prop_assert_eq!(iter.borrow().save(), before);
            }
            let mut rest = fitting;
            let shorter: Vec<_> = asked.into_iter().map(|(iter, bytes)| {
                let bytes = bytes.min(rest);
                rest -= bytes;
                (iter, bytes)
            }).collect();
            prop_assert_eq!(map(direction, &shorter, most), Ok(expected));
        }
    }
}

//! Invariant 2: a handle is checked against its component's leases each time. Stale, foreign, overflowing or
//! overlapping ones are an error.

mod ring_support;

use std::sync::Arc;

use ninering::{
    lease::{Leases, MemoryError},
    region::{Extent, PAGE, Region},
};

use ring_support::extent;

const SIZE: u64 = 1 << 20;

fn leases() -> (Arc<Region>, Leases) {
    let region = Region::new(SIZE).unwrap();
    let leases = Leases::new(Arc::clone(&region), SIZE / 4);
    (region, leases)
}

fn lent(region: &Region, leases: &mut Leases, len: u32) -> Extent {
    let buffer = region.allocate(len).unwrap();
    assert!(leases.lend(buffer));
    buffer
}

#[test]
fn forged_extents_are_refused() {
    let (_region, mut leases) = leases();
    let own = leases.allocate(8192).unwrap();
    for forged in [
        extent(own.offset, 0),
        extent(SIZE, 1),
        extent(SIZE - 1, 2),
        extent(u64::MAX, 1),
        extent(u64::MAX - 4095, 4096),
        extent(own.offset, u32::MAX),
        extent(0, u32::MAX),
    ] {
        assert_eq!(leases.check(forged), Err(MemoryError::OutOfRange), "{forged:?}");
        assert_eq!(leases.begin(1, &[own, forged]), Err(MemoryError::OutOfRange), "{forged:?}");
        assert!(!leases.lend(forged), "{forged:?}");
    }
    for forged in [extent(own.offset, 8193), extent(own.offset + 8191, 2), extent(own.offset + 8192, 1)] {
        assert_eq!(leases.check(forged), Err(MemoryError::NotLeased), "{forged:?}");
    }
    assert_eq!(leases.check(extent(own.offset + 8191, 1)), Ok(()));
    assert!(!leases.is_in_flight(own), "a refused request leaves nothing in flight");
}

#[test]
fn foreign_extents_are_refused() {
    let (region, mut leases) = leases();
    let mut others = Leases::new(Arc::clone(&region), SIZE / 4);
    let theirs = others.allocate(4096).unwrap();
    assert_eq!(leases.check(theirs), Err(MemoryError::NotLeased));
    assert_eq!(leases.begin(1, &[theirs]), Err(MemoryError::NotLeased));
    assert_eq!(leases.release(theirs), Err(MemoryError::NotLeased));
    let buffer = region.allocate(4096).unwrap();
    assert_eq!(leases.check(buffer), Err(MemoryError::NotLeased), "allocated is not lent");
}

#[test]
fn stale_extents_are_refused() {
    let (region, mut leases) = leases();
    let own = leases.allocate(4096).unwrap();
    leases.release(own).unwrap();
    assert_eq!(leases.check(own), Err(MemoryError::NotLeased));
    assert_eq!(leases.release(own), Err(MemoryError::NotLeased));
    let buffer = lent(&region, &mut leases, 4096);
    assert!(leases.revoke(buffer));
    assert_eq!(leases.begin(1, &[buffer]), Err(MemoryError::NotLeased));
    assert!(leases.revoke(buffer), "to revoke twice changes nothing");
}

#[test]
fn only_a_whole_allocation_of_its_own_can_be_released() {
    let (region, mut leases) = leases();
    let own = leases.allocate(8192).unwrap();
    let buffer = lent(&region, &mut leases, 4096);
    for part in [extent(own.offset, 4096), extent(own.offset + 4096, 4096), extent(own.offset, 8191), buffer] {
        assert_eq!(leases.release(part), Err(MemoryError::NotLeased), "{part:?}");
    }
    leases.begin(1, &[extent(own.offset + 8000, 1)]).unwrap();
    assert_eq!(leases.release(own), Err(MemoryError::InFlight));
    leases.end(1);
    assert_eq!(leases.release(own), Ok(()));
}

#[test]
fn a_component_does_not_see_what_others_left_in_its_memory() {
    let (region, mut leases) = leases();
    // Whoever is given memory now is given that which was given back last.
    let before = region.allocate(10_000).expect("room");
    region.write(before.offset, &[7; 10_000]).expect("in range");
    region.free(before);
    let own = leases.allocate(10_000).expect("room");
    assert_eq!(own, before);
    let mut bytes = vec![1; 10_000];
    region.read(own, &mut bytes).expect("in range");
    assert!(bytes.iter().all(|&byte| byte == 0));
}

#[test]
fn allocations_are_bounded_in_whole_pages() {
    let (region, mut leases) = leases();
    assert_eq!(leases.allocate(0), Err(MemoryError::OutOfRange));
    assert_eq!(leases.allocate(u32::MAX), Err(MemoryError::NoSpace));
    let pages: Vec<_> = (0..SIZE / 4 / u64::from(PAGE)).map(|_| leases.allocate(1).unwrap()).collect();
    assert_eq!(leases.allocate(1), Err(MemoryError::NoSpace));
    assert_eq!(leases.allocated(), SIZE / 4);
    for page in pages {
        leases.release(page).unwrap();
    }
    assert_eq!(leases.allocated(), 0);
    let _most = region.allocate(SIZE as u32 - PAGE).unwrap();
    assert_eq!(leases.allocate(PAGE + 1), Err(MemoryError::NoSpace));
}

#[test]
fn nothing_overlaps_what_is_in_flight() {
    let (_region, mut leases) = leases();
    let own = leases.allocate(16_384).unwrap();
    let at = |offset, len| extent(own.offset + offset, len);
    leases.begin(1, &[at(4096, 4096)]).unwrap();
    for overlapping in [at(4096, 4096), at(4095, 2), at(8191, 1), at(0, 16_384), at(5000, 10), at(4096, 1)] {
        assert_eq!(leases.check(overlapping), Err(MemoryError::InFlight), "{overlapping:?}");
        assert_eq!(leases.begin(2, &[overlapping]), Err(MemoryError::InFlight), "{overlapping:?}");
        assert_eq!(leases.begin(2, &[at(0, 16), overlapping]), Err(MemoryError::InFlight), "{overlapping:?}");
    }
    leases.begin(2, &[at(0, 4096), at(8192, 100)]).unwrap();
    assert_eq!(leases.begin(3, &[at(12_288, 10), at(12_290, 2)]), Err(MemoryError::InFlight), "within one request");
    assert_eq!(leases.begin(3, &[at(12_288, 10), at(12_298, 2), at(12_280, 8)]), Ok(()));
    assert_eq!(leases.begin(3, &[at(10_000, 1)]), Err(MemoryError::InFlight), "the token is in use");
    assert_eq!(leases.in_flight(), 3);
    assert!(leases.end(1) && leases.end(2) && leases.end(3) && !leases.end(3));
    assert_eq!(leases.check(own), Ok(()));
}

#[test]
fn leases_cannot_overlap() {
    let (region, mut leases) = leases();
    let buffer = lent(&region, &mut leases, 8192);
    for overlapping in [buffer, extent(buffer.offset + 8191, 2), extent(buffer.offset + 10, 10)] {
        assert!(!leases.lend(overlapping), "{overlapping:?}");
    }
    leases.begin(1, &[buffer]).unwrap();
    assert!(!leases.revoke(buffer));
    assert!(!leases.lend(buffer), "a revoked buffer is not lent again while it is in flight");
    leases.end(1);
    assert!(leases.lend(buffer));
}

#[test]
fn an_extent_may_span_neighbouring_leases_without_a_gap() {
    let (region, mut leases) = leases();
    let whole = region.allocate(16_384).unwrap();
    let part = |offset, len| extent(whole.offset + offset, len);
    assert!(leases.lend(part(0, 4096)) && leases.lend(part(4096, 4096)) && leases.lend(part(12_288, 4096)));
    assert_eq!(leases.check(part(4000, 200)), Ok(()));
    assert_eq!(leases.check(part(0, 8192)), Ok(()));
    assert_eq!(leases.check(part(0, 8193)), Err(MemoryError::NotLeased));
    assert_eq!(leases.check(part(8191, 4098)), Err(MemoryError::NotLeased));
    leases.begin(1, &[part(4000, 200)]).unwrap();
    assert!(!leases.revoke(part(0, 4096)) && !leases.revoke(part(4096, 4096)));
    leases.end(1);
    let mut retired: Vec<_> = leases.retired().collect();
    retired.sort_by_key(|buffer| buffer.offset);
    assert_eq!(retired, [part(0, 4096), part(4096, 4096)]);
}

#[test]
fn a_buffer_revoked_in_flight_is_free_when_its_last_request_ends() {
    let (region, mut leases) = leases();
    let buffer = lent(&region, &mut leases, 8192);
    leases.begin(1, &[extent(buffer.offset, 100)]).unwrap();
    leases.begin(2, &[extent(buffer.offset + 8000, 100)]).unwrap();
    assert!(!leases.revoke(buffer));
    let unused = extent(buffer.offset + 4096, 10);
    assert_eq!(leases.begin(3, &[unused]), Err(MemoryError::NotLeased), "no new request may use it");
    leases.end(1);
    assert_eq!(leases.retired().count(), 0);
    assert!(leases.is_in_flight(buffer));
    leases.end(2);
    assert_eq!(leases.retired().collect::<Vec<_>>(), [buffer]);
    assert_eq!(leases.retired().count(), 0, "told once");
    assert!(!leases.is_in_flight(buffer));
}

#[test]
fn memory_in_flight_outlives_the_component() {
    let (region, mut leases) = leases();
    let (held, idle) = (leases.allocate(4096).unwrap(), leases.allocate(4096).unwrap());
    leases.begin(1, &[extent(held.offset + 5, 1)]).unwrap();
    drop(leases);
    assert_eq!(region.statistics().allocated_pages, 1);
    assert_eq!(region.allocate(4096).unwrap().offset, idle.offset);
}

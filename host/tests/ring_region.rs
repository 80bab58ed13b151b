//! The region's memory and its allocator.

use std::sync::Arc;

use ninering::region::{Extent, PAGE, Region, RegionError};

const MEBIBYTE: u64 = 1 << 20;

fn extent(offset: u64, len: u32) -> Extent {
    Extent { offset, len }
}

#[test]
fn impossible_sizes_are_refused() {
    assert!(Region::new(0).is_err());
    assert!(Region::new(u64::MAX).is_err());
    assert!(Region::new(1 << 50).is_err());
    assert_eq!(Region::new(1).unwrap().size(), u64::from(PAGE));
}

#[test]
fn allocations_begin_at_pages_and_never_overlap() {
    let region = Region::new(MEBIBYTE).unwrap();
    let mut taken: Vec<Extent> = Vec::new();
    for len in [1, 4096, 4097, 1, 65_536, 12_288] {
        let allocation = region.allocate(len).unwrap();
        assert_eq!(allocation.len, len);
        assert_eq!(allocation.offset % u64::from(PAGE), 0);
        let end = allocation.offset + u64::from(len.next_multiple_of(PAGE));
        for other in &taken {
            assert!(end <= other.offset || other.end().unwrap() <= allocation.offset);
        }
        taken.push(allocation);
    }
}

#[test]
fn nothing_and_too_much_cannot_be_allocated() {
    let region = Region::new(MEBIBYTE).unwrap();
    assert_eq!(region.allocate(0), None);
    assert_eq!(region.allocate(MEBIBYTE as u32 + 1), None);
    assert_eq!(region.allocate(u32::MAX), None);
    assert_eq!(region.statistics().refused, 2, "an allocation of nothing is no want of space");
    assert!(region.allocate(MEBIBYTE as u32).is_some());
    assert_eq!(region.allocate(1), None);
}

#[test]
fn freed_neighbours_become_one_run_again() {
    let region = Region::new(MEBIBYTE).unwrap();
    for order in [[0usize, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let quarters: Vec<_> = (0..4).map(|_| region.allocate(MEBIBYTE as u32 / 4).unwrap()).collect();
        assert_eq!(region.allocate(1), None);
        for index in order {
            region.free(quarters[index]);
        }
        let all = region.allocate(MEBIBYTE as u32).expect("one run");
        region.free(all);
    }
    let pages: Vec<_> = (0..256).map(|_| region.allocate(PAGE).unwrap()).collect();
    for page in pages.iter().step_by(2).chain(pages.iter().skip(1).step_by(2)) {
        region.free(*page);
    }
    assert!(region.allocate(MEBIBYTE as u32).is_some());
    assert_eq!(region.statistics().peak_pages, 256);
}

#[test]
fn the_run_freed_last_is_taken_first() {
    let region = Region::new(MEBIBYTE).unwrap();
    let (first, second) = (region.allocate(8192).unwrap(), region.allocate(8192).unwrap());
    region.free(first);
    region.free(second);
    assert_eq!(region.allocate(8000).unwrap().offset, second.offset);
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "is not allocated"))]
fn freeing_twice_frees_once() {
    let region = Region::new(u64::from(PAGE)).unwrap();
    let page = region.allocate(PAGE).unwrap();
    region.free(page);
    region.free(page);
    assert_eq!(region.statistics().allocated_pages, 0);
    assert!(region.allocate(PAGE).is_some());
    assert_eq!(region.allocate(PAGE), None);
}

#[test]
fn access_outside_is_an_error() {
    let region = Region::new(MEBIBYTE).unwrap();
    let outside = [
        extent(0, 0),
        extent(MEBIBYTE, 1),
        extent(MEBIBYTE - 1, 2),
        extent(0, MEBIBYTE as u32 + 1),
        extent(u64::MAX, 1),
        extent(u64::MAX - 3, 4),
        extent(u64::MAX, u32::MAX),
        extent(1, u32::MAX),
    ];
    let mut bytes = [0; 8];
    for extent in outside {
        assert_eq!(region.slice(extent).err(), Some(RegionError::OutOfRange(extent)));
        assert_eq!(
            region.payload(&[Extent { offset: 0, len: 1 }, extent]).err(),
            Some(RegionError::OutOfRange(extent))
        );
        assert_eq!(region.read(extent, &mut bytes), Err(RegionError::OutOfRange(extent)));
    }
    assert!(region.write(MEBIBYTE - 1, &[1, 2]).is_err());
    assert!(region.write(u64::MAX, &[1, 2]).is_err());
    assert_eq!(extent(u64::MAX, 1).end(), None);
}

#[test]
fn what_was_written_is_read() {
    let region = Region::new(MEBIBYTE).unwrap();
    region.write(MEBIBYTE - 5, b"bytes").unwrap();
    let mut bytes = [0; 8];
    assert_eq!(region.read(extent(MEBIBYTE - 5, 5), &mut bytes), Ok(5));
    assert_eq!(&bytes[..5], b"bytes");
    let pieces = [extent(MEBIBYTE - 2, 2), extent(MEBIBYTE - 5, 3)];
    let payload = region.payload(&pieces).unwrap();
    assert_eq!(payload.len(), 5);
    assert_eq!(payload.copy_to(&mut bytes), 5);
    assert_eq!(&bytes[..5], b"esbyt");
    assert_eq!(region.statistics().copied_bytes, 10);
}

#[test]
fn trimming_empties_free_pages_and_no_others() {
    let region = Region::new(8 * MEBIBYTE).unwrap();
    let ones = vec![1; 65_536];
    let kept: Vec<_> = (0..64).map(|_| region.allocate(65_536).unwrap()).collect();
    for extent in &kept {
        region.write(extent.offset, &ones).unwrap();
    }
    for extent in kept.iter().step_by(2) {
        region.free(*extent);
    }
    assert_eq!(region.trim().unwrap(), 8 * MEBIBYTE - 32 * 65_536);
    let mut bytes = vec![0; 65_536];
    for (index, extent) in kept.iter().enumerate() {
        region.read(*extent, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == (index % 2) as u8));
    }
    for _ in 0..32 {
        assert!(region.allocate(65_536).is_some());
    }
}

#[test]
fn threads_never_share_an_allocation() {
    let region = Region::new(4 * MEBIBYTE).unwrap();
    let threads: Vec<_> = (1..=4u8)
        .map(|mark| {
            let region = Arc::clone(&region);
            std::thread::spawn(move || {
                for round in 0..2000u32 {
                    let len = 1 + (round * 7919) % 40_000;
                    let Some(extent) = region.allocate(len) else { continue };
                    region.slice(extent).unwrap().copy_from(&vec![mark; len as usize]);
                    let mut bytes = vec![0; len as usize];
                    region.read(extent, &mut bytes).unwrap();
                    assert!(bytes.iter().all(|byte| *byte == mark));
                    region.free(extent);
                    if round % 500 == 0 {
                        region.trim().unwrap();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(region.statistics().allocated_pages, 0);
    assert!(region.allocate(4 * MEBIBYTE as u32).is_some());
}

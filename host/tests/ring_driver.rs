//! The driver's side of a virtqueue, with well-behaved and with lying devices.

mod ring_support;

use std::sync::Arc;

use ninering::{
    device::DeviceQueue,
    lease::MemoryError,
    region::Region,
    virtqueue::{Driver, MAX_HEADER, QueueError, SetupError},
};

use ring_support::{RawRing, Ring, extent};

/// Returns the next chain, with its readable bytes reversed in its writable part.
fn answer_reversed(device: &mut DeviceQueue) -> bool {
    let Some(chain) = device.pop() else { return false };
    let region = Arc::clone(device.region());
    let mut bytes = vec![0; chain.readable_len() as usize];
    region.payload(chain.readable()).unwrap().copy_to(&mut bytes);
    bytes.reverse();
    let written = region.payload(chain.writable()).unwrap().copy_from(&bytes);
    device.complete(chain, written as u32);
    true
}

#[test]
fn impossible_queues_are_refused() {
    let region = Region::new(1 << 20).unwrap();
    for size in [0, 1, 4, 7, 100, 2048, u16::MAX] {
        assert_eq!(Driver::new(Arc::clone(&region), size).err(), Some(SetupError::Size(size)));
    }
    let small = Region::new(8192).unwrap();
    assert_eq!(Driver::new(Arc::clone(&small), 1024).err(), Some(SetupError::NoSpace(1024)));
    assert_eq!(small.statistics().allocated_pages, 0);
}

#[test]
fn a_chain_is_header_out_reply_header_and_in_in_this_order() {
    let (mut ring, mut device) = Ring::new(8);
    let (out, input) = (ring.buffer(5), ring.buffer(6));
    ring.region.write(out.offset, b"FGHIJ").unwrap();
    ring.driver.add(&mut ring.leases, 77, b"ABCDE", &[out], 4, &[input]).unwrap();
    assert!(ring.driver.kick_needed());
    assert!(!ring.driver.kick_needed(), "it was told already");
    assert_eq!(ring.driver.used(&mut ring.leases), None);
    assert!(answer_reversed(&mut device));
    let used = ring.driver.used(&mut ring.leases).unwrap();
    assert_eq!((used.id, used.written, &used.header[..]), (77, 10, &b"JIHG"[..]));
    assert_eq!(ring.bytes(input), b"FEDCBA");
    assert_eq!(ring.driver.used(&mut ring.leases), None);
    let statistics = ring.driver.statistics();
    assert_eq!((statistics.requests, statistics.used, statistics.kicks), (1, 1, 1));
    assert_eq!((statistics.bytes_out, statistics.bytes_in, statistics.header_bytes), (5, 6, 9));
}

/// `virtqueue_add_sgs()` with several lists each way: they are filled one behind the other, and a reply that is longer than
/// its header goes on in the first of them.
#[test]
fn several_extents_each_way_are_in_their_order() {
    let (mut ring, mut device) = Ring::new(8);
    let (out, into) = ([ring.buffer(3), ring.buffer(2)], [ring.buffer(1), ring.buffer(4), ring.buffer(9)]);
    ring.region.write(out[0].offset, b"DEF").unwrap();
    ring.region.write(out[1].offset, b"GH").unwrap();
    // The second list of the device's is a part of its buffer.
    let into = [into[0], extent(into[1].offset + 1, 2), into[2]];
    ring.driver.add(&mut ring.leases, 77, b"ABC", &out, 4, &into).unwrap();
    assert!(answer_reversed(&mut device));
    let used = ring.driver.used(&mut ring.leases).unwrap();
    assert_eq!((used.written, &used.header[..]), (8, &b"HGFE"[..]));
    assert_eq!(into.map(|extent| ring.bytes(extent)), [b"D".to_vec(), b"CB".to_vec(), b"A\0\0\0\0\0\0\0\0".to_vec()]);
    assert!(out.iter().chain(&into).all(|&extent| !ring.leases.is_in_flight(extent)));
}

#[test]
fn extents_are_in_flight_until_the_used_element_is_taken() {
    let (mut ring, mut device) = Ring::new(8);
    let buffer = ring.buffer(4096);
    ring.driver.add(&mut ring.leases, 0, b"x", &[buffer], 0, &[]).unwrap();
    answer_reversed(&mut device);
    assert_eq!(ring.leases.check(buffer), Err(MemoryError::InFlight));
    let again = ring.driver.add(&mut ring.leases, 0, b"x", &[], 0, &[buffer]);
    assert_eq!(again, Err(QueueError::Memory(MemoryError::InFlight)));
    ring.driver.used(&mut ring.leases).unwrap();
    assert_eq!(ring.leases.check(buffer), Ok(()));
}

#[test]
fn a_full_queue_refuses_until_a_chain_is_taken_back() {
    let (mut ring, mut device) = Ring::new(8);
    for round in 0..100u32 {
        for id in round..round + 4 {
            ring.driver.add(&mut ring.leases, id, &round.to_le_bytes(), &[], 16, &[]).unwrap();
        }
        let full = ring.driver.add(&mut ring.leases, 0, b"x", &[], 0, &[]);
        assert_eq!(full, Err(QueueError::Full));
        assert_eq!(ring.driver.in_flight(), 4);
        while answer_reversed(&mut device) {}
        for id in round..round + 4 {
            assert_eq!(ring.driver.used(&mut ring.leases).unwrap().id, id);
        }
        assert_eq!(ring.driver.in_flight(), 0);
    }
    assert_eq!(ring.leases.in_flight(), 0);
}

#[test]
fn chains_are_taken_back_in_the_order_in_which_the_device_returns_them() {
    let (mut ring, mut device) = Ring::new(16);
    for id in 10..14 {
        ring.driver.add(&mut ring.leases, id, b"x", &[], 16, &[]).unwrap();
    }
    let chains: Vec<_> = std::iter::from_fn(|| device.pop()).collect();
    let mut chains: Vec<_> = chains.into_iter().map(Some).collect();
    for index in [2, 0, 3, 1] {
        device.complete(chains[index].take().unwrap(), 0);
        assert_eq!(ring.driver.used(&mut ring.leases).unwrap().id, 10 + index as u32);
    }
}

#[test]
fn chains_may_have_one_id_and_are_still_told_apart() {
    let (mut ring, mut device) = Ring::new(16);
    let buffers = [ring.buffer(4), ring.buffer(4)];
    for buffer in buffers {
        ring.driver.add(&mut ring.leases, 7, b"wxyz", &[], 0, &[buffer]).unwrap();
    }
    let [first, second] = [device.pop().unwrap(), device.pop().unwrap()];
    device.complete(second, 4);
    assert_eq!(ring.driver.used(&mut ring.leases).unwrap().id, 7);
    assert_eq!(ring.leases.check(buffers[0]), Err(MemoryError::InFlight));
    assert_eq!(ring.leases.check(buffers[1]), Ok(()));
    device.complete(first, 4);
    assert_eq!(ring.driver.used(&mut ring.leases).unwrap().id, 7);
    assert_eq!(ring.leases.in_flight(), 0);
}

#[test]
fn what_is_too_large_is_refused() {
    let (mut ring, _device) = Ring::new(8);
    let long = vec![0; MAX_HEADER as usize + 1];
    let add = |ring: &mut Ring, header: &[u8], out: u32, reply: u32| {
        let buffer = ring.buffer(4096);
        let out: Vec<_> = (0..out).map(|index| extent(buffer.offset + u64::from(index), 1)).collect();
        let added = ring.driver.add(&mut ring.leases, 0, header, &out, reply, &[]);
        ring.leases.release(buffer).unwrap();
        added
    };
    assert_eq!(add(&mut ring, &long, 0, 0), Err(QueueError::HeaderTooLarge));
    assert_eq!(add(&mut ring, b"x", 0, MAX_HEADER + 1), Err(QueueError::HeaderTooLarge));
    assert_eq!(add(&mut ring, b"x", 0, u32::MAX), Err(QueueError::HeaderTooLarge));
    assert_eq!(add(&mut ring, b"x", 8, 0), Err(QueueError::TooManySegments));
    assert_eq!(add(&mut ring, b"x", 7, 1), Err(QueueError::TooManySegments));
    assert_eq!(add(&mut ring, b"", 0, 0), Err(QueueError::Memory(MemoryError::OutOfRange)), "nothing at all");
    assert_eq!(ring.driver.statistics().refused, 6);
    assert_eq!(ring.driver.in_flight(), 0);
}

#[test]
fn chains_of_4_gib_are_refused() {
    let (mut ring, _device) = Ring::new(8);
    let huge = [extent(0, u32::MAX), extent(0, u32::MAX)];
    let added = ring.driver.add(&mut ring.leases, 0, b"x", &huge, 0, &[]);
    assert_eq!(added, Err(QueueError::Memory(MemoryError::TooLarge)));
}

#[test]
fn long_headers_have_pages_of_their_own_and_give_them_back() {
    let (mut ring, mut device) = Ring::new(8);
    let before = ring.region.statistics().allocated_pages;
    let header: Vec<u8> = (0..MAX_HEADER).map(|index| index as u8).collect();
    for _ in 0..20 {
        ring.driver.add(&mut ring.leases, 0, &header, &[], MAX_HEADER, &[]).unwrap();
        assert!(ring.region.statistics().allocated_pages > before);
        answer_reversed(&mut device);
        let mut used = ring.driver.used(&mut ring.leases).unwrap();
        used.header.reverse();
        assert!(used.header == header);
        assert_eq!(ring.region.statistics().allocated_pages, before);
    }
}

#[test]
fn without_memory_for_a_header_nothing_is_added() {
    let region = Region::new(64 << 10).unwrap();
    let (mut driver, mut device) = Driver::new(Arc::clone(&region), 8).unwrap();
    let mut leases = ninering::lease::Leases::new(Arc::clone(&region), 4096);
    let buffer = leases.allocate(1).unwrap();
    let added = driver.add(&mut leases, 0, &[1; 40_000], &[buffer], 40_000, &[]);
    assert_eq!(added, Err(QueueError::Memory(MemoryError::NoSpace)));
    assert_eq!(leases.check(buffer), Ok(()));
    assert!(device.pop().is_none());
    assert!(driver.add(&mut leases, 0, &[1; 40_000], &[buffer], 0, &[]).is_ok(), "the first header was given back");
}

#[test]
fn a_device_cannot_write_more_than_there_is_space_for() {
    let (mut ring, device) = Ring::new(8);
    let buffer = ring.buffer(100);
    ring.driver.add(&mut ring.leases, 0, b"x", &[], 11, &[buffer]).unwrap();
    RawRing::of(&device).forge_used(0, 0, u32::MAX);
    let used = ring.driver.used(&mut ring.leases).unwrap();
    assert_eq!((used.written, used.header.len()), (111, 11));
}

#[test]
fn a_forged_used_id_breaks_the_queue() {
    for id in [1, 7, 8, 1 << 16, u32::MAX] {
        let (mut ring, device) = Ring::new(8);
        let buffer = ring.buffer(100);
        // Descriptors 0, 1 and 2 are a chain: only 0 begins one.
        ring.driver.add(&mut ring.leases, 77, b"x", &[], 11, &[buffer]).unwrap();
        RawRing::of(&device).forge_used(0, id, 0);
        assert_eq!(ring.driver.used(&mut ring.leases), None);
        assert!(ring.driver.is_broken());
        assert_eq!(ring.driver.add(&mut ring.leases, 0, b"x", &[], 0, &[]), Err(QueueError::Broken));
        assert!(!ring.driver.kick_needed());
        assert_eq!(ring.leases.check(buffer), Err(MemoryError::InFlight), "the device may still use it");
        assert_eq!(ring.driver.abandon(&mut ring.leases), [77]);
        assert_eq!(ring.leases.check(buffer), Ok(()));
    }
}

#[test]
fn a_chain_returned_twice_breaks_the_queue() {
    let (mut ring, device) = Ring::new(8);
    for _ in 0..2 {
        ring.driver.add(&mut ring.leases, 0, b"x", &[], 11, &[]).unwrap();
    }
    let raw = RawRing::of(&device);
    raw.forge_used(0, 0, 0);
    raw.forge_used(1, 0, 0);
    assert!(ring.driver.used(&mut ring.leases).is_some());
    assert_eq!(ring.driver.used(&mut ring.leases), None);
    assert!(ring.driver.is_broken());
}

#[test]
fn a_used_ring_that_runs_ahead_breaks_the_queue() {
    let (mut ring, device) = Ring::new(8);
    ring.driver.add(&mut ring.leases, 0, b"x", &[], 11, &[]).unwrap();
    ring.region.write(device.layout().used_idx(), &2u16.to_le_bytes()).unwrap();
    assert_eq!(ring.driver.used(&mut ring.leases), None);
    assert!(ring.driver.is_broken());
}

#[test]
fn what_the_device_does_to_the_descriptors_does_not_matter() {
    let (mut ring, mut device) = Ring::new(8);
    let raw = RawRing::of(&device);
    for _ in 0..100 {
        ring.driver.add(&mut ring.leases, 0, b"x", &[], 11, &[]).unwrap();
        ring.driver.add(&mut ring.leases, 0, b"y", &[], 11, &[]).unwrap();
        let chains: Vec<_> = std::iter::from_fn(|| device.pop()).collect();
        assert_eq!(chains.len(), 2);
        for index in 0..8 {
            raw.descriptor(index, u64::MAX, u32::MAX, u16::MAX, index);
        }
        for chain in chains {
            device.complete(chain, 3);
        }
        while let Some(used) = ring.driver.used(&mut ring.leases) {
            assert_eq!(used.written, 3);
        }
    }
    assert_eq!(ring.driver.statistics().used, 200);
}

#[test]
fn abandoned_chains_end_and_their_memory_is_free() {
    let (mut ring, device) = Ring::new(16);
    let before = ring.region.statistics().allocated_pages;
    let buffer = ring.buffer(4096);
    ring.driver.add(&mut ring.leases, 1, &[0; 2000], &[buffer], 0, &[]).unwrap();
    ring.driver.add(&mut ring.leases, 2, b"x", &[], 10_000, &[]).unwrap();
    drop(device);
    assert_eq!(ring.driver.abandon(&mut ring.leases), [1, 2]);
    assert!(ring.driver.abandon(&mut ring.leases).is_empty());
    assert_eq!(ring.driver.in_flight(), 0);
    ring.leases.release(buffer).unwrap();
    assert_eq!(ring.region.statistics().allocated_pages, before);
}

#[test]
fn the_rings_memory_is_free_when_both_sides_are_gone() {
    let region = Region::new(1 << 20).unwrap();
    let (driver, device) = Driver::new(Arc::clone(&region), 128).unwrap();
    drop(driver);
    assert!(region.statistics().allocated_pages > 0);
    drop(device);
    assert_eq!(region.statistics().allocated_pages, 0);
}

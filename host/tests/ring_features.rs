//! What the two sides of a queue agree on: indirect descriptors and event index, on and off, at all sizes.

mod ring_support;

use std::{num::Wrapping, sync::Arc};

use ninering::{
    device::{Chain, DeviceQueue},
    lease::Leases,
    region::Region,
    virtqueue::{Driver, Features, QueueError, SIZES, SetupError},
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use ring_support::{RawRing, Ring, extent};

const EVENT_INDEX: Features = Features::VERSION_1.and(Features::EVENT_INDEX);
const INDIRECT: Features = Features::VERSION_1.and(Features::INDIRECT);
const CHOICES: [Features; 4] = [Features::VERSION_1, EVENT_INDEX, INDIRECT, Features::ALL];

fn sizes() -> impl Iterator<Item = u16> {
    (3..=10).map(|bits| 1 << bits).filter(|size| SIZES.contains(size))
}

fn pop_all(device: &mut DeviceQueue) -> Vec<Chain> {
    std::iter::from_fn(|| device.pop()).collect()
}

/// A request of a header, a reply's header and so many extents to be written.
fn add(ring: &mut Ring, id: u32, buffer: ninering::region::Extent, extents: u64) -> Result<(), QueueError> {
    let base = buffer.offset + u64::from(id) * 4 * extents;
    let input: Vec<_> = (0..extents).map(|index| extent(base + 4 * index, 4)).collect();
    ring.driver.add(&mut ring.leases, id, &id.to_le_bytes(), &[], 4, &input)
}

#[test]
fn what_both_sides_have_is_used_and_version_1_must_be() {
    assert_eq!(Features::ALL.negotiate(INDIRECT), Ok(INDIRECT));
    assert_eq!(INDIRECT.negotiate(Features::ALL), Ok(INDIRECT));
    assert_eq!(EVENT_INDEX.negotiate(INDIRECT), Ok(Features::VERSION_1));
    assert_eq!(Features::from(Features::ALL.bits() | 1 << 40).negotiate(Features::ALL), Ok(Features::ALL));
    assert!(matches!(Features::from(0).negotiate(Features::ALL), Err(SetupError::Features(0))));
    assert!(matches!(Features::ALL.negotiate(Features::INDIRECT), Err(SetupError::Features(_))));
    let region = Region::new(1 << 20).unwrap();
    assert!(Driver::with_features(Arc::clone(&region), 8, Features::INDIRECT).is_err());
    assert_eq!(region.statistics().allocated_pages, 0);
}

#[test]
fn every_size_with_and_without_each_feature_carries_requests_until_it_is_full_and_goes_on() {
    for (size, features) in sizes().flat_map(|size| CHOICES.map(|features| (size, features))) {
        let (mut ring, mut device) = Ring::with(size, features);
        assert_eq!((ring.driver.features(), device.features()), (features, features));
        let buffer = ring.buffer(64 << 10);
        let pages = ring.region.statistics().allocated_pages;
        for round in 0..3 {
            let mut added = 0;
            while let Ok(()) = add(&mut ring, added, buffer, 2) {
                added += 1;
            }
            assert_eq!(add(&mut ring, added, buffer, 2), Err(QueueError::Full));
            // Without tables four descriptors each; with them, one each once half of the queue is taken.
            let most = if features.contains(Features::INDIRECT) { size / 2 / 4 + size / 2 } else { size / 4 };
            assert!(added >= most.into(), "{added} of {most}, {size} {features:?}");
            assert!(ring.driver.kick_needed(), "{round}");
            let chains = pop_all(&mut device);
            assert_eq!(chains.len(), added as usize);
            for chain in chains.into_iter().rev() {
                assert_eq!((chain.readable_len(), chain.writable_len(), chain.writable().len()), (4, 12, 3));
                let mut id = [0; 4];
                device.region().payload(chain.readable()).unwrap().copy_to(&mut id);
                device.region().payload(chain.writable()).unwrap().copy_from(&[id, id, id].concat());
                device.complete(chain, 12);
            }
            assert!(device.want_kick());
            for id in (0..added).rev() {
                let used = ring.driver.used(&mut ring.leases).unwrap();
                assert_eq!((used.id, used.written, &used.header[..]), (id, 12, &id.to_le_bytes()[..]));
                let place = extent(buffer.offset + u64::from(id) * 8, 8);
                assert_eq!(ring.bytes(place), [id.to_le_bytes(), id.to_le_bytes()].concat());
            }
            assert_eq!((ring.driver.used(&mut ring.leases), ring.driver.in_flight()), (None, 0));
        }
        assert_eq!(ring.region.statistics().allocated_pages, pages);
        let indirect = ring.driver.statistics().indirect;
        assert_eq!(indirect > 0, features.contains(Features::INDIRECT), "{indirect} {features:?}");
    }
}

#[test]
fn a_request_of_as_many_segments_as_the_queue_has_takes_one_descriptor() {
    for size in sizes() {
        let (mut ring, mut device) = Ring::with(size, INDIRECT);
        let buffer = ring.buffer(64 << 10);
        let most = u64::from(size) - 2;
        for id in 0..3 {
            add(&mut ring, id, buffer, most).unwrap();
        }
        assert_eq!(add(&mut ring, 3, buffer, most + 1), Err(QueueError::TooManySegments));
        for id in 0..3u32 {
            let chain = device.pop().unwrap();
            assert_eq!(chain.writable().len() as u64, most + 1);
            assert_eq!(chain.writable()[1], extent(buffer.offset + u64::from(id) * 4 * most, 4));
            device.complete(chain, 0);
        }
        while ring.driver.used(&mut ring.leases).is_some() {}
        assert_eq!(ring.driver.in_flight(), 0);
    }
}

#[test]
fn without_memory_for_a_table_descriptors_are_taken_as_long_as_there_are_some() {
    let region = Region::new(1 << 20).unwrap();
    let (mut driver, mut device) = Driver::with_features(Arc::clone(&region), 128, INDIRECT).unwrap();
    let mut leases = Leases::new(Arc::clone(&region), 1 << 20);
    let buffer = leases.allocate(4096).unwrap();
    while region.allocate(1).is_some() {}
    let part = |index| extent(buffer.offset + index, 1);
    // Forty parts do not fit the ring's own 512 bytes.
    let parts: Vec<_> = (0..40).map(part).collect();
    driver.add(&mut leases, 1, b"x", &[], 1, &parts).unwrap();
    assert_eq!(driver.statistics().indirect, 0);
    assert_eq!(device.pop().unwrap().writable()[1..], parts[..]);
    let parts: Vec<_> = (1000..1100).map(part).collect();
    let refused = driver.add(&mut leases, 2, b"x", &[], 1, &parts);
    assert_eq!(refused, Err(QueueError::Memory(ninering::lease::MemoryError::NoSpace)));
    assert_eq!(leases.check(parts[0]), Ok(()));
    let parts: Vec<_> = (2000..2008).map(part).collect();
    driver.add(&mut leases, 3, b"x", &[], 1, &parts).unwrap();
    assert_eq!(driver.statistics().indirect, 1);
}

/// Adds and returns one chain, without any notification.
fn exchange(ring: &mut Ring, device: &mut DeviceQueue) {
    ring.driver.add(&mut ring.leases, 0, b"x", &[], 1, &[]).unwrap();
    let chain = device.pop().unwrap();
    device.complete(chain, 1);
    ring.driver.used(&mut ring.leases).unwrap();
}

#[test]
fn a_device_that_is_at_work_is_not_kicked() {
    for features in CHOICES {
        let (mut ring, mut device) = Ring::with(32, features);
        // Wherever the indices are, at the wrap-around too.
        for _ in 0..20_000 {
            exchange(&mut ring, &mut device);
            let _ = ring.driver.kick_needed();
            assert!(device.want_kick());
            let before = ring.driver.statistics();
            assert!(!ring.driver.kick_needed(), "there is nothing to be told of");
            ring.driver.add(&mut ring.leases, 0, b"x", &[], 1, &[]).unwrap();
            assert!(ring.driver.kick_needed(), "it waits for this");
            assert!(!ring.driver.kick_needed(), "it was told of it");
            device.forgo_kicks();
            for _ in 0..2 {
                ring.driver.add(&mut ring.leases, 0, b"x", &[], 1, &[]).unwrap();
                assert!(!ring.driver.kick_needed(), "it looks itself");
            }
            assert!(!device.want_kick(), "it looks again: there is something");
            for chain in pop_all(&mut device) {
                device.complete(chain, 1);
            }
            assert!(device.want_kick());
            while ring.driver.used(&mut ring.leases).is_some() {}
            let after = ring.driver.statistics();
            assert_eq!((after.kicks - before.kicks, after.kicks_suppressed - before.kicks_suppressed), (1, 2));
        }
    }
}

#[test]
fn a_driver_that_is_at_work_is_not_interrupted() {
    for features in CHOICES {
        let (mut ring, mut device) = Ring::with(32, features);
        for _ in 0..20_000 {
            exchange(&mut ring, &mut device);
            let _ = device.interrupt_needed();
            assert!(ring.driver.want_interrupt());
            let before = device.statistics();
            assert!(!device.interrupt_needed(), "there is nothing to be told of");
            for _ in 0..4 {
                ring.driver.add(&mut ring.leases, 0, b"x", &[], 1, &[]).unwrap();
            }
            let mut chains = pop_all(&mut device).into_iter();
            device.complete(chains.next().unwrap(), 1);
            assert!(device.interrupt_needed(), "it waits for this");
            assert!(!device.interrupt_needed(), "it was told of it");
            ring.driver.forgo_interrupts();
            for chain in chains.by_ref().take(2) {
                device.complete(chain, 1);
                assert!(!device.interrupt_needed(), "it looks itself");
            }
            assert!(!ring.driver.want_interrupt(), "it looks again: there is something");
            while ring.driver.used(&mut ring.leases).is_some() {}
            assert!(ring.driver.want_interrupt());
            device.complete(chains.next().unwrap(), 1);
            assert!(device.interrupt_needed(), "it waits again");
            ring.driver.used(&mut ring.leases).unwrap();
            let after = device.statistics();
            let suppressed = after.interrupts_suppressed - before.interrupts_suppressed;
            assert_eq!((after.interrupts - before.interrupts, suppressed), (2, 2));
        }
    }
}

#[test]
fn what_was_taken_before_the_interrupt_needs_none_with_event_index() {
    let (mut ring, mut device) = Ring::with(32, EVENT_INDEX);
    for _ in 0..70_000 {
        ring.driver.add(&mut ring.leases, 0, b"x", &[], 1, &[]).unwrap();
        let chain = device.pop().unwrap();
        device.complete(chain, 1);
        ring.driver.used(&mut ring.leases).unwrap();
        assert!(ring.driver.want_interrupt());
        assert!(!device.interrupt_needed());
    }
}

#[test]
fn events_are_wanted_anew_after_a_reset() {
    let (mut ring, mut device) = Ring::with(8, Features::ALL);
    for _ in 0..100 {
        exchange(&mut ring, &mut device);
        assert!(device.want_kick() && ring.driver.want_interrupt());
    }
    device.detach();
    assert!(device.want_kick() && !device.interrupt_needed());
    let mut device = ring.driver.reset(&mut ring.leases).unwrap();
    assert_eq!(device.features(), Features::ALL);
    ring.driver.add(&mut ring.leases, 0, b"x", &[], 1, &[]).unwrap();
    assert!(ring.driver.kick_needed());
    let chain = device.pop().unwrap();
    device.complete(chain, 1);
    assert!(device.interrupt_needed());
}

/// What the other side says of events is a wish and no more.
#[test]
fn impossible_events_do_no_harm() {
    let (mut ring, device) = Ring::with(16, Features::ALL);
    let raw = RawRing::of(&device);
    for event in [0, 1, 7, 8, 32_768, 65_534, 65_535u16] {
        ring.region.write(raw.layout.avail_event(), &event.to_le_bytes()).unwrap();
        ring.driver.add(&mut ring.leases, 0, b"x", &[], 1, &[]).unwrap();
        let _ = ring.driver.kick_needed();
        assert!(!ring.driver.kick_needed());
    }
}

/// rust-vmm's own queue as the device.
fn peer(device: &DeviceQueue) -> Queue {
    let layout = device.layout();
    let mut queue = Queue::new(layout.size).unwrap();
    queue.set_desc_table_address(Some(layout.descriptors as u32), None);
    queue.set_avail_ring_address(Some(layout.avail as u32), None);
    queue.set_used_ring_address(Some(layout.used as u32), None);
    queue.set_event_idx(device.features().contains(Features::EVENT_INDEX));
    queue.set_ready(true);
    queue
}

#[test]
fn another_implementation_of_a_device_understands_the_driver() {
    for features in CHOICES {
        let (mut ring, device) = Ring::with(16, features);
        let mut queue = peer(&device);
        let region = Arc::clone(&ring.region);
        let memory = region.memory();
        let buffer = ring.buffer(64 << 10);
        let mut round = Wrapping(0u32);
        while ring.driver.statistics().requests < 70_000 {
            round += 1;
            let mut ids = 0;
            while ids < 1 + round.0 % 7 && add(&mut ring, ids, buffer, 1 + u64::from(round.0 % 5)).is_ok() {
                ids += 1;
            }
            assert!(ring.driver.kick_needed(), "it has said that it waits");
            queue.disable_notification(memory).unwrap();
            let (mut taken, mut interrupted) = (0, false);
            loop {
                while let Some(mut chain) = queue.pop_descriptor_chain(memory) {
                    let head = chain.head_index();
                    let mut id = [0; 4];
                    let header = chain.next().unwrap();
                    assert_eq!((header.len(), header.is_write_only()), (4, false));
                    memory.read_slice(&mut id, header.addr()).unwrap();
                    let mut written = 0;
                    for part in chain {
                        assert!(part.is_write_only());
                        memory.write_slice(&id, GuestAddress(part.addr().0)).unwrap();
                        written += part.len();
                    }
                    queue.add_used(memory, head, written).unwrap();
                    interrupted |= queue.needs_notification(memory).unwrap();
                    taken += 1;
                }
                if !queue.enable_notification(memory).unwrap() {
                    break;
                }
            }
            assert_eq!(taken, ids);
            assert!(interrupted, "the driver has said that it waits");
            for id in 0..ids {
                let used = ring.driver.used(&mut ring.leases).unwrap();
                assert_eq!((used.id, &used.header[..]), (id, &id.to_le_bytes()[..]));
                assert_eq!(used.written, 4 * (2 + round.0 % 5));
            }
            assert!(ring.driver.want_interrupt());
        }
        drop(device);
    }
}

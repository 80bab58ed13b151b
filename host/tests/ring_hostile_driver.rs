//! Invariant 4: the device trusts nothing in the ring.

mod ring_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use ninering::{
    device::{Device, DeviceQueue, local::LocalDevice},
    payload::Payload,
    region::Region,
    virtqueue::{Features, Layout, SetupError},
};

use ring_support::{INDIRECT, NEXT, RawRing, WRITE, extent};

const SIZE: u16 = 8;

/// Makes one chain of descriptors available, each followed by the next index; tells whether the device takes it. If
/// not, it must have been returned with nothing written.
fn taken(descriptors: &[(u64, u32, u16, u16)]) -> bool {
    let (raw, mut device) = RawRing::new(SIZE);
    for (index, &(addr, len, flags, next)) in (0..).zip(descriptors) {
        raw.descriptor(index, addr, len, flags, next);
    }
    raw.publish(0, 0);
    let chain = device.pop();
    if chain.is_none() {
        assert_eq!((raw.used_idx(), raw.used(0)), (1, (0, 0)), "{descriptors:?}");
        assert_eq!(device.statistics().bad_chains, 1);
        // It still works.
        raw.descriptor(1, 0, 1, WRITE, 0);
        raw.publish(1, 1);
        assert!(device.pop().is_some());
    }
    chain.is_some()
}

#[test]
fn good_chains_are_taken() {
    assert!(taken(&[(0, 1, 0, 0)]));
    assert!(taken(&[(0, 1, WRITE, 0)]));
    assert!(taken(&[(0, 1, NEXT, 1), (5, 1, NEXT | WRITE, 2), ((1 << 20) - 1, 1, WRITE, 0)]));
    let whole: Vec<_> = (0..SIZE).map(|index| (0, 1, if index + 1 < SIZE { NEXT } else { 0 }, index + 1)).collect();
    assert!(taken(&whole));
}

#[test]
fn loops_are_refused() {
    assert!(!taken(&[(0, 1, NEXT, 0)]));
    assert!(!taken(&[(0, 1, NEXT, 1), (0, 1, NEXT | WRITE, 1)]));
    assert!(!taken(&[(0, 1, NEXT, 1), (0, 1, NEXT, 2), (0, 1, NEXT, 0)]));
}

#[test]
fn indices_outside_the_table_are_refused() {
    assert!(!taken(&[(0, 1, NEXT, SIZE)]));
    assert!(!taken(&[(0, 1, NEXT, 1), (0, 1, NEXT, u16::MAX)]));

    // What lies behind the table may look like a descriptor.
    let region = Region::new(1 << 20).unwrap();
    let layout = Layout { avail: 0x1000, used: 0x2000, ..Layout::new(0, SIZE) };
    let mut device = DeviceQueue::new(Arc::clone(&region), layout, Features::VERSION_1).unwrap();
    let raw = RawRing { region, layout };
    raw.descriptor(0, 0, 1, NEXT, SIZE);
    raw.descriptor(SIZE, 0, 1, 0, 0);
    raw.publish(0, 0);
    assert!(device.pop().is_none());
    assert_eq!((raw.used_idx(), raw.used(0)), (1, (0, 0)));
}

#[test]
fn memory_outside_the_region_is_refused() {
    for (addr, len) in [
        (1 << 20, 1),
        ((1 << 20) - 1, 2),
        (0, (1 << 20) + 1),
        (0, u32::MAX),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
        (u64::MAX - 9, 10),
        (1 << 63, 4096),
    ] {
        assert!(!taken(&[(addr, len, 0, 0)]), "{len} at {addr}");
        assert!(!taken(&[(0, 1, NEXT, 1), (addr, len, WRITE, 0)]), "{len} at {addr}");
    }
}

#[test]
fn empty_descriptors_are_refused() {
    assert!(!taken(&[(0, 0, 0, 0)]));
    assert!(!taken(&[(0, 1, NEXT, 1), (0, 0, WRITE, 0)]));
}

#[test]
fn readable_after_writable_is_refused() {
    assert!(!taken(&[(0, 1, NEXT | WRITE, 1), (0, 1, 0, 0)]));
    assert!(!taken(&[(0, 1, NEXT, 1), (0, 1, NEXT | WRITE, 2), (0, 1, 0, 0)]));
}

#[test]
fn indirect_descriptors_that_were_not_negotiated_are_refused() {
    assert!(!taken(&[(0, 16, INDIRECT, 0)]));
    assert!(!taken(&[(0, 1, NEXT, 1), (0, 16, INDIRECT, 0)]));
    assert!(!taken(&[(0, 16, INDIRECT | NEXT | WRITE, 1), (0, 1, 0, 0)]));
}

/// The same with one chain of these descriptors, of which one refers to this table at this address.
fn taken_indirect(descriptors: &[(u64, u32, u16, u16)], at: u64, table: &[(u64, u32, u16, u16)]) -> bool {
    let (raw, mut device) = RawRing::with(SIZE, Features::VERSION_1.and(Features::INDIRECT));
    for (index, &(addr, len, flags, next)) in (0..).zip(descriptors) {
        raw.descriptor(index, addr, len, flags, next);
    }
    for (index, &(addr, len, flags, next)) in (0..).zip(table) {
        raw.descriptor_at(at + 16 * index, addr, len, flags, next);
    }
    raw.publish(0, 0);
    let chain = device.pop();
    match &chain {
        Some(chain) => assert!(device.region().payload(&[chain.readable(), chain.writable()].concat()).is_ok()),
        None => assert_eq!((raw.used_idx(), raw.used(0)), (1, (0, 0)), "{descriptors:?} {table:?}"),
    }
    chain.is_some()
}

const AT: u64 = 0x8000;

#[test]
fn indirect_tables_are_taken() {
    let table = [(0, 1, NEXT, 1), (5, 1, NEXT | WRITE, 2), (7, 1, WRITE, 0)];
    assert!(taken_indirect(&[(AT, 48, INDIRECT, 0)], AT, &table));
    assert!(taken_indirect(&[(AT, 48, INDIRECT | WRITE, 0)], AT, &table), "the direction of a table means nothing");
    assert!(taken_indirect(&[(AT, 48, INDIRECT, 0xffff)], AT, &table), "nor does what would be next");
    assert!(taken_indirect(&[(0, 1, NEXT, 1), (AT, 48, INDIRECT, 0)], AT, &table), "the last of a chain");
    assert!(taken_indirect(&[(AT + 3, 48, INDIRECT, 0)], AT + 3, &table), "anywhere");
    assert!(taken_indirect(&[((1 << 20) - 16, 16, INDIRECT, 0)], (1 << 20) - 16, &[(0, 1, 0, 0)]));
    assert!(taken_indirect(&[(AT, 64, INDIRECT, 0)], AT, &[(0, 1, NEXT, 3), (0, 0, 0, 0), (0, 0, 0, 0), (9, 1, 0, 0)]));
}

#[test]
fn impossible_indirect_tables_are_refused() {
    let table = [(0, 1, NEXT, 1), (0, 1, 0, 0)];
    for (addr, len) in [
        (AT, 0),
        (AT, 1),
        (AT, 15),
        (AT, 31),
        (AT, 33),
        (AT, u32::MAX),
        (AT, !15),
        ((1 << 20) - 16, 32),
        (1 << 20, 16),
        (u64::MAX, 16),
        (u64::MAX - 15, 16),
        (1 << 63, 32),
    ] {
        assert!(!taken_indirect(&[(addr, len, INDIRECT, 0)], AT, &table), "{len} at {addr}");
    }
    assert!(!taken_indirect(&[(AT, 32, INDIRECT | NEXT, 1), (0, 1, 0, 0)], AT, &table), "nothing follows a table");
    assert!(!taken_indirect(&[(AT, 16, INDIRECT, 0)], AT, &table), "the next is not in the table");
}

#[test]
fn what_is_in_an_indirect_table_is_checked_likewise() {
    for table in [
        &[(AT, 32, INDIRECT, 0), (0, 1, 0, 0)][..],
        &[(0, 1, NEXT, 1), (AT, 32, INDIRECT, 0)],
        &[(0, 1, NEXT, 0), (0, 1, 0, 0)],
        &[(0, 1, NEXT, 1), (0, 1, NEXT, 0)],
        &[(0, 1, NEXT, 2), (0, 1, 0, 0)],
        &[(0, 1, NEXT, u16::MAX), (0, 1, 0, 0)],
        &[(0, 0, 0, 0), (0, 1, 0, 0)],
        &[(1 << 20, 1, 0, 0), (0, 1, 0, 0)],
        &[(0, 1, NEXT | WRITE, 1), (0, 1, 0, 0)],
        &[(0, u32::MAX, 0, 0), (0, 1, 0, 0)],
    ] {
        assert!(!taken_indirect(&[(AT, 32, INDIRECT, 0)], AT, table), "{table:?}");
    }
    let long =
        |count: u16| -> Vec<_> { (1..=count).map(|next| (0, 1, if next < count { NEXT } else { 0 }, next)).collect() };
    assert!(taken_indirect(&[(AT, 128, INDIRECT, 0)], AT, &long(SIZE)));
    assert!(!taken_indirect(&[(AT, 144, INDIRECT, 0)], AT, &long(SIZE + 1)), "longer than the queue");
    assert!(!taken_indirect(&[(0, 1, NEXT, 1), (AT, 128, INDIRECT, 0)], AT, &long(SIZE)));
    assert!(!taken_indirect(&[(0, 1, NEXT | WRITE, 1), (AT, 16, INDIRECT, 0)], AT, &long(1)), "order, across tables");
}

#[test]
fn features_that_no_queue_has_are_refused() {
    let region = Region::new(1 << 16).unwrap();
    let layout = Layout::new(0x1000, 16);
    let new = |bits| DeviceQueue::new(Arc::clone(&region), layout, Features::from(bits)).err();
    for good in [Features::VERSION_1, Features::ALL, Features::VERSION_1.and(Features::EVENT_INDEX)] {
        assert_eq!(new(good.bits()), None);
    }
    for bad in [0, Features::EVENT_INDEX.bits(), Features::ALL.bits() | 1 << 33, Features::ALL.bits() | 1, u64::MAX] {
        assert_eq!(new(bad), Some(SetupError::Features(bad)));
    }
}

#[test]
fn chains_of_4_gib_are_refused() {
    let region = Region::new(3 << 30).unwrap();
    let layout = Layout::new(0, SIZE);
    let mut device = DeviceQueue::new(Arc::clone(&region), layout, Features::VERSION_1).unwrap();
    let raw = RawRing { region, layout };
    raw.descriptor(0, 0, 3 << 30, NEXT, 1);
    raw.descriptor(1, 0, 3 << 30, WRITE, 0);
    raw.publish(0, 0);
    assert!(device.pop().is_none());
    assert_eq!(raw.used(0), (0, 0));
}

#[test]
fn an_available_index_that_jumps_breaks_the_queue() {
    for jump in [SIZE + 1, 1000, u16::MAX] {
        let (raw, mut device) = RawRing::new(SIZE);
        raw.set_avail_idx(jump);
        assert!(device.pop().is_none());
        assert!(device.is_broken());
        raw.set_avail_idx(0);
        raw.publish(0, 0);
        assert!(device.pop().is_none(), "once broken it stays so");
        assert_eq!(raw.used_idx(), 0);
    }
}

#[test]
fn heads_that_cannot_be_are_passed_over() {
    let (raw, mut device) = RawRing::new(SIZE);
    raw.descriptor(3, 0, 1, 0, 0);
    raw.publish(0, SIZE);
    raw.publish(1, u16::MAX);
    raw.publish(2, 3);
    assert_eq!(device.pop().unwrap().head(), 3);
    assert_eq!((device.statistics().bad_chains, raw.used_idx()), (2, 0));
}

#[test]
fn a_head_made_available_again_while_it_is_under_way_is_passed_over() {
    let (raw, mut device) = RawRing::new(SIZE);
    raw.descriptor(0, 0, 1, 0, 0);
    raw.publish(0, 0);
    let chain = device.pop().unwrap();
    for idx in 1..1000 {
        raw.publish(idx, 0);
        assert!(device.pop().is_none(), "a device's work is bounded by the queue's size");
    }
    device.complete(chain, 0);
    assert_eq!(raw.used_idx(), 1);
    raw.publish(1000, 0);
    assert!(device.pop().is_some());
}

#[test]
fn impossible_layouts_are_refused() {
    let region = Region::new(1 << 16).unwrap();
    let new = |layout| DeviceQueue::new(Arc::clone(&region), layout, Features::VERSION_1).err();
    let good = Layout::new(0x1000, 16);
    assert_eq!(new(good), None);
    assert_eq!(new(Layout { size: 12, ..good }), Some(SetupError::Size(12)));
    assert_eq!(new(Layout { size: 0, ..good }), Some(SetupError::Size(0)));
    for bad in [
        Layout { descriptors: 0x1001, ..good },
        Layout { avail: 0x2001, ..good },
        Layout { used: 0x2002, ..good },
        Layout { descriptors: 1 << 16, ..good },
        Layout { used: (1 << 16) - 4, ..good },
        Layout { avail: u64::MAX - 1, ..good },
    ] {
        assert_eq!(new(bad), Some(SetupError::Layout), "{bad:?}");
    }
}

#[test]
fn descriptors_that_change_after_the_check_change_nothing() {
    let (raw, mut device) = RawRing::new(SIZE);
    raw.descriptor(0, 0, 10, NEXT, 1);
    raw.descriptor(1, 100, 20, WRITE, 0);
    raw.publish(0, 0);
    let chain = device.pop().unwrap();
    raw.descriptor(0, u64::MAX, u32::MAX, INDIRECT | NEXT | WRITE, 0);
    raw.descriptor(1, u64::MAX, u32::MAX, NEXT, 1);
    assert_eq!((chain.readable(), chain.writable()), (&[extent(0, 10)][..], &[extent(100, 20)][..]));
    device.complete(chain, u32::MAX);
    assert_eq!(raw.used(0), (0, 20), "no more is returned than the chain had space for");
}

#[test]
fn descriptors_that_change_during_the_check_never_make_a_bad_chain() {
    let (raw, mut device) = RawRing::new(SIZE);
    let stop = Arc::new(AtomicBool::new(false));
    let flipper = {
        let (raw, stop) = (raw.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                raw.descriptor(0, 0, 16, NEXT, 1);
                raw.descriptor(1, 4096, 16, WRITE, 0);
                raw.descriptor(0, u64::MAX - 1, u32::MAX, NEXT | WRITE, 0);
                raw.descriptor(1, (1 << 20) - 1, 0x1000, NEXT, 9);
                raw.descriptor(0, (1 << 20) - 8, 16, INDIRECT, 7);
                raw.descriptor(1, 0, 0, NEXT | WRITE, 0);
            }
        })
    };
    let (mut good, mut bad, mut idx) = (0, 0, 0u16);
    while good + bad < 20_000 || good == 0 || bad == 0 {
        raw.publish(idx, 0);
        match device.pop() {
            Some(chain) => {
                good += 1;
                let all = [chain.readable(), chain.writable()].concat();
                assert!(!all.is_empty() && all.len() <= SIZE.into());
                // Whatever was put together of old and new halves, it is memory of the region.
                assert!(device.region().payload(&all).is_ok());
                device.complete(chain, 1);
            }
            None => bad += 1,
        }
        idx = idx.wrapping_add(1);
        assert_eq!(raw.used_idx(), idx, "each is returned, good or bad");
    }
    stop.store(true, Ordering::Relaxed);
    flipper.join().unwrap();
}

#[test]
fn a_message_that_changes_is_handled_as_it_was_copied() {
    let (raw, device) = RawRing::new(SIZE);
    let address = 0x8000;
    let stop = Arc::new(AtomicBool::new(false));
    let flipper = {
        let (region, stop) = (Arc::clone(device.region()), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for kind in [110, 118] {
                    region.write(address + 4, &[kind]).unwrap();
                }
            }
        })
    };
    let (sender, seen) = std::sync::mpsc::channel();
    let mut device = LocalDevice::new(device, move |message: &[u8], payload: &Payload<'_>, _: &Payload<'_>| {
        sender.send((message[4], message.len(), payload.len())).unwrap();
        0
    });
    raw.descriptor(0, address, 60, NEXT, 1);
    raw.descriptor(1, address + 60, 40, NEXT, 2);
    raw.descriptor(2, 0x9000, 100, WRITE, 0);
    let (mut writes, mut walks, mut idx) = (0, 0, 0u16);
    while writes + walks < 20_000 || writes == 0 || walks == 0 {
        raw.publish(idx, 0);
        device.kick();
        idx = idx.wrapping_add(1);
        assert_eq!(raw.used_idx(), idx);
        match seen.recv().unwrap() {
            (118, message, payload) => {
                assert_eq!((message, payload), (23, 77));
                writes += 1;
            }
            (_, message, payload) => {
                assert_eq!((message, payload), (100, 0));
                walks += 1;
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    flipper.join().unwrap();
}

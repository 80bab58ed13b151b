//! Invariant 2, from the other side: a device that lies costs its own queue, and never a byte that the driver did not lend it
//! nor one that somebody else has been lent meanwhile.
//!
//! `tests/hostile` plays the same at random.

mod ring_support;

use ninering::{
    device::DeviceQueue,
    region::Extent,
    virtqueue::{Features, MAX_HEADER, QueueError, Used},
};
use ring_support::{INDIRECT, NEXT, RawRing, Ring, WRITE, extent};

const SIZE: u16 = 8;

/// A queue with two requests in flight, ids 10 and 11, each of which may be answered by a header of 11 bytes and 100 bytes
/// of payload.
fn two_in_flight() -> (Ring, DeviceQueue, RawRing, [Extent; 2]) {
    let (mut ring, device) = Ring::new(SIZE);
    let raw = RawRing::of(&device);
    let buffers = [ring.buffer(100), ring.buffer(100)];
    for (id, buffer) in (10..).zip(buffers) {
        ring.driver.add(&mut ring.leases, id, b"request", &[], 11, &[buffer]).expect("room");
    }
    (ring, device, raw, buffers)
}

/// The head of the chain that was made available as the entry that `idx` counts.
fn head(device: &DeviceQueue, idx: u16) -> u32 {
    let mut bytes = [0; 2];
    let place = extent(device.layout().avail_entry(idx), 2);
    device.region().read(place, &mut bytes).expect("in range");
    u16::from_le_bytes(bytes).into()
}

fn used(ring: &mut Ring) -> Option<Used> {
    ring.driver.used(&mut ring.leases)
}

/// The queue is broken, everything is still leased to its requests, and all of it comes back when it is given up.
fn assert_broken(ring: &mut Ring, in_flight: &[u32]) {
    assert!(ring.driver.is_broken());
    assert_eq!(used(ring), None);
    let refused = ring.driver.add(&mut ring.leases, 99, b"more", &[], 11, &[]);
    assert_eq!(refused, Err(QueueError::Broken));
    assert_eq!(ring.leases.in_flight(), in_flight.len(), "what a device may still write is nobody else's");
    assert!(!ring.driver.kick_needed());
    assert_eq!(ring.driver.abandon(&mut ring.leases), in_flight);
    assert_eq!(ring.leases.in_flight(), 0);
}

#[test]
fn an_id_that_is_no_descriptor_breaks_the_queue() {
    for id in [SIZE.into(), u32::from(SIZE) + 1, 0xffff, 0x1_0000, u32::MAX] {
        let (mut ring, _device, raw, _) = two_in_flight();
        raw.forge_used(0, id, 0);
        assert_eq!(used(&mut ring), None, "{id}");
        assert_broken(&mut ring, &[10, 11]);
    }
}

#[test]
fn an_id_beyond_16_bits_is_not_cut_to_one_that_is_in_flight() {
    let (mut ring, device, raw, _) = two_in_flight();
    raw.forge_used(0, head(&device, 0) | 0x1_0000, 0);
    assert_eq!(used(&mut ring), None);
    assert_broken(&mut ring, &[10, 11]);
}

#[test]
fn a_descriptor_that_begins_no_chain_breaks_the_queue() {
    let (mut ring, device, raw, _) = two_in_flight();
    // The second descriptor of the first chain, and one that is free.
    raw.forge_used(0, head(&device, 0) + 1, 11);
    assert_eq!(used(&mut ring), None);
    assert_broken(&mut ring, &[10, 11]);
    let (mut ring, _device, raw, _) = two_in_flight();
    raw.forge_used(0, u32::from(SIZE) - 1, 11);
    assert_eq!(used(&mut ring), None);
    assert_broken(&mut ring, &[10, 11]);
}

#[test]
fn a_chain_that_is_returned_twice_breaks_the_queue() {
    let (mut ring, device, raw, buffers) = two_in_flight();
    let first = head(&device, 0);
    raw.forge_used(0, first, 11);
    raw.forge_used(1, first, 11);
    assert_eq!(used(&mut ring).expect("the first time").id, 10);
    assert!(!ring.leases.is_in_flight(buffers[0]));
    assert_eq!(used(&mut ring), None);
    assert_broken(&mut ring, &[11]);
}

#[test]
fn a_head_that_is_in_use_again_is_the_new_chain() {
    let (mut ring, device, raw, buffers) = two_in_flight();
    let first = head(&device, 0);
    raw.forge_used(0, first, 11);
    assert_eq!(used(&mut ring).expect("the first").id, 10);
    // Its descriptors are used anew. A device that returns them once more returns this request, unanswered.
    ring.driver.add(&mut ring.leases, 12, b"request", &[], 11, &[buffers[0]]).expect("room");
    assert_eq!(head(&device, 2), first);
    raw.forge_used(1, first, 0);
    let again = used(&mut ring).expect("a chain");
    assert_eq!((again.id, again.written, again.header.len()), (12, 0, 0));
    assert_eq!(ring.leases.in_flight(), 1);
}

#[test]
fn more_than_there_was_space_for_is_not_believed() {
    for len in [112, 1000, u32::MAX] {
        let (mut ring, device, raw, _) = two_in_flight();
        raw.forge_used(0, head(&device, 0), len);
        let used = used(&mut ring).expect("a chain");
        assert_eq!((used.id, used.written, used.header.len()), (10, 111, 11), "{len}");
        assert_eq!(ring.driver.statistics().bytes_in, 100);
    }
}

#[test]
fn a_header_that_was_not_written_is_cut_off() {
    for len in [0, 1, 7, 10] {
        let (mut ring, device, raw, _) = two_in_flight();
        raw.forge_used(0, head(&device, 0), len);
        assert_eq!(used(&mut ring).expect("a chain").header.len() as u32, len);
    }
}

#[test]
fn an_index_that_jumps_breaks_the_queue() {
    for idx in [3, SIZE, 0x7fff, u16::MAX] {
        let (mut ring, device, raw, _) = two_in_flight();
        // Everything that it might look at is a chain in flight.
        for entry in 0..SIZE {
            raw.forge_used(entry, head(&device, 0), 11);
        }
        raw.forge_used(idx.wrapping_sub(1), head(&device, 1), 11);
        assert_eq!(used(&mut ring), None, "{idx}");
        assert_broken(&mut ring, &[10, 11]);
    }
}

#[test]
fn an_index_that_goes_back_breaks_the_queue() {
    let (mut ring, device, raw, _) = two_in_flight();
    raw.forge_used(0, head(&device, 0), 11);
    assert_eq!(used(&mut ring).expect("the first").id, 10);
    raw.forge_used(u16::MAX, head(&device, 1), 11);
    assert_eq!(used(&mut ring), None);
    assert_broken(&mut ring, &[11]);
}

#[test]
fn descriptors_that_the_device_rewrites_are_not_read_again() {
    let (mut ring, device, raw, buffers) = two_in_flight();
    for index in 0..SIZE {
        // Loops, of memory that is nobody's.
        raw.descriptor(index, 0, u32::MAX, NEXT | WRITE, index);
    }
    for idx in 0..2 {
        raw.forge_used(idx, head(&device, idx), 111);
    }
    assert_eq!([used(&mut ring).expect("a chain").id, used(&mut ring).expect("a chain").id], [10, 11]);
    assert_eq!(ring.leases.in_flight(), 0);
    // All descriptors are free, each once.
    for id in 0..4 {
        ring.driver.add(&mut ring.leases, id, b"request", &[], 11, &[]).expect("room");
    }
    assert_eq!(ring.driver.add(&mut ring.leases, 4, b"request", &[], 11, &[]), Err(QueueError::Full));
    assert_eq!(ring.bytes(buffers[0]).len(), 100);
}

#[test]
fn an_available_ring_that_the_device_rewrites_is_not_read_again() {
    let (mut ring, device, raw, _) = two_in_flight();
    let heads = [head(&device, 0), head(&device, 1)];
    raw.set_avail_idx(77);
    for idx in 0..SIZE {
        raw.publish(idx, 7);
    }
    raw.forge_used(0, heads[1], 11);
    raw.forge_used(1, heads[0], 11);
    assert_eq!([used(&mut ring).expect("a chain").id, used(&mut ring).expect("a chain").id], [11, 10]);
}

/// So many requests are in tables.
const TABLES: u16 = 10;

/// Requests whose ten descriptors each lie in a table of their own, with ids from 10 up.
fn in_tables() -> (Ring, DeviceQueue, RawRing, Vec<u64>) {
    let (mut ring, device) = Ring::with(2 * SIZE, Features::VERSION_1.and(Features::INDIRECT));
    let raw = RawRing::of(&device);
    let buffers: Vec<Extent> = (0..8 * TABLES).map(|_| ring.buffer(100)).collect();
    for (id, pieces) in (10..).zip(buffers.chunks(8)) {
        // With gaps, so that none are joined.
        let pieces: Vec<Extent> = pieces.iter().map(|piece| extent(piece.offset, 50)).collect();
        ring.driver.add(&mut ring.leases, id, b"request", &[], 11, &pieces).expect("room");
    }
    let tables = (0..TABLES).map(|index| {
        let (addr, flags) = raw.read_descriptor(index);
        assert_eq!(flags, INDIRECT, "{index}");
        addr
    });
    let tables = tables.collect();
    (ring, device, raw, tables)
}

#[test]
fn tables_that_the_device_rewrites_are_not_read_again() {
    let (mut ring, device, raw, tables) = in_tables();
    for (index, &table) in (0..).zip(&tables) {
        for entry in 0..10 {
            // Memory that is nobody's, and other tables.
            raw.descriptor_at(table + 16 * entry, u64::MAX, u32::MAX, NEXT | WRITE | INDIRECT, 0xffff);
        }
        raw.descriptor(index, tables[0], u32::MAX, INDIRECT | NEXT, index);
    }
    for idx in 0..TABLES {
        raw.forge_used(idx, head(&device, idx), u32::MAX);
    }
    for id in 10..20 {
        let used = used(&mut ring).expect("a chain");
        assert_eq!((used.id, used.written, used.header.len()), (id, 11 + 8 * 50, 11));
    }
    assert_eq!(ring.leases.in_flight(), 0);
    // The tables' memory is free, each once.
    let pieces: Vec<Extent> = (0..8).map(|_| ring.buffer(100)).map(|piece| extent(piece.offset, 50)).collect();
    for idx in TABLES..100 {
        ring.driver.add(&mut ring.leases, idx.into(), b"request", &[], 11, &pieces).expect("room");
        raw.forge_used(idx, head(&device, idx), 11);
        assert_eq!(used(&mut ring).expect("a chain").id, u32::from(idx));
    }
}

#[test]
fn a_table_that_is_returned_twice_or_never_was_one_breaks_the_queue() {
    let (mut ring, device, raw, _) = in_tables();
    let first = head(&device, 0);
    raw.forge_used(0, first, 11);
    raw.forge_used(1, first, 11);
    assert_eq!(used(&mut ring).expect("the first time").id, 10);
    assert_eq!(used(&mut ring), None);
    assert_broken(&mut ring, &(11..20).collect::<Vec<_>>());
    let (mut ring, _device, raw, _) = in_tables();
    raw.forge_used(0, TABLES.into(), 11);
    assert_eq!(used(&mut ring), None);
    assert_broken(&mut ring, &(10..20).collect::<Vec<_>>());
}

#[test]
fn whatever_the_words_of_notification_say_nothing_is_lost() {
    for lie in [0, 1, 0xfffe, u16::MAX] {
        let (mut ring, device, raw, _) = two_in_flight();
        let layout = device.layout();
        // The flags of both rings, and the event indices behind them.
        for place in [layout.used, layout.avail, layout.end() - 2, layout.avail + 4 + 2 * u64::from(SIZE)] {
            ring.region.write(place, &lie.to_le_bytes()).expect("in range");
        }
        // It may be told or not, once.
        _ = ring.driver.kick_needed();
        assert!(!ring.driver.kick_needed(), "{lie}");
        for idx in 0..2 {
            raw.forge_used(idx, head(&device, idx), 11);
        }
        assert_eq!([used(&mut ring).expect("a chain").id, used(&mut ring).expect("a chain").id], [10, 11]);
    }
}

#[test]
fn an_error_that_is_longer_than_the_header_goes_on_in_the_payload() {
    // `Rlerror`: size[4] type[1] tag[2] ecode[4]; here there is space for the first seven bytes alone before the payload.
    let reply = [11, 0, 0, 0, 7, 1, 0, 13, 0, 0, 0];
    let (mut ring, mut device) = Ring::new(SIZE);
    let pieces = [ring.buffer(1), ring.buffer(2), ring.buffer(100)];
    ring.driver.add(&mut ring.leases, 1, b"request", &[], 7, &pieces).expect("room");
    let chain = device.pop().expect("a chain");
    device.region().payload(chain.writable()).expect("in the region").copy_from(&reply);
    device.complete(chain, reply.len() as u32);
    let Used { written, header, .. } = used(&mut ring).expect("a chain");
    assert_eq!((written, header.as_slice()), (11, &reply[..7]));
    // The rest is in the extents, in their order.
    let rest: Vec<u8> = pieces.iter().flat_map(|&piece| ring.bytes(piece)).take(4).collect();
    assert_eq!(rest, reply[7..]);
}

#[test]
fn headers_of_all_lengths_come_back_whole() {
    for len in [1, 11, 512, 513, 4096, MAX_HEADER] {
        let (mut ring, mut device) = Ring::new(SIZE);
        ring.driver.add(&mut ring.leases, 1, &vec![3; len as usize], &[], len, &[]).expect("room");
        let chain = device.pop().expect("a chain");
        let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
        device.region().payload(chain.writable()).expect("in the region").copy_from(&bytes);
        device.complete(chain, len);
        assert_eq!(used(&mut ring).expect("a chain").header, bytes);
    }
}

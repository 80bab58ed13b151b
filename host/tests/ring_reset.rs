//! A queue that is taken from its device with requests in flight, and given to another.

mod ring_support;

use std::{
    io::Write,
    os::unix::net::UnixStream as Peer,
    sync::{Arc, mpsc::channel},
    thread,
};

use ninering::{
    device::{Chain, Device, DeviceQueue, local::LocalDevice, remote::RemoteDevice},
    lease::MemoryError,
    payload::Payload,
    region::Extent,
    virtqueue::{QueueError, SetupError},
};

use ring_support::{RawRing, Ring, extent};

/// Adds a read of 100 bytes into `buffer`.
fn add(ring: &mut Ring, id: u32, buffer: Extent) {
    ring.driver.add(&mut ring.leases, id, &id.to_le_bytes(), &[], 4, &[buffer]).unwrap();
}

/// Takes all that has come back: what under, and how much written.
fn used(ring: &mut Ring) -> Vec<(u32, u32)> {
    std::iter::from_fn(|| ring.driver.used(&mut ring.leases)).map(|used| (used.id, used.written)).collect()
}

fn echo(queue: DeviceQueue) -> impl Device {
    LocalDevice::new(queue, |message: &[u8], _: &Payload<'_>, reply: &Payload<'_>| reply.copy_from(message))
}

fn pop_all(queue: &mut DeviceQueue) -> Vec<Chain> {
    std::iter::from_fn(|| queue.pop()).collect()
}

#[test]
fn what_is_in_flight_comes_back_in_order_with_nothing_written_and_another_device_takes_over() {
    let (mut ring, mut device) = Ring::new(32);
    let buffers: Vec<_> = (0..6).map(|_| ring.buffer(100)).collect();
    for (id, buffer) in (10..).zip(&buffers) {
        add(&mut ring, id, *buffer);
    }
    // The first was returned and taken, the second returned, the third is under way.
    let mut chains = pop_all(&mut device).into_iter();
    device.complete(chains.next().unwrap(), 4);
    assert_eq!(used(&mut ring), [(10, 4)]);
    device.complete(chains.next().unwrap(), 4);
    device.detach();
    let mut second = echo(ring.driver.reset(&mut ring.leases).unwrap());
    assert_eq!((ring.driver.in_flight(), ring.leases.in_flight()), (0, 0));
    for buffer in &buffers {
        assert_eq!(ring.leases.check(*buffer), Ok(()));
    }
    assert_eq!(used(&mut ring), [(11, 0), (12, 0), (13, 0), (14, 0), (15, 0)]);
    assert!(!ring.driver.kick_needed(), "there is nothing in the queue");
    // All descriptors are free again, and the indices begin at 0.
    for round in 0..100 {
        for id in 0..8 {
            ring.driver.add(&mut ring.leases, id, &[round; 4], &[buffers[0]][..usize::from(id == 0)], 4, &[]).unwrap();
        }
        assert!(ring.driver.kick_needed());
        second.kick();
        assert_eq!(used(&mut ring), (0..8).map(|id| (id, 4)).collect::<Vec<_>>());
    }
    let statistics = ring.driver.statistics();
    assert_eq!((statistics.resets, statistics.reset_chains, statistics.used), (1, 5, 801));
}

#[test]
fn as_long_as_a_device_is_attached_nothing_is_reset() {
    let (mut ring, device) = Ring::new(8);
    let buffer = ring.buffer(100);
    add(&mut ring, 1, buffer);
    assert_eq!(ring.driver.reset(&mut ring.leases).err(), Some(SetupError::Attached));
    assert_eq!(ring.leases.check(buffer), Err(MemoryError::InFlight));
    assert_eq!(used(&mut ring), []);
    // It is as it was, and the device goes on.
    let mut device = echo(device);
    device.kick();
    assert_eq!(used(&mut ring), [(1, 4)]);
    device.close();
    assert!(ring.driver.reset(&mut ring.leases).is_ok());
}

#[test]
fn a_device_that_is_late_changes_nothing_any_more() {
    let (mut ring, mut late) = Ring::new(8);
    let buffer = ring.buffer(100);
    for id in 0..2 {
        add(&mut ring, id, extent(buffer.offset + u64::from(id) * 50, 50));
    }
    let chains = pop_all(&mut late);
    late.detach();
    let device = ring.driver.reset(&mut ring.leases).unwrap();
    assert_eq!(used(&mut ring), [(0, 0), (1, 0)]);
    let layout = device.layout();
    let rings = extent(layout.descriptors, (layout.end() - layout.descriptors) as u32);
    add(&mut ring, 2, buffer);
    let before = ring.bytes(rings);
    let working = thread::spawn(move || {
        assert!(late.pop().is_none(), "what is in the ring now is not for it");
        for chain in chains {
            late.complete(chain, 54);
        }
        assert!(late.is_broken());
        assert_eq!(late.statistics().completed, 0);
    });
    working.join().unwrap();
    assert!(ring.bytes(rings) == before);
    assert_eq!(used(&mut ring), []);
    echo(device).kick();
    assert_eq!(used(&mut ring), [(2, 4)]);
}

#[test]
fn a_broken_queue_is_whole_again() {
    let (mut ring, device) = Ring::new(8);
    let buffer = ring.buffer(100);
    add(&mut ring, 1, buffer);
    RawRing::of(&device).forge_used(0, 7, 0);
    assert_eq!(used(&mut ring), []);
    assert!(ring.driver.is_broken());
    drop(device);
    let mut device = echo(ring.driver.reset(&mut ring.leases).unwrap());
    assert_eq!(used(&mut ring), [(1, 0)]);
    add(&mut ring, 2, buffer);
    device.kick();
    assert_eq!(used(&mut ring), [(2, 4)]);

    ring.driver.abandon(&mut ring.leases);
    assert_eq!(ring.driver.add(&mut ring.leases, 3, b"x", &[], 0, &[]), Err(QueueError::Broken));
    device.close();
    assert!(ring.driver.reset(&mut ring.leases).is_ok());
    assert!(!ring.driver.is_broken());
}

#[test]
fn queues_that_are_reset_again_and_again_leak_nothing() {
    let (mut ring, mut device) = Ring::new(16);
    let pages = ring.region.statistics().allocated_pages;
    let buffer = ring.buffer(4096);
    for round in 0..1000 {
        let header = vec![0; 1 + round % 3 * 1000];
        for id in 0..3 {
            let place = [extent(buffer.offset + id * 1000, 1000)];
            ring.driver.add(&mut ring.leases, id as u32, &header, &place, 2000, &[]).unwrap();
        }
        for _ in 0..round % 4 {
            drop(device.pop());
        }
        device.detach();
        device = ring.driver.reset(&mut ring.leases).unwrap();
    }
    assert_eq!(used(&mut ring).len(), 3000);
    ring.leases.release(buffer).unwrap();
    assert_eq!(ring.region.statistics().allocated_pages, pages);
}

/// A `Tread` with this tag, and an `Rread` to it that is cut off within its payload.
const TREAD: [u8; 23] = [23, 0, 0, 0, 116, 7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0];
const RREAD: [u8; 11] = [111, 0, 0, 0, 117, 7, 0, 100, 0, 0, 0];

#[test]
fn a_connection_that_is_closed_writes_nothing_more_and_its_successor_answers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut ring, mut queue) = Ring::new(16);
    let (buffer, other) = (ring.buffer(100), ring.buffer(100));
    for round in 0..20u8 {
        let (sender, interrupts) = channel();
        let (ours, mut theirs) = Peer::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut device = runtime.block_on(async {
            let stream = tokio::net::UnixStream::from_std(ours).unwrap();
            RemoteDevice::start(queue, stream, Arc::new(move || sender.send(()).unwrap_or_default()))
        });
        // The first request of each connection is answered, the second in part.
        for (id, place) in [(1, other), (2, buffer)] {
            ring.region.write(place.offset, &[0xee; 100]).unwrap();
            ring.driver.add(&mut ring.leases, id, &TREAD, &[], 11, &[place]).unwrap();
            device.kick();
            theirs.write_all(&RREAD).unwrap();
            if id == 1 {
                theirs.write_all(&[round; 100]).unwrap();
                interrupts.recv().unwrap();
                assert_eq!(used(&mut ring), [(1, 111)]);
                assert_eq!(ring.bytes(other), [round; 100]);
            }
        }
        assert_eq!(ring.driver.reset(&mut ring.leases).err(), Some(SetupError::Attached));
        // The server goes on while the device ends, and after that.
        let server = thread::spawn(move || {
            for _ in 0..100 {
                if theirs.write_all(&[0x77]).is_err() {
                    return;
                }
            }
        });
        device.close();
        queue = ring.driver.reset(&mut ring.leases).unwrap();
        assert_eq!(ring.leases.check(buffer), Ok(()));
        ring.region.write(buffer.offset, &[0x55; 100]).unwrap();
        server.join().unwrap();
        // Nor is it brought back to life by a kick.
        device.kick();
        assert_eq!(used(&mut ring), [(2, 0)]);
        drop(device);
        assert_eq!(ring.bytes(buffer), [0x55; 100]);
    }
}

//! A device that answers within the kick.

mod ring_support;

use ninering::{
    device::{Device, local::LocalDevice},
    payload::Payload,
    virtqueue::{Driver, MAX_HEADER, QueueError},
};

use ring_support::{Ring, extent};

/// A `Twrite` of so many bytes, without them.
fn twrite(count: u32) -> Vec<u8> {
    let mut message = vec![0; 23];
    ninering_wire::Tmessage::Twrite { fid: 1, offset: 2, count }.encode(3, &mut message).unwrap();
    message
}

#[test]
fn a_twrites_payload_is_left_in_place_and_all_else_is_copied() {
    let (mut ring, queue) = Ring::new(8);
    let (sender, seen) = std::sync::mpsc::channel();
    let mut device = LocalDevice::new(queue, move |message: &[u8], payload: &Payload<'_>, reply: &Payload<'_>| {
        let mut bytes = vec![0; payload.len()];
        payload.copy_to(&mut bytes);
        sender.send((message.to_vec(), bytes)).unwrap();
        reply.copy_from(b"0123456789")
    });
    let out = ring.buffer(3);
    ring.region.write(out.offset, b"abc").unwrap();
    let other = [&b"\x1f\0\0\0\x6e\0\0"[..], &[7; 21]].concat();
    for (header, message, payload) in [
        (twrite(3), twrite(3), &b"abc"[..]),
        (other.clone(), [&other[..], b"abc"].concat(), b""),
        (vec![9], b"\x09abc".to_vec(), b""),
    ] {
        ring.driver.add(&mut ring.leases, 0, &header, &[out], 11, &[]).unwrap();
        device.kick();
        assert_eq!(seen.recv().unwrap(), (message, payload.to_vec()));
        assert_eq!(ring.driver.used(&mut ring.leases).unwrap().header, b"0123456789");
    }
}

#[test]
fn the_reply_goes_to_the_header_and_then_to_the_extents() {
    let (mut ring, queue) = Ring::new(8);
    let mut device = LocalDevice::new(queue, |_: &[u8], _: &Payload<'_>, reply: &Payload<'_>| {
        reply.copy_from(b"a reply that is a bit longer")
    });
    let buffer = ring.buffer(4096);
    let parts = [extent(buffer.offset + 100, 5), extent(buffer.offset, 50)];
    ring.driver.add(&mut ring.leases, 0, b"x", &[], 11, &parts).unwrap();
    device.kick();
    let used = ring.driver.used(&mut ring.leases).unwrap();
    assert_eq!((used.written, &used.header[..]), (28, &b"a reply tha"[..]));
    assert_eq!(ring.bytes(parts[0]), b"t is ");
    assert_eq!(&ring.bytes(parts[1])[..12], b"a bit longer");
}

#[test]
fn a_message_that_is_too_long_is_returned_unanswered() {
    let (mut ring, queue) = Ring::new(8);
    let mut device = LocalDevice::new(queue, |message: &[u8], _: &Payload<'_>, _: &Payload<'_>| message.len());
    let out = ring.buffer(1);
    for (header, out, written) in
        [(vec![0; MAX_HEADER as usize], vec![], MAX_HEADER), (vec![0; MAX_HEADER as usize], vec![out], 0)]
    {
        ring.driver.add(&mut ring.leases, 0, &header, &out, MAX_HEADER, &[]).unwrap();
        device.kick();
        assert_eq!(ring.driver.used(&mut ring.leases).unwrap().written, written);
    }
}

#[test]
fn a_handler_that_claims_too_much_is_cut_to_the_space_there_is() {
    let (mut ring, queue) = Ring::new(8);
    let mut device = LocalDevice::new(queue, |_: &[u8], _: &Payload<'_>, _: &Payload<'_>| usize::MAX);
    ring.driver.add(&mut ring.leases, 0, b"x", &[], 11, &[]).unwrap();
    device.kick();
    assert_eq!(ring.driver.used(&mut ring.leases).unwrap().written, 11);
}

#[test]
fn a_closed_device_returns_what_it_was_given() {
    let (mut ring, queue) = Ring::new(8);
    let mut device = LocalDevice::new(queue, |_: &[u8], _: &Payload<'_>, _: &Payload<'_>| 1);
    ring.driver.add(&mut ring.leases, 0, b"x", &[], 11, &[]).unwrap();
    device.close();
    assert_eq!(ring.driver.used(&mut ring.leases).unwrap().written, 0);
}

#[test]
fn ping_pong_of_many_requests_loses_nothing() {
    let (mut ring, queue) = Ring::new(32);
    let mut device =
        LocalDevice::new(queue, |message: &[u8], _: &Payload<'_>, reply: &Payload<'_>| reply.copy_from(message));
    let buffer = ring.buffer(64 << 10);
    let mut added = std::collections::HashMap::new();
    let add = |driver: &mut Driver, leases: &mut _, round: u32, slot: u32| {
        let bytes = [round.to_le_bytes(), slot.to_le_bytes()].concat();
        let place = extent(buffer.offset + u64::from(slot) * 16, 4);
        driver.add(leases, slot, &bytes, &[], 4, &[place]).map(|()| (bytes, place))
    };
    for round in 0..5000u32 {
        for slot in 0..(round % 14) {
            match add(&mut ring.driver, &mut ring.leases, round, slot) {
                Ok(request) => assert!(added.insert(slot, request).is_none()),
                Err(error) => assert_eq!(error, QueueError::Full),
            }
        }
        if ring.driver.kick_needed() {
            device.kick();
        }
        while let Some(used) = ring.driver.used(&mut ring.leases) {
            let (bytes, place) = added.remove(&used.id).unwrap();
            assert_eq!([used.header, ring.bytes(place)].concat(), bytes);
        }
        assert!(added.is_empty());
    }
    assert_eq!(ring.leases.in_flight(), 0);
}

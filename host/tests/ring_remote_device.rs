//! A device that is a connection, with honest and with lying servers at its other end.

mod ring_support;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream as Peer,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use ninering::device::{Device, remote::RemoteDevice};
use ninering_wire::{Header, Rmessage, Tmessage};
use tokio::net::UnixStream;

use ring_support::{Ring, extent};

const PATIENCE: Duration = Duration::from_secs(10);

struct Remote {
    ring: Ring,
    device: RemoteDevice,
    interrupts: Receiver<()>,
    /// Requests so far; also the id of the last.
    sent: u32,
    _runtime: tokio::runtime::Runtime,
}

impl Remote {
    /// A device, and its server's end of the connection.
    fn new(size: u16) -> (Self, Peer) {
        let (ring, queue) = Ring::with(size, RemoteDevice::FEATURES);
        let (ours, theirs) = Peer::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, interrupts) = channel();
        let device = runtime.block_on(async {
            let stream = UnixStream::from_std(ours).unwrap();
            RemoteDevice::start(queue, stream, Arc::new(move || sender.send(()).unwrap_or_default()))
        });
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self { ring, device, interrupts, sent: 0, _runtime: runtime }, theirs)
    }

    fn used(&mut self) -> Option<ninering::virtqueue::Used> {
        self.ring.driver.used(&mut self.ring.leases)
    }

    fn kick(&mut self) {
        if self.ring.driver.kick_needed() {
            self.device.kick();
        }
    }

    /// Waits for a used element as a mount does: looks at the ring, then waits for an interrupt.
    fn wait(&mut self) -> ninering::virtqueue::Used {
        loop {
            if let Some(used) = self.used() {
                return used;
            }
            if !self.ring.driver.want_interrupt() {
                continue;
            }
            self.interrupts.recv_timeout(PATIENCE).expect("an interrupt");
        }
    }

    fn send(
        &mut self,
        header: &[u8],
        out: &[ninering::region::Extent],
        reply: u32,
        input: &[ninering::region::Extent],
    ) -> u32 {
        self.sent += 1;
        self.ring.driver.add(&mut self.ring.leases, self.sent, header, out, reply, input).unwrap();
        self.kick();
        self.sent
    }

    /// Waits for the device to break, after which nothing is in flight and new requests fail at once.
    fn broken(&mut self) -> String {
        while self.ring.driver.in_flight() > 0 {
            assert_eq!(self.wait().written, 0);
        }
        let reason = self.device.broken().expect("broken");
        self.send(&tread(99, 10), &[], 11, &[]);
        assert_eq!(self.used().expect("returned within the kick").written, 0);
        assert_eq!(self.device.outstanding(), 0);
        reason
    }
}

fn encode(message: Tmessage<'_>, tag: u16) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let length = message.encode(tag, &mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

fn tread(tag: u16, count: u32) -> Vec<u8> {
    encode(Tmessage::Tread { fid: tag.into(), offset: 0, count }, tag)
}

fn twrite(tag: u16, count: u32) -> Vec<u8> {
    encode(Tmessage::Twrite { fid: tag.into(), offset: 0, count }, tag)
}

/// An `Rread` of these bytes.
fn rread(tag: u16, bytes: &[u8]) -> Vec<u8> {
    let mut reply = vec![0; 11];
    Rmessage::Rread { count: bytes.len() as u32 }.encode(tag, &mut reply).unwrap();
    reply.extend(bytes);
    reply
}

fn raw(size: u32, kind: u8, tag: u16) -> Vec<u8> {
    [&size.to_le_bytes()[..], &[kind], &tag.to_le_bytes()].concat()
}

/// The next request: its header and the rest.
fn receive(peer: &mut Peer) -> Option<(Header, Vec<u8>)> {
    let mut header = [0; 7];
    peer.read_exact(&mut header).ok()?;
    let header = Header::decode(&header).unwrap();
    let mut rest = vec![0; header.size as usize - 7];
    peer.read_exact(&mut rest).unwrap();
    Some((header, rest))
}

/// What an honest server's file holds at a tag's place.
fn contents(tag: u16, count: usize) -> Vec<u8> {
    (0..count).map(|index| (index as u16).wrapping_mul(31).wrapping_add(tag) as u8).collect()
}

/// Answers reads with [`contents`], writes by their count if they are that; several at a time in reverse.
fn honest(mut peer: Peer, at_a_time: usize) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let (mut answered, mut replies) = (0, Vec::new());
        while let Some((header, rest)) = receive(&mut peer) {
            replies.push(match header.kind {
                116 => rread(
                    header.tag,
                    &contents(header.tag, u32::from_le_bytes(rest[12..].try_into().unwrap()) as usize),
                ),
                118 => {
                    assert!(rest[16..] == contents(header.tag, rest.len() - 16));
                    [raw(11, 119, header.tag), (rest.len() as u32 - 16).to_le_bytes().to_vec()].concat()
                }
                _ => raw(7, header.kind + 1, header.tag),
            });
            if replies.len() == at_a_time {
                replies.reverse();
                answered += replies.len();
                peer.write_all(&std::mem::take(&mut replies).concat()).unwrap();
            }
        }
        answered
    })
}

#[test]
fn a_read_goes_to_the_headers_place_and_the_extents() {
    let (mut remote, peer) = Remote::new(8);
    let server = honest(peer, 1);
    let buffer = remote.ring.buffer(100_000);
    let parts = [extent(buffer.offset + 50_000, 40_000), extent(buffer.offset, 30_001)];
    let id = remote.send(&tread(5, 70_001), &[], 11, &parts);
    let used = remote.wait();
    assert_eq!((used.id, used.written, used.header), (id, 70_012, rread(5, &contents(5, 70_001))[..11].to_vec()));
    assert!([remote.ring.bytes(parts[0]), remote.ring.bytes(parts[1])].concat() == contents(5, 70_001));
    drop(remote);
    assert_eq!(server.join().unwrap(), 1);
}

#[test]
fn a_write_goes_from_the_extents() {
    let (mut remote, peer) = Remote::new(8);
    let _server = honest(peer, 1);
    for count in [1, 100, 4096, 900_001] {
        let buffer = remote.ring.buffer(count);
        remote.ring.region.write(buffer.offset, &contents(7, count as usize)).unwrap();
        remote.send(&twrite(7, count), &[buffer], 11, &[]);
        assert_eq!(remote.wait().header, [raw(11, 119, 7), count.to_le_bytes().to_vec()].concat());
        remote.ring.leases.release(buffer).unwrap();
    }
}

#[test]
fn replies_out_of_order_go_to_their_requests() {
    let (mut remote, peer) = Remote::new(64);
    let _server = honest(peer, 16);
    let buffer = remote.ring.buffer(16 * 4096);
    let mut requests = std::collections::HashMap::new();
    for tag in 0..16u16 {
        let place = extent(buffer.offset + u64::from(tag) * 4096, 200 * u32::from(tag) + 1);
        requests.insert(remote.send(&tread(tag, place.len), &[], 11, &[place]), (tag, place));
    }
    for _ in 0..16 {
        let used = remote.wait();
        let (tag, place) = requests.remove(&used.id).unwrap();
        assert_eq!(used.written, 11 + place.len);
        assert!(remote.ring.bytes(place) == contents(tag, place.len as usize));
    }
}

#[test]
fn stress_of_reads_and_writes_loses_and_mixes_nothing() {
    let (mut remote, peer) = Remote::new(128);
    let server = honest(peer, 1);
    let total = 20_000u32;
    let (mut sent, mut done) = (0, 0);
    let mut requests = std::collections::HashMap::new();
    let buffers: Vec<_> = (0..32).map(|_| remote.ring.buffer(40_000)).collect();
    let mut idle: Vec<u16> = (0..32).collect();
    while done < total {
        while sent < total
            && let Some(tag) = idle.pop()
        {
            let count = 1 + (sent * 7919) % if sent % 50 == 0 { 40_000 } else { 600 };
            let place = extent(buffers[usize::from(tag)].offset, count);
            let (header, out, input) = if sent % 3 == 0 {
                remote.ring.region.write(place.offset, &contents(tag, count as usize)).unwrap();
                (twrite(tag, count), vec![place], vec![])
            } else {
                (tread(tag, count), vec![], vec![place])
            };
            remote.ring.driver.add(&mut remote.ring.leases, sent, &header, &out, 11, &input).unwrap();
            requests.insert(sent, (tag, place, input.is_empty()));
            sent += 1;
        }
        remote.kick();
        let mut used = Some(remote.wait());
        while let Some(element) = used {
            let (tag, place, write) = requests.remove(&element.id).unwrap();
            assert_eq!(element.written, if write { 11 } else { 11 + place.len });
            assert!(remote.ring.bytes(place) == contents(tag, place.len as usize));
            idle.push(tag);
            done += 1;
            used = remote.used();
        }
    }
    assert_eq!(remote.ring.leases.in_flight(), 0);
    let (driver, device) = (remote.ring.driver.statistics(), remote.device.statistics());
    assert!(driver.kicks + driver.kicks_suppressed <= total.into() && device.interrupts <= total.into());
    assert!(device.interrupts + device.interrupts_suppressed > 0);
    drop(remote);
    assert_eq!(server.join().unwrap(), total as usize);
}

/// What becomes of one request to a server that answers with these bytes and then hangs up if told to.
fn lie(reply: &[u8], hang_up: bool) -> (String, Vec<u8>) {
    let (mut remote, mut peer) = Remote::new(8);
    let memory = remote.ring.buffer(4096);
    remote.ring.region.write(memory.offset, &[0xee; 4096]).unwrap();
    remote.send(&tread(1, 100), &[], 11, &[extent(memory.offset, 100)]);
    receive(&mut peer).unwrap();
    peer.write_all(reply).unwrap();
    let peer = Some(peer).filter(|_| !hang_up);
    let reason = remote.broken();
    drop(peer);
    (reason, remote.ring.bytes(extent(memory.offset + 100, 3996)))
}

#[test]
fn lying_servers_break_the_device_and_touch_nothing_else() {
    for (reply, hang_up, expected) in [
        (rread(2, b"x"), false, "not made (tag 2)"),
        (raw(7, 121, !0), false, "not made (tag 65535)"),
        (rread(1, &[1; 101]), false, "a reply of 112 bytes where at most 111 are allowed"),
        (raw(u32::MAX, 117, 1), false, "a reply of 4294967295 bytes"),
        (raw(6, 117, 1), false, "no 9P reply"),
        (raw(0, 117, 1), false, "no 9P reply"),
        (rread(1, &[1; 100])[..60].to_vec(), true, "within a reply"),
        (raw(111, 117, 1), true, "within a reply"),
        (vec![9, 0, 0], true, "within a reply"),
        (vec![], true, "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false, "the server"),
    ] {
        let (reason, beyond) = lie(&reply, hang_up);
        assert!(reason.contains(expected), "{reason}, not {expected}");
        assert!(beyond.iter().all(|byte| *byte == 0xee));
    }
}

#[test]
fn a_second_reply_to_one_request_breaks_the_device() {
    let (mut remote, mut peer) = Remote::new(8);
    remote.send(&tread(1, 1), &[], 20, &[]);
    receive(&mut peer).unwrap();
    peer.write_all(&rread(1, b"a")).unwrap();
    assert_eq!(remote.wait().written, 12);
    let other = remote.send(&tread(2, 1), &[], 20, &[]);
    peer.write_all(&rread(1, b"a")).unwrap();
    assert_eq!((remote.wait().id, remote.device.broken().is_some()), (other, true));
}

#[test]
fn the_negotiated_msize_binds_both_sides() {
    let (mut remote, mut peer) = Remote::new(8);
    let version = encode(Tmessage::Tversion { msize: 8192, version: "9P2000.L".into() }, !0);
    remote.send(&version, &[], 100, &[]);
    receive(&mut peer).unwrap();
    let mut reply = vec![0; 64];
    let length = Rmessage::Rversion { msize: 4096, version: "9P2000.L".into() }.encode(!0, &mut reply).unwrap();
    peer.write_all(&reply[..length]).unwrap();
    assert_eq!(remote.wait().written as usize, length);

    let buffer = remote.ring.buffer(8192);
    remote.send(&twrite(1, 4096), &[extent(buffer.offset, 4096)], 11, &[]);
    assert_eq!(remote.wait().written, 0, "a request that is too long is not sent");
    remote.send(&tread(2, 8000), &[], 11, &[buffer]);
    assert_eq!(receive(&mut peer).unwrap().0.tag, 2);
    peer.write_all(&rread(2, &[0; 4086])).unwrap();
    assert!(remote.broken().contains("a reply of 4097 bytes where at most 4096 are allowed"));
}

#[test]
fn requests_whose_header_lies_are_returned_and_not_sent() {
    let (mut remote, mut peer) = Remote::new(16);
    let buffer = remote.ring.buffer(4096);
    for (header, out, reply) in [
        (tread(1, 10)[..20].to_vec(), 0, 20),
        (twrite(1, 10), 9, 20),
        (twrite(1, 10), 11, 20),
        (vec![1], 0, 20),
        (raw(6, 120, 1)[..6].to_vec(), 0, 20),
        (tread(1, 10), 0, 10),
    ] {
        let out: Vec<_> = (out > 0).then_some(extent(buffer.offset, out)).into_iter().collect();
        remote.send(&header, &out, reply, &[]);
        assert_eq!(remote.wait().written, 0, "{header:?}");
    }
    let good = remote.send(&tread(1, 10), &[], 21, &[]);
    let same_tag = remote.send(&tread(1, 10), &[], 21, &[]);
    assert_eq!(remote.wait().id, same_tag);
    assert_eq!(receive(&mut peer).unwrap().0.tag, 1);
    peer.write_all(&rread(1, b"0123456789")).unwrap();
    let used = remote.wait();
    assert_eq!((used.id, used.written), (good, 21));
    assert_eq!(remote.device.broken(), None);
}

#[test]
fn memory_stays_in_flight_until_all_of_a_request_is_sent() {
    let (mut remote, mut peer) = Remote::new(8);
    let count = 3_000_000;
    let buffer = remote.ring.buffer(count);
    let id = remote.send(&twrite(3, count), &[buffer], 11, &[]);
    // The server answers before it has read the request: the memory is still to be sent.
    peer.write_all(&[raw(11, 119, 3), count.to_le_bytes().to_vec()].concat()).unwrap();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(remote.used(), None);
    assert_eq!(receive(&mut peer).unwrap().0.tag, 3);
    let used = remote.wait();
    assert_eq!((used.id, used.written), (id, 11));
}

#[test]
fn a_closed_device_returns_everything_and_hangs_up() {
    let (mut remote, mut peer) = Remote::new(16);
    let buffer = remote.ring.buffer(3_000_000);
    let large = remote.send(&twrite(1, 3_000_000), &[buffer], 11, &[]);
    let small = remote.send(&tread(2, 1), &[], 20, &[]);
    remote.device.close();
    let mut ids = [remote.used().unwrap(), remote.used().unwrap()].map(|used| (used.written, used.id));
    ids.sort_unstable();
    assert_eq!(ids, [(0, large), (0, small)]);
    assert!(peer.read_to_end(&mut Vec::new()).is_ok(), "the connection is closed");
    assert!(remote.device.broken().is_some());
}

#[test]
fn a_dropped_device_lets_go_of_the_region() {
    let (remote, mut peer) = Remote::new(8);
    let Remote { ring: Ring { region, leases, driver }, device, interrupts, _runtime, sent: _ } = remote;
    drop((leases, driver, device, interrupts));
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    drop(_runtime);
    assert_eq!(region.statistics().allocated_pages, 0);
    assert_eq!(Arc::strong_count(&region), 1);
}

#[test]
fn a_connection_that_cannot_be_made_says_where_to_and_why() {
    use ninering::{device::remote::connect, listener::Address};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nobody.sock");
    let error = runtime.block_on(connect(&Address::Unix(path), PATIENCE)).unwrap_err().to_string();
    assert!(error.contains("nobody.sock") && error.contains("No such file"), "{error}");
}

//! What clients may use, and for how long: each bound, what happens at it, and that others are served meanwhile.

mod common;

use std::{
    io::{Read, Write},
    sync::Arc,
    thread,
    time::Duration,
};

use common::{
    ROOT, encode,
    gated::{Gated, until},
    raw::{GETATTR, READ, is_closed, next, send},
    receive,
    serving::{Connection, Serving},
};
use ninering::{
    backend::{Backend, MemBackend},
    listener::{Address, Limits, Resources, Usage},
    server::{Server, ServerOptions},
};
use ninering_wire::{
    Errno, Frame, LockStatus, LockType, NOFID, NONUNAME, NOTAG, Names, Rmessage, Str, Tmessage, VERSION_9P2000L,
    lock::FLAGS_BLOCK, lopen::RDWR,
};

/// A time that passes in a test, and the least that ends it.
const SHORT: Duration = Duration::from_secs(1);

fn server(backend: impl Backend) -> Arc<Server> {
    Server::new(Arc::new(backend), ServerOptions::default())
}

/// A listener of its own, and what its connections use.
fn serving(backend: impl Backend, limits: Limits) -> (Serving, Arc<Resources>) {
    let resources = Resources::new(limits);
    let shared = Arc::clone(&resources);
    let address = "tcp://127.0.0.1:0".parse().unwrap();
    let serving = Serving::at(&address, server(backend), move |listener| listener.sharing(&shared).unwrap());
    (serving, resources)
}

fn version(connection: &mut (impl Read + Write)) {
    send(connection, NOTAG, &Tmessage::Tversion { msize: 1 << 20, version: Str(VERSION_9P2000L) });
    assert_eq!(next(connection), (NOTAG, "Rversion"));
}

fn attach(connection: &mut (impl Read + Write)) {
    let (uname, aname) = (Str(b""), Str(b""));
    send(connection, 0, &Tmessage::Tattach { fid: ROOT, afid: NOFID, uname, aname, n_uname: NONUNAME });
    assert_eq!(next(connection), (0, "Rattach"));
}

/// A connection that has attached, and opened `name` as fid 1.
fn begun(serving: &Serving, name: &str) -> Box<dyn Connection> {
    let mut connection = serving.connect();
    version(&mut connection);
    attach(&mut connection);
    send(&mut connection, 0, &Tmessage::Twalk { fid: ROOT, newfid: 1, names: (&Str(name.as_bytes())).into() });
    assert_eq!(next(&mut connection), (0, "Rwalk"));
    send(&mut connection, 0, &Tmessage::Tlopen { fid: 1, flags: RDWR });
    assert_eq!(next(&mut connection), (0, "Rlopen"));
    connection
}

fn is_served(connection: &mut (impl Read + Write)) {
    send(connection, 99, &GETATTR);
    assert_eq!(next(connection), (99, "Rgetattr"));
}

#[test]
fn one_peer_does_not_take_all_connections() {
    let limits = Limits { connections: 8, connections_per_peer: 2, ..Limits::default() };
    let (serving, resources) = serving(Gated::default(), limits);
    let one = begun(&serving, "fast");
    let mut two = begun(&serving, "fast");
    assert_eq!((resources.usage().connections, resources.usage().peers), (2, 1));
    assert!(is_closed(&mut serving.connect()));
    is_served(&mut two);
    drop(one);
    until(|| resources.usage().connections == 1);
    is_served(&mut begun(&serving, "fast"));
}

#[test]
fn listeners_share_what_there_is() {
    let resources = Resources::new(Limits { connections: 2, ..Limits::default() });
    let gate = Gated::default();
    let server = server(gate.clone());
    let address = "tcp://127.0.0.1:0".parse().unwrap();
    let [one, other] = [(); 2].map(|()| {
        let shared = Arc::clone(&resources);
        Serving::at(&address, Arc::clone(&server), move |listener| listener.sharing(&shared).unwrap())
    });
    let first = begun(&one, "fast");
    let _second = begun(&other, "fast");
    let mut third = other.connect();
    send(&mut third, NOTAG, &Tmessage::Tversion { msize: 1 << 20, version: Str(VERSION_9P2000L) });
    thread::sleep(Duration::from_millis(50));
    assert_eq!(resources.usage().connections, 2);
    drop(first);
    assert_eq!(next(&mut third), (NOTAG, "Rversion"));
}

#[test]
fn requests_under_way_are_limited_in_all() {
    let gate = Gated::default();
    let limits = Limits { requests: 6, requests_per_connection: 4, ..Limits::default() };
    let (serving, resources) = serving(gate.clone(), limits);
    let mut connections = [(); 3].map(|()| begun(&serving, "slow"));
    let mut bystander = begun(&serving, "fast");
    for connection in &mut connections {
        connection.write_all(&(0..10).flat_map(|tag| encode(tag, &READ, &[])).collect::<Vec<_>>()).unwrap();
    }
    gate.until_waiting(6);
    thread::sleep(Duration::from_millis(50));
    assert_eq!((gate.waiting(), resources.usage().requests), (6, 6));
    // What needs no thread is answered still.
    is_served(&mut bystander);
    gate.release();
    for connection in &mut connections {
        let mut tags = [(); 10].map(|()| next(connection).0);
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..10));
    }
    until(|| resources.usage().requests == 0);
}

#[test]
fn memory_is_limited_in_all_and_metadata_is_served_nevertheless() {
    const COUNT: u32 = 256 << 10;
    const MEMORY: usize = 3 << 20;
    let gate = Gated::default();
    let limits = Limits { memory: MEMORY, slow_reader: None, ..Limits::default() };
    let (serving, resources) = serving(gate.clone(), limits);
    let request = |tag| encode(tag, &Tmessage::Tread { fid: 1, offset: 0, count: COUNT }, &[]);
    let requests: Vec<_> = (0..100).flat_map(request).collect();
    let hogs = [(); 4].map(|()| begun(&serving, "fast"));
    let hogs = hogs.map(|mut hog| {
        hog.write_all(&requests).unwrap();
        hog
    });
    let mut before = usize::MAX;
    until(|| {
        thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut before, gate.reads()) == gate.reads()
    });
    assert!(resources.usage().memory <= MEMORY);
    is_served(&mut begun(&serving, "fast"));
    // Whoever takes replies makes room for all.
    let readers = hogs.map(|mut hog| {
        thread::spawn(move || {
            let mut tags: Vec<_> = (0..100).map(|_| next(&mut hog).0).collect();
            tags.sort_unstable();
            assert!(tags.into_iter().eq(0..100));
        })
    });
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    until(|| resources.usage() == Usage::default());
}

#[test]
fn who_never_reads_is_closed_and_its_memory_returned() {
    let gate = Gated::default();
    let limits = Limits { slow_reader: Some(SHORT), ..Limits::default() };
    let (serving, resources) = serving(gate.clone(), limits);
    let mut bystander = begun(&serving, "fast");
    let mut connection = begun(&serving, "fast");
    let request = |tag| encode(tag, &Tmessage::Tread { fid: 1, offset: 0, count: 64 << 10 }, &[]);
    connection.write_all(&(0..1000).flat_map(request).collect::<Vec<_>>()).unwrap();
    until(|| resources.usage().memory > 1 << 20);
    until(|| resources.usage() == Usage { connections: 1, peers: 1, ..Usage::default() });
    until(|| gate.open_files() == 1);
    is_served(&mut bystander);
    // What the kernel had taken may still come; then it is over.
    let mut rest = Vec::new();
    let _ = connection.read_to_end(&mut rest);
    assert!(rest.len() < 1000 * (64 << 10));
}

#[test]
fn who_reads_at_last_is_not_closed() {
    let limits = Limits { slow_reader: Some(Duration::from_secs(3600)), ..Limits::default() };
    let (serving, resources) = serving(Gated::default(), limits);
    let mut connection = begun(&serving, "fast");
    let request = |tag| encode(tag, &Tmessage::Tread { fid: 1, offset: 0, count: 64 << 10 }, &[]);
    connection.write_all(&(0..200).flat_map(request).collect::<Vec<_>>()).unwrap();
    until(|| resources.usage().memory > 1 << 20);
    thread::sleep(SHORT);
    for _ in 0..200 {
        assert_eq!(next(&mut connection).1, "Rread");
    }
    is_served(&mut connection);
}

#[test]
fn who_does_not_attach_is_closed() {
    let limits = Limits { without_fid: Some(SHORT), ..Limits::default() };
    let (serving, resources) = serving(Gated::default(), limits);
    let mut attached = begun(&serving, "fast");
    let mut silent = serving.connect();
    let mut halfway = serving.connect();
    version(&mut halfway);
    let mut gone = serving.connect();
    version(&mut gone);
    attach(&mut gone);
    send(&mut gone, 1, &Tmessage::Tclunk { fid: ROOT });
    assert_eq!(next(&mut gone), (1, "Rclunk"));
    for connection in [&mut silent, &mut halfway, &mut gone] {
        assert!(is_closed(connection));
    }
    until(|| resources.usage().connections == 1);
    is_served(&mut attached);
}

#[test]
fn who_does_not_finish_a_message_is_closed() {
    let limits = Limits { message: Some(SHORT), ..Limits::default() };
    let (serving, resources) = serving(Gated::default(), limits);
    let mut idle = begun(&serving, "fast");
    for length in [1, 6, 30] {
        let mut connection = begun(&serving, "fast");
        let message = encode(1, &Tmessage::Twrite { fid: 1, offset: 0, count: 1000 }, &[0; 1000]);
        connection.write_all(&message[..length]).unwrap();
        assert!(is_closed(&mut connection), "after {length} bytes");
    }
    // Bytes that come one by one don't help.
    let mut connection = begun(&serving, "fast");
    let message = encode(1, &Tmessage::Twrite { fid: 1, offset: 0, count: 1000 }, &[0; 1000]);
    let sent = message.chunks(1).take_while(|byte| {
        thread::sleep(Duration::from_millis(10));
        connection.write_all(byte).is_ok()
    });
    assert!(sent.count() < message.len());
    until(|| resources.usage().connections == 1);
    is_served(&mut idle);
}

#[test]
fn memory_for_a_large_message_is_charged_before_it_is_there() {
    let gate = Gated::default();
    let (serving, resources) = serving(gate, Limits { memory: 1 << 20, message: None, ..Limits::default() });
    let message = encode(1, &Tmessage::Twrite { fid: 1, offset: 0, count: 900_000 }, &[7; 900_000]);
    let mut first = begun(&serving, "fast");
    first.write_all(&message[..100]).unwrap();
    until(|| resources.usage().memory >= 900_000);
    // Another one waits until the first is through.
    let mut second = begun(&serving, "fast");
    second.write_all(&message[..100]).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(resources.usage().memory <= 1 << 20);
    is_served(&mut begun(&serving, "fast"));
    for connection in [&mut first, &mut second] {
        connection.write_all(&message[100..]).unwrap();
        assert_eq!(next(connection), (1, "Rwrite"));
    }
    until(|| resources.usage().memory == 0);
}

#[test]
fn who_asks_for_nothing_is_closed_where_that_is_wanted() {
    let gate = Gated::default();
    let limits = Limits { idle: Some(SHORT), ..Limits::default() };
    let (serving, resources) = serving(gate.clone(), limits);
    let mut waiting = begun(&serving, "slow");
    send(&mut waiting, 1, &READ);
    let mut idle = begun(&serving, "fast");
    assert!(is_closed(&mut idle));
    until(|| resources.usage().connections == 1);
    // Who waits for an answer is not idle.
    gate.release();
    assert_eq!(next(&mut waiting), (1, "Rread"));
    assert!(is_closed(&mut waiting));
}

#[test]
fn fids_are_limited_and_their_memory_with_them() {
    let gate = Gated::default();
    let options = ServerOptions { max_fids: 100, ..ServerOptions::default() };
    let server = Server::new(Arc::new(gate.clone()), options);
    let serving = Serving::on_unix_socket(server);
    let mut connection = begun(&serving, "fast");
    let mut refused = 0;
    for newfid in 10..1000 {
        send(&mut connection, 1, &Tmessage::Twalk { fid: ROOT, newfid, names: (&Str(b"a")).into() });
        let reply = receive(&mut connection).unwrap();
        match Frame::<Rmessage<'_>>::decode(&reply).unwrap().message {
            Rmessage::Rwalk { .. } => {}
            error => {
                assert_eq!(error, Rmessage::Rlerror { ecode: Errno::EMFILE.0 });
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 990 - 98);
    send(&mut connection, 1, &Tmessage::Tclunk { fid: 10 });
    assert_eq!(next(&mut connection), (1, "Rclunk"));
    send(&mut connection, 1, &Tmessage::Twalk { fid: ROOT, newfid: 5000, names: Names::default() });
    assert_eq!(next(&mut connection), (1, "Rwalk"));
}

#[test]
fn fids_of_all_connections_are_limited_but_for_the_first_of_each() {
    let options = ServerOptions { max_fids: 60, max_fids_in_all: 50, ..ServerOptions::default() };
    let serving = Serving::on_unix_socket(Server::new(Arc::new(Gated::default()), options));
    // How many fids more a client gets, and what it is refused with.
    let fill = |connection: &mut Box<dyn Connection>, first: u32| {
        for count in 0.. {
            let newfid = first + count;
            send(connection, 1, &Tmessage::Twalk { fid: ROOT, newfid, names: Names::default() });
            let reply = receive(connection).unwrap();
            if let Rmessage::Rlerror { ecode } = Frame::<Rmessage<'_>>::decode(&reply).unwrap().message {
                return (count, Errno(ecode));
            }
        }
        unreachable!("there is an end")
    };
    let (mut greedy, mut other) = (begun(&serving, "fast"), begun(&serving, "fast"));
    assert_eq!(fill(&mut greedy, 10), (58, Errno::EMFILE));
    assert_eq!(fill(&mut other, 10), (20, Errno::ENFILE));
    let mut late = begun(&serving, "fast");
    assert_eq!(fill(&mut late, 10), (14, Errno::ENFILE));
    // What one gives back, another gets: by a clunk, by a Tversion, by its end.
    send(&mut other, 1, &Tmessage::Tclunk { fid: 10 });
    assert_eq!(next(&mut other), (1, "Rclunk"));
    assert_eq!(fill(&mut late, 100), (1, Errno::ENFILE));
    version(&mut other);
    assert_eq!(fill(&mut late, 200), (5, Errno::ENFILE));
    drop(greedy);
    until(|| fill(&mut late, 300).1 == Errno::EMFILE);
}

#[test]
fn a_panic_on_the_reading_task_costs_one_request() {
    let gate = Gated::default();
    gate.claim_not_to_wait();
    let (serving, _) = serving(gate, Limits::default());
    let mut connection = begun(&serving, "panics");
    send(&mut connection, 1, &READ);
    let reply = receive(&mut connection).unwrap();
    let error = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
    assert_eq!((error.tag, error.message), (1, Rmessage::Rlerror { ecode: Errno::EIO.0 }));
    is_served(&mut connection);
}

#[test]
fn a_shutdown_does_not_wait_for_what_never_ends() {
    let gate = Gated::default();
    let (mut serving, resources) = serving(gate.clone(), Limits { drain: SHORT, ..Limits::default() });
    let mut connection = begun(&serving, "slow");
    send(&mut connection, 1, &READ);
    gate.until_waiting(1);
    serving.stop();
    assert!(is_closed(&mut connection));
    until(|| resources.usage().connections == 0);
    // The backend's call has a thread still, which the runtime waits for when it is dropped.
    gate.release();
    serving.ended();
}

#[test]
fn a_shutdown_cancels_locks_that_are_waited_for() {
    // Long enough that nothing but being cancelled ends the wait.
    let limits = Limits { drain: Duration::from_secs(3600), ..Limits::default() };
    let (mut serving, resources) = serving(MemBackend::default(), limits);
    let mut client = serving.client();
    client.begin();
    client.make("", "file", b"contents");
    let lock = Tmessage::Tlock {
        fid: 1,
        kind: LockType::Write,
        flags: FLAGS_BLOCK,
        start: 0,
        length: 0,
        proc_id: 1,
        client_id: Str(b"client"),
    };
    let [mut one, mut other] = [(); 2].map(|()| begun(&serving, "file"));
    send(&mut one, 1, &lock);
    assert_eq!(next(&mut one), (1, "Rlock"));
    send(&mut other, 1, &lock);
    is_served(&mut other);
    serving.stop();
    let reply = receive(&mut other).unwrap();
    let frame = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
    // Unless the end of the one that has the lock comes first: then it is had.
    let ended = [Rmessage::Rlerror { ecode: Errno::EINTR.0 }, Rmessage::Rlock { status: LockStatus::Success }];
    assert!(frame.tag == 1 && ended.contains(&frame.message), "{frame:?}");
    assert!(is_closed(&mut other) && is_closed(&mut one));
    serving.ended();
    assert_eq!(resources.usage(), Usage::default());
}

#[test]
fn peers_of_unix_sockets_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Unix(directory.path().join("socket"));
    let resources = Resources::new(Limits { connections_per_peer: 1, ..Limits::default() });
    let shared = Arc::clone(&resources);
    let serving = Serving::at(&address, server(Gated::default()), move |listener| listener.sharing(&shared).unwrap());
    let mut one = begun(&serving, "fast");
    assert_eq!(resources.usage().peers, 1, "a user");
    assert!(is_closed(&mut serving.connect()));
    is_served(&mut one);
}

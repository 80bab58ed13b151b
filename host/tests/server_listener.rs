//! Sockets: framing, order, what waits and what does not, and how it all ends.

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixListener,
    sync::Arc,
    thread,
    time::Duration,
};

use common::{
    Client, ROOT, Socket, encode,
    gated::{Gated, until},
    raw::{GETATTR, READ, is_closed, next, send},
    receive,
    serving::{Connection, PATIENCE, Serving},
};
use ninering::{
    backend::{Backend, MemBackend},
    listener::{Address, Limits, Listener},
    server::{Server, ServerOptions},
};
use ninering_wire::{
    Errno, Frame, NOFID, NONUNAME, NOTAG, Rmessage, Str, Tmessage, VERSION_9P2000L,
    lopen::{RDONLY, RDWR},
};

fn server(backend: impl Backend) -> Arc<Server> {
    Server::new(Arc::new(backend), ServerOptions::default())
}

/// A connection that has agreed on a version, attached as [`ROOT`], and opened files of that name as fids from 1 on.
fn begun(serving: &Serving, name: &str, fids: u32) -> Box<dyn Connection> {
    let mut connection = serving.connect();
    let mut exchange = |tag, message: &Tmessage<'_>| {
        connection.write_all(&encode(tag, message, &[])).unwrap();
        let reply = receive(&mut connection).unwrap();
        assert_eq!(u16::from_le_bytes([reply[5], reply[6]]), tag);
        assert_eq!(reply[4], encode(tag, message, &[])[4] + 1);
    };
    exchange(NOTAG, &Tmessage::Tversion { msize: 1 << 20, version: Str(VERSION_9P2000L) });
    let (uname, aname) = (Str(b""), Str(b""));
    exchange(0, &Tmessage::Tattach { fid: ROOT, afid: NOFID, uname, aname, n_uname: NONUNAME });
    for newfid in 1..=fids {
        exchange(0, &Tmessage::Twalk { fid: ROOT, newfid, names: (&Str(name.as_bytes())).into() });
        exchange(0, &Tmessage::Tlopen { fid: newfid, flags: RDWR });
    }
    connection
}

#[test]
fn sizes_that_cannot_be_close_the_connection() {
    let serving = Serving::on_unix_socket(server(MemBackend::default()));
    let mut bystander = serving.client();
    bystander.begin();
    for size in [0, 1, 6, 8193, 1 << 20, u32::MAX] {
        let mut connection = serving.connect();
        connection.write_all(&size.to_le_bytes()).unwrap();
        assert!(is_closed(&mut connection), "a message of {size} bytes before the version");
    }
    for size in [0, 6, (1 << 20) + 1, u32::MAX] {
        let mut connection = begun(&serving, "", 0);
        send(&mut connection, 1, &GETATTR);
        connection.write_all(&size.to_le_bytes()).unwrap();
        // What it was asked before may or may not be answered still.
        let mut rest = Vec::new();
        let _ = connection.read_to_end(&mut rest);
        assert!(rest.is_empty() || u16::from_le_bytes([rest[5], rest[6]]) == 1);
    }
    bystander.make("", "a", b"contents");
    assert_eq!(bystander.contents("a").unwrap(), b"contents");
}

#[test]
fn messages_may_come_in_any_pieces() {
    let serving = Serving::on_tcp_socket(server(MemBackend::default()));
    let mut connection = begun(&serving, "", 0);
    let contents: Vec<u8> = (0..150_000_u32).map(|at| (at % 241) as u8).collect();
    let (name, fid) = (Str(b"a"), ROOT);
    let mut bytes = encode(1, &Tmessage::Tlcreate { fid, name, flags: RDWR, mode: 0o644, gid: 0 }, &[]);
    bytes.extend(encode(2, &Tmessage::Twrite { fid, offset: 0, count: 150_000 }, &contents));
    bytes.extend(encode(3, &Tmessage::Tread { fid, offset: 0, count: 150_000 }, &[]));
    let mut sent = 0;
    for length in [1, 3, 1, 6, 1, 1, 20, 5, 1, 70_000, 3].into_iter().chain(std::iter::repeat(40_000)) {
        let piece = &bytes[sent..bytes.len().min(sent + length)];
        if piece.is_empty() {
            break;
        }
        connection.write_all(piece).unwrap();
        connection.flush().unwrap();
        thread::sleep(Duration::from_millis(2));
        sent += piece.len();
    }
    assert_eq!(next(&mut connection), (1, "Rlcreate"));
    assert_eq!(next(&mut connection), (2, "Rwrite"));
    let reply = receive(&mut connection).unwrap();
    assert_eq!(Frame::<Rmessage<'_>>::decode(&reply).unwrap().payload, contents);
}

#[test]
fn many_requests_at_once_are_all_answered() {
    for waits in [false, true] {
        let gate = Gated::default();
        if !waits {
            gate.claim_not_to_wait();
        }
        let serving = Serving::on_unix_socket(server(gate));
        let mut connection = begun(&serving, "fast", 1);
        let mut bytes = Vec::new();
        for tag in 0..5000 {
            let message = match tag % 3 {
                0 => GETATTR,
                1 => READ,
                _ => Tmessage::Twrite { fid: 1, offset: 0, count: 100 },
            };
            bytes.extend(encode(tag, &message, &[1; 100][..if tag % 3 == 2 { 100 } else { 0 }]));
        }
        connection.write_timeout(PATIENCE);
        connection.write_all(&bytes).unwrap();
        let mut tags: Vec<_> = (0..5000).map(|_| next(&mut connection).0).collect();
        if !waits {
            assert!(tags.is_sorted(), "on one thread they keep their order");
        }
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..5000));
    }
}

#[test]
fn replies_overtake_those_that_wait() {
    let gate = Gated::default();
    let serving = Serving::on_unix_socket(server(gate.clone()));
    let mut connection = begun(&serving, "slow", 2);
    send(&mut connection, 1, &READ);
    gate.until_waiting(1);
    send(&mut connection, 2, &GETATTR);
    assert_eq!(next(&mut connection), (2, "Rgetattr"));
    // Even one that its file waits for.
    send(&mut connection, 3, &Tmessage::Tclunk { fid: 1 });
    assert_eq!(next(&mut connection), (3, "Rclunk"));
    send(&mut connection, 4, &Tmessage::Treaddir { fid: 2, offset: 0, count: 1000 });
    assert_eq!(next(&mut connection), (4, "Rreaddir"));
    gate.release();
    assert_eq!(next(&mut connection), (1, "Rread"));
}

#[test]
fn replies_do_not_wait_for_a_request_behind_them_that_waits() {
    // As many as leave too little room in a buffer of the server's for the one that waits.
    const COUNT: u16 = 200;
    let gate = Gated::default();
    let serving = Serving::on_unix_socket(server(gate.clone()));
    let mut connection = begun(&serving, "slow", 1);
    let mut bytes: Vec<u8> = (0..COUNT).flat_map(|tag| encode(tag, &GETATTR, &[])).collect();
    bytes.extend(encode(COUNT, &Tmessage::Tread { fid: 1, offset: 0, count: 60_000 }, &[]));
    connection.write_all(&bytes).unwrap();
    assert!((0..COUNT).all(|_| next(&mut connection).1 == "Rgetattr"));
    gate.release();
    assert_eq!(next(&mut connection), (COUNT, "Rread"));
}

#[test]
fn flushes_are_answered_after_their_victim() {
    let gate = Gated::default();
    let serving = Serving::on_unix_socket(server(gate.clone()));
    let mut connection = begun(&serving, "slow", 1);
    send(&mut connection, 1, &READ);
    send(&mut connection, 2, &Tmessage::Tflush { oldtag: 1 });
    send(&mut connection, 3, &Tmessage::Tflush { oldtag: 2 });
    send(&mut connection, 4, &Tmessage::Tflush { oldtag: 1 });
    // Of what is not there, and of itself.
    send(&mut connection, 5, &Tmessage::Tflush { oldtag: 77 });
    send(&mut connection, 6, &Tmessage::Tflush { oldtag: 6 });
    assert_eq!([next(&mut connection), next(&mut connection)], [(5, "Rflush"), (6, "Rflush")]);
    gate.until_waiting(1);
    gate.release();
    let answered = [(); 4].map(|()| next(&mut connection));
    assert_eq!(answered, [(1, "Rread"), (2, "Rflush"), (3, "Rflush"), (4, "Rflush")]);
    // The tags are free again.
    for tag in 1..5 {
        send(&mut connection, tag, &READ);
        assert_eq!(next(&mut connection), (tag, "Rread"));
    }
}

#[test]
fn tags_are_used_once_at_a_time() {
    let gate = Gated::default();
    let serving = Serving::on_unix_socket(server(gate.clone()));
    for again in [READ, GETATTR, Tmessage::Tflush { oldtag: 9 }] {
        gate.hold();
        let mut connection = begun(&serving, "slow", 1);
        send(&mut connection, 1, &READ);
        gate.until_waiting(1);
        send(&mut connection, 1, &again);
        assert!(is_closed(&mut connection), "{again:?}");
        gate.release();
        until(|| gate.open_files() == 0);
    }
}

#[test]
fn version_begins_anew_after_what_is_under_way() {
    let gate = Gated::default();
    let serving = Serving::on_unix_socket(server(gate.clone()));
    let mut connection = begun(&serving, "slow", 1);
    for tag in 1..4 {
        send(&mut connection, tag, &READ);
    }
    send(&mut connection, NOTAG, &Tmessage::Tversion { msize: 8192, version: Str(VERSION_9P2000L) });
    send(&mut connection, 9, &GETATTR);
    gate.until_waiting(3);
    gate.release();
    let mut reads = [(); 3].map(|()| next(&mut connection));
    reads.sort_unstable();
    assert_eq!(reads, [(1, "Rread"), (2, "Rread"), (3, "Rread")]);
    assert_eq!(next(&mut connection), (NOTAG, "Rversion"));
    assert_eq!(next(&mut connection), (9, "Rlerror"), "there are no fids any more");
    assert_eq!(gate.open_files(), 0);
    // And the new msize is in force.
    connection.write_all(&8193_u32.to_le_bytes()).unwrap();
    assert!(is_closed(&mut connection));
}

#[test]
fn nothing_overtakes_the_reply_to_a_version() {
    let gate = Gated::default();
    gate.release();
    let serving = Serving::on_unix_socket(server(gate));
    for _ in 0..200 {
        let mut connection = serving.connect();
        let (uname, aname) = (Str(b""), Str(b""));
        // In one piece, so that they are all there when the first is answered.
        let mut bytes = encode(NOTAG, &Tmessage::Tversion { msize: 8192, version: Str(VERSION_9P2000L) }, &[]);
        for fid in 0..4 {
            let attach = Tmessage::Tattach { fid, afid: NOFID, uname, aname, n_uname: NONUNAME };
            bytes.extend(encode(fid as u16, &attach, &[]));
            bytes.extend(encode(10 + fid as u16, &GETATTR, &[]));
        }
        connection.write_all(&bytes).unwrap();
        assert_eq!(next(&mut connection), (NOTAG, "Rversion"));
    }
}

#[test]
fn large_writes_on_their_way_stall_nobody() {
    let gate = Gated::default();
    let serving = Serving::on_unix_socket(server(gate.clone()));
    let mut connection = begun(&serving, "slow", 1);
    let mut other = begun(&serving, "fast", 1);
    send(&mut connection, 1, &READ);
    gate.until_waiting(1);
    let write = encode(2, &Tmessage::Twrite { fid: 1, offset: 0, count: 900_000 }, &[0; 900_000]);
    connection.write_all(&write[..500_000]).unwrap();
    send(&mut other, 1, &READ);
    assert_eq!(next(&mut other), (1, "Rread"));
    gate.release();
    assert_eq!(next(&mut connection), (1, "Rread"), "its own earlier request is answered, too");
    connection.write_all(&write[500_000..]).unwrap();
    assert_eq!(next(&mut connection), (2, "Rwrite"));
}

#[test]
fn who_takes_no_replies_is_not_read_from() {
    const COUNT: u32 = 256 << 10;
    const REQUESTS: u16 = 400;
    for waits in [false, true] {
        let gate = Gated::default();
        if !waits {
            gate.claim_not_to_wait();
        }
        let serving = Serving::on_unix_socket(server(gate.clone()));
        let mut connection = begun(&serving, "fast", 1);
        // In one piece: a socket's buffer holds few small ones, and the server will read no more at some point.
        let request = |tag| encode(tag, &Tmessage::Tread { fid: 1, offset: 0, count: COUNT }, &[]);
        connection.write_all(&(0..REQUESTS).flat_map(request).collect::<Vec<_>>()).unwrap();
        // The number of reads settles, far from that of requests.
        let mut before = 0;
        until(|| {
            thread::sleep(Duration::from_millis(100));
            let settled = gate.reads() > 0 && gate.reads() == before;
            before = gate.reads();
            settled
        });
        assert!(before <= 32, "{before} reads of {COUNT} bytes were made for nobody");
        // Others are served meanwhile.
        let mut other = begun(&serving, "fast", 1);
        send(&mut other, 1, &READ);
        assert_eq!(next(&mut other), (1, "Rread"));
        let mut tags: Vec<_> = (0..REQUESTS).map(|_| next(&mut connection).0).collect();
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..REQUESTS));
    }
}

#[test]
fn only_so_many_requests_are_under_way() {
    let gate = Gated::default();
    let serving = Serving::on_unix_socket(server(gate.clone()));
    let mut connection = begun(&serving, "slow", 1);
    connection.write_all(&(0..200).flat_map(|tag| encode(tag, &READ, &[])).collect::<Vec<_>>()).unwrap();
    gate.until_waiting(64);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(gate.waiting(), 64);
    gate.release();
    for _ in 0..200 {
        assert_eq!(next(&mut connection).1, "Rread");
    }
}

#[test]
fn the_end_of_a_connection_closes_its_files() {
    let gate = Gated::default();
    let serving = Serving::on_tcp_socket(server(gate.clone()));
    let connection = begun(&serving, "fast", 10);
    assert_eq!(gate.open_files(), 10);
    drop(connection);
    until(|| gate.open_files() == 0);
    // With a request under way, when that ends.
    let mut connection = begun(&serving, "slow", 10);
    send(&mut connection, 1, &READ);
    gate.until_waiting(1);
    drop(connection);
    gate.release();
    until(|| gate.open_files() == 0);
}

#[test]
fn who_ends_sending_gets_the_replies() {
    let gate = Gated::default();
    let serving = Serving::on_tcp_socket(server(gate.clone()));
    let mut connection = begun(&serving, "slow", 1);
    for tag in 1..4 {
        send(&mut connection, tag, &READ);
    }
    connection.end();
    gate.until_waiting(3);
    gate.release();
    for _ in 1..4 {
        assert_eq!(next(&mut connection).1, "Rread");
    }
    assert!(is_closed(&mut connection));
    until(|| gate.open_files() == 0);
}

#[test]
fn connections_end_at_once() {
    // The last reply may be on its way from one thread while another one ends the connection.
    // Whoever waits for one that was sent does so for ever, and a test does not.
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Unix(directory.path().join("socket"));
    let limits = Limits { drain: Duration::from_secs(3600), ..Limits::default() };
    let serving =
        Serving::at(&address, server(Gated::default()), |listener| listener.with_limits(limits).expect("a backlog"));
    for _ in 0..300 {
        let mut connection = begun(&serving, "fast", 1);
        send(&mut connection, 1, &READ);
        connection.end();
        assert_eq!(next(&mut connection), (1, "Rread"));
        assert!(is_closed(&mut connection));
    }
}

#[test]
fn a_backend_that_panics_costs_one_request() {
    let gate = Gated::default();
    let serving = Serving::on_unix_socket(server(gate.clone()));
    let mut connection = begun(&serving, "panics", 1);
    connection.write_all(&encode(1, &READ, &[])).unwrap();
    let reply = receive(&mut connection).unwrap();
    let error = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
    assert_eq!((error.tag, error.message), (1, Rmessage::Rlerror { ecode: Errno::EIO.0 }));
    send(&mut connection, 1, &GETATTR);
    assert_eq!(next(&mut connection), (1, "Rgetattr"));
}

#[test]
fn shutdown_answers_what_is_under_way() {
    let gate = Gated::default();
    let mut serving = Serving::on_unix_socket(server(gate.clone()));
    let Address::Unix(path) = serving.address.clone() else { panic!("a Unix socket") };
    let mut connection = begun(&serving, "slow", 1);
    let mut idle = begun(&serving, "fast", 1);
    send(&mut connection, 1, &READ);
    gate.until_waiting(1);
    serving.stop();
    assert!(is_closed(&mut idle));
    until(|| !path.exists());
    gate.release();
    assert_eq!(next(&mut connection), (1, "Rread"));
    assert!(is_closed(&mut connection));
    serving.ended();
    assert_eq!(gate.open_files(), 0);
}

#[test]
fn connections_are_limited() {
    let address = "tcp://127.0.0.1:0".parse().unwrap();
    let serving = Serving::at(&address, server(MemBackend::default()), |listener| {
        listener.with_limits(Limits { connections: 2, ..Limits::default() }).unwrap()
    });
    let (one, _two) = (begun(&serving, "", 0), begun(&serving, "", 0));
    let mut third = serving.client();
    let waiting = thread::spawn(move || {
        third.begin();
        third
    });
    thread::sleep(Duration::from_millis(100));
    assert!(!waiting.is_finished());
    drop(one);
    waiting.join().unwrap();
}

#[test]
fn sockets_that_nobody_listens_on_are_replaced() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bind = |address: &Address| runtime.block_on(Listener::bind(address));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = Address::Unix(path.clone());

    // The standard library's listener leaves its file behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = bind(&address).unwrap();
    let error = bind(&address).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    drop(listener);
    assert!(!path.exists(), "it is removed");

    std::fs::write(&path, "precious").unwrap();
    let error = bind(&address).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");

    // One that was replaced by hand is not this listener's to remove.
    std::fs::remove_file(&path).unwrap();
    let listener = bind(&address).unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(other);
}

#[test]
fn addresses_tell_the_port_that_was_free() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(Listener::bind(&"tcp://localhost:0".parse().unwrap())).unwrap();
    let Address::Tcp(address) = listener.local_address() else { panic!("a TCP socket") };
    assert_ne!(address.parse::<std::net::SocketAddr>().unwrap().port(), 0);
    assert!(listener.local_address().to_string().starts_with("tcp://"));
}

#[test]
fn connections_work_side_by_side() {
    let serving = Serving::on_tcp_socket(server(MemBackend::default()));
    thread::scope(|scope| {
        for number in 0..8 {
            let serving = &serving;
            scope.spawn(move || {
                let mut client = Client::new(Socket(serving.connect()));
                client.begin();
                let name = format!("file{number}");
                let contents = vec![number; 200_000];
                client.make("", &name, &contents);
                assert_eq!(client.contents(&name).unwrap(), contents);
                let fid = client.open(&name, RDONLY).unwrap();
                assert_eq!(client.read(fid, 199_999, 10).unwrap(), [number]);
            });
        }
    });
}

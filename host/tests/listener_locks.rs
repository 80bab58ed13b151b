//! Byte-range locks that are waited for: a listener holds the reply to a `Tlock` until the lock is had, or given up.

mod common;

use std::{
    io::Read,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    ROOT, Waiting, encode, fresh, receive,
    serving::{Connection, Serving},
};
use ninering::{
    backend::{DirBackend, DirOptions, MemBackend},
    listener::{Limits, Resources},
    server::{Server, ServerOptions},
};
use ninering_wire::{
    Errno, Frame, LockStatus,
    LockStatus::{Blocked, Success},
    LockType,
    LockType::{Read as Shared, Unlock, Write as Exclusive},
    Rmessage, Tmessage,
    lock::FLAGS_BLOCK,
    lopen::RDWR,
};

/// How long the servers wait for what is under way when they end.
const DRAIN: Duration = Duration::from_secs(100);

/// A client that sends requests without waiting for replies.
struct Sender {
    connection: Box<dyn Connection>,
    file: u32,
}

impl Sender {
    /// One with `file` open.
    fn new(serving: &Serving) -> Self {
        let mut sender = Self { connection: serving.connect(), file: fresh() };
        for message in [
            Tmessage::Tversion { msize: 8192, version: "9P2000.L".into() },
            Tmessage::Tattach {
                fid: ROOT,
                afid: !0,
                uname: "".into(),
                aname: "".into(),
                n_uname: rustix::process::geteuid().as_raw(),
            },
            Tmessage::Twalk { fid: ROOT, newfid: sender.file, names: (&ninering_wire::Str(b"file")).into() },
            Tmessage::Tlopen { fid: sender.file, flags: RDWR },
        ] {
            let tag = if matches!(message, Tmessage::Tversion { .. }) { !0 } else { 0 };
            sender.send(tag, &message);
            assert_eq!(sender.reply(), (tag, Reply::Other));
        }
        sender
    }

    fn send(&mut self, tag: u16, message: &Tmessage<'_>) {
        self.connection.write_all(&encode(tag, message, &[])).unwrap();
    }

    fn lock(&mut self, tag: u16, kind: LockType, flags: u32) {
        let fid = self.file;
        let lock = Tmessage::Tlock { fid, kind, flags, start: 0, length: 0, proc_id: 1, client_id: "c".into() };
        self.send(tag, &lock);
    }

    fn reply(&mut self) -> (u16, Reply) {
        let reply = receive(&mut self.connection).expect("a reply");
        let frame = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
        let kind = match frame.message {
            Rmessage::Rlock { status } => Reply::Lock(status),
            Rmessage::Rflush {} => Reply::Flush,
            Rmessage::Rlerror { ecode } => Reply::Error(Errno(ecode)),
            _ => Reply::Other,
        };
        (frame.tag, kind)
    }
}

#[derive(Debug, PartialEq)]
enum Reply {
    Lock(LockStatus),
    Flush,
    Error(Errno),
    Other,
}

/// Servers on sockets: of memory, of memory that it takes threads to reach, and of a directory.
fn servers() -> Vec<(Serving, Box<dyn std::any::Any>)> {
    let serve = |backend| {
        let resources = Resources::new(Limits { drain: DRAIN, ..Limits::default() });
        let server = Server::new(backend, ServerOptions::default());
        Serving::on_unix_socket_of(server, |listener| listener.sharing(&resources).expect("a socket"))
    };
    let guard = tempfile::tempdir().expect("a temporary directory");
    let dir = DirBackend::new(guard.path(), DirOptions::default()).expect("a directory");
    let all: Vec<(Serving, Box<dyn std::any::Any>)> = vec![
        (serve(Arc::new(MemBackend::default())), Box::new(())),
        (serve(Arc::new(Waiting(MemBackend::default()))), Box::new(())),
        (serve(Arc::new(dir)), Box::new(guard)),
    ];
    for (serving, _) in &all {
        let mut client = serving.client();
        client.begin();
        client.make("", "file", b"contents");
    }
    all
}

#[test]
fn a_lock_is_waited_for() {
    for (serving, _guard) in servers() {
        let (mut one, mut other) = (Sender::new(&serving), Sender::new(&serving));
        one.lock(1, Exclusive, 0);
        assert_eq!(one.reply(), (1, Reply::Lock(Success)));
        other.lock(1, Exclusive, 0);
        assert_eq!(other.reply(), (1, Reply::Lock(Blocked)), "who does not want to wait does not");
        other.lock(2, Exclusive, FLAGS_BLOCK);
        // Its other requests go on.
        other.send(3, &Tmessage::Tgetattr { fid: other.file, request_mask: 1 });
        assert_eq!(other.reply(), (3, Reply::Other));
        one.lock(2, Unlock, 0);
        assert_eq!(one.reply(), (2, Reply::Lock(Success)));
        assert_eq!(other.reply(), (2, Reply::Lock(Success)));
        one.lock(3, Shared, 0);
        assert_eq!(one.reply(), (3, Reply::Lock(Blocked)));
    }
}

#[test]
fn a_lost_connection_gives_its_locks_to_who_waits() {
    for (serving, _guard) in servers() {
        let (mut one, mut other) = (Sender::new(&serving), Sender::new(&serving));
        one.lock(1, Exclusive, 0);
        assert_eq!(one.reply(), (1, Reply::Lock(Success)));
        other.lock(1, Exclusive, FLAGS_BLOCK);
        drop(one);
        assert_eq!(other.reply(), (1, Reply::Lock(Success)));
        // And who is gone takes none any more.
        let mut third = Sender::new(&serving);
        third.lock(1, Exclusive, FLAGS_BLOCK);
        drop(third);
        let mut last = Sender::new(&serving);
        last.lock(1, Exclusive, FLAGS_BLOCK);
        other.lock(2, Unlock, 0);
        assert_eq!(other.reply(), (2, Reply::Lock(Success)));
        assert_eq!(last.reply(), (1, Reply::Lock(Success)));
    }
}

#[test]
fn a_flush_cancels_a_lock_that_waits() {
    for (serving, _guard) in servers() {
        let (mut one, mut other) = (Sender::new(&serving), Sender::new(&serving));
        one.lock(1, Exclusive, 0);
        assert_eq!(one.reply(), (1, Reply::Lock(Success)));
        other.lock(1, Exclusive, FLAGS_BLOCK);
        other.send(2, &Tmessage::Tflush { oldtag: 1 });
        // In place of the reply; perhaps with a flush of the flush behind it.
        assert_eq!(other.reply(), (2, Reply::Flush));
        other.send(3, &Tmessage::Tflush { oldtag: 2 });
        assert_eq!(other.reply(), (3, Reply::Flush));
        one.lock(2, Unlock, 0);
        assert_eq!(one.reply(), (2, Reply::Lock(Success)));
        one.lock(3, Exclusive, 0);
        assert_eq!(one.reply(), (3, Reply::Lock(Success)), "what was cancelled has taken nothing");
        // The tag is free again.
        other.lock(1, Shared, 0);
        assert_eq!(other.reply(), (1, Reply::Lock(Blocked)));
    }
}

#[test]
fn the_clunk_of_its_fid_ends_a_lock_that_waits() {
    for (serving, _guard) in servers() {
        let (mut one, mut other) = (Sender::new(&serving), Sender::new(&serving));
        one.lock(1, Exclusive, 0);
        assert_eq!(one.reply(), (1, Reply::Lock(Success)));
        other.lock(1, Exclusive, FLAGS_BLOCK);
        other.send(2, &Tmessage::Tclunk { fid: other.file });
        let mut replies = [other.reply(), other.reply()];
        replies.sort_by_key(|(tag, _)| *tag);
        assert_eq!(replies, [(1, Reply::Error(Errno::EBADF)), (2, Reply::Other)]);
    }
}

#[test]
fn a_version_ends_locks_that_wait() {
    for (serving, _guard) in servers() {
        let (mut one, mut other) = (Sender::new(&serving), Sender::new(&serving));
        one.lock(1, Exclusive, 0);
        assert_eq!(one.reply(), (1, Reply::Lock(Success)));
        other.lock(1, Exclusive, FLAGS_BLOCK);
        other.send(!0, &Tmessage::Tversion { msize: 8192, version: "9P2000.L".into() });
        assert_eq!(other.reply(), (1, Reply::Error(Errno::EINTR)));
        assert_eq!(other.reply(), (!0, Reply::Other));
    }
}

#[test]
fn a_server_that_stops_does_not_wait_for_locks() {
    for (mut serving, _guard) in servers() {
        let (mut one, mut other) = (Sender::new(&serving), Sender::new(&serving));
        one.lock(1, Exclusive, 0);
        assert_eq!(one.reply(), (1, Reply::Lock(Success)));
        other.lock(1, Exclusive, FLAGS_BLOCK);
        other.send(2, &Tmessage::Tgetattr { fid: other.file, request_mask: 1 });
        assert_eq!(other.reply(), (2, Reply::Other));
        let begin = Instant::now();
        serving.ended();
        assert!(begin.elapsed() < DRAIN, "not until it gives up on them");
        // Or the other connection was closed before it.
        let reply = other.reply();
        assert!(reply == (1, Reply::Error(Errno::EINTR)) || reply == (1, Reply::Lock(Success)), "{reply:?}");
        assert_eq!(other.connection.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn many_locks_wait_and_nothing_else_does() {
    for (serving, _guard) in servers() {
        let (mut one, mut other) = (Sender::new(&serving), Sender::new(&serving));
        one.lock(1, Exclusive, 0);
        assert_eq!(one.reply(), (1, Reply::Lock(Success)));
        for tag in 0..300 {
            other.lock(tag, Shared, FLAGS_BLOCK);
        }
        other.send(1000, &Tmessage::Tgetattr { fid: other.file, request_mask: 1 });
        // Those for which it is too many are told so.
        let mut told = Vec::new();
        loop {
            match other.reply() {
                (1000, reply) => break assert_eq!(reply, Reply::Other),
                (tag, reply) => {
                    assert_eq!(reply, Reply::Lock(Blocked));
                    told.push(tag);
                }
            }
        }
        while told.len() < 44 {
            let (tag, reply) = other.reply();
            assert_eq!(reply, Reply::Lock(Blocked));
            told.push(tag);
        }
        one.lock(2, Unlock, 0);
        for _ in 0..256 {
            let (tag, reply) = other.reply();
            assert_eq!(reply, Reply::Lock(Success));
            told.push(tag);
        }
        told.sort_unstable();
        assert_eq!(told, (0..300).collect::<Vec<_>>());
    }
}

//! The protocol itself, whatever the backend: what a session does with wrong, hostile and unusual messages.

mod common;

use std::{sync::Arc, thread};

use common::{Client, Direct, ROOT, encode, fresh, gated::Gated};
use ninering::{
    backend::MemBackend,
    payload::Payload,
    server::{Server, ServerOptions, Session},
};
use ninering_wire::{
    Errno, Far, Frame, Lock, LockType, NOFID, NONUNAME, NOTAG, Names, Rmessage, SetAttributes, Str, TWRITE_LEN,
    Tmessage,
    lopen::{EXCL, RDONLY, RDWR, TRUNC, WRONLY},
    setattr,
};

fn server() -> Arc<Server> {
    server_with(ServerOptions::default())
}

fn server_with(options: ServerOptions) -> Arc<Server> {
    Server::new(Arc::new(MemBackend::default()), options)
}

/// A client that has said nothing yet.
fn stranger(server: &Arc<Server>) -> Client {
    Client::new(Direct { session: Arc::new(server.session()), space: None })
}

/// The reply's tag, and its error.
fn error_of(reply: &[u8]) -> (u16, Errno) {
    let frame = Frame::<Rmessage<'_>>::decode(reply).unwrap();
    match frame.message {
        Rmessage::Rlerror { ecode } => (frame.tag, Errno(ecode)),
        other => panic!("{other:?}"),
    }
}

/// One of each request but `Tversion`, all about the same fid.
fn one_of_each(fid: u32) -> Vec<Tmessage<'static>> {
    let name = Str(b"name");
    let lock = Lock { kind: LockType::Read, start: 0, length: 0, proc_id: 1, client_id: Str(b"client") };
    vec![
        Tmessage::Tstatfs { fid },
        Tmessage::Tlopen { fid, flags: RDONLY },
        Tmessage::Tlcreate { fid, name, flags: RDWR, mode: 0o644, gid: 0 },
        Tmessage::Tsymlink { fid, name, target: name, gid: 0 },
        Tmessage::Tmknod { fid, name, mode: 0o644, major: 0, minor: 0, gid: 0 },
        Tmessage::Trename { fid, dfid: fid, name },
        Tmessage::Treadlink { fid },
        Tmessage::Tgetattr { fid, request_mask: !0 },
        Tmessage::Tsetattr { fid, attributes: Far::from(Box::leak(Box::default()) as &SetAttributes) }, // a test is short
        Tmessage::Treaddir { fid, offset: 0, count: 1000 },
        Tmessage::Tfsync { fid, datasync: 0 },
        Tmessage::Tlock { fid, kind: LockType::Write, flags: 0, start: 0, length: 0, proc_id: 1, client_id: Str(b"") },
        Tmessage::Tgetlock { fid, lock },
        Tmessage::Txattrwalk { fid, newfid: 70_000, name: Str(b"user.a") },
        Tmessage::Txattrcreate { fid, name: Str(b"user.a"), size: 10, flags: 0 },
        Tmessage::Tlink { dfid: fid, fid, name },
        Tmessage::Tmkdir { dfid: fid, name, mode: 0o755, gid: 0 },
        Tmessage::Trenameat { olddirfid: fid, oldname: name, newdirfid: fid, newname: name },
        Tmessage::Tunlinkat { dirfid: fid, name, flags: 0 },
        Tmessage::Twalk { fid, newfid: fid, names: Names::default() },
        Tmessage::Tread { fid, offset: 0, count: 10 },
        Tmessage::Twrite { fid, offset: 0, count: 0 },
        Tmessage::Tclunk { fid },
        Tmessage::Tremove { fid },
    ]
}

/// Those that are refused, whatever they are about.
fn unsupported(fid: u32) -> Vec<Tmessage<'static>> {
    vec![Tmessage::Tauth { afid: fid, uname: Str(b""), aname: Str(b""), n_uname: 0 }]
}

#[test]
fn version_agrees_on_the_lesser_msize() {
    let server = server_with(ServerOptions { max_msize: 100_000, ..ServerOptions::default() });
    let mut client = stranger(&server);
    for (asked, agreed) in [(4096, 4096), (8192, 8192), (99_999, 99_999), (100_001, 100_000), (u32::MAX, 100_000)] {
        assert_eq!(client.version(asked).unwrap(), (agreed, b"9P2000.L".to_vec()));
    }
    for asked in [0, 1, 4095] {
        assert_eq!(client.version(asked).unwrap_err(), Errno::EINVAL);
        assert_eq!(client.attach(ROOT, "").unwrap_err(), Errno::EPROTO, "nothing is agreed on");
    }
    let options = server_with(ServerOptions { max_msize: u32::MAX, ..ServerOptions::default() });
    assert_eq!(stranger(&options).version(u32::MAX).unwrap().0, 16 << 20);
    let options = server_with(ServerOptions { max_msize: 1, ..ServerOptions::default() });
    assert_eq!(stranger(&options).version(u32::MAX).unwrap().0, 4096);
}

#[test]
fn unknown_versions_are_answered_by_unknown() {
    let mut client = stranger(&server());
    for version in ["9P", "9P1999.L", "9p2000.l", "", "unknown"] {
        let reply = client.call(&Tmessage::Tversion { msize: 8192, version: version.into() }, &[]).unwrap();
        let frame = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
        assert_eq!(frame.message, Rmessage::Rversion { msize: 8192, version: "unknown".into() });
        assert_eq!(frame.tag, NOTAG);
        assert_eq!(client.attach(ROOT, "").unwrap_err(), Errno::EPROTO, "nothing is agreed on");
    }
}

#[test]
fn nothing_is_answered_before_a_version() {
    let mut client = stranger(&server());
    for message in one_of_each(0).iter().chain(&unsupported(0)).chain(&[Tmessage::Tflush { oldtag: 0 }]) {
        assert_eq!(client.call(message, &[]).unwrap_err(), Errno::EPROTO, "{message:?}");
    }
    assert_eq!(client.attach(ROOT, "").unwrap_err(), Errno::EPROTO);
}

#[test]
fn version_forgets_all_fids() {
    let session = Arc::new(server().session());
    let mut client = Client::of_session(Arc::clone(&session));
    client.make("", "a", b"contents");
    let fid = client.open("a", RDONLY).unwrap();
    let far = 4_000_000_000;
    client.walk(ROOT, far, &["a"]).unwrap();
    assert_eq!(session.fid_count(), 3);
    client.version(8192).unwrap();
    assert_eq!(session.fid_count(), 0);
    for fid in [ROOT, fid, far] {
        assert_eq!(client.getattr(fid).unwrap_err(), Errno::EBADF);
    }
    // One that fails does, too.
    client.begin();
    client.version(1).unwrap_err();
    assert_eq!(session.fid_count(), 0);
    client.begin();
    assert_eq!(client.contents("a").unwrap(), b"contents");
}

#[test]
fn unknown_fids_are_refused() {
    let mut client = Client::attached(server());
    for fid in [1, 65_535, 65_536, 4_000_000_000, NOFID] {
        for message in one_of_each(fid) {
            assert_eq!(client.call(&message, &[]).unwrap_err(), Errno::EBADF, "{message:?}");
        }
        assert_eq!(client.done(&Tmessage::Tlink { dfid: ROOT, fid, name: "x".into() }).unwrap_err(), Errno::EBADF);
    }
}

#[test]
fn fids_are_used_once() {
    let session = Arc::new(server().session());
    let mut client = Client::of_session(Arc::clone(&session));
    for fid in [1, 65_535, 65_536, 4_000_000_000, NOFID - 1] {
        client.walk(ROOT, fid, &[]).unwrap();
        assert_eq!(client.walk(ROOT, fid, &[]).unwrap_err(), Errno::EINVAL);
        assert_eq!(client.attach(fid, "").unwrap_err(), Errno::EINVAL);
        client.clunk(fid).unwrap();
        assert_eq!(client.clunk(fid).unwrap_err(), Errno::EBADF);
        client.walk(ROOT, fid, &[]).unwrap();
    }
    assert_eq!(session.fid_count(), 6);
    assert!(client.walk(ROOT, NOFID, &[]).is_err());
    assert!(client.attach(NOFID, "").is_err());
    assert_eq!(session.fid_count(), 6);
}

#[test]
fn fids_are_limited() {
    let server = server_with(ServerOptions { max_fids: 10, ..ServerOptions::default() });
    let mut client = Client::attached(server);
    for fid in 1..10 {
        client.walk(ROOT, fid * 10_000, &[]).unwrap();
    }
    assert_eq!(client.walk(ROOT, 100_000, &[]).unwrap_err(), Errno::EMFILE);
    assert_eq!(client.attach(1, "").unwrap_err(), Errno::EMFILE);
    // In place it still works, and after a clunk.
    client.walk(10_000, 10_000, &[]).unwrap();
    client.clunk(20_000).unwrap();
    client.walk(ROOT, 1, &[]).unwrap();
    assert_eq!(client.walk(ROOT, 2, &[]).unwrap_err(), Errno::EMFILE);
}

#[test]
fn what_is_not_offered_is_said_so() {
    let mut client = Client::attached(server());
    for message in unsupported(ROOT) {
        assert_eq!(client.call(&message, &[]).unwrap_err(), Errno::EOPNOTSUPP, "{message:?}");
    }
    let attach = Tmessage::Tattach { fid: 1, afid: 7, uname: Str(b""), aname: Str(b""), n_uname: NONUNAME };
    assert_eq!(client.done(&attach).unwrap_err(), Errno::EBADF, "there are no afids");
    client.done(&Tmessage::Tflush { oldtag: 0 }).unwrap();
    client.done(&Tmessage::Tflush { oldtag: 12_345 }).unwrap();
}

#[test]
fn messages_that_are_none_are_refused_with_their_tag() {
    let mut client = Client::attached(server());
    let mut exchange = |bytes: &[u8]| error_of(&client.transport.exchange(bytes.to_vec()));
    // Whole, but of no request's type: replies, Tlerror, the other dialects' messages.
    for kind in (0..=255_u8).filter(|&kind| Tmessage::name_of(kind).is_none()) {
        assert_eq!(exchange(&[7, 0, 0, 0, kind, 0x34, 0x12]), (0x1234, Errno::EOPNOTSUPP), "{kind}");
    }
    for message in one_of_each(ROOT).iter().chain(&unsupported(ROOT)) {
        let whole = encode(0x1234, message, &[]);
        let mut longer = whole.clone();
        longer.push(0);
        longer[0] += 1;
        assert_eq!(exchange(&longer).0, 0x1234, "{message:?}");
        assert_eq!(exchange(&longer).1, Errno::EPROTO, "{message:?} and a byte");
        for length in 7..whole.len() {
            let mut shorter = whole[..length].to_vec();
            shorter[..4].copy_from_slice(&(length as u32).to_le_bytes());
            let (tag, error) = exchange(&shorter);
            assert_eq!((tag, error), (0x1234, Errno::EPROTO), "{length} bytes of {message:?}");
        }
        for size in [0, 1, 6, whole.len() as u32 - 1, whole.len() as u32 + 1, u32::MAX, 1 << 31] {
            let mut wrong = whole.clone();
            wrong[..4].copy_from_slice(&size.to_le_bytes());
            assert_eq!(exchange(&wrong), (0x1234, Errno::EPROTO), "{message:?} of size {size}");
        }
    }
    for length in 0..7 {
        assert_eq!(exchange(&[7, 0, 0, 0, 120, 1, 1][..length]), (NOTAG, Errno::EPROTO));
    }
    assert_eq!(client.names(""), Vec::<String>::new());
}

#[test]
fn counts_of_names_are_checked() {
    let mut client = Client::attached(server());
    let mut walk = |count: u16, names: usize| {
        let mut bytes = vec![0; 4];
        bytes.extend([110, 1, 0]);
        bytes.extend([0, 0, 0, 0, 1, 0, 0, 0]);
        bytes.extend(count.to_le_bytes());
        bytes.extend([1, 0, b'a'].repeat(names));
        let size = (bytes.len() as u32).to_le_bytes();
        bytes[..4].copy_from_slice(&size);
        error_of(&client.transport.exchange(bytes)).1
    };
    assert_eq!(walk(17, 17), Errno::EINVAL);
    assert_eq!(walk(u16::MAX, 1), Errno::EINVAL);
    assert_eq!(walk(16, 15), Errno::EPROTO);
    assert_eq!(walk(0, 1), Errno::EPROTO);
    assert_eq!(walk(16, 16), Errno::ENOENT);
}

#[test]
fn the_tag_of_versions_is_only_theirs() {
    let mut client = Client::attached(server());
    let reply = client.transport.exchange(encode(NOTAG, &Tmessage::Tclunk { fid: ROOT }, &[]));
    assert_eq!(error_of(&reply), (NOTAG, Errno::EINVAL));
    assert!(client.getattr(ROOT).is_ok());
}

#[test]
fn writes_carry_what_they_say() {
    let session = Arc::new(server().session());
    let mut client = Client::of_session(Arc::clone(&session));
    let fid = client.create("", "a", RDWR, 0o644).unwrap();
    let handle = |count: u32, size: usize, payload: usize| {
        let mut message = encode(1, &Tmessage::Twrite { fid, offset: 0, count: 0 }, &[]);
        message[TWRITE_LEN - 4..].copy_from_slice(&count.to_le_bytes());
        message[..4].copy_from_slice(&(size as u32).to_le_bytes());
        let (mut payload, mut reply) = (vec![1; payload], vec![0; 100]);
        let length = session.handle(&message, &Payload::from(&mut payload[..]), &Payload::from(&mut reply[..]));
        reply.truncate(length);
        error_of(&reply).1
    };
    assert_eq!(handle(10, TWRITE_LEN + 10, 9), Errno::EPROTO);
    assert_eq!(handle(10, TWRITE_LEN + 9, 9), Errno::EPROTO);
    assert_eq!(handle(10, TWRITE_LEN + 11, 11), Errno::EPROTO);
    assert_eq!(handle(u32::MAX, TWRITE_LEN + 10, 10), Errno::EPROTO);
    assert_eq!(handle(u32::MAX - 22, 0, 10), Errno::EPROTO);
    assert_eq!(client.getattr(fid).unwrap().size, 0);
    // Nor does any other message carry anything.
    let message = encode(1, &Tmessage::Tclunk { fid }, &[]);
    let (mut payload, mut reply) = ([1; 5], [0; 100]);
    let length = session.handle(&message, &Payload::from(&mut payload[..]), &Payload::from(&mut reply[..]));
    assert_eq!(error_of(&reply[..length]).1, Errno::EPROTO);
    assert!(client.getattr(fid).is_ok());
}

#[test]
fn payloads_may_lie_in_pieces() {
    let session = Arc::new(server().session());
    let mut client = Client::of_session(Arc::clone(&session));
    let fid = client.create("", "a", RDWR, 0o644).unwrap();
    let contents: Vec<u8> = (0..200_000_u32).map(|at| (at % 253) as u8).collect();
    let pieces = |bytes: &mut [u8], lengths: &[usize], act: &mut dyn FnMut(&Payload<'_>)| {
        let (mut rest, mut payload) = (bytes, Payload::empty());
        for &length in lengths {
            let (piece, behind) = rest.split_at_mut(length.min(rest.len()));
            payload.push(piece.into());
            rest = behind;
        }
        payload.push(rest.into());
        act(&payload);
    };
    let lengths = [1, 10, 3, 65_530, 7, 70_000, 1, 1];
    let message = encode(1, &Tmessage::Twrite { fid, offset: 5, count: 200_000 }, &contents);
    let mut reply = [0; 100];
    pieces(&mut contents.clone(), &lengths, &mut |payload| {
        let length = session.handle(&message[..TWRITE_LEN], payload, &Payload::from(&mut reply[..]));
        assert_eq!(length, 11);
    });
    let message = encode(1, &Tmessage::Tread { fid, offset: 5, count: 200_000 }, &[]);
    let mut reply = vec![0; session.reply_capacity(&message)];
    pieces(&mut reply, &lengths, &mut |reply| {
        assert_eq!(session.handle(&message, &Payload::empty(), reply), 200_011);
    });
    assert_eq!(Frame::<Rmessage<'_>>::decode(&reply).unwrap().payload, contents);
}

#[test]
fn counts_are_bounded_by_msize() {
    let mut client = stranger(&server());
    assert_eq!(client.version(8192).unwrap().0, 8192);
    client.attach(ROOT, "").unwrap();
    client.walk(ROOT, 1, &[]).unwrap();
    client.lcreate(1, b"a", RDWR, 0o644).unwrap();
    for offset in 0..5 {
        client.write(1, offset * 5000, &[7; 5000]).unwrap();
    }
    for count in [8181, 8182, 20_000, u32::MAX] {
        assert_eq!(client.read(1, 0, count).unwrap().len(), 8181);
    }
    for number in 0..300 {
        client.mkdir("", &format!("{number}{}", "x".repeat(50))).unwrap();
    }
    client.walk(ROOT, 2, &[]).unwrap();
    client.lopen(2, RDONLY).unwrap();
    let reply = client.call(&Tmessage::Treaddir { fid: 2, offset: 0, count: u32::MAX }, &[]).unwrap();
    assert!(reply.len() <= 8192 && reply.len() > 8000);
}

#[test]
fn replies_without_space_change_nothing() {
    let session = Arc::new(server().session());
    let mut client = Client::of_session(Arc::clone(&session));
    client.make("", "file", b"contents");
    let (file, directory) = (client.open("file", RDWR).unwrap(), client.open("", RDONLY).unwrap());
    let handle = |message: &Tmessage<'_>, payload: &[u8], space: usize| {
        let message = encode(1, message, &[]);
        let (mut payload, mut reply) = (payload.to_vec(), vec![0; space]);
        let length = session.handle(&message, &Payload::from(&mut payload[..]), &Payload::from(&mut reply[..]));
        reply.truncate(length);
        reply
    };
    let (fid, name) = (ROOT, Str(b"new"));
    for message in [
        Tmessage::Tmkdir { dfid: fid, name, mode: 0o755, gid: 0 },
        Tmessage::Tsymlink { fid, name, target: name, gid: 0 },
        Tmessage::Tmknod { fid, name, mode: 0o644, major: 0, minor: 0, gid: 0 },
        Tmessage::Tlcreate { fid, name, flags: RDWR, mode: 0o644, gid: 0 },
        Tmessage::Tgetattr { fid, request_mask: !0 },
        Tmessage::Tstatfs { fid },
        Tmessage::Twalk { fid, newfid: 5, names: (&Str(b"file")).into() },
        Tmessage::Tread { fid: file, offset: 0, count: 20 },
        Tmessage::Treaddir { fid: directory, offset: 0, count: 200 },
    ] {
        let needed = session.reply_capacity(&encode(1, &message, &[]));
        for space in 0..needed {
            let reply = handle(&message, &[], space);
            if space < 11 {
                assert_eq!(reply, Vec::<u8>::new(), "{message:?} with {space} bytes");
            } else {
                assert_eq!(error_of(&reply).1, Errno::ENOBUFS, "{message:?} with {space} bytes of {needed}");
            }
        }
    }
    for message in [Tmessage::Tunlinkat { dirfid: fid, name: Str(b"file"), flags: 0 }, Tmessage::Tclunk { fid }] {
        assert_eq!(handle(&message, &[], 10), Vec::<u8>::new());
    }
    assert_eq!(handle(&Tmessage::Twrite { fid: file, offset: 0, count: 3 }, b"new", 10), Vec::<u8>::new());
    assert_eq!(client.names(""), ["file"]);
    assert_eq!(client.contents("file").unwrap(), b"contents");
    assert!(client.walk(ROOT, 5, &[]).is_ok(), "the walk made no fid");
    assert_eq!(handle(&Tmessage::Tversion { msize: 8192, version: "9P2000.L".into() }, &[], 20).len(), 11);
}

#[test]
fn replies_fit_what_was_said_to_be_enough() {
    // That no reply is longer than this is checked by the client in each test of all behaviours; here, that the
    // longest of each kind needs all of it.
    let session = Arc::new(server().session());
    let mut client = Client::of_session(Arc::clone(&session));
    client.make("", "file", &[1; 5000]);
    client.symlink(ROOT, b"link", &[b'x'; 4095]).unwrap();
    let (file, link) = (client.open("file", RDWR).unwrap(), client.at("link").unwrap());
    let fid = ROOT;
    let name = Str(b"new");
    for (slack, message) in [
        (0, Tmessage::Tgetattr { fid, request_mask: !0 }),
        (0, Tmessage::Tstatfs { fid }),
        (0, Tmessage::Tmkdir { dfid: fid, name, mode: 0o755, gid: 0 }),
        (0, Tmessage::Tread { fid: file, offset: 0, count: 5000 }),
        (1, Tmessage::Treadlink { fid: link }),
        (0, Tmessage::Twalk { fid, newfid: 5, names: Names::new(&[Str(b".."); 16]).unwrap() }),
        (0, Tmessage::Tlopen { fid: 5, flags: RDONLY }),
        (0, Tmessage::Txattrwalk { fid, newfid: 6, name: Str(b"") }),
        (0, Tmessage::Twrite { fid: file, offset: 0, count: 0 }),
        (0, Tmessage::Tversion { msize: 8192, version: "9P2000.L".into() }),
    ] {
        let bytes = encode(1, &message, &[]);
        let capacity = session.reply_capacity(&bytes);
        let reply = client.call(&message, &[]).unwrap();
        assert_eq!(reply.len() + slack, capacity, "{message:?}");
    }
}

#[test]
fn read_only_servers_change_nothing() {
    let backend = Arc::new(MemBackend::default());
    let writable = Server::new(backend.clone(), ServerOptions::default());
    let mut writer = Client::attached(writable);
    writer.make("", "file", b"contents");
    writer.mkdir("", "d").unwrap();
    let before = writer.getattr(ROOT).unwrap();

    let server = Server::new(backend, ServerOptions { read_only: true, ..ServerOptions::default() });
    let mut client = Client::attached(server);
    let (fid, name) = (ROOT, Str(b"new"));
    let (file, removed) = (client.at("file").unwrap(), client.at("file").unwrap());
    let size = SetAttributes { valid: setattr::SIZE, ..SetAttributes::default() };
    for message in [
        Tmessage::Tlcreate { fid, name, flags: RDONLY, mode: 0o644, gid: 0 },
        Tmessage::Tsymlink { fid, name, target: name, gid: 0 },
        Tmessage::Tmknod { fid, name, mode: 0o644, major: 0, minor: 0, gid: 0 },
        Tmessage::Trename { fid: file, dfid: fid, name },
        Tmessage::Tsetattr { fid: file, attributes: (&size).into() },
        Tmessage::Tlink { dfid: fid, fid: file, name },
        Tmessage::Tmkdir { dfid: fid, name, mode: 0o755, gid: 0 },
        Tmessage::Trenameat { olddirfid: fid, oldname: Str(b"file"), newdirfid: fid, newname: name },
        Tmessage::Tunlinkat { dirfid: fid, name: Str(b"file"), flags: 0 },
        Tmessage::Tunlinkat { dirfid: fid, name: Str(b"d"), flags: 0x200 },
        Tmessage::Txattrcreate { fid: file, name: Str(b"user.a"), size: 1, flags: 0 },
        Tmessage::Tlopen { fid: file, flags: WRONLY },
        Tmessage::Tlopen { fid: file, flags: RDWR },
        Tmessage::Tlopen { fid: file, flags: RDONLY | TRUNC },
        Tmessage::Tremove { fid: removed },
    ] {
        assert_eq!(client.done(&message).unwrap_err(), Errno::EROFS, "{message:?}");
    }
    assert_eq!(client.clunk(removed).unwrap_err(), Errno::EBADF, "Tremove forgets its fid in any case");
    client.lopen(file, RDONLY | EXCL).unwrap();
    assert_eq!(client.write(file, 0, b"x").unwrap_err(), Errno::EROFS);
    assert_eq!(client.read(file, 0, 100).unwrap(), b"contents");
    assert_eq!(client.names(""), ["d", "file"]);
    assert_eq!(client.getattr(ROOT).unwrap(), before);
}

#[test]
fn sessions_count() {
    let session = Arc::new(server().session());
    let mut client = Client::of_session(Arc::clone(&session));
    client.make("", "a", &[1; 1000]);
    let fid = client.open("a", RDONLY).unwrap();
    let before = session.counters();
    assert_eq!((before.bytes_read, before.bytes_written), (0, 1000));
    client.read(fid, 0, 600).unwrap();
    client.read(fid, 600, 600).unwrap();
    client.clunk(fresh()).unwrap_err();
    let after = session.counters();
    assert_eq!((after.bytes_read, after.bytes_written), (1000, 1000));
    assert_eq!(after.requests - before.requests, 3);
}

#[test]
fn sessions_do_not_share_fids() {
    let server = server();
    let (mut one, mut other) = (Client::attached(Arc::clone(&server)), Client::attached(server));
    one.make("", "a", b"");
    one.walk(ROOT, 7, &["a"]).unwrap();
    assert_eq!(other.getattr(7).unwrap_err(), Errno::EBADF);
    assert_eq!(other.names(""), ["a"], "but the files");
}

/// A session of a backend that waits, with `name` open as fid 1.
fn gated(name: &str) -> (Gated, Arc<Session>, Client) {
    let gate = Gated::default();
    let session = Arc::new(Server::new(Arc::new(gate.clone()), ServerOptions::default()).session());
    let mut client = Client::of_session(Arc::clone(&session));
    client.walk(ROOT, 1, &[name]).unwrap();
    if name != "slow to open" {
        client.lopen(1, RDWR).unwrap();
    }
    (gate, session, client)
}

/// Another thread's use of a session that has begun already.
fn beside(session: &Arc<Session>) -> Client {
    Client::new(Direct { session: Arc::clone(session), space: None })
}

#[test]
fn clunking_leaves_reads_under_way_their_file() {
    let (gate, session, mut client) = gated("slow");
    let mut reader = beside(&session);
    let reading = thread::spawn(move || reader.read(1, 0, 10));
    gate.until_waiting(1);
    client.clunk(1).unwrap();
    assert_eq!(client.read(1, 0, 10).unwrap_err(), Errno::EBADF);
    assert_eq!(gate.open_files(), 1);
    gate.release();
    assert_eq!(reading.join().unwrap().unwrap(), [b'x'; 10]);
    assert_eq!(gate.open_files(), 0, "the last reader closes it");
}

#[test]
fn a_fid_is_opened_once() {
    let (gate, session, mut client) = gated("slow to open");
    let mut opener = beside(&session);
    let opening = thread::spawn(move || opener.lopen(1, RDONLY));
    gate.until_waiting(1);
    assert_eq!(client.lopen(1, RDWR).unwrap_err(), Errno::EBUSY);
    assert_eq!(client.lcreate(1, b"x", RDWR, 0o644).unwrap_err(), Errno::EBUSY);
    gate.release();
    opening.join().unwrap().unwrap();
    assert_eq!(client.lopen(1, RDWR).unwrap_err(), Errno::EINVAL);
    assert_eq!(gate.open_files(), 1);
}

#[test]
fn version_waits_for_requests_under_way() {
    let (gate, session, _client) = gated("slow");
    let (mut reader, mut beginner) = (beside(&session), beside(&session));
    let reading = thread::spawn(move || reader.read(1, 0, 10));
    gate.until_waiting(1);
    let beginning = thread::spawn(move || beginner.version(8192));
    thread::sleep(std::time::Duration::from_millis(50));
    assert!(!beginning.is_finished());
    gate.release();
    assert_eq!(reading.join().unwrap().unwrap(), [b'x'; 10]);
    beginning.join().unwrap().unwrap();
    assert_eq!((session.fid_count(), gate.open_files()), (0, 0));
}

#[test]
fn dropping_a_session_closes_its_files() {
    let (gate, session, client) = gated("fast");
    assert_eq!(gate.open_files(), 1);
    drop((session, client));
    assert_eq!(gate.open_files(), 0);
}

#[test]
fn backends_are_not_trusted() {
    let (_gate, _session, mut client) = gated("lies");
    assert_eq!(client.read(1, 0, 10).unwrap().len(), 10);
    assert_eq!(client.write(1, 0, b"x").unwrap(), 1);
    assert_eq!(client.readlink(1).unwrap_err(), Errno::ENAMETOOLONG);
    // Names that cannot be walked to are passed over; an error is told when there is nothing else to tell.
    client.walk(ROOT, 2, &[]).unwrap();
    client.lopen(2, RDONLY).unwrap();
    let listed = client.readdir(2, 0, 4000).unwrap();
    assert_eq!(listed.iter().map(|entry| entry.name.len()).collect::<Vec<_>>(), [3, 255, 4]);
    assert_eq!(client.readdir(2, 4, 4000).unwrap_err(), Errno::EIO);
    assert_eq!(client.readdir(2, 1, 24 + 254).unwrap_err(), Errno::EINVAL);
}

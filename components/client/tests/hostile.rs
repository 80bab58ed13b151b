//! What becomes of a mount whose server, or whose device, does what none should: an error that says what it was,
//! and nothing else.

mod support;

use ninering_client::{
    Error, Outcome,
    client::{Reply, Request},
    ring::Used,
    vfs::Value,
};
use ninering_wire::{Attributes, DirEntry, Errno, Qid, QidType, Qids, Rmessage, Str};
use support::{Fixture, MemoryRing, READ, Server, WRITE, encode, errno, run};

const TWALK: u8 = 110;
const TREAD: u8 = 116;
const TWRITE: u8 = 118;
const TGETATTR: u8 = 24;
const TREADDIR: u8 = 40;
const TVERSION: u8 = 100;
const TATTACH: u8 = 104;
const TREADLINK: u8 = 22;
const TCLUNK: u8 = 120;

fn sample() -> Fixture {
    Fixture::new(Server::new().file("file", "contents").file("d/inner", "x"))
}

fn tag_of(request: &[u8]) -> u16 {
    u16::from_le_bytes([request[5], request[6]])
}

/// Lets the server answer to requests of one type with what `reply` makes of the honest reply.
fn lie_to(fixture: &Fixture, kind: u8, mut reply: impl FnMut(u16, Vec<u8>) -> Vec<u8> + 'static) {
    fixture.ring.lie(move |request, honest| if request[4] == kind { reply(tag_of(request), honest) } else { honest });
}

fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Broken(reason)) => reason.to_string(),
        other => panic!("the session is not broken: {other:?}"),
    }
}

/// The reason with which the session breaks when a file is looked up, opened, read and written.
fn broken_by(kind: u8, reply: impl FnMut(u16, Vec<u8>) -> Vec<u8> + 'static) -> String {
    let fixture = sample();
    let node = fixture.open("file", ninering_client::vfs::OpenFlags { read: true, ..WRITE }).unwrap();
    lie_to(&fixture, kind, reply);
    let results = [
        fixture.stat("d/inner", true).err(),
        fixture.read(node, 0, 100).err(),
        fixture.write(node, 0, b"text").err(),
        fixture.list("d").err(),
    ];
    let reason = reason::<()>(Err(results.into_iter().flatten().next().expect("something fails")));
    // Everything that follows fails for the same reason.
    assert_eq!(fixture.stat("file", true), Err(Error::Broken(reason.as_str().into())));
    assert_eq!(fixture.read(node, 0, 1), Err(Error::Broken(reason.as_str().into())));
    reason
}

#[test]
fn a_wrong_type_breaks_the_session() {
    let reply = |tag, _| encode(tag, &Rmessage::Rread { count: 0 }, &[]);
    assert_eq!(broken_by(TWALK, reply), "the server answered Rread to Twalk");
    let reply = |tag, _| encode(tag, &Rmessage::Rclunk {}, &[]);
    assert_eq!(broken_by(TREAD, reply), "the server answered Rclunk to Tread");
}

#[test]
fn a_request_for_a_reply_breaks_the_session() {
    let reason = broken_by(TGETATTR, |_, mut honest| {
        honest[4] = TGETATTR;
        honest
    });
    assert_eq!(reason, "the server answered Tgetattr to Tgetattr");
    let reason = broken_by(TGETATTR, |_, mut honest| {
        honest[4] = 250;
        honest
    });
    assert_eq!(reason, "the server answered an unknown message, 250, to Tgetattr");
}

#[test]
fn a_wrong_tag_breaks_the_session() {
    let reply = |tag: u16, _| encode(tag + 1, &Rmessage::Rread { count: 0 }, &[]);
    assert!(broken_by(TREAD, reply).contains("answered to Tread with tag"));
}

#[test]
fn a_size_that_is_not_the_length_breaks_the_session() {
    for change in [-200_i64, -1, 1, 5, 1_000_000] {
        for kind in [TWALK, TREAD, TGETATTR, TWRITE, TREADDIR] {
            let reason = broken_by(kind, move |_, mut honest| {
                let size = i64::from(u32::from_le_bytes(honest[..4].try_into().unwrap()));
                let size = u32::try_from((size + change).max(0)).unwrap();
                honest[..4].copy_from_slice(&size.to_le_bytes());
                honest
            });
            assert!(reason.contains("answer to"), "{change} {kind}: {reason}");
        }
    }
}

#[test]
fn replies_cut_short_break_the_session() {
    for kind in [TWALK, TREAD, TGETATTR, TWRITE, TREADDIR] {
        for length in 0..20 {
            let fits = move |honest: &[u8]| honest.len() <= length;
            let reason = broken_by(kind, move |_, mut honest| {
                if fits(&honest) {
                    // Long enough as it is: send no answer at all, which is too short as well.
                    return Vec::new();
                }
                honest.truncate(length);
                let size = (honest.len() as u32).to_le_bytes();
                let known = honest.len().min(4);
                honest[..known].copy_from_slice(&size[..known]);
                honest
            });
            assert!(!reason.is_empty(), "{kind} {length}");
        }
    }
}

#[test]
fn replies_with_something_behind_them_break_the_session() {
    for kind in [TWALK, TREAD, TGETATTR, TWRITE, TREADDIR] {
        let reason = broken_by(kind, |_, mut honest| {
            honest.extend([1, 2, 3]);
            let size = honest.len() as u32;
            honest[..4].copy_from_slice(&size.to_le_bytes());
            honest
        });
        assert!(reason.contains("longer or shorter") || reason.contains("has"), "{kind}: {reason}");
    }
}

#[test]
fn a_read_of_more_than_was_asked_breaks_the_session() {
    // The device cannot place what exceeds the buffers, and says so by its count.
    for count in [101, 1 << 20, u32::MAX] {
        let reason = broken_by(TREAD, move |tag, _| {
            let mut reply = encode(tag, &Rmessage::Rread { count: 0 }, &[]);
            reply[7..11].copy_from_slice(&count.to_le_bytes());
            reply.extend([7; 100]);
            let size = reply.len() as u32;
            reply[..4].copy_from_slice(&size.to_le_bytes());
            reply
        });
        assert!(reason.contains("Tread"), "{reason}");
    }
    assert_eq!(
        broken_by(TWRITE, |tag, _| encode(tag, &Rmessage::Rwrite { count: u32::MAX }, &[])),
        "the server answered 4294967295 to Twrite, which asked for 4"
    );
}

#[test]
fn more_qids_than_names_break_the_session() {
    let reason = broken_by(TWALK, |tag, _| {
        let qids = [Qid::default(); 3];
        let qids = Qids::new(&qids).unwrap();
        encode(tag, &Rmessage::Rwalk { qids }, &[])
    });
    assert!(reason.contains("Twalk"), "{reason}");
}

#[test]
fn errors_that_linux_has_not_are_eio() {
    for (ecode, expected) in [(0, 5), (4096, 5), (u32::MAX, 5), (4095, 4095), (2, 2)] {
        let fixture = sample();
        lie_to(&fixture, TGETATTR, move |tag, _| encode(tag, &Rmessage::Rlerror { ecode }, &[]));
        assert_eq!(fixture.stat("file", true), Err(Error::Errno(Errno(expected))));
        fixture.assert_no_leak(0);
    }
}

#[test]
fn an_error_with_payload_behind_it_breaks_the_session() {
    let reason = broken_by(TREAD, |tag, _| {
        let mut reply = encode(tag, &Rmessage::Rlerror { ecode: 5 }, &[]);
        reply.extend([0; 9]);
        reply[0] = 20;
        reply
    });
    assert_eq!(reason, "the server's answer to Tread is longer or shorter than it should be");
}

/// An `Rerror` as 9P2000.u has it: with a text before the number.
fn long_error(tag: u16, text: usize, errno: u32) -> Vec<u8> {
    let mut reply = vec![0, 0, 0, 0, 107];
    reply.extend(tag.to_le_bytes());
    reply.extend((text as u16).to_le_bytes());
    reply.resize(reply.len() + text, b'x');
    reply.extend(errno.to_le_bytes());
    let size = reply.len() as u32;
    reply[..4].copy_from_slice(&size.to_le_bytes());
    reply
}

/// `handle_rerror()` of Linux's `trans_virtio.c`: the reply's header has room for a number only.
#[test]
fn an_error_that_landed_among_the_payloads_descriptors_is_read_from_there() {
    for text in [0, 1, 30, 89, 4000] {
        for (errno, expected) in [(28, 28), (0, 5)] {
            let fixture = sample();
            let node = fixture.open("file", READ).unwrap();
            let error = Some(Error::Errno(Errno(expected)));
            lie_to(&fixture, TREAD, move |tag, _| long_error(tag, text, errno));
            assert_eq!(fixture.read(node, 0, 8000).err(), error, "{text} bytes of text");
            lie_to(&fixture, TREADDIR, move |tag, _| long_error(tag, text, errno));
            // The session is whole, and what was to be read still is.
            assert_eq!(fixture.read(node, 0, 100).unwrap(), b"contents");
            fixture.assert_no_leak(1);
            assert_eq!(fixture.list("d").err(), error, "{text} bytes of text");
        }
    }
}

#[test]
fn an_error_with_a_text_is_known_where_there_is_room_for_it() {
    let fixture = sample();
    lie_to(&fixture, TGETATTR, |tag, _| long_error(tag, 30, 28));
    assert_eq!(fixture.stat("file", true), Err(Error::Errno(Errno(28))));
    fixture.assert_no_leak(0);
}

#[test]
fn an_error_among_the_descriptors_of_one_of_several_reads_is_that_ones() {
    let content = vec![7; 20_000];
    let fixture = Fixture::new(Server::new().file("big", &content));
    let node = fixture.open("big", READ).unwrap();
    fixture.ring.fit_at_most(5_000);
    fixture.ring.hold();
    let (iter, _) = fixture.ring.buffer(20_000);
    fixture.ring.lie(|request, honest| {
        if request[4] == TREAD && request[11..19] == 10_000_u64.to_le_bytes() {
            long_error(tag_of(request), 300, 28)
        } else {
            honest
        }
    });
    let outcome = fixture.mount.run(async move |vfs| vfs.read(node, 0, iter, 20_000).await);
    while fixture.ring.in_flight() > 0 {
        fixture.ring.serve(fixture.ring.in_flight() - 1);
    }
    assert_eq!(fixture.finish(outcome), Ok(Value::Count(10_000)), "what is before it counts");
}

#[test]
fn an_error_that_is_longer_than_any_is_an_error_all_the_same() {
    let content = vec![7; 20_000];
    let fixture = Fixture::new(Server::new().file("big", &content));
    let node = fixture.open("big", READ).unwrap();
    lie_to(&fixture, TREAD, |tag, _| long_error(tag, 6000, 28));
    assert_eq!(fixture.read(node, 0, 7000), Err(Error::Errno(Errno::EIO)));
    // One that says more than its text.
    lie_to(&fixture, TREAD, |tag, _| {
        let mut reply = long_error(tag, 20, 28);
        reply.push(0);
        reply[0] += 1;
        reply
    });
    let reason = reason(fixture.read(node, 0, 7000));
    assert_eq!(reason, "the server's answer to Tread is longer or shorter than it should be");
}

fn start_reason(reply: impl Fn(u16) -> Vec<u8> + 'static) -> String {
    let fixture = Fixture::not_started(MemoryRing::new(Server::new(), 64));
    lie_to(&fixture, TVERSION, move |tag, _| reply(tag));
    let outcome = fixture.mount.start(support::options());
    reason(fixture.finish(outcome))
}

#[test]
fn what_cannot_be_agreed_on_breaks_the_session() {
    let version = |msize, version: &'static str| {
        start_reason(move |tag| encode(tag, &Rmessage::Rversion { msize, version: version.into() }, &[]))
    };
    assert_eq!(version(65536, "unknown"), "the server speaks \"unknown\", not 9P2000.L");
    assert_eq!(version(65536, "9P2000"), "the server speaks \"9P2000\", not 9P2000.L");
    assert_eq!(version(65536, "9P2000.L "), "the server speaks \"9P2000.L \", not 9P2000.L");
    assert_eq!(version(65537, "9P2000.L"), "the server answered an msize of 65537 to 65536");
    assert_eq!(version(u32::MAX, "9P2000.L"), "the server answered an msize of 4294967295 to 65536");
    assert_eq!(version(0, "9P2000.L"), "the server's msize of 0 is below 4096");
    assert_eq!(version(4095, "9P2000.L"), "the server's msize of 4095 is below 4096");
    assert!(
        start_reason(|_| encode(0, &Rmessage::Rversion { msize: 8192, version: "9P2000.L".into() }, &[]))
            .contains("tag")
    );
}

#[test]
fn an_attach_that_is_refused_gives_its_fid_back_once() {
    let fixture = Fixture::not_started(MemoryRing::new(Server::new(), 64));
    lie_to(&fixture, TATTACH, |tag, _| encode(tag, &Rmessage::Rlerror { ecode: 13 }, &[]));
    let outcome = fixture.mount.start(support::options());
    assert_eq!(fixture.finish(outcome), errno(Errno::EACCES));
    fixture.mount.reap();
    assert_eq!((fixture.mount.session().fids_in_use(), fixture.mount.session().tags_in_use()), (0, 0));
    let asked = fixture.ring.take_log();
    assert!(asked.iter().all(|name| *name != "Tclunk"), "there is nothing to clunk: {asked:?}");
}

/// Answers directory reads with one entry of this name.
fn list_with(entries: &'static [&'static [u8]]) -> Result<Vec<String>, Error> {
    let fixture = sample();
    let mut sent = false;
    lie_to(&fixture, TREADDIR, move |tag, _| {
        let mut payload = Vec::new();
        for (index, name) in entries.iter().enumerate().filter(|_| !sent) {
            let entry = DirEntry { qid: Qid::default(), offset: index as u64 + 1, kind: 8, name: Str(name) };
            let mut bytes = vec![0; entry.encoded_len()];
            entry.encode(&mut bytes).unwrap();
            payload.extend(bytes);
        }
        sent = true;
        encode(tag, &Rmessage::Rreaddir { count: payload.len() as u32 }, &payload)
    });
    fixture.list("d")
}

#[test]
fn names_that_no_file_can_have_break_the_session() {
    let long: &'static [u8] = Box::leak(vec![b'n'; 256].into_boxed_slice());
    for name in [&b""[..], b"a/b", b"/", b"../x", b"nul\0", long] {
        let names: &'static [&'static [u8]] = Box::leak(vec![&b"good"[..], name].into_boxed_slice());
        let reason = reason(list_with(names));
        assert_eq!(reason, "the server answered to Treaddir an entry with a name that no file can have");
    }
    assert_eq!(list_with(&[b".", b"good", b"..", b"..."]).unwrap(), ["good", "..."]);
}

#[test]
fn an_entry_that_crosses_the_count_breaks_the_session() {
    for cut in 1..30 {
        let fixture = sample();
        lie_to(&fixture, TREADDIR, move |tag, _| {
            let entry = DirEntry { qid: Qid::default(), offset: 1, kind: 8, name: Str(b"entry") };
            let mut payload = vec![0; 2 * entry.encoded_len()];
            let length = entry.encode(&mut payload).unwrap();
            entry.encode(&mut payload[length..]).unwrap();
            payload.truncate(2 * length - cut.min(length - 1));
            encode(tag, &Rmessage::Rreaddir { count: payload.len() as u32 }, &payload)
        });
        assert_eq!(reason(fixture.list("d")), "the server answered to Treaddir an entry that is not whole");
    }
}

#[test]
fn a_directory_of_dots_without_end_ends() {
    let fixture = sample();
    lie_to(&fixture, TREADDIR, move |tag, _| {
        let entry = DirEntry { qid: Qid::default(), offset: 1, kind: 4, name: Str(b".") };
        let mut payload = vec![0; entry.encoded_len()];
        entry.encode(&mut payload).unwrap();
        encode(tag, &Rmessage::Rreaddir { count: payload.len() as u32 }, &payload)
    });
    let node = fixture.open("d", READ).unwrap();
    assert_eq!(run!(fixture, read_directory(node, 0)), errno(Errno::EIO));
}

#[test]
fn a_walk_that_calls_everything_a_link_ends() {
    let fixture = sample();
    fixture.ring.lie(|request, honest| match request[4] {
        TWALK => {
            let names = usize::from(u16::from_le_bytes([request[15], request[16]]));
            let qid = Qid { kind: QidType::SYMLINK, version: 0, path: 5 };
            let qids: Vec<_> = (0..names).map(|_| qid).collect();
            let qids = Qids::new(&qids).unwrap();
            encode(tag_of(request), &Rmessage::Rwalk { qids }, &[])
        }
        TREADLINK => encode(tag_of(request), &Rmessage::Rreadlink { target: Str(&b"a/".repeat(2000)) }, &[]),
        _ => honest,
    });
    assert_eq!(fixture.stat("x/y/z", true), Err(Errno::ELOOP.into()));
}

#[test]
fn link_targets_that_are_no_paths_are_errors() {
    for (target, expected) in [
        (&b""[..], Errno::ENOENT),
        (b"a\0b", Errno::EINVAL),
        (&[b'n'; 300], Errno::ENAMETOOLONG),
        (b"/", Errno::ENOENT),
        (b"../..", Errno::EPERM),
    ] {
        let fixture = Fixture::new(Server::new().link("l", "x"));
        let target = target.to_vec();
        let is_root = target == b"/";
        lie_to(&fixture, TREADLINK, move |tag, _| encode(tag, &Rmessage::Rreadlink { target: Str(&target) }, &[]));
        match fixture.stat("l", true) {
            Ok(attributes) => assert!(is_root && attributes.qid.kind.is_dir()),
            error => assert_eq!(error, Err(expected.into())),
        }
        fixture.assert_no_leak(0);
    }
}

#[test]
fn a_server_that_swaps_directories_for_links_leads_nowhere() {
    // `d/x/../inner`: `d` is walked again after the `..`, and has become a link by then.
    let fixture = Fixture::new(Server::new().directory("d/x").file("d/inner", "x"));
    let mut walks = 0;
    fixture.ring.lie(move |request, honest| {
        walks += u32::from(request[4] == TWALK);
        if request[4] != TWALK || walks == 1 {
            return honest;
        }
        let link = Qid { kind: QidType::SYMLINK, version: 0, path: 5 };
        encode(tag_of(request), &Rmessage::Rwalk { qids: (&link).into() }, &[])
    });
    assert_eq!(fixture.stat("d/x/../inner", true), Err(Errno::ENOTDIR.into()));
    // What it calls a link from the beginning is read as one, and here that is the honest part's error.
    assert_eq!(fixture.stat("d/x/..", true), Err(Errno::EINVAL.into()));
}

#[test]
fn attributes_are_taken_as_they_come() {
    let fixture = sample();
    lie_to(&fixture, TGETATTR, |tag, _| {
        let attributes = Attributes { valid: 0, mode: u32::MAX, atime_nsec: u64::MAX, ..Attributes::default() };
        encode(tag, &Rmessage::Rgetattr { attributes: (&attributes).into() }, &[])
    });
    assert_eq!(fixture.stat("file", true).unwrap().mode, u32::MAX);
}

#[test]
fn chains_that_were_not_in_flight_break_the_session() {
    let fixture = sample();
    fixture.ring.return_chain(Used { id: 12345, written: 0, header: Vec::new().into() });
    assert_eq!(fixture.mount.reap(), []);
    assert_eq!(reason(fixture.stat("file", true)), "the device returned a chain that it did not have");
}

#[test]
fn a_device_that_is_late_though_it_never_is_breaks_the_session() {
    let fixture = Fixture::immediate(MemoryRing::new(Server::new().file("file", "contents"), 64));
    let node = fixture.open("file", READ).unwrap();
    fixture.ring.hold();
    assert_eq!(reason(fixture.stat("file", true)), "the device has not completed what it was given");
    assert_eq!(fixture.mount.running(), 0);
    fixture.mount.close(node);
    while fixture.ring.serve_any() {}
    assert_eq!(reason(fixture.stat("file", true)), "the device has not completed what it was given");
    assert_eq!(fixture.ring.leases(), 0);
}

#[test]
fn a_reply_that_comes_twice_breaks_the_session() {
    let fixture = sample();
    fixture.ring.hold();
    let Outcome::Pending(_) = fixture.mount.run(async |vfs| vfs.stat(0).await) else { panic!("complete") };
    fixture.ring.serve(0);
    let mut again = Vec::new();
    ninering_client::Ring::used(&fixture.ring, |used| again.push(used)).unwrap();
    fixture.ring.return_chain(again[0].clone());
    fixture.ring.return_chain(again.remove(0));
    let completions = fixture.mount.reap();
    assert_eq!(completions.len(), 1);
    assert!(matches!(&completions[0].1, Err(Error::Broken(_))));
}

#[test]
fn what_never_comes_is_pending_until_the_mount_is_given_up() {
    let fixture = sample();
    let node = fixture.open("file", READ).unwrap();
    fixture.ring.hold();
    let (iter, _) = fixture.ring.buffer(300_000);
    let tokens = [
        fixture.mount.run(async |vfs| vfs.stat_at(0, "d/inner".into(), true).await),
        fixture.mount.run(async move |vfs| vfs.read(node, 0, iter, 300_000).await),
        fixture.mount.run(async |vfs| vfs.read_directory(0, 0).await),
    ]
    .map(|outcome| match outcome {
        Outcome::Pending(token) => token,
        Outcome::Complete(result) => panic!("complete: {result:?}"),
    });
    let Outcome::Pending(call) = fixture.mount.call(Request::Getattr { fid: 0x8000_0000 }) else { panic!("complete") };
    assert_eq!(fixture.mount.reap(), []);
    assert_eq!(fixture.mount.running(), 4);

    let completions = fixture.mount.abort("the connection was reset");
    let broken = Error::Broken("the connection was reset".into());
    assert_eq!(completions, tokens.map(|token| (token, Err(broken.clone()))));
    assert_eq!(fixture.mount.reap_calls(), [(call, Err(broken.clone()))]);
    assert_eq!(fixture.mount.running(), 0);
    assert_eq!(fixture.stat("file", true), Err(broken.clone()));
    // The first reason stays, and replies that come late are nobody's.
    assert_eq!(fixture.mount.abort("again"), []);
    while fixture.ring.serve_any() {}
    assert_eq!(fixture.mount.reap(), []);
    assert_eq!(fixture.stat("file", true), Err(broken));
    assert_eq!(fixture.ring.leases(), 0);
    fixture.mount.close(node);
}

#[test]
fn a_broken_session_ends_what_waits_for_room() {
    let fixture = Fixture::with_ring(MemoryRing::new(Server::new().file("file", "x"), 4));
    fixture.ring.hold();
    for _ in 0..10 {
        let outcome = fixture.mount.run(async |vfs| vfs.stat(0).await);
        assert!(matches!(outcome, Outcome::Pending(_)));
    }
    assert_eq!(fixture.mount.running(), 10);
    assert_eq!(fixture.mount.abort("enough").len(), 10);
    assert_eq!(fixture.mount.running(), 0);
}

#[test]
fn errors_to_clunks_are_nobodys_and_free_the_fid() {
    let fixture = sample();
    lie_to(&fixture, TCLUNK, |tag, _| encode(tag, &Rmessage::Rlerror { ecode: 9 }, &[]));
    for _ in 0..50 {
        fixture.stat("file", true).unwrap();
    }
    fixture.mount.reap();
    assert_eq!(fixture.mount.session().fids_in_use(), 1);
    assert_eq!(fixture.mount.session().tags_in_use(), 0);
}

#[test]
fn calls_use_their_own_fids_only() {
    let fixture = sample();
    for fid in [0, 1, 0x7fff_ffff, u32::MAX] {
        let outcome = fixture.mount.call(Request::Clunk { fid });
        assert_eq!(outcome, Outcome::Complete(Err(Errno::EBADF.into())), "{fid}");
    }
    let fid = 0x8000_0000;
    let attach = Request::Attach { fid, afid: None, uname: "u".into(), aname: "/".into(), n_uname: 0 };
    assert!(matches!(fixture.mount.call(attach), Outcome::Complete(Ok(Reply::Qid(_)))));
    let names = vec![b"file".to_vec()];
    let walk = Request::Walk { fid, newfid: fid + 1, names };
    assert!(matches!(fixture.mount.call(walk), Outcome::Complete(Ok(Reply::Qids(qids))) if qids.len() == 1));
    let open = fixture.mount.call(Request::Lopen { fid: fid + 1, flags: 0 });
    assert!(matches!(open, Outcome::Complete(Ok(Reply::Opened(_, 0)))));
    let (iter, extent) = fixture.ring.buffer(8);
    let read = ninering_client::client::Tio { fid: fid + 1, offset: 0, iter, bytes: 8 };
    assert_eq!(fixture.mount.call(Request::Read(read)), Outcome::Complete(Ok(Reply::Count(8))));
    assert_eq!(&*fixture.ring.bytes(extent), b"contents");
    for fid in [fid, fid + 1] {
        assert_eq!(fixture.mount.call(Request::Clunk { fid }), Outcome::Complete(Ok(Reply::Done)));
    }
    fixture.assert_no_leak(0);
    assert!(matches!(run!(fixture, stat(0)), Ok(Value::Attributes(_))));
}

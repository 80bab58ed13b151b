//! Which dialect a session has, and what it knows of the others.

use std::sync::Arc;

use ninering::{
    backend::{DirBackend, DirOptions},
    payload::Payload,
    server::{Dialect as Spoken, Server, ServerOptions},
};
use ninering_wire::{
    Errno, Frame, NOTAG, Rmessage, Tmessage,
    legacy::{self, Plan9, Stat, Unix, UnixOnly, open, perm},
    lopen,
};

use crate::{
    Servers,
    common::{
        Client, Direct, ROOT, encode,
        legacy::{LegacyClient, Refused},
    },
};

/// What a server answers to a version.
fn answer(server: &Arc<Server>, version: &str) -> String {
    let mut client = LegacyClient::<Plan9>::new(Direct { session: Arc::new(server.session()), space: None });
    let (msize, version) = client.version(8192, version.as_bytes());
    assert_eq!(msize, 8192);
    String::from_utf8(version).unwrap()
}

#[test]
fn the_dialect_is_the_client_s_or_an_older_one() {
    let servers = Servers::new();
    for (asked, answered) in [
        ("9P2000.L", "9P2000.L"),
        ("9P2000.u", "9P2000.u"),
        ("9P2000", "9P2000"),
        ("9P2000.xyz", "9P2000"),
        ("9P2000.L.Google.7", "9P2000.L"),
        ("9P2001", "9P2000"),
        ("9Q2000", "unknown"),
        ("NFSv4", "unknown"),
    ] {
        assert_eq!(answer(&servers.mem, asked), answered);
    }
    let options = ServerOptions { dialects: [Spoken::Linux, Spoken::Unix].into_iter().collect(), ..Default::default() };
    let servers = Servers::with(options);
    for (asked, answered) in [("9P2000.L", "9P2000.L"), ("9P2000.u", "9P2000.u"), ("9P2000", "unknown")] {
        assert_eq!(answer(&servers.mem, asked), answered);
    }
}

#[test]
fn a_session_changes_its_dialect() {
    let servers = Servers::new();
    let session = Arc::new(servers.mem.session());
    let mut linux = Client::of_session(Arc::clone(&session));
    linux.make("", "a", b"contents");
    let mut plan9 = LegacyClient::<Plan9>::of_session(Arc::clone(&session));
    assert_eq!(plan9.contents("a").unwrap(), b"contents");
    // Now it knows nothing of the other's messages, and answers in the dialect that there is.
    let getattr = encode(3, &Tmessage::Tgetattr { fid: ROOT, request_mask: !0 }, &[]);
    let reply = plan9.transport.exchange(getattr.clone());
    let frame = Frame::<legacy::Rmessage<'_, Plan9>>::decode(&reply).unwrap();
    let ename = Errno::EOPNOTSUPP.description().into();
    assert_eq!((frame.tag, frame.message), (3, legacy::Rmessage::Rerror { ename, errno: UnixOnly::default() }));
    let mut unix = LegacyClient::<Unix>::of_session(Arc::clone(&session));
    assert_eq!(unix.contents("a").unwrap(), b"contents");
    linux.begin();
    assert_eq!(linux.contents("a").unwrap(), b"contents");
    assert!(Frame::<Rmessage<'_>>::decode(&linux.transport.exchange(getattr)).is_ok());
    // And 9P2000.L knows nothing of theirs.
    let stat = [&11_u32.to_le_bytes()[..], &[124, 5, 0], &ROOT.to_le_bytes()].concat();
    let reply = linux.transport.exchange(stat);
    let frame = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
    assert_eq!(frame.message, Rmessage::Rlerror { ecode: Errno::EOPNOTSUPP.0 });
}

#[test]
fn nothing_is_answered_without_a_version() {
    let servers = Servers::new();
    let session = Arc::new(servers.mem.session());
    let mut client = LegacyClient::<Plan9>::new(Direct { session: Arc::clone(&session), space: None });
    // One that is refused, for its msize, tells why in the dialect that was asked for.
    let version = encode(NOTAG, &Tmessage::Tversion { msize: 100, version: "9P2000".into() }, &[]);
    let reply = client.transport.exchange(version);
    let frame = Frame::<legacy::Rmessage<'_, Plan9>>::decode(&reply).unwrap();
    let ename = Errno::EINVAL.description().into();
    assert_eq!(frame.message, legacy::Rmessage::Rerror { ename, errno: UnixOnly::default() });
    assert_eq!(client.attach(ROOT, ""), Err(Refused::of::<Plan9>(Errno::EPROTO)));
    client.begin();
    client.stat(ROOT).unwrap();
}

#[test]
fn read_only_is_read_only() {
    let servers = Servers::new();
    LegacyClient::<Unix>::attached(&servers.dir).make("", "a", b"contents");
    let backend = DirBackend::new(servers.directory.path(), DirOptions::default()).unwrap();
    let options = ServerOptions { read_only: true, ..ServerOptions::default() };
    let mut client = LegacyClient::<Unix>::attached(&Server::new(Arc::new(backend), options));
    let refused = Refused::of::<Unix>(Errno::EROFS);
    assert_eq!(client.contents("a").unwrap(), b"contents");
    for mode in [open::WRITE, open::RDWR, open::READ | open::TRUNC, open::READ | open::RCLOSE] {
        assert_eq!(client.opened("a", mode), Err(refused.clone()));
    }
    assert_eq!(client.create("", "b", 0o644, open::READ, ""), Err(refused.clone()));
    assert_eq!(client.wstat_at("a", Stat { mode: 0o600, ..Stat::unchanged() }), Err(refused.clone()));
    client.wstat_at("a", Stat::unchanged()).unwrap();
    let fid = client.at("a").unwrap();
    assert_eq!(client.remove(fid), Err(refused));
    assert_eq!(client.names(""), ["a"]);
}

#[test]
fn what_a_lost_client_wanted_removed_is_removed() {
    let servers = Servers::new();
    let session = Arc::new(servers.dir.session());
    let mut client = LegacyClient::<Plan9>::of_session(Arc::clone(&session));
    client.create("", "a", 0o644, open::RDWR | open::RCLOSE, "").unwrap();
    assert!(servers.directory.path().join("a").exists());
    drop((client, session));
    assert!(!servers.directory.path().join("a").exists());
}

#[test]
fn links_and_fifos_are_files_to_plan_9_that_it_cannot_open() {
    let servers = Servers::new();
    for server in [&servers.mem, &servers.dir] {
        let mut unix = LegacyClient::<Unix>::attached(server);
        unix.create("", "link", perm::SYMLINK | 0o777, open::READ, "/etc/passwd").unwrap();
        unix.create("", "fifo", perm::NAMEDPIPE | 0o666, open::READ, "").unwrap();
        let mut plan9 = LegacyClient::<Plan9>::attached(server);
        assert_eq!(plan9.names(""), ["fifo", "link"]);
        assert_eq!((plan9.stat_at("link").unwrap().mode, plan9.stat_at("fifo").unwrap().mode), (0o777, 0o666));
        assert!(plan9.opened("link", open::READ).is_err());
        assert!(plan9.opened("fifo", open::READ).is_err());
        assert!(plan9.at("link/x").is_err());
    }
}

#[test]
fn new_files_of_plan_9_have_what_their_directory_has() {
    let servers = Servers::new();
    for server in [&servers.mem, &servers.dir] {
        let mut client = LegacyClient::<Plan9>::attached(server);
        let fid = client.create("", "d", perm::DIR | 0o777, open::READ, "").unwrap();
        client.wstat(fid, Stat { mode: perm::DIR | 0o751, ..Stat::unchanged() }).unwrap();
        let fid = client.create("d", "a", 0o666, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, 0o640);
        // Whether it can be run is not inherited by files.
        let fid = client.create("d", "b", 0o777, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, 0o751);
        let fid = client.create("d", "c", perm::DIR | 0o777, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, perm::DIR | 0o751);
    }
}

#[test]
fn stats_are_no_longer_than_a_message() {
    let servers = Servers::new();
    let mut client = LegacyClient::<Unix>::attached(&servers.mem);
    client.create("", &"n".repeat(255), perm::SYMLINK | 0o777, open::READ, &"x".repeat(4095)).unwrap();
    client.make("", "short", b"");
    assert_eq!(client.version(4096, b"9P2000.u"), (4096, b"9P2000.u".to_vec()));
    client.attach(ROOT, "").unwrap();
    let fid = client.at(&"n".repeat(255)).unwrap();
    assert_eq!(client.stat(fid), Err(Refused::of::<Unix>(Errno::ENOBUFS)));
    client.stat_at("short").unwrap();
}

#[test]
fn errors_are_cut_off_where_there_is_little_space() {
    let servers = Servers::new();
    let session = servers.mem.session();
    let mut client = LegacyClient::<Unix>::new(Direct { session: Arc::new(servers.mem.session()), space: None });
    client.begin();
    for (space, text) in [(100, "No such file or directory"), (13 + 7, "No such"), (13, ""), (12, "-"), (0, "-")] {
        let mut reply = vec![0; space];
        let version = encode(NOTAG, &Tmessage::Tversion { msize: 8192, version: "9P2000.u".into() }, &[]);
        session.handle(&version, &Payload::empty(), &Payload::from(&mut [0; 30][..]));
        let length = session.answer_error(5, Errno::ENOENT, &Payload::from(&mut reply[..]));
        match Frame::<legacy::Rmessage<'_, Unix>>::decode(&reply[..length]) {
            Ok(Frame { message: legacy::Rmessage::Rerror { ename, errno }, tag: 5, .. }) => {
                assert_eq!((ename, errno.get()), (text.into(), Some(2)));
            }
            other => assert!(length == 0 && text == "-", "{other:?} in {space}"),
        }
    }
}

#[test]
fn linux_s_rights_to_a_file_do_not_change_by_the_dialect() {
    let servers = Servers::new();
    let mut linux = Client::attached(Arc::clone(&servers.dir));
    let mut plan9 = LegacyClient::<Plan9>::attached(&servers.dir);
    let fid = linux.create("", "a", lopen::RDWR, 0o4755).unwrap();
    // 9P2000 cannot see the set-user-ID bit, and does not lose it.
    plan9.wstat_at("a", Stat { mode: 0o700, ..Stat::unchanged() }).unwrap();
    assert_eq!(linux.getattr(fid).unwrap().mode, 0o104700);
}

//! Fids used wrongly, all at once, and in masses, through a socket.

mod common;
mod hostile_support;

use std::{fs, io::Write, thread};

use common::{
    ROOT, encode,
    gated::{Gated, until},
    receive,
};
use hostile_support::{Attacked, ask, attach, error_of, walk};
use ninering::{backend::MemBackend, listener::Limits, server::ServerOptions};
use ninering_wire::{
    Errno, NOFID, NOTAG, SetAttributes, Str, Tmessage, VERSION_9P2000L, getattr,
    lopen::{RDONLY, RDWR, TRUNC},
    setattr,
};

const GETATTR: Tmessage<'static> = Tmessage::Tgetattr { fid: ROOT, request_mask: getattr::ALL };

fn create(fid: u32, name: &[u8]) -> Tmessage<'_> {
    Tmessage::Tlcreate { fid, name: Str(name), flags: RDWR, mode: 0o644, gid: common::gid() }
}

#[test]
fn newfid_may_be_fid_and_stays_what_it_was_if_the_walk_fails() {
    Attacked::each(|attacked| {
        let mut setup = attacked.client();
        setup.mkdir("", "d").unwrap();
        setup.make("d", "f", b"contents");
        let mut client = attacked.client();
        client.walk(ROOT, 1, &[]).unwrap();
        // Not the first name, or not all.
        assert_eq!(client.walk(1, 1, &["missing"]).unwrap_err(), Errno::ENOENT);
        assert_eq!(client.walk(1, 1, &["d", "missing"]).unwrap().len(), 1);
        assert_eq!(client.walk(1, 1, &["d", "f", "beyond"]).unwrap().len(), 2);
        assert_eq!(client.getattr(1).unwrap().qid.path, client.getattr(ROOT).unwrap().qid.path);
        assert_eq!(client.walk(1, 1, &["d", "f"]).unwrap().len(), 2);
        assert_eq!(client.getattr(1).unwrap().size, 8);
        // What is open stays where it is.
        client.lopen(1, RDONLY).unwrap();
        assert_eq!(client.walk(1, 1, &[]).unwrap_err(), Errno::EINVAL);
        assert_eq!(client.read(1, 0, 100).unwrap(), b"contents");
    });
}

#[test]
fn a_newfid_in_use_is_refused_and_stays_what_it_is() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.make("", "a", b"contents");
        let fid = client.open("a", RDONLY).unwrap();
        for (from, names) in [(ROOT, &[][..]), (ROOT, &["a"]), (ROOT, &["missing"]), (fid, &[])] {
            client.walk(from, fid, names).unwrap_err();
        }
        client.attach(fid, "").unwrap_err();
        client.attach(ROOT, "").unwrap_err();
        assert_eq!(client.read(fid, 0, 100).unwrap(), b"contents");
        assert!(client.getattr(ROOT).is_ok());
    });
}

#[test]
fn nofid_is_no_fid() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        for message in [
            attach(NOFID),
            walk(ROOT, NOFID, &[]),
            walk(NOFID, NOFID, &[]),
            walk(NOFID, 1, &[]),
            Tmessage::Tclunk { fid: NOFID },
            Tmessage::Tremove { fid: NOFID },
            Tmessage::Txattrwalk { fid: ROOT, newfid: NOFID, name: Str(b"") },
            Tmessage::Tlopen { fid: NOFID, flags: RDONLY },
        ] {
            assert!(error_of(&ask(&mut stream, 1, &message).unwrap()).is_some(), "{message:?}");
        }
    });
}

/// CVE-2016-9102 and its like: what a fid had must not be lost, nor leak, when it is used for something else.
#[test]
fn an_open_fid_can_be_neither_opened_nor_created_with_again() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.make("", "a", b"contents");
        let directory = client.open("", RDONLY).unwrap();
        let file = client.open("a", RDWR).unwrap();
        for fid in [directory, file] {
            for number in 0..50 {
                let name = format!("new{number}");
                client.lcreate(fid, name.as_bytes(), RDWR, 0o644).unwrap_err();
                client.lopen(fid, RDWR | TRUNC).unwrap_err();
            }
        }
        assert_eq!(client.names(""), ["a"], "nothing was made on the way");
        assert_eq!(client.contents("a").unwrap(), b"contents");
        assert!(!client.readdir(directory, 0, 1000).unwrap().is_empty());
        assert_eq!(client.read(file, 0, 100).unwrap(), b"contents");
    });
}

#[test]
fn a_clunk_during_a_read_waits_for_nobody_and_costs_nobody() {
    let gate = Gated::default();
    let attacked = Attacked::of(|_| gate.clone());
    let mut stream = attacked.attached(8192);
    ask(&mut stream, 1, &walk(ROOT, 1, &[b"slow"])).unwrap();
    ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDWR }).unwrap();
    for tag in 10..20 {
        stream.write_all(&encode(tag, &Tmessage::Tread { fid: 1, offset: 0, count: 10 }, &[])).unwrap();
    }
    gate.until_waiting(10);
    assert_eq!(error_of(&ask(&mut stream, 1, &Tmessage::Tclunk { fid: 1 }).unwrap()), None);
    assert_eq!(error_of(&ask(&mut stream, 1, &Tmessage::Tclunk { fid: 1 }).unwrap()), Some(Errno::EBADF));
    // The number is free at once, for another file.
    assert_eq!(error_of(&ask(&mut stream, 1, &walk(ROOT, 1, &[b"fast"])).unwrap()), None);
    assert_eq!(gate.open_files(), 1, "it is read from still");
    gate.release();
    let mut tags: Vec<_> = (10..20).map(|_| receive(&mut stream).unwrap()[5]).collect();
    tags.sort_unstable();
    assert!(tags.into_iter().eq(10..20));
    until(|| gate.open_files() == 0);
}

/// A `Tremove` forgets its fid even where nothing may be removed.
#[test]
fn remove_forgets_the_fid_on_a_read_only_server_too() {
    let options = ServerOptions { read_only: true, ..ServerOptions::default() };
    let attacked = Attacked::with(|_| MemBackend::default(), options, Limits::default());
    let mut client = attacked.client();
    client.walk(ROOT, 1, &[]).unwrap();
    assert_eq!(client.done(&Tmessage::Tremove { fid: 1 }).unwrap_err(), Errno::EROFS);
    assert_eq!(client.getattr(1).unwrap_err(), Errno::EBADF);
    assert_eq!(client.done(&Tmessage::Tremove { fid: 1 }).unwrap_err(), Errno::EBADF);
    client.walk(ROOT, 1, &[]).unwrap();
}

#[test]
fn fids_run_out_with_an_error_and_come_back() {
    const MOST: usize = 500;
    for dir in [false, true] {
        let options = ServerOptions { max_fids: MOST, ..ServerOptions::default() };
        let attacked = match dir {
            false => Attacked::with(|_| MemBackend::default(), options, Limits::default()),
            true => Attacked::with(hostile_support::dir_backend, options, Limits::default()),
        };
        let mut client = attacked.client();
        client.make("", "a", b"contents");
        for round in 0..3 {
            for number in 1..MOST as u32 {
                // Small and large numbers take different ways.
                let fid = if number % 2 == 0 { number } else { 1 << 20 | number };
                client.walk(ROOT, fid, &["a"]).unwrap();
                client.lopen(fid, RDONLY).unwrap();
            }
            for fid in [u32::MAX - 1, 1_000_000] {
                assert_eq!(client.walk(ROOT, fid, &["a"]).unwrap_err(), Errno::EMFILE);
                assert_eq!(client.attach(fid, "").unwrap_err(), Errno::EMFILE);
            }
            // Others have fids of their own.
            let mut other = attacked.client();
            assert_eq!(other.contents("a").unwrap(), b"contents");
            if round == 1 {
                // All at once.
                client.begin();
            } else {
                for number in 1..MOST as u32 {
                    client.clunk(if number % 2 == 0 { number } else { 1 << 20 | number }).unwrap();
                }
            }
        }
    }
}

/// `Tversion` in the middle of a session ends it, with all that is under way and open.
#[test]
fn version_in_the_middle_forgets_all_even_with_requests_under_way() {
    let gate = Gated::default();
    let attacked = Attacked::of(|_| gate.clone());
    for round in 0..5 {
        gate.hold();
        let mut stream = attacked.attached(1 << 20);
        for fid in 1..20 {
            ask(&mut stream, 1, &walk(ROOT, fid, &[b"slow"])).unwrap();
            ask(&mut stream, 1, &Tmessage::Tlopen { fid, flags: RDWR }).unwrap();
            stream.write_all(&encode(100 + fid as u16, &Tmessage::Tread { fid, offset: 0, count: 10 }, &[])).unwrap();
        }
        gate.until_waiting(19);
        let version = Tmessage::Tversion { msize: 8192, version: Str(VERSION_9P2000L) };
        let mut bytes = encode(NOTAG, &version, &[]);
        for fid in 0..20 {
            bytes.extend(encode(200 + fid as u16, &Tmessage::Tgetattr { fid, request_mask: getattr::ALL }, &[]));
        }
        stream.write_all(&bytes).unwrap();
        gate.release();
        // The reads, the version, and then nothing that still knows a fid.
        for _ in 1..20 {
            assert!((101..120).contains(&receive(&mut stream).unwrap()[5]));
        }
        assert_eq!(receive(&mut stream).unwrap()[4], 101, "round {round}");
        for _ in 0..20 {
            assert_eq!(error_of(&receive(&mut stream).unwrap()), Some(Errno::EBADF));
        }
        assert_eq!(gate.open_files(), 0);
    }
}

#[test]
fn versions_again_and_again_leave_nothing() {
    Attacked::each(|attacked| {
        attacked.client().make("", "a", b"contents");
        let mut client = attacked.client();
        for _ in 0..200 {
            client.begin();
            for _ in 0..5 {
                client.open("a", RDWR).unwrap();
            }
        }
    });
}

/// CVE-2021-20181, CVE-2018-19364, CVE-2018-19489: a fid that is walked, renamed, changed and forgotten at the same time.
#[test]
fn rename_walk_clunk_and_setattr_of_the_same_fid_at_once() {
    Attacked::each(|attacked| {
        let mut setup = attacked.client();
        for directory in ["d", "e"] {
            setup.mkdir("", directory).unwrap();
            setup.make(directory, "f", b"contents");
        }
        const ROUNDS: u16 = 300;
        thread::scope(|scope| {
            for client in 0..3_u32 {
                scope.spawn(move || {
                    let mut stream = attacked.attached(8192);
                    for newfid in [10, 11] {
                        ask(&mut stream, 0, &walk(ROOT, newfid, &[[&b"d"[..], b"e"][newfid as usize - 10]])).unwrap();
                    }
                    for round in 0..ROUNDS {
                        let (from, to) = if (u32::from(round) + client) % 2 == 0 { (10, 11) } else { (11, 10) };
                        let name = [&b"f"[..], b"g", b"h"][usize::from(round) % 3];
                        let (fid, attributes) = (
                            1,
                            SetAttributes {
                                valid: setattr::SIZE | setattr::MODE,
                                size: u64::from(round),
                                mode: 0o600,
                                ..SetAttributes::default()
                            },
                        );
                        let batch = [
                            walk(from, fid, &[b"f"]),
                            Tmessage::Trename { fid, dfid: to, name: Str(name) },
                            Tmessage::Tsetattr { fid, attributes: (&attributes).into() },
                            walk(fid, 2, &[]),
                            Tmessage::Tlopen { fid, flags: RDWR },
                            Tmessage::Trenameat {
                                olddirfid: to,
                                oldname: Str(name),
                                newdirfid: from,
                                newname: Str(b"f"),
                            },
                            walk(2, 3, &[b".."]),
                            Tmessage::Twrite { fid, offset: 3, count: 0 },
                            Tmessage::Tgetattr { fid: 2, request_mask: getattr::ALL },
                            Tmessage::Tclunk { fid },
                            Tmessage::Tremove { fid: 2 },
                            create(from, b"f"),
                            Tmessage::Tclunk { fid: 3 },
                            Tmessage::Tunlinkat { dirfid: to, name: Str(b"g"), flags: 0 },
                            Tmessage::Tclunk { fid: 2 },
                        ];
                        // A create takes the fid of the directory; it is walked to anew.
                        let bytes: Vec<_> = (1..).zip(&batch).flat_map(|(tag, ask)| encode(tag, ask, &[])).collect();
                        stream.write_all(&bytes).unwrap();
                        let mut tags: Vec<_> = batch.iter().map(|_| receive(&mut stream).unwrap()[5]).collect();
                        tags.sort_unstable();
                        assert!(tags.into_iter().eq(1..=batch.len() as u8));
                        for fid in 1..12 {
                            ask(&mut stream, 0, &Tmessage::Tclunk { fid }).unwrap();
                        }
                        for (newfid, name) in [(10, &b"d"[..]), (11, b"e")] {
                            assert_eq!(error_of(&ask(&mut stream, 0, &walk(ROOT, newfid, &[name])).unwrap()), None);
                        }
                    }
                });
            }
        });
        let mut names = setup.names("d");
        names.extend(setup.names("e"));
        assert!(names.iter().all(|name| ["f", "g", "h"].contains(&&**name)), "{names:?}");
    });
}

/// Which of two that want one fid gets it is open, not that both do.
#[test]
fn fids_that_are_fought_for_are_had_once() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        for round in 0..200 {
            let batch: Vec<_> = (1..20_u16)
                .flat_map(|tag| match tag % 4 {
                    0 => encode(tag, &attach(1), &[]),
                    1 => encode(tag, &walk(ROOT, 1, &[]), &[]),
                    2 => encode(tag, &create(1, b"a"), &[]),
                    _ => encode(tag, &Tmessage::Tclunk { fid: 1 }, &[]),
                })
                .collect();
            stream.write_all(&batch).unwrap();
            for _ in 1..20 {
                receive(&mut stream).unwrap();
            }
            ask(&mut stream, 0, &Tmessage::Tclunk { fid: 1 }).unwrap();
            let gone = ask(&mut stream, 0, &Tmessage::Tgetattr { fid: 1, request_mask: 0 }).unwrap();
            assert_eq!(error_of(&gone), Some(Errno::EBADF), "round {round}");
        }
    });
}

/// A file goes when its last fid does, and a connection's fids go with it.
#[test]
fn connections_that_break_off_close_their_files() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.make("", "a", &[7; 100_000]);
        let before = client.statfs(ROOT).unwrap().bfree;
        for _ in 0..20 {
            let mut stream = attacked.attached(8192);
            for fid in 1..30 {
                ask(&mut stream, 0, &walk(ROOT, fid, &[b"a"])).unwrap();
                ask(&mut stream, 0, &Tmessage::Tlopen { fid, flags: RDWR }).unwrap();
            }
            // In the middle of a message.
            stream.write_all(&encode(1, &GETATTR, &[])[..9]).unwrap();
        }
        client.unlink("", "a", 0).unwrap();
        if attacked.is_mem() {
            until(|| client.statfs(ROOT).unwrap().bfree > before);
        }
    });
}

#[test]
fn a_wrong_afid_is_refused() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        for afid in [0, 1, ROOT, NOFID - 1] {
            let attach = Tmessage::Tattach { fid: 1, afid, uname: Str(b""), aname: Str(b""), n_uname: 0 };
            assert!(error_of(&ask(&mut stream, 1, &attach).unwrap()).is_some());
            let auth = Tmessage::Tauth { afid, uname: Str(b""), aname: Str(b""), n_uname: 0 };
            assert!(error_of(&ask(&mut stream, 1, &auth).unwrap()).is_some());
        }
        // None of them has become a fid.
        assert_eq!(error_of(&ask(&mut stream, 1, &walk(ROOT, 1, &[])).unwrap()), None);
    });
}

/// What is made in a directory by a name that leads nowhere is made nowhere.
#[test]
fn a_create_in_a_removed_directory_fails() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.mkdir("", "d").unwrap();
        let fid = client.at("d").unwrap();
        client.unlink("", "d", ninering_wire::AT_REMOVEDIR).unwrap();
        assert_eq!(client.lcreate(fid, b"a", RDWR, 0o644).unwrap_err(), Errno::ENOENT);
        assert_eq!(client.mkdir_in(fid, b"a", 0o755).unwrap_err(), Errno::ENOENT);
        assert!(client.getattr(fid).is_ok());
        client.clunk(fid).unwrap();
        if !attacked.is_mem() {
            assert!(fs::read_dir(attacked.path("")).unwrap().next().is_none());
        }
    });
}

//! Extended attributes used wrongly, all at once, and in masses, through a socket.

mod common;
mod hostile_support;

use std::{io::Write, thread};

use common::{ROOT, encode, receive};
use hostile_support::{Attacked, ask, error_of, walk};
use ninering_wire::{
    Errno, Frame, Rmessage, Str, Tmessage, getattr,
    lopen::{RDONLY, RDWR},
};

/// Attacks each backend that has extended attributes here.
fn each(attack: impl Fn(&Attacked)) {
    for attacked in [Attacked::mem, Attacked::dir] {
        let attacked = attacked();
        let mut client = attacked.client();
        client.make("", "a", b"contents");
        let fid = client.at("a").unwrap();
        if client.set_xattr(fid, b"user.probe", b"x", 0) == Err(Errno::EOPNOTSUPP) {
            // Not by `eprintln!`, which a test that passes is not heard by.
            let _ = writeln!(std::io::stderr(), "SKIPPED: the temporary directory's filesystem has no attributes");
            continue;
        }
        attack(&attacked);
    }
}

/// CVE-2016-9102: each `Txattrcreate` of one fid leaked the value of the one before.
#[test]
fn create_on_a_fid_that_is_created_already_is_refused() {
    each(|attacked| {
        let mut stream = attacked.attached(65_536);
        ask(&mut stream, 1, &walk(ROOT, 1, &[b"a"])).unwrap();
        let create = Tmessage::Txattrcreate { fid: 1, name: Str(b"user.a"), size: 3000, flags: 0 };
        for round in 0..500 {
            let reply = ask(&mut stream, 1, &create).unwrap();
            assert_eq!(error_of(&reply).is_some(), round > 0, "round {round}");
            let write = encode(2, &Tmessage::Twrite { fid: 1, offset: 0, count: 3000 }, &[7; 3000]);
            stream.write_all(&write).unwrap();
            assert_eq!(error_of(&receive(&mut stream).unwrap()), None);
            // Nor does it become anything else.
            for message in [
                Tmessage::Txattrwalk { fid: 1, newfid: 2, name: Str(b"") },
                Tmessage::Tlopen { fid: 1, flags: RDWR },
                Tmessage::Treaddir { fid: 1, offset: 0, count: 100 },
                Tmessage::Tread { fid: 1, offset: 0, count: 100 },
                walk(1, 1, &[b".."]),
            ] {
                assert!(error_of(&ask(&mut stream, 1, &message).unwrap()).is_some(), "{message:?}");
            }
        }
        assert_eq!(error_of(&ask(&mut stream, 1, &Tmessage::Tclunk { fid: 1 }).unwrap()), None);
        let mut client = attacked.client();
        let fid = client.at("a").unwrap();
        assert_eq!(client.xattr(fid, b"user.a").unwrap(), [7; 3000]);
    });
}

/// CVE-2016-9104: sums of offset and count that run over, in reads and in writes.
#[test]
fn wild_offsets_and_sizes_are_refused() {
    each(|attacked| {
        let mut client = attacked.client();
        let fid = client.at("a").unwrap();
        client.set_xattr(fid, b"user.a", &[7; 100], 0).unwrap();
        let mut stream = attacked.attached(8192);
        ask(&mut stream, 1, &walk(ROOT, 1, &[b"a"])).unwrap();
        for size in [65_537, u64::from(u32::MAX), 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX] {
            let create = Tmessage::Txattrcreate { fid: 1, name: Str(b"user.a"), size, flags: 0 };
            assert_eq!(error_of(&ask(&mut stream, 1, &create).unwrap()), Some(Errno::E2BIG), "{size}");
        }
        let create = Tmessage::Txattrcreate { fid: 1, name: Str(b"user.b"), size: 10, flags: 0 };
        assert_eq!(error_of(&ask(&mut stream, 1, &create).unwrap()), None);
        let listing = Tmessage::Txattrwalk { fid: ROOT, newfid: 3, name: Str(b"") };
        assert_eq!(error_of(&ask(&mut stream, 1, &listing).unwrap()), None);
        ask(&mut stream, 1, &walk(ROOT, 4, &[b"a"])).unwrap();
        let value = Tmessage::Txattrwalk { fid: 4, newfid: 2, name: Str(b"user.a") };
        assert_eq!(error_of(&ask(&mut stream, 1, &value).unwrap()), None);
        for offset in [11, 100, 101, u64::from(u32::MAX), 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX - 3, u64::MAX] {
            let write = encode(1, &Tmessage::Twrite { fid: 1, offset, count: 5 }, b"bytes");
            stream.write_all(&write).unwrap();
            assert!(error_of(&receive(&mut stream).unwrap()).is_some(), "a write at {offset}");
            for count in [0, 1, 100, u32::MAX - 24, u32::MAX] {
                let reply = ask(&mut stream, 1, &Tmessage::Tread { fid: 2, offset, count }).unwrap();
                let frame = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
                assert!(
                    frame.payload.len() as u64 <= 100_u64.saturating_sub(offset).min(u64::from(count)),
                    "{count} bytes at {offset}"
                );
                assert!(frame.payload.iter().all(|&byte| byte == 7));
            }
        }
    });
}

/// CVE-2017-15038, CVE-2016-9103: an attribute that grows or shrinks between the size and the value that are told.
#[test]
fn values_are_told_as_they_were_and_whole() {
    each(|attacked| {
        let mut client = attacked.client();
        let fid = client.at("a").unwrap();
        // Of one byte each, as many as its number says.
        let value = |number: usize| vec![number as u8; 1 + number * 15 % 3000];
        client.set_xattr(fid, b"user.a", &value(0), 0).unwrap();
        thread::scope(|scope| {
            let changing: Vec<_> = (0..2)
                .map(|part| {
                    scope.spawn(move || {
                        let mut client = attacked.client();
                        let fid = client.at("a").unwrap();
                        for number in (part..400).step_by(2) {
                            client.set_xattr(fid, b"user.a", &value(number % 200), 0).unwrap();
                        }
                    })
                })
                .collect();
            let mut reader = attacked.client();
            let fid = reader.at("a").unwrap();
            while !changing.iter().all(|thread| thread.is_finished()) {
                let (opened, size) = reader.xattrwalk(fid, b"user.a").unwrap();
                let first = reader.read(opened, 0, 100).unwrap();
                let rest = reader.read(opened, first.len() as u64, 8000).unwrap();
                let whole = [first, rest].concat();
                assert_eq!(whole.len() as u64, size);
                assert_eq!(whole, value(usize::from(whole[0])), "it is one value, not parts of two");
                assert!(reader.read(opened, size, 100).unwrap().is_empty());
                reader.clunk(opened).unwrap();
            }
        });
    });
}

#[test]
fn names_that_are_none_are_refused() {
    each(|attacked| {
        let mut client = attacked.client();
        let fid = client.at("a").unwrap();
        let names =
            [&b"\0"[..], b"user.a\0b", b"nothing", b"..", b"/", b"../beside", b"nowhere.a", b"user.", &[b'n'; 256]];
        for name in names {
            client.set_xattr(fid, name, b"value", 0).unwrap_err();
            client.xattrwalk(fid, name).unwrap_err();
        }
        client.set_xattr(fid, b"", b"value", 0).unwrap_err();
        let before = client.xattrs(fid).unwrap();
        assert!(before.iter().all(|name| name == "user.probe" || !name.starts_with("user.")), "{before:?}");
    });
}

/// The fids of values are fids, and their bytes are bounded.
#[test]
fn values_that_are_never_let_go_run_out_with_an_error() {
    each(|attacked| {
        let mut client = attacked.client();
        let fid = client.at("a").unwrap();
        // Not all filesystems take one of 64 KiB.
        let large =
            [60_000, 3000].into_iter().find(|&size| client.set_xattr(fid, b"user.a", &vec![7; size], 0).is_ok());
        let large = large.expect("room for a value");
        let mut held = Vec::new();
        let error = loop {
            match client.xattrwalk(fid, b"user.a") {
                Ok((newfid, _)) => held.push(newfid),
                Err(error) => break error,
            }
            assert!(held.len() * large < 64 << 20, "they are held without a bound");
        };
        assert!([Errno::ENOMEM, Errno::EMFILE].contains(&error), "{error}");
        // Others are not concerned.
        let mut other = attacked.client();
        let theirs = other.at("a").unwrap();
        assert_eq!(other.xattr(theirs, b"user.a").unwrap().len(), large);
        for newfid in held {
            client.clunk(newfid).unwrap();
        }
        assert_eq!(client.xattr(fid, b"user.a").unwrap().len(), large);
    });
}

/// One fid that is made to take a value, is written, read, clunked and removed all at once.
#[test]
fn all_at_once_on_the_same_fid() {
    each(|attacked| {
        thread::scope(|scope| {
            for client in 0..3_u8 {
                scope.spawn(move || {
                    let mut stream = attacked.attached(8192);
                    for _ in 0..150 {
                        let name = Str([&b"user.a"[..], b"user.b"][usize::from(client % 2)]);
                        let write = Tmessage::Twrite { fid: 1, offset: 0, count: 10 };
                        let batch = [
                            (walk(ROOT, 1, &[b"a"]), &b""[..]),
                            (Tmessage::Txattrcreate { fid: 1, name, size: 10, flags: 0 }, b""),
                            (write, &[client; 10]),
                            (Tmessage::Txattrwalk { fid: 1, newfid: 2, name }, b""),
                            (Tmessage::Tclunk { fid: 1 }, b""),
                            (walk(ROOT, 1, &[b"a"]), b""),
                            (Tmessage::Txattrcreate { fid: 1, name, size: 0, flags: 2 }, b""),
                            (Tmessage::Tlopen { fid: 1, flags: RDONLY }, b""),
                            (Tmessage::Txattrwalk { fid: 1, newfid: 2, name: Str(b"") }, b""),
                            (Tmessage::Tread { fid: 2, offset: 0, count: 100 }, b""),
                            (Tmessage::Tclunk { fid: 1 }, b""),
                            (Tmessage::Tremove { fid: 2 }, b""),
                        ];
                        let each = (1..).zip(&batch);
                        let bytes: Vec<_> = each.flat_map(|(tag, (ask, payload))| encode(tag, ask, payload)).collect();
                        stream.write_all(&bytes).unwrap();
                        let mut tags: Vec<_> = batch.iter().map(|_| receive(&mut stream).unwrap()[5]).collect();
                        tags.sort_unstable();
                        assert!(tags.into_iter().eq(1..=batch.len() as u8));
                        for fid in 1..3 {
                            ask(&mut stream, 0, &Tmessage::Tclunk { fid }).unwrap();
                        }
                    }
                });
            }
        });
        // `Tremove` of a fid of an attribute removes no file.
        let mut client = attacked.client();
        let fid = client.at("a").unwrap();
        let value = client.xattr(fid, b"user.a");
        assert!(
            value.as_ref().is_err_and(|&error| error == Errno::ENODATA) || value.is_ok_and(|value| value.len() == 10)
        );
        let getattr = Tmessage::Tgetattr { fid, request_mask: getattr::ALL };
        client.done(&getattr).unwrap();
    });
}

//! Messages that are none, or not what they say, through a socket: each is refused or ends its own connection, and no
//! other.

mod common;
mod hostile_support;

use std::{io::Write, net::Shutdown, thread};

use common::{ROOT, encode, gated::Gated, receive};
use hostile_support::{Attacked, ask, ask_bytes, attach, error_of, is_closed, sized, walk};
use ninering_wire::{Errno, LockType, NOTAG, Str, Tmessage, VERSION_9P2000L, getattr, lopen::RDWR};

const GETATTR: Tmessage<'static> = Tmessage::Tgetattr { fid: ROOT, request_mask: getattr::ALL };

/// diod's issue 137: a server that is sent replies.
#[test]
fn types_that_are_no_requests_are_refused() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        for kind in (0..=255_u8).filter(|&kind| Tmessage::name_of(kind).is_none()) {
            for body in [&b""[..], b"\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
                let reply = ask_bytes(&mut stream, &sized(kind, 0x1234, body)).unwrap();
                assert_eq!(error_of(&reply), Some(Errno::EOPNOTSUPP), "type {kind}");
            }
        }
        assert_eq!(error_of(&ask(&mut stream, 1, &GETATTR).unwrap()), None);
    });
}

#[test]
fn notag_is_for_versions_alone() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        for message in [GETATTR, Tmessage::Tclunk { fid: ROOT }, Tmessage::Tflush { oldtag: NOTAG }, walk(ROOT, 1, &[])]
        {
            let reply = ask(&mut stream, NOTAG, &message).unwrap();
            assert_eq!(error_of(&reply), Some(Errno::EINVAL), "{message:?}");
        }
        assert_eq!(error_of(&ask(&mut stream, 1, &GETATTR).unwrap()), None);
    });
}

#[test]
fn sizes_below_a_header_or_above_msize_end_that_connection_alone() {
    Attacked::each(|attacked| {
        let mut neighbour = attacked.attached(8192);
        for size in [0, 1, 4, 6, 8193, 1 << 20, i32::MAX as u32, 1 << 31, u32::MAX - 3, u32::MAX] {
            let mut stream = attacked.attached(8192);
            stream.write_all(&size.to_le_bytes()).unwrap();
            assert!(is_closed(&mut stream), "a size of {size}");
            // Before a version, too.
            let mut stream = attacked.connect();
            stream.write_all(&size.to_le_bytes()).unwrap();
            assert!(is_closed(&mut stream), "a size of {size} before a version");
        }
        assert_eq!(error_of(&ask(&mut neighbour, 1, &GETATTR).unwrap()), None);
    });
}

/// A message may be as long as was agreed on; one byte more ends the connection.
#[test]
fn messages_of_just_msize_are_taken() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        ask(&mut stream, 1, &walk(ROOT, 1, &[])).unwrap();
        let create = Tmessage::Tlcreate { fid: 1, name: Str(b"a"), flags: RDWR, mode: 0o644, gid: common::gid() };
        assert_eq!(error_of(&ask(&mut stream, 1, &create).unwrap()), None);
        let write = |count: u32| encode(2, &Tmessage::Twrite { fid: 1, offset: 0, count }, &vec![7; count as usize]);
        assert_eq!(write(8169).len(), 8192);
        assert_eq!(error_of(&ask_bytes(&mut stream, &write(8169)).unwrap()), None);
        stream.write_all(&write(8170)).unwrap();
        assert!(is_closed(&mut stream));
    });
}

/// TinyEMU's takes any msize.
#[test]
fn msize_is_refused_where_too_small_and_lowered_where_too_large() {
    Attacked::each(|attacked| {
        let mut stream = attacked.connect();
        for msize in [0, 1, 7, 11, 24, 4095] {
            let version = Tmessage::Tversion { msize, version: Str(VERSION_9P2000L) };
            assert_eq!(error_of(&ask(&mut stream, NOTAG, &version).unwrap()), Some(Errno::EINVAL), "{msize}");
            assert_eq!(error_of(&ask(&mut stream, 0, &attach(ROOT)).unwrap()), Some(Errno::EPROTO));
        }
        for msize in [1 << 30, i32::MAX as u32, u32::MAX] {
            let version = Tmessage::Tversion { msize, version: Str(VERSION_9P2000L) };
            let reply = ask(&mut stream, NOTAG, &version).unwrap();
            let agreed = u32::from_le_bytes(reply[7..11].try_into().unwrap());
            assert!(agreed <= 16 << 20, "{agreed}");
        }
    });
}

#[test]
fn strings_longer_than_their_message_are_refused() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        let name = Str(b"name");
        for message in [
            Tmessage::Tlcreate { fid: ROOT, name, flags: RDWR, mode: 0o644, gid: 0 },
            Tmessage::Tsymlink { fid: ROOT, name, target: name, gid: 0 },
            Tmessage::Tmkdir { dfid: ROOT, name, mode: 0o755, gid: 0 },
            Tmessage::Tunlinkat { dirfid: ROOT, name, flags: 0 },
            Tmessage::Txattrwalk { fid: ROOT, newfid: 1, name },
            Tmessage::Txattrcreate { fid: ROOT, name, size: 1, flags: 0 },
            Tmessage::Tlock {
                fid: ROOT,
                kind: LockType::Write,
                flags: 0,
                start: 0,
                length: 0,
                proc_id: 0,
                client_id: name,
            },
            walk(ROOT, 1, &[b"name"]),
            Tmessage::Tattach { fid: 1, afid: !0, uname: name, aname: name, n_uname: 0 },
        ] {
            let whole = encode(7, &message, &[]);
            let at = whole.windows(6).position(|bytes| bytes == b"\x04\0name").unwrap();
            for length in [5_u16, 255, 4096, 0x7fff, 0x8000, u16::MAX] {
                let mut bytes = whole.clone();
                bytes[at..at + 2].copy_from_slice(&length.to_le_bytes());
                let reply = ask_bytes(&mut stream, &bytes).unwrap();
                assert_eq!(error_of(&reply), Some(Errno::EPROTO), "{message:?} with a length of {length}");
            }
            for length in 7..whole.len() {
                let reply = ask_bytes(&mut stream, &sized(whole[4], 7, &whole[7..length])).unwrap();
                assert_eq!(error_of(&reply), Some(Errno::EPROTO), "{length} bytes of {message:?}");
            }
        }
        assert_eq!(error_of(&ask(&mut stream, 1, &GETATTR).unwrap()), None);
    });
}

/// CVE-2016-8578: empty strings.
#[test]
fn empty_strings_are_strings() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        let (fid, name) = (ROOT, Str(b""));
        for message in [
            Tmessage::Tlcreate { fid, name, flags: RDWR, mode: 0o644, gid: 0 },
            Tmessage::Tsymlink { fid, name, target: name, gid: 0 },
            Tmessage::Tsymlink { fid, name: Str(b"link"), target: name, gid: 0 },
            Tmessage::Tmknod { fid, name, mode: 0o010_644, major: 0, minor: 0, gid: 0 },
            Tmessage::Tmkdir { dfid: fid, name, mode: 0o755, gid: 0 },
            Tmessage::Trename { fid, dfid: fid, name },
            Tmessage::Trenameat { olddirfid: fid, oldname: name, newdirfid: fid, newname: name },
            Tmessage::Tlink { dfid: fid, fid, name },
            Tmessage::Tunlinkat { dirfid: fid, name, flags: 0 },
            walk(fid, 1, &[b""]),
        ] {
            assert!(error_of(&ask(&mut stream, 1, &message).unwrap()).is_some(), "{message:?}");
        }
        let version = Tmessage::Tversion { msize: 8192, version: name };
        let reply = ask(&mut stream, NOTAG, &version).unwrap();
        assert_eq!(reply[13..], *b"unknown");
    });
}

#[test]
fn walks_of_more_than_sixteen_names_are_refused() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        for (count, names) in [(17_u16, 17), (17, 0), (256, 256), (u16::MAX, 16), (u16::MAX, 1000)] {
            let mut body = [ROOT.to_le_bytes(), 1_u32.to_le_bytes()].concat();
            body.extend(count.to_le_bytes());
            body.extend(b"\x02\0..".repeat(names));
            let reply = ask_bytes(&mut stream, &sized(110, 1, &body)).unwrap();
            assert_eq!(error_of(&reply), Some(Errno::EINVAL), "{count} names");
        }
        // None of them has made the fid.
        assert_eq!(error_of(&ask(&mut stream, 1, &walk(ROOT, 1, &[&b".."[..]; 16])).unwrap()), None);
    });
}

#[test]
fn garbage_harms_who_sends_it() {
    Attacked::each(|attacked| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        for number in 0..60 {
            let mut stream = if number % 2 == 0 { attacked.connect() } else { attacked.attached(8192) };
            let mut bytes: Vec<_> = (0..5000).map(|_| random()).collect();
            if number % 3 == 0 {
                // Well framed, at least.
                bytes = bytes.chunks(50).flat_map(|body| sized(body[0], u16::from(body[1]), body)).collect();
            }
            // Who is sent off need not come to the end of it.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
            assert!(is_closed(&mut stream));
        }
    });
}

#[test]
fn half_a_message_holds_up_nobody_else() {
    Attacked::each(|attacked| {
        let whole = encode(1, &GETATTR, &[]);
        let waiting: Vec<_> = (1..whole.len())
            .map(|length| {
                let mut stream = attacked.attached(8192);
                stream.write_all(&whole[..length]).unwrap();
                (stream, length)
            })
            .collect();
        let mut other = attacked.client();
        other.make("", "a", b"contents");
        assert_eq!(other.contents("a").unwrap(), b"contents");
        for (mut stream, length) in waiting {
            stream.write_all(&whole[length..]).unwrap();
            assert_eq!(error_of(&receive(&mut stream).unwrap()), None);
            // And half of one, to the end.
            stream.write_all(&whole[..length]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert!(is_closed(&mut stream));
        }
    });
}

/// Who has said that it sends no more is owed its replies still; who is gone is owed nothing.
#[test]
fn half_closed_connections_get_their_replies() {
    Attacked::each(|attacked| {
        for gone in [false, true] {
            let mut stream = attacked.attached(8192);
            let requests: Vec<_> = (0..50).flat_map(|tag| encode(tag, &GETATTR, &[])).collect();
            stream.write_all(&requests).unwrap();
            if gone {
                continue;
            }
            stream.shutdown(Shutdown::Write).unwrap();
            for tag in 0..50_u16 {
                assert_eq!(receive(&mut stream).unwrap()[5..7], tag.to_le_bytes());
            }
            assert!(is_closed(&mut stream));
        }
    });
}

/// Two requests at a time with one tag: no reply to either could be told from the other's.
#[test]
fn duplicate_tags_end_that_connection_alone() {
    let gate = Gated::default();
    let attacked = Attacked::of(|_| gate.clone());
    let read = Tmessage::Tread { fid: 1, offset: 0, count: 10 };
    for again in [read, GETATTR, Tmessage::Tflush { oldtag: 7 }, Tmessage::Tclunk { fid: 1 }] {
        gate.hold();
        let mut stream = attacked.attached(8192);
        ask(&mut stream, 1, &walk(ROOT, 1, &[b"slow"])).unwrap();
        ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDWR }).unwrap();
        stream.write_all(&encode(7, &read, &[])).unwrap();
        gate.until_waiting(1);
        stream.write_all(&encode(7, &again, &[])).unwrap();
        assert!(is_closed(&mut stream), "{again:?}");
        gate.release();
        common::gated::until(|| gate.open_files() == 0);
    }
}

/// Connections that come and go, some in the middle of what they do, leave nothing behind.
#[test]
fn connections_come_and_go() {
    Attacked::each(|attacked| {
        attacked.client().make("", "a", b"contents");
        thread::scope(|scope| {
            for part in 0..4 {
                scope.spawn(move || {
                    for number in 0..40 {
                        let mut stream = attacked.attached(8192);
                        ask(&mut stream, 1, &walk(ROOT, 1, &[b"a"])).unwrap();
                        ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDWR }).unwrap();
                        let read = encode(2, &Tmessage::Tread { fid: 1, offset: 0, count: 8 }, &[]);
                        let length = (number * 4 + part) % (read.len() + 1);
                        stream.write_all(&read[..length]).unwrap();
                    }
                });
            }
        });
    });
}

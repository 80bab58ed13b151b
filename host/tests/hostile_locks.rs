//! Locks asked for wrongly, waited for, flushed and abandoned all at once, through a socket.

mod common;
mod hostile_support;

use std::{collections::HashSet, io::Write, thread};

use common::{ROOT, encode, receive};
use hostile_support::{Attacked, ask, error_of, walk};
use ninering_wire::{
    Errno, Frame, Lock, LockStatus, LockType, Rmessage, Str, Tmessage,
    lock::{FLAGS_BLOCK, FLAGS_RECLAIM},
    lopen::RDWR,
};

fn tlock(fid: u32, kind: LockType, flags: u32, start: u64, length: u64, proc_id: u32) -> Tmessage<'static> {
    Tmessage::Tlock { fid, kind, flags, start, length, proc_id, client_id: Str(b"client") }
}

/// A connection that has opened the file `a` as fid 1.
fn opened(attacked: &Attacked) -> std::os::unix::net::UnixStream {
    let mut stream = attacked.attached(8192);
    ask(&mut stream, 0, &walk(ROOT, 1, &[b"a"])).unwrap();
    assert_eq!(error_of(&ask(&mut stream, 0, &Tmessage::Tlopen { fid: 1, flags: RDWR }).unwrap()), None);
    stream
}

/// May all of the file be locked, by somebody who comes now?
fn is_free(attacked: &Attacked) -> bool {
    let mut stream = opened(attacked);
    let reply = ask(&mut stream, 1, &tlock(1, LockType::Write, 0, 0, 0, 1)).unwrap();
    Frame::<Rmessage<'_>>::decode(&reply).unwrap().message == Rmessage::Rlock { status: LockStatus::Success }
}

fn until_free(attacked: &Attacked) {
    common::gated::until(|| is_free(attacked));
}

#[test]
fn wild_ranges_lock_what_there_is_or_nothing() {
    Attacked::each(|attacked| {
        attacked.client().make("", "a", b"contents");
        let mut stream = opened(attacked);
        let wild = [0, 1, 8, i64::MAX as u64 - 1, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];
        for start in wild {
            for length in wild {
                for kind in [LockType::Read, LockType::Write, LockType::Unlock] {
                    for flags in [0, FLAGS_RECLAIM, !FLAGS_BLOCK] {
                        let reply = ask(&mut stream, 1, &tlock(1, kind, flags, start, length, u32::MAX)).unwrap();
                        if let Some(error) = error_of(&reply) {
                            assert!([Errno::EINVAL, Errno::EOVERFLOW, Errno::EOPNOTSUPP].contains(&error), "{error}");
                        }
                    }
                }
                let lock = Lock { kind: LockType::Write, start, length, proc_id: 7, client_id: Str(b"other") };
                ask(&mut stream, 1, &Tmessage::Tgetlock { fid: 1, lock }).unwrap();
            }
        }
        drop(stream);
        until_free(attacked);
    });
}

#[test]
fn what_is_no_open_file_is_not_locked() {
    Attacked::each(|attacked| {
        attacked.client().make("", "a", b"contents");
        let mut stream = opened(attacked);
        ask(&mut stream, 1, &walk(1, 2, &[])).unwrap();
        for fid in [ROOT, 2, 77, u32::MAX] {
            for kind in [LockType::Read, LockType::Write, LockType::Unlock] {
                let reply = ask(&mut stream, 1, &tlock(fid, kind, FLAGS_BLOCK, 0, 0, 1)).unwrap();
                assert!(error_of(&reply).is_some(), "{kind:?} of fid {fid}");
            }
        }
        let long = [b'c'; 5000];
        let lock = Tmessage::Tlock {
            fid: 1,
            kind: LockType::Write,
            flags: 0,
            start: 0,
            length: 0,
            proc_id: 1,
            client_id: Str(&long),
        };
        assert!(error_of(&ask(&mut stream, 1, &lock).unwrap()).is_some());
        assert!(is_free(attacked));
    });
}

/// Requests that wait for locks, are flushed, have their fid clunked, or their connection broken off: each other request
/// has its reply, and in the end nobody holds or waits for anything.
#[test]
fn waiting_flushing_clunking_and_leaving_at_once() {
    Attacked::each(|attacked| {
        attacked.client().make("", "a", b"contents");
        thread::scope(|scope| {
            for client in 0..4_u32 {
                scope.spawn(move || {
                    for round in 0..25_u32 {
                        let mut stream = opened(attacked);
                        let (write, unlock) = (LockType::Write, LockType::Unlock);
                        let start = u64::from(round % 3);
                        let batch = [
                            (1, tlock(1, write, FLAGS_BLOCK, start, 10, 1)),
                            (2, tlock(1, write, FLAGS_BLOCK, 0, 0, 2)),
                            (3, tlock(1, LockType::Read, FLAGS_BLOCK, 5, 0, 3)),
                            (4, Tmessage::Tflush { oldtag: 2 }),
                            (5, tlock(1, unlock, 0, 0, 0, 1)),
                            (6, Tmessage::Tflush { oldtag: 3 }),
                            (7, Tmessage::Tflush { oldtag: 1 }),
                            (8, tlock(1, unlock, 0, 0, 0, 2)),
                            (9, Tmessage::Tclunk { fid: 1 }),
                        ];
                        let sent = if client == 3 { 1 + round as usize % batch.len() } else { batch.len() };
                        for (tag, message) in &batch[..sent] {
                            stream.write_all(&encode(*tag, message, &[])).unwrap();
                        }
                        if sent < batch.len() {
                            continue;
                        }
                        // What is flushed may be left without a reply; nothing else, and nothing has two.
                        let mut waited_for: HashSet<u16> = (4..=9).collect();
                        let mut answered = HashSet::new();
                        while !waited_for.is_empty() {
                            let reply = receive(&mut stream).unwrap();
                            let tag = u16::from_le_bytes([reply[5], reply[6]]);
                            assert!(answered.insert(tag), "a second reply to {tag}");
                            waited_for.remove(&tag);
                            let flushed = match tag {
                                4 => Some(2),
                                6 => Some(3),
                                7 => Some(1),
                                _ => None,
                            };
                            // A reply that comes after the Rflush would be taken for another request's.
                            answered.extend(flushed);
                        }
                        assert!((1..=9).all(|tag| answered.contains(&tag)));
                    }
                });
            }
        });
        until_free(attacked);
    });
}

/// Ranges in masses are refused at some point, and given back with the connection.
#[test]
fn ranges_run_out_with_an_error_and_come_back() {
    Attacked::each(|attacked| {
        attacked.client().make("", "a", b"contents");
        let mut stream = opened(attacked);
        let error = (0..100_000_u64).find_map(|number| {
            error_of(&ask(&mut stream, 1, &tlock(1, LockType::Write, 0, number * 10, 1, 1)).unwrap())
        });
        assert_eq!(error, Some(Errno::ENOLCK));
        let mut other = opened(attacked);
        let reply = ask(&mut other, 1, &tlock(1, LockType::Write, 0, 5, 1, 1)).unwrap();
        assert_eq!(error_of(&reply), None, "others are not concerned");
        drop((stream, other));
        until_free(attacked);
    });
}

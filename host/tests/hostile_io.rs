//! Reads, writes, listings and flushes with numbers that no honest client sends, through a socket.

mod common;
mod hostile_support;

use std::{io::Write, thread};

use common::{
    ROOT, encode,
    gated::{Gated, until},
    receive,
};
use hostile_support::{Attacked, ask, ask_bytes, error_of, sized, walk};
use ninering::{backend::MemBackend, listener::Limits, server::ServerOptions};
use ninering_wire::{
    DirEntries, Errno, Frame, Names, Rmessage, SetAttributes, Str, Tmessage, getattr,
    lopen::{RDONLY, RDWR, WRONLY},
    setattr,
};

/// Numbers at which sums run over, in one width or another.
const WILD: [u64; 12] = [
    u64::MAX,
    u64::MAX - 1,
    u64::MAX - 24,
    1 << 63,
    (1 << 63) + 1,
    i64::MAX as u64,
    i64::MAX as u64 - 1,
    i64::MAX as u64 - 8191,
    1 << 62,
    u32::MAX as u64,
    1 << 32,
    i32::MAX as u64,
];

const COUNTS: [u32; 8] = [0, 1, 8168, 8181, i32::MAX as u32, 1 << 31, u32::MAX - 24, u32::MAX];

/// CVE-2016-9104, and the offsets and counts that diod's sums ran over with.
#[test]
fn wild_offsets_and_counts_read_nothing_that_is_not_there() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.make("", "a", &[7; 20_000]);
        let mut stream = attacked.attached(8192);
        ask(&mut stream, 1, &walk(ROOT, 1, &[b"a"])).unwrap();
        ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDWR }).unwrap();
        for offset in WILD.into_iter().chain([0, 1, 19_999, 20_000, 20_001]) {
            for count in COUNTS {
                let reply = ask(&mut stream, 1, &Tmessage::Tread { fid: 1, offset, count }).unwrap();
                match Frame::<Rmessage<'_>>::decode(&reply).unwrap() {
                    Frame { message: Rmessage::Rread { .. }, payload, .. } => {
                        let there = 20_000_u64.saturating_sub(offset).min(u64::from(count)).min(8181);
                        assert_eq!(payload, vec![7; there as usize], "{count} at {offset}");
                    }
                    Frame { message: Rmessage::Rlerror { ecode }, .. } => {
                        assert_eq!(Errno(ecode), Errno::EINVAL, "{count} at {offset}");
                        assert!(offset > i64::MAX as u64 - u64::from(u32::MAX), "{count} at {offset}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn wild_offsets_write_nowhere() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.make("", "a", b"contents");
        let fid = client.open("a", RDWR).unwrap();
        for offset in WILD.into_iter().filter(|&offset| offset > i64::MAX as u64 - 8) {
            let error = client.write(fid, offset, b"far away").unwrap_err();
            assert!([Errno::EINVAL, Errno::EFBIG].contains(&error), "{error} at {offset}");
            let change = SetAttributes { valid: setattr::SIZE, size: offset, ..SetAttributes::default() };
            if offset > i64::MAX as u64 {
                assert_eq!(client.setattr(fid, change).unwrap_err(), Errno::EINVAL, "a size of {offset}");
            }
        }
        assert_eq!(client.contents("a").unwrap(), b"contents");
    });
}

/// A `Twrite` whose count is not the number of bytes behind it.
#[test]
fn writes_of_other_counts_than_they_carry_write_nothing() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.make("", "a", b"");
        let mut stream = attacked.attached(8192);
        ask(&mut stream, 1, &walk(ROOT, 1, &[b"a"])).unwrap();
        ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: WRONLY }).unwrap();
        for count in [0, 9, 11, 8192, i32::MAX as u32, u32::MAX - 24, u32::MAX - 23, u32::MAX - 22, u32::MAX] {
            let mut body = 1_u32.to_le_bytes().to_vec();
            body.extend(0_u64.to_le_bytes());
            body.extend(count.to_le_bytes());
            body.extend([7; 10]);
            let reply = ask_bytes(&mut stream, &sized(118, 1, &body)).unwrap();
            assert_eq!(error_of(&reply), Some(Errno::EPROTO), "a count of {count}");
        }
        assert_eq!(client.stat("a").unwrap().size, 0);
    });
}

/// QEMU ended by an assertion (Debian's 7.2+dfsg-7+deb12u9).
#[test]
fn what_is_no_directory_is_not_listed_and_what_is_one_is_not_read() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.make("", "a", b"contents");
        client.symlink(ROOT, b"link", b"a").unwrap();
        let file = client.open("a", RDWR).unwrap();
        assert_eq!(client.readdir(file, 0, 1000).unwrap_err(), Errno::ENOTDIR);
        let directory = client.open("", RDONLY).unwrap();
        assert_eq!(client.read(directory, 0, 1000).unwrap_err(), Errno::EISDIR);
        // Neither is what is not open.
        for path in ["", "a", "link"] {
            let fid = client.at(path).unwrap();
            assert_eq!(client.readdir(fid, 0, 1000).unwrap_err(), Errno::EBADF);
            assert_eq!(client.read(fid, 0, 1000).unwrap_err(), Errno::EBADF);
            assert_eq!(client.write(fid, 0, b"bytes").unwrap_err(), Errno::EBADF);
            assert_eq!(client.done(&Tmessage::Tfsync { fid, datasync: 0 }).unwrap_err(), Errno::EBADF);
        }
        // Nor a file that became a directory's name.
        client.unlink("", "a", 0).unwrap();
        client.mkdir("", "a").unwrap();
        assert_eq!(client.readdir(file, 0, 1000).unwrap_err(), Errno::ENOTDIR);
    });
}

#[test]
fn listings_hold_whole_entries_and_no_more_than_asked_for() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        for number in 0..60 {
            client.mkdir("", &format!("{number:02}{}", "n".repeat(number * 4))).unwrap();
        }
        let mut stream = attacked.attached(8192);
        ask(&mut stream, 1, &walk(ROOT, 1, &[])).unwrap();
        ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDONLY }).unwrap();
        for count in (0..700).chain([8180, 8181, 8182, 1 << 20, i32::MAX as u32, u32::MAX - 24, u32::MAX]) {
            let reply = ask(&mut stream, 1, &Tmessage::Treaddir { fid: 1, offset: 0, count }).unwrap();
            let Frame { message, payload, .. } = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
            match message {
                Rmessage::Rreaddir { .. } => {
                    assert!(payload.len() <= count as usize);
                    let entries = DirEntries::new(payload);
                    assert!(entries.map(|entry| entry.expect("it is whole").encoded_len()).sum::<usize>() > 0);
                }
                // Not even `.` has space.
                Rmessage::Rlerror { ecode } => {
                    assert_eq!(Errno(ecode), Errno::EINVAL);
                    assert!(count < 24 + 2, "a count of {count}");
                }
                other => panic!("{other:?}"),
            }
        }
        // Offsets that nobody was told end the listing, or go on somewhere.
        for offset in WILD {
            let reply = ask(&mut stream, 1, &Tmessage::Treaddir { fid: 1, offset, count: 8000 }).unwrap();
            let Frame { message, payload, .. } = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
            match message {
                Rmessage::Rreaddir { .. } => assert!(DirEntries::new(payload).all(|entry| entry.is_ok())),
                Rmessage::Rlerror { ecode } => assert_eq!(Errno(ecode), Errno::EINVAL, "offset {offset}"),
                other => panic!("{other:?}"),
            }
        }
        let fid = client.open("", RDONLY).unwrap();
        assert!(client.readdir(fid, 0, 8000).unwrap().len() > 20, "the beginning is found again");
    });
}

#[test]
fn flushes_of_flushes_of_themselves_and_of_nothing_are_answered() {
    Attacked::each(|attacked| {
        let mut stream = attacked.attached(8192);
        let mut bytes = Vec::new();
        for tag in 1..500 {
            // Of itself, of the one before, of what is long gone, of what was never there.
            let oldtag = [tag, tag - 1, 1, 40_000][usize::from(tag) % 4];
            bytes.extend(encode(tag, &Tmessage::Tflush { oldtag }, &[]));
        }
        stream.write_all(&bytes).unwrap();
        for tag in 1..500_u16 {
            let reply = receive(&mut stream).unwrap();
            assert_eq!((reply[4], &reply[5..7]), (109, &tag.to_le_bytes()[..]));
        }
    });
}

/// As many flushes as there are tags, of a request that is not done: they are kept until it is, and no longer.
#[test]
fn flushes_in_masses_wait_for_their_victim() {
    let gate = Gated::default();
    let attacked = Attacked::of(|_| gate.clone());
    let mut stream = attacked.attached(8192);
    ask(&mut stream, 1, &walk(ROOT, 1, &[b"slow"])).unwrap();
    ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDWR }).unwrap();
    let read = Tmessage::Tread { fid: 1, offset: 0, count: 10 };
    const MOST: u16 = 60_000;
    for round in 0..3 {
        gate.hold();
        stream.write_all(&encode(0, &read, &[])).unwrap();
        gate.until_waiting(1);
        let flushes: Vec<_> = (1..=MOST)
            .flat_map(|tag| encode_short(tag, &Tmessage::Tflush { oldtag: if tag % 2 == 0 { 0 } else { tag - 1 } }))
            .collect();
        stream.write_all(&flushes).unwrap();
        // None of them may be answered first: what is asked behind them is, and it alone.
        let getattr = Tmessage::Tgetattr { fid: ROOT, request_mask: getattr::ALL };
        assert_eq!(ask(&mut stream, MOST + 1, &getattr).unwrap()[4], 25);
        gate.release();
        assert_eq!(receive(&mut stream).unwrap()[4], 117, "round {round}");
        for tag in 1..=MOST {
            let reply = receive(&mut stream).unwrap();
            assert_eq!((reply[4], &reply[5..7]), (109, &tag.to_le_bytes()[..]), "in their order");
        }
    }
}

/// Quicker than to make each of them in a buffer for the longest message.
fn encode_short(tag: u16, message: &Tmessage<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    let length = message.encode(tag, &mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

/// Who asks for much and takes nothing is not answered on, and costs the server no more than its share.
#[test]
fn who_takes_no_replies_has_a_share_of_memory_and_no_more() {
    const COUNT: u32 = 60_000;
    let share = 1 << 20;
    let limits = || Limits { memory: 64 << 20, memory_per_connection: Some(share), ..Limits::default() };
    for dir in [false, true] {
        let attacked = match dir {
            false => Attacked::with(|_| MemBackend::default(), ServerOptions::default(), limits()),
            true => Attacked::with(hostile_support::dir_backend, ServerOptions::default(), limits()),
        };
        attacked.client().make("", "a", &vec![7; COUNT as usize]);
        let mut greedy: Vec<_> = (0..8)
            .map(|_| {
                let mut stream = attacked.attached(65_536);
                ask(&mut stream, 1, &walk(ROOT, 1, &[b"a"])).unwrap();
                ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDONLY }).unwrap();
                let read = |tag| encode(tag, &Tmessage::Tread { fid: 1, offset: 0, count: COUNT }, &[]);
                stream.write_all(&(1..300).flat_map(read).collect::<Vec<_>>()).unwrap();
                stream
            })
            .collect();
        // All of them are asked for 18 MB. Meanwhile, and however far they are, others are served.
        for _ in 0..100 {
            attacked.bystander_is_served();
            // A request and its reply above the share are always allowed.
            let most = 9 * (share + 3 * 65_536 + (72 << 10));
            assert!(attacked.usage().memory <= most, "{:?}", attacked.usage());
        }
        let mut other = attacked.client();
        assert_eq!(other.contents("a").unwrap().len(), COUNT as usize);
        // Half of them takes it all in the end; the others go.
        greedy.truncate(4);
        thread::scope(|scope| {
            for mut stream in greedy.drain(..) {
                scope.spawn(move || {
                    for _ in 1..300 {
                        assert_eq!(receive(&mut stream).unwrap().len(), 11 + COUNT as usize);
                    }
                });
            }
        });
    }
}

/// A directory is listed while others make, rename and remove what is in it; nobody's listing breaks or never ends.
#[test]
fn listings_survive_what_others_do_meanwhile() {
    Attacked::each(|attacked| {
        let mut setup = attacked.client();
        for number in 0..100 {
            setup.mkdir("", &format!("stays{number}")).unwrap();
        }
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let mut client = attacked.client();
                for number in 0..300 {
                    let (name, new) = (format!("comes{number}"), format!("goes{number}"));
                    client.mkdir("", &name).unwrap();
                    client.rename("", &name, "", &new).unwrap();
                    client.unlink("", &new, ninering_wire::AT_REMOVEDIR).unwrap();
                }
            });
            let mut client = attacked.client();
            while !changing.is_finished() {
                let listed = client.list("", 1000).unwrap();
                let staying = listed.iter().filter(|entry| entry.name.starts_with("stays")).count();
                assert_eq!(staying, 100, "what is not touched is listed once");
            }
        });
    });
}

#[test]
fn names_in_their_thousands_deep_are_reached_and_left() {
    Attacked::each(|attacked| {
        const DEPTH: usize = 640;
        let mut client = attacked.client();
        let name = [b'n'; 255];
        client.walk(ROOT, 1, &[]).unwrap();
        // Far longer than any path may be.
        for _ in 0..DEPTH {
            client.mkdir_in(1, &name, 0o755).unwrap();
            client.walk_bytes(1, 1, &[&name]).unwrap();
        }
        client.walk(1, 2, &[]).unwrap();
        client.lcreate(2, b"deep", RDWR, 0o644).unwrap();
        client.write(2, 0, b"contents").unwrap();
        // Steps down again, 16 at a time, and all the way up: the root is its own parent.
        client.walk(ROOT, 3, &[]).unwrap();
        for _ in 0..DEPTH / 16 {
            assert_eq!(client.walk_bytes(3, 3, &[&name; 16].map(|name| &name[..])).unwrap().len(), 16);
        }
        let root = client.getattr(ROOT).unwrap().qid.path;
        for fid in [1, 3] {
            for _ in 0..DEPTH / 16 + 3 {
                client
                    .done(&Tmessage::Twalk { fid, newfid: fid, names: Names::new(&[Str(b".."); 16]).unwrap() })
                    .unwrap();
            }
            assert_eq!(client.getattr(fid).unwrap().qid.path, root);
        }
        assert_eq!(client.read(2, 0, 100).unwrap(), b"contents");
        // The temporary directory is removed by who knows how: from below, one by one.
        client.clunk(2).unwrap();
        client.walk(ROOT, 4, &[]).unwrap();
        let mut left = DEPTH;
        while left > 0 {
            let step = left.min(16);
            client.walk_bytes(4, 4, &vec![&name[..]; step]).unwrap();
            left -= step;
        }
        client.done(&Tmessage::Tunlinkat { dirfid: 4, name: Str(b"deep"), flags: 0 }).unwrap();
        for _ in 0..DEPTH {
            client.walk(4, 4, &[".."]).unwrap();
            let unlink = Tmessage::Tunlinkat { dirfid: 4, name: Str(&name), flags: ninering_wire::AT_REMOVEDIR };
            client.done(&unlink).unwrap();
        }
        assert!(client.names("").is_empty());
    });
}

/// Requests for a file that takes its time keep nobody from another, nor from the same one's attributes.
#[test]
fn slow_files_hold_up_nobody_else() {
    let gate = Gated::default();
    let attacked = Attacked::of(|_| gate.clone());
    let slow: Vec<_> = (0..6)
        .map(|_| {
            let mut stream = attacked.attached(8192);
            ask(&mut stream, 1, &walk(ROOT, 1, &[b"slow"])).unwrap();
            ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDWR }).unwrap();
            let read = |tag| encode(tag, &Tmessage::Tread { fid: 1, offset: 0, count: 10 }, &[]);
            stream.write_all(&(1..=64).flat_map(read).collect::<Vec<_>>()).unwrap();
            stream
        })
        .collect();
    gate.until_waiting(6 * 64);
    let mut stream = attacked.attached(8192);
    ask(&mut stream, 1, &walk(ROOT, 1, &[b"fast"])).unwrap();
    ask(&mut stream, 1, &Tmessage::Tlopen { fid: 1, flags: RDWR }).unwrap();
    assert_eq!(ask(&mut stream, 1, &Tmessage::Tread { fid: 1, offset: 0, count: 10 }).unwrap().len(), 21);
    drop(slow);
    gate.release();
    drop(stream);
    until(|| gate.open_files() == 0);
}

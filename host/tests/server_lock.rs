//! Byte-range locks: `Tlock` and `Tgetlock`, of every backend. Those that are waited for are in `listener_locks.rs`.

mod common;

use std::os::fd::AsRawFd;

use common::{Client, Export, ROOT, encode};
use ninering::backend::{DirBackend, DirOptions, MemBackend};
use ninering_wire::{
    Errno, Frame,
    LockStatus::{Blocked, Success},
    LockType::{Read as Shared, Unlock, Write as Exclusive},
    Rmessage, Tmessage,
    lock::{FLAGS_BLOCK, FLAGS_RECLAIM},
    lopen::{RDONLY, RDWR, WRONLY},
};

/// Makes a test of each behaviour for each backend.
macro_rules! lock_behaviours {
    ($($behaviour:ident)*) => {
        mod mem {
            $(#[test]
            fn $behaviour() {
                super::$behaviour(&super::Export::called(super::MemBackend::default(), ()));
            })*
        }

        mod dir {
            $(#[test]
            fn $behaviour() {
                let (backend, directory) = super::directory();
                super::$behaviour(&super::Export::called(backend, directory));
            })*
        }

        #[cfg(feature = "mount")]
        mod relay {
            $(#[test]
            fn $behaviour() {
                let (relay, guard) = super::common::relayed::relayed(super::MemBackend::default());
                super::$behaviour(&super::Export::called(relay, guard));
            })*
        }
    };
}

lock_behaviours! {
    sessions_exclude_each_other
    shared_locks_are_shared
    ranges_are_bytes
    locks_are_split_and_merged
    a_process_is_not_in_its_own_way
    processes_that_share_a_fid_exclude_each_other
    locks_are_changed_in_place
    a_shared_lock_moves_to_where_it_can_become_exclusive
    clunking_gives_locks_back
    removing_gives_locks_back
    the_end_of_a_session_gives_locks_back
    who_has_a_lock
    what_cannot_be_locked
    a_file_is_locked_by_all_its_names
    locks_live_on_after_unlink
}

fn directory() -> (DirBackend, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a directory");
    (backend, directory)
}

const WHOLE: (u64, u64) = (0, 0);

/// Two clients, each with the file `file` open to be read and written.
fn two(export: &Export) -> ((Client, u32), (Client, u32)) {
    let (mut one, mut other) = (export.client(), export.client());
    one.make("", "file", b"contents");
    let fids = (one.open("file", RDWR).unwrap(), other.open("file", RDWR).unwrap());
    ((one, fids.0), (other, fids.1))
}

fn sessions_exclude_each_other(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    assert_eq!(one.lock(file, Exclusive, WHOLE).unwrap(), Success);
    // Though its process calls itself the same.
    assert_eq!(other.lock(its, Exclusive, WHOLE).unwrap(), Blocked);
    assert_eq!(other.lock(its, Shared, (100, 1)).unwrap(), Blocked);
    assert_eq!(other.lock(its, Unlock, WHOLE).unwrap(), Success, "there is nothing to give back");
    assert_eq!(other.lock(its, Exclusive, WHOLE).unwrap(), Blocked);
    assert_eq!(one.lock(file, Unlock, WHOLE).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, WHOLE).unwrap(), Success);
    assert_eq!(one.lock(file, Shared, WHOLE).unwrap(), Blocked);
}

fn shared_locks_are_shared(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    assert_eq!(one.lock(file, Shared, WHOLE).unwrap(), Success);
    assert_eq!(other.lock(its, Shared, WHOLE).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (5, 5)).unwrap(), Blocked);
    assert_eq!(one.lock(file, Unlock, (0, 10)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (5, 5)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (5, 6)).unwrap(), Blocked);
}

fn ranges_are_bytes(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    assert_eq!(one.lock(file, Exclusive, (10, 10)).unwrap(), Success);
    for (range, status) in [
        ((0, 10), Success),
        ((20, 0), Success),
        ((0, 11), Blocked),
        ((19, 1), Blocked),
        ((19, 0), Blocked),
        ((0, 0), Blocked),
        ((12, 2), Blocked),
    ] {
        assert_eq!(other.lock(its, Exclusive, range).unwrap(), status, "{range:?}");
        assert_eq!(other.lock(its, Unlock, WHOLE).unwrap(), Success);
    }
    let largest = i64::MAX as u64;
    assert_eq!(one.lock(file, Exclusive, (largest, 1)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (20, largest - 20)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (20, largest - 19)).unwrap(), Blocked);
    for (range, error) in [
        ((largest, 2), Errno::EOVERFLOW),
        ((1, u64::MAX), Errno::EOVERFLOW),
        ((largest + 1, 1), Errno::EINVAL),
        ((u64::MAX, 0), Errno::EINVAL),
        ((u64::MAX, u64::MAX), Errno::EINVAL),
    ] {
        assert_eq!(other.lock(its, Shared, range).unwrap_err(), error, "{range:?}");
        assert_eq!(other.getlock(1, its, Shared, range).unwrap_err(), error, "{range:?}");
    }
}

fn locks_are_split_and_merged(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    assert_eq!(one.lock(file, Exclusive, (0, 100)).unwrap(), Success);
    assert_eq!(one.lock(file, Unlock, (40, 20)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (40, 20)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (39, 1)).unwrap(), Blocked);
    assert_eq!(other.lock(its, Exclusive, (60, 1)).unwrap(), Blocked);
    assert_eq!(other.lock(its, Unlock, WHOLE).unwrap(), Success);
    assert_eq!(one.lock(file, Shared, (20, 60)).unwrap(), Success);
    assert_eq!(other.lock(its, Shared, (20, 60)).unwrap(), Success);
    assert_eq!(other.getlock(9, its, Shared, WHOLE).unwrap().1, (0, 20));
    assert_eq!(one.lock(file, Exclusive, (20, 60)).unwrap(), Blocked);
    assert_eq!(other.lock(its, Unlock, WHOLE).unwrap(), Success);
    assert_eq!(one.lock(file, Exclusive, (20, 60)).unwrap(), Success);
    assert_eq!(other.getlock(9, its, Shared, WHOLE).unwrap().1, (0, 100), "it is one again");
}

/// As `fcntl(2)` has it, and Linux's client relies on: what two open files of a process lock is the process's.
fn a_process_is_not_in_its_own_way(export: &Export) {
    let ((mut client, first), (mut other, its)) = two(export);
    let second = client.open("file", RDWR).unwrap();
    assert_eq!(client.lock(first, Exclusive, (0, 10)).unwrap(), Success);
    assert_eq!(client.lock(second, Exclusive, (5, 10)).unwrap(), Success);
    assert_eq!(client.lock(second, Unlock, (0, 5)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (0, 5)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (5, 1)).unwrap(), Blocked);
    // What a process has locked by one fid stays when another is clunked.
    assert_eq!(client.lock(first, Exclusive, (50, 10)).unwrap(), Success);
    client.clunk(second).unwrap();
    assert_eq!(other.lock(its, Exclusive, (5, 10)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (50, 10)).unwrap(), Blocked);
    // Also when that is the fid that it began with.
    let third = client.open("file", RDWR).unwrap();
    assert_eq!(client.lock(third, Exclusive, (70, 10)).unwrap(), Success);
    client.clunk(first).unwrap();
    assert_eq!(other.lock(its, Exclusive, (50, 10)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (70, 10)).unwrap(), Blocked);
    client.clunk(third).unwrap();
    assert_eq!(other.lock(its, Exclusive, WHOLE).unwrap(), Success);
}

fn processes_that_share_a_fid_exclude_each_other(export: &Export) {
    let mut client = export.client();
    client.make("", "file", b"contents");
    let file = client.open("file", RDWR).unwrap();
    let (parent, child) = (("host", 100), ("host", 101));
    assert_eq!(client.lock_as(parent, file, Exclusive, (0, 10)).unwrap(), Success);
    assert_eq!(client.lock_as(child, file, Exclusive, (5, 1)).unwrap(), Blocked);
    assert_eq!(client.lock_as(("elsewhere", 100), file, Exclusive, (5, 1)).unwrap(), Blocked);
    assert_eq!(client.lock_as(child, file, Exclusive, (10, 10)).unwrap(), Success);
    // As when the child closes what it has inherited.
    assert_eq!(client.lock_as(child, file, Unlock, WHOLE).unwrap(), Success);
    assert_eq!(client.lock_as(child, file, Exclusive, (5, 1)).unwrap(), Blocked);
    assert_eq!(client.lock_as(parent, file, Unlock, WHOLE).unwrap(), Success);
    assert_eq!(client.lock_as(child, file, Exclusive, (0, 20)).unwrap(), Success);
}

fn locks_are_changed_in_place(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    assert_eq!(one.lock(file, Shared, WHOLE).unwrap(), Success);
    assert_eq!(one.lock(file, Exclusive, WHOLE).unwrap(), Success);
    assert_eq!(other.lock(its, Shared, WHOLE).unwrap(), Blocked);
    assert_eq!(one.lock(file, Shared, WHOLE).unwrap(), Success);
    assert_eq!(other.lock(its, Shared, WHOLE).unwrap(), Success);
    assert_eq!(one.lock(file, Exclusive, WHOLE).unwrap(), Blocked);
    assert_eq!(other.lock(its, Exclusive, WHOLE).unwrap(), Blocked, "what one had stays");
}

fn a_shared_lock_moves_to_where_it_can_become_exclusive(export: &Export) {
    let ((mut client, writing), (mut other, its)) = two(export);
    let reading = client.open("file", RDONLY).unwrap();
    assert_eq!(client.lock(reading, Shared, (0, 10)).unwrap(), Success);
    assert_eq!(client.lock(writing, Exclusive, (5, 10)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (0, 1)).unwrap(), Blocked);
    assert_eq!(other.lock(its, Shared, (0, 5)).unwrap(), Success);
    assert_eq!(other.lock(its, Shared, (5, 1)).unwrap(), Blocked);
    client.clunk(writing).unwrap();
    assert_eq!(other.lock(its, Shared, (5, 10)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (0, 1)).unwrap(), Blocked);
    client.clunk(reading).unwrap();
    assert_eq!(other.lock(its, Exclusive, WHOLE).unwrap(), Success);
}

fn clunking_gives_locks_back(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    let clone = one.open("file", RDWR).unwrap();
    assert_eq!(one.lock(file, Exclusive, (0, 10)).unwrap(), Success);
    assert_eq!(one.lock_as(("client", 2), file, Shared, (20, 10)).unwrap(), Success);
    assert_eq!(one.lock_as(("client", 2), clone, Shared, (40, 10)).unwrap(), Success);
    one.clunk(file).unwrap();
    assert_eq!(other.lock(its, Exclusive, (0, 40)).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (40, 10)).unwrap(), Blocked);
}

fn removing_gives_locks_back(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    assert_eq!(one.lock(file, Exclusive, WHOLE).unwrap(), Success);
    one.done(&Tmessage::Tremove { fid: file }).unwrap();
    assert_eq!(other.lock(its, Exclusive, WHOLE).unwrap(), Success);
}

fn the_end_of_a_session_gives_locks_back(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    assert_eq!(one.lock(file, Exclusive, WHOLE).unwrap(), Success);
    one.version(8192).unwrap();
    assert_eq!(other.lock(its, Exclusive, WHOLE).unwrap(), Success);
    drop(other);
    one.attach(ROOT, "").unwrap();
    let file = one.open("file", RDWR).unwrap();
    assert_eq!(one.lock(file, Exclusive, WHOLE).unwrap(), Success);
}

fn who_has_a_lock(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    let nobody = |range, process| (Unlock, range, ("client".to_owned(), process));
    assert_eq!(other.getlock(7, its, Exclusive, (5, 6)).unwrap(), nobody((5, 6), 7));
    assert_eq!(one.lock_as(("one's host", 1234), file, Shared, (10, 10)).unwrap(), Success);
    assert_eq!(one.lock_as(("one's host", 1235), file, Exclusive, (30, 0)).unwrap(), Success);
    let shared = (Shared, (10, 10), ("one's host".to_owned(), 1234));
    let exclusive = (Exclusive, (30, 0), ("one's host".to_owned(), 1235));
    assert_eq!(other.getlock(7, its, Exclusive, (0, 15)).unwrap(), shared);
    // As Linux's client asks, whatever its process has asked for.
    assert_eq!(other.getlock(7, its, Unlock, (0, 15)).unwrap(), shared);
    assert_eq!(other.getlock(7, its, Shared, (0, 15)).unwrap(), nobody((0, 15), 7));
    assert_eq!(other.getlock(7, its, Shared, (0, 0)).unwrap(), exclusive);
    assert_eq!(other.getlock(7, its, Exclusive, (20, 10)).unwrap(), nobody((20, 10), 7));
    // One's own are not in the way, those of another process of one's own session are.
    assert_eq!(one.lock(file, Exclusive, (0, 10)).unwrap(), Success);
    assert_eq!(one.getlock(1, file, Exclusive, (0, 10)).unwrap(), nobody((0, 10), 1));
    assert_eq!(one.getlock(2, file, Exclusive, (0, 10)).unwrap(), (Exclusive, (0, 10), ("client".to_owned(), 1)));
    // To ask takes no lock.
    assert_eq!(one.lock(file, Unlock, WHOLE).unwrap(), Success);
    assert_eq!(other.lock(its, Exclusive, (0, 10)).unwrap(), Success);
}

fn what_cannot_be_locked(export: &Export) {
    let mut client = export.client();
    client.make("", "file", b"contents");
    client.mkdir("", "d").unwrap();
    let (unopened, directory) = (client.at("file").unwrap(), client.open("d", RDONLY).unwrap());
    let file = client.open("file", RDWR).unwrap();
    assert_eq!(client.lock(unopened, Shared, WHOLE).unwrap_err(), Errno::EBADF);
    assert_eq!(client.getlock(1, unopened, Shared, WHOLE).unwrap_err(), Errno::EBADF);
    assert_eq!(client.lock(directory, Shared, WHOLE).unwrap_err(), Errno::EOPNOTSUPP);
    assert_eq!(client.getlock(1, directory, Shared, WHOLE).unwrap_err(), Errno::EOPNOTSUPP);
    let long = "x".repeat(256);
    assert_eq!(client.lock_as((&long, 1), file, Shared, WHOLE).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.lock_as((&long[1..], 1), file, Shared, WHOLE).unwrap(), Success);
    for flags in [4, u32::MAX] {
        let kind = Shared;
        let lock = Tmessage::Tlock { fid: file, kind, flags, start: 0, length: 0, proc_id: 1, client_id: "c".into() };
        assert_eq!(client.done(&lock).unwrap_err(), Errno::EINVAL);
    }
    for flags in [FLAGS_BLOCK, FLAGS_RECLAIM, FLAGS_BLOCK | FLAGS_RECLAIM] {
        let kind = Shared;
        let lock = Tmessage::Tlock { fid: file, kind, flags, start: 0, length: 0, proc_id: 1, client_id: "c".into() };
        client.done(&lock).unwrap();
    }
    // Kinds that there are none of are answered, and break nothing.
    let lock =
        Tmessage::Tlock { fid: file, kind: Shared, flags: 0, start: 0, length: 0, proc_id: 1, client_id: "c".into() };
    for kind in [3, 255] {
        let mut bytes = encode(5, &lock, &[]);
        bytes[11] = kind;
        let reply = client.transport.exchange(bytes);
        let message = Frame::<Rmessage<'_>>::decode(&reply).unwrap().message;
        assert_eq!(message, Rmessage::Rlerror { ecode: Errno::EINVAL.0 });
    }
    // Whoever may only read has a shared lock, and an exclusive one if the file may be opened to be written: what
    // Linux's client sends for `flock(2)`, which does not ask how it is open.
    let (reading, writing) = (client.open("file", RDONLY).unwrap(), client.open("file", WRONLY).unwrap());
    for (proc_id, (fid, kind)) in [(reading, Shared), (reading, Exclusive), (writing, Exclusive)].iter().enumerate() {
        let (owner, range) = (("c", proc_id as u32), (100 * (proc_id as u64 + 1), 10));
        assert_eq!(client.lock_as(("c", 1), file, Unlock, WHOLE).unwrap(), Success);
        client.lock_as((&long[1..], 1), file, Unlock, WHOLE).unwrap();
        assert_eq!(client.lock_as(owner, *fid, *kind, range).unwrap(), Success, "{proc_id}");
    }
}

fn a_file_is_locked_by_all_its_names(export: &Export) {
    let ((mut one, file), (mut other, _)) = two(export);
    one.link("file", "", "link").unwrap();
    one.rename("", "file", "", "renamed").unwrap();
    let link = other.open("link", RDWR).unwrap();
    assert_eq!(one.lock(file, Exclusive, WHOLE).unwrap(), Success);
    assert_eq!(other.lock(link, Shared, WHOLE).unwrap(), Blocked);
    one.make("", "file", b"another");
    let another = other.open("file", RDWR).unwrap();
    assert_eq!(other.lock(another, Exclusive, WHOLE).unwrap(), Success);
}

fn locks_live_on_after_unlink(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    assert_eq!(one.lock(file, Exclusive, (0, 1)).unwrap(), Success);
    one.unlink("", "file", 0).unwrap();
    assert_eq!(other.lock(its, Exclusive, (0, 1)).unwrap(), Blocked);
    assert_eq!(other.lock(its, Exclusive, (1, 1)).unwrap(), Success);
    assert_eq!(other.getlock(1, its, Exclusive, WHOLE).unwrap().2.1, 1);
    one.clunk(file).unwrap();
    assert_eq!(other.lock(its, Exclusive, (0, 1)).unwrap(), Success);
}

/// Those of a relay's clients are all of one session of the server that it relays, whose limit they share.
#[test]
fn locks_are_limited_in_memory_and_in_a_directory() {
    locks_are_limited(&Export::called(MemBackend::default(), ()));
    let (backend, directory) = directory();
    locks_are_limited(&Export::called(backend, directory));
}

fn locks_are_limited(export: &Export) {
    let ((mut one, file), (mut other, its)) = two(export);
    let fill = |client: &mut Client, fid| {
        let refused = (0..2000).find(|number| match client.lock(fid, Exclusive, (2 * number, 1)) {
            Ok(status) => status != Success,
            Err(error) => {
                assert_eq!(error, Errno::ENOLCK);
                true
            }
        });
        refused.expect("there is a limit")
    };
    assert_eq!(fill(&mut one, file), 1024);
    assert_eq!(other.lock(its, Exclusive, (40_000, 1)).unwrap(), Success, "others have their own limit");
    for number in 0..16 {
        let another = one.create("", &format!("another {number}"), RDWR, 0o644).unwrap();
        assert_eq!(fill(&mut one, another), if number < 15 { 1024 } else { 0 });
    }
    assert_eq!(one.lock(file, Unlock, WHOLE).unwrap(), Success);
    assert_eq!(one.lock(file, Exclusive, (0, 10)).unwrap(), Success);
    // Each process more that locks by one fid takes an open file.
    let processes = (2..1000).take_while(|process| match one.lock_as(("c", *process), file, Shared, (100, 1)) {
        Ok(status) => status == Success,
        Err(error) => {
            assert_eq!(error, Errno::ENOLCK);
            false
        }
    });
    assert_eq!(processes.count(), 256);
    assert_eq!(one.lock_as(("c", 2), file, Unlock, WHOLE).unwrap(), Success);
    assert_eq!(one.lock_as(("c", 1000), file, Shared, (100, 1)).unwrap(), Success);
}

#[test]
fn locks_exclude_processes_of_this_machine() {
    let (backend, directory) = directory();
    let path = directory.path().join("file");
    let export = Export::called(backend, directory);
    let ((mut client, file), _) = two(&export);
    let own = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut lock =
        libc::flock { l_type: libc::F_WRLCK as _, l_whence: libc::SEEK_SET as _, l_start: 10, l_len: 10, l_pid: 0 };
    // SAFETY: the command reads and writes a `struct flock`.
    let mut control = |command| unsafe { libc::fcntl(own.as_raw_fd(), command, &raw mut lock) };
    assert_eq!(control(libc::F_OFD_SETLK), 0);
    assert_eq!(client.lock(file, Shared, (0, 11)).unwrap(), Blocked);
    assert_eq!(client.getlock(1, file, Shared, (0, 11)).unwrap(), (Exclusive, (10, 10), (String::new(), 0)));
    assert_eq!(client.lock(file, Exclusive, (0, 10)).unwrap(), Success);
    drop(own);
    assert_eq!(client.lock(file, Exclusive, (10, 10)).unwrap(), Success);
    let own = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: as above.
    let taken = unsafe { libc::fcntl(own.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
    assert_eq!(taken, -1);
    client.clunk(file).unwrap();
    // SAFETY: as above.
    let taken = unsafe { libc::fcntl(own.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
    assert_eq!(taken, 0);
}

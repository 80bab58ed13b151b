//! Listings of a directory's export: complete, each entry once, to be resumed anywhere.

mod dir_support;

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    os::unix::{fs::MetadataExt, net::UnixListener},
    sync::atomic::{AtomicBool, Ordering},
};

use dir_support::*;
use ninering::backend::NodeRef;
use ninering_wire::{Errno, QidType, dirent_type, lopen, mode};

/// An export with `count` files of numbered names.
fn crowded(count: usize) -> Export {
    let export = Export::new();
    for number in 0..count {
        fs::File::create(export.path(format!("entry-{number:05}"))).unwrap();
    }
    export
}

/// All entries of `directory`, asked for `most` at a time.
fn list_by(directory: &NodeRef, most: usize) -> Vec<Listed> {
    let open = directory.open(lopen::RDONLY).unwrap();
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let part = list(&*open, all.last().map_or(0, |entry| entry.offset), most).unwrap();
        if part.is_empty() {
            return all;
        }
        all.extend(part);
    }
}

#[test]
fn ten_thousand_entries_are_listed_once_each_however_they_are_asked_for() {
    let export = crowded(10_000);
    let whole = list_by(&export.root, usize::MAX);
    assert_eq!(whole.len(), 10_002);
    assert_eq!(whole.iter().map(|entry| &entry.name).collect::<BTreeSet<_>>().len(), 10_002);
    for most in [1, 7, 1000] {
        assert_eq!(list_by(&export.root, most), whole);
    }
}

#[test]
fn a_listing_goes_on_from_any_offset_in_any_order() {
    let export = crowded(3_000);
    let open = export.root.open(lopen::RDONLY).unwrap();
    let whole = list(&*open, 0, usize::MAX).unwrap();
    let fresh = export.root.open(lopen::RDONLY).unwrap();
    for index in (0..whole.len()).step_by(37).rev().chain([0, 1, 2999, 5, 3001]) {
        for open in [&open, &fresh] {
            let rest = list(&**open, whole[index].offset, 5).unwrap();
            assert_eq!(rest, whole[index + 1..][..rest.len()], "behind entry {index}");
            assert_eq!(rest.len(), 5.min(whole.len() - index - 1), "behind entry {index}");
        }
    }
}

#[test]
fn what_stays_is_listed_once_while_others_come_and_go() {
    let export = crowded(10_000);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Every second entry goes, and as many come.
            for number in (0..10_000).step_by(2) {
                fs::remove_file(export.path(format!("entry-{number:05}"))).unwrap();
                fs::File::create(export.path(format!("new-{number:05}"))).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) || rounds == 0 {
            let mut seen = HashSet::new();
            for entry in list_by(&export.root, 100) {
                assert!(seen.insert(entry.name.clone()), "{} is there twice", entry.name.escape_ascii());
            }
            for number in (1..10_000).step_by(2) {
                assert!(seen.contains(format!("entry-{number:05}").as_bytes()), "{number} is missing");
            }
            rounds += 1;
        }
    });
}

#[test]
fn everything_can_be_removed_while_it_is_listed() {
    let export = crowded(3_000);
    let open = export.root.open(lopen::RDONLY).unwrap();
    let mut offset = 0;
    loop {
        let part = list(&*open, offset, 50).unwrap();
        let Some(last) = part.last() else { break };
        offset = last.offset;
        for entry in part.iter().filter(|entry| entry.kind == dirent_type::REG) {
            export.root.unlink(name(&entry.name), false).unwrap();
        }
    }
    assert_eq!(fs::read_dir(export.path("")).unwrap().count(), 0);
}

#[test]
fn from_the_beginning_means_anew() {
    let export = Export::new();
    export.file("old", "");
    let open = export.root.open(lopen::RDONLY).unwrap();
    assert_eq!(names(&*open), ["old"]);
    export.file("new", "");
    fs::remove_file(export.path("old")).unwrap();
    assert_eq!(names(&*open), ["new"]);
    // Also where nothing was taken of what the first time gave.
    open.read_directory(0, &mut |_| false).unwrap();
    export.file("newer", "");
    assert_eq!(names(&*open), ["new", "newer"]);
}

#[test]
fn an_entry_that_was_refused_comes_again() {
    let export = crowded(10);
    let open = export.root.open(lopen::RDONLY).unwrap();
    let first = list(&*open, 0, 4).unwrap();
    open.read_directory(first[3].offset, &mut |_| false).unwrap();
    let rest = list(&*open, first[3].offset, usize::MAX).unwrap();
    assert_eq!(first.len() + rest.len(), 12);
    assert_eq!(list(&*open, 0, usize::MAX).unwrap(), [first, rest].concat());
}

#[test]
fn threads_share_an_open_directory() {
    let export = crowded(2_000);
    let open = export.root.open(lopen::RDONLY).unwrap();
    let whole = list(&*open, 0, usize::MAX).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (open, whole) = (&open, &whole);
            scope.spawn(move || {
                for index in (thread..whole.len() - 8).step_by(13) {
                    assert_eq!(list(&**open, whole[index].offset, 7).unwrap(), whole[index + 1..index + 8]);
                }
            });
        }
    });
}

#[test]
fn entries_tell_kind_and_identity() {
    let export = Export::new();
    export.file("file", "");
    export.directory("directory");
    export.symlink("missing", "link");
    export.root.make_node(name("fifo"), mode::IFIFO | 0o600, (0, 0), !0).unwrap();
    let _socket = UnixListener::bind(export.path("socket")).unwrap();
    let expected = [
        ("file", dirent_type::REG, QidType::FILE),
        ("directory", dirent_type::DIR, QidType::DIR),
        ("link", dirent_type::LNK, QidType::SYMLINK),
        ("fifo", dirent_type::FIFO, QidType::FILE),
        ("socket", dirent_type::SOCK, QidType::FILE),
        (".", dirent_type::DIR, QidType::DIR),
        ("..", dirent_type::DIR, QidType::DIR),
    ];
    let listed = list_by(&export.root, usize::MAX);
    assert_eq!(listed.len(), expected.len());
    for (path, kind, qid_type) in expected {
        let entry = listed.iter().find(|entry| entry.name == path.as_bytes()).unwrap();
        assert_eq!((entry.kind, entry.qid.kind), (kind, qid_type), "{path}");
        let host = if path == ".." { "." } else { path };
        assert_eq!(entry.qid.path, fs::symlink_metadata(export.path(host)).unwrap().ino(), "{path}");
    }
}

#[test]
fn directories_are_opened_to_be_read() {
    let export = Export::new();
    for flags in [lopen::WRONLY, lopen::RDWR, lopen::RDONLY | lopen::TRUNC] {
        assert_eq!(export.root.open(flags).err(), Some(Errno::EISDIR));
    }
    let open = export.root.open(lopen::RDONLY | lopen::DIRECTORY | lopen::NONBLOCK | lopen::APPEND).unwrap();
    assert_eq!(read_at(&*open, 0, 1), Err(Errno::EISDIR));
    assert_eq!(write_at(&*open, 0, "x"), Err(Errno::EISDIR));
    open.sync(false).unwrap();
    open.sync(true).unwrap();
}

#[test]
fn offsets_that_are_none_are_no_danger() {
    let export = crowded(100);
    let open = export.root.open(lopen::RDONLY).unwrap();
    // What stands there is the filesystem's affair; that an answer comes, and the next one is right, is ours.
    for offset in [1, 2, 12345, i64::MAX as u64, u64::MAX] {
        let _ = list(&*open, offset, 10);
    }
    assert_eq!(list(&*open, u64::MAX, 10).err(), Some(Errno::EINVAL));
    assert_eq!(names(&*open).len(), 100);
}

//! Regular files of a directory's export: their contents, and what becomes of them under other names or none.

mod dir_support;

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
};

use dir_support::*;
use ninering::payload::Payload;
use ninering_wire::{Errno, Name, Qid, SetAttributes, lopen, mode, setattr};

#[test]
fn work_goes_on_after_unlink() {
    let export = Export::new();
    let (node, file) = export.root.create(name("file"), lopen::RDWR, 0o600, !0).unwrap();
    write_at(&*file, 0, "before").unwrap();
    let other = export.root.lookup(name("file")).unwrap();
    export.root.unlink(name("file"), false).unwrap();
    assert_eq!(export.root.lookup(name("file")).err(), Some(Errno::ENOENT));

    write_at(&*file, 6, " after").unwrap();
    assert_eq!(read_at(&*file, 0, 100).unwrap(), b"before after");
    file.sync(false).unwrap();
    // Without an open file too: the client may hold a fid that it hasn't opened yet.
    drop(file);
    for node in [node, other] {
        assert_eq!(contents(&node).unwrap(), b"before after");
        assert_eq!(node.attributes(!0).unwrap().nlink, 0);
        let valid = setattr::MODE | setattr::MTIME | setattr::MTIME_SET;
        node.set_attributes(&SetAttributes { mode: 0o640, mtime_sec: 5, ..change(valid) }).unwrap();
        node.set_attributes(&SetAttributes { size: 12, ..change(setattr::SIZE) }).unwrap();
        let attributes = node.attributes(!0).unwrap();
        assert_eq!((attributes.mode, attributes.size), (mode::IFREG | 0o640, 12));
        assert_eq!(export.root.link(name("again"), &*node), Err(Errno::ENOENT));
    }
}

#[test]
fn an_unlinked_directory_is_empty_and_stays_so() {
    let export = Export::new();
    export.root.make_directory(name("directory"), 0o755, !0).unwrap();
    let directory = export.root.lookup(name("directory")).unwrap();
    let open = directory.open(lopen::RDONLY).unwrap();
    export.root.unlink(name("directory"), true).unwrap();
    assert_eq!(directory.lookup(name("x")).err(), Some(Errno::ENOENT));
    assert_eq!(directory.create(name("x"), lopen::RDWR, 0o600, !0).err(), Some(Errno::ENOENT));
    assert_eq!(list(&*open, 0, usize::MAX).err(), Some(Errno::ENOENT));
    assert_eq!(directory.attributes(!0).unwrap().qid.path, directory.qid().path);
}

#[test]
fn work_goes_on_after_rename() {
    let export = Export::new();
    export.directory("directory");
    export.file("file", "contents");
    let node = export.root.lookup(name("file")).unwrap();
    let file = node.open(lopen::RDWR).unwrap();
    let directory = export.root.lookup(name("directory")).unwrap();
    export.root.rename(name("file"), &*directory, name("moved")).unwrap();

    write_at(&*file, 0, "C").unwrap();
    assert_eq!(contents(&node).unwrap(), b"Contents");
    assert_eq!(fs::read(export.path("directory/moved")).unwrap(), b"Contents");
    assert_eq!(directory.lookup(name("moved")).unwrap().qid().path, node.qid().path);
}

#[test]
fn a_replaced_file_stays_the_one_that_was_looked_up() {
    let export = Export::new();
    export.file("file", "old");
    export.file("new", "new");
    let node = export.root.lookup(name("file")).unwrap();
    export.root.rename(name("new"), &*export.root, name("file")).unwrap();
    assert_eq!(contents(&node).unwrap(), b"old");
    let now = export.root.lookup(name("file")).unwrap();
    assert_eq!(contents(&now).unwrap(), b"new");
    assert_ne!(now.qid().path, node.qid().path);
}

#[test]
fn rename_replaces_only_what_it_may() {
    let export = Export::new();
    fs::create_dir_all(export.path("full/child")).unwrap();
    export.directory("empty");
    export.file("file", "");
    let root = &export.root;
    let rename = |from: &str, to: &str| root.rename(name(from), &**root, name(to));
    assert_eq!(rename("empty", "full"), Err(Errno::ENOTEMPTY));
    assert_eq!(rename("file", "empty"), Err(Errno::EISDIR));
    assert_eq!(rename("empty", "file"), Err(Errno::ENOTDIR));
    assert_eq!(rename("missing", "new"), Err(Errno::ENOENT));
    let child = walk(root, "full/child").unwrap();
    assert_eq!(root.rename(name("full"), &*child, name("loop")), Err(Errno::EINVAL));
    assert_eq!(root.rename(name("file"), &*root.lookup(name("file")).unwrap(), name("x")), Err(Errno::ENOTDIR));
    rename("full", "empty").unwrap();
    assert!(export.path("empty/child").exists() && !export.path("full").exists());
}

#[test]
fn unlink_tells_directories_from_files() {
    let export = Export::new();
    fs::create_dir_all(export.path("full/child")).unwrap();
    export.file("file", "");
    assert_eq!(export.root.unlink(name("full"), false), Err(Errno::EISDIR));
    assert_eq!(export.root.unlink(name("full"), true), Err(Errno::ENOTEMPTY));
    assert_eq!(export.root.unlink(name("file"), true), Err(Errno::ENOTDIR));
    assert_eq!(export.root.unlink(name("missing"), false), Err(Errno::ENOENT));
    export.root.unlink(name("file"), false).unwrap();
    walk(&export.root, "full").unwrap().unlink(name("child"), true).unwrap();
    export.root.unlink(name("full"), true).unwrap();
    assert_eq!(fs::read_dir(export.path("")).unwrap().count(), 0);
}

#[test]
fn a_hard_link_is_the_same_file() {
    let export = Export::new();
    export.file("file", "contents");
    export.directory("directory");
    let file = export.root.lookup(name("file")).unwrap();
    let directory = export.root.lookup(name("directory")).unwrap();
    directory.link(name("second"), &*file).unwrap();
    let second = directory.lookup(name("second")).unwrap();
    assert_eq!(second.qid().path, file.qid().path);
    assert_eq!(second.attributes(!0).unwrap().nlink, 2);
    assert_eq!(directory.link(name("second"), &*file), Err(Errno::EEXIST));
    assert_eq!(export.root.link(name("loop"), &*directory), Err(Errno::EPERM));
    assert_eq!(file.link(name("x"), &*second), Err(Errno::ENOTDIR));
}

#[test]
fn create_opens_what_is_there_unless_told_not_to() {
    let export = Export::new();
    export.file("file", "contents");
    export.directory("directory");
    let (node, file) = export.root.create(name("file"), lopen::RDONLY | lopen::CREATE, 0o600, !0).unwrap();
    assert_eq!(read_at(&*file, 0, 100).unwrap(), b"contents");
    assert_eq!(node.qid().path, fs::metadata(export.path("file")).unwrap().ino());
    export.root.create(name("file"), lopen::WRONLY | lopen::TRUNC, 0o600, !0).unwrap();
    assert_eq!(node.attributes(!0).unwrap().size, 0);
    assert_eq!(export.root.create(name("file"), lopen::RDWR | lopen::EXCL, 0o600, !0).err(), Some(Errno::EEXIST));
    assert_eq!(export.root.create(name("directory"), lopen::RDWR, 0o600, !0).err(), Some(Errno::EISDIR));
    assert_eq!(export.root.create(name("x"), lopen::DIRECTORY, 0o600, !0).err(), Some(Errno::EINVAL));
    assert_eq!(node.create(name("x"), lopen::RDWR, 0o600, !0).err(), Some(Errno::ENOTDIR));
}

#[test]
fn a_new_file_can_be_written_whatever_its_mode() {
    let export = Export::new();
    let (node, file) = export.root.create(name("file"), lopen::RDWR, 0, !0).unwrap();
    assert_eq!(write_at(&*file, 0, "x"), Ok(1));
    assert_eq!(node.attributes(!0).unwrap().mode, mode::IFREG);
    assert_eq!(node.qid(), Qid { version: node.qid().version, ..export.root.lookup(name("file")).unwrap().qid() });
}

#[test]
fn an_open_file_does_what_it_was_opened_for() {
    let export = Export::new();
    export.file("file", "contents");
    let node = export.root.lookup(name("file")).unwrap();
    let reader = node.open(lopen::RDONLY).unwrap();
    let writer = node.open(lopen::WRONLY).unwrap();
    assert_eq!(write_at(&*reader, 0, "x"), Err(Errno::EBADF));
    assert_eq!(read_at(&*writer, 0, 1), Err(Errno::EBADF));
    assert_eq!(reader.read_directory(0, &mut |_| true), Err(Errno::ENOTDIR));
    assert_eq!(node.open(lopen::ACCMODE).err(), Some(Errno::EINVAL));
    assert_eq!(node.open(lopen::RDONLY | lopen::DIRECTORY).err(), Some(Errno::ENOTDIR));
    assert_eq!(contents(&node).unwrap(), b"contents");
    node.open(lopen::WRONLY | lopen::TRUNC).unwrap();
    assert_eq!(contents(&node).unwrap(), b"");
}

#[test]
fn flags_about_the_clients_side_do_no_harm() {
    let export = Export::new();
    export.file("file", "contents");
    let node = export.root.lookup(name("file")).unwrap();
    let flags = lopen::RDWR | lopen::CREATE | lopen::EXCL | lopen::NOCTTY | lopen::NONBLOCK | lopen::FASYNC;
    let flags =
        flags | lopen::DIRECT | lopen::LARGEFILE | lopen::NOFOLLOW | lopen::CLOEXEC | lopen::DSYNC | lopen::SYNC;
    let file = node.open(flags).unwrap();
    // Neither memory, nor offset, nor length is aligned as O_DIRECT wants it.
    assert_eq!(read_at(&*file, 1, 3).unwrap(), b"ont");
    assert_eq!(write_at(&*file, 3, "!"), Ok(1));
}

#[test]
fn reads_end_where_the_file_does() {
    let export = Export::new();
    export.file("file", "contents");
    let file = export.root.lookup(name("file")).unwrap().open(lopen::RDONLY).unwrap();
    assert_eq!(read_at(&*file, 4, 100).unwrap(), b"ents");
    assert_eq!(read_at(&*file, 8, 100).unwrap(), b"");
    assert_eq!(read_at(&*file, 1 << 62, 100).unwrap(), b"");
    assert_eq!(read_at(&*file, 0, 0).unwrap(), b"");
    assert_eq!(read_at(&*file, u64::MAX, 1), Err(Errno::EINVAL));
}

#[test]
fn large_sparse_offsets_are_exact() {
    let export = Export::new();
    let (node, file) = export.root.create(name("sparse"), lopen::RDWR, 0o600, !0).unwrap();
    let far = (1 << 43) - 3;
    assert_eq!(write_at(&*file, far, "far"), Ok(3));
    assert_eq!(write_at(&*file, 1 << 32, "4G"), Ok(2));
    assert_eq!(read_at(&*file, far - 2, 100).unwrap(), b"\0\0far");
    assert_eq!(read_at(&*file, (1 << 32) - 1, 4).unwrap(), b"\x004G\0");
    let attributes = node.attributes(!0).unwrap();
    assert_eq!(attributes.size, 1 << 43);
    assert!(attributes.blocks < 1024, "{} blocks", attributes.blocks);
    assert_eq!(write_at(&*file, u64::MAX, "x"), Err(Errno::EINVAL));
    assert!(matches!(write_at(&*file, i64::MAX as u64 - 1, "xx"), Err(Errno::EFBIG | Errno::EINVAL)));
}

/// `bytes` in pieces of `size` bytes.
fn scattered(bytes: &mut [u8], size: usize) -> Payload<'_> {
    let mut payload = Payload::empty();
    for piece in bytes.chunks_mut(size) {
        payload.push(piece.into());
    }
    payload
}

#[test]
fn scattered_memory_is_filled_and_written_whole() {
    let export = Export::new();
    let (_, file) = export.root.create(name("file"), lopen::RDWR, 0o600, !0).unwrap();
    let mut bytes: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    let expected = bytes.clone();
    // 33,334 pieces: the kernel takes 1024 in a call.
    assert_eq!(file.write(7, &scattered(&mut bytes, 3)), Ok(100_000));
    assert_eq!(fs::read(export.path("file")).unwrap()[7..], expected);
    let mut bytes = vec![0; 100_100];
    assert_eq!(file.read(7, &scattered(&mut bytes, 5)), Ok(100_000));
    assert_eq!(bytes[..100_000], expected);
}

#[test]
fn appending_writers_lose_nothing() {
    const WRITERS: usize = 8;
    const RECORDS: usize = 200;
    let export = Export::new();
    export.file("log", "");
    let node = export.root.lookup(name("log")).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let file = node.open(lopen::WRONLY | lopen::APPEND).unwrap();
            scope.spawn(move || {
                for record in 0..RECORDS {
                    // The offset is the client's guess at the end, and does not count.
                    let line = format!("{writer} {record} {}\n", "x".repeat(record));
                    assert_eq!(write_at(&*file, 0, &line), Ok(line.len()));
                }
            });
        }
    });
    let mut next = [0; WRITERS];
    for line in fs::read_to_string(export.path("log")).unwrap().lines() {
        let mut words = line.split(' ');
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let (writer, record) = (number(), number());
        assert_eq!(words.next().unwrap().len(), record);
        assert_eq!(next[writer], record);
        next[writer] += 1;
    }
    assert_eq!(next, [RECORDS; WRITERS]);
}

#[test]
fn a_full_filesystem_takes_what_fits_and_says_so() {
    let export = Export::new();
    export.directory("small");
    let Some(_tmpfs) = Tmpfs::mount(export.path("small"), "a_full_filesystem_takes_what_fits_and_says_so") else {
        return;
    };
    let small = walk(&export.root, "small").unwrap();
    let (node, file) = small.create(name("file"), lopen::WRONLY, 0o600, !0).unwrap();
    let written = write_at(&*file, 0, vec![7; 1 << 20]).unwrap();
    assert!((4096..=65536).contains(&written), "{written} bytes");
    assert_eq!(write_at(&*file, written as u64, "x"), Err(Errno::ENOSPC));
    assert_eq!(node.attributes(!0).unwrap().size, written as u64);
    assert_eq!(fs::metadata(export.path("small/file")).unwrap().len(), written as u64);
    assert_eq!(small.statfs().unwrap().bfree, 0);
}

#[test]
fn names_are_any_bytes_up_to_255() {
    let export = Export::new();
    let longest = "n".repeat(255);
    assert_eq!(Name::new("n".repeat(256).as_bytes()), Err(Errno::ENAMETOOLONG));
    for bytes in [longest.as_bytes(), non_utf8().as_encoded_bytes(), b"...", b" ", b"-rf"] {
        let new = name(bytes);
        let (node, file) = export.root.create(new, lopen::RDWR, 0o600, !0).unwrap();
        write_at(&*file, 0, bytes).unwrap();
        assert_eq!(contents(&export.root.lookup(new).unwrap()).unwrap(), bytes);
        let listed = list(&*export.root.open(lopen::RDONLY).unwrap(), 0, usize::MAX).unwrap();
        assert_eq!(listed.iter().find(|entry| entry.name == bytes).unwrap().qid.path, node.qid().path);
        export.root.rename(new, &*export.root, name("renamed")).unwrap();
        export.root.rename(name("renamed"), &*export.root, new).unwrap();
        export.root.unlink(new, false).unwrap();
        export.root.make_directory(new, 0o700, !0).unwrap();
        export.root.unlink(new, true).unwrap();
        export.root.symlink(new, bytes, !0).unwrap();
        assert_eq!(export.root.lookup(new).unwrap().read_link().unwrap(), bytes);
    }
}

#[test]
fn paths_longer_than_the_kernel_takes_are_reached_step_by_step() {
    let export = Export::new();
    let step = "d".repeat(250);
    let mut directory = export.root.clone();
    for _ in 0..40 {
        directory.make_directory(name(&step), 0o700, !0).unwrap();
        directory = directory.lookup(name(&step)).unwrap();
    }
    let (_, file) = directory.create(name("deep"), lopen::RDWR, 0o600, !0).unwrap();
    write_at(&*file, 0, "x").unwrap();
    assert_eq!(contents(&directory.lookup(name("deep")).unwrap()).unwrap(), b"x");
    drop(file);
    directory.unlink(name("deep"), false).unwrap();
    while let Some(parent) = directory.parent().unwrap() {
        parent.unlink(name(&step), true).unwrap();
        directory = parent;
    }
}

#[test]
fn link_targets_are_told_whole() {
    let export = Export::new();
    for length in [1, 255, 256, 257, 4095] {
        let target = vec![b'/'; length];
        export.root.symlink(name("link"), &target, !0).unwrap();
        assert_eq!(export.root.lookup(name("link")).unwrap().read_link().unwrap(), target);
        export.root.unlink(name("link"), false).unwrap();
    }
    assert_eq!(export.root.symlink(name("link"), &[b'/'; 4096], !0), Err(Errno::ENAMETOOLONG));
    assert_eq!(export.root.symlink(name("link"), b"", !0), Err(Errno::ENOENT));
    assert_eq!(export.root.symlink(name("link"), b"nul\0", !0), Err(Errno::EINVAL));
    assert_eq!(export.root.read_link(), Err(Errno::EINVAL));
}

#[test]
fn what_was_written_reaches_the_host_and_the_other_way_round() {
    let export = Export::new();
    let (_, file) = export.root.create(name("file"), lopen::RDWR, 0o600, !0).unwrap();
    write_at(&*file, 0, "ours").unwrap();
    file.sync(true).unwrap();
    let host = fs::File::options().read(true).write(true).open(export.path("file")).unwrap();
    let mut bytes = [0; 4];
    host.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"ours");
    host.write_all_at(b"host", 0).unwrap();
    assert_eq!(read_at(&*file, 0, 4).unwrap(), b"host");
}

#[test]
fn what_is_cached_is_read_without_waiting_and_whole() {
    let export = Export::new();
    let contents: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    export.file("file", &contents);
    let node = export.root.lookup(name("file")).unwrap();
    let file = node.open(lopen::RDWR).unwrap();
    for (offset, length) in [(0, 100_000), (0, 200_000), (70_000, 50_000), (99_999, 5), (100_000, 5), (1 << 40, 5)] {
        let mut bytes = vec![0; length];
        // Not every filesystem can tell what is cached.
        let read = file.read_now(offset as u64, &Payload::from(&mut bytes[..])).unwrap();
        if let Some(count) = read {
            let expected = contents.get(offset..).unwrap_or_default();
            assert_eq!(&bytes[..count], &expected[..expected.len().min(length)]);
        }
    }
    let write_only = node.open(lopen::WRONLY).unwrap();
    assert_eq!(write_only.read_now(0, &Payload::from(&mut [0; 5][..])), Ok(None), "the error comes when it is read");
    assert_eq!(node.never_waits(), export.root.never_waits());
}

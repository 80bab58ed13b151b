//! Regular files: opening, reading, writing, syncing.

use ninering_wire::{
    Errno, SetAttributes, Tmessage,
    lopen::{APPEND, CREATE, DIRECTORY, EXCL, RDONLY, RDWR, TRUNC, WRONLY},
    mode, setattr,
};

use crate::common::{Export, ROOT, gid};

pub fn files_keep_what_is_written(export: &Export) {
    let mut client = export.client();
    let fid = client.create("", "a", RDWR, 0o640).unwrap();
    assert_eq!(client.write(fid, 0, b"hello world").unwrap(), 11);
    assert_eq!(client.write(fid, 6, b"there").unwrap(), 5);
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"hello there");
    assert_eq!(client.read(fid, 6, 3).unwrap(), b"the");
    let attributes = client.getattr(fid).unwrap();
    assert_eq!(attributes.mode, mode::IFREG | 0o640);
    assert_eq!((attributes.size, attributes.nlink), (11, 1));
    assert_eq!(attributes.gid, gid());
    client.clunk(fid).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"hello there");
}

pub fn reads_end_with_the_file(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"0123456789");
    let fid = client.open("a", RDONLY).unwrap();
    assert_eq!(client.read(fid, 8, 100).unwrap(), b"89");
    assert_eq!(client.read(fid, 10, 100).unwrap(), b"");
    assert_eq!(client.read(fid, 1 << 40, 100).unwrap(), b"");
    assert_eq!(client.read(fid, 0, 0).unwrap(), b"");
    assert_eq!(client.read(fid, i64::MAX as u64 - 10, 10).unwrap(), b"");
    for offset in [i64::MAX as u64 - 9, u64::MAX, u64::MAX - 5] {
        assert_eq!(client.read(fid, offset, 10).unwrap_err(), Errno::EINVAL);
    }
    let fid = client.open("a", RDWR).unwrap();
    for offset in [i64::MAX as u64 - 2, u64::MAX, u64::MAX - 1] {
        assert_eq!(client.write(fid, offset, b"xyz").unwrap_err(), Errno::EINVAL);
    }
    assert_eq!(client.write(fid, 3, b"").unwrap(), 0);
    assert_eq!(client.contents("a").unwrap(), b"0123456789");
}

pub fn large_and_sparse_files(export: &Export) {
    let mut client = export.client();
    let contents: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    client.make("", "large", &contents);
    assert_eq!(client.contents("large").unwrap(), contents);
    let fid = client.open("large", RDWR).unwrap();
    for (offset, count) in [(0, 300_000), (65_530, 12), (65_536, 65_536), (131_000, 100_000), (299_999, 10)] {
        let expected = &contents[offset..contents.len().min(offset + count)];
        assert_eq!(client.read(fid, offset as u64, count as u32).unwrap(), expected);
    }

    let far = 5 << 30;
    let fid = client.create("", "sparse", RDWR, 0o644).unwrap();
    client.write(fid, far, b"end").unwrap();
    client.write(fid, 70_000, b"middle").unwrap();
    assert_eq!(client.getattr(fid).unwrap().size, far + 3);
    assert!(client.getattr(fid).unwrap().blocks * 512 < 1 << 20);
    let mut expected = vec![0; 200_000];
    expected[70_000..70_006].copy_from_slice(b"middle");
    assert_eq!(client.read(fid, 0, 200_000).unwrap(), expected);
    assert_eq!(client.read(fid, far - 5, 100).unwrap(), b"\0\0\0\0\0end");

    // What was cut off does not come back.
    let resize = |size| SetAttributes { valid: setattr::SIZE, size, ..SetAttributes::default() };
    client.setattr(fid, resize(70_003)).unwrap();
    client.setattr(fid, resize(100_000)).unwrap();
    expected[70_003..].fill(0);
    assert_eq!(client.read(fid, 0, 200_000).unwrap(), expected[..100_000]);
    assert_eq!(client.read(fid, far, 10).unwrap(), b"");
    for size in [65_536, 0] {
        let fid = client.open("large", RDWR).unwrap();
        client.setattr(fid, resize(size)).unwrap();
        assert!(client.getattr(fid).unwrap().blocks * 512 < size + 8192);
        client.setattr(fid, resize(300_000)).unwrap();
        let mut expected = contents.clone();
        expected[size as usize..].fill(0);
        assert!(client.contents("large").unwrap() == expected, "cut off at {size}");
    }
}

pub fn largest_offsets(export: &Export) {
    let mut client = export.client();
    let fid = client.create("", "a", RDWR, 0o644).unwrap();
    let largest = i64::MAX as u64;
    // A filesystem may end files earlier, and says so.
    for offset in [(1 << 44) - 4097, 1 << 40, largest - 1] {
        match client.write(fid, offset, b"x") {
            Ok(count) => {
                assert_eq!(count, 1);
                assert_eq!(client.read(fid, offset, 1).unwrap(), b"x");
                assert!(client.getattr(fid).unwrap().size > offset);
                assert!(client.getattr(fid).unwrap().blocks < 1000);
            }
            Err(error) => assert!(error == Errno::EFBIG || error == Errno::EINVAL, "{offset}: {error}"),
        }
    }
    assert_eq!(client.write(fid, largest, b"x").unwrap_err(), Errno::EINVAL);
    let resize = SetAttributes { valid: setattr::SIZE, size: largest, ..SetAttributes::default() };
    match client.setattr(fid, resize) {
        Ok(()) => assert_eq!(client.getattr(fid).unwrap().size, largest),
        Err(error) => assert!(error == Errno::EFBIG || error == Errno::EINVAL, "{error}"),
    }
}

pub fn appending_goes_to_the_end(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"one");
    let (first, second) = (client.open("a", WRONLY | APPEND).unwrap(), client.open("a", RDWR | APPEND).unwrap());
    assert_eq!(client.write(first, 0, b" two").unwrap(), 4);
    assert_eq!(client.write(second, 1, b" three").unwrap(), 6);
    assert_eq!(client.read(second, 0, 100).unwrap(), b"one two three");
}

pub fn opening_truncates(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let fid = client.open("a", WRONLY | TRUNC).unwrap();
    assert_eq!(client.getattr(fid).unwrap().size, 0);
    client.write(fid, 0, b"new").unwrap();
    assert_eq!(client.contents("a").unwrap(), b"new");
    // Only Tlcreate creates: these are bits that Linux's client leaves in.
    client.open("a", RDONLY | CREATE | EXCL).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"new");
}

pub fn creating_opens(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    // The fid of the directory is that of the file now.
    let fid = client.at("").unwrap();
    client.lcreate(fid, b"a", RDWR, 0o600).unwrap();
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"contents");
    assert_eq!(client.getattr(fid).unwrap().mode, mode::IFREG | 0o644, "it was there already");
    client.create("", "a", WRONLY | TRUNC, 0o600).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"");

    // One that allows nobody to write can be written by who made it.
    let fid = client.create("", "b", RDWR, 0o400).unwrap();
    assert_eq!(client.write(fid, 0, b"x").unwrap(), 1);

    client.mkdir("", "d").unwrap();
    assert_eq!(client.create("", "d", RDWR, 0o644).unwrap_err(), Errno::EISDIR);
    let file = client.at("a").unwrap();
    assert_eq!(client.lcreate(file, b"x", RDWR, 0o644).unwrap_err(), Errno::ENOTDIR);
    // A link is not followed: its target may be outside.
    client.symlink(ROOT, b"l", b"elsewhere").unwrap();
    assert!(client.create("", "l", RDWR, 0o644).is_err());
    assert!(!client.exists("elsewhere"));
}

pub fn creating_exclusively(export: &Export) {
    let mut client = export.client();
    client.create("", "a", RDWR | EXCL, 0o644).unwrap();
    let fid = client.at("").unwrap();
    assert_eq!(client.lcreate(fid, b"a", RDWR | EXCL, 0o644).unwrap_err(), Errno::EEXIST);
    // The fid is still the directory's.
    client.lcreate(fid, b"b", RDWR | EXCL, 0o644).unwrap();
    client.symlink(ROOT, b"l", b"nowhere").unwrap();
    assert_eq!(client.create("", "l", RDWR | EXCL, 0o644).unwrap_err(), Errno::EEXIST);
}

pub fn opened_files_allow_what_they_were_opened_for(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let unopened = client.at("a").unwrap();
    let read_only = client.open("a", RDONLY).unwrap();
    let write_only = client.open("a", WRONLY).unwrap();
    assert_eq!(client.read(unopened, 0, 1).unwrap_err(), Errno::EBADF);
    assert_eq!(client.write(unopened, 0, b"x").unwrap_err(), Errno::EBADF);
    assert_eq!(client.write(read_only, 0, b"x").unwrap_err(), Errno::EBADF);
    assert_eq!(client.read(write_only, 0, 1).unwrap_err(), Errno::EBADF);
    assert_eq!(client.readdir(read_only, 0, 1000).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.readdir(unopened, 0, 1000).unwrap_err(), Errno::EBADF);
    assert_eq!(client.open("a", RDONLY | DIRECTORY).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.contents("a").unwrap(), b"contents");
}

pub fn unlinked_files_live_while_open(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let (open, fid) = (client.open("a", RDWR).unwrap(), client.at("a").unwrap());
    client.unlink("", "a", 0).unwrap();
    assert!(!client.exists("a"));
    assert_eq!(client.read(open, 0, 100).unwrap(), b"contents");
    assert_eq!(client.write(open, 8, b" more").unwrap(), 5);
    let attributes = client.getattr(open).unwrap();
    assert_eq!((attributes.size, attributes.nlink), (13, 0));
    let resize = SetAttributes { valid: setattr::SIZE, size: 4, ..SetAttributes::default() };
    client.setattr(open, resize).unwrap();
    assert_eq!(client.read(open, 0, 100).unwrap(), b"cont");
    assert_eq!(client.getattr(fid).unwrap().size, 4);
    client.make("", "a", b"another");
    assert_eq!(client.read(open, 0, 100).unwrap(), b"cont");
}

pub fn syncing(export: &Export) {
    let mut client = export.client();
    let fid = client.create("", "a", RDWR, 0o644).unwrap();
    client.write(fid, 0, b"x").unwrap();
    for datasync in [0, 1] {
        client.done(&Tmessage::Tfsync { fid, datasync }).unwrap();
    }
    let directory = client.open("", RDONLY).unwrap();
    client.done(&Tmessage::Tfsync { fid: directory, datasync: 0 }).unwrap();
    assert_eq!(client.done(&Tmessage::Tfsync { fid: ROOT, datasync: 0 }).unwrap_err(), Errno::EBADF);
}

//! Attributes of files and of the filesystem, and files that are neither regular nor directories.

use ninering_wire::{
    Errno, SetAttributes, dirent_type,
    lopen::{RDONLY, RDWR, WRONLY},
    mode, setattr,
};

use crate::common::{Export, ROOT, fresh};

pub fn attributes_are_set(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let fid = client.at("a").unwrap();
    let set = |valid| SetAttributes { valid, ..SetAttributes::default() };
    client.setattr(fid, SetAttributes { mode: mode::IFDIR | 0o4711, ..set(setattr::MODE) }).unwrap();
    assert_eq!(client.getattr(fid).unwrap().mode, mode::IFREG | 0o4711, "the type stays");
    client.setattr(fid, SetAttributes { size: 3, ..set(setattr::SIZE) }).unwrap();
    client.setattr(fid, SetAttributes { size: 5, ..set(setattr::SIZE) }).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"con\0\0");
    let own = client.getattr(fid).unwrap();
    let owners = SetAttributes { uid: own.uid, gid: own.gid, ..set(setattr::UID | setattr::GID) };
    client.setattr(fid, owners).unwrap();
    client.setattr(fid, set(0)).unwrap();
    assert_eq!(client.setattr(fid, set(0x200)).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.setattr(fid, set(1 << 31)).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.setattr(fid, SetAttributes { size: 1 << 63, ..set(setattr::SIZE) }).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.setattr(ROOT, SetAttributes { size: 0, ..set(setattr::SIZE) }).unwrap_err(), Errno::EISDIR);
    assert_eq!(client.setattr(fresh(), set(0)).unwrap_err(), Errno::EBADF);
}

pub fn times_are_set(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    client.symlink(ROOT, b"link", b"a").unwrap();
    for path in ["a", "link", ""] {
        let fid = client.at(path).unwrap();
        let before = client.getattr(fid).unwrap();
        let given = SetAttributes {
            valid: setattr::ATIME | setattr::ATIME_SET | setattr::MTIME | setattr::MTIME_SET,
            atime_sec: 1_000_000_000,
            atime_nsec: 123_456_789,
            mtime_sec: 981_173_106,
            mtime_nsec: 999_999_999,
            ..SetAttributes::default()
        };
        client.setattr(fid, given).unwrap();
        let after = client.getattr(fid).unwrap();
        assert_eq!((after.atime_sec, after.atime_nsec), (1_000_000_000, 123_456_789));
        assert_eq!((after.mtime_sec, after.mtime_nsec), (981_173_106, 999_999_999));
        assert!(after.ctime_sec >= before.ctime_sec);
        // To now, by the server's clock, and only the one.
        let now = SetAttributes { valid: setattr::MTIME, mtime_sec: 5, ..SetAttributes::default() };
        client.setattr(fid, now).unwrap();
        let after = client.getattr(fid).unwrap();
        assert_eq!(after.atime_sec, 1_000_000_000);
        assert!(after.mtime_sec >= before.mtime_sec);
        let wrong = SetAttributes { mtime_nsec: 1_000_000_000, ..given };
        assert_eq!(client.setattr(fid, wrong).unwrap_err(), Errno::EINVAL);
    }
}

pub fn writing_changes_times_and_version(export: &Export) {
    let mut client = export.client();
    let fid = client.create("", "a", RDWR, 0o644).unwrap();
    let past =
        SetAttributes { valid: setattr::MTIME | setattr::MTIME_SET, mtime_sec: 1000, ..SetAttributes::default() };
    client.setattr(fid, past).unwrap();
    let before = client.getattr(fid).unwrap();
    client.write(fid, 0, b"x").unwrap();
    let after = client.getattr(fid).unwrap();
    assert_eq!(before.mtime_sec, 1000);
    assert!(after.mtime_sec > 1000);
    assert_eq!(after.qid.path, before.qid.path);
    if before.qid.version != 0 {
        assert_ne!(after.qid.version, before.qid.version);
    }

    let before = client.getattr(ROOT).unwrap();
    client.setattr(ROOT, past).unwrap();
    client.make("", "b", b"");
    assert!(client.getattr(ROOT).unwrap().mtime_sec >= before.mtime_sec);
}

pub fn set_group_id_directories(export: &Export) {
    let mut client = export.client();
    client.mkdir_in(ROOT, b"d", 0o755).unwrap();
    let fid = client.at("d").unwrap();
    let set = SetAttributes { valid: setattr::MODE, mode: 0o2755, ..SetAttributes::default() };
    client.setattr(fid, set).unwrap();
    client.mkdir_in(fid, b"sub", 0o755).unwrap();
    client.make("d", "file", b"");
    assert_eq!(client.stat("d/sub").unwrap().mode, mode::IFDIR | 0o2755);
    assert_eq!(client.stat("d/file").unwrap().mode, mode::IFREG | 0o644);
    assert_eq!(client.stat("d/file").unwrap().gid, client.stat("d").unwrap().gid);
}

pub fn special_files(export: &Export) {
    let mut client = export.client();
    for (name, kind, entry) in [
        ("fifo", mode::IFIFO, dirent_type::FIFO),
        ("socket", mode::IFSOCK, dirent_type::SOCK),
        ("file", mode::IFREG, dirent_type::REG),
    ] {
        client.mknod(ROOT, name.as_bytes(), kind | 0o640, (0, 0)).unwrap();
        assert_eq!(client.stat(name).unwrap().mode, kind | 0o640);
        assert!(client.list("", 1000).unwrap().iter().any(|listed| listed.name == name && listed.kind == entry));
    }
    assert_eq!(client.mknod(ROOT, b"fifo", mode::IFIFO | 0o640, (0, 0)).unwrap_err(), Errno::EEXIST);
    // Linux's client makes regular files so, too.
    let fid = client.open("file", RDWR).unwrap();
    client.write(fid, 0, b"x").unwrap();
    assert!(client.mknod(ROOT, b"d", mode::IFDIR | 0o755, (0, 0)).is_err());
    client.unlink("", "fifo", 0).unwrap();
}

pub fn symlinks_keep_their_target(export: &Export) {
    let mut client = export.client();
    let longest = [b'x'; 4095];
    for (name, target) in [("a", &b"target"[..]), ("b", b"../../x//y/"), ("c", &longest), ("d", b"\xff\xfe")] {
        assert!(client.symlink(ROOT, name.as_bytes(), target).unwrap().kind.is_symlink());
        let fid = client.at(name).unwrap();
        assert_eq!(client.readlink(fid).unwrap(), target);
        let attributes = client.getattr(fid).unwrap();
        assert_eq!((attributes.mode & mode::IFMT, attributes.size), (mode::IFLNK, target.len() as u64));
    }
    assert_eq!(client.symlink(ROOT, b"a", b"x").unwrap_err(), Errno::EEXIST);
    assert_eq!(client.symlink(ROOT, b"e", b"").unwrap_err(), Errno::ENOENT);
    assert_eq!(client.symlink(ROOT, b"e", &[b'x'; 4096]).unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(client.symlink(ROOT, b"e", b"x\0y").unwrap_err(), Errno::EINVAL);
    assert_eq!(client.readlink(ROOT).unwrap_err(), Errno::EINVAL);
}

pub fn symlinks_and_special_files_cannot_be_opened(export: &Export) {
    let mut client = export.client();
    client.make("", "file", b"");
    client.symlink(ROOT, b"link", b"file").unwrap();
    client.mknod(ROOT, b"fifo", mode::IFIFO | 0o644, (0, 0)).unwrap();
    client.mknod(ROOT, b"socket", mode::IFSOCK | 0o644, (0, 0)).unwrap();
    for flags in [RDONLY, WRONLY, RDWR] {
        assert_eq!(client.open("link", flags).unwrap_err(), Errno::ELOOP);
        assert_eq!(client.open("fifo", flags).unwrap_err(), Errno::ENXIO);
        assert_eq!(client.open("socket", flags).unwrap_err(), Errno::ENXIO);
        assert!(client.create("", "fifo", flags, 0o644).is_err());
    }
}

pub fn figures(export: &Export) {
    let mut client = export.client();
    let statfs = client.statfs(ROOT).unwrap();
    // V9FS_MAGIC: what the client has mounted is 9P.
    assert_eq!(statfs.kind, 0x0102_1997);
    assert!(statfs.bsize > 0 && statfs.blocks > 0 && statfs.namelen >= 255);
    assert!(statfs.bfree <= statfs.blocks && statfs.bavail <= statfs.bfree && statfs.ffree <= statfs.files);
    assert_eq!(client.statfs(fresh()).unwrap_err(), Errno::EBADF);
}

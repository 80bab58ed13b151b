//! Attributes of a directory's export: what the host has, exactly, and changed as the host would.

mod dir_support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::{Duration, SystemTime},
};

use dir_support::*;
use ninering_wire::{Errno, QidType, SetAttributes, getattr, lopen, mode, setattr};

#[test]
fn attributes_are_the_hosts() {
    let export = Export::new();
    export.file("file", "contents");
    export.directory("directory");
    export.symlink("target", "link");
    for path in ["file", "directory", "link"] {
        let node = export.root.lookup(name(path)).unwrap();
        let told = node.attributes(getattr::ALL).unwrap();
        let host = fs::symlink_metadata(export.path(path)).unwrap();
        assert_eq!(told.valid & getattr::BASIC, getattr::BASIC);
        assert_eq!(told.valid & !(getattr::BASIC | getattr::BTIME), 0, "what it does not know it does not claim");
        assert_eq!(told.qid.path, host.ino());
        assert_eq!(told.qid.kind, QidType::from_mode(host.mode()));
        assert_eq!((told.mode, told.uid, told.gid), (host.mode(), host.uid(), host.gid()));
        assert_eq!((told.nlink, told.rdev, told.size), (host.nlink(), host.rdev(), host.size()));
        assert_eq!((told.blksize, told.blocks), (host.blksize(), host.blocks()));
        assert_eq!((told.atime_sec as i64, told.atime_nsec as i64), (host.atime(), host.atime_nsec()));
        assert_eq!((told.mtime_sec as i64, told.mtime_nsec as i64), (host.mtime(), host.mtime_nsec()));
        assert_eq!((told.ctime_sec as i64, told.ctime_nsec as i64), (host.ctime(), host.ctime_nsec()));
        assert_eq!(told.valid & getattr::BTIME != 0, host.created().is_ok());
        if let Ok(created) = host.created() {
            let since = created.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!((told.btime_sec, told.btime_nsec), (since.as_secs(), since.subsec_nanos().into()));
        }
    }
}

#[test]
fn permission_bits_are_kept_to_the_last() {
    let export = Export::new();
    export.file("file", "");
    export.directory("directory");
    for path in ["file", "directory"] {
        let node = export.root.lookup(name(path)).unwrap();
        for permissions in [0o7777, 0o4755, 0o2711, 0o1777, 0o000, 0o644] {
            node.set_attributes(&SetAttributes { mode: permissions, ..change(setattr::MODE) }).unwrap();
            assert_eq!(node.attributes(!0).unwrap().mode & mode::PERMISSIONS, permissions, "{path}");
            assert_eq!(fs::metadata(export.path(path)).unwrap().mode() & 0o7777, permissions, "{path}");
        }
    }
}

#[test]
fn new_files_have_the_mode_that_was_asked_for() {
    let export = Export::new();
    for (number, permissions) in [0o7777, 0o4755, 0o2755, 0o1666, 0o666, 0o600, 0].into_iter().enumerate() {
        let (file, directory, fifo) = (format!("f{number}"), format!("d{number}"), format!("p{number}"));
        let (node, _) = export.root.create(name(&file), lopen::RDWR, permissions, !0).unwrap();
        assert_eq!(node.attributes(!0).unwrap().mode, mode::IFREG | permissions);
        export.root.make_directory(name(&directory), permissions, !0).unwrap();
        assert_eq!(fs::metadata(export.path(&directory)).unwrap().mode(), mode::IFDIR | permissions);
        export.root.make_node(name(&fifo), mode::IFIFO | permissions, (0, 0), !0).unwrap();
        assert_eq!(fs::metadata(export.path(&fifo)).unwrap().mode(), mode::IFIFO | permissions);
    }
}

#[test]
fn every_kind_of_file_can_be_made_that_the_host_permits() {
    let export = Export::new();
    let kinds = [(mode::IFREG, "file"), (mode::IFIFO, "fifo"), (mode::IFSOCK, "socket"), (0, "none")];
    for (kind, path) in kinds {
        let qid = export.root.make_node(name(path), kind | 0o640, (0, 0), !0).unwrap();
        let host = fs::symlink_metadata(export.path(path)).unwrap();
        assert_eq!(host.mode(), if kind == 0 { mode::IFREG } else { kind } | 0o640);
        assert_eq!(qid.path, host.ino());
        assert_eq!(export.root.make_node(name(path), kind | 0o640, (0, 0), !0), Err(Errno::EEXIST));
    }
    assert_eq!(export.root.make_node(name("x"), mode::IFDIR | 0o755, (0, 0), !0), Err(Errno::EPERM));
    assert_eq!(export.root.make_node(name("x"), mode::IFLNK | 0o755, (0, 0), !0), Err(Errno::EINVAL));
    let device = export.root.make_node(name("device"), mode::IFBLK | 0o600, (259, 4097), !0);
    if is_root() {
        assert_eq!(device.unwrap().kind, QidType::FILE);
        let told = export.root.lookup(name("device")).unwrap().attributes(!0).unwrap();
        assert_eq!(told.rdev, fs::metadata(export.path("device")).unwrap().rdev());
        // new_decode_dev() of Linux's client: major, and minor in two parts.
        assert_eq!(((told.rdev & 0xfff00) >> 8, told.rdev & 0xff | (told.rdev >> 12) & 0xfff00), (259, 4097));
    } else {
        assert_eq!(device, Err(Errno::EPERM));
    }
}

#[test]
fn a_setgid_directory_hands_its_group_on() {
    if !is_root() {
        return skip("a_setgid_directory_hands_its_group_on", "changing groups takes root");
    }
    let export = Export::new();
    export.directory("directory");
    std::os::unix::fs::chown(export.path("directory"), None, Some(1234)).unwrap();
    fs::set_permissions(export.path("directory"), fs::Permissions::from_mode(0o2755)).unwrap();
    let directory = walk(&export.root, "directory").unwrap();
    directory.make_directory(name("child"), 0o755, !0).unwrap();
    let child = fs::metadata(export.path("directory/child")).unwrap();
    assert_eq!((child.gid(), child.mode() & 0o7777), (1234, 0o2755));
}

#[test]
fn new_files_get_the_group_that_was_asked_for() {
    if !is_root() {
        return skip("new_files_get_the_group_that_was_asked_for", "changing groups takes root");
    }
    let export = Export::new();
    let (root, own) = (&export.root, rustix::process::getegid().as_raw());
    for (gid, expected) in [(4321, 4321), (!0, own), (own, own)] {
        // Set-group-ID is lost by a change of the group: it must come after it.
        let (node, _) = root.create(name("file"), lopen::RDWR, 0o2755, gid).unwrap();
        assert_eq!((node.attributes(!0).unwrap().gid, node.attributes(!0).unwrap().mode & 0o7777), (expected, 0o2755));
        root.make_directory(name("directory"), 0o755, gid).unwrap();
        root.symlink(name("link"), b"file", gid).unwrap();
        root.make_node(name("fifo"), mode::IFIFO | 0o600, (0, 0), gid).unwrap();
        for path in ["file", "directory", "link", "fifo"] {
            assert_eq!(fs::symlink_metadata(export.path(path)).unwrap().gid(), expected, "{path}");
            root.unlink(name(path), path == "directory").unwrap();
        }
    }
}

#[test]
fn an_inherited_acl_is_not_widened() {
    let export = Export::new();
    export.directory("directory");
    // version 2; user::rwx group::r-x other::---, as `setfacl -d -m u::rwx,g::rx,o::-` writes it.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in [(1_u16, 7_u16), (4, 5), (0x20, 0)] {
        acl.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain((!0_u32).to_le_bytes()));
    }
    let path = export.path("directory");
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::setxattr(&path, c"system.posix_acl_default", &acl, flags) {
        return skip("an_inherited_acl_is_not_widened", &error.to_string());
    }
    let directory = walk(&export.root, "directory").unwrap();
    let (node, _) = directory.create(name("file"), lopen::RDWR, 0o666, !0).unwrap();
    assert_eq!(node.attributes(!0).unwrap().mode & 0o7777, 0o640);
    directory.make_directory(name("child"), 0o777, !0).unwrap();
    assert_eq!(fs::metadata(path.join("child")).unwrap().mode() & 0o7777, 0o750);
}

#[test]
fn times_are_kept_to_the_nanosecond() {
    let export = Export::new();
    export.file("file", "");
    export.directory("directory");
    export.symlink("missing", "link");
    let valid = setattr::ATIME | setattr::ATIME_SET | setattr::MTIME | setattr::MTIME_SET;
    for path in ["file", "directory", "link"] {
        let node = export.root.lookup(name(path)).unwrap();
        // The second one lies before 1970.
        for (atime_sec, mtime_sec) in [(1_700_000_000, 1_600_000_000), (-5_i64 as u64, 2)] {
            let changes = SetAttributes {
                atime_sec,
                atime_nsec: 123_456_789,
                mtime_sec,
                mtime_nsec: 999_999_999,
                ..change(valid)
            };
            node.set_attributes(&changes).unwrap();
            let told = node.attributes(!0).unwrap();
            assert_eq!((told.atime_sec, told.atime_nsec), (atime_sec, 123_456_789), "{path}");
            assert_eq!((told.mtime_sec, told.mtime_nsec), (mtime_sec, 999_999_999), "{path}");
        }
    }
}

#[test]
fn each_time_is_set_alone_and_to_the_clock_where_none_is_given() {
    let export = Export::new();
    export.file("file", "");
    let node = export.root.lookup(name("file")).unwrap();
    let set = |valid: u32, seconds| {
        let times = SetAttributes { atime_sec: seconds, mtime_sec: seconds, ..change(valid) };
        node.set_attributes(&times).unwrap();
        let told = node.attributes(!0).unwrap();
        (told.atime_sec, told.mtime_sec)
    };
    assert_eq!(set(setattr::ATIME | setattr::ATIME_SET | setattr::MTIME | setattr::MTIME_SET, 100), (100, 100));
    assert_eq!(set(setattr::ATIME | setattr::ATIME_SET, 200), (200, 100));
    assert_eq!(set(setattr::MTIME | setattr::MTIME_SET, 300), (200, 300));
    // The _SET bits alone say nothing.
    assert_eq!(set(setattr::ATIME_SET | setattr::MTIME_SET, 400), (200, 300));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (atime, mtime) = set(setattr::ATIME, 0);
    assert!((now - 2..now + 60).contains(&atime) && mtime == 300);
    assert!((now - 2..now + 60).contains(&set(setattr::MTIME, 0).1));
}

#[test]
fn nanoseconds_with_a_special_meaning_are_refused() {
    let export = Export::new();
    export.file("file", "");
    let node = export.root.lookup(name("file")).unwrap();
    let before = node.attributes(!0).unwrap();
    // UTIME_OMIT, UTIME_NOW, and numbers that a signed type would take for negative.
    for nsec in [1_000_000_000, (1 << 30) - 2, (1 << 30) - 1, 1 << 32, u64::MAX] {
        let changes =
            SetAttributes { mode: 0, mtime_nsec: nsec, ..change(setattr::MODE | setattr::MTIME | setattr::MTIME_SET) };
        assert_eq!(node.set_attributes(&changes), Err(Errno::EINVAL));
        let changes = SetAttributes { atime_nsec: nsec, ..change(setattr::ATIME | setattr::ATIME_SET) };
        assert_eq!(node.set_attributes(&changes), Err(Errno::EINVAL));
    }
    assert_eq!(node.attributes(!0).unwrap(), before, "nothing was changed halfway");
}

#[test]
fn the_size_is_that_of_regular_files_only() {
    let export = Export::new();
    export.file("file", "contents");
    let node = export.root.lookup(name("file")).unwrap();
    node.set_attributes(&SetAttributes { size: 3, ..change(setattr::SIZE) }).unwrap();
    assert_eq!(contents(&node).unwrap(), b"con");
    node.set_attributes(&SetAttributes { size: 5, ..change(setattr::SIZE) }).unwrap();
    assert_eq!(contents(&node).unwrap(), b"con\0\0");
    let too_large = SetAttributes { size: u64::MAX, ..change(setattr::SIZE) };
    assert_eq!(node.set_attributes(&too_large), Err(Errno::EINVAL));
    assert_eq!(export.root.set_attributes(&change(setattr::SIZE)), Err(Errno::EISDIR));
}

#[test]
fn several_changes_at_once_do_not_undo_each_other() {
    let export = Export::new();
    export.file("file", "contents");
    let node = export.root.lookup(name("file")).unwrap();
    let (uid, gid) = if is_root() { (65534, 65533) } else { (!0, !0) };
    let valid = setattr::UID | setattr::GID | setattr::SIZE | setattr::MODE;
    let valid = valid | setattr::MTIME | setattr::MTIME_SET | setattr::CTIME;
    node.set_attributes(&SetAttributes { valid, mode: 0o6755, uid, gid, size: 2, mtime_sec: 77, ..change(0) }).unwrap();
    let told = node.attributes(!0).unwrap();
    assert_eq!(told.mode, mode::IFREG | 0o6755, "a new owner or size takes set-id bits away, a mode brings them");
    assert_eq!((told.size, told.mtime_sec, told.mtime_nsec), (2, 77, 0), "a new size sets the time");
    if is_root() {
        assert_eq!((told.uid, told.gid), (uid, gid));
    }
}

#[test]
fn a_symlinks_owner_is_its_own() {
    if !is_root() {
        return skip("a_symlinks_owner_is_its_own", "changing owners takes root");
    }
    let export = Export::new();
    export.file("file", "");
    export.symlink("file", "link");
    let link = export.root.lookup(name("link")).unwrap();
    link.set_attributes(&SetAttributes { uid: 12, ..change(setattr::UID) }).unwrap();
    link.set_attributes(&SetAttributes { gid: 34, ..change(setattr::GID) }).unwrap();
    assert_eq!((link.attributes(!0).unwrap().uid, link.attributes(!0).unwrap().gid), (12, 34));
    assert_eq!(fs::metadata(export.path("file")).unwrap().uid(), 0);
    assert_eq!(link.set_attributes(&SetAttributes { mode: 0, ..change(setattr::MODE) }), Err(Errno::EOPNOTSUPP));
}

#[test]
fn the_change_time_alone_can_be_set() {
    let export = Export::new();
    export.file("file", "");
    let node = export.root.lookup(name("file")).unwrap();
    let before = node.attributes(!0).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    node.set_attributes(&change(setattr::CTIME)).unwrap();
    let after = node.attributes(!0).unwrap();
    assert!((after.ctime_sec, after.ctime_nsec) > (before.ctime_sec, before.ctime_nsec));
    assert_eq!((after.mtime_sec, after.mtime_nsec), (before.mtime_sec, before.mtime_nsec));
}

#[test]
fn changes_of_nothing_known_are_refused() {
    let export = Export::new();
    assert_eq!(export.root.set_attributes(&change(0x200)), Err(Errno::EINVAL));
    assert_eq!(export.root.set_attributes(&change(0)), Ok(()));
}

#[test]
fn a_qid_is_the_files_and_its_version_that_of_the_contents() {
    let export = Export::new();
    export.file("file", "one");
    let node = export.root.lookup(name("file")).unwrap();
    assert_ne!(node.qid().version, 0, "0 would mean that nothing may be cached");
    assert_eq!(node.attributes(!0).unwrap().qid, node.qid());
    assert_eq!(export.root.lookup(name("file")).unwrap().qid(), node.qid());
    std::thread::sleep(Duration::from_millis(20));
    write_at(&*node.open(lopen::WRONLY).unwrap(), 0, "two").unwrap();
    let changed = node.attributes(!0).unwrap().qid;
    assert_ne!(changed.version, node.qid().version);
    assert_eq!((changed.kind, changed.path), (node.qid().kind, node.qid().path));
    export.root.rename(name("file"), &*export.root, name("moved")).unwrap();
    assert_eq!(export.root.lookup(name("moved")).unwrap().qid().path, node.qid().path);
}

#[test]
fn a_filesystems_figures_are_the_hosts() {
    let export = Export::new();
    export.file("file", "");
    export.symlink("file", "link");
    let host = rustix::fs::statfs(export.path("")).unwrap();
    for node in [export.root.clone(), walk(&export.root, "file").unwrap(), walk(&export.root, "link").unwrap()] {
        let told = node.statfs().unwrap();
        assert_eq!((told.kind, told.bsize), (host.f_type as u32, host.f_bsize as u32));
        assert_eq!((told.blocks, told.files), (host.f_blocks, host.f_files));
        assert!(told.bavail <= told.bfree && told.bfree <= told.blocks && told.ffree <= told.files);
        assert_eq!(told.namelen, host.f_namelen as u32);
        assert_eq!(told.fsid, rustix::fs::statvfs(export.path("")).unwrap().f_fsid);
    }
}

//! Extended attributes, of every backend: `Txattrwalk` and `Txattrcreate`.

mod common;

use common::{Client, Export, ROOT, fresh};
use ninering::backend::{DirBackend, DirOptions, MemBackend};
use ninering_wire::{
    Errno, Str, Tmessage,
    lopen::{RDONLY, RDWR},
    mode,
    xattr::{CREATE, REPLACE},
};

/// Makes a test of each behaviour for each backend.
macro_rules! xattr_behaviours {
    ($($behaviour:ident)*) => {
        mod mem {
            $(#[test]
            fn $behaviour() {
                super::$behaviour(&mut super::Export::called(super::MemBackend::default(), ()).client());
            })*
        }

        mod dir {
            $(#[test]
            fn $behaviour() {
                if let Some(export) = super::directory() {
                    super::$behaviour(&mut export.client());
                }
            })*
        }

        #[cfg(feature = "mount")]
        mod relay {
            $(#[test]
            fn $behaviour() {
                let (relay, guard) = super::common::relayed::relayed(super::MemBackend::default());
                super::$behaviour(&mut super::Export::called(relay, guard).client());
            })*
        }
    };
}

xattr_behaviours! {
    values_are_set_read_listed_and_removed
    flags_are_heeded
    values_of_no_bytes
    longest_names_and_values
    names_are_checked
    a_snapshot_is_read
    short_values_are_not_set
    writes_stay_in_the_value
    fids_of_attributes_are_nothing_else
    fids_are_counted_and_replaced
    what_is_held_is_limited
    open_and_unlinked_files_have_them
    links_and_special_files
    acls_pass_through
    remove_sets_nothing
}

/// An export of a directory on a filesystem that has extended attributes, if the temporary directory's does.
fn directory() -> Option<Export> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    if rustix::fs::setxattr(directory.path(), "user.probe", b"", rustix::fs::XattrFlags::empty()).is_err() {
        eprintln!("SKIPPED: the temporary directory's filesystem has no extended attributes");
        return None;
    }
    rustix::fs::removexattr(directory.path(), "user.probe").expect("it is there");
    let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a directory");
    Some(Export::called(backend, directory))
}

/// A fid of a new file.
fn file(client: &mut Client) -> u32 {
    client.make("", "file", b"contents");
    client.at("file").unwrap()
}

fn values_are_set_read_listed_and_removed(client: &mut Client) {
    for fid in [ROOT, file(client)] {
        assert_eq!(client.xattrs(fid).unwrap(), Vec::<String>::new());
        assert_eq!(client.xattr(fid, b"user.a").unwrap_err(), Errno::ENODATA);
        client.set_xattr(fid, b"user.a", b"one", 0).unwrap();
        client.set_xattr(fid, b"user.b", b"\0\xff\0", 0).unwrap();
        assert_eq!(client.xattr(fid, b"user.a").unwrap(), b"one");
        assert_eq!(client.xattr(fid, b"user.b").unwrap(), b"\0\xff\0");
        assert_eq!(client.xattrs(fid).unwrap(), ["user.a", "user.b"]);
        client.set_xattr(fid, b"user.a", b"another", 0).unwrap();
        assert_eq!(client.xattr(fid, b"user.a").unwrap(), b"another");
        // As `removexattr(2)` comes from Linux's client.
        client.set_xattr(fid, b"user.a", b"", REPLACE).unwrap();
        assert_eq!(client.xattr(fid, b"user.a").unwrap_err(), Errno::ENODATA);
        assert_eq!(client.xattrs(fid).unwrap(), ["user.b"]);
        assert_eq!(client.set_xattr(fid, b"user.a", b"", REPLACE).unwrap_err(), Errno::ENODATA);
    }
}

fn flags_are_heeded(client: &mut Client) {
    let fid = file(client);
    assert_eq!(client.set_xattr(fid, b"user.a", b"x", REPLACE).unwrap_err(), Errno::ENODATA);
    client.set_xattr(fid, b"user.a", b"x", CREATE).unwrap();
    assert_eq!(client.set_xattr(fid, b"user.a", b"y", CREATE).unwrap_err(), Errno::EEXIST);
    client.set_xattr(fid, b"user.a", b"y", REPLACE).unwrap();
    assert_eq!(client.xattr(fid, b"user.a").unwrap(), b"y");
    for flags in [4, u32::MAX] {
        assert_eq!(client.set_xattr(fid, b"user.a", b"z", flags).unwrap_err(), Errno::EINVAL);
    }
    assert_eq!(client.set_xattr(fid, b"user.a", b"z", CREATE | REPLACE).unwrap_err(), Errno::EEXIST);

    // Also where the attribute came between the two messages: the clunk tells.
    let late = fresh();
    client.walk(fid, late, &[]).unwrap();
    client.done(&Tmessage::Txattrcreate { fid: late, name: Str(b"user.late"), size: 1, flags: CREATE }).unwrap();
    client.write(late, 0, b"1").unwrap();
    client.set_xattr(fid, b"user.late", b"2", CREATE).unwrap();
    assert_eq!(client.clunk(late).unwrap_err(), Errno::EEXIST);
    assert_eq!(client.clunk(late).unwrap_err(), Errno::EBADF, "the fid is gone all the same");
    assert_eq!(client.xattr(fid, b"user.late").unwrap(), b"2");
}

fn values_of_no_bytes(client: &mut Client) {
    let fid = file(client);
    client.set_xattr(fid, b"user.empty", b"", 0).unwrap();
    assert_eq!(client.xattr(fid, b"user.empty").unwrap(), b"");
    assert_eq!(client.xattrs(fid).unwrap(), ["user.empty"]);
    client.set_xattr(fid, b"user.other", b"", CREATE).unwrap();
    assert_eq!(client.xattrs(fid).unwrap(), ["user.empty", "user.other"]);
}

fn longest_names_and_values(client: &mut Client) {
    let fid = file(client);
    let longest = format!("user.{}", "n".repeat(250));
    client.set_xattr(fid, longest.as_bytes(), b"x", 0).unwrap();
    assert_eq!(client.xattrs(fid).unwrap(), [longest.as_str()]);
    assert_eq!(client.xattr(fid, longest.as_bytes()).unwrap(), b"x");
    let longer = format!("{longest}n");
    assert_eq!(client.set_xattr(fid, longer.as_bytes(), b"x", 0).unwrap_err(), Errno::ERANGE);
    assert_eq!(client.xattr(fid, longer.as_bytes()).unwrap_err(), Errno::ERANGE);

    let value: Vec<u8> = (0..65_536_u32).map(|at| (at % 251) as u8).collect();
    // A filesystem may keep less than the kernel allows.
    match client.set_xattr(fid, b"user.large", &value, 0) {
        Ok(()) => assert_eq!(client.xattr(fid, b"user.large").unwrap(), value),
        Err(error) => assert!(error == Errno::ENOSPC || error == Errno::E2BIG, "{error}"),
    }
    for size in [65_537, 1 << 32, u64::MAX] {
        let clone = fresh();
        client.walk(fid, clone, &[]).unwrap();
        let create = Tmessage::Txattrcreate { fid: clone, name: Str(b"user.larger"), size, flags: 0 };
        assert_eq!(client.done(&create).unwrap_err(), Errno::E2BIG);
        client.getattr(clone).expect("the fid is what it was");
    }
}

fn names_are_checked(client: &mut Client) {
    let fid = file(client);
    for (name, error) in [
        (&b""[..], Errno::ERANGE),
        (b"user.a\0b", Errno::EINVAL),
        (b"\0", Errno::EINVAL),
        (b"user", Errno::EOPNOTSUPP),
        (b"none.such", Errno::EOPNOTSUPP),
        (b"system.none", Errno::EOPNOTSUPP),
        (b"/etc/passwd", Errno::EOPNOTSUPP),
    ] {
        assert_eq!(client.set_xattr(fid, name, b"x", 0).unwrap_err(), error, "{name:?}");
        if !name.is_empty() {
            assert_eq!(client.xattr(fid, name).unwrap_err(), error, "{name:?}");
        }
    }
    // What looks like a path is a name like others.
    client.set_xattr(fid, b"user./../../x", b"x", 0).unwrap();
    assert_eq!(client.xattrs(fid).unwrap(), ["user./../../x"]);
}

fn a_snapshot_is_read(client: &mut Client) {
    let fid = file(client);
    client.set_xattr(fid, b"user.a", &[1; 300], 0).unwrap();
    let (value, size) = client.xattrwalk(fid, b"user.a").unwrap();
    let (list, list_size) = client.xattrwalk(fid, b"").unwrap();
    assert_eq!((size, list_size), (300, 7));
    client.set_xattr(fid, b"user.a", &[2; 3000], 0).unwrap();
    assert_eq!(client.read(value, 0, 200).unwrap(), [1; 200]);
    client.set_xattr(fid, b"user.a", &[3; 5], 0).unwrap();
    client.set_xattr(fid, b"user.b", b"", 0).unwrap();
    assert_eq!(client.read(value, 200, 4000).unwrap(), [1; 100]);
    client.set_xattr(fid, b"user.a", b"", REPLACE).unwrap();
    assert_eq!(client.read(value, 299, 4000).unwrap(), [1]);
    assert_eq!(client.read(list, 0, 4000).unwrap(), b"user.a\0");
    // Past its end there is nothing, and no offset wraps.
    for offset in [300, 301, 1 << 32, i64::MAX as u64 - 10] {
        assert_eq!(client.read(value, offset, 10).unwrap(), b"");
    }
    for offset in [i64::MAX as u64, u64::MAX - 5, u64::MAX] {
        assert_eq!(client.read(value, offset, 10).unwrap_err(), Errno::EINVAL);
    }
    assert_eq!(client.write(value, 0, b"x").unwrap_err(), Errno::EBADF);
}

/// Makes a fid that takes the value of `user.a`.
fn incoming(client: &mut Client, fid: u32, size: u64) -> u32 {
    let clone = fresh();
    client.walk(fid, clone, &[]).unwrap();
    client.done(&Tmessage::Txattrcreate { fid: clone, name: Str(b"user.a"), size, flags: 0 }).unwrap();
    clone
}

fn short_values_are_not_set(client: &mut Client) {
    let fid = file(client);
    for written in [0, 1, 9] {
        let short = incoming(client, fid, 10);
        client.write(short, 0, &vec![b'x'; written]).unwrap();
        assert_eq!(client.clunk(short).unwrap_err(), Errno::EINVAL);
        assert_eq!(client.clunk(short).unwrap_err(), Errno::EBADF);
        assert_eq!(client.xattrs(fid).unwrap(), Vec::<String>::new());
    }
}

fn writes_stay_in_the_value(client: &mut Client) {
    let fid = file(client);
    let value = incoming(client, fid, 10);
    assert_eq!(client.write(value, 0, b"01234").unwrap(), 5);
    assert_eq!(client.write(value, 6, b"6789").unwrap_err(), Errno::EINVAL, "it would leave a gap");
    for offset in [8, 10, 1 << 32, i64::MAX as u64 - 10] {
        assert_eq!(client.write(value, offset, b"xyz").unwrap_err(), Errno::ENOSPC);
    }
    for offset in [i64::MAX as u64, u64::MAX - 1, u64::MAX] {
        assert_eq!(client.write(value, offset, b"xyz").unwrap_err(), Errno::EINVAL);
    }
    assert_eq!(client.read(value, 0, 10).unwrap_err(), Errno::EBADF);
    assert_eq!(client.write(value, 5, b"56789").unwrap(), 5);
    assert_eq!(client.write(value, 1, b"x").unwrap(), 1);
    client.clunk(value).unwrap();
    assert_eq!(client.xattr(fid, b"user.a").unwrap(), b"0x23456789");
}

fn fids_of_attributes_are_nothing_else(client: &mut Client) {
    let fid = file(client);
    client.set_xattr(fid, b"user.a", b"value", 0).unwrap();
    let (reading, _) = client.xattrwalk(fid, b"user.a").unwrap();
    let writing = incoming(client, fid, 10);
    for fid in [reading, writing] {
        assert_eq!(client.getattr(fid).unwrap_err(), Errno::EBADF);
        assert_eq!(client.lopen(fid, RDONLY).unwrap_err(), Errno::EBADF);
        assert_eq!(client.walk(fid, fresh(), &[]).unwrap_err(), Errno::EBADF);
        assert_eq!(client.walk(fid, fid, &[]).unwrap_err(), Errno::EBADF);
        assert_eq!(client.xattrwalk(fid, b"user.a").unwrap_err(), Errno::EBADF);
        assert_eq!(client.done(&Tmessage::Tfsync { fid, datasync: 0 }).unwrap_err(), Errno::EBADF);
        assert_eq!(client.done(&Tmessage::Tlink { dfid: ROOT, fid, name: "l".into() }).unwrap_err(), Errno::EBADF);
        let again = Tmessage::Txattrcreate { fid, name: Str(b"user.a"), size: 1, flags: 0 };
        assert_eq!(client.done(&again).unwrap_err(), Errno::EBADF);
    }
    assert_eq!(client.read(reading, 0, 10).unwrap(), b"value");
}

fn fids_are_counted_and_replaced(client: &mut Client) {
    let fid = file(client);
    client.set_xattr(fid, b"user.a", b"value", 0).unwrap();
    let walk = Tmessage::Txattrwalk { fid, newfid: ROOT, name: Str(b"user.a") };
    assert_eq!(client.done(&walk).unwrap_err(), Errno::EINVAL, "the new fid is in use");
    let walk = Tmessage::Txattrwalk { fid, newfid: fid, name: Str(b"user.a") };
    assert_eq!(client.done(&walk).unwrap_err(), Errno::EINVAL, "the new fid is in use");
    let open = client.open("file", RDWR).unwrap();
    let create = Tmessage::Txattrcreate { fid: open, name: Str(b"user.a"), size: 1, flags: 0 };
    assert_eq!(client.done(&create).unwrap_err(), Errno::EINVAL, "it is open");
    assert_eq!(client.read(open, 0, 10).unwrap(), b"contents");
    assert_eq!(client.xattr(open, b"user.a").unwrap(), b"value", "but to be asked of");
}

fn what_is_held_is_limited(client: &mut Client) {
    let fid = file(client);
    let mut held = Vec::new();
    loop {
        let clone = fresh();
        client.walk(fid, clone, &[]).unwrap();
        let create = Tmessage::Txattrcreate { fid: clone, name: Str(b"user.a"), size: 65_536, flags: 0 };
        match client.done(&create) {
            Ok(()) => held.push(clone),
            Err(error) => break assert_eq!(error, Errno::ENOMEM),
        }
        assert!(held.len() <= 1000, "there is a limit");
    }
    assert_eq!(client.xattrwalk(fid, b"").unwrap_err(), Errno::ENOMEM);
    for fid in held {
        assert_eq!(client.clunk(fid).unwrap_err(), Errno::EINVAL);
    }
    client.set_xattr(fid, b"user.a", b"value", 0).unwrap();
    // What is held counts, not what could have been.
    for _ in 0..1000 {
        client.xattrwalk(fid, b"user.a").unwrap();
    }
}

fn open_and_unlinked_files_have_them(client: &mut Client) {
    let fid = file(client);
    let open = client.open("file", RDWR).unwrap();
    client.unlink("", "file", 0).unwrap();
    for fid in [fid, open] {
        client.set_xattr(fid, b"user.a", b"value", 0).unwrap();
        assert_eq!(client.xattr(fid, b"user.a").unwrap(), b"value");
        client.set_xattr(fid, b"user.a", b"", REPLACE).unwrap();
        assert_eq!(client.xattrs(fid).unwrap(), Vec::<String>::new());
    }
}

fn links_and_special_files(client: &mut Client) {
    file(client);
    client.symlink(ROOT, b"link", b"file").unwrap();
    client.mknod(ROOT, b"fifo", mode::IFIFO | 0o644, (0, 0)).unwrap();
    client.mknod(ROOT, b"socket", mode::IFSOCK | 0o644, (0, 0)).unwrap();
    for name in ["link", "fifo", "socket"] {
        let fid = client.at(name).unwrap();
        // That this returns at all shows that nothing was opened.
        assert_eq!(client.set_xattr(fid, b"user.a", b"x", 0).unwrap_err(), Errno::EPERM, "{name}");
        assert_eq!(client.xattrs(fid).unwrap(), Vec::<String>::new());
        if rustix::process::geteuid().is_root()
            && client.set_xattr(fid, b"trusted.a", name.as_bytes(), 0) != Err(Errno::EOPNOTSUPP)
        {
            assert_eq!(client.xattr(fid, b"trusted.a").unwrap(), name.as_bytes());
            assert_eq!(client.xattrs(fid).unwrap(), ["trusted.a"]);
        }
    }
    let file = client.at("file").unwrap();
    assert_eq!(client.xattrs(file).unwrap(), Vec::<String>::new(), "no link was followed");
}

/// A POSIX ACL as the attributes hold it: an entry for the user 12345 besides those that a mode says.
fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [(1_u16, 6_u16, !0_u32), (2, 4, 12345), (4, 4, !0), (0x10, 6, !0), (0x20, 0, !0)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

fn acls_pass_through(client: &mut Client) {
    let fid = file(client);
    let (access, default) = (b"system.posix_acl_access", b"system.posix_acl_default");
    match client.set_xattr(fid, access, &acl(), 0) {
        Err(Errno::EOPNOTSUPP) => return eprintln!("SKIPPED: the temporary directory's filesystem has no ACLs"),
        set => set.unwrap(),
    }
    assert_eq!(client.xattr(fid, access).unwrap(), acl());
    client.set_xattr(ROOT, default, &acl(), 0).unwrap();
    assert_eq!(client.xattr(ROOT, default).unwrap(), acl());
    assert_eq!(client.xattrs(ROOT).unwrap(), ["system.posix_acl_default"]);
    // Linux's client removes one in either way, whether there is one or not.
    for flags in [0, REPLACE, 0, REPLACE] {
        client.set_xattr(fid, access, b"", flags).unwrap();
        assert_eq!(client.xattr(fid, access).unwrap_err(), Errno::ENODATA);
    }
    client.set_xattr(ROOT, default, b"", REPLACE).unwrap();
    assert_eq!(client.xattrs(ROOT).unwrap(), Vec::<String>::new());
}

fn remove_sets_nothing(client: &mut Client) {
    let fid = file(client);
    let value = incoming(client, fid, 1);
    client.write(value, 0, b"x").unwrap();
    assert_eq!(client.done(&Tmessage::Tremove { fid: value }).unwrap_err(), Errno::EBADF);
    assert_eq!(client.clunk(value).unwrap_err(), Errno::EBADF);
    assert_eq!(client.xattrs(fid).unwrap(), Vec::<String>::new());
    assert!(client.exists("file"));
}

//! What a user may and may not do, whoever else asks for something at the same time.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    sync::Arc,
    thread,
};

use ninering::server::{NOBODY, Peer};
use ninering_wire::{
    Errno, NONUNAME, SetAttributes, Str, Tmessage,
    lopen::{RDONLY, RDWR, WRONLY},
    mode, setattr,
};

use crate::{
    ALICE, BOB, attach, attach_named,
    common::{Client, ROOT, fresh, serving::Serving},
    owner, served, users,
};

#[test]
fn what_a_user_makes_belongs_to_the_user() {
    let Some(served) = served(users()) else { return };
    let mut alice = served.user(ALICE);
    alice.make("", "file", b"x");
    alice.mkdir("", "directory").unwrap();
    alice.symlink(ROOT, b"link", b"target").unwrap();
    alice.mknod(ROOT, b"fifo", mode::IFIFO | 0o644, (0, 0)).unwrap();
    for name in ["file", "directory", "link", "fifo"] {
        // The group that the client says is none of a user's whom nobody knows.
        assert_eq!(owner(served.path(name)), (ALICE, NOBODY), "{name}");
    }
    let mut root = served.user(0);
    root.make("", "roots", b"");
    assert_eq!(owner(served.path("roots")), (0, 0));
    drop((alice, root));
    // And this thread is who it was.
    fs::write(served.path("mine"), "").unwrap();
    assert_eq!(owner(served.path("mine")), (0, 0));
}

#[test]
fn a_user_has_no_rights_but_a_users() {
    let Some(served) = served(users()) else { return };
    let mut alice = served.user(ALICE);
    fs::write(served.path("roots"), "secret").unwrap();
    fs::set_permissions(served.path("roots"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(served.path("closed")).unwrap();
    fs::set_permissions(served.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(served.path("closed/file"), "secret").unwrap();
    fs::create_dir(served.path("listed")).unwrap();
    fs::set_permissions(served.path("listed"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(served.path("listed/file"), "open").unwrap();

    assert_eq!(alice.open("roots", RDONLY), Err(Errno::EACCES));
    assert_eq!(alice.open("roots", WRONLY), Err(Errno::EACCES));
    let closed = alice.at("closed").unwrap();
    assert_eq!(alice.walk(closed, fresh(), &["file"]), Err(Errno::EACCES));
    assert_eq!(alice.open("closed", RDONLY), Err(Errno::EACCES));
    assert_eq!(alice.contents("listed/file").unwrap(), b"open");
    assert_eq!(alice.open("listed", RDONLY), Err(Errno::EACCES));
    assert_eq!(alice.create("listed", "new", WRONLY, 0o644), Err(Errno::EACCES));
    assert_eq!(alice.unlink("listed", "file", 0), Err(Errno::EACCES));
    assert_eq!(alice.rename("listed", "file", "", "file"), Err(Errno::EACCES));
    assert_eq!(alice.mknod(ROOT, b"null", mode::IFCHR | 0o666, (1, 3)), Err(Errno::EPERM));
    let file = alice.at("roots").unwrap();
    for (valid, error) in [
        (setattr::UID, Errno::EPERM),
        (setattr::GID, Errno::EPERM),
        (setattr::MODE, Errno::EPERM),
        (setattr::SIZE, Errno::EACCES),
        (setattr::ATIME, Errno::EPERM),
        (setattr::ATIME | setattr::MTIME, Errno::EACCES),
        (setattr::MTIME | setattr::MTIME_SET, Errno::EPERM),
    ] {
        let changes = SetAttributes { valid, uid: ALICE, gid: 1, mode: 0o666, ..SetAttributes::default() };
        assert_eq!(alice.setattr(file, changes), Err(error), "{valid:#x}");
    }
    // By a group or for all, who may write may truncate too, and the time goes with that.
    fs::write(served.path("shared"), "shared").unwrap();
    fs::set_permissions(served.path("shared"), fs::Permissions::from_mode(0o666)).unwrap();
    let shared = alice.at("shared").unwrap();
    let size = |size| SetAttributes {
        valid: setattr::SIZE | setattr::MTIME | setattr::CTIME,
        size,
        ..SetAttributes::default()
    };
    alice.setattr(shared, size(3)).unwrap();
    assert_eq!(fs::read(served.path("shared")).unwrap(), b"sha");
    // What is open stays so when permissions go.
    let open = alice.open("shared", RDWR).unwrap();
    fs::set_permissions(served.path("shared"), fs::Permissions::from_mode(0o000)).unwrap();
    alice.setattr(open, size(1)).unwrap();
    assert_eq!(alice.read(open, 0, 10).unwrap(), b"s");
    assert_eq!(alice.setattr(shared, size(0)), Err(Errno::EACCES));
    // One's own one may change, but not give away.
    alice.make("", "own", b"");
    let own = alice.at("own").unwrap();
    let change = |valid| SetAttributes { valid, uid: BOB, gid: 0, mode: 0o600, ..SetAttributes::default() };
    alice.setattr(own, change(setattr::MODE)).unwrap();
    assert_eq!(alice.setattr(own, change(setattr::UID)), Err(Errno::EPERM));
    assert_eq!(alice.setattr(own, change(setattr::GID)), Err(Errno::EPERM));
    assert_eq!(fs::read(served.path("roots")).unwrap(), b"secret");
    // Root may all that.
    let mut root = served.user(0);
    assert_eq!(root.contents("closed/file").unwrap(), b"secret");
    let own = root.at("own").unwrap();
    root.setattr(own, change(setattr::UID | setattr::GID)).unwrap();
    assert_eq!(owner(served.path("own")), (BOB, 0));
}

#[test]
fn what_one_user_walked_another_may_not_have_for_that() {
    let Some(served) = served(users()) else { return };
    let (mut alice, mut bob) = (served.user(ALICE), served.user(BOB));
    alice.mkdir("", "home").unwrap();
    alice.mkdir("home", "inner").unwrap();
    alice.make("home/inner", "file", b"hers");
    let home = alice.at("home").unwrap();
    let private = SetAttributes { valid: setattr::MODE, mode: 0o700, ..SetAttributes::default() };
    alice.setattr(home, private).unwrap();
    for _ in 0..3 {
        // What she looks up is known to the backend, and for him nothing follows from that.
        assert_eq!(alice.contents("home/inner/file").unwrap(), b"hers");
        let home = bob.at("home").unwrap();
        assert_eq!(bob.walk(home, fresh(), &["inner"]), Err(Errno::EACCES));
        assert_eq!(bob.walk(home, fresh(), &["inner", "file"]), Err(Errno::EACCES));
        // What could be walked of several names is all that a reply tells.
        assert_eq!(bob.walk(ROOT, fresh(), &["home", "inner"]).map(|qids| qids.len()), Ok(1));
    }
    assert_eq!(alice.contents("home/inner/file").unwrap(), b"hers", "nor is it forgotten");
}

#[test]
fn a_users_capabilities_are_gone_too() {
    let Some(served) = served(users()) else { return };
    let mut alice = served.user(ALICE);
    alice.make("", "file", b"x");
    let mut set = |name: &[u8]| {
        let fid = alice.at("file")?;
        alice.done(&Tmessage::Txattrcreate { fid, name: Str(name), size: 1, flags: 0 })?;
        alice.write(fid, 0, b"1")?;
        alice.clunk(fid)
    };
    // Some filesystems have no attributes for users, all have these for who may.
    for name in [&b"trusted.x"[..], b"security.x", b"security.capability"] {
        assert!(matches!(set(name), Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::EINVAL)), "{:?}", set(name));
    }
    assert!(rustix::fs::lgetxattr(served.path("file"), c"trusted.x", &mut [0; 8]).is_err());
}

/// CVE-2021-20263: a file kept its capabilities when somebody had written to it.
#[test]
fn capabilities_of_a_file_go_when_it_is_written() {
    let Some(served) = served(users()) else { return };
    fs::write(served.path("tool"), "good").unwrap();
    fs::set_permissions(served.path("tool"), fs::Permissions::from_mode(0o4777)).unwrap();
    // Version 2, effective: CAP_NET_RAW.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let none = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(served.path("tool"), c"security.capability", &capability, none).is_err() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: capabilities_of_a_file_go_when_it_is_written: no capabilities");
        return;
    }
    let mut alice = served.user(ALICE);
    let tool = alice.open("tool", WRONLY).unwrap();
    alice.write(tool, 0, b"evil").unwrap();
    assert!(rustix::fs::getxattr(served.path("tool"), c"security.capability", &mut [0; 32]).is_err());
    assert_eq!(fs::metadata(served.path("tool")).unwrap().mode() & 0o7777, 0o777);
}

#[test]
fn a_fid_acts_as_its_attach_and_those_of_one_request_are_of_one_user() {
    let Some(served) = served(users()) else { return };
    let mut client = served.user(ALICE);
    let (hers, his, roots) = (ROOT, fresh(), fresh());
    attach(&mut client, his, BOB, "").unwrap();
    attach(&mut client, roots, 0, "").unwrap();
    for (fid, uid) in [(hers, ALICE), (his, BOB), (roots, 0), (his, BOB), (hers, ALICE)] {
        let (name, walked) = (format!("of{uid}-{}", fresh()), fresh());
        client.walk(fid, walked, &[]).unwrap();
        client.lcreate(walked, name.as_bytes(), RDWR, 0o600).unwrap();
        assert_eq!(owner(served.path(&name)).0, uid);
    }
    client.make("", "file", b"");
    let file = client.at("file").unwrap();
    let name = Str(b"new");
    for message in [
        Tmessage::Tlink { dfid: his, fid: file, name },
        Tmessage::Trenameat { olddirfid: hers, oldname: Str(b"file"), newdirfid: his, newname: name },
        Tmessage::Trename { fid: file, dfid: roots, name },
    ] {
        assert_eq!(client.done(&message), Err(Errno::EPERM), "{message:?}");
    }
    assert!(!served.path("new").exists());
}

/// Many users, on connections of their own and on one that they share, all at the same time.
#[test]
fn no_request_is_done_as_somebody_else() {
    let Some(served) = served(users()) else { return };
    let serving = Serving::on_tcp_socket(Arc::clone(&served.server));
    let work = |client: &mut Client, root: u32, uid: u32, worker: u32| {
        for round in 0..60 {
            let name = format!("{uid}-{worker}-{round}");
            let fid = fresh();
            client.walk(root, fid, &[]).unwrap();
            client.lcreate(fid, name.as_bytes(), RDWR, 0o600).unwrap();
            client.write(fid, 0, name.as_bytes()).unwrap();
            let (attributes, expected) = (client.getattr(fid).unwrap(), if uid == 0 { 0 } else { NOBODY });
            assert_eq!((attributes.uid, attributes.gid), (uid, expected), "{name}");
            client.clunk(fid).unwrap();
            // Others' files are closed to who is not root, whoever was served before on that thread.
            let others = fs::read_dir(served.directory.path()).unwrap().map(|entry| entry.unwrap());
            let other = others
                .map(|entry| entry.file_name().into_string().unwrap())
                .find(|other| !other.starts_with(&format!("{uid}-")));
            if let Some(other) = other {
                let fid = fresh();
                client.walk(root, fid, &[&other]).unwrap();
                let opened = client.lopen(fid, RDONLY).map(drop);
                assert_eq!(opened, if uid == 0 { Ok(()) } else { Err(Errno::EACCES) }, "{other} for {uid}");
                client.clunk(fid).unwrap();
            }
        }
    };
    let work = &work;
    thread::scope(|scope| {
        for worker in 0..6 {
            let mut client = serving.client();
            scope.spawn(move || {
                let uid = [ALICE, BOB, 0][worker as usize % 3];
                client.version(1 << 20).unwrap();
                attach(&mut client, ROOT, uid, "").unwrap();
                work(&mut client, ROOT, uid, worker);
            });
        }
        // Sessions whose fids are of all three.
        for worker in 6..8 {
            let mut client = serving.client();
            scope.spawn(move || {
                client.version(1 << 20).unwrap();
                for (fid, uid) in [(1, BOB), (2, 0), (3, ALICE)] {
                    attach(&mut client, fid, uid, "").unwrap();
                    work(&mut client, fid, uid, worker);
                }
            });
        }
    });
    for entry in fs::read_dir(served.directory.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(name.starts_with(&format!("{}-", entry.metadata().unwrap().uid())), "{name}");
        assert_eq!(fs::read_to_string(entry.path()).unwrap(), name);
    }
}

#[test]
fn a_user_of_the_databases_has_their_groups() {
    let Some(served) = served(users()) else { return };
    let mut daemon = served.stranger(Peer::Unknown);
    // By name alone, as the older dialects have it.
    if attach_named(&mut daemon, ROOT, "daemon", NONUNAME, "").is_err() {
        return;
    }
    daemon.make("", "file", b"");
    let (uid, gid) = owner(served.path("file"));
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if passwd.lines().any(|line| line.starts_with("daemon:x:1:1:")) {
        assert_eq!((uid, gid), (1, 1));
    }
    // A name that is nobody's is nobody.
    let mut stranger = served.stranger(Peer::Unknown);
    attach_named(&mut stranger, ROOT, "no such user", NONUNAME, "").unwrap();
    stranger.make("", "strange", b"");
    assert_eq!(owner(served.path("strange")), (NOBODY, NOBODY));
}

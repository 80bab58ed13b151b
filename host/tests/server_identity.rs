//! As whom requests are done: each as the user who attached, whatever others do at the same time; exports and their terms.
//!
//! Most of it takes root, and is skipped, with a word on the terminal, where the tests run as somebody else.

mod common;

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    sync::Arc,
    thread,
};

use common::{Client, Direct, ROOT, fresh, serving::Serving};
use ninering::{
    backend::{Credentials, DirBackend, DirOptions, MemBackend, Overrides},
    server::{Export, ExportError, IdMap, Identity, NOBODY, Peer, Server, ServerOptions, Squash, Terms},
};
use ninering_wire::{
    Errno, NOFID, NONUNAME, SetAttributes, Str, Tmessage,
    lopen::{RDONLY, RDWR, WRONLY},
    mode, setattr,
};
use tempfile::TempDir;

/// Users that no machine has in its databases.
const ALICE: u32 = 4_000_000_001;
const BOB: u32 = 4_000_000_002;

/// A directory that all may write to, and a server of it.
struct Served {
    directory: TempDir,
    server: Arc<Server>,
}

impl Served {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client that has said nothing but its version.
    fn stranger(&self, peer: Peer) -> Client {
        let session = Arc::new(self.server.session_with(peer));
        let mut client = Client::new(Direct { session, space: None });
        client.version(1 << 20).unwrap();
        client
    }

    /// A client whose [`ROOT`] the user `uid` has attached.
    fn user(&self, uid: u32) -> Client {
        let mut client = self.stranger(Peer::Unknown);
        attach(&mut client, ROOT, uid, "").unwrap();
        client
    }
}

fn attach(client: &mut Client, fid: u32, uid: u32, aname: &str) -> Result<(), Errno> {
    attach_named(client, fid, "", uid, aname)
}

fn attach_named(client: &mut Client, fid: u32, uname: &str, n_uname: u32, aname: &str) -> Result<(), Errno> {
    client.done(&Tmessage::Tattach { fid, afid: NOFID, uname: uname.into(), aname: aname.into(), n_uname })
}

/// Serves a new directory as `terms` say; nothing, and a word on the terminal, where this is not root.
fn served(terms: Terms) -> Option<Served> {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // No umask but the clients'.
    rustix::process::umask(rustix::fs::Mode::empty());
    let backend = DirBackend::new(directory.path(), DirOptions::default()).unwrap();
    match Server::with_exports(vec![Export::new(Arc::new(backend), terms)], ServerOptions::default()) {
        Ok(server) => Some(Served { directory, server }),
        Err(ExportError::Switch(reason)) => {
            // Not by `eprintln!`, which a test that passes is not heard by.
            let _ = writeln!(std::io::stderr(), "SKIPPED: a test of identities: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn users() -> Terms {
    Terms { identity: Identity::User, ..Terms::default() }
}

fn owner(path: PathBuf) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

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

#[test]
fn squashed_users_are_anonymous() {
    for (squash, root, alice) in [(Squash::Root, 1234, ALICE), (Squash::All, 1234, 1234), (Squash::Nobody, 0, ALICE)] {
        let terms = Terms { squash, anonymous: (1234, 4321), ..users() };
        let Some(served) = served(terms) else { return };
        served.user(0).make("", "root", b"");
        served.user(ALICE).make("", "alice", b"");
        assert_eq!(owner(served.path("root")).0, root, "{squash:?}");
        assert_eq!(owner(served.path("alice")), (alice, 4321), "{squash:?}");
        let mut nameless = served.user(NONUNAME);
        nameless.make("", "nameless", b"");
        assert_eq!(owner(served.path("nameless")), (1234, 4321));
    }
}

#[test]
fn numbers_are_mapped_in_both_directions() {
    let map = |range: &str| {
        let mut map = IdMap::default();
        map.add(range.parse().unwrap()).unwrap();
        map
    };
    let terms =
        Terms { users: map("0:70000:1000"), groups: map("0:80000:1000"), anonymous: (70_999, 80_999), ..users() };
    let Some(served) = served(terms) else { return };
    let mut user = served.user(5);
    user.make("", "file", b"");
    assert_eq!(owner(served.path("file")), (70_005, 80_999));
    let seen = user.stat("file").unwrap();
    assert_eq!((seen.uid, seen.gid), (5, 999));
    // Those who are not the client's are seen as nobody.
    fs::write(served.path("roots"), "").unwrap();
    let seen = user.stat("roots").unwrap();
    assert_eq!((seen.uid, seen.gid), (NOBODY, NOBODY));
    // The client's root is nobody's root.
    let mut root = served.user(0);
    root.make("", "container", b"");
    assert_eq!(owner(served.path("container")).0, 70_000);
    let fid = user.at("file").unwrap();
    let to = |uid| SetAttributes { valid: setattr::UID, uid, ..SetAttributes::default() };
    assert_eq!(user.setattr(fid, to(5000)), Err(Errno::EINVAL), "a number without a meaning here");
    assert_eq!(user.setattr(fid, to(6)), Err(Errno::EPERM));
    user.setattr(fid, to(5)).unwrap();
    let mut stranger = served.stranger(Peer::Unknown);
    assert_eq!(attach(&mut stranger, ROOT, 1000, ""), Err(Errno::EPERM));
    assert_eq!(attach(&mut stranger, ROOT, 70_000, ""), Err(Errno::EPERM));
}

#[test]
fn numbers_in_acls_are_mapped_too() {
    let mut users_map = IdMap::default();
    users_map.add("0:70000:1000".parse().unwrap()).unwrap();
    let terms = Terms { users: users_map, anonymous: (70_999, NOBODY), ..users() };
    let memory = Arc::new(MemBackend::default());
    let server = |terms| Server::with_exports(vec![Export::new(memory.clone(), terms)], ServerOptions::default());
    let mut inside = Client::new(Direct { session: Arc::new(server(terms).unwrap().session()), space: None });
    let mut outside = Client::attached(server(Terms::default()).unwrap());
    inside.version(1 << 20).unwrap();
    outside.make("", "file", b"");
    let own = SetAttributes { valid: setattr::UID, uid: 70_005, ..SetAttributes::default() };
    let file = outside.at("file").unwrap();
    outside.setattr(file, own).unwrap();
    attach(&mut inside, ROOT, 5, "").unwrap();

    // Read for the owner, for a named user and group, and as mask; nothing for others.
    let acl = |user: u32| {
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, id) in [(1u16, !0), (2, user), (4, !0), (8, 33), (16, !0), (32, !0u32)] {
            acl.extend([&tag.to_le_bytes()[..], &4u16.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        acl
    };
    let name = Str(b"system.posix_acl_access");
    let set = |client: &mut Client, acl: &[u8]| {
        let fid = client.at("file").unwrap();
        client.done(&Tmessage::Txattrcreate { fid, name, size: acl.len() as u64, flags: 0 }).unwrap();
        client.write(fid, 0, acl).unwrap();
        client.clunk(fid)
    };
    let get = |client: &mut Client| {
        let (fid, newfid) = (client.at("file").unwrap(), fresh());
        client.done(&Tmessage::Txattrwalk { fid, newfid, name }).unwrap();
        client.read(newfid, 0, 1000).unwrap()
    };
    assert_eq!(set(&mut inside, &acl(6)), Ok(()));
    assert_eq!(get(&mut inside), acl(6));
    assert_eq!(get(&mut outside), acl(70_006));
    assert_eq!(set(&mut inside, &acl(1000)), Err(Errno::EINVAL), "nobody here");
    assert_eq!(set(&mut outside, &acl(5)), Ok(()));
    assert_eq!(get(&mut inside), acl(NOBODY), "nobody there");
}

/// A POSIX ACL as the attributes hold it: for the owner, a named user, the owning group, the mask and others.
fn acl(owner: u16, (user, users): (u32, u16), group: u16, mask: u16, others: u16) -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    let entries = [(1u16, owner, !0), (2, users, user), (4, group, !0), (16, mask, !0), (32, others, !0u32)];
    for (tag, permissions, id) in entries {
        acl.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    acl
}

#[test]
fn acls_grant_and_deny_in_memory() {
    let memory = Arc::new(MemBackend::default());
    let server = Server::with_exports(vec![Export::new(memory, users())], ServerOptions::default()).unwrap();
    let client = |uid| {
        let mut client = Client::new(Direct { session: Arc::new(server.session()), space: None });
        client.version(1 << 20).unwrap();
        attach(&mut client, ROOT, uid, "").unwrap();
        client
    };
    let (mut root, mut daemon, mut bin) = (client(0), client(1), client(2));
    let access = b"system.posix_acl_access";
    root.make("", "file", b"x");
    let file = root.at("file").unwrap();
    set_xattr(&mut root, file, access, &acl(6, (1, 6), 0, 4, 0)).unwrap();
    assert_eq!(root.getattr(file).unwrap().mode & 0o777, 0o640, "the mask is the group's digit");
    assert!(daemon.open("file", RDONLY).is_ok());
    assert_eq!(daemon.open("file", RDWR), Err(Errno::EACCES), "the mask takes it away");
    assert_eq!(bin.open("file", RDONLY), Err(Errno::EACCES));
    let mode = |mode| SetAttributes { valid: setattr::MODE, mode, ..SetAttributes::default() };
    root.setattr(file, mode(0o660)).unwrap();
    assert_eq!(xattr(&mut root, file, access).unwrap(), acl(6, (1, 6), 0, 6, 0));
    assert!(daemon.open("file", RDWR).is_ok());
    root.setattr(file, mode(0o600)).unwrap();
    assert_eq!(daemon.open("file", RDONLY), Err(Errno::EACCES));
    // One that denies more than others are denied.
    set_xattr(&mut root, file, access, &acl(6, (1, 0), 4, 4, 4)).unwrap();
    assert_eq!(daemon.open("file", RDONLY), Err(Errno::EACCES));
    assert!(bin.open("file", RDONLY).is_ok());
    let file_of_daemon = daemon.at("file").unwrap();
    assert_eq!(set_xattr(&mut daemon, file_of_daemon, access, &acl(6, (1, 6), 6, 6, 6)), Err(Errno::EPERM));
    set_xattr(&mut root, file, access, b"").unwrap();
    assert_eq!(xattr(&mut root, file, access), Err(Errno::ENODATA));
    assert_eq!(root.getattr(file).unwrap().mode & 0o777, 0o644);

    // What a directory says of new files.
    let default = b"system.posix_acl_default";
    root.mkdir("", "d").unwrap();
    let directory = root.at("d").unwrap();
    assert_eq!(set_xattr(&mut root, file, default, &acl(7, (1, 7), 5, 7, 0)), Err(Errno::EACCES), "it is no directory");
    set_xattr(&mut root, directory, default, &acl(7, (1, 7), 5, 7, 0)).unwrap();
    root.make("d", "made", b"");
    root.mkdir("d", "below").unwrap();
    let (made, below) = (root.at("d/made").unwrap(), root.at("d/below").unwrap());
    let mode = root.getattr(made).unwrap().mode & 0o777;
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    let mask = (mode >> 3 & 7) as u16;
    assert_eq!(xattr(&mut root, made, access).unwrap(), acl((mode >> 6) as u16, (1, 7), 5, mask, 0));
    assert_eq!(xattr(&mut root, made, default), Err(Errno::ENODATA));
    assert_eq!(xattr(&mut root, below, default).unwrap(), acl(7, (1, 7), 5, 7, 0));
    assert_eq!(set_xattr(&mut root, file, access, b"what is none"), Err(Errno::EOPNOTSUPP));
    assert_eq!(set_xattr(&mut root, file, access, &acl(9, (1, 7), 5, 7, 0)), Err(Errno::EINVAL));
}

fn set_xattr(client: &mut Client, file: u32, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    let fid = fresh();
    client.walk(file, fid, &[])?;
    client.done(&Tmessage::Txattrcreate { fid, name: Str(name), size: value.len() as u64, flags: 0 })?;
    client.write(fid, 0, value)?;
    client.clunk(fid)
}

fn xattr(client: &mut Client, fid: u32, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let newfid = fresh();
    client.done(&Tmessage::Txattrwalk { fid, newfid, name: Str(name) })?;
    client.read(newfid, 0, 1000)
}

#[test]
fn only_allowed_users_attach() {
    let Some(served) = served(Terms { allowed: Some([ALICE].into()), ..users() }) else { return };
    let mut client = served.stranger(Peer::Unknown);
    for other in [0, BOB, NONUNAME] {
        assert_eq!(attach(&mut client, ROOT, other, ""), Err(Errno::EACCES));
    }
    attach(&mut client, ROOT, ALICE, "").unwrap();
}

#[test]
fn a_peer_is_who_its_kernel_says() {
    let Some(served) = served(Terms { identity: Identity::Peer, ..Terms::default() }) else { return };
    let process = |uid| Peer::Process {
        credentials: Credentials { uid, gid: 7777, groups: vec![8888], overrides: Overrides::Nothing },
        pid: None,
    };
    let mut alice = served.stranger(process(ALICE));
    for other in [0, BOB] {
        assert_eq!(attach(&mut alice, ROOT, other, ""), Err(Errno::EPERM));
    }
    attach(&mut alice, ROOT, NONUNAME, "").unwrap();
    attach(&mut alice, fresh(), ALICE, "").unwrap();
    alice.make("", "file", b"");
    assert_eq!(owner(served.path("file")), (ALICE, 7777));
    // Its supplementary groups count.
    let file = alice.at("file").unwrap();
    let group = |gid| SetAttributes { valid: setattr::GID, gid, ..SetAttributes::default() };
    alice.setattr(file, group(8888)).unwrap();
    assert_eq!(alice.setattr(file, group(9999)), Err(Errno::EPERM));
    assert_eq!(owner(served.path("file")), (ALICE, 8888));
    // Root speaks for its users.
    let mut root = served.stranger(process(0));
    attach(&mut root, ROOT, BOB, "").unwrap();
    root.make("", "his", b"");
    assert_eq!(owner(served.path("his")).0, BOB);
    for nobody in [Peer::Unknown, Peer::Network("127.0.0.1:1".parse().unwrap())] {
        assert_eq!(attach(&mut served.stranger(nobody), ROOT, ALICE, ""), Err(Errno::EPERM));
    }
    // By a socket: the tests' own user.
    let serving = Serving::on_unix_socket(Arc::clone(&served.server));
    let mut client = serving.client();
    client.version(1 << 20).unwrap();
    attach(&mut client, ROOT, NONUNAME, "").unwrap();
    client.make("", "mine", b"");
    assert_eq!(owner(served.path("mine")).0, rustix::process::geteuid().as_raw());
}

#[test]
fn where_the_client_checks_permissions_a_user_only_owns() {
    let Some(served) = served(Terms { client_checks: true, ..users() }) else { return };
    fs::create_dir(served.path("closed")).unwrap();
    fs::set_permissions(served.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut alice = served.user(ALICE);
    let file = alice.create("closed", "file", RDWR, 0o755).unwrap();
    // The group that the client says, which knows its users' groups.
    assert_eq!(owner(served.path("closed/file")), (ALICE, common::gid()));
    let change = SetAttributes { valid: setattr::GID, gid: 5555, ..SetAttributes::default() };
    alice.setattr(file, change).unwrap();
    let mode_of = |name: &str| fs::metadata(served.path(name)).unwrap().mode() & 0o7777;
    let set_ids = SetAttributes { valid: setattr::MODE, mode: 0o6755, ..SetAttributes::default() };
    alice.setattr(file, set_ids).unwrap();
    assert_eq!(mode_of("closed/file"), 0o6755);
    alice.write(file, 0, b"x").unwrap();
    assert_eq!(mode_of("closed/file"), 0o755, "as for everybody but root");
}

#[test]
fn an_aname_chooses_the_export() {
    let export = |name: &str, read_only| {
        let terms = Terms { name: name.into(), read_only, ..Terms::default() };
        Export::new(Arc::new(MemBackend::default()), terms)
    };
    let exports = vec![export("", false), export("a", false), export("a/b", true)];
    let server = Server::with_exports(exports, ServerOptions::default()).unwrap();
    let mut client = Client::attached(Arc::clone(&server));
    let (a, ab, again) = (fresh(), fresh(), fresh());
    for (fid, aname) in [(a, "a"), (ab, "/a/b"), (again, "/a/")] {
        client.attach(fid, aname).unwrap();
    }
    let mut make = |fid: u32, name: &[u8]| client.mkdir_in(fid, name, 0o755).map(drop);
    make(ROOT, b"in default").unwrap();
    make(a, b"in a").unwrap();
    assert_eq!(make(ab, b"in ab"), Err(Errno::EROFS));
    assert_eq!(make(again, b"in a"), Err(Errno::EEXIST));
    for aname in ["ab", "b", "a/c", "a/b/c"] {
        assert_eq!(client.attach(fresh(), aname).err(), Some(Errno::ENOENT), "{aname}");
    }
    let message =
        Tmessage::Trenameat { olddirfid: ROOT, oldname: Str(b"in default"), newdirfid: a, newname: Str(b"x") };
    assert_eq!(client.done(&message), Err(Errno::EXDEV), "from one export to another");
    // Without a default, an empty name is none.
    let server = Server::with_exports(vec![export("only", false)], ServerOptions::default()).unwrap();
    let mut client = Client::new(Direct { session: Arc::new(server.session()), space: None });
    client.version(1 << 20).unwrap();
    assert_eq!(client.attach(ROOT, "").err(), Some(Errno::ENOENT));
    client.attach(ROOT, "only").unwrap();
}

/// What is in memory is checked by its own code; root need not run that.
#[test]
fn memory_has_permissions_too() {
    let export = Export::new(Arc::new(MemBackend::default()), users());
    let server = Server::with_exports(vec![export], ServerOptions::default()).unwrap();
    let user = |uid| {
        let mut client = Client::new(Direct { session: Arc::new(server.session()), space: None });
        client.version(1 << 20).unwrap();
        attach(&mut client, ROOT, uid, "").unwrap();
        client
    };
    let (mut root, mut alice, mut bob) = (user(0), user(ALICE), user(BOB));
    let set = |client: &mut Client, path: &str, changes: SetAttributes| {
        let fid = client.at(path).unwrap();
        client.setattr(fid, changes)
    };
    let to = |valid| SetAttributes { valid, ..SetAttributes::default() };
    let mode = |mode| SetAttributes { mode, ..to(setattr::MODE) };

    assert_eq!(alice.mkdir("", "x"), Err(Errno::EACCES), "the root directory is root's");
    root.mkdir("", "tmp").unwrap();
    set(&mut root, "tmp", mode(0o1777)).unwrap();
    alice.make("tmp", "file", b"hers");
    let made = alice.stat("tmp/file").unwrap();
    assert_eq!((made.uid, made.gid), (ALICE, NOBODY));
    // Owner, group, others.
    assert_eq!(bob.contents("tmp/file").unwrap(), b"hers");
    assert_eq!(bob.open("tmp/file", WRONLY), Err(Errno::EACCES));
    set(&mut alice, "tmp/file", mode(0o060)).unwrap();
    assert_eq!(alice.open("tmp/file", RDONLY), Err(Errno::EACCES), "the owner is no other, nor the group");
    assert_eq!(bob.contents("tmp/file").unwrap(), b"hers", "both have the group of who is unknown");
    assert_eq!(root.contents("tmp/file").unwrap(), b"hers");
    // A sticky directory, and others' entries.
    assert_eq!(bob.unlink("tmp", "file", 0), Err(Errno::EPERM));
    assert_eq!(bob.rename("tmp", "file", "tmp", "his"), Err(Errno::EPERM));
    bob.make("tmp", "his", b"");
    assert_eq!(bob.rename("tmp", "his", "tmp", "file"), Err(Errno::EPERM));
    bob.link("tmp/file", "tmp", "link").unwrap();
    assert_eq!(bob.unlink("tmp", "link", 0), Err(Errno::EPERM));
    // What is the owner's, and what is root's.
    for changes in [mode(0o777), to(setattr::MTIME | setattr::MTIME_SET), to(setattr::UID), to(setattr::GID)] {
        assert_eq!(set(&mut bob, "tmp/file", changes), Err(Errno::EPERM), "{:#x}", changes.valid);
    }
    set(&mut bob, "tmp/file", to(setattr::SIZE | setattr::MTIME)).unwrap();
    set(&mut bob, "tmp/file", to(setattr::ATIME | setattr::MTIME)).unwrap();
    let give = SetAttributes { uid: BOB, ..to(setattr::UID) };
    assert_eq!(set(&mut alice, "tmp/file", give), Err(Errno::EPERM));
    set(&mut alice, "tmp/file", mode(0o000)).unwrap();
    assert_eq!(set(&mut alice, "tmp/file", to(setattr::SIZE)), Err(Errno::EACCES));
    set(&mut root, "tmp/file", give).unwrap();
    let fid = alice.at("tmp").unwrap();
    assert_eq!(alice.mknod(fid, b"null", mode::IFCHR | 0o666, (1, 3)), Err(Errno::EPERM));
    alice.mknod(fid, b"fifo", mode::IFIFO | 0o644, (0, 0)).unwrap();
    // Who is not in the group makes nothing set-group-id for it.
    set(&mut root, "tmp/fifo", SetAttributes { gid: 5, ..to(setattr::GID) }).unwrap();
    set(&mut alice, "tmp/fifo", mode(0o2755)).unwrap();
    assert_eq!(alice.stat("tmp/fifo").unwrap().mode & 0o7777, 0o755);
    // What is made is open, whatever its permissions.
    let file = alice.create("tmp", "closed", RDWR, 0o000).unwrap();
    alice.write(file, 0, b"x").unwrap();
    alice.setattr(file, SetAttributes { size: 3, ..to(setattr::SIZE) }).unwrap();
    assert_eq!(alice.read(file, 0, 9).unwrap(), b"x\0\0");
    assert_eq!(alice.open("tmp/closed", RDONLY), Err(Errno::EACCES));
    // A directory that may not be searched.
    alice.mkdir("tmp", "home").unwrap();
    alice.make("tmp/home", "file", b"");
    set(&mut alice, "tmp/home", mode(0o600)).unwrap();
    for (client, listed) in [(&mut alice, Ok(())), (&mut bob, Err(Errno::EACCES))] {
        let home = client.at("tmp/home").unwrap();
        assert_eq!(client.walk(home, fresh(), &["file"]), Err(Errno::EACCES));
        assert_eq!(client.mkdir_in(home, b"new", 0o755), Err(Errno::EACCES));
        assert_eq!(client.lopen(home, RDONLY).map(drop), listed);
    }
    // Attributes.
    let set_xattr = |client: &mut Client, name: &[u8]| {
        let fid = client.at("tmp/his").unwrap();
        client.done(&Tmessage::Txattrcreate { fid, name: Str(name), size: 1, flags: 0 })?;
        client.write(fid, 0, b"1")?;
        client.clunk(fid)
    };
    assert_eq!(set_xattr(&mut bob, b"user.x"), Ok(()));
    assert_eq!(set_xattr(&mut alice, b"user.x"), Err(Errno::EACCES));
    assert_eq!(set_xattr(&mut bob, b"trusted.x"), Err(Errno::EPERM));
    assert_eq!(set_xattr(&mut bob, b"security.capability"), Err(Errno::EPERM));
    assert_eq!(set_xattr(&mut root, b"trusted.x"), Ok(()));
}

#[test]
fn exports_that_cannot_be_are_refused() {
    let export = |name: &str| {
        let terms = Terms { name: name.into(), ..Terms::default() };
        Export::new(Arc::new(MemBackend::default()), terms)
    };
    let refused = |exports| Server::with_exports(exports, ServerOptions::default()).err();
    assert!(matches!(refused(vec![]), Some(ExportError::None)));
    assert!(matches!(refused(vec![export("a"), export("a")]), Some(ExportError::SameName(name)) if name == "a"));
}

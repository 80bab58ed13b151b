//! Exports and their terms: who attaches as whom, and how numbers are translated.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    sync::Arc,
};

use ninering::{
    backend::{Credentials, MemBackend, Overrides},
    server::{Export, ExportError, IdMap, Identity, NOBODY, Peer, Server, ServerOptions, Squash, Terms},
};
use ninering_wire::{Errno, NONUNAME, SetAttributes, Str, Tmessage, lopen::RDWR, setattr};

use crate::{
    ALICE, BOB, attach,
    common::{Client, Direct, ROOT, fresh, gid, serving::Serving},
    owner, served, users,
};

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
    assert_eq!(owner(served.path("closed/file")), (ALICE, gid()));
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

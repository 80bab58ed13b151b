//! Permissions in memory, where no kernel checks them.

use std::sync::Arc;

use ninering::{
    backend::MemBackend,
    server::{Export, NOBODY, Server, ServerOptions},
};
use ninering_wire::{
    Errno, SetAttributes, Str, Tmessage,
    lopen::{RDONLY, RDWR, WRONLY},
    mode, setattr,
};

use crate::{
    ALICE, BOB, attach,
    common::{Client, Direct, ROOT, fresh},
    users,
};

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

/// A POSIX ACL as the attributes hold it: for the owner, a named user, the owning group, the mask and others.
fn acl(owner: u16, (user, users): (u32, u16), group: u16, mask: u16, others: u16) -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    let entries = [(1u16, owner, !0), (2, users, user), (4, group, !0), (16, mask, !0), (32, others, !0u32)];
    for (tag, permissions, id) in entries {
        acl.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    acl
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

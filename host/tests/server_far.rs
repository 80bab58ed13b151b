//! A filesystem on another machine: the thread that reads a connection's requests never waits for it, in any dialect.

mod common;

use std::{sync::Arc, thread};

use common::{legacy::LegacyClient, serving::Serving};
use ninering::{
    backend::{Backend, MemBackend, Node, NodeRef, OpenRef, User},
    server::{Server, ServerOptions},
};
use ninering_wire::{
    Attributes, Errno, Name, Qid, SetAttributes, Statfs,
    legacy::{Plan9, Unix, open},
    lopen,
};

/// Memory that says that it is far away, and checks who asks.
struct Far(MemBackend);

struct FarNode(NodeRef);

/// Fails where the thread is one that reads requests.
fn ask() {
    assert_ne!(thread::current().name(), Some("9p connection"), "who reads requests does not wait");
}

impl Backend for Far {
    fn attach(&self, user: &User, aname: &[u8]) -> Result<NodeRef, Errno> {
        ask();
        Ok(Arc::new(FarNode(self.0.attach(user, aname)?)))
    }

    fn always_waits(&self) -> bool {
        true
    }
}

impl Node for FarNode {
    fn qid(&self) -> Qid {
        self.0.qid()
    }

    fn always_waits(&self) -> bool {
        true
    }

    fn lookup(&self, name: Name<'_>) -> Result<NodeRef, Errno> {
        ask();
        Ok(Arc::new(Self(self.0.lookup(name)?)))
    }

    fn parent(&self) -> Result<Option<NodeRef>, Errno> {
        self.0.parent()
    }

    fn attributes(&self, request_mask: u64) -> Result<Attributes, Errno> {
        ask();
        self.0.attributes(request_mask)
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        ask();
        self.0.set_attributes(changes)
    }

    fn open(&self, flags: u32) -> Result<OpenRef, Errno> {
        ask();
        self.0.open(flags)
    }

    fn create(&self, name: Name<'_>, flags: u32, mode: u32, gid: u32) -> Result<(NodeRef, OpenRef), Errno> {
        ask();
        let (node, file) = self.0.create(name, flags, mode, gid)?;
        Ok((Arc::new(Self(node)), file))
    }

    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<(), Errno> {
        ask();
        self.0.unlink(name, directory)
    }

    fn statfs(&self) -> Result<Statfs, Errno> {
        ask();
        self.0.statfs()
    }
}

fn serving() -> Serving {
    Serving::on_unix_socket(Server::new(Arc::new(Far(MemBackend::default())), ServerOptions::default()))
}

#[test]
fn it_is_not_waited_for_in_9p2000_l() {
    let serving = serving();
    let mut client = serving.client();
    client.begin();
    client.make("", "file", b"contents");
    let fid = client.open("file", lopen::RDONLY).unwrap();
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"contents");
    client.getattr(fid).unwrap();
    client.statfs(fid).unwrap();
    client.unlink("", "file", 0).unwrap();
}

#[test]
fn it_is_not_waited_for_in_the_older_dialects() {
    let serving = serving();
    let mut unix = LegacyClient::<Unix>::new(serving.connect());
    unix.begin();
    unix.make("", "file", b"contents");
    assert_eq!(unix.stat_at("file").unwrap().length, 8);
    let mut plan9 = LegacyClient::<Plan9>::new(serving.connect());
    plan9.begin();
    assert_eq!(plan9.contents("file").unwrap(), b"contents");
    let fid = plan9.opened("file", open::RDWR | open::RCLOSE).unwrap();
    plan9.clunk(fid).unwrap();
    assert!(!plan9.exists("file"));
}

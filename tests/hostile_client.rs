//! A client component that has turned against its host: what it does costs its own mount, and no other.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use ninering::{
    backend::MemBackend,
    mount::{ClientComponent, Error, Mount, MountOptions, OpenFlags},
    server::{Server, ServerOptions},
};
use ninering_tests::hostile_client;
use ninering_wire::Errno;

static CLIENT: LazyLock<ClientComponent> = LazyLock::new(hostile_client);

fn mount(options: MountOptions) -> Mount {
    let server = Server::new(Arc::new(MemBackend::default()), ServerOptions::default());
    Mount::local(server, options).expect("a mount")
}

/// A mount whose client behaves so.
fn hostile(behaviour: &str) -> Mount {
    let timeout = Duration::from_secs(1);
    mount(MountOptions { aname: behaviour.into(), timeout, client: Some(CLIENT.clone()), ..MountOptions::default() })
}

/// Another mount of the process, on which everything is as it should be.
struct Neighbour(Mount);

impl Neighbour {
    fn new() -> Self {
        Self(mount(MountOptions::default()))
    }

    async fn is_well(&self, name: &str) {
        let root = self.0.root();
        let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        let file = root.open_at(name, flags, 0o644).await.expect("a file");
        let buffer = self.0.buffer(5).await.expect("a buffer");
        buffer.write(0, b"hello");
        let (written, buffer) = file.write_at(0, buffer).await;
        assert_eq!(written.expect("a write"), 5);
        let read = file.read_at(0, buffer.expect("the buffer")).await.expect("a read");
        assert_eq!(&*read.into_bytes(), b"hello");
        assert_eq!(root.stat_at(name, true).await.expect("attributes").size, 5);
    }
}

#[tokio::test]
async fn a_trap_a_hang_or_a_hog_costs_its_own_mount() {
    let neighbour = Neighbour::new();
    for behaviour in ["trap", "hang", "recurse", "hog", "header-missing"] {
        let mount = hostile(behaviour);
        let first = mount.root().stat().await;
        assert!(matches!(first, Err(Error::Broken(_))), "{behaviour}: {first:?}");
        assert!(mount.broken().is_some(), "{behaviour}");
        let after = mount.root().stat_at("file", true).await;
        assert!(matches!(after, Err(Error::Broken(_))), "{behaviour}: {after:?}");
        neighbour.is_well(behaviour).await;
        // It begins anew, with a new instance, which does the same again.
        mount.restart().await.expect("a new beginning");
        assert!(mount.broken().is_none(), "{behaviour}");
        if behaviour != "hang" {
            assert!(mount.root().stat().await.is_err(), "{behaviour}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_an_error() {
    let neighbour = Neighbour::new();
    for behaviour in ["other-value", "huge-count", "never", "long-reason"] {
        let mount = hostile(behaviour);
        let answer = mount.root().stat().await;
        assert!(matches!(answer, Err(Error::Broken(_))), "{behaviour}: {answer:?}");
        neighbour.is_well(behaviour).await;
    }
    assert!(matches!(hostile("wild-errno").root().stat().await, Err(Error::Errno(Errno(u32::MAX)))));
}

#[tokio::test]
async fn counts_are_not_believed() {
    let mount = hostile("");
    let file = mount.root().open_at("file", OpenFlags::READ | OpenFlags::WRITE, 0).await.expect("what it says");
    let read = file.read_at(0, mount.buffer(100).await.expect("a buffer")).await.expect("what it says");
    assert_eq!(read.len(), 100, "no more than there is space for");
    let (written, _) = file.write_at(0, mount.buffer(100).await.expect("a buffer")).await;
    assert!(matches!(written, Err(Error::Broken(_))), "{written:?}");
    let listed = file.read_directory(0).await;
    assert!(matches!(listed, Err(Error::Broken(_))), "a listing without an end");
}

#[tokio::test]
async fn a_ring_and_a_region_that_are_used_in_every_wrong_way_are_nobody_elses() {
    let neighbour = Neighbour::new();
    let mount = hostile("wild-ring");
    for round in 0..5 {
        let answer = mount.root().stat().await;
        // All of it was refused or did no harm; or it has broken its own queue.
        assert!(matches!(answer, Err(Error::Errno(Errno(38)) | Error::Broken(_))), "{answer:?}");
        neighbour.is_well(&format!("file {round}")).await;
        if mount.broken().is_some() {
            mount.restart().await.expect("a new beginning");
        }
    }
}

#[test]
fn what_is_no_client_is_refused() {
    for bytes in [&b""[..], b"\0asm", b"no component at all"] {
        let refused = ClientComponent::new(bytes).expect_err("it is no component");
        assert!(!refused.is_empty() && !refused.contains('\n'), "{refused}");
    }
}

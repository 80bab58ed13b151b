//! A reply that is lost between a relay and its server, with the connection: what it was the reply to is done once, and
//! who mounts the relay does not notice.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use ninering::mount::{CacheMode, Handle, Mount, MountOptions, OpenFlags, Result};
use ninering_tests::{Door, Running, serve, serve_at};
use ninering_wire::Errno;

/// A directory, a server of it, a relay of that server which loses replies of it, and a mount of the relay.
struct Relayed {
    mount: Mount,
    door: Door,
    export: tempfile::TempDir,
    _servers: [Running; 2],
    _scratch: tempfile::TempDir,
}

impl Relayed {
    async fn new() -> Self {
        let (export, scratch) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        // Whoever attaches without a name of its own is nobody.
        fs::set_permissions(export.path(), PermissionsExt::from_mode(0o777)).expect("permissions");
        let [server, at] = ["server", "door"].map(|name| scratch.path().join(name));
        let source = format!("dir:{}", export.path().display());
        let (serving, _) = serve_at(&source, &format!("unix://{}", server.display()));
        let door = Door::open(&at, &server);
        let (relaying, address) = serve(&format!("unix://{}", at.display()));
        let options =
            MountOptions { cache: Some(CacheMode::None), timeout: Duration::from_secs(600), ..MountOptions::default() };
        let mount = Mount::remote(address.parse().expect("an address"), options).await.expect("a mount");
        Self { mount, door, export, _servers: [serving, relaying], _scratch: scratch }
    }

    fn root(&self) -> Handle {
        self.mount.root()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.export.path().join(name)
    }

    /// Does something of which the reply of this name is lost.
    async fn lose<T>(&self, reply: &str, doing: impl Future<Output = Result<T>>) -> Result<T> {
        self.door.lose(reply);
        let done = doing.await;
        assert!(self.door.has_lost(), "there was no {reply}");
        done
    }

    async fn write(&self, file: Handle, text: &str) {
        let buffer = self.mount.buffer(text.len()).await.expect("a buffer");
        buffer.write(0, text.as_bytes());
        assert_eq!(file.write_at(0, buffer).await.0.expect("to write"), text.len());
    }
}

/// A file to write to, which is made if it is not there.
fn create() -> OpenFlags {
    OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::FOLLOW
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_made_though_the_reply_is_lost() {
    let relayed = Relayed::new().await;
    let root = relayed.root();
    for (name, flags) in [("made", create()), ("truncated", create() | OpenFlags::TRUNCATE)] {
        let file = relayed.lose("Rlcreate", root.open_at(name, flags, 0o644)).await.expect("a file");
        relayed.write(file, name).await;
        assert_eq!(fs::read_to_string(relayed.path(name)).expect("the file"), name);
    }
}

/// A file that must be a new one: who made what is there cannot be told from another client.
#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_creation_of_unknown_fate_is_an_error() {
    let relayed = Relayed::new().await;
    let root = relayed.root();
    let opening = root.open_at("lock", create() | OpenFlags::EXCLUSIVE, 0o644);
    let outcome = relayed.lose("Rlcreate", opening).await;
    assert_eq!(outcome.map(drop).map_err(|error| error.errno()), Err(Errno::EIO));
    assert!(relayed.path("lock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_made_moved_and_removed_once_though_the_replies_are_lost() {
    let relayed = Relayed::new().await;
    let root = relayed.root();
    relayed.lose("Rmkdir", root.make_directory("d", 0o755)).await.expect("a directory");
    relayed.lose("Rsymlink", root.symlink("s", "d")).await.expect("a link");
    root.open_at("d/file", create(), 0o644).await.expect("a file");
    relayed.lose("Rlink", root.link("d/file", false, &root, "hard")).await.expect("a hard link");
    relayed.lose("Rrenameat", root.rename("hard", &root, "d/moved")).await.expect("to rename");
    assert!(!relayed.path("hard").exists() && relayed.path("d/moved").exists() && relayed.path("s").is_symlink());
    relayed.lose("Runlinkat", root.unlink("d/moved")).await.expect("to remove");
    relayed.lose("Runlinkat", root.unlink("d/file")).await.expect("to remove");
    relayed.lose("Runlinkat", root.remove_directory("d")).await.expect("to remove");
    assert!(!relayed.path("d").exists());
}

/// Nothing that is there is made anew, and what a link leads to is opened where the client knows it to be.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_opened_by_a_creation() {
    let relayed = Relayed::new().await;
    let root = relayed.root();
    let kept = |name| fs::read_to_string(relayed.path(name)).expect("the file");
    fs::write(relayed.path("file"), "text").expect("a file");
    fs::set_permissions(relayed.path("file"), PermissionsExt::from_mode(0o666)).expect("permissions");
    std::os::unix::fs::symlink("file", relayed.path("link")).expect("a link");
    std::os::unix::fs::symlink("made", relayed.path("dangling")).expect("a link");
    fs::create_dir(relayed.path("d")).expect("a directory");
    for name in ["file", "link"] {
        drop(root.open_at(name, create(), 0o600).await.expect("the file"));
        assert_eq!(kept("file"), "text");
        drop(root.open_at(name, create() | OpenFlags::TRUNCATE, 0o600).await.expect("the file"));
        assert_eq!(kept("file"), "");
        fs::write(relayed.path("file"), "text").expect("a file");
        let exclusive = root.open_at(name, create() | OpenFlags::EXCLUSIVE, 0o600).await;
        assert_eq!(exclusive.map(drop).map_err(|error| error.errno()), Err(Errno::EEXIST));
    }
    for flags in [create(), create() | OpenFlags::TRUNCATE] {
        let directory = root.open_at("d", flags, 0o600).await;
        assert_eq!(directory.map(drop).map_err(|error| error.errno()), Err(Errno::EISDIR));
    }
    root.open_at("dangling", create() | OpenFlags::TRUNCATE, 0o600).await.expect("a file");
    assert_eq!(kept("made"), "");
}

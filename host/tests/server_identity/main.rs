//! As whom requests are done: each as the user who attached, whatever others do at the same time; exports and their terms.
//!
//! Most of it takes root, and is skipped, with a word on the terminal, where the tests run as somebody else.

#[path = "../common/mod.rs"]
mod common;

mod memory;
mod rights;
mod terms;

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    sync::Arc,
};

use ninering::{
    backend::{DirBackend, DirOptions},
    server::{Export, ExportError, Identity, Peer, Server, ServerOptions, Terms},
};
use ninering_wire::{Errno, NOFID, Tmessage};
use tempfile::TempDir;

use common::{Client, Direct, ROOT};

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

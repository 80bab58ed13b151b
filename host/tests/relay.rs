//! The behaviours of a backend, of one that is a server elsewhere: a relay.

mod common;

use common::{Export, relayed::relayed};
use ninering::backend::{DirBackend, DirOptions, MemBackend};

mod of_a_directory {
    use super::*;

    fn export() -> Export {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a directory");
        let (relay, guard) = relayed(backend);
        Export::called(relay, (guard, directory))
    }

    test_behaviours!(export());
}

/// Served on a socket: every request is put off, to threads that wait.
mod of_memory_on_a_socket {
    use super::*;

    fn export() -> Export {
        let (relay, guard) = relayed(MemBackend::default());
        Export::on_unix_socket(relay, guard)
    }

    test_behaviours!(export());
}

//! The behaviours of a backend, of a directory of the host.

mod common;

use common::Export;
use ninering::backend::{DirBackend, DirOptions};

fn export() -> Export {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a directory");
    Export::called(backend, directory)
}

test_behaviours!(export());

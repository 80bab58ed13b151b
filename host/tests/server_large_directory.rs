//! Directories of very many entries, listed while they change.

mod common;

use common::{Export, behaviours::directories::list_large_directory};
use ninering::backend::{DirBackend, DirOptions, MemBackend};
use tempfile::TempDir;

fn exported(directory: TempDir) -> Export {
    let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a directory");
    Export::called(backend, directory)
}

#[test]
fn a_million_in_memory() {
    list_large_directory(&Export::called(MemBackend::default(), ()), 1_000_000);
}

#[test]
fn a_hundred_thousand_in_a_directory() {
    list_large_directory(&exported(tempfile::tempdir().expect("a temporary directory")), 100_000);
}

/// Where there is a tmpfs: to make them on a disk takes a minute.
#[test]
fn a_million_on_a_tmpfs() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return };
    list_large_directory(&exported(directory), 1_000_000);
}

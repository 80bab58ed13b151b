//! Directories of very many entries, listed while they change.

mod common;

use common::{Export, behaviours::list_large_directory};
use ninering::backend::{DirBackend, DirOptions, MemBackend};

fn directory() -> Export {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a directory");
    Export::called(backend, directory)
}

#[test]
fn a_hundred_thousand_in_memory() {
    list_large_directory(&Export::called(MemBackend::default(), ()), 100_000);
}

#[test]
fn a_hundred_thousand_in_a_directory() {
    list_large_directory(&directory(), 100_000);
}

#[test]
#[ignore = "it takes a minute"]
fn a_million_in_memory() {
    list_large_directory(&Export::called(MemBackend::default(), ()), 1_000_000);
}

#[test]
#[ignore = "it takes minutes"]
fn a_million_in_a_directory() {
    list_large_directory(&directory(), 1_000_000);
}

//! Walks through directories that were walked through before, and are known.

mod dir_support;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use dir_support::*;
use ninering::backend::{Backend, DirBackend, DirOptions, NodeRef};
use ninering_wire::{Errno, lopen};

fn is_same(one: &NodeRef, other: &NodeRef) -> bool {
    Arc::ptr_eq(one, other)
}

#[test]
fn a_directory_is_opened_once() {
    let export = Export::new();
    fs::create_dir_all(export.path("a/b")).unwrap();
    let b = walk(&export.root, "a/b").unwrap();
    assert!(is_same(&walk(&export.root, "a/b").unwrap(), &b));
    assert!(is_same(&b.parent().unwrap().unwrap(), &walk(&export.root, "a").unwrap()));
}

#[test]
fn a_file_is_not_known() {
    let export = Export::new();
    export.file("file", "");
    let file = export.root.lookup(name("file")).unwrap();
    assert!(!is_same(&export.root.lookup(name("file")).unwrap(), &file));
}

#[test]
fn the_qid_of_a_known_directory_tells_its_present_version() {
    let export = Export::new();
    export.directory("a");
    let before = export.root.lookup(name("a")).unwrap().qid();
    // The clock that files are stamped with is a coarse one.
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        assert!(Instant::now() < end, "the version never changes");
        export.file("a/file", "");
        fs::remove_file(export.path("a/file")).unwrap();
        let after = export.root.lookup(name("a")).unwrap();
        assert_eq!(after.qid().path, before.path);
        assert_eq!(after.qid(), after.attributes(!0).unwrap().qid);
        if after.qid().version != before.version {
            return;
        }
    }
}

/// What was known as `a/b`, and what that leads to after the host did something to it.
fn after(change: impl Fn(&Export)) -> (Export, NodeRef, Result<NodeRef, Errno>) {
    let export = Export::new();
    fs::create_dir_all(export.path("a/b")).unwrap();
    fs::create_dir_all(export.path("other/b/c")).unwrap();
    fs::create_dir(export.outside("b")).unwrap();
    let known = walk(&export.root, "a/b").unwrap();
    change(&export);
    let found = walk(&export.root, "a/b");
    (export, known, found)
}

#[test]
fn a_name_that_leads_elsewhere_is_not_mistaken() {
    let (_export, known, found) = after(|export| fs::rename(export.path("a"), export.path("moved")).unwrap());
    assert_eq!(found.err(), Some(Errno::ENOENT));
    assert!(known.attributes(!0).is_ok(), "but it is still there");

    let (_export, known, found) = after(|export| {
        fs::rename(export.path("a"), export.path("moved")).unwrap();
        fs::rename(export.path("other"), export.path("a")).unwrap();
    });
    let found = found.unwrap();
    assert_ne!(found.qid().path, known.qid().path);
    assert!(found.lookup(name("c")).is_ok());

    let (_export, _, found) = after(|export| {
        fs::remove_dir_all(export.path("a")).unwrap();
        export.file("a", "");
    });
    assert_eq!(found.err(), Some(Errno::ENOTDIR));

    let (_export, known, found) = after(|export| {
        fs::remove_dir(export.path("a/b")).unwrap();
        export.directory("a/b");
    });
    assert!(!is_same(&found.unwrap(), &known));
}

#[test]
fn a_symlink_in_the_place_of_a_known_directory_is_not_followed() {
    for target in ["..", "other", "moved"] {
        let (_export, _, found) = after(|export| {
            fs::rename(export.path("a"), export.path("moved")).unwrap();
            export.symlink(target, "a");
        });
        assert_eq!(found.err(), Some(Errno::ENOTDIR), "{target}");
    }
}

#[test]
fn the_client_can_move_and_remove_what_is_known() {
    let export = Export::new();
    fs::create_dir_all(export.path("a/b")).unwrap();
    let b = walk(&export.root, "a/b").unwrap();
    export.root.rename(name("a"), &*export.root, name("new")).unwrap();
    assert_eq!(walk(&export.root, "a/b").err(), Some(Errno::ENOENT));
    assert_eq!(walk(&export.root, "new/b").unwrap().qid().path, b.qid().path);
    let new = export.root.lookup(name("new")).unwrap();
    new.unlink(name("b"), true).unwrap();
    assert_eq!(new.lookup(name("b")).err(), Some(Errno::ENOENT));
    export.root.unlink(name("new"), true).unwrap();
    assert_eq!(export.root.lookup(name("new")).err(), Some(Errno::ENOENT));
}

#[test]
fn more_directories_than_are_kept_are_found_all_the_same() {
    let export = Export::new();
    for directory in 0..300 {
        export.directory(&format!("d{directory}"));
        export.file(&format!("d{directory}/file"), format!("{directory}"));
    }
    for _ in 0..3 {
        for directory in 0..300 {
            let file = walk(&export.root, &format!("d{directory}/file")).unwrap();
            assert_eq!(contents(&file).unwrap(), format!("{directory}").as_bytes());
        }
    }
}

#[test]
fn nodes_outlive_the_backend() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("a/b")).unwrap();
    let backend = DirBackend::new(directory.path(), DirOptions::default()).unwrap();
    assert!(!backend.never_waits());
    let root = attach(&backend, "").unwrap();
    let b = walk(&root, "a/b").unwrap();
    drop(backend);
    b.create(name("file"), lopen::RDWR, 0o644, !0).unwrap();
    assert_eq!(walk(&root, "a/b").unwrap().qid().path, b.qid().path);
}

//! What a directory's export takes of the whole process: descriptors, the umask, the stack.
//!
//! In a program of its own, one test at a time, for other tests would be in the way.

mod dir_support;

use std::{fs, os::unix::fs::MetadataExt};

use dir_support::*;
use ninering_wire::{Errno, lopen, mode};
use parking_lot::Mutex;
use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn no_descriptor_is_left_open() {
    let _alone = ONE_AT_A_TIME.lock();
    let before = open_descriptors();
    let export = Export::new();
    fs::create_dir_all(export.path("a/b/c")).unwrap();
    export.symlink("a", "link");
    // The directories that it goes on knowing.
    walk(&export.root, "a/b/c").unwrap();
    let served = open_descriptors();
    for round in 0..100 {
        let file = format!("file{round}");
        let (node, open) = export.root.create(name(&file), lopen::RDWR, 0o644, 0).unwrap();
        write_at(&*open, 0, "x").unwrap();
        contents(&node).unwrap();
        node.set_attributes(&change(ninering_wire::setattr::SIZE)).unwrap();
        node.statfs().unwrap();
        walk(&export.root, "a/b/c").unwrap().parent().unwrap().unwrap();
        names(&*export.root.open(lopen::RDONLY).unwrap());
        export.root.make_directory(name("directory"), 0o777, 0).unwrap();
        export.root.unlink(name("directory"), true).unwrap();
        // Failures too.
        assert!(walk(&export.root, "a/b/missing").is_err());
        assert!(walk(&export.root, "link/b").is_err());
        assert!(export.root.lookup(name("link")).unwrap().open(lopen::RDONLY).is_err());
        assert!(export.root.create(name(&file), lopen::RDWR | lopen::EXCL, 0o644, 0).is_err());
        assert!(export.root.create(name("a"), lopen::RDWR, 0o644, 0).is_err());
    }
    assert_eq!(open_descriptors(), served);
    drop(export);
    assert_eq!(open_descriptors(), before);
}

#[test]
fn directories_on_the_way_are_held_once_for_all() {
    let _alone = ONE_AT_A_TIME.lock();
    let before = open_descriptors();
    let export = Export::new();
    // More than are known.
    let deep: Vec<String> = (0..200).map(|number| format!("a/b/{number}/c/d/e")).collect();
    for path in &deep {
        fs::create_dir_all(export.path(path)).unwrap();
        fs::write(export.path(format!("{path}/file")), path).unwrap();
    }
    let served = open_descriptors();
    let nodes: Vec<_> =
        (0..3).flat_map(|_| deep.iter().map(|path| walk(&export.root, &format!("{path}/file")).unwrap())).collect();
    // A file each, and once: `a`, `b`, and four below for each.
    assert_eq!(open_descriptors() - served, nodes.len() + 2 + 4 * deep.len());
    // Each has its own way up.
    for (node, path) in nodes.iter().zip(deep.iter().cycle()) {
        assert_eq!(contents(node).unwrap(), path.as_bytes());
        let parent = node.parent().unwrap().unwrap();
        assert_eq!(parent.qid(), walk(&export.root, path).unwrap().qid());
    }
    // A directory that is made anew is another one.
    fs::rename(export.path("a"), export.path("old")).unwrap();
    fs::create_dir_all(export.path(&deep[0])).unwrap();
    assert!(walk(&export.root, &format!("{}/file", deep[0])).is_err());
    assert_ne!(walk(&export.root, "a").unwrap().qid().path, walk(&export.root, "old").unwrap().qid().path);
    drop(nodes);
    drop(export);
    assert_eq!(open_descriptors(), before);
}

#[test]
fn a_lack_of_descriptors_is_told_and_passes() {
    let _alone = ONE_AT_A_TIME.lock();
    let export = Export::new();
    export.file("file", "contents");
    let limit = getrlimit(Resource::Nofile);
    let few = Rlimit { current: Some(open_descriptors() as u64 + 20), ..limit };
    setrlimit(Resource::Nofile, few).unwrap();
    let mut held = Vec::new();
    let error = loop {
        match export.root.lookup(name("file")) {
            Ok(node) => held.push(node),
            Err(error) => break error,
        }
    };
    let others = [held[0].open(lopen::RDONLY).err(), export.root.create(name("new"), lopen::RDWR, 0, !0).err()];
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(error, Errno::EMFILE);
    assert_eq!(others, [Some(Errno::EMFILE); 2]);
    assert_eq!(contents(&held[0]).unwrap(), b"contents");
    assert_eq!(names(&*export.root.open(lopen::RDONLY).unwrap()), ["file"]);
}

#[test]
fn the_umask_has_no_say() {
    let _alone = ONE_AT_A_TIME.lock();
    let export = Export::new();
    let before = umask(Mode::from_raw_mode(0o077));
    let (node, _) = export.root.create(name("file"), lopen::RDWR, 0o664, !0).unwrap();
    export.root.make_directory(name("directory"), 0o1777, !0).unwrap();
    export.root.make_node(name("fifo"), mode::IFIFO | 0o622, (0, 0), !0).unwrap();
    umask(before);
    assert_eq!(node.attributes(!0).unwrap().mode & 0o7777, 0o664);
    assert_eq!(fs::metadata(export.path("directory")).unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(fs::metadata(export.path("fifo")).unwrap().mode() & 0o7777, 0o622);
}

#[test]
fn deep_directories_need_no_deep_stack() {
    const DEPTH: usize = 800;
    let _alone = ONE_AT_A_TIME.lock();
    let limit = getrlimit(Resource::Nofile);
    let enough = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, enough).unwrap();
    let export = Export::new();
    let before = open_descriptors();
    let mut directory = export.root.clone();
    for _ in 0..DEPTH {
        directory.make_directory(name("d"), 0o700, !0).unwrap();
        directory = directory.lookup(name("d")).unwrap();
    }
    // A stack that one call for each directory would overflow.
    let small = std::thread::Builder::new().stack_size(48 * 1024);
    small.spawn(move || drop(directory)).unwrap().join().unwrap();
    // But for the few at the top that it goes on knowing.
    assert!(open_descriptors() <= before + 10);
    let removed = std::process::Command::new("rm").arg("-rf").arg(export.path("d")).status().unwrap();
    assert!(removed.success());
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn known_directories_do_not_outlive_the_backend_and_make_way() {
    let _alone = ONE_AT_A_TIME.lock();
    let before = open_descriptors();
    let export = Export::new();
    export.file("file", "");
    let served = open_descriptors();
    for directory in 0..200 {
        export.directory(&format!("d{directory}"));
        export.root.lookup(name(&format!("d{directory}"))).unwrap();
    }
    let known = open_descriptors() - served;
    assert!((1..=64).contains(&known), "{known} are kept open");

    // The files that a client needs come first.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(open_descriptors() as u64), ..limit }).unwrap();
    let held: Vec<_> = (0..known / 2).map(|_| export.root.lookup(name("file"))).collect();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(held.iter().all(Result::is_ok));
    drop(held);

    let root = export.root.clone();
    root.lookup(name("d0")).unwrap();
    drop(export);
    drop(root);
    assert_eq!(open_descriptors(), before);
}

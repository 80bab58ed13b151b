//! Runs the program as a user does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A tree of two files and an index of it, removed at the end.
struct Fixture(PathBuf);

impl Fixture {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("index-test-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("tree/sub")).unwrap();
        fs::write(root.join("tree/one.rs"), "let alpha = 1;\nalpha beta\n").unwrap();
        fs::write(root.join("tree/sub/two.rs"), "beta\n\nbeta beta beta\n").unwrap();
        let fixture = Self(root);
        assert!(fixture.run(&["build", "tree", "index"]).status.success());
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_index")).current_dir(&self.0).args(arguments).output().unwrap()
    }

    /// The message of a check, which must fail.
    fn failed_check(&self) -> String {
        let output = self.run(&["check", "tree", "index"]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn shards(index: &Path) -> Vec<PathBuf> {
    (0..16).map(|number| index.join(format!("latest/{number:02x}"))).collect()
}

#[test]
fn a_fresh_index_passes_its_check() {
    let fixture = Fixture::new("fresh");
    let output = fixture.run(&["check", "tree", "index"]);
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"CHECK OK"));
}

#[test]
fn a_query_prints_the_file_with_more_of_the_words_first() {
    let fixture = Fixture::new("query");
    let output = fixture.run(&["query", "index", "beta", "alpha"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "one.rs:1: alpha\none.rs:2: alpha beta\nsub/two.rs:1: beta\nsub/two.rs:3: beta\n"
    );
    let output = fixture.run(&["query", "index", "beta"]);
    assert!(output.stdout.starts_with(b"sub/two.rs:1"));
}

#[test]
fn a_word_that_is_new_in_the_tree_fails_the_check() {
    let fixture = Fixture::new("new-word");
    // The same size: it is not the size that tells.
    fs::write(fixture.path("tree/sub/two.rs"), "beta\n\nbeta gama beta\n").unwrap();
    assert!(fixture.failed_check().contains("two.rs:3: 'gama'"));
}

#[test]
fn a_word_that_is_gone_from_the_tree_fails_the_check() {
    let fixture = Fixture::new("gone-word");
    fs::write(fixture.path("tree/sub/two.rs"), "beta\n\nbeta .... beta\n").unwrap();
    assert!(fixture.failed_check().contains("the index has 'beta' in line 3"));
}

#[test]
fn a_file_that_is_new_or_gone_fails_the_check() {
    let fixture = Fixture::new("files");
    fs::write(fixture.path("tree/three.rs"), "").unwrap();
    assert!(fixture.failed_check().contains("three.rs is not in the index"));
    fs::remove_file(fixture.path("tree/three.rs")).unwrap();
    fs::remove_file(fixture.path("tree/sub/two.rs")).unwrap();
    assert!(fixture.failed_check().contains("not in the tree"));
}

#[test]
fn a_damaged_shard_fails_the_check() {
    let fixture = Fixture::new("damage");
    for shard in shards(&fixture.path("index")) {
        let good = fs::read(&shard).unwrap();
        fs::write(&shard, &good[..good.len() - 1]).unwrap();
        assert!(fixture.failed_check().contains("checksum"));
        fs::write(&shard, good).unwrap();
    }
}

#[test]
fn a_rebuild_replaces_the_generation_and_leaves_no_other() {
    let fixture = Fixture::new("rebuild");
    fs::write(fixture.path("tree/one.rs"), "gamma").unwrap();
    assert!(fixture.run(&["build", "tree", "index"]).status.success());
    assert!(fixture.run(&["check", "tree", "index"]).status.success());
    let mut names: Vec<_> = fs::read_dir(fixture.path("index"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["generation-2", "latest"]);
}

#[test]
fn an_index_that_is_not_there_is_one_clear_line() {
    let fixture = Fixture::new("absent");
    let output = fixture.run(&["query", "elsewhere", "word"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("cannot find an index in elsewhere"));
    assert_eq!(message.lines().count(), 1);
}

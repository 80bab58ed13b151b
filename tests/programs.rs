//! Real programs, from Rust and C, on every kind of mount.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::Path,
};

use ninering_tests::{Ended, Running, finish, ninering, program, root, serve};
use sha2::{Digest, Sha256};

/// Runs a guest program with mounts (`PATH=SOURCE`).
fn run(mounts: &[String], name: &str, arguments: &[&str]) -> Ended {
    let mut command = ninering();
    command.args(["run", "--stats"]);
    for mount in mounts {
        command.args(["--mount", mount]);
    }
    let ended = finish(command.arg(program(name)).args(arguments));
    for line in ended.stderr.lines().filter(|line| line.ends_with("payload bytes through WIT")) {
        assert_eq!(line.split_whitespace().next(), Some("0"), "payload crossed WIT: {line}");
    }
    ended
}

/// Calls `test` with each kind of source: a directory, memory, and the same directory served by tcp and unix.
fn on_every_source(test: impl Fn(&str)) {
    let directory = tempfile::tempdir().expect("a directory");
    let source = format!("dir:{}", directory.path().display());
    println!("on {source}");
    test(&source);
    println!("on mem:");
    test("mem:");
    let (_server, address) = serve(&source);
    println!("on {address}");
    test(&address);
    let socket = directory.path().join("socket");
    let mut command = ninering();
    command.args(["serve", "mem:", "--listen", &format!("unix://{}", socket.display())]);
    let (_server, _) = Running::start(&mut command, " on unix://");
    println!("on unix://{}", socket.display());
    test(&format!("unix://{}", socket.display()));
}

#[test]
fn rust_programs_find_all_that_std_fs_promises() {
    on_every_source(|source| {
        let ended = run(&[format!("/data={source}")], "fsprobe.wasm", &["semantics", "/data"]).success();
        assert!(ended.stdout.contains("all 60 checks passed"), "{}", ended.stdout);
    });
}

#[test]
fn c_programs_find_all_that_libc_promises() {
    on_every_source(|source| {
        let ended = run(&[format!("/data={source}")], "cfs.wasm", &["/data"]).success();
        assert!(ended.stdout.contains("all 24 checks passed"), "{}", ended.stdout);
    });
}

/// Calls `test` with a directory, in this process and by tcp, in each mode of the cache.
fn in_every_cache_mode(test: impl Fn(&str)) {
    for mode in ["readahead", "close-to-open", "loose"] {
        let directory = tempfile::tempdir().expect("a directory");
        let source = format!("dir:{}", directory.path().display());
        println!("on {source}, {mode}");
        test(&format!("{source},cache={mode}"));
        let directory = tempfile::tempdir().expect("a directory");
        let (_server, address) = serve(&format!("dir:{}", directory.path().display()));
        println!("on {address}, {mode}");
        test(&format!("{address},cache={mode}"));
    }
}

#[test]
fn rust_programs_find_the_same_on_a_cache() {
    in_every_cache_mode(|source| {
        let ended = run(&[format!("/data={source}")], "fsprobe.wasm", &["semantics", "/data"]).success();
        assert!(ended.stdout.contains("all 60 checks passed"), "{}", ended.stdout);
        run(&[format!("/data={source}")], "fsprobe.wasm", &["tree", "/data", "500"]).success();
    });
}

#[test]
fn c_programs_find_the_same_on_a_cache() {
    in_every_cache_mode(|source| {
        let ended = run(&[format!("/data={source}")], "cfs.wasm", &["/data"]).success();
        assert!(ended.stdout.contains("all 24 checks passed"), "{}", ended.stdout);
    });
}

#[test]
fn a_large_file_goes_through_a_small_cache_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = random_file(&directory.path().join("original"), 200);
    let source = format!("dir:{}", directory.path().display());
    let (_server, address) = serve(&source);
    for source in [&source, &address] {
        let mount = [format!("/data={source},cache=close-to-open")];
        run(&mount, "fsprobe.wasm", &["copy", "/data/original", "/data/copy"]).success();
        assert_eq!(sha256(&directory.path().join("copy")), expected, "{source}, as the host sees it");
        let ended = run(&mount, "fsprobe.wasm", &["sha256", "/data/copy"]).success();
        assert_eq!(ended.stdout.trim(), expected, "{source}");
    }
}

#[test]
fn five_thousand_files_are_written_walked_renamed_and_deleted() {
    on_every_source(|source| {
        run(&[format!("/data={source}")], "fsprobe.wasm", &["tree", "/data", "5000"]).success();
    });
}

/// A file of pseudo-random bytes; returns its SHA-256.
fn random_file(path: &Path, mebibytes: usize) -> String {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a file"));
    let mut hash = Sha256::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        hash.update(&block);
        file.write_all(&block).expect("to write");
    }
    file.flush().expect("to write");
    hexadecimal(hash)
}

/// The SHA-256 of a file, as the host sees it.
fn sha256(path: &Path) -> String {
    let mut file = File::open(path).expect("a file");
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).expect("to read") {
            0 => return hexadecimal(hash),
            length => hash.update(&block[..length]),
        }
    }
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_file_of_one_gibibyte_is_copied_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = random_file(&directory.path().join("original"), 1024);
    let mount = [format!("/data=dir:{}", directory.path().display())];
    run(&mount, "fsprobe.wasm", &["copy", "/data/original", "/data/copy"]).success();
    let ended = run(&mount, "fsprobe.wasm", &["sha256", "/data/copy"]).success();
    assert_eq!(ended.stdout.trim(), expected);
    let outside = sha256(&directory.path().join("copy"));
    assert_eq!(outside, expected, "as the host sees it");
}

#[test]
fn mounts_stand_side_by_side_and_one_may_be_read_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = random_file(&directory.path().join("in"), 3);
    let source = format!("dir:{}", directory.path().display());
    let (_server, address) = serve(&source);
    let mounts = [format!("/from={address},ro"), "/memory=mem:".into(), format!("/to/deep/down={source}")];
    run(&mounts, "fsprobe.wasm", &["copy", "/from/in", "/to/deep/down/out"]).success();
    let ended = run(&mounts, "fsprobe.wasm", &["sha256", "/from/out"]).success();
    assert_eq!(ended.stdout.trim(), expected);
    for read_only in [format!("/data={address},ro"), format!("/data={source},ro")] {
        let ended = run(&[read_only], "fsprobe.wasm", &["copy", "/data/in", "/data/new"]);
        assert!(!ended.status.success());
        assert!(ended.stderr.contains("Read-only file system"), "{}", ended.stderr);
    }
    assert!(!directory.path().join("new").exists());
    let ended = run(&mounts, "fsprobe.wasm", &["sha256", "/elsewhere/in"]);
    assert!(!ended.status.success(), "what is not mounted is not there");
}

#[test]
fn a_mount_can_be_the_root() {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = random_file(&directory.path().join("in"), 1);
    let mount = [format!("/=dir:{}", directory.path().display())];
    let ended = run(&mount, "fsprobe.wasm", &["sha256", "/in"]).success();
    assert_eq!(ended.stdout.trim(), expected);
    let relative = run(&mount, "fsprobe.wasm", &["sha256", "in"]).success();
    assert_eq!(relative.stdout.trim(), expected);
}

#[test]
fn links_that_lead_outside_lead_nowhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let export = directory.path().join("export");
    fs::create_dir_all(export.join("sub")).expect("a directory");
    fs::write(directory.path().join("secret"), "secret").expect("a file");
    let link = |target: &Path, name: &str| {
        std::os::unix::fs::symlink(target, export.join(name)).expect("a link");
    };
    link(Path::new("../secret"), "up");
    link(&directory.path().join("secret"), "absolute");
    link(Path::new("../../../../../../../../etc/passwd"), "sub/far");
    link(Path::new("/etc/passwd"), "sub/passwd");
    link(Path::new("/proc/self/root/etc/passwd"), "magic");
    let source = format!("dir:{}", export.display());
    let (_server, address) = serve(&source);
    for source in [source, address] {
        for path in [
            "up",
            "absolute",
            "sub/far",
            "sub/passwd",
            "magic",
            "../secret",
            "sub/../../secret",
            "/../secret",
            "sub/far/../secret",
        ] {
            let ended = run(&[format!("/data={source}")], "fsprobe.wasm", &["sha256", &format!("/data/{path}")]);
            assert!(!ended.status.success(), "{source} {path}: {}", ended.stdout);
        }
    }
}

#[test]
fn the_demo_program_checks_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let mount = [format!("/tree=dir:{}", directory.path().display())];
    let ended = run(&mount, "index.wasm", &["demo", "/tree"]).success();
    assert!(ended.stdout.contains("CHECK OK"), "{}", ended.stdout);
    assert!(directory.path().join("index").is_dir());
}

#[test]
fn the_library_embeds_as_its_example_shows() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/embed/src/main.rs");
    let source = fs::read_to_string(example).expect("the example");
    let lines = source.lines().skip_while(|line| !line.contains("async fn main")).filter(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("//") && line != "}"
    });
    assert!(lines.count() <= 20, "the example has grown beyond about twenty lines");
    assert!(root().join("README.md").exists());
}

//! Peers that nobody here wrote: the Linux kernel's 9P client and py9p on our server, our client on diod.
//!
//! Where the machine lacks what a test needs (root, User Mode Linux, diod), the test says so and passes, unless
//! `NINERING_REQUIRE_PEERS` is set, as it is in `.ci/run`.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ninering_tests::{Running, finish, ninering, program, root};

/// The status with which `tests/uml/run` says that it cannot run here.
const CANNOT: i32 = 77;

fn skip(why: &str) {
    assert!(std::env::var_os("NINERING_REQUIRE_PEERS").is_none(), "required, but {why}");
    eprintln!("SKIPPED: {why}");
}

/// A small source tree with everything that a copy can get wrong; `links` says whether there are links of either kind.
fn source_tree(top: &Path, links: bool) {
    fs::create_dir_all(top.join("src/deep/er")).expect("a directory");
    fs::create_dir(top.join("empty")).expect("a directory");
    for number in 0..300 {
        let text = format!("line of file {number}\n").repeat(number * 7 % 400);
        fs::write(top.join(format!("src/file{number:03}.c")), text).expect("a file");
    }
    fs::write(top.join("src/deep/er/large"), vec![0xa5; 3_000_001]).expect("a file");
    fs::write(top.join("src/nothing"), "").expect("a file");
    fs::write(top.join("name with spaces and ünïcode"), "x").expect("a file");
    if links {
        std::os::unix::fs::symlink("../src/file001.c", top.join("empty/link")).expect("a link");
        std::os::unix::fs::symlink("nowhere", top.join("dangling")).expect("a link");
        fs::hard_link(top.join("src/file002.c"), top.join("src/hard")).expect("a link");
    }
    let script = top.join("script");
    fs::write(&script, "#!/bin/sh\n").expect("a file");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o750)).expect("a mode");
}

fn linux_copies_a_tree(source: &str, options: &str) {
    linux_copies_a_tree_in("9p2000.L", source, options);
}

fn linux_copies_a_tree_in(version: &str, source: &str, options: &str) {
    let server = format!("{} serve {source} --listen tcp://{{ADDR}}:{{PORT}}", ninering().get_program().display());
    linux_copies_a_tree_from(&server, version, options);
}

fn linux_copies_a_tree_from(server: &str, version: &str, options: &str) {
    let tree = tempfile::tempdir().expect("a directory");
    // To Linux, 9P2000 has no links.
    source_tree(tree.path(), version != "9p2000");
    in_a_guest(
        Command::new(root().join("tests/uml/run"))
            .args(["--server", server, "--version", version, "--options", options, "--"])
            .arg(root().join("tests/uml/copy-tree"))
            .arg(tree.path()),
    );
}

/// Runs `tests/uml/run`.
fn in_a_guest(run: &mut Command) {
    let ended = finish(run);
    if ended.status.code() == Some(CANNOT) {
        return skip(ended.stderr.trim());
    }
    ended.success();
}

#[test]
fn the_linux_client_copies_a_tree_in_and_out_of_a_directory() {
    let export = tempfile::tempdir().expect("a directory");
    linux_copies_a_tree(&format!("dir:{}", export.path().display()), "cache=none");
}

#[test]
fn the_linux_client_copies_a_tree_in_and_out_with_its_cache() {
    let export = tempfile::tempdir().expect("a directory");
    linux_copies_a_tree(&format!("dir:{}", export.path().display()), "cache=loose");
}

#[test]
fn the_linux_client_copies_a_tree_in_and_out_of_memory() {
    linux_copies_a_tree("mem:", "cache=none");
}

#[test]
fn the_linux_client_copies_a_tree_in_and_out_of_a_relay() {
    let directory = tempfile::tempdir().expect("a directory");
    let export = directory.path().join("export");
    fs::create_dir(&export).expect("a directory");
    let (ninering, socket) = (ninering(), directory.path().join("socket"));
    let (ninering, socket) = (ninering.get_program().display(), socket.display());
    for options in ["cache=none", "cache=loose"] {
        let server = format!(
            "{ninering} serve dir:{} --listen unix://{socket} & until [ -S {socket} ]; do sleep 0.1; done; \
             {ninering} serve unix://{socket} --listen tcp://{{ADDR}}:{{PORT}}",
            export.display()
        );
        linux_copies_a_tree_from(&server, "9p2000.L", options);
    }
}

#[test]
fn a_virtual_machine_is_served_by_vsock() {
    let tree = tempfile::tempdir().expect("a directory");
    source_tree(tree.path(), true);
    let ninering = ninering();
    let server = format!("{} serve mem: --listen tcp://{{ADDR}}:{{PORT}}", ninering.get_program().display());
    in_a_guest(
        Command::new(root().join("tests/uml/run"))
            .args(["--memory", "1G", "--server", &server, "--"])
            .arg(root().join("tests/uml/vsock"))
            .args([ninering.get_program(), program("fsprobe.wasm").as_os_str()])
            .arg(tree.path()),
    );
}

#[test]
fn the_linux_client_copies_a_tree_in_9p2000_u() {
    let export = tempfile::tempdir().expect("a directory");
    linux_copies_a_tree_in("9p2000.u", &format!("dir:{}", export.path().display()), "cache=none");
    linux_copies_a_tree_in("9p2000.u", "mem:", "cache=loose");
}

#[test]
fn the_linux_client_copies_a_tree_in_9p2000() {
    let export = tempfile::tempdir().expect("a directory");
    linux_copies_a_tree_in("9p2000", &format!("dir:{}", export.path().display()), "cache=none");
    linux_copies_a_tree_in("9p2000", "mem:", "cache=loose");
}

/// A Python client of the older dialects, at work on our server.
#[test]
fn py9p_works_in_9p2000_and_9p2000_u() {
    // Where `scripts/setup --test` puts it; elsewhere it may be installed for all.
    let modules = root().join("target/peers");
    let python = || {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &modules);
        command
    };
    if !python().args(["-c", "import p9fs"]).output().is_ok_and(|output| output.status.success()) {
        return skip("python3 has no module p9fs");
    }
    let export = tempfile::tempdir().expect("a directory");
    for source in ["mem:".to_owned(), format!("dir:{}", export.path().display())] {
        let mut serve = ninering();
        serve.args(["serve", &source, "--listen", "tcp://127.0.0.1:0"]);
        let (_serving, line) = Running::start(&mut serve, "tcp://");
        let port = line.trim().rsplit(':').next().expect("a port");
        for version in ["9P2000", "9P2000.u"] {
            finish(python().arg(root().join("tests/py9p")).args(["127.0.0.1", port, version])).success();
        }
    }
}

/// diod on a directory; `None` where there is no diod.
fn diod(export: &Path) -> Option<(Running, String)> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let diod = ["/usr/sbin/diod", "/usr/local/sbin/diod"].into_iter().find(|path| Path::new(path).exists())?;
    let mut command = Command::new(diod);
    command.args(["-f", "-n", "-l", &format!("127.0.0.1:{port}"), "-L", "stderr", "-e"]).arg(export);
    let running = Running::start_silent(command.stdout(Stdio::null()));
    let end = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "diod does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((running, format!("tcp://127.0.0.1:{port}{}", export.display())))
}

#[test]
fn our_client_works_on_diod() {
    let export = tempfile::tempdir().expect("a directory");
    let Some((_diod, address)) = diod(export.path()) else { return skip("diod is not installed") };
    let run = |arguments: &[&str]| {
        let mut command = ninering();
        // However long the disk takes.
        command.args(["run", "--timeout", "10min", "--mount", &format!("/data={address}")]).arg(program(arguments[0]));
        finish(command.args(&arguments[1..])).success()
    };
    run(&["fsprobe.wasm", "tree", "/data", "1000"]);
    let ended = run(&["index.wasm", "demo", "/data"]);
    assert!(ended.stdout.contains("CHECK OK"), "{}", ended.stdout);
    fs::write(export.path().join("in"), vec![0x5a; 5_000_000]).expect("a file");
    run(&["fsprobe.wasm", "copy", "/data/in", "/data/out"]);
    assert!(fs::read(export.path().join("out")).expect("the copy") == vec![0x5a; 5_000_000]);
    let list = finish(ninering().args(["ls", &format!("{address}//")])).success();
    assert!(list.stdout.lines().any(|line| line == "out"), "{}", list.stdout);
}

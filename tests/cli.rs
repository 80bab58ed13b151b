//! The command line: what it says to mistakes, and how it passes things through.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::Stdio,
    thread,
    time::Duration,
};

use ninering_slow_link::{Endpoint, Link, Proxy};
use ninering_tests::{Door, Running, finish, ninering, program, serve, serve_at, wait};
use ninering_wire::Rmessage;

#[track_caller]
fn mistake(arguments: &[&str], part: &str) {
    let ended = finish(ninering().args(arguments));
    let line = ended.one_line_failure();
    assert!(line.starts_with("ninering: ") && line.contains(part), "{arguments:?}: {line}");
    assert!(line.matches("os error").count() <= 1, "said twice: {line}");
    assert!(ended.stdout.is_empty(), "{arguments:?}: {}", ended.stdout);
}

fn path(name: &str) -> String {
    program(name).display().to_string()
}

#[test]
fn a_missing_program_is_named() {
    mistake(&["run", "/no/such/app.wasm"], "/no/such/app.wasm: No such file");
}

#[test]
fn what_is_not_webassembly_is_refused() {
    mistake(&["run", "/etc/passwd"], "not WebAssembly");
    let empty = tempfile::NamedTempFile::new().expect("a file");
    mistake(&["run", &empty.path().display().to_string()], "not WebAssembly");
}

#[test]
fn a_module_that_is_not_wasi_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("to write a module");
        path.display().to_string()
    };
    // (module)
    mistake(&["run", &write("empty.wasm", b"\0asm\x01\0\0\0")], "no function '_start'");
    // (module (import "env" "f" (func)))
    let foreign = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x09\x01\x03env\x01f\0\0";
    mistake(&["run", &write("foreign.wasm", foreign)], "imports 'f' from 'env', which is not WASI");
    // (component)
    mistake(&["run", &write("component.wasm", b"\0asm\x0d\0\x01\0")], "is a component, but not one that can be run");
    mistake(&["run", &write("cut.wasm", &foreign[..20])], "cannot be compiled");
}

#[test]
fn mistakes_in_mounts_are_told_in_one_line() {
    let app = path("fsprobe.wasm");
    mistake(&["run", "--mount", "/data", &app], "PATH=SOURCE");
    mistake(&["run", "--mount", "data=mem:", &app], "must be absolute");
    mistake(&["run", "--mount", "/data=/tmp", &app], "is no source of files");
    mistake(&["run", "--mount", "/data=dir:/no/such/directory", &app], "/no/such/directory");
    mistake(&["run", "--mount", "/data=dir:/etc/passwd", &app], "/etc/passwd");
    mistake(&["run", "--mount", "/data=mem:", "--mount", "/data/=mem:", &app], "mounted at /data already");
    mistake(&["run", "--env", "novalue", &app], "NAME=VALUE");
    mistake(&["run", "--timeout", "soon", &app], "--timeout");
    mistake(&["run"], "APP.wasm");
}

#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let app = path("fsprobe.wasm");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    mistake(&["run", "--mount", &format!("/data=tcp://127.0.0.1:{port}/"), &app], "refused");
    mistake(&["run", "--mount", "/data=unix:///no/such/socket", &app], "/no/such/socket");
    mistake(&["ls", &format!("tcp://127.0.0.1:{port}")], "refused");
}

/// Answers the first request of each connection by what `answer` makes of it, or never.
fn false_server(answer: impl Fn(&mut dyn Write) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 64];
            // Until the client has enough of it.
            while matches!(stream.read(&mut request), Ok(1..)) {
                answer(&mut stream);
            }
        }
    });
    format!("tcp://{address}")
}

#[test]
fn a_server_that_speaks_another_version_is_named() {
    let address = false_server(|stream| {
        let mut reply = [0; 64];
        let version = Rmessage::Rversion { msize: 8192, version: "9P2000".into() };
        let length = version.encode(ninering_wire::NOTAG, &mut reply).expect("a reply");
        // Whether it arrives is what the test looks at.
        let _ = stream.write_all(&reply[..length]);
    });
    mistake(&["ls", &address], "9P2000.L");
}

#[test]
fn a_server_that_is_none_is_told_apart() {
    let address = false_server(|stream| {
        // Whether it arrives is what the test looks at.
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    mistake(&["ls", &address], "cannot be mounted");
}

#[test]
fn a_silent_server_is_given_up_after_the_time_that_was_set() {
    let address = false_server(|_| {});
    mistake(&["ls", "--timeout", "300ms", &address], "did not answer within 300ms");
}

#[test]
fn a_program_sees_an_io_error_when_its_server_dies() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, address) = serve(&format!("dir:{}", directory.path().display()));
    let mut run = ninering();
    run.args(["run", "--timeout", "2s", "--mount", &format!("/data={address}/,recover=1s")])
        .args([&path("fsprobe.wasm"), "tree", "/data", "100000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = run.spawn().expect("ninering");
    while fs::read_dir(directory.path()).expect("the directory").next().is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    server.signal(rustix::process::Signal::KILL);
    let mut said = String::new();
    child.stderr.take().expect("its errors").read_to_string(&mut said).expect("what it says");
    let status = wait(&mut child, Duration::from_secs(60)).expect("the program to end");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.to_lowercase().contains("i/o error"), "{said}");
    // And why.
    assert!(said.contains("ninering: /data: "), "{said}");
}

/// Closing a connection with an answer on its way kills some servers.
#[test]
fn who_ends_hears_all_answers_first() {
    let (directory, scratch) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    fs::write(directory.path().join("file"), "text").expect("a file");
    let [server, slow, door] = ["server", "slow", "door"].map(|name| scratch.path().join(name));
    let source = format!("dir:{}", directory.path().display());
    let (_serving, _) = serve_at(&source, &format!("unix://{}", server.display()));
    let link = Link { delay: Duration::from_millis(50), ..Link::default() };
    let _link = Proxy::start(&Endpoint::Unix(slow.clone()), Endpoint::Unix(server), link).expect("a link");
    let (watched, address) = (Door::open(&door, &slow), format!("unix://{}", door.display()));
    let mount = format!("/data={address}");
    for arguments in [
        &["run", "--mount", &mount, &path("fsprobe.wasm"), "walk", "/data"][..],
        &["ls", &address],
        &["cat", &format!("{address}//file")],
    ] {
        finish(ninering().args(arguments)).success();
        assert_eq!(watched.left(), 0, "{arguments:?}");
    }
    let (mut relay, relayed) = serve(&address);
    finish(ninering().args(["ls", &relayed])).success();
    relay.signal(rustix::process::Signal::TERM);
    wait(relay.process(), Duration::from_secs(60)).expect("the relay to end");
    assert_eq!(watched.left(), 0, "a relay");
}

/// Ctrl-Z, and `fg` when the time that a server has is over: the answer is there.
#[test]
fn a_program_that_was_stopped_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_server, address) = serve(&format!("dir:{}", directory.path().display()));
    let server = Endpoint::Tcp(address.trim_start_matches("tcp://").trim_end_matches('/').into());
    let link = Link { delay: Duration::from_millis(20), ..Link::default() };
    let link = Proxy::start(&Endpoint::Tcp("127.0.0.1:0".into()), server, link).expect("a link");
    let mut run = ninering();
    run.args(["run", "--timeout", "4s", "--mount", &format!("/data={},cache=none", link.endpoint())]).args([
        &path("fsprobe.wasm"),
        "tree",
        "/data",
        "20",
    ]);
    let mut running = Running::start_silent(&mut run);
    while fs::read_dir(directory.path()).expect("the directory").next().is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    // An answer is on its way at any time.
    running.signal(rustix::process::Signal::STOP);
    thread::sleep(Duration::from_secs(6));
    running.signal(rustix::process::Signal::CONT);
    let status = wait(running.process(), Duration::from_secs(600)).expect("the program to end");
    assert!(status.success(), "{status}");
}

#[test]
fn arguments_environment_and_status_are_passed_through() {
    let app = path("fsprobe.wasm");
    let args = finish(ninering().args(["run", &app, "args", "--mount", "-x", "ä b"])).success();
    for argument in ["--mount", "-x", "ä b"] {
        assert!(args.stdout.contains(argument), "{}", args.stdout);
    }
    let env = finish(ninering().args(["run", "--env", "COLOUR=dark red", &app, "env", "COLOUR"])).success();
    assert_eq!(env.stdout.trim_end(), "dark red");
    assert!(!finish(ninering().args(["run", &app, "env", "PATH"])).status.success(), "the host's own is not passed");
    assert_eq!(finish(ninering().args(["run", &app, "exit", "42"])).status.code(), Some(42));
}

#[test]
fn standard_streams_are_passed_through() {
    let mut child = ninering()
        .args(["run", &path("fsprobe.wasm"), "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ninering");
    let mut input = child.stdin.take().expect("its input");
    let sent: Vec<u8> = (0..1_000_000).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || input.write_all(&sent));
    let mut received = Vec::new();
    child.stdout.take().expect("its output").read_to_end(&mut received).expect("its output");
    writer.join().expect("a writer").expect("to write");
    assert!(child.wait().expect("its end").success());
    assert!(received == expected, "{} of {} bytes came through", received.len(), expected.len());
}

#[test]
fn an_interrupt_ends_a_program_that_never_would() {
    let mut command = ninering();
    command.args(["run", &path("fsprobe.wasm"), "hang"]).env("RUST_LOG", "ninering=debug");
    let (mut running, _) = Running::start(&mut command, "running");
    running.signal(rustix::process::Signal::INT);
    let status = wait(running.process(), Duration::from_secs(30)).expect("it to end");
    assert_eq!(status.code(), Some(130));
}

#[test]
fn an_interrupt_stores_what_was_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = ninering();
    command.args(["run", "--mount", &format!("/data=dir:{}", directory.path().display())]);
    command.args([&path("fsprobe.wasm"), "write-and-hang", "/data/log"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("ninering");
    let mut ready = [0; 6];
    child.stdout.take().expect("its output").read_exact(&mut ready).expect("what it says");
    assert_eq!(&ready, b"ready\n");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .expect("to interrupt it");
    assert_eq!(wait(&mut child, Duration::from_secs(30)).expect("it to end").code(), Some(130));
    assert_eq!(fs::read_to_string(directory.path().join("log")).expect("the file"), "written before it hung\n");
}

#[test]
fn help_and_version_are_no_mistakes() {
    for arguments in [&["--help"][..], &["run", "--help"], &["serve", "--help"], &["ls", "--help"], &["cat", "--help"]]
    {
        let help = finish(ninering().args(arguments)).success();
        assert!(help.stdout.contains("Usage:"), "{arguments:?}");
    }
    finish(ninering().arg("--version")).success();
}

#[test]
fn ls_and_cat_show_what_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("sub")).expect("a directory");
    fs::write(directory.path().join("sub/a.txt"), "first\n").expect("a file");
    fs::write(directory.path().join("sub/.hidden"), "").expect("a file");
    std::os::unix::fs::symlink("a.txt", directory.path().join("sub/link")).expect("a link");
    let source = format!("dir:{}", directory.path().display());
    let (_server, address) = serve(&source);
    for source in [source, address] {
        let place = format!("{source}//sub");
        assert_eq!(finish(ninering().args(["ls", &place])).success().stdout, "a.txt\nlink\n");
        assert_eq!(finish(ninering().args(["ls", "-a", &place])).success().stdout, ".hidden\na.txt\nlink\n");
        let long = finish(ninering().args(["ls", "-l", &place])).success().stdout;
        assert!(long.contains("-rw-") && long.contains(" 6 ") && long.contains("link -> a.txt"), "{long}");
        let cat = finish(ninering().args(["cat", &format!("{place}/link"), &format!("{place}/a.txt")]));
        assert_eq!(cat.success().stdout, "first\nfirst\n");
        let missing = finish(ninering().args(["cat", &format!("{place}/none")]));
        assert!(missing.one_line_failure().contains("No such file or directory"), "{missing:?}");
        assert!(finish(ninering().args(["cat", &place])).one_line_failure().contains("Is a directory"));
    }
}

#[test]
fn a_listener_that_cannot_be_is_named() {
    mistake(&["serve", "mem:", "--listen", "tcp://192.0.2.1:1"], "cannot listen on tcp://192.0.2.1:1");
    mistake(&["serve", "mem:", "--listen", "5640"], "5640");
    mistake(&["serve", "mem:"], "--listen");
    mistake(&["serve", "tcp://127.0.0.1:1", "--listen", "tcp://127.0.0.1:0"], "tcp://127.0.0.1:1 cannot be relayed");
}

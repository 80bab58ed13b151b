//! Seeing into `ninering serve`: metrics over HTTP, `ninering stat`, the log of messages.
#![cfg(feature = "cli")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use common::{Client, ROOT, Socket, fresh, gated::until, serving::PATIENCE};
use ninering_wire::Errno;
use rustix::process::{Pid, Signal, kill_process};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninering"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// `ninering serve mem:` with metrics.
struct Server {
    process: Child,
    errors: BufReader<ChildStderr>,
    metrics: String,
    address: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut process = command()
            .args(["serve", "mem:", "--listen", "tcp://127.0.0.1:0", "--metrics", "tcp://127.0.0.1:0"])
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        let mut address = |of: &str| loop {
            let mut line = String::new();
            assert_ne!(errors.read_line(&mut line).unwrap(), 0, "it ended");
            if line.contains(of) {
                return line.trim_end().rsplit_once("tcp://").expect("an address").1.to_owned();
            }
        };
        let (metrics, address) = (address("metrics on"), address("serving"));
        Self { process, errors, metrics, address }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client::new(Socket(stream));
        client.begin();
        client
    }

    fn stat(&self, options: &[&str]) -> Output {
        command().args(["stat", &format!("tcp://{}", self.metrics)]).args(options).output().unwrap()
    }

    fn http(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.metrics).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only where the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the server answers until it closes; how it closes is its affair.
fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

#[test]
fn stat_shows_what_the_server_does() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for _ in 0..10 {
        client.getattr(ROOT).unwrap();
        assert_eq!(client.walk(ROOT, fresh(), &["none"]), Err(Errno::ENOENT));
    }
    let output = server.stat(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("sessions 1  fids 1  "), "{text}");
    let row =
        |name: &str| text.lines().find(|line| line.starts_with(name)).map(|line| line.split_whitespace().collect());
    let getattr: Vec<_> = row("Tgetattr").expect("a row");
    assert_eq!(getattr[..5], ["Tgetattr", "10", "0", "190", "B"], "{text}");
    let walk: Vec<_> = row("Twalk").expect("a row");
    assert_eq!(walk[..3], ["Twalk", "10", "10"], "{text}");
    assert!(text.contains("errors: Twalk ENOENT 10"), "{text}");

    let json = server.stat(&["--json", "--interval", "20ms", "--count", "2"]);
    let text = String::from_utf8(json.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        assert!(line.starts_with('{') && line.contains("\"sessions\":1") && line.contains("\"interval_seconds\":"));
        // Nothing happened meanwhile.
        assert!(line.contains("\"messages\":{}"), "{line}");
    }
}

#[test]
fn mistakes_are_told_in_one_line() {
    let server = Server::start(&[]);
    let of_9p = command().args(["stat", &format!("tcp://{}", server.address)]).output().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = command().args(["stat", &format!("tcp://{free}")]).output().unwrap();
    let unix = command().args(["stat", "unix:///run/none"]).output().unwrap();
    let log =
        command().args(["serve", "mem:", "-l", "tcp://127.0.0.1:0", "--log-messages=/none/log"]).output().unwrap();
    for output in [of_9p, nobody, unix, log] {
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("ninering: cannot ") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn only_the_metrics_can_be_got() {
    let server = Server::start(&[]);
    let ask = |request: &str| {
        let mut stream = server.http();
        stream.write_all(request.as_bytes()).unwrap();
        answer(stream)
    };
    let metrics = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\nninering_sessions 0\n"), "{metrics}");
    assert!(ask("HEAD /metrics HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n"));
    assert!(ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask("GET /../metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").starts_with("HTTP/1.1 405 "));
    for nonsense in ["hello\r\n\r\n", "\0\0\0\0\0\0\0", "GET /metrics HTTP/9.9\r\n\r\n", "\r\n\r\n\r\nGET\r\n\r\n"] {
        let answered = ask(nonsense);
        assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 400 "), "{nonsense:?}: {answered}");
    }
    let endless = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    let mut stream = server.http();
    // It may be closed before all is sent.
    let _ = stream.write_all(endless.as_bytes());
    let answered = answer(stream);
    assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 431 "), "{answered}");
}

#[test]
fn clients_that_say_nothing_keep_nobody_from_anything_for_long() {
    let server = Server::start(&[]);
    let mut client = server.client();
    // More than are served at a time: some of them begin a request, none ends it.
    let mut silent: Vec<_> = (0..40).map(|_| server.http()).collect();
    for stream in silent.iter_mut().step_by(2) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    }
    for _ in 0..100 {
        client.getattr(ROOT).unwrap();
    }
    // They are sent off, and then others have their turn.
    let mut last = silent.pop().expect("one of them");
    last.write_all(b"x\r\n\r\n").unwrap();
    let mut answered = String::new();
    last.set_read_timeout(Some(PATIENCE * 3)).unwrap();
    last.read_to_string(&mut answered).unwrap_or(0);
    for stream in silent {
        assert!(!answer(stream).contains("200 OK"));
    }
    until(|| server.stat(&[]).status.success());
}

#[test]
fn messages_are_logged_to_a_file_or_to_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for option in [format!("--log-messages={}", path.display()), "--log-messages".to_owned()] {
        let server = Server::start(&[&option]);
        let mut client = server.client();
        assert_eq!(client.walk(ROOT, 7, &["\x1b[31mred"]), Err(Errno::ENOENT));
        drop(client);
        until(|| server.stat(&[]).stdout.windows(12).any(|text| text == b"sessions 0  "));
        let said = server.end();
        let log = if option.contains('=') { read(&path) } else { said };
        assert!(log.contains(r#" s1 tag 2 Twalk(fid=0, newfid=7, names=["\u{1b}[31mred"]) = ENOENT <0."#), "{log}");
        assert!(log.contains(" s1 opened by ") && log.contains(" s1 closed"), "{log}");
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

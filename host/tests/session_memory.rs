//! What an idle session costs: memory, of a process of its own, and descriptors.
#![cfg(feature = "cli")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, ChildStderr, Command, Stdio},
};

use common::{Client, Socket, gated::until, serving::PATIENCE};

/// Sessions that are open at a time.
const SESSIONS: usize = 240;
/// Bytes of memory that one may take. It takes about 100 KiB: up to 64 of them to read ahead into, the rest a thread's stack
/// and what is open.
const MOST: usize = 160 << 10;

struct Server(Child);

impl Server {
    fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only where the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_idle_session_costs_at_most_160_kib_and_two_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "contents").unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_ninering"))
        .args(["serve", &format!("dir:{}", directory.path().display()), "--listen", "tcp://127.0.0.1:0"])
        .args(["--metrics", "tcp://127.0.0.1:0"])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut errors = BufReader::new(process.stderr.take().unwrap());
    let server = Server(process);
    let address = address_of(&mut errors);

    let session = || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client::new(Socket(stream));
        // It has done something of each kind, and is idle with its root.
        client.begin();
        assert_eq!(client.contents("file").unwrap(), b"contents");
        client.names("");
        client
    };
    let _one = session();
    let first = server.descriptors();
    drop((0..8).map(|_| session()).collect::<Vec<_>>());
    // But for what the server goes on knowing.
    until(|| server.descriptors() <= first + 4);
    let (memory, descriptors) = (server.resident(), server.descriptors());
    let sessions: Vec<_> = (0..SESSIONS).map(|_| session()).collect();
    let each = server.resident().saturating_sub(memory) / SESSIONS;
    println!("{each} bytes a session");
    assert!(each <= MOST, "{each} bytes a session");
    let opened = server.descriptors() - descriptors;
    assert!(opened <= 2 * SESSIONS + 8, "{opened} descriptors for {SESSIONS} sessions");
    drop(sessions);
    until(|| server.descriptors() <= descriptors + 8);
}

fn address_of(errors: &mut BufReader<ChildStderr>) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(errors.read_line(&mut line).unwrap(), 0, "it ended");
        if line.contains("serving") {
            return line.trim_end().rsplit_once("tcp://").expect("an address").1.to_owned();
        }
    }
}

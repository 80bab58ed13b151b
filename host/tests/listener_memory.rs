//! How much memory the server takes, seen from outside: a process of its own, and what the kernel says of it.
#![cfg(feature = "cli")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::Duration,
};

use common::{Client, ROOT, Socket, encode, gated::until, receive, serving::PATIENCE};
use ninering_wire::{Errno, Frame, Rmessage, Str, Tmessage, getattr, lopen::RDONLY};

const MIB: usize = 1 << 20;

/// `ninering serve` of a directory, on a port of its own.
struct Server {
    process: Child,
    address: String,
    _output: BufReader<ChildStderr>,
    directory: tempfile::TempDir,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_ninering"))
            .args(["serve", &format!("dir:{}", directory.path().display()), "--listen", "tcp://127.0.0.1:0"])
            .args(options)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut output = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit_once("tcp://").expect("an address").1.to_owned();
        Self { process, address, _output: output, directory }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn client(&self) -> Client {
        let mut client = Client::new(Socket(self.connect()));
        client.begin();
        client
    }

    /// Bytes of memory that the process occupies now.
    fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only where the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn who_opens_and_never_clunks_is_bounded() {
    const FIDS: usize = 500;
    let server = Server::start(&["--max-fids-per-connection", &FIDS.to_string()]);
    fs::write(server.directory.path().join("file"), "contents").unwrap();
    server.client();
    let (memory, descriptors) = (server.resident(), server.descriptors());
    for _ in 0..5 {
        let mut client = server.client();
        let mut refused = 0;
        for newfid in 1..2 * FIDS as u32 {
            let names = (&Str(b"file")).into();
            match client.call(&Tmessage::Twalk { fid: ROOT, newfid, names }, &[]) {
                Ok(_) => drop(client.lopen(newfid, RDONLY).unwrap()),
                Err(error) => {
                    assert_eq!(error, Errno::EMFILE);
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, FIDS);
        // A descriptor for what was walked to, and one for what was opened; and the connection's.
        assert!(server.descriptors() <= descriptors + 2 * FIDS + 50, "{}", server.descriptors());
        drop(client);
        until(|| server.descriptors() <= descriptors + 50);
    }
    let grown = server.resident().saturating_sub(memory);
    assert!(grown < 16 * MIB, "by {grown} bytes");
}

#[test]
fn who_sends_and_never_reads_is_bounded() {
    const CLIENTS: usize = 12;
    let server = Server::start(&["--max-memory", "16M", "--slow-reader-time", "never"]);
    fs::write(server.directory.path().join("file"), vec![7; MIB]).unwrap();
    server.client();
    let before = server.resident();
    let mut most = 0;
    let mut hogs = Vec::new();
    for large in [false, true] {
        for _ in 0..CLIENTS {
            let stream = server.connect();
            let mut client = Client::new(Socket(stream.try_clone().unwrap()));
            client.begin();
            let fid = client.open("file", RDONLY).unwrap();
            let request = match large {
                true => Tmessage::Tread { fid, offset: 0, count: MIB as u32 },
                false => Tmessage::Tgetattr { fid, request_mask: getattr::ALL },
            };
            let mut hog = stream.try_clone().unwrap();
            hog.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let requests: Vec<_> = (0..1000).flat_map(|tag| encode(tag, &request, &[])).collect();
            // Until neither the server nor the kernel takes any more.
            while hog.write_all(&requests).is_ok() {}
            hogs.push((stream, client));
            most = most.max(server.resident());
        }
    }
    thread::sleep(Duration::from_millis(200));
    let grown = most.max(server.resident()).saturating_sub(before);
    // 16 MiB in use, 32 MiB kept for use, 64 KiB and more for each connection to read into, and what malloc wastes.
    assert!(grown < 96 * MIB, "by {grown} bytes");
    // Others are served.
    let mut client = server.client();
    assert!(client.stat("file").is_ok());
}

#[test]
fn who_sends_large_beginnings_and_no_ends_is_bounded() {
    let server = Server::start(&["--max-memory", "16M", "--msize", "16M", "--message-time", "never"]);
    server.client();
    let before = server.resident();
    let mut message = encode(1, &Tmessage::Twrite { fid: ROOT, offset: 0, count: 15 << 20 }, &[]);
    message.resize(message.len() + 12 * MIB, 7);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = server.connect();
        let version = Tmessage::Tversion { msize: 16 << 20, version: Str(b"9P2000.L") };
        stream.write_all(&encode(u16::MAX, &version, &[])).unwrap();
        let reply = receive(&mut stream).unwrap();
        let Rmessage::Rversion { msize, .. } = Frame::<Rmessage<'_>>::decode(&reply).unwrap().message else {
            panic!("no Rversion")
        };
        assert_eq!(msize, 16 << 20);
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // One of them gets the memory for it; the others are not read any further.
        let _ = stream.write_all(&message);
        streams.push(stream);
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 48 * MIB, "by {grown} bytes");
    assert!(server.client().stat("").is_ok());
}

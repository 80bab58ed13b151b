//! A server that is killed in the middle of writes: what it had acknowledged is there, as its next start shows.

mod common;
mod process_support;

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use common::{ROOT, encode, receive, serving::PATIENCE};
use ninering_wire::{
    Frame, NOFID, NOTAG, Names, Rmessage, Str, Tmessage, VERSION_9P2000L,
    lopen::{RDWR, WRONLY},
};
use process_support::ServerProcess;

/// A write, by which any part of it can be told from all others.
#[derive(Clone, Copy)]
struct Record {
    offset: u64,
    length: usize,
    seed: u8,
}

impl Record {
    fn bytes(&self) -> Vec<u8> {
        (0..self.length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(self.seed)).collect()
    }
}

/// What the server has said to have done.
#[derive(Default)]
struct Acknowledged {
    written: Vec<Record>,
    /// So many of them before the last `Tfsync` that was answered.
    synced: usize,
    /// The last version of the file that is replaced again and again.
    renamed: u32,
}

/// Asks, and waits for the reply; an error where the connection ends before that.
fn call(stream: &mut UnixStream, message: &Tmessage<'_>, payload: &[u8]) -> io::Result<()> {
    let tag = if matches!(message, Tmessage::Tversion { .. }) { NOTAG } else { 0 };
    stream.write_all(&encode(tag, message, payload))?;
    let reply = receive(stream)?;
    let frame = Frame::<Rmessage<'_>>::decode(&reply).expect("a reply");
    assert!(!matches!(frame.message, Rmessage::Rlerror { .. }), "{:?} to {message:?}", frame.message);
    Ok(())
}

/// Writes until the connection ends; tells `progress` of each round, and in the end what was acknowledged.
fn write_until_killed(mut stream: UnixStream, round: u8, progress: &mpsc::Sender<()>) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    // However it ends, it is by the end of the connection: wrong replies panic.
    let _ = write_on(&mut stream, round, progress, &mut acknowledged);
    acknowledged
}

fn write_on(
    stream: &mut UnixStream,
    round: u8,
    progress: &mpsc::Sender<()>,
    acknowledged: &mut Acknowledged,
) -> io::Result<()> {
    const FILE: u32 = 1;
    const NEW: u32 = 2;
    let (uname, aname) = (Str(b""), Str(b""));
    let n_uname = rustix::process::geteuid().as_raw();
    call(stream, &Tmessage::Tversion { msize: 1 << 20, version: Str(VERSION_9P2000L) }, &[])?;
    call(stream, &Tmessage::Tattach { fid: ROOT, afid: NOFID, uname, aname, n_uname }, &[])?;
    call(stream, &Tmessage::Twalk { fid: ROOT, newfid: FILE, names: Names::default() }, &[])?;
    let name = format!("written{round}");
    let (name, gid) = (Str(name.as_bytes()), common::gid());
    call(stream, &Tmessage::Tlcreate { fid: FILE, name, flags: RDWR, mode: 0o644, gid }, &[])?;
    let mut offset = 0;
    for number in 0_u32.. {
        // Several at a time, which the server does in an order of its own.
        let mut records = Vec::new();
        for part in 0..4 {
            let length = 1 + (number as usize * 7919 + part * 104_729) % 90_000;
            records.push(Record { offset, length, seed: (number * 4 + part as u32) as u8 });
            offset += length as u64;
        }
        for (tag, record) in (10..).zip(&records) {
            let write = Tmessage::Twrite { fid: FILE, offset: record.offset, count: record.length as u32 };
            stream.write_all(&encode(tag, &write, &record.bytes()))?;
        }
        for _ in 0..records.len() {
            let reply = receive(stream)?;
            let frame = Frame::<Rmessage<'_>>::decode(&reply).expect("a reply");
            let record = records[usize::from(frame.tag - 10)];
            assert_eq!(frame.message, Rmessage::Rwrite { count: record.length as u32 });
            acknowledged.written.push(record);
        }
        if number % 3 == 0 {
            call(stream, &Tmessage::Tfsync { fid: FILE, datasync: number & 1 }, &[])?;
            acknowledged.synced = acknowledged.written.len();
        }
        // A file that is replaced is the old one or the new one, never a part of one.
        call(stream, &Tmessage::Twalk { fid: ROOT, newfid: NEW, names: Names::default() }, &[])?;
        let create = Tmessage::Tlcreate { fid: NEW, name: Str(b"new"), flags: WRONLY, mode: 0o644, gid };
        call(stream, &create, &[])?;
        let version = version_bytes(number);
        call(stream, &Tmessage::Twrite { fid: NEW, offset: 0, count: version.len() as u32 }, &version)?;
        call(stream, &Tmessage::Tfsync { fid: NEW, datasync: 0 }, &[])?;
        call(stream, &Tmessage::Tclunk { fid: NEW }, &[])?;
        let (oldname, newname) = (Str(b"new"), Str(b"replaced"));
        call(stream, &Tmessage::Trenameat { olddirfid: ROOT, oldname, newdirfid: ROOT, newname }, &[])?;
        acknowledged.renamed = number;
        // Nobody listens any more once the kill is under way.
        let _ = progress.send(());
    }
    Ok(())
}

fn version_bytes(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(5000)
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("export")).unwrap();
    for round in 0..6 {
        let server = ServerProcess::start(directory.path());
        let stream = server.connect();
        let (progress, progressed) = mpsc::channel();
        let writing = thread::spawn(move || write_until_killed(stream, round, &progress));
        // After some of it is done, at whatever point it then is.
        for _ in 0..=round {
            progressed.recv_timeout(PATIENCE).expect("it writes");
        }
        thread::sleep(Duration::from_micros(u64::from(round) * 1700));
        server.kill();
        let acknowledged = writing.join().unwrap();
        assert!(acknowledged.synced > 0 && acknowledged.synced <= acknowledged.written.len());

        let server = ServerProcess::start(directory.path());
        let mut client = server.client();
        let written = client.contents(&format!("written{round}")).unwrap();
        for (number, record) in acknowledged.written.iter().enumerate() {
            let start = record.offset as usize;
            let found = written.get(start..start + record.length);
            assert!(
                found == Some(&record.bytes()[..]),
                "of {} acknowledged writes, {} of them synced, number {number} is lost",
                acknowledged.written.len(),
                acknowledged.synced,
            );
        }
        let replaced = client.contents("replaced").unwrap();
        let version = u32::from_le_bytes(replaced[..4].try_into().unwrap());
        assert!(version >= acknowledged.renamed, "version {version} is there, not {}", acknowledged.renamed);
        assert_eq!(replaced, version_bytes(version));
        drop(client);
        server.kill();
    }
}

//! Clients that take all there is, of a server in a process of its own: they are refused at a bound, others are served,
//! and what they had is there again when they are gone.

mod common;
mod process_support;

use std::{fs, thread};

use common::{ROOT, gated::until};
use ninering_wire::{
    Errno, Tmessage,
    lopen::{RDONLY, RDWR},
};
use process_support::ServerProcess;

/// A directory to serve, with a file in it.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("export")).unwrap();
    fs::write(directory.path().join("export/a"), "contents").unwrap();
    directory
}

/// CVE-2020-10717, and Debian's QEMU 7.2+dfsg-7+deb12u14: descriptors run out.
#[test]
fn descriptors_run_out_with_an_error_and_come_back() {
    let directory = directory();
    let server = ServerProcess::start_with_descriptors(120, directory.path());
    let mut bystander = server.client();
    let before = server.descriptors();
    for _ in 0..3 {
        let mut greedy = server.client();
        let mut opened = Vec::new();
        let error = loop {
            match greedy.open("a", RDWR) {
                Ok(fid) => opened.push(fid),
                Err(error) => break error,
            }
            assert!(opened.len() <= 120, "more are open than there are");
        };
        assert!([Errno::EMFILE, Errno::ENFILE].contains(&error), "{error}");
        assert!(opened.len() >= 10, "only {} files could be opened", opened.len());
        // What is open works, and what needs no descriptor; what does fails again, and does nothing else.
        assert_eq!(greedy.read(opened[0], 0, 100).unwrap(), b"contents");
        assert!(bystander.getattr(ROOT).is_ok());
        for _ in 0..50 {
            assert!([Errno::EMFILE, Errno::ENFILE].contains(&greedy.open("a", RDWR).unwrap_err()));
        }
        assert!(server.descriptors() <= 120);
        assert_eq!(greedy.read(opened[0], 0, 100).unwrap(), b"contents");
        // Who comes now may have to wait.
        thread::scope(|scope| {
            let late = scope.spawn(|| server.client().contents("a").unwrap());
            for fid in opened.drain(..) {
                greedy.clunk(fid).unwrap();
            }
            assert_eq!(late.join().unwrap(), b"contents");
        });
        assert_eq!(bystander.contents("a").unwrap(), b"contents");
        // And the same without a word of farewell.
        while greedy.open("a", RDWR).is_ok() {}
        drop(greedy);
        until(|| server.descriptors() <= before);
        assert_eq!(bystander.contents("a").unwrap(), b"contents");
    }
}

/// Connections are descriptors, too: those that cannot be served wait, and those that are there are served on.
#[test]
fn connections_run_out_and_come_back() {
    let directory = directory();
    let server = ServerProcess::start_with_descriptors(100, directory.path());
    let mut bystander = server.client();
    let before = server.descriptors();
    for _ in 0..2 {
        let idle: Vec<_> = (0..150).map(|_| server.connect()).collect();
        for _ in 0..20 {
            assert!(bystander.getattr(ROOT).is_ok());
        }
        drop(idle);
        until(|| server.descriptors() <= before);
        assert_eq!(server.client().contents("a").unwrap(), b"contents");
        assert_eq!(bystander.contents("a").unwrap(), b"contents");
    }
}

/// Memory stays flat under a client that opens, never clunks, and comes again.
#[test]
fn sessions_that_end_give_back_their_memory() {
    let directory = directory();
    let server = ServerProcess::start(directory.path());
    let round = || {
        let mut client = server.client();
        for fid in 1..3000 {
            client.walk(ROOT, fid, &["a"]).unwrap();
        }
        for fid in 1..200 {
            client.lopen(fid, RDONLY).unwrap();
        }
        client.walk(ROOT, 1 << 30, &["a"]).unwrap();
    };
    let before = server.descriptors();
    (0..3).for_each(|_| round());
    let settled = server.memory();
    (0..20).for_each(|_| round());
    until(|| server.descriptors() <= before);
    // Of what is kept for the next, some pages come and go.
    let now = server.memory();
    assert!(now < settled + 4096, "{settled} KiB after three sessions, {now} KiB after twenty more");
}

/// A fid's number is the client's: one that is large takes no more memory than a small one.
#[test]
fn large_numbers_of_fids_take_no_more_memory() {
    let directory = directory();
    let server = ServerProcess::start(directory.path());
    let mut client = server.client();
    client.walk(ROOT, 1, &[]).unwrap();
    let before = server.memory();
    for shift in 0..31 {
        let fid = (1_u32 << shift) + 1000;
        client.walk(ROOT, fid, &[]).unwrap();
        client.clunk(fid).unwrap();
        client.walk(ROOT, u32::MAX - 1 - (1 << shift), &[]).unwrap();
    }
    client.done(&Tmessage::Tclunk { fid: 1 }).unwrap();
    let now = server.memory();
    assert!(now < before + 4096, "{before} KiB, then {now} KiB");
}

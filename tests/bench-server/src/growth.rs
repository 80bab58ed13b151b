//! How the cost of an operation grows with what there is of connections, open fids and directory entries: the server's processor
//! time for one, which depends on the machine's noise less than how long it takes.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ninering_wire::{Str, Tmessage, getattr::BASIC, lopen};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    Arguments,
    connection::{Connection, ROOT},
    load,
    operation::{Kind, Operation, walk},
    server::{Running, Server, Transport},
};

/// Sizes that are tried.
const CONNECTIONS: [usize; 4] = [1, 10, 100, 1000];
const FIDS: [u32; 5] = [10, 100, 1000, 10_000, 100_000];
const ENTRIES: [usize; 6] = [10, 100, 1000, 10_000, 100_000, 1_000_000];
/// Descriptors for the most of them, on both sides.
const DESCRIPTORS: u64 = 2 * 100_000 + 10_000;
/// The fid that operations use, far from those that are only there.
const FID: u32 = 10_000_000;

/// The replies' type numbers.
mod reply {
    pub(super) const LOPEN: u8 = 13;
    pub(super) const GETATTR: u8 = 25;
    pub(super) const READDIR: u8 = 41;
    pub(super) const WALK: u8 = 111;
    pub(super) const CLUNK: u8 = 121;
}

/// Measures `ninering serve` on `directory`, and prints a line for each size.
pub(crate) fn run(arguments: &Arguments, directory: &Path) -> Result<()> {
    let descriptors = raise_descriptors();
    let mut running = Running::start(Server::Ninering, arguments, directory)?.context("ninering is not there")?;
    let time = Duration::from_millis(arguments.time);

    println!("connections   operations/s   µs of processor/operation   (walk+getattr+clunk, one at a time on each)");
    for count in CONNECTIONS {
        // A descriptor for the socket and one for the root, with some to spare.
        if 2 * count as u64 + 200 > descriptors {
            println!("{count:>11}   left out: {descriptors} descriptors are allowed");
            continue;
        }
        let clock = running.clock()?;
        let Some(connections) = running.connections(Transport::Unix, count)? else { continue };
        let mut operations = Vec::new();
        for (number, connection) in connections.iter_mut().enumerate() {
            operations.push(Operation::prepare(Kind::Stat, connection, number, 1)?);
        }
        let measured = load::run(connections, &mut operations, 1, time, &clock)?;
        println!("{count:>11}   {:>12.0}   {:>27.1}", measured.rate, measured.cost);
    }

    println!("\n       fids   operations/s   µs of processor/operation   bytes of memory/fid");
    let (mut there, empty) = (0, running.resident()?);
    for count in FIDS {
        // Each has a descriptor, as long as there are some; then they are clones of the first, which share its.
        let walked = count.min(u32::try_from(descriptors).unwrap_or(u32::MAX).saturating_sub(2200));
        let connection = one(&mut running)?;
        for newfid in there..count {
            let (from, names) = if newfid < walked { (ROOT, Some(&Str(b"read"))) } else { (1000, None) };
            connection.call(&walk(from, 1000 + newfid, names), reply::WALK)?;
        }
        there = count;
        let (rate, cost) = repeat(&mut running, time, |connection, _| stat(connection, ROOT, "read").map(|()| 1))?;
        let each = running.resident()?.saturating_sub(empty) / count as usize;
        let clones = match count - walked {
            0 => String::new(),
            clones => format!("   {clones} of them clones: {descriptors} descriptors are allowed"),
        };
        println!("{count:>11}   {rate:>12.0}   {cost:>27.1}   {each:>19}{clones}");
    }
    for newfid in 0..there {
        one(&mut running)?.call(&Tmessage::Tclunk { fid: 1000 + newfid }, reply::CLUNK)?;
    }

    println!("\n    entries   stats/s   µs of processor/stat   entries listed/s   µs of processor/entry");
    let grown = directory.join("grown");
    fs::create_dir(&grown)?;
    let mut there = 0;
    for count in ENTRIES {
        for number in there..count {
            File::create(grown.join(number.to_string()))?;
        }
        there = count;
        one(&mut running)?.call(&walk(ROOT, FID + 1, Some(&Str(b"grown"))), reply::WALK)?;
        let (stats, stat_cost) = repeat(&mut running, time, |connection, turn| {
            stat(connection, FID + 1, &(turn * 7919 % count).to_string()).map(|()| 1)
        })?;
        let (listed, entry_cost) = repeat(&mut running, time, |connection, _| list(connection, count))?;
        println!("{count:>11}   {stats:>7.0}   {stat_cost:>20.1}   {listed:>16.0}   {entry_cost:>21.2}");
        one(&mut running)?.call(&Tmessage::Tclunk { fid: FID + 1 }, reply::CLUNK)?;
    }
    Ok(())
}

/// The connection that all but the first table use.
fn one(running: &mut Running) -> Result<&mut Connection> {
    let connections = running.connections(Transport::Unix, 1)?.context("there is no Unix socket")?;
    connections.first_mut().context("there is no connection")
}

/// Does something again and again for a time; tells how much was done a second, and the server's processor time for one, in
/// microseconds. `action` tells how much it did.
fn repeat(
    running: &mut Running,
    time: Duration,
    mut action: impl FnMut(&mut Connection, usize) -> Result<usize>,
) -> Result<(f64, f64)> {
    let clock = running.clock()?;
    let connection = one(running)?;
    let (began, processor) = (Instant::now(), clock.time()?);
    let (mut done, mut turn) = (0, 0);
    while began.elapsed() < time {
        done += action(connection, turn)?;
        turn += 1;
    }
    let (took, processor) = (began.elapsed(), clock.time()? - processor);
    ensure!(done > 0, "nothing was done");
    Ok((done as f64 / took.as_secs_f64(), processor.as_secs_f64() * 1e6 / done as f64))
}

fn stat(connection: &mut Connection, directory: u32, name: &str) -> Result<()> {
    connection.call(&walk(directory, FID, Some(&name.into())), reply::WALK)?;
    connection.call(&Tmessage::Tgetattr { fid: FID, request_mask: BASIC }, reply::GETATTR)?;
    connection.call(&Tmessage::Tclunk { fid: FID }, reply::CLUNK)
}

/// Lists the directory that is walked to, which has so many entries.
fn list(connection: &mut Connection, entries: usize) -> Result<usize> {
    connection.call(&walk(FID + 1, FID, None), reply::WALK)?;
    connection.call(&Tmessage::Tlopen { fid: FID, flags: lopen::RDONLY | lopen::DIRECTORY }, reply::LOPEN)?;
    let (mut offset, mut listed) = (0, 0);
    loop {
        let message = Tmessage::Treaddir { fid: FID, offset, count: 65_536 - 24 };
        let last = connection.listed(&message, reply::READDIR)?;
        let Some((last, count)) = last else { break };
        (offset, listed) = (last, listed + count);
    }
    // With `.` and `..`.
    ensure!(listed == entries + 2, "a listing of {listed} entries in place of {entries}");
    connection.call(&Tmessage::Tclunk { fid: FID }, reply::CLUNK)?;
    Ok(listed)
}

/// Allows this process and the server, which inherits it, as many descriptors as it may; tells how many.
fn raise_descriptors() -> u64 {
    let enough = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    if setrlimit(Resource::Nofile, enough).is_err() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        // It fails nowhere: it is no more than what is allowed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

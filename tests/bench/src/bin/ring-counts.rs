//! How often the two sides of a mount's ring tell each other of something: requests for each kick, and interrupts for
//! each request, with event index and without, on an in-process server and on one behind a Unix socket; and what several
//! rings would bring at the most, by doing the same work with several mounts, which share nothing: medians of rounds in
//! which one and several take turns.
//!
//! The server of the socket runs in this process, on threads of its own; its processor time is counted too.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result};
use ninering::{
    backend::MemBackend,
    listener::{Address, Listener},
    mount::{CacheMode, Mount, MountOptions, OpenFlags, Statistics},
    server::{Server, ServerOptions},
};
use rustix::time::{ClockId, clock_gettime};

/// Operations in a run.
const OPERATIONS: usize = 60_000;
/// How often one ring and several are measured, in turn.
const ROUNDS: usize = 7;
const FILE: &str = "ring-counts";
const SIZE: usize = 64 << 10;

#[derive(Clone, Copy)]
enum Operation {
    Stat,
    Read(usize),
    Write(usize),
    Mixed,
}

const LOADS: [(&str, Operation); 4] = [
    ("stat of a path", Operation::Stat),
    ("read 4 KiB", Operation::Read(4 << 10)),
    ("write 4 KiB", Operation::Write(4 << 10)),
    ("stat, read, write in turn", Operation::Mixed),
];

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let address = Address::Unix(directory.path().join("socket"));
    let server = Server::new(Arc::new(MemBackend::default()), ServerOptions::default());
    let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = serving.block_on(Listener::bind(&address))?;
    serving.spawn(listener.serve(Arc::clone(&server), std::future::pending::<()>()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        println!("| ring | load | event index | requests a kick | interrupts per 100 requests | processor time, µs a request |");
        println!("| --- | --- | --- | ---: | ---: | ---: |");
        for (ring, tasks) in [("in-process", 1), ("Unix socket, one at a time", 1), ("Unix socket, 32 at a time", 32)] {
            for (load, operation) in LOADS {
                for event_index in [true, false] {
                    let options = options(event_index);
                    let mount = match ring {
                        "in-process" => Mount::local(Arc::clone(&server), options)?,
                        _ => Mount::remote(address.clone(), options).await?,
                    };
                    let Run { counts, processor, .. } = run(&[mount], operation, tasks).await?;
                    let requests = counts.requests as f64;
                    println!(
                        "| {ring} | {load} | {} | {:.2} | {:.1} | {:.1} |",
                        if event_index { "on" } else { "off" },
                        requests / counts.kicks.max(1) as f64,
                        100.0 * counts.interrupts as f64 / requests,
                        processor * 1e6 / requests,
                    );
                }
            }
        }
        println!();
        println!("| server | load, 32 at a time | rings, of a mount each | time | processor time |");
        println!("| --- | --- | ---: | ---: | ---: |");
        for remote in [None, Some(&address)] {
            for (load, operation) in LOADS {
                let mut mounts = Vec::new();
                for _ in 0..4 {
                    mounts.push(match remote {
                        Some(address) => Mount::remote(address.clone(), options(true)).await?,
                        None => Mount::local(Arc::clone(&server), options(true))?,
                    });
                }
                let mut ratios = [Vec::new(), Vec::new()];
                for _ in 0..ROUNDS {
                    let one = run(&mounts[..1], operation, 32).await?;
                    for (rings, ratios) in [2, 4].into_iter().zip(&mut ratios) {
                        let several = run(&mounts[..rings], operation, 32).await?;
                        ratios.push((several.seconds / one.seconds, several.processor / one.processor));
                    }
                }
                for (rings, ratios) in [2, 4].into_iter().zip(ratios) {
                    let (time, processor): (Vec<_>, Vec<_>) = ratios.into_iter().unzip();
                    let server = if remote.is_some() { "Unix socket" } else { "in-process" };
                    println!("| {server} | {load} | {rings} | {} | {} |", spread(time), spread(processor));
                }
            }
        }
        Ok(())
    })
}

/// The median, and the least and the greatest.
fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    format!("{:.2} × ({:.2} – {:.2})", ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1])
}

fn options(event_index: bool) -> MountOptions {
    MountOptions { event_index, queue_size: 128, cache: Some(CacheMode::None), ..MountOptions::default() }
}

struct Run {
    counts: Statistics,
    seconds: f64,
    processor: f64,
}

/// Does all operations, so many at a time, by mounts in turn.
async fn run(mounts: &[Mount], operation: Operation, tasks: usize) -> Result<Run> {
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
    let first = mounts.first().context("there is one")?;
    let file = first.root().open_at(FILE, flags, 0o644).await?;
    file.write_at(0, first.buffer(SIZE).await?).await.0?;
    drop(file);
    let before: Vec<_> = mounts.iter().map(Mount::statistics).collect();
    let (began, processor) = (Instant::now(), processor_time());
    let workers: Vec<_> = (0..tasks)
        .map(|task| tokio::spawn(work(mounts[task % mounts.len()].clone(), operation, OPERATIONS / tasks)))
        .collect();
    for worker in workers {
        worker.await??;
    }
    let (seconds, processor) = (began.elapsed().as_secs_f64(), processor_time() - processor);
    let mut counts = Statistics::default();
    for (mount, before) in mounts.iter().zip(before) {
        let after = mount.statistics();
        counts.requests += after.requests - before.requests;
        counts.kicks += after.kicks - before.kicks;
        counts.interrupts += after.interrupts - before.interrupts;
    }
    Ok(Run { counts, seconds, processor })
}

async fn work(mount: Mount, operation: Operation, count: usize) -> Result<()> {
    let root = mount.root();
    let file = root.open_at(FILE, OpenFlags::READ | OpenFlags::WRITE, 0).await?;
    for index in 0..count {
        let offset = (index * 4096 % SIZE) as u64;
        let operation = match (operation, index % 3) {
            (Operation::Mixed, 0) => Operation::Stat,
            (Operation::Mixed, 1) => Operation::Read(4 << 10),
            (Operation::Mixed, _) => Operation::Write(4 << 10),
            (same, _) => same,
        };
        match operation {
            Operation::Read(bytes) => drop(file.read_at(offset, mount.buffer(bytes).await?).await?),
            Operation::Write(bytes) => drop(file.write_at(offset, mount.buffer(bytes).await?).await.0?),
            Operation::Stat | Operation::Mixed => drop(root.stat_at(FILE, true).await?),
        }
    }
    Ok(())
}

/// Seconds of processor time that this process has used.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

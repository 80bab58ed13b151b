//! Keeps operations under way on some connections, all from this one thread, and tells how fast they were.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    connection::Connection,
    operation::{Operation, Progress},
    server::Clock,
};

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Operations a second.
    pub(crate) rate: f64,
    /// Processor time of the server for one, in microseconds.
    pub(crate) cost: f64,
}

/// Runs `operations`, one for each connection and `depth` at a time on each, for about `time`.
pub(crate) fn run(
    connections: &mut [Connection],
    operations: &mut [Operation],
    depth: usize,
    time: Duration,
    clock: &Clock,
) -> Result<Measured> {
    // One connection needs no poll: what it has to wait for is always the next reply.
    let alone = connections.len() == 1;
    for connection in &*connections {
        connection.set_blocking(alone)?;
    }
    let (began, process_time_before) = (Instant::now(), clock.time()?);
    let mut under_way = 0;
    let mut blocked = vec![false; connections.len()];
    for (index, (connection, operation)) in connections.iter_mut().zip(&mut *operations).enumerate() {
        for slot in 0..depth {
            operation.begin(connection, slot)?;
            under_way += 1;
        }
        blocked[index] = !connection.send()?;
    }
    let mut done = 0.0;
    let mut ready = vec![true; connections.len()];
    while under_way > 0 {
        if !alone {
            wait(connections, &blocked, &mut ready)?;
        }
        let go_on = began.elapsed() < time;
        for (index, (connection, operation)) in connections.iter_mut().zip(&mut *operations).enumerate() {
            if !ready[index] {
                continue;
            }
            connection.receive()?;
            while let Some(reply) = connection.next()? {
                if let Progress::Done(worth) = operation.go_on(connection, &reply)? {
                    done += worth;
                    under_way -= 1;
                    if go_on {
                        operation.begin(connection, reply.tag.into())?;
                        under_way += 1;
                    }
                }
            }
            blocked[index] = !connection.send()?;
        }
    }
    let (took, process_time) = (began.elapsed(), clock.time()? - process_time_before);
    for (connection, operation) in connections.iter_mut().zip(operations) {
        operation.finish(connection)?;
    }
    ensure!(done > 0.0, "nothing was done");
    Ok(Measured { rate: done / took.as_secs_f64(), cost: process_time.as_secs_f64() * 1e6 / done })
}

/// Waits until something can be received, or sent where that is blocked; notes which connections are `ready`.
fn wait(connections: &[Connection], blocked: &[bool], ready: &mut [bool]) -> Result<()> {
    let mut waiting: Vec<_> = connections
        .iter()
        .zip(blocked)
        .map(|(connection, &blocked)| {
            let sending = if blocked { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN | sending)
        })
        .collect();
    let limit = rustix::time::Timespec { tv_sec: 30, tv_nsec: 0 };
    ensure!(poll(&mut waiting, Some(&limit))? > 0, "the server does not answer");
    for (ready, waited) in ready.iter_mut().zip(&waiting) {
        *ready = !waited.revents().is_empty();
    }
    Ok(())
}

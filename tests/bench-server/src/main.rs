//! Measures 9P servers on the same tmpfs directory in one go, in turn, and prints the medians and their ratios.
//!
//! The servers: `ninering serve`, diod and unpfs where they are installed, and the *limit*, a program of this one's own
//! that answers the same messages and does nothing but the system calls that none can do without (`limit`). The machine's
//! noise meets all of them alike: each round runs every server once on every row, each time another one first, and of each
//! row, and of each round's ratios, the median over the rounds counts (or the best, `--best`).
//! Beside operations a second it tells the processor time that a server takes for one, which depends on noise less.
//!
//! `server` starts the servers, `connection` speaks 9P on a socket, `operation` says what is measured as messages, `load` keeps
//! so many of them under way, `table` prints. `growth` looks at how one server's cost grows.

mod connection;
mod growth;
mod limit;
mod load;
mod operation;
mod server;
mod table;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;

use self::{
    operation::{Kind, Operation},
    server::{Running, Server, Transport},
    table::Table,
};

/// Compare 9P servers: operations a second and processor time for one.
#[derive(Parser)]
struct Arguments {
    /// The `ninering` command.
    #[arg(long, default_value = "target/release/ninering")]
    ninering: PathBuf,
    /// The diod command; left out where it is not installed.
    #[arg(long, default_value = "/usr/sbin/diod")]
    diod: PathBuf,
    /// The unpfs command; left out where it is not installed.
    #[arg(long, default_value = "target/peers/bin/unpfs")]
    unpfs: PathBuf,
    /// Where the files are: a tmpfs, so that no disk is measured.
    #[arg(long, default_value = "/dev/shm")]
    directory: PathBuf,
    /// How many times each row is run on each server.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long one run of a row is.
    #[arg(long, default_value_t = 200, value_name = "MILLISECONDS")]
    time: u64,
    /// Of the rounds take the best instead of the median: for a machine that is busy with other things too.
    #[arg(long)]
    best: bool,
    /// Only rows whose name contains this; can be given several times.
    #[arg(long)]
    row: Vec<String>,
    /// The sockets.
    #[arg(long, value_delimiter = ',', default_value = "tcp,unix")]
    transport: Vec<Transport>,
    /// How many connections there are.
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    connections: Vec<usize>,
    /// How many operations each connection has under way.
    #[arg(long, value_delimiter = ',', default_value = "1,32")]
    depth: Vec<usize>,
    /// The servers.
    #[arg(long, value_delimiter = ',', default_value = "ninering,diod,unpfs,limit")]
    server: Vec<Server>,
    /// Show instead how ninering's cost grows with connections, open fids and directory entries.
    #[arg(long)]
    growth: bool,
    /// Be the limit: serve on this address and answer everything, from this directory.
    #[arg(long, hide = true, num_args = 2, value_names = ["ADDRESS", "DIRECTORY"])]
    be_limit: Option<Vec<String>>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(limit) = &arguments.be_limit {
        return limit::serve(&limit[0], limit[1].as_ref());
    }
    let directory = tempfile::tempdir_in(&arguments.directory)
        .with_context(|| format!("cannot use {}", arguments.directory.display()))?;
    let most = arguments.connections.iter().max().copied().unwrap_or(1);
    operation::make_files(directory.path(), most)?;

    if arguments.growth {
        return growth::run(&arguments, directory.path());
    }
    let mut servers = Vec::new();
    for &server in &arguments.server {
        match Running::start(server, &arguments, directory.path())? {
            Some(running) => servers.push(running),
            None => eprintln!("{server} is not installed: left out"),
        }
    }
    let chosen = |name: &str| arguments.row.is_empty() || arguments.row.iter().any(|part| name.contains(part));
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| chosen(kind.name())).collect();
    let mut table = Table::new(arguments.best);
    for round in 0..arguments.rounds {
        for (&transport, &connections, &depth) in combinations(&arguments) {
            for &kind in &kinds {
                servers.rotate_left(1);
                for running in &mut servers {
                    let case = table::Case { kind, transport, connections, depth };
                    let server = running.server();
                    let Some(measured) = measure(running, case, Duration::from_millis(arguments.time))
                        .with_context(|| format!("{server}: {case}"))?
                    else {
                        continue;
                    };
                    table.add(case, server, measured);
                }
            }
        }
        eprintln!("round {} of {}", round + 1, arguments.rounds);
    }
    table.print();
    Ok(())
}

fn combinations(arguments: &Arguments) -> impl Iterator<Item = (&Transport, &usize, &usize)> {
    arguments.transport.iter().flat_map(move |transport| {
        arguments
            .connections
            .iter()
            .flat_map(move |connections| arguments.depth.iter().map(move |depth| (transport, connections, depth)))
    })
}

/// One run of one row on one server; `None` where it does not have this transport.
fn measure(running: &mut Running, case: table::Case, time: Duration) -> Result<Option<load::Measured>> {
    let clock = running.clock()?;
    let Some(connections) = running.connections(case.transport, case.connections)? else { return Ok(None) };
    let mut operations = Vec::new();
    for (number, connection) in connections.iter_mut().enumerate() {
        operations.push(Operation::prepare(case.kind, connection, number, case.depth)?);
    }
    let measured = load::run(connections, &mut operations, case.depth, time, &clock)?;
    Ok(Some(measured))
}

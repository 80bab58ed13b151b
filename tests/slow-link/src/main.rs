//! A slow link as a command: for clients that are not in this process.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use ninering_slow_link::{Endpoint, Link, Proxy};

/// Carry 9P between a client and a server, slowly, and count it.
#[derive(Parser)]
struct Arguments {
    /// Where the client connects to.
    #[arg(long)]
    listen: Endpoint,
    /// Where the server listens.
    #[arg(long)]
    server: Endpoint,
    /// How long the way there and back is.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    round_trip: Duration,
    /// Bits in a second, in each direction; any number if it isn't given.
    #[arg(long)]
    rate: Option<u64>,
    /// Write what was counted to this file whenever a connection has ended.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { listen, server, round_trip, rate, report } = Arguments::parse();
    let link = Link { delay: round_trip / 2, rate };
    let write = move |counts: &_| {
        let Some(report) = &report else { return eprint!("{counts}") };
        if let Err(error) = std::fs::write(report, format!("{counts}")) {
            eprintln!("slow-link: cannot write {}: {error}", report.display());
        }
    };
    let proxy =
        Proxy::start_with(&listen, server, link, None, write).with_context(|| format!("listening at {listen}"))?;
    eprintln!("slow-link: listening at {}", proxy.endpoint());
    loop {
        thread::park();
    }
}

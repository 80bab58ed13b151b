//! A slow link as a command: for clients that are not in this process.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use ninering_slow_link::{Endpoint, Link, Proxy};

/// Carry 9P between a client and a server, slowly, and count it.
#[derive(Parser)]
struct Arguments {
    /// Where the client connects to.
    #[arg(long, required_unless_present = "limit")]
    listen: Option<Endpoint>,
    /// Where the server listens.
    #[arg(long, required_unless_present = "limit")]
    server: Option<Endpoint>,
    /// Carry a plain stream of so many MiB, and say how fast that was: what nothing can surpass on such a link.
    #[arg(long, value_name = "MEBIBYTES", conflicts_with_all = ["listen", "server", "report"])]
    limit: Option<usize>,
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
    let Arguments { listen, server, limit, round_trip, rate, report } = Arguments::parse();
    let link = Link { delay: round_trip / 2, rate };
    if let Some(mebibytes) = limit {
        let took = stream(mebibytes, link).context("carrying a stream")?;
        println!("limit: {:.1} Mbit/s", (mebibytes << 20) as f64 * 8e-6 / took.as_secs_f64());
        return Ok(());
    }
    let (Some(listen), Some(server)) = (listen, server) else { anyhow::bail!("--listen and --server are missing") };
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

/// Carries zeros over a link, which are no messages, until the other end says that it has all.
fn stream(mebibytes: usize, link: Link) -> io::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = Endpoint::Tcp(listener.local_addr()?.to_string());
    let proxy = Proxy::start(&Endpoint::Tcp("127.0.0.1:0".into()), server, link)?;
    let Endpoint::Tcp(address) = proxy.endpoint() else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
    let sink = thread::spawn(move || {
        let (mut incoming, _) = listener.accept()?;
        io::copy(&mut Read::by_ref(&mut incoming).take((mebibytes as u64) << 20), &mut io::sink())?;
        incoming.write_all(&[0])
    });
    let mut outgoing = TcpStream::connect(address)?;
    let (piece, begun) = (vec![0; 1 << 20], Instant::now());
    for _ in 0..mebibytes {
        outgoing.write_all(&piece)?;
    }
    outgoing.read_exact(&mut [0])?;
    let took = begun.elapsed();
    sink.join().map_err(|_| io::ErrorKind::Other)??;
    Ok(took)
}

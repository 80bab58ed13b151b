//! `ninering stat`: what a running server does, for people.

mod figures;
mod table;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use ninering::listener::Address;
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

use self::figures::Figures;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many bytes of metrics are read.
const MOST_BYTES: usize = 16 << 20;

/// Show what a server does: how many requests of which kind, how long they take, what fails.
#[derive(clap::Args)]
#[command(after_help = "\
The numbers are those since the server began; with --interval those of each interval.
Times are those that the server needs for a request; the quantiles are right to about a fifth.")]
pub(super) struct Arguments {
    /// What 'ninering serve --metrics' was given: tcp://HOST:PORT
    address: Address,
    /// Show again and again what happened within so much time, until interrupted.
    #[arg(short, long, value_name = "TIME", value_parser = humantime::parse_duration)]
    interval: Option<Duration>,
    /// Show so many intervals and end.
    #[arg(short = 'n', long, value_name = "NUMBER", requires = "interval", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Show all messages, not the most frequent alone.
    #[arg(short, long)]
    all: bool,
    /// Write JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn stat(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.interval.is_some_and(|interval| interval < Duration::from_millis(10)) {
        bail!("--interval takes 10ms or more");
    }
    super::runtime()?.block_on(async {
        match show(&arguments).await {
            // Who reads this has seen enough.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            shown => shown.map(|()| ExitCode::SUCCESS),
        }
    })
}

async fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let mut earlier = fetch(&arguments.address).await?;
    let Some(period) = arguments.interval else {
        return print(arguments, &earlier, None);
    };
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut begun = ticks.tick().await;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 {
        let now = ticks.tick().await;
        let later = fetch(&arguments.address).await?;
        let seconds = now.duration_since(begun).as_secs_f64();
        print(arguments, &later.since(&earlier), Some(seconds))?;
        (earlier, begun) = (later, now);
        left -= 1;
    }
    Ok(())
}

fn print(arguments: &Arguments, figures: &Figures, seconds: Option<f64>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", figures.json(seconds))?;
    } else {
        if seconds.is_some() && out.is_terminal() {
            // To the top left, and nothing below.
            write!(out, "\x1b[H\x1b[2J")?;
        }
        table::write(&mut out, figures, seconds, arguments.all)?;
        if seconds.is_some() && !out.is_terminal() {
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Gets the metrics.
async fn fetch(address: &Address) -> anyhow::Result<Figures> {
    let text = match timeout(PATIENCE, get(address)).await {
        Ok(text) => text,
        Err(_) => bail!("it did not answer within {} s", PATIENCE.as_secs()),
    };
    let figures = text.and_then(|text| Figures::parse(&text).context("it sends no metrics of a ninering server"));
    figures.with_context(|| format!("cannot get metrics from {address}"))
}

async fn get(address: &Address) -> anyhow::Result<String> {
    let Address::Tcp(host_and_port) = address else {
        bail!("metrics are fetched by HTTP over tcp://HOST:PORT");
    };
    let stream = TcpStream::connect(host_and_port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/metrics").header(HOST, host_and_port).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status != StatusCode::OK {
        bail!("it answers with the status {status}");
    }
    let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("its answer cannot be read: {error}"))?;
    Ok(String::from_utf8(body.to_bytes().into())?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

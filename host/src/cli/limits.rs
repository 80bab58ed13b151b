//! `ninering serve`'s options for what clients may use, and for how long.

use std::{str::FromStr, time::Duration};

use ninering::{
    listener::{Keepalive, Limits},
    server::{LEAST_MSIZE, MOST_MSIZE, ServerOptions},
};

/// What clients may use, all of them together unless it says otherwise.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArguments {
    /// Connections served at a time; more wait to be accepted.
    #[arg(long, value_name = "COUNT", default_value = "1024", value_parser = count)]
    max_connections: usize,
    /// Connections of one IPv4 address, IPv6 network (64 bits), local user or virtual machine; one more is closed.
    #[arg(long, value_name = "COUNT", default_value = "256", value_parser = count)]
    max_connections_per_peer: usize,
    /// Fids, but for the first 16 of each connection; one more is refused with ENFILE. Each has one or two descriptors,
    /// and the directories above have one each [default: as many as the process may have descriptors for, at most
    /// 1048576].
    #[arg(long, value_name = "COUNT", value_parser = count)]
    max_fids: Option<usize>,
    /// Fids of one connection; one more is refused with EMFILE.
    #[arg(long, value_name = "COUNT", default_value = "262144", value_parser = count)]
    max_fids_per_connection: usize,
    /// Requests under way at a time; as many threads answer them.
    #[arg(long, value_name = "COUNT", default_value = "512", value_parser = count)]
    max_requests: usize,
    /// Requests of one connection under way at a time; more are not read until others are answered.
    #[arg(long, value_name = "COUNT", default_value = "64", value_parser = count)]
    max_requests_per_connection: usize,
    /// Memory for requests under way and for replies that clients have not taken.
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    max_memory: Size,
    /// Such memory of one connection [default: four messages of the agreed msize, at least 4M].
    #[arg(long, value_name = "SIZE")]
    max_memory_per_connection: Option<Size>,
    /// The largest 9P message to agree to, 4K to 16M; 4K more than a power of two carries that much payload.
    #[arg(long, value_name = "SIZE", default_value = "1028K", value_parser = msize)]
    msize: u32,
    /// How long a client may be connected without having attached, or after it has clunked all its fids.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    attach_time: Time,
    /// How long a message may take from its first byte to its last; 1s more for each 32K.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    message_time: Time,
    /// How long a client may take for the replies that wait for it; 1s more for each 32K.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    slow_reader_time: Time,
    /// How long a client may ask for nothing. A mount that nobody uses is idle for days.
    #[arg(long, value_name = "TIME", default_value = "never")]
    idle_time: Time,
    /// How long the requests under way may take at the end, and clients for their replies.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    drain_time: Duration,
    /// When a silent TCP peer is asked if it is still there: after IDLE, then every INTERVAL, COUNT times.
    #[arg(long, value_name = "IDLE[,INTERVAL[,COUNT]]|never", default_value = "60s,10s,6")]
    keepalive: Asking,
    /// Connections that may wait to be accepted, at each address; net.core.somaxconn limits it too.
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,
}

impl LimitArguments {
    /// What all connections share.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            connections_per_peer: self.max_connections_per_peer,
            requests: self.max_requests,
            requests_per_connection: self.max_requests_per_connection,
            memory: self.max_memory.0,
            memory_per_connection: self.max_memory_per_connection.map(|size| size.0),
            without_fid: self.attach_time.0,
            message: self.message_time.0,
            slow_reader: self.slow_reader_time.0,
            idle: self.idle_time.0,
            drain: self.drain_time,
            keepalive: self.keepalive.0,
            backlog: self.backlog,
        }
    }

    /// Sets what the protocol engine is to grant sessions, in a process that may have so many descriptors.
    pub(super) fn apply_to(&self, options: &mut ServerOptions, descriptors: usize) {
        options.max_msize = self.msize;
        options.max_fids = self.max_fids_per_connection;
        options.max_fids_in_all = self.max_fids.unwrap_or_else(|| {
            let reserved = self.max_connections.saturating_mul(PER_CONNECTION).min(descriptors / 4);
            (descriptors - reserved).min(options.max_fids_in_all)
        });
    }
}

/// How many descriptors are set apart for each connection: its socket's, and those of the fids that it may have in any
/// case, for the file and for the open file. The other fids count as one: few of a client's are open at a time (Linux's,
/// with a cache, has one for each file that it has seen).
const PER_CONNECTION: usize = 1 + 16 * 2;

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err("it takes a number from 1 on".to_owned()),
    }
}

fn msize(text: &str) -> Result<u32, String> {
    let range = LEAST_MSIZE..=MOST_MSIZE;
    let size = text.parse::<Size>()?.0;
    u32::try_from(size).ok().filter(|size| range.contains(size)).ok_or_else(|| "it takes 4K to 16M".to_owned())
}

/// A number of bytes: plain, or with `K`, `M` or `G` for powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, shift) = match text.as_bytes().last() {
            Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
            Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
            Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
        match size {
            Some(size @ 1..) => Ok(Self(size)),
            _ => Err("it takes bytes, such as 65536, 64K, 16M or 1G".to_owned()),
        }
    }
}

/// A time, or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time(Option<Duration>);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(None));
        }
        match humantime::parse_duration(text) {
            Ok(time) if !time.is_zero() => Ok(Self(Some(time))),
            _ => Err("it takes a time, such as 30s or 5min, or 'never'".to_owned()),
        }
    }
}

/// When a peer is asked if it is still there, or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asking(Option<Keepalive>);

impl FromStr for Asking {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mistake = || "it takes whole seconds and a count, such as 60s,10s,6, or 'never'".to_owned();
        let seconds = |text: &str| {
            let time = humantime::parse_duration(text).ok()?;
            // What the kernel takes.
            (1..=32_767).contains(&time.as_secs()).then(|| Duration::from_secs(time.as_secs()))
        };
        if text == "never" {
            return Ok(Self(None));
        }
        let mut keepalive = Keepalive::default();
        let mut parts = text.split(',');
        keepalive.idle = parts.next().and_then(seconds).ok_or_else(mistake)?;
        if let Some(interval) = parts.next() {
            keepalive.interval = seconds(interval).ok_or_else(mistake)?;
        }
        if let Some(count) = parts.next() {
            keepalive.count = count.parse().ok().filter(|count| (1..=127).contains(count)).ok_or_else(mistake)?;
        }
        if parts.next().is_some() { Err(mistake()) } else { Ok(Self(Some(keepalive))) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        limits: LimitArguments,
    }

    fn parse(arguments: &[&str]) -> Result<LimitArguments, clap::Error> {
        Command::try_parse_from([&["command"], arguments].concat()).map(|command| command.limits)
    }

    #[test]
    fn without_options_the_defaults_hold() {
        let arguments = parse(&[]).unwrap();
        assert_eq!(arguments.limits(), Limits::default());
        let mut options = ServerOptions { max_msize: 0, max_fids: 0, ..ServerOptions::default() };
        arguments.apply_to(&mut options, 1 << 30);
        let default = ServerOptions::default();
        assert_eq!((options.max_msize, options.max_fids), (default.max_msize, default.max_fids));
    }

    #[test]
    fn fids_leave_descriptors_for_connections() {
        let in_all = |arguments: &[&str], descriptors| {
            let mut options = ServerOptions::default();
            parse(arguments).unwrap().apply_to(&mut options, descriptors);
            options.max_fids_in_all
        };
        assert_eq!(in_all(&[], 1 << 30), 1 << 20);
        assert_eq!(in_all(&[], 1024), 768);
        assert_eq!(in_all(&["--max-connections=5"], 1024), 1024 - 165);
        assert_eq!(in_all(&["--max-fids=5"], 1024), 5);
    }

    #[test]
    fn sizes_times_and_counts_are_read() {
        let arguments = [
            "--msize=16M",
            "--max-memory=2G",
            "--max-memory-per-connection=65536",
            "--idle-time=1h 30min",
            "--attach-time=never",
            "--keepalive=30s,5s",
        ];
        let arguments = parse(&arguments).unwrap();
        assert_eq!(arguments.msize, 16 << 20);
        let limits = arguments.limits();
        assert_eq!((limits.memory, limits.memory_per_connection), (2 << 30, Some(65536)));
        assert_eq!((limits.idle, limits.without_fid), (Some(Duration::from_secs(5400)), None));
        let (idle, interval) = (Duration::from_secs(30), Duration::from_secs(5));
        assert_eq!(limits.keepalive, Some(Keepalive { idle, interval, count: 6 }));
        assert_eq!(parse(&["--keepalive=never"]).unwrap().limits().keepalive, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for argument in [
            "--max-fids=0",
            "--max-connections=-1",
            "--max-memory=0",
            "--max-memory=1T",
            "--max-memory=99999999999G",
            "--msize=4095",
            "--msize=17M",
            "--idle-time=0s",
            "--idle-time=soon",
            "--keepalive=10s,",
            "--keepalive=10ms",
            "--keepalive=10s,10s,128",
            "--keepalive=10s,10s,1,1",
            "--backlog=0",
        ] {
            assert!(parse(&[argument]).is_err(), "{argument}");
        }
    }
}

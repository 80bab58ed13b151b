//! What clients may use, and for how long.

use std::time::Duration;

/// What a server grants its clients, all connections of all its listeners together ([`Resources`](super::Resources)).
///
/// How many fids a session may have, and how large a message may be, are the protocol engine's to grant:
/// [`ServerOptions`](crate::server::ServerOptions).
///
/// | at the bound | what happens |
/// | --- | --- |
/// | connections | more wait in the socket's backlog, unaccepted |
/// | connections of one peer | one more is closed as soon as it is accepted |
/// | requests, memory | requests are not read until others are answered and their replies taken |
/// | a time | the connection is closed; what it had open is, too |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections are served at a time.
    pub connections: usize,
    /// How many of them one peer may have: one IPv4 address or IPv6 network (64 bits), one local user, one virtual
    /// machine.
    pub connections_per_peer: usize,
    /// How many requests may be under way at a time, apart from those that are answered at once. Each has a thread of
    /// the runtime's blocking pool, so no more are than that has threads.
    pub requests: usize,
    /// How many of them one connection may have.
    pub requests_per_connection: usize,
    /// How many bytes requests under way, and replies that are not sent, may take. A connection that has none of them
    /// always gets 72 KiB, so that metadata can be asked for however much others take.
    pub memory: usize,
    /// How many of them one connection may have; `None` for four messages of the agreed `msize`, and at least 4 MiB.
    /// One request and its reply are always allowed.
    pub memory_per_connection: Option<usize>,
    /// How long a connection may be without any fid: before it has sent its `Tversion` and attached, and after it has
    /// clunked all.
    pub without_fid: Option<Duration>,
    /// How long a message may take to arrive, from its first byte on; a second more for each 32 KiB of it.
    pub message: Option<Duration>,
    /// How long a client may take for the replies that wait for it; a second more for each 32 KiB. While memory is
    /// short, that is 5 s at the most.
    pub slow_reader: Option<Duration>,
    /// How long a connection may be without a request. A mount can be idle for days, so that is for who knows better.
    pub idle: Option<Duration>,
    /// How long the requests under way and their replies may take after a shutdown began.
    pub drain: Duration,
    /// Whether and when the kernel asks a silent peer in a network if it is still there.
    pub keepalive: Option<Keepalive>,
    /// How many connections may wait to be accepted, as `listen(2)` takes it; the system may have a lower limit.
    pub backlog: i32,
}

impl Default for Limits {
    /// 1,024 connections, 256 a peer; 512 requests, 64 a connection; 512 MiB; 30 s to attach, 60 s for a message and for
    /// a reply to be taken, no idle limit; 10 s to drain; keepalive; a backlog of 1,024.
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 256,
            requests: 512,
            requests_per_connection: 64,
            memory: 512 << 20,
            memory_per_connection: None,
            without_fid: Some(Duration::from_secs(30)),
            message: Some(Duration::from_secs(60)),
            slow_reader: Some(Duration::from_secs(60)),
            idle: None,
            drain: Duration::from_secs(10),
            keepalive: Some(Keepalive::default()),
            backlog: 1024,
        }
    }
}

/// When the kernel asks a silent peer if it is still there, and when it takes it for gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// After how long a silence it asks first; whole seconds.
    pub idle: Duration,
    /// How long it waits for an answer before it asks again; whole seconds.
    pub interval: Duration,
    /// After how many questions without an answer the connection is over.
    pub count: u32,
}

impl Default for Keepalive {
    /// After a minute, every 10 seconds, 6 times: a peer is given up two minutes after its last sign of life.
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(10), count: 6 }
    }
}

/// The slowest that a peer may send or take bytes in the long run, in bytes a second.
const SLOWEST: u64 = 32 << 10;

/// How long a client may take for its replies while others wait for memory, at the most.
pub(super) const SLOW_READER_IN_NEED: Duration = Duration::from_secs(5);

/// How long so many bytes may take, in milliseconds, where `base` is what the slightest may.
pub(super) fn time_for(base: Duration, bytes: usize) -> u64 {
    (base.as_millis() as u64).saturating_add(bytes as u64 * 1000 / SLOWEST)
}

//! What servers have done so far, in numbers: [`Metrics`], an [`Observer`] of their sessions.
//!
//! Counting a request costs about 70 ns, most of it for reading the clock, and takes no lock. Threads count in shards of
//! their own (`shard`); a [`Snapshot`] adds them up, and writes them in Prometheus's text format (`text`).

mod histogram;
mod process;
mod shard;
mod text;

use std::{
    sync::atomic::{AtomicIsize, AtomicU64, Ordering::Relaxed},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use ninering_wire::Errno;

use self::{
    histogram::bucket_of,
    shard::{MESSAGES, Shard, message_index, message_name},
};
pub use self::{
    histogram::{BUCKETS, upper_bound},
    process::ProcessFigures,
};
use crate::server::{Exchange, Limit, Observer};

/// How many shards there are at the most.
const MOST_SHARDS: usize = 64;
/// Error numbers from here on are counted as one: Linux has none.
const ERRNOS: usize = 134;

/// Counts what the sessions of one or more servers do.
///
/// One is given to each of the servers in [`ServerOptions::observers`](crate::server::ServerOptions::observers) and
/// asked for a [`Self::snapshot`] whenever one wants to know.
#[derive(Debug)]
pub struct Metrics {
    started: f64,
    shards: Box<[Shard]>,
    /// By message, then by error number. Errors are not frequent enough to be sharded.
    errors: Box<[AtomicU64]>,
    opened: AtomicU64,
    closed: AtomicU64,
    fids: AtomicIsize,
    refused: [AtomicU64; Limit::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        let shards = thread::available_parallelism().map_or(1, usize::from).next_power_of_two().min(MOST_SHARDS);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        Self {
            started,
            shards: (0..shards).map(|_| Shard::default()).collect(),
            errors: (0..MESSAGES * ERRNOS).map(|_| AtomicU64::new(0)).collect(),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            fids: AtomicIsize::new(0),
            refused: Default::default(),
        }
    }
}

impl Metrics {
    /// All numbers as they are now. Those of one message agree with each other; requests that end meanwhile may be in
    /// some numbers and not in others.
    pub fn snapshot(&self) -> Snapshot {
        let mut messages = Vec::new();
        let (mut begun, mut answered) = (0_u64, 0);
        for index in 0..MESSAGES {
            let mut message = MessageFigures { name: message_name(index), ..MessageFigures::default() };
            self.shards.iter().for_each(|shard| shard.add_to(index, &mut message));
            answered += message.count();
            for (errno, count) in self.errors[index * ERRNOS..][..ERRNOS].iter().enumerate() {
                match count.load(Relaxed) {
                    0 => {}
                    count => message.errors.push((error_name(errno), count)),
                }
            }
            if message.count() > 0 {
                messages.push(message);
            }
        }
        // After the others: no request is counted as ended that is not known to have begun.
        for shard in &self.shards {
            begun += shard.begun.load(Relaxed);
        }
        let closed = self.closed.load(Relaxed);
        let opened = self.opened.load(Relaxed);
        Snapshot {
            started: self.started,
            sessions: opened.saturating_sub(closed),
            sessions_opened: opened,
            fids: usize::try_from(self.fids.load(Relaxed)).unwrap_or(0),
            in_progress: begun.saturating_sub(answered),
            refused: Limit::ALL.map(|limit| (limit, self.refused[limit as usize].load(Relaxed))).to_vec(),
            messages,
        }
    }

    fn shard(&self) -> &Shard {
        &self.shards[shard::of_this_thread() & (self.shards.len() - 1)]
    }
}

impl Observer for Metrics {
    fn opened(&self, _: u64, _: &str) {
        self.opened.fetch_add(1, Relaxed);
    }

    fn closed(&self, _: u64) {
        self.closed.fetch_add(1, Relaxed);
    }

    fn begun(&self) {
        self.shard().begun.fetch_add(1, Relaxed);
    }

    fn answered(&self, exchange: &Exchange<'_, '_>) {
        let index = message_index(exchange.kind());
        let took = u64::try_from(exchange.took.as_nanos()).unwrap_or(u64::MAX);
        let received = exchange.message.len() + exchange.payload;
        self.shard().count(index, bucket_of(took), took, received, exchange.reply_len);
        if let Some(Errno(errno)) = exchange.error {
            let errno = (errno as usize).min(ERRNOS - 1);
            self.errors[index * ERRNOS + errno].fetch_add(1, Relaxed);
        }
    }

    fn fids_changed(&self, change: isize) {
        self.fids.fetch_add(change, Relaxed);
    }

    fn refused(&self, limit: Limit) {
        self.refused[limit as usize].fetch_add(1, Relaxed);
    }
}

/// What [`Metrics`] were at a time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When counting began, in seconds since 1970.
    pub started: f64,
    /// Sessions that are open.
    pub sessions: u64,
    /// Sessions that ever began.
    pub sessions_opened: u64,
    /// Fids in all sessions.
    pub fids: usize,
    /// Requests that are being answered, those that only wait for their turn not included.
    pub in_progress: u64,
    /// How often something was refused because of a limit.
    pub refused: Vec<(Limit, u64)>,
    /// By message: those that there were.
    pub messages: Vec<MessageFigures>,
}

/// What there is to tell of one type of message.
#[derive(Clone, Debug)]
pub struct MessageFigures {
    /// The request's name, `unknown` for what is none.
    pub name: &'static str,
    /// How many took how long: [`upper_bound`] has each bucket's bound.
    pub buckets: [u64; BUCKETS],
    /// How long they took in all, in nanoseconds.
    pub nanoseconds: u64,
    /// Bytes of the requests.
    pub received: u64,
    /// Bytes of the replies.
    pub sent: u64,
    /// How many failed, by the error's name.
    pub errors: Vec<(&'static str, u64)>,
}

impl Default for MessageFigures {
    fn default() -> Self {
        Self { name: "", buckets: [0; BUCKETS], nanoseconds: 0, received: 0, sent: 0, errors: Vec::new() }
    }
}

impl MessageFigures {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

fn error_name(errno: usize) -> &'static str {
    u32::try_from(errno).ok().and_then(|errno| Errno(errno).name()).unwrap_or("other")
}

//! Who takes too long.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{
    Limits, Resources,
    connection::Connection,
    limits::{SLOW_READER_IN_NEED, time_for},
};
use crate::server::Limit;

/// How often connections are looked at, at the most and at the least.
const PERIODS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What a connection was closed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No fid: [`Limits::without_fid`].
    WithoutFid,
    /// A message that does not come to its end: [`Limits::message`].
    Message,
    /// Replies that are not taken: [`Limits::slow_reader`].
    SlowReader,
    /// No request: [`Limits::idle`].
    Idle,
}

impl Overdue {
    /// The limit that was reached, as observers know it.
    pub(super) fn limit(self) -> Limit {
        match self {
            Self::SlowReader => Limit::SlowReader,
            Self::WithoutFid | Self::Message | Self::Idle => Limit::Idle,
        }
    }
}

impl fmt::Display for Overdue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::WithoutFid => "it has attached to nothing",
            Self::Message => "it does not finish a message",
            Self::SlowReader => "it does not take its replies",
            Self::Idle => "it asks for nothing",
        })
    }
}

/// Looks at all connections of a listener from time to time, and closes those that take too long. So no request pays
/// for a timer.
pub(super) struct Watchdog {
    watched: Vec<Watched>,
    interval: Option<Interval>,
    period: Option<Duration>,
}

struct Watched {
    connection: Weak<Connection>,
    /// Since when it was seen without a fid.
    without_fid: Option<u64>,
}

impl Watchdog {
    pub(super) fn new(limits: &Limits) -> Self {
        let times = [limits.without_fid, limits.message, limits.slow_reader, limits.idle];
        let period = times.into_iter().flatten().min().map(|least| (least / 8).clamp(PERIODS.0, PERIODS.1));
        Self { watched: Vec::new(), interval: None, period }
    }

    pub(super) fn watch(&mut self, connection: &Arc<Connection>, resources: &Resources) {
        self.watched.push(Watched { connection: Arc::downgrade(connection), without_fid: Some(resources.now()) });
    }

    /// Waits until it is time, and looks once.
    pub(super) async fn look(&mut self, resources: &Resources) {
        let Some(period) = self.period else { return std::future::pending().await };
        let interval = self.interval.get_or_insert_with(|| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        interval.tick().await;
        let (now, limits) = (resources.now(), resources.limits());
        let mut slow_reader = limits.slow_reader;
        if resources.is_short_of_memory() {
            slow_reader = slow_reader.map(|limit| limit.min(SLOW_READER_IN_NEED));
        }
        self.watched.retain_mut(|watched| watched.look(now, limits, slow_reader));
    }
}

impl Watched {
    /// Closes the connection if it is overdue; `false` if there is no reason to look again.
    fn look(&mut self, now: u64, limits: &Limits, slow_reader: Option<Duration>) -> bool {
        let Some(connection) = self.connection.upgrade() else { return false };
        self.without_fid = if connection.has_fid() { None } else { self.without_fid.or(Some(now)) };
        let passed = |since: u64, limit: Option<Duration>, bytes| {
            limit.is_some_and(|limit| now.saturating_sub(since) > time_for(limit, bytes))
        };
        let overdue = if connection.begun_message().is_some_and(|(since, size)| passed(since, limits.message, size)) {
            Overdue::Message
        } else if connection.waiting_reply().is_some_and(|(since, size)| passed(since, slow_reader, size)) {
            Overdue::SlowReader
        } else if connection.is_busy() {
            return true;
        } else if self.without_fid.is_some_and(|since| passed(since, limits.without_fid, 0)) {
            Overdue::WithoutFid
        } else if passed(connection.last_request(), limits.idle, 0) {
            Overdue::Idle
        } else {
            return true;
        };
        connection.end(overdue);
        false
    }
}

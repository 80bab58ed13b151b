//! The options of `ninering serve` by which one sees what it does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use ninering::{
    listener::{Address, Resources},
    message_log::{MessageLog, Sink},
    metrics::Metrics,
    server::Observers,
};

use super::{complain, metrics::Endpoint};

/// How long the last lines of a log may take at the end.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How to see what the server does.
#[derive(clap::Args)]
pub(super) struct ObservingArguments {
    /// Let metrics be fetched there, by Prometheus (as http://HOST:PORT/metrics) or by 'ninering stat':
    /// tcp://HOST:PORT. Nothing secret is in them, no names of files or peers.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<Address>,
    /// Write a line for each message and its reply, as strace does, to FILE, or to standard error. The names of files
    /// are in it, their contents are not. A log that is written too slowly lacks lines, and says how many.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    log_messages: Option<PathBuf>,
    /// When FILE has so many bytes, it is renamed to FILE.1, and a new one begins.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1 << 20..))]
    log_messages_size: u64,
}

/// Who sees what the server does.
pub(super) struct Observing {
    pub(super) observers: Observers,
    metrics: Option<(Address, Arc<Metrics>)>,
    log: Option<Arc<MessageLog>>,
}

impl ObservingArguments {
    pub(super) fn observing(&self) -> anyhow::Result<Observing> {
        let mut observers = Observers::default();
        let metrics = self.metrics.as_ref().map(|address| (address.clone(), Arc::new(Metrics::default())));
        if let Some((_, metrics)) = &metrics {
            observers.0.push(Arc::clone(metrics) as _);
        }
        let log = self.log_messages.as_deref().map(|path| self.message_log(path)).transpose()?;
        if let Some(log) = &log {
            observers.0.push(Arc::clone(log) as _);
        }
        Ok(Observing { observers, metrics, log })
    }

    fn message_log(&self, path: &Path) -> anyhow::Result<Arc<MessageLog>> {
        let (sink, name) = if path.as_os_str() == "-" {
            (Sink::standard_error(), "standard error".into())
        } else {
            (Sink::file(path, self.log_messages_size), path.display().to_string())
        };
        let sink = sink.with_context(|| format!("cannot log messages to {name}"))?;
        let since = humantime::format_rfc3339_seconds(SystemTime::now());
        Ok(Arc::new(MessageLog::begin(sink, &format!("messages since {since}"))?))
    }
}

impl Observing {
    /// Begins to tell others, also what is used of `resources`, in the runtime that this is called in.
    pub(super) async fn begin(&self, resources: &Arc<Resources>) -> anyhow::Result<()> {
        if let Some((address, metrics)) = &self.metrics {
            let endpoint = Endpoint::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            eprintln!("ninering: metrics on {}", endpoint.local_address()?);
            tokio::spawn(endpoint.serve(Arc::clone(metrics), Arc::clone(resources)));
        }
        Ok(())
    }

    /// Sees the last lines of the log off, if somebody takes them.
    pub(super) fn end(&self) {
        if let Some(log) = &self.log
            && !log.flush(LAST_LINES)
        {
            complain("the log of messages takes too long to be written, and lacks its last lines");
        }
    }
}

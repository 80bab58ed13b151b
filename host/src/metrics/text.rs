//! Prometheus's text format, version 0.0.4.

use std::fmt::{self, Display, Write};

use super::{ProcessFigures, Snapshot, upper_bound};
use crate::listener::Resources;

/// The media type of [`Snapshot::text`].
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Snapshot {
    /// The media type of [`Self::text`].
    pub const CONTENT_TYPE: &'static str = CONTENT_TYPE;

    /// All of it as Prometheus reads it, with the figures of the process, and where there are `resources`, what is used of them.
    pub fn text(&self, process: &ProcessFigures, resources: Option<&Resources>) -> String {
        let mut text = Text(String::with_capacity(64 << 10));
        // A string takes all that is written to it.
        let _ = self.write(&mut text, process, resources);
        text.0
    }

    fn write(&self, text: &mut Text, process: &ProcessFigures, resources: Option<&Resources>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        text.family("ninering_build_info", "gauge", "The version, as a label.")?;
        text.sample("ninering_build_info", &[("version", version)], 1)?;
        text.single("ninering_sessions", "gauge", "Open sessions.", self.sessions)?;
        text.single("ninering_sessions_total", "counter", "Sessions ever begun.", self.sessions_opened)?;
        text.single("ninering_fids", "gauge", "Fids in all sessions.", self.fids)?;
        let help = "Requests that are being answered.";
        text.single("ninering_requests_in_progress", "gauge", help, self.in_progress)?;

        let name = "ninering_refused_total";
        text.family(name, "counter", "What was refused, or closed, because a limit was reached.")?;
        for (limit, count) in &self.refused {
            text.sample(name, &[("limit", limit.name())], count)?;
        }

        if let Some(resources) = resources {
            write_usage(text, resources)?;
        }
        let name = "ninering_request_duration_seconds";
        text.family(name, "histogram", "How long requests took to be answered, by message.")?;
        for message in &self.messages {
            let mut below = 0;
            for (bucket, count) in message.buckets.iter().enumerate() {
                below += count;
                let bound = upper_bound(bucket).map(|bound| bound.as_secs_f64().to_string());
                let labels = [("message", message.name), ("le", bound.as_deref().unwrap_or("+Inf"))];
                text.sample("ninering_request_duration_seconds_bucket", &labels, below)?;
            }
            let labels = [("message", message.name)];
            let seconds = message.nanoseconds as f64 / 1e9;
            text.sample("ninering_request_duration_seconds_sum", &labels, seconds)?;
            text.sample("ninering_request_duration_seconds_count", &labels, below)?;
        }
        let name = "ninering_received_bytes_total";
        text.family(name, "counter", "Bytes of requests, payload included, by message.")?;
        for message in &self.messages {
            text.sample(name, &[("message", message.name)], message.received)?;
        }
        let name = "ninering_sent_bytes_total";
        text.family(name, "counter", "Bytes of replies, payload included, by the request's message.")?;
        for message in &self.messages {
            text.sample(name, &[("message", message.name)], message.sent)?;
        }
        let name = "ninering_errors_total";
        text.family(name, "counter", "Requests that failed, by message and error.")?;
        for message in &self.messages {
            for (error, count) in &message.errors {
                text.sample(name, &[("message", message.name), ("error", error)], count)?;
            }
        }
        self.write_process(text, process)
    }

    /// Under the names that Prometheus's own client libraries give them.
    fn write_process(&self, text: &mut Text, process: &ProcessFigures) -> fmt::Result {
        let help = "When this began, in seconds since 1970.";
        text.single("process_start_time_seconds", "gauge", help, self.started)?;
        let help = "Processor time used, in seconds.";
        text.single("process_cpu_seconds_total", "counter", help, process.processor_seconds)?;
        for (name, help, figure) in [
            ("process_open_fds", "Open file descriptors.", process.descriptors),
            ("process_max_fds", "The limit of open file descriptors.", process.descriptor_limit),
            ("process_resident_memory_bytes", "Bytes in memory.", process.resident),
            ("process_virtual_memory_bytes", "Bytes of address space.", process.virtual_memory),
            ("process_threads", "Threads.", process.threads),
        ] {
            if let Some(figure) = figure {
                text.single(name, "gauge", help, figure)?;
            }
        }
        Ok(())
    }
}

/// What is used of what listeners grant, beside what they grant.
fn write_usage(text: &mut Text, resources: &Resources) -> fmt::Result {
    let (used, granted) = (resources.usage(), resources.limits());
    let figures = [
        ("connections", used.connections, granted.connections),
        ("requests", used.requests, granted.requests),
        ("memory_bytes", used.memory, granted.memory),
    ];
    let name = "ninering_used";
    text.family(
        name,
        "gauge",
        "What connections use: how many there are, requests that threads are busy with, memory.",
    )?;
    for (what, used, _) in figures {
        text.sample(name, &[("what", what)], used)?;
    }
    let name = "ninering_granted";
    text.family(name, "gauge", "How much of that they may use, all together.")?;
    for (what, _, granted) in figures {
        text.sample(name, &[("what", what)], granted)?;
    }
    text.single("ninering_peers", "gauge", "Addresses, users and machines that have connections.", used.peers)
}

/// A text that grows by a sample at a time. No name, help or label value given to it needs to be escaped.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) -> fmt::Result {
        self.family(name, kind, help)?;
        self.sample(name, &[], value)
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) -> fmt::Result {
        self.0.write_str(name)?;
        for (index, (label, value)) in labels.iter().enumerate() {
            write!(self.0, "{}{label}=\"{value}\"", if index == 0 { '{' } else { ',' })?;
        }
        if !labels.is_empty() {
            self.0.write_char('}')?;
        }
        writeln!(self.0, " {value}")
    }
}

//! How figures are shown to a person.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::figures::{Figures, MessageFigures};

/// How many messages fit a small screen with what is around them.
const MOST_MESSAGES: usize = 16;
/// How many errors are told.
const MOST_ERRORS: usize = 8;

/// Writes what the server did, in all or within so many seconds.
pub(super) fn write(out: &mut impl Write, figures: &Figures, interval: Option<f64>, all: bool) -> io::Result<()> {
    write!(out, "ninering {}", plain(&figures.version))?;
    let age = figures.single("process_start_time_seconds").and_then(age_of);
    if let Some(age) = age {
        write!(out, ", up {}", humantime::format_duration(Duration::from_secs(age.as_secs())))?;
    }
    writeln!(out)?;
    let figure = |name: &str| figures.single(name).unwrap_or(0.0);
    write!(
        out,
        "sessions {}  fids {}  requests in progress {}",
        figure("ninering_sessions"),
        figure("ninering_fids"),
        figure("ninering_requests_in_progress")
    )?;
    if let Some(descriptors) = figures.single("process_open_fds") {
        write!(out, "  descriptors {descriptors}")?;
        if let Some(limit) = figures.single("process_max_fds") {
            write!(out, " of {limit}")?;
        }
    }
    if let Some(resident) = figures.single("process_resident_memory_bytes") {
        write!(out, "  memory {}", bytes(resident))?;
    }
    let processor = figure("process_cpu_seconds_total");
    match interval {
        None => writeln!(out, "  processor {}", seconds(processor))?,
        Some(interval) => writeln!(out, "  processor {:.0} %", 100.0 * processor / interval)?,
    }
    write_counts(out, "refused", figures.refused.iter().map(|(limit, &count)| (plain(limit), count)))?;

    let of_interval = if interval.is_some() { "/s" } else { "" };
    writeln!(
        out,
        "{:<14}{:>13}{:>10}{:>13}{:>13}{:>10}{:>10}{:>10}",
        "message",
        format!("requests{of_interval}"),
        format!("errors{of_interval}"),
        format!("received{of_interval}"),
        format!("sent{of_interval}"),
        "mean",
        "half <",
        "99 % <"
    )?;
    let mut messages: Vec<_> = figures.messages.iter().collect();
    messages.sort_by(|one, other| other.1.count.total_cmp(&one.1.count));
    let shown = if all { messages.len() } else { messages.len().min(MOST_MESSAGES) };
    for (name, message) in &messages[..shown] {
        write_message(out, &plain(name), message, interval)?;
    }
    if shown < messages.len() {
        let count: f64 = messages[shown..].iter().map(|(_, message)| message.count).sum();
        writeln!(out, "and {count} of {} more kinds (--all)", messages.len() - shown)?;
    }
    let mut errors: Vec<_> = messages
        .iter()
        .flat_map(|(name, message)| message.errors.iter().map(move |(error, &count)| (name, error, count)))
        .collect();
    errors.sort_by(|one, other| other.2.total_cmp(&one.2));
    let errors = errors.iter().take(if all { usize::MAX } else { MOST_ERRORS });
    write_counts(out, "errors", errors.map(|(name, error, count)| (plain(&format!("{name} {error}")), *count)))
}

fn write_message(out: &mut impl Write, name: &str, message: &MessageFigures, interval: Option<f64>) -> io::Result<()> {
    let per = interval.unwrap_or(1.0);
    let count = |count: f64| match interval {
        None => count.to_string(),
        Some(_) if count == 0.0 => "0".to_owned(),
        Some(interval) => format!("{:.1}", count / interval),
    };
    writeln!(
        out,
        "{name:<14}{:>13}{:>10}{:>13}{:>13}{:>10}{:>10}{:>10}",
        count(message.count),
        count(message.failed()),
        bytes(message.received / per),
        bytes(message.sent / per),
        seconds(message.mean()),
        seconds(message.quantile(0.5)),
        seconds(message.quantile(0.99)),
    )
}

/// A line with those of the counts that are not 0, if there are any.
fn write_counts(out: &mut impl Write, title: &str, counts: impl Iterator<Item = (String, f64)>) -> io::Result<()> {
    let counts: Vec<_> =
        counts.filter(|(_, count)| *count > 0.0).map(|(name, count)| format!("{name} {count}")).collect();
    if counts.is_empty() { Ok(()) } else { writeln!(out, "{title}: {}", counts.join(", ")) }
}

/// What came over the network, with nothing in it that a terminal takes for a command.
fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

fn age_of(started: f64) -> Option<Duration> {
    let started = Duration::try_from_secs_f64(started).ok()?;
    SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(started)
}

/// Three figures or so and a unit.
fn bytes(count: f64) -> String {
    let mut scaled = count;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1000.0 {
            return if unit == "B" { format!("{scaled:.0} B") } else { format!("{scaled:.1} {unit}") };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TiB")
}

fn seconds(seconds: f64) -> String {
    match seconds {
        _ if seconds <= 0.0 => "0".to_owned(),
        _ if seconds < 1e-3 => format!("{:.1} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_over_the_network_commands_no_terminal() {
        let metrics = "ninering_build_info{version=\"1\u{1b}[2J\"} 1\n\
            ninering_request_duration_seconds_count{message=\"\u{1b}]0;x\u{7}\"} 1\n\
            ninering_errors_total{message=\"\u{1b}]0;x\u{7}\",error=\"\u{9b}31m\"} 1\n\
            ninering_refused_total{limit=\"\u{1b}c\"} 1\n";
        let figures = Figures::parse(metrics).expect("metrics");
        let mut text = Vec::new();
        write(&mut text, &figures, None, true).expect("memory");
        let text = String::from_utf8(text).expect("a text");
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text:?}");
    }

    #[test]
    fn figures_have_units() {
        assert_eq!([0.0, 999.0, 1000.0, 5e6, 2e15].map(bytes), ["0 B", "999 B", "1.0 KiB", "4.8 MiB", "1819.0 TiB"]);
        assert_eq!([0.0, 1.5e-6, 0.02, 3.0].map(seconds), ["0", "1.5 µs", "20.0 ms", "3.0 s"]);
    }
}

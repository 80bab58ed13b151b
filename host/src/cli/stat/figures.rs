//! A server's metrics, read from Prometheus's text format, and what changed between two of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a server's metrics say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) version: String,
    /// Samples that have no label, by name.
    single: BTreeMap<String, f64>,
    /// By limit.
    pub(super) refused: BTreeMap<String, f64>,
    /// By name.
    pub(super) messages: BTreeMap<String, MessageFigures>,
}

/// What the metrics say about one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MessageFigures {
    pub(super) count: f64,
    pub(super) seconds: f64,
    pub(super) received: f64,
    pub(super) sent: f64,
    /// By error.
    pub(super) errors: BTreeMap<String, f64>,
    /// How many took at most so many seconds, by rising bound.
    buckets: Vec<(f64, f64)>,
}

impl Figures {
    /// Reads metrics. `None` where they are not those of a ninering server.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut figures = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, labels, value) = sample(line)?;
            let label = |wanted: &str| labels.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
            if let Some(message) = label("message") {
                figures.messages.entry(message).or_default().note(name, label("le"), label("error"), value)?;
                continue;
            }
            match name {
                "ninering_build_info" => figures.version = label("version")?,
                "ninering_refused_total" => {
                    figures.refused.insert(label("limit")?, value);
                }
                _ if labels.is_empty() => {
                    figures.single.insert(name.to_owned(), value);
                }
                _ => {}
            }
        }
        for message in figures.messages.values_mut() {
            message.buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        }
        (!figures.version.is_empty()).then_some(figures)
    }

    /// A figure that has no label, by its name in the metrics.
    pub(super) fn single(&self, name: &str) -> Option<f64> {
        self.single.get(name).copied()
    }

    /// What was counted after `earlier`; what is only so large now is as it is now. If the server began anew
    /// meanwhile, all that it has counted.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        const STARTED: &str = "process_start_time_seconds";
        if self.single(STARTED) != earlier.single(STARTED) {
            return self.clone();
        }
        let mut changed = self.clone();
        for (name, value) in &mut changed.single {
            if name.ends_with("_total") {
                *value -= earlier.single(name).unwrap_or(0.0);
            }
        }
        subtract(&mut changed.refused, &earlier.refused);
        for (name, message) in &mut changed.messages {
            if let Some(earlier) = earlier.messages.get(name) {
                message.subtract(earlier);
            }
        }
        changed.messages.retain(|_, message| message.count > 0.0);
        changed
    }

    /// As JSON, with the length of the interval that it is about.
    pub(super) fn json(&self, interval: Option<f64>) -> Value {
        let messages = self.messages.iter().map(|(name, message)| {
            let mut json = json!({
                "requests": number(message.count),
                "seconds": message.seconds,
                "mean_seconds": message.mean(),
                "p50_seconds": message.quantile(0.5),
                "p90_seconds": message.quantile(0.9),
                "p99_seconds": message.quantile(0.99),
                "received_bytes": number(message.received),
                "sent_bytes": number(message.sent),
                "errors": numbers(&message.errors),
            });
            if let Some(interval) = interval {
                json["requests_per_second"] = json!(message.count / interval);
            }
            (name.clone(), json)
        });
        let mut json = json!({
            "version": self.version,
            "refused": numbers(&self.refused),
            "messages": messages.collect::<serde_json::Map<_, _>>(),
        });
        for (name, value) in &self.single {
            json[name.strip_prefix("ninering_").unwrap_or(name)] = number(*value);
        }
        if let Some(interval) = interval {
            json["interval_seconds"] = json!(interval);
        }
        json
    }
}

/// A number without a fraction is written without one.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

fn numbers(values: &BTreeMap<String, f64>) -> Value {
    values.iter().map(|(name, value)| (name.clone(), number(*value))).collect::<serde_json::Map<_, _>>().into()
}

impl MessageFigures {
    /// How many failed.
    pub(super) fn failed(&self) -> f64 {
        self.errors.values().fold(0.0, |sum, count| sum + count)
    }

    /// How long one took, in seconds.
    pub(super) fn mean(&self) -> f64 {
        if self.count > 0.0 { self.seconds / self.count } else { 0.0 }
    }

    /// How long the fastest ones took at the most, this part of all, in seconds: as near as the buckets tell. Where
    /// that is beyond the last bound, that bound.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let wanted = part * self.buckets.last().map_or(0.0, |last| last.1);
        let (mut lower, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if count > 0.0 && count >= wanted {
                let inside = if count > below { (wanted - below) / (count - below) } else { 1.0 };
                return if bound.is_finite() { lower + (bound - lower) * inside } else { lower };
            }
            (lower, below) = (bound, count);
        }
        lower
    }

    /// Notes a sample; `None` where it lacks a label.
    fn note(&mut self, name: &str, bound: Option<String>, error: Option<String>, value: f64) -> Option<()> {
        match name {
            "ninering_request_duration_seconds_bucket" => self.buckets.push((bound?.parse().ok()?, value)),
            "ninering_request_duration_seconds_sum" => self.seconds = value,
            "ninering_request_duration_seconds_count" => self.count = value,
            "ninering_received_bytes_total" => self.received = value,
            "ninering_sent_bytes_total" => self.sent = value,
            "ninering_errors_total" => {
                self.errors.insert(error?, value);
            }
            _ => {}
        }
        Some(())
    }

    fn subtract(&mut self, earlier: &Self) {
        self.count -= earlier.count;
        self.seconds -= earlier.seconds;
        self.received -= earlier.received;
        self.sent -= earlier.sent;
        subtract(&mut self.errors, &earlier.errors);
        for (bucket, (_, count)) in self.buckets.iter_mut().zip(&earlier.buckets) {
            bucket.1 -= count;
        }
    }
}

/// Takes off what there was; forgets what has not changed.
fn subtract(counts: &mut BTreeMap<String, f64>, earlier: &BTreeMap<String, f64>) {
    for (name, count) in counts.iter_mut() {
        *count -= earlier.get(name).unwrap_or(&0.0);
    }
    counts.retain(|_, count| *count > 0.0);
}

/// Names and values.
type Labels = Vec<(String, String)>;

/// `NAME{LABEL="VALUE",…} VALUE`.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"")?;
            let (value, behind) = quoted(value)?;
            labels.push((label.to_owned(), value));
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    // A time may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// The text up to the quotation mark that ends it, and what is behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"
# TYPE ninering_build_info gauge
ninering_build_info{version="1.2.3"} 1
ninering_sessions 2
ninering_request_duration_seconds_bucket{message="Twalk",le="0.1"} 10
ninering_request_duration_seconds_bucket{message="Twalk",le="0.2"} 90
ninering_request_duration_seconds_bucket{message="Twalk",le="+Inf"} 100
ninering_request_duration_seconds_sum{message="Twalk"} 25
ninering_request_duration_seconds_count{message="Twalk"} 100
ninering_errors_total{message="Twalk",error="a\\\"}b\n"} 3
process_start_time_seconds 1 1700000000
"#;

    #[test]
    fn metrics_are_read() {
        let figures = Figures::parse(METRICS).expect("metrics");
        assert_eq!((figures.version.as_str(), figures.single("ninering_sessions")), ("1.2.3", Some(2.0)));
        let walk = &figures.messages["Twalk"];
        assert_eq!((walk.count, walk.mean(), walk.failed()), (100.0, 0.25, 3.0));
        assert_eq!(walk.errors.keys().collect::<Vec<_>>(), ["a\\\"}b\n"]);
        assert!((walk.quantile(0.5) - 0.15).abs() < 1e-9);
        assert!((walk.quantile(0.05) - 0.05).abs() < 1e-9);
        assert!((walk.quantile(0.99) - 0.2).abs() < 1e-9, "beyond the last bound");
    }

    #[test]
    fn what_is_no_metrics_is_told_apart() {
        for text in ["", "hello", "a{b} 1", "a{b=\"c} 1", "ninering_sessions 2", "{", "a{b=\"\\", "a x"] {
            assert_eq!(Figures::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_counted_meanwhile_is_the_difference() {
        let earlier = Figures::parse(METRICS).expect("metrics");
        assert!(earlier.since(&earlier).messages.is_empty());
        let later = METRICS
            .replace("} 100", "} 110")
            .replace("} 25", "} 26")
            .replace("sessions 2", "sessions 5")
            .replace("\"0.2\"} 90", "\"0.2\"} 100");
        let changed = Figures::parse(&later).expect("metrics").since(&earlier);
        let walk = &changed.messages["Twalk"];
        assert_eq!((walk.count, walk.seconds, walk.failed()), (10.0, 1.0, 0.0));
        assert!((walk.quantile(0.5) - 0.15).abs() < 1e-9);
        assert_eq!(changed.single("ninering_sessions"), Some(5.0));
        let restarted = METRICS.replace("start_time_seconds 1", "start_time_seconds 2");
        assert_eq!(Figures::parse(&restarted).expect("metrics").since(&earlier).messages["Twalk"].count, 100.0);
    }
}

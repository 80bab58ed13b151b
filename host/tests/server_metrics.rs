//! The numbers that a server's metrics show, and the text that Prometheus reads.

mod common;

use std::{collections::HashMap, sync::Arc, thread};

use common::{Client, Direct, ROOT, fresh};
use ninering::{
    backend::MemBackend,
    listener::{Limits, Resources},
    metrics::{BUCKETS, MessageFigures, Metrics, ProcessFigures, Snapshot},
    server::{Limit, Observer, Observers, Server, ServerOptions},
};
use ninering_wire::Errno;
use prometheus_parse::{Scrape, Value};

fn counted() -> (Arc<Metrics>, Arc<Server>) {
    let metrics = Arc::new(Metrics::default());
    let observers = Observers(vec![metrics.clone()]);
    let options = ServerOptions { observers, ..ServerOptions::default() };
    (metrics, Server::new(Arc::new(MemBackend::default()), options))
}

fn client(server: &Arc<Server>) -> Client {
    Client::new(Direct { session: Arc::new(server.session().watched("a test")), space: None })
}

fn message(snapshot: &Snapshot, name: &str) -> MessageFigures {
    snapshot.messages.iter().find(|message| message.name == name).cloned().unwrap_or_default()
}

/// What is read of the text by a parser that is not this project's.
fn parsed(snapshot: &Snapshot) -> HashMap<String, f64> {
    let text = snapshot.text(&ProcessFigures::now(), Some(&Resources::new(Limits::default())));
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus's text format");
    let mut samples = HashMap::new();
    for sample in scrape.samples {
        let mut labels: Vec<_> = sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.sort();
        let name = format!("{} {}", sample.metric, labels.join(" "));
        match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => {
                samples.insert(name.trim().to_owned(), value);
            }
            Value::Histogram(buckets) => {
                for bucket in buckets {
                    samples.insert(format!("{name} le={}", bucket.less_than), bucket.count);
                }
            }
            Value::Summary(_) => panic!("a summary"),
        }
    }
    samples
}

#[test]
fn requests_bytes_and_errors_are_counted_by_message() {
    let (metrics, server) = counted();
    let mut client = client(&server);
    client.begin();
    let file = client.create("", "file", ninering_wire::lopen::RDWR, 0o600).unwrap();
    for round in 0..5 {
        client.write(file, round * 1000, &[7; 1000]).unwrap();
    }
    client.read(file, 0, 3000).unwrap();
    for _ in 0..3 {
        assert_eq!(client.walk(ROOT, fresh(), &["none"]), Err(Errno::ENOENT));
    }
    assert_eq!(client.walk(12345, fresh(), &["none"]), Err(Errno::EBADF));
    client.transport.exchange(vec![7, 0, 0, 0, 5, 1, 0]);

    let snapshot = metrics.snapshot();
    let write = message(&snapshot, "Twrite");
    assert_eq!((write.count(), write.received, write.sent), (5, 5 * 1023, 5 * 11));
    assert!(write.nanoseconds > 0 && write.errors.is_empty());
    let read = message(&snapshot, "Tread");
    assert_eq!((read.count(), read.received, read.sent), (1, 23, 3011));
    let walk = message(&snapshot, "Twalk");
    assert_eq!(walk.errors, [("ENOENT", 3), ("EBADF", 1)]);
    assert_eq!(message(&snapshot, "unknown").errors, [("EOPNOTSUPP", 1)]);
    assert_eq!(message(&snapshot, "Tstatfs").count(), 0);
    assert_eq!((snapshot.sessions, snapshot.sessions_opened, snapshot.in_progress), (1, 1, 0));
    assert_eq!(snapshot.fids, 2);
    drop(client);
    let snapshot = metrics.snapshot();
    assert_eq!((snapshot.sessions, snapshot.sessions_opened, snapshot.fids), (0, 1, 0));
}

#[test]
fn nothing_is_lost_where_many_threads_count() {
    let (metrics, server) = counted();
    let session = Arc::new(server.session().watched("a test"));
    Client::new(Direct { session: Arc::clone(&session), space: None }).begin();
    thread::scope(|scope| {
        for _ in 0..8 {
            let mut client = Client::new(Direct { session: Arc::clone(&session), space: None });
            scope.spawn(move || {
                for _ in 0..500 {
                    client.getattr(ROOT).unwrap();
                }
            });
        }
    });
    let getattr = message(&metrics.snapshot(), "Tgetattr");
    assert_eq!((getattr.count(), getattr.received, getattr.sent), (4000, 4000 * 19, 4000 * 160));
    assert_eq!(metrics.snapshot().in_progress, 0);
}

#[test]
fn prometheus_reads_the_same_numbers() {
    let (metrics, server) = counted();
    let mut client = client(&server);
    client.begin();
    for _ in 0..4 {
        client.getattr(ROOT).unwrap();
        assert_eq!(client.getattr(99), Err(Errno::EBADF));
    }
    metrics.refused(Limit::Connections);
    let snapshot = metrics.snapshot();
    let samples = parsed(&snapshot);
    assert_eq!(samples["ninering_sessions"], 1.0);
    assert_eq!(samples["ninering_fids"], 1.0);
    assert_eq!(samples["ninering_errors_total error=EBADF message=Tgetattr"], 4.0);
    assert_eq!(samples["ninering_refused_total limit=connections"], 1.0);
    assert_eq!(samples["ninering_refused_total limit=fids"], 0.0);
    assert_eq!(samples["ninering_received_bytes_total message=Tgetattr"], 8.0 * 19.0);
    assert_eq!(samples["ninering_sent_bytes_total message=Tgetattr"], 4.0 * 160.0 + 4.0 * 11.0);
    assert_eq!(samples["ninering_build_info version=0.1.0"], 1.0);
    assert!(samples["process_open_fds"] >= 3.0);
    assert!(samples["process_resident_memory_bytes"] > 100_000.0);
    assert!(samples["process_start_time_seconds"] > 1.7e9);

    let name = "ninering_request_duration_seconds";
    assert_eq!(samples[&format!("{name} message=Tgetattr le=inf")], 8.0);
    let mut counts: Vec<_> = samples
        .iter()
        .filter_map(|(sample, count)| {
            let bound = sample.strip_prefix(&format!("{name} message=Tgetattr le="))?;
            Some((bound.parse::<f64>().expect("a number"), *count))
        })
        .collect();
    counts.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert_eq!(counts.len(), BUCKETS);
    assert!(counts.is_sorted_by_key(|(_, count)| *count), "buckets add up: {counts:?}");
    assert_eq!(samples[&format!("{name}_count message=Tgetattr")], 8.0);
    assert!(samples[&format!("{name}_sum message=Tgetattr")] > 0.0);
}

#[test]
fn fids_that_are_refused_are_counted() {
    let metrics = Arc::new(Metrics::default());
    let options =
        ServerOptions { observers: Observers(vec![metrics.clone()]), max_fids: 2, ..ServerOptions::default() };
    let mut client = client(&Server::new(Arc::new(MemBackend::default()), options));
    client.begin();
    client.walk(ROOT, fresh(), &[]).unwrap();
    for _ in 0..3 {
        assert_eq!(client.walk(ROOT, fresh(), &[]), Err(Errno::EMFILE));
    }
    let samples = parsed(&metrics.snapshot());
    assert_eq!(samples["ninering_refused_total limit=fids"], 3.0);
    assert_eq!(samples["ninering_refused_total limit=descriptors"], 0.0);
}

#[test]
fn what_connections_may_use_is_told() {
    let samples = parsed(&Metrics::default().snapshot());
    assert_eq!(samples["ninering_used what=connections"], 0.0);
    assert_eq!(samples["ninering_granted what=connections"], 1024.0);
    assert_eq!(samples["ninering_granted what=memory_bytes"], f64::from(512 << 20));
}

#[test]
fn metrics_that_have_seen_nothing_are_read_too() {
    let samples = parsed(&Metrics::default().snapshot());
    assert_eq!(samples["ninering_requests_in_progress"], 0.0);
    assert!(!samples.keys().any(|name| name.contains("message=")));
}

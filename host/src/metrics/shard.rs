//! Where threads count, each mostly apart from the others.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use super::{BUCKETS, MessageFigures};
use crate::server::request_name;

/// For each type number the index of the message, 0 for those that are none; and how many indices there are.
const INDICES: ([u8; 256], usize) = {
    let mut indices = [0; 256];
    let mut next = 1;
    let mut kind = 0;
    while kind < 256 {
        if request_name(kind as u8).is_some() {
            indices[kind] = next as u8;
            next += 1;
        }
        kind += 1;
    }
    (indices, next)
};

/// How many messages are counted apart: the requests, and one more for what is none.
pub(super) const MESSAGES: usize = INDICES.1;

/// Which message a type number stands for.
pub(super) fn message_index(kind: u8) -> usize {
    INDICES.0[usize::from(kind)].into()
}

/// The name of a message.
pub(super) fn message_name(index: usize) -> &'static str {
    let kind = (0..=u8::MAX).find(|&kind| index > 0 && message_index(kind) == index);
    kind.and_then(request_name).unwrap_or("unknown")
}

/// A number for this thread, the same as long as it lives.
pub(super) fn of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Relaxed));
        }
        number.get()
    })
}

/// One set of counters. Aligned so that no two share a cache line, nor the pair that a processor fetches at once.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    pub(super) begun: AtomicU64,
    messages: [MessageCounters; MESSAGES],
}

#[derive(Debug)]
struct MessageCounters {
    nanoseconds: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl MessageCounters {
    const fn new() -> Self {
        Self {
            nanoseconds: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), messages: [const { MessageCounters::new() }; MESSAGES] }
    }
}

impl Shard {
    pub(super) fn count(&self, index: usize, bucket: usize, nanoseconds: u64, received: usize, sent: usize) {
        let message = &self.messages[index];
        message.buckets[bucket].fetch_add(1, Relaxed);
        message.nanoseconds.fetch_add(nanoseconds, Relaxed);
        message.received.fetch_add(received as u64, Relaxed);
        message.sent.fetch_add(sent as u64, Relaxed);
    }

    pub(super) fn add_to(&self, index: usize, figures: &mut MessageFigures) {
        let message = &self.messages[index];
        for (sum, count) in figures.buckets.iter_mut().zip(&message.buckets) {
            *sum += count.load(Relaxed);
        }
        figures.nanoseconds = figures.nanoseconds.wrapping_add(message.nanoseconds.load(Relaxed));
        figures.received += message.received.load(Relaxed);
        figures.sent += message.sent.load(Relaxed);
    }
}

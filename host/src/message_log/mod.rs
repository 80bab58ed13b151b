//! A log of all messages, decoded, one line for a request and its reply, as `strace` writes system calls.
//!
//! ```text
//! 12.345678 s3 tag 7 Twalk(fid=1, newfid=2, names=["a", "b"]) = [dir 12, file 13] <0.000021>
//! ```
//!
//! That is: seconds since the log began, session, request, reply, and how long the server took. The threads that serve
//! only copy the messages (of payloads not a byte) into a queue; a thread of the log's own decodes and writes them
//! (`line`, `text`) to where they go (`sink`). If that is slow, the queue is full, and lines are left out and counted: no
//! request waits for the log.

mod line;
mod sink;
mod text;

use std::{
    fmt::Write as _,
    io, mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ninering_wire::{Errno, RREAD_LEN};
use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;

use self::line::{Reply, Request};
pub use self::sink::Sink;
use crate::server::{Exchange, Observer};

/// How many messages may wait to be written.
const MOST_WAITING: usize = 16 << 10;
/// How many bytes of messages may wait to be written, what each takes besides included.
const MOST_WAITING_BYTES: usize = 16 << 20;
/// How many bytes are kept of a message, or of a reply: all of the longest walk.
const MOST_KEPT: usize = 5 << 10;
/// How many bytes are written at once.
const CHUNK: usize = 64 << 10;

/// A log of the messages of a server's sessions: one of its
/// [`observers`](crate::server::ServerOptions::observers).
#[derive(Debug)]
pub struct MessageLog {
    shared: Arc<Shared>,
    begun: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or the end.
    filled: Condvar,
    /// All is written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    entries: Vec<Entry>,
    bytes: usize,
    /// Lines left out since the last that was not.
    dropped: u64,
    last_dropped: Duration,
    /// The writer has taken entries that it has not written yet.
    writing: bool,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    /// Since the log began.
    at: Duration,
    session: u64,
    event: Event,
}

#[derive(Debug)]
enum Event {
    Opened(Box<str>),
    Closed,
    Exchange {
        tag: Option<u16>,
        request: SmallVec<[u8; 64]>,
        reply: SmallVec<[u8; 32]>,
        error: Option<Errno>,
        took: Duration,
    },
    /// So many lines are missing before this.
    Dropped(u64),
}

impl MessageLog {
    /// Begins a log that is written to `sink`, with a line that says `heading`: what it is about, and since when.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn begin(sink: Sink, heading: &str) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let heading = format!("# {}\n", heading.escape_debug());
        let writer = Writer { shared: Arc::clone(&shared), sink, heading, text: String::new(), lost: 0 };
        thread::Builder::new().name("message-log".into()).spawn(move || writer.run())?;
        Ok(Self { shared, begun: Instant::now() })
    }

    /// Waits until all that was said until now is written, but not longer than `patience`; tells whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut queue = self.shared.queue.lock();
        while !queue.closed && (queue.writing || !queue.entries.is_empty()) {
            if self.shared.written.wait_until(&mut queue, end).timed_out() {
                return false;
            }
        }
        true
    }

    fn say(&self, at: Instant, session: u64, event: Event, bytes: usize) {
        let at = at.saturating_duration_since(self.begun);
        let bytes = bytes + size_of::<Entry>();
        let mut queue = self.shared.queue.lock();
        let full = queue.entries.len() + 1 >= MOST_WAITING || queue.bytes + bytes > MOST_WAITING_BYTES;
        if queue.closed || full {
            queue.dropped += 1;
            queue.last_dropped = at;
            return;
        }
        match mem::take(&mut queue.dropped) {
            0 => {}
            count => queue.entries.push(Entry { at, session, event: Event::Dropped(count) }),
        }
        queue.entries.push(Entry { at, session, event });
        queue.bytes += bytes;
        drop(queue);
        self.shared.filled.notify_one();
    }
}

impl Drop for MessageLog {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

impl Observer for MessageLog {
    fn opened(&self, session: u64, peer: &str) {
        self.say(Instant::now(), session, Event::Opened(peer.into()), peer.len());
    }

    fn closed(&self, session: u64) {
        self.say(Instant::now(), session, Event::Closed, 0);
    }

    fn answered(&self, exchange: &Exchange<'_, '_>) {
        let request = SmallVec::from_slice(&exchange.message[..exchange.message.len().min(MOST_KEPT)]);
        let mut reply = SmallVec::from_elem(0, exchange.reply_proper().min(MOST_KEPT));
        let copied = exchange.reply.copy_to(&mut reply);
        reply.truncate(copied);
        let bytes = request.len() + reply.len();
        let (tag, error, took) = (exchange.tag(), exchange.error, exchange.took);
        let event = Event::Exchange { tag, request, reply, error, took };
        self.say(exchange.begun, exchange.session, event, bytes);
    }
}

impl Exchange<'_, '_> {
    /// Bytes of the reply without those of an `Rread` or `Rreaddir`.
    fn reply_proper(&self) -> usize {
        const TREADDIR: u8 = 40;
        const TREAD: u8 = 116;
        match self.kind() {
            TREADDIR | TREAD => self.reply_len.min(RREAD_LEN),
            _ => self.reply_len,
        }
    }
}

/// What the thread of a log does.
struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    /// Written before the first line, and not sooner: who shares the sink says first what it serves.
    heading: String,
    /// What is to be written.
    text: String,
    /// How many lines could not be.
    lost: usize,
}

impl Writer {
    fn run(mut self) {
        while let Some(entries) = self.next() {
            self.text.push_str(&mem::take(&mut self.heading));
            for entry in entries {
                // A string takes all that is written to it.
                let _ = entry.write(&mut self.text);
                if self.text.len() >= CHUNK {
                    self.write();
                }
            }
        }
    }

    /// Writes what there is, and waits for more; `None` at the end.
    fn next(&mut self) -> Option<Vec<Entry>> {
        self.write();
        let mut queue = self.shared.queue.lock();
        queue.writing = false;
        loop {
            if queue.dropped > 0 && queue.entries.is_empty() {
                let count = mem::take(&mut queue.dropped);
                let at = queue.last_dropped;
                queue.entries.push(Entry { at, session: 0, event: Event::Dropped(count) });
            }
            if !queue.entries.is_empty() {
                queue.bytes = 0;
                queue.writing = true;
                return Some(mem::take(&mut queue.entries));
            }
            self.shared.written.notify_all();
            if queue.closed {
                return None;
            }
            self.shared.filled.wait(&mut queue);
        }
    }

    /// Writes the text. Where that fails, its lines are lost, and counted; who reads the other log is told once.
    fn write(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let mut missing = String::new();
        if self.lost > 0 {
            // The last of them may have been begun.
            missing = format!("\n# {} lines are missing here: they could not be written\n", self.lost);
        }
        let written = self.sink.write(&[missing.as_bytes(), self.text.as_bytes()].concat());
        match written {
            Ok(()) => self.lost = 0,
            Err(error) => {
                if self.lost == 0 {
                    tracing::error!(%error, "the log of messages cannot be written");
                }
                self.lost += self.text.lines().count();
            }
        }
        self.text.clear();
    }
}

impl Entry {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { at, session, event } = self;
        if !matches!(event, Event::Dropped(_)) {
            write!(text, "{}.{:06} ", at.as_secs(), at.subsec_micros())?;
        }
        match event {
            Event::Opened(peer) => writeln!(text, "s{session} opened by {}", peer.escape_debug()),
            Event::Closed => writeln!(text, "s{session} closed"),
            Event::Dropped(count) => {
                let seconds = at.as_secs();
                writeln!(text, "# {count} lines are missing before {seconds} s: the log was written too slowly")
            }
            Event::Exchange { tag, request, reply, error, took } => {
                write!(text, "s{session} ")?;
                match tag {
                    Some(u16::MAX) => write!(text, "notag ")?,
                    Some(tag) => write!(text, "tag {tag} ")?,
                    None => {}
                }
                let (request, reply) = (Request(request), Reply { bytes: reply, error: *error });
                writeln!(text, "{request} = {reply} <{}.{:06}>", took.as_secs(), took.subsec_micros())
            }
        }
    }
}

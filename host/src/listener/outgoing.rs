//! Replies on their way to the peer.
//!
//! Whoever has a reply writes it, with whatever else waits, straight to the socket; only what the socket does not
//! take at once is left to the connection's writing task ([`Outgoing::write_when_possible`]).

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::{Resources, budget::Charge, buffers::Buffer, stream::Output};

/// How many replies go out in one system call.
const MOST_AT_ONCE: usize = 64;
/// From so many bytes on, a connection's thread waits for the peer to take them, and so long at the most.
const MUCH: usize = 32 << 10;
const WAITS: Duration = Duration::from_millis(20);

/// One or more whole replies in a buffer.
pub(super) struct Replies {
    pub(super) buffer: Buffer,
    /// Given back when they are written.
    pub(super) charge: Option<Charge>,
}

/// A connection's replies, in the order in which they go out.
pub(super) struct Outgoing {
    socket: Output,
    resources: Arc<Resources>,
    queue: Mutex<Queue>,
    /// The writing task is needed.
    blocked: Notify,
    /// Nothing waits any more.
    drained: Notify,
}

#[derive(Default)]
struct Queue {
    replies: VecDeque<Replies>,
    /// Bytes of the first that are written already.
    written: usize,
    /// The socket took no more: the writing task has it now.
    blocked: bool,
    /// When the peer began to be awaited to take the first.
    waiting: u64,
    closed: bool,
}

impl Outgoing {
    pub(super) fn new(socket: Output, resources: Arc<Resources>) -> Self {
        Self { socket, resources, queue: Mutex::default(), blocked: Notify::new(), drained: Notify::new() }
    }

    /// Puts replies behind the others; [`Self::flush`] writes them.
    pub(super) fn enqueue(&self, replies: Replies) {
        let mut queue = self.queue.lock();
        if !queue.closed && !replies.buffer.filled().is_empty() {
            queue.replies.push_back(replies);
        }
    }

    /// Writes what waits, as far as the socket takes it now.
    pub(super) fn flush(&self) {
        let mut queue = self.queue.lock();
        if !queue.blocked {
            self.write(&mut queue);
            self.leave(&mut queue);
        }
    }

    /// Leaves what the socket did not take to the writing task.
    fn leave(&self, queue: &mut Queue) {
        if !queue.replies.is_empty() && !queue.blocked {
            queue.blocked = true;
            queue.waiting = self.resources.now();
            self.blocked.notify_one();
        }
    }

    /// The same on the thread that this connection has to itself: where much is left, the thread waits a little for the peer
    /// to take it. To read more into memory meanwhile, and to have another thread write it, costs more.
    pub(super) fn flush_here(&self) {
        let mut deadline = None;
        let mut queue = self.queue.lock();
        while !queue.blocked {
            self.write(&mut queue);
            let goes_on = queue.bytes() >= MUCH
                && MutexGuard::unlocked(&mut queue, || {
                    self.socket.is_writable_by(*deadline.get_or_insert_with(|| Instant::now() + WAITS))
                });
            if !goes_on {
                return self.leave(&mut queue);
            }
        }
    }

    /// Writes, whenever the socket has space, what it did not take at once.
    pub(super) async fn write_when_possible(&self) {
        loop {
            self.blocked.notified().await;
            loop {
                if self.socket.writable().await.is_err() {
                    self.close();
                }
                let mut queue = self.queue.lock();
                let before = queue.replies.len();
                self.write(&mut queue);
                if queue.replies.len() < before {
                    queue.waiting = self.resources.now();
                }
                if queue.replies.is_empty() {
                    queue.blocked = false;
                    break;
                }
            }
            self.drained.notify_one();
        }
    }

    /// Writes all that waits, or finds that it cannot be.
    pub(super) async fn drained(&self) {
        loop {
            // Who put a reply here may not have come to write it yet, and would tell nobody.
            self.flush();
            if self.queue.lock().replies.is_empty() {
                return;
            }
            self.drained.notified().await;
        }
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.queue.lock().bytes()
    }

    /// Has everything been written?
    pub(super) fn is_empty(&self) -> bool {
        self.queue.lock().replies.is_empty()
    }

    /// Since when the peer has been awaited to take the first replies, and how many bytes they are.
    pub(super) fn waiting(&self) -> Option<(u64, usize)> {
        let queue = self.queue.lock();
        let first = queue.replies.front().filter(|_| queue.blocked)?;
        Some((queue.waiting, first.buffer.filled().len()))
    }

    /// Lets the task that reads go on, with nothing more to read.
    pub(super) fn stop_reading(&self) {
        self.socket.stop_reading();
    }

    /// Closes the connection in both directions and forgets what waits.
    pub(super) fn close(&self) {
        self.socket.close();
        self.queue.lock().close();
    }

    fn write(&self, queue: &mut Queue) {
        while !queue.replies.is_empty() {
            let mut pieces: SmallVec<[IoSlice<'_>; MOST_AT_ONCE]> = SmallVec::new();
            let mut skip = queue.written;
            for replies in queue.replies.iter().take(MOST_AT_ONCE) {
                pieces.push(IoSlice::new(&replies.buffer.filled()[std::mem::take(&mut skip)..]));
            }
            let outcome = self.socket.try_write(&pieces);
            drop(pieces);
            match outcome {
                Ok(count) if count > 0 => queue.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    // The reading task learns it too, by the end of what it reads.
                    self.socket.close();
                    queue.close();
                }
            }
        }
    }
}

impl Queue {
    /// Bytes that wait.
    fn bytes(&self) -> usize {
        let all: usize = self.replies.iter().map(|replies| replies.buffer.filled().len()).sum();
        all - self.written
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.replies.front() {
            let left = first.buffer.filled().len() - self.written;
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.written = 0;
            self.replies.pop_front();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.written = 0;
        self.replies.clear();
    }
}

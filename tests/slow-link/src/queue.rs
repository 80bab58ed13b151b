//! One direction of a link: bytes under way.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Bytes that may wait for their turn to be sent, as in a router.
const BUFFERED: usize = 1 << 20;

/// How long the way is, and how narrow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// How long a byte is under way, in one direction.
    pub delay: Duration,
    /// Bits that go in at one end in a second, in each direction; `None` for any number.
    pub rate: Option<u64>,
}

/// Bytes under way in one direction.
pub(crate) struct Queue {
    link: Link,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// With when they arrive.
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the last of them has gone in.
    sent: Option<Instant>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts bytes at the end.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        let begun = state.sent.unwrap_or_else(Instant::now).max(Instant::now());
        let nanoseconds = |rate: u64| (bytes.len() as u128 * 8_000_000_000 / u128::from(rate.max(1))) as u64;
        let sent = begun + Duration::from_nanos(self.link.rate.map_or(0, nanoseconds));
        state.sent = Some(sent);
        state.bytes += bytes.len();
        state.pieces.push_back((sent + self.link.delay, bytes.to_vec()));
        self.changed.notify_all();
    }

    /// Waits until there is room for more. Tells whether there ever will be.
    pub(crate) fn wait_for_room(&self) -> bool {
        let under_way = self.link.rate.map_or(0.0, |rate| rate as f64 / 8.0 * self.link.delay.as_secs_f64());
        let most = BUFFERED + under_way as usize;
        let mut state = self.state.lock();
        while state.bytes > most && !state.closed {
            self.changed.wait(&mut state);
        }
        !state.closed
    }

    /// The next bytes, when they have arrived; `None` behind the last.
    pub(crate) fn pop(&self) -> Option<Vec<u8>> {
        let arrives = {
            let mut state = self.state.lock();
            loop {
                match state.pieces.front() {
                    Some(&(arrives, _)) => break arrives,
                    None if state.closed => return None,
                    None => self.changed.wait(&mut state),
                }
            }
        };
        thread::sleep(arrives.saturating_duration_since(Instant::now()));
        let mut state = self.state.lock();
        let (_, bytes) = state.pieces.pop_front()?;
        state.bytes -= bytes.len();
        self.changed.notify_all();
        Some(bytes)
    }

    /// Nothing more goes in.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

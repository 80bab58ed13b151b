//! Which requests of a connection are being answered by other threads, and what must wait for them.
//!
//! `Rflush` comes after the reply to the request that it flushes, or where that can be cancelled in place of it: a deferred
//! `Tflush` is kept with its victim. A `Tversion` waits until there is none left.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The requests in flight.
#[derive(Default)]
pub(super) struct InFlight {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    by_tag: HashMap<u16, Waiting>,
    /// How many requests are on their way, and how many wait for what may never come.
    requests: usize,
    cancellable: usize,
}

enum Waiting {
    /// A request, and the tags of the `Tflush`es that wait for it, in order.
    Request {
        flushes: Vec<u16>,
        /// Where it waits for what may never come: by what it learns that it need not.
        cancelled: Option<Arc<Notify>>,
    },
    /// A `Tflush` that waits for the request of this tag.
    Flush(u16),
}

/// The client uses a tag for two requests at a time.
pub(super) struct TagInUse;

impl InFlight {
    /// Notes a request, which is to [`Self::end`].
    pub(super) fn begin(&self, tag: u16) -> Result<(), TagInUse> {
        self.begin_as(tag, None)
    }

    /// Notes a request that may wait for ever, which is to [`Self::end`] when it is told to by what this returns. It does
    /// not count as one where [they are limited](Self::below).
    pub(super) fn begin_cancellable(&self, tag: u16) -> Result<Arc<Notify>, TagInUse> {
        let cancelled = Arc::new(Notify::new());
        self.begin_as(tag, Some(Arc::clone(&cancelled)))?;
        Ok(cancelled)
    }

    fn begin_as(&self, tag: u16, cancelled: Option<Arc<Notify>>) -> Result<(), TagInUse> {
        let mut state = self.state.lock();
        if state.by_tag.contains_key(&tag) {
            return Err(TagInUse);
        }
        *if cancelled.is_some() { &mut state.cancellable } else { &mut state.requests } += 1;
        state.by_tag.insert(tag, Waiting::Request { flushes: Vec::new(), cancelled });
        Ok(())
    }

    /// Tells all requests that may wait for ever to end.
    pub(super) fn cancel_all(&self) {
        for waiting in self.state.lock().by_tag.values() {
            if let Waiting::Request { cancelled: Some(cancelled), .. } = waiting {
                cancelled.notify_one();
            }
        }
    }

    /// Is `tag` not in use?
    pub(super) fn check(&self, tag: u16) -> Result<(), TagInUse> {
        if self.state.lock().by_tag.contains_key(&tag) { Err(TagInUse) } else { Ok(()) }
    }

    /// A `Tflush` of `old_tag`: is it to be answered by who ends that one? Otherwise it can be at once.
    pub(super) fn flush(&self, tag: u16, old_tag: u16) -> Result<bool, TagInUse> {
        let mut state = self.state.lock();
        if state.by_tag.contains_key(&tag) {
            return Err(TagInUse);
        }
        let victim = match state.by_tag.get(&old_tag) {
            None => return Ok(false),
            Some(Waiting::Request { .. }) => old_tag,
            Some(&Waiting::Flush(victim)) => victim,
        };
        if let Some(Waiting::Request { flushes, cancelled }) = state.by_tag.get_mut(&victim) {
            flushes.push(tag);
            if let Some(cancelled) = cancelled {
                cancelled.notify_one();
            }
            state.by_tag.insert(tag, Waiting::Flush(victim));
        }
        Ok(true)
    }

    /// Ends a request. `answer` puts its reply, and those to the `Tflush`es of these tags, on their way, in that order;
    /// only after that a tag is free to be used or flushed again.
    pub(super) fn end(&self, tag: u16, answer: impl FnOnce(&[u16])) {
        let mut state = self.state.lock();
        if let Some(Waiting::Request { flushes, cancelled }) = state.by_tag.remove(&tag) {
            answer(&flushes);
            *if cancelled.is_some() { &mut state.cancellable } else { &mut state.requests } -= 1;
            for flush in flushes {
                state.by_tag.remove(&flush);
            }
        }
        drop(state);
        self.ended.notify_one();
    }

    /// Are there none at all?
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.requests == 0 && state.cancellable == 0
    }

    /// Cancels those that may wait for ever, and waits until there are none at all. One task at a time may wait.
    pub(super) async fn emptied(&self) {
        self.cancel_all();
        while !self.is_empty() {
            self.ended.notified().await;
        }
    }

    /// Are there fewer than so many requests?
    pub(super) fn is_below(&self, count: usize) -> bool {
        self.state.lock().requests < count
    }

    /// Waits until there are fewer than so many requests. One task at a time may wait.
    pub(super) async fn below(&self, count: usize) {
        while !self.is_below(count) {
            self.ended.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_may_wait_for_ever_learns_of_flushes_and_of_the_end() {
        let in_flight = InFlight::default();
        let cancelled = in_flight.begin_cancellable(1).ok().unwrap();
        assert!(in_flight.is_below(1) && !in_flight.is_empty());
        assert!(matches!(in_flight.flush(2, 1), Ok(true)));
        cancelled.notified().await;
        in_flight.end(1, |flushes| assert_eq!(flushes, [2]));
        assert!(in_flight.is_empty());

        let cancelled = in_flight.begin_cancellable(3).ok().unwrap();
        let end = async {
            cancelled.notified().await;
            in_flight.end(3, |flushes| assert_eq!(flushes, [0; 0]));
        };
        tokio::join!(in_flight.emptied(), end);
    }

    #[test]
    fn flushes_wait_for_their_victim_in_order() {
        let in_flight = InFlight::default();
        assert!(in_flight.begin(1).is_ok());
        assert!(in_flight.begin(1).is_err());
        assert!(matches!(in_flight.flush(2, 9), Ok(false)));
        assert!(matches!(in_flight.flush(2, 2), Ok(false)), "a flush of itself");
        assert!(matches!(in_flight.flush(2, 1), Ok(true)));
        assert!(matches!(in_flight.flush(3, 2), Ok(true)), "a flush of a flush");
        assert!(in_flight.flush(3, 1).is_err());
        assert!(in_flight.check(2).is_err());
        let mut answered = Vec::new();
        in_flight.end(1, |flushes| answered.extend_from_slice(flushes));
        assert_eq!(answered, [2, 3]);
        assert!((1..4).all(|tag| in_flight.check(tag).is_ok()));
    }
}

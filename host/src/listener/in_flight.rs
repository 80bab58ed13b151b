//! Which requests of a connection are being answered by other threads, and what must wait for them.
//!
//! `Rflush` comes after the reply to the request that it flushes: a deferred `Tflush` is kept with its victim. A
//! `Tversion` waits until there is none left.

use std::collections::HashMap;

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
    requests: usize,
}

enum Waiting {
    /// A request, and the tags of the `Tflush`es that wait for it, in order.
    Request(Vec<u16>),
    /// A `Tflush` that waits for the request of this tag.
    Flush(u16),
}

/// The client uses a tag for two requests at a time.
pub(super) struct TagInUse;

impl InFlight {
    /// Notes a request, which is to [`Self::end`].
    pub(super) fn begin(&self, tag: u16) -> Result<(), TagInUse> {
        let mut state = self.state.lock();
        if state.by_tag.contains_key(&tag) {
            return Err(TagInUse);
        }
        state.by_tag.insert(tag, Waiting::Request(Vec::new()));
        state.requests += 1;
        Ok(())
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
            Some(Waiting::Request(_)) => old_tag,
            Some(&Waiting::Flush(victim)) => victim,
        };
        if let Some(Waiting::Request(flushes)) = state.by_tag.get_mut(&victim) {
            flushes.push(tag);
            state.by_tag.insert(tag, Waiting::Flush(victim));
        }
        Ok(true)
    }

    /// Ends a request. `answer` puts its reply, and those to the `Tflush`es of these tags, on their way, in that order;
    /// only after that a tag is free to be used or flushed again.
    pub(super) fn end(&self, tag: u16, answer: impl FnOnce(&[u16])) {
        let mut state = self.state.lock();
        if let Some(Waiting::Request(flushes)) = state.by_tag.remove(&tag) {
            answer(&flushes);
            state.requests -= 1;
            for flush in flushes {
                state.by_tag.remove(&flush);
            }
        }
        drop(state);
        self.ended.notify_one();
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

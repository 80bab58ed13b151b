//! How the two sides of a ring tell each other of entries: the indices, and when a notification is needed.
//!
//! Both directions work alike. Who adds entries is a [`Publisher`]: the driver in the available ring, the device in the
//! used ring. Who takes them is a [`Consumer`]. Of the words that they share the publisher writes `idx` alone, and the
//! consumer its [`Wish`] when to be notified.
//!
//! Neither a notification nor an entry is lost: the publisher makes its `idx` visible, *then* looks whether it has to
//! notify; the consumer says that it wants to be notified, *then* looks at the `idx` once more. A sequentially
//! consistent fence in between on both sides has one of the two see what the other wrote (VIRTIO 1.3, 2.7.13.4.1 and
//! 2.7.14; `virtqueue_enable_cb()`).
//!
//! This file knows neither the region nor what an entry is, so that `tests/ordering` can run it under loom.

use std::sync::atomic::Ordering;

/// Bit 0 of `flags`, the same on both sides: `VIRTQ_AVAIL_F_NO_INTERRUPT` and `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFICATION: u16 = 1;

/// An atomic word of the ring.
pub(crate) trait Word {
    /// Its value.
    fn load(&self, ordering: Ordering) -> u16;
    /// Sets it.
    fn store(&self, value: u16, ordering: Ordering);
    /// The fence that goes with such words.
    fn fence(ordering: Ordering);
}

/// Where a consumer says when it wants to be notified.
#[derive(Debug)]
pub(crate) enum Wish<'a, W> {
    /// With event index: once the entry that this counts is there.
    Event(&'a W),
    /// Without: whether at all.
    Flags(&'a W),
}

/// Who adds entries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Publisher {
    idx: u16,
    /// The `idx` at the last look whether to notify.
    told: u16,
}

impl Publisher {
    /// The `idx` that counts the next entry.
    pub(crate) fn idx(&self) -> u16 {
        self.idx
    }

    /// Makes the entry that [`idx`](Self::idx) counts visible, and all that was written before.
    pub(crate) fn publish<W: Word>(&mut self, idx: &W) {
        self.idx = self.idx.wrapping_add(1);
        idx.store(self.idx, Ordering::Release);
    }

    /// Is there an entry that was not considered here yet?
    pub(crate) fn is_untold(&self) -> bool {
        self.told != self.idx
    }

    /// Does the consumer want to be told of what was published since the last call?
    pub(crate) fn must_notify<W: Word>(&mut self, wish: Wish<'_, W>) -> bool {
        let before = std::mem::replace(&mut self.told, self.idx);
        W::fence(Ordering::SeqCst);
        match wish {
            Wish::Event(event) => passes(event.load(Ordering::Relaxed), self.idx, before),
            Wish::Flags(flags) => flags.load(Ordering::Relaxed) & NO_NOTIFICATION == 0,
        }
    }
}

/// Who takes entries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Consumer {
    idx: u16,
}

impl Consumer {
    /// The `idx` that counts the next entry.
    pub(crate) fn idx(&self) -> u16 {
        self.idx
    }

    /// How many entries are there, if the publisher says the truth. They can be read then.
    pub(crate) fn available<W: Word>(&self, idx: &W) -> u16 {
        idx.load(Ordering::Acquire).wrapping_sub(self.idx)
    }

    /// Goes past an entry.
    pub(crate) fn advance(&mut self) {
        self.idx = self.idx.wrapping_add(1);
    }

    /// Says that the next entry is to be told of. `false` where it is there already: then it may not be told of.
    pub(crate) fn want_notification<W: Word>(&self, idx: &W, wish: Wish<'_, W>) -> bool {
        match wish {
            Wish::Event(event) => event.store(self.idx, Ordering::Relaxed),
            Wish::Flags(flags) => flags.store(0, Ordering::Relaxed),
        }
        W::fence(Ordering::SeqCst);
        self.available(idx) == 0
    }

    /// Says that entries need not be told of for now; with event index that is so once the first was. Only a hint.
    pub(crate) fn forgo_notification<W: Word>(&self, wish: Wish<'_, W>) {
        if let Wish::Flags(flags) = wish {
            flags.store(NO_NOTIFICATION, Ordering::Relaxed);
        }
    }
}

/// Is `event` one of the entries from `before` up to, but not including, `now`? (`vring_need_event()`)
fn passes(event: u16, now: u16, before: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn an_event_is_passed_once_wherever_the_index_wraps() {
        for start in [0, 1, 77, 32_767, 32_768, 65_530, 65_534, 65_535u16] {
            for added in 0..20u16 {
                for event in 0..40u16 {
                    // The event is `event - 10` entries ahead of the start.
                    let passed = (10..10 + added).contains(&event);
                    let event = start.wrapping_add(event).wrapping_sub(10);
                    assert_eq!(passes(event, start.wrapping_add(added), start), passed, "{event} {start} {added}");
                }
            }
        }
    }
}

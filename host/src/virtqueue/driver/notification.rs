//! Who tells whom: `virtqueue_kick_prepare()`, `virtqueue_enable_cb()` and `virtqueue_disable_cb()`.

use std::sync::atomic::AtomicU16;

use super::{Driver, QueueError, atomic};
use crate::virtqueue::{Features, index::Wish};

impl Driver {
    /// Are there chains of which the device was not told, and does it want to be told? If so this counts as a kick,
    /// and the caller is to make it.
    pub fn kick_needed(&mut self) -> bool {
        if self.broken || !self.avail.is_untold() {
            return false;
        }
        let layout = self.ring.layout;
        let wish = if self.features.contains(Features::EVENT_INDEX) {
            atomic(&self.region, layout.avail_event()).map(Wish::Event)
        } else {
            atomic(&self.region, layout.used).map(Wish::Flags)
        };
        let Ok(wish) = wish else { return false };
        let needed = self.avail.must_notify(wish);
        self.statistics.kicks += u64::from(needed);
        self.statistics.kicks_suppressed += u64::from(!needed);
        needed
    }

    /// Asks the device for an interrupt when it returns a chain (`virtqueue_enable_cb()`). `false` where it has returned
    /// one already: that is to be taken first, and then asked again. Who looks at the used ring after each kick of a
    /// device that answers within it needs none, and never asks.
    pub fn want_interrupt(&mut self) -> bool {
        let Ok(wish) = self.wish() else { return true };
        let Ok(idx) = atomic(&self.region, self.ring.layout.used_idx()) else { return true };
        self.broken || self.used.want_notification(idx, wish)
    }

    /// Needs no interrupts until it asks again: it is at work on the used ring.
    pub fn forgo_interrupts(&mut self) {
        if let Ok(wish) = self.wish() {
            self.used.forgo_notification(wish);
        }
    }

    /// Where the driver says when it wants to be interrupted.
    fn wish(&self) -> Result<Wish<'_, AtomicU16>, QueueError> {
        let layout = self.ring.layout;
        if self.features.contains(Features::EVENT_INDEX) {
            atomic(&self.region, layout.used_event()).map(Wish::Event)
        } else {
            atomic(&self.region, layout.avail).map(Wish::Flags)
        }
    }
}

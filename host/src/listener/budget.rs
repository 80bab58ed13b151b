//! How much memory one connection's requests and replies may take at a time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire},
};

use tokio::sync::Notify;

/// What one connection has in use. A client that does not take its replies has it full soon, and is read from no more.
#[derive(Default)]
pub(super) struct Budget {
    used: AtomicUsize,
    returned: Notify,
}

impl Budget {
    /// Takes so many bytes if `limit` allows; always, if nothing is in use.
    ///
    /// One task alone takes bytes, the connection's reading one.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize, limit: usize) -> Option<Charge> {
        let used = self.used.load(Acquire);
        if used > 0 && used.saturating_add(bytes) > limit {
            return None;
        }
        self.used.fetch_add(bytes, AcqRel);
        Some(Charge { budget: Arc::clone(self), bytes })
    }

    /// As [`Self::try_take`], when it can.
    pub(super) async fn take(self: &Arc<Self>, bytes: usize, limit: usize) -> Charge {
        loop {
            if let Some(charge) = self.try_take(bytes, limit) {
                return charge;
            }
            self.returned.notified().await;
        }
    }
}

/// Bytes in use, until this is dropped.
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, AcqRel);
        self.budget.returned.notify_one();
    }
}

//! How much memory one connection's requests and replies may take at a time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire},
};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::Resources;

/// What a connection that has nothing in use always gets, whatever others have: a buffer for small replies.
const ALWAYS: usize = 72 << 10;

/// What one connection has in use. A client that does not take its replies has it full soon, and is read from no more.
pub(super) struct Budget {
    used: AtomicUsize,
    returned: Notify,
    resources: Arc<Resources>,
}

impl Budget {
    /// An untouched one, of what `resources` have.
    pub(super) fn new(resources: Arc<Resources>) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), returned: Notify::new(), resources })
    }

    /// Takes so many bytes if `limit` allows, and all connections together; the first always by `limit`.
    ///
    /// One task alone takes bytes, the connection's reading one.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize, limit: usize) -> Option<Charge> {
        let used = self.used.load(Acquire);
        if used > 0 && used.saturating_add(bytes) > limit {
            return None;
        }
        let shared = self.resources.try_memory(bytes);
        if shared.is_none() && (used > 0 || bytes > ALWAYS) {
            return None;
        }
        Some(self.charge(bytes, shared))
    }

    /// As [`Self::try_take`], when it can.
    pub(super) async fn take(self: &Arc<Self>, bytes: usize, limit: usize) -> Charge {
        loop {
            if let Some(charge) = self.try_take(bytes, limit) {
                return charge;
            }
            let used = self.used.load(Acquire);
            let own = used == 0 || used.saturating_add(bytes) <= limit;
            if !own {
                self.returned.notified().await;
            } else if used > 0 && bytes <= ALWAYS {
                // Others have it all: this connection's own last reply may be gone first.
                tokio::select! {
                    shared = self.resources.memory(bytes) => return self.charge(bytes, Some(shared)),
                    () = self.returned.notified() => {}
                }
            } else {
                let shared = self.resources.memory(bytes).await;
                return self.charge(bytes, Some(shared));
            }
        }
    }

    fn charge(self: &Arc<Self>, bytes: usize, shared: Option<OwnedSemaphorePermit>) -> Charge {
        self.used.fetch_add(bytes, AcqRel);
        Charge { budget: Arc::clone(self), bytes, shared }
    }
}

/// Bytes in use, until this is dropped.
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
    #[expect(dead_code, reason = "its drop is what it is for")]
    shared: Option<OwnedSemaphorePermit>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, AcqRel);
        self.budget.returned.notify_one();
    }
}

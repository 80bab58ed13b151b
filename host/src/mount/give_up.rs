//! Operations that nobody waits for any more.
//!
//! Who drops the future of an operation gives it up: its requests are flushed, and its buffers and what else it holds come
//! back when the server has answered them or the flush. Until then the operation stays under way. Some must not be given
//! up, because somebody relies on them without waiting: see [`Patience`].

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Buffers, Mount, Result, Shared, calls::Yield, within::within};

/// How an operation is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the mount's timeout is over. Who does not wait gives it up.
    Timeout,
    /// The same, but it goes on even if nobody waits.
    ToTheEnd,
    /// For as long as it takes: for locks. Who does not wait gives it up.
    Endless,
}

/// An operation under way, named so that no other is taken for it: tokens are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) incarnation: u32,
    pub(super) token: u32,
    /// Of the mount's operations.
    pub(super) serial: u64,
}

/// Waits for an operation; if it is dropped before, gives it up.
pub(super) struct Waiter<'m, T: Yield> {
    pub(super) mount: &'m Mount,
    pub(super) operation: Operation,
    /// `None` once there is nothing to give up any more.
    pub(super) reply: Option<oneshot::Receiver<(Result<T>, Buffers)>>,
    pub(super) patience: Patience,
}

/// What came instead of an outcome.
pub(super) enum NoOutcome {
    /// The operation was dropped with the mount's life.
    Dropped,
    /// The time is over.
    Timeout,
}

impl<T: Yield> Waiter<'_, T> {
    pub(super) async fn wait(&mut self) -> Result<(Result<T>, Buffers), NoOutcome> {
        let Some(reply) = &mut self.reply else { return Err(NoOutcome::Dropped) };
        let outcome = match self.patience {
            Patience::Endless => Ok(reply.await),
            Patience::Timeout | Patience::ToTheEnd => {
                let mut recoveries = self.mount.recoveries().1;
                loop {
                    let outcome = within(self.mount.options().timeout, &mut *reply).await;
                    // The time in which there was no connection doesn't count: it has a limit of its own.
                    let (is_recovering, now) = self.mount.recoveries();
                    if outcome.is_ok() || !is_recovering && now == recoveries {
                        break outcome;
                    }
                    recoveries = now;
                }
            }
        };
        self.reply = None;
        match outcome {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(NoOutcome::Dropped),
            Err(_) => Err(NoOutcome::Timeout),
        }
    }
}

impl<T: Yield> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        let Some(mut reply) = self.reply.take() else { return };
        match reply.try_recv() {
            // It is complete, and nobody has looked.
            Ok((Ok(value), _)) => value.discard(self.mount, self.operation.incarnation),
            Ok(_) => {}
            Err(_) => {
                // From here on the outcome has nobody to go to, and whoever hands it out cleans up.
                drop(reply);
                if self.patience != Patience::ToTheEnd {
                    self.mount.give_up(self.operation);
                }
            }
        }
    }
}

impl Mount {
    /// Has an operation's requests flushed. If the server answers neither them nor the flush in time, the mount breaks, as
    /// it does for who waits.
    fn give_up(&self, operation: Operation) {
        if !self.0.cancel(operation) {
            return;
        }
        self.0.interrupted();
        if !self.0.is_under_way(operation) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, timeout) = (Arc::downgrade(&self.0), self.options().timeout);
        runtime.spawn(async move {
            // To the end of it.
            let _ = within(timeout, std::future::pending::<()>()).await;
            if let Some(shared) = shared.upgrade() {
                shared.expire(operation, timeout);
            }
        });
    }
}

impl Shared {
    /// Tells the client that nobody waits. Tells whether the operation is under way.
    fn cancel(&self, operation: Operation) -> bool {
        let mut state = self.state.lock();
        if !state.is_under_way(operation) {
            return false;
        }
        let Ok(life) = &mut state.life else { return false };
        life.sandbox.begin_call();
        let vfs = life.sandbox.exports.ninering_fs_vfs();
        if let Err(trap) = vfs.call_cancel(&mut life.sandbox.store, operation.token) {
            state.trapped(&trap);
            return false;
        }
        true
    }

    fn is_under_way(&self, operation: Operation) -> bool {
        self.state.lock().is_under_way(operation)
    }

    fn expire(&self, operation: Operation, timeout: Duration) {
        let mut state = self.state.lock();
        // A connection that is lost has a limit of its own; with a new one, what was given up comes back.
        let is_recovering = state.life.as_ref().is_ok_and(|life| life.standing.is_recovering);
        if state.is_under_way(operation) && !is_recovering {
            state.bury(format!("the server did not answer a Tflush within {timeout:?}").into());
        }
    }
}

impl super::State {
    fn is_under_way(&self, Operation { incarnation, token, serial }: Operation) -> bool {
        self.incarnation == incarnation
            && self.life.as_ref().is_ok_and(|life| life.pending.get(&token).is_some_and(|it| it.serial == serial))
    }
}

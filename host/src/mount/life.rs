//! The lives of a mount: what is there from its start to what breaks it.

use std::{collections::HashMap, sync::Arc};

use ninering_wire::Errno;
use tokio::sync::oneshot;

use super::{
    Buffer, Buffers, CacheStatistics, Error, NameStatistics, Result, Statistics,
    buffer::BufferPool,
    cache::Cache,
    component::{Sandbox, client, vfs},
    recovery,
};

pub(super) struct State {
    /// Which life of the mount this is; handles of an earlier one are stale.
    pub(super) incarnation: u32,
    pub(super) life: std::result::Result<Life, Arc<str>>,
    /// What former lives counted.
    pub(super) past: Statistics,
}

/// One life of a mount: from its start to what breaks it.
pub(super) struct Life {
    pub(super) sandbox: Sandbox,
    pub(super) pool: Arc<BufferPool>,
    pub(super) pending: HashMap<u32, Pending<vfs::Value>>,
    /// The same of 9P calls.
    pub(super) calls: HashMap<u32, Pending<client::RMessage>>,
    /// Buffers of operations that ended before the device was done with their memory.
    pub(super) retired: Vec<Buffer>,
    pub(super) cache: Option<Arc<Cache>>,
    /// How it stands with the connection.
    pub(super) standing: recovery::Standing,
}

/// An operation under way.
pub(super) struct Pending<T> {
    pub(super) reply: oneshot::Sender<(Result<T>, Buffers)>,
    pub(super) buffers: Buffers,
    /// Tells it from others that have or had its token.
    pub(super) serial: u64,
}

impl State {
    /// The device has used chains: lets the client take them, and hands out what is complete by them.
    pub(super) fn reap(&mut self) {
        loop {
            self.reap_operations();
            self.reap_calls();
            if !self.may_have_completed_others() {
                return;
            }
        }
    }

    /// Lets operations of others go on that are complete by what a call of the client took from the ring.
    pub(super) fn reap_taken(&mut self) {
        if self.may_have_completed_others() {
            self.reap();
        }
    }

    pub(super) fn may_have_completed_others(&mut self) -> bool {
        let Ok(life) = &mut self.life else { return false };
        life.sandbox.store.data_mut().has_taken() && !(life.pending.is_empty() && life.calls.is_empty())
    }

    /// The same as [`Self::reap_calls`] of filesystem operations.
    pub(super) fn reap_operations(&mut self) {
        let Ok(life) = &mut self.life else { return };
        life.sandbox.begin_call();
        let completions = match life.sandbox.exports.ninering_fs_vfs().call_reap(&mut life.sandbox.store) {
            Ok(completions) => completions,
            Err(trap) => {
                self.trapped(&trap);
                return;
            }
        };
        life.sandbox.store.data_mut().has_taken();
        for vfs::Completion { token, outcome } in completions {
            let Ok(life) = &mut self.life else { return };
            let Some(Pending { reply, buffers, .. }) = life.pending.remove(&token) else {
                self.bury("the client completed an operation that was not under way".into());
                return;
            };
            let buffers = life.take_back(buffers);
            let outcome = self.judge(outcome);
            if let Err((Ok(vfs::Value::Opened(opened)), _)) = reply.send((outcome, buffers)) {
                // Who asked for it is gone: nobody will close it.
                let Ok(life) = &mut self.life else { return };
                let vfs = life.sandbox.exports.ninering_fs_vfs();
                if let Err(trap) = vfs.call_close(&mut life.sandbox.store, opened.node) {
                    self.trapped(&trap);
                    return;
                }
            }
        }
    }

    /// What an operation's outcome means to the caller; a broken session breaks the mount.
    pub(super) fn judge<T>(&mut self, outcome: std::result::Result<T, vfs::Error>) -> Result<T> {
        match outcome {
            Ok(value) => Ok(value),
            Err(vfs::Error::Errno(errno)) => Err(Error::Errno(Errno(errno))),
            Err(vfs::Error::Broken(reason)) => {
                // The transport knows better than the client why replies are missing.
                let device = self.life.as_ref().ok().and_then(|life| life.sandbox.store.data().device.broken());
                let reason: Arc<str> = device.unwrap_or(reason).into();
                self.bury(Arc::clone(&reason));
                Err(Error::Broken(reason))
            }
        }
    }

    /// The client trapped: the mount is broken.
    pub(super) fn trapped(&mut self, trap: &wasmtime::Error) -> Error {
        tracing::error!(error = ?trap, "the client component failed");
        let reason: Arc<str> = format!("the client failed: {}", trap.root_cause()).into();
        self.bury(Arc::clone(&reason));
        Error::Broken(reason)
    }

    /// Ends the present life, and with it all that is under way.
    pub(super) fn bury(&mut self, reason: Arc<str>) {
        let Ok(life) = &mut self.life else { return };
        tracing::debug!(%reason, "the mount's life ends");
        if let Some(cache) = &life.cache {
            cache.end();
        }
        self.past = self.past.plus(life.statistics());
        // First of all, so that nobody gets memory that a device is still filling.
        life.sandbox.store.data_mut().device.close();
        for (_, pending) in life.pending.drain() {
            // Who does not wait any more does not mind.
            let _ = pending.reply.send((Err(Error::Broken(Arc::clone(&reason))), Buffers::new()));
        }
        for (_, pending) in life.calls.drain() {
            let _ = pending.reply.send((Err(Error::Broken(Arc::clone(&reason))), Buffers::new()));
        }
        self.life = Err(reason);
    }
}

impl Life {
    /// Ends the loan of buffers. Those whose memory the device may still use are kept back; then none come back.
    pub(super) fn take_back(&mut self, buffers: Buffers) -> Buffers {
        let leases = &mut self.sandbox.store.data_mut().leases;
        if !self.retired.is_empty() {
            self.retired.retain(|buffer| leases.is_in_flight(buffer.extent()));
            // The leases keep the same account; left alone it would grow.
            leases.retired().for_each(drop);
        }
        let mut all_free = true;
        for buffer in &buffers {
            all_free &= buffer.is_empty() || leases.revoke(buffer.extent());
        }
        if all_free {
            return buffers;
        }
        self.retired.extend(buffers);
        Buffers::new()
    }

    /// How many requests there were, and how many of them have been answered.
    pub(super) fn progress(&self) -> (u64, u64) {
        let driver = &self.sandbox.store.data().driver;
        let requests = driver.statistics().requests;
        (requests, requests - u64::from(driver.in_flight()))
    }

    pub(super) fn statistics(&mut self) -> Statistics {
        let recovery = self.recovered();
        let guest = self.sandbox.store.data();
        let ring = guest.driver.statistics();
        let device = guest.device.statistics();
        Statistics {
            operations: 0,
            requests: ring.requests,
            kicks: ring.kicks,
            kicks_suppressed: ring.kicks_suppressed,
            interrupts: device.interrupts,
            interrupts_suppressed: device.interrupts_suppressed,
            bytes_out: ring.bytes_out,
            bytes_in: ring.bytes_in,
            header_bytes: ring.header_bytes,
            bounced_bytes: guest.bounced,
            copied_bytes: 0,
            payload_through_wit: guest.payload_through_wit,
            cache: CacheStatistics::default(),
            names: NameStatistics::default(),
            recovery,
        }
    }
}

//! Going on when the connection to a server is lost.
//!
//! The mount's life goes on: the client's operations wait, a new connection is made, tried again at longer and longer
//! intervals, and put in the place of the old one below the same ring. Then the client makes its fids again and sends
//! again what was not answered, or finds out what came of it (`session/recover.rs` and `session/settle.rs` in the
//! client component). When there is no connection after [`MountOptions::recovery`](super::MountOptions::recovery), the
//! mount breaks.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Weak},
    time::Duration,
};

use smallvec::SmallVec;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Error, Mount, Origin, Shared,
    component::vfs,
    life::{Life, Pending, State},
    within::within,
};
use crate::device::{
    Device,
    remote::{self, RemoteDevice},
};

/// How long to wait before a connection is tried again: at first, and at most.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What recovery has done for a mount so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryStatistics {
    /// Connections that took the place of lost ones.
    pub reconnects: u64,
    /// Requests that were sent again.
    pub resent: u64,
    /// Requests of unknown fate of which it was found out that they had been done.
    pub settled: u64,
    /// Operations that were given up with an error (`EIO`), for nobody knows what came of them.
    pub doubtful: u64,
    /// Files that were open and cannot be found any more (`ESTALE`).
    pub stale_fids: u64,
    /// Files whose locks could not be taken again (`ENOLCK`).
    pub lost_locks: u64,
}

impl RecoveryStatistics {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            reconnects: self.reconnects + other.reconnects,
            resent: self.resent + other.resent,
            settled: self.settled + other.settled,
            doubtful: self.doubtful + other.doubtful,
            stale_fids: self.stale_fids + other.stale_fids,
            lost_locks: self.lost_locks + other.lost_locks,
        }
    }
}

/// How a life stands with its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// The session was begun: from now on it is worth to be gone on with.
    pub(super) is_started: bool,
    /// The connection is lost, and a new one is being made.
    pub(super) is_recovering: bool,
    /// How often that has come to a good end.
    pub(super) recoveries: u64,
    /// What had been found stale or lost when it was last told of.
    told: (u64, u64),
}

/// Why an attempt to go on has failed.
enum Failure {
    /// Another one may not.
    Again(String),
    /// The mount is broken, or has begun anew.
    Over,
}

impl Mount {
    /// Is the connection lost, and how often was it made again?
    pub(super) fn recoveries(&self) -> (bool, u64) {
        match &self.0.state.lock().life {
            Ok(life) => (life.standing.is_recovering, life.standing.recoveries),
            Err(_) => (false, 0),
        }
    }
}

/// The device may have ended: if so, sees to it that the mount goes on, or breaks. Must be called in a tokio runtime.
pub(super) fn look(shared: &Arc<Shared>) {
    let mut state = shared.state.lock();
    let incarnation = state.incarnation;
    let Ok(life) = &mut state.life else { return };
    let device = &life.sandbox.store.data().device;
    let Some(reason) = device.broken() else { return };
    if life.standing.is_recovering {
        return;
    }
    if shared.options.recovery.is_zero() || !life.standing.is_started || !device.is_lost() {
        // The client waits for a connection, where there will be one.
        if !shared.options.recovery.is_zero() {
            state.bury(reason.into());
        }
        return;
    }
    life.standing.is_recovering = true;
    tracing::warn!(%reason, "the connection to the server is lost");
    tokio::spawn(recover(Arc::downgrade(shared), incarnation, reason));
}

/// Makes connections until the mount goes on with one, or is given up.
async fn recover(shared: Weak<Shared>, incarnation: u32, reason: String) {
    let began = Instant::now();
    let mut wait = WAITS.0;
    let mut attempts = 0_u32;
    let mut last = reason.clone();
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let deadline = began + shared.options.recovery;
        attempts += 1;
        match timeout_at(deadline, attempt(&shared, incarnation)).await {
            Ok(Ok(())) => {
                let outage = began.elapsed();
                tracing::info!(attempts, ?outage, "the mount goes on with a new connection");
                // It may be lost already.
                look(&shared);
                return;
            }
            Ok(Err(Failure::Over)) => return,
            Ok(Err(Failure::Again(error))) => {
                tracing::debug!(attempts, %error, "no new connection yet");
                last = error;
            }
            Err(_) => {}
        }
        if Instant::now() + wait >= deadline {
            let recovery = shared.options.recovery;
            let mut state = shared.state.lock();
            if state.incarnation == incarnation {
                state.bury(format!("{reason}, and there was no new connection within {recovery:?}: {last}").into());
            }
            return;
        }
        drop(shared);
        sleep(jittered(wait)).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

/// Between half of a time and all of it, so that the clients of one server don't all come back at once.
fn jittered(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(time) as u32;
    time / 2 + time.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

async fn attempt(shared: &Arc<Shared>, incarnation: u32) -> Result<(), Failure> {
    let Origin::Remote(address) = &shared.origin else { return Err(Failure::Over) };
    let again = |error: &dyn std::fmt::Display| Failure::Again(error.to_string());
    let patience = shared.options.timeout;
    let silent = || Failure::Again(format!("the server did not answer within {patience:?}"));
    let stream = remote::connect(address, patience).await.map_err(|error| again(&error))?;
    let interrupt = shared.interrupt();
    let reply = {
        let mut state = shared.state.lock();
        if state.incarnation != incarnation {
            return Err(Failure::Over);
        }
        shared.replace_device(&mut state, |queue| Box::new(RemoteDevice::start(queue, stream, interrupt)))?
    };
    let outcome = match reply {
        Reply::Complete(outcome) => outcome,
        Reply::Pending(reply) => match within(patience, reply).await {
            Ok(Ok((outcome, _))) => outcome,
            Ok(Err(_)) => return Err(Failure::Over),
            Err(_) => return Err(silent()),
        },
    };
    let mount = Mount(Arc::clone(shared));
    let outcome = match outcome {
        Ok(begun) => within(patience, mount.authenticate(begun)).await.map_err(|_| silent())?,
        refused => refused,
    };
    let mut state = shared.state.lock();
    if state.incarnation != incarnation {
        return Err(Failure::Over);
    }
    match outcome {
        Ok(_) => {}
        Err(Error::Errno(errno)) => return Err(Failure::Again(format!("the files cannot be opened again: {errno}"))),
        Err(Error::Broken(reason)) => {
            let is_lost = state.life.as_ref().is_ok_and(|life| life.sandbox.store.data().device.is_lost());
            if is_lost {
                return Err(Failure::Again(reason.to_string()));
            }
            state.bury(reason);
            return Err(Failure::Over);
        }
    }
    if let Ok(life) = &mut state.life {
        life.standing.is_recovering = false;
        life.standing.recoveries += 1;
        let RecoveryStatistics { stale_fids, lost_locks, .. } = life.recovered();
        let told = std::mem::replace(&mut life.standing.told, (stale_fids, lost_locks));
        if told != (stale_fids, lost_locks) {
            let (stale_fids, lost_locks) = (stale_fids.saturating_sub(told.0), lost_locks.saturating_sub(told.1));
            tracing::warn!(
                stale_fids,
                lost_locks,
                "files that were open are not there any more, or their locks are lost"
            );
        }
    }
    Ok(())
}

/// What became of the call that makes the client go on.
enum Reply {
    Complete(super::Result<vfs::Value>),
    Pending(oneshot::Receiver<(super::Result<vfs::Value>, super::Buffers)>),
}

impl Shared {
    /// What a device of this mount is to call when it has returned chains.
    pub(super) fn interrupt(self: &Arc<Self>) -> Arc<dyn Fn() + Send + Sync> {
        let shared = Arc::downgrade(self);
        Arc::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.interrupted();
                look(&shared);
            }
        })
    }

    /// Puts another device below the ring, and has the client go on with it.
    fn replace_device(
        &self,
        state: &mut State,
        device: impl FnOnce(crate::device::DeviceQueue) -> Box<dyn Device>,
    ) -> Result<Reply, Failure> {
        let over = |_: &Arc<str>| Failure::Over;
        // All that the client has added or is about to add goes to the old device, and comes back.
        state.life.as_mut().map_err(|reason| over(reason))?.sandbox.store.data_mut().device.close();
        state.reap();
        {
            let life = state.life.as_mut().map_err(|reason| over(reason))?;
            let guest = life.sandbox.store.data_mut();
            match guest.driver.reset(&mut guest.leases) {
                Ok(queue) => guest.device = device(queue),
                Err(error) => {
                    state.bury(format!("the ring cannot be used again: {error}").into());
                    return Err(Failure::Over);
                }
            }
        }
        state.reap();
        let life = state.life.as_mut().map_err(|reason| over(reason))?;
        life.sandbox.begin_call();
        let reply = match life.sandbox.exports.ninering_fs_vfs().call_reconnect(&mut life.sandbox.store) {
            Ok(vfs::Outcome::Complete(outcome)) => Reply::Complete(state.judge(outcome)),
            Ok(vfs::Outcome::Pending(token)) => {
                let (reply, receiver) = oneshot::channel();
                life.pending.insert(token, Pending { reply, buffers: SmallVec::new(), serial: u64::MAX });
                Reply::Pending(receiver)
            }
            Err(trap) => {
                state.trapped(&trap);
                return Err(Failure::Over);
            }
        };
        state.reap_taken();
        Ok(reply)
    }
}

impl Life {
    /// What recovery has done in this life.
    pub(super) fn recovered(&mut self) -> RecoveryStatistics {
        if self.standing.recoveries == 0 && !self.standing.is_recovering {
            return RecoveryStatistics::default();
        }
        self.sandbox.begin_call();
        match self.sandbox.exports.ninering_fs_vfs().call_recovery(&mut self.sandbox.store) {
            Ok(vfs::Recovered { reconnects, resent, settled, doubtful, stale_fids, lost_locks }) => {
                RecoveryStatistics { reconnects, resent, settled, doubtful, stale_fids, lost_locks }
            }
            // The client has trapped, then or before; whoever called it first has seen that.
            Err(_) => RecoveryStatistics::default(),
        }
    }
}

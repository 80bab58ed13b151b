//! `Tlock`s that wait until another client, or another process of this machine, gives the lock back.
//!
//! Each is a task, and takes a thread only for as long as it tries: however many wait, other requests go on. It ends
//! when it has the lock, when its fid is gone, or when it is cancelled: by a `Tflush`, whose `Rflush` then comes in place of
//! its reply, by a `Tversion`, and by the end of the connection.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use ninering_wire::{Errno, Rmessage};
use tokio::{sync::Notify, task::spawn_blocking, time::sleep};

use super::{buffers::Buffer, connection::Connection, outgoing::Replies};
use crate::{payload::Payload, server::WaitingLock};

/// After how long it is tried again though no client has given a lock back: a process of this machine may have. At first,
/// and at the most; it doubles from time to time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A `Tlock` that waits.
pub(super) struct Locking {
    pub(super) connection: Arc<Connection>,
    pub(super) waiting: WaitingLock,
    pub(super) message: Vec<u8>,
    pub(super) tag: u16,
    /// How many bytes its reply takes at the most.
    pub(super) capacity: usize,
}

impl Locking {
    /// Waits for the lock until `cancelled`, and answers.
    pub(super) async fn wait(self, cancelled: Arc<Notify>) {
        let this = Arc::new(self);
        let mut pause = FIRST_PAUSE;
        let reply = loop {
            // From before it is tried: what is given back meanwhile is not to be missed.
            let mut changed = pin!(this.waiting.changed());
            changed.as_mut().enable();
            if let Some(reply) = Self::attempt(&this).await {
                break Some(reply);
            }
            tokio::select! {
                biased;
                () = cancelled.notified() => break None,
                () = changed => {}
                () = sleep(pause) => pause = (2 * pause).min(LONGEST_PAUSE),
            }
        };
        this.connection.end_request(this.tag, |flushes| match reply {
            Some(buffer) => Some(Replies { buffer, charge: None }),
            None => {
                let buffer = this.reply(|space| Some(this.connection.session.cancel_lock(&this.message, space)));
                buffer.filter(|_| flushes.is_empty()).map(|buffer| Replies { buffer, charge: None })
            }
        });
    }

    /// Tries to take the lock; the reply if that is answered.
    async fn attempt(this: &Arc<Self>) -> Option<Buffer> {
        let try_lock =
            |this: &Self| this.reply(|space| this.connection.session.try_lock(&this.waiting, &this.message, space));
        if this.connection.session.never_waits() {
            return try_lock(this);
        }
        let slot = this.connection.resources.request().await;
        let that = Arc::clone(this);
        let attempt = spawn_blocking(move || {
            let reply = try_lock(&that);
            drop(slot);
            reply
        });
        // It is cancelled when the runtime ends, and this task with it.
        attempt.await.ok().flatten()
    }

    /// A buffer with the reply that `answer` writes, if it does. It has a panic answered `EIO`.
    fn reply(&self, answer: impl FnOnce(&Payload<'_>) -> Option<usize>) -> Option<Buffer> {
        let mut buffer = self.connection.resources.buffers.take(self.capacity);
        let answered = catch_unwind(AssertUnwindSafe(|| answer(&Payload::from(&mut buffer.space()[..self.capacity]))));
        let length = answered.unwrap_or_else(|_| {
            tracing::error!(tag = self.tag, "a lock request panicked, and is answered EIO");
            Some((Rmessage::Rlerror { ecode: Errno::EIO.0 }).encode(self.tag, buffer.space()).unwrap_or(0))
        })?;
        buffer.fill(length);
        Some(buffer)
    }
}

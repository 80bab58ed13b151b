//! Byte-range locks.

use std::{sync::atomic::Ordering, time::Duration};

use ninering_wire::Errno;

use super::{Handle, Result, unexpected, yielded};
use crate::mount::{
    Buffers, FileLock, LockKind, LockRequest,
    calls::Begun,
    component::{
        self,
        memory::Extent,
        types::LockStatus,
        vfs::{Guest, Outcome, Value},
    },
    give_up::Patience,
    operate::Completion,
};

/// After how long a server that cannot keep a request waiting is asked again: at first, and at the most; it doubles from time to
/// time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Handle {
    /// Takes a lock, and waits for as long as another one is in the way. What the same owner holds of the range is changed.
    ///
    /// Locks are advisory. They are had by a mount and an owner together, whichever handle they were taken by, and they are
    /// gone with the handle that they were last taken by.
    ///
    /// # Cancellation
    /// If the future is dropped before, the range is not locked for this owner, not even if it was before.
    pub async fn lock(&self, request: LockRequest) -> Result<()> {
        let mut given_up = Unlock { handle: self, request, is_armed: true };
        let taken = self.wait_for_lock(request).await;
        given_up.is_armed = false;
        taken
    }

    async fn wait_for_lock(&self, request: LockRequest) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            // Each that waits at the server takes room in the ring; when they are many, the others ask from time to time.
            let waiting = Waiting::begin(self);
            let outcome = self.send_lock(Patience::Endless, request, waiting.is_among_few);
            let status = yielded!(outcome.await, LockStatus)?;
            drop(waiting);
            match status {
                LockStatus::Granted => return Ok(()),
                LockStatus::Error => return Err(Errno::ENOLCK.into()),
                LockStatus::Blocked | LockStatus::Grace => {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Takes a lock if nothing is in the way. Tells whether it has.
    pub async fn try_lock(&self, request: LockRequest) -> Result<bool> {
        match yielded!(self.send_lock(Patience::Timeout, request, false).await, LockStatus)? {
            LockStatus::Granted => Ok(true),
            LockStatus::Blocked | LockStatus::Grace => Ok(false),
            LockStatus::Error => Err(Errno::ENOLCK.into()),
        }
    }

    /// Gives back what `owner` holds of `length` bytes from `start` on; of all of them to the file's end where `length` is 0.
    pub async fn unlock(&self, start: u64, length: u64, owner: u32) -> Result<()> {
        let request = LockRequest { kind: LockKind::Unlock, start, length, owner };
        match yielded!(self.send_lock(Patience::ToTheEnd, request, false).await, LockStatus)? {
            LockStatus::Granted => Ok(()),
            LockStatus::Blocked | LockStatus::Grace | LockStatus::Error => Err(Errno::ENOLCK.into()),
        }
    }

    /// A lock that is in the way of this one, if there is one.
    pub async fn test_lock(&self, request: LockRequest) -> Result<Option<FileLock>> {
        let outcome = self
            .mount
            .operate(self.incarnation, Buffers::new(), |vfs, store, _| vfs.call_test_lock(store, self.node, request));
        yielded!(outcome.await, Lock)
    }

    fn send_lock(&self, patience: Patience, request: LockRequest, wait: bool) -> impl Future<Output = Completion> {
        self.mount.operate_with(patience, self.incarnation, Buffers::new(), self.call_lock(request, wait))
    }

    fn call_lock(
        &self,
        request: LockRequest,
        wait: bool,
    ) -> impl FnOnce(&Guest, &mut wasmtime::Store<component::Guest>, &[Extent]) -> wasmtime::Result<Outcome> {
        let node = self.node;
        move |vfs, store, _| vfs.call_lock(store, node, request, wait)
    }
}

/// One of those who wait at the server.
struct Waiting<'h> {
    handle: &'h Handle,
    is_among_few: bool,
}

impl<'h> Waiting<'h> {
    fn begin(handle: &'h Handle) -> Self {
        let most = usize::from(handle.mount.options().queue_size / 8);
        let others = handle.mount.0.waiting_locks.fetch_add(1, Ordering::Relaxed);
        Self { handle, is_among_few: others < most }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.handle.mount.0.waiting_locks.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives a lock back that was perhaps granted with nobody left to know of it.
struct Unlock<'h> {
    handle: &'h Handle,
    request: LockRequest,
    is_armed: bool,
}

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        if self.is_armed {
            let request = LockRequest { kind: LockKind::Unlock, ..self.request };
            // Nobody waits for the answer. Where it is an error, there was no lock.
            let call = self.handle.call_lock(request, false);
            let submit =
                self.handle.mount.submit(self.handle.incarnation, Buffers::new(), |exports, store, extents| {
                    call(exports.ninering_fs_vfs(), store, extents).map(Begun::from)
                });
            drop(submit);
        }
    }
}

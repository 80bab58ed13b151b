//! Byte-range locks.

use std::rc::Rc;

use ninering_wire::{Errno, Lock, LockStatus, LockType, Rmessage, Tmessage, lock};

use super::{Node, NodeNumber, Value, Vfs};
use crate::{
    error::Error,
    lock::FileLock,
    ring::Ring,
    session::{Cleanup, no_payload},
};

/// A lock that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// Shared, exclusive, or none.
    pub kind: LockType,
    /// The first byte.
    pub start: u64,
    /// Bytes; 0 for all to the file's end, however it grows.
    pub length: u64,
    /// Whose it is.
    pub owner: u32,
}

impl<R: Ring> Vfs<R> {
    /// Takes, changes or gives back a lock on an open file. If it is to `wait`, the server is asked to answer when nothing is
    /// in the way any more; it may be unable to.
    ///
    /// # Errors
    /// Those of `fcntl(2)`; `EINTR` where it was cancelled, and then the lock is not held.
    pub async fn lock(&self, number: NodeNumber, request: LockRequest, wait: bool) -> Result<Value, Error> {
        let node = self.lockable(number)?;
        let lock = self.wire_lock(request);
        let flags = if wait && request.kind != LockType::Unlock { lock::FLAGS_BLOCK } else { 0 };
        let status = self.send_lock(&node, &lock, flags).await?;
        if status == LockStatus::Success && request.kind != LockType::Unlock && self.session.take_cancellation() {
            // It was granted as it was given up. Nobody will know of it, so nobody else would give it back.
            let unlock = FileLock { kind: LockType::Unlock, ..lock };
            self.send_lock(&node, &unlock, 0).await?;
            return Err(Errno::EINTR.into());
        }
        Ok(Value::LockStatus(status))
    }

    /// Asks for a lock that is in the way of this one.
    ///
    /// # Errors
    /// Those of `fcntl(2)`.
    pub async fn test_lock(&self, number: NodeNumber, request: LockRequest) -> Result<Value, Error> {
        let node = self.lockable(number)?;
        if request.kind == LockType::Unlock {
            return Err(Errno::EINVAL.into());
        }
        let lock = self.wire_lock(request);
        let message = Tmessage::Tgetlock { fid: node.fid.number(), lock: lock.as_wire() };
        let found = self.session.request(message, Cleanup::Nothing, no_payload, |reply| match reply {
            Rmessage::Rgetlock { lock: Lock { kind: LockType::Unlock, .. } } => Some(None),
            Rmessage::Rgetlock { lock } => Some(Some(FileLock::from(lock))),
            _ => None,
        });
        Ok(Value::Lock(found.await?))
    }

    fn lockable(&self, number: NodeNumber) -> Result<Rc<Node<R>>, Error> {
        let node = self.node(number)?;
        if node.is_open { Ok(node) } else { Err(Errno::EBADF.into()) }
    }

    fn wire_lock(&self, LockRequest { kind, start, length, owner }: LockRequest) -> FileLock {
        FileLock { kind, start, length, proc_id: owner, client_id: self.client_id.borrow().clone() }
    }

    async fn send_lock(&self, node: &Node<R>, lock: &FileLock, flags: u32) -> Result<LockStatus, Error> {
        let Lock { kind, start, length, proc_id, client_id } = lock.as_wire();
        let message = Tmessage::Tlock { fid: node.fid.number(), kind, flags, start, length, proc_id, client_id };
        self.session
            .request(message, Cleanup::Nothing, no_payload, |reply| match reply {
                Rmessage::Rlock { status } => Some(status),
                _ => None,
            })
            .await
    }
}

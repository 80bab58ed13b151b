//! Byte-range locks of remote files.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ninering_wire::{Errno, LockType};

use super::{
    super::component::{
        client::{RMessage, TGetlock, TLock, TMessage},
        types::{FileLock, LockKind, LockStatus},
    },
    file::RelayFile,
};
use crate::backend::{FileIdentity, FileLocks, LockConflict, LockRange, Node as _, OpenRef};

/// A number for a process that has opened one file. To the remote server each open file is a process of its own: which of
/// a relay's clients exclude each other, the relay knows better.
pub(super) fn next_process() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Relaxed)
}

impl RelayFile {
    fn lock(&self, kind: LockType, range: LockRange) -> FileLock {
        let kind = match kind {
            LockType::Read => LockKind::Shared,
            LockType::Write => LockKind::Exclusive,
            LockType::Unlock => LockKind::Unlock,
        };
        let client_id = self.fid.upstream.mount().client_id().as_bytes().to_vec();
        FileLock { kind, start: range.start(), length: range.length(), proc_id: self.process, client_id }
    }
}

impl FileLocks for RelayFile {
    fn identity(&self) -> FileIdentity {
        FileIdentity { filesystem: std::sync::Arc::as_ptr(&self.node.filesystem).addr(), number: self.node.qid.path }
    }

    fn reopen(&self, access: u32) -> Result<OpenRef, Errno> {
        self.node.open(access)
    }

    fn set_lock(&self, kind: LockType, range: LockRange) -> Result<bool, Errno> {
        let message = TLock { fid: self.fid.number(), lock: self.lock(kind, range), flags: 0 };
        match self.fid.call(TMessage::Lock(message))? {
            RMessage::LockStatus(LockStatus::Granted) => Ok(true),
            // Who waits asks again.
            RMessage::LockStatus(LockStatus::Blocked | LockStatus::Grace) => Ok(false),
            RMessage::LockStatus(LockStatus::Error) => Err(Errno::ENOLCK),
            _ => Err(Errno::EIO),
        }
    }

    fn find_conflict(&self, kind: LockType, range: LockRange) -> Result<Option<LockConflict>, Errno> {
        let message = TGetlock { fid: self.fid.number(), lock: self.lock(kind, range) };
        let RMessage::Lock(found) = self.fid.call(TMessage::Getlock(message))? else { return Err(Errno::EIO) };
        let kind = match found.kind {
            LockKind::Unlock => return Ok(None),
            LockKind::Shared => LockType::Read,
            LockKind::Exclusive => LockType::Write,
        };
        let range = LockRange::new(found.start, found.length).map_err(|_| Errno::EIO)?;
        Ok(Some(LockConflict { kind, range, process: Some(found.proc_id) }))
    }
}

//! Byte-range locks of remote files.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ninering_wire::{Errno, LockType};

use super::{
    super::component::{
        client::{RMessage, TGetlock, TLock, TLopen, TMessage},
        types::{FileLock, LockKind, LockStatus},
    },
    file::RelayFile,
};
use crate::backend::{FileIdentity, FileLocks, LockConflict, LockRange, OpenRef};

/// To the remote server, each open file is a process of its own: which of a relay's clients exclude each other, the relay
/// knows better.
pub(super) struct LockOwner {
    client_id: Vec<u8>,
    proc_id: u32,
}

impl LockOwner {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self {
            client_id: format!("ninering-relay-{}", std::process::id()).into_bytes(),
            proc_id: NEXT.fetch_add(1, Relaxed),
        }
    }
}

impl RelayFile {
    fn lock(&self, kind: LockType, range: LockRange) -> FileLock {
        let kind = match kind {
            LockType::Read => LockKind::Shared,
            LockType::Write => LockKind::Exclusive,
            LockType::Unlock => LockKind::Unlock,
        };
        let LockOwner { client_id, proc_id } = &self.owner;
        let (client_id, proc_id) = (client_id.clone(), *proc_id);
        FileLock { kind, start: range.start(), length: range.length(), proc_id, client_id }
    }
}

impl FileLocks for RelayFile {
    fn identity(&self) -> FileIdentity {
        FileIdentity { filesystem: std::sync::Arc::as_ptr(&self.filesystem).addr(), number: self.qid.path }
    }

    fn reopen(&self, access: u32) -> Result<OpenRef, Errno> {
        let fid = self.unopened.duplicate()?;
        match fid.call(TMessage::Lopen(TLopen { fid: fid.number(), flags: access }))? {
            RMessage::Opened((_, iounit)) => Ok(self.again(fid, iounit)),
            _ => Err(Errno::EIO),
        }
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

//! An open regular file.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use ninering_wire::Errno;

use super::{node::DirNode, wire, wire_io};
use crate::{
    backend::{FileLocks, OpenFile},
    payload::Payload,
};

/// A regular file, open.
pub(super) struct RegularFile {
    descriptor: OwnedFd,
    node: Arc<DirNode>,
}

impl RegularFile {
    /// The file `node`, which `descriptor` has open.
    pub(super) fn new(descriptor: OwnedFd, node: Arc<DirNode>) -> Self {
        Self { descriptor, node }
    }

    /// The descriptor that has it open.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The file.
    pub(super) fn node(&self) -> &Arc<DirNode> {
        &self.node
    }

    /// Repeats `transfer` of what is left from an offset on until there is nothing left or it moves nothing.
    ///
    /// An error after the first bytes is not told: it will meet whoever goes on behind them.
    fn transfer(
        &self,
        offset: u64,
        payload: &Payload<'_>,
        transfer: impl Fn(&Payload<'_>, u64) -> std::io::Result<usize>,
    ) -> Result<usize, Errno> {
        let length = payload.len();
        let mut done = transfer(payload, offset).map_err(|error| wire_io(&error))?;
        while 0 < done && done < length {
            let Some(offset) = offset.checked_add(done as u64) else { break };
            match transfer(&payload.part(done, length - done), offset) {
                Ok(0) | Err(_) => break,
                Ok(count) => done += count,
            }
        }
        Ok(done)
    }
}

impl OpenFile for RegularFile {
    fn read(&self, offset: u64, into: &Payload<'_>) -> Result<usize, Errno> {
        self.transfer(offset, into, |left, offset| left.read_from_file(self.descriptor.as_fd(), offset))
    }

    fn read_now(&self, offset: u64, into: &Payload<'_>) -> Result<Option<usize>, Errno> {
        let length = into.len();
        let mut done = 0;
        // That there is no more can only be told by asking once more.
        while done < length {
            let part;
            let left = if done == 0 {
                into
            } else {
                part = into.part(done, length - done);
                &part
            };
            let Some(offset) = offset.checked_add(done as u64) else { break };
            match left.read_from_file_now(self.descriptor.as_fd(), offset) {
                Ok(0) => break,
                Ok(count) => done += count,
                // It is not in memory, or its filesystem does not say; or it will say this again when it may wait.
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(done))
    }

    fn write(&self, offset: u64, from: &Payload<'_>) -> Result<usize, Errno> {
        // Opened to append, Linux appends whatever the offset (`pwrite(2)`, under "BUGS"): just what is wanted here.
        self.transfer(offset, from, |left, offset| left.write_to_file(self.descriptor.as_fd(), offset))
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        rustix::fs::ftruncate(&self.descriptor, size).map_err(wire)
    }

    fn locks(&self) -> Result<&dyn FileLocks, Errno> {
        Ok(self)
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        if data_only { rustix::fs::fdatasync(&self.descriptor) } else { rustix::fs::fsync(&self.descriptor) }
            .map_err(wire)
    }
}

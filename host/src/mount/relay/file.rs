//! Open remote files and directories.

use std::sync::Arc;

use ninering_wire::{Errno, SetAttributes, setattr};

use super::{
    super::component::client::{RMessage, TFsync, TIo, TMessage, TReaddir},
    attributes::qid_of,
    fid::Fid,
    lock::next_process,
    node::{RelayNode, set_attributes},
};
use crate::{
    backend::{Entry, FileLocks, OpenFile, OpenRef},
    payload::Payload,
};

/// Bytes of directory entries that are asked for at a time.
const DIRECTORY_BYTES: u32 = 32 << 10;

/// An open file or directory.
pub(super) struct RelayFile {
    pub(super) fid: Arc<Fid>,
    /// The same file, not open, but where no such fid was to be had.
    pub(super) node: RelayNode,
    /// The number of a process that holds this file's locks.
    pub(super) process: u32,
    /// Bytes that one request of this file's carries at the most.
    request_max: usize,
    /// Does the server say so?
    is_limited: bool,
}

impl RelayFile {
    /// What `fid` is open on, which is `node`.
    pub(super) fn shared(fid: Arc<Fid>, iounit: u32, node: &RelayNode) -> OpenRef {
        let payload_max = fid.upstream.payload_max();
        let is_limited = (1..payload_max).contains(&(iounit as usize));
        let request_max = if is_limited { iounit as usize } else { payload_max };
        Arc::new(Self { fid, node: node.clone(), process: next_process(), request_max, is_limited })
    }
}

impl OpenFile for RelayFile {
    fn read(&self, offset: u64, into: &Payload<'_>) -> Result<usize, Errno> {
        let length = into.len();
        let mut done = 0;
        while done < length {
            // The client splits what is more than a message carries, and has all of it in flight at a time; but what is less
            // than it asked for is the end to it.
            let most = if self.is_limited { self.request_max } else { length };
            let buffer = self.fid.upstream.buffer((length - done).min(most))?;
            let asked = buffer.len();
            let (fid, offset) = (self.fid.number(), offset + done as u64);
            let read = self.fid.transfer(buffer, |buffers| TMessage::Read(TIo { fid, offset, buffers }));
            let (count, buffer) = match read {
                Ok(read) => read,
                // What was read comes first; the error comes again.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            buffer.copy_to(&into.part(done, count));
            done += count;
            if count < asked {
                break;
            }
        }
        Ok(done)
    }

    fn write(&self, offset: u64, from: &Payload<'_>) -> Result<usize, Errno> {
        let length = from.len();
        let mut done = 0;
        while done < length {
            // One after the other: what is appended stays in order.
            let buffer = self.fid.upstream.buffer((length - done).min(self.request_max))?;
            let asked = buffer.len();
            buffer.copy_from(&from.part(done, asked));
            let (fid, offset) = (self.fid.number(), offset + done as u64);
            match self.fid.transfer(buffer, |buffers| TMessage::Write(TIo { fid, offset, buffers })) {
                Ok((count, _)) => {
                    done += count;
                    if count < asked {
                        break;
                    }
                }
                // What was written is said first; the error comes again with the rest.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        set_attributes(&self.fid, &SetAttributes { valid: setattr::SIZE, size, ..SetAttributes::default() })
    }

    fn read_directory(&self, mut offset: u64, take: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), Errno> {
        loop {
            let message = TReaddir { fid: self.fid.number(), offset, count: DIRECTORY_BYTES };
            let RMessage::Entries(entries) = self.fid.call(TMessage::Readdir(message))? else {
                return Err(Errno::EIO);
            };
            for entry in &entries.entries {
                offset = entry.offset;
                if !take(Entry { qid: qid_of(entry.qid), offset, kind: entry.kind, name: &entry.name }) {
                    return Ok(());
                }
            }
            if entries.end || entries.entries.is_empty() {
                return Ok(());
            }
        }
    }

    fn locks(&self) -> Result<&dyn FileLocks, Errno> {
        Ok(self)
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.fid.do_(TMessage::Fsync(TFsync { fid: self.fid.number(), data_only }))
    }
}

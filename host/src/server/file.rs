//! `Tlopen`, `Tlcreate`, `Tread`, `Twrite` and `Tfsync`: open files.

use std::sync::Arc;

use ninering_wire::{Errno, Name, Rmessage, lopen, mode};
use smallvec::SmallVec;

use super::{
    Session,
    fid::{Fid, Opened, Place},
    request::Request,
};

/// What a backend gets of a client's flags. The rest is the client's own affair (`CLOEXEC`), is not for a server to
/// do (`NOCTTY`, `FASYNC`), or asks for what a payload anywhere in memory cannot give (`DIRECT`).
const PASSED_FLAGS: u32 = lopen::ACCMODE
    | lopen::EXCL
    | lopen::TRUNC
    | lopen::APPEND
    | lopen::NONBLOCK
    | lopen::DSYNC
    | lopen::LARGEFILE
    | lopen::DIRECTORY
    | lopen::NOFOLLOW
    | lopen::NOATIME
    | lopen::SYNC;

impl Session {
    /// `Tlopen`; only `Tlcreate` creates, so `CREATE` and `EXCL` are not heeded.
    pub(super) fn lopen(&self, request: &Request, number: u32, flags: u32) -> Result<usize, Errno> {
        let fid = self.fid(request, number)?;
        let flags = flags & PASSED_FLAGS & !lopen::EXCL;
        fid.open(|| Ok(Opened::new(fid.node.open(flags)?, flags)))?;
        request.answer(&Rmessage::Rlopen { qid: fid.node.qid(), iounit: 0 })
    }

    /// `Tlcreate`: the fid of the directory becomes that of the open file, a new one or, without `EXCL`, the one that is
    /// there.
    pub(super) fn lcreate(
        &self,
        request: &Request,
        number: u32,
        name: &[u8],
        flags: u32,
        mode: u32,
        gid: u32,
    ) -> Result<usize, Errno> {
        let name = Name::new(name)?;
        let fid = self.fid(request, number)?;
        let flags = flags & PASSED_FLAGS | lopen::CREATE;
        let qid = fid.while_unopened(|| {
            let (node, file) = fid.node.create(name, flags, mode & mode::PERMISSIONS, fid.attach.group(gid))?;
            let qid = node.qid();
            if qid.kind.is_dir() {
                return Err(Errno::EISDIR);
            }
            let place = Place { directory: Arc::clone(&fid.node), name: SmallVec::from_slice(&name) };
            self.fids.replace(
                number,
                &fid,
                Fid::with_opened(node, Arc::clone(&fid.attach), place, Opened::new(file, flags)),
            )?;
            Ok(qid)
        })?;
        request.answer(&Rmessage::Rlcreate { qid, iounit: 0 })
    }

    /// `Tread`; no more bytes than fit a message.
    pub(super) fn read(&self, request: &Request, fid: u32, offset: u64, count: u32) -> Result<usize, Errno> {
        let fid = self.any_fid(request, fid)?;
        check_range(offset, count)?;
        let read = if let Some(xattr) = fid.xattr() {
            xattr.read(request, offset, count)?
        } else {
            let file = fid.opened()?.readable()?;
            let space = request.payload_space(count);
            let read = match request.now {
                Some(now) if !fid.node.never_waits() => file.read_now(offset, &space)?.ok_or_else(|| now.put_off())?,
                _ => file.read(offset, &space)?,
            };
            read.min(space.len())
        };
        self.count_read(read);
        request.answer_with_payload(&Rmessage::Rread { count: read as u32 }, read)
    }

    /// `Twrite`.
    pub(super) fn write(&self, request: &Request, fid: u32, offset: u64, count: u32) -> Result<usize, Errno> {
        let fid = self.fid_to_write(fid)?;
        check_range(offset, count)?;
        let written = if let Some(xattr) = fid.xattr() {
            xattr.write(request, offset)?
        } else {
            let file = fid.opened()?.writable()?;
            if count == 0 { 0 } else { file.write(offset, request.payload)?.min(count as usize) }
        };
        self.count_written(written);
        request.answer(&Rmessage::Rwrite { count: written as u32 })
    }

    /// `Tfsync`.
    pub(super) fn fsync(&self, request: &Request, fid: u32, datasync: u32) -> Result<usize, Errno> {
        self.fid(request, fid)?.opened()?.any().sync(datasync != 0)?;
        request.answer(&Rmessage::Rfsync {})
    }
}

/// Files end at the largest signed offset, as they do for the system calls.
fn check_range(offset: u64, count: u32) -> Result<(), Errno> {
    match offset.checked_add(u64::from(count)) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

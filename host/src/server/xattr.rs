//! `Txattrwalk` and `Txattrcreate`: fids that stand for an extended attribute.
//!
//! `Txattrwalk` makes a fid of the value as it is at that moment, or of the list of names; `Tread` tells that, however the
//! attribute changes meanwhile. `Txattrcreate` makes a fid take a value by `Twrite`; its `Tclunk` sets the attribute.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use ninering_wire::{Errno, Rmessage, xattr};
use parking_lot::Mutex;

use super::{Session, attach::Attach, request::Request};
use crate::backend::{NodeRef, XattrName};

/// Bytes of values and lists that the fids of one session may hold at a time.
const MOST_HELD: usize = 8 << 20;

/// What a fid that stands for an extended attribute holds.
pub(super) struct XattrFid {
    content: Content,
    _held: Held,
}

enum Content {
    /// A value, or a list of names, to be read.
    Snapshot(Vec<u8>),
    /// A value that is being written.
    Incoming { name: Box<[u8]>, size: usize, flags: u32, value: Mutex<Vec<u8>> },
}

impl XattrFid {
    /// Does it take a value, which is set when the fid is clunked?
    pub(super) fn is_incoming(&self) -> bool {
        matches!(self.content, Content::Incoming { .. })
    }

    /// Copies what is at `offset` into the reply, and tells how many bytes that are. `EBADF` where it is to be written.
    pub(super) fn read(&self, request: &Request, offset: u64, count: u32) -> Result<usize, Errno> {
        let Content::Snapshot(bytes) = &self.content else { return Err(Errno::EBADF) };
        let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        Ok(request.payload_space(count).copy_from(&bytes[start..]))
    }

    /// Takes the payload for the bytes at `offset`, which must not be past those that are there: `EINVAL`. `ENOSPC` for
    /// more than there are to be, `EBADF` where it is to be read.
    pub(super) fn write(&self, request: &Request, offset: u64) -> Result<usize, Errno> {
        let Content::Incoming { size, value, .. } = &self.content else { return Err(Errno::EBADF) };
        let count = request.payload.len();
        let start = usize::try_from(offset).map_err(|_| Errno::ENOSPC)?;
        let end = start.checked_add(count).filter(|end| end <= size).ok_or(Errno::ENOSPC)?;
        let mut value = value.lock();
        if start > value.len() {
            return Err(Errno::EINVAL);
        }
        if value.len() < end {
            value.resize(end, 0);
        }
        Ok(request.payload.copy_to(&mut value[start..end]))
    }

    /// Sets, or removes, the attribute of `node` that was written, on the terms of its attach; to be called when the fid is clunked.
    ///
    /// # Errors
    /// `EINVAL` where fewer bytes came than were announced; the attribute is left alone then.
    pub(super) fn finish(&self, node: &NodeRef, attach: &Attach) -> Result<(), Errno> {
        let Content::Incoming { name, size, flags, value } = &self.content else { return Ok(()) };
        let name = XattrName::new(name)?;
        let mut value = value.lock();
        if value.len() != *size {
            return Err(Errno::EINVAL);
        }
        if let Some(maps) = attach.maps.as_ref().filter(|_| name.is_acl()) {
            maps.take_acl(&mut value)?;
        }
        // What Linux's client makes of `removexattr(2)`.
        if *size == 0 && *flags == xattr::REPLACE {
            node.remove_xattr(name)
        } else {
            node.set_xattr(name, &value, *flags)
        }
    }
}

impl Session {
    /// `Txattrwalk`: the value of an attribute, or with an empty name the list of names, each with a NUL behind it.
    pub(super) fn xattrwalk(&self, request: &Request, fid: u32, newfid: u32, name: &[u8]) -> Result<usize, Errno> {
        let fid = self.fids.get_and_check_free(fid, newfid)?;
        fid.attach.begin(request.changes)?;
        // Before it is asked for: a fid that cannot be made costs nothing.
        let mut held = Held::take(&self.xattr_bytes, xattr::SIZE_MAX)?;
        let (bytes, limit) = match name {
            b"" => (fid.node.list_xattrs()?, xattr::LIST_MAX),
            name => {
                let name = XattrName::new(name)?;
                let mut value = fid.node.xattr(name)?;
                if let Some(maps) = fid.attach.maps.as_ref().filter(|_| name.is_acl()) {
                    maps.show_acl(&mut value);
                }
                (value, xattr::SIZE_MAX)
            }
        };
        if bytes.len() > limit {
            return Err(Errno::E2BIG);
        }
        held.shrink(bytes.len());
        let size = bytes.len() as u64;
        let content = Content::Snapshot(bytes);
        self.fids.insert(newfid, fid.for_xattr(XattrFid { content, _held: held }))?;
        request.answer(&Rmessage::Rxattrwalk { size })
    }

    /// `Txattrcreate`: the fid takes `size` bytes, and is clunked to have them set.
    ///
    /// What `flags` demand is checked now too: clients older than Linux 5.0 do not look at the outcome of the clunk.
    pub(super) fn xattrcreate(
        &self,
        request: &Request,
        number: u32,
        name: &[u8],
        size: u64,
        flags: u32,
    ) -> Result<usize, Errno> {
        let fid = self.fid(request, number)?;
        let name = XattrName::new(name)?;
        if flags & !(xattr::CREATE | xattr::REPLACE) != 0 {
            return Err(Errno::EINVAL);
        }
        let size = usize::try_from(size).ok().filter(|&size| size <= xattr::SIZE_MAX).ok_or(Errno::E2BIG)?;
        if flags != 0 && !name.is_acl() {
            match fid.node.xattr(name) {
                Ok(_) if flags & xattr::CREATE != 0 => return Err(Errno::EEXIST),
                Err(Errno::ENODATA) if flags & xattr::REPLACE != 0 => return Err(Errno::ENODATA),
                Ok(_) | Err(Errno::ENODATA) => {}
                Err(error) => return Err(error),
            }
        }
        fid.while_unopened(|| {
            let held = Held::take(&self.xattr_bytes, size)?;
            let content = Content::Incoming { name: name[..].into(), size, flags, value: Mutex::default() };
            self.fids.replace(number, &fid, fid.for_xattr(XattrFid { content, _held: held }))
        })?;
        request.answer(&Rmessage::Rxattrcreate {})
    }
}

/// A part of the bytes that a session may hold; given back when it is dropped.
struct Held {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// `ENOMEM` where so many are not left.
    fn take(used: &Arc<AtomicUsize>, bytes: usize) -> Result<Self, Errno> {
        let more = |used: usize| used.checked_add(bytes).filter(|&used| used <= MOST_HELD);
        used.fetch_update(Relaxed, Relaxed, more).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { used: Arc::clone(used), bytes })
    }

    /// Gives back all but so many.
    fn shrink(&mut self, bytes: usize) {
        self.used.fetch_sub(self.bytes - bytes, Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Relaxed);
    }
}

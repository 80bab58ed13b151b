//! Extended attributes of a node.
//!
//! The system calls take no `O_PATH` descriptor, but a path. The one they get is the descriptor's in `/proc/self/fd`, by
//! which the kernel reaches the very file that it holds: a symbolic link is not followed, nor a fifo or device opened.
//! What a namespace asks for (`CAP_SYS_ADMIN` for `trusted`, say) the thread has or has not, and the kernel sees to it.

use std::os::fd::AsRawFd;

use ninering_wire::{Errno, xattr};
use rustix::{
    buffer::spare_capacity,
    fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr},
    io::{Errno as HostErrno, Result as HostResult},
};

use super::{node::DirNode, wire};
use crate::backend::XattrName;

/// Most values and lists are no longer than this, in bytes.
const USUAL: usize = 512;

impl DirNode {
    /// The value of the attribute `name`.
    pub(super) fn read_xattr(&self, name: XattrName<'_>) -> Result<Vec<u8>, Errno> {
        let path = self.magic_link();
        whole(xattr::SIZE_MAX, |value| getxattr(&path, &*name, spare_capacity(value)))
    }

    /// The names of all attributes, each with a NUL behind it.
    pub(super) fn read_xattr_names(&self) -> Result<Vec<u8>, Errno> {
        let path = self.magic_link();
        whole(xattr::LIST_MAX, |names| listxattr(&path, spare_capacity(names)))
    }

    /// Sets the attribute `name`.
    pub(super) fn write_xattr(&self, name: XattrName<'_>, value: &[u8], flags: u32) -> Result<(), Errno> {
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        setxattr(self.magic_link(), &*name, value, flags).map_err(wire)
    }

    /// Removes the attribute `name`.
    pub(super) fn erase_xattr(&self, name: XattrName<'_>) -> Result<(), Errno> {
        removexattr(self.magic_link(), &*name).map_err(wire)
    }

    /// The path by which the kernel reaches the file that this node holds.
    fn magic_link(&self) -> String {
        format!("/proc/self/fd/{}", self.descriptor().as_raw_fd())
    }
}

/// What `read` appends to an empty vector, which is at most `limit` bytes.
///
/// One call of `read` gets all of it, so another process that changes it meanwhile never makes it a mixture.
fn whole(limit: usize, read: impl Fn(&mut Vec<u8>) -> HostResult<usize>) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::with_capacity(USUAL);
    match read(&mut bytes) {
        Ok(_) => return Ok(bytes),
        Err(HostErrno::RANGE) => {}
        Err(error) => return Err(wire(error)),
    }
    bytes = Vec::with_capacity(limit);
    read(&mut bytes).map_err(wire)?;
    bytes.shrink_to_fit();
    Ok(bytes)
}

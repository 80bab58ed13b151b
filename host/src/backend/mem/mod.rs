//! A filesystem in memory, gone with its last user.
//!
//! Complete enough to hold and build a source tree: files (sparse ones too), directories, symbolic and hard links,
//! special files as plain inodes, permissions, owners, times and extended attributes, and rename, unlink and link as
//! POSIX has them.
//!
//! It checks permissions itself (`permission`), those of who attached with credentials. Whoever attached without may do
//! anything: it belongs to the process that it lives in.
//!
//! Where to look: `data` (a file's bytes), `directory` (entries), `inode` (what both hang on, attributes), `node` (the
//! operations), `permission` (who may do them), `rename` (the one that takes more than two locks), `space` (limits),
//! `xattr` (extended attributes), `lock` (byte-range locks).
//!
//! # Locks
//! In this order, and never two of a kind but as said: the lock of renames across directories; directories, from the
//! root down (and, where neither is above the other, by inode number, which only a rename across directories does); a
//! file's data; an inode's attributes.

mod acl;
mod data;
mod directory;
mod inode;
mod lock;
mod node;
mod permission;
mod rename;
mod space;
mod xattr;

use std::sync::Arc;

use ninering_wire::{Errno, mode};
use parking_lot::Mutex;

use self::{
    inode::{Content, Inode},
    node::MemNode,
    permission::Actor,
    space::Space,
};
use super::{Backend, NodeRef, User};

/// How much a [`MemBackend`] may hold.
#[derive(Clone, Copy, Debug)]
pub struct MemLimits {
    /// Bytes: of files (what is allocated, so holes are free), names, link targets and extended attributes.
    pub bytes: u64,
    /// Files of all types; each takes a few hundred bytes more.
    pub inodes: u64,
}

impl Default for MemLimits {
    /// 1 GiB in a million files.
    fn default() -> Self {
        Self { bytes: 1 << 30, inodes: 1 << 20 }
    }
}

/// A filesystem in memory. It has one export, whose `aname` is empty or `/`.
pub struct MemBackend {
    root: Arc<Inode>,
}

/// What all inodes of one filesystem share.
struct Filesystem {
    space: Space,
    /// Held by a rename from one directory to another: while it is held, no directory gets another parent.
    across_directories: Mutex<()>,
}

impl MemBackend {
    /// An empty filesystem.
    pub fn new(limits: MemLimits) -> Self {
        let filesystem = Arc::new(Filesystem { space: Space::new(limits), across_directories: Mutex::default() });
        let root = Inode::new(&filesystem, Content::directory(), mode::IFDIR | 0o755, (0, 0), None);
        Self { root }
    }
}

impl Default for MemBackend {
    fn default() -> Self {
        Self::new(MemLimits::default())
    }
}

impl Backend for MemBackend {
    fn attach(&self, user: &User, aname: &[u8]) -> Result<NodeRef, Errno> {
        match aname {
            b"" | b"/" => Ok(MemNode::shared(Arc::clone(&self.root), Actor::new(user))),
            _ => Err(Errno::ENOENT),
        }
    }

    fn checks_permissions(&self) -> bool {
        true
    }

    fn never_waits(&self) -> bool {
        true
    }
}

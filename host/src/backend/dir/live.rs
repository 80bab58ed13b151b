//! The directories that some node holds open now. A node holds those above it open too; without this, each walk from the root
//! would open all those on its way once more.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use ninering_wire::Errno;
use parking_lot::Mutex;
use rustix::fs::{FileType, Statx};

use super::{export::device, node::DirNode};

const SHARDS: usize = 16;

/// The node that a directory was looked up in, and the directory's device and inode. As long as there is an entry for it, the
/// directory's node holds both.
type Key = (usize, u64, u64);

/// Directories that are held open, by the node that they were looked up in.
#[derive(Default)]
pub(super) struct LiveDirectories {
    shards: [Mutex<HashMap<Key, Weak<DirNode>>>; SHARDS],
}

impl LiveDirectories {
    /// The node that holds the file of `stat`, which was just looked up in `parent`, already, if it is a directory;
    /// otherwise the one that `new` makes.
    pub(super) fn share(
        &self,
        parent: &Arc<DirNode>,
        stat: &Statx,
        new: impl FnOnce() -> Result<Arc<DirNode>, Errno>,
    ) -> Result<Arc<DirNode>, Errno> {
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory {
            return new();
        }
        let key = key(parent, device(stat), stat.stx_ino);
        // A node that is dropped looks in here itself: none may be while this is locked.
        let live = self.shard(&key).lock().get(&key).and_then(Weak::upgrade);
        if let Some(live) = live.filter(|live| live.is_the_one(stat)) {
            return Ok(live);
        }
        let node = new()?;
        if node.can_be_known_again() {
            self.shard(&key).lock().insert(key, Arc::downgrade(&node));
        }
        Ok(node)
    }

    /// To be called when the node of a directory is dropped.
    pub(super) fn forget(&self, parent: &Arc<DirNode>, device: u64, inode: u64) {
        let key = key(parent, device, inode);
        let mut shard = self.shard(&key).lock();
        // Another may have taken its place.
        if shard.get(&key).is_some_and(|node| node.strong_count() == 0) {
            shard.remove(&key);
        }
    }

    fn shard(&self, &(parent, _, inode): &Key) -> &Mutex<HashMap<Key, Weak<DirNode>>> {
        &self.shards[(parent >> 6 ^ inode as usize) % SHARDS]
    }
}

fn key(parent: &Arc<DirNode>, device: u64, inode: u64) -> Key {
    (Arc::as_ptr(parent).addr(), device, inode)
}

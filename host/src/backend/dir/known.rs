//! Directories that were looked up lately, kept open so that a walk through them need not open them again.

use std::sync::Arc;

use ninering_wire::Name;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType};
use smallvec::SmallVec;

use super::{export::Export, node::DirNode};

/// How many places there are, and how many directories each keeps.
const SETS: usize = 16;
const WAYS: usize = 4;

/// A directory that is further below the root than this is not kept: it keeps all those above it open too.
const DEEPEST: u16 = 8;

/// Directories that were looked up lately, by the node that they were looked up in and their name there.
///
/// That a name led to a directory proves nothing about the next time. So each time the kernel is asked what the name
/// leads to now, by that one name and without following it. Only if that is the very directory, it need not be opened:
/// one system call instead of three. Nothing is told from memory.
///
/// (To open a path of several names at once would save no more. A walk's reply tells the qid of each directory on the
/// way, and there is no `statx` that stays beneath a directory: by a path of two names it would follow a symbolic link
/// that was put in the first one's place meanwhile.)
#[derive(Default)]
pub(super) struct KnownDirectories {
    sets: [Mutex<Set>; SETS],
}

#[derive(Default)]
struct Set {
    ways: [Option<Known>; WAYS],
    /// The one that is replaced next.
    oldest: usize,
}

struct Known {
    /// Holds the node that it was looked up in, as its parent: no other can be at that address.
    node: Arc<DirNode>,
    name: SmallVec<[u8; 24]>,
}

impl Known {
    fn is(&self, parent: &DirNode, name: Name<'_>) -> bool {
        self.node.is_below(parent) && self.name[..] == *name.as_bytes()
    }
}

impl KnownDirectories {
    /// The directory `name` of `parent`, if it is known and has that name now.
    pub(super) fn find(&self, parent: &DirNode, name: Name<'_>) -> Option<Arc<DirNode>> {
        let set = self.set(parent, name);
        let known = set.lock().ways.iter().flatten().find(|known| known.is(parent, name))?.node.clone();
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(parent, name.as_bytes(), flags, Export::IDENTITY) {
            Ok(stat) if known.is_the_one(&stat) => Some(known),
            _ => {
                self.forget(parent, name);
                None
            }
        }
    }

    /// Keeps `node`, which was just looked up as `name`, if it is a directory that can be known again.
    pub(super) fn keep(&self, parent: &DirNode, name: Name<'_>, node: &Arc<DirNode>) {
        if node.file_type() != FileType::Directory || !node.can_be_known_again() || node.depth() > DEEPEST {
            return;
        }
        let known = Known { node: Arc::clone(node), name: SmallVec::from_slice(name.as_bytes()) };
        let mut set = self.set(parent, name).lock();
        let same = set.ways.iter().position(|way| way.as_ref().is_some_and(|other| other.is(parent, name)));
        let way = same.or_else(|| set.ways.iter().position(Option::is_none)).unwrap_or_else(|| {
            set.oldest = (set.oldest + 1) % WAYS;
            set.oldest
        });
        let replaced = set.ways[way].replace(known);
        // To drop it closes files: not with others waiting.
        drop(set);
        drop(replaced);
    }

    /// Lets go of the directory `name` of `parent`.
    pub(super) fn forget(&self, parent: &DirNode, name: Name<'_>) {
        let mut set = self.set(parent, name).lock();
        let way = set.ways.iter_mut().find(|way| way.as_ref().is_some_and(|known| known.is(parent, name)));
        let forgotten = way.and_then(Option::take);
        drop(set);
        drop(forgotten);
    }

    /// Lets go of all.
    pub(super) fn clear(&self) {
        for set in &self.sets {
            let forgotten = std::mem::take(&mut *set.lock());
            drop(forgotten);
        }
    }

    fn set(&self, parent: &DirNode, name: Name<'_>) -> &Mutex<Set> {
        // FNV-1a. Names that collide on purpose only make each other slower to find.
        let step = |hash: u64, byte: u64| (hash ^ byte).wrapping_mul(0x100_0000_01b3);
        let hash = name
            .as_bytes()
            .iter()
            .fold(step(0xcbf2_9ce4_8422_2325, parent.number()), |hash, &byte| step(hash, byte.into()));
        &self.sets[(hash >> 32) as usize % SETS]
    }
}

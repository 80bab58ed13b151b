//! A directory's entries.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ninering_wire::{Errno, Name};

use super::{inode::Inode, space::Space};

/// What an entry takes of the space besides its name, in bytes: about its share of the two maps.
const ENTRY_COST: u64 = 128;

/// The entries of a directory.
///
/// Each gets a number when it is made, and numbers are never used twice: they are the offsets of a listing, which so
/// neither misses nor repeats an entry that stays, whatever is made and removed meanwhile.
#[derive(Default)]
pub(super) struct Directory {
    by_name: HashMap<Arc<[u8]>, (u64, Arc<Inode>)>,
    by_number: BTreeMap<u64, (Arc<[u8]>, Arc<Inode>)>,
    last_number: u64,
    removed: bool,
}

impl Directory {
    /// The file of that name.
    pub(super) fn get(&self, name: Name<'_>) -> Option<&Arc<Inode>> {
        self.by_name.get(name.as_bytes()).map(|(_, inode)| inode)
    }

    /// A name of `inode` here. It looks at all entries.
    pub(super) fn name_of(&self, inode: &Arc<Inode>) -> Option<Vec<u8>> {
        let mut entries = self.by_number.values();
        entries.find(|(_, other)| Arc::ptr_eq(other, inode)).map(|(name, _)| name.to_vec())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// `ENOENT` once the directory itself was removed: nothing is made in it any more.
    pub(super) fn check_there(&self) -> Result<(), Errno> {
        if self.removed { Err(Errno::ENOENT) } else { Ok(()) }
    }

    /// Notes that the directory itself was removed; it is empty.
    pub(super) fn set_removed(&mut self) {
        self.removed = true;
    }

    /// Makes `name`, which is not there, stand for `inode`. `ENOSPC` where there is no space for it.
    pub(super) fn insert(&mut self, name: Name<'_>, inode: Arc<Inode>, space: &Space) -> Result<(), Errno> {
        space.take_bytes(cost(&name))?;
        self.place(Arc::from(name.as_bytes()), inode);
        Ok(())
    }

    /// Makes `name`, which is there, stand for `inode`, and returns the file that it stood for.
    pub(super) fn replace(&mut self, name: Name<'_>, inode: Arc<Inode>) -> Option<Arc<Inode>> {
        let (name, (number, replaced)) = self.by_name.remove_entry(name.as_bytes())?;
        self.by_number.remove(&number);
        self.place(name, inode);
        Some(replaced)
    }

    /// Removes `name`.
    pub(super) fn remove(&mut self, name: Name<'_>, space: &Space) -> Option<Arc<Inode>> {
        let (number, inode) = self.by_name.remove(name.as_bytes())?;
        self.by_number.remove(&number);
        space.return_bytes(cost(&name));
        Some(inode)
    }

    /// The entries whose numbers are greater than `number`, in order.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = (u64, &[u8], &Inode)> {
        let from = number.checked_add(1).map(|from| self.by_number.range(from..));
        from.into_iter().flatten().map(|(&number, (name, inode))| (number, &**name, &**inode))
    }

    /// Removes all entries, of a filesystem that is going.
    pub(super) fn drain(&mut self, space: &Space) -> impl Iterator<Item = Arc<Inode>> + use<> {
        self.by_number.clear();
        let entries = std::mem::take(&mut self.by_name);
        space.return_bytes(entries.keys().map(|name| cost(name)).sum());
        entries.into_values().map(|(_, inode)| inode)
    }

    fn place(&mut self, name: Arc<[u8]>, inode: Arc<Inode>) {
        self.last_number += 1;
        self.by_number.insert(self.last_number, (Arc::clone(&name), Arc::clone(&inode)));
        self.by_name.insert(name, (self.last_number, inode));
    }
}

fn cost(name: &[u8]) -> u64 {
    ENTRY_COST + name.len() as u64
}

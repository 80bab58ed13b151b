//! Renames, which may need two directories at once.

use std::sync::Arc;

use ninering_wire::{Errno, Name};
use parking_lot::RwLockWriteGuard;

use super::{
    directory::Directory,
    inode::{Inode, Time},
    permission::{Actor, SEARCH, WRITE},
};

/// Renames `old_name` of the directory `old` to `new_name` of the directory `new`, as rename(2) does.
///
/// # Errors
/// rename(2)'s. `ENOENT` too where `new` was removed.
pub(super) fn rename(
    actor: &Actor,
    old: &Arc<Inode>,
    old_name: Name<'_>,
    new: &Arc<Inode>,
    new_name: Name<'_>,
) -> Result<(), Errno> {
    let across = !Arc::ptr_eq(old, new);
    let _topology = across.then(|| old.filesystem.across_directories.lock());
    let mut locked = Locked::lock(old, new)?;
    locked.new_entries().check_there()?;

    actor.check(old, SEARCH)?;
    let source = Arc::clone(locked.old_entries().get(old_name).ok_or(Errno::ENOENT)?);
    if across && source.is_directory() && is_within(new, &source) {
        return Err(Errno::EINVAL);
    }
    let target = locked.new_entries().get(new_name).map(Arc::clone);
    actor.check_remove(old, &source)?;
    match &target {
        Some(target) => actor.check_remove(new, target)?,
        None => actor.check_make(new)?,
    }
    if across && source.is_directory() {
        // Its `..` changes.
        actor.check(&source, WRITE)?;
    }
    match &target {
        Some(target) if Arc::ptr_eq(&source, target) => return Ok(()),
        // It has the old directory in it, so it is not empty. (And may be the old directory, which is locked.)
        Some(target) if across && target.is_directory() && is_within(old, target) => return Err(Errno::ENOTEMPTY),
        Some(target) => match (source.is_directory(), target.directory()) {
            (true, Err(_)) => return Err(Errno::ENOTDIR),
            (false, Ok(_)) => return Err(Errno::EISDIR),
            (true, Ok(replaced)) => {
                let mut replaced = replaced.write();
                if !replaced.is_empty() {
                    return Err(Errno::ENOTEMPTY);
                }
                replaced.set_removed();
            }
            (false, Err(_)) => {}
        },
        None => {}
    }

    let space = &old.filesystem.space;
    if target.is_some() {
        locked.new_entries().replace(new_name, Arc::clone(&source));
    } else {
        locked.new_entries().insert(new_name, Arc::clone(&source), space)?;
    }
    locked.old_entries().remove(old_name, space);

    source.stored.lock().ctime = Time::now();
    if across {
        source.set_parent(new);
    }
    let replaced = if let Some(target) = &target {
        target.name_removed();
        i64::from(target.is_directory())
    } else {
        0
    };
    let moved = i64::from(source.is_directory());
    if across {
        old.entry_changed(-moved);
        new.entry_changed(moved - replaced);
    } else {
        old.entry_changed(-replaced);
    }
    // Freeing what was replaced may take a while: not with directories locked.
    drop(locked);
    drop(target);
    Ok(())
}

/// The two directories of a rename, locked.
enum Locked<'a> {
    /// They are the same.
    One(RwLockWriteGuard<'a, Directory>),
    Two {
        old: RwLockWriteGuard<'a, Directory>,
        new: RwLockWriteGuard<'a, Directory>,
    },
}

impl<'a> Locked<'a> {
    /// Locks them in the order that the module [`mem`](super) states.
    fn lock(old: &'a Arc<Inode>, new: &'a Arc<Inode>) -> Result<Self, Errno> {
        let (old_entries, new_entries) = (old.directory()?, new.directory()?);
        if Arc::ptr_eq(old, new) {
            return Ok(Self::One(old_entries.write()));
        }
        let old_first = is_within(new, old) || !is_within(old, new) && old.number() < new.number();
        Ok(if old_first {
            let old = old_entries.write();
            Self::Two { old, new: new_entries.write() }
        } else {
            let new = new_entries.write();
            Self::Two { old: old_entries.write(), new }
        })
    }

    fn old_entries(&mut self) -> &mut Directory {
        match self {
            Self::One(entries) | Self::Two { old: entries, .. } => entries,
        }
    }

    fn new_entries(&mut self) -> &mut Directory {
        match self {
            Self::One(entries) | Self::Two { new: entries, .. } => entries,
        }
    }
}

/// Is the directory `inode` the directory `above`, or somewhere below it? Needs the lock of renames across directories.
fn is_within(inode: &Arc<Inode>, above: &Arc<Inode>) -> bool {
    let mut at = Some(Arc::clone(inode));
    while let Some(directory) = at {
        if Arc::ptr_eq(&directory, above) {
            return true;
        }
        at = directory.parent();
    }
    false
}

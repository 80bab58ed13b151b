//! Who may do what: what Linux asks before each operation, of those who attached with credentials.
//!
//! Owner, group and others by the mode, ACLs, sticky directories, and what only the owner or root may. Whoever attached without
//! credentials may do anything.

use std::sync::Arc;

use ninering_wire::{Errno, SetAttributes, mode, setattr};

use super::inode::{Inode, Stored};
use crate::backend::{Credentials, Overrides, User, XattrName};

/// What is wanted of a file: bits as in a mode's last digit.
pub(super) const READ: u32 = 4;
/// To write to a file; of a directory, to make and remove entries, together with [`SEARCH`].
pub(super) const WRITE: u32 = 2;
/// To look for an entry of a directory.
pub(super) const SEARCH: u32 = 1;

const STICKY: u32 = 0o1000;
const SET_GROUP_ID: u32 = 0o2000;

/// Somebody who attached.
#[derive(Clone)]
pub(super) struct Actor {
    /// Who owns what is made.
    uid: u32,
    /// Whose permissions are checked; nobody's if there are none.
    credentials: Option<Arc<Credentials>>,
}

impl Actor {
    pub(super) fn new(user: &User) -> Self {
        let credentials = user.credentials.clone();
        Self { uid: credentials.as_ref().map_or(user.uid.unwrap_or(0), |user| user.uid), credentials }
    }

    /// Who owns what is made.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// May a write keep set-id bits?
    pub(super) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The one whose permissions are to be checked: nobody, where all is allowed.
    fn checked(&self) -> Option<&Credentials> {
        self.credentials.as_deref().filter(|user| user.uid != 0 && user.overrides == Overrides::Nothing)
    }

    /// The group of what is made, of the one that is asked for.
    pub(super) fn group(&self, asked: u32) -> u32 {
        match (&self.credentials, self.checked()) {
            (_, Some(user)) if !user.has_group(asked) => user.gid,
            (Some(user), None) if asked == !0 => user.gid,
            (None, _) if asked == !0 => 0,
            _ => asked,
        }
    }

    /// `EACCES` unless all of `wanted` is allowed.
    pub(super) fn check(&self, inode: &Inode, wanted: u32) -> Result<(), Errno> {
        let Some(user) = self.checked() else { return Ok(()) };
        if allows(&inode.stored.lock(), user, wanted) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// As [`Self::check`] of a directory in which an entry is made.
    pub(super) fn check_make(&self, directory: &Inode) -> Result<(), Errno> {
        self.check(directory, WRITE | SEARCH)
    }

    /// May `entry` be removed from `directory`? `EPERM` where the directory is sticky and neither it nor the entry is one's
    /// own.
    pub(super) fn check_remove(&self, directory: &Inode, entry: &Inode) -> Result<(), Errno> {
        let Some(user) = self.checked() else { return Ok(()) };
        self.check(directory, WRITE | SEARCH)?;
        let (sticky, owner) = {
            let stored = directory.stored.lock();
            (stored.mode & STICKY != 0, stored.uid)
        };
        if sticky && owner != user.uid && entry.stored.lock().uid != user.uid { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// May one make devices? `EPERM` where not.
    pub(super) fn check_devices(&self) -> Result<(), Errno> {
        if self.checked().is_some() { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// May attributes be changed so? `writable`: through an open file that may be written to.
    ///
    /// `EPERM` for what is only the owner's or root's, `EACCES` for what who may write may too.
    pub(super) fn check_change(&self, inode: &Inode, changes: &SetAttributes) -> Result<(), Errno> {
        let Some(user) = self.checked() else { return Ok(()) };
        let stored = inode.stored.lock();
        let asked = |bits| changes.valid & bits != 0;
        let is_owner = stored.uid == user.uid;
        if asked(setattr::UID) && changes.uid != !0 && !(is_owner && changes.uid == stored.uid) {
            return Err(Errno::EPERM);
        }
        let own_group = |gid| gid == stored.gid || user.has_group(gid);
        if asked(setattr::GID) && changes.gid != !0 && !(is_owner && own_group(changes.gid)) {
            return Err(Errno::EPERM);
        }
        if asked(setattr::MODE) && !is_owner {
            return Err(Errno::EPERM);
        }
        if asked(setattr::SIZE) && !allows(&stored, user, WRITE) {
            return Err(Errno::EACCES);
        }
        let times = changes.valid & (setattr::ATIME | setattr::MTIME);
        let given = asked(setattr::ATIME_SET | setattr::MTIME_SET);
        // A new size brings the time of change along.
        let by_size = asked(setattr::SIZE) && times == setattr::MTIME && !given;
        if times != 0 && !is_owner && !by_size {
            if given || times != setattr::ATIME | setattr::MTIME {
                return Err(Errno::EPERM);
            }
            if !allows(&stored, user, WRITE) {
                return Err(Errno::EACCES);
            }
        }
        Ok(())
    }

    /// The permissions that a file of the group `gid` gets of those that are asked for: who is not in the group cannot
    /// make it set-group-id.
    pub(super) fn mode(&self, asked: u32, gid: u32) -> u32 {
        match self.checked() {
            Some(user) if !user.has_group(gid) => asked & mode::PERMISSIONS & !SET_GROUP_ID,
            _ => asked & mode::PERMISSIONS,
        }
    }

    /// May the attribute `name` be read, or changed? That of `user` by who may read or write the file, an ACL by all
    /// and the owner, `security` by all and root; `trusted` is root's alone: `ENODATA` or `EPERM` to others.
    pub(super) fn check_xattr(&self, inode: &Inode, name: XattrName<'_>, changes: bool) -> Result<(), Errno> {
        let Some(user) = self.checked() else { return Ok(()) };
        let stored = inode.stored.lock();
        let allowed = |wanted| if allows(&stored, user, wanted) { Ok(()) } else { Err(Errno::EACCES) };
        match name.namespace() {
            b"user" if !changes => allowed(READ),
            b"user" => {
                let sticky = stored.mode & mode::IFMT == mode::IFDIR && stored.mode & STICKY != 0;
                if sticky && stored.uid != user.uid { Err(Errno::EPERM) } else { allowed(WRITE) }
            }
            b"trusted" => Err(if changes { Errno::EPERM } else { Errno::ENODATA }),
            _ if !changes => Ok(()),
            _ if name.is_acl() && stored.uid == user.uid => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    /// Is the attribute `name` listed for this one?
    pub(super) fn sees_xattr(&self, name: &[u8]) -> bool {
        self.checked().is_none() || !name.starts_with(b"trusted.")
    }
}

/// Does the mode, or the ACL, give `user` all of `wanted`?
fn allows(stored: &Stored, user: &Credentials, wanted: u32) -> bool {
    let granted = if stored.uid == user.uid {
        stored.mode >> 6
    } else if let Some(allowed) = stored.acl_allows(user, wanted) {
        return allowed;
    } else if user.has_group(stored.gid) {
        stored.mode >> 3
    } else {
        stored.mode
    };
    granted & wanted == wanted
}

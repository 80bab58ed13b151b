//! What a server serves: the one trait behind which every filesystem stands.
//!
//! A [`Backend`] hands out [`Node`]s, a session holds one per fid, and a node opens as an [`OpenFile`]. All three
//! are shared between threads and must allow calls from several at a time; each call is one filesystem operation and is
//! atomic as its system call would be. Errors are the errno that the client sees.
//!
//! A node stands for a *file*, not for a path: it goes on standing for it when the file is renamed or unlinked.

mod dir;
pub(crate) mod lock;
mod mem;
mod user;
mod xattr_name;

use std::{any::Any, sync::Arc};

use ninering_wire::{Attributes, Errno, Name, Qid, SetAttributes, Statfs};

pub use self::{
    dir::{DirBackend, DirError, DirOptions},
    lock::{FileIdentity, FileLocks, LockConflict, LockRange},
    mem::{MemBackend, MemLimits},
    user::{Credentials, Overrides, User},
    xattr_name::XattrName,
};
use crate::payload::Payload;

/// A file or directory, shared.
pub type NodeRef = Arc<dyn Node>;
/// An open file or directory, shared.
pub type OpenRef = Arc<dyn OpenFile>;

/// A filesystem.
pub trait Backend: Send + Sync + 'static {
    /// The root of the export `aname`, for `user`.
    ///
    /// # Errors
    /// `ENOENT` where there is no such export.
    fn attach(&self, user: &User, aname: &[u8]) -> Result<NodeRef, Errno>;

    /// Does it check permissions itself, against the credentials of the attach? If not, a server makes each of its calls
    /// on a thread that has that user's rights.
    fn checks_permissions(&self) -> bool {
        false
    }

    /// Does no call here ever wait for anything slower than memory? Then a server need not move them to threads.
    fn never_waits(&self) -> bool {
        false
    }

    /// Does every call here wait, for another machine? Then a server makes none on a thread that reads requests.
    fn always_waits(&self) -> bool {
        false
    }

    /// The server ends, and its sessions have: waits a moment for what is under way elsewhere.
    fn finish(&self) {}
}

/// A file, of whatever type.
///
/// The defaults of what only some files can do say why not: `ENOTDIR` to what one asks of a directory,
/// `EINVAL` to a link's target, `EOPNOTSUPP` to the rest.
#[allow(unused_variables, reason = "the defaults ignore theirs")]
pub trait Node: Any + Send + Sync {
    /// The file's identity, as it was when this node was made; only its `version` can have changed.
    fn qid(&self) -> Qid;

    /// Does nothing that is done with this file ever wait for anything slower than memory? Then a server need not move
    /// that to a thread.
    fn never_waits(&self) -> bool {
        false
    }

    /// Does all that is done with this file wait, for another machine? [`Backend::always_waits`].
    fn always_waits(&self) -> bool {
        false
    }

    /// The entry `name` of this directory; a symbolic link itself, not what it leads to.
    fn lookup(&self, name: Name<'_>) -> Result<NodeRef, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// The attributes of the entry `name` of this directory: [`Self::lookup`] and [`Self::attributes`] in one, for who
    /// wants no more.
    fn attributes_of(&self, name: Name<'_>, request_mask: u64) -> Result<Attributes, Errno> {
        self.lookup(name)?.attributes(request_mask)
    }

    /// The directory that this node was reached from; `None` for an export's root.
    fn parent(&self) -> Result<Option<NodeRef>, Errno>;

    /// A directory that this file is in now, and its name there, whatever it was renamed to since it was reached.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an export's root, or where that cannot be told; `ENOENT` where it has no name any more.
    fn locate(&self) -> Result<(NodeRef, Vec<u8>), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The attributes; at least those of `request_mask` that this filesystem has.
    fn attributes(&self, request_mask: u64) -> Result<Attributes, Errno>;

    /// Changes attributes.
    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno>;

    /// Opens it as `flags` say (those of [`ninering_wire::lopen`]).
    fn open(&self, flags: u32) -> Result<OpenRef, Errno>;

    /// Makes a regular file in this directory and opens it. Its group, as that of all new files, is `gid`; where that is
    /// `!0`, the one that the filesystem gives it. An existing one is opened unless `flags` has `EXCL`.
    fn create(&self, name: Name<'_>, flags: u32, mode: u32, gid: u32) -> Result<(NodeRef, OpenRef), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Makes a directory in this one.
    fn make_directory(&self, name: Name<'_>, mode: u32, gid: u32) -> Result<Qid, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Makes a symbolic link in this directory.
    fn symlink(&self, name: Name<'_>, target: &[u8], gid: u32) -> Result<Qid, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Makes a special file in this directory; `device` is (major, minor).
    fn make_node(&self, name: Name<'_>, mode: u32, device: (u32, u32), gid: u32) -> Result<Qid, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The target of this symbolic link.
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Makes `name` in this directory a hard link to `file`, a node of the same backend.
    fn link(&self, name: Name<'_>, file: &dyn Node) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Renames `name` of this directory to `new_name` of `new_directory`, a node of the same backend.
    fn rename(&self, name: Name<'_>, new_directory: &dyn Node, new_name: Name<'_>) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// As [`Self::rename`], of this file by whatever name it has now; `None` where a filesystem has to be told the name.
    fn rename_itself(&self, new_directory: &dyn Node, new_name: Name<'_>) -> Option<Result<(), Errno>> {
        None
    }

    /// Removes `name` from this directory: a directory where `directory` says so, anything else where not.
    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// As [`Self::unlink`], of this file by whatever name it has now; `None` where a filesystem has to be told the name.
    fn remove_itself(&self) -> Option<Result<(), Errno>> {
        None
    }

    /// The value of the extended attribute `name`: all of it, as it was at one moment.
    ///
    /// # Errors
    /// `ENODATA` where there is none, `EOPNOTSUPP` where there can be none of that name.
    fn xattr(&self, name: XattrName<'_>) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The names of the extended attributes, each with a NUL behind it, as `listxattr(2)` tells them.
    fn list_xattrs(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute. `flags` are those of [`ninering_wire::xattr`]; `value` may be empty.
    ///
    /// # Errors
    /// As `setxattr(2)`: `EEXIST` and `ENODATA` as `flags` say, `ENOSPC`, `EOPNOTSUPP`, `EPERM`.
    fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute; `ENODATA` where there is none.
    fn remove_xattr(&self, name: XattrName<'_>) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The figures of the filesystem that this file lies in.
    fn statfs(&self) -> Result<Statfs, Errno>;
}

/// An entry of a directory, on its way into a reply.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The file's identity.
    pub qid: Qid,
    /// Where to go on after this entry.
    pub offset: u64,
    /// What kind of file it is: one of [`ninering_wire::dirent_type`].
    pub kind: u8,
    /// Its name.
    pub name: &'a [u8],
}

/// An open file or directory. It works on after the file was unlinked or renamed.
#[allow(unused_variables, reason = "the defaults ignore theirs")]
pub trait OpenFile: Send + Sync {
    /// Reads at `offset` (bytes) into the front of `into`; fewer bytes than there is space for only at the end.
    fn read(&self, offset: u64, into: &Payload<'_>) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    /// As [`Self::read`], if it need not wait for anything slower than memory; `None` if it would have to, or may.
    fn read_now(&self, offset: u64, into: &Payload<'_>) -> Result<Option<usize>, Errno> {
        Ok(None)
    }

    /// Writes the bytes of `from` at `offset`; to the end, whatever `offset` says, where it was opened to append.
    fn write(&self, offset: u64, from: &Payload<'_>) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    /// Changes the size, of a file that is open for writing: whatever its permissions are by now. `EOPNOTSUPP` where the
    /// [node](Node::set_attributes) has to be asked instead.
    fn set_size(&self, size: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives entries to `take` from `offset` on (0, or an entry's), until it answers `false`; `.` and `..` too.
    fn read_directory(&self, offset: u64, take: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Its byte-range locks.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where it can have none.
    fn locks(&self) -> Result<&dyn FileLocks, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes what was written durable: only the data, and what is needed to find it, where `data_only`.
    fn sync(&self, data_only: bool) -> Result<(), Errno>;
}

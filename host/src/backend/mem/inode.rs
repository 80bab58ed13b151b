//! An inode: a file of any type, with its attributes.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use ninering_wire::{Attributes, Errno, Qid, QidType, getattr};
use parking_lot::{Mutex, RwLock};
use rustix::time::{ClockId, clock_gettime};

use super::{Filesystem, data::Data, directory::Directory, lock::Locks, xattr::Xattrs};

/// The most names that a file can have, as on ext4.
pub(super) const LINK_MAX: u64 = 65_000;
/// The set-user-id and set-group-id bits of a mode.
const SET_IDS: u32 = 0o6000;
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// A point in time; the older is the lesser.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u64,
}

impl Time {
    /// By the clock that a kernel stamps files with: cheap, and exact to some milliseconds.
    pub(super) fn now() -> Self {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        Self { seconds: now.tv_sec, nanoseconds: now.tv_nsec as u64 }
    }
}

/// The attributes that can be changed.
pub(super) struct Stored {
    /// Type and permissions; the type never changes.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u64,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    btime: Time,
    pub(super) xattrs: Xattrs,
}

impl Stored {
    /// Notes a change of the contents.
    pub(super) fn modified(&mut self) {
        self.mtime = Time::now();
        self.ctime = self.mtime;
    }

    /// Takes the set-id bits away, as a write by somebody without privileges does: the set-group-id bit stays where
    /// it does not mean execution.
    pub(super) fn drop_set_ids(&mut self) {
        if self.mode & SET_IDS != 0 {
            let both = self.mode & GROUP_EXECUTE != 0;
            self.mode &= !(if both { SET_IDS } else { SET_USER_ID });
        }
    }
}

/// What a file is, and has in it.
pub(super) enum Content {
    File(RwLock<Data>),
    Directory(RwLock<Directory>),
    /// The target. Its length was taken of the space.
    Symlink(Box<[u8]>),
    /// A fifo, socket or device, with the device that it stands for.
    Special(u64),
}

impl Content {
    pub(super) fn file() -> Self {
        Self::File(RwLock::default())
    }

    pub(super) fn directory() -> Self {
        Self::Directory(RwLock::default())
    }
}

/// A file of any type.
pub(super) struct Inode {
    pub(super) filesystem: Arc<Filesystem>,
    number: u64,
    kind: QidType,
    dirent_type: u8,
    pub(super) content: Content,
    pub(super) stored: Mutex<Stored>,
    pub(super) locks: Mutex<Locks>,
    /// Counts changes of the contents.
    version: AtomicU64,
    /// A directory's parent, also after its removal. Of another file, the directory where it last got a name.
    parent: Mutex<Weak<Inode>>,
}

impl Inode {
    /// An inode for which one was taken of the space; with one link, a directory with two.
    pub(super) fn new(
        filesystem: &Arc<Filesystem>,
        content: Content,
        mode: u32,
        (uid, gid): (u32, u32),
        parent: Option<&Arc<Inode>>,
    ) -> Arc<Self> {
        let now = Time::now();
        let nlink = if matches!(content, Content::Directory(_)) { 2 } else { 1 };
        let stored =
            Stored { mode, uid, gid, nlink, atime: now, mtime: now, ctime: now, btime: now, xattrs: Xattrs::default() };
        Arc::new(Self {
            filesystem: Arc::clone(filesystem),
            number: filesystem.space.next_number(),
            kind: QidType::from_mode(mode),
            dirent_type: (mode >> 12) as u8 & 0xf,
            content,
            stored: Mutex::new(stored),
            locks: Mutex::default(),
            version: AtomicU64::new(1),
            parent: Mutex::new(parent.map(Arc::downgrade).unwrap_or_default()),
        })
    }

    /// A file made by `uid` in this directory, whose set-group-id bit gives it its group. `ENOSPC` at the limit.
    pub(super) fn new_child(
        self: &Arc<Self>,
        content: Content,
        mut mode: u32,
        uid: u32,
        mut gid: u32,
    ) -> Result<Arc<Self>, Errno> {
        self.filesystem.space.take_inode()?;
        let stored = self.stored.lock();
        let inherited = stored.mode & SET_GROUP_ID != 0;
        if inherited || gid == !0 {
            gid = stored.gid;
        }
        if inherited && matches!(content, Content::Directory(_)) {
            mode |= SET_GROUP_ID;
        }
        drop(stored);
        let child = Self::new(&self.filesystem, content, mode, (uid, gid), Some(self));
        child.stored.lock().inherit_acl(&child.content, &self.stored.lock(), &self.filesystem.space)?;
        Ok(child)
    }

    /// Unique for as long as the filesystem lives.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn qid(&self) -> Qid {
        Qid { kind: self.kind, version: self.version.load(Relaxed) as u32, path: self.number }
    }

    /// One of [`dirent_type`](ninering_wire::dirent_type).
    pub(super) fn dirent_type(&self) -> u8 {
        self.dirent_type
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory(_))
    }

    /// The entries; `ENOTDIR` where it has none.
    pub(super) fn directory(&self) -> Result<&RwLock<Directory>, Errno> {
        match &self.content {
            Content::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn parent(&self) -> Option<Arc<Inode>> {
        self.parent.lock().upgrade()
    }

    pub(super) fn set_parent(&self, parent: &Arc<Inode>) {
        *self.parent.lock() = Arc::downgrade(parent);
    }

    /// Counts a change of the contents; call it while they are still locked.
    pub(super) fn count_change(&self) {
        self.version.fetch_add(1, Relaxed);
    }

    /// Notes that an entry of this directory changed, and with that the number of directories in it.
    pub(super) fn entry_changed(&self, directories: i64) {
        self.count_change();
        let mut stored = self.stored.lock();
        stored.nlink = stored.nlink.saturating_add_signed(directories);
        stored.modified();
    }

    /// Notes that it lost a name; a directory's only one.
    pub(super) fn name_removed(&self) {
        let mut stored = self.stored.lock();
        stored.nlink = if self.is_directory() { 0 } else { stored.nlink.saturating_sub(1) };
        stored.ctime = Time::now();
    }

    pub(super) fn attributes(&self) -> Attributes {
        let (size, allocated) = match &self.content {
            Content::File(data) => {
                let data = data.read();
                (data.size(), data.allocated())
            }
            Content::Symlink(target) => (target.len() as u64, 0),
            Content::Directory(_) | Content::Special(_) => (0, 0),
        };
        let rdev = if let Content::Special(device) = self.content { device } else { 0 };
        let stored = self.stored.lock();
        Attributes {
            valid: getattr::BASIC | getattr::BTIME | getattr::DATA_VERSION,
            qid: self.qid(),
            mode: stored.mode,
            uid: stored.uid,
            gid: stored.gid,
            nlink: stored.nlink,
            rdev,
            size,
            blksize: 4096,
            blocks: allocated.div_ceil(512),
            atime_sec: stored.atime.seconds as u64,
            atime_nsec: stored.atime.nanoseconds,
            mtime_sec: stored.mtime.seconds as u64,
            mtime_nsec: stored.mtime.nanoseconds,
            ctime_sec: stored.ctime.seconds as u64,
            ctime_nsec: stored.ctime.nanoseconds,
            btime_sec: stored.btime.seconds as u64,
            btime_nsec: stored.btime.nanoseconds,
            generation: 0,
            data_version: self.version.load(Relaxed),
        }
    }
}

impl Drop for Inode {
    /// A tree of directories may be deeper than the stack: what hangs on this one goes by a list, not by recursion.
    fn drop(&mut self) {
        let space = &self.filesystem.space;
        space.return_inode();
        self.stored.get_mut().xattrs.clear(space);
        match &mut self.content {
            Content::File(data) => space.return_bytes(data.get_mut().allocated()),
            Content::Symlink(target) => space.return_bytes(target.len() as u64),
            Content::Special(_) => {}
            Content::Directory(directory) => {
                let mut entries: Vec<_> = directory.get_mut().drain(space).collect();
                while let Some(entry) = entries.pop() {
                    if let Some(mut inode) = Arc::into_inner(entry)
                        && let Content::Directory(directory) = &mut inode.content
                    {
                        entries.extend(directory.get_mut().drain(space));
                    }
                }
            }
        }
    }
}

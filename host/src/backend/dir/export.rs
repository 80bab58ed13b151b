//! What all nodes of an export share.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use ninering_wire::{Errno, Name, Qid, QidType};
use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, makedev},
    io::{Errno as HostErrno, Result},
    path::DecInt,
};

use super::{DirOptions, device::Devices, known::KnownDirectories, live::LiveDirectories, node::DirNode, wire};

/// What `statfs(2)` calls the filesystems that are nothing but memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// The export: its way to open things, and its numbering of files.
pub(super) struct Export {
    /// `/proc/self/fd`.
    descriptors: OwnedFd,
    devices: Devices,
    /// The root's device, and whether what lies there lies in memory.
    first: (u64, bool),
    resolve: ResolveFlags,
    /// The mount that the root lies in, where the kernel tells.
    mount: Option<u64>,
    /// The backend's: what is known ends with it, and its nodes, which refer to this, with what is known.
    known_directories: Weak<KnownDirectories>,
    live_directories: LiveDirectories,
    /// Was anything moved from one directory to another?
    moved: AtomicBool,
}

impl Export {
    /// What a node has to know of a file, and all that a lookup asks for.
    pub(super) const IDENTITY: StatxFlags = StatxFlags::TYPE
        .union(StatxFlags::INO)
        .union(StatxFlags::MTIME)
        .union(StatxFlags::CTIME)
        .union(StatxFlags::BTIME)
        .union(StatxFlags::MNT_ID);

    /// Begins an export of the directory `root`, and returns its node.
    pub(super) fn serve(
        root: OwnedFd,
        descriptors: OwnedFd,
        options: DirOptions,
        known_directories: Weak<KnownDirectories>,
    ) -> Result<Arc<DirNode>> {
        let stat = stat(root.as_fd(), Self::IDENTITY)?;
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        resolve.set(ResolveFlags::NO_XDEV, options.one_filesystem);
        // Does it work at all?
        rustix::fs::openat2(&root, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        let kind = rustix::fs::fstatfs(&root)?.f_type;
        let first = (device(&stat), matches!(u64::try_from(kind), Ok(TMPFS_MAGIC | RAMFS_MAGIC)));
        let (devices, mount) = (Devices::new(first.0), mount(&stat));
        let export = Arc::new(Self {
            descriptors,
            devices,
            first,
            resolve,
            mount,
            known_directories,
            live_directories: LiveDirectories::default(),
            moved: AtomicBool::new(false),
        });
        // The first device's numbers are never refused.
        DirNode::new(&export, None, root, &stat).map_err(|_| rustix::io::Errno::OVERFLOW)
    }

    /// Opens the entry `name` of `directory`. Whatever the flags, nothing is followed: with `O_PATH` a symbolic link
    /// is opened itself (the one thing that `RESOLVE_NO_SYMLINKS` lets pass, together with `O_NOFOLLOW`).
    pub(super) fn open_entry(
        &self,
        directory: BorrowedFd<'_>,
        name: Name<'_>,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = self.open(|| rustix::fs::openat2(directory, name.as_bytes(), flags, mode, self.resolve));
        match opened {
            // It was moved away between being found and being opened. Only where mounts are not to be entered can this
            // be one.
            Err(HostErrno::XDEV) if !self.resolve.contains(ResolveFlags::NO_XDEV) => Err(HostErrno::NOENT),
            opened => opened,
        }
    }

    /// Opens anew, with other flags, the file that `descriptor` holds, whatever it is named by now.
    ///
    /// Only for files whose type is known: to open a fifo waits, and to open a device can do anything.
    pub(super) fn reopen(&self, descriptor: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        self.open(|| rustix::fs::openat(&self.descriptors, DecInt::from_fd(descriptor), flags, Mode::empty()))
    }

    /// Opens something. Where files cannot be opened any more for there are too many, those of
    /// [`KnownDirectories`] are the first that can be done without.
    fn open(&self, open: impl Fn() -> Result<OwnedFd>) -> Result<OwnedFd> {
        let opened = open();
        if let Err(HostErrno::MFILE | HostErrno::NFILE) = opened
            && let Some(known) = self.known_directories()
        {
            known.clear();
            return open();
        }
        opened
    }

    /// The directories that were looked up lately, for as long as there is a backend.
    pub(super) fn known_directories(&self) -> Option<Arc<KnownDirectories>> {
        self.known_directories.upgrade()
    }

    /// The directories that are held open.
    pub(super) fn live_directories(&self) -> &LiveDirectories {
        &self.live_directories
    }

    /// Do the files of `device` lie in memory, so that nothing that is done with them waits for a disk or a network?
    pub(super) fn is_in_memory(&self, device: u64) -> bool {
        self.first == (device, true)
    }

    /// Is `stat` about a file in the mount that the root lies in?
    pub(super) fn is_in_first_mount(&self, stat: &Statx) -> bool {
        self.mount.is_some() && mount(stat) == self.mount
    }

    /// The path by which the kernel knows the file that `descriptor` holds: a hint, of which nothing may depend.
    pub(super) fn path_hint(&self, descriptor: BorrowedFd<'_>) -> Result<Vec<u8>> {
        let path = rustix::fs::readlinkat(&self.descriptors, DecInt::from_fd(descriptor), Vec::new())?;
        Ok(path.into_bytes())
    }

    /// Notes that something was moved from one directory to another.
    pub(super) fn note_move(&self) {
        self.moved.store(true, Relaxed);
    }

    /// Was anything ever moved from one directory to another, by a client?
    pub(super) fn has_moved(&self) -> bool {
        self.moved.load(Relaxed)
    }

    /// Changes the permissions of the file that `descriptor` holds, which must be no symbolic link.
    ///
    /// (`fchmod` refuses `O_PATH`, and Linux has `fchmodat2` only since 6.6.)
    pub(super) fn change_mode(&self, descriptor: BorrowedFd<'_>, mode: Mode) -> Result<()> {
        rustix::fs::chmodat(&self.descriptors, DecInt::from_fd(descriptor), mode, AtFlags::empty())
    }

    /// Makes `name` in `directory` a hard link to the file that `descriptor` holds.
    ///
    /// (Without a name, by `AT_EMPTY_PATH`, it would take `CAP_DAC_READ_SEARCH`.)
    pub(super) fn link(&self, descriptor: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: Name<'_>) -> Result<()> {
        let file = DecInt::from_fd(descriptor);
        rustix::fs::linkat(&self.descriptors, file, directory, name.as_bytes(), AtFlags::SYMLINK_FOLLOW)
    }

    /// The identity of the file that `stat` (with at least [`Export::IDENTITY`]) is about.
    pub(super) fn qid(&self, stat: &Statx) -> std::result::Result<Qid, Errno> {
        Ok(Qid {
            kind: QidType::from_mode(stat.stx_mode.into()),
            version: version(stat),
            path: self.path(device(stat), stat.stx_ino)?,
        })
    }

    /// The number that stands for inode `inode` of `device` in this export.
    pub(super) fn path(&self, device: u64, inode: u64) -> std::result::Result<u64, Errno> {
        // A stat's own error for a number that it cannot tell.
        self.devices.path(device, inode).ok_or(Errno::EOVERFLOW)
    }
}

/// Asks for what `mask` says about the file that `descriptor` holds.
pub(super) fn stat(descriptor: BorrowedFd<'_>, mask: StatxFlags) -> Result<Statx> {
    rustix::fs::statx(descriptor, c"", AtFlags::EMPTY_PATH, mask)
}

/// As [`stat`], with the errno that a client sees.
pub(super) fn wire_stat(descriptor: BorrowedFd<'_>, mask: StatxFlags) -> std::result::Result<Statx, Errno> {
    stat(descriptor, mask).map_err(wire)
}

/// The mount that a file lies in, where the kernel tells (since Linux 5.8).
fn mount(stat: &Statx) -> Option<u64> {
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

/// The device that a file lies on.
pub(super) fn device(stat: &Statx) -> u64 {
    makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// A number that changes with the contents, never 0, which would tell Linux's client to cache nothing.
///
/// The kernel has such a counter but doesn't tell it (`STATX_CHANGE_COOKIE`), so it is made from the times.
pub(super) fn version(stat: &Statx) -> u32 {
    let nanoseconds = |seconds: i64, nanoseconds: u32| {
        seconds.unsigned_abs().wrapping_mul(1_000_000_000).wrapping_add(nanoseconds.into())
    };
    let modified = nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
    let changed = nanoseconds(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec);
    // Fibonacci hashing: the upper half of the product depends on all bits below.
    let mixed = (modified.rotate_left(32) ^ changed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 32) as u32).max(1)
}

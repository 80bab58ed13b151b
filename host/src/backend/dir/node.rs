//! A file or directory of the export.

use std::{
    any::Any,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use ninering_wire::{Attributes, Errno, Name, PATH_MAX, Qid, SetAttributes, Statfs, getattr};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, StatxTimestamp, makedev};

use super::{
    directory::OpenDirectory,
    export::{Export, device, version, wire_stat},
    file::RegularFile,
    flags::{open_flags, would_change},
    wire,
};
use crate::backend::{Node, NodeRef, OpenRef, XattrName};

/// A file, held open by an `O_PATH` descriptor: by which it can be named to the kernel, but neither read nor written.
pub(super) struct DirNode {
    descriptor: OwnedFd,
    file_type: FileType,
    device: u64,
    inode: u64,
    /// When it was made, where the filesystem tells.
    born: Option<(i64, u32)>,
    /// Does it lie in the same mount as the export's root?
    in_first_mount: bool,
    /// All but the version.
    qid: Qid,
    /// As it was when this was last looked up.
    version: AtomicU32,
    parent: Option<Arc<DirNode>>,
    /// How many directories are above it; no more are counted than the type can hold.
    depth: u16,
    export: Arc<Export>,
    /// Itself, to become the parent of others.
    this: Weak<DirNode>,
}

impl DirNode {
    /// The file that `descriptor` (`O_PATH`) holds and `stat` is about.
    pub(super) fn new(
        export: &Arc<Export>,
        parent: Option<Arc<DirNode>>,
        descriptor: OwnedFd,
        stat: &Statx,
    ) -> Result<Arc<Self>, Errno> {
        let qid = export.qid(stat)?;
        Ok(Arc::new_cyclic(|this| Self {
            descriptor,
            // Of an inode neither can change, and the descriptor keeps the inode from being used for another file.
            file_type: FileType::from_raw_mode(stat.stx_mode.into()),
            device: device(stat),
            inode: stat.stx_ino,
            born: born(stat),
            in_first_mount: export.is_in_first_mount(stat),
            qid,
            version: AtomicU32::new(qid.version),
            depth: parent.as_ref().map_or(0, |parent| parent.depth.saturating_add(1)),
            parent,
            export: export.clone(),
            this: this.clone(),
        }))
    }

    /// The directory `name` of this one, as a root of its own.
    pub(super) fn enter(&self, name: Name<'_>) -> Result<Arc<Self>, Errno> {
        let (descriptor, stat) = self.find(name, Export::IDENTITY)?;
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Self::new(&self.export, None, descriptor, &stat)
    }

    /// The entry `name` of this directory.
    pub(super) fn entry(&self, name: Name<'_>) -> Result<Arc<Self>, Errno> {
        let known = self.export.known_directories();
        if let Some(directory) = known.as_ref().and_then(|known| known.find(self, name)) {
            return Ok(directory);
        }
        let (descriptor, stat) = self.find(name, Export::IDENTITY)?;
        let node = self.adopt(descriptor, &stat)?;
        if let Some(known) = known {
            known.keep(self, name, &node);
        }
        Ok(node)
    }

    /// A node below this one: for a directory that some node holds already, that one.
    pub(super) fn adopt(&self, descriptor: OwnedFd, stat: &Statx) -> Result<Arc<Self>, Errno> {
        let Some(this) = self.this.upgrade() else { return Err(Errno::EIO) }; // never: it is being used
        let new = || Self::new(&self.export, Some(Arc::clone(&this)), descriptor, stat);
        self.export.live_directories().share(&this, stat, new)
    }

    /// Opens the entry `name` of this directory (`O_PATH`) and asks about it.
    pub(super) fn find(&self, name: Name<'_>, mask: StatxFlags) -> Result<(OwnedFd, Statx), Errno> {
        let descriptor = self.export.open_entry(self.as_fd(), name, OFlags::PATH, Mode::empty()).map_err(wire)?;
        let stat = wire_stat(descriptor.as_fd(), mask)?;
        Ok((descriptor, stat))
    }

    /// Takes `node` for one of this same export.
    fn sibling<'n>(&self, node: &'n dyn Node) -> Result<&'n Self, Errno> {
        let node: &dyn Any = node;
        let node = node.downcast_ref::<Self>().filter(|node| Arc::ptr_eq(&node.export, &self.export));
        node.ok_or(Errno::EXDEV)
    }

    /// The descriptor (`O_PATH`) that holds it.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The export that it belongs to.
    pub(super) fn export(&self) -> &Arc<Export> {
        &self.export
    }

    /// What kind of file it is.
    pub(super) fn file_type(&self) -> FileType {
        self.file_type
    }

    /// The device that it lies on.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    /// Its number in the export, as in its qid.
    pub(super) fn number(&self) -> u64 {
        self.qid.path
    }

    /// How many directories are above it.
    pub(super) fn depth(&self) -> u16 {
        self.depth
    }

    /// Was it reached from this very node?
    pub(super) fn is_below(&self, parent: &Self) -> bool {
        self.parent.as_ref().is_some_and(|above| std::ptr::eq(&**above, parent))
    }

    /// The root that it was reached from; none for a root.
    pub(super) fn root(&self) -> Option<Arc<Self>> {
        let mut root = self.parent.as_ref()?;
        while let Some(above) = &root.parent {
            root = above;
        }
        Some(Arc::clone(root))
    }

    /// Is `stat` about this file? It is held open, so no other has its inode number.
    pub(super) fn is_same(&self, stat: &Statx) -> bool {
        stat.stx_ino == self.inode && device(stat) == self.device
    }

    /// Can a `stat` of it be told from that of any other file, ever?
    ///
    /// That it is held open keeps its inode number from being given to another, but on network filesystems: there the
    /// time of birth differs. And it must be in the mount that the root keeps busy in any case, so that another can be
    /// unmounted as soon as no client holds anything in it.
    pub(super) fn can_be_known_again(&self) -> bool {
        self.born.is_some() && self.in_first_mount
    }

    /// Is `stat` about this file, which [can be known again](Self::can_be_known_again)? Then its version is the node's.
    pub(super) fn is_the_one(&self, stat: &Statx) -> bool {
        let is = stat.stx_ino == self.inode
            && device(stat) == self.device
            && born(stat) == self.born
            && self.export.is_in_first_mount(stat)
            && FileType::from_raw_mode(stat.stx_mode.into()) == self.file_type;
        if is {
            self.version.store(version(stat), Relaxed);
        }
        is
    }

    /// Takes leave of the directory above, at the end.
    fn leave(&mut self) -> Option<Arc<Self>> {
        let parent = self.parent.take()?;
        if self.file_type == FileType::Directory {
            self.export.live_directories().forget(&parent, self.device, self.inode);
        }
        Some(parent)
    }

    /// The number of the directory above, or its own at the root.
    pub(super) fn parent_path(&self) -> u64 {
        self.parent.as_ref().map_or(self.qid.path, |parent| parent.qid.path)
    }
}

impl AsFd for DirNode {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for DirNode {
    /// Lets go of the directories above one by one: a client can go so deep that recursion would exhaust the stack.
    fn drop(&mut self) {
        let mut above = self.leave();
        while let Some(node) = above {
            above = Arc::into_inner(node).and_then(|mut node| node.leave());
        }
    }
}

impl Node for DirNode {
    fn qid(&self) -> Qid {
        Qid { version: self.version.load(Relaxed), ..self.qid }
    }

    fn never_waits(&self) -> bool {
        self.export.is_in_memory(self.device)
    }

    fn lookup(&self, name: Name<'_>) -> Result<NodeRef, Errno> {
        Ok(self.entry(name)?)
    }

    fn parent(&self) -> Result<Option<NodeRef>, Errno> {
        let Some(remembered) = self.parent.clone() else { return Ok(None) };
        if self.export.has_moved()
            && let Ok((directory, _)) = self.find_place()
        {
            return Ok(Some(directory));
        }
        Ok(Some(remembered))
    }

    fn locate(&self) -> Result<(NodeRef, Vec<u8>), Errno> {
        let (directory, name) = self.find_place()?;
        Ok((directory, name))
    }

    fn attributes(&self, _request_mask: u64) -> Result<Attributes, Errno> {
        let stat = wire_stat(self.as_fd(), StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        Ok(wire_attributes(&stat, Qid { version: version(&stat), ..self.qid }))
    }

    /// Nothing is opened where that is not needed: a single name that is not followed leads nowhere else, and what is in
    /// the mount of the root may be seen in any case.
    fn attributes_of(&self, name: Name<'_>, request_mask: u64) -> Result<Attributes, Errno> {
        if self.in_first_mount && self.file_type == FileType::Directory {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
            let stat = rustix::fs::statx(self, name.as_bytes(), flags, mask).map_err(wire)?;
            if self.export.is_in_first_mount(&stat) {
                return Ok(wire_attributes(&stat, self.export.qid(&stat)?));
            }
        }
        self.lookup(name)?.attributes(request_mask)
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        self.change(changes)
    }

    fn open(&self, flags: u32) -> Result<OpenRef, Errno> {
        let host_flags = open_flags(flags)?;
        match self.file_type {
            FileType::RegularFile => {
                let descriptor = self.export.reopen(self.as_fd(), host_flags).map_err(wire)?;
                let node = self.this.upgrade().ok_or(Errno::ESTALE)?;
                Ok(Arc::new(RegularFile::new(descriptor, node)))
            }
            FileType::Directory if would_change(flags) => Err(Errno::EISDIR),
            FileType::Directory => {
                let node = self.this.upgrade().ok_or(Errno::ESTALE)?;
                let host_flags = host_flags & (OFlags::NOATIME | OFlags::DIRECTORY) | OFlags::DIRECTORY;
                let descriptor = self.export.reopen(self.as_fd(), host_flags).map_err(wire)?;
                Ok(Arc::new(OpenDirectory::new(descriptor, node)))
            }
            FileType::Symlink => Err(Errno::ELOOP),
            // What they lead to is the client's to open, on its own machine.
            _ => Err(Errno::ENXIO),
        }
    }

    fn create(&self, name: Name<'_>, flags: u32, mode: u32, gid: u32) -> Result<(NodeRef, OpenRef), Errno> {
        self.create_file(name, flags, mode, gid)
    }

    fn make_directory(&self, name: Name<'_>, mode: u32, gid: u32) -> Result<Qid, Errno> {
        self.create_directory(name, mode, gid)
    }

    fn symlink(&self, name: Name<'_>, target: &[u8], gid: u32) -> Result<Qid, Errno> {
        self.create_symlink(name, target, gid)
    }

    fn make_node(&self, name: Name<'_>, mode: u32, device: (u32, u32), gid: u32) -> Result<Qid, Errno> {
        self.create_special(name, mode, device, gid)
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        if self.file_type != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        let mut target = Vec::with_capacity(256);
        rustix::fs::readlinkat_raw(self.as_fd(), c"", rustix::buffer::spare_capacity(&mut target)).map_err(wire)?;
        if target.len() == target.capacity() {
            // Perhaps there is more. Linux makes none as long as PATH_MAX.
            target = Vec::with_capacity(PATH_MAX);
            rustix::fs::readlinkat_raw(self.as_fd(), c"", rustix::buffer::spare_capacity(&mut target)).map_err(wire)?;
        }
        Ok(target)
    }

    fn link(&self, name: Name<'_>, file: &dyn Node) -> Result<(), Errno> {
        let file = self.sibling(file)?;
        self.export.link(file.as_fd(), self.as_fd(), name).map_err(wire)
    }

    fn rename(&self, name: Name<'_>, new_directory: &dyn Node, new_name: Name<'_>) -> Result<(), Errno> {
        let new_directory = self.sibling(new_directory)?;
        rustix::fs::renameat(self, name.as_bytes(), new_directory, new_name.as_bytes()).map_err(wire)?;
        if self.number() != new_directory.number() {
            self.export.note_move();
        }
        if let Some(known) = self.export.known_directories() {
            // Neither name leads to what it did.
            known.forget(self, name);
            known.forget(new_directory, new_name);
        }
        Ok(())
    }

    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<(), Errno> {
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(self, name.as_bytes(), flags).map_err(wire)?;
        if directory && let Some(known) = self.export.known_directories() {
            // Nobody will find it again, and while it is open it takes up an inode.
            known.forget(self, name);
        }
        Ok(())
    }

    fn xattr(&self, name: XattrName<'_>) -> Result<Vec<u8>, Errno> {
        self.read_xattr(name)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>, Errno> {
        self.read_xattr_names()
    }

    fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: u32) -> Result<(), Errno> {
        self.write_xattr(name, value, flags)
    }

    fn remove_xattr(&self, name: XattrName<'_>) -> Result<(), Errno> {
        self.erase_xattr(name)
    }

    fn statfs(&self) -> Result<Statfs, Errno> {
        let figures = rustix::fs::fstatfs(self).map_err(wire)?;
        Ok(Statfs {
            kind: figures.f_type as u32,
            bsize: figures.f_bsize as u32,
            blocks: figures.f_blocks,
            bfree: figures.f_bfree,
            bavail: figures.f_bavail,
            files: figures.f_files,
            ffree: figures.f_ffree,
            // `statfs` has it too, but libraries hide it there.
            fsid: rustix::fs::fstatvfs(self).map_err(wire)?.f_fsid,
            namelen: figures.f_namelen as u32,
        })
    }
}

/// When a file was made, where the filesystem tells.
fn born(stat: &Statx) -> Option<(i64, u32)> {
    let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    known.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
}

/// What a client is told of a file.
fn wire_attributes(stat: &Statx, qid: Qid) -> Attributes {
    let seconds = |time: StatxTimestamp| time.tv_sec as u64;
    let nanoseconds = |time: StatxTimestamp| u64::from(time.tv_nsec);
    Attributes {
        valid: valid(stat.stx_mask),
        qid,
        mode: stat.stx_mode.into(),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        nlink: stat.stx_nlink.into(),
        rdev: makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blksize: stat.stx_blksize.into(),
        blocks: stat.stx_blocks,
        atime_sec: seconds(stat.stx_atime),
        atime_nsec: nanoseconds(stat.stx_atime),
        mtime_sec: seconds(stat.stx_mtime),
        mtime_nsec: nanoseconds(stat.stx_mtime),
        ctime_sec: seconds(stat.stx_ctime),
        ctime_nsec: nanoseconds(stat.stx_ctime),
        btime_sec: seconds(stat.stx_btime),
        btime_nsec: nanoseconds(stat.stx_btime),
        generation: 0,
        data_version: 0,
    }
}

/// The bits of `Rgetattr.valid` for those of `stx_mask`.
///
/// From the access time on they are the same. Below, statx has one for the file type first, 9P one for `rdev` last.
fn valid(stx_mask: u32) -> u64 {
    let same = u64::from(stx_mask) & (getattr::BASIC | getattr::BTIME) & !(getattr::ATIME - 1);
    let shifted = u64::from(stx_mask >> 1) & (getattr::MODE | getattr::NLINK | getattr::UID | getattr::GID);
    same | shifted | getattr::RDEV
}

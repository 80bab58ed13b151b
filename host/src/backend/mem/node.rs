//! What can be done with a file: the backend's traits.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use ninering_wire::{
    Attributes, Errno, LockType, Name, Qid, SetAttributes, Statfs, dirent_type, lopen,
    mode::{self, IFBLK, IFCHR, IFDIR, IFIFO, IFLNK, IFMT, IFREG, IFSOCK},
    setattr,
};

use super::{
    directory::Directory,
    inode::{Content, Inode, LINK_MAX, Time},
    lock,
    permission::{Actor, READ, SEARCH, WRITE},
    rename,
};
use crate::{
    backend::{Entry, FileIdentity, FileLocks, LockConflict, LockRange, Node, NodeRef, OpenFile, OpenRef, XattrName},
    payload::Payload,
};

/// A file, as one user reached it.
pub(super) struct MemNode {
    inode: Arc<Inode>,
    actor: Actor,
}

impl MemNode {
    pub(super) fn shared(inode: Arc<Inode>, actor: Actor) -> NodeRef {
        Arc::new(Self { inode, actor })
    }

    /// The inode of a node that is said to be of the same filesystem; `EXDEV` where it is not.
    fn same_filesystem<'a>(&self, node: &'a dyn Node) -> Result<&'a Arc<Inode>, Errno> {
        let node = (node as &dyn Any).downcast_ref::<Self>().ok_or(Errno::EXDEV)?;
        let same = Arc::ptr_eq(&node.inode.filesystem, &self.inode.filesystem);
        if same { Ok(&node.inode) } else { Err(Errno::EXDEV) }
    }

    /// Makes a file by `content`, in this directory: `EEXIST` where the name is taken.
    fn make(
        &self,
        name: Name<'_>,
        content: impl FnOnce() -> Result<Content, Errno>,
        mode: u32,
        gid: u32,
    ) -> Result<Arc<Inode>, Errno> {
        let mut directory = self.inode.directory()?.write();
        directory.check_there()?;
        self.actor.check(&self.inode, SEARCH)?;
        if directory.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.actor.check_make(&self.inode)?;
        self.make_in(&mut directory, name, content()?, mode, gid)
    }

    /// Makes a file whose name is free in `directory`, which is this one.
    fn make_in(
        &self,
        directory: &mut Directory,
        name: Name<'_>,
        content: Content,
        mode: u32,
        gid: u32,
    ) -> Result<Arc<Inode>, Errno> {
        let is_directory = matches!(content, Content::Directory(_));
        let inode = self.inode.new_child(content, mode, self.actor.uid(), self.actor.group(gid))?;
        if !is_directory {
            let mut stored = inode.stored.lock();
            stored.mode = stored.mode & IFMT | self.actor.mode(stored.mode, stored.gid);
        }
        directory.insert(name, Arc::clone(&inode), &self.inode.filesystem.space)?;
        self.inode.entry_changed(is_directory.into());
        Ok(inode)
    }

    /// Opens it for who may.
    fn open_permitted(&self, flags: u32) -> Result<OpenRef, Errno> {
        let access = flags & lopen::ACCMODE;
        let truncates = flags & lopen::TRUNC != 0;
        match &self.inode.content {
            Content::Symlink(_) => return Err(Errno::ELOOP),
            Content::Special(_) => return Err(Errno::ENXIO),
            Content::Directory(_) if access != lopen::RDONLY || truncates || flags & lopen::CREATE != 0 => {
                return Err(Errno::EISDIR);
            }
            Content::File(_) if flags & lopen::DIRECTORY != 0 => return Err(Errno::ENOTDIR),
            Content::File(data) if truncates => {
                let mut data = data.write();
                data.resize(0, &self.inode.filesystem.space);
                self.inode.count_change();
                self.inode.stored.lock().modified();
            }
            Content::Directory(_) | Content::File(_) => {}
        }
        let append = flags & lopen::APPEND != 0;
        let (inode, actor) = (Arc::clone(&self.inode), self.actor.clone());
        Ok(Arc::new(MemFile { inode, actor, access, append, locked: AtomicBool::new(false) }))
    }
}

impl Node for MemNode {
    fn qid(&self) -> Qid {
        self.inode.qid()
    }

    fn lookup(&self, name: Name<'_>) -> Result<NodeRef, Errno> {
        let directory = self.inode.directory()?.read();
        self.actor.check(&self.inode, SEARCH)?;
        let inode = directory.get(name).ok_or(Errno::ENOENT)?;
        Ok(Self::shared(Arc::clone(inode), self.actor.clone()))
    }

    /// The directory that it is in, and not only was when it was reached.
    fn parent(&self) -> Result<Option<NodeRef>, Errno> {
        Ok(self.inode.parent().map(|parent| Self::shared(parent, self.actor.clone())))
    }

    fn locate(&self) -> Result<(NodeRef, Vec<u8>), Errno> {
        let directory = self.inode.parent().ok_or(Errno::EOPNOTSUPP)?;
        let name = directory.directory()?.read().name_of(&self.inode).ok_or(Errno::ENOENT)?;
        Ok((Self::shared(directory, self.actor.clone()), name))
    }

    fn attributes(&self, _request_mask: u64) -> Result<Attributes, Errno> {
        Ok(self.inode.attributes())
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        let asked = |bit| changes.valid & bit != 0;
        self.actor.check_change(&self.inode, changes)?;
        let resized = asked(setattr::SIZE);
        if resized {
            match &self.inode.content {
                Content::File(data) => {
                    let mut data = data.write();
                    data.resize(changes.size, &self.inode.filesystem.space);
                    self.inode.count_change();
                }
                Content::Directory(_) => return Err(Errno::EISDIR),
                Content::Symlink(_) | Content::Special(_) => return Err(Errno::EINVAL),
            }
        }
        let now = Time::now();
        let mut stored = self.inode.stored.lock();
        if resized {
            stored.mtime = now;
        }
        // !0 stands for "as it is", as in chown(2).
        if asked(setattr::UID) && changes.uid != !0 {
            stored.uid = changes.uid;
        }
        if asked(setattr::GID) && changes.gid != !0 {
            stored.gid = changes.gid;
        }
        if asked(setattr::MODE) {
            stored.mode = stored.mode & mode::IFMT | self.actor.mode(changes.mode, stored.gid);
        } else if asked(setattr::UID | setattr::GID) && !self.inode.is_directory() || resized && !self.actor.is_root() {
            stored.drop_set_ids();
        }
        let given = |seconds: u64, nanoseconds| Time { seconds: seconds as i64, nanoseconds };
        if asked(setattr::ATIME) {
            let set = asked(setattr::ATIME_SET);
            stored.atime = if set { given(changes.atime_sec, changes.atime_nsec) } else { now };
        }
        if asked(setattr::MTIME) {
            let set = asked(setattr::MTIME_SET);
            stored.mtime = if set { given(changes.mtime_sec, changes.mtime_nsec) } else { now };
        }
        stored.ctime = now;
        Ok(())
    }

    fn open(&self, flags: u32) -> Result<OpenRef, Errno> {
        let access = flags & lopen::ACCMODE;
        if access == lopen::ACCMODE {
            return Err(Errno::EINVAL);
        }
        let reads = if access == lopen::WRONLY { 0 } else { READ };
        let truncates = flags & lopen::TRUNC != 0;
        let writes = if access != lopen::RDONLY || truncates { WRITE } else { 0 };
        self.actor.check(&self.inode, reads | writes)?;
        self.open_permitted(flags)
    }

    fn create(&self, name: Name<'_>, flags: u32, mode: u32, gid: u32) -> Result<(NodeRef, OpenRef), Errno> {
        if flags & lopen::ACCMODE == lopen::ACCMODE {
            return Err(Errno::EINVAL);
        }
        let mut directory = self.inode.directory()?.write();
        directory.check_there()?;
        self.actor.check(&self.inode, SEARCH)?;
        let mut is_new = false;
        let inode = match directory.get(name) {
            Some(_) if flags & lopen::EXCL != 0 => return Err(Errno::EEXIST),
            Some(inode) => Arc::clone(inode),
            None => {
                self.actor.check_make(&self.inode)?;
                is_new = true;
                self.make_in(&mut directory, name, Content::file(), IFREG | mode & mode::PERMISSIONS, gid)?
            }
        };
        drop(directory);
        let node = Self { inode, actor: self.actor.clone() };
        // Whoever makes a file has it open, whatever its permissions are.
        let flags = flags | lopen::CREATE;
        let file = if is_new { node.open_permitted(flags)? } else { node.open(flags)? };
        Ok((Arc::new(node), file))
    }

    fn make_directory(&self, name: Name<'_>, mode: u32, gid: u32) -> Result<Qid, Errno> {
        let mode = IFDIR | mode & mode::PERMISSIONS;
        Ok(self.make(name, || Ok(Content::directory()), mode, gid)?.qid())
    }

    fn symlink(&self, name: Name<'_>, target: &[u8], gid: u32) -> Result<Qid, Errno> {
        let content = || {
            self.inode.filesystem.space.take_bytes(target.len() as u64)?;
            Ok(Content::Symlink(target.into()))
        };
        Ok(self.make(name, content, IFLNK | 0o777, gid)?.qid())
    }

    fn make_node(&self, name: Name<'_>, mode: u32, device: (u32, u32), gid: u32) -> Result<Qid, Errno> {
        let permissions = mode & mode::PERMISSIONS;
        let (kind, content) = match mode & IFMT {
            0 | IFREG => (IFREG, Content::file()),
            kind @ (IFIFO | IFSOCK) => (kind, Content::Special(0)),
            // As many bits as Linux has for them.
            IFCHR | IFBLK if device.0 >= 1 << 12 || device.1 >= 1 << 20 => return Err(Errno::EINVAL),
            kind @ (IFCHR | IFBLK) => (kind, Content::Special(rustix::fs::makedev(device.0, device.1))),
            IFDIR => return Err(Errno::EPERM),
            _ => return Err(Errno::EINVAL),
        };
        if matches!(kind, IFCHR | IFBLK) {
            self.actor.check_devices()?;
        }
        Ok(self.make(name, || Ok(content), kind | permissions, gid)?.qid())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match &self.inode.content {
            Content::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn link(&self, name: Name<'_>, file: &dyn Node) -> Result<(), Errno> {
        let file = self.same_filesystem(file)?;
        if file.is_directory() {
            return Err(Errno::EPERM);
        }
        let mut directory = self.inode.directory()?.write();
        directory.check_there()?;
        self.actor.check(&self.inode, SEARCH)?;
        if directory.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.actor.check_make(&self.inode)?;
        let mut stored = file.stored.lock();
        match stored.nlink {
            // Removed for good, though still open.
            0 => return Err(Errno::ENOENT),
            LINK_MAX.. => return Err(Errno::EMLINK),
            _ => {}
        }
        directory.insert(name, Arc::clone(file), &self.inode.filesystem.space)?;
        stored.nlink += 1;
        stored.ctime = Time::now();
        drop(stored);
        file.set_parent(&self.inode);
        self.inode.entry_changed(0);
        Ok(())
    }

    fn rename(&self, name: Name<'_>, new_directory: &dyn Node, new_name: Name<'_>) -> Result<(), Errno> {
        rename::rename(&self.actor, &self.inode, name, self.same_filesystem(new_directory)?, new_name)
    }

    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<(), Errno> {
        let mut entries = self.inode.directory()?.write();
        self.actor.check(&self.inode, SEARCH)?;
        let inode = Arc::clone(entries.get(name).ok_or(Errno::ENOENT)?);
        self.actor.check_remove(&self.inode, &inode)?;
        match inode.directory() {
            Ok(_) if !directory => return Err(Errno::EISDIR),
            Err(_) if directory => return Err(Errno::ENOTDIR),
            Ok(removed) => {
                let mut removed = removed.write();
                if !removed.is_empty() {
                    return Err(Errno::ENOTEMPTY);
                }
                removed.set_removed();
            }
            Err(_) => {}
        }
        entries.remove(name, &self.inode.filesystem.space);
        inode.name_removed();
        self.inode.entry_changed(if directory { -1 } else { 0 });
        // Freeing a large file takes a while: not with the directory locked.
        drop(entries);
        drop(inode);
        Ok(())
    }

    fn xattr(&self, name: XattrName<'_>) -> Result<Vec<u8>, Errno> {
        self.actor.check_xattr(&self.inode, name, false)?;
        self.inode.xattr(name)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.inode.xattr_names(|name| self.actor.sees_xattr(name)))
    }

    fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: u32) -> Result<(), Errno> {
        self.actor.check_xattr(&self.inode, name, true)?;
        self.inode.set_xattr(name, value, flags)?;
        if name.is_acl() {
            // As with a change of the mode, which it may be.
            let mut stored = self.inode.stored.lock();
            stored.mode = stored.mode & IFMT | self.actor.mode(stored.mode, stored.gid);
        }
        Ok(())
    }

    fn remove_xattr(&self, name: XattrName<'_>) -> Result<(), Errno> {
        self.actor.check_xattr(&self.inode, name, true)?;
        self.inode.remove_xattr(name)
    }

    fn statfs(&self) -> Result<Statfs, Errno> {
        Ok(self.inode.filesystem.space.statfs())
    }
}

/// An open file or directory. What it may be used for is for the server to check.
struct MemFile {
    inode: Arc<Inode>,
    /// The access mode that it was opened with.
    access: u32,
    append: bool,
    actor: Actor,
    /// Has it ever had a lock?
    locked: AtomicBool,
}

impl MemFile {
    /// Whose its locks are: its address, which it keeps.
    fn lock_owner(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        if *self.locked.get_mut() {
            self.inode.locks.lock().set(self.lock_owner(), LockType::Unlock, LockRange::WHOLE);
        }
    }
}

impl FileLocks for MemFile {
    fn identity(&self) -> FileIdentity {
        FileIdentity { filesystem: Arc::as_ptr(&self.inode.filesystem).addr(), number: self.inode.number() }
    }

    fn reopen(&self, access: u32) -> Result<OpenRef, Errno> {
        let wanted = match access {
            lopen::RDONLY => READ,
            lopen::WRONLY => WRITE,
            _ => READ | WRITE,
        };
        self.actor.check(&self.inode, wanted)?;
        let (inode, actor) = (Arc::clone(&self.inode), self.actor.clone());
        Ok(Arc::new(Self { inode, actor, access, append: false, locked: AtomicBool::new(false) }))
    }

    fn set_lock(&self, kind: LockType, range: LockRange) -> Result<bool, Errno> {
        lock::check_access(kind, self.access != lopen::WRONLY, self.access != lopen::RDONLY)?;
        self.locked.store(true, Relaxed);
        Ok(self.inode.locks.lock().set(self.lock_owner(), kind, range))
    }

    fn find_conflict(&self, kind: LockType, range: LockRange) -> Result<Option<LockConflict>, Errno> {
        Ok(self.inode.locks.lock().conflict(self.lock_owner(), kind, range))
    }
}

impl OpenFile for MemFile {
    fn read(&self, offset: u64, into: &Payload<'_>) -> Result<usize, Errno> {
        let Content::File(data) = &self.inode.content else { return Err(Errno::EISDIR) };
        let count = data.read().read(offset, into);
        let mut stored = self.inode.stored.lock();
        // As `relatime` has it: only the first read after a change is noted.
        if stored.atime <= stored.mtime || stored.atime <= stored.ctime {
            let now = Time::now();
            if now > stored.atime {
                stored.atime = now;
            }
        }
        Ok(count)
    }

    fn write(&self, offset: u64, from: &Payload<'_>) -> Result<usize, Errno> {
        let Content::File(data) = &self.inode.content else { return Err(Errno::EISDIR) };
        let mut data = data.write();
        let offset = if self.append { data.size() } else { offset };
        let count = data.write(offset, from, &self.inode.filesystem.space)?;
        self.inode.count_change();
        let mut stored = self.inode.stored.lock();
        stored.modified();
        if !self.actor.is_root() {
            stored.drop_set_ids();
        }
        Ok(count)
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        let Content::File(data) = &self.inode.content else { return Err(Errno::EINVAL) };
        let mut data = data.write();
        data.resize(size, &self.inode.filesystem.space);
        self.inode.count_change();
        let mut stored = self.inode.stored.lock();
        stored.modified();
        if !self.actor.is_root() {
            stored.drop_set_ids();
        }
        Ok(())
    }

    fn read_directory(&self, offset: u64, take: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), Errno> {
        /// The offsets behind `.` and `..`; an entry's is its number and this.
        const DOTS: u64 = 2;
        let directory = self.inode.directory()?.read();
        directory.check_there()?;
        let this = self.inode.qid();
        let dot = |offset, qid, name| Entry { qid, offset, kind: dirent_type::DIR, name };
        if offset < 1 && !take(dot(1, this, b".")) {
            return Ok(());
        }
        let parent = || self.inode.parent().map_or(this, |parent| parent.qid());
        if offset < DOTS && !take(dot(DOTS, parent(), b"..")) {
            return Ok(());
        }
        for (number, name, inode) in directory.after(offset.saturating_sub(DOTS)) {
            let kind = inode.dirent_type();
            if !take(Entry { qid: inode.qid(), offset: number + DOTS, kind, name }) {
                break;
            }
        }
        Ok(())
    }

    fn locks(&self) -> Result<&dyn FileLocks, Errno> {
        if self.inode.is_directory() { Err(Errno::EOPNOTSUPP) } else { Ok(self) }
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }
}

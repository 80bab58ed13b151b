//! What can be done with a remote file: each a request, or a few.

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use ninering_wire::{AT_REMOVEDIR, Attributes, Errno, Name, Qid, SetAttributes, Statfs, lopen, xattr};

use super::{
    super::component::client::{
        RMessage, TIo, TLcreate, TLink, TLopen, TMessage, TMkdir, TMknod, TRename, TRenameat, TSetattr, TSymlink,
        TUnlinkat, TXattrcreate,
    },
    Filesystem,
    attributes::{self, qid_of},
    fid::Fid,
    file::RelayFile,
};
use crate::backend::{Node, NodeRef, OpenRef, XattrName};

/// How often to try again when others make and remove the same name all the time.
const CREATE_ATTEMPTS: u32 = 16;

/// A remote file.
#[derive(Clone)]
pub(super) struct RelayNode {
    pub(super) fid: Arc<Fid>,
    pub(super) qid: Qid,
    pub(super) filesystem: Arc<Filesystem>,
}

impl RelayNode {
    pub(super) fn shared(fid: Fid, qid: Qid, filesystem: Arc<Filesystem>) -> NodeRef {
        Arc::new(Self { fid: Arc::new(fid), qid, filesystem })
    }

    /// A node of the same relay, as such; `EXDEV` where it is none.
    fn same_relay<'a>(&self, node: &'a dyn Node) -> Result<&'a Self, Errno> {
        let node = (node as &dyn Any).downcast_ref::<Self>().ok_or(Errno::EXDEV)?;
        if Arc::ptr_eq(&node.fid.upstream, &self.fid.upstream) { Ok(node) } else { Err(Errno::EXDEV) }
    }

    fn walk(&self, name: &[u8]) -> Result<NodeRef, Errno> {
        let (fid, qid) = self.fid.walk(name)?;
        Ok(Self::shared(fid, qid, Arc::clone(&self.filesystem)))
    }

    /// The value of an extended attribute, or the list of their names.
    fn read_xattr(&self, name: &[u8], limit: usize) -> Result<Vec<u8>, Errno> {
        let (fid, size) = self.fid.walk_to_xattr(name)?;
        let size = usize::try_from(size).ok().filter(|&size| size <= limit).ok_or(Errno::E2BIG)?;
        let mut value = vec![0; size];
        let mut done = 0;
        while done < size {
            let buffer = fid.upstream.buffer(size - done)?;
            let (number, offset) = (fid.number(), done as u64);
            let (count, buffer) =
                fid.transfer(buffer, |buffers| TMessage::Read(TIo { fid: number, offset, buffers }))?;
            if count == 0 {
                return Err(Errno::EIO);
            }
            buffer.read(0, &mut value[done..done + count]);
            done += count;
        }
        Ok(value)
    }

    /// Makes a file, by a request that is answered by its qid.
    fn make(&self, message: TMessage) -> Result<Qid, Errno> {
        match self.fid.call(message)? {
            RMessage::Qid(qid) => Ok(qid_of(qid)),
            _ => Err(Errno::EIO),
        }
    }

    /// Makes a file that is not there, and opens it.
    fn create_new(&self, name: Name<'_>, flags: u32, mode: u32, gid: u32) -> Result<(NodeRef, OpenRef), Errno> {
        let opened = self.fid.duplicate()?;
        let message = TMessage::Lcreate(TLcreate { fid: opened.number(), name: name.to_vec(), flags, mode, gid });
        let RMessage::Opened((qid, iounit)) = opened.call(message)? else { return Err(Errno::EIO) };
        let qid = qid_of(qid);
        let opened = Arc::new(opened);
        // The fid of the file is the one that is open. Another is walked to for what comes next, as Linux's client does it;
        // by the time, the name may lead elsewhere.
        let fid = match self.fid.walk(&name) {
            Ok((fid, found)) if found.path == qid.path => Arc::new(fid),
            _ => Arc::clone(&opened),
        };
        let node = Self { fid, qid, filesystem: Arc::clone(&self.filesystem) };
        let file = RelayFile::shared(opened, iounit, &node);
        Ok((Arc::new(node), file))
    }
}

impl Node for RelayNode {
    fn qid(&self) -> Qid {
        self.qid
    }

    fn always_waits(&self) -> bool {
        true
    }

    fn lookup(&self, name: Name<'_>) -> Result<NodeRef, Errno> {
        self.walk(&name)
    }

    /// The server keeps to its export: there, a root is its own parent.
    fn parent(&self) -> Result<Option<NodeRef>, Errno> {
        self.walk(b"..").map(Some)
    }

    fn attributes(&self, _request_mask: u64) -> Result<Attributes, Errno> {
        match self.fid.call(TMessage::Getattr(self.fid.number()))? {
            RMessage::Attributes(attributes) => Ok(attributes::attributes_of(&attributes)),
            _ => Err(Errno::EIO),
        }
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        set_attributes(&self.fid, changes)
    }

    fn open(&self, flags: u32) -> Result<OpenRef, Errno> {
        let fid = self.fid.duplicate()?;
        match fid.call(TMessage::Lopen(TLopen { fid: fid.number(), flags }))? {
            RMessage::Opened((_, iounit)) => Ok(RelayFile::shared(Arc::new(fid), iounit, self)),
            _ => Err(Errno::EIO),
        }
    }

    fn create(&self, name: Name<'_>, flags: u32, mode: u32, gid: u32) -> Result<(NodeRef, OpenRef), Errno> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            // A new file always, for some servers would follow a link.
            match self.create_new(name, flags | lopen::EXCL, mode, gid) {
                // The file is there; or it is not known whether it was made.
                Err(Errno::EEXIST | Errno::EIO) if flags & lopen::EXCL == 0 && attempt < CREATE_ATTEMPTS => {}
                created => return created,
            }
            match self.walk(&name) {
                Ok(node) if node.qid().kind.is_symlink() => return Err(Errno::ELOOP),
                Ok(node) if node.qid().kind.is_dir() => return Err(Errno::EISDIR),
                Ok(node) => {
                    let file = node.open(flags & !lopen::CREATE)?;
                    return Ok((node, file));
                }
                // Removed just now: make it after all.
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn make_directory(&self, name: Name<'_>, mode: u32, gid: u32) -> Result<Qid, Errno> {
        self.make(TMessage::Mkdir(TMkdir { dfid: self.fid.number(), name: name.to_vec(), mode, gid }))
    }

    fn symlink(&self, name: Name<'_>, target: &[u8], gid: u32) -> Result<Qid, Errno> {
        let (name, target) = (name.to_vec(), target.to_vec());
        self.make(TMessage::Symlink(TSymlink { fid: self.fid.number(), name, target, gid }))
    }

    fn make_node(&self, name: Name<'_>, mode: u32, device: (u32, u32), gid: u32) -> Result<Qid, Errno> {
        let (fid, name, (major, minor)) = (self.fid.number(), name.to_vec(), device);
        self.make(TMessage::Mknod(TMknod { fid, name, mode, major, minor, gid }))
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match self.fid.call(TMessage::Readlink(self.fid.number()))? {
            RMessage::Target(target) => Ok(target),
            _ => Err(Errno::EIO),
        }
    }

    fn link(&self, name: Name<'_>, file: &dyn Node) -> Result<(), Errno> {
        let (dfid, fid) = (self.fid.number(), self.same_relay(file)?.fid.number());
        self.fid.do_(TMessage::Link(TLink { dfid, fid, name: name.to_vec() }))
    }

    fn rename(&self, name: Name<'_>, new_directory: &dyn Node, new_name: Name<'_>) -> Result<(), Errno> {
        let directory = self.same_relay(new_directory)?;
        let upstream = &self.fid.upstream;
        if !upstream.lacks_renameat.load(Relaxed) {
            let (olddirfid, newdirfid) = (self.fid.number(), directory.fid.number());
            let (oldname, newname) = (name.to_vec(), new_name.to_vec());
            let message = TRenameat { olddirfid, oldname, newdirfid, newname };
            match self.fid.do_(TMessage::Renameat(message)) {
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => upstream.lacks_renameat.store(true, Relaxed),
                outcome => return outcome,
            }
        }
        rename(&self.fid.walk(&name)?.0, directory, new_name)
    }

    fn rename_itself(&self, new_directory: &dyn Node, new_name: Name<'_>) -> Option<Result<(), Errno>> {
        Some(self.same_relay(new_directory).and_then(|directory| rename(&self.fid, directory, new_name)))
    }

    fn unlink(&self, name: Name<'_>, directory: bool) -> Result<(), Errno> {
        let upstream = &self.fid.upstream;
        if !upstream.lacks_unlinkat.load(Relaxed) {
            let flags = if directory { AT_REMOVEDIR } else { 0 };
            let message = TUnlinkat { dirfid: self.fid.number(), name: name.to_vec(), flags };
            match self.fid.do_(TMessage::Unlinkat(message)) {
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => upstream.lacks_unlinkat.store(true, Relaxed),
                outcome => return outcome,
            }
        }
        // Tremove takes whatever it is.
        let (fid, qid) = self.fid.walk(&name)?;
        match (qid.kind.is_dir(), directory) {
            (true, false) => Err(Errno::EISDIR),
            (false, true) => Err(Errno::ENOTDIR),
            _ => fid.end(TMessage::Remove),
        }
    }

    fn remove_itself(&self) -> Option<Result<(), Errno>> {
        Some(self.fid.duplicate().and_then(|fid| fid.end(TMessage::Remove)))
    }

    fn xattr(&self, name: XattrName<'_>) -> Result<Vec<u8>, Errno> {
        self.read_xattr(&name, xattr::SIZE_MAX)
    }

    fn list_xattrs(&self) -> Result<Vec<u8>, Errno> {
        self.read_xattr(b"", xattr::LIST_MAX)
    }

    fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: u32) -> Result<(), Errno> {
        let fid = self.fid.duplicate()?;
        let message = TXattrcreate { fid: fid.number(), name: name.to_vec(), size: value.len() as u64, flags };
        fid.do_(TMessage::Xattrcreate(message))?;
        let mut done = 0;
        while done < value.len() {
            let buffer = fid.upstream.buffer((value.len() - done).min(fid.upstream.payload_max()))?;
            let asked = buffer.write(0, &value[done..]);
            let (number, offset) = (fid.number(), done as u64);
            let (count, _) = fid.transfer(buffer, |buffers| TMessage::Write(TIo { fid: number, offset, buffers }))?;
            if count < asked {
                // It is clunked with fewer bytes than were announced, and leaves the attribute alone.
                return Err(Errno::ENOSPC);
            }
            done += count;
        }
        fid.end(TMessage::Clunk)
    }

    /// As Linux's client does it: none in place of one that is there.
    fn remove_xattr(&self, name: XattrName<'_>) -> Result<(), Errno> {
        self.set_xattr(name, b"", xattr::REPLACE)
    }

    fn statfs(&self) -> Result<Statfs, Errno> {
        match self.fid.call(TMessage::Statfs(self.fid.number()))? {
            RMessage::Statistics(statistics) => Ok(attributes::statfs_of(&statistics)),
            _ => Err(Errno::EIO),
        }
    }
}

/// `Trename`: what the fid stands for, by whatever name it has.
fn rename(fid: &Fid, directory: &RelayNode, new_name: Name<'_>) -> Result<(), Errno> {
    fid.do_(TMessage::Rename(TRename { fid: fid.number(), dfid: directory.fid.number(), name: new_name.to_vec() }))
}

/// Changes the attributes of what a fid stands for.
pub(super) fn set_attributes(fid: &Fid, changes: &SetAttributes) -> Result<(), Errno> {
    fid.do_(TMessage::Setattr(TSetattr { fid: fid.number(), changes: attributes::changes(changes) }))
}

//! Directories: `Treaddir` lists their entries; `Tmkdir`, `Tsymlink`, `Tmknod` and `Tlink` make some, `Trenameat` and
//! `Trename` move them, `Tunlinkat` and `Tremove` remove them.

use std::sync::Arc;

use ninering_wire::{AT_REMOVEDIR, DirEntry, Errno, NAME_MAX, Name, PATH_MAX, Rmessage, Str, mode};
use smallvec::SmallVec;

use super::{
    Session,
    fid::{Fid, Place},
    request::Request,
};
use crate::{backend::Entry, payload::Payload};

impl Session {
    /// `Treaddir`: whole entries, as many as fit. `EINVAL` where not even one does.
    pub(super) fn readdir(&self, request: &Request, fid: u32, offset: u64, count: u32) -> Result<usize, Errno> {
        let fid = self.fid(request, fid)?;
        let directory = fid.opened()?.any();
        let mut listing = Listing::new(request.payload_space(count));
        let outcome = directory.read_directory(offset, &mut |entry| listing.take(entry));
        let filled = listing.copy_out();
        match outcome {
            // What is there already is worth more than the error, which comes again when the rest is asked for.
            Err(error) if filled == 0 => return Err(error),
            Ok(()) if filled == 0 && listing.refused => return Err(Errno::EINVAL),
            Ok(()) | Err(_) => {}
        }
        self.count_read(filled);
        request.answer_with_payload(&Rmessage::Rreaddir { count: filled as u32 }, filled)
    }

    /// `Tmkdir`.
    pub(super) fn mkdir(&self, request: &Request, dfid: u32, name: &[u8], mode: u32, gid: u32) -> Result<usize, Errno> {
        let name = Name::new(name)?;
        let directory = self.fid(request, dfid)?;
        let gid = directory.attach.group(gid);
        let qid = directory.node.make_directory(name, mode & mode::PERMISSIONS, gid)?;
        request.answer(&Rmessage::Rmkdir { qid })
    }

    /// `Tsymlink`. The target may be anything that `symlink(2)` takes; no one here follows it.
    pub(super) fn symlink(
        &self,
        request: &Request,
        fid: u32,
        name: &[u8],
        target: &[u8],
        gid: u32,
    ) -> Result<usize, Errno> {
        let name = Name::new(name)?;
        check_target(target)?;
        let directory = self.fid(request, fid)?;
        let qid = directory.node.symlink(name, target, directory.attach.group(gid))?;
        request.answer(&Rmessage::Rsymlink { qid })
    }

    /// `Tmknod`.
    pub(super) fn mknod(
        &self,
        request: &Request,
        fid: u32,
        name: &[u8],
        mode: u32,
        device: (u32, u32),
        gid: u32,
    ) -> Result<usize, Errno> {
        let name = Name::new(name)?;
        let mode = mode & (mode::IFMT | mode::PERMISSIONS);
        let directory = self.fid(request, fid)?;
        let qid = directory.node.make_node(name, mode, device, directory.attach.group(gid))?;
        request.answer(&Rmessage::Rmknod { qid })
    }

    /// `Tlink`.
    pub(super) fn link(&self, request: &Request, dfid: u32, fid: u32, name: &[u8]) -> Result<usize, Errno> {
        let name = Name::new(name)?;
        let (directory, file) = self.two_fids(request, dfid, fid)?;
        directory.node.link(name, &*file.node)?;
        request.answer(&Rmessage::Rlink {})
    }

    /// `Trenameat`.
    pub(super) fn renameat(
        &self,
        request: &Request,
        old_directory: u32,
        old_name: &[u8],
        new_directory: u32,
        new_name: &[u8],
    ) -> Result<usize, Errno> {
        let (old_name, new_name) = (Name::new(old_name)?, Name::new(new_name)?);
        let (old_directory, new_directory) = self.two_fids(request, old_directory, new_directory)?;
        old_directory.node.rename(old_name, &*new_directory.node, new_name)?;
        request.answer(&Rmessage::Rrenameat {})
    }

    /// `Trename`: as `Trenameat`, of the name that the fid was walked by, or that its file has now ([`place_of`]).
    pub(super) fn rename(&self, request: &Request, fid: u32, dfid: u32, name: &[u8]) -> Result<usize, Errno> {
        let new_name = Name::new(name)?;
        let (fid, directory) = self.two_fids(request, fid, dfid)?;
        if let Some(renamed) = fid.node.rename_itself(&*directory.node, new_name) {
            renamed?;
            return request.answer(&Rmessage::Rrename {});
        }
        let place = place_of(&fid)?;
        place.directory.rename(Name::new(&place.name)?, &*directory.node, new_name)?;
        let moved = Place { directory: Arc::clone(&directory.node), name: SmallVec::from_slice(&new_name) };
        *fid.place.lock() = Some(moved);
        request.answer(&Rmessage::Rrename {})
    }

    /// `Tunlinkat`.
    pub(super) fn unlinkat(&self, request: &Request, dirfid: u32, name: &[u8], flags: u32) -> Result<usize, Errno> {
        let name = Name::new(name)?;
        if flags & !AT_REMOVEDIR != 0 {
            return Err(Errno::EINVAL);
        }
        self.fid(request, dirfid)?.node.unlink(name, flags & AT_REMOVEDIR != 0)?;
        request.answer(&Rmessage::Runlinkat {})
    }

    /// `Tremove`: as `Tunlinkat`, of the name that the fid was walked by ([`place_of`]). The fid is forgotten even
    /// where that fails.
    pub(super) fn remove(&self, request: &Request, fid: u32) -> Result<usize, Errno> {
        let fid = self.fids.remove(fid)?;
        self.locks.forget(&fid);
        fid.attach.begin(request.changes)?;
        if fid.xattr().is_some() {
            return Err(Errno::EBADF);
        }
        remove(&fid)?;
        request.answer(&Rmessage::Rremove {})
    }
}

/// Can a symbolic link have this target?
pub(super) fn check_target(target: &[u8]) -> Result<(), Errno> {
    match target {
        b"" => Err(Errno::ENOENT),
        _ if target.len() >= PATH_MAX => Err(Errno::ENAMETOOLONG),
        _ if target.contains(&0) => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// Removes the file that a fid stands for, by the name that it was walked by ([`place_of`]).
pub(super) fn remove(fid: &Fid) -> Result<(), Errno> {
    if let Some(removed) = fid.node.remove_itself() {
        return removed;
    }
    let place = place_of(fid)?;
    place.directory.unlink(Name::new(&place.name)?, fid.node.qid().kind.is_dir())
}

/// The directory and name that a fid was walked by, or where its file is by now.
///
/// `EOPNOTSUPP` for a root, `ENOENT` where the file has no name any more. (One that is swapped in right after this look
/// is moved or removed in its stead, as with any two steps by name. `Trenameat` and `Tunlinkat` have no such gap, and
/// Linux's client prefers them.)
pub(super) fn place_of(fid: &Fid) -> Result<Place, Errno> {
    let known = fid.place.lock().clone();
    if let Some(place) = known {
        match place.directory.lookup(Name::new(&place.name)?) {
            Ok(found) if found.qid().path == fid.node.qid().path => return Ok(place),
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    let (directory, name) = fid.node.locate()?;
    let place = Place { directory, name: SmallVec::from_vec(name) };
    *fid.place.lock() = Some(place.clone());
    Ok(place)
}

/// Bytes of entries that are collected before they are copied into the reply.
const COLLECTED: usize = 2048;

/// The payload of an `Rreaddir`, on its way into the reply.
struct Listing<'a> {
    space: Payload<'a>,
    /// Bytes of `space` that there are, and that are filled.
    length: usize,
    filled: usize,
    /// Was there an entry that did not fit?
    refused: bool,
    collected: [u8; COLLECTED],
    used: usize,
}

impl<'a> Listing<'a> {
    fn new(space: Payload<'a>) -> Self {
        let length = space.len();
        Self { space, length, filled: 0, refused: false, collected: [0; COLLECTED], used: 0 }
    }

    /// Appends an entry; `false` where it does not fit.
    fn take(&mut self, entry: Entry<'_>) -> bool {
        let Entry { qid, offset, kind, name } = entry;
        if name.len() > NAME_MAX {
            // Nobody can walk to it: who lists the directory does not miss it.
            return true;
        }
        let entry = DirEntry { qid, offset, kind, name: Str(name) };
        let length = entry.encoded_len();
        if self.length - self.filled - self.used < length {
            self.refused = true;
            return false;
        }
        if COLLECTED - self.used < length {
            self.copy_out();
        }
        self.used += entry.encode(&mut self.collected[self.used..]).unwrap_or(0);
        true
    }

    /// Copies what was collected into the reply; tells how much is there in all.
    fn copy_out(&mut self) -> usize {
        self.filled += self.space.part(self.filled, self.used).copy_from(&self.collected[..self.used]);
        self.used = 0;
        self.filled
    }
}

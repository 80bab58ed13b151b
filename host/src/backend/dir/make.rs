//! Making files.
//!
//! A client's kernel has applied the client's umask, or a default ACL as it sees it, to the mode that it sends, so the
//! serving process's umask has no say. That is a property of the whole process, which a library must not change; so what
//! it took away is given back afterwards, where it took anything. In between the file has less rights, never more.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use ninering_wire::{Errno, Name, Qid, lopen, mode};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Statx, StatxFlags, Timespec, makedev},
    io::Errno as HostErrno,
    time::{ClockId, clock_gettime},
};

use super::{
    export::{Export, wire_stat},
    file::RegularFile,
    flags::open_flags,
    node::DirNode,
    wire,
};
use crate::backend::{Node, NodeRef, OpenRef};

/// What has to be known of a new file.
const NEW: StatxFlags = Export::IDENTITY.union(StatxFlags::MODE).union(StatxFlags::GID).union(StatxFlags::BTIME);

/// The permission bits that a file is made with; the set-id bits follow when its group is right.
const AT_FIRST: u32 = 0o1777;

/// How often to try again when others make and remove the same name all the time.
const ATTEMPTS: usize = 16;

impl DirNode {
    /// Makes a regular file and opens it, or opens the one that is there.
    pub(super) fn create_file(
        &self,
        name: Name<'_>,
        flags: u32,
        mode: u32,
        gid: u32,
    ) -> Result<(NodeRef, OpenRef), Errno> {
        let host_flags = open_flags(flags)?;
        if flags & lopen::DIRECTORY != 0 {
            return Err(Errno::EINVAL);
        }
        for _ in 0..ATTEMPTS {
            // With O_EXCL always: so nothing that was there, a fifo say, is ever opened by its name.
            let new = host_flags | OFlags::CREATE | OFlags::EXCL;
            match self.export().open_entry(self.as_fd(), name, new, Mode::from_raw_mode(mode & AT_FIRST)) {
                Ok(file) => {
                    let stat = wire_stat(file.as_fd(), NEW)?;
                    self.complete(file.as_fd(), &stat, mode, gid);
                    let descriptor = self.export().reopen(file.as_fd(), OFlags::PATH).map_err(wire)?;
                    let node = self.adopt(descriptor, &stat)?;
                    return Ok((node.clone(), Arc::new(RegularFile::new(file, node))));
                }
                Err(HostErrno::EXIST) if flags & lopen::EXCL == 0 => {}
                Err(error) => return Err(wire(error)),
            }
            match self.entry(name) {
                Ok(node) => {
                    let file = node.open(flags)?;
                    return Ok((node, file));
                }
                // Removed just now: make it after all.
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::EBUSY)
    }

    /// Makes a directory.
    pub(super) fn create_directory(&self, name: Name<'_>, mode: u32, gid: u32) -> Result<Qid, Errno> {
        let since = now();
        rustix::fs::mkdirat(self, name.as_bytes(), Mode::from_raw_mode(mode & AT_FIRST)).map_err(wire)?;
        self.made(name, FileType::Directory, since, mode, gid)
    }

    /// Makes a symbolic link.
    pub(super) fn create_symlink(&self, name: Name<'_>, target: &[u8], gid: u32) -> Result<Qid, Errno> {
        let since = now();
        rustix::fs::symlinkat(target, self, name.as_bytes()).map_err(wire)?;
        self.made(name, FileType::Symlink, since, 0, gid)
    }

    /// Makes a fifo, socket, device, or empty regular file.
    pub(super) fn create_special(
        &self,
        name: Name<'_>,
        mode: u32,
        (major, minor): (u32, u32),
        gid: u32,
    ) -> Result<Qid, Errno> {
        let file_type = match mode & mode::IFMT {
            // As mknod(2) has it.
            0 => FileType::RegularFile,
            mode::IFDIR => return Err(Errno::EPERM),
            _ => FileType::from_raw_mode(mode),
        };
        let device = match file_type {
            FileType::Unknown | FileType::Symlink => return Err(Errno::EINVAL),
            // The kernel would cut off the upper bits, which makes it another device.
            FileType::CharacterDevice | FileType::BlockDevice if major >= 1 << 12 || minor >= 1 << 20 => {
                return Err(Errno::EINVAL);
            }
            FileType::CharacterDevice | FileType::BlockDevice => makedev(major, minor),
            _ => 0,
        };
        let since = now();
        let at_first = Mode::from_raw_mode(mode & AT_FIRST);
        rustix::fs::mknodat(self, name.as_bytes(), file_type, at_first, device).map_err(wire)?;
        self.made(name, file_type, since, mode, gid)
    }

    /// Completes what was made as `name`, and tells its identity.
    ///
    /// By now someone on the host can have put another file there, and must not get it a group or permissions that way.
    /// So only a file that was born after the call began (`since`) is touched. A filesystem that doesn't tell when that
    /// was is trusted.
    fn made(&self, name: Name<'_>, made: FileType, since: Timespec, mode: u32, gid: u32) -> Result<Qid, Errno> {
        let (descriptor, stat) = self.find(name, NEW)?;
        let born = (stat.stx_btime.tv_sec, i64::from(stat.stx_btime.tv_nsec));
        let is_new = stat.stx_mask & StatxFlags::BTIME.bits() == 0 || born >= (since.tv_sec, since.tv_nsec);
        if is_new && FileType::from_raw_mode(stat.stx_mode.into()) == made {
            self.complete(descriptor.as_fd(), &stat, mode, gid);
        }
        self.export().qid(&stat)
    }

    /// Gives a new file of this directory what it could not be made with: its group, and permissions.
    ///
    /// It does so as far as it may. The file is there already, and that its group is another one or its permissions are
    /// narrower, as on filesystems that have neither, is no reason to say that it could not be made.
    fn complete(&self, file: BorrowedFd<'_>, stat: &Statx, mode: u32, gid: u32) {
        let mut group_is_right = gid == !0 || gid == stat.stx_gid;
        if !group_is_right {
            let group = Some(Gid::from_raw(gid));
            group_is_right = rustix::fs::chownat(file, c"", None, group, AtFlags::EMPTY_PATH).is_ok();
        }
        let mut missing = mode & mode::PERMISSIONS & !u32::from(stat.stx_mode);
        if !group_is_right {
            // Set-group-ID was meant for another group.
            missing &= !Mode::SGID.bits();
        }
        if missing & 0o777 != 0 && self.may_have_default_acl() {
            // Then it was the ACL that took them, not the umask, and rightly so.
            missing &= !0o777;
        }
        if missing != 0 && FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Symlink {
            let permissions = u32::from(stat.stx_mode) & mode::PERMISSIONS | missing;
            let _ = self.export().change_mode(file, Mode::from_raw_mode(permissions));
        }
    }

    /// Does this directory have an ACL that new files inherit? Yes, when in doubt.
    fn may_have_default_acl(&self) -> bool {
        let acl = self
            .export()
            .reopen(self.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|directory| rustix::fs::fgetxattr(directory, c"system.posix_acl_default", &mut [0; 0]));
        !matches!(acl, Err(HostErrno::NODATA | HostErrno::OPNOTSUPP))
    }
}

/// The time by the clock that the kernel stamps files with.
fn now() -> Timespec {
    clock_gettime(ClockId::RealtimeCoarse)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;
    use crate::backend::{DirBackend, DirOptions};

    #[test]
    fn what_was_there_before_the_call_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let root = DirBackend::new(directory.path(), DirOptions::default()).unwrap().root;
        let name = Name::new(b"new").unwrap();
        let path = directory.path().join("new");
        fs::DirBuilder::new().create(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        if fs::metadata(&path).unwrap().created().is_err() {
            return;
        }
        let permissions = || fs::metadata(&path).unwrap().mode() & 0o7777;
        let now = now();

        // As if someone had put an older directory in the place of the new one.
        let later = Timespec { tv_sec: now.tv_sec + 60, ..now };
        root.made(name, FileType::Directory, later, 0o777, !0).unwrap();
        assert_eq!(permissions(), 0o700);
        // Or a new file of another type.
        let earlier = Timespec { tv_sec: now.tv_sec - 60, ..now };
        root.made(name, FileType::Fifo, earlier, 0o777, !0).unwrap();
        assert_eq!(permissions(), 0o700);

        root.made(name, FileType::Directory, earlier, 0o777, !0).unwrap();
        assert_eq!(permissions(), 0o777);
    }
}

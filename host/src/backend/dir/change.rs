//! Changing a node's attributes.

use std::os::fd::AsFd;

use ninering_wire::{Errno, SetAttributes, setattr};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

use super::{node::DirNode, wire};

impl DirNode {
    /// Changes attributes in the order in which each leaves alone what the ones before did, as a single change of
    /// Linux's would: a new owner takes the set-id bits away, a new size does and sets the times.
    ///
    /// # Errors
    /// What cannot be done to a file of this type is refused before anything is changed; else the first failing step's.
    pub(super) fn change(&self, changes: &SetAttributes) -> Result<(), Errno> {
        let asked = |bits| changes.valid & bits != 0;
        if asked(!setattr::ALL) {
            return Err(Errno::EINVAL);
        }
        if asked(setattr::SIZE) {
            match self.file_type() {
                FileType::RegularFile => {}
                FileType::Directory => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
        }
        // Links have no permissions of their own.
        if asked(setattr::MODE) && self.file_type() == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        // A new size sets it to the clock's time, and may be set by who may write, which another time may not.
        let modified_by_size = asked(setattr::SIZE) && !asked(setattr::MTIME_SET);
        let times = Timestamps {
            last_access: time(changes, setattr::ATIME, setattr::ATIME_SET, changes.atime_sec, changes.atime_nsec)?,
            last_modification: time(
                changes,
                if modified_by_size { 0 } else { setattr::MTIME },
                setattr::MTIME_SET,
                changes.mtime_sec,
                changes.mtime_nsec,
            )?,
        };

        // !0 stands for "as it is" in `chown(2)`. With both so it sets the change time alone, which is what is left to
        // do when only that is asked for.
        let user = Some(changes.uid).filter(|&uid| asked(setattr::UID) && uid != !0);
        let group = Some(changes.gid).filter(|&gid| asked(setattr::GID) && gid != !0);
        if user.is_some() || group.is_some() || changes.valid == setattr::CTIME {
            let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
            rustix::fs::chownat(self, c"", user, group, AtFlags::EMPTY_PATH).map_err(wire)?;
        }
        if asked(setattr::SIZE) {
            let file = self.export().reopen(self.as_fd(), OFlags::WRONLY).map_err(wire)?;
            rustix::fs::ftruncate(&file, changes.size).map_err(wire)?;
        }
        if asked(setattr::MODE) {
            self.export().change_mode(self.as_fd(), Mode::from_raw_mode(changes.mode & 0o7777)).map_err(wire)?;
        }
        if asked(setattr::ATIME) || asked(setattr::MTIME) && !modified_by_size {
            rustix::fs::utimensat(self, c"", &times, AtFlags::EMPTY_PATH).map_err(wire)?;
        }
        Ok(())
    }
}

/// What to set one of the times to: leave it, the clock's, or the one that was sent.
fn time(changes: &SetAttributes, bit: u32, set_bit: u32, sec: u64, nsec: u64) -> Result<Timespec, Errno> {
    if changes.valid & bit == 0 {
        return Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT });
    }
    if changes.valid & set_bit == 0 {
        return Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW });
    }
    // Above it the two special values would slip in.
    if nsec >= 1_000_000_000 {
        return Err(Errno::EINVAL);
    }
    Ok(Timespec { tv_sec: sec as i64, tv_nsec: nsec as _ })
}

//! `Tgetattr`, `Tsetattr`, `Treadlink` and `Tstatfs`: what is known about a file and its filesystem.

use ninering_wire::{Errno, Rmessage, SetAttributes, Statfs, mode, setattr};

use super::{Session, request::Request};

/// The type of filesystem that a 9P mount is, to Linux and its programs.
const V9FS_MAGIC: u32 = 0x0102_1997;

/// Nanoseconds in a second.
const NANOSECONDS: u64 = 1_000_000_000;

impl Session {
    /// `Tgetattr`.
    pub(super) fn getattr(&self, request: &Request, fid: u32, request_mask: u64) -> Result<usize, Errno> {
        let attributes = self.fid(request, fid)?.attributes(request_mask)?;
        request.answer(&Rmessage::Rgetattr { attributes: (&attributes).into() })
    }

    /// `Tsetattr`. `EINVAL` for bits that mean nothing, sizes past the largest signed offset, and nanoseconds that
    /// make a second.
    pub(super) fn setattr(&self, request: &Request, fid: u32, mut changes: SetAttributes) -> Result<usize, Errno> {
        let asked = |bit| changes.valid & bit != 0;
        if changes.valid & !setattr::ALL != 0
            || asked(setattr::SIZE) && i64::try_from(changes.size).is_err()
            || asked(setattr::ATIME_SET) && changes.atime_nsec >= NANOSECONDS
            || asked(setattr::MTIME_SET) && changes.mtime_nsec >= NANOSECONDS
        {
            return Err(Errno::EINVAL);
        }
        changes.mode &= mode::PERMISSIONS;
        self.fid(request, fid)?.set_attributes(changes)?;
        request.answer(&Rmessage::Rsetattr {})
    }

    /// `Treadlink`.
    pub(super) fn readlink(&self, request: &Request, fid: u32) -> Result<usize, Errno> {
        let target = self.fid(request, fid)?.node.read_link()?;
        request.answer_link(&target)
    }

    /// `Tstatfs`.
    ///
    /// Linux passes the type on to programs, which conclude from it: on ext4 inotify tells of every change (`tail -f`)
    /// and a file has so many links at most (`pathconf`). So it is that of 9P, whatever lies behind.
    pub(super) fn statfs(&self, request: &Request, fid: u32) -> Result<usize, Errno> {
        let statfs = Statfs { kind: V9FS_MAGIC, ..self.fid(request, fid)?.node.statfs()? };
        request.answer(&Rmessage::Rstatfs { statfs: (&statfs).into() })
    }
}

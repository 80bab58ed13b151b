//! Locks of an open regular file: those of its open file description, so that they exclude other processes' too.

use std::{io, os::fd::AsRawFd, sync::Arc};

use ninering_wire::{Errno, LockType, lopen};
use rustix::fs::OFlags;

use super::{file::RegularFile, wire, wire_io};
use crate::backend::{FileIdentity, FileLocks, LockConflict, LockRange, OpenRef};

impl FileLocks for RegularFile {
    fn identity(&self) -> FileIdentity {
        FileIdentity { filesystem: Arc::as_ptr(self.node().export()).addr(), number: self.node().number() }
    }

    fn reopen(&self, access: u32) -> Result<OpenRef, Errno> {
        let flags = match access {
            lopen::RDONLY => OFlags::RDONLY,
            lopen::WRONLY => OFlags::WRONLY,
            _ => OFlags::RDWR,
        };
        let descriptor = self.node().export().reopen(self.node().descriptor(), flags).map_err(wire)?;
        Ok(Arc::new(RegularFile::new(descriptor, Arc::clone(self.node()))))
    }

    fn set_lock(&self, kind: LockType, range: LockRange) -> Result<bool, Errno> {
        match self.control(libc::F_OFD_SETLK, kind, range) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(wire_io(&error)),
        }
    }

    fn find_conflict(&self, kind: LockType, range: LockRange) -> Result<Option<LockConflict>, Errno> {
        let found = self.control(libc::F_OFD_GETLK, kind, range).map_err(|error| wire_io(&error))?;
        let kind = match libc::c_int::from(found.l_type) {
            libc::F_RDLCK => LockType::Read,
            libc::F_WRLCK => LockType::Write,
            _ => return Ok(None),
        };
        let range = LockRange::new(found.l_start as u64, found.l_len as u64)?;
        // -1 for a lock that is no single process's.
        Ok(Some(LockConflict { kind, range, process: u32::try_from(found.l_pid).ok().filter(|&process| process > 0) }))
    }
}

impl RegularFile {
    fn control(&self, command: libc::c_int, kind: LockType, range: LockRange) -> io::Result<libc::flock> {
        let kind = match kind {
            LockType::Read => libc::F_RDLCK,
            LockType::Write => libc::F_WRLCK,
            LockType::Unlock => libc::F_UNLCK,
        };
        let mut lock = libc::flock {
            l_type: kind as _,
            l_whence: libc::SEEK_SET as _,
            l_start: range.start() as _,
            l_len: range.length() as _,
            // As these commands demand.
            l_pid: 0,
        };
        // SAFETY: both commands read a `struct flock`, and the second writes one.
        match unsafe { libc::fcntl(self.descriptor().as_raw_fd(), command, &raw mut lock) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(lock),
        }
    }
}

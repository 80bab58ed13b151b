//! `dir:`: a directory of the host, and nothing outside it.
//!
//! - [`DirBackend`] is the export; `export` holds what all its nodes share.
//! - `node` is a file or directory of it: an `O_PATH` descriptor. `change`, `xattr` and `make` are the parts of it that
//!   change attributes, that know extended ones, and that make new files.
//! - `file` and `directory` are the two kinds of open file; `lock` has the locks of the first.
//! - `locate` finds out where a file is that was renamed.
//! - `known` spares a walk from opening the directories on its way again, `live` from holding them open once more.
//! - `device` keeps the inode numbers of several filesystems apart, `flags` translates those of an open.
//!
//! # How it is contained
//! A node holds its file open (`O_PATH`), and so stands for it when it is renamed, replaced or unlinked. Every step goes
//! from one such descriptor to another by *one* name, which [`Name`] keeps free of `/`, `.` and `..`, and by `openat2(2)`
//! with `RESOLVE_BENEATH`, which follows no symbolic link: there is never a path to be joined, checked or raced. Where the
//! kernel, asked by that one name and not following it, says that it leads to a directory that is held open already,
//! that is taken instead (`known`). The way up is not asked of the filesystem at all, each node remembers the one that
//! it was reached from, and where directories were moved, the way down is walked to where the kernel says that it is.
//! Contents are opened through `/proc/self/fd`, by which the kernel reaches the very file that a descriptor holds; fifos,
//! sockets and devices never are, for they lead out of the export.
//!
//! # What it does not do
//! - It looks at no user: each call has the rights of the thread that makes it, and new files belong to that one's user,
//!   set-user-ID ones too. A server that runs as root makes each call on a thread that acts as the one who attached.
//! - A directory that the *host* moves out of the export goes on being served to those who hold it or something below.
//! - A mount point below the export has two inode numbers, as everywhere on Linux: a listing tells the one that is
//!   mounted over, a lookup the one that is mounted.
//! - A node keeps the directories above it open, each once for all nodes, and the backend a few dozen that were looked up
//!   lately, so the process needs a limit of open files (`RLIMIT_NOFILE`) above the number of fids.

mod change;
mod device;
mod directory;
mod export;
mod file;
mod flags;
mod known;
mod live;
mod locate;
mod lock;
mod make;
mod node;
mod xattr;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ninering_wire::{Errno, Name};
use rustix::{
    fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC},
    io::Errno as HostErrno,
};

use self::{export::Export, known::KnownDirectories, node::DirNode};
use super::{Backend, NodeRef, User};

/// A directory of the host.
///
/// An attach's `aname` is a directory below it, by names that are separated by `/`; empty for itself.
pub struct DirBackend {
    root: Arc<DirNode>,
    /// Only nodes look into it, and only for as long as this holds it.
    _known_directories: Arc<KnownDirectories>,
}

/// How a directory is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirOptions {
    /// Serve no filesystem but the one that the directory lies in: `EXDEV` to what is mounted below.
    pub one_filesystem: bool,
}

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// It cannot be opened.
    #[error("cannot open the directory {}: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// The kernel cannot contain the export.
    #[error(
        "openat2(2), which keeps an export contained, does not work here ({source}): it needs Linux 5.6 and a sandbox that allows it"
    )]
    NoOpenat2 {
        /// The system call's error.
        source: io::Error,
    },
    /// There is no `/proc` to open files through.
    #[error("cannot use /proc/self/fd, through which files are opened ({source}): is /proc mounted?")]
    NoProc {
        /// The system call's error.
        source: io::Error,
    },
}

impl DirBackend {
    /// Serves the directory `path`, which may be relative and lead over symbolic links; what it leads to is held open.
    ///
    /// A process that forks afterwards must not use it in the child, whose descriptors are others.
    ///
    /// # Errors
    /// [`DirError`], which says what is missing.
    pub fn new(path: &Path, options: DirOptions) -> Result<Self, DirError> {
        let cannot_open = |error: HostErrno| DirError::Open { path: path.to_owned(), source: error.into() };
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, directory, Mode::empty()).map_err(cannot_open)?;

        let no_proc = |error: HostErrno| DirError::NoProc { source: error.into() };
        let descriptors = rustix::fs::openat(CWD, c"/proc/self/fd", directory, Mode::empty()).map_err(no_proc)?;
        // Anything else that is mounted there could lead anywhere.
        if rustix::fs::fstatfs(&descriptors).map_err(no_proc)?.f_type != PROC_SUPER_MAGIC {
            return Err(no_proc(HostErrno::NOENT));
        }

        let known = Arc::<KnownDirectories>::default();
        let root = Export::serve(root, descriptors, options, Arc::downgrade(&known)).map_err(|error| match error {
            // A sandbox that doesn't know the system call answers EPERM.
            HostErrno::NOSYS | HostErrno::PERM => DirError::NoOpenat2 { source: error.into() },
            _ => cannot_open(error),
        })?;
        Ok(Self { root, _known_directories: known })
    }
}

impl Backend for DirBackend {
    fn attach(&self, _user: &User, aname: &[u8]) -> Result<NodeRef, Errno> {
        let mut root = self.root.clone();
        for name in aname.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            root = root.enter(Name::new(name)?)?;
        }
        Ok(root)
    }
}

/// The errno that a client sees. The numbers are Linux's own on all machines that this is built for.
fn wire(error: HostErrno) -> Errno {
    Errno(error.raw_os_error().unsigned_abs())
}

/// The same of a standard error.
fn wire_io(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, |number| Errno(number.unsigned_abs()))
}

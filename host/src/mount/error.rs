//! Why operations fail.

use std::sync::Arc;

use ninering_wire::Errno;

/// Why an operation on a mount failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The server, or the path, says so.
    #[error("{0}")]
    Errno(#[from] Errno),
    /// The mount is broken; why.
    #[error("the mount is broken: {0}")]
    Broken(Arc<str>),
}

impl Error {
    /// The errno that a program is to see.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Errno(errno) => *errno,
            Self::Broken(_) => Errno::EIO,
        }
    }

    pub(super) fn broken(reason: impl Into<Arc<str>>) -> Self {
        Self::Broken(reason.into())
    }
}

/// The outcome of an operation on a mount.
pub type Result<T, E = Error> = std::result::Result<T, E>;

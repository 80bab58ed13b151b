//! Why an operation failed.

use std::{fmt, rc::Rc};

use ninering_wire::Errno;

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server, or the path, says so.
    Errno(Errno),
    /// The connection was lost before the answer came, and whether what was asked for was done cannot be found out.
    InDoubt,
    /// The session is broken, and every operation with it; why.
    Broken(Rc<str>),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(formatter),
            Self::InDoubt => formatter.write_str("the connection was lost, and whether this was done is not known"),
            Self::Broken(reason) => write!(formatter, "the session is broken: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

//! Names that are safe to hand to a filesystem.

use core::{fmt, ops::Deref};

use crate::{Errno, NAME_MAX};

/// One component of a path: not empty, not `.` or `..`, without `/` and NUL, at most [`NAME_MAX`] bytes.
///
/// Who holds one cannot name anything but an entry of the directory at hand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// `ENOENT` for an empty name, `ENAMETOOLONG` past [`NAME_MAX`] bytes, `EINVAL` for `.`, `..`, `/` and NUL.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        match bytes {
            b"" => Err(Errno::ENOENT),
            b"." | b".." => Err(Errno::EINVAL),
            _ if bytes.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
            _ if bytes.iter().any(|&byte| byte == b'/' || byte == 0) => Err(Errno::EINVAL),
            _ => Ok(Self(bytes)),
        }
    }

    /// The name's bytes; Linux gives them no encoding.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl Deref for Name<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

//! Names of extended attributes that are safe to hand to a filesystem.

use std::{fmt, ops::Deref};

use ninering_wire::{Errno, xattr};

/// The name of an extended attribute, namespace and all: not empty, without NUL, at most [`xattr::NAME_MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct XattrName<'a>(&'a [u8]);

impl<'a> XattrName<'a> {
    /// The two attributes that hold POSIX ACLs.
    const ACLS: [&'static [u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

    /// Checks `bytes`.
    ///
    /// # Errors
    /// Those of `setxattr(2)`: `ERANGE` for an empty name and one of too many bytes; `EINVAL` for a NUL in it.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        match bytes {
            _ if bytes.is_empty() || bytes.len() > xattr::NAME_MAX => Err(Errno::ERANGE),
            _ if bytes.contains(&0) => Err(Errno::EINVAL),
            _ => Ok(Self(bytes)),
        }
    }

    /// Does it stand for a POSIX ACL? To set one to no bytes is to remove it.
    pub fn is_acl(self) -> bool {
        Self::ACLS.contains(&self.0)
    }

    /// What is before the first dot; all of it where there is none.
    pub fn namespace(self) -> &'a [u8] {
        self.0.split(|&byte| byte == b'.').next().unwrap_or_default()
    }
}

impl Deref for XattrName<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl fmt::Debug for XattrName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

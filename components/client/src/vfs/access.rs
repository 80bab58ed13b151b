//! What the user may do with a file: `access(2)`.

use ninering_wire::{Errno, NONUNAME, Tmessage, lopen, mode};

use super::{NodeNumber, Value, Vfs};
use crate::{error::Error, ring::Ring};

/// What somebody wants to do with a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessMode {
    /// Read it.
    pub read: bool,
    /// Write it.
    pub write: bool,
    /// Run it, or walk through the directory.
    pub execute: bool,
}

impl AccessMode {
    /// As bits of one class of permissions.
    fn bits(self) -> u32 {
        u32::from(self.read) << 2 | u32::from(self.write) << 1 | u32::from(self.execute)
    }
}

impl<R: Ring> Vfs<R> {
    /// May the user do that with what a path names?
    ///
    /// Who may read or write a regular file, the server alone knows: by access control lists, by groups, by who it takes
    /// the user for. So it is asked, by opening. For all else there is no way to ask that has no effect, and what the
    /// attributes say must do: those of the owner, of the group whose number is the user's own, or of the others.
    ///
    /// # Errors
    /// Those of `faccessat(2)`.
    pub async fn access(
        &self,
        directory: NodeNumber,
        path: String,
        follow: bool,
        wanted: AccessMode,
    ) -> Result<Value, Error> {
        let mut walker = self.find(directory, path, follow).await?;
        if wanted == AccessMode::default() {
            return Ok(Value::None);
        }
        let attributes = self.session.getattr(walker.fid()).await?;
        let is_regular = attributes.mode & mode::IFMT == mode::IFREG;
        let told = if is_regular { AccessMode { read: false, write: false, ..wanted } } else { wanted };
        let has = match self.uid.get() {
            // Nobody in particular, and root, may do everything; but nobody runs what is not made to be run.
            NONUNAME | 0 if attributes.mode & 0o111 != 0 || !is_regular => 7,
            NONUNAME | 0 => 6,
            uid if uid == attributes.uid => attributes.mode >> 6,
            _ if self.gid.get() == attributes.gid => attributes.mode >> 3,
            _ => attributes.mode,
        };
        if told.bits() & !has != 0 {
            return Err(Errno::EACCES.into());
        }
        let flags = match (wanted.read, wanted.write) {
            (true, true) => lopen::RDWR,
            (true, false) => lopen::RDONLY,
            (false, true) => lopen::WRONLY,
            (false, false) => return Ok(Value::None),
        };
        if is_regular {
            let fid = walker.own_fid().await?;
            self.session.open(Tmessage::Tlopen { fid: fid.number(), flags }).await?;
            fid.set_open();
        }
        Ok(Value::None)
    }
}

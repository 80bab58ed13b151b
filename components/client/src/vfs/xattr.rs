//! Extended attributes.
//!
//! A value is read by a fid of its own, which `Txattrwalk` makes, and written by a fid that `Txattrcreate` has turned into
//! one for it, and whose clunk sets the attribute. So a clunk is waited for here, and it alone: by it the server says
//! whether the attribute was set.

use ninering_wire::{Errno, Str, Tmessage, xattr};

use super::{Place, Value, Vfs};
use crate::{
    error::Error,
    ring::{Direction, Ring},
    session::Fid,
    transfer::Io,
};

/// How to set an extended attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetMode {
    /// Whether or not it is there.
    #[default]
    Any,
    /// Only if it is not there.
    Create,
    /// Only if it is.
    Replace,
}

impl<R: Ring> Vfs<R> {
    /// Reads a value into the next `bytes` bytes of `iter`; with 0 bytes, only tells its length.
    ///
    /// # Errors
    /// Those of `getxattr(2)`.
    pub async fn get_xattr(&self, place: Place, name: String, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        check_name(&name)?;
        self.read_xattr(place, name.as_bytes(), iter, bytes).await
    }

    /// Reads the names of all, each with a NUL behind it.
    ///
    /// # Errors
    /// Those of `listxattr(2)`.
    pub async fn list_xattrs(&self, place: Place, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        self.read_xattr(place, b"", iter, bytes).await
    }

    async fn read_xattr(&self, place: Place, name: &[u8], iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        let located = self.locate(place).await?;
        let (fid, size) = self.session.xattr_walk(located.fid(), name).await?;
        if bytes == 0 || size == 0 {
            return Ok(Value::Count(size));
        }
        if size > bytes {
            return Err(Errno::ERANGE.into());
        }
        let direction = Direction::Dest;
        let io = Io { fid: fid.number(), offset: 0, iter, bytes: size, direction, iounit: 0, in_sequence: false };
        // Fewer where the server reads what is there now, and that has been set to something shorter meanwhile.
        Ok(Value::Count(self.session.transfer(&io).await?))
    }

    /// Sets a value to the next `bytes` bytes of `iter`.
    ///
    /// # Errors
    /// Those of `setxattr(2)`.
    pub async fn set_xattr(
        &self,
        place: Place,
        name: String,
        mode: SetMode,
        iter: R::Iter,
        bytes: u64,
    ) -> Result<Value, Error> {
        check_name(&name)?;
        let located = self.locate(place).await?;
        let flags = match mode {
            SetMode::Any => 0,
            SetMode::Create => xattr::CREATE,
            // Without bytes this would mean to remove it.
            SetMode::Replace if bytes == 0 => {
                self.session.xattr_walk(located.fid(), name.as_bytes()).await?;
                0
            }
            SetMode::Replace => xattr::REPLACE,
        };
        let fid = self.begin_xattr(located.fid(), &name, bytes, flags).await?;
        let direction = Direction::Source;
        // Each of them is to follow on what is there.
        let io = Io { fid: fid.number(), offset: 0, iter, bytes, direction, iounit: 0, in_sequence: true };
        if self.session.transfer(&io).await? < bytes {
            return Err(Errno::EIO.into());
        }
        self.session.clunk_and_wait(fid).await?;
        Ok(Value::None)
    }

    /// Removes one, as Linux's client does: by setting it to nothing, where it must be there.
    ///
    /// # Errors
    /// Those of `removexattr(2)`.
    pub async fn remove_xattr(&self, place: Place, name: String) -> Result<Value, Error> {
        check_name(&name)?;
        let located = self.locate(place).await?;
        let fid = self.begin_xattr(located.fid(), &name, 0, xattr::REPLACE).await?;
        self.session.clunk_and_wait(fid).await?;
        Ok(Value::None)
    }

    /// A fid that takes a value.
    async fn begin_xattr(&self, file: u32, name: &str, size: u64, flags: u32) -> Result<Fid<R>, Error> {
        let fid = self.session.clone_fid(file).await?;
        let message = Tmessage::Txattrcreate { fid: fid.number(), name: Str(name.as_bytes()), size, flags };
        self.session.order(message).await?;
        Ok(fid)
    }
}

fn check_name(name: &str) -> Result<(), Errno> {
    match name.len() {
        0 => Err(Errno::ERANGE),
        length if length > xattr::NAME_MAX => Err(Errno::ERANGE),
        _ if name.contains('\0') => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

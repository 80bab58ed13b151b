//! Extended attributes.
//!
//! An empty path names the file that the handle is open on.

use ninering_wire::{Errno, xattr};

use super::{Handle, Result, kept, unexpected, yielded};
use crate::mount::{
    Buffers, SetMode,
    cache::names::{Change, Target},
    component::vfs::Value,
};

/// The longest value or list that is asked for, in bytes. Linux's have at most [`xattr::SIZE_MAX`].
const MOST_BYTES: u64 = 1 << 20;

impl Handle {
    /// The value of its extended attribute `name`; `ENODATA` where there is none.
    pub async fn xattr(&self, name: &str) -> Result<Vec<u8>> {
        self.xattr_at("", true, name).await
    }

    /// The value of an extended attribute of what `path` names.
    pub async fn xattr_at(&self, path: &str, follow: bool, name: &str) -> Result<Vec<u8>> {
        self.read_xattr(path, follow, Some(name)).await
    }

    /// The names of its extended attributes.
    pub async fn xattrs(&self) -> Result<Vec<String>> {
        self.xattrs_at("", true).await
    }

    /// The names of the extended attributes of what `path` names. Bytes that are no UTF-8 are told as U+FFFD.
    pub async fn xattrs_at(&self, path: &str, follow: bool) -> Result<Vec<String>> {
        let list = self.read_xattr(path, follow, None).await?;
        let names = list.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// Sets its extended attribute `name`.
    ///
    /// Where the handle is open to read or write the file, this is for servers that allow another fid to be made of an open
    /// one, as ours does; with others, use [`Handle::set_xattr_at`].
    pub async fn set_xattr(&self, name: &str, value: &[u8], mode: SetMode) -> Result<()> {
        self.set_xattr_at("", true, name, value, mode).await
    }

    /// Sets an extended attribute of what `path` names, as a whole or not at all.
    pub async fn set_xattr_at(&self, path: &str, follow: bool, name: &str, value: &[u8], mode: SetMode) -> Result<()> {
        self.writable()?;
        if value.len() as u64 > MOST_BYTES {
            return Err(Errno::E2BIG.into());
        }
        let mut buffers = self.xattr_buffers(value.len()).await?;
        let mut rest = value;
        for buffer in &mut buffers {
            let taken = buffer.write(0, rest);
            buffer.truncate(taken);
            rest = &rest[taken..];
        }
        self.mount.count_copied(value.len());
        let _change = self.changing_xattrs(path);
        let outcome = self.mount.operate(self.incarnation, buffers, |vfs, store, extents| {
            vfs.call_set_xattr(store, self.node, path, follow, name, mode, extents)
        });
        yielded!(outcome.await)
    }

    /// Removes its extended attribute `name`.
    pub async fn remove_xattr(&self, name: &str) -> Result<()> {
        self.remove_xattr_at("", true, name).await
    }

    /// Removes an extended attribute of what `path` names.
    pub async fn remove_xattr_at(&self, path: &str, follow: bool, name: &str) -> Result<()> {
        self.writable()?;
        let _change = self.changing_xattrs(path);
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_remove_xattr(store, self.node, path, follow, name)
        });
        yielded!(outcome.await)
    }

    /// The file is about to be changed: an ACL is permissions too.
    fn changing_xattrs(&self, path: &str) -> Option<Change<'_>> {
        match path {
            "" => self.changing(),
            path => self.changing_names(|directory| Target::FileAt(directory, path)),
        }
    }

    /// The value of that name, or the list of names.
    async fn read_xattr(&self, path: &str, follow: bool, name: Option<&str>) -> Result<Vec<u8>> {
        let mut size = xattr::SIZE_MAX;
        loop {
            let buffers = self.xattr_buffers(size).await?;
            match self.fetch_xattr(path, follow, name, buffers).await {
                Err(error) if error.errno() == Errno::ERANGE => {}
                fetched => {
                    let (count, buffers) = fetched?;
                    if buffers.is_empty() {
                        return Err(kept());
                    }
                    let mut value = vec![0; count.min(size)];
                    let mut filled = 0;
                    for buffer in &buffers {
                        filled += buffer.read(0, &mut value[filled..]);
                    }
                    value.truncate(filled);
                    self.mount.count_copied(filled);
                    return Ok(value);
                }
            }
            // It is longer than those that Linux has.
            let (needed, _) = self.fetch_xattr(path, follow, name, Buffers::new()).await?;
            if needed as u64 > MOST_BYTES {
                return Err(Errno::E2BIG.into());
            }
            size = needed.max(2 * size);
        }
    }

    async fn fetch_xattr(
        &self,
        path: &str,
        follow: bool,
        name: Option<&str>,
        buffers: Buffers,
    ) -> Result<(usize, Buffers)> {
        let outcome = self.mount.operate(self.incarnation, buffers, |vfs, store, extents| match name {
            Some(name) => vfs.call_get_xattr(store, self.node, path, follow, name, extents),
            None => vfs.call_list_xattrs(store, self.node, path, follow, extents),
        });
        let (value, buffers, _) = outcome.await;
        let count = yielded!((value,), Count)?;
        Ok((usize::try_from(count).unwrap_or(usize::MAX), buffers))
    }

    /// Buffers of so many bytes in all: several where memory is scarce, none for no bytes.
    async fn xattr_buffers(&self, bytes: usize) -> Result<Buffers> {
        let mut buffers = Buffers::new();
        let mut missing = bytes;
        while missing > 0 {
            let buffer = self.mount.buffer(missing).await?;
            missing -= buffer.len().min(missing);
            buffers.push(buffer);
        }
        Ok(buffers)
    }
}

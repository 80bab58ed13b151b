//! Reading, writing, listing, and storing what was written.

use std::rc::Rc;

use ninering_wire::{Errno, Names, Tmessage, lopen};

use super::{Node, NodeNumber, Value, Vfs};
use crate::{
    error::Error,
    ring::{Direction, Ring},
    session::{self, Fid},
    transfer::Io,
};

/// How often a directory is read on where all entries were `.` and `..`, of which an honest server has two.
const MOST_DOT_REPLIES: u32 = 3;

impl<R: Ring> Vfs<R> {
    /// Reads at `offset` into the next `bytes` bytes of `iter`.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub async fn read(&self, number: NodeNumber, offset: u64, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        let node = self.node(number)?;
        if !node.readable {
            return Err(Errno::EBADF.into());
        }
        self.read_or_write(&node, Direction::Dest, offset, iter, bytes).await
    }

    /// Writes the next `bytes` bytes of `iter` at `offset`.
    ///
    /// # Errors
    /// Those of `pwrite(2)`.
    pub async fn write(&self, number: NodeNumber, offset: u64, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        let node = self.node(number)?;
        if !node.writable {
            return Err(Errno::EBADF.into());
        }
        self.read_or_write(&node, Direction::Source, offset, iter, bytes).await
    }

    async fn read_or_write(
        &self,
        node: &Node<R>,
        direction: Direction,
        offset: u64,
        iter: R::Iter,
        bytes: u64,
    ) -> Result<Value, Error> {
        if node.qid.kind.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        let io = Io {
            fid: node.fid.number(),
            offset,
            iter,
            bytes,
            direction,
            iounit: node.iounit,
            // A server may serve requests in any order, and each of these goes to where the file ends then.
            in_sequence: node.append && direction == Direction::Source,
        };
        Ok(Value::Count(self.session.transfer(&io).await?))
    }

    /// Reads a directory, from an entry's `offset` or 0 on.
    ///
    /// # Errors
    /// Those of `getdents(2)`.
    pub async fn read_directory(&self, number: NodeNumber, mut offset: u64) -> Result<Value, Error> {
        let node = self.node(number)?;
        if !node.qid.kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if !node.readable {
            return Err(Errno::EBADF.into());
        }
        let fid = self.listing(&node).await?;
        for _ in 0..MOST_DOT_REPLIES {
            let mut entries = self.session.read_directory(fid.number(), offset, u32::MAX).await?;
            let Some(last) = entries.last() else { return Ok(Value::Entries { entries, end: true }) };
            offset = last.offset;
            entries.retain(|entry| !matches!(entry.name.as_slice(), b"." | b".."));
            // Without an entry the caller would not know where to go on.
            if !entries.is_empty() {
                return Ok(Value::Entries { entries, end: false });
            }
        }
        Err(Errno::EIO.into())
    }

    /// The fid by which a directory's entries are read.
    async fn listing(&self, node: &Node<R>) -> Result<Rc<Fid<R>>, Error> {
        if let Some(fid) = &*node.listing.borrow() {
            return Ok(fid.clone());
        }
        let flags = lopen::RDONLY | lopen::DIRECTORY;
        let fid = if self.session.can_visit() {
            let open = |fid| Tmessage::Tlopen { fid, flags };
            let visited = self.session.visit(node.fid.number(), Names::default(), true, open, session::opened).await?;
            visited.done.transpose()?;
            visited.fid.ok_or(Errno::EIO)?
        } else {
            let fid = self.session.clone_fid(node.fid.number()).await?;
            self.session.open(Tmessage::Tlopen { fid: fid.number(), flags }).await?;
            fid
        };
        fid.set_open();
        // Another operation may have been faster; one of the two fids is let go.
        let fid = Rc::new(fid);
        *node.listing.borrow_mut() = Some(fid.clone());
        Ok(fid)
    }

    /// Yields when the file's data, or all of it, is on stable storage.
    ///
    /// # Errors
    /// Those of `fsync(2)`.
    pub async fn sync(&self, number: NodeNumber, data_only: bool) -> Result<Value, Error> {
        let node = self.node(number)?;
        let listing = match (node.is_open, node.readable) {
            (true, _) => None,
            (false, true) => Some(self.listing(&node).await?),
            (false, false) => return Err(Errno::EBADF.into()),
        };
        let fid = listing.as_deref().unwrap_or(&node.fid).number();
        self.order(Tmessage::Tfsync { fid, datasync: data_only.into() }).await
    }
}

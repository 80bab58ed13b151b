//! Reading into and writing from several buffers at a time.

use super::{Buffer, Handle, Result};
use crate::mount::component::vfs::MemoryKind;

impl Handle {
    /// Reads at `offset` into `buffers`, one after the other, as `preadv(2)` does. Tells how many bytes there were: fewer than
    /// there is space for only at the end of the file. The buffers come back as they are, the bytes behind that number
    /// with what was in them before.
    ///
    /// It is read past the mount's cache, in one operation, and as few requests as `msize` allows, however many the buffers are.
    pub async fn read_vectored_at(&self, offset: u64, buffers: Vec<Buffer>) -> Result<(usize, Vec<Buffer>)> {
        if buffers.is_empty() {
            return Ok((0, buffers));
        }
        if let Some(cache) = self.mount.content_cache() {
            cache.flush_path(self.qid.path).await;
        }
        let (count, buffers) = self.read_into(offset, MemoryKind::Application, buffers.into()).await?;
        Ok((count, buffers.into_vec()))
    }

    /// Writes all of `buffers` at `offset`, one after the other, as `pwritev(2)` does; to the end of a file that was opened to
    /// append. Tells how many bytes were written, fewer only where an error struck behind them, and gives the buffers back,
    /// unless the server may still read them. They are written past the mount's cache.
    pub async fn write_vectored_at(&self, offset: u64, buffers: Vec<Buffer>) -> (Result<usize>, Vec<Buffer>) {
        if buffers.is_empty() {
            return (self.writable().map(|()| 0), buffers);
        }
        let (count, buffers) = self.write_past_cache(offset, buffers.into()).await;
        (count, buffers.into_vec())
    }
}

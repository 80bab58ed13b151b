//! `wasi:filesystem/types.directory-entry-stream`.

use std::collections::VecDeque;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    FsResult,
    bindings::filesystem::types::{self, DirectoryEntryStream, ErrorCode, HostDirectoryEntryStream},
};

use super::{
    MountsCtxView,
    descriptor::{Shared, entry_type},
    error::fs_error,
    recent::Moment,
};
use crate::mount::{self, DirectoryEntry, Handle, OpenFlags};

/// A directory being read, a batch of entries at a time.
pub(super) struct DirectoryStream {
    descriptor: Shared,
    /// Opened anew for each stream, so that each has a position of its own.
    directory: Handle,
    entries: VecDeque<DirectoryEntry>,
    /// When they were read.
    read: Moment,
    next: u64,
    end: bool,
}

impl DirectoryStream {
    pub(super) async fn open(descriptor: Shared) -> mount::Result<Self> {
        let directory = descriptor.handle().open_at(".", OpenFlags::READ | OpenFlags::DIRECTORY, 0).await?;
        let read = Moment::now(descriptor.mount());
        Ok(Self { descriptor, directory, entries: VecDeque::new(), read, next: 0, end: false })
    }

    async fn next(&mut self) -> mount::Result<Option<DirectoryEntry>> {
        while self.entries.is_empty() && !self.end {
            let batch = self.directory.read_directory(self.next).await?;
            self.read = Moment::now(self.descriptor.mount());
            self.end = batch.end;
            if let Some(last) = batch.entries.last() {
                self.next = last.offset;
            }
            self.entries = batch.entries.into();
        }
        Ok(self.entries.pop_front())
    }
}

impl HostDirectoryEntryStream for MountsCtxView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let stream = self.table.get_mut(&Resource::<DirectoryStream>::new_borrow(stream.rep()))?;
        let Some(entry) = stream.next().await.map_err(fs_error)? else { return Ok(None) };
        let name = String::from_utf8(entry.name).map_err(|_| ErrorCode::IllegalByteSequence)?;
        stream.descriptor.recent().note(&name, false, entry.qid.path, stream.read);
        Ok(Some(types::DirectoryEntry { type_: entry_type(entry.kind), name }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<DirectoryStream>::new_own(stream.rep()))?;
        Ok(())
    }
}

//! `wasi:filesystem/types.descriptor`: an open file or directory as a program holds it.

use std::sync::Arc;

use tokio::sync::OnceCell;
use wasmtime_wasi::p2::{
    FsResult,
    bindings::filesystem::types::{DescriptorFlags, ErrorCode},
};

use super::{convert::open_how, directory::Begun, error::fs_error, recent::Recent};
use crate::mount::{self, AttributeChanges, Handle, Mount, Writer};

/// An open file or directory as a program holds it.
pub(super) struct Descriptor {
    file: Arc<Writer>,
    flags: DescriptorFlags,
    /// Where it was opened, to open it again for appending.
    origin: Option<Origin>,
    appender: OnceCell<Arc<Writer>>,
    /// What was last told about something in this directory.
    recent: Recent,
    begun: Begun,
}

struct Origin {
    directory: Arc<Writer>,
    path: String,
    follow: bool,
}

/// A shared hold on a descriptor, as its streams have it; the file is closed with the last one.
#[derive(Clone)]
pub(super) struct Shared(Arc<Descriptor>);

impl Shared {
    pub(super) fn new(descriptor: Descriptor) -> Self {
        Self(Arc::new(descriptor))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.flags.contains(DescriptorFlags::WRITE) {
            Arc::clone(&self.file).close();
            if let Some(appender) = self.appender.take() {
                appender.close();
            }
        }
    }
}

impl std::ops::Deref for Shared {
    type Target = Descriptor;

    fn deref(&self) -> &Descriptor {
        &self.0
    }
}

impl Descriptor {
    pub(super) fn root(mount: &Mount) -> Self {
        let mut flags = DescriptorFlags::READ;
        if !mount.options().read_only {
            flags |= DescriptorFlags::MUTATE_DIRECTORY;
        }
        Self::new(Writer::new(mount.root()), flags, None)
    }

    /// What was opened by a path from `base`.
    pub(super) fn opened(file: Arc<Writer>, flags: DescriptorFlags, base: &Self, path: String, follow: bool) -> Self {
        Self::new(file, flags, Some(Origin { directory: Arc::clone(&base.file), path, follow }))
    }

    fn new(file: Arc<Writer>, flags: DescriptorFlags, origin: Option<Origin>) -> Self {
        let (appender, recent, begun) = (OnceCell::new(), Recent::default(), Begun::default());
        Self { file, flags, origin, appender, recent, begun }
    }

    pub(super) fn flags(&self) -> DescriptorFlags {
        self.flags
    }

    pub(super) fn handle(&self) -> &Handle {
        self.file.handle()
    }

    pub(super) fn mount(&self) -> &Mount {
        self.handle().mount()
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    pub(super) fn begun(&self) -> &Begun {
        &self.begun
    }

    pub(super) fn writer(&self) -> &Arc<Writer> {
        &self.file
    }

    pub(super) fn is_directory(&self) -> bool {
        self.handle().is_directory()
    }

    /// The directory that paths are relative to.
    pub(super) fn directory(&self) -> FsResult<&Handle> {
        if self.is_directory() { Ok(self.handle()) } else { Err(ErrorCode::NotDirectory.into()) }
    }

    pub(super) fn readable(&self) -> Result<(), ErrorCode> {
        match () {
            () if self.is_directory() => Err(ErrorCode::IsDirectory),
            () if !self.flags.contains(DescriptorFlags::READ) => Err(ErrorCode::BadDescriptor),
            () => Ok(()),
        }
    }

    pub(super) fn writable(&self) -> Result<(), ErrorCode> {
        match () {
            () if self.is_directory() => Err(ErrorCode::IsDirectory),
            () if !self.flags.contains(DescriptorFlags::WRITE) => Err(ErrorCode::BadDescriptor),
            () => Ok(()),
        }
    }

    /// Writes what was gathered for this file by anybody, so that what is done next sees it.
    pub(super) async fn settle(&self) -> mount::Result<()> {
        self.mount().flush_file(self.handle().qid().path).await
    }

    /// The same file, open to append; `None` where it can't be had any more, because its name is another file's now.
    pub(super) async fn appender(&self) -> Option<Arc<Writer>> {
        let origin = self.origin.as_ref()?;
        let open = || async {
            let flags = open_how([
                (mount::OpenFlags::WRITE | mount::OpenFlags::APPEND, true),
                (mount::OpenFlags::FOLLOW, origin.follow),
            ]);
            let handle = origin.directory.handle().open_at(&origin.path, flags, 0).await.map_err(drop)?;
            if handle.qid().path == self.handle().qid().path { Ok(Writer::new(handle)) } else { Err(()) }
        };
        self.appender.get_or_try_init(open).await.ok().cloned()
    }

    /// The identity of the file: its qid, which for a root is yet to be asked for.
    pub(super) async fn identity(&self) -> mount::Result<u64> {
        match self.origin {
            Some(_) => Ok(self.handle().qid().path),
            None => Ok(Box::pin(self.handle().identify_at(".", true)).await?.path),
        }
    }

    pub(super) async fn set_attributes(&self, changes: AttributeChanges) -> FsResult<()> {
        self.settle().await.map_err(fs_error)?;
        self.handle().set_attributes(changes).await.map_err(fs_error)
    }

    pub(super) async fn sync(&self, data_only: bool) -> FsResult<()> {
        if !self.is_directory() && !self.flags.intersects(DescriptorFlags::READ | DescriptorFlags::WRITE) {
            return Err(ErrorCode::BadDescriptor.into());
        }
        self.settle().await.map_err(fs_error)?;
        if self.flags.contains(DescriptorFlags::WRITE) {
            // What failed before is told here, as fsync(2) tells it.
            self.file.flush().await.map_err(fs_error)?;
            if let Some(appender) = self.appender.get() {
                appender.flush().await.map_err(fs_error)?;
            }
        }
        self.handle().sync(data_only).await.map_err(fs_error)
    }
}

//! The calls of `wasi:filesystem/types` and `wasi:filesystem/preopens`.

use ninering_wire::QidType;
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime_wasi::{
    filesystem::Descriptor as WasiDescriptor,
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult,
        bindings::filesystem::{
            preopens,
            types::{
                self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntryStream, ErrorCode,
                Filesize, HostDescriptor, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
            },
        },
    },
};

use super::{
    MountsCtxView,
    convert::{changes, descriptor_stat, descriptor_type, metadata_hash, open_how, set_time},
    descriptor::{Descriptor, Shared},
    directory::DirectoryStream,
    error::{error_code, fs_error},
    recent::Moment,
    stream::{FileInput, FileOutput},
};
use crate::mount::{self, AttributeChanges, Writer};

/// What a program's new files and directories are allowed: as with the usual umask of 022.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// The most bytes that one call of `read` reads of a file in the cache.
const LONGEST_READ: usize = 1 << 20;

/// The handle table knows descriptors by wasmtime's type for them; what is in the table is ours.
fn ours(descriptor: &Resource<WasiDescriptor>) -> Resource<Shared> {
    Resource::new_borrow(descriptor.rep())
}

impl MountsCtxView<'_> {
    fn descriptor(&self, descriptor: &Resource<WasiDescriptor>) -> Result<Shared, ResourceTableError> {
        Ok(self.table.get(&ours(descriptor))?.clone())
    }

    fn push(&mut self, descriptor: Descriptor) -> Result<Resource<WasiDescriptor>, ResourceTableError> {
        let resource = self.table.push(Shared::new(descriptor))?;
        Ok(Resource::new_own(resource.rep()))
    }
}

impl preopens::Host for MountsCtxView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<WasiDescriptor>, String)>> {
        self.mounts.iter().map(|(path, mount)| Ok((self.push(Descriptor::root(mount))?, path.to_owned()))).collect()
    }
}

impl types::Host for MountsCtxView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<mount::Error>().map(|error| error_code(error.errno())))
    }
}

impl HostDescriptor for MountsCtxView<'_> {
    fn read_via_stream(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.readable()?;
        let stream: DynInputStream = Box::new(FileInput::new(descriptor, offset));
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.writable()?;
        let stream: DynOutputStream = Box::new(FileOutput::at(descriptor, offset));
        Ok(self.table.push(stream)?)
    }

    fn append_via_stream(&mut self, descriptor: Resource<WasiDescriptor>) -> FsResult<Resource<DynOutputStream>> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.writable()?;
        let stream: DynOutputStream = Box::new(FileOutput::at_end(descriptor));
        Ok(self.table.push(stream)?)
    }

    async fn advise(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        _offset: Filesize,
        _length: Filesize,
        _advice: Advice,
    ) -> FsResult<()> {
        // 9P has no way to pass advice on, and advice may be disregarded.
        if self.descriptor(&descriptor)?.is_directory() { Err(ErrorCode::BadDescriptor.into()) } else { Ok(()) }
    }

    async fn sync_data(&mut self, descriptor: Resource<WasiDescriptor>) -> FsResult<()> {
        self.descriptor(&descriptor)?.sync(true).await
    }

    async fn sync(&mut self, descriptor: Resource<WasiDescriptor>) -> FsResult<()> {
        self.descriptor(&descriptor)?.sync(false).await
    }

    async fn get_flags(&mut self, descriptor: Resource<WasiDescriptor>) -> FsResult<DescriptorFlags> {
        Ok(self.descriptor(&descriptor)?.flags())
    }

    async fn get_type(&mut self, descriptor: Resource<WasiDescriptor>) -> FsResult<DescriptorType> {
        let descriptor = self.descriptor(&descriptor)?;
        let kind = QidType(descriptor.handle().qid().kind);
        if kind.is_dir() {
            Ok(DescriptorType::Directory)
        } else if kind.is_symlink() {
            Ok(DescriptorType::SymbolicLink)
        } else if descriptor.flags().intersects(DescriptorFlags::READ | DescriptorFlags::WRITE) {
            // Servers don't open fifos, sockets and devices.
            Ok(DescriptorType::RegularFile)
        } else {
            Ok(descriptor_type(Box::pin(descriptor.handle().stat()).await.map_err(fs_error)?.mode))
        }
    }

    async fn set_size(&mut self, descriptor: Resource<WasiDescriptor>, size: Filesize) -> FsResult<()> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.writable()?;
        descriptor.set_attributes(AttributeChanges { size: Some(size), ..changes() }).await
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let descriptor = self.descriptor(&descriptor)?;
        let (accessed, modified) = (set_time(accessed)?, set_time(modified)?);
        descriptor.set_attributes(AttributeChanges { accessed, modified, ..changes() }).await
    }

    async fn read(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.readable()?;
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        if let Some(cached) = descriptor.writer().cached() {
            let wanted = wanted.min(LONGEST_READ);
            let mut read = Vec::new();
            while read.len() < wanted {
                let bytes = cached.read(offset.saturating_add(read.len() as u64), wanted - read.len()).await;
                let bytes = bytes.map_err(fs_error)?;
                if bytes.is_empty() {
                    break;
                }
                read.extend_from_slice(&bytes);
            }
            descriptor.mount().count_copied(2 * read.len());
            let end = read.len() < wanted;
            return Ok((read, end));
        }
        descriptor.settle().await.map_err(fs_error)?;
        let buffer = descriptor.mount().buffer(wanted).await.map_err(fs_error)?;
        let space = buffer.len();
        let buffer = descriptor.handle().read_at(offset, buffer).await.map_err(fs_error)?;
        let end = buffer.len() < space;
        // Once into the vector that this interface wants, once from there into the program's memory.
        descriptor.mount().count_copied(2 * buffer.len());
        Ok((buffer.into_bytes().into(), end))
    }

    async fn write(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.writable()?;
        descriptor.writer().write(offset, &bytes).await.map_err(fs_error)?;
        Ok(bytes.len() as Filesize)
    }

    async fn read_directory(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.directory()?;
        let stream = DirectoryStream::open(descriptor).await.map_err(fs_error)?;
        let resource = self.table.push(stream)?;
        Ok(Resource::new_own(resource.rep()))
    }

    async fn create_directory_at(&mut self, descriptor: Resource<WasiDescriptor>, path: String) -> FsResult<()> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.directory()?.make_directory(&path, DIRECTORY_MODE).await.map(drop).map_err(fs_error)
    }

    async fn stat(&mut self, descriptor: Resource<WasiDescriptor>) -> FsResult<DescriptorStat> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.settle().await.map_err(fs_error)?;
        Ok(descriptor_stat(&descriptor.handle().stat().await.map_err(fs_error)?))
    }

    async fn stat_at(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let descriptor = self.descriptor(&descriptor)?;
        let directory = descriptor.directory()?;
        directory.mount().flush().await.map_err(fs_error)?;
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
        let attributes = directory.stat_at(&path, follow).await.map_err(fs_error)?;
        descriptor.recent().note(&path, follow, attributes.qid.path, Moment::now(directory.mount()));
        Ok(descriptor_stat(&attributes))
    }

    async fn set_times_at(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let descriptor = self.descriptor(&descriptor)?;
        let directory = descriptor.directory()?;
        let (accessed, modified) = (set_time(accessed)?, set_time(modified)?);
        directory.mount().flush().await.map_err(fs_error)?;
        let changes = AttributeChanges { accessed, modified, ..changes() };
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
        directory.set_attributes_at(&path, follow, changes).await.map_err(fs_error)
    }

    async fn link_at(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        flags: PathFlags,
        old_path: String,
        new_descriptor: Resource<WasiDescriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let old = self.descriptor(&descriptor)?;
        let new = self.descriptor(&new_descriptor)?;
        if flags.contains(PathFlags::SYMLINK_FOLLOW) {
            // As wasmtime has it: a link is always made to what the path itself names.
            return Err(ErrorCode::Invalid.into());
        }
        old.directory()?.link(&old_path, false, new.directory()?, &new_path).await.map_err(fs_error)
    }

    async fn open_at(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        mut flags: DescriptorFlags,
    ) -> FsResult<Resource<WasiDescriptor>> {
        let base = self.descriptor(&descriptor)?;
        let directory = base.directory()?;
        let mount = directory.mount();
        if mount.options().read_only {
            let changing = DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY;
            if flags.contains(DescriptorFlags::WRITE) || open_flags.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE)
            {
                return Err(ErrorCode::ReadOnly.into());
            }
            flags &= !changing;
        }
        let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
        let how = open_how([
            (mount::OpenFlags::READ, flags.contains(DescriptorFlags::READ)),
            (mount::OpenFlags::WRITE, flags.contains(DescriptorFlags::WRITE)),
            (mount::OpenFlags::SYNC, flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC)),
            (mount::OpenFlags::DATA_SYNC, flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC)),
            (mount::OpenFlags::CREATE, open_flags.contains(OpenFlags::CREATE)),
            (mount::OpenFlags::EXCLUSIVE, open_flags.contains(OpenFlags::EXCLUSIVE)),
            (mount::OpenFlags::DIRECTORY, open_flags.contains(OpenFlags::DIRECTORY)),
            (mount::OpenFlags::TRUNCATE, open_flags.contains(OpenFlags::TRUNCATE)),
            (mount::OpenFlags::FOLLOW, follow),
        ]);
        if open_flags.contains(OpenFlags::TRUNCATE) {
            mount.flush().await.map_err(fs_error)?;
        }
        let file = Writer::open_at(directory, &path, how, FILE_MODE).await.map_err(fs_error)?;
        if file.handle().is_directory() && !mount.options().read_only {
            flags |= base.flags() & DescriptorFlags::MUTATE_DIRECTORY;
        }
        Ok(self.push(Descriptor::opened(file, flags, &base, path, follow))?)
    }

    async fn readlink_at(&mut self, descriptor: Resource<WasiDescriptor>, path: String) -> FsResult<String> {
        let descriptor = self.descriptor(&descriptor)?;
        let target = descriptor.directory()?.read_link(&path).await.map_err(fs_error)?;
        if target.starts_with(b"/") {
            // The interface says so: a program is not to learn of absolute paths.
            return Err(ErrorCode::NotPermitted.into());
        }
        String::from_utf8(target).map_err(|_| ErrorCode::IllegalByteSequence.into())
    }

    async fn remove_directory_at(&mut self, descriptor: Resource<WasiDescriptor>, path: String) -> FsResult<()> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.directory()?.remove_directory(&path).await.map_err(fs_error)
    }

    async fn rename_at(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        old_path: String,
        new_descriptor: Resource<WasiDescriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let old = self.descriptor(&descriptor)?;
        let new = self.descriptor(&new_descriptor)?;
        old.directory()?.rename(&old_path, new.directory()?, &new_path).await.map_err(fs_error)
    }

    async fn symlink_at(&mut self, descriptor: Resource<WasiDescriptor>, target: String, path: String) -> FsResult<()> {
        let descriptor = self.descriptor(&descriptor)?;
        if target.starts_with('/') {
            // The interface says so.
            return Err(ErrorCode::NotPermitted.into());
        }
        descriptor.directory()?.symlink(&path, &target).await.map(drop).map_err(fs_error)
    }

    async fn unlink_file_at(&mut self, descriptor: Resource<WasiDescriptor>, path: String) -> FsResult<()> {
        let descriptor = self.descriptor(&descriptor)?;
        descriptor.directory()?.unlink(&path).await.map_err(fs_error)
    }

    async fn is_same_object(
        &mut self,
        one: Resource<WasiDescriptor>,
        other: Resource<WasiDescriptor>,
    ) -> wasmtime::Result<bool> {
        let (one, other) = (self.descriptor(&one)?, self.descriptor(&other)?);
        if one.mount().identity() != other.mount().identity() {
            return Ok(false);
        }
        match (one.identity().await, other.identity().await) {
            (Ok(one), Ok(other)) => Ok(one == other),
            // A mount that is broken cannot tell; the interface has no error for it.
            _ => Ok(false),
        }
    }

    async fn metadata_hash(&mut self, descriptor: Resource<WasiDescriptor>) -> FsResult<MetadataHashValue> {
        let descriptor = self.descriptor(&descriptor)?;
        let path = descriptor.identity().await.map_err(fs_error)?;
        Ok(metadata_hash(descriptor.mount(), path))
    }

    async fn metadata_hash_at(
        &mut self,
        descriptor: Resource<WasiDescriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let descriptor = self.descriptor(&descriptor)?;
        let directory = descriptor.directory()?;
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW);
        let identity = match descriptor.recent().identity(directory.mount(), &path, follow) {
            Some(identity) => identity,
            None => Box::pin(directory.identify_at(&path, follow)).await.map_err(fs_error)?.path,
        };
        Ok(metadata_hash(directory.mount(), identity))
    }

    fn drop(&mut self, descriptor: Resource<WasiDescriptor>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Shared>::new_own(descriptor.rep()))?;
        Ok(())
    }
}

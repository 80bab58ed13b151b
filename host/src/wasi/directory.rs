//! `wasi:filesystem/types.directory-entry-stream`.

use std::sync::Arc;

use tokio::sync::Mutex;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    FsResult,
    bindings::filesystem::types::{self, DirectoryEntryStream, ErrorCode, HostDirectoryEntryStream},
};

use super::{MountsCtxView, convert::entry_type, descriptor::Shared, error::fs_error, recent::Moment};
use crate::mount::{self, DirectoryEntry, Handle, OpenFlags};

/// A directory being read by a program.
pub(super) struct DirectoryStream {
    descriptor: Shared,
    listing: Arc<Mutex<Listing>>,
    /// The next entry to give out.
    position: usize,
}

/// A directory being read from a server, a batch of entries at a time.
struct Listing {
    /// Opened anew for each listing, so that each has a position of its own.
    directory: Handle,
    /// All entries so far.
    entries: Vec<DirectoryEntry>,
    /// So many of them have been given out.
    given_out: usize,
    /// So many of them had been given out when they were last repeated.
    repeated: usize,
    /// When the latest were read.
    read: Moment,
    /// How many names had been removed on the mount when it began.
    removals: u64,
    next: u64,
    end: bool,
}

/// The listing of a directory that its program has not read to the end yet.
///
/// The adapter of 0.1 programs sometimes goes on in a directory by reading it again from the start and skipping as many
/// entries as it has had. If the program has removed those, others are skipped in their place and never seen:
/// `remove_dir_all` on a large directory fails so. Therefore, where at least as many names were removed as were given
/// out, a new stream goes on with the listing that was begun, and first repeats what that had given out. A program that
/// reads the directory again by itself, as it may after each removal, gets a new listing: it has removed fewer.
#[derive(Default)]
pub(super) struct Begun(parking_lot::Mutex<Option<Arc<Mutex<Listing>>>>);

/// An entry, as it is given out.
struct Given {
    kind: u8,
    name: Vec<u8>,
    identity: u64,
    moment: Moment,
}

impl Listing {
    async fn open(directory: &Handle) -> mount::Result<Self> {
        let removals = directory.mount().removals();
        let directory = directory.open_at(".", OpenFlags::READ | OpenFlags::DIRECTORY, 0).await?;
        let read = Moment::now(directory.mount());
        Ok(Self { directory, entries: Vec::new(), given_out: 0, repeated: 0, read, removals, next: 0, end: false })
    }

    /// Is a new stream to repeat this listing and go on with it? Never twice at the same place.
    fn go_on(&mut self) -> bool {
        let removed = self.directory.mount().removals() - self.removals;
        let goes_on = self.given_out > self.repeated && removed >= self.given_out as u64;
        if goes_on {
            self.repeated = self.given_out;
        }
        goes_on
    }

    async fn read_more(&mut self) -> mount::Result<()> {
        let batch = self.directory.read_directory_for_programs(self.next).await?;
        self.read = Moment::now(self.directory.mount());
        self.end = batch.end;
        if let Some(last) = batch.entries.last() {
            self.next = last.offset;
        }
        self.entries.extend(batch.entries);
        Ok(())
    }

    async fn entry(&mut self, position: usize) -> mount::Result<Option<Given>> {
        while position == self.entries.len() && !self.end {
            self.read_more().await?;
        }
        let Some(DirectoryEntry { qid, kind, name, .. }) = self.entries.get(position) else { return Ok(None) };
        // What is repeated may be gone by now, and must still have the identity that it had.
        let moment = if position < self.given_out { Moment::now(self.directory.mount()) } else { self.read };
        self.given_out = self.given_out.max(position + 1);
        Ok(Some(Given { kind: *kind, name: name.clone(), identity: qid.path, moment }))
    }
}

impl DirectoryStream {
    pub(super) async fn open(descriptor: Shared) -> mount::Result<Self> {
        let begun = descriptor.begun().0.lock().clone();
        if let Some(listing) = begun {
            let goes_on = listing.lock().await.go_on();
            if goes_on {
                return Ok(Self { descriptor, listing, position: 0 });
            }
        }
        let listing = Arc::new(Mutex::new(Listing::open(descriptor.handle()).await?));
        *descriptor.begun().0.lock() = Some(Arc::clone(&listing));
        Ok(Self { descriptor, listing, position: 0 })
    }

    async fn next(&mut self) -> mount::Result<Option<Given>> {
        let entry = self.listing.lock().await.entry(self.position).await?;
        match entry {
            Some(_) => self.position += 1,
            // Read to its end: whoever reads the directory again wants to see it as it is then.
            None => *self.descriptor.begun().0.lock() = None,
        }
        Ok(entry)
    }
}

impl HostDirectoryEntryStream for MountsCtxView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let stream = self.table.get_mut(&Resource::<DirectoryStream>::new_borrow(stream.rep()))?;
        let Some(entry) = stream.next().await.map_err(fs_error)? else { return Ok(None) };
        let Given { kind, name, identity, moment } = entry;
        let name = String::from_utf8(name).map_err(|_| ErrorCode::IllegalByteSequence)?;
        stream.descriptor.recent().note(&name, false, identity, moment);
        Ok(Some(types::DirectoryEntry { type_: entry_type(kind), name }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<DirectoryStream>::new_own(stream.rep()))?;
        Ok(())
    }
}

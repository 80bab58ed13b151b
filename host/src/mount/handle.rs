//! Files and directories of a mount.

mod access;
mod lock;
mod vectored;
mod version;
mod xattr;

use std::{ops::Range, sync::atomic::Ordering};

use ninering_wire::{Errno, QidType};

use super::{
    AttributeChanges, Attributes, Buffer, Buffers, Entries, EntriesPlus, Error, FilesystemStatistics, Mount, OpenFlags,
    Qid, Result,
    cache::names::{Change, Known, Missing, Names, Target},
    component::{
        memory,
        vfs::{self, MemoryKind, Node, Value},
    },
    give_up::Patience,
};

/// A file or directory of a mount, open as it was asked for. Dropping it closes it.
///
/// Paths are relative to it, and never lead above it: `..` past it is `EPERM`. Symbolic links are followed inside the
/// mount. Operations on a handle from before a [`Mount::restart`] fail with `ESTALE`.
///
/// Whoever drops the future of an operation gives it up: a request that a remote server has not answered is flushed
/// (`Tflush`). Whether it was done, nobody knows then. Its memory comes back to the mount when the server has said that
/// it will do nothing more with it.
pub struct Handle {
    mount: Mount,
    /// The life of the mount in which it was made; a root is at home in every one.
    incarnation: Option<u32>,
    node: Node,
    qid: Qid,
    /// Every write goes to the end.
    appends: bool,
}

/// The node that stands for a mount's root.
const ROOT: Node = 0;

/// An operation's value is not of the kind that the operation yields.
pub(super) fn unexpected(_: Value) -> Error {
    Error::broken("the client answered an operation with another's value")
}

/// Buffers as the client is told of them.
fn told(extents: &[memory::Extent]) -> vfs::Buffers {
    match *extents {
        [extent] => vfs::Buffers::One(extent),
        _ => vfs::Buffers::Many(extents.to_vec()),
    }
}

/// An operation ended without giving its memory back.
fn kept() -> Error {
    Error::broken("the client kept an application's buffer")
}

/// The value that an operation yields.
macro_rules! yielded {
    ($outcome:expr, $kind:ident) => {
        match $outcome.0? {
            Value::$kind(value) => Ok(value),
            other => Err(unexpected(other)),
        }
    };
    ($outcome:expr) => {
        match $outcome.0? {
            Value::None => Ok(()),
            other => Err(unexpected(other)),
        }
    };
}

use yielded;

impl Handle {
    pub(super) fn root(mount: Mount) -> Self {
        Self {
            mount,
            incarnation: None,
            node: ROOT,
            qid: Qid { kind: QidType::DIR.0, version: 0, path: 0 },
            appends: false,
        }
    }

    /// The mount that it is on.
    pub fn mount(&self) -> &Mount {
        &self.mount
    }

    /// The server's identity of the file, as it was when it was opened; of the root, only the kind.
    pub fn qid(&self) -> Qid {
        self.qid
    }

    /// Does every write go to the end?
    pub(super) fn appends(&self) -> bool {
        self.appends
    }

    /// Is it a directory?
    pub fn is_directory(&self) -> bool {
        QidType(self.qid.kind).is_dir()
    }

    /// Opens, and perhaps makes, what `path` names. With neither `READ` nor `WRITE` the handle serves for its
    /// attributes and, if it is a directory, for paths below it. `mode` counts where a file is made.
    pub async fn open_at(&self, path: &str, flags: OpenFlags, mode: u32) -> Result<Handle> {
        Ok(self.open_with_attributes_at(path, flags, mode).await?.0)
    }

    /// The same. If `ATTRIBUTES` is among the flags, it tells those of the file too, if they could be had along with it.
    pub(super) async fn open_with_attributes_at(
        &self,
        path: &str,
        flags: OpenFlags,
        mode: u32,
    ) -> Result<(Handle, Option<Attributes>)> {
        if flags.intersects(OpenFlags::WRITE | OpenFlags::APPEND | OpenFlags::CREATE | OpenFlags::TRUNCATE) {
            self.writable()?;
        }
        match self.names() {
            None => self.open_asking(path, flags, mode).await,
            Some((names, identity)) => Box::pin(self.open_noting(names, identity, path, flags, mode)).await,
        }
    }

    /// Opens, and notes what is learned by it.
    async fn open_noting(
        &self,
        names: &Names,
        identity: u64,
        path: &str,
        flags: OpenFlags,
        mode: u32,
    ) -> Result<(Handle, Option<Attributes>)> {
        let makes = flags.contains(OpenFlags::CREATE);
        if !makes && names.is_missing(identity, path) {
            return Err(Errno::ENOENT.into());
        }
        let mut change = match (makes, flags.contains(OpenFlags::TRUNCATE)) {
            (true, _) => Some(names.change(&[Target::NewName(identity, path)])),
            (false, true) => Some(names.change(&[Target::FileAt(identity, path)])),
            (false, false) => None,
        };
        let question = names.question();
        // Far away they come in the same flight; here, who does not want them does not pay for them.
        let asks = change.is_none() && self.mount.is_remote();
        let asking = if asks { flags | OpenFlags::ATTRIBUTES } else { flags };
        let (handle, attributes) = self.open_asking(path, asking, mode).await?;
        if let Some(change) = &mut change {
            change.concerns(handle.qid.path);
        }
        names.note_opened(question, handle.qid.path, attributes.as_ref());
        Ok((handle, attributes))
    }

    /// Opens, and yields the file's attributes if they came along.
    async fn open_asking(&self, path: &str, flags: OpenFlags, mode: u32) -> Result<(Handle, Option<Attributes>)> {
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_open(store, self.node, path, flags, mode)
        });
        let (opened, incarnation) = match outcome.await {
            (Ok(Value::Opened(opened)), _, incarnation) => (opened, incarnation),
            (Ok(other), ..) => return Err(unexpected(other)),
            (Err(error), ..) => return Err(error),
        };
        if flags.contains(OpenFlags::TRUNCATE) {
            self.mount.note_contents(opened.qid.path);
            if let Some(cache) = self.mount.content_cache() {
                cache.set_size(opened.qid.path, 0);
            }
        }
        let handle = Handle {
            mount: self.mount.clone(),
            incarnation: Some(incarnation),
            node: opened.node,
            qid: opened.qid,
            appends: flags.contains(OpenFlags::APPEND),
        };
        Ok((handle, opened.attributes))
    }

    /// Reads at `offset` into `buffer`, which comes back holding as many bytes as there were: fewer than it had only
    /// at the end of the file.
    ///
    /// It is read past the mount's cache.
    pub async fn read_at(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        if let Some(cache) = self.mount.content_cache() {
            Box::pin(cache.flush_path(self.qid.path)).await;
        }
        let (count, buffers) = self.read_into(offset, MemoryKind::Application, [buffer].into()).await?;
        let mut buffer = buffers.into_iter().next().ok_or_else(kept)?;
        buffer.truncate(count);
        Ok(buffer)
    }

    /// Reads at `offset` into `buffers`, and tells how many bytes there were: fewer than they have space for only at the
    /// end of the file.
    pub(super) async fn read_into(
        &self,
        offset: u64,
        memory: MemoryKind,
        buffers: Buffers,
    ) -> Result<(usize, Buffers)> {
        let given: usize = buffers.iter().map(Buffer::len).sum();
        let outcome = self.mount.operate(self.incarnation, buffers, |vfs, store, extents| {
            vfs.call_read(store, self.node, offset, memory, &told(extents))
        });
        let (value, buffers, _) = outcome.await;
        let count = yielded!((value,), Count)?;
        if buffers.is_empty() {
            return Err(kept());
        }
        Ok((usize::try_from(count).unwrap_or(usize::MAX).min(given), buffers))
    }

    /// Writes all of `buffer` at `offset`; to the end of a file that was opened to append. Tells how many bytes were
    /// written, fewer only where an error struck behind them, and gives the buffer back.
    ///
    /// It is written past the mount's cache.
    pub async fn write_at(&self, offset: u64, buffer: Buffer) -> (Result<usize>, Option<Buffer>) {
        let (count, buffers) = self.write_past_cache(offset, [buffer].into()).await;
        (count, buffers.into_iter().next())
    }

    /// Writes past the mount's cache, which knows of it however it ends, and even if nobody waits for that.
    async fn write_past_cache(&self, offset: u64, buffers: Buffers) -> (Result<usize>, Buffers) {
        let cache = self.mount.content_cache();
        if let Some(cache) = &cache {
            cache.flush_path(self.qid.path).await;
        }
        let end = offset.saturating_add(buffers.iter().map(|buffer| buffer.len() as u64).sum());
        let range = (!self.appends).then_some(offset..end);
        let _past = cache.is_some().then_some(PastCache { handle: self, range });
        self.write_with(Patience::Timeout, offset, MemoryKind::Application, buffers).await
    }

    /// Writes all of `buffers`, likewise; to the end, even if nobody waits for it.
    pub(super) async fn write_from(
        &self,
        offset: u64,
        memory: MemoryKind,
        buffers: Buffers,
    ) -> (Result<usize>, Buffers) {
        self.write_with(Patience::ToTheEnd, offset, memory, buffers).await
    }

    async fn write_with(
        &self,
        patience: Patience,
        offset: u64,
        memory: MemoryKind,
        buffers: Buffers,
    ) -> (Result<usize>, Buffers) {
        if let Err(error) = self.writable() {
            return (Err(error), buffers);
        }
        self.mount.note_contents(self.qid.path);
        let _change = self.changing();
        let given: usize = buffers.iter().map(Buffer::len).sum();
        let outcome = self.mount.operate_with(patience, self.incarnation, buffers, |vfs, store, extents| {
            vfs.call_write(store, self.node, offset, memory, &told(extents))
        });
        let (value, buffers, _) = outcome.await;
        // Once more, for what was read meanwhile is perhaps from before.
        self.mount.note_contents(self.qid.path);
        let count = match value {
            Ok(Value::Count(count)) => match usize::try_from(count) {
                Ok(count) if count <= given => Ok(count),
                _ => Err(Error::broken("the client has written more than it was given")),
            },
            Ok(other) => Err(unexpected(other)),
            Err(error) => Err(error),
        };
        (count, buffers)
    }

    /// Reads a directory that was opened with `READ`, from an entry's `offset` or 0 on. `.` and `..` are left out.
    pub async fn read_directory(&self, offset: u64) -> Result<Entries> {
        if let Some((names, identity)) = self.names() {
            names.note_listed(identity);
        }
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_read_directory(store, self.node, offset)
        });
        let entries = yielded!(outcome.await, Entries)?;
        if entries.entries.is_empty() && !entries.end {
            return Err(Error::broken("the client lists nothing, and says that there is more"));
        }
        Ok(entries)
    }

    /// The same with the attributes of all the entries, which are asked for at once: in one flight where the server can.
    pub async fn read_directory_plus(&self, offset: u64) -> Result<EntriesPlus> {
        let noting = self.names().map(|(names, identity)| (names, identity, names.question()));
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_read_directory_plus(store, self.node, offset)
        });
        let entries = yielded!(outcome.await, EntriesPlus)?;
        if entries.entries.is_empty() && !entries.end {
            return Err(Error::broken("the client lists nothing, and says that there is more"));
        }
        if let Some((names, identity, question)) = noting {
            names.note_entries(question, identity, &entries.entries);
        }
        Ok(entries)
    }

    /// Returns when the file's data (`data_only`), or all of it, is on stable storage.
    pub async fn sync(&self, data_only: bool) -> Result<()> {
        let outcome = self
            .mount
            .operate(self.incarnation, Buffers::new(), |vfs, store, _| vfs.call_sync(store, self.node, data_only));
        yielded!(outcome.await)
    }

    /// Its attributes.
    pub async fn stat(&self) -> Result<Attributes> {
        let Some((names, identity)) = self.names() else { return self.ask_attributes().await };
        if let Some(known) = names.attributes(identity) {
            return Ok(known);
        }
        let question = names.question();
        let attributes = self.ask_attributes().await?;
        names.note(question, &attributes);
        Ok(attributes)
    }

    /// Its attributes, as the server has them now.
    pub(super) async fn ask_attributes(&self) -> Result<Attributes> {
        let outcome =
            self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| vfs.call_stat(store, self.node));
        yielded!(outcome.await, Attributes)
    }

    /// The attributes of what `path` names.
    pub async fn stat_at(&self, path: &str, follow: bool) -> Result<Attributes> {
        if let Some((names, identity)) = self.names() {
            return match names.attributes_at(identity, path, follow) {
                Ok(Some(known)) => Ok(known),
                Ok(None) => Box::pin(self.look_up_at(names, identity, path, follow)).await,
                Err(Missing) => Err(Errno::ENOENT.into()),
            };
        }
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_stat_at(store, self.node, path, follow)
        });
        yielded!(outcome.await, Attributes)
    }

    /// The identity of what `path` names.
    pub async fn identify_at(&self, path: &str, follow: bool) -> Result<Qid> {
        if let Some((names, identity)) = self.names() {
            return match names.look_up(identity, path, follow) {
                Known::File(qid) => Ok(qid),
                Known::Missing => Err(Errno::ENOENT.into()),
                Known::Nothing => Box::pin(self.look_up_at(names, identity, path, follow)).await.map(|found| found.qid),
            };
        }
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_identify_at(store, self.node, path, follow)
        });
        yielded!(outcome.await, Qid)
    }

    /// Changes its attributes.
    pub async fn set_attributes(&self, changes: AttributeChanges) -> Result<()> {
        self.writable()?;
        let cache = self.mount.content_cache().filter(|_| changes.size.is_some());
        // What was written before is to be cut off as well, and nothing of it to come behind.
        let settled = match &cache {
            Some(cache) => cache.settle(self.qid.path).await,
            None => None,
        };
        self.mount.note_contents(self.qid.path);
        let _change = self.changing();
        let outcome = self
            .mount
            .operate(self.incarnation, Buffers::new(), |vfs, store, _| {
                vfs.call_set_attributes(store, self.node, changes)
            })
            .await;
        self.mount.note_contents(self.qid.path);
        if let (Some(cache), Some(size)) = (&cache, changes.size) {
            match &outcome.0 {
                Ok(_) => cache.set_size(self.qid.path, size),
                // It may have been done all the same.
                Err(_) => cache.written_past(self.qid.path, Some(0..u64::MAX)),
            }
        }
        drop(settled);
        yielded!(outcome)
    }

    /// Changes the attributes of what `path` names.
    pub async fn set_attributes_at(&self, path: &str, follow: bool, changes: AttributeChanges) -> Result<()> {
        self.writable()?;
        let _change = self.changing_names(|directory| Target::FileAt(directory, path));
        if changes.size.is_some() {
            // Whose size it is, only the server knows.
            self.mount.note_all_contents();
        }
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_set_attributes_at(store, self.node, path, follow, changes)
        });
        let outcome = outcome.await;
        if changes.size.is_some() {
            self.mount.note_all_contents();
            if let Some(cache) = self.mount.content_cache() {
                cache.all_written_past();
            }
        }
        yielded!(outcome)
    }

    /// The figures of the filesystem that it lies in.
    pub async fn statfs(&self) -> Result<FilesystemStatistics> {
        let outcome =
            self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| vfs.call_statfs(store, self.node));
        yielded!(outcome.await, Statistics)
    }

    /// Makes a directory.
    pub async fn make_directory(&self, path: &str, mode: u32) -> Result<Qid> {
        self.writable()?;
        let _change = self.changing_names(|directory| Target::NewName(directory, path));
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_make_directory(store, self.node, path, mode)
        });
        yielded!(outcome.await, Qid)
    }

    /// Makes a symbolic link to `target`, which is not looked at.
    pub async fn symlink(&self, path: &str, target: &str) -> Result<Qid> {
        self.writable()?;
        let _change = self.changing_names(|directory| Target::NewName(directory, path));
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_symlink(store, self.node, path, target)
        });
        yielded!(outcome.await, Qid)
    }

    /// The target of a symbolic link.
    pub async fn read_link(&self, path: &str) -> Result<Vec<u8>> {
        let outcome = self
            .mount
            .operate(self.incarnation, Buffers::new(), |vfs, store, _| vfs.call_read_link(store, self.node, path));
        yielded!(outcome.await, Target)
    }

    /// Makes `new_path` in `new_directory` a hard link to `old_path`.
    pub async fn link(&self, old_path: &str, follow: bool, new_directory: &Handle, new_path: &str) -> Result<()> {
        self.writable()?;
        let _change = self.changing_names(|directory| Target::FileAt(directory, old_path));
        let _new_name = new_directory.changing_names(|directory| Target::NewName(directory, new_path));
        self.same_mount(new_directory)?;
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_link(store, self.node, old_path, follow, new_directory.node, new_path)
        });
        yielded!(outcome.await)
    }

    /// Renames `old_path` to `new_path` in `new_directory`, replacing what is there as `rename(2)` does.
    pub async fn rename(&self, old_path: &str, new_directory: &Handle, new_path: &str) -> Result<()> {
        self.writable()?;
        let _change = self.changing_names(|directory| Target::Name(directory, old_path));
        let _new_name = new_directory.changing_names(|directory| Target::Name(directory, new_path));
        self.mount.0.removals.fetch_add(1, Ordering::Relaxed);
        self.same_mount(new_directory)?;
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_rename(store, self.node, old_path, new_directory.node, new_path)
        });
        yielded!(outcome.await)
    }

    /// Removes what is not a directory.
    pub async fn unlink(&self, path: &str) -> Result<()> {
        self.writable()?;
        let _change = self.changing_names(|directory| Target::Name(directory, path));
        self.mount.0.removals.fetch_add(1, Ordering::Relaxed);
        let outcome = self
            .mount
            .operate(self.incarnation, Buffers::new(), |vfs, store, _| vfs.call_unlink(store, self.node, path));
        yielded!(outcome.await)
    }

    /// Removes an empty directory.
    pub async fn remove_directory(&self, path: &str) -> Result<()> {
        self.writable()?;
        let _change = self.changing_names(|directory| Target::Name(directory, path));
        self.mount.0.removals.fetch_add(1, Ordering::Relaxed);
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_remove_directory(store, self.node, path)
        });
        yielded!(outcome.await)
    }

    /// Asks for the attributes of what `path` names, and notes them with what is on the way.
    async fn look_up_at(&self, names: &Names, identity: u64, path: &str, follow: bool) -> Result<Attributes> {
        let question = names.question();
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_look_up_at(store, self.node, path, follow)
        });
        let found = yielded!(outcome.await, LookedUp)?;
        names.note_look_up(question, identity, path, &found);
        found.attributes.ok_or(Errno::ENOENT.into())
    }

    /// Reads a directory, with attributes if those are asked for in most that were read before.
    pub(crate) async fn read_directory_for_programs(&self, offset: u64) -> Result<Entries> {
        if !self.names().is_some_and(|(names, _)| names.wants_attributes()) {
            return self.read_directory(offset).await;
        }
        let EntriesPlus { entries, end } = self.read_directory_plus(offset).await?;
        Ok(Entries { entries: entries.into_iter().map(|entry| entry.entry).collect(), end })
    }

    /// What is believed of names and attributes on this mount, and by which number it knows this file.
    fn names(&self) -> Option<(&Names, u64)> {
        let names = self.mount.0.names.as_ref()?;
        let identity = if self.incarnation.is_some() { self.qid.path } else { names.root()? };
        Some((names, identity))
    }

    /// The file is about to be changed: what is believed of it is forgotten, now and when this is dropped.
    pub(super) fn changing(&self) -> Option<Change<'_>> {
        let (names, identity) = self.names()?;
        Some(names.change(&[Target::File(identity)]))
    }

    /// Names in this directory are about to be changed, likewise.
    fn changing_names<'a>(&self, target: impl Fn(u64) -> Target<'a>) -> Option<Change<'_>> {
        let (names, identity) = self.names()?;
        Some(names.change(&[target(identity)]))
    }

    pub(super) fn writable(&self) -> Result<()> {
        if self.mount.options().read_only { Err(Errno::EROFS.into()) } else { Ok(()) }
    }

    fn same_mount(&self, other: &Handle) -> Result<()> {
        if !std::sync::Arc::ptr_eq(&self.mount.0, &other.mount.0) {
            Err(Errno::EXDEV.into())
        } else if let (Some(ours), Some(theirs)) = (self.incarnation, other.incarnation)
            && ours != theirs
        {
            Err(Errno::ESTALE.into())
        } else {
            Ok(())
        }
    }
}

/// A write past the mount's cache: when it is over, what the cache has there is not believed.
struct PastCache<'h> {
    handle: &'h Handle,
    range: Option<Range<u64>>,
}

impl Drop for PastCache<'_> {
    fn drop(&mut self) {
        if let Some(cache) = self.handle.mount.content_cache() {
            cache.written_past(self.handle.qid.path, self.range.take());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(incarnation) = self.incarnation {
            self.mount.close(incarnation, self.node);
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Handle").field("node", &self.node).field("qid", &self.qid).finish_non_exhaustive()
    }
}

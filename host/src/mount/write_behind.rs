//! Writes that are gathered before they are sent.
//!
//! `wasi:filesystem` 0.2 hands over at most 4 KiB at a time. A [`Writer`] gathers what follows on in a buffer of the
//! region and writes it in one piece: when the buffer is full, when something else is written, after a moment
//! ([`LINGER`]), and before anything that could tell whether it was written yet. For the last, a mount knows all
//! of its writers that hold something ([`Mount::flush_file`], [`Mount::flush`]). Of what is written in order, some
//! pieces are under way at a time ([`AT_A_TIME`]), so that who writes does not wait for each one's reply.
//!
//! A write that fails after it was accepted is reported by the writer's next call, and by [`Mount::finish`].

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use ninering_wire::Errno;
use parking_lot::Mutex;

use super::{
    Buffer, Error, Handle, Mount, OpenFlags, Result,
    cache::{Cached, CachedFile},
    component::vfs::MemoryKind,
};

/// Bytes that are gathered.
const GATHERED: usize = 256 << 10;
/// So many full buffers of a file are on their way to the server at a time.
const AT_A_TIME: usize = 8;
/// How long a gathered write stays unwritten at the most.
const LINGER: Duration = Duration::from_millis(500);

/// The writers of a mount that hold something unwritten.
#[derive(Default)]
pub(super) struct Registry {
    writers: Mutex<Vec<Arc<Writer>>>,
    /// Their number, for those who only want to know whether there are any.
    count: AtomicUsize,
    /// A task is there that writes what lingers.
    flushing: AtomicBool,
    /// The first write that failed with nobody left to tell.
    lost: Mutex<Option<Error>>,
}

/// An open file, and what is to be written to it.
pub struct Writer {
    handle: Arc<Handle>,
    /// Where what is read, and perhaps what is written, is kept.
    cached: Option<Arc<CachedFile>>,
    /// Each write is to be on stable storage, or its data alone (`true`), before it is accepted.
    synced: Option<bool>,
    unwritten: tokio::sync::Mutex<Unwritten>,
    /// Bytes that were appended.
    appended: AtomicU64,
}

/// A write under way.
type Writing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

#[derive(Default)]
struct Unwritten {
    buffer: Option<Buffer>,
    start: u64,
    filled: usize,
    /// What is before that and on its way. No two overlap, and what comes next follows on the last.
    under_way: VecDeque<Writing>,
    /// The mount knows that there is something.
    is_registered: bool,
    /// Why an accepted write was not carried out.
    failed: Option<Error>,
}

impl Writer {
    /// A writer to `handle`, which is open for writing (or is never written to).
    pub fn new(handle: Handle) -> Arc<Self> {
        Arc::new(Self::of(Arc::new(handle), None, None))
    }

    /// Opens what `path` in `directory` names, as [`Handle::open_at`] does; a file that is opened to be read or written is
    /// so by way of the mount's cache, if that keeps anything.
    ///
    /// # Errors
    /// As [`Handle::open_at`], and what keeps the server from telling whether the cache is up to date.
    pub async fn open_at(directory: &Handle, path: &str, flags: OpenFlags, mode: u32) -> Result<Arc<Self>> {
        let may_be_cached = flags.intersects(OpenFlags::READ | OpenFlags::WRITE)
            && !flags.intersects(OpenFlags::DIRECTORY | OpenFlags::APPEND);
        let cache = if may_be_cached { directory.mount().cache() } else { None };
        let wanted = cache.as_ref().is_some_and(|cache| cache.validates_at_open());
        let how = if wanted { flags | OpenFlags::ATTRIBUTES } else { flags };
        let moment = cache.as_ref().map(|cache| cache.moment());
        let (handle, attributes) = directory.open_with_attributes_at(path, how, mode).await?;
        let attributes = attributes.zip(moment);
        let handle = Arc::new(handle);
        let cached = match cache.filter(|_| !handle.is_directory()) {
            Some(cache) => Some(Box::pin(CachedFile::open(cache, Arc::clone(&handle), attributes)).await?),
            None => None,
        };
        let synced = flags.intersects(OpenFlags::SYNC | OpenFlags::DATA_SYNC).then(|| !flags.contains(OpenFlags::SYNC));
        Ok(Arc::new(Self::of(handle, cached, synced)))
    }

    fn of(handle: Arc<Handle>, cached: Option<Arc<CachedFile>>, synced: Option<bool>) -> Self {
        Self { handle, cached, synced, unwritten: Default::default(), appended: AtomicU64::new(0) }
    }

    /// The file in the cache, if it is in one.
    pub(crate) fn cached(&self) -> Option<&Arc<CachedFile>> {
        self.cached.as_ref()
    }

    /// The same, if that takes writes.
    fn cached_writes(&self) -> Option<&Arc<CachedFile>> {
        self.cached.as_ref().filter(|cached| cached.takes_writes())
    }

    /// The open file.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Reads up to `size` bytes at `offset`, by way of the mount's cache if it keeps anything: fewer at the file's end, or
    /// where more can't be had in one piece, none only at the end. What was written before is seen.
    ///
    /// # Errors
    /// The server's.
    pub async fn read(&self, offset: u64, size: usize) -> Result<Bytes> {
        if let Some(cached) = &self.cached {
            return match cached.read_now(offset, size) {
                Cached::Bytes(bytes) => Ok(bytes),
                Cached::End => Ok(Bytes::new()),
                Cached::Missing => cached.read(offset, size).await,
            };
        }
        let mount = self.handle.mount();
        mount.flush_file(self.handle.qid().path).await?;
        let buffer = mount.buffer(size).await?;
        Ok(self.handle.read_at(offset, buffer).await?.into_bytes())
    }

    /// Accepts `bytes`, to be written at `offset`. A file that was opened to append takes them at its end, whatever
    /// `offset` says, so long as each call's follows on the last one's.
    ///
    /// # Errors
    /// What kept an earlier write from being carried out, or this one.
    pub async fn write(self: &Arc<Self>, offset: u64, bytes: &[u8]) -> Result<()> {
        let mount = self.handle.mount();
        if let Some(cached) = self.cached_writes() {
            mount.flush_gathered(self.handle.qid().path, Some(self)).await?;
            cached.write(offset, bytes).await?;
            return match self.synced {
                Some(data_only) => {
                    cached.flush().await?;
                    self.handle.sync(data_only).await
                }
                None => Ok(()),
            };
        }
        mount.flush_file_but(self.handle.qid().path, Some(self)).await?;
        let mut unwritten = self.unwritten.lock().await;
        unwritten.failure()?;
        let mut rest = bytes;
        let mut offset = offset;
        while !rest.is_empty() {
            let is_anything = unwritten.filled > 0 || !unwritten.under_way.is_empty();
            if is_anything && unwritten.start + unwritten.filled as u64 != offset {
                self.flush_locked(&mut unwritten).await?;
            }
            let start = unwritten.filled;
            if start == 0 {
                unwritten.start = offset;
                unwritten.buffer = Some(match mount.try_buffer(GATHERED) {
                    Some(buffer) => buffer,
                    None => {
                        mount.flush_those(|other| !Arc::ptr_eq(self, other)).await?;
                        mount.buffer(GATHERED).await?
                    }
                });
                if !std::mem::replace(&mut unwritten.is_registered, true) {
                    mount.0.unwritten.add(self);
                }
                mount.linger();
            }
            let buffer = unwritten.buffer.as_ref().ok_or_else(|| Error::broken("a buffer was lost"))?;
            let taken = buffer.write(start, rest);
            mount.count_copied(taken);
            let full = start + taken == buffer.len();
            unwritten.filled += taken;
            offset += taken as u64;
            rest = &rest[taken..];
            if full {
                // Where what is appended comes to lie depends on what came before.
                let is_alone = self.handle.appends() || self.synced.is_some();
                self.send_locked(&mut unwritten, if is_alone { 0 } else { AT_A_TIME }).await?;
            }
        }
        Ok(())
    }

    /// Accepts `bytes`, to be written at the end of a file that was opened to append.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub async fn append(self: &Arc<Self>, bytes: &[u8]) -> Result<()> {
        // The server puts them where the end is; here it matters only that they are taken to follow one another.
        let offset = self.appended.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.write(offset, bytes).await
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// What kept it, or an earlier write, from being carried out.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        if let Some(cached) = self.cached_writes() {
            return cached.flush().await;
        }
        let mut unwritten = self.unwritten.lock().await;
        self.flush_locked(&mut unwritten).await?;
        unwritten.failure()
    }

    /// Writes all that was accepted, and waits until it is written.
    async fn flush_locked(self: &Arc<Self>, unwritten: &mut Unwritten) -> Result<()> {
        self.send_locked(unwritten, 0).await
    }

    /// Has what was gathered written, and waits until at most so many pieces are under way.
    async fn send_locked(self: &Arc<Self>, unwritten: &mut Unwritten, most: usize) -> Result<()> {
        let filled = std::mem::take(&mut unwritten.filled);
        let mut outcome = Ok(());
        if let Some(mut buffer) = unwritten.buffer.take() {
            buffer.truncate(filled);
            let (writer, start) = (Arc::clone(self), unwritten.start);
            unwritten.start += filled as u64;
            // Unconstrained, so that it is sent now, and done now where nothing has to be waited for.
            let mut writing: Writing =
                Box::pin(tokio::task::unconstrained(async move { writer.write_out(start, buffer).await }));
            match writing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(written) => outcome = written,
                Poll::Pending => unwritten.under_way.push_back(writing),
            }
        }
        while unwritten.under_way.len() > most
            && let Some(writing) = unwritten.under_way.front_mut()
        {
            let written = writing.as_mut().await;
            unwritten.under_way.pop_front();
            outcome = outcome.and(written);
        }
        if unwritten.under_way.is_empty() && std::mem::take(&mut unwritten.is_registered) {
            self.handle.mount().0.unwritten.remove(self);
        }
        outcome
    }

    async fn write_out(&self, mut offset: u64, buffer: Buffer) -> Result<()> {
        let mut rest = Some(buffer);
        while let Some(buffer) = rest.take_if(|buffer| !buffer.is_empty()) {
            // Where an error struck behind a part that was written, asking for the rest tells which it is.
            // It was accepted, so it is written even if nobody waits for that any more.
            let end = offset + buffer.len() as u64;
            let (written, buffers) = self.handle.write_from(offset, MemoryKind::Application, [buffer].into()).await;
            // However it ended: the cache does not know what of it is on the server.
            if let Some(cache) = self.handle.mount().content_cache() {
                cache.written_past(self.handle.qid().path, (!self.handle.appends()).then_some(offset..end));
            }
            let (written, buffer) = (written?, buffers.into_iter().next());
            if written == 0 {
                return Err(Errno::EIO.into());
            }
            offset += written as u64;
            rest = buffer;
            if let Some(buffer) = &mut rest {
                buffer.discard_front(written);
            }
        }
        Ok(())
    }

    /// The last user of the file is gone: writes what was gathered, now where nothing has to be waited for, in the
    /// background where it has. A failure is kept for [`Mount::finish`].
    pub fn close(self: Arc<Self>) {
        if !self.handle.mount().has_anything_unwritten() && !self.has_failed() {
            return;
        }
        // Unconstrained, so that it is not put off where nothing has to be waited for.
        let mut flush: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(tokio::task::unconstrained(async move {
            let outcome = self.flush().await;
            if let Err(error) = outcome {
                self.handle.mount().0.unwritten.lose(error);
            }
        }));
        let mut context = Context::from_waker(Waker::noop());
        if flush.as_mut().poll(&mut context).is_pending()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(flush);
        }
    }
}

impl Writer {
    /// Is there a failure that nobody was told, such as of what was written in the background?
    fn has_failed(&self) -> bool {
        match self.cached_writes() {
            Some(cached) => cached.has_failed(),
            // Whoever is at it may fail yet.
            None => self.unwritten.try_lock().map_or(true, |unwritten| unwritten.failed.is_some()),
        }
    }
}

impl Unwritten {
    fn failure(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl Registry {
    fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    fn add(&self, writer: &Arc<Writer>) {
        let mut writers = self.writers.lock();
        writers.push(Arc::clone(writer));
        self.count.store(writers.len(), Ordering::Release);
    }

    fn remove(&self, writer: &Arc<Writer>) {
        let mut writers = self.writers.lock();
        writers.retain(|other| !Arc::ptr_eq(other, writer));
        self.count.store(writers.len(), Ordering::Release);
    }

    fn lose(&self, error: Error) {
        tracing::error!(%error, "a write was lost: it failed after its file had been closed");
        self.lost.lock().get_or_insert(error);
    }
}

impl Mount {
    /// Writes all that was gathered for the file whose qid has this `path`, so that whoever looks at it sees it.
    ///
    /// # Errors
    /// The mount is broken. Failures of single writes are their writers' to report.
    pub async fn flush_file(&self, path: u64) -> Result<()> {
        self.flush_file_but(path, None).await
    }

    /// Writes all that was gathered.
    ///
    /// # Errors
    /// As [`Mount::flush_file`].
    pub async fn flush(&self) -> Result<()> {
        self.flush_those(|_| true).await?;
        if let Some(cache) = self.content_cache() {
            Box::pin(cache.flush_all()).await;
        }
        Ok(())
    }

    /// Was something gathered for the file whose qid has this `path`?
    pub(crate) fn has_unwritten(&self, path: u64) -> bool {
        let registry = &self.0.unwritten;
        registry.any() && registry.writers.lock().iter().any(|writer| writer.handle.qid().path == path)
    }

    /// Writes all that was gathered, waits a moment for what the server has not answered yet, and tells whether any write
    /// was lost since this was last asked: for when a program has ended. There are servers that do not survive it when a
    /// connection is closed which they have an answer for.
    ///
    /// # Errors
    /// The first failure of a write that had been accepted and whose program was not told.
    pub async fn finish(&self) -> Result<()> {
        self.flush().await?;
        self.settle().await;
        self.0.unwritten.lost.lock().take().map_or(Ok(()), Err)
    }

    /// Remembers a write that failed with nobody left to tell, for [`Mount::finish`].
    pub(crate) fn report_lost(&self, error: Error) {
        self.0.unwritten.lose(error);
    }

    async fn flush_file_but(&self, path: u64, writer: Option<&Arc<Writer>>) -> Result<()> {
        self.flush_gathered(path, writer).await?;
        if let Some(cache) = self.content_cache() {
            Box::pin(cache.flush_path(path)).await;
        }
        Ok(())
    }

    /// Is anything there that the server does not have?
    fn has_anything_unwritten(&self) -> bool {
        self.0.unwritten.any() || self.content_cache().is_some_and(|cache| cache.has_unwritten())
    }

    /// Writes what writers other than `writer` have gathered for the file whose qid has this `path`; what the cache has
    /// of it stays there.
    pub(super) async fn flush_gathered(&self, path: u64, writer: Option<&Arc<Writer>>) -> Result<()> {
        self.flush_those(|other| {
            other.handle.qid().path == path && writer.is_none_or(|writer| !Arc::ptr_eq(writer, other))
        })
        .await
    }

    async fn flush_those(&self, chosen: impl Fn(&Arc<Writer>) -> bool) -> Result<()> {
        if self.0.unwritten.any() { Box::pin(self.flush_chosen(chosen)).await } else { Ok(()) }
    }

    async fn flush_chosen(&self, chosen: impl Fn(&Arc<Writer>) -> bool) -> Result<()> {
        let writers: Vec<_> = self.0.unwritten.writers.lock().iter().filter(|writer| chosen(writer)).cloned().collect();
        for writer in writers {
            let mut unwritten = writer.unwritten.lock().await;
            if let Err(error) = writer.flush_locked(&mut unwritten).await {
                match Arc::strong_count(&writer) {
                    // Nobody but this function holds it.
                    1 => self.0.unwritten.lose(error),
                    _ => drop(unwritten.failed.get_or_insert(error)),
                }
            }
        }
        Ok(())
    }

    /// Sees to it that nothing stays gathered for longer than [`LINGER`].
    pub(super) fn linger(&self) {
        if self.0.unwritten.flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            self.0.unwritten.flushing.store(false, Ordering::Release);
            return;
        };
        let mount = self.clone();
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(LINGER).await;
                if !mount.has_anything_unwritten() {
                    mount.0.unwritten.flushing.store(false, Ordering::Release);
                    // A write may have come in between, and seen the flag still set.
                    if !mount.has_anything_unwritten() || mount.0.unwritten.flushing.swap(true, Ordering::AcqRel) {
                        return;
                    }
                }
                if let Err(error) = mount.flush().await {
                    tracing::warn!(%error, "gathered writes could not be written");
                }
            }
        });
    }
}

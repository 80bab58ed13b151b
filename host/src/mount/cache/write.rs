//! Writing by way of the cache: into dirty pages first, and from there to the server.

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::Range,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use ninering_wire::Errno;
use tokio::sync::OwnedMutexGuard;

use super::{
    Cache, CachedFile,
    counters::count,
    file::{Key, Validator},
    index::Batch,
    read::run,
    shared,
};
use crate::{
    mount::{Buffers, Handle, Result, component::vfs::MemoryKind},
    region::PAGE,
};

/// So many write-backs of one file are under way at a time.
const AT_A_TIME: usize = 16;
/// Who writes back in the background goes on with what was written meanwhile, but not with more than so many bytes: others
/// may wait for it.
const MOST_AT_ONCE: u64 = 64 << 20;

/// A batch being written; tells whether it was.
type Writing<'c> = Pin<Box<dyn Future<Output = bool> + Send + 'c>>;

impl CachedFile {
    /// Accepts `bytes`, to be written at `offset`.
    ///
    /// # Errors
    /// Why earlier writes could not be carried out, or this one, if that is known already.
    pub(in crate::mount) async fn write(self: &Arc<Self>, offset: u64, bytes: &[u8]) -> Result<()> {
        self.handle.writable()?;
        self.failure()?;
        let (mut offset, mut rest) = (offset, bytes);
        if offset.checked_add(rest.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::EFBIG.into());
        }
        while !rest.is_empty() {
            let taken = if self.cache.has_ended() { 0 } else { self.write_now(offset, rest) };
            if taken > 0 {
                offset += taken as u64;
                rest = &rest[taken..];
                continue;
            }
            // There is no room: what was written goes first, then this, if need be past the cache.
            self.cache.flush_all().await;
            self.failure()?;
            let taken = if self.cache.has_ended() { 0 } else { self.write_now(offset, rest) };
            let taken = if taken > 0 { taken } else { self.write_past(offset, rest).await? };
            offset += taken as u64;
            rest = &rest[taken..];
        }
        self.write_back_enough(offset - bytes.len() as u64).await
    }

    /// Puts as much as there is room for into dirty pages.
    fn write_now(&self, offset: u64, bytes: &[u8]) -> usize {
        let taken = self.cache.index.lock().write(self.key, offset, bytes, &self.handle);
        if taken > 0 {
            self.cache.has_unwritten.store(true, Ordering::Release);
            self.handle.mount().count_copied(taken);
        }
        taken
    }

    async fn write_past(&self, offset: u64, bytes: &[u8]) -> Result<usize> {
        let mut buffer = self.handle.mount().buffer(bytes.len()).await?;
        let taken = buffer.write(0, bytes);
        buffer.truncate(taken);
        self.handle.mount().count_copied(taken);
        let (written, _) = self.handle.write_from(offset, MemoryKind::Application, [buffer].into()).await;
        self.cache.written_past(self.key.0, Some(offset..offset + taken as u64));
        match written? {
            0 => Err(Errno::EIO.into()),
            written => Ok(written),
        }
    }

    /// Has written back what has gathered, if it is enough; waits for it, if it is much.
    async fn write_back_enough(self: &Arc<Self>, offset: u64) -> Result<()> {
        let cache = &self.cache;
        let (is_much, goes_first, is_enough) = {
            let mut index = cache.index.lock();
            let is_torn = index.is_torn(self.key, offset);
            let is_much = index.unwritten > cache.most_unwritten;
            let Some(file) = index.files.get_mut(&self.key) else { return Ok(()) };
            let is_own = file.unwritten > cache.most_unwritten / 2;
            let goes_first = is_torn || is_much && !is_own;
            let is_enough = !goes_first && !file.is_written_back && file.unwritten >= cache.enough_unwritten;
            file.is_written_back |= is_enough;
            (is_much, goes_first, is_enough)
        };
        if goes_first {
            cache.flush_file(self.key, false).await;
            if cache.index.lock().unwritten > cache.most_unwritten {
                cache.flush_all().await;
            }
            return self.failure();
        }
        if is_enough {
            let file = Arc::clone(self);
            run(async move {
                let flushing = file.signals.flushing.lock().await;
                file.cache.flush_locked(file.key, false, true).await;
                drop(flushing);
                if let Some(file) = file.cache.index.lock().files.get_mut(&file.key) {
                    file.is_written_back = false;
                }
                file.signals.written.notify_waiters();
            });
        }
        if is_much {
            self.wait_for_room().await;
            return self.failure();
        }
        self.handle.mount().linger();
        Ok(())
    }

    /// Waits until what is written back in the background has made room for more, or is over.
    async fn wait_for_room(&self) {
        loop {
            let mut written = pin!(self.signals.written.notified());
            written.as_mut().enable();
            {
                let index = self.cache.index.lock();
                let is_written_back = index.files.get(&self.key).is_some_and(|file| file.is_written_back);
                if index.unwritten <= self.cache.most_unwritten || !is_written_back {
                    return;
                }
            }
            written.await;
        }
    }

    /// Writes what is dirty of the file.
    ///
    /// # Errors
    /// Why that, or an earlier write, could not be carried out.
    pub(in crate::mount) async fn flush(&self) -> Result<()> {
        self.cache.flush_file(self.key, true).await;
        self.failure()
    }

    /// Is there a failure that was not told by this open file yet?
    pub(in crate::mount) fn has_failed(&self) -> bool {
        self.cache.index.lock().files.get(&self.key).is_some_and(|file| *self.told.lock() != file.failures)
    }

    /// A failure that was not told by this open file yet.
    fn failure(&self) -> Result<()> {
        let index = self.cache.index.lock();
        let Some(file) = index.files.get(&self.key) else { return Ok(()) };
        let mut told = self.told.lock();
        if *told == file.failures {
            return Ok(());
        }
        *told = file.failures;
        file.failure.clone().map_or(Ok(()), Err)
    }
}

impl Cache {
    /// Writes what is dirty of the file whose qid has this `path`. Failures are told by who has it open.
    pub(in crate::mount) async fn flush_path(&self, path: u64) {
        if self.has_unwritten() {
            self.flush_file(shared(path), true).await;
        }
    }

    /// Writes all that is dirty, likewise.
    pub(in crate::mount) async fn flush_all(&self) {
        if !self.has_unwritten() {
            return;
        }
        let keys: Vec<Key> = {
            let index = self.index.lock();
            index.files.iter().filter(|(_, file)| file.unwritten > 0).map(|(key, _)| *key).collect()
        };
        for key in keys {
            self.flush_file(key, true).await;
        }
    }

    /// Writes what is dirty of the file whose qid has this `path`, and keeps everybody from writing back until what this
    /// returns is dropped.
    pub(in crate::mount) async fn settle(&self, path: u64) -> Option<OwnedMutexGuard<()>> {
        let flushing = Arc::clone(&self.index.lock().files.get(&shared(path))?.signals.flushing);
        let settled = flushing.lock_owned().await;
        self.flush_locked(shared(path), true, false).await;
        Some(settled)
    }

    async fn flush_file(&self, key: Key, is_bracketed: bool) {
        let signals = match self.index.lock().files.get(&key) {
            Some(file) if file.unwritten > 0 => Arc::clone(&file.signals),
            _ => return,
        };
        let flushing = signals.flushing.lock().await;
        self.flush_locked(key, is_bracketed, false).await;
        drop(flushing);
    }

    /// Writes what is dirty of a file, whose `flushing` the caller holds. With `is_bracketed` set, what is clean stays
    /// known as the server's if it was so just before; with `whole` set, the end that is still being written is left.
    pub(super) async fn flush_locked(&self, key: Key, is_bracketed: bool, whole: bool) {
        let (handle, before, signals) = {
            let index = self.index.lock();
            let Some(file) = index.files.get(&key) else { return };
            let Some(handle) = file.writer.clone().filter(|_| file.unwritten > 0) else { return };
            (handle, file.validator, Arc::clone(&file.signals))
        };
        let mut is_unchanged = false;
        if let Some(before) = before.filter(|_| is_bracketed) {
            // An error here comes again when the attributes are asked for that matter to somebody.
            is_unchanged = handle.ask_attributes().await.is_ok_and(|attributes| Validator::from(&attributes) == before);
        }
        let batches = {
            let mut index = self.index.lock();
            if !is_unchanged && let Some(file) = index.files.get_mut(&key) {
                file.validator = None;
            }
            index.take_dirty(key, whole)
        };
        let mut all_written = true;
        let mut waiting = self.begin(key, batches);
        let mut writing: Vec<(u64, Writing<'_>)> = Vec::new();
        let mut begun = 0;
        poll_fn(|context| {
            loop {
                if whole && waiting.is_empty() && begun < MOST_AT_ONCE {
                    let under_way: u64 = writing.iter().map(|(len, _)| len).sum();
                    let mut index = self.index.lock();
                    let unwritten = index.files.get(&key).map_or(0, |file| file.unwritten);
                    if unwritten >= under_way + self.enough_unwritten {
                        let batches = index.take_dirty(key, whole);
                        drop(index);
                        waiting = self.begin(key, batches);
                    }
                }
                while writing.len() < AT_A_TIME
                    && let Some((batch, ended)) = waiting.pop_front()
                {
                    begun += batch.len();
                    writing.push((batch.len(), Box::pin(self.write_batch(&handle, batch, ended))));
                }
                let before = writing.len();
                writing.retain_mut(|(_, batch)| match batch.as_mut().poll(context) {
                    Poll::Ready(is_written) => {
                        all_written &= is_written;
                        signals.written.notify_waiters();
                        false
                    }
                    Poll::Pending => true,
                });
                if writing.is_empty() && waiting.is_empty() {
                    return Poll::Ready(());
                }
                if writing.len() == before {
                    return Poll::Pending;
                }
            }
        })
        .await;
        let after = if is_unchanged && all_written { handle.ask_attributes().await.ok() } else { None };
        let mut index = self.index.lock();
        self.has_unwritten.store(index.unwritten > 0, Ordering::Release);
        let mut writer = None;
        if let Some(file) = index.files.get_mut(&key) {
            if is_unchanged {
                // Unless it was given up meanwhile.
                file.validator = file.validator.and(after.as_ref().map(Validator::from));
            }
            if file.unwritten == 0 {
                writer = file.writer.take();
            }
        }
        index.forget_if_idle(key);
        drop(index);
        // Closes the file, perhaps, which is a call of the client.
        drop(writer);
    }

    /// Whatever becomes of these batches, what was taken is not lost.
    fn begin(&self, key: Key, batches: Vec<Batch>) -> VecDeque<(Batch, Ended<'_>)> {
        let with_end = |batch: Batch| {
            let ended = Ended::of(self, key, &batch);
            (batch, ended)
        };
        batches.into_iter().map(with_end).collect()
    }

    /// Writes one batch. Tells whether it was written; else, its file has the failure.
    async fn write_batch(&self, handle: &Arc<Handle>, batch: Batch, mut ended: Ended<'_>) -> bool {
        let len = batch.len();
        let outcome = self.write_parts(handle, batch).await;
        ended.is_written = Some(outcome.is_ok());
        let is_written = outcome.is_ok();
        count(&self.counters.write_backs, 1);
        match outcome {
            Ok(()) => count(&self.counters.written_back_bytes, len),
            Err(error) => {
                tracing::debug!(%error, "a write-back failed");
                if let Some(file) = self.index.lock().files.get_mut(&ended.key) {
                    file.failures += 1;
                    file.failure = Some(error);
                }
            }
        }
        is_written
    }

    async fn write_parts(&self, handle: &Arc<Handle>, batch: Batch) -> Result<()> {
        let mut offset = batch.offset;
        let mut buffers = Buffers::new();
        for part in batch.parts {
            match part.memory {
                Some(memory) => buffers.push(memory.part(part.range.start, part.range.end - part.range.start)),
                None => {
                    let mut rest = part.copy.as_slice();
                    while !rest.is_empty() {
                        let mut buffer = handle.mount().buffer(rest.len()).await?;
                        let taken = buffer.write(0, rest);
                        buffer.truncate(taken);
                        handle.mount().count_copied(taken);
                        rest = &rest[taken..];
                        buffers.push(buffer);
                    }
                }
            }
        }
        let are_folios = buffers.iter().any(|buffer| buffer.len() > PAGE as usize);
        let memory = if are_folios { MemoryKind::Folios } else { MemoryKind::Pages };
        while !buffers.is_empty() {
            // Where an error struck behind a part that was written, asking for the rest tells which it is.
            let (written, mut rest) = handle.write_from(offset, memory, buffers).await;
            let mut written = written?;
            if written == 0 {
                return Err(Errno::EIO.into());
            }
            offset += written as u64;
            while let Some(first) = rest.first_mut() {
                let len = first.len();
                if written < len {
                    first.discard_front(written);
                    break;
                }
                written -= len;
                rest.remove(0);
            }
            buffers = rest;
        }
        Ok(())
    }
}

/// Ends a batch, however it ends.
struct Ended<'c> {
    cache: &'c Cache,
    key: Key,
    places: Vec<(u64, Range<u32>)>,
    /// `None` as long as nobody knows.
    is_written: Option<bool>,
}

impl<'c> Ended<'c> {
    fn of(cache: &'c Cache, key: Key, batch: &Batch) -> Self {
        let places = batch.parts.iter().map(|part| (part.start, part.range.clone())).collect();
        Self { cache, key, places, is_written: None }
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        // First, so that nobody takes older attributes for those of a file that has nothing unwritten.
        self.cache.note_change();
        self.cache.index.lock().end_batch(self.key, &self.places, self.is_written);
    }
}

//! Reading by way of the cache: what is there at once, what is missing from the server, and ahead of who reads in order.

use std::{
    ops::Range,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;

use super::{
    Cache, CachedFile,
    counters::count,
    file::Key,
    index::{Found, Plan, page_end, page_start},
};
use crate::{
    mount::{Buffers, Error, Handle, Result, buffer::Allocation, component::vfs::MemoryKind},
    region::PAGE,
};

/// The first window of who reads in order.
const FIRST_WINDOW: u64 = 128 << 10;
/// The longest folio that is read into.
const LONGEST_FOLIO: u64 = 1 << 20;
/// How often a read is tried anew that finds its file changed while it was read.
const MOST_ATTEMPTS: usize = 6;

/// What is read ahead of an open file.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// Where who reads in order reads next.
    next: u64,
    /// Bytes to read ahead; 0 for nobody who reads in order.
    window: u64,
    /// Where the next window begins.
    end: u64,
    /// Where the last window begins.
    last: u64,
    /// Who reads past here has the next window read: the window before the last one, so that while one is being used the
    /// next is under way, and the one behind it asked for. A link is never idle then.
    marker: u64,
    largest: u64,
}

impl ReadAhead {
    pub(super) fn new(largest: u64) -> Self {
        Self { next: 0, window: 0, end: 0, last: 0, marker: 0, largest }
    }

    /// `len` bytes at `offset` were there. Tells what to read ahead now.
    fn advance(&mut self, offset: u64, len: u64) -> Option<Range<u64>> {
        let is_next = offset == self.next;
        self.next = offset + len;
        if !is_next {
            self.window = 0;
            return None;
        }
        if self.window == 0 || self.next <= self.marker {
            return None;
        }
        let start = self.end.max(page_start(self.next));
        self.window = (self.window * 2).min(self.largest);
        (self.marker, self.last) = (self.last, start);
        self.end = start + self.window;
        Some(start..self.end)
    }

    /// The byte at `missing` of the `len` bytes at `offset` is not there. Tells how many bytes to read from it on.
    fn miss(&mut self, offset: u64, len: u64, missing: u64) -> u64 {
        let rest = offset.saturating_add(len) - missing;
        if offset != self.next {
            self.window = 0;
            return rest;
        }
        self.window = match self.window {
            0 => FIRST_WINDOW.min(self.largest),
            window => (window * 2).min(self.largest),
        };
        let wanted = rest.max(self.window);
        self.end = page_end(missing.saturating_add(wanted));
        (self.marker, self.last) = (missing, missing);
        wanted
    }
}

/// What is there of a read.
pub(crate) enum Cached {
    /// These bytes, no more than were asked for. Fewer, but not none, where the file ends behind them, or where more do
    /// not lie together.
    Bytes(Bytes),
    /// The file ends there or before.
    End,
    /// Not all of it.
    Missing,
}

/// Ends a fill, however it ends.
struct Filling<'c> {
    cache: &'c Cache,
    key: Key,
    id: u64,
    reserved: u64,
    is_over: bool,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut index = self.cache.index.lock();
            index.release(self.reserved);
            index.end_fill(self.key, self.id);
            index.forget_if_idle(self.key);
        }
    }
}

impl CachedFile {
    /// What is there of the `size` bytes at `offset`, without waiting.
    pub(crate) fn read_now(self: &Arc<Self>, offset: u64, size: usize) -> Cached {
        match self.find(offset, size) {
            Found::Bytes(bytes, _) => {
                count(&self.cache.counters.hits, 1);
                Cached::Bytes(bytes)
            }
            Found::End => Cached::End,
            Found::Missing(_) => Cached::Missing,
        }
    }

    /// Reads up to `size` bytes at `offset`: fewer at the file's end, or where more do not lie together, none only at the
    /// end.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn read(self: &Arc<Self>, offset: u64, size: usize) -> Result<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        count(&self.cache.counters.misses, 1);
        for _ in 0..MOST_ATTEMPTS {
            if self.cache.has_ended() {
                break;
            }
            self.handle.mount().flush_gathered(self.key.0, None).await?;
            if !self.is_validated() {
                // What is known was told after the file had been opened.
                let moment = self.cache.moment();
                let attributes = self.handle.stat().await?;
                self.validate(Some((attributes, moment))).await?;
            }
            let missing = match self.find(offset, size) {
                Found::Bytes(bytes, _) => return Ok(bytes),
                Found::End => return Ok(Bytes::new()),
                Found::Missing(missing) => missing,
            };
            let filled = self.signals.filled.notified();
            let mut filled = pin!(filled);
            filled.as_mut().enable();
            let wanted = self.ahead.lock().miss(offset, size as u64, missing);
            let plan = self.cache.index.lock().plan(self.key, missing, wanted);
            match plan {
                Plan::Nothing => {}
                Plan::Wait => filled.await,
                Plan::Fill(range, id) => {
                    let ahead = range.end.saturating_sub(page_end(offset.saturating_add(size as u64)));
                    if !self.cache.fill(&self.handle, self.key, range, id, ahead).await? {
                        break;
                    }
                }
            }
        }
        self.read_past(offset, size).await
    }

    /// Reads from the server, for there is no room, or no rest.
    async fn read_past(&self, offset: u64, size: usize) -> Result<Bytes> {
        let mount = self.handle.mount();
        mount.flush_file(self.key.0).await?;
        let buffer = mount.buffer(size).await?;
        let (count, buffers) = self.handle.read_into(offset, MemoryKind::Application, [buffer].into()).await?;
        let mut buffer = buffers.into_iter().next().ok_or_else(|| Error::broken("a buffer was lost"))?;
        buffer.truncate(count);
        Ok(buffer.into_bytes())
    }

    /// Looks in the index, and has more read ahead where that is found to be of use.
    fn find(self: &Arc<Self>, offset: u64, size: usize) -> Found {
        if self.cache.has_ended() || !self.is_validated() {
            return Found::Missing(offset);
        }
        let mount = self.handle.mount();
        if mount.has_unwritten(self.key.0) {
            return Found::Missing(offset);
        }
        let trust = self.trust();
        let found = self.cache.index.lock().find(self.key, offset, size as u64, trust);
        if let Found::Bytes(bytes, copied) = &found {
            mount.count_copied(*copied);
            let ahead = self.ahead.lock().advance(offset, bytes.len() as u64);
            if let Some(range) = ahead {
                self.read_ahead(range);
            }
        }
        found
    }

    /// Begins to read what is missing of `range`, and does not wait for it.
    fn read_ahead(self: &Arc<Self>, range: Range<u64>) {
        let plan = {
            let mut index = self.cache.index.lock();
            let size = index.files.get(&self.key).map_or(0, |file| file.size);
            let range = range.start..range.end.min(size);
            match index.first_missing(self.key, range.clone()) {
                Some(missing) => index.plan(self.key, missing, range.end - missing),
                None => Plan::Nothing,
            }
        };
        let Plan::Fill(range, id) = plan else { return };
        let file = Arc::clone(self);
        run(async move {
            let pages = range.end - range.start;
            if let Err(error) = file.cache.fill(&file.handle, file.key, range, id, pages).await {
                // Who reads on asks for it again, and is told.
                tracing::debug!(%error, "nothing could be read ahead");
            }
        });
    }
}

/// Does what can be done at once, and the rest in the background.
pub(super) fn run(work: impl Future<Output = ()> + Send + 'static) {
    // Unconstrained, so that it is not put off where nothing has to be waited for.
    let mut work = Box::pin(tokio::task::unconstrained(work));
    let is_pending = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending;
    if is_pending && let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}

impl Cache {
    /// Reads `range` from the server. `false`: there is no room for it.
    async fn fill(&self, handle: &Arc<Handle>, key: Key, mut range: Range<u64>, id: u64, ahead: u64) -> Result<bool> {
        let mut filling = Filling { cache: self, key, id, reserved: 0, is_over: false };
        let pages = loop {
            let len = range.end - range.start;
            if let Some(pages) = self.allocate(len) {
                filling.reserved = len;
                break pages;
            }
            // Less, or nothing.
            let less = page_start(len / 2);
            if less == 0 {
                return Ok(false);
            }
            range.end = range.start + less;
        };
        let contents = handle.mount().contents(key.0);
        let filled = Instant::now();
        let is_single = pages.iter().all(|page| page.len() == PAGE);
        let memory = if is_single { MemoryKind::FilePages } else { MemoryKind::Folios };
        let buffers: Buffers = pages.iter().map(|page| page.part(0, page.len())).collect();
        drop(pages);
        let (got, buffers) = handle.read_into(range.start, memory, buffers).await?;
        let pages = buffers.into_iter().map(super::super::Buffer::into_shared).collect();
        count(&self.counters.read_ahead_pages, ahead.min(got as u64).div_ceil(PAGE.into()));
        let mut index = self.index.lock();
        filling.is_over = true;
        index.fill(key, id, pages, got as u64, (filled, contents));
        index.forget_if_idle(key);
        Ok(true)
    }

    /// Memory for `len` bytes, whole pages, that is set aside in the index.
    fn allocate(&self, len: u64) -> Option<Vec<Arc<Allocation>>> {
        if !self.index.lock().reserve(len) {
            return None;
        }
        let longest = LONGEST_FOLIO.min(self.largest_window.max(FIRST_WINDOW));
        let mut pages = Vec::new();
        let (mut left, mut piece) = (len, longest);
        while left > 0 {
            piece = piece.min(left);
            match u32::try_from(piece).ok().and_then(|piece| self.pool.try_take(piece)) {
                Some(buffer) => {
                    left -= piece;
                    pages.push(buffer.into_shared());
                }
                None if piece > PAGE.into() => piece = page_start(piece / 2).max(PAGE.into()),
                None => {
                    self.index.lock().release(len);
                    return None;
                }
            }
        }
        Some(pages)
    }
}

//! File contents as `wasi:io` streams.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::descriptor::Shared;
use crate::mount::{self, Cached};

/// What is read ahead of a program that only asks whether it could read.
const READY: usize = 64 << 10;
/// Reads of fewer bytes than this are small.
const SMALL: usize = 128 << 10;
/// The least that is read where less was asked for. The most is four times this, or of what is asked for.
const WINDOW: usize = 32 << 10;
/// A window that says that reading ahead was in vain before.
const NEVER: usize = 1;
/// How long what was read ahead can be used, from when it was here.
const FRESH: Duration = Duration::from_millis(10);
/// What a program may write without asking again.
const PERMIT: usize = 64 << 10;

/// Work that a call began which could not wait for it.
type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Polls once: all that is needed where the server is in this process.
fn poll_once<T>(work: &mut Work<T>) -> Poll<T> {
    work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn stream_error(error: mount::Error) -> StreamError {
    StreamError::LastOperationFailed(wasmtime::Error::new(error))
}

/// Bytes that were read and not taken yet.
struct Ahead {
    bytes: Bytes,
    time: Instant,
    /// [`contents`] when they were read.
    contents: u64,
}

/// A number that changes when the contents of the file are changed by this mount.
fn contents(file: &Shared) -> u64 {
    match file.writer().cached() {
        Some(cached) => cached.contents(),
        None => file.mount().contents(file.handle().qid().path),
    }
}

/// A file read from a position on.
///
/// A program that reads a file in small pieces, one behind the other, is served from larger ones. What was read ahead
/// is used soon ([`FRESH`]) or not at all, and not if this mount has changed the file since.
pub(super) struct FileInput {
    file: Shared,
    offset: u64,
    ahead: Option<Ahead>,
    /// How much to read at least; 0 for what is asked for.
    window: usize,
    failed: Option<mount::Error>,
    fetching: Option<Work<mount::Result<Ahead>>>,
}

impl FileInput {
    pub(super) fn new(file: Shared, offset: u64) -> Self {
        Self { file, offset, ahead: None, window: 0, failed: None, fetching: None }
    }

    /// Begins to read, `size` bytes or more.
    fn begin(&self, size: usize) -> impl Future<Output = mount::Result<Ahead>> + Send + 'static {
        let (file, offset, window) = (self.file.clone(), self.offset, self.window);
        async move {
            if let Some(cached) = file.writer().cached() {
                // The cache reads ahead itself.
                let (time, contents) = (Instant::now(), contents(&file));
                let bytes = Box::pin(cached.read(offset, size)).await?;
                return Ok(Ahead { bytes, time, contents });
            }
            let size = size.max(window);
            file.settle().await?;
            let contents = contents(&file);
            let buffer = file.mount().buffer(size).await?;
            let bytes = file.handle().read_at(offset, buffer).await?.into_bytes();
            // Over a long link it would be too old by then if it were counted from when it was asked for.
            Ok(Ahead { bytes, time: Instant::now(), contents })
        }
    }

    /// What was read ahead, if it is still what the file holds.
    fn take_ahead(&mut self, size: usize) -> Option<Bytes> {
        let path = self.file.handle().qid().path;
        let mount = self.file.mount();
        let ahead = self.ahead.as_mut()?;
        if ahead.time.elapsed() > FRESH || ahead.contents != contents(&self.file) || mount.has_unwritten(path) {
            self.ahead = None;
            self.window = NEVER;
            return None;
        }
        let bytes = ahead.bytes.split_to(size.min(ahead.bytes.len()));
        if ahead.bytes.is_empty() {
            self.ahead = None;
        }
        Some(bytes)
    }

    /// What needs no reading: a failure that is known, nothing, or what was read ahead.
    fn answer_at_once(&mut self, size: usize) -> Option<StreamResult<Bytes>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(stream_error(error)));
        }
        if size == 0 {
            return Some(Ok(Bytes::new()));
        }
        if let Some(bytes) = self.take_ahead(size).filter(|bytes| !bytes.is_empty()) {
            return Some(self.give(bytes));
        }
        match self.file.writer().cached()?.read_now(self.offset, size) {
            Cached::Bytes(bytes) => Some(self.give(bytes)),
            Cached::End => Some(Err(StreamError::Closed)),
            Cached::Missing => None,
        }
    }

    /// Takes at most `size` bytes of what was just read.
    fn take(&mut self, read: mount::Result<Ahead>, size: usize) -> StreamResult<Bytes> {
        let mut read = read.map_err(stream_error)?;
        if read.bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        let bytes = read.bytes.split_to(size.min(read.bytes.len()));
        if !read.bytes.is_empty() {
            self.ahead = Some(read);
        }
        self.window = match self.window {
            NEVER => NEVER,
            window if size < SMALL => (window * 4).clamp(WINDOW, 4 * WINDOW.max(size)),
            _ => 0,
        };
        self.give(bytes)
    }

    fn give(&mut self, bytes: Bytes) -> StreamResult<Bytes> {
        self.offset += bytes.len() as u64;
        // Once, from the region into the program's memory.
        self.file.mount().count_copied(bytes.len());
        Ok(bytes)
    }
}

#[async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {
        if self.ahead.is_none() && self.failed.is_none() {
            let fetching = match self.fetching.take() {
                Some(fetching) => fetching,
                None => Box::pin(self.begin(READY)),
            };
            match fetching.await {
                Ok(read) => self.ahead = Some(read),
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

#[async_trait]
impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if let Some(answer) = self.answer_at_once(size) {
            return answer;
        }
        let mut fetching = match self.fetching.take() {
            Some(fetching) => fetching,
            None => Box::pin(self.begin(size)),
        };
        match poll_once(&mut fetching) {
            Poll::Ready(read) => self.take(read, size),
            Poll::Pending => {
                self.fetching = Some(fetching);
                Ok(Bytes::new())
            }
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if let Some(answer) = self.answer_at_once(size) {
            return answer;
        }
        let read = match self.fetching.take() {
            Some(fetching) => fetching.await,
            None => self.begin(size).await,
        };
        self.take(read, size)
    }
}

/// Where the bytes of an output stream go.
enum Position {
    At(u64),
    End,
}

/// A file written from a position on, or at its end.
pub(super) struct FileOutput {
    file: Shared,
    position: Position,
    writing: Option<Work<mount::Result<()>>>,
    failed: Option<mount::Error>,
}

impl FileOutput {
    pub(super) fn at(file: Shared, offset: u64) -> Self {
        Self { file, position: Position::At(offset), writing: None, failed: None }
    }

    pub(super) fn at_end(file: Shared) -> Self {
        Self { file, position: Position::End, writing: None, failed: None }
    }

    fn begin(&mut self, bytes: Bytes) -> impl Future<Output = mount::Result<()>> + Send + 'static {
        let file = self.file.clone();
        let offset = match &mut self.position {
            Position::At(offset) => {
                let start = *offset;
                *offset = start.saturating_add(bytes.len() as u64);
                Some(start)
            }
            Position::End => None,
        };
        async move {
            match offset {
                Some(offset) => file.writer().write(offset, &bytes).await,
                None => append(&file, &bytes).await,
            }
        }
    }

    async fn wait(&mut self) {
        if let Some(writing) = &mut self.writing {
            let outcome = writing.as_mut().await;
            self.writing = None;
            self.failed = outcome.err();
        }
    }

    fn failure(&mut self) -> StreamResult<()> {
        self.failed.take().map_or(Ok(()), |error| Err(stream_error(error)))
    }
}

/// Writes at the end of the file, wherever that is by then.
async fn append(file: &Shared, bytes: &[u8]) -> mount::Result<()> {
    match file.appender().await {
        Some(appender) => appender.append(bytes).await,
        None => {
            // The file has lost its name, so nobody else can open it to append: its size is its end.
            file.settle().await?;
            let size = file.handle().stat().await?.size;
            file.writer().write(size, bytes).await
        }
    }
}

#[async_trait]
impl Pollable for FileOutput {
    async fn ready(&mut self) {
        self.wait().await;
    }
}

#[async_trait]
impl OutputStream for FileOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.failure()?;
        if self.writing.is_some() {
            return Err(StreamError::trap("write without a permit"));
        }
        let mut writing: Work<_> = Box::pin(self.begin(bytes));
        match poll_once(&mut writing) {
            Poll::Ready(outcome) => outcome.map_err(stream_error),
            Poll::Pending => {
                self.writing = Some(writing);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        // What was accepted is in the file for all that this program can tell; `sync` is what makes it durable.
        self.failure()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.failure()?;
        Ok(if self.writing.is_some() { 0 } else { PERMIT })
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.wait().await;
        self.failure()?;
        self.begin(bytes).await.map_err(stream_error)
    }

    async fn cancel(&mut self) {
        // The stream is dropped: what it accepted must be on its way.
        self.wait().await;
        if let Some(error) = self.failed.take() {
            self.file.mount().report_lost(error);
        }
    }
}

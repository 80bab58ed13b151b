//! File contents as `wasi:io` streams.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::descriptor::Shared;
use crate::mount;

/// What is read ahead of a program that only asks whether it could read.
const READY: usize = 64 << 10;
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

async fn fetch(file: Shared, offset: u64, size: usize) -> mount::Result<Bytes> {
    file.settle().await?;
    let buffer = file.mount().buffer(size).await?;
    Ok(file.handle().read_at(offset, buffer).await?.into_bytes())
}

/// A file read from a position on.
pub(super) struct FileInput {
    file: Shared,
    offset: u64,
    /// Read, and not taken yet.
    ready: Option<mount::Result<Bytes>>,
    fetching: Option<Work<mount::Result<Bytes>>>,
}

impl FileInput {
    pub(super) fn new(file: Shared, offset: u64) -> Self {
        Self { file, offset, ready: None, fetching: None }
    }

    /// Takes at most `size` bytes of what was read.
    fn take(&mut self, read: mount::Result<Bytes>, size: usize) -> StreamResult<Bytes> {
        let mut bytes = read.map_err(stream_error)?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        if bytes.len() > size {
            self.ready = Some(Ok(bytes.split_off(size)));
        }
        self.offset += bytes.len() as u64;
        // Once, from the region into the program's memory.
        self.file.mount().count_copied(bytes.len());
        Ok(bytes)
    }

    fn begin(&self, size: usize) -> Work<mount::Result<Bytes>> {
        Box::pin(fetch(self.file.clone(), self.offset, size))
    }
}

#[async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {
        if self.ready.is_none() {
            let mut fetching = self.fetching.take().unwrap_or_else(|| self.begin(READY));
            self.ready = Some(fetching.as_mut().await);
        }
    }
}

#[async_trait]
impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        if let Some(read) = self.ready.take() {
            return self.take(read, size);
        }
        let mut fetching = self.fetching.take().unwrap_or_else(|| self.begin(size));
        match poll_once(&mut fetching) {
            Poll::Ready(read) => self.take(read, size),
            Poll::Pending => {
                self.fetching = Some(fetching);
                Ok(Bytes::new())
            }
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let read = match (self.ready.take(), self.fetching.take()) {
            (Some(read), _) => read,
            (None, Some(fetching)) => fetching.await,
            (None, None) => fetch(self.file.clone(), self.offset, size).await,
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

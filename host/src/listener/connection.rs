//! One connection: from the bytes of a socket to requests, and on to their replies.
//!
//! A task reads. Requests that cannot wait are answered on it, all that have arrived one after the other, and their
//! replies go out together. Each other one is answered by a blocking thread, which writes its reply itself; so replies
//! overtake each other.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BytesMut};
use ninering_wire::{Errno, Frame, HEADER_LEN, Rmessage, TWRITE_LEN, Tmessage};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::watch,
    task::spawn_blocking,
    time::timeout,
};
use tracing::Instrument;

use super::{
    Stream,
    budget::{Budget, Charge},
    buffers::{Buffer, Buffers, length_for},
    in_flight::{InFlight, TagInUse},
    outgoing::{Outgoing, Replies},
};
use crate::{
    payload::Payload,
    server::{Server, Session},
};

/// How many bytes are read ahead, and how large a buffer for several small replies is.
const READ_AHEAD: usize = 64 << 10;
/// A request of at least so many bytes is given to a blocking thread in the memory that it was read into; of a smaller
/// one, a copy keeps less memory in use.
const WORTH_KEEPING: usize = 16 << 10;
/// How many requests blocking threads may be busy with at a time.
const MOST_IN_FLIGHT: usize = 64;
/// How many bytes requests and replies may take at a time; or four times `msize`, if that is more.
const LEAST_BUDGET: usize = 4 << 20;
/// How long a peer that sends no more requests may take for its last replies.
const LAST_REPLIES: Duration = Duration::from_secs(10);

/// Type numbers of the messages that are treated here in a way of their own.
mod kind {
    pub(super) const TSTATFS: u8 = 8;
    pub(super) const TLOPEN: u8 = 12;
    pub(super) const TREADLINK: u8 = 22;
    pub(super) const TGETATTR: u8 = 24;
    pub(super) const TVERSION: u8 = 100;
    pub(super) const TAUTH: u8 = 102;
    pub(super) const TFLUSH: u8 = 108;
    pub(super) const TWALK: u8 = 110;
    pub(super) const TWRITE: u8 = 118;
    pub(super) const TCLUNK: u8 = 120;
}

/// Is a request of this kind answered from what is in memory, or from metadata that mostly is?
fn hardly_waits(kind: u8) -> bool {
    matches!(
        kind,
        kind::TVERSION
            | kind::TAUTH
            | kind::TFLUSH
            | kind::TWALK
            | kind::TCLUNK
            | kind::TGETATTR
            | kind::TSTATFS
            | kind::TREADLINK
            | kind::TLOPEN
    )
}

/// Why a connection is closed from this side.
#[derive(Debug, thiserror::Error)]
enum Violation {
    #[error("a message of {size} bytes, where {limit} is the limit and {HEADER_LEN} the least")]
    Size { size: u32, limit: u32 },
    #[error("two requests at a time with the tag {0}")]
    Tag(u16),
}

/// Serves one connection until it ends; `stopping` ends it when its sender is dropped.
pub(super) fn serve(
    stream: Stream,
    peer: String,
    server: &Arc<Server>,
    buffers: &Arc<Buffers>,
    stopping: watch::Receiver<()>,
) -> impl Future<Output = ()> + Send + use<> {
    let connection = |socket| {
        Arc::new(Connection {
            session: server.session().watched(&peer),
            outgoing: Outgoing::new(socket),
            in_flight: InFlight::default(),
            budget: Arc::default(),
            buffers: Arc::clone(buffers),
            peer,
        })
    };
    let (input, connection): (Box<dyn AsyncRead + Send + Unpin>, _) = match stream {
        Stream::Tcp(input, socket) => (Box::new(input), connection(socket)),
        Stream::Unix(input, socket) => (Box::new(input), connection(socket)),
    };
    let span = connection.session.span();
    let serving = async move {
        tracing::debug!(peer = connection.peer, "connected");
        let writing = Arc::clone(&connection);
        let writing = async move { writing.outgoing.write_when_possible().await };
        let writing = AbortOnDrop(tokio::spawn(writing.in_current_span()));
        match connection.read(input, stopping).await {
            Ok(()) => connection.finish().await,
            Err(violation) => tracing::warn!(peer = connection.peer, "closed: the peer sent {violation}"),
        }
        connection.outgoing.close();
        drop(writing);
        tracing::debug!(peer = connection.peer, counters = ?connection.session.counters(), "disconnected");
    };
    serving.instrument(span)
}

/// A task that ends with the one that started it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Connection {
    session: Session,
    outgoing: Outgoing,
    in_flight: InFlight,
    budget: Arc<Budget>,
    buffers: Arc<Buffers>,
    peer: String,
}

impl Connection {
    /// Reads requests and sees to their replies, until the peer ends, or the server.
    async fn read(
        self: &Arc<Self>,
        mut socket: Box<dyn AsyncRead + Send + Unpin>,
        mut stopping: watch::Receiver<()>,
    ) -> Result<(), Violation> {
        let mut input = BytesMut::with_capacity(READ_AHEAD);
        let mut batch = None;
        loop {
            let missing = loop {
                match self.next_message(&input)? {
                    Next::Whole(size) => self.take_request(&mut input, size, &mut batch).await?,
                    Next::Missing(count) => break count,
                }
            };
            self.send(&mut batch);
            if input.is_empty() && input.capacity() > 4 * READ_AHEAD {
                // The last message was a large one; the next may be long in coming.
                input = BytesMut::new();
            }
            // A message that is not all there yet gets all its space at once: it is read in place.
            let space = input.capacity() - input.len();
            if space < missing || input.len() < READ_AHEAD && space < READ_AHEAD / 4 {
                input.reserve(missing.max(READ_AHEAD));
            }
            tokio::select! {
                _ = stopping.changed() => return Ok(()),
                read = socket.read_buf(&mut input) => match read {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(peer = self.peer, %error, "cannot read");
                        self.outgoing.close();
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Is there a whole message at the front of `input`?
    fn next_message(&self, input: &[u8]) -> Result<Next, Violation> {
        let Some(size) = input.first_chunk().map(|&size| u32::from_le_bytes(size)) else {
            return Ok(Next::Missing(HEADER_LEN - input.len()));
        };
        let limit = self.session.message_limit();
        if (size as usize) < HEADER_LEN || size > limit {
            return Err(Violation::Size { size, limit });
        }
        let size = size as usize;
        Ok(if input.len() < size { Next::Missing(size - input.len()) } else { Next::Whole(size) })
    }

    /// Sees to the request in the first `size` bytes of `input`, and takes it off there.
    async fn take_request(
        self: &Arc<Self>,
        input: &mut BytesMut,
        size: usize,
        batch: &mut Option<Replies>,
    ) -> Result<(), Violation> {
        let message = &input[..size];
        let (kind, tag) = (message[4], u16::from_le_bytes([message[5], message[6]]));
        let message_len = if kind == kind::TWRITE { TWRITE_LEN.min(size) } else { size };
        let capacity = self.session.reply_capacity(&message[..message_len]);

        if !self.session.never_waits() {
            let in_use = |TagInUse| Violation::Tag(tag);
            if let Ok(Frame { message: Tmessage::Tflush { oldtag }, .. }) = Frame::decode(message) {
                if self.in_flight.flush(tag, oldtag).map_err(in_use)? {
                    input.advance(size);
                    return Ok(());
                }
            } else if kind == kind::TVERSION {
                self.send(batch);
                self.in_flight.below(1).await;
            } else if hardly_waits(kind) {
                self.in_flight.check(tag).map_err(in_use)?;
            } else {
                self.in_flight.check(tag).map_err(in_use)?;
                if !self.in_flight.is_below(MOST_IN_FLIGHT) {
                    self.send(batch);
                    self.in_flight.below(MOST_IN_FLIGHT).await;
                }
                let charge = self.charge(size + length_for(capacity), batch).await;
                let request = if size < WORTH_KEEPING {
                    let request = BytesMut::from(&input[..size]);
                    input.advance(size);
                    request
                } else {
                    input.split_to(size)
                };
                self.in_flight.begin(tag).map_err(in_use)?;
                let connection = Arc::clone(self);
                drop(spawn_blocking(move || connection.answer(request, message_len, tag, capacity, charge)));
                return Ok(());
            }
        }

        let buffer = self.space(batch, capacity).await;
        let (message, payload) = input[..size].split_at_mut(message_len);
        let length = {
            let space = &mut buffer.space()[..capacity];
            self.session.handle(message, &Payload::from(payload), &Payload::from(space))
        };
        buffer.fill(length);
        input.advance(size);
        Ok(())
    }

    /// Answers a request on this thread, which may wait.
    fn answer(&self, mut request: BytesMut, message_len: usize, tag: u16, capacity: usize, charge: Charge) {
        let mut buffer = self.buffers.take(capacity);
        let (message, payload) = request.split_at_mut(message_len);
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let space = &mut buffer.space()[..capacity];
            self.session.handle(message, &Payload::from(payload), &Payload::from(space))
        }));
        let length = answered.unwrap_or_else(|_| {
            let error = Rmessage::Rlerror { ecode: Errno::EIO.0 };
            error.encode(tag, buffer.space()).unwrap_or(0)
        });
        buffer.fill(length);
        drop(request);
        self.in_flight.end(tag, |flushes| {
            self.outgoing.enqueue(Replies { buffer, charge: Some(charge) });
            if !flushes.is_empty() {
                self.outgoing.enqueue(Replies { buffer: self.flushed(flushes), charge: None });
            }
        });
        self.outgoing.flush();
    }

    /// An `Rflush` for each of the tags.
    fn flushed(&self, tags: &[u16]) -> Buffer {
        let mut buffer = self.buffers.take(HEADER_LEN * tags.len());
        for &tag in tags {
            let length = (Rmessage::Rflush {}).encode(tag, buffer.space()).unwrap_or(0);
            buffer.fill(length);
        }
        buffer
    }

    /// A buffer with space for so many bytes more: that of the batch, as long as it has it.
    async fn space<'b>(&self, batch: &'b mut Option<Replies>, capacity: usize) -> &'b mut Buffer {
        if batch.as_mut().is_none_or(|replies| replies.buffer.space().len() < capacity) {
            if let Some(full) = batch.take() {
                let large = full.buffer.filled().len() >= READ_AHEAD / 2;
                self.outgoing.enqueue(full);
                if large {
                    self.outgoing.flush();
                }
            }
            let buffer = self.buffers.take(capacity.max(READ_AHEAD));
            let charge = self.charge(buffer.len(), batch).await;
            *batch = Some(Replies { buffer, charge: Some(charge) });
        }
        &mut batch.get_or_insert_with(|| Replies { buffer: self.buffers.take(capacity), charge: None }).buffer
    }

    /// So many bytes of the budget. While there are too few, the replies that are ready go out.
    async fn charge(&self, bytes: usize, batch: &mut Option<Replies>) -> Charge {
        let limit = LEAST_BUDGET.max(4 * self.session.message_limit() as usize);
        match self.budget.try_take(bytes, limit) {
            Some(charge) => charge,
            None => {
                self.send(batch);
                self.outgoing.flush();
                self.budget.take(bytes, limit).await
            }
        }
    }

    /// Sends the replies that are ready.
    fn send(&self, batch: &mut Option<Replies>) {
        if let Some(replies) = batch.take() {
            self.outgoing.enqueue(replies);
            self.outgoing.flush();
        }
    }

    /// Sees the last replies off.
    async fn finish(&self) {
        let last_replies = async {
            self.in_flight.below(1).await;
            self.outgoing.drained().await;
        };
        if timeout(LAST_REPLIES, last_replies).await.is_err() {
            tracing::warn!(peer = self.peer, "closed with replies left: they took too long, or the peer to take them");
        }
    }
}

/// What there is of the next message.
enum Next {
    /// All of it, so many bytes.
    Whole(usize),
    /// At least so many bytes are missing.
    Missing(usize),
}

//! One connection: from the bytes of a socket to requests, and on to their replies.
//!
//! A task reads, a socket's on a thread that it has to itself. Requests that need not wait are answered on it, all that
//! have arrived one after the other, and their replies go out together. Each other one is answered by a blocking thread,
//! which writes its reply itself; so replies overtake each other. Whether it has to wait is found out by trying
//! ([`Session::handle_now`]).

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::{Buf, BytesMut};
use ninering_wire::{Errno, Frame, HEADER_LEN, Rmessage, TWRITE_LEN, Tmessage};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::Instrument;

use super::{
    Resources,
    budget::{Budget, Charge},
    buffers::{Buffer, length_for},
    in_flight::{InFlight, TagInUse},
    locking,
    outgoing::{Outgoing, Replies},
    stream::{self, Ends, Input},
    watchdog::Overdue,
};
use crate::{
    payload::Payload,
    server::{Limit, Observers, Peer, Server, Session},
};

/// How many bytes are read ahead, and how large a buffer for several small replies is.
const READ_AHEAD: usize = 64 << 10;
/// Replies of so many bytes are sent, even if more requests are there to be answered.
const WORTH_SENDING: usize = 192 << 10;
/// A request of at least so many bytes is given to a blocking thread in the memory that it was read into; of a smaller
/// one, a copy keeps less memory in use.
const WORTH_KEEPING: usize = 16 << 10;
/// How many bytes requests and replies may take at a time, unless the limits say; or four times `msize`, if that is more.
const LEAST_BUDGET: usize = 4 << 20;

/// Type numbers of the messages that are treated here in a way of their own.
mod kind {
    pub(super) const TLOCK: u8 = 52;
    pub(super) const TVERSION: u8 = 100;
    pub(super) const TFLUSH: u8 = 108;
    pub(super) const TWRITE: u8 = 118;
}

/// Why a connection is closed from this side.
#[derive(Debug, thiserror::Error)]
enum Violation {
    #[error("a message of {size} bytes, where {limit} is the limit and {HEADER_LEN} the least")]
    Size { size: u32, limit: u32 },
    #[error("two requests at a time with the tag {0}")]
    Tag(u16),
}

/// A task that ends with the one that started it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection. It is shared by the task that reads, the one that writes, and the threads that answer.
pub(super) struct Connection {
    pub(super) session: Session,
    outgoing: Outgoing,
    in_flight: InFlight,
    budget: Arc<Budget>,
    pub(super) resources: Arc<Resources>,
    observers: Observers,
    peer: Peer,
    /// When bytes of a request came last, in milliseconds of the resources' clock.
    last_request: AtomicU64,
    /// When a message began to come that is not all there yet, 0 for none; and its size as far as it is known.
    message_begun: AtomicU64,
    message_size: AtomicUsize,
}

impl Connection {
    /// A connection, and where its requests come from.
    pub(super) fn begin(
        ends: Ends,
        peer: Peer,
        server: &Arc<Server>,
        resources: &Arc<Resources>,
    ) -> io::Result<(Arc<Self>, Input)> {
        let (input, output) = stream::open(ends)?;
        let connection = Self {
            session: server.session_with(peer.clone()).watched(&peer.to_string()),
            outgoing: Outgoing::new(output, Arc::clone(resources)),
            in_flight: InFlight::default(),
            budget: Budget::new(Arc::clone(resources)),
            peer,
            last_request: AtomicU64::new(resources.now()),
            message_begun: AtomicU64::new(0),
            message_size: AtomicUsize::new(0),
            resources: Arc::clone(resources),
            observers: server.options().observers.clone(),
        };
        Ok((Arc::new(connection), input))
    }

    /// Serves it until it ends; `stopping` ends it when its sender is dropped.
    pub(super) async fn serve(self: Arc<Self>, input: Input, stopping: watch::Receiver<()>) {
        let span = self.session.span();
        let serving = async move {
            tracing::debug!(peer = %self.peer, "connected");
            let writing = Arc::clone(&self);
            let mut stop = stopping.clone();
            let writing = async move {
                let stopped = async {
                    let _ = stop.changed().await;
                    writing.outgoing.stop_reading();
                };
                tokio::join!(writing.outgoing.write_when_possible(), stopped);
            };
            let writing = AbortOnDrop(tokio::spawn(writing.in_current_span()));
            let mut stopped = stopping.clone();
            let drain = self.resources.limits().drain;
            tokio::select! {
                read = self.read(input, stopping) => match read {
                    Ok(()) => self.finish().await,
                    Err(violation) => {
                        tracing::warn!(peer = %self.peer, "closed: the peer sent {violation}");
                        self.tell_refused(Limit::Protocol);
                    }
                },
                // While it waits for the peer to take replies, nothing is read that could tell.
                () = async { let _ = stopped.changed().await; sleep(drain).await } => {
                    tracing::warn!(peer = %self.peer, "closed with requests left: the peer did not take its replies");
                }
            }
            self.in_flight.cancel_all();
            self.outgoing.close();
            drop(writing);
            tracing::debug!(peer = %self.peer, counters = ?self.session.counters(), "disconnected");
        };
        serving.instrument(span).await;
    }

    /// Closes it in both directions.
    pub(super) fn close(&self) {
        self.outgoing.close();
    }

    /// Ends it, since the peer takes too long.
    pub(super) fn end(&self, overdue: Overdue) {
        tracing::info!(peer = %self.peer, "closed: {overdue}");
        self.tell_refused(overdue.limit());
        self.outgoing.close();
    }

    fn tell_refused(&self, limit: Limit) {
        self.observers.tell(|observer| observer.refused(limit));
    }

    /// Has the client any fid?
    pub(super) fn has_fid(&self) -> bool {
        self.session.fid_count() > 0
    }

    /// Are there requests that are not answered, or replies that are not sent?
    pub(super) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty() || !self.outgoing.is_empty()
    }

    /// When bytes of a request came last.
    pub(super) fn last_request(&self) -> u64 {
        self.last_request.load(Relaxed)
    }

    /// When a message began to come that is awaited still, and its size in bytes as far as that is known.
    pub(super) fn begun_message(&self) -> Option<(u64, usize)> {
        let since = self.message_begun.load(Relaxed);
        (since > 0).then(|| (since, self.message_size.load(Relaxed)))
    }

    /// Since when the peer has been awaited to take the next replies, and how many bytes they are.
    pub(super) fn waiting_reply(&self) -> Option<(u64, usize)> {
        self.outgoing.waiting()
    }

    /// Reads requests and sees to their replies, until the peer ends, or the server.
    async fn read(self: &Arc<Self>, socket: Input, mut stopping: watch::Receiver<()>) -> Result<(), Violation> {
        let mut input = BytesMut::with_capacity(READ_AHEAD);
        let mut batch = None;
        // The memory for a large message that is on its way, and for its reply.
        let mut reserved = None;
        let mut begun = None;
        loop {
            let missing = loop {
                match self.next_message(&input)? {
                    Next::Whole(size) => {
                        begun = None;
                        self.take_request(&mut input, size, &mut batch, reserved.take()).await?;
                    }
                    Next::Missing(count) => break count,
                }
            };
            self.send(&mut batch);
            if input.is_empty() && input.capacity() > 4 * READ_AHEAD {
                // The last message was a large one; the next may be long in coming.
                input = BytesMut::new();
            }
            if missing > READ_AHEAD && input.len() >= TWRITE_LEN && reserved.is_none() {
                let capacity = self.session.reply_capacity(&input[..TWRITE_LEN]);
                let bytes = input.len() + missing + length_for(capacity);
                reserved = Some(self.charge(bytes, &mut batch).await);
                // While the server had no memory for it, the peer was not awaited.
                begun = None;
            }
            // A message that is not all there yet gets its space at once, if it is charged for: it is read in place.
            let missing = if reserved.is_some() { missing } else { missing.min(READ_AHEAD) };
            let space = input.capacity() - input.len();
            if space < missing || input.len() < READ_AHEAD && space < READ_AHEAD / 4 {
                input.reserve(missing.max(READ_AHEAD));
            }
            self.await_message(&input, &mut begun);
            let read = if socket.blocks() {
                // Where the server ends, `Outgoing::stop_reading` ends this.
                socket.read(&mut input).await
            } else {
                tokio::select! {
                    _ = stopping.changed() => return Ok(()),
                    read = socket.read(&mut input) => read,
                }
            };
            if stopping.has_changed().is_err() {
                return Ok(());
            }
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => self.message_begun.store(0, Relaxed),
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "cannot read");
                    self.outgoing.close();
                    return Ok(());
                }
            }
            self.last_request.store(self.resources.now(), Relaxed);
        }
    }

    /// Notes, before more is read, since when a message is on its way of which `input` is the beginning.
    fn await_message(&self, input: &[u8], begun: &mut Option<u64>) {
        if input.is_empty() {
            return;
        }
        let size = input.first_chunk().map_or(0, |&size| u32::from_le_bytes(size) as usize);
        self.message_size.store(size, Relaxed);
        // 0 says that there is none.
        let since = *begun.get_or_insert_with(|| self.resources.now().max(1));
        self.message_begun.store(since, Relaxed);
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
        reserved: Option<Charge>,
    ) -> Result<(), Violation> {
        let message = &input[..size];
        let (kind, tag) = (message[4], u16::from_le_bytes([message[5], message[6]]));
        let message_len = if kind == kind::TWRITE { TWRITE_LEN.min(size) } else { size };
        let capacity = self.session.reply_capacity(&message[..message_len]);

        // Where nothing waits for anything else, a lock may.
        if !self.session.never_waits() || !self.in_flight.is_empty() {
            let in_use = |TagInUse| Violation::Tag(tag);
            if kind == kind::TFLUSH
                && let Ok(Frame { message: Tmessage::Tflush { oldtag }, .. }) = Frame::decode(message)
            {
                if self.in_flight.flush(tag, oldtag).map_err(in_use)? {
                    input.advance(size);
                    return Ok(());
                }
            } else if kind == kind::TVERSION {
                self.send(batch);
                self.in_flight.emptied().await;
            } else {
                self.in_flight.check(tag).map_err(in_use)?;
            }
        }

        let was_reserved = reserved.is_some();
        if let Some(charge) = reserved {
            self.send(batch);
            *batch = Some(Replies { buffer: self.resources.buffers.take(capacity), charge: Some(charge) });
        }
        let buffer = self.space(batch, capacity).await;
        if self.handle(&mut input[..size], message_len, tag, capacity, buffer, Patience::Now) {
            input.advance(size);
            if kind == kind::TVERSION {
                // No reply of the session that begins now is to overtake this one.
                self.send(batch);
            }
            return Ok(());
        }

        if kind == kind::TLOCK
            && let Some(waiting) = self.session.waiting_lock(&input[..size])
        {
            let cancelled = self.in_flight.begin_cancellable(tag).map_err(|TagInUse| Violation::Tag(tag))?;
            let message = input[..size].to_vec();
            input.advance(size);
            let lock = locking::Locking { connection: Arc::clone(self), waiting, message, tag, capacity };
            tokio::spawn(lock.wait(cancelled).in_current_span());
            return Ok(());
        }

        // It has to wait for something.
        let unused = batch.take_if(|replies| replies.buffer.filled().is_empty()).and_then(|replies| replies.charge);
        let most = self.resources.limits().requests_per_connection;
        if !self.in_flight.is_below(most) {
            self.send(batch);
            self.in_flight.below(most).await;
        }
        let charge = match unused.filter(|_| was_reserved) {
            Some(charge) => charge,
            None => self.charge(size + length_for(capacity), batch).await,
        };
        let slot = match self.resources.try_request() {
            Some(slot) => slot,
            None => {
                self.send(batch);
                self.resources.request().await
            }
        };
        let request = if size < WORTH_KEEPING {
            let request = BytesMut::from(&input[..size]);
            input.advance(size);
            request
        } else {
            input.split_to(size)
        };
        self.in_flight.begin(tag).map_err(|TagInUse| Violation::Tag(tag))?;
        let connection = Arc::clone(self);
        drop(spawn_blocking(move || {
            connection.answer(request, message_len, tag, capacity, charge);
            drop(slot);
        }));
        Ok(())
    }

    /// Answers a request, into the next `capacity` bytes of `buffer`; `false` where it is put off. A panic of the engine or
    /// of a backend costs this request and no more: it is answered `EIO`.
    fn handle(
        &self,
        request: &mut [u8],
        message_len: usize,
        tag: u16,
        capacity: usize,
        buffer: &mut Buffer,
        patience: Patience,
    ) -> bool {
        let (message, payload) = request.split_at_mut(message_len);
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let space = &mut buffer.space()[..capacity];
            let (payload, space) = (Payload::from(payload), Payload::from(space));
            match patience {
                Patience::Now if self.session.never_waits() && message.get(4) != Some(&kind::TLOCK) => {
                    Some(self.session.handle(message, &payload, &space))
                }
                Patience::Now => self.session.handle_now(message, &payload, &space),
                Patience::WasPutOff => Some(self.session.handle_later(message, &payload, &space)),
            }
        }));
        let answered = answered.unwrap_or_else(|_| {
            tracing::error!(peer = %self.peer, tag, kind = message[4], "a request panicked, and is answered EIO");
            Some(self.session.answer_error(tag, Errno::EIO, &Payload::from(&mut buffer.space()[..capacity])))
        });
        if let Some(length) = answered {
            buffer.fill(length);
        }
        answered.is_some()
    }

    /// Answers a request on this thread, which may wait.
    fn answer(&self, mut request: BytesMut, message_len: usize, tag: u16, capacity: usize, charge: Charge) {
        let mut buffer = self.resources.buffers.take(capacity);
        self.handle(&mut request, message_len, tag, capacity, &mut buffer, Patience::WasPutOff);
        drop(request);
        self.end_request(tag, |_| Some(Replies { buffer, charge: Some(charge) }));
    }

    /// Ends a request by the reply to it, if there is one, and those to the `Tflush`es that wait for it, whose tags
    /// `reply` is told.
    pub(super) fn end_request(&self, tag: u16, reply: impl FnOnce(&[u16]) -> Option<Replies>) {
        self.in_flight.end(tag, |flushes| {
            if let Some(replies) = reply(flushes) {
                self.outgoing.enqueue(replies);
            }
            if !flushes.is_empty() {
                self.outgoing.enqueue(Replies { buffer: self.flushed(flushes), charge: None });
            }
        });
        self.outgoing.flush();
    }

    /// An `Rflush` for each of the tags.
    fn flushed(&self, tags: &[u16]) -> Buffer {
        let mut buffer = self.resources.buffers.take(HEADER_LEN * tags.len());
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
                self.outgoing.enqueue(full);
                if self.outgoing.bytes() >= WORTH_SENDING {
                    self.outgoing.flush_here();
                }
            }
            let buffer = self.resources.buffers.take(capacity.max(READ_AHEAD));
            let charge = self.charge(buffer.len(), batch).await;
            *batch = Some(Replies { buffer, charge: Some(charge) });
        }
        &mut batch.get_or_insert_with(|| Replies { buffer: self.resources.buffers.take(capacity), charge: None }).buffer
    }

    /// So many bytes of the budget. While there are too few, the replies that are ready go out.
    async fn charge(&self, bytes: usize, batch: &mut Option<Replies>) -> Charge {
        let limit = self.resources.limits().memory_per_connection;
        let limit = limit.unwrap_or_else(|| LEAST_BUDGET.max(4 * self.session.message_limit() as usize));
        match self.budget.try_take(bytes, limit) {
            Some(charge) => charge,
            None => {
                self.send(batch);
                self.budget.take(bytes, limit).await
            }
        }
    }

    /// Sends the replies that are ready.
    fn send(&self, batch: &mut Option<Replies>) {
        if let Some(replies) = batch.take() {
            self.outgoing.enqueue(replies);
        }
        self.outgoing.flush_here();
    }

    /// Sees the last replies off.
    async fn finish(&self) {
        let last_replies = async {
            self.in_flight.emptied().await;
            self.outgoing.drained().await;
        };
        if timeout(self.resources.limits().drain, last_replies).await.is_err() {
            tracing::warn!(peer = %self.peer, "closed with replies left: they took too long, or the peer to take them");
        }
    }
}

/// Whether a request may wait.
#[derive(Clone, Copy)]
enum Patience {
    /// It may not: it is put off if it would have to.
    Now,
    /// It was put off, and may now.
    WasPutOff,
}

/// What there is of the next message.
enum Next {
    /// All of it, so many bytes.
    Whole(usize),
    /// At least so many bytes are missing.
    Missing(usize),
}

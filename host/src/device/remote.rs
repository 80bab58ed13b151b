//! A connection to a 9P server elsewhere as a device.
//!
//! Requests go from the ring's descriptors to the socket, and replies from the socket to the descriptors, each in one
//! system call and with no copy in between but for what of a reply comes along with its header.
//!
//! [`Device::kick`] sends what the socket takes at once on the caller's thread. The rest is for two tasks: one writes,
//! one reads and calls the interrupt when it has returned chains. Nothing is waited for but the socket.
//!
//! Neither side is trusted. A request whose header lies is returned with nothing written. A server that answers what
//! it was not asked, or with more than there is space for, breaks the device; so does the end of the connection.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    io,
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use ninering_wire::{HEADER_LEN, Header, RREAD_LEN};
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
    sync::Notify,
    task::AbortHandle,
};
use vm_memory::VolatileSlice;

use super::{Chain, Device, DeviceQueue};
use crate::{
    listener::Address,
    payload::Payload,
    region::{Extent, Region},
};

/// Bytes that are read ahead of a reply: small replies and the headers of large ones. What of a large reply's payload
/// is among them is copied; the rest goes to its place directly.
const READ_AHEAD: usize = 512;
/// The most messages in one system call.
const MOST_FRAMES: usize = 32;
/// The most bytes that `kick` sends on its caller's thread; the rest is left to the task.
const MOST_AT_ONCE: usize = 64 << 10;
/// After so many replies the interrupt is called, even if more are there to be read.
const MOST_REPLIES: usize = 16;
/// `Tversion`.
const TVERSION: u8 = 100;
/// `Rversion`.
const RVERSION: u8 = 101;

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// To an address in a network.
    Tcp(TcpStream),
    /// To a path on this machine.
    Unix(UnixStream),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The system says so.
    #[error("cannot connect to {address}: {source}")]
    Refused {
        /// Where to.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("cannot connect to {address}: no answer within {timeout:?}")]
    Timeout {
        /// Where to.
        address: String,
        /// How long was waited.
        timeout: Duration,
    },
}

/// Connects to a server.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(address: &Address, timeout: Duration) -> Result<Stream, ConnectError> {
    let connecting = async {
        Ok(match address {
            Address::Tcp(host_and_port) => {
                let stream = TcpStream::connect(host_and_port).await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        })
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected.map_err(|source| ConnectError::Refused { address: address.to_string(), source }),
        Err(_) => Err(ConnectError::Timeout { address: address.to_string(), timeout }),
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Stream {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    fn try_read(&self, into: &Payload<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || into.read_from_stream(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || into.read_from_stream(stream.as_fd())),
        }
    }

    fn try_write(&self, from: &Payload<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, || from.write_to_stream(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, || from.write_to_stream(stream.as_fd())),
        }
    }

    fn shut_down(&self) {
        let how = rustix::net::Shutdown::Both;
        // It fails where the connection is gone already.
        let _ = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, how),
            Self::Unix(stream) => rustix::net::shutdown(stream, how),
        };
    }
}

/// A device that is a connection to a 9P server.
///
/// When it is dropped, the connection is closed.
pub struct RemoteDevice {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

impl RemoteDevice {
    /// The device that sends what is in `queue` to `stream`. It calls `interrupt` when it has returned chains other
    /// than within [`Device::kick`] and [`Device::close`], from a task of the runtime, holding no lock.
    ///
    /// # Panics
    /// Outside of a tokio runtime: the connection lives in the one that this is called in.
    pub fn start(queue: DeviceQueue, stream: impl Into<Stream>, interrupt: Arc<dyn Fn() + Send + Sync>) -> Self {
        let shared = Arc::new(Shared {
            region: Arc::clone(queue.region()),
            stream: stream.into(),
            gate: RwLock::new(()),
            requests: Mutex::new(Requests { queue, outstanding: HashMap::new(), msize: u32::MAX, broken: None }),
            writer: Mutex::new(Writer::default()),
            kicked: Notify::new(),
            interrupt,
        });
        let writer = tokio::spawn(write_requests(Arc::clone(&shared)));
        let reader = tokio::spawn(read_replies(Arc::clone(&shared)));
        Self { shared, tasks: [writer.abort_handle(), reader.abort_handle()] }
    }

    /// Requests that were taken from the ring and not returned yet.
    pub fn outstanding(&self) -> usize {
        self.shared.requests.lock().outstanding.len()
    }
}

impl Device for RemoteDevice {
    fn kick(&mut self) {
        if self.shared.requests.lock().return_if_broken() {
            return;
        }
        // Where the task is at it, it is told to look again.
        if let Some(mut writer) = self.shared.writer.try_lock() {
            match self.shared.flush(&mut writer, MOST_AT_ONCE) {
                Ok(Flushed { after: AfterFlush::Idle | AfterFlush::Gone, .. }) => return,
                Ok(_) => {}
                // To fail is for the task, which may call the interrupt.
                Err(reason) => writer.failed = Some(reason),
            }
        }
        self.shared.kicked.notify_one();
    }

    fn broken(&self) -> Option<String> {
        self.shared.requests.lock().broken.clone()
    }

    fn close(&mut self) {
        self.shared.fail("the connection was closed".into());
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for RemoteDevice {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for RemoteDevice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RemoteDevice").field("stream", &self.shared.stream).finish_non_exhaustive()
    }
}

/// What the device and its tasks have in common. Locks are taken in the order `writer`, `gate`, `requests`.
struct Shared {
    region: Arc<Region>,
    stream: Stream,
    /// Held shared while bytes are moved between the region and the socket. Who ends the device holds it alone as
    /// it returns the chains, so that none is touched after it was returned.
    gate: RwLock<()>,
    requests: Mutex<Requests>,
    writer: Mutex<Writer>,
    kicked: Notify,
    interrupt: Arc<dyn Fn() + Send + Sync>,
}

/// The queue, and what was taken from it.
struct Requests {
    queue: DeviceQueue,
    /// By tag; never more than the queue's size.
    outstanding: HashMap<u16, Request>,
    /// The longest message, as negotiated.
    msize: u32,
    broken: Option<String>,
}

/// A request that is being sent or waits for its reply.
struct Request {
    chain: Chain,
    /// Is all of it in the socket? Before, its memory is needed.
    sent: bool,
    /// The length of the reply, where that was there before all was sent.
    answered: Option<u32>,
    /// The `msize` that a `Tversion` offers.
    offered: Option<u32>,
}

impl Requests {
    /// Takes the next request that can be sent; returns others at once, and counts them in `returned`.
    fn next(&mut self, region: &Region, returned: &mut usize) -> Option<Frame> {
        while let Some(chain) = self.queue.pop() {
            match self.accept(region, &chain) {
                Some((frame, offered)) => {
                    let request = Request { chain, sent: false, answered: None, offered };
                    self.outstanding.insert(frame.tag, request);
                    return Some(frame);
                }
                None => {
                    tracing::debug!(head = chain.head(), "a request that cannot be sent");
                    self.queue.complete(chain, 0);
                    *returned += 1;
                }
            }
        }
        None
    }

    /// Checks that a chain is a request. What was checked is sent from a copy.
    fn accept(&self, region: &Region, chain: &Chain) -> Option<(Frame, Option<u32>)> {
        let mut front = [0; RREAD_LEN];
        let front_len = region.payload(chain.readable()).ok()?.copy_to(&mut front);
        let header = Header::decode(&front[..front_len]).ok()?;
        let offered = (header.kind == TVERSION && front_len == RREAD_LEN).then(|| count(&front));
        let good = header.size == chain.readable_len()
            // Room for an Rlerror.
            && chain.writable_len() as usize >= RREAD_LEN
            && (header.size <= self.msize || offered.is_some())
            && !self.outstanding.contains_key(&header.tag);
        let frame = Frame {
            tag: header.tag,
            front,
            front_len,
            readable: SmallVec::from_slice(chain.readable()),
            len: header.size as usize,
        };
        good.then_some((frame, offered))
    }

    /// All of a request is in the socket. Tells whether it was returned by that.
    fn sent(&mut self, tag: u16) -> bool {
        match self.outstanding.get_mut(&tag) {
            Some(Request { answered: Some(written), .. }) => {
                let written = *written;
                self.complete(tag, written)
            }
            Some(request) => {
                request.sent = true;
                false
            }
            None => false,
        }
    }

    /// All of a reply is in its place. Tells whether the request was returned by that.
    fn answered(&mut self, tag: u16, written: u32) -> bool {
        match self.outstanding.get_mut(&tag) {
            Some(request) if !request.sent => {
                request.answered = Some(written);
                false
            }
            _ => self.complete(tag, written),
        }
    }

    fn complete(&mut self, tag: u16, written: u32) -> bool {
        let Entry::Occupied(request) = self.outstanding.entry(tag) else { return false };
        self.queue.complete(request.remove().chain, written);
        true
    }

    /// Where the device is broken, returns all there is with nothing written.
    fn return_if_broken(&mut self) -> bool {
        if self.broken.is_none() {
            return false;
        }
        for (_, request) in self.outstanding.drain() {
            self.queue.complete(request.chain, 0);
        }
        // A driver that goes on adding meanwhile kicks again.
        for _ in 0..self.queue.layout().size {
            let Some(chain) = self.queue.pop() else { break };
            self.queue.complete(chain, 0);
        }
        true
    }
}

/// The `count` of an `Rread`, or the `msize` of a version message.
fn count(front: &[u8; RREAD_LEN]) -> u32 {
    let [.., a, b, c, d] = *front;
    u32::from_le_bytes([a, b, c, d])
}

/// Requests on their way into the socket.
#[derive(Default)]
struct Writer {
    frames: VecDeque<Frame>,
    /// Bytes of the first that are in the socket already.
    begun: usize,
    /// What went wrong where it could not be dealt with.
    failed: Option<String>,
}

/// A request as it is sent.
struct Frame {
    tag: u16,
    /// The first bytes, as they were when they were checked.
    front: [u8; RREAD_LEN],
    front_len: usize,
    /// The chain's readable extents, the front's bytes included.
    readable: SmallVec<[Extent; 4]>,
    len: usize,
}

struct Flushed {
    /// Chains that were returned.
    returned: usize,
    after: AfterFlush,
}

enum AfterFlush {
    /// All is sent.
    Idle,
    /// The socket is full.
    Blocked,
    /// There is more to send, and it may be possible to.
    More,
    /// The device is broken.
    Gone,
}

/// Appends what of `slice` is behind the first `skip` bytes, which are counted down.
fn push_behind<'a>(payload: &mut Payload<'a>, slice: VolatileSlice<'a>, skip: &mut usize) {
    let here = slice.len().min(*skip);
    *skip -= here;
    if let Ok(slice) = slice.offset(here) {
        payload.push(slice);
    }
}

impl Shared {
    /// Sends requests until there are none, the socket is full, or `most` bytes are sent.
    fn flush(&self, writer: &mut Writer, most: usize) -> Result<Flushed, String> {
        if let Some(reason) = writer.failed.take() {
            return Err(reason);
        }
        let _gate = self.gate.read();
        let (mut returned, mut total) = (0, 0);
        let after = loop {
            {
                let mut requests = self.requests.lock();
                if requests.broken.is_some() {
                    break AfterFlush::Gone;
                }
                while writer.frames.len() < MOST_FRAMES
                    && let Some(frame) = requests.next(&self.region, &mut returned)
                {
                    writer.frames.push_back(frame);
                }
                if requests.queue.is_broken() {
                    return Err("the driver broke the queue".into());
                }
            }
            if writer.frames.is_empty() {
                break AfterFlush::Idle;
            }
            if total >= most {
                break AfterFlush::More;
            }
            let mut begun = writer.begun;
            let mut payload = Payload::empty();
            for Frame { front, front_len, readable, .. } in &mut writer.frames {
                push_behind(&mut payload, VolatileSlice::from(&mut front[..*front_len]), &mut begun);
                let mut in_front = *front_len;
                for extent in readable.iter() {
                    let slice = self.region.slice(*extent).map_err(|error| error.to_string())?;
                    let here = slice.len().min(in_front);
                    in_front -= here;
                    if let Ok(slice) = slice.offset(here) {
                        push_behind(&mut payload, slice, &mut begun);
                    }
                }
            }
            let sent = match self.stream.try_write(&payload) {
                Ok(0) => return Err("the server takes no requests any more".into()),
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break AfterFlush::Blocked,
                Err(error) => return Err(format!("cannot send to the server: {error}")),
            };
            drop(payload);
            total += sent;
            writer.begun += sent;
            let mut requests = self.requests.lock();
            while let Some(frame) = writer.frames.front()
                && writer.begun >= frame.len
            {
                writer.begun -= frame.len;
                returned += usize::from(requests.sent(frame.tag));
                writer.frames.pop_front();
            }
        };
        Ok(Flushed { returned, after })
    }

    /// Reads replies until the socket is empty, or some are there to be told of.
    fn receive(&self, reader: &mut Reader) -> Result<Received, String> {
        let _gate = self.gate.read();
        let mut returned = 0;
        if self.requests.lock().broken.is_some() {
            return Ok(Received { returned, after: AfterReceive::Gone });
        }
        loop {
            returned += reader.take_from_buffer(self)?;
            if returned >= MOST_REPLIES || (returned > 0 && reader.drained) {
                return Ok(Received { returned, after: AfterReceive::More });
            }
            match reader.read(self) {
                Ok(()) => {}
                Err(ReadError::Blocked) => return Ok(Received { returned, after: AfterReceive::Blocked }),
                // What was returned is told of by the interrupt that tells of the failure.
                Err(ReadError::Failed(reason)) => return Err(reason),
            }
        }
    }

    /// Breaks the device, unless it is broken: returns all chains. Tells whether it was this that broke it.
    fn fail(&self, reason: String) -> bool {
        let _gate = self.gate.write();
        let mut requests = self.requests.lock();
        if requests.broken.is_some() {
            return false;
        }
        tracing::debug!(%reason, "a remote device ends");
        requests.broken = Some(reason);
        requests.return_if_broken();
        drop(requests);
        // Wakes the tasks, which then end.
        self.stream.shut_down();
        self.kicked.notify_one();
        true
    }
}

/// Replies on their way out of the socket.
struct Reader {
    buffer: Box<[u8; READ_AHEAD]>,
    /// Bytes in the buffer.
    filled: usize,
    /// The reply whose header was read.
    reply: Option<Reply>,
    /// Did the last read leave nothing in the socket?
    drained: bool,
}

/// A reply of which some bytes are there.
struct Reply {
    tag: u16,
    size: usize,
    /// Bytes that are in their place.
    placed: usize,
    writable: SmallVec<[Extent; 4]>,
}

impl Reply {
    /// Where the bytes go that are not there yet.
    fn rest<'a>(&self, region: &'a Region) -> Result<Payload<'a>, String> {
        let space = region.payload(&self.writable).map_err(|error| error.to_string())?;
        Ok(space.part(self.placed, self.size - self.placed))
    }
}

struct Received {
    /// Chains that were returned.
    returned: usize,
    after: AfterReceive,
}

enum AfterReceive {
    /// The socket is empty.
    Blocked,
    /// There may be more to read.
    More,
    /// The device is broken.
    Gone,
}

enum ReadError {
    Blocked,
    Failed(String),
}

impl Reader {
    fn new() -> Self {
        Self { buffer: Box::new([0; READ_AHEAD]), filled: 0, reply: None, drained: false }
    }

    /// Puts what is in the buffer in its place, and returns the chains whose replies are whole. Tells how many.
    fn take_from_buffer(&mut self, shared: &Shared) -> Result<usize, String> {
        let (mut returned, mut taken) = (0, 0);
        let outcome = loop {
            let bytes = &self.buffer[taken..self.filled];
            let reply = match &mut self.reply {
                Some(reply) => reply,
                None => match Self::begin(bytes, &mut shared.requests.lock()) {
                    Ok(Some(reply)) => self.reply.insert(reply),
                    Ok(None) => break Ok(returned),
                    Err(reason) => break Err(reason),
                },
            };
            let here = bytes.len().min(reply.size - reply.placed);
            if here > 0 {
                reply.rest(&shared.region)?.copy_from(&bytes[..here]);
                reply.placed += here;
                taken += here;
            }
            if reply.placed < reply.size {
                break Ok(returned);
            }
            returned += usize::from(shared.requests.lock().answered(reply.tag, reply.size as u32));
            self.reply = None;
        };
        self.buffer.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        outcome
    }

    /// Checks the header at the front of `bytes`, if it is whole.
    fn begin(bytes: &[u8], requests: &mut Requests) -> Result<Option<Reply>, String> {
        if bytes.len() < HEADER_LEN {
            return Ok(None);
        }
        let Header { size, kind, tag } =
            Header::decode(bytes).map_err(|error| format!("the server sent no 9P reply: {error}"))?;
        let request = match requests.outstanding.get(&tag) {
            Some(request) if request.answered.is_none() => request,
            _ => return Err(format!("the server answered a request that was not made (tag {tag})")),
        };
        let space = request.chain.writable_len();
        let most = space.min(requests.msize);
        if size > most {
            return Err(format!("the server sent a reply of {size} bytes where at most {most} are allowed"));
        }
        if let Some(offered) = request.offered.filter(|_| kind == RVERSION && size as usize >= RREAD_LEN) {
            let Some(front) = bytes.first_chunk::<RREAD_LEN>() else { return Ok(None) };
            requests.msize = count(front).min(offered);
        }
        let writable = SmallVec::from_slice(requests.outstanding[&tag].chain.writable());
        Ok(Some(Reply { tag, size: size as usize, placed: 0, writable }))
    }

    /// Reads once: the rest of the reply at hand to its place, and what follows it to the buffer.
    fn read(&mut self, shared: &Shared) -> Result<(), ReadError> {
        let mut into = match &self.reply {
            Some(reply) => reply.rest(&shared.region).map_err(ReadError::Failed)?,
            None => Payload::empty(),
        };
        let missing = into.len();
        into.push(VolatileSlice::from(&mut self.buffer[self.filled..]));
        let asked = into.len();
        match shared.stream.try_read(&into) {
            Ok(0) if self.reply.is_some() || self.filled > 0 => {
                Err(ReadError::Failed("the server closed the connection within a reply".into()))
            }
            Ok(0) => Err(ReadError::Failed("the server closed the connection".into())),
            Ok(read) => {
                let placed = read.min(missing);
                if let Some(reply) = &mut self.reply {
                    reply.placed += placed;
                }
                self.filled += read - placed;
                self.drained = read < asked;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ReadError::Blocked),
            Err(error) => Err(ReadError::Failed(format!("cannot receive from the server: {error}"))),
        }
    }
}

/// Sends what [`Device::kick`] could not.
async fn write_requests(shared: Arc<Shared>) {
    loop {
        let flushed = shared.flush(&mut shared.writer.lock(), MOST_AT_ONCE);
        let after = match flushed {
            Ok(Flushed { returned, after }) => {
                if returned > 0 {
                    (shared.interrupt)();
                }
                after
            }
            Err(reason) => {
                if shared.fail(reason) {
                    (shared.interrupt)();
                }
                return;
            }
        };
        match after {
            AfterFlush::Idle => shared.kicked.notified().await,
            AfterFlush::More => tokio::task::yield_now().await,
            AfterFlush::Gone => return,
            AfterFlush::Blocked => {
                if let Err(error) = shared.stream.writable().await {
                    shared.writer.lock().failed = Some(format!("cannot send to the server: {error}"));
                }
            }
        }
    }
}

/// Receives replies.
async fn read_replies(shared: Arc<Shared>) {
    let mut reader = Reader::new();
    loop {
        let received = shared.receive(&mut reader);
        let failed = match received {
            Ok(Received { returned, after }) => {
                if returned > 0 {
                    (shared.interrupt)();
                }
                match after {
                    AfterReceive::Blocked => shared.stream.readable().await.err().map(|error| error.to_string()),
                    AfterReceive::More => {
                        tokio::task::yield_now().await;
                        None
                    }
                    AfterReceive::Gone => return,
                }
            }
            Err(reason) => Some(reason),
        };
        if let Some(reason) = failed {
            if shared.fail(reason) {
                (shared.interrupt)();
            }
            return;
        }
    }
}

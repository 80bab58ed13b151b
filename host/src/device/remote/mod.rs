//! A connection to a 9P server elsewhere as a device.
//!
//! Requests go from the ring's descriptors to the socket, and replies from the socket to the descriptors, each in one
//! system call and with no copy in between but for what of a reply comes along with its header.
//!
//! [`Device::kick`] sends what the socket takes at once on the caller's thread. The rest is for two tasks: one writes,
//! one reads and calls the interrupt when it has returned chains. Nothing is waited for but the socket. As long as the
//! first is at work, or waits for the socket, it needs no kicks: it looks at the ring itself. So does the second after
//! it has told of several replies: the requests that they lead to go out together.
//!
//! Neither side is trusted. A request whose header lies is returned with nothing written. A server that answers what
//! it was not asked, or with more than there is space for, breaks the device; so does the end of the connection.

mod receive;
mod send;
mod stream;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use ninering_wire::{HEADER_LEN, Header, RREAD_LEN};
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::{sync::Notify, task::AbortHandle};

pub use self::stream::{ConnectError, Stream, connect};
use self::{
    receive::read_replies,
    send::{AfterFlush, Flushed, Frame, Writer, write_requests},
};
use super::{Chain, Device, DeviceQueue, DeviceQueueStatistics};
use crate::{region::Region, virtqueue::Features};

/// The most bytes that `kick` sends on its caller's thread; the rest is left to the task.
const MOST_AT_ONCE: usize = 64 << 10;
/// `Tversion`.
const TVERSION: u8 = 100;
/// `Tflush`.
const TFLUSH: u8 = 108;
/// `Rflush`.
const RFLUSH: u8 = 109;

/// A device that is a connection to a 9P server.
///
/// When it is dropped, the connection is closed.
pub struct RemoteDevice {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

impl RemoteDevice {
    /// What it offers: all.
    pub const FEATURES: Features = Features::ALL;

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
            requests: Mutex::new(Requests {
                queue,
                outstanding: HashMap::new(),
                msize: u32::MAX,
                gathering: false,
                broken: None,
                is_lost: false,
            }),
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
        let mut requests = self.shared.requests.lock();
        if requests.return_if_broken() || requests.gathering {
            return;
        }
        drop(requests);
        self.shared.send_now();
    }

    fn interrupts(&self) -> bool {
        true
    }

    fn statistics(&self) -> DeviceQueueStatistics {
        self.shared.requests.lock().queue.statistics()
    }

    fn broken(&self) -> Option<String> {
        self.shared.requests.lock().broken.clone()
    }

    fn is_lost(&self) -> bool {
        self.shared.requests.lock().is_lost
    }

    fn close(&mut self) {
        self.shared.fail(Failure::from("the connection was closed".to_owned()));
        self.shared.detach();
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
    /// Who reads has told of several replies, and sends all at once that is asked for then. So no kick does anything.
    gathering: bool,
    broken: Option<String>,
    /// What broke it is the end of the connection.
    is_lost: bool,
}

/// Why a device ends.
struct Failure {
    reason: String,
    /// The connection has ended, and nothing was wrong before.
    is_lost: bool,
}

impl Failure {
    fn lost(reason: String) -> Self {
        Self { reason, is_lost: true }
    }
}

/// Something is wrong.
impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, is_lost: false }
    }
}

/// A request that is being sent or waits for its reply.
struct Request {
    chain: Chain,
    /// Is all of it in the socket? Before, its memory is needed.
    sent: bool,
    /// The length of the reply, where that was there before all was sent.
    answered: Option<u32>,
    /// What the request is about, where the device has a part in it.
    concern: Concern,
}

/// What concerns the device of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    Nothing,
    /// A `Tversion` offers this `msize`.
    Version {
        offered: u32,
    },
    /// A `Tflush` of the request with this tag.
    Flush {
        oldtag: u16,
    },
}

impl Requests {
    /// Takes the next request that can be sent; returns others at once, and counts them in `returned`.
    fn next(&mut self, region: &Region, returned: &mut usize) -> Option<Frame> {
        while let Some(chain) = self.queue.pop() {
            match self.accept(region, &chain) {
                Some((frame, concern)) => {
                    let request = Request { chain, sent: false, answered: None, concern };
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
    fn accept(&self, region: &Region, chain: &Chain) -> Option<(Frame, Concern)> {
        let mut front = [0; RREAD_LEN];
        let front_len = region.payload(chain.readable()).ok()?.copy_to(&mut front);
        let header = Header::decode(&front[..front_len]).ok()?;
        let concern = match header.kind {
            TVERSION if front_len == RREAD_LEN => Concern::Version { offered: count(&front) },
            TFLUSH if front_len >= HEADER_LEN + 2 => {
                Concern::Flush { oldtag: u16::from_le_bytes([front[HEADER_LEN], front[HEADER_LEN + 1]]) }
            }
            _ => Concern::Nothing,
        };
        let good = header.size == chain.readable_len()
            // Room for an Rlerror.
            && chain.writable_len() as usize >= RREAD_LEN
            && (header.size <= self.msize || matches!(concern, Concern::Version { .. }))
            && !self.outstanding.contains_key(&header.tag);
        let frame = Frame {
            tag: header.tag,
            front,
            front_len,
            readable: SmallVec::from_slice(chain.readable()),
            len: header.size as usize,
        };
        good.then_some((frame, concern))
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

    /// All of a reply of this type is in its place. Tells how many requests were returned by that: an `Rflush` returns the one
    /// that was flushed too, with nothing written, unless that was answered before. It goes first.
    fn replied(&mut self, tag: u16, kind: u8, written: u32) -> usize {
        let flushed = match self.outstanding.get(&tag) {
            Some(&Request { concern: Concern::Flush { oldtag }, .. }) if kind == RFLUSH && oldtag != tag => {
                usize::from(self.answered(oldtag, 0))
            }
            _ => 0,
        };
        flushed + usize::from(self.answered(tag, written))
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
        // A driver that goes on adding meanwhile, without end, is not waited for.
        for _ in 0..2 * self.queue.layout().size {
            match self.queue.pop() {
                Some(chain) => self.queue.complete(chain, 0),
                None if self.queue.want_kick() => break,
                None => {}
            }
        }
        true
    }
}

/// The `count` of an `Rread`, or the `msize` of a version message.
fn count(front: &[u8; RREAD_LEN]) -> u32 {
    let [.., a, b, c, d] = *front;
    u32::from_le_bytes([a, b, c, d])
}

impl Shared {
    /// Breaks the device, unless it is broken: returns all chains. Tells whether it was this that broke it.
    fn fail(&self, Failure { reason, is_lost }: Failure) -> bool {
        let _gate = self.gate.write();
        let mut requests = self.requests.lock();
        if requests.broken.is_some() {
            return false;
        }
        tracing::debug!(%reason, "a remote device ends");
        requests.broken = Some(reason);
        requests.is_lost = is_lost;
        requests.return_if_broken();
        drop(requests);
        // Wakes the tasks, which then end.
        self.stream.shut_down();
        self.kicked.notify_one();
        true
    }

    /// Sends what the socket takes at once; the rest is for the task. Tells how many chains were returned by it.
    fn send_now(&self) -> usize {
        let mut returned = 0;
        // Where the task is at it, it is told to look again.
        if let Some(mut writer) = self.writer.try_lock() {
            match self.flush(&mut writer, MOST_AT_ONCE) {
                Ok(Flushed { after: AfterFlush::Idle | AfterFlush::Gone, returned }) => return returned,
                Ok(flushed) => returned = flushed.returned,
                // To fail is for the task, which may call the interrupt.
                Err(reason) => writer.failed = Some(reason),
            }
        }
        self.kicked.notify_one();
        returned
    }

    /// Does the driver want to be told of what was returned?
    fn interrupt_needed(&self) -> bool {
        self.requests.lock().queue.interrupt_needed()
    }

    /// Lets go of the ring, when nothing is moved any more.
    fn detach(&self) {
        let _gate = self.gate.write();
        self.requests.lock().queue.detach();
    }
}

//! From the socket to the ring.

use std::{io, sync::Arc};

use ninering_wire::{HEADER_LEN, Header, RREAD_LEN};
use smallvec::SmallVec;
use vm_memory::VolatileSlice;

use super::{Concern, Failure, Requests, Shared, count};
use crate::{
    payload::Payload,
    region::{Extent, Region},
};

/// Bytes that are read ahead of a reply: small replies and the headers of large ones. What of a large reply's payload
/// is among them is copied; the rest goes to its place directly.
const READ_AHEAD: usize = 512;
/// After so many replies the interrupt is called, even if more are there to be read.
const MOST_REPLIES: usize = 16;
/// `Rversion`.
const RVERSION: u8 = 101;

/// Receives replies.
pub(super) async fn read_replies(shared: Arc<Shared>) {
    let mut reader = Reader::new();
    loop {
        let received = shared.receive(&mut reader);
        let failed = match received {
            Ok(Received { returned, after }) => {
                let gathers = returned > 1 && matches!(after, AfterReceive::More);
                if gathers {
                    let mut requests = shared.requests.lock();
                    requests.gathering = true;
                    requests.queue.forgo_kicks();
                }
                if returned > 0 && shared.interrupt_needed() {
                    (shared.interrupt)();
                }
                match after {
                    AfterReceive::Blocked => {
                        shared.stream.readable().await.err().map(|error| Failure::lost(error.to_string()))
                    }
                    AfterReceive::More => {
                        tokio::task::yield_now().await;
                        if gathers {
                            shared.requests.lock().gathering = false;
                            if shared.send_now() > 0 && shared.interrupt_needed() {
                                (shared.interrupt)();
                            }
                        }
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

impl Shared {
    /// Reads replies until the socket is empty, or some are there to be told of.
    fn receive(&self, reader: &mut Reader) -> Result<Received, Failure> {
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
    /// Its type number.
    kind: u8,
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
    Failed(Failure),
}

impl Reader {
    fn new() -> Self {
        Self { buffer: Box::new([0; READ_AHEAD]), filled: 0, reply: None, drained: false }
    }

    /// Puts what is in the buffer in its place, and returns the chains whose replies are whole. Tells how many.
    fn take_from_buffer(&mut self, shared: &Shared) -> Result<usize, Failure> {
        let (mut returned, mut taken) = (0, 0);
        let outcome = loop {
            let bytes = &self.buffer[taken..self.filled];
            let reply = match &mut self.reply {
                Some(reply) => reply,
                None => match Self::begin(bytes, &mut shared.requests.lock()) {
                    Ok(Some(reply)) => self.reply.insert(reply),
                    Ok(None) => break Ok(returned),
                    Err(reason) => break Err(reason.into()),
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
            returned += shared.requests.lock().replied(reply.tag, reply.kind, reply.size as u32);
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
        if let Concern::Version { offered } = request.concern
            && kind == RVERSION
            && size as usize >= RREAD_LEN
        {
            let Some(front) = bytes.first_chunk::<RREAD_LEN>() else { return Ok(None) };
            requests.msize = count(front).min(offered);
        }
        let writable = SmallVec::from_slice(requests.outstanding[&tag].chain.writable());
        Ok(Some(Reply { tag, kind, size: size as usize, placed: 0, writable }))
    }

    /// Reads once: the rest of the reply at hand to its place, and what follows it to the buffer.
    fn read(&mut self, shared: &Shared) -> Result<(), ReadError> {
        let mut into = match &self.reply {
            Some(reply) => reply.rest(&shared.region).map_err(|reason| ReadError::Failed(reason.into()))?,
            None => Payload::empty(),
        };
        let missing = into.len();
        into.push(VolatileSlice::from(&mut self.buffer[self.filled..]));
        let asked = into.len();
        match shared.stream.try_read(&into) {
            Ok(0) if self.reply.is_some() || self.filled > 0 => {
                Err(ReadError::Failed(Failure::lost("the server closed the connection within a reply".into())))
            }
            Ok(0) => Err(ReadError::Failed(Failure::lost("the server closed the connection".into()))),
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
            Err(error) => Err(ReadError::Failed(Failure::lost(format!("cannot receive from the server: {error}")))),
        }
    }
}

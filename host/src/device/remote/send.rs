//! From the ring to the socket.

use std::{collections::VecDeque, io, sync::Arc};

use ninering_wire::RREAD_LEN;
use smallvec::SmallVec;
use vm_memory::VolatileSlice;

use super::{Failure, MOST_AT_ONCE, Shared};
use crate::{payload::Payload, region::Extent};

/// The most messages in one system call.
const MOST_FRAMES: usize = 32;

/// Requests on their way into the socket.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) frames: VecDeque<Frame>,
    /// Bytes of the first that are in the socket already.
    begun: usize,
    /// What went wrong where it could not be dealt with.
    pub(super) failed: Option<Failure>,
}

/// A request as it is sent.
pub(super) struct Frame {
    pub(super) tag: u16,
    /// The first bytes, as they were when they were checked.
    pub(super) front: [u8; RREAD_LEN],
    pub(super) front_len: usize,
    /// The chain's readable extents, the front's bytes included.
    pub(super) readable: SmallVec<[Extent; 4]>,
    pub(super) len: usize,
}

pub(super) struct Flushed {
    /// Chains that were returned.
    pub(super) returned: usize,
    pub(super) after: AfterFlush,
}

pub(super) enum AfterFlush {
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
    pub(super) fn flush(&self, writer: &mut Writer, most: usize) -> Result<Flushed, Failure> {
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
                requests.queue.forgo_kicks();
                loop {
                    while writer.frames.len() < MOST_FRAMES
                        && let Some(frame) = requests.next(&self.region, &mut returned)
                    {
                        writer.frames.push_back(frame);
                    }
                    // Only who has nothing to send does not look again.
                    if !writer.frames.is_empty() || requests.queue.want_kick() {
                        break;
                    }
                }
                if requests.queue.is_broken() {
                    return Err(Failure::from("the driver broke the queue".to_owned()));
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
                Ok(0) => return Err(Failure::lost("the server takes no requests any more".into())),
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break AfterFlush::Blocked,
                Err(error) => return Err(Failure::lost(format!("cannot send to the server: {error}"))),
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
}

/// Sends what `kick` could not.
pub(super) async fn write_requests(shared: Arc<Shared>) {
    loop {
        let flushed = shared.flush(&mut shared.writer.lock(), MOST_AT_ONCE);
        let after = match flushed {
            Ok(Flushed { returned, after }) => {
                if returned > 0 && shared.interrupt_needed() {
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
                    shared.writer.lock().failed = Some(Failure::lost(format!("cannot send to the server: {error}")));
                }
            }
        }
    }
}

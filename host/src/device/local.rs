//! A 9P server in this process as a device: requests are answered within [`kick`](Device::kick), on the caller's
//! thread.

use ninering_wire::{HEADER_LEN, TWRITE_LEN};

use super::{Chain, Device, DeviceQueue, DeviceQueueStatistics, Handler};
use crate::{payload::Payload, virtqueue::Features};

/// The longest message other than a `Twrite`, in bytes; a longer one is returned with no reply.
const MAX_MESSAGE: usize = 65_536;

/// Bytes that are copied before it is known what they are, no fewer than those of a `Twrite`: most messages are no
/// longer, and of a payload it is little.
const FRONT: usize = 128;

/// The type number of `Twrite`.
const TWRITE: u8 = 118;

/// A [`Handler`] at the end of a queue.
///
/// Messages are copied out of the ring, once, before anything looks at them: the driver cannot change what was
/// decoded. The payload of a `Twrite` stays where it is, and that of a reply goes to its place directly.
#[derive(Debug)]
pub struct LocalDevice<H> {
    queue: DeviceQueue,
    handler: H,
    message: Vec<u8>,
}

impl<H: Handler> LocalDevice<H> {
    /// What it offers: no event index, for to be kicked is a function call, and it raises no interrupts.
    pub const FEATURES: Features = Features::VERSION_1.and(Features::INDIRECT);

    /// The device that answers what is in `queue` with `handler`.
    pub fn new(queue: DeviceQueue, handler: H) -> Self {
        Self { queue, handler, message: vec![0; FRONT] }
    }

    /// The queue.
    pub fn queue(&self) -> &DeviceQueue {
        &self.queue
    }

    /// Has the request in `chain` answered, and tells the length of the reply. `None` where it cannot be one.
    fn answer(&mut self, chain: &Chain) -> Option<usize> {
        let region = self.queue.region();
        let readable = region.payload(chain.readable()).ok()?;
        let reply = region.payload(chain.writable()).ok()?;
        let (length, payload) = copy_message(&readable, chain.readable_len() as usize, &mut self.message)?;
        Some(self.handler.handle(&self.message[..length], &payload, &reply))
    }
}

impl<H: Handler> Device for LocalDevice<H> {
    fn kick(&mut self) {
        // A driver that goes on adding while this works kicks again.
        for _ in 0..self.queue.layout().size {
            let Some(chain) = self.queue.pop() else { break };
            let written = self.answer(&chain).unwrap_or(0);
            self.queue.complete(chain, u32::try_from(written).unwrap_or(u32::MAX));
        }
    }

    fn broken(&self) -> Option<String> {
        self.queue.is_broken().then(|| "the queue is broken or closed".into())
    }

    fn interrupts(&self) -> bool {
        false
    }

    fn statistics(&self) -> DeviceQueueStatistics {
        self.queue.statistics()
    }

    fn close(&mut self) {
        while let Some(chain) = self.queue.pop() {
            self.queue.complete(chain, 0);
        }
        self.queue.detach();
    }
}

/// Copies the message at the front of `readable`, all but the payload of a `Twrite`; tells its length, and what the
/// payload is. `None` where it is too long.
fn copy_message<'a>(readable: &Payload<'a>, length: usize, message: &mut Vec<u8>) -> Option<(usize, Payload<'a>)> {
    let front = readable.copy_to(&mut message[..FRONT.min(length)]);
    if length > TWRITE_LEN && message[HEADER_LEN - 3] == TWRITE {
        return Some((TWRITE_LEN, readable.part(TWRITE_LEN, length - TWRITE_LEN)));
    }
    if length > front {
        if length > MAX_MESSAGE {
            return None;
        }
        if length > message.len() {
            message.resize(length, 0);
        }
        let target = message.get_mut(front..length)?;
        readable.part(front, length - front).copy_to(target);
    }
    Some((length, Payload::empty()))
}

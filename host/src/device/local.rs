//! A 9P server in this process as a device: requests are answered within [`kick`](Device::kick), on the caller's
//! thread.

use std::sync::Arc;

use ninering_wire::{HEADER_LEN, TWRITE_LEN};

use super::{Device, DeviceQueue, Handler};
use crate::payload::Payload;

/// The longest message other than a `Twrite`, in bytes; a longer one is returned with no reply.
const MAX_MESSAGE: usize = 65_536;

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
    message: Box<[u8]>,
}

impl<H: Handler> LocalDevice<H> {
    /// The device that answers what is in `queue` with `handler`.
    pub fn new(queue: DeviceQueue, handler: H) -> Self {
        Self { queue, handler, message: vec![0; MAX_MESSAGE].into() }
    }

    /// The queue.
    pub fn queue(&self) -> &DeviceQueue {
        &self.queue
    }
}

impl<H: Handler> Device for LocalDevice<H> {
    fn kick(&mut self) {
        let region = Arc::clone(self.queue.region());
        // A driver that goes on adding while this works kicks again.
        for _ in 0..self.queue.layout().size {
            let Some(chain) = self.queue.pop() else { break };
            let (Ok(readable), Ok(reply)) = (region.payload(chain.readable()), region.payload(chain.writable())) else {
                self.queue.complete(chain, 0);
                continue;
            };
            let written = match copy_message(&readable, chain.readable_len() as usize, &mut self.message) {
                Some((length, payload)) => self.handler.handle(&self.message[..length], &payload, &reply),
                None => 0,
            };
            self.queue.complete(chain, u32::try_from(written).unwrap_or(u32::MAX));
        }
    }

    fn broken(&self) -> Option<String> {
        self.queue.is_broken().then(|| "the driver broke the queue".into())
    }

    fn close(&mut self) {
        while let Some(chain) = self.queue.pop() {
            self.queue.complete(chain, 0);
        }
    }
}

/// Copies the message at the front of `readable`, all but the payload of a `Twrite`; tells its length, and what the
/// payload is. `None` where it is too long.
fn copy_message<'a>(readable: &Payload<'a>, length: usize, message: &mut [u8]) -> Option<(usize, Payload<'a>)> {
    let front = readable.copy_to(&mut message[..TWRITE_LEN]);
    if front < TWRITE_LEN || length == TWRITE_LEN {
        return Some((front, Payload::empty()));
    }
    let rest = readable.part(TWRITE_LEN, length - TWRITE_LEN);
    if message[HEADER_LEN - 3] == TWRITE {
        return Some((front, rest));
    }
    let target = message.get_mut(TWRITE_LEN..length)?;
    rest.copy_to(target);
    Some((length, Payload::empty()))
}

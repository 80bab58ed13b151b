//! Devices: who consumes the chains of a virtqueue.
//!
//! - [`DeviceQueue`] and [`Chain`]: the ring as a device sees it. Nothing in it is trusted.
//! - [`local`]: a 9P server in this process.
//! - [`remote`]: a connection to a 9P server elsewhere.
//!
//! A chain is one request: its readable bytes are a T-message, its writable ones take the R-message.

mod chain;
pub mod local;
mod queue;
pub mod remote;

pub use self::{
    chain::{BadChain, Chain},
    queue::{DeviceQueue, DeviceQueueStatistics},
};
use crate::{payload::Payload, server::Session};

/// What a mount or a VMM needs to know of a device.
pub trait Device: Send {
    /// There are new chains of which the device [wants](crate::virtqueue::Driver::kick_needed) to be told. A device that need not wait has returned them when this does, any device may have
    /// returned some: look at the used ring after each kick. Never waits, and never calls the device's interrupt.
    fn kick(&mut self);

    /// Why the device can do nothing more, if so. It returns all chains as it breaks, and later ones when it is
    /// kicked, with nothing written.
    fn broken(&self) -> Option<String> {
        None
    }

    /// Is it [broken](Device::broken) because a connection has ended, by no fault of what was said before? Then another
    /// one may take its place.
    fn is_lost(&self) -> bool {
        false
    }

    /// Does it return chains at other times than in [`kick`](Self::kick), and interrupt then?
    fn interrupts(&self) -> bool;

    /// The counters of its queue.
    fn statistics(&self) -> DeviceQueueStatistics;

    /// Ends the device, and returns all chains with nothing written. When this returns, the device does not touch
    /// the region any more, and will not, and has [let go](DeviceQueue::detach) of the ring, which can be
    /// [reset](crate::virtqueue::Driver::reset) and given to another device.
    fn close(&mut self);
}

/// What answers requests: a session of a 9P server.
pub trait Handler: Send {
    /// Answers one request. `message` is a T-message, without its payload if it is a `Twrite`: that is `payload`.
    /// The R-message goes to `reply`, and its length is returned; 0 where there is none.
    fn handle(&mut self, message: &[u8], payload: &Payload<'_>, reply: &Payload<'_>) -> usize;
}

impl<F> Handler for F
where
    F: FnMut(&[u8], &Payload<'_>, &Payload<'_>) -> usize + Send,
{
    fn handle(&mut self, message: &[u8], payload: &Payload<'_>, reply: &Payload<'_>) -> usize {
        self(message, payload, reply)
    }
}

impl Handler for Session {
    fn handle(&mut self, message: &[u8], payload: &Payload<'_>, reply: &Payload<'_>) -> usize {
        self.handle_alone(message, payload, reply)
    }
}

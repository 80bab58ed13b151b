//! A long and narrow way between a 9P client and a server, and what goes over it, counted.
//!
//! A [`Proxy`] listens where the client connects to, and connects to the server for it. Each direction holds what it
//! carries back for a time, and lets no more than a rate through ([`Link`]). The messages are counted, and the round
//! trips ([`Counts`]): what a client waits for, on any link, whatever its speed.

mod counts;
mod endpoint;
mod proxy;
mod queue;

pub use self::{
    counts::Counts,
    endpoint::Endpoint,
    proxy::{OldServer, Proxy},
    queue::Link,
};

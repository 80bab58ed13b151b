//! What is in use of what the [`Limits`] grant, by all connections of all listeners that share it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Limits, buffers::Buffers};
use crate::server::Peer;

/// Which bits of an IPv6 address are its network's: who has one of its addresses has them all.
const NETWORK: u128 = !0 << 64;

/// What listeners grant their connections, all together: limits, and what is in use of them.
#[derive(Debug)]
pub struct Resources {
    limits: Limits,
    connections: Arc<Semaphore>,
    served: Mutex<Served>,
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    pub(super) buffers: Arc<Buffers>,
    began: Instant,
}

/// Connections that are served: how many, and how many of each peer.
#[derive(Debug, Default)]
struct Served {
    count: usize,
    by_peer: HashMap<Holder, usize>,
}

/// What is in use of a [`Resources`] at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections that are served.
    pub connections: usize,
    /// Peers that have some of them.
    pub peers: usize,
    /// Requests that threads are busy with.
    pub requests: usize,
    /// Bytes that requests and replies take.
    pub memory: usize,
}

impl Resources {
    /// Grants what `limits` say; counts are taken to be at least 1.
    pub fn new(mut limits: Limits) -> Arc<Self> {
        let possible = |count: &mut usize| *count = (*count).clamp(1, Semaphore::MAX_PERMITS);
        possible(&mut limits.connections);
        possible(&mut limits.connections_per_peer);
        possible(&mut limits.requests);
        possible(&mut limits.requests_per_connection);
        possible(&mut limits.memory);
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(limits.connections)),
            served: Mutex::default(),
            requests: Arc::new(Semaphore::new(limits.requests)),
            memory: Arc::new(Semaphore::new(limits.memory)),
            buffers: Arc::default(),
            began: Instant::now(),
            limits,
        })
    }

    /// What is granted.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is in use now.
    pub fn usage(&self) -> Usage {
        let (connections, peers) = {
            let served = self.served.lock();
            (served.count, served.by_peer.len())
        };
        Usage {
            connections,
            peers,
            requests: self.limits.requests - self.requests.available_permits(),
            memory: self.limits.memory - self.memory.available_permits(),
        }
    }

    /// Milliseconds since this was made.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// The right to accept one more connection.
    pub(super) async fn connection(&self) -> OwnedSemaphorePermit {
        acquire(&self.connections, 1).await
    }

    /// Notes one more connection of `peer`; `None` where it has as many as it may.
    pub(super) fn admit(self: &Arc<Self>, peer: &Peer) -> Option<Admission> {
        let holder = Holder::of(peer);
        let mut served = self.served.lock();
        if let Some(holder) = holder {
            let count = served.by_peer.entry(holder).or_default();
            if *count >= self.limits.connections_per_peer {
                return None;
            }
            *count += 1;
        }
        served.count += 1;
        Some(Admission { resources: Arc::clone(self), holder })
    }

    /// The right to have one more request under way, if there is one.
    pub(super) fn try_request(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).try_acquire_owned().ok()
    }

    /// The right to have one more request under way, in the order of asking.
    pub(super) async fn request(&self) -> OwnedSemaphorePermit {
        acquire(&self.requests, 1).await
    }

    /// So many bytes, if there are.
    pub(super) fn try_memory(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.memory).try_acquire_many_owned(self.permits(bytes)).ok()
    }

    /// So many bytes, or all where there are fewer.
    pub(super) async fn memory(&self, bytes: usize) -> OwnedSemaphorePermit {
        acquire(&self.memory, self.permits(bytes)).await
    }

    /// Has nearly all memory been given out, or do some wait for it?
    pub(super) fn is_short_of_memory(&self) -> bool {
        self.memory.available_permits() < self.limits.memory / 8
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.limits.memory)).unwrap_or(u32::MAX)
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    match Arc::clone(semaphore).acquire_many_owned(permits).await {
        Ok(permit) => permit,
        Err(_) => unreachable!("nobody closes it"),
    }
}

/// Whom connections are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Address(IpAddr),
    User(u32),
    Machine(u32),
}

impl Holder {
    fn of(peer: &Peer) -> Option<Self> {
        match peer {
            Peer::Unknown => None,
            Peer::Process { credentials, .. } => Some(Self::User(credentials.uid)),
            Peer::Network(address) => Some(Self::Address(match address.ip().to_canonical() {
                IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
                address => address,
            })),
            Peer::Machine { context, .. } => Some(Self::Machine(*context)),
        }
    }
}

/// A connection that counts as its peer's until this is dropped.
pub(super) struct Admission {
    resources: Arc<Resources>,
    holder: Option<Holder>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut served = self.resources.served.lock();
        served.count -= 1;
        let Some(holder) = self.holder else { return };
        if let Some(count) = served.by_peer.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                served.by_peer.remove(&holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Peer {
        Peer::Network(address.parse().unwrap())
    }

    #[test]
    fn peers_are_counted_by_address_network_user_or_machine() {
        let resources = Resources::new(Limits { connections_per_peer: 1, ..Limits::default() });
        let mut admitted = Vec::new();
        for peer in ["10.0.0.1:1", "10.0.0.2:1", "[2001:db8::1]:1", "[2001:db8:0:1::1]:1"] {
            admitted.push(resources.admit(&network(peer)).expect(peer));
        }
        for peer in ["10.0.0.1:2", "[::ffff:10.0.0.2]:3", "[2001:db8::ffff:1]:1"] {
            assert!(resources.admit(&network(peer)).is_none(), "{peer}");
        }
        for _ in 0..2 {
            admitted.extend(resources.admit(&Peer::Unknown));
        }
        assert_eq!((admitted.len(), resources.usage().peers), (6, 4));
        drop(admitted);
        assert_eq!(resources.usage(), Usage::default());
        assert!(resources.admit(&network("10.0.0.1:2")).is_some());
    }
}

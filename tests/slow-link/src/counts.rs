//! Messages, and how many of them had to wait for one another.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Sub,
};

use ninering_wire::{HEADER_LEN, Header, Tmessage};

/// `Tclunk` and `Tflush`, which a client need not wait for.
const UNAWAITED: [u8; 2] = [120, 108];

/// What went over a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, by type number.
    pub requests: BTreeMap<u8, u64>,
    /// Round trips: the longest chain of requests of which each was sent after the reply to the one before it had been
    /// delivered. So long a client would take on a link that is long and has no other limits.
    pub round_trips: u64,
    /// The same if replies to `Tclunk` and `Tflush` are taken for no replies: for a client that does not wait for them.
    pub awaited_round_trips: u64,
    /// Bytes from the client.
    pub bytes_out: u64,
    /// Bytes to the client.
    pub bytes_in: u64,
    /// Connections that clients made.
    pub connections: u64,
}

impl Counts {
    /// Requests in all.
    pub fn messages(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Requests of a type, such as `"Twalk"`.
    pub fn of(&self, name: &str) -> u64 {
        let named = self.requests.iter().filter(|(kind, _)| Tmessage::name_of(**kind) == Some(name));
        named.map(|(_, count)| count).sum()
    }
}

impl Sub for &Counts {
    type Output = Counts;

    /// What was counted since `earlier`.
    fn sub(self, earlier: Self) -> Counts {
        let before = |kind| earlier.requests.get(kind).copied().unwrap_or_default();
        let since = self.requests.iter().map(|(kind, count)| (*kind, count - before(kind)));
        Counts {
            requests: since.filter(|(_, count)| *count > 0).collect(),
            round_trips: self.round_trips - earlier.round_trips,
            awaited_round_trips: self.awaited_round_trips - earlier.awaited_round_trips,
            bytes_out: self.bytes_out - earlier.bytes_out,
            bytes_in: self.bytes_in - earlier.bytes_in,
            connections: self.connections - earlier.connections,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "messages {}", self.messages())?;
        writeln!(formatter, "round-trips {}", self.round_trips)?;
        writeln!(formatter, "awaited-round-trips {}", self.awaited_round_trips)?;
        writeln!(formatter, "bytes-out {}", self.bytes_out)?;
        writeln!(formatter, "bytes-in {}", self.bytes_in)?;
        writeln!(formatter, "connections {}", self.connections)?;
        for (kind, count) in &self.requests {
            match Tmessage::name_of(*kind) {
                Some(name) => writeln!(formatter, "{name} {count}")?,
                None => writeln!(formatter, "message-{kind} {count}")?,
            }
        }
        Ok(())
    }
}

/// How long the chains are that end in the requests in flight on a connection, in all and of those that are waited for, by
/// tag.
pub(crate) type Chains = HashMap<u16, (u64, u64)>;

/// Counts messages as they pass.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) counts: Counts,
    /// The longest chain that ends in a reply that was delivered.
    delivered: u64,
    /// The same of replies that are waited for.
    awaited_delivered: u64,
}

impl Counter {
    pub(crate) fn connected(&mut self) {
        self.counts.connections += 1;
    }

    /// The client has sent these.
    pub(crate) fn requests(&mut self, chains: &mut Chains, frames: &mut Frames, bytes: &[u8]) {
        let Self { counts, delivered, awaited_delivered } = self;
        counts.bytes_out += bytes.len() as u64;
        frames.pass(bytes, |Header { kind, tag, .. }| {
            *counts.requests.entry(kind).or_default() += 1;
            let chain = *delivered + 1;
            let awaited_chain = *awaited_delivered + u64::from(!UNAWAITED.contains(&kind));
            counts.round_trips = counts.round_trips.max(chain);
            counts.awaited_round_trips = counts.awaited_round_trips.max(awaited_chain);
            chains.insert(tag, (chain, awaited_chain));
        });
    }

    /// The client is about to be given these.
    pub(crate) fn replies(&mut self, chains: &mut Chains, frames: &mut Frames, bytes: &[u8]) {
        let Self { counts, delivered, awaited_delivered } = self;
        counts.bytes_in += bytes.len() as u64;
        frames.pass(bytes, |Header { tag, .. }| {
            if let Some((chain, awaited_chain)) = chains.remove(&tag) {
                *delivered = chain.max(*delivered);
                *awaited_delivered = awaited_chain.max(*awaited_delivered);
            }
        });
    }
}

/// Finds the messages in a stream of bytes.
#[derive(Default)]
pub(crate) struct Frames {
    header: Vec<u8>,
    /// Bytes of the message at hand that are yet to come.
    rest: usize,
}

impl Frames {
    /// Tells of each message that begins in `bytes` when its header is whole.
    fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Header)) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let here = self.rest.min(bytes.len());
                self.rest -= here;
                bytes = &bytes[here..];
                continue;
            }
            let here = (HEADER_LEN - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..here]);
            bytes = &bytes[here..];
            if self.header.len() == HEADER_LEN {
                // What is no 9P is one endless message: it passes, and is not counted.
                self.rest = usize::MAX;
                if let Ok(header) = Header::decode(&self.header) {
                    self.rest = (header.size as usize).saturating_sub(HEADER_LEN);
                    tell(header);
                }
                self.header.clear();
            }
        }
    }
}

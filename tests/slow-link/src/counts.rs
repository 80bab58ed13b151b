//! Messages, and the flights in which they go.

use std::{collections::BTreeMap, fmt, ops::Sub};

use ninering_wire::{HEADER_LEN, Header, Tmessage};

/// `Tclunk` and `Tflush`, which a client need not wait for.
const UNAWAITED: [u8; 2] = [120, 108];

/// What went over a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, by type number.
    pub requests: BTreeMap<u8, u64>,
    /// Round trips: groups of requests of which each was sent before any reply to a request of the same group had been
    /// delivered. To be exact, as many as a client needs that has one thing to do at a time.
    pub flights: u64,
    /// The same if replies to `Tclunk` and `Tflush` are taken for no replies, since the client does not wait for them.
    pub awaited_flights: u64,
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

impl Sub<&Self> for &Counts {
    type Output = Counts;

    /// What was counted since `earlier`.
    fn sub(self, earlier: &Self) -> Counts {
        let before = |kind| earlier.requests.get(kind).copied().unwrap_or_default();
        let since = self.requests.iter().map(|(kind, count)| (*kind, count - before(kind)));
        Counts {
            requests: since.filter(|(_, count)| *count > 0).collect(),
            flights: self.flights - earlier.flights,
            awaited_flights: self.awaited_flights - earlier.awaited_flights,
            bytes_out: self.bytes_out - earlier.bytes_out,
            bytes_in: self.bytes_in - earlier.bytes_in,
            connections: self.connections - earlier.connections,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "messages {}", self.messages())?;
        writeln!(formatter, "flights {}", self.flights)?;
        writeln!(formatter, "awaited-flights {}", self.awaited_flights)?;
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

/// Counts a connection's messages as they pass.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) counts: Counts,
    /// A reply was delivered since the last request, or there was none.
    answered: bool,
    /// The same of replies that are waited for.
    awaited_answered: bool,
}

impl Counter {
    pub(crate) fn connected(&mut self) {
        self.counts.connections += 1;
        (self.answered, self.awaited_answered) = (true, true);
    }

    /// The client has sent these.
    pub(crate) fn requests(&mut self, frames: &mut Frames, bytes: &[u8]) {
        self.counts.bytes_out += bytes.len() as u64;
        frames.pass(bytes, |kind| {
            *self.counts.requests.entry(kind).or_default() += 1;
            self.counts.flights += u64::from(std::mem::take(&mut self.answered));
            if !UNAWAITED.contains(&kind) {
                self.counts.awaited_flights += u64::from(std::mem::take(&mut self.awaited_answered));
            }
        });
    }

    /// The client is about to be given these.
    pub(crate) fn replies(&mut self, frames: &mut Frames, bytes: &[u8]) {
        self.counts.bytes_in += bytes.len() as u64;
        frames.pass(bytes, |kind| {
            self.answered = true;
            self.awaited_answered |= !UNAWAITED.contains(&kind.wrapping_sub(1));
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
    /// Tells of each message that begins in `bytes` its type number, when its header is whole.
    fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(u8)) {
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
                if let Ok(Header { size, kind, .. }) = Header::decode(&self.header) {
                    self.rest = size as usize - HEADER_LEN;
                    tell(kind);
                }
                self.header.clear();
            }
        }
    }
}

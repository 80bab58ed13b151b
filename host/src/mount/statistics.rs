//! A mount's counters.

use super::{CacheStatistics, NameStatistics, RecoveryStatistics};

/// Counters of a mount, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Filesystem operations submitted to the client.
    pub operations: u64,
    /// 9P requests that went through the ring.
    pub requests: u64,
    /// Times that the device was told of new requests.
    pub kicks: u64,
    /// Times that it had not to be told, for it was at work.
    pub kicks_suppressed: u64,
    /// Times that the mount was told of replies. In-process servers reply within the kick.
    pub interrupts: u64,
    /// Times that it had not to be told, for it was at work.
    pub interrupts_suppressed: u64,
    /// Payload bytes that the device took from the ring's extents.
    pub bytes_out: u64,
    /// Payload bytes that the device put into the ring's extents.
    pub bytes_in: u64,
    /// Bytes of message headers, both ways.
    pub header_bytes: u64,
    /// Metadata bytes that the client copied out of or into the region (directory entries).
    pub bounced_bytes: u64,
    /// Payload bytes that were copied between the region and a program's memory.
    pub copied_bytes: u64,
    /// Payload bytes that were an argument or a result of a call of the client, or copied by it: always 0.
    pub payload_through_wit: u64,
    /// What the cache did.
    pub cache: CacheStatistics,
    /// What was asked about names and attributes.
    pub names: NameStatistics,
    /// What was done about lost connections.
    pub recovery: RecoveryStatistics,
}

impl Statistics {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            requests: self.requests + other.requests,
            kicks: self.kicks + other.kicks,
            kicks_suppressed: self.kicks_suppressed + other.kicks_suppressed,
            interrupts: self.interrupts + other.interrupts,
            interrupts_suppressed: self.interrupts_suppressed + other.interrupts_suppressed,
            bytes_out: self.bytes_out + other.bytes_out,
            bytes_in: self.bytes_in + other.bytes_in,
            header_bytes: self.header_bytes + other.header_bytes,
            bounced_bytes: self.bounced_bytes + other.bounced_bytes,
            copied_bytes: self.copied_bytes + other.copied_bytes,
            payload_through_wit: self.payload_through_wit + other.payload_through_wit,
            cache: self.cache.plus(other.cache),
            // They are the mount's, not a life's.
            names: other.names,
            recovery: self.recovery.plus(other.recovery),
        }
    }
}

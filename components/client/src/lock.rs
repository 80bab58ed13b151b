//! Byte-range locks, as `Tlock` and `Tgetlock` speak of them.

use ninering_wire::{Lock, LockType, Str};

/// The longest client id that is sent, in bytes.
pub const CLIENT_ID_MAX: usize = 128;

/// A byte range, and who has locked it or wants to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// Shared, exclusive, or none.
    pub kind: LockType,
    /// The first byte.
    pub start: u64,
    /// Bytes; 0 for all to the file's end, however it grows.
    pub length: u64,
    /// The process on the client.
    pub proc_id: u32,
    /// The client.
    pub client_id: Vec<u8>,
}

impl FileLock {
    /// As it is sent.
    pub(crate) fn as_wire(&self) -> Lock<'_> {
        let Self { kind, start, length, proc_id, client_id } = self;
        Lock { kind: *kind, start: *start, length: *length, proc_id: *proc_id, client_id: Str(client_id) }
    }
}

impl From<Lock<'_>> for FileLock {
    fn from(Lock { kind, start, length, proc_id, client_id }: Lock<'_>) -> Self {
        Self { kind, start, length, proc_id, client_id: client_id.to_vec() }
    }
}

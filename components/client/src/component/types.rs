//! The types of the interfaces as this crate's, and the other way round.

use ninering_wire::{Attributes, Errno, LockStatus, LockType, Qid, SetAttributes, Statfs, setattr};

use super::bindings::{exports::ninering::fs::vfs as wit_vfs, ninering::fs::types};
use crate::{
    error::Error,
    lock::FileLock,
    vfs::{Entry, FileVersion, LockRequest},
};

pub(super) fn entries_of(entries: Vec<Entry>, end: bool) -> wit_vfs::Entries {
    wit_vfs::Entries { entries: entries.into_iter().map(Into::into).collect(), end }
}

impl From<Errno> for wit_vfs::Error {
    fn from(Errno(number): Errno) -> Self {
        Self::Errno(number)
    }
}

impl From<Error> for wit_vfs::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Errno(errno) => errno.into(),
            Error::InDoubt => Errno::EIO.into(),
            Error::Broken(reason) => Self::Broken(reason.to_string()),
        }
    }
}

impl From<Qid> for types::Qid {
    fn from(Qid { kind, version, path }: Qid) -> Self {
        Self { kind: kind.0, version, path }
    }
}

impl From<Entry> for types::DirectoryEntry {
    fn from(Entry { qid, offset, kind, name }: Entry) -> Self {
        Self { qid: qid.into(), offset, kind, name }
    }
}

impl From<FileVersion> for wit_vfs::FileVersion {
    fn from(FileVersion { qid, size, modified, changed }: FileVersion) -> Self {
        let (modified, changed) = (timestamp(modified.0, modified.1), timestamp(changed.0, changed.1));
        Self { qid: qid.into(), size, modified, changed }
    }
}

impl From<LockType> for types::LockKind {
    fn from(kind: LockType) -> Self {
        match kind {
            LockType::Read => Self::Shared,
            LockType::Write => Self::Exclusive,
            LockType::Unlock => Self::Unlock,
        }
    }
}

impl From<types::LockKind> for LockType {
    fn from(kind: types::LockKind) -> Self {
        match kind {
            types::LockKind::Shared => Self::Read,
            types::LockKind::Exclusive => Self::Write,
            types::LockKind::Unlock => Self::Unlock,
        }
    }
}

impl From<LockStatus> for types::LockStatus {
    fn from(status: LockStatus) -> Self {
        match status {
            LockStatus::Success => Self::Granted,
            LockStatus::Blocked => Self::Blocked,
            LockStatus::Error => Self::Error,
            LockStatus::Grace => Self::Grace,
        }
    }
}

impl From<FileLock> for types::FileLock {
    fn from(FileLock { kind, start, length, proc_id, client_id }: FileLock) -> Self {
        Self { kind: kind.into(), start, length, proc_id, client_id }
    }
}

impl From<types::FileLock> for FileLock {
    fn from(types::FileLock { kind, start, length, proc_id, client_id }: types::FileLock) -> Self {
        Self { kind: kind.into(), start, length, proc_id, client_id }
    }
}

impl From<wit_vfs::LockRequest> for LockRequest {
    fn from(wit_vfs::LockRequest { kind, start, length, owner }: wit_vfs::LockRequest) -> Self {
        Self { kind: kind.into(), start, length, owner }
    }
}

impl From<Attributes> for types::Attributes {
    fn from(attributes: Attributes) -> Self {
        Self {
            qid: attributes.qid.into(),
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            nlink: attributes.nlink,
            rdev: attributes.rdev,
            size: attributes.size,
            block_size: attributes.blksize,
            blocks: attributes.blocks,
            accessed: timestamp(attributes.atime_sec, attributes.atime_nsec),
            modified: timestamp(attributes.mtime_sec, attributes.mtime_nsec),
            changed: timestamp(attributes.ctime_sec, attributes.ctime_nsec),
        }
    }
}

/// A time as the server tells it. Nanoseconds that make no sense are cut to what does.
fn timestamp(seconds: u64, nanoseconds: u64) -> types::Timestamp {
    let nanoseconds = nanoseconds.min(999_999_999) as u32; // fits after that
    types::Timestamp { seconds: seconds.cast_signed(), nanoseconds }
}

impl TryFrom<types::AttributeChanges> for SetAttributes {
    type Error = Errno;

    fn try_from(changes: types::AttributeChanges) -> Result<Self, Errno> {
        let types::AttributeChanges { mode, uid, gid, size, accessed, modified } = changes;
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let (atime, atime_bits) = time(accessed, setattr::ATIME, setattr::ATIME_SET)?;
        let (mtime, mtime_bits) = time(modified, setattr::MTIME, setattr::MTIME_SET)?;
        Ok(Self {
            valid: bit(mode.is_some(), setattr::MODE)
                | bit(uid.is_some(), setattr::UID)
                | bit(gid.is_some(), setattr::GID)
                | bit(size.is_some(), setattr::SIZE)
                | atime_bits
                | mtime_bits,
            mode: mode.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            gid: gid.unwrap_or_default(),
            size: size.unwrap_or_default(),
            atime_sec: atime.seconds.cast_unsigned(),
            atime_nsec: atime.nanoseconds.into(),
            mtime_sec: mtime.seconds.cast_unsigned(),
            mtime_nsec: mtime.nanoseconds.into(),
        })
    }
}

/// A time to set, and the bits that say how.
fn time(set: types::SetTime, to_now: u32, to_this: u32) -> Result<(types::Timestamp, u32), Errno> {
    let nothing = types::Timestamp { seconds: 0, nanoseconds: 0 };
    match set {
        types::SetTime::Keep => Ok((nothing, 0)),
        types::SetTime::Now => Ok((nothing, to_now)),
        types::SetTime::To(time) if time.nanoseconds < 1_000_000_000 => Ok((time, to_now | to_this)),
        types::SetTime::To(_) => Err(Errno::EINVAL),
    }
}

impl From<Statfs> for types::Statistics {
    fn from(statfs: Statfs) -> Self {
        Self {
            kind: statfs.kind,
            block_size: statfs.bsize,
            blocks: statfs.blocks,
            blocks_free: statfs.bfree,
            blocks_available: statfs.bavail,
            files: statfs.files,
            files_free: statfs.ffree,
            filesystem: statfs.fsid,
            name_length: statfs.namelen,
        }
    }
}

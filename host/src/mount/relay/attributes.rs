//! What is told of files, in the client's types and in the protocol's.

use ninering_wire::{Attributes, Qid, QidType, SetAttributes, Statfs, getattr, setattr};

use super::super::{AttributeChanges, FilesystemStatistics, SetTime, Timestamp, component::types};

pub(super) fn qid_of(types::Qid { kind, version, path }: types::Qid) -> Qid {
    Qid { kind: QidType(kind), version, path }
}

pub(super) fn attributes_of(attributes: &types::Attributes) -> Attributes {
    let (seconds, nanoseconds) =
        (|time: Timestamp| time.seconds.cast_unsigned(), |time: Timestamp| u64::from(time.nanoseconds));
    Attributes {
        valid: getattr::BASIC,
        qid: qid_of(attributes.qid),
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        nlink: attributes.nlink,
        rdev: attributes.rdev,
        size: attributes.size,
        blksize: attributes.block_size,
        blocks: attributes.blocks,
        atime_sec: seconds(attributes.accessed),
        atime_nsec: nanoseconds(attributes.accessed),
        mtime_sec: seconds(attributes.modified),
        mtime_nsec: nanoseconds(attributes.modified),
        ctime_sec: seconds(attributes.changed),
        ctime_nsec: nanoseconds(attributes.changed),
        ..Attributes::default()
    }
}

/// What is to be changed. (A change time is the server's to set, which does that by itself.)
pub(super) fn changes(changes: &SetAttributes) -> AttributeChanges {
    let asked = |bit| changes.valid & bit != 0;
    let time = |bit, is_set, seconds: u64, nanoseconds: u64| match (asked(bit), asked(is_set)) {
        (false, _) => SetTime::Keep,
        (true, false) => SetTime::Now,
        (true, true) => {
            // Checked before: below a second.
            let nanoseconds = nanoseconds.min(999_999_999) as u32;
            SetTime::To(Timestamp { seconds: seconds.cast_signed(), nanoseconds })
        }
    };
    AttributeChanges {
        mode: asked(setattr::MODE).then_some(changes.mode),
        uid: asked(setattr::UID).then_some(changes.uid),
        gid: asked(setattr::GID).then_some(changes.gid),
        size: asked(setattr::SIZE).then_some(changes.size),
        accessed: time(setattr::ATIME, setattr::ATIME_SET, changes.atime_sec, changes.atime_nsec),
        modified: time(setattr::MTIME, setattr::MTIME_SET, changes.mtime_sec, changes.mtime_nsec),
    }
}

pub(super) fn statfs_of(statistics: &FilesystemStatistics) -> Statfs {
    Statfs {
        kind: statistics.kind,
        bsize: statistics.block_size,
        blocks: statistics.blocks,
        bfree: statistics.blocks_free,
        bavail: statistics.blocks_available,
        files: statistics.files,
        ffree: statistics.files_free,
        fsid: statistics.filesystem,
        namelen: statistics.name_length,
    }
}

//! What WASI calls things, and what mounts do.

use ninering_wire::mode;
use wasmtime_wasi::p2::{
    FsResult,
    bindings::{
        clocks::wall_clock::Datetime,
        filesystem::types::{DescriptorStat, DescriptorType, ErrorCode, MetadataHashValue, NewTimestamp},
    },
};

use crate::mount::{self, AttributeChanges, Attributes, Mount, SetTime, Timestamp};

pub(super) fn metadata_hash(mount: &Mount, path: u64) -> MetadataHashValue {
    MetadataHashValue { lower: path, upper: mount.identity() }
}

pub(super) fn descriptor_type(file_mode: u32) -> DescriptorType {
    match file_mode & mode::IFMT {
        mode::IFREG => DescriptorType::RegularFile,
        mode::IFDIR => DescriptorType::Directory,
        mode::IFLNK => DescriptorType::SymbolicLink,
        mode::IFBLK => DescriptorType::BlockDevice,
        mode::IFCHR => DescriptorType::CharacterDevice,
        mode::IFIFO => DescriptorType::Fifo,
        mode::IFSOCK => DescriptorType::Socket,
        _ => DescriptorType::Unknown,
    }
}

/// The type that a directory entry's `DT_*` byte stands for.
pub(super) fn entry_type(kind: u8) -> DescriptorType {
    descriptor_type(u32::from(kind) << 12)
}

/// A time as WASI has it; `None` for those before 1970, which it cannot name.
pub(super) fn datetime(time: Timestamp) -> Option<Datetime> {
    Some(Datetime { seconds: u64::try_from(time.seconds).ok()?, nanoseconds: time.nanoseconds })
}

pub(super) fn descriptor_stat(attributes: &Attributes) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(attributes.mode),
        link_count: attributes.nlink,
        size: attributes.size,
        data_access_timestamp: datetime(attributes.accessed),
        data_modification_timestamp: datetime(attributes.modified),
        status_change_timestamp: datetime(attributes.changed),
    }
}

pub(super) fn set_time(time: NewTimestamp) -> FsResult<SetTime> {
    Ok(match time {
        NewTimestamp::NoChange => SetTime::Keep,
        NewTimestamp::Now => SetTime::Now,
        NewTimestamp::Timestamp(Datetime { seconds, nanoseconds }) => {
            let seconds = i64::try_from(seconds).map_err(|_| ErrorCode::Overflow)?;
            if nanoseconds >= 1_000_000_000 {
                return Err(ErrorCode::Invalid.into());
            }
            SetTime::To(Timestamp { seconds, nanoseconds })
        }
    })
}

/// The flags that are wanted.
pub(super) fn open_how<const N: usize>(flags: [(mount::OpenFlags, bool); N]) -> mount::OpenFlags {
    flags.into_iter().filter(|(_, wanted)| *wanted).fold(mount::OpenFlags::empty(), |all, (flag, _)| all | flag)
}

/// No change at all, to be completed.
pub(super) fn changes() -> AttributeChanges {
    AttributeChanges { mode: None, uid: None, gid: None, size: None, accessed: SetTime::Keep, modified: SetTime::Keep }
}

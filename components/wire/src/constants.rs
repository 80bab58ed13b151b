//! The numbers of 9P2000.L.

/// The dialect's name in `Tversion` and `Rversion`.
pub const VERSION_9P2000L: &[u8] = b"9P2000.L";
/// 9P2000.L and [`Tvisit`](crate::Tmessage::Tvisit). A `Tlcreate` without `EXCL` opens the file that is there, if one is;
/// a link is not followed, but `ELOOP`, and a directory `EISDIR`.
pub const VERSION_NINERING: &[u8] = b"9P2000.L.ninering";
/// The name of Unix's dialect, with [messages of its own](crate::legacy).
pub const VERSION_9P2000U: &[u8] = b"9P2000.u";
/// The name of Plan 9's dialect, with [messages of its own](crate::legacy).
pub const VERSION_9P2000: &[u8] = b"9P2000";
/// What a server answers to a dialect that it does not speak.
pub const VERSION_UNKNOWN: &[u8] = b"unknown";

/// The tag of `Tversion`, and of no other message.
pub const NOTAG: u16 = !0;
/// The afid of an attach without authentication.
pub const NOFID: u32 = !0;
/// The numeric user of an attach that names its user by `uname` instead.
pub const NONUNAME: u32 = !0;

/// Bytes of `size[4] type[1] tag[2]`.
pub const HEADER_LEN: usize = 7;
/// Bytes of an `Rread` or `Rreaddir` before its payload; also all of an `Rlerror`.
pub const RREAD_LEN: usize = HEADER_LEN + 4;
/// Bytes of a `Twrite` before its payload.
pub const TWRITE_LEN: usize = HEADER_LEN + 16;
/// What every implementation keeps free of `msize` for the header of a read or write (`P9_IOHDRSZ`).
pub const IOHDRSZ: u32 = 24;
/// The longest walk in one message (`P9_MAXWELEM`).
pub const MAXWELEM: usize = 16;
/// The longest file name, in bytes.
pub const NAME_MAX: usize = 255;
/// The longest symbolic link target that is followed, in bytes.
pub const PATH_MAX: usize = 4096;
/// The least `msize` at which each message but a bulk one fits.
pub const MIN_MSIZE: u32 = 8192;

/// Flags of `Tlopen` and `Tlcreate` (`P9_DOTL_*`): Linux's `open(2)` flags as on x86, whatever the machine.
pub mod lopen {
    #![allow(missing_docs, reason = "these are open(2)'s own flags")]
    pub const RDONLY: u32 = 0o0;
    pub const WRONLY: u32 = 0o1;
    pub const RDWR: u32 = 0o2;
    pub const ACCMODE: u32 = 0o3;
    pub const CREATE: u32 = 0o100;
    pub const EXCL: u32 = 0o200;
    pub const NOCTTY: u32 = 0o400;
    pub const TRUNC: u32 = 0o1000;
    pub const APPEND: u32 = 0o2000;
    pub const NONBLOCK: u32 = 0o4000;
    pub const DSYNC: u32 = 0o10000;
    pub const FASYNC: u32 = 0o20000;
    pub const DIRECT: u32 = 0o40000;
    pub const LARGEFILE: u32 = 0o100000;
    pub const DIRECTORY: u32 = 0o200000;
    pub const NOFOLLOW: u32 = 0o400000;
    pub const NOATIME: u32 = 0o1000000;
    pub const CLOEXEC: u32 = 0o2000000;
    pub const SYNC: u32 = 0o4000000;
}

/// The flag of `Tunlinkat` that removes a directory (`P9_DOTL_AT_REMOVEDIR`).
pub const AT_REMOVEDIR: u32 = 0x200;

/// Bits of `Tgetattr.request_mask` and `Rgetattr.valid` (`P9_STATS_*`).
pub mod getattr {
    #![allow(missing_docs, reason = "each bit is named as the field that it stands for")]
    pub const MODE: u64 = 0x1;
    pub const NLINK: u64 = 0x2;
    pub const UID: u64 = 0x4;
    pub const GID: u64 = 0x8;
    pub const RDEV: u64 = 0x10;
    pub const ATIME: u64 = 0x20;
    pub const MTIME: u64 = 0x40;
    pub const CTIME: u64 = 0x80;
    pub const INO: u64 = 0x100;
    pub const SIZE: u64 = 0x200;
    pub const BLOCKS: u64 = 0x400;
    /// All that `stat(2)` tells.
    pub const BASIC: u64 = 0x7ff;
    pub const BTIME: u64 = 0x800;
    pub const GEN: u64 = 0x1000;
    pub const DATA_VERSION: u64 = 0x2000;
    pub const ALL: u64 = 0x3fff;
}

/// Bits of `Tsetattr.valid` (`P9_ATTR_*`).
pub mod setattr {
    #![allow(missing_docs, reason = "each bit is named as the field that it stands for")]
    pub const MODE: u32 = 0x1;
    pub const UID: u32 = 0x2;
    pub const GID: u32 = 0x4;
    pub const SIZE: u32 = 0x8;
    /// Set the access time, to the server's clock unless [`ATIME_SET`] is there too.
    pub const ATIME: u32 = 0x10;
    /// Set the modification time, to the server's clock unless [`MTIME_SET`] is there too.
    pub const MTIME: u32 = 0x20;
    pub const CTIME: u32 = 0x40;
    pub const ATIME_SET: u32 = 0x80;
    pub const MTIME_SET: u32 = 0x100;
    /// All bits that have a meaning.
    pub const ALL: u32 = 0x1ff;
}

/// Bits of a mode (`S_IF*`): what kind of file it is.
pub mod mode {
    #![allow(missing_docs, reason = "these are stat(2)'s own numbers")]
    pub const IFMT: u32 = 0o170000;
    pub const IFSOCK: u32 = 0o140000;
    pub const IFLNK: u32 = 0o120000;
    pub const IFREG: u32 = 0o100000;
    pub const IFBLK: u32 = 0o060000;
    pub const IFDIR: u32 = 0o040000;
    pub const IFCHR: u32 = 0o020000;
    pub const IFIFO: u32 = 0o010000;
    /// The permission bits with set-id and sticky.
    pub const PERMISSIONS: u32 = 0o7777;
}

/// The type byte of a directory entry (`DT_*`): a mode's file type shifted right by twelve.
pub mod dirent_type {
    #![allow(missing_docs, reason = "these are readdir(3)'s own numbers")]
    pub const UNKNOWN: u8 = 0;
    pub const FIFO: u8 = 1;
    pub const CHR: u8 = 2;
    pub const DIR: u8 = 4;
    pub const BLK: u8 = 6;
    pub const REG: u8 = 8;
    pub const LNK: u8 = 10;
    pub const SOCK: u8 = 12;
}

/// Flags of `Tlock` (`P9_LOCK_FLAGS_*`).
pub mod lock {
    #![allow(missing_docs, reason = "named as in the kernel's header")]
    pub const FLAGS_BLOCK: u32 = 1;
    pub const FLAGS_RECLAIM: u32 = 2;
}

/// Extended attributes: flags of `Txattrcreate` (`XATTR_*` of `setxattr(2)`), and how large they can be.
pub mod xattr {
    /// Fail with `EEXIST` where there is one of that name.
    pub const CREATE: u32 = 1;
    /// Fail with `ENODATA` where there is none of that name. With a size of 0, Linux's client means: remove it.
    pub const REPLACE: u32 = 2;
    /// The longest name, in bytes.
    pub const NAME_MAX: usize = 255;
    /// The longest value, in bytes.
    pub const SIZE_MAX: usize = 65_536;
    /// The longest list of names, in bytes, each with the NUL behind it.
    pub const LIST_MAX: usize = 65_536;
}

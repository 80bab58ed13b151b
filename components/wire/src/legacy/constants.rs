//! The numbers of 9P2000 and 9P2000.u.

/// The longest text of an error that Plan 9 keeps, in bytes, the NUL behind it included (`ERRMAX`).
pub const ERRMAX: usize = 128;

/// The `mode` of `Topen` and `Tcreate`.
pub mod open {
    /// Open for reading.
    pub const READ: u8 = 0;
    /// Open for writing.
    pub const WRITE: u8 = 1;
    /// Open for both.
    pub const RDWR: u8 = 2;
    /// Open for reading, as a program that is to be run.
    pub const EXEC: u8 = 3;
    /// The bits of the four above.
    pub const ACCMODE: u8 = 3;
    /// Truncate it first.
    pub const TRUNC: u8 = 0x10;
    /// Close when a program is run: a client's own affair.
    pub const CEXEC: u8 = 0x20;
    /// Remove the file when the fid is clunked.
    pub const RCLOSE: u8 = 0x40;
    /// Write at the end, always. 9P2000.u only.
    pub const APPEND: u8 = 0x80;
}

/// Bits of a mode in a [`Stat`](super::Stat), and of `Tcreate.perm`, above the permissions (`DM*`).
pub mod perm {
    /// A directory.
    pub const DIR: u32 = 0x8000_0000;
    /// A file that is written at its end only.
    pub const APPEND: u32 = 0x4000_0000;
    /// A file that one client can have open at a time.
    pub const EXCL: u32 = 0x2000_0000;
    /// A mounted channel; never seen on the wire.
    pub const MOUNT: u32 = 0x1000_0000;
    /// A file by which a client authenticates itself.
    pub const AUTH: u32 = 0x0800_0000;
    /// A file that need not be backed up.
    pub const TMP: u32 = 0x0400_0000;
    /// A symbolic link; the extension is its target. This one and those below: 9P2000.u only.
    pub const SYMLINK: u32 = 0x0200_0000;
    /// In a `Tcreate`: a hard link; the extension is the fid of the file in decimal.
    pub const LINK: u32 = 0x0100_0000;
    /// A device; the extension is `b` or `c`, its major and its minor number, separated by blanks.
    pub const DEVICE: u32 = 0x0080_0000;
    /// A fifo.
    pub const NAMEDPIPE: u32 = 0x0020_0000;
    /// A socket.
    pub const SOCKET: u32 = 0x0010_0000;
    /// Set-user-ID.
    pub const SETUID: u32 = 0x0008_0000;
    /// Set-group-ID.
    pub const SETGID: u32 = 0x0004_0000;
    /// The sticky bit.
    pub const SETVTX: u32 = 0x0001_0000;
    /// The permissions of owner, group and others.
    pub const PERMISSIONS: u32 = 0o777;
}

/// Bits of a [`QidType`](crate::QidType) besides those of 9P2000.L: the uppermost byte of the mode.
pub mod qid_type {
    /// As [`perm::APPEND`](super::perm::APPEND).
    pub const APPEND: u8 = 0x40;
    /// As [`perm::EXCL`](super::perm::EXCL).
    pub const EXCL: u8 = 0x20;
    /// As [`perm::AUTH`](super::perm::AUTH).
    pub const AUTH: u8 = 0x08;
    /// As [`perm::TMP`](super::perm::TMP).
    pub const TMP: u8 = 0x04;
}

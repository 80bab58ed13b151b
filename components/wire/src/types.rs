//! The compound types that messages are made of.

use core::{fmt, ops::Deref};

use crate::{
    Frame, List, Message, Rmessage, Tmessage,
    field::{Field, FixedLen, Reader, WireError, Writer, record},
    mode,
};

/// A string: `len[2]` and as many bytes. 9P says UTF-8; Linux sends whatever bytes a file is named by.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Str<'a>(pub &'a [u8]);

impl Deref for Str<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

/// A message in another one: header, body, and no payload. Where there is none, a `size[4]` of 0 says so.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Inner<'a>(pub &'a [u8]);

impl fmt::Debug for Inner<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(4) {
            Some(kind) => match Tmessage::name_of(*kind).or_else(|| Rmessage::name_of(*kind)) {
                Some(name) => formatter.write_str(name),
                None => write!(formatter, "message {kind}"),
            },
            None => formatter.write_str("none"),
        }
    }
}

impl<'a> Field<'a> for Inner<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let bytes = reader.0;
        let size = u32::read(reader)?;
        match (size as usize).checked_sub(size_of::<u32>()) {
            Some(rest) => Ok(Self(&bytes[..size_of::<u32>() + reader.bytes(rest)?.len()])),
            None if size == 0 => Ok(Self(&[])),
            None => Err(WireError::BadSize(size)),
        }
    }

    /// The bytes are to say themselves how many they are.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        match self.0 {
            [] => 0_u32.write(writer),
            message => writer.bytes(message),
        }
    }
}

impl<'a> Inner<'a> {
    /// The message: a request in a [`Tmessage::Tvisit`], a reply in an [`Rmessage::Rvisit`].
    ///
    /// # Errors
    /// As [`Frame::decode`](crate::Frame::decode)'s; [`WireError::BadValue`] where its tag is not
    /// [`NOTAG`](crate::NOTAG), and [`WireError::TrailingBytes`] where it has a payload.
    pub fn decode<M: Message<'a>>(self) -> Result<M, WireError> {
        let Frame { tag, message, payload } = Frame::decode(self.0)?;
        match (tag, payload) {
            (crate::NOTAG, []) => Ok(message),
            (crate::NOTAG, _) => Err(WireError::TrailingBytes),
            _ => Err(WireError::BadValue),
        }
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

impl<'a> Field<'a> for Str<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let length = u16::read(reader)?;
        Ok(Self(reader.bytes(length.into())?))
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        u16::try_from(self.0.len()).map_err(|_| WireError::Overflow)?.write(writer)?;
        writer.bytes(self.0)
    }
}

/// The type byte of a [`Qid`] (`P9_QT*`); bits beyond those named here are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct QidType(pub u8);

impl QidType {
    /// A directory.
    pub const DIR: Self = Self(0x80);
    /// A symbolic link.
    pub const SYMLINK: Self = Self(0x02);
    /// Anything else.
    pub const FILE: Self = Self(0);

    /// The type that a file of this mode has.
    pub const fn from_mode(mode: u32) -> Self {
        match mode & mode::IFMT {
            mode::IFDIR => Self::DIR,
            mode::IFLNK => Self::SYMLINK,
            _ => Self::FILE,
        }
    }

    /// Is it a directory?
    pub const fn is_dir(self) -> bool {
        self.0 & Self::DIR.0 != 0
    }

    /// Is it a symbolic link?
    pub const fn is_symlink(self) -> bool {
        self.0 & Self::SYMLINK.0 != 0
    }
}

impl Field<'_> for QidType {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        u8::read(reader).map(Self)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        self.0.write(writer)
    }
}

record! {
    /// The server's identity of a file: two files are the same when their `path` is.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    Qid {
        /// What kind of file it is.
        kind: QidType,
        /// Changes with the file's contents; 0 where the server does not tell.
        version: u32,
        /// Unique in the export for as long as the file lives.
        path: u64,
    }
}

impl Qid {
    /// Bytes on the wire.
    pub const LEN: usize = 13;
}

/// The names of a `Twalk`, as they came: not checked yet.
pub type Names<'a> = List<'a, Str<'a>>;

/// The qids of an `Rwalk`: one for each name that could be walked.
pub type Qids<'a> = List<'a, Qid>;

record! {
    /// A file's attributes, as `Rgetattr` tells them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    Attributes {
        /// Which of the fields below hold something: bits of [`getattr`](crate::getattr).
        valid: u64,
        /// The file's identity.
        qid: Qid,
        /// File type and permissions.
        mode: u32,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
        /// The number of hard links.
        nlink: u64,
        /// The device that a special file stands for, as `makedev(3)` lays it out.
        rdev: u64,
        /// Bytes.
        size: u64,
        /// The block size, in bytes, that suits the file.
        blksize: u64,
        /// Blocks of 512 bytes that the file occupies.
        blocks: u64,
        /// Last access, in seconds since 1970 (two's complement before that).
        atime_sec: u64,
        /// Last access, nanoseconds.
        atime_nsec: u64,
        /// Last change of the contents, in seconds.
        mtime_sec: u64,
        /// Last change of the contents, nanoseconds.
        mtime_nsec: u64,
        /// Last change of the attributes, in seconds.
        ctime_sec: u64,
        /// Last change of the attributes, nanoseconds.
        ctime_nsec: u64,
        /// Creation, in seconds.
        btime_sec: u64,
        /// Creation, nanoseconds.
        btime_nsec: u64,
        /// The inode's generation.
        generation: u64,
        /// A number that changes with the contents.
        data_version: u64,
    }
}

impl FixedLen for Attributes {
    const LEN: usize = 8 + Qid::LEN + 3 * 4 + 15 * 8;
}

record! {
    /// What `Tsetattr` is to change.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    SetAttributes {
        /// Which of the fields below count: bits of [`setattr`](crate::setattr).
        valid: u32,
        /// Permissions.
        mode: u32,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
        /// Bytes.
        size: u64,
        /// Last access, in seconds since 1970.
        atime_sec: u64,
        /// Last access, nanoseconds.
        atime_nsec: u64,
        /// Last change of the contents, in seconds.
        mtime_sec: u64,
        /// Last change of the contents, nanoseconds.
        mtime_nsec: u64,
    }
}

impl FixedLen for SetAttributes {
    const LEN: usize = 4 * 4 + 5 * 8;
}

record! {
    /// A filesystem's figures, as `Rstatfs` tells them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    Statfs {
        /// The filesystem's type, a magic number of `statfs(2)`.
        kind: u32,
        /// Bytes in a block.
        bsize: u32,
        /// Blocks in all.
        blocks: u64,
        /// Blocks free.
        bfree: u64,
        /// Blocks free to those who are not root.
        bavail: u64,
        /// Files in all.
        files: u64,
        /// Files that can still be made.
        ffree: u64,
        /// The filesystem's identity.
        fsid: u64,
        /// The longest name, in bytes.
        namelen: u32,
    }
}

impl FixedLen for Statfs {
    const LEN: usize = 2 * 4 + 6 * 8 + 4;
}

/// What kind of lock (`P9_LOCK_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LockType {
    /// Shared.
    Read = 0,
    /// Exclusive.
    Write = 1,
    /// None: give it back.
    Unlock = 2,
}

/// What became of a lock request (`P9_LOCK_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LockStatus {
    /// It is held.
    Success = 0,
    /// Another one holds it.
    Blocked = 1,
    /// It failed.
    Error = 2,
    /// The server gives clients time to reclaim theirs.
    Grace = 3,
}

macro_rules! byte_enum {
    ($name:ident { $($variant:ident)* }) => {
        impl Field<'_> for $name {
            fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
                match u8::read(reader)? {
                    $(byte if byte == $name::$variant as u8 => Ok($name::$variant),)*
                    _ => Err(WireError::BadValue),
                }
            }

            fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
                (*self as u8).write(writer)
            }
        }
    };
}

byte_enum! { LockType { Read Write Unlock } }
byte_enum! { LockStatus { Success Blocked Error Grace } }

record! {
    /// A byte range and who wants it: the body of `Tgetlock` and `Rgetlock`, and of `Tlock` but for its flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Lock<'a> {
        /// Shared, exclusive, or none.
        kind: LockType,
        /// The first byte.
        start: u64,
        /// Bytes; 0 means to the end of the file, however it grows.
        length: u64,
        /// The process on the client.
        proc_id: u32,
        /// The client.
        client_id: Str<'a>,
    }
}

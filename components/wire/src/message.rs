//! The messages themselves, and the frame around them.

use crate::{
    Attributes, Far, HEADER_LEN, Inner, Lock, LockStatus, NOFID, Names, Qid, Qids, SetAttributes, Statfs, Str,
    field::{Field, Reader, WireError, Writer},
};

/// `size[4] type[1] tag[2]`: what every message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole message, these seven and the payload included.
    pub size: u32,
    /// The message's type number.
    pub kind: u8,
    /// Which request this is, or is the reply to.
    pub tag: u16,
}

impl Header {
    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    /// [`WireError::Truncated`] with fewer than [`HEADER_LEN`] bytes, [`WireError::BadSize`] where `size` says less.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader(bytes);
        let header =
            Self { size: Field::read(&mut reader)?, kind: Field::read(&mut reader)?, tag: Field::read(&mut reader)? };
        if (header.size as usize) < HEADER_LEN { Err(WireError::BadSize(header.size)) } else { Ok(header) }
    }

    /// The seven bytes.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [s0, s1, s2, s3] = self.size.to_le_bytes();
        let [t0, t1] = self.tag.to_le_bytes();
        [s0, s1, s2, s3, self.kind, t0, t1]
    }
}

/// What [`Tmessage`] and [`Rmessage`] have in common.
pub trait Message<'a>: Sized {
    /// The type number on the wire.
    fn kind(&self) -> u8;

    /// How many bytes of payload follow the message proper: its `count`, 0 for most messages.
    fn payload_len(&self) -> u32;

    /// Decodes a body (what follows the header), as far as the message proper goes, and returns what is left
    /// behind it: the payload, or as much of it as was in `body`.
    ///
    /// # Errors
    /// [`WireError::UnknownType`], or what is wrong with the fields.
    fn decode_body(kind: u8, body: &'a [u8]) -> Result<(Self, &'a [u8]), WireError>;

    /// Writes header and message proper to the front of `buffer` and tells how many bytes that took. The header's
    /// `size` includes the payload, which the caller is to send right behind.
    ///
    /// # Errors
    /// [`WireError::Overflow`] where it does not fit.
    fn encode(&self, tag: u16, buffer: &mut [u8]) -> Result<usize, WireError>;
}

/// A whole message, payload and all, in one piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a, M> {
    /// Which request this is, or is the reply to.
    pub tag: u16,
    /// The message proper.
    pub message: M,
    /// The bulk data behind it.
    pub payload: &'a [u8],
}

impl<'a, M: Message<'a>> Frame<'a, M> {
    /// Decodes `bytes`, which must be one message and nothing else.
    ///
    /// # Errors
    /// Whatever makes it not that: [`WireError::BadSize`] where `size` is not the number of bytes there are,
    /// [`WireError::Truncated`] or [`WireError::TrailingBytes`] where the fields or the payload don't fill it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let header = Header::decode(bytes)?;
        if header.size as usize != bytes.len() {
            return Err(WireError::BadSize(header.size));
        }
        let (message, payload) = M::decode_body(header.kind, &bytes[HEADER_LEN..])?;
        match payload.len().cmp(&(message.payload_len() as usize)) {
            core::cmp::Ordering::Less => Err(WireError::Truncated),
            core::cmp::Ordering::Equal => Ok(Self { tag: header.tag, message, payload }),
            core::cmp::Ordering::Greater => Err(WireError::TrailingBytes),
        }
    }
}

/// Defines one direction's messages: `NUMBER NAME { field: type, … } [payload]`, where `payload` says that
/// `count` bytes follow. They may depend on the dialect, which is a type then: `NAME in DIALECT: TRAIT`.
macro_rules! messages {
    (
        $(#[$meta:meta])* $enum:ident $(in $dialect:ident: $trait:path)?;
        $($(#[$doc:meta])* $number:literal $name:ident { $($field:ident: $type:ty),* } $(+ payload of $count:ident)?;)*
    ) => {
        $(#[$meta])*
        #[allow(missing_docs, reason = "fields are named and explained in the protocol's description")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enum<'a $(, $dialect: $trait)?> { $($(#[$doc])* $name { $($field: $type),* },)* }

        impl<'a $(, $dialect: $trait)?> $enum<'a $(, $dialect)?> {
            /// The name of the message with this type number.
            pub const fn name_of(kind: u8) -> Option<&'static str> {
                match kind { $($number => Some(stringify!($name)),)* _ => None }
            }

            /// The message's name.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => stringify!($name),)* }
            }

            /// [`Message::encode`], without the trait in scope.
            ///
            /// # Errors
            /// [`WireError::Overflow`] where it does not fit.
            pub fn encode(&self, tag: u16, buffer: &mut [u8]) -> Result<usize, WireError> {
                Message::encode(self, tag, buffer)
            }
        }

        impl<'a $(, $dialect: $trait)?> Message<'a> for $enum<'a $(, $dialect)?> {
            fn kind(&self) -> u8 {
                match self { $(Self::$name { .. } => $number,)* }
            }

            fn payload_len(&self) -> u32 {
                match self {
                    $($(Self::$name { $count, .. } => *$count,)?)*
                    _ => 0,
                }
            }

            fn decode_body(kind: u8, body: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
                let mut reader = Reader(body);
                let message = match kind {
                    $($number => {
                        $(let $field = Field::read(&mut reader)?;)*
                        Self::$name { $($field),* }
                    })*
                    _ => return Err(WireError::UnknownType(kind)),
                };
                Ok((message, reader.0))
            }

            fn encode(&self, tag: u16, buffer: &mut [u8]) -> Result<usize, WireError> {
                let mut writer = Writer::new(buffer);
                writer.bytes(&[0; HEADER_LEN])?;
                match self {
                    $(Self::$name { $($field),* } => { $($field.write(&mut writer)?;)* })*
                }
                let length = writer.filled();
                let size = u32::try_from(length).ok().and_then(|length| length.checked_add(self.payload_len()));
                let size = size.ok_or(WireError::Overflow)?;
                writer.patch(&Header { size, kind: self.kind(), tag }.encode());
                Ok(length)
            }
        }
    };
}
pub(crate) use messages;

messages! {
    /// A request.
    Tmessage;
    /// Figures of the filesystem.
    8 Tstatfs { fid: u32 };
    /// Opens the file that `fid` stands for.
    12 Tlopen { fid: u32, flags: u32 };
    /// Makes a file in the directory `fid`, which then stands for the new, open file.
    14 Tlcreate { fid: u32, name: Str<'a>, flags: u32, mode: u32, gid: u32 };
    /// Makes a symbolic link.
    16 Tsymlink { fid: u32, name: Str<'a>, target: Str<'a>, gid: u32 };
    /// Makes a special file.
    18 Tmknod { fid: u32, name: Str<'a>, mode: u32, major: u32, minor: u32, gid: u32 };
    /// Moves the file `fid` into the directory `dfid` as `name`.
    20 Trename { fid: u32, dfid: u32, name: Str<'a> };
    /// Reads a symbolic link.
    22 Treadlink { fid: u32 };
    /// Asks for attributes.
    24 Tgetattr { fid: u32, request_mask: u64 };
    /// Changes attributes.
    26 Tsetattr { fid: u32, attributes: Far<'a, SetAttributes> };
    /// Makes `newfid` stand for an extended attribute of `fid`, or for the list of their names.
    30 Txattrwalk { fid: u32, newfid: u32, name: Str<'a> };
    /// Makes `fid` take the value of an extended attribute, which is set when it is clunked.
    32 Txattrcreate { fid: u32, name: Str<'a>, size: u64, flags: u32 };
    /// Reads directory entries from `offset` on.
    40 Treaddir { fid: u32, offset: u64, count: u32 };
    /// Writes what is cached to stable storage; only the data where `datasync` is not 0.
    50 Tfsync { fid: u32, datasync: u32 };
    /// Takes or gives back a byte-range lock.
    52 Tlock { fid: u32, kind: crate::LockType, flags: u32, start: u64, length: u64, proc_id: u32, client_id: Str<'a> };
    /// Asks who would block a lock.
    54 Tgetlock { fid: u32, lock: Lock<'a> };
    /// Makes a hard link to `fid` in the directory `dfid`.
    70 Tlink { dfid: u32, fid: u32, name: Str<'a> };
    /// Makes a directory.
    72 Tmkdir { dfid: u32, name: Str<'a>, mode: u32, gid: u32 };
    /// Renames within and across directories.
    74 Trenameat { olddirfid: u32, oldname: Str<'a>, newdirfid: u32, newname: Str<'a> };
    /// Removes a name; a directory's with [`AT_REMOVEDIR`](crate::AT_REMOVEDIR).
    76 Tunlinkat { dirfid: u32, name: Str<'a>, flags: u32 };
    /// Begins a session: dialect and largest message.
    100 Tversion { msize: u32, version: Str<'a> };
    /// Asks for an authentication fid.
    102 Tauth { afid: u32, uname: Str<'a>, aname: Str<'a>, n_uname: u32 };
    /// Makes `fid` stand for the root of the export `aname`.
    104 Tattach { fid: u32, afid: u32, uname: Str<'a>, aname: Str<'a>, n_uname: u32 };
    /// Gives up on a request.
    108 Tflush { oldtag: u16 };
    /// Makes `newfid` stand for what is reached from `fid` by the names.
    110 Twalk { fid: u32, newfid: u32, names: Names<'a> };
    /// Reads from an open file.
    116 Tread { fid: u32, offset: u64, count: u32 };
    /// Writes to an open file the `count` bytes that follow.
    118 Twrite { fid: u32, offset: u64, count: u32 } + payload of count;
    /// Forgets a fid.
    120 Tclunk { fid: u32 };
    /// Removes the file and forgets the fid.
    122 Tremove { fid: u32 };
    /// Walks from `fid` as [`Tmessage::Twalk`] does, and does what `message` says with the file where that leads. The fid
    /// that `message` names is `newfid`, which stands for that file if `message` is done; or, in both, `NOFID`. Only
    /// after [`VERSION_NINERING`](crate::VERSION_NINERING).
    200 Tvisit { fid: u32, newfid: u32, names: Names<'a>, message: Inner<'a> };
}

impl Tmessage<'_> {
    /// The fids that a server must know before it can do this; [`NOFID`] where there are fewer than two. The first is
    /// the one that a [`Tvisit`](Self::Tvisit) around the message stands for.
    pub fn fids(&self) -> [u32; 2] {
        match *self {
            Self::Tlink { dfid, fid, .. } => [dfid, fid],
            Self::Trename { fid, dfid, .. } => [fid, dfid],
            Self::Trenameat { olddirfid, newdirfid, .. } => [olddirfid, newdirfid],
            Self::Tattach { afid: fid, .. }
            | Self::Tmkdir { dfid: fid, .. }
            | Self::Tunlinkat { dirfid: fid, .. }
            | Self::Tstatfs { fid }
            | Self::Tlopen { fid, .. }
            | Self::Tlcreate { fid, .. }
            | Self::Tsymlink { fid, .. }
            | Self::Tmknod { fid, .. }
            | Self::Treadlink { fid }
            | Self::Tgetattr { fid, .. }
            | Self::Tsetattr { fid, .. }
            | Self::Txattrwalk { fid, .. }
            | Self::Txattrcreate { fid, .. }
            | Self::Treaddir { fid, .. }
            | Self::Tfsync { fid, .. }
            | Self::Tlock { fid, .. }
            | Self::Tgetlock { fid, .. }
            | Self::Twalk { fid, .. }
            | Self::Tread { fid, .. }
            | Self::Twrite { fid, .. }
            | Self::Tclunk { fid }
            | Self::Tremove { fid }
            | Self::Tvisit { fid, .. } => [fid, NOFID],
            Self::Tversion { .. } | Self::Tauth { .. } | Self::Tflush { .. } => [NOFID, NOFID],
        }
    }
}

messages! {
    /// A reply.
    Rmessage;
    /// The request failed with a Linux error number.
    7 Rlerror { ecode: u32 };
    /// To [`Tmessage::Tstatfs`].
    9 Rstatfs { statfs: Far<'a, Statfs> };
    /// To [`Tmessage::Tlopen`]; `iounit` 0 means that `msize` alone is the limit.
    13 Rlopen { qid: Qid, iounit: u32 };
    /// To [`Tmessage::Tlcreate`].
    15 Rlcreate { qid: Qid, iounit: u32 };
    /// To [`Tmessage::Tsymlink`].
    17 Rsymlink { qid: Qid };
    /// To [`Tmessage::Tmknod`].
    19 Rmknod { qid: Qid };
    /// To [`Tmessage::Trename`].
    21 Rrename {};
    /// To [`Tmessage::Treadlink`].
    23 Rreadlink { target: Str<'a> };
    /// To [`Tmessage::Tgetattr`].
    25 Rgetattr { attributes: Far<'a, Attributes> };
    /// To [`Tmessage::Tsetattr`].
    27 Rsetattr {};
    /// To [`Tmessage::Txattrwalk`]: bytes of the value.
    31 Rxattrwalk { size: u64 };
    /// To [`Tmessage::Txattrcreate`].
    33 Rxattrcreate {};
    /// To [`Tmessage::Treaddir`]: whole [`DirEntry`](crate::DirEntry)s in the `count` bytes that follow.
    41 Rreaddir { count: u32 } + payload of count;
    /// To [`Tmessage::Tfsync`].
    51 Rfsync {};
    /// To [`Tmessage::Tlock`].
    53 Rlock { status: LockStatus };
    /// To [`Tmessage::Tgetlock`].
    55 Rgetlock { lock: Lock<'a> };
    /// To [`Tmessage::Tlink`].
    71 Rlink {};
    /// To [`Tmessage::Tmkdir`].
    73 Rmkdir { qid: Qid };
    /// To [`Tmessage::Trenameat`].
    75 Rrenameat {};
    /// To [`Tmessage::Tunlinkat`].
    77 Runlinkat {};
    /// To [`Tmessage::Tversion`].
    101 Rversion { msize: u32, version: Str<'a> };
    /// To [`Tmessage::Tauth`].
    103 Rauth { aqid: Qid };
    /// To [`Tmessage::Tattach`].
    105 Rattach { qid: Qid };
    /// To [`Tmessage::Tflush`].
    109 Rflush {};
    /// To [`Tmessage::Twalk`].
    111 Rwalk { qids: Qids<'a> };
    /// To [`Tmessage::Tread`]: the `count` bytes follow.
    117 Rread { count: u32 } + payload of count;
    /// To [`Tmessage::Twrite`].
    119 Rwrite { count: u32 };
    /// To [`Tmessage::Tclunk`].
    121 Rclunk {};
    /// To [`Tmessage::Tremove`].
    123 Rremove {};
    /// To [`Tmessage::Tvisit`]: as an [`Rmessage::Rwalk`]; and if that came to its end, the reply to `message`.
    201 Rvisit { qids: Qids<'a>, message: Inner<'a> };
}

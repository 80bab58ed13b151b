//! What 9P2000 and 9P2000.u tell about a file, and directories that are read as a row of that.

use core::{marker::PhantomData, ops::Deref};

use super::dialect::{Dialect, UnixOnly};
use crate::{
    Qid, QidType, Str,
    field::{Field, Reader, WireError, Writer},
};

/// A file's attributes, as in `Rstat` and in a directory; in `Twstat`, what they are to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'a, D: Dialect> {
    /// For the kernel's use; of a server, 0.
    pub kind: u16,
    /// For the kernel's use; of a server, 0.
    pub dev: u32,
    /// The file's identity.
    pub qid: Qid,
    /// Permissions and bits of [`perm`](super::perm).
    pub mode: u32,
    /// Last access, in seconds since 1970.
    pub atime: u32,
    /// Last change of the contents, in seconds since 1970.
    pub mtime: u32,
    /// Bytes; 0 of a directory.
    pub length: u64,
    /// The file's name, `/` of a root.
    pub name: Str<'a>,
    /// The owner's name.
    pub uid: Str<'a>,
    /// The group's name.
    pub gid: Str<'a>,
    /// The name of who last changed the contents.
    pub muid: Str<'a>,
    /// What else there is to know of a special file: the target of a symbolic link, the numbers of a device.
    pub extension: UnixOnly<Str<'a>, D>,
    /// The owner.
    pub n_uid: UnixOnly<u32, D>,
    /// The group.
    pub n_gid: UnixOnly<u32, D>,
    /// Who last changed the contents.
    pub n_muid: UnixOnly<u32, D>,
}

impl<D: Dialect> Stat<'_, D> {
    /// Bytes on the wire without those of the strings.
    pub const FIXED_LEN: usize = 2 + 2 + 4 + Qid::LEN + 4 + 4 + 4 + 8 + 4 * 2 + if D::IS_UNIX { 2 + 3 * 4 } else { 0 };

    /// In a `Twstat`: change nothing, of all of it. (What is durable is to be so before the reply.)
    pub fn unchanged() -> Self {
        Self {
            kind: !0,
            dev: !0,
            qid: Qid { kind: QidType(!0), version: !0, path: !0 },
            mode: !0,
            atime: !0,
            mtime: !0,
            length: !0,
            name: Str(b""),
            uid: Str(b""),
            gid: Str(b""),
            muid: Str(b""),
            extension: UnixOnly::new(Str(b"")),
            n_uid: UnixOnly::new(!0),
            n_gid: UnixOnly::new(!0),
            n_muid: UnixOnly::new(!0),
        }
    }

    /// Bytes on the wire, those of its own `size` included.
    pub fn encoded_len(&self) -> usize {
        let strings = [Some(self.name), Some(self.uid), Some(self.gid), Some(self.muid), self.extension.get()];
        Self::FIXED_LEN + strings.iter().flatten().map(|string| string.len()).sum::<usize>()
    }

    /// Writes it to the front of `buffer` and tells how many bytes it took.
    ///
    /// # Errors
    /// [`WireError::Overflow`] where it does not fit, or has more bytes than its `size` can tell; `buffer` then holds
    /// nothing of use.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, WireError> {
        let mut writer = Writer::new(buffer);
        self.write(&mut writer)?;
        Ok(writer.filled())
    }
}

/// `size[2]`, which does not count itself, and as many bytes.
impl<'a, D: Dialect> Field<'a> for Stat<'a, D> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let size = u16::read(reader)?;
        let mut fields = Reader(reader.bytes(size.into())?);
        let reader = &mut fields;
        let stat = Self {
            kind: Field::read(reader)?,
            dev: Field::read(reader)?,
            qid: Field::read(reader)?,
            mode: Field::read(reader)?,
            atime: Field::read(reader)?,
            mtime: Field::read(reader)?,
            length: Field::read(reader)?,
            name: Field::read(reader)?,
            uid: Field::read(reader)?,
            gid: Field::read(reader)?,
            muid: Field::read(reader)?,
            extension: Field::read(reader)?,
            n_uid: Field::read(reader)?,
            n_gid: Field::read(reader)?,
            n_muid: Field::read(reader)?,
        };
        if fields.0.is_empty() { Ok(stat) } else { Err(WireError::TrailingBytes) }
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        u16::try_from(self.encoded_len() - 2).map_err(|_| WireError::Overflow)?.write(writer)?;
        self.kind.write(writer)?;
        self.dev.write(writer)?;
        self.qid.write(writer)?;
        self.mode.write(writer)?;
        self.atime.write(writer)?;
        self.mtime.write(writer)?;
        self.length.write(writer)?;
        self.name.write(writer)?;
        self.uid.write(writer)?;
        self.gid.write(writer)?;
        self.muid.write(writer)?;
        self.extension.write(writer)?;
        self.n_uid.write(writer)?;
        self.n_gid.write(writer)?;
        self.n_muid.write(writer)
    }
}

/// The stat of a message: `n[2]` and as many bytes, though the stat tells its size itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<S>(pub S);

impl<S> Deref for Counted<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<'a, D: Dialect> Field<'a> for Counted<Stat<'a, D>> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let count = u16::read(reader)?;
        let mut counted = Reader(reader.bytes(count.into())?);
        let stat = Stat::read(&mut counted)?;
        if counted.0.is_empty() { Ok(Self(stat)) } else { Err(WireError::TrailingBytes) }
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        u16::try_from(self.0.encoded_len()).map_err(|_| WireError::Overflow)?.write(writer)?;
        self.0.write(writer)
    }
}

/// The stats in the payload of an `Rread` of a directory; ends after the first one that is not whole.
#[derive(Clone, Debug)]
pub struct Stats<'a, D> {
    rest: &'a [u8],
    dialect: PhantomData<D>,
}

impl<'a, D: Dialect> Stats<'a, D> {
    /// The stats in `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, dialect: PhantomData }
    }
}

impl<'a, D: Dialect> Iterator for Stats<'a, D> {
    type Item = Result<Stat<'a, D>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut reader = Reader(self.rest);
        let stat = Stat::read(&mut reader);
        self.rest = if stat.is_ok() { reader.0 } else { &[] };
        Some(stat)
    }
}

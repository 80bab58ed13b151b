//! Directory entries: what the payload of an `Rreaddir` is made of.

use crate::{
    Qid, Str,
    field::{Field, Reader, WireError, record},
};

record! {
    /// One entry of a directory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    DirEntry<'a> {
        /// The file's identity.
        qid: Qid,
        /// Where to go on after this entry: the `offset` of the next `Treaddir`.
        offset: u64,
        /// What kind of file it is: one of [`dirent_type`](crate::dirent_type).
        kind: u8,
        /// Its name.
        name: Str<'a>,
    }
}

impl DirEntry<'_> {
    /// Bytes on the wire without the name's.
    pub const FIXED_LEN: usize = Qid::LEN + 8 + 1 + 2;

    /// Bytes on the wire.
    pub fn encoded_len(&self) -> usize {
        Self::FIXED_LEN + self.name.len()
    }

    /// Writes the entry at the front of `buffer` and tells how many bytes it took.
    ///
    /// # Errors
    /// [`WireError::Overflow`] where it does not fit; `buffer` then holds nothing of use.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, WireError> {
        let (fixed, rest) = buffer.split_first_chunk_mut::<{ DirEntry::FIXED_LEN }>().ok_or(WireError::Overflow)?;
        let name = rest.get_mut(..self.name.len()).ok_or(WireError::Overflow)?;
        let length = u16::try_from(name.len()).map_err(|_| WireError::Overflow)?;
        // As its `Field` writes it, in one go: a listing has thousands.
        fixed[0] = self.qid.kind.0;
        fixed[1..5].copy_from_slice(&self.qid.version.to_le_bytes());
        fixed[5..13].copy_from_slice(&self.qid.path.to_le_bytes());
        fixed[13..21].copy_from_slice(&self.offset.to_le_bytes());
        fixed[21] = self.kind;
        fixed[22..].copy_from_slice(&length.to_le_bytes());
        name.copy_from_slice(&self.name);
        Ok(self.encoded_len())
    }
}

/// The entries in the payload of an `Rreaddir`; ends after the first one that is not whole.
#[derive(Clone, Debug)]
pub struct DirEntries<'a>(&'a [u8]);

impl<'a> DirEntries<'a> {
    /// The entries in `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }
}

impl<'a> Iterator for DirEntries<'a> {
    type Item = Result<DirEntry<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut reader = Reader(self.0);
        let entry = DirEntry::read(&mut reader);
        self.0 = if entry.is_ok() { reader.0 } else { &[] };
        Some(entry)
    }
}

//! Directory entries: what the payload of an `Rreaddir` is made of.

use crate::{
    Qid, Str,
    field::{Field, Reader, WireError, Writer, record},
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
        let mut writer = Writer::new(buffer);
        self.write(&mut writer)?;
        Ok(writer.filled())
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

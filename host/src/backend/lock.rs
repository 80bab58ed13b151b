//! Byte-range locks of open files.

use std::collections::BTreeMap;

use ninering_wire::{Errno, LockType};

use super::OpenRef;

/// Bytes of a file: from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRange {
    first: u64,
    last: u64,
}

impl LockRange {
    /// The last byte that a file can have.
    const END: u64 = i64::MAX as u64;
    /// All that a file can have.
    pub const WHOLE: Self = Self { first: 0, last: Self::END };

    /// `length` bytes from `start` on; 0 for all that there are or ever will be.
    ///
    /// # Errors
    /// `EINVAL` where `start`, `EOVERFLOW` where the end is past the largest offset that a file can have.
    pub fn new(start: u64, length: u64) -> Result<Self, Errno> {
        if start > Self::END {
            return Err(Errno::EINVAL);
        }
        let last = match length {
            0 => Self::END,
            _ => start.checked_add(length - 1).filter(|&last| last <= Self::END).ok_or(Errno::EOVERFLOW)?,
        };
        Ok(Self { first: start, last })
    }

    /// The first byte.
    pub fn start(self) -> u64 {
        self.first
    }

    /// How many bytes; 0 where it has no end.
    pub fn length(self) -> u64 {
        if self.last == Self::END { 0 } else { self.last - self.first + 1 }
    }
}

/// Which file it is, in this process: equal for two open files of one file, and for no others while both are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The filesystem: an address that it keeps.
    pub filesystem: usize,
    /// The file's number in it.
    pub number: u64,
}

/// A lock that is in the way of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockConflict {
    /// Shared or exclusive.
    pub kind: LockType,
    /// Its bytes.
    pub range: LockRange,
    /// The process on this machine that has it, where it is one process's.
    pub process: Option<u32>,
}

/// The locks of an open file, as Linux's open file descriptions have them (`F_OFD_SETLK`): those of one open file
/// replace each other where they overlap, those of two exclude each other, and they end when it is closed.
pub trait FileLocks {
    /// The file.
    fn identity(&self) -> FileIdentity;

    /// Opens the file once more, as `access` says (one of [`ninering_wire::lopen`]'s access modes): an open file with
    /// locks of its own.
    fn reopen(&self, access: u32) -> Result<OpenRef, Errno>;

    /// Takes a lock, or with [`LockType::Unlock`] gives back what there is of the range. `false` where another open
    /// file's is in the way; it does not wait for that.
    ///
    /// # Errors
    /// `EBADF` for a shared lock of a file that is not open to be read, an exclusive one of one not to be written.
    fn set_lock(&self, kind: LockType, range: LockRange) -> Result<bool, Errno>;

    /// A lock of another open file, or of a process, that is in the way of this one.
    fn find_conflict(&self, kind: LockType, range: LockRange) -> Result<Option<LockConflict>, Errno>;
}

/// Do two locks exclude each other where they overlap?
pub(crate) fn exclude_each_other(one: LockType, other: LockType) -> bool {
    let both_locked = one != LockType::Unlock && other != LockType::Unlock;
    both_locked && (one == LockType::Write || other == LockType::Write)
}

/// A value for each of some ranges, of which no two overlap.
#[derive(Debug)]
pub(crate) struct Ranges<T>(BTreeMap<u64, (u64, T)>);

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Copy + PartialEq> Ranges<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LockRange, T)> {
        self.0.iter().map(|(&first, &(last, value))| (LockRange { first, last }, value))
    }

    /// Those that overlap with `range`, in order.
    pub(crate) fn overlapping(&self, range: LockRange) -> impl Iterator<Item = (LockRange, T)> {
        let before = self.0.range(..range.first).next_back().filter(|(_, (last, _))| *last >= range.first);
        let within = self.0.range(range.first..=range.last);
        before.into_iter().chain(within).map(|(&first, &(last, value))| (LockRange { first, last }, value))
    }

    /// Takes `range` out of all.
    pub(crate) fn remove(&mut self, range: LockRange) {
        let cut: Vec<_> = self.overlapping(range).collect();
        for (old, value) in cut {
            self.0.remove(&old.first);
            if old.first < range.first {
                self.0.insert(old.first, (range.first - 1, value));
            }
            if old.last > range.last {
                self.0.insert(range.last + 1, (old.last, value));
            }
        }
    }

    /// Gives `range` this value, whatever parts of it had before.
    pub(crate) fn insert(&mut self, range: LockRange, value: T) {
        self.remove(range);
        let LockRange { mut first, mut last } = range;
        if let Some((&before, &(end, same))) = self.0.range(..first).next_back()
            && end + 1 == first
            && same == value
        {
            self.0.remove(&before);
            first = before;
        }
        if let Some(&(end, same)) = self.0.get(&(last + 1))
            && same == value
        {
            self.0.remove(&(last + 1));
            last = end;
        }
        self.0.insert(first, (last, value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_end_with_the_largest_offset() {
        let largest = i64::MAX as u64;
        assert_eq!(LockRange::new(0, 0), Ok(LockRange::WHOLE));
        assert_eq!(LockRange::new(largest, 1), Ok(LockRange { first: largest, last: largest }));
        assert_eq!(LockRange::new(largest, 2), Err(Errno::EOVERFLOW));
        assert_eq!(LockRange::new(1, u64::MAX), Err(Errno::EOVERFLOW));
        assert_eq!(LockRange::new(u64::MAX, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(LockRange::new(1 << 63, 0), Err(Errno::EINVAL));
        assert_eq!(LockRange::new(5, 7).map(LockRange::length), Ok(7));
        assert_eq!(LockRange::new(5, 0).map(LockRange::length), Ok(0));
    }

    proptest! {
        /// As an array of bytes would.
        #[test]
        fn ranges_behave_as_single_bytes(
            changes in proptest::collection::vec((0..40_u64, 1..20_u64, proptest::option::of(0..3_u8)), 1..40),
        ) {
            let (mut ranges, mut bytes) = (Ranges::default(), [None; 60]);
            for (start, length, value) in changes {
                let range = LockRange::new(start, length).unwrap();
                match value {
                    Some(value) => ranges.insert(range, value),
                    None => ranges.remove(range),
                }
                bytes[start as usize..(start + length) as usize].fill(value);
                let at = |byte: u64| ranges.overlapping(LockRange::new(byte, 1).unwrap()).map(|(_, value)| value).next();
                for (byte, expected) in bytes.iter().enumerate() {
                    prop_assert_eq!(at(byte as u64), *expected);
                }
                let runs = bytes.chunk_by(|one, other| one == other).filter(|run| run[0].is_some()).count();
                prop_assert_eq!(ranges.len(), runs);
            }
        }
    }
}

//! The cache of a mount: what it promises, and its parts.

mod counters;
pub(in crate::mount) mod names;

use std::{fmt, str::FromStr};

pub use self::{counters::CacheStatistics, names::NameStatistics};

/// What a mount keeps of files that it has read or is to write, and what it promises about them.
///
/// Whatever the mode, programs on one mount see each other's changes at once: what one of them has written, the others
/// read. The modes differ in when they see what *other* clients of the server have done, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheMode {
    /// Each read and each look at a name asks the server. What a program writes reaches the server within half a
    /// second. For files that others change at the same time.
    None,
    /// A file that is read in order is read ahead of the program, as far as the memory allows. A program sees contents
    /// that are a second old at the most; nothing is kept of what was read, or of a file that is closed. Writes are as
    /// with `None`.
    ReadAhead,
    /// Whoever opens a file after another client has closed it sees all that this client wrote, as with NFS. Contents
    /// are kept from one opening to the next if the file has not changed meanwhile, by its qid's version, its time of
    /// modification and its size; while it is open, they are not asked for again. What is written reaches the server
    /// when the file is closed or synced, after half a second, or when much has gathered, whichever is first.
    CloseToOpen,
    /// What was read once is believed for as long as there is room for it: right only where nobody else changes the
    /// files. Writes are as with `CloseToOpen`.
    Loose,
}

impl CacheMode {
    /// All modes, those that keep less before those that keep more.
    pub const ALL: [Self; 4] = [Self::None, Self::ReadAhead, Self::CloseToOpen, Self::Loose];

    /// Does it keep the contents of files beyond a read?
    pub fn keeps_contents(self) -> bool {
        matches!(self, Self::CloseToOpen | Self::Loose)
    }
}

impl fmt::Display for CacheMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::ReadAhead => "readahead",
            Self::CloseToOpen => "close-to-open",
            Self::Loose => "loose",
        })
    }
}

/// A word that is no cache mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no cache mode: write none, readahead, close-to-open or loose")]
pub struct UnknownCacheMode(String);

impl FromStr for CacheMode {
    type Err = UnknownCacheMode;

    fn from_str(text: &str) -> Result<Self, UnknownCacheMode> {
        let mode = Self::ALL.into_iter().find(|mode| mode.to_string() == text);
        mode.ok_or_else(|| UnknownCacheMode(text.into()))
    }
}

//! The cache of a mount: what it promises, and its parts.
//!
//! The *index* is the host's, so that what is in the cache is read without a call of the client; the *pages* are in the
//! mount's region. What is missing is read, and what is dirty is written, by way of the client, which is lent the pages
//! for that: single pages in the order of the file (`xarray`), folios (`folioq`), or pieces of pages (`bvec`).
//!
//! - [`CacheMode`]: what is promised.
//! - `open`: a file that a program has open; `read` and `write`: what it does with it.
//! - `index`, `file`, `folio`, `ranges`: what is where.
//!
//! The index has one lock, which is never held while anything waits or the client is called.

mod counters;
mod file;
mod folio;
mod index;
pub(in crate::mount) mod names;
mod open;
mod ranges;
mod read;
mod write;

use std::{
    fmt,
    ops::Range,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

pub(in crate::mount) use self::counters::Counters;
pub use self::{counters::CacheStatistics, names::NameStatistics};
use self::{file::Key, index::Index};
pub(crate) use self::{open::CachedFile, read::Cached};
use super::{Mount, MountOptions, buffer::BufferPool};

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
    /// modification and its size; while it is open, they are not asked for again. What is written to a remote server
    /// reaches it when the file is closed (who closes it does not wait for that) or synced, after half a second, or when
    /// much has gathered, whichever is first; with a server in this process, where no round trip is saved by it, writes
    /// are as with `None`.
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

/// How long contents are believed that were read ahead and are not kept.
const FRESH: Duration = Duration::from_secs(1);

/// The cache of one life of a mount.
pub(in crate::mount) struct Cache {
    mode: CacheMode,
    index: Mutex<Index>,
    pool: Arc<BufferPool>,
    counters: Arc<Counters>,
    /// The life has ended: nothing that is here counts any more.
    has_ended: AtomicBool,
    /// Whether anything is unwritten, for those who only want to know that.
    has_unwritten: AtomicBool,
    openings: AtomicU64,
    /// Counts what this mount has changed on the server.
    changes: AtomicU64,
    /// To ask the server costs a round trip.
    is_remote: bool,
    /// The most bytes that are read ahead at a time, and in one folio.
    largest_window: u64,
    /// A file with so many bytes that are unwritten is written back.
    enough_unwritten: u64,
    /// The most bytes that are unwritten before who writes has to wait.
    most_unwritten: u64,
    attribute_timeout: Duration,
}

impl Cache {
    /// An empty cache in the memory of `pool`; `None` where the mode keeps nothing.
    pub(in crate::mount) fn new(
        mode: CacheMode,
        options: &MountOptions,
        pool: &Arc<BufferPool>,
        counters: &Arc<Counters>,
        is_remote: bool,
    ) -> Option<Arc<Self>> {
        if mode == CacheMode::None {
            return None;
        }
        let limit = options.cache_size;
        // Far away, several messages are in flight at a time; here, what is read is to stay in the processor's caches.
        let largest_window = (limit / 16).clamp(4096, if is_remote { 4 << 20 } else { 256 << 10 });
        Some(Arc::new(Self {
            mode,
            index: Mutex::new(Index::new(Arc::clone(pool), limit, Arc::clone(counters))),
            pool: Arc::clone(pool),
            counters: Arc::clone(counters),
            has_ended: AtomicBool::new(false),
            has_unwritten: AtomicBool::new(false),
            openings: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            is_remote,
            largest_window,
            enough_unwritten: (limit / 16).clamp(4096, 1 << 20),
            most_unwritten: limit / 4,
            attribute_timeout: options.attribute_timeout,
        }))
    }

    /// The mount's life has ended.
    pub(in crate::mount) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// Does it want the attributes of each file along with its opening? Far away, they come in the same flight.
    pub(in crate::mount) fn validates_at_open(&self) -> bool {
        self.mode == CacheMode::CloseToOpen && self.is_remote
    }

    /// Is what is written kept for a while? Here, that would be one more copy and nothing saved.
    fn writes_back(&self) -> bool {
        self.mode.keeps_contents() && self.is_remote
    }

    /// A moment: attributes that were asked for after it are current as long as it [is](Self::is_now).
    pub(in crate::mount) fn moment(&self) -> Moment {
        Moment(self.changes.load(Ordering::Acquire))
    }

    /// Has this mount changed nothing on the server since?
    fn is_now(&self, moment: Moment) -> bool {
        self.moment() == moment
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Bytes of the region that it holds.
    pub(in crate::mount) fn held(&self) -> u64 {
        self.index.lock().held()
    }

    /// Is anything in it that the server does not have?
    pub(in crate::mount) fn has_unwritten(&self) -> bool {
        self.has_unwritten.load(Ordering::Acquire)
    }

    /// The size of a file was set by this mount.
    pub(in crate::mount) fn set_size(&self, path: u64, size: u64) {
        self.note_change();
        let mut index = self.index.lock();
        index.set_size(shared(path), size);
        self.has_unwritten.store(index.unwritten > 0, Ordering::Release);
    }

    /// These bytes of a file were written by this mount past the cache; `None`: behind its end, wherever that was.
    pub(in crate::mount) fn written_past(&self, path: u64, range: Option<Range<u64>>) {
        self.note_change();
        let mut index = self.index.lock();
        let Some(file) = index.files.get(&shared(path)) else { return };
        let range = range.unwrap_or(file.size..u64::MAX);
        index.drop_clean(shared(path), range);
    }

    /// Files were changed by this mount past the cache, and nobody knows which.
    pub(in crate::mount) fn all_written_past(&self) {
        self.note_change();
        let mut index = self.index.lock();
        let keys: Vec<Key> = index.files.keys().copied().collect();
        for key in keys {
            index.drop_clean(key, 0..u64::MAX);
            index.forget_if_idle(key);
        }
    }
}

/// A moment in the life of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mount) struct Moment(u64);

/// The key of a file that all who have it open share.
fn shared(path: u64) -> Key {
    (path, 0)
}

impl Mount {
    /// The cache of the mount's present life, if it keeps anything.
    pub(in crate::mount) fn cache(&self) -> Option<Arc<Cache>> {
        if self.0.mode == CacheMode::None {
            return None;
        }
        self.0.cache.lock().clone()
    }

    /// The same, if it keeps what is written.
    pub(in crate::mount) fn content_cache(&self) -> Option<Arc<Cache>> {
        if self.0.mode.keeps_contents() { self.cache() } else { None }
    }
}

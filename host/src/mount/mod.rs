//! Mounts: a 9P filesystem as a program sees it, by way of the sandboxed client.
//!
//! A [`Mount`] owns one instance of the client component, the region and ring that it drives, and the device behind
//! them: an in-process server, or a transport to a remote one. Operations are submitted to the client under a lock
//! and never wait there. An in-process server has answered when the submission returns, on the caller's own
//! thread; a remote one is awaited in tokio.
//!
//! Files and directories are [`Handle`]s. Bulk data is in [`Buffer`]s, pieces of the region: a server reads into
//! them and writes from them without a copy in between.
//!
//! A lost connection to a remote server is made again, with operations waiting: [`MountOptions::recovery`]. Whatever breaks a
//! mount (a lying server, a trap in the client, no answer in time) fails its operations with
//! [`Error::Broken`], now and until [`Mount::restart`]; other mounts don't notice.

mod authenticate;
mod buffer;
pub mod cache;
mod calls;
mod component;
mod error;
mod give_up;
mod handle;
mod life;
mod operate;
mod options;
mod recovery;
mod relay;
mod start;
mod statistics;
mod within;
mod write_behind;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ninering_wire::Errno;
use parking_lot::Mutex;
use smallvec::SmallVec;

pub(crate) use self::cache::Cached;
pub use self::{
    authenticate::{Authenticate, AuthenticationError, Conversation},
    buffer::Buffer,
    cache::{CacheMode, CacheStatistics, NameStatistics},
    component::{
        ClientComponent,
        types::{
            AttributeChanges, Attributes, DirectoryEntry, FileLock, LockKind, Qid, SetTime,
            Statistics as FilesystemStatistics, Timestamp,
        },
        vfs::{AccessMode, Entries, EntriesPlus, EntryPlus, FileVersion, LockRequest, OpenFlags, SetMode},
    },
    error::{Error, Result},
    handle::Handle,
    options::MountOptions,
    recovery::RecoveryStatistics,
    relay::Relay,
    statistics::Statistics,
    write_behind::Writer,
};
use self::{cache::names::Names, give_up::Patience, life::State, operate::Submitted};
use crate::{device::local::LocalDevice, listener::Address, server::Server};

/// Where a mount's files come from.
#[derive(Clone)]
enum Origin {
    Server(Arc<Server>),
    Remote(Address),
}

/// A mounted filesystem. Clones share it.
#[derive(Clone)]
pub struct Mount(Arc<Shared>);

struct Shared {
    origin: Origin,
    options: MountOptions,
    state: Mutex<State>,
    /// The server closes the connection when it is asked for an extension, and is not asked any more.
    plain: AtomicBool,
    unwritten: write_behind::Registry,
    /// What is believed of names and attributes, in modes that keep any.
    names: Option<Names>,
    /// What the cache is to keep.
    mode: CacheMode,
    /// That of the present life.
    cache: Mutex<Option<Arc<cache::Cache>>>,
    cached: Arc<cache::Counters>,
    operations: AtomicU64,
    removals: AtomicU64,
    /// How often contents were changed, by the lowest bits of the file's qid.
    contents: [AtomicU64; 64],
    copied: AtomicU64,
    /// Names this mount in locks.
    client_id: String,
    /// Locks that are waited for.
    waiting_locks: AtomicUsize,
}

/// How long a mount that is to end waits for answers that nobody else waits for.
const FAREWELL: Duration = Duration::from_secs(1);

/// What an operation reads into or writes from, in this order.
type Buffers = SmallVec<[Buffer; 1]>;

impl Mount {
    /// Mounts what a server in this process serves. Nothing is ever waited for on such a mount.
    ///
    /// # Errors
    /// The server's refusal, or why the client could not be started.
    pub fn local(server: Arc<Server>, options: MountOptions) -> Result<Self> {
        let mount = Self::unborn(Origin::Server(Arc::clone(&server)), options);
        let session = server.session();
        match mount.submit_start(|queue| Ok(Box::new(LocalDevice::new(queue, session))))? {
            Submitted::Complete((outcome, ..)) => mount.started(outcome)?,
            Submitted::Pending(..) => return Err(Error::broken("the in-process server did not answer at once")),
        }
        Ok(mount)
    }

    /// Mounts what a remote server exports. Must be called in a tokio runtime, in which the connection then lives.
    ///
    /// # Errors
    /// Why there is no connection, or the server's refusal.
    pub async fn remote(address: Address, options: MountOptions) -> Result<Self> {
        let mount = Self::unborn(Origin::Remote(address.clone()), options);
        mount.connect(&address).await?;
        Ok(mount)
    }

    /// Begins anew after the mount broke: connects again, with a new instance of the client. Handles made before are
    /// stale and say so (`ESTALE`).
    ///
    /// # Errors
    /// As when the mount was made.
    pub async fn restart(&self) -> Result<()> {
        match &self.0.origin {
            Origin::Server(server) => {
                let session = server.session();
                let submitted = self.submit_start(|queue| Ok(Box::new(LocalDevice::new(queue, session))))?;
                self.started(self.outcome(submitted, Patience::Timeout).await.0)
            }
            Origin::Remote(address) => self.connect(address).await,
        }
    }

    /// What the mount is allowed and how it was made.
    pub fn options(&self) -> &MountOptions {
        &self.0.options
    }

    /// What is kept of files here.
    pub fn cache_mode(&self) -> CacheMode {
        self.0.mode
    }

    /// A number that tells this mount from others of the process.
    pub fn identity(&self) -> u64 {
        Arc::as_ptr(&self.0).addr() as u64
    }

    /// Why the mount is broken, if it is.
    pub fn broken(&self) -> Option<Arc<str>> {
        self.0.state.lock().life.as_ref().err().cloned()
    }

    /// The counters.
    pub fn statistics(&self) -> Statistics {
        // Before the other lock is taken.
        let held = self.cache().map_or(0, |cache| cache.held());
        let cache = CacheStatistics { held_bytes: held, ..self.0.cached.statistics() };
        let mut state = self.0.state.lock();
        let past = state.past;
        let ring = match &mut state.life {
            Ok(life) => past.plus(life.statistics()),
            Err(_) => past,
        };
        let names = self.0.names.as_ref().map(Names::statistics).unwrap_or_default();
        Statistics {
            operations: self.operations(),
            copied_bytes: self.0.copied.load(Ordering::Relaxed),
            cache,
            names,
            ..ring
        }
    }

    /// Waits until there are as many answers as there are requests now, but not for long.
    async fn settle(&self) {
        let progress = || {
            let mut state = self.0.state.lock();
            // There need be no interrupt for what nobody waits for.
            state.reap();
            state.life.as_ref().map_or((0, u64::MAX), life::Life::progress)
        };
        let (requests, _) = progress();
        // Whoever is not answered by then will do without.
        let _ = tokio::time::timeout(FAREWELL, async {
            while progress().1 < requests {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// How many operations were submitted so far. As long as it stays the same, nothing was done by this mount.
    pub(crate) fn operations(&self) -> u64 {
        self.0.operations.load(Ordering::Relaxed)
    }

    /// How many names were removed or renamed by this mount so far.
    pub(crate) fn removals(&self) -> u64 {
        self.0.removals.load(Ordering::Relaxed)
    }

    /// A number that changes when the contents of the file whose qid has this `path` are changed by this mount.
    pub(crate) fn contents(&self, path: u64) -> u64 {
        self.0.contents(path).load(Ordering::Acquire)
    }

    /// This mount changes the contents of the file whose qid has this `path`, or has changed them.
    fn note_contents(&self, path: u64) {
        self.0.contents(path).fetch_add(1, Ordering::AcqRel);
    }

    /// The same of any file.
    fn note_all_contents(&self) {
        for count in &self.0.contents {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Counts payload bytes that were copied between the region and a program's memory.
    pub(crate) fn count_copied(&self, bytes: usize) {
        self.0.copied.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Is its server in another process?
    fn is_remote(&self) -> bool {
        matches!(self.0.origin, Origin::Remote(_))
    }

    /// What it calls itself in locks.
    fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// The root directory.
    pub fn root(&self) -> Handle {
        Handle::root(self.clone())
    }

    /// A buffer of `len` bytes for an operation on this mount; of fewer where memory is scarce, but at least of
    /// a page. Waits where all of the region is in use.
    ///
    /// # Errors
    /// The mount is broken.
    pub async fn buffer(&self, len: usize) -> Result<Buffer> {
        let pool = match &self.0.state.lock().life {
            Ok(life) => Arc::clone(&life.pool),
            Err(reason) => return Err(Error::Broken(Arc::clone(reason))),
        };
        let most = (pool.region().size() / 8).min(1 << 20);
        let len = u32::try_from((len as u64).min(most)).unwrap_or(u32::MAX);
        if let Some(buffer) = pool.try_take(len) {
            return Ok(buffer);
        }
        let waiting = Box::pin(tokio::time::timeout(self.0.options.timeout, pool.take(len)));
        waiting.await.map_err(|_| Error::Errno(Errno::ENOBUFS))
    }

    /// A buffer of `len` bytes if there is room for it now.
    pub fn try_buffer(&self, len: usize) -> Option<Buffer> {
        match &self.0.state.lock().life {
            Ok(life) => life.pool.try_take(u32::try_from(len).ok()?),
            Err(_) => None,
        }
    }
}

impl Shared {
    /// The device's interrupt.
    fn interrupted(&self) {
        self.state.lock().reap();
    }

    fn contents(&self, path: u64) -> &AtomicU64 {
        &self.contents[(path % 64) as usize]
    }
}

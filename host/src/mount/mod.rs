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
mod give_up;
mod handle;
mod recovery;
mod relay;
mod write_behind;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ninering_wire::Errno;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use wasmtime::{Store, component::Resource};

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
    handle::Handle,
    recovery::RecoveryStatistics,
    relay::Relay,
    write_behind::Writer,
};
use self::{
    buffer::BufferPool,
    cache::names::Names,
    calls::{Begun, Yield},
    component::{Guest, MountComponent, QueueHandle, RegionHandle, Sandbox, Template, client, memory::Extent, vfs},
    give_up::{NoOutcome, Operation, Patience, Waiter},
};
use crate::{
    device::{Device, local::LocalDevice, remote::RemoteDevice},
    lease::Leases,
    listener::Address,
    region::Region,
    server::{Server, Session},
    virtqueue::{DeviceQueue, Driver, Features},
};

/// What a mount may use, and how long it may take.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Which of the server's exports.
    pub aname: String,
    /// Who the files are accessed as, by name.
    pub uname: String,
    /// The same by number.
    pub uid: Option<u32>,
    /// The largest message to ask the server for, in bytes.
    pub msize: u32,
    /// Nothing may be changed through this mount.
    pub read_only: bool,
    /// How long a server may take to answer, or to be connected to.
    pub timeout: Duration,
    /// How long to try to connect again when the connection to a remote server is lost; operations wait meanwhile. With
    /// none, the mount breaks at once.
    pub recovery: Duration,
    /// Bytes of the region: all buffers of all operations under way.
    pub region_size: u64,
    /// What is kept of files; `None` for what is safe: nothing of an in-process server's, `CloseToOpen` of a remote one's.
    pub cache: Option<CacheMode>,
    /// Bytes of file contents that are kept at the most. They are in the region too, beside `region_size`, and take up
    /// memory once they are used.
    pub cache_size: u64,
    /// How long attributes and names, and that a name is not there, are believed where the cache mode keeps any.
    pub attribute_timeout: Duration,
    /// Descriptors in the ring: a power of two.
    pub queue_size: u16,
    /// The ring's two sides say when they want to be notified next, where the device offers it (`VIRTIO_F_EVENT_IDX`).
    pub event_index: bool,
    /// Requests may have descriptor tables of their own, so that a small ring holds more of them
    /// (`VIRTIO_F_INDIRECT_DESC`).
    pub indirect_descriptors: bool,
    /// Bytes of memory that the client may use itself.
    pub client_memory: usize,
    /// Who authenticates the user to a server that wants it. Without, no server is asked whether it does.
    pub authenticate: Option<Arc<dyn Authenticate>>,
    /// Another client than the built-in one.
    pub client: Option<ClientComponent>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            aname: String::new(),
            uname: String::new(),
            uid: None,
            msize: (1 << 20) + 4096,
            read_only: false,
            timeout: Duration::from_secs(30),
            recovery: Duration::from_secs(30),
            region_size: 64 << 20,
            cache: None,
            cache_size: 64 << 20,
            attribute_timeout: Duration::from_secs(1),
            queue_size: 64,
            event_index: true,
            indirect_descriptors: true,
            client_memory: 32 << 20,
            authenticate: None,
            client: None,
        }
    }
}

impl MountOptions {
    /// What is wanted of the ring.
    fn features(&self) -> Features {
        let wanted = [(self.event_index, Features::EVENT_INDEX), (self.indirect_descriptors, Features::INDIRECT)];
        let wanted = wanted.into_iter().filter(|(is_wanted, _)| *is_wanted);
        wanted.fold(Features::VERSION_1, |features, (_, feature)| features.and(feature))
    }
}

/// Why an operation on a mount failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The server, or the path, says so.
    #[error("{0}")]
    Errno(#[from] Errno),
    /// The mount is broken; why.
    #[error("the mount is broken: {0}")]
    Broken(Arc<str>),
}

impl Error {
    /// The errno that a program is to see.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Errno(errno) => *errno,
            Self::Broken(_) => Errno::EIO,
        }
    }

    fn broken(reason: impl Into<Arc<str>>) -> Self {
        Self::Broken(reason.into())
    }
}

/// The outcome of an operation on a mount.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Counters of a mount, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Filesystem operations submitted to the client.
    pub operations: u64,
    /// 9P requests that went through the ring.
    pub requests: u64,
    /// Times that the device was told of new requests.
    pub kicks: u64,
    /// Times that it had not to be told, for it was at work.
    pub kicks_suppressed: u64,
    /// Times that the mount was told of replies. In-process servers reply within the kick.
    pub interrupts: u64,
    /// Times that it had not to be told, for it was at work.
    pub interrupts_suppressed: u64,
    /// Payload bytes that the device took from the ring's extents.
    pub bytes_out: u64,
    /// Payload bytes that the device put into the ring's extents.
    pub bytes_in: u64,
    /// Bytes of message headers, both ways.
    pub header_bytes: u64,
    /// Metadata bytes that the client copied out of or into the region (directory entries).
    pub bounced_bytes: u64,
    /// Payload bytes that were copied between the region and a program's memory.
    pub copied_bytes: u64,
    /// Payload bytes that were an argument or a result of a call of the client, or copied by it: always 0.
    pub payload_through_wit: u64,
    /// What the cache did.
    pub cache: CacheStatistics,
    /// What was asked about names and attributes.
    pub names: NameStatistics,
    /// What was done about lost connections.
    pub recovery: RecoveryStatistics,
}

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

struct State {
    /// Which life of the mount this is; handles of an earlier one are stale.
    incarnation: u32,
    life: std::result::Result<Life, Arc<str>>,
    /// What former lives counted.
    past: Statistics,
}

/// One life of a mount: from its start to what breaks it.
struct Life {
    sandbox: Sandbox,
    pool: Arc<BufferPool>,
    pending: HashMap<u32, Pending<vfs::Value>>,
    /// The same of 9P calls.
    calls: HashMap<u32, Pending<client::RMessage>>,
    /// Buffers of operations that ended before the device was done with their memory.
    retired: Vec<Buffer>,
    cache: Option<Arc<cache::Cache>>,
    /// How it stands with the connection.
    standing: recovery::Standing,
}

/// An operation under way.
struct Pending<T> {
    reply: oneshot::Sender<(Result<T>, Buffers)>,
    buffers: Buffers,
    /// Tells it from others that have or had its token.
    serial: u64,
}

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
        tokio::time::timeout(self.0.options.timeout, pool.take(len)).await.map_err(|_| Error::Errno(Errno::ENOBUFS))
    }

    /// A buffer of `len` bytes if there is room for it now.
    pub fn try_buffer(&self, len: usize) -> Option<Buffer> {
        match &self.0.state.lock().life {
            Ok(life) => life.pool.try_take(u32::try_from(len).ok()?),
            Err(_) => None,
        }
    }

    fn unborn(origin: Origin, options: MountOptions) -> Self {
        let state = State { incarnation: 0, life: Err("not started".into()), past: Statistics::default() };
        let mode = options.cache.unwrap_or(match origin {
            Origin::Server(_) => CacheMode::None,
            Origin::Remote(_) => CacheMode::CloseToOpen,
        });
        let names = Names::new(mode, options.attribute_timeout);
        Self(Arc::new(Shared {
            origin,
            mode,
            cache: Mutex::default(),
            cached: Arc::default(),
            options,
            state: Mutex::new(state),
            plain: AtomicBool::new(false),
            unwritten: Default::default(),
            names,
            operations: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            contents: [const { AtomicU64::new(0) }; 64],
            copied: AtomicU64::new(0),
            client_id: client_id(),
            waiting_locks: AtomicUsize::new(0),
        }))
    }

    async fn connect(&self, address: &Address) -> Result<()> {
        let before = self.statistics().requests;
        let connected = self.connect_once(address).await;
        // Some servers close the connection when they are asked for a version that they have never heard of.
        let was_refused = matches!(connected, Err(Error::Broken(_))) && self.statistics().requests == before + 1;
        if !was_refused || self.0.plain.swap(true, Ordering::Relaxed) {
            return connected;
        }
        let connected = self.connect_once(address).await;
        if connected.is_err() {
            // That was not the reason.
            self.0.plain.store(false, Ordering::Relaxed);
        }
        connected
    }

    async fn connect_once(&self, address: &Address) -> Result<()> {
        let stream = crate::device::remote::connect(address, self.0.options.timeout)
            .await
            .map_err(|error| Error::broken(error.to_string()))?;
        let interrupt = self.0.interrupt();
        let submitted = self.submit_start(|queue| Ok(Box::new(RemoteDevice::start(queue, stream, interrupt))))?;
        let started = self.outcome(submitted, Patience::ToTheEnd).await.0?;
        let attached = self.authenticate(started).await;
        if let Err(Error::Broken(reason)) = &attached {
            self.0.state.lock().bury(Arc::clone(reason));
        }
        self.started(attached)?;
        if let Ok(life) = &mut self.0.state.lock().life {
            life.standing.is_started = true;
        }
        // It may be lost already.
        recovery::look(&self.0);
        Ok(())
    }

    /// A life of the mount has begun, or not.
    fn started(&self, outcome: Result<vfs::Value>) -> Result<()> {
        match outcome? {
            vfs::Value::Qid(root) => {
                if let Some(names) = &self.0.names {
                    names.begin(root.path);
                }
                Ok(())
            }
            _ => Err(Error::broken("the client answered an operation with another's value")),
        }
    }

    /// Brings up an instance with a device of its own and submits the session's first messages.
    fn submit_start(&self, device: impl FnOnce(DeviceQueue) -> Result<Box<dyn Device>>) -> Result<Submitted> {
        let options = &self.0.options;
        let cannot = |what: &str, error: &dyn std::fmt::Display| Error::broken(format!("{what}: {error:#}"));
        let template = match &options.client {
            Some(client) => Arc::clone(&client.0),
            None => Template::shared().map_err(|error| cannot("the client cannot be compiled", &error))?,
        };
        let local = matches!(self.0.origin, Origin::Server(_));
        let offered = if local { LocalDevice::<Session>::FEATURES } else { RemoteDevice::FEATURES };
        let features = offered
            .negotiate(options.features())
            .map_err(|error| cannot("the device and the mount cannot agree", &error))?;
        let cache_size = if self.0.mode == CacheMode::None { 0 } else { options.cache_size };
        let region = Region::new(options.region_size.saturating_add(cache_size))
            .map_err(|error| cannot("no memory for the region", &error))?;
        let (driver, queue) = Driver::with_features(Arc::clone(&region), options.queue_size, features)
            .map_err(|error| cannot("no ring can be made in the region", &error))?;
        let leases = Leases::new(Arc::clone(&region), options.region_size / 4);
        let guest = Guest::new(&template, Arc::clone(&region), leases, driver, device(queue)?, options.client_memory);
        let sandbox = Sandbox::new(&template, guest).map_err(|error| cannot("the client cannot be started", &error))?;
        let pool = BufferPool::new(region);
        let is_remote = matches!(self.0.origin, Origin::Remote(_));
        let cache = cache::Cache::new(self.0.mode, options, &pool, &self.0.cached, is_remote);
        *self.0.cache.lock() = cache.clone();
        let life = Life {
            sandbox,
            pool,
            pending: HashMap::new(),
            calls: HashMap::new(),
            retired: Vec::new(),
            cache,
            standing: Default::default(),
        };
        {
            let mut state = self.0.state.lock();
            state.bury(Arc::from("the mount was restarted"));
            state.incarnation += 1;
            state.life = Ok(life);
        }
        let start = vfs::Options {
            aname: options.aname.clone(),
            uname: options.uname.clone(),
            n_uname: options.uid.unwrap_or(ninering_wire::NONUNAME),
            msize: options.msize,
            ordered: local,
            plain: self.0.plain.load(Ordering::Relaxed),
            immediate: local,
            authenticate: options.authenticate.is_some(),
            client_id: self.0.client_id.clone(),
            recover: !local && !options.recovery.is_zero(),
        };
        let submitted = self.submit(None, Buffers::new(), |exports, store, _| {
            let (region, queue) = (Resource::<RegionHandle>::new_own(0), Resource::<QueueHandle>::new_own(0));
            exports.ninering_fs_vfs().call_start(store, region, queue, &start).map(Begun::from)
        });
        Ok(submitted)
    }

    /// Submits an operation and waits for its outcome.
    ///
    /// `incarnation` is the life in which the handle it is about was made, `buffers` what it reads or writes.
    async fn operate(
        &self,
        incarnation: Option<u32>,
        buffers: Buffers,
        call: impl FnOnce(&vfs::Guest, &mut Store<Guest>, &[Extent]) -> wasmtime::Result<vfs::Outcome>,
    ) -> Completion {
        self.operate_with(Patience::Timeout, incarnation, buffers, call).await
    }

    /// The same with more patience than most have.
    async fn operate_with(
        &self,
        patience: Patience,
        incarnation: Option<u32>,
        buffers: Buffers,
        call: impl FnOnce(&vfs::Guest, &mut Store<Guest>, &[Extent]) -> wasmtime::Result<vfs::Outcome>,
    ) -> Completion {
        let submitted = self.submit(incarnation, buffers, |exports, store, extents| {
            call(exports.ninering_fs_vfs(), store, extents).map(Begun::from)
        });
        self.outcome(submitted, patience).await
    }

    async fn outcome<T: Yield>(&self, submitted: Submitted<T>, patience: Patience) -> Completion<T> {
        let (reply, operation) = match submitted {
            Submitted::Complete(completion) => return completion,
            Submitted::Pending(reply, operation) => (reply, operation),
        };
        let incarnation = operation.incarnation;
        let mut waiter = Waiter { mount: self, operation, reply: Some(reply), patience };
        match waiter.wait().await {
            Ok((outcome, buffers)) => (outcome, buffers, incarnation),
            Err(NoOutcome::Dropped) => {
                let reason = self.broken().unwrap_or_else(|| "the operation was dropped".into());
                (Err(Error::Broken(reason)), Buffers::new(), incarnation)
            }
            Err(NoOutcome::Timeout) => {
                let reason: Arc<str> = format!("the server did not answer within {:?}", self.0.options.timeout).into();
                let mut state = self.0.state.lock();
                if state.incarnation == incarnation {
                    state.bury(Arc::clone(&reason));
                }
                (Err(Error::Broken(reason)), Buffers::new(), incarnation)
            }
        }
    }

    /// Is the connection lost, and how often was it made again?
    fn recoveries(&self) -> (bool, u64) {
        match &self.0.state.lock().life {
            Ok(life) => (life.standing.is_recovering, life.standing.recoveries),
            Err(_) => (false, 0),
        }
    }

    /// Calls the client. Whatever it does, this returns: with the outcome, or with where the outcome will come.
    fn submit<T: Yield>(
        &self,
        incarnation: Option<u32>,
        buffers: Buffers,
        call: impl FnOnce(&MountComponent, &mut Store<Guest>, &[Extent]) -> wasmtime::Result<Begun<T>>,
    ) -> Submitted<T> {
        let mut state = self.0.state.lock();
        let current = state.incarnation;
        let life = match &mut state.life {
            Ok(life) => life,
            Err(reason) => return Submitted::Complete((Err(Error::Broken(Arc::clone(reason))), buffers, current)),
        };
        let foreign = buffers.iter().any(|buffer| !buffer.is_of(&life.pool));
        if foreign || incarnation.is_some_and(|incarnation| incarnation != current) {
            return Submitted::Complete((Err(Errno::ESTALE.into()), buffers, current));
        }
        let serial = self.0.operations.fetch_add(1, Ordering::Relaxed);
        let mut extents: SmallVec<[Extent; 1]> = SmallVec::new();
        for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
            if !life.sandbox.store.data_mut().leases.lend(buffer.extent()) {
                let leases = &mut life.sandbox.store.data_mut().leases;
                for extent in extents {
                    leases.revoke(extent.into());
                }
                return Submitted::Complete((Err(Errno::ENOMEM.into()), Buffers::new(), current));
            }
            extents.push(buffer.extent().into());
        }
        life.sandbox.begin_call();
        let submitted = match call(&life.sandbox.exports, &mut life.sandbox.store, &extents) {
            Ok(Begun::Complete(outcome)) => {
                let buffers = life.take_back(buffers);
                Submitted::Complete((state.judge(outcome), buffers, current))
            }
            Ok(Begun::Pending(token)) => {
                let (reply, receiver) = oneshot::channel();
                T::pending(life).insert(token, Pending { reply, buffers, serial });
                Submitted::Pending(receiver, Operation { incarnation: current, token, serial })
            }
            Err(trap) => Submitted::Complete((Err(state.trapped(&trap)), Buffers::new(), current)),
        };
        state.reap_taken();
        submitted
    }

    /// Tells the client that nobody needs a node any more.
    fn close(&self, incarnation: u32, node: vfs::Node) {
        let mut state = self.0.state.lock();
        if state.incarnation != incarnation {
            return;
        }
        let Ok(life) = &mut state.life else { return };
        life.sandbox.begin_call();
        if let Err(trap) = life.sandbox.exports.ninering_fs_vfs().call_close(&mut life.sandbox.store, node) {
            state.trapped(&trap);
        }
        state.reap_taken();
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

impl State {
    /// The device has used chains: lets the client take them, and hands out what is complete by them.
    fn reap(&mut self) {
        loop {
            self.reap_operations();
            self.reap_calls();
            if !self.may_have_completed_others() {
                return;
            }
        }
    }

    /// Lets operations of others go on that are complete by what a call of the client took from the ring.
    fn reap_taken(&mut self) {
        if self.may_have_completed_others() {
            self.reap();
        }
    }

    fn may_have_completed_others(&mut self) -> bool {
        let Ok(life) = &mut self.life else { return false };
        life.sandbox.store.data_mut().has_taken() && !(life.pending.is_empty() && life.calls.is_empty())
    }

    /// The same as [`Self::reap_calls`] of filesystem operations.
    fn reap_operations(&mut self) {
        let Ok(life) = &mut self.life else { return };
        life.sandbox.begin_call();
        let completions = match life.sandbox.exports.ninering_fs_vfs().call_reap(&mut life.sandbox.store) {
            Ok(completions) => completions,
            Err(trap) => {
                self.trapped(&trap);
                return;
            }
        };
        life.sandbox.store.data_mut().has_taken();
        for vfs::Completion { token, outcome } in completions {
            let Ok(life) = &mut self.life else { return };
            let Some(Pending { reply, buffers, .. }) = life.pending.remove(&token) else {
                self.bury("the client completed an operation that was not under way".into());
                return;
            };
            let buffers = life.take_back(buffers);
            let outcome = self.judge(outcome);
            if let Err((Ok(vfs::Value::Opened(opened)), _)) = reply.send((outcome, buffers)) {
                // Who asked for it is gone: nobody will close it.
                let Ok(life) = &mut self.life else { return };
                let vfs = life.sandbox.exports.ninering_fs_vfs();
                if let Err(trap) = vfs.call_close(&mut life.sandbox.store, opened.node) {
                    self.trapped(&trap);
                    return;
                }
            }
        }
    }

    /// What an operation's outcome means to the caller; a broken session breaks the mount.
    fn judge<T>(&mut self, outcome: std::result::Result<T, vfs::Error>) -> Result<T> {
        match outcome {
            Ok(value) => Ok(value),
            Err(vfs::Error::Errno(errno)) => Err(Error::Errno(Errno(errno))),
            Err(vfs::Error::Broken(reason)) => {
                // The transport knows better than the client why replies are missing.
                let device = self.life.as_ref().ok().and_then(|life| life.sandbox.store.data().device.broken());
                let reason: Arc<str> = device.unwrap_or(reason).into();
                self.bury(Arc::clone(&reason));
                Err(Error::Broken(reason))
            }
        }
    }

    /// The client trapped: the mount is broken.
    fn trapped(&mut self, trap: &wasmtime::Error) -> Error {
        tracing::error!(error = ?trap, "the client component failed");
        let reason: Arc<str> = format!("the client failed: {}", trap.root_cause()).into();
        self.bury(Arc::clone(&reason));
        Error::Broken(reason)
    }

    /// Ends the present life, and with it all that is under way.
    fn bury(&mut self, reason: Arc<str>) {
        let Ok(life) = &mut self.life else { return };
        tracing::debug!(%reason, "the mount's life ends");
        if let Some(cache) = &life.cache {
            cache.end();
        }
        self.past = self.past.plus(life.statistics());
        // First of all, so that nobody gets memory that a device is still filling.
        life.sandbox.store.data_mut().device.close();
        for (_, pending) in life.pending.drain() {
            // Who does not wait any more does not mind.
            let _ = pending.reply.send((Err(Error::Broken(Arc::clone(&reason))), Buffers::new()));
        }
        for (_, pending) in life.calls.drain() {
            let _ = pending.reply.send((Err(Error::Broken(Arc::clone(&reason))), Buffers::new()));
        }
        self.life = Err(reason);
    }
}

impl Life {
    /// Ends the loan of buffers. Those whose memory the device may still use are kept back; then none come back.
    fn take_back(&mut self, buffers: Buffers) -> Buffers {
        let leases = &mut self.sandbox.store.data_mut().leases;
        if !self.retired.is_empty() {
            self.retired.retain(|buffer| leases.is_in_flight(buffer.extent()));
            // The leases keep the same account; left alone it would grow.
            leases.retired().for_each(drop);
        }
        let mut all_free = true;
        for buffer in &buffers {
            all_free &= buffer.is_empty() || leases.revoke(buffer.extent());
        }
        if all_free {
            return buffers;
        }
        self.retired.extend(buffers);
        Buffers::new()
    }

    fn statistics(&mut self) -> Statistics {
        let recovery = self.recovered();
        let guest = self.sandbox.store.data();
        let ring = guest.driver.statistics();
        let device = guest.device.statistics();
        Statistics {
            operations: 0,
            requests: ring.requests,
            kicks: ring.kicks,
            kicks_suppressed: ring.kicks_suppressed,
            interrupts: device.interrupts,
            interrupts_suppressed: device.interrupts_suppressed,
            bytes_out: ring.bytes_out,
            bytes_in: ring.bytes_in,
            header_bytes: ring.header_bytes,
            bounced_bytes: guest.bounced,
            copied_bytes: 0,
            payload_through_wit: guest.payload_through_wit,
            cache: CacheStatistics::default(),
            names: NameStatistics::default(),
            recovery,
        }
    }
}

impl Statistics {
    fn plus(self, other: Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            requests: self.requests + other.requests,
            kicks: self.kicks + other.kicks,
            kicks_suppressed: self.kicks_suppressed + other.kicks_suppressed,
            interrupts: self.interrupts + other.interrupts,
            interrupts_suppressed: self.interrupts_suppressed + other.interrupts_suppressed,
            bytes_out: self.bytes_out + other.bytes_out,
            bytes_in: self.bytes_in + other.bytes_in,
            header_bytes: self.header_bytes + other.header_bytes,
            bounced_bytes: self.bounced_bytes + other.bounced_bytes,
            copied_bytes: self.copied_bytes + other.copied_bytes,
            payload_through_wit: self.payload_through_wit + other.payload_through_wit,
            cache: self.cache.plus(other.cache),
            // They are the mount's, not a life's.
            names: other.names,
            recovery: self.recovery.plus(other.recovery),
        }
    }
}

/// An operation's outcome, its buffers (unless the device may still use them), and the life it belonged to.
type Completion<T = vfs::Value> = (Result<T>, Buffers, u32);

/// What became of a submission.
enum Submitted<T = vfs::Value> {
    /// It is done.
    Complete(Completion<T>),
    /// It will be.
    Pending(oneshot::Receiver<(Result<T>, Buffers)>, Operation),
}

impl<T> Submitted<T> {
    /// Is there nothing to wait for?
    fn is_complete(&self) -> bool {
        matches!(self, Self::Complete(_))
    }
}

/// A name for a mount that no other mount has, on this machine or, as far as machines have names, elsewhere.
fn client_id() -> String {
    static MOUNTS: AtomicUsize = AtomicUsize::new(0);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Linux's names have at most 64 bytes.
    let host: String = host.trim().chars().take(64).filter(char::is_ascii_graphic).collect();
    format!("{host}:{}:{}", std::process::id(), MOUNTS.fetch_add(1, Ordering::Relaxed))
}

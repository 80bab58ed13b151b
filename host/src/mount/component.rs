//! The sandboxed client, and what it is allowed to call: the region and the virtqueue, nothing else.
//!
//! [`Sandbox`] is one instance in a store of its own, with limits. Whatever it does wrong (a trap, a hang, too much
//! memory) ends this instance and no other.

use std::{
    slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ninering_wire::{RREAD_LEN, TWRITE_LEN};
use parking_lot::Mutex;
use smallvec::SmallVec;
use wasmtime::{
    Config, Engine, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline,
    component::{Component, HasSelf, Linker, Resource},
};

use crate::{
    device::Device,
    lease::{self, Leases},
    region::{Extent, Region},
    virtqueue as ring,
};

mod bindings {
    #![allow(missing_docs, unreachable_pub, reason = "generated; what the WIT documents is documented")]

    wasmtime::component::bindgen!({
        path: "../wit",
        world: "mount-component",
        with: {
            "ninering:fs/memory.region": crate::mount::component::RegionHandle,
            "ninering:fs/virtqueue.virtqueue": crate::mount::component::QueueHandle,
        },
        imports: { default: trappable },
    });
}

pub(crate) use self::bindings::exports::ninering::fs::client;
pub(super) use self::bindings::{
    MountComponent,
    exports::ninering::fs::vfs,
    ninering::fs::{memory, types},
};
use self::bindings::{
    MountComponentPre,
    ninering::fs::{
        memory::MemoryError,
        virtqueue::{
            self, BriefReply, EightWords, LongReply, Payload, QueueError, Replies, Returned, Submitted, UsedChain,
        },
    },
};

/// The client and iter components, composed: built from `components/` by the build script.
static CLIENT_COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/client.wasm"));

/// How often the epoch advances: the unit in which a component's time is counted.
const TICK: Duration = Duration::from_millis(10);
/// How long a component may compute in one call, in ticks. It never waits there, so this is a hang.
const CALL_TICKS: u64 = 500;
/// The number of the queue: there is one.
const QUEUE: u32 = 0;
/// The most bytes that `region.read` and `region.write` copy in one call.
const MOST_BOUNCED: usize = 65_536;

/// What stands for the region in the component's handle table. There is one region to a store.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct RegionHandle;
/// What stands for the virtqueue in the component's handle table. There is one queue to a store.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct QueueHandle;

/// The compiled client, ready to be instantiated: one for all mounts of a process.
pub(super) struct Template {
    engine: Engine,
    instance: MountComponentPre<Guest>,
    ticks: Arc<AtomicU64>,
}

impl Template {
    /// The process's template; compiles the client on the first call, or loads it from `cache`.
    pub(super) fn shared() -> wasmtime::Result<Arc<Self>> {
        static SHARED: Mutex<Option<Arc<Template>>> = Mutex::new(None);
        let mut shared = SHARED.lock();
        match &*shared {
            Some(template) => Ok(Arc::clone(template)),
            None => Ok(Arc::clone(shared.insert(Arc::new(Self::new(CLIENT_COMPONENT)?)))),
        }
    }

    fn new(client: &[u8]) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        // Nothing in these components waits, so they need no fibers and no async tasks; without them a call costs a third.
        config.concurrency_support(false);
        config.epoch_interruption(true);
        config.memory_init_cow(true);
        config.cache(crate::program::compilation_cache());
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, client)?;
        let mut linker = Linker::new(&engine);
        MountComponent::add_to_linker::<Guest, HasSelf<Guest>>(&mut linker, |guest| guest)?;
        let instance = MountComponentPre::new(linker.instantiate_pre(&component)?)?;
        let ticks = Arc::new(AtomicU64::new(0));
        let weak = engine.weak();
        let counter = Arc::clone(&ticks);
        std::thread::Builder::new().name("ninering-epoch".into()).stack_size(64 << 10).spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                counter.fetch_add(1, Ordering::Relaxed);
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
        Ok(Self { engine, instance, ticks })
    }
}

/// A client of one's own, to be used in place of the built-in one: a component of the world `mount-component`.
///
/// Whatever it does, it does to the mount that it is used for: it has a store of its own, so much memory and time, and
/// reaches nothing but its ring and what of the region is leased to it.
#[derive(Clone)]
pub struct ClientComponent(pub(super) Arc<Template>);

impl ClientComponent {
    /// Compiles it.
    ///
    /// # Errors
    /// It is no component of that world, or the machine cannot run WebAssembly; why, in one line.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        let one_line = |error: wasmtime::Error| format!("{error:#}").replace('\n', " ");
        Template::new(bytes).map(|template| Self(Arc::new(template))).map_err(one_line)
    }
}

impl std::fmt::Debug for ClientComponent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ClientComponent")
    }
}

/// One instance of the client, and the ring it drives.
pub(super) struct Sandbox {
    pub(super) store: Store<Guest>,
    pub(super) exports: MountComponent,
}

impl Sandbox {
    /// Makes an instance that may use `memory_limit` bytes of its own.
    pub(super) fn new(template: &Template, guest: Guest) -> wasmtime::Result<Self> {
        let mut store = Store::new(&template.engine, guest);
        store.limiter(|guest| &mut guest.limits);
        store.set_epoch_deadline(CALL_TICKS);
        store.epoch_deadline_callback(|context| {
            let guest = context.data();
            let computed = guest.now().saturating_sub(guest.call_began).saturating_sub(guest.device_ticks);
            Ok(match CALL_TICKS.checked_sub(computed) {
                None | Some(0) => UpdateDeadline::Interrupt,
                Some(left) => UpdateDeadline::Continue(left),
            })
        });
        let exports = template.instance.instantiate(&mut store)?;
        Ok(Self { store, exports })
    }

    /// Gives the component its time for one call.
    pub(super) fn begin_call(&mut self) {
        self.store.set_epoch_deadline(CALL_TICKS);
        let guest = self.store.data_mut();
        guest.call_began = guest.now();
        guest.device_ticks = 0;
    }
}

/// The host's side of one instance: what its imports act on.
pub(super) struct Guest {
    region: Arc<Region>,
    pub(super) leases: Leases,
    pub(super) driver: ring::Driver,
    pub(super) device: Box<dyn Device>,
    /// Space for the headers of replies.
    headers: Vec<u8>,
    /// What [`Device::interrupts`] says.
    interrupts: bool,
    /// Chains were taken since [`Guest::has_taken`] was asked, on a device that interrupts.
    taken: bool,
    limits: StoreLimits,
    ticks: Arc<AtomicU64>,
    call_began: u64,
    device_ticks: u64,
    /// Bytes that went through `region.read` and `region.write`.
    pub(super) bounced: u64,
    /// Payload bytes among those, or in headers: what must not happen.
    pub(super) payload_through_wit: u64,
}

impl Guest {
    pub(super) fn new(
        template: &Template,
        region: Arc<Region>,
        leases: Leases,
        driver: ring::Driver,
        device: Box<dyn Device>,
        memory_limit: usize,
    ) -> Self {
        Self {
            region,
            leases,
            driver,
            headers: Vec::new(),
            interrupts: device.interrupts(),
            taken: false,
            device,
            limits: StoreLimitsBuilder::new()
                .memory_size(memory_limit)
                .table_elements(10_000)
                .instances(16)
                .memories(4)
                .tables(16)
                .trap_on_grow_failure(false)
                .build(),
            ticks: Arc::clone(&template.ticks),
            call_began: 0,
            device_ticks: 0,
            bounced: 0,
            payload_through_wit: 0,
        }
    }

    fn now(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    fn add_chain(
        &mut self,
        id: u32,
        header: &[u8],
        out: &[memory::Extent],
        reply_len: u32,
        input: &[memory::Extent],
    ) -> Result<(), QueueError> {
        self.payload_through_wit += payload_in(header);
        let extents = |extents: &[memory::Extent]| extents.iter().map(|&extent| extent.into()).collect();
        let (out, input): (SmallVec<[Extent; 8]>, SmallVec<[Extent; 8]>) = (extents(out), extents(input));
        self.driver.add(&mut self.leases, id, header, &out, reply_len, &input).map_err(Into::into)
    }

    fn kick_device(&mut self) {
        let began = self.now();
        if self.driver.kick_needed() {
            self.device.kick();
        }
        self.device_ticks += self.now() - began;
    }

    fn take_used(&mut self) -> Returned {
        let mut chains: SmallVec<[UsedChain; 1]> = SmallVec::new();
        let in_flight: usize = self.driver.in_flight().into();
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        if in_flight > 1 {
            // A local device has returned all that was; the longest of the common headers is an `Rgetattr`'s.
            headers.reserve(RGETATTR_LEN * in_flight);
        }
        if self.interrupts {
            self.driver.forgo_interrupts();
        }
        loop {
            while let Some(ring::UsedChain { id, written, header_len }) =
                self.driver.used_into(&mut self.leases, &mut headers)
            {
                let start = headers.len() - header_len as usize;
                self.payload_through_wit += payload_in(&headers[start..]);
                chains.push(UsedChain { id, written, header_len });
            }
            // What came back after the last look is not told of by an interrupt.
            if !self.interrupts || self.driver.want_interrupt() {
                break;
            }
        }
        self.taken |= self.interrupts && !chains.is_empty();
        let returned = match *chains {
            [] => Returned::Nothing,
            [chain] if headers.len() <= LONG => returned_one(chain, &headers),
            _ => return Returned::Many(Replies { chains: chains.into_vec(), headers }),
        };
        self.headers = headers;
        returned
    }

    /// Were chains taken since this was asked the last time? Then there may be no interrupt for them, and operations of
    /// others may be complete by them.
    pub(super) fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.taken)
    }

    /// Counts bytes that the component copied. Those of an application's buffer are payload.
    fn count_bounced(&mut self, extent: Extent) {
        self.bounced += u64::from(extent.len);
        if self.leases.is_lent(extent) {
            self.payload_through_wit += u64::from(extent.len);
        }
    }
}

/// Bytes of an `Rgetattr`.
const RGETATTR_LEN: usize = 160;
/// Bytes of header in the words of a `long-reply`, and of a `brief-reply`.
const LONG: usize = 192;
const BRIEF: usize = 24;

/// A chain, and its header of up to [`LONG`] bytes.
fn returned_one(chain: UsedChain, header: &[u8]) -> Returned {
    if header.len() <= BRIEF {
        let [a, b, c] = words(header);
        return Returned::Brief(BriefReply { chain, header: (a, b, c) });
    }
    let (one, rest) = header.split_at(header.len().min(64));
    let (two, three) = rest.split_at(rest.len().min(64));
    let eight = |bytes| {
        let [a, b, c, d, e, f, g, h] = words(bytes);
        EightWords { a, b, c, d, e, f, g, h }
    };
    Returned::Long(LongReply { chain, header: (eight(one), eight(two), eight(three)) })
}

/// Bytes as words, as many as there are for them.
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut padded = [0; LONG];
    padded[..bytes.len()].copy_from_slice(bytes);
    let (words, _) = padded.as_chunks();
    std::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

/// Bytes of payload in a message's header: what is behind the fixed part of a `Twrite` or `Rread`.
fn payload_in(header: &[u8]) -> u64 {
    let fixed = match header.get(4) {
        Some(118) => TWRITE_LEN,
        Some(117) => RREAD_LEN,
        _ => return 0,
    };
    header.len().saturating_sub(fixed) as u64
}

impl From<lease::MemoryError> for MemoryError {
    fn from(error: lease::MemoryError) -> Self {
        match error {
            lease::MemoryError::OutOfRange => Self::OutOfRange,
            lease::MemoryError::NotLeased => Self::NotLeased,
            lease::MemoryError::InFlight => Self::InFlight,
            lease::MemoryError::NoSpace => Self::NoSpace,
            lease::MemoryError::TooLarge => Self::TooLarge,
        }
    }
}

impl From<ring::QueueError> for QueueError {
    fn from(error: ring::QueueError) -> Self {
        match error {
            ring::QueueError::Full => Self::Full,
            ring::QueueError::TooManySegments => Self::TooManySegments,
            ring::QueueError::HeaderTooLarge => Self::HeaderTooLarge,
            ring::QueueError::Memory(error) => Self::Memory(error.into()),
            ring::QueueError::Broken => Self::Broken,
        }
    }
}

impl From<memory::Extent> for Extent {
    fn from(extent: memory::Extent) -> Self {
        Self { offset: extent.offset, len: extent.len }
    }
}

impl From<Extent> for memory::Extent {
    fn from(extent: Extent) -> Self {
        Self { offset: extent.offset, len: extent.len }
    }
}

impl types::Host for Guest {}
impl memory::Host for Guest {}
impl virtqueue::Host for Guest {
    fn submit_one(
        &mut self,
        queue: u32,
        id: u32,
        header: Vec<u8>,
        reply_len: u32,
        payload: Payload,
    ) -> wasmtime::Result<(Result<(), QueueError>, Returned)> {
        if queue != QUEUE {
            return Ok((Err(QueueError::Broken), Returned::Nothing));
        }
        let (out, input): (&[_], &[_]) = match &payload {
            Payload::None => (&[], &[]),
            Payload::Out(extent) => (slice::from_ref(extent), &[]),
            Payload::In(extent) => (&[], slice::from_ref(extent)),
        };
        let added = self.add_chain(id, &header, out, reply_len, input);
        self.kick_device();
        Ok((added, self.take_used()))
    }
}

impl memory::HostRegion for Guest {
    fn size(&mut self, _region: Resource<RegionHandle>) -> wasmtime::Result<u64> {
        Ok(self.region.size())
    }

    fn page_size(&mut self, _region: Resource<RegionHandle>) -> wasmtime::Result<u32> {
        Ok(crate::region::PAGE)
    }

    fn allocate(
        &mut self,
        _region: Resource<RegionHandle>,
        len: u32,
    ) -> wasmtime::Result<Result<memory::Extent, MemoryError>> {
        Ok(self.leases.allocate(len).map(Into::into).map_err(Into::into))
    }

    fn release(
        &mut self,
        _region: Resource<RegionHandle>,
        allocation: memory::Extent,
    ) -> wasmtime::Result<Result<(), MemoryError>> {
        Ok(self.leases.release(allocation.into()).map_err(Into::into))
    }

    fn read(
        &mut self,
        _region: Resource<RegionHandle>,
        source: memory::Extent,
    ) -> wasmtime::Result<Result<Vec<u8>, MemoryError>> {
        if source.len as usize > MOST_BOUNCED {
            return Ok(Err(MemoryError::TooLarge));
        }
        if let Err(error) = self.leases.check(source.into()) {
            return Ok(Err(error.into()));
        }
        let mut bytes = vec![0; source.len as usize];
        if self.region.read(source.into(), &mut bytes).is_err() {
            return Ok(Err(MemoryError::OutOfRange));
        }
        self.count_bounced(source.into());
        Ok(Ok(bytes))
    }

    fn write(
        &mut self,
        _region: Resource<RegionHandle>,
        offset: u64,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), MemoryError>> {
        if bytes.len() > MOST_BOUNCED {
            return Ok(Err(MemoryError::TooLarge));
        }
        let target = Extent { offset, len: bytes.len() as u32 };
        if let Err(error) = self.leases.check(target) {
            return Ok(Err(error.into()));
        }
        if self.region.write(offset, &bytes).is_err() {
            return Ok(Err(MemoryError::OutOfRange));
        }
        self.count_bounced(target);
        Ok(Ok(()))
    }

    fn drop(&mut self, _region: Resource<RegionHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl virtqueue::HostVirtqueue for Guest {
    fn size(&mut self, _queue: Resource<QueueHandle>) -> wasmtime::Result<u16> {
        Ok(self.driver.size())
    }

    fn max_header(&mut self, _queue: Resource<QueueHandle>) -> wasmtime::Result<u32> {
        Ok(ring::MAX_HEADER)
    }

    fn share(&mut self, _queue: Resource<QueueHandle>) -> wasmtime::Result<Resource<QueueHandle>> {
        Ok(Resource::new_own(0))
    }

    fn number(&mut self, _queue: Resource<QueueHandle>) -> wasmtime::Result<u32> {
        Ok(QUEUE)
    }

    fn add(
        &mut self,
        _queue: Resource<QueueHandle>,
        id: u32,
        header: Vec<u8>,
        out: Vec<memory::Extent>,
        reply_len: u32,
        in_: Vec<memory::Extent>,
    ) -> wasmtime::Result<Result<(), QueueError>> {
        Ok(self.add_chain(id, &header, &out, reply_len, &in_))
    }

    fn kick(&mut self, _queue: Resource<QueueHandle>) -> wasmtime::Result<()> {
        self.kick_device();
        Ok(())
    }

    fn used(&mut self, _queue: Resource<QueueHandle>) -> wasmtime::Result<Returned> {
        Ok(self.take_used())
    }

    fn submit(
        &mut self,
        _queue: Resource<QueueHandle>,
        chains: Vec<virtqueue::Chain>,
        headers: Vec<u8>,
    ) -> wasmtime::Result<Submitted> {
        let (mut added, mut stopped) = (0, None);
        let mut headers = headers.as_slice();
        for chain in &chains {
            let header = headers.split_off(..chain.header_len as usize);
            let header = header.ok_or_else(|| wasmtime::format_err!("a chain's header is not among the headers"))?;
            if let Err(error) = self.add_chain(chain.id, header, &chain.out, chain.reply_len, &chain.in_) {
                stopped = Some(error);
                break;
            }
            added += 1;
        }
        self.kick_device();
        Ok(Submitted { added, stopped, returned: self.take_used() })
    }

    fn drop(&mut self, _queue: Resource<QueueHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

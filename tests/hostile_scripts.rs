//! A client component that plays scripts drawn at random: every function that the host and the iter component have for it, with
//! whatever arguments, in every call that the host makes of it.
//!
//! Whatever it does, the host does not panic, no byte changes but those that are lent to it or its own, and none else is
//! seen by it or by its server; what it held comes back when it ends; and its neighbours are well.
//!
//! `NINERING_SCRIPTS=SECONDS` plays so long, rather than a few seconds; `NINERING_SCRIPT=SEED` plays one, that failed.

use std::{
    env, fs,
    future::Future,
    hash::{BuildHasher, RandomState},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use ninering::{
    backend::MemBackend,
    listener::{Address, Listener},
    mount::{
        AccessMode, Buffer, ClientComponent, Handle, LockKind, LockRequest, Mount, MountOptions, OpenFlags, SetMode,
    },
    server::{Server, ServerOptions},
};
use ninering_tests::hostile_client;
use tokio::runtime::Runtime;

/// What is in memory that is not the component's. It knows it, and says so if it has seen it.
const SECRET: &[u8; 16] = b"nobody sees this";
const SEEN: &str = "a secret was seen";
/// Bytes of each piece of such memory.
const CANARY: usize = 6000;
/// The most of them in one mount.
const MOST_CANARIES: usize = 8;
/// How long the scripts are played that are part of the tests.
const SECONDS: u64 = 5;
/// How often it is looked whether what has ended is gone, with a millisecond in between.
const MOST_WAITS: usize = 10_000;
/// A server that loses fids will soon have no more.
const FIDS: usize = 200;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

/// Memory that nobody may touch.
struct Canary(Buffer);

impl Canary {
    fn new(mut buffer: Buffer) -> Self {
        buffer.truncate(CANARY);
        buffer.write(0, &SECRET.repeat(CANARY / SECRET.len() + 1));
        Self(buffer)
    }

    fn is_alive(&self) -> bool {
        let mut bytes = vec![0; self.0.len()];
        self.0.read(0, &mut bytes);
        bytes.chunks(SECRET.len()).all(|chunk| *chunk == SECRET[..chunk.len()])
    }
}

/// The mounts beside the hostile one: one of the same server, and one of another.
struct Neighbours {
    same: Mount,
    other: Mount,
    canaries: Vec<Canary>,
}

impl Neighbours {
    async fn new(server: &Arc<Server>) -> Self {
        let small = MountOptions { region_size: 1 << 20, ..MountOptions::default() };
        let same = Mount::local(Arc::clone(server), small.clone()).expect("a mount");
        let server = Server::new(Arc::new(MemBackend::default()), ServerOptions::default());
        let other = Mount::local(server, small).expect("a mount");
        let mut canaries = Vec::new();
        for mount in [&same, &other] {
            canaries.push(Canary::new(mount.buffer(CANARY).await.expect("a buffer")));
        }
        Self { same, other, canaries }
    }

    async fn are_well(&self) {
        for mount in [&self.same, &self.other] {
            let root = mount.root();
            let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
            let file = root.open_at("neighbour", flags, 0o644).await.expect("a file");
            let buffer = mount.buffer(5).await.expect("a buffer");
            buffer.write(0, b"hello");
            let (written, buffer) = file.write_at(0, buffer).await;
            assert_eq!(written.expect("a write"), 5);
            let read = file.read_at(0, buffer.expect("the buffer")).await.expect("a read");
            assert_eq!(&*read.into_bytes(), b"hello");
        }
        assert!(self.canaries.iter().all(Canary::is_alive), "a neighbour's memory was changed");
    }

    /// Looks at what the hostile mount has left on its server, and clears it away.
    async fn clear(&self) {
        let root = self.same.root();
        for entry in root.read_directory(0).await.expect("a listing").entries {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            if let Ok(file) = root.open_at(&name, OpenFlags::READ, 0).await
                && name != "neighbour"
            {
                let bytes = file.read_at(0, self.same.buffer(100_000).await.expect("a buffer")).await;
                let bytes = bytes.map(Buffer::into_bytes).unwrap_or_default();
                let is_told = bytes.windows(SECRET.len()).any(|window| window == SECRET);
                assert!(!is_told, "memory of somebody else's was written to the file {name:?}");
            }
            let _ = root.unlink(&name).await;
        }
    }
}

/// What the scripts have come to.
#[derive(Debug, Default)]
struct Reached {
    scripts: u64,
    operations: u64,
    /// Mounts that were broken in the end.
    broken: u64,
    requests: u64,
    bytes_out: u64,
    bytes_in: u64,
    bounced: u64,
}

/// A mount with a hostile client, in use.
struct Hostile {
    mount: Mount,
    handles: Vec<Arc<Handle>>,
    canaries: Vec<Canary>,
    random: Random,
}

impl Hostile {
    async fn buffer(&mut self) -> Option<Buffer> {
        let length = [1, 100, 4096, 5000, 20_000][self.random.below(5) as usize];
        let buffer = soon(self.mount.buffer(length)).await?.ok()?;
        // It may have been a canary's.
        buffer.write(0, &vec![b'w'; buffer.len()]);
        Some(buffer)
    }

    /// A buffer that an operation is done with is nobody's business any more.
    fn done_with(&mut self, buffer: Buffer) {
        if self.canaries.len() == MOST_CANARIES {
            self.canaries.remove(0);
        }
        self.canaries.push(Canary::new(buffer));
    }

    async fn operate(&mut self) {
        let place = self.random.below(self.handles.len() as u64) as usize;
        let handle = Arc::clone(&self.handles[place]);
        let (name, offset) = (["a", "b", "none/c", ""][self.random.below(4) as usize], self.random.below(10_000));
        let lock = LockRequest { kind: LockKind::Exclusive, start: offset, length: 10, owner: 1 };
        match self.random.below(22) {
            0..=2 => says(soon(handle.stat()).await),
            3 | 4 => {
                if let Some(Ok(opened)) = soon(handle.open_at(name, OpenFlags::READ, 0)).await {
                    self.handles.push(Arc::new(opened));
                }
            }
            5..=7 => {
                let Some(buffer) = self.buffer().await else { return };
                match soon(handle.read_at(offset, buffer)).await {
                    Some(Ok(buffer)) => self.done_with(buffer),
                    failed => says(failed),
                }
            }
            8..=10 => {
                let Some(buffer) = self.buffer().await else { return };
                if let Some((written, buffer)) = soon(handle.write_at(offset, buffer)).await {
                    says(Some(written));
                    buffer.into_iter().for_each(|buffer| self.done_with(buffer));
                }
            }
            11 => {
                let (Some(one), Some(other)) = (self.buffer().await, self.buffer().await) else { return };
                if let Some(Ok((_, buffers))) = soon(handle.read_vectored_at(offset, vec![one, other])).await {
                    buffers.into_iter().for_each(|buffer| self.done_with(buffer));
                }
            }
            12 => says(soon(handle.read_directory(offset)).await),
            13 => says(soon(handle.xattr(name)).await),
            14 => says(soon(handle.set_xattr(name, b"value", SetMode::Any)).await),
            15 => says(soon(handle.try_lock(lock)).await),
            16 => says(soon(handle.access_at(name, true, AccessMode::READ)).await),
            17 => says(soon(handle.read_directory_plus(offset)).await),
            18 => drop(self.handles.remove(place)),
            // Given up at once, or before it is complete.
            19 => drop(tokio::time::timeout(Duration::ZERO, handle.sync(false)).await),
            20 if self.random.below(8) == 0 => says(soon(self.mount.restart()).await),
            _ => {
                if let Some(buffer) = self.buffer().await {
                    self.done_with(buffer);
                }
            }
        }
        if self.handles.is_empty() {
            self.handles.push(Arc::new(self.mount.root()));
        }
    }
}

/// No operation hangs. Some wait for what they will never get, such as memory; they are given up.
async fn soon<T>(operation: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(20), operation).await.ok()
}

/// Whatever an operation yields, it is not a secret.
fn says<T>(result: Option<Result<T, ninering::mount::Error>>) {
    if let Some(Err(error)) = result {
        assert!(!error.to_string().contains(SEEN), "the component has seen what is not its own");
    }
}

struct Host {
    runtime: Runtime,
    client: ClientComponent,
    server: Arc<Server>,
    address: Address,
    neighbours: Neighbours,
    regions: usize,
}

impl Host {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = ServerOptions { max_fids_in_all: FIDS, ..ServerOptions::default() };
        let server = Server::new(Arc::new(MemBackend::default()), options);
        let (neighbours, address) = runtime.block_on(async {
            let listener = Listener::bind(&"tcp://127.0.0.1:0".parse().expect("an address")).await.expect("a port");
            let address = listener.local_address().clone();
            tokio::spawn(listener.serve(Arc::clone(&server), std::future::pending::<()>()));
            (Neighbours::new(&server).await, address)
        });
        let regions = regions();
        Self { runtime, client: hostile_client(), server, address, neighbours, regions }
    }

    fn play(&self, seed: u64, reached: &mut Reached) {
        self.runtime.block_on(async {
            self.play_script(seed, reached).await;
            self.neighbours.are_well().await;
            self.neighbours.clear().await;
            // The tasks of a connection end when they are next looked at.
            for _ in 0..MOST_WAITS {
                if regions() == self.regions {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            panic!("a region outlives its mount");
        });
    }

    async fn play_script(&self, seed: u64, reached: &mut Reached) {
        let mut random = Random(seed | 1);
        let length = random.below(1000);
        // Each character is a byte. Some scripts have few different ones.
        let variety = [1 << 8, 1 << 8, 1 << 6, 1 << 4][random.below(4) as usize];
        let few: Vec<u8> = (0..variety).map(|_| random.next() as u8).collect();
        let script: String = (0..length).map(|_| char::from(few[random.below(variety) as usize])).collect();
        let options = MountOptions {
            aname: format!("script:{script}"),
            timeout: Duration::from_millis(2),
            recovery: Duration::ZERO,
            region_size: 1 << 20,
            queue_size: [8, 16, 64][random.below(3) as usize],
            event_index: random.below(2) == 0,
            indirect_descriptors: random.below(2) == 0,
            client_memory: 4 << 20,
            client: Some(self.client.clone()),
            ..MountOptions::default()
        };
        let mount = if random.below(4) == 0 {
            Mount::remote(self.address.clone(), options).await
        } else {
            Mount::local(Arc::clone(&self.server), options)
        };
        reached.scripts += 1;
        let Ok(mount) = mount else { return };
        let handles = vec![Arc::new(mount.root())];
        let mut hostile = Hostile { mount, handles, canaries: Vec::new(), random };
        for _ in 0..hostile.random.below(20) {
            hostile.operate().await;
            reached.operations += 1;
            assert!(hostile.canaries.iter().all(Canary::is_alive), "memory was changed that is not the component's");
        }
        let statistics = hostile.mount.statistics();
        reached.broken += u64::from(hostile.mount.broken().is_some());
        reached.requests += statistics.requests;
        reached.bytes_out += statistics.bytes_out;
        reached.bytes_in += statistics.bytes_in;
        reached.bounced += statistics.bounced_bytes;
    }
}

/// How many regions the process has.
fn regions() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("the process's descriptors");
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("ninering-region")).count()
}

#[test]
fn whatever_a_component_calls_costs_its_own_mount_alone() {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let host = Host::new();
    let mut reached = Reached::default();
    if let Some(seed) = number("NINERING_SCRIPT") {
        return host.play(seed, &mut reached);
    }
    let (random, began) = (RandomState::new(), Instant::now());
    let time = Duration::from_secs(number("NINERING_SCRIPTS").unwrap_or(SECONDS));
    for count in 0_u64.. {
        let seed = random.hash_one(count);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| host.play(seed, &mut reached))) {
            eprintln!("the script of NINERING_SCRIPT={seed}");
            resume_unwind(panic);
        }
        if began.elapsed() > time {
            break;
        }
    }
    println!("{reached:?}");
    assert!(reached.requests > 0 && reached.bytes_out > 0 && reached.bytes_in > 0, "the scripts come nowhere");
}

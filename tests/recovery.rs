//! A server that is killed, and started again, over and over: the program that uses its files does not notice, but for
//! the time that it takes. No write that was acknowledged is missing or doubled, and no operation is done twice.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ninering::{
    listener::Address,
    mount::{Buffer, CacheMode, Error, Handle, LockKind, LockRequest, Mount, MountOptions, OpenFlags},
    program::{Environment, Program, Runtime},
    source::Source,
    wasi::Mounts,
};
use ninering_tests::{Restarting, finish, ninering, program, serve};
use ninering_wire::Errno;

/// How many operations are under way at a time.
const WORKERS: u32 = 64;
/// The server is killed so often at least.
const KILLS: u32 = 12;

/// A directory that is served by a server which, once it is doomed, is killed every 100 ms to 2 s, and started again.
struct Mortal {
    server: Restarting,
    address: String,
    export: tempfile::TempDir,
    /// Where the socket is.
    _scratch: tempfile::TempDir,
}

impl Mortal {
    fn serve(seed: u64) -> Self {
        let (export, scratch) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        // Whoever attaches without a name of its own is nobody.
        fs::set_permissions(export.path(), PermissionsExt::from_mode(0o777)).expect("permissions");
        let socket = scratch.path().join("socket");
        let server = Restarting::serve(&format!("dir:{}", export.path().display()), &socket, seed);
        Self { server, address: format!("unix://{}", socket.display()), export, _scratch: scratch }
    }

    async fn mount(&self, options: MountOptions) -> Mount {
        Mount::remote(self.address.parse().expect("an address"), options).await.expect("a mount")
    }
}

/// Who runs the tests may do what they do; by default nobody in particular attaches.
fn options() -> MountOptions {
    // What was written is the server's when the write returns, and all is asked for.
    MountOptions {
        cache: Some(CacheMode::None),
        timeout: Duration::from_secs(600),
        uid: Some(rustix::process::geteuid().as_raw()),
        ..MountOptions::default()
    }
}

fn start(export: &Path, address: &str) -> Child {
    let source = format!("dir:{}", export.display());
    let mut command = ninering();
    command.args(["serve", &source, "--listen", address]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server")
}

fn await_socket(socket: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < end, "nobody listens");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Numbers without a pattern (xorshift).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// What should be in a directory, by name; `None` for a directory.
type Model = BTreeMap<String, Option<Vec<u8>>>;

/// A worker: does operations in a directory of its own, and knows what must be there.
struct Worker {
    directory: Handle,
    model: Model,
    random: u64,
    /// Files that stay open from one step to the next.
    open: Vec<(String, Handle, Handle)>,
    made: u32,
}

impl Worker {
    async fn begin(mount: &Mount, number: u32) -> Self {
        let name = format!("worker{number}");
        mount.root().make_directory(&name, 0o755).await.expect("a directory");
        let directory = mount.root().open_at(&name, OpenFlags::DIRECTORY | OpenFlags::READ, 0).await.expect("it");
        Self { directory, model: Model::new(), random: u64::from(number) + 1, open: Vec::new(), made: 0 }
    }

    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("name{}", self.made)
    }

    /// Some name of those that are there.
    fn some(&mut self, is_file: bool) -> Option<String> {
        let is_open = |name: &str| self.open.iter().any(|(open, ..)| open == name);
        let names: Vec<&String> = self
            .model
            .iter()
            .filter(|(name, content)| content.is_some() == is_file && !is_open(name))
            .map(|(name, _)| name)
            .collect();
        let count = names.len() as u64;
        (count > 0).then(|| names[(next(&mut self.random) % count) as usize].clone())
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = 1 + next(&mut self.random) % 20_000;
        let byte = next(&mut self.random) as u8;
        (0..length).map(|index| byte.wrapping_add(index as u8)).collect()
    }

    async fn step(&mut self) -> Result<(), Error> {
        match next(&mut self.random) % 12 {
            0 | 1 if self.open.len() < 4 => {
                let name = self.fresh();
                let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
                let file = self.directory.open_at(&name, flags, 0o644).await?;
                let appending = self.directory.open_at(&name, OpenFlags::WRITE | OpenFlags::APPEND, 0).await?;
                self.model.insert(name.clone(), Some(Vec::new()));
                self.open.push((name, file, appending));
            }
            2..=5 if !self.open.is_empty() => self.write().await?,
            6 if !self.open.is_empty() => {
                let (name, file, _) = &self.open[0];
                let expected = self.model[name].as_ref().expect("a file");
                assert_eq!(file.stat().await?.size, expected.len() as u64, "{name}");
                file.sync(false).await?;
                self.open.remove(0);
            }
            7 => {
                let name = self.fresh();
                self.directory.make_directory(&name, 0o755).await?;
                self.model.insert(name, None);
            }
            8 => {
                if let Some(name) = self.some(false) {
                    self.directory.remove_directory(&name).await?;
                    self.model.remove(&name);
                }
            }
            9 => {
                if let Some(name) = self.some(true) {
                    self.directory.unlink(&name).await?;
                    self.model.remove(&name);
                }
            }
            10 => {
                // Open files are renamed too.
                let name = self.model.keys().nth(next(&mut self.random) as usize % self.model.len().max(1)).cloned();
                if let Some(name) = name {
                    let new = self.fresh();
                    self.directory.rename(&name, &self.directory, &new).await?;
                    let content = self.model.remove(&name).expect("it is there");
                    self.model.insert(new.clone(), content);
                    for (open, ..) in self.open.iter_mut().filter(|(open, ..)| *open == name) {
                        open.clone_from(&new);
                    }
                }
            }
            _ => self.list().await?,
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Error> {
        let bytes = self.bytes();
        let appends = next(&mut self.random).is_multiple_of(2);
        let (name, file, appending) = &self.open[(next(&mut self.random) % self.open.len() as u64) as usize];
        let content = self.model.get_mut(name).and_then(Option::as_mut).expect("a file");
        let offset = if appends { content.len() } else { next(&mut self.random) as usize % (content.len() + 1) };
        let buffer = file.mount().buffer(bytes.len()).await?;
        buffer.write(0, &bytes);
        let file = if appends { appending } else { file };
        let written = file.write_at(offset as u64, buffer).await.0?;
        assert_eq!(written, bytes.len());
        content.resize(content.len().max(offset + written), 0);
        content[offset..offset + written].copy_from_slice(&bytes);
        let (expected, name) = (content.clone(), name.clone());
        let reader = self.directory.open_at(&name, OpenFlags::READ, 0).await?;
        let buffer = reader.mount().buffer(expected.len()).await?;
        let asked = buffer.len();
        let read = reader.read_at(0, buffer).await?.into_bytes();
        assert!(read[..] == expected[..asked], "{name} has other contents than were written");
        Ok(())
    }

    async fn list(&mut self) -> Result<(), Error> {
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let read = self.directory.read_directory(offset).await?;
            offset = read.entries.last().map_or(offset, |entry| entry.offset);
            names.extend(read.entries.into_iter().map(|entry| String::from_utf8(entry.name).expect("a name")));
            if read.end {
                break;
            }
        }
        names.sort();
        assert_eq!(names, self.model.keys().cloned().collect::<Vec<_>>());
        Ok(())
    }
}

/// What is in a directory of this machine, by path below it.
fn found(directory: &Path) -> Model {
    fn look(directory: &Path, below: &str, found: &mut Model) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = format!("{below}{}", path.file_name().expect("a name").to_str().expect("text"));
            if path.is_symlink() {
                let target = fs::read_link(&path).expect("a link").into_os_string();
                found.insert(name, Some(target.into_encoded_bytes()));
            } else if path.is_dir() {
                look(&path, &format!("{name}/"), found);
                found.insert(name, None);
            } else {
                found.insert(name, Some(fs::read(path).expect("a file")));
            }
        }
    }
    let mut model = Model::new();
    look(directory, "", &mut model);
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_workers_do_not_notice_that_the_server_is_killed() {
    let mut mortal = Mortal::serve(1);
    let mount = mortal.mount(options()).await;
    mortal.server.doom();
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let (mount, stop) = (mount.clone(), stop.clone());
            tokio::spawn(async move {
                let mut worker = Worker::begin(&mount, number).await;
                let mut steps = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    steps += 1;
                    if let Err(error) = worker.step().await {
                        panic!("worker {number}, step {steps}: {error}");
                    }
                }
                (worker.model, steps)
            })
        })
        .collect();
    while mortal.server.restarts() < KILLS && !workers.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for (number, worker) in workers.into_iter().enumerate() {
        let (model, steps) = worker.await.expect("a worker");
        total += steps;
        let directory = mortal.export.path().join(format!("worker{number}"));
        assert!(found(&directory) == model, "worker {number} finds other files");
    }
    let recovery = mount.statistics().recovery;
    eprintln!("{} kills, {total} steps, {recovery:?}", mortal.server.restarts());
    assert!(recovery.reconnects > 0 && recovery.resent > 0, "{recovery:?}");
    assert_eq!((recovery.stale_fids, recovery.doubtful), (0, 0), "{recovery:?}");
}

/// Runs `fsprobe mixed` so many times at once on a mount, each in a directory of its own, made before.
async fn run_mixed(program: &Arc<Program>, mount: &Mount, programs: u32) {
    let running: Vec<_> = (0..programs)
        .map(|number| {
            let (program, mount) = (Arc::clone(program), mount.clone());
            tokio::spawn(async move {
                let mut mounts = Mounts::new();
                mounts.add("/data", mount).expect("a place to mount at");
                let arguments = ["fsprobe", "mixed", &format!("/data/m{number}"), &number.to_string(), "200"];
                let status = program.run(mounts, Environment::new().inherit_stderr().args(&arguments)).await;
                assert_eq!(status.expect("no trap"), 0, "program {number}");
            })
        })
        .collect();
    for run in running {
        run.await.expect("a program that ends well");
    }
}

/// The same mixed load on a server that lives and on one that does not leaves the same behind.
async fn sixty_four_programs_do_not_notice(cache: CacheMode) {
    let program = program("fsprobe.wasm");
    let program = Arc::new(Runtime::new().expect("wasm").load(&program, || ()).expect("a program"));
    let make_directories = |export: &Path| {
        for number in 0..WORKERS {
            let directory = export.join(format!("m{number}"));
            fs::create_dir(&directory).expect("a directory");
            fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).expect("permissions");
        }
    };
    let expected = {
        let export = tempfile::tempdir().expect("a directory");
        make_directories(export.path());
        let source: Source = format!("dir:{}", export.path().display()).parse().expect("a source");
        let mount = source.mount(MountOptions::default()).await.expect("a mount");
        run_mixed(&program, &mount, WORKERS).await;
        mount.finish().await.expect("all to be written");
        found(export.path())
    };
    let mut mortal = Mortal::serve(2);
    let mount = mortal.mount(MountOptions { cache: Some(cache), ..options() }).await;
    mortal.server.doom();
    let mut runs = 0;
    while mortal.server.restarts() < KILLS {
        make_directories(mortal.export.path());
        run_mixed(&program, &mount, WORKERS).await;
        mount.finish().await.expect("all to be written");
        let left = found(mortal.export.path());
        let other = expected.iter().find(|&(name, content)| left.get(name) != Some(content)).map(|(name, _)| name);
        assert!(left == expected, "run {runs}: {other:?} is another than it must be, or there are more");
        for number in 0..WORKERS {
            fs::remove_dir_all(mortal.export.path().join(format!("m{number}"))).expect("to remove it");
        }
        runs += 1;
    }
    let recovery = mount.statistics().recovery;
    eprintln!("{} kills, {runs} runs, {recovery:?}", mortal.server.restarts());
    // A file that was closed and removed may be stale in the moment before it is known to be closed.
    assert!(recovery.reconnects > 0 && recovery.resent > 0 && recovery.doubtful == 0, "{recovery:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_programs_do_not_notice_that_the_server_is_killed() {
    sixty_four_programs_do_not_notice(CacheMode::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_programs_with_a_cache_do_not_notice_that_the_server_is_killed() {
    sixty_four_programs_do_not_notice(CacheMode::CloseToOpen).await;
}

/// Runs `fsprobe tree` on a mount until the server has been killed often enough.
fn programs_do_not_notice(mortal: &Mortal, mount: &str) {
    let mut runs = 0;
    while mortal.server.restarts() < KILLS {
        let directory = format!("run{runs}");
        fs::create_dir(mortal.export.path().join(&directory)).expect("a directory");
        let permissions = PermissionsExt::from_mode(0o777);
        fs::set_permissions(mortal.export.path().join(&directory), permissions).expect("permissions");
        let mut command: Command = ninering();
        command.args(["run", "--timeout", "10min", "--mount", mount]).arg(program("fsprobe.wasm"));
        let ended = finish(command.args(["tree", &format!("/data/{directory}"), "300"]));
        // There must be a server when the mount is made.
        if !ended.stderr.contains("cannot be mounted") {
            ended.success();
            runs += 1;
        }
        // It is empty again.
        fs::remove_dir(mortal.export.path().join(&directory)).expect("an empty directory");
    }
    assert!(runs > 0);
}

#[test]
fn a_program_does_not_notice_that_the_server_is_killed() {
    let mut mortal = Mortal::serve(3);
    mortal.server.doom();
    programs_do_not_notice(&mortal, &format!("/data={}", mortal.address));
}

/// Who mounts a relay need not know of recovery.
#[test]
fn a_program_at_a_relay_does_not_notice_that_the_server_behind_it_is_killed() {
    let mut mortal = Mortal::serve(4);
    let (_relay, address) = serve(&mortal.address);
    mortal.server.doom();
    programs_do_not_notice(&mortal, &format!("/data={address},cache=none,recover=0s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_come_back_is_an_error_after_the_time_that_was_set() {
    let export = tempfile::tempdir().expect("a directory");
    fs::write(export.path().join("file"), "x").expect("a file");
    let scratch = tempfile::tempdir().expect("a directory");
    let socket = scratch.path().join("socket");
    let address = format!("unix://{}", socket.display());
    for recovery in [Duration::ZERO, Duration::from_millis(300)] {
        let mut child = start(export.path(), &address);
        await_socket(&socket);
        let options = MountOptions { recovery, ..options() };
        let mount = Mount::remote(address.parse().expect("an address"), options).await.expect("a mount");
        mount.root().stat_at("file", true).await.expect("the file");
        child.kill().expect("to kill the server");
        child.wait().expect("its end");
        match mount.root().stat_at("file", true).await {
            Err(Error::Broken(reason)) if recovery.is_zero() => assert!(reason.contains("server"), "{reason}"),
            Err(Error::Broken(reason)) => assert!(reason.contains("no new connection within 300ms"), "{reason}"),
            other => panic!("without a server: {other:?}"),
        }
        assert_eq!(mount.root().stat_at("file", true).await.map(drop).map_err(|error| error.errno()), Err(Errno::EIO));
    }
}

/// However early the connection is lost: the mount is not made, and nobody waits for a server that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_before_anything_is_said_is_no_mount() {
    let scratch = tempfile::tempdir().expect("a directory");
    let socket = scratch.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("to listen");
    thread::spawn(move || listener.incoming().for_each(drop));
    let address: Address = format!("unix://{}", socket.display()).parse().expect("an address");
    for _ in 0..300 {
        let mounting = Mount::remote(address.clone(), options());
        let refused = tokio::time::timeout(Duration::from_secs(300), mounting).await.expect("to hear of it");
        assert!(matches!(refused, Err(Error::Broken(_))), "there is no server");
    }
}

/// A directory that is served at two sockets, and a mount by each of them.
struct TwoDoors {
    server: Child,
    export: tempfile::TempDir,
    sockets: tempfile::TempDir,
    ours: Mount,
    theirs: Mount,
}

impl TwoDoors {
    async fn open() -> Self {
        let (export, sockets) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let addresses = ["ours", "theirs"].map(|name| format!("unix://{}", sockets.path().join(name).display()));
        let mut command = ninering();
        command.args(["serve", &format!("dir:{}", export.path().display())]);
        for address in &addresses {
            command.args(["--listen", address]);
        }
        let server = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server");
        let [ours, theirs] = addresses.map(|address| async move {
            await_socket(Path::new(address.strip_prefix("unix://").expect("a path")));
            Mount::remote(address.parse().expect("an address"), options()).await.expect("a mount")
        });
        let (ours, theirs) = (ours.await, theirs.await);
        Self { server, export, sockets, ours, theirs }
    }

    /// Kills the server, and starts another one at their socket.
    fn let_them_in(&mut self) {
        self.server.kill().expect("to kill the server");
        self.server.wait().expect("its end");
        fs::remove_file(self.sockets.path().join("ours")).expect("to remove a socket");
        let theirs = self.sockets.path().join("theirs");
        self.server = start(self.export.path(), &format!("unix://{}", theirs.display()));
        await_socket(&theirs);
    }

    /// From now on, ours leads there too.
    fn let_us_in(&self) {
        let sockets = self.sockets.path();
        std::os::unix::fs::symlink(sockets.join("theirs"), sockets.join("ours")).expect("a link");
    }
}

impl Drop for TwoDoors {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

async fn open(mount: &Mount, name: &str) -> Handle {
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
    mount.root().open_at(name, flags, 0o644).await.expect("a file")
}

async fn write(file: &Handle, text: &[u8]) -> Result<usize, Errno> {
    let buffer: Buffer = file.mount().buffer(text.len()).await.expect("a buffer");
    buffer.write(0, text);
    file.write_at(0, buffer).await.0.map_err(|error| error.errno())
}

async fn read(file: &Handle) -> Result<Vec<u8>, Errno> {
    let buffer = file.mount().buffer(100).await.expect("a buffer");
    file.read_at(0, buffer).await.map(|read| read.into_bytes().to_vec()).map_err(|error| error.errno())
}

const ALL: LockRequest = LockRequest { kind: LockKind::Exclusive, start: 0, length: 0, owner: 1 };

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_taken_again() {
    let mut doors = TwoDoors::open().await;
    let (ours, theirs) = (open(&doors.ours, "file").await, open(&doors.theirs, "file").await);
    assert!(ours.try_lock(ALL).await.expect("a lock"));
    doors.let_them_in();
    doors.let_us_in();
    assert_eq!(write(&ours, b"ours").await, Ok(4));
    assert!(!theirs.try_lock(ALL).await.expect("an answer"), "it is ours");
    let recovery = doors.ours.statistics().recovery;
    assert_eq!((recovery.reconnects, recovery.lost_locks), (1, 0), "{recovery:?}");
    ours.unlock(0, 0, 1).await.expect("to give it back");
    assert!(theirs.try_lock(ALL).await.expect("an answer"), "it is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_another_client_took_meanwhile_is_lost_and_that_is_told() {
    let mut doors = TwoDoors::open().await;
    let (ours, theirs) = (open(&doors.ours, "file").await, open(&doors.theirs, "file").await);
    let other = open(&doors.ours, "other").await;
    assert!(ours.try_lock(ALL).await.expect("a lock"));
    doors.let_them_in();
    assert!(theirs.try_lock(ALL).await.expect("an answer"), "nobody has it");
    assert_eq!(write(&theirs, b"theirs").await, Ok(6));
    doors.let_us_in();
    assert_eq!(write(&ours, b"ours").await, Err(Errno::ENOLCK));
    assert_eq!(read(&ours).await, Err(Errno::ENOLCK));
    assert_eq!(ours.sync(false).await.map_err(|error| error.errno()), Err(Errno::ENOLCK));
    assert_eq!(write(&other, b"ours").await, Ok(4), "a file that was not locked");
    assert_eq!(doors.ours.statistics().recovery.lost_locks, 1);
    // Who is told can begin anew.
    assert!(!ours.try_lock(ALL).await.expect("an answer"), "it is theirs");
    theirs.unlock(0, 0, 1).await.expect("to give it back");
    assert!(ours.try_lock(ALL).await.expect("an answer"), "it is free");
    assert_eq!(read(&ours).await, Ok(b"theirs".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_removed_while_open_is_stale_and_no_other_is() {
    let mut doors = TwoDoors::open().await;
    let (removed, kept) = (open(&doors.ours, "removed").await, open(&doors.ours, "kept").await);
    assert_eq!(write(&removed, b"removed").await, Ok(7));
    assert_eq!(write(&kept, b"kept").await, Ok(4));
    doors.ours.root().unlink("removed").await.expect("to remove it");
    assert_eq!(read(&removed).await, Ok(b"removed".to_vec()), "it is still open");
    doors.let_them_in();
    // It may well get the number of the one that is gone.
    assert_eq!(write(&open(&doors.theirs, "removed").await, b"another").await, Ok(7));
    doors.let_us_in();
    assert_eq!(read(&removed).await, Err(Errno::ESTALE));
    assert_eq!(write(&removed, b"lost").await, Err(Errno::ESTALE));
    assert_eq!(removed.stat().await.map(|found| found.size).map_err(|error| error.errno()), Err(Errno::ESTALE));
    assert_eq!(read(&kept).await, Ok(b"kept".to_vec()));
    assert_eq!(fs::read(doors.export.path().join("removed")).expect("the other one"), b"another");
    assert_eq!(doors.ours.statistics().recovery.stale_fids, 1);
}

//! A server under attack: what it serves, a bystander who goes on being served, and what must be left in the end.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    any::TypeId,
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::{fs::symlink, net::UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use ninering::{
    backend::{Backend, DirBackend, DirOptions, MemBackend},
    listener::{Address, Limits, Resources, Usage},
    server::{Server, ServerOptions},
};
use ninering_wire::{Errno, Frame, NOFID, NOTAG, Names, Rmessage, Str, Tmessage, VERSION_9P2000L, lopen::RDONLY};
use tempfile::TempDir;

use crate::common::{
    Client, ROOT, encode, receive,
    serving::{PATIENCE, Serving},
};

/// Held while a server is attacked: what is left open is seen by counting the descriptors of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// A server, attacked through a socket. When it is dropped, it must have served a bystander all the time, and have
/// nothing left of its clients: no connection, no request, no memory, no descriptor.
pub(crate) struct Attacked {
    serving: Option<Serving>,
    resources: Arc<Resources>,
    bystander: Mutex<Option<Client>>,
    outer: TempDir,
    mem: bool,
    descriptors: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Attacked {
    /// Of `mem:`.
    pub(crate) fn mem() -> Self {
        Self::of(|_| MemBackend::default())
    }

    /// Of `dir:`, with something beside what is exported.
    pub(crate) fn dir() -> Self {
        Self::of(dir_backend)
    }

    /// Of each, one after the other.
    pub(crate) fn each(attack: impl Fn(&Self)) {
        for attacked in [Self::mem, Self::dir] {
            attack(&attacked());
        }
    }

    /// Of what `backend` makes of a directory, in which `export` is empty.
    pub(crate) fn of<B: Backend>(backend: impl FnOnce(PathBuf) -> B) -> Self {
        Self::with(backend, ServerOptions::default(), Limits::default())
    }

    /// The same with other options.
    pub(crate) fn with<B: Backend>(backend: impl FnOnce(PathBuf) -> B, options: ServerOptions, limits: Limits) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // The first runtime of a process opens what the process keeps.
        drop(tokio::runtime::Runtime::new().unwrap());
        let descriptors = open_descriptors();
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("export")).unwrap();
        fs::write(outer.path().join("beside"), "secret").unwrap();
        let server = Server::new(Arc::new(backend(outer.path().to_owned())), options);
        let resources = Resources::new(limits);
        let address = Address::Unix(outer.path().join("socket"));
        let serving = Serving::at(&address, server, |listener| listener.sharing(&resources).unwrap());
        let mut attacked = Self {
            serving: Some(serving),
            resources,
            bystander: Mutex::default(),
            outer,
            mem: TypeId::of::<B>() == TypeId::of::<MemBackend>(),
            descriptors,
            _alone: alone,
        };
        attacked.bystander = Mutex::new(Some(attacked.client()));
        attacked
    }

    /// A client that has attached.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.serving().client();
        client.begin();
        client
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self) -> UnixStream {
        let Address::Unix(path) = &self.serving().address else { panic!("a Unix socket") };
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection that has attached [`ROOT`].
    pub(crate) fn attached(&self, msize: u32) -> UnixStream {
        let mut stream = self.connect();
        let version = Tmessage::Tversion { msize, version: Str(VERSION_9P2000L) };
        assert_eq!(ask(&mut stream, NOTAG, &version).unwrap()[4], 101);
        assert_eq!(ask(&mut stream, 0, &attach(ROOT)).unwrap()[4], 105);
        stream
    }

    /// Is what is served not on the host?
    pub(crate) fn is_mem(&self) -> bool {
        self.mem
    }

    /// The host's path of something in what `dir:` exports.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.outer.path().join("export").join(below)
    }

    /// The host's path of what lies beside the export, with `secret` in it.
    pub(crate) fn beside(&self) -> PathBuf {
        self.outer.path().join("beside")
    }

    /// Makes a symbolic link on the host.
    pub(crate) fn symlink(&self, target: &str, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    /// What connections use now.
    pub(crate) fn usage(&self) -> Usage {
        self.resources.usage()
    }

    /// Waits until connections use no more than so.
    pub(crate) fn until(&self, is_so: impl Fn(Usage) -> bool) {
        let begin = Instant::now();
        while !is_so(self.usage()) {
            assert!(begin.elapsed() < PATIENCE, "still in use: {:?}", self.usage());
            thread::yield_now();
        }
    }

    /// The bystander is served as if nothing were.
    pub(crate) fn bystander_is_served(&self) {
        let mut bystander = self.bystander.lock().unwrap();
        let bystander = bystander.as_mut().expect("it is there until the end");
        assert!(bystander.getattr(ROOT).is_ok());
        let fid = bystander.open("", RDONLY).unwrap();
        assert!(bystander.readdir(fid, 0, 1000).is_ok());
        bystander.clunk(fid).unwrap();
    }

    fn serving(&self) -> &Serving {
        self.serving.as_ref().expect("it is there until the end")
    }
}

impl Drop for Attacked {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.bystander_is_served();
        // And who comes afterwards, too.
        drop(self.client());
        // All that is left is the bystander's connection, and the place that is kept for the next.
        self.until(|usage| usage.connections <= 2 && usage.requests == 0 && usage.memory == 0);
        *self.bystander.lock().unwrap() = None;
        self.serving.take().expect("it is dropped once").ended();
        self.until(|usage| usage == Usage::default());
        assert_eq!(fs::read(self.beside()).unwrap(), b"secret");
        let begin = Instant::now();
        // There may be fewer: those of a test before this one may have been there still when it began.
        while open_descriptors() > self.descriptors {
            let left = fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| fs::read_link(entry.path()));
            assert!(begin.elapsed() < PATIENCE, "more than {}: {:?}", self.descriptors, left.collect::<Vec<_>>());
            thread::yield_now();
        }
    }
}

/// The `dir:` of the directory `export` below `outer`.
pub(crate) fn dir_backend(outer: PathBuf) -> DirBackend {
    DirBackend::new(&outer.join("export"), DirOptions::default()).unwrap()
}

/// How many descriptors this process has open.
fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Sends a request and waits for its reply, which must have its tag; `None` where the connection is closed instead.
pub(crate) fn ask(stream: &mut UnixStream, tag: u16, message: &Tmessage<'_>) -> Option<Vec<u8>> {
    ask_bytes(stream, &encode(tag, message, &[]))
}

/// The same of a request that is put together already.
pub(crate) fn ask_bytes(stream: &mut UnixStream, request: &[u8]) -> Option<Vec<u8>> {
    stream.write_all(request).unwrap();
    let reply = match receive(stream) {
        Ok(reply) => reply,
        Err(error) => {
            let closed = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind());
            assert!(closed, "no reply to {request:?}: {error}");
            return None;
        }
    };
    assert_eq!(reply[5..7], request[5..7], "the tag of {reply:?}");
    Some(reply)
}

/// The error that a reply tells; `None` where it grants what was asked.
pub(crate) fn error_of(reply: &[u8]) -> Option<Errno> {
    match Frame::<Rmessage<'_>>::decode(reply).unwrap().message {
        Rmessage::Rlerror { ecode } => Some(Errno(ecode)),
        _ => None,
    }
}

/// Bytes with the size in front that they have.
pub(crate) fn sized(kind: u8, tag: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = (7 + body.len() as u32).to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(tag.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// A `Tattach` of the whole export.
pub(crate) fn attach(fid: u32) -> Tmessage<'static> {
    // As this process's user, who may do there what the tests do.
    let n_uname = rustix::process::geteuid().as_raw();
    Tmessage::Tattach { fid, afid: NOFID, uname: Str(b""), aname: Str(b""), n_uname }
}

/// A `Twalk`. What it refers to stays in memory: tests are short.
pub(crate) fn walk<'a>(fid: u32, newfid: u32, names: &[&'a [u8]]) -> Tmessage<'a> {
    let names: Vec<_> = names.iter().map(|name| Str(name)).collect();
    Tmessage::Twalk { fid, newfid, names: Names::new(names.leak()).unwrap() }
}

/// Does the server close the connection? What it still says before is of no interest.
pub(crate) fn is_closed(stream: &mut UnixStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

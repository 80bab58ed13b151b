//! A server with a tree in memory, and a ring in memory that leads to it.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros, reason = "each test uses a part of this")]

mod ring;
mod server;

use std::cell::RefCell;

use ninering_client::{
    Error, Mount, Options, Outcome,
    vfs::{OpenFlags, Value},
};
use ninering_wire::{Attributes, Errno};
pub use ring::{Cut, MemoryRing};
pub use server::{Server, encode};

pub const READ: OpenFlags = OpenFlags { read: true, follow: true, ..NONE };
pub const WRITE: OpenFlags = OpenFlags { write: true, follow: true, ..NONE };
pub const CREATE: OpenFlags = OpenFlags { create: true, read: true, ..WRITE };
pub const PATH: OpenFlags = OpenFlags { follow: true, ..NONE };
pub const NONE: OpenFlags = OpenFlags {
    read: false,
    write: false,
    append: false,
    create: false,
    exclusive: false,
    directory: false,
    truncate: false,
    follow: false,
    sync: false,
    data_sync: false,
    attributes: false,
};

pub type Result<T = Value> = std::result::Result<T, Error>;

/// A mount, the ring below it, and the server below that.
pub struct Fixture {
    pub ring: MemoryRing,
    pub mount: Mount<MemoryRing>,
    /// What was completed while another operation was waited for.
    early: RefCell<Vec<(u32, Result)>>,
}

pub fn options() -> Options {
    Options {
        aname: "/".into(),
        uname: "tester".into(),
        n_uname: 1000,
        msize: 64 * 1024,
        ordered: false,
        plain: false,
        immediate: false,
        authenticate: false,
        client_id: "the tests".into(),
        recover: false,
    }
}

pub fn errno(errno: Errno) -> Result {
    Err(Error::Errno(errno))
}

/// Begins an operation and runs it to its end, whatever order the ring answers in.
macro_rules! run {
    ($fixture:expr, $($call:tt)*) => {{
        let outcome = $fixture.mount.run(async move |vfs| vfs.$($call)*.await);
        $fixture.finish(outcome)
    }};
}
pub(crate) use run;

impl Fixture {
    pub fn new(server: Server) -> Self {
        Self::with_ring(MemoryRing::new(server, 64))
    }

    pub fn with_ring(ring: MemoryRing) -> Self {
        Self::with_options(ring, options())
    }

    /// One whose client knows that the ring keeps the order of requests.
    pub fn ordered(ring: MemoryRing) -> Self {
        ring.server().is_ordered = true;
        Self::with_options(ring, Options { ordered: true, ..options() })
    }

    /// One whose server knows `Tvisit`, and answers in any order.
    pub fn with_visits(ring: MemoryRing) -> Self {
        ring.server().knows_visits = true;
        Self::with_options(ring, options())
    }

    /// One whose client knows besides that the ring answers at once.
    pub fn immediate(ring: MemoryRing) -> Self {
        ring.server().is_ordered = true;
        ring.server().knows_visits = true;
        Self::with_options(ring, Options { ordered: true, immediate: true, ..options() })
    }

    fn with_options(ring: MemoryRing, options: Options) -> Self {
        let fixture = Self::not_started(ring);
        let started = fixture.mount.start(options);
        fixture.finish(started).expect("the mount starts");
        fixture
    }

    pub fn not_started(ring: MemoryRing) -> Self {
        Self { mount: Mount::new(ring.clone()), ring, early: RefCell::default() }
    }

    /// The outcome of an operation, once the ring has answered all that is needed.
    pub fn finish(&self, outcome: Outcome<Value>) -> Result {
        let token = match outcome {
            Outcome::Complete(result) => return result,
            Outcome::Pending(token) => token,
        };
        loop {
            let mut completions = self.early.take();
            completions.extend(self.mount.reap());
            if let Some(place) = completions.iter().position(|&(other, _)| other == token) {
                let (_, result) = completions.swap_remove(place);
                self.early.replace(completions);
                return result;
            }
            self.early.replace(completions);
            if self.ring.is_cut() {
                self.reconnect();
                continue;
            }
            assert!(self.ring.serve_any(), "the operation waits, and nothing is in flight");
        }
    }

    /// How many operations were completed, well, while others were waited for.
    pub fn take_early(&self) -> usize {
        self.early.take().into_iter().inspect(|(_, result)| assert!(result.is_ok())).count()
    }

    /// Connects again, as often as it takes.
    pub fn reconnect(&self) {
        loop {
            // What waited to be sent goes to where nobody is.
            self.mount.reap();
            self.ring.connect();
            let mut outcome = self.mount.reconnect();
            while let Outcome::Pending(token) = outcome {
                assert!(self.ring.is_cut() || self.ring.serve_any(), "the recovery waits, and nothing is in flight");
                let mut completions = self.mount.reap();
                if let Some(place) = completions.iter().position(|&(other, _)| other == token) {
                    outcome = Outcome::Complete(completions.swap_remove(place).1);
                }
                self.early.borrow_mut().extend(completions);
            }
            match outcome {
                Outcome::Complete(Err(Error::InDoubt)) => assert!(self.ring.is_cut(), "there is a connection"),
                // It may not, the next time.
                Outcome::Complete(Err(Error::Errno(Errno::EMFILE))) => {}
                Outcome::Complete(result) => {
                    result.expect("the server is there again");
                    return;
                }
                Outcome::Pending(_) => unreachable!("waited for"),
            }
        }
    }

    /// One whose mount goes on when its connection is lost.
    pub fn recovering(ring: MemoryRing) -> Self {
        Self::with_options(ring, Options { recover: true, ..options() })
    }

    pub fn open(&self, path: &str, flags: OpenFlags) -> Result<u32> {
        self.open_at(0, path, flags)
    }

    pub fn open_at(&self, directory: u32, path: &str, flags: OpenFlags) -> Result<u32> {
        let path = path.to_owned();
        match run!(self, open(directory, path, flags, 0o644))? {
            Value::Opened { node, .. } => Ok(node),
            other => panic!("open yields {other:?}"),
        }
    }

    pub fn read(&self, node: u32, offset: u64, bytes: u32) -> Result<Vec<u8>> {
        let (iter, extent) = self.ring.buffer(bytes);
        let result = run!(self, read(node, offset, iter, bytes.into()));
        match result? {
            Value::Count(count) => Ok(self.ring.bytes(extent)[..count as usize].to_vec()),
            other => panic!("read yields {other:?}"),
        }
    }

    pub fn write(&self, node: u32, offset: u64, bytes: &[u8]) -> Result<u64> {
        let iter = self.ring.filled_buffer(bytes);
        let count = bytes.len() as u64;
        match run!(self, write(node, offset, iter, count))? {
            Value::Count(count) => Ok(count),
            other => panic!("write yields {other:?}"),
        }
    }

    pub fn stat(&self, path: &str, follow: bool) -> Result<Attributes> {
        self.stat_at(0, path, follow)
    }

    pub fn stat_at(&self, directory: u32, path: &str, follow: bool) -> Result<Attributes> {
        let path = path.to_owned();
        match run!(self, stat_at(directory, path, follow))? {
            Value::Attributes(attributes) => Ok(*attributes),
            other => panic!("stat-at yields {other:?}"),
        }
    }

    /// All names in a directory.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let node = self.open(path, READ)?;
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            match run!(self, read_directory(node, offset))? {
                Value::Entries { end: true, .. } => break,
                Value::Entries { entries, .. } => {
                    offset = entries.last().expect("an end without entries says so").offset;
                    names.extend(entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
                }
                other => panic!("read-directory yields {other:?}"),
            }
        }
        self.mount.close(node);
        Ok(names)
    }

    /// Lets the ring answer everything, and checks that client and server agree that nothing but the root and
    /// `nodes` more fids are left.
    pub fn assert_no_leak(&self, nodes: usize) {
        self.mount.reap();
        while self.ring.serve_any() {
            self.mount.reap();
        }
        self.mount.reap();
        assert_eq!(self.mount.session().tags_in_use(), 0, "tags");
        // The root is never closed, and neither is what its entries are read by.
        let root = 1 + self.ring.server().listings_of_root();
        assert!(root <= 2, "the root is listed by one fid");
        assert_eq!(self.mount.session().fids_in_use(), root + nodes, "fids");
        assert_eq!(self.ring.server().fids(), root + nodes, "fids of the server");
        assert_eq!(self.ring.server().misuse(), None);
        assert_eq!(self.ring.leases(), 0, "leases");
    }
}

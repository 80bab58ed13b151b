//! A backend whose calls wait until a test lets them go.
//!
//! It has one directory, and in that any name that one asks for. Reading gives the letter `x`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use ninering::{
    backend::{Backend, Entry, Node, NodeRef, OpenFile, OpenRef, User},
    payload::Payload,
};
use ninering_wire::{Attributes, Errno, Name, Qid, QidType, SetAttributes, Statfs, getattr};
use parking_lot::{Condvar, Mutex};

use super::serving::PATIENCE;

/// What a test sees and decides. Clones are one.
#[derive(Clone, Default)]
pub struct Gated {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
    reads: AtomicUsize,
    files: AtomicUsize,
    never_waits: AtomicBool,
}

impl Gated {
    /// Lets all calls go that wait and will.
    pub fn release(&self) {
        *self.shared.open.lock() = true;
        self.shared.opened.notify_all();
    }

    /// Makes calls wait again.
    pub fn hold(&self) {
        *self.shared.open.lock() = false;
    }

    /// Says that it never waits.
    pub fn claim_not_to_wait(&self) {
        self.shared.never_waits.store(true, SeqCst);
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(SeqCst)
    }

    /// Waits until so many calls wait.
    pub fn until_waiting(&self, count: usize) {
        until(|| self.waiting() == count);
    }

    /// How many files have been read, how often.
    pub fn reads(&self) -> usize {
        self.shared.reads.load(SeqCst)
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.shared.files.load(SeqCst)
    }

    fn pass(&self) {
        let mut open = self.shared.open.lock();
        self.shared.waiting.fetch_add(1, SeqCst);
        while !*open {
            self.shared.opened.wait(&mut open);
        }
        self.shared.waiting.fetch_sub(1, SeqCst);
    }
}

/// Waits until something is so.
pub fn until(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it does not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Backend for Gated {
    fn attach(&self, _user: &User, _aname: &[u8]) -> Result<NodeRef, Errno> {
        Ok(Arc::new(File { gate: self.clone(), name: Vec::new() }))
    }

    fn never_waits(&self) -> bool {
        self.shared.never_waits.load(SeqCst)
    }
}

struct File {
    gate: Gated,
    name: Vec<u8>,
}

impl Node for File {
    fn qid(&self) -> Qid {
        let kind = if self.name.is_empty() { QidType::DIR } else { QidType::FILE };
        Qid { kind, version: 1, path: 1 + self.name.len() as u64 }
    }

    fn lookup(&self, name: Name<'_>) -> Result<NodeRef, Errno> {
        Ok(Arc::new(Self { gate: self.gate.clone(), name: name.to_vec() }))
    }

    fn parent(&self) -> Result<Option<NodeRef>, Errno> {
        Ok(None)
    }

    fn attributes(&self, _request_mask: u64) -> Result<Attributes, Errno> {
        Ok(Attributes { valid: getattr::BASIC, qid: self.qid(), ..Attributes::default() })
    }

    fn set_attributes(&self, _changes: &SetAttributes) -> Result<(), Errno> {
        self.gate.pass();
        Ok(())
    }

    fn open(&self, _flags: u32) -> Result<OpenRef, Errno> {
        if self.name == b"slow to open" {
            self.gate.pass();
        }
        self.gate.shared.files.fetch_add(1, SeqCst);
        Ok(Arc::new(Open { gate: self.gate.clone(), name: self.name.clone() }))
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Ok(vec![b'x'; 100_000])
    }

    fn statfs(&self) -> Result<Statfs, Errno> {
        Ok(Statfs::default())
    }
}

struct Open {
    gate: Gated,
    name: Vec<u8>,
}

impl OpenFile for Open {
    fn read(&self, _offset: u64, into: &Payload<'_>) -> Result<usize, Errno> {
        self.gate.shared.reads.fetch_add(1, SeqCst);
        match self.name.as_slice() {
            b"slow" => self.gate.pass(),
            b"panics" => panic!("as a test asked for"),
            // A backend is not trusted to count.
            b"lies" => return Ok(usize::MAX),
            _ => {}
        }
        Ok(into.copy_from(&vec![b'x'; into.len()]))
    }

    fn write(&self, _offset: u64, from: &Payload<'_>) -> Result<usize, Errno> {
        match self.name.as_slice() {
            b"slow" => self.gate.pass(),
            b"lies" => return Ok(usize::MAX),
            _ => {}
        }
        Ok(from.len())
    }

    fn read_directory(&self, offset: u64, take: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), Errno> {
        let names: [&[u8]; 4] = [b"one", &[b'n'; 255], &[b'n'; 300], b"four"];
        for (at, name) in (1..).zip(names).skip(offset as usize) {
            if !take(Entry { qid: Qid::default(), offset: at, kind: 8, name }) {
                return Ok(());
            }
        }
        // Only who has nothing to show for it yet is to see this.
        Err(Errno::EIO)
    }

    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gate.shared.files.fetch_sub(1, SeqCst);
    }
}

//! The client crate compiled into this program, on the same ring, leases and device.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use anyhow::{Result, anyhow, bail};
use ninering::{
    device::{Device, local::LocalDevice},
    lease::Leases,
    region::{Extent, Region},
    server::{Server, Session},
    virtqueue::{Driver, QueueError},
};
use ninering_client::{
    Error, Mount, Options, Outcome,
    ring::{self, AddError, Direction, Ring, Transfer, Used},
    vfs::{OpenFlags, Value},
};
use ninering_iter::{IovIter, Kind, MapError, ScatterLists, Segment};
use ninering_wire::Errno;

use super::FILE;

/// The ring without a sandbox in front of it.
#[derive(Clone)]
struct NativeRing(Rc<Inner>);

struct Inner {
    region: Arc<Region>,
    state: RefCell<State>,
}

struct State {
    driver: Driver,
    leases: Leases,
    device: LocalDevice<Session>,
}

impl NativeRing {
    fn new(server: &Arc<Server>) -> Result<Self> {
        let region = Region::new(64 << 20)?;
        let (driver, queue) = Driver::new(Arc::clone(&region), 64)?;
        let leases = Leases::new(Arc::clone(&region), 16 << 20);
        let state = RefCell::new(State { driver, leases, device: LocalDevice::new(queue, server.session()) });
        Ok(Self(Rc::new(Inner { region, state })))
    }
}

impl Ring for NativeRing {
    type Iter = RefCell<IovIter>;

    fn queue_size(&self) -> u16 {
        self.0.state.borrow().driver.size()
    }

    fn max_header(&self) -> u32 {
        ninering::virtqueue::MAX_HEADER
    }

    fn add(
        &self,
        id: u32,
        header: &[u8],
        reply_len: u32,
        payload: Option<Transfer<'_, Self::Iter>>,
    ) -> Result<(), AddError> {
        let (mut out, mut into) = (Vec::new(), Vec::new());
        let mut lists = ScatterLists::new(payload.as_ref().map_or(0, |payload| payload.max_segments));
        if let Some(Transfer { iter, direction, bytes, .. }) = payload {
            let (direction, extents) = match direction {
                Direction::Source => (ninering_iter::Direction::Source, &mut out),
                Direction::Dest => (ninering_iter::Direction::Dest, &mut into),
            };
            let mapped = lists.map(direction, [(iter, bytes)], |ninering_iter::Extent { offset, len }| {
                extents.push(Extent { offset, len });
            });
            mapped.map_err(|error| match error {
                MapError::Short(bytes) => AddError::Short(bytes),
                MapError::Iter(_) => AddError::Refused(Errno::EIO),
            })?;
        }
        let State { driver, leases, .. } = &mut *self.0.state.borrow_mut();
        driver.add(leases, id, header, &out, reply_len, &into).map_err(|error| match error {
            QueueError::Full => AddError::Full,
            QueueError::Broken => AddError::Broken("the device is gone"),
            _ => AddError::Refused(Errno::EIO),
        })?;
        lists.keep();
        Ok(())
    }

    fn read_back(&self, iter: &Self::Iter, back: u64, len: u32) -> Option<Vec<u8>> {
        let mut iter = iter.borrow().clone();
        iter.revert(back).ok()?;
        let (mut read, mut is_read) = (vec![0; len as usize], true);
        let mut rest = read.as_mut_slice();
        iter.extract(len.into(), u32::MAX, |ninering_iter::Extent { offset, len }| {
            let (now, behind) = std::mem::take(&mut rest).split_at_mut(len as usize);
            rest = behind;
            is_read &= self.0.region.read(Extent { offset, len }, now).is_ok();
        });
        is_read.then_some(read)
    }

    fn kick(&self) -> Result<(), &'static str> {
        let State { driver, device, .. } = &mut *self.0.state.borrow_mut();
        if driver.kick_needed() {
            device.kick();
        }
        Ok(())
    }

    fn used(&self, mut take: impl FnMut(Used)) -> Result<(), &'static str> {
        let State { driver, leases, .. } = &mut *self.0.state.borrow_mut();
        while let Some(ninering::virtqueue::Used { id, written, header }) = driver.used(leases) {
            take(Used { id, written, header: header.into() });
        }
        Ok(())
    }

    fn allocate(&self, len: u32) -> Option<ring::Extent> {
        let Extent { offset, len } = self.0.state.borrow_mut().leases.allocate(len).ok()?;
        Some(ring::Extent { offset, len })
    }

    fn release(&self, ring::Extent { offset, len }: ring::Extent) {
        // Its own allocation, which is not in flight.
        let _ = self.0.state.borrow_mut().leases.release(Extent { offset, len });
    }

    fn read(&self, ring::Extent { offset, len }: ring::Extent) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        self.0.region.read(Extent { offset, len }, &mut bytes).ok()?;
        Some(bytes)
    }

    fn iter_over(&self, ring::Extent { offset, len }: ring::Extent) -> Option<Self::Iter> {
        Some(iter(ninering_iter::Direction::Dest, Extent { offset, len }))
    }
}

fn iter(direction: ninering_iter::Direction, Extent { offset, len }: Extent) -> RefCell<IovIter> {
    let segment = Segment { base: offset, len };
    let iter = IovIter::create(Kind::Ubuf, direction, vec![segment], len.into());
    RefCell::new(iter.expect("one segment is an iter"))
}

/// A mount without a sandbox.
pub(super) struct Client {
    ring: NativeRing,
    mount: Mount<NativeRing>,
    file: u32,
    buffer: Extent,
}

impl Client {
    pub(super) fn new(server: &Arc<Server>) -> Result<Self> {
        let ring = NativeRing::new(server)?;
        let mount = Mount::new(ring.clone());
        let options = Options {
            aname: String::new(),
            uname: String::new(),
            n_uname: rustix::process::geteuid().as_raw(),
            msize: (1 << 20) + 4096,
            ordered: true,
            plain: false,
            immediate: true,
            authenticate: false,
            client_id: String::new(),
            recover: false,
        };
        complete(mount.start(options))?;
        let buffer = ring.0.state.borrow_mut().leases.allocate(1 << 20)?;
        let flags = OpenFlags { write: true, create: true, ..reading() };
        let opened = complete(mount.run(async move |vfs| vfs.open(0, FILE.into(), flags, 0o644).await))?;
        let Value::Opened { node: file, .. } = opened else { bail!("open yields a node") };
        Ok(Self { ring, mount, file, buffer })
    }

    pub(super) fn run(&self, operation: &str, bytes: usize, count: u32) -> Result<()> {
        let file = self.file;
        let extent = Extent { len: bytes as u32, ..self.buffer };
        for _ in 0..count {
            match operation {
                "stat" => drop(complete(self.mount.run(async move |vfs| vfs.stat(file).await))?),
                "stat-at" => drop(complete(self.mount.run(async |vfs| vfs.stat_at(0, FILE.into(), true).await))?),
                "open-close" => {
                    let opened = complete(self.mount.run(async |vfs| vfs.open(0, FILE.into(), reading(), 0).await))?;
                    let Value::Opened { node, .. } = opened else { bail!("open yields a node") };
                    self.mount.close(node);
                }
                "read" => {
                    let iter = iter(ninering_iter::Direction::Dest, extent);
                    complete(self.mount.run(async move |vfs| vfs.read(file, 0, iter, bytes as u64).await))?;
                }
                "write" => {
                    let iter = iter(ninering_iter::Direction::Source, extent);
                    complete(self.mount.run(async move |vfs| vfs.write(file, 0, iter, bytes as u64).await))?;
                }
                other => bail!("no operation '{other}'"),
            }
        }
        debug_assert_eq!(self.ring.0.state.borrow().driver.in_flight(), 0);
        Ok(())
    }
}

fn reading() -> OpenFlags {
    OpenFlags { read: true, follow: true, ..OpenFlags::default() }
}

fn complete(outcome: Outcome<Value>) -> Result<Value> {
    match outcome {
        Outcome::Complete(result) => result.map_err(|error: Error| anyhow!("{error}")),
        Outcome::Pending(_) => bail!("an in-process server answers at once"),
    }
}

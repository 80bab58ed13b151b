//! A queue between a component and a device of which either, or both, mean no good, and the leases of the region that
//! they share: the functions that the host has behind the WIT interfaces `memory` and `virtqueue`.

use std::sync::Arc;

use ninering::{
    device::Chain,
    lease::{Leases, MemoryError},
    region::{Extent, Region},
    virtqueue::{DeviceQueue, Driver, Features, QueueError, SetupError},
};

use crate::trace::{Piece, Pieces, Step, Trace};

/// Bytes of the region.
const SIZE: u64 = 256 << 10;
/// Bytes that the component may allocate.
const LIMIT: u64 = 64 << 10;
/// What is in memory that is somebody else's.
const FOREIGN: u8 = 0xa5;
/// A descriptor's flag: it refers to a table.
const INDIRECT: u8 = 4;
/// How many steps of an input are taken.
const MOST_STEPS: usize = 400;

struct Buffer {
    extent: Extent,
    /// The component's own, not lent.
    own: bool,
    revoked: bool,
}

struct Request {
    id: u32,
    extents: Vec<Extent>,
    reply: u32,
    writable: u64,
}

struct World {
    region: Arc<Region>,
    leases: Leases,
    driver: Driver,
    device: DeviceQueue,
    /// Somebody else's memory.
    foreign: Extent,
    buffers: Vec<Buffer>,
    requests: Vec<Request>,
    /// Chains that a reset has ended, which come back first.
    ended: Vec<u32>,
    under_way: Vec<Chain>,
    next_id: u32,
    size: u16,
}

/// Plays `trace`, and panics where the host does not keep its word.
pub fn on_a_ring(trace: &Trace) {
    let mut world = World::new(trace.queue_size(), trace.features());
    for step in trace.steps.iter().take(MOST_STEPS) {
        world.take(step);
        world.check();
    }
    world.end();
}

fn overlap(one: &Extent, other: &Extent) -> bool {
    one.offset < other.offset + u64::from(other.len) && other.offset < one.offset + u64::from(one.len)
}

impl World {
    fn new(size: u16, features: Features) -> Self {
        let region = Region::new(SIZE).expect("a region");
        let (driver, device) = Driver::with_features(Arc::clone(&region), size, features).expect("a queue");
        let leases = Leases::new(Arc::clone(&region), LIMIT);
        let foreign = region.allocate(5000).expect("space");
        region.write(foreign.offset, &[FOREIGN; 5000]).expect("in range");
        let (buffers, requests, ended, under_way) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { region, leases, driver, device, foreign, buffers, requests, ended, under_way, next_id: 0, size }
    }

    fn resolve(&self, piece: &Piece) -> Extent {
        let buffer = |index: u8| match self.buffers.len() {
            0 => Extent { offset: 0, len: 1 },
            count => self.buffers[usize::from(index) % count].extent,
        };
        match *piece {
            Piece::Of { buffer: index, start, len } => {
                Extent { offset: buffer(index).offset + u64::from(start % 8192), len: u32::from(len % 8192) }
            }
            Piece::Whole(index) => buffer(index),
            Piece::Foreign { start, len } => {
                Extent { offset: self.foreign.offset.wrapping_add_signed(start.into()), len: len.into() }
            }
            Piece::Any(offset, len) => Extent { offset, len },
        }
    }

    fn is_held(&self, extent: &Extent) -> bool {
        self.requests.iter().flat_map(|request| &request.extents).any(|held| overlap(held, extent))
    }

    /// Is every byte of it leased to the component?
    fn is_leased(&self, extent: &Extent) -> bool {
        let Some(end) = extent.end().filter(|end| *end <= SIZE) else { return false };
        let mut at = extent.offset;
        while at < end {
            let lease = self.buffers.iter().filter(|buffer| !buffer.revoked).map(|buffer| buffer.extent);
            let Some(lease) = lease.into_iter().find(|lease| lease.offset <= at && at < lease.end().unwrap_or(0))
            else {
                return false;
            };
            at = lease.offset + u64::from(lease.len);
        }
        extent.len > 0
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Allocate(len) => {
                if let Ok(extent) = self.leases.allocate((*len).into()) {
                    self.own_now(extent, true);
                }
            }
            Step::Release(piece) => self.release(self.resolve(piece)),
            Step::ReleaseWhole(index) => self.release(self.resolve(&Piece::Whole(*index))),
            Step::Read(piece) => {
                let extent = self.resolve(piece);
                if self.leases.check(extent).is_ok() {
                    assert!(self.is_leased(&extent) && !self.is_held(&extent), "{extent:?} may be read");
                    let mut bytes = vec![0; extent.len as usize];
                    self.region.read(extent, &mut bytes).expect("in range");
                }
            }
            Step::Write(piece) => {
                let extent = self.resolve(piece);
                if self.leases.check(extent).is_ok() {
                    assert!(self.is_leased(&extent) && !self.is_held(&extent), "{extent:?} may be written");
                    self.region.write(extent.offset, &vec![7; extent.len as usize]).expect("in range");
                }
            }
            Step::Add { header, out, reply, input } => self.add(*header, out, *reply, input),
            Step::Used => self.used(),
            Step::Kick => _ = self.driver.kick_needed(),
            Step::ForgoInterrupts => self.driver.forgo_interrupts(),
            Step::WantInterrupt => _ = self.driver.want_interrupt(),
            Step::ForgoKicks => self.device.forgo_kicks(),
            Step::WantKick => _ = self.device.want_kick(),
            Step::InterruptNeeded => _ = self.device.interrupt_needed(),
            Step::Lend(len) => {
                if let Some(extent) = self.region.allocate((*len).into()) {
                    assert!(self.leases.lend(extent), "it is nobody's");
                    self.own_now(extent, false);
                }
            }
            Step::Revoke(index) if !self.buffers.is_empty() => {
                let index = usize::from(*index) % self.buffers.len();
                let extent = self.buffers[index].extent;
                let is_free = self.leases.revoke(extent);
                assert_eq!(is_free, !self.is_held(&extent));
                if !self.buffers[index].own {
                    self.buffers[index].revoked = true;
                    if is_free && self.leases.check(extent).is_err() {
                        self.buffers.swap_remove(index);
                        self.region.free(extent);
                    }
                }
            }
            Step::Abandon => self.abandon(),
            Step::Reset { detach } => self.reset(*detach),
            Step::Pop => {
                if let Some(chain) = self.device.pop() {
                    let all = [chain.readable(), chain.writable()].concat();
                    assert!(!all.is_empty() && self.region.payload(&all).is_ok());
                    self.under_way.push(chain);
                    assert!(self.under_way.len() <= self.size.into());
                }
            }
            Step::Complete { chain, written } if !self.under_way.is_empty() => {
                let chain = self.under_way.swap_remove(usize::from(*chain) % self.under_way.len());
                self.device.complete(chain, *written);
            }
            Step::Revoke(_) | Step::Complete { .. } => {}
            _ => self.scribble(step),
        }
    }

    /// Writes to the ring what nobody should.
    fn scribble(&self, step: &Step) {
        let layout = self.device.layout();
        let word = |offset: u64, value: u32| self.write(offset, &(value as u16).to_le_bytes());
        let used_idx = self.word(layout.used_idx());
        match step {
            Step::Return { ahead, id, len } => {
                let idx = used_idx.wrapping_add(u16::from(ahead % 4));
                let id = id.from(self.word(layout.avail_entry(idx)));
                self.write(layout.used_entry(idx), &[id.to_le_bytes(), len.to_le_bytes()].concat());
                word(layout.used_idx(), idx.wrapping_add(1).into());
            }
            Step::ReturnAgain => {
                let mut element = [0; 8];
                let last = Extent { offset: layout.used_entry(used_idx.wrapping_sub(1)), len: 8 };
                self.region.read(last, &mut element).expect("in range");
                self.write(layout.used_entry(used_idx), &element);
                word(layout.used_idx(), used_idx.wrapping_add(1).into());
            }
            Step::UsedIdx(index) => word(layout.used_idx(), index.from(used_idx)),
            Step::UsedFlags(flags) => word(layout.used, (*flags).into()),
            Step::AvailIdx(index) => word(layout.avail_idx(), index.from(self.word(layout.avail_idx()))),
            Step::AvailEntry(place, head) => word(layout.avail_entry((*place).into()), head.from((*place).into())),
            Step::AvailFlags(flags) => word(layout.avail, (*flags).into()),
            Step::Descriptor { index, piece, flags, next } => {
                let index = u16::from(*index) % layout.size;
                self.write_descriptor(layout.descriptor(index), piece, *flags, next.from(index));
            }
            Step::Table { index, entry, piece, flags, next } => {
                let mut descriptor = [0; 16];
                let place = layout.descriptor(u16::from(*index) % layout.size);
                self.region.read(Extent { offset: place, len: 16 }, &mut descriptor).expect("in range");
                let [a, b, c, d, e, f, g, h, ..] = descriptor;
                let table = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                let entry = u16::from(entry % 32);
                // What a descriptor says now may be anything, and this is to write in the ring's own memory.
                let behind = layout.end()..self.foreign.offset - 32 * 16;
                if descriptor[12] & INDIRECT != 0 && behind.contains(&table) {
                    self.write_descriptor(table + 16 * u64::from(entry), piece, *flags, next.from(entry));
                }
            }
            Step::Events(used_event, avail_event) => {
                word(layout.avail + 4 + 2 * u64::from(layout.size), used_event.from(used_idx));
                word(layout.used + 4 + 8 * u64::from(layout.size), avail_event.from(self.word(layout.avail_idx())));
            }
            _ => {}
        }
    }

    fn write_descriptor(&self, place: u64, piece: &Piece, flags: u16, next: u32) {
        let Extent { offset, len } = self.resolve(piece);
        let bytes = [&offset.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &(next as u16).to_le_bytes()];
        self.write(place, &bytes.concat());
    }

    fn word(&self, offset: u64) -> u16 {
        let mut bytes = [0; 2];
        self.region.read(Extent { offset, len: 2 }, &mut bytes).expect("in range");
        u16::from_le_bytes(bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        self.region.write(offset, bytes).expect("in range");
    }

    fn own_now(&mut self, extent: Extent, own: bool) {
        assert!(!overlap(&extent, &self.foreign), "somebody else's");
        assert!(self.buffers.iter().all(|buffer| !overlap(&buffer.extent, &extent)), "given away twice");
        self.buffers.push(Buffer { extent, own, revoked: false });
    }

    fn release(&mut self, extent: Extent) {
        let place = self.buffers.iter().position(|buffer| buffer.own && buffer.extent == extent);
        let expected = match place {
            None => Err(MemoryError::NotLeased),
            Some(_) if self.is_held(&extent) => Err(MemoryError::InFlight),
            Some(_) => Ok(()),
        };
        assert_eq!(self.leases.release(extent), expected);
        if let (Some(place), Ok(())) = (place, expected) {
            self.buffers.swap_remove(place);
        }
    }

    fn add(&mut self, header: u16, out: &Pieces, reply: u16, input: &Pieces) {
        let all = |pieces: &Pieces| pieces.0.iter().map(|piece| self.resolve(piece)).collect::<Vec<_>>();
        let (out, input) = (all(out), all(input));
        let id = self.next_id;
        self.next_id += 1;
        let was_broken = self.driver.is_broken();
        let header = vec![1; (header % 9000).into()];
        let reply = u32::from(reply % 9000);
        let added = self.driver.add(&mut self.leases, id, &header, &out, reply, &input);
        assert!(!was_broken || added == Err(QueueError::Broken));
        if added.is_err() {
            return;
        }
        let extents = [out, input.clone()].concat();
        for (index, extent) in extents.iter().enumerate() {
            assert!(self.is_leased(extent) && !self.is_held(extent), "{extent:?} is in a request");
            assert!(!extents[..index].iter().any(|before| overlap(before, extent)), "twice in one request");
        }
        let writable = u64::from(reply) + input.iter().map(|extent| u64::from(extent.len)).sum::<u64>();
        self.requests.push(Request { id, extents, reply, writable });
    }

    fn used(&mut self) {
        let was_broken = self.driver.is_broken();
        let Some(used) = self.driver.used(&mut self.leases) else { return };
        if !self.ended.is_empty() {
            assert_eq!((used.id, used.written, used.header.len()), (self.ended.remove(0), 0, 0));
            return;
        }
        assert!(!was_broken);
        let place = self.requests.iter().position(|request| request.id == used.id).expect("it was in flight");
        let request = self.requests.remove(place);
        assert!(u64::from(used.written) <= request.writable, "more than there was space for");
        assert_eq!(used.header.len() as u32, used.written.min(request.reply));
        self.retire();
    }

    /// Gives back what was revoked while a request had it, and is now nobody's.
    fn retire(&mut self) {
        let retired: Vec<_> = self.leases.retired().collect();
        for extent in retired {
            let place = self.buffers.iter().position(|buffer| buffer.revoked && buffer.extent == extent);
            self.buffers.swap_remove(place.expect("a buffer that was revoked"));
            assert!(!self.is_held(&extent), "it is still in a request");
            self.region.free(extent);
        }
        let kept = |buffer: &Buffer| !buffer.revoked || self.is_held(&buffer.extent);
        assert!(self.buffers.iter().all(kept), "what was revoked is kept for nobody");
    }

    fn ids(&mut self) -> Vec<u32> {
        self.ended.drain(..).chain(self.requests.drain(..).map(|request| request.id)).collect()
    }

    fn abandon(&mut self) {
        self.under_way.clear();
        let ids = self.driver.abandon(&mut self.leases);
        assert_eq!(ids, self.ids());
        self.retire();
        // The next life has a queue of its own.
        let features = self.driver.features();
        if let Ok((driver, device)) = Driver::with_features(Arc::clone(&self.region), self.size, features) {
            (self.driver, self.device) = (driver, device);
        }
    }

    fn reset(&mut self, detach: bool) {
        if detach {
            self.device.detach();
            self.under_way.clear();
        }
        match self.driver.reset(&mut self.leases) {
            Ok(device) => {
                self.device = device;
                self.under_way.clear();
                self.ended = self.ids();
                self.retire();
                assert!(!self.driver.is_broken());
            }
            Err(error) => assert!(!detach && error == SetupError::Attached, "{error}"),
        }
    }

    fn check(&self) {
        let with_extents = self.requests.iter().filter(|request| !request.extents.is_empty());
        assert_eq!(self.leases.in_flight(), with_extents.count());
        assert_eq!(usize::from(self.driver.in_flight()), self.requests.len());
        assert!(self.leases.allocated() <= LIMIT);
    }

    fn end(mut self) {
        self.abandon();
        self.check();
        for Buffer { extent, own, .. } in std::mem::take(&mut self.buffers) {
            if own {
                self.leases.release(extent).expect("it is nobody else's");
            } else {
                assert!(self.leases.revoke(extent));
                self.region.free(extent);
            }
        }
        let mut foreign = vec![0; self.foreign.len as usize];
        self.region.read(self.foreign, &mut foreign).expect("in range");
        assert!(foreign.iter().all(|&byte| byte == FOREIGN), "somebody else's memory was written");
        self.region.free(self.foreign);
        drop((self.driver, self.device, self.leases));
        assert_eq!(self.region.statistics().allocated_pages, 0, "pages are lost");
    }
}

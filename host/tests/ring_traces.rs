//! Random traces of what components, providers and devices do, against a plain model: no byte is ever in two live
//! requests, nobody's memory is given away too early, and all of it is free at the end.

mod ring_support;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use ninering::{
    device::{Chain, DeviceQueue},
    lease::{Leases, MemoryError, State},
    region::{Extent, PAGE, Region},
    virtqueue::{Driver, Features, QueueError, SetupError},
};
use proptest::prelude::*;

const SIZE: u64 = 512 << 10;
const QUEUE: u16 = 16;
const LIMIT: u64 = 64 << 10;

/// One step. Indices are taken modulo what there is; pieces are relative to a buffer, and may be forged.
#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    Release(usize),
    Lend(u32),
    Revoke(usize),
    Add { header: u32, reply: u32, out: Vec<Piece>, input: Vec<Piece> },
    Pop,
    Complete { chain: usize, written: u32 },
    Used,
    Abandon,
    Reset { detached: bool },
}

#[derive(Clone, Debug)]
struct Piece {
    buffer: usize,
    start: u32,
    len: u32,
}

fn piece() -> impl Strategy<Value = Piece> {
    let len = prop_oneof![8 => 1..2000u32, 2 => 1..9000u32, 1 => Just(0), 1 => any::<u32>()];
    (any::<usize>(), 0..8300u32, len).prop_map(|(buffer, start, len)| Piece { buffer, start, len })
}

fn step() -> impl Strategy<Value = Step> {
    let header = || prop_oneof![4 => 1..200u32, 1 => Just(0), 1 => 500..9000u32];
    let pieces = || prop::collection::vec(piece(), 0..4);
    prop_oneof![
        3 => (0..20_000u32).prop_map(Step::Allocate),
        2 => any::<usize>().prop_map(Step::Release),
        4 => (1..20_000u32).prop_map(Step::Lend),
        4 => any::<usize>().prop_map(Step::Revoke),
        12 => (header(), header(), pieces(), pieces())
            .prop_map(|(header, reply, out, input)| Step::Add { header, reply, out, input }),
        8 => Just(Step::Pop),
        8 => (any::<usize>(), any::<u32>()).prop_map(|(chain, written)| Step::Complete { chain, written }),
        8 => Just(Step::Used),
        1 => Just(Step::Abandon),
        2 => prop::bool::weighted(0.7).prop_map(|detached| Step::Reset { detached }),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Own,
    Lent,
    Revoked,
}

struct World {
    region: Arc<Region>,
    leases: Leases,
    driver: Driver,
    device: DeviceQueue,
    /// The model: who is leased what, and what each request holds.
    buffers: Vec<(Extent, Owner)>,
    next_id: u32,
    requests: Vec<(u32, Vec<Extent>, u32)>,
    under_way: Vec<Chain>,
    /// What a reset has ended, and the driver was not told of yet, in order.
    ended: VecDeque<u32>,
    /// The buffers of which requests have held some, by their offset.
    was_held: BTreeSet<u64>,
    /// A device that the queue was taken from, with what was under way then.
    late: Option<(DeviceQueue, Vec<Chain>)>,
}

fn overlap(a: &Extent, b: &Extent) -> bool {
    a.offset < b.offset + u64::from(b.len) && b.offset < a.offset + u64::from(a.len)
}

impl World {
    fn new(features: Features) -> Self {
        let region = Region::new(SIZE).unwrap();
        let (driver, device) = Driver::with_features(Arc::clone(&region), QUEUE, features).unwrap();
        let leases = Leases::new(Arc::clone(&region), LIMIT);
        Self {
            region,
            leases,
            driver,
            device,
            buffers: vec![],
            next_id: 0,
            requests: vec![],
            under_way: vec![],
            ended: VecDeque::new(),
            late: None,
            was_held: BTreeSet::new(),
        }
    }

    fn held(&self, extent: &Extent) -> bool {
        self.requests.iter().flat_map(|(_, extents, _)| extents).any(|held| overlap(held, extent))
    }

    fn own(&self) -> u64 {
        let own = self.buffers.iter().filter(|(_, owner)| *owner == Owner::Own);
        own.map(|(extent, _)| u64::from(extent.len.next_multiple_of(PAGE))).sum()
    }

    /// What the model says of a request's extent, those before it in the request being held too.
    fn judge(&self, extent: &Extent, before: &[Extent]) -> Result<(), MemoryError> {
        if extent.len == 0 || extent.end().is_none_or(|end| end > SIZE) {
            return Err(MemoryError::OutOfRange);
        }
        let leased = |at: u64| {
            let usable = self.buffers.iter().filter(|(_, owner)| *owner != Owner::Revoked);
            usable.map(|(buffer, _)| buffer).find(|buffer| buffer.offset <= at && at < buffer.end().unwrap())
        };
        let mut at = extent.offset;
        while at < extent.end().unwrap() {
            at = leased(at).ok_or(MemoryError::NotLeased)?.end().unwrap();
        }
        if self.held(extent) || before.iter().any(|held| overlap(held, extent)) {
            return Err(MemoryError::InFlight);
        }
        Ok(())
    }

    fn resolve(&self, pieces: &[Piece]) -> Vec<Extent> {
        let resolve = |piece: &Piece| match self.buffers.len() {
            0 => Extent { offset: piece.start.into(), len: piece.len },
            count => {
                Extent { offset: self.buffers[piece.buffer % count].0.offset + u64::from(piece.start), len: piece.len }
            }
        };
        pieces.iter().map(resolve).collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Allocate(len) => match self.leases.allocate(len) {
                Ok(extent) => {
                    assert!(self.buffers.iter().all(|(buffer, _)| !overlap(buffer, &extent)), "given away twice");
                    self.buffers.push((extent, Owner::Own));
                    assert!(self.own() <= LIMIT);
                }
                Err(error) if len == 0 => assert_eq!(error, MemoryError::OutOfRange),
                Err(error) => assert_eq!(error, MemoryError::NoSpace),
            },
            Step::Release(index) if !self.buffers.is_empty() => {
                let index = index % self.buffers.len();
                let (extent, owner) = self.buffers[index].clone();
                let expected = match owner {
                    Owner::Own if self.held(&extent) => Err(MemoryError::InFlight),
                    Owner::Own => Ok(()),
                    _ => Err(MemoryError::NotLeased),
                };
                assert_eq!(self.leases.release(extent), expected);
                if expected.is_ok() {
                    self.buffers.remove(index);
                }
            }
            Step::Lend(len) => {
                if let Some(extent) = self.region.allocate(len) {
                    assert!(self.buffers.iter().all(|(buffer, _)| !overlap(buffer, &extent)), "given away twice");
                    assert!(self.leases.lend(extent));
                    self.buffers.push((extent, Owner::Lent));
                }
            }
            Step::Revoke(index) if !self.buffers.is_empty() => {
                let index = index % self.buffers.len();
                let (extent, owner) = self.buffers[index].clone();
                assert_eq!(self.leases.revoke(extent), !self.held(&extent));
                match owner {
                    Owner::Lent if self.held(&extent) => self.buffers[index].1 = Owner::Revoked,
                    Owner::Lent => {
                        self.buffers.remove(index);
                        self.region.free(extent);
                    }
                    _ => {}
                }
            }
            Step::Add { header, reply, out, input } => {
                let (out, input) = (self.resolve(&out), self.resolve(&input));
                let all = [&out[..], &input[..]].concat();
                let id = self.next_id;
                self.next_id += 1;
                let added = self.driver.add(&mut self.leases, id, &vec![1; header as usize], &out, reply, &input);
                let refusal = (0..all.len()).find_map(|index| self.judge(&all[index], &all[..index]).err());
                match added {
                    Ok(()) => {
                        assert_eq!(refusal, None);
                        let touched = |buffer: &Extent| all.iter().any(|extent| overlap(extent, buffer));
                        let touched = self.buffers.iter().map(|(buffer, _)| buffer).filter(|buffer| touched(buffer));
                        self.was_held.extend(touched.map(|buffer| buffer.offset));
                        let writable = reply + input.iter().map(|extent| extent.len).sum::<u32>();
                        self.requests.push((id, all, writable));
                    }
                    Err(QueueError::Memory(error)) => {
                        let expected = [refusal, Some(MemoryError::NoSpace), Some(MemoryError::TooLarge)];
                        let nothing = all.is_empty() && header + reply == 0;
                        assert!(nothing || expected.contains(&Some(error)), "{error:?}, not {refusal:?}");
                    }
                    Err(error) => assert_eq!(error, QueueError::Full),
                }
            }
            Step::Pop => self.under_way.extend(self.device.pop()),
            Step::Complete { chain, written } if !self.under_way.is_empty() => {
                let chain = self.under_way.swap_remove(chain % self.under_way.len());
                self.device.complete(chain, written);
            }
            Step::Used if !self.ended.is_empty() => {
                let used = self.driver.used(&mut self.leases).expect("what was reset is told of");
                assert_eq!((Some(used.id), used.written, used.header.len()), (self.ended.pop_front(), 0, 0));
            }
            Step::Used => {
                if let Some(used) = self.driver.used(&mut self.leases) {
                    let index = self.requests.iter().position(|(id, ..)| *id == used.id);
                    let (_, _, writable) = self.requests.remove(index.expect("a request under way"));
                    assert!(used.written <= writable && used.header.len() <= used.written as usize);
                    self.retire();
                }
            }
            Step::Abandon => {
                // The device is gone; another queue takes the place of this one.
                self.under_way.clear();
                let ids = self.driver.abandon(&mut self.leases);
                let expected: Vec<_> = self.ended.drain(..).chain(self.requests.drain(..).map(|(id, ..)| id)).collect();
                assert_eq!(ids, expected);
                self.retire();
                let features = self.driver.features();
                (self.driver, self.device) =
                    Driver::with_features(Arc::clone(&self.region), QUEUE, features).expect("space");
            }
            Step::Reset { detached: false } => {
                assert_eq!(self.driver.reset(&mut self.leases).err(), Some(SetupError::Attached));
            }
            Step::Reset { detached: true } => {
                self.device.detach();
                let fresh = self.driver.reset(&mut self.leases).expect("nobody is attached");
                let old = std::mem::replace(&mut self.device, fresh);
                self.late = Some((old, std::mem::take(&mut self.under_way)));
                self.ended.extend(self.requests.drain(..).map(|(id, ..)| id));
                self.retire();
            }
            Step::Release(_) | Step::Revoke(_) | Step::Complete { .. } => {}
        }
        // A device that the queue was taken from goes on as if it were not, and does nothing by it.
        if let Some((queue, chains)) = &mut self.late {
            assert!(queue.pop().is_none() && queue.is_broken());
            if let Some(chain) = chains.pop() {
                queue.complete(chain, 1);
            }
        }
        let buffers = &self.buffers;
        self.was_held.retain(|offset| buffers.iter().any(|(buffer, _)| buffer.offset == *offset));
        let mut held: Vec<_> = self.requests.iter().flat_map(|(_, extents, _)| extents).collect();
        held.sort_by_key(|extent| extent.offset);
        assert!(held.windows(2).all(|pair| !overlap(pair[0], pair[1])), "a byte in two requests");
        let with_extents = self.requests.iter().filter(|(_, extents, _)| !extents.is_empty());
        assert_eq!(self.leases.in_flight(), with_extents.count());
        assert_eq!(self.leases.allocated(), self.own());
        for (buffer, owner) in &self.buffers {
            let held = self.held(buffer);
            assert_eq!(self.leases.is_in_flight(*buffer), held);
            let was_held = self.was_held.contains(&buffer.offset);
            let state = match owner {
                Owner::Revoked => State::Revoked,
                _ if held => State::InFlight,
                _ if was_held => State::Returned,
                _ => State::Filled,
            };
            assert_eq!(self.leases.state(*buffer), state);
            // The component reads and writes what is its, and nothing of what is the device's.
            if state != State::InFlight {
                let usable = matches!(state, State::Filled | State::Returned);
                assert_eq!(self.leases.check(*buffer).is_ok(), usable);
            }
        }
        for (_, extents, _) in &self.requests {
            assert!(extents.iter().all(|extent| self.leases.check(*extent).is_err()));
        }
    }

    /// Gives back the revoked buffers that nothing holds any more.
    fn retire(&mut self) {
        let mut expected = Vec::new();
        for (buffer, owner) in std::mem::take(&mut self.buffers) {
            if owner == Owner::Revoked && !self.held(&buffer) {
                expected.push(buffer);
            } else {
                self.buffers.push((buffer, owner));
            }
        }
        let mut retired: Vec<_> = self.leases.retired().collect();
        retired.sort_by_key(|extent| extent.offset);
        expected.sort_by_key(|extent| extent.offset);
        assert_eq!(retired, expected);
        for extent in retired {
            self.region.free(extent);
        }
    }

    fn end(mut self) {
        self.take(Step::Abandon);
        while let Some((extent, owner)) = self.buffers.pop() {
            match owner {
                Owner::Own => self.leases.release(extent).unwrap(),
                _ => {
                    assert!(self.leases.revoke(extent));
                    self.region.free(extent);
                }
            }
        }
        drop((self.driver, self.device, self.late, self.leases));
        assert_eq!(self.region.statistics().allocated_pages, 0);
        assert!(self.region.allocate(SIZE as u32).is_some(), "in one run");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn leases_never_overlap_and_never_leak(
        features in prop::sample::select(vec![Features::VERSION_1, Features::ALL]),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new(features);
        for step in steps {
            world.take(step);
        }
        world.end();
    }
}

//! The iter component by itself, on a region and a queue that only note what they are asked for.

#![cfg(feature = "mount")]

use wasmtime::{
    Engine, Store,
    component::{Component, HasSelf, Linker, Resource, ResourceAny},
};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "iter-component",
        with: {
            "ninering:fs/memory.region": super::RegionHandle,
            "ninering:fs/virtqueue.virtqueue": super::QueueHandle,
        },
        imports: { default: trappable },
    });
}

use bindings::{
    IterComponent,
    exports::ninering::fs::iter::{AddError, CopyError, Direction, IterError, IterState, Kind, Segment, Transfer},
    ninering::fs::{
        memory::{self, Extent, MemoryError},
        virtqueue::{self, BriefReply, Chain, Payload, QueueError, Replies, Returned, Submitted, UsedChain},
    },
};

const ITER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/iter-alone.wasm"));
const REGION: usize = 1 << 20;
/// The number of the queue.
const QUEUE: u32 = 7;

/// What stands for the region.
pub struct RegionHandle;
/// What stands for the queue.
pub struct QueueHandle;

/// A chain's header, and the offsets and lengths of its extents, out and in.
type Added = (Vec<u8>, Vec<(u64, u32)>, Vec<(u64, u32)>);

/// A region, and a queue that returns at once what it is given.
struct Host {
    bytes: Vec<u8>,
    /// The chains that were added.
    chains: Vec<Added>,
    full: bool,
}

impl Host {
    fn add(&mut self, header: &[u8], out: &[Extent], into: &[Extent]) -> Result<(), QueueError> {
        if self.full {
            return Err(QueueError::Full);
        }
        let pairs = |extents: &[Extent]| extents.iter().map(|extent| (extent.offset, extent.len)).collect();
        self.chains.push((header.to_vec(), pairs(out), pairs(into)));
        Ok(())
    }
}

impl memory::Host for Host {}
impl virtqueue::Host for Host {
    fn submit_one(
        &mut self,
        queue: u32,
        id: u32,
        header: Vec<u8>,
        _reply_len: u32,
        payload: Payload,
    ) -> wasmtime::Result<(Result<(), QueueError>, Returned)> {
        if queue != QUEUE {
            return Ok((Err(QueueError::Broken), Returned::Nothing));
        }
        let added = match payload {
            Payload::None => self.add(&header, &[], &[]),
            Payload::Out(extent) => self.add(&header, &[extent], &[]),
            Payload::In(extent) => self.add(&header, &[], &[extent]),
        };
        let chain = UsedChain { id, written: 2, header_len: 2 };
        Ok((added, Returned::Brief(BriefReply { chain, header: (0x0201, 0, 0) })))
    }
}

impl memory::HostRegion for Host {
    fn size(&mut self, _: Resource<RegionHandle>) -> wasmtime::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn page_size(&mut self, _: Resource<RegionHandle>) -> wasmtime::Result<u32> {
        Ok(4096)
    }

    fn allocate(&mut self, _: Resource<RegionHandle>, _: u32) -> wasmtime::Result<Result<Extent, MemoryError>> {
        Ok(Err(MemoryError::NoSpace))
    }

    fn release(&mut self, _: Resource<RegionHandle>, _: Extent) -> wasmtime::Result<Result<(), MemoryError>> {
        Ok(Err(MemoryError::NotLeased))
    }

    fn read(&mut self, _: Resource<RegionHandle>, from: Extent) -> wasmtime::Result<Result<Vec<u8>, MemoryError>> {
        let bytes = self.bytes.get(from.offset as usize..).and_then(|bytes| bytes.get(..from.len as usize));
        Ok(bytes.map(<[u8]>::to_vec).ok_or(MemoryError::OutOfRange))
    }

    fn write(
        &mut self,
        _: Resource<RegionHandle>,
        offset: u64,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), MemoryError>> {
        let place = self.bytes.get_mut(offset as usize..).and_then(|place| place.get_mut(..bytes.len()));
        Ok(place.map(|place| place.copy_from_slice(&bytes)).ok_or(MemoryError::OutOfRange))
    }

    fn drop(&mut self, _: Resource<RegionHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl virtqueue::HostVirtqueue for Host {
    fn size(&mut self, _: Resource<QueueHandle>) -> wasmtime::Result<u16> {
        Ok(64)
    }

    fn max_header(&mut self, _: Resource<QueueHandle>) -> wasmtime::Result<u32> {
        Ok(65_536)
    }

    fn add(
        &mut self,
        _: Resource<QueueHandle>,
        _id: u32,
        header: Vec<u8>,
        out: Vec<Extent>,
        _reply_len: u32,
        into: Vec<Extent>,
    ) -> wasmtime::Result<Result<(), QueueError>> {
        Ok(self.add(&header, &out, &into))
    }

    fn share(&mut self, _: Resource<QueueHandle>) -> wasmtime::Result<Resource<QueueHandle>> {
        Ok(Resource::new_own(0))
    }

    fn number(&mut self, _: Resource<QueueHandle>) -> wasmtime::Result<u32> {
        Ok(QUEUE)
    }

    fn kick(&mut self, _: Resource<QueueHandle>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn used(&mut self, _: Resource<QueueHandle>) -> wasmtime::Result<Returned> {
        Ok(Returned::Nothing)
    }

    fn submit(
        &mut self,
        _: Resource<QueueHandle>,
        chains: Vec<Chain>,
        headers: Vec<u8>,
    ) -> wasmtime::Result<Submitted> {
        let mut returned = Replies { chains: vec![UsedChain { id: 99, written: 1, header_len: 1 }], headers: vec![7] };
        let mut stopped = None;
        for chain in &chains {
            match self.add(&headers[..chain.header_len as usize], &chain.out, &chain.in_) {
                Ok(()) => returned.chains.push(UsedChain { id: chain.id, written: 0, header_len: 0 }),
                Err(error) => stopped = Some(error),
            }
        }
        Ok(Submitted { added: u32::from(stopped.is_none()), stopped, returned: Returned::Many(returned) })
    }

    fn drop(&mut self, _: Resource<QueueHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

struct Fixture {
    store: Store<Host>,
    component: IterComponent,
}

/// Calls a function of the component's iter: `call!(fixture, count(iter))`.
macro_rules! call {
    ($fixture:expr, $method:ident($iter:expr $(, $argument:expr)*)) => {
        $fixture
            .component
            .ninering_fs_iter()
            .iov_iter()
            .$method(&mut $fixture.store, $iter $(, $argument)*)
            .expect("no trap")
    };
}

impl Fixture {
    fn new() -> Self {
        let engine = Engine::default();
        let component = Component::new(&engine, ITER).expect("a component");
        let mut linker = Linker::new(&engine);
        IterComponent::add_to_linker::<Host, HasSelf<Host>>(&mut linker, |host| host).expect("a linker");
        let bytes = (0..REGION).map(|place| (place % 251) as u8).collect();
        let mut store = Store::new(&engine, Host { bytes, chains: vec![], full: false });
        let component = IterComponent::instantiate(&mut store, &component, &linker).expect("an instance");
        Self { store, component }
    }

    fn iter(
        &mut self,
        kind: Kind,
        direction: Direction,
        segments: &[(u64, u32)],
        count: u64,
    ) -> Result<ResourceAny, IterError> {
        let segments: Vec<_> = segments.iter().map(|&(base, len)| Segment { base, len }).collect();
        call!(self, call_create(kind, direction, &segments, count))
    }

    /// `submit-iter` with an iter that the device writes to.
    fn submit(&mut self, iter: ResourceAny, bytes: u64) -> (Result<(), AddError>, Vec<u32>) {
        let queue = Resource::new_borrow(0);
        let transfer = Transfer { iter, bytes };
        let (added, returned) = self
            .component
            .ninering_fs_iter()
            .call_submit_iter(&mut self.store, queue, 5, b"header", &[], 11, &[transfer], 3)
            .expect("no trap");
        let Returned::Many(returned) = returned else { panic!("{returned:?}") };
        (added, returned.chains.iter().map(|chain| chain.id).collect())
    }
}

#[test]
fn every_kind_is_mapped_by_its_own_rule() {
    let neighbours = [(4096, 8192), (12288, 4096)];
    let one: &[(u64, u32)] = &[(4096, 12288)];
    for (kind, expected) in [
        (Kind::Iovec, one),
        (Kind::Kvec, one),
        (Kind::Bvec, &[(4096, 4096), (8192, 4096), (12288, 4096)]),
        (Kind::Folioq, &neighbours),
        (Kind::Xarray, &[(4096, 4096), (8192, 4096), (12288, 4096)]),
    ] {
        let mut fixture = Fixture::new();
        let iter = fixture.iter(kind, Direction::Dest, &neighbours, 12288).unwrap();
        let (added, ids) = fixture.submit(iter, 12288);
        assert_eq!((added.is_ok(), ids), (true, vec![99, 5]), "{kind:?}");
        assert_eq!(fixture.store.data().chains, [(b"header".to_vec(), vec![], expected.to_vec())], "{kind:?}");
        assert_eq!(call!(fixture, call_count(iter)), 0, "what was added is passed");
    }
}

#[test]
fn what_comes_back_is_not_lost_where_nothing_is_added() {
    let mut fixture = Fixture::new();
    let iter = fixture.iter(Kind::Xarray, Direction::Dest, &[(0, 16384)], 16384).unwrap();
    let (added, ids) = fixture.submit(iter, 16384);
    assert!(matches!(added, Err(AddError::Short(12288))), "four pages, where three extents are allowed");
    assert_eq!(ids, [99]);
    fixture.store.data_mut().full = true;
    let (added, ids) = fixture.submit(iter, 4096);
    assert!(matches!(added, Err(AddError::Queue(QueueError::Full))));
    assert_eq!((ids, call!(fixture, call_count(iter))), (vec![99], 16384));
}

#[test]
fn a_request_has_several_lists_each_way() {
    let mut fixture = Fixture::new();
    let source = |fixture: &mut Fixture, kind, at| fixture.iter(kind, Direction::Source, &[at], at.1.into()).unwrap();
    let dest = |fixture: &mut Fixture, kind, at| fixture.iter(kind, Direction::Dest, &[at], at.1.into()).unwrap();
    let (one, two) =
        (source(&mut fixture, Kind::Folioq, (4096, 8192)), source(&mut fixture, Kind::Bvec, (12288, 4196)));
    let (three, four) = (dest(&mut fixture, Kind::Kvec, (20000, 24)), dest(&mut fixture, Kind::Ubuf, (20024, 100)));
    let lists = |lists: &[(ResourceAny, u64)]| -> Vec<_> {
        lists.iter().map(|&(iter, bytes)| Transfer { iter, bytes }).collect()
    };
    let add = |fixture: &mut Fixture, out: &[_], into: &[_], most| {
        let (out, into) = (lists(out), lists(into));
        let iters = fixture.component.ninering_fs_iter().clone();
        iters
            .call_add_iter(&mut fixture.store, Resource::new_borrow(0), 5, b"header", &out, 11, &into, most)
            .expect("no trap")
    };
    let (out, into) = ([(one, 8192), (two, 4196)], [(three, 24), (four, 60), (four, 40)]);
    // What cannot be added moves nothing, wherever it fails.
    let left = |fixture: &mut Fixture| [one, two, three, four].map(|iter| call!(fixture, call_count(iter)));
    let all = [8192, 4196, 24, 100];
    assert!(matches!(add(&mut fixture, &out, &into, 2), Err(AddError::Short(12288))), "a folio and a page");
    assert!(matches!(add(&mut fixture, &out, &into, 5), Err(AddError::Short(84))), "of the other direction");
    let long = [(three, 24), (four, 60), (four, 41)];
    assert!(matches!(add(&mut fixture, &out, &long, 9), Err(AddError::Iter(IterError::OutOfBounds))));
    assert!(matches!(add(&mut fixture, &out, &[(one, 1)], 9), Err(AddError::Iter(IterError::Direction))));
    fixture.store.data_mut().full = true;
    assert!(matches!(add(&mut fixture, &out, &into, 9), Err(AddError::Queue(QueueError::Full))));
    fixture.store.data_mut().full = false;
    assert_eq!(left(&mut fixture), all);
    assert!(fixture.store.data().chains.is_empty());

    add(&mut fixture, &out, &into, 6).unwrap();
    // Neighbours, and the device sees each list apart.
    let out = vec![(4096, 8192), (12288, 4096), (16384, 100)];
    let into = vec![(20000, 24), (20024, 60), (20084, 40)];
    assert_eq!(fixture.store.data().chains, [(b"header".to_vec(), out, into)]);
    assert_eq!(left(&mut fixture), [0; 4]);
}

#[test]
fn nothing_can_be_put_where_it_is_discarded_but_by_a_copy() {
    let mut fixture = Fixture::new();
    let iter = fixture.iter(Kind::Discard, Direction::Dest, &[], 100).unwrap();
    let (added, _) = fixture.submit(iter, 50);
    assert!(matches!(added, Err(AddError::Iter(IterError::Unmappable))));
    call!(fixture, call_copy_to(iter, Resource::new_borrow(0), &[1; 60])).unwrap();
    assert_eq!(call!(fixture, call_count(iter)), 40);
    let before: Vec<u8> = (0..REGION).map(|place| (place % 251) as u8).collect();
    assert!(fixture.store.data().bytes == before);
    assert_eq!(fixture.iter(Kind::Discard, Direction::Source, &[], 1), Err(IterError::Direction));
}

#[test]
fn bytes_are_copied_out_of_and_into_what_the_segments_say() {
    let mut fixture = Fixture::new();
    let source = fixture.iter(Kind::Kvec, Direction::Source, &[(10, 5), (500, 5)], 10).unwrap();
    let copied = call!(fixture, call_copy_from(source, Resource::new_borrow(0), 8)).unwrap();
    assert_eq!(copied, [10, 11, 12, 13, 14, 249, 250, 0]);
    let state = call!(fixture, call_save(source));
    assert_eq!((state.passed, state.left), (8, 2));
    call!(fixture, call_restore(source, IterState { passed: 2, left: 4 })).unwrap();
    let copied = call!(fixture, call_copy_from(source, Resource::new_borrow(0), 4)).unwrap();
    assert_eq!(copied, [12, 13, 14, 249]);

    let target = fixture.iter(Kind::Bvec, Direction::Dest, &[(4090, 6), (8192, 6)], 12).unwrap();
    call!(fixture, call_copy_to(target, Resource::new_borrow(0), b"0123456789")).unwrap();
    assert_eq!(
        (&fixture.store.data().bytes[4090..4096], &fixture.store.data().bytes[8192..8196]),
        (&b"012345"[..], &b"6789"[..])
    );
    assert_eq!(call!(fixture, call_count(target)), 2);
}

#[test]
fn a_copy_that_cannot_be_leaves_the_iter_where_it_was() {
    let mut fixture = Fixture::new();
    let region = || Resource::new_borrow(0);
    let end = REGION as u64;
    let iter = fixture.iter(Kind::Kvec, Direction::Source, &[(end - 4, 8), (0, 1 << 20)], 1 << 20).unwrap();
    let outside = call!(fixture, call_copy_from(iter, region(), 8));
    assert!(matches!(outside, Err(CopyError::Memory(MemoryError::OutOfRange))));
    let long = call!(fixture, call_copy_from(iter, region(), 65_537));
    assert!(matches!(long, Err(CopyError::Memory(MemoryError::TooLarge))));
    assert!(matches!(call!(fixture, call_copy_to(iter, region(), &[1])), Err(CopyError::Iter(IterError::Direction))));
    let short = fixture.iter(Kind::Ubuf, Direction::Dest, &[(0, 4)], 4).unwrap();
    assert!(matches!(
        call!(fixture, call_copy_to(short, region(), &[1; 5])),
        Err(CopyError::Iter(IterError::OutOfBounds))
    ));
    assert_eq!((call!(fixture, call_count(iter)), call!(fixture, call_count(short))), (1 << 20, 4));
    assert_eq!((call!(fixture, call_pages(short, 9)), call!(fixture, call_alignment(short))), (1, 4));
}

#[test]
fn one_buffer_is_submitted_without_a_handle_to_an_iter() {
    let mut fixture = Fixture::new();
    let iters = fixture.component.ninering_fs_iter().clone();
    let submit = |fixture: &mut Fixture, queue, direction, buffer| {
        let submitted = iters.call_submit_ubuf(&mut fixture.store, queue, 5, b"header", direction, buffer, 11);
        submitted.expect("no trap")
    };
    let buffer = Segment { base: 4097, len: 9000 };
    let unknown = submit(&mut fixture, 0, Direction::Dest, buffer);
    assert!(matches!(unknown, (Err(AddError::Queue(QueueError::Broken)), Returned::Nothing)));
    assert!(fixture.store.data().chains.is_empty());

    for direction in [Direction::Dest, Direction::Source] {
        let (added, returned) = submit(&mut fixture, QUEUE, direction, buffer);
        let Returned::Brief(BriefReply { chain, header }) = returned else { panic!("{returned:?}") };
        assert_eq!((added.is_ok(), chain.id, chain.header_len, header), (true, 5, 2, (0x0201, 0, 0)));
    }
    let extent = (4097, 9000);
    let chains = &fixture.store.data().chains;
    let extents: Vec<_> = chains.iter().map(|(_, out, into)| (out.as_slice(), into.as_slice())).collect();
    assert_eq!(extents, [(&[][..], &[extent][..]), (&[extent], &[])]);

    let overflowing = Segment { base: u64::MAX, len: 2 };
    let refused = submit(&mut fixture, QUEUE, Direction::Dest, overflowing);
    assert!(matches!(refused, (Err(AddError::Iter(IterError::Overflow)), Returned::Nothing)));
    assert_eq!(fixture.store.data().chains.len(), 2);
}

//! The component: world `iter-component`.

mod bindings {
    // Borrowed where they are arguments of imports: the extents need not be copied to be added.
    wit_bindgen::generate!({
        path: "../../wit",
        world: "iter-component",
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}

use std::cell::RefCell;

use bindings::{
    exports::ninering::fs::iter::{AddError, Guest, GuestIovIter, IovIter as IovIterResource, Transfer},
    exports::ninering::fs::iter::{CopyError, Direction, IterError, IterState, Kind, Segment},
    ninering::fs::{
        memory::{Extent, MemoryError, Region},
        virtqueue::{Chain, Payload, Returned, Submitted, Virtqueue, submit_one},
    },
};
use smallvec::SmallVec;

use crate::{self as iov_iter, MapError, ScatterLists};

/// The extents of one direction; most transfers have one.
type Extents = SmallVec<[Extent; 8]>;

/// The most bytes that are copied at a time: as many as the host takes.
const MOST_COPIED: u64 = 65_536;

struct Component;

bindings::export!(Component with_types_in bindings);

/// An iter behind its handle.
struct Iter(RefCell<iov_iter::IovIter>);

impl GuestIovIter for Iter {
    fn create(
        kind: Kind,
        direction: Direction,
        segments: Vec<Segment>,
        count: u64,
    ) -> Result<IovIterResource, IterError> {
        let kind = match kind {
            Kind::Ubuf => iov_iter::Kind::Ubuf,
            Kind::Iovec => iov_iter::Kind::Iovec,
            Kind::Kvec => iov_iter::Kind::Kvec,
            Kind::Bvec => iov_iter::Kind::Bvec,
            Kind::Folioq => iov_iter::Kind::Folioq,
            Kind::Xarray => iov_iter::Kind::Xarray,
            Kind::Discard => iov_iter::Kind::Discard,
        };
        let segments = segments.into_iter().map(|Segment { base, len }| iov_iter::Segment { base, len });
        let iter = iov_iter::IovIter::create(kind, direction.into(), segments, count)?;
        Ok(IovIterResource::new(Self(RefCell::new(iter))))
    }

    fn count(&self) -> u64 {
        self.0.borrow().count()
    }

    fn advance(&self, bytes: u64) -> Result<(), IterError> {
        Ok(self.0.borrow_mut().advance(bytes)?)
    }

    fn revert(&self, bytes: u64) -> Result<(), IterError> {
        Ok(self.0.borrow_mut().revert(bytes)?)
    }

    fn truncate(&self, bytes: u64) {
        self.0.borrow_mut().truncate(bytes);
    }

    fn reexpand(&self, bytes: u64) -> Result<(), IterError> {
        Ok(self.0.borrow_mut().reexpand(bytes)?)
    }

    fn save(&self) -> IterState {
        let iov_iter::IterState { passed, left } = self.0.borrow().save();
        IterState { passed, left }
    }

    fn restore(&self, IterState { passed, left }: IterState) -> Result<(), IterError> {
        Ok(self.0.borrow_mut().restore(iov_iter::IterState { passed, left })?)
    }

    fn alignment(&self) -> u64 {
        self.0.borrow().alignment()
    }

    fn pages(&self, most: u32) -> u32 {
        self.0.borrow().pages(most)
    }

    fn copy_from(&self, region: &Region, bytes: u32) -> Result<Vec<u8>, CopyError> {
        check_length(bytes.into())?;
        let mut copied = Vec::with_capacity(bytes as usize);
        self.0.borrow_mut().copy_from(bytes.into(), |extent| {
            copied.extend(region.read(extent.into())?);
            Ok(())
        })?;
        Ok(copied)
    }

    fn copy_to(&self, region: &Region, bytes: Vec<u8>) -> Result<(), CopyError> {
        check_length(bytes.len() as u64)?;
        Ok(self.0.borrow_mut().copy_to(&bytes, |offset, bytes| region.write(offset, bytes))?)
    }

    fn single_segment_count(&self) -> u64 {
        self.0.borrow().single_segment_count()
    }

    fn extract(&self, max_bytes: u64, max_segments: u32) -> Vec<Extent> {
        let mut extents = Vec::new();
        self.0.borrow().extract(max_bytes, max_segments, |extent| extents.push(extent.into()));
        extents
    }
}

/// Is it no more than the host copies at a time?
fn check_length(bytes: u64) -> Result<(), CopyError> {
    if bytes > MOST_COPIED { Err(CopyError::Memory(MemoryError::TooLarge)) } else { Ok(()) }
}

impl Guest for Component {
    type IovIter = Iter;

    fn add_iter(
        queue: &Virtqueue,
        id: u32,
        header: Vec<u8>,
        out: Vec<Transfer<'_>>,
        reply_len: u32,
        in_: Vec<Transfer<'_>>,
        max_segments: u32,
    ) -> Result<(), AddError> {
        let mut lists = ScatterLists::new(max_segments);
        let (out, into) = map(&mut lists, &out, &in_)?;
        queue.add(id, &header, &out, reply_len, &into).map_err(AddError::Queue)?;
        lists.keep();
        Ok(())
    }

    fn submit_iter(
        queue: &Virtqueue,
        id: u32,
        header: Vec<u8>,
        out: Vec<Transfer<'_>>,
        reply_len: u32,
        in_: Vec<Transfer<'_>>,
        max_segments: u32,
    ) -> (Result<(), AddError>, Returned) {
        let mut lists = ScatterLists::new(max_segments);
        let mapped = map(&mut lists, &out, &in_);
        let (added, returned) = submit(queue, id, &header, reply_len, mapped);
        if added.is_ok() {
            lists.keep();
        }
        (added, returned)
    }

    fn submit_ubuf(
        queue: u32,
        id: u32,
        header: Vec<u8>,
        direction: Direction,
        buffer: Segment,
        reply_len: u32,
    ) -> (Result<(), AddError>, Returned) {
        match map_ubuf(direction, buffer) {
            Ok(payload) => {
                let (added, returned) = submit_one(queue, id, &header, reply_len, payload);
                (added.map_err(AddError::Queue), returned)
            }
            Err(error) => (Err(AddError::Iter(error.into())), Returned::Nothing),
        }
    }
}

/// The extents of a request in both directions, or why it has none.
type Mapped = Result<(Extents, Extents), AddError>;

/// Adds the chain if it could be mapped, kicks, and takes what was used.
fn submit(
    queue: &Virtqueue,
    id: u32,
    header: &[u8],
    reply_len: u32,
    mapped: Mapped,
) -> (Result<(), AddError>, Returned) {
    match mapped {
        Ok((out, into)) => {
            let header_len = header.len() as u32; // of a list, which is shorter than 4 GiB
            let chain = Chain { id, header_len, out: &out, reply_len, in_: &into };
            let Submitted { stopped, returned, .. } = queue.submit(&[chain], header);
            (stopped.map_or(Ok(()), |error| Err(AddError::Queue(error))), returned)
        }
        Err(error) => (Err(error), queue.submit(&[], &[]).returned),
    }
}

/// The one extent of a whole buffer.
fn map_ubuf(direction: Direction, Segment { base, len }: Segment) -> Result<Payload, iov_iter::IterError> {
    let segment = [iov_iter::Segment { base, len }];
    let iter = iov_iter::IovIter::create(iov_iter::Kind::Ubuf, direction.into(), segment, len.into())?;
    let mut payload = Payload::None;
    iter.extract(len.into(), 1, |extent| {
        payload = match direction {
            Direction::Source => Payload::Out(extent.into()),
            Direction::Dest => Payload::In(extent.into()),
        };
    });
    Ok(payload)
}

/// The extents of all lists of a request.
fn map<'i>(lists: &mut ScatterLists<'i>, out: &'i [Transfer<'_>], into: &'i [Transfer<'_>]) -> Mapped {
    let mut map = |direction, transfers: &'i [Transfer<'_>]| {
        let mut extents = Extents::new();
        let iters = transfers.iter().map(|Transfer { iter, bytes }| (&iter.get::<Iter>().0, *bytes));
        lists.map(direction, iters, |extent| extents.push(extent.into()))?;
        Ok::<_, AddError>(extents)
    };
    Ok((map(iov_iter::Direction::Source, out)?, map(iov_iter::Direction::Dest, into)?))
}

impl From<MapError> for AddError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Iter(error) => Self::Iter(error.into()),
            MapError::Short(bytes) => Self::Short(bytes),
        }
    }
}

impl From<iov_iter::Extent> for Extent {
    fn from(extent: iov_iter::Extent) -> Self {
        Self { offset: extent.offset, len: extent.len }
    }
}

impl From<Direction> for iov_iter::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Source => Self::Source,
            Direction::Dest => Self::Dest,
        }
    }
}

impl From<iov_iter::IterError> for IterError {
    fn from(error: iov_iter::IterError) -> Self {
        match error {
            iov_iter::IterError::SegmentCount => Self::SegmentCount,
            iov_iter::IterError::Alignment => Self::Alignment,
            iov_iter::IterError::Direction => Self::Direction,
            iov_iter::IterError::Overflow => Self::Overflow,
            iov_iter::IterError::OutOfBounds => Self::OutOfBounds,
            iov_iter::IterError::Unmappable => Self::Unmappable,
        }
    }
}

impl From<iov_iter::CopyError<MemoryError>> for CopyError {
    fn from(error: iov_iter::CopyError<MemoryError>) -> Self {
        match error {
            iov_iter::CopyError::Iter(error) => Self::Iter(error.into()),
            iov_iter::CopyError::Memory(error) => Self::Memory(error),
        }
    }
}

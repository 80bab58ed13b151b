//! The ring that the host has handed over, and the iters of its transfers.

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
};

use ninering_wire::Errno;
use smallvec::SmallVec;

use super::{
    EFAULT,
    bindings::{
        exports::ninering::fs::vfs::MemoryKind,
        ninering::fs::{
            iter::{self, IovIter, add_iter, submit_iter, submit_ubuf},
            memory::{self, Region},
            virtqueue::{
                BriefReply, Chain, EightWords, LongReply, Payload, QueueError, Replies, Returned, Submitted, UsedChain,
                Virtqueue, submit_one,
            },
        },
    },
};
use crate::ring::{AddError, BRIEF, Direction, Extent, LONG, ReplyHeader, Ring, Transfer, Used};

/// The ring that the host has handed over.
///
/// What costs here is to leave the sandbox. So chains without payload are kept until the next kick, and a kick takes
/// the used chains along with telling of the new ones: one flight of requests is one call of the host's. An
/// immediate device has nothing to gain from several chains with payload at a time, so there each of them kicks.
pub(super) struct HostRing {
    queue: Virtqueue,
    /// The queue's number.
    number: u32,
    region: Region,
    max_header: u32,
    queue_size: u16,
    is_immediate: bool,
    waiting: RefCell<Waiting>,
    /// Chains were added of which the device was not told.
    to_tell: Cell<bool>,
    /// What the device has returned and nobody has taken.
    returned: RefCell<SmallVec<[Used; 1]>>,
    /// The last kick has brought all that the device had returned.
    is_fresh: Cell<bool>,
}

/// Headers up to this many bytes are never refused for want of memory, so that their chains can wait.
const MOST_WAITING_HEADER: u32 = 512;

/// Chains that are added, but of which the host does not know yet.
#[derive(Default)]
struct Waiting {
    chains: SmallVec<[Chain<'static>; 4]>,
    /// Of all of them, one behind the other.
    headers: Vec<u8>,
}

impl Waiting {
    /// Forgets the first so many.
    fn forget(&mut self, count: usize) {
        if count >= self.chains.len() {
            self.chains.clear();
            self.headers.clear();
        } else {
            let bytes: u32 = self.chains.drain(..count).map(|chain| chain.header_len).sum();
            self.headers.drain(..bytes as usize);
        }
    }
}

impl HostRing {
    pub(super) fn new(region: Region, queue: Virtqueue, is_immediate: bool) -> Self {
        Self {
            max_header: queue.max_header(),
            queue_size: queue.size(),
            is_immediate,
            number: queue.number(),
            queue,
            region,
            waiting: RefCell::default(),
            to_tell: Cell::new(false),
            returned: RefCell::default(),
            is_fresh: Cell::new(false),
        }
    }

    /// Adds what waits, as far as there is room, and takes what the device has returned.
    fn submit(&self) -> Result<(), &'static str> {
        let waiting = &mut *self.waiting.borrow_mut();
        self.to_tell.set(false);
        loop {
            let Submitted { added, stopped, returned } = match *waiting.chains {
                [Chain { id, reply_len, .. }] => {
                    let (added, returned) = submit_one(self.number, id, &waiting.headers, reply_len, Payload::None);
                    Submitted { added: added.is_ok().into(), stopped: added.err(), returned }
                }
                ref chains => self.queue.submit(chains, &waiting.headers),
            };
            waiting.forget(added as usize);
            let has_returned = self.take_returned(returned);
            match stopped {
                None => return Ok(()),
                // What has come back has made room.
                Some(QueueError::Full) if has_returned => {}
                // There will be room when the device returns something, of which the host tells.
                Some(QueueError::Full) => return Ok(()),
                Some(QueueError::Broken) => return Err("the device is gone"),
                Some(_) => return Err("the host has refused a request that it can take"),
            }
        }
    }

    /// Keeps what the device has returned until it is asked for. Tells whether that is something.
    fn take_returned(&self, returned: Returned) -> bool {
        let mut kept = self.returned.borrow_mut();
        match returned {
            Returned::Nothing => return false,
            Returned::Brief(BriefReply { chain: UsedChain { id, written, header_len }, header: (a, b, c) }) => {
                let mut header = [0; BRIEF];
                put(&mut header, [a, b, c]);
                kept.push(Used { id, written, header: ReplyHeader::brief(header, header_len) });
            }
            Returned::Long(LongReply { chain: UsedChain { id, written, header_len }, header: (one, two, three) }) => {
                let mut header = Box::new([0; LONG]);
                for (bytes, EightWords { a, b, c, d, e, f, g, h }) in header.chunks_mut(LONG / 3).zip([one, two, three])
                {
                    put(bytes, [a, b, c, d, e, f, g, h]);
                }
                kept.push(Used { id, written, header: ReplyHeader::long(header, header_len) });
            }
            Returned::Many(Replies { chains, headers }) => {
                let headers = Rc::new(headers);
                let mut start = 0;
                for UsedChain { id, written, header_len } in chains {
                    let end = start + header_len as usize;
                    kept.push(Used { id, written, header: ReplyHeader::new(&headers, start..end) });
                    start = end;
                }
            }
        }
        true
    }

    /// Hands over what waits, for the next chain is not to overtake it.
    fn flush(&self) -> Result<(), AddError> {
        if !self.waiting.borrow().chains.is_empty() {
            self.submit().map_err(AddError::Broken)?;
        }
        if self.waiting.borrow().chains.is_empty() { Ok(()) } else { Err(AddError::Full) }
    }
}

impl Ring for HostRing {
    type Iter = HostIter;

    fn queue_size(&self) -> u16 {
        self.queue_size
    }

    fn max_header(&self) -> u32 {
        self.max_header
    }

    fn add(
        &self,
        id: u32,
        header: &[u8],
        reply_len: u32,
        payload: Option<Transfer<'_, HostIter>>,
    ) -> Result<(), AddError> {
        let header_len = header.len() as u32; // at most `max_header`
        if payload.is_none() && header_len.max(reply_len) <= MOST_WAITING_HEADER {
            let waiting = &mut *self.waiting.borrow_mut();
            waiting.headers.extend_from_slice(header);
            waiting.chains.push(Chain { id, header_len, out: &[], reply_len, in_: &[] });
            return Ok(());
        }
        self.flush()?;
        // Without payload there is nothing to map, and the iter component need not be asked.
        let Some(Transfer { iter, direction, bytes, max_segments }) = payload else {
            self.to_tell.set(true);
            return self.queue.add(id, header, &[], reply_len, &[]).map_err(AddError::from);
        };
        if self.is_immediate
            && let Some(segment) = iter.whole_buffer(bytes)
        {
            let (added, returned) = submit_ubuf(self.number, id, header, direction.into(), segment, reply_len);
            // The queue was not touched if the iter was refused.
            if !matches!(added, Err(iter::AddError::Iter(_))) {
                self.to_tell.set(false);
            }
            self.take_returned(returned);
            return added.map(|()| iter.passed.set(bytes)).map_err(AddError::from);
        }
        let lists = iter.lists(bytes).ok_or(AddError::Refused(EFAULT))?;
        let (out, into): (&[_], &[_]) = match direction {
            Direction::Source => (&lists, &[]),
            Direction::Dest => (&[], &lists),
        };
        let added = if self.is_immediate {
            let (added, returned) = submit_iter(&self.queue, id, header, out, reply_len, into, max_segments);
            self.to_tell.set(false);
            self.take_returned(returned);
            added
        } else {
            self.to_tell.set(true);
            add_iter(&self.queue, id, header, out, reply_len, into, max_segments)
        };
        added.map(|()| iter.passed.set(iter.passed.get() + bytes)).map_err(AddError::from)
    }

    fn revert(&self, iter: &HostIter, bytes: u64) -> bool {
        iter.passed.get().checked_sub(bytes).is_some_and(|place| iter.seek(place))
    }

    fn read_back(&self, iter: &HostIter, back: u64, len: u32) -> Option<Vec<u8>> {
        let place = iter.passed.get();
        let read = self.revert(iter, back).then(|| {
            let mut read = Vec::new();
            for iter::Transfer { iter, bytes } in iter.lists(len.into())? {
                for extent in iter.extract(bytes, u32::MAX) {
                    read.extend(self.region.read(extent).ok()?);
                }
            }
            Some(read)
        });
        if iter.seek(place) { read.flatten() } else { None }
    }

    fn kick(&self) -> Result<(), &'static str> {
        self.is_fresh.set(true);
        if self.to_tell.get() || !self.waiting.borrow().chains.is_empty() { self.submit() } else { Ok(()) }
    }

    fn used(&self, take: impl FnMut(Used)) -> Result<(), &'static str> {
        let mut submitted = Ok(());
        if !self.is_fresh.replace(false) {
            if self.waiting.borrow().chains.is_empty() {
                self.take_returned(self.queue.used());
            } else {
                submitted = self.submit();
            }
        }
        self.returned.take().into_iter().for_each(take);
        submitted
    }

    fn holds_used(&self) -> bool {
        !self.returned.borrow().is_empty()
    }

    fn allocate(&self, len: u32) -> Option<Extent> {
        self.region.allocate(len).ok().map(|memory::Extent { offset, len }| Extent { offset, len })
    }

    fn release(&self, Extent { offset, len }: Extent) {
        // What cannot be released is the host's to wonder about: it knows better than this side.
        let _ = self.region.release(memory::Extent { offset, len });
    }

    fn read(&self, Extent { offset, len }: Extent) -> Option<Vec<u8>> {
        self.region.read(memory::Extent { offset, len }).ok()
    }

    fn iter_over(&self, Extent { offset, len }: Extent) -> Option<HostIter> {
        let run = Run::new(iter::Kind::Kvec, &[memory::Extent { offset, len }]);
        Some(HostIter::new(iter::Direction::Dest, SmallVec::from_buf([run])))
    }
}

/// Takes bytes out of words.
fn put<const N: usize>(bytes: &mut [u8], words: [u64; N]) {
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

impl From<Direction> for iter::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Source => Self::Source,
            Direction::Dest => Self::Dest,
        }
    }
}

impl From<iter::AddError> for AddError {
    fn from(error: iter::AddError) -> Self {
        match error {
            iter::AddError::Queue(error) => error.into(),
            iter::AddError::Short(bytes) => Self::Short(bytes),
            iter::AddError::Iter(_) => Self::Refused(EFAULT),
        }
    }
}

impl From<QueueError> for AddError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Full => Self::Full,
            QueueError::TooManySegments => Self::Refused(Errno::EIO),
            QueueError::HeaderTooLarge => Self::Refused(Errno::ENAMETOOLONG),
            QueueError::Memory(_) => Self::Refused(EFAULT),
            QueueError::Broken => Self::Broken("the device is gone"),
        }
    }
}

/// Where a transfer's bytes come from or go to: an iter for each run of memory of one kind, which is made when it is
/// needed. All of one buffer can be handed over as it is, for half of what a handle to an iter costs.
pub(super) struct HostIter {
    direction: iter::Direction,
    runs: SmallVec<[Run; 1]>,
    bytes: u64,
    /// Bytes that were transferred.
    passed: Cell<u64>,
}

/// Memory of one kind.
struct Run {
    kind: iter::Kind,
    segments: SmallVec<[iter::Segment; 1]>,
    bytes: u64,
    made: OnceCell<Option<IovIter>>,
}

impl HostIter {
    /// An iter over memory that the host has lent, and how many bytes that holds.
    pub(super) fn over(memory: MemoryKind, buffers: &[memory::Extent], direction: iter::Direction) -> (Self, u64) {
        let kind = match memory {
            MemoryKind::Application if buffers.len() == 1 => iter::Kind::Ubuf,
            MemoryKind::Application => iter::Kind::Iovec,
            MemoryKind::Pages => iter::Kind::Bvec,
            MemoryKind::FilePages => iter::Kind::Xarray,
            MemoryKind::Folios => iter::Kind::Folioq,
        };
        let runs = if kind == iter::Kind::Folioq {
            let pieces: SmallVec<[_; 8]> = buffers.iter().flat_map(at_pages).collect();
            let runs = pieces.chunk_by(|one, next| is_whole(one) == is_whole(next));
            runs.map(|run| Run::new(if is_whole(&run[0]) { kind } else { iter::Kind::Bvec }, run)).collect()
        } else {
            SmallVec::from_buf([Run::new(kind, buffers)])
        };
        let iter = Self::new(direction, runs);
        let bytes = iter.bytes;
        (iter, bytes)
    }

    fn new(direction: iter::Direction, runs: SmallVec<[Run; 1]>) -> Self {
        Self { direction, bytes: runs.iter().map(|run| run.bytes).sum(), runs, passed: Cell::new(0) }
    }

    /// The one buffer, if nothing else was done with it and this is all of it.
    fn whole_buffer(&self, bytes: u64) -> Option<iter::Segment> {
        match &*self.runs {
            [Run { kind: iter::Kind::Ubuf, segments, made, .. }] if self.bytes == bytes && made.get().is_none() => {
                segments.first().copied().filter(|_| self.passed.get() == 0)
            }
            _ => None,
        }
    }

    /// The scatter lists of the next `bytes` bytes; `None` where there are none.
    fn lists(&self, bytes: u64) -> Option<SmallVec<[iter::Transfer<'_>; 2]>> {
        let mut lists = SmallVec::new();
        let (mut skip, mut rest) = (self.passed.get(), bytes);
        for run in &self.runs {
            let at = skip.min(run.bytes);
            let bytes = rest.min(run.bytes - at);
            skip -= at;
            rest -= bytes;
            if bytes > 0 {
                let make = || {
                    let iter = IovIter::create(run.kind, self.direction, &run.segments, run.bytes).ok()?;
                    iter.advance(at).is_ok().then_some(iter)
                };
                lists.push(iter::Transfer { iter: run.made.get_or_init(make).as_ref()?, bytes });
            }
        }
        (rest == 0).then_some(lists)
    }

    /// Goes to where so many bytes were transferred. Tells whether that could be.
    fn seek(&self, place: u64) -> bool {
        let mut rest = place;
        self.passed.set(place);
        self.runs.iter().all(|run| {
            let passed = rest.min(run.bytes);
            rest -= passed;
            let state = iter::IterState { passed, left: run.bytes - passed };
            run.made.get().and_then(Option::as_ref).is_none_or(|iter| iter.restore(state).is_ok())
        })
    }
}

impl Run {
    fn new(kind: iter::Kind, extents: &[memory::Extent]) -> Self {
        let segments: SmallVec<[_; 1]> =
            extents.iter().map(|&memory::Extent { offset, len }| iter::Segment { base: offset, len }).collect();
        let bytes = segments.iter().map(|segment| u64::from(segment.len)).sum();
        Self { kind, segments, bytes, made: OnceCell::new() }
    }
}

/// Bytes in a page.
const PAGE: u64 = 4096;

/// Is it whole pages?
fn is_whole(extent: &memory::Extent) -> bool {
    extent.offset.is_multiple_of(PAGE) && u64::from(extent.len).is_multiple_of(PAGE)
}

/// Its whole pages, and what is before and behind them.
fn at_pages(&memory::Extent { offset, len }: &memory::Extent) -> impl Iterator<Item = memory::Extent> {
    let end = offset.saturating_add(len.into());
    let first = offset.checked_next_multiple_of(PAGE).map_or(end, |first| first.min(end));
    let last = (end - end % PAGE).max(first);
    let pieces = [(offset, first), (first, last), (last, end)];
    // None is longer than all of it.
    let extents = pieces.map(|(start, end)| memory::Extent { offset: start, len: (end - start) as u32 });
    extents.into_iter().filter(|extent| extent.len > 0)
}

//! The index: which bytes of which files are where in the region, and who has to go when there is no room.
//!
//! Who goes is decided as by S3-FIFO: what came in is in the first queue until it was used again, then in the main one.
//! So a file that is read once from end to end displaces what came in likewise, and little else. What the server does not
//! have yet is never given up.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    counters::{Counters, count},
    file::{File, Fill, Key, UNKNOWN, Validator},
    folio::Folio,
};
use crate::{
    mount::{
        Handle,
        buffer::{Allocation, BufferPool},
    },
    region::PAGE,
};

/// A read of up to so many bytes gets all of them in one piece, a larger one perhaps only what lies together.
const WHOLE: u64 = 64 << 10;
/// The longest folio that is made for what is written.
const LONGEST_WRITTEN: u64 = 256 << 10;
/// The most bytes and the most pieces of one write-back.
const LARGEST_BATCH: u64 = 4 << 20;
const MOST_PARTS: usize = 512;

/// The page that `offset` is in begins there.
pub(super) fn page_start(offset: u64) -> u64 {
    offset - offset % u64::from(PAGE)
}

/// The first page that begins at or behind `offset` does there.
pub(super) fn page_end(offset: u64) -> u64 {
    offset.next_multiple_of(PAGE.into())
}

/// What may be believed of what is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    /// How long, from when it was read on, and what [`Mount::contents`](crate::mount::Mount::contents) must be still; for
    /// ever, if `None`. With it goes that what was read past is given up.
    pub(super) contents: Option<(Duration, u64)>,
    /// How long the size is.
    pub(super) size: Duration,
}

/// What the index has of what is to be read.
pub(super) enum Found {
    /// These bytes, and how many of them were copied for it.
    Bytes(Bytes, usize),
    /// The file ends there or before.
    End,
    /// Not the byte there.
    Missing(u64),
}

/// What is to be read from the server.
pub(super) enum Plan {
    /// These pages, under this number.
    Fill(Range<u64>, u64),
    /// Somebody else is reading them.
    Wait,
    /// They are there.
    Nothing,
}

/// Neighbours that are to be written.
pub(super) struct Batch {
    pub(super) offset: u64,
    pub(super) parts: Vec<Part>,
}

/// A piece of a folio that is to be written.
pub(super) struct Part {
    /// The start of its folio.
    pub(super) start: u64,
    pub(super) range: Range<u32>,
    /// Its folio's memory; `None` where that could not be lent, and the bytes are in `copy`.
    pub(super) memory: Option<Arc<Allocation>>,
    pub(super) copy: Vec<u8>,
}

impl Batch {
    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.range.end - part.range.start)).sum()
    }
}

/// Where a folio was put; perhaps another one is there now.
#[derive(Clone, Copy)]
struct Place {
    key: Key,
    start: u64,
    id: u64,
}

pub(super) struct Index {
    pub(super) files: HashMap<Key, File>,
    pool: Arc<BufferPool>,
    counters: Arc<Counters>,
    limit: u64,
    /// Bytes of all folios, and of those to come.
    used: u64,
    folios: usize,
    /// Those that came in, and their bytes.
    entered: VecDeque<Place>,
    entered_bytes: u64,
    /// Those that were used again.
    main: VecDeque<Place>,
    /// Bytes that the server does not have for sure, in all files.
    pub(super) unwritten: u64,
    ids: AtomicU64,
}

impl Index {
    pub(super) fn new(pool: Arc<BufferPool>, limit: u64, counters: Arc<Counters>) -> Self {
        Self {
            files: HashMap::new(),
            pool,
            counters,
            limit,
            used: 0,
            folios: 0,
            entered: VecDeque::new(),
            entered_bytes: 0,
            main: VecDeque::new(),
            unwritten: 0,
            ids: AtomicU64::new(0),
        }
    }

    /// Bytes of the region that it holds.
    pub(super) fn held(&self) -> u64 {
        self.used
    }

    fn id(&self) -> u64 {
        self.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// Looks for up to `size` bytes at `offset`.
    pub(super) fn find(&mut self, key: Key, offset: u64, size: u64, trust: Trust) -> Found {
        let Some(file) = self.files.get_mut(&key) else { return Found::Missing(offset) };
        let is_other = trust.contents.is_some_and(|(_, contents)| contents != file.size_contents);
        if file.size != UNKNOWN && (is_other || !file.is_size_fresh(trust.size)) {
            if trust.contents.is_some() {
                file.size = UNKNOWN;
            } else if offset >= file.size {
                return Found::Missing(offset);
            }
        }
        if offset >= file.size {
            return Found::End;
        }
        let goal = offset + size.min(file.size - offset);
        let whole = offset + (goal - offset).min(WHOLE);
        let mut pieces: SmallVec<[(u64, u32, u32); 4]> = SmallVec::new();
        let mut at = offset;
        while at < goal {
            let Some((start, folio)) = file.folio_at(at) else { break };
            if let Some((age, contents)) = trust.contents
                && (folio.contents != contents || folio.filled.elapsed() > age)
            {
                self.detach(key, start);
                return Found::Missing(at);
            }
            let from = (at - start) as u32; // in the folio
            let len = u64::from(folio.valid.run_end(from) - from).min(goal - at) as u32; // as it was
            if len == 0 {
                break;
            }
            folio.touch(from, len);
            pieces.push((start, from, len));
            at += u64::from(len);
            if at >= whole && pieces.len() == 1 {
                break;
            }
        }
        if at < whole {
            return Found::Missing(at);
        }
        let shared = match *pieces {
            [(start, from, len)] => file.folios.get(&start).and_then(|folio| folio.share(from, len)),
            _ => None,
        };
        let found = match shared {
            Some(bytes) => Found::Bytes(bytes, 0),
            None => {
                let mut gathered = Vec::with_capacity((at - offset) as usize);
                for (start, from, len) in &pieces {
                    if let Some(folio) = file.folios.get(start) {
                        folio.copy_to(*from, *len, &mut gathered);
                    }
                }
                let copied = gathered.len();
                Found::Bytes(gathered.into(), copied)
            }
        };
        if trust.contents.is_some() {
            while let Some(file) = self.files.get(&key)
                && let Some((&start, folio)) = file.folios.first_key_value()
                && start + u64::from(folio.len()) <= offset
            {
                self.detach(key, start);
            }
        }
        found
    }

    /// Says what to read so that the byte at `offset` is there, at most `len` bytes, and announces it.
    pub(super) fn plan(&mut self, key: Key, offset: u64, len: u64) -> Plan {
        let id = self.id();
        let Some(file) = self.files.get_mut(&key) else { return Plan::Nothing };
        if file.fills.iter().any(|fill| fill.range.contains(&offset)) {
            return Plan::Wait;
        }
        let start = page_start(offset);
        let mut end = page_end(offset.saturating_add(len.max(1)));
        if file.size != UNKNOWN {
            // One page at least, for it may have grown.
            end = end.min(page_end(file.size).max(start + u64::from(PAGE)));
        }
        match file.folio_at(offset) {
            Some((folio_start, folio)) => {
                let at = (offset - folio_start) as u32; // in the folio
                if folio.valid.run_end(at) > at {
                    return Plan::Nothing;
                }
                let gap_end = folio.valid.next_start(at).unwrap_or(folio.len());
                end = end.min(page_end(folio_start + u64::from(gap_end)));
            }
            None => {
                if let Some((&next, _)) = file.folios.range(offset..).next() {
                    end = end.min(next);
                }
            }
        }
        if let Some(next) = file.fills.iter().map(|fill| fill.range.start).filter(|next| *next > offset).min() {
            end = end.min(next);
        }
        let range = start..end;
        file.fills.push(Fill { id, range: range.clone(), changes: file.changes, is_spoiled: false });
        Plan::Fill(range, id)
    }

    /// The first byte of `range` that is neither there nor being read.
    pub(super) fn first_missing(&mut self, key: Key, range: Range<u64>) -> Option<u64> {
        let file = self.files.get_mut(&key)?;
        let mut at = range.start;
        while at < range.end {
            if let Some(fill) = file.fills.iter().find(|fill| fill.range.contains(&at)) {
                at = fill.range.end;
                continue;
            }
            let Some((start, folio)) = file.folio_at(at) else { return Some(at) };
            let from = (at - start) as u32; // in the folio
            match folio.valid.run_end(from) {
                end if end > from => at = start + u64::from(end),
                _ => return Some(at),
            }
        }
        None
    }

    /// A fill has ended, one way or another; tells whether it was still good.
    pub(super) fn end_fill(&mut self, key: Key, id: u64) -> Option<Fill> {
        let file = self.files.get_mut(&key)?;
        let index = file.fills.iter().position(|fill| fill.id == id)?;
        let fill = file.fills.swap_remove(index);
        file.signals.filled.notify_waiters();
        Some(fill)
    }

    /// Keeps what a fill has read: the first `count` bytes of the pages. Tells whether it could be kept: not if the file
    /// was changed here meanwhile.
    pub(super) fn fill(
        &mut self,
        key: Key,
        id: u64,
        pages: Vec<Arc<Allocation>>,
        count: u64,
        (filled, contents): (Instant, u64),
    ) -> bool {
        let total: u64 = pages.iter().map(|page| u64::from(page.len())).sum();
        self.release(total);
        let Some(fill) = self.end_fill(key, id) else { return false };
        let Some(file) = self.files.get_mut(&key) else { return false };
        let start = fill.range.start;
        // Where it ends, only somebody can tell who has seen all writes.
        if fill.is_spoiled || count < total && fill.changes != file.changes {
            return false;
        }
        if count < total {
            file.tell_size(start + count);
            file.size_contents = contents;
        } else if file.size < start + total {
            file.size = start + total;
        }
        // Between the server's end and what was written here behind it there are zeros.
        let valid = total.min(file.size.saturating_sub(start));
        let size = file.size;
        let mut at = start;
        for memory in pages {
            let len = memory.len();
            let end = at + u64::from(len);
            let here = (start + valid).saturating_sub(at).min(len.into()) as u32; // as `len`
            let read = (start + count).saturating_sub(at).min(here.into()) as u32; // as `here`
            if read < here {
                memory.part(read, here - read).write(0, &vec![0; (here - read) as usize]);
            }
            self.keep(key, at, &memory, here, filled, contents);
            at = end;
        }
        if count < total {
            self.trim(key, size);
        }
        true
    }

    /// Puts `valid` bytes at the front of `memory` where they belong: in place, or into the gaps of what is there.
    fn keep(&mut self, key: Key, start: u64, memory: &Arc<Allocation>, valid: u32, filled: Instant, contents: u64) {
        if valid == 0 {
            return;
        }
        let end = start + u64::from(memory.len());
        let Some(file) = self.files.get_mut(&key) else { return };
        let first = file.folio_at(start).map_or(start, |(start, _)| start);
        let there: SmallVec<[u64; 4]> = file.folios.range(first..end).map(|(start, _)| *start).collect();
        if there.is_empty() {
            let mut folio = Folio::new(self.id(), Arc::clone(memory), filled, contents);
            folio.valid.insert(0..valid);
            self.attach(key, start, folio);
            return;
        }
        let mut bytes = Vec::new();
        for place in there {
            let Some(folio) = file.folios.get_mut(&place) else { continue };
            let from = start.max(place);
            let to = (start + u64::from(valid)).min(place + u64::from(folio.len()));
            if from >= to {
                continue;
            }
            for gap in folio.valid.gaps((from - place) as u32..(to - place) as u32) {
                let offset = (place + u64::from(gap.start) - start) as u32; // in `memory`
                bytes.clear();
                bytes.resize((gap.end - gap.start) as usize, 0);
                memory.part(offset, gap.end - gap.start).read(0, &mut bytes);
                // Where there is no memory for it now, it is read again when it is wanted.
                folio.write(&self.pool, gap.start, &bytes);
            }
        }
    }

    /// Changes bytes at `offset`, which `handle` is to write back; tells how many. 0: there is no room.
    pub(super) fn write(&mut self, key: Key, offset: u64, bytes: &[u8], handle: &Arc<Handle>) -> usize {
        let Some(file) = self.files.get_mut(&key) else { return 0 };
        let place = file.folio_at(offset).map(|(start, _)| start);
        let Some(place) = place.or_else(|| self.make_for_write(key, offset, bytes.len() as u64)) else { return 0 };
        let Some(file) = self.files.get_mut(&key) else { return 0 };
        let Some(folio) = file.folios.get_mut(&place) else { return 0 };
        let at = (offset - place) as u32; // in the folio
        let len = (bytes.len() as u64).min(u64::from(folio.len() - at)) as u32; // as the folio's
        let before = folio.dirty.count();
        if !folio.write(&self.pool, at, &bytes[..len as usize]) {
            return 0;
        }
        folio.dirty.insert(at..at + len);
        let more = folio.dirty.count() - before;
        file.unwritten += more;
        self.unwritten += more;
        let end = offset + u64::from(len);
        if file.size < end {
            file.size = end;
        }
        file.spoil(offset..end);
        if file.writer.as_ref().is_none_or(|writer| !Arc::ptr_eq(writer, handle)) {
            file.writer = Some(Arc::clone(handle));
        }
        len as usize
    }

    /// Makes a folio that `offset` is in, where there is none.
    fn make_for_write(&mut self, key: Key, offset: u64, len: u64) -> Option<u64> {
        let page = u64::from(PAGE);
        let start = page_start(offset);
        let file = self.files.get(&key)?;
        let next = file.folios.range(offset..).next().map_or(u64::MAX, |(next, _)| *next);
        // What is written in order is gathered in ever longer folios.
        let before = file.folios.range(..start).next_back();
        let before =
            before.filter(|(at, folio)| *at + u64::from(folio.len()) == start && folio.valid.end() == folio.len());
        let doubled = before.map_or(0, |(_, folio)| 2 * u64::from(folio.len()));
        let longest = LONGEST_WRITTEN.min((self.limit / 16).max(page));
        let wanted = page_end(offset - start + len).max(doubled).min(longest).min(next - start);
        let mut wanted = page_start(wanted).max(page);
        loop {
            if self.reserve(wanted) {
                let buffer = u32::try_from(wanted).ok().and_then(|wanted| self.pool.try_take(wanted));
                self.release(wanted);
                if let Some(buffer) = buffer {
                    let folio = Folio::new(self.id(), buffer.into_shared(), Instant::now(), 0);
                    self.attach(key, start, folio);
                    return Some(start);
                }
            }
            if wanted == page {
                return None;
            }
            wanted = page_end(wanted / 2);
        }
    }

    /// Takes all that is dirty of a file, to be written back; with `whole` set, not a folio at the end that is still being
    /// filled.
    pub(super) fn take_dirty(&mut self, key: Key, whole: bool) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        let Some(file) = self.files.get_mut(&key) else { return batches };
        let last = file.folios.iter().rev().find(|(_, folio)| !folio.dirty.is_empty()).map(|(start, _)| *start);
        let (mut end, mut bytes) = (None, 0);
        for (&start, folio) in &mut file.folios {
            if folio.dirty.is_empty() || whole && Some(start) == last && folio.dirty.end() < folio.len() {
                continue;
            }
            // What was written to a second time must not overtake what is on its way.
            if whole && !folio.writing.is_empty() {
                continue;
            }
            // Once for all of them: from then on the folio looks lent.
            let memory = folio.lend();
            for range in std::mem::take(&mut folio.dirty).iter() {
                let offset = start + u64::from(range.start);
                let len = u64::from(range.end - range.start);
                let memory = memory.clone();
                let mut copy = Vec::new();
                if memory.is_none() {
                    folio.copy_to(range.start, range.end - range.start, &mut copy);
                }
                let part = Part { start, range: range.clone(), memory, copy };
                match batches.last_mut() {
                    Some(batch)
                        if end == Some(offset) && bytes + len <= LARGEST_BATCH && batch.parts.len() < MOST_PARTS =>
                    {
                        batch.parts.push(part);
                        bytes += len;
                    }
                    _ => {
                        batches.push(Batch { offset, parts: vec![part] });
                        bytes = len;
                    }
                }
                end = Some(offset + len);
                folio.writing.insert(range);
            }
        }
        batches
    }

    /// A batch was written, or cannot be: then what was to be written is forgotten, so that the server is asked. Or
    /// nobody knows: then it is dirty again.
    pub(super) fn end_batch(&mut self, key: Key, batch: &[(u64, Range<u32>)], is_written: Option<bool>) {
        for (start, range) in batch {
            let Some(file) = self.files.get_mut(&key) else { return };
            file.changes += 1;
            let Some(folio) = file.folios.get_mut(start) else { continue };
            let before = folio.unwritten();
            folio.writing.remove(range.clone());
            match is_written {
                Some(true) => {}
                Some(false) => {
                    for lost in folio.dirty.gaps(range.clone()) {
                        folio.valid.remove(lost);
                    }
                }
                None => folio.dirty.insert(range.clone()),
            }
            // What was dirty anew counted twice, and only once now.
            let less = before - folio.unwritten();
            file.unwritten -= less;
            self.unwritten -= less;
            if folio.is_useless() {
                self.detach(key, *start);
            }
        }
    }

    /// Is what is dirty around `offset` in so many pieces that it had better be written back?
    pub(super) fn is_torn(&mut self, key: Key, offset: u64) -> bool {
        let folio = self.files.get_mut(&key).and_then(|file| file.folio_at(offset));
        folio.is_some_and(|(_, folio)| folio.is_torn())
    }

    /// The file's size was set: what was behind its end is nobody's any more.
    pub(super) fn set_size(&mut self, key: Key, size: u64) {
        let Some(file) = self.files.get_mut(&key) else { return };
        file.spoil(0..u64::MAX);
        file.validator = None;
        self.trim(key, size);
        if let Some(file) = self.files.get_mut(&key) {
            file.tell_size(size);
        }
        self.forget_if_idle(key);
    }

    /// Forgets what is behind `size`.
    fn trim(&mut self, key: Key, size: u64) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let behind: Vec<u64> = file.folios.range(size..).map(|(start, _)| *start).collect();
        for start in behind {
            self.detach(key, start);
        }
        let Some(file) = self.files.get_mut(&key) else { return };
        if let Some((start, folio)) = file.folio_at(size) {
            let before = folio.unwritten();
            folio.cut((size - start) as u32..folio.len());
            let less = before - folio.unwritten();
            let is_empty = folio.valid.is_empty();
            file.unwritten -= less;
            self.unwritten -= less;
            if is_empty {
                self.detach(key, start);
            }
        }
    }

    /// Forgets bytes that the server may have otherwise by now, and what is known of the file as a whole.
    pub(super) fn drop_clean(&mut self, key: Key, range: Range<u64>) {
        let Some(file) = self.files.get_mut(&key) else { return };
        file.spoil(range.clone());
        file.validator = None;
        if range.end > file.size {
            file.doubt_size();
        }
        let first = file.folio_at(range.start).map_or(range.start, |(start, _)| start);
        let mut useless: Vec<u64> = Vec::new();
        let mut dropped = 0;
        for (&start, folio) in file.folios.range_mut(first..range.end) {
            let before = folio.valid.count();
            let end = (range.end - start).min(folio.len().into()) as u32; // in the folio
            folio.drop_clean(range.start.saturating_sub(start) as u32..end);
            dropped += before - folio.valid.count();
            if folio.is_useless() {
                useless.push(start);
            }
        }
        count(&self.counters.invalidated_pages, dropped.div_ceil(PAGE.into()));
        for start in useless {
            self.detach(key, start);
        }
    }

    /// The server has told that the file is like this. What is here is kept if it was so before.
    pub(super) fn validate(&mut self, key: Key, validator: Validator, size: u64) {
        if self.files.get(&key).is_some_and(|file| file.validator != Some(validator)) {
            self.drop_clean(key, 0..u64::MAX);
        }
        if let Some(file) = self.files.get_mut(&key) {
            file.validator = Some(validator);
            file.tell_size(size);
        }
    }

    /// Forgets a file of which there is nothing to know.
    pub(super) fn forget_if_idle(&mut self, key: Key) {
        if self.files.get(&key).is_some_and(File::is_idle) {
            self.files.remove(&key);
        }
    }

    fn attach(&mut self, key: Key, start: u64, folio: Folio) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let len = u64::from(folio.len());
        self.used += len;
        self.folios += 1;
        self.entered_bytes += len;
        self.entered.push_back(Place { key, start, id: folio.id });
        file.folios.insert(start, folio);
        if self.entered.len() + self.main.len() > 2 * self.folios + 64 {
            self.tidy();
        }
    }

    fn detach(&mut self, key: Key, start: u64) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let Some(folio) = file.folios.remove(&start) else { return };
        let len = u64::from(folio.len());
        file.unwritten -= folio.unwritten();
        self.unwritten -= folio.unwritten();
        self.used -= len;
        self.folios -= 1;
        if !folio.is_main {
            self.entered_bytes -= len;
        }
    }

    /// Drops the places of folios that are gone.
    fn tidy(&mut self) {
        let Self { files, entered, main, .. } = self;
        let is_there = |place: &Place| {
            let folio = files.get(&place.key).and_then(|file| file.folios.get(&place.start));
            folio.is_some_and(|folio| folio.id == place.id)
        };
        entered.retain(is_there);
        main.retain(is_there);
    }

    /// Makes room for `bytes` and sets it aside until [`release`](Self::release). `false`: there is none.
    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        if bytes > self.limit {
            return false;
        }
        // Those of the main queue may be looked at twice.
        let mut looks = self.entered.len() + 2 * self.main.len() + 1;
        while self.used + bytes > self.limit {
            if looks == 0 {
                return false;
            }
            looks -= 1;
            let is_entered = self.main.is_empty() || self.entered_bytes * 10 >= self.limit;
            let queue = if is_entered && !self.entered.is_empty() { &mut self.entered } else { &mut self.main };
            let Some(place) = queue.pop_front() else { return false };
            self.look_at(place);
        }
        self.used += bytes;
        true
    }

    /// Gives up what was at `place`, or puts it where it is looked at later.
    fn look_at(&mut self, place: Place) {
        let Some(file) = self.files.get_mut(&place.key) else { return };
        let Some(folio) = file.folios.get_mut(&place.start).filter(|folio| folio.id == place.id) else { return };
        if folio.unwritten() > 0 {
            if folio.is_main { &mut self.main } else { &mut self.entered }.push_back(place);
        } else if std::mem::take(&mut folio.is_hot) {
            if !std::mem::replace(&mut folio.is_main, true) {
                self.entered_bytes -= u64::from(folio.len());
            }
            self.main.push_back(place);
        } else {
            count(&self.counters.evicted_pages, u64::from(folio.len() / PAGE));
            self.detach(place.key, place.start);
            self.forget_if_idle(place.key);
        }
    }

    /// What was [set aside](Self::reserve) is used otherwise, or not.
    pub(super) fn release(&mut self, bytes: u64) {
        self.used -= bytes;
    }
}

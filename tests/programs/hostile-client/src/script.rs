//! A script: bytes that say which of the host's functions are called, and with what.
//!
//! Any bytes are a script. Each call of the component plays a piece of it, up to where that says that the call returns,
//! and what. What was allocated, lent, made or shared is remembered after it is over too, to be used once more.

use crate::component::bindings::{
    exports::ninering::fs::vfs::{Entries, Error, Opened, Outcome, Value},
    ninering::fs::{
        iter::{self, Direction, IovIter, IterState, Kind, Segment, Transfer},
        memory::{Extent, Region},
        types::Qid,
        virtqueue::{BriefReply, Chain, EightWords, LongReply, Payload, Replies, Returned, Virtqueue, submit_one},
    },
};

/// What the host has put where the component must not look.
pub(crate) const SECRET: [u8; 16] = *b"nobody sees this";
/// How the component says that it has seen it.
pub(crate) const SEEN: &str = "a secret was seen";

/// The most calls of the host in one piece.
const MOST_CALLS: usize = 64;
/// Extents, iters and handles that are remembered.
const MOST_KEPT: usize = 64;

/// A script, and what it has come to have.
pub(crate) struct Script {
    bytes: Vec<u8>,
    at: usize,
    region: Region,
    /// The one that it was started with, and others that were shared.
    queues: Vec<Virtqueue>,
    /// Numbers of queues.
    numbers: Vec<u32>,
    /// All that was ever allocated or lent, or is near.
    extents: Vec<Extent>,
    iters: Vec<IovIter>,
    states: Vec<IterState>,
    has_seen: bool,
}

impl Script {
    pub(crate) fn new(region: Region, queue: Virtqueue, bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            at: 0,
            region,
            queues: vec![queue],
            numbers: Vec::new(),
            extents: Vec::new(),
            iters: Vec::new(),
            states: Vec::new(),
            has_seen: false,
        }
    }

    /// Begins, in most scripts, as a client should: with a session, and a file that is open as fid 1.
    pub(crate) fn begin(&mut self) -> Outcome {
        if self.byte() < 200 {
            let messages = [
                message(100, [255, 255], &[&[0, 0, 1, 0, 8, 0], b"9P2000.L"]),
                message(104, [0, 0], &[&[0; 4], &[255; 4], &[0; 4], &[255; 4]]),
                message(110, [0, 0], &[&[0; 4], &[1, 0, 0, 0], &[0, 0]]),
                message(14, [0, 0], &[&[1, 0, 0, 0], b"\x01\0a", &[2, 0, 0, 0, 0xa4, 1, 0, 0, 0, 0, 0, 0]]),
            ];
            for header in messages {
                let _ = self.queues[0].add(0, &header, &[], 200, &[]);
                self.queues[0].kick();
                let returned = self.queues[0].used();
                self.take(returned);
            }
        }
        self.play(&[])
    }

    /// Plays a piece; `lent` are the extents of the call.
    pub(crate) fn play(&mut self, lent: &[Extent]) -> Outcome {
        for extent in lent {
            self.keep(*extent);
        }
        for _ in 0..MOST_CALLS {
            if self.at >= self.bytes.len() || !self.call() {
                break;
            }
        }
        if self.has_seen { Outcome::Complete(Err(Error::Broken(SEEN.into()))) } else { self.outcome(lent) }
    }

    // What the bytes say.

    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        byte
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=99 => byte.into(),
            100..=219 => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            220..=239 => u64::from(self.byte()) << 16,
            240 => u64::MAX,
            241 => u64::MAX - u64::from(self.byte()),
            242 => u32::MAX.into(),
            243 => u64::from(u32::MAX) - u64::from(self.byte()),
            244 => u64::from(u32::MAX) + u64::from(self.byte()),
            245 => self.region.size() - u64::from(self.byte()),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    /// A place among `count`, if there are some.
    fn place(&mut self, count: usize) -> Option<usize> {
        usize::from(self.byte()).checked_rem(count)
    }

    /// One of the extents there are, or have been; a part, or a neighbour of it; or anything.
    fn extent(&mut self) -> Extent {
        let known = self.place(self.extents.len()).map(|place| self.extents[place]);
        let Some(Extent { offset, len }) = known else {
            return Extent { offset: self.number(), len: self.number() as u32 };
        };
        match self.byte() {
            0..=149 => Extent { offset, len },
            150..=189 => {
                let (start, count) = (self.number() % u64::from(len.max(1)), self.number() as u32);
                Extent { offset: offset + start, len: count % len.max(1) }
            }
            190..=209 => Extent { offset: offset + u64::from(len), len: self.number() as u32 },
            210..=219 => Extent { offset: offset.wrapping_sub(self.number()), len },
            220..=234 => Extent { offset: offset.wrapping_add(self.number()), len: self.number() as u32 },
            _ => Extent { offset: self.number(), len: self.number() as u32 },
        }
    }

    fn several(&mut self) -> Vec<Extent> {
        let count = [0, 1, 1, 1, 2, 3, 20, 300][usize::from(self.byte() % 8)];
        let first: Vec<Extent> = (0..count.min(3)).map(|_| self.extent()).collect();
        (0..count).map(|index| first[index % 3.min(count)]).collect()
    }

    fn keep(&mut self, extent: Extent) {
        if self.extents.len() == MOST_KEPT {
            self.extents.remove(0);
        }
        self.extents.push(extent);
    }

    fn see(&mut self, bytes: &[u8]) {
        self.has_seen |= bytes.windows(SECRET.len()).any(|window| window == SECRET);
    }

    fn take(&mut self, returned: Returned) {
        let bytes = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
        match returned {
            Returned::Nothing => {}
            Returned::Brief(BriefReply { header: (one, two, three), .. }) => self.see(&bytes(&[one, two, three])),
            Returned::Long(LongReply { header: (one, two, three), .. }) => {
                let words = [one, two, three].map(|EightWords { a, b, c, d, e, f, g, h }| [a, b, c, d, e, f, g, h]);
                self.see(&bytes(words.as_flattened()));
            }
            Returned::Many(Replies { headers, .. }) => self.see(&headers),
        }
    }

    /// A header: a message that could be true, more or less, or nothing of the kind.
    fn header(&mut self) -> Vec<u8> {
        let (kind, body): (u8, Vec<u8>) = match self.byte() % 14 {
            0 => (100, [&[0, 0, 1, 0, 8, 0][..], b"9P2000.L"].concat()),
            1 => (104, [&self.fid()[..], &[255; 4], &[0, 0, 0, 0], &[255; 4]].concat()),
            2 => (110, [&self.fid()[..], &self.fid(), &[1, 0, 1, 0, b'a' + self.byte() % 4]].concat()),
            3 => (110, [&self.fid()[..], &self.fid(), &[0, 0]].concat()),
            4 => {
                (14, [&self.fid()[..], &[1, 0, b'a' + self.byte() % 4, 2, 0, 0, 0, 0xa4, 1, 0, 0, 0, 0, 0, 0]].concat())
            }
            5 => (12, [&self.fid()[..], &[2, 0, 0, 0]].concat()),
            6 | 7 => (118, [&self.fid()[..], &self.number().to_le_bytes(), &self.count()].concat()),
            8 | 9 => (116, [&self.fid()[..], &self.number().to_le_bytes(), &self.count()].concat()),
            10 => (40, [&self.fid()[..], &self.number().to_le_bytes(), &self.count()].concat()),
            11 => (24, [&self.fid()[..], &[255, 7, 0, 0, 0, 0, 0, 0]].concat()),
            12 => (120, self.fid().to_vec()),
            _ => {
                let (length, byte) = (self.number() as usize % 70_000, self.byte());
                return vec![byte; length];
            }
        };
        // Payload is counted where there is some.
        let payload = if kind == 118 { u32::from_le_bytes([body[12], body[13], body[14], body[15]]) } else { 0 };
        let size = (7 + body.len() as u32).wrapping_add(payload);
        let tag = if kind == 100 { [255, 255] } else { [self.byte() % 8, 0] };
        let mut header = [&size.to_le_bytes()[..], &[kind], &tag, &body].concat();
        if self.byte() < 10 {
            let (place, by) = (usize::from(self.byte()) % header.len(), self.byte());
            header[place] ^= by;
        }
        header
    }

    fn fid(&mut self) -> [u8; 4] {
        u32::from(self.byte() % 6).to_le_bytes()
    }

    /// Bytes to be transferred: those of an extent, or any number.
    fn count(&mut self) -> [u8; 4] {
        let count = match self.place(self.extents.len() + 1).and_then(|place| self.extents.get(place)) {
            Some(extent) => extent.len,
            None => self.number() as u32,
        };
        count.to_le_bytes()
    }

    fn reply_len(&mut self) -> u32 {
        match self.byte() {
            0..=179 => 11,
            180..=219 => 200,
            _ => self.number() as u32,
        }
    }

    // What is called.

    /// Makes one call, or a few; tells whether the piece goes on.
    fn call(&mut self) -> bool {
        match self.byte() {
            0..=29 => return false,
            30..=49 => {
                let len = self.number() as u32;
                if let Ok(extent) = self.region.allocate(len) {
                    self.keep(extent);
                }
            }
            50..=59 => {
                let extent = self.extent();
                let _ = self.region.release(extent);
            }
            60..=79 => {
                let extent = self.extent();
                let read = self.region.read(extent);
                self.see(&read.unwrap_or_default());
            }
            80..=99 => {
                let (Extent { offset, len }, byte) = (self.extent(), self.byte());
                let _ = self.region.write(offset, &vec![byte; len as usize % 70_000]);
            }
            100..=129 => self.add(),
            130..=149 => self.transfer(),
            150..=159 => {
                if let Some(place) = self.place(self.queues.len()) {
                    self.queues[place].kick();
                }
            }
            160..=169 => {
                if let Some(place) = self.place(self.queues.len()) {
                    let returned = self.queues[place].used();
                    self.take(returned);
                }
            }
            170..=184 => self.submit(),
            185..=199 => self.handle(),
            200..=219 => self.make_iter(),
            _ => self.use_iter(),
        }
        true
    }

    fn add(&mut self) {
        let (id, header) = (self.number() as u32, self.header());
        let (out, reply_len, into) = (self.several(), self.reply_len(), self.several());
        if let Some(place) = self.place(self.queues.len()) {
            let _ = self.queues[place].add(id, &header, &out, reply_len, &into);
        }
    }

    /// Reads or writes the open file, as it should be but for what is read into or written from.
    fn transfer(&mut self) {
        let extents = self.several();
        let count = extents.iter().fold(0_u32, |count, extent| count.wrapping_add(extent.len)).to_le_bytes();
        let reads = self.byte() < 128;
        let mut header = message(
            if reads { 116 } else { 118 },
            [self.byte(), 0],
            &[&[1, 0, 0, 0], &[self.byte(), 0, 0, 0, 0, 0, 0, 0], &count],
        );
        if !reads {
            let size = u32::from_le_bytes(count).wrapping_add(header.len() as u32);
            header[..4].copy_from_slice(&size.to_le_bytes());
        }
        let (out, into) = if reads { (&[][..], &extents[..]) } else { (&extents[..], &[][..]) };
        let _ = self.queues[0].add(self.at as u32, &header, out, 11, into);
        if self.byte() < 128 {
            self.queues[0].kick();
        }
    }

    fn submit(&mut self) {
        let mut headers = Vec::new();
        let count = self.byte() % 12;
        let chains: Vec<Chain> = (0..count)
            .map(|_| {
                let header = self.header();
                headers.extend_from_slice(&header);
                let header_len = if self.byte() < 5 { self.number() as u32 } else { header.len() as u32 };
                let (id, out) = (self.number() as u32, self.several());
                Chain { id, header_len, out, reply_len: self.reply_len(), in_: self.several() }
            })
            .collect();
        if let Some(place) = self.place(self.queues.len()) {
            let submitted = self.queues[place].submit(&chains, &headers);
            self.take(submitted.returned);
        }
    }

    /// One of the handles, but never the last one.
    fn leave(&mut self) -> Option<Virtqueue> {
        let place = self.place(self.queues.len())?;
        (self.queues.len() > 1).then(|| self.queues.swap_remove(place))
    }

    /// What can be done with handles.
    fn handle(&mut self) {
        match self.byte() {
            0..=99 if self.queues.len() < MOST_KEPT => {
                if let Some(place) = self.place(self.queues.len()) {
                    let queue = self.queues[place].share();
                    self.queues.push(queue);
                }
            }
            100..=149 => drop(self.leave()),
            150..=199 => {
                let queue = self.leave();
                self.numbers.extend(queue.map(|queue| queue.number()));
            }
            200..=239 => {
                _ = (self.region.size(), self.region.page_size());
                if let Some(place) = self.place(self.queues.len()) {
                    _ = (self.queues[place].size(), self.queues[place].max_header());
                }
            }
            // A number that is no handle, or not one of this kind, or dropped already.
            240..=242 => {
                // SAFETY: a handle is a number, which the host has to check.
                let forged = std::mem::ManuallyDrop::new(unsafe { Region::from_handle(self.number() as u32) });
                let _ = forged.read(self.extent());
            }
            243..=245 => {
                // SAFETY: as above.
                let forged = std::mem::ManuallyDrop::new(unsafe { Virtqueue::from_handle(self.number() as u32) });
                forged.kick();
            }
            246..=248 => {
                // SAFETY: as above.
                let forged = std::mem::ManuallyDrop::new(unsafe { IovIter::from_handle(self.number() as u32) });
                forged.truncate(1);
            }
            // Drops what may be somebody else's, or its own under another name.
            // SAFETY: as above.
            249 => drop(unsafe { Virtqueue::from_handle(self.number() as u32) }),
            _ => {}
        }
    }

    fn make_iter(&mut self) {
        let kinds =
            [Kind::Ubuf, Kind::Iovec, Kind::Kvec, Kind::Bvec, Kind::Folioq, Kind::Xarray, Kind::Discard, Kind::Ubuf];
        let kind = kinds[usize::from(self.byte() % 8)];
        let direction = if self.byte() < 128 { Direction::Source } else { Direction::Dest };
        let segments: Vec<Segment> =
            self.several().into_iter().map(|Extent { offset, len }| Segment { base: offset, len }).collect();
        let count = match self.byte() {
            0..=199 => segments.iter().map(|segment| u64::from(segment.len)).sum(),
            _ => self.number(),
        };
        if let Ok(iter) = IovIter::create(kind, direction, &segments, count) {
            if self.iters.len() == MOST_KEPT {
                self.iters.remove(0);
            }
            self.iters.push(iter);
        }
    }

    fn use_iter(&mut self) {
        let what = self.byte() % 20;
        if what == 0 {
            return self.submit_one();
        }
        let Some(place) = self.place(self.iters.len()) else { return };
        if what > 13 {
            return self.add_iter(place, what < 17);
        }
        let number = self.number();
        let state = self.place(self.states.len() + 1).and_then(|place| self.states.get(place).copied());
        let iter = &self.iters[place];
        match what {
            1 => drop(self.iters.swap_remove(place)),
            2 => _ = (iter.count(), iter.single_segment_count(), iter.alignment()),
            3 => drop(iter.advance(number)),
            4 => drop(iter.revert(number)),
            5 => iter.truncate(number),
            6 => drop(iter.reexpand(number)),
            7 => self.states.push(iter.save()),
            8 => drop(iter.restore(state.unwrap_or(IterState { passed: number, left: !number }))),
            9 => drop(iter.restore(IterState { passed: number, left: number })),
            10 => _ = iter.pages(number as u32 % 100_000),
            11 => {
                let copied = iter.copy_from(&self.region, number as u32);
                self.see(&copied.unwrap_or_default());
            }
            12 => drop(iter.copy_to(&self.region, &vec![number as u8; number as usize % 70_000])),
            _ => {
                let extents = iter.extract(number, number as u32 % 10_000);
                extents.into_iter().take(4).for_each(|extent| self.keep(extent));
            }
        }
    }

    fn add_iter(&mut self, place: usize, submits: bool) {
        let (id, header, reply_len) = (self.number() as u32, self.header(), self.reply_len());
        let most_segments = if self.byte() < 200 { 6 } else { self.number() as u32 };
        // The iter itself, or any of them, the same one once more perhaps.
        let lists = |script: &mut Self| -> Vec<(usize, u64)> {
            let count = [0, 1, 1, 1, 2, 3, 5, 40][usize::from(script.byte() % 8)];
            let list = |script: &mut Self| {
                let place = if script.byte() < 100 { Some(place) } else { script.place(script.iters.len()) };
                let place = place.unwrap_or_default();
                let bytes = match script.byte() {
                    0..=199 => script.iters[place].count(),
                    _ => script.number(),
                };
                (place, bytes)
            };
            (0..count).map(|_| list(script)).collect()
        };
        let (out, into) = (lists(self), lists(self));
        let Some(queue) = self.place(self.queues.len()) else { return };
        let (queue, iters) = (&self.queues[queue], &self.iters);
        let transfers = |lists: &[(usize, u64)]| -> Vec<Transfer<'_>> {
            lists.iter().map(|&(place, bytes)| Transfer { iter: &iters[place], bytes }).collect()
        };
        let (out, into) = (transfers(&out), transfers(&into));
        if submits {
            let (_, returned) = iter::submit_iter(queue, id, &header, &out, reply_len, &into, most_segments);
            self.take(returned);
        } else {
            let _ = iter::add_iter(queue, id, &header, &out, reply_len, &into, most_segments);
        }
    }

    fn submit_one(&mut self) {
        let queue = match self.place(self.numbers.len() + 1).and_then(|place| self.numbers.get(place)) {
            Some(queue) => *queue,
            None => self.number() as u32,
        };
        let (id, header, extent) = (self.number() as u32, self.header(), self.extent());
        let what = self.byte();
        let reply_len = self.reply_len();
        let ubuf = |direction| {
            let buffer = Segment { base: extent.offset, len: extent.len };
            iter::submit_ubuf(queue, id, &header, direction, buffer, reply_len).1
        };
        let one = |payload| submit_one(queue, id, &header, reply_len, payload).1;
        let returned = match what {
            0..=79 => ubuf(Direction::Source),
            80..=159 => ubuf(Direction::Dest),
            160..=199 => one(Payload::Out(extent)),
            200..=239 => one(Payload::In(extent)),
            _ => one(Payload::None),
        };
        self.take(returned);
    }

    // What comes of the component's own call.

    fn outcome(&mut self, lent: &[Extent]) -> Outcome {
        let value = match self.byte() {
            0..=99 => return Outcome::Complete(Err(Error::Errno(38))),
            100..=109 => return Outcome::Complete(Err(Error::Errno(self.number() as u32))),
            110 => return Outcome::Complete(Err(Error::Broken("as it was told".into()))),
            111..=115 => return Outcome::Pending(self.number() as u32),
            116..=129 => Value::None,
            130..=179 => Value::Count(lent.iter().map(|extent| u64::from(extent.len)).sum()),
            180..=184 => Value::Count(self.number()),
            185..=219 => Value::Opened(Opened { node: self.number() as u32, qid: self.qid(), attributes: None }),
            220..=229 => Value::Qid(self.qid()),
            230..=239 => Value::Entries(Entries { entries: Vec::new(), end: self.byte() < 128 }),
            _ => Value::Target(vec![b'x'; self.number() as usize % 100_000]),
        };
        Outcome::Complete(Ok(value))
    }

    fn qid(&mut self) -> Qid {
        Qid { kind: self.byte() & 0x80, version: self.byte().into(), path: self.byte().into() }
    }
}

/// A message without payload.
fn message(kind: u8, tag: [u8; 2], body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(7 + body.len() as u32).to_le_bytes()[..], &[kind], &tag, &body].concat()
}

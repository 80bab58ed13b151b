//! What the client needs of the outside: a virtqueue, iters, and a region.

use std::{
    ops::{Deref, Range},
    rc::Rc,
};

use ninering_wire::Errno;

/// A run of bytes in the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the region's start.
    pub offset: u64,
    /// Bytes; not 0.
    pub len: u32,
}

/// Which way a request's payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the iter to the server: `Twrite`.
    Source,
    /// From the server to the iter: `Rread`, `Rreaddir`.
    Dest,
}

/// A request's payload: the next `bytes` bytes of an iter.
#[derive(Debug)]
pub struct Transfer<'i, I> {
    /// Where the bytes come from or go to.
    pub iter: &'i I,
    /// Which of the two.
    pub direction: Direction,
    /// How many.
    pub bytes: u64,
    /// The most extents that they may be in.
    pub max_segments: u32,
}

/// Why a chain was not added. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// There is no room now.
    Full,
    /// So many bytes at the most fit the limit on segments.
    Short(u64),
    /// This request can never be added.
    Refused(Errno),
    /// No request can be added any more; why.
    Broken(&'static str),
}

/// The front of a reply.
#[derive(Clone, Debug)]
pub struct ReplyHeader(Bytes);

/// Where they are: in place where they are few, as those of a read are.
#[derive(Clone, Debug)]
enum Bytes {
    Brief([u8; BRIEF], u8),
    Long(Box<[u8; LONG]>, u8),
    /// A part of a buffer that holds those of all chains which came back with this one.
    Shared(Rc<Vec<u8>>, Range<usize>),
}

/// How many bytes are few, and how many fit the longer array.
pub(crate) const BRIEF: usize = 24;
pub(crate) const LONG: usize = 192;

impl ReplyHeader {
    /// The bytes of `buffer` at `place`, as far as there are some.
    pub fn new(buffer: &Rc<Vec<u8>>, place: Range<usize>) -> Self {
        Self(Bytes::Shared(buffer.clone(), place))
    }

    /// The first `len` of these bytes, or all of them.
    pub fn brief(bytes: [u8; BRIEF], len: u32) -> Self {
        Self(Bytes::Brief(bytes, len.min(BRIEF as u32) as u8))
    }

    /// Likewise.
    pub fn long(bytes: Box<[u8; LONG]>, len: u32) -> Self {
        Self(Bytes::Long(bytes, len.min(LONG as u32) as u8))
    }
}

impl From<Vec<u8>> for ReplyHeader {
    fn from(bytes: Vec<u8>) -> Self {
        let all = 0..bytes.len();
        Self(Bytes::Shared(Rc::new(bytes), all))
    }
}

impl Default for ReplyHeader {
    fn default() -> Self {
        Self::brief([0; BRIEF], 0)
    }
}

impl PartialEq for ReplyHeader {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ReplyHeader {}

impl Deref for ReplyHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Brief(bytes, len) => &bytes[..usize::from(*len)],
            Bytes::Long(bytes, len) => &bytes[..usize::from(*len)],
            Bytes::Shared(buffer, place) => buffer.get(place.clone()).unwrap_or_default(),
        }
    }
}

/// A chain that the device has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// What it was [added](Ring::add) under.
    pub id: u32,
    /// How many bytes the device says that it wrote, header and payload together.
    pub written: u32,
    /// The first of those: as many as were reserved for the header, or fewer.
    pub header: ReplyHeader,
}

/// The queue to the server, with the iters and the region that its requests speak of.
///
/// None of these may call back.
pub trait Ring: 'static {
    /// Where a transfer's bytes come from or go to, and how far it has come.
    type Iter: 'static;

    /// The number of descriptors.
    fn queue_size(&self) -> u16;
    /// The most bytes of header in either direction.
    fn max_header(&self) -> u32;

    /// Adds a chain: `header`, and `reply_len` bytes for the reply's, with the payload behind the header of its
    /// direction. Advances the iter. The chain comes back under `id`. Chains keep their order, but a ring may hand them
    /// to the device at once, or put that off until the next [`Ring::kick`].
    ///
    /// # Errors
    /// See [`AddError`]; all or nothing.
    fn add(
        &self,
        id: u32,
        header: &[u8],
        reply_len: u32,
        payload: Option<Transfer<'_, Self::Iter>>,
    ) -> Result<(), AddError>;
    /// Takes an iter back by so many bytes, which are to be transferred again. Tells whether it could be; only needed
    /// where sessions [recover](crate::session::Session::set_recovers).
    fn revert(&self, _iter: &Self::Iter, _bytes: u64) -> bool {
        false
    }
    /// Copies out the first `len` of the last `back` bytes that were transferred of an iter, as the device left them: for
    /// what is no payload after all. `None` where that is refused.
    fn read_back(&self, iter: &Self::Iter, back: u64, len: u32) -> Option<Vec<u8>>;
    /// Tells the device that there are new chains. What of them found no room goes with a later call of this or of
    /// [`Ring::used`].
    ///
    /// # Errors
    /// Why no chain can be added any more.
    fn kick(&self) -> Result<(), &'static str>;
    /// Takes the chains that the device has returned since.
    ///
    /// # Errors
    /// As [`Ring::kick`]'s, for chains that had found no room.
    fn used(&self, take: impl FnMut(Used)) -> Result<(), &'static str>;
    /// Does it hold chains that came back otherwise than by [`Ring::used`], and were not asked for yet? The device is
    /// not heard of again because of them.
    fn holds_used(&self) -> bool {
        false
    }

    /// Takes memory of the region for the client's own use; `None` where there is none left.
    fn allocate(&self, len: u32) -> Option<Extent>;
    /// Gives an allocation back.
    fn release(&self, allocation: Extent);
    /// Copies bytes out of an allocation; `None` where that is refused.
    fn read(&self, source: Extent) -> Option<Vec<u8>>;
    /// An iter over the whole of an allocation, to be written to; `None` where that is refused.
    fn iter_over(&self, allocation: Extent) -> Option<Self::Iter>;
}

//! The one place that looks inside an iter.

use crate::{
    iov_iter::IovIter,
    types::{Extent, Kind, PAGE_SIZE},
};

/// Which neighbours in the region may share an extent: where one segment, or one page of it, ends and the next begins.
#[derive(Clone, Copy)]
enum Joins {
    Anywhere,
    WithinPage,
    Nowhere,
}

/// All that tells the kinds apart.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// There are exactly so many segments.
    pub(crate) segments: Option<usize>,
    /// Each segment is whole pages.
    pub(crate) whole_pages: bool,
    /// There is memory: else bytes are only counted.
    pub(crate) has_memory: bool,
    /// An extent ends where a page does.
    splits_at_pages: bool,
    joins: Joins,
}

impl Kind {
    /// What holds for this kind. Another kind is another arm here, and nothing else in this crate knows of it.
    pub(crate) const fn rules(self) -> Rules {
        let buffers = Rules {
            segments: None,
            whole_pages: false,
            has_memory: true,
            splits_at_pages: false,
            joins: Joins::Anywhere,
        };
        match self {
            Self::Ubuf => Rules { segments: Some(1), ..buffers },
            Self::Iovec | Self::Kvec => buffers,
            Self::Bvec => Rules { splits_at_pages: true, joins: Joins::WithinPage, ..buffers },
            Self::Folioq => Rules { whole_pages: true, joins: Joins::Nowhere, ..buffers },
            Self::Xarray => Rules { whole_pages: true, splits_at_pages: true, joins: Joins::Nowhere, ..buffers },
            Self::Discard => Rules { segments: Some(0), has_memory: false, ..buffers },
        }
    }
}

/// How far [`IovIter::extract`] came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Bytes in the extents.
    pub bytes: u64,
    /// The number of extents.
    pub segments: u32,
}

impl IovIter {
    /// Maps the bytes at hand to extents, in order, without moving: at most `max_bytes` bytes and `max_segments`
    /// extents.
    ///
    /// Neighbouring bytes share an extent as far as its 32-bit length goes, but those of different pages never do in
    /// a [`Kind::Bvec`] and a [`Kind::Xarray`], nor those of different folios in a [`Kind::Folioq`], for nothing says
    /// that neighbours in the region belong together there. Of a [`Kind::Discard`] there is nothing to be mapped.
    pub fn extract(&self, max_bytes: u64, max_segments: u32, mut take: impl FnMut(Extent)) -> Extracted {
        let mut extracted = Extracted::default();
        if max_segments == 0 {
            return extracted;
        }
        let mut rest = self.left.min(max_bytes);
        let mut open: Option<Extent> = None;
        let mut skip = self.offset;
        let rules = self.kind().rules();
        for segment in &self.segments[self.index..] {
            let mut base = segment.base + u64::from(skip);
            let mut len = u64::from(segment.len - skip).min(rest);
            skip = 0;
            while len > 0 {
                let piece = if rules.splits_at_pages { len.min(PAGE_SIZE - base % PAGE_SIZE) } else { len };
                // How much of the piece still goes into the open extent: none, or what its length field holds.
                let joined = match &open {
                    Some(extent) if extent.offset + u64::from(extent.len) == base && rules.may_join(base) => {
                        piece.min(u64::from(u32::MAX - extent.len))
                    }
                    _ => 0,
                };
                let taken = if let (Some(extent), 1..) = (&mut open, joined) {
                    extent.len += joined as u32; // fits, see above
                    joined
                } else {
                    if extracted.segments == max_segments {
                        break;
                    }
                    extracted.segments += 1;
                    // A piece is part of a segment, whose length is a u32.
                    if let Some(done) = open.replace(Extent { offset: base, len: piece as u32 }) {
                        take(done);
                    }
                    piece
                };
                base += taken;
                len -= taken;
                rest -= taken;
                extracted.bytes += taken;
            }
            if len > 0 || rest == 0 {
                break;
            }
        }
        if let Some(extent) = open {
            take(extent);
        }
        extracted
    }

    /// All addresses and lengths of what is left, joined by *or*: its low zero bits say how everything is aligned. 0
    /// where nothing is left.
    pub fn alignment(&self) -> u64 {
        let mut all = 0;
        self.extract(u64::MAX, u32::MAX, |extent| all |= extent.offset | u64::from(extent.len));
        all
    }

    /// How many pages what is left lies in, those that several extents share counted for each; no more than `most`.
    pub fn pages(&self, most: u32) -> u32 {
        let mut pages = 0_u64;
        self.extract(u64::MAX, u32::MAX, |extent| {
            let end = extent.offset + u64::from(extent.len); // no segment overflows
            pages += end.div_ceil(PAGE_SIZE) - extent.offset / PAGE_SIZE;
        });
        u32::try_from(pages).map_or(most, |pages| pages.min(most))
    }
}

impl Rules {
    /// May the byte at `address`, where a segment or a page begins, share an extent with the one before it in the region?
    fn may_join(&self, address: u64) -> bool {
        match self.joins {
            Joins::Anywhere => true,
            Joins::WithinPage => !address.is_multiple_of(PAGE_SIZE),
            Joins::Nowhere => false,
        }
    }
}

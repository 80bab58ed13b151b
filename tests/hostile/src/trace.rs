//! What is done to a queue and its leases, made of bytes that a fuzzer chooses.

use arbitrary::{Arbitrary, Result, Unstructured};
use ninering::virtqueue::Features;

/// What component, host and device do, in order.
#[derive(Debug)]
pub struct Trace {
    /// The queue's size, and what was negotiated, by its bits.
    size: u8,
    pub(crate) steps: Vec<Step>,
}

impl Trace {
    /// Descriptors in the queue.
    pub(crate) fn queue_size(&self) -> u16 {
        8 << (self.size & 3).min(2)
    }

    /// What was negotiated.
    pub(crate) fn features(&self) -> Features {
        let wanted = [(4, Features::EVENT_INDEX), (8, Features::INDIRECT)];
        let wanted = wanted.into_iter().filter(|(bit, _)| self.size & bit != 0);
        wanted.fold(Features::VERSION_1, |features, (_, feature)| features.and(feature))
    }
}

impl<'a> Arbitrary<'a> for Trace {
    /// As many steps as there are bytes for.
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let size = from.arbitrary()?;
        let mut steps = Vec::new();
        while !from.is_empty() {
            steps.push(from.arbitrary()?);
        }
        Ok(Self { size, steps })
    }
}

#[derive(Arbitrary, Debug)]
pub(crate) enum Step {
    // The component.
    Allocate(u16),
    Release(Piece),
    ReleaseWhole(u8),
    Read(Piece),
    Write(Piece),
    Add {
        header: u16,
        out: Pieces,
        reply: u16,
        input: Pieces,
    },
    Used,
    Kick,
    ForgoInterrupts,
    WantInterrupt,
    // The host.
    Lend(u16),
    Revoke(u8),
    Abandon,
    Reset {
        detach: bool,
    },
    // A device that does what it should.
    Pop,
    Complete {
        chain: u8,
        written: u32,
    },
    ForgoKicks,
    WantKick,
    InterruptNeeded,
    // One that does not, or a driver's memory that is not what it was.
    Return {
        ahead: u8,
        id: Index,
        len: u32,
    },
    ReturnAgain,
    UsedIdx(Index),
    UsedFlags(u16),
    AvailIdx(Index),
    AvailEntry(u8, Index),
    AvailFlags(u16),
    Descriptor {
        index: u8,
        piece: Piece,
        flags: u16,
        next: Index,
    },
    /// The words behind the two rings: event indices.
    Events(Index, Index),
    /// An entry of the table that a descriptor refers to.
    Table {
        index: u8,
        entry: u8,
        piece: Piece,
        flags: u16,
        next: Index,
    },
}

/// An index, near one that would be right or anywhere.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Index {
    Near(i8),
    Any(u32),
}

impl Index {
    pub(crate) fn from(self, right: u16) -> u32 {
        match self {
            Self::Near(by) => right.wrapping_add_signed(by.into()).into(),
            Self::Any(index) => index,
        }
    }
}

/// A few extents.
#[derive(Debug)]
pub(crate) struct Pieces(pub(crate) Vec<Piece>);

impl<'a> Arbitrary<'a> for Pieces {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let count = [0, 1, 1, 2, 3, 5, 20, 2000][usize::from(u8::arbitrary(from)? % 8)];
        let mut pieces: Vec<Piece> = Vec::new();
        for _ in 0..count {
            // Of many, all are the last one.
            let next = if from.is_empty() { pieces.last().cloned() } else { None };
            pieces.push(next.map_or_else(|| from.arbitrary(), Ok)?);
        }
        Ok(Self(pieces))
    }
}

/// An extent: of a buffer, near one, or anywhere.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Piece {
    Of { buffer: u8, start: u16, len: u16 },
    Whole(u8),
    Foreign { start: i16, len: u16 },
    Any(u64, u32),
}

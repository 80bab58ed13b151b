//! What is large in a message, wherever it lies: messages are passed by value, and should cost little to move.

use core::fmt;

use crate::{
    MAXWELEM,
    field::{Field, FixedLen, Reader, WireError, Writer},
};

/// Up to [`MAXWELEM`] things in a row, `count[2]` and as many: in the bytes that they were decoded from, or in a slice
/// of whoever sends them.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Items<'a, T>);

#[derive(Clone, Copy)]
enum Items<'a, T> {
    Slice(&'a [T]),
    /// `bytes` hold `count` items: that was checked when they were read.
    Encoded {
        count: u8,
        bytes: &'a [u8],
    },
}

impl<'a, T: Copy> List<'a, T> {
    /// The items of a slice.
    ///
    /// # Errors
    /// [`WireError::TooManyNames`] past [`MAXWELEM`] items.
    pub fn new(items: &'a [T]) -> Result<Self, WireError> {
        if items.len() > MAXWELEM {
            return Err(WireError::TooManyNames(u16::try_from(items.len()).unwrap_or(u16::MAX)));
        }
        Ok(Self(Items::Slice(items)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Items::Slice(items) => items.len(),
            Items::Encoded { count, .. } => count.into(),
        }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[allow(private_bounds, reason = "what can be in a message is this crate's to say")]
impl<'a, T: Copy + Field<'a>> List<'a, T> {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        let (mut slice, mut reader) = match self.0 {
            Items::Slice(items) => (items.iter(), Reader(&[])),
            Items::Encoded { bytes, .. } => (Default::default(), Reader(bytes)),
        };
        core::iter::from_fn(move || match slice.next() {
            Some(item) => Some(*item),
            None if reader.0.is_empty() => None,
            None => T::read(&mut reader).ok(),
        })
    }
}

/// A list of one.
impl<'a, T> From<&'a T> for List<'a, T> {
    fn from(item: &'a T) -> Self {
        Self(Items::Slice(core::slice::from_ref(item)))
    }
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self(Items::Slice(&[]))
    }
}

impl<'a, T: Copy + Field<'a> + PartialEq> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Copy + Field<'a> + Eq> Eq for List<'a, T> {}

impl<'a, T: Copy + Field<'a> + fmt::Debug> fmt::Debug for List<'a, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Copy + Field<'a>> Field<'a> for List<'a, T> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let count = u16::read(reader)?;
        let few = u8::try_from(count).ok().filter(|&few| usize::from(few) <= MAXWELEM);
        let count = few.ok_or(WireError::TooManyNames(count))?;
        let from_here = reader.0;
        for _ in 0..count {
            T::read(reader)?;
        }
        let bytes = &from_here[..from_here.len() - reader.0.len()];
        Ok(Self(Items::Encoded { count, bytes }))
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        (self.len() as u16).write(writer)?; // at most `MAXWELEM`
        match self.0 {
            Items::Slice(items) => items.iter().try_for_each(|item| item.write(writer)),
            Items::Encoded { bytes, .. } => writer.bytes(bytes),
        }
    }
}

/// A large record: in the bytes that it was decoded from, or where whoever sends it has it.
#[derive(Clone, Copy)]
pub struct Far<'a, T>(Place<'a, T>);

#[derive(Clone, Copy)]
enum Place<'a, T> {
    There(&'a T),
    /// As many bytes as a `T` has on the wire.
    Encoded(&'a [u8]),
}

impl<'a, T> From<&'a T> for Far<'a, T> {
    fn from(record: &'a T) -> Self {
        Self(Place::There(record))
    }
}

#[allow(private_bounds, reason = "what can be in a message is this crate's to say")]
impl<'a, T: Copy + Default + FixedLen + Field<'a>> Far<'a, T> {
    /// The record.
    pub fn get(&self) -> T {
        match self.0 {
            Place::There(record) => *record,
            // Records of fixed length are of integers, of which every value is good, and all of the bytes are there.
            Place::Encoded(bytes) => T::read(&mut Reader(bytes)).unwrap_or_default(),
        }
    }
}

impl<'a, T: Copy + Default + FixedLen + Field<'a> + PartialEq> PartialEq for Far<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<'a, T: Copy + Default + FixedLen + Field<'a> + Eq> Eq for Far<'a, T> {}

impl<'a, T: Copy + Default + FixedLen + Field<'a> + fmt::Debug> fmt::Debug for Far<'a, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(formatter)
    }
}

impl<'a, T: Copy + Default + FixedLen + Field<'a>> Field<'a> for Far<'a, T> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self(Place::Encoded(reader.bytes(T::LEN)?)))
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        match self.0 {
            Place::There(record) => record.write(writer),
            Place::Encoded(bytes) => writer.bytes(bytes),
        }
    }
}

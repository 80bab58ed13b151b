//! How single fields are laid out: the cursor over bytes received, and the one over bytes to send.

use core::fmt;

/// Why bytes are no 9P message, or a message does not fit its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The message ends inside a field.
    Truncated,
    /// Bytes are left behind the last field.
    TrailingBytes,
    /// The `size` field is below the header's length, or is not the number of bytes there are.
    BadSize(u32),
    /// No message of the expected direction has this type number.
    UnknownType(u8),
    /// A walk of more than [`MAXWELEM`](crate::MAXWELEM) names.
    TooManyNames(u16),
    /// A field has a value that is not allowed in it.
    BadValue,
    /// The buffer to encode into is too small, or a string is longer than 65,535 bytes.
    Overflow,
}

impl fmt::Display for WireError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => formatter.write_str("the message ends inside a field"),
            Self::TrailingBytes => formatter.write_str("bytes are left behind the message"),
            Self::BadSize(size) => write!(formatter, "the message says that it has {size} bytes and has not"),
            Self::UnknownType(kind) => write!(formatter, "unknown message type {kind}"),
            Self::TooManyNames(count) => write!(formatter, "a walk of {count} names"),
            Self::BadValue => formatter.write_str("a field has a value that is not allowed"),
            Self::Overflow => formatter.write_str("the message does not fit its buffer"),
        }
    }
}

impl core::error::Error for WireError {}

/// Bytes received, read from the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// A buffer filled from the front.
pub(crate) struct Writer<'b> {
    buffer: &'b mut [u8],
    filled: usize,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, filled: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let end = self.filled.checked_add(bytes.len()).ok_or(WireError::Overflow)?;
        self.buffer.get_mut(self.filled..end).ok_or(WireError::Overflow)?.copy_from_slice(bytes);
        self.filled = end;
        Ok(())
    }

    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Overwrites the first bytes, which must have been filled.
    pub(crate) fn patch(&mut self, start: &[u8]) {
        self.buffer[..start.len()].copy_from_slice(start);
    }
}

/// A type with one layout on the wire.
pub(crate) trait Field<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError>;
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError>;
}

/// A type that always takes as many bytes on the wire, any of which are one.
pub(crate) trait FixedLen {
    /// How many.
    const LEN: usize;
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Field<'_> for $integer {
            fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
                let bytes = reader.bytes(size_of::<$integer>())?;
                Ok(<$integer>::from_le_bytes(bytes.try_into().map_err(|_| WireError::Truncated)?))
            }

            fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
                writer.bytes(&self.to_le_bytes())
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 }

/// A struct laid out as its fields, one after the other.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident $(<$life:lifetime>)? { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name $(<$life>)? { $($(#[$field_meta])* pub $field: $type,)* }

        impl<'a> crate::field::Field<'a> for $name $(<$life>)? {
            fn read(reader: &mut crate::field::Reader<'a>) -> Result<Self, crate::WireError> {
                Ok(Self { $($field: crate::field::Field::read(reader)?,)* })
            }

            fn write(&self, writer: &mut crate::field::Writer<'_>) -> Result<(), crate::WireError> {
                $(self.$field.write(writer)?;)*
                Ok(())
            }
        }
    };
}
pub(crate) use record;

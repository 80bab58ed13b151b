//! Which of the two dialects a message is of, as a type.

use core::{fmt, marker::PhantomData};

use crate::{
    VERSION_9P2000, VERSION_9P2000U,
    field::{Field, Reader, WireError, Writer},
};

mod sealed {
    pub trait Sealed {}
}

/// [`Plan9`] or [`Unix`].
pub trait Dialect: sealed::Sealed + Copy + fmt::Debug + Default + Eq + Send + Sync + 'static {
    /// Its name in `Tversion` and `Rversion`.
    const VERSION: &'static [u8];
    /// Has it the fields of 9P2000.u?
    const IS_UNIX: bool;
}

/// 9P2000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan9;

impl sealed::Sealed for Plan9 {}

impl Dialect for Plan9 {
    const VERSION: &'static [u8] = VERSION_9P2000;
    const IS_UNIX: bool = false;
}

/// 9P2000.u.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unix;

impl sealed::Sealed for Unix {}

impl Dialect for Unix {
    const VERSION: &'static [u8] = VERSION_9P2000U;
    const IS_UNIX: bool = true;
}

/// A field that 9P2000.u has and 9P2000 has not.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct UnixOnly<T, D> {
    /// The default in 9P2000.
    value: T,
    dialect: PhantomData<D>,
}

impl<T: Copy + Default, D: Dialect> UnixOnly<T, D> {
    /// The field with this value, which 9P2000 forgets.
    pub fn new(value: T) -> Self {
        Self { value: if D::IS_UNIX { value } else { T::default() }, dialect: PhantomData }
    }

    /// Its value, if the dialect has it.
    pub fn get(self) -> Option<T> {
        D::IS_UNIX.then_some(self.value)
    }
}

impl<T: Copy + Default + fmt::Debug, D: Dialect> fmt::Debug for UnixOnly<T, D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => value.fmt(formatter),
            None => formatter.write_str("-"),
        }
    }
}

impl<'a, T: Field<'a> + Copy + Default, D: Dialect> Field<'a> for UnixOnly<T, D> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self::new(if D::IS_UNIX { T::read(reader)? } else { T::default() }))
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        if D::IS_UNIX { self.value.write(writer) } else { Ok(()) }
    }
}

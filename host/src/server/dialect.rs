//! The dialects of the protocol, and how a `Tversion` chooses one.

use std::{fmt, str::FromStr};

use ninering_wire::{VERSION_9P2000, VERSION_9P2000L, VERSION_9P2000U};

/// A dialect of 9P.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// 9P2000.L.
    #[default]
    Linux,
    /// 9P2000.u.
    Unix,
    /// 9P2000.
    Plan9,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Unix, Self::Plan9];

    /// Its name in `Tversion` and `Rversion`.
    pub const fn version(self) -> &'static [u8] {
        match self {
            Self::Linux => VERSION_9P2000L,
            Self::Unix => VERSION_9P2000U,
            Self::Plan9 => VERSION_9P2000,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version().escape_ascii().fmt(formatter)
    }
}

/// A dialect's name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the dialects are 9P2000.L, 9P2000.u and 9P2000")]
pub struct UnknownDialect;

impl FromStr for Dialect {
    type Err = UnknownDialect;

    /// By its name, whatever the case of its letters: Linux's mount option has it in lower case.
    fn from_str(name: &str) -> Result<Self, UnknownDialect> {
        let named = |dialect: &Self| dialect.version().eq_ignore_ascii_case(name.as_bytes());
        Self::ALL.into_iter().find(named).ok_or(UnknownDialect)
    }
}

/// Some of the dialects: those that a server speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dialects([bool; Dialect::ALL.len()]);

impl Dialects {
    /// All of them.
    pub const ALL: Self = Self([true; Dialect::ALL.len()]);

    /// Is `dialect` among them?
    pub const fn contains(self, dialect: Dialect) -> bool {
        self.0[dialect as usize]
    }

    /// The one to answer to a client that asks for `version`: that very one, or an older one that this is an extension
    /// of, as version(5) has it. `9P2000.L.Google.7` extends `9P2000.L`, which extends `9P2000`, as all do whose name
    /// begins with a `9P` and a number above that.
    pub fn choose(self, version: &[u8]) -> Option<Dialect> {
        let mut name = version;
        loop {
            let named = |dialect: &Dialect| dialect.version() == name && self.contains(*dialect);
            if let Some(dialect) = Dialect::ALL.into_iter().find(named) {
                return Some(dialect);
            }
            match name.iter().rposition(|&byte| byte == b'.') {
                Some(period) => name = &name[..period],
                None => break,
            }
        }
        let number = name.strip_prefix(b"9P").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        // All have four digits: so the order of the numbers is that of the texts.
        (number.len() == 4 && number >= b"2000".as_slice() && self.contains(Dialect::Plan9)).then_some(Dialect::Plan9)
    }
}

impl Default for Dialects {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Dialect> for Dialects {
    fn from_iter<I: IntoIterator<Item = Dialect>>(dialects: I) -> Self {
        let mut these = Self([false; Dialect::ALL.len()]);
        dialects.into_iter().for_each(|dialect| these.0[dialect as usize] = true);
        these
    }
}

impl fmt::Debug for Dialects {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(Dialect::ALL.into_iter().filter(|&dialect| self.contains(dialect))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_chosen_as_the_manual_has_it() {
        let all = |version: &str| Dialects::ALL.choose(version.as_bytes());
        assert_eq!(all("9P2000.L"), Some(Dialect::Linux));
        assert_eq!(all("9P2000.L.Google.7"), Some(Dialect::Linux));
        assert_eq!(all("9P2000.u"), Some(Dialect::Unix));
        for version in ["9P2000", "9P2000.", "9P2000.xyz", "9P2000.l", "9P2000.e.u", "9P2001", "9P9999.L"] {
            assert_eq!(all(version), Some(Dialect::Plan9), "{version}");
        }
        for version in ["", "9P", "9P.L", "9p2000", "9P1999", "9P20000", "9P200", "9P2OOO", "Q9P2000", "unknown", "."] {
            assert_eq!(all(version), None, "{version}");
        }
    }

    #[test]
    fn what_is_not_spoken_is_not_chosen() {
        let linux = Dialects::from_iter([Dialect::Linux]);
        assert_eq!(linux.choose(b"9P2000.L"), Some(Dialect::Linux));
        assert_eq!(linux.choose(b"9P2000.u"), None);
        assert_eq!(linux.choose(b"9P2000"), None);
        let plan9 = Dialects::from_iter([Dialect::Plan9]);
        assert_eq!(plan9.choose(b"9P2000.L"), Some(Dialect::Plan9));
        assert_eq!(Dialects::from_iter([]).choose(b"9P2000"), None);
        assert_eq!(format!("{linux:?}"), "{Linux}");
    }

    #[test]
    fn dialects_are_named_as_in_the_mount_option() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.to_string().to_lowercase().parse(), Ok(dialect));
        }
        assert_eq!("9p2000.x".parse::<Dialect>(), Err(UnknownDialect));
    }
}

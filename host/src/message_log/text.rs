//! How the parts of a message are written: names escaped and cut, flags by name, qids by what they stand for.

use std::fmt::{self, Display, Formatter};

use ninering_wire::{Attributes, LockType, Names, Qid, Qids, SetAttributes, Str, legacy, lopen, mode, setattr};

/// How many bytes of a name or another string are shown.
const MOST_BYTES: usize = 80;

/// A string in quotation marks, cut if it is long. Nothing in it can command a terminal or begin a line.
pub(super) struct Quoted<'a>(pub(super) Str<'a>);

impl Display for Quoted<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = &self.0;
        let cut = bytes.len() > MOST_BYTES;
        let shown = if cut { &bytes[..bytes.floor_char_boundary_or(MOST_BYTES)] } else { bytes };
        match std::str::from_utf8(shown) {
            Ok(text) => write!(out, "\"{}\"", text.escape_debug())?,
            Err(_) => write!(out, "\"{}\"", shown.escape_ascii())?,
        }
        if cut { write!(out, "... {} bytes", bytes.len()) } else { Ok(()) }
    }
}

trait Boundary {
    /// The last index up to `most` that is not within a character of UTF-8.
    fn floor_char_boundary_or(&self, most: usize) -> usize;
}

impl Boundary for [u8] {
    fn floor_char_boundary_or(&self, most: usize) -> usize {
        let is_boundary = |&at: &usize| self[at] & 0xc0 != 0x80;
        (most.saturating_sub(3)..=most).rev().find(is_boundary).unwrap_or(most)
    }
}

/// Things in brackets.
pub(super) struct Listed<L>(pub(super) L);

fn list<D: Display>(out: &mut Formatter<'_>, items: impl Iterator<Item = D>) -> fmt::Result {
    out.write_str("[")?;
    for (index, item) in items.enumerate() {
        write!(out, "{}{item}", if index == 0 { "" } else { ", " })?;
    }
    out.write_str("]")
}

impl Display for Listed<Names<'_>> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        list(out, self.0.iter().map(Quoted))
    }
}

impl Display for Listed<Qids<'_>> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        list(out, self.0.iter().map(ShownQid))
    }
}

/// What a qid stands for, and its path; its version if it has one.
pub(super) struct ShownQid(pub(super) Qid);

impl Display for ShownQid {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Qid { kind, version, path } = self.0;
        let word = match kind {
            _ if kind.is_dir() => "dir",
            _ if kind.is_symlink() => "link",
            _ if kind.0 & legacy::qid_type::AUTH != 0 => "auth",
            _ => "file",
        };
        write!(out, "{word} {path}")?;
        if version == 0 { Ok(()) } else { write!(out, " v{version}") }
    }
}

/// A number that stands for nothing if all its bits are set.
pub(super) struct OrNone(pub(super) u32);

impl Display for OrNone {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == u32::MAX { out.write_str("none") } else { write!(out, "{}", self.0) }
    }
}

/// Bits by name, and what is left of them in hexadecimal.
fn write_bits(out: &mut Formatter<'_>, mut bits: u32, names: &[(u32, &str)], mut first: bool) -> fmt::Result {
    for &(bit, name) in names {
        if bits & bit != 0 {
            bits &= !bit;
            write!(out, "{}{name}", if first { "" } else { "|" })?;
            first = false;
        }
    }
    match (bits, first) {
        (0, true) => out.write_str("0"),
        (0, false) => Ok(()),
        _ => write!(out, "{}{bits:#x}", if first { "" } else { "|" }),
    }
}

/// The flags of `Tlopen` and `Tlcreate`, as `open(2)` names them.
pub(super) struct OpenFlags(pub(super) u32);

impl Display for OpenFlags {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        const NAMES: [(u32, &str); 15] = [
            (lopen::CREATE, "O_CREAT"),
            (lopen::EXCL, "O_EXCL"),
            (lopen::NOCTTY, "O_NOCTTY"),
            (lopen::TRUNC, "O_TRUNC"),
            (lopen::APPEND, "O_APPEND"),
            (lopen::NONBLOCK, "O_NONBLOCK"),
            (lopen::DSYNC, "O_DSYNC"),
            (lopen::FASYNC, "FASYNC"),
            (lopen::DIRECT, "O_DIRECT"),
            (lopen::LARGEFILE, "O_LARGEFILE"),
            (lopen::DIRECTORY, "O_DIRECTORY"),
            (lopen::NOFOLLOW, "O_NOFOLLOW"),
            (lopen::NOATIME, "O_NOATIME"),
            (lopen::CLOEXEC, "O_CLOEXEC"),
            (lopen::SYNC, "O_SYNC"),
        ];
        out.write_str(match self.0 & lopen::ACCMODE {
            lopen::RDONLY => "O_RDONLY",
            lopen::WRONLY => "O_WRONLY",
            lopen::RDWR => "O_RDWR",
            _ => "O_ACCMODE",
        })?;
        write_bits(out, self.0 & !lopen::ACCMODE, &NAMES, false)
    }
}

/// The mode of `Topen` and `Tcreate` of the older dialects.
pub(super) struct OpenMode(pub(super) u8);

impl Display for OpenMode {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        use legacy::open;
        const NAMES: [(u32, &str); 4] = [
            (open::TRUNC as u32, "OTRUNC"),
            (open::CEXEC as u32, "OCEXEC"),
            (open::RCLOSE as u32, "ORCLOSE"),
            (open::APPEND as u32, "OAPPEND"),
        ];
        out.write_str(["OREAD", "OWRITE", "ORDWR", "OEXEC"][usize::from(self.0 & open::ACCMODE)])?;
        write_bits(out, u32::from(self.0 & !open::ACCMODE), &NAMES, false)
    }
}

/// Flags of other messages.
pub(super) struct Flags(pub(super) u32, pub(super) &'static [(u32, &'static str)]);

impl Display for Flags {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write_bits(out, self.0, self.1, true)
    }
}

/// A kind of lock, as `fcntl(2)` names it.
pub(super) fn lock_name(kind: LockType) -> &'static str {
    match kind {
        LockType::Read => "F_RDLCK",
        LockType::Write => "F_WRLCK",
        LockType::Unlock => "F_UNLCK",
    }
}

/// What a `Tsetattr` changes.
pub(super) struct Changes(pub(super) SetAttributes);

impl Display for Changes {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let SetAttributes { valid, mode, uid, gid, size, atime_sec, atime_nsec, mtime_sec, mtime_nsec } = self.0;
        let has = |bit| valid & bit != 0;
        let mut separator = ["", ", "].into_iter().chain(std::iter::repeat(", "));
        let mut between = || separator.next().unwrap_or(", ");
        for (bit, name, value) in [
            (setattr::UID, "uid", u64::from(uid)),
            (setattr::GID, "gid", u64::from(gid)),
            (setattr::SIZE, "size", size),
        ] {
            if has(bit) {
                write!(out, "{}{name}={value}", between())?;
            }
        }
        if has(setattr::MODE) {
            write!(out, "{}mode=0{mode:o}", between())?;
        }
        for (bit, set, name, seconds, nanoseconds) in [
            (setattr::ATIME, setattr::ATIME_SET, "atime", atime_sec, atime_nsec),
            (setattr::MTIME, setattr::MTIME_SET, "mtime", mtime_sec, mtime_nsec),
        ] {
            match (has(bit), has(set)) {
                (true, true) => write!(out, "{}{name}={}.{nanoseconds:09}", between(), seconds.cast_signed())?,
                (true, false) => write!(out, "{}{name}=now", between())?,
                (false, _) => {}
            }
        }
        if has(setattr::CTIME) {
            write!(out, "{}ctime", between())?;
        }
        match valid & !setattr::ALL {
            0 => Ok(()),
            unknown => write!(out, "{}valid|={unknown:#x}", between()),
        }
    }
}

/// What an `Rgetattr` tells, the part that one looks for.
pub(super) struct ShownAttributes(pub(super) Attributes);

impl Display for ShownAttributes {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Attributes { qid, mode, uid, gid, nlink, size, rdev, mtime_sec, mtime_nsec, .. } = self.0;
        write!(out, "{}, mode=0{mode:o}, uid={uid}, gid={gid}, nlink={nlink}, ", ShownQid(qid))?;
        if matches!(mode & mode::IFMT, mode::IFBLK | mode::IFCHR) {
            write!(out, "rdev={rdev:#x}, ")?;
        }
        write!(out, "size={size}, mtime={}.{mtime_nsec:09}", mtime_sec.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_string_commands_a_terminal() {
        for (bytes, shown) in [
            (&b"plain name"[..], "\"plain name\"".to_owned()),
            ("f\u{fc}nf \u{1f600}".as_bytes(), "\"f\u{fc}nf \u{1f600}\"".to_owned()),
            (b"\x1b]0;title\x07\n\r\t\"\\", r#""\u{1b}]0;title\u{7}\n\r\t\"\\""#.to_owned()),
            ("\u{9b}31m \u{202e} \u{85} \u{2028}".as_bytes(), r#""\u{9b}31m \u{202e} \u{85} \u{2028}""#.to_owned()),
            (b"\xff\x9b1m", r#""\xff\x9b1m""#.to_owned()),
            (&[b'a'; 300], format!("\"{}\"... 300 bytes", "a".repeat(80))),
        ] {
            assert_eq!(Quoted(Str(bytes)).to_string(), shown);
        }
        // A character at the cut is shown whole, or not at all.
        let text = format!("{}\u{1f600}\u{1f600}", "a".repeat(78));
        assert_eq!(Quoted(text.as_str().into()).to_string(), format!("\"{}\"... 86 bytes", "a".repeat(78)));
        assert_eq!(Quoted(Str(&[0x80; 100])).to_string(), format!("\"{}\"... 100 bytes", "\\x80".repeat(80)));
    }

    #[test]
    fn flags_are_named() {
        assert_eq!(OpenFlags(0).to_string(), "O_RDONLY");
        assert_eq!(OpenFlags(0o101 | 1 << 31).to_string(), "O_WRONLY|O_CREAT|0x80000000");
        assert_eq!(OpenFlags(3).to_string(), "O_ACCMODE");
        assert_eq!(OpenMode(0x13).to_string(), "OEXEC|OTRUNC");
        assert_eq!(Flags(0, &[(1, "ONE")]).to_string(), "0");
        assert_eq!(Flags(3, &[(1, "ONE")]).to_string(), "ONE|0x2");
    }

    #[test]
    fn changes_name_what_they_change() {
        let changes =
            |valid| Changes(SetAttributes { valid, mode: 0o644, size: 7, mtime_sec: !0, ..SetAttributes::default() });
        assert_eq!(changes(0).to_string(), "");
        assert_eq!(changes(setattr::MODE | setattr::SIZE).to_string(), "size=7, mode=0644");
        let times = setattr::ATIME | setattr::MTIME | setattr::MTIME_SET | setattr::CTIME | 0x8000;
        assert_eq!(changes(times).to_string(), "atime=now, mtime=-1.000000000, ctime, valid|=0x8000");
    }
}

//! What is owed to any client, whatever it asked.

/// Type numbers.
pub(crate) mod kind {
    pub(crate) const RLERROR: u8 = 7;
    pub(crate) const TLOPEN: u8 = 12;
    pub(crate) const TLCREATE: u8 = 14;
    pub(crate) const TSETATTR: u8 = 26;
    pub(crate) const TXATTRWALK: u8 = 30;
    pub(crate) const TXATTRCREATE: u8 = 32;
    pub(crate) const TREADDIR: u8 = 40;
    pub(crate) const TVERSION: u8 = 100;
    pub(crate) const TAUTH: u8 = 102;
    pub(crate) const TATTACH: u8 = 104;
    pub(crate) const RERROR: u8 = 107;
    pub(crate) const TFLUSH: u8 = 108;
    pub(crate) const TWALK: u8 = 110;
    pub(crate) const TOPEN: u8 = 112;
    pub(crate) const TCREATE: u8 = 114;
    pub(crate) const TREAD: u8 = 116;
    pub(crate) const TWRITE: u8 = 118;
    pub(crate) const TCLUNK: u8 = 120;
    pub(crate) const TREMOVE: u8 = 122;
    pub(crate) const TWSTAT: u8 = 126;
    pub(crate) const TVISIT: u8 = 200;
}

/// What a session's last `Tversion` agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Nothing.
    None,
    Linux,
    Unix,
    Plain,
}

/// The number of so many bytes at `at`; 0 where there are none.
pub(crate) fn number<const LENGTH: usize>(bytes: &[u8], at: usize) -> u64 {
    let Some(bytes) = bytes.get(at..at + LENGTH) else { return 0 };
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The tag of a message.
pub(crate) fn tag(message: &[u8]) -> u16 {
    number::<2>(message, 5) as u16
}

/// The dialect that an `Rversion` names.
pub(crate) fn dialect(reply: &[u8]) -> Dialect {
    match reply.get(13..) {
        Some(b"9P2000.L" | b"9P2000.L.ninering") => Dialect::Linux,
        Some(b"9P2000.u") => Dialect::Unix,
        Some(b"9P2000") => Dialect::Plain,
        Some(b"unknown") => Dialect::None,
        version => panic!("no client asked for {version:?}"),
    }
}

/// The request in a `Tvisit`.
pub(crate) fn visited(request: &[u8]) -> &[u8] {
    let names = number::<2>(request, 15);
    &request[(0..names).fold(17, |at, _| at + 2 + number::<2>(request, at) as usize)..]
}

/// Checks a reply, and tells whether it grants what was asked.
///
/// `dialect` and `msize` are what was agreed on when the request was sent.
pub(crate) fn check(request: &[u8], reply: &[u8], dialect: Dialect, msize: u32) -> bool {
    assert!(reply.len() >= 7, "{request:?} has no reply");
    assert_eq!(number::<4>(reply, 0), reply.len() as u64, "the reply's size, to {request:?}");
    assert_eq!(tag(reply), tag(request));
    let asked = request[4];
    if msize > 0 && asked != kind::TVERSION {
        assert!(reply.len() <= msize as usize, "a reply of {} bytes to {request:?}", reply.len());
    }
    match reply[4] {
        kind::RLERROR => {
            assert!(dialect == Dialect::Linux || dialect == Dialect::None || asked == kind::TVERSION);
            assert_eq!(reply.len(), 11);
            assert!((1..=133).contains(&number::<4>(reply, 7)), "no error number of Linux in {reply:?} to {request:?}");
            return false;
        }
        kind::RERROR => {
            // A version that is refused may be in the dialect that it asked for.
            assert!(dialect != Dialect::Linux || asked == kind::TVERSION);
            let length = number::<2>(reply, 7) as usize;
            let text = &reply[9..9 + length];
            assert!(!text.is_empty() && std::str::from_utf8(text).is_ok(), "an error without a word: {reply:?}");
            let rest = &reply[9 + length..];
            match dialect {
                _ if asked == kind::TVERSION => {}
                Dialect::Plain => assert!(rest.is_empty()),
                Dialect::Unix => assert!((1..=133).contains(&number::<4>(rest, 0)) && rest.len() == 4),
                Dialect::Linux | Dialect::None => {}
            }
            return false;
        }
        granted => assert_eq!(Some(granted), asked.checked_add(1), "{reply:?} to {request:?}"),
    }
    match asked {
        kind::TREAD | kind::TREADDIR => {
            let (count, limit) = (number::<4>(reply, 7), number::<4>(request, 19));
            assert_eq!(count as usize, reply.len() - 11);
            assert!(count <= limit, "{count} bytes where {limit} were asked for");
            if asked == kind::TREADDIR {
                for entry in entries(reply) {
                    assert!(entry.name.len() <= 255 && !entry.name.is_empty());
                    assert!(!entry.name.contains(&b'/') && !entry.name.contains(&0));
                }
            }
        }
        kind::TWRITE => assert!(number::<4>(reply, 7) <= number::<4>(request, 19)),
        kind::TWALK => {
            let (walked, names) = (number::<2>(reply, 7), number::<2>(request, 15));
            assert!(walked <= names && (walked > 0 || names == 0));
            assert_eq!(reply.len(), 9 + 13 * walked as usize);
        }
        kind::TVISIT => {
            let (walked, names) = (number::<2>(reply, 7), number::<2>(request, 15));
            assert!(walked <= names && (walked > 0 || names == 0));
            let inner = &reply[9 + 13 * walked as usize..];
            if walked < names {
                assert_eq!(inner, [0; 4], "nothing is answered where nothing was reached");
            } else {
                check(visited(request), inner, dialect, 0);
            }
        }
        kind::TVERSION => {
            let (agreed, wanted) = (number::<4>(reply, 7), number::<4>(request, 7));
            assert!(agreed <= wanted);
            assert_eq!(reply.len(), 13 + number::<2>(reply, 11) as usize);
        }
        _ => {}
    }
    true
}

/// An entry of a listing.
pub(crate) struct Entry<'a> {
    pub(crate) directory: bool,
    pub(crate) offset: u64,
    pub(crate) name: &'a [u8],
}

/// The entries in an `Rreaddir`, all of which must be whole.
pub(crate) fn entries(reply: &[u8]) -> Vec<Entry<'_>> {
    let mut rest = &reply[11..];
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let length = number::<2>(rest, 22) as usize;
        assert!(rest.len() >= 24 + length, "an entry is not whole");
        let (entry, behind) = rest.split_at(24 + length);
        entries.push(Entry { directory: entry[0] & 0x80 != 0, offset: number::<8>(entry, 13), name: &entry[24..] });
        rest = behind;
    }
    entries
}

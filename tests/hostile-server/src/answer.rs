//! What a server that means no good answers.

use arbitrary::{Arbitrary, Result, Unstructured};
use ninering_wire::{
    Attributes, DirEntry, HEADER_LEN, Inner, Lock, LockStatus, LockType, NOTAG, Qid, QidType, Qids, Rmessage, Statfs,
    Str, Tmessage,
};

use crate::server::{Server, encode};

/// `Rerror`'s type number.
const RERROR: u8 = 107;

/// An answer to whatever is asked.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// One that could be true; the number makes it this one or that one.
    Plausible(u8),
    Error(u32),
    /// An `Rerror` as of 9P2000.u: a text of so many bytes before the number. It may land among the payload's extents.
    ErrorWithText(u16, u32),
    /// Such a message, fitting or not.
    Message(Lie),
    /// A plausible answer, damaged.
    Damaged(u8, Damage),
    Bytes(Few),
    /// The chain comes back with nothing in it.
    Nothing,
    /// The device keeps the chain for now.
    Late,
}

impl<'a> Arbitrary<'a> for Answer {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(from)? {
            0..=119 => Self::Plausible(0),
            120..=169 => Self::Plausible(from.arbitrary()?),
            170..=184 => Self::Error(if from.arbitrary()? { 2 } else { 95 }),
            185..=187 => Self::Error(from.arbitrary()?),
            188..=189 => Self::ErrorWithText(u16::arbitrary(from)? % 6000, from.arbitrary()?),
            190..=229 => Self::Message(from.arbitrary()?),
            230..=245 => Self::Damaged(0, from.arbitrary()?),
            246..=248 => Self::Damaged(from.arbitrary()?, from.arbitrary()?),
            249 => Self::Bytes(from.arbitrary()?),
            250 => Self::Nothing,
            _ => Self::Late,
        })
    }
}

/// What happens to an answer on its way.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Damage {
    /// A byte of its first hundred is another one.
    Byte { at: u8, by: u8 },
    /// It ends early, and `size` says so or not.
    Cut { at: u8, tell: bool },
    /// Bytes follow, and `size` says so or not.
    Longer { bytes: Few, tell: bool },
    /// `size` is so much off.
    Size(i16),
    /// The tag is so much off: another's, or nobody's.
    Tag(i8),
    /// It is of this type.
    Kind(u8),
}

impl Damage {
    fn apply(&self, reply: &mut Vec<u8>) {
        let mut told = true;
        match self {
            Self::Byte { at, by } => {
                let at = 4 + usize::from(*at) % (reply.len().min(100) - 4);
                reply[at] ^= by;
            }
            Self::Cut { at, tell } => {
                reply.truncate(usize::from(*at) % reply.len());
                told = *tell;
            }
            Self::Longer { bytes, tell } => {
                reply.extend_from_slice(&bytes.0);
                told = *tell;
            }
            Self::Size(by) => {
                let size = (reply.len() as u32).wrapping_add_signed((*by).into());
                reply[..4].copy_from_slice(&size.to_le_bytes());
                told = false;
            }
            Self::Tag(by) => {
                let tag = u16::from_le_bytes([reply[5], reply[6]]).wrapping_add_signed((*by).into());
                reply[5..7].copy_from_slice(&tag.to_le_bytes());
            }
            Self::Kind(kind) => reply[4] = *kind,
        }
        if told && reply.len() >= 4 {
            let size = reply.len() as u32;
            reply[..4].copy_from_slice(&size.to_le_bytes());
        }
    }
}

/// A well-formed reply that need not fit the request.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Lie {
    Version {
        msize: u32,
        version: Few,
    },
    Attach(LyingQid),
    /// More or fewer than there are names.
    Walk(Few, LyingQid),
    /// Of a visit, with something in it.
    Visit {
        qids: u8,
        qid: LyingQid,
        inner: Few,
    },
    /// Of a visit, with another reply in it that is well-formed.
    VisitWith {
        qids: u8,
        qid: LyingQid,
        inner: Box<Lie>,
    },
    Open {
        qid: LyingQid,
        iounit: u32,
    },
    Create {
        qid: LyingQid,
        iounit: u32,
    },
    /// Says that so many bytes were read, and puts so many there.
    Read {
        count: u32,
        bytes: u16,
    },
    Write {
        count: u32,
    },
    /// Entries, the last of which may be cut short.
    Entries {
        entries: Vec<(LyingQid, u64, Few)>,
        cut: u8,
    },
    /// The same entry again and again.
    Dots {
        offset: u64,
    },
    Target(Target),
    Attributes {
        valid: u64,
        mode: u32,
        size: u64,
        seconds: u64,
        nanoseconds: u64,
    },
    Statfs(u64),
    /// Of a value of so many bytes.
    Xattrwalk(u64),
    LockStatus(u8),
    Lock {
        kind: u8,
        start: u64,
        length: u64,
        client_id: Few,
    },
    Auth(LyingQid),
    Empty(u8),
}

/// A link's target.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Target {
    Few(Few),
    /// A link to a link.
    Loop,
    Up,
    Root,
    Slashes(u8),
    Nul,
    Long,
    TooLong,
}

/// A qid, which may change from reply to reply.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct LyingQid {
    kind: u8,
    version: u32,
    path: u8,
}

impl LyingQid {
    fn qid(self) -> Qid {
        let kind = match self.kind {
            0..=79 => QidType::DIR,
            80..=159 => QidType::FILE,
            160..=219 => QidType::SYMLINK,
            kind => QidType(kind),
        };
        Qid { kind, version: self.version, path: self.path.into() }
    }
}

/// A few bytes.
#[derive(Clone, Debug)]
pub(crate) struct Few(pub(crate) Vec<u8>);

impl<'a> Arbitrary<'a> for Few {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let length = usize::from(u8::arbitrary(from)? % 40).min(from.len());
        from.bytes(length).map(|bytes| Self(bytes.to_vec()))
    }
}

impl Answer {
    /// The bytes of the answer to `request`; `None` where it is late.
    pub(crate) fn bytes(&self, server: &Server, tag: u16, request: &Tmessage<'_>) -> Option<Vec<u8>> {
        Some(match self {
            Self::Plausible(variety) => server.plausible(tag, request, *variety),
            Self::Error(ecode) => encode(tag, &Rmessage::Rlerror { ecode: *ecode }, &[]),
            Self::ErrorWithText(length, errno) => {
                let mut reply = (HEADER_LEN as u32 + 2 + u32::from(*length) + 4).to_le_bytes().to_vec();
                reply.push(RERROR);
                reply.extend(tag.to_le_bytes());
                reply.extend(length.to_le_bytes());
                reply.resize(reply.len() + usize::from(*length), b'-');
                reply.extend(errno.to_le_bytes());
                reply
            }
            Self::Message(lie) => lie.bytes(tag),
            Self::Damaged(variety, damage) => {
                let mut reply = server.plausible(tag, request, *variety);
                damage.apply(&mut reply);
                reply
            }
            Self::Bytes(few) => few.0.clone(),
            Self::Nothing => Vec::new(),
            Self::Late => return None,
        })
    }
}

impl Lie {
    fn bytes(&self, tag: u16) -> Vec<u8> {
        let walked: Vec<Qid> = match self {
            Self::Walk(kinds, qid) => kinds.0.iter().take(16).map(|&kind| LyingQid { kind, ..*qid }.qid()).collect(),
            Self::Visit { qids, qid, .. } | Self::VisitWith { qids, qid, .. } => {
                vec![qid.qid(); usize::from(qids % 17)]
            }
            _ => Vec::new(),
        };
        let qids = Qids::new(&walked).expect("no more than sixteen");
        let message = match self {
            Self::Version { msize, version } => Rmessage::Rversion { msize: *msize, version: Str(&version.0) },
            Self::Attach(qid) => Rmessage::Rattach { qid: qid.qid() },
            Self::Walk(..) => Rmessage::Rwalk { qids },
            Self::Visit { inner, .. } => Rmessage::Rvisit { qids, message: Inner(&inner.0) },
            Self::VisitWith { inner, .. } => {
                let inner = inner.bytes(NOTAG);
                return encode(tag, &Rmessage::Rvisit { qids, message: Inner(&inner) }, &[]);
            }
            Self::Open { qid, iounit } => Rmessage::Rlopen { qid: qid.qid(), iounit: *iounit },
            Self::Create { qid, iounit } => Rmessage::Rlcreate { qid: qid.qid(), iounit: *iounit },
            Self::Read { count, bytes } => {
                let mut reply = encode(tag, &Rmessage::Rread { count: 0 }, &[]);
                reply[7..11].copy_from_slice(&count.to_le_bytes());
                reply.resize(11 + usize::from(*bytes), 7);
                let size = reply.len() as u32;
                reply[..4].copy_from_slice(&size.to_le_bytes());
                return reply;
            }
            Self::Write { count } => Rmessage::Rwrite { count: *count },
            Self::Entries { entries, cut } => {
                let mut payload = Vec::new();
                for (qid, offset, name) in entries.iter().take(20) {
                    add_entry(&mut payload, DirEntry { qid: qid.qid(), offset: *offset, kind: 4, name: Str(&name.0) });
                }
                payload.truncate(payload.len().saturating_sub((*cut).into()));
                return encode(tag, &Rmessage::Rreaddir { count: payload.len() as u32 }, &payload);
            }
            Self::Dots { offset } => {
                let mut payload = Vec::new();
                add_entry(&mut payload, DirEntry { qid: Qid::default(), offset: *offset, kind: 4, name: Str(b".") });
                return encode(tag, &Rmessage::Rreaddir { count: payload.len() as u32 }, &payload);
            }
            Self::Target(target) => {
                let target = match target {
                    Target::Few(few) => few.0.clone(),
                    Target::Loop => b"l".to_vec(),
                    Target::Up => b"../../../..".to_vec(),
                    Target::Root => b"/".to_vec(),
                    Target::Slashes(count) => vec![b'/'; (*count).into()],
                    Target::Nul => b"a\0b".to_vec(),
                    Target::Long => b"l/".repeat(2000),
                    Target::TooLong => vec![b'n'; 5000],
                };
                return encode(tag, &Rmessage::Rreadlink { target: Str(&target) }, &[]);
            }
            &Self::Attributes { valid, mode, size, seconds: mtime_sec, nanoseconds: mtime_nsec } => {
                let attributes = Attributes { valid, mode, size, mtime_sec, mtime_nsec, ..Attributes::default() };
                return encode(tag, &Rmessage::Rgetattr { attributes: (&attributes).into() }, &[]);
            }
            &Self::Statfs(blocks) => {
                let statfs = Statfs { blocks, ..Statfs::default() };
                return encode(tag, &Rmessage::Rstatfs { statfs: (&statfs).into() }, &[]);
            }
            &Self::Xattrwalk(size) => Rmessage::Rxattrwalk { size },
            &Self::LockStatus(status) => {
                let mut reply = encode(tag, &Rmessage::Rlock { status: LockStatus::Success }, &[]);
                reply[HEADER_LEN] = status;
                return reply;
            }
            Self::Lock { kind, start, length, client_id } => {
                let (start, length, client_id) = (*start, *length, Str(&client_id.0));
                let lock = Lock { kind: LockType::Read, start, length, proc_id: 1, client_id };
                let mut reply = encode(tag, &Rmessage::Rgetlock { lock }, &[]);
                reply[HEADER_LEN] = *kind;
                return reply;
            }
            Self::Auth(qid) => Rmessage::Rauth { aqid: qid.qid() },
            &Self::Empty(kind) => return vec![7, 0, 0, 0, kind, tag.to_le_bytes()[0], tag.to_le_bytes()[1]],
        };
        encode(tag, &message, &[])
    }
}

fn add_entry(payload: &mut Vec<u8>, entry: DirEntry<'_>) {
    let start = payload.len();
    payload.resize(start + entry.encoded_len(), 0);
    entry.encode(&mut payload[start..]).expect("there is room");
}

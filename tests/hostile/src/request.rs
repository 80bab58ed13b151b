//! What a client can ask.
//!
//! Numbers and names are drawn so that most requests mean something: few fids, few names, small offsets, and now and
//! then those at which something might break.

use arbitrary::{Arbitrary, Result, Unstructured};

/// A conversation of several clients with one server.
#[derive(Debug)]
pub struct Input {
    /// What they send, in order.
    pub(crate) steps: Vec<Step>,
}

impl<'a> Arbitrary<'a> for Input {
    /// As many steps as there are bytes for.
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let mut steps = Vec::new();
        while !from.is_empty() {
            steps.push(from.arbitrary()?);
        }
        Ok(Self { steps })
    }
}

/// One request of one of the clients.
#[derive(Arbitrary, Debug)]
pub(crate) struct Step {
    /// Which client.
    pub(crate) client: u8,
    pub(crate) request: Request,
    pub(crate) damage: Damage,
}

impl Step {
    /// The request as bytes.
    pub(crate) fn bytes(&self, tag: u16) -> Vec<u8> {
        let mut bytes = self.request.bytes(tag);
        self.damage.apply(&mut bytes);
        // A Tlock waits for nobody: who asked would wait for a reply that another of its own requests makes possible.
        if let (52, Some(flags)) = (bytes[4], bytes.get_mut(12)) {
            *flags &= !1;
        }
        bytes
    }
}

/// What becomes of a request on its way; mostly nothing.
#[derive(Debug)]
pub(crate) enum Damage {
    None,
    /// A byte is another one.
    Byte {
        at: u16,
        by: u8,
    },
    /// It ends early, `size` says so.
    Cut {
        at: u16,
    },
    /// Bytes follow, `size` says so.
    Longer {
        bytes: Few,
    },
}

impl<'a> Arbitrary<'a> for Damage {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(from)? {
            250..=251 => Self::Byte { at: from.arbitrary()?, by: from.arbitrary()? },
            252..=253 => Self::Cut { at: from.arbitrary()? },
            254 => Self::Longer { bytes: from.arbitrary()? },
            _ => Self::None,
        })
    }
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        // The size stays right: what a wrong one does is the transport's affair, and the raw requests'.
        let behind_size = |at: u16, bytes: &[u8]| 4 + usize::from(at) % (bytes.len() - 4);
        match self {
            Self::None => {}
            Self::Byte { at, by } => {
                let at = behind_size(*at, bytes);
                bytes[at] ^= by;
            }
            Self::Cut { at } => bytes.truncate(behind_size(*at, bytes).max(7)),
            Self::Longer { bytes: more } => bytes.extend_from_slice(&more.0),
        }
        let size = bytes.len() as u32;
        bytes[..4].copy_from_slice(&size.to_le_bytes());
    }
}

/// A fid, one of few.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fid(pub(crate) u32);

impl<'a> Arbitrary<'a> for Fid {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match u8::arbitrary(from)? {
            byte @ 0..=247 => u32::from(byte % 10),
            248 => u32::MAX,
            249 => u32::MAX - 1,
            250 => 65_535,
            251 => 65_536,
            _ => from.arbitrary()?,
        }))
    }
}

/// A name, one of few, or such as no server should take.
#[derive(Clone, Debug)]
pub(crate) struct Name(pub(crate) Vec<u8>);

const NAMES: [&[u8]; 22] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"link",
    b"out",
    b"absolute",
    b"loop",
    b"fifo",
    b"user.a",
    b"user.b",
    b"security.capability",
    b"system.posix_acl_access",
    b"beside",
    b"..",
    b".",
    b"",
    b"/",
    b"a/b",
    b"../beside",
    b"a\0b",
    b"\xff\xfe\xf0",
];

impl<'a> Arbitrary<'a> for Name {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match u8::arbitrary(from)? {
            byte @ 0..=149 => NAMES[usize::from(byte % 4)].to_vec(),
            byte @ 150..=249 => NAMES[usize::from(byte) % NAMES.len()].to_vec(),
            250 => vec![b'n'; 255],
            251 => vec![b'n'; 256],
            252 => vec![b'n'; 4096],
            _ => {
                let length = from.int_in_range(0..=40)?;
                from.bytes(length)?.to_vec()
            }
        }))
    }
}

/// The names of a walk, some more than there may be.
#[derive(Debug)]
pub(crate) struct Names(Vec<Name>);

impl<'a> Arbitrary<'a> for Names {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let count = match u8::arbitrary(from)? {
            byte @ 0..=239 => byte % 5,
            byte => byte - 236,
        };
        (0..count).map(|_| from.arbitrary()).collect::<Result<_>>().map(Self)
    }
}

/// A few bytes.
#[derive(Debug)]
pub(crate) struct Few(Vec<u8>);

impl<'a> Arbitrary<'a> for Few {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let length = usize::from(u8::arbitrary(from)? % 80).min(from.len());
        from.bytes(length).map(|bytes| Self(bytes.to_vec()))
    }
}

/// An offset, a length, or whatever else has 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Long(pub(crate) u64);

impl<'a> Arbitrary<'a> for Long {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match u8::arbitrary(from)? {
            byte @ 0..=99 => u64::from(byte),
            100..=199 => u64::from(u16::arbitrary(from)?),
            200 => u64::MAX,
            201 => u64::MAX - 1,
            202 => i64::MAX as u64,
            203 => i64::MAX as u64 + 1,
            204 => u64::from(u32::MAX),
            205 => 1 << 32,
            206 => 999_999_999,
            207 => 1_000_000_000,
            208..=230 => 0,
            _ => from.arbitrary()?,
        }))
    }
}

/// A count, flags, a mode, or whatever else has 32 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word(pub(crate) u32);

impl<'a> Arbitrary<'a> for Word {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match u8::arbitrary(from)? {
            byte @ 0..=99 => u32::from(byte),
            100..=199 => u32::from(u16::arbitrary(from)?),
            200 => u32::MAX,
            201 => u32::MAX - 24,
            202 => i32::MAX as u32,
            203 => 0o1000,
            204 => 0o100_644,
            205 => 0o040_755,
            206 => 0o010_644,
            207 => 0o020_644,
            208 => 0o140_644,
            209..=230 => 0,
            _ => from.arbitrary()?,
        }))
    }
}

/// The largest message that a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Msize(u32);

impl<'a> Arbitrary<'a> for Msize {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match u8::arbitrary(from)? {
            0..=199 => 8192,
            200..=219 => 65_536,
            220..=229 => 4096,
            230..=234 => 4095,
            235..=239 => u32::MAX,
            _ => from.arbitrary()?,
        }))
    }
}

/// What a client can ask: 9P2000.L's requests, those that the older dialects have instead, and what is none.
#[derive(Arbitrary, Debug)]
pub(crate) enum Request {
    Walk { fid: Fid, newfid: Fid, names: Names },
    WalkOne { fid: Fid, newfid: Fid, name: Name },
    Clone { fid: Fid, newfid: Fid },
    Lopen { fid: Fid, flags: Word },
    OpenReadWrite { fid: Fid },
    Lcreate { fid: Fid, name: Name, flags: Word, mode: Word, gid: Word },
    CreateReadWrite { fid: Fid, name: Name },
    Read { fid: Fid, offset: Long, count: Word },
    Write { fid: Fid, offset: Long, bytes: Few },
    WriteMuch { fid: Fid, offset: Long, count: u16, byte: u8 },
    Readdir { fid: Fid, offset: Long, count: Word },
    Clunk { fid: Fid },
    Remove { fid: Fid },
    Getattr { fid: Fid, mask: Long },
    Setattr { fid: Fid, valid: u16, mode: Word, uid: Word, gid: Word, size: Long, times: [Long; 4] },
    Truncate { fid: Fid, size: Long },
    Symlink { fid: Fid, name: Name, target: Name, gid: Word },
    Readlink { fid: Fid },
    Mknod { fid: Fid, name: Name, mode: Word, major: Word, minor: Word, gid: Word },
    Mkdir { fid: Fid, name: Name, mode: Word, gid: Word },
    Link { directory: Fid, fid: Fid, name: Name },
    Rename { fid: Fid, directory: Fid, name: Name },
    Renameat { directory: Fid, name: Name, new_directory: Fid, new_name: Name },
    Unlinkat { directory: Fid, name: Name, flags: bool },
    UnlinkatFlags { directory: Fid, name: Name, flags: Word },
    Statfs { fid: Fid },
    Fsync { fid: Fid, datasync: Word },
    Xattrwalk { fid: Fid, newfid: Fid, name: Name },
    Xattrcreate { fid: Fid, name: Name, size: Long, flags: Word },
    Lock { fid: Fid, kind: u8, flags: Word, start: Long, length: Long, process: Word, client: Name },
    Getlock { fid: Fid, kind: u8, start: Long, length: Long, process: Word, client: Name },
    Flush { tag: u16 },
    Auth { fid: Fid, uname: Name, aname: Name, uid: Word },
    Attach { fid: Fid, afid: Fid, uname: Name, aname: Name, uid: Word },
    AttachRoot { fid: Fid },
    Version { msize: Msize, dialect: u8 },
    Open { fid: Fid, mode: u8 },
    Create { fid: Fid, name: Name, permissions: Word, mode: u8, extension: Name },
    Stat { fid: Fid },
    Wstat { fid: Fid, fields: Few },
    WstatFields { fid: Fid, mode: Word, length: Long, mtime: Word, name: Name, keep: u8 },
    AttachPlain { fid: Fid, uname: Name },
    Visit { fid: Fid, newfid: Fid, names: Names, request: Box<Request>, of_newfid: bool },
    Raw { kind: u8, tag: u16, bytes: Few },
}

/// The dialects that a `Tversion` asks for; the first is the one that most clients speak.
const DIALECTS: [&[u8]; 8] = [
    b"9P2000.L",
    b"9P2000.u",
    b"9P2000",
    b"9P2000.L.ninering",
    b"9P2000.L.ninering",
    b"9P2000.L.Google.7",
    b"",
    b"9P1999",
];

/// A message that is being put together.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(kind: u8, tag: u16) -> Self {
        let mut bytes = vec![0, 0, 0, 0, kind];
        bytes.extend(tag.to_le_bytes());
        Self(bytes)
    }

    fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn short(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn word(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn long(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, value: &[u8]) -> Self {
        let mut bytes = self.short(value.len() as u16);
        bytes.0.extend(value);
        bytes
    }

    fn rest(mut self, value: &[u8]) -> Self {
        self.0.extend(value);
        self
    }

    fn whole(mut self) -> Vec<u8> {
        let size = self.0.len() as u32;
        self.0[..4].copy_from_slice(&size.to_le_bytes());
        self.0
    }
}

/// A `Tversion` that asks for 9P2000.L.
pub(crate) fn version() -> Vec<u8> {
    Bytes::new(100, u16::MAX).word(8192).text(DIALECTS[0]).whole()
}

/// A `Tattach` of the whole export.
pub(crate) fn attach(tag: u16, fid: u32) -> Vec<u8> {
    Bytes::new(104, tag).word(fid).word(u32::MAX).text(b"").text(b"").word(u32::MAX).whole()
}

/// A `Twalk`.
pub(crate) fn walk(tag: u16, fid: u32, newfid: u32, names: &[&[u8]]) -> Vec<u8> {
    let bytes = Bytes::new(110, tag).word(fid).word(newfid).short(names.len() as u16);
    names.iter().fold(bytes, |bytes, name| bytes.text(name)).whole()
}

/// A `Tlopen`.
pub(crate) fn lopen(tag: u16, fid: u32, flags: u32) -> Vec<u8> {
    Bytes::new(12, tag).word(fid).word(flags).whole()
}

/// A `Treaddir`.
pub(crate) fn readdir(tag: u16, fid: u32, offset: u64, count: u32) -> Vec<u8> {
    Bytes::new(40, tag).word(fid).long(offset).word(count).whole()
}

/// A `Tunlinkat`.
pub(crate) fn unlinkat(tag: u16, fid: u32, name: &[u8], directory: bool) -> Vec<u8> {
    Bytes::new(76, tag).word(fid).text(name).word(if directory { 0x200 } else { 0 }).whole()
}

/// A `Tstatfs`.
pub(crate) fn statfs(tag: u16, fid: u32) -> Vec<u8> {
    Bytes::new(8, tag).word(fid).whole()
}

/// A `Tgetattr` of all that there is.
pub(crate) fn getattr(tag: u16, fid: u32) -> Vec<u8> {
    Bytes::new(24, tag).word(fid).long(!0).whole()
}

/// A `Txattrwalk` to the list of names.
pub(crate) fn xattr_names(tag: u16, fid: u32, newfid: u32) -> Vec<u8> {
    Bytes::new(30, tag).word(fid).word(newfid).text(b"").whole()
}

/// A `Txattrcreate` that removes the attribute when the fid is clunked, as Linux's client does it.
pub(crate) fn xattr_remove(tag: u16, fid: u32, name: &[u8]) -> Vec<u8> {
    const REPLACE: u32 = 2;
    Bytes::new(32, tag).word(fid).text(name).long(0).word(REPLACE).whole()
}

/// A `Tread`.
pub(crate) fn read(tag: u16, fid: u32, offset: u64, count: u32) -> Vec<u8> {
    Bytes::new(116, tag).word(fid).long(offset).word(count).whole()
}

/// A `Tclunk`.
pub(crate) fn clunk(tag: u16, fid: u32) -> Vec<u8> {
    Bytes::new(120, tag).word(fid).whole()
}

impl Request {
    fn bytes(&self, tag: u16) -> Vec<u8> {
        let new = |kind| Bytes::new(kind, tag);
        match self {
            Self::Walk { fid, newfid, names } => {
                let bytes = new(110).word(fid.0).word(newfid.0).short(names.0.len() as u16);
                names.0.iter().fold(bytes, |bytes, name| bytes.text(&name.0)).whole()
            }
            Self::WalkOne { fid, newfid, name } => walk(tag, fid.0, newfid.0, &[&name.0]),
            Self::Clone { fid, newfid } => walk(tag, fid.0, newfid.0, &[]),
            Self::Lopen { fid, flags } => lopen(tag, fid.0, flags.0),
            Self::OpenReadWrite { fid } => lopen(tag, fid.0, 2),
            Self::Lcreate { fid, name, flags, mode, gid } => {
                new(14).word(fid.0).text(&name.0).word(flags.0).word(mode.0).word(gid.0).whole()
            }
            Self::CreateReadWrite { fid, name } => {
                new(14).word(fid.0).text(&name.0).word(2).word(0o644).word(0).whole()
            }
            Self::Read { fid, offset, count } => new(116).word(fid.0).long(offset.0).word(count.0).whole(),
            Self::Write { fid, offset, bytes } => {
                new(118).word(fid.0).long(offset.0).word(bytes.0.len() as u32).rest(&bytes.0).whole()
            }
            Self::WriteMuch { fid, offset, count, byte } => {
                let bytes = vec![*byte; usize::from(*count)];
                new(118).word(fid.0).long(offset.0).word(u32::from(*count)).rest(&bytes).whole()
            }
            Self::Readdir { fid, offset, count } => readdir(tag, fid.0, offset.0, count.0),
            Self::Clunk { fid } => clunk(tag, fid.0),
            Self::Remove { fid } => new(122).word(fid.0).whole(),
            Self::Getattr { fid, mask } => new(24).word(fid.0).long(mask.0).whole(),
            Self::Setattr { fid, valid, mode, uid, gid, size, times } => {
                let bytes = new(26).word(fid.0).word(u32::from(*valid)).word(mode.0).word(uid.0).word(gid.0);
                times.iter().fold(bytes.long(size.0), |bytes, time| bytes.long(time.0)).whole()
            }
            Self::Truncate { fid, size } => {
                let bytes = new(26).word(fid.0).word(8).word(0).word(0).word(0).long(size.0);
                bytes.long(0).long(0).long(0).long(0).whole()
            }
            Self::Symlink { fid, name, target, gid } => {
                new(16).word(fid.0).text(&name.0).text(&target.0).word(gid.0).whole()
            }
            Self::Readlink { fid } => new(22).word(fid.0).whole(),
            Self::Mknod { fid, name, mode, major, minor, gid } => {
                new(18).word(fid.0).text(&name.0).word(mode.0).word(major.0).word(minor.0).word(gid.0).whole()
            }
            Self::Mkdir { fid, name, mode, gid } => new(72).word(fid.0).text(&name.0).word(mode.0).word(gid.0).whole(),
            Self::Link { directory, fid, name } => new(70).word(directory.0).word(fid.0).text(&name.0).whole(),
            Self::Rename { fid, directory, name } => new(20).word(fid.0).word(directory.0).text(&name.0).whole(),
            Self::Renameat { directory, name, new_directory, new_name } => {
                new(74).word(directory.0).text(&name.0).word(new_directory.0).text(&new_name.0).whole()
            }
            Self::Unlinkat { directory, name, flags } => unlinkat(tag, directory.0, &name.0, *flags),
            Self::UnlinkatFlags { directory, name, flags } => {
                new(76).word(directory.0).text(&name.0).word(flags.0).whole()
            }
            Self::Statfs { fid } => statfs(tag, fid.0),
            Self::Fsync { fid, datasync } => new(50).word(fid.0).word(datasync.0).whole(),
            Self::Xattrwalk { fid, newfid, name } => new(30).word(fid.0).word(newfid.0).text(&name.0).whole(),
            Self::Xattrcreate { fid, name, size, flags } => {
                new(32).word(fid.0).text(&name.0).long(size.0).word(flags.0).whole()
            }
            Self::Lock { fid, kind, flags, start, length, process, client } => {
                let bytes = new(52).word(fid.0).byte(kind % 4).word(flags.0 % 4);
                bytes.long(start.0).long(length.0).word(process.0).text(&client.0).whole()
            }
            Self::Getlock { fid, kind, start, length, process, client } => {
                let bytes = new(54).word(fid.0).byte(kind % 4);
                bytes.long(start.0).long(length.0).word(process.0).text(&client.0).whole()
            }
            Self::Flush { tag: old } => new(108).short(*old).whole(),
            Self::Auth { fid, uname, aname, uid } => {
                new(102).word(fid.0).text(&uname.0).text(&aname.0).word(uid.0).whole()
            }
            Self::Attach { fid, afid, uname, aname, uid } => {
                new(104).word(fid.0).word(afid.0).text(&uname.0).text(&aname.0).word(uid.0).whole()
            }
            Self::AttachRoot { fid } => attach(tag, fid.0),
            Self::Version { msize, dialect } => {
                let dialect = DIALECTS[usize::from(*dialect) % DIALECTS.len()];
                Bytes::new(100, u16::MAX).word(msize.0).text(dialect).whole()
            }
            Self::Open { fid, mode } => new(112).word(fid.0).byte(*mode).whole(),
            Self::Create { fid, name, permissions, mode, extension } => {
                // What 9P2000.u adds at the end is left away where it is empty: 9P2000 has none.
                let bytes = new(114).word(fid.0).text(&name.0).word(permissions.0).byte(*mode);
                if extension.0.is_empty() { bytes.whole() } else { bytes.text(&extension.0).whole() }
            }
            Self::Stat { fid } => new(124).word(fid.0).whole(),
            Self::Wstat { fid, fields } => {
                let stat = Bytes(Vec::new()).text(&fields.0).0;
                new(126).word(fid.0).text(&stat).whole()
            }
            Self::WstatFields { fid, mode, length, mtime, name, keep } => {
                let kept = |bit: u8| keep & (1 << bit) != 0;
                let stat = Bytes(Vec::new()).short(!0).word(!0).byte(!0).word(!0).long(!0);
                let stat = stat.word(if kept(0) { !0 } else { mode.0 }).word(!0);
                let stat = stat.word(if kept(1) { !0 } else { mtime.0 });
                let stat = stat.long(if kept(2) { !0 } else { length.0 });
                let stat = stat.text(if kept(3) { b"" } else { &name.0 }).text(b"").text(b"").text(b"");
                // 9P2000.u's extension and numeric owners.
                let stat = if kept(4) { stat } else { stat.text(b"").word(!0).word(!0).word(!0) };
                let stat = Bytes(Vec::new()).text(&stat.0).0;
                new(126).word(fid.0).text(&stat).whole()
            }
            Self::AttachPlain { fid, uname } => new(104).word(fid.0).word(u32::MAX).text(&uname.0).text(b"").whole(),
            Self::Visit { fid, newfid, names, request, of_newfid } => {
                let bytes = new(200).word(fid.0).word(newfid.0).short(names.0.len() as u16);
                let mut inner = request.bytes(u16::MAX);
                if *of_newfid && inner.len() >= 11 {
                    inner[7..11].copy_from_slice(&newfid.0.to_le_bytes());
                }
                names.0.iter().fold(bytes, |bytes, name| bytes.text(&name.0)).rest(&inner).whole()
            }
            Self::Raw { kind, tag, bytes } => Bytes::new(*kind, *tag).rest(&bytes.0).whole(),
        }
    }
}

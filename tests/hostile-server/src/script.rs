//! What is asked of a mount, and what its server does meanwhile.

use arbitrary::{Arbitrary, Result, Unstructured};
use ninering_client::vfs::OpenFlags;
use ninering_iter::Kind;
use ninering_wire::LockType;

use crate::{
    answer::{Answer, Few},
    ring::Layout,
};

/// One session.
#[derive(Debug)]
pub struct Input {
    pub(crate) mode: Mode,
    pub(crate) steps: Vec<Step>,
}

impl<'a> Arbitrary<'a> for Input {
    /// As many steps as there are bytes for.
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let mode = from.arbitrary()?;
        let mut steps = Vec::new();
        while !from.is_empty() {
            steps.push(from.arbitrary()?);
        }
        Ok(Self { mode, steps })
    }
}

/// Who the two are.
#[derive(Arbitrary, Debug)]
pub(crate) struct Mode {
    pub(crate) ordered: bool,
    pub(crate) immediate: bool,
    pub(crate) visits: bool,
    pub(crate) deferring: bool,
    pub(crate) plain: bool,
    pub(crate) authenticate: bool,
    recovers: bool,
    /// The server dies in the end, rather than answering all that is still asked.
    pub(crate) dies: bool,
    queue: u8,
    msize: u8,
}

impl Mode {
    /// A lost connection is followed by another one.
    pub(crate) fn recovers(&self) -> bool {
        self.recovers && !self.immediate
    }

    /// Descriptors in the queue.
    pub(crate) fn queue_size(&self) -> u16 {
        [8, 8, 16, 64][usize::from(self.queue % 4)]
    }

    /// What the server wants of `msize`.
    pub(crate) fn msize(&self) -> u32 {
        [4096, 8192, 8200, 20_000][usize::from(self.msize % 4)]
    }
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Step {
    Do(Operation),
    Call(Call),
    Close(Node),
    /// One of the operations under way is given up.
    Cancel(u8),
    Answer(Answer),
    Serve(u8),
    Reap,
    ReapCalls,
    Refuse(u8),
    Forge(u8, Few),
    /// The connection is lost, where there can be another one.
    Lose,
    Reconnect,
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(from)? {
            0..=79 => Self::Do(from.arbitrary()?),
            80..=89 => Self::Call(from.arbitrary()?),
            90..=99 => Self::Close(from.arbitrary()?),
            100..=179 => Self::Answer(from.arbitrary()?),
            180..=219 => Self::Serve(from.arbitrary()?),
            220..=244 => Self::Reap,
            245..=247 => Self::ReapCalls,
            248..=251 => Self::Cancel(from.arbitrary()?),
            252 => Self::Refuse(from.arbitrary()?),
            253 => Self::Forge(from.arbitrary()?, from.arbitrary()?),
            254 => Self::Lose,
            255 => Self::Reconnect,
        })
    }
}

/// One of the nodes that are open, the root, or one that is not there.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Node(u8);

impl Node {
    pub(crate) fn number(self, open: &[u32]) -> u32 {
        match self.0 {
            255 => u32::MAX,
            // More than there can be: a lower one may be that of a file that is open, and not told of yet.
            254 => 1 << 16,
            index => match usize::from(index) % (open.len() + 1) {
                0 => 0,
                place => open[place - 1],
            },
        }
    }
}

/// A path, one of few, or such as none should be.
#[derive(Clone, Debug)]
pub(crate) struct Path(pub(crate) String);

const PATHS: [&str; 24] = [
    "a",
    "d",
    "l",
    "d/a",
    "d/d/a",
    "d/l/a",
    "l/a",
    "n",
    "d/n",
    "d/../a",
    "l/../a",
    "d/d/d/d",
    "./d/.",
    "d//a/",
    "..",
    "d/../../a",
    "/a",
    "",
    "a\0",
    "d/l",
    "d/d/../l/../a",
    ".",
    "l/",
    "d/..",
];

impl<'a> Arbitrary<'a> for Path {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match u8::arbitrary(from)? {
            byte @ 0..=239 => PATHS[usize::from(byte) % PATHS.len()].to_owned(),
            240..=244 => "d/".repeat(usize::from(u8::arbitrary(from)?)),
            245..=246 => "n".repeat(200 + usize::from(u8::arbitrary(from)?)),
            247 => "d/".repeat(3000),
            _ => String::from_utf8_lossy(&Few::arbitrary(from)?.0).into_owned(),
        }))
    }
}

/// Where in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offset(pub(crate) u64);

impl<'a> Arbitrary<'a> for Offset {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match u8::arbitrary(from)? {
            0..=249 => u16::arbitrary(from)?.into(),
            250 => u64::MAX,
            251 => i64::MAX as u64 - 5000,
            _ => from.arbitrary()?,
        }))
    }
}

/// A buffer, of every kind that a device can use.
#[derive(Clone, Debug)]
pub(crate) struct Memory(pub(crate) Layout);

impl<'a> Arbitrary<'a> for Memory {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let kinds = [Kind::Ubuf, Kind::Iovec, Kind::Kvec, Kind::Bvec, Kind::Folioq, Kind::Xarray];
        let kind = kinds[usize::from(u8::arbitrary(from)?) % kinds.len()];
        let count = if kind == Kind::Ubuf { 1 } else { u8::arbitrary(from)? % 6 };
        let segments = (0..count).map(|_| Ok(u32::from(u16::arbitrary(from)?) % 20_000)).collect::<Result<_>>()?;
        Ok(Self(Layout { kind, segments }))
    }
}

/// How to open, bit by bit.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) fn get(self) -> OpenFlags {
        let is = |bit: u16| self.0 & 1 << bit != 0;
        OpenFlags {
            read: is(0),
            write: is(1),
            append: is(2) && is(10),
            create: is(3),
            exclusive: is(4) && is(11),
            directory: is(5) && is(12),
            truncate: is(6),
            follow: !is(7),
            sync: is(8),
            data_sync: is(9),
            attributes: is(13),
        }
    }
}

/// One of the filesystem calls.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Operation {
    Open(Node, Path, Flags),
    Read(Node, Offset, Memory),
    Write(Node, Offset, Memory),
    ReadDirectory(Node, Offset),
    Sync(Node, bool),
    Stat(Node),
    StatAt(Node, Path, bool),
    IdentifyAt(Node, Path, bool),
    SetAttributes(Node, u64),
    SetAttributesAt(Node, Path, bool, u64),
    Statfs(Node),
    MakeDirectory(Node, Path),
    Symlink(Node, Path, Path),
    ReadLink(Node, Path),
    Link(Node, Path, bool, Node, Path),
    Rename(Node, Path, Node, Path),
    Unlink(Node, Path),
    RemoveDirectory(Node, Path),
    ReadDirectoryPlus(Node, Offset),
    LookUpAt(Node, Path, bool),
    Version(Node),
    GetXattr(Node, Path, Memory),
    SetXattr(Node, Path, u8, Memory),
    ListXattrs(Node, Path, Memory),
    RemoveXattr(Node, Path),
    Access(Node, Path, bool, u8),
    Lock(Node, bool, Range),
    TestLock(Node, Range),
    MakeSpecial(Node, Path, u32),
    AuthRead(Memory),
    AuthWrite(Memory),
    Attach,
}

/// What is locked, and how.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Range {
    kind: u8,
    pub(crate) start: u64,
    pub(crate) length: u64,
}

impl Range {
    pub(crate) fn kind(self) -> LockType {
        [LockType::Write, LockType::Read, LockType::Unlock][usize::from(self.kind % 3)]
    }
}

/// One of the 9P calls. The fids are few.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Call {
    Attach(u8, Option<u8>),
    Walk(u8, u8, Vec<Few>),
    Lopen(u8, u32),
    Lcreate(u8, Few),
    Readlink(u8),
    Getattr(u8),
    Readdir(u8, Offset, u32),
    Statfs(u8),
    Read(u8, Offset, Memory),
    Write(u8, Offset, Memory),
    Clunk(u8),
    Remove(u8),
    Unlinkat(u8, Few),
    Auth(u8),
    Symlink(u8, Few, Few),
    Mknod(u8, Few),
    Rename(u8, u8, Few),
    Setattr(u8, u64),
    Xattrwalk(u8, u8, Few),
    Xattrcreate(u8, Few, u64),
    Fsync(u8),
    Lock(u8, Range),
    Getlock(u8, Range),
    Link(u8, u8, Few),
    Mkdir(u8, Few),
    Renameat(u8, Few, u8, Few),
}

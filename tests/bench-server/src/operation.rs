//! What is measured, as the messages that a client sends for it.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use ninering_wire::{DirEntries, Names, Str, Tmessage, lopen};

use super::{
    connection::{Connection, DATA, ROOT, Reply},
    server::Server,
};

/// Bytes of the file that is read; one is written over and over that is as long.
const FILE: u64 = 64 << 20;
/// Bytes of a large read or write: what has space in a message of 64 KiB, the largest that diod 1.0 agrees to.
const LARGE: u32 = 65536 - 24;
/// Bytes of a small one.
const SMALL: u32 = 4096;
/// Files in the directory that is walked and listed.
const FILES: u64 = 1000;
/// The name of that directory.
const MANY: &str = "many";
/// The fid of the file or directory that all operations of a connection use.
const SHARED: u32 = 1;
/// The fid of the first slot; each has its own.
const FIRST: u32 = 16;
/// Enough to be told all that `stat(2)` tells.
const BASIC: u64 = ninering_wire::getattr::BASIC;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Stat,
    Open,
    Create,
    List,
    ReadSmall,
    Read,
    Write,
    ReadWhole,
    WriteWhole,
}

impl Kind {
    /// All rows.
    pub(crate) const ALL: [Self; 9] = [
        Self::Stat,
        Self::Open,
        Self::Create,
        Self::List,
        Self::ReadSmall,
        Self::Read,
        Self::Write,
        Self::ReadWhole,
        Self::WriteWhole,
    ];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stat => "walk+getattr+clunk",
            Self::Open => "walk+lopen+clunk",
            Self::Create => "create+write+clunk+unlink",
            Self::List => "readdir of 1,000 entries",
            Self::ReadSmall => "random read, 4 KiB",
            Self::Read => "sequential read, 64 KiB",
            Self::Write => "sequential write, 64 KiB",
            Self::ReadWhole => "sequential read, MiB by whole messages",
            Self::WriteWhole => "sequential write, MiB by whole messages",
        }
    }

    /// Does it move data rather than change and tell metadata?
    pub(crate) fn is_data(self) -> bool {
        !matches!(self, Self::Stat | Self::Open | Self::Create | Self::List)
    }
}

/// Makes the files that all operations use, for so many connections.
pub(crate) fn make_files(directory: &Path, connections: usize) -> Result<()> {
    fs::write(directory.join("read"), vec![0xa5; FILE as usize])?;
    let many = directory.join(MANY);
    fs::create_dir(&many)?;
    for number in 0..FILES {
        fs::write(many.join(name(number)), "x")?;
    }
    for connection in 0..connections {
        fs::write(directory.join(format!("written-{connection}")), vec![0; FILE as usize / 4])?;
        fs::create_dir(directory.join(format!("made-{connection}")))?;
    }
    Ok(())
}

fn name(number: u64) -> String {
    format!("file{number:04}")
}

/// A row's operations on one connection, as many at a time as there are slots.
pub(crate) struct Operation {
    kind: Kind,
    /// Bytes of one read or write.
    count: u32,
    /// Where the sequential ones begin again.
    end: u64,
    next: u64,
    slots: Vec<Slot>,
}

#[derive(Clone, Default)]
struct Slot {
    /// Replies that the operation has had.
    step: usize,
    /// Which file it is about, or where a listing goes on.
    number: u64,
    entries: u64,
    made: String,
}

/// What a reply was to an operation.
pub(crate) enum Progress {
    /// It goes on.
    Goes,
    /// It is done; it counts for so much.
    Done(f64),
}

/// The replies' type numbers.
mod reply {
    pub(super) const LOPEN: u8 = 13;
    pub(super) const LCREATE: u8 = 15;
    pub(super) const GETATTR: u8 = 25;
    pub(super) const READDIR: u8 = 41;
    pub(super) const UNLINKAT: u8 = 77;
    pub(super) const WALK: u8 = 111;
    pub(super) const READ: u8 = 117;
    pub(super) const WRITE: u8 = 119;
    pub(super) const CLUNK: u8 = 121;
    pub(super) const REMOVE: u8 = 123;
}

impl Operation {
    /// Opens what the operations of this row on connection `number` share.
    pub(crate) fn prepare(kind: Kind, connection: &mut Connection, number: usize, slots: usize) -> Result<Self> {
        let (path, open) = match kind {
            Kind::Stat | Kind::Open | Kind::List => (MANY.to_owned(), None),
            Kind::Create => (format!("made-{number}"), None),
            Kind::Read | Kind::ReadSmall | Kind::ReadWhole => ("read".to_owned(), Some(lopen::RDONLY)),
            Kind::Write | Kind::WriteWhole => (format!("written-{number}"), Some(lopen::WRONLY)),
        };
        connection.call(&walk(ROOT, SHARED, Some(&path.as_str().into())), reply::WALK)?;
        if let Some(flags) = open {
            connection.call(&Tmessage::Tlopen { fid: SHARED, flags }, reply::LOPEN)?;
        }
        let count = match kind {
            Kind::ReadSmall | Kind::Create => SMALL,
            Kind::ReadWhole | Kind::WriteWhole => connection.msize.min(DATA.len() as u32) - 24,
            _ => LARGE,
        };
        let length = if matches!(kind, Kind::Write | Kind::WriteWhole) { FILE / 4 } else { FILE };
        let made = |slot| Slot { made: format!("new-{slot}"), ..Slot::default() };
        let slots = (0..slots).map(made).collect();
        Ok(Self { kind, count, end: length / u64::from(count), next: number as u64 * 331, slots })
    }

    /// Closes what [`Self::prepare`] opened.
    pub(crate) fn finish(&self, connection: &mut Connection) -> Result<()> {
        connection.call(&Tmessage::Tclunk { fid: SHARED }, reply::CLUNK)
    }

    /// Begins an operation.
    pub(crate) fn begin(&mut self, connection: &mut Connection, slot: usize) -> Result<()> {
        let number = self.next;
        self.next += 1;
        let made = std::mem::take(&mut self.slots[slot].made);
        self.slots[slot] = Slot { step: 0, number, entries: 0, made };
        let fid = FIRST + slot as u32;
        let tag = slot as u16;
        let count = self.count;
        let message = match self.kind {
            Kind::Stat | Kind::Open => {
                // As good as at random, and all of them.
                return connection.push(tag, &walk(SHARED, fid, Some(&name(number * 617 % FILES).as_str().into())));
            }
            Kind::Create | Kind::List => walk(SHARED, fid, None),
            Kind::ReadSmall => {
                let page = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                Tmessage::Tread { fid: SHARED, offset: page % (FILE / 4096) * 4096, count }
            }
            Kind::Read | Kind::ReadWhole => {
                Tmessage::Tread { fid: SHARED, offset: number % self.end * u64::from(count), count }
            }
            Kind::Write | Kind::WriteWhole => {
                Tmessage::Twrite { fid: SHARED, offset: number % self.end * u64::from(count), count }
            }
        };
        connection.push(tag, &message)
    }

    /// Goes on after a reply.
    pub(crate) fn go_on(&mut self, connection: &mut Connection, answer: &Reply) -> Result<Progress> {
        let (tag, slot) = (answer.tag, usize::from(answer.tag));
        ensure!(slot < self.slots.len(), "a reply to the tag {tag}, which is not in use");
        let fid = FIRST + u32::from(tag);
        let server = connection.server;
        let Slot { step, number, entries, made } = &mut self.slots[slot];
        let made = Str::from(made.as_str());
        *step += 1;
        let message = match (self.kind, *step) {
            (Kind::Stat | Kind::Open | Kind::Create | Kind::List, 1) => {
                answer.expect(reply::WALK)?;
                match self.kind {
                    Kind::Stat => Tmessage::Tgetattr { fid, request_mask: BASIC },
                    Kind::Create => {
                        let flags = lopen::WRONLY | lopen::CREATE | lopen::EXCL;
                        Tmessage::Tlcreate { fid, name: made, flags, mode: 0o644, gid: !0 }
                    }
                    Kind::List => Tmessage::Tlopen { fid, flags: lopen::RDONLY | lopen::DIRECTORY },
                    _ => Tmessage::Tlopen { fid, flags: lopen::RDONLY },
                }
            }
            (Kind::Stat | Kind::Open, 2) => {
                answer.expect(if self.kind == Kind::Stat { reply::GETATTR } else { reply::LOPEN })?;
                Tmessage::Tclunk { fid }
            }
            (Kind::Stat | Kind::Open, _) => {
                answer.expect(reply::CLUNK)?;
                return Ok(Progress::Done(1.0));
            }

            (Kind::Create, 2) => {
                answer.expect(reply::LCREATE)?;
                Tmessage::Twrite { fid, offset: 0, count: self.count }
            }
            (Kind::Create, 3) => {
                answer.expect(reply::WRITE)?;
                ensure!(answer.number == self.count, "a short write");
                Tmessage::Tclunk { fid }
            }
            (Kind::Create, 4) => {
                answer.expect(reply::CLUNK)?;
                if server == Server::Diod {
                    // diod 1.0 has no Tunlinkat: this is what Linux's client does then.
                    walk(SHARED, fid, Some(&made))
                } else {
                    Tmessage::Tunlinkat { dirfid: SHARED, name: made, flags: 0 }
                }
            }
            (Kind::Create, 5) if server == Server::Diod => {
                answer.expect(reply::WALK)?;
                Tmessage::Tremove { fid }
            }
            (Kind::Create, _) => {
                answer.expect(if server == Server::Diod { reply::REMOVE } else { reply::UNLINKAT })?;
                return Ok(Progress::Done(1.0));
            }

            (Kind::List, _) if answer.kind == reply::CLUNK => return Ok(Progress::Done(1.0)),
            (Kind::List, 2) => {
                answer.expect(reply::LOPEN)?;
                Tmessage::Treaddir { fid, offset: 0, count: self.count }
            }
            (Kind::List, _) => {
                answer.expect(reply::READDIR)?;
                let payload = connection.body(answer).get(4..).unwrap_or_default();
                if payload.is_empty() {
                    ensure!(*entries >= FILES, "a listing of {entries} entries in place of {FILES}");
                    Tmessage::Tclunk { fid }
                } else {
                    for entry in DirEntries::new(payload) {
                        *number = entry?.offset;
                        *entries += 1;
                    }
                    Tmessage::Treaddir { fid, offset: *number, count: self.count }
                }
            }

            (Kind::ReadSmall | Kind::Read | Kind::ReadWhole, _) => {
                answer.expect(reply::READ)?;
                ensure!(answer.number == self.count, "a short read");
                return Ok(Progress::Done(self.worth()));
            }
            (Kind::Write | Kind::WriteWhole, _) => {
                answer.expect(reply::WRITE)?;
                ensure!(answer.number == self.count, "a short write");
                return Ok(Progress::Done(self.worth()));
            }
        };
        connection.push(tag, &message)?;
        Ok(Progress::Goes)
    }

    /// What one read or write counts for: by whole messages, whose size differs from server to server, mebibytes.
    fn worth(&self) -> f64 {
        match self.kind {
            Kind::ReadWhole | Kind::WriteWhole => f64::from(self.count) / f64::from(1 << 20),
            _ => 1.0,
        }
    }
}

/// A walk by one name, or by none.
pub(crate) fn walk<'a>(fid: u32, newfid: u32, name: Option<&'a Str<'a>>) -> Tmessage<'a> {
    Tmessage::Twalk { fid, newfid, names: name.map(Names::from).unwrap_or_default() }
}

//! Replies that could be true, and what any client owes its server.

use std::collections::HashSet;

use ninering_client::session::FIRST_FOREIGN_FID;
use ninering_wire::{
    Attributes, DirEntry, Errno, Frame, Inner, Lock, LockStatus, LockType, NAME_MAX, NOFID, NOTAG, Names, Qid, QidType,
    Qids, Rmessage, Statfs, Str, Tmessage, VERSION_9P2000L, VERSION_NINERING, dirent_type, getattr, mode,
};

/// A server without files: what a name leads to is told by its first letter (`d` a directory, `l` a symbolic link, `n`
/// nothing, all else a file), and each byte of a file by its offset.
pub(crate) struct Server {
    /// It knows `Tvisit`.
    visits: bool,
    /// Requests may depend on others that are not answered.
    pub(crate) ordered: bool,
    /// It has answered in the order of the requests up to now.
    pub(crate) keeps_order: bool,
    msize: u32,
    /// What was agreed on.
    agreed: Option<u32>,
    fids: HashSet<u32>,
    /// Of walks that did not come to their end: they may be clunked all the same.
    unfinished: HashSet<u32>,
    /// Of walks from fids that are not the client's own, and of authentications: it cannot make them again at another
    /// connection, and may ask for them there.
    foreign: HashSet<u32>,
}

/// Bytes in each file.
const FILE_SIZE: u64 = 50_000;
/// The targets of links.
const TARGETS: [&[u8]; 8] = [b"a", b"d/a", b"../a", b"/d/a", b"l", b"d/../l", b".", b"none/a"];
/// What becomes of locks.
const LOCKS: [LockStatus; 4] = [LockStatus::Success, LockStatus::Blocked, LockStatus::Error, LockStatus::Grace];
/// The names in each directory.
const NAMES: [&[u8]; 6] = [b".", b"..", b"a", b"d", b"l", b"a longer name than most"];

/// The byte of any file at this offset.
pub(crate) fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// The bytes of a reply.
pub(crate) fn encode(tag: u16, reply: &Rmessage<'_>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 10];
    let length = loop {
        match reply.encode(tag, &mut bytes) {
            Ok(length) => break length,
            Err(_) => bytes.resize(bytes.len() * 4, 0),
        }
    };
    bytes.truncate(length);
    bytes.extend_from_slice(payload);
    bytes
}

impl Server {
    pub(crate) fn new(visits: bool, ordered: bool, msize: u32) -> Self {
        Self {
            visits,
            ordered,
            keeps_order: true,
            msize,
            agreed: None,
            fids: HashSet::new(),
            unfinished: HashSet::new(),
            foreign: HashSet::new(),
        }
    }

    /// Is it told well enough what becomes of its fids?
    pub(crate) fn counts_fids(&self) -> bool {
        self.keeps_order || !self.ordered
    }

    /// The fids of the filesystem calls that it knows.
    pub(crate) fn fids(&self) -> usize {
        self.fids.iter().filter(|&&fid| fid < FIRST_FOREIGN_FID).count()
    }

    /// Checks that a request is one that an honest client may send now.
    pub(crate) fn check(&mut self, size: u32, request: &Tmessage<'_>) {
        if let Some(msize) = self.agreed {
            assert!(size <= msize, "a message of {size} bytes where {msize} were agreed on");
        }
        match request {
            Tmessage::Twalk { fid, newfid, names } => {
                if *fid >= FIRST_FOREIGN_FID {
                    self.foreign.insert(*newfid);
                }
                self.check_known(*fid, request);
                if newfid != fid {
                    self.check_new(*newfid);
                }
                check_names(*fid, names);
            }
            Tmessage::Tvisit { fid, newfid, names, message } => {
                assert!(self.visits, "a Tvisit to a server that does not know it");
                self.check_known(*fid, request);
                if *newfid != NOFID {
                    self.check_new(*newfid);
                }
                check_names(*fid, names);
                let inner = Frame::<Tmessage<'_>>::decode(message.0).expect("a message within");
                assert_eq!(inner.tag, NOTAG);
                assert_eq!(inner.message.fids()[0], *newfid);
                check_name_of(&inner.message);
            }
            Tmessage::Tattach { fid, .. } => {
                self.check_known(request.fids()[0], request);
                self.check_new(*fid);
            }
            Tmessage::Tauth { afid, .. } => {
                self.check_new(*afid);
                self.foreign.insert(*afid);
            }
            Tmessage::Txattrwalk { fid, newfid, .. } => {
                self.check_known(*fid, request);
                self.check_new(*newfid);
            }
            Tmessage::Tversion { .. } => {}
            Tmessage::Tclunk { fid } if self.unfinished.contains(fid) => {}
            request => {
                request.fids().into_iter().for_each(|fid| self.check_known(fid, request));
                check_name_of(request);
            }
        }
    }

    fn check_known(&self, fid: u32, request: &Tmessage<'_>) {
        // The latter include NOFID.
        let known = self.fids.contains(&fid) || self.foreign.contains(&fid) || self.ordered || fid >= FIRST_FOREIGN_FID;
        assert!(known, "a fid that there is not: {request:?}");
    }

    fn check_new(&self, fid: u32) {
        assert!(
            !self.counts_fids() || fid >= FIRST_FOREIGN_FID || !self.fids.contains(&fid),
            "the fid {fid} is in use"
        );
    }

    /// The connection is lost, and with it all that was known of its other end.
    pub(crate) fn lose(&mut self) {
        self.fids.clear();
        self.unfinished.clear();
        self.agreed = None;
    }

    /// Notes what an answer, such as it is, has made of the fids.
    pub(crate) fn follow(&mut self, request: &Tmessage<'_>, reply: &[u8]) {
        let reply = Frame::<Rmessage<'_>>::decode(reply).ok().map(|frame| frame.message);
        match (request, reply) {
            (Tmessage::Tclunk { fid } | Tmessage::Tremove { fid }, _) => {
                self.fids.remove(fid);
                self.unfinished.remove(fid);
            }
            (Tmessage::Tattach { fid, .. }, Some(Rmessage::Rattach { .. }))
            | (Tmessage::Tauth { afid: fid, .. }, Some(Rmessage::Rauth { .. }))
            | (Tmessage::Txattrwalk { newfid: fid, .. }, Some(Rmessage::Rxattrwalk { .. })) => {
                self.fids.insert(*fid);
            }
            (Tmessage::Twalk { fid, newfid, .. }, _) if fid == newfid => {}
            (Tmessage::Twalk { newfid, names, .. }, Some(Rmessage::Rwalk { qids })) => {
                if qids.len() == names.len() {
                    self.unfinished.remove(newfid);
                    self.fids.insert(*newfid);
                } else {
                    self.unfinished.insert(*newfid);
                }
            }
            (Tmessage::Tvisit { newfid, names, .. }, Some(Rmessage::Rvisit { qids, message })) => {
                let is_done = message.0.get(4).is_some_and(|&kind| kind != 7);
                if *newfid != NOFID && qids.len() == names.len() && is_done {
                    self.fids.insert(*newfid);
                }
            }
            (Tmessage::Tversion { .. }, Some(Rmessage::Rversion { msize, version })) => {
                let is_agreed = *version == *VERSION_9P2000L || *version == *VERSION_NINERING;
                self.agreed = Some(msize).filter(|_| is_agreed);
            }
            _ => {}
        }
    }

    /// An answer that could be true.
    pub(crate) fn plausible(&self, tag: u16, request: &Tmessage<'_>, variety: u8) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut held = Held::default();
        let reply = self.reply(request, variety, &mut payload, &mut held);
        let reply = reply.unwrap_or_else(|Errno(ecode)| {
            payload.clear();
            Rmessage::Rlerror { ecode }
        });
        encode(tag, &reply, &payload)
    }

    fn reply<'a>(
        &self,
        request: &Tmessage<'_>,
        variety: u8,
        payload: &mut Vec<u8>,
        Held { inner, qids, attributes, statfs }: &'a mut Held,
    ) -> Result<Rmessage<'a>, Errno> {
        let file = Qid { kind: QidType::FILE, version: variety.into(), path: 9 };
        let iounit = [0, 0, 0, 1, 100, 4096, u32::MAX, 0][usize::from(variety % 8)];
        Ok(match request {
            Tmessage::Tversion { msize, version } => {
                let version = match version.0 {
                    VERSION_NINERING if self.visits => VERSION_NINERING,
                    VERSION_NINERING if variety.is_multiple_of(2) => b"unknown",
                    _ => VERSION_9P2000L,
                };
                Rmessage::Rversion { msize: (*msize).min(self.msize), version: Str(version) }
            }
            Tmessage::Tattach { .. } => Rmessage::Rattach { qid: Qid { kind: QidType::DIR, version: 0, path: 1 } },
            Tmessage::Twalk { names, .. } => Rmessage::Rwalk { qids: walk(*names, variety, qids)? },
            Tmessage::Tvisit { names, message, .. } => {
                let qids = walk(*names, variety, qids)?;
                if qids.len() == names.len() {
                    let message = Frame::<Tmessage<'_>>::decode(message.0).expect("checked").message;
                    *inner = self.plausible(NOTAG, &message, variety);
                }
                Rmessage::Rvisit { qids, message: Inner(inner) }
            }
            Tmessage::Tlopen { .. } => Rmessage::Rlopen { qid: file, iounit },
            Tmessage::Tlcreate { .. } if variety & 7 == 7 => return Err(Errno::EEXIST),
            Tmessage::Tlcreate { .. } => Rmessage::Rlcreate { qid: file, iounit },
            Tmessage::Treadlink { .. } => {
                inner.extend_from_slice(TARGETS[usize::from(variety) % TARGETS.len()]);
                Rmessage::Rreadlink { target: Str(inner) }
            }
            Tmessage::Tgetattr { .. } => {
                let (valid, mode) = (getattr::BASIC, mode::IFREG | 0o644);
                *attributes = Attributes { valid, qid: file, mode, size: FILE_SIZE, ..Attributes::default() };
                Rmessage::Rgetattr { attributes: (&*attributes).into() }
            }
            Tmessage::Tread { offset, count, .. } => {
                let most = if variety == 0 { u64::MAX } else { u64::from(variety) * 40 };
                let count = FILE_SIZE.saturating_sub(*offset).min((*count).into()).min(most);
                payload.extend((0..count).map(|at| byte_at(offset + at)));
                Rmessage::Rread { count: count as u32 }
            }
            Tmessage::Twrite { count, .. } if variety == 0 => Rmessage::Rwrite { count: *count },
            Tmessage::Twrite { count, .. } => Rmessage::Rwrite { count: (*count).min(u32::from(variety) * 40) },
            Tmessage::Treaddir { offset, count, .. } => {
                for (place, name) in (1..).zip(NAMES).skip(*offset as usize) {
                    let entry = DirEntry { qid: file, offset: place, kind: dirent_type::UNKNOWN, name: Str(name) };
                    let start = payload.len();
                    if start + entry.encoded_len() > *count as usize {
                        break;
                    }
                    payload.resize(start + entry.encoded_len(), 0);
                    entry.encode(&mut payload[start..]).expect("there is room");
                }
                Rmessage::Rreaddir { count: payload.len() as u32 }
            }
            Tmessage::Tstatfs { .. } => Rmessage::Rstatfs { statfs: (&*statfs).into() },
            Tmessage::Tsymlink { .. } => Rmessage::Rsymlink { qid: file },
            Tmessage::Tmkdir { .. } => Rmessage::Rmkdir { qid: file },
            Tmessage::Trename { .. } => Rmessage::Rrename {},
            Tmessage::Tsetattr { .. } => Rmessage::Rsetattr {},
            Tmessage::Tfsync { .. } => Rmessage::Rfsync {},
            Tmessage::Tlink { .. } => Rmessage::Rlink {},
            Tmessage::Trenameat { .. } | Tmessage::Tunlinkat { .. } if variety & 3 == 3 => {
                return Err(Errno::EOPNOTSUPP);
            }
            Tmessage::Trenameat { .. } => Rmessage::Rrenameat {},
            Tmessage::Tunlinkat { .. } => Rmessage::Runlinkat {},
            Tmessage::Tclunk { .. } => Rmessage::Rclunk {},
            Tmessage::Tremove { .. } => Rmessage::Rremove {},
            Tmessage::Tflush { .. } => Rmessage::Rflush {},
            Tmessage::Tauth { .. } if variety & 1 == 1 => return Err(Errno::EOPNOTSUPP),
            Tmessage::Tauth { .. } => Rmessage::Rauth { aqid: file },
            Tmessage::Txattrwalk { .. } => {
                Rmessage::Rxattrwalk { size: [6, 0, 100, 5000, FILE_SIZE][usize::from(variety % 5)] }
            }
            Tmessage::Txattrcreate { .. } => Rmessage::Rxattrcreate {},
            Tmessage::Tlock { .. } => Rmessage::Rlock { status: LOCKS[usize::from(variety % 4)] },
            Tmessage::Tgetlock { .. } => {
                let kind = [LockType::Unlock, LockType::Read, LockType::Write][usize::from(variety % 3)];
                let client_id = Str(b"another client");
                Rmessage::Rgetlock { lock: Lock { kind, start: 0, length: 0, proc_id: 1, client_id } }
            }
            Tmessage::Tmknod { .. } => Rmessage::Rmknod { qid: file },
        })
    }
}

/// What a reply refers to.
#[derive(Default)]
struct Held {
    inner: Vec<u8>,
    qids: Vec<Qid>,
    attributes: Attributes,
    statfs: Statfs,
}

/// Where names lead, as far as they do.
fn walk<'a>(names: Names<'_>, variety: u8, qids: &'a mut Vec<Qid>) -> Result<Qids<'a>, Errno> {
    for name in names.iter() {
        let letter = name.first().copied().unwrap_or_default();
        let kind = match letter.wrapping_add(variety & 0xf0) {
            b'd' => QidType::DIR,
            b'l' => QidType::SYMLINK,
            b'n' => break,
            _ => QidType::FILE,
        };
        qids.push(Qid { kind, version: 0, path: u64::from(letter) + u64::from(variety) });
        if kind != QidType::DIR {
            break;
        }
    }
    if qids.is_empty() && !names.is_empty() {
        return Err(Errno::ENOENT);
    }
    Ok(Qids::new(qids).expect("one a name"))
}

/// The mount's root is never left: no name that is sent leads up, or is a path.
fn check_names(from: u32, names: &Names<'_>) {
    if from < FIRST_FOREIGN_FID {
        names.iter().for_each(check_name);
    }
}

fn check_name(name: Str<'_>) {
    let good = !name.is_empty() && name.len() <= NAME_MAX && !name.contains(&b'/') && !name.contains(&0);
    assert!(good && *name != *b"." && *name != *b"..", "{:?} is sent as a name", String::from_utf8_lossy(&name));
}

/// The same of the names in other requests.
fn check_name_of(request: &Tmessage<'_>) {
    if (FIRST_FOREIGN_FID..NOFID).contains(&request.fids()[0]) {
        return;
    }
    match *request {
        Tmessage::Tlcreate { name, .. }
        | Tmessage::Tsymlink { name, .. }
        | Tmessage::Tmknod { name, .. }
        | Tmessage::Trename { name, .. }
        | Tmessage::Tlink { name, .. }
        | Tmessage::Tmkdir { name, .. }
        | Tmessage::Tunlinkat { name, .. } => check_name(name),
        Tmessage::Trenameat { oldname, newname, .. } => {
            check_name(oldname);
            check_name(newname);
        }
        _ => {}
    }
}

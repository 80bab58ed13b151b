//! An honest server with a tree in memory. It is strict: what an honest client never does, it remembers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
};

use ninering_wire::{
    AT_REMOVEDIR, Attributes, DirEntry, Errno, Frame, HEADER_LEN, Header, Inner, NOFID, NOTAG, Qid, QidType, Qids,
    Rmessage, Statfs, Str, Tmessage, VERSION_9P2000L, VERSION_NINERING, VERSION_UNKNOWN, dirent_type, getattr, lopen,
    mode, setattr,
};

type Inode = u64;

enum Content {
    Directory(BTreeMap<Vec<u8>, Inode>),
    File(Vec<u8>),
    Link(Vec<u8>),
}

struct File {
    content: Content,
    mode: u32,
    nlink: u64,
    mtime: u64,
    gid: u32,
    parent: Inode,
}

#[derive(Clone, Copy)]
struct Fid {
    inode: Inode,
    /// The flags of `Tlopen`.
    open: Option<u32>,
}

pub struct Server {
    files: HashMap<Inode, File>,
    next: Inode,
    fids: HashMap<u32, Fid>,
    /// The fids of walks that did not come to their end.
    unfinished: HashSet<u32>,
    misuse: RefCell<Option<String>>,
    sessions: u32,
    root: Inode,
    /// Answer `EOPNOTSUPP` to `Trenameat` and `Tunlinkat`.
    pub is_old: bool,
    /// Requests that depend on others may come before it is known what became of those.
    pub is_ordered: bool,
    pub knows_visits: bool,
    /// What it answers to a version that it does not know; `None` for an error.
    pub answer_to_unknown_version: Option<&'static [u8]>,
    pub iounit: u32,
    pub msize: u32,
    /// Answer this to writes from this offset on.
    pub fail_writes_at: Option<(u64, Errno)>,
    /// So many walks do not see the last of their names.
    pub blind_walks: u32,
    /// So many walks come to where there is no descriptor left for the next file.
    pub scarce_walks: u32,
    /// How many names were walked.
    pub names_walked: u32,
    /// Put so many bytes at the most into an `Rread`.
    pub short_reads: u32,
    /// A name that is listed, and not to be walked to.
    hidden: Option<Vec<u8>>,
}

const ROOT: Inode = 1;

impl Server {
    pub fn new() -> Self {
        let root = File {
            content: Content::Directory(BTreeMap::new()),
            mode: 0o755,
            nlink: 2,
            mtime: 0,
            gid: 0,
            parent: ROOT,
        };
        Self {
            files: HashMap::from([(ROOT, root)]),
            next: ROOT + 1,
            fids: HashMap::new(),
            unfinished: HashSet::new(),
            misuse: RefCell::default(),
            sessions: 0,
            root: ROOT,
            is_old: false,
            is_ordered: false,
            knows_visits: false,
            answer_to_unknown_version: Some(VERSION_UNKNOWN),
            iounit: 0,
            msize: u32::MAX,
            fail_writes_at: None,
            blind_walks: 0,
            scarce_walks: 0,
            names_walked: 0,
            short_reads: u32::MAX,
            hidden: None,
        }
    }

    /// Adds a file; directories on the way are made.
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.add(path, Content::File(content.as_ref().to_vec()));
        self
    }

    pub fn directory(mut self, path: &str) -> Self {
        self.add(path, Content::Directory(BTreeMap::new()));
        self
    }

    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.add(path, Content::Link(target.as_bytes().to_vec()));
        self
    }

    fn add(&mut self, path: &str, content: Content) {
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory = ROOT;
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            directory = match self.child(directory, part.as_bytes()) {
                Ok(inode) => inode,
                Err(_) => self.make(directory, part.as_bytes(), Content::Directory(BTreeMap::new()), 0o755).unwrap(),
            };
        }
        self.make(directory, name.as_bytes(), content, 0o644).unwrap();
    }

    /// The process is killed, and another one serves the same files.
    pub fn restart(&mut self) {
        self.fids.clear();
        self.unfinished.clear();
        self.sessions += 1;
    }

    /// Somebody else puts another file in the place of one.
    pub fn replace(&mut self, path: &str, content: &str) {
        let inode = self.find(path).unwrap();
        let (parent, name) = self.place_of(inode).unwrap();
        self.unlink(parent, &name, false).unwrap();
        self.make(parent, &name, Content::File(content.into()), 0o644).unwrap();
    }

    /// Another name for a file.
    pub fn link_to(&mut self, path: &str, name: &str) {
        let inode = self.find(path).unwrap();
        self.names(ROOT).unwrap().insert(name.into(), inode);
    }

    pub fn truncate(&mut self, path: &str) {
        let inode = self.find(path).unwrap();
        self.files.get_mut(&inode).unwrap().content = Content::File(Vec::new());
    }

    /// From now on the root is another directory.
    pub fn change_root(&mut self) {
        self.root = self.find("d").unwrap();
    }

    /// All that there is, as text.
    pub fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.list(ROOT, "", &mut found);
        found
    }

    fn list(&self, directory: Inode, path: &str, found: &mut Vec<String>) {
        let Content::Directory(names) = &self.files[&directory].content else { return };
        for (name, inode) in names {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            let file = &self.files[inode];
            let mode = file.mode;
            found.push(match &file.content {
                Content::Directory(_) => format!("{path} {mode:o} directory"),
                Content::File(bytes) => format!("{path} {mode:o} {} {}", file.nlink, String::from_utf8_lossy(bytes)),
                Content::Link(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            });
            self.list(*inode, &path, found);
        }
    }

    /// How many sessions were begun by a `Tversion` after another one.
    pub fn sessions(&self) -> u32 {
        self.sessions
    }

    /// The number of fids in use.
    pub fn fids(&self) -> usize {
        self.fids.len()
    }

    /// The number of fids by which the root's entries can be read.
    pub fn listings_of_root(&self) -> usize {
        self.fids.values().filter(|fid| fid.inode == ROOT && fid.open.is_some()).count()
    }

    /// What a client did that none should.
    pub fn misuse(&self) -> Option<String> {
        self.misuse.borrow().clone()
    }

    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        match &self.files[&self.find(path)?].content {
            Content::File(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    pub fn gid(&self, path: &str) -> Option<u32> {
        Some(self.files[&self.find(path)?].gid)
    }

    /// From now on, a file of this name is gone when it is walked to, though it was listed.
    pub fn forget_in_walks(&mut self, name: &[u8]) {
        self.hidden = Some(name.to_vec());
    }

    pub fn exists(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    fn find(&self, path: &str) -> Option<Inode> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |inode, part| self.child(inode, part.as_bytes()).ok())
    }

    /// The name of the message in a request.
    pub fn name_of(request: &[u8]) -> &'static str {
        Tmessage::name_of(request[4]).unwrap_or("?")
    }

    /// The reply to a request, both as bytes.
    pub fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let Frame { tag, message, payload } = match Frame::<Tmessage>::decode(request) {
            Ok(frame) => frame,
            Err(error) => panic!("a malformed request: {error}: {request:?}"),
        };
        let tag_of_version = matches!(message, Tmessage::Tversion { .. });
        assert_eq!(tag == ninering_wire::NOTAG, tag_of_version, "the tag of {message:?}");
        let (mut string, mut room) = (Vec::new(), Vec::new());
        match self.serve(message, payload, &mut string, &mut room) {
            Ok(reply) => encode(tag, &reply, &room),
            Err(Errno(ecode)) => encode(tag, &Rmessage::Rlerror { ecode }, &[]),
        }
    }

    fn serve<'r>(
        &mut self,
        message: Tmessage<'_>,
        payload: &[u8],
        string: &'r mut Vec<u8>,
        room: &mut Vec<u8>,
    ) -> Result<Rmessage<'r>, Errno> {
        Ok(match message {
            Tmessage::Tversion { msize, version } => {
                assert!(matches!(&*version, VERSION_9P2000L | VERSION_NINERING), "{version:?}");
                self.fids.clear();
                let version = match &*version {
                    VERSION_9P2000L => VERSION_9P2000L,
                    _ if self.knows_visits => VERSION_NINERING,
                    _ => match self.answer_to_unknown_version {
                        Some(version) => version,
                        None => return Err(Errno::EPROTO),
                    },
                };
                Rmessage::Rversion { msize: msize.min(self.msize), version: Str(version) }
            }
            Tmessage::Tattach { fid, afid, .. } => {
                assert_eq!(afid, ninering_wire::NOFID);
                self.bind(fid, self.root)?;
                Rmessage::Rattach { qid: self.qid(self.root) }
            }
            Tmessage::Twalk { fid, newfid, names } => {
                let Fid { inode, open } = self.fid(fid)?;
                if open.is_some() {
                    return Err(self.note("a walk from an open fid"));
                }
                let is_blind = self.blind_walks > 0 && !names.is_empty();
                self.blind_walks -= u32::from(is_blind);
                let is_scarce = self.scarce_walks > 0 && !names.is_empty();
                self.scarce_walks -= u32::from(is_scarce);
                self.names_walked += names.len() as u32;
                let mut qids = Vec::new();
                let mut here = inode;
                for (index, name) in names.iter().enumerate() {
                    if matches!(name.0, b"" | b"." | b"..") || name.contains(&b'/') {
                        return Err(self.note("a name that is none"));
                    }
                    let child = match self.child(here, name.0) {
                        Ok(_) if is_blind && index + 1 == names.len() => Err(Errno::ENOENT),
                        Ok(_) if is_scarce && index + 1 == names.len() => Err(Errno::EMFILE),
                        Ok(_) if self.hidden.as_deref() == Some(name.0) => Err(Errno::ENOENT),
                        child => child,
                    };
                    match child {
                        Ok(inode) => here = inode,
                        Err(errno) if qids.is_empty() => return Err(errno),
                        Err(_) => {
                            self.unfinished.insert(newfid);
                            return Ok(Rmessage::Rwalk { qids: Qids::new(kept(qids)).unwrap() });
                        }
                    }
                    qids.push(self.qid(here));
                }
                self.bind(newfid, here)?;
                Rmessage::Rwalk { qids: Qids::new(kept(qids)).unwrap() }
            }
            Tmessage::Tvisit { fid, newfid, names, message: Inner(inner) } => {
                if !self.knows_visits {
                    return Err(self.note("a message that was not agreed on"));
                }
                // Which no client uses.
                const SCRATCH: u32 = 0xffff_fffe;
                let place = if newfid == NOFID { SCRATCH } else { newfid };
                let walk = Tmessage::Twalk { fid, newfid: place, names };
                let Rmessage::Rwalk { qids } = self.serve(walk, &[], string, &mut Vec::new())? else {
                    unreachable!("a walk's reply");
                };
                let qids = Qids::new(kept(qids.iter().collect::<Vec<_>>())).unwrap();
                if qids.len() < names.len() {
                    self.unfinished.remove(&place);
                    return Ok(Rmessage::Rvisit { qids, message: Inner(&[]) });
                }
                // Of all messages that can be here the fid is the first field.
                let mut inner = inner.to_vec();
                assert_eq!(inner[HEADER_LEN..][..4], newfid.to_le_bytes(), "the fid of the message within");
                inner[HEADER_LEN..][..4].copy_from_slice(&place.to_le_bytes());
                let mut target = Vec::new();
                let Frame { message, payload, .. } = Frame::<Tmessage<'_>>::decode(&inner).expect("a message within");
                let done = self.serve(message, payload, &mut target, &mut Vec::new());
                if newfid == NOFID || done.is_err() {
                    self.fids.remove(&place);
                }
                *string = match done {
                    Ok(reply) => encode(NOTAG, &reply, &[]),
                    Err(Errno(ecode)) => encode(NOTAG, &Rmessage::Rlerror { ecode }, &[]),
                };
                Rmessage::Rvisit { qids, message: Inner(string) }
            }
            Tmessage::Tlopen { fid, flags } => {
                let at = self.fid(fid)?;
                if at.open.is_some() {
                    return Err(self.note("a fid is opened twice"));
                }
                match &mut self.file_mut(at.inode)?.content {
                    Content::File(bytes) if flags & lopen::TRUNC != 0 => bytes.clear(),
                    Content::File(_) => {}
                    Content::Directory(_) if flags & lopen::ACCMODE != 0 => return Err(Errno::EISDIR),
                    Content::Directory(_) => {}
                    Content::Link(_) => return Err(Errno::ELOOP),
                }
                self.fids.insert(fid, Fid { open: Some(flags), ..at });
                Rmessage::Rlopen { qid: self.qid(at.inode), iounit: self.iounit }
            }
            Tmessage::Tlcreate { fid, name, flags, mode, gid } => {
                let is_exclusive = flags & lopen::EXCL != 0;
                if !is_exclusive && !self.knows_visits {
                    return Err(self.note("a create that may open what is there, or worse, what a link leads to"));
                }
                let at = self.fid(fid)?;
                let inode = match self.make(at.inode, &name, Content::File(Vec::new()), mode) {
                    Err(Errno::EEXIST) if !is_exclusive => {
                        let inode = self.child(at.inode, &name)?;
                        match &mut self.file_mut(inode)?.content {
                            Content::File(bytes) if flags & lopen::TRUNC != 0 => bytes.clear(),
                            Content::File(_) => {}
                            Content::Directory(_) => return Err(Errno::EISDIR),
                            Content::Link(_) => return Err(Errno::ELOOP),
                        }
                        inode
                    }
                    made => {
                        let inode = made?;
                        self.file_mut(inode)?.gid = gid;
                        inode
                    }
                };
                self.fids.insert(fid, Fid { inode, open: Some(flags) });
                Rmessage::Rlcreate { qid: self.qid(inode), iounit: self.iounit }
            }
            Tmessage::Tsymlink { fid, name, target, .. } => {
                let inode = self.make(self.fid(fid)?.inode, &name, Content::Link(target.to_vec()), 0o777)?;
                Rmessage::Rsymlink { qid: self.qid(inode) }
            }
            Tmessage::Tmkdir { dfid, name, mode, .. } => {
                let content = Content::Directory(BTreeMap::new());
                let inode = self.make(self.fid(dfid)?.inode, &name, content, mode)?;
                Rmessage::Rmkdir { qid: self.qid(inode) }
            }
            Tmessage::Treadlink { fid } => match &self.look(self.fid(fid)?.inode)?.content {
                Content::Link(target) => {
                    string.clone_from(target);
                    Rmessage::Rreadlink { target: Str(string) }
                }
                _ => return Err(Errno::EINVAL),
            },
            Tmessage::Tgetattr { fid, request_mask } => {
                assert_eq!(request_mask, getattr::BASIC);
                Rmessage::Rgetattr { attributes: kept(self.attributes(self.fid(fid)?.inode)?).into() }
            }
            Tmessage::Tsetattr { fid, attributes } => {
                let attributes = attributes.get();
                let inode = self.fid(fid)?.inode;
                let file = self.file_mut(inode)?;
                if attributes.valid & setattr::MODE != 0 {
                    file.mode = attributes.mode;
                }
                if attributes.valid & setattr::MTIME_SET != 0 {
                    file.mtime = attributes.mtime_sec;
                }
                match &mut file.content {
                    Content::File(bytes) if attributes.valid & setattr::SIZE != 0 => {
                        bytes.resize(attributes.size as usize, 0);
                    }
                    _ => {}
                }
                Rmessage::Rsetattr {}
            }
            Tmessage::Tread { fid, offset, count } => {
                let at = self.opened(fid, &[lopen::RDONLY, lopen::RDWR])?;
                let Content::File(bytes) = &self.look(at)?.content else { return Err(Errno::EISDIR) };
                let rest = bytes.get(offset as usize..).unwrap_or_default();
                room.extend_from_slice(&rest[..rest.len().min(count.min(self.short_reads) as usize)]);
                Rmessage::Rread { count: room.len() as u32 }
            }
            Tmessage::Twrite { fid, offset, count } => {
                let at = self.opened(fid, &[lopen::WRONLY, lopen::RDWR])?;
                assert_eq!(count as usize, payload.len());
                let append = self.fids[&fid].open.unwrap_or(0) & lopen::APPEND != 0;
                let failing = self.fail_writes_at;
                let Content::File(bytes) = &mut self.file_mut(at)?.content else { return Err(Errno::EISDIR) };
                let offset = if append { bytes.len() } else { offset as usize };
                if let Some((_, errno)) = failing.filter(|&(from, _)| offset as u64 >= from) {
                    return Err(errno);
                }
                let end = offset + payload.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[offset..end].copy_from_slice(payload);
                Rmessage::Rwrite { count }
            }
            Tmessage::Treaddir { fid, offset, count } => {
                let at = self.opened(fid, &[lopen::RDONLY, lopen::RDWR])?;
                let file = self.look(at)?;
                let Content::Directory(names) = &file.content else { return Err(Errno::ENOTDIR) };
                let dots = [(&b"."[..], at), (&b".."[..], file.parent)];
                let all = dots.into_iter().chain(names.iter().map(|(name, &inode)| (name.as_slice(), inode)));
                for (index, (name, inode)) in all.enumerate().skip(offset as usize) {
                    let entry = DirEntry {
                        qid: self.qid(inode),
                        offset: index as u64 + 1,
                        kind: dirent_type::UNKNOWN,
                        name: Str(name),
                    };
                    let mut bytes = vec![0; entry.encoded_len()];
                    entry.encode(&mut bytes).unwrap();
                    if room.len() + bytes.len() > count as usize {
                        break;
                    }
                    room.extend(bytes);
                }
                Rmessage::Rreaddir { count: room.len() as u32 }
            }
            Tmessage::Tfsync { fid, .. } => {
                if self.fid(fid)?.open.is_none() {
                    return Err(self.note("a sync of a fid that is not open"));
                }
                Rmessage::Rfsync {}
            }
            Tmessage::Tlink { dfid, fid, name } => {
                let (directory, inode) = (self.fid(dfid)?.inode, self.fid(fid)?.inode);
                if self.child(directory, &name).is_ok() {
                    return Err(Errno::EEXIST);
                }
                self.file_mut(inode)?.nlink += 1;
                self.names(directory)?.insert(name.to_vec(), inode);
                Rmessage::Rlink {}
            }
            Tmessage::Trenameat { .. } | Tmessage::Tunlinkat { .. } if self.is_old => return Err(Errno::EOPNOTSUPP),
            Tmessage::Trenameat { olddirfid, oldname, newdirfid, newname } => {
                let (old, new) = (self.fid(olddirfid)?.inode, self.fid(newdirfid)?.inode);
                self.rename(old, &oldname, new, &newname)?;
                Rmessage::Rrenameat {}
            }
            Tmessage::Trename { fid, dfid, name } => {
                let (inode, new) = (self.fid(fid)?.inode, self.fid(dfid)?.inode);
                let (old, old_name) = self.place_of(inode)?;
                self.rename(old, &old_name, new, &name)?;
                Rmessage::Rrename {}
            }
            Tmessage::Tunlinkat { dirfid, name, flags } => {
                let directory = self.fid(dirfid)?.inode;
                self.unlink(directory, &name, flags & AT_REMOVEDIR != 0)?;
                Rmessage::Runlinkat {}
            }
            Tmessage::Tremove { fid } => {
                let inode = self.fid(fid)?.inode;
                self.fids.remove(&fid);
                let (directory, name) = self.place_of(inode)?;
                let is_directory = matches!(self.look(inode)?.content, Content::Directory(_));
                self.unlink(directory, &name, is_directory)?;
                Rmessage::Rremove {}
            }
            Tmessage::Tflush { .. } => Rmessage::Rflush {},
            Tmessage::Tstatfs { fid } => {
                self.fid(fid)?;
                Rmessage::Rstatfs { statfs: kept(Statfs { bsize: 4096, namelen: 255, ..Statfs::default() }).into() }
            }
            // A client may clunk the fid of a walk that did not come to its end, in case the server has made it.
            Tmessage::Tclunk { fid } if self.unfinished.remove(&fid) => return Err(Errno::EBADF),
            Tmessage::Tclunk { fid } => {
                self.fid(fid)?;
                self.fids.remove(&fid);
                Rmessage::Rclunk {}
            }
            other => panic!("not a request of this client: {other:?}"),
        })
    }

    fn note(&self, misuse: &str) -> Errno {
        self.misuse.borrow_mut().get_or_insert_with(|| misuse.into());
        Errno::EINVAL
    }

    fn bind(&mut self, fid: u32, inode: Inode) -> Result<(), Errno> {
        if self.fids.contains_key(&fid) {
            return Err(self.note("a fid that is in use"));
        }
        self.unfinished.remove(&fid);
        self.fids.insert(fid, Fid { inode, open: None });
        Ok(())
    }

    fn fid(&self, fid: u32) -> Result<Fid, Errno> {
        match self.fids.get(&fid) {
            Some(&known) => Ok(known),
            None if self.is_ordered => Err(Errno(9)),
            None => Err(self.note("an unknown fid")),
        }
    }

    fn opened(&self, fid: u32, access: &[u32]) -> Result<Inode, Errno> {
        let Fid { inode, open } = self.fid(fid)?;
        match open {
            Some(flags) if access.contains(&(flags & lopen::ACCMODE)) => Ok(inode),
            _ => Err(self.note("input or output on a fid that is not open for it")),
        }
    }

    fn look(&self, inode: Inode) -> Result<&File, Errno> {
        self.files.get(&inode).ok_or(Errno::ESTALE)
    }

    fn file_mut(&mut self, inode: Inode) -> Result<&mut File, Errno> {
        self.files.get_mut(&inode).ok_or(Errno::ESTALE)
    }

    fn names(&mut self, directory: Inode) -> Result<&mut BTreeMap<Vec<u8>, Inode>, Errno> {
        match &mut self.file_mut(directory)?.content {
            Content::Directory(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn child(&self, directory: Inode, name: &[u8]) -> Result<Inode, Errno> {
        match &self.look(directory)?.content {
            Content::Directory(names) => names.get(name).copied().ok_or(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn make(&mut self, directory: Inode, name: &[u8], content: Content, mode: u32) -> Result<Inode, Errno> {
        if self.child(directory, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let inode = self.next;
        self.names(directory)?.insert(name.to_vec(), inode);
        self.next += 1;
        self.files.insert(inode, File { content, mode, nlink: 1, mtime: 0, gid: 0, parent: directory });
        Ok(inode)
    }

    fn unlink(&mut self, directory: Inode, name: &[u8], is_directory: bool) -> Result<(), Errno> {
        let inode = self.child(directory, name)?;
        match &self.look(inode)?.content {
            Content::Directory(_) if !is_directory => return Err(Errno::EISDIR),
            Content::Directory(names) if !names.is_empty() => return Err(Errno::ENOTEMPTY),
            Content::File(_) | Content::Link(_) if is_directory => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.names(directory)?.remove(name);
        self.file_mut(inode)?.nlink -= 1;
        Ok(())
    }

    fn rename(&mut self, old: Inode, old_name: &[u8], new: Inode, new_name: &[u8]) -> Result<(), Errno> {
        let inode = self.child(old, old_name)?;
        if let Ok(replaced) = self.child(new, new_name) {
            if replaced == inode {
                return Ok(());
            }
            let is_directory = matches!(self.look(replaced)?.content, Content::Directory(_));
            self.unlink(new, new_name, is_directory)?;
        }
        self.names(old)?.remove(old_name);
        self.names(new)?.insert(new_name.to_vec(), inode);
        self.file_mut(inode)?.parent = new;
        Ok(())
    }

    fn place_of(&self, inode: Inode) -> Result<(Inode, Vec<u8>), Errno> {
        let places = self.files.iter().filter_map(|(&directory, file)| match &file.content {
            Content::Directory(names) => {
                names.iter().find(|&(_, &child)| child == inode).map(|(name, _)| (directory, name.clone()))
            }
            _ => None,
        });
        places.min().ok_or(Errno::ENOENT)
    }

    fn qid(&self, inode: Inode) -> Qid {
        let kind = match self.files.get(&inode).map(|file| &file.content) {
            Some(Content::Directory(_)) => QidType::DIR,
            Some(Content::Link(_)) => QidType::SYMLINK,
            _ => QidType::FILE,
        };
        Qid { kind, version: 0, path: inode }
    }

    fn attributes(&self, inode: Inode) -> Result<Attributes, Errno> {
        let file = self.look(inode)?;
        let (kind, size) = match &file.content {
            Content::Directory(_) => (mode::IFDIR, 0),
            Content::File(bytes) => (mode::IFREG, bytes.len()),
            Content::Link(target) => (mode::IFLNK, target.len()),
        };
        Ok(Attributes {
            valid: getattr::BASIC,
            qid: self.qid(inode),
            mode: kind | file.mode,
            nlink: file.nlink,
            size: size as u64,
            mtime_sec: file.mtime,
            ..Attributes::default()
        })
    }
}

/// What a reply refers to stays in memory: tests are short.
fn kept<T>(part: T) -> &'static T {
    Box::leak(Box::new(part))
}

/// The bytes of a reply.
pub fn encode(tag: u16, reply: &Rmessage<'_>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let length = reply.encode(tag, &mut bytes).expect("replies are short");
    bytes.truncate(length);
    bytes.extend_from_slice(payload);
    let header = Header::decode(&bytes).expect("it was just encoded");
    assert_eq!(header.size as usize, bytes.len());
    assert!(bytes.len() >= HEADER_LEN);
    bytes
}

//! A 9P client for tests, and the behaviours that every backend is tested for.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(unreachable_pub, reason = "it is a module of test programs, which export nothing")]

pub mod behaviours;
pub mod gated;
pub mod legacy;
pub mod raw;
#[cfg(feature = "mount")]
pub mod relayed;
pub mod serving;

use std::{
    any::Any,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ninering::{
    backend::{Backend, NodeRef, User},
    payload::Payload,
    server::{Server, ServerOptions, Session},
};
use ninering_wire::{
    Attributes, DirEntries, Errno, Frame, Lock, LockStatus, LockType, NOFID, NOTAG, Names, Qid, Rmessage,
    SetAttributes, Statfs, Str, TWRITE_LEN, Tmessage, VERSION_9P2000L, getattr,
};

use self::serving::Serving;

/// The fid of the root, after [`Client::attached`].
pub const ROOT: u32 = 0;

/// Something that is served, and how to reach it.
pub struct Export {
    connect: Box<dyn Fn() -> Client>,
    /// What must live as long: a temporary directory, for one.
    _guard: Box<dyn Any>,
}

impl Export {
    /// One whose sessions are called.
    pub fn called(backend: impl Backend, guard: impl Any) -> Self {
        let server = Server::new(Arc::new(backend), ServerOptions::default());
        Self { connect: Box::new(move || Client::attached(Arc::clone(&server))), _guard: Box::new(guard) }
    }

    /// One that is served on a Unix socket.
    pub fn on_unix_socket(backend: impl Backend, guard: impl Any) -> Self {
        Self::served(backend, guard, Serving::on_unix_socket)
    }

    /// One that is served on a TCP socket.
    pub fn on_tcp_socket(backend: impl Backend, guard: impl Any) -> Self {
        Self::served(backend, guard, Serving::on_tcp_socket)
    }

    fn served(backend: impl Backend, guard: impl Any, serve: fn(Arc<Server>) -> Serving) -> Self {
        let serving = serve(Server::new(Arc::new(backend), ServerOptions::default()));
        let connect = move || {
            let mut client = serving.client();
            client.begin();
            client
        };
        Self { connect: Box::new(connect), _guard: Box::new(guard) }
    }

    /// A new client, attached to [`ROOT`].
    pub fn client(&self) -> Client {
        (self.connect)()
    }
}

/// A backend of which the server must believe that it waits.
pub struct Waiting<B>(pub B);

impl<B: Backend> Backend for Waiting<B> {
    fn attach(&self, user: &User, aname: &[u8]) -> Result<NodeRef, Errno> {
        self.0.attach(user, aname)
    }
}

/// Moves a request to a server, and its reply back.
pub trait Transport: Send {
    fn exchange(&mut self, request: Vec<u8>) -> Vec<u8>;
}

/// Calls the session.
pub struct Direct {
    pub session: Arc<Session>,
    /// How much space a reply gets; what the session says if this is none.
    pub space: Option<usize>,
}

impl Transport for Direct {
    fn exchange(&mut self, mut request: Vec<u8>) -> Vec<u8> {
        let length = if request.get(4) == Some(&118) { TWRITE_LEN.min(request.len()) } else { request.len() };
        let (message, payload) = request.split_at_mut(length);
        let capacity = self.space.unwrap_or_else(|| self.session.reply_capacity(message));
        // Bytes behind the space show whether the session writes past it.
        let mut reply = vec![0xa5; capacity + 64];
        let (space, behind) = reply.split_at_mut(capacity);
        let length = self.session.handle(message, &Payload::from(payload), &Payload::from(space));
        assert!(length <= capacity, "a reply of {length} bytes in {capacity}");
        assert!(behind.iter().all(|&byte| byte == 0xa5));
        reply.truncate(length);
        reply
    }
}

/// Sends it through a socket.
pub struct Socket<S>(pub S);

impl<S: Read + Write + Send> Transport for Socket<S> {
    fn exchange(&mut self, request: Vec<u8>) -> Vec<u8> {
        self.0.write_all(&request).expect("the server reads");
        receive(&mut self.0).expect("the server replies")
    }
}

/// Reads one whole message.
pub fn receive(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    stream.read_exact(&mut message)?;
    let size = u32::from_le_bytes(message[..4].try_into().expect("four bytes")) as usize;
    message.resize(size, 0);
    stream.read_exact(&mut message[4..])?;
    Ok(message)
}

/// The bytes of a request.
pub fn encode(tag: u16, message: &Tmessage<'_>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let length = message.encode(tag, &mut bytes).expect("the message fits");
    bytes.truncate(length);
    bytes.extend_from_slice(payload);
    bytes
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub qid: Qid,
    pub offset: u64,
    pub kind: u8,
}

static NEXT_FID: AtomicU32 = AtomicU32::new(1000);

/// A fid that no test uses otherwise.
pub fn fresh() -> u32 {
    NEXT_FID.fetch_add(1, Ordering::Relaxed)
}

type Answer<T> = Result<T, Errno>;
/// A lock's kind, its start and length, and the client and process that have it.
type LockHolder = (LockType, (u64, u64), (String, u32));

/// A client that waits for each reply.
pub struct Client {
    pub transport: Box<dyn Transport>,
    next_tag: u16,
}

impl Client {
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport), next_tag: 0 }
    }

    /// One that calls a session of `server`, and has attached as this process's user to [`ROOT`].
    pub fn attached(server: Arc<Server>) -> Self {
        Self::of_session(Arc::new(server.session()))
    }

    pub fn of_session(session: Arc<Session>) -> Self {
        let mut client = Self::new(Direct { session, space: None });
        client.begin();
        client
    }

    /// Agrees on a version and attaches to [`ROOT`].
    pub fn begin(&mut self) {
        assert!(self.version(1 << 20).is_ok());
        assert!(self.attach(ROOT, "").expect("the root").kind.is_dir());
    }

    /// Sends a request; returns the whole reply, or what an `Rlerror` says.
    pub fn call(&mut self, message: &Tmessage<'_>, payload: &[u8]) -> Answer<Vec<u8>> {
        let tag = if matches!(message, Tmessage::Tversion { .. }) { NOTAG } else { self.next_tag };
        self.next_tag = (self.next_tag + 1) % 1000;
        let request = encode(tag, message, payload);
        let kind = request[4];
        let reply = self.transport.exchange(request);
        let frame = Frame::<Rmessage<'_>>::decode(&reply).expect("a reply");
        assert_eq!(frame.tag, tag);
        if let Rmessage::Rlerror { ecode } = frame.message {
            return Err(Errno(ecode));
        }
        assert_eq!(reply[4], kind + 1, "{:?} to {message:?}", frame.message);
        Ok(reply)
    }

    /// Of requests whose reply says nothing.
    pub fn done(&mut self, message: &Tmessage<'_>) -> Answer<()> {
        self.call(message, &[]).map(drop)
    }

    /// Of requests whose reply begins with a qid.
    fn qid(&mut self, message: &Tmessage<'_>) -> Answer<Qid> {
        let reply = self.call(message, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rattach { qid }
            | Rmessage::Rlopen { qid, iounit: 0 }
            | Rmessage::Rlcreate { qid, iounit: 0 }
            | Rmessage::Rmkdir { qid }
            | Rmessage::Rsymlink { qid }
            | Rmessage::Rmknod { qid } => Ok(qid),
            other => panic!("{other:?} has no qid"),
        }
    }

    pub fn version(&mut self, msize: u32) -> Answer<(u32, Vec<u8>)> {
        let reply = self.call(&Tmessage::Tversion { msize, version: Str(VERSION_9P2000L) }, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rversion { msize, version } => Ok((msize, version.to_vec())),
            other => panic!("{other:?}"),
        }
    }

    pub fn attach(&mut self, fid: u32, aname: &str) -> Answer<Qid> {
        let n_uname = rustix::process::geteuid().as_raw();
        self.qid(&Tmessage::Tattach { fid, afid: NOFID, uname: Str(b""), aname: aname.into(), n_uname })
    }

    pub fn walk(&mut self, fid: u32, newfid: u32, names: &[&str]) -> Answer<Vec<Qid>> {
        let names: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
        self.walk_bytes(fid, newfid, &names)
    }

    pub fn walk_bytes(&mut self, fid: u32, newfid: u32, names: &[&[u8]]) -> Answer<Vec<Qid>> {
        let names: Vec<_> = names.iter().map(|name| Str(name)).collect();
        let names = Names::new(&names).expect("at most 16");
        let reply = self.call(&Tmessage::Twalk { fid, newfid, names }, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rwalk { qids } => Ok(qids.iter().collect()),
            other => panic!("{other:?}"),
        }
    }

    /// A new fid for a path, of which all must be walked.
    pub fn at(&mut self, path: &str) -> Answer<u32> {
        let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        let fid = fresh();
        self.walk(ROOT, fid, &[])?;
        for names in names.chunks(16) {
            let walked = self.walk(fid, fid, names).map(|qids| qids.len());
            if walked != Ok(names.len()) {
                self.clunk(fid)?;
                return Err(walked.err().unwrap_or(Errno::ENOENT));
            }
        }
        Ok(fid)
    }

    pub fn exists(&mut self, path: &str) -> bool {
        self.at(path).and_then(|fid| self.clunk(fid)).is_ok()
    }

    pub fn clunk(&mut self, fid: u32) -> Answer<()> {
        self.done(&Tmessage::Tclunk { fid })
    }

    pub fn lopen(&mut self, fid: u32, flags: u32) -> Answer<Qid> {
        self.qid(&Tmessage::Tlopen { fid, flags })
    }

    /// A new fid for a path, opened.
    pub fn open(&mut self, path: &str, flags: u32) -> Answer<u32> {
        let fid = self.at(path)?;
        self.lopen(fid, flags).map(|_| fid).inspect_err(|_| self.clunk(fid).expect("the fid is there"))
    }

    pub fn lcreate(&mut self, fid: u32, name: &[u8], flags: u32, mode: u32) -> Answer<Qid> {
        self.qid(&Tmessage::Tlcreate { fid, name: Str(name), flags, mode, gid: gid() })
    }

    /// A new fid for a file made in the directory of that path, open.
    pub fn create(&mut self, directory: &str, name: &str, flags: u32, mode: u32) -> Answer<u32> {
        let fid = self.at(directory)?;
        self.lcreate(fid, name.as_bytes(), flags, mode)
            .map(|_| fid)
            .inspect_err(|_| self.clunk(fid).expect("the fid is there"))
    }

    /// Makes a file with these contents.
    pub fn make(&mut self, directory: &str, name: &str, contents: &[u8]) {
        let fid = self.create(directory, name, ninering_wire::lopen::RDWR, 0o644).expect("a file");
        let mut written = 0;
        while written < contents.len() {
            let piece = &contents[written..contents.len().min(written + 60_000)];
            written += self.write(fid, written as u64, piece).expect("space") as usize;
        }
        self.clunk(fid).expect("the fid is there");
    }

    /// The contents of the file at a path.
    pub fn contents(&mut self, path: &str) -> Answer<Vec<u8>> {
        let fid = self.open(path, ninering_wire::lopen::RDONLY)?;
        let mut contents = Vec::new();
        loop {
            let piece = self.read(fid, contents.len() as u64, 50_000)?;
            if piece.is_empty() {
                self.clunk(fid)?;
                return Ok(contents);
            }
            contents.extend(piece);
        }
    }

    pub fn read(&mut self, fid: u32, offset: u64, count: u32) -> Answer<Vec<u8>> {
        let reply = self.call(&Tmessage::Tread { fid, offset, count }, &[])?;
        Ok(Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").payload.to_vec())
    }

    pub fn write(&mut self, fid: u32, offset: u64, bytes: &[u8]) -> Answer<u32> {
        let reply = self.call(&Tmessage::Twrite { fid, offset, count: bytes.len() as u32 }, bytes)?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rwrite { count } => Ok(count),
            other => panic!("{other:?}"),
        }
    }

    pub fn readdir(&mut self, fid: u32, offset: u64, count: u32) -> Answer<Vec<Listed>> {
        let reply = self.call(&Tmessage::Treaddir { fid, offset, count }, &[])?;
        let payload = Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").payload;
        assert!(payload.len() <= count as usize);
        let listed = DirEntries::new(payload).map(|entry| {
            let entry = entry.expect("whole entries");
            let name = String::from_utf8(entry.name.to_vec()).expect("the tests' names are UTF-8");
            Listed { name, qid: entry.qid, offset: entry.offset, kind: entry.kind }
        });
        Ok(listed.collect())
    }

    /// All entries of a directory but `.` and `..`, by pieces of `count` bytes.
    pub fn list(&mut self, path: &str, count: u32) -> Answer<Vec<Listed>> {
        let fid = self.open(path, ninering_wire::lopen::RDONLY)?;
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let piece = self.readdir(fid, offset, count)?;
            let Some(last) = piece.last() else { break };
            offset = last.offset;
            all.extend(piece);
        }
        self.clunk(fid)?;
        for dots in [".", ".."] {
            assert_eq!(all.iter().filter(|entry| entry.name == dots).count(), 1);
        }
        all.retain(|entry| entry.name != "." && entry.name != "..");
        Ok(all)
    }

    /// The names in a directory, sorted.
    pub fn names(&mut self, path: &str) -> Vec<String> {
        let mut names: Vec<_> = self.list(path, 8000).expect("a list").into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    }

    pub fn getattr(&mut self, fid: u32) -> Answer<Attributes> {
        let reply = self.call(&Tmessage::Tgetattr { fid, request_mask: getattr::ALL }, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rgetattr { attributes } => {
                assert_eq!(attributes.get().valid & getattr::BASIC, getattr::BASIC);
                Ok(attributes.get())
            }
            other => panic!("{other:?}"),
        }
    }

    /// The attributes of the file at a path.
    pub fn stat(&mut self, path: &str) -> Answer<Attributes> {
        let fid = self.at(path)?;
        let attributes = self.getattr(fid);
        self.clunk(fid)?;
        attributes
    }

    pub fn setattr(&mut self, fid: u32, attributes: SetAttributes) -> Answer<()> {
        self.done(&Tmessage::Tsetattr { fid, attributes: (&attributes).into() })
    }

    pub fn mkdir(&mut self, directory: &str, name: &str) -> Answer<Qid> {
        let fid = self.at(directory)?;
        let made = self.mkdir_in(fid, name.as_bytes(), 0o755);
        self.clunk(fid)?;
        made
    }

    pub fn mkdir_in(&mut self, dfid: u32, name: &[u8], mode: u32) -> Answer<Qid> {
        self.qid(&Tmessage::Tmkdir { dfid, name: Str(name), mode, gid: gid() })
    }

    pub fn symlink(&mut self, fid: u32, name: &[u8], target: &[u8]) -> Answer<Qid> {
        self.qid(&Tmessage::Tsymlink { fid, name: Str(name), target: Str(target), gid: gid() })
    }

    pub fn readlink(&mut self, fid: u32) -> Answer<Vec<u8>> {
        let reply = self.call(&Tmessage::Treadlink { fid }, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rreadlink { target } => Ok(target.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    pub fn mknod(&mut self, fid: u32, name: &[u8], mode: u32, (major, minor): (u32, u32)) -> Answer<Qid> {
        self.qid(&Tmessage::Tmknod { fid, name: Str(name), mode, major, minor, gid: gid() })
    }

    /// Makes `name` in the directory a link to the file at `path`.
    pub fn link(&mut self, path: &str, directory: &str, name: &str) -> Answer<()> {
        let (fid, dfid) = (self.at(path)?, self.at(directory)?);
        self.done(&Tmessage::Tlink { dfid, fid, name: name.into() })
    }

    /// By `Trenameat`.
    pub fn rename(&mut self, directory: &str, name: &str, new_directory: &str, new_name: &str) -> Answer<()> {
        let (olddirfid, newdirfid) = (self.at(directory)?, self.at(new_directory)?);
        self.done(&Tmessage::Trenameat { olddirfid, oldname: name.into(), newdirfid, newname: new_name.into() })
    }

    pub fn unlink(&mut self, directory: &str, name: &str, flags: u32) -> Answer<()> {
        let dirfid = self.at(directory)?;
        let removed = self.done(&Tmessage::Tunlinkat { dirfid, name: name.into(), flags });
        self.clunk(dirfid)?;
        removed
    }

    /// Makes a new fid of an extended attribute, or of their list, and tells its size too.
    pub fn xattrwalk(&mut self, fid: u32, name: &[u8]) -> Answer<(u32, u64)> {
        let newfid = fresh();
        let reply = self.call(&Tmessage::Txattrwalk { fid, newfid, name: Str(name) }, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rxattrwalk { size } => Ok((newfid, size)),
            other => panic!("{other:?}"),
        }
    }

    /// The value of an extended attribute, read as Linux's client does.
    pub fn xattr(&mut self, fid: u32, name: &[u8]) -> Answer<Vec<u8>> {
        let (newfid, size) = self.xattrwalk(fid, name)?;
        let mut value = Vec::new();
        while (value.len() as u64) < size {
            let piece = self.read(newfid, value.len() as u64, 50_000)?;
            assert!(!piece.is_empty(), "it is as long as it said");
            value.extend(piece);
        }
        assert_eq!(self.read(newfid, size, 10)?, b"");
        self.clunk(newfid)?;
        Ok(value)
    }

    /// The names of a file's extended attributes, sorted.
    pub fn xattrs(&mut self, fid: u32) -> Answer<Vec<String>> {
        let list = self.xattr(fid, b"")?;
        let names = list.split_inclusive(|&byte| byte == 0).map(|name| name.strip_suffix(&[0]).expect("a NUL"));
        let mut names: Vec<_> = names.map(|name| String::from_utf8(name.to_vec()).expect("UTF-8")).collect();
        names.sort();
        Ok(names)
    }

    /// Sets an extended attribute as Linux's client does.
    pub fn set_xattr(&mut self, fid: u32, name: &[u8], value: &[u8], flags: u32) -> Answer<()> {
        let clone = fresh();
        self.walk(fid, clone, &[])?;
        let created =
            self.done(&Tmessage::Txattrcreate { fid: clone, name: Str(name), size: value.len() as u64, flags });
        let mut written = 0;
        while created.is_ok() && written < value.len() {
            let piece = &value[written..value.len().min(written + 50_000)];
            written += self.write(clone, written as u64, piece)? as usize;
        }
        created.and(self.clunk(clone))
    }

    /// Asks for a lock as the process `proc_id` of `client_id`; a length of 0 is to the end.
    pub fn lock_as(
        &mut self,
        (client_id, proc_id): (&str, u32),
        fid: u32,
        kind: LockType,
        (start, length): (u64, u64),
    ) -> Answer<LockStatus> {
        let client_id = client_id.into();
        let reply = self.call(&Tmessage::Tlock { fid, kind, flags: 0, start, length, proc_id, client_id }, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rlock { status } => Ok(status),
            other => panic!("{other:?}"),
        }
    }

    /// As [`Self::lock_as`], as the process 1 of `client`.
    pub fn lock(&mut self, fid: u32, kind: LockType, range: (u64, u64)) -> Answer<LockStatus> {
        self.lock_as(("client", 1), fid, kind, range)
    }

    /// What would be in the way of a lock of the process `proc_id` of `client`: its kind, range, and owner.
    pub fn getlock(
        &mut self,
        proc_id: u32,
        fid: u32,
        kind: LockType,
        (start, length): (u64, u64),
    ) -> Answer<LockHolder> {
        let lock = Lock { kind, start, length, proc_id, client_id: "client".into() };
        let reply = self.call(&Tmessage::Tgetlock { fid, lock }, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rgetlock { lock: Lock { kind, start, length, proc_id, client_id } } => {
                let client_id = String::from_utf8(client_id.to_vec()).expect("UTF-8");
                Ok((kind, (start, length), (client_id, proc_id)))
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn statfs(&mut self, fid: u32) -> Answer<Statfs> {
        let reply = self.call(&Tmessage::Tstatfs { fid }, &[])?;
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rstatfs { statfs } => Ok(statfs.get()),
            other => panic!("{other:?}"),
        }
    }
}

/// The group that files are made with: this process's, so that anybody can run the tests.
pub fn gid() -> u32 {
    rustix::process::getegid().as_raw()
}

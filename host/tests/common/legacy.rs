//! A client for tests that speaks 9P2000 or 9P2000.u.

use std::{marker::PhantomData, sync::Arc};

use ninering::server::{Server, Session};
use ninering_wire::{
    Errno, Frame, NOFID, NOTAG, Names, Qid, Rmessage, Str, Tmessage,
    legacy::{self, Counted, Dialect, Stat, Stats, UnixOnly},
};

use super::{Direct, ROOT, Transport, encode, fresh};

/// Why a request failed: the text, and the number where the dialect has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub ename: String,
    pub errno: Option<Errno>,
}

impl Refused {
    /// As the dialect `D` tells of `errno`.
    pub fn of<D: Dialect>(errno: Errno) -> Self {
        Self { ename: errno.description().into(), errno: D::IS_UNIX.then_some(errno) }
    }
}

type Answer<T> = Result<T, Refused>;

/// A file as a stat tells of it, without its lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub qid: Qid,
    pub mode: u32,
    pub atime: u32,
    pub mtime: u32,
    pub length: u64,
    pub name: String,
    pub uid: String,
    pub gid: String,
    pub muid: String,
    pub extension: Option<String>,
    pub n_uid: Option<u32>,
    pub n_gid: Option<u32>,
    pub n_muid: Option<u32>,
}

impl<D: Dialect> From<Stat<'_, D>> for Told {
    fn from(stat: Stat<'_, D>) -> Self {
        assert_eq!((stat.kind, stat.dev), (0, 0));
        let text = |bytes: Str<'_>| String::from_utf8(bytes.to_vec()).expect("the tests' names are UTF-8");
        Self {
            qid: stat.qid,
            mode: stat.mode,
            atime: stat.atime,
            mtime: stat.mtime,
            length: stat.length,
            name: text(stat.name),
            uid: text(stat.uid),
            gid: text(stat.gid),
            muid: text(stat.muid),
            extension: stat.extension.get().map(text),
            n_uid: stat.n_uid.get(),
            n_gid: stat.n_gid.get(),
            n_muid: stat.n_muid.get(),
        }
    }
}

/// A client that waits for each reply.
pub struct LegacyClient<D> {
    pub transport: Box<dyn Transport>,
    next_tag: u16,
    dialect: PhantomData<D>,
}

impl<D: Dialect> LegacyClient<D> {
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport), next_tag: 0, dialect: PhantomData }
    }

    /// One that has agreed on its dialect with `server`, and attached to [`ROOT`].
    pub fn attached(server: &Arc<Server>) -> Self {
        Self::of_session(Arc::new(server.session()))
    }

    pub fn of_session(session: Arc<Session>) -> Self {
        let mut client = Self::new(Direct { session, space: None });
        client.begin();
        client
    }

    pub fn begin(&mut self) {
        assert_eq!(self.version(1 << 20, D::VERSION), (1 << 20, D::VERSION.to_vec()));
        assert!(self.attach(ROOT, "").expect("the root").kind.is_dir());
    }

    /// Agrees on a version, if the server does.
    pub fn version(&mut self, msize: u32, version: &[u8]) -> (u32, Vec<u8>) {
        let reply = self.transport.exchange(encode(NOTAG, &Tmessage::Tversion { msize, version: Str(version) }, &[]));
        match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
            Rmessage::Rversion { msize, version } => (msize, version.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request; returns the whole reply, or what an `Rerror` says.
    pub fn call(&mut self, message: &legacy::Tmessage<'_, D>, payload: &[u8]) -> Answer<Vec<u8>> {
        let tag = self.next_tag;
        self.next_tag = (self.next_tag + 1) % 1000;
        let mut request = vec![0; 140_000];
        let length = message.encode(tag, &mut request).expect("the message fits");
        request.truncate(length);
        request.extend_from_slice(payload);
        let kind = request[4];
        let reply = self.transport.exchange(request);
        let frame = Frame::<legacy::Rmessage<'_, D>>::decode(&reply).expect("a reply");
        assert_eq!(frame.tag, tag);
        if let legacy::Rmessage::Rerror { ename, errno } = frame.message {
            let ename = String::from_utf8(ename.to_vec()).expect("errors are texts");
            return Err(Refused { ename, errno: errno.get().map(Errno) });
        }
        assert_eq!(reply[4], kind + 1, "{:?} to {message:?}", frame.message);
        Ok(reply)
    }

    /// Of requests whose reply says nothing.
    pub fn done(&mut self, message: &legacy::Tmessage<'_, D>) -> Answer<()> {
        self.call(message, &[]).map(drop)
    }

    fn qid(&mut self, message: &legacy::Tmessage<'_, D>) -> Answer<Qid> {
        let reply = self.call(message, &[])?;
        match Frame::<legacy::Rmessage<'_, D>>::decode(&reply).expect("a reply").message {
            legacy::Rmessage::Rattach { qid }
            | legacy::Rmessage::Ropen { qid, iounit: 0 }
            | legacy::Rmessage::Rcreate { qid, iounit: 0 } => Ok(qid),
            other => panic!("{other:?} has no qid"),
        }
    }

    pub fn attach(&mut self, fid: u32, aname: &str) -> Answer<Qid> {
        let n_uname = UnixOnly::new(rustix::process::geteuid().as_raw());
        self.qid(&legacy::Tmessage::Tattach { fid, afid: NOFID, uname: "root".into(), aname: aname.into(), n_uname })
    }

    pub fn walk(&mut self, fid: u32, newfid: u32, names: &[&str]) -> Answer<Vec<Qid>> {
        let names: Vec<_> = names.iter().map(|name| Str::from(*name)).collect();
        let names = Names::new(&names).expect("at most 16");
        let reply = self.call(&legacy::Tmessage::Twalk { fid, newfid, names }, &[])?;
        match Frame::<legacy::Rmessage<'_, D>>::decode(&reply).expect("a reply").message {
            legacy::Rmessage::Rwalk { qids } => Ok(qids.iter().collect()),
            other => panic!("{other:?}"),
        }
    }

    /// A new fid for a path of few names, of which all must be walked.
    pub fn at(&mut self, path: &str) -> Answer<u32> {
        let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        let fid = fresh();
        match self.walk(ROOT, fid, &names)?.len() {
            walked if walked == names.len() => Ok(fid),
            _ => Err(Refused::of::<D>(Errno::ENOENT)),
        }
    }

    pub fn exists(&mut self, path: &str) -> bool {
        self.at(path).and_then(|fid| self.clunk(fid)).is_ok()
    }

    pub fn clunk(&mut self, fid: u32) -> Answer<()> {
        self.done(&legacy::Tmessage::Tclunk { fid })
    }

    pub fn remove(&mut self, fid: u32) -> Answer<()> {
        self.done(&legacy::Tmessage::Tremove { fid })
    }

    pub fn open(&mut self, fid: u32, mode: u8) -> Answer<Qid> {
        self.qid(&legacy::Tmessage::Topen { fid, mode })
    }

    /// A new fid for a path, opened.
    pub fn opened(&mut self, path: &str, mode: u8) -> Answer<u32> {
        let fid = self.at(path)?;
        self.open(fid, mode).map(|_| fid).inspect_err(|_| self.clunk(fid).expect("the fid is there"))
    }

    pub fn create_in(&mut self, fid: u32, name: &str, perm: u32, mode: u8, extension: &str) -> Answer<Qid> {
        let extension = UnixOnly::new(extension.into());
        self.qid(&legacy::Tmessage::Tcreate { fid, name: name.into(), perm, mode, extension })
    }

    /// A new fid for a file made in the directory of that path.
    pub fn create(&mut self, directory: &str, name: &str, perm: u32, mode: u8, extension: &str) -> Answer<u32> {
        let fid = self.at(directory)?;
        self.create_in(fid, name, perm, mode, extension)
            .map(|_| fid)
            .inspect_err(|_| self.clunk(fid).expect("the fid is there"))
    }

    /// Makes a file with these contents.
    pub fn make(&mut self, directory: &str, name: &str, contents: &[u8]) {
        let fid = self.create(directory, name, 0o644, legacy::open::WRITE, "").expect("a file");
        assert_eq!(self.write(fid, 0, contents), Ok(contents.len() as u32));
        self.clunk(fid).expect("the fid is there");
    }

    /// Makes a directory.
    pub fn mkdir(&mut self, directory: &str, name: &str) {
        let fid = self.create(directory, name, legacy::perm::DIR | 0o755, legacy::open::READ, "").expect("a directory");
        self.clunk(fid).expect("the fid is there");
    }

    pub fn read(&mut self, fid: u32, offset: u64, count: u32) -> Answer<Vec<u8>> {
        let reply = self.call(&legacy::Tmessage::Tread { fid, offset, count }, &[])?;
        let payload = Frame::<legacy::Rmessage<'_, D>>::decode(&reply).expect("a reply").payload;
        assert!(payload.len() <= count as usize);
        Ok(payload.to_vec())
    }

    pub fn write(&mut self, fid: u32, offset: u64, bytes: &[u8]) -> Answer<u32> {
        let reply = self.call(&legacy::Tmessage::Twrite { fid, offset, count: bytes.len() as u32 }, bytes)?;
        match Frame::<legacy::Rmessage<'_, D>>::decode(&reply).expect("a reply").message {
            legacy::Rmessage::Rwrite { count } => Ok(count),
            other => panic!("{other:?}"),
        }
    }

    pub fn contents(&mut self, path: &str) -> Answer<Vec<u8>> {
        let fid = self.opened(path, legacy::open::READ)?;
        let contents = self.read(fid, 0, 100_000)?;
        self.clunk(fid)?;
        Ok(contents)
    }

    pub fn stat(&mut self, fid: u32) -> Answer<Told> {
        let reply = self.call(&legacy::Tmessage::Tstat { fid }, &[])?;
        match Frame::<legacy::Rmessage<'_, D>>::decode(&reply).expect("a reply").message {
            legacy::Rmessage::Rstat { stat } => Ok(stat.0.into()),
            other => panic!("{other:?}"),
        }
    }

    /// The stat of the file at a path.
    pub fn stat_at(&mut self, path: &str) -> Answer<Told> {
        let fid = self.at(path)?;
        let told = self.stat(fid);
        self.clunk(fid)?;
        told
    }

    pub fn wstat(&mut self, fid: u32, stat: Stat<'_, D>) -> Answer<()> {
        self.done(&legacy::Tmessage::Twstat { fid, stat: Counted(stat) })
    }

    /// [`Self::wstat`] of the file at a path.
    pub fn wstat_at(&mut self, path: &str, stat: Stat<'_, D>) -> Answer<()> {
        let fid = self.at(path)?;
        let done = self.wstat(fid, stat);
        self.clunk(fid)?;
        done
    }

    /// All that an open directory has, by reads of `count` bytes.
    pub fn listing(&mut self, fid: u32, count: u32) -> Answer<Vec<Told>> {
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let piece = self.read(fid, offset, count)?;
            if piece.is_empty() {
                return Ok(all);
            }
            offset += piece.len() as u64;
            all.extend(Stats::<D>::new(&piece).map(|stat| Told::from(stat.expect("whole stats"))));
        }
    }

    /// The names in a directory, sorted.
    pub fn names(&mut self, path: &str) -> Vec<String> {
        let fid = self.opened(path, legacy::open::READ).expect("a directory");
        let mut names: Vec<_> = self.listing(fid, 8000).expect("a list").into_iter().map(|told| told.name).collect();
        self.clunk(fid).expect("the fid is there");
        names.sort();
        names
    }
}

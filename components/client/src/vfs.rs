//! Filesystem calls (`fs/9p`): nodes, which are open files, and what is done with them and with paths.
//!
//! Errors are Linux's. Where a server's own error would do, it is left to the server; what it cannot know, such as
//! a slash at a path's end, is asked for here.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use ninering_wire::{
    AT_REMOVEDIR, Attributes, Errno, NONUNAME, Names, PATH_MAX, Qid, SetAttributes, Statfs, Tmessage, lopen, mode,
};

pub use crate::transfer::Entry;
use crate::{
    error::Error,
    ring::{Direction, Ring},
    session::{self, Fid, Session},
    transfer::Io,
    walk::{Arrival, Last, Name, Tail, Visit, Walker},
};

/// An open file or directory of this mount; 0 is the mount's root.
pub type NodeNumber = u32;

/// How often a file is looked for again that is there, is not, and is there by turns.
const MOST_CREATE_ATTEMPTS: u32 = 8;
/// How often a directory is read on where all entries were `.` and `..`, of which an honest server has two.
const MOST_DOT_REPLIES: u32 = 3;

/// How to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are the flags of open(2)")]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Make it if it is not there.
    pub create: bool,
    /// Fail if it is there. Only with `create`.
    pub exclusive: bool,
    /// Fail unless it is a directory.
    pub directory: bool,
    /// Cut it to no bytes.
    pub truncate: bool,
    /// Follow a symbolic link at the end of the path.
    pub follow: bool,
    /// Writes return when they are on stable storage.
    pub sync: bool,
    /// The same for the data alone.
    pub data_sync: bool,
}

/// What a completed operation yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    None,
    /// Bytes read or written.
    Count(u64),
    /// A new node.
    Opened {
        /// By which it is known.
        node: NodeNumber,
        /// Its file.
        qid: Qid,
    },
    /// Which file it is.
    Qid(Qid),
    /// What `stat(2)` tells.
    Attributes(Attributes),
    /// A piece of a directory.
    Entries {
        /// Without `.` and `..`.
        entries: Vec<Entry>,
        /// No entries are left behind these.
        end: bool,
    },
    /// The target of a symbolic link.
    Target(Vec<u8>),
    /// What `statfs(2)` tells.
    Statistics(Statfs),
}

/// An open file or directory.
pub struct Node<R: Ring> {
    pub(crate) fid: Fid<R>,
    pub(crate) qid: Qid,
    pub(crate) is_root: bool,
    /// Opened by `Tlopen` or `Tlcreate`. Directories never are, for no path can be walked from an open fid.
    is_open: bool,
    readable: bool,
    writable: bool,
    append: bool,
    iounit: u32,
    /// For directories: another fid, to read entries by, opened when it is first needed.
    listing: RefCell<Option<Rc<Fid<R>>>>,
}

impl<R: Ring> Node<R> {
    /// A node that is not opened.
    fn handle(fid: Fid<R>, qid: Qid) -> Self {
        Self {
            fid,
            qid,
            is_root: false,
            is_open: false,
            readable: false,
            writable: false,
            append: false,
            iounit: 0,
            listing: RefCell::new(None),
        }
    }
}

/// What is where a path leads.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Found<R: Ring> {
    /// A file, which is open now.
    Opened(Value),
    /// Nothing; but the walker stands where it should be.
    Missing(Walker<R>, Name),
}

/// The filesystem calls of one mount.
pub struct Vfs<R: Ring> {
    session: Rc<Session<R>>,
    /// `None` for numbers that are free.
    nodes: RefCell<Vec<Option<Rc<Node<R>>>>>,
    free_nodes: RefCell<Vec<NodeNumber>>,
    /// The group of files that are made.
    gid: Cell<u32>,
    /// Servers without these messages are asked for them once.
    lacks_renameat: Cell<bool>,
    lacks_unlinkat: Cell<bool>,
}

impl<R: Ring> Vfs<R> {
    /// The filesystem calls on a session.
    pub fn new(session: Rc<Session<R>>) -> Self {
        Self {
            session,
            nodes: RefCell::default(),
            free_nodes: RefCell::default(),
            gid: Cell::new(0),
            lacks_renameat: Cell::new(false),
            lacks_unlinkat: Cell::new(false),
        }
    }

    /// Negotiates with the server and attaches.
    ///
    /// # Errors
    /// The server's; `EALREADY` the second time.
    pub async fn start(&self, msize: u32, uname: &str, aname: &str, n_uname: u32) -> Result<Value, Error> {
        if self.session.msize() != 0 {
            return Err(Errno::EALREADY.into());
        }
        self.session.version(msize).await?;
        let (fid, qid) = self.session.attach(uname, aname, n_uname).await?;
        // What Linux sends is the group of the process that makes a file, which nobody here knows. The user's number
        // is its own group's number on most systems, and 0 is where the user is root or unknown; a server that
        // keeps "no group" from chown(2) as it should is not to be had everywhere.
        self.gid.set(if n_uname == NONUNAME { 0 } else { n_uname });
        let root = Node { is_root: true, readable: true, ..Node::handle(fid, qid) };
        self.insert(root);
        Ok(Value::Qid(qid))
    }

    /// Forgets a node; the root stays.
    pub fn close(&self, number: NodeNumber) {
        if number == 0 {
            return;
        }
        let node = self.nodes.borrow_mut().get_mut(number as usize).and_then(Option::take);
        if let Some(node) = node {
            self.free_nodes.borrow_mut().push(number);
            // Clunked here, outside the borrow, unless an operation still uses it.
            drop(node);
        }
    }

    /// Opens, and perhaps makes, a file or directory.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub async fn open(&self, directory: NodeNumber, path: String, flags: OpenFlags, mode: u32) -> Result<Value, Error> {
        let base = self.node(directory)?;
        if flags.create && flags.directory || flags.exclusive && !flags.create {
            return Err(Errno::EINVAL.into());
        }
        if flags.create {
            return self.open_or_create(base, path, flags, mode).await;
        }
        let walker = Walker::new(&self.session, base, path)?;
        match self.find_and_open(walker, flags).await? {
            Found::Opened(value) => Ok(value),
            Found::Missing(..) => Err(Errno::ENOENT.into()),
        }
    }

    /// Opens what a path names, if it is there.
    async fn find_and_open(&self, mut walker: Walker<R>, flags: OpenFlags) -> Result<Found<R>, Error> {
        // Directories, and what is only looked at, are not opened.
        if !flags.directory && (flags.read || flags.write || flags.truncate) {
            match walker.visit_open(flags.follow, flags.for_open()).await? {
                Visit::Done((fid, qid, iounit)) => return Ok(Found::Opened(self.opened_file(fid, qid, iounit, flags))),
                Visit::Missing(name) => return Ok(Found::Missing(walker, name)),
                Visit::Unfinished => {}
            }
        }
        match walker.run(flags.follow).await? {
            Arrival::Found => Ok(Found::Opened(self.open_found(walker, flags).await?)),
            Arrival::Missing(name) => Ok(Found::Missing(walker, name)),
        }
    }

    async fn open_or_create(
        &self,
        base: Rc<Node<R>>,
        path: String,
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Value, Error> {
        let walker = Walker::new(&self.session, base.clone(), path.clone())?;
        if flags.exclusive || walker.tail().slash {
            let mut walker = walker;
            let last = walker.take_last();
            if let Last::Name { name, slash: false } = last {
                return self.create(walker, name, flags, mode).await;
            }
            walker.run_to_parent().await?;
            return match last {
                Last::Name { .. } => Err(Errno::EISDIR.into()),
                Last::Dot | Last::Parent => Err(if flags.exclusive { Errno::EEXIST } else { Errno::EISDIR }.into()),
            };
        }
        // Who truncates mostly makes a new file, and then it is one flight instead of two.
        if flags.truncate && self.session.can_visit() {
            let mut walker = Walker::new(&self.session, base.clone(), path.clone())?;
            if let Last::Name { name, slash: false } = walker.take_last() {
                match self.create(walker, name, flags, mode).await {
                    Err(Error::Errno(Errno::EEXIST)) => {}
                    result => return result,
                }
            }
        }
        let mut walker = walker;
        for _ in 1..MOST_CREATE_ATTEMPTS {
            match self.open_or_create_once(walker, flags, mode).await {
                // It was there and is not: another client has removed it. Or the other way round.
                Err(Error::Errno(Errno::ENOENT | Errno::EEXIST)) => {}
                result => return result,
            }
            walker = Walker::new(&self.session, base.clone(), path.clone())?;
        }
        self.open_or_create_once(walker, flags, mode).await
    }

    async fn open_or_create_once(&self, walker: Walker<R>, flags: OpenFlags, mode: u32) -> Result<Value, Error> {
        match self.find_and_open(walker, flags).await? {
            Found::Opened(value) => Ok(value),
            Found::Missing(walker, name) => self.create(walker, name, flags, mode).await,
        }
    }

    /// Opens what the walker has found.
    async fn open_found(&self, mut walker: Walker<R>, flags: OpenFlags) -> Result<Value, Error> {
        let qid = walker.qid();
        if qid.kind.is_symlink() {
            return Err(Errno::ELOOP.into());
        }
        if qid.kind.is_dir() {
            if flags.write || flags.append || flags.truncate || flags.create {
                return Err(Errno::EISDIR.into());
            }
            let fid = walker.own_fid().await?;
            return Ok(self.opened(Node { readable: flags.read, ..Node::handle(fid, qid) }));
        }
        if flags.directory {
            return Err(Errno::ENOTDIR.into());
        }
        let fid = walker.own_fid().await?;
        if !(flags.read || flags.write || flags.truncate) {
            return Ok(self.opened(Node::handle(fid, qid)));
        }
        let message = Tmessage::Tlopen { fid: fid.number(), flags: flags.for_open() };
        let (qid, iounit) = self.session.open(message).await?;
        Ok(self.opened_file(fid, qid, iounit, flags))
    }

    /// Makes a file that is not there, in the directory to which the walker leads.
    async fn create(&self, mut walker: Walker<R>, name: Name, flags: OpenFlags, mode: u32) -> Result<Value, Error> {
        let flags_of_create = flags.for_open() | lopen::CREATE | lopen::EXCL;
        let gid = self.gid.get();
        fn message<'w, R: Ring>(
            walker: &'w Walker<R>,
            fid: u32,
            (name, flags, mode, gid): (Name, u32, u32, u32),
        ) -> Tmessage<'w> {
            Tmessage::Tlcreate { fid, name: walker.name(name), flags, mode, gid }
        }
        let how = (name, flags_of_create, mode & mode::PERMISSIONS, gid);
        if let Visit::Done((fid, qid, iounit)) = walker.visit_create(|walker, fid| message(walker, fid, how)).await? {
            return Ok(self.opened_file(fid, qid, iounit, flags));
        }
        walker.run_to_parent().await?;
        // `Tlcreate` turns the directory's fid into the file's.
        let fid = walker.own_fid().await?;
        let (qid, iounit) = self.session.open(message(&walker, fid.number(), how)).await?;
        Ok(self.opened_file(fid, qid, iounit, flags))
    }

    fn opened_file(&self, fid: Fid<R>, qid: Qid, iounit: u32, flags: OpenFlags) -> Value {
        fid.set_open();
        self.opened(Node {
            is_open: true,
            readable: flags.read,
            writable: flags.write,
            append: flags.append,
            iounit,
            ..Node::handle(fid, qid)
        })
    }

    /// Reads at `offset` into the next `bytes` bytes of `iter`.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub async fn read(&self, number: NodeNumber, offset: u64, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        let node = self.node(number)?;
        if !node.readable {
            return Err(Errno::EBADF.into());
        }
        self.read_or_write(&node, Direction::Dest, offset, iter, bytes).await
    }

    /// Writes the next `bytes` bytes of `iter` at `offset`.
    ///
    /// # Errors
    /// Those of `pwrite(2)`.
    pub async fn write(&self, number: NodeNumber, offset: u64, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        let node = self.node(number)?;
        if !node.writable {
            return Err(Errno::EBADF.into());
        }
        self.read_or_write(&node, Direction::Source, offset, iter, bytes).await
    }

    async fn read_or_write(
        &self,
        node: &Node<R>,
        direction: Direction,
        offset: u64,
        iter: R::Iter,
        bytes: u64,
    ) -> Result<Value, Error> {
        if node.qid.kind.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        let io = Io {
            fid: node.fid.number(),
            offset,
            iter,
            bytes,
            direction,
            iounit: node.iounit,
            // A server may serve requests in any order, and each of these goes to where the file ends then.
            in_sequence: node.append && direction == Direction::Source,
        };
        Ok(Value::Count(self.session.transfer(&io).await?))
    }

    /// Reads a directory, from an entry's `offset` or 0 on.
    ///
    /// # Errors
    /// Those of `getdents(2)`.
    pub async fn read_directory(&self, number: NodeNumber, mut offset: u64) -> Result<Value, Error> {
        let node = self.node(number)?;
        if !node.qid.kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if !node.readable {
            return Err(Errno::EBADF.into());
        }
        let fid = self.listing(&node).await?;
        for _ in 0..MOST_DOT_REPLIES {
            let mut entries = self.session.read_directory(fid.number(), offset, u32::MAX).await?;
            let Some(last) = entries.last() else { return Ok(Value::Entries { entries, end: true }) };
            offset = last.offset;
            entries.retain(|entry| !matches!(entry.name.as_slice(), b"." | b".."));
            // Without an entry the caller would not know where to go on.
            if !entries.is_empty() {
                return Ok(Value::Entries { entries, end: false });
            }
        }
        Err(Errno::EIO.into())
    }

    /// The fid by which a directory's entries are read.
    async fn listing(&self, node: &Node<R>) -> Result<Rc<Fid<R>>, Error> {
        if let Some(fid) = &*node.listing.borrow() {
            return Ok(fid.clone());
        }
        let flags = lopen::RDONLY | lopen::DIRECTORY;
        let fid = if self.session.can_visit() {
            let open = |fid| Tmessage::Tlopen { fid, flags };
            let visited = self.session.visit(node.fid.number(), Names::default(), true, open, session::opened).await?;
            visited.done.transpose()?;
            visited.fid.ok_or(Errno::EIO)?
        } else {
            let fid = self.session.clone_fid(node.fid.number()).await?;
            self.session.open(Tmessage::Tlopen { fid: fid.number(), flags }).await?;
            fid
        };
        fid.set_open();
        // Another operation may have been faster; one of the two fids is let go.
        let fid = Rc::new(fid);
        *node.listing.borrow_mut() = Some(fid.clone());
        Ok(fid)
    }

    /// Yields when the file's data, or all of it, is on stable storage.
    ///
    /// # Errors
    /// Those of `fsync(2)`.
    pub async fn sync(&self, number: NodeNumber, data_only: bool) -> Result<Value, Error> {
        let node = self.node(number)?;
        let listing = match (node.is_open, node.readable) {
            (true, _) => None,
            (false, true) => Some(self.listing(&node).await?),
            (false, false) => return Err(Errno::EBADF.into()),
        };
        let fid = listing.as_deref().unwrap_or(&node.fid).number();
        self.order(Tmessage::Tfsync { fid, datasync: data_only.into() }).await
    }

    /// The attributes of a node.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub async fn stat(&self, number: NodeNumber) -> Result<Value, Error> {
        let node = self.node(number)?;
        Ok(Value::Attributes(self.session.getattr(node.fid.number()).await?))
    }

    /// The attributes of what a path names.
    ///
    /// # Errors
    /// Those of `fstatat(2)`.
    pub async fn stat_at(&self, directory: NodeNumber, path: String, follow: bool) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        match walker.visit(follow, session::getattr, session::attributes).await? {
            Visit::Done(attributes) => return Ok(Value::Attributes(attributes)),
            Visit::Missing(_) => return Err(Errno::ENOENT.into()),
            Visit::Unfinished => self.arrive(&mut walker, follow).await?,
        }
        Ok(Value::Attributes(self.session.getattr(walker.fid()).await?))
    }

    /// The qid of what a path names.
    ///
    /// # Errors
    /// Those of `fstatat(2)`.
    pub async fn identify_at(&self, directory: NodeNumber, path: String, follow: bool) -> Result<Value, Error> {
        Ok(Value::Qid(self.find(directory, path, follow).await?.qid()))
    }

    /// Changes the attributes of a node.
    ///
    /// # Errors
    /// Those of `fchmod(2)` and its like.
    pub async fn set_attributes(&self, number: NodeNumber, changes: SetAttributes) -> Result<Value, Error> {
        let node = self.node(number)?;
        self.session.setattr(node.fid.number(), changes).await?;
        Ok(Value::None)
    }

    /// Changes the attributes of what a path names.
    ///
    /// # Errors
    /// Those of `fchmodat(2)` and its like.
    pub async fn set_attributes_at(
        &self,
        directory: NodeNumber,
        path: String,
        follow: bool,
        changes: SetAttributes,
    ) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        // A link that is to be followed must not be changed itself, which is not known before the walk is answered.
        if !follow && walker.tail() == Tail::default() {
            let message = |fid| Tmessage::Tsetattr { fid, attributes: changes };
            match walker.visit(false, message, |_| Some(())).await? {
                Visit::Done(()) => return Ok(Value::None),
                Visit::Missing(_) => return Err(Errno::ENOENT.into()),
                Visit::Unfinished => {}
            }
        }
        self.arrive(&mut walker, follow).await?;
        self.session.setattr(walker.fid(), changes).await?;
        Ok(Value::None)
    }

    /// The figures of the filesystem.
    ///
    /// # Errors
    /// Those of `fstatfs(2)`.
    pub async fn statfs(&self, number: NodeNumber) -> Result<Value, Error> {
        let node = self.node(number)?;
        Ok(Value::Statistics(self.session.statfs(node.fid.number()).await?))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Those of `mkdirat(2)`.
    pub async fn make_directory(&self, directory: NodeNumber, path: String, mode: u32) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        let Last::Name { name, .. } = walker.take_last() else {
            walker.run_to_parent().await?;
            return Err(Errno::EEXIST.into());
        };
        fn message<'w, R: Ring>(walker: &'w Walker<R>, dfid: u32, (name, mode, gid): (Name, u32, u32)) -> Tmessage<'w> {
            Tmessage::Tmkdir { dfid, name: walker.name(name), mode, gid }
        }
        let how = (name, mode & mode::PERMISSIONS, self.gid.get());
        if let Visit::Done(qid) = walker.visit_directory(|walker, fid| message(walker, fid, how), session::made).await?
        {
            return Ok(Value::Qid(qid));
        }
        walker.run_to_parent().await?;
        Ok(Value::Qid(self.session.make(message(&walker, walker.fid(), how)).await?))
    }

    /// Makes a symbolic link. The target is not looked at.
    ///
    /// # Errors
    /// Those of `symlinkat(2)`.
    pub async fn symlink(&self, directory: NodeNumber, path: String, target: String) -> Result<Value, Error> {
        match target.as_bytes() {
            b"" => return Err(Errno::ENOENT.into()),
            bytes if bytes.len() >= PATH_MAX => return Err(Errno::ENAMETOOLONG.into()),
            bytes if bytes.contains(&0) => return Err(Errno::EINVAL.into()),
            _ => {}
        }
        let (walker, last) = self.find_parent(directory, path).await?;
        let name = self.new_name(&walker, last).await?;
        let (name, target) = (walker.name(name), target.as_str().into());
        let message = Tmessage::Tsymlink { fid: walker.fid(), name, target, gid: self.gid.get() };
        Ok(Value::Qid(self.session.make(message).await?))
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// Those of `readlinkat(2)`.
    pub async fn read_link(&self, directory: NodeNumber, path: String) -> Result<Value, Error> {
        let walker = self.find(directory, path, false).await?;
        if !walker.qid().kind.is_symlink() {
            return Err(Errno::EINVAL.into());
        }
        Ok(Value::Target(self.session.readlink(walker.fid()).await?))
    }

    /// Makes a hard link.
    ///
    /// # Errors
    /// Those of `linkat(2)`.
    pub async fn link(
        &self,
        old_directory: NodeNumber,
        old_path: String,
        follow: bool,
        new_directory: NodeNumber,
        new_path: String,
    ) -> Result<Value, Error> {
        let old = self.find(old_directory, old_path, follow).await?;
        let (walker, last) = self.find_parent(new_directory, new_path).await?;
        let name = self.new_name(&walker, last).await?;
        if old.qid().kind.is_dir() {
            return Err(Errno::EPERM.into());
        }
        self.order(Tmessage::Tlink { dfid: walker.fid(), fid: old.fid(), name: walker.name(name) }).await
    }

    /// Renames, replacing what is there.
    ///
    /// # Errors
    /// Those of `renameat(2)`.
    pub async fn rename(
        &self,
        old_directory: NodeNumber,
        old_path: String,
        new_directory: NodeNumber,
        new_path: String,
    ) -> Result<Value, Error> {
        let (old, old_last) = self.find_parent(old_directory, old_path).await?;
        let (new, new_last) = self.find_parent(new_directory, new_path).await?;
        let (Last::Name { name: old_name, slash: old_slash }, Last::Name { name: new_name, slash: new_slash }) =
            (old_last, new_last)
        else {
            return Err(Errno::EBUSY.into());
        };
        if (old_slash || new_slash) && !self.look_up(&old, old_name).await?.0.kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let (olddirfid, oldname) = (old.fid(), old.name(old_name));
        let (newdirfid, newname) = (new.fid(), new.name(new_name));
        let message = Tmessage::Trenameat { olddirfid, oldname, newdirfid, newname };
        match self.unless_lacking(&self.lacks_renameat, message).await {
            Some(result) => result,
            None => {
                let (_, fid) = self.look_up(&old, old_name).await?;
                self.order(Tmessage::Trename { fid: fid.number(), dfid: newdirfid, name: newname }).await
            }
        }
    }

    /// Removes what is not a directory.
    ///
    /// # Errors
    /// Those of `unlinkat(2)`.
    pub async fn unlink(&self, directory: NodeNumber, path: String) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        let last = walker.take_last();
        if let Last::Name { name, slash: false } = last {
            return self.remove(walker, name, false).await;
        }
        walker.run_to_parent().await?;
        let Last::Name { name, .. } = last else { return Err(Errno::EISDIR.into()) };
        let (qid, _) = self.look_up(&walker, name).await?;
        Err(if qid.kind.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR }.into())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Those of `unlinkat(2)` with `AT_REMOVEDIR`.
    pub async fn remove_directory(&self, directory: NodeNumber, path: String) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        let last = walker.take_last();
        if let Last::Name { name, .. } = last {
            return self.remove(walker, name, true).await;
        }
        walker.run_to_parent().await?;
        Err(if last == Last::Dot { Errno::EINVAL } else { Errno::ENOTEMPTY }.into())
    }

    /// Removes a name from the directory to which the walker leads.
    async fn remove(&self, mut walker: Walker<R>, name: Name, directory: bool) -> Result<Value, Error> {
        let flags = if directory { AT_REMOVEDIR } else { 0 };
        fn message<'w, R: Ring>(walker: &'w Walker<R>, dirfid: u32, name: Name, flags: u32) -> Tmessage<'w> {
            Tmessage::Tunlinkat { dirfid, name: walker.name(name), flags }
        }
        if !self.lacks_unlinkat.get() {
            let removed = walker.visit_directory(|walker, fid| message(walker, fid, name, flags), |_| Some(())).await;
            match removed {
                Ok(Visit::Done(())) => return Ok(Value::None),
                // It is asked again below, and that it lacks the message is noted.
                Ok(_) | Err(Error::Errno(Errno::EOPNOTSUPP | Errno::ENOSYS)) => {}
                Err(error) => return Err(error),
            }
        }
        walker.run_to_parent().await?;
        let walker = &walker;
        let message = message(walker, walker.fid(), name, flags);
        if let Some(result) = self.unless_lacking(&self.lacks_unlinkat, message).await {
            return result;
        }
        let (qid, fid) = self.look_up(walker, name).await?;
        match (qid.kind.is_dir(), directory) {
            (true, false) => Err(Errno::EISDIR.into()),
            (false, true) => Err(Errno::ENOTDIR.into()),
            _ => {
                self.session.remove(fid).await?;
                Ok(Value::None)
            }
        }
    }

    // What the calls have in common.

    /// The node of a number.
    fn node(&self, number: NodeNumber) -> Result<Rc<Node<R>>, Error> {
        let nodes = self.nodes.borrow();
        Ok(nodes.get(number as usize).and_then(Option::as_ref).cloned().ok_or(Errno::EBADF)?)
    }

    fn insert(&self, node: Node<R>) -> NodeNumber {
        let node = Some(Rc::new(node));
        let mut nodes = self.nodes.borrow_mut();
        let free = self.free_nodes.borrow_mut().pop();
        if let Some((number, place)) = free.and_then(|number| Some((number, nodes.get_mut(number as usize)?))) {
            *place = node;
            return number;
        }
        nodes.push(node);
        (nodes.len() - 1) as NodeNumber // there are fewer nodes than fids
    }

    fn opened(&self, node: Node<R>) -> Value {
        let qid = node.qid;
        Value::Opened { node: self.insert(node), qid }
    }

    /// Walks to what is there.
    async fn find(&self, directory: NodeNumber, path: String, follow: bool) -> Result<Walker<R>, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        self.arrive(&mut walker, follow).await?;
        Ok(walker)
    }

    /// Walks on to what is there.
    async fn arrive(&self, walker: &mut Walker<R>, follow: bool) -> Result<(), Error> {
        match walker.run(follow).await? {
            Arrival::Found => Ok(()),
            Arrival::Missing(_) => Err(Errno::ENOENT.into()),
        }
    }

    /// Walks to the directory that holds a path's last name.
    async fn find_parent(&self, directory: NodeNumber, path: String) -> Result<(Walker<R>, Last), Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        let last = walker.take_last();
        walker.run_to_parent().await?;
        Ok((walker, last))
    }

    /// The file of a name in the directory that the walker stands at.
    async fn look_up(&self, walker: &Walker<R>, name: Name) -> Result<(Qid, Fid<R>), Error> {
        let names = Names::collect([walker.name(name)]).unwrap_or_default(); // one fits
        let (qids, fid) = self.session.walk(walker.fid(), &names).await?;
        match (qids.first(), fid) {
            (Some(&qid), Some(fid)) => Ok((qid, fid)),
            _ => Err(Errno::ENOENT.into()),
        }
    }

    /// The name of something to be made that is not a directory, so that no slash may be behind it.
    async fn new_name(&self, walker: &Walker<R>, last: Last) -> Result<Name, Error> {
        match last {
            Last::Name { name, slash: false } => Ok(name),
            Last::Name { name, slash: true } => {
                self.look_up(walker, name).await?;
                Err(Errno::EEXIST.into())
            }
            Last::Dot | Last::Parent => Err(Errno::EEXIST.into()),
        }
    }

    async fn order(&self, message: Tmessage<'_>) -> Result<Value, Error> {
        self.session.order(message).await?;
        Ok(Value::None)
    }

    /// Sends a message unless it is known that the server lacks it, or it says so now.
    async fn unless_lacking(&self, lacks: &Cell<bool>, message: Tmessage<'_>) -> Option<Result<Value, Error>> {
        if lacks.get() {
            return None;
        }
        match self.order(message).await {
            Err(Error::Errno(Errno::EOPNOTSUPP | Errno::ENOSYS)) => {
                lacks.set(true);
                None
            }
            result => Some(result),
        }
    }
}

impl OpenFlags {
    /// The flags of `Tlopen`.
    fn for_open(self) -> u32 {
        // To truncate is to write, even through a node that is not to be written.
        let access = match (self.read, self.write || self.truncate) {
            (true, true) => lopen::RDWR,
            (false, true) => lopen::WRONLY,
            (_, false) => lopen::RDONLY,
        };
        [
            (self.append, lopen::APPEND),
            (self.truncate, lopen::TRUNC),
            (self.data_sync, lopen::DSYNC),
            // Linux's O_SYNC includes O_DSYNC.
            (self.sync, lopen::SYNC | lopen::DSYNC),
        ]
        .into_iter()
        .fold(access, |flags, (is_set, flag)| if is_set { flags | flag } else { flags })
    }
}

//! Filesystem calls (`fs/9p`): nodes, which are open files, and what is done with them and with paths.
//!
//! Errors are Linux's. Where a server's own error would do, it is left to the server; what it cannot know, such as
//! a slash at a path's end, is asked for here.
//!
//! | file | calls |
//! | --- | --- |
//! | `open` | opening and making files |
//! | `io` | reading, writing, listing, syncing |
//! | `listing` | what is asked together: entries with attributes, a path with what is on it |
//! | `attributes` | attributes, identities, the filesystem's figures |
//! | `names` | making, renaming and removing names |
//! | `access` | what the user may do |
//! | `lock` | byte-range locks |
//! | `xattr` | extended attributes |
//! | `start` | how a mount begins, with authentication or without |

mod access;
mod attributes;
mod io;
mod listing;
mod lock;
mod names;
mod open;
mod start;
mod xattr;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use ninering_wire::{Attributes, Errno, LockStatus, NONUNAME, Qid, Statfs, Tmessage};

use self::start::Authentication;
pub use self::{access::AccessMode, attributes::FileVersion, lock::LockRequest, start::Start, xattr::SetMode};
pub use crate::transfer::Entry;
use crate::{
    error::Error,
    lock::FileLock,
    ring::Ring,
    session::{Fid, Session},
    walk::{Arrival, Last, Name, Walker},
};

/// An open file or directory of this mount; 0 is the mount's root.
pub type NodeNumber = u32;

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
    /// Ask for the file's attributes too, along with what is sent anyway.
    pub attributes: bool,
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
        /// What `stat(2)` tells of it, if that was asked for and could be had at no cost.
        attributes: Option<Box<Attributes>>,
    },
    /// Which file it is.
    Qid(Qid),
    /// What `stat(2)` tells.
    Attributes(Box<Attributes>),
    /// A piece of a directory.
    Entries {
        /// Without `.` and `..`.
        entries: Vec<Entry>,
        /// No entries are left behind these.
        end: bool,
    },
    /// The same with what `stat(2)` tells of each, in the same order; `None` where that could not be had.
    EntriesPlus {
        /// Without `.` and `..`.
        entries: Vec<(Entry, Option<Box<Attributes>>)>,
        /// No entries are left behind these.
        end: bool,
    },
    /// What a path names, and what is on the way.
    LookedUp(LookedUp),
    /// The target of a symbolic link.
    Target(Vec<u8>),
    /// What `statfs(2)` tells.
    Statistics(Box<Statfs>),
    /// By what a change is noticed.
    Version(FileVersion),
    /// What became of a lock that was asked for.
    LockStatus(LockStatus),
    /// A lock that is in the way, if there is one.
    Lock(Option<FileLock>),
    /// The server wants the user to authenticate.
    Authentication(Qid),
}

/// What [`Vfs::look_up_at`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedUp {
    /// What the names of the path are, one behind the other; all but the last if that is not there. `None` where the path
    /// goes up, or by way of symbolic links.
    pub passed: Option<Vec<Qid>>,
    /// What `stat(2)` tells of what the path names; `None` if its last name is not there, and only that.
    pub attributes: Option<Box<Attributes>>,
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

/// Is this how a server says that it does not know a message? Those that are met say it in one of these ways.
fn says_lacking(errno: Errno) -> bool {
    matches!(errno, Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPROTO)
}

/// What a path names; or, where the path is empty, a node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory that the path is relative to, or the node.
    pub directory: NodeNumber,
    /// The path.
    pub path: String,
    /// Follow a symbolic link at its end.
    pub follow: bool,
}

/// A file that was found.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Located<R: Ring> {
    Node(Rc<Node<R>>),
    Walked(Walker<R>),
}

impl<R: Ring> Located<R> {
    fn fid(&self) -> u32 {
        match self {
            Self::Node(node) => node.fid.number(),
            Self::Walked(walker) => walker.fid(),
        }
    }
}

/// The filesystem calls of one mount.
pub struct Vfs<R: Ring> {
    pub(crate) session: Rc<Session<R>>,
    /// `None` for numbers that are free.
    nodes: RefCell<Vec<Option<Rc<Node<R>>>>>,
    free_nodes: RefCell<Vec<NodeNumber>>,
    /// The group of files that are made.
    gid: Cell<u32>,
    /// Who the files are accessed as, by number.
    uid: Cell<u32>,
    /// Names this client in locks.
    client_id: RefCell<Vec<u8>>,
    /// The mount is about to begin, or to go on at another connection.
    authentication: RefCell<Option<Rc<Authentication<R>>>>,
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
            uid: Cell::new(NONUNAME),
            client_id: RefCell::default(),
            authentication: RefCell::default(),
            lacks_renameat: Cell::new(false),
            lacks_unlinkat: Cell::new(false),
        }
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
    // What the calls have in common.

    /// The node of a number.
    pub(crate) fn node(&self, number: NodeNumber) -> Result<Rc<Node<R>>, Error> {
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
        Value::Opened { node: self.insert(node), qid, attributes: None }
    }

    /// Walks to what is there.
    async fn find(&self, directory: NodeNumber, path: String, follow: bool) -> Result<Walker<R>, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        self.arrive(&mut walker, follow).await?;
        Ok(walker)
    }

    /// Walks on to what is there.
    pub(crate) async fn arrive(&self, walker: &mut Walker<R>, follow: bool) -> Result<(), Error> {
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

    /// A fid for what a path names, or with an empty path for the node itself.
    async fn locate(&self, place: Place) -> Result<Located<R>, Error> {
        let Place { directory, path, follow } = place;
        if path.is_empty() {
            Ok(Located::Node(self.node(directory)?))
        } else {
            Ok(Located::Walked(self.find(directory, path, follow).await?))
        }
    }

    /// The file of a name in the directory that the walker stands at.
    async fn look_up(&self, walker: &Walker<R>, name: Name) -> Result<(Qid, Fid<R>), Error> {
        let (qids, fid) = self.session.walk(walker.fid(), (&walker.name(name)).into()).await?;
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
            Err(Error::Errno(errno)) if says_lacking(errno) => {
                lacks.set(true);
                None
            }
            result => Some(result),
        }
    }
}

//! Opening and making files.

use std::rc::Rc;

use ninering_wire::{Attributes, Errno, Qid, Tmessage, lopen, mode};

use super::{Node, NodeNumber, OpenFlags, Value, Vfs};
use crate::{
    error::Error,
    executor::both,
    ring::Ring,
    session::Fid,
    walk::{Arrival, Last, Name, Visit, Walker},
};

/// How often a file is looked for again that is there, is not, and is there by turns.
const MOST_CREATE_ATTEMPTS: u32 = 8;

/// What is where a path leads.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Found<R: Ring> {
    /// A file, which is open now.
    Opened(Value),
    /// Nothing; but the walker stands where it should be.
    Missing(Walker<R>, Name),
}
impl<R: Ring> Vfs<R> {
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
            let (visit, attributes) =
                walker.visit_open(flags.follow, flags.for_open(), flags.wants_attributes()).await?;
            match visit {
                Visit::Done((fid, qid, iounit)) => {
                    let opened = self.opened_file(fid, qid, iounit, flags);
                    return Ok(Found::Opened(opened.with_attributes(attributes)));
                }
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
        // Where one message makes a file or opens the one that is there, that is tried first. Where it only makes it, it is
        // for who truncates, who mostly makes a new file: one flight instead of two.
        let opens = self.session.knows_visits() && flags.write && !flags.wants_attributes();
        if opens || flags.truncate && self.session.can_visit() {
            let mut walker = Walker::new(&self.session, base.clone(), path.clone())?;
            if let Last::Name { name, slash: false } = walker.take_last() {
                match self.create(walker, name, flags, mode).await {
                    // In doubt, it is there.
                    Err(Error::Errno(Errno::EEXIST) | Error::InDoubt) => {}
                    result => return result,
                }
            }
        }
        let mut walker = walker;
        for _ in 1..MOST_CREATE_ATTEMPTS {
            match self.open_or_create_once(walker, flags, mode).await {
                // It was there and is not: another client has removed it. Or the other way round.
                Err(Error::Errno(Errno::ENOENT | Errno::EEXIST) | Error::InDoubt) => {}
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
        if flags.wants_attributes() {
            let asking = both(self.session.open(message), self.session.getattr(fid.number()));
            let (opened, attributes) = Box::pin(asking).await;
            let (qid, iounit) = opened?;
            return Ok(self.opened_file(fid, qid, iounit, flags).with_attributes(attributes.ok()));
        }
        let (qid, iounit) = self.session.open(message).await?;
        Ok(self.opened_file(fid, qid, iounit, flags))
    }

    /// Makes a file in the directory to which the walker leads. What is there is opened, if that was not asked to be new
    /// and the server knows `Tvisit`. Of others a new file is asked always, for some follow a link.
    async fn create(&self, mut walker: Walker<R>, name: Name, flags: OpenFlags, mode: u32) -> Result<Value, Error> {
        let how = (name, mode & mode::PERMISSIONS, flags);
        let created = match walker.visit_create(|walker, fid| self.lcreate(walker, fid, how)).await {
            Ok(Visit::Done(created)) => Ok(created),
            Ok(_) => {
                walker.run_to_parent().await?;
                // `Tlcreate` turns the directory's fid into the file's.
                let fid = walker.own_fid().await?;
                let message = self.lcreate(&walker, fid.number(), how);
                self.session.open(message).await.map(|(qid, iounit)| (fid, qid, iounit))
            }
            Err(error) => Err(error),
        };
        match created {
            Ok((fid, qid, iounit)) => Ok(self.opened_file(fid, qid, iounit, flags)),
            // What a link leads to is for the walk to find.
            Err(Error::Errno(Errno::ELOOP)) if !flags.exclusive => Err(Errno::EEXIST.into()),
            Err(error) => Err(error),
        }
    }

    fn lcreate<'w>(
        &self,
        walker: &'w Walker<R>,
        fid: u32,
        (name, mode, flags): (Name, u32, OpenFlags),
    ) -> Tmessage<'w> {
        // Not before this is sent: the server may be another one by then.
        let exclusive = flags.exclusive || !self.session.knows_visits();
        let flags = flags.for_open() | lopen::CREATE | if exclusive { lopen::EXCL } else { 0 };
        Tmessage::Tlcreate { fid, name: walker.name(name), flags, mode, gid: self.gid.get() }
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
}

impl Value {
    /// The same with the attributes of the file that was opened, if they are that file's.
    fn with_attributes(mut self, of_file: Option<Box<Attributes>>) -> Self {
        if let Self::Opened { qid, attributes, .. } = &mut self {
            *attributes = of_file.filter(|found| found.qid.path == qid.path);
        }
        self
    }
}

impl OpenFlags {
    /// Are attributes to be asked for along with the open? Not where it changes them.
    fn wants_attributes(self) -> bool {
        self.attributes && !self.truncate
    }

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

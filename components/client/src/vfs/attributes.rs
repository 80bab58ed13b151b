//! What a file is: its attributes and its identity; and the figures of the filesystem.

use ninering_wire::{Attributes, Errno, Qid, SetAttributes, Tmessage, getattr};

use super::{NodeNumber, Value, Vfs};
use crate::{
    error::Error,
    ring::Ring,
    session::{self, Cleanup, no_payload},
    walk::{Tail, Visit, Walker},
};

/// By what a change of a file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// Its version changes with the contents, where the server keeps one.
    pub qid: Qid,
    /// Bytes.
    pub size: u64,
    /// When the contents were changed, in seconds (two's complement before 1970) and nanoseconds.
    pub modified: (u64, u64),
    /// The same of the attributes.
    pub changed: (u64, u64),
}

impl From<Attributes> for FileVersion {
    fn from(attributes: Attributes) -> Self {
        Self {
            qid: attributes.qid,
            size: attributes.size,
            modified: (attributes.mtime_sec, attributes.mtime_nsec),
            changed: (attributes.ctime_sec, attributes.ctime_nsec),
        }
    }
}

impl<R: Ring> Vfs<R> {
    /// The attributes of a node.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub async fn stat(&self, number: NodeNumber) -> Result<Value, Error> {
        let node = self.node(number)?;
        Ok(Value::Attributes(self.session.getattr(node.fid.number()).await?))
    }

    /// Asks the server for what tells a change of a node.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub async fn version(&self, number: NodeNumber) -> Result<Value, Error> {
        let node = self.node(number)?;
        let request_mask = getattr::SIZE | getattr::MTIME | getattr::CTIME;
        let message = Tmessage::Tgetattr { fid: node.fid.number(), request_mask };
        let attributes = self.session.request(message, Cleanup::Nothing, no_payload, session::attributes).await?;
        Ok(Value::Version((*attributes).into()))
    }

    /// The attributes of what a path names.
    ///
    /// # Errors
    /// Those of `fstatat(2)`.
    pub async fn stat_at(&self, directory: NodeNumber, path: String, follow: bool) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        match walker.visit(follow, session::getattr, session::attributes).await? {
            Visit::Done((attributes, _)) => return Ok(Value::Attributes(attributes)),
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
            let message = |fid| Tmessage::Tsetattr { fid, attributes: (&changes).into() };
            match walker.visit(false, message, |_| Some(())).await? {
                Visit::Done(_) => return Ok(Value::None),
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
        Ok(Value::Statistics(Box::new(self.session.statfs(node.fid.number()).await?)))
    }
}

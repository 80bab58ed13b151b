//! What a file is: its attributes and its identity; and the figures of the filesystem.

use ninering_wire::{Errno, SetAttributes, Tmessage};

use super::{NodeNumber, Value, Vfs};
use crate::{
    error::Error,
    ring::Ring,
    session,
    walk::{Tail, Visit, Walker},
};

impl<R: Ring> Vfs<R> {
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
            let message = |fid| Tmessage::Tsetattr { fid, attributes: changes };
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
        Ok(Value::Statistics(self.session.statfs(node.fid.number()).await?))
    }
}

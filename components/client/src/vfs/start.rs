//! How a mount begins, and goes on at another connection: the negotiation, an authentication where the server wants one, and
//! the attach.

use std::{cell::Cell, rc::Rc};

use ninering_wire::{Errno, NOFID, NONUNAME, Qid};

use super::{Node, Value, Vfs};
use crate::{
    error::Error,
    lock::CLIENT_ID_MAX,
    ring::{Direction, Ring},
    session::Fid,
    transfer::Io,
};

/// Who mounts what, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The largest message to ask for, in bytes.
    pub msize: u32,
    /// Who the files are accessed as, by name.
    pub uname: String,
    /// Which of the server's exports.
    pub aname: String,
    /// Who the files are accessed as, by number; 0xffffffff for none.
    pub n_uname: u32,
    /// Ask for authentication.
    pub authenticate: bool,
    /// Names this client in locks.
    pub client_id: String,
}

/// An authentication under way.
pub(super) struct Authentication<R: Ring> {
    afid: Fid<R>,
    /// The mount that is to begin by it; without, one goes on.
    start: Option<Start>,
    /// Bytes that were read and written, as of an open file.
    position: Cell<u64>,
}

impl<R: Ring> Vfs<R> {
    /// Negotiates with the server and attaches; or, where that was asked for and the server wants it, begins an authentication.
    ///
    /// # Errors
    /// The server's; `EALREADY` the second time.
    pub async fn start(&self, start: Start) -> Result<Value, Error> {
        if self.session.msize() != 0 {
            return Err(Errno::EALREADY.into());
        }
        if start.client_id.len() > CLIENT_ID_MAX {
            return Err(Errno::EINVAL.into());
        }
        *self.client_id.borrow_mut() = start.client_id.as_bytes().to_vec();
        self.session.version(start.msize).await?;
        if start.authenticate {
            match self.session.auth(start.uname.as_str().into(), start.aname.as_str().into(), start.n_uname).await {
                Ok((afid, qid)) => return Ok(self.begin_authentication(afid, qid, Some(start))),
                // This is how a server says that it wants none. If it does, it refuses the attach.
                Err(Error::Errno(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.attach_by(NOFID, &start).await
    }

    /// Goes on at another connection; or begins an authentication there, as [`Vfs::start`] does.
    ///
    /// # Errors
    /// `EINVAL` where the loss of a connection ends the session; others may not befall the next one.
    pub async fn reconnect(&self) -> Result<Value, Error> {
        // The server that knew it is gone.
        self.authentication.take();
        Ok(match self.session.reconnect().await? {
            None => Value::None,
            Some((afid, qid)) => self.begin_authentication(afid, qid, None),
        })
    }

    fn begin_authentication(&self, afid: Fid<R>, qid: Qid, start: Option<Start>) -> Value {
        let authentication = Authentication { afid, start, position: Cell::new(0) };
        *self.authentication.borrow_mut() = Some(Rc::new(authentication));
        Value::Authentication(qid)
    }

    /// Reads from the authentication.
    ///
    /// # Errors
    /// The server's; `EBADF` where there is none under way.
    pub async fn auth_read(&self, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        self.converse(Direction::Dest, iter, bytes).await
    }

    /// Writes to it.
    ///
    /// # Errors
    /// The server's; `EBADF` where there is none under way.
    pub async fn auth_write(&self, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        self.converse(Direction::Source, iter, bytes).await
    }

    async fn converse(&self, direction: Direction, iter: R::Iter, bytes: u64) -> Result<Value, Error> {
        let authentication = self.authentication.borrow().clone().ok_or(Errno::EBADF)?;
        let (fid, offset) = (authentication.afid.number(), authentication.position.get());
        let io = Io { fid, offset, iter, bytes, direction, iounit: 0, in_sequence: true };
        let count = match authentication.start {
            Some(_) => self.session.transfer(&io).await?,
            None => self.again(self.session.transfer(&io)).await?,
        };
        authentication.position.set(offset + count);
        Ok(Value::Count(count))
    }

    /// Attaches as who has authenticated, or goes on as such.
    ///
    /// # Errors
    /// The server's; `EBADF` where no authentication was begun.
    pub async fn attach(&self) -> Result<Value, Error> {
        let authentication = self.authentication.borrow_mut().take().ok_or(Errno::EBADF)?;
        let afid = authentication.afid.number();
        match &authentication.start {
            Some(start) => self.attach_by(afid, start).await,
            None => {
                self.again(self.session.reconnect_as(afid)).await?;
                Ok(Value::None)
            }
        }
    }

    /// Does something at a new connection before the others go on. Nothing is in doubt if that is lost too.
    async fn again<T>(&self, operation: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if !self.session.is_authenticating_again() {
            return Err(Errno::EIO.into());
        }
        match self.session.while_restoring(operation).await {
            Err(Error::InDoubt) => Err(Errno::EIO.into()),
            result => result,
        }
    }

    async fn attach_by(&self, afid: u32, start: &Start) -> Result<Value, Error> {
        let n_uname = start.n_uname;
        let (fid, qid): (Fid<R>, Qid) = self.session.attach(afid, &start.uname, &start.aname, n_uname).await?;
        // What Linux sends is the group of the process that makes a file, which nobody here knows. The user's number
        // is its own group's number on most systems, and 0 is where the user is root or unknown; a server that
        // keeps "no group" from chown(2) as it should is not to be had everywhere.
        self.gid.set(if n_uname == NONUNAME { 0 } else { n_uname });
        self.uid.set(n_uname);
        let root = Node { is_root: true, readable: true, ..Node::handle(fid, qid) };
        self.insert(root);
        Ok(Value::Qid(qid))
    }
}

//! The requests, by name, and what the replies to them say.

use std::{future::poll_fn, rc::Rc};

use ninering_wire::Errno;
use ninering_wire::{
    Attributes, Names, Qid, Rmessage, SetAttributes, Statfs, Str, Tmessage, VERSION_9P2000L, VERSION_NINERING, getattr,
};

use super::{Fid, MIN_MSIZE, Session, Walked, reply::payload_max, send::no_payload, slot::Cleanup};
use crate::{error::Error, ring::Ring};
impl<R: Ring> Session<R> {
    /// `Tversion`: agrees with the server on the dialect, which must be 9P2000.L, and on the longest message.
    ///
    /// # Errors
    /// The session is broken where they cannot agree.
    pub async fn version(&self, msize: u32) -> Result<(), Error> {
        let asked = msize.max(MIN_MSIZE);
        // A server that does not know the longer name says so in one way or another, and is asked again.
        let mut agreed = Err(String::new());
        let dialects = if self.plain.get() { &[VERSION_9P2000L][..] } else { &[VERSION_NINERING, VERSION_9P2000L] };
        for &dialect in dialects {
            let message = Tmessage::Tversion { msize: asked, version: Str(dialect) };
            let answer = |message: Rmessage<'_>| match message {
                Rmessage::Rversion { msize, version } if *version == *dialect || *version == *VERSION_9P2000L => {
                    Some(Ok((msize, *version == *VERSION_NINERING)))
                }
                Rmessage::Rversion { version, .. } => Some(Err(format!("the server speaks {version:?}, not 9P2000.L"))),
                _ => None,
            };
            agreed = match self.request(message, Cleanup::Nothing, no_payload, answer).await {
                Err(Error::Errno(_)) if dialect == VERSION_NINERING => continue,
                answered => answered?,
            };
            if agreed.is_ok() {
                break;
            }
        }
        let (msize, visits) = agreed.map_err(|reason| self.break_off(&reason))?;
        self.visits.set(visits);
        if msize > asked {
            return Err(self.break_off(&format!("the server answered an msize of {msize} to {asked}")));
        }
        if msize < MIN_MSIZE {
            return Err(self.break_off(&format!("the server's msize of {msize} is below {MIN_MSIZE}")));
        }
        self.msize.set(msize);
        self.payload_max.set(payload_max(msize));
        self.message_max.set(msize.min(self.message_max.get()));
        Ok(())
    }

    /// `Tauth`: a fid by which the user authenticates.
    ///
    /// # Errors
    /// The server's, if it wants no authentication.
    pub async fn auth(self: &Rc<Self>, uname: Str<'_>, aname: Str<'_>, n_uname: u32) -> Result<(Fid<R>, Qid), Error> {
        let afid = self.allocate_fid()?;
        let message = Tmessage::Tauth { afid, uname, aname, n_uname };
        let qid = self.request(message, Cleanup::Walked(afid), no_payload, |reply| match reply {
            Rmessage::Rauth { aqid } => Some(aqid),
            _ => None,
        });
        let qid = qid.await?;
        Ok((Fid::new(self, afid), qid))
    }

    /// `Tattach`: a fid for the root of an export. `afid` is one by which the user has authenticated, or `NOFID`.
    ///
    /// # Errors
    /// The server's.
    pub async fn attach(
        self: &Rc<Self>,
        afid: u32,
        uname: &str,
        aname: &str,
        n_uname: u32,
    ) -> Result<(Fid<R>, Qid), Error> {
        let fid = self.allocate_fid()?;
        let (uname, aname) = (uname.into(), aname.into());
        let message = Tmessage::Tattach { fid, afid, uname, aname, n_uname };
        let qid = self.request(message, Cleanup::Walked(fid), no_payload, |reply| match reply {
            Rmessage::Rattach { qid } => Some(qid),
            _ => None,
        });
        let qid = qid.await?;
        Ok((Fid::new(self, fid), qid))
    }

    /// `Twalk`: as far as the server came, and a fid for where it came to if that is the end of `names`.
    ///
    /// # Errors
    /// The server's.
    pub async fn walk(self: &Rc<Self>, from: u32, names: Names<'_>) -> Result<(Walked, Option<Fid<R>>), Error> {
        let fid = self.allocate_fid()?;
        let message = Tmessage::Twalk { fid: from, newfid: fid, names };
        let qids = self.request(message, Cleanup::Walked(fid), no_payload, walked).await?;
        if qids.len() == names.len() {
            return Ok((qids, Some(Fid::new(self, fid))));
        }
        if self.is_ordered() {
            self.free_fid(fid);
        } else {
            // Some servers (diod) have made the fid after all; Linux's client clunks it too, and others answer EBADF.
            drop(Fid::new(self, fid));
        }
        Ok((qids, None))
    }

    /// A second fid for the same file.
    ///
    /// # Errors
    /// The server's.
    pub async fn clone_fid(self: &Rc<Self>, fid: u32) -> Result<Fid<R>, Error> {
        let (_, fid) = self.walk(fid, Names::default()).await?;
        Ok(fid.ok_or(Errno::EIO)?)
    }

    /// A request to which the reply says no more than that it was done.
    ///
    /// # Errors
    /// The server's.
    pub async fn order(&self, message: Tmessage<'_>) -> Result<(), Error> {
        self.request(message, Cleanup::Nothing, no_payload, |_| Some(())).await
    }

    /// `Tgetattr`: what `stat(2)` tells.
    ///
    /// # Errors
    /// The server's.
    pub async fn getattr(&self, fid: u32) -> Result<Box<Attributes>, Error> {
        self.request(getattr(fid), Cleanup::Nothing, no_payload, attributes).await
    }

    /// `Tsetattr`.
    ///
    /// # Errors
    /// The server's.
    pub async fn setattr(&self, fid: u32, attributes: SetAttributes) -> Result<(), Error> {
        self.order(Tmessage::Tsetattr { fid, attributes: (&attributes).into() }).await
    }

    /// `Tstatfs`.
    ///
    /// # Errors
    /// The server's.
    pub async fn statfs(&self, fid: u32) -> Result<Statfs, Error> {
        self.request(Tmessage::Tstatfs { fid }, Cleanup::Nothing, no_payload, |reply| match reply {
            Rmessage::Rstatfs { statfs } => Some(statfs.get()),
            _ => None,
        })
        .await
    }

    /// `Treadlink`.
    ///
    /// # Errors
    /// The server's.
    pub async fn readlink(&self, fid: u32) -> Result<Vec<u8>, Error> {
        self.request(Tmessage::Treadlink { fid }, Cleanup::Nothing, no_payload, |reply| match reply {
            Rmessage::Rreadlink { target } => Some(target.to_vec()),
            _ => None,
        })
        .await
    }

    /// `Tlopen` or `Tlcreate`: the file's qid and the server's `iounit`.
    ///
    /// # Errors
    /// The server's.
    pub async fn open(&self, message: Tmessage<'_>) -> Result<(Qid, u32), Error> {
        self.request(message, Cleanup::Nothing, no_payload, opened).await
    }

    /// `Txattrwalk`: a fid for the value of an extended attribute, or without a name for the list of names, and its bytes.
    ///
    /// # Errors
    /// The server's.
    pub async fn xattr_walk(self: &Rc<Self>, fid: u32, name: &[u8]) -> Result<(Fid<R>, u64), Error> {
        let newfid = self.allocate_fid()?;
        let message = Tmessage::Txattrwalk { fid, newfid, name: Str(name) };
        let size = self.request(message, Cleanup::Walked(newfid), no_payload, |reply| match reply {
            Rmessage::Rxattrwalk { size } => Some(size),
            _ => None,
        });
        let size = size.await?;
        Ok((Fid::new(self, newfid), size))
    }

    /// `Tmkdir`, `Tmknod` or `Tsymlink`: the new file's qid.
    ///
    /// # Errors
    /// The server's.
    pub async fn make(&self, message: Tmessage<'_>) -> Result<Qid, Error> {
        self.request(message, Cleanup::Nothing, no_payload, made).await
    }

    /// `Tremove`: removes the file. The fid is gone whatever comes of it.
    ///
    /// # Errors
    /// The server's.
    pub async fn remove(&self, fid: Fid<R>) -> Result<(), Error> {
        let message = Tmessage::Tremove { fid: fid.number() };
        self.forget(fid, message).await
    }

    /// `Tclunk`, of a fid whose clunk does something.
    ///
    /// # Errors
    /// The server's. The fid is gone whatever comes of it.
    pub async fn clunk_and_wait(&self, fid: Fid<R>) -> Result<(), Error> {
        let message = Tmessage::Tclunk { fid: fid.number() };
        self.forget(fid, message).await
    }

    /// Sends the last request of a fid.
    async fn forget(&self, fid: Fid<R>, message: Tmessage<'_>) -> Result<(), Error> {
        let cleanup = Cleanup::Free(fid.number());
        let exchange = poll_fn(|_| self.poll_send(&message, cleanup, None)).await;
        let mut exchange = exchange.map_err(|refusal| self.error_of(refusal))?;
        let number = fid.leave();
        let removed = match poll_fn(|_| exchange.poll()).await {
            Err(Error::InDoubt) if self.recovers() => {
                self.request_again(message, Cleanup::Nothing, no_payload, true, |_| Some(())).await
            }
            answer => answer.and_then(|answer| self.read(&answer, |_| Some(()))),
        };
        if removed.is_ok() && matches!(message, Tmessage::Tremove { .. }) {
            self.note(&message, &Rmessage::Rremove {});
        }
        self.with_ledger(|ledger| ledger.forget(number));
        self.free_fid(number);
        removed
    }
}

/// The request for what `stat(2)` tells.
pub(crate) fn getattr(fid: u32) -> Tmessage<'static> {
    Tmessage::Tgetattr { fid, request_mask: getattr::BASIC }
}

// What the replies say.

pub(crate) fn walked(reply: Rmessage<'_>) -> Option<Walked> {
    if let Rmessage::Rwalk { qids } = reply { Some(qids.iter().collect()) } else { None }
}

/// In a box, for they are passed on through all the steps of an operation.
pub(crate) fn attributes(reply: Rmessage<'_>) -> Option<Box<Attributes>> {
    if let Rmessage::Rgetattr { attributes } = reply { Some(Box::new(attributes.get())) } else { None }
}

/// Of `Tlopen` and `Tlcreate`.
pub(crate) fn opened(reply: Rmessage<'_>) -> Option<(Qid, u32)> {
    match reply {
        Rmessage::Rlopen { qid, iounit } | Rmessage::Rlcreate { qid, iounit } => Some((qid, iounit)),
        _ => None,
    }
}

/// Of `Tmkdir`, `Tmknod` and `Tsymlink`.
pub(crate) fn made(reply: Rmessage<'_>) -> Option<Qid> {
    match reply {
        Rmessage::Rmkdir { qid } | Rmessage::Rsymlink { qid } | Rmessage::Rmknod { qid } => Some(qid),
        _ => None,
    }
}

//! What came of requests whose answers were lost with the connection, and whether they are sent again.
//!
//! A request that changes nothing, or that can be done twice without anybody noticing, is just sent again. So are those
//! that make, move and remove names: what was done already then fails, and how it fails, and what is there now, says
//! that it was. What cannot be told from what another client may have done is [`Error::InDoubt`].

use ninering_wire::{Attributes, Errno, Inner, NOFID, NOTAG, Names, Qid, Rmessage, Str, Tmessage, lopen, mode};

use super::{
    Session, Walked,
    recover::is_same,
    requests::walked,
    send::{Held, no_payload},
    slot::Cleanup,
};
use crate::{error::Error, ring::Ring};

/// What has come of a [visit](Session::by_steps): the parts of an `Rvisit`.
pub(super) struct Steps {
    pub(super) qids: Walked,
    pub(super) reply: Vec<u8>,
}

impl<R: Ring> Session<R> {
    /// What has to be known of what is there before a request is sent, so that it can be told afterwards whether that has
    /// changed it: that the name of a directory to be made is free, and which file is to be renamed.
    ///
    /// # Errors
    /// Those with which the request would fail.
    pub(super) async fn look_before(&self, message: &Tmessage<'_>) -> Result<Option<Qid>, Error> {
        match *message {
            Tmessage::Tmkdir { dfid, name, .. } => match self.look(dfid, name).await? {
                Some(_) => Err(Errno::EEXIST.into()),
                None => Ok(None),
            },
            Tmessage::Trenameat { olddirfid, oldname, .. } => {
                let (qid, _) = self.look(olddirfid, oldname).await?.ok_or(Errno::ENOENT)?;
                Ok(Some(qid))
            }
            _ => Ok(None),
        }
    }

    /// The reply to a request that may have been done already, when it failed the second time. `before` is what
    /// [`Session::look_before`] has seen.
    ///
    /// # Errors
    /// That error, where it is the truth; [`Error::InDoubt`].
    pub(super) async fn settle(
        &self,
        message: &Tmessage<'_>,
        before: Option<Qid>,
        errno: Errno,
    ) -> Result<Rmessage<'static>, Error> {
        let settled = match (message, errno) {
            (Tmessage::Tunlinkat { .. }, Errno::ENOENT) => Some(Rmessage::Runlinkat {}),
            // The fid was walked to again, if its file was where it was.
            (Tmessage::Tremove { .. }, Errno::ENOENT | Errno::ESTALE) => Some(Rmessage::Rremove {}),
            // To clunk the fid of an extended attribute is what sets it.
            (&Tmessage::Tclunk { fid }, Errno::ESTALE) => match self.with_ledger(|ledger| ledger.is_attribute(fid)) {
                Some(true) => return Err(Error::InDoubt),
                _ => Some(Rmessage::Rclunk {}),
            },
            (&Tmessage::Trenameat { newdirfid, newname, .. }, Errno::ENOENT) => {
                let found = self.look(newdirfid, newname).await?;
                found.filter(|&(qid, _)| before.is_some_and(|old| is_same(qid, old))).map(|_| Rmessage::Rrenameat {})
            }
            // Whose file this is nobody can tell.
            (Tmessage::Tlcreate { .. }, Errno::EEXIST) => return Err(Error::InDoubt),
            (&Tmessage::Tmkdir { dfid, name, mode: asked, .. }, Errno::EEXIST) => {
                self.look(dfid, name).await?.and_then(|(_, found)| {
                    let as_asked = found.mode & mode::PERMISSIONS & !asked == 0 && found.nlink <= 2;
                    (found.qid.kind.is_dir() && as_asked).then_some(Rmessage::Rmkdir { qid: found.qid })
                })
            }
            (&Tmessage::Tsymlink { fid, name, target, .. }, Errno::EEXIST) => {
                let linked = self.look_at_link(fid, name).await?;
                linked.filter(|(_, found)| **found == *target.0).map(|(qid, _)| Rmessage::Rsymlink { qid })
            }
            (&Tmessage::Tmknod { fid, name, mode: asked, major, minor, .. }, Errno::EEXIST) => {
                self.look(fid, name).await?.and_then(|(_, found)| {
                    let device = found.rdev == 0 || found.rdev == device_number(major, minor);
                    let as_asked = found.mode & mode::IFMT == asked & mode::IFMT && device && found.size == 0;
                    as_asked.then_some(Rmessage::Rmknod { qid: found.qid })
                })
            }
            (&Tmessage::Tlink { dfid, fid, name }, Errno::EEXIST) => {
                let linked = self.with_ledger(|ledger| ledger.get(fid).map(|record| record.qid)).flatten();
                let found = self.look(dfid, name).await?;
                found.filter(|&(qid, _)| linked.is_some_and(|linked| is_same(qid, linked))).map(|_| Rmessage::Rlink {})
            }
            _ => None,
        };
        let reply = settled.ok_or(errno)?;
        self.count(|recovered| recovered.settled += 1);
        Ok(reply)
    }

    /// What a name in a directory stands for, if for anything.
    async fn look(&self, directory: u32, name: Str<'_>) -> Result<Option<(Qid, Box<Attributes>)>, Error> {
        let fid = self.allocate_fid()?;
        let _held = Held { session: self, cleanup: Cleanup::Free(fid) };
        let Some(qid) = self.look_up_name(directory, fid, name).await? else { return Ok(None) };
        let attributes = self.getattr(fid).await;
        self.order(Tmessage::Tclunk { fid }).await?;
        Ok(Some((qid, attributes?)))
    }

    /// The same for the target of a symbolic link.
    async fn look_at_link(&self, directory: u32, name: Str<'_>) -> Result<Option<(Qid, Vec<u8>)>, Error> {
        let fid = self.allocate_fid()?;
        let _held = Held { session: self, cleanup: Cleanup::Free(fid) };
        let Some(qid) = self.look_up_name(directory, fid, name).await? else { return Ok(None) };
        let target = if qid.kind.is_symlink() { Some(self.readlink(fid).await) } else { None };
        self.order(Tmessage::Tclunk { fid }).await?;
        Ok(target.transpose()?.map(|target| (qid, target)))
    }

    async fn look_up_name(&self, directory: u32, fid: u32, name: Str<'_>) -> Result<Option<Qid>, Error> {
        let walk = Tmessage::Twalk { fid: directory, newfid: fid, names: (&name).into() };
        match self.request(walk, Cleanup::Nothing, no_payload, walked).await {
            Ok(qids) => Ok(qids.first().copied()),
            Err(Error::Errno(Errno::ENOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does what a `Tvisit` says by messages of their own. `doubtful` says that it may have been done already.
    ///
    /// # Errors
    /// Those of the walk, and what is no error of the server's.
    pub(super) async fn by_steps(
        &self,
        (from, newfid, names): (u32, u32, Names<'_>),
        message: Inner<'_>,
        doubtful: bool,
    ) -> Result<Steps, Error> {
        let keeps = newfid != NOFID;
        let fid = if keeps { newfid } else { self.allocate_fid()? };
        let _held = Held { session: self, cleanup: if keeps { Cleanup::Nothing } else { Cleanup::Free(fid) } };
        let mut message = with_fid(message.decode().map_err(|_| Errno::EIO)?, fid)?;
        let walk = Tmessage::Twalk { fid: from, newfid: fid, names };
        let qids = self.request(walk, Cleanup::Nothing, no_payload, walked).await?;
        if qids.len() < names.len() {
            // Some servers have made the fid after all, and others say that they have not.
            self.clunk_temporary(fid).await?;
            return Ok(Steps { qids, reply: Vec::new() });
        }
        if let Tmessage::Tlcreate { flags, .. } = &mut message
            && !self.knows_visits()
        {
            // This server may follow a link.
            *flags |= lopen::EXCL;
        }
        let encode = |reply: Rmessage<'_>| {
            let mut bytes = vec![0; 8192]; // a link's target at the longest
            let length = reply.encode(NOTAG, &mut bytes).ok()?;
            bytes.truncate(length);
            Some(bytes)
        };
        let done = self.request_again(message, Cleanup::Nothing, no_payload, doubtful, encode).await;
        if !keeps || done.is_err() {
            self.clunk_temporary(fid).await?;
        }
        let reply = match done {
            Err(Error::Errno(Errno(ecode))) => encode(Rmessage::Rlerror { ecode }).ok_or(Errno::EIO)?,
            done => done?,
        };
        Ok(Steps { qids, reply })
    }

    pub(super) async fn clunk_temporary(&self, fid: u32) -> Result<(), Error> {
        match self.order(Tmessage::Tclunk { fid }).await {
            Err(Error::Errno(_)) => Ok(()),
            result => result,
        }
    }
}

/// The message, about another fid.
fn with_fid(message: Tmessage<'_>, number: u32) -> Result<Tmessage<'_>, Errno> {
    let mut message = message;
    match &mut message {
        Tmessage::Tstatfs { fid }
        | Tmessage::Tlopen { fid, .. }
        | Tmessage::Tlcreate { fid, .. }
        | Tmessage::Tsymlink { fid, .. }
        | Tmessage::Tmknod { fid, .. }
        | Tmessage::Treadlink { fid }
        | Tmessage::Tgetattr { fid, .. }
        | Tmessage::Tsetattr { fid, .. }
        | Tmessage::Tmkdir { dfid: fid, .. }
        | Tmessage::Tunlinkat { dirfid: fid, .. } => *fid = number,
        _ => return Err(Errno::EIO),
    }
    Ok(message)
}

/// A device's number as Linux has it in `stat`.
fn device_number(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8 | minor & 0xff | (minor & !0xff) << 12 | (major & !0xfff) << 32
}

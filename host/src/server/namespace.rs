//! `Tversion`, `Tattach`, `Twalk` and `Tclunk`: how fids come to stand for files, and cease to.

use std::sync::Arc;

use ninering_wire::{
    Errno, HEADER_LEN, MAXWELEM, NOFID, Name, Names, Qid, Qids, Rmessage, Str, VERSION_NINERING, VERSION_UNKNOWN,
};
use smallvec::SmallVec;

use super::{
    LEAST_MSIZE, Session,
    dialect::Dialect,
    directory::remove,
    export::Claim,
    fid::{Fid, Place},
    identity::Turn,
    request::Request,
    session::Agreed,
};
use crate::backend::NodeRef;

/// What was met on a walk: at most one for each name.
pub(super) type Passed = SmallVec<[Qid; MAXWELEM]>;

/// The same for a reply.
pub(super) fn qids(passed: &[Qid]) -> Result<Qids<'_>, Errno> {
    Qids::new(passed).map_err(|_| Errno::EINVAL)
}

impl Session {
    /// `Tversion`: begins the session anew, whatever comes of it. `EINVAL` for an `msize` below [`LEAST_MSIZE`].
    pub(super) fn version(&self, request: &Request, version: &[u8]) -> Result<usize, Errno> {
        let dialect = self.server.options.dialects.choose(version);
        let visits = dialect == Some(Dialect::Linux) && version == VERSION_NINERING;
        let none = Agreed { msize: 0, dialect: dialect.unwrap_or_default(), visits: false };
        self.begin(none);
        if request.msize < LEAST_MSIZE {
            return Err(Errno::EINVAL);
        }
        let msize = request.msize.min(self.server.options.max_msize);
        let version = Str(if visits { VERSION_NINERING } else { dialect.map_or(VERSION_UNKNOWN, Dialect::version) });
        // The space is checked before anything is agreed on.
        if request.reply.len() < HEADER_LEN + 4 + 2 + version.len() {
            return Err(Errno::ENOBUFS);
        }
        if dialect.is_some() {
            self.begin(Agreed { msize, visits, ..none });
        }
        request.answer(&Rmessage::Rversion { msize, version })
    }

    /// `Tattach`. No authentication is offered, so there is no `afid` but `NOFID`.
    pub(super) fn attach(
        &self,
        request: &Request,
        fid: u32,
        afid: u32,
        uname: &[u8],
        aname: &[u8],
        n_uname: u32,
    ) -> Result<usize, Errno> {
        if afid != NOFID {
            return Err(Errno::EBADF);
        }
        self.fids.check_free(fid)?;
        let claim = Claim { name: uname, number: n_uname, peer: &self.peer };
        let (attach, root) = self.server.exports.attach(&claim, aname)?;
        let qid = root.qid();
        self.fids.insert(fid, Fid::new(root, attach, None))?;
        request.answer(&Rmessage::Rattach { qid })
    }

    /// `Twalk`. Without names `newfid` becomes a copy of `fid`. Where not all names can be walked, the reply tells how
    /// many were and `newfid` is left alone; where not even the first can, the reply is its error.
    ///
    /// An open fid cannot be moved, but one can walk from it to another (Linux's client does).
    pub(super) fn walk(
        &self,
        request: &Request,
        number: u32,
        new_number: u32,
        names: Names<'_>,
    ) -> Result<usize, Errno> {
        let moves = number == new_number;
        let fid = if moves { self.fids.get(number)? } else { self.fids.get_and_check_free(number, new_number)? };
        fid.attach.begin(request.changes)?;
        if moves && fid.is_open() {
            return Err(Errno::EINVAL);
        }
        let mut passed = Passed::new();
        let Some((node, place)) = self.walk_from(&fid, names.iter(), &mut passed)? else {
            return request.answer(&Rmessage::Rwalk { qids: qids(&passed)? });
        };
        let new_fid = Fid::new(node, Arc::clone(&fid.attach), place);
        if moves {
            self.fids.replace(number, &fid, new_fid)?;
        } else {
            self.fids.insert(new_number, new_fid)?;
        }
        request.answer(&Rmessage::Rwalk { qids: qids(&passed)? })
    }

    /// Walks, and adds to `passed` what is met. `None` where that has come to some names, but not to all of them.
    pub(super) fn walk_from<'n>(
        &self,
        fid: &Fid,
        names: impl Iterator<Item = Str<'n>>,
        passed: &mut Passed,
    ) -> Result<Option<(NodeRef, Option<Place>)>, Errno> {
        let mut node = Arc::clone(&fid.node);
        let mut reached_by = None;
        for (index, name) in names.enumerate() {
            match step(&node, &name) {
                Ok(next) => {
                    passed.push(next.qid());
                    let from = std::mem::replace(&mut node, next);
                    reached_by = Some((from, name));
                }
                Err(error) if index == 0 => return Err(error),
                Err(_) => return Ok(None),
            }
        }
        let place = match reached_by {
            None => fid.place.lock().clone(),
            Some((_, name)) if name.0 == b".." => None,
            Some((directory, name)) => Some(Place { directory, name: SmallVec::from_slice(&name) }),
        };
        Ok(Some((node, place)))
    }

    /// `Tclunk`. What is open is closed when the last request that uses it ends; what is to be removed then is so now.
    /// The fid is forgotten even where that fails, or an extended attribute that was written by it cannot be set.
    pub(super) fn clunk(&self, request: &Request, fid: u32) -> Result<usize, Errno> {
        let fid = self.fids.remove(fid)?;
        self.locks.forget(&fid);
        if let Some(xattr) = fid.xattr() {
            fid.attach.begin(request.changes)?;
            xattr.finish(&fid.node, &fid.attach)?;
        } else if fid.removes_on_clunk() {
            fid.attach.begin(true)?;
            remove(&fid)?;
        }
        request.answer(&Rmessage::Rclunk {})
    }

    /// Clunks all fids.
    pub(super) fn forget_fids(&self) {
        for fid in self.fids.take() {
            if fid.removes_on_clunk() {
                let _turn = Turn::begin();
                if let Err(error) = fid.attach.begin(true).and_then(|()| remove(&fid)) {
                    tracing::warn!(%error, "a file that was to be removed when its client is done with it is left");
                }
            }
        }
    }
}

/// One step of a walk. A root is its own parent: nothing outside an export is ever reached.
fn step(node: &NodeRef, name: &[u8]) -> Result<NodeRef, Errno> {
    if name != b".." {
        node.lookup(Name::new(name)?)
    } else if node.qid().kind.is_dir() {
        Ok(node.parent()?.unwrap_or_else(|| Arc::clone(node)))
    } else {
        Err(Errno::ENOTDIR)
    }
}

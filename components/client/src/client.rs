//! 9P calls, for those who want the protocol rather than a filesystem.
//!
//! The fids are the caller's, from [`FIRST_FOREIGN_FID`] up, so that they never meet those of [`vfs`](crate::vfs).

use ninering_wire::{
    Attributes, Errno, LockStatus, NOFID, Names, Qid, Rmessage, SetAttributes, Statfs, Str, Tmessage, getattr,
};

use crate::{
    error::Error,
    lock::FileLock,
    ring::{Direction, Ring},
    session::{Cleanup, FIRST_FOREIGN_FID, Session, no_payload},
    transfer::{Entry, Io},
};

/// A read or write: all of an iter.
#[derive(Debug)]
pub struct Tio<I> {
    /// The open file.
    pub fid: u32,
    /// Where in it.
    pub offset: u64,
    /// Where the bytes go to or come from.
    pub iter: I,
    /// How many.
    pub bytes: u64,
}

/// A request; see [`Tmessage`].
#[allow(missing_docs, reason = "the variants and fields are named and explained in the protocol's description")]
#[derive(Debug)]
pub enum Request<I> {
    Auth { afid: u32, uname: String, aname: String, n_uname: u32 },
    Attach { fid: u32, afid: Option<u32>, uname: String, aname: String, n_uname: u32 },
    Walk { fid: u32, newfid: u32, names: Vec<Vec<u8>> },
    Lopen { fid: u32, flags: u32 },
    Lcreate { fid: u32, name: Vec<u8>, flags: u32, mode: u32, gid: u32 },
    Symlink { fid: u32, name: Vec<u8>, target: Vec<u8>, gid: u32 },
    Mknod { fid: u32, name: Vec<u8>, mode: u32, major: u32, minor: u32, gid: u32 },
    Rename { fid: u32, dfid: u32, name: Vec<u8> },
    Readlink { fid: u32 },
    Getattr { fid: u32 },
    Setattr { fid: u32, changes: SetAttributes },
    Xattrwalk { fid: u32, newfid: u32, name: Vec<u8> },
    Xattrcreate { fid: u32, name: Vec<u8>, size: u64, flags: u32 },
    Readdir { fid: u32, offset: u64, count: u32 },
    Fsync { fid: u32, data_only: bool },
    Lock { fid: u32, lock: FileLock, flags: u32 },
    Getlock { fid: u32, lock: FileLock },
    Link { dfid: u32, fid: u32, name: Vec<u8> },
    Mkdir { dfid: u32, name: Vec<u8>, mode: u32, gid: u32 },
    Renameat { olddirfid: u32, oldname: Vec<u8>, newdirfid: u32, newname: Vec<u8> },
    Unlinkat { dirfid: u32, name: Vec<u8>, flags: u32 },
    Statfs { fid: u32 },
    Read(Tio<I>),
    Write(Tio<I>),
    Clunk { fid: u32 },
    Remove { fid: u32 },
}

/// A reply that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of those that say nothing more.
    Done,
    /// Of auth, attach, symlink, mknod and mkdir.
    Qid(Qid),
    /// Of walk: one for each name that could be walked.
    Qids(Vec<Qid>),
    /// Of lopen and lcreate: the file, and the most bytes for one request or 0.
    Opened(Qid, u32),
    /// Of readlink.
    Target(Vec<u8>),
    /// Of getattr.
    Attributes(Attributes),
    /// Of xattrwalk: the bytes of the value.
    Size(u64),
    /// Of lock.
    LockStatus(LockStatus),
    /// Of getlock: a lock that is in the way, or of the kind [`Unlock`](ninering_wire::LockType::Unlock) where there is none.
    Lock(FileLock),
    /// Of readdir.
    Entries {
        /// As the server has them, `.` and `..` among them.
        entries: Vec<Entry>,
        /// No entries are left.
        end: bool,
    },
    /// Of statfs.
    Statistics(Statfs),
    /// Of read and write.
    Count(u64),
}

/// Sends a request and yields the reply to it.
///
/// # Errors
/// The server's; `EBADF` for fids that are not the caller's.
pub async fn call<R: Ring>(session: &Session<R>, request: Request<R::Iter>) -> Result<Reply, Error> {
    let io = |Tio { fid, offset, iter, bytes }, direction| {
        let fid = foreign(fid)?;
        Ok::<_, Errno>(Io { fid, offset, iter, bytes, direction, iounit: 0, in_sequence: false })
    };
    match request {
        Request::Read(tio) => Ok(Reply::Count(session.transfer(&io(tio, Direction::Dest)?).await?)),
        Request::Write(tio) => Ok(Reply::Count(session.transfer(&io(tio, Direction::Source)?).await?)),
        Request::Readdir { fid, offset, count } => {
            let entries = session.read_directory(foreign(fid)?, offset, count).await?;
            let end = entries.is_empty();
            Ok(Reply::Entries { entries, end })
        }
        request => session.request(request.message(&mut Vec::new())?, Cleanup::Nothing, no_payload, reply).await,
    }
}

/// A fid that may be used here.
fn foreign(fid: u32) -> Result<u32, Errno> {
    if (FIRST_FOREIGN_FID..NOFID).contains(&fid) { Ok(fid) } else { Err(Errno::EBADF) }
}

impl<I> Request<I> {
    /// The message. If it has names, they are listed in `way`.
    fn message<'m>(&'m self, way: &'m mut Vec<Str<'m>>) -> Result<Tmessage<'m>, Errno> {
        Ok(match self {
            &Self::Auth { afid, ref uname, ref aname, n_uname } => {
                let (uname, aname) = (uname.as_str().into(), aname.as_str().into());
                Tmessage::Tauth { afid: foreign(afid)?, uname, aname, n_uname }
            }
            &Self::Attach { fid, afid, ref uname, ref aname, n_uname } => {
                let (uname, aname) = (uname.as_str().into(), aname.as_str().into());
                let afid = afid.map_or(Ok(NOFID), foreign)?;
                Tmessage::Tattach { fid: foreign(fid)?, afid, uname, aname, n_uname }
            }
            &Self::Walk { fid, newfid, ref names } => {
                way.extend(names.iter().map(|name| Str(name)));
                let names = Names::new(way).map_err(|_| Errno::EINVAL)?;
                Tmessage::Twalk { fid: foreign(fid)?, newfid: foreign(newfid)?, names }
            }
            &Self::Lopen { fid, flags } => Tmessage::Tlopen { fid: foreign(fid)?, flags },
            &Self::Lcreate { fid, ref name, flags, mode, gid } => {
                Tmessage::Tlcreate { fid: foreign(fid)?, name: Str(name), flags, mode, gid }
            }
            &Self::Symlink { fid, ref name, ref target, gid } => {
                Tmessage::Tsymlink { fid: foreign(fid)?, name: Str(name), target: Str(target), gid }
            }
            &Self::Mknod { fid, ref name, mode, major, minor, gid } => {
                Tmessage::Tmknod { fid: foreign(fid)?, name: Str(name), mode, major, minor, gid }
            }
            &Self::Rename { fid, dfid, ref name } => {
                Tmessage::Trename { fid: foreign(fid)?, dfid: foreign(dfid)?, name: Str(name) }
            }
            &Self::Readlink { fid } => Tmessage::Treadlink { fid: foreign(fid)? },
            &Self::Getattr { fid } => Tmessage::Tgetattr { fid: foreign(fid)?, request_mask: getattr::BASIC },
            &Self::Setattr { fid, ref changes } => {
                Tmessage::Tsetattr { fid: foreign(fid)?, attributes: changes.into() }
            }
            &Self::Xattrwalk { fid, newfid, ref name } => {
                Tmessage::Txattrwalk { fid: foreign(fid)?, newfid: foreign(newfid)?, name: Str(name) }
            }
            &Self::Xattrcreate { fid, ref name, size, flags } => {
                Tmessage::Txattrcreate { fid: foreign(fid)?, name: Str(name), size, flags }
            }
            &Self::Lock { fid, ref lock, flags } => {
                let FileLock { kind, start, length, proc_id, ref client_id } = *lock;
                let client_id = Str(client_id);
                Tmessage::Tlock { fid: foreign(fid)?, kind, flags, start, length, proc_id, client_id }
            }
            &Self::Getlock { fid, ref lock } => Tmessage::Tgetlock { fid: foreign(fid)?, lock: lock.as_wire() },
            &Self::Fsync { fid, data_only } => Tmessage::Tfsync { fid: foreign(fid)?, datasync: data_only.into() },
            &Self::Link { dfid, fid, ref name } => {
                Tmessage::Tlink { dfid: foreign(dfid)?, fid: foreign(fid)?, name: Str(name) }
            }
            &Self::Mkdir { dfid, ref name, mode, gid } => {
                Tmessage::Tmkdir { dfid: foreign(dfid)?, name: Str(name), mode, gid }
            }
            &Self::Renameat { olddirfid, ref oldname, newdirfid, ref newname } => Tmessage::Trenameat {
                olddirfid: foreign(olddirfid)?,
                oldname: Str(oldname),
                newdirfid: foreign(newdirfid)?,
                newname: Str(newname),
            },
            &Self::Unlinkat { dirfid, ref name, flags } => {
                Tmessage::Tunlinkat { dirfid: foreign(dirfid)?, name: Str(name), flags }
            }
            &Self::Statfs { fid } => Tmessage::Tstatfs { fid: foreign(fid)? },
            &Self::Clunk { fid } => Tmessage::Tclunk { fid: foreign(fid)? },
            &Self::Remove { fid } => Tmessage::Tremove { fid: foreign(fid)? },
            // These carry payload, and are dealt with before.
            Self::Read(_) | Self::Write(_) | Self::Readdir { .. } => return Err(Errno::EINVAL),
        })
    }
}

/// What a reply says. `None` for those that no request of this interface is answered by.
fn reply(message: Rmessage<'_>) -> Option<Reply> {
    Some(match message {
        Rmessage::Rauth { aqid: qid }
        | Rmessage::Rattach { qid }
        | Rmessage::Rsymlink { qid }
        | Rmessage::Rmknod { qid }
        | Rmessage::Rmkdir { qid } => Reply::Qid(qid),
        Rmessage::Rxattrwalk { size } => Reply::Size(size),
        Rmessage::Rlock { status } => Reply::LockStatus(status),
        Rmessage::Rgetlock { lock } => Reply::Lock(lock.into()),
        Rmessage::Rwalk { qids } => Reply::Qids(qids.iter().collect()),
        Rmessage::Rlopen { qid, iounit } | Rmessage::Rlcreate { qid, iounit } => Reply::Opened(qid, iounit),
        Rmessage::Rreadlink { target } => Reply::Target(target.to_vec()),
        Rmessage::Rgetattr { attributes } => Reply::Attributes(attributes.get()),
        Rmessage::Rstatfs { statfs } => Reply::Statistics(statfs.get()),
        Rmessage::Rrename {}
        | Rmessage::Rxattrcreate {}
        | Rmessage::Rsetattr {}
        | Rmessage::Rfsync {}
        | Rmessage::Rlink {}
        | Rmessage::Rrenameat {}
        | Rmessage::Runlinkat {}
        | Rmessage::Rclunk {}
        | Rmessage::Rremove {} => Reply::Done,
        _ => return None,
    })
}

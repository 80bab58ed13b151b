//! Which function answers which message.

use ninering_wire::{Errno, Rmessage, Tmessage, lopen};

use super::{Session, fid::Fid, request::Request, xattr::XattrFid};

/// Answers `message`: writes the reply and tells its length, or returns the error for an `Rlerror`.
pub(super) fn dispatch(session: &Session, request: &Request, message: &Tmessage<'_>) -> Result<usize, Errno> {
    if let Some(now) = request.now
        && may_wait(session, message)
    {
        return Err(now.put_off());
    }
    match *message {
        Tmessage::Tversion { version, .. } => session.version(request, &version),
        Tmessage::Tauth { .. } => Err(Errno::EOPNOTSUPP),
        Tmessage::Tattach { fid, afid, uname, aname, n_uname } => {
            session.attach(request, fid, afid, &uname, &aname, n_uname)
        }
        Tmessage::Twalk { fid, newfid, names } => session.walk(request, fid, newfid, names),
        Tmessage::Tvisit { fid, newfid, names, message } => session.visit(request, fid, newfid, names, message),
        Tmessage::Tclunk { fid } => session.clunk(request, fid),
        Tmessage::Tflush { .. } => request.answer(&Rmessage::Rflush {}),

        Tmessage::Tlopen { fid, flags } => session.lopen(request, fid, flags),
        Tmessage::Tlcreate { fid, name, flags, mode, gid } => session.lcreate(request, fid, &name, flags, mode, gid),
        Tmessage::Tread { fid, offset, count } => session.read(request, fid, offset, count),
        Tmessage::Twrite { fid, offset, count } => session.write(request, fid, offset, count),
        Tmessage::Tfsync { fid, datasync } => session.fsync(request, fid, datasync),

        Tmessage::Treaddir { fid, offset, count } => session.readdir(request, fid, offset, count),
        Tmessage::Tmkdir { dfid, name, mode, gid } => session.mkdir(request, dfid, &name, mode, gid),
        Tmessage::Tsymlink { fid, name, target, gid } => session.symlink(request, fid, &name, &target, gid),
        Tmessage::Tmknod { fid, name, mode, major, minor, gid } => {
            session.mknod(request, fid, &name, mode, (major, minor), gid)
        }
        Tmessage::Tlink { dfid, fid, name } => session.link(request, dfid, fid, &name),
        Tmessage::Tunlinkat { dirfid, name, flags } => session.unlinkat(request, dirfid, &name, flags),
        Tmessage::Tremove { fid } => session.remove(request, fid),
        Tmessage::Trenameat { olddirfid, oldname, newdirfid, newname } => {
            session.renameat(request, olddirfid, &oldname, newdirfid, &newname)
        }
        Tmessage::Trename { fid, dfid, name } => session.rename(request, fid, dfid, &name),

        Tmessage::Tgetattr { fid, request_mask } => session.getattr(request, fid, request_mask),
        Tmessage::Tsetattr { fid, attributes } => session.setattr(request, fid, attributes.get()),
        Tmessage::Treadlink { fid } => session.readlink(request, fid),
        Tmessage::Tstatfs { fid } => session.statfs(request, fid),

        Tmessage::Txattrwalk { fid, newfid, name } => session.xattrwalk(request, fid, newfid, &name),
        Tmessage::Txattrcreate { fid, name, size, flags } => session.xattrcreate(request, fid, &name, size, flags),

        Tmessage::Tlock { fid, kind, flags, start, length, proc_id, client_id } => {
            session.lock(request, fid, kind, flags, (start, length), proc_id, &client_id)
        }
        Tmessage::Tgetlock { fid, ref lock } => session.getlock(request, fid, lock),
    }
}

/// May the answer to `message` wait for more than memory, and metadata that mostly is there?
///
/// A `Tread` finds out itself.
fn may_wait(session: &Session, message: &Tmessage<'_>) -> bool {
    let always = |fid| session.fids.get(fid).is_ok_and(|fid| fid.node.always_waits());
    let fid = match *message {
        Tmessage::Tattach { .. } => return session.attach_waits(),
        Tmessage::Twalk { fid, .. }
        | Tmessage::Tgetattr { fid, .. }
        | Tmessage::Tstatfs { fid }
        | Tmessage::Treadlink { fid } => return always(fid),
        Tmessage::Tlopen { fid, flags } if flags & lopen::TRUNC == 0 => return always(fid),
        Tmessage::Tvisit { fid, message, .. } => {
            // Its fid is the one that this makes, if any.
            match message.decode() {
                Ok(inner) if file_that_is_waited_for(&inner).is_some() => fid,
                _ => return always(fid),
            }
        }
        Tmessage::Tclunk { fid } => {
            let changes = |fid: &Fid| fid.xattr().is_some_and(XattrFid::is_incoming) || fid.removes_on_clunk();
            return session.fids.get_any(fid).is_ok_and(|fid| changes(&fid) && !fid.node.never_waits());
        }
        _ => match file_that_is_waited_for(message) {
            Some(fid) => fid,
            None => return false,
        },
    };
    session.fids.get(fid).is_ok_and(|fid| !fid.node.never_waits())
}

/// The fid whose file a disk or a network may have to be waited for, to answer `message`.
fn file_that_is_waited_for(message: &Tmessage<'_>) -> Option<u32> {
    Some(match *message {
        Tmessage::Tversion { .. }
        | Tmessage::Tauth { .. }
        | Tmessage::Tattach { .. }
        | Tmessage::Tflush { .. }
        | Tmessage::Twalk { .. }
        | Tmessage::Tgetattr { .. }
        | Tmessage::Tstatfs { .. }
        | Tmessage::Treadlink { .. }
        | Tmessage::Tclunk { .. }
        | Tmessage::Tvisit { .. }
        | Tmessage::Tread { .. } => return None,
        Tmessage::Tlopen { flags, .. } if flags & lopen::TRUNC == 0 => return None,
        Tmessage::Tlopen { fid, .. }
        | Tmessage::Tlcreate { fid, .. }
        | Tmessage::Twrite { fid, .. }
        | Tmessage::Tfsync { fid, .. }
        | Tmessage::Treaddir { fid, .. }
        | Tmessage::Tsymlink { fid, .. }
        | Tmessage::Tmknod { fid, .. }
        | Tmessage::Trename { fid, .. }
        | Tmessage::Tsetattr { fid, .. }
        | Tmessage::Txattrwalk { fid, .. }
        | Tmessage::Txattrcreate { fid, .. }
        | Tmessage::Tlock { fid, .. }
        | Tmessage::Tgetlock { fid, .. }
        | Tmessage::Tremove { fid } => fid,
        Tmessage::Tmkdir { dfid, .. } | Tmessage::Tlink { dfid, .. } => dfid,
        Tmessage::Tunlinkat { dirfid, .. } => dirfid,
        Tmessage::Trenameat { olddirfid, .. } => olddirfid,
    })
}

/// Does `message` ask for a change of the filesystem?
pub(super) fn changes(message: &Tmessage<'_>) -> bool {
    match message {
        Tmessage::Tlopen { flags, .. } => flags & lopen::ACCMODE != lopen::RDONLY || flags & lopen::TRUNC != 0,
        Tmessage::Tlcreate { .. }
        | Tmessage::Tsymlink { .. }
        | Tmessage::Tmknod { .. }
        | Tmessage::Trename { .. }
        | Tmessage::Tsetattr { .. }
        | Tmessage::Txattrcreate { .. }
        | Tmessage::Tlink { .. }
        | Tmessage::Tmkdir { .. }
        | Tmessage::Trenameat { .. }
        | Tmessage::Tunlinkat { .. }
        | Tmessage::Twrite { .. }
        | Tmessage::Tremove { .. } => true,
        Tmessage::Tstatfs { .. }
        | Tmessage::Treadlink { .. }
        | Tmessage::Tgetattr { .. }
        | Tmessage::Txattrwalk { .. }
        | Tmessage::Treaddir { .. }
        | Tmessage::Tfsync { .. }
        | Tmessage::Tlock { .. }
        | Tmessage::Tgetlock { .. }
        | Tmessage::Tversion { .. }
        | Tmessage::Tauth { .. }
        | Tmessage::Tattach { .. }
        | Tmessage::Tflush { .. }
        | Tmessage::Twalk { .. }
        // The message within says it.
        | Tmessage::Tvisit { .. }
        | Tmessage::Tread { .. }
        | Tmessage::Tclunk { .. } => false,
    }
}

//! 9P2000 and 9P2000.u, on the same fids and backends as 9P2000.L.
//!
//! What the dialects have in common is answered where 9P2000.L's is; here is what they have for themselves, by the
//! message: `open` (`Topen`, `Tcreate`), `stat` (`Tstat`, and how a file is described), `readdir` (the `Tread` of a
//! directory), `wstat` (`Twstat`).
//!
//! Section 5 of Plan 9's manual is what is followed, in 9P2000.u with the draft of the extension and what Linux's client
//! expects of it. Where a Unix filesystem has no place for what the manual has:
//! - Append-only and exclusive-use files cannot be made (`EOPNOTSUPP`). That a file need not be backed up
//!   ([`perm::TMP`](ninering_wire::legacy::perm::TMP)) is not kept.
//! - Nobody knows who changed a file last: its `muid` is empty.
//! - In 9P2000, what is neither file nor directory looks like a file that cannot be opened.
//! - In 9P2000.u, permissions are taken as they come, and a rename by `Twstat` replaces a file that is there, as Unix
//!   has it; in 9P2000 a new file has no permission that its directory has not, and a name in use is an error.

mod open;
mod readdir;
mod stat;
mod wstat;

use ninering_wire::{
    Errno, HEADER_LEN, Message, NONUNAME, PATH_MAX, Rmessage as Shared, Str,
    legacy::{Dialect, Rmessage, Stat, Tmessage, Unix, UnixOnly, open as mode},
};

use super::{
    Session,
    fid::Fid,
    identity::Turn,
    request::{self, Request},
    session::{Agreed, check_agreed},
};
use crate::{names::Names, payload::Payload};

/// Bytes of the longest text of an error.
const LONGEST_ERROR: usize = 64;
/// Bytes that an `Rerror` takes at the most.
pub(super) const RERROR_MOST: usize = HEADER_LEN + 2 + LONGEST_ERROR + 4;
/// Bytes that an `Rstat` takes at the most: with name, owner and group, and the target of a symbolic link.
pub(super) const RSTAT_MOST: usize =
    HEADER_LEN + 2 + Stat::<Unix>::FIXED_LEN + ninering_wire::NAME_MAX + 2 * Names::LONGEST + PATH_MAX;

/// Answers a message of the dialect `D`.
pub(super) fn answer<D: Dialect>(
    session: &Session,
    agreed: &Agreed,
    message: &[u8],
    request: Request<'_, '_, '_>,
) -> Result<usize, Errno> {
    // By reference, as with 9P2000.L's.
    let decoded = Tmessage::<D>::decode_body(message[HEADER_LEN - 3], &message[HEADER_LEN..]);
    let (decoded, rest) = decoded.as_ref().map_err(|error| request::errno_of(*error))?;
    if !rest.is_empty() || decoded.payload_len() as usize != request.payload.len() {
        return Err(Errno::EPROTO);
    }
    tracing::trace!(tag = request.tag, message = ?decoded, "request");
    check_agreed(agreed, request.tag, message, request.reply)?;
    let request = Request { changes: changes(decoded), ..request };
    let _turn = Turn::begin();
    dispatch(session, &request, decoded)
}

/// Which function answers which message.
fn dispatch<D: Dialect>(session: &Session, request: &Request, message: &Tmessage<'_, D>) -> Result<usize, Errno> {
    if let Some(now) = request.now
        && may_wait(session, message)
    {
        return Err(now.put_off());
    }
    match *message {
        Tmessage::Tversion { version, .. } => session.version(request, &version),
        Tmessage::Tauth { .. } => Err(Errno::EOPNOTSUPP),
        Tmessage::Tattach { fid, afid, uname, aname, n_uname } => {
            session.attach(request, fid, afid, &uname, &aname, n_uname.get().unwrap_or(NONUNAME))
        }
        Tmessage::Tflush { .. } => request.answer(&Shared::Rflush {}),
        Tmessage::Twalk { fid, newfid, names } => session.walk(request, fid, newfid, names),
        Tmessage::Topen { fid, mode } => session.legacy_open::<D>(request, fid, mode),
        Tmessage::Tcreate { fid, name, perm, mode, extension } => {
            session.legacy_create::<D>(request, fid, &name, perm, mode, extension)
        }
        Tmessage::Tread { fid, offset, count } => session.read(request, fid, offset, count),
        Tmessage::Twrite { fid, offset, count } => session.write(request, fid, offset, count),
        Tmessage::Tclunk { fid } => session.clunk(request, fid),
        Tmessage::Tremove { fid } => session.remove(request, fid),
        Tmessage::Tstat { fid } => session.legacy_stat::<D>(request, fid),
        Tmessage::Twstat { fid, ref stat } => session.legacy_wstat(request, fid, stat),
    }
}

/// May the answer to `message` wait for more than memory, and metadata that mostly is there? All may that tell or take
/// the names of users. A `Tread` of a file finds out itself.
fn may_wait<D: Dialect>(session: &Session, message: &Tmessage<'_, D>) -> bool {
    let is = |fid, what: fn(&Fid) -> bool| session.fids.get(fid).is_ok_and(|fid| what(&fid));
    match *message {
        Tmessage::Tversion { .. } | Tmessage::Tauth { .. } | Tmessage::Tflush { .. } => false,
        Tmessage::Tattach { .. } => session.attach_waits(),
        Tmessage::Twalk { fid, .. } => is(fid, |fid| fid.node.always_waits()),
        Tmessage::Tclunk { fid } => is(fid, |fid| fid.removes_on_clunk() && !fid.node.never_waits()),
        Tmessage::Tread { fid, .. } => is(fid, |fid| fid.node.qid().kind.is_dir()),
        Tmessage::Topen { fid, .. }
        | Tmessage::Tcreate { fid, .. }
        | Tmessage::Twrite { fid, .. }
        | Tmessage::Tremove { fid } => is(fid, |fid| !fid.node.never_waits()),
        Tmessage::Tstat { .. } | Tmessage::Twstat { .. } => true,
    }
}

/// Does `message` ask for a change of the filesystem?
fn changes<D: Dialect>(message: &Tmessage<'_, D>) -> bool {
    match message {
        Tmessage::Topen { mode, .. } => {
            matches!(mode & mode::ACCMODE, mode::WRITE | mode::RDWR) || mode & (mode::TRUNC | mode::RCLOSE) != 0
        }
        Tmessage::Tcreate { .. } | Tmessage::Twrite { .. } | Tmessage::Tremove { .. } => true,
        Tmessage::Twstat { stat, .. } => **stat != Stat::unchanged(),
        Tmessage::Tversion { .. }
        | Tmessage::Tauth { .. }
        | Tmessage::Tattach { .. }
        | Tmessage::Tflush { .. }
        | Tmessage::Twalk { .. }
        | Tmessage::Tread { .. }
        | Tmessage::Tclunk { .. }
        | Tmessage::Tstat { .. } => false,
    }
}

/// Writes an `Rerror` to the front of `reply`, its text cut off where there is no space for it; tells its length, which
/// is 0 where there is none even so.
pub(super) fn answer_error<D: Dialect>(tag: u16, error: Errno, reply: &Payload<'_>) -> usize {
    let mut buffer = [0; RERROR_MOST];
    let text = error.description().as_bytes();
    let least = HEADER_LEN + 2 + if D::IS_UNIX { 4 } else { 0 };
    let Some(space) = reply.len().checked_sub(least) else { return 0 };
    let ename = Str(&text[..text.len().min(space).min(LONGEST_ERROR)]);
    let message: Rmessage<'_, D> = Rmessage::Rerror { ename, errno: UnixOnly::new(error.0) };
    match message.encode(tag, &mut buffer) {
        Ok(length) => reply.copy_from(&buffer[..length]),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_errors_are_short() {
        for number in 0..200 {
            assert!(Errno(number).description().len() <= LONGEST_ERROR);
        }
    }
}

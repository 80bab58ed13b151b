//! A request and its reply as one line: `Twalk(fid=1, newfid=2, names=["a", "b"]) = [dir 12, file 13]`.

use std::fmt::{self, Display, Formatter, Write};

use ninering_wire::{
    AT_REMOVEDIR, Errno, HEADER_LEN, Header, Lock, LockStatus, Message, Rmessage, Statfs, Tmessage,
    legacy::{self, Dialect, Plan9, Unix},
    lock,
};

use super::text::{Changes, Flags, Listed, OpenFlags, OpenMode, OrNone, Quoted, ShownAttributes, ShownQid, lock_name};
use crate::server::request_name;

/// How many characters of what has no form of its own are shown.
const MOST_SHOWN: usize = 512;

/// The bytes of a request, as far as they were kept, without payload.
pub(super) struct Request<'a>(pub(super) &'a [u8]);

impl Display for Request<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Ok(Header { size, kind, .. }) = Header::decode(self.0) else {
            return write!(out, "?({} bytes)", self.0.len());
        };
        let body = &self.0[HEADER_LEN..];
        if let Some(message) = whole::<Tmessage<'_>>(kind, body) {
            return write_request(out, &message);
        }
        if let Some(message) = whole::<legacy::Tmessage<'_, Unix>>(kind, body) {
            return write_legacy_request(out, &message);
        }
        if let Some(message) = whole::<legacy::Tmessage<'_, Plan9>>(kind, body) {
            return write_legacy_request(out, &message);
        }
        match request_name(kind) {
            Some(name) => write!(out, "{name}(malformed, or cut: {size} bytes)"),
            None => write!(out, "type {kind}({size} bytes)"),
        }
    }
}

/// The bytes of a reply, as far as they were kept, without payload.
pub(super) struct Reply<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) error: Option<Errno>,
}

impl Display for Reply<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if let Some(error) = self.error {
            return write!(out, "{error:?}");
        }
        let Ok(Header { kind, size, .. }) = Header::decode(self.bytes) else { return out.write_str("no reply") };
        let body = &self.bytes[HEADER_LEN..];
        if let Some(message) = whole::<Rmessage<'_>>(kind, body) {
            return write_reply(out, &message);
        }
        if let Some(message) = whole::<legacy::Rmessage<'_, Unix>>(kind, body) {
            return write_legacy_reply(out, &message);
        }
        if let Some(message) = whole::<legacy::Rmessage<'_, Plan9>>(kind, body) {
            return write_legacy_reply(out, &message);
        }
        write!(out, "{size} bytes")
    }
}

/// The message, if it is one of its dialect's, with nothing behind it.
fn whole<'a, M: Message<'a>>(kind: u8, body: &'a [u8]) -> Option<M> {
    M::decode_body(kind, body).ok().filter(|(_, rest)| rest.is_empty()).map(|(message, _)| message)
}

fn write_request(out: &mut Formatter<'_>, message: &Tmessage<'_>) -> fmt::Result {
    let name = message.name();
    match *message {
        Tmessage::Tstatfs { fid }
        | Tmessage::Treadlink { fid }
        | Tmessage::Tclunk { fid }
        | Tmessage::Tremove { fid } => {
            write!(out, "{name}(fid={fid})")
        }
        Tmessage::Tlopen { fid, flags } => write!(out, "{name}(fid={fid}, flags={})", OpenFlags(flags)),
        Tmessage::Tlcreate { fid, name: file, flags, mode, gid } => {
            let (file, flags) = (Quoted(file), OpenFlags(flags));
            write!(out, "{name}(fid={fid}, name={file}, flags={flags}, mode=0{mode:o}, gid={gid})")
        }
        Tmessage::Tsymlink { fid, name: link, target, gid } => {
            write!(out, "{name}(fid={fid}, name={}, target={}, gid={gid})", Quoted(link), Quoted(target))
        }
        Tmessage::Tmknod { fid, name: node, mode, major, minor, gid } => {
            let node = Quoted(node);
            write!(out, "{name}(fid={fid}, name={node}, mode=0{mode:o}, major={major}, minor={minor}, gid={gid})")
        }
        Tmessage::Trename { fid, dfid, name: file } => {
            write!(out, "{name}(fid={fid}, dfid={dfid}, name={})", Quoted(file))
        }
        Tmessage::Tgetattr { fid, request_mask } => write!(out, "{name}(fid={fid}, mask={request_mask:#x})"),
        Tmessage::Tsetattr { fid, attributes } => {
            let changes = Changes(attributes.get()).to_string();
            let separator = if changes.is_empty() { "" } else { ", " };
            write!(out, "{name}(fid={fid}{separator}{changes})")
        }
        Tmessage::Txattrwalk { fid, newfid, name: attribute } => {
            write!(out, "{name}(fid={fid}, newfid={newfid}, name={})", Quoted(attribute))
        }
        Tmessage::Txattrcreate { fid, name: attribute, size, flags } => {
            let flags = Flags(flags, &[(1, "XATTR_CREATE"), (2, "XATTR_REPLACE")]);
            write!(out, "{name}(fid={fid}, name={}, size={size}, flags={flags})", Quoted(attribute))
        }
        Tmessage::Treaddir { fid, offset, count }
        | Tmessage::Tread { fid, offset, count }
        | Tmessage::Twrite { fid, offset, count } => write!(out, "{name}(fid={fid}, offset={offset}, count={count})"),
        Tmessage::Tfsync { fid, datasync } => write!(out, "{name}(fid={fid}, datasync={datasync})"),
        Tmessage::Tlock { fid, kind, flags, start, length, proc_id, client_id } => {
            let flags = Flags(flags, &[(lock::FLAGS_BLOCK, "BLOCK"), (lock::FLAGS_RECLAIM, "RECLAIM")]);
            let lock = ShownLock(Lock { kind, start, length, proc_id, client_id });
            write!(out, "{name}(fid={fid}, {lock}, flags={flags})")
        }
        Tmessage::Tgetlock { fid, lock } => write!(out, "{name}(fid={fid}, {})", ShownLock(lock)),
        Tmessage::Tlink { dfid, fid, name: link } => {
            write!(out, "{name}(dfid={dfid}, fid={fid}, name={})", Quoted(link))
        }
        Tmessage::Tmkdir { dfid, name: directory, mode, gid } => {
            write!(out, "{name}(dfid={dfid}, name={}, mode=0{mode:o}, gid={gid})", Quoted(directory))
        }
        Tmessage::Trenameat { olddirfid, oldname, newdirfid, newname } => {
            let (old, new) = (Quoted(oldname), Quoted(newname));
            write!(out, "{name}(olddirfid={olddirfid}, oldname={old}, newdirfid={newdirfid}, newname={new})")
        }
        Tmessage::Tunlinkat { dirfid, name: entry, flags } => {
            let flags = Flags(flags, &[(AT_REMOVEDIR, "AT_REMOVEDIR")]);
            write!(out, "{name}(dirfid={dirfid}, name={}, flags={flags})", Quoted(entry))
        }
        Tmessage::Tversion { msize, version } => write!(out, "{name}(msize={msize}, version={})", Quoted(version)),
        Tmessage::Tauth { afid, uname, aname, n_uname } => {
            let (uname, aname, n_uname) = (Quoted(uname), Quoted(aname), OrNone(n_uname));
            write!(out, "{name}(afid={afid}, uname={uname}, aname={aname}, n_uname={n_uname})")
        }
        Tmessage::Tattach { fid, afid, uname, aname, n_uname } => {
            let (afid, uname, aname, n_uname) = (OrNone(afid), Quoted(uname), Quoted(aname), OrNone(n_uname));
            write!(out, "{name}(fid={fid}, afid={afid}, uname={uname}, aname={aname}, n_uname={n_uname})")
        }
        Tmessage::Tflush { oldtag } => write!(out, "{name}(oldtag={oldtag})"),
        Tmessage::Twalk { fid, newfid, names } => {
            write!(out, "{name}(fid={fid}, newfid={newfid}, names={})", Listed(names))
        }
        Tmessage::Tvisit { fid, newfid, names, message } => {
            write!(out, "{name}(fid={fid}, newfid={}, names={}, ", OrNone(newfid), Listed(names))?;
            match message.decode() {
                // One within another is refused, and could be repeated without end.
                Err(_) | Ok(Tmessage::Tvisit { .. }) => write!(out, "{} bytes)", message.0.len()),
                Ok(message) => {
                    write_request(out, &message)?;
                    out.write_str(")")
                }
            }
        }
    }
}

fn write_reply(out: &mut Formatter<'_>, message: &Rmessage<'_>) -> fmt::Result {
    match *message {
        Rmessage::Rlerror { ecode } => write!(out, "{:?}", Errno(ecode)),
        Rmessage::Rstatfs { statfs } => {
            let Statfs { kind, bsize, blocks, bfree, bavail, files, ffree, namelen, .. } = statfs.get();
            write!(out, "type={kind:#x}, bsize={bsize}, blocks={blocks}, bfree={bfree}, bavail={bavail}, ")?;
            write!(out, "files={files}, ffree={ffree}, namelen={namelen}")
        }
        Rmessage::Rlopen { qid, iounit: 0 } | Rmessage::Rlcreate { qid, iounit: 0 } => write!(out, "{}", ShownQid(qid)),
        Rmessage::Rlopen { qid, iounit } | Rmessage::Rlcreate { qid, iounit } => {
            write!(out, "{}, iounit={iounit}", ShownQid(qid))
        }
        Rmessage::Rsymlink { qid }
        | Rmessage::Rmknod { qid }
        | Rmessage::Rmkdir { qid }
        | Rmessage::Rattach { qid }
        | Rmessage::Rauth { aqid: qid } => write!(out, "{}", ShownQid(qid)),
        Rmessage::Rreadlink { target } => write!(out, "{}", Quoted(target)),
        Rmessage::Rgetattr { attributes } => write!(out, "{}", ShownAttributes(attributes.get())),
        Rmessage::Rxattrwalk { size } => write!(out, "{size} bytes"),
        Rmessage::Rreaddir { count } | Rmessage::Rread { count } => write!(out, "{count} bytes"),
        Rmessage::Rlock { status } => out.write_str(match status {
            LockStatus::Success => "success",
            LockStatus::Blocked => "blocked",
            LockStatus::Error => "error",
            LockStatus::Grace => "grace",
        }),
        Rmessage::Rgetlock { lock } => write!(out, "{}", ShownLock(lock)),
        Rmessage::Rversion { msize, version } => write!(out, "{msize}, {}", Quoted(version)),
        Rmessage::Rwalk { qids } => write!(out, "{}", Listed(qids)),
        Rmessage::Rvisit { qids, message } => {
            write!(out, "{}", Listed(qids))?;
            match (message.0, message.decode()) {
                ([], _) => Ok(()),
                (_, Ok(message)) if !matches!(message, Rmessage::Rvisit { .. }) => {
                    out.write_str(", ")?;
                    write_reply(out, &message)
                }
                (bytes, _) => write!(out, ", {} bytes", bytes.len()),
            }
        }
        Rmessage::Rwrite { count } => write!(out, "{count}"),
        Rmessage::Rrename {}
        | Rmessage::Rsetattr {}
        | Rmessage::Rxattrcreate {}
        | Rmessage::Rfsync {}
        | Rmessage::Rlink {}
        | Rmessage::Rrenameat {}
        | Rmessage::Runlinkat {}
        | Rmessage::Rflush {}
        | Rmessage::Rclunk {}
        | Rmessage::Rremove {} => out.write_str("ok"),
    }
}

fn write_legacy_request<D: Dialect>(out: &mut Formatter<'_>, message: &legacy::Tmessage<'_, D>) -> fmt::Result {
    let name = message.name();
    match *message {
        legacy::Tmessage::Tauth { afid, uname, aname, .. } => {
            write!(out, "{name}(afid={afid}, uname={}, aname={})", Quoted(uname), Quoted(aname))
        }
        legacy::Tmessage::Tattach { fid, afid, uname, aname, .. } => {
            let (afid, uname, aname) = (OrNone(afid), Quoted(uname), Quoted(aname));
            write!(out, "{name}(fid={fid}, afid={afid}, uname={uname}, aname={aname})")
        }
        legacy::Tmessage::Topen { fid, mode } => write!(out, "{name}(fid={fid}, mode={})", OpenMode(mode)),
        legacy::Tmessage::Tcreate { fid, name: file, perm, mode, extension } => {
            write!(out, "{name}(fid={fid}, name={}, perm=0{perm:o}, mode={}", Quoted(file), OpenMode(mode))?;
            match extension.get() {
                Some(extension) => write!(out, ", extension={})", Quoted(extension)),
                None => out.write_str(")"),
            }
        }
        legacy::Tmessage::Tstat { fid } => write!(out, "{name}(fid={fid})"),
        legacy::Tmessage::Twstat { fid, stat } => write!(out, "{name}(fid={fid}, {})", Shortened(&stat)),
        _ => write!(out, "{}", Shortened(message)),
    }
}

fn write_legacy_reply<D: Dialect>(out: &mut Formatter<'_>, message: &legacy::Rmessage<'_, D>) -> fmt::Result {
    match *message {
        legacy::Rmessage::Rerror { ename, errno } => match errno.get() {
            Some(errno) => write!(out, "{:?} {}", Errno(errno), Quoted(ename)),
            None => write!(out, "{}", Quoted(ename)),
        },
        legacy::Rmessage::Ropen { qid, .. } | legacy::Rmessage::Rcreate { qid, .. } => write!(out, "{}", ShownQid(qid)),
        legacy::Rmessage::Rstat { stat } => write!(out, "{}", Shortened(&stat)),
        legacy::Rmessage::Rwstat {} => out.write_str("ok"),
        _ => write!(out, "{}", Shortened(message)),
    }
}

struct ShownLock<'a>(Lock<'a>);

impl Display for ShownLock<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Lock { kind, start, length, proc_id, client_id } = self.0;
        let (kind, client) = (lock_name(kind), Quoted(client_id));
        write!(out, "{kind}, start={start}, length={length}, proc_id={proc_id}, client_id={client}")
    }
}

/// The beginning of what `Debug` writes, which escapes strings.
struct Shortened<'a, T>(&'a T);

impl<T: fmt::Debug> Display for Shortened<'_, T> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write!(text, "{:?}", self.0)?;
        match text.char_indices().nth(MOST_SHOWN) {
            Some((end, _)) => write!(out, "{}...", &text[..end]),
            None => out.write_str(&text),
        }
    }
}

//! `Topen` and `Tcreate`.

use std::sync::Arc;

use ninering_wire::{
    Errno, Name, Qid, Str,
    legacy::{Dialect, Rmessage, UnixOnly, open, perm},
    lopen, mode,
};
use smallvec::SmallVec;

use super::{
    readdir::StatStream,
    stat::{SPECIAL, permissions},
};
use crate::{
    backend::{NodeRef, OpenRef},
    server::{
        Session,
        attach::Attach,
        directory::check_target,
        fid::{Fid, Opened, Place},
        request::Request,
    },
};

/// What a `mode` asks for.
struct Asked {
    /// As flags of 9P2000.L.
    flags: u32,
    /// To be run.
    executes: bool,
    /// To be removed when the fid is clunked.
    remove_on_clunk: bool,
}

impl Asked {
    /// `EINVAL` for bits that the dialect has not.
    fn new<D: Dialect>(mode: u8) -> Result<Self, Errno> {
        const KNOWN: u8 = open::ACCMODE | open::TRUNC | open::CEXEC | open::RCLOSE;
        let known = if D::IS_UNIX { KNOWN | open::APPEND } else { KNOWN };
        if mode & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let mut flags = match mode & open::ACCMODE {
            open::WRITE => lopen::WRONLY,
            open::RDWR => lopen::RDWR,
            _ => lopen::RDONLY,
        };
        if mode & open::TRUNC != 0 {
            flags |= lopen::TRUNC;
        }
        if mode & open::APPEND != 0 {
            flags |= lopen::APPEND;
        }
        let executes = mode & open::ACCMODE == open::EXEC;
        Ok(Self { flags, executes, remove_on_clunk: mode & open::RCLOSE != 0 })
    }

    /// Would that change a directory which is opened so?
    fn changes(&self) -> bool {
        self.flags & (lopen::ACCMODE | lopen::TRUNC) != 0 || self.remove_on_clunk
    }
}

impl Session {
    /// `Topen`. A file to be run must be executable for somebody; whether it is for the user, who runs it asks on his
    /// own machine.
    pub(super) fn legacy_open<D: Dialect>(&self, request: &Request, number: u32, mode: u8) -> Result<usize, Errno> {
        let asked = Asked::new::<D>(mode)?;
        let fid = self.fid(request, number)?;
        fid.open(|| {
            if fid.node.qid().kind.is_dir() {
                return self.open_directory::<D>(&fid.node, &fid.attach, &asked);
            }
            if asked.executes && fid.node.attributes(ninering_wire::getattr::MODE)?.mode & 0o111 == 0 {
                return Err(Errno::EACCES);
            }
            let file = fid.node.open(asked.flags)?;
            Ok(Opened::new(file, asked.flags).removed_on_clunk(asked.remove_on_clunk))
        })?;
        let reply: Rmessage<'_, D> = Rmessage::Ropen { qid: fid.node.qid(), iounit: 0 };
        request.answer(&reply)
    }

    /// A directory can be neither written nor truncated, nor removed by closing it.
    fn open_directory<D: Dialect>(&self, node: &NodeRef, attach: &Arc<Attach>, asked: &Asked) -> Result<Opened, Errno> {
        if asked.changes() {
            return Err(Errno::EISDIR);
        }
        let directory = node.open(asked.flags & !lopen::APPEND | lopen::DIRECTORY)?;
        let stream: OpenRef =
            Arc::new(StatStream::<D>::new(Arc::clone(node), directory, Arc::clone(attach), Arc::clone(&self.server)));
        Ok(Opened::new(stream, lopen::RDONLY))
    }

    /// `Tcreate`: the fid of the directory becomes that of the new file, which is open, but for those that a server does
    /// not open: links, fifos, sockets, devices.
    pub(super) fn legacy_create<D: Dialect>(
        &self,
        request: &Request,
        number: u32,
        name: &[u8],
        perm: u32,
        mode: u8,
        extension: UnixOnly<Str<'_>, D>,
    ) -> Result<usize, Errno> {
        let asked = Asked::new::<D>(mode)?;
        let kind = Kind::of::<D>(perm)?;
        let name = Name::new(name)?;
        let fid = self.fid(request, number)?;
        let qid = fid.while_unopened(|| {
            let extension = extension.get().unwrap_or_default();
            let (mode, gid) = self.of_new_file::<D>(&fid.node, kind, perm)?;
            let (node, opened) = match kind {
                Kind::File => {
                    let flags = asked.flags | lopen::CREATE | lopen::EXCL;
                    let (node, file) = fid.node.create(name, flags, mode, gid)?;
                    (node, Some(Opened::new(file, flags).removed_on_clunk(asked.remove_on_clunk)))
                }
                Kind::Directory => {
                    if asked.changes() {
                        return Err(Errno::EISDIR);
                    }
                    let node = made(&fid.node, name, fid.node.make_directory(name, mode, gid)?)?;
                    let opened = self.open_directory::<D>(&node, &fid.attach, &asked)?;
                    (node, Some(opened))
                }
                Kind::Symlink => {
                    check_target(&extension)?;
                    (made(&fid.node, name, fid.node.symlink(name, &extension, gid)?)?, None)
                }
                Kind::Link => {
                    let target = fid_number(&extension).ok_or(Errno::EINVAL)?;
                    let (_, target) = self.two_fids(request, number, target)?;
                    fid.node.link(name, &*target.node)?;
                    (made(&fid.node, name, target.node.qid())?, None)
                }
                Kind::Special(format) => {
                    let (format, device) = match format {
                        mode::IFBLK => device(&extension).ok_or(Errno::EINVAL)?,
                        fifo_or_socket => (fifo_or_socket, (0, 0)),
                    };
                    (made(&fid.node, name, fid.node.make_node(name, format | mode, device, gid)?)?, None)
                }
            };
            let qid = node.qid();
            let place = Place { directory: Arc::clone(&fid.node), name: SmallVec::from_slice(&name) };
            let attach = Arc::clone(&fid.attach);
            let new = match opened {
                Some(opened) => Fid::with_opened(node, attach, place, opened),
                None => Fid::new(node, attach, Some(place)),
            };
            self.fids.replace(number, &fid, new)?;
            Ok(qid)
        })?;
        let reply: Rmessage<'_, D> = Rmessage::Rcreate { qid, iounit: 0 };
        request.answer(&reply)
    }

    /// Permissions and group of a new file. In 9P2000 both come from its directory, of the permissions no more than
    /// `perm` has; `!0` is the group that the filesystem gives it.
    fn of_new_file<D: Dialect>(&self, directory: &NodeRef, kind: Kind, perm: u32) -> Result<(u32, u32), Errno> {
        if D::IS_UNIX {
            return Ok((permissions(perm), !0));
        }
        let above = directory.attributes(ninering_wire::getattr::MODE | ninering_wire::getattr::GID)?;
        let inherited = if matches!(kind, Kind::Directory) { 0o777 } else { 0o666 };
        Ok((perm & perm::PERMISSIONS & (!inherited | above.mode), above.gid))
    }
}

/// What kind of file a `perm` asks for.
#[derive(Clone, Copy)]
enum Kind {
    File,
    Directory,
    Symlink,
    Link,
    /// With its bits of [`mode::IFMT`]; a block device stands for one of either kind.
    Special(u32),
}

impl Kind {
    /// `EOPNOTSUPP` for what no Unix filesystem has, `EINVAL` for bits that mean nothing together, or in the dialect.
    fn of<D: Dialect>(perm: u32) -> Result<Self, Errno> {
        if perm & (perm::APPEND | perm::EXCL) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        const SET_IDS: u32 = perm::SETUID | perm::SETGID | perm::SETVTX;
        let kinds = if D::IS_UNIX { perm::DIR | perm::LINK | SPECIAL } else { perm::DIR };
        let known = kinds | perm::TMP | perm::PERMISSIONS | if D::IS_UNIX { SET_IDS } else { 0 };
        if perm & !known != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(match perm & kinds {
            0 => Self::File,
            perm::DIR => Self::Directory,
            perm::SYMLINK => Self::Symlink,
            perm::LINK => Self::Link,
            perm::DEVICE => Self::Special(mode::IFBLK),
            perm::NAMEDPIPE => Self::Special(mode::IFIFO),
            perm::SOCKET => Self::Special(mode::IFSOCK),
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// The file that was just made as `name`. `EIO` where another one has taken its place since.
fn made(directory: &NodeRef, name: Name<'_>, qid: Qid) -> Result<NodeRef, Errno> {
    let node = directory.lookup(name)?;
    if node.qid().path == qid.path { Ok(node) } else { Err(Errno::EIO) }
}

/// A fid as a text: Linux's client puts a line end behind it.
fn fid_number(extension: &[u8]) -> Option<u32> {
    str::from_utf8(extension.trim_ascii()).ok()?.parse().ok()
}

/// A device as a text: `b 8 1`.
fn device(extension: &[u8]) -> Option<(u32, (u32, u32))> {
    let mut words = str::from_utf8(extension).ok()?.split_ascii_whitespace();
    let format = match words.next()? {
        "b" => mode::IFBLK,
        "c" | "u" => mode::IFCHR,
        _ => return None,
    };
    let device = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some((format, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_fids_are_read() {
        assert_eq!(device(b"b 8 1"), Some((mode::IFBLK, (8, 1))));
        assert_eq!(device(b"c 4294967295  0\n"), Some((mode::IFCHR, (u32::MAX, 0))));
        for none in [&b""[..], b"b", b"b 8", b"b 8 1 2", b"x 8 1", b"b -1 1", b"b 8 4294967296", b"8 1", b"\xff 1 1"] {
            assert_eq!(device(none), None, "{}", none.escape_ascii());
        }
        assert_eq!(fid_number(b"17\n"), Some(17));
        assert_eq!(fid_number(b"4294967295"), Some(u32::MAX));
        for none in [&b""[..], b"-1", b"4294967296", b"1 2", b"x", b"\xff"] {
            assert_eq!(fid_number(none), None, "{}", none.escape_ascii());
        }
    }
}

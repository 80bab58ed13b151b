//! `Tstat`, and how a file is described.

use std::fmt::Write;

use ninering_wire::{
    Attributes, Errno, NONUNAME, Qid, Str, getattr,
    legacy::{Counted, Dialect, Rmessage, Stat, UnixOnly, perm},
    mode,
};
use smallvec::SmallVec;

use super::RSTAT_MOST;
use crate::{
    backend::Node,
    names::{NameText, Names},
    server::{Session, directory::place_of, fid::Fid, request::Request},
};

/// The bits of files that 9P2000 knows nothing of.
pub(super) const SPECIAL: u32 = perm::SYMLINK | perm::DEVICE | perm::NAMEDPIPE | perm::SOCKET;

/// Which bits of [`mode::PERMISSIONS`] stand for which above 9P2000's own.
const SET_IDS: [(u32, u32); 3] = [(perm::SETUID, 0o4000), (perm::SETGID, 0o2000), (perm::SETVTX, 0o1000)];

impl Session {
    /// `Tstat`. `ENOBUFS` where the answer is longer than a message may be.
    pub(super) fn legacy_stat<D: Dialect>(&self, request: &Request, fid: u32) -> Result<usize, Errno> {
        let fid = self.fid(request, fid)?;
        let attributes = fid.attributes(getattr::BASIC)?;
        let name = name_of(&fid);
        let described = Described::new(&*fid.node, attributes, &self.server.names)?;
        let mut reply = [0; RSTAT_MOST];
        let message: Rmessage<'_, D> = Rmessage::Rstat { stat: Counted(described.stat(&name)) };
        let length = message.encode(request.tag, &mut reply).map_err(|_| Errno::ENOBUFS)?;
        request.answer_built(&reply[..length])
    }
}

/// The name that a fid's file has now, or had last; `/` of a root.
pub(super) fn name_of(fid: &Fid) -> SmallVec<[u8; 32]> {
    match place_of(fid) {
        Ok(place) => place.name,
        Err(_) => fid.place.lock().as_ref().map_or_else(|| SmallVec::from_slice(b"/"), |place| place.name.clone()),
    }
}

/// What there is to be told of a file, but for its name.
pub(super) struct Described {
    attributes: Attributes,
    uid: NameText,
    gid: NameText,
    extension: Vec<u8>,
}

impl Described {
    /// Asks what the attributes do not tell.
    pub(super) fn new(node: &dyn Node, attributes: Attributes, names: &Names) -> Result<Self, Errno> {
        let mut extension = Vec::new();
        match attributes.mode & mode::IFMT {
            mode::IFLNK => extension = node.read_link()?,
            kind @ (mode::IFBLK | mode::IFCHR) => extension = device(kind, attributes.rdev).into_bytes(),
            // Linux's client knows the number of links from here.
            mode::IFREG | mode::IFDIR => extension = format!("HARDLINKCOUNT {}", attributes.nlink).into_bytes(),
            _ => {}
        }
        let (uid, gid) = (names.user(attributes.uid), names.group(attributes.gid));
        Ok(Self { attributes, uid, gid, extension })
    }

    /// A file of which only its directory's entry can be had.
    pub(super) fn unknown(qid: Qid, kind: u8) -> Self {
        let attributes =
            Attributes { qid, mode: u32::from(kind) << 12, uid: NONUNAME, gid: NONUNAME, ..Attributes::default() };
        let unknown: NameText = b"".as_slice().into();
        Self { attributes, uid: unknown.clone(), gid: unknown, extension: Vec::new() }
    }

    /// What 9P2000.u tells besides.
    pub(super) fn extension(&self) -> &[u8] {
        &self.extension
    }

    /// As it goes to the client.
    pub(super) fn stat<'a, D: Dialect>(&'a self, name: &'a [u8]) -> Stat<'a, D> {
        let Attributes { qid, uid, gid, size, mode, .. } = self.attributes;
        Stat {
            kind: 0,
            dev: 0,
            qid,
            mode: perm_of::<D>(mode),
            atime: seconds(self.attributes.atime_sec),
            mtime: seconds(self.attributes.mtime_sec),
            length: if mode & mode::IFMT == mode::IFDIR { 0 } else { size },
            name: Str(name),
            uid: Str(&self.uid),
            gid: Str(&self.gid),
            muid: Str(b""),
            extension: UnixOnly::new(Str(&self.extension)),
            n_uid: UnixOnly::new(uid),
            n_gid: UnixOnly::new(gid),
            n_muid: UnixOnly::new(NONUNAME),
        }
    }
}

/// A mode as the dialect has it.
pub(super) fn perm_of<D: Dialect>(mode: u32) -> u32 {
    let permissions = mode & perm::PERMISSIONS;
    let kind = mode & mode::IFMT;
    if kind == mode::IFDIR && !D::IS_UNIX {
        return permissions | perm::DIR;
    }
    if !D::IS_UNIX {
        return permissions;
    }
    let kind = match kind {
        mode::IFDIR => perm::DIR,
        mode::IFLNK => perm::SYMLINK,
        mode::IFBLK | mode::IFCHR => perm::DEVICE,
        mode::IFIFO => perm::NAMEDPIPE,
        mode::IFSOCK => perm::SOCKET,
        _ => 0,
    };
    let set_ids = SET_IDS.iter().filter(|(_, bit)| mode & bit != 0).fold(0, |all, (dm, _)| all | dm);
    kind | set_ids | permissions
}

/// The permissions in a mode of 9P2000.u.
pub(super) fn permissions(perm: u32) -> u32 {
    let set_ids = SET_IDS.iter().filter(|(dm, _)| perm & dm != 0).fold(0, |all, (_, bit)| all | bit);
    perm & perm::PERMISSIONS | set_ids
}

/// A time: the nearest that four bytes can tell.
pub(super) fn seconds(time: u64) -> u32 {
    u32::try_from((time as i64).max(0)).unwrap_or(u32::MAX)
}

fn device(kind: u32, rdev: u64) -> String {
    let mut text = String::from(if kind == mode::IFBLK { "b" } else { "c" });
    // Writing to a string cannot fail.
    let _ = write!(text, " {} {}", rustix::fs::major(rdev), rustix::fs::minor(rdev));
    text
}

#[cfg(test)]
mod tests {
    use ninering_wire::legacy::{Plan9, Unix};

    use super::*;

    #[test]
    fn modes_go_both_ways() {
        for mode in [0o100644, 0o104755, 0o102711, 0o040755, 0o041777, 0o120777, 0o010600, 0o140700, 0o060660] {
            let perm = perm_of::<Unix>(mode);
            assert_eq!(permissions(perm), mode & 0o7777, "{mode:o}");
            assert_eq!(perm & perm::DIR != 0, mode & mode::IFMT == mode::IFDIR);
            let plan9 = perm_of::<Plan9>(mode);
            assert_eq!(plan9 & !perm::DIR, mode & 0o777);
            assert_eq!(plan9 & perm::DIR, perm & perm::DIR);
        }
        assert_eq!(perm_of::<Unix>(0o120777), perm::SYMLINK | 0o777);
        assert_eq!(perm_of::<Unix>(0o024666), perm::DEVICE | perm::SETUID | 0o666);
    }

    #[test]
    fn times_are_the_nearest_that_can_be_told() {
        for (time, told) in [(0, 0), (5, 5), (-1_i64 as u64, 0), (1 << 40, u32::MAX), (u64::from(u32::MAX), u32::MAX)] {
            assert_eq!(seconds(time), told);
        }
    }
}

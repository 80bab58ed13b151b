//! `Twstat`: attributes and name are changed, all that were asked for or none.

use std::sync::Arc;

use ninering_wire::{
    Attributes, Errno, Name, QidType, SetAttributes, getattr,
    legacy::{Dialect, Rmessage, Stat, perm},
    lopen, mode, setattr,
};
use smallvec::SmallVec;

use super::stat::{Described, SPECIAL, name_of, perm_of, permissions, seconds};
use crate::{
    names::Names,
    server::{
        Session,
        directory::place_of,
        fid::{Fid, Place},
        request::Request,
    },
};

impl Session {
    /// `Twstat`. One that changes nothing makes durable what was written: it is the dialects' fsync.
    pub(super) fn legacy_wstat<D: Dialect>(
        &self,
        request: &Request,
        number: u32,
        stat: &Stat<'_, D>,
    ) -> Result<usize, Errno> {
        let fid = self.fid(request, number)?;
        if *stat == Stat::unchanged() {
            sync(&fid)?;
        } else {
            let before = fid.attributes(getattr::BASIC)?;
            check_fixed(&fid, stat, &before, &self.server.names)?;
            let attributes = changes(stat, &before)?;
            let name = new_name(&fid, stat)?;
            let rename = name.map(|name| Rename::new::<D>(&fid, name)).transpose()?;
            make(&fid, &before, attributes, rename.as_ref())?;
        }
        let reply: Rmessage<'_, D> = Rmessage::Rwstat {};
        request.answer(&reply)
    }
}

/// Makes durable what was written to a file, by this fid or any other.
fn sync(fid: &Fid) -> Result<(), Errno> {
    if let Ok(opened) = fid.opened() {
        return opened.any().sync(false);
    }
    match fid.node.attributes(getattr::MODE)?.mode & mode::IFMT {
        mode::IFREG | mode::IFDIR => fid.node.open(lopen::RDONLY)?.sync(false),
        // They have no contents.
        _ => Ok(()),
    }
}

/// `EPERM` where `stat` would change what cannot be: it may only repeat what is. Who changed the file last is not looked
/// at, for Linux's client says with each rename that it was its user.
fn check_fixed<D: Dialect>(fid: &Fid, stat: &Stat<'_, D>, before: &Attributes, names: &Names) -> Result<(), Errno> {
    let qid = before.qid;
    let extension = stat.extension.get().unwrap_or_default();
    let fixed = matches!(stat.kind, 0 | 0xffff)
        && matches!(stat.dev, 0 | 0xffff_ffff)
        && (stat.qid.kind == qid.kind || stat.qid.kind == QidType(!0))
        && (stat.qid.path == qid.path || stat.qid.path == !0)
        && (extension.is_empty() || *extension == *Described::new(&*fid.node, *before, names)?.extension());
    if fixed { Ok(()) } else { Err(Errno::EPERM) }
}

/// What is to become of the attributes.
fn changes<D: Dialect>(stat: &Stat<'_, D>, before: &Attributes) -> Result<SetAttributes, Errno> {
    let mut changes = SetAttributes::default();
    let format = before.mode & mode::IFMT;
    if stat.length != !0 && !(format == mode::IFDIR && stat.length == 0) && stat.length != before.size {
        match format {
            mode::IFREG if i64::try_from(stat.length).is_ok() => {}
            mode::IFREG => return Err(Errno::EFBIG),
            mode::IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        changes.valid |= setattr::SIZE;
        changes.size = stat.length;
    }
    let resized = changes.valid != 0;
    if stat.mode != !0 {
        let permissions = new_permissions::<D>(stat.mode, before.mode)?;
        if permissions != before.mode & mode::PERMISSIONS {
            changes.valid |= setattr::MODE;
            changes.mode = permissions;
        }
    }
    // A new size changes the times too, so that "as it is" has to be set again.
    if stat.mtime != !0 && (resized || stat.mtime != seconds(before.mtime_sec)) {
        changes.valid |= setattr::MTIME | setattr::MTIME_SET;
        changes.mtime_sec = stat.mtime.into();
    }
    if stat.atime != !0 && stat.atime != seconds(before.atime_sec) {
        changes.valid |= setattr::ATIME | setattr::ATIME_SET;
        changes.atime_sec = stat.atime.into();
    }
    if let Some(uid) = new_owner(stat.n_uid.get(), &stat.uid, Names::uid)?.filter(|&uid| uid != before.uid) {
        if !D::IS_UNIX {
            // "It is illegal to attempt to change the owner of a file."
            return Err(Errno::EPERM);
        }
        changes.valid |= setattr::UID;
        changes.uid = uid;
    }
    if let Some(gid) = new_owner(stat.n_gid.get(), &stat.gid, Names::gid)?.filter(|&gid| gid != before.gid) {
        changes.valid |= setattr::GID;
        changes.gid = gid;
    }
    Ok(changes)
}

/// The permissions that a mode asks for, of a file that has the mode `before`. 9P2000 leaves alone those it cannot tell.
fn new_permissions<D: Dialect>(asked: u32, before: u32) -> Result<u32, Errno> {
    if asked & (perm::APPEND | perm::EXCL) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let kinds = if D::IS_UNIX { perm::DIR | SPECIAL } else { perm::DIR };
    if (asked ^ perm_of::<D>(before)) & kinds != 0 {
        return Err(Errno::EPERM);
    }
    const SET_IDS: u32 = perm::SETUID | perm::SETGID | perm::SETVTX;
    let known = kinds | perm::TMP | perm::PERMISSIONS | if D::IS_UNIX { SET_IDS } else { 0 };
    if asked & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let kept = if D::IS_UNIX { 0 } else { before & mode::PERMISSIONS & !perm::PERMISSIONS };
    Ok(permissions(asked) | kept)
}

/// The owner or group that is asked for, by its number or, where there is none, its name. `EINVAL` for an unknown name.
fn new_owner(
    number: Option<u32>,
    name: &[u8],
    number_of: impl FnOnce(&[u8]) -> Option<u32>,
) -> Result<Option<u32>, Errno> {
    match number.filter(|&number| number != !0) {
        Some(number) => Ok(Some(number)),
        None if name.is_empty() => Ok(None),
        None => number_of(name).map(Some).ok_or(Errno::EINVAL),
    }
}

/// The name that is asked for, where it is a new one.
fn new_name<'a, D: Dialect>(fid: &Fid, stat: &Stat<'a, D>) -> Result<Option<Name<'a>>, Errno> {
    if stat.name.is_empty() || *stat.name == *name_of(fid) { Ok(None) } else { Name::new(stat.name.0).map(Some) }
}

/// A file's way from one name of its directory to another, and back.
struct Rename<'a> {
    from: Place,
    to: Name<'a>,
}

impl<'a> Rename<'a> {
    /// `EEXIST` in 9P2000 where the name is in use.
    fn new<D: Dialect>(fid: &Fid, to: Name<'a>) -> Result<Self, Errno> {
        let from = place_of(fid)?;
        if !D::IS_UNIX {
            match from.directory.lookup(to) {
                Err(Errno::ENOENT) => {}
                Ok(_) => return Err(Errno::EEXIST),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { from, to })
    }

    fn make(&self, fid: &Fid) -> Result<(), Errno> {
        self.from.directory.rename(Name::new(&self.from.name)?, &*self.from.directory, self.to)?;
        let name = SmallVec::from_slice(&self.to);
        *fid.place.lock() = Some(Place { directory: Arc::clone(&self.from.directory), name });
        Ok(())
    }

    fn undo(&self, fid: &Fid) -> Result<(), Errno> {
        self.from.directory.rename(self.to, &*self.from.directory, Name::new(&self.from.name)?)?;
        *fid.place.lock() = Some(self.from.clone());
        Ok(())
    }
}

/// Makes all changes; where one fails, those before it are undone.
///
/// Contents that are cut off cannot be brought back. So that comes last, when all else has been done. Permissions, which
/// could be in its way, and times, which it changes, are set by then only to see that they can be, and once more behind
/// it.
fn make(fid: &Fid, before: &Attributes, changes: SetAttributes, rename: Option<&Rename<'_>>) -> Result<(), Errno> {
    const TIMES: u32 = setattr::ATIME | setattr::ATIME_SET | setattr::MTIME | setattr::MTIME_SET;
    let asked = |bits| changes.valid & bits != 0;
    let only = |bits| SetAttributes { valid: changes.valid & bits, ..changes };
    let set = |changes: SetAttributes| match changes.valid {
        0 => Ok(()),
        _ => fid.set_attributes(changes),
    };

    if let Some(rename) = rename {
        rename.make(fid)?;
    }
    let made = if !asked(setattr::SIZE) {
        set(changes)
    } else {
        set(SetAttributes { mode: before.mode & mode::PERMISSIONS, ..only(!setattr::SIZE) })
            .and_then(|()| set(only(setattr::SIZE)))
    };
    if let Err(error) = made {
        undo(fid, before, changes.valid, rename);
        return Err(error);
    }
    if asked(setattr::SIZE) { set(only(setattr::MODE | TIMES)) } else { Ok(()) }
}

/// Gives a file back what it was `before`, as far as it may have been changed.
fn undo(fid: &Fid, before: &Attributes, changed: u32, rename: Option<&Rename<'_>>) {
    let mut changed = changed & !setattr::SIZE;
    if changed & (setattr::UID | setattr::GID) != 0 && before.mode & mode::IFMT != mode::IFLNK {
        // A new owner takes the set-id bits away.
        changed |= setattr::MODE;
    }
    let attributes = SetAttributes {
        valid: changed,
        mode: before.mode & mode::PERMISSIONS,
        uid: before.uid,
        gid: before.gid,
        size: 0,
        atime_sec: before.atime_sec,
        atime_nsec: before.atime_nsec,
        mtime_sec: before.mtime_sec,
        mtime_nsec: before.mtime_nsec,
    };
    let attributes = if changed == 0 { Ok(()) } else { fid.set_attributes(attributes) };
    let renamed = rename.map_or(Ok(()), |rename| rename.undo(fid));
    for error in [attributes, renamed].into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "a part of a Twstat that failed cannot be undone");
    }
}

#[cfg(test)]
mod tests {
    use ninering_wire::legacy::{Plan9, Unix};

    use super::*;

    #[test]
    fn modes_change_permissions_alone() {
        assert_eq!(new_permissions::<Unix>(0o644, 0o104755), Ok(0o644));
        assert_eq!(new_permissions::<Unix>(perm::SETGID | 0o755, 0o100644), Ok(0o2755));
        assert_eq!(new_permissions::<Plan9>(0o644, 0o104755), Ok(0o4644), "which 9P2000 cannot tell");
        assert_eq!(new_permissions::<Plan9>(perm::DIR | perm::TMP | 0o700, 0o040755), Ok(0o700));
        assert_eq!(new_permissions::<Plan9>(perm::DIR | 0o700, 0o100755), Err(Errno::EPERM));
        assert_eq!(new_permissions::<Plan9>(0o700, 0o040755), Err(Errno::EPERM));
        assert_eq!(new_permissions::<Unix>(0o777, 0o120777), Err(Errno::EPERM));
        assert_eq!(new_permissions::<Unix>(perm::NAMEDPIPE | 0o600, 0o010644), Ok(0o600));
        assert_eq!(new_permissions::<Unix>(perm::APPEND | 0o600, 0o100644), Err(Errno::EOPNOTSUPP));
        assert_eq!(new_permissions::<Plan9>(perm::SETUID | 0o600, 0o100644), Err(Errno::EINVAL));
        assert_eq!(new_permissions::<Unix>(perm::AUTH | 0o600, 0o100644), Err(Errno::EINVAL));
    }
}

//! An inode's extended attributes.

use std::collections::BTreeMap;

use ninering_wire::{Errno, xattr};

use super::{
    acl::{self, Acl},
    inode::{Content, Inode, Time},
    space::Space,
};
use crate::backend::XattrName;

/// What an attribute takes of the space besides its name and value, in bytes: about its share of the map.
const COST: usize = 96;

/// Values by name.
type Values = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Extended attributes. Most inodes have none, and no more than a pointer for them.
#[derive(Default)]
pub(super) struct Xattrs(Option<Box<Values>>);

impl Xattrs {
    pub(super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.as_ref()?.get(name).map(|value| &**value)
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(|attributes| attributes.keys()).map(|name| &**name)
    }

    /// The length of the list of names, in bytes.
    fn list_len(&self) -> usize {
        self.names().map(|name| name.len() + 1).sum()
    }

    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], space: &Space) -> Result<(), Errno> {
        let before = self.get(name).map_or(0, |old| cost(name, old));
        if before == 0 && self.list_len() + name.len() + 1 > xattr::LIST_MAX {
            return Err(Errno::ENOSPC);
        }
        space.take_bytes(cost(name, value))?;
        space.return_bytes(before);
        self.0.get_or_insert_default().insert(name.into(), value.into());
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &[u8], space: &Space) -> Option<()> {
        let value = self.0.as_mut()?.remove(name)?;
        space.return_bytes(cost(name, &value));
        Some(())
    }

    /// Removes all.
    pub(super) fn clear(&mut self, space: &Space) {
        let attributes = self.0.take();
        space.return_bytes(attributes.iter().flat_map(|all| all.iter()).map(|(name, value)| cost(name, value)).sum());
    }
}

fn cost(name: &[u8], value: &[u8]) -> u64 {
    (COST + name.len() + value.len()) as u64
}

impl Inode {
    /// The value of the attribute `name`.
    pub(super) fn xattr(&self, name: XattrName<'_>) -> Result<Vec<u8>, Errno> {
        check_namespace(name)?;
        let stored = self.stored.lock();
        let value =
            if *name == *acl::ACCESS { stored.acl_value() } else { stored.xattrs.get(&name).map(<[u8]>::to_vec) };
        value.ok_or(Errno::ENODATA)
    }

    /// The names of all attributes that are `seen`, each with a NUL behind it.
    pub(super) fn xattr_names(&self, seen: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        self.stored
            .lock()
            .xattrs
            .names()
            .filter(|name| seen(name))
            .flat_map(|name| name.iter().copied().chain([0]))
            .collect()
    }

    /// Sets the attribute `name`.
    pub(super) fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: u32) -> Result<(), Errno> {
        self.check_change(name)?;
        let acl = match name.is_acl() {
            true if value.is_empty() => return self.remove_xattr(name),
            true => match Acl::parse(value)? {
                Some(acl) => Some(acl),
                None => return self.remove_xattr(name),
            },
            false => None,
        };
        if value.len() > xattr::SIZE_MAX {
            return Err(Errno::E2BIG);
        }
        let mut stored = self.stored.lock();
        match stored.xattrs.get(&name) {
            Some(_) if flags & xattr::CREATE != 0 => return Err(Errno::EEXIST),
            None if flags & xattr::REPLACE != 0 => return Err(Errno::ENODATA),
            _ => {}
        }
        match acl {
            Some(acl) if *name == *acl::ACCESS => stored.set_acl(acl, &self.filesystem.space)?,
            Some(_) if !self.is_directory() => return Err(Errno::EACCES),
            _ => stored.xattrs.insert(&name, value, &self.filesystem.space)?,
        }
        stored.ctime = Time::now();
        Ok(())
    }

    /// Removes the attribute `name`.
    pub(super) fn remove_xattr(&self, name: XattrName<'_>) -> Result<(), Errno> {
        self.check_change(name)?;
        let mut stored = self.stored.lock();
        match stored.xattrs.remove(&name, &self.filesystem.space) {
            Some(()) => stored.ctime = Time::now(),
            // A file without one has the ACL that its mode says.
            None if name.is_acl() => {}
            None => return Err(Errno::ENODATA),
        }
        Ok(())
    }

    /// Can a file of this type have it? As Linux has it: `user` is for files with contents of their own.
    fn check_change(&self, name: XattrName<'_>) -> Result<(), Errno> {
        check_namespace(name)?;
        match &self.content {
            Content::Symlink(_) if name.is_acl() => Err(Errno::EOPNOTSUPP),
            Content::File(_) | Content::Directory(_) => Ok(()),
            Content::Symlink(_) | Content::Special(_) if name.namespace() == b"user" => Err(Errno::EPERM),
            Content::Symlink(_) | Content::Special(_) => Ok(()),
        }
    }
}

/// The namespaces that there are.
fn check_namespace(name: XattrName<'_>) -> Result<(), Errno> {
    let namespace = name.namespace();
    let known = matches!(namespace, b"user" | b"trusted" | b"security") && name.len() > namespace.len() + 1;
    if known || name.is_acl() { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

//! POSIX ACLs, as the extended attributes `system.posix_acl_access` and `system.posix_acl_default` hold them (acl(5)).
//!
//! A file whose ACL says no more than a mode can has none. Of one that says more, the mode is a part: the owner's, the mask's and
//! others' entry *are* the mode's three digits, whichever of both was changed last. So they are taken from the mode
//! whenever the ACL is read or heeded, and a change of the mode need not know of it.

use ninering_wire::Errno;

use super::{
    inode::{Content, Stored},
    space::Space,
};
use crate::backend::Credentials;

/// The names of the attributes.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The version that the attributes' first four bytes tell.
const VERSION: u32 = 2;

/// What an entry is for.
mod tag {
    pub(super) const OWNER: u16 = 0x01;
    pub(super) const USER: u16 = 0x02;
    pub(super) const OWNING_GROUP: u16 = 0x04;
    pub(super) const GROUP: u16 = 0x08;
    pub(super) const MASK: u16 = 0x10;
    pub(super) const OTHERS: u16 = 0x20;
}

/// A valid ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

impl Acl {
    /// The ACL that an attribute's value is; `None` where it has no entries, which is how one is removed.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an unknown version, `EINVAL` for what is no ACL: entries in another order than by tags, or one
    /// missing.
    pub(super) fn parse(value: &[u8]) -> Result<Option<Self>, Errno> {
        let (version, entries) = value.split_first_chunk().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (entries, rest) = entries.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        let entry = |&[t0, t1, p0, p1, id @ ..]: &[u8; 8]| Entry {
            tag: u16::from_le_bytes([t0, t1]),
            permissions: u16::from_le_bytes([p0, p1]),
            id: u32::from_le_bytes(id),
        };
        let acl = Self(entries.iter().map(entry).collect());
        match acl.0.is_empty() {
            true => Ok(None),
            false if acl.is_valid() => Ok(Some(acl)),
            false => Err(Errno::EINVAL),
        }
    }

    fn is_valid(&self) -> bool {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let known = |entry: &Entry| {
            let named = matches!(entry.tag, tag::USER | tag::GROUP) && entry.id != !0;
            entry.permissions <= 7
                && (named || matches!(entry.tag, tag::OWNER | tag::OWNING_GROUP | tag::MASK | tag::OTHERS))
        };
        self.0.iter().all(known)
            && self.0.is_sorted_by_key(|entry| entry.tag)
            && [tag::OWNER, tag::OWNING_GROUP, tag::OTHERS].into_iter().all(|tag| count(tag) == 1)
            && count(tag::MASK) <= 1
            && (count(tag::MASK) == 1 || !self.is_more_than_a_mode())
    }

    /// The attribute's value.
    fn value(&self) -> Vec<u8> {
        let bytes = |entry: &Entry| {
            let ([t0, t1], [p0, p1]) = (entry.tag.to_le_bytes(), entry.permissions.to_le_bytes());
            let [i0, i1, i2, i3] = entry.id.to_le_bytes();
            [t0, t1, p0, p1, i0, i1, i2, i3]
        };
        VERSION.to_le_bytes().into_iter().chain(self.0.iter().flat_map(bytes)).collect()
    }

    /// Does it say what a mode cannot?
    fn is_more_than_a_mode(&self) -> bool {
        self.0.iter().any(|entry| matches!(entry.tag, tag::USER | tag::GROUP | tag::MASK))
    }

    /// The entry that a digit of the mode is: 2 the owner's, 1 the group's, which is the mask where there is one, 0 others'.
    fn digit(&mut self, digit: u32) -> Option<&mut Entry> {
        let has_mask = self.0.iter().any(|entry| entry.tag == tag::MASK);
        let wanted = match digit {
            2 => tag::OWNER,
            1 if has_mask => tag::MASK,
            1 => tag::OWNING_GROUP,
            _ => tag::OTHERS,
        };
        self.0.iter_mut().find(|entry| entry.tag == wanted)
    }

    /// `mode` with its permissions for owner, group and others as this has them.
    fn mode(&mut self, mode: u32) -> u32 {
        let digits =
            (0..3).map(|digit| self.digit(digit).map_or(0, |entry| u32::from(entry.permissions)) << (3 * digit));
        mode & !0o777 | digits.sum::<u32>()
    }

    /// Has them as `mode` says.
    fn with_mode(mut self, mode: u32) -> Self {
        for digit in 0..3 {
            if let Some(entry) = self.digit(digit) {
                entry.permissions = (mode >> (3 * digit)) as u16 & 7;
            }
        }
        self
    }

    /// Does it give `user`, who is not the owner, all of `wanted`? `group` is the file's.
    fn allows(&self, user: &Credentials, group: u32, wanted: u32) -> bool {
        let has = |entry: &Entry, mask: u16| u32::from(entry.permissions & mask) & wanted == wanted;
        let mask = self.0.iter().find(|entry| entry.tag == tag::MASK).map_or(7, |entry| entry.permissions);
        if let Some(own) = self.0.iter().find(|entry| entry.tag == tag::USER && entry.id == user.uid) {
            return has(own, mask);
        }
        let is_in = |entry: &&Entry| match entry.tag {
            tag::OWNING_GROUP => user.has_group(group),
            tag::GROUP => user.has_group(entry.id),
            _ => false,
        };
        let mut groups = self.0.iter().filter(is_in).peekable();
        if groups.peek().is_some() {
            return groups.any(|entry| has(entry, mask));
        }
        self.0.iter().any(|entry| entry.tag == tag::OTHERS && has(entry, 7))
    }
}

impl Stored {
    fn access_acl(&self) -> Option<Acl> {
        let acl = Acl::parse(self.xattrs.get(ACCESS)?).ok()??;
        Some(acl.with_mode(self.mode))
    }

    /// The value of the attribute with the ACL, if it has one.
    pub(super) fn acl_value(&self) -> Option<Vec<u8>> {
        self.access_acl().map(|acl| acl.value())
    }

    /// Does an ACL give `user`, who is not the owner, all of `wanted`? `None` where there is none.
    pub(super) fn acl_allows(&self, user: &Credentials, wanted: u32) -> Option<bool> {
        self.access_acl().map(|acl| acl.allows(user, self.gid, wanted))
    }

    /// Sets the ACL, and with it the mode.
    pub(super) fn set_acl(&mut self, mut acl: Acl, space: &Space) -> Result<(), Errno> {
        if acl.is_more_than_a_mode() {
            self.xattrs.insert(ACCESS, &acl.value(), space)?;
        } else {
            self.xattrs.remove(ACCESS, space);
        }
        self.mode = acl.mode(self.mode);
        Ok(())
    }

    /// Gives a new file of `content` what `directory` says of new files: at most that of its mode.
    pub(super) fn inherit_acl(&mut self, content: &Content, directory: &Self, space: &Space) -> Result<(), Errno> {
        let default = directory.xattrs.get(DEFAULT).filter(|_| !matches!(content, Content::Symlink(_)));
        let Some(value) = default else { return Ok(()) };
        let Ok(Some(mut acl)) = Acl::parse(value) else { return Ok(()) };
        if matches!(content, Content::Directory(_)) {
            self.xattrs.insert(DEFAULT, value, space)?;
        }
        let mode = self.mode & (acl.mode(0) | !0o777);
        self.set_acl(acl.with_mode(mode), space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Result<Option<Acl>, Errno> {
        let entries = entries.iter().map(|&(tag, permissions, id)| Entry { tag, permissions, id });
        Acl::parse(&Acl(entries.collect()).value())
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        let none = !0;
        assert!(acl(&[(1, 7, none), (4, 5, none), (32, 0, none)]).unwrap().is_some());
        assert_eq!(acl(&[]), Ok(None));
        for wrong in [
            &[(1, 7, none), (4, 5, none)][..],
            &[(1, 8, none), (4, 5, none), (32, 0, none)],
            &[(4, 5, none), (1, 7, none), (32, 0, none)],
            &[(1, 7, none), (1, 7, none), (4, 5, none), (32, 0, none)],
            &[(1, 7, none), (2, 7, 5), (4, 5, none), (32, 0, none)],
            &[(1, 7, none), (2, 7, none), (4, 5, none), (16, 7, none), (32, 0, none)],
            &[(1, 7, none), (4, 5, none), (32, 0, none), (64, 0, none)],
        ] {
            assert_eq!(acl(wrong), Err(Errno::EINVAL), "{wrong:?}");
        }
        assert_eq!(Acl::parse(&[3, 0, 0, 0]), Err(Errno::EOPNOTSUPP));
        for short in [&[][..], &[2, 0, 0], &[2, 0, 0, 0, 1]] {
            assert_eq!(Acl::parse(short), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn the_mode_is_a_part_of_it() {
        let entries = [(1, 7, !0), (2, 6, 5), (4, 5, !0), (16, 6, !0), (32, 1, !0)];
        let mut with_mask = acl(&entries).unwrap().unwrap();
        assert_eq!(with_mask.mode(0o10_7000), 0o10_7761);
        let changed = with_mask.with_mode(0o640);
        let permissions: Vec<_> = changed.0.iter().map(|entry| entry.permissions).collect();
        assert_eq!(permissions, [6, 6, 5, 4, 0], "the group's own entry stays, the mask follows");
    }
}

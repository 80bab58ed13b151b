//! The users of this machine, as its databases tell (`getpwuid(3)`, `getgrouplist(3)`).

use std::{
    collections::HashMap,
    ffi::CString,
    sync::Arc,
    time::{Duration, Instant},
};

use ninering_wire::Errno;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use parking_lot::Mutex;

use crate::backend::{Credentials, Overrides};

/// How long what the databases said is believed. Who has attached keeps the groups of then.
const BELIEVED: Duration = Duration::from_secs(60);
/// How many users are remembered.
const MOST_REMEMBERED: usize = 4096;

/// What was looked up lately.
#[derive(Default)]
pub(super) struct Users {
    known: Mutex<HashMap<Who, Known>>,
}

struct Known {
    credentials: Arc<Credentials>,
    until: Instant,
}

/// A user of whom the credentials are wanted, and in what way.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Who {
    pub(super) uid: u32,
    /// The group of a user whom the databases don't know. (Its number would be no good: it is some group's, and users
    /// that are not known must not be in one.)
    pub(super) unknown_gid: u32,
    pub(super) overrides: Overrides,
}

impl Users {
    /// The credentials of a user. This may wait for a directory service.
    ///
    /// # Errors
    /// `EIO` where the databases cannot be asked.
    pub(super) fn credentials(&self, who: Who) -> Result<Arc<Credentials>, Errno> {
        let now = Instant::now();
        if let Some(known) = self.known.lock().get(&who).filter(|known| known.until > now) {
            return Ok(Arc::clone(&known.credentials));
        }
        let credentials = Arc::new(look_up(who).inspect_err(|error| {
            tracing::error!(uid = who.uid, %error, "cannot look a user up");
        })?);
        let mut known = self.known.lock();
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(who, Known { credentials: Arc::clone(&credentials), until: now + BELIEVED });
        Ok(credentials)
    }

    /// The number of the user `name`; `None` where there is none.
    ///
    /// # Errors
    /// `EIO` where the databases cannot be asked.
    pub(super) fn number(&self, name: &[u8]) -> Result<Option<u32>, Errno> {
        let Ok(name) = std::str::from_utf8(name) else { return Ok(None) };
        if name.is_empty() || name.contains('\0') {
            return Ok(None);
        }
        Ok(User::from_name(name).map_err(|_| Errno::EIO)?.map(|user| user.uid.as_raw()))
    }
}

fn look_up(Who { uid, unknown_gid, overrides }: Who) -> Result<Credentials, Errno> {
    let Some(user) = User::from_uid(Uid::from_raw(uid)).map_err(|_| Errno::EIO)? else {
        return Ok(Credentials { uid, gid: unknown_gid, groups: Vec::new(), overrides });
    };
    let name = CString::new(user.name).map_err(|_| Errno::EIO)?;
    let groups = getgrouplist(&name, user.gid).map_err(|_| Errno::EIO)?;
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok(Credentials { uid, gid: user.gid.as_raw(), groups, overrides })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(uid: u32) -> Who {
        Who { uid, unknown_gid: 65534, overrides: Overrides::Nothing }
    }

    #[test]
    fn users_have_the_groups_of_the_databases() {
        let users = Users::default();
        let root = users.credentials(who(0)).unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.has_group(0));
        assert!(Arc::ptr_eq(&root, &users.credentials(who(0)).unwrap()), "asked once");
        assert_eq!(users.number(b"root"), Ok(Some(0)));
    }

    #[test]
    fn unknown_users_are_in_no_group_of_their_number() {
        // Between what systems give to people and to nobody.
        let stranger = Users::default().credentials(who(4_000_000_321)).unwrap();
        assert_eq!((stranger.gid, &stranger.groups[..]), (65534, &[][..]));
        for name in [&b"no such user"[..], b"", b"a\0b", b"\xff"] {
            assert_eq!(Users::default().number(name), Ok(None));
        }
    }
}

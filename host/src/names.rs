//! The names that the host has for users and groups, for protocols that name them by texts.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::{Gid, Group, Uid, User};
use parking_lot::Mutex;

/// How long a name is believed.
const LIFETIME: Duration = Duration::from_secs(60);
/// How many names are kept, of each kind; then all are forgotten.
const MOST_KEPT: usize = 4096;

/// A name, or a number as a text where the host knows none.
pub(crate) type NameText = Arc<[u8]>;

/// The host's users and groups, as far as they were asked for.
///
/// The host may have to ask a directory service, so that what is not known yet can take a while.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: Kept,
    groups: Kept,
}

impl Names {
    /// The longest that there is, in bytes.
    pub(crate) const LONGEST: usize = 255;

    /// The name of a user; its number in decimal where it has none.
    pub(crate) fn user(&self, uid: u32) -> NameText {
        self.users.get(uid, || User::from_uid(Uid::from_raw(uid)).map(|user| user.map(|user| user.name)))
    }

    /// The name of a group; its number in decimal where it has none.
    pub(crate) fn group(&self, gid: u32) -> NameText {
        self.groups.get(gid, || Group::from_gid(Gid::from_raw(gid)).map(|group| group.map(|group| group.name)))
    }

    /// The user of this name, or of this number in decimal.
    pub(crate) fn uid(name: &[u8]) -> Option<u32> {
        let name = str::from_utf8(name).ok()?;
        let user = User::from_name(name).inspect_err(|error| tracing::warn!(name, %error, "cannot look up a user"));
        user.ok().flatten().map_or_else(|| name.parse().ok(), |user| Some(user.uid.as_raw()))
    }

    /// The group of this name, or of this number in decimal.
    pub(crate) fn gid(name: &[u8]) -> Option<u32> {
        let name = str::from_utf8(name).ok()?;
        let group = Group::from_name(name).inspect_err(|error| tracing::warn!(name, %error, "cannot look up a group"));
        group.ok().flatten().map_or_else(|| name.parse().ok(), |group| Some(group.gid.as_raw()))
    }
}

/// Names by numbers.
#[derive(Debug, Default)]
struct Kept(Mutex<HashMap<u32, (NameText, Instant)>>);

impl Kept {
    fn get(&self, number: u32, look_up: impl FnOnce() -> nix::Result<Option<String>>) -> NameText {
        if let Some((name, since)) = self.0.lock().get(&number)
            && since.elapsed() < LIFETIME
        {
            return Arc::clone(name);
        }
        // Without the lock: who asks for what is known already need not wait for the others.
        let found = look_up().unwrap_or_else(|error| {
            tracing::warn!(number, %error, "cannot look up a name");
            None
        });
        // What has no place in a reply is as good as none.
        let found = found.filter(|name| !name.is_empty() && name.len() <= Names::LONGEST);
        let name: NameText = found.unwrap_or_else(|| number.to_string()).into_bytes().into();
        let mut kept = self.0.lock();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(number, (Arc::clone(&name), Instant::now()));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_nobody_knows_a_large_number() {
        let names = Names::default();
        for _ in 0..2 {
            assert_eq!(&*names.user(0), b"root");
            assert_eq!(&*names.group(0), b"root");
            assert_eq!(&*names.user(4_000_000_123), b"4000000123");
            assert_eq!(&*names.group(4_000_000_124), b"4000000124");
        }
        assert_eq!((Names::uid(b"root"), Names::gid(b"root")), (Some(0), Some(0)));
        assert_eq!((Names::uid(b"4000000123"), Names::gid(b"17000")), (Some(4_000_000_123), Some(17000)));
        for none in [&b"no such name"[..], b"", b"-1", b"\xff", b"4294967296", b"a\0b"] {
            assert_eq!((Names::uid(none), Names::gid(none)), (None, None), "{}", none.escape_ascii());
        }
    }

    #[test]
    fn names_are_forgotten_when_they_are_many() {
        let kept = Kept::default();
        for number in 0..10_000 {
            assert_eq!(&*kept.get(number, || Ok(None)), number.to_string().as_bytes());
            assert!(kept.0.lock().len() <= MOST_KEPT);
        }
        assert_eq!(&*kept.get(1, || Ok(Some("n".repeat(256)))), b"1");
        assert_eq!(&*kept.get(2, || Err(nix::Error::EIO)), b"2");
        assert_eq!(&*kept.get(3, || Ok(Some("three".into()))), b"three");
        assert_eq!(&*kept.get(3, || panic!("it is kept")), b"three");
    }
}

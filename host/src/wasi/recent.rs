//! What a directory was just asked, so that the next question need not be asked again.
//!
//! A 0.1 program's `stat` reaches a provider as two calls, `stat-at` and `metadata-hash-at`, and its `readdir` as one
//! `read-directory-entry` and one `metadata-hash-at` an entry. The first call's reply tells what the second one asks
//! for. It is used if the second call comes next, on the same directory for the same name, with no operation on the
//! mount in between, and soon: a program sees then what one system call would have shown it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::mount::Mount;

/// How old a reply may be.
const SOON: Duration = Duration::from_millis(10);

/// The latest reply about something in one directory.
#[derive(Default)]
pub(super) struct Recent(Mutex<Option<Reply>>);

struct Reply {
    name: String,
    follow: bool,
    identity: u64,
    moment: Moment,
}

/// A moment in a mount's life.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    time: Instant,
    operations: u64,
}

impl Moment {
    /// Now.
    pub(super) fn now(mount: &Mount) -> Self {
        Self { time: Instant::now(), operations: mount.operations() }
    }

    /// Is it a short time ago, and was nothing done on the mount since?
    fn is_recent(self, mount: &Mount) -> bool {
        self.operations == mount.operations() && self.time.elapsed() < SOON
    }
}

impl Recent {
    /// Notes what `name` was told to be at that moment.
    pub(super) fn note(&self, name: &str, follow: bool, identity: u64, moment: Moment) {
        let mut latest = self.0.lock();
        match &mut *latest {
            Some(reply) => {
                reply.name.clear();
                reply.name.push_str(name);
                (reply.follow, reply.identity, reply.moment) = (follow, identity, moment);
            }
            None => *latest = Some(Reply { name: name.into(), follow, identity, moment }),
        }
    }

    /// What `name` is, if that was the last thing told.
    pub(super) fn identity(&self, mount: &Mount, name: &str, follow: bool) -> Option<u64> {
        let latest = self.0.lock();
        let reply = latest.as_ref()?;
        (reply.name == name && reply.follow == follow && reply.moment.is_recent(mount)).then_some(reply.identity)
    }
}

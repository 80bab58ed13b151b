//! What an attach lays down for all fids that are walked from it.

use std::sync::Arc;

use ninering_wire::Errno;

use super::identity::{self, Credentials};

/// One attach: on what terms its fids are used.
pub(super) struct Attach {
    /// Whose rights requests have; the process's own where nobody is named.
    pub(super) acts_as: Option<Arc<Credentials>>,
    /// Refuse with `EROFS` whatever would change the filesystem?
    pub(super) read_only: bool,
}

impl Attach {
    /// Makes the calling thread the one who acts by this attach, in its [`Turn`](identity::Turn); `changes` says
    /// whether it means to change the filesystem.
    ///
    /// # Errors
    /// `EROFS` where it may change nothing, and those of [`identity::assume`].
    pub(super) fn begin(&self, changes: bool) -> Result<(), Errno> {
        if changes && self.read_only {
            return Err(Errno::EROFS);
        }
        identity::assume(self.acts_as.as_ref())
    }

    /// Does `other` act as the same user?
    pub(super) fn same_user(&self, other: &Self) -> bool {
        self.acts_as == other.acts_as
    }
}

//! What an attach lays down for all fids that are walked from it.

use std::sync::Arc;

use ninering_wire::{Attributes, Errno, Name};

use super::{export::Maps, identity};
use crate::backend::{Credentials, Node};

/// One attach: on what terms its fids are used.
pub(super) struct Attach {
    /// Whose rights the thread has that makes a request; the process's own where nobody is named.
    pub(super) acts_as: Option<Arc<Credentials>>,
    /// The same for a `Twrite`, which takes set-id bits away from files whoever else checks permissions.
    pub(super) writes_as: Option<Arc<Credentials>>,
    /// Whose rights requests have; the same, unless the backend sees to that.
    pub(super) user: Option<Arc<Credentials>>,
    /// Refuse with `EROFS` whatever would change the filesystem?
    pub(super) read_only: bool,
    /// How numbers of users and groups are translated, if they are.
    pub(super) maps: Option<Maps>,
}

impl Attach {
    /// Makes the calling thread the one who acts by this attach, in its [`Turn`](identity::Turn); `changes` says
    /// whether it means to change the filesystem.
    ///
    /// # Errors
    /// `EROFS` where it may change nothing, and those of [`identity::assume`].
    #[inline]
    pub(super) fn begin(&self, changes: bool) -> Result<(), Errno> {
        if changes && self.read_only {
            return Err(Errno::EROFS);
        }
        identity::assume(self.acts_as.as_ref())
    }

    /// As [`Self::begin`], for a `Twrite`.
    pub(super) fn begin_writing(&self) -> Result<(), Errno> {
        if self.read_only { Err(Errno::EROFS) } else { identity::assume(self.writes_as.as_ref()) }
    }

    /// Does `other` act as the same user?
    pub(super) fn same_user(&self, other: &Self) -> bool {
        self.user == other.user
    }

    /// The attributes of a file, as the client is to see them.
    pub(super) fn attributes(&self, node: &dyn Node, request_mask: u64) -> Result<Attributes, Errno> {
        Ok(self.shown(node.attributes(request_mask)?))
    }

    /// The attributes of the entry `name` of `directory`, likewise.
    pub(super) fn attributes_of(
        &self,
        directory: &dyn Node,
        name: Name<'_>,
        request_mask: u64,
    ) -> Result<Attributes, Errno> {
        Ok(self.shown(directory.attributes_of(name, request_mask)?))
    }

    fn shown(&self, mut attributes: Attributes) -> Attributes {
        if let Some(maps) = &self.maps {
            maps.show(&mut attributes);
        }
        attributes
    }

    /// The group that a new file is to have here, of the one that the client says.
    pub(super) fn group(&self, gid: u32) -> u32 {
        self.maps.as_ref().map_or(gid, |maps| maps.group(gid))
    }
}

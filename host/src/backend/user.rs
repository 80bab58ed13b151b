//! Who uses a filesystem, and with what rights.

use std::sync::Arc;

/// Whose rights an attach asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The numeric user, where the client named one.
    pub uid: Option<u32>,
    /// The user's name; often empty.
    pub name: Vec<u8>,
    /// Whose permissions are to be checked, by a backend that [does so itself](super::Backend::checks_permissions); whoever
    /// attaches may do anything where there are none.
    pub credentials: Option<Arc<Credentials>>,
}

/// A user of this machine, with the groups whose rights that gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The primary group: that of new files.
    pub gid: u32,
    /// The supplementary groups, at most 65,536.
    pub groups: Vec<u32>,
    /// What is allowed in spite of permissions.
    pub overrides: Overrides,
}

/// What somebody may do in spite of a file's owner and permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overrides {
    /// Nothing.
    #[default]
    Nothing,
    /// All that root may: permissions are checked by somebody else.
    Permissions,
    /// The same, but that to write to a file takes its set-id bits away, as it does for who is not root.
    PermissionsNotSetIds,
}

impl Credentials {
    /// Is `gid` one of the user's groups?
    pub fn has_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

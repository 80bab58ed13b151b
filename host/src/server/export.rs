//! What a server offers, and to whom: exports, and as whom their clients act.

use std::{collections::HashSet, sync::Arc};

use ninering_wire::{Attributes, Errno, NONUNAME, SetAttributes, setattr};

use super::{
    Peer,
    attach::Attach,
    identity::{self, SwitchError},
    ids::IdMap,
    users::{Users, Who},
};
use crate::backend::{Backend, Credentials, NodeRef, Overrides, User};

/// Who is nobody, as user and as group, on all Linux distributions.
pub const NOBODY: u32 = 65534;

/// A filesystem as a server offers it.
pub struct Export {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) terms: Terms,
}

/// The terms of an export: what it is called, and who may do what in it.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The `aname` that chooses it, without `/` at either end. What an `aname` has behind it and a `/` is the
    /// backend's to look for. The export with an empty name has what no other has.
    pub name: String,
    /// Refuse with `EROFS` whatever would change the filesystem?
    pub read_only: bool,
    /// As whom clients act.
    pub identity: Identity,
    /// Who becomes [`Self::anonymous`].
    pub squash: Squash,
    /// User and group (this machine's) of those who are squashed, and of those who say no number and no known name.
    pub anonymous: (u32, u32),
    /// Which of a client's users are which of this machine. Others may not attach.
    pub users: IdMap,
    /// The same of groups.
    pub groups: IdMap,
    /// The users (the client's numbers) who may attach; `EACCES` to others. All, unless it is given.
    pub allowed: Option<HashSet<u32>>,
    /// Does the client check permissions? Then a user's requests are refused for want of nobody's permission here; the
    /// user is only who owns new files. For clients whose users and groups this machine doesn't know.
    pub client_checks: bool,
}

/// As whom the clients of an export act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// All as the process that serves, with all its rights.
    #[default]
    Process,
    /// As the user that an attach names, on the client's word.
    User,
    /// As the user at the other end of the connection, which a Unix socket tells. If that is root, as for
    /// [`Self::User`]: a kernel that mounts names its users.
    Peer,
}

/// Which users of an export are made anonymous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squash {
    /// None.
    #[default]
    Nobody,
    /// Root.
    Root,
    /// All.
    All,
}

impl Default for Terms {
    /// Everything, to everyone, as the process.
    fn default() -> Self {
        Self {
            name: String::new(),
            read_only: false,
            identity: Identity::default(),
            squash: Squash::default(),
            anonymous: (NOBODY, NOBODY),
            users: IdMap::default(),
            groups: IdMap::default(),
            allowed: None,
            client_checks: false,
        }
    }
}

/// Why exports cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Two have the same name.
    #[error("two exports have the name '{0}'")]
    SameName(String),
    /// There is none.
    #[error("there is no export")]
    None,
    /// The process cannot act as its clients.
    #[error(transparent)]
    Switch(#[from] SwitchError),
}

/// Who attaches, as a `Tattach` says.
pub(super) struct Claim<'a> {
    pub(super) name: &'a [u8],
    pub(super) number: u32,
    pub(super) peer: &'a Peer,
}

impl Export {
    /// Offers `backend` on these terms.
    pub fn new(backend: Arc<dyn Backend>, terms: Terms) -> Self {
        Self { backend, terms }
    }

    /// Attaches whoever `claim` is about to the directory `rest` of the export.
    fn attach(&self, users: &Users, claim: &Claim<'_>, rest: &[u8]) -> Result<(Arc<Attach>, NodeRef), Errno> {
        let Terms { identity, read_only, .. } = self.terms;
        let number = self.number(users, claim)?;
        let refused = |number: u32| self.terms.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&number));
        if number.is_none_or(refused) && self.terms.allowed.is_some() {
            return Err(Errno::EACCES);
        }
        let credentials = match identity {
            Identity::Process => None,
            Identity::User | Identity::Peer => Some(self.credentials(users, number, claim.peer)?),
        };
        // Root is what the process is.
        let user = credentials.filter(|user| user.uid != 0 || self.backend.checks_permissions());
        let acts_as = user.clone().filter(|_| !self.backend.checks_permissions());
        let writes_as = acts_as.clone().map(|user| match user.overrides {
            Overrides::Nothing | Overrides::PermissionsNotSetIds => user,
            Overrides::Permissions => {
                Arc::new(Credentials { overrides: Overrides::PermissionsNotSetIds, ..(*user).clone() })
            }
        });
        let maps = (!self.terms.users.is_identity() || !self.terms.groups.is_identity())
            .then(|| Maps { users: self.terms.users.clone(), groups: self.terms.groups.clone() });
        let attach = Arc::new(Attach { acts_as, writes_as, user: user.clone(), read_only, maps });
        attach.begin(false)?;
        let user = User { uid: number, name: claim.name.to_vec(), credentials: user };
        let root = self.backend.attach(&user, rest)?;
        Ok((attach, root))
    }

    /// The client's number of who attaches; none of who says none, nor a name that is known.
    fn number(&self, users: &Users, claim: &Claim<'_>) -> Result<Option<u32>, Errno> {
        let claimed = match claim.number {
            NONUNAME if self.terms.identity == Identity::Process => None,
            NONUNAME => users.number(claim.name)?.and_then(|host| self.terms.users.to_client(host)),
            number => Some(number),
        };
        match (self.terms.identity, claim.peer) {
            (Identity::Process | Identity::User, _) => Ok(claimed),
            (Identity::Peer, Peer::Process { credentials: Credentials { uid: 0, .. }, .. }) => Ok(claimed.or(Some(0))),
            (Identity::Peer, Peer::Process { credentials: Credentials { uid, .. }, .. })
                if claimed.is_none_or(|claimed| claimed == *uid) =>
            {
                Ok(Some(*uid))
            }
            (Identity::Peer, _) => Err(Errno::EPERM),
        }
    }

    /// The rights of the client's user `number`.
    fn credentials(&self, users: &Users, number: Option<u32>, peer: &Peer) -> Result<Arc<Credentials>, Errno> {
        let (anonymous_uid, anonymous_gid) = self.terms.anonymous;
        let squashed = match (number, self.terms.squash) {
            (None, _) | (_, Squash::All) | (Some(0), Squash::Root) => true,
            (Some(_), Squash::Root | Squash::Nobody) => false,
        };
        let overrides = if self.terms.client_checks { Overrides::Permissions } else { Overrides::Nothing };
        if squashed {
            let groups = Vec::new();
            return Ok(Arc::new(Credentials { uid: anonymous_uid, gid: anonymous_gid, groups, overrides }));
        }
        let uid = number.and_then(|number| self.terms.users.to_host(number)).ok_or(Errno::EPERM)?;
        match peer {
            // What the kernel says of it is truer than what is written about its user.
            Peer::Process { credentials, .. } if self.terms.identity == Identity::Peer && credentials.uid == uid => {
                Ok(Arc::new(Credentials { overrides, ..credentials.clone() }))
            }
            _ => users.credentials(Who { uid, unknown_gid: anonymous_gid, overrides }),
        }
    }
}

/// All that a server offers.
pub(super) struct Exports {
    exports: Vec<Export>,
    users: Users,
}

impl Exports {
    /// Offers these.
    pub(super) fn new(exports: Vec<Export>) -> Result<Self, ExportError> {
        let mut names = HashSet::new();
        for Export { terms, backend } in &exports {
            if !names.insert(&terms.name) {
                return Err(ExportError::SameName(terms.name.clone()));
            }
            if terms.identity != Identity::Process && !backend.checks_permissions() {
                identity::prepare()?;
            }
        }
        if exports.is_empty() { Err(ExportError::None) } else { Ok(Self::unchecked(exports)) }
    }

    /// One, whose clients act as the process.
    pub(super) fn one(export: Export) -> Self {
        Self::unchecked(vec![export])
    }

    fn unchecked(mut exports: Vec<Export>) -> Self {
        // What has a name behind another's is found before that.
        exports.sort_by_key(|export| std::cmp::Reverse(export.terms.name.len()));
        Self { exports, users: Users::default() }
    }

    /// Attaches `claim` to what `aname` names: `ENOENT` where there is none.
    pub(super) fn attach(&self, claim: &Claim<'_>, aname: &[u8]) -> Result<(Arc<Attach>, NodeRef), Errno> {
        // To look users up is the process's own affair.
        identity::assume(None)?;
        let path = aname.strip_prefix(b"/").unwrap_or(aname);
        let (export, rest) = self
            .exports
            .iter()
            .find_map(|export| {
                let name = export.terms.name.as_bytes();
                match path.strip_prefix(name)? {
                    rest if name.is_empty() || rest.is_empty() || rest[0] == b'/' => Some((export, rest)),
                    _ => None,
                }
            })
            .ok_or(Errno::ENOENT)?;
        // A backend of its own sees the `aname` as it is.
        export.attach(&self.users, claim, if export.terms.name.is_empty() { aname } else { rest })
    }

    /// Does an attach wait for another machine, with some backend?
    pub(super) fn attach_waits(&self) -> bool {
        self.exports.iter().any(|export| export.backend.always_waits())
    }

    /// Waits a moment for what the backends have under way elsewhere.
    pub(super) fn finish(&self) {
        for export in &self.exports {
            export.backend.finish();
        }
    }

    /// Does no backend ever wait for anything slower than memory?
    pub(super) fn never_wait(&self) -> bool {
        self.exports.iter().all(|export| export.backend.never_waits())
    }
}

/// How an attach's numbers of users and groups are translated.
pub(super) struct Maps {
    users: IdMap,
    groups: IdMap,
}

impl Maps {
    /// The client's numbers in place of this machine's; [`NOBODY`] for who has none there.
    pub(super) fn show(&self, attributes: &mut Attributes) {
        attributes.uid = self.users.to_client(attributes.uid).unwrap_or(NOBODY);
        attributes.gid = self.groups.to_client(attributes.gid).unwrap_or(NOBODY);
    }

    /// This machine's numbers in place of the client's: `EINVAL` for those who are nobody here.
    pub(super) fn take(&self, changes: &mut SetAttributes) -> Result<(), Errno> {
        if changes.valid & setattr::UID != 0 && changes.uid != !0 {
            changes.uid = self.users.to_host(changes.uid).ok_or(Errno::EINVAL)?;
        }
        if changes.valid & setattr::GID != 0 && changes.gid != !0 {
            changes.gid = self.groups.to_host(changes.gid).ok_or(Errno::EINVAL)?;
        }
        Ok(())
    }

    /// The client's numbers in an ACL, as an attribute's value has it. (What is none is left alone.)
    pub(super) fn show_acl(&self, acl: &mut [u8]) {
        for (tag, id) in acl_entries(acl) {
            let shown = match tag {
                AclTag::User => self.users.to_client(id.get()).unwrap_or(NOBODY),
                AclTag::Group => self.groups.to_client(id.get()).unwrap_or(NOBODY),
            };
            id.set(shown);
        }
    }

    /// This machine's numbers in an ACL that the client sends: `EINVAL` for those who are nobody here.
    pub(super) fn take_acl(&self, acl: &mut [u8]) -> Result<(), Errno> {
        for (tag, id) in acl_entries(acl) {
            let taken = match tag {
                AclTag::User => self.users.to_host(id.get()),
                AclTag::Group => self.groups.to_host(id.get()),
            };
            id.set(taken.ok_or(Errno::EINVAL)?);
        }
        Ok(())
    }

    /// The group of a new file; !0, which leaves it to the filesystem, for one that is none here.
    pub(super) fn group(&self, gid: u32) -> u32 {
        self.groups.to_host(gid).unwrap_or(!0)
    }
}

/// Whom a named entry of an ACL is about.
enum AclTag {
    User,
    Group,
}

/// A number, as it lies in an ACL.
struct AclId<'a>(&'a mut [u8; 4]);

impl AclId<'_> {
    fn get(&self) -> u32 {
        u32::from_le_bytes(*self.0)
    }

    fn set(self, id: u32) {
        *self.0 = id.to_le_bytes();
    }
}

/// The named users and groups of an ACL (`struct posix_acl_xattr_entry` of Linux: `e_tag[2] e_perm[2] e_id[4]`, behind a
/// version in 4 bytes).
fn acl_entries(acl: &mut [u8]) -> impl Iterator<Item = (AclTag, AclId<'_>)> {
    const VERSION: [u8; 4] = 2u32.to_le_bytes();
    let (version, entries) = acl.split_at_mut(acl.len().min(4));
    let entries = if version == VERSION { entries } else { Default::default() };
    entries.as_chunks_mut::<8>().0.iter_mut().filter_map(|entry| {
        let [tag_low, tag_high, _, _, id @ ..] = entry;
        match u16::from_le_bytes([*tag_low, *tag_high]) {
            0x02 => Some((AclTag::User, AclId(id))),
            0x08 => Some((AclTag::Group, AclId(id))),
            _ => None,
        }
    })
}

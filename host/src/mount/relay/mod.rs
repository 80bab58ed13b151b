//! A relay: what a remote server exports, as a backend that is served again.
//!
//! A [`Relay`] is a [`Mount`] of its own, whose session with the remote server all of the relay's clients share. Their fids
//! are fids of that session (`fid`), their requests become requests in it, by the sandboxed client: a remote server that
//! breaks it breaks this mount, and no other export. `upstream` is how requests are made and waited for, `node` and `file`
//! what can be done with files, `lock` their locks, `attributes` what is told of them.
//!
//! Who attaches to the relay is attached there, by the same name and number; it is the remote server that checks
//! permissions. It believes the relay as it would any client.
//!
//! All its clients share one session there, and with it that server's limits of fids and of locks.

mod attributes;
mod fid;
mod file;
mod lock;
mod node;
mod upstream;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use ninering_wire::{Errno, NONUNAME};
use parking_lot::Mutex;

use self::{fid::Fid, node::RelayNode, upstream::Upstream};
use super::{Mount, MountOptions, Result, component::client::TAttach};
use crate::{
    backend::{Backend, NodeRef, User},
    listener::Address,
};

/// A remote server's export, to be served again.
pub struct Relay {
    upstream: Arc<Upstream>,
    aname: String,
    /// As whom all attach, if it is said.
    uid: Option<u32>,
    filesystems: Mutex<HashMap<String, Weak<Filesystem>>>,
}

/// What attaches with one `aname` have in common: in it, a qid's `path` is one file's.
struct Filesystem;

impl Relay {
    /// Connects to the server. `options` say what export of it is relayed, and as whom clients attach there that are
    /// [nobody in particular](crate::server::Identity::Process) here. With `uid`, all attach as that user.
    ///
    /// Must be called in a tokio runtime, in which the connection then lives, and which has threads of its own.
    ///
    /// # Errors
    /// Why there is no connection, or the server's refusal.
    pub async fn connect(address: Address, options: MountOptions, uid: Option<u32>) -> Result<Self> {
        let aname = options.aname.clone();
        let mount = Mount::remote(address, options).await?;
        let upstream = Upstream::new(mount, tokio::runtime::Handle::current())?;
        Ok(Self { upstream, aname, uid, filesystems: Mutex::default() })
    }

    /// The mount by which the server is reached.
    pub fn mount(&self) -> &Mount {
        self.upstream.mount()
    }

    /// The longest message that the server has agreed to, in bytes. Clients of the relay should be offered no more.
    pub fn msize(&self) -> u32 {
        self.upstream.msize()
    }

    /// The remote `aname` of what a client asks for below this export.
    fn remote_aname(&self, aname: &[u8]) -> Result<String, Errno> {
        let aname = std::str::from_utf8(aname).map_err(|_| Errno::ENOENT)?;
        if self.aname.is_empty() {
            return Ok(aname.into());
        }
        let below = aname.trim_matches('/');
        if below.is_empty() {
            return Ok(self.aname.clone());
        }
        // What is offered is the export and what is below it, whatever the server makes of such names.
        if below.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Errno::ENOENT);
        }
        Ok(format!("{}/{below}", self.aname.trim_end_matches('/')))
    }

    /// As whom `user` attaches to the remote server: by name and number.
    fn remote_user(&self, user: &User) -> (String, u32) {
        let own = self.upstream.mount().options();
        match (self.uid, &user.credentials) {
            (Some(uid), _) => (String::new(), uid),
            (None, None) => (own.uname.clone(), own.uid.unwrap_or(NONUNAME)),
            (None, Some(credentials)) => {
                // The name is of use only where it is that of the number: nobody was put in place of the user.
                let same = user.uid == Some(credentials.uid);
                let name = std::str::from_utf8(&user.name).ok().filter(|_| same).unwrap_or_default();
                (name.into(), credentials.uid)
            }
        }
    }

    fn filesystem(&self, aname: &str) -> Arc<Filesystem> {
        let mut filesystems = self.filesystems.lock();
        if let Some(known) = filesystems.get(aname).and_then(Weak::upgrade) {
            return known;
        }
        filesystems.retain(|_, filesystem| filesystem.strong_count() > 0);
        let new = Arc::new(Filesystem);
        filesystems.insert(aname.into(), Arc::downgrade(&new));
        new
    }
}

impl Backend for Relay {
    fn attach(&self, user: &User, aname: &[u8]) -> Result<NodeRef, Errno> {
        let aname = self.remote_aname(aname)?;
        let (uname, n_uname) = self.remote_user(user);
        let filesystem = self.filesystem(&aname);
        self.upstream.revive()?;
        let (fid, qid) = Fid::attach(&self.upstream, |fid| TAttach { fid, afid: None, uname, aname, n_uname })?;
        Ok(RelayNode::shared(fid, qid, filesystem))
    }

    /// The remote server does.
    fn checks_permissions(&self) -> bool {
        true
    }

    fn always_waits(&self) -> bool {
        true
    }

    fn finish(&self) {
        self.upstream.finish();
    }
}

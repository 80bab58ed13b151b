//! The server's protocol engine for 9P2000.L, 9P2000.u and 9P2000: from the bytes of a request to the bytes of its reply.
//!
//! A [`Server`] offers one [`Backend`]; a [`Session`] is one client's conversation with it, and
//! [`Session::handle`] answers one request. The engine knows no transport: bulk data is named by [`Payload`]s and
//! goes from the backend straight into the reply, and from the request straight into the backend.
//!
//! The way of a request, and where to look for a part of it:
//! - `session`: what a client can do wrong before its message means anything (sizes, tags, no `Tversion` yet);
//! - `dispatch`: which function answers which message, and which messages change something;
//! - `namespace` (version, attach, walk, clunk), `file` (open, create, read, write, sync), `directory` (entries made,
//!   listed, moved and removed), `attributes` (of files and of the filesystem), `xattr` (extended ones),
//!   `lock`: the answers themselves;
//! - `visit`: an extension that walks and does something there in one message;
//! - `export` (what is offered, and who attaches as whom), `users` (this machine's) and `ids` (a client's numbers for
//!   them), `attach` (on what terms fids are used) and `identity` (as whom the thread reaches the files);
//! - `fid`: what a fid stands for, and the table of them; `request`: a reply's way into its space;
//! - `dialect`: how a `Tversion` chooses one; `legacy`: what those before 9P2000.L have for themselves;
//! - `observer`: who wants to see requests and replies, for metrics or a log; `peer`: who is at the other end.
//!
//! Nothing that a client sends is trusted, and what a backend returns is checked where a peer could be hurt by it.
//!
//! What it does not do: authentication (`Tauth` is refused, so `afid` must be `NOFID`), and putting replies into an order:
//! who calls it for several requests at once answers a `Tflush` after its victim.
//!
//! [`Payload`]: crate::payload::Payload

mod attach;
mod attributes;
mod dialect;
mod directory;
mod dispatch;
mod export;
mod fid;
mod file;
mod identity;
mod ids;
mod legacy;
mod lock;
mod namespace;
mod observer;
mod peer;
mod request;
mod session;
mod users;
mod visit;
mod xattr;

use std::sync::Arc;

pub(crate) use self::observer::request_name;
pub use self::{
    dialect::{Dialect, Dialects, UnknownDialect},
    export::{Export, ExportError, Identity, NOBODY, Squash, Terms},
    identity::{SwitchError, Turn},
    ids::{IdMap, IdMapError, IdRange},
    lock::WaitingLock,
    observer::{Exchange, Limit, Observer, Observers},
    peer::Peer,
    session::{Counters, Session},
};
use self::{export::Exports, fid::SharedFids, lock::LockTable, observer::SessionNumbers};
use crate::{backend::Backend, names::Names};

/// The least `msize` that a client may ask for, in bytes (Linux's own client asks for no less either).
pub const LEAST_MSIZE: u32 = 4096;
/// The largest `msize` that a server may be told to offer, in bytes.
pub const MOST_MSIZE: u32 = 16 << 20;

/// What a [`Server`] allows.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The largest message that it agrees to, in bytes; taken into [`LEAST_MSIZE`]..=[`MOST_MSIZE`].
    pub max_msize: u32,
    /// Refuse with `EROFS` whatever would change a filesystem?
    pub read_only: bool,
    /// How many fids one session may have at a time; one more is `EMFILE`.
    pub max_fids: usize,
    /// How many all sessions may have together, but for the first 16 of each; one more is `ENFILE`. A fid of a directory's
    /// export has one or two descriptors, and each directory above them has one.
    pub max_fids_in_all: usize,
    /// The dialects that it speaks.
    pub dialects: Dialects,
    /// Who sees what its sessions do, those that are [`Session::watched`].
    pub observers: Observers,
}

impl Default for ServerOptions {
    /// 1 MiB of payload in a message, writable, 65,536 fids a session and 1,048,576 in all, all dialects.
    fn default() -> Self {
        Self {
            max_msize: (1 << 20) + 4096,
            read_only: false,
            max_fids: 1 << 18,
            max_fids_in_all: 1 << 20,
            dialects: Dialects::ALL,
            observers: Observers::default(),
        }
    }
}

/// Filesystems offered to any number of clients.
pub struct Server {
    exports: Exports,
    options: ServerOptions,
    names: Names,
    session_numbers: SessionNumbers,
    locks: Arc<LockTable>,
    fids: Arc<SharedFids>,
}

impl Server {
    /// Offers `backend` to everyone: all that a client asks for is done as this process.
    pub fn new(backend: Arc<dyn Backend>, options: ServerOptions) -> Arc<Self> {
        let terms = Terms { read_only: options.read_only, ..Terms::default() };
        Self::offering(Exports::one(Export::new(backend, terms)), options)
    }

    /// Offers several filesystems, each on its own terms.
    ///
    /// # Errors
    /// There is none, two have one name, or clients are to act as users and this process cannot.
    pub fn with_exports(mut exports: Vec<Export>, options: ServerOptions) -> Result<Arc<Self>, ExportError> {
        for export in &mut exports {
            export.terms.read_only |= options.read_only;
        }
        Ok(Self::offering(Exports::new(exports)?, options))
    }

    fn offering(exports: Exports, mut options: ServerOptions) -> Arc<Self> {
        options.max_msize = options.max_msize.clamp(LEAST_MSIZE, MOST_MSIZE);
        let (names, session_numbers) = (Names::default(), SessionNumbers::default());
        let fids = SharedFids::new(options.max_fids_in_all);
        Arc::new(Self { exports, options, names, session_numbers, locks: Arc::default(), fids })
    }

    /// Begins a conversation with a client of this process.
    pub fn session(self: &Arc<Self>) -> Session {
        self.session_with(Peer::Unknown)
    }

    /// Begins a conversation with a client at the other end of a connection.
    pub fn session_with(self: &Arc<Self>, peer: Peer) -> Session {
        Session::new(Arc::clone(self), peer)
    }

    /// What it allows.
    pub fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// May an attach wait for another machine?
    fn attach_waits(&self) -> bool {
        self.exports.attach_waits()
    }

    /// Does no request ever wait for anything slower than memory?
    pub fn never_waits(&self) -> bool {
        self.exports.never_wait()
    }

    /// Waits a moment, on this thread, for what is under way elsewhere: for when all sessions have ended.
    pub fn finish(&self) {
        self.exports.finish();
    }
}

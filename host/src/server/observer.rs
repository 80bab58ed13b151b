//! What others may see of a server's sessions: their requests, the replies, and what is refused.
//!
//! [`Session::handle`](super::Session::handle) is the one place that tells of requests. A session that nobody watches
//! pays one branch for it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ninering_wire::{Errno, HEADER_LEN, Message, Tmessage, legacy};
use parking_lot::Mutex;
use tracing::Span;

use super::session::Session;
use crate::payload::Payload;

/// Who wants to see what the sessions of a server do. Given to it by
/// [`ServerOptions::observers`](super::ServerOptions::observers).
///
/// All methods are called on the threads that serve, [`Self::begun`] and [`Self::answered`] for each request: none may
/// wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A client's session began; `session` is no other one's number as long as the server lives.
    fn opened(&self, session: u64, peer: &str) {
        let _ = (session, peer);
    }

    /// A session is over, and its last request too.
    fn closed(&self, session: u64) {
        let _ = session;
    }

    /// A request is going to be answered. [`Self::answered`] follows, whatever happens.
    fn begun(&self) {}

    /// A request was answered.
    fn answered(&self, exchange: &Exchange<'_, '_>) {
        let _ = exchange;
    }

    /// There are so many fids more, or fewer, in all sessions together.
    fn fids_changed(&self, change: isize) {
        let _ = change;
    }

    /// Something was refused because a limit is reached.
    fn refused(&self, limit: Limit) {
        let _ = limit;
    }
}

/// A request and its reply.
#[derive(Debug)]
pub struct Exchange<'a, 'p> {
    /// Whose they are.
    pub session: u64,
    /// The request's header and message proper; anything may be in these bytes, and fewer than a header's.
    pub message: &'a [u8],
    /// Bytes of payload behind the message: those of a `Twrite`.
    pub payload: usize,
    /// The reply, as far as it is contiguous: all of it but the payload of an `Rread` or `Rreaddir`, which may be
    /// missing. More may follow behind it.
    pub reply: &'a Payload<'p>,
    /// Bytes of the whole reply.
    pub reply_len: usize,
    /// The error that the reply tells.
    pub error: Option<Errno>,
    /// When the request began to be answered.
    pub begun: Instant,
    /// How long that took.
    pub took: Duration,
}

impl Exchange<'_, '_> {
    /// The request's type number; 0 where it has none.
    pub fn kind(&self) -> u8 {
        kind(self.message)
    }

    /// The request's tag.
    pub fn tag(&self) -> Option<u16> {
        tag(self.message)
    }
}

/// What a server keeps within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Connections served at a time.
    Connections,
    /// Fids, of a session or of all.
    Fids,
    /// Open descriptors in all.
    Descriptors,
    /// Time without a request.
    Idle,
    /// Time or memory that a client takes for reading its replies.
    SlowReader,
    /// What the protocol allows: sizes, tags.
    Protocol,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Connections, Self::Fids, Self::Descriptors, Self::Idle, Self::SlowReader, Self::Protocol];

    /// A short name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Fids => "fids",
            Self::Descriptors => "descriptors",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::Protocol => "protocol",
        }
    }
}

/// The observers of a server.
#[derive(Clone, Debug, Default)]
pub struct Observers(pub Vec<Arc<dyn Observer>>);

impl Observers {
    /// Tells all of them.
    pub(crate) fn tell(&self, what: impl Fn(&dyn Observer)) {
        self.0.iter().for_each(|observer| what(&**observer));
    }
}

/// Numbers the sessions of a server that are watched.
#[derive(Debug, Default)]
pub(super) struct SessionNumbers(AtomicU64);

impl SessionNumbers {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }
}

/// A session that is watched.
pub(super) struct Watch {
    session: u64,
    span: Span,
    observers: Observers,
    /// How many fids the observers have been told of.
    fids: Mutex<usize>,
}

impl Watch {
    /// Watches a session of `peer`'s, if anybody wants to.
    pub(super) fn begin(numbers: &SessionNumbers, observers: &Observers, peer: &str) -> Option<Box<Self>> {
        let session = numbers.next();
        let span = tracing::info_span!(
            "session",
            id = session,
            peer,
            user = tracing::field::Empty,
            export = tracing::field::Empty
        );
        if observers.0.is_empty() && span.is_disabled() {
            return None;
        }
        observers.tell(|observer| observer.opened(session, peer));
        Some(Box::new(Self { session, span, observers: observers.clone(), fids: Mutex::new(0) }))
    }

    /// The span of all that the session does.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// A request is going to be answered; it `begins`, or goes on after it was put off.
    pub(super) fn request<'w>(&'w self, message: &'w [u8], payload: usize, begins: bool) -> Watched<'w> {
        if begins {
            self.observers.tell(|observer| observer.begun());
        }
        let (tag, name) = (tag(message), request_name(kind(message)));
        let span = tracing::debug_span!(parent: &self.span, "request", tag, message = name);
        Watched { watch: self, message, payload, begun: Instant::now(), told: false, span: span.entered() }
    }

    /// Something that may have changed the number of the session's fids has happened.
    ///
    /// The number is asked for while no other thread tells of it, so that the last one tells the truth.
    fn count_fids(&self, count: impl FnOnce() -> usize) {
        let mut told = self.fids.lock();
        let count = count();
        if count != *told {
            let change = count as isize - *told as isize;
            self.observers.tell(|observer| observer.fids_changed(change));
            *told = count;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.count_fids(|| 0);
        self.observers.tell(|observer| observer.closed(self.session));
    }
}

/// A request that is being answered and watched.
pub(super) struct Watched<'w> {
    watch: &'w Watch,
    message: &'w [u8],
    payload: usize,
    begun: Instant,
    told: bool,
    #[expect(dead_code, reason = "it is left when this is dropped")]
    span: tracing::span::EnteredSpan,
}

impl Watched<'_> {
    /// It goes on later.
    pub(super) fn put_off(mut self) {
        self.told = true;
    }

    /// It has been answered.
    pub(super) fn answered(mut self, session: &Session, error: Option<Errno>, reply: &Payload<'_>, reply_len: usize) {
        if kind(self.message) == kind::TATTACH && error.is_none() {
            self.note_attach();
        }
        match kind(self.message) {
            kind::TATTACH
            | kind::TXATTRWALK
            | kind::TVERSION
            | kind::TAUTH
            | kind::TWALK
            | kind::TCLUNK
            | kind::TREMOVE
            | kind::TVISIT => self.watch.count_fids(|| session.fid_count()),
            _ => {}
        }
        if let Some(Errno::EMFILE | Errno::ENFILE) = error {
            let limit = if session.fids.is_full() { Limit::Fids } else { Limit::Descriptors };
            self.watch.observers.tell(|observer| observer.refused(limit));
        }
        self.tell(error, reply, reply_len);
    }

    fn note_attach(&self) {
        let body = self.message.get(HEADER_LEN..).unwrap_or_default();
        if let Ok((Tmessage::Tattach { uname, aname, n_uname, .. }, _)) = Tmessage::decode_body(kind::TATTACH, body) {
            let user = if n_uname == ninering_wire::NONUNAME { format!("{uname:?}") } else { n_uname.to_string() };
            self.watch.span.record("user", user).record("export", tracing::field::debug(aname));
        }
    }

    fn tell(&mut self, error: Option<Errno>, reply: &Payload<'_>, reply_len: usize) {
        self.told = true;
        let exchange = Exchange {
            session: self.watch.session,
            message: self.message,
            payload: self.payload,
            reply,
            reply_len,
            error,
            begun: self.begun,
            took: self.begun.elapsed(),
        };
        self.watch.observers.tell(|observer| observer.answered(&exchange));
    }
}

impl Drop for Watched<'_> {
    /// Answering it panicked: the client is told `EIO`.
    fn drop(&mut self) {
        if !self.told {
            self.tell(Some(Errno::EIO), &Payload::empty(), 0);
        }
    }
}

/// Type numbers of the messages by which fids come and go.
mod kind {
    pub(super) const TXATTRWALK: u8 = 30;
    pub(super) const TVERSION: u8 = 100;
    pub(super) const TAUTH: u8 = 102;
    pub(super) const TATTACH: u8 = 104;
    pub(super) const TWALK: u8 = 110;
    pub(super) const TCLUNK: u8 = 120;
    pub(super) const TREMOVE: u8 = 122;
    pub(super) const TVISIT: u8 = 200;
}

fn kind(message: &[u8]) -> u8 {
    message.get(4).copied().unwrap_or(0)
}

fn tag(message: &[u8]) -> Option<u16> {
    message.get(5..HEADER_LEN)?.try_into().ok().map(u16::from_le_bytes)
}

/// The name of the request with this type number, in whatever dialect.
pub(crate) const fn request_name(kind: u8) -> Option<&'static str> {
    match Tmessage::name_of(kind) {
        None => legacy::Tmessage::<legacy::Unix>::name_of(kind),
        name => name,
    }
}

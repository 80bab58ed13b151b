//! One client's conversation with a server.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use ninering_wire::{
    Errno, HEADER_LEN, Header, MIN_MSIZE, Message, NOFID, NOTAG, Tmessage, WireError,
    legacy::{Plan9, Unix},
};
use parking_lot::RwLock;

use super::{
    Peer, Server,
    dialect::Dialect,
    dispatch,
    fid::{Fid, FidTable},
    identity::Turn,
    legacy,
    lock::{SessionLocks, WaitingLock},
    observer::Watch,
    request::{self, PutOff, Request},
};
use crate::payload::Payload;

/// The type number of a `Tversion`.
const TVERSION: u8 = 100;

/// One client's conversation: its fids, and what its `Tversion` agreed on.
///
/// Dropping it closes all that it has open, as soon as the last request under way ends.
pub struct Session {
    pub(super) server: Arc<Server>,
    pub(super) fids: FidTable,
    pub(super) locks: SessionLocks,
    pub(super) peer: Peer,
    /// Read-locked by each request, so that a `Tversion` has the session alone.
    agreed: RwLock<Agreed>,
    /// What of that is asked for before a request is looked at: its `msize` shifted by 8, and its dialect.
    outline: AtomicU64,
    requests: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    /// What fids of extended attributes hold, in bytes.
    pub(super) xattr_bytes: Arc<AtomicUsize>,
    watch: Option<Box<Watch>>,
}

/// Whether a request may wait.
enum Patience<'a> {
    /// It may.
    Waits,
    /// It may not, and is put off if it would have to.
    Now(&'a PutOff),
    /// It was put off, and may now.
    WasPutOff,
    /// It waits for a lock, and is put off once more if that is still not to be had.
    Again(&'a WaitingLock, &'a PutOff),
}

/// What a `Tversion` agrees on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Agreed {
    /// 0 where nothing is.
    pub(super) msize: u32,
    /// The one in which the client is told of errors before, too.
    pub(super) dialect: Dialect,
    /// `Tvisit` too.
    pub(super) visits: bool,
}

impl Agreed {
    /// As [`Session::outline`] has it.
    fn outline(&self) -> u64 {
        u64::from(self.msize) << 8 | self.dialect as u64
    }
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests answered, those with errors included.
    pub requests: u64,
    /// Bytes of payload that `Rread` and `Rreaddir` carried.
    pub bytes_read: u64,
    /// Bytes of payload that `Rwrite` acknowledged.
    pub bytes_written: u64,
}

impl Session {
    pub(super) fn new(server: Arc<Server>, peer: Peer) -> Self {
        Self {
            peer,
            fids: FidTable::new(server.options.max_fids, Arc::clone(&server.fids)),
            locks: SessionLocks::new(&server.locks),
            server,
            agreed: RwLock::default(),
            outline: AtomicU64::new(Agreed::default().outline()),
            requests: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            xattr_bytes: Arc::default(),
            watch: None,
        }
    }

    /// Lets the server's [observers](super::ServerOptions::observers) see this session, whose client they know as
    /// `peer`, and makes a `tracing` span of it and of each of its requests.
    pub fn watched(mut self, peer: &str) -> Self {
        self.watch = Watch::begin(&self.server.session_numbers, &self.server.options.observers, peer);
        self
    }

    /// The span of all that is done for this session; none unless it is [`Self::watched`].
    pub fn span(&self) -> tracing::Span {
        self.watch.as_ref().map_or_else(tracing::Span::none, |watch| watch.span().clone())
    }

    /// Answers one request, and returns only when it has: the backend's calls are made on this thread.
    ///
    /// `message` is header and message proper, contiguous and already copied out of shared memory, without the
    /// payload; `payload` is the bytes of a `Twrite`, where they lie. `reply` is space for the reply as a stream of
    /// bytes, the header first and its payload right behind. Returns how many bytes of it the reply takes.
    ///
    /// Anything may be in these bytes. What cannot be answered as asked is answered by an `Rlerror`, and so is, before
    /// anything is changed, a request whose `reply` is too small ([`Self::reply_capacity`]): `ENOBUFS`.
    /// The only reply of 0 bytes is that to a request with space for less than an `Rlerror` (11 bytes).
    ///
    /// It may be called from several threads at once. Requests don't wait for each other, but for a `Tversion`: that
    /// waits for those under way, and those that come later for it.
    pub fn handle(&self, message: &[u8], payload: &Payload<'_>, reply: &Payload<'_>) -> usize {
        self.requests.fetch_add(1, Relaxed);
        self.reply_to(message, payload, reply, Patience::Waits, || self.agreed.read())
    }

    /// As [`Self::handle`], if the request can be answered from memory, or from metadata that mostly is there. `None`
    /// where it would have to wait: nothing has happened then, and it is to be given to [`Self::handle_later`] on a thread
    /// that may.
    pub fn handle_now(&self, message: &[u8], payload: &Payload<'_>, reply: &Payload<'_>) -> Option<usize> {
        let now = PutOff::default();
        let length = self.reply_to(message, payload, reply, Patience::Now(&now), || self.agreed.read());
        if now.is_put_off() {
            return None;
        }
        self.requests.fetch_add(1, Relaxed);
        Some(length)
    }

    /// As [`Self::handle`], for a request that [`Self::handle_now`] would have had to wait for.
    pub fn handle_later(&self, message: &[u8], payload: &Payload<'_>, reply: &Payload<'_>) -> usize {
        self.requests.fetch_add(1, Relaxed);
        self.reply_to(message, payload, reply, Patience::WasPutOff, || self.agreed.read())
    }

    /// As [`Self::handle_later`], for a `Tlock` that [waits](Self::waiting_lock). `None` where another still has the lock.
    /// `EBADF` where the fid is no more what it was when it began to.
    pub fn try_lock(&self, waiting: &WaitingLock, message: &[u8], reply: &Payload<'_>) -> Option<usize> {
        let put_off = PutOff::default();
        let patience = Patience::Again(waiting, &put_off);
        let length = self.reply_to(message, &Payload::empty(), reply, patience, || self.agreed.read());
        if put_off.is_put_off() {
            return None;
        }
        self.requests.fetch_add(1, Relaxed);
        Some(length)
    }

    /// Ends a `Tlock` that [waits](Self::waiting_lock), and returns the length of its reply, which is `EINTR`. After a
    /// `Tflush`, that need not be sent.
    pub fn cancel_lock(&self, message: &[u8], reply: &Payload<'_>) -> usize {
        self.requests.fetch_add(1, Relaxed);
        let length = request::answer_error(tag(message), Errno::EINTR, reply);
        if let Some(watch) = &self.watch {
            watch.request(message, 0, false).answered(self, Some(Errno::EINTR), reply, length);
        }
        length
    }

    /// As [`Self::handle`], for who has the session alone: what only keeps several threads apart is left out.
    pub fn handle_alone(&mut self, message: &[u8], payload: &Payload<'_>, reply: &Payload<'_>) -> usize {
        *self.requests.get_mut() += 1;
        let agreed = *self.agreed.get_mut();
        self.reply_to(message, payload, reply, Patience::Waits, || &agreed)
    }

    /// Answers a request. `agreed` is asked for what the session agreed on, and what it returns kept for as
    /// long as the session must not begin anew.
    fn reply_to<M: Deref<Target = Agreed>>(
        &self,
        message: &[u8],
        payload: &Payload<'_>,
        reply: &Payload<'_>,
        patience: Patience<'_>,
        agreed: impl FnOnce() -> M,
    ) -> usize {
        let tag = tag(message);
        let watched = self.watch.as_ref().map(|watch| {
            let begins = matches!(patience, Patience::Waits | Patience::Now(_));
            watch.request(message, payload.len(), begins)
        });
        let put_off = match patience {
            Patience::Now(put_off) | Patience::Again(_, put_off) => Some(put_off),
            Patience::Waits | Patience::WasPutOff => None,
        };
        let (length, error) = match self.answer(tag, message, payload, reply, patience, agreed) {
            Ok(length) => {
                tracing::trace!(tag, length, "answered");
                (length, None)
            }
            Err(_) if put_off.is_some_and(PutOff::is_put_off) => {
                if let Some(watched) = watched {
                    watched.put_off();
                }
                return 0;
            }
            Err(error) => {
                tracing::trace!(tag, %error, "failed");
                (self.answer_error(tag, error, reply), Some(error))
            }
        };
        if let Some(watched) = watched {
            watched.answered(self, error, reply, length);
        }
        length
    }

    fn answer<M: Deref<Target = Agreed>>(
        &self,
        tag: u16,
        message: &[u8],
        payload: &Payload<'_>,
        reply: &Payload<'_>,
        patience: Patience<'_>,
        agreed: impl FnOnce() -> M,
    ) -> Result<usize, Errno> {
        let kind = check_frame(message, payload).map_err(request::errno_of)?;
        if kind == TVERSION {
            return self.answer_version(tag, message, payload, reply);
        }
        let agreed = agreed();
        let (now, again) = match patience {
            Patience::Now(now) => (Some(now), None),
            Patience::Again(waiting, put_off) => (None, Some((waiting, put_off))),
            Patience::Waits | Patience::WasPutOff => (None, None),
        };
        let Agreed { msize, visits, .. } = *agreed;
        let request = Request { tag, changes: false, msize, visits, payload, reply, now, again, visited: None };
        match agreed.dialect {
            Dialect::Linux => {}
            Dialect::Unix => return legacy::answer::<Unix>(self, &agreed, message, request),
            Dialect::Plan9 => return legacy::answer::<Plan9>(self, &agreed, message, request),
        }
        // By reference: a walk's names make every message a few hundred bytes long.
        let decoded = Tmessage::decode_body(kind, &message[HEADER_LEN..]);
        let (decoded, rest) = decoded.as_ref().map_err(|error| request::errno_of(*error))?;
        if !rest.is_empty() || decoded.payload_len() as usize != payload.len() {
            return Err(Errno::EPROTO);
        }
        tracing::trace!(tag, message = ?decoded, "request");
        check_agreed(&agreed, tag, message, reply)?;
        let request = Request { changes: dispatch::changes(decoded), ..request };
        let _turn = Turn::begin();
        dispatch::dispatch(self, &request, decoded)
    }

    /// Answers a `Tversion`, which is the same in all dialects.
    fn answer_version(
        &self,
        tag: u16,
        message: &[u8],
        payload: &Payload<'_>,
        reply: &Payload<'_>,
    ) -> Result<usize, Errno> {
        let decoded = Tmessage::decode_body(TVERSION, &message[HEADER_LEN..]).map_err(request::errno_of)?;
        match decoded {
            (Tmessage::Tversion { msize, version }, rest) if rest.is_empty() && payload.is_empty() => {
                tracing::trace!(tag, message = ?decoded.0, "request");
                let (changes, visits) = (false, false);
                let request =
                    Request { tag, changes, msize, visits, payload, reply, now: None, again: None, visited: None };
                let _turn = Turn::begin();
                self.version(&request, &version)
            }
            _ => Err(Errno::EPROTO),
        }
    }

    /// Writes the reply that says that the request `tag` failed to the front of `reply`, in the session's dialect.
    /// Returns its length, which is 0 where there is no space for it.
    pub fn answer_error(&self, tag: u16, error: Errno, reply: &Payload<'_>) -> usize {
        match self.outline().1 {
            Dialect::Linux => request::answer_error(tag, error, reply),
            Dialect::Unix => legacy::answer_error::<Unix>(tag, error, reply),
            Dialect::Plan9 => legacy::answer_error::<Plan9>(tag, error, reply),
        }
    }

    /// What a request's fid `number` stands for; from now on, the thread acts as who attached it. `EBADF` where the
    /// number is unknown, `EROFS` where the request would change what may not be.
    pub(super) fn fid(&self, request: &Request, number: u32) -> Result<Arc<Fid>, Errno> {
        let fid = match request.visited {
            Some(visited) if number == NOFID => Arc::clone(visited),
            _ => self.fids.get(number)?,
        };
        fid.attach.begin(request.changes)?;
        Ok(fid)
    }

    /// As [`Self::fid`], of a number that may stand for an extended attribute instead.
    pub(super) fn any_fid(&self, request: &Request, number: u32) -> Result<Arc<Fid>, Errno> {
        let fid = self.fids.get_any(number)?;
        fid.attach.begin(request.changes)?;
        Ok(fid)
    }

    /// As [`Self::any_fid`], of a `Twrite`.
    pub(super) fn fid_to_write(&self, number: u32) -> Result<Arc<Fid>, Errno> {
        let fid = self.fids.get_any(number)?;
        fid.attach.begin_writing()?;
        Ok(fid)
    }

    /// Two fids of one request, which are to be of one user (`EPERM`): [`Self::fid`].
    pub(super) fn two_fids(&self, request: &Request, one: u32, other: u32) -> Result<(Arc<Fid>, Arc<Fid>), Errno> {
        let (one, other) = (self.fid(request, one)?, self.fid(request, other)?);
        if one.attach.same_user(&other.attach) { Ok((one, other)) } else { Err(Errno::EPERM) }
    }

    /// Begins the session anew, without a fid and while no other request is under way. An `msize` of 0 ends it.
    pub(super) fn begin(&self, anew: Agreed) {
        let mut agreed = self.agreed.write();
        self.locks.clear();
        self.forget_fids();
        self.outline.store(anew.outline(), Relaxed);
        *agreed = anew;
    }

    /// How many bytes the reply to `message`, a request's header and message proper, needs at the most; no more than
    /// the `msize` agreed on.
    pub fn reply_capacity(&self, message: &[u8]) -> usize {
        let (limit, dialect) = self.outline();
        request::reply_limit(message, limit, dialect)
    }

    /// The longest message that the client may send now, in bytes: the `msize` agreed on; before that, what a
    /// `Tversion` always fits in.
    pub fn message_limit(&self) -> u32 {
        self.outline().0
    }

    /// Does no request ever wait for anything slower than memory? Those of the dialects before 9P2000.L may, for the
    /// names of users.
    pub fn never_waits(&self) -> bool {
        self.server.never_waits() && self.outline().1 == Dialect::Linux
    }

    /// The longest message, and the dialect. Without the lock: who reads a connection asks several times for each request,
    /// and answers a `Tversion` before it reads on.
    fn outline(&self) -> (u32, Dialect) {
        let outline = self.outline.load(Relaxed);
        let limit = match (outline >> 8) as u32 {
            0 => MIN_MSIZE.min(self.server.options.max_msize),
            msize => msize,
        };
        (limit, Dialect::ALL[usize::from(outline as u8) % Dialect::ALL.len()])
    }

    /// May an attach wait for another machine?
    pub(super) fn attach_waits(&self) -> bool {
        self.server.attach_waits()
    }

    /// Who is at the other end of its connection.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        Counters {
            requests: self.requests.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
        }
    }

    /// How many fids the client has.
    pub fn fid_count(&self) -> usize {
        self.fids.count()
    }

    pub(super) fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_written(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Relaxed);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.forget_fids();
    }
}

/// Can a request be answered that is no `Tversion`? To be asked before anything is changed.
pub(super) fn check_agreed(agreed: &Agreed, tag: u16, message: &[u8], reply: &Payload<'_>) -> Result<(), Errno> {
    if agreed.msize == 0 {
        return Err(Errno::EPROTO);
    }
    if tag == NOTAG {
        return Err(Errno::EINVAL);
    }
    if request::has_space(message, agreed, reply) { Ok(()) } else { Err(Errno::ENOBUFS) }
}

/// The tag of a message, if it is long enough to have one.
fn tag(message: &[u8]) -> u16 {
    message.get(5..HEADER_LEN).and_then(|tag| tag.try_into().ok()).map_or(NOTAG, u16::from_le_bytes)
}

/// Checks that a request is as long as its header says, and tells its type number.
fn check_frame(message: &[u8], payload: &Payload<'_>) -> Result<u8, WireError> {
    let header = Header::decode(message)?;
    if header.size as usize == message.len() + payload.len() {
        Ok(header.kind)
    } else {
        Err(WireError::BadSize(header.size))
    }
}

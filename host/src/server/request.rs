//! A request that is being answered: its tag, its payload, and the space for its reply.

use std::{cell::Cell, sync::Arc};

use ninering_wire::{
    Errno, HEADER_LEN, Header, MAXWELEM, Message, PATH_MAX, Qid, RREAD_LEN, Rmessage, VERSION_9P2000L, WireError,
};

use super::{
    dialect::Dialect,
    fid::Fid,
    legacy,
    lock::{CLIENT_ID_MAX, WaitingLock},
    session::Agreed,
};
use crate::payload::Payload;

/// Bytes of the largest reply that is built on the stack: all but `Rreadlink` and those with a payload.
const LARGEST_BUILT: usize = 320;

/// What the functions that answer a message get besides its fields.
pub(super) struct Request<'a, 'p, 'r> {
    pub(super) tag: u16,
    /// Does it ask for a change of the filesystem?
    pub(super) changes: bool,
    /// The session's; 0 before a `Tversion`.
    pub(super) msize: u32,
    /// Was `Tvisit` agreed on?
    pub(super) visits: bool,
    /// The bytes of a `Twrite`.
    pub(super) payload: &'a Payload<'p>,
    /// Space for the reply, never more than `msize` of it used.
    pub(super) reply: &'a Payload<'r>,
    /// Must it be answered without waiting, or not at all? `None` where it may wait.
    pub(super) now: Option<&'a PutOff>,
    /// Is it a `Tlock` that was put off, and can be once more?
    pub(super) again: Option<(&'a WaitingLock, &'a PutOff)>,
    /// What `NOFID` stands for in it, where a `Tvisit` has led to that.
    pub(super) visited: Option<&'a Arc<Fid>>,
}

/// Notes that a request was put off, for it would have had to wait.
#[derive(Debug, Default)]
pub(super) struct PutOff(Cell<bool>);

impl PutOff {
    /// Was it?
    pub(super) fn is_put_off(&self) -> bool {
        self.0.get()
    }

    /// Puts the request off: what to return, before anything is changed. The client never sees the error.
    pub(super) fn put_off(&self) -> Errno {
        self.0.set(true);
        Errno::EAGAIN
    }
}

impl<'r> Request<'_, '_, 'r> {
    /// By what a `Tlock` can be put off, if it can.
    pub(super) fn lock_put_off(&self) -> Option<&PutOff> {
        self.now.or(self.again.map(|(_, put_off)| put_off))
    }

    /// Writes a reply; tells its length in bytes. `ENOBUFS` where there is no space for it.
    pub(super) fn answer<'m>(&self, message: &impl Message<'m>) -> Result<usize, Errno> {
        self.build::<LARGEST_BUILT>(message)
    }

    /// As [`Self::answer`], for one whose `count` bytes of payload are in place already.
    pub(super) fn answer_with_payload(&self, message: &Rmessage<'_>, count: usize) -> Result<usize, Errno> {
        Ok(self.build::<RREAD_LEN>(message)? + count)
    }

    /// As [`Self::answer`], for one that ends in a message: none is in `reply`, but its `count` bytes are in place.
    pub(super) fn answer_around(&self, reply: &Rmessage<'_>, count: usize) -> Result<usize, Errno> {
        let mut buffer = [0; LARGEST_BUILT];
        // A size of 0 stands for the message.
        let length = reply.encode(self.tag, &mut buffer).map_err(|_| Errno::ENOBUFS)? - size_of::<u32>();
        let size = length + count;
        buffer[..4].copy_from_slice(&(size as u32).to_le_bytes());
        self.put(0, &buffer[..length])?;
        Ok(size)
    }

    fn build<'m, const LENGTH: usize>(&self, message: &impl Message<'m>) -> Result<usize, Errno> {
        let mut buffer = [0; LENGTH];
        let length = message.encode(self.tag, &mut buffer).map_err(|_| Errno::ENOBUFS)?;
        self.put(0, &buffer[..length])?;
        Ok(length)
    }

    /// Writes an `Rreadlink`.
    pub(super) fn answer_link(&self, target: &[u8]) -> Result<usize, Errno> {
        let length = u16::try_from(target.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let size = HEADER_LEN + 2 + target.len();
        if size > (self.msize as usize).min(self.reply.len()) {
            return Err(Errno::ENOBUFS);
        }
        let header = Header { size: size as u32, kind: RREADLINK, tag: self.tag };
        self.put(0, &header.encode())?;
        self.put(HEADER_LEN, &length.to_le_bytes())?;
        self.put(HEADER_LEN + 2, target)?;
        Ok(size)
    }

    /// The space for the payload of an `Rread` or `Rreaddir`: `count` bytes, or what `msize` has space for.
    pub(super) fn payload_space(&self, count: u32) -> Payload<'r> {
        self.reply.part(RREAD_LEN, payload_limit(count, self.msize))
    }

    /// Writes a reply that was built elsewhere.
    pub(super) fn answer_built(&self, reply: &[u8]) -> Result<usize, Errno> {
        if reply.len() > (self.msize as usize).min(self.reply.len()) {
            return Err(Errno::ENOBUFS);
        }
        self.put(0, reply)?;
        Ok(reply.len())
    }

    fn put(&self, start: usize, bytes: &[u8]) -> Result<(), Errno> {
        let copied =
            if start == 0 { self.reply.copy_from(bytes) } else { self.reply.part(start, bytes.len()).copy_from(bytes) };
        if copied == bytes.len() { Ok(()) } else { Err(Errno::ENOBUFS) }
    }
}

/// Writes an `Rlerror` to the front of `reply`; tells its length, which is 0 where there is no space for it.
pub(super) fn answer_error(tag: u16, error: Errno, reply: &Payload<'_>) -> usize {
    let mut buffer = [0; RREAD_LEN];
    match (Rmessage::Rlerror { ecode: error.0 }).encode(tag, &mut buffer) {
        Ok(length) if reply.len() >= length => reply.copy_from(&buffer[..length]),
        _ => 0,
    }
}

/// The error number for a message that is none.
pub(super) fn errno_of(error: WireError) -> Errno {
    match error {
        WireError::UnknownType(_) => Errno::EOPNOTSUPP,
        WireError::TooManyNames(_) | WireError::BadValue => Errno::EINVAL,
        WireError::Truncated | WireError::TrailingBytes | WireError::BadSize(_) | WireError::Overflow => Errno::EPROTO,
    }
}

const TREADLINK: u8 = 22;
const RREADLINK: u8 = 23;
const TSTAT: u8 = 124;

fn payload_limit(count: u32, msize: u32) -> usize {
    (count as usize).min((msize as usize).saturating_sub(RREAD_LEN))
}

/// Bytes that the reply to `message` takes at the most; enough for an error in any case.
///
/// Only the fields that matter are looked at, where they lie; a message that is too short for them has no reply but
/// an error.
pub(super) fn reply_limit(message: &[u8], msize: u32, dialect: Dialect) -> usize {
    let u32_at = |at: usize| {
        let bytes = message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    let qid = HEADER_LEN + Qid::LEN;
    let limit = match message.get(4) {
        // Tstatfs
        Some(8) => HEADER_LEN + 60,
        // Tlopen, Tlcreate, Topen, Tcreate: qid and iounit
        Some(12 | 14 | 112 | 114) => qid + 4,
        // Tsymlink, Tmknod, Tmkdir, Tauth, Tattach
        Some(16 | 18 | 72 | 102 | 104) => qid,
        // Treadlink
        Some(22) => (HEADER_LEN + 2 + PATH_MAX).min(msize as usize),
        // Tgetattr
        Some(24) => HEADER_LEN + 153,
        // Txattrwalk: size
        Some(30) => HEADER_LEN + 8,
        // Treaddir, Tread: fid[4] offset[8] count[4]
        Some(40 | 116) => RREAD_LEN + payload_limit(u32_at(HEADER_LEN + 12), msize),
        // Tgetlock: type start length proc_id client_id
        Some(54) => HEADER_LEN + 1 + 8 + 8 + 4 + 2 + CLIENT_ID_MAX,
        // Tversion: msize[4] version[s]. Of another dialect, an error is longer than the answer.
        Some(100) if message.get(HEADER_LEN + 6..) == Some(VERSION_9P2000L) => HEADER_LEN + 4 + 2 + 8,
        Some(100) => legacy::RERROR_MOST,
        // Tvisit: fid[4] newfid[4] nwname[2], the names, and a message
        Some(200) => {
            let (names, inner) = names_and_inner(message);
            let inner = if inner.get(4) == Some(&200) { 0 } else { reply_limit(inner, msize, dialect) };
            HEADER_LEN + 2 + Qid::LEN * names + inner
        }
        // Twalk: fid[4] newfid[4] nwname[2], and a qid for each name
        Some(110) => {
            let names = message.get(HEADER_LEN + 8..HEADER_LEN + 10).map_or(0, |bytes| bytes[0].min(16));
            HEADER_LEN + 2 + Qid::LEN * usize::from(names)
        }
        // Tstat
        Some(&TSTAT) => legacy::RSTAT_MOST.min(msize as usize),
        _ => 0,
    };
    limit.max(match dialect {
        Dialect::Linux => RREAD_LEN,
        Dialect::Unix | Dialect::Plan9 => legacy::RERROR_MOST,
    })
}

/// How many names a `Tvisit` has, and the message behind them; none where there is none.
fn names_and_inner(message: &[u8]) -> (usize, &[u8]) {
    let u16_at_front = |bytes: &[u8]| bytes.first_chunk().map_or(0, |&bytes| usize::from(u16::from_le_bytes(bytes)));
    let mut rest = message.get(HEADER_LEN + 8..).unwrap_or_default();
    let names = u16_at_front(rest).min(MAXWELEM);
    rest = rest.get(2..).unwrap_or_default();
    for _ in 0..names {
        rest = rest.get(2 + u16_at_front(rest)..).unwrap_or_default();
    }
    (names, rest)
}

/// Is there space in `reply` for any reply to `message`? To be asked before anything is changed.
///
/// A `Treadlink` and a `Tstat` change nothing, and few targets and names are as long as they may be: they get their
/// answer if that fits.
pub(super) fn has_space(message: &[u8], agreed: &Agreed, reply: &Payload<'_>) -> bool {
    matches!(message.get(4), Some(&(TREADLINK | TSTAT)))
        || reply.len() >= reply_limit(message, agreed.msize, agreed.dialect)
}

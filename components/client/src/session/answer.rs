//! Replies, and what no server may answer.

use std::fmt;

use ninering_wire::{
    Errno, Inner, Message, Rmessage, Tmessage, WireError,
    legacy::{self, Unix},
};

use crate::ring::ReplyHeader;

/// `Rlerror`'s type number.
pub(super) const RLERROR: u8 = 7;
/// `Rerror`'s, of the older dialects. By this number nfs-ganesha tells its errors in 9P2000.L too, and Linux's client takes it.
pub(super) const RERROR: u8 = 107;
/// Bytes of an error number, all that an `Rlerror` says; an `Rerror` of 9P2000.u has a text before it.
const ECODE_LEN: usize = 4;
/// `Tversion`'s.
pub(super) const TVERSION: u8 = 100;
/// The longest part of an error reply that is read where it landed among the payload's memory, as of Linux's client.
const MOST_SPILLED: u32 = 4096;

/// A reply of which the frame was checked.
pub(crate) struct Answer {
    /// The request's type number.
    pub(super) asked: u8,
    /// That of the request within it, or 0.
    pub(super) within: u8,
    pub(super) header: ReplyHeader,
    pub(super) written: u32,
    pub(super) limit: u32,
}

impl Answer {
    /// The message, or the error that the server answered.
    pub(crate) fn message(&self) -> Result<Result<Rmessage<'_>, Errno>, Violation> {
        let asked = self.asked;
        let malformed = |error| Violation::Malformed { asked, error };
        let &[_, _, _, _, kind, _, _, ref body @ ..] = &*self.header else {
            return Err(malformed(WireError::Truncated));
        };
        // A server that has not agreed on a dialect may tell its errors in an older one.
        if kind == RERROR && asked == TVERSION {
            return Ok(Err(Errno::EOPNOTSUPP));
        }
        // Whoever waits has it gathered, if it can be.
        if self.spilled() > 0 {
            return Ok(Err(Errno::EIO));
        }
        let kind = if kind == RERROR && body.len() == ECODE_LEN { RLERROR } else { kind };
        if kind == RERROR {
            let (error, rest) = legacy::Rmessage::<Unix>::decode_body(kind, body).map_err(malformed)?;
            let legacy::Rmessage::Rerror { errno, .. } = error else { return Err(Violation::Length { asked }) };
            if !rest.is_empty() {
                return Err(Violation::Length { asked });
            }
            return Ok(Err(server_errno(errno.get().unwrap_or_default())));
        }
        let (message, rest) = Rmessage::decode_body(kind, body).map_err(malformed)?;
        // The payload is in the extents; the device has counted what it put there.
        let payload = self.written.saturating_sub(self.header.len() as u32); // `header` is a part of `written`
        if !rest.is_empty() || payload != message.payload_len() {
            return Err(Violation::Length { asked });
        }
        let counted = match &message {
            Rmessage::Rread { count } | Rmessage::Rreaddir { count } | Rmessage::Rwrite { count } => *count,
            Rmessage::Rwalk { qids } => qids.len() as u32, // at most 16
            Rmessage::Rvisit { qids, message } => {
                self.check_inner(*message, qids.len() as u32 == self.limit)?;
                qids.len() as u32
            }
            Rmessage::Rlerror { ecode } => return Ok(Err(server_errno(*ecode))),
            _ => 0,
        };
        if counted > self.limit {
            return Err(Violation::Count { asked, limit: self.limit, counted });
        }
        Ok(Ok(message))
    }

    /// Bytes of an error reply that are not in its header, but landed in the memory of the payload.
    pub(super) fn spilled(&self) -> u32 {
        let is_error = matches!(self.header.get(4), Some(&(RLERROR | RERROR)));
        if is_error { self.written.saturating_sub(self.header.len() as u32) } else { 0 }
    }

    /// The error reply with what [spilled](Self::spilled), which `read` reads (`handle_rerror()` of Linux's
    /// `trans_virtio.c`).
    pub(crate) fn gather(mut self, read: impl FnOnce(u32) -> Option<Vec<u8>>) -> Self {
        if let spilled @ 1..=MOST_SPILLED = self.spilled()
            && let Some(rest) = read(spilled)
        {
            self.header = [&self.header, rest.as_slice()].concat().into();
        }
        self
    }

    /// Is the message within an `Rvisit` there where the walk came to its `end`, and then the answer to the one asked?
    fn check_inner(&self, message: Inner<'_>, end: bool) -> Result<(), Violation> {
        if message.0.is_empty() && !end {
            return Ok(());
        }
        let asked = self.within;
        let malformed = |error| Violation::Malformed { asked, error };
        let answered = message.decode::<Rmessage<'_>>().map_err(malformed)?.kind();
        if !end {
            return Err(Violation::Length { asked: self.asked });
        }
        if answered != asked + 1 && answered != RLERROR {
            return Err(Violation::Type { asked, answered });
        }
        Ok(())
    }
}

/// The error number that a server answered. Above those that Linux has they would be taken for pointers there, and for
/// results elsewhere.
pub(crate) fn server_errno(ecode: u32) -> Errno {
    if (1..4096).contains(&ecode) { Errno(ecode) } else { Errno::EIO }
}

/// What a server did that no server may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    UnknownChain,
    Malformed { asked: u8, error: WireError },
    Type { asked: u8, answered: u8 },
    Tag { asked: u8, sent: u16, received: u16 },
    Size { asked: u8, claimed: u32, written: u32 },
    Count { asked: u8, limit: u32, counted: u32 },
    Length { asked: u8 },
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = |kind: u8| Tmessage::name_of(kind).unwrap_or("a request");
        match *self {
            Self::UnknownChain => formatter.write_str("the device returned a chain that it did not have"),
            Self::Malformed { asked, error } => {
                write!(formatter, "the server's answer to {} is malformed: {error}", request(asked))
            }
            Self::Type { asked, answered } => {
                let asked = request(asked);
                match Rmessage::name_of(answered).or_else(|| Tmessage::name_of(answered)) {
                    Some(answered) => write!(formatter, "the server answered {answered} to {asked}"),
                    None => write!(formatter, "the server answered an unknown message, {answered}, to {asked}"),
                }
            }
            Self::Tag { asked, sent, received } => {
                write!(formatter, "the server answered to {} with tag {received} instead of {sent}", request(asked))
            }
            Self::Size { asked, claimed, written } => {
                let asked = request(asked);
                write!(formatter, "the server's answer to {asked} says that it has {claimed} bytes, and has {written}")
            }
            Self::Count { asked, limit, counted } => {
                write!(formatter, "the server answered {counted} to {}, which asked for {limit}", request(asked))
            }
            Self::Length { asked } => {
                write!(formatter, "the server's answer to {} is longer or shorter than it should be", request(asked))
            }
        }
    }
}

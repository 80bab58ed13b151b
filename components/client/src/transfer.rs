//! Requests with payload: reading, writing, and reading directories.

use std::{future::poll_fn, task::Poll};

use ninering_wire::{DirEntries, Errno, NAME_MAX, Qid, Rmessage, Tmessage};
use smallvec::SmallVec;

use crate::{
    error::Error,
    ring::{Direction, Extent, Ring, Transfer},
    session::{Cleanup, Exchange, Refusal, Session, Writing},
};

/// Bytes of directory entries to ask for at a time.
const DIRECTORY_BYTES: u32 = 32 * 1024;

/// A read or write of any length.
#[derive(Debug)]
pub(crate) struct Io<I> {
    pub(crate) fid: u32,
    /// Where in the file.
    pub(crate) offset: u64,
    /// Where the bytes go to or come from.
    pub(crate) iter: I,
    /// How many.
    pub(crate) bytes: u64,
    pub(crate) direction: Direction,
    /// The most bytes for one request, besides what the session allows; 0 for no such limit.
    pub(crate) iounit: u32,
    /// Send each request only when the one before it is answered, for the order of their effects matters.
    pub(crate) in_sequence: bool,
}

/// An entry of a directory, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file's identity.
    pub qid: Qid,
    /// Where to go on after this entry.
    pub offset: u64,
    /// One of [`ninering_wire::dirent_type`].
    pub kind: u8,
    /// The name: not empty, no longer than 255 bytes, without `/` and NUL.
    pub name: Vec<u8>,
}

/// A request of several that make up one transfer.
struct Piece<'s, R: Ring> {
    exchange: Exchange<'s, R>,
    /// How much of the transfer is before it.
    start: u64,
    bytes: u32,
}

impl<R: Ring> Session<R> {
    /// Reads or writes, in as many requests as it takes, all in flight as far as there is room. Yields the bytes up
    /// to the first request that did less than was asked of it, and does not end before all requests have.
    ///
    /// # Errors
    /// The server's, if it comes before the first byte.
    pub(crate) async fn transfer(&self, io: &Io<R::Iter>) -> Result<u64, Error> {
        let &Io { bytes, in_sequence, .. } = io;
        if io.offset.checked_add(bytes).is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::EINVAL.into());
        }
        // Each append goes to where the file ends, so that one whose answer is lost shows only in the file's size.
        let appends = io.direction == Direction::Source && self.recovers() && self.appends(io.fid);
        let writing = if io.direction == Direction::Source { self.begin_writing(io.fid) } else { None };
        let mut size = 0;
        if let Some(writing) = writing.as_ref().filter(|_| appends) {
            writing.begin_alone();
            size = self.getattr(io.fid).await?.size;
        }
        let in_sequence = in_sequence || appends;
        // What belongs to a connection is not sent by another one.
        let goes_on = self.recovers() && !self.is_restoring();
        let mut pieces: SmallVec<[Piece<'_, R>; 4]> = SmallVec::new();
        let (mut sent, mut done) = (0, 0);
        // Why no more is sent: an error, or `None` for a request that did less than was asked of it.
        let mut ending: Option<Option<Error>> = None;
        // Requests came back without an answer: what is not done is sent again.
        let mut is_lost = false;
        loop {
            let ended = poll_fn(|_| {
                // Answers count in the order of the requests, whatever order they come in.
                while let Some(Piece { exchange, start, bytes }) = pieces.first_mut() {
                    let Poll::Ready(answer) = exchange.poll() else { break };
                    let counted = answer.and_then(|answer| {
                        let answer = answer.gather(|len| self.ring.read_back(&io.iter, sent - *start, len));
                        self.read(&answer, |reply| match reply {
                            Rmessage::Rread { count } | Rmessage::Rwrite { count } => Some(count),
                            _ => None,
                        })
                    });
                    match counted {
                        Err(error @ Error::Broken(_)) => return Poll::Ready(Err(error)),
                        _ if ending.is_some() => {}
                        Err(Error::InDoubt) if goes_on => is_lost = true,
                        _ if is_lost => {}
                        Ok(count) => {
                            done += u64::from(count);
                            ending = (count < *bytes).then_some(None);
                        }
                        Err(error) => ending = Some(Some(error)),
                    }
                    pieces.remove(0);
                }
                while sent < bytes && ending.is_none() && !is_lost && (pieces.is_empty() || !in_sequence) {
                    match self.send_piece(io, sent) {
                        Poll::Pending => break,
                        Poll::Ready(Ok(piece)) => {
                            sent += u64::from(piece.bytes);
                            pieces.push(piece);
                        }
                        Poll::Ready(Err(error)) => ending = Some(Some(error)),
                    }
                }
                if !pieces.is_empty() || (sent < bytes && ending.is_none() && !is_lost) {
                    return Poll::Pending;
                }
                if is_lost && ending.is_none() {
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(match ending.take() {
                    Some(Some(error)) if done == 0 || matches!(error, Error::Broken(_)) => Err(error),
                    _ => Ok(Some(done)),
                })
            })
            .await?;
            if let Some(done) = ended {
                return Ok(done);
            }
            is_lost = false;
            if appends {
                let came = self.appended(io.fid, size + done, sent - done, writing.as_ref()).await?;
                done += came;
            }
            if !self.revert(io, sent - done) {
                return Err(Error::InDoubt);
            }
            sent = done;
            if sent == bytes {
                return Ok(done);
            }
        }
    }

    /// Takes the iter back by what is to be sent again.
    fn revert(&self, io: &Io<R::Iter>, bytes: u64) -> bool {
        self.count_resent();
        bytes == 0 || self.ring.revert(&io.iter, bytes)
    }

    /// How many of the bytes that were to be appended to a file of `size` bytes were, when the answer was lost.
    ///
    /// # Errors
    /// [`Error::InDoubt`] where others have changed the file, too.
    async fn appended(&self, fid: u32, size: u64, bytes: u64, writing: Option<&Writing<'_, R>>) -> Result<u64, Error> {
        let now = self.getattr(fid).await?.size;
        match now.checked_sub(size) {
            Some(came) if came <= bytes && writing.is_some_and(Writing::was_alone) => Ok(came),
            _ => Err(Error::InDoubt),
        }
    }

    /// Sends one request for as much of what is behind the first `sent` bytes as it can carry.
    fn send_piece(&self, io: &Io<R::Iter>, sent: u64) -> Poll<Result<Piece<'_, R>, Error>> {
        let most = if io.iounit == 0 { self.payload_max() } else { self.payload_max().min(io.iounit) };
        let mut count = (io.bytes - sent).min(most.into()) as u32; // at most `most`
        loop {
            let (fid, offset) = (io.fid, io.offset + sent);
            let message = match io.direction {
                Direction::Source => Tmessage::Twrite { fid, offset, count },
                Direction::Dest => Tmessage::Tread { fid, offset, count },
            };
            let payload = Transfer {
                iter: &io.iter,
                direction: io.direction,
                bytes: count.into(),
                max_segments: self.most_segments(),
            };
            return match self.poll_send(&message, Cleanup::Nothing, Some(payload)) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(exchange)) => Poll::Ready(Ok(Piece { exchange, start: sent, bytes: count })),
                Poll::Ready(Err(Refusal::Short(bytes))) if (1..u64::from(count)).contains(&bytes) => {
                    count = bytes as u32; // less than `count`
                    continue;
                }
                Poll::Ready(Err(refusal)) => Poll::Ready(Err(self.error_of(refusal))),
            };
        }
    }

    /// The entries of a directory from `offset` on, as many as come in one reply; none at the end.
    ///
    /// # Errors
    /// The server's. The session is broken where the entries are not well formed.
    pub(crate) async fn read_directory(&self, fid: u32, offset: u64, count: u32) -> Result<Vec<Entry>, Error> {
        let count = count.min(DIRECTORY_BYTES).min(self.payload_max());
        let buffer = self.take_buffer(DIRECTORY_BYTES.min(self.payload_max()))?;
        let bytes = self.read_directory_into(buffer, fid, offset, count).await?;
        let read = match bytes {
            0 => Some(Vec::new()),
            _ => self.ring.read(Extent { len: bytes, ..buffer }),
        };
        self.return_buffer(buffer);
        let read = read.ok_or(Errno::EIO)?;
        let mut entries = Vec::with_capacity(read.len() / 48); // a name of 24 bytes
        for entry in DirEntries::new(&read) {
            let broken = |reason: &str| self.break_off(&format!("the server answered to Treaddir {reason}"));
            let entry = entry.map_err(|_| broken("an entry that is not whole"))?;
            let name = entry.name.0;
            if name.is_empty() || name.len() > NAME_MAX || name.iter().any(|&byte| byte == b'/' || byte == 0) {
                return Err(broken("an entry with a name that no file can have"));
            }
            entries.push(Entry { qid: entry.qid, offset: entry.offset, kind: entry.kind, name: name.to_vec() });
        }
        Ok(entries)
    }

    /// Has the server put directory entries into `buffer`, which is the caller's again only if this succeeds.
    async fn read_directory_into(&self, buffer: Extent, fid: u32, offset: u64, count: u32) -> Result<u32, Error> {
        let Some(iter) = self.ring.iter_over(buffer) else {
            self.return_buffer(buffer);
            return Err(Errno::EIO.into());
        };
        let max_segments = self.most_segments();
        let payload = || Some(Transfer { iter: &iter, direction: Direction::Dest, bytes: count.into(), max_segments });
        let message = Tmessage::Treaddir { fid, offset, count };
        self.request(message, Cleanup::Buffer(buffer), payload, |reply| match reply {
            Rmessage::Rreaddir { count } => Some(count),
            _ => None,
        })
        .await
    }
}

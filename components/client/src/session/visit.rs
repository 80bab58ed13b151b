//! Walking, and doing something where that leads, in one go.

use std::rc::Rc;

use ninering_wire::{Errno, HEADER_LEN, Inner, NAME_MAX, NOFID, NOTAG, Names, PATH_MAX, Rmessage, Tmessage};

use super::{
    Fid, Session, Walked,
    answer::{RLERROR, server_errno},
    requests::walked,
    send::{Held, no_payload},
    slot::Cleanup,
};
use crate::{error::Error, ring::Ring};

/// Bytes of the longest message within another: a link's name and target.
const MOST_INNER: usize = HEADER_LEN + 4 + 2 + NAME_MAX + 2 + PATH_MAX + 4;

/// What has come of a [visit](Session::visit).
pub(crate) struct Visited<R: Ring, T> {
    /// One for each name that could be walked.
    pub(crate) qids: Walked,
    /// What has come of the message, if all could.
    pub(crate) done: Option<Result<T, Error>>,
    /// A fid for the file, if there is one that stays: where the message was done, and perhaps where it was not.
    pub(crate) fid: Option<Fid<R>>,
}

impl<R: Ring> Session<R> {
    /// Walks `names` from the fid `from`, and does what `message` says with the file where that leads, of which it is
    /// given a fid: in one message if the server knows [`Tmessage::Tvisit`], in one flight if it does not. Only where it
    /// [can](Self::can_visit). `keeps` says that `message` opens that fid, and that it is to stay.
    ///
    /// # Errors
    /// Those of the walk.
    pub(crate) async fn visit<'m, T>(
        self: &Rc<Self>,
        from: u32,
        names: Names<'_>,
        keeps: bool,
        message: impl Fn(u32) -> Tmessage<'m>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<Visited<R, T>, Error> {
        if !self.visits.get() {
            return self.visit_by_flight(from, names, keeps, message, read).await;
        }
        let (newfid, cleanup) = if keeps {
            let fid = self.allocate_fid()?;
            (fid, Cleanup::Walked(fid))
        } else {
            (NOFID, Cleanup::Nothing)
        };
        let mut held = Held { session: self, cleanup };
        let mut buffer = self.inner.take();
        let length = self.encode_inner(&message(newfid), &mut buffer)?;
        let message =
            Tmessage::Tvisit { fid: from, newfid, names, message: Inner(buffer.get(..length).unwrap_or_default()) };
        held.cleanup = Cleanup::Nothing;
        let visited = self.request(message, cleanup, no_payload, |reply| match reply {
            Rmessage::Rvisit { qids, message } if qids.len() < names.len() => {
                debug_assert!(message.0.is_empty(), "checked with the answer");
                Some((qids.iter().collect(), None))
            }
            Rmessage::Rvisit { qids, message } => {
                let done = match message.decode().ok()? {
                    Rmessage::Rlerror { ecode } => Err(server_errno(ecode).into()),
                    reply => Ok(read(reply)?),
                };
                Some((qids.iter().collect(), Some(done)))
            }
            _ => None,
        });
        let (qids, done) = visited.await?;
        self.inner.replace(buffer);
        let fid = match done {
            Some(Ok(_)) if keeps => Some(Fid::opened(self, newfid)),
            _ if keeps => {
                self.free_fid(newfid);
                None
            }
            _ => None,
        };
        Ok(Visited { qids, done, fid })
    }

    /// Encodes a message to be put into another one, at the front of `buffer`; tells its length.
    pub(crate) fn encode_inner(&self, message: &Tmessage<'_>, buffer: &mut Vec<u8>) -> Result<usize, Error> {
        if buffer.is_empty() {
            buffer.resize(512, 0);
        }
        if let Ok(length) = message.encode(NOTAG, buffer) {
            return Ok(length);
        }
        buffer.resize(MOST_INNER.min(self.message_max.get() as usize), 0);
        Ok(message.encode(NOTAG, buffer).map_err(|_| Errno::ENAMETOOLONG)?)
    }

    /// [`Session::visit`] by messages of their own: `Twalk`, `message`, and `Tclunk`.
    async fn visit_by_flight<'m, T>(
        self: &Rc<Self>,
        from: u32,
        names: Names<'_>,
        keeps: bool,
        message: impl Fn(u32) -> Tmessage<'m>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<Visited<R, T>, Error> {
        let newfid = self.allocate_fid()?;
        let walk = Tmessage::Twalk { fid: from, newfid, names };
        if !keeps {
            let mut flight = self
                .flight::<3>(|index| match index {
                    0 => (walk, Cleanup::Nothing),
                    1 => (message(newfid), Cleanup::Nothing),
                    _ => (Tmessage::Tclunk { fid: newfid }, Cleanup::Free(newfid)),
                })
                .await;
            let qids = flight.take(0, walked).await?;
            let done = if qids.len() == names.len() { Some(flight.take(1, read).await) } else { None };
            return Ok(Visited { qids, done, fid: None });
        }
        let mut flight = self
            .flight::<2>(|index| match index {
                0 => (walk, Cleanup::Walked(newfid)),
                _ => (message(newfid), Cleanup::Nothing),
            })
            .await;
        let qids = flight.take(0, walked).await?;
        if qids.len() < names.len() {
            self.free_fid(newfid);
            return Ok(Visited { qids, done: None, fid: None });
        }
        let fid = Fid::new(self, newfid);
        let done = flight.take(1, read).await;
        fid.is_open.set(done.is_ok());
        Ok(Visited { qids, done: Some(done), fid: Some(fid) })
    }
}

/// Was what was to be done within a `Tvisit` done? The message was checked.
pub(super) fn is_done(message: Inner<'_>) -> bool {
    message.0.get(4).is_some_and(|&kind| kind != RLERROR)
}

/// The type number of the message within a `Tvisit`; 0 for any other request.
pub(super) fn within(message: &Tmessage<'_>) -> u8 {
    match message {
        Tmessage::Tvisit { message, .. } => message.0.get(4).copied().unwrap_or_default(),
        _ => 0,
    }
}

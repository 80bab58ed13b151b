//! Walking a path and doing something at its end in one flight.
//!
//! Each of these does it all where the path leads straight on and the server carries out requests in their order; where
//! not, the walk is as far on as the flight came, and what is left is done step by step.

use ninering_wire::{Attributes, Errno, Qid, Rmessage, Tmessage};

use super::{Arrival, Leg, Name, Walker, Way, list};
use crate::{
    error::Error,
    executor::both,
    ring::Ring,
    session::{Fid, Visited, Walked, attributes, getattr, opened},
};

/// What has come of a flight that was to do all at once.
pub(crate) enum Visit<T> {
    Done(T),
    /// As [`Arrival::Missing`].
    Missing(Name),
    /// The path is not so simple, or a part of it is walked now; the rest is to be done step by step.
    Unfinished,
}

impl<T> From<Option<Arrival>> for Visit<T> {
    fn from(arrival: Option<Arrival>) -> Self {
        match arrival {
            Some(Arrival::Missing(name)) => Self::Missing(name),
            Some(Arrival::Found) | None => Self::Unfinished,
        }
    }
}

impl<R: Ring> Walker<R> {
    /// In one flight, where that can be: walks to the end of the path, and does what `message` says with the file
    /// there. `message` must do no harm to a symbolic link that is still to be followed. Yields the qids of the walk too.
    pub(crate) async fn visit<'m, T>(
        &mut self,
        follow: bool,
        message: impl Fn(u32) -> Tmessage<'m>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<Visit<(T, Walked)>, Error> {
        let (leg, visited) = {
            let Some((leg, names)) = self.straight().filter(|(leg, _)| leg.names > 0) else {
                return Ok(Visit::Unfinished);
            };
            (leg, self.session.visit(leg.from, list(&names), false, message, read).await)
        };
        match visited.map(|Visited { qids, done, .. }| (qids, done)) {
            Ok((qids, Some(done))) if !self.meets_link(&qids, follow) => {
                let is_dir = qids.last().is_some_and(|qid| qid.kind.is_dir());
                if (self.tail.slash || self.tail.dot) && !is_dir {
                    return Err(Errno::ENOTDIR.into());
                }
                Ok(Visit::Done((done?, qids)))
            }
            walk => {
                let walk = walk.map(|(qids, _)| (qids, None));
                Ok(self.arrive(leg, walk, follow).await?.into())
            }
        }
    }

    /// In one flight, where that can be: walks to the end of the path and opens what is there, if it is a file. Yields the
    /// attributes too if they are wanted and can be had in the same flight.
    pub(crate) async fn visit_open(
        &mut self,
        follow: bool,
        flags: u32,
        wants_attributes: bool,
    ) -> Result<(Visit<(Fid<R>, Qid, u32)>, Option<Box<Attributes>>), Error> {
        let (leg, visited, found) = {
            // A slash behind the name of a file is to be seen before the file is opened, and perhaps truncated.
            let straight = self.straight().filter(|(leg, _)| leg.names > 0);
            let Some((leg, names)) = straight.filter(|_| !self.tail.slash && !self.tail.dot) else {
                return Ok((Visit::Unfinished, None));
            };
            let open = |fid| Tmessage::Tlopen { fid, flags };
            if wants_attributes && self.session.knows_visits() {
                let opening = self.session.visit(leg.from, list(&names), true, open, opened);
                let asking = self.session.visit(leg.from, list(&names), false, getattr, attributes);
                // In a box, for what is opened without that is the most, and need not make room for it.
                let (visited, asked) = Box::pin(both(opening, asking)).await;
                (leg, visited, asked.ok().and_then(|asked| asked.done).and_then(Result::ok))
            } else {
                (leg, self.session.visit(leg.from, list(&names), true, open, opened).await, None)
            }
        };
        Ok((self.arrive_opened(leg, visited, follow).await?, found))
    }

    /// What follows from how far a flight came that was to open a file.
    async fn arrive_opened(
        &mut self,
        leg: Leg,
        visited: Result<Visited<R, (Qid, u32)>, Error>,
        follow: bool,
    ) -> Result<Visit<(Fid<R>, Qid, u32)>, Error> {
        let Visited { qids, done, fid } = match visited {
            Ok(visited) => visited,
            Err(error) => return Ok(self.arrive(leg, Err(error), follow).await?.into()),
        };
        let last = qids.last().copied().unwrap_or_default();
        let fid = match (done, fid) {
            (None, _) => None,
            _ if self.meets_link(&qids, follow) => None,
            // From an open fid no path can be walked.
            (Some(Ok(_)), _) if last.kind.is_dir() => return Ok(Visit::Unfinished),
            (Some(Ok(_)), Some(_)) if last.kind.is_symlink() => None,
            (Some(Ok((qid, iounit))), Some(fid)) => return Ok(Visit::Done((fid, qid, iounit))),
            (Some(Err(_)), Some(fid)) if last.kind.is_dir() => Some(fid),
            (Some(Err(_)), None) if last.kind.is_dir() => return Ok(Visit::Unfinished),
            (Some(Err(_)), _) if last.kind.is_symlink() => return Err(Errno::ELOOP.into()),
            (Some(Err(error)), _) => return Err(error),
            (Some(Ok(_)), None) => return Err(Errno::EIO.into()),
        };
        Ok(self.arrive(leg, Ok((qids, fid)), follow).await?.into())
    }

    /// In one flight, where that can be: walks to the directory where the steps to go end, and makes a file in it
    /// by `Tlcreate`.
    pub(crate) async fn visit_create(
        &mut self,
        message: impl for<'w> Fn(&'w Self, u32) -> Tmessage<'w>,
    ) -> Result<Visit<(Fid<R>, Qid, u32)>, Error> {
        let (leg, visited) = {
            let Some((leg, names)) = self.straight() else { return Ok(Visit::Unfinished) };
            (leg, self.session.visit(leg.from, list(&names), true, |fid| message(self, fid), opened).await)
        };
        let walk = match visited {
            Ok(Visited { qids, done: Some(done), fid }) if !self.meets_link(&qids, true) => {
                let ((qid, iounit), Some(fid)) = (done?, fid) else { return Err(Errno::EIO.into()) };
                return Ok(Visit::Done((fid, qid, iounit)));
            }
            // Nothing can be made in a link.
            Ok(Visited { qids, .. }) => Ok((qids, None)),
            Err(error) => Err(error),
        };
        self.arrive_at_directory(leg, walk).await
    }

    /// In one flight, where that can be: walks to the directory where the steps to go end, and does in it what
    /// `message` says. Not finished where that directory is at hand already.
    pub(crate) async fn visit_directory<T>(
        &mut self,
        message: impl for<'w> Fn(&'w Self, u32) -> Tmessage<'w>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<Visit<T>, Error> {
        let (leg, visited) = {
            let Some((leg, names)) = self.straight().filter(|(leg, _)| leg.names > 0) else {
                return Ok(Visit::Unfinished);
            };
            (leg, self.session.visit(leg.from, list(&names), false, |fid| message(self, fid), read).await)
        };
        let walk = match visited {
            Ok(Visited { qids, done: Some(done), .. }) if !self.meets_link(&qids, true) => {
                return Ok(Visit::Done(done?));
            }
            Ok(Visited { qids, .. }) => Ok((qids, None)),
            Err(error) => Err(error),
        };
        self.arrive_at_directory(leg, walk).await
    }

    /// What follows from how far the walk to a directory came, in which nothing was done.
    async fn arrive_at_directory<T>(
        &mut self,
        leg: Leg,
        walk: Result<(Walked, Option<Fid<R>>), Error>,
    ) -> Result<Visit<T>, Error> {
        if leg.names == 0 {
            return Err(walk.err().unwrap_or(Errno::EIO.into()));
        }
        match self.arrive(leg, walk, true).await? {
            Some(_) => Err(Errno::ENOENT.into()),
            None => Ok(Visit::Unfinished),
        }
    }

    /// The `Twalk` of all the way that is left; `None` where one does not go so far, or nothing can be sent along with it.
    fn straight(&self) -> Option<(Leg, Way<'_>)> {
        if !self.session.can_visit() {
            return None;
        }
        let passed = self.passed.len() - self.depth();
        let (leg, names) = self.next_leg();
        (leg.again == passed && leg.names == passed + self.to_go.len()).then_some((leg, names))
    }

    /// Is there a link among these, the whole of the path, at which the walk is not to end?
    fn meets_link(&self, qids: &[Qid], follow: bool) -> bool {
        let follow = follow || self.tail.slash || self.tail.dot;
        let (last, before) = match qids.split_last() {
            Some((last, before)) => (Some(last), before),
            None => (None, qids),
        };
        before.iter().any(|qid| qid.kind.is_symlink()) || follow && last.is_some_and(|qid| qid.kind.is_symlink())
    }
}

//! From a path to a fid.
//!
//! The names of a path are walked as they are, up to sixteen in one `Twalk`; a server stops where it meets a
//! symbolic link, which is then read and put in its place here. So symbolic links mean what they say inside the
//! mount, whoever made them, and no server is asked to follow one or to go up.
//!
//! A [`Walker`] keeps the names that it has passed, from the directory that the path is relative to. `..` takes the
//! last of them away, which is the parent of where the walk really is, behind all links; and above the first there
//! is nothing.

use std::rc::Rc;

use ninering_wire::{Attributes, Errno, HEADER_LEN, MAXWELEM, NAME_MAX, Names, PATH_MAX, Qid, Rmessage, Str, Tmessage};
use smallvec::SmallVec;

use crate::{
    error::Error,
    executor::both,
    ring::Ring,
    session::{Fid, Session, Visited, Walked, attributes, getattr, opened},
    vfs::Node,
};

/// The most symbolic links on the way, as in Linux.
const MOST_LINKS: u32 = 40;

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Parent,
    Name(Name),
}

/// A name, as a place in [`Walker::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    start: u32,
    len: u32,
}

/// What is behind the last name of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// A slash: what the path names must be a directory.
    pub(crate) slash: bool,
    /// A last component `.`: the same, and it cannot be made or removed by this path.
    pub(crate) dot: bool,
}

/// How a path ends, for those who make or remove what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// In a name, of an entry of the directory at hand. A slash behind it says that this is a directory.
    Name { name: Name, slash: bool },
    /// In `.`, or in no name at all.
    Dot,
    /// In `..`.
    Parent,
}

/// Where a walk has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Found,
    /// The last name is not there; the walker stands at the directory where it should be.
    Missing(Name),
}

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

/// A walk under way.
pub(crate) struct Walker<R: Ring> {
    session: Rc<Session<R>>,
    base: Rc<Node<R>>,
    /// The path, and behind it the targets of links that were followed.
    text: Vec<u8>,
    /// The steps to go, the next one last.
    to_go: SmallVec<[Step; 8]>,
    /// The names passed from the base on, with what they are.
    passed: SmallVec<[(Name, Qid); 8]>,
    /// A fid for what the first so many of those lead to; `None` for the base itself.
    at: Option<(Fid<R>, usize)>,
    links: u32,
    /// The path goes up somewhere.
    goes_up: bool,
    tail: Tail,
}

impl<R: Ring> Walker<R> {
    /// A walk along `path`, from the directory `base`.
    ///
    /// # Errors
    /// `ENOENT`, `EPERM`, `ENAMETOOLONG` or `EINVAL` for what is no relative path; `ENOTDIR` where `base` is none.
    pub(crate) fn new(session: &Rc<Session<R>>, base: Rc<Node<R>>, path: String) -> Result<Self, Error> {
        let text = path.into_bytes();
        match text.first() {
            None => return Err(Errno::ENOENT.into()),
            Some(b'/') => return Err(Errno::EPERM.into()),
            Some(_) => {}
        }
        if !base.qid.kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let mut walker = Self {
            session: session.clone(),
            base,
            text,
            to_go: SmallVec::new(),
            passed: SmallVec::new(),
            at: None,
            links: 0,
            goes_up: false,
            tail: Tail::default(),
        };
        walker.tail = walker.add_steps(0)?;
        Ok(walker)
    }

    /// How the path ends.
    pub(crate) fn tail(&self) -> Tail {
        self.tail
    }

    /// The bytes of a name.
    pub(crate) fn name(&self, name: Name) -> Str<'_> {
        let start = name.start as usize;
        Str(self.text.get(start..start + name.len as usize).unwrap_or_default())
    }

    /// What the walk has led to.
    pub(crate) fn qid(&self) -> Qid {
        self.passed.last().map_or(self.base.qid, |&(_, qid)| qid)
    }

    /// What the names of the path are as far as they were passed, unless it goes up, or by way of links.
    pub(crate) fn trail(&self) -> Option<Vec<Qid>> {
        (self.links == 0 && !self.goes_up).then(|| self.passed.iter().map(|&(_, qid)| qid).collect())
    }

    /// A fid for it, which is the base's where the walk has led nowhere else.
    pub(crate) fn fid(&self) -> u32 {
        self.at.as_ref().map_or(self.base.fid.number(), |(fid, _)| fid.number())
    }

    /// A fid for it that is nobody else's.
    pub(crate) async fn own_fid(&mut self) -> Result<Fid<R>, Error> {
        self.settle().await?;
        match self.at.take() {
            Some((fid, _)) => Ok(fid),
            None => self.session.clone_fid(self.base.fid.number()).await,
        }
    }

    /// In one flight, where that can be: walks to the end of the path, and does what `message` says with the file
    /// there. `message` must do no harm to a symbolic link that is still to be followed. Yields the qids of the walk too.
    pub(crate) async fn visit<T>(
        &mut self,
        follow: bool,
        message: impl Fn(u32) -> Tmessage<'static>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<Visit<(T, Walked)>, Error> {
        let Some((from, again, names)) = self.straight().filter(|(_, _, names)| !names.is_empty()) else {
            return Ok(Visit::Unfinished);
        };
        let names_walked = names.len();
        let visited = self.session.visit(from, names, false, message, read).await;
        let walk = visited.map(|Visited { qids, done, .. }| (qids, done));
        match walk {
            Ok((qids, Some(done))) if !self.meets_link(&qids, follow) => {
                let is_dir = qids.last().is_some_and(|qid| qid.kind.is_dir());
                if (self.tail.slash || self.tail.dot) && !is_dir {
                    return Err(Errno::ENOTDIR.into());
                }
                Ok(Visit::Done((done?, qids)))
            }
            walk => {
                let walk = walk.map(|(qids, _)| (qids, None));
                Ok(self.arrive(from, again, names_walked, walk, follow).await?.into())
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
    ) -> Result<(Visit<(Fid<R>, Qid, u32)>, Option<Attributes>), Error> {
        // A slash behind the name of a file is to be seen before the file is opened, and perhaps truncated.
        let straight = self.straight().filter(|(_, _, names)| !names.is_empty());
        let Some((from, again, names)) = straight.filter(|_| !self.tail.slash && !self.tail.dot) else {
            return Ok((Visit::Unfinished, None));
        };
        let names_walked = names.len();
        let open = |fid| Tmessage::Tlopen { fid, flags };
        let opening = self.session.visit(from, names, true, open, opened);
        if !wants_attributes || !self.session.knows_visits() {
            let visited = opening.await;
            return Ok((self.arrive_opened(from, again, names_walked, visited, follow).await?, None));
        }
        let asking = self.session.visit(from, names, false, getattr, attributes);
        let (visited, asked) = both(opening, asking).await;
        let found = asked.ok().and_then(|asked| asked.done).and_then(Result::ok);
        Ok((self.arrive_opened(from, again, names_walked, visited, follow).await?, found))
    }

    /// What follows from how far a flight came that was to open a file.
    async fn arrive_opened(
        &mut self,
        from: u32,
        again: usize,
        names_walked: usize,
        visited: Result<Visited<R, (Qid, u32)>, Error>,
        follow: bool,
    ) -> Result<Visit<(Fid<R>, Qid, u32)>, Error> {
        let Visited { qids, done, fid } = match visited {
            Ok(visited) => visited,
            Err(error) => return Ok(self.arrive(from, again, names_walked, Err(error), follow).await?.into()),
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
        Ok(self.arrive(from, again, names_walked, Ok((qids, fid)), follow).await?.into())
    }

    /// In one flight, where that can be: walks to the directory where the steps to go end, and makes a file in it
    /// by `Tlcreate`.
    pub(crate) async fn visit_create(
        &mut self,
        message: impl for<'w> Fn(&'w Self, u32) -> Tmessage<'w>,
    ) -> Result<Visit<(Fid<R>, Qid, u32)>, Error> {
        let Some((from, again, names)) = self.straight() else { return Ok(Visit::Unfinished) };
        let names_walked = names.len();
        let walk = match self.session.visit(from, names, true, |fid| message(self, fid), opened).await {
            Ok(Visited { qids, done: Some(done), fid }) if !self.meets_link(&qids, true) => {
                let ((qid, iounit), Some(fid)) = (done?, fid) else { return Err(Errno::EIO.into()) };
                return Ok(Visit::Done((fid, qid, iounit)));
            }
            // Nothing can be made in a link.
            Ok(Visited { qids, .. }) => Ok((qids, None)),
            Err(error) => Err(error),
        };
        self.arrive_at_directory(from, again, names_walked, walk).await
    }

    /// In one flight, where that can be: walks to the directory where the steps to go end, and does in it what
    /// `message` says. Not finished where that directory is at hand already.
    pub(crate) async fn visit_directory<T>(
        &mut self,
        message: impl for<'w> Fn(&'w Self, u32) -> Tmessage<'w>,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<Visit<T>, Error> {
        let Some((from, again, names)) = self.straight().filter(|(_, _, names)| !names.is_empty()) else {
            return Ok(Visit::Unfinished);
        };
        let names_walked = names.len();
        let walk = match self.session.visit(from, names, false, |fid| message(self, fid), read).await {
            Ok(Visited { qids, done: Some(done), .. }) if !self.meets_link(&qids, true) => {
                return Ok(Visit::Done(done?));
            }
            Ok(Visited { qids, .. }) => Ok((qids, None)),
            Err(error) => Err(error),
        };
        self.arrive_at_directory(from, again, names_walked, walk).await
    }

    /// What follows from how far the walk to a directory came, in which nothing was done.
    async fn arrive_at_directory<T>(
        &mut self,
        from: u32,
        again: usize,
        names_walked: usize,
        walk: Result<(Walked, Option<Fid<R>>), Error>,
    ) -> Result<Visit<T>, Error> {
        if names_walked == 0 {
            return Err(walk.err().unwrap_or(Errno::EIO.into()));
        }
        match self.arrive(from, again, names_walked, walk, true).await? {
            Some(_) => Err(Errno::ENOENT.into()),
            None => Ok(Visit::Unfinished),
        }
    }

    /// Where a flight starts that is to go all the way that is left, how many names of that were passed before, and all of
    /// them; `None` where one `Twalk` does not go so far, or nothing can be sent along with it.
    fn straight(&self) -> Option<(u32, usize, Names<'_>)> {
        if !self.session.can_visit() {
            return None;
        }
        let passed = self.passed.len() - self.depth();
        let (names, again) = self.next_names();
        (again == passed && names.len() == passed + self.to_go.len()).then(|| (self.fid(), again, names))
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

    /// Walks to the end of the path. `follow` says whether to go on where that is a symbolic link.
    pub(crate) async fn run(&mut self, follow: bool) -> Result<Arrival, Error> {
        let arrival = self.walk_all(follow).await?;
        if arrival == Arrival::Found {
            if (self.tail.slash || self.tail.dot) && !self.qid().kind.is_dir() {
                return Err(Errno::ENOTDIR.into());
            }
            self.settle().await?;
        }
        Ok(arrival)
    }

    /// Takes the path's last name off, so that what is left leads to the directory that holds it, and tells that name.
    /// To be called once, first.
    pub(crate) fn take_last(&mut self) -> Last {
        match self.to_go.first() {
            Some(&Step::Name(name)) if !self.tail.dot => {
                self.to_go.remove(0);
                Last::Name { name, slash: self.tail.slash }
            }
            Some(Step::Parent) if !self.tail.dot => Last::Parent,
            _ => Last::Dot,
        }
    }

    /// Walks to the directory that the path leads to when its [last name](Self::take_last) is taken off.
    pub(crate) async fn run_to_parent(&mut self) -> Result<(), Error> {
        if self.walk_all(true).await? != Arrival::Found {
            return Err(Errno::ENOENT.into());
        }
        if !self.qid().kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        self.settle().await
    }

    async fn walk_all(&mut self, follow: bool) -> Result<Arrival, Error> {
        loop {
            while let Some(Step::Parent) = self.to_go.last() {
                self.to_go.pop();
                self.step_up()?;
            }
            if self.to_go.is_empty() {
                return Ok(Arrival::Found);
            }
            if let Some(arrival) = self.walk_some(follow).await? {
                return Ok(arrival);
            }
        }
    }

    fn step_up(&mut self) -> Result<(), Error> {
        let (_, qid) = self.passed.pop().ok_or(Errno::EPERM)?;
        if !qid.kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if self.at.as_ref().is_some_and(|&(_, depth)| depth > self.passed.len()) {
            self.at = None;
        }
        Ok(())
    }

    /// One `Twalk`.
    async fn walk_some(&mut self, follow: bool) -> Result<Option<Arrival>, Error> {
        let from = self.fid();
        let (walked, names_walked, again) = {
            let (names, again) = self.next_names();
            if names.is_empty() {
                return Err(Errno::ENAMETOOLONG.into());
            }
            let walked = self.session.walk(from, &names).await;
            (walked, names.len(), again)
        };
        self.arrive(from, again, names_walked, walked, follow).await
    }

    /// What follows from how far a `Twalk` of so many names came, the first `again` of which were passed before.
    async fn arrive(
        &mut self,
        from: u32,
        again: usize,
        names_walked: usize,
        walked: Result<(Walked, Option<Fid<R>>), Error>,
        follow: bool,
    ) -> Result<Option<Arrival>, Error> {
        let (qids, fid) = match walked {
            // Servers answer with an error only if it strikes at the first name.
            Err(Error::Errno(Errno::ENOENT)) if again == 0 && names_walked == 1 => return self.missing().map(Some),
            Err(error) => return Err(error),
            Ok(walked) => walked,
        };
        for (index, &qid) in qids.iter().enumerate() {
            if index < again {
                // Was a directory before. Who swaps it for a link meanwhile is not led anywhere by it.
                if qid.kind.is_symlink() {
                    return Err(Errno::ENOTDIR.into());
                }
                continue;
            }
            let Some(Step::Name(name)) = self.to_go.pop() else { return Err(Errno::EIO.into()) };
            let is_last = self.to_go.is_empty();
            if qid.kind.is_symlink() && (!is_last || follow || self.tail.slash || self.tail.dot) {
                let link = match fid {
                    Some(fid) if index + 1 == names_walked => fid,
                    _ => self.walk_to(from, name).await?,
                };
                self.follow(link).await?;
                return Ok(None);
            }
            self.passed.push((name, qid));
        }
        if let Some(fid) = fid {
            self.at = Some((fid, self.depth() + names_walked));
            return Ok(None);
        }
        // The walk has stopped at `names[qids.len()]`. Linux's servers do not say why; that the name is not there
        // is by far the most frequent reason, and asking would cost two round trips each time.
        match qids.last() {
            Some(qid) if !qid.kind.is_dir() => Err(Errno::ENOTDIR.into()),
            _ if qids.len() < again => Err(Errno::ENOENT.into()),
            _ => self.missing().map(Some),
        }
    }

    /// The next step's name is not there.
    fn missing(&mut self) -> Result<Arrival, Error> {
        match (self.to_go.pop(), self.to_go.is_empty()) {
            (Some(Step::Name(name)), true) => Ok(Arrival::Missing(name)),
            _ => Err(Errno::ENOENT.into()),
        }
    }

    /// The names of the next `Twalk` from [`Walker::fid`], and how many of them were passed before: those since the
    /// fid at hand, for `..` has taken away the fid of the place itself.
    fn next_names(&self) -> (Names<'_>, usize) {
        let again = self.passed.get(self.depth()..).unwrap_or_default();
        let steps = self.to_go.iter().rev().map_while(|step| match *step {
            Step::Name(name) => Some(name),
            Step::Parent => None,
        });
        let names = self.fitting(again.iter().map(|&(name, _)| name).chain(steps));
        let again = again.len().min(names.len());
        (names, again)
    }

    /// As many of these names as one `Twalk` can carry.
    fn fitting(&self, names: impl Iterator<Item = Name>) -> Names<'_> {
        let room = self.session.msize().min(self.session.ring.max_header()) as usize;
        let mut room = room.saturating_sub(HEADER_LEN + 4 + 4 + 2);
        let names = names.take(MAXWELEM).map(|name| self.name(name)).take_while(|name| {
            let fits = name.len() + 2 <= room;
            room = room.saturating_sub(name.len() + 2);
            fits
        });
        Names::collect(names).unwrap_or_default() // no more than `MAXWELEM`
    }

    /// How many of the names passed the fid at hand stands behind.
    fn depth(&self) -> usize {
        self.at.as_ref().map_or(0, |&(_, depth)| depth)
    }

    /// Gets a fid for the place that the walk has led to.
    async fn settle(&mut self) -> Result<(), Error> {
        while self.depth() < self.passed.len() {
            let (depth, from) = (self.depth(), self.fid());
            let (walked, count) = {
                let again = self.passed.get(depth..).unwrap_or_default();
                let names = self.fitting(again.iter().map(|&(name, _)| name));
                if names.is_empty() {
                    return Err(Errno::ENAMETOOLONG.into());
                }
                (self.session.walk(from, &names).await?, names.len())
            };
            let (qids, Some(fid)) = walked else { return Err(Errno::ENOENT.into()) };
            if qids.iter().any(|qid| qid.kind.is_symlink()) {
                return Err(Errno::ENOTDIR.into());
            }
            self.at = Some((fid, depth + count));
        }
        Ok(())
    }

    /// A fid for a link at which a `Twalk` from `from` has stopped: the names passed since, and `link`.
    async fn walk_to(&mut self, from: u32, link: Name) -> Result<Fid<R>, Error> {
        let again = self.passed.get(self.depth()..).unwrap_or_default();
        let names = self.fitting(again.iter().map(|&(name, _)| name).chain([link]));
        let (_, fid) = self.session.walk(from, &names).await?;
        Ok(fid.ok_or(Errno::ENOENT)?)
    }

    /// Puts a link's target in its place.
    async fn follow(&mut self, link: Fid<R>) -> Result<(), Error> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let target = self.session.readlink(link.number()).await?;
        drop(link);
        match target.first() {
            None => return Err(Errno::ENOENT.into()),
            Some(b'/') if !self.base.is_root => return Err(Errno::EPERM.into()),
            Some(b'/') => {
                self.passed.clear();
                self.at = None;
            }
            Some(_) => {}
        }
        let is_last = self.to_go.is_empty();
        let start = self.text.len();
        self.text.extend_from_slice(&target);
        let tail = self.add_steps(start)?;
        if is_last {
            self.tail.slash |= tail.slash || tail.dot;
        }
        Ok(())
    }

    /// Adds the steps in the text from `start` on, before those that are to go.
    fn add_steps(&mut self, start: usize) -> Result<Tail, Error> {
        let text = self.text.get(start..).unwrap_or_default();
        if text.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if text.contains(&0) {
            return Err(Errno::EINVAL.into());
        }
        let mut tail = Tail::default();
        let mut end = text.len();
        let mut is_tail = true;
        // From the back, since the next step is kept last.
        for part in text.rsplit(|&byte| byte == b'/') {
            let begin = end - part.len();
            match part {
                b"" => tail.slash |= is_tail,
                b"." => tail.dot |= is_tail,
                b".." => {
                    self.goes_up = true;
                    self.to_go.push(Step::Parent);
                }
                _ if part.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG.into()),
                // The text is shorter than 2^32 bytes: a path and at most 40 targets.
                _ => self.to_go.push(Step::Name(Name { start: (start + begin) as u32, len: part.len() as u32 })),
            }
            is_tail &= matches!(part, b"" | b".");
            end = begin.saturating_sub(1);
        }
        Ok(tail)
    }
}

//! From a path to a fid.
//!
//! The names of a path are walked as they are, up to sixteen in one `Twalk`; a server stops where it meets a
//! symbolic link, which is then read and put in its place here. So symbolic links mean what they say inside the
//! mount, whoever made them, and no server is asked to follow one or to go up.
//!
//! A [`Walker`] keeps the names that it has passed, from the directory that the path is relative to. `..` takes the
//! last of them away, which is the parent of where the walk really is, behind all links; and above the first there
//! is nothing.

mod visit;

use std::rc::Rc;

use ninering_wire::{Errno, HEADER_LEN, MAXWELEM, NAME_MAX, Names, PATH_MAX, Qid, Str};
use smallvec::SmallVec;

pub(crate) use self::visit::Visit;
use crate::{
    error::Error,
    ring::Ring,
    session::{Fid, Session, Walked},
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

/// The names of a `Twalk`, at most [`MAXWELEM`].
type Way<'a> = SmallVec<[Str<'a>; 4]>;

fn list<'a>(way: &'a [Str<'a>]) -> Names<'a> {
    Names::new(way).unwrap_or_default() // they are no more
}

/// A `Twalk` of several names.
#[derive(Clone, Copy, Debug)]
struct Leg {
    /// The fid that it starts from.
    from: u32,
    /// How many of its names were passed before.
    again: usize,
    /// How many names it has.
    names: usize,
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
        let (leg, walked) = {
            let (leg, names) = self.next_leg();
            if names.is_empty() {
                return Err(Errno::ENAMETOOLONG.into());
            }
            (leg, self.session.walk(leg.from, list(&names)).await)
        };
        self.arrive(leg, walked, follow).await
    }

    /// What follows from how far a `Twalk` came.
    async fn arrive(
        &mut self,
        Leg { from, again, names }: Leg,
        walked: Result<(Walked, Option<Fid<R>>), Error>,
        follow: bool,
    ) -> Result<Option<Arrival>, Error> {
        let (qids, fid) = match walked {
            // Servers answer with an error only if it strikes at the first name.
            Err(Error::Errno(Errno::ENOENT)) if again == 0 && names == 1 => return self.missing().map(Some),
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
                    Some(fid) if index + 1 == names => fid,
                    _ => self.walk_to(from, name).await?,
                };
                self.follow(link).await?;
                return Ok(None);
            }
            self.passed.push((name, qid));
        }
        if let Some(fid) = fid {
            self.at = Some((fid, self.depth() + names));
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

    /// The next `Twalk`. What it passes again is what was passed since the fid at hand, for `..` has taken away the fid
    /// of the place itself.
    fn next_leg(&self) -> (Leg, Way<'_>) {
        let again = self.passed.get(self.depth()..).unwrap_or_default();
        let steps = self.to_go.iter().rev().map_while(|step| match *step {
            Step::Name(name) => Some(name),
            Step::Parent => None,
        });
        let names = self.fitting(again.iter().map(|&(name, _)| name).chain(steps));
        (Leg { from: self.fid(), again: again.len().min(names.len()), names: names.len() }, names)
    }

    /// As many of these names as one `Twalk` can carry.
    fn fitting(&self, names: impl Iterator<Item = Name>) -> Way<'_> {
        let room = self.session.msize().min(self.session.ring.max_header()) as usize;
        let mut room = room.saturating_sub(HEADER_LEN + 4 + 4 + 2);
        let fits = |name: &Str<'_>| {
            let fits = name.len() + 2 <= room;
            room = room.saturating_sub(name.len() + 2);
            fits
        };
        names.take(MAXWELEM).map(|name| self.name(name)).take_while(fits).collect()
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
                (self.session.walk(from, list(&names)).await?, names.len())
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
        let (_, fid) = self.session.walk(from, list(&names)).await?;
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

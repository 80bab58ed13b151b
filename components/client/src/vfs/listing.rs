//! What is asked together: a directory's entries with their attributes, a path with what is on it.

use std::rc::Rc;

use ninering_wire::{Attributes, Errno, Inner, NOFID, Names, Qid, Rmessage, Str, Tmessage};

use super::{LookedUp, NodeNumber, Value, Vfs};
use crate::{
    error::Error,
    ring::Ring,
    session::{self, Cleanup, Fid, Session, server_errno},
    transfer::Entry,
    walk::{Arrival, Visit, Walker},
};

/// So many entries are walked to at a time, where each takes a fid.
const MOST_FIDS: usize = 64;

impl<R: Ring> Vfs<R> {
    /// Reads a directory as [`Vfs::read_directory`] does, and asks for the attributes of all the entries that it yields, at
    /// once: in one flight where the server knows `Tvisit`, else in two. Symbolic links are not followed.
    ///
    /// # Errors
    /// As [`Vfs::read_directory`].
    pub async fn read_directory_plus(&self, number: NodeNumber, offset: u64) -> Result<Value, Error> {
        let node = self.node(number)?;
        let Value::Entries { entries, end } = self.read_directory(number, offset).await? else {
            return Err(Errno::EIO.into());
        };
        let attributes = if self.session.knows_visits() {
            self.session.visit_entries(node.fid.number(), &entries).await?
        } else {
            self.session.walk_entries(node.fid.number(), &entries).await?
        };
        Ok(Value::EntriesPlus { entries: entries.into_iter().zip(attributes).collect(), end })
    }

    /// The attributes of what a path names, and what is on the way.
    ///
    /// # Errors
    /// Those of `fstatat(2)`, but where nothing but the path's last name is missing.
    pub async fn look_up_at(&self, directory: NodeNumber, path: String, follow: bool) -> Result<Value, Error> {
        let mut walker = Walker::new(&self.session, self.node(directory)?, path)?;
        let missing = |walker: &Walker<R>| Ok(Value::LookedUp(LookedUp { passed: walker.trail(), attributes: None }));
        match walker.visit(follow, session::getattr, session::attributes).await? {
            Visit::Done((attributes, qids)) => {
                // Where all was done at once, the walk began where the walker stood.
                let passed = walker.trail().map(|passed| if passed.is_empty() { qids.to_vec() } else { passed });
                return Ok(Value::LookedUp(LookedUp { passed, attributes: Some(attributes) }));
            }
            Visit::Missing(_) => return missing(&walker),
            Visit::Unfinished => {}
        }
        if let Arrival::Missing(_) = walker.run(follow).await? {
            return missing(&walker);
        }
        let attributes = self.session.getattr(walker.fid()).await?;
        Ok(Value::LookedUp(LookedUp { passed: walker.trail(), attributes: Some(attributes) }))
    }
}

impl<R: Ring> Session<R> {
    /// The attributes of entries of a directory, by a `Tvisit` each.
    async fn visit_entries(&self, directory: u32, entries: &[Entry]) -> Result<Vec<Option<Box<Attributes>>>, Error> {
        let mut buffer = Vec::new();
        let length = self.encode_inner(&session::getattr(NOFID), &mut buffer)?;
        let message = Inner(buffer.get(..length).unwrap_or_default());
        let names = names_of(entries);
        let request =
            |index: usize| Tmessage::Tvisit { fid: directory, newfid: NOFID, names: one(&names, index), message };
        let found = self.volley(
            entries.len(),
            |_| Cleanup::Nothing,
            request,
            |_, reply| match reply {
                Rmessage::Rvisit { qids, message } if qids.len() == 1 => Some(match message.decode().ok()? {
                    Rmessage::Rlerror { ecode } => Err(server_errno(ecode)),
                    reply => Ok(session::attributes(reply)?),
                }),
                Rmessage::Rvisit { .. } => Some(Err(Errno::ENOENT)),
                _ => None,
            },
        );
        let known =
            |attributes: Box<Attributes>, entry: &Entry| same_file(attributes.qid, entry.qid).then_some(attributes);
        let found = found.await?.into_iter().zip(entries);
        Ok(found.map(|(found, entry)| known(found.ok()?.ok()?, entry)).collect())
    }

    /// The same by messages that all servers know, many at a time.
    async fn walk_entries(
        self: &Rc<Self>,
        directory: u32,
        entries: &[Entry],
    ) -> Result<Vec<Option<Box<Attributes>>>, Error> {
        let mut all = Vec::with_capacity(entries.len());
        for entries in entries.chunks(MOST_FIDS) {
            let mut newfids = Vec::with_capacity(entries.len());
            for _ in entries {
                match self.allocate_fid() {
                    Ok(fid) => newfids.push(fid),
                    Err(error) => {
                        newfids.into_iter().for_each(|fid| self.free_fid(fid));
                        return Err(error);
                    }
                }
            }
            let newfid = |index: usize| newfids.get(index).copied().unwrap_or(NOFID);
            let names = names_of(entries);
            let walk = |index| Tmessage::Twalk { fid: directory, newfid: newfid(index), names: one(&names, index) };
            let walks = self.volley(
                entries.len(),
                |index| Cleanup::Walked(newfid(index)),
                walk,
                |index, reply| {
                    let Rmessage::Rwalk { qids } = reply else { return None };
                    // Whether or not it came to its end, the fid is to be clunked: some servers have made it all the same.
                    let fid = Fid::new(self, newfid(index));
                    Some((qids.len() == 1).then_some(fid))
                },
            );
            let fids: Vec<Option<Fid<R>>> = walks.await?.into_iter().map(|walk| walk.ok().flatten()).collect();
            let walked: Vec<u32> = fids.iter().flatten().map(Fid::number).collect();
            let getattr = |index: usize| session::getattr(walked.get(index).copied().unwrap_or(NOFID));
            let read = |_, reply: Rmessage<'_>| session::attributes(reply);
            let mut found = self.volley(walked.len(), |_| Cleanup::Nothing, getattr, read).await?.into_iter();
            for (fid, entry) in fids.iter().zip(entries) {
                let attributes = if fid.is_some() { found.next().and_then(Result::ok) } else { None };
                all.push(attributes.filter(|attributes| same_file(attributes.qid, entry.qid)));
            }
        }
        Ok(all)
    }
}

/// Is this still the file that was listed? Its version may have changed, and some servers list no types.
fn same_file(one: Qid, other: Qid) -> bool {
    one.path == other.path
}

/// The names of entries.
fn names_of(entries: &[Entry]) -> Vec<Str<'_>> {
    entries.iter().map(|entry| Str(&entry.name)).collect()
}

/// One of them, to be walked alone.
fn one<'a>(names: &'a [Str<'a>], index: usize) -> Names<'a> {
    names.get(index).map(Names::from).unwrap_or_default()
}

//! How each fid was made, so that it can be made again at a server that has forgotten it.
//!
//! All that is kept follows from requests and their replies ([`Ledger::note`]). A fid's file is known by its qid and by
//! the names that led to it, from the root of an export; what this client renames is renamed here too.

use std::{collections::HashMap, rc::Rc};

use ninering_wire::{Errno, Inner, LockStatus, NOFID, Names, Qid, Rmessage, Tmessage, lopen};

use super::locks::{Held, Locks, Owner};

/// What is known of all fids.
#[derive(Default)]
pub(super) struct Ledger {
    fids: HashMap<u32, Record>,
    roots: Vec<Rc<Root>>,
    /// Renames of which it is not known whether they were done: from where to where.
    doubtful: Vec<(Place, Place)>,
    locks: Locks,
    /// By the file's number: what is written to it now.
    writers: HashMap<u64, Writers>,
    /// Some fids are stale, or have lost their locks.
    has_faults: bool,
}

/// An attach.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) uname: Vec<u8>,
    pub(super) aname: Vec<u8>,
    pub(super) n_uname: u32,
    /// The user had authenticated.
    pub(super) authenticated: bool,
    pub(super) qid: Qid,
}

/// Where a file is: the names that lead to it from a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) root: Rc<Root>,
    pub(super) names: Vec<Rc<[u8]>>,
}

/// What is known of a fid.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) place: Place,
    pub(super) qid: Qid,
    /// The flags that it was opened with.
    pub(super) open: Option<u32>,
    /// It stands for an extended attribute, which cannot be made again.
    pub(super) is_attribute: bool,
    /// The name that led to it was removed, or given to another file, while it was in use. What is there now may have got
    /// its number.
    pub(super) is_removed: bool,
    /// The server does not know it: there was another file where it was, or none, or it could not be opened.
    pub(super) stale: bool,
    /// Locks that were held through it are another's now, or may have been.
    pub(super) lost_locks: bool,
    /// It may hold locks that are not known here.
    has_unknown_locks: bool,
}

/// Fids of one file, to which the same names led.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) place: Place,
    pub(super) qid: Qid,
    /// They cannot be made again, whatever is there now.
    pub(super) is_lost: bool,
    pub(super) fids: Vec<u32>,
}

impl Record {
    fn is_lost(&self) -> bool {
        self.is_attribute || self.is_removed
    }
}

/// Who writes to a file.
#[derive(Default)]
struct Writers {
    active: u32,
    begun: u64,
}

impl Place {
    fn child(&self, name: &[u8]) -> Self {
        let mut place = self.clone();
        match name {
            b".." => drop(place.names.pop()),
            b"." | b"" => {}
            name => place.names.push(name.into()),
        }
        place
    }

    fn walked(&self, names: Names<'_>) -> Self {
        names.iter().fold(self.clone(), |place, name| place.child(&name))
    }

    /// The place that this is after what was at `old` was moved to `new`, if that moves it.
    fn moved(&self, old: &Self, new: &Self) -> Option<Self> {
        let behind = (self.root == old.root).then(|| self.names.strip_prefix(&*old.names)).flatten()?;
        let mut place = new.clone();
        place.names.extend_from_slice(behind);
        Some(place)
    }
}

impl Ledger {
    pub(super) fn get(&self, fid: u32) -> Option<&Record> {
        self.fids.get(&fid)
    }

    /// Does the fid stand for an extended attribute?
    pub(super) fn is_attribute(&self, fid: u32) -> bool {
        self.get(fid).is_some_and(|record| record.is_attribute)
    }

    /// The fids below a root that a server knew, those of one file together, and what is less deep before what is deeper.
    pub(super) fn groups(&self, root: &Rc<Root>) -> Vec<Group> {
        let is_below = |record: &Record| Rc::ptr_eq(&record.place.root, root) && !record.stale;
        let mut fids: Vec<_> = self.fids.iter().filter(|(_, record)| is_below(record)).collect();
        fn key(record: &Record) -> (usize, &[Rc<[u8]>], u64, bool) {
            (record.place.names.len(), &record.place.names, record.qid.path, record.is_lost())
        }
        fids.sort_unstable_by(|&(one, a), &(other, b)| key(a).cmp(&key(b)).then(one.cmp(other)));
        let groups = fids.chunk_by(|(_, a), (_, b)| key(a) == key(b) && a.qid.kind == b.qid.kind);
        groups
            .filter_map(|group| {
                let (_, record) = group.first()?;
                let (place, qid, is_lost) = (record.place.clone(), record.qid, record.is_lost());
                Some(Group { place, qid, is_lost, fids: group.iter().map(|(fid, _)| **fid).collect() })
            })
            .collect()
    }

    /// The roots that some fid's file is below.
    pub(super) fn roots(&mut self) -> Vec<Rc<Root>> {
        let fids = &self.fids;
        self.roots.retain(|root| fids.values().any(|record| Rc::ptr_eq(&record.place.root, root)));
        self.roots.clone()
    }

    /// Does the server not know the fid?
    pub(super) fn is_stale(&self, fid: u32) -> bool {
        self.get(fid).is_some_and(|record| record.stale)
    }

    /// The fid is not in use any more.
    pub(super) fn forget(&mut self, fid: u32) {
        if let Some(record) = self.fids.remove(&fid) {
            self.locks.forget(record.qid.path, fid);
        }
    }

    /// The locks that are to be taken again for a fid; `None` where not all of them are known.
    pub(super) fn held_by(&self, fid: u32) -> Option<Vec<Held>> {
        let Some(record) = self.get(fid) else { return Some(Vec::new()) };
        (!record.has_unknown_locks).then(|| self.locks.held_by(record.qid.path, fid))
    }

    /// The fid could not be made again.
    pub(super) fn make_stale(&mut self, fid: u32) {
        if let Some(record) = self.fids.get_mut(&fid) {
            record.stale = true;
            self.has_faults = true;
        }
    }

    /// The fid's locks could not be taken again.
    pub(super) fn lose_locks(&mut self, fid: u32) {
        if let Some(record) = self.fids.get_mut(&fid) {
            (record.lost_locks, record.has_unknown_locks) = (true, false);
            self.has_faults = true;
            self.locks.forget(record.qid.path, fid);
        }
    }

    /// The fid's file was found at a place, perhaps another one than before. Tells the flags that it was opened with, if it was.
    pub(super) fn found_at(&mut self, fid: u32, place: Place) -> Option<u32> {
        let record = self.fids.get_mut(&fid)?;
        record.place = place;
        record.open
    }

    /// Where a file may be: where it was, and where a rename of unknown fate may have brought it.
    pub(super) fn candidates(&self, place: &Place) -> Vec<Place> {
        let moved = self.doubtful.iter().filter_map(|(old, new)| place.moved(old, new));
        std::iter::once(place.clone()).chain(moved).collect()
    }

    /// It is not known whether this request was done.
    pub(super) fn doubt(&mut self, message: &Tmessage<'_>) {
        self.doubtful.extend(self.rename(message));
    }

    /// All fids were looked for wherever they may be.
    pub(super) fn end_doubts(&mut self) {
        self.doubtful.clear();
    }

    /// May this be sent?
    ///
    /// # Errors
    /// `ESTALE` where a fid is stale; `ENOLCK` where locks were lost that what is asked may rely on.
    pub(super) fn check(&self, message: &Tmessage<'_>) -> Result<(), Errno> {
        if !self.has_faults {
            return Ok(());
        }
        let records = || message.fids().into_iter().filter_map(|fid| self.fids.get(&fid));
        if records().any(|record| record.stale) {
            return Err(Errno::ESTALE);
        }
        let relies = matches!(message, Tmessage::Tread { .. } | Tmessage::Twrite { .. } | Tmessage::Tfsync { .. });
        if relies && records().any(|record| record.lost_locks) { Err(Errno::ENOLCK) } else { Ok(()) }
    }

    /// Does the fid append whatever is written by it?
    pub(super) fn appends(&self, fid: u32) -> bool {
        self.get(fid).and_then(|record| record.open).is_some_and(|flags| flags & lopen::APPEND != 0)
    }

    /// Somebody begins to write to the fid's file.
    pub(super) fn begin_writing(&mut self, fid: u32) -> Option<u64> {
        let file = self.get(fid)?.qid.path;
        let writers = self.writers.entry(file).or_default();
        writers.active += 1;
        writers.begun += 1;
        Some(file)
    }

    /// The same ends.
    pub(super) fn end_writing(&mut self, file: u64) {
        if let Some(writers) = self.writers.get_mut(&file) {
            writers.active -= 1;
            if writers.active == 0 {
                self.writers.remove(&file);
            }
        }
    }

    /// Of who writes to a file: how many now, and how many have begun to as long as there was always one.
    pub(super) fn writers(&self, file: u64) -> (u32, u64) {
        self.writers.get(&file).map_or((0, 0), |writers| (writers.active, writers.begun))
    }

    /// A request was done.
    pub(super) fn note(&mut self, message: &Tmessage<'_>, reply: &Rmessage<'_>) {
        match (message, reply) {
            (&Tmessage::Tattach { fid, afid, ref uname, ref aname, n_uname }, &Rmessage::Rattach { qid }) => {
                let (uname, aname) = (uname.to_vec(), aname.to_vec());
                let root = Rc::new(Root { uname, aname, n_uname, authenticated: afid != NOFID, qid });
                let root = match self.roots.iter().find(|&known| *known == root) {
                    Some(known) => known.clone(),
                    None => {
                        self.roots.push(root.clone());
                        root
                    }
                };
                self.make(fid, Place { root, names: Vec::new() }, qid);
            }
            (Tmessage::Twalk { fid, newfid, names }, Rmessage::Rwalk { qids }) if qids.len() == names.len() => {
                self.walk(*fid, *newfid, *names, qids.iter().last());
            }
            (Tmessage::Tvisit { fid, newfid, names, message }, Rmessage::Rvisit { qids, message: reply })
                if *newfid != NOFID && qids.len() == names.len() =>
            {
                self.note_visit((*fid, *newfid, *names), qids.iter().last(), *message, *reply);
            }
            (&Tmessage::Tlopen { fid, flags }, &Rmessage::Rlopen { qid, .. }) => self.open(fid, flags, qid),
            (Tmessage::Tlcreate { fid, name, flags, .. }, Rmessage::Rlcreate { qid, .. }) => {
                if let Some(record) = self.fids.get_mut(fid) {
                    record.place = record.place.child(name);
                }
                self.open(*fid, *flags, *qid);
            }
            (&Tmessage::Tclunk { fid }, Rmessage::Rclunk {}) => self.forget(fid),
            (&Tmessage::Tremove { fid }, Rmessage::Rremove {}) => {
                if let Some(place) = self.get(fid).map(|record| record.place.clone()) {
                    self.remove(&place);
                }
                self.forget(fid);
            }
            (Tmessage::Tunlinkat { dirfid, name, .. }, Rmessage::Runlinkat {}) => {
                if let Some(place) = self.get(*dirfid).map(|record| record.place.child(name)) {
                    self.remove(&place);
                }
            }
            (Tmessage::Tvisit { fid, names, message, .. }, Rmessage::Rvisit { message: reply, .. }) => {
                if let (Ok(Tmessage::Tunlinkat { name, .. }), Ok(Rmessage::Runlinkat {})) =
                    (message.decode(), reply.decode())
                    && let Some(place) = self.get(*fid).map(|record| record.place.walked(*names).child(&name))
                {
                    self.remove(&place);
                }
            }
            (&Tmessage::Txattrwalk { fid, newfid, .. }, Rmessage::Rxattrwalk { .. }) => {
                self.walk(fid, newfid, Names::default(), None);
                self.make_attribute(newfid);
            }
            (&Tmessage::Txattrcreate { fid, .. }, Rmessage::Rxattrcreate {}) => self.make_attribute(fid),
            (Tmessage::Trename { .. }, Rmessage::Rrename {}) | (Tmessage::Trenameat { .. }, Rmessage::Rrenameat {}) => {
                if let Some((old, new)) = self.rename(message).filter(|(old, new)| old != new) {
                    self.remove(&new);
                    self.move_to(&old, &new);
                }
            }
            (Tmessage::Tlock { .. }, Rmessage::Rlock { status: LockStatus::Success }) => self.lock(message),
            _ => {}
        }
    }

    fn note_visit(
        &mut self,
        (fid, newfid, names): (u32, u32, Names<'_>),
        qid: Option<Qid>,
        message: Inner<'_>,
        reply: Inner<'_>,
    ) {
        if let (Ok(message), Ok(reply)) = (message.decode(), reply.decode())
            && !matches!(reply, Rmessage::Rlerror { .. })
        {
            self.walk(fid, newfid, names, qid);
            self.note(&message, &reply);
        }
    }

    fn make(&mut self, fid: u32, place: Place, qid: Qid) {
        let record = Record {
            place,
            qid,
            open: None,
            is_attribute: false,
            is_removed: false,
            stale: false,
            lost_locks: false,
            has_unknown_locks: false,
        };
        self.fids.insert(fid, record);
    }

    /// A request of unknown fate was found to have been done.
    pub(super) fn note_settled(&mut self, message: &Tmessage<'_>, reply: &Rmessage<'_>) {
        match self.rename(message) {
            // What it has moved may have been found where it is now.
            Some((old, new)) => self.move_to(&old, &new),
            None => self.note(message, reply),
        }
    }

    fn move_to(&mut self, old: &Place, new: &Place) {
        for record in self.fids.values_mut().filter(|record| !record.is_removed) {
            if let Some(place) = record.place.moved(old, new) {
                record.place = place;
            }
        }
    }

    /// What is at a place is not there any more.
    fn remove(&mut self, place: &Place) {
        for record in self.fids.values_mut().filter(|record| record.place == *place) {
            record.is_removed = true;
        }
    }

    fn walk(&mut self, fid: u32, newfid: u32, names: Names<'_>, qid: Option<Qid>) {
        if let Some(record) = self.fids.get(&fid) {
            let (place, qid) = (record.place.walked(names), qid.unwrap_or(record.qid));
            let is_removed = record.is_removed && names.is_empty();
            self.make(newfid, place, qid);
            if let Some(record) = self.fids.get_mut(&newfid) {
                record.is_removed = is_removed;
            }
        }
    }

    fn open(&mut self, fid: u32, flags: u32, qid: Qid) {
        if let Some(record) = self.fids.get_mut(&fid) {
            record.open = Some(flags);
            record.qid = qid;
        }
    }

    fn make_attribute(&mut self, fid: u32) {
        if let Some(record) = self.fids.get_mut(&fid) {
            record.is_attribute = true;
        }
    }

    fn lock(&mut self, message: &Tmessage<'_>) {
        let &Tmessage::Tlock { fid, kind, start, length, proc_id, ref client_id, .. } = message else { return };
        let Some(record) = self.fids.get_mut(&fid) else { return };
        record.lost_locks = false;
        let file = record.qid.path;
        let owner = Owner { client_id: client_id.to_vec(), proc_id };
        if self.locks.change(file, Held::new(fid, owner, kind, start, length)).is_err() {
            self.fids
                .values_mut()
                .filter(|record| record.qid.path == file)
                .for_each(|record| record.has_unknown_locks = true);
        }
    }

    /// From where to where a rename moves.
    fn rename(&self, message: &Tmessage<'_>) -> Option<(Place, Place)> {
        match message {
            Tmessage::Trename { fid, dfid, name } => {
                Some((self.get(*fid)?.place.clone(), self.get(*dfid)?.place.child(name)))
            }
            Tmessage::Trenameat { olddirfid, oldname, newdirfid, newname } => {
                Some((self.get(*olddirfid)?.place.child(oldname), self.get(*newdirfid)?.place.child(newname)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use ninering_wire::{LockType, NONUNAME, QidType, Str};

    use super::*;

    const FILE: Qid = Qid { kind: QidType::FILE, version: 0, path: 7 };

    /// A root, 1, and two open fids of one file, 2 and 3, the first of which has locked all of it.
    fn locked() -> Ledger {
        let mut ledger = Ledger::default();
        let (uname, aname) = (Str(b"user"), Str(b""));
        let root = Qid { kind: QidType::DIR, version: 0, path: 1 };
        let attach = Tmessage::Tattach { fid: 1, afid: NOFID, uname, aname, n_uname: NONUNAME };
        ledger.note(&attach, &Rmessage::Rattach { qid: root });
        for fid in [2, 3] {
            let walk = Tmessage::Twalk { fid: 1, newfid: fid, names: (&Str(b"file")).into() };
            ledger.note(&walk, &Rmessage::Rwalk { qids: (&FILE).into() });
            ledger.note(&Tmessage::Tlopen { fid, flags: lopen::RDWR }, &Rmessage::Rlopen { qid: FILE, iounit: 0 });
        }
        let (kind, client_id) = (LockType::Write, Str(b"client"));
        let lock = Tmessage::Tlock { fid: 2, kind, flags: 0, start: 0, length: 0, proc_id: 1, client_id };
        ledger.note(&lock, &Rmessage::Rlock { status: LockStatus::Success });
        assert_eq!(ledger.held_by(2).map(|held| held.len()), Some(1));
        ledger
    }

    #[test]
    fn a_fid_that_is_gone_takes_its_locks_along() {
        let ends =
            [(Tmessage::Tclunk { fid: 2 }, Rmessage::Rclunk {}), (Tmessage::Tremove { fid: 2 }, Rmessage::Rremove {})];
        for (request, reply) in ends {
            let mut ledger = locked();
            ledger.note(&request, &reply);
            // The number is used for the file again.
            let clone = Tmessage::Twalk { fid: 3, newfid: 2, names: Names::default() };
            ledger.note(&clone, &Rmessage::Rwalk { qids: ninering_wire::Qids::default() });
            assert_eq!(ledger.held_by(2), Some(Vec::new()), "{request:?}");
            assert_eq!(ledger.held_by(3), Some(Vec::new()), "{request:?}");
            let is_removed = matches!(request, Tmessage::Tremove { .. });
            assert_eq!(ledger.get(3).map(|record| record.is_removed), Some(is_removed));
        }
    }

    #[test]
    fn fids_of_one_file_are_a_group_and_directories_come_first() {
        let mut ledger = locked();
        let names = Names::new(&[Str(b"a"), Str(b"b")]).unwrap();
        let qids = [8, 9].map(|path| Qid { path, ..FILE });
        let qids = ninering_wire::Qids::new(&qids).unwrap();
        ledger.note(&Tmessage::Twalk { fid: 1, newfid: 4, names }, &Rmessage::Rwalk { qids });
        ledger.make_stale(1);
        let root = ledger.roots().remove(0);
        let groups: Vec<_> =
            ledger.groups(&root).into_iter().map(|group| (group.place.names.len(), group.fids)).collect();
        assert_eq!(groups, [(1, vec![2, 3]), (2, vec![4])]);
    }
}

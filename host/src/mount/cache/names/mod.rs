//! Names and attributes that are believed for a while, and names that are not there.
//!
//! What is kept is what a kernel keeps: which file a *name* in a directory is, or that there is none, by the directory's
//! identity; and a file's *attributes*, by the file's. A path is looked up name by name, so that whatever way leads to a
//! directory, it is known once, and once it is renamed, what was below it is not found by its old name any more. Paths that
//! go up or by way of symbolic links are asked of the server.
//!
//! What this mount changes is forgotten when the change begins and when it has ended, and what was asked meanwhile is
//! not noted: a program sees its own changes, and those of the mount's other programs, at once.

mod generations;
mod path;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ninering_wire::QidType;
use parking_lot::Mutex;

use self::generations::Generations;
pub(in crate::mount) use self::path::PlainPath;
use super::CacheMode;
use crate::mount::{Attributes, EntryPlus, Qid, component::vfs::LookedUp};

/// Names, and attributes, that are kept: between this and twice as many.
const MOST: usize = 16_384;
/// Directories of which it is remembered that they were listed.
const MOST_LISTED: usize = 8;
/// So many listings with attributes of which none was used say that they are not wanted any more.
const MOST_IN_VAIN: u32 = 4;

/// Counters of the names and attributes that a mount keeps, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameStatistics {
    /// Questions about a file that the server was not asked.
    pub hits: u64,
    /// Those of them that were about a name that is not there.
    pub missing_hits: u64,
    /// Questions that the server was asked.
    pub misses: u64,
    /// Entries of directories that came with their attributes.
    pub entries_with_attributes: u64,
}

/// The names and attributes that a mount keeps.
pub(in crate::mount) struct Names {
    /// How long something is believed; `None` for as long as there is room for it.
    timeout: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The mount's root.
    root: Option<u64>,
    /// What a name in a directory is; `None` if it is nothing.
    names: Generations<(u64, Box<str>), (Option<Qid>, Moment)>,
    attributes: Generations<u64, (Attributes, Moment)>,
    /// Changes under way.
    changing: u32,
    /// How many changes have begun or ended.
    changes: u64,
    /// The directories listed last, without attributes.
    listed: VecDeque<u64>,
    /// Who lists a directory asks for attributes next.
    wants_attributes: bool,
    /// Listings with attributes since one of those was last used.
    in_vain: u32,
    statistics: NameStatistics,
}

/// When the server was asked.
type Moment = Instant;

/// When a question was asked of the server: its answer may be noted if nothing has changed since.
#[derive(Clone, Copy, Debug)]
pub(in crate::mount) struct Question {
    changes: u64,
    time: Moment,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug)]
pub(in crate::mount) enum Known {
    File(Qid),
    /// There is nothing.
    Missing,
    Nothing,
}

/// What a change is about.
#[derive(Clone, Copy, Debug)]
pub(in crate::mount) enum Target<'a> {
    /// A file's attributes or contents.
    File(u64),
    /// The attributes of what a path names.
    FileAt(u64, &'a str),
    /// A name that was not there.
    NewName(u64, &'a str),
    /// A name that may be there, and what it names.
    Name(u64, &'a str),
}

/// A change under way. When this is dropped, it has ended.
pub(in crate::mount) struct Change<'n> {
    names: &'n Names,
    forgotten: Forgotten,
}

/// What a change makes untrue.
#[derive(Default)]
struct Forgotten {
    names: Vec<(u64, Box<str>)>,
    files: Vec<u64>,
    /// A file that is not known: the attributes of all.
    all_files: bool,
    /// A name that is not known: everything.
    all: bool,
}

impl Names {
    /// What a mode keeps, if it keeps any.
    pub(in crate::mount) fn new(mode: CacheMode, timeout: Duration) -> Option<Self> {
        let timeout = match mode {
            CacheMode::None | CacheMode::ReadAhead => return None,
            CacheMode::CloseToOpen => Some(timeout),
            CacheMode::Loose => None,
        };
        Some(Self { timeout, state: Mutex::default() })
    }

    /// Forgets everything: the mount begins, or begins anew, with this root.
    pub(in crate::mount) fn begin(&self, root: u64) {
        let mut state = self.state.lock();
        let State { changing, changes, statistics, .. } = *state;
        *state = State { root: Some(root), changing, changes: changes + 1, statistics, ..State::default() };
    }

    pub(in crate::mount) fn root(&self) -> Option<u64> {
        self.state.lock().root
    }

    pub(in crate::mount) fn statistics(&self) -> NameStatistics {
        self.state.lock().statistics
    }

    // Answers.

    /// What a path names, from a directory on. `follow` says whether a symbolic link at its end is meant itself.
    pub(in crate::mount) fn look_up(&self, directory: u64, path: &str, follow: bool) -> Known {
        let mut state = self.state.lock();
        let known = state.resolve(directory, path, follow, self.timeout);
        match known {
            Known::File(_) => state.hit(),
            Known::Missing => {
                state.hit();
                state.statistics.missing_hits += 1;
            }
            Known::Nothing => state.statistics.misses += 1,
        }
        known
    }

    /// Is it known that a path leads nowhere? Counted only if it is.
    pub(in crate::mount) fn is_missing(&self, directory: u64, path: &str) -> bool {
        let mut state = self.state.lock();
        let is_missing = matches!(state.resolve(directory, path, true, self.timeout), Known::Missing);
        if is_missing {
            state.hit();
            state.statistics.missing_hits += 1;
        }
        is_missing
    }

    /// The attributes of what a path names, from a directory on: `Ok(None)` if they are not known.
    ///
    /// # Errors
    /// It is known that there is nothing.
    pub(in crate::mount) fn attributes_at(
        &self,
        directory: u64,
        path: &str,
        follow: bool,
    ) -> Result<Option<Attributes>, Missing> {
        let mut state = self.state.lock();
        match state.resolve(directory, path, follow, self.timeout) {
            Known::File(qid) => Ok(state.attributes_of(qid.path, self.timeout)),
            Known::Missing => {
                state.hit();
                state.statistics.missing_hits += 1;
                Err(Missing)
            }
            Known::Nothing => {
                state.statistics.misses += 1;
                Ok(None)
            }
        }
    }

    /// A file's attributes.
    pub(in crate::mount) fn attributes(&self, file: u64) -> Option<Attributes> {
        self.state.lock().attributes_of(file, self.timeout)
    }

    // Notes.

    /// To be called before the server is asked, for the notes on what it answers.
    pub(in crate::mount) fn question(&self) -> Question {
        let state = self.state.lock();
        // One that no later moment is equal to, while something changes.
        let changes = if state.changing == 0 { state.changes } else { u64::MAX };
        Question { changes, time: Instant::now() }
    }

    /// A file's attributes, as the server has told them.
    pub(in crate::mount) fn note(&self, question: Question, attributes: &Attributes) {
        let mut state = self.state.lock();
        if state.is_answerable(question) {
            state.attributes.insert(attributes.qid.path, (*attributes, question.time));
        }
    }

    /// A file was opened, perhaps with its attributes: nothing older is believed of it.
    pub(in crate::mount) fn note_opened(&self, question: Question, file: u64, attributes: Option<&Attributes>) {
        let mut state = self.state.lock();
        state.attributes.remove(&file);
        if let Some(attributes) = attributes
            && state.is_answerable(question)
        {
            state.attributes.insert(file, (*attributes, question.time));
        }
    }

    /// What a path names and what is on the way, from a directory on.
    pub(in crate::mount) fn note_look_up(&self, question: Question, directory: u64, path: &str, found: &LookedUp) {
        let mut state = self.state.lock();
        if !state.is_answerable(question) {
            return;
        }
        if let Some(attributes) = &found.attributes {
            state.attributes.insert(attributes.qid.path, (*attributes, question.time));
        }
        let (Some(path), Some(passed)) = (PlainPath::new(path), &found.passed) else { return };
        let count = path.names().count();
        if count == 0 || passed.len() + usize::from(found.attributes.is_none()) != count {
            return;
        }
        let mut at = directory;
        let mut passed = passed.iter();
        for (index, name) in path.names().enumerate() {
            if index + 1 == count && state.listed.contains(&at) {
                // Its entries are asked for one by one: those of the next come with their attributes.
                state.listed.clear();
                state.wants_attributes = true;
            }
            let qid = passed.next().copied();
            state.names.insert((at, name.into()), (qid, question.time));
            at = qid.map_or(at, |qid| qid.path);
        }
    }

    /// Should a directory be listed with the attributes of its entries? Programs that list directories ask for them
    /// next, or they don't.
    pub(in crate::mount) fn wants_attributes(&self) -> bool {
        let mut state = self.state.lock();
        if state.in_vain >= MOST_IN_VAIN {
            (state.wants_attributes, state.in_vain) = (false, 0);
        }
        state.wants_attributes
    }

    /// A directory was listed without attributes.
    pub(in crate::mount) fn note_listed(&self, directory: u64) {
        let mut state = self.state.lock();
        if !state.listed.contains(&directory) {
            state.listed.truncate(MOST_LISTED - 1);
            state.listed.push_front(directory);
        }
    }

    /// A piece of a directory was listed with attributes.
    pub(in crate::mount) fn note_entries(&self, question: Question, directory: u64, entries: &[EntryPlus]) {
        let mut state = self.state.lock();
        state.in_vain += 1;
        if !state.is_answerable(question) {
            return;
        }
        for EntryPlus { entry, attributes } in entries {
            let (Some(attributes), Ok(name)) = (attributes, std::str::from_utf8(&entry.name)) else { continue };
            state.statistics.entries_with_attributes += 1;
            state.names.insert((directory, name.into()), (Some(attributes.qid), question.time));
            state.attributes.insert(attributes.qid.path, (*attributes, question.time));
        }
    }

    // Changes.

    /// Something is to be changed: what is untrue by that is forgotten now and when it is done.
    pub(in crate::mount) fn change(&self, targets: &[Target<'_>]) -> Change<'_> {
        let mut state = self.state.lock();
        let mut forgotten = Forgotten::default();
        for target in targets {
            state.affected(*target, self.timeout, &mut forgotten);
        }
        state.changing += 1;
        state.changes += 1;
        state.forget(&forgotten);
        Change { names: self, forgotten }
    }
}

impl Change<'_> {
    /// It is about this file too.
    pub(in crate::mount) fn concerns(&mut self, file: u64) {
        self.forgotten.files.push(file);
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut state = self.names.state.lock();
        state.changing -= 1;
        state.changes += 1;
        state.forget(&self.forgotten);
    }
}

/// There is no file of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mount) struct Missing;

impl State {
    fn hit(&mut self) {
        self.statistics.hits += 1;
    }

    fn is_answerable(&self, question: Question) -> bool {
        self.changing == 0 && self.changes == question.changes
    }

    fn resolve(&mut self, directory: u64, path: &str, follow: bool, timeout: Option<Duration>) -> Known {
        let mut at = Qid { kind: QidType::DIR.0, version: 0, path: directory };
        if path == "." {
            return Known::File(at);
        }
        let Some(path) = PlainPath::new(path) else { return Known::Nothing };
        let mut names = path.names().peekable();
        if names.peek().is_none() {
            return Known::Nothing;
        }
        while let Some(name) = names.next() {
            let Some((qid, asked)) = self.names.get(&(at.path, name.into())) else { return Known::Nothing };
            if timeout.is_some_and(|timeout| asked.elapsed() >= timeout) {
                return Known::Nothing;
            }
            let Some(qid) = *qid else { return Known::Missing };
            let (kind, is_last) = (QidType(qid.kind), names.peek().is_none());
            // The server follows links where they lead, and says what is no directory.
            if kind.is_symlink() && (follow || !is_last) || !is_last && !kind.is_dir() {
                return Known::Nothing;
            }
            at = qid;
        }
        Known::File(at)
    }

    fn attributes_of(&mut self, file: u64, timeout: Option<Duration>) -> Option<Attributes> {
        let known = self.attributes.get(&file);
        let known = known.filter(|(_, asked)| timeout.is_none_or(|timeout| asked.elapsed() < timeout));
        let known = known.map(|(attributes, _)| *attributes);
        if known.is_some() {
            self.in_vain = 0;
            self.hit();
        } else {
            self.statistics.misses += 1;
        }
        known
    }

    /// What a change makes untrue.
    fn affected(&mut self, target: Target<'_>, timeout: Option<Duration>, forgotten: &mut Forgotten) {
        let (directory, path, is_new) = match target {
            Target::File(file) => {
                forgotten.files.push(file);
                return;
            }
            Target::FileAt(directory, path) => {
                match self.resolve(directory, path, true, timeout) {
                    Known::File(qid) => forgotten.files.push(qid.path),
                    Known::Missing | Known::Nothing => forgotten.all_files = true,
                }
                return;
            }
            Target::NewName(directory, path) => (directory, path, true),
            Target::Name(directory, path) => (directory, path, false),
        };
        // A slash behind the name of a directory is of no consequence here.
        let Some((parent, name)) = PlainPath::new(path.trim_end_matches('/')).and_then(PlainPath::split) else {
            forgotten.all = true;
            return;
        };
        let parent = match parent {
            None => directory,
            Some(parent) => match self.resolve(directory, parent, true, timeout) {
                Known::File(qid) => qid.path,
                Known::Missing | Known::Nothing => {
                    forgotten.all = true;
                    return;
                }
            },
        };
        forgotten.files.push(parent);
        let key = (parent, Box::from(name));
        match self.names.get(&key) {
            Some((Some(qid), _)) => forgotten.files.push(qid.path),
            Some((None, _)) => {}
            None if is_new => {}
            None => forgotten.all_files = true,
        }
        forgotten.names.push(key);
    }

    fn forget(&mut self, forgotten: &Forgotten) {
        if forgotten.all {
            self.names.clear();
        }
        if forgotten.all || forgotten.all_files {
            self.attributes.clear();
        }
        for name in &forgotten.names {
            self.names.remove(name);
        }
        for file in &forgotten.files {
            self.attributes.remove(file);
        }
    }
}

//! A mixed load of which it is known what must come of it: all kinds of operations in no order, each checked.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Outcome, semantics::symlink};

/// The most bytes of a file.
const LARGEST: u64 = 300_000;
/// The most files that are open.
const MOST_OPEN: usize = 4;

/// What is there, by path below the root.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File(Vec<u8>),
    Link(String),
}

/// An open file; appended to by a descriptor of its own.
struct Open {
    path: String,
    file: File,
    appending: File,
}

struct Mixed<'r> {
    root: &'r Path,
    random: Random,
    entries: BTreeMap<String, Entry>,
    open: Vec<Open>,
    made: u32,
}

/// Does `steps` operations in the empty directory `root`, which `seed` chooses; compares all that is there with what must be,
/// and prints the SHA-256 of each file, as `sha256sum` does.
pub(crate) fn mixed(root: &Path, seed: u64, steps: u32) -> Outcome {
    let random = Random(seed);
    let mut mixed = Mixed { root, random, entries: BTreeMap::new(), open: Vec::new(), made: 0 };
    for step in 0..steps {
        mixed.step().map_err(|error| format!("step {step}: {error}"))?;
    }
    mixed.open.clear();
    mixed.compare()?;
    for (path, entry) in &mixed.entries {
        if let Entry::File(content) = entry {
            let digest = Sha256::digest(content);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("{digest}  {path}");
        }
    }
    println!("mixed: {steps} steps, {} entries", mixed.entries.len());
    Ok(())
}

impl Mixed<'_> {
    fn step(&mut self) -> Outcome {
        match self.random.below(16) {
            0 | 1 => self.make_file(),
            2..=5 => self.write(),
            6 => self.resize(),
            7 | 8 => self.read(),
            9 => self.close(),
            10 => self.make_directory(),
            11 => self.remove(),
            12 | 13 => self.rename(),
            14 => self.link(),
            _ => self.list(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A name that was never used, in some directory.
    fn fresh(&mut self) -> String {
        self.made += 1;
        let directories: Vec<&String> =
            self.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Directory)).map(|(path, _)| path).collect();
        match directories.get(self.random.below(directories.len() as u64 + 1) as usize) {
            // Paths do not get longer and longer.
            Some(directory) if directory.matches('/').count() < 4 => format!("{directory}/n{}", self.made),
            _ => format!("n{}", self.made),
        }
    }

    /// Some entry that `is_wanted` takes.
    fn some(&mut self, is_wanted: impl Fn(&Self, &str, &Entry) -> bool) -> Option<String> {
        let wanted: Vec<String> = self
            .entries
            .iter()
            .filter(|(path, entry)| is_wanted(self, path, entry))
            .map(|(path, _)| path.clone())
            .collect();
        let chosen = self.random.below(wanted.len().max(1) as u64) as usize;
        wanted.into_iter().nth(chosen)
    }

    fn is_open(&self, path: &str) -> bool {
        self.open.iter().any(|open| open.path == path)
    }

    fn content(&mut self, path: &str) -> Outcome<&mut Vec<u8>> {
        match self.entries.get_mut(path) {
            Some(Entry::File(content)) => Ok(content),
            other => Err(format!("{path} is {other:?}").into()),
        }
    }

    fn make_file(&mut self) -> Outcome {
        // One that is there is opened, and kept or emptied.
        let known = if self.random.below(3) == 0 {
            self.some(|mixed, path, entry| matches!(entry, Entry::File(_)) && !mixed.is_open(path))
        } else {
            None
        };
        let truncates = self.random.below(2) == 0;
        let path = known.unwrap_or_else(|| self.fresh());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(truncates).open(self.at(&path))?;
        let appending = OpenOptions::new().append(true).open(self.at(&path))?;
        match self.entries.get_mut(&path) {
            Some(Entry::File(content)) if truncates => content.clear(),
            Some(_) => {}
            None => drop(self.entries.insert(path.clone(), Entry::File(Vec::new()))),
        }
        if self.open.len() == MOST_OPEN {
            self.close()?;
        }
        self.open.push(Open { path, file, appending });
        Ok(())
    }

    /// Which of the open files.
    fn chosen(&mut self) -> Option<usize> {
        let count = self.open.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    fn write(&mut self) -> Outcome {
        let Some(chosen) = self.chosen() else { return Ok(()) };
        let path = self.open[chosen].path.clone();
        let (appends, first) = (self.random.below(3) == 0, self.random.next() as u8);
        let most = if self.random.below(4) == 0 { 60_000 } else { 5_000 };
        let length = 1 + self.random.below(most);
        let bytes: Vec<u8> = (0..length).map(|index| first.wrapping_add((index % 251) as u8)).collect();
        let size = self.content(&path)?.len() as u64;
        let offset = if appends { size } else { self.random.below(size + 1000) };
        if offset + length > LARGEST {
            return Ok(());
        }
        if appends {
            self.open[chosen].appending.write_all(&bytes)?;
        } else {
            let mut file = &self.open[chosen].file;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&bytes)?;
        }
        let content = self.content(&path)?;
        content.resize(content.len().max((offset + length) as usize), 0);
        content[offset as usize..(offset + length) as usize].copy_from_slice(&bytes);
        Ok(())
    }

    fn resize(&mut self) -> Outcome {
        let Some(chosen) = self.chosen() else { return Ok(()) };
        let path = self.open[chosen].path.clone();
        let size = self.random.below(LARGEST / 4);
        self.open[chosen].file.set_len(size)?;
        self.content(&path)?.resize(size as usize, 0);
        Ok(())
    }

    fn read(&mut self) -> Outcome {
        let Some(chosen) = self.chosen() else { return Ok(()) };
        let path = self.open[chosen].path.clone();
        let size = self.content(&path)?.len();
        let from = self.random.below(size as u64 + 1) as usize;
        let length = (self.random.below(70_000) as usize).min(size - from);
        let mut read = vec![0; length];
        let mut file = &self.open[chosen].file;
        file.seek(SeekFrom::Start(from as u64))?;
        file.read_exact(&mut read)?;
        let found = file.metadata()?.len();
        let content = self.content(&path)?;
        if read != content[from..from + length] {
            return Err(format!("{path} has other bytes within {from}+{length} than were written").into());
        }
        if found != size as u64 {
            return Err(format!("{path} has {found} bytes, not {size}").into());
        }
        Ok(())
    }

    fn close(&mut self) -> Outcome {
        let Some(chosen) = self.chosen() else { return Ok(()) };
        let syncs = self.random.below(2) == 0;
        let Open { file, .. } = self.open.swap_remove(chosen);
        if syncs {
            file.sync_all()?;
        }
        Ok(())
    }

    fn make_directory(&mut self) -> Outcome {
        let path = self.fresh();
        fs::create_dir(self.at(&path))?;
        self.entries.insert(path, Entry::Directory);
        Ok(())
    }

    /// Removes what is not open, if it is a directory one that is empty.
    fn remove(&mut self) -> Outcome {
        let is_removable = |mixed: &Self, path: &str, entry: &Entry| match entry {
            Entry::Directory => !mixed.entries.keys().any(|other| is_below(other, path)),
            _ => !mixed.is_open(path),
        };
        let Some(path) = self.some(is_removable) else { return Ok(()) };
        match self.entries.remove(&path) {
            Some(Entry::Directory) => fs::remove_dir(self.at(&path))?,
            _ => fs::remove_file(self.at(&path))?,
        }
        Ok(())
    }

    /// Renames anything, open files and directories with such included; now and then in place of another file.
    fn rename(&mut self) -> Outcome {
        let Some(old) = self.some(|_, _, _| true) else { return Ok(()) };
        let is_file = matches!(self.entries.get(&old), Some(Entry::File(_)));
        let replaced = if is_file && self.random.below(3) == 0 {
            self.some(|mixed, path, entry| matches!(entry, Entry::File(_)) && path != old && !mixed.is_open(path))
        } else {
            None
        };
        let new = replaced.unwrap_or_else(|| self.fresh());
        if is_below(&new, &old) {
            return Ok(());
        }
        fs::rename(self.at(&old), self.at(&new))?;
        let moved: Vec<String> =
            self.entries.keys().filter(|path| **path == old || is_below(path, &old)).cloned().collect();
        for path in moved {
            let Some(entry) = self.entries.remove(&path) else { continue };
            let to = format!("{new}{}", &path[old.len()..]);
            for open in self.open.iter_mut().filter(|open| open.path == path) {
                open.path.clone_from(&to);
            }
            self.entries.insert(to, entry);
        }
        Ok(())
    }

    fn link(&mut self) -> Outcome {
        let (path, target) = (self.fresh(), format!("target-{}", self.random.below(1000)));
        symlink(&target, &self.at(&path))?;
        self.entries.insert(path, Entry::Link(target));
        Ok(())
    }

    /// Compares the listing of some directory.
    fn list(&mut self) -> Outcome {
        let directory = self.some(|_, _, entry| *entry == Entry::Directory).unwrap_or_default();
        let mut found = Vec::new();
        for entry in fs::read_dir(self.at(&directory))? {
            let name = entry?.file_name().into_string().map_err(|name| format!("{name:?} is no name of ours"))?;
            found.push(if directory.is_empty() { name } else { format!("{directory}/{name}") });
        }
        found.sort();
        let is_in = |path: &&String| path.rsplit_once('/').map_or("", |(parent, _)| parent) == directory;
        let expected: Vec<&String> = self.entries.keys().filter(is_in).collect();
        if found.iter().ne(expected.iter().copied()) {
            return Err(format!("in '{directory}' there are {found:?}, not {expected:?}").into());
        }
        Ok(())
    }

    /// Compares all that is there.
    fn compare(&self) -> Outcome {
        let mut found = BTreeMap::new();
        read_all(self.root, "", &mut found)?;
        for (path, entry) in &self.entries {
            match found.remove(path) {
                None => return Err(format!("at the end {path} is missing").into()),
                Some(other) if other != *entry => return Err(format!("at the end {path} has another content").into()),
                Some(_) => {}
            }
        }
        match found.keys().next() {
            Some(path) => Err(format!("at the end {path} should not be there").into()),
            None => Ok(()),
        }
    }
}

/// Is a path below another?
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

fn read_all(root: &Path, inside: &str, found: &mut BTreeMap<String, Entry>) -> Outcome {
    for entry in fs::read_dir(root.join(inside))? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| format!("{name:?} is no name of ours"))?;
        let path = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        let kind = entry.file_type()?;
        let content = if kind.is_dir() {
            read_all(root, &path, found)?;
            Entry::Directory
        } else if kind.is_symlink() {
            Entry::Link(fs::read_link(entry.path())?.to_string_lossy().into_owned())
        } else {
            Entry::File(fs::read(entry.path())?)
        };
        if found.insert(path.clone(), content).is_some() {
            return Err(format!("{path} is listed twice").into());
        }
    }
    Ok(())
}

/// Numbers that look random, the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

//! The index on disk, which is complete at every moment: a reader never sees half of one, and
//! neither does whoever comes after a crash.
//!
//! ```text
//! INDEX_DIR/latest               symbolic link to the current generation
//! INDEX_DIR/generation-7/files   the table of files: one line each, size and path
//! INDEX_DIR/generation-7/00…0f   the shards
//! ```
//! Each file is written under a temporary name, synced and renamed; `latest` is switched last, by
//! a rename too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error};
use crate::shard::{self, Postings};

const LATEST: &str = "latest";
const FILES: &str = "files";
const GENERATION: &str = "generation-";

/// A file that is in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// Relative to the tree.
    pub(crate) path: String,
    /// In bytes.
    pub(crate) size: u64,
}

/// A generation that is being written. Nobody sees it until [`Writer::publish`].
pub(crate) struct Writer {
    index: PathBuf,
    name: String,
    directory: PathBuf,
}

impl Writer {
    pub(crate) fn create(index: &Path) -> Result<Self, Error> {
        fs::create_dir_all(index).context("create", index)?;
        let number = match current_generation(index) {
            Ok(name) => name
                .strip_prefix(GENERATION)
                .and_then(|number| number.parse::<u64>().ok())
                .map_or(1, |number| number + 1),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error).context("read the link", &index.join(LATEST)),
        };
        let name = format!("{GENERATION}{number}");
        let directory = index.join(&name);
        // What an interrupted run left is not worth keeping: nothing points to it.
        remove_if_there(fs::remove_dir_all(&directory)).context("remove", &directory)?;
        fs::create_dir(&directory).context("create", &directory)?;
        Ok(Self { index: index.to_owned(), name, directory })
    }

    /// Writes one shard; returns its size in bytes.
    pub(crate) fn put_shard(&self, number: u64, words: &Postings) -> Result<u64, Error> {
        let bytes = shard::encode(words);
        self.put(&shard_name(number), &bytes)?;
        Ok(bytes.len() as u64)
    }

    pub(crate) fn put_files(&self, files: &[Indexed]) -> Result<(), Error> {
        let mut table = String::new();
        for file in files {
            // A line feed in a name would make two lines of one.
            if file.path.contains('\n') {
                return Err(Error::new(format!("{:?}: line feed in a name", file.path)));
            }
            table.push_str(&format!("{} {}\n", file.size, file.path));
        }
        self.put(FILES, table.as_bytes())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let temporary = self.directory.join(format!("{name}.tmp"));
        let path = self.directory.join(name);
        let mut file = File::create_new(&temporary).context("create", &temporary)?;
        file.write_all(bytes).context("write", &temporary)?;
        file.sync_all().context("sync", &temporary)?;
        drop(file);
        fs::rename(&temporary, &path).context("rename a file to", &path)
    }

    /// Makes this generation the current one, and removes all others.
    pub(crate) fn publish(self) -> Result<(), Error> {
        sync_directory(&self.directory)?;
        let latest = self.index.join(LATEST);
        let temporary = self.index.join("latest.tmp");
        remove_if_there(fs::remove_file(&temporary)).context("remove", &temporary)?;
        symlink(&self.name, &temporary).context("link", &temporary)?;
        fs::rename(&temporary, &latest).context("switch", &latest)?;
        sync_directory(&self.index)?;
        for entry in fs::read_dir(&self.index).context("list", &self.index)? {
            let name = entry.context("list", &self.index)?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(GENERATION) && *name != self.name {
                let old = self.index.join(&*name);
                fs::remove_dir_all(&old).context("remove", &old)?;
            }
        }
        Ok(())
    }
}

/// The current generation of an index, opened for reading.
pub(crate) struct Reader {
    directory: PathBuf,
}

impl Reader {
    pub(crate) fn open(index: &Path) -> Result<Self, Error> {
        // Resolved once: were every path to go through `latest`, a rebuild in the middle of a
        // query would mix two generations.
        let name = current_generation(index).context("find an index in", index)?;
        Ok(Self { directory: index.join(name) })
    }

    pub(crate) fn files(&self) -> Result<Vec<Indexed>, Error> {
        let path = self.directory.join(FILES);
        let table = fs::read_to_string(&path).context("read", &path)?;
        table
            .lines()
            .map(|line| {
                let (size, path) = line.split_once(' ')?;
                Some(Indexed { path: path.to_owned(), size: size.parse().ok()? })
            })
            .collect::<Option<_>>()
            .ok_or_else(|| Error::new(format!("{}: the table of files is broken", path.display())))
    }

    pub(crate) fn shard(&self, number: u64) -> Result<Postings, Error> {
        let path = self.directory.join(shard_name(number));
        let bytes = fs::read(&path).context("read", &path)?;
        shard::decode(&bytes).map_err(|damage| Error::new(format!("{}: {damage}", path.display())))
    }
}

fn shard_name(number: u64) -> String {
    format!("{number:02x}")
}

fn current_generation(index: &Path) -> io::Result<String> {
    let target = fs::read_link(index.join(LATEST))?;
    Ok(target.to_string_lossy().into_owned())
}

#[allow(deprecated, reason = "the only function of stable std that makes a symbolic link on Unix and on WASI alike")]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    fs::soft_link(target, link)
}

/// Makes the names in a directory durable, as `sync_all` does for a file's content.
fn sync_directory(directory: &Path) -> Result<(), Error> {
    let opened = File::open(directory).context("open", directory)?;
    match opened.sync_all() {
        // Some WASI hosts sync no directories, and say so with EBADF.
        Err(error) if cfg!(target_os = "wasi") && error.raw_os_error() == Some(8) => Ok(()),
        result => result.context("sync", directory),
    }
}

fn remove_if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

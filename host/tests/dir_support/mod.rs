//! What the tests of the `dir` backend share.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use ninering::{
    backend::{Backend, DirBackend, DirOptions, NodeRef, OpenFile, User},
    payload::Payload,
};
use ninering_wire::{Errno, Name, Qid, SetAttributes, lopen};
use tempfile::TempDir;

/// A directory that is exported, in one that is not.
pub(crate) struct Export {
    outer: TempDir,
    pub(crate) root: NodeRef,
    /// What it knows of directories, it knows for as long as it is there.
    _backend: DirBackend,
}

impl Export {
    /// An empty one, beside a file `outside` that holds `secret`.
    pub(crate) fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("outside"), "secret").unwrap();
        std::fs::create_dir(outer.path().join("export")).unwrap();
        let backend = DirBackend::new(&outer.path().join("export"), DirOptions::default()).unwrap();
        Self { outer, root: attach(&backend, "").unwrap(), _backend: backend }
    }

    /// The host's path of something in it.
    pub(crate) fn path(&self, below: impl AsRef<OsStr>) -> PathBuf {
        self.outer.path().join("export").join(Path::new(below.as_ref()))
    }

    /// The host's path of something beside it.
    pub(crate) fn outside(&self, below: &str) -> PathBuf {
        self.outer.path().join(below)
    }

    /// Makes the file `name` on the host.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).unwrap();
    }

    /// Makes the directory `name` on the host.
    pub(crate) fn directory(&self, name: &str) {
        std::fs::create_dir(self.path(name)).unwrap();
    }

    /// Makes the symbolic link `name` on the host.
    pub(crate) fn symlink(&self, target: impl AsRef<Path>, name: &str) {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
    }
}

/// The root of an export of `path`.
pub(crate) fn serve(path: &Path, options: DirOptions) -> NodeRef {
    attach(&DirBackend::new(path, options).unwrap(), "").unwrap()
}

pub(crate) fn attach(backend: &DirBackend, aname: &str) -> Result<NodeRef, Errno> {
    backend.attach(&User::default(), aname.as_bytes())
}

pub(crate) fn name(name: &(impl AsRef<[u8]> + ?Sized)) -> Name<'_> {
    Name::new(name.as_ref()).unwrap()
}

/// What is reached from `from` by the names in `path`.
pub(crate) fn walk(from: &NodeRef, path: &str) -> Result<NodeRef, Errno> {
    path.split('/').try_fold(from.clone(), |node, step| node.lookup(name(step)))
}

pub(crate) fn read_at(file: &dyn OpenFile, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; length];
    let count = file.read(offset, &Payload::from(&mut bytes[..]))?;
    bytes.truncate(count);
    Ok(bytes)
}

pub(crate) fn write_at(file: &dyn OpenFile, offset: u64, bytes: impl AsRef<[u8]>) -> Result<usize, Errno> {
    file.write(offset, &Payload::from(&mut bytes.as_ref().to_vec()[..]))
}

/// All that `node` contains, if it can be opened and is not long.
pub(crate) fn contents(node: &NodeRef) -> Result<Vec<u8>, Errno> {
    read_at(&*node.open(lopen::RDONLY)?, 0, 65536)
}

pub(crate) fn change(valid: u32) -> SetAttributes {
    SetAttributes { valid, ..Default::default() }
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) kind: u8,
    pub(crate) qid: Qid,
}

/// At most `most` entries from `offset` on.
pub(crate) fn list(directory: &dyn OpenFile, offset: u64, most: usize) -> Result<Vec<Listed>, Errno> {
    let mut listed = Vec::new();
    directory.read_directory(offset, &mut |entry| {
        if listed.len() == most {
            return false;
        }
        listed.push(Listed { name: entry.name.to_vec(), offset: entry.offset, kind: entry.kind, qid: entry.qid });
        true
    })?;
    Ok(listed)
}

/// The names in `directory` from the beginning, without `.` and `..`, sorted.
pub(crate) fn names(directory: &dyn OpenFile) -> Vec<String> {
    let listed = list(directory, 0, usize::MAX).unwrap();
    let names = listed.into_iter().map(|entry| String::from_utf8(entry.name).unwrap());
    let mut names: Vec<_> = names.filter(|name| name != "." && name != "..").collect();
    names.sort();
    names
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says on the terminal why a test, or a part of it, does not count here.
pub(crate) fn skip(what: &str, why: &str) {
    // Not by `eprintln!`, which a test that passes is not heard by.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {why}");
}

/// A small tmpfs, mounted as long as this lives.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one on the directory `path`; `None`, and a word on the terminal, where that is not permitted.
    pub(crate) fn mount(path: PathBuf, what: &str) -> Option<Self> {
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=64k", "ninering-test"])
                .arg(&path)
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            skip(what, "mounting a tmpfs takes root");
        }
        mounted.then_some(Self(path))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Bytes that are no UTF-8, as a name.
pub(crate) fn non_utf8() -> &'static OsStr {
    OsStr::from_bytes(b"caf\xe9\xff\x01 \n\\")
}

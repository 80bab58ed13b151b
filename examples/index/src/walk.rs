//! The files of a tree, and their words: what the index is built from and checked against.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error};
use crate::token;

/// The text of one file of the tree.
pub(crate) struct Text {
    /// Relative to the tree, with `/` between the components.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
}

impl Text {
    /// Calls `visit` with each word and its line, counted from 1.
    pub(crate) fn each_word<'t>(&'t self, mut visit: impl FnMut(u32, &'t [u8])) {
        for (number, line) in (1..).zip(self.content.split(|&byte| byte == b'\n')) {
            token::words(line).for_each(|word| visit(number, word));
        }
    }
}

/// Reads every text file under `tree`, in the order of the paths, and calls `visit` with it.
///
/// Symbolic links are not followed: each file is seen once, and a link that points upwards is no
/// endless walk. Hidden entries (`.git`) are left out.
pub(crate) fn each_text(tree: &Path, mut visit: impl FnMut(Text) -> Result<(), Error>) -> Result<(), Error> {
    walk(tree, "", &mut visit)
}

fn walk(directory: &Path, prefix: &str, visit: &mut impl FnMut(Text) -> Result<(), Error>) -> Result<(), Error> {
    let mut entries: Vec<(String, PathBuf, fs::FileType)> = Vec::new();
    for entry in fs::read_dir(directory).context("list", directory)? {
        let entry = entry.context("list", directory)?;
        let path = entry.path();
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| Error::new(format!("{}: the name is not UTF-8", name.to_string_lossy())))?;
        if !name.starts_with('.') {
            let file_type = entry.file_type().context("look at", &path)?;
            entries.push((name, path, file_type));
        }
    }
    // A directory's order is the filesystem's own affair; the index must not depend on it.
    entries.sort_by(|left, right| left.0.cmp(&right.0));
    for (name, path, file_type) in entries {
        let name = format!("{prefix}{name}");
        if file_type.is_dir() {
            walk(&path, &format!("{name}/"), visit)?;
        } else if file_type.is_file() {
            let content = fs::read(&path).context("read", &path)?;
            if token::is_text(&content) {
                visit(Text { path: name, content })?;
            }
        }
    }
    Ok(())
}

//! Many small files in nested directories, from creation to deletion.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// Writes `count` files under `root`/tree, checks them, renames all, checks again, deletes all one
/// by one, and checks that nothing is left.
pub(crate) fn tree(root: &Path, count: u32) -> Outcome {
    let top = root.join("tree");
    fs::create_dir(&top).map_err(|error| format!("{}: {error}", top.display()))?;

    let mut expected = BTreeMap::new();
    for number in 0..count {
        let path = path(number, "file");
        let parent = top.join(&path);
        fs::create_dir_all(parent.parent().expect("a joined path has a parent"))?;
        fs::write(top.join(&path), content(number))?;
        expected.insert(path, content(number));
    }
    compare("after writing", &expected, &top)?;

    let mut renamed = BTreeMap::new();
    for number in 0..count {
        // The new name is in another directory, which may have held only files that are gone.
        let new = path(number.wrapping_mul(31) % count, &format!("moved{number}-"));
        let old = path(number, "file");
        fs::rename(top.join(&old), top.join(&new))?;
        renamed.insert(new, content(number));
    }
    compare("after renaming", &renamed, &top)?;

    delete(&top)?;
    if top.exists() {
        return Err(format!("{} is still there after its deletion", top.display()).into());
    }
    let bytes: usize = expected.values().map(String::len).sum();
    println!("tree: {count} files, {bytes} bytes: written, read, renamed, deleted");
    Ok(())
}

fn path(number: u32, name: &str) -> PathBuf {
    let (outer, inner) = (number % 7, number % 3);
    PathBuf::from(format!("d{outer}/e{inner}/{name}{number}"))
}

fn content(number: u32) -> String {
    format!("content of file {number}\n").repeat(number as usize % 50)
}

/// Compares all files under `top` with the expected ones.
fn compare(when: &str, expected: &BTreeMap<PathBuf, String>, top: &Path) -> Outcome {
    let mut found = BTreeMap::new();
    read_all(top, Path::new(""), &mut found)?;
    for (path, content) in expected {
        match found.remove(path) {
            None => return Err(format!("{when}: {} is missing", path.display()).into()),
            Some(other) if other != *content => {
                return Err(format!("{when}: {} has another content", path.display()).into());
            }
            Some(_) => {}
        }
    }
    match found.keys().next() {
        Some(path) => Err(format!("{when}: {} should not be there", path.display()).into()),
        None => Ok(()),
    }
}

fn read_all(top: &Path, inside: &Path, found: &mut BTreeMap<PathBuf, String>) -> Outcome {
    for entry in fs::read_dir(top.join(inside))? {
        let entry = entry?;
        let path = inside.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            read_all(top, &path, found)?;
        } else if found.insert(path, fs::read_to_string(entry.path())?).is_some() {
            return Err(format!("{} is listed twice", entry.path().display()).into());
        }
    }
    Ok(())
}

fn delete(directory: &Path) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            delete(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(fs::remove_dir(directory)?)
}

//! Compares an index with the tree that it claims to describe.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::error::Error;
use crate::shard::{SHARDS, shard_of};
use crate::store::Reader;
use crate::walk;

/// What was compared and found equal.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) files: u64,
    pub(crate) occurrences: u64,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, occurrences } = self;
        write!(f, "{occurrences} occurrences of words in {files} files are all in the index, and nothing else is")
    }
}

/// Scans `tree` from start to end and crosses every occurrence of a word off the index. What is
/// not there to be crossed off, and what is left in the end, is an error.
pub(crate) fn check(tree: &Path, index: &Path) -> Result<Checked, Error> {
    let reader = Reader::open(index)?;
    let files = reader.files()?;
    let mut open: BTreeMap<(Vec<u8>, u32, u32), u32> = BTreeMap::new();
    for number in 0..SHARDS {
        for (word, postings) in reader.shard(number)? {
            if shard_of(&word) != number {
                let word = word.escape_ascii();
                return Err(Error::new(format!("'{word}' is in the wrong shard")));
            }
            for posting in postings {
                let place = (word.clone(), posting.file, posting.line);
                if open.insert(place, posting.occurrences).is_some() {
                    let word = word.escape_ascii();
                    return Err(Error::new(format!("'{word}' has the same line twice")));
                }
            }
        }
    }

    let mut seen = 0;
    let mut occurrences = 0;
    walk::each_text(tree, |text| {
        let known = files.get(seen);
        let same = |path: &str, size| path == text.path && size == text.content.len() as u64;
        if !known.is_some_and(|known| same(&known.path, known.size)) {
            return Err(Error::new(format!("{} is not in the index, or not with this size", text.path)));
        }
        let file = seen as u32;
        seen += 1;
        let mut missing = None;
        text.each_word(|line, word| {
            occurrences += 1;
            match open.get_mut(&(word.to_vec(), file, line)) {
                Some(left) if *left > 0 => *left -= 1,
                _ => missing = missing.or(Some((line, word))),
            }
        });
        match missing {
            None => Ok(()),
            Some((line, word)) => {
                Err(Error::new(format!("{}:{line}: '{}' is not in the index", text.path, word.escape_ascii())))
            }
        }
    })?;

    if let Some(gone) = files.get(seen) {
        return Err(Error::new(format!("{} is in the index and not in the tree", gone.path)));
    }
    if let Some(((word, file, line), _)) = open.iter().find(|(_, left)| **left > 0) {
        return Err(Error::new(format!(
            "the index has '{}' in line {line} of file {file}, which does not have it",
            word.escape_ascii()
        )));
    }
    Ok(Checked { files: seen as u64, occurrences })
}

//! Builds an index.

use std::fmt;
use std::path::Path;

use crate::error::Error;
use crate::shard::{Posting, Postings, SHARDS, shard_of};
use crate::store::{Indexed, Writer};
use crate::walk;

/// What was indexed.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) files: u64,
    /// Of the files.
    pub(crate) bytes: u64,
    /// Different ones.
    pub(crate) words: u64,
    /// Pairs of a word and a line.
    pub(crate) postings: u64,
    /// Of the shards.
    pub(crate) index_bytes: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, words, postings, index_bytes } = self;
        write!(
            f,
            "indexed {files} files, {bytes} bytes: {words} words in {postings} places, {index_bytes} bytes of index"
        )
    }
}

/// Indexes the text files of `tree` and makes that the current index in `index`.
pub(crate) fn build(tree: &Path, index: &Path) -> Result<Summary, Error> {
    let mut files: Vec<Indexed> = Vec::new();
    let mut shards = vec![Postings::new(); SHARDS as usize];
    walk::each_text(tree, |text| {
        let file = u32::try_from(files.len()).map_err(|_| Error::new("too many files"))?;
        text.each_word(|line, word| {
            let shard = &mut shards[shard_of(word) as usize];
            if !shard.contains_key(word) {
                shard.insert(word.to_vec(), Vec::new());
            }
            let postings = shard.get_mut(word).expect("inserted above");
            match postings.last_mut() {
                Some(last) if (last.file, last.line) == (file, line) => last.occurrences += 1,
                _ => postings.push(Posting { file, line, occurrences: 1 }),
            }
        });
        files.push(Indexed { path: text.path, size: text.content.len() as u64 });
        Ok(())
    })?;

    let writer = Writer::create(index)?;
    writer.put_files(&files)?;
    let mut summary =
        Summary { files: files.len() as u64, bytes: files.iter().map(|file| file.size).sum(), ..Summary::default() };
    for (number, words) in (0..).zip(&shards) {
        summary.words += words.len() as u64;
        summary.postings += words.values().map(|all| all.len() as u64).sum::<u64>();
        summary.index_bytes += writer.put_shard(number, words)?;
    }
    writer.publish()?;
    Ok(summary)
}

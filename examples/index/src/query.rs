//! Answers a query from an index.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::error::Error;
use crate::shard::shard_of;
use crate::store::Reader;

/// A line that has words of the query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Relative to the tree.
    pub(crate) path: String,
    /// Counted from 1.
    pub(crate) line: u32,
    /// The words that stand there.
    pub(crate) words: Vec<String>,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.words.join(" "))
    }
}

/// What a file has of the query.
#[derive(Default)]
struct Hits {
    /// How many of the different words of the query.
    distinct: usize,
    /// Occurrences, those of rare words weighing more.
    score: f64,
    lines: BTreeMap<u32, Vec<String>>,
}

/// The lines that have any of `words`. Files that have more of the different words come first,
/// then those with the higher score, then in the order of paths.
pub(crate) fn query(index: &Path, words: &[&str]) -> Result<Vec<Match>, Error> {
    let reader = Reader::open(index)?;
    let files = reader.files()?;
    let mut words = words.to_vec();
    words.sort_unstable();
    words.dedup();

    let mut hits: BTreeMap<u32, Hits> = BTreeMap::new();
    for word in words {
        let shard = reader.shard(shard_of(word.as_bytes()))?;
        let Some(postings) = shard.get(word.as_bytes()) else {
            continue;
        };
        let with_word = postings.chunk_by(|left, right| left.file == right.file);
        let rarity = (1.0 + files.len() as f64 / with_word.clone().count() as f64).ln();
        for in_file in with_word {
            let hits = hits.entry(in_file[0].file).or_default();
            hits.distinct += 1;
            for posting in in_file {
                hits.score += f64::from(posting.occurrences) * rarity;
                let line = hits.lines.entry(posting.line).or_default();
                line.push(word.to_owned());
            }
        }
    }

    let mut ranked: Vec<(u32, Hits)> = hits.into_iter().collect();
    // The sort is stable and the map was sorted by file, which is the order of paths.
    ranked
        .sort_by(|(_, left), (_, right)| (right.distinct.cmp(&left.distinct)).then(right.score.total_cmp(&left.score)));
    let mut matches = Vec::new();
    for (file, hits) in ranked {
        let path = &files
            .get(file as usize)
            .ok_or_else(|| Error::new(format!("the index names file {file}, which it lacks")))?
            .path;
        matches.extend(hits.lines.into_iter().map(|(line, words)| Match { path: path.clone(), line, words }));
    }
    Ok(matches)
}

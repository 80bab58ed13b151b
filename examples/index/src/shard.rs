//! The format of a shard: a part of the words, each with the places where it occurs.
//!
//! ```text
//! shard    = magic, count of words, word*, checksum
//! word     = length, bytes, count of postings, posting*     sorted by bytes
//! posting  = file - previous file,                          sorted by file and line
//!            line - previous line in the same file (or - 0), occurrences
//! ```
//! Numbers are LEB128, so that the small differences take a byte each. The checksum is 64 bits,
//! little-endian, over everything before it: a torn or mixed-up file is found when it is read.

use std::collections::BTreeMap;
use std::fmt;

const MAGIC: &[u8] = b"NRIX\x01";

/// Over how many files an index spreads its words.
pub(crate) const SHARDS: u64 = 16;

/// One word in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Posting {
    /// Index into the table of files.
    pub(crate) file: u32,
    /// Counted from 1.
    pub(crate) line: u32,
    /// How often the word stands in that line.
    pub(crate) occurrences: u32,
}

/// Words with their postings, both sorted.
pub(crate) type Postings = BTreeMap<Vec<u8>, Vec<Posting>>;

/// The shard that a word belongs to.
pub(crate) fn shard_of(word: &[u8]) -> u64 {
    checksum(word) % SHARDS
}

/// Why bytes are not a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The file does not start like a shard.
    Magic,
    /// The content does not fit the checksum.
    Checksum,
    /// The checksum fits and the structure does not: written by a program that is wrong.
    Structure,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "not an index shard",
            Self::Checksum => "the checksum does not fit the content",
            Self::Structure => "the structure is broken",
        })
    }
}

/// The bytes of a shard with these words.
pub(crate) fn encode(words: &Postings) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, words.len() as u64);
    for (word, postings) in words {
        put(&mut bytes, word.len() as u64);
        bytes.extend_from_slice(word);
        put(&mut bytes, postings.len() as u64);
        let (mut file, mut line) = (0, 0);
        for posting in postings {
            if posting.file != file {
                line = 0;
            }
            put(&mut bytes, u64::from(posting.file - file));
            put(&mut bytes, u64::from(posting.line - line));
            put(&mut bytes, u64::from(posting.occurrences));
            (file, line) = (posting.file, posting.line);
        }
    }
    let checksum = checksum(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The words of a shard.
pub(crate) fn decode(bytes: &[u8]) -> Result<Postings, Damage> {
    let content = bytes.strip_prefix(MAGIC).ok_or(Damage::Magic)?;
    let (mut content, sum) = content.split_last_chunk().ok_or(Damage::Checksum)?;
    if checksum(&bytes[..bytes.len() - sum.len()]) != u64::from_le_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    let shard = take_words(&mut content).ok_or(Damage::Structure)?;
    if content.is_empty() { Ok(shard) } else { Err(Damage::Structure) }
}

fn take_words(content: &mut &[u8]) -> Option<Postings> {
    let mut words = Postings::new();
    for _ in 0..take(content)? {
        let length = usize::try_from(take(content)?).ok()?;
        let (word, rest) = content.split_at_checked(length)?;
        *content = rest;
        let mut postings = Vec::new();
        let (mut file, mut line) = (0_u32, 0_u32);
        for _ in 0..take(content)? {
            let files = u32::try_from(take(content)?).ok()?;
            if files > 0 {
                line = 0;
            }
            file = file.checked_add(files)?;
            line = line.checked_add(u32::try_from(take(content)?).ok()?)?;
            let occurrences = u32::try_from(take(content)?).ok()?;
            postings.push(Posting { file, line, occurrences });
        }
        words.insert(word.to_vec(), postings);
    }
    Some(words)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// FNV-1a: no protection against malice, which a local index does not need.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting(file: u32, line: u32, occurrences: u32) -> Posting {
        Posting { file, line, occurrences }
    }

    fn sample() -> Postings {
        Postings::from([
            (b"alpha".to_vec(), vec![posting(0, 1, 1), posting(0, 9, 3)]),
            (b"beta".to_vec(), vec![posting(2, 700, 1), posting(70_000, 2, 1)]),
            ("größe".into(), vec![posting(u32::MAX, u32::MAX, u32::MAX)]),
        ])
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        assert_eq!(decode(&encode(&sample())), Ok(sample()));
        assert_eq!(decode(&encode(&Postings::new())), Ok(Postings::new()));
    }

    #[test]
    fn nearby_postings_take_three_bytes_each() {
        let one = Postings::from([(b"w".to_vec(), vec![posting(1, 1, 1)])]);
        let two = Postings::from([(b"w".to_vec(), vec![posting(1, 1, 1), posting(1, 5, 2)])]);
        assert_eq!(encode(&two).len(), encode(&one).len() + 3);
    }

    #[test]
    fn every_truncation_is_found() {
        let bytes = encode(&sample());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = encode(&sample());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_fitting_checksum_does_not_excuse_a_broken_structure() {
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, u64::MAX);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(decode(&bytes), Err(Damage::Structure));
    }

    #[test]
    fn words_spread_over_all_shards() {
        let mut used: Vec<u64> = (0..500).map(|number| shard_of(format!("word{number}").as_bytes())).collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len() as u64, SHARDS);
    }
}

//! Makes a source tree, then builds, queries and checks an index of it.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::error::{Context, Error};
use crate::{build, check, query};

const FILES: u64 = 300;
/// Marks a tree that the demo made, and may therefore replace.
const MARKER: &str = ".made-by-index-demo";
/// Two words that stand together in one file only.
const NEEDLE: [&str; 2] = ["hidden_needle", "seldom_used"];
const NEEDLE_FILE: u64 = 137;

pub(crate) fn demo(root: &Path) -> Result<(), Error> {
    let tree = root.join("src");
    let index = root.join("index");

    let started = Instant::now();
    let bytes = make_tree(&tree)?;
    let elapsed = started.elapsed();
    println!("wrote   {FILES} files, {bytes} bytes of source in {elapsed:.1?}");

    let started = Instant::now();
    let built = build::build(&tree, &index)?;
    println!("built   {built} in {:.1?}", started.elapsed());
    if (built.files, built.bytes) != (FILES, bytes) {
        return Err(Error::new(format!(
            "wrote {FILES} files, {bytes} bytes, and read {} files, {} bytes",
            built.files, built.bytes
        )));
    }

    for words in [&["request"][..], &["request", "buffer"], &NEEDLE] {
        let started = Instant::now();
        let matches = query::query(&index, words)?;
        let best = matches.first().map_or("nothing".into(), ToString::to_string);
        println!(
            "asked   '{}': {} lines in {:.1?}, the best {best}",
            words.join(" "),
            matches.len(),
            started.elapsed()
        );
        if words == NEEDLE {
            let expected = file_path(NEEDLE_FILE);
            let found = matches.first().filter(|found| found.path == expected);
            if found.is_none_or(|found| found.words != NEEDLE) {
                return Err(Error::new(format!("'{}' was not found in {expected}", words.join(" "))));
            }
        }
    }

    let started = Instant::now();
    let checked = check::check(&tree, &index)?;
    println!("checked {checked} in {:.1?}", started.elapsed());
    println!("CHECK OK");
    Ok(())
}

/// Writes the tree, the same one each time; returns its size in bytes.
fn make_tree(tree: &Path) -> Result<u64, Error> {
    if tree.join(MARKER).exists() {
        fs::remove_dir_all(tree).context("remove", tree)?;
    } else if tree.exists() {
        return Err(Error::new(format!(
            "{} exists and is not of this demo's making: name another directory",
            tree.display()
        )));
    }
    fs::create_dir_all(tree).context("create", tree)?;
    let marker = tree.join(MARKER);
    fs::write(&marker, "").context("write", &marker)?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut bytes = 0;
    for number in 0..FILES {
        let path = tree.join(file_path(number));
        let directory = path.parent().expect("a joined path has a parent");
        fs::create_dir_all(directory).context("create", directory)?;
        let text = source(number, &mut random);
        fs::write(&path, &text).context("write", &path)?;
        bytes += text.len() as u64;
    }
    Ok(bytes)
}

fn file_path(number: u64) -> String {
    let areas = ["net", "fs", "mm", "lib", "drivers"];
    let area = areas[(number % areas.len() as u64) as usize];
    format!("{area}/part{}/file{number}.rs", number / 40)
}

/// A text that looks like source from afar.
fn source(number: u64, random: &mut Random) -> String {
    let mut text = format!("//! File {number}.\n\n");
    for function in 0..3 + random.below(6) {
        let (name, argument) = (random.word(), random.word());
        text.push_str(&format!("fn {name}_{function}({argument}: &mut Node) {{\n"));
        for _ in 0..4 + random.below(20) {
            let (left, method, right) = (random.word(), random.word(), random.word());
            let value = random.below(1000);
            text.push_str(&format!("    let {left} = {argument}.{method}({right}, {value});\n"));
        }
        text.push_str("}\n\n");
    }
    if number == NEEDLE_FILE {
        text.push_str(&format!("// {}\n", NEEDLE.join(" ")));
    } else if number.is_multiple_of(50) {
        text.push_str(&format!("// {}\n", NEEDLE[0]));
    }
    text
}

/// xorshift64: the same sequence on each machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A word of one or two syllables of the trade.
    fn word(&mut self) -> String {
        let stems = [
            "request", "buffer", "queue", "page", "inode", "packet", "lock", "cache", "entry", "region", "token",
            "stream", "device", "mount", "table", "cursor",
        ];
        let mut stem = || stems[self.below(stems.len() as u64) as usize];
        let (first, second) = (stem(), stem());
        match self.below(3) {
            0 => first.to_owned(),
            1 => format!("{first}_{second}"),
            _ => format!("{first}{}", self.below(100)),
        }
    }
}

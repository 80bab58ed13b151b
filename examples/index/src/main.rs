//! An inverted index of a source tree: build it, query it, and check it against the tree.
//!
//! This is a program as anybody would write it: plain `std::fs`, no dependency, and no idea of 9P.
//! It runs natively with `cargo run`, and as a WASI command in any runtime. What makes it a good
//! guest for a filesystem is what it does to one: it walks a tree, reads all of it, writes files
//! under temporary names, syncs and renames them, switches a symbolic link, reads everything back
//! and deletes what is old.
//!
//! ```text
//! index build TREE INDEX_DIR        index the files of TREE
//! index query INDEX_DIR WORD…       print path:line of the matches, the best file first
//! index check TREE INDEX_DIR        compare the index with a fresh scan; status 1 if they differ
//! index demo ROOT                   make a tree in ROOT/src, then all of the above
//! ```

mod build;
mod check;
mod demo;
mod error;
mod query;
mod shard;
mod store;
mod token;
mod walk;

use std::path::Path;
use std::process::ExitCode;

use error::Error;

const USAGE: &str = "usage: index build TREE INDEX_DIR
       index query INDEX_DIR WORD…
       index check TREE INDEX_DIR
       index demo ROOT";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("index: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Error> {
    match arguments {
        ["build", tree, index] => {
            let summary = build::build(Path::new(tree), Path::new(index))?;
            println!("{summary}");
            Ok(())
        }
        ["query", index, words @ ..] if !words.is_empty() => {
            for found in query::query(Path::new(index), words)? {
                println!("{found}");
            }
            Ok(())
        }
        ["check", tree, index] => {
            let checked = check::check(Path::new(tree), Path::new(index))?;
            println!("CHECK OK: {checked}");
            Ok(())
        }
        ["demo", root] => demo::demo(Path::new(root)),
        _ => Err(Error::new(USAGE)),
    }
}

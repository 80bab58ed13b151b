//! A guest program of the system tests: plain `std::fs`, run inside WASI on the filesystem under
//! test, and natively to know what is right.
//!
//! ```text
//! fsprobe copy SRC DST       copy a file in pieces of 1 MiB, and sync it
//! fsprobe sha256 FILE        print a file's SHA-256
//! fsprobe tree ROOT N        write N files in nested directories; read, rename, delete them
//! fsprobe mixed ROOT SEED N  N operations of all kinds in an empty directory, checked; print the files' SHA-256
//! fsprobe walk ROOT          list all directories and ask for all attributes; print how long that took
//! fsprobe read FILE PIECE    read a file in pieces of so many bytes; print how fast that was
//! fsprobe write FILE N PIECE write N MiB in such pieces, and sync; print how fast that was
//! fsprobe semantics ROOT     check what std::fs promises, one by one
//! fsprobe cat                copy standard input to standard output
//! fsprobe args …             print the arguments, one a line
//! fsprobe env NAME           print a variable
//! fsprobe exit CODE          end with this status
//! fsprobe hang               never end
//! fsprobe write-and-hang FILE  write a line to a file, keep it open, say "ready", never end
//! ```
//! Success is status 0 and a line or more on standard output; failure is a message on standard
//! error and status 1.

mod errno;
mod link;
mod mixed;
mod semantics;
mod tree;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use sha2::{Digest, Sha256};

/// Whatever went wrong: it is only ever printed.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: fsprobe copy|sha256|tree|mixed|walk|read|write|semantics|cat|args|env|exit|hang|write-and-hang …; see the source";

/// What large reads and writes use at a time.
const PIECE: usize = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("fsprobe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Outcome<ExitCode> {
    match arguments {
        ["copy", source, destination] => copy(source, destination)?,
        ["sha256", file] => println!("{}", sha256(file)?),
        ["tree", root, count] => tree::tree(Path::new(root), count.parse()?)?,
        ["mixed", root, seed, steps] => mixed::mixed(Path::new(root), seed.parse()?, steps.parse()?)?,
        ["walk", root] => link::walk(Path::new(root))?,
        ["read", file, piece] => link::read(Path::new(file), piece.parse()?)?,
        ["write", file, mebibytes, piece] => link::write(Path::new(file), mebibytes.parse()?, piece.parse()?)?,
        ["semantics", root] => semantics::semantics(Path::new(root))?,
        ["cat"] => {
            io::copy(&mut io::stdin().lock(), &mut io::stdout().lock())?;
        }
        ["args", arguments @ ..] => arguments.iter().for_each(|argument| println!("{argument}")),
        ["env", name] => println!("{}", std::env::var(name)?),
        ["exit", code] => return Ok(ExitCode::from(code.parse::<u8>()?)),
        ["hang"] => hang(),
        ["write-and-hang", file] => {
            let mut file = File::create(file)?;
            file.write_all(b"written before it hung\n")?;
            println!("ready");
            hang()
        }
        _ => return Err(USAGE.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn hang() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn copy(source: &str, destination: &str) -> Outcome {
    let mut source = File::open(source).map_err(|error| format!("{source}: {error}"))?;
    let mut output = File::create(destination).map_err(|error| format!("{destination}: {error}"))?;
    let mut buffer = vec![0; PIECE];
    let mut copied = 0;
    loop {
        let length = source.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        output.write_all(&buffer[..length])?;
        copied += length as u64;
    }
    output.sync_all()?;
    let length = output.metadata()?.len();
    if length != copied {
        return Err(format!("wrote {copied} bytes and {destination} has {length}").into());
    }
    println!("copied {copied} bytes");
    Ok(())
}

fn sha256(path: &str) -> Outcome<String> {
    let mut file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_that_of_the_standard() {
        let path = std::env::temp_dir().join(format!("fsprobe-sha256-{}", std::process::id()));
        std::fs::write(&path, "abc").unwrap();
        let digest = sha256(path.to_str().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(digest.unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn the_native_filesystem_passes_all_checks() {
        let root = std::env::temp_dir().join(format!("fsprobe-test-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let outcomes = (semantics::semantics(&root), tree::tree(&root, 100));
        for seed in 0..8 {
            let root = root.join(format!("mixed{seed}"));
            std::fs::create_dir(&root).unwrap();
            mixed::mixed(&root, seed, 1000).unwrap();
        }
        std::fs::remove_dir_all(&root).unwrap();
        outcomes.0.unwrap();
        outcomes.1.unwrap();
    }
}

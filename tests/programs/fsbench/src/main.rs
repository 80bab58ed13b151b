//! Times filesystem operations below a directory: `fsbench DIRECTORY`.
//!
//! Prints a line for each row, `NAME NANOSECONDS`, the mean time of one operation. It is a plain `std::fs` program, so
//! that the same code runs natively and in WebAssembly on whatever filesystem is mounted there. Every read is checked:
//! a fast wrong answer is none.

use std::{
    fs::{self, File, OpenOptions},
    hint::black_box,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

/// Bytes of the file that is written and read.
const FILE: usize = 64 << 20;
/// Bytes of it that the rows with 4 KiB at a time use.
const FILE_4K: usize = 16 << 20;
/// Files in the directory that is made, listed and emptied.
const FILES: usize = 1000;
/// Times that a row of single operations repeats them.
const REPEATS: usize = 2000;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("fsbench DIRECTORY");
        return ExitCode::from(2);
    };
    match run(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fsbench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Times `operations` operations done by `work`, and prints the row.
fn row(name: &str, operations: usize, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let began = Instant::now();
    work().map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    println!("{name} {:.0}", began.elapsed().as_nanos() as f64 / operations as f64);
    Ok(())
}

/// The byte that stands at `offset` of the file.
fn content(offset: usize) -> u8 {
    (offset / 4096 % 251) as u8
}

fn run(root: &Path) -> io::Result<()> {
    let root = root.join("fsbench");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir(&root)?;
    let big = root.join("big");
    let pattern: Vec<u8> = (0..FILE).map(content).collect();

    for (name, piece, size) in
        [("write-4k", 4 << 10, FILE_4K), ("write-64k", 64 << 10, FILE), ("write-1m", 1 << 20, FILE)]
    {
        // Written over, so that each round does the same work: allocating pages is the kernel's business.
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&big)?;
        row(name, size / piece, || {
            for chunk in pattern[..size].chunks(piece) {
                file.write_all(chunk)?;
            }
            file.metadata().map(drop)
        })?;
    }

    // Once without a clock: where there is a cache, reading again is measured, as it is natively.
    check(fs::read(&big)? == pattern, "the first read")?;
    let mut buffer = vec![0; 1 << 20];
    for (name, piece, size) in [("read-4k", 4 << 10, FILE_4K), ("read-64k", 64 << 10, FILE), ("read-1m", 1 << 20, FILE)]
    {
        let mut file = File::open(&big)?;
        row(name, size / piece, || {
            for start in (0..size).step_by(piece) {
                file.read_exact(&mut buffer[..piece])?;
                check(buffer[0] == content(start) && buffer[piece - 1] == content(start + piece - 1), "read")?;
            }
            Ok(())
        })?;
    }

    let mut file = File::open(&big)?;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    row("random-read-4k", REPEATS, || {
        for _ in 0..REPEATS {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let start = (random as usize % (FILE / 4096)) * 4096;
            file.seek(SeekFrom::Start(start as u64))?;
            file.read_exact(&mut buffer[..4096])?;
            check(buffer[0] == content(start), "random read")?;
        }
        Ok(())
    })?;

    row("stat", REPEATS, || {
        for _ in 0..REPEATS {
            check(black_box(fs::metadata(&big)?).len() == FILE as u64, "stat")?;
        }
        Ok(())
    })?;
    row("open-close", REPEATS, || {
        for _ in 0..REPEATS {
            black_box(File::open(&big)?);
        }
        Ok(())
    })?;

    let many = root.join("many");
    fs::create_dir(&many)?;
    let names: Vec<PathBuf> = (0..FILES).map(|number| many.join(format!("file-{number:05}"))).collect();
    row("create-write-close", FILES, || {
        for name in &names {
            File::create(name)?.write_all(b"a small file\n")?;
        }
        Ok(())
    })?;
    row("readdir-entry", 5 * FILES, || {
        for _ in 0..5 {
            let mut count = 0;
            for entry in fs::read_dir(&many)? {
                black_box(entry?.file_name());
                count += 1;
            }
            check(count == FILES, "readdir")?;
        }
        Ok(())
    })?;
    row("unlink", FILES, || names.iter().try_for_each(fs::remove_file))?;
    fs::remove_dir_all(&root)
}

fn check(holds: bool, what: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(format!("{what}: the wrong content"))) }
}

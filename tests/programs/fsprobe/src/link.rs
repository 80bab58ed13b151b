//! What is measured over a slow link: going through a tree, reading and writing a large file in order.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Lists all directories below `root` and asks for the attributes of everything in them, as `find -printf %s` does.
pub(crate) fn walk(root: &Path) -> Outcome {
    let started = Instant::now();
    let (mut entries, mut bytes) = (0_u64, 0);
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            entries += 1;
            if metadata.is_dir() {
                directories.push(path);
            } else {
                bytes += metadata.len();
            }
        }
    }
    println!("walk: {entries} entries, {bytes} bytes in {:.3} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Reads a file to its end, in pieces.
pub(crate) fn read(path: &Path, piece: usize) -> Outcome {
    let started = Instant::now();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; piece];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => bytes += read,
        }
    }
    report("read", bytes, started.elapsed());
    Ok(())
}

/// Writes a file in pieces, and syncs it.
pub(crate) fn write(path: &Path, mebibytes: usize, piece: usize) -> Outcome {
    let started = Instant::now();
    let mut file = File::create(path)?;
    let buffer = vec![0x5a; piece];
    let mut rest = mebibytes << 20;
    while rest > 0 {
        let here = rest.min(piece);
        file.write_all(&buffer[..here])?;
        rest -= here;
    }
    file.sync_all()?;
    report("write", mebibytes << 20, started.elapsed());
    Ok(())
}

fn report(what: &str, bytes: usize, time: Duration) {
    let seconds = time.as_secs_f64();
    println!("{what}: {bytes} bytes in {seconds:.3} s: {:.1} Mbit/s", bytes as f64 * 8.0 / seconds / 1e6);
}

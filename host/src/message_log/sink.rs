//! Where the lines of a log go.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A file, a pipe, a terminal.
#[derive(Debug)]
pub struct Sink {
    file: File,
    /// Of a regular file: its path, how many bytes are in it, and how many may be.
    rotated: Option<(PathBuf, u64, u64)>,
}

impl Sink {
    /// This process's standard error.
    ///
    /// # Errors
    /// It is closed, or no descriptor is left.
    pub fn standard_error() -> io::Result<Self> {
        // One of its own: who writes to the other one does not wait while this blocks.
        let descriptor = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Self { file: descriptor.into(), rotated: None })
    }

    /// The file at `path`, which is made where there is none, readable for its owner alone; otherwise it is appended to.
    /// When a regular file has `size` bytes, it gets the name `PATH.1`, in place of what had that name, and a new one
    /// begins.
    ///
    /// # Errors
    /// Those of `open(2)`; `ENXIO` for a named pipe that nobody reads.
    pub fn file(path: &Path, size: u64) -> io::Result<Self> {
        let file = open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            // From now on it blocks the log's thread, which is what that is for.
            rustix::io::ioctl_fionbio(&file, false)?;
        }
        let rotated = metadata.is_file().then(|| (path.to_owned(), metadata.len(), size));
        Ok(Self { file, rotated })
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Some((path, written, most)) = &mut self.rotated {
            if *written > 0 && *written + lines.len() as u64 > *most {
                let mut older = OsString::from(&*path);
                older.push(".1");
                fs::rename(&*path, older)?;
                self.file = open(path)?;
                *written = self.file.metadata()?.len();
            }
            *written += lines.len() as u64;
        }
        self.file.write_all(lines)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

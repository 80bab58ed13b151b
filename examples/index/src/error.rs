//! What went wrong, and with which file.

use std::fmt;
use std::io;
use std::path::Path;

/// A failure, said in one line.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds to an I/O error what was being done to which path.
pub(crate) trait Context<T> {
    fn context(self, doing: &str, path: &Path) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, doing: &str, path: &Path) -> Result<T, Error> {
        self.map_err(|error| Error(format!("cannot {doing} {}: {error}", path.display())))
    }
}

//! What the index knows of one file.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::folio::Folio;
use crate::mount::{Attributes, Error, Handle};

/// Which file: the path of its qid, and the number of the opening where openings share nothing, else 0.
pub(super) type Key = (u64, u64);

/// By what the server's contents are known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validator {
    version: u32,
    modified: (i64, u32),
    size: u64,
}

impl From<&Attributes> for Validator {
    fn from(attributes: &Attributes) -> Self {
        let modified = (attributes.modified.seconds, attributes.modified.nanoseconds);
        Self { version: attributes.qid.version, modified, size: attributes.size }
    }
}

/// Who waits for what of a file.
#[derive(Default)]
pub(super) struct Signals {
    /// Held by whoever writes back, or asks the server about contents that must not be written back meanwhile.
    pub(super) flushing: Arc<tokio::sync::Mutex<()>>,
    /// Told each time that a fill has ended.
    pub(super) filled: Notify,
    /// Told each time that something was written back.
    pub(super) written: Notify,
}

/// Pages that are being read from the server.
pub(super) struct Fill {
    pub(super) id: u64,
    pub(super) range: Range<u64>,
    /// [`File::changes`] when it began.
    pub(super) changes: u64,
    /// Some of them have been changed here since.
    pub(super) is_spoiled: bool,
}

/// The size of a file that nobody has told.
pub(super) const UNKNOWN: u64 = i64::MAX as u64;

/// What the index knows of one file.
pub(super) struct File {
    /// By where they start; no two overlap.
    pub(super) folios: BTreeMap<u64, Folio>,
    /// Where it ends, with what was written here; [`UNKNOWN`].
    pub(super) size: u64,
    size_told: Option<Instant>,
    /// [`Mount::contents`](crate::mount::Mount::contents) just before.
    pub(super) size_contents: u64,
    /// As the server had it when what is clean here was read; `None` where that is not sure.
    pub(super) validator: Option<Validator>,
    /// [`Mount::removals`](crate::mount::Mount::removals) when it was last looked at.
    pub(super) removals: u64,
    /// Open files.
    pub(super) opens: u32,
    /// Counts what was done to the contents here.
    pub(super) changes: u64,
    pub(super) fills: Vec<Fill>,
    /// Bytes of folios that the server does not have for sure.
    pub(super) unwritten: u64,
    /// By which they are to be written.
    pub(super) writer: Option<Arc<Handle>>,
    /// A write-back is under way that nobody waits for.
    pub(super) is_written_back: bool,
    /// Why a write-back failed, the latest, and how many have.
    pub(super) failure: Option<Error>,
    pub(super) failures: u64,
    pub(super) signals: Arc<Signals>,
}

impl File {
    pub(super) fn new() -> Self {
        Self {
            folios: BTreeMap::new(),
            size: UNKNOWN,
            size_told: None,
            size_contents: 0,
            validator: None,
            removals: 0,
            opens: 0,
            changes: 0,
            fills: Vec::new(),
            unwritten: 0,
            writer: None,
            is_written_back: false,
            failure: None,
            failures: 0,
            signals: Arc::default(),
        }
    }

    /// Has the server told the size a moment ago?
    pub(super) fn is_size_fresh(&self, timeout: Duration) -> bool {
        self.size_told.is_some_and(|told| told.elapsed() < timeout)
    }

    /// The server has told where the file ends there.
    pub(super) fn tell_size(&mut self, size: u64) {
        self.size = size.max(self.unwritten_end());
        self.size_told = Some(Instant::now());
    }

    /// Where the file ends is not sure any more.
    pub(super) fn doubt_size(&mut self) {
        self.size = UNKNOWN;
        self.size_told = None;
    }

    /// The end of what the server does not have for sure.
    fn unwritten_end(&self) -> u64 {
        if self.unwritten == 0 {
            return 0;
        }
        let end = |(start, folio): (&u64, &Folio)| match folio.unwritten_end() {
            0 => 0,
            end => start + u64::from(end),
        };
        self.folios.iter().map(end).max().unwrap_or(0)
    }

    /// The folio that `offset` is in, and where that starts.
    pub(super) fn folio_at(&mut self, offset: u64) -> Option<(u64, &mut Folio)> {
        let (&start, folio) = self.folios.range_mut(..=offset).next_back()?;
        (offset - start < u64::from(folio.len())).then_some((start, folio))
    }

    /// What is being read of these bytes is not to be kept.
    pub(super) fn spoil(&mut self, range: Range<u64>) {
        self.changes += 1;
        for fill in &mut self.fills {
            fill.is_spoiled |= fill.range.start < range.end && range.start < fill.range.end;
        }
    }

    /// Is there nothing that anybody could want to know?
    pub(super) fn is_idle(&self) -> bool {
        self.opens == 0 && self.folios.is_empty() && self.fills.is_empty() && self.writer.is_none()
    }
}

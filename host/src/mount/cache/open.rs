//! Files that programs have open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Cache, CacheMode, FRESH, Moment,
    file::{File, Key, Signals, UNKNOWN, Validator},
    index::Trust,
    read::ReadAhead,
    shared,
};
use crate::mount::{Attributes, Handle, Result};

/// A file of a mount with a cache, as somebody has it open.
pub(crate) struct CachedFile {
    pub(super) cache: Arc<Cache>,
    pub(super) handle: Arc<Handle>,
    pub(super) key: Key,
    pub(super) signals: Arc<Signals>,
    pub(super) ahead: Mutex<ReadAhead>,
    /// Failures of write-backs that were there before, or have been told.
    pub(super) told: Mutex<u64>,
    /// The server was asked, since this was opened, whether the file is still what is here, or need not be.
    is_validated: AtomicBool,
}

impl CachedFile {
    /// The file that `handle` was just opened on. `attributes` are the file's, if they were asked for along with it, and when.
    ///
    /// # Errors
    /// Why the server does not tell its attributes.
    pub(in crate::mount) async fn open(
        cache: Arc<Cache>,
        handle: Arc<Handle>,
        attributes: Option<(Attributes, Moment)>,
    ) -> Result<Arc<Self>> {
        let path = handle.qid().path;
        let key = match cache.mode {
            // Openings have nothing in common but the server.
            CacheMode::ReadAhead => (path, 1 + cache.openings.fetch_add(1, Ordering::Relaxed)),
            _ => shared(path),
        };
        let removals = handle.mount().removals();
        let (signals, told, is_known) = {
            let mut index = cache.index.lock();
            let file = index.files.entry(key).or_insert_with(File::new);
            file.opens += 1;
            // A file that was removed may have left its number to another one.
            let is_known = file.size != UNKNOWN && file.removals == removals;
            (Arc::clone(&file.signals), file.failures, is_known)
        };
        let ahead = Mutex::new(ReadAhead::new(cache.largest_window));
        let needs_none = match cache.mode {
            CacheMode::ReadAhead => true,
            CacheMode::Loose => is_known,
            _ => false,
        };
        let is_validated = AtomicBool::new(needs_none);
        let opened = Arc::new(Self { cache, handle, key, signals, ahead, told: Mutex::new(told), is_validated });
        // Where nothing is saved by asking early, who opens a file and does not read it does not pay for that.
        if !needs_none && opened.cache.is_remote {
            opened.validate(attributes).await?;
        }
        Ok(opened)
    }

    /// May what is here be believed to be what the file was when it was opened, or is?
    pub(super) fn is_validated(&self) -> bool {
        self.is_validated.load(Ordering::Acquire)
    }

    /// Asks the server whether the file is still what is here.
    pub(super) async fn validate(&self, attributes: Option<(Attributes, Moment)>) -> Result<()> {
        let removals = self.handle.mount().removals();
        // Meanwhile nothing is written back: what the server tells is to be either with it or without.
        let flushing = self.signals.flushing.lock().await;
        let is_written = self.cache.index.lock().files.get(&self.key).is_none_or(|file| file.unwritten == 0);
        let attributes = match attributes {
            Some((attributes, moment)) if is_written && self.cache.is_now(moment) => attributes,
            _ => {
                self.cache.flush_locked(self.key, true, false).await;
                self.handle.ask_attributes().await?
            }
        };
        let mut index = self.cache.index.lock();
        index.validate(self.key, Validator::from(&attributes), attributes.size);
        if let Some(file) = index.files.get_mut(&self.key) {
            file.removals = removals;
        }
        drop(index);
        drop(flushing);
        self.is_validated.store(true, Ordering::Release);
        Ok(())
    }

    /// What may be believed now.
    pub(super) fn trust(&self) -> Trust {
        match self.cache.mode {
            CacheMode::ReadAhead => {
                let contents = self.handle.mount().contents(self.key.0);
                Trust { contents: Some((FRESH, contents)), size: FRESH }
            }
            CacheMode::Loose => Trust { contents: None, size: Duration::MAX },
            _ => Trust { contents: None, size: self.cache.attribute_timeout },
        }
    }

    /// A number that changes when the contents of the file are changed by this mount, here or on the server.
    pub(crate) fn contents(&self) -> u64 {
        let written = self.handle.mount().contents(self.key.0);
        match self.takes_writes() {
            true => self.cache.index.lock().files.get(&self.key).map_or(0, |file| file.changes).wrapping_add(written),
            false => written,
        }
    }

    /// Is what is written kept here for a while, too?
    pub(in crate::mount) fn takes_writes(&self) -> bool {
        self.cache.writes_back()
    }
}

impl Drop for CachedFile {
    fn drop(&mut self) {
        let mut index = self.cache.index.lock();
        let mut writer = None;
        if let Some(file) = index.files.get_mut(&self.key) {
            file.opens -= 1;
            if file.unwritten == 0 {
                writer = file.writer.take();
            }
        }
        if self.cache.mode == CacheMode::ReadAhead {
            index.set_size(self.key, 0);
        }
        index.forget_if_idle(self.key);
        drop(index);
        // Closes the file, perhaps, which is a call of the client.
        drop(writer);
    }
}

//! By what a change of a file is noticed.

use std::time::Duration;

use super::{Handle, Result, unexpected, yielded};
use crate::mount::{Buffers, FileVersion, Qid, Timestamp, component::vfs::Value};

impl Handle {
    /// Asks the server for what changes with the file: its qid, whose version changes with the contents where the server
    /// keeps one, its size, and its times. One request, and no cache is asked.
    pub async fn version(&self) -> Result<FileVersion> {
        let outcome =
            self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| vfs.call_version(store, self.node));
        yielded!(outcome.await, Version)
    }

    /// The version that the file has now, if it is another one than `since`.
    pub async fn changed_since(&self, since: FileVersion) -> Result<Option<FileVersion>> {
        let now = self.version().await?;
        Ok((numbers(now) != numbers(since)).then_some(now))
    }

    /// Waits until the file has another version than `since`, and tells which. The server is asked at this interval: 9P has no
    /// way for it to tell by itself.
    pub async fn wait_for_change(&self, since: FileVersion, interval: Duration) -> Result<FileVersion> {
        loop {
            if let Some(now) = self.changed_since(since).await? {
                return Ok(now);
            }
            tokio::time::sleep(interval).await;
        }
    }
}

/// All that is in a version, to be compared.
fn numbers(version: FileVersion) -> (u32, u64, u64, (i64, u32), (i64, u32)) {
    let FileVersion { qid: Qid { version, path, .. }, size, modified, changed } = version;
    let time = |Timestamp { seconds, nanoseconds }| (seconds, nanoseconds);
    (version, path, size, time(modified), time(changed))
}

//! What the user may do with a file; and special files.

use ninering_wire::Errno;

use super::{Handle, Qid, Result, unexpected, yielded};
use crate::mount::{AccessMode, Buffers, cache::names::Target, component::vfs::Value};

impl Handle {
    /// May the mount's user do that with what `path` names? `EACCES` or `EROFS` if not.
    ///
    /// Whether a regular file may be read or written the server is asked, by opening it. For all else the answer is told
    /// from owner, group and permissions, where the user's only group is the one whose number is the user's own.
    pub async fn access_at(&self, path: &str, follow: bool, mode: AccessMode) -> Result<()> {
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_access(store, self.node, path, follow, mode)
        });
        yielded!(outcome.await)?;
        if mode.contains(AccessMode::WRITE) { self.writable() } else { Ok(()) }
    }

    /// Makes a special file: `mode` says of which kind (`S_IFIFO`, `S_IFSOCK`, `S_IFCHR`, `S_IFBLK`, or `S_IFREG` for an empty
    /// file) and its permissions. `device` is major and minor number where it is a device.
    pub async fn make_special(&self, path: &str, mode: u32, device: (u32, u32)) -> Result<Qid> {
        self.writable()?;
        let _change = self.changing_names(|directory| Target::NewName(directory, path));
        let (major, minor) = device;
        let outcome = self.mount.operate(self.incarnation, Buffers::new(), |vfs, store, _| {
            vfs.call_make_special(store, self.node, path, mode, major, minor)
        });
        yielded!(outcome.await, Qid)
    }

    /// Makes a named pipe.
    pub async fn make_fifo(&self, path: &str, permissions: u32) -> Result<Qid> {
        use ninering_wire::mode::{IFIFO, PERMISSIONS};
        if permissions & !PERMISSIONS != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.make_special(path, IFIFO | permissions, (0, 0)).await
    }
}

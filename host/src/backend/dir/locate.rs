//! Where a file is by now.

use std::{os::fd::BorrowedFd, sync::Arc};

use ninering_wire::{Errno, Name};

use super::{export::Export, node::DirNode, wire};

/// How often to look again when it is moved all the time.
const ATTEMPTS: usize = 4;

impl DirNode {
    /// The directory that the file is in, and its name there: one that it has at this moment, or had just now.
    ///
    /// The kernel tells a path, which follows all renames, but is only text. It is taken for a hint: what it says is
    /// walked from the root of the export, name by name as a client would, and counts if it leads to this very file.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a root. `ENOENT` where it has no name in the export any more, or is renamed all the time.
    pub(super) fn find_place(&self) -> Result<(Arc<Self>, Vec<u8>), Errno> {
        let root = self.root().ok_or(Errno::EOPNOTSUPP)?;
        for _ in 0..ATTEMPTS {
            let path = path_of(self.export(), self.descriptor())?;
            let above = path_of(self.export(), root.descriptor())?;
            // The export may be the root directory itself.
            let below = path.strip_prefix(above.strip_suffix(b"/").unwrap_or(&above));
            let Some(below) = below.and_then(|below| below.strip_prefix(b"/")) else { continue };
            let mut names: Vec<_> = below.split(|&byte| byte == b'/').collect();
            let Some(name) = names.pop() else { continue };
            let walk = names.iter().try_fold(Arc::clone(&root), |directory, name| directory.entry(Name::new(name)?));
            let found = walk.and_then(|directory| {
                let found = directory.find(Name::new(name)?, Export::IDENTITY)?;
                Ok((directory, self.is_same(&found.1)))
            });
            if let Ok((directory, true)) = found {
                return Ok((directory, name.to_vec()));
            }
        }
        Err(Errno::ENOENT)
    }
}

/// The path of what `descriptor` holds, as the kernel tells it.
fn path_of(export: &Export, descriptor: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    export.path_hint(descriptor).map_err(wire)
}

//! The `Tread` of a directory, whose contents are the [`Stat`](ninering_wire::legacy::Stat)s of its files.

use std::{marker::PhantomData, sync::Arc};

use ninering_wire::{
    Errno, Name, Qid, getattr,
    legacy::{Dialect, Stat},
};
use parking_lot::Mutex;

use super::stat::Described;
use crate::{
    backend::{Entry, NodeRef, OpenFile, OpenRef},
    payload::Payload,
    server::{Server, attach::Attach},
};

/// How many entries are taken from the directory at a time.
const AT_A_TIME: usize = 256;

/// An open directory, read as a stream of stats.
pub(super) struct StatStream<D> {
    node: NodeRef,
    directory: OpenRef,
    attach: Arc<Attach>,
    server: Arc<Server>,
    position: Mutex<Position>,
    dialect: PhantomData<D>,
}

/// How far it has been read.
#[derive(Clone, Copy, Default)]
struct Position {
    /// Bytes.
    bytes: u64,
    /// Where the directory's entries go on.
    offset: u64,
}

/// An entry, taken out of the directory.
struct Found {
    qid: Qid,
    offset: u64,
    kind: u8,
    name: Vec<u8>,
}

impl<D: Dialect> StatStream<D> {
    /// The open `directory`, which is `node`'s.
    pub(super) fn new(node: NodeRef, directory: OpenRef, attach: Arc<Attach>, server: Arc<Server>) -> Self {
        Self { node, directory, attach, server, position: Mutex::default(), dialect: PhantomData }
    }

    /// Entries from `offset` on, no more than `space` bytes of stats have. The directory may be locked while it gives
    /// them, so nothing is asked about their files meanwhile.
    fn entries(&self, offset: u64, space: usize) -> Result<Vec<Found>, Errno> {
        let most = (space / Stat::<D>::FIXED_LEN + 1).min(AT_A_TIME);
        let mut entries = Vec::new();
        let outcome = self.directory.read_directory(offset, &mut |Entry { qid, offset, kind, name }| {
            if entries.len() == most {
                return false;
            }
            entries.push(Found { qid, offset, kind, name: name.to_vec() });
            true
        });
        // What is there already comes first; the error comes again behind it.
        if entries.is_empty() { outcome.map(|()| entries) } else { Ok(entries) }
    }

    /// What to tell of an entry; nothing of `.` and `..`, of what cannot be walked to, and of what is gone by now.
    fn describe(&self, entry: &Found) -> Option<Described> {
        let name = Name::new(&entry.name).ok()?;
        let described = self.node.lookup(name).and_then(|node| {
            let attributes = self.attach.attributes(&*node, getattr::BASIC)?;
            Described::new(&*node, attributes, &self.server.names)
        });
        match described {
            Ok(described) => Some(described),
            Err(Errno::ENOENT) => None,
            Err(_) => Some(Described::unknown(entry.qid, entry.kind)),
        }
    }
}

impl<D: Dialect> OpenFile for StatStream<D> {
    /// Whole stats, as many as fit. `EINVAL` at an offset that is neither 0 nor where the last read ended, and where
    /// not even one fits.
    fn read(&self, offset: u64, into: &Payload<'_>) -> Result<usize, Errno> {
        let mut position = self.position.lock();
        let mut now = match offset {
            0 => Position::default(),
            _ if offset == position.bytes => *position,
            _ => return Err(Errno::EINVAL),
        };
        let space = into.len();
        let (mut filled, mut refused) = (0, false);
        let mut encoded = Vec::new();
        'all: while filled < space {
            let entries = match self.entries(now.offset, space - filled) {
                Ok(entries) => entries,
                Err(error) if filled == 0 => return Err(error),
                Err(_) => break,
            };
            if entries.is_empty() {
                break;
            }
            for entry in &entries {
                if let Some(described) = self.describe(entry) {
                    let stat = described.stat::<D>(&entry.name);
                    let length = stat.encoded_len();
                    if length > space - filled {
                        refused = true;
                        break 'all;
                    }
                    encoded.resize(length, 0);
                    stat.encode(&mut encoded).map_err(|_| Errno::EIO)?;
                    filled += into.part(filled, length).copy_from(&encoded);
                }
                now.offset = entry.offset;
            }
        }
        if filled == 0 && refused {
            return Err(Errno::EINVAL);
        }
        now.bytes += filled as u64;
        *position = now;
        Ok(filled)
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.directory.sync(data_only)
    }
}

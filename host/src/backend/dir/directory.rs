//! An open directory.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use ninering_wire::{Errno, Qid, QidType, dirent_type, mode};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, SeekFrom, StatxFlags};

use super::{node::DirNode, wire};
use crate::backend::{Entry, Node, OpenFile};

/// A directory, open.
pub(super) struct OpenDirectory {
    descriptor: OwnedFd,
    node: Arc<DirNode>,
    stream: Mutex<Stream>,
}

impl OpenDirectory {
    /// The directory `node`, which `descriptor` has open.
    pub(super) fn new(descriptor: OwnedFd, node: Arc<DirNode>) -> Self {
        Self { descriptor, node, stream: Mutex::default() }
    }

    /// An entry as the backend tells it.
    fn entry<'a>(&self, entry: &HostEntry<'a>) -> Result<Entry<'a>, Errno> {
        let path = match entry.name {
            b"." => self.node.qid().path,
            // Not the host's: at the root it would tell of what is outside.
            b".." => self.node.parent_path(),
            _ => self.node.export().path(self.node.device(), entry.inode)?,
        };
        let kind = match entry.kind {
            dirent_type::UNKNOWN => self.kind_of(entry.name),
            known => known,
        };
        let qid_type = QidType::from_mode(u32::from(kind) << 12);
        Ok(Entry { qid: Qid { kind: qid_type, version: 0, path }, offset: entry.next, kind, name: entry.name })
    }

    /// The kind of the entry `name`, of a filesystem that doesn't keep it in its directories.
    fn kind_of(&self, name: &[u8]) -> u8 {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(&self.descriptor, name, flags, StatxFlags::TYPE) {
            Ok(stat) => ((u32::from(stat.stx_mode) & mode::IFMT) >> 12) as u8,
            Err(_) => dirent_type::UNKNOWN,
        }
    }
}

impl OpenFile for OpenDirectory {
    /// Two requests at a time wait for each other: an open directory has one position.
    fn read_directory(&self, offset: u64, take: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), Errno> {
        let mut stream = self.stream.lock();
        stream.go_to(self.descriptor.as_fd(), offset)?;
        if offset == 0 && stream.peek(self.descriptor.as_fd())?.is_none() {
            // There is always an entry, '.'; but ext4 gives none where the first that was read of a directory was its end.
            stream.go_to(self.descriptor.as_fd(), offset)?;
        }
        let mut taken = false;
        loop {
            let entry = match stream.peek(self.descriptor.as_fd()) {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(()),
                // It will meet the request that goes on behind what was taken.
                Err(_) if taken => return Ok(()),
                Err(error) => return Err(error),
            };
            if !take(self.entry(&entry)?) {
                return Ok(());
            }
            let (length, next) = (entry.length, entry.next);
            stream.consume(length, next);
            taken = true;
        }
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        if data_only { rustix::fs::fdatasync(&self.descriptor) } else { rustix::fs::fsync(&self.descriptor) }
            .map_err(wire)
    }
}

/// Where an open directory is, and the entries that the kernel gave but nobody took yet: a reply has less space than
/// a buffer that is worth a system call, and to seek back costs some filesystems a search.
struct Stream {
    buffer: Vec<u8>,
    /// Where in `buffer` the first entry lies that was not taken; the buffer's length when all were.
    start: usize,
    /// The offset of that entry; the kernel's position when all were taken. `None` where a seek failed, and at the end.
    position: Option<u64>,
}

/// A `struct linux_dirent64`.
struct HostEntry<'a> {
    inode: u64,
    next: u64,
    kind: u8,
    name: &'a [u8],
    length: usize,
}

impl Default for Stream {
    fn default() -> Self {
        Self { buffer: Vec::new(), start: 0, position: Some(0) }
    }
}

impl Stream {
    /// Bytes of the buffer: as many as the C library's `readdir` takes.
    const CAPACITY: usize = 32 * 1024;

    /// Makes the entry at `offset` the next one.
    fn go_to(&mut self, directory: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
        // From the beginning means anew, with what was made and removed since.
        let is_there = self.position == Some(offset) && (offset != 0 || self.buffer.is_empty());
        if !is_there {
            self.buffer.clear();
            self.start = 0;
            self.position = None;
            rustix::fs::seek(directory, SeekFrom::Start(offset)).map_err(wire)?;
            self.position = Some(offset);
        }
        Ok(())
    }

    /// The next entry; `None` at the end.
    fn peek(&mut self, directory: BorrowedFd<'_>) -> Result<Option<HostEntry<'_>>, Errno> {
        if self.start == self.buffer.len() {
            self.fill(directory)?;
            if self.buffer.is_empty() {
                return Ok(None);
            }
        }
        // The kernel's entries are whole. Were they not, an error beats a panic.
        HostEntry::parse(&self.buffer[self.start..]).ok_or(Errno::EIO).map(Some)
    }

    /// Makes the entry behind the one that [`Stream::peek`] gave the next one.
    fn consume(&mut self, length: usize, next: u64) {
        self.start += length;
        self.position = Some(next);
    }

    /// Fetches the next entries; none at the end.
    fn fill(&mut self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        self.start = 0;
        self.buffer.clear();
        self.buffer.reserve(Self::CAPACITY);
        let space = self.buffer.spare_capacity_mut();
        // SAFETY: the kernel fills at most `space.len()` bytes from its start.
        let count =
            unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), space.as_mut_ptr(), space.len()) };
        let count = usize::try_from(count).map_err(|_| super::wire_io(&std::io::Error::last_os_error()))?;
        // SAFETY: the kernel has filled so many bytes.
        unsafe { self.buffer.set_len(count) };
        if count == 0 {
            // Whoever has read to the end rarely goes on; if so, from a place that is sought.
            self.buffer = Vec::new();
            self.position = None;
        }
        Ok(())
    }
}

impl<'a> HostEntry<'a> {
    /// Bytes before the name: `d_ino[8] d_off[8] d_reclen[2] d_type[1]`.
    const NAME: usize = 19;

    /// The entry at the front of `bytes`.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::from(u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?));
        let name = bytes.get(Self::NAME..length)?;
        Some(Self {
            inode: u64::from_ne_bytes(bytes[..8].try_into().ok()?),
            next: u64::from_ne_bytes(bytes[8..16].try_into().ok()?),
            kind: bytes[18],
            name: &name[..name.iter().position(|&byte| byte == 0)?],
            length,
        })
    }
}

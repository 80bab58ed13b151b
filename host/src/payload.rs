//! Scattered memory that bulk data is moved into or out of, in place.
//!
//! It may be descriptors of a ring, which the other side can change at any moment, or a buffer of a socket. So
//! there are no references into it: bytes are copied in and out by volatile access, or moved by the kernel.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use smallvec::SmallVec;
use vm_memory::VolatileSlice;

/// Pieces of memory, one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Payload<'a> {
    pieces: SmallVec<[VolatileSlice<'a>; 4]>,
}

/// How many pieces the kernel takes in one call (`IOV_MAX`).
const MOST_PIECES: usize = 1024;

impl<'a> Payload<'a> {
    /// No memory at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: VolatileSlice<'a>) {
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(VolatileSlice::len).sum()
    }

    /// Is there no byte?
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The part of it from `start` on, at most `length` bytes; shorter where it ends before.
    pub fn part(&self, start: usize, length: usize) -> Payload<'a> {
        let (mut skip, mut left) = (start, length);
        let mut part = Payload::empty();
        for piece in &self.pieces {
            if left == 0 {
                break;
            }
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let take = left.min(piece.len() - skip);
            if let Ok(piece) = piece.subslice(skip, take) {
                part.push(piece);
            }
            skip = 0;
            left -= take;
        }
        part
    }

    /// Copies `bytes` to its front, as many as there is space for, and tells how many.
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        let mut copied = 0;
        for piece in &self.pieces {
            if copied == bytes.len() {
                break;
            }
            let take = piece.len().min(bytes.len() - copied);
            piece.copy_from(&bytes[copied..copied + take]);
            copied += take;
        }
        copied
    }

    /// Copies from its front to `bytes`, as many as there are, and tells how many.
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut copied = 0;
        for piece in &self.pieces {
            if copied == bytes.len() {
                break;
            }
            let take = piece.len().min(bytes.len() - copied);
            copied += piece.copy_to(&mut bytes[copied..copied + take]);
        }
        copied
    }

    /// Copies from its front to that of `into`, as many bytes as both have, and tells how many.
    pub fn copy_to_payload(&self, into: &Payload<'_>) -> usize {
        let mut copied = 0;
        for piece in &self.pieces {
            let mut taken = 0;
            for space in &into.part(copied, piece.len()).pieces {
                if let Ok(piece) = piece.subslice(taken, space.len()) {
                    piece.copy_to_volatile_slice(*space);
                    taken += space.len();
                }
            }
            copied += taken;
        }
        copied
    }

    /// Reads from a file at `offset` into the front of it (`preadv`).
    ///
    /// # Errors
    /// The system call's.
    pub fn read_from_file(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let (_guards, vectors) = self.vectors();
        // SAFETY: each vector names memory that `self` holds a slice of, and the guards keep it mapped.
        self.transfer(|| unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as _, offset as _) })
    }

    /// As [`Self::read_from_file`], of what is in the page cache (`preadv2` with `RWF_NOWAIT`); fewer bytes where only
    /// the first ones are.
    ///
    /// # Errors
    /// The system call's: `EAGAIN` where it would have to wait, `EOPNOTSUPP` where the filesystem cannot tell.
    pub fn read_from_file_now(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let (_guards, vectors) = self.vectors();
        // SAFETY: as in `read_from_file`.
        self.transfer(|| unsafe {
            libc::preadv2(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as _, offset as _, libc::RWF_NOWAIT)
        })
    }

    /// Writes the front of it to a file at `offset` (`pwritev`).
    ///
    /// # Errors
    /// The system call's.
    pub fn write_to_file(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let (_guards, vectors) = self.vectors();
        // SAFETY: as in `read_from_file`.
        self.transfer(|| unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as _, offset as _) })
    }

    /// Reads from a stream, such as a socket (`readv`); 0 at its end.
    ///
    /// # Errors
    /// The system call's.
    pub fn read_from_stream(&self, stream: BorrowedFd<'_>) -> io::Result<usize> {
        let (_guards, vectors) = self.vectors();
        // SAFETY: as in `read_from_file`.
        self.transfer(|| unsafe { libc::readv(stream.as_raw_fd(), vectors.as_ptr(), vectors.len() as _) })
    }

    /// Writes to a stream, such as a socket (`writev`).
    ///
    /// # Errors
    /// The system call's.
    pub fn write_to_stream(&self, stream: BorrowedFd<'_>) -> io::Result<usize> {
        let (_guards, vectors) = self.vectors();
        // SAFETY: as in `read_from_file`.
        self.transfer(|| unsafe { libc::writev(stream.as_raw_fd(), vectors.as_ptr(), vectors.len() as _) })
    }

    fn vectors(&self) -> (SmallVec<[vm_memory::volatile_memory::PtrGuardMut; 4]>, SmallVec<[libc::iovec; 4]>) {
        let guards: SmallVec<[_; 4]> = self.pieces.iter().take(MOST_PIECES).map(VolatileSlice::ptr_guard_mut).collect();
        let vectors =
            guards.iter().map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() }).collect();
        (guards, vectors)
    }

    fn transfer(&self, mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
        loop {
            match usize::try_from(call()) {
                Ok(count) => return Ok(count),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl<'a> From<VolatileSlice<'a>> for Payload<'a> {
    fn from(piece: VolatileSlice<'a>) -> Self {
        let mut payload = Self::empty();
        payload.push(piece);
        payload
    }
}

impl<'a> From<&'a mut [u8]> for Payload<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        VolatileSlice::from(bytes).into()
    }
}

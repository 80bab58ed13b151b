//! A connection's bytes: a socket of any family, or a pair of descriptors.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use bytes::BytesMut;
use rustix::{
    fs::{FileType, OFlags},
    net::{Shutdown, shutdown},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

use super::{Keepalive, acceptor::prepare};
use crate::server::Peer;

/// The two directions of a connection; in a tokio runtime.
pub(super) fn open(ends: Ends) -> io::Result<(Input, Output)> {
    let closed = Arc::new(Notify::new());
    let (input, output) = match ends {
        Ends::Socket(socket) => {
            let both = Arc::new(register(socket, Interest::READABLE | Interest::WRITABLE)?);
            (Arc::clone(&both), both)
        }
        Ends::Pair { input, output } => {
            (Arc::new(register(input, Interest::READABLE)?), Arc::new(register(output, Interest::WRITABLE)?))
        }
    };
    Ok((Input { descriptor: input, closed: Arc::clone(&closed) }, Output { descriptor: output, closed }))
}

/// What a connection's bytes come from and go to.
#[derive(Debug)]
pub(super) enum Ends {
    /// One socket.
    Socket(OwnedFd),
    /// One descriptor to read from, and one to write to.
    Pair { input: OwnedFd, output: OwnedFd },
}

impl Ends {
    /// Sets up a socket for a connection with `peer`.
    pub(super) fn prepare(&self, peer: &Peer, keepalive: Option<Keepalive>) -> io::Result<()> {
        match self {
            Self::Socket(socket) => prepare(socket.as_fd(), peer, keepalive),
            Self::Pair { .. } => Ok(()),
        }
    }
}

fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = rustix::fs::fcntl_getfl(&descriptor)?;
    rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` names one open descriptor for as long as it lives, and nobody can replace it in there.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Refuses a descriptor that cannot be waited for, or would be of no use.
pub(super) fn check_kind(descriptor: &OwnedFd) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode);
    if matches!(kind, FileType::Socket | FileType::Fifo) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a socket nor a pipe"))
}

/// Do the two name one socket, as standard input and output do for a service that inetd starts?
pub(super) fn are_one_socket(one: &OwnedFd, other: &OwnedFd) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    let kind = FileType::from_raw_mode(one.st_mode);
    Ok(kind == FileType::Socket && (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Where requests come from.
#[derive(Debug)]
pub(super) struct Input {
    descriptor: Arc<AsyncFd<OwnedFd>>,
    closed: Arc<Notify>,
}

impl Input {
    /// Appends what is there to `bytes`, as far as its capacity goes, and tells how much that was: 0 at the end, be it
    /// the peer's or [`Output::close`]'s. Waits until there is something.
    pub(super) async fn read(&self, bytes: &mut BytesMut) -> io::Result<usize> {
        loop {
            let mut ready = tokio::select! {
                ready = self.descriptor.readable() => ready?,
                () = self.closed.notified() => return Ok(0),
            };
            let space = bytes.spare_capacity_mut();
            let capacity = space.len();
            match rustix::io::read(ready.get_inner(), space).map(|(read, _)| read.len()) {
                Ok(count) => {
                    if count > 0 && count < capacity {
                        // That was all. What comes from now on is told anew, and so are ends, which stay ready.
                        ready.clear_ready();
                    }
                    // SAFETY: the kernel has filled the first `count` bytes of the spare capacity.
                    unsafe { bytes.set_len(bytes.len() + count) };
                    return Ok(count);
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Where replies go.
#[derive(Debug)]
pub(super) struct Output {
    descriptor: Arc<AsyncFd<OwnedFd>>,
    closed: Arc<Notify>,
}

impl Output {
    /// Writes as much as there is space for now; `WouldBlock` where there is none.
    pub(super) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.descriptor.try_io(Interest::WRITABLE, |descriptor| Ok(rustix::io::writev(descriptor, pieces)?))
    }

    /// Waits until there is space.
    pub(super) async fn writable(&self) -> io::Result<()> {
        let mut ready = self.descriptor.writable().await?;
        ready.retain_ready();
        Ok(())
    }

    /// Ends the connection in both directions. Of a pair of descriptors, the other side sees it when they are dropped.
    pub(super) fn close(&self) {
        // It fails only where the peer was faster, and for what is no socket.
        let _ = shutdown(self.descriptor.get_ref().as_fd(), Shutdown::Both);
        self.closed.notify_one();
    }
}

//! A connection's bytes: a socket of any family, or a pair of descriptors.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Instant,
};

use bytes::BytesMut;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, OFlags},
    net::{SendAncillaryBuffer, SendFlags, Shutdown, shutdown},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

use super::{Keepalive, acceptor::prepare};
use crate::server::Peer;

/// The two directions of a connection; in a tokio runtime.
///
/// A socket's [`Input::read`] waits as a system call does, so it wants a thread of its own. On Linux that takes two system
/// calls a request less work than to be told by the runtime when there is something to read, and a request that waits
/// for a disk keeps nobody else waiting. Pipes, which nothing can wake a thread from, are awaited.
pub(super) fn open(ends: Ends) -> io::Result<(Input, Output)> {
    let closed = Arc::new(Notify::new());
    let (input, output) = match ends {
        Ends::Socket(socket) => {
            let flags = rustix::fs::fcntl_getfl(&socket)?;
            rustix::fs::fcntl_setfl(&socket, flags & !OFlags::NONBLOCK)?;
            let socket = Arc::new(socket);
            (InputDescriptor::Socket(Arc::clone(&socket)), OutputDescriptor::Socket(socket))
        }
        Ends::Pair { input, output } => (
            InputDescriptor::Pipe(register(input, Interest::READABLE)?),
            OutputDescriptor::Pipe(register(output, Interest::WRITABLE)?),
        ),
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

/// Has the runtime wait for a descriptor, which then never waits itself.
pub(crate) fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
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
    descriptor: InputDescriptor,
    closed: Arc<Notify>,
}

#[derive(Debug)]
enum InputDescriptor {
    /// One that blocks.
    Socket(Arc<OwnedFd>),
    Pipe(AsyncFd<OwnedFd>),
}

impl Input {
    /// Does [`Self::read`] keep the thread while it waits?
    pub(super) fn blocks(&self) -> bool {
        matches!(self.descriptor, InputDescriptor::Socket(_))
    }

    /// Appends what is there to `bytes`, as far as its capacity goes, and tells how much that was: 0 at the end, be it
    /// the peer's or [`Output::close`]'s. Waits until there is something.
    pub(super) async fn read(&self, bytes: &mut BytesMut) -> io::Result<usize> {
        let pipe = match &self.descriptor {
            InputDescriptor::Socket(socket) => loop {
                match append(socket, bytes) {
                    Err(rustix::io::Errno::INTR) => {}
                    read => return Ok(read?),
                }
            },
            InputDescriptor::Pipe(pipe) => pipe,
        };
        loop {
            let mut ready = tokio::select! {
                ready = pipe.readable() => ready?,
                () = self.closed.notified() => return Ok(0),
            };
            let capacity = bytes.capacity() - bytes.len();
            match append(ready.get_inner(), bytes) {
                Ok(count) => {
                    if count > 0 && count < capacity {
                        // That was all. What comes from now on is told anew, and so are ends, which stay ready.
                        ready.clear_ready();
                    }
                    return Ok(count);
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Reads into the spare capacity of `bytes`.
fn append(descriptor: &OwnedFd, bytes: &mut BytesMut) -> rustix::io::Result<usize> {
    let count = rustix::io::read(descriptor, bytes.spare_capacity_mut()).map(|(read, _)| read.len())?;
    // SAFETY: the kernel has filled the first `count` bytes of the spare capacity.
    unsafe { bytes.set_len(bytes.len() + count) };
    Ok(count)
}

/// Where replies go.
#[derive(Debug)]
pub(super) struct Output {
    descriptor: OutputDescriptor,
    closed: Arc<Notify>,
}

#[derive(Debug)]
enum OutputDescriptor {
    /// One that blocks, but where each call says otherwise.
    Socket(Arc<OwnedFd>),
    Pipe(AsyncFd<OwnedFd>),
}

impl Output {
    /// Writes as much as there is space for now; `WouldBlock` where there is none.
    pub(super) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.descriptor {
            OutputDescriptor::Socket(socket) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                if let [piece] = pieces {
                    // For one, the kernel has less to look at.
                    return Ok(rustix::net::send(socket, piece, flags)?);
                }
                Ok(rustix::net::sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), flags)?)
            }
            OutputDescriptor::Pipe(pipe) => {
                pipe.try_io(Interest::WRITABLE, |descriptor| Ok(rustix::io::writev(descriptor, pieces)?))
            }
        }
    }

    /// Waits for space, and keeps the thread while it does; `false` where there is none by the deadline.
    pub(super) fn is_writable_by(&self, deadline: Instant) -> bool {
        let OutputDescriptor::Socket(socket) = &self.descriptor else { return false };
        let Ok(left) = deadline.saturating_duration_since(Instant::now()).try_into() else { return false };
        // Where the peer is gone there is space, too: who writes learns it.
        matches!(poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&left)), Ok(1..))
    }

    /// Waits until there is space. One task at a time may.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match &self.descriptor {
            OutputDescriptor::Socket(socket) => {
                // Only while it is needed: else the runtime would be woken whenever the peer takes a reply.
                let socket = Arc::clone(socket);
                // SAFETY: the descriptor is open for as long as the `Arc` of it lives, and nobody can replace it in there.
                let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::WRITABLE) }?;
                socket.writable().await?.retain_ready();
            }
            OutputDescriptor::Pipe(pipe) => pipe.writable().await?.retain_ready(),
        }
        Ok(())
    }

    /// Lets a thread that waits in [`Input::read`] go on: there will be nothing more to read.
    pub(super) fn stop_reading(&self) {
        if let OutputDescriptor::Socket(socket) = &self.descriptor {
            // It fails only where the peer was faster.
            let _ = shutdown(socket, Shutdown::Read);
        }
    }

    /// Ends the connection in both directions. Of a pair of descriptors, the other side sees it when they are dropped.
    pub(super) fn close(&self) {
        if let OutputDescriptor::Socket(socket) = &self.descriptor {
            // It fails only where the peer was faster.
            let _ = shutdown(socket, Shutdown::Both);
        }
        self.closed.notify_one();
    }
}

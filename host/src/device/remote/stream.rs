//! The socket: how it is connected, and read and written without waiting.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{io::Errno, net::sockopt::socket_error};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpStream, UnixStream},
};

use crate::{
    listener::{self, Address},
    payload::Payload,
};

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// To an address in a network.
    Tcp(TcpStream),
    /// To a path on this machine.
    Unix(UnixStream),
    /// To a virtual machine, or from there to its host.
    Vsock(AsyncFd<OwnedFd>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The system says so.
    #[error("cannot connect to {address}: {source}")]
    Refused {
        /// Where to.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("cannot connect to {address}: no answer within {timeout:?}")]
    Timeout {
        /// Where to.
        address: String,
        /// How long was waited.
        timeout: Duration,
    },
}

/// Connects to a server.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(address: &Address, timeout: Duration) -> Result<Stream, ConnectError> {
    let connecting = async {
        Ok(match address {
            Address::Tcp(host_and_port) => {
                let stream = TcpStream::connect(host_and_port).await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
            Address::Vsock { context, port } => Stream::Vsock(connect_vsock(*context, *port).await?),
            Address::Descriptor(_) | Address::Descriptors { .. } | Address::Stdio => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "a client connects to tcp://, unix:// and vsock:// alone",
                ));
            }
        })
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected.map_err(|source| ConnectError::Refused { address: address.to_string(), source }),
        Err(_) => Err(ConnectError::Timeout { address: address.to_string(), timeout }),
    }
}

async fn connect_vsock(context: u32, port: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None).map_err(listener::no_vsock)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::vsock(context, port)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {}
        connected => connected?,
    }
    let stream = listener::register(socket.into(), Interest::READABLE | Interest::WRITABLE)?;
    drop(stream.writable().await?);
    socket_error(&stream)?.map(|()| stream).map_err(Into::into)
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Stream {
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
            Self::Vsock(stream) => stream.readable().await.map(drop),
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
            Self::Vsock(stream) => stream.writable().await.map(drop),
        }
    }

    pub(super) fn try_read(&self, into: &Payload<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || into.read_from_stream(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || into.read_from_stream(stream.as_fd())),
            Self::Vsock(stream) => {
                stream.try_io(Interest::READABLE, |descriptor| into.read_from_stream(descriptor.as_fd()))
            }
        }
    }

    pub(super) fn try_write(&self, from: &Payload<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, || from.write_to_stream(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, || from.write_to_stream(stream.as_fd())),
            Self::Vsock(stream) => {
                stream.try_io(Interest::WRITABLE, |descriptor| from.write_to_stream(descriptor.as_fd()))
            }
        }
    }

    pub(super) fn shut_down(&self) {
        let how = rustix::net::Shutdown::Both;
        // It fails where the connection is gone already.
        let _ = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, how),
            Self::Unix(stream) => rustix::net::shutdown(stream, how),
            Self::Vsock(stream) => rustix::net::shutdown(stream, how),
        };
    }
}

//! The socket: how it is connected, and read and written without waiting.

use std::{io, os::fd::AsFd, time::Duration};

use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

use crate::{listener::Address, payload::Payload};

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// To an address in a network.
    Tcp(TcpStream),
    /// To a path on this machine.
    Unix(UnixStream),
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
            Address::Vsock { .. } | Address::Descriptor(_) | Address::Descriptors { .. } | Address::Stdio => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "a client connects to tcp:// and unix:// alone",
                ));
            }
        })
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => connected.map_err(|source| ConnectError::Refused { address: address.to_string(), source }),
        Err(_) => Err(ConnectError::Timeout { address: address.to_string(), timeout }),
    }
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
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    pub(super) fn try_read(&self, into: &Payload<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || into.read_from_stream(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || into.read_from_stream(stream.as_fd())),
        }
    }

    pub(super) fn try_write(&self, from: &Payload<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, || from.write_to_stream(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, || from.write_to_stream(stream.as_fd())),
        }
    }

    pub(super) fn shut_down(&self) {
        let how = rustix::net::Shutdown::Both;
        // It fails where the connection is gone already.
        let _ = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, how),
            Self::Unix(stream) => rustix::net::shutdown(stream, how),
        };
    }
}

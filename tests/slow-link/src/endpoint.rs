//! Sockets of either kind.

use std::{
    fmt,
    io::{self, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    str::FromStr,
};

/// Where to listen, or to connect to: `tcp://HOST:PORT` or `unix://PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and a port.
    Tcp(String),
    /// A socket in the filesystem.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("tcp", address)) => Ok(Self::Tcp(address.into())),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            _ => Err(format!("'{text}' is neither tcp://HOST:PORT nor unix://PATH")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "tcp://{address}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

/// A connected socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that others connect to.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Endpoint {
    pub(crate) fn connect(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(address) => Socket::tcp(TcpStream::connect(address)?)?,
            Self::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        })
    }

    pub(crate) fn listen(&self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(address) => Listener::Tcp(TcpListener::bind(address)?),
            Self::Unix(path) => Listener::Unix(UnixListener::bind(path)?),
        })
    }
}

impl Listener {
    pub(crate) fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => Socket::tcp(listener.accept()?.0)?,
            Self::Unix(listener) => Socket::Unix(listener.accept()?.0),
        })
    }

    /// Where it is to be reached, the port chosen.
    pub(crate) fn endpoint(&self, asked: &Endpoint) -> io::Result<Endpoint> {
        Ok(match self {
            Self::Tcp(listener) => Endpoint::Tcp(listener.local_addr()?.to_string()),
            Self::Unix(_) => asked.clone(),
        })
    }
}

impl Socket {
    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => { stream }.write_all(bytes),
            Self::Unix(stream) => { stream }.write_all(bytes),
        }
    }

    pub(crate) fn shut_down(&self, how: Shutdown) {
        // It fails where the connection is gone already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

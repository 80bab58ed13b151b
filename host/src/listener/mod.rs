//! Serving over sockets: `tcp://` and `unix://`.
//!
//! A [`Listener`] accepts connections and gives each a [`Session`](crate::server::Session). Where to look: `address`
//! (how an [`Address`] is written), `connection` (from a socket's bytes to requests and back), `in_flight` (the order
//! that `Tflush` and `Tversion` ask for), `outgoing` (replies on their way), `budget` and `buffers` (their memory).

mod address;
mod budget;
mod buffers;
mod connection;
mod in_flight;
mod outgoing;

use std::{
    fs, io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

pub use self::address::{Address, AddressError};
use self::{buffers::Buffers, outgoing::Socket};
use crate::server::Server;

/// How many connections a listener serves at a time unless it is told.
const DEFAULT_MAX_CONNECTIONS: usize = 1024;
/// How long no connection is accepted after one could not be, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that clients can connect to.
pub struct Listener {
    socket: Bound,
    address: Address,
    max_connections: usize,
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Binds `address`: from now on, clients can connect, and wait for [`Self::serve`].
    ///
    /// The file of a Unix socket is made as the process's umask says, and removed when the listener is dropped or has
    /// served. One that is there already is replaced if nobody listens on it any more.
    ///
    /// # Errors
    /// What the system calls say; `AddrInUse` where somebody listens on the Unix socket, `AlreadyExists` where the
    /// path is a file of another kind.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        let (socket, address) = match address {
            Address::Tcp(host_and_port) => {
                let candidates: Vec<_> = tokio::net::lookup_host(host_and_port).await?.collect();
                let listener = TcpListener::bind(&*candidates)?;
                listener.set_nonblocking(true)?;
                let local = listener.local_addr()?.to_string();
                (Bound::Tcp(listener), Address::Tcp(local))
            }
            Address::Unix(path) => {
                let listener = bind_unix(path)?;
                let file = SocketFile::new(path)?;
                listener.set_nonblocking(true)?;
                (Bound::Unix(listener, file), Address::Unix(path.clone()))
            }
        };
        Ok(Self { socket, address, max_connections: DEFAULT_MAX_CONNECTIONS })
    }

    /// Sets how many connections are served at a time (1,024 unless set); more wait to be accepted.
    pub fn with_max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// Serves `server` until `shutdown` completes. Then no more requests are read, those under way are answered, and
    /// the connections are closed, those of clients that do not take their replies after some seconds.
    ///
    /// To be called in a tokio runtime that has its I/O and time drivers enabled. What waits runs in its pool of
    /// blocking threads.
    ///
    /// # Errors
    /// When the socket cannot be registered with the runtime. What goes wrong on one connection is logged and ends that.
    pub async fn serve(self, server: Arc<Server>, shutdown: impl Future) -> io::Result<()> {
        let acceptor = match self.socket {
            Bound::Tcp(listener) => Acceptor::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Bound::Unix(listener, file) => Acceptor::Unix(tokio::net::UnixListener::from_std(listener)?, file),
        };
        let slots = Arc::new(Semaphore::new(self.max_connections));
        let buffers = Arc::new(Buffers::default());
        let (stop, stopping) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, acceptor.accept().await)
            };
            tokio::select! {
                _ = &mut shutdown => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                }
                (slot, accepted) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        let serving = connection::serve(stream, peer, &server, &buffers, stopping.clone());
                        connections.spawn(async move {
                            serving.await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // Removes the socket's file, so that nobody connects who would not be served.
        drop(acceptor);
        drop(stop);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, #[expect(dead_code, reason = "removes the file when dropped")] SocketFile),
}

/// The two halves of a connection's socket.
enum Stream {
    Tcp(tokio::net::tcp::OwnedReadHalf, Socket),
    Unix(tokio::net::unix::OwnedReadHalf, Socket),
}

impl Acceptor {
    /// The next connection, and what to call its peer in a log.
    async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                Ok((Stream::Tcp(read, Socket::Tcp(write)), peer.to_string()))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = match stream.peer_cred().ok().and_then(|peer| peer.pid()) {
                    Some(process) => format!("process {process}"),
                    None => "a local process".to_owned(),
                };
                let (read, write) = stream.into_split();
                Ok((Stream::Unix(read, Socket::Unix(write)), peer))
            }
        }
    }
}

/// Binds a Unix socket, in place of one that nobody listens on.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        bound => return bound,
    }
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let text = format!("{} exists and is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => UnixListener::bind(path),
        _ => {
            let text = format!("somebody listens on {} already", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

/// The file of a Unix socket, removed when this is dropped, unless another one is in its place by then.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { identity: identity(path)?, path: path.to_owned() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // It is a courtesy: a file that stays is replaced by who binds the path next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

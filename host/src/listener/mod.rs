//! Serving over sockets of any kind, and over pipes.
//!
//! A [`Listener`] accepts connections and gives each a [`Session`](crate::server::Session); several can share one
//! [`Resources`], which says what all their clients together may use. Where to look: `address` (how an [`Address`] is
//! written), `acceptor` (sockets that listen, and who connects), `inherited` (descriptors that the process was started
//! with), `limits` and `resources` (what clients may use, and what they do), `watchdog` (how long they may take),
//! `stream` (a connection's bytes), `thread` (a socket's own), `connection` (from bytes to requests and back), `in_flight`
//! (the order that `Tflush` and `Tversion` ask for), `locking` (locks that are waited for), `outgoing` (replies on their
//! way), `budget` and `buffers` (their memory).

mod acceptor;
mod address;
mod budget;
mod buffers;
mod connection;
mod in_flight;
mod inherited;
mod limits;
mod locking;
mod outgoing;
mod resources;
mod stream;
mod thread;
mod watchdog;

use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};

use socket2::{Domain, SockAddr, Socket};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::{JoinError, JoinSet},
    time::timeout,
};

pub(crate) use self::{acceptor::no_vsock, stream::register};
use self::{
    acceptor::{Acceptor, SocketFile, address_of, peer_of},
    connection::Connection,
    stream::Ends,
    watchdog::Watchdog,
};
pub use self::{
    address::{Address, AddressError},
    limits::{Keepalive, Limits},
    resources::{Resources, Usage},
};
use crate::server::{Limit, Peer, Server};

/// How long after [`Limits::drain`] connections may take to close.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A socket that clients can connect to, or a client that is connected already.
#[derive(Debug)]
pub struct Listener {
    source: Connections,
    address: Address,
    resources: Arc<Resources>,
}

/// Where connections come from.
#[derive(Debug)]
enum Connections {
    Accepted(Socket, Option<SocketFile>),
    /// Somebody else has bound it, and said how many may wait.
    Given(Socket),
    /// There is this one, and no other.
    One(Ends, Peer),
}

impl Listener {
    /// Binds `address`: from now on, clients can connect, and wait for [`Self::serve`]. Or takes the descriptors that
    /// the address names, for good.
    ///
    /// The file of a Unix socket is made as the process's umask says, and removed when the listener is dropped or has
    /// served. One that is there already is replaced if nobody listens on it any more.
    ///
    /// # Errors
    /// What the system calls say; `AddrInUse` where somebody listens on the Unix socket, `AlreadyExists` where the
    /// path is a file of another kind; `EBADF` for a descriptor that this process was not started with or that was
    /// taken before, `InvalidInput` for one that is of no use.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        let (socket, file) = match address {
            Address::Tcp(host_and_port) => (acceptor::bind_tcp(host_and_port).await?, None),
            Address::Vsock { context, port } => (acceptor::bind_vsock(*context, *port)?, None),
            Address::Unix(path) => {
                let (socket, file) = acceptor::bind_unix(path)?;
                (socket, Some(file))
            }
            Address::Descriptor(number) => return Self::of_descriptor(inherited::take(*number)?, address),
            Address::Descriptors { input, output } => {
                return Self::of_pair(inherited::take(*input)?, inherited::take(*output)?, address);
            }
            Address::Stdio => {
                let (input, output) = inherited::take_standard()?;
                return Self::of_pair(input, output, address);
            }
        };
        let resources = Resources::new(Limits::default());
        socket.listen(resources.limits().backlog)?;
        let address = match address {
            Address::Unix(_) => address.clone(),
            _ => address_of(&socket)?.unwrap_or_else(|| address.clone()),
        };
        Ok(Self { source: Connections::Accepted(socket, file), address, resources })
    }

    /// Serves a socket: one that listens, or a client at the other end of it.
    fn of_descriptor(descriptor: OwnedFd, address: &Address) -> io::Result<Self> {
        stream::check_kind(&descriptor)?;
        let socket = acceptor::as_socket(descriptor)?;
        let name = address_of(&socket)?.unwrap_or_else(|| address.clone());
        let source = if socket.is_listener()? {
            Connections::Given(socket)
        } else {
            let peer = peer_of(&socket, &socket.peer_addr()?);
            Connections::One(Ends::Socket(socket.into()), peer)
        };
        Ok(Self { source, address: name, resources: Resources::new(Limits::default()) })
    }

    /// Serves the client at the other ends of two descriptors.
    fn of_pair(input: OwnedFd, output: OwnedFd, address: &Address) -> io::Result<Self> {
        for end in [&input, &output] {
            stream::check_kind(end)?;
        }
        if stream::are_one_socket(&input, &output)? {
            return Self::of_descriptor(input, address);
        }
        let source = Connections::One(Ends::Pair { input, output }, Peer::Unknown);
        Ok(Self { source, address: address.clone(), resources: Resources::new(Limits::default()) })
    }

    /// Grants its connections what `limits` say instead of the default; they share it with nobody.
    ///
    /// # Errors
    /// The socket refuses the backlog.
    pub fn with_limits(self, limits: Limits) -> io::Result<Self> {
        self.sharing(&Resources::new(limits))
    }

    /// Takes what its connections use from `resources`, as other listeners may.
    ///
    /// # Errors
    /// The socket refuses the backlog.
    pub fn sharing(mut self, resources: &Arc<Resources>) -> io::Result<Self> {
        self.resources = Arc::clone(resources);
        if let Connections::Accepted(socket, _) = &self.source {
            socket.listen(resources.limits().backlog)?;
        }
        Ok(self)
    }

    /// Where it listens, or what it was given: the port is the real one where 0 was asked for, and a descriptor's is its
    /// socket's address where that has one.
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// Does the kernel tell as which user a client runs?
    pub fn knows_users(&self) -> bool {
        match &self.source {
            Connections::Accepted(socket, _) | Connections::Given(socket) => {
                socket.domain().is_ok_and(|domain| domain == Domain::UNIX)
            }
            Connections::One(_, peer) => matches!(peer, Peer::Process { .. }),
        }
    }

    /// What its connections use.
    pub fn resources(&self) -> &Arc<Resources> {
        &self.resources
    }

    /// Serves `server` until `shutdown` completes, or the one connection that it has is over. At a shutdown no more
    /// requests are read, those under way are answered, and the connections are closed, those of clients that do not
    /// take their replies after [`Limits::drain`].
    ///
    /// To be called in a tokio runtime that has its I/O and time drivers enabled. Each connection of a socket has a thread
    /// of its own; what waits runs in the runtime's pool of blocking threads.
    ///
    /// # Errors
    /// When the socket cannot be registered with the runtime. What goes wrong on one connection is logged and ends that.
    pub async fn serve(self, server: Arc<Server>, shutdown: impl Future) -> io::Result<()> {
        let (stop, stopping) = watch::channel(());
        let mut serving = Serving {
            server,
            watchdog: Watchdog::new(self.resources.limits()),
            resources: self.resources,
            stopping,
            connections: JoinSet::new(),
        };
        let mut acceptor = match self.source {
            Connections::Accepted(socket, file) => Some(Acceptor::new(socket, file)?),
            Connections::Given(socket) => Some(Acceptor::new(socket, None)?),
            Connections::One(ends, peer) => {
                let slot = serving.resources.connection().await;
                serving.begin(ends, peer, slot);
                None
            }
        };
        let mut shutdown = std::pin::pin!(shutdown);
        while acceptor.is_some() || !serving.connections.is_empty() {
            tokio::select! {
                _ = &mut shutdown => break,
                Some(ended) = serving.connections.join_next(), if !serving.connections.is_empty() => note_end(ended),
                () = serving.watchdog.look(&serving.resources) => {}
                (socket, address, slot) = accept(&mut acceptor, &serving.resources) => {
                    let peer = peer_of(&socket, &address);
                    serving.begin(Ends::Socket(socket.into()), peer, slot);
                }
            }
        }
        // Removes a Unix socket's file, so that nobody connects who would not be served.
        drop(acceptor);
        drop(stop);
        let given_up = serving.resources.limits().drain + LAST_WORDS;
        let drained = async {
            while let Some(ended) = serving.connections.join_next().await {
                note_end(ended);
            }
        };
        if timeout(given_up, drained).await.is_err() {
            // Such as one of a filesystem that lost its disk, which nothing can end.
            tracing::warn!(connections = serving.connections.len(), "given up: their requests don't come to an end");
        }
        Ok(())
    }
}

/// A listener at work.
struct Serving {
    server: Arc<Server>,
    resources: Arc<Resources>,
    stopping: watch::Receiver<()>,
    connections: JoinSet<()>,
    watchdog: Watchdog,
}

impl Serving {
    /// Begins to serve a connection; closes it where it is one too many for its peer, or of no use.
    fn begin(&mut self, ends: Ends, peer: Peer, slot: OwnedSemaphorePermit) {
        let Some(admission) = self.resources.admit(&peer) else {
            tracing::warn!(%peer, limit = self.resources.limits().connections_per_peer, "refused: it has connections enough");
            self.server.options().observers.tell(|observer| observer.refused(Limit::Connections));
            return;
        };
        let begun = ends
            .prepare(&peer, self.resources.limits().keepalive)
            .and_then(|()| Connection::begin(ends, peer, &self.server, &self.resources));
        match begun {
            Ok((connection, input)) => {
                self.watchdog.watch(&connection, &self.resources);
                let blocks = input.blocks();
                let serving = Arc::clone(&connection).serve(input, self.stopping.clone());
                if !blocks {
                    self.connections.spawn(async move {
                        serving.await;
                        drop((admission, slot));
                    });
                    return;
                }
                match thread::begin(serving, connection) {
                    Ok(ended) => {
                        self.connections.spawn(async move {
                            ended.await;
                            drop((admission, slot));
                        });
                    }
                    Err(error) => tracing::warn!(%error, "cannot serve a connection: no thread can be started for it"),
                }
            }
            Err(error) => tracing::warn!(%error, "cannot serve a connection"),
        }
    }
}

fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

/// The next connection; never, where there is nobody to accept one.
async fn accept(acceptor: &mut Option<Acceptor>, resources: &Resources) -> (Socket, SockAddr, OwnedSemaphorePermit) {
    match acceptor {
        Some(acceptor) => acceptor.accept(resources).await,
        None => std::future::pending().await,
    }
}

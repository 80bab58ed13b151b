//! Sockets that listen, and what is known of who connects to them.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use super::{Address, Keepalive, Resources};
use crate::{
    backend::{Credentials, Overrides},
    server::Peer,
};

/// How long no connection is accepted after one could not be, for want of descriptors or memory: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A socket that listens.
pub(super) struct Acceptor {
    socket: AsyncFd<Socket>,
    #[expect(dead_code, reason = "removes the file when dropped")]
    file: Option<SocketFile>,
    /// The pause since the last failure, and its end.
    pause: Option<(Duration, Instant)>,
}

impl Acceptor {
    pub(super) fn new(socket: Socket, file: Option<SocketFile>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // SAFETY: a `Socket` names one open descriptor for as long as it lives, and nobody can replace it in there.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, file, pause: None })
    }

    /// The next connection, as soon as `resources` allow one more. Where the system has none to give, that is logged
    /// once, and tried again after pauses.
    pub(super) async fn accept(&mut self, resources: &Resources) -> (Socket, SockAddr, OwnedSemaphorePermit) {
        loop {
            let slot = resources.connection().await;
            if let Some((_, end)) = self.pause {
                sleep_until(end).await;
            }
            match self.socket.async_io(Interest::READABLE, Socket::accept).await {
                Ok((socket, address)) => {
                    self.pause = None;
                    return (socket, address, slot);
                }
                Err(error) if is_of_the_connection(&error) => tracing::debug!(%error, "a connection ended unaccepted"),
                Err(error) => {
                    let pause = match self.pause {
                        None => {
                            tracing::warn!(%error, "cannot accept connections");
                            PAUSES.0
                        }
                        Some((pause, _)) => PAUSES.1.min(pause * 2),
                    };
                    self.pause = Some((pause, Instant::now() + pause));
                }
            }
        }
    }
}

/// Is it a connection's own failure, which says nothing of the next one?
fn is_of_the_connection(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error).is_some_and(|error| {
        matches!(
            error,
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTUNREACH
                | Errno::PERM
        )
    })
}

/// Binds a TCP socket to the first address that it can be bound to.
pub(super) async fn bind_tcp(host_and_port: &str) -> io::Result<Socket> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::InvalidInput, "the name has no address"));
    for candidate in tokio::net::lookup_host(host_and_port).await? {
        outcome = (|| {
            let socket = Socket::new(Domain::for_address(candidate), Type::STREAM, None)?;
            // Connections of a server before this one may linger.
            socket.set_reuse_address(true)?;
            socket.bind(&candidate.into())?;
            Ok(socket)
        })();
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Binds a vsock socket. What the system calls say where a machine has none, or not this context, is not about vsock.
pub(super) fn bind_vsock(context: u32, port: u32) -> io::Result<Socket> {
    let bind = || {
        let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
        socket.bind(&SockAddr::vsock(context, port))?;
        Ok(socket)
    };
    bind().map_err(|error: io::Error| match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::ADDRNOTAVAIL) => {
            let text = format!("{context} is no context of this machine; vsock://any:{port} is all that it has");
            io::Error::new(error.kind(), text)
        }
        _ => no_vsock(error),
    })
}

/// Why there is no vsock socket, where the kernel knows none.
pub(crate) fn no_vsock(error: io::Error) -> io::Error {
    match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::AFNOSUPPORT) => {
            io::Error::new(io::ErrorKind::Unsupported, "the kernel has no vsock: is its module 'vsock' there?")
        }
        _ => error,
    }
}

/// Binds a Unix socket, in place of one that nobody listens on.
pub(super) fn bind_unix(path: &Path) -> io::Result<(Socket, SocketFile)> {
    let bind = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        Ok::<_, io::Error>((socket, SocketFile::new(path)?))
    };
    match bind() {
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
            bind()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => bind(),
        _ => {
            let text = format!("somebody listens on {} already", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

/// The file of a Unix socket, removed when this is dropped, unless another one is in its place by then.
#[derive(Debug)]
pub(super) struct SocketFile {
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

/// What a bound socket's address is called; `None` where it has no name.
pub(super) fn address_of(socket: &Socket) -> io::Result<Option<Address>> {
    let address = socket.local_addr()?;
    Ok(if let Some(address) = address.as_socket() {
        Some(Address::Tcp(address.to_string()))
    } else if let Some((context, port)) = address.as_vsock_address() {
        Some(Address::Vsock { context, port })
    } else {
        address.as_pathname().map(|path| Address::Unix(path.to_owned()))
    })
}

/// Who is at the other end of a connected socket.
pub(super) fn peer_of(socket: &Socket, address: &SockAddr) -> Peer {
    if let Some(address) = address.as_socket() {
        Peer::Network(address)
    } else if let Some((context, port)) = address.as_vsock_address() {
        Peer::Machine { context, port }
    } else if address.is_unix() {
        process(socket.as_fd()).unwrap_or_default()
    } else {
        Peer::Unknown
    }
}

/// The process at the other end of a Unix socket.
fn process(socket: BorrowedFd<'_>) -> Option<Peer> {
    // rustix has this too, but takes every process for one that can be seen from here.
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    socket_option(socket, libc::SO_PEERCRED, std::slice::from_mut(&mut peer)).ok().filter(|&count| count == 1)?;
    let groups = groups(socket).unwrap_or_default();
    let credentials = Credentials { uid: peer.uid, gid: peer.gid, groups, overrides: Overrides::Nothing };
    Some(Peer::Process { credentials, pid: Some(peer.pid).filter(|&pid| pid > 0) })
}

/// The supplementary groups of the process at the other end.
fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    loop {
        match socket_option(socket, libc::SO_PEERGROUPS, &mut groups) {
            Ok(count) if count <= groups.len() => {
                groups.truncate(count);
                return Ok(groups);
            }
            Ok(count) => groups.resize(count, 0),
            Err(error) => return Err(error),
        }
    }
}

/// A plain number, or plain numbers one behind the other: any bits are a value.
trait Plain {}

impl Plain for libc::gid_t {}
impl Plain for libc::ucred {}

/// Fills `values` with an option of the socket, and tells how many there are; where that is more than there is space
/// for, `values` may be as they were.
fn socket_option<T: Plain>(socket: BorrowedFd<'_>, option: i32, values: &mut [T]) -> io::Result<usize> {
    let space = size_of_val(values) as libc::socklen_t;
    let mut length = space;
    let descriptor = socket.as_raw_fd();
    // SAFETY: `values` has `length` bytes of space, no more are written, and whatever is written is a `T`.
    let outcome =
        unsafe { libc::getsockopt(descriptor, libc::SOL_SOCKET, option, values.as_mut_ptr().cast(), &raw mut length) };
    let error = io::Error::last_os_error();
    if outcome != 0 && (error.raw_os_error() != Some(libc::ERANGE) || length <= space) {
        return Err(error);
    }
    Ok(length as usize / size_of::<T>())
}

/// Sets up the socket of a connection that begins.
pub(super) fn prepare(socket: BorrowedFd<'_>, peer: &Peer, keepalive: Option<Keepalive>) -> io::Result<()> {
    if let Peer::Network(_) = peer {
        let socket = SockRef::from(&socket);
        socket.set_tcp_nodelay(true)?;
        if let Some(Keepalive { idle, interval, count }) = keepalive {
            let times = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
            socket.set_tcp_keepalive(&times)?;
        }
    }
    Ok(())
}

/// A descriptor that is a stream socket, as such.
pub(super) fn as_socket(descriptor: OwnedFd) -> io::Result<Socket> {
    let socket = Socket::from(descriptor);
    if socket.r#type()? != Type::STREAM {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no stream socket"));
    }
    Ok(socket)
}

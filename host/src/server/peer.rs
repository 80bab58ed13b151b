//! Who is at the other end of a session.

use std::{fmt, net::SocketAddr};

use crate::backend::Credentials;

/// The other end of a session's connection, as the system names it: what a client says of itself is not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// Nobody says: another part of this process, or whoever holds the other end of a pipe.
    #[default]
    Unknown,
    /// A process of this machine, by a Unix socket.
    Process {
        /// As whom it ran when it connected (`SO_PEERCRED`, `SO_PEERGROUPS`): the kernel vouches for that.
        credentials: Credentials,
        /// Its number, where it can be seen from here.
        pid: Option<i32>,
    },
    /// An address of an IP network.
    Network(SocketAddr),
    /// A virtual machine, or the host of this one, by vsock.
    Machine {
        /// Its context.
        context: u32,
        /// The port that it connected from.
        port: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("unknown"),
            Self::Process { credentials, pid: Some(pid) } => {
                write!(formatter, "process {pid} of user {}", credentials.uid)
            }
            Self::Process { credentials, pid: None } => write!(formatter, "a process of user {}", credentials.uid),
            Self::Network(address) => address.fmt(formatter),
            Self::Machine { context, port } => write!(formatter, "vsock://{context}:{port}"),
        }
    }
}

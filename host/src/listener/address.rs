//! How the address of a listener is written.

use std::{fmt, os::fd::RawFd, path::PathBuf, str::FromStr};

/// The port that 9P has been assigned.
const DEFAULT_PORT: u16 = 564;

/// Any context: every one of a machine's own (`VMADDR_CID_ANY`).
const ANY_CONTEXT: u32 = u32::MAX;

/// Where a listener listens, or what it was given to serve: `tcp://HOST:PORT`, `unix:///PATH`, `vsock://CID:PORT`,
/// `fd:NUMBER`, `fd:INPUT,OUTPUT` or `stdio:`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `HOST:PORT`, as [`ToSocketAddrs`](std::net::ToSocketAddrs) takes it: the host is a name or a number, in brackets
    /// if it is an IPv6 address. The port is 564 where the text has none; 0 is any free one.
    Tcp(String),
    /// `unix:///PATH`: a socket in the filesystem, by its absolute path.
    Unix(PathBuf),
    /// `vsock://CID:PORT`: between a virtual machine and its host. The context is a number or `any`; the port is 564
    /// where the text has none.
    Vsock {
        /// The context: where a server listens, one of its machine's own or [`u32::MAX`] for any of them.
        context: u32,
        /// The port.
        port: u32,
    },
    /// `fd:NUMBER` or `fd://NUMBER`: a descriptor that this process was started with, above 2. It is a socket, one
    /// that listens or one that is connected.
    Descriptor(RawFd),
    /// `fd:INPUT,OUTPUT`: two descriptors that this process was started with, such as pipes; one client is at their
    /// other ends.
    Descriptors {
        /// Requests are read from this one.
        input: RawFd,
        /// Replies are written to this one.
        output: RawFd,
    },
    /// `stdio:`: standard input and standard output, as two descriptors.
    Stdio,
}

/// What is wrong with the text of an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// None of the known beginnings.
    #[error("`{0}` begins with none of `tcp://`, `unix://`, `vsock://`, `fd:` and `stdio:`")]
    Scheme(String),
    /// No host.
    #[error("`{0}` names no host; all addresses of this machine are `tcp://0.0.0.0` or `tcp://[::]`")]
    NoHost(String),
    /// An IPv6 address without brackets, or brackets around something else.
    #[error("`{0}`: an IPv6 address, and nothing else, goes in brackets, as in `tcp://[::1]:5640`")]
    Brackets(String),
    /// The port is no number up to 65,535.
    #[error("`{port}` in `{address}` is not a port: it takes a number up to 65535")]
    Port {
        /// The whole text.
        address: String,
        /// What stands where the port should.
        port: String,
    },
    /// Something follows the port.
    #[error("`{0}` has a path, which a TCP address does not take here")]
    Path(String),
    /// The path of the Unix socket is not absolute, or is a directory's.
    #[error("`{0}` does not name a socket by an absolute path, as `unix:///run/ninering.sock` does")]
    SocketPath(String),
    /// The context or the port of a vsock address is no number.
    #[error("`{0}` does not name a context and a port by numbers, as `vsock://any:5640` and `vsock://3:5640` do")]
    Vsock(String),
    /// The descriptors are no numbers above 2, or the same.
    #[error("`{0}` does not name descriptors by numbers from 3 on, as `fd:3` and `fd:3,4` do")]
    Descriptor(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
                return Err(AddressError::SocketPath(text.to_owned()));
            }
            return Ok(Self::Unix(path.into()));
        }
        if let Some(rest) = text.strip_prefix("vsock://") {
            return vsock(rest).ok_or_else(|| AddressError::Vsock(text.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("fd:") {
            return descriptors(rest).ok_or_else(|| AddressError::Descriptor(text.to_owned()));
        }
        if text == "stdio:" {
            return Ok(Self::Stdio);
        }
        let rest = text.strip_prefix("tcp://").ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
        if rest.contains('/') {
            return Err(AddressError::Path(text.to_owned()));
        }
        let brackets = || AddressError::Brackets(text.to_owned());
        let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(brackets)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| brackets())?;
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err(brackets()),
            }
        } else {
            match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(brackets()),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        if host.is_empty() {
            return Err(AddressError::NoHost(text.to_owned()));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port
                .parse()
                .ok()
                .filter(|_| is_number(port))
                .ok_or_else(|| AddressError::Port { address: text.to_owned(), port: port.to_owned() })?,
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn vsock(text: &str) -> Option<Address> {
    let (context, port) = match text.split_once(':') {
        Some((context, port)) => (context, port.parse().ok().filter(|_| is_number(port))?),
        None => (text, u32::from(DEFAULT_PORT)),
    };
    let context = if context == "any" { ANY_CONTEXT } else { context.parse().ok().filter(|_| is_number(context))? };
    Some(Address::Vsock { context, port })
}

fn descriptors(text: &str) -> Option<Address> {
    let number = |text: &str| text.parse().ok().filter(|&number: &RawFd| number > 2 && is_number(text));
    let text = text.strip_prefix("//").unwrap_or(text);
    match text.split_once(',') {
        None => number(text).map(Address::Descriptor),
        Some((input, output)) => {
            let (input, output) = (number(input)?, number(output)?);
            (input != output).then_some(Address::Descriptors { input, output })
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_and_port) => write!(formatter, "tcp://{host_and_port}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Vsock { context: ANY_CONTEXT, port } => write!(formatter, "vsock://any:{port}"),
            Self::Vsock { context, port } => write!(formatter, "vsock://{context}:{port}"),
            Self::Descriptor(number) => write!(formatter, "fd:{number}"),
            Self::Descriptors { input, output } => write!(formatter, "fd:{input},{output}"),
            Self::Stdio => formatter.write_str("stdio:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, written) in [
            ("tcp://127.0.0.1:5640", "tcp://127.0.0.1:5640"),
            ("tcp://localhost", "tcp://localhost:564"),
            ("tcp://[::1]:0", "tcp://[::1]:0"),
            ("tcp://[::]", "tcp://[::]:564"),
            ("unix:///run/a b.sock", "unix:///run/a b.sock"),
            ("vsock://3:5640", "vsock://3:5640"),
            ("vsock://any", "vsock://any:564"),
            ("vsock://4294967295:1", "vsock://any:1"),
            ("fd:3", "fd:3"),
            ("fd://12", "fd:12"),
            ("fd:3,4", "fd:3,4"),
            ("stdio:", "stdio:"),
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(written.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_named() {
        let error = |text: &str| text.parse::<Address>().map_err(|error| error.to_string()).unwrap_err();
        assert!(error("127.0.0.1:5640").contains("`tcp://`"));
        assert!(error("udp://host").contains("`udp://host`"));
        assert!(error("tcp://:5640").contains("no host"));
        assert!(error("tcp://").contains("no host"));
        assert!(error("tcp://::1:5640").contains("brackets"));
        assert!(error("tcp://[::1").contains("brackets"));
        assert!(error("tcp://[::1]5640").contains("brackets"));
        assert!(error("tcp://[localhost]:1").contains("brackets"));
        assert!(error("tcp://host:65536").contains("`65536`"));
        assert!(error("tcp://host:+1").contains("`+1`"));
        assert!(error("tcp://host:").contains("not a port"));
        assert!(error("tcp://host:1/a").contains("path"));
        assert!(error("unix://run/socket").contains("absolute"));
        assert!(error("unix:///run/").contains("absolute"));
        for text in ["vsock://", "vsock://:1", "vsock://3:", "vsock://3:+1", "vsock://-1:1", "vsock://3:4294967296"] {
            assert!(error(text).contains("by numbers"), "{text}");
        }
        for text in ["fd:", "fd:2", "fd:-3", "fd:+3", "fd:3,3", "fd:3,", "fd:3,4,5", "fd:///3"] {
            assert!(error(text).contains("from 3 on"), "{text}");
        }
        assert!(error("stdio:3").contains("`stdio:`"));
    }
}

//! How the address of a listener is written.

use std::{fmt, path::PathBuf, str::FromStr};

/// The port that 9P has been assigned.
const DEFAULT_PORT: u16 = 564;

/// Where a listener listens: `tcp://HOST:PORT` or `unix:///PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `HOST:PORT`, as [`ToSocketAddrs`](std::net::ToSocketAddrs) takes it: the host is a name or a number, in brackets
    /// if it is an IPv6 address. The port is 564 where the text has none; 0 is any free one.
    Tcp(String),
    /// `unix:///PATH`: a socket in the filesystem, by its absolute path.
    Unix(PathBuf),
}

/// What is wrong with the text of an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither `tcp://` nor `unix://`.
    #[error("`{0}` begins neither with `tcp://` nor with `unix://`")]
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
                .filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| AddressError::Port { address: text.to_owned(), port: port.to_owned() })?,
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_and_port) => write!(formatter, "tcp://{host_and_port}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
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
    }
}

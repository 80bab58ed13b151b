//! Where a filesystem comes from, as the command line names it.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

#[cfg(feature = "mount")]
use crate::mount::{self, Mount, MountOptions, Relay};
use crate::{
    backend::{Backend, DirBackend, DirOptions, MemBackend},
    listener::Address,
    server::{Server, ServerOptions},
};

/// `dir:PATH`, `mem:`, `tcp://HOST:PORT/ANAME`, `vsock://CID:PORT/ANAME` or `unix:///SOCKET?aname=ANAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of the host, served in this process.
    Directory(PathBuf),
    /// A filesystem in memory, empty at first and gone with the process.
    Memory,
    /// An export of a 9P2000.L server.
    Remote {
        /// Where the server listens.
        address: Address,
        /// Which export.
        aname: String,
        /// Who attaches, by number; the user that runs this unless it is said.
        uid: Option<u32>,
    },
}

/// Why a text names no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It has none of the known beginnings.
    #[error(
        "'{0}' is no source of files: write dir:PATH, mem:, tcp://HOST:PORT/ANAME, vsock://CID:PORT/ANAME or unix:///SOCKET?aname=ANAME"
    )]
    Unknown(String),
    /// `dir:` without a path.
    #[error("'dir:' needs the path of a directory behind it")]
    NoPath,
    /// `mem:` with something behind it.
    #[error("'{0}': nothing can stand behind 'mem:'")]
    MemoryWithMore(String),
    /// `plugin:`.
    #[error("'{0}': filesystems from plugins are not there yet; write dir:PATH, mem:, tcp://… or unix://…")]
    Plugin(String),
    /// An address that is none.
    #[error("'{text}': {reason}")]
    Address {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting behind `?` that is not known, or has a value that is none.
    #[error("'{text}': behind the '?' can stand aname=ANAME and uid=NUMBER, not '{setting}'")]
    Setting {
        /// What was written.
        text: String,
        /// The part that is wrong.
        setting: String,
    },
}

/// Why there is no mount of a source.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory cannot be served.
    #[error("{0}")]
    Directory(#[from] crate::backend::DirError),
    /// A server cannot be reached, or refuses.
    #[error("{source_text} cannot be mounted: {reason}")]
    Mount {
        /// The source, as it was written.
        source_text: String,
        /// What went wrong.
        reason: String,
    },
    /// A server elsewhere, to be served again.
    #[error("{source_text} cannot be relayed: {reason}")]
    Relay {
        /// The source, as it was written.
        source_text: String,
        /// What went wrong.
        reason: String,
    },
    /// What is not in this process, and takes a relay ([`Source::relay`]) to be served.
    #[error(
        "{0} is another server's, and this 'ninering' was built without relays (feature 'mount'): it serves dir:PATH and mem:"
    )]
    NotServable(String),
}

impl Source {
    /// A server, in this process, of what is here.
    ///
    /// # Errors
    /// The directory cannot be opened, or the source is a remote server's.
    pub fn server(&self, options: ServerOptions) -> Result<Arc<Server>, OpenError> {
        Ok(Server::new(self.backend()?, options))
    }

    /// What a server in this process can offer of it.
    ///
    /// # Errors
    /// The directory cannot be opened, or the source is a remote server's.
    pub fn backend(&self) -> Result<Arc<dyn Backend>, OpenError> {
        match self {
            Self::Directory(path) => Ok(Arc::new(DirBackend::new(path, DirOptions::default())?)),
            Self::Memory => Ok(Arc::new(MemBackend::default())),
            Self::Remote { .. } => Err(OpenError::NotServable(self.to_string())),
        }
    }

    /// Is it another server's?
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }

    /// Connects to the server, to offer what it exports once more. Must be called in a tokio runtime with threads of its own.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses; or the source is in this process, and needs no relay.
    #[cfg(feature = "mount")]
    pub async fn relay(&self, mut options: MountOptions) -> Result<Relay, OpenError> {
        let Self::Remote { address, aname, uid } = self else {
            return Err(OpenError::Relay {
                source_text: self.to_string(),
                reason: "it is in this process, and served as it is".into(),
            });
        };
        options.aname.clone_from(aname);
        options.uid = uid.or(options.uid);
        let relay = Relay::connect(address.clone(), options, *uid).await;
        relay.map_err(|error| OpenError::Relay { source_text: self.to_string(), reason: reason_of(error) })
    }

    /// Mounts it.
    ///
    /// # Errors
    /// The directory cannot be opened, or the server not be reached; or it refuses.
    #[cfg(feature = "mount")]
    pub async fn mount(&self, mut options: MountOptions) -> Result<Mount, OpenError> {
        let mounted = match self {
            Self::Directory(_) | Self::Memory => {
                let server = self.server(ServerOptions { read_only: options.read_only, ..ServerOptions::default() })?;
                Mount::local(server, options)
            }
            Self::Remote { address, aname, uid } => {
                options.aname.clone_from(aname);
                options.uid = uid.or(options.uid);
                Mount::remote(address.clone(), options).await
            }
        };
        mounted.map_err(|error| OpenError::Mount { source_text: self.to_string(), reason: reason_of(error) })
    }
}

/// Why there is no mount, in its own words.
#[cfg(feature = "mount")]
fn reason_of(error: mount::Error) -> String {
    match error {
        mount::Error::Broken(reason) => reason.to_string(),
        mount::Error::Errno(errno) => errno.to_string(),
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let bad = |reason: &dyn fmt::Display| SourceError::Address { text: text.into(), reason: reason.to_string() };
        if let Some(path) = text.strip_prefix("dir:") {
            return if path.is_empty() { Err(SourceError::NoPath) } else { Ok(Self::Directory(path.into())) };
        }
        if let Some(rest) = text.strip_prefix("mem:") {
            return if rest.is_empty() { Ok(Self::Memory) } else { Err(SourceError::MemoryWithMore(text.into())) };
        }
        if text.starts_with("plugin:") {
            return Err(SourceError::Plugin(text.into()));
        }
        let (place, settings) = text.split_once('?').unwrap_or((text, ""));
        let (mut aname, mut uid) = (String::new(), None);
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            let wrong = || SourceError::Setting { text: text.into(), setting: setting.into() };
            match setting.split_once('=').ok_or_else(wrong)? {
                ("aname", value) => aname = value.into(),
                ("uid", value) => uid = Some(value.parse().map_err(|_| wrong())?),
                _ => return Err(wrong()),
            }
        }
        let address = if let Some((scheme @ ("tcp" | "vsock"), rest)) = place.split_once("://") {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if aname.is_empty() {
                // diod and its kin name exports by their absolute path: the slash belongs to it.
                aname = if path == "/" { String::new() } else { path.into() };
            }
            format!("{scheme}://{host}").parse::<Address>().map_err(|error| bad(&error))?
        } else if place.starts_with("unix://") {
            place.parse::<Address>().map_err(|error| bad(&error))?
        } else {
            return Err(SourceError::Unknown(text.into()));
        };
        Ok(Self::Remote { address, aname, uid })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(formatter, "dir:{}", path.display()),
            Self::Memory => formatter.write_str("mem:"),
            Self::Remote { address, aname, .. } if aname.is_empty() => write!(formatter, "{address}"),
            Self::Remote { address, aname, .. } => write!(formatter, "{address}?aname={aname}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> (String, String, Option<u32>) {
        match text.parse() {
            Ok(Source::Remote { address, aname, uid }) => (address.to_string(), aname, uid),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn local_sources() {
        assert_eq!("dir:/srv/x".parse(), Ok(Source::Directory("/srv/x".into())));
        assert_eq!("mem:".parse(), Ok(Source::Memory));
    }

    #[test]
    fn a_tcp_address_takes_its_path_as_aname() {
        assert_eq!(remote("tcp://127.0.0.1:5640"), ("tcp://127.0.0.1:5640".into(), String::new(), None));
        assert_eq!(remote("tcp://127.0.0.1:5640/srv/x").1, "/srv/x");
        assert_eq!(remote("tcp://127.0.0.1:5640/?aname=home&uid=7").1, "home");
        assert_eq!(remote("tcp://127.0.0.1:5640/?aname=home&uid=7").2, Some(7));
    }

    #[test]
    fn a_vsock_address_does_likewise() {
        assert_eq!(remote("vsock://2:5640/srv/x?uid=7"), ("vsock://2:5640".into(), "/srv/x".into(), Some(7)));
        assert_eq!(remote("vsock://2"), ("vsock://2:564".into(), String::new(), None));
    }

    #[test]
    fn a_unix_address_takes_its_aname_as_a_setting() {
        assert_eq!(remote("unix:///run/s?aname=/srv"), ("unix:///run/s".into(), "/srv".into(), None));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("/tmp", "dir:PATH"),
            ("dir:", "path of a directory"),
            ("mem:7", "nothing can stand"),
            ("plugin:x.wasm", "not there yet"),
            ("tcp://h:1?uid=me", "uid=me"),
            ("tcp://h:1?colour=red", "colour=red"),
            ("tcp://h:999999/x", "h:999999"),
            ("vsock://host/x", "by numbers"),
        ] {
            let error = text.parse::<Source>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains('\n'));
        }
    }
}

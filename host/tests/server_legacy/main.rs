//! 9P2000 and 9P2000.u, on both backends: what section 5 of Plan 9's manual and the extension for Unix say.

#[path = "../common/mod.rs"]
mod common;

mod directories;
mod files;
mod random;
mod sessions;
mod stat;
mod unix;

use std::sync::Arc;

use ninering::{
    backend::{Backend, DirBackend, DirOptions, MemBackend},
    server::{Server, ServerOptions},
};
use ninering_wire::legacy::{Dialect, Stat};

/// A server of each backend, and what must live as long.
struct Servers {
    mem: Arc<Server>,
    dir: Arc<Server>,
    directory: tempfile::TempDir,
}

impl Servers {
    fn new() -> Self {
        Self::with(ServerOptions::default())
    }

    fn with(options: ServerOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = DirBackend::new(directory.path(), DirOptions::default()).unwrap();
        let server = |backend: Arc<dyn Backend>| Server::new(backend, options.clone());
        Self { mem: server(Arc::new(MemBackend::default())), dir: server(Arc::new(dir)), directory }
    }
}

/// Makes functions that take a client of any dialect tests, on each backend in each dialect.
macro_rules! in_both_dialects {
    ($($name:ident)*) => {
        mod tests {
            use ninering_wire::legacy::{Plan9, Unix};

            use crate::{Servers, common::legacy::LegacyClient};
            $(
                #[test]
                fn $name() {
                    let servers = Servers::new();
                    super::$name(LegacyClient::<Plan9>::attached(&servers.mem));
                    super::$name(LegacyClient::<Plan9>::attached(&servers.dir));
                    let servers = Servers::new();
                    super::$name(LegacyClient::<Unix>::attached(&servers.mem));
                    super::$name(LegacyClient::<Unix>::attached(&servers.dir));
                }
            )*
        }
    };
}
use in_both_dialects;

/// A stat that changes the name alone.
fn renamed<D: Dialect>(name: &str) -> Stat<'_, D> {
    Stat { name: name.into(), ..Stat::unchanged() }
}

//! Relays of other backends.

use std::{any::Any, sync::Arc};

use ninering::{
    backend::Backend,
    mount::{MountOptions, Relay},
    server::{Server, ServerOptions},
};
use tokio::runtime::Runtime;

use super::serving::Serving;

/// A relay of what a server of `backend` serves, and what must live as long.
pub fn relayed(backend: impl Backend) -> (Relay, impl Any) {
    let serving = Serving::on_unix_socket(Server::new(Arc::new(backend), ServerOptions::default()));
    let runtime = Runtime::new().expect("a runtime");
    let relay = runtime.block_on(Relay::connect(serving.address.clone(), MountOptions::default(), None));
    (relay.expect("a relay"), (runtime, serving))
}

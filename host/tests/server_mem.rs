//! The behaviours of a backend, of the one in memory: called, and over sockets.

mod common;

use common::{Export, Waiting};
use ninering::backend::MemBackend;

mod called {
    use super::*;
    test_behaviours!(Export::called(MemBackend::default(), ()));
}

/// Every request is answered on the task that reads it.
mod on_a_unix_socket {
    use super::*;
    test_behaviours!(Export::on_unix_socket(MemBackend::default(), ()));
}

/// Most requests are answered by blocking threads.
mod on_a_tcp_socket {
    use super::*;
    test_behaviours!(Export::on_tcp_socket(Waiting(MemBackend::default()), ()));
}

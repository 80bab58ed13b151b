//! The thread that a socket's connection has to itself.

use std::{io, sync::Arc};

use tokio::{runtime::Handle, sync::oneshot};

use super::connection::Connection;
use crate::server::Turn;

/// Bytes of its stack, of which few are ever touched.
const STACK: usize = 1 << 20;

/// Runs `serving`, which serves `connection`, on a thread of its own. What is returned completes when that has ended, and ends
/// it when it is dropped before; to be called in a tokio runtime.
///
/// # Errors
/// There can be no more threads.
pub(super) fn begin(
    serving: impl Future<Output = ()> + Send + 'static,
    connection: Arc<Connection>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let runtime = Handle::current();
    let (ends, ended) = oneshot::channel();
    std::thread::Builder::new().name("9p connection".into()).stack_size(STACK).spawn(move || {
        // One turn for them all: a session of one user's switches to that user once.
        let _turn = Turn::begin();
        runtime.block_on(serving);
        // Nobody waits for it any more, if this fails.
        let _ = ends.send(());
    })?;
    let close = CloseOnDrop(connection);
    Ok(async move {
        if ended.await.is_err() {
            tracing::error!("a connection's thread failed");
        }
        drop(close);
    })
}

/// Closes the connection, which ends what its thread waits for.
struct CloseOnDrop(Arc<Connection>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

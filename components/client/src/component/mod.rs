//! The component: world `client-component`. What is here only turns the types of its interfaces into this crate's.

mod bindings {
    // Borrowed where they are arguments of imports: a flight's headers are in one buffer.
    wit_bindgen::generate!({
        path: "../../wit",
        world: "client-component",
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}
mod client;
mod host_ring;
mod types;
mod vfs;

use std::cell::RefCell;

use bindings::exports::ninering::fs::vfs as wit_vfs;
use ninering_wire::Errno;

use self::host_ring::HostRing;
use crate::mount::Mount;

/// `EFAULT`: the host refused the buffer.
const EFAULT: Errno = Errno(14);

struct Component;

bindings::export!(Component with_types_in bindings);

thread_local! {
    /// The one mount of this instance. A component has one thread.
    static MOUNT: RefCell<Option<Mount<HostRing>>> = const { RefCell::new(None) };
}

/// Does something with the mount; `None` before it is started.
fn with_mount<T>(act: impl FnOnce(&Mount<HostRing>) -> T) -> Option<T> {
    MOUNT.with_borrow(|mount| mount.as_ref().map(act))
}

fn not_started() -> wit_vfs::Error {
    wit_vfs::Error::Broken("the mount was not started".into())
}

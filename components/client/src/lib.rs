//! The client component: a 9P2000.L client and the filesystem on top of it, which between them import nothing but
//! a virtqueue, an iter and the region that these speak of.
//!
//! | file | what it is |
//! | --- | --- |
//! | [`ring`] | what is needed of the outside: the trait [`Ring`] |
//! | [`session`] | requests and replies, tags, fids; here everything that a server says is checked (`net/9p`), and lost connections are recovered from |
//! | `transfer` | reads, writes and directory reads: requests with payload |
//! | `walk` | paths: names, `..`, symbolic links |
//! | [`vfs`] | the filesystem calls (`fs/9p`) |
//! | [`client`] | the 9P calls, for those who want the protocol rather than a filesystem |
//! | [`lock`] | byte-range locks |
//! | [`executor`] | runs operations, which are futures, as far as they come without waiting |
//! | [`mount`] | all of it together |
//!
//! Nothing waits and nothing is shared: an operation is submitted, runs until it needs a reply that is not there
//! yet, and goes on when the device has used its chains. Nothing that a server sends can make this panic.
//!
//! Natively this is a library, tested against servers in memory, honest and lying ones; as WebAssembly it is a
//! component of the world `client-component` (package `ninering:fs`).

pub mod client;
pub mod error;
pub mod executor;
pub mod lock;
pub mod mount;
pub mod ring;
pub mod session;
mod transfer;
pub mod vfs;
mod walk;

pub use error::Error;
pub use mount::{Mount, Options, Outcome};
pub use ring::Ring;

#[cfg(target_arch = "wasm32")]
mod component;

//! Ninering: a 9P filesystem service for WebAssembly components.
//!
//! The library in the order of a request's way, from a program to its files:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`program`] | loads and runs WASI programs, 0.2 components and 0.1 modules |
//! | [`wasi`] | `wasi:filesystem`, on mounts instead of host directories |
//! | [`mount`] | a mount: the sandboxed client, its ring and its device |
//! | [`region`], [`lease`] | the shared memory, and who may use which part of it |
//! | [`virtqueue`] | the driver's side of a virtio split queue in the region |
//! | [`device`] | the other side: an in-process server, or a transport to a remote one |
//! | [`server`] | the protocol engine for 9P2000.L, 9P2000.u and 9P2000 |
//! | [`backend`] | what it serves: a host directory, a filesystem in memory |
//! | [`listener`] | the same server for others: tcp and unix sockets |
//! | [`message_log`] | the messages that pass, one line each |
//! | [`metrics`] | what servers have done, in numbers |
//! | [`source`] | all of these by name: `dir:`, `mem:`, `tcp://`, `unix://` |
//!
//! Without the feature `mount` the crate is a 9P server alone and does not depend on wasmtime; nor does its
//! command, which then can `serve` and nothing else.

pub mod backend;
pub mod device;
pub mod lease;
pub mod listener;
pub mod message_log;
pub mod metrics;
#[cfg(feature = "mount")]
pub mod mount;
mod names;
pub mod payload;
#[cfg(feature = "mount")]
pub mod program;
pub mod region;
pub mod server;
pub mod source;
pub mod virtqueue;
#[cfg(feature = "mount")]
pub mod wasi;

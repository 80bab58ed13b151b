//! Ninering: a 9P filesystem service for WebAssembly components.

pub mod backend;
pub mod device;
pub mod lease;
pub mod listener;
pub mod payload;
pub mod region;
pub mod server;
pub mod virtqueue;

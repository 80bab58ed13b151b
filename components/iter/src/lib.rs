//! The iter component: `struct iov_iter` of the Linux kernel for runs of bytes in a region, and
//! `virtqueue_add_sgs()` for it.
//!
//! An [`IovIter`] says where a transfer's bytes come from or go to, whatever they are kept in, and how far the
//! transfer has come. What the bytes are kept in matters in one file only, that of [`IovIter::extract`]; neither who
//! makes an iter nor who is handed its extents can tell the kinds apart. The next bytes of an iter are one of the
//! [`ScatterLists`] of a request.
//!
//! Natively this is a library without dependencies on any host; as WebAssembly it is a component of the world
//! `iter-component` (package `ninering:fs`).

mod copy;
mod extract;
mod iov_iter;
mod scatter_lists;
mod types;

pub use copy::CopyError;
pub use extract::Extracted;
pub use iov_iter::IovIter;
pub use scatter_lists::{MapError, ScatterLists};
pub use types::{Direction, Extent, IterError, IterState, Kind, PAGE_SIZE, Segment};

#[cfg(target_arch = "wasm32")]
mod component;

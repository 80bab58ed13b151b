//! The 9P2000.L wire format, for clients and servers; and, in [`legacy`], those of 9P2000.u and 9P2000.
//!
//! A message on the wire is `size[4] type[1] tag[2] body`, all integers little-endian, `size` counting
//! itself. [`Tmessage`] are the requests, [`Rmessage`] the replies; both borrow what is large in them (strings,
//! [`List`]s, records that are [`Far`]) from the bytes they were decoded from, allocate nothing, and are encoded into
//! a buffer of the caller's.
//!
//! Three messages carry bulk data at their end: `Twrite`, `Rread` and `Rreaddir`. Here they carry only its
//! length, `count`; the bytes themselves, the *payload*, never pass through this crate, so that a transport
//! can leave them where they are (`net/9p` calls this zero copy). The `size` that is encoded includes them.
//!
//! Nothing received is trusted: every length is checked against the bytes that are there. What a name may
//! contain is for the server to judge ([`Name::new`]), what a count may be for whoever asked.
//!
//! ```
//! use ninering_wire::{Frame, Tmessage};
//!
//! let mut buffer = [0; 64];
//! let length = Tmessage::Tread { fid: 1, offset: 4096, count: 512 }.encode(7, &mut buffer)?;
//! let Frame { tag, message, payload } = Frame::<Tmessage>::decode(&buffer[..length])?;
//! assert_eq!((tag, message, payload.len()), (7, Tmessage::Tread { fid: 1, offset: 4096, count: 512 }, 0));
//! # Ok::<(), ninering_wire::WireError>(())
//! ```
//!
//! Sources: the Linux kernel's `include/net/9p/9p.h` and `net/9p/protocol.c`, and diod's `protocol.md`.
#![no_std]
#![forbid(unsafe_code)]

mod constants;
mod dirent;
mod errno;
mod far;
mod field;
pub mod legacy;
mod message;
mod name;
mod types;

pub use constants::*;
pub use dirent::{DirEntries, DirEntry};
pub use errno::Errno;
pub use far::{Far, List};
pub use field::WireError;
pub use message::{Frame, Header, Message, Rmessage, Tmessage};
pub use name::Name;
pub use types::{Attributes, Inner, Lock, LockStatus, LockType, Names, Qid, QidType, Qids, SetAttributes, Statfs, Str};

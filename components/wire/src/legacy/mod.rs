//! The dialects 9P2000, Plan 9's own, and 9P2000.u, its extension for Unix.
//!
//! Their messages are framed as those of 9P2000.L are, and many are the same: the attach in 9P2000.u, and in all three
//! the version, flush, walk, read, write, clunk and remove. Others 9P2000.L does without: [`Tmessage::Topen`],
//! [`Tmessage::Tcreate`], [`Tmessage::Tstat`], [`Tmessage::Twstat`], and the error with a text, [`Rmessage::Rerror`].
//!
//! The two differ by fields that only 9P2000.u has ([`UnixOnly`]). Which of them a message is of is a type, [`Plan9`] or
//! [`Unix`], so that no field can be there that has no place on the wire.
//!
//! What a file is is told by a [`Stat`], and a directory is read as if it were a file full of them ([`Stats`]). Modes,
//! in which the type of a file is, are in [`perm`]; the way to open one in [`open`].
//!
//! ```
//! use ninering_wire::{Frame, legacy::{Tmessage, Unix, UnixOnly, open}};
//!
//! let mut buffer = [0; 64];
//! let message: Tmessage<'_, Unix> = Tmessage::Tcreate {
//!     fid: 1, name: "disk".into(), perm: 0o644, mode: open::RDWR, extension: UnixOnly::new("".into()),
//! };
//! let length = message.encode(7, &mut buffer)?;
//! assert_eq!(Frame::<Tmessage<'_, Unix>>::decode(&buffer[..length])?.message, message);
//! # Ok::<(), ninering_wire::WireError>(())
//! ```
//!
//! Sources: section 5 of Plan 9's manual; "Plan 9 Remote Resource Protocol: Unix Extension", draft-9P2000-unix-extension;
//! the Linux kernel's `net/9p/protocol.c` and `fs/9p/vfs_inode.c`.

mod constants;
mod dialect;
mod message;
mod stat;

pub use self::{
    constants::{ERRMAX, open, perm, qid_type},
    dialect::{Dialect, Plan9, Unix, UnixOnly},
    message::{Rmessage, Tmessage},
    stat::{Counted, Stat, Stats},
};

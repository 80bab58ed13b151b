//! Whole sessions of the client with a server that means no good, made of bytes that a fuzzer chooses.
//!
//! - `script`: what a mount's user asks for, and what the server does meanwhile; [`Input`] is a sequence of it.
//! - `operate`: how the mount is asked.
//! - `answer`: the lies: replies that are damaged, of another kind, too long, too short, or not sent.
//! - `server`: replies that could be true, and what an honest client owes any server: names, fids and sizes.
//! - `ring`: the ring between the two, and what the client owes the host: it uses what it was lent and no more.
//! - [`play`] runs one session and checks how each operation ends, and that nothing is left when all have.
//!
//! `tests/fuzz` runs this under libFuzzer; the test `seeds` runs what that learned once more.

mod answer;
mod operate;
mod play;
mod ring;
mod script;
mod server;

pub use self::{play::play, script::Input};

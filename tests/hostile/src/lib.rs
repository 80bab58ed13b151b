//! Whole sessions of clients that mean no good, made of bytes that a fuzzer chooses, and a check of all that the server
//! answers.
//!
//! - `request`: what a client can ask, well-formed or damaged; [`Input`] and [`Conversation`] are sequences of it.
//! - `reply`: what is owed to any client: one reply to each request, of the right tag, type and size.
//! - `model`: what the server must know: which fids there are, and, of files in memory, what was written to them.
//! - `scene`: what is served, and what must be as it was when all sessions are over.
//! - [`in_process`] drives sessions by calls, [`over_socket`] by a socket with many requests under way.
//! - [`on_a_ring`] plays what components and devices do to a queue between them and to the region, by way of the functions
//!   that the host has behind the WIT interfaces; `trace` is what that is.
//!
//! The messages are put together here, byte by byte, and not by the crate that the server decodes them with: a mistake
//! in that would be on both sides.
//!
//! `tests/fuzz` runs this under libFuzzer; the test `seeds` runs what that learned once more.

mod calls;
mod model;
mod reply;
mod request;
mod ring;
mod scene;
mod socket;
mod trace;

pub use self::{
    calls::in_process,
    request::Input,
    ring::on_a_ring,
    scene::Served,
    socket::{Conversation, over_socket},
    trace::Trace,
};

//! Whole sessions through a socket, with many requests under way; `tests/hostile` says what is checked.
//!
//! The note at the top of `Cargo.toml` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ninering_hostile::{Conversation, Served, over_socket};

fuzz_target!(
    init: {
        // As in every program with a `main` of Rust's: who writes to a closed socket learns it by an error.
        // SAFETY: no handler is set, and no other thread is there yet.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |conversation: Conversation| over_socket(Served::Dir, &conversation)
);

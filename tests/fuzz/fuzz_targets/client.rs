//! Whole sessions of the client with a server that lies; `tests/hostile-server` says what is checked.
//!
//! The note at the top of `Cargo.toml` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ninering_hostile_server::{Input, play};

fuzz_target!(|input: Input| play(&input));

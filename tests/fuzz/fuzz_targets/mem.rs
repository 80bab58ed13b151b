//! Whole sessions of several clients of `mem:`; `tests/hostile` says what is checked.
//!
//! The note at the top of `Cargo.toml` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ninering_hostile::{Input, Served, in_process};

fuzz_target!(|input: Input| in_process(Served::Mem, &input));

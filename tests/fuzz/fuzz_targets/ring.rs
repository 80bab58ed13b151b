//! A queue between a component and a device that mean no good, and their leases; `tests/hostile` says what is checked.
//!
//! The note at the top of `Cargo.toml` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ninering_hostile::{Trace, on_a_ring};

fuzz_target!(|trace: Trace| on_a_ring(&trace));

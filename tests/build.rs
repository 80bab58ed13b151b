//! Composes the client that does what it should not with the real iter component, if `make programs` has built it.

#[path = "../host/compose.rs"]
mod compose;

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let programs = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../target/programs");
    let (client, iter) = (programs.join("hostile_client.wasm"), programs.join("ninering_iter.wasm"));
    for watched in [&client, &iter] {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    println!("cargo::rerun-if-changed=../host/compose.rs");
    // The tests that want it say what is missing.
    let composed = if client.exists() && iter.exists() {
        compose::compose(compose::componentize(&client)?, compose::componentize(&iter)?)?
    } else {
        Vec::new()
    };
    fs::write(Path::new(&env::var("OUT_DIR")?).join("hostile_client.wasm"), composed)?;
    Ok(())
}

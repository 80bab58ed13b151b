//! Builds the sandboxed client: compiles `components/client` and `components/iter` to WebAssembly, and composes
//! them into the one component that mounts instantiate.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=compose.rs");
    #[cfg(feature = "mount")]
    client::build()?;
    Ok(())
}

#[cfg(feature = "mount")]
mod compose;

#[cfg(feature = "mount")]
mod client {
    use std::{env, error::Error, fs, path::Path, process::Command};

    use super::compose::{componentize, compose};

    pub(crate) fn build() -> Result<(), Box<dyn Error>> {
        let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..");
        for watched in ["components/client", "components/iter", "components/wire", "wit", "scripts/wasm-cargo"] {
            println!("cargo::rerun-if-changed={}", root.join(watched).display());
        }
        println!("cargo::rerun-if-env-changed=NINERING_WASM_TOOLCHAIN");
        let out = env::var("OUT_DIR")?;
        let out = Path::new(&out);
        // Not the outer cargo's target directory itself, which is locked, but one inside it that all profiles share.
        // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out.
        let target = out.ancestors().nth(4).unwrap_or(out).join("components");
        let status = Command::new(root.join("scripts/wasm-cargo"))
            .arg("wasm32-unknown-unknown")
            .args(["--profile", "component", "-p", "ninering-client", "-p", "ninering-iter", "--target-dir"])
            .arg(&target)
            .current_dir(&root)
            .status()
            .map_err(|error| format!("scripts/wasm-cargo cannot be run: {error}"))?;
        if !status.success() {
            return Err("the components cannot be built: run scripts/setup first".into());
        }
        let modules = target.join("wasm32-unknown-unknown/component");
        let client = componentize(&modules.join("ninering_client.wasm"))?;
        let iter = componentize(&modules.join("ninering_iter.wasm"))?;
        fs::write(out.join("client-alone.wasm"), &client)?;
        fs::write(out.join("iter-alone.wasm"), &iter)?;
        fs::write(out.join("client.wasm"), compose(client, iter)?)?;
        Ok(())
    }
}

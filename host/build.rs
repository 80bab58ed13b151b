//! Builds the sandboxed client: compiles `components/client` and `components/iter` to WebAssembly, and composes
//! them into the one component that mounts instantiate.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "mount")]
    client::build()?;
    Ok(())
}

#[cfg(feature = "mount")]
mod client {
    use std::{env, error::Error, fs, path::Path, process::Command};

    use wac_graph::{CompositionGraph, EncodeOptions, types::Package};
    use wit_component::ComponentEncoder;

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

    /// Makes a component of a core module that wit-bindgen made.
    fn componentize(module: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
        let bytes = fs::read(module).map_err(|error| format!("{}: {error}", module.display()))?;
        Ok(ComponentEncoder::default().validate(true).module(&bytes)?.encode()?)
    }

    /// Plugs the iter component's export into the client's import, and leaves the rest to the host.
    fn compose(client: Vec<u8>, iter: Vec<u8>) -> Result<Vec<u8>, Box<dyn Error>> {
        const ITER: &str = "ninering:fs/iter@0.1.0";
        let mut graph = CompositionGraph::new();
        let iter = Package::from_bytes("ninering:iter", None, iter, graph.types_mut())?;
        let iter = graph.register_package(iter)?;
        let client = Package::from_bytes("ninering:client", None, client, graph.types_mut())?;
        let client = graph.register_package(client)?;
        let iter = graph.instantiate(iter);
        let client = graph.instantiate(client);
        let exported = graph.alias_instance_export(iter, ITER)?;
        graph.set_instantiation_argument(client, ITER, exported)?;
        // In this order: the types of `client` are those of `vfs`.
        for name in ["ninering:fs/vfs@0.1.0", "ninering:fs/client@0.1.0"] {
            let export = graph.alias_instance_export(client, name)?;
            graph.export(export, name)?;
        }
        Ok(graph.encode(EncodeOptions::default())?)
    }
}

//! Makes the component that mounts instantiate: a client, with the iter component plugged in.
//!
//! A part of the build script, and of the tests that bring a client of their own.

use std::{error::Error, fs, path::Path};

use wac_graph::{CompositionGraph, EncodeOptions, types::Package};
use wit_component::ComponentEncoder;

/// Makes a component of a core module that wit-bindgen made.
pub(crate) fn componentize(module: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let bytes = fs::read(module).map_err(|error| format!("{}: {error}", module.display()))?;
    Ok(ComponentEncoder::default().validate(true).module(&bytes)?.encode()?)
}

/// Plugs the iter component's export into the client's import, and leaves the rest to the host.
pub(crate) fn compose(client: Vec<u8>, iter: Vec<u8>) -> Result<Vec<u8>, Box<dyn Error>> {
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

//! The sandboxed components import the ring and its memory, and nothing else.

#![cfg(feature = "mount")]

use wasmtime::{Engine, component::Component};

const CLIENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/client-alone.wasm"));
const ITER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/iter-alone.wasm"));
const BOTH: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/client.wasm"));

/// What a component imports and exports, without versions.
fn interfaces(component: &[u8]) -> (Vec<String>, Vec<String>) {
    let engine = Engine::default();
    let component = Component::new(&engine, component).expect("a component");
    let kind = component.component_type();
    let name = |(name, _): (&str, _)| name.split('@').next().unwrap_or(name).to_owned();
    let mut imports: Vec<_> = kind.imports(&engine).map(|(import, item)| name((import, item))).collect();
    let mut exports: Vec<_> = kind.exports(&engine).map(|(export, item)| name((export, item))).collect();
    imports.sort();
    exports.sort();
    (imports, exports)
}

#[test]
fn the_iter_component_imports_the_queue_and_its_memory() {
    let (imports, exports) = interfaces(ITER);
    assert_eq!(imports, ["ninering:fs/memory", "ninering:fs/virtqueue"]);
    assert_eq!(exports, ["ninering:fs/iter"]);
}

#[test]
fn the_client_component_imports_the_queue_its_memory_and_the_iter() {
    let (imports, exports) = interfaces(CLIENT);
    // `types` has types alone, and no function.
    let expected = ["ninering:fs/iter", "ninering:fs/memory", "ninering:fs/types", "ninering:fs/virtqueue"];
    assert_eq!(imports, expected);
    assert_eq!(exports, ["ninering:fs/client", "ninering:fs/vfs"]);
}

#[test]
fn together_they_import_the_queue_and_its_memory() {
    let (imports, exports) = interfaces(BOTH);
    assert_eq!(imports, ["ninering:fs/memory", "ninering:fs/types", "ninering:fs/virtqueue"]);
    assert_eq!(exports, ["ninering:fs/client", "ninering:fs/vfs"]);
}

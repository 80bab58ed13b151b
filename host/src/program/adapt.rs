//! WASI 0.1 modules as 0.2 components.
//!
//! wasmtime's adapter does it, but for one thing: it ends a program with success or failure only, whatever status the
//! program gave. So the module's `proc_exit` is made an import of `wasi:cli/exit`, which takes the status.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as ADAPTER, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as COMMAND,
};
use wasm_encoder::{ImportSection, Module, RawSection, reencode::Reencode as _, reencode::RoundtripReencoder};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::ProgramError;

/// What the module's `proc_exit` becomes.
const EXIT: (&str, &str) = ("wasi:cli/exit@0.2.12", "exit-with-code");

/// The interface of [`EXIT`], for the module to say that it imports it.
const EXIT_WIT: &str = "
package wasi:cli@0.2.12;

interface exit {
    @since(version = 0.2.0)
    exit: func(status: result);
    @since(version = 0.2.12)
    exit-with-code: func(status-code: u8);
}

world exits {
    import exit;
}
";

/// Makes a component of a WASI 0.1 command; `name` is what errors call it.
pub(super) fn adapt(name: &str, module: &[u8]) -> Result<Vec<u8>, ProgramError> {
    let not_wasi = |reason: String| ProgramError::NotWasi { path: name.into(), reason };
    let damaged =
        |error: &dyn std::fmt::Display| ProgramError::Compile { path: name.into(), reason: error.to_string() };
    let mut rewritten = Module::new();
    let (mut starts, mut exits) = (false, false);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| damaged(&error))?;
        if let Payload::ExportSection(exports) = &payload {
            for export in exports.clone() {
                starts |= export.map_err(|error| damaged(&error))?.name == "_start";
            }
        }
        if let Payload::ImportSection(section) = payload {
            let mut imports = ImportSection::new();
            for import in section.into_imports() {
                let import = import.map_err(|error| damaged(&error))?;
                if import.module != ADAPTER {
                    let foreign = format!("it imports '{}' from '{}', which is not WASI", import.name, import.module);
                    return Err(not_wasi(foreign));
                }
                let kind = RoundtripReencoder.entity_type(import.ty).map_err(|error| damaged(&error))?;
                let (from, what) = if import.name == "proc_exit" {
                    exits = true;
                    EXIT
                } else {
                    (import.module, import.name)
                };
                imports.import(from, what, kind);
            }
            rewritten.section(&imports);
        } else if let Some((id, range)) = payload.as_section() {
            rewritten.section(&RawSection { id, data: &module[range] });
        }
    }
    if !starts {
        return Err(not_wasi("it has no function '_start'".into()));
    }
    let mut module = rewritten.finish();
    if exits {
        declare_exit(&mut module).map_err(|error| damaged(&format!("{error:#}")))?;
    }
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.adapter(ADAPTER, COMMAND))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| not_wasi(format!("{error:#}").replace('\n', " ")))
}

/// Says in the module that it imports [`EXIT`]'s interface.
fn declare_exit(module: &mut Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("exit.wit", EXIT_WIT)?;
    let world = resolve.select_world(&[package], Some("exits"))?;
    Ok(wit_component::embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)?)
}

//! Reading from streams without a copy in between.
//!
//! wasmtime-wasi's `input-stream.read` makes a vector of the bytes that a stream yields, which is then copied into the
//! program's memory. Here the bytes go there from where the stream has them: for a file on a mount, the region.

use bytes::Bytes;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    WasiView,
    p2::{DynInputStream, StreamResult},
};
use wasmtime_wasi_io::bindings::wasi::io::streams::{self, StreamError};

/// The interface, of the version that wasmtime-wasi 48.0 has.
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// Replaces the two functions that read. The interface's others must have been added before.
pub(super) fn add_to_linker<T: WasiView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut instance = linker.instance(STREAMS)?;
    instance.func_wrap(
        "[method]input-stream.read",
        |mut store: StoreContextMut<'_, T>, (stream, len): (Resource<DynInputStream>, u64)| {
            let table = store.data_mut().ctx().table;
            let read = table.get_mut(&stream)?.read(usize::try_from(len).unwrap_or(usize::MAX));
            Ok((lower(table, read)?,))
        },
    )?;
    instance.func_wrap_async(
        "[method]input-stream.blocking-read",
        |mut store: StoreContextMut<'_, T>, (stream, len): (Resource<DynInputStream>, u64)| {
            Box::new(async move {
                let table = store.data_mut().ctx().table;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let read = table.get_mut(&stream)?.blocking_read(len).await;
                Ok((lower(table, read)?,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A stream's answer as the interface has it.
fn lower(table: &mut impl streams::Host, read: StreamResult<Bytes>) -> wasmtime::Result<Result<Bytes, StreamError>> {
    match read {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(error) => Ok(Err(table.convert_stream_error(error)?)),
    }
}

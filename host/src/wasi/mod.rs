//! `wasi:filesystem` 0.2 on top of mounts.
//!
//! Put a [`Mounts`] into the store's data beside the `WasiCtx`, implement [`MountsView`], and call
//! [`add_to_linker`] in place of `wasmtime_wasi::p2::add_to_linker_async`: programs then see the mounts, and no
//! directory of the host. Everything else of WASI stays wasmtime's.

mod convert;
mod descriptor;
mod directory;
mod error;
mod filesystem;
mod recent;
mod stream;
mod transfer;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    WasiView,
    cli::{WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    p2::bindings,
    random::WasiRandom,
    sockets::{WasiSockets, WasiSocketsView as _},
};

use crate::mount::Mount;

/// The mounts that a program sees, each at a path of its own.
#[derive(Clone, Default)]
pub struct Mounts(Vec<(String, Mount)>);

impl Mounts {
    /// No mount at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `mount` at the absolute path `guest_path`.
    ///
    /// # Errors
    /// [`MountPointTaken`] where there is a mount at that path already.
    pub fn add(&mut self, guest_path: impl Into<String>, mount: Mount) -> Result<&mut Self, MountPointTaken> {
        let guest_path = guest_path.into();
        if self.0.iter().any(|(taken, _)| *taken == guest_path) {
            return Err(MountPointTaken(guest_path));
        }
        self.0.push((guest_path, mount));
        Ok(self)
    }

    /// The mounts and their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Mount)> {
        self.0.iter().map(|(path, mount)| (path.as_str(), mount))
    }
}

/// Two mounts at one path.
#[derive(Clone, Debug, thiserror::Error)]
#[error("something is mounted at {0} already")]
pub struct MountPointTaken(String);

/// The mounts and the resource table of a store, borrowed.
pub struct MountsCtxView<'a> {
    /// The mounts.
    pub mounts: &'a Mounts,
    /// The store's resource table: the one that its `WasiView` shows too.
    pub table: &'a mut ResourceTable,
}

/// Implemented by the data of a store whose program is to see mounts.
pub trait MountsView: Send {
    /// The mounts and the resource table.
    fn mounts(&mut self) -> MountsCtxView<'_>;
}

/// Marks [`MountsCtxView`] as what the interfaces of `wasi:filesystem` work on.
struct NineringFilesystem;

impl HasData for NineringFilesystem {
    type Data<'a> = MountsCtxView<'a>;
}

/// Marks the resource table as what the interfaces of `wasi:io` work on.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Adds all of WASI 0.2 to `linker`: `wasi:filesystem` from the mounts, the rest from wasmtime.
///
/// # Errors
/// Where `linker` has one of the interfaces already.
pub fn add_to_linker<T: WasiView + MountsView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    add_all_but_filesystem(linker)?;
    transfer::add_to_linker(linker)?;
    add_filesystem_to_linker(linker)
}

/// Adds `wasi:filesystem` 0.2 alone to `linker`, for those who add the rest otherwise. Reading then costs a copy more.
///
/// # Errors
/// Where `linker` has it already.
pub fn add_filesystem_to_linker<T: MountsView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::filesystem::types::add_to_linker::<T, NineringFilesystem>(linker, T::mounts)?;
    bindings::filesystem::preopens::add_to_linker::<T, NineringFilesystem>(linker, T::mounts)
}

/// The interfaces one by one: shadowing a whole set would leave the host's filesystem in reach under another version.
fn add_all_but_filesystem<T: WasiView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    use wasmtime_wasi_io::bindings::wasi::io;
    let options = bindings::LinkOptions::default();
    io::error::add_to_linker::<T, Io>(linker, |data| data.ctx().table)?;
    io::poll::add_to_linker::<T, Io>(linker, |data| data.ctx().table)?;
    io::streams::add_to_linker::<T, Io>(linker, |data| data.ctx().table)?;
    bindings::clocks::wall_clock::add_to_linker::<T, WasiClocks>(linker, T::clocks)?;
    bindings::clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(linker, T::clocks)?;
    bindings::random::random::add_to_linker::<T, WasiRandom>(linker, |data| data.ctx().ctx.random())?;
    bindings::random::insecure::add_to_linker::<T, WasiRandom>(linker, |data| data.ctx().ctx.random())?;
    bindings::random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, |data| data.ctx().ctx.random())?;
    bindings::cli::exit::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::environment::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::terminal_input::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::terminal_output::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    bindings::sockets::tcp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    bindings::sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    bindings::sockets::udp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    bindings::sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    bindings::sockets::instance_network::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    bindings::sockets::network::add_to_linker::<T, WasiSockets>(linker, &(&options).into(), T::sockets)?;
    bindings::sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(linker, T::sockets)
}

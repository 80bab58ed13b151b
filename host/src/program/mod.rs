//! Programs: WASI command components, and WASI 0.1 modules adapted to them.
//!
//! [`Runtime`] compiles and runs them with mounts in place of the host's filesystem.

mod adapt;

use std::{borrow::Cow, path::Path, sync::OnceLock, time::Duration};

use wasmtime::{
    Cache, CacheConfig, Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{
    I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    p2::bindings::{Command, CommandPre},
};

use crate::wasi::{self, Mounts, MountsCtxView, MountsView};

/// The cache of compiled components, in the user's cache directory; `None` where there is no such place.
pub(crate) fn compilation_cache() -> Option<Cache> {
    static CACHE: OnceLock<Option<Cache>> = OnceLock::new();
    CACHE
        .get_or_init(|| {
            let mut config = CacheConfig::new();
            let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
            let directory = match (home("XDG_CACHE_HOME"), home("HOME")) {
                (Some(cache), _) => Path::new(&cache).join("ninering/compiled"),
                (None, Some(home)) => Path::new(&home).join(".cache/ninering/compiled"),
                (None, None) => return None,
            };
            // The cache's own requirement.
            if !directory.is_absolute() {
                return None;
            }
            config.with_directory(&directory);
            Cache::new(config).inspect_err(|error| tracing::debug!(?error, "no cache for compiled components")).ok()
        })
        .clone()
}

/// Why a program cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The program's file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is something else.
    #[error("{0} is not WebAssembly (it does not begin with \\0asm): give a .wasm component or module")]
    NotWebAssembly(String),
    /// A core module that is no WASI command.
    #[error("{path} is a WebAssembly module, but no WASI command: {reason}")]
    NotWasi {
        /// The program's file.
        path: String,
        /// What is missing, or too much.
        reason: String,
    },
    /// A component that is no WASI 0.2 command.
    #[error("{path} is a component, but not one that can be run here: {reason}")]
    NotACommand {
        /// The program's file.
        path: String,
        /// What is missing, or too much.
        reason: String,
    },
    /// It is damaged.
    #[error("{path} cannot be compiled: {reason}")]
    Compile {
        /// The program's file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// This machine cannot run WebAssembly.
    #[error("WebAssembly cannot be run here: {0}")]
    Engine(String),
    /// It trapped.
    #[error("the program failed: {0:?}")]
    Trap(wasmtime::Error),
}

/// What a program gets besides its mounts: [`WasiCtxBuilder`]'s settings, put in by the caller.
pub type Environment = WasiCtxBuilder;

/// The data of a program's store.
struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    mounts: Mounts,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl MountsView for State {
    fn mounts(&mut self) -> MountsCtxView<'_> {
        MountsCtxView { mounts: &self.mounts, table: &mut self.table }
    }
}

/// Compiles and runs programs.
pub struct Runtime {
    engine: Engine,
    linker: Linker<State>,
}

/// A compiled program.
pub struct Program {
    path: String,
    command: CommandPre<State>,
}

impl Runtime {
    /// A runtime with settings that suit commands.
    ///
    /// # Errors
    /// The machine lacks what WebAssembly needs.
    pub fn new() -> Result<Self, ProgramError> {
        Self::with_all_of_wasi().map_err(|error| ProgramError::Engine(one_line(&error)))
    }

    fn with_all_of_wasi() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        // WASI 0.2 needs no component-model async, and calls are three times as fast without.
        config.concurrency_support(false);
        config.cache(compilation_cache());
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker)?;
        Ok(Self { engine, linker })
    }

    /// Reads and compiles the program at `path`; `slow` is called once if that takes longer than a second.
    ///
    /// # Errors
    /// The file is no program that can be run, and why.
    pub fn load(&self, path: &Path, slow: impl FnOnce() + Send + 'static) -> Result<Program, ProgramError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| ProgramError::Read { path: name.clone(), error })?;
        let (done, waiting) = std::sync::mpsc::channel::<()>();
        let watcher = std::thread::spawn(move || {
            if waiting.recv_timeout(Duration::from_secs(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                slow();
            }
        });
        let program = self.compile(name, &bytes);
        drop(done);
        // The watcher cannot panic but by the caller's own doing.
        let _ = watcher.join();
        program
    }

    /// Compiles a program; `name` is what errors call it.
    ///
    /// # Errors
    /// It is no program that can be run, and why.
    pub fn compile(&self, name: String, bytes: &[u8]) -> Result<Program, ProgramError> {
        let component = as_component(&name, bytes)?;
        let component = Component::new(&self.engine, component)
            .map_err(|error| ProgramError::Compile { path: name.clone(), reason: one_line(&error) })?;
        let command = self
            .linker
            .instantiate_pre(&component)
            .and_then(CommandPre::new)
            .map_err(|error| ProgramError::NotACommand { path: name.clone(), reason: one_line(&error) })?;
        Ok(Program { path: name, command })
    }
}

impl Program {
    /// Runs the program to its end and tells its exit status.
    ///
    /// # Errors
    /// It trapped.
    pub async fn run(&self, mounts: Mounts, environment: &mut Environment) -> Result<i32, ProgramError> {
        let state = State { wasi: environment.build(), table: ResourceTable::new(), mounts };
        let mut store = Store::new(self.command.engine(), state);
        let outcome = async {
            let command: Command = self.command.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        };
        match outcome.await {
            Ok(Ok(())) => Ok(0),
            Ok(Err(())) => Ok(1),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(status)) => Ok(*status),
                None => Err(ProgramError::Trap(error)),
            },
        }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.path
    }
}

/// The program as a component: itself, or an adapted WASI 0.1 module; `name` is what errors call it.
///
/// # Errors
/// It is neither.
pub fn as_component<'a>(name: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, ProgramError> {
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => adapt::adapt(name, bytes).map(Cow::Owned),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(Cow::Borrowed(bytes)),
        [0, b'a', b's', b'm', ..] => {
            Err(ProgramError::Compile { path: name.into(), reason: "it is of an unknown version".into() })
        }
        _ => Err(ProgramError::NotWebAssembly(name.into())),
    }
}

/// An error and its causes, in one line.
fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").replace('\n', " ")
}

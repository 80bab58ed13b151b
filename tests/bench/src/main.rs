//! Runs `fsbench` on the same tmpfs in one go, several ways in turn, and prints the medians and their ratios.
//!
//! The ways: on a Ninering mount of the directory (`dir:`), on one with a cache (close-to-open), on wasmtime-wasi's
//! preopened directory as it is by default, the same with `allow_blocking_current_thread`, and natively. That setting is copied into a directory when it is
//! preopened, but asked for anew when a file is opened; so who sets it behind `preopened_dir` has files that block and
//! directories that hop, which is a way of its own here. The machine's noise meets all of them alike: each round runs
//! every way once, and of each row the median over the rounds counts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ninering::{
    mount::{CacheMode, MountOptions},
    program::{Environment, Runtime},
    source::Source,
    wasi::Mounts,
};
use wasmtime::{
    Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxView, WasiView,
    p2::{bindings::Command as WasiCommand, pipe::MemoryOutputPipe},
};

/// Compare filesystem operations: Ninering, wasmtime's preopened directories, native.
#[derive(Parser)]
struct Arguments {
    /// The benchmark program, compiled for WASI.
    #[arg(long)]
    wasm: PathBuf,
    /// The same program, compiled for this machine.
    #[arg(long)]
    native: PathBuf,
    /// Where the files are: a tmpfs, so that no disk is measured.
    #[arg(long, default_value = "/dev/shm")]
    directory: PathBuf,
    /// How many times each way is run.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// One way of running the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Ninering,
    Cached,
    Preopen,
    BlockingFiles,
    Blocking,
    Native,
}

const WAYS: [Way; 6] = [Way::Ninering, Way::Cached, Way::Preopen, Way::BlockingFiles, Way::Blocking, Way::Native];
const GUEST_PATH: &str = "/data";

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let component = std::fs::read(&arguments.wasm).with_context(|| arguments.wasm.display().to_string())?;
    let peers = Peers::new(&component).map_err(peer_error)?;
    let ours = Runtime::new()?;
    let program = ours.compile("fsbench".into(), &component)?;
    let mut results: BTreeMap<(usize, String), BTreeMap<Way, Vec<f64>>> = BTreeMap::new();
    for round in 0..arguments.rounds {
        for way in WAYS {
            let directory = tempfile::tempdir_in(&arguments.directory)?;
            let output = match way {
                Way::Ninering => runtime.block_on(on_ninering(&program, directory.path(), CacheMode::None))?,
                Way::Cached => runtime.block_on(on_ninering(&program, directory.path(), CacheMode::CloseToOpen))?,
                Way::Preopen | Way::BlockingFiles | Way::Blocking => {
                    runtime.block_on(peers.run(directory.path(), way)).map_err(peer_error)?
                }
                Way::Native => natively(&arguments.native, directory.path())?,
            };
            for (place, line) in output.lines().enumerate() {
                let (name, time) = line.split_once(' ').with_context(|| format!("unexpected output: {line}"))?;
                results.entry((place, name.into())).or_default().entry(way).or_default().push(time.parse()?);
            }
        }
        eprintln!("round {} of {}", round + 1, arguments.rounds);
    }
    println!("Without a cache, the default:\n");
    print_table(&results, Way::Ninering)?;
    println!("\nWith a cache of 128 MiB, close-to-open:\n");
    print_table(&results, Way::Cached)
}

/// Prints how long `ours` and all others take, and their ratios.
fn print_table(results: &BTreeMap<(usize, String), BTreeMap<Way, Vec<f64>>>, ours: Way) -> Result<()> {
    println!(
        "| operation | Ninering | preopen (default) | blocking files | blocking | native | × faster than default | × faster than blocking files | × faster than blocking | × native |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for ((_, name), times) in results {
        let median = |way: Way| median(name, times, way);
        let ours = median(ours)?;
        let preopens = [median(Way::Preopen)?, median(Way::BlockingFiles)?, median(Way::Blocking)?];
        let native = median(Way::Native)?;
        let micro = |time: f64| format!("{:.2} µs", time / 1000.0);
        println!(
            "| {name} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            micro(ours),
            micro(preopens[0]),
            micro(preopens[1]),
            micro(preopens[2]),
            micro(native),
            preopens[0] / ours,
            preopens[1] / ours,
            preopens[2] / ours,
            ours / native,
        );
    }
    Ok(())
}

/// The middle one of a row's times.
fn median(name: &str, times: &BTreeMap<Way, Vec<f64>>, way: Way) -> Result<f64> {
    let mut times = times.get(&way).with_context(|| format!("{name}: not measured"))?.clone();
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

async fn on_ninering(program: &ninering::program::Program, directory: &Path, cache: CacheMode) -> Result<String> {
    // The file that is read and written is to fit.
    let options = MountOptions { cache: Some(cache), cache_size: 128 << 20, ..MountOptions::default() };
    let mount = Source::Directory(directory.into()).mount(options).await?;
    let mut mounts = Mounts::new();
    mounts.add(GUEST_PATH, mount.clone())?;
    let output = MemoryOutputPipe::new(1 << 20);
    let mut environment = Environment::new();
    environment.args(&["fsbench", GUEST_PATH]).stdout(output.clone()).inherit_stderr();
    let status = program.run(mounts, &mut environment).await?;
    ensure!(status == 0, "fsbench on Ninering ended with status {status}");
    mount.finish().await?;
    ensure!(mount.statistics().payload_through_wit == 0, "payload went through WIT");
    Ok(String::from_utf8(output.contents().into())?)
}

fn natively(program: &Path, directory: &Path) -> Result<String> {
    let output = Command::new(program).arg(directory).output().with_context(|| program.display().to_string())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn peer_error(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:?}")
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// wasmtime as it is used: default settings, its own filesystem.
struct Peers {
    component: Component,
    linker: Linker<State>,
}

impl Peers {
    fn new(program: &[u8]) -> wasmtime::Result<Self> {
        let engine = Engine::new(&Config::new())?;
        let component = ninering::program::as_component("fsbench", program)?;
        let component = Component::new(&engine, component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        Ok(Self { component, linker })
    }

    async fn run(&self, directory: &Path, way: Way) -> wasmtime::Result<String> {
        let output = MemoryOutputPipe::new(1 << 20);
        let wasi = WasiCtx::builder()
            .args(&["fsbench", GUEST_PATH])
            .stdout(output.clone())
            .inherit_stderr()
            .allow_blocking_current_thread(way == Way::Blocking)
            .preopened_dir(directory, GUEST_PATH, FsPerms::ReadWrite)?
            .allow_blocking_current_thread(way != Way::Preopen)
            .build();
        let mut store = Store::new(self.component.engine(), State { wasi, table: ResourceTable::new() });
        let command = WasiCommand::instantiate_async(&mut store, &self.component, &self.linker).await?;
        if command.wasi_cli_run().call_run(&mut store).await?.is_err() {
            return Err(wasmtime::format_err!("fsbench failed on a preopened directory"));
        }
        Ok(String::from_utf8(output.contents().into())?)
    }
}

//! A tokio program that gives a WASI program files which are no directory of this machine:
//! `embed APP.wasm [ARGS…]`. The program finds an empty filesystem at `/data`, and what it leaves there is listed.

use anyhow::Context;
use ninering::{
    mount::{MountOptions, OpenFlags},
    program::{Environment, Runtime},
    source::Source,
    wasi::Mounts,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let app = arguments.first().context("embed APP.wasm [ARGS…]")?;

    // Any source will do: "dir:/srv/files", "tcp://files.example:564/export", "unix:///run/9p.sock".
    let mount = "mem:".parse::<Source>()?.mount(MountOptions::default()).await?;
    let mut mounts = Mounts::new();
    mounts.add("/data", mount.clone())?;

    let program = Runtime::new()?.load(app.as_ref(), || eprintln!("compiling …"))?;
    let status = program.run(mounts, Environment::new().inherit_stdio().args(&arguments)).await?;
    mount.finish().await?;

    // The host can use the same files, by the same way.
    let root = mount.root().open_at(".", OpenFlags::READ | OpenFlags::DIRECTORY, 0).await?;
    for entry in root.read_directory(0).await?.entries {
        println!("/data/{}", String::from_utf8_lossy(&entry.name));
    }
    std::process::exit(status)
}

//! `ninering serve`.

use std::process::ExitCode;

use anyhow::Context;
use ninering::{
    listener::{Address, Listener},
    server::ServerOptions,
};
use tokio::sync::watch;

use super::{
    complain,
    exports::{self, ExportArguments},
    observing::ObservingArguments,
};

/// Serve files over 9P2000.L to Linux's own client, to virtual machines, to other Ninering hosts.
#[derive(clap::Args)]
#[command(after_help = format!("{MOUNTING}\n\n{}", exports::HELP))]
pub(super) struct Arguments {
    #[command(flatten)]
    exports: ExportArguments,
    /// Where to listen: tcp://HOST:PORT or unix:///PATH. Can be given several times.
    #[arg(short, long, required = true, value_name = "ADDRESS")]
    listen: Vec<Address>,
    /// The largest 9P message to agree to, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = ServerOptions::default().max_msize,
          value_parser = clap::value_parser!(u32).range(8192..=16 << 20))]
    msize: u32,
    #[command(flatten)]
    observing: ObservingArguments,
}

const MOUNTING: &str = "\
Mount it on Linux with
  mount -t 9p -o trans=tcp,port=5640,version=9p2000.L,msize=1048576 127.0.0.1 /mnt";

pub(super) fn serve(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let observing = arguments.observing.observing()?;
    let observers = observing.observers.clone();
    let options = ServerOptions { max_msize: arguments.msize, observers, ..ServerOptions::default() };
    let server = arguments.exports.server(options)?;
    if arguments.exports.asks_for_peers()
        && let Some(address) = arguments.listen.iter().find(|address| matches!(address, Address::Tcp(_)))
    {
        anyhow::bail!("{address} does not tell who connects: with the identity 'peer', listen on unix:///PATH alone");
    }
    super::runtime()?.block_on(async {
        let mut listeners = Vec::new();
        for address in &arguments.listen {
            listeners.push(Listener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?);
        }
        observing.begin().await?;
        // Clients have applied theirs. (Before, it has its say in who may connect to a Unix socket.)
        rustix::process::umask(rustix::fs::Mode::empty());
        let (stop, stopped) = watch::channel(());
        let mut serving = tokio::task::JoinSet::new();
        for listener in listeners {
            eprintln!("ninering: serving {} on {}", arguments.exports, listener.local_address());
            let (server, mut stopped) = (server.clone(), stopped.clone());
            serving.spawn(listener.serve(server, async move {
                // An error means that the sender is gone, which means the same.
                let _ = stopped.changed().await;
            }));
        }
        terminated().await?;
        complain("ending: requests under way are answered first; again to end at once");
        stop.send_replace(());
        tokio::select! {
            _ = async { while serving.join_next().await.is_some() {} } => {}
            ended = terminated() => ended?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Returns at the next Ctrl-C or SIGTERM.
async fn terminated() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

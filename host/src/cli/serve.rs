//! `ninering serve`.

use std::{process::ExitCode, str::FromStr, sync::Arc};

use anyhow::Context;
use ninering::{
    listener::{Address, AddressError, Listener, Resources},
    server::{Dialect, Server, ServerOptions},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::{
    activation, complain,
    exports::{self, ExportArguments},
    limits::LimitArguments,
    observing::ObservingArguments,
};

/// Threads beside those that answer requests: for resolving names.
const OTHER_THREADS: usize = 8;

/// Serve files over 9P to Linux's own client, to virtual machines, to other Ninering hosts.
#[derive(clap::Args)]
#[command(after_help = help())]
pub(super) struct Arguments {
    #[command(flatten)]
    exports: ExportArguments,
    /// Where to listen (see below). Can be given several times.
    #[arg(short, long, value_name = "ADDRESS")]
    listen: Vec<Listen>,
    /// The dialects to speak, separated by commas: 9P2000.L, 9P2000.u, 9P2000.
    #[arg(long, value_name = "DIALECTS", value_delimiter = ',', default_values_t = Dialect::ALL)]
    dialects: Vec<Dialect>,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    observing: ObservingArguments,
}

/// An address, or sockets that come from systemd.
#[derive(Clone, Debug)]
enum Listen {
    Address(Address),
    Activated(Option<String>),
}

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix("systemd:") {
            Some("") => Ok(Self::Activated(None)),
            Some(name) => Ok(Self::Activated(Some(name.to_owned()))),
            None => text.parse().map(Self::Address),
        }
    }
}

impl Arguments {
    /// All addresses to listen at.
    fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        let activated = activation::Activated::by_environment()?;
        if self.listen.is_empty() {
            anyhow::ensure!(!activated.is_empty(), "say where to listen: --listen ADDRESS (see --help)");
            return activated.addresses(None);
        }
        let mut addresses = Vec::new();
        for listen in &self.listen {
            match listen {
                Listen::Address(address) => addresses.push(address.clone()),
                Listen::Activated(name) => addresses.extend(activated.addresses(name.as_deref())?),
            }
        }
        Ok(addresses)
    }
}

const LISTENING: &str = "\
LISTENING
An ADDRESS is one of
  tcp://HOST:PORT           port 564 unless it is said; HOST can be 0.0.0.0 or [::]
  unix:///PATH              a socket in the filesystem, made as the umask says
  vsock://CID:PORT          to virtual machines; CID can be 'any'
  fd:NUMBER                 a socket that this process was started with, listening or connected
  fd:INPUT,OUTPUT           two pipes that this process was started with
  stdio:                    standard input and output
  systemd:[NAME]            the sockets that systemd hands over, those of that FileDescriptorName=
Without any, the sockets that systemd hands over are served.

Mount it on Linux with
  mount -t 9p -o trans=tcp,port=5640,version=9p2000.L,msize=1048576,access=client,posixacl \\
    127.0.0.1 /mnt

SIGTERM or SIGINT ends it: no more requests are read, those under way are answered (--drain-time).
A second one ends it at once.";

/// What is below the options.
fn help() -> String {
    let topics = [
        LISTENING,
        exports::HELP,
        #[cfg(feature = "mount")]
        exports::RELAYS,
    ];
    topics.join("\n\n")
}

pub(super) fn serve(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let addresses = arguments.addresses()?;
    let descriptors = raise_descriptor_limit();
    let resources = Resources::new(arguments.limits.limits());
    let observing = arguments.observing.observing()?;
    let dialects = arguments.dialects.iter().copied().collect();
    let mut options = ServerOptions { dialects, observers: observing.observers.clone(), ..ServerOptions::default() };
    arguments.limits.apply_to(&mut options, descriptors);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(resources.limits().requests.saturating_add(OTHER_THREADS))
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let server = arguments.exports.server(options).await?;
        let mut listeners = Vec::new();
        for address in &addresses {
            let listener = Listener::bind(address).await.and_then(|listener| listener.sharing(&resources));
            listeners.push(listener.with_context(|| format!("cannot listen on {address}"))?);
        }
        if arguments.exports.asks_for_peers()
            && let Some(listener) = listeners.iter().find(|listener| !listener.knows_users())
        {
            let address = listener.local_address();
            anyhow::bail!(
                "{address} does not tell who connects: with the identity 'peer', listen on unix:///PATH alone"
            );
        }
        observing.begin(&resources).await?;
        // Clients have applied theirs. (Before, it has its say in who may connect to a Unix socket.)
        rustix::process::umask(rustix::fs::Mode::empty());
        for listener in &listeners {
            eprintln!("ninering: serving {} on {}", arguments.exports, listener.local_address());
        }
        serve_on(listeners, &server).await
    });
    // A request that nobody waits for any more may never end, such as one of a filesystem that lost its disk.
    runtime.shutdown_background();
    observing.end();
    outcome
}

/// Lets this process have as many descriptors as it may: each fid of a directory has one or two. (The usual limit is low for
/// the sake of programs that use `select`.)
///
/// Returns how many that are.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open descriptors");
    }
    let unlimited = usize::MAX;
    getrlimit(Resource::Nofile).current.map_or(unlimited, |most| usize::try_from(most).unwrap_or(unlimited))
}

/// Serves until a signal comes, or the last client that there can be is gone.
async fn serve_on(listeners: Vec<Listener>, server: &Arc<Server>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let (stop, stopped) = watch::channel(());
    let mut serving = JoinSet::new();
    for listener in listeners {
        let (server, mut stopped) = (Arc::clone(server), stopped.clone());
        serving.spawn(listener.serve(server, async move {
            // An error means that the sender is gone, which means the same.
            let _ = stopped.changed().await;
        }));
    }
    activation::ready("serving");
    tokio::select! {
        ended = end_of(&mut serving) => return ended,
        () = signals.next() => {}
    }
    activation::stopping();
    complain("ending: requests under way are answered first; again to end at once");
    stop.send_replace(());
    let ending = async {
        let ended = end_of(&mut serving).await;
        let server = Arc::clone(server);
        tokio::task::spawn_blocking(move || server.finish()).await?;
        ended
    };
    tokio::select! {
        ended = ending => ended,
        () = signals.next() => {
            complain("ended at once, with requests under way");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Waits until no listener is left, or one fails.
async fn end_of(serving: &mut JoinSet<std::io::Result<()>>) -> anyhow::Result<ExitCode> {
    while let Some(ended) = serving.join_next().await {
        ended??;
    }
    Ok(ExitCode::SUCCESS)
}

/// The signals that end a server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

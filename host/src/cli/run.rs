//! `ninering run`.

use std::{path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use ninering::{
    mount::{CacheMode, Mount, MountOptions, RecoveryStatistics, Statistics, cache::UnknownCacheMode},
    program::{Environment, Runtime},
    source::{Source, SourceError},
    wasi::Mounts,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    complain,
    mounting::{MountArguments, announced},
};

/// Run a WASI program with filesystems mounted into it.
///
/// The program is a WASI 0.2 command component or a WASI 0.1 module, unchanged. It sees the mounts and nothing else of
/// this machine's files. It gets this command's standard streams; its exit status becomes this command's.
#[derive(clap::Args)]
#[command(after_help = super::SOURCES)]
pub(super) struct Arguments {
    /// Mount SOURCE at the absolute path PATH. Can be given several times. Behind it can stand ',ro', for reading only,
    /// ',cache=MODE': none, readahead, close-to-open or loose; ',attr_timeout=TIME': how long what is known of names and
    /// attributes is believed in the modes that keep any (1s; in loose, for ever); and ',recover=TIME': how long to try to
    /// connect again when the connection to a server is lost, with the program waiting (30s; 0s to fail at once).
    #[arg(short, long = "mount", value_name = "PATH=SOURCE[,OPTION…]")]
    mounts: Vec<MountArgument>,
    /// Set an environment variable of the program. It gets no others.
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// Print afterwards what went through each mount.
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    settings: MountArguments,
    /// The program.
    #[arg(value_name = "APP.wasm")]
    program: PathBuf,
    /// The program's arguments.
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// `PATH=SOURCE[,ro][,cache=MODE][,attr_timeout=TIME][,recover=TIME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MountArgument {
    path: String,
    source: Source,
    read_only: bool,
    cache: Option<CacheMode>,
    attribute_timeout: Option<Duration>,
    recovery: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
enum MountArgumentError {
    #[error("write PATH=SOURCE, such as /data=dir:/srv/data")]
    Form,
    #[error("the path '{0}' must be absolute: begin it with '/'")]
    Relative(String),
    #[error("the path '{0}' must not have '.' or '..' in it")]
    Dots(String),
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("{0}")]
    Cache(#[from] UnknownCacheMode),
    #[error("'{0}={1}': write a time such as 30s or 2min; 0s for none")]
    Time(&'static str, String),
}

impl FromStr for MountArgument {
    type Err = MountArgumentError;

    fn from_str(text: &str) -> Result<Self, MountArgumentError> {
        let (path, source) = text.split_once('=').ok_or(MountArgumentError::Form)?;
        if !path.starts_with('/') {
            return Err(MountArgumentError::Relative(path.into()));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(MountArgumentError::Dots(path.into()));
        }
        let time = |option, time: &str| {
            humantime::parse_duration(time).map(Some).map_err(|_| MountArgumentError::Time(option, time.into()))
        };
        let path = format!("/{}", parts.join("/"));
        let (mut source, mut read_only, mut cache) = (source, false, None);
        let (mut attribute_timeout, mut recovery) = (None, None);
        // From behind, for a source may have commas of its own.
        while let Some((rest, option)) = source.rsplit_once(',') {
            match option.split_once('=') {
                None if option == "ro" => read_only = true,
                Some(("cache", mode)) => cache = Some(mode.parse()?),
                Some(("attr_timeout", text)) => attribute_timeout = time("attr_timeout", text)?,
                Some(("recover", text)) => recovery = time("recover", text)?,
                _ => break,
            }
            source = rest;
        }
        Ok(Self { path, source: source.parse()?, read_only, cache, attribute_timeout, recovery })
    }
}

impl MountArgument {
    fn options(&self, settings: &MountArguments) -> MountOptions {
        let &Self { read_only, cache, attribute_timeout, recovery, .. } = self;
        let options = settings.options();
        MountOptions {
            read_only,
            cache,
            attribute_timeout: attribute_timeout.unwrap_or(options.attribute_timeout),
            recovery: recovery.unwrap_or(options.recovery),
            ..options
        }
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write NAME=VALUE".into()),
    }
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new()?;
    let name = arguments.program.display().to_string();
    let program = runtime.load(&arguments.program, {
        let name = name.clone();
        move || complain(&format!("compiling {name} (once; it is kept for next time) …"))
    })?;
    let tokio = super::runtime()?;
    let status = tokio.block_on(async {
        let mut mounts = Mounts::new();
        for argument in &arguments.mounts {
            let (options, MountArgument { path, source, .. }) = (argument.options(&arguments.settings), argument);
            let mount = announced(|| format!("waiting for {source} …"), source.mount(options)).await?;
            mounts.add(path, mount)?;
        }
        tokio::spawn(end_by_interrupt(
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            mounts.clone(),
        ));
        let mut environment = Environment::new();
        environment.inherit_stdio().arg(&name).args(&arguments.arguments).envs(&arguments.environment);
        tracing::debug!(program = name, "running");
        let outcome = program.run(mounts.clone(), &mut environment).await;
        let mut status = match outcome {
            Ok(status) => status,
            Err(error) => {
                complain(&error.to_string());
                TRAPPED
            }
        };
        for (path, mount) in mounts.iter() {
            if let Err(error) = mount.finish().await {
                complain(&format!("{path}: not everything that was written has been stored: {error}"));
                status = if status == 0 { 1 } else { status };
            } else if let Some(reason) = mount.broken() {
                // The program was told of an I/O error.
                complain(&format!("{path}: {reason}"));
            }
        }
        if arguments.stats {
            for (argument, (_, mount)) in arguments.mounts.iter().zip(mounts.iter()) {
                eprint!("{}", report(argument, mount));
            }
        }
        anyhow::Ok(status)
    })?;
    // A program may have left a thread behind that reads standard input; nobody waits for it.
    tokio.shutdown_background();
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// The status of a program that trapped: that of one which aborted.
const TRAPPED: i32 = 134;

/// On Ctrl-C or SIGTERM, stores what the program wrote and ends; on the second one, ends at once.
async fn end_by_interrupt(mut interrupt: Signal, mut terminate: Signal, mounts: Mounts) {
    let status = tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    };
    let store = async {
        for (path, mount) in mounts.iter() {
            if let Err(error) = mount.finish().await {
                complain(&format!("{path}: not everything that was written has been stored: {error}"));
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(Duration::from_secs(5), store) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    std::process::exit(status);
}

/// A mount's counters, for people.
fn report(argument: &MountArgument, mount: &Mount) -> String {
    let Statistics {
        operations,
        requests,
        kicks,
        kicks_suppressed,
        interrupts,
        interrupts_suppressed,
        bytes_out,
        bytes_in,
        header_bytes,
        bounced_bytes,
        copied_bytes,
        payload_through_wit,
        cache,
        names,
        recovery,
    } = mount.statistics();
    let rows = [
        ("operations", operations),
        ("9P requests", requests),
        ("kicks", kicks),
        ("kicks that were not needed", kicks_suppressed),
        ("interrupts", interrupts),
        ("interrupts that were not needed", interrupts_suppressed),
        ("payload bytes by the ring, out", bytes_out),
        ("payload bytes by the ring, in", bytes_in),
        ("header bytes", header_bytes),
        ("directory bytes read by the client", bounced_bytes),
        ("payload bytes copied to or from the program", copied_bytes),
        ("payload bytes through WIT", payload_through_wit),
    ];
    let cached = [
        ("reads from the cache", cache.hits),
        ("reads that were not in the cache", cache.misses),
        ("pages read ahead", cache.read_ahead_pages),
        ("writes of gathered pages", cache.write_backs),
        ("bytes written by them", cache.written_back_bytes),
        ("pages given up for others", cache.evicted_pages),
        ("pages changed elsewhere", cache.invalidated_pages),
        ("bytes in the cache", cache.held_bytes),
        ("names and attributes that were known", names.hits),
        ("of them names that are not there", names.missing_hits),
        ("names and attributes that were asked for", names.misses),
        ("entries listed with attributes", names.entries_with_attributes),
    ];
    let recovered = [
        ("connections that took a lost one's place", recovery.reconnects),
        ("requests sent again", recovery.resent),
        ("requests found to have been done", recovery.settled),
        ("operations given up, not known whether done", recovery.doubtful),
        ("open files that are gone", recovery.stale_fids),
        ("open files that have lost their locks", recovery.lost_locks),
    ];
    let recovered = if recovery == RecoveryStatistics::default() { &[][..] } else { &recovered };
    let cached = if mount.cache_mode() == CacheMode::None { &[][..] } else { &cached };
    let mut text = format!("ninering: {} = {}\n", argument.path, argument.source);
    for (what, count) in rows.iter().chain(cached).chain(recovered) {
        text.push_str(&format!("  {count:>14}  {what}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_parsed() {
        let mount: MountArgument = "/data/=dir:/srv/a=b,ro".parse().expect("a mount");
        assert_eq!((mount.path.as_str(), mount.read_only, mount.cache), ("/data", true, None));
        assert_eq!(mount.source, Source::Directory("/srv/a=b".into()));
        assert_eq!("/=mem:".parse::<MountArgument>().expect("a mount").path, "/");
        let mount: MountArgument = "/data=tcp://a:1/,recover=2min,attr_timeout=500ms".parse().expect("a mount");
        assert_eq!(mount.recovery, Some(Duration::from_secs(120)));
        assert_eq!(mount.attribute_timeout, Some(Duration::from_millis(500)));
        for text in ["/data=dir:/a,b,cache=loose,ro", "/data=dir:/a,b,ro,cache=loose"] {
            let mount: MountArgument = text.parse().expect("a mount");
            assert_eq!((mount.read_only, mount.cache), (true, Some(CacheMode::Loose)));
            assert_eq!(mount.source, Source::Directory("/a,b".into()));
        }
    }

    #[test]
    fn mistakes_in_mounts_are_named() {
        for (text, part) in [
            ("/data", "PATH=SOURCE"),
            ("data=mem:", "absolute"),
            ("/a/../b=mem:", "'..'"),
            ("/data=/srv", "dir:PATH"),
            ("/data=mem:,cache=all", "close-to-open"),
            ("/data=mem:,recover=soon", "'recover=soon'"),
            ("/data=mem:,attr_timeout=1", "'attr_timeout=1'"),
        ] {
            let error = text.parse::<MountArgument>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

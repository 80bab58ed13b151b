//! The command line: what it takes, and how it says what went wrong.

mod browse;
mod run;
mod serve;

use std::{future::Future, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, error::ErrorKind};
use ninering::mount::MountOptions;

/// Give WebAssembly programs files over 9P, and serve files over 9P.
#[derive(Parser)]
#[command(name = "ninering", version, max_term_width = 100, after_help = SOURCES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Serve(serve::Arguments),
    Ls(browse::List),
    Cat(browse::Concatenate),
}

const SOURCES: &str = "\
A SOURCE of files is one of
  dir:PATH                        a directory of this machine; nothing outside it can be reached
  mem:                            an empty filesystem in memory, gone at the end
  tcp://HOST:PORT/ANAME           the export ANAME of a 9P2000.L server (diod, QEMU, 'ninering serve', …)
  unix:///SOCKET?aname=ANAME      the same on a unix socket
?uid=NUMBER behind a server's address says as whom to attach (default: who runs this).

RUST_LOG=ninering=debug shows what happens inside.";

/// The status for a mistake in how this was called, or for what it was called with.
const MISTAKE: u8 = 2;

/// Settings of all commands that mount something.
#[derive(clap::Args)]
struct MountArguments {
    /// How long a server may take to answer (or to be reached) before the operation fails with an I/O error.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// The largest 9P message to ask for, in bytes; the server may say less.
    #[arg(long, value_name = "BYTES", default_value_t = MountOptions::default().msize,
          value_parser = clap::value_parser!(u32).range(8192..=16 << 20))]
    msize: u32,
}

impl MountArguments {
    fn options(&self) -> MountOptions {
        MountOptions {
            timeout: self.timeout,
            msize: self.msize,
            uname: std::env::var("USER").unwrap_or_default(),
            uid: Some(rustix::process::geteuid().as_raw()),
            ..MountOptions::default()
        }
    }
}

pub(crate) fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = match cli.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Serve(arguments) => serve::serve(arguments),
        Command::Ls(arguments) => browse::list(arguments),
        Command::Cat(arguments) => browse::concatenate(arguments),
    };
    outcome.unwrap_or_else(|error| {
        complain(&explanation(&error));
        ExitCode::from(MISTAKE)
    })
}

/// An error and its causes, each said once: many errors say their cause themselves.
fn explanation(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said {
        said if said.contains(&cause) => said,
        said if said.is_empty() => cause,
        said => format!("{said}: {cause}"),
    })
}

/// Help as asked for; a mistake in one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.exit()
        }
        _ => {
            let text = error.render().to_string();
            let paragraph = text.split("\n\n").next().unwrap_or_default();
            let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            complain(&format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(&line)));
            ExitCode::from(MISTAKE)
        }
    }
}

/// One line on standard error.
fn complain(message: &str) {
    eprintln!("ninering: {}", message.replace('\n', " "));
}

/// Awaits `work`, and says what is going on if it takes longer than a second.
async fn announced<T>(message: impl FnOnce() -> String, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    match tokio::time::timeout(Duration::from_secs(1), &mut work).await {
        Ok(done) => done,
        Err(_) => {
            complain(&message());
            work.await
        }
    }
}

/// The runtime that all commands share.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

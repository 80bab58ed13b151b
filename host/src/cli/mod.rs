//! The command line: what it takes, and how it says what went wrong.

mod activation;
#[cfg(feature = "mount")]
mod browse;
mod exports;
mod limits;
mod metrics;
#[cfg(feature = "mount")]
mod mounting;
mod observing;
#[cfg(feature = "mount")]
mod relaying;
#[cfg(feature = "mount")]
mod run;
mod serve;
mod stat;

use std::process::ExitCode;

use clap::{Parser, Subcommand, error::ErrorKind};

/// Give WebAssembly programs files over 9P, and serve files over 9P.
#[derive(Parser)]
#[command(name = "ninering", version, max_term_width = 100, after_help = SOURCES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "mount")]
    Run(run::Arguments),
    Serve(Box<serve::Arguments>),
    Stat(stat::Arguments),
    #[cfg(feature = "mount")]
    Ls(browse::List),
    #[cfg(feature = "mount")]
    Cat(browse::Concatenate),
}

const SOURCES: &str = "\
A SOURCE of files is one of
  dir:PATH                        a directory of this machine; nothing outside it can be reached
  mem:                            an empty filesystem in memory, gone at the end
  tcp://HOST:PORT/ANAME           the export ANAME of a 9P2000.L server (diod, QEMU, 'ninering serve', …)
  vsock://CID:PORT/ANAME          the same in a virtual machine, or from there on its host, which is CID 2
  unix:///SOCKET?aname=ANAME      the same on a unix socket
?uid=NUMBER behind a server's address says as whom to attach (default: who runs this).

RUST_LOG=ninering=debug shows what happens inside.";

/// The status for a mistake in how this was called, or for what it was called with.
const MISTAKE: u8 = 2;

pub(crate) fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = match cli.command {
        #[cfg(feature = "mount")]
        Command::Run(arguments) => run::run(arguments),
        Command::Serve(arguments) => serve::serve(*arguments),
        Command::Stat(arguments) => stat::stat(arguments),
        #[cfg(feature = "mount")]
        Command::Ls(arguments) => browse::list(arguments),
        #[cfg(feature = "mount")]
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

/// The runtime of all commands but `serve`, which may have more threads.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

//! What the commands that mount something have in common.

use std::{future::Future, time::Duration};

use ninering::mount::MountOptions;

use super::complain;

/// Settings of all commands that mount something.
#[derive(clap::Args)]
pub(super) struct MountArguments {
    /// How long a server may take to answer (or to be reached) before the operation fails with an I/O error.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    /// The largest 9P message to ask for, in bytes; the server may say less.
    #[arg(long, value_name = "BYTES", default_value_t = MountOptions::default().msize,
          value_parser = clap::value_parser!(u32).range(8192..=16 << 20))]
    msize: u32,
}

impl MountArguments {
    pub(super) fn options(&self) -> MountOptions {
        MountOptions {
            timeout: self.timeout,
            msize: self.msize,
            uname: std::env::var("USER").unwrap_or_default(),
            uid: Some(rustix::process::geteuid().as_raw()),
            ..MountOptions::default()
        }
    }
}

/// Awaits `work`, and says what is going on if it takes longer than a second.
pub(super) async fn announced<T>(message: impl FnOnce() -> String, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    match tokio::time::timeout(Duration::from_secs(1), &mut work).await {
        Ok(done) => done,
        Err(_) => {
            complain(&message());
            work.await
        }
    }
}

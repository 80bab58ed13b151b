//! What `ninering serve` says about the servers that it relays.

use std::{sync::Arc, time::Duration};

use ninering::{
    mount::{MountOptions, Relay},
    source::Source,
};

use super::mounting::announced;

/// How servers elsewhere are reached.
#[derive(clap::Args)]
#[command(next_help_heading = "Relays")]
pub(super) struct RelayArguments {
    /// How long a server that is relayed may take to answer, or to be connected to, before requests fail with EIO.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    upstream_timeout: Duration,
}

/// Descriptors in the ring to a server that is relayed, of which a request takes three or four: the requests of many clients
/// are under way at a time.
const QUEUE_SIZE: u16 = 1024;

impl RelayArguments {
    /// Connects to the server that `source` names. Messages are no longer than `msize`.
    pub(super) async fn relay(&self, source: &Source, msize: u32) -> anyhow::Result<Arc<Relay>> {
        let options = MountOptions {
            timeout: self.upstream_timeout,
            msize,
            uname: std::env::var("USER").unwrap_or_default(),
            uid: Some(rustix::process::geteuid().as_raw()),
            queue_size: QUEUE_SIZE,
            ..MountOptions::default()
        };
        let connecting = source.relay(options);
        Ok(Arc::new(announced(|| format!("connecting to {source} …"), connecting).await?))
    }
}

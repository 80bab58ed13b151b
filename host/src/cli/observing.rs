//! The options of `ninering serve` by which one sees what it does.

use std::sync::Arc;

use anyhow::Context;
use ninering::{listener::Address, metrics::Metrics, server::Observers};

use super::metrics::Endpoint;

/// How to see what the server does.
#[derive(clap::Args)]
pub(super) struct ObservingArguments {
    /// Let metrics be fetched there, by Prometheus (as http://HOST:PORT/metrics) or by 'ninering stat':
    /// tcp://HOST:PORT. Nothing secret is in them, no names of files or peers.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<Address>,
}

/// Who sees what the server does.
pub(super) struct Observing {
    pub(super) observers: Observers,
    metrics: Option<(Address, Arc<Metrics>)>,
}

impl ObservingArguments {
    pub(super) fn observing(&self) -> anyhow::Result<Observing> {
        let mut observers = Observers::default();
        let metrics = self.metrics.as_ref().map(|address| (address.clone(), Arc::new(Metrics::default())));
        if let Some((_, metrics)) = &metrics {
            observers.0.push(Arc::clone(metrics) as _);
        }
        Ok(Observing { observers, metrics })
    }
}

impl Observing {
    /// Begins to tell others, in the runtime that this is called in.
    pub(super) async fn begin(self) -> anyhow::Result<()> {
        if let Some((address, metrics)) = self.metrics {
            let endpoint = Endpoint::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
            eprintln!("ninering: metrics on {}", endpoint.local_address()?);
            tokio::spawn(endpoint.serve(metrics));
        }
        Ok(())
    }
}

//! How a mount begins: a ring and a device, an instance of the client, a session.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use wasmtime::component::Resource;

use super::{
    Buffers, CacheMode, Error, Mount, MountOptions, Origin, Result, Shared, Statistics,
    buffer::BufferPool,
    cache::{self, names::Names},
    calls::Begun,
    component::{Guest, QueueHandle, RegionHandle, Sandbox, Template, vfs},
    give_up::Patience,
    life::{Life, State},
    operate::Submitted,
    recovery,
};
use crate::{
    device::{Device, local::LocalDevice, remote::RemoteDevice},
    lease::Leases,
    listener::Address,
    region::Region,
    server::Session,
    virtqueue::{DeviceQueue, Driver},
};

impl Mount {
    pub(super) fn unborn(origin: Origin, options: MountOptions) -> Self {
        let state = State { incarnation: 0, life: Err("not started".into()), past: Statistics::default() };
        let mode = options.cache.unwrap_or(match origin {
            Origin::Server(_) => CacheMode::None,
            Origin::Remote(_) => CacheMode::CloseToOpen,
        });
        let names = Names::new(mode, options.attribute_timeout);
        Self(Arc::new(Shared {
            origin,
            mode,
            cache: Mutex::default(),
            cached: Arc::default(),
            options,
            state: Mutex::new(state),
            plain: AtomicBool::new(false),
            unwritten: Default::default(),
            names,
            operations: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            contents: [const { AtomicU64::new(0) }; 64],
            copied: AtomicU64::new(0),
            client_id: client_id(),
            waiting_locks: AtomicUsize::new(0),
        }))
    }

    pub(super) async fn connect(&self, address: &Address) -> Result<()> {
        let before = self.statistics().requests;
        let connected = self.connect_once(address).await;
        // Some servers close the connection when they are asked for a version that they have never heard of.
        let was_refused = matches!(connected, Err(Error::Broken(_))) && self.statistics().requests == before + 1;
        if !was_refused || self.0.plain.swap(true, Ordering::Relaxed) {
            return connected;
        }
        let connected = self.connect_once(address).await;
        if connected.is_err() {
            // That was not the reason.
            self.0.plain.store(false, Ordering::Relaxed);
        }
        connected
    }

    pub(super) async fn connect_once(&self, address: &Address) -> Result<()> {
        let stream = crate::device::remote::connect(address, self.0.options.timeout)
            .await
            .map_err(|error| Error::broken(error.to_string()))?;
        let interrupt = self.0.interrupt();
        let submitted = self.submit_start(|queue| Ok(Box::new(RemoteDevice::start(queue, stream, interrupt))))?;
        // It may have been lost before there was a life to be told of it.
        recovery::look(&self.0);
        let started = self.outcome(submitted, Patience::ToTheEnd).await.0?;
        let attached = self.authenticate(started).await;
        if let Err(Error::Broken(reason)) = &attached {
            self.0.state.lock().bury(Arc::clone(reason));
        }
        self.started(attached)?;
        match &mut self.0.state.lock().life {
            Ok(life) => life.standing.is_started = true,
            // It was lost just before that.
            Err(reason) => return Err(Error::Broken(Arc::clone(reason))),
        }
        // It may be lost already.
        recovery::look(&self.0);
        Ok(())
    }

    /// A life of the mount has begun, or not.
    pub(super) fn started(&self, outcome: Result<vfs::Value>) -> Result<()> {
        match outcome? {
            vfs::Value::Qid(root) => {
                if let Some(names) = &self.0.names {
                    names.begin(root.path);
                }
                Ok(())
            }
            _ => Err(Error::broken("the client answered an operation with another's value")),
        }
    }

    /// Brings up an instance with a device of its own and submits the session's first messages.
    pub(super) fn submit_start(
        &self,
        device: impl FnOnce(DeviceQueue) -> Result<Box<dyn Device>>,
    ) -> Result<Submitted> {
        let options = &self.0.options;
        let cannot = |what: &str, error: &dyn std::fmt::Display| Error::broken(format!("{what}: {error:#}"));
        let template = match &options.client {
            Some(client) => Arc::clone(&client.0),
            None => Template::shared().map_err(|error| cannot("the client cannot be compiled", &error))?,
        };
        let local = !self.is_remote();
        let offered = if local { LocalDevice::<Session>::FEATURES } else { RemoteDevice::FEATURES };
        let features = offered
            .negotiate(options.features())
            .map_err(|error| cannot("the device and the mount cannot agree", &error))?;
        let cache_size = if self.0.mode == CacheMode::None { 0 } else { options.cache_size };
        let region = Region::new(options.region_size.saturating_add(cache_size))
            .map_err(|error| cannot("no memory for the region", &error))?;
        let (driver, queue) = Driver::with_features(Arc::clone(&region), options.queue_size, features)
            .map_err(|error| cannot("no ring can be made in the region", &error))?;
        let leases = Leases::new(Arc::clone(&region), options.region_size / 4);
        let guest = Guest::new(&template, Arc::clone(&region), leases, driver, device(queue)?, options.client_memory);
        let sandbox = Sandbox::new(&template, guest).map_err(|error| cannot("the client cannot be started", &error))?;
        let pool = BufferPool::new(region);
        let cache = cache::Cache::new(self.0.mode, options, &pool, &self.0.cached, !local);
        *self.0.cache.lock() = cache.clone();
        let life = Life {
            sandbox,
            pool,
            pending: HashMap::new(),
            calls: HashMap::new(),
            retired: Vec::new(),
            cache,
            standing: Default::default(),
        };
        {
            let mut state = self.0.state.lock();
            state.bury(Arc::from("the mount was restarted"));
            state.incarnation += 1;
            state.life = Ok(life);
        }
        let start = vfs::Options {
            aname: options.aname.clone(),
            uname: options.uname.clone(),
            n_uname: options.uid.unwrap_or(ninering_wire::NONUNAME),
            msize: options.msize,
            ordered: local,
            plain: self.0.plain.load(Ordering::Relaxed),
            immediate: local,
            authenticate: options.authenticate.is_some(),
            client_id: self.client_id().into(),
            recover: !local && !options.recovery.is_zero(),
        };
        let submitted = self.submit(None, Buffers::new(), |exports, store, _| {
            let (region, queue) = (Resource::<RegionHandle>::new_own(0), Resource::<QueueHandle>::new_own(0));
            exports.ninering_fs_vfs().call_start(store, region, queue, &start).map(Begun::from)
        });
        Ok(submitted)
    }
}

/// A name for a mount that no other mount has, on this machine or, as far as machines have names, elsewhere.
fn client_id() -> String {
    static MOUNTS: AtomicUsize = AtomicUsize::new(0);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Linux's names have at most 64 bytes.
    let host: String = host.trim().chars().take(64).filter(char::is_ascii_graphic).collect();
    format!("{host}:{}:{}", std::process::id(), MOUNTS.fetch_add(1, Ordering::Relaxed))
}

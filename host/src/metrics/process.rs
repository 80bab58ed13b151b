//! What the kernel knows of this process.

use std::{fs, os::unix::fs::MetadataExt};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// What this process uses; a figure that cannot be had is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Open file descriptors.
    pub descriptors: Option<u64>,
    /// How many it may have open.
    pub descriptor_limit: Option<u64>,
    /// Bytes in memory.
    pub resident: Option<u64>,
    /// Bytes of address space.
    pub virtual_memory: Option<u64>,
    /// Seconds of processor time.
    pub processor_seconds: f64,
    /// Threads.
    pub threads: Option<u64>,
}

impl ProcessFigures {
    /// Those of now. On kernels before Linux 6.2 the open descriptors are counted one by one.
    pub fn now() -> Self {
        let memory = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = |field: usize| memory.split(' ').nth(field)?.parse::<u64>().ok();
        let page = rustix::param::page_size() as u64;
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            descriptors: descriptors(),
            descriptor_limit: getrlimit(Resource::Nofile).current,
            resident: pages(1).map(|pages| pages * page),
            virtual_memory: pages(0).map(|pages| pages * page),
            processor_seconds: time.tv_sec as f64 + time.tv_nsec as f64 / 1e9,
            threads: threads(),
        }
    }
}

fn descriptors() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.size() {
        // The one that reads the directory is counted too.
        0 => Some((fs::read_dir(directory).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

fn threads() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok())
}

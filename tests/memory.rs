//! What a mount costs in memory. Alone in its process, so that nothing else counts.

use std::sync::Arc;

use ninering::{
    backend::MemBackend,
    mount::{Mount, MountOptions, OpenFlags},
    server::{Server, ServerOptions},
};

/// Bytes of this process that are in memory, but for those of regions: they are the buffers, with the ring.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status");
    let kibibytes = |field: &str| {
        let line = status.lines().find(|line| line.starts_with(field)).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number")
    };
    (kibibytes("VmRSS:") - kibibytes("RssShmem:")) * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_costs_at_most_64_kib_beyond_its_buffers() {
    const MOUNTS: u64 = 200;
    let server = Server::new(Arc::new(MemBackend::default()), ServerOptions::default());
    let mount = || async {
        let mount = Mount::local(Arc::clone(&server), MountOptions::default()).expect("a mount");
        let root = mount.root();
        let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        root.open_at("file", flags, 0o600).await.expect("a file");
        root.stat_at("file", true).await.expect("attributes");
        mount
    };
    let _first = mount().await;
    let before = resident();
    let mut mounts = Vec::new();
    for _ in 0..MOUNTS {
        mounts.push(mount().await);
    }
    let each = (resident() - before) / MOUNTS;
    println!("{each} bytes a mount");
    assert!(each <= 64 << 10, "{each} bytes a mount");
}

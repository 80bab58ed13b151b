//! Rings of every size under mounts, with and without each feature: what does not fit waits, and goes on.

use std::{sync::Arc, time::Duration};

use ninering::{
    backend::MemBackend,
    listener::{Address, Listener},
    mount::{Mount, MountOptions, OpenFlags, Statistics},
    server::{Server, ServerOptions},
};

/// Operations at a time.
const AT_A_TIME: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);

fn options(queue_size: u16, event_index: bool, indirect_descriptors: bool) -> MountOptions {
    MountOptions { queue_size, event_index, indirect_descriptors, timeout: PATIENCE, ..MountOptions::default() }
}

fn server() -> Arc<Server> {
    Server::new(Arc::new(MemBackend::default()), ServerOptions::default())
}

/// Many operations at a time, each on a file of its own: create, write, read back in odd pieces, stat, unlink.
async fn exercise(mount: &Mount, rounds: usize) {
    let workers: Vec<_> = (0..AT_A_TIME)
        .map(|worker| {
            let mount = mount.clone();
            tokio::spawn(async move {
                let name = format!("file-{worker}");
                let length = 5000 + 100 * worker;
                let contents: Vec<u8> = (0..length).map(|at| (at * 7 + worker) as u8).collect();
                let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
                for _ in 0..rounds {
                    let file = mount.root().open_at(&name, flags, 0o644).await.expect("a file");
                    let buffer = mount.buffer(length).await.expect("a buffer");
                    buffer.write(0, &contents);
                    let (written, _) = file.write_at(0, buffer).await;
                    assert_eq!(written.expect("a write"), length);
                    for at in [0, 1, 4095, length - 1] {
                        let read = file.read_at(at as u64, mount.buffer(900).await.expect("a buffer")).await;
                        let mut bytes = vec![0; 900.min(length - at)];
                        assert_eq!(read.expect("a read").read(0, &mut bytes), bytes.len());
                        assert!(bytes == contents[at..at + bytes.len()]);
                    }
                    assert_eq!(mount.root().stat_at(&name, true).await.expect("a stat").size, length as u64);
                    mount.root().unlink(&name).await.expect("it is there");
                }
            })
        })
        .collect();
    for worker in workers {
        tokio::time::timeout(PATIENCE, worker).await.expect("nothing is forgotten").expect("nothing fails");
    }
}

async fn remote(options: MountOptions, rounds: usize) -> Statistics {
    let directory = tempfile::tempdir().expect("a directory");
    let address = Address::Unix(directory.path().join("socket"));
    let listener = Listener::bind(&address).await.expect("a socket");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(listener.serve(server(), async { drop(stopped.await) }));
    let mount = Mount::remote(address, options).await.expect("a mount");
    exercise(&mount, rounds).await;
    let statistics = mount.statistics();
    drop((mount, stop));
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").expect("it does").expect("in order");
    statistics
}

#[tokio::test(flavor = "multi_thread")]
async fn in_rings_of_every_size_many_remote_operations_at_a_time_all_end() {
    for (queue_size, rounds) in [(8, 20), (16, 5), (32, 5), (64, 20), (128, 5), (256, 3), (512, 3), (1024, 3)] {
        for (event_index, indirect) in [(true, true), (false, true), (true, false), (false, false)] {
            let counts = remote(options(queue_size, event_index, indirect), rounds).await;
            let told = counts.kicks + counts.kicks_suppressed;
            assert!(counts.requests > 0 && counts.kicks > 0 && told <= counts.requests, "{counts:?}");
            assert!(counts.interrupts > 0, "{counts:?}");
            assert!(counts.interrupts + counts.interrupts_suppressed <= counts.requests, "{counts:?}");
        }
    }
}

#[tokio::test]
async fn in_rings_of_every_size_local_operations_end_and_nobody_interrupts() {
    for queue_size in (3..=10).map(|bits| 1 << bits) {
        for (event_index, indirect) in [(true, true), (false, false)] {
            let mount = Mount::local(server(), options(queue_size, event_index, indirect)).expect("a mount");
            exercise(&mount, 2).await;
            let counts = mount.statistics();
            assert!(counts.kicks > 0 && counts.kicks <= counts.requests, "{counts:?}");
            assert_eq!((counts.kicks_suppressed, counts.interrupts, counts.interrupts_suppressed), (0, 0, 0));
        }
    }
}

#[tokio::test]
async fn sizes_that_no_ring_has_are_refused_by_name() {
    for queue_size in [0, 4, 100, 2048] {
        let error = Mount::local(server(), options(queue_size, true, true)).err().expect("refused").to_string();
        assert!(error.contains(&format!("a queue of {queue_size} descriptors")), "{error}");
    }
}

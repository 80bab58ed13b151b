//! What a mount offers beyond files and directories: extended attributes, locks, special files, access checks, versions, vectored
//! I/O. On our own server, in this process and by a socket, over a directory and in memory.

use std::{future::Future, sync::Arc, time::Duration};

use ninering::{
    backend::{DirBackend, DirOptions, MemBackend},
    listener::{Address, Listener},
    mount::{AccessMode, Handle, LockKind, LockRequest, Mount, MountOptions, OpenFlags, Result, SetMode},
    server::{Server, ServerOptions},
};
use ninering_wire::{Errno, mode};

/// A server, and two mounts of what it serves.
struct Fixture {
    name: &'static str,
    one: Mount,
    other: Mount,
}

async fn remote(server: Arc<Server>, options: MountOptions) -> Mount {
    let listener = Listener::bind(&"tcp://127.0.0.1:0".parse().expect("an address")).await.expect("a port");
    let address: Address = listener.local_address().clone();
    tokio::spawn(listener.serve(server, std::future::pending::<()>()));
    Mount::remote(address, options).await.expect("a mount")
}

/// Does something with each kind of server and mount.
async fn everywhere<F: Future<Output = ()>>(test: impl Fn(Fixture) -> F) {
    for is_remote in [false, true] {
        for is_directory in [false, true] {
            let directory = is_directory.then(|| tempfile::tempdir().expect("a temporary directory"));
            let server = match &directory {
                Some(directory) => {
                    let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a directory");
                    Server::new(Arc::new(backend), ServerOptions::default())
                }
                None => Server::new(Arc::new(MemBackend::default()), ServerOptions::default()),
            };
            let options = MountOptions { timeout: Duration::from_secs(60), ..MountOptions::default() };
            let (one, other) = if is_remote {
                (remote(server.clone(), options.clone()).await, remote(server, options).await)
            } else {
                let local = || Mount::local(server.clone(), options.clone()).expect("a mount");
                (local(), local())
            };
            let name = match (is_remote, is_directory) {
                (false, false) => "mem",
                (false, true) => "dir",
                (true, false) => "mem by a socket",
                (true, true) => "dir by a socket",
            };
            test(Fixture { name, one, other }).await;
        }
    }
}

async fn open(mount: &Mount, name: &str) -> Handle {
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
    mount.root().open_at(name, flags, 0o644).await.expect("a file")
}

fn errno<T: std::fmt::Debug>(result: Result<T>) -> Errno {
    result.expect_err("an error").errno()
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_are_set_told_listed_and_removed() {
    everywhere(|Fixture { name, one, other }| async move {
        let file = open(&one, "file").await;
        let root = other.root();
        let value = vec![7; 1000];
        file.set_xattr("user.one", &value, SetMode::Any).await.expect(name);
        assert_eq!(root.xattr_at("file", true, "user.one").await.expect(name), value, "{name}");
        root.set_xattr_at("file", true, "user.two", b"", SetMode::Create).await.expect(name);
        assert_eq!(file.xattr("user.two").await.expect(name), b"", "{name}");
        let mut names = file.xattrs().await.expect(name);
        names.sort();
        assert_eq!(names, ["user.one", "user.two"], "{name}");
        assert_eq!(errno(file.set_xattr("user.one", b"x", SetMode::Create).await), Errno::EEXIST, "{name}");
        assert_eq!(errno(file.set_xattr("user.none", b"x", SetMode::Replace).await), Errno::ENODATA, "{name}");
        // To set it to nothing is not to remove it.
        file.set_xattr("user.one", b"", SetMode::Replace).await.expect(name);
        assert_eq!(file.xattr("user.one").await.expect(name), b"", "{name}");
        assert_eq!(errno(file.set_xattr("user.none", b"", SetMode::Replace).await), Errno::ENODATA, "{name}");
        file.remove_xattr("user.one").await.expect(name);
        assert_eq!(errno(file.xattr("user.one").await), Errno::ENODATA, "{name}");
        assert_eq!(errno(file.remove_xattr("user.one").await), Errno::ENODATA, "{name}");
        assert_eq!(root.xattrs_at("file", true).await.expect(name), ["user.two"], "{name}");
        root.set_xattr("user.of-a-directory", b"value", SetMode::Any).await.expect(name);
        assert_eq!(one.root().xattr("user.of-a-directory").await.expect(name), b"value", "{name}");
        for wrong in ["", &"x".repeat(256)] {
            assert_eq!(errno(file.xattr(wrong).await), Errno::ERANGE, "{name}");
        }
        assert_eq!(one.statistics().payload_through_wit, 0, "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_have_up_to_64_kib() {
    everywhere(|Fixture { name, one, .. }| async move {
        if name.starts_with("dir") {
            return; // what the filesystem below allows
        }
        let file = open(&one, "file").await;
        let value: Vec<u8> = (0..65_536_u32).map(|at| (at % 251) as u8).collect();
        file.set_xattr("user.long", &value, SetMode::Any).await.expect(name);
        assert_eq!(file.xattr("user.long").await.expect(name), value, "{name}");
        assert_eq!(errno(file.set_xattr("user.long", &[0; 65_537], SetMode::Any).await), Errno::E2BIG, "{name}");
        assert_eq!(file.xattr("user.long").await.expect(name), value, "{name}: it is still what it was");
    })
    .await;
}

const fn lock(kind: LockKind, start: u64, length: u64) -> LockRequest {
    LockRequest { kind, start, length, owner: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_exclude_other_mounts_and_other_owners() {
    everywhere(|Fixture { name, one, other }| async move {
        let (ours, theirs) = (open(&one, "file").await, open(&other, "file").await);
        assert!(ours.try_lock(lock(LockKind::Exclusive, 10, 10)).await.expect(name), "{name}");
        assert!(!theirs.try_lock(lock(LockKind::Shared, 15, 1)).await.expect(name), "{name}");
        assert!(theirs.try_lock(lock(LockKind::Exclusive, 20, 5)).await.expect(name), "{name}");
        let another = LockRequest { owner: 2, ..lock(LockKind::Shared, 15, 1) };
        assert!(!ours.try_lock(another).await.expect(name), "{name}");
        let in_the_way = theirs.test_lock(lock(LockKind::Shared, 0, 0)).await.expect(name).expect("a lock");
        assert!(matches!(in_the_way.kind, LockKind::Exclusive), "{name}");
        assert_eq!((in_the_way.start, in_the_way.length), (10, 10), "{name}");
        ours.unlock(0, 0, 1).await.expect(name);
        assert!(theirs.test_lock(lock(LockKind::Shared, 0, 20)).await.expect(name).is_none(), "{name}");
        theirs.lock(lock(LockKind::Exclusive, 0, 0)).await.expect(name);
        // What a handle was locked by goes with it.
        drop(theirs);
        ours.lock(lock(LockKind::Exclusive, 0, 0)).await.expect(name);
        assert_eq!(errno(one.root().try_lock(lock(LockKind::Shared, 0, 0)).await), Errno::EBADF, "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_lock_gets_it_when_it_is_given_back() {
    everywhere(|Fixture { name, one, other }| async move {
        let (ours, theirs) = (open(&one, "file").await, open(&other, "file").await);
        ours.lock(lock(LockKind::Exclusive, 0, 0)).await.expect(name);
        let waiting = tokio::spawn(async move {
            theirs.lock(lock(LockKind::Exclusive, 0, 0)).await.expect(name);
            theirs
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished(), "{name}");
        ours.unlock(0, 0, 1).await.expect(name);
        let theirs = waiting.await.expect(name);
        assert!(!ours.try_lock(lock(LockKind::Shared, 0, 0)).await.expect(name), "{name}");
        theirs.unlock(0, 0, 1).await.expect(name);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_waited_for_any_more_is_not_had() {
    everywhere(|Fixture { name, one, other }| async move {
        let (ours, theirs) = (open(&one, "file").await, open(&other, "file").await);
        ours.lock(lock(LockKind::Exclusive, 0, 0)).await.expect(name);
        let waiting = theirs.lock(lock(LockKind::Exclusive, 0, 0));
        tokio::time::timeout(Duration::from_millis(50), waiting).await.expect_err(name);
        ours.unlock(0, 0, 1).await.expect(name);
        // Whatever comes first, the flush or the lock given back: in the end nobody has it.
        tokio::time::timeout(Duration::from_secs(30), ours.lock(lock(LockKind::Exclusive, 0, 0)))
            .await
            .expect(name)
            .expect(name);
        assert!(theirs.test_lock(lock(LockKind::Shared, 0, 0)).await.expect(name).is_some(), "{name}");
        assert!(other.broken().is_none(), "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_are_made() {
    everywhere(|Fixture { name, one, other }| async move {
        let root = one.root();
        root.make_fifo("fifo", 0o640).await.expect(name);
        let attributes = other.root().stat_at("fifo", true).await.expect(name);
        assert_eq!(attributes.mode & mode::IFMT, mode::IFIFO, "{name}");
        root.make_special("regular", mode::IFREG | 0o600, (0, 0)).await.expect(name);
        assert_eq!(root.stat_at("regular", true).await.expect(name).mode & mode::IFMT, mode::IFREG, "{name}");
        assert_eq!(errno(root.make_fifo("fifo", 0o640).await), Errno::EEXIST, "{name}");
        assert_eq!(errno(root.make_special("directory", mode::IFDIR | 0o700, (0, 0)).await), Errno::EPERM, "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_done_is_told() {
    everywhere(|Fixture { name, one, .. }| async move {
        let root = one.root();
        open(&one, "file").await;
        root.access_at("file", true, AccessMode::READ | AccessMode::WRITE).await.expect(name);
        root.access_at(".", true, AccessMode::READ | AccessMode::EXECUTE).await.expect(name);
        root.access_at("file", true, AccessMode::empty()).await.expect(name);
        assert_eq!(errno(root.access_at("file", true, AccessMode::EXECUTE).await), Errno::EACCES, "{name}");
        assert_eq!(errno(root.access_at("none", true, AccessMode::empty()).await), Errno::ENOENT, "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_noticed() {
    everywhere(|Fixture { name, one, other }| async move {
        let (ours, theirs) = (open(&one, "file").await, open(&other, "file").await);
        let before = ours.version().await.expect(name);
        assert!(ours.changed_since(before).await.expect(name).is_none(), "{name}");
        let write = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let buffer = other.buffer(5).await.expect(name);
            buffer.write(0, b"hello");
            theirs.write_at(0, buffer).await.0.expect(name);
        };
        let (now, ()) = tokio::join!(ours.wait_for_change(before, Duration::from_millis(5)), write);
        assert_eq!(now.expect(name).size, 5, "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_buffers_are_one_read_or_write() {
    everywhere(|Fixture { name, one, .. }| async move {
        let file = open(&one, "file").await;
        let mut buffers = Vec::new();
        for (index, length) in [10_usize, 5000, 1, 70_000].into_iter().enumerate() {
            let buffer = one.buffer(length).await.expect(name);
            assert_eq!(buffer.len(), length);
            buffer.write(0, &vec![b'a' + index as u8; length]);
            buffers.push(buffer);
        }
        let before = one.statistics();
        let (written, buffers) = file.write_vectored_at(3, buffers).await;
        assert_eq!(written.expect(name), 75_011, "{name}");
        let after = one.statistics();
        assert_eq!(after.operations - before.operations, 1, "{name}");
        assert_eq!(after.requests - before.requests, 1, "{name}");
        assert_eq!(buffers.len(), 4, "{name}");
        let mut into = Vec::new();
        for length in [8_usize, 100_000] {
            into.push(one.buffer(length).await.expect(name));
        }
        let (read, into) = file.read_vectored_at(0, into).await.expect(name);
        assert_eq!(read, 75_014, "{name}");
        let mut expected = vec![0; 3];
        for (index, length) in [10_usize, 5000, 1, 70_000].into_iter().enumerate() {
            expected.extend(vec![b'a' + index as u8; length]);
        }
        let mut all = vec![0; read];
        let first = into[0].read(0, &mut all);
        into[1].read(0, &mut all[first..]);
        assert!(all == expected, "{name}");
        assert_eq!(file.read_vectored_at(0, Vec::new()).await.expect(name).0, 0, "{name}");
        assert_eq!(one.statistics().payload_through_wit, 0, "{name}");
    })
    .await;
}

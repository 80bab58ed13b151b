//! Names and attributes that a mount believes for a while: what that saves, and what is never wrong by it.

use std::{fs, time::Duration};

use ninering::mount::{AttributeChanges, CacheMode, Handle, Mount, MountOptions, OpenFlags, SetTime};
use ninering_slow_link::{Counts, Endpoint, Link, Proxy};
use ninering_tests::{Running, serve};
use ninering_wire::Errno;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(100_000);
/// So short that it has passed when it is looked.
const SHORT: Duration = Duration::ZERO;

struct Fixture {
    export: tempfile::TempDir,
    address: String,
    link: Proxy,
    _serving: Running,
}

impl Fixture {
    fn new() -> Self {
        let export = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(export.path().join("d/e")).expect("a directory");
        fs::write(export.path().join("d/e/file"), "12345").expect("a file");
        let (serving, address) = serve(&format!("dir:{}", export.path().display()));
        let server: Endpoint = address.parse().expect("an address");
        let link = Proxy::start(&Endpoint::Tcp("127.0.0.1:0".into()), server, Link::default()).expect("a link");
        Self { export, address, link, _serving: serving }
    }

    /// A mount by way of the link.
    async fn mount(&self, mode: CacheMode, attribute_timeout: Duration) -> Mount {
        mount(&self.link.endpoint().to_string(), mode, attribute_timeout).await
    }

    /// Another client, of which nothing is counted.
    async fn other(&self) -> Mount {
        mount(&self.address, CacheMode::None, SHORT).await
    }

    async fn count<T>(&self, work: impl Future<Output = T>) -> (T, Counts) {
        let before = self.link.counts();
        let result = work.await;
        (result, &self.link.counts() - &before)
    }

    /// What `work` yields, for which nothing is asked but clunks.
    async fn unasked<T>(&self, work: impl Future<Output = T>) -> T {
        let (result, counts) = self.count(work).await;
        assert_eq!(counts.awaited_round_trips, 0, "{counts}");
        result
    }

    async fn asked<T>(&self, work: impl Future<Output = T>) -> T {
        let (result, counts) = self.count(work).await;
        assert!(counts.awaited_round_trips > 0, "not asked");
        result
    }
}

async fn mount(address: &str, mode: CacheMode, attribute_timeout: Duration) -> Mount {
    let options = MountOptions {
        cache: Some(mode),
        attribute_timeout,
        uid: Some(rustix::process::getuid().as_raw()),
        timeout: Duration::from_secs(600),
        ..MountOptions::default()
    };
    Mount::remote(address.parse().expect("an address"), options).await.expect("a mount")
}

async fn size(directory: &Handle, path: &str) -> Result<u64, Errno> {
    directory.stat_at(path, true).await.map(|found| found.size).map_err(|error| error.errno())
}

async fn write(directory: &Handle, path: &str, bytes: &[u8]) {
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let file = directory.open_at(path, flags, 0o644).await.expect("the file");
    let buffer = directory.mount().buffer(bytes.len()).await.expect("a buffer");
    buffer.write(0, bytes);
    assert_eq!(file.write_at(0, buffer).await.0.expect("to write"), bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_not_asked_again() {
    let fixture = Fixture::new();
    let mount = fixture.mount(CacheMode::CloseToOpen, LONG).await;
    let root = mount.root();
    assert_eq!(fixture.asked(size(&root, "d/e/file")).await, Ok(5));
    assert_eq!(fixture.unasked(size(&root, "d/e/file")).await, Ok(5));
    // By another way to the same directory.
    let directory = root.open_at("d/e", OpenFlags::DIRECTORY, 0).await.expect("the directory");
    assert_eq!(fixture.unasked(size(&directory, "file")).await, Ok(5));
    assert_eq!(fixture.unasked(size(&root, "./d//e/./file")).await, Ok(5));
    // What is not there.
    assert_eq!(fixture.asked(size(&root, "d/none")).await, Err(Errno::ENOENT));
    assert_eq!(fixture.unasked(size(&root, "d/none")).await, Err(Errno::ENOENT));
    assert_eq!(fixture.unasked(size(&root, "d/none/below")).await, Err(Errno::ENOENT));
    let opened = fixture.unasked(root.open_at("d/none", OpenFlags::READ, 0)).await;
    assert_eq!(opened.expect_err("nothing is there").errno(), Errno::ENOENT);
    // What an open tells.
    let file = root.open_at("d/e/file", OpenFlags::READ, 0).await.expect("the file");
    assert_eq!(fixture.unasked(file.stat()).await.expect("its attributes").size, 5);
    let names = mount.statistics().names;
    assert!(names.hits >= 7 && names.missing_hits == 3 && names.misses > 0, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_modes_ask_each_time() {
    for mode in [CacheMode::None, CacheMode::ReadAhead] {
        let fixture = Fixture::new();
        let root = fixture.mount(mode, LONG).await.root();
        for _ in 0..2 {
            assert_eq!(fixture.asked(size(&root, "d/e/file")).await, Ok(5));
            assert_eq!(fixture.asked(size(&root, "d/none")).await, Err(Errno::ENOENT));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_is_seen_when_the_time_is_over() {
    let fixture = Fixture::new();
    let believing = fixture.mount(CacheMode::CloseToOpen, LONG).await.root();
    let asking = fixture.mount(CacheMode::CloseToOpen, SHORT).await.root();
    for root in [&believing, &asking] {
        assert_eq!(size(root, "d/e/file").await, Ok(5));
        assert_eq!(size(root, "d/new").await, Err(Errno::ENOENT));
    }
    let other = fixture.other().await.root();
    write(&other, "d/e/file", b"longer than that").await;
    write(&other, "d/new", b"new").await;
    // Within the time it may be what it was.
    assert_eq!(fixture.unasked(size(&believing, "d/e/file")).await, Ok(5));
    assert_eq!(fixture.unasked(size(&believing, "d/new")).await, Err(Errno::ENOENT));
    assert_eq!(size(&asking, "d/e/file").await, Ok(16));
    assert_eq!(size(&asking, "d/new").await, Ok(3));
    other.unlink("d/e/file").await.expect("to remove it");
    assert_eq!(size(&asking, "d/e/file").await, Err(Errno::ENOENT));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_sees_what_was_closed_before() {
    let fixture = Fixture::new();
    let root = fixture.mount(CacheMode::CloseToOpen, LONG).await.root();
    assert_eq!(size(&root, "d/e/file").await, Ok(5));
    write(&fixture.other().await.root(), "d/e/file", b"longer than that").await;
    let file = root.open_at("d/e/file", OpenFlags::READ, 0).await.expect("the file");
    assert_eq!(file.stat().await.expect("its attributes").size, 16);
    assert_eq!(size(&root, "d/e/file").await, Ok(16));
}

#[tokio::test(flavor = "multi_thread")]
async fn own_changes_are_seen_at_once() {
    let fixture = Fixture::new();
    for mode in [CacheMode::CloseToOpen, CacheMode::Loose] {
        let root = fixture.mount(mode, LONG).await.root();
        let directory = root.open_at("d", OpenFlags::DIRECTORY, 0).await.expect("the directory");
        let told = async |path: &str| {
            let by_root = size(&root, &format!("d/{path}")).await;
            assert_eq!(size(&directory, path).await, by_root, "by either way");
            by_root
        };
        assert_eq!(told("x").await, Err(Errno::ENOENT));
        write(&root, "d/x", b"123").await;
        assert_eq!(told("x").await, Ok(3), "made and written");
        write(&directory, "x", b"1234567").await;
        assert_eq!(told("x").await, Ok(7), "written by the other way");
        let nothing = || AttributeChanges {
            mode: None,
            uid: None,
            gid: None,
            size: None,
            accessed: SetTime::Keep,
            modified: SetTime::Keep,
        };
        directory
            .set_attributes_at("x", true, AttributeChanges { size: Some(2), ..nothing() })
            .await
            .expect("to cut it");
        assert_eq!(told("x").await, Ok(2), "cut");
        let file = root.open_at("d/x", OpenFlags::READ | OpenFlags::WRITE, 0).await.expect("the file");
        file.set_attributes(AttributeChanges { size: Some(1), ..nothing() }).await.expect("to cut it");
        assert_eq!(told("x").await, Ok(1), "cut when it was open");
        directory.link("x", false, &root, "d/y").await.expect("to link it");
        assert_eq!(told("y").await, Ok(1), "linked");
        assert_eq!(root.stat_at("d/x", true).await.expect("its attributes").nlink, 2);
        directory.unlink("y").await.expect("to remove it");
        assert_eq!(told("y").await, Err(Errno::ENOENT), "removed");
        assert_eq!(file.stat().await.expect("its attributes").nlink, 1);
        root.rename("d/x", &directory, "z").await.expect("to rename it");
        assert_eq!((told("x").await, told("z").await), (Err(Errno::ENOENT), Ok(1)), "renamed");
        root.unlink("d/z").await.expect("to remove it");
        assert_eq!(told("z").await, Err(Errno::ENOENT), "removed");
        assert_eq!(file.stat().await.expect("its attributes").nlink, 0);
        root.make_directory("d/m", 0o755).await.expect("a directory");
        assert!(told("m").await.is_ok(), "made");
        assert_eq!(told("m/f").await, Err(Errno::ENOENT));
        write(&root, "d/m/f", b"1").await;
        // By a path that goes up, and by a link.
        root.rename("d/e/../m/f", &root, "d/m/g").await.expect("to rename it");
        assert_eq!((told("m/f").await, told("m/g").await), (Err(Errno::ENOENT), Ok(1)), "by a path that goes up");
        root.symlink("d/link", "m").await.expect("a link");
        assert_eq!(size(&root, "d/link/g").await, Ok(1));
        root.unlink("d/link/g").await.expect("to remove it");
        assert_eq!(told("m/g").await, Err(Errno::ENOENT), "removed by way of a link");
        root.remove_directory("d/m").await.expect("to remove it");
        assert_eq!(told("m").await, Err(Errno::ENOENT), "removed");
        root.unlink("d/link").await.expect("to remove it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_below_a_renamed_directory_is_elsewhere() {
    let fixture = Fixture::new();
    let root = fixture.mount(CacheMode::Loose, LONG).await.root();
    assert_eq!(size(&root, "d/e/file").await, Ok(5));
    root.rename("d", &root, "n").await.expect("to rename it");
    assert_eq!(size(&root, "d/e/file").await, Err(Errno::ENOENT));
    assert_eq!(size(&root, "n/e/file").await, Ok(5));
    // Another takes its place.
    root.make_directory("d", 0o755).await.expect("a directory");
    root.make_directory("d/e", 0o755).await.expect("a directory");
    assert_eq!(size(&root, "d/e/file").await, Err(Errno::ENOENT));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_listed_with_attributes_where_they_are_asked_for() {
    let fixture = Fixture::new();
    for number in 0..20 {
        fs::write(fixture.export.path().join(format!("d/f{number}")), "x").expect("a file");
        fs::write(fixture.export.path().join(format!("d/e/f{number}")), "x").expect("a file");
    }
    let mount = fixture.mount(CacheMode::CloseToOpen, LONG).await;
    let root = mount.root();
    let listed = root.open_at("d", OpenFlags::READ | OpenFlags::DIRECTORY, 0).await.expect("the directory");
    let entries = listed.read_directory_plus(0).await.expect("entries").entries;
    assert_eq!(entries.len(), 21);
    // All of them are known by that, by either way.
    for entry in entries {
        let name = String::from_utf8(entry.entry.name).expect("a name");
        let known = fixture.unasked(listed.stat_at(&name, false)).await.expect("its attributes");
        assert_eq!(Some(known.size), entry.attributes.map(|attributes| attributes.size));
    }
    assert_eq!(mount.statistics().names.entries_with_attributes, 21);
}

//! How many round trips things take. What is counted are messages and who waits for whom, not time.

use std::{fs, net::TcpListener, path::Path, process::Stdio, time::Duration};

use ninering::mount::{CacheMode, Handle, Mount, MountOptions, OpenFlags};
use ninering_slow_link::{Counts, Endpoint, Link, OldServer, Proxy};
use ninering_tests::{Running, finish, ninering, program, serve};

/// A mount by way of a link on which everything is counted.
struct Watched {
    mount: Mount,
    link: Proxy,
    _serving: Running,
}

impl Watched {
    async fn new(serving: (Running, String), aname: &str, old_server: Option<OldServer>) -> Self {
        let server: Endpoint = serving.1.parse().expect("an address");
        let free = Endpoint::Tcp("127.0.0.1:0".into());
        let link = Proxy::start_with(&free, server, Link::default(), old_server, |_| {}).expect("a link");
        let options = MountOptions {
            // What is asked, not what is remembered.
            cache: Some(CacheMode::None),
            aname: aname.into(),
            uid: Some(rustix::process::getuid().as_raw()),
            timeout: Duration::from_secs(600),
            // Which looks at a name before it makes a directory or renames, to be able to tell what it has done.
            recovery: Duration::ZERO,
            ..MountOptions::default()
        };
        let address = link.endpoint().to_string().parse().expect("an address");
        let mount = Mount::remote(address, options).await.expect("a mount");
        Self { mount, link, _serving: serving.0 }
    }

    async fn of(directory: &Path) -> Self {
        Self::new(serve(&format!("dir:{}", directory.display())), "", None).await
    }

    fn root(&self) -> Handle {
        self.mount.root()
    }

    /// What `work` sends.
    async fn count<T>(&self, work: impl Future<Output = T>) -> Counts {
        let before = self.link.counts();
        work.await;
        &self.link.counts() - &before
    }
}

/// A tree of so many directories of so many files each.
fn tree(directories: usize, files: usize) -> tempfile::TempDir {
    let top = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(top.path().join("a/b")).expect("a directory");
    fs::write(top.path().join("a/b/small"), "a small file").expect("a file");
    for directory in 0..directories {
        let directory = top.path().join(format!("tree/d{directory}"));
        fs::create_dir_all(&directory).expect("a directory");
        for file in 0..files {
            fs::write(directory.join(format!("f{file}")), "x").expect("a file");
        }
    }
    top
}

async fn open_and_read(root: &Handle, path: &str) {
    let file = root.open_at(path, OpenFlags::READ, 0).await.expect("the file");
    let buffer = root.mount().buffer(65_536).await.expect("a buffer");
    let read = file.read_at(0, buffer).await.expect("its contents");
    assert_eq!(read.into_bytes(), b"a small file"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_is_opened_and_read_in_two() {
    let tree = tree(0, 0);
    let watched = Watched::of(tree.path()).await;
    let counts = watched.count(open_and_read(&watched.root(), "a/b/small")).await;
    assert_eq!((counts.awaited_round_trips, counts.of("Tvisit"), counts.of("Tread")), (2, 1, 1), "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_come_along_with_an_open() {
    let tree = tree(0, 0);
    let watched = Watched::of(tree.path()).await;
    let root = watched.root();
    let opening = async {
        root.open_at("a/b/small", OpenFlags::READ | OpenFlags::ATTRIBUTES, 0).await.expect("the file");
    };
    let counts = watched.count(opening).await;
    assert_eq!((counts.awaited_round_trips, counts.of("Tvisit")), (1, 2), "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_told_made_and_removed_in_one() {
    let tree = tree(0, 0);
    let watched = Watched::of(tree.path()).await;
    let root = watched.root();
    let counts = watched.count(async { root.stat_at("a/b/small", true).await.expect("its attributes").size }).await;
    assert_eq!((counts.awaited_round_trips, counts.messages()), (1, 1), "{counts}");
    let counts = watched.count(async { drop(root.stat_at("a/b/none", true).await.expect_err("nothing")) }).await;
    assert_eq!((counts.awaited_round_trips, counts.messages()), (1, 1), "{counts}");
    let counts = watched.count(async { root.make_directory("a/b/new", 0o755).await.expect("a directory").path }).await;
    assert_eq!((counts.awaited_round_trips, counts.messages()), (1, 1), "{counts}");
    let counts = watched.count(async { root.unlink("a/b/small").await.expect("to remove it") }).await;
    assert_eq!((counts.awaited_round_trips, counts.messages()), (1, 1), "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_made_and_written_in_two() {
    let tree = tree(0, 0);
    let watched = Watched::of(tree.path()).await;
    let root = watched.root();
    let making = async {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let file = root.open_at("a/b/new", flags, 0o644).await.expect("the file");
        let buffer = root.mount().buffer(10).await.expect("a buffer");
        assert_eq!(buffer.write(0, b"0123456789"), 10);
        assert_eq!(file.write_at(0, buffer).await.0.expect("to write"), 10);
    };
    let counts = watched.count(making).await;
    assert_eq!((counts.awaited_round_trips, counts.of("Tvisit"), counts.of("Twrite")), (2, 1, 1), "{counts}");
    assert_eq!(fs::read(tree.path().join("a/b/new")).expect("the file"), b"0123456789");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_come_with_their_attributes_in_one_more() {
    let tree = tree(1, 30);
    let watched = Watched::of(tree.path()).await;
    let listed = watched.root().open_at("tree/d0", OpenFlags::READ | OpenFlags::DIRECTORY, 0).await.expect("it");
    // The fid to list by is opened with the first.
    let plain = watched.count(async { drop(listed.read_directory(0).await.expect("entries")) }).await;
    assert_eq!(plain.awaited_round_trips, 2, "{plain}");
    let with_attributes = async {
        let listed = listed.read_directory_plus(0).await.expect("entries");
        assert_eq!(listed.entries.len(), 30);
        for entry in listed.entries {
            assert_eq!(entry.attributes.expect("its attributes").size, 1);
        }
    };
    let counts = watched.count(with_attributes).await;
    // The directory, and all of its entries at once.
    assert_eq!((counts.awaited_round_trips, counts.messages()), (2, 31), "{counts}");
}

/// Walks a tree and asks for the attributes of everything in it.
async fn walk(directory: &Handle, path: String, seen: &mut u64) {
    let listed = directory.open_at(&path, OpenFlags::READ | OpenFlags::DIRECTORY, 0).await.expect("a directory");
    let (mut offset, mut end) = (0, false);
    while !end {
        let batch = listed.read_directory_plus(offset).await.expect("entries");
        end = batch.end;
        for entry in batch.entries {
            offset = entry.entry.offset;
            let attributes = entry.attributes.expect("its attributes");
            *seen += 1;
            if attributes.mode & 0o170_000 == 0o040_000 {
                let name = String::from_utf8(entry.entry.name).expect("a name");
                Box::pin(walk(directory, format!("{path}/{name}"), seen)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_walked_in_a_few_a_directory() {
    let tree = tree(10, 100);
    let watched = Watched::of(tree.path()).await;
    let root = watched.root();
    let mut seen = 0;
    let counts = watched.count(walk(&root, "tree".into(), &mut seen)).await;
    assert_eq!(seen, 1010);
    // For each entry a message; for each directory a few: to it, its listing opened, its pieces, fids given back.
    assert!(counts.messages() <= 1010 + 11 * 8, "{counts}");
    // As many at a time as the ring holds, if the server answers them in order; by far not one behind the other if not.
    assert!(counts.awaited_round_trips * 3 <= counts.messages(), "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_walks_a_tree_is_given_attributes_in_advance() {
    let tree = tree(10, 100);
    let watched = Watched::of(tree.path()).await;
    // For ever, so that no machine is too slow for this.
    let run = || {
        let mount = format!("/data={},cache=loose", watched.link.endpoint());
        let walking =
            finish(ninering().args(["run", "--mount", &mount]).arg(program("fsprobe.wasm")).args(["walk", "/data"]));
        assert!(walking.success().stdout.starts_with("walk: 1014 entries, 1012 bytes"));
    };
    let counts = watched.count(async { run() }).await;
    // Without, it would take one for each entry, and one or two for each directory.
    assert!(counts.awaited_round_trips * 3 < 1014, "{counts}");
    assert!(counts.messages() < 1014 * 2, "{counts}");
}

/// What it costs to mount, and whether the mount works.
async fn mounting(serving: (Running, String), aname: &str, old_server: Option<OldServer>) -> Counts {
    let watched = Watched::new(serving, aname, old_server).await;
    let counts = watched.link.counts();
    open_and_read(&watched.root(), "a/b/small").await;
    let listed = watched.root().open_at("a/b", OpenFlags::READ | OpenFlags::DIRECTORY, 0).await.expect("a directory");
    let entries = listed.read_directory_plus(0).await.expect("entries").entries;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].attributes.as_ref().expect("its attributes").size, 12);
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_is_not_known_costs_one_round_trip() {
    let tree = tree(0, 0);
    let ours = || serve(&format!("dir:{}", tree.path().display()));
    // The version and the attach.
    assert_eq!(mounting(ours(), "", None).await.round_trips, 2);
    assert_eq!(mounting(ours(), "", Some(OldServer::Unknown)).await.round_trips, 3);
    assert_eq!(mounting(ours(), "", Some(OldServer::Error)).await.round_trips, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_on_an_extension_is_asked_without() {
    let tree = tree(0, 0);
    let serving = serve(&format!("dir:{}", tree.path().display()));
    let watched = Watched::new(serving, "", Some(OldServer::Closes)).await;
    let counts = watched.link.counts();
    assert_eq!((counts.connections, counts.of("Tversion"), counts.of("Tattach")), (2, 2, 1), "{counts}");
    open_and_read(&watched.root(), "a/b/small").await;
    // It is remembered.
    watched.mount.restart().await.expect("to begin anew");
    let counts = watched.link.counts();
    assert_eq!((counts.connections, counts.of("Tversion"), counts.of("Tattach")), (3, 3, 2), "{counts}");
    open_and_read(&watched.root(), "a/b/small").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn diod_is_asked_at_most_once_more() {
    let tree = tree(0, 0);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let diod = ["/usr/sbin/diod", "/usr/local/sbin/diod"].into_iter().find(|path| Path::new(path).exists());
    let Some(diod) = diod else {
        assert!(std::env::var_os("NINERING_REQUIRE_PEERS").is_none(), "required, but diod is not installed");
        return eprintln!("SKIPPED: diod is not installed");
    };
    let mut command = std::process::Command::new(diod);
    command.args(["-f", "-n", "-l", &format!("127.0.0.1:{port}"), "-L", "stderr", "-e"]).arg(tree.path());
    let running = Running::start_silent(command.stdout(Stdio::null()));
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let aname = tree.path().display().to_string();
    let counts = mounting((running, format!("tcp://127.0.0.1:{port}")), &aname, None).await;
    assert!(counts.round_trips <= 3, "{counts}");
}

//! What is served, and what must be as it was when all is over.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use ninering::{
    backend::{DirBackend, DirOptions, MemBackend, MemLimits},
    server::{Server, ServerOptions},
};
use tempfile::TempDir;

/// How many fids a client may have.
pub(crate) const MAX_FIDS: usize = 12;

/// How long it may take until what is closed is.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the sessions are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// `mem:`, which must be as empty as before once all is removed.
    Mem,
    /// `dir:`, beside files that no client may see or change.
    Dir,
}

/// Something served.
pub(crate) struct Scene {
    pub(crate) server: Arc<Server>,
    served: Served,
    beside: Option<Beside>,
}

impl Scene {
    pub(crate) fn new(served: Served) -> Self {
        let options = ServerOptions { max_fids: MAX_FIDS, max_msize: 64 << 10, ..ServerOptions::default() };
        match served {
            Served::Mem => {
                let backend = MemBackend::new(MemLimits { bytes: 1 << 20, inodes: 30 });
                Self { server: Server::new(Arc::new(backend), options), served, beside: None }
            }
            Served::Dir => {
                let beside = Beside::new();
                let export = beside.directory.path().join("export");
                let backend = DirBackend::new(&export, DirOptions::default()).expect("the directory can be served");
                Self { server: Server::new(Arc::new(backend), options), served, beside: Some(beside) }
            }
        }
    }

    /// Is each file's qid its own for good? On a host, inode numbers are used again.
    pub(crate) fn has_lasting_qids(&self) -> bool {
        self.served == Served::Mem
    }

    /// Checks that a reply tells nothing of what is not served.
    pub(crate) fn check_reply(&self, reply: &[u8]) {
        if self.beside.is_some() && reply.len() >= SECRET.len() {
            let told = reply.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
            assert!(!told, "what lies beside the export is told: {reply:?}");
        }
    }

    /// Checks that all is as it was beside what is served, and that nothing of it is open any more.
    pub(crate) fn check(self) {
        // Its last user closes what it has open.
        drop(self.server);
        if let Some(beside) = self.beside {
            beside.check();
        }
    }
}

/// The name and contents of what is not served: such as nobody guesses.
static SECRET: LazyLock<String> =
    LazyLock::new(|| format!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2)));

/// A directory with the export in it, and other files beside that.
struct Beside {
    directory: TempDir,
    before: Vec<String>,
    descriptors: usize,
}

impl Beside {
    fn new() -> Self {
        let descriptors = open_descriptors();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("beside")).expect("a new directory");
        fs::write(path("beside").join(&*SECRET), &*SECRET).expect("a new file");
        fs::write(path("a"), &*SECRET).expect("a new file");
        fs::create_dir(path("export")).expect("a new directory");
        fs::create_dir(path("export/d")).expect("a new directory");
        fs::write(path("export/a"), "contents").expect("a new file");
        for (target, name) in [("..", "out"), ("../beside", "d/out"), ("a", "link"), ("loop", "loop"), ("../a", "b")] {
            symlink(target, path("export").join(name)).expect("a new link");
        }
        symlink(path("beside"), path("export/absolute")).expect("a new link");
        let fifo = path("export/fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a new fifo");
        let before = listed(directory.path().to_owned());
        Self { directory, before, descriptors }
    }

    fn check(self) {
        let now = listed(self.directory.path().to_owned());
        assert_eq!(now, self.before, "what lies beside the export was changed");
        self.directory.close().expect("all of it can be removed");
        // Threads may be about to close the last ones.
        let begin = Instant::now();
        while open_descriptors() != self.descriptors {
            let left = || fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            let left = || left().map(|entry| fs::read_link(entry.path())).collect::<Vec<_>>();
            assert!(begin.elapsed() < PATIENCE, "of {} descriptors, these are open: {:?}", self.descriptors, left());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What there is in a directory, but for the export.
fn listed(directory: PathBuf) -> Vec<String> {
    let (mut found, mut directories) = (Vec::new(), vec![directory]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.ends_with("export") {
                continue;
            }
            let status = fs::symlink_metadata(&path).expect("a file");
            let contents = if status.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
            found.push(format!(
                "{path:?} {} {:o} {} {} {}.{} {:?}",
                status.ino(),
                status.mode(),
                status.uid(),
                status.nlink(),
                status.ctime(),
                status.ctime_nsec(),
                String::from_utf8_lossy(&contents),
            ));
            if status.is_dir() {
                directories.push(path);
            }
        }
    }
    found.sort();
    found
}

/// How many descriptors this process has open.
fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

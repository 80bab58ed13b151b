//! What the whole-system tests share: the `ninering` command, the guest programs, servers, scratch directories.

mod door;
mod restarting;

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use ninering::mount::ClientComponent;

pub use self::{door::Door, restarting::Restarting};

/// How long a command may take before the test that waits for it fails. Nothing here depends on how fast it is.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long a command may take to say that it is ready.
const READY: Duration = Duration::from_secs(60);

/// The top of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The `ninering` command that was built beside these tests.
///
/// # Panics
/// It was not.
pub fn ninering() -> Command {
    let tests = env::current_exe().expect("the path of this test");
    let path = tests.ancestors().nth(2).expect("a target directory").join("ninering");
    assert!(path.exists(), "{} is missing: run 'make test', or 'cargo build --release' first", path.display());
    Command::new(path)
}

/// A guest program of `make programs`.
///
/// # Panics
/// It was not built.
pub fn program(name: &str) -> PathBuf {
    let path = root().join("target/programs").join(name);
    assert!(path.exists(), "{} is missing: run 'make programs' first", path.display());
    path
}

/// The client that does what it should not, with the real iter component.
///
/// # Panics
/// It was not built.
pub fn hostile_client() -> ClientComponent {
    let component = include_bytes!(concat!(env!("OUT_DIR"), "/hostile_client.wasm"));
    assert!(!component.is_empty(), "the hostile client is missing: run 'make programs' first");
    ClientComponent::new(component).expect("a client")
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// Fails the test unless the command ended well.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.status.success(), "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command ended with a non-zero status of its own and one line on standard error,
    /// which is returned; before it, a slow machine may have been told that a program is being compiled.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn one_line_failure(&self) -> &str {
        assert!(self.status.code().is_some_and(|code| code != 0), "{self:?}");
        let mut line = self.stderr.trim_end_matches('\n');
        if let Some((progress, rest)) = line.split_once('\n')
            && progress.starts_with("ninering: compiling ")
        {
            line = rest;
        }
        assert!(!line.is_empty() && !line.contains('\n'), "not one line: {:?}", self.stderr);
        line
    }
}

/// Runs a command to its end.
///
/// # Panics
/// It cannot be started, or goes on for too long.
#[track_caller]
pub fn finish(command: &mut Command) -> Ended {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a command");
    let stdout = collect(child.stdout.take().expect("its output"));
    let stderr = collect(child.stderr.take().expect("its errors"));
    let status = wait(&mut child, PATIENCE).unwrap_or_else(|| {
        child.kill().expect("to kill it");
        panic!("{command:?} did not end within {PATIENCE:?}");
    });
    Ended { status, stdout: stdout.join().expect("its output"), stderr: stderr.join().expect("its errors") }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("to read a pipe");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for a child's end, up to a time.
pub fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().expect("to wait for a child") {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A command that runs until this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a command and waits for a line on its standard error that contains `ready`; returns that line too.
    ///
    /// # Panics
    /// The command cannot be started, or ends, or says no such thing.
    #[track_caller]
    pub fn start(command: &mut Command, ready: &str) -> (Self, String) {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a command");
        let errors = BufReader::new(child.stderr.take().expect("its errors"));
        let running = Self(child);
        let (lines, said) = mpsc::channel();
        // Reads on to the end, so that the command never blocks on its errors.
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                eprintln!("| {line}");
                // Nobody listens after the line that was waited for.
                let _ = lines.send(line);
            }
        });
        let mut all = String::new();
        loop {
            match said.recv_timeout(READY) {
                Ok(line) if line.contains(ready) => return (running, line),
                Ok(line) => all.push_str(&line),
                Err(_) => panic!("{command:?} did not say '{ready}': {all}"),
            }
        }
    }

    /// Starts a command that says nothing when it is ready.
    ///
    /// # Panics
    /// The command cannot be started.
    pub fn start_silent(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("a command"))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The process is gone.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, signal).expect("to signal a process");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `ninering serve SOURCE` on a free port of the loopback interface; returns the address too.
///
/// # Panics
/// It does not come up.
#[track_caller]
pub fn serve(source: &str) -> (Running, String) {
    serve_at(source, "tcp://127.0.0.1:0")
}

/// The same at an address of one's own.
///
/// # Panics
/// As [`serve`].
#[track_caller]
pub fn serve_at(source: &str, address: &str) -> (Running, String) {
    let mut command = ninering();
    command.args(["serve", source, "--listen", address]);
    let (running, line) = Running::start(&mut command, "ninering: serving ");
    let address = line.rsplit(' ').next().expect("an address").to_owned();
    (running, address)
}

//! `ninering serve` in a process of its own, which can be killed, and be given little.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    fs,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::common::{Client, Socket, gated::until, serving::PATIENCE};

/// A server of the directory `export` in another one, on the socket `socket` there.
pub(crate) struct ServerProcess {
    process: Child,
    socket: PathBuf,
}

impl ServerProcess {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_ninering")), directory)
    }

    /// One that may have no more descriptors than so many.
    pub(crate) fn start_with_descriptors(most: u32, directory: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {most} && exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_ninering"));
        Self::start_by(shell, directory)
    }

    fn start_by(mut command: Command, directory: &Path) -> Self {
        let socket = directory.join("socket");
        let process = command
            .arg("serve")
            .arg(format!("dir:{}", directory.join("export").display()))
            .arg("--listen")
            .arg(format!("unix://{}", socket.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        until(|| UnixStream::connect(&socket).is_ok());
        Self { process, socket }
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream
    }

    /// A client that has attached.
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::new(Socket(self.connect()));
        client.begin();
        client
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it runs").count()
    }

    /// How much memory it takes, in KiB.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// Kills it, without a chance to end what it has begun.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it runs");
        let status = self.process.wait().expect("it is this process's child");
        assert_eq!(status.signal(), Some(9), "it ended otherwise: {status}");
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // After a kill, it fails and does no harm; after a test that failed, nobody is to be left.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! The servers that are compared: how each is started, and where it listens.

use std::{
    fmt, fs,
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use super::{Arguments, connection::Connection};

/// How long a server may take to listen.
const READY: Duration = Duration::from_secs(20);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Server {
    /// `ninering serve`.
    Ninering,
    /// diod.
    Diod,
    /// unpfs, of the crate rs9p.
    Unpfs,
    /// What nobody can be faster than by much.
    Limit,
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ninering => "ninering",
            Self::Diod => "diod",
            Self::Unpfs => "unpfs",
            Self::Limit => "limit",
        })
    }
}

/// By what kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Transport {
    /// The loopback interface.
    Tcp,
    /// A Unix socket.
    Unix,
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A port of the loopback interface.
    Tcp(u16),
    /// A socket's path.
    Unix(PathBuf),
}

/// A server under test, until this is dropped.
pub(crate) struct Running {
    server: Server,
    /// One process for each transport, for unpfs serves one alone.
    processes: Vec<(Transport, Process)>,
    /// The connections, which stay open from row to row.
    connected: Vec<(Transport, Vec<Connection>)>,
    export: PathBuf,
    /// The sockets' files.
    _sockets: tempfile::TempDir,
}

struct Process {
    child: Child,
    address: Address,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts `server` on the directory `export`; `None` where it is not installed.
    pub(crate) fn start(server: Server, arguments: &Arguments, export: &Path) -> Result<Option<Self>> {
        let sockets = tempfile::tempdir()?;
        let program = match server {
            Server::Ninering => arguments.ninering.clone(),
            Server::Diod => arguments.diod.clone(),
            Server::Unpfs => arguments.unpfs.clone(),
            Server::Limit => std::env::current_exe()?,
        };
        if !program.exists() {
            ensure!(server != Server::Ninering, "{} is not there", program.display());
            return Ok(None);
        }
        let mut processes = Vec::new();
        for &transport in &arguments.transport {
            let mut command = Command::new(&program);
            let address = match transport {
                Transport::Tcp => Address::Tcp(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()),
                // unpfs puts a colon and a number behind the path that it is told.
                Transport::Unix => Address::Unix(sockets.path().join("9p:0")),
            };
            match server {
                Server::Ninering => {
                    command.arg("serve").arg(format!("dir:{}", export.display()));
                    command.args(["--listen", &url(&address)]);
                    // As many as anything here has.
                    command.args(["--max-connections", "2000", "--max-connections-per-peer", "2000"]);
                    command.args(["--max-fids", "200000", "--max-fids-per-connection", "200000"]);
                }
                Server::Diod => {
                    let listen = match &address {
                        Address::Tcp(port) => format!("127.0.0.1:{port}"),
                        Address::Unix(path) => path.display().to_string(),
                    };
                    command.args(["-f", "-n", "-l", &listen, "-L", "stderr", "-e"]).arg(export);
                }
                Server::Unpfs => {
                    let listen = match &address {
                        Address::Tcp(port) => format!("tcp!127.0.0.1!{port}"),
                        Address::Unix(_) => format!("unix!{}!0", sockets.path().join("9p").display()),
                    };
                    command.arg(listen).arg(export);
                }
                Server::Limit => {
                    command.arg("--be-limit").arg(url(&address)).arg(export);
                }
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().with_context(|| program.display().to_string())?;
            let mut process = Process { child, address };
            process.wait_until_it_listens().with_context(|| format!("{command:?}"))?;
            processes.push((transport, process));
        }
        let export = export.to_owned();
        Ok(Some(Self { server, processes, connected: Vec::new(), export, _sockets: sockets }))
    }

    /// Which server it is.
    pub(crate) fn server(&self) -> Server {
        self.server
    }

    /// So many connections by `transport`; `None` where it has no such.
    pub(crate) fn connections(&mut self, transport: Transport, count: usize) -> Result<Option<&mut [Connection]>> {
        let Some((_, process)) = self.processes.iter().find(|(its, _)| *its == transport) else { return Ok(None) };
        if !self.connected.iter().any(|(its, _)| *its == transport) {
            self.connected.push((transport, Vec::new()));
        }
        let Some((_, connected)) = self.connected.iter_mut().find(|(its, _)| *its == transport) else {
            return Ok(None);
        };
        while connected.len() < count {
            connected.push(Connection::open(&process.address, self.server, &self.export)?);
        }
        Ok(Some(&mut connected[..count]))
    }

    /// Bytes of memory that its processes occupy.
    pub(crate) fn resident(&self) -> Result<usize> {
        let mut pages = 0;
        for (_, process) in &self.processes {
            let figures = fs::read_to_string(format!("/proc/{}/statm", process.child.id()))?;
            pages += figures.split(' ').nth(1).context("the second field")?.parse::<usize>()?;
        }
        Ok(pages * rustix::param::page_size())
    }

    /// What tells the processor time that it has taken.
    pub(crate) fn clock(&self) -> Result<Clock> {
        Ok(Clock(self.processes.iter().map(|(_, process)| process.clock()).collect::<Result<_>>()?))
    }
}

/// The clocks of a server's processes.
pub(crate) struct Clock(Vec<libc::clockid_t>);

impl Clock {
    /// The processor time that they have taken so far.
    pub(crate) fn time(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for &clock in &self.0 {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: it writes to `time` alone.
            let result = unsafe { libc::clock_gettime(clock, &mut time) };
            ensure!(result == 0, "the server is gone: {}", std::io::Error::last_os_error());
            sum += Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?);
        }
        Ok(sum)
    }
}

fn url(address: &Address) -> String {
    match address {
        Address::Tcp(port) => format!("tcp://127.0.0.1:{port}"),
        Address::Unix(path) => format!("unix://{}", path.display()),
    }
}

/// Listens where [`url`] says, for the limit.
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds an address that [`url`] wrote.
pub(crate) fn bind(url: &str) -> Result<Bound> {
    if let Some(address) = url.strip_prefix("tcp://") {
        Ok(Bound::Tcp(TcpListener::bind(address)?))
    } else if let Some(path) = url.strip_prefix("unix://") {
        Ok(Bound::Unix(UnixListener::bind(path)?))
    } else {
        bail!("{url} is no address")
    }
}

impl Process {
    fn wait_until_it_listens(&mut self) -> Result<()> {
        let end = Instant::now() + READY;
        while self.address.connect().is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended: {status}");
            }
            ensure!(Instant::now() < end, "it does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn clock(&self) -> Result<libc::clockid_t> {
        let mut clock = 0;
        let process = libc::pid_t::try_from(self.child.id())?;
        // SAFETY: it writes to `clock` alone.
        let error = unsafe { libc::clock_getcpuclockid(process, &mut clock) };
        ensure!(error == 0, "no clock of the server: {}", std::io::Error::from_raw_os_error(error));
        Ok(clock)
    }
}

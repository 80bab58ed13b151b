//! The command, on what it is started with: listening and connected sockets, pipes, standard input and output, what
//! systemd hands over; and what it tells systemd. How it ends.
#![cfg(feature = "cli")]

mod common;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use common::{Client, ROOT, Socket, encode, gated::until, serving::PATIENCE};
use ninering_wire::{Tmessage, getattr};
use rustix::process::{Pid, Signal, kill_process};

/// `ninering serve mem:`, told more.
struct Serve(Command);

impl Serve {
    fn with(arguments: &[&str]) -> Self {
        Self::command(Command::new(env!("CARGO_BIN_EXE_ninering")), arguments)
    }

    /// As systemd starts it: with its process number in the environment.
    fn activated(arguments: &[&str], count: usize, names: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ninering")]);
        command.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", names);
        Self::command(command, arguments)
    }

    fn command(mut command: Command, arguments: &[&str]) -> Self {
        command.args(["serve", "mem:"]).args(arguments).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command)
    }

    /// With these descriptors from 3 on.
    fn descriptors(mut self, descriptors: Vec<OwnedFd>) -> Self {
        let mappings = (3..).zip(descriptors).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
        self.0.fd_mappings(mappings).expect("numbers of their own");
        self
    }

    fn start(mut self) -> Running {
        let mut process = self.0.spawn().expect("the command starts");
        let output = BufReader::new(process.stderr.take().expect("it was asked for"));
        Running { process, output }
    }

    /// What it says of a mistake.
    fn failure(self) -> String {
        let mut running = self.start();
        let status = running.ended();
        assert!(status.code().is_some_and(|code| code != 0), "{status}");
        let said = running.rest();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    }
}

/// A server that is killed at the end of the test, should it be there still.
struct Running {
    process: Child,
    output: BufReader<ChildStderr>,
}

impl Running {
    /// The next line that it says.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line
    }

    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        rest
    }

    fn signal(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it runs");
    }

    fn ended(&mut self) -> ExitStatus {
        until(|| self.process.try_wait().expect("a child").is_some());
        self.process.wait().expect("a child")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails where the process has ended, as most have.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The two ends of a pair of pipes.
struct Pipes(PipeReader, PipeWriter);

impl Read for Pipes {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Pipes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

/// A client that has written a file and read it again.
#[track_caller]
fn works(stream: impl Read + Write + Send + 'static) -> Client {
    let mut client = Client::new(Socket(stream));
    client.begin();
    let contents = vec![7; 150_000];
    client.make("", "file", &contents);
    assert_eq!(client.contents("file").unwrap(), contents);
    client.unlink("", "file", 0).unwrap();
    client
}

fn tcp() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn connect_unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn standard_input_and_output_are_served_until_their_end() {
    let (input, to_it) = pipe().unwrap();
    let (from_it, output) = pipe().unwrap();
    let mut serve = Serve::with(&["--listen", "stdio:"]);
    serve.0.stdin(input).stdout(output);
    let mut running = serve.start();
    // The command has these ends of its own, which only its end may close.
    drop(works(Pipes(from_it, to_it)));
    assert!(running.ended().success());
    assert_eq!(running.rest(), "ninering: serving mem: on stdio:\n");
}

#[test]
fn a_socket_can_be_standard_input_and_output() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut serve = Serve::with(&["--listen", "stdio:"]);
    serve.0.stdin(OwnedFd::from(theirs.try_clone().unwrap())).stdout(OwnedFd::from(theirs));
    let mut running = serve.start();
    drop(works(ours));
    assert!(running.ended().success());
}

#[test]
fn inherited_sockets_are_served_listening_or_connected() {
    let (listener, address) = tcp();
    let mut running = Serve::with(&["--listen", "fd:3"]).descriptors(vec![listener.into()]).start();
    assert_eq!(running.line(), format!("ninering: serving mem: on tcp://{address}\n"));
    drop(works(TcpStream::connect(address).unwrap()));
    drop(works(TcpStream::connect(address).unwrap()));
    drop(running);

    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut running = Serve::with(&["--listen", "fd://3"]).descriptors(vec![theirs.into()]).start();
    drop(works(ours));
    assert!(running.ended().success());

    let (listener, address) = tcp();
    let ours = TcpStream::connect(address).unwrap();
    let theirs = listener.accept().unwrap().0;
    let mut running = Serve::with(&["--listen", "fd:3"]).descriptors(vec![theirs.into()]).start();
    drop(works(ours));
    assert!(running.ended().success());
}

#[test]
fn pairs_of_pipes_are_served() {
    let [one, two] = [(); 2].map(|()| {
        let ((input, to_it), (from_it, output)) = (pipe().unwrap(), pipe().unwrap());
        (Pipes(from_it, to_it), [OwnedFd::from(input), OwnedFd::from(output)])
    });
    let descriptors = [one.1, two.1].into_iter().flatten().collect();
    let mut running = Serve::with(&["-l", "fd:3,4", "-l", "fd:5,6"]).descriptors(descriptors).start();
    let client = works(one.0);
    drop(works(two.0));
    // One is over, and the other goes on.
    assert!(running.process.try_wait().unwrap().is_none());
    drop(client);
    assert!(running.ended().success());
}

#[test]
fn descriptors_that_are_of_no_use_are_refused() {
    assert!(Serve::with(&["--listen", "fd:3"]).failure().contains("fd:3: Bad file descriptor"));
    let file = || OwnedFd::from(File::open("/dev/null").unwrap());
    let said = Serve::with(&["--listen", "fd:3"]).descriptors(vec![file()]).failure();
    assert!(said.contains("neither a socket nor a pipe"), "{said}");
    let said = Serve::with(&["--listen", "fd:3,4"]).descriptors(vec![file(), file()]).failure();
    assert!(said.contains("neither a socket nor a pipe"), "{said}");
    let said = Serve::with(&["--listen", "stdio:"]).failure();
    assert!(said.contains("neither a socket nor a pipe"), "{said}");
    let datagrams = UnixDatagram::unbound().unwrap();
    let said = Serve::with(&["--listen", "fd:3"]).descriptors(vec![datagrams.into()]).failure();
    assert!(said.contains("no stream socket"), "{said}");
    // Each is somebody's.
    let (listener, _) = tcp();
    let said = Serve::with(&["-l", "fd:3", "-l", "fd:3"]).descriptors(vec![listener.into()]).failure();
    assert!(said.contains("fd:3: Bad file descriptor"), "{said}");
}

#[test]
fn sockets_of_systemd_are_served_and_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let notified = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let path = directory.path().join("socket");
    let ((tcp, address), unix) = (tcp(), UnixListener::bind(&path).unwrap());
    let mut serve = Serve::activated(&[], 2, "tcp:local").descriptors(vec![tcp.into(), unix.into()]);
    serve.0.env("NOTIFY_SOCKET", directory.path().join("notify"));
    let mut running = serve.start();
    let told = || {
        let mut message = [0; 100];
        let length = notified.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let ready = told();
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    drop(works(TcpStream::connect(address).unwrap()));
    drop(works(connect_unix(&path)));
    running.signal();
    assert_eq!(told().trim(), "STOPPING=1");
    assert!(running.ended().success());
    assert!(path.exists(), "it is systemd's to remove");
}

#[test]
fn sockets_of_systemd_are_chosen_by_name() {
    let sockets = || {
        let ((one, _), (other, address)) = (tcp(), tcp());
        (vec![one.into(), other.into()], address)
    };
    let (descriptors, address) = sockets();
    let serve = Serve::activated(&["--listen", "systemd:there"], 2, "here:there");
    let mut running = serve.descriptors(descriptors).start();
    assert_eq!(running.line(), format!("ninering: serving mem: on tcp://{address}\n"));
    drop(works(TcpStream::connect(address).unwrap()));

    let serve = Serve::activated(&["--listen", "systemd:elsewhere"], 2, "here:there").descriptors(sockets().0);
    let said = serve.failure();
    assert!(said.contains("'elsewhere'") && said.contains("here, there"), "{said}");
    // What is another process's is left alone.
    let mut serve = Serve::with(&["--listen", "systemd:"]).descriptors(sockets().0);
    serve.0.env("LISTEN_PID", "1").env("LISTEN_FDS", "2");
    assert!(serve.failure().contains("no socket"));
    assert!(Serve::with(&[]).failure().contains("--listen"));
}

#[test]
fn several_addresses_are_served_at_once_until_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = format!("unix://{}", path.display());
    let mut running = Serve::with(&["-l", "tcp://127.0.0.1:0", "-l", &unix, "-l", "tcp://[::1]:0"]).start();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let line = running.line();
        let address = line.trim_end().rsplit_once(" on ").unwrap().1;
        let client = match address.strip_prefix("tcp://") {
            Some(address) => works(TcpStream::connect(address).unwrap()),
            None => works(connect_unix(&path)),
        };
        clients.push(client);
    }
    running.signal();
    assert!(running.ended().success(), "though clients are connected");
    assert!(!path.exists());
    assert!(running.rest().contains("requests under way are answered first"));
}

/// A server that has replies for a client that does not take them.
fn with_a_client_that_takes_nothing(drain_time: &str) -> (Running, UnixStream, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = format!("unix://{}", path.display());
    let mut running = Serve::with(&["--listen", &unix, "--drain-time", drain_time]).start();
    running.line();
    let stream = connect_unix(&path);
    Client::new(Socket(stream.try_clone().unwrap())).begin();
    let mut hog = stream.try_clone().unwrap();
    // As many as can be sent without being read, and more.
    hog.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let request = Tmessage::Tgetattr { fid: ROOT, request_mask: getattr::ALL };
    assert!(hog.write_all(&encode(1, &request, &[]).repeat(1 << 20)).is_err(), "it reads no more at some point");
    (running, stream, directory)
}

#[test]
fn clients_have_some_time_to_take_their_last_replies() {
    let (mut running, stream, _directory) = with_a_client_that_takes_nothing("300ms");
    running.signal();
    assert!(running.ended().success());
    drop(stream);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut running, stream, _directory) = with_a_client_that_takes_nothing("1h");
    running.signal();
    assert!(running.line().contains("again to end at once"));
    running.signal();
    assert_eq!(running.ended().code(), Some(1));
    assert!(running.rest().contains("at once"));
    drop(stream);
}

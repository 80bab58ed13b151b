//! A listener for tests.

use std::{
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use ninering::{
    listener::{Address, Listener},
    server::Server,
};
use tokio::{runtime::Runtime, sync::oneshot};

use super::{Client, Socket, Transport};

/// How long a test waits for what should come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server that serves on a socket until it is dropped.
pub struct Serving {
    pub address: Address,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    directory: Option<tempfile::TempDir>,
}

impl Serving {
    pub fn on_unix_socket(server: Arc<Server>) -> Self {
        Self::on_unix_socket_of(server, |listener| listener)
    }

    pub fn on_unix_socket_of(server: Arc<Server>, configure: impl FnOnce(Listener) -> Listener) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = Address::Unix(directory.path().join("socket"));
        let mut serving = Self::at(&address, server, configure);
        serving.directory = Some(directory);
        serving
    }

    pub fn on_tcp_socket(server: Arc<Server>) -> Self {
        Self::at(&"tcp://127.0.0.1:0".parse().expect("an address"), server, |listener| listener)
    }

    pub fn at(address: &Address, server: Arc<Server>, configure: impl FnOnce(Listener) -> Listener) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(Listener::bind(address)).expect("a free address");
        let listener = configure(listener);
        let address = listener.local_address().clone();
        let (stop, stopped) = oneshot::channel();
        let serve = move || runtime.block_on(listener.serve(server, stopped)).expect("it serves");
        Self { address, stop: Some(stop), thread: Some(thread::spawn(serve)), directory: None }
    }

    /// A connection.
    pub fn connect(&self) -> Box<dyn Connection> {
        match &self.address {
            Address::Tcp(host_and_port) => {
                let stream = TcpStream::connect(host_and_port).expect("it listens");
                stream.set_nodelay(true).expect("a TCP socket");
                stream.set_read_timeout(Some(PATIENCE)).expect("a time");
                Box::new(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).expect("it listens");
                stream.set_read_timeout(Some(PATIENCE)).expect("a time");
                Box::new(stream)
            }
            other => panic!("the tests connect to no {other}"),
        }
    }

    /// A client that has said nothing yet.
    pub fn client(&self) -> Client {
        Client::new(Socket(self.connect()))
    }

    /// Tells it to stop.
    pub fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits until it has stopped.
    pub fn ended(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the listener ends well");
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
        // Clients may be connected still, and are sent off; a test that fails is not to hang here.
        if !thread::panicking() {
            self.ended();
        }
    }
}

/// A stream socket.
pub trait Connection: std::io::Read + std::io::Write + Send {
    /// Sends no more.
    fn end(&self);
    /// How long a write may take.
    fn write_timeout(&self, timeout: Duration);
}

impl Connection for TcpStream {
    fn end(&self) {
        self.shutdown(std::net::Shutdown::Write).expect("it is connected");
    }

    fn write_timeout(&self, timeout: Duration) {
        self.set_write_timeout(Some(timeout)).expect("a time");
    }
}

impl Connection for UnixStream {
    fn end(&self) {
        self.shutdown(std::net::Shutdown::Write).expect("it is connected");
    }

    fn write_timeout(&self, timeout: Duration) {
        self.set_write_timeout(Some(timeout)).expect("a time");
    }
}

impl Transport for Box<dyn Connection> {
    fn exchange(&mut self, request: Vec<u8>) -> Vec<u8> {
        Socket(self).exchange(request)
    }
}

//! Connections through a link.
//!
//! Four threads each: one reads and one writes in either direction. They sleep to the moment at which a byte is due, which
//! a runtime's timers, of a millisecond, would miss by too much.

use std::{
    io,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use ninering_wire::{Frame, HEADER_LEN, Header, NOTAG, Rmessage, Str, Tmessage, VERSION_NINERING};
use parking_lot::Mutex;
use rustix::net::{RecvFlags, recv};

use crate::{
    Counts, Endpoint, Link,
    counts::{Chains, Counter, Frames},
    endpoint::{Listener, Socket},
    queue::Queue,
};

/// Bytes that are read at a time: at 1 Gbit/s, they are a millisecond long.
const READ: usize = 128 << 10;

/// What an old server makes of a `Tversion` for an extension that it has never heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldServer {
    /// It answers `unknown`, as version(5) has it.
    Unknown,
    /// It answers an error.
    Error,
    /// It closes the connection.
    Closes,
}

/// A listening proxy. When it is dropped, it takes no more connections.
#[derive(Debug)]
pub struct Proxy {
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

struct Shared {
    server: Endpoint,
    link: Link,
    old_server: Option<OldServer>,
    counter: Mutex<Counter>,
    closed: AtomicBool,
    /// Called when a connection has ended.
    ended: Box<dyn Fn(&Counts) + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("server", &self.server).field("link", &self.link).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Listens at `listen` for clients of the server at `server`.
    ///
    /// # Errors
    /// Why it cannot listen there.
    pub fn start(listen: &Endpoint, server: Endpoint, link: Link) -> io::Result<Self> {
        Self::start_with(listen, server, link, None, |_| {})
    }

    /// The same, with a server that knows no extensions if the one behind does; `ended` is called when a connection has
    /// ended.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_with(
        listen: &Endpoint,
        server: Endpoint,
        link: Link,
        old_server: Option<OldServer>,
        ended: impl Fn(&Counts) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = listen.listen()?;
        let endpoint = listener.endpoint(listen)?;
        let shared = Arc::new(Shared {
            server,
            link,
            old_server,
            counter: Mutex::default(),
            closed: AtomicBool::new(false),
            ended: Box::new(ended),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { endpoint, shared })
    }

    /// Where clients connect to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What has gone over the link so far, of all connections.
    pub fn counts(&self) -> Counts {
        self.shared.counter.lock().counts.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // The thread that accepts notices when somebody comes.
        drop(self.endpoint.connect());
    }
}

/// The client's side of a connection. Requests are read from it by a thread that does so, and by the one that writes the
/// replies, before it does: what was sent before a reply came is counted before that reply.
struct ClientSide<'a> {
    socket: &'a Socket,
    counter: &'a Mutex<Counter>,
    stream: Mutex<(Frames, Chains)>,
    requests: &'a Queue,
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &Listener) {
        while let Ok(client) = listener.accept() {
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            let shared = Arc::clone(&self);
            thread::spawn(move || {
                shared.counter.lock().connected();
                if let Err(error) = shared.carry(&client) {
                    eprintln!("slow-link: {error}");
                }
                client.shut_down(Shutdown::Both);
                (shared.ended)(&shared.counter.lock().counts);
            });
        }
    }

    /// Carries a connection to its end.
    fn carry(&self, client: &Socket) -> io::Result<()> {
        let (requests, replies) = (Queue::new(self.link), Queue::new(self.link));
        let side = ClientSide { socket: client, counter: &self.counter, stream: Mutex::default(), requests: &requests };
        let server = self.server.connect()?;
        thread::scope(|threads| {
            threads.spawn(|| {
                if self.old_server.is_none_or(|old| side.meet(old, &replies)) {
                    while requests.wait_for_room() && side.wait_for_requests() && side.take_requests() {}
                }
                requests.close();
            });
            threads.spawn(|| {
                while let Some(bytes) = requests.pop()
                    && server.write_all(&bytes).is_ok()
                {}
                requests.close();
                server.shut_down(Shutdown::Both);
            });
            threads.spawn(|| {
                let mut buffer = vec![0; READ];
                while replies.wait_for_room()
                    && let Ok((read @ 1.., _)) = recv(&server, &mut *buffer, RecvFlags::empty())
                {
                    replies.push(&buffer[..read]);
                }
                replies.close();
            });
            let mut frames = Frames::default();
            while let Some(bytes) = replies.pop() {
                side.take_requests();
                let mut stream = side.stream.lock();
                self.counter.lock().replies(&mut stream.1, &mut frames, &bytes);
                drop(stream);
                if client.write_all(&bytes).is_err() {
                    break;
                }
            }
            replies.close();
            client.shut_down(Shutdown::Both);
            server.shut_down(Shutdown::Both);
        });
        Ok(())
    }
}

impl ClientSide<'_> {
    /// Waits until something is there to be read. Tells whether there is.
    fn wait_for_requests(&self) -> bool {
        matches!(recv(self.socket, &mut [0; 1], RecvFlags::PEEK), Ok((1.., _)))
    }

    /// Takes what is there. Tells whether there may be more.
    fn take_requests(&self) -> bool {
        let mut stream = self.stream.lock();
        let (frames, chains) = &mut *stream;
        let mut buffer = vec![0; READ];
        loop {
            match recv(self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return false,
                Ok((read, _)) => {
                    self.counter.lock().requests(chains, frames, &buffer[..read]);
                    self.requests.push(&buffer[..read]);
                    if read < READ {
                        return true;
                    }
                }
                Err(error) => return error == rustix::io::Errno::AGAIN || error == rustix::io::Errno::INTR,
            }
        }
    }

    /// Does what an old server does with the first message, if that asks for what it does not know. Tells whether the
    /// connection goes on.
    fn meet(&self, old: OldServer, replies: &Queue) -> bool {
        let mut message = vec![0; HEADER_LEN];
        let all = |buffer: &mut [u8]| matches!(recv(self.socket, &mut *buffer, RecvFlags::WAITALL), Ok((read, _)) if read == buffer.len());
        if !all(&mut message) {
            return false;
        }
        let Ok(Header { size, .. }) = Header::decode(&message) else { return false };
        message.resize(size as usize, 0);
        if !all(&mut message[HEADER_LEN..]) {
            return false;
        }
        let mut stream = self.stream.lock();
        let (frames, chains) = &mut *stream;
        self.counter.lock().requests(chains, frames, &message);
        drop(stream);
        let (msize, version) = match Frame::decode(&message) {
            Ok(Frame { message: Tmessage::Tversion { msize, version: Str(version) }, .. }) => (msize, version),
            _ => (0, &[][..]),
        };
        if version != VERSION_NINERING {
            self.requests.push(&message);
            return true;
        }
        let reply = match old {
            OldServer::Closes => return false,
            OldServer::Unknown => Rmessage::Rversion { msize, version: "unknown".into() },
            OldServer::Error => Rmessage::Rlerror { ecode: 22 },
        };
        let mut encoded = [0; 64];
        let Ok(length) = reply.encode(NOTAG, &mut encoded) else { return false };
        replies.push(&encoded[..length]);
        true
    }
}

//! One connection to a server: a socket, what is to be sent on it, and what was received.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::TcpStream,
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use ninering_wire::{DirEntries, Errno, HEADER_LEN, Header, NOFID, NOTAG, Rmessage, Str, Tmessage, VERSION_9P2000L};

use super::server::{Address, Server};

/// The `msize` that is asked for: 1 MiB of payload.
const MSIZE: u32 = (1 << 20) + 24;
/// Bytes that are received at a time.
const RECEIVED: usize = 1 << 18;
/// Bytes of the longest reply but an `Rread`.
const LONGEST: usize = 1 << 17;
/// The fid of the export's root.
pub(crate) const ROOT: u32 = 0;

impl Address {
    /// Connects.
    pub(crate) fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path)?)),
        }
    }
}

/// A connected socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(pieces),
            Self::Unix(stream) => stream.write_vectored(pieces),
        }
    }
}

/// A session with a server.
pub(crate) struct Connection {
    socket: Socket,
    /// Whose it is.
    pub(crate) server: Server,
    /// What was agreed on.
    pub(crate) msize: u32,
    outgoing: Outgoing,
    received: Vec<u8>,
    /// The part of `received` that was not looked at yet.
    unread: Range<usize>,
    /// Bytes of a payload that are still to come, and to be thrown away.
    payload: usize,
}

/// Requests to be sent: their bytes, and how long the payload behind each is.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    sent: usize,
}

enum Piece {
    Bytes { start: usize, length: usize },
    Payload { length: usize },
}

/// A reply: what it answers, and where its body lies among what was received, but for the payload of an `Rread`.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) tag: u16,
    pub(crate) kind: u8,
    /// The first four bytes of the body as an integer: an `ecode`, `count` or `msize`.
    pub(crate) number: u32,
    body: Range<usize>,
}

impl Reply {
    /// Fails unless it is a reply of the type `kind`.
    pub(crate) fn expect(&self, kind: u8) -> Result<()> {
        if self.kind == kind {
            return Ok(());
        }
        let name = Rmessage::name_of(kind).unwrap_or("?");
        if self.kind == 7 {
            bail!("an error in place of an {name}: {}", Errno(self.number));
        }
        bail!("a reply of type {} in place of an {name}", self.kind);
    }
}

impl Connection {
    /// Connects and attaches to `export` as [`ROOT`].
    pub(crate) fn open(address: &Address, server: Server, export: &Path) -> Result<Self> {
        let mut connection = Self {
            socket: address.connect()?,
            server,
            msize: 8192,
            outgoing: Outgoing::default(),
            received: vec![0; RECEIVED],
            unread: 0..0,
            payload: 0,
        };
        let version = Tmessage::Tversion { msize: MSIZE, version: Str(VERSION_9P2000L) };
        connection.msize = connection.call_with_tag(NOTAG, &version, 101, |reply| reply.number)?;
        // diod's name of an export is its path, the others' export has none.
        let aname = if server == Server::Diod { export.as_os_str().as_encoded_bytes() } else { b"" };
        let n_uname = rustix::process::geteuid().as_raw();
        let attach = Tmessage::Tattach { fid: ROOT, afid: NOFID, uname: Str(b"root"), aname: Str(aname), n_uname };
        connection.call(&attach, 105)?;
        Ok(connection)
    }

    /// Sends one request and waits for its reply, which must be of type `kind`.
    pub(crate) fn call(&mut self, message: &Tmessage<'_>, kind: u8) -> Result<()> {
        self.call_with_tag(1, message, kind, |_| ())
    }

    /// Sends a `Treaddir`; tells the offset behind the last entry of its reply, and how many there are.
    pub(crate) fn listed(&mut self, message: &Tmessage<'_>, kind: u8) -> Result<Option<(u64, usize)>> {
        let reply = self.call_with_tag(1, message, kind, Reply::clone)?;
        let mut last = None;
        for entry in DirEntries::new(self.body(&reply).get(4..).unwrap_or_default()) {
            let (_, count) = last.unwrap_or((0, 0));
            last = Some((entry?.offset, count + 1));
        }
        Ok(last)
    }

    fn call_with_tag<T>(
        &mut self,
        tag: u16,
        message: &Tmessage<'_>,
        kind: u8,
        take: impl Fn(&Reply) -> T,
    ) -> Result<T> {
        self.set_blocking(true)?;
        self.push(tag, message)?;
        self.send()?;
        loop {
            if let Some(reply) = self.next()? {
                reply.expect(kind).with_context(|| message.name().to_owned())?;
                return Ok(take(&reply));
            }
            self.receive()?;
        }
    }

    /// Do reads and writes wait?
    pub(crate) fn set_blocking(&self, blocking: bool) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.set_nonblocking(!blocking),
            Socket::Unix(stream) => stream.set_nonblocking(!blocking),
        }
    }

    /// Puts a request behind the others. Its payload, if it has any, is the front of [`DATA`].
    pub(crate) fn push(&mut self, tag: u16, message: &Tmessage<'_>) -> Result<()> {
        let Outgoing { bytes, pieces, .. } = &mut self.outgoing;
        let start = bytes.len();
        bytes.resize(start + 512, 0);
        let length = message.encode(tag, &mut bytes[start..])?;
        bytes.truncate(start + length);
        match pieces.back_mut() {
            Some(Piece::Bytes { length: last, .. }) => *last += length,
            _ => pieces.push_back(Piece::Bytes { start, length }),
        }
        let size = Header::decode(&bytes[start..])?.size as usize;
        if size > length {
            ensure!(size - length <= DATA.len(), "there is less data than is to be written");
            pieces.push_back(Piece::Payload { length: size - length });
        }
        Ok(())
    }

    /// Sends what was pushed, as far as the socket takes it; tells whether that is all.
    pub(crate) fn send(&mut self) -> Result<bool> {
        while !self.outgoing.pieces.is_empty() {
            let mut skip = self.outgoing.sent;
            let mut slices = [IoSlice::new(&[]); 64];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.outgoing.pieces) {
                let bytes = match *piece {
                    Piece::Bytes { start, length } => &self.outgoing.bytes[start..start + length],
                    Piece::Payload { length } => &DATA[..length],
                };
                *slice = IoSlice::new(&bytes[std::mem::take(&mut skip)..]);
                count += 1;
            }
            match self.socket.write(&slices[..count]) {
                Ok(sent) => self.outgoing.advance(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        Ok(true)
    }

    /// Receives what there is; returns `false` where that is nothing yet.
    pub(crate) fn receive(&mut self) -> Result<bool> {
        // What is left is less than a message without its payload.
        self.received.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        match self.socket.read(&mut self.received[self.unread.end..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => self.unread.end += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error).context("cannot receive"),
        }
        let skipped = self.payload.min(self.unread.len());
        self.payload -= skipped;
        self.unread.start += skipped;
        Ok(true)
    }

    /// The next reply of those received, if it is all there but for its payload.
    pub(crate) fn next(&mut self) -> Result<Option<Reply>> {
        let unread = &self.received[self.unread.clone()];
        if unread.len() < HEADER_LEN {
            return Ok(None);
        }
        let header = Header::decode(unread)?;
        let size = header.size as usize;
        // The payload of an Rread is not looked at.
        let message = if header.kind == 117 { HEADER_LEN + 4 } else { size };
        ensure!(message <= LONGEST && message <= size, "a reply of {size} bytes and type {}", header.kind);
        if unread.len() < message {
            return Ok(None);
        }
        let start = self.unread.start;
        let there = size.min(unread.len());
        self.payload = size - there;
        self.unread.start += there;
        let body = start + HEADER_LEN..start + message;
        let number = self.received[body.clone()].first_chunk().map_or(0, |&bytes| u32::from_le_bytes(bytes));
        Ok(Some(Reply { tag: header.tag, kind: header.kind, number, body }))
    }

    /// The body of a reply, until more is received.
    pub(crate) fn body(&self, reply: &Reply) -> &[u8] {
        &self.received[reply.body.clone()]
    }
}

impl Outgoing {
    fn advance(&mut self, mut count: usize) {
        while let Some(Piece::Bytes { length, .. } | Piece::Payload { length }) = self.pieces.front() {
            let left = length - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.pieces.pop_front();
        }
        self.bytes.clear();
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

/// What is written to files.
pub(crate) static DATA: [u8; MSIZE as usize] = [0x5a; MSIZE as usize];

//! A way to a server on which replies are lost, and on which it is seen how clients leave.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
};

use ninering_wire::{HEADER_LEN, Header, Rmessage};

use super::PATIENCE;

/// Carries connections to a server. Where it is told to, it does not deliver the reply to what the server has done, but ends
/// the connection.
#[derive(Debug)]
pub struct Door {
    /// The type number of the reply that is to be lost; 0 for none.
    lost: Arc<AtomicU8>,
    /// Of each connection that has ended, how many requests were not answered yet.
    left: Receiver<u64>,
}

impl Door {
    /// Listens on the Unix socket `at` for clients of the server at the Unix socket `server`.
    ///
    /// # Panics
    /// It cannot listen there.
    pub fn open(at: &Path, server: &Path) -> Self {
        let listener = UnixListener::bind(at).expect("to listen");
        let (lost, server) = (Arc::new(AtomicU8::new(0)), server.to_owned());
        let (ended, left) = mpsc::channel();
        let told = Arc::clone(&lost);
        // It ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (lost, server, ended) = (Arc::clone(&told), server.clone(), ended.clone());
                thread::spawn(move || carry(&client, &server, &lost).map(|left| ended.send(left)));
            }
        });
        Self { lost, left }
    }

    /// Has the next reply of this name be lost.
    ///
    /// # Panics
    /// There is no such reply.
    pub fn lose(&self, name: &str) {
        let number = (1..=u8::MAX).find(|&number| Rmessage::name_of(number) == Some(name)).expect("a reply");
        self.lost.store(number, Ordering::Release);
    }

    /// Was it lost?
    pub fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) == 0
    }

    /// Waits until a client has ended its connection. Tells how many of its requests were not answered yet.
    ///
    /// # Panics
    /// None does.
    pub fn left(&self) -> u64 {
        self.left.recv_timeout(PATIENCE).expect("a connection that ends")
    }
}

/// Carries a connection to its end. Tells how many requests were not answered by then.
fn carry(client: &UnixStream, server: &Path, lost: &AtomicU8) -> io::Result<u64> {
    let (mut to_client, mut from_client) = (client.try_clone()?, client.try_clone()?);
    let mut to_server = UnixStream::connect(server)?;
    let mut from_server = to_server.try_clone()?;
    let unanswered = Arc::new(AtomicU64::new(0));
    let asking = thread::spawn({
        let unanswered = Arc::clone(&unanswered);
        move || {
            let asked = carry_messages(&mut from_client, |_, request| {
                unanswered.fetch_add(1, Ordering::AcqRel);
                to_server.write_all(request)
            });
            // The other side may have done that.
            let _ = to_server.shutdown(Shutdown::Both);
            asked
        }
    });
    let answered = carry_messages(&mut from_server, |kind, reply| {
        if lost.compare_exchange(kind, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        to_client.write_all(reply)?;
        unanswered.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    });
    // Either may be closed already: by a client that did not wait, too, so that it is no error here.
    let _ = (client.shutdown(Shutdown::Both), from_server.shutdown(Shutdown::Both));
    let _ = (answered, asking.join().expect("no panic"));
    Ok(unanswered.load(Ordering::Acquire))
}

/// Hands all messages of a stream to `carry`, with their type numbers, until the stream's end.
fn carry_messages(stream: &mut impl Read, mut carry: impl FnMut(u8, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut message = vec![0; HEADER_LEN];
    loop {
        message.resize(HEADER_LEN, 0);
        match stream.read_exact(&mut message) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let header = Header::decode(&message).map_err(|_| io::ErrorKind::InvalidData)?;
        message.resize(header.size as usize, 0);
        stream.read_exact(&mut message[HEADER_LEN..])?;
        carry(header.kind, &message)?;
    }
}

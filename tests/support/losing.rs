//! A door to a server that loses replies, and the connection with them.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use ninering_wire::{HEADER_LEN, Header, Rmessage};

/// Carries connections to a server; and where it is told to, does not deliver the reply to what the server has done,
/// but ends the connection.
#[derive(Debug)]
pub struct Losing {
    /// The type number of the reply that is to be lost; 0 for none.
    next: Arc<AtomicU8>,
}

impl Losing {
    /// Listens on the Unix socket `at` for clients of the server at the Unix socket `server`.
    ///
    /// # Panics
    /// It cannot listen there.
    pub fn start(at: &Path, server: &Path) -> Self {
        let listener = UnixListener::bind(at).expect("to listen");
        let (next, server) = (Arc::new(AtomicU8::new(0)), server.to_owned());
        let told = Arc::clone(&next);
        // It ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (told, server) = (Arc::clone(&told), server.clone());
                thread::spawn(move || {
                    let ended = carry(&client, &server, &told);
                    // Either side may be gone by now.
                    let _ = client.shutdown(Shutdown::Both);
                    ended
                });
            }
        });
        Self { next }
    }

    /// Has the next reply of this name be lost.
    ///
    /// # Panics
    /// There is no such reply.
    pub fn lose(&self, name: &str) {
        let number = (1..=u8::MAX).find(|&number| Rmessage::name_of(number) == Some(name)).expect("a reply");
        self.next.store(number, Ordering::Release);
    }

    /// Was it lost?
    pub fn has_lost(&self) -> bool {
        self.next.load(Ordering::Acquire) == 0
    }
}

/// Carries a connection to its end.
fn carry(client: &UnixStream, server: &Path, lost: &AtomicU8) -> io::Result<()> {
    let mut server = UnixStream::connect(server)?;
    let (mut requests, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        // However it ends, the server hears no more.
        let carried = io::copy(&mut requests, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
        carried
    });
    let (mut client, mut reply) = (client, vec![0; HEADER_LEN]);
    let end = loop {
        reply.resize(HEADER_LEN, 0);
        if let Err(error) = server.read_exact(&mut reply) {
            break Err(error);
        }
        let Ok(Header { size, kind, .. }) = Header::decode(&reply) else {
            break Err(io::ErrorKind::InvalidData.into());
        };
        reply.resize(size as usize, 0);
        server.read_exact(&mut reply[HEADER_LEN..])?;
        if lost.compare_exchange(kind, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            break Ok(());
        }
        if let Err(error) = client.write_all(&reply) {
            break Err(error);
        }
    };
    // It may have been the server who has ended it.
    let _ = server.shutdown(Shutdown::Both);
    end
}

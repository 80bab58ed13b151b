//! Sessions through a socket, with many requests under way at a time.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, LazyLock},
    thread,
    time::{Duration, Instant},
};

use arbitrary::{Arbitrary, Result, Unstructured};
use ninering::listener::{Address, Listener, Usage};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    model,
    reply::{self, Dialect, kind},
    request::{self, Step},
    scene::{Scene, Served},
};

/// How many requests of one client are sent; there are tags for more.
const MOST_STEPS: usize = 1000;
/// How long a reply may take, on a machine that is busy with many other things.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest message before a version was agreed on.
const FIRST_LIMIT: u32 = 8192;

/// What some clients send at the same time.
#[derive(Debug)]
pub struct Conversation {
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    steps: Vec<Step>,
    /// In pieces of how many bytes it is sent.
    piece: u16,
    end: End,
}

/// How a client goes.
#[derive(Debug, Arbitrary, PartialEq, Eq)]
enum End {
    /// It sends no more, and takes all replies.
    Finished,
    /// It closes the connection without a look at what comes.
    Gone,
    /// It sends a part of a message, and no more.
    Half,
    /// It sends a message of a size that no message has.
    Size(u8),
}

impl<'a> Arbitrary<'a> for Conversation {
    /// As many steps as there are bytes for, of two clients.
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(Client { steps: Vec::new(), piece: from.arbitrary()?, end: from.arbitrary()? });
        }
        while !from.is_empty() {
            let step: Step = from.arbitrary()?;
            clients[usize::from(step.client % 2)].steps.push(step);
        }
        Ok(Self { clients })
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static SOCKETS: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary directory"));

/// Plays a conversation to a server behind a socket, and panics where that does not keep its word.
pub fn over_socket(served: Served, conversation: &Conversation) {
    LazyLock::force(&RUNTIME);
    let path = SOCKETS.path().join("socket");
    let scene = Scene::new(served);
    let listener = RUNTIME.block_on(Listener::bind(&Address::Unix(path.clone()))).expect("the socket is free");
    let (stop, stopped) = oneshot::channel::<()>();
    let resources = Arc::clone(listener.resources());
    let serving = RUNTIME.spawn(listener.serve(scene.server.clone(), stopped));
    thread::scope(|scope| {
        for client in &conversation.clients {
            scope.spawn(|| client.play(&path, &scene));
        }
    });
    drop(stop);
    RUNTIME.block_on(serving).expect("the listener does not panic").expect("it serves");
    // The last requests' threads may be about to end.
    let begin = Instant::now();
    while resources.usage() != Usage::default() {
        assert!(begin.elapsed() < PATIENCE, "nobody is there, and in use is {:?}", resources.usage());
        thread::sleep(Duration::from_millis(1));
    }
    scene.check();
}

impl Client {
    fn play(&self, path: &Path, scene: &Scene) {
        let mut requests = vec![request::version(), request::attach(0, 0)];
        for (number, step) in (1..).zip(self.steps.iter().take(MOST_STEPS)) {
            let mut bytes = step.bytes(number);
            if bytes[4] != kind::TVERSION {
                // Whatever the damage: what two requests with one tag do is no matter of chance.
                bytes[5..7].copy_from_slice(&number.to_le_bytes());
            }
            if bytes[4] == kind::TFLUSH && bytes.len() == 9 {
                let old = 1 + reply::number::<2>(&bytes, 7) as usize % self.steps.len().min(MOST_STEPS);
                bytes[7..9].copy_from_slice(&(old as u16).to_le_bytes());
            }
            requests.push(bytes);
        }
        let mut stream = UnixStream::connect(path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time");
        let reading = stream.try_clone().expect("a descriptor");
        thread::scope(|scope| {
            let replies = (self.end != End::Gone).then(|| scope.spawn(|| receive_all(reading)));
            let mut bytes = requests.concat();
            match self.end {
                End::Half => bytes.extend_from_slice(&[50, 0, 0, 0, 116, 1]),
                End::Size(size) => bytes.extend_from_slice(&[size % 7, 0, 0, 0, 120, 0, 0, 0, 0, 0, 0]),
                End::Finished | End::Gone => {}
            }
            let piece = if self.piece < 32_768 { usize::MAX } else { usize::from(self.piece % 500) + 1 };
            for piece in bytes.chunks(piece) {
                // Who sends what may not be is sent off, and cannot write to the end.
                if let Err(error) = stream.write_all(piece) {
                    let sent_off = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind());
                    assert!(sent_off, "writing requests: {error}");
                    break;
                }
            }
            if self.end != End::Gone {
                // It fails where the server was faster.
                let _ = stream.shutdown(Shutdown::Write);
            }
            if let Some(replies) = replies {
                let (replies, whole) = replies.join().expect("the reader does not panic");
                check(scene, &requests, &replies, whole && !matches!(self.end, End::Size(_)));
            }
        });
    }
}

/// All replies until the server closes, and whether the last one was whole.
fn receive_all(mut stream: UnixStream) -> (Vec<Vec<u8>>, bool) {
    let mut replies = Vec::new();
    loop {
        let mut reply = vec![0; 4];
        match stream.read(&mut reply[..1]) {
            Ok(0) => return (replies, true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (replies, false),
            // The process was stopped, and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("no reply and no end: {error}"),
        }
        let rest = stream.read_exact(&mut reply[1..]).and_then(|()| {
            reply.resize(reply::number::<4>(&reply, 0) as usize, 0);
            stream.read_exact(&mut reply[4..])
        });
        match rest {
            Ok(()) => replies.push(reply),
            Err(error) => {
                let closed = [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&error.kind());
                assert!(closed, "half a reply: {error}");
                return (replies, false);
            }
        }
    }
}

/// Checks that each request has one reply, and that they are in an order that they may be in.
fn check(scene: &Scene, requests: &[Vec<u8>], replies: &[Vec<u8>], complete: bool) {
    let mut replies = replies.iter();
    let mut session = model::Session::new();
    // Between one version and the next, replies may come in any order.
    for requests in requests.chunk_by(|_, next| next[4] != kind::TVERSION) {
        let (version, others) = requests.split_first().expect("a chunk is not empty");
        let limit = |msize: u32| if msize == 0 { FIRST_LIMIT } else { msize } as usize;
        if version.len() > limit(session.msize) {
            assert_eq!(replies.len(), 0, "replies after a message that is too long");
            return;
        }
        let Some(reply) = replies.next() else {
            assert!(!complete, "{version:?} has no reply");
            return;
        };
        let granted = reply::check(version, reply, session.dialect, session.msize);
        session.follow(version, reply, granted, None);

        let (dialect, msize) = (session.dialect, session.msize);
        let allowed = others.iter().position(|request| request.len() > limit(msize));
        let violated = allowed.is_some();
        let others = &others[..allowed.unwrap_or(others.len())];
        let mut waiting: HashMap<u16, &Vec<u8>> = others.iter().map(|request| (reply::tag(request), request)).collect();
        while !waiting.is_empty() {
            let Some(reply) = replies.next() else {
                assert!(!complete || violated, "there is no reply to {waiting:?}");
                return;
            };
            let tag = reply::tag(reply);
            let request = waiting.remove(&tag).unwrap_or_else(|| panic!("a reply to nothing: {reply:?}"));
            scene.check_reply(reply);
            let granted = reply::check(request, reply, dialect, msize);
            // Of a request that waits to be refused, a flush is granted.
            let may_be_granted = dialect != Dialect::None || request[4] == kind::TFLUSH;
            assert!(!granted || may_be_granted, "{request:?} was granted before a version");
            if request[4] == kind::TFLUSH && granted {
                // What it flushes is answered before it, or never, if it was sent before it.
                let old = reply::number::<2>(request, 7) as u16;
                if old < tag {
                    waiting.remove(&old);
                }
            }
        }
        if violated {
            assert_eq!(replies.len(), 0, "replies after a message that is too long");
            return;
        }
    }
    assert_eq!(replies.len(), 0, "replies to nothing");
}

//! An application that goes away: its requests are flushed, and what they hold comes back when the server has answered, not
//! before. And servers that want the user to authenticate.

use std::{
    future::Future,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    pin::Pin,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use ninering::{
    listener::Address,
    mount::{Authenticate, AuthenticationError, CacheMode, Conversation, Error, Mount, MountOptions, OpenFlags},
};
use ninering_wire::{Attributes, Errno, Far, Frame, MAXWELEM, Qid, QidType, Qids, Rmessage, Tmessage, mode};
use tokio::sync::mpsc;

/// A server that answers what opens and closes files by itself, and asks the test about all else.
struct Scripted {
    address: Address,
    requests: mpsc::UnboundedReceiver<Request>,
    stream: Arc<Mutex<Option<TcpStream>>>,
}

/// A request that the test is to answer.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Read { tag: u16 },
    Lopen { tag: u16, fid: u32 },
    Flush { tag: u16, oldtag: u16 },
    Clunk { tag: u16, fid: u32 },
    Auth { tag: u16, afid: u32 },
    Attach { tag: u16, fid: u32, afid: u32 },
    AuthRead { tag: u16 },
    AuthWrite { tag: u16, bytes: Vec<u8> },
}

const FILE: Qid = Qid { kind: QidType::FILE, version: 0, path: 2 };
const ROOT: Qid = Qid { kind: QidType::DIR, version: 0, path: 1 };
/// `tag` of requests that must not be sent while the test is at it.
type Forbidden = Arc<Mutex<Vec<u16>>>;

impl Scripted {
    fn new(asks_of_opens: bool, authenticates: bool, forbidden: &Forbidden) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("tcp://{}", listener.local_addr().expect("an address")).parse().expect("an address");
        let (sender, requests) = mpsc::unbounded_channel();
        let stream = Arc::new(Mutex::new(None));
        let (shared, forbidden) = (Arc::clone(&stream), Arc::clone(forbidden));
        thread::spawn(move || {
            // One connection after the other.
            let mut afids = Vec::new();
            let connect = || {
                let (incoming, _) = listener.accept().expect("a client");
                *shared.lock().unwrap() = Some(incoming.try_clone().expect("a second descriptor"));
                incoming
            };
            let mut incoming = connect();
            loop {
                let Some(bytes) = receive(&mut incoming) else {
                    incoming = connect();
                    afids.clear();
                    continue;
                };
                let Frame { tag, message, payload } = Frame::<Tmessage>::decode(&bytes).expect("an honest client");
                assert!(!forbidden.lock().unwrap().contains(&tag), "tag {tag} is not free");
                let request = match message {
                    Tmessage::Tread { fid, .. } if afids.contains(&fid) => Request::AuthRead { tag },
                    Tmessage::Twrite { fid, .. } if afids.contains(&fid) => {
                        Request::AuthWrite { tag, bytes: payload.to_vec() }
                    }
                    Tmessage::Tread { .. } => Request::Read { tag },
                    Tmessage::Tlopen { fid, .. } if asks_of_opens => Request::Lopen { tag, fid },
                    Tmessage::Tflush { oldtag } => Request::Flush { tag, oldtag },
                    Tmessage::Tclunk { fid } if asks_of_opens => Request::Clunk { tag, fid },
                    Tmessage::Tauth { afid, .. } => {
                        afids.push(afid);
                        Request::Auth { tag, afid }
                    }
                    Tmessage::Tattach { fid, afid, .. } if authenticates => Request::Attach { tag, fid, afid },
                    honest => {
                        let answer = answer(&honest);
                        send(&mut incoming, tag, &answer, &[]);
                        continue;
                    }
                };
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Self { address, requests, stream }
    }

    /// Ends the connection.
    fn hang_up(&self) {
        let stream = self.stream.lock().unwrap().take().expect("a client");
        stream.shutdown(std::net::Shutdown::Both).expect("to hang up");
    }

    async fn mount(&self, options: MountOptions) -> Mount {
        Mount::remote(self.address.clone(), options).await.expect("a mount")
    }

    async fn next(&mut self) -> Request {
        let next = tokio::time::timeout(Duration::from_secs(60), self.requests.recv());
        next.await.expect("a request comes").expect("the server lives")
    }

    fn reply(&self, tag: u16, message: &Rmessage<'_>, payload: &[u8]) {
        send(self.stream.lock().unwrap().as_mut().expect("a client"), tag, message, payload);
    }
}

fn answer(request: &Tmessage<'_>) -> Rmessage<'static> {
    match request {
        Tmessage::Tversion { msize, .. } => Rmessage::Rversion { msize: *msize, version: "9P2000.L".into() },
        Tmessage::Tattach { .. } => Rmessage::Rattach { qid: ROOT },
        Tmessage::Twalk { names, .. } => {
            Rmessage::Rwalk { qids: Qids::new(&[FILE; MAXWELEM][..names.len()]).expect("as many as there are names") }
        }
        Tmessage::Tlopen { .. } => Rmessage::Rlopen { qid: FILE, iounit: 0 },
        Tmessage::Tgetattr { .. } => {
            let attributes = Attributes { qid: FILE, mode: mode::IFREG, ..Attributes::default() };
            Rmessage::Rgetattr { attributes: Far::from(&*Box::leak(Box::new(attributes))) } // a test is short
        }
        Tmessage::Tclunk { .. } => Rmessage::Rclunk {},
        _ => Rmessage::Rlerror { ecode: Errno::EOPNOTSUPP.0 },
    }
}

fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let mut message = size.to_vec();
    message.resize(u32::from_le_bytes(size) as usize, 0);
    stream.read_exact(&mut message[4..]).ok()?;
    Some(message)
}

fn send(stream: &mut TcpStream, tag: u16, message: &Rmessage<'_>, payload: &[u8]) {
    let mut bytes = vec![0; 4096];
    let length = message.encode(tag, &mut bytes).expect("a reply");
    bytes.truncate(length);
    bytes.extend(payload);
    // The client may be gone.
    let _ = stream.write_all(&bytes);
}

/// Each operation is the requests that it needs, and no more.
fn options() -> MountOptions {
    MountOptions {
        timeout: Duration::from_secs(60),
        region_size: 1 << 20,
        cache: Some(CacheMode::None),
        ..MountOptions::default()
    }
}

/// Begins an operation, and drops it when the server has its first request.
async fn begin_and_drop(server: &mut Scripted, operation: impl Future) -> Request {
    let mut operation = Box::pin(operation);
    tokio::select! {
        _ = &mut operation => panic!("it was not answered"),
        request = server.next() => request,
    }
}

/// Takes all memory of the region that can be had.
fn exhaust(mount: &Mount) -> Vec<ninering::mount::Buffer> {
    let mut all = Vec::new();
    let mut length = 1 << 17;
    while length >= 4096 {
        match mount.try_buffer(length) {
            Some(buffer) => all.push(buffer),
            None => length /= 2,
        }
    }
    all
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_comes_back_when_the_flush_is_answered_and_not_before() {
    let forbidden = Forbidden::default();
    let mut server = Scripted::new(false, false, &forbidden);
    let mount = server.mount(options()).await;
    let root = mount.root();
    let file = root.open_at("file", OpenFlags::READ, 0).await.expect("a file");
    let buffer = mount.buffer(4096).await.expect("a buffer");
    let _all = exhaust(&mount);
    let Request::Read { tag: victim } = begin_and_drop(&mut server, file.read_at(0, buffer)).await else {
        panic!("a read")
    };
    forbidden.lock().unwrap().push(victim);
    let Request::Flush { tag: flush, oldtag } = server.next().await else { panic!("a flush") };
    assert_eq!(oldtag, victim);
    forbidden.lock().unwrap().push(flush);
    // Others go on meanwhile, and neither memory nor tag is theirs.
    for _ in 0..50 {
        root.stat_at("file", true).await.expect("attributes");
        assert!(mount.try_buffer(4096).is_none());
    }
    forbidden.lock().unwrap().clear();
    server.reply(flush, &Rmessage::Rflush {}, &[]);
    eventually("the buffer comes back", || mount.try_buffer(4096).is_some()).await;
    root.stat_at("file", true).await.expect("attributes");
    assert!(mount.broken().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_before_its_flush_counts_as_answered() {
    let forbidden = Forbidden::default();
    let mut server = Scripted::new(true, false, &forbidden);
    let mount = server.mount(options()).await;
    let root = mount.root();
    let opening = root.open_at("file", OpenFlags::READ, 0);
    let Request::Lopen { tag: victim, fid } = begin_and_drop(&mut server, opening).await else { panic!("an open") };
    let Request::Flush { tag: flush, oldtag } = server.next().await else { panic!("a flush") };
    assert_eq!(oldtag, victim);
    server.reply(victim, &Rmessage::Rlopen { qid: FILE, iounit: 0 }, &[]);
    forbidden.lock().unwrap().push(victim);
    // It is open there, and nobody here wants it.
    let Request::Clunk { tag, fid: clunked } = server.next().await else { panic!("a clunk") };
    assert_eq!(clunked, fid);
    server.reply(tag, &Rmessage::Rclunk {}, &[]);
    forbidden.lock().unwrap().clear();
    server.reply(flush, &Rmessage::Rflush {}, &[]);
    root.stat_at("file", true).await.expect("attributes");
    assert!(mount.broken().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_flush_is_waited_for() {
    let mut server = Scripted::new(false, false, &Forbidden::default());
    let mount = server.mount(options()).await;
    let file = mount.root().open_at("file", OpenFlags::READ, 0).await.expect("a file");
    let buffer = mount.buffer(4096).await.expect("a buffer");
    let _all = exhaust(&mount);
    let Request::Read { tag: victim } = begin_and_drop(&mut server, file.read_at(0, buffer)).await else {
        panic!("a read")
    };
    let Request::Flush { tag: flush, .. } = server.next().await else { panic!("a flush") };
    server.reply(flush, &Rmessage::Rlerror { ecode: Errno::EOPNOTSUPP.0 }, &[]);
    mount.root().stat_at("file", true).await.expect("attributes");
    assert!(mount.try_buffer(4096).is_none());
    server.reply(victim, &Rmessage::Rread { count: 5 }, b"hello");
    eventually("the buffer comes back", || mount.try_buffer(4096).is_some()).await;
    assert!(mount.broken().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_neither_breaks_the_mount_in_time() {
    let mut server = Scripted::new(false, false, &Forbidden::default());
    let mount = server.mount(MountOptions { timeout: Duration::from_secs(2), ..options() }).await;
    let file = mount.root().open_at("file", OpenFlags::READ, 0).await.expect("a file");
    let buffer = mount.buffer(4096).await.expect("a buffer");
    begin_and_drop(&mut server, file.read_at(0, buffer)).await;
    let Request::Flush { .. } = server.next().await else { panic!("a flush") };
    eventually("the mount breaks", || mount.broken().is_some()).await;
    assert!(mount.broken().expect("a reason").contains("Tflush"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_of_many_requests_is_flushed_whole() {
    let mut server = Scripted::new(false, false, &Forbidden::default());
    let mount = server.mount(MountOptions { msize: 4096 + 24, ..options() }).await;
    let file = mount.root().open_at("file", OpenFlags::READ, 0).await.expect("a file");
    let buffer = mount.buffer(4 * 4096).await.expect("a buffer");
    let _all = exhaust(&mount);
    let Request::Read { tag } = begin_and_drop(&mut server, file.read_at(0, buffer)).await else { panic!("a read") };
    let mut reads = vec![tag];
    let mut flushes = Vec::new();
    while flushes.len() < 4 {
        match server.next().await {
            Request::Read { tag } => reads.push(tag),
            Request::Flush { tag, oldtag } => flushes.push((tag, oldtag)),
            other => panic!("{other:?}"),
        }
    }
    // One is answered, the others are not.
    server.reply(reads[1], &Rmessage::Rread { count: 1 }, b"x");
    for &(flush, _) in &flushes[..3] {
        server.reply(flush, &Rmessage::Rflush {}, &[]);
    }
    mount.root().stat_at("file", true).await.expect("attributes");
    server.reply(flushes[3].0, &Rmessage::Rflush {}, &[]);
    eventually("the buffer comes back", || mount.try_buffer(4 * 4096).is_some()).await;
    let mut flushed: Vec<u16> = flushes.iter().map(|&(_, oldtag)| oldtag).collect();
    flushed.sort_unstable();
    reads.sort_unstable();
    assert_eq!(flushed, reads);
    assert!(mount.broken().is_none());
}

/// Says a password when it is asked a question.
#[derive(Debug)]
struct Password(&'static str);

impl Authenticate for Password {
    fn authenticate<'c>(
        &'c self,
        conversation: Conversation<'c>,
    ) -> Pin<Box<dyn Future<Output = Result<(), AuthenticationError>> + Send + 'c>> {
        Box::pin(async move {
            let mut question = [0; 100];
            let length = conversation.read(&mut question).await?;
            if &question[..length] != b"password?" {
                return Err("what a question".into());
            }
            assert_eq!(conversation.uname(), "glenda");
            conversation.write(self.0.as_bytes()).await?;
            Ok(())
        })
    }
}

fn with_password() -> MountOptions {
    let authenticate: Option<Arc<dyn Authenticate>> = Some(Arc::new(Password("secret")));
    MountOptions { uname: "glenda".into(), authenticate, ..options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_authenticates_before_the_attach() {
    let mut server = Scripted::new(false, true, &Forbidden::default());
    let mounting = Mount::remote(server.address.clone(), with_password());
    let (mount, ()) = tokio::join!(mounting, let_in(&mut server));
    mount.expect("a mount").root().stat_at("file", true).await.expect("attributes");
}

/// Asks for the password, and attaches who says it.
async fn let_in(server: &mut Scripted) {
    let afid = ask(server, b"password?").await;
    let Request::AuthWrite { tag, bytes } = server.next().await else { panic!("a write") };
    assert_eq!(bytes, b"secret");
    server.reply(tag, &Rmessage::Rwrite { count: 6 }, &[]);
    let Request::Attach { tag, afid: by, .. } = server.next().await else { panic!("an attach") };
    assert_eq!(by, afid);
    server.reply(tag, &Rmessage::Rattach { qid: ROOT }, &[]);
}

/// Asks a question by the afid that it tells.
async fn ask(server: &mut Scripted, question: &[u8]) -> u32 {
    let Request::Auth { tag, afid } = server.next().await else { panic!("a Tauth") };
    server.reply(tag, &Rmessage::Rauth { aqid: Qid { kind: QidType(8), version: 0, path: 0 } }, &[]);
    let Request::AuthRead { tag } = server.next().await else { panic!("a read") };
    server.reply(tag, &Rmessage::Rread { count: question.len() as u32 }, question);
    afid
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_authenticates_again_when_the_connection_was_lost() {
    let mut server = Scripted::new(false, true, &Forbidden::default());
    let mounting = Mount::remote(server.address.clone(), with_password());
    let (mount, ()) = tokio::join!(mounting, let_in(&mut server));
    let mount = mount.expect("a mount");
    let file = mount.root().open_at("file", OpenFlags::READ, 0).await.expect("the file");
    server.hang_up();
    let lost_again = async {
        ask(&mut server, b"password?").await;
        let Request::AuthWrite { .. } = server.next().await else { panic!("a write") };
        server.hang_up();
        let_in(&mut server).await;
    };
    let (attributes, ()) = tokio::join!(file.stat(), lost_again);
    attributes.expect("attributes");
    let recovery = mount.statistics().recovery;
    assert_eq!((recovery.reconnects, recovery.stale_fids, recovery.doubtful), (1, 0, 0), "{recovery:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_whose_user_cannot_authenticate_again_breaks() {
    let mut server = Scripted::new(false, true, &Forbidden::default());
    let mounting = Mount::remote(server.address.clone(), with_password());
    let (mount, ()) = tokio::join!(mounting, let_in(&mut server));
    let mount = mount.expect("a mount");
    server.hang_up();
    let root = mount.root();
    let (attributes, _) = tokio::join!(root.stat_at("file", true), ask(&mut server, b"what?"));
    match attributes {
        Err(Error::Broken(reason)) => assert!(reason.contains("what a question"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_authentication_is_no_mount() {
    let mut server = Scripted::new(false, true, &Forbidden::default());
    let mounting = Mount::remote(server.address.clone(), with_password());
    let (mount, _) = tokio::join!(mounting, ask(&mut server, b"what?"));
    match mount {
        Err(Error::Broken(reason)) => assert!(reason.contains("what a question"), "{reason}"),
        other => panic!("{:?}", other.map(drop)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_no_authentication_is_attached_to_without() {
    let mut server = Scripted::new(false, true, &Forbidden::default());
    let mounting = Mount::remote(server.address.clone(), with_password());
    let serving = async {
        let Request::Auth { tag, .. } = server.next().await else { panic!("a Tauth") };
        server.reply(tag, &Rmessage::Rlerror { ecode: Errno::EOPNOTSUPP.0 }, &[]);
        let Request::Attach { tag, afid, .. } = server.next().await else { panic!("an attach") };
        assert_eq!(afid, ninering_wire::NOFID);
        server.reply(tag, &Rmessage::Rattach { qid: ROOT }, &[]);
    };
    let (mount, ()) = tokio::join!(mounting, serving);
    mount.expect("a mount");
}

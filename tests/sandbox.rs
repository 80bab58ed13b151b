//! The library under attack: servers that lie, buffers that are cancelled, mounts that break and begin anew.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use ninering::{
    backend::MemBackend,
    listener::Address,
    mount::{CacheMode, Error, Mount, MountOptions, OpenFlags},
    server::{Server, ServerOptions},
    source::Source,
};
use ninering_wire::{Errno, Frame, NOTAG, Qid, QidType, Qids, Rmessage, Tmessage, mode};

fn options() -> MountOptions {
    // What the servers of these tests are asked is what the tests do, and no more.
    MountOptions { timeout: Duration::from_secs(5), cache: Some(CacheMode::None), ..MountOptions::default() }
}

fn memory() -> Mount {
    let server = Server::new(Arc::new(MemBackend::default()), ServerOptions::default());
    Mount::local(server, options()).expect("a mount")
}

/// A server that answers version and attach as it should, and then whatever `lie` makes of a request.
fn lying_server(lie: impl Fn(u16, &Tmessage<'_>) -> Vec<u8> + Send + Sync + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp://{}", listener.local_addr().expect("an address"));
    let lie = Arc::new(lie);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let lie = Arc::clone(&lie);
            thread::spawn(move || converse(stream, &*lie));
        }
    });
    address.parse().expect("an address")
}

fn converse(mut stream: TcpStream, lie: &dyn Fn(u16, &Tmessage<'_>) -> Vec<u8>) {
    loop {
        let mut size = [0; 4];
        if stream.read_exact(&mut size).is_err() {
            return;
        }
        let mut message = size.to_vec();
        message.resize(u32::from_le_bytes(size) as usize, 0);
        if stream.read_exact(&mut message[4..]).is_err() {
            return;
        }
        let Frame { tag, message, .. } = Frame::<Tmessage>::decode(&message).expect("an honest client");
        let reply = match message {
            Tmessage::Tversion { msize, .. } => reply(tag, Rmessage::Rversion { msize, version: "9P2000.L".into() }),
            Tmessage::Tattach { .. } => reply(tag, Rmessage::Rattach { qid: directory() }),
            other => lie(tag, &other),
        };
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
}

fn directory() -> Qid {
    Qid { kind: QidType::DIR, version: 0, path: 1 }
}

fn reply(tag: u16, message: Rmessage<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let length = message.encode(tag, &mut bytes).expect("a reply");
    bytes.truncate(length);
    bytes
}

/// The honest answer to a walk to a file or of no names, an open and a clunk.
fn honest(tag: u16, message: &Tmessage<'_>) -> Option<Vec<u8>> {
    let file = Qid { kind: QidType::FILE, version: 0, path: 2 };
    Some(reply(
        tag,
        match message {
            Tmessage::Twalk { names, .. } => {
                let qids = names.iter().map(|name| if name.starts_with(b"dir") { directory() } else { file });
                let qids: Vec<_> = qids.collect();
                return Some(reply(tag, Rmessage::Rwalk { qids: Qids::new(&qids).expect("qids") }));
            }
            Tmessage::Tlopen { .. } => Rmessage::Rlopen { qid: file, iounit: 0 },
            Tmessage::Tclunk { .. } => Rmessage::Rclunk {},
            Tmessage::Tflush { .. } => Rmessage::Rflush {},
            _ => return None,
        },
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_breaks_its_own_mount_and_says_what_it_was() {
    type Lie = Box<dyn Fn(u16, &Tmessage<'_>) -> Vec<u8> + Send + Sync>;
    let stat = |change: fn(u16) -> Vec<u8>| -> Lie {
        Box::new(move |tag, message| honest(tag, message).unwrap_or_else(|| change(tag)))
    };
    let lies: Vec<(&str, Lie)> = vec![
        ("the wrong type", stat(|tag| reply(tag, Rmessage::Rmkdir { qid: directory() }))),
        (
            "a request as a reply",
            stat(|tag| {
                let mut bytes = vec![0; 64];
                let length = Tmessage::Tclunk { fid: 1 }.encode(tag, &mut bytes).expect("a message");
                bytes.truncate(length);
                bytes
            }),
        ),
        ("another's tag", stat(|tag| reply(tag.wrapping_add(1), Rmessage::Rclunk {}))),
        ("the tag of nothing", stat(|_| reply(NOTAG, Rmessage::Rclunk {}))),
        ("a short reply", stat(|tag| reply(tag, Rmessage::Rlerror { ecode: 1 })[..9].to_vec())),
        ("a size below the header's", stat(|_| vec![3, 0, 0, 0, 25, 0, 0])),
        ("a size beyond msize", stat(|_| vec![0xff, 0xff, 0xff, 0x7f, 25, 0, 0])),
        (
            "more than the message holds",
            stat(|tag| {
                let mut bytes = reply(tag, Rmessage::Rlerror { ecode: 2 });
                bytes.extend([0; 5]);
                let size = bytes.len() as u32;
                bytes[..4].copy_from_slice(&size.to_le_bytes());
                bytes
            }),
        ),
        (
            "more qids than names",
            Box::new(|tag, _| {
                let qids = [directory(); 5];
                reply(tag, Rmessage::Rwalk { qids: Qids::new(&qids).expect("qids") })
            }),
        ),
    ];
    let healthy = memory();
    for (name, lie) in lies {
        let mount = Mount::remote(lying_server(lie), options()).await.expect("a mount");
        match mount.root().stat_at("file", true).await {
            Err(Error::Broken(reason)) => assert!(!reason.is_empty(), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert!(mount.broken().is_some(), "{name}");
        assert!(matches!(mount.root().stat_at("file", true).await, Err(Error::Broken(_))), "{name}: it stays broken");
        healthy.root().stat_at(".", true).await.expect("another mount does not notice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_beyond_the_request_are_refused() {
    for excess in [1, 1000, u32::MAX - 11] {
        let address = lying_server(move |tag, message| {
            honest(tag, message).unwrap_or_else(|| match message {
                Tmessage::Tread { count, .. } => {
                    let count = count.saturating_add(excess);
                    let mut bytes = reply(tag, Rmessage::Rread { count: 0 });
                    bytes[7..11].copy_from_slice(&count.to_le_bytes());
                    bytes
                }
                Tmessage::Twrite { count, .. } => reply(tag, Rmessage::Rwrite { count: count.saturating_add(excess) }),
                _ => reply(tag, Rmessage::Rlerror { ecode: 95 }),
            })
        });
        for write in [false, true] {
            let mount = Mount::remote(address.clone(), options()).await.expect("a mount");
            let flags = if write { OpenFlags::WRITE } else { OpenFlags::READ };
            let file = mount.root().open_at("file", flags, 0).await.expect("a file");
            let buffer = mount.buffer(100).await.expect("a buffer");
            let outcome = match write {
                false => file.read_at(0, buffer).await.map(drop),
                true => file.write_at(0, buffer).await.0.map(drop),
            };
            assert!(matches!(outcome, Err(Error::Broken(_))), "excess {excess}, write {write}: {outcome:?}");
        }
    }
}

/// A reply's header has room for an error's number. One that comes with a text, as of 9P2000.u, goes on among the
/// descriptors of the payload, however that lies in memory.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_landed_among_the_payloads_descriptors_is_read_from_there() {
    let texts = Arc::new(AtomicUsize::new(0));
    let text = Arc::clone(&texts);
    let address = lying_server(move |tag, message| {
        honest(tag, message).unwrap_or_else(|| match message {
            Tmessage::Tread { offset: 1, .. } => {
                let text = text.load(Ordering::SeqCst);
                let mut bytes = ((7 + 2 + text + 4) as u32).to_le_bytes().to_vec();
                bytes.push(107); // Rerror
                bytes.extend(tag.to_le_bytes());
                bytes.extend((text as u16).to_le_bytes());
                bytes.resize(bytes.len() + text, b'-');
                bytes.extend(28_u32.to_le_bytes());
                bytes
            }
            Tmessage::Tread { .. } => {
                let mut bytes = reply(tag, Rmessage::Rread { count: 4 });
                bytes.extend(b"good");
                bytes
            }
            _ => reply(tag, Rmessage::Rlerror { ecode: 95 }),
        })
    });
    for mode in [CacheMode::None, CacheMode::CloseToOpen] {
        let options = MountOptions { cache: Some(mode), ..options() };
        let mount = Mount::remote(address.clone(), options).await.expect("a mount");
        let file = mount.root().open_at("file", OpenFlags::READ, 0).await.expect("a file");
        for length in [0, 1, 2, 50, 3000] {
            texts.store(length, Ordering::SeqCst);
            let one = file.read_at(1, mount.buffer(8000).await.expect("a buffer")).await;
            assert!(matches!(one, Err(Error::Errno(Errno::ENOSPC))), "{length}: {one:?}");
            let mut several = Vec::new();
            for len in [1, 3, 40, 5000] {
                several.push(mount.buffer(len).await.expect("a buffer"));
            }
            let several = file.read_vectored_at(1, several).await;
            assert!(matches!(several, Err(Error::Errno(Errno::ENOSPC))), "{length}: {several:?}");
        }
        // The mount is whole.
        let read = file.read_at(0, mount.buffer(8000).await.expect("a buffer")).await.expect("a read");
        assert_eq!(&read.into_bytes()[..], b"good");
        assert!(mount.broken().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_are_not_taken_from_a_server() {
    for name in ["", "a/b", "../x", "nul\0", "/etc"] {
        let address = lying_server(move |tag, message| {
            honest(tag, message).unwrap_or_else(|| match message {
                Tmessage::Treaddir { offset: 0, .. } => {
                    let entry = ninering_wire::DirEntry { qid: directory(), offset: 1, kind: 4, name: name.into() };
                    let mut entries = vec![0; 256];
                    let length = entry.encode(&mut entries).expect("an entry");
                    let mut bytes = reply(tag, Rmessage::Rreaddir { count: length as u32 });
                    bytes.extend(&entries[..length]);
                    bytes
                }
                Tmessage::Treaddir { .. } => reply(tag, Rmessage::Rreaddir { count: 0 }),
                _ => reply(tag, Rmessage::Rlerror { ecode: 95 }),
            })
        });
        let mount = Mount::remote(address, options()).await.expect("a mount");
        let flags = OpenFlags::READ | OpenFlags::DIRECTORY;
        let listing = match mount.root().open_at("dir", flags, 0).await {
            Ok(directory) => directory.read_directory(0).await.map(drop),
            Err(error) => Err(error),
        };
        assert!(matches!(listing, Err(Error::Broken(_))), "{name:?}: {listing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_a_circle_end() {
    let link = Qid { kind: QidType::SYMLINK, version: 0, path: 3 };
    let address = lying_server(move |tag, message| match message {
        Tmessage::Twalk { names, .. } => {
            let qids = if names.is_empty() { Qids::default() } else { (&link).into() };
            reply(tag, Rmessage::Rwalk { qids })
        }
        Tmessage::Treadlink { .. } => reply(tag, Rmessage::Rreadlink { target: "again".into() }),
        Tmessage::Tclunk { .. } => reply(tag, Rmessage::Rclunk {}),
        _ => reply(tag, Rmessage::Rlerror { ecode: 95 }),
    });
    let mount = Mount::remote(address, options()).await.expect("a mount");
    match mount.root().stat_at("again", true).await {
        Err(Error::Errno(Errno::ELOOP)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_mount_begins_anew() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let address = lying_server(move |tag, message| {
        if let Tmessage::Twalk { .. } = message
            && counter.fetch_add(1, Ordering::SeqCst) == 1
        {
            return reply(tag, Rmessage::Rversion { msize: 1, version: "".into() });
        }
        honest(tag, message).unwrap_or_else(|| reply(tag, Rmessage::Rlerror { ecode: 95 }))
    });
    let mount = Mount::remote(address, options()).await.expect("a mount");
    let root = mount.root();
    let before = root.open_at("file", OpenFlags::READ, 0).await.expect("a file");
    assert!(matches!(root.open_at("file", OpenFlags::READ, 0).await, Err(Error::Broken(_))));
    mount.restart().await.expect("a new life");
    assert!(mount.broken().is_none());
    root.open_at("file", OpenFlags::READ, 0).await.expect("a file again");
    match before.read_at(0, mount.buffer(1).await.expect("a buffer")).await {
        Err(Error::Errno(Errno::ESTALE)) => {}
        other => panic!("a handle from before: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_is_given_up_does_not_give_its_buffer_away() {
    let address = lying_server(move |tag, message| {
        honest(tag, message).unwrap_or_else(|| {
            thread::sleep(Duration::from_secs(1));
            let mut bytes = reply(tag, Rmessage::Rread { count: 4 });
            bytes.extend(b"late");
            bytes
        })
    });
    let mount = Mount::remote(address, options()).await.expect("a mount");
    let file = mount.root().open_at("file", OpenFlags::READ, 0).await.expect("a file");
    let buffer = mount.buffer(4096).await.expect("a buffer");
    let given_up = tokio::time::timeout(Duration::from_millis(20), file.read_at(0, buffer)).await;
    assert!(given_up.is_err());
    // The reply comes into memory that nobody else has been given meanwhile.
    let mut other = mount.buffer(4096).await.expect("a buffer");
    other.write(0, &[7; 4096]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut seen = [0; 4096];
    other.read(0, &mut seen);
    assert!(seen.iter().all(|&byte| byte == 7));
    other.truncate(4);
    assert_eq!(&file.read_at(0, other).await.expect("a read").into_bytes()[..], b"late");
}

#[tokio::test(flavor = "multi_thread")]
async fn buffers_of_another_mount_are_refused() {
    let (one, other) = (memory(), memory());
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
    let file = one.root().open_at("file", flags, 0o644).await.expect("a file");
    let foreign = other.buffer(10).await.expect("a buffer");
    assert!(matches!(file.read_at(0, foreign).await, Err(Error::Errno(Errno::ESTALE))));
    let elsewhere = other.root().open_at("file", flags, 0o644).await.expect("a file");
    drop(elsewhere);
    assert!(matches!(one.root().rename("file", &other.root(), "x").await, Err(Error::Errno(Errno::EXDEV))));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_share_a_mount() {
    let mount = memory();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50_u32 {
        let mount = mount.clone();
        tasks.spawn(async move {
            let root = mount.root();
            let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
            let file = root.open_at(&format!("file{number}"), flags, 0o600).await.expect("a file");
            for round in 0..20_u64 {
                let buffer = mount.buffer(10_000).await.expect("a buffer");
                buffer.write(0, &number.to_le_bytes().repeat(2500));
                assert_eq!(file.write_at(round * 10_000, buffer).await.0.expect("a write"), 10_000);
            }
            let bytes = file.read_at(0, mount.buffer(200_000).await.expect("a buffer")).await.expect("a read");
            assert!(bytes.into_bytes().chunks(4).all(|chunk| chunk == number.to_le_bytes()));
            assert_eq!(file.stat().await.expect("attributes").mode, mode::IFREG | 0o600);
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.expect("a task");
    }
    assert_eq!(mount.statistics().payload_through_wit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_checked_before_they_leave() {
    let mount = memory();
    let root = mount.root();
    root.make_directory("dir", 0o755).await.expect("a directory");
    for (path, errno) in [
        ("", Errno::ENOENT),
        ("/dir", Errno::EPERM),
        ("..", Errno::EPERM),
        ("dir/../..", Errno::EPERM),
        ("di\0r", Errno::EINVAL),
    ] {
        match root.stat_at(path, true).await {
            Err(Error::Errno(found)) if found == errno => {}
            other => panic!("{path:?}: {other:?}"),
        }
        assert!(root.make_directory(path, 0o755).await.is_err(), "{path:?}");
        assert!(root.unlink(path).await.is_err(), "{path:?}");
    }
    let long = "n".repeat(256);
    assert!(matches!(root.stat_at(&long, true).await, Err(Error::Errno(Errno::ENAMETOOLONG))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_by_name_is_mounted() {
    let source: Source = "mem:".parse().expect("a source");
    let mount = source.mount(options()).await.expect("a mount");
    mount.root().symlink("link", "nowhere").await.expect("a link");
    assert_eq!(mount.root().read_link("link").await.expect("a link"), b"nowhere");
}

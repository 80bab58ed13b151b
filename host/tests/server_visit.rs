//! `Tvisit`: does the same as `Twalk`, a message, and `Tclunk`; and only for who has agreed on it.

mod common;

use common::{Client, Export, ROOT, fresh};
use ninering::backend::MemBackend;
use ninering_wire::{
    AT_REMOVEDIR, Attributes, Errno, Frame, Inner, NOFID, NOTAG, Names, Qid, Rmessage, Str, Tmessage, VERSION_9P2000L,
    VERSION_NINERING, getattr, lopen,
};

/// A client that has agreed on it.
fn extended(server: &Export) -> Client {
    let mut client = server.client();
    assert_eq!(version(&mut client, VERSION_NINERING), VERSION_NINERING);
    client.attach(ROOT, "").expect("an attach");
    client
}

fn version(client: &mut Client, version: &[u8]) -> Vec<u8> {
    let reply = client.call(&Tmessage::Tversion { msize: 1 << 16, version: Str(version) }, &[]).expect("an answer");
    match Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message {
        Rmessage::Rversion { version, .. } => version.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// How far the walk came, and what came of the message.
type Visited = Result<(Vec<Qid>, Option<Result<Attributes, Errno>>), Errno>;

fn visit(client: &mut Client, newfid: u32, path: &[&str], message: &Tmessage<'_>) -> Visited {
    let mut inner = [0; 512];
    let length = message.encode(NOTAG, &mut inner).expect("a short message");
    visit_raw(client, newfid, path, &inner[..length])
}

fn visit_raw(client: &mut Client, newfid: u32, path: &[&str], inner: &[u8]) -> Visited {
    let names: Vec<_> = path.iter().map(|&name| Str::from(name)).collect();
    let names = Names::new(&names).expect("at most 16");
    let reply = client.call(&Tmessage::Tvisit { fid: ROOT, newfid, names, message: Inner(inner) }, &[])?;
    let Rmessage::Rvisit { qids, message } = Frame::<Rmessage<'_>>::decode(&reply).expect("a reply").message else {
        panic!("not an Rvisit");
    };
    let done = (!message.0.is_empty()).then(|| match message.decode().expect("a message within") {
        Rmessage::Rgetattr { attributes } => Ok(attributes.get()),
        Rmessage::Rlerror { ecode } => Err(Errno(ecode)),
        _ => Ok(Attributes::default()),
    });
    Ok((qids.iter().collect(), done))
}

fn getattr(fid: u32) -> Tmessage<'static> {
    Tmessage::Tgetattr { fid, request_mask: getattr::BASIC }
}

/// Runs on a directory of the host and in memory.
fn on_both(test: impl Fn(&Export)) {
    let directory = tempfile::tempdir().expect("a directory");
    let backend = ninering::backend::DirBackend::new(directory.path(), Default::default()).expect("a backend");
    for server in [Export::called(backend, directory), Export::called(MemBackend::default(), ())] {
        let mut client = server.client();
        client.begin();
        client.mkdir("", "a").expect("a directory");
        client.make("a", "file", b"contents");
        let a = client.at("a").expect("a fid");
        client.symlink(a, b"link", b"file").expect("a link");
        client.clunk(a).expect("a clunk");
        test(&server);
    }
}

/// What a request is to `Session::handle_now`, of a directory that lies on a disk: answered, or put off.
#[test]
fn only_what_may_wait_for_the_disk_is_put_off() {
    use ninering::{
        backend::{DirBackend, DirOptions},
        payload::Payload,
        server::{Server, ServerOptions},
    };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    if rustix::fs::statfs(directory.path()).is_ok_and(|figures| figures.f_type == 0x0102_1994) {
        return eprintln!("skipped: what is built lies in memory");
    }
    std::fs::write(directory.path().join("file"), "x").expect("a file");
    let backend = DirBackend::new(directory.path(), DirOptions::default()).expect("a backend");
    let server = Server::new(std::sync::Arc::new(backend), ServerOptions::default());
    let session = server.session();
    let put_off = |message: &Tmessage<'_>, tag: u16| {
        let (mut request, mut reply) = ([0; 1024], [0; 1024]);
        let length = message.encode(tag, &mut request).expect("a short message");
        let answered = session.handle_now(&request[..length], &Payload::empty(), &Payload::from(&mut reply[..]));
        assert!(answered.is_none() || reply[4] != 7, "{message:?} fails");
        answered.is_none()
    };
    assert!(!put_off(&Tmessage::Tversion { msize: 8192, version: Str(VERSION_NINERING) }, NOTAG));
    let attach = Tmessage::Tattach { fid: ROOT, afid: NOFID, uname: Str(b"x"), aname: Str(b""), n_uname: u32::MAX };
    assert!(!put_off(&attach, 1));
    let visit = |name: &str, newfid: u32, inner: &Tmessage<'_>| {
        let mut bytes = [0; 512];
        let length = inner.encode(NOTAG, &mut bytes).expect("a short message");
        let names: Vec<_> = name.split('/').filter(|name| !name.is_empty()).map(Str::from).collect();
        let names = Names::new(&names).expect("few names");
        put_off(&Tmessage::Tvisit { fid: ROOT, newfid, names, message: Inner(&bytes[..length]) }, 1)
    };
    assert!(!visit("file", NOFID, &getattr(NOFID)));
    assert!(!visit("file", 1, &Tmessage::Tlopen { fid: 1, flags: lopen::RDWR }));
    assert!(visit("file", 2, &Tmessage::Tlopen { fid: 2, flags: lopen::RDWR | lopen::TRUNC }));
    assert!(visit("", NOFID, &Tmessage::Tmkdir { dfid: NOFID, name: Str(b"d"), mode: 0o755, gid: 0 }));
    assert!(visit("", NOFID, &Tmessage::Tunlinkat { dirfid: NOFID, name: Str(b"file"), flags: 0 }));
    assert!(directory.path().join("file").exists() && !directory.path().join("d").exists());
}

#[test]
fn attributes_are_those_of_a_walk_and_a_getattr() {
    on_both(|server| {
        let mut client = extended(server);
        for path in [&["a"][..], &["a", "file"], &["a", "link"], &["a", "..", "a"], &[]] {
            let fid = fresh();
            let qids = client.walk(ROOT, fid, path).unwrap();
            let mut attributes = client.getattr(fid).unwrap();
            client.clunk(fid).unwrap();
            let (visited, Some(Ok(mut seen))) = visit(&mut client, NOFID, path, &getattr(NOFID)).unwrap() else {
                panic!("{path:?}: not done");
            };
            // Looking at a directory is no access, but time goes on all the same.
            (attributes.atime_sec, attributes.atime_nsec) = (0, 0);
            (seen.atime_sec, seen.atime_nsec) = (0, 0);
            assert_eq!((&visited, seen), (&qids, attributes), "{path:?}");
        }
    });
}

#[test]
fn a_walk_that_stops_is_told_and_does_nothing() {
    on_both(|server| {
        let mut client = extended(server);
        let errno = |visited: Visited| visited.map(drop).unwrap_err();
        assert_eq!(errno(visit(&mut client, NOFID, &["missing"], &getattr(NOFID))), Errno::ENOENT);
        for path in [&["a", "missing"][..], &["a", "file", "below"], &["a", "link", "below"], &["a", "missing", "x"]] {
            let (qids, done) = visit(&mut client, NOFID, path, &getattr(NOFID)).unwrap();
            assert!(qids.len() < path.len() && done.is_none(), "{path:?}");
        }
        for name in ["", ".", "a/file", "nul\0"] {
            assert!(visit(&mut client, NOFID, &[name], &getattr(NOFID)).is_err(), "{name:?}");
        }
        let unlink = Tmessage::Tunlinkat { dirfid: NOFID, name: "file".into(), flags: 0 };
        assert!(matches!(visit(&mut client, NOFID, &["a", "missing"], &unlink), Ok((_, None))));
        assert!(client.exists("a/file"));
    });
}

#[test]
fn files_are_opened_made_and_removed() {
    on_both(|server| {
        let mut client = extended(server);
        let fid = fresh();
        let open = Tmessage::Tlopen { fid, flags: lopen::RDONLY };
        assert!(matches!(visit(&mut client, fid, &["a", "file"], &open), Ok((_, Some(Ok(_))))));
        assert_eq!(client.read(fid, 0, 100).unwrap(), b"contents");
        client.clunk(fid).unwrap();

        let create = Tmessage::Tlcreate {
            fid,
            name: "new".into(),
            flags: lopen::RDWR | lopen::EXCL,
            mode: 0o644,
            gid: common::gid(),
        };
        assert!(matches!(visit(&mut client, fid, &["a"], &create), Ok((_, Some(Ok(_))))));
        assert_eq!(client.write(fid, 0, b"new").unwrap(), 3);
        client.clunk(fid).unwrap();
        // What cannot be done leaves no fid.
        assert!(matches!(visit(&mut client, fid, &["a"], &create), Ok((_, Some(Err(Errno::EEXIST))))));
        assert_eq!(client.clunk(fid), Err(Errno::EBADF));
        let write = Tmessage::Tlopen { fid, flags: lopen::WRONLY };
        assert!(matches!(visit(&mut client, fid, &["a"], &write), Ok((_, Some(Err(Errno::EISDIR))))));
        assert_eq!(client.clunk(fid), Err(Errno::EBADF));

        let unlink = |name: &'static str, flags| Tmessage::Tunlinkat { dirfid: NOFID, name: name.into(), flags };
        assert!(matches!(visit(&mut client, NOFID, &["a"], &unlink("new", 0)), Ok((_, Some(Ok(_))))));
        assert!(!client.exists("a/new"));
        let remove = unlink("a", AT_REMOVEDIR);
        assert!(matches!(visit(&mut client, NOFID, &[], &remove), Ok((_, Some(Err(Errno::ENOTEMPTY))))));
    });
}

#[test]
fn who_has_not_agreed_on_it_cannot_use_it() {
    on_both(|server| {
        let mut client = server.client();
        client.begin();
        assert_eq!(visit(&mut client, NOFID, &["a"], &getattr(NOFID)).map(drop), Err(Errno::EOPNOTSUPP));
        assert_eq!(version(&mut client, b"9P2000.L.other"), VERSION_9P2000L);
        assert_eq!(version(&mut client, VERSION_9P2000L), VERSION_9P2000L);
    });
}

#[test]
fn what_cannot_be_within_is_refused() {
    on_both(|server| {
        let mut client = extended(server);
        let fid = fresh();
        let refused = [
            (NOFID, Tmessage::Tlopen { fid: NOFID, flags: 0 }),
            (NOFID, getattr(ROOT)),
            (fid, getattr(NOFID)),
            (fid, Tmessage::Tclunk { fid }),
            (fid, Tmessage::Tread { fid, offset: 0, count: 10 }),
            (fid, Tmessage::Twalk { fid, newfid: fid + 1, names: Names::default() }),
            (fid, Tmessage::Tvisit { fid, newfid: NOFID, names: Names::default(), message: Inner(&[]) }),
            (ROOT, Tmessage::Tlopen { fid: ROOT, flags: 0 }),
        ];
        for (newfid, message) in refused {
            assert_eq!(visit(&mut client, newfid, &["a"], &message).map(drop), Err(Errno::EINVAL), "{message:?}");
        }
        let mut bytes = [0; 64];
        let length = getattr(NOFID).encode(NOTAG, &mut bytes).unwrap();
        for cut in 0..length {
            assert!(visit_raw(&mut client, NOFID, &["a"], &bytes[..cut]).is_err(), "{cut} bytes");
        }
        assert!(visit_raw(&mut client, NOFID, &["a"], &bytes[..length + 1]).is_err());
        bytes[5] = 0;
        assert_eq!(visit_raw(&mut client, NOFID, &["a"], &bytes[..length]).map(drop), Err(Errno::EINVAL), "a tag");
        assert_eq!(client.clunk(fid), Err(Errno::EBADF));
    });
}

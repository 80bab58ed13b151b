//! The log of messages: what its lines say, and that nobody waits for it.

mod common;

use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use common::{Client, Direct, ROOT, encode, serving::PATIENCE};
use ninering::{
    backend::MemBackend,
    message_log::{MessageLog, Sink},
    server::{Observers, Server, ServerOptions},
};
use ninering_wire::{
    Errno, Inner, Lock, LockType, NOFID, NOTAG, Names, SetAttributes, Str, Tmessage,
    legacy::{self, Plan9, Unix, UnixOnly},
    lopen::{CREATE, RDWR},
    setattr,
};

fn logged(sink: Sink) -> (Arc<MessageLog>, Arc<Server>) {
    let log = Arc::new(MessageLog::begin(sink, "a test").unwrap());
    let observers = Observers(vec![log.clone()]);
    let options = ServerOptions { observers, ..ServerOptions::default() };
    (log, Server::new(Arc::new(MemBackend::default()), options))
}

fn client(server: &Arc<Server>) -> Client {
    Client::new(Direct { session: Arc::new(server.session().watched("a \x1btest")), space: None })
}

/// The lines of a log, with `_` for all that differs from one run to the next.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let hide = |word: &str| -> String {
        let bare = word.trim_matches(['<', '>', ',', ']', '[', ')']);
        let number = bare.rsplit_once('=').map_or(bare, |(_, value)| value);
        if number.contains('.') && number.parse::<f64>().is_ok() { word.replace(number, "_") } else { word.to_owned() }
    };
    text.lines().map(|line| line.split(' ').map(hide).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn each_message_is_a_line_with_its_reply() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (log, server) = logged(Sink::file(&path, 1 << 20).unwrap());
    let mut client = client(&server);
    client.begin();
    client.mkdir_in(ROOT, b"d\n", 0o750).unwrap();
    client.walk(ROOT, 1, &["d\n"]).unwrap();
    client.lcreate(1, b"f", RDWR | CREATE, 0o640).unwrap();
    client.write(1, 10, b"secret").unwrap();
    assert_eq!(client.read(1, 10, 100).unwrap(), b"secret");
    client.setattr(1, SetAttributes { valid: setattr::SIZE, size: 3, ..SetAttributes::default() }).unwrap();
    assert_eq!(client.walk(ROOT, 2, &["d\n", "none"]).unwrap().len(), 1);
    assert_eq!(client.walk(ROOT, 2, &["none"]), Err(Errno::ENOENT));
    client.clunk(1).unwrap();
    drop(client);
    assert!(log.flush(PATIENCE));

    let said = lines(&path);
    // As the backend gives them out.
    let qid = |line: usize| said[line].rsplit_once(" = ").unwrap().1.trim_end_matches(" <_>").to_owned();
    let (root, made, file, changed) = (qid(3), qid(4), qid(6), qid(10));
    assert!(root.starts_with("dir ") && made.starts_with("dir ") && file.starts_with("file "));
    assert!(changed.starts_with("[dir ") && changed.ends_with(']') && !changed.contains(", "), "{changed}");
    let n_uname = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    assert_eq!(
        said,
        [
            "# a test".to_owned(),
            r"_ s1 opened by a \u{1b}test".to_owned(),
            r#"_ s1 notag Tversion(msize=1048576, version="9P2000.L") = 1048576, "9P2000.L" <_>"#.to_owned(),
            format!(r#"_ s1 tag 1 Tattach(fid=0, afid=none, uname="", aname="", n_uname={n_uname}) = {root} <_>"#),
            format!(r#"_ s1 tag 2 Tmkdir(dfid=0, name="d\n", mode=0750, gid={gid}) = {made} <_>"#),
            format!(r#"_ s1 tag 3 Twalk(fid=0, newfid=1, names=["d\n"]) = [{made}] <_>"#),
            format!(r#"_ s1 tag 4 Tlcreate(fid=1, name="f", flags=O_RDWR|O_CREAT, mode=0640, gid={gid}) = {file} <_>"#),
            "_ s1 tag 5 Twrite(fid=1, offset=10, count=6) = 6 <_>".to_owned(),
            "_ s1 tag 6 Tread(fid=1, offset=10, count=100) = 6 bytes <_>".to_owned(),
            "_ s1 tag 7 Tsetattr(fid=1, size=3) = ok <_>".to_owned(),
            format!(r#"_ s1 tag 8 Twalk(fid=0, newfid=2, names=["d\n", "none"]) = {changed} <_>"#),
            r#"_ s1 tag 9 Twalk(fid=0, newfid=2, names=["none"]) = ENOENT <_>"#.to_owned(),
            "_ s1 tag 10 Tclunk(fid=1) = ok <_>".to_owned(),
            "_ s1 closed".to_owned(),
        ]
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// One of each request of all dialects, with what there is to escape.
fn requests() -> Vec<Vec<u8>> {
    let bad = Str(b"\x1b[2J\n\xff\x9b");
    let long = Str(&[0x1b; 255]);
    let lock = Lock { kind: LockType::Write, start: 1, length: 0, proc_id: 7, client_id: bad };
    let attributes = SetAttributes { valid: !0, ..SetAttributes::default() };
    let (fid, name) = (9, bad);
    let longs = [long; 16];
    let messages = [
        Tmessage::Tversion { msize: 1, version: bad },
        Tmessage::Tauth { afid: 1, uname: bad, aname: bad, n_uname: !0 },
        Tmessage::Tattach { fid, afid: NOFID, uname: bad, aname: bad, n_uname: !0 },
        Tmessage::Tstatfs { fid },
        Tmessage::Tlopen { fid, flags: !0 },
        Tmessage::Tlcreate { fid, name, flags: !0, mode: !0, gid: 0 },
        Tmessage::Tsymlink { fid, name, target: long, gid: 0 },
        Tmessage::Tmknod { fid, name, mode: !0, major: 0, minor: 0, gid: 0 },
        Tmessage::Trename { fid, dfid: fid, name },
        Tmessage::Treadlink { fid },
        Tmessage::Tgetattr { fid, request_mask: !0 },
        Tmessage::Tsetattr { fid, attributes: (&attributes).into() },
        Tmessage::Txattrwalk { fid, newfid: 1, name },
        Tmessage::Txattrcreate { fid, name, size: 1, flags: !0 },
        Tmessage::Treaddir { fid, offset: 0, count: 1000 },
        Tmessage::Tfsync { fid, datasync: 0 },
        Tmessage::Tlock { fid, kind: LockType::Read, flags: !0, start: 0, length: !0, proc_id: 0, client_id: bad },
        Tmessage::Tgetlock { fid, lock },
        Tmessage::Tlink { dfid: fid, fid, name },
        Tmessage::Tmkdir { dfid: fid, name, mode: 0o755, gid: 0 },
        Tmessage::Trenameat { olddirfid: fid, oldname: name, newdirfid: fid, newname: long },
        Tmessage::Tunlinkat { dirfid: fid, name, flags: !0 },
        Tmessage::Tflush { oldtag: 1 },
        Tmessage::Twalk { fid, newfid: fid, names: Names::new(&longs).unwrap() },
        Tmessage::Tread { fid, offset: 0, count: 100 },
        Tmessage::Twrite { fid, offset: 0, count: 0 },
        Tmessage::Tclunk { fid },
        Tmessage::Tremove { fid },
    ];
    let mut requests: Vec<_> = messages.iter().map(|message| encode(1, message, &[])).collect();
    let names = Names::from(&bad);
    let mut visit = encode(NOTAG, &Tmessage::Tunlinkat { dirfid: NOFID, name, flags: 0 }, &[]);
    for _ in 0..3 {
        let tag = if visit.len() < 100 { NOTAG } else { 1 };
        visit = encode(tag, &Tmessage::Tvisit { fid, newfid: NOFID, names, message: Inner(&visit) }, &[]);
        requests.push(visit.clone());
    }
    let mut buffer = [0; 4096];
    let stat = legacy::Stat::<Unix> { name, uid: bad, extension: UnixOnly::new(long), ..legacy::Stat::unchanged() };
    let older: [legacy::Tmessage<'_, Unix>; 4] = [
        legacy::Tmessage::Topen { fid, mode: !0 },
        legacy::Tmessage::Tcreate { fid, name, perm: !0, mode: 1, extension: UnixOnly::new(bad) },
        legacy::Tmessage::Tstat { fid },
        legacy::Tmessage::Twstat { fid, stat: legacy::Counted(stat) },
    ];
    for message in older {
        let length = message.encode(1, &mut buffer).unwrap();
        requests.push(buffer[..length].to_vec());
    }
    let attach: legacy::Tmessage<'_, Plan9> =
        legacy::Tmessage::Tattach { fid, afid: 0, uname: bad, aname: bad, n_uname: UnixOnly::new(0) };
    let length = attach.encode(1, &mut buffer).unwrap();
    requests.push(buffer[..length].to_vec());
    requests
}

#[test]
fn whatever_is_sent_is_one_line_without_control_characters() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (log, server) = logged(Sink::file(&path, u64::MAX).unwrap());
    let mut client = client(&server);
    client.begin();
    let mut sent = 0;
    for request in requests() {
        // Whole, cut, and with another type.
        for length in 1..=request.len().min(60) {
            client.transport.exchange(request[..length].to_vec());
        }
        client.transport.exchange(request.clone());
        for kind in 0..=255 {
            let mut other = request.clone();
            other[4] = kind;
            client.transport.exchange(other);
        }
        sent += request.len().min(60) + 1 + 256;
        assert!(log.flush(PATIENCE));
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(|character: char| character.is_control() && character != '\n'));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.iter().all(|line| line.len() < 8192), "no line is endless");
    assert!(lines.iter().all(|line| line.starts_with('#') || line.contains(" s1 ")), "a name begins no line");
    for name in ["Twalk(", "Tlock(", "Twstat(", "Topen(fid=9, mode=OEXEC|OTRUNC|OCEXEC|ORCLOSE|OAPPEND|0xc)", "type 5("]
    {
        assert!(text.contains(name), "{name}");
    }
    assert_eq!(lines.len(), sent + 4);
}

#[test]
fn a_file_that_is_full_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (log, server) = logged(Sink::file(&path, 4096).unwrap());
    let mut client = client(&server);
    client.begin();
    for _ in 0..300 {
        client.getattr(ROOT).unwrap();
        assert!(log.flush(PATIENCE));
    }
    for path in [path, directory.path().join("log.1")] {
        let size = fs::metadata(&path).unwrap().size();
        assert!((1..=4096).contains(&size), "{} has {size} bytes", path.display());
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn nobody_waits_for_a_log_that_nobody_reads_and_what_is_missing_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(Sink::file(&path, 0).is_err(), "nobody reads");
    let mut reader = {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
        fs::File::from(rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap())
    };
    let (log, server) = logged(Sink::file(&path, 0).unwrap());
    let mut client = client(&server);
    client.begin();
    const REQUESTS: usize = 40_000;
    for _ in 0..REQUESTS {
        client.getattr(ROOT).unwrap();
    }
    assert!(!log.flush(Duration::from_millis(10)), "it cannot be written");
    drop(client);

    rustix::io::ioctl_fionbio(&reader, false).unwrap();
    let mut text = String::new();
    let mut piece = vec![0; 1 << 20];
    while !text.contains("# ") || !text.ends_with("too slowly\n") {
        let count = reader.read(&mut piece).unwrap();
        assert_ne!(count, 0);
        text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
    let missing: usize = text
        .lines()
        .filter(|line| line.contains("lines are missing"))
        .map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap())
        .sum();
    let present = text.lines().filter(|line| line.contains(" s1 ")).count();
    // The session's beginning and end, its version and its attach are lines too.
    assert_eq!(missing + present, REQUESTS + 4);
    assert!(present > 1000 && missing > 1000, "{present} and {missing}");
}

#[test]
fn a_log_that_cannot_be_written_costs_nobody_anything() {
    let (log, server) = logged(Sink::file(Path::new("/dev/full"), 0).unwrap());
    let mut client = client(&server);
    client.begin();
    for _ in 0..100 {
        client.getattr(ROOT).unwrap();
    }
    assert!(log.flush(PATIENCE));
}

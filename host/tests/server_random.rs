//! Whatever bytes come, a session answers, and with no more bytes than there is space for.

mod common;

use std::sync::Arc;

use common::{Client, ROOT, encode};
use ninering::{
    backend::{MemBackend, MemLimits},
    payload::Payload,
    server::{Server, ServerOptions, Session},
};
use ninering_wire::{Far, Frame, LockType, NOFID, Names, Rmessage, SetAttributes, Str, TWRITE_LEN, Tmessage};
use proptest::{collection::vec, prelude::*, sample::select};

/// A session in which little happened yet: a few fids, open and not, of files of each kind.
fn session() -> Arc<Session> {
    let backend = MemBackend::new(MemLimits { bytes: 4 << 20, inodes: 100 });
    let server = Server::new(Arc::new(backend), ServerOptions { max_fids: 20, ..ServerOptions::default() });
    let session = Arc::new(server.session());
    let mut client = Client::of_session(Arc::clone(&session));
    client.mkdir("", "a").unwrap();
    client.make("a", "b", b"contents");
    client.symlink(ROOT, b"c", b"a/b").unwrap();
    for (fid, path) in [(1, "a"), (2, "a/b"), (3, "a"), (4, "a/b"), (5, "c")] {
        client.walk(ROOT, fid, &path.split('/').collect::<Vec<_>>()).unwrap();
    }
    client.lopen(3, 0).unwrap();
    client.lopen(4, 2).unwrap();
    session
}

/// Hands a request over and checks that there is a reply to it.
fn handle(session: &Session, message: &[u8], payload: &mut [u8], space: usize) {
    let mut reply = vec![0xa5; space + 32];
    let (bytes, behind) = reply.split_at_mut(space);
    let length = session.handle(message, &Payload::from(payload), &Payload::from(bytes));
    assert!(behind.iter().all(|&byte| byte == 0xa5), "nothing is written behind the space");
    assert!(length <= space);
    assert!(length > 0 || space < 11);
    if length > 0 {
        let frame = Frame::<Rmessage<'_>>::decode(&reply[..length]).expect("a whole reply");
        if let Some(tag) = message.get(5..7) {
            assert_eq!(frame.tag.to_le_bytes(), tag);
        }
    }
}

fn fid() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..8_u32, 1 => select(vec![NOFID, 65_535, 65_536, 4_000_000_000])]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> =
        vec![b"a", b"b", b"c", b"d", b"", b".", b"..", b"/", b"a/b", b"\0", &[b'n'; 255], &[b'n'; 256]];
    prop_oneof![10 => select(known).prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 0..20)]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0..100_u64,
        1 => select(vec![65_535, 65_536, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX]),
        1 => any::<u64>(),
    ]
}

/// What a request is made of; which fields matter, its type decides.
type Parts = (u8, [u32; 2], [Vec<u8>; 2], [u64; 3], Vec<Vec<u8>>);

fn parts() -> impl Strategy<Value = Parts> {
    (any::<u8>(), [fid(), fid()], [name(), name()], [number(), number(), number()], vec(name(), 0..=16))
}

/// A request that is well-formed, whatever it asks for. What it refers to stays in memory: a test is short.
fn request<'a>((kind, [fid, other], [name, second], [one, two, three], names): &'a Parts) -> Tmessage<'a> {
    let (fid, other, name, second) = (*fid, *other, Str(name), Str(second));
    let (flags, mode, count) = (*one as u32, *two as u32, *three as u32);
    match kind % 28 {
        0 => Tmessage::Tstatfs { fid },
        1 => Tmessage::Tlopen { fid, flags },
        2 => Tmessage::Tlcreate { fid, name, flags, mode, gid: 0 },
        3 => Tmessage::Tsymlink { fid, name, target: second, gid: 0 },
        4 => Tmessage::Tmknod { fid, name, mode, major: flags, minor: count, gid: 0 },
        5 => Tmessage::Trename { fid, dfid: other, name },
        6 => Tmessage::Treadlink { fid },
        7 => Tmessage::Tgetattr { fid, request_mask: *one },
        8 => {
            let attributes =
                SetAttributes { valid: flags, mode, size: *three, mtime_nsec: *one, ..SetAttributes::default() };
            Tmessage::Tsetattr { fid, attributes: Far::from(&*Box::leak(Box::new(attributes))) }
        }
        9 => Tmessage::Txattrwalk { fid, newfid: other, name },
        10 => Tmessage::Txattrcreate { fid, name, size: *one % 100_000, flags: count % 5 },
        11 => Tmessage::Treaddir { fid, offset: *one, count },
        12 => Tmessage::Tfsync { fid, datasync: flags },
        13 => Tmessage::Tlock {
            fid,
            kind: LockType::Write,
            flags,
            start: *one,
            length: *two,
            proc_id: 1,
            client_id: name,
        },
        14 => Tmessage::Tlink { dfid: fid, fid: other, name },
        15 => Tmessage::Tmkdir { dfid: fid, name, mode, gid: 0 },
        16 => Tmessage::Trenameat { olddirfid: fid, oldname: name, newdirfid: other, newname: second },
        17 => Tmessage::Tunlinkat { dirfid: fid, name, flags: if mode % 2 == 0 { 0 } else { 0x200 } },
        18 => Tmessage::Tauth { afid: fid, uname: name, aname: second, n_uname: 0 },
        19 => Tmessage::Tattach { fid, afid: NOFID, uname: name, aname: Str(b""), n_uname: flags },
        20 => Tmessage::Tflush { oldtag: flags as u16 },
        21..=23 => {
            let names: Vec<_> = names.iter().map(|name| Str(name)).collect();
            Tmessage::Twalk { fid, newfid: other, names: Names::new(names.leak()).expect("at most 16") }
        }
        24 => Tmessage::Tread { fid, offset: *one, count },
        25 => Tmessage::Twrite { fid, offset: *one, count: count % 5000 },
        26 => Tmessage::Tclunk { fid },
        _ => Tmessage::Tremove { fid },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_answered(
        messages in vec((vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..30), 0..300_usize), 1..10),
    ) {
        let session = session();
        for (message, mut payload, space) in messages {
            handle(&session, &message, &mut payload, space);
        }
    }

    #[test]
    fn random_bodies_are_answered(
        messages in vec((vec(any::<u8>(), 7..300), select((0..=130_u8).collect::<Vec<_>>()), 0..300_usize), 1..30),
    ) {
        let session = session();
        for (mut message, kind, space) in messages {
            let size = message.len() as u32;
            message[..4].copy_from_slice(&size.to_le_bytes());
            message[4] = kind;
            handle(&session, &message, &mut [], space);
        }
    }

    #[test]
    fn random_requests_are_answered(requests in vec((parts(), 0..6000_usize, any::<bool>()), 1..60)) {
        let session = session();
        for (parts, space, enough) in requests {
            let message = request(&parts);
            let payload = if let Tmessage::Twrite { count, .. } = message { count as usize } else { 0 };
            let mut bytes = encode(1, &message, &vec![7; payload]);
            let length = if payload > 0 { TWRITE_LEN } else { bytes.len() };
            let (head, payload) = bytes.split_at_mut(length);
            let space = if enough { session.reply_capacity(head) } else { space };
            handle(&session, head, payload, space);
        }
        prop_assert!(session.fid_count() <= 20);
    }
}

//! The backend in memory against models: names against the machine's own filesystem, bytes against a vector.

mod common;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Client, ROOT, encode};
use ninering::{
    backend::{MemBackend, MemLimits},
    payload::Payload,
    server::{Server, ServerOptions},
};
use ninering_wire::{
    AT_REMOVEDIR, Errno, SetAttributes, TWRITE_LEN, Tmessage,
    lopen::{EXCL, RDWR},
    mode, setattr,
};
use proptest::{collection::vec, prelude::*, sample::select};

fn server(bytes: u64, inodes: u64) -> Arc<Server> {
    Server::new(Arc::new(MemBackend::new(MemLimits { bytes, inodes })), ServerOptions::default())
}

const DIRECTORIES: [&str; 8] = ["", "a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/b/c"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Step {
    MakeDirectory,
    MakeFile,
    MakeExclusively,
    MakeSymlink,
    MakeFifo,
    Link,
    Rename,
    Unlink,
    RemoveDirectory,
}

type Call = (Step, &'static str, &'static str, &'static str, &'static str);

fn calls() -> impl Strategy<Value = Vec<Call>> {
    use Step::{
        Link, MakeDirectory, MakeExclusively, MakeFifo, MakeFile, MakeSymlink, RemoveDirectory, Rename, Unlink,
    };
    let step = prop_oneof![
        5 => Just(MakeDirectory),
        2 => Just(MakeFile),
        1 => Just(MakeExclusively),
        1 => Just(MakeSymlink),
        1 => Just(MakeFifo),
        2 => Just(Link),
        6 => Just(Rename),
        1 => Just(Unlink),
        1 => Just(RemoveDirectory),
    ];
    let (directory, name) = (|| select(&DIRECTORIES[..]), || select(&NAMES[..]));
    vec((step, directory(), name(), directory(), name()), 1..60)
}

/// What the machine's filesystem says to it.
fn on_disk(root: &Path, (step, directory, name, new_directory, new_name): &Call) -> Result<(), Errno> {
    use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
    // Links on the way are not followed by the server. And of a walk that ends early, the client knows no more than that.
    let resolve = |path: &str| -> Result<PathBuf, Errno> {
        let mut at = root.to_owned();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !fs::symlink_metadata(&at).map_err(errno)?.is_dir() {
                return Err(Errno::ENOENT);
            }
            at.push(name);
            fs::symlink_metadata(&at).map_err(errno)?;
        }
        Ok(at)
    };
    fn errno(error: io::Error) -> Errno {
        Errno(error.raw_os_error().expect("an error of the system") as u32)
    }
    let from_rustix = |error: rustix::io::Errno| Errno(error.raw_os_error() as u32);
    if let Step::Link | Step::Rename = step {
        let source = if let Step::Link = step {
            // The server's client walks to the file first.
            resolve(&format!("{directory}/{name}"))?
        } else {
            resolve(directory)?.join(name)
        };
        let target = resolve(new_directory)?;
        if !fs::symlink_metadata(&target).map_err(errno)?.is_dir() {
            return Err(match step {
                Step::Link if fs::symlink_metadata(&source).is_ok_and(|file| file.is_dir()) => Errno::EPERM,
                _ => Errno::ENOTDIR,
            });
        }
        if let Step::Rename = step
            && !fs::symlink_metadata(source.parent().expect("a directory")).map_err(errno)?.is_dir()
        {
            return Err(Errno::ENOTDIR);
        }
        let target = target.join(new_name);
        return if let Step::Link = step {
            // Linux looks at the target before it looks at the file.
            match rustix::fs::linkat(CWD, &source, CWD, &target, AtFlags::empty()) {
                Err(rustix::io::Errno::EXIST) if fs::symlink_metadata(&source).is_ok_and(|file| file.is_dir()) => {
                    Err(Errno::EPERM)
                }
                linked => linked.map_err(from_rustix),
            }
        } else {
            fs::rename(&source, &target).map_err(errno)
        };
    }
    let directory = resolve(directory)?;
    if !fs::symlink_metadata(&directory).map_err(errno)?.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let path = directory.join(name);
    match step {
        Step::MakeDirectory => fs::DirBuilder::new().mode(0o755).create(&path).map_err(errno),
        Step::MakeFile | Step::MakeExclusively => {
            let exclusive = if let Step::MakeExclusively = step { OFlags::EXCL } else { OFlags::empty() };
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | exclusive;
            // A fifo would open; the server never opens one.
            if exclusive.is_empty() && fs::symlink_metadata(&path).is_ok_and(|file| file.file_type().is_fifo()) {
                return Err(Errno::ENXIO);
            }
            rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).map(drop).map_err(from_rustix)
        }
        Step::MakeSymlink => symlink("target", &path).map_err(errno),
        Step::MakeFifo => {
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).map_err(from_rustix)
        }
        Step::Unlink => fs::remove_file(&path).map_err(errno),
        Step::RemoveDirectory => fs::remove_dir(&path).map_err(errno),
        Step::Link | Step::Rename => unreachable!("they are done above"),
    }
}

/// What the server says to it.
fn served(client: &mut Client, (step, directory, name, new_directory, new_name): &Call) -> Result<(), Errno> {
    let fid = match step {
        Step::Link | Step::Rename => None,
        _ => Some(client.at(directory)?),
    };
    match (step, fid) {
        (Step::Link, _) => client.link(&format!("{directory}/{name}"), new_directory, new_name),
        (Step::Rename, _) => client.rename(directory, name, new_directory, new_name),
        (Step::MakeDirectory, Some(fid)) => client.mkdir_in(fid, name.as_bytes(), 0o755).map(drop),
        (Step::MakeFile, Some(fid)) => client.lcreate(fid, name.as_bytes(), RDWR, 0o644).map(drop),
        (Step::MakeExclusively, Some(fid)) => client.lcreate(fid, name.as_bytes(), RDWR | EXCL, 0o644).map(drop),
        (Step::MakeSymlink, Some(fid)) => client.symlink(fid, name.as_bytes(), b"target").map(drop),
        (Step::MakeFifo, Some(fid)) => client.mknod(fid, name.as_bytes(), mode::IFIFO | 0o644, (0, 0)).map(drop),
        (Step::Unlink, _) => client.unlink(directory, name, 0),
        (Step::RemoveDirectory, _) => client.unlink(directory, name, AT_REMOVEDIR),
        (_, None) => unreachable!("all but two have a directory"),
    }
}

/// Compares the trees; which inode is which does not matter, but which names share one does.
fn compare(client: &mut Client, root: &Path) {
    let mut same = std::collections::HashMap::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        let mut expected: Vec<_> = fs::read_dir(root.join(&directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        expected.sort();
        assert_eq!(client.names(&directory), expected, "in {directory:?}");
        for name in expected {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let expected = fs::symlink_metadata(root.join(&path)).unwrap();
            let found = client.stat(&path).unwrap();
            assert_eq!(found.mode & mode::IFMT, expected.mode() & mode::IFMT, "{path}");
            assert_eq!(*same.entry(expected.ino()).or_insert(found.qid.path), found.qid.path, "{path}");
            if expected.is_dir() {
                directories.push(path);
            } else {
                assert_eq!(found.nlink, expected.nlink(), "{path}");
            }
        }
    }
    let mut identities: Vec<_> = same.values().collect();
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), same.len(), "different files are different");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_are_as_on_disk(calls in calls()) {
        let root = tempfile::tempdir().unwrap();
        let mut client = Client::attached(server(1 << 30, 1 << 20));
        for call in &calls {
            let (expected, found) = (on_disk(root.path(), call), served(&mut client, call));
            prop_assert_eq!(found, expected, "{:?}", call);
        }
        compare(&mut client, root.path());
    }

    #[test]
    fn bytes_are_as_in_a_vector(
        steps in vec((0..3_u8, 0..300_000_u64, 0..200_000_usize, vec(1..50_000_usize, 0..6)), 1..25),
    ) {
        let server = server(1 << 30, 10);
        let session = Arc::new(server.session());
        let mut client = Client::of_session(Arc::clone(&session));
        let before = client.statfs(ROOT).unwrap();
        let fid = client.create("", "f", RDWR, 0o644).unwrap();
        let mut model: Vec<u8> = Vec::new();
        for (number, (step, offset, count, pieces)) in steps.into_iter().enumerate() {
            let mut bytes = vec![number as u8 + 1; count];
            if step == 2 {
                model.resize(offset as usize, 0);
                client.setattr(fid, SetAttributes { valid: setattr::SIZE, size: offset, ..Default::default() }).unwrap();
                continue;
            }
            // The payload lies in pieces, and a reply's after its header.
            let reading = step == 1;
            if reading {
                bytes.resize(count + 11, 0);
            }
            let (mut payload, mut rest) = (Payload::empty(), &mut bytes[..]);
            for piece in pieces {
                let (piece, behind) = rest.split_at_mut(piece.min(rest.len()));
                payload.push(piece.into());
                rest = behind;
            }
            payload.push(rest.into());
            if reading {
                let message = encode(1, &Tmessage::Tread { fid, offset, count: count as u32 }, &[]);
                let length = session.handle(&message, &Payload::empty(), &payload);
                drop(payload);
                let expected = model.get(offset as usize..).unwrap_or_default();
                prop_assert_eq!(&bytes[11..length], &expected[..count.min(expected.len())]);
            } else {
                let (mut message, mut reply) = (vec![0; TWRITE_LEN], [0; 11]);
                Tmessage::Twrite { fid, offset, count: count as u32 }.encode(1, &mut message).unwrap();
                session.handle(&message, &payload, &Payload::from(&mut reply[..]));
                drop(payload);
                prop_assert_eq!(&reply[7..], (count as u32).to_le_bytes());
                if count > 0 {
                    model.resize(model.len().max(offset as usize + count), 0);
                    model[offset as usize..][..count].copy_from_slice(&bytes);
                }
            }
        }
        prop_assert_eq!(client.contents("f").unwrap(), model);
        client.unlink("", "f", 0).unwrap();
        client.clunk(fid).unwrap();
        let fid = client.at("").unwrap();
        prop_assert_eq!(client.statfs(fid).unwrap(), before);
    }
}

#[test]
fn space_ends_and_comes_back() {
    let mut client = Client::attached(server(1 << 20, 1000));
    let free = client.statfs(ROOT).unwrap();
    let fid = client.create("", "f", RDWR, 0o644).unwrap();
    let mut size = 0;
    let error = loop {
        match client.write(fid, size, &[1; 100_000]) {
            // The last one may be cut short, at what there was space for.
            Ok(count) => size += u64::from(count),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::ENOSPC);
    assert!(size > 900_000 && size <= 1 << 20);
    assert_eq!(client.getattr(fid).unwrap().size, size);
    assert_eq!(client.read(fid, size - 10, 100).unwrap(), [1; 10]);
    // What is allocated can be written to, and a hole takes nothing.
    assert_eq!(client.write(fid, 0, &[2; 1000]).unwrap(), 1000);
    let resize = |size| SetAttributes { valid: setattr::SIZE, size, ..SetAttributes::default() };
    client.setattr(fid, resize(1 << 40)).unwrap();
    assert_eq!(client.write(fid, (1 << 39) + 65_535, b"x").unwrap_err(), Errno::ENOSPC);
    client.setattr(fid, resize(500_000)).unwrap();
    assert_eq!(client.write(fid, 500_000, &[3; 100_000]).unwrap(), 100_000);
    // Unlinked files keep their space as long as they are open.
    client.unlink("", "f", 0).unwrap();
    assert!(client.statfs(ROOT).unwrap().bfree < free.bfree - 100);
    client.clunk(fid).unwrap();
    assert_eq!(client.statfs(ROOT).unwrap(), free);
}

#[test]
fn names_and_targets_take_space() {
    let mut client = Client::attached(server(100_000, 1000));
    let free = client.statfs(ROOT).unwrap();
    let mut made = Vec::new();
    for number in 0..1000 {
        let name = format!("{number}{}", "n".repeat(200));
        match client.symlink(ROOT, name.as_bytes(), &[b'x'; 1000]) {
            Ok(_) => made.push(name),
            Err(error) => {
                assert_eq!(error, Errno::ENOSPC);
                break;
            }
        }
    }
    assert!((50..100).contains(&made.len()));
    for name in made {
        client.unlink("", &name, 0).unwrap();
    }
    assert_eq!(client.statfs(ROOT).unwrap(), free);
}

#[test]
fn inodes_are_limited() {
    let mut client = Client::attached(server(1 << 20, 10));
    for number in 1..10 {
        client.make("", &number.to_string(), b"");
    }
    let fid = client.at("").unwrap();
    assert_eq!(client.lcreate(fid, b"new", RDWR, 0o644).unwrap_err(), Errno::ENOSPC);
    assert_eq!(client.mkdir("", "new").unwrap_err(), Errno::ENOSPC);
    assert_eq!(client.symlink(ROOT, b"new", b"x").unwrap_err(), Errno::ENOSPC);
    client.link("1", "", "another").unwrap();
    client.unlink("", "2", 0).unwrap();
    client.mkdir("", "new").unwrap();
    assert_eq!(client.statfs(ROOT).unwrap().ffree, 0);
}

#[test]
fn links_are_limited() {
    let mut client = Client::attached(server(1 << 30, 10));
    client.make("", "f", b"");
    let fid = client.at("f").unwrap();
    let link = |client: &mut Client, number: u32| {
        let name = number.to_string();
        client.done(&Tmessage::Tlink { dfid: ROOT, fid, name: name.as_str().into() })
    };
    for number in 1..65_000 {
        link(&mut client, number).unwrap();
    }
    assert_eq!(link(&mut client, 65_000).unwrap_err(), Errno::EMLINK);
    client.unlink("", "1", 0).unwrap();
    link(&mut client, 65_000).unwrap();
}

#[test]
fn files_without_names_get_none() {
    let mut client = Client::attached(server(1 << 20, 10));
    let fid = client.create("", "f", RDWR, 0o644).unwrap();
    client.unlink("", "f", 0).unwrap();
    let link = Tmessage::Tlink { dfid: ROOT, fid, name: "g".into() };
    assert_eq!(client.done(&link).unwrap_err(), Errno::ENOENT);
}

#[test]
fn filesystems_do_not_mix() {
    // Both are attached in one session only by a backend of backends; nodes alone show it.
    use ninering::backend::{Backend, User};
    use ninering_wire::Name;
    let user = User::default();
    let (one, other) = (MemBackend::default(), MemBackend::default());
    let (one, other) = (one.attach(&user, b"").unwrap(), other.attach(&user, b"/").unwrap());
    let name = Name::new(b"a").unwrap();
    let (file, _) = one.create(name, RDWR, 0o644, 0).unwrap();
    assert_eq!(other.link(name, &*file).unwrap_err(), Errno::EXDEV);
    assert_eq!(one.rename(name, &*other, name).unwrap_err(), Errno::EXDEV);
}

#[test]
fn deep_trees_go_without_a_deep_stack() {
    let backend = MemBackend::default();
    let server = Server::new(Arc::new(backend), ServerOptions::default());
    let mut client = Client::attached(server);
    let mut at = ROOT;
    for depth in 0..200_000_u32 {
        let next = 1 + depth % 2;
        client.mkdir_in(at, b"d", 0o755).unwrap();
        client.walk(at, next, &["d"]).unwrap();
        if at != ROOT {
            client.clunk(at).unwrap();
        }
        at = next;
    }
    std::thread::Builder::new().stack_size(128 << 10).spawn(move || drop(client)).unwrap().join().unwrap();
}

#[test]
fn writing_takes_set_ids_away() {
    use ninering::backend::{Backend, User};
    use ninering_wire::Name;
    let backend = MemBackend::default();
    for (uid, left) in [(0, 0o6755), (1000, 0o755)] {
        let root = backend.attach(&User { uid: Some(uid), ..User::default() }, b"").unwrap();
        let name = uid.to_string();
        let (node, file) = root.create(Name::new(name.as_bytes()).unwrap(), RDWR, 0o6755, 5).unwrap();
        file.write(0, &Payload::from(&mut [1, 2, 3][..])).unwrap();
        let attributes = node.attributes(!0).unwrap();
        assert_eq!((attributes.mode & 0o7777, attributes.uid, attributes.gid), (left, uid, 5));
    }
}

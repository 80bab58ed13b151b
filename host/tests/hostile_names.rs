//! Names that lead elsewhere, or nowhere, through a socket: nothing outside the export is reached by them, nor told of.

mod common;
mod hostile_support;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use common::{Client, ROOT};
use hostile_support::Attacked;
use ninering_wire::{
    AT_REMOVEDIR, Errno, SetAttributes, Str, Tmessage,
    lopen::{RDONLY, RDWR, TRUNC, WRONLY},
    mode, setattr,
};

/// Names that no entry of a directory has.
const NO_NAMES: [&[u8]; 14] = [
    b"",
    b"/",
    b"//",
    b".",
    b"..",
    b"../beside",
    b"a/../../beside",
    b"a/",
    b"/etc/passwd",
    b"./a",
    b"\0",
    b"a\0",
    b"..\0",
    b"a\0/../beside",
];

/// All requests that take a name, with this one.
fn with_name(fid: u32, name: &[u8]) -> Vec<Tmessage<'_>> {
    let (name, good, gid) = (Str(name), Str(b"a"), common::gid());
    vec![
        Tmessage::Tlcreate { fid, name, flags: RDWR | TRUNC, mode: 0o644, gid },
        Tmessage::Tsymlink { fid, name, target: good, gid },
        Tmessage::Tmknod { fid, name, mode: mode::IFIFO | 0o644, major: 0, minor: 0, gid },
        Tmessage::Tmkdir { dfid: fid, name, mode: 0o755, gid },
        Tmessage::Trenameat { olddirfid: fid, oldname: name, newdirfid: fid, newname: Str(b"new") },
        Tmessage::Trenameat { olddirfid: fid, oldname: good, newdirfid: fid, newname: name },
        Tmessage::Tunlinkat { dirfid: fid, name, flags: 0 },
        Tmessage::Tunlinkat { dirfid: fid, name, flags: AT_REMOVEDIR },
    ]
}

/// CVE-2016-7116, and rust-p9's (crosvm's) escape of 2026.
#[test]
fn names_that_are_paths_or_none_are_refused_by_every_request() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        client.make("", "a", b"contents");
        client.mkdir("", "d").unwrap();
        let file = client.at("a").unwrap();
        let directory = client.at("d").unwrap();
        for name in NO_NAMES {
            for fid in [ROOT, directory] {
                for message in with_name(fid, name) {
                    let refused = client.done(&message);
                    let expected = [Errno::EINVAL, Errno::ENOENT, Errno::EEXIST, Errno::ENOTEMPTY, Errno::EBUSY];
                    let error = refused.expect_err(&format!("{message:?}"));
                    assert!(expected.contains(&error), "{error} to {message:?}");
                }
                for (fid, dfid) in [(file, fid), (fid, fid)] {
                    client.done(&Tmessage::Tlink { dfid, fid, name: Str(name) }).unwrap_err();
                    client.done(&Tmessage::Trename { fid, dfid, name: Str(name) }).unwrap_err();
                }
            }
            if name != b".." {
                assert_eq!(client.walk_bytes(ROOT, 99, &[name]).map(|_| ()), Err(refusal_of(name)));
            }
        }
        assert_eq!(client.names(""), ["a", "d"]);
        assert!(client.names("d").is_empty());
    });
}

/// What a walk answers to such a name.
fn refusal_of(name: &[u8]) -> Errno {
    if name.is_empty() { Errno::ENOENT } else { Errno::EINVAL }
}

#[test]
fn names_may_have_255_bytes_and_any_but_two() {
    Attacked::each(|attacked| {
        let mut client = attacked.client();
        let (longest, longer) = ([b'n'; 255], [b'n'; 256]);
        for message in with_name(ROOT, &longer) {
            let error = client.done(&message).unwrap_err();
            assert!([Errno::ENAMETOOLONG, Errno::ENOENT].contains(&error), "{error} to {message:?}");
        }
        assert_eq!(client.walk_bytes(ROOT, 99, &[&longer]).unwrap_err(), Errno::ENAMETOOLONG);
        assert_eq!(client.walk_bytes(ROOT, 99, &[&[b'n'; 8000]]).unwrap_err(), Errno::ENAMETOOLONG);
        // Whatever it is, if not `/` or NUL: no UTF-8 is asked for.
        let bytes: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
        for name in [&longest[..], &bytes, b"\xff\xfe", b"\xed\xa0\x80", b"...", b" ", b"\n", b"\\", b"*", b"-rf", b"~"]
        {
            client.mkdir_in(ROOT, name, 0o755).unwrap();
            assert_eq!(client.walk_bytes(ROOT, 99, &[name]).unwrap().len(), 1);
            client.clunk(99).unwrap();
            client.done(&Tmessage::Tunlinkat { dirfid: ROOT, name: Str(name), flags: AT_REMOVEDIR }).unwrap();
        }
        assert!(client.names("").is_empty());
    });
}

#[test]
fn the_way_up_ends_at_the_export() {
    let attacked = Attacked::dir();
    let mut client = attacked.client();
    client.mkdir("", "d").unwrap();
    let root = client.getattr(ROOT).unwrap().qid;
    for names in [&[".."][..], &["..", "..", ".."], &["d", "..", "..", ".."], &["..", "d", "..", ".."]] {
        let qids = client.walk(ROOT, 99, names).unwrap();
        assert_eq!(qids.last().unwrap().path, root.path, "{names:?}");
        client.clunk(99).unwrap();
    }
    for names in [&["..", "beside"][..], &["d", "..", "..", "beside"], &["..", "export"]] {
        assert!(client.walk(ROOT, 99, names).is_ok_and(|qids| qids.len() < names.len()), "{names:?}");
        assert_eq!(client.clunk(99).unwrap_err(), Errno::EBADF);
    }
    // What a listing says of it is no better.
    let up = client.open("", RDONLY).unwrap();
    let dots = client.readdir(up, 0, 8000).unwrap().into_iter().find(|entry| entry.name == "..").unwrap();
    assert_eq!(dots.qid.path, root.path);
    for aname in ["..", "d/..", "/..", "../beside", ".", "d/../.."] {
        client.attach(99, aname).unwrap_err();
    }
}

/// CVE-2016-9602, CVE-2017-7471: links are the client's to follow.
#[test]
fn links_that_lead_out_are_links() {
    let attacked = Attacked::dir();
    let beside = attacked.beside();
    attacked.symlink(beside.to_str().unwrap(), "absolute");
    attacked.symlink("../beside", "relative");
    attacked.symlink("..", "up");
    attacked.symlink("/proc/self/root", "magic");
    attacked.symlink("loop", "loop");
    let before = fs::metadata(&beside).unwrap();
    let mut client = attacked.client();
    client.make("", "a", b"contents");
    for name in ["absolute", "relative", "up", "magic", "loop"] {
        assert_eq!(client.stat(name).unwrap().mode & mode::IFMT, mode::IFLNK);
        for below in ["beside", "etc", "..", "x"] {
            let walked = client.walk(ROOT, 99, &[name, below]);
            assert!(walked.is_ok_and(|qids| qids.len() == 1), "{name}/{below}");
        }
        for flags in [RDONLY, WRONLY, RDWR | TRUNC] {
            assert!(client.open(name, flags).is_err(), "{name} is opened");
            let fid = client.at("").unwrap();
            assert!(client.lcreate(fid, name.as_bytes(), flags, 0o644).is_err(), "{name} is opened by a create");
            client.clunk(fid).unwrap();
        }
        let fid = client.at(name).unwrap();
        for change in [
            SetAttributes { valid: setattr::SIZE, size: 0, ..SetAttributes::default() },
            SetAttributes { valid: setattr::MODE, mode: 0o777, ..SetAttributes::default() },
            SetAttributes { valid: setattr::MTIME | setattr::MTIME_SET, mtime_sec: 1, ..SetAttributes::default() },
        ] {
            // It may be granted, of the link.
            let _ = client.setattr(fid, change);
        }
        client.lopen(fid, RDONLY).unwrap_err();
        client.mkdir_in(fid, b"new", 0o755).unwrap_err();
        client.readdir(fid, 0, 1000).unwrap_err();
        // As a target of other requests, too.
        client.done(&Tmessage::Tlink { dfid: fid, fid, name: Str(b"new") }).unwrap_err();
        let (oldname, newname) = (Str(b"beside"), Str(b"new"));
        client.done(&Tmessage::Trenameat { olddirfid: fid, oldname, newdirfid: ROOT, newname }).unwrap_err();
        client.done(&Tmessage::Tunlinkat { dirfid: fid, name: Str(b"beside"), flags: 0 }).unwrap_err();
    }
    let after = fs::metadata(&beside).unwrap();
    assert_eq!(
        (after.mode(), after.mtime(), after.ctime(), after.nlink()),
        (before.mode(), before.mtime(), before.ctime(), 1)
    );
}

/// The trick of a directory that is moved up from below a fid: `mv bar/link .`
#[test]
fn links_moved_below_a_live_fid_lead_nowhere_else() {
    let attacked = Attacked::dir();
    let mut client = attacked.client();
    client.mkdir("", "bar").unwrap();
    client.mkdir("bar", "baz").unwrap();
    client.symlink(ROOT, b"up", b"../..").unwrap();
    let deep = client.at("bar/baz").unwrap();
    client.rename("", "up", "bar", "up").unwrap();
    client.rename("bar", "baz", "", "baz").unwrap();
    // Its parent is the one that it was reached from, or the one that it is in; never what lies above the export.
    let root = client.getattr(ROOT).unwrap().qid.path;
    let bar = client.stat("bar").unwrap().qid.path;
    let mut above = Vec::new();
    for _ in 0..6 {
        above.push(client.walk(deep, deep, &[".."]).unwrap()[0].path);
    }
    assert!(above.iter().all(|path| [root, bar].contains(path)));
    assert_eq!(above.last(), Some(&root));
    assert!(client.walk(deep, 99, &["beside"]).is_err());
}

/// CVE-2023-2861, CVE-2020-35517: what is no file or directory is not opened, and so nothing waits for it.
#[test]
fn special_files_are_not_opened_on_the_host() {
    let attacked = Attacked::dir();
    let mut client = attacked.client();
    client.mknod(ROOT, b"fifo", mode::IFIFO | 0o666, (0, 0)).unwrap();
    client.mknod(ROOT, b"socket", mode::IFSOCK | 0o666, (0, 0)).unwrap();
    // The null device, where that is permitted.
    let mut names = vec!["fifo", "socket"];
    if client.mknod(ROOT, b"null", mode::IFCHR | 0o666, (1, 3)).is_ok() {
        names.push("null");
    }
    for name in names {
        for flags in [RDONLY, WRONLY, RDWR, RDWR | TRUNC] {
            // A fifo without another end would never answer.
            let fid = client.at(name).unwrap();
            let opened = client.lopen(fid, flags);
            assert!(
                opened.is_err() || client.read(fid, 0, 10).is_err() && client.write(fid, 0, b"x").is_err(),
                "{name}"
            );
            client.clunk(fid).unwrap();
            let directory = client.at("").unwrap();
            client.lcreate(directory, name.as_bytes(), flags, 0o644).unwrap_err();
            client.clunk(directory).unwrap();
        }
    }
}

/// CVE-2016-9602 as a race: what is a directory at one moment is a link out at the next.
#[test]
fn directories_swapped_for_links_all_the_time_lead_nowhere() {
    let attacked = Attacked::dir();
    let (path, away, link) = (attacked.path("d"), attacked.path("away"), attacked.path("link"));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("beside"), "inside").unwrap();
    attacked.symlink("..", "link");
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            while !ended.load(SeqCst) {
                for (from, to) in [(&path, &away), (&link, &path), (&path, &link), (&away, &path)] {
                    fs::rename(from, to).unwrap();
                }
            }
        });
        // A failed assertion must not leave the other thread swapping.
        let outcome = scope.spawn(|| {
            let mut client: Client = attacked.client();
            for _ in 0..1500 {
                if client.walk(ROOT, 1, &["d", "beside"]).is_ok_and(|qids| qids.len() == 2) {
                    if client.lopen(1, RDWR).is_ok() {
                        assert_eq!(client.read(1, 0, 100).unwrap(), b"inside");
                    }
                    client.clunk(1).unwrap();
                }
                let _ = client.walk(ROOT, 1, &["d"]);
                if client.lcreate(1, b"beside", WRONLY, 0o644).is_ok() {
                    assert_eq!(client.write(1, 0, b"inside").unwrap(), 6);
                }
                let _ = client.clunk(1);
                if let Ok(fid) = client.at("d") {
                    let _ = client.done(&Tmessage::Tunlinkat { dirfid: fid, name: Str(b"beside "), flags: 0 });
                    let _ = client.mkdir_in(fid, b"export", 0o755);
                    client.clunk(fid).unwrap();
                }
            }
        });
        let outcome = outcome.join();
        ended.store(true, SeqCst);
        swapping.join().unwrap();
        outcome.unwrap();
    });
    assert_eq!(fs::read(attacked.beside()).unwrap(), b"secret");
}

//! Walking, and what names may be.

use ninering_wire::{
    AT_REMOVEDIR, Errno, Tmessage,
    lopen::{RDONLY, RDWR},
    mode,
};

use crate::common::{Export, ROOT, fresh};

pub fn root_is_a_directory(export: &Export) {
    let mut client = export.client();
    let root = client.getattr(ROOT).unwrap();
    assert_eq!(root.mode & mode::IFMT, mode::IFDIR);
    assert!(root.nlink >= 1);
    assert_eq!(client.attach(fresh(), "").unwrap().path, root.qid.path);
    assert_eq!(client.attach(fresh(), "no/such/export").unwrap_err(), Errno::ENOENT);
}

pub fn walks_go_step_by_step(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "a").unwrap();
    client.mkdir("a", "b").unwrap();
    client.make("a/b", "c", b"x");

    let fid = fresh();
    let qids = client.walk(ROOT, fid, &["a", "b", "c"]).unwrap();
    assert_eq!(qids.len(), 3);
    assert!(qids[0].kind.is_dir() && qids[1].kind.is_dir() && !qids[2].kind.is_dir());
    assert_eq!(client.getattr(fid).unwrap().qid.path, qids[2].path);

    let partial = fresh();
    assert_eq!(client.walk(ROOT, partial, &["a", "nothing", "c"]).unwrap(), qids[..1]);
    assert_eq!(client.getattr(partial).unwrap_err(), Errno::EBADF, "a partial walk makes no fid");
    assert_eq!(client.walk(ROOT, partial, &["a", "b", "c", "d"]).unwrap(), qids);
    assert_eq!(client.walk(ROOT, partial, &["nothing"]).unwrap_err(), Errno::ENOENT);
    assert_eq!(client.walk(fid, partial, &["d"]).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.walk(fid, partial, &[".."]).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.walk(fresh(), partial, &["a"]).unwrap_err(), Errno::EBADF);
    assert_eq!(client.walk(ROOT, fid, &["a"]).unwrap_err(), Errno::EINVAL, "the new fid is in use");

    // In place: a partial walk leaves the fid where it was.
    let moving = client.at("a").unwrap();
    assert_eq!(client.walk(moving, moving, &["b", "nothing"]).unwrap().len(), 1);
    assert_eq!(client.getattr(moving).unwrap().qid.path, qids[0].path);
    assert_eq!(client.walk(moving, moving, &["b", "c"]).unwrap().len(), 2);
    assert_eq!(client.getattr(moving).unwrap().qid.path, qids[2].path);

    let back = fresh();
    let up = client.walk(ROOT, back, &["a", "b", "..", "b", ".."]).unwrap();
    assert_eq!(up[2].path, qids[0].path);
    assert_eq!(client.getattr(back).unwrap().qid.path, qids[0].path);
}

pub fn walks_without_names_clone(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let (fid, clone) = (client.at("a").unwrap(), fresh());
    assert_eq!(client.walk(fid, clone, &[]).unwrap(), []);
    assert_eq!(client.walk(fid, fid, &[]).unwrap(), []);
    client.clunk(fid).unwrap();
    client.lopen(clone, RDONLY).unwrap();
    assert_eq!(client.read(clone, 0, 100).unwrap(), b"contents");
    assert_eq!(client.clunk(fid).unwrap_err(), Errno::EBADF);
}

pub fn walks_stay_inside_the_export(export: &Export) {
    let mut client = export.client();
    let root = client.getattr(ROOT).unwrap().qid.path;
    client.mkdir("", "a").unwrap();
    let fid = fresh();
    let up = client.walk(ROOT, fid, &["..", "..", "a", "..", "..", ".."]).unwrap();
    assert_eq!(up.len(), 6);
    assert_eq!(up[5].path, root);
    assert_eq!(client.getattr(fid).unwrap().qid.path, root);
    for name in ["a/..", "/", "../..", "/etc", "a/b", ".", "", "a\0b"] {
        let error = client.walk(ROOT, fresh(), &[name]).unwrap_err();
        assert!(error == Errno::EINVAL || error == Errno::ENOENT, "{name:?}: {error}");
    }
    // A symbolic link is itself; nobody here follows it.
    client.symlink(ROOT, b"out", b"../../..").unwrap();
    client.symlink(ROOT, b"etc", b"/etc").unwrap();
    assert!(client.walk(ROOT, fresh(), &["out"]).unwrap()[0].kind.is_symlink());
    assert_eq!(client.walk(ROOT, fresh(), &["out", ".."]).unwrap().len(), 1);
    assert_eq!(client.walk(ROOT, fresh(), &["etc", "passwd"]).unwrap().len(), 1);
}

pub fn walks_of_open_fids(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "a").unwrap();
    client.make("a", "b", b"");
    let fid = client.open("a", RDONLY).unwrap();
    assert_eq!(client.walk(fid, fid, &["b"]).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.walk(fid, fid, &[]).unwrap_err(), Errno::EINVAL);
    let other = fresh();
    client.walk(fid, other, &["b"]).unwrap();
    client.lopen(other, RDONLY).unwrap();
    assert_eq!(client.lopen(other, RDONLY).unwrap_err(), Errno::EINVAL, "it is open");
    assert_eq!(client.lcreate(fid, b"c", RDWR, 0o644).unwrap_err(), Errno::EINVAL, "it is open");
    assert!(!client.exists("a/c"));
}

pub fn names_are_checked(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.make("", "file", b"");
    let (d, file) = (client.at("d").unwrap(), client.at("file").unwrap());
    let before = client.names("");
    for name in ["", ".", "..", "/", "a/b", "../a", "/a", "a/", "a\0", "\0"] {
        let bytes = name.as_bytes();
        let refused = [
            client.mkdir_in(ROOT, bytes, 0o755).map(drop),
            client.symlink(ROOT, bytes, b"x").map(drop),
            client.mknod(ROOT, bytes, mode::IFREG | 0o644, (0, 0)).map(drop),
            client.lcreate(d, bytes, RDWR, 0o644).map(drop),
            client.done(&Tmessage::Tlink { dfid: ROOT, fid: file, name: name.into() }),
            client.done(&Tmessage::Trename { fid: file, dfid: ROOT, name: name.into() }),
            client.done(&Tmessage::Trenameat {
                olddirfid: ROOT,
                oldname: "file".into(),
                newdirfid: ROOT,
                newname: name.into(),
            }),
            client.done(&Tmessage::Trenameat {
                olddirfid: ROOT,
                oldname: name.into(),
                newdirfid: ROOT,
                newname: "x".into(),
            }),
            client.done(&Tmessage::Tunlinkat { dirfid: d, name: name.into(), flags: 0 }),
            client.done(&Tmessage::Tunlinkat { dirfid: d, name: name.into(), flags: AT_REMOVEDIR }),
        ];
        for (at, outcome) in refused.into_iter().enumerate() {
            let error = outcome.unwrap_err();
            assert!(error == Errno::EINVAL || error == Errno::ENOENT, "{at} of {name:?}: {error}");
        }
    }
    assert_eq!(client.names(""), before);
    assert_eq!(client.names("d"), Vec::<String>::new());
}

pub fn longest_names(export: &Export) {
    let mut client = export.client();
    let (longest, longer) = ("n".repeat(255), "n".repeat(256));
    client.mkdir("", &longest).unwrap();
    assert!(client.exists(&longest));
    assert_eq!(client.names(""), [longest]);
    assert_eq!(client.mkdir("", &longer).unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(client.walk(ROOT, fresh(), &[&longer]).unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(client.create("", &longer, RDWR, 0o644).unwrap_err(), Errno::ENAMETOOLONG);
    // Names have no encoding.
    client.mkdir_in(ROOT, b"\xff\xfe *?\n\\", 0o755).unwrap();
    assert_eq!(client.walk_bytes(ROOT, fresh(), &[b"\xff\xfe *?\n\\"]).unwrap().len(), 1);
}

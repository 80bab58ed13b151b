//! Renames, hard links, and what fids stand for after them.

use ninering_wire::{
    Errno, Tmessage,
    lopen::{RDONLY, RDWR, WRONLY},
};

use crate::common::{Export, ROOT, fresh};

pub fn links_share_a_file(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.make("", "a", b"contents");
    client.link("a", "d", "b").unwrap();
    let (a, b) = (client.stat("a").unwrap(), client.stat("d/b").unwrap());
    assert_eq!((a.qid.path, a.nlink), (b.qid.path, 2));
    let fid = client.open("d/b", WRONLY).unwrap();
    client.write(fid, 0, b"C").unwrap();
    assert_eq!(client.contents("a").unwrap(), b"Contents");
    client.unlink("", "a", 0).unwrap();
    assert_eq!(client.stat("d/b").unwrap().nlink, 1);
    assert_eq!(client.contents("d/b").unwrap(), b"Contents");
    client.make("", "a", b"");
    assert_eq!(client.link("d/b", "", "a").unwrap_err(), Errno::EEXIST);
    assert_eq!(client.link("d", "", "e").unwrap_err(), Errno::EPERM);
    // A link to a symbolic link is one to the link itself.
    client.symlink(ROOT, b"l", b"nowhere").unwrap();
    client.link("l", "d", "m").unwrap();
    assert_eq!(client.stat("l").unwrap().qid.path, client.stat("d/m").unwrap().qid.path);
}

pub fn renames_replace_files(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.mkdir("d", "empty").unwrap();
    client.make("", "a", b"a");
    client.make("", "b", b"b");
    client.make("d", "c", b"c");
    client.rename("", "a", "", "z").unwrap();
    assert_eq!(client.names(""), ["b", "d", "z"]);
    let replaced = client.open("b", RDONLY).unwrap();
    client.rename("", "z", "", "b").unwrap();
    assert_eq!(client.contents("b").unwrap(), b"a");
    assert_eq!(client.read(replaced, 0, 10).unwrap(), b"b", "what was replaced lives while it is open");
    client.rename("", "b", "d", "c").unwrap();
    assert_eq!(client.contents("d/c").unwrap(), b"a");
    assert_eq!(client.names(""), ["d"]);
    assert_eq!(client.rename("d", "c", "d", "empty").unwrap_err(), Errno::EISDIR);
    assert_eq!(client.rename("d", "nothing", "", "x").unwrap_err(), Errno::ENOENT);
    assert_eq!(client.rename("d/c", "x", "", "x").unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.rename("d", "c", "d/c", "x").unwrap_err(), Errno::ENOTDIR);
    client.rename("d", "c", "d", "c").unwrap();
    assert_eq!(client.names("d"), ["c", "empty"]);
}

pub fn renames_of_directories(export: &Export) {
    let mut client = export.client();
    for path in ["a", "b", "c"] {
        client.mkdir("", path).unwrap();
    }
    client.mkdir("a", "sub").unwrap();
    client.make("a/sub", "f", b"f");
    client.make("", "file", b"");
    let inside = client.at("a/sub").unwrap();
    assert_eq!(client.rename("", "a", "", "file").unwrap_err(), Errno::ENOTDIR);
    client.rename("", "a", "", "b").unwrap();
    assert_eq!(client.contents("b/sub/f").unwrap(), b"f");
    client.mkdir("c", "x").unwrap();
    assert_eq!(client.rename("", "b", "", "c").unwrap_err(), Errno::ENOTEMPTY);
    client.rename("b", "sub", "c", "x").unwrap();
    assert_eq!(client.contents("c/x/f").unwrap(), b"f");
    assert_eq!(client.names("b"), Vec::<String>::new());
    // The fid of the moved directory is that of the directory still.
    client.walk(inside, fresh(), &["f"]).unwrap();
    client.mkdir_in(inside, b"new", 0o755).unwrap();
    assert_eq!(client.names("c/x"), ["f", "new"]);
    assert_eq!(client.rename("c", "x", "", "c").unwrap_err(), Errno::ENOTEMPTY, "onto its own parent");
}

pub fn renames_into_own_subtree(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "a").unwrap();
    client.mkdir("a", "b").unwrap();
    client.mkdir("a/b", "c").unwrap();
    for (directory, name) in [("a", "x"), ("a/b", "x"), ("a/b/c", "a")] {
        assert_eq!(client.rename("", "a", directory, name).unwrap_err(), Errno::EINVAL);
    }
    assert_eq!(client.rename("", "a", "a", "b").unwrap_err(), Errno::EINVAL);
    client.rename("a/b", "c", "", "c").unwrap();
    client.rename("a", "b", "c", "b").unwrap();
    client.rename("", "a", "c/b", "a").unwrap();
    assert!(client.exists("c/b/a"));
}

pub fn renames_of_links_to_one_file(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.make("", "a", b"");
    client.link("a", "", "b").unwrap();
    client.link("a", "d", "c").unwrap();
    client.rename("", "a", "", "b").unwrap();
    client.rename("", "a", "d", "c").unwrap();
    assert_eq!(client.names(""), ["a", "b", "d"]);
    assert_eq!(client.stat("a").unwrap().nlink, 3);
}

pub fn fids_follow_renamed_files(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.make("", "a", b"old");
    let (fid, open) = (client.at("a").unwrap(), client.open("a", RDWR).unwrap());
    client.rename("", "a", "d", "b").unwrap();
    client.make("", "a", b"another");
    assert_eq!(client.getattr(fid).unwrap().size, 3);
    client.write(open, 0, b"new").unwrap();
    client.lopen(fid, RDONLY).unwrap();
    assert_eq!(client.read(fid, 0, 10).unwrap(), b"new");
    assert_eq!(client.contents("d/b").unwrap(), b"new");
}

pub fn rename_and_remove_by_fid(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.make("", "a", b"a");
    let (fid, dfid) = (client.at("a").unwrap(), client.at("d").unwrap());
    client.done(&Tmessage::Trename { fid, dfid, name: "b".into() }).unwrap();
    assert_eq!(client.names("d"), ["b"]);
    client.done(&Tmessage::Trename { fid, dfid: ROOT, name: "c".into() }).unwrap();
    assert_eq!(client.names(""), ["c", "d"]);
    assert_eq!(client.contents("c").unwrap(), b"a");
    let clone = fresh();
    client.walk(fid, clone, &[]).unwrap();
    client.done(&Tmessage::Tremove { fid: clone }).unwrap();
    client.done(&Tmessage::Tremove { fid: dfid }).unwrap();
    assert_eq!(client.names(""), Vec::<String>::new());
    // What Tlcreate made can be removed by its fid.
    let fid = client.create("", "new", RDWR, 0o644).unwrap();
    client.done(&Tmessage::Tremove { fid }).unwrap();
    assert_eq!(client.names(""), Vec::<String>::new());
}

pub fn remove_forgets_the_fid(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.make("d", "f", b"");
    let fid = client.at("d").unwrap();
    assert_eq!(client.done(&Tmessage::Tremove { fid }).unwrap_err(), Errno::ENOTEMPTY);
    assert_eq!(client.clunk(fid).unwrap_err(), Errno::EBADF);
    // A root has no name to be removed or renamed by.
    let fid = fresh();
    client.attach(fid, "").unwrap();
    assert_eq!(client.done(&Tmessage::Trename { fid, dfid: ROOT, name: "x".into() }).unwrap_err(), Errno::EOPNOTSUPP);
    assert_eq!(client.done(&Tmessage::Tremove { fid }).unwrap_err(), Errno::EOPNOTSUPP);
    assert_eq!(client.clunk(fid).unwrap_err(), Errno::EBADF);
}

pub fn rename_by_fid_finds_the_file(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.make("", "a", b"one");
    let (fid, other, gone) = (client.at("a").unwrap(), client.at("a").unwrap(), client.at("a").unwrap());
    client.rename("", "a", "d", "b").unwrap();
    client.make("", "a", b"another");
    client.done(&Tmessage::Trename { fid, dfid: ROOT, name: "c".into() }).unwrap();
    assert_eq!((client.names(""), client.names("d")), (vec!["a".into(), "c".into(), "d".into()], vec![]));
    assert_eq!(client.contents("c").unwrap(), b"one");
    client.done(&Tmessage::Tremove { fid: other }).unwrap();
    // It has no name any more, and what has the one that it had is another file.
    client.make("", "c", b"another");
    assert_eq!(client.done(&Tmessage::Trename { fid, dfid: ROOT, name: "x".into() }).unwrap_err(), Errno::ENOENT);
    assert_eq!(client.done(&Tmessage::Tremove { fid: gone }).unwrap_err(), Errno::ENOENT);
    assert_eq!(client.names(""), ["a", "c", "d"]);
}

pub fn fids_follow_moved_directories(export: &Export) {
    let mut client = export.client();
    for (directory, name) in [("", "a"), ("a", "b"), ("a/b", "c"), ("", "z")] {
        client.mkdir(directory, name).unwrap();
    }
    client.make("a/b/c", "file", b"contents");
    let (b, c, file) = (client.at("a/b").unwrap(), client.at("a/b/c").unwrap(), client.at("a/b/c/file").unwrap());
    client.rename("a", "b", "z", "moved").unwrap();
    client.rename("", "z", "a", "y").unwrap();
    // Down, up, and what is done by the fid alone.
    client.walk(b, fresh(), &["c", "file"]).unwrap();
    let above = client.stat("a/y").unwrap().qid.path;
    assert_eq!(client.walk(b, fresh(), &[".."]).unwrap()[0].path, above);
    let up: Vec<_> = client.walk(c, fresh(), &["..", "..", "..", "..", ".."]).unwrap();
    let expected = ["a/y/moved", "a/y", "a", "", ""].map(|path| client.stat(path).unwrap().qid.path);
    assert_eq!(up.iter().map(|qid| qid.path).collect::<Vec<_>>(), expected);
    client.done(&Tmessage::Trename { fid: file, dfid: c, name: "renamed".into() }).unwrap();
    assert_eq!(client.contents("a/y/moved/c/renamed").unwrap(), b"contents");
    client.done(&Tmessage::Tremove { fid: file }).unwrap();
    client.done(&Tmessage::Tremove { fid: c }).unwrap();
    client.done(&Tmessage::Trename { fid: b, dfid: ROOT, name: "b".into() }).unwrap();
    assert_eq!(client.names(""), ["a", "b"]);
    assert_eq!(client.names("a/y"), Vec::<String>::new());
}

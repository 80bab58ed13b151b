//! What every backend does, seen through the server. Each function is one test on an empty export.

use ninering_wire::{
    AT_REMOVEDIR, Errno, SetAttributes, Tmessage, dirent_type,
    lopen::{APPEND, CREATE, DIRECTORY, EXCL, RDONLY, RDWR, TRUNC, WRONLY},
    mode, setattr,
};

use super::{Export, ROOT, fresh};

/// Makes a `#[test]` of each behaviour, of an [`Export`] that the expression makes anew for each.
#[macro_export]
macro_rules! test_behaviours {
    ($export:expr) => {
        $crate::test_behaviours! { $export;
            root_is_a_directory
            walks_go_step_by_step
            walks_without_names_clone
            walks_stay_inside_the_export
            walks_of_open_fids
            files_keep_what_is_written
            reads_end_with_the_file
            large_and_sparse_files
            appending_goes_to_the_end
            opening_truncates
            creating_opens
            creating_exclusively
            opened_files_allow_what_they_were_opened_for
            directories_cannot_be_written
            symlinks_and_special_files_cannot_be_opened
            directories_are_listed_in_pieces
            listing_goes_on_while_entries_change
            directories_are_made_and_removed
            removed_directories_take_nothing
            symlinks_keep_their_target
            links_share_a_file
            renames_replace_files
            renames_of_directories
            renames_into_own_subtree
            renames_of_links_to_one_file
            fids_follow_renamed_files
            rename_and_remove_by_fid
            remove_forgets_the_fid
            rename_by_fid_finds_the_file
            fids_follow_moved_directories
            unlinked_directories_live_while_open
            large_directories_are_listed_whole
            largest_offsets
            unlinked_files_live_while_open
            attributes_are_set
            times_are_set
            writing_changes_times_and_version
            set_group_id_directories
            special_files
            names_are_checked
            longest_names
            figures
            syncing
        }
    };
    ($export:expr; $($behaviour:ident)*) => {$(
        #[test]
        fn $behaviour() {
            $crate::common::behaviours::$behaviour(&$export);
        }
    )*};
}

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

pub fn files_keep_what_is_written(export: &Export) {
    let mut client = export.client();
    let fid = client.create("", "a", RDWR, 0o640).unwrap();
    assert_eq!(client.write(fid, 0, b"hello world").unwrap(), 11);
    assert_eq!(client.write(fid, 6, b"there").unwrap(), 5);
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"hello there");
    assert_eq!(client.read(fid, 6, 3).unwrap(), b"the");
    let attributes = client.getattr(fid).unwrap();
    assert_eq!(attributes.mode, mode::IFREG | 0o640);
    assert_eq!((attributes.size, attributes.nlink), (11, 1));
    assert_eq!(attributes.gid, super::gid());
    client.clunk(fid).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"hello there");
}

pub fn reads_end_with_the_file(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"0123456789");
    let fid = client.open("a", RDONLY).unwrap();
    assert_eq!(client.read(fid, 8, 100).unwrap(), b"89");
    assert_eq!(client.read(fid, 10, 100).unwrap(), b"");
    assert_eq!(client.read(fid, 1 << 40, 100).unwrap(), b"");
    assert_eq!(client.read(fid, 0, 0).unwrap(), b"");
    assert_eq!(client.read(fid, i64::MAX as u64 - 10, 10).unwrap(), b"");
    for offset in [i64::MAX as u64 - 9, u64::MAX, u64::MAX - 5] {
        assert_eq!(client.read(fid, offset, 10).unwrap_err(), Errno::EINVAL);
    }
    let fid = client.open("a", RDWR).unwrap();
    for offset in [i64::MAX as u64 - 2, u64::MAX, u64::MAX - 1] {
        assert_eq!(client.write(fid, offset, b"xyz").unwrap_err(), Errno::EINVAL);
    }
    assert_eq!(client.write(fid, 3, b"").unwrap(), 0);
    assert_eq!(client.contents("a").unwrap(), b"0123456789");
}

pub fn large_and_sparse_files(export: &Export) {
    let mut client = export.client();
    let contents: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    client.make("", "large", &contents);
    assert_eq!(client.contents("large").unwrap(), contents);
    let fid = client.open("large", RDWR).unwrap();
    for (offset, count) in [(0, 300_000), (65_530, 12), (65_536, 65_536), (131_000, 100_000), (299_999, 10)] {
        let expected = &contents[offset..contents.len().min(offset + count)];
        assert_eq!(client.read(fid, offset as u64, count as u32).unwrap(), expected);
    }

    let far = 5 << 30;
    let fid = client.create("", "sparse", RDWR, 0o644).unwrap();
    client.write(fid, far, b"end").unwrap();
    client.write(fid, 70_000, b"middle").unwrap();
    assert_eq!(client.getattr(fid).unwrap().size, far + 3);
    assert!(client.getattr(fid).unwrap().blocks * 512 < 1 << 20);
    let mut expected = vec![0; 200_000];
    expected[70_000..70_006].copy_from_slice(b"middle");
    assert_eq!(client.read(fid, 0, 200_000).unwrap(), expected);
    assert_eq!(client.read(fid, far - 5, 100).unwrap(), b"\0\0\0\0\0end");

    // What was cut off does not come back.
    let resize = |size| SetAttributes { valid: setattr::SIZE, size, ..SetAttributes::default() };
    client.setattr(fid, resize(70_003)).unwrap();
    client.setattr(fid, resize(100_000)).unwrap();
    expected[70_003..].fill(0);
    assert_eq!(client.read(fid, 0, 200_000).unwrap(), expected[..100_000]);
    assert_eq!(client.read(fid, far, 10).unwrap(), b"");
    for size in [65_536, 0] {
        let fid = client.open("large", RDWR).unwrap();
        client.setattr(fid, resize(size)).unwrap();
        assert!(client.getattr(fid).unwrap().blocks * 512 < size + 8192);
        client.setattr(fid, resize(300_000)).unwrap();
        let mut expected = contents.clone();
        expected[size as usize..].fill(0);
        assert!(client.contents("large").unwrap() == expected, "cut off at {size}");
    }
}

pub fn appending_goes_to_the_end(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"one");
    let (first, second) = (client.open("a", WRONLY | APPEND).unwrap(), client.open("a", RDWR | APPEND).unwrap());
    assert_eq!(client.write(first, 0, b" two").unwrap(), 4);
    assert_eq!(client.write(second, 1, b" three").unwrap(), 6);
    assert_eq!(client.read(second, 0, 100).unwrap(), b"one two three");
}

pub fn opening_truncates(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let fid = client.open("a", WRONLY | TRUNC).unwrap();
    assert_eq!(client.getattr(fid).unwrap().size, 0);
    client.write(fid, 0, b"new").unwrap();
    assert_eq!(client.contents("a").unwrap(), b"new");
    // Only Tlcreate creates: these are bits that Linux's client leaves in.
    client.open("a", RDONLY | CREATE | EXCL).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"new");
}

pub fn creating_opens(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    // The fid of the directory is that of the file now.
    let fid = client.at("").unwrap();
    client.lcreate(fid, b"a", RDWR, 0o600).unwrap();
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"contents");
    assert_eq!(client.getattr(fid).unwrap().mode, mode::IFREG | 0o644, "it was there already");
    client.create("", "a", WRONLY | TRUNC, 0o600).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"");

    // One that allows nobody to write can be written by who made it.
    let fid = client.create("", "b", RDWR, 0o400).unwrap();
    assert_eq!(client.write(fid, 0, b"x").unwrap(), 1);

    client.mkdir("", "d").unwrap();
    assert_eq!(client.create("", "d", RDWR, 0o644).unwrap_err(), Errno::EISDIR);
    let file = client.at("a").unwrap();
    assert_eq!(client.lcreate(file, b"x", RDWR, 0o644).unwrap_err(), Errno::ENOTDIR);
    // A link is not followed: its target may be outside.
    client.symlink(ROOT, b"l", b"elsewhere").unwrap();
    assert!(client.create("", "l", RDWR, 0o644).is_err());
    assert!(!client.exists("elsewhere"));
}

pub fn creating_exclusively(export: &Export) {
    let mut client = export.client();
    client.create("", "a", RDWR | EXCL, 0o644).unwrap();
    let fid = client.at("").unwrap();
    assert_eq!(client.lcreate(fid, b"a", RDWR | EXCL, 0o644).unwrap_err(), Errno::EEXIST);
    // The fid is still the directory's.
    client.lcreate(fid, b"b", RDWR | EXCL, 0o644).unwrap();
    client.symlink(ROOT, b"l", b"nowhere").unwrap();
    assert_eq!(client.create("", "l", RDWR | EXCL, 0o644).unwrap_err(), Errno::EEXIST);
}

pub fn opened_files_allow_what_they_were_opened_for(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let unopened = client.at("a").unwrap();
    let read_only = client.open("a", RDONLY).unwrap();
    let write_only = client.open("a", WRONLY).unwrap();
    assert_eq!(client.read(unopened, 0, 1).unwrap_err(), Errno::EBADF);
    assert_eq!(client.write(unopened, 0, b"x").unwrap_err(), Errno::EBADF);
    assert_eq!(client.write(read_only, 0, b"x").unwrap_err(), Errno::EBADF);
    assert_eq!(client.read(write_only, 0, 1).unwrap_err(), Errno::EBADF);
    assert_eq!(client.readdir(read_only, 0, 1000).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.readdir(unopened, 0, 1000).unwrap_err(), Errno::EBADF);
    assert_eq!(client.open("a", RDONLY | DIRECTORY).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.contents("a").unwrap(), b"contents");
}

pub fn directories_cannot_be_written(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    for flags in [WRONLY, RDWR] {
        assert_eq!(client.open("d", flags).unwrap_err(), Errno::EISDIR);
    }
    let fid = client.open("d", RDONLY | DIRECTORY).unwrap();
    assert_eq!(client.read(fid, 0, 10).unwrap_err(), Errno::EISDIR);
    assert_eq!(client.write(fid, 0, b"x").unwrap_err(), Errno::EBADF);
    let unopened = client.at("d").unwrap();
    assert_eq!(client.readdir(unopened, 0, 1000).unwrap_err(), Errno::EBADF);
}

pub fn symlinks_and_special_files_cannot_be_opened(export: &Export) {
    let mut client = export.client();
    client.make("", "file", b"");
    client.symlink(ROOT, b"link", b"file").unwrap();
    client.mknod(ROOT, b"fifo", mode::IFIFO | 0o644, (0, 0)).unwrap();
    client.mknod(ROOT, b"socket", mode::IFSOCK | 0o644, (0, 0)).unwrap();
    for flags in [RDONLY, WRONLY, RDWR] {
        assert_eq!(client.open("link", flags).unwrap_err(), Errno::ELOOP);
        assert_eq!(client.open("fifo", flags).unwrap_err(), Errno::ENXIO);
        assert_eq!(client.open("socket", flags).unwrap_err(), Errno::ENXIO);
        assert!(client.create("", "fifo", flags, 0o644).is_err());
    }
}

pub fn directories_are_listed_in_pieces(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.mkdir("d", "directory").unwrap();
    let d = client.at("d").unwrap();
    client.symlink(d, b"link", b"x").unwrap();
    let mut expected = vec!["directory".to_owned(), "link".to_owned()];
    for number in 0..700 {
        let name = format!("{number}{}", "n".repeat(number % 100));
        client.make("d", &name, b"");
        expected.push(name);
    }
    expected.sort();
    for count in [24 + 104, 300, 4096, 1_000_000] {
        let mut entries = client.list("d", count).unwrap();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        assert!(entries.iter().map(|entry| &entry.name).eq(&expected));
        for (name, kind) in [("directory", dirent_type::DIR), ("link", dirent_type::LNK), ("0", dirent_type::REG)] {
            let entry = entries.iter().find(|entry| entry.name == name).unwrap();
            assert_eq!(entry.kind, kind);
            assert_eq!(entry.qid.path, client.stat(&format!("d/{name}")).unwrap().qid.path);
        }
    }
    let fid = client.open("d", RDONLY).unwrap();
    assert_eq!(client.readdir(fid, 0, 10).unwrap_err(), Errno::EINVAL, "no entry fits");
    assert_eq!(client.readdir(fid, 0, 0).unwrap_err(), Errno::EINVAL, "no entry fits");
    // Each entry's offset leads to the next one, whatever was read before.
    let all = client.readdir(fid, 0, 100_000).unwrap();
    for at in [0, 1, 2, 350, all.len() - 2] {
        assert_eq!(client.readdir(fid, all[at].offset, 200).unwrap()[0], all[at + 1]);
    }
    let dots: Vec<_> = all.iter().filter(|entry| entry.name.starts_with('.')).collect();
    assert_eq!(dots.len(), 2);
    assert!(dots.iter().all(|entry| entry.kind == dirent_type::DIR));
}

pub fn listing_goes_on_while_entries_change(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    for number in 0..300 {
        client.make("d", &format!("stays{number}"), b"");
        client.make("d", &format!("goes{number}"), b"");
    }
    let fid = client.open("d", RDONLY).unwrap();
    let (mut seen, mut offset, mut round) = (Vec::new(), 0, 0);
    loop {
        let piece = client.readdir(fid, offset, 400).unwrap();
        let Some(last) = piece.last() else { break };
        offset = last.offset;
        seen.extend(piece.into_iter().map(|entry| entry.name).filter(|name| name.starts_with("stays")));
        for number in [2 * round, 2 * round + 1].into_iter().filter(|&number| number < 300) {
            client.unlink("d", &format!("goes{number}"), 0).unwrap();
            if number < 100 {
                client.make("d", &format!("comes{number}"), b"");
            }
        }
        round += 1;
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 300, "what was there all the time was listed");
}

pub fn directories_are_made_and_removed(export: &Export) {
    let mut client = export.client();
    let before = client.getattr(ROOT).unwrap().nlink;
    let qid = client.mkdir_in(ROOT, b"d", 0o750).unwrap();
    assert!(qid.kind.is_dir());
    let attributes = client.stat("d").unwrap();
    assert_eq!((attributes.qid.path, attributes.mode), (qid.path, mode::IFDIR | 0o750));
    if before > 1 {
        assert_eq!((client.getattr(ROOT).unwrap().nlink, attributes.nlink), (before + 1, 2));
    }
    assert_eq!(client.mkdir("", "d").unwrap_err(), Errno::EEXIST);
    client.make("d", "f", b"");
    assert_eq!(client.mkdir("d", "f").unwrap_err(), Errno::EEXIST);
    assert_eq!(client.mkdir("d/f", "x").unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.unlink("", "d", AT_REMOVEDIR).unwrap_err(), Errno::ENOTEMPTY);
    assert_eq!(client.unlink("", "d", 0).unwrap_err(), Errno::EISDIR);
    assert_eq!(client.unlink("d", "f", AT_REMOVEDIR).unwrap_err(), Errno::ENOTDIR);
    assert_eq!(client.unlink("d", "f", 1).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.unlink("d", "nothing", 0).unwrap_err(), Errno::ENOENT);
    client.unlink("d", "f", 0).unwrap();
    client.unlink("", "d", AT_REMOVEDIR).unwrap();
    assert!(!client.exists("d"));
    assert_eq!(client.getattr(ROOT).unwrap().nlink, before);
}

pub fn removed_directories_take_nothing(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    client.make("", "f", b"");
    let (fid, file) = (client.at("d").unwrap(), client.at("f").unwrap());
    client.unlink("", "d", AT_REMOVEDIR).unwrap();
    assert!(client.getattr(fid).is_ok(), "the fid goes on");
    assert_eq!(client.mkdir_in(fid, b"x", 0o755).unwrap_err(), Errno::ENOENT);
    assert_eq!(client.symlink(fid, b"x", b"y").unwrap_err(), Errno::ENOENT);
    assert_eq!(client.mknod(fid, b"x", mode::IFIFO | 0o644, (0, 0)).unwrap_err(), Errno::ENOENT);
    assert_eq!(client.done(&Tmessage::Tlink { dfid: fid, fid: file, name: "x".into() }).unwrap_err(), Errno::ENOENT);
    let rename = Tmessage::Trenameat { olddirfid: ROOT, oldname: "f".into(), newdirfid: fid, newname: "f".into() };
    assert_eq!(client.done(&rename).unwrap_err(), Errno::ENOENT);
    assert_eq!(client.walk(fid, fresh(), &["x"]).unwrap_err(), Errno::ENOENT);
    assert_eq!(client.lcreate(fid, b"x", RDWR, 0o644).unwrap_err(), Errno::ENOENT);
}

pub fn symlinks_keep_their_target(export: &Export) {
    let mut client = export.client();
    let longest = [b'x'; 4095];
    for (name, target) in [("a", &b"target"[..]), ("b", b"../../x//y/"), ("c", &longest), ("d", b"\xff\xfe")] {
        assert!(client.symlink(ROOT, name.as_bytes(), target).unwrap().kind.is_symlink());
        let fid = client.at(name).unwrap();
        assert_eq!(client.readlink(fid).unwrap(), target);
        let attributes = client.getattr(fid).unwrap();
        assert_eq!((attributes.mode & mode::IFMT, attributes.size), (mode::IFLNK, target.len() as u64));
    }
    assert_eq!(client.symlink(ROOT, b"a", b"x").unwrap_err(), Errno::EEXIST);
    assert_eq!(client.symlink(ROOT, b"e", b"").unwrap_err(), Errno::ENOENT);
    assert_eq!(client.symlink(ROOT, b"e", &[b'x'; 4096]).unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(client.symlink(ROOT, b"e", b"x\0y").unwrap_err(), Errno::EINVAL);
    assert_eq!(client.readlink(ROOT).unwrap_err(), Errno::EINVAL);
}

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

pub fn unlinked_directories_live_while_open(export: &Export) {
    let mut client = export.client();
    client.mkdir("", "d").unwrap();
    let (fid, open) = (client.at("d").unwrap(), client.open("d", RDONLY).unwrap());
    client.unlink("", "d", AT_REMOVEDIR).unwrap();
    client.make("", "d", b"another");
    for fid in [fid, open] {
        assert_eq!(client.getattr(fid).unwrap().mode & mode::IFMT, mode::IFDIR);
        assert_eq!(client.walk(fid, fresh(), &["x"]).unwrap_err(), Errno::ENOENT);
        client.walk(fid, fresh(), &[".."]).unwrap();
        assert_eq!(client.mkdir_in(fid, b"x", 0o755).unwrap_err(), Errno::ENOENT);
        client.statfs(fid).unwrap();
        let set = SetAttributes { valid: setattr::MODE, mode: 0o700, ..SetAttributes::default() };
        client.setattr(fid, set).unwrap();
    }
    // A removed directory lists nothing, or itself, or says that it is gone.
    let listed = client.readdir(open, 0, 1000);
    assert!(listed.as_ref().map_or_else(|error| *error == Errno::ENOENT, |all| all.len() <= 2), "{listed:?}");
}

/// Lists a directory of `count` entries in replies of 8,000 bytes while others come and go.
pub fn list_large_directory(export: &Export, count: usize) {
    let mut client = export.client();
    client.mkdir("", "large").unwrap();
    let large = client.at("large").unwrap();
    for number in 0..count {
        let name = format!("{number:07}");
        client.mknod(large, name.as_bytes(), mode::IFREG | 0o644, (0, 0)).unwrap();
    }
    let open = client.open("large", RDONLY).unwrap();
    let (mut offset, mut seen, mut pieces) = (0, vec![false; count], 0);
    let mut places = Vec::new();
    loop {
        let piece = client.readdir(open, offset, 8000).unwrap();
        let Some(last) = piece.last() else { break };
        offset = last.offset;
        for entry in &piece {
            if let Ok(number) = entry.name.parse::<usize>() {
                assert!(!std::mem::replace(&mut seen[number], true), "{number} is told twice");
            }
        }
        pieces += 1;
        if pieces % 20 == 0 {
            places.push(last.clone());
            let name = format!("new {pieces}");
            client.mknod(large, name.as_bytes(), mode::IFREG | 0o644, (0, 0)).unwrap();
            client.unlink("large", &format!("new {}", pieces - 20), 0).unwrap_or_default();
        }
    }
    assert!(seen.iter().all(|&seen| seen), "all that stay are told");
    // Any place can be gone back to.
    for place in places.iter().rev().take(20) {
        let piece = client.readdir(open, place.offset, 8000).unwrap();
        assert!(piece.iter().all(|entry| entry.name != place.name));
    }
}

pub fn large_directories_are_listed_whole(export: &Export) {
    list_large_directory(export, 3000);
}

pub fn largest_offsets(export: &Export) {
    let mut client = export.client();
    let fid = client.create("", "a", RDWR, 0o644).unwrap();
    let largest = i64::MAX as u64;
    // A filesystem may end files earlier, and says so.
    for offset in [(1 << 44) - 4097, 1 << 40, largest - 1] {
        match client.write(fid, offset, b"x") {
            Ok(count) => {
                assert_eq!(count, 1);
                assert_eq!(client.read(fid, offset, 1).unwrap(), b"x");
                assert!(client.getattr(fid).unwrap().size > offset);
                assert!(client.getattr(fid).unwrap().blocks < 1000);
            }
            Err(error) => assert!(error == Errno::EFBIG || error == Errno::EINVAL, "{offset}: {error}"),
        }
    }
    assert_eq!(client.write(fid, largest, b"x").unwrap_err(), Errno::EINVAL);
    let resize = SetAttributes { valid: setattr::SIZE, size: largest, ..SetAttributes::default() };
    match client.setattr(fid, resize) {
        Ok(()) => assert_eq!(client.getattr(fid).unwrap().size, largest),
        Err(error) => assert!(error == Errno::EFBIG || error == Errno::EINVAL, "{error}"),
    }
}

pub fn unlinked_files_live_while_open(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let (open, fid) = (client.open("a", RDWR).unwrap(), client.at("a").unwrap());
    client.unlink("", "a", 0).unwrap();
    assert!(!client.exists("a"));
    assert_eq!(client.read(open, 0, 100).unwrap(), b"contents");
    assert_eq!(client.write(open, 8, b" more").unwrap(), 5);
    let attributes = client.getattr(open).unwrap();
    assert_eq!((attributes.size, attributes.nlink), (13, 0));
    let resize = SetAttributes { valid: setattr::SIZE, size: 4, ..SetAttributes::default() };
    client.setattr(open, resize).unwrap();
    assert_eq!(client.read(open, 0, 100).unwrap(), b"cont");
    assert_eq!(client.getattr(fid).unwrap().size, 4);
    client.make("", "a", b"another");
    assert_eq!(client.read(open, 0, 100).unwrap(), b"cont");
}

pub fn attributes_are_set(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    let fid = client.at("a").unwrap();
    let set = |valid| SetAttributes { valid, ..SetAttributes::default() };
    client.setattr(fid, SetAttributes { mode: mode::IFDIR | 0o4711, ..set(setattr::MODE) }).unwrap();
    assert_eq!(client.getattr(fid).unwrap().mode, mode::IFREG | 0o4711, "the type stays");
    client.setattr(fid, SetAttributes { size: 3, ..set(setattr::SIZE) }).unwrap();
    client.setattr(fid, SetAttributes { size: 5, ..set(setattr::SIZE) }).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"con\0\0");
    let own = client.getattr(fid).unwrap();
    let owners = SetAttributes { uid: own.uid, gid: own.gid, ..set(setattr::UID | setattr::GID) };
    client.setattr(fid, owners).unwrap();
    client.setattr(fid, set(0)).unwrap();
    assert_eq!(client.setattr(fid, set(0x200)).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.setattr(fid, set(1 << 31)).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.setattr(fid, SetAttributes { size: 1 << 63, ..set(setattr::SIZE) }).unwrap_err(), Errno::EINVAL);
    assert_eq!(client.setattr(ROOT, SetAttributes { size: 0, ..set(setattr::SIZE) }).unwrap_err(), Errno::EISDIR);
    assert_eq!(client.setattr(fresh(), set(0)).unwrap_err(), Errno::EBADF);
}

pub fn times_are_set(export: &Export) {
    let mut client = export.client();
    client.make("", "a", b"contents");
    client.symlink(ROOT, b"link", b"a").unwrap();
    for path in ["a", "link", ""] {
        let fid = client.at(path).unwrap();
        let before = client.getattr(fid).unwrap();
        let given = SetAttributes {
            valid: setattr::ATIME | setattr::ATIME_SET | setattr::MTIME | setattr::MTIME_SET,
            atime_sec: 1_000_000_000,
            atime_nsec: 123_456_789,
            mtime_sec: 981_173_106,
            mtime_nsec: 999_999_999,
            ..SetAttributes::default()
        };
        client.setattr(fid, given).unwrap();
        let after = client.getattr(fid).unwrap();
        assert_eq!((after.atime_sec, after.atime_nsec), (1_000_000_000, 123_456_789));
        assert_eq!((after.mtime_sec, after.mtime_nsec), (981_173_106, 999_999_999));
        assert!(after.ctime_sec >= before.ctime_sec);
        // To now, by the server's clock, and only the one.
        let now = SetAttributes { valid: setattr::MTIME, mtime_sec: 5, ..SetAttributes::default() };
        client.setattr(fid, now).unwrap();
        let after = client.getattr(fid).unwrap();
        assert_eq!(after.atime_sec, 1_000_000_000);
        assert!(after.mtime_sec >= before.mtime_sec);
        let wrong = SetAttributes { mtime_nsec: 1_000_000_000, ..given };
        assert_eq!(client.setattr(fid, wrong).unwrap_err(), Errno::EINVAL);
    }
}

pub fn writing_changes_times_and_version(export: &Export) {
    let mut client = export.client();
    let fid = client.create("", "a", RDWR, 0o644).unwrap();
    let past =
        SetAttributes { valid: setattr::MTIME | setattr::MTIME_SET, mtime_sec: 1000, ..SetAttributes::default() };
    client.setattr(fid, past).unwrap();
    let before = client.getattr(fid).unwrap();
    client.write(fid, 0, b"x").unwrap();
    let after = client.getattr(fid).unwrap();
    assert_eq!(before.mtime_sec, 1000);
    assert!(after.mtime_sec > 1000);
    assert_eq!(after.qid.path, before.qid.path);
    if before.qid.version != 0 {
        assert_ne!(after.qid.version, before.qid.version);
    }

    let before = client.getattr(ROOT).unwrap();
    client.setattr(ROOT, past).unwrap();
    client.make("", "b", b"");
    assert!(client.getattr(ROOT).unwrap().mtime_sec >= before.mtime_sec);
}

pub fn set_group_id_directories(export: &Export) {
    let mut client = export.client();
    client.mkdir_in(ROOT, b"d", 0o755).unwrap();
    let fid = client.at("d").unwrap();
    let set = SetAttributes { valid: setattr::MODE, mode: 0o2755, ..SetAttributes::default() };
    client.setattr(fid, set).unwrap();
    client.mkdir_in(fid, b"sub", 0o755).unwrap();
    client.make("d", "file", b"");
    assert_eq!(client.stat("d/sub").unwrap().mode, mode::IFDIR | 0o2755);
    assert_eq!(client.stat("d/file").unwrap().mode, mode::IFREG | 0o644);
    assert_eq!(client.stat("d/file").unwrap().gid, client.stat("d").unwrap().gid);
}

pub fn special_files(export: &Export) {
    let mut client = export.client();
    for (name, kind, entry) in [
        ("fifo", mode::IFIFO, dirent_type::FIFO),
        ("socket", mode::IFSOCK, dirent_type::SOCK),
        ("file", mode::IFREG, dirent_type::REG),
    ] {
        client.mknod(ROOT, name.as_bytes(), kind | 0o640, (0, 0)).unwrap();
        assert_eq!(client.stat(name).unwrap().mode, kind | 0o640);
        assert!(client.list("", 1000).unwrap().iter().any(|listed| listed.name == name && listed.kind == entry));
    }
    assert_eq!(client.mknod(ROOT, b"fifo", mode::IFIFO | 0o640, (0, 0)).unwrap_err(), Errno::EEXIST);
    // Linux's client makes regular files so, too.
    let fid = client.open("file", RDWR).unwrap();
    client.write(fid, 0, b"x").unwrap();
    assert!(client.mknod(ROOT, b"d", mode::IFDIR | 0o755, (0, 0)).is_err());
    client.unlink("", "fifo", 0).unwrap();
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

pub fn figures(export: &Export) {
    let mut client = export.client();
    let statfs = client.statfs(ROOT).unwrap();
    // V9FS_MAGIC: what the client has mounted is 9P.
    assert_eq!(statfs.kind, 0x0102_1997);
    assert!(statfs.bsize > 0 && statfs.blocks > 0 && statfs.namelen >= 255);
    assert!(statfs.bfree <= statfs.blocks && statfs.bavail <= statfs.bfree && statfs.ffree <= statfs.files);
    assert_eq!(client.statfs(fresh()).unwrap_err(), Errno::EBADF);
}

pub fn syncing(export: &Export) {
    let mut client = export.client();
    let fid = client.create("", "a", RDWR, 0o644).unwrap();
    client.write(fid, 0, b"x").unwrap();
    for datasync in [0, 1] {
        client.done(&Tmessage::Tfsync { fid, datasync }).unwrap();
    }
    let directory = client.open("", RDONLY).unwrap();
    client.done(&Tmessage::Tfsync { fid: directory, datasync: 0 }).unwrap();
    assert_eq!(client.done(&Tmessage::Tfsync { fid: ROOT, datasync: 0 }).unwrap_err(), Errno::EBADF);
}

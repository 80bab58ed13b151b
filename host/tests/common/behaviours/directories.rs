//! Directories: listing, making and removing them.

use ninering_wire::{
    AT_REMOVEDIR, Errno, SetAttributes, Tmessage, dirent_type,
    lopen::{DIRECTORY, RDONLY, RDWR, WRONLY},
    mode, setattr,
};

use crate::common::{Export, ROOT, fresh};

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

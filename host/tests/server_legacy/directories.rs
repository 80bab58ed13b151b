//! Directories of both dialects, which are read as a file of stats.

use ninering_wire::{
    Errno,
    legacy::{Dialect, Stat, Stats, open, perm},
};

use crate::{
    common::legacy::{LegacyClient, Refused, Told},
    in_both_dialects,
};

in_both_dialects! {
    directories_are_read_as_stats
    directories_are_read_where_the_last_read_ended
    large_directories_are_read_to_the_end
    directories_that_change_are_read_to_the_end
    directories_are_not_written
    directories_have_no_length
}

fn directories_are_read_as_stats<D: Dialect>(mut client: LegacyClient<D>) {
    client.mkdir("", "d");
    client.make("d", "file", b"123");
    client.mkdir("d", "inner");
    let fid = client.opened("d", open::READ).unwrap();
    let mut listed = client.listing(fid, 4096).unwrap();
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    let expected = [client.stat_at("d/file").unwrap(), client.stat_at("d/inner").unwrap()];
    assert_eq!(listed, expected, "and neither . nor ..");
    // From the start again.
    assert_eq!(client.listing(fid, 4096).unwrap().len(), 2);
    // One that was made open is read as well.
    let fid = client.create("", "e", perm::DIR | 0o755, open::READ, "").unwrap();
    assert!(client.listing(fid, 4096).unwrap().is_empty());
    client.make("e", "x", b"");
    assert_eq!(client.listing(fid, 4096).unwrap().len(), 1);
}

fn directories_are_read_where_the_last_read_ended<D: Dialect>(mut client: LegacyClient<D>) {
    for name in ["a", "b", "c"] {
        client.make("", name, b"");
    }
    let fid = client.opened("", open::READ).unwrap();
    let all = client.read(fid, 0, 4096).unwrap();
    let lengths: Vec<_> = Stats::<D>::new(&all).map(|stat| stat.unwrap().encoded_len()).collect();
    assert_eq!(lengths.len(), 3);
    // Whole stats, as many as fit.
    let first = client.read(fid, 0, lengths[0] as u32 + 5).unwrap();
    assert_eq!(first, all[..lengths[0]]);
    for offset in [1, lengths[0] as u64 + 1, all.len() as u64, 4096, i64::MAX as u64 - 4096] {
        assert_eq!(client.read(fid, offset, 4096), Err(Refused::of::<D>(Errno::EINVAL)), "{offset}");
    }
    let rest = client.read(fid, lengths[0] as u64, 4096).unwrap();
    assert_eq!([first, rest].concat(), all);
    assert!(client.read(fid, all.len() as u64, 4096).unwrap().is_empty());
    assert!(client.read(fid, all.len() as u64, 4096).unwrap().is_empty());
    // A read that not one fits moves nothing.
    assert_eq!(client.read(fid, 0, lengths[0] as u32 - 1), Err(Refused::of::<D>(Errno::EINVAL)));
    assert!(client.read(fid, 0, 0).unwrap().is_empty());
    assert_eq!(client.read(fid, 0, 4096).unwrap(), all);
}

fn large_directories_are_read_to_the_end<D: Dialect>(mut client: LegacyClient<D>) {
    client.mkdir("", "d");
    let mut expected: Vec<_> = (0..1500).map(|number| format!("file with a name {number:04}")).collect();
    for name in &expected {
        client.make("d", name, b"");
    }
    let fid = client.opened("d", open::READ).unwrap();
    for count in [300, 5_000, 65_536, 1_000_000] {
        let mut names: Vec<_> = client.listing(fid, count).unwrap().into_iter().map(|told| told.name).collect();
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "by {count} bytes");
    }
}

fn directories_that_change_are_read_to_the_end<D: Dialect>(mut client: LegacyClient<D>) {
    client.mkdir("", "d");
    for number in 0..200 {
        client.make("d", &format!("{number:04}"), b"");
    }
    // As `rm -r` does: what was read is removed before the rest is.
    let fid = client.opened("d", open::READ).unwrap();
    let mut offset = 0;
    loop {
        let piece = client.read(fid, offset, 1000).unwrap();
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        for stat in Stats::<D>::new(&piece) {
            let name = Told::from(stat.unwrap()).name;
            let file = client.at(&format!("d/{name}")).unwrap();
            client.remove(file).unwrap();
        }
    }
    assert!(client.names("d").is_empty());
}

fn directories_are_not_written<D: Dialect>(mut client: LegacyClient<D>) {
    client.mkdir("", "d");
    for mode in [open::WRITE, open::RDWR, open::TRUNC, open::RCLOSE, open::EXEC | open::TRUNC] {
        assert_eq!(client.opened("d", mode), Err(Refused::of::<D>(Errno::EISDIR)), "{mode}");
        let made = client.create("d", "inner", perm::DIR | 0o755, mode, "");
        assert_eq!(made, Err(Refused::of::<D>(Errno::EISDIR)), "{mode}");
    }
    assert!(client.names("d").is_empty());
    let fid = client.opened("d", open::READ).unwrap();
    assert_eq!(client.write(fid, 0, b"x"), Err(Refused::of::<D>(Errno::EBADF)));
}

fn directories_have_no_length<D: Dialect>(mut client: LegacyClient<D>) {
    client.mkdir("", "d");
    client.make("d", "file", b"");
    let fid = client.at("d").unwrap();
    assert_eq!(client.stat(fid).unwrap().length, 0);
    client.wstat(fid, Stat { length: 0, ..Stat::unchanged() }).unwrap();
    let longer = Stat { length: 1, ..Stat::unchanged() };
    assert_eq!(client.wstat(fid, longer), Err(Refused::of::<D>(Errno::EISDIR)));
}

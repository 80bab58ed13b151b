//! Files of both dialects: made, opened, written, read and removed.

use ninering_wire::{
    Errno,
    legacy::{self, Dialect, Stat, UnixOnly, open, perm},
};

use crate::{
    common::{
        fresh,
        legacy::{LegacyClient, Refused},
    },
    in_both_dialects, renamed,
};

in_both_dialects! {
    files_are_made_written_and_read
    creating_is_exclusive
    opening_truncates
    opening_to_run_takes_an_executable
    modes_that_mean_nothing_are_refused
    a_fid_is_opened_once
    files_are_removed_with_their_fids
    files_are_removed_on_clunk
    files_are_removed_when_the_session_begins_anew
    what_no_unix_filesystem_has_is_refused
    names_lead_nowhere_else
    errors_are_texts
}

fn files_are_made_written_and_read<D: Dialect>(mut client: LegacyClient<D>) {
    let fid = client.create("", "a", 0o644, open::RDWR, "").unwrap();
    assert_eq!(client.write(fid, 0, b"contents"), Ok(8));
    assert_eq!(client.write(fid, 3, b"___"), Ok(3));
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"con___ts");
    assert_eq!(client.read(fid, 6, 1).unwrap(), b"t");
    assert!(client.read(fid, 8, 10).unwrap().is_empty());
    client.clunk(fid).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"con___ts");

    let reading = client.opened("a", open::READ).unwrap();
    assert_eq!(client.write(reading, 0, b"x"), Err(Refused::of::<D>(Errno::EBADF)));
    let writing = client.opened("a", open::WRITE).unwrap();
    assert_eq!(client.read(writing, 0, 1), Err(Refused::of::<D>(Errno::EBADF)));
    client.mkdir("", "d");
    client.make("d", "inner", b"1");
    assert_eq!(client.contents("d/inner").unwrap(), b"1");
}

fn creating_is_exclusive<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"contents");
    for mode in [open::READ, open::WRITE | open::TRUNC] {
        assert_eq!(client.create("", "a", 0o644, mode, ""), Err(Refused::of::<D>(Errno::EEXIST)));
    }
    let made = client.create("", "a", perm::DIR | 0o755, open::READ, "");
    assert_eq!(made, Err(Refused::of::<D>(Errno::EEXIST)));
    assert_eq!(client.contents("a").unwrap(), b"contents");
    let fid = client.at("a").unwrap();
    assert_eq!(client.create_in(fid, "b", 0o644, open::READ, ""), Err(Refused::of::<D>(Errno::ENOTDIR)));
}

fn opening_truncates<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"contents");
    let fid = client.opened("a", open::RDWR | open::TRUNC).unwrap();
    assert_eq!(client.stat(fid).unwrap().length, 0);
    client.write(fid, 0, b"new").unwrap();
    assert_eq!(client.contents("a").unwrap(), b"new");
}

fn opening_to_run_takes_an_executable<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"#!/bin/rc");
    assert_eq!(client.opened("a", open::EXEC), Err(Refused::of::<D>(Errno::EACCES)));
    client.wstat_at("a", Stat { mode: 0o755, ..Stat::unchanged() }).unwrap();
    let fid = client.opened("a", open::EXEC).unwrap();
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"#!/bin/rc");
    assert!(client.write(fid, 0, b"x").is_err());
    client.opened("", open::EXEC).unwrap();
}

fn modes_that_mean_nothing_are_refused<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"");
    for mode in [0x04, 0x08, 0xff] {
        assert_eq!(client.opened("a", mode), Err(Refused::of::<D>(Errno::EINVAL)));
        assert_eq!(client.create("", "b", 0o644, mode, ""), Err(Refused::of::<D>(Errno::EINVAL)));
    }
    client.opened("a", open::CEXEC).unwrap();
    if !D::IS_UNIX {
        assert_eq!(client.opened("a", open::APPEND), Err(Refused::of::<D>(Errno::EINVAL)));
    }
    for perm in [perm::MOUNT, perm::AUTH, perm::DIR | perm::AUTH, perm::SYMLINK | perm::DIR, 0o1000] {
        let expected = Refused::of::<D>(Errno::EINVAL);
        assert_eq!(client.create("", "b", perm | 0o644, open::READ, "x"), Err(expected), "{perm:o}");
    }
    assert!(!client.exists("b"));
}

fn a_fid_is_opened_once<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"");
    let fid = client.opened("a", open::READ).unwrap();
    assert_eq!(client.open(fid, open::READ), Err(Refused::of::<D>(Errno::EINVAL)));
    assert_eq!(client.walk(fid, fid, &[]), Err(Refused::of::<D>(Errno::EINVAL)));
    let directory = client.opened("", open::READ).unwrap();
    assert_eq!(client.create_in(directory, "b", 0o644, open::READ, ""), Err(Refused::of::<D>(Errno::EINVAL)));
    assert!(!client.exists("b"));
}

fn files_are_removed_with_their_fids<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"contents");
    client.mkdir("", "d");
    client.make("d", "inner", b"");
    let fid = client.opened("a", open::READ).unwrap();
    client.remove(fid).unwrap();
    assert_eq!(client.clunk(fid), Err(Refused::of::<D>(Errno::EBADF)));
    assert!(!client.exists("a"));
    let fid = client.at("d").unwrap();
    assert_eq!(client.remove(fid), Err(Refused::of::<D>(Errno::ENOTEMPTY)));
    assert_eq!(client.clunk(fid), Err(Refused::of::<D>(Errno::EBADF)), "it is clunked even so");
    let fid = client.at("d/inner").unwrap();
    client.remove(fid).unwrap();
    let fid = client.at("d").unwrap();
    client.remove(fid).unwrap();
    assert!(client.names("").is_empty());
}

fn files_are_removed_on_clunk<D: Dialect>(mut client: LegacyClient<D>) {
    let fid = client.create("", "a", 0o644, open::RDWR | open::RCLOSE, "").unwrap();
    client.write(fid, 0, b"contents").unwrap();
    assert_eq!(client.contents("a").unwrap(), b"contents");
    client.clunk(fid).unwrap();
    assert!(!client.exists("a"));
    assert_eq!(client.clunk(fid), Err(Refused::of::<D>(Errno::EBADF)));

    client.make("", "a", b"contents");
    let fid = client.opened("a", open::READ | open::RCLOSE).unwrap();
    // A copy of the fid is another.
    let copy = fresh();
    client.walk(fid, copy, &[]).unwrap();
    client.clunk(copy).unwrap();
    // The file goes, whatever its name is by then.
    client.wstat(fid, renamed("b")).unwrap();
    assert!(client.exists("b"));
    client.clunk(fid).unwrap();
    assert!(client.names("").is_empty());

    // What took its name stays.
    client.make("", "a", b"old");
    let fid = client.opened("a", open::READ | open::RCLOSE).unwrap();
    let other = client.at("a").unwrap();
    client.remove(other).unwrap();
    client.make("", "a", b"new");
    assert_eq!(client.clunk(fid), Err(Refused::of::<D>(Errno::ENOENT)));
    assert_eq!(client.contents("a").unwrap(), b"new");
}

fn files_are_removed_when_the_session_begins_anew<D: Dialect>(mut client: LegacyClient<D>) {
    client.create("", "a", 0o644, open::RDWR | open::RCLOSE, "").unwrap();
    assert!(client.exists("a"));
    client.begin();
    assert!(!client.exists("a"));
}

fn what_no_unix_filesystem_has_is_refused<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"");
    for perm in [perm::APPEND, perm::EXCL, perm::DIR | perm::APPEND] {
        let made = client.create("", "b", perm | 0o644, open::WRITE, "");
        assert_eq!(made, Err(Refused::of::<D>(Errno::EOPNOTSUPP)));
        let mode = perm & !perm::DIR | 0o644;
        let changed = client.wstat_at("a", Stat { mode, ..Stat::unchanged() });
        assert_eq!(changed, Err(Refused::of::<D>(Errno::EOPNOTSUPP)));
    }
    assert!(!client.exists("b"));
    client.create("", "b", perm::TMP | 0o644, open::WRITE, "").unwrap();
}

fn names_lead_nowhere_else<D: Dialect>(mut client: LegacyClient<D>) {
    client.mkdir("", "d");
    client.make("d", "a", b"");
    for name in [".", "..", "x/y", "/x", "x\0", "../x"] {
        let expected = Refused::of::<D>(Errno::EINVAL);
        assert_eq!(client.create("d", name, 0o644, open::READ, ""), Err(expected.clone()), "{name:?}");
        assert_eq!(client.wstat_at("d/a", renamed(name)), Err(expected), "{name:?}");
    }
    assert_eq!(client.create("d", "", 0o644, open::READ, ""), Err(Refused::of::<D>(Errno::ENOENT)));
    let long = "x".repeat(256);
    let expected = Refused::of::<D>(Errno::ENAMETOOLONG);
    assert_eq!(client.create("d", &long, 0o644, open::READ, ""), Err(expected.clone()));
    assert_eq!(client.wstat_at("d/a", renamed(&long)), Err(expected));
    assert_eq!(client.names(""), ["d"]);
    client.make("d", &long[1..], b"");
    assert_eq!(client.names("d").len(), 2);
}

fn errors_are_texts<D: Dialect>(mut client: LegacyClient<D>) {
    let refused = client.at("nothing").unwrap_err();
    assert_eq!(refused.ename, "No such file or directory");
    assert_eq!(refused.errno, D::IS_UNIX.then_some(Errno::ENOENT));
    assert_eq!(client.clunk(12_345), Err(Refused::of::<D>(Errno::EBADF)));
    assert_eq!(client.stat(12_345), Err(Refused::of::<D>(Errno::EBADF)));
    assert_eq!(client.wstat(12_345, Stat::unchanged()), Err(Refused::of::<D>(Errno::EBADF)));
    assert_eq!(client.open(12_345, 0), Err(Refused::of::<D>(Errno::EBADF)));
    assert_eq!(client.create_in(12_345, "x", 0, 0, ""), Err(Refused::of::<D>(Errno::EBADF)));
    let auth = legacy::Tmessage::Tauth { afid: 1, uname: "x".into(), aname: "".into(), n_uname: UnixOnly::new(0) };
    assert_eq!(client.done(&auth), Err(Refused::of::<D>(Errno::EOPNOTSUPP)));
    client.done(&legacy::Tmessage::Tflush { oldtag: 7 }).unwrap();
}

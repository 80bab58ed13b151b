//! `Tstat` and `Twstat` of both dialects.

use ninering_wire::{
    Errno, Qid, QidType,
    legacy::{Dialect, Stat, UnixOnly, open, perm},
};

use crate::{
    common::{
        ROOT, fresh,
        legacy::{LegacyClient, Refused, Told},
    },
    in_both_dialects, renamed,
};

in_both_dialects! {
    files_are_described
    a_root_is_named_by_a_slash
    what_was_reached_upwards_has_its_name
    wstat_changes_what_it_is_told
    wstat_changes_all_or_nothing
    wstat_renames
    wstat_of_nothing_syncs
    wstat_leaves_alone_what_is_fixed
    wstat_of_what_was_told_changes_nothing
}

fn files_are_described<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "file", b"12345");
    client.mkdir("", "directory");
    let file = client.stat_at("file").unwrap();
    assert_eq!((file.name.as_str(), file.length, file.mode & !0o777), ("file", 5, 0));
    assert_eq!(file.mode & 0o700, 0o600);
    let directory = client.stat_at("directory").unwrap();
    assert_eq!((directory.name.as_str(), directory.mode), ("directory", perm::DIR | 0o755));
    assert_eq!(file.muid, "");
    let uid = rustix::process::geteuid().as_raw();
    let (name, gid) = (whoami("-un"), rustix::process::getegid().as_raw());
    for told in [&file, &directory] {
        assert_eq!((&told.uid, told.n_uid), (&name, D::IS_UNIX.then_some(uid)));
        assert!(!told.gid.is_empty());
        assert_eq!(told.n_gid, D::IS_UNIX.then_some(gid));
        assert_eq!(told.n_muid, D::IS_UNIX.then_some(!0));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as u32;
        assert!(told.mtime > 1_600_000_000 && told.mtime <= now + 1 && told.atime > 1_600_000_000);
    }
    assert_eq!(file.extension, D::IS_UNIX.then(|| "HARDLINKCOUNT 1".into()));
    let fid = client.at("file").unwrap();
    assert_eq!(client.walk(ROOT, fresh(), &["file"]).unwrap(), [file.qid]);
    assert_eq!(client.stat(fid).unwrap().qid, file.qid);
}

fn a_root_is_named_by_a_slash<D: Dialect>(mut client: LegacyClient<D>) {
    let root = client.stat(ROOT).unwrap();
    assert_eq!(root.name, "/");
    assert!(root.mode & perm::DIR != 0 && root.qid.kind.is_dir());
    // A name that says so changes nothing.
    client.wstat(ROOT, Stat { name: "/".into(), ..Stat::unchanged() }).unwrap();
    assert_eq!(client.wstat(ROOT, renamed("x")), Err(Refused::of::<D>(Errno::EOPNOTSUPP)));
}

fn what_was_reached_upwards_has_its_name<D: Dialect>(mut client: LegacyClient<D>) {
    client.mkdir("", "one");
    client.mkdir("one", "two");
    assert_eq!(client.stat_at("one/two/..").unwrap().name, "one");
    assert_eq!(client.stat_at("one/two/../..").unwrap().name, "/");
    assert_eq!(client.stat_at("..").unwrap().name, "/");
}

fn wstat_changes_what_it_is_told<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"contents");
    let fid = client.at("a").unwrap();
    let before = client.stat(fid).unwrap();
    client.wstat(fid, Stat { mode: 0o604, ..Stat::unchanged() }).unwrap();
    let after = client.stat(fid).unwrap();
    assert_eq!(after, Told { mode: 0o604, qid: after.qid, ..before.clone() });
    assert_eq!(after.qid.path, before.qid.path);
    client.wstat(fid, Stat { mtime: 1_000_000, ..Stat::unchanged() }).unwrap();
    let after = client.stat(fid).unwrap();
    assert_eq!((after.mtime, after.atime), (1_000_000, before.atime));
    client.wstat(fid, Stat { atime: 2_000_000, ..Stat::unchanged() }).unwrap();
    let after = client.stat(fid).unwrap();
    assert_eq!((after.mtime, after.atime), (1_000_000, 2_000_000));
    client.wstat(fid, Stat { length: 3, ..Stat::unchanged() }).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"con");
    client.wstat(fid, Stat { length: 5, ..Stat::unchanged() }).unwrap();
    assert_eq!(client.contents("a").unwrap(), b"con\0\0");
    let group = client.stat(fid).unwrap().gid;
    client.wstat(fid, Stat { gid: group.as_str().into(), ..Stat::unchanged() }).unwrap();
    let unknown = Stat { gid: "no such group".into(), ..Stat::unchanged() };
    assert_eq!(client.wstat(fid, unknown), Err(Refused::of::<D>(Errno::EINVAL)));

    // All at once; the times are those that were asked for, though the length changed.
    let all = Stat { mode: 0o444, mtime: 3_000_000, atime: 4_000_000, length: 2, ..renamed("b") };
    client.wstat(fid, all).unwrap();
    let after = client.stat(fid).unwrap();
    assert_eq!((after.mode, after.mtime, after.length, after.name.as_str()), (0o444, 3_000_000, 2, "b"));
    assert_eq!(after.atime, 4_000_000);
    assert_eq!(client.contents("b").unwrap(), b"co");
    assert!(!client.exists("a"));
}

fn wstat_changes_all_or_nothing<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"contents");
    client.mkdir("", "d");
    client.make("d", "inner", b"");
    let fid = client.at("a").unwrap();
    let before = client.stat(fid).unwrap();
    let some: Stat<'_, D> = Stat { mode: 0o600, mtime: 1_000_000, length: 3, ..renamed("b") };
    for (wrong, errno) in [
        (Stat { mode: perm::DIR | 0o755, ..some }, Errno::EPERM),
        (Stat { name: "with/slash".into(), ..some }, Errno::EINVAL),
        (Stat { name: "..".into(), ..some }, Errno::EINVAL),
        (Stat { length: u64::MAX - 1, ..some }, Errno::EFBIG),
        (Stat { gid: "no such group".into(), ..some }, Errno::EINVAL),
        (Stat { uid: "no such user".into(), ..some }, Errno::EINVAL),
        (Stat { dev: 7, ..some }, Errno::EPERM),
    ] {
        assert_eq!(client.wstat(fid, wrong), Err(Refused::of::<D>(errno)), "{wrong:?}");
        assert_eq!(client.stat(fid).unwrap(), before);
    }
    // What fails when half of it is done is undone: a directory cannot take the place of one that is not empty.
    client.mkdir("", "e");
    let fid = client.at("e").unwrap();
    let before = client.stat(fid).unwrap();
    let wrong = Stat { mode: perm::DIR | 0o700, mtime: 1_000_000, ..renamed("d") };
    assert!(client.wstat(fid, wrong).is_err());
    assert_eq!(client.stat(fid).unwrap(), before);
    assert_eq!(client.names(""), ["a", "d", "e"]);
}

fn wstat_renames<D: Dialect>(mut client: LegacyClient<D>) {
    client.mkdir("", "d");
    client.make("d", "a", b"contents");
    let fid = client.opened("d/a", open::READ).unwrap();
    client.wstat(fid, renamed("b")).unwrap();
    assert_eq!(client.stat(fid).unwrap().name, "b");
    assert_eq!(client.read(fid, 0, 100).unwrap(), b"contents");
    assert_eq!(client.names("d"), ["b"]);
    // And on, by the same fid; another one that was walked by the old name is told the new one.
    let other = client.at("d/b").unwrap();
    client.wstat(fid, renamed("c")).unwrap();
    client.wstat(fid, renamed("c")).unwrap();
    assert_eq!(client.names("d"), ["c"]);
    assert_eq!(client.stat(other).unwrap().name, "c");
    client.wstat(other, renamed("b")).unwrap();
    client.wstat(fid, renamed("c")).unwrap();
    assert_eq!(client.names("d"), ["c"]);
    let directory = client.at("d").unwrap();
    client.wstat(directory, renamed("e")).unwrap();
    assert_eq!(client.contents("e/c").unwrap(), b"contents");

    client.make("e", "taken", b"other");
    let result = client.wstat(fid, renamed("taken"));
    if D::IS_UNIX {
        assert_eq!(result, Ok(()));
        assert_eq!(client.names("e"), ["taken"]);
        assert_eq!(client.contents("e/taken").unwrap(), b"contents");
    } else {
        assert_eq!(result, Err(Refused::of::<D>(Errno::EEXIST)));
        assert_eq!(client.contents("e/taken").unwrap(), b"other");
        assert_eq!(client.contents("e/c").unwrap(), b"contents");
    }
}

fn wstat_of_nothing_syncs<D: Dialect>(mut client: LegacyClient<D>) {
    let fid = client.create("", "a", 0o644, open::WRITE, "").unwrap();
    client.write(fid, 0, b"contents").unwrap();
    let before = client.stat(fid).unwrap();
    client.wstat(fid, Stat::unchanged()).unwrap();
    assert_eq!(client.stat(fid).unwrap(), before);
    client.wstat_at("a", Stat::unchanged()).unwrap();
    client.wstat(ROOT, Stat::unchanged()).unwrap();
    let directory = client.opened("", open::READ).unwrap();
    client.wstat(directory, Stat::unchanged()).unwrap();
}

fn wstat_leaves_alone_what_is_fixed<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"contents");
    let fid = client.at("a").unwrap();
    let qid = client.stat(fid).unwrap().qid;
    for fixed in [
        Stat { kind: 1, ..Stat::unchanged() },
        Stat { dev: 1, ..Stat::unchanged() },
        Stat { qid: Qid { path: qid.path + 1, ..qid }, ..Stat::unchanged() },
        Stat { qid: Qid { kind: QidType::DIR, ..qid }, ..Stat::unchanged() },
    ] {
        assert_eq!(client.wstat(fid, fixed), Err(Refused::of::<D>(Errno::EPERM)), "{fixed:?}");
    }
    // Linux's client says so when it renames.
    client.wstat(fid, Stat { muid: "nobody".into(), n_muid: UnixOnly::new(3), ..renamed("b") }).unwrap();
    assert_eq!((client.names("").as_slice(), client.stat(fid).unwrap().muid), (&["b".into()][..], String::new()));
    if !D::IS_UNIX && whoami("-un") != "daemon" {
        let given_away = Stat { uid: "daemon".into(), ..Stat::unchanged() };
        assert_eq!(client.wstat(fid, given_away), Err(Refused::of::<D>(Errno::EPERM)));
    }
}

fn wstat_of_what_was_told_changes_nothing<D: Dialect>(mut client: LegacyClient<D>) {
    client.make("", "a", b"contents");
    client.mkdir("", "d");
    for path in ["a", "d", ""] {
        let fid = client.at(path).unwrap();
        let told = client.stat(fid).unwrap();
        let stat: Stat<'_, D> = Stat {
            kind: 0,
            dev: 0,
            qid: told.qid,
            mode: told.mode,
            atime: told.atime,
            mtime: told.mtime,
            length: told.length,
            name: told.name.as_str().into(),
            uid: told.uid.as_str().into(),
            gid: told.gid.as_str().into(),
            muid: told.muid.as_str().into(),
            extension: UnixOnly::new(told.extension.as_deref().unwrap_or_default().into()),
            n_uid: UnixOnly::new(told.n_uid.unwrap_or(!0)),
            n_gid: UnixOnly::new(told.n_gid.unwrap_or(!0)),
            n_muid: UnixOnly::new(told.n_muid.unwrap_or(!0)),
        };
        client.wstat(fid, stat).unwrap();
        assert_eq!(client.stat(fid).unwrap(), told);
    }
}

/// What `id` says of this process's user.
fn whoami(option: &str) -> String {
    let output = std::process::Command::new("id").arg(option).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

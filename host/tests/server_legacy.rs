//! 9P2000 and 9P2000.u, on both backends: what section 5 of Plan 9's manual and the extension for Unix say.

mod common;

use std::sync::Arc;

use common::{
    Client, Direct, ROOT, encode, fresh,
    legacy::{LegacyClient, Refused, Told},
};
use ninering::{
    backend::{Backend, DirBackend, DirOptions, MemBackend},
    payload::Payload,
    server::{Dialect as Spoken, Server, ServerOptions},
};
use ninering_wire::{
    Errno, Frame, NOFID, NOTAG, Names, Rmessage, Str, Tmessage,
    legacy::{self, Dialect, Plan9, Stat, Stats, Unix, UnixOnly, open, perm},
    lopen,
};
use proptest::prelude::*;

/// A server of each backend, and what must live as long.
struct Servers {
    mem: Arc<Server>,
    dir: Arc<Server>,
    directory: tempfile::TempDir,
}

impl Servers {
    fn new() -> Self {
        Self::with(ServerOptions::default())
    }

    fn with(options: ServerOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = DirBackend::new(directory.path(), DirOptions::default()).unwrap();
        let server = |backend: Arc<dyn Backend>| Server::new(backend, options.clone());
        Self { mem: server(Arc::new(MemBackend::default())), dir: server(Arc::new(dir)), directory }
    }
}

/// Runs a test on each backend in each of the dialects.
macro_rules! everywhere {
    ($($(#[$attribute:meta])* $name:ident;)*) => {$(
        #[test]
        $(#[$attribute])*
        fn $name() {
            let servers = Servers::new();
            behaviours::$name(LegacyClient::<Plan9>::attached(&servers.mem));
            behaviours::$name(LegacyClient::<Plan9>::attached(&servers.dir));
            let servers = Servers::new();
            behaviours::$name(LegacyClient::<Unix>::attached(&servers.mem));
            behaviours::$name(LegacyClient::<Unix>::attached(&servers.dir));
        }
    )*};
}

everywhere! {
    files_are_made_written_and_read;
    files_are_described;
    a_root_is_named_by_a_slash;
    what_was_reached_upwards_has_its_name;
    creating_is_exclusive;
    opening_truncates;
    opening_to_run_takes_an_executable;
    modes_that_mean_nothing_are_refused;
    a_fid_is_opened_once;
    files_are_removed_with_their_fids;
    files_are_removed_on_clunk;
    files_are_removed_when_the_session_begins_anew;
    directories_are_read_as_stats;
    directories_are_read_where_the_last_read_ended;
    large_directories_are_read_to_the_end;
    directories_that_change_are_read_to_the_end;
    directories_are_not_written;
    what_no_unix_filesystem_has_is_refused;
    wstat_changes_what_it_is_told;
    wstat_changes_all_or_nothing;
    wstat_renames;
    wstat_of_nothing_syncs;
    wstat_leaves_alone_what_is_fixed;
    wstat_of_what_was_told_changes_nothing;
    directories_have_no_length;
    names_lead_nowhere_else;
    errors_are_texts;
}

/// Runs a test on each backend in 9P2000.u.
macro_rules! in_unix {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let servers = Servers::new();
            unix::$name(LegacyClient::attached(&servers.mem));
            unix::$name(LegacyClient::attached(&servers.dir));
        }
    )*};
}

in_unix! {
    symbolic_links_are_made_and_read
    hard_links_are_made
    fifos_and_sockets_are_made
    set_id_bits_are_kept
    permissions_are_taken_as_they_come
    a_rename_replaces
    files_are_opened_to_append
    owners_are_numbers_too
    extensions_that_say_nothing_are_refused
}

mod behaviours {
    use super::*;

    type C<D> = LegacyClient<D>;

    pub(super) fn files_are_made_written_and_read<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn files_are_described<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn a_root_is_named_by_a_slash<D: Dialect>(mut client: C<D>) {
        let root = client.stat(ROOT).unwrap();
        assert_eq!(root.name, "/");
        assert!(root.mode & perm::DIR != 0 && root.qid.kind.is_dir());
        // A name that says so changes nothing.
        client.wstat(ROOT, Stat { name: "/".into(), ..Stat::unchanged() }).unwrap();
        assert_eq!(client.wstat(ROOT, renamed("x")), Err(Refused::of::<D>(Errno::EOPNOTSUPP)));
    }

    pub(super) fn what_was_reached_upwards_has_its_name<D: Dialect>(mut client: C<D>) {
        client.mkdir("", "one");
        client.mkdir("one", "two");
        assert_eq!(client.stat_at("one/two/..").unwrap().name, "one");
        assert_eq!(client.stat_at("one/two/../..").unwrap().name, "/");
        assert_eq!(client.stat_at("..").unwrap().name, "/");
    }

    pub(super) fn creating_is_exclusive<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn opening_truncates<D: Dialect>(mut client: C<D>) {
        client.make("", "a", b"contents");
        let fid = client.opened("a", open::RDWR | open::TRUNC).unwrap();
        assert_eq!(client.stat(fid).unwrap().length, 0);
        client.write(fid, 0, b"new").unwrap();
        assert_eq!(client.contents("a").unwrap(), b"new");
    }

    pub(super) fn opening_to_run_takes_an_executable<D: Dialect>(mut client: C<D>) {
        client.make("", "a", b"#!/bin/rc");
        assert_eq!(client.opened("a", open::EXEC), Err(Refused::of::<D>(Errno::EACCES)));
        client.wstat_at("a", Stat { mode: 0o755, ..Stat::unchanged() }).unwrap();
        let fid = client.opened("a", open::EXEC).unwrap();
        assert_eq!(client.read(fid, 0, 100).unwrap(), b"#!/bin/rc");
        assert!(client.write(fid, 0, b"x").is_err());
        client.opened("", open::EXEC).unwrap();
    }

    pub(super) fn modes_that_mean_nothing_are_refused<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn a_fid_is_opened_once<D: Dialect>(mut client: C<D>) {
        client.make("", "a", b"");
        let fid = client.opened("a", open::READ).unwrap();
        assert_eq!(client.open(fid, open::READ), Err(Refused::of::<D>(Errno::EINVAL)));
        assert_eq!(client.walk(fid, fid, &[]), Err(Refused::of::<D>(Errno::EINVAL)));
        let directory = client.opened("", open::READ).unwrap();
        assert_eq!(client.create_in(directory, "b", 0o644, open::READ, ""), Err(Refused::of::<D>(Errno::EINVAL)));
        assert!(!client.exists("b"));
    }

    pub(super) fn files_are_removed_with_their_fids<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn files_are_removed_on_clunk<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn files_are_removed_when_the_session_begins_anew<D: Dialect>(mut client: C<D>) {
        client.create("", "a", 0o644, open::RDWR | open::RCLOSE, "").unwrap();
        assert!(client.exists("a"));
        client.begin();
        assert!(!client.exists("a"));
    }

    pub(super) fn directories_are_read_as_stats<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn directories_are_read_where_the_last_read_ended<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn large_directories_are_read_to_the_end<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn directories_that_change_are_read_to_the_end<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn directories_are_not_written<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn what_no_unix_filesystem_has_is_refused<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn wstat_changes_what_it_is_told<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn wstat_changes_all_or_nothing<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn wstat_renames<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn wstat_of_nothing_syncs<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn wstat_leaves_alone_what_is_fixed<D: Dialect>(mut client: C<D>) {
        client.make("", "a", b"contents");
        let fid = client.at("a").unwrap();
        let qid = client.stat(fid).unwrap().qid;
        for fixed in [
            Stat { kind: 1, ..Stat::unchanged() },
            Stat { dev: 1, ..Stat::unchanged() },
            Stat { qid: ninering_wire::Qid { path: qid.path + 1, ..qid }, ..Stat::unchanged() },
            Stat { qid: ninering_wire::Qid { kind: ninering_wire::QidType::DIR, ..qid }, ..Stat::unchanged() },
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

    pub(super) fn wstat_of_what_was_told_changes_nothing<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn directories_have_no_length<D: Dialect>(mut client: C<D>) {
        client.mkdir("", "d");
        client.make("d", "file", b"");
        let fid = client.at("d").unwrap();
        assert_eq!(client.stat(fid).unwrap().length, 0);
        client.wstat(fid, Stat { length: 0, ..Stat::unchanged() }).unwrap();
        let longer = Stat { length: 1, ..Stat::unchanged() };
        assert_eq!(client.wstat(fid, longer), Err(Refused::of::<D>(Errno::EISDIR)));
    }

    pub(super) fn names_lead_nowhere_else<D: Dialect>(mut client: C<D>) {
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

    pub(super) fn errors_are_texts<D: Dialect>(mut client: C<D>) {
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
}

mod unix {
    use super::*;

    type C = LegacyClient<Unix>;

    pub(super) fn symbolic_links_are_made_and_read(mut client: C) {
        let fid = client.create("", "link", perm::SYMLINK | 0o777, open::READ, "../to/nowhere").unwrap();
        let told = client.stat(fid).unwrap();
        assert_eq!((told.mode, told.extension.as_deref()), (perm::SYMLINK | 0o777, Some("../to/nowhere")));
        assert!(told.qid.kind.is_symlink());
        assert_eq!(told.name, "link");
        assert!(client.read(fid, 0, 10).is_err(), "it is not open");
        let long = "x".repeat(4095);
        client.create("", "long", perm::SYMLINK | 0o777, open::READ, &long).unwrap();
        let told = client.stat_at("long").unwrap();
        assert_eq!((told.extension.as_deref(), told.length), (Some(long.as_str()), 4095));
        assert_eq!(client.names(""), ["link", "long"]);
        let longer = "x".repeat(4096);
        let made = client.create("", "longer", perm::SYMLINK | 0o777, open::READ, &longer);
        assert_eq!(made, Err(Refused::of::<Unix>(Errno::ENAMETOOLONG)));
        let link = client.at("link").unwrap();
        client.wstat(link, renamed("renamed")).unwrap();
        client.remove(link).unwrap();
        // 9P2000 lists it as a file, and cannot open it.
        assert_eq!(client.names(""), ["long"]);
    }

    pub(super) fn hard_links_are_made(mut client: C) {
        client.make("", "a", b"contents");
        client.mkdir("", "d");
        let target = client.at("a").unwrap();
        let fid = client.create("d", "b", perm::LINK, open::READ, &format!("{target}\n")).unwrap();
        let (one, other) = (client.stat(target).unwrap(), client.stat(fid).unwrap());
        assert_eq!((one.qid, other.name.as_str()), (other.qid, "b"));
        assert_eq!(other.extension.as_deref(), Some("HARDLINKCOUNT 2"));
        client.remove(target).unwrap();
        assert_eq!(client.contents("d/b").unwrap(), b"contents");
        let directory = client.at("d").unwrap();
        assert!(client.create("", "e", perm::LINK, open::READ, &directory.to_string()).is_err());
        for (extension, errno) in [("99999", Errno::EBADF), ("", Errno::EINVAL), ("x", Errno::EINVAL)] {
            let made = client.create("", "e", perm::LINK, open::READ, extension);
            assert_eq!(made, Err(Refused::of::<Unix>(errno)), "{extension:?}");
        }
    }

    pub(super) fn fifos_and_sockets_are_made(mut client: C) {
        for (name, bit) in [("fifo", perm::NAMEDPIPE), ("socket", perm::SOCKET)] {
            let fid = client.create("", name, bit | 0o640, open::READ, "").unwrap();
            let told = client.stat(fid).unwrap();
            assert_eq!((told.mode, told.extension.as_deref()), (bit | 0o640, Some("")));
            assert_eq!(client.open(fid, open::READ), Err(Refused::of::<Unix>(Errno::ENXIO)));
            client.wstat(fid, Stat { mode: bit | 0o600, ..Stat::unchanged() }).unwrap();
            assert_eq!(client.stat_at(name).unwrap().mode, bit | 0o600);
            client.wstat(fid, Stat::unchanged()).unwrap();
        }
        // Where it is permitted, as to root.
        match client.create("", "null", perm::DEVICE | 0o666, open::READ, "c 1 3") {
            Ok(fid) => {
                let told = client.stat(fid).unwrap();
                assert_eq!((told.mode, told.extension.as_deref()), (perm::DEVICE | 0o666, Some("c 1 3")));
                assert_eq!(client.open(fid, open::READ), Err(Refused::of::<Unix>(Errno::ENXIO)));
            }
            Err(refused) => assert_eq!(refused, Refused::of::<Unix>(Errno::EPERM)),
        }
    }

    pub(super) fn set_id_bits_are_kept(mut client: C) {
        let fid = client.create("", "a", perm::SETUID | perm::SETGID | 0o755, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, perm::SETUID | perm::SETGID | 0o755);
        client.wstat(fid, Stat { mode: 0o755, ..Stat::unchanged() }).unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, 0o755);
        let fid = client.create("", "d", perm::DIR | perm::SETVTX | 0o777, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, perm::DIR | perm::SETVTX | 0o777);
    }

    pub(super) fn permissions_are_taken_as_they_come(mut client: C) {
        let fid = client.create("", "d", perm::DIR | 0o700, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, perm::DIR | 0o700);
        let fid = client.create("d", "a", 0o666, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, 0o666);
    }

    pub(super) fn a_rename_replaces(mut client: C) {
        client.make("", "a", b"new");
        client.make("", "b", b"old");
        let old = client.opened("b", open::READ).unwrap();
        client.wstat_at("a", renamed("b")).unwrap();
        assert_eq!(client.names(""), ["b"]);
        assert_eq!(client.contents("b").unwrap(), b"new");
        assert_eq!(client.read(old, 0, 10).unwrap(), b"old");
    }

    pub(super) fn files_are_opened_to_append(mut client: C) {
        client.make("", "a", b"one");
        let fid = client.opened("a", open::WRITE | open::APPEND).unwrap();
        client.write(fid, 0, b"two").unwrap();
        client.write(fid, 0, b"three").unwrap();
        assert_eq!(client.contents("a").unwrap(), b"onetwothree");
        let fid = client.create("", "b", 0o644, open::RDWR | open::APPEND, "").unwrap();
        client.write(fid, 100, b"x").unwrap();
        assert_eq!(client.read(fid, 0, 10).unwrap(), b"x");
    }

    pub(super) fn owners_are_numbers_too(mut client: C) {
        client.make("", "a", b"");
        let fid = client.at("a").unwrap();
        let before = client.stat(fid).unwrap();
        let changed = client.wstat(fid, Stat { n_uid: UnixOnly::new(12_345_678), ..Stat::unchanged() });
        match changed {
            Ok(()) => {
                let after = client.stat(fid).unwrap();
                assert_eq!((after.uid.as_str(), after.n_uid), ("12345678", Some(12_345_678)));
                // A number comes before a name.
                let back =
                    Stat { n_uid: UnixOnly::new(before.n_uid.unwrap()), uid: "daemon".into(), ..Stat::unchanged() };
                client.wstat(fid, back).unwrap();
                client.wstat(fid, Stat { uid: "4444".into(), gid: "5555".into(), ..Stat::unchanged() }).unwrap();
                let after = client.stat(fid).unwrap();
                assert_eq!((after.n_uid, after.n_gid), (Some(4444), Some(5555)));
            }
            Err(refused) => {
                assert_eq!(refused, Refused::of::<Unix>(Errno::EPERM));
                assert_eq!(client.stat(fid).unwrap(), before);
            }
        }
    }

    pub(super) fn extensions_that_say_nothing_are_refused(mut client: C) {
        for (perm, extension, errno) in [
            (perm::DEVICE, "", Errno::EINVAL),
            (perm::DEVICE, "b 8", Errno::EINVAL),
            (perm::DEVICE, "b 8 1 2", Errno::EINVAL),
            (perm::DEVICE, "p 8 1", Errno::EINVAL),
            (perm::SYMLINK, "", Errno::ENOENT),
            (perm::SYMLINK, "a\0b", Errno::EINVAL),
            (perm::SYMLINK | perm::DEVICE, "b 8 1", Errno::EINVAL),
        ] {
            let made = client.create("", "x", perm | 0o644, open::READ, extension);
            assert_eq!(made, Err(Refused::of::<Unix>(errno)), "{extension:?}");
        }
        assert!(client.names("").is_empty());
    }
}

/// A stat that changes the name alone.
fn renamed<D: Dialect>(name: &str) -> Stat<'_, D> {
    Stat { name: name.into(), ..Stat::unchanged() }
}

/// What `id` says of this process's user.
fn whoami(option: &str) -> String {
    let output = std::process::Command::new("id").arg(option).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What a server answers to a version.
fn answer(server: &Arc<Server>, version: &str) -> String {
    let mut client = LegacyClient::<Plan9>::new(Direct { session: Arc::new(server.session()), space: None });
    let (msize, version) = client.version(8192, version.as_bytes());
    assert_eq!(msize, 8192);
    String::from_utf8(version).unwrap()
}

#[test]
fn the_dialect_is_the_client_s_or_an_older_one() {
    let servers = Servers::new();
    for (asked, answered) in [
        ("9P2000.L", "9P2000.L"),
        ("9P2000.u", "9P2000.u"),
        ("9P2000", "9P2000"),
        ("9P2000.xyz", "9P2000"),
        ("9P2000.L.Google.7", "9P2000.L"),
        ("9P2001", "9P2000"),
        ("9Q2000", "unknown"),
        ("NFSv4", "unknown"),
    ] {
        assert_eq!(answer(&servers.mem, asked), answered);
    }
    let options = ServerOptions { dialects: [Spoken::Linux, Spoken::Unix].into_iter().collect(), ..Default::default() };
    let servers = Servers::with(options);
    for (asked, answered) in [("9P2000.L", "9P2000.L"), ("9P2000.u", "9P2000.u"), ("9P2000", "unknown")] {
        assert_eq!(answer(&servers.mem, asked), answered);
    }
}

#[test]
fn a_session_changes_its_dialect() {
    let servers = Servers::new();
    let session = Arc::new(servers.mem.session());
    let mut linux = Client::of_session(Arc::clone(&session));
    linux.make("", "a", b"contents");
    let mut plan9 = LegacyClient::<Plan9>::of_session(Arc::clone(&session));
    assert_eq!(plan9.contents("a").unwrap(), b"contents");
    // Now it knows nothing of the other's messages, and answers in the dialect that there is.
    let getattr = encode(3, &Tmessage::Tgetattr { fid: ROOT, request_mask: !0 }, &[]);
    let reply = plan9.transport.exchange(getattr.clone());
    let frame = Frame::<legacy::Rmessage<'_, Plan9>>::decode(&reply).unwrap();
    let ename = Errno::EOPNOTSUPP.description().into();
    assert_eq!((frame.tag, frame.message), (3, legacy::Rmessage::Rerror { ename, errno: UnixOnly::default() }));
    let mut unix = LegacyClient::<Unix>::of_session(Arc::clone(&session));
    assert_eq!(unix.contents("a").unwrap(), b"contents");
    linux.begin();
    assert_eq!(linux.contents("a").unwrap(), b"contents");
    assert!(Frame::<Rmessage<'_>>::decode(&linux.transport.exchange(getattr)).is_ok());
    // And 9P2000.L knows nothing of theirs.
    let stat = [&11_u32.to_le_bytes()[..], &[124, 5, 0], &ROOT.to_le_bytes()].concat();
    let reply = linux.transport.exchange(stat);
    let frame = Frame::<Rmessage<'_>>::decode(&reply).unwrap();
    assert_eq!(frame.message, Rmessage::Rlerror { ecode: Errno::EOPNOTSUPP.0 });
}

#[test]
fn nothing_is_answered_without_a_version() {
    let servers = Servers::new();
    let session = Arc::new(servers.mem.session());
    let mut client = LegacyClient::<Plan9>::new(Direct { session: Arc::clone(&session), space: None });
    // One that is refused, for its msize, tells why in the dialect that was asked for.
    let version = encode(NOTAG, &Tmessage::Tversion { msize: 100, version: "9P2000".into() }, &[]);
    let reply = client.transport.exchange(version);
    let frame = Frame::<legacy::Rmessage<'_, Plan9>>::decode(&reply).unwrap();
    let ename = Errno::EINVAL.description().into();
    assert_eq!(frame.message, legacy::Rmessage::Rerror { ename, errno: UnixOnly::default() });
    assert_eq!(client.attach(ROOT, ""), Err(Refused::of::<Plan9>(Errno::EPROTO)));
    client.begin();
    client.stat(ROOT).unwrap();
}

#[test]
fn read_only_is_read_only() {
    let servers = Servers::new();
    LegacyClient::<Unix>::attached(&servers.dir).make("", "a", b"contents");
    let backend = DirBackend::new(servers.directory.path(), DirOptions::default()).unwrap();
    let options = ServerOptions { read_only: true, ..ServerOptions::default() };
    let mut client = LegacyClient::<Unix>::attached(&Server::new(Arc::new(backend), options));
    let refused = Refused::of::<Unix>(Errno::EROFS);
    assert_eq!(client.contents("a").unwrap(), b"contents");
    for mode in [open::WRITE, open::RDWR, open::READ | open::TRUNC, open::READ | open::RCLOSE] {
        assert_eq!(client.opened("a", mode), Err(refused.clone()));
    }
    assert_eq!(client.create("", "b", 0o644, open::READ, ""), Err(refused.clone()));
    assert_eq!(client.wstat_at("a", Stat { mode: 0o600, ..Stat::unchanged() }), Err(refused.clone()));
    client.wstat_at("a", Stat::unchanged()).unwrap();
    let fid = client.at("a").unwrap();
    assert_eq!(client.remove(fid), Err(refused));
    assert_eq!(client.names(""), ["a"]);
}

#[test]
fn what_a_lost_client_wanted_removed_is_removed() {
    let servers = Servers::new();
    let session = Arc::new(servers.dir.session());
    let mut client = LegacyClient::<Plan9>::of_session(Arc::clone(&session));
    client.create("", "a", 0o644, open::RDWR | open::RCLOSE, "").unwrap();
    assert!(servers.directory.path().join("a").exists());
    drop((client, session));
    assert!(!servers.directory.path().join("a").exists());
}

#[test]
fn links_and_fifos_are_files_to_plan_9_that_it_cannot_open() {
    let servers = Servers::new();
    for server in [&servers.mem, &servers.dir] {
        let mut unix = LegacyClient::<Unix>::attached(server);
        unix.create("", "link", perm::SYMLINK | 0o777, open::READ, "/etc/passwd").unwrap();
        unix.create("", "fifo", perm::NAMEDPIPE | 0o666, open::READ, "").unwrap();
        let mut plan9 = LegacyClient::<Plan9>::attached(server);
        assert_eq!(plan9.names(""), ["fifo", "link"]);
        assert_eq!((plan9.stat_at("link").unwrap().mode, plan9.stat_at("fifo").unwrap().mode), (0o777, 0o666));
        assert!(plan9.opened("link", open::READ).is_err());
        assert!(plan9.opened("fifo", open::READ).is_err());
        assert!(plan9.at("link/x").is_err());
    }
}

#[test]
fn new_files_of_plan_9_have_what_their_directory_has() {
    let servers = Servers::new();
    for server in [&servers.mem, &servers.dir] {
        let mut client = LegacyClient::<Plan9>::attached(server);
        let fid = client.create("", "d", perm::DIR | 0o777, open::READ, "").unwrap();
        client.wstat(fid, Stat { mode: perm::DIR | 0o751, ..Stat::unchanged() }).unwrap();
        let fid = client.create("d", "a", 0o666, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, 0o640);
        // Whether it can be run is not inherited by files.
        let fid = client.create("d", "b", 0o777, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, 0o751);
        let fid = client.create("d", "c", perm::DIR | 0o777, open::READ, "").unwrap();
        assert_eq!(client.stat(fid).unwrap().mode, perm::DIR | 0o751);
    }
}

#[test]
fn stats_are_no_longer_than_a_message() {
    let servers = Servers::new();
    let mut client = LegacyClient::<Unix>::attached(&servers.mem);
    client.create("", &"n".repeat(255), perm::SYMLINK | 0o777, open::READ, &"x".repeat(4095)).unwrap();
    client.make("", "short", b"");
    assert_eq!(client.version(4096, b"9P2000.u"), (4096, b"9P2000.u".to_vec()));
    client.attach(ROOT, "").unwrap();
    let fid = client.at(&"n".repeat(255)).unwrap();
    assert_eq!(client.stat(fid), Err(Refused::of::<Unix>(Errno::ENOBUFS)));
    client.stat_at("short").unwrap();
}

#[test]
fn errors_are_cut_off_where_there_is_little_space() {
    let servers = Servers::new();
    let session = servers.mem.session();
    let mut client = LegacyClient::<Unix>::new(Direct { session: Arc::new(servers.mem.session()), space: None });
    client.begin();
    for (space, text) in [(100, "No such file or directory"), (13 + 7, "No such"), (13, ""), (12, "-"), (0, "-")] {
        let mut reply = vec![0; space];
        let version = encode(NOTAG, &Tmessage::Tversion { msize: 8192, version: "9P2000.u".into() }, &[]);
        session.handle(&version, &Payload::empty(), &Payload::from(&mut [0; 30][..]));
        let length = session.answer_error(5, Errno::ENOENT, &Payload::from(&mut reply[..]));
        match Frame::<legacy::Rmessage<'_, Unix>>::decode(&reply[..length]) {
            Ok(Frame { message: legacy::Rmessage::Rerror { ename, errno }, tag: 5, .. }) => {
                assert_eq!((ename, errno.get()), (text.into(), Some(2)));
            }
            other => assert!(length == 0 && text == "-", "{other:?} in {space}"),
        }
    }
}

#[test]
fn linux_s_rights_to_a_file_do_not_change_by_the_dialect() {
    let servers = Servers::new();
    let mut linux = Client::attached(Arc::clone(&servers.dir));
    let mut plan9 = LegacyClient::<Plan9>::attached(&servers.dir);
    let fid = linux.create("", "a", lopen::RDWR, 0o4755).unwrap();
    // 9P2000 cannot see the set-user-ID bit, and does not lose it.
    plan9.wstat_at("a", Stat { mode: 0o700, ..Stat::unchanged() }).unwrap();
    assert_eq!(linux.getattr(fid).unwrap().mode, 0o104700);
}

/// What a request is made of; which fields matter, its type decides.
type Parts = (u8, [u32; 2], String, u32, u8, [u64; 2], Vec<String>);

fn parts() -> impl Strategy<Value = Parts> {
    let fid = || prop_oneof![8 => 0..8_u32, 1 => Just(NOFID)];
    let known = vec!["a", "b", "c", "d", "", ".", "..", "/", "0", "1", "b 8 1", "c 1 3"];
    let name = move || prop_oneof![9 => prop::sample::select(known.clone()).prop_map(String::from), 1 => ".{0,20}"];
    let perm = prop_oneof![4 => 0..0o1000_u32, 4 => (0..32_u32).prop_map(|bit| 1 << bit | 0o644), 1 => any::<u32>()];
    let number = || prop_oneof![4 => 0..500_u64, 1 => Just(u64::MAX), 1 => any::<u64>()];
    let mode = prop_oneof![3 => 0..4_u8, 2 => any::<u8>()];
    (any::<u8>(), [fid(), fid()], name.clone()(), perm, mode, [number(), number()], prop::collection::vec(name(), 0..4))
}

fn request<'a, D: Dialect>((kind, fids, name, perm, mode, numbers, names): &'a Parts) -> legacy::Tmessage<'a, D> {
    let (&[fid, newfid], &[offset, count]) = (fids, numbers);
    let extension = UnixOnly::new(names.first().map_or("", String::as_str).into());
    match kind % 11 {
        0 => legacy::Tmessage::Twalk {
            fid,
            newfid,
            names: Names::collect(names.iter().map(|name| Str::from(name.as_str()))).unwrap(),
        },
        1 => legacy::Tmessage::Topen { fid, mode: *mode },
        2 | 3 => legacy::Tmessage::Tcreate { fid, name: name.as_str().into(), perm: *perm, mode: *mode, extension },
        4 => legacy::Tmessage::Tread { fid, offset, count: count as u32 },
        5 => legacy::Tmessage::Twrite { fid, offset: offset % 100_000, count: (count % 5) as u32 },
        6 => legacy::Tmessage::Tclunk { fid },
        7 => legacy::Tmessage::Tremove { fid },
        8 => legacy::Tmessage::Tstat { fid },
        9 => legacy::Tmessage::Tattach {
            fid,
            afid: NOFID,
            uname: "".into(),
            aname: "".into(),
            n_uname: UnixOnly::new(0),
        },
        _ => {
            let mut stat = Stat { name: name.as_str().into(), ..Stat::unchanged() };
            if perm % 3 == 0 {
                stat.mode = *perm;
            }
            if offset % 2 == 0 {
                stat.length = offset % 10_000;
            }
            if count % 2 == 0 {
                stat.mtime = *numbers.last().unwrap() as u32;
            }
            stat.extension = extension;
            legacy::Tmessage::Twstat { fid, stat: legacy::Counted(stat) }
        }
    }
}

/// Each is answered by its own reply or an `Rerror`, whole.
fn any_requests_are_answered<D: Dialect>(server: &Arc<Server>, all: &[Parts]) {
    let mut client = LegacyClient::<D>::attached(server);
    for parts in all {
        let message = request::<D>(parts);
        let payload = vec![0x5a; ninering_wire::Message::payload_len(&message) as usize];
        let _ = client.call(&message, &payload);
    }
    client.begin();
    let _ = client.names("");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_requests_are_answered_in_plan_9(all in prop::collection::vec(parts(), 1..60)) {
        let servers = Servers::new();
        any_requests_are_answered::<Plan9>(&servers.mem, &all);
        any_requests_are_answered::<Plan9>(&servers.dir, &all);
    }

    #[test]
    fn any_requests_are_answered_in_unix(all in prop::collection::vec(parts(), 1..60)) {
        let servers = Servers::new();
        any_requests_are_answered::<Unix>(&servers.mem, &all);
        any_requests_are_answered::<Unix>(&servers.dir, &all);
    }
}

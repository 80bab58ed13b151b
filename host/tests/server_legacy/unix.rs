//! What 9P2000.u has more: links, special files, numbers of owners, and rights as Unix has them.

use ninering_wire::{
    Errno,
    legacy::{Stat, Unix, UnixOnly, open, perm},
};

use crate::{
    common::legacy::{LegacyClient, Refused},
    renamed,
};

/// Makes functions that take a client of 9P2000.u tests, on each backend.
macro_rules! in_unix {
    ($($name:ident)*) => {
        mod tests {
            use crate::{Servers, common::legacy::LegacyClient};
            $(
                #[test]
                fn $name() {
                    let servers = Servers::new();
                    super::$name(LegacyClient::attached(&servers.mem));
                    super::$name(LegacyClient::attached(&servers.dir));
                }
            )*
        }
    };
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

fn symbolic_links_are_made_and_read(mut client: LegacyClient<Unix>) {
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

fn hard_links_are_made(mut client: LegacyClient<Unix>) {
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

fn fifos_and_sockets_are_made(mut client: LegacyClient<Unix>) {
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

fn set_id_bits_are_kept(mut client: LegacyClient<Unix>) {
    let fid = client.create("", "a", perm::SETUID | perm::SETGID | 0o755, open::READ, "").unwrap();
    assert_eq!(client.stat(fid).unwrap().mode, perm::SETUID | perm::SETGID | 0o755);
    client.wstat(fid, Stat { mode: 0o755, ..Stat::unchanged() }).unwrap();
    assert_eq!(client.stat(fid).unwrap().mode, 0o755);
    let fid = client.create("", "d", perm::DIR | perm::SETVTX | 0o777, open::READ, "").unwrap();
    assert_eq!(client.stat(fid).unwrap().mode, perm::DIR | perm::SETVTX | 0o777);
}

fn permissions_are_taken_as_they_come(mut client: LegacyClient<Unix>) {
    let fid = client.create("", "d", perm::DIR | 0o700, open::READ, "").unwrap();
    assert_eq!(client.stat(fid).unwrap().mode, perm::DIR | 0o700);
    let fid = client.create("d", "a", 0o666, open::READ, "").unwrap();
    assert_eq!(client.stat(fid).unwrap().mode, 0o666);
}

fn a_rename_replaces(mut client: LegacyClient<Unix>) {
    client.make("", "a", b"new");
    client.make("", "b", b"old");
    let old = client.opened("b", open::READ).unwrap();
    client.wstat_at("a", renamed("b")).unwrap();
    assert_eq!(client.names(""), ["b"]);
    assert_eq!(client.contents("b").unwrap(), b"new");
    assert_eq!(client.read(old, 0, 10).unwrap(), b"old");
}

fn files_are_opened_to_append(mut client: LegacyClient<Unix>) {
    client.make("", "a", b"one");
    let fid = client.opened("a", open::WRITE | open::APPEND).unwrap();
    client.write(fid, 0, b"two").unwrap();
    client.write(fid, 0, b"three").unwrap();
    assert_eq!(client.contents("a").unwrap(), b"onetwothree");
    let fid = client.create("", "b", 0o644, open::RDWR | open::APPEND, "").unwrap();
    client.write(fid, 100, b"x").unwrap();
    assert_eq!(client.read(fid, 0, 10).unwrap(), b"x");
}

fn owners_are_numbers_too(mut client: LegacyClient<Unix>) {
    client.make("", "a", b"");
    let fid = client.at("a").unwrap();
    let before = client.stat(fid).unwrap();
    let changed = client.wstat(fid, Stat { n_uid: UnixOnly::new(12_345_678), ..Stat::unchanged() });
    match changed {
        Ok(()) => {
            let after = client.stat(fid).unwrap();
            assert_eq!((after.uid.as_str(), after.n_uid), ("12345678", Some(12_345_678)));
            // A number comes before a name.
            let back = Stat { n_uid: UnixOnly::new(before.n_uid.unwrap()), uid: "daemon".into(), ..Stat::unchanged() };
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

fn extensions_that_say_nothing_are_refused(mut client: LegacyClient<Unix>) {
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

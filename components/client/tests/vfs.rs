//! What the filesystem calls do, against an honest server.

mod support;

use ninering_client::{
    Error,
    vfs::{OpenFlags, Value},
};
use ninering_wire::{Errno, SetAttributes, mode, setattr};
use support::{CREATE, Fixture, MemoryRing, PATH, READ, Server, WRITE, errno, run};

fn sample() -> Fixture {
    Fixture::new(
        Server::new()
            .file("file", "contents")
            .file("a/b/c/deep", "deep")
            .file("a/sibling", "sibling")
            .directory("empty")
            .link("to-file", "file")
            .link("to-a", "a")
            .link("a/b/up", "../../file")
            .link("a/b/absolute", "/a/sibling")
            .link("a/b/out", "../../../outside")
            .link("dangling", "a/made")
            .link("slashed", "file/")
            .link("loop", "loop")
            .link("ping", "pong")
            .link("pong", "ping"),
    )
}

fn stat_error(fixture: &Fixture, path: &str) -> Option<Errno> {
    match fixture.stat(path, true) {
        Ok(_) => None,
        Err(Error::Errno(errno)) => Some(errno),
        Err(error) => panic!("{path}: {error}"),
    }
}

/// The number of the file that a path leads to.
fn inode(fixture: &Fixture, path: &str) -> u64 {
    fixture.stat(path, true).unwrap_or_else(|error| panic!("{path}: {error}")).qid.path
}

#[test]
fn starting_yields_the_root() {
    let fixture = Fixture::not_started(MemoryRing::new(Server::new(), 64));
    let started = fixture.mount.start(support::options());
    let Ok(Value::Qid(qid)) = fixture.finish(started) else { panic!("no qid") };
    assert!(qid.kind.is_dir());
    assert_eq!(fixture.mount.session().msize(), 64 * 1024);
    assert_eq!(fixture.mount.session().payload_max(), 60 * 1024);
    let again = fixture.mount.start(support::options());
    assert_eq!(fixture.finish(again), errno(Errno::EALREADY));
    fixture.assert_no_leak(0);
}

#[test]
fn a_path_of_names_is_one_walk() {
    let fixture = sample();
    fixture.ring.take_log();
    fixture.stat("a/b//./c/deep", true).unwrap();
    assert_eq!(fixture.ring.take_log(), ["Twalk", "Tgetattr"]);
    fixture.assert_no_leak(0);
}

#[test]
fn a_path_of_more_names_than_a_walk_takes_is_several() {
    let path = (0..40).map(|depth| format!("d{depth}")).collect::<Vec<_>>().join("/");
    let fixture = Fixture::new(Server::new().file(&path, "x").link("a/link", &format!("../{path}")));
    assert_eq!(fixture.stat(&path, true).unwrap().size, 1);
    assert_eq!(fixture.stat("a/link", true).unwrap().size, 1);
    assert_eq!(stat_error(&fixture, &format!("{path}/more")), Some(Errno::ENOTDIR));
    let dots = path.replace("/d39", "/../d38/d39");
    assert_eq!(fixture.stat(&dots, true).unwrap().size, 1);
    fixture.assert_no_leak(0);
}

#[test]
fn symbolic_links_lead_where_they_say() {
    let fixture = sample();
    let file = inode(&fixture, "file");
    for path in ["to-file", "to-a/b/up", "a/b/up", "to-a/../to-file", "./to-file"] {
        assert_eq!(inode(&fixture, path), file, "{path}");
    }
    assert_eq!(inode(&fixture, "a/b/absolute"), inode(&fixture, "a/sibling"));
    assert_eq!(inode(&fixture, "to-a/sibling"), inode(&fixture, "a/sibling"));
    let link = fixture.stat("to-file", false).unwrap();
    assert_eq!(link.mode & mode::IFMT, mode::IFLNK);
    assert_eq!(run!(fixture, read_link(0, "a/b/up".into())), Ok(Value::Target(b"../../file".to_vec())));
    assert_eq!(run!(fixture, read_link(0, "file".into())), errno(Errno::EINVAL));
    fixture.assert_no_leak(0);
}

#[test]
fn symbolic_links_that_go_round_are_eloop() {
    let fixture = sample();
    for path in ["loop", "ping", "ping/x", "loop/"] {
        assert_eq!(stat_error(&fixture, path), Some(Errno::ELOOP), "{path}");
    }
    fixture.assert_no_leak(0);
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let mut server = Server::new().file("l0", "end");
    for number in 1..=41 {
        server = server.link(&format!("l{number}"), &format!("l{}", number - 1));
    }
    let fixture = Fixture::new(server);
    assert_eq!(stat_error(&fixture, "l40"), None);
    assert_eq!(stat_error(&fixture, "l41"), Some(Errno::ELOOP));
}

#[test]
fn dot_dot_is_the_parent_of_where_a_link_leads() {
    let fixture = Fixture::new(
        Server::new().file("target/inner/x", "").file("target/here", "1").file("here", "22").link("l", "target/inner"),
    );
    assert_eq!(fixture.stat("l/../here", true).unwrap().size, 1);
    assert_eq!(fixture.stat("l/../../here", true).unwrap().size, 2);
    fixture.assert_no_leak(0);
}

#[test]
fn names_before_dot_dot_must_be_directories() {
    let fixture = sample();
    assert_eq!(stat_error(&fixture, "missing/.."), Some(Errno::ENOENT));
    assert_eq!(stat_error(&fixture, "missing/../file"), Some(Errno::ENOENT));
    assert_eq!(stat_error(&fixture, "file/.."), Some(Errno::ENOTDIR));
    assert_eq!(stat_error(&fixture, "file/../file"), Some(Errno::ENOTDIR));
    assert_eq!(stat_error(&fixture, "a/../file"), None);
    fixture.assert_no_leak(0);
}

#[test]
fn nothing_leads_above_the_base() {
    let fixture = sample();
    for path in ["..", "../x", "a/../..", "a/b/../../..", "a/b/out", "a/b/out/more", "to-a/../.."] {
        assert_eq!(stat_error(&fixture, path), Some(Errno::EPERM), "{path}");
    }
    assert_eq!(stat_error(&fixture, "a/b/../.."), None);
    let node = fixture.open("a/b", PATH).unwrap();
    for path in ["..", "c/../..", "up", "out"] {
        assert_eq!(fixture.stat_at(node, path, true), Err(Errno::EPERM.into()), "{path}");
    }
    // An absolute target is the mount's root, which is above this base.
    assert_eq!(fixture.stat_at(node, "absolute", true), Err(Errno::EPERM.into()));
    assert_eq!(fixture.stat_at(node, "c/../c/deep", true).unwrap().size, 4);
    fixture.mount.close(node);
    fixture.assert_no_leak(0);
}

#[test]
fn what_is_no_relative_path_is_refused() {
    let fixture = sample();
    fixture.ring.take_log();
    let long = "n".repeat(256);
    let longest = "n".repeat(255);
    let too_long = "a/".repeat(2048);
    for (path, expected) in [
        ("", Errno::ENOENT),
        ("/", Errno::EPERM),
        ("/file", Errno::EPERM),
        ("fi\0le", Errno::EINVAL),
        (&long, Errno::ENAMETOOLONG),
        (&too_long, Errno::ENAMETOOLONG),
    ] {
        assert_eq!(stat_error(&fixture, path), Some(expected), "{path:?}");
        let name = path.to_owned();
        assert_eq!(run!(fixture, make_directory(0, name, 0o755)), errno(expected), "{path:?}");
    }
    assert_eq!(fixture.ring.take_log(), Vec::<&str>::new());
    assert_eq!(stat_error(&fixture, &longest), Some(Errno::ENOENT));
    fixture.assert_no_leak(0);
}

#[test]
fn a_slash_behind_says_that_it_is_a_directory() {
    let fixture = sample();
    for path in ["a/", "a//", "a/.", "a/./", "a/.//", "to-a/", "a/b/.."] {
        assert_eq!(stat_error(&fixture, path), None, "{path}");
    }
    for path in ["file/", "file/.", "file//", "to-file/", "slashed", "file/x"] {
        assert_eq!(stat_error(&fixture, path), Some(Errno::ENOTDIR), "{path}");
    }
    assert_eq!(stat_error(&fixture, "missing/"), Some(Errno::ENOENT));
    // A slash also asks for the link to be followed.
    assert!(fixture.stat("to-a/", false).unwrap().qid.kind.is_dir());
    assert_eq!(fixture.open("file/", READ), Err(Errno::ENOTDIR.into()));
    assert_eq!(fixture.open("file/", CREATE), Err(Errno::EISDIR.into()));
    assert_eq!(fixture.open("new/", CREATE), Err(Errno::EISDIR.into()));
    assert_eq!(run!(fixture, unlink(0, "file/".into())), errno(Errno::ENOTDIR));
    assert_eq!(run!(fixture, unlink(0, "empty/".into())), errno(Errno::EISDIR));
    assert_eq!(run!(fixture, unlink(0, "missing/".into())), errno(Errno::ENOENT));
    assert_eq!(run!(fixture, symlink(0, "new/".into(), "x".into())), errno(Errno::ENOENT));
    assert_eq!(run!(fixture, symlink(0, "a/".into(), "x".into())), errno(Errno::EEXIST));
    assert_eq!(run!(fixture, rename(0, "file/".into(), 0, "x".into())), errno(Errno::ENOTDIR));
    assert_eq!(run!(fixture, rename(0, "file".into(), 0, "x/".into())), errno(Errno::ENOTDIR));
    assert_eq!(run!(fixture, rename(0, "empty/".into(), 0, "renamed/".into())), Ok(Value::None));
    assert!(matches!(run!(fixture, make_directory(0, "made/".into(), 0o755)), Ok(Value::Qid(_))));
    assert_eq!(run!(fixture, remove_directory(0, "made/".into())), Ok(Value::None));
    fixture.assert_no_leak(0);
}

#[test]
fn a_slash_in_a_link_on_the_way_says_nothing_about_the_last_name() {
    let fixture = Fixture::new(Server::new().file("d/f", "").link("l", "d/"));
    assert_eq!(run!(fixture, unlink(0, "l/f".into())), Ok(Value::None));
}

#[test]
fn dot_and_dot_dot_cannot_be_made_or_removed() {
    let fixture = sample();
    for path in [".", "a/.", "a/..", "a/b/.."] {
        assert_eq!(run!(fixture, make_directory(0, path.into(), 0o755)), errno(Errno::EEXIST), "{path}");
        assert_eq!(run!(fixture, unlink(0, path.into())), errno(Errno::EISDIR), "{path}");
        assert_eq!(run!(fixture, rename(0, path.into(), 0, "x".into())), errno(Errno::EBUSY), "{path}");
        assert_eq!(fixture.open(path, CREATE), Err(Errno::EISDIR.into()), "{path}");
        let exclusive = OpenFlags { exclusive: true, ..CREATE };
        assert_eq!(fixture.open(path, exclusive), Err(Errno::EEXIST.into()), "{path}");
    }
    assert_eq!(run!(fixture, remove_directory(0, "a/.".into())), errno(Errno::EINVAL));
    assert_eq!(run!(fixture, remove_directory(0, "a/b/..".into())), errno(Errno::ENOTEMPTY));
    assert_eq!(run!(fixture, remove_directory(0, "..".into())), errno(Errno::EPERM));
    fixture.assert_no_leak(0);
}

#[test]
fn a_file_is_read_and_written() {
    let fixture = sample();
    let node = fixture.open("file", OpenFlags { read: true, ..WRITE }).unwrap();
    assert_eq!(fixture.read(node, 0, 100).unwrap(), b"contents");
    assert_eq!(fixture.read(node, 3, 2).unwrap(), b"te");
    assert_eq!(fixture.read(node, 8, 10).unwrap(), b"");
    assert_eq!(fixture.read(node, 8, 0).unwrap(), b"");
    assert_eq!(fixture.write(node, 8, b" and more").unwrap(), 9);
    assert_eq!(fixture.ring.server().content("file").unwrap(), b"contents and more");
    assert_eq!(run!(fixture, sync(node, true)), Ok(Value::None));
    let end = i64::MAX as u64;
    assert_eq!(fixture.read(node, end, 1), Err(Errno::EINVAL.into()));
    assert_eq!(fixture.read(node, u64::MAX, 1), Err(Errno::EINVAL.into()));
    fixture.mount.close(node);
    fixture.assert_no_leak(0);
}

#[test]
fn a_read_is_as_many_requests_as_it_takes_all_at_once() {
    let content: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let fixture = Fixture::new(Server::new().file("big", &content));
    let node = fixture.open("big", READ).unwrap();
    let kicks = fixture.ring.kicks();
    fixture.ring.take_log();
    assert!(fixture.read(node, 0, 200_000).unwrap() == content);
    assert_eq!(fixture.ring.take_log(), ["Tread"; 4]);
    assert_eq!(fixture.ring.kicks() - kicks, 1);
}

/// Of a request that is made as short as the limit on segments wants it, both the size and the count must say so.
#[test]
fn short_extraction_with_both_size_and_count_patched() {
    let content: Vec<u8> = (0..20_000_u32).map(|number| (number % 251) as u8).collect();
    let fixture = Fixture::new(Server::new().file("big", &content));
    fixture.ring.fit_at_most(7_000);
    fixture.ring.lie(|request, honest| {
        let number = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        assert_eq!(number(0) as usize, request.len());
        match request[4] {
            116 => assert!(number(19) <= 7_000, "Tread"),
            118 => assert_eq!(number(19) as usize, request.len() - 23, "Twrite"),
            _ => {}
        }
        honest
    });
    let node = fixture.open("big", OpenFlags { read: true, ..WRITE }).unwrap();
    assert!(fixture.read(node, 0, 20_000).unwrap() == content);
    assert_eq!(fixture.write(node, 5, &content).unwrap(), 20_000);
    assert!(fixture.ring.server().content("big").unwrap()[5..] == content);
}

#[test]
fn the_servers_iounit_is_kept() {
    let content = vec![7; 5000];
    let mut server = Server::new().file("file", &content);
    server.iounit = 1000;
    let fixture = Fixture::new(server);
    let node = fixture.open("file", READ).unwrap();
    fixture.ring.take_log();
    assert_eq!(fixture.read(node, 0, 5000).unwrap(), content);
    assert_eq!(fixture.ring.take_log(), ["Tread"; 5]);
}

#[test]
fn a_read_ends_at_the_first_short_piece() {
    let mut server = Server::new().file("file", vec![7; 200_000]);
    server.short_reads = 10;
    let fixture = Fixture::new(server);
    let node = fixture.open("file", READ).unwrap();
    assert_eq!(fixture.read(node, 0, 150_000).unwrap().len(), 10);
}

#[test]
fn an_error_counts_only_before_the_first_byte() {
    let mut server = Server::new().file("file", "");
    server.fail_writes_at = Some((60 * 1024, Errno::ENOSPC));
    let fixture = Fixture::new(server);
    let node = fixture.open("file", WRITE).unwrap();
    assert_eq!(fixture.write(node, 0, &vec![1; 150_000]).unwrap(), 60 * 1024);
    assert_eq!(fixture.write(node, 60 * 1024, b"x"), Err(Errno::ENOSPC.into()));
}

#[test]
fn appending_goes_to_the_end_in_order() {
    let content: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let ring = MemoryRing::new(Server::new().file("log", "start"), 64);
    ring.shuffle((0..1000).map(|number| number * 7 + 3).collect());
    let fixture = Fixture::with_ring(ring);
    let node = fixture.open("log", OpenFlags { append: true, ..WRITE }).unwrap();
    assert_eq!(fixture.write(node, 0, &content).unwrap(), 300_000);
    assert!(fixture.ring.server().content("log").unwrap() == [b"start".as_slice(), &content].concat());
}

#[test]
fn what_was_not_opened_for_it_is_ebadf() {
    let fixture = sample();
    let read = fixture.open("file", READ).unwrap();
    let write = fixture.open("file", WRITE).unwrap();
    let handle = fixture.open("file", PATH).unwrap();
    let directory = fixture.open("a", PATH).unwrap();
    fixture.ring.take_log();
    for node in [write, handle, 99] {
        assert_eq!(fixture.read(node, 0, 1), Err(Errno::EBADF.into()));
    }
    for node in [read, handle, 99] {
        assert_eq!(fixture.write(node, 0, b"x"), Err(Errno::EBADF.into()));
    }
    assert_eq!(run!(fixture, read_directory(directory, 0)), errno(Errno::EBADF));
    assert_eq!(run!(fixture, read_directory(read, 0)), errno(Errno::ENOTDIR));
    assert_eq!(run!(fixture, sync(handle, false)), errno(Errno::EBADF));
    assert_eq!(fixture.read(0, 0, 1), Err(Errno::EISDIR.into()));
    assert_eq!(fixture.stat_at(read, "x", true), Err(Errno::ENOTDIR.into()));
    assert_eq!(fixture.ring.take_log(), Vec::<&str>::new());
    assert!(matches!(run!(fixture, stat(handle)), Ok(Value::Attributes(_))));
    for node in [read, write, handle, directory] {
        fixture.mount.close(node);
    }
    assert_eq!(fixture.read(read, 0, 1), Err(Errno::EBADF.into()));
    fixture.assert_no_leak(0);
}

#[test]
fn opening_looks_at_what_is_there() {
    let fixture = sample();
    let open = |path, flags| fixture.open(path, flags).map(|node| fixture.mount.close(node));
    assert_eq!(open("missing", READ), Err(Errno::ENOENT.into()));
    assert_eq!(open("a", WRITE), Err(Errno::EISDIR.into()));
    assert_eq!(open("a", OpenFlags { truncate: true, ..READ }), Err(Errno::EISDIR.into()));
    assert_eq!(open("a", CREATE), Err(Errno::EISDIR.into()));
    assert_eq!(open("file", OpenFlags { directory: true, ..READ }), Err(Errno::ENOTDIR.into()));
    assert_eq!(open("a", OpenFlags { directory: true, ..READ }), Ok(()));
    assert_eq!(open("to-file", OpenFlags { follow: false, ..READ }), Err(Errno::ELOOP.into()));
    assert_eq!(open("to-file", READ), Ok(()));
    assert_eq!(open("dangling", READ), Err(Errno::ENOENT.into()));
    assert_eq!(open("file", OpenFlags { exclusive: true, ..READ }), Err(Errno::EINVAL.into()));
    assert_eq!(open("file", OpenFlags { directory: true, ..CREATE }), Err(Errno::EINVAL.into()));
    fixture.assert_no_leak(0);
}

#[test]
fn creating_makes_what_is_not_there() {
    let fixture = sample();
    let exclusive = OpenFlags { exclusive: true, ..CREATE };
    let node = fixture.open("a/b/new", CREATE).unwrap();
    fixture.write(node, 0, b"new").unwrap();
    assert_eq!(fixture.read(node, 0, 10).unwrap(), b"new");
    assert_eq!(fixture.ring.server().content("a/b/new").unwrap(), b"new");
    assert_eq!(fixture.ring.server().gid("a/b/new"), Some(1000));
    fixture.mount.close(node);
    let again = fixture.open("a/b/new", CREATE).unwrap();
    assert_eq!(fixture.read(again, 0, 10).unwrap(), b"new");
    fixture.mount.close(again);
    let cut = fixture.open("a/b/new", OpenFlags { truncate: true, ..CREATE }).unwrap();
    assert_eq!(fixture.ring.server().content("a/b/new").unwrap(), b"");
    fixture.mount.close(cut);
    assert_eq!(fixture.open("a/b/new", exclusive), Err(Errno::EEXIST.into()));
    assert_eq!(fixture.open("to-file", exclusive), Err(Errno::EEXIST.into()));
    assert_eq!(fixture.open("dangling", exclusive), Err(Errno::EEXIST.into()));
    assert_eq!(fixture.open("missing/new", CREATE), Err(Errno::ENOENT.into()));
    assert_eq!(fixture.open("missing/new", exclusive), Err(Errno::ENOENT.into()));
    assert_eq!(fixture.open("file/new", CREATE), Err(Errno::ENOTDIR.into()));
    assert_eq!(fixture.open("dangling", OpenFlags { follow: false, ..CREATE }), Err(Errno::ELOOP.into()));
    let node = fixture.open("top", exclusive).unwrap();
    fixture.mount.close(node);
    let node = fixture.open("empty/../x", CREATE).unwrap();
    fixture.mount.close(node);
    assert!(fixture.ring.server().exists("x"));
    fixture.assert_no_leak(0);
}

#[test]
fn a_file_that_appears_while_it_is_created_is_opened() {
    for blind_walks in [1, 3] {
        let fixture = sample();
        fixture.ring.server().blind_walks = blind_walks;
        let node = fixture.open("file", CREATE).unwrap();
        assert_eq!(fixture.read(node, 0, 10).unwrap(), b"contents");
        fixture.mount.close(node);
        fixture.assert_no_leak(0);
    }
    // It is not tried for ever.
    let fixture = sample();
    fixture.ring.server().blind_walks = u32::MAX;
    assert_eq!(fixture.open("file", CREATE), Err(Errno::EEXIST.into()));
    fixture.assert_no_leak(0);
}

#[test]
fn what_ends_while_it_waits_for_room_makes_way() {
    let mut server = Server::new().file("file", "");
    server.fail_writes_at = Some((0, Errno::ENOSPC));
    let fixture = Fixture::with_ring(MemoryRing::new(server, 3));
    let node = fixture.open("file", WRITE).unwrap();
    fixture.ring.hold();
    let iter = fixture.ring.filled_buffer(&[1; 150_000]);
    // The second request of this waits for room when the first one fails.
    let write = fixture.mount.run(async move |vfs| vfs.write(node, 0, iter, 150_000).await);
    let stats = [0; 3].map(|node| fixture.mount.run(async move |vfs| vfs.stat(node).await));
    assert_eq!(fixture.finish(write), errno(Errno::ENOSPC));
    for stat in stats {
        assert!(matches!(fixture.finish(stat), Ok(Value::Attributes(_))));
    }
}

#[test]
fn an_operation_dropped_between_the_answers_to_its_requests_keeps_no_tag() {
    use ninering_client::{executor::Executor, session::Session, vfs::Vfs};
    use std::rc::Rc;

    let ring = MemoryRing::new(Server::new().file("file", vec![1; 200_000]), 64);
    let session = Rc::new(Session::new(ring.clone()));
    let vfs = Rc::new(Vfs::new(session.clone()));
    let executor = Executor::new(session.clone());
    let (iter, _) = ring.buffer(200_000);
    let holding = ring.clone();
    let start = ninering_client::vfs::Start { msize: 65536, ..Default::default() };
    let outcome = executor.submit(async move {
        vfs.start(start).await.unwrap();
        let Ok(Value::Opened { node, .. }) = vfs.open(0, "file".into(), READ, 0).await else { panic!("no file") };
        holding.hold();
        vfs.read(node, 0, iter, 200_000).await
    });
    assert_eq!(outcome, Err(0));
    ring.serve(2);
    ring.serve(1);
    executor.reap();
    assert_eq!((executor.running(), session.tags_in_use()), (1, 4));
    drop(executor);
    let after = Executor::<_, ()>::new(session.clone());
    after.reap();
    while ring.serve_any() {
        after.reap();
    }
    after.reap();
    while ring.serve_any() {
        after.reap();
    }
    assert_eq!((session.tags_in_use(), session.fids_in_use(), ring.leases()), (0, 0, 0));
}

#[test]
fn creating_through_a_dangling_link_makes_its_target() {
    let fixture = sample();
    let node = fixture.open("dangling", CREATE).unwrap();
    fixture.write(node, 0, b"x").unwrap();
    assert_eq!(fixture.ring.server().content("a/made").unwrap(), b"x");
    fixture.mount.close(node);
    fixture.assert_no_leak(0);
}

#[test]
fn a_directory_lists_its_entries_but_not_the_dots() {
    let fixture = sample();
    assert_eq!(fixture.list("a/b").unwrap(), ["absolute", "c", "out", "up"]);
    assert_eq!(fixture.list("empty").unwrap(), Vec::<String>::new());
    fixture.assert_no_leak(0);
    assert!(fixture.ring.allocated() <= 4);
}

#[test]
fn a_large_directory_comes_in_pieces() {
    let mut names = Vec::new();
    let mut server = Server::new();
    for number in 0..2000 {
        let name = format!("file-with-quite-a-name-{number:05}");
        server = server.file(&format!("d/{name}"), "");
        names.push(name);
    }
    server.msize = 4096;
    let fixture = Fixture::new(server);
    assert_eq!(fixture.mount.session().payload_max(), 4072);
    assert_eq!(fixture.list("d").unwrap(), names);
    fixture.assert_no_leak(0);
}

#[test]
fn an_open_directory_is_a_base_for_paths_and_can_be_listed() {
    let fixture = sample();
    let node = fixture.open("a", READ).unwrap();
    assert!(matches!(run!(fixture, read_directory(node, 0)), Ok(Value::Entries { end: false, .. })));
    let file = fixture.open_at(node, "b/c/deep", READ).unwrap();
    assert_eq!(fixture.read(file, 0, 9).unwrap(), b"deep");
    assert_eq!(run!(fixture, sync(node, false)), Ok(Value::None));
    fixture.mount.close(node);
    fixture.mount.close(file);
    fixture.assert_no_leak(0);
}

#[test]
fn attributes_are_set_by_node_and_by_path() {
    let fixture = sample();
    let size = SetAttributes { valid: setattr::SIZE, size: 3, ..SetAttributes::default() };
    assert_eq!(run!(fixture, set_attributes_at(0, "to-file".into(), true, size)), Ok(Value::None));
    assert_eq!(fixture.ring.server().content("file").unwrap(), b"con");
    let node = fixture.open("file", PATH).unwrap();
    let bits = SetAttributes { valid: setattr::MODE, mode: 0o600, ..SetAttributes::default() };
    assert_eq!(run!(fixture, set_attributes(node, bits)), Ok(Value::None));
    assert_eq!(fixture.stat("file", true).unwrap().mode & 0o777, 0o600);
    assert!(matches!(run!(fixture, statfs(0)), Ok(Value::Statistics(statfs)) if statfs.namelen == 255));
    fixture.mount.close(node);
    fixture.assert_no_leak(0);
}

#[test]
fn identifying_is_one_walk() {
    let fixture = sample();
    let qid = fixture.stat("file", true).unwrap().qid;
    fixture.ring.take_log();
    assert_eq!(run!(fixture, identify_at(0, "file".into(), false)), Ok(Value::Qid(qid)));
    assert_eq!(fixture.ring.take_log().iter().filter(|&&name| name != "Tclunk").count(), 1);
    let Ok(Value::Qid(root)) = run!(fixture, identify_at(0, ".".into(), false)) else { panic!("no qid") };
    assert!(root.kind.is_dir());
    fixture.assert_no_leak(0);
}

#[test]
fn names_are_linked_renamed_and_removed() {
    for is_old in [false, true] {
        let mut server = Server::new().file("d/file", "x").directory("e/sub").link("l", "d/file");
        server.is_old = is_old;
        let fixture = Fixture::new(server);
        assert_eq!(run!(fixture, rename(0, "d/file".into(), 0, "e/moved".into())), Ok(Value::None));
        assert_eq!(run!(fixture, rename(0, "e/moved".into(), 0, "d/file".into())), Ok(Value::None));
        assert_eq!(run!(fixture, link(0, "l".into(), true, 0, "e/hard".into())), Ok(Value::None));
        assert_eq!(fixture.stat("d/file", true).unwrap().nlink, 2);
        assert_eq!(run!(fixture, link(0, "d".into(), true, 0, "x".into())), errno(Errno::EPERM));
        assert_eq!(run!(fixture, link(0, "l".into(), true, 0, "x/".into())), errno(Errno::ENOENT));
        assert!(matches!(run!(fixture, symlink(0, "e/s".into(), "hard".into())), Ok(Value::Qid(_))));
        assert_eq!(run!(fixture, symlink(0, "x".into(), String::new())), errno(Errno::ENOENT));
        assert_eq!(run!(fixture, unlink(0, "e/sub".into())), errno(Errno::EISDIR));
        assert_eq!(run!(fixture, remove_directory(0, "e/s".into())), errno(Errno::ENOTDIR));
        assert_eq!(run!(fixture, remove_directory(0, "e".into())), errno(Errno::ENOTEMPTY));
        assert_eq!(run!(fixture, remove_directory(0, "e/sub".into())), Ok(Value::None));
        assert_eq!(run!(fixture, unlink(0, "e/s".into())), Ok(Value::None));
        assert_eq!(run!(fixture, unlink(0, "e/s".into())), errno(Errno::ENOENT));
        assert!(!fixture.ring.server().exists("e/sub"));
        fixture.assert_no_leak(0);
    }
}

#[test]
fn a_server_is_asked_once_for_what_it_lacks() {
    let mut server = Server::new().file("a", "").file("b", "");
    server.is_old = true;
    let fixture = Fixture::new(server);
    fixture.ring.take_log();
    run!(fixture, unlink(0, "a".into())).unwrap();
    run!(fixture, unlink(0, "b".into())).unwrap();
    let asked = fixture.ring.take_log().iter().filter(|&&name| name == "Tunlinkat").count();
    assert_eq!(asked, 1);
}

#[test]
fn clunks_of_paths_ride_along_and_do_not_pile_up() {
    let fixture = sample();
    let before = fixture.ring.kicks();
    for _ in 0..100 {
        fixture.stat("a/b/c", true).unwrap();
    }
    // Two of each are a must: walk and attributes.
    assert!(fixture.ring.kicks() - before <= 200 + 100 / 8);
    assert!(fixture.ring.leases() <= 8);
    fixture.assert_no_leak(0);
}

#[test]
fn a_closed_file_is_clunked_at_once() {
    let fixture = sample();
    let node = fixture.open("file", READ).unwrap();
    fixture.ring.take_log();
    fixture.mount.close(node);
    assert_eq!(fixture.ring.take_log().last(), Some(&"Tclunk"));
    fixture.mount.close(0);
    assert_eq!(stat_error(&fixture, "file"), None);
}

#[test]
fn nothing_works_before_the_start() {
    let fixture = Fixture::not_started(MemoryRing::new(Server::new(), 64));
    assert_eq!(fixture.stat("x", true), Err(Errno::EBADF.into()));
}

#[test]
fn a_message_that_a_server_lacks_is_asked_for_once_whatever_it_answers() {
    for lacking in [Errno::EOPNOTSUPP, Errno::ENOSYS, Errno::EPROTO] {
        let ring = || MemoryRing::new(Server::new().file("one", "1").file("d/two", "2").file("three", "3"), 64);
        for fixture in [Fixture::with_ring(ring()), Fixture::ordered(ring())] {
            fixture.ring.lie(move |request, honest| match request[4] {
                // Trenameat, Tunlinkat
                74 | 76 => {
                    let tag = u16::from_le_bytes([request[5], request[6]]);
                    support::encode(tag, &ninering_wire::Rmessage::Rlerror { ecode: lacking.0 }, &[])
                }
                _ => honest,
            });
            fixture.ring.server().is_old = true;
            fixture.ring.take_log();
            for path in ["one", "d/two"] {
                assert_eq!(run!(fixture, unlink(0, path.into())), Ok(Value::None), "{lacking}");
                assert!(!fixture.ring.server().exists(path));
            }
            assert_eq!(run!(fixture, rename(0, "three".into(), 0, "four".into())), Ok(Value::None));
            assert_eq!(run!(fixture, rename(0, "four".into(), 0, "five".into())), Ok(Value::None));
            assert!(fixture.ring.server().exists("five"));
            let log = fixture.ring.take_log();
            for message in ["Tunlinkat", "Trenameat"] {
                assert_eq!(log.iter().filter(|&&name| name == message).count(), 1, "{message} {lacking}");
            }
            fixture.assert_no_leak(0);
        }
    }
}

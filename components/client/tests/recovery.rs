//! The connection is lost at each request in turn, before it is done and after: what a program sees is as if it had not
//! been, or an error that says that nobody knows.

mod support;

use ninering_client::{
    Error, Outcome,
    vfs::{OpenFlags, Value},
};
use ninering_wire::{Errno, SetAttributes, setattr};
use support::{CREATE, Cut, Fixture, MemoryRing, PATH, READ, Result, Server, WRITE, run};

fn server() -> Server {
    Server::new()
        .file("file", "contents")
        .file("d/one", "1")
        .file("d/two", "2")
        .file("d/e/f/deep", "deep")
        .file("old", "old")
        .file("victim", "victim")
        .file("log", "first\n")
        .file("linked", "linked")
        .directory("gone")
        .link("link", "d/one")
}

/// What a program does and sees: all kinds of operations, with files that stay open throughout.
fn program(fixture: &Fixture) -> Vec<String> {
    let mut seen = Vec::new();
    let mut say = |what: String| seen.push(what);
    macro_rules! see {
        ($result:expr) => {{
            let result = $result;
            say(format!("{result:?}"));
            result
        }};
    }
    let file = see!(fixture.open("file", OpenFlags { read: true, ..WRITE })).expect("the file is there");
    let directory = see!(fixture.open("d", OpenFlags { directory: true, ..READ })).expect("the directory is there");
    let log = fixture.open("log", OpenFlags { append: true, ..WRITE });
    let log = see!(log).expect("the log is there");
    let deep = see!(fixture.open("d/e/f/deep", READ)).expect("it is there");
    let (made, text) = (fixture.open("made", OpenFlags { truncate: true, ..CREATE }), "text".to_owned());
    let made = see!(made).expect("it can be made");
    let _ = see!(fixture.write(made, 0, text.as_bytes()));
    let _ = see!(fixture.write(log, 0, b"second\n"));
    let _ = see!(fixture.read(file, 0, 100));
    let _ = see!(fixture.write(file, 3, b"XYZ"));
    let _ = see!(run!(fixture, make_directory(0, "new".to_owned(), 0o750)).map(drop));
    let _ = see!(run!(fixture, make_directory(0, "d/new".to_owned(), 0o750)).map(drop));
    let _ = see!(run!(fixture, symlink(0, "d/to".to_owned(), "one".to_owned())).map(drop));
    let _ = see!(run!(fixture, link(0, "linked".to_owned(), false, 0, "d/linked".to_owned())));
    let _ = see!(run!(fixture, rename(0, "old".to_owned(), 0, "d/renamed".to_owned())));
    // Open files move along with a directory.
    let _ = see!(run!(fixture, rename(0, "d/e".to_owned(), 0, "moved".to_owned())));
    let _ = see!(fixture.read(deep, 0, 10));
    let _ = see!(run!(fixture, unlink(0, "victim".to_owned())));
    let _ = see!(run!(fixture, unlink(0, "d/two".to_owned())));
    let _ = see!(run!(fixture, remove_directory(0, "gone".to_owned())));
    let _ = see!(fixture.write(log, 0, b"third\n"));
    let changes = SetAttributes { valid: setattr::SIZE, size: 5, ..SetAttributes::default() };
    let _ = see!(run!(fixture, set_attributes(file, changes)));
    let _ = see!(run!(fixture, sync(file, false)));
    let _ = see!(fixture.list("d"));
    let _ = see!(fixture.stat_at(directory, "one", true).map(|attributes| attributes.size));
    let _ = see!(fixture.stat("missing", true).map(drop));
    let _ = see!(run!(fixture, read_link(0, "link".to_owned())));
    let _ = see!(run!(fixture, statfs(file)).map(drop));
    let _ = see!(run!(fixture, make_directory(0, "d/new".to_owned(), 0o750)).map(drop));
    for node in [file, directory, log, deep, made] {
        fixture.mount.close(node);
    }
    seen
}

/// A way in which the server and the ring behave.
#[derive(Clone, Copy, Debug)]
struct Setting {
    knows_visits: bool,
    is_old: bool,
    is_held: bool,
}

impl Setting {
    fn fixture(self) -> Fixture {
        let ring = MemoryRing::new(server(), 64);
        ring.server().knows_visits = self.knows_visits;
        ring.server().is_old = self.is_old;
        if self.is_held {
            ring.hold();
        }
        Fixture::recovering(ring)
    }
}

const SETTINGS: [Setting; 4] = [
    Setting { knows_visits: true, is_old: false, is_held: true },
    Setting { knows_visits: false, is_old: false, is_held: false },
    Setting { knows_visits: false, is_old: true, is_held: true },
    Setting { knows_visits: true, is_old: false, is_held: false },
];

/// What the program does and leaves behind when the connection is never lost, and how many requests it takes.
fn undisturbed(setting: Setting) -> (Vec<String>, Vec<String>, usize) {
    let fixture = setting.fixture();
    fixture.ring.take_log();
    let seen = program(&fixture);
    fixture.assert_no_leak(0);
    let tree = fixture.ring.server().tree();
    (seen, tree, fixture.ring.take_log().len())
}

fn disturbed(setting: Setting, cuts: &[Cut]) -> (Vec<String>, Vec<String>) {
    let fixture = setting.fixture();
    fixture.ring.cut(cuts.iter().copied());
    let seen = program(&fixture);
    while fixture.ring.is_cut() {
        fixture.reconnect();
        fixture.mount.reap();
    }
    fixture.ring.cut([]);
    fixture.assert_no_leak(0);
    let tree = fixture.ring.server().tree();
    (seen, tree)
}

#[test]
fn wherever_the_connection_is_lost_everything_is_done_once() {
    for setting in SETTINGS {
        let (seen, tree, requests) = undisturbed(setting);
        assert!(requests > 30, "{requests}");
        for after in 0..requests {
            for is_done in [false, true] {
                let cut = Cut { after, is_done };
                assert_eq!(disturbed(setting, &[cut]), (seen.clone(), tree.clone()), "{setting:?} {cut:?}");
            }
        }
    }
}

#[test]
fn the_connection_may_be_lost_again_while_it_is_made_again() {
    for setting in SETTINGS {
        let (seen, tree, requests) = undisturbed(setting);
        for after in (0..requests).step_by(3) {
            for again in 0..16 {
                let is_done = again % 2 == 0;
                let cuts = [Cut { after, is_done: true }, Cut { after: again, is_done }, Cut { after: 3, is_done }];
                assert_eq!(disturbed(setting, &cuts), (seen.clone(), tree.clone()), "{setting:?} {cuts:?}");
            }
        }
    }
}

/// A file that must be a new one: who made what is there cannot be told from another client.
#[test]
fn an_exclusive_creation_of_unknown_fate_says_so() {
    for setting in SETTINGS {
        for after in 0..6 {
            let fixture = setting.fixture();
            fixture.ring.cut([Cut { after, is_done: true }]);
            let result = fixture.open("d/exclusive", OpenFlags { exclusive: true, ..CREATE });
            match result {
                Ok(node) => fixture.mount.close(node),
                Err(error) => {
                    assert_eq!(error, Error::InDoubt);
                    assert_eq!(fixture.mount.session().recovered().doubtful, 1);
                }
            }
            assert!(fixture.ring.server().exists("d/exclusive"));
            if fixture.ring.is_cut() {
                fixture.reconnect();
            }
            fixture.ring.cut([]);
            fixture.assert_no_leak(0);
        }
    }
}

#[test]
fn a_file_that_is_another_one_now_is_stale_and_no_other_is() {
    let fixture = SETTINGS[0].fixture();
    let file = fixture.open("file", OpenFlags { read: true, ..WRITE }).unwrap();
    let other = fixture.open("d/one", READ).unwrap();
    fixture.ring.on_cut(|server| server.replace("file", "another"));
    fixture.ring.cut([Cut { after: 0, is_done: false }]);
    assert_eq!(fixture.read(file, 0, 10), Err(Errno::ESTALE.into()));
    assert_eq!(fixture.write(file, 0, b"x"), Err(Errno::ESTALE.into()));
    assert_eq!(run!(fixture, stat(file)), Err(Errno::ESTALE.into()));
    assert_eq!(fixture.read(other, 0, 10), Ok(b"1".to_vec()));
    assert_eq!(fixture.ring.server().content("file"), Some(b"another".to_vec()));
    assert_eq!(fixture.mount.session().recovered().stale_fids, 1);
    fixture.mount.close(file);
    fixture.mount.close(other);
    fixture.assert_no_leak(0);
}

/// The filesystem may give a new file the number of one that was removed, once the server that had it open is gone.
#[test]
fn a_file_that_was_removed_while_open_is_stale_whatever_is_there_now() {
    for setting in SETTINGS {
        let fixture = setting.fixture();
        let removed = fixture.open("file", READ).unwrap();
        let replaced = fixture.open("victim", READ).unwrap();
        let moved = fixture.open("old", READ).unwrap();
        let paths = ["keep", "keep2"];
        fixture.ring.server().link_to("file", paths[0]);
        fixture.ring.server().link_to("victim", paths[1]);
        assert_eq!(run!(fixture, unlink(0, "file".to_owned())), Ok(Value::None));
        assert_eq!(run!(fixture, rename(0, "old".to_owned(), 0, "victim".to_owned())), Ok(Value::None));
        assert_eq!(fixture.read(removed, 0, 10), Ok(b"contents".to_vec()), "{setting:?}");
        // Now there are files of the same numbers.
        fixture.ring.on_cut(|server| server.link_to("keep", "file"));
        fixture.ring.cut([Cut { after: 0, is_done: false }]);
        assert_eq!(fixture.read(removed, 0, 10), Err(Errno::ESTALE.into()), "{setting:?}");
        assert_eq!(fixture.read(replaced, 0, 10), Err(Errno::ESTALE.into()), "{setting:?}");
        assert_eq!(fixture.read(moved, 0, 10), Ok(b"old".to_vec()), "{setting:?}");
        assert_eq!(fixture.mount.session().recovered().stale_fids, 2, "{setting:?}");
    }
}

#[test]
fn a_file_that_was_renamed_in_doubt_is_not_taken_for_removed() {
    for setting in SETTINGS {
        let requests = {
            let fixture = setting.fixture();
            fixture.open("old", READ).unwrap();
            fixture.ring.take_log();
            assert_eq!(run!(fixture, rename(0, "old".to_owned(), 0, "victim".to_owned())), Ok(Value::None));
            fixture.ring.take_log().len()
        };
        for after in 0..requests {
            let fixture = setting.fixture();
            let moved = fixture.open("old", READ).unwrap();
            fixture.ring.cut([Cut { after, is_done: true }]);
            assert_eq!(run!(fixture, rename(0, "old".to_owned(), 0, "victim".to_owned())), Ok(Value::None));
            fixture.ring.cut([Cut { after: 0, is_done: false }]);
            assert_eq!(fixture.read(moved, 0, 10), Ok(b"old".to_vec()), "{setting:?} {after}");
            assert_eq!(fixture.mount.session().recovered().stale_fids, 0, "{setting:?} {after}");
        }
    }
}

/// What was one file with a server is one with the next, and takes no more of its descriptors.
#[test]
fn fids_of_one_file_and_of_what_is_below_a_directory_are_made_from_each_other() {
    for setting in SETTINGS {
        let fixture = setting.fixture();
        let directory = fixture.open("d/e/f", OpenFlags { directory: true, ..READ }).unwrap();
        let nodes = [READ, READ, PATH, WRITE, PATH].map(|flags| fixture.open("d/e/f/deep", flags).unwrap());
        let below = fixture.open("d/one", READ).unwrap();
        fixture.ring.cut([Cut { after: 0, is_done: false }]);
        fixture.ring.on_cut(|server| server.names_walked = 0);
        assert_eq!(fixture.read(nodes[0], 0, 10), Ok(b"deep".to_vec()), "{setting:?}");
        // Three lead to the directory, one on from there, and two to the other file.
        assert_eq!(fixture.ring.server().names_walked, 6, "{setting:?}");
        for node in [nodes[1], below] {
            assert!(fixture.read(node, 0, 10).is_ok(), "{setting:?}");
        }
        assert_eq!(fixture.write(nodes[3], 0, b"D"), Ok(1), "{setting:?}");
        for node in nodes.into_iter().chain([directory, below]) {
            assert!(run!(fixture, stat(node)).is_ok(), "{setting:?}");
            fixture.mount.close(node);
        }
        assert_eq!(fixture.mount.session().recovered().stale_fids, 0, "{setting:?}");
        fixture.assert_no_leak(0);
    }
}

/// What a server lacks for a moment makes no file stale.
#[test]
fn a_server_that_is_short_of_descriptors_is_tried_again() {
    for setting in SETTINGS {
        for shortages in [1, 5, 100] {
            let fixture = setting.fixture();
            let nodes = ["file", "d/one", "d/e/f/deep"].map(|path| fixture.open(path, READ).unwrap());
            fixture.ring.cut([Cut { after: 0, is_done: false }]);
            fixture.ring.on_cut(move |server| server.scarce_walks = shortages);
            let read = fixture.read(nodes[0], 0, 100);
            let stale = fixture.mount.session().recovered().stale_fids;
            if shortages == 100 {
                // The others need not suffer for it for ever.
                assert_eq!((read, stale), (Err(Errno::ESTALE.into()), 3), "{setting:?}");
                fixture.ring.server().scarce_walks = 0;
                assert!(fixture.stat("file", true).is_ok(), "{setting:?}");
            } else {
                assert_eq!((read, stale), (Ok(b"contents".to_vec()), 0), "{setting:?} {shortages}");
                assert_eq!(fixture.ring.server().scarce_walks, 0, "{setting:?} {shortages}");
            }
            for node in nodes {
                fixture.mount.close(node);
            }
            fixture.assert_no_leak(0);
        }
    }
}

#[test]
fn an_append_that_others_may_have_done_says_so() {
    let fixture = SETTINGS[0].fixture();
    let log = fixture.open("log", OpenFlags { append: true, ..WRITE }).unwrap();
    let mut changed = false;
    // Somebody else cuts the file, so that its size says nothing.
    fixture.ring.on_cut(move |server| {
        if !std::mem::replace(&mut changed, true) {
            server.truncate("log");
        }
    });
    // The size is asked for first.
    fixture.ring.cut([Cut { after: 1, is_done: true }]);
    assert_eq!(fixture.write(log, 0, b"second\n"), Err(Error::InDoubt));
    assert_eq!(fixture.ring.server().content("log"), Some(Vec::new()));
}

#[test]
fn a_server_that_does_not_know_visits_any_more_is_gone_on_with() {
    for (after, is_done) in [(0, false), (0, true), (1, false), (1, true), (2, true)] {
        let fixture = SETTINGS[0].fixture();
        fixture.ring.on_cut(|server| server.knows_visits = false);
        fixture.ring.cut([Cut { after, is_done }]);
        assert_eq!(fixture.stat("d/one", true).map(|attributes| attributes.size), Ok(1));
        let node = fixture.open("d/made", OpenFlags { truncate: true, ..CREATE }).unwrap();
        assert_eq!(fixture.write(node, 0, b"made"), Ok(4));
        assert_eq!(run!(fixture, unlink(0, "d/two".to_owned())), Ok(Value::None));
        assert_eq!(run!(fixture, unlink(0, "d/two".to_owned())), Err(Errno::ENOENT.into()));
        fixture.mount.close(node);
        assert_eq!(fixture.ring.server().content("d/made"), Some(b"made".to_vec()));
        fixture.assert_no_leak(0);
    }
}

#[test]
fn a_smaller_message_is_agreed_on_with_the_next_server() {
    let fixture = SETTINGS[1].fixture();
    let file = fixture.open("file", OpenFlags { read: true, ..WRITE }).unwrap();
    fixture.ring.on_cut(|server| server.msize = 8192);
    fixture.ring.cut([Cut { after: 2, is_done: true }]);
    let text: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
    assert_eq!(fixture.write(file, 0, &text), Ok(200_000));
    assert_eq!(fixture.mount.session().msize(), 8192);
    assert_eq!(fixture.ring.server().content("file"), Some(text.clone()));
    fixture.ring.cut([Cut { after: 5, is_done: true }]);
    assert_eq!(fixture.read(file, 0, 200_000), Ok(text));
}

#[test]
fn another_root_breaks_the_session() {
    let fixture = SETTINGS[0].fixture();
    fixture.ring.on_cut(Server::change_root);
    fixture.ring.cut([Cut { after: 0, is_done: false }]);
    let outcome = fixture.mount.run(async |vfs| vfs.stat(0).await);
    let Outcome::Pending(token) = outcome else { panic!("it waits") };
    fixture.ring.serve_any();
    fixture.mount.reap();
    fixture.ring.connect();
    let mut completions = match fixture.mount.reconnect() {
        Outcome::Complete(result) => vec![(u32::MAX, result)],
        Outcome::Pending(_) => Vec::new(),
    };
    while completions.len() < 2 {
        fixture.ring.serve_any();
        completions.extend(fixture.mount.reap());
    }
    assert!(completions.iter().any(|&(other, _)| other == token));
    let is_broken = |result: &Result| matches!(result, Err(Error::Broken(reason)) if reason.contains("root"));
    assert!(completions.iter().all(|(_, result)| is_broken(result)), "{completions:?}");
}

#[test]
fn operations_that_begin_without_a_connection_wait_for_one() {
    let fixture = SETTINGS[0].fixture();
    fixture.ring.cut([Cut { after: 0, is_done: false }]);
    let first = fixture.mount.run(async |vfs| vfs.stat_at(0, "file".to_owned(), true).await);
    assert!(fixture.ring.serve_any());
    let more: Vec<_> =
        (0..200).map(|_| fixture.mount.run(async |vfs| vfs.stat_at(0, "d/one".to_owned(), true).await)).collect();
    assert!(fixture.mount.reap().is_empty());
    assert!(matches!(fixture.finish(first), Ok(Value::Attributes(_))));
    let mut left = more.len();
    left -= fixture.take_early();
    while left > 0 {
        left -= fixture.mount.reap().into_iter().inspect(|(_, result)| assert!(result.is_ok())).count();
        fixture.ring.serve_any();
    }
    fixture.assert_no_leak(0);
    let path = fixture.open("file", PATH).unwrap();
    fixture.mount.close(path);
}

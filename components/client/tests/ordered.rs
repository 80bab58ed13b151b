//! On a device that keeps the order of requests, those that depend on each other fly together; and where the first one
//! of a flight comes to something else than expected, the others have done no harm.
//!
//! That the results are those of a device without order is a property in `properties.rs`.

mod support;

use ninering_client::vfs::{OpenFlags, Value};
use ninering_wire::{Errno, SetAttributes, setattr};
use support::{CREATE, Fixture, MemoryRing, READ, Server, WRITE, errno, run};

fn sample() -> Fixture {
    let server = Server::new()
        .file("file", "contents")
        .file("a/b/deep", "deep")
        .link("to-file", "file")
        .link("to-a", "a")
        .link("a/up", "../file");
    Fixture::ordered(MemoryRing::new(server, 64))
}

/// What is sent for an operation, and in how many flights.
fn flights<T>(fixture: &Fixture, operation: impl FnOnce() -> T) -> (T, Vec<&'static str>, u32) {
    fixture.ring.take_log();
    let kicks = fixture.ring.kicks();
    let result = operation();
    (result, fixture.ring.take_log(), fixture.ring.kicks() - kicks)
}

#[test]
fn a_server_that_does_not_know_visits_is_spoken_to_as_it_likes() {
    let unknown: [Option<&'static [u8]>; 3] = [Some(b"unknown"), Some(b"9P2000.L"), None];
    for (answer, asked) in unknown.into_iter().zip([2, 1, 2]) {
        let mut server = Server::new().file("a/file", "contents");
        server.answer_to_unknown_version = answer;
        let fixture = Fixture::with_ring(MemoryRing::new(server, 64));
        let sent = fixture.ring.take_log();
        assert_eq!(sent.iter().filter(|name| **name == "Tversion").count(), asked, "{answer:?}");
        let (found, sent, _) = flights(&fixture, || fixture.stat("a/file", true));
        assert_eq!((found.unwrap().size, sent), (8, vec!["Twalk", "Tgetattr"]));
        fixture.assert_no_leak(0);
    }
}

#[test]
fn with_a_server_that_knows_visits_a_flight_is_one_message() {
    let server = Server::new().file("a/b/deep", "deep").link("to-a", "a");
    let fixture = Fixture::with_visits(MemoryRing::new(server, 64));
    let (found, sent, kicks) = flights(&fixture, || fixture.stat("a/b/deep", true));
    assert_eq!((found.unwrap().size, sent, kicks), (4, vec!["Tvisit"], 1));
    let (node, sent, kicks) = flights(&fixture, || fixture.open("a/b/deep", READ));
    assert_eq!((sent, kicks), (vec!["Tvisit"], 1));
    fixture.mount.close(node.unwrap());
    let (node, sent, _) = flights(&fixture, || fixture.open("a/new", CREATE));
    assert_eq!(sent, ["Tvisit"], "it is made");
    fixture.mount.close(node.unwrap());
    let reading = OpenFlags { write: false, ..CREATE };
    let (node, sent, _) = flights(&fixture, || fixture.open("a/read", OpenFlags { read: true, ..reading }));
    assert_eq!(sent, ["Tvisit"; 2], "to see whether it is there, and to make it: it may be, where nothing can be made");
    fixture.mount.close(node.unwrap());
    let flags = OpenFlags { truncate: true, ..CREATE };
    let (node, sent, _) = flights(&fixture, || fixture.open("a/other", flags));
    assert_eq!(sent, ["Tvisit"], "it is made");
    fixture.mount.close(node.unwrap());
    let written = fixture.open("a/other", WRITE).unwrap();
    fixture.write(written, 0, b"something").unwrap();
    fixture.mount.close(written);
    let (node, sent, _) = flights(&fixture, || fixture.open("a/other", flags));
    assert_eq!(sent, ["Tvisit"], "or opened if it is there");
    fixture.mount.close(node.unwrap());
    assert_eq!(fixture.stat("a/other", true).unwrap().size, 0);
    let (removed, sent, kicks) = flights(&fixture, || run!(fixture, unlink(0, "a/b/deep".into())));
    assert_eq!((removed, sent, kicks), (Ok(Value::None), vec!["Tvisit"], 1));
    assert_eq!(fixture.stat("a/b/deep", true).map(drop), errno(Errno::ENOENT).map(drop));
    assert_eq!(fixture.open("a/b", WRITE).map(drop), errno(Errno::EISDIR).map(drop));
    assert_eq!(fixture.stat("to-a/new", true).unwrap().size, 0);
    fixture.assert_no_leak(0);
}

#[test]
fn looking_at_a_path_is_one_flight() {
    let fixture = sample();
    let (found, sent, kicks) = flights(&fixture, || fixture.stat("a/b/deep", true));
    assert_eq!((found.unwrap().size, kicks), (4, 1));
    assert_eq!(sent, ["Twalk", "Tgetattr", "Tclunk"]);
    let (missing, _, kicks) = flights(&fixture, || fixture.stat("a/b/missing", true));
    assert_eq!((missing.map(drop), kicks), (errno(Errno::ENOENT).map(drop), 1));
    fixture.assert_no_leak(0);
}

#[test]
fn opening_and_making_take_one_flight_where_it_is_as_expected_and_two_where_it_is_not() {
    let fixture = sample();
    let (node, sent, kicks) = flights(&fixture, || fixture.open("a/b/deep", READ).unwrap());
    assert_eq!((sent, kicks), (vec!["Twalk", "Tlopen"], 1));
    fixture.mount.close(node);
    // A file that is to be kept is expected to be there, one that is to be emptied is not.
    let (node, _, kicks) = flights(&fixture, || fixture.open("a/b/deep", CREATE).unwrap());
    assert_eq!((fixture.ring.server().content("a/b/deep"), kicks), (Some(b"deep".to_vec()), 1));
    fixture.mount.close(node);
    let (node, _, kicks) = flights(&fixture, || fixture.open("a/b/kept", CREATE).unwrap());
    assert_eq!((fixture.ring.server().exists("a/b/kept"), kicks), (true, 2));
    fixture.mount.close(node);
    let truncate = OpenFlags { truncate: true, ..CREATE };
    let (node, _, kicks) = flights(&fixture, || fixture.open("a/b/deep", truncate).unwrap());
    assert_eq!((fixture.ring.server().content("a/b/deep"), kicks), (Some(vec![]), 2));
    fixture.mount.close(node);
    let (node, _, kicks) = flights(&fixture, || fixture.open("a/b/new", truncate).unwrap());
    assert_eq!((fixture.ring.server().exists("a/b/new"), kicks), (true, 1));
    fixture.mount.close(node);
    let exclusive = OpenFlags { exclusive: true, ..CREATE };
    let (node, sent, kicks) = flights(&fixture, || fixture.open("a/b/newer", exclusive).unwrap());
    assert_eq!((sent, kicks), (vec!["Twalk", "Tlcreate"], 1));
    fixture.mount.close(node);
    let (again, _, kicks) = flights(&fixture, || fixture.open("a/b/newer", exclusive));
    assert_eq!((again.map(drop), kicks), (errno(Errno::EEXIST).map(drop), 1));
    fixture.assert_no_leak(0);
}

#[test]
fn making_and_removing_in_a_directory_is_one_flight() {
    let fixture = sample();
    let (made, sent, kicks) = flights(&fixture, || run!(fixture, make_directory(0, "a/b/c".into(), 0o755)));
    assert!(matches!(made, Ok(Value::Qid(_))));
    assert_eq!((sent, kicks), (vec!["Twalk", "Tmkdir", "Tclunk"], 1));
    let (_, sent, kicks) = flights(&fixture, || run!(fixture, remove_directory(0, "a/b/c".into())).unwrap());
    assert_eq!((sent, kicks), (vec!["Twalk", "Tunlinkat", "Tclunk"], 1));
    let (_, _, kicks) = flights(&fixture, || run!(fixture, unlink(0, "a/b/deep".into())).unwrap());
    assert_eq!((fixture.ring.server().exists("a/b/deep"), kicks), (false, 1));
    fixture.assert_no_leak(0);
}

#[test]
fn a_link_on_the_way_leads_where_it_should() {
    let fixture = sample();
    assert_eq!(fixture.stat("to-a/b/deep", true).unwrap().size, 4);
    assert_eq!(fixture.stat("to-a/up", true).unwrap().size, 8);
    let node = fixture.open("to-a/up", READ).unwrap();
    assert_eq!(fixture.read(node, 0, 100), Ok(b"contents".to_vec()));
    fixture.mount.close(node);
    run!(fixture, make_directory(0, "to-a/new".into(), 0o755)).unwrap();
    assert!(fixture.ring.server().exists("a/new"));
    run!(fixture, unlink(0, "to-a/b/deep".into())).unwrap();
    let node = fixture.open("to-a/made", OpenFlags { exclusive: true, ..CREATE }).unwrap();
    assert!(fixture.ring.server().exists("a/made"));
    fixture.mount.close(node);
    fixture.assert_no_leak(0);
}

#[test]
fn what_a_link_leads_to_is_changed_and_not_the_link() {
    let fixture = sample();
    let changes = SetAttributes { valid: setattr::MODE, mode: 0o600, ..SetAttributes::default() };
    let link = fixture.stat("to-file", false).unwrap();
    run!(fixture, set_attributes_at(0, "to-file".into(), true, changes)).unwrap();
    assert_eq!(fixture.stat("to-file", false), Ok(link));
    assert_eq!(fixture.stat("file", true).unwrap().mode & 0o777, 0o600);
    let (_, _, kicks) =
        flights(&fixture, || run!(fixture, set_attributes_at(0, "a/b/deep".into(), false, changes)).unwrap());
    assert_eq!((fixture.stat("a/b/deep", true).unwrap().mode & 0o777, kicks), (0o600, 1));
    fixture.assert_no_leak(0);
}

#[test]
fn a_slash_behind_a_file_is_seen_before_it_is_truncated() {
    let fixture = sample();
    let result = fixture.open("file/", OpenFlags { truncate: true, ..WRITE });
    assert_eq!(result.map(drop), errno(Errno::ENOTDIR).map(drop));
    assert_eq!(fixture.ring.server().content("file"), Some(b"contents".to_vec()));
    fixture.assert_no_leak(0);
}

#[test]
fn a_directory_that_was_not_known_to_be_one_is_still_a_base_for_paths() {
    let fixture = sample();
    let node = fixture.open("a", READ).unwrap();
    assert_eq!(fixture.stat_at(node, "b/deep", true).unwrap().size, 4);
    assert_eq!(fixture.list("a"), Ok(vec!["b".into(), "up".into()]));
    fixture.mount.close(node);
    fixture.assert_no_leak(0);
}

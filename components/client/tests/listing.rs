//! What is asked together: entries with their attributes, a path with what is on it, a file with its attributes.

mod support;

use ninering_client::vfs::{LookedUp, OpenFlags, Value};
use ninering_wire::Errno;
use support::{Fixture, MemoryRing, READ, Result, Server, errno, run};

fn server() -> Server {
    let server = Server::new().directory("d").directory("d/sub").link("d/link", "sub").file("d/sub/x", "12345");
    (0..100).fold(server, |server, number| server.file(&format!("d/f{number:02}"), vec![b'x'; number]))
}

/// With a server that knows `Tvisit`, one that keeps the order, one that knows neither.
fn fixtures() -> [(&'static str, Fixture); 4] {
    let ring = || MemoryRing::new(server(), 64);
    [
        ("visits", Fixture::with_visits(ring())),
        ("immediate", Fixture::immediate(ring())),
        ("ordered", Fixture::ordered(ring())),
        ("neither", Fixture::new(server())),
    ]
}

fn look_up(fixture: &Fixture, path: &str, follow: bool) -> Result<LookedUp> {
    let path = path.to_owned();
    match run!(fixture, look_up_at(0, path, follow))? {
        Value::LookedUp(found) => Ok(found),
        other => panic!("look-up-at yields {other:?}"),
    }
}

#[test]
fn all_entries_come_with_their_attributes() {
    for (name, fixture) in fixtures() {
        let node = fixture.open("d", READ).expect("the directory");
        let (mut offset, mut all) = (0, Vec::new());
        loop {
            match run!(fixture, read_directory_plus(node, offset)).expect("entries") {
                Value::EntriesPlus { entries, end } => {
                    if let Some((last, _)) = entries.last() {
                        offset = last.offset;
                    }
                    all.extend(entries);
                    if end {
                        break;
                    }
                }
                other => panic!("read-directory-plus yields {other:?}"),
            }
        }
        assert_eq!(all.len(), 102, "{name}");
        for (entry, attributes) in all {
            let path = format!("d/{}", String::from_utf8(entry.name).expect("a name"));
            assert_eq!(
                attributes.as_deref().copied(),
                Some(fixture.stat(&path, false).expect("its attributes")),
                "{name}: {path}"
            );
        }
        fixture.mount.close(node);
        fixture.assert_no_leak(0);
    }
}

#[test]
fn entries_that_are_gone_come_without_attributes() {
    for (name, fixture) in fixtures() {
        let node = fixture.open("d", READ).expect("the directory");
        fixture.ring.server().forget_in_walks(b"f07");
        let Value::EntriesPlus { entries, .. } = run!(fixture, read_directory_plus(node, 0)).expect("entries") else {
            panic!("not entries")
        };
        for (entry, attributes) in &entries {
            assert_eq!(attributes.is_none(), entry.name == b"f07", "{name}: {:?}", entry.name);
        }
        fixture.mount.close(node);
        fixture.assert_no_leak(0);
    }
}

#[test]
fn what_is_no_directory_has_no_entries() {
    for (_, fixture) in fixtures() {
        let node = fixture.open("d/f01", READ).expect("the file");
        assert_eq!(run!(fixture, read_directory_plus(node, 0)), errno(Errno::ENOTDIR));
        fixture.mount.close(node);
    }
}

#[test]
fn a_look_up_tells_what_is_on_the_way() {
    for (name, fixture) in fixtures() {
        let qid = |path| fixture.stat(path, false).expect("its attributes").qid;
        let way = ["d", "d/sub", "d/sub/x"].map(qid);
        let found = look_up(&fixture, "d/sub//./x", true).expect("the file");
        assert_eq!(found.passed.as_deref(), Some(&way[..]), "{name}");
        assert_eq!(found.attributes.expect("its attributes").size, 5, "{name}");
        // The last name is not there.
        let missing = look_up(&fixture, "d/sub/none", true).expect("where it should be");
        assert_eq!(missing, LookedUp { passed: Some(way[..2].to_vec()), attributes: None }, "{name}");
        let missing = look_up(&fixture, "none", true).expect("where it should be");
        assert_eq!(missing, LookedUp { passed: Some(Vec::new()), attributes: None }, "{name}");
        // One before it is not.
        assert_eq!(look_up(&fixture, "d/none/x", true), Err(Errno::ENOENT.into()), "{name}");
        // By way of a link, or up, the names of the path are not those that were walked.
        let by_link = look_up(&fixture, "d/link/x", true).expect("the file");
        assert_eq!((by_link.passed, by_link.attributes.map(|found| found.size)), (None, Some(5)), "{name}");
        let up = look_up(&fixture, "d/sub/../f03", true).expect("the file");
        assert_eq!((up.passed, up.attributes.map(|found| found.size)), (None, Some(3)), "{name}");
        // The link itself is a name like others.
        let link = look_up(&fixture, "d/link", false).expect("the link");
        assert_eq!(link.passed, Some(vec![qid("d"), qid("d/link")]), "{name}");
        assert!(link.attributes.expect("its attributes").qid.kind.is_symlink(), "{name}");
        fixture.assert_no_leak(0);
    }
}

#[test]
fn a_file_is_opened_with_its_attributes() {
    const ASKING: OpenFlags = OpenFlags { attributes: true, ..READ };
    for (name, fixture) in fixtures() {
        let opened = |flags| match run!(fixture, open(0, "d/sub/x".to_owned(), flags, 0)).expect("the file") {
            Value::Opened { node, attributes, .. } => {
                fixture.mount.close(node);
                attributes
            }
            other => panic!("open yields {other:?}"),
        };
        let attributes = opened(ASKING);
        // Where it costs nothing: not a message more on who answers at once.
        if name != "ordered" && name != "immediate" {
            assert_eq!(attributes.expect("attributes").size, 5, "{name}");
        }
        assert_eq!(opened(READ), None, "{name}");
        assert_eq!(opened(OpenFlags { write: true, truncate: true, ..ASKING }), None, "{name}");
        fixture.assert_no_leak(0);
    }
}

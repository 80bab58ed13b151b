//! What the observers of a server are told.

mod common;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread,
};

use common::{Client, Direct, ROOT};
use ninering::{
    backend::{Backend, MemBackend, NodeRef, User},
    server::{Exchange, Observer, Observers, Server, ServerOptions},
};
use ninering_wire::{Errno, Tmessage};

#[derive(Debug, Default)]
struct Seen {
    said: Mutex<Vec<String>>,
    fids: Mutex<(isize, isize)>,
}

impl Seen {
    fn say(&self, what: String) {
        self.said.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

impl Observer for Seen {
    fn opened(&self, session: u64, peer: &str) {
        self.say(format!("{session} opened by {peer}"));
    }

    fn closed(&self, session: u64) {
        self.say(format!("{session} closed"));
    }

    fn begun(&self) {
        self.say("begun".into());
    }

    fn answered(&self, exchange: &Exchange<'_, '_>) {
        let Exchange { session, payload, reply_len, error, .. } = exchange;
        let name = Tmessage::name_of(exchange.kind()).unwrap_or("?");
        self.say(format!("{session} {name} {:?} +{payload} = {reply_len} {error:?}", exchange.tag()));
    }

    fn fids_changed(&self, change: isize) {
        let mut fids = self.fids.lock().unwrap();
        fids.0 += change;
        fids.1 = fids.1.max(fids.0);
    }
}

fn watched(backend: impl Backend) -> (Arc<Seen>, Arc<Server>) {
    let seen = Arc::new(Seen::default());
    let observers = Observers(vec![seen.clone()]);
    (seen, Server::new(Arc::new(backend), ServerOptions { observers, ..ServerOptions::default() }))
}

fn client(server: &Arc<Server>, peer: &str) -> Client {
    Client::new(Direct { session: Arc::new(server.session().watched(peer)), space: None })
}

#[test]
fn each_request_is_told_with_its_reply() {
    let (seen, server) = watched(MemBackend::default());
    let mut client = client(&server, "a test");
    assert_eq!(seen.take(), ["1 opened by a test"]);
    client.begin();
    assert_eq!(
        seen.take(),
        ["begun", "1 Tversion Some(65535) +0 = 21 None", "begun", "1 Tattach Some(1) +0 = 20 None"]
    );
    let file = client.create("", "file", ninering_wire::lopen::RDWR, 0o600).unwrap();
    seen.take();
    client.write(file, 0, b"seven b").unwrap();
    client.read(file, 0, 100).unwrap();
    assert_eq!(client.walk(ROOT, 77, &["none"]), Err(Errno::ENOENT));
    let said = seen.take();
    let said: Vec<_> = said.iter().filter(|line| *line != "begun").collect();
    assert_eq!(
        said,
        ["1 Twrite Some(4) +7 = 11 None", "1 Tread Some(5) +0 = 18 None", "1 Twalk Some(6) +0 = 11 Some(ENOENT)"]
    );
    // What is no message is told too.
    client.transport.exchange(vec![7, 0, 0, 0, 5, 1, 0]);
    client.transport.exchange(vec![1, 2]);
    assert_eq!(
        seen.take(),
        ["begun", "1 ? Some(1) +0 = 11 Some(EOPNOTSUPP)", "begun", "1 ? None +0 = 11 Some(EPROTO)"]
    );
    drop(client);
    assert_eq!(seen.take(), ["1 closed"]);
}

#[test]
fn the_fids_of_all_sessions_are_counted_while_threads_come_and_go() {
    let (seen, server) = watched(MemBackend::default());
    let sessions: Vec<_> = (0..3).map(|_| Arc::new(server.session().watched("a test"))).collect();
    thread::scope(|scope| {
        for session in &sessions {
            let mut first = Client::new(Direct { session: Arc::clone(session), space: None });
            first.begin();
            for thread in 0..3 {
                let mut client = Client::new(Direct { session: Arc::clone(session), space: None });
                scope.spawn(move || {
                    for round in 0..300 {
                        let fid = 100 + thread * 1000 + round;
                        client.walk(ROOT, fid, &[]).unwrap();
                        if round % 3 != 0 {
                            client.clunk(fid).unwrap();
                        }
                    }
                });
            }
        }
    });
    let expected: usize = sessions.iter().map(|session| session.fid_count()).sum();
    assert_eq!(expected, 3 * (1 + 3 * 100));
    assert_eq!(seen.fids.lock().unwrap().0, expected as isize);
    drop(sessions);
    let fids = *seen.fids.lock().unwrap();
    assert_eq!(fids.0, 0);
    assert!(fids.1 >= expected as isize);
}

struct Panics;

impl Backend for Panics {
    fn attach(&self, _: &User, _: &[u8]) -> Result<NodeRef, Errno> {
        panic!("as the test wants it");
    }
}

#[test]
fn a_request_that_panics_is_told_as_failed() {
    let (seen, server) = watched(Panics);
    let mut client = client(&server, "a test");
    client.version(8192).unwrap();
    seen.take();
    assert!(catch_unwind(AssertUnwindSafe(|| client.attach(ROOT, ""))).is_err());
    assert_eq!(seen.take(), ["begun", "1 Tattach Some(1) +0 = 0 Some(EIO)"]);
}

#[test]
fn who_is_not_watched_is_not_told_of() {
    let (seen, server) = watched(MemBackend::default());
    Client::attached(server);
    assert_eq!(seen.take(), [""; 0]);
}

//! What holds whatever is done, in whatever order the replies come, however small the queue is.

mod support;

use ninering_client::{
    Outcome,
    vfs::{OpenFlags, Value},
};
use proptest::prelude::*;
use support::{CREATE, Fixture, MemoryRing, NONE, READ, Server, run};

/// An operation on a small tree, in which names meet often.
#[derive(Clone, Debug)]
enum Operation {
    Open { path: String, flags: OpenFlags },
    CloseOne(usize),
    ReadOne(usize, u64, u32),
    WriteOne(usize, u64, u32),
    ListOne(usize),
    SyncOne(usize),
    Stat(String, bool),
    StatAt(usize, String),
    Identify(String),
    MakeDirectory(String),
    Symlink(String, String),
    ReadLink(String),
    Link(String, String),
    Rename(String, String),
    Unlink(String),
    RemoveDirectory(String),
}

fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "c", "l", "..", ".", "", "missing"]);
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn flags() -> impl Strategy<Value = OpenFlags> {
    any::<[bool; 7]>().prop_map(|[read, write, append, create, exclusive, truncate, follow]| OpenFlags {
        read,
        write,
        append,
        create,
        exclusive: exclusive && create,
        truncate,
        follow,
        ..NONE
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let node = || 0..8_usize;
    prop_oneof![
        3 => (path(), flags()).prop_map(|(path, flags)| Operation::Open { path, flags }),
        2 => node().prop_map(Operation::CloseOne),
        1 => (node(), 0..9000_u64, 0..20_000_u32).prop_map(|(node, offset, len)| Operation::ReadOne(node, offset, len)),
        1 => (node(), 0..9000_u64, 0..20_000_u32).prop_map(|(node, offset, len)| Operation::WriteOne(node, offset, len)),
        1 => node().prop_map(Operation::ListOne),
        1 => node().prop_map(Operation::SyncOne),
        1 => (path(), any::<bool>()).prop_map(|(path, follow)| Operation::Stat(path, follow)),
        1 => (node(), path()).prop_map(|(node, path)| Operation::StatAt(node, path)),
        1 => path().prop_map(Operation::Identify),
        1 => path().prop_map(Operation::MakeDirectory),
        1 => (path(), path()).prop_map(|(path, target)| Operation::Symlink(path, target)),
        1 => path().prop_map(Operation::ReadLink),
        1 => (path(), path()).prop_map(|(old, new)| Operation::Link(old, new)),
        1 => (path(), path()).prop_map(|(old, new)| Operation::Rename(old, new)),
        1 => path().prop_map(Operation::Unlink),
        1 => path().prop_map(Operation::RemoveDirectory),
    ]
}

fn server(is_old: bool) -> Server {
    let mut server =
        Server::new().file("a/b/c", "contents").file("b/c", vec![3; 30_000]).link("l", "a/b").link("a/l", "..");
    server.is_old = is_old;
    server
}

/// Begins an operation; those on open nodes choose one of `nodes`.
fn begin(fixture: &Fixture, nodes: &mut Vec<u32>, operation: Operation) -> Outcome<Value> {
    let mount = &fixture.mount;
    let choose = |index: usize| nodes.get(index % nodes.len().max(1)).copied().unwrap_or(0);
    match operation {
        Operation::Open { path, flags } => mount.run(async move |vfs| vfs.open(0, path, flags, 0o644).await),
        Operation::CloseOne(index) => {
            if !nodes.is_empty() {
                mount.close(nodes.swap_remove(index % nodes.len()));
            }
            Outcome::Complete(Ok(Value::None))
        }
        Operation::ReadOne(index, offset, len) => {
            let (node, (iter, _)) = (choose(index), fixture.ring.buffer(len));
            mount.run(async move |vfs| vfs.read(node, offset, iter, len.into()).await)
        }
        Operation::WriteOne(index, offset, len) => {
            let (node, iter) = (choose(index), fixture.ring.filled_buffer(&vec![5; len as usize]));
            mount.run(async move |vfs| vfs.write(node, offset, iter, len.into()).await)
        }
        Operation::ListOne(index) => {
            let node = choose(index);
            mount.run(async move |vfs| vfs.read_directory(node, 0).await)
        }
        Operation::SyncOne(index) => {
            let node = choose(index);
            mount.run(async move |vfs| vfs.sync(node, false).await)
        }
        Operation::Stat(path, follow) => mount.run(async move |vfs| vfs.stat_at(0, path, follow).await),
        Operation::StatAt(index, path) => {
            let node = choose(index);
            mount.run(async move |vfs| vfs.stat_at(node, path, true).await)
        }
        Operation::Identify(path) => mount.run(async move |vfs| vfs.identify_at(0, path, true).await),
        Operation::MakeDirectory(path) => mount.run(async move |vfs| vfs.make_directory(0, path, 0o755).await),
        Operation::Symlink(path, target) => mount.run(async move |vfs| vfs.symlink(0, path, target).await),
        Operation::ReadLink(path) => mount.run(async move |vfs| vfs.read_link(0, path).await),
        Operation::Link(old, new) => mount.run(async move |vfs| vfs.link(0, old, false, 0, new).await),
        Operation::Rename(old, new) => mount.run(async move |vfs| vfs.rename(0, old, 0, new).await),
        Operation::Unlink(path) => mount.run(async move |vfs| vfs.unlink(0, path).await),
        Operation::RemoveDirectory(path) => mount.run(async move |vfs| vfs.remove_directory(0, path).await),
    }
}

/// Where requests are served in an `order` of their own, or in that in which they are sent and without or with the
/// client's knowing it.
fn fixture(is_old: bool, queue_size: u16, order: Order) -> Fixture {
    let mut server = server(is_old);
    server.msize = 8192;
    let ring = MemoryRing::new(server, queue_size);
    match order {
        Order::AtOnce => {}
        Order::Known => return Fixture::ordered(ring),
        Order::Visits => return Fixture::with_visits(ring),
        Order::VisitsInAny(order) => {
            ring.shuffle(order);
            return Fixture::with_visits(ring);
        }
        Order::Immediate => return Fixture::immediate(ring),
        Order::KnownAndLate => {
            ring.hold();
            return Fixture::ordered(ring);
        }
        Order::Any(order) => ring.shuffle(order),
    }
    Fixture::with_ring(ring)
}

enum Order {
    AtOnce,
    Known,
    Visits,
    VisitsInAny(Vec<usize>),
    Immediate,
    KnownAndLate,
    Any(Vec<usize>),
}

proptest! {
    /// One operation after the other gives the same results at once and with replies out of order, through a queue
    /// with much room and with hardly any.
    #[test]
    fn results_do_not_depend_on_the_order_of_replies(
        operations in prop::collection::vec(operation(), 1..25),
        is_old: bool,
        queue_size in 3..40_u16,
        order in prop::collection::vec(0..64_usize, 500),
    ) {
        let fixtures = [
            fixture(is_old, 64, Order::AtOnce),
            fixture(is_old, queue_size, Order::Any(order.clone())),
            fixture(is_old, 64, Order::Known),
            fixture(is_old, queue_size, Order::Known),
            fixture(is_old, 64, Order::Visits),
            fixture(is_old, queue_size, Order::VisitsInAny(order)),
            fixture(is_old, 64, Order::Immediate),
            fixture(is_old, queue_size, Order::Immediate),
            fixture(is_old, queue_size, Order::KnownAndLate),
        ];
        let results = fixtures.each_ref().map(|fixture| {
            let mut nodes = Vec::new();
            let results: Vec<_> = operations.iter().map(|operation| {
                let outcome = begin(fixture, &mut nodes, operation.clone());
                let result = fixture.finish(outcome);
                if let Ok(Value::Opened { node, .. }) = &result {
                    nodes.push(*node);
                }
                result
            }).collect();
            for node in nodes {
                fixture.mount.close(node);
            }
            fixture.assert_no_leak(0);
            results
        });
        for other in &results[1..] {
            prop_assert_eq!(&results[0], other);
        }
    }

    /// Many operations at a time, served in any order or in a known one, all end and leave nothing behind.
    #[test]
    fn nothing_is_left_behind(
        operations in prop::collection::vec((operation(), 0..4_usize), 1..60),
        is_old: bool,
        queue_size in 3..40_u16,
        is_ordered: bool,
        order in prop::collection::vec(0..64_usize, 1000),
    ) {
        let order = if is_ordered { Order::KnownAndLate } else { Order::Any(order) };
        let fixture = fixture(is_old, queue_size, order);
        let mut nodes = Vec::new();
        let mut pending = Vec::new();
        let note = |result, nodes: &mut Vec<u32>| {
            if let Ok(Value::Opened { node, .. }) = result {
                nodes.push(node);
            }
        };
        for (operation, served) in operations {
            match begin(&fixture, &mut nodes, operation) {
                Outcome::Complete(result) => note(result, &mut nodes),
                Outcome::Pending(token) => {
                    prop_assert!(!pending.contains(&token), "a token in use");
                    pending.push(token);
                }
            }
            for _ in 0..served {
                fixture.ring.serve_any();
            }
            for (token, result) in fixture.mount.reap() {
                let place = pending.iter().position(|&other| other == token);
                pending.swap_remove(place.expect("a token that was handed out"));
                note(result, &mut nodes);
            }
        }
        while !pending.is_empty() {
            prop_assert!(fixture.ring.serve_any(), "{} wait and nothing is in flight", pending.len());
            for (token, result) in fixture.mount.reap() {
                pending.retain(|&other| other != token);
                note(result, &mut nodes);
            }
        }
        prop_assert_eq!(fixture.mount.running(), 0);
        for node in nodes {
            fixture.mount.close(node);
        }
        fixture.assert_no_leak(0);
    }

    /// A large transfer comes out right whatever the order in which its pieces are served, and the queue's size.
    #[test]
    fn transfers_are_whole(
        queue_size in 3..20_u16,
        length in 0..200_000_usize,
        order in prop::collection::vec(0..64_usize, 100),
    ) {
        let content: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
        let fixture = fixture(false, queue_size, Order::Any(order));
        let node = fixture.open("big", CREATE).unwrap();
        prop_assert_eq!(fixture.write(node, 0, &content).unwrap() as usize, length);
        prop_assert!(fixture.ring.server().content("big").unwrap() == content);
        prop_assert!(fixture.read(node, 0, length as u32 + 100).unwrap() == content);
        fixture.mount.close(node);
        fixture.assert_no_leak(0);
    }

    /// Whatever a reply's bytes are, the client does not panic, and says no more than that the session is broken.
    #[test]
    fn no_bytes_are_a_panic(
        changes in prop::collection::vec((0..40_usize, any::<u8>(), 0..3_u8), 1..6),
        from in 0..12_u32,
        operations in prop::collection::vec(operation(), 1..12),
    ) {
        let fixture = fixture(false, 16, Order::AtOnce);
        let mut count = 0;
        fixture.ring.lie(move |_, mut honest| {
            count += 1;
            if count > from {
                for &(index, byte, how) in &changes {
                    match how {
                        0 => honest.truncate(index),
                        1 => honest.extend(std::iter::repeat_n(byte, index)),
                        _ => {
                            if let Some(place) = honest.get_mut(index) {
                                *place = byte;
                            }
                        }
                    }
                }
                // Often enough the size should be right, for other things to be looked at.
                let size = honest.len() as u32;
                if count % 4 != 0 && honest.len() >= 4 {
                    honest[..4].copy_from_slice(&size.to_le_bytes());
                }
            }
            honest
        });
        let mut nodes = Vec::new();
        for operation in operations {
            let outcome = begin(&fixture, &mut nodes, operation);
            if let Ok(Value::Opened { node, .. }) = fixture.finish(outcome) {
                nodes.push(node);
            }
        }
    }

    /// Operations that are dropped while under way leave nothing behind: what they would have got is given back.
    #[test]
    fn what_is_dropped_is_given_back(
        operations in prop::collection::vec(operation(), 1..12),
        served in 0..20_usize,
        is_ordered: bool,
        order in prop::collection::vec(0..64_usize, 40),
    ) {
        use ninering_client::{executor::Executor, session::Session, vfs::Vfs};
        use std::rc::Rc;

        let ring = MemoryRing::new(server(false), 12);
        let session = Rc::new(Session::new(ring.clone()));
        session.set_ordered(is_ordered);
        ring.server().is_ordered = is_ordered;
        let vfs = Rc::new(Vfs::new(session.clone()));
        let mounting = Executor::new(session.clone());
        let started = vfs.clone();
        let is_started = mounting.submit(async move { started.start(ninering_client::vfs::Start { msize: 8192, ..Default::default() }).await.is_ok() });
        prop_assert_eq!(is_started, Ok(true));
        if is_ordered { ring.hold() } else { ring.shuffle(order) }
        let executor = Executor::new(session.clone());
        for operation in operations {
            let (vfs, ring) = (vfs.clone(), ring.clone());
            let future = async move {
                match operation {
                    Operation::Open { path, .. } | Operation::Unlink(path) => vfs.open(0, path, READ, 0).await.is_ok(),
                    Operation::Rename(old, new) => vfs.rename(0, old, 0, new).await.is_ok(),
                    Operation::ListOne(_) => vfs.read_directory(0, 0).await.is_ok(),
                    Operation::Stat(path, follow) => vfs.stat_at(0, path, follow).await.is_ok(),
                    Operation::ReadOne(..) => match vfs.open(0, "b/c".into(), READ, 0).await {
                        Ok(Value::Opened { node, .. }) => {
                            let (iter, _) = ring.buffer(30_000);
                            vfs.read(node, 0, iter, 30_000).await.is_ok()
                        }
                        _ => false,
                    },
                    Operation::Symlink(path, _) => vfs.unlink(0, path).await.is_ok(),
                    _ => vfs.identify_at(0, "a/b/c".into(), true).await.is_ok(),
                }
            };
            let _ = executor.submit(future);
        }
        for _ in 0..served {
            ring.serve_any();
            executor.reap();
        }
        drop(executor);
        let after = Executor::<_, ()>::new(session.clone());
        after.reap();
        while ring.serve_any() {
            after.reap();
        }
        after.reap();
        for node in 1..20 {
            vfs.close(node);
        }
        after.reap();
        while ring.serve_any() {
            after.reap();
        }
        after.reap();
        prop_assert_eq!(session.tags_in_use(), 0);
        prop_assert!(ring.server().fids() <= 2, "the root, and its listing");
        prop_assert_eq!(session.fids_in_use(), ring.server().fids());
        prop_assert_eq!(ring.leases(), 0);
    }
}

#[test]
fn a_queue_with_room_for_one_request_is_enough() {
    let fixture = fixture(false, 3, Order::Any(Vec::new()));
    for _ in 0..20 {
        assert_eq!(fixture.list("a/b").unwrap(), ["c"]);
        assert!(matches!(run!(fixture, stat_at(0, "l/c".into(), true)), Ok(Value::Attributes(_))));
    }
    fixture.assert_no_leak(0);
}

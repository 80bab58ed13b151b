//! Operations that are cancelled: what is in flight is flushed, and nothing is used again before it is over.

mod support;

use ninering_client::{Error, Outcome, vfs::Value};
use ninering_wire::Errno;
use proptest::prelude::*;
use support::{CREATE, Fixture, MemoryRing, READ, Result, Server, errno};

fn fixture() -> Fixture {
    let server = Server::new().file("file", vec![7; 50_000]).file("d/e/inner", "x").link("d/link", "e/inner");
    let fixture = Fixture::with_ring(MemoryRing::new(server, 64));
    fixture.ring.take_log();
    fixture.ring.hold();
    fixture
}

fn pending(outcome: Outcome<Value>) -> u32 {
    match outcome {
        Outcome::Pending(token) => token,
        Outcome::Complete(result) => panic!("it is complete: {result:?}"),
    }
}

fn stat(fixture: &Fixture) -> u32 {
    pending(fixture.mount.run(async |vfs| vfs.stat_at(0, "file".into(), true).await))
}

/// What has come of the only operation there was.
fn only(fixture: &Fixture, token: u32) -> Result {
    let mut completions = fixture.mount.reap();
    assert_eq!(completions.len(), 1, "one operation is complete");
    let (completed, result) = completions.remove(0);
    assert_eq!(completed, token);
    result
}

#[test]
fn a_request_that_is_flushed_is_an_interrupted_operation() {
    let fixture = fixture();
    let token = stat(&fixture);
    fixture.mount.cancel(token);
    assert!(fixture.mount.reap().is_empty(), "nothing was answered yet");
    // The walk is the first of the two, and stays unanswered.
    fixture.ring.serve(1);
    assert_eq!(only(&fixture, token), errno(Errno::EINTR));
    assert_eq!(fixture.ring.take_log(), ["Tflush"]);
    fixture.assert_no_leak(0);
}

#[test]
fn a_request_that_is_answered_first_counts() {
    let fixture = fixture();
    let token = stat(&fixture);
    fixture.mount.cancel(token);
    let in_use = fixture.mount.session().tags_in_use();
    fixture.ring.serve(0);
    assert_eq!(only(&fixture, token), errno(Errno::EINTR), "nothing more was sent");
    // The fid that was walked to is clunked; the walk's tag is taken until its flush is answered.
    assert!(fixture.mount.session().tags_in_use() >= in_use);
    fixture.ring.serve(0);
    fixture.assert_no_leak(0);
    assert_eq!(fixture.ring.take_log(), ["Twalk", "Tflush", "Tclunk"]);
}

#[test]
fn a_server_that_cannot_flush_is_waited_for() {
    let fixture = fixture();
    fixture.ring.lie(|request, honest| match request[4] {
        108 => support::encode(
            u16::from_le_bytes([request[5], request[6]]),
            &ninering_wire::Rmessage::Rlerror { ecode: Errno::EOPNOTSUPP.0 },
            &[],
        ),
        _ => honest,
    });
    let token = stat(&fixture);
    fixture.mount.cancel(token);
    fixture.ring.serve(1);
    assert!(fixture.mount.reap().is_empty(), "it is still in flight");
    fixture.ring.serve(0);
    assert_eq!(only(&fixture, token), errno(Errno::EINTR));
    fixture.assert_no_leak(0);
}

#[test]
fn cancelling_twice_or_what_is_over_does_nothing() {
    let fixture = fixture();
    let token = stat(&fixture);
    fixture.mount.cancel(token);
    fixture.mount.cancel(token);
    fixture.mount.cancel(token + 1000);
    while fixture.ring.serve_any() {}
    assert!(only(&fixture, token).is_err());
    fixture.mount.cancel(token);
    fixture.assert_no_leak(0);
    assert_eq!(fixture.ring.take_log().iter().filter(|&&name| name == "Tflush").count(), 1);
}

#[test]
fn nothing_written_without_a_flush_is_still_a_lie() {
    let fixture = fixture();
    let token = stat(&fixture);
    fixture.ring.lie(|_, _| Vec::new());
    fixture.ring.serve(0);
    assert!(matches!(only(&fixture, token), Err(Error::Broken(_))));
}

#[test]
fn what_was_answered_before_there_was_room_for_its_flush_is_not_flushed() {
    let fixture = Fixture::with_ring(MemoryRing::new(Server::new().file("file", "x"), 8));
    fixture.ring.hold();
    let tokens: Vec<u32> = (0..4).map(|_| stat(&fixture)).collect();
    fixture.ring.take_log();
    fixture.mount.cancel(tokens[0]);
    fixture.ring.serve(0);
    assert_eq!(only(&fixture, tokens[0]), errno(Errno::EINTR));
    while fixture.ring.serve_any() {
        fixture.mount.reap();
    }
    assert!(!fixture.ring.take_log().contains(&"Tflush"));
    fixture.assert_no_leak(0);
}

#[test]
fn a_look_before_a_change_that_is_given_up_gives_its_fid_back() {
    let fixture = Fixture::recovering(MemoryRing::new(Server::new().file("file", "x"), 64));
    fixture.ring.take_log();
    fixture.ring.hold();
    let rename = fixture.mount.run(async |vfs| vfs.rename(0, "file".into(), 0, "new".into()).await);
    let token = pending(rename);
    fixture.mount.cancel(token);
    let mut completions = Vec::new();
    while fixture.ring.serve_any() {
        completions.extend(fixture.mount.reap());
    }
    assert_eq!(completions, [(token, errno(Errno::EINTR))]);
    assert_eq!(fixture.ring.take_log(), ["Twalk", "Tflush", "Tclunk"]);
    fixture.assert_no_leak(0);
}

proptest! {
    #[test]
    fn whatever_is_cancelled_when_nothing_is_lost(
        operations in prop::collection::vec(0..5_u8, 1..12),
        cancels in prop::collection::vec((0..30_usize, 0..12_usize), 0..12),
        order in prop::collection::vec(0..64_usize, 0..200),
        size in prop::sample::select(vec![4_u16, 8, 64]),
    ) {
        let server = Server::new().file("file", vec![7; 50_000]).file("d/e/inner", "x").link("d/link", "e/inner");
        let fixture = Fixture::with_ring(MemoryRing::new(server, size));
        let file = fixture.open("file", READ).expect("a file");
        fixture.ring.shuffle(order);
        let mut tokens = Vec::new();
        let mut results = Vec::new();
        for (index, operation) in operations.into_iter().enumerate() {
            let outcome = match operation {
                0 => fixture.mount.run(async |vfs| vfs.stat_at(0, "d/link".into(), true).await),
                1 => fixture.mount.run(async |vfs| vfs.open(0, "d/e/inner".into(), READ, 0).await),
                2 => fixture.mount.run(async move |vfs| vfs.open(0, format!("new-{index}"), CREATE, 0o644).await),
                3 => {
                    let (iter, _) = fixture.ring.buffer(20_000);
                    fixture.mount.run(async move |vfs| vfs.read(file, 0, iter, 20_000).await)
                }
                _ => fixture.mount.run(async |vfs| vfs.unlink(0, "d/none".into()).await),
            };
            match outcome {
                Outcome::Pending(token) => tokens.push(token),
                Outcome::Complete(result) => results.push(result),
            }
        }
        let begun = tokens.clone();
        for step in 0.. {
            for &(_, which) in cancels.iter().filter(|&&(when, _)| when == step) {
                if let Some(&token) = begun.get(which) {
                    // It may be over: nothing else was begun that could have its number.
                    fixture.mount.cancel(token);
                }
            }
            let served = fixture.ring.serve_any();
            for (token, result) in fixture.mount.reap() {
                let place = tokens.iter().position(|&other| other == token).expect("it completes once");
                tokens.swap_remove(place);
                results.push(result);
            }
            if !served && step > 30 && fixture.ring.in_flight() == 0 {
                break;
            }
        }
        prop_assert!(tokens.is_empty(), "all of them end");
        for result in results {
            match result {
                Ok(Value::Opened { node, .. }) => fixture.mount.close(node),
                Err(Error::Broken(reason)) => prop_assert!(false, "{}", reason),
                _ => {}
            }
        }
        fixture.mount.close(file);
        fixture.assert_no_leak(0);
    }
}

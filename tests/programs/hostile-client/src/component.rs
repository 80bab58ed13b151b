//! World `client-component`.

pub(crate) mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "client-component" });
}

use std::cell::RefCell;

use bindings::{
    exports::ninering::fs::{
        client::{self, CallCompletion, CallOutcome},
        vfs::{
            self, AccessMode, Buffers, Completion, Entries, EntriesPlus, Error, LockRequest, LookedUp, MemoryKind,
            Node, OpenFlags, Opened, Options, Outcome, Recovered, SetMode, Value,
        },
    },
    ninering::fs::{
        memory::{Extent, Region},
        types::{AttributeChanges, Qid},
        virtqueue::{Chain, Virtqueue},
    },
};

use crate::script::Script;

struct Component;

bindings::export!(Component with_types_in bindings);

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

enum State {
    /// It behaves as the aname says.
    Behaves { region: Region, queue: Virtqueue, behaviour: String },
    /// It does what the aname's characters say, each of which is a byte.
    Plays(Script),
}

/// What an aname that is a script begins with.
const SCRIPT: &str = "script:";

/// Plays a piece of the script, if there is one; else returns `otherwise`.
fn scripted(lent: &[Extent], otherwise: Outcome) -> Outcome {
    STATE.with_borrow_mut(|state| match state {
        Some(State::Plays(script)) => script.play(lent),
        _ => otherwise,
    })
}

/// `ENOSYS`.
const NOT_THERE: Outcome = Outcome::Complete(Err(Error::Errno(38)));

fn qid() -> Qid {
    Qid { kind: 0x80, version: 0, path: 1 }
}

/// Does what the aname says.
fn misbehave(region: &Region, queue: &Virtqueue, behaviour: &str) -> Outcome {
    match behaviour {
        "trap" => unreachable!("as it was told"),
        "hang" => loop {
            std::hint::black_box(());
        },
        "recurse" => Outcome::Complete(Ok(Value::Count(recurse(1)))),
        "hog" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&all);
            }
        }
        "other-value" => Outcome::Complete(Ok(Value::Opened(Opened { node: 7, qid: qid(), attributes: None }))),
        "huge-count" => Outcome::Complete(Ok(Value::Count(u64::MAX))),
        "never" => Outcome::Pending(1),
        "long-reason" => Outcome::Complete(Err(Error::Broken("x".repeat(1 << 20)))),
        "wild-errno" => Outcome::Complete(Err(Error::Errno(u32::MAX))),
        "header-missing" => {
            let chain = Chain { id: 1, header_len: 100, out: vec![], reply_len: 11, in_: vec![] };
            queue.submit(&[chain], b"short");
            NOT_THERE
        }
        "wild-ring" => {
            wild(region, queue);
            NOT_THERE
        }
        _ => NOT_THERE,
    }
}

fn recurse(depth: u64) -> u64 {
    let page = std::hint::black_box([depth as u8; 4096]);
    if depth == u64::MAX { 0 } else { recurse(depth + 1) + u64::from(page[17]) }
}

/// Uses the ring and the region in every wrong way that comes to mind, thousands of times.
fn wild(region: &Region, queue: &Virtqueue) {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let size = region.size();
    let mut own = Vec::new();
    for round in 0..20_000_u32 {
        let mut extent = |own: &[Extent]| {
            let offset = match next() % 6 {
                0 => next(),
                1 => u64::MAX - next() % 16,
                2 => size - next() % 4096,
                3 => next() % size,
                _ if own.is_empty() => 0,
                _ => own[next() as usize % own.len()].offset + next() % 64,
            };
            let len = match next() % 4 {
                0 => 0,
                1 => u32::MAX,
                2 => next() as u32,
                _ => (next() % 5000) as u32,
            };
            Extent { offset, len }
        };
        let extents: Vec<Extent> = (0..round % 5).map(|_| extent(&own)).collect();
        let one = extent(&own);
        // Most of it is refused, and what is not must not matter to anybody else.
        match next() % 9 {
            0 => own.extend(region.allocate((next() % (1 << 22)) as u32)),
            1 => drop(region.release(one)),
            2 => drop(region.read(one)),
            3 => drop(region.write(one.offset, &vec![0xee; one.len as usize % 70_000])),
            4 if !own.is_empty() => drop(region.release(own.swap_remove(next() as usize % own.len()))),
            5 => _ = queue.add(round, &vec![7; next() as usize % 70_000], &extents, next() as u32, &[one]),
            6 => {
                // What looks like a message, so that the server has something to do.
                let header = [23, 0, 0, 0, 116, round as u8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
                _ = queue.add(round, &header, &[], 11, &extents);
            }
            7 => queue.kick(),
            _ => {
                let headers = vec![next() as u8; 300];
                let chain = |id| Chain { id, header_len: 60, out: extents.clone(), reply_len: 11, in_: vec![one] };
                queue.submit(&[chain(1), chain(1), chain(u32::MAX)], &headers);
            }
        }
        if round % 50 == 0 {
            queue.kick();
            queue.used();
        }
    }
}

fn extents(lent: &Buffers) -> &[Extent] {
    match lent {
        Buffers::One(extent) => std::slice::from_ref(extent),
        Buffers::Many(extents) => extents,
    }
}

impl vfs::Guest for Component {
    fn start(region: Region, queue: Virtqueue, options: Options) -> Outcome {
        let started = Outcome::Complete(Ok(Value::Qid(qid())));
        let Some(script) = options.aname.strip_prefix(SCRIPT) else {
            STATE.set(Some(State::Behaves { region, queue, behaviour: options.aname }));
            return started;
        };
        let mut script = Script::new(region, queue, script.chars().map(|byte| byte as u8).collect());
        script.begin();
        STATE.set(Some(State::Plays(script)));
        started
    }

    fn stat(_: Node) -> Outcome {
        STATE.with_borrow_mut(|state| match state {
            Some(State::Behaves { region, queue, behaviour }) => misbehave(region, queue, behaviour),
            Some(State::Plays(script)) => script.play(&[]),
            None => NOT_THERE,
        })
    }

    fn reconnect() -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn recovery() -> Recovered {
        Recovered { reconnects: 0, resent: 0, settled: 0, doubtful: 0, stale_fids: 0, lost_locks: 0 }
    }

    fn reap() -> Vec<Completion> {
        // Of operations that there never were.
        (0..1000).map(|token| Completion { token: token * 7, outcome: Ok(Value::None) }).collect()
    }

    fn auth_read(lent: Vec<Extent>) -> Outcome {
        scripted(&lent, NOT_THERE)
    }

    fn auth_write(lent: Vec<Extent>) -> Outcome {
        scripted(&lent, NOT_THERE)
    }

    fn attach() -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn cancel(_: u32) {
        scripted(&[], NOT_THERE);
    }

    fn version(_: Node) -> Outcome {
        // The version of something else.
        scripted(&[], Outcome::Complete(Ok(Value::Count(1))))
    }

    fn access(_: Node, _: String, _: bool, _: AccessMode) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn make_special(_: Node, _: String, _: u32, _: u32, _: u32) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn get_xattr(_: Node, _: String, _: bool, _: String, lent: Vec<Extent>) -> Outcome {
        scripted(&lent, Outcome::Complete(Ok(Value::Count(u64::MAX))))
    }

    fn list_xattrs(_: Node, _: String, _: bool, lent: Vec<Extent>) -> Outcome {
        scripted(&lent, Outcome::Complete(Ok(Value::Count(u64::MAX))))
    }

    fn set_xattr(_: Node, _: String, _: bool, _: String, _: SetMode, lent: Vec<Extent>) -> Outcome {
        scripted(&lent, NOT_THERE)
    }

    fn remove_xattr(_: Node, _: String, _: bool, _: String) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn lock(_: Node, _: LockRequest, _: bool) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn test_lock(_: Node, _: LockRequest) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn abort(_: String) -> Vec<Completion> {
        scripted(&[], NOT_THERE);
        Vec::new()
    }

    fn open(_: Node, _: String, _: OpenFlags, _: u32) -> Outcome {
        scripted(&[], Outcome::Complete(Ok(Value::Opened(Opened { node: u32::MAX, qid: qid(), attributes: None }))))
    }

    fn close(_: Node) {
        scripted(&[], NOT_THERE);
    }

    fn read(_: Node, _: u64, _: MemoryKind, lent: Buffers) -> Outcome {
        // More than there is space for, of which nothing was written.
        scripted(extents(&lent), Outcome::Complete(Ok(Value::Count(u64::MAX))))
    }

    fn write(_: Node, _: u64, _: MemoryKind, lent: Buffers) -> Outcome {
        scripted(extents(&lent), Outcome::Complete(Ok(Value::Count(u64::MAX))))
    }

    fn read_directory(_: Node, _: u64) -> Outcome {
        // For ever.
        scripted(&[], Outcome::Complete(Ok(Value::Entries(Entries { entries: Vec::new(), end: false }))))
    }

    fn read_directory_plus(_: Node, _: u64) -> Outcome {
        scripted(&[], Outcome::Complete(Ok(Value::EntriesPlus(EntriesPlus { entries: Vec::new(), end: false }))))
    }

    fn sync(_: Node, _: bool) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn stat_at(_: Node, _: String, _: bool) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn look_up_at(_: Node, _: String, _: bool) -> Outcome {
        // More names than any path has.
        let passed = Some(vec![qid(); 10_000]);
        scripted(&[], Outcome::Complete(Ok(Value::LookedUp(LookedUp { passed, attributes: None }))))
    }

    fn identify_at(_: Node, _: String, _: bool) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn set_attributes(_: Node, _: AttributeChanges) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn set_attributes_at(_: Node, _: String, _: bool, _: AttributeChanges) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn statfs(_: Node) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn make_directory(_: Node, _: String, _: u32) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn symlink(_: Node, _: String, _: String) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn read_link(_: Node, _: String) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn link(_: Node, _: String, _: bool, _: Node, _: String) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn rename(_: Node, _: String, _: Node, _: String) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn unlink(_: Node, _: String) -> Outcome {
        scripted(&[], NOT_THERE)
    }

    fn remove_directory(_: Node, _: String) -> Outcome {
        scripted(&[], NOT_THERE)
    }
}

impl client::Guest for Component {
    fn limits() -> (u32, u32) {
        (0, 0)
    }

    fn call(_: client::TMessage) -> CallOutcome {
        CallOutcome::Pending(0)
    }

    fn cancel(_: u32) {}

    fn reap() -> Vec<CallCompletion> {
        Vec::new()
    }
}

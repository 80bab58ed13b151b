//! What libFuzzer learned and found, once more, without it; and sessions of numbers drawn anew each time.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    path::Path,
};

use arbitrary::{Arbitrary, Unstructured};
use ninering_hostile_server::{Input, play};

/// Sessions that are drawn.
const SESSIONS: u64 = 3000;

fn play_bytes(bytes: &[u8]) {
    if let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) {
        play(&input);
    }
}

#[test]
fn what_fuzzing_has_learned_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/client");
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("the seeds") {
        let path = entry.expect("an entry").path();
        eprintln!("{}", path.display());
        play_bytes(&fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "there are no seeds");
}

#[test]
fn no_server_makes_the_client_break_its_word() {
    let random = RandomState::new();
    for session in 0..SESSIONS {
        let seed = random.hash_one(session);
        eprintln!("session {seed:#x}");
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let length = next() % 1500;
        let bytes: Vec<u8> = (0..length).map(|_| (next() >> 32) as u8).collect();
        play_bytes(&bytes);
    }
}

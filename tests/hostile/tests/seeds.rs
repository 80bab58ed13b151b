//! What libFuzzer learned and found, once more, without it.

use std::{fs, path::Path};

use arbitrary::{Arbitrary, Unstructured};
use ninering_hostile::{Conversation, Input, Served, in_process, on_a_ring, over_socket};

/// Plays each file of a directory below `tests/fuzz`, and tells how many there are.
fn replay<I: for<'a> Arbitrary<'a>>(directory: &str, play: impl Fn(&I)) -> usize {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(directory);
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("the seeds") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("a file");
        if let Ok(input) = I::arbitrary_take_rest(Unstructured::new(&bytes)) {
            eprintln!("{}", path.display());
            play(&input);
            count += 1;
        }
    }
    count
}

// One test, not three: that none leaves a descriptor open is seen by counting the process's.
#[test]
fn what_fuzzing_has_learned_holds() {
    let mut count = 0;
    count += replay("seeds/mem", |input: &Input| in_process(Served::Mem, input));
    count += replay("seeds/dir", |input: &Input| in_process(Served::Dir, input));
    for served in [Served::Mem, Served::Dir] {
        count += replay("seeds/socket", |conversation: &Conversation| over_socket(served, conversation));
    }
    count += replay("seeds/ring", on_a_ring);
    assert!(count > 0, "there are no seeds");
}

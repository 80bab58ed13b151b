//! Runs a server that is killed and started again, time after time, for tests that are shell scripts:
//!
//! `restarting LEAST_MS MOST_MS SEED READY COMMAND [ARGUMENTS…]`
//!
//! `READY` is what the server says on standard error when it is up. Goes on until it is killed; the server has to be too, to
//! which the script sees (`tests/uml/run` does).

use std::{env, process::Command, time::Duration};

use ninering_tests::Restarting;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [least, most, seed, ready, program, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: restarting LEAST_MS MOST_MS SEED READY COMMAND [ARGUMENTS…]");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<u64>().unwrap_or_else(|_| panic!("'{text}' is no number"));
    let lives = Duration::from_millis(number(least))..=Duration::from_millis(number(most));
    let (program, rest) = (program.clone(), rest.to_vec());
    let command = move || {
        let mut command = Command::new(&program);
        command.args(&rest);
        command
    };
    let mut restarting = Restarting::start(command, ready, lives, number(seed));
    restarting.doom();
    let mut said = 0;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        while said < restarting.restarts() {
            said += 1;
            eprintln!("restarting: killed and started again, {said}");
        }
    }
}

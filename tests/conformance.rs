//! Well-known test suites on an export, through the Linux kernel's 9P client: a selection of `make conformance` and `make
//! recovery`, and less of each.
//!
//! Where the machine lacks what a test needs (root, User Mode Linux, a suite), the test says so and passes, unless
//! `NINERING_REQUIRE_PEERS` is set, as it is in `.ci/run`.

use std::process::Command;

use ninering_tests::{finish, ninering, root};

/// The status with which `tests/conformance/run` says that it cannot run here.
const CANNOT: i32 = 77;

/// Runs a suite, named as `tests/conformance/run` names it: with a cache mode of the client.
fn passes(suite: &str) {
    passes_with(&[], suite);
}

/// The same on a relay, behind which the server is killed all the time.
fn passes_killed(suite: &str) {
    passes_with(&["--killed"], suite);
}

fn passes_with(options: &[&str], suite: &str) {
    let mut run = Command::new(root().join("tests/conformance/run"));
    run.args(options).args(["--quick", "--server"]).arg(ninering().get_program());
    let ended = finish(run.arg(suite));
    if ended.status.code() == Some(CANNOT) {
        let why = ended.stderr.trim();
        assert!(std::env::var_os("NINERING_REQUIRE_PEERS").is_none(), "required, but {why}");
        eprintln!("SKIPPED: {why}");
        return;
    }
    ended.success();
}

#[test]
fn system_calls_do_what_posix_says() {
    passes("pjdfstest:none");
}

#[test]
fn random_operations_on_a_file_give_what_they_must() {
    passes("fsx:none");
}

#[test]
fn random_operations_and_mappings_of_a_file_give_what_they_must() {
    passes("fsx:mmap");
}

#[test]
fn checksums_of_blocks_are_those_that_were_written() {
    passes("fio:mmap");
}

#[test]
fn stressors_of_filesystems_find_nothing() {
    passes("stress-ng:none");
}

#[test]
fn a_repository_is_cloned_checked_and_packed() {
    passes("git:loose");
}

#[test]
fn two_processes_share_a_database() {
    passes("sqlite:none");
}

#[test]
fn an_archive_of_files_of_every_type_comes_back() {
    passes("tar:none");
}

#[test]
fn office_programs_find_no_error() {
    passes("dbench:none");
}

#[test]
fn many_processes_find_what_they_have_left() {
    passes("mixed:loose");
}

#[test]
fn random_operations_on_a_file_do_not_notice_that_the_server_behind_a_relay_is_killed() {
    passes_killed("fsx:none");
}

#[test]
fn many_processes_do_not_notice_that_the_server_behind_a_relay_is_killed() {
    passes_killed("mixed:none");
}

#[test]
fn many_processes_with_a_cache_do_not_notice_that_the_server_behind_a_relay_is_killed() {
    passes_killed("mixed:loose");
}

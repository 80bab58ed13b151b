//! The cache of a mount: what its modes promise, against a flat model; its bounds; its failures.
#![cfg(feature = "mount")]

mod common;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use common::serving::Serving;
use ninering::{
    backend::MemBackend,
    mount::{AttributeChanges, CacheMode, Mount, MountOptions, OpenFlags, SetTime, Writer},
    server::{Server, ServerOptions},
};
use proptest::prelude::*;
use tokio::runtime::Runtime;

const FILES: usize = 2;
const SLOTS: usize = 2;
/// Files do not grow beyond this: some pages, and more than what fits the cache of these tests.
const LARGEST: u64 = 400 << 10;

fn server() -> Arc<Server> {
    Server::new(Arc::new(MemBackend::default()), ServerOptions::default())
}

fn options(cache: CacheMode, cache_size: u64) -> MountOptions {
    MountOptions { cache: Some(cache), cache_size, timeout: Duration::from_secs(600), ..MountOptions::default() }
}

fn resized(size: u64) -> AttributeChanges {
    AttributeChanges {
        mode: None,
        uid: None,
        gid: None,
        size: Some(size),
        accessed: SetTime::Keep,
        modified: SetTime::Keep,
    }
}

async fn open(mount: &Mount, name: &str, more: OpenFlags) -> Arc<Writer> {
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE | more;
    Writer::open_at(&mount.root(), name, flags, 0o600).await.expect("it opens")
}

/// All that is between two places.
async fn read(file: &Writer, offset: u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let more = file.read(offset + bytes.len() as u64, size - bytes.len()).await.expect("it can be read");
        if more.is_empty() {
            break;
        }
        bytes.extend_from_slice(&more);
    }
    bytes
}

async fn close(file: Arc<Writer>) {
    file.flush().await.expect("it is written");
    file.close();
}

/// What is done, on one of two mounts with one of some files by one of some descriptors.
#[derive(Clone, Debug)]
enum Operation {
    Read {
        offset: u64,
        size: usize,
    },
    ReadOn {
        size: usize,
    },
    Write {
        offset: u64,
        size: usize,
        fill: u8,
    },
    Append {
        size: usize,
        fill: u8,
    },
    SetSize {
        size: u64,
    },
    Truncate,
    Size,
    Sync,
    Close,
    /// All descriptors of the file, so that another mount may have it.
    Leave,
}

fn operation() -> impl Strategy<Value = Operation> {
    // Near each other, so that they meet, and not on the boundaries of pages alone.
    let offset = prop_oneof![0..20_000_u64, (0..90_u64).prop_map(|page| page * 4096), 0..LARGEST];
    let size = prop_oneof![1..200_usize, 4000..5000_usize, Just(4096_usize), 1..100_000_usize];
    let size = || size.clone();
    prop_oneof![
        6 => (offset.clone(), size()).prop_map(|(offset, size)| Operation::Read { offset, size }),
        4 => size().prop_map(|size| Operation::ReadOn { size }),
        8 => (offset.clone(), size(), 1..=255_u8)
            .prop_map(|(offset, size, fill)| Operation::Write { offset, size, fill }),
        1 => (1..3000_usize, 1..=255_u8).prop_map(|(size, fill)| Operation::Append { size, fill }),
        1 => offset.prop_map(|size| Operation::SetSize { size }),
        1 => Just(Operation::Truncate),
        1 => Just(Operation::Size),
        1 => Just(Operation::Sync),
        2 => Just(Operation::Close),
        2 => Just(Operation::Leave),
    ]
}

type Step = (usize, usize, usize, Operation);

fn steps(mounts: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..mounts, 0..FILES, 0..SLOTS, operation()), 1..80)
}

/// One mount's open files.
struct Opened {
    files: HashMap<(usize, usize), (Arc<Writer>, u64)>,
    appenders: HashMap<usize, Arc<Writer>>,
}

impl Opened {
    async fn leave(&mut self, mount: &Mount, file: usize) {
        if let Some(appender) = self.appenders.remove(&file) {
            close(appender).await;
        }
        for slot in 0..SLOTS {
            if let Some((file, _)) = self.files.remove(&(file, slot)) {
                close(file).await;
            }
        }
        // What was closed before is perhaps still on its way.
        mount.flush().await.expect("it is written");
    }
}

/// Does the steps on mounts of one server. A file is open on one mount at a time; each that opens it sees all that was
/// written before.
async fn check(mounts: &[Mount], steps: &[Step], truth: &Mount) {
    let mut model = vec![Vec::new(); FILES];
    let mut opened: Vec<Opened> =
        mounts.iter().map(|_| Opened { files: HashMap::new(), appenders: HashMap::new() }).collect();
    for (number, (mount, file, slot, operation)) in steps.iter().enumerate() {
        for (other, opened) in opened.iter_mut().enumerate() {
            if other != *mount {
                opened.leave(&mounts[other], *file).await;
            }
        }
        let name = format!("file-{file}");
        let (contents, opened, mount) = (&mut model[*file], &mut opened[*mount], &mounts[*mount]);
        if matches!(operation, Operation::Close) {
            if let Some((file, _)) = opened.files.remove(&(*file, *slot)) {
                // In the background, as when a program closes it.
                file.close();
            }
            continue;
        }
        if matches!(operation, Operation::Leave) {
            opened.leave(mount, *file).await;
            continue;
        }
        let (writer, position) = match opened.files.entry((*file, *slot)) {
            Entry::Occupied(opened) => opened.into_mut(),
            Entry::Vacant(place) => place.insert((open(mount, &name, OpenFlags::empty()).await, 0)),
        };
        match operation {
            Operation::Read { offset, size } => {
                let expected = contents.get(*offset as usize..).unwrap_or_default();
                let expected = &expected[..expected.len().min(*size)];
                let bytes = read(writer, *offset, *size).await;
                assert!(bytes == expected, "step {number}: {}", difference(&bytes, expected));
            }
            Operation::ReadOn { size } => {
                let expected = contents.get(*position as usize..).unwrap_or_default();
                let expected = &expected[..expected.len().min(*size)];
                let bytes = read(writer, *position, *size).await;
                assert!(bytes == expected, "step {number}: {}", difference(&bytes, expected));
                *position = if bytes.len() < *size { 0 } else { *position + *size as u64 };
            }
            Operation::Write { offset, size, fill } => {
                let bytes: Vec<u8> = (0..*size).map(|at| fill.wrapping_add((at / 7) as u8)).collect();
                let end = *offset as usize + size;
                if contents.len() < end {
                    contents.resize(end, 0);
                }
                contents[*offset as usize..end].copy_from_slice(&bytes);
                writer.write(*offset, &bytes).await.expect("it is accepted");
            }
            Operation::Append { size, fill } => {
                if !opened.appenders.contains_key(file) {
                    let flags = OpenFlags::WRITE | OpenFlags::APPEND;
                    let handle = mount.root().open_at(&name, flags, 0).await.expect("it opens");
                    opened.appenders.insert(*file, Writer::new(handle));
                }
                contents.extend(std::iter::repeat_n(*fill, *size));
                opened.appenders[file].append(&vec![*fill; *size]).await.expect("it is accepted");
            }
            Operation::SetSize { size } => {
                contents.resize(*size as usize, 0);
                mount.flush_file(writer.handle().qid().path).await.expect("it is written");
                writer.handle().set_attributes(resized(*size)).await.expect("it is resized");
            }
            Operation::Truncate => {
                contents.clear();
                mount.flush().await.expect("it is written");
                let writer = open(mount, &name, OpenFlags::TRUNCATE).await;
                if let Some((file, _)) = opened.files.insert((*file, *slot), (writer, 0)) {
                    close(file).await;
                }
            }
            Operation::Size => {
                mount.flush_file(writer.handle().qid().path).await.expect("it is written");
                let size = writer.handle().stat().await.expect("attributes").size;
                assert_eq!(size, contents.len() as u64, "step {number}");
            }
            Operation::Sync => writer.flush().await.expect("it is written"),
            Operation::Close | Operation::Leave => {}
        }
        for mount in mounts {
            let statistics = mount.statistics();
            assert!(statistics.cache.held_bytes <= mount.options().cache_size, "{statistics:?}");
            assert_eq!(statistics.payload_through_wit, 0);
        }
    }
    for (opened, mount) in opened.iter_mut().zip(mounts) {
        for file in 0..FILES {
            opened.leave(mount, file).await;
        }
    }
    for mount in mounts {
        mount.finish().await.expect("all is written");
    }
    for (file, contents) in model.iter().enumerate() {
        let writer = open(truth, &format!("file-{file}"), OpenFlags::empty()).await;
        let bytes = read(&writer, 0, LARGEST as usize * 2).await;
        assert!(bytes == *contents, "at the end: {}", difference(&bytes, contents));
    }
}

fn difference(bytes: &[u8], expected: &[u8]) -> String {
    let at = bytes.iter().zip(expected).position(|(one, other)| one != other);
    format!("{} bytes for {}, first difference at {at:?}", bytes.len(), expected.len())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(96))]

    /// Two mounts see each other's files as close-to-open promises, with a cache that holds less than the files.
    #[test]
    fn two_mounts_see_what_was_closed(steps in steps(2), pages in 8..200_u64) {
        Runtime::new().expect("a runtime").block_on(async {
            let server = server();
            let mount = || Mount::local(Arc::clone(&server), options(CacheMode::CloseToOpen, pages * 4096));
            let truth = Mount::local(Arc::clone(&server), options(CacheMode::None, 0)).expect("a mount");
            check(&[mount().expect("a mount"), mount().expect("a mount")], &steps, &truth).await;
        });
    }

    /// The same far away, where things happen meanwhile.
    #[test]
    fn two_remote_mounts_see_what_was_closed(steps in steps(2), pages in 8..200_u64) {
        let server = server();
        let serving = Serving::on_unix_socket(Arc::clone(&server));
        Runtime::new().expect("a runtime").block_on(async {
            let mount = || Mount::remote(serving.address.clone(), options(CacheMode::CloseToOpen, pages * 4096));
            let truth = Mount::local(Arc::clone(&server), options(CacheMode::None, 0)).expect("a mount");
            check(&[mount().await.expect("a mount"), mount().await.expect("a mount")], &steps, &truth).await;
        });
    }

    /// A mount alone is right in every mode.
    #[test]
    fn a_mount_alone_is_right_in_every_mode(steps in steps(1), pages in 8..200_u64, mode in 0..4_usize) {
        let server = server();
        let serving = Serving::on_unix_socket(Arc::clone(&server));
        Runtime::new().expect("a runtime").block_on(async {
            let options = options(CacheMode::ALL[mode], pages * 4096);
            let mount = Mount::remote(serving.address.clone(), options).await.expect("a mount");
            let truth = Mount::local(Arc::clone(&server), self::options(CacheMode::None, 0)).expect("a mount");
            check(&[mount], &steps, &truth).await;
        });
    }
}

/// A file of `pages` pages, each of one letter.
async fn fill(mount: &Mount, name: &str, pages: u64) {
    let file = open(mount, name, OpenFlags::empty()).await;
    for page in 0..pages {
        file.write(page * 4096, &[(page % 251) as u8; 4096]).await.expect("it is accepted");
    }
    close(file).await;
}

async fn read_through(file: &Writer, pages: u64) {
    for page in 0..pages {
        assert_eq!(read(file, page * 4096, 4096).await, [(page % 251) as u8; 4096], "page {page}");
    }
    assert!(read(file, pages * 4096, 1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_again_is_not_asked_for() {
    let server = server();
    fill(&Mount::local(Arc::clone(&server), options(CacheMode::None, 0)).expect("a mount"), "file", 300).await;
    for mode in [CacheMode::CloseToOpen, CacheMode::Loose] {
        let mount = Mount::local(Arc::clone(&server), options(mode, 4 << 20)).expect("a mount");
        for round in 0..3 {
            let file = open(&mount, "file", OpenFlags::empty()).await;
            // Whether it is still the same file is asked.
            read(&file, 0, 1).await;
            let before = mount.statistics();
            read_through(&file, 300).await;
            let after = mount.statistics();
            if round > 0 {
                assert_eq!(after.bytes_in, before.bytes_in, "{mode}: the server was asked");
                assert_eq!(after.operations, before.operations, "{mode}: the client was called");
            }
            close(file).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_past_the_cache_displaces_what_it_overlaps_alone() {
    let mount = Mount::local(server(), options(CacheMode::CloseToOpen, 4 << 20)).expect("a mount");
    fill(&mount, "file", 300).await;
    let file = open(&mount, "file", OpenFlags::empty()).await;
    read_through(&file, 300).await;
    for page in [0, 7, 150, 299] {
        file.write(page * 4096 + 100, &[(page % 251) as u8; 200]).await.expect("it is accepted");
    }
    file.flush().await.expect("it is written");
    let before = mount.statistics();
    read_through(&file, 300).await;
    let asked = mount.statistics().bytes_in - before.bytes_in;
    assert_eq!(asked, 4 * 4096, "the server was asked for what was written, and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_ahead_grows_for_those_who_read_in_order_only() {
    let server = server();
    fill(&Mount::local(Arc::clone(&server), options(CacheMode::None, 0)).expect("a mount"), "file", 2000).await;
    for mode in [CacheMode::ReadAhead, CacheMode::CloseToOpen] {
        let mount = Mount::local(Arc::clone(&server), options(mode, 16 << 20)).expect("a mount");
        let file = open(&mount, "file", OpenFlags::empty()).await;
        let before = mount.statistics().requests;
        read_through(&file, 2000).await;
        let requests = mount.statistics().requests - before;
        assert!(requests <= 100, "{mode}: {requests} requests for 2000 pages");

        let mount = Mount::local(Arc::clone(&server), options(mode, 16 << 20)).expect("a mount");
        let file = open(&mount, "file", OpenFlags::empty()).await;
        let before = mount.statistics();
        for turn in 1..500 {
            let page = turn * 1237 % 2000;
            assert_eq!(read(&file, page * 4096, 4096).await[0], (page % 251) as u8);
        }
        let read_for_nothing = mount.statistics().bytes_in - before.bytes_in;
        assert!(read_for_nothing <= 500 * 4096, "{mode}: {read_for_nothing} bytes for 499 pages");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_does_not_displace_a_small_one_that_is_used() {
    let server = server();
    let maker = Mount::local(Arc::clone(&server), options(CacheMode::None, 0)).expect("a mount");
    fill(&maker, "small", 20).await;
    fill(&maker, "large", 4000).await;
    let mount = Mount::local(Arc::clone(&server), options(CacheMode::CloseToOpen, 2 << 20)).expect("a mount");
    let small = open(&mount, "small", OpenFlags::empty()).await;
    for _ in 0..2 {
        read_through(&small, 20).await;
    }
    let large = open(&mount, "large", OpenFlags::empty()).await;
    read_through(&large, 4000).await;
    let before = mount.statistics();
    assert!(before.cache.evicted_pages > 3000, "{before:?}");
    assert!(before.cache.held_bytes <= 2 << 20);
    read_through(&small, 20).await;
    assert_eq!(mount.statistics().bytes_in, before.bytes_in, "the small file was displaced");
}

#[test]
fn neighbouring_pages_are_written_together() {
    let serving = Serving::on_unix_socket(server());
    Runtime::new().expect("a runtime").block_on(async {
        let mount = Mount::remote(serving.address.clone(), options(CacheMode::CloseToOpen, 16 << 20)).await;
        pages_are_written_together(&mount.expect("a mount")).await;
    });
}

async fn pages_are_written_together(mount: &Mount) {
    let file = open(mount, "file", OpenFlags::empty()).await;
    // Not in their order, and in two pieces each.
    for turn in 0..128_u64 {
        let page = turn * 37 % 128;
        for half in [1, 0] {
            file.write(page * 4096 + half * 2048, &[page as u8; 2048]).await.expect("it is accepted");
        }
    }
    let before = mount.statistics();
    assert_eq!(before.bytes_out, 0, "it was written already");
    file.flush().await.expect("it is written");
    let after = mount.statistics();
    assert_eq!(after.bytes_out, 128 * 4096);
    assert_eq!(after.cache.write_backs, 1);
    let before = after;
    file.flush().await.expect("there is nothing to write");
    assert_eq!(mount.statistics().bytes_out, before.bytes_out);
}

/// A file that is not whole pages long is written back as the whole pages of a folio and a piece: two lists of one request,
/// where so many pages would not fit the queue.
#[test]
fn folios_and_the_piece_behind_them_are_lists_of_one_request() {
    let serving = Serving::on_unix_socket(server());
    Runtime::new().expect("a runtime").block_on(async {
        let options = MountOptions { queue_size: 8, ..options(CacheMode::CloseToOpen, 16 << 20) };
        let mount = Mount::remote(serving.address.clone(), options.clone()).await.expect("a mount");
        let file = open(&mount, "file", OpenFlags::empty()).await;
        let content: Vec<u8> = (0..(16 << 12) + 100).map(|at| (at % 251) as u8).collect();
        let before = mount.statistics();
        file.write(0, &content).await.expect("it is accepted");
        file.flush().await.expect("it is written");
        let after = mount.statistics();
        assert_eq!(after.bytes_out - before.bytes_out, content.len() as u64);
        // Beside it, attributes are asked for before and after.
        assert_eq!(after.requests - before.requests, 3);
        let other = Mount::remote(serving.address.clone(), options).await.expect("a mount");
        let file = open(&other, "file", OpenFlags::empty()).await;
        assert!(read(&file, 0, content.len() + 1).await == content);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_while_it_is_open_keeps_what_is_written() {
    let mount = Mount::local(server(), options(CacheMode::CloseToOpen, 1 << 20)).expect("a mount");
    let file = open(&mount, "file", OpenFlags::empty()).await;
    file.write(0, b"before").await.expect("it is accepted");
    mount.root().unlink("file").await.expect("it is removed");
    file.write(6, b", after").await.expect("it is accepted");
    file.flush().await.expect("it is written");
    assert_eq!(read(&file, 0, 100).await, b"before, after");
    let other = open(&mount, "file", OpenFlags::empty()).await;
    assert!(read(&other, 0, 100).await.is_empty(), "a new file of that name");
}

#[test]
fn what_could_not_be_written_is_told() {
    let mut serving = Serving::on_unix_socket(server());
    let runtime = Runtime::new().expect("a runtime");
    let (mount, file, closed) = runtime.block_on(async {
        let options = MountOptions { recovery: Duration::from_millis(100), ..options(CacheMode::CloseToOpen, 1 << 20) };
        let mount = Mount::remote(serving.address.clone(), options).await.expect("a mount");
        let file = open(&mount, "file", OpenFlags::empty()).await;
        let closed = open(&mount, "closed", OpenFlags::empty()).await;
        (mount, file, closed)
    });
    serving.ended();
    runtime.block_on(async {
        file.write(0, b"this").await.expect("it is accepted");
        closed.write(0, b"that").await.expect("it is accepted");
        let error = file.flush().await.expect_err("the server is gone");
        assert_eq!(error.errno(), ninering_wire::Errno::EIO);
        file.read(0, 4).await.expect_err("what was not written is not there");
        closed.close();
        mount.finish().await.expect_err("a write was lost");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_do_not_stay_here_for_long() {
    let server = server();
    let mount = Mount::local(Arc::clone(&server), options(CacheMode::CloseToOpen, 1 << 20)).expect("a mount");
    let truth = Mount::local(server, options(CacheMode::None, 0)).expect("a mount");
    let file = open(&mount, "file", OpenFlags::empty()).await;
    file.write(0, b"written").await.expect("it is accepted");
    let other = open(&truth, "file", OpenFlags::empty()).await;
    // However long it takes: it comes by itself.
    while read(&other, 0, 100).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(read(&other, 0, 100).await, b"written");
}

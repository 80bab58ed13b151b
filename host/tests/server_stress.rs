//! Many threads at once: nothing hangs, nothing is lost, and what is left makes sense.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Client, Direct, ROOT, serving::PATIENCE};
use ninering::{
    backend::MemBackend,
    server::{Server, ServerOptions},
};
use ninering_wire::{
    AT_REMOVEDIR, Errno, SetAttributes, Tmessage,
    lopen::{APPEND, RDONLY, RDWR, WRONLY},
    mode, setattr,
};

/// A generator of numbers, always the same for a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn choose<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Runs it on so many threads, and fails if one hangs.
fn together(threads: u64, run: impl Fn(Random) + Sync) {
    let begin = Instant::now();
    thread::scope(|scope| {
        let run = &run;
        let seed = |number: u64| Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let running: Vec<_> = (1..=threads).map(|number| scope.spawn(move || run(seed(number)))).collect();
        while !running.iter().all(|thread| thread.is_finished()) {
            if begin.elapsed() > 3 * PATIENCE {
                eprintln!("a thread hangs");
                std::process::abort();
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
}

/// Checks that directories and links are counted right, and returns how many files there are.
fn check_tree(client: &mut Client) -> usize {
    let (mut directories, mut files) = (vec![String::new()], std::collections::HashMap::new());
    let mut count = 0;
    while let Some(path) = directories.pop() {
        let attributes = client.stat(&path).unwrap();
        let mut subdirectories = 0;
        for entry in client.list(&path, 4096).unwrap() {
            let child = format!("{path}/{}", entry.name);
            let child_attributes = client.stat(&child).unwrap();
            assert_eq!(entry.qid.path, child_attributes.qid.path);
            count += 1;
            if child_attributes.mode & mode::IFMT == mode::IFDIR {
                let fid = client.at(&child).unwrap();
                assert_eq!(client.walk(fid, fid, &[".."]).unwrap()[0].path, attributes.qid.path);
                client.clunk(fid).unwrap();
                subdirectories += 1;
                directories.push(child);
            } else {
                files.entry(child_attributes.qid.path).or_insert((0, child_attributes.nlink)).0 += 1;
            }
        }
        assert_eq!(attributes.nlink, 2 + subdirectories, "of {path:?}");
    }
    for (names, nlink) in files.into_values() {
        assert_eq!(names, nlink);
    }
    count
}

/// Removes all that is in a directory.
fn remove_all(client: &mut Client, path: &str) {
    for entry in client.list(path, 4096).unwrap() {
        if entry.qid.kind.is_dir() {
            remove_all(client, &format!("{path}/{}", entry.name));
            client.unlink(path, &entry.name, AT_REMOVEDIR).unwrap();
        } else {
            client.unlink(path, &entry.name, 0).unwrap();
        }
    }
}

#[test]
fn trees_are_changed_by_many_sessions() {
    const DIRECTORIES: [&str; 7] = ["", "a", "b", "a/a", "a/b", "b/a", "a/a/a"];
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let server = Server::new(Arc::new(MemBackend::default()), ServerOptions::default());
    let mut client = Client::attached(Arc::clone(&server));
    let before = client.statfs(ROOT).unwrap();
    together(6, |mut random| {
        let mut client = Client::attached(Arc::clone(&server));
        for _ in 0..6000 {
            let (from, to) = (random.choose(&DIRECTORIES), random.choose(&DIRECTORIES));
            let (name, new_name) = (random.choose(&NAMES), random.choose(&NAMES));
            let outcome = match random.below(9) {
                0 => client.mkdir(from, name).map(drop),
                1 => client.unlink(from, name, AT_REMOVEDIR),
                2 => client.unlink(from, name, 0),
                3 | 4 => client.rename(from, name, to, new_name),
                5 => client.link(&format!("{from}/{name}"), to, new_name),
                6 => client.list(from, 300).map(drop),
                _ => client.create(from, name, RDWR, 0o644).and_then(|fid| {
                    client.write(fid, random.below(200_000), b"bytes")?;
                    client.clunk(fid)
                }),
            };
            if let Err(error) = outcome {
                let expected = [
                    Errno::ENOENT,
                    Errno::EEXIST,
                    Errno::ENOTDIR,
                    Errno::EISDIR,
                    Errno::ENOTEMPTY,
                    Errno::EINVAL,
                    Errno::EPERM,
                ];
                assert!(expected.contains(&error), "{error}");
            }
        }
    });

    assert!(check_tree(&mut client) > 0);
    // When all is removed, all space is free.
    remove_all(&mut client, "");
    assert_eq!(client.statfs(ROOT).unwrap(), before);
}

#[test]
fn one_session_is_used_by_many_threads() {
    // What broke other servers: rename, walk, clunk, open and setattr of the same fids at once.
    let server = Server::new(Arc::new(MemBackend::default()), ServerOptions { max_fids: 64, ..Default::default() });
    let session = Arc::new(server.session());
    let mut client = Client::of_session(Arc::clone(&session));
    client.mkdir("", "d").unwrap();
    client.make("", "f", b"contents");
    let before = session.fid_count();
    together(6, |mut random| {
        let mut client = Client::new(Direct { session: Arc::clone(&session), space: None });
        for _ in 0..20_000 {
            let (fid, newfid) = (1 + random.below(6) as u32, 1 + random.below(6) as u32);
            let name = random.choose(&["f", "g", "d"]);
            let dfid = if random.below(2) == 0 { ROOT } else { fid };
            // Anything may fail; that it is answered rightly is checked by the client.
            let _ = match random.below(10) {
                0 => client.walk(ROOT, newfid, &[name]).map(drop),
                1 => client.walk(fid, newfid, &[]).map(drop),
                2 => client.walk(fid, newfid, &[".."]).map(drop),
                3 => client.clunk(fid),
                4 => client.lopen(fid, random.below(3) as u32).map(drop),
                5 => client.lcreate(fid, name.as_bytes(), RDWR, 0o644).map(drop),
                6 => client.done(&Tmessage::Trename { fid, dfid, name: name.into() }),
                7 => {
                    let size = random.below(100_000);
                    client.setattr(fid, SetAttributes { valid: setattr::SIZE, size, ..SetAttributes::default() })
                }
                8 => client.write(fid, random.below(100_000), b"bytes").map(drop),
                _ => client.read(fid, random.below(100_000), 1000).map(drop),
            };
        }
    });
    for fid in 1..=6 {
        let _ = client.clunk(fid);
    }
    assert_eq!(session.fid_count(), before);
}

#[test]
fn appends_are_whole() {
    let server = Server::new(Arc::new(MemBackend::default()), ServerOptions::default());
    let mut client = Client::attached(Arc::clone(&server));
    client.make("", "log", b"");
    together(4, |mut random| {
        let byte = random.below(256) as u8;
        let mut client = Client::attached(Arc::clone(&server));
        let fid = client.open("log", WRONLY | APPEND).unwrap();
        for _ in 0..2000 {
            assert_eq!(client.write(fid, 0, &[byte; 37]).unwrap(), 37);
        }
    });
    let log = client.contents("log").unwrap();
    assert_eq!(log.len(), 4 * 2000 * 37);
    for record in log.chunks(37) {
        assert!(record.iter().all(|byte| byte == &record[0]));
    }
}

#[test]
fn renames_replace_at_once() {
    // Whoever looks finds the one or the other, never nothing.
    let server = Server::new(Arc::new(MemBackend::default()), ServerOptions::default());
    let mut client = Client::attached(Arc::clone(&server));
    client.mkdir("", "d").unwrap();
    client.make("", "target", b"0");
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::attached(Arc::clone(&server));
                    while !ended.load(SeqCst) {
                        let fid = client.open("target", RDONLY).expect("it is always there");
                        assert_eq!(client.read(fid, 0, 10).unwrap().len(), 1);
                        client.clunk(fid).unwrap();
                        assert!(client.names("").contains(&"target".to_owned()));
                    }
                })
            })
            .collect();
        for number in 0..3000_u32 {
            let directory = if number % 2 == 0 { "" } else { "d" };
            client.make(directory, "new", &[number as u8]);
            client.rename(directory, "new", "", "target").unwrap();
        }
        ended.store(true, SeqCst);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

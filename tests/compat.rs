//! What works with which server: our client at servers that others wrote, operation by operation. The table in README.md is
//! this test's output.
//!
//! A server that is not installed is left out, unless `NINERING_REQUIRE_PEERS` is set, as it is in `.ci/run`, and it is one that
//! `scripts/setup --test` installs. (nfs-ganesha is not: its package starts daemons.) To see the table:
//! `cargo test --release -p ninering-tests --test compat -- --nocapture`.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ninering::{
    mount::{AttributeChanges, Handle, Mount, MountOptions, OpenFlags, Result, SetTime, Timestamp},
    source::Source,
};
use ninering_tests::{Running, finish, root, serve};
use ninering_wire::Errno;

/// Set where the test runs in a network namespace of its own: not every server can be told to listen on one address.
const INSIDE: &str = "NINERING_COMPAT_INSIDE";

/// What is tried, by the words of the table.
const OPERATIONS: &[&str] = &[
    "create, write, read back",
    "8 MiB at a time",
    "append",
    "truncate and extend",
    "exclusive creation",
    "rename, also over a file and to another directory",
    "remove files and directories",
    "unlink while open",
    "hard links",
    "symbolic links",
    "1,000 entries in a directory",
    "times",
    "permissions",
    "figures of the filesystem",
    "fsync",
    "paths 30 directories deep",
    "names of 255 bytes",
    "messages of 8 KiB",
    "messages of 16 MiB offered",
];

/// Why an operation does not work.
type Outcome = std::result::Result<(), String>;

fn is(condition: bool, what: &str) -> Outcome {
    if condition { Ok(()) } else { Err(what.into()) }
}

/// A file with these bytes.
async fn write(mount: &Mount, path: &str, flags: OpenFlags, offset: u64, bytes: &[u8]) -> Result<Handle> {
    let file = mount.root().open_at(path, flags, 0o644).await?;
    let mut done = 0;
    while done < bytes.len() {
        let buffer = mount.buffer(bytes.len() - done).await?;
        buffer.write(0, &bytes[done..]);
        let written = file.write_at(offset + done as u64, buffer).await.0?;
        if written == 0 {
            return Err(Errno::EIO.into());
        }
        done += written;
    }
    Ok(file)
}

async fn create(mount: &Mount, path: &str, bytes: &[u8]) -> Result<Handle> {
    write(mount, path, OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE, 0, bytes).await
}

/// All bytes of an open file.
async fn read(mount: &Mount, file: &Handle) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let buffer = file.read_at(bytes.len() as u64, mount.buffer(1 << 20).await?).await?;
        if buffer.is_empty() {
            return Ok(bytes);
        }
        let start = bytes.len();
        bytes.resize(start + buffer.len(), 0);
        buffer.read(0, &mut bytes[start..]);
    }
}

async fn read_path(mount: &Mount, path: &str) -> Result<Vec<u8>> {
    read(mount, &mount.root().open_at(path, OpenFlags::READ, 0).await?).await
}

const KEEP: AttributeChanges =
    AttributeChanges { mode: None, uid: None, gid: None, size: None, accessed: SetTime::Keep, modified: SetTime::Keep };

/// Bytes of which no two pieces are alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// Tries an operation, in a directory of its own.
async fn attempt(source: &Source, mount: &Mount, operation: &str, at: &str) -> std::result::Result<Outcome, String> {
    let top = mount.root();
    let path = |name: &str| format!("{at}/{name}");
    let worked: Result<Outcome> = async {
        top.make_directory(at, 0o755).await?;
        Ok(match operation {
            "create, write, read back" => {
                let file = create(mount, &path("file"), &pattern(100_000)).await?;
                let same = read(mount, &file).await? == pattern(100_000);
                is(same && read_path(mount, &path("file")).await? == pattern(100_000), "other bytes")
            }
            "8 MiB at a time" => {
                let bytes = pattern(8 << 20);
                drop(create(mount, &path("file"), &bytes).await?);
                is(read_path(mount, &path("file")).await? == bytes, "other bytes")
            }
            "append" => {
                drop(create(mount, &path("file"), b"one").await?);
                drop(write(mount, &path("file"), OpenFlags::WRITE | OpenFlags::APPEND, 0, b"two").await?);
                is(read_path(mount, &path("file")).await? == b"onetwo", "written elsewhere")
            }
            "truncate and extend" => {
                let file = create(mount, &path("file"), b"contents").await?;
                for size in [3, 5] {
                    file.set_attributes(AttributeChanges { size: Some(size), ..KEEP }).await?;
                }
                is(read_path(mount, &path("file")).await? == b"con\0\0", "other bytes")
            }
            "exclusive creation" => {
                let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
                drop(write(mount, &path("file"), flags, 0, b"x").await?);
                match write(mount, &path("file"), flags, 0, b"x").await {
                    Err(error) if error.errno() == Errno::EEXIST => Ok(()),
                    Err(error) => return Err(error),
                    Ok(_) => Err("not exclusive".into()),
                }
            }
            "rename, also over a file and to another directory" => {
                drop(create(mount, &path("one"), b"1").await?);
                drop(create(mount, &path("two"), b"2").await?);
                top.make_directory(&path("sub"), 0o755).await?;
                top.rename(&path("one"), &top, &path("other")).await?;
                top.rename(&path("other"), &top, &path("two")).await?;
                top.rename(&path("two"), &top, &path("sub/three")).await?;
                let moved = read_path(mount, &path("sub/three")).await? == b"1";
                is(moved && top.stat_at(&path("two"), false).await.is_err(), "not moved")
            }
            "remove files and directories" => {
                drop(create(mount, &path("file"), b"1").await?);
                top.make_directory(&path("sub"), 0o755).await?;
                let file_as_directory = top.remove_directory(&path("file")).await.map_err(|error| error.errno());
                top.unlink(&path("file")).await?;
                top.remove_directory(&path("sub")).await?;
                let gone =
                    top.stat_at(&path("sub"), false).await.is_err() && top.stat_at(&path("file"), false).await.is_err();
                is(gone && file_as_directory == Err(Errno::ENOTDIR), "not as rmdir(2) and unlink(2)")
            }
            "unlink while open" => {
                let file = create(mount, &path("file"), b"still there").await?;
                top.unlink(&path("file")).await?;
                is(read(mount, &file).await? == b"still there", "other bytes")
            }
            "hard links" => {
                drop(create(mount, &path("file"), b"x").await?);
                top.link(&path("file"), false, &top, &path("link")).await?;
                is(top.stat_at(&path("link"), false).await?.nlink == 2, "not two links")
            }
            "symbolic links" => {
                drop(create(mount, &path("file"), b"x").await?);
                top.symlink(&path("link"), "file").await?;
                let target = top.read_link(&path("link")).await?;
                is(target == b"file" && read_path_following(mount, &path("link")).await? == b"x", "leads elsewhere")
            }
            "1,000 entries in a directory" => {
                for number in 0..1000 {
                    drop(create(mount, &path(&format!("a name that is not too short {number}")), b"").await?);
                }
                let directory = top.open_at(at, OpenFlags::READ | OpenFlags::DIRECTORY, 0).await?;
                let (mut names, mut offset) = (std::collections::HashSet::new(), 0);
                loop {
                    let read = directory.read_directory(offset).await?;
                    for entry in read.entries {
                        offset = entry.offset;
                        if !names.insert(entry.name) {
                            return Ok(Err("an entry twice".into()));
                        }
                    }
                    if read.end {
                        break;
                    }
                }
                is(names.len() == 1000, "not all entries")
            }
            "times" => {
                let file = create(mount, &path("file"), b"x").await?;
                let time = Timestamp { seconds: 1_000_000_007, nanoseconds: 123_456_789 };
                file.set_attributes(AttributeChanges { modified: SetTime::To(time), ..KEEP }).await?;
                let told = top.stat_at(&path("file"), false).await?.modified;
                is(told.seconds == time.seconds && told.nanoseconds == time.nanoseconds, "another time")
            }
            "permissions" => {
                drop(create(mount, &path("file"), b"x").await?);
                top.set_attributes_at(&path("file"), false, AttributeChanges { mode: Some(0o751), ..KEEP }).await?;
                is(top.stat_at(&path("file"), false).await?.mode & 0o7777 == 0o751, "another mode")
            }
            "figures of the filesystem" => {
                let figures = top.statfs().await?;
                is(figures.block_size > 0 && figures.blocks > 0 && figures.name_length >= 255, "they are 0")
            }
            "fsync" => {
                let file = create(mount, &path("file"), b"x").await?;
                file.sync(true).await?;
                file.sync(false).await?;
                Ok(())
            }
            "paths 30 directories deep" => {
                let mut deep = at.to_owned();
                for number in 0..30 {
                    deep = format!("{deep}/directory{number}");
                    top.make_directory(&deep, 0o755).await?;
                }
                drop(create(mount, &format!("{deep}/file"), b"x").await?);
                is(read_path(mount, &format!("{deep}/file")).await? == b"x", "other bytes")
            }
            "names of 255 bytes" => {
                let name = path(&"ü".repeat(127)) + "x";
                drop(create(mount, &name, b"x").await?);
                is(read_path(mount, &name).await? == b"x", "other bytes")
            }
            "messages of 8 KiB" => return Ok(with_msize(source, 8192, &path("file")).await),
            "messages of 16 MiB offered" => return Ok(with_msize(source, 16 << 20, &path("file")).await),
            other => unreachable!("{other}"),
        })
    }
    .await;
    match worked {
        Ok(outcome) => Ok(outcome),
        Err(ninering::mount::Error::Errno(errno)) => {
            Ok(Err(errno.name().map_or_else(|| errno.to_string(), str::to_owned)))
        }
        Err(broken) => Err(broken.to_string()),
    }
}

async fn read_path_following(mount: &Mount, path: &str) -> Result<Vec<u8>> {
    read(mount, &mount.root().open_at(path, OpenFlags::READ | OpenFlags::FOLLOW, 0).await?).await
}

/// Writes and reads a file on a mount of its own.
async fn with_msize(source: &Source, msize: u32, path: &str) -> Outcome {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let mount = source.mount(MountOptions { msize, ..options() }).await.map_err(|error| said(&error))?;
    drop(create(&mount, path, &pattern(1_000_000)).await.map_err(|error| said(&error))?);
    is(read_path(&mount, path).await.map_err(|error| said(&error))? == pattern(1_000_000), "other bytes")
}

fn options() -> MountOptions {
    MountOptions { uid: Some(0), uname: "root".into(), timeout: Duration::from_secs(600), ..MountOptions::default() }
}

/// What came of all operations at one server.
fn try_all(address: &str) -> Vec<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let source: Source = address.parse().expect("an address");
    runtime.block_on(async {
        let mut outcomes = Vec::new();
        let mut mount = source.mount(options()).await.expect("a mount");
        for (number, operation) in OPERATIONS.iter().enumerate() {
            let at = format!("op{number}");
            outcomes.push(match attempt(&source, &mount, operation, &at).await {
                Ok(outcome) => outcome,
                Err(broken) => {
                    mount = source.mount(options()).await.expect("a mount");
                    Err(format!("the mount breaks: {broken}"))
                }
            });
        }
        outcomes
    })
}

/// A server that others wrote.
struct Peer {
    name: &'static str,
    /// Does `scripts/setup --test` install it?
    required: bool,
    start: fn(&Path) -> Option<(Running, String)>,
}

const PEERS: &[Peer] = &[
    Peer { name: "ninering", required: true, start: |export| Some(serve(&format!("dir:{}", export.display()))) },
    Peer { name: "diod 1.0.24", required: true, start: diod },
    Peer { name: "unpfs", required: true, start: unpfs },
    Peer { name: "nfs-ganesha 4.3", required: false, start: ganesha },
];

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}

/// Starts a server that says nothing when it listens.
fn start(command: &mut Command, port: u16) -> Running {
    let running = Running::start_silent(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let end = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "{command:?} does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    running
}

/// A program, where there is one of that name.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/usr/sbin"), "/usr/local/sbin".into(), root().join("target/peers/bin")];
    env::split_paths(&path).chain(more).map(|directory| directory.join(name)).find(|file| file.exists())
}

fn diod(export: &Path) -> Option<(Running, String)> {
    let (mut command, port) = (Command::new(find("diod")?), free_port());
    command.args(["-f", "-n", "-l", &format!("127.0.0.1:{port}"), "-L", "stderr", "-e"]).arg(export);
    Some((start(&mut command, port), format!("tcp://127.0.0.1:{port}{}", export.display())))
}

fn unpfs(export: &Path) -> Option<(Running, String)> {
    let (mut command, port) = (Command::new(find("unpfs")?), free_port());
    command.arg(format!("tcp!127.0.0.1!{port}")).arg(export);
    Some((start(&mut command, port), format!("tcp://127.0.0.1:{port}")))
}

fn ganesha(export: &Path) -> Option<(Running, String)> {
    let program = find("ganesha.nfsd")?;
    // It cannot be told where to listen; and it reaches files by their handles, as root.
    env::var_os(INSIDE)?;
    let port = free_port();
    let plugins = program.parent()?.join("../lib/x86_64-linux-gnu/ganesha");
    let state = export.parent()?;
    let configuration = format!(
        "NFS_CORE_PARAM {{ Protocols = 9P; Plugins_Dir = \"{}\"; Enable_NLM = false; Enable_RQUOTA = false; }}\n\
         NFSv4 {{ UseGetpwnam = true; Graceless = true; RecoveryBackend = fs; }}\n\
         NFS_KRB5 {{ Active_krb5 = false; }}\n\
         _9P {{ _9P_TCP_Port = {port}; }}\n\
         EXPORT {{ Export_Id = 1; Path = {}; Pseudo = /export; Access_Type = RW; Squash = None; Protocols = 9P; \
         SecType = sys; FSAL {{ Name = VFS; }} }}\n",
        plugins.display(),
        export.display(),
    );
    fs::write(state.join("ganesha.conf"), configuration).expect("a file");
    let file = |name: &str| state.join(name).display().to_string();
    let mut command = Command::new(program);
    command.args(["-F", "-f", &file("ganesha.conf"), "-L", &file("ganesha.log"), "-p", &file("ganesha.pid")]);
    Some((start(&mut command, port), format!("tcp://127.0.0.1:{port}{}", export.display())))
}

/// The table, of servers and what came of each operation.
fn table(columns: &[(&str, Vec<Outcome>)]) -> String {
    let row = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = row([""].into_iter().chain(columns.iter().map(|(name, _)| *name)).collect());
    text += &row(vec!["---"; columns.len() + 1]);
    for (number, operation) in OPERATIONS.iter().enumerate() {
        let cells =
            columns.iter().map(|(_, outcomes)| outcomes[number].as_ref().map_or_else(String::as_str, |()| "yes"));
        text += &row([*operation].into_iter().chain(cells).collect());
    }
    text
}

/// The column of a table in Markdown that is headed so: its cells, by the row's first.
fn column<'a>(table: &'a str, name: &str) -> Vec<(&'a str, &'a str)> {
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let mut lines = table.lines().filter(|line| line.starts_with('|')).map(cells);
    let Some(at) = lines.next().and_then(|head| head.iter().position(|cell| *cell == name)) else { return Vec::new() };
    lines.skip(1).filter_map(|row| Some((*row.first()?, *row.get(at)?))).collect()
}

#[test]
fn servers_do_what_the_table_says() {
    let is_root = rustix::process::geteuid().is_root();
    if env::var_os(INSIDE).is_none() && is_root && find("unshare").is_some() && find("ip").is_some() {
        let script = "ip link set lo up && exec \"$0\" --exact servers_do_what_the_table_says --nocapture";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).arg(env::current_exe().expect("this test")).env(INSIDE, "1");
        let ended = finish(&mut command).success();
        print!("{}", ended.stdout);
        eprint!("{}", ended.stderr);
        return;
    }
    let mut columns = Vec::new();
    for Peer { name, required, start } in PEERS {
        let directory = tempfile::tempdir().expect("a directory");
        let export = directory.path().join("export");
        fs::create_dir(&export).expect("a directory");
        match start(&export) {
            Some((_running, address)) => columns.push((*name, try_all(&address))),
            None => {
                assert!(
                    !required || env::var_os("NINERING_REQUIRE_PEERS").is_none(),
                    "required, but {name} is not installed"
                );
                eprintln!("SKIPPED: {name} is not installed, or there is no root to start it");
            }
        }
    }
    let found = table(&columns);
    println!("{found}");
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let written = readme.split("<!-- compatibility -->").nth(1).unwrap_or_default();
    for (name, _) in &columns {
        assert_eq!(column(&found, name), column(written, name), "README.md says otherwise of {name}");
    }
}

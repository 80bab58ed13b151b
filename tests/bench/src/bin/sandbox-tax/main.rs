//! What the sandbox costs: operations on a mount whose client is the component, and on one whose client is the same
//! crate compiled into this program, both on an in-process server. No program and no `wasi:filesystem` are in between.
//!
//! `sandbox-tax SOURCE` prints the processor time of each operation, the least of several interleaved rounds;
//! `sandbox-tax SOURCE OPERATION BYTES COUNT` runs one operation of the component so many times, to be profiled;
//! `sandbox-tax SOURCE native-OPERATION BYTES COUNT` one of the other.

mod native;

use anyhow::{Result, bail};
use ninering::{
    mount::{Buffer, Handle, Mount, MountOptions, OpenFlags},
    server::ServerOptions,
    source::Source,
};
use rustix::time::{ClockId, clock_gettime};

/// Name, bytes of payload, repetitions in a round.
const OPERATIONS: [(&str, usize, u32); 9] = [
    ("stat", 0, 20_000),
    ("stat-at", 0, 20_000),
    ("open-close", 0, 20_000),
    ("read", 4 << 10, 20_000),
    ("read", 64 << 10, 2_000),
    ("read", 1 << 20, 200),
    ("write", 4 << 10, 20_000),
    ("write", 64 << 10, 2_000),
    ("write", 1 << 20, 200),
];
const ROUNDS: usize = 9;
const FILE: &str = "sandbox-tax";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (source, only) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [source] => (source, None),
        [source, operation, bytes, count] => (source, Some((operation, bytes.parse()?, count.parse()?))),
        _ => bail!("usage: sandbox-tax SOURCE [[native-]OPERATION BYTES COUNT]"),
    };
    let source: Source = source.parse()?;
    let server = source.server(ServerOptions::default())?;
    let native = native::Client::new(&server)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut component = Component::new(Mount::local(server, MountOptions::default())?).await?;
        if let Some((operation, bytes, count)) = only {
            return match operation.strip_prefix("native-") {
                Some(operation) => native.run(operation, bytes, count),
                None => component.run(operation, bytes, count).await,
            };
        }
        println!("| operation | bytes | component | native | difference | ratio |");
        println!("| --- | ---: | ---: | ---: | ---: | ---: |");
        for (operation, bytes, count) in OPERATIONS {
            let mut least = [f64::INFINITY; 2];
            for _ in 0..ROUNDS {
                let began = processor_time();
                component.run(operation, bytes, count).await?;
                let between = processor_time();
                native.run(operation, bytes, count)?;
                let times = [between - began, processor_time() - between];
                for (least, time) in least.iter_mut().zip(times) {
                    *least = least.min(time / f64::from(count));
                }
            }
            let [ours, native] = least;
            println!(
                "| {operation} | {bytes} | {ours:.0} ns | {native:.0} ns | {:.0} ns | {:.2} |",
                ours - native,
                ours / native
            );
        }
        Ok(())
    })
}

/// Nanoseconds of processor time that this process has used.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// A mount as the library gives it.
struct Component {
    root: Handle,
    file: Handle,
    buffer: Option<Buffer>,
}

impl Component {
    async fn new(mount: Mount) -> Result<Self> {
        let root = mount.root();
        let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        let file = root.open_at(FILE, flags, 0o644).await?;
        let (written, buffer) = file.write_at(0, mount.buffer(1 << 20).await?).await;
        written?;
        Ok(Self { root, file, buffer })
    }

    async fn run(&mut self, operation: &str, bytes: usize, count: u32) -> Result<()> {
        if self.buffer.as_ref().is_none_or(|buffer| buffer.len() != bytes) && bytes > 0 {
            self.buffer = None;
            self.buffer = Some(self.root.mount().buffer(bytes).await?);
        }
        for _ in 0..count {
            match operation {
                "stat" => drop(self.file.stat().await?),
                "stat-at" => drop(self.root.stat_at(FILE, true).await?),
                "open-close" => drop(self.root.open_at(FILE, OpenFlags::READ, 0).await?),
                "read" => {
                    if let Some(buffer) = self.buffer.take() {
                        self.buffer = Some(self.file.read_at(0, buffer).await?);
                    }
                }
                "write" => {
                    if let Some(buffer) = self.buffer.take() {
                        let (written, buffer) = self.file.write_at(0, buffer).await;
                        written?;
                        self.buffer = buffer;
                    }
                }
                other => bail!("no operation '{other}'"),
            }
        }
        Ok(())
    }
}

//! The processor time of single operations on a mount, asked for by the host itself: what the sandboxed client, the
//! ring, the device and the server cost without a program, its runtime and `wasi:filesystem`.
//!
//! `stages SOURCE [OPERATION COUNT]`: all operations in turn, or one of them so many times, to be profiled.

use anyhow::{Result, bail};
use ninering::{
    mount::{Buffer, Handle, Mount, MountOptions, OpenFlags},
    source::Source,
};
use rustix::time::{ClockId, clock_gettime};

const OPERATIONS: [&str; 5] = ["identify", "stat", "stat-at", "open-close", "read-4k"];
const COUNT: u32 = 100_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (source, only) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [source] => (source, None),
        [source, operation, count] => (source, Some((operation, count.parse()?))),
        _ => bail!("usage: stages SOURCE [OPERATION COUNT]"),
    };
    let source: Source = source.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut bench = Bench::new(source.mount(MountOptions::default()).await?).await?;
        if let Some((operation, count)) = only {
            return bench.run(operation, count).await;
        }
        for operation in OPERATIONS {
            bench.run(operation, COUNT / 10).await?;
            let began = processor_time();
            bench.run(operation, COUNT).await?;
            println!("{operation:12} {:6.0} ns", (processor_time() - began) / f64::from(COUNT));
        }
        Ok(())
    })
}

/// Nanoseconds of processor time that this process has used.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

struct Bench {
    root: Handle,
    file: Handle,
    buffer: Option<Buffer>,
}

impl Bench {
    async fn new(mount: Mount) -> Result<Self> {
        let root = mount.root();
        let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        let file = root.open_at("stages", flags, 0o644).await?;
        let (written, buffer) = file.write_at(0, mount.buffer(4096).await?).await;
        written?;
        Ok(Self { root, file, buffer })
    }

    async fn run(&mut self, operation: &str, count: u32) -> Result<()> {
        for _ in 0..count {
            match operation {
                "identify" => drop(self.root.identify_at(".", true).await?),
                "stat" => drop(self.file.stat().await?),
                "stat-at" => drop(self.root.stat_at("stages", true).await?),
                "open-close" => drop(self.root.open_at("stages", OpenFlags::READ, 0).await?),
                "read-4k" => {
                    if let Some(buffer) = self.buffer.take() {
                        self.buffer = Some(self.file.read_at(0, buffer).await?);
                    }
                }
                other => bail!("no operation '{other}'"),
            }
        }
        Ok(())
    }
}

//! A server that is killed and started again at the same address, time after time.

use std::{
    ops::RangeInclusive,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::Running;

/// A server that is killed with SIGKILL and started again at once, with a random time between, from when it is
/// [doomed](Self::doom) until this is dropped.
#[derive(Debug)]
pub struct Restarting {
    restarts: Arc<AtomicU32>,
    /// Dropped to begin.
    mercy: Option<mpsc::Sender<()>>,
    /// Dropped to end.
    killing: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Restarting {
    /// Starts the server that `command` makes, which says `ready` on standard error when it is. Once it is doomed, it is killed
    /// after a time of `lives`, again and again; `seed` says after which.
    ///
    /// # Panics
    /// The server does not come up.
    #[track_caller]
    pub fn start(
        command: impl Fn() -> Command + Send + 'static,
        ready: &str,
        lives: RangeInclusive<Duration>,
        seed: u64,
    ) -> Self {
        let (mut running, _) = Running::start(&mut command(), ready);
        let (restarts, ready) = (Arc::new(AtomicU32::new(0)), ready.to_owned());
        let counted = Arc::clone(&restarts);
        let ((mercy, doomed), (killing, ended)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let mut random = Random(seed);
        let thread = thread::spawn(move || {
            // Nothing is ever sent.
            let _ = doomed.recv();
            while ended.recv_timeout(random.within(&lives)) == Err(mpsc::RecvTimeoutError::Timeout) {
                // To drop it is to kill it.
                drop(running);
                (running, _) = Running::start(&mut command(), &ready);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { restarts, mercy: Some(mercy), killing: Some(killing), thread: Some(thread) }
    }

    /// `ninering serve SOURCE` at a Unix socket, which is killed after 100 ms to 2 s.
    ///
    /// # Panics
    /// It does not come up.
    #[track_caller]
    pub fn serve(source: &str, socket: &std::path::Path, seed: u64) -> Self {
        let (source, listen) = (source.to_owned(), format!("unix://{}", socket.display()));
        let command = move || {
            let mut command = super::ninering();
            command.args(["serve", &source, "--listen", &listen]);
            command
        };
        Self::start(command, " on unix://", Duration::from_millis(100)..=Duration::from_secs(2), seed)
    }

    /// From now on, it is killed.
    pub fn doom(&mut self) {
        self.mercy = None;
    }

    /// How often it was started again so far.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }
}

impl Drop for Restarting {
    fn drop(&mut self) {
        (self.mercy, self.killing) = (None, None);
        if let Some(thread) = self.thread.take() {
            // Its panic was seen already, or the test has one of its own.
            let _ = thread.join();
        }
    }
}

/// Numbers that look random, the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn within(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (mixed >> 11) as f64 / (1u64 << 53) as f64;
        *range.start() + (*range.end() - *range.start()).mul_f64(part)
    }
}

//! How long a server is waited for.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout};

/// A time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

const PARTS: u32 = 16;

/// What becomes of `future` if that takes no longer than `limit`. A time in which this process did not run, for it was
/// stopped, or its machine, counts as a sixteenth of that at most: what is waited for may have come meanwhile, and is seen
/// a moment after the clock.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let (mut future, part) = (pin!(future), limit / PARTS);
    let mut was_stopped = false;
    for _ in 0..PARTS {
        let since = Instant::now();
        if let Ok(value) = timeout(part, &mut future).await {
            return Ok(value);
        }
        was_stopped = since.elapsed() > part * 2;
    }
    if was_stopped { timeout(part, future).await.map_err(|_| Elapsed) } else { Err(Elapsed) }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, thread};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn what_comes_in_time_is_had_and_nothing_else_is_waited_for() {
        assert_eq!(within(Duration::from_secs(60), async { 5 }).await, Ok(5));
        let (since, limit) = (Instant::now(), Duration::from_millis(80));
        assert_eq!(within(limit, pending::<()>()).await, Err(Elapsed));
        assert!(since.elapsed() >= limit);
        assert_eq!(within(Duration::ZERO, pending::<()>()).await, Err(Elapsed));
    }

    /// Nothing runs on this thread for longer than is to be waited; what is waited for is there a moment later.
    #[tokio::test]
    async fn a_time_in_which_nothing_ran_hardly_counts() {
        let limit = Duration::from_secs(4);
        let (arrived, arrival) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            thread::sleep(limit + limit / 2);
            sleep(Duration::from_millis(1)).await;
            arrived.send(()).expect("somebody waits")
        });
        assert_eq!(within(limit, arrival).await, Ok(Ok(())));
    }
}

//! Requests to the remote server, on threads that wait for the replies.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use ninering_wire::Errno;
use parking_lot::Mutex;
use smallvec::smallvec;
use tokio::{runtime::Handle, task::unconstrained};

use super::super::{
    Buffer, Buffers, Mount, Result,
    calls::FIRST_FID,
    component::{
        client::{RMessage, TMessage},
        memory::Extent,
    },
};

/// The session with the remote server, and which fids of it are in use.
pub(super) struct Upstream {
    mount: Mount,
    runtime: Handle,
    /// Which life of the mount requests belong to.
    incarnation: AtomicU32,
    /// What was agreed on in that: `msize`, and the bytes of payload in a request.
    msize: AtomicU32,
    payload_max: AtomicU32,
    numbers: Mutex<Numbers>,
    /// Held by who brings the mount up again.
    reviving: Mutex<()>,
    /// Messages that the server was found not to know.
    pub(super) lacks_renameat: AtomicBool,
    pub(super) lacks_unlinkat: AtomicBool,
}

/// The fids that are not in use: those given back, and all from a number up.
struct Numbers {
    free: Vec<u32>,
    next: u32,
}

impl Upstream {
    pub(super) fn new(mount: Mount, runtime: Handle) -> Result<Arc<Self>> {
        let (incarnation, msize, payload_max) = mount.limits()?;
        Ok(Arc::new(Self {
            mount,
            runtime,
            incarnation: incarnation.into(),
            msize: msize.into(),
            payload_max: payload_max.into(),
            numbers: Mutex::new(Numbers { free: Vec::new(), next: FIRST_FID }),
            reviving: Mutex::default(),
            lacks_renameat: AtomicBool::new(false),
            lacks_unlinkat: AtomicBool::new(false),
        }))
    }

    pub(super) fn mount(&self) -> &Mount {
        &self.mount
    }

    pub(super) fn msize(&self) -> u32 {
        self.msize.load(Relaxed)
    }

    /// The most bytes that one write request carries.
    pub(super) fn payload_max(&self) -> usize {
        self.payload_max.load(Relaxed).max(1) as usize
    }

    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation.load(Relaxed)
    }

    /// Brings the mount up again if it is broken for good. Fids from before are stale, and stay so.
    ///
    /// # Errors
    /// `EIO`: it cannot be.
    pub(super) fn revive(&self) -> Result<(), Errno> {
        if self.mount.broken().is_none() {
            return Ok(());
        }
        let _alone = self.reviving.lock();
        if let Some(reason) = self.mount.broken() {
            tracing::info!(%reason, "the relay's mount is broken, and made anew");
            let revived = self.wait(self.mount.restart()).and_then(|()| self.mount.limits());
            let (incarnation, msize, payload_max) = revived.map_err(|error| {
                tracing::warn!(%error, "the relay's mount cannot be made anew");
                error.errno()
            })?;
            self.incarnation.store(incarnation, Relaxed);
            self.msize.store(msize, Relaxed);
            self.payload_max.store(payload_max, Relaxed);
            self.lacks_renameat.store(false, Relaxed);
            self.lacks_unlinkat.store(false, Relaxed);
        }
        Ok(())
    }

    /// Sends a request and waits for its reply.
    pub(super) fn call(&self, incarnation: u32, message: TMessage) -> Result<RMessage, Errno> {
        let submitted = self.mount.begin_call(incarnation, Buffers::new(), |_| message);
        let (outcome, ..) = self.wait(self.mount.end_call(submitted));
        outcome.map_err(|error| error.errno())
    }

    /// As [`Self::call`], for a request with a buffer, which comes back too unless the device may still use it.
    pub(super) fn call_with(
        &self,
        incarnation: u32,
        buffer: Buffer,
        message: impl FnOnce(Vec<Extent>) -> TMessage,
    ) -> (Result<RMessage, Errno>, Option<Buffer>) {
        let submitted = self.mount.begin_call(incarnation, smallvec![buffer], message);
        let (outcome, mut buffers, _) = self.wait(self.mount.end_call(submitted));
        (outcome.map_err(|error| error.errno()), buffers.pop())
    }

    /// Waits a moment for what the server has not answered yet.
    pub(super) fn finish(&self) {
        if let Err(error) = self.wait(self.mount.finish()) {
            tracing::warn!(%error, "not everything that was written has been stored");
        }
    }

    /// A buffer of `len` bytes, or of fewer where memory is scarce.
    pub(super) fn buffer(&self, len: usize) -> Result<Buffer, Errno> {
        match self.mount.try_buffer(len) {
            Some(buffer) => Ok(buffer),
            None => self.wait(self.mount.buffer(len)).map_err(|error| error.errno()),
        }
    }

    /// A fid that nobody uses; to be given back by [`Self::give_back`].
    pub(super) fn take_number(&self) -> Result<u32, Errno> {
        let numbers = &mut *self.numbers.lock();
        if let Some(number) = numbers.free.pop() {
            return Ok(number);
        }
        let number = numbers.next;
        numbers.next = number.checked_add(1).filter(|&next| next < ninering_wire::NOFID).ok_or(Errno::EMFILE)?;
        Ok(number)
    }

    pub(super) fn give_back(&self, number: u32) {
        self.numbers.lock().free.push(number);
    }

    /// Clunks a fid, for which nobody waits.
    pub(super) fn clunk(self: &Arc<Self>, incarnation: u32, number: u32) {
        let submitted = self.mount.begin_call(incarnation, Buffers::new(), |_| TMessage::Clunk(number));
        if submitted.is_complete() {
            self.give_back(number);
            return;
        }
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            // Whatever the server answers, the fid is gone.
            let _ = this.mount.end_call(submitted).await;
            this.give_back(number);
        });
    }

    /// Waits for `future`, on this thread, which may be lent to a runtime.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let _timers = self.runtime.enter();
        // The thread may be within a task, whose share of the runtime would never be renewed here.
        let mut future = pin!(unconstrained(future));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => thread::park(),
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

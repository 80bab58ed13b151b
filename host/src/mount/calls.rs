//! 9P calls on a mount's session, by the client's interface `client`: for who wants the protocol rather than a filesystem.
//!
//! What the client does with the server's replies is the same as for filesystem calls, in the same sandbox. The fids are the
//! caller's, from [`FIRST_FID`] up.

use std::collections::HashMap;

use super::{
    Buffers, Mount, Result,
    component::{client, memory::Extent, vfs},
    give_up::Patience,
    life::{Life, Pending, State},
    operate::{Completion, Submitted},
};

/// The fids from here up are the callers'; those below are the client's own.
pub(crate) const FIRST_FID: u32 = 0x8000_0000;

/// What became of a call of the client, of either interface.
pub(super) enum Begun<T> {
    /// It is complete.
    Complete(std::result::Result<T, vfs::Error>),
    /// It comes back under this token when it is.
    Pending(u32),
}

impl From<vfs::Outcome> for Begun<vfs::Value> {
    fn from(outcome: vfs::Outcome) -> Self {
        match outcome {
            vfs::Outcome::Complete(outcome) => Self::Complete(outcome),
            vfs::Outcome::Pending(token) => Self::Pending(token),
        }
    }
}

impl From<client::CallOutcome> for Begun<client::RMessage> {
    fn from(outcome: client::CallOutcome) -> Self {
        match outcome {
            client::CallOutcome::Complete(outcome) => Self::Complete(outcome),
            client::CallOutcome::Pending(token) => Self::Pending(token),
        }
    }
}

/// What operations yield, and where those wait that are under way.
pub(super) trait Yield: Sized {
    fn pending(life: &mut Life) -> &mut HashMap<u32, Pending<Self>>;

    /// It came, and nobody has looked at it nor ever will.
    fn discard(self, mount: &Mount, incarnation: u32);
}

impl Yield for vfs::Value {
    fn pending(life: &mut Life) -> &mut HashMap<u32, Pending<Self>> {
        &mut life.pending
    }

    fn discard(self, mount: &Mount, incarnation: u32) {
        if let Self::Opened(opened) = self {
            mount.close(incarnation, opened.node);
        }
    }
}

impl Yield for client::RMessage {
    fn pending(life: &mut Life) -> &mut HashMap<u32, Pending<Self>> {
        &mut life.calls
    }

    // What it has made of a fid is for who made the call to undo.
    fn discard(self, _: &Mount, _: u32) {}
}

impl Mount {
    /// Sends a request. `message` is told where the buffers lie that are lent for it.
    ///
    /// A call that nobody waits for goes on; what it makes of a fid is the caller's to undo.
    pub(super) fn begin_call(
        &self,
        incarnation: u32,
        buffers: Buffers,
        message: impl FnOnce(Vec<Extent>) -> client::TMessage,
    ) -> Submitted<client::RMessage> {
        self.submit(Some(incarnation), buffers, |exports, store, extents| {
            exports.ninering_fs_client().call_call(store, &message(extents.to_vec())).map(Begun::from)
        })
    }

    /// Waits for the reply, and the buffers (unless the device may still use them).
    pub(super) async fn end_call(&self, call: Submitted<client::RMessage>) -> Completion<client::RMessage> {
        self.outcome(call, Patience::ToTheEnd).await
    }

    /// Which life of the mount this is, for [`Self::begin_call`]; and the `msize` and the bytes of payload that one read or write
    /// carries at the most, as the server has agreed to.
    ///
    /// # Errors
    /// The mount is broken.
    pub(super) fn limits(&self) -> Result<(u32, u32, u32)> {
        let mut state = self.0.state.lock();
        let incarnation = state.incarnation;
        let life = state.life.as_mut().map_err(|reason| super::Error::Broken(reason.clone()))?;
        life.sandbox.begin_call();
        match life.sandbox.exports.ninering_fs_client().call_limits(&mut life.sandbox.store) {
            Ok((msize, payload)) => Ok((incarnation, msize, payload)),
            Err(trap) => Err(state.trapped(&trap)),
        }
    }
}

impl State {
    /// Hands out the calls that are complete by what the device has returned.
    pub(super) fn reap_calls(&mut self) {
        let Ok(life) = &mut self.life else { return };
        if life.calls.is_empty() {
            return;
        }
        life.sandbox.begin_call();
        let completions = match life.sandbox.exports.ninering_fs_client().call_reap(&mut life.sandbox.store) {
            Ok(completions) => completions,
            Err(trap) => {
                self.trapped(&trap);
                return;
            }
        };
        for client::CallCompletion { token, outcome } in completions {
            let Ok(life) = &mut self.life else { return };
            let Some(Pending { reply, buffers, .. }) = life.calls.remove(&token) else {
                self.bury("the client completed a call that was not under way".into());
                return;
            };
            let buffers = life.take_back(buffers);
            let outcome = self.judge(outcome);
            // Who does not wait any more does not mind.
            let _ = reply.send((outcome, buffers));
        }
    }
}

//! Operations: calls of the client, and waiting for what comes of them.

use std::sync::{Arc, atomic::Ordering};

use ninering_wire::Errno;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use wasmtime::Store;

use super::{
    Buffers, Error, Mount, Result,
    calls::{Begun, Yield},
    component::{Guest, MountComponent, memory::Extent, vfs},
    give_up::{NoOutcome, Operation, Patience, Waiter},
    life::Pending,
};

/// An operation's outcome, its buffers (unless the device may still use them), and the life it belonged to.
pub(super) type Completion<T = vfs::Value> = (Result<T>, Buffers, u32);

/// What became of a submission.
pub(super) enum Submitted<T = vfs::Value> {
    /// It is done.
    Complete(Completion<T>),
    /// It will be.
    Pending(oneshot::Receiver<(Result<T>, Buffers)>, Operation),
}

impl<T> Submitted<T> {
    /// Is there nothing to wait for?
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Complete(_))
    }
}

impl Mount {
    /// Submits an operation and waits for its outcome.
    ///
    /// `incarnation` is the life in which the handle it is about was made, `buffers` what it reads or writes.
    pub(super) async fn operate(
        &self,
        incarnation: Option<u32>,
        buffers: Buffers,
        call: impl FnOnce(&vfs::Guest, &mut Store<Guest>, &[Extent]) -> wasmtime::Result<vfs::Outcome>,
    ) -> Completion {
        self.operate_with(Patience::Timeout, incarnation, buffers, call).await
    }

    /// The same with more patience than most have.
    pub(super) async fn operate_with(
        &self,
        patience: Patience,
        incarnation: Option<u32>,
        buffers: Buffers,
        call: impl FnOnce(&vfs::Guest, &mut Store<Guest>, &[Extent]) -> wasmtime::Result<vfs::Outcome>,
    ) -> Completion {
        let submitted = self.submit(incarnation, buffers, |exports, store, extents| {
            call(exports.ninering_fs_vfs(), store, extents).map(Begun::from)
        });
        self.outcome(submitted, patience).await
    }

    /// What came of a submission.
    ///
    /// A future is moved about with all that it may ever hold, so what may have to wait is in a box, here and wherever
    /// else most calls have not to wait.
    pub(super) async fn outcome<T: Yield>(&self, submitted: Submitted<T>, patience: Patience) -> Completion<T> {
        match submitted {
            Submitted::Complete(completion) => completion,
            Submitted::Pending(reply, operation) => Box::pin(self.wait_for(reply, operation, patience)).await,
        }
    }

    async fn wait_for<T: Yield>(
        &self,
        reply: oneshot::Receiver<(Result<T>, Buffers)>,
        operation: Operation,
        patience: Patience,
    ) -> Completion<T> {
        let incarnation = operation.incarnation;
        let mut waiter = Waiter { mount: self, operation, reply: Some(reply), patience };
        match waiter.wait().await {
            Ok((outcome, buffers)) => (outcome, buffers, incarnation),
            Err(NoOutcome::Dropped) => {
                let reason = self.broken().unwrap_or_else(|| "the operation was dropped".into());
                (Err(Error::Broken(reason)), Buffers::new(), incarnation)
            }
            Err(NoOutcome::Timeout) => {
                let reason: Arc<str> = format!("the server did not answer within {:?}", self.0.options.timeout).into();
                let mut state = self.0.state.lock();
                if state.incarnation == incarnation {
                    state.bury(Arc::clone(&reason));
                }
                (Err(Error::Broken(reason)), Buffers::new(), incarnation)
            }
        }
    }

    /// Calls the client. Whatever it does, this returns: with the outcome, or with where the outcome will come.
    pub(super) fn submit<T: Yield>(
        &self,
        incarnation: Option<u32>,
        buffers: Buffers,
        call: impl FnOnce(&MountComponent, &mut Store<Guest>, &[Extent]) -> wasmtime::Result<Begun<T>>,
    ) -> Submitted<T> {
        let mut state = self.0.state.lock();
        let current = state.incarnation;
        let life = match &mut state.life {
            Ok(life) => life,
            Err(reason) => return Submitted::Complete((Err(Error::Broken(Arc::clone(reason))), buffers, current)),
        };
        let foreign = buffers.iter().any(|buffer| !buffer.is_of(&life.pool));
        if foreign || incarnation.is_some_and(|incarnation| incarnation != current) {
            return Submitted::Complete((Err(Errno::ESTALE.into()), buffers, current));
        }
        let serial = self.0.operations.fetch_add(1, Ordering::Relaxed);
        let mut extents: SmallVec<[Extent; 1]> = SmallVec::new();
        for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
            if !life.sandbox.store.data_mut().leases.lend(buffer.extent()) {
                let leases = &mut life.sandbox.store.data_mut().leases;
                for extent in extents {
                    leases.revoke(extent.into());
                }
                return Submitted::Complete((Err(Errno::ENOMEM.into()), Buffers::new(), current));
            }
            extents.push(buffer.extent().into());
        }
        life.sandbox.begin_call();
        let submitted = match call(&life.sandbox.exports, &mut life.sandbox.store, &extents) {
            Ok(Begun::Complete(outcome)) => {
                let buffers = life.take_back(buffers);
                Submitted::Complete((state.judge(outcome), buffers, current))
            }
            Ok(Begun::Pending(token)) => {
                let (reply, receiver) = oneshot::channel();
                T::pending(life).insert(token, Pending { reply, buffers, serial });
                Submitted::Pending(receiver, Operation { incarnation: current, token, serial })
            }
            Err(trap) => Submitted::Complete((Err(state.trapped(&trap)), Buffers::new(), current)),
        };
        state.reap_taken();
        submitted
    }

    /// Tells the client that nobody needs a node any more.
    pub(super) fn close(&self, incarnation: u32, node: vfs::Node) {
        let mut state = self.0.state.lock();
        if state.incarnation != incarnation {
            return;
        }
        let Ok(life) = &mut state.life else { return };
        life.sandbox.begin_call();
        if let Err(trap) = life.sandbox.exports.ninering_fs_vfs().call_close(&mut life.sandbox.store, node) {
            state.trapped(&trap);
        }
        state.reap_taken();
    }
}

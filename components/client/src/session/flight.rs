//! Requests that are sent together, the later ones depending on the earlier.

use std::{future::poll_fn, task::Poll};

use ninering_wire::{Errno, Rmessage, Tmessage};
use smallvec::SmallVec;

use super::{
    Session,
    send::Held,
    slot::{Cleanup, Exchange},
};
use crate::{error::Error, ring::Ring};
impl<R: Ring> Session<R> {
    /// Sends `N` requests, one behind the other, those that fail to be sent left out; nothing behind the first if that
    /// is left out. Only of use where the device is [ordered](Self::set_ordered): the later ones may then depend on
    /// the earlier ones.
    pub(crate) async fn flight<'m, const N: usize>(
        &self,
        request: impl Fn(usize) -> (Tmessage<'m>, Cleanup),
    ) -> Flight<'_, R> {
        let owed = match (request(0).1, request(N - 1).1) {
            (cleanup @ Cleanup::Walked(_), _) | (_, cleanup) => cleanup,
        };
        let mut flight = Flight { session: self, requests: SmallVec::new(), owed };
        poll_fn(|_| {
            if flight.requests.is_empty() && !self.take_turn(N) {
                return Poll::Pending;
            }
            while flight.requests.len() < N {
                let (message, cleanup) = request(flight.requests.len());
                let sent = match flight.requests.first() {
                    Some(Flying { sent: Err(error), .. }) => Err(error.clone()),
                    _ => match self.poll_send(&message, cleanup, None) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(sent) => sent.map_err(|refusal| self.error_of(refusal)),
                    },
                };
                if sent.is_err() {
                    drop(Held { session: self, cleanup });
                }
                if cleanup == flight.owed {
                    flight.owed = Cleanup::Nothing;
                }
                flight.requests.push(Flying { sent, cleanup });
            }
            Poll::Ready(())
        })
        .await;
        self.leave(self.current.get());
        flight
    }
}

/// Requests that were sent together: [`Session::flight`].
pub(crate) struct Flight<'s, R: Ring> {
    session: &'s Session<R>,
    requests: SmallVec<[Flying<'s, R>; 3]>,
    /// The cleanup of a request that is not sent yet.
    owed: Cleanup,
}

struct Flying<'s, R: Ring> {
    sent: Result<Exchange<'s, R>, Error>,
    cleanup: Cleanup,
}

impl<R: Ring> Drop for Flight<'_, R> {
    fn drop(&mut self) {
        match self.owed {
            // The walk that would have made the fid was not sent.
            Cleanup::Walked(fid) => self.session.free_fid(fid),
            // The walk to the fid may have been sent, but not its clunk.
            Cleanup::Free(fid) => self.session.state.borrow_mut().to_clunk.push(fid),
            Cleanup::Nothing | Cleanup::Buffer(_) | Cleanup::Flush(_) => {}
        }
    }
}

impl<R: Ring> Flight<'_, R> {
    /// What `read` makes of the answer to the request at `index`, once it is there. What that request's cleanup names
    /// is the caller's again only if this succeeds. To be called once for each request, or not at all.
    pub(crate) async fn take<T>(
        &mut self,
        index: usize,
        read: impl FnOnce(Rmessage<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let session = self.session;
        let Some(Flying { sent, cleanup }) = self.requests.get_mut(index) else { return Err(Errno::EIO.into()) };
        let exchange = sent.as_mut().map_err(|error| error.clone())?;
        let answer = poll_fn(|_| exchange.poll()).await?;
        let mut held = Held { session, cleanup: *cleanup };
        let value = session.read(&answer, read)?;
        held.cleanup = Cleanup::Nothing;
        Ok(value)
    }
}

//! Many requests at once that do not depend on each other.

use std::{future::poll_fn, task::Poll};

use ninering_wire::{Errno, Rmessage, Tmessage};

use super::{Cleanup, Exchange, Session, no_payload, send::Held};
use crate::{error::Error, ring::Ring};

/// A request of a volley.
struct Shot<'s, R: Ring> {
    held: Held<'s, R>,
    exchange: Option<Exchange<'s, R>>,
    /// It came back without an answer, and is to be sent again.
    is_lost: bool,
}

impl<R: Ring> Session<R> {
    /// Sends `count` requests without payload, which can be done twice without harm, all of them in flight as far as there is room, and yields what `read` makes
    /// of each reply, in the order of the requests. A request's cleanup, the second argument's, is that of
    /// [`Session::request`]: what it names is the caller's only if the request succeeds.
    ///
    /// # Errors
    /// The session is broken. What a server answers is the single requests'.
    pub(crate) async fn volley<'m, T>(
        &self,
        count: usize,
        cleanup: impl Fn(usize) -> Cleanup,
        request: impl Fn(usize) -> Tmessage<'m>,
        read: impl Fn(usize, Rmessage<'_>) -> Option<T>,
    ) -> Result<Vec<Result<T, Error>>, Error> {
        // From the start, each is given back what its cleanup names, however this ends.
        let held = |index| Held { session: self, cleanup: cleanup(index) };
        let mut shots: Vec<_> =
            (0..count).map(|index| Shot { held: held(index), exchange: None, is_lost: false }).collect();
        let mut results = Vec::with_capacity(count);
        let mut sent = 0;
        poll_fn(|_| {
            loop {
                while sent < count {
                    let Some(shot) = shots.get_mut(sent) else { break };
                    match self.poll_send(&request(sent), cleanup(sent), no_payload::<R::Iter>()) {
                        Poll::Pending => break,
                        Poll::Ready(Ok(exchange)) => {
                            shot.held.cleanup = Cleanup::Nothing;
                            shot.exchange = Some(exchange);
                            sent += 1;
                        }
                        // It stays unsent, and is told of in its turn.
                        Poll::Ready(Err(refusal)) => match self.error_of(refusal) {
                            error @ Error::Broken(_) => return Poll::Ready(Err(error)),
                            _ => sent += 1,
                        },
                    }
                }
                let before = results.len();
                while results.len() < sent {
                    let index = results.len();
                    let Some(shot) = shots.get_mut(index) else { break };
                    if shot.is_lost {
                        match self.poll_send(&request(index), cleanup(index), no_payload::<R::Iter>()) {
                            Poll::Pending => break,
                            Poll::Ready(Ok(exchange)) => {
                                shot.held.cleanup = Cleanup::Nothing;
                                shot.exchange = Some(exchange);
                            }
                            Poll::Ready(Err(refusal)) => match self.error_of(refusal) {
                                error @ Error::Broken(_) => return Poll::Ready(Err(error)),
                                _ => shot.exchange = None,
                            },
                        }
                        shot.is_lost = false;
                    }
                    let Some(exchange) = &mut shot.exchange else {
                        results.push(Err(Errno::EIO.into()));
                        continue;
                    };
                    let answer = match exchange.poll() {
                        Poll::Pending => break,
                        // None of these does anything that may not be done twice.
                        Poll::Ready(Err(Error::InDoubt)) if self.recovers() => {
                            shot.held.cleanup = cleanup(index);
                            shot.is_lost = true;
                            self.count_resent();
                            continue;
                        }
                        Poll::Ready(answer) => answer?,
                    };
                    shot.held.cleanup = cleanup(index);
                    let result = self.read(&answer, |reply| {
                        self.note(&request(index), &reply);
                        read(index, reply)
                    });
                    match result {
                        Err(error @ Error::Broken(_)) => return Poll::Ready(Err(error)),
                        Ok(_) => shot.held.cleanup = Cleanup::Nothing,
                        Err(_) => shot.held.give_back(),
                    }
                    results.push(result);
                }
                if results.len() == count {
                    return Poll::Ready(Ok(()));
                }
                // What was taken has made room.
                if results.len() == before || sent == count {
                    return Poll::Pending;
                }
            }
        })
        .await?;
        Ok(results)
    }
}

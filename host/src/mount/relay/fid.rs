//! Fids of the session with the remote server.

use std::sync::Arc;

use ninering_wire::{Errno, NOFID, Qid};

use super::{
    super::{
        Buffer,
        component::{
            client::{RMessage, TAttach, TMessage, TWalk, TXattrwalk},
            memory::Extent,
        },
    },
    attributes::qid_of,
    upstream::Upstream,
};

/// A fid that the server knows; clunked when this is dropped.
pub(super) struct Fid {
    pub(super) upstream: Arc<Upstream>,
    number: u32,
    incarnation: u32,
}

/// A fid that the server may come to know by the request under way.
struct Reserved {
    upstream: Arc<Upstream>,
    number: u32,
    incarnation: u32,
}

impl Reserved {
    fn begin(upstream: &Arc<Upstream>, incarnation: u32) -> Result<Self, Errno> {
        Ok(Self { upstream: Arc::clone(upstream), number: upstream.take_number()?, incarnation })
    }

    /// Sends the request that makes it, and has `made` see from the reply what it is of.
    fn make<T>(self, message: TMessage, made: impl FnOnce(RMessage) -> Result<T, Errno>) -> Result<(Fid, T), Errno> {
        let Self { upstream, number, incarnation } = self;
        match upstream.call(incarnation, message).and_then(made) {
            Ok(value) => Ok((Fid { upstream, number, incarnation }, value)),
            Err(error) => {
                upstream.give_back(number);
                Err(error)
            }
        }
    }
}

impl Fid {
    /// The fid of what is attached to by the message.
    pub(super) fn attach(upstream: &Arc<Upstream>, message: impl FnOnce(u32) -> TAttach) -> Result<(Self, Qid), Errno> {
        let reserved = Reserved::begin(upstream, upstream.incarnation())?;
        let message = TMessage::Attach(message(reserved.number));
        reserved.make(message, |reply| match reply {
            RMessage::Qid(qid) => Ok(qid_of(qid)),
            _ => Err(Errno::EIO),
        })
    }

    /// The number, for messages.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Another fid for the same file, not open.
    pub(super) fn duplicate(&self) -> Result<Self, Errno> {
        let reserved = Reserved::begin(&self.upstream, self.incarnation)?;
        let message = TMessage::Walk(TWalk { fid: self.number, newfid: reserved.number, names: Vec::new() });
        Ok(reserved.make(message, |_| Ok(()))?.0)
    }

    /// The fid of the entry `name` of this directory, or of the one above for `..`.
    pub(super) fn walk(&self, name: &[u8]) -> Result<(Self, Qid), Errno> {
        let reserved = Reserved::begin(&self.upstream, self.incarnation)?;
        let names = vec![name.to_vec()];
        let message = TMessage::Walk(TWalk { fid: self.number, newfid: reserved.number, names });
        reserved.make(message, |reply| match reply {
            // Without its qid, the name was not walked, and the fid was not made.
            RMessage::Qids(qids) => qids.first().map(|&qid| qid_of(qid)).ok_or(Errno::ENOENT),
            _ => Err(Errno::EIO),
        })
    }

    /// A fid for the value of the extended attribute `name`, or with an empty name for the list of names; and its size in
    /// bytes.
    pub(super) fn walk_to_xattr(&self, name: &[u8]) -> Result<(Self, u64), Errno> {
        let reserved = Reserved::begin(&self.upstream, self.incarnation)?;
        let message = TXattrwalk { fid: self.number, newfid: reserved.number, name: name.to_vec() };
        reserved.make(TMessage::Xattrwalk(message), |reply| match reply {
            RMessage::Size(size) => Ok(size),
            _ => Err(Errno::EIO),
        })
    }

    /// Sends a request that is about this fid, and waits for the reply.
    pub(super) fn call(&self, message: TMessage) -> Result<RMessage, Errno> {
        self.upstream.call(self.incarnation, message)
    }

    /// As [`Self::call`], for one that says no more than that it was done.
    pub(super) fn do_(&self, message: TMessage) -> Result<(), Errno> {
        match self.call(message)? {
            RMessage::Done => Ok(()),
            _ => Err(Errno::EIO),
        }
    }

    /// As [`Self::call`], for a read or write: how many bytes, and the buffer.
    pub(super) fn transfer(
        &self,
        buffer: Buffer,
        message: impl FnOnce(Vec<Extent>) -> TMessage,
    ) -> Result<(usize, Buffer), Errno> {
        let length = buffer.len();
        let (outcome, buffer) = self.upstream.call_with(self.incarnation, buffer, message);
        match (outcome?, buffer) {
            (RMessage::Count(count), Some(buffer)) => {
                Ok((usize::try_from(count).map_or(length, |count| count.min(length)), buffer))
            }
            _ => Err(Errno::EIO),
        }
    }

    /// Has a message end it that does so whatever comes of it: `Tclunk` or `Tremove`.
    pub(super) fn end(mut self, message: impl FnOnce(u32) -> TMessage) -> Result<(), Errno> {
        let number = std::mem::replace(&mut self.number, NOFID);
        let outcome = self.do_(message(number));
        self.upstream.give_back(number);
        outcome
    }
}

impl Drop for Fid {
    fn drop(&mut self) {
        if self.number != NOFID {
            self.upstream.clunk(self.incarnation, self.number);
        }
    }
}

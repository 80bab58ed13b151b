//! `Tvisit`: to walk, and to do something with the file where that leads, in one message.
//!
//! It is no part of 9P2000.L: a client asks for it by [`VERSION_NINERING`](ninering_wire::VERSION_NINERING).

use std::sync::Arc;

use ninering_wire::{Errno, HEADER_LEN, Inner, NOFID, NOTAG, Name, Names, Qid, Rmessage, Tmessage};

use super::{
    Session, dispatch,
    fid::Fid,
    namespace::{Passed, qids},
    request::{self, Request},
};

impl Session {
    /// `Tvisit`. The errors of the walk are those of `Twalk`, and where it stops before its end nothing is done.
    pub(super) fn visit(
        &self,
        request: &Request,
        number: u32,
        new_number: u32,
        names: Names<'_>,
        message: Inner<'_>,
    ) -> Result<usize, Errno> {
        if !request.visits {
            return Err(Errno::EOPNOTSUPP);
        }
        let message: Tmessage<'_> = message.decode().map_err(request::errno_of)?;
        // What is opened or made needs a fid that is told of it.
        let (Some(fid), true) = (visitor(&message), new_number != NOFID || !keeps_its_fid(&message)) else {
            return Err(Errno::EINVAL);
        };
        if fid != new_number {
            return Err(Errno::EINVAL);
        }
        let fid = match new_number {
            NOFID => self.fids.get(number)?,
            _ => self.fids.get_and_check_free(number, new_number)?,
        };
        fid.attach.begin(false)?;
        let changes = dispatch::changes(&message);

        let mut passed = Passed::new();
        if let (Tmessage::Tgetattr { request_mask, .. }, NOFID, Some(last)) =
            (&message, new_number, names.iter().last())
            && last.0 != b".."
        {
            // The most frequent one, for which the file need not be held open.
            let Some((directory, _)) = self.walk_from(&fid, names.iter().take(names.len() - 1), &mut passed)? else {
                return self.answer_visit(request, &passed, changes, |_| Ok(0));
            };
            let found = Name::new(&last).and_then(|name| fid.attach.attributes_of(&*directory, name, *request_mask));
            let attributes = match found {
                Ok(attributes) => attributes,
                Err(error) if names.len() == 1 => return Err(error),
                Err(_) => return self.answer_visit(request, &passed, changes, |_| Ok(0)),
            };
            passed.push(attributes.qid);
            return self.answer_visit(request, &passed, changes, |inner| {
                inner.answer(&Rmessage::Rgetattr { attributes: (&attributes).into() })
            });
        }

        let Some((node, place)) = self.walk_from(&fid, names.iter(), &mut passed)? else {
            return self.answer_visit(request, &passed, changes, |_| Ok(0));
        };
        let visited = Fid::new(node, Arc::clone(&fid.attach), place);
        if new_number == NOFID {
            return self.answer_visit(request, &passed, changes, |inner| {
                dispatch::dispatch(self, &Request { visited: Some(&visited), ..*inner }, &message)
            });
        }
        self.fids.insert(new_number, Arc::clone(&visited))?;
        self.answer_visit(request, &passed, changes, |inner| {
            dispatch::dispatch(self, inner, &message).inspect_err(|_| self.fids.take_back(new_number, &visited))
        })
    }

    /// Writes an `Rvisit` around what `answer` does; nothing where that tells a length of 0.
    fn answer_visit(
        &self,
        request: &Request,
        passed: &[Qid],
        changes: bool,
        answer: impl FnOnce(&Request) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let reply = Rmessage::Rvisit { qids: qids(passed)?, message: Inner(&[]) };
        let front = HEADER_LEN + 2 + Qid::LEN * passed.len();
        let space = request.reply.part(front, request.reply.len().saturating_sub(front));
        let msize = request.msize.saturating_sub(front as u32);
        let inner = Request { tag: NOTAG, changes, msize, reply: &space, now: None, again: None, ..*request };
        let length = answer(&inner).unwrap_or_else(|error| request::answer_error(NOTAG, error, &space));
        if length == 0 { request.answer(&reply) } else { request.answer_around(&reply, length) }
    }
}

/// The fid that `message` is about, if it is one that can be sent within a `Tvisit`.
fn visitor(message: &Tmessage<'_>) -> Option<u32> {
    match *message {
        Tmessage::Tgetattr { fid, .. }
        | Tmessage::Tsetattr { fid, .. }
        | Tmessage::Tlopen { fid, .. }
        | Tmessage::Tlcreate { fid, .. }
        | Tmessage::Tsymlink { fid, .. }
        | Tmessage::Tmknod { fid, .. }
        | Tmessage::Treadlink { fid }
        | Tmessage::Tstatfs { fid } => Some(fid),
        Tmessage::Tmkdir { dfid, .. } => Some(dfid),
        Tmessage::Tunlinkat { dirfid, .. } => Some(dirfid),
        _ => None,
    }
}

/// Is the fid something else once `message` is done?
fn keeps_its_fid(message: &Tmessage<'_>) -> bool {
    matches!(message, Tmessage::Tlopen { .. } | Tmessage::Tlcreate { .. })
}

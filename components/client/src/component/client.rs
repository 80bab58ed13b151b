//! The interface `client`.

use ninering_wire::Errno;

use super::{
    Component,
    bindings::{
        exports::ninering::fs::{
            client::{self as wit_client, Guest},
            vfs as wit_vfs,
        },
        ninering::fs::iter,
    },
    host_ring::HostIter,
    not_started,
    types::entries_of,
    with_mount,
};
use crate::{
    client::{Reply, Request, Tio},
    error::Error,
    mount::{self, Mount},
};

impl Guest for Component {
    fn limits() -> (u32, u32) {
        with_mount(|mount| (mount.session().msize(), mount.session().payload_max())).unwrap_or_default()
    }

    fn call(message: wit_client::TMessage) -> wit_client::CallOutcome {
        let request = match request(message) {
            Ok(request) => request,
            Err(errno) => return wit_client::CallOutcome::Complete(Err(errno.into())),
        };
        match with_mount(|mount| mount.call(request)) {
            Some(mount::Outcome::Complete(result)) => wit_client::CallOutcome::Complete(reply(result)),
            Some(mount::Outcome::Pending(token)) => wit_client::CallOutcome::Pending(token),
            None => wit_client::CallOutcome::Complete(Err(not_started())),
        }
    }

    fn cancel(token: u32) {
        with_mount(|mount| mount.cancel(token));
    }

    fn reap() -> Vec<wit_client::CallCompletion> {
        let completions = with_mount(Mount::reap_calls).unwrap_or_default().into_iter();
        completions.map(|(token, result)| wit_client::CallCompletion { token, outcome: reply(result) }).collect()
    }
}

fn reply(result: Result<Reply, Error>) -> Result<wit_client::RMessage, wit_vfs::Error> {
    Ok(match result? {
        Reply::Done => wit_client::RMessage::Done,
        Reply::Qid(qid) => wit_client::RMessage::Qid(qid.into()),
        Reply::Qids(qids) => wit_client::RMessage::Qids(qids.into_iter().map(Into::into).collect()),
        Reply::Opened(qid, iounit) => wit_client::RMessage::Opened((qid.into(), iounit)),
        Reply::Size(size) => wit_client::RMessage::Size(size),
        Reply::LockStatus(status) => wit_client::RMessage::LockStatus(status.into()),
        Reply::Lock(lock) => wit_client::RMessage::Lock(lock.into()),
        Reply::Target(target) => wit_client::RMessage::Target(target),
        Reply::Attributes(attributes) => wit_client::RMessage::Attributes(attributes.into()),
        Reply::Entries { entries, end } => wit_client::RMessage::Entries(entries_of(entries, end)),
        Reply::Statistics(statfs) => wit_client::RMessage::Statistics(statfs.into()),
        Reply::Count(count) => wit_client::RMessage::Count(count),
    })
}

fn request(message: wit_client::TMessage) -> Result<Request<HostIter>, Errno> {
    use wit_client::TMessage;

    let tio = |wit_client::TIo { fid, offset, buffers }, direction| {
        let (iter, bytes) = HostIter::over(wit_vfs::MemoryKind::Application, &buffers, direction);
        Tio { fid, offset, iter, bytes }
    };
    Ok(match message {
        TMessage::Auth(wit_client::TAuth { afid, uname, aname, n_uname }) => {
            Request::Auth { afid, uname, aname, n_uname }
        }
        TMessage::Attach(wit_client::TAttach { fid, afid, uname, aname, n_uname }) => {
            Request::Attach { fid, afid, uname, aname, n_uname }
        }
        TMessage::Mknod(wit_client::TMknod { fid, name, mode, major, minor, gid }) => {
            Request::Mknod { fid, name, mode, major, minor, gid }
        }
        TMessage::Xattrwalk(wit_client::TXattrwalk { fid, newfid, name }) => Request::Xattrwalk { fid, newfid, name },
        TMessage::Xattrcreate(wit_client::TXattrcreate { fid, name, size, flags }) => {
            Request::Xattrcreate { fid, name, size, flags }
        }
        TMessage::Lock(wit_client::TLock { fid, lock, flags }) => Request::Lock { fid, lock: lock.into(), flags },
        TMessage::Getlock(wit_client::TGetlock { fid, lock }) => Request::Getlock { fid, lock: lock.into() },
        TMessage::Walk(wit_client::TWalk { fid, newfid, names }) => Request::Walk { fid, newfid, names },
        TMessage::Lopen(wit_client::TLopen { fid, flags }) => Request::Lopen { fid, flags },
        TMessage::Lcreate(wit_client::TLcreate { fid, name, flags, mode, gid }) => {
            Request::Lcreate { fid, name, flags, mode, gid }
        }
        TMessage::Symlink(wit_client::TSymlink { fid, name, target, gid }) => {
            Request::Symlink { fid, name, target, gid }
        }
        TMessage::Rename(wit_client::TRename { fid, dfid, name }) => Request::Rename { fid, dfid, name },
        TMessage::Readlink(fid) => Request::Readlink { fid },
        TMessage::Getattr(fid) => Request::Getattr { fid },
        TMessage::Setattr(wit_client::TSetattr { fid, changes }) => {
            Request::Setattr { fid, changes: changes.try_into()? }
        }
        TMessage::Readdir(wit_client::TReaddir { fid, offset, count }) => Request::Readdir { fid, offset, count },
        TMessage::Fsync(wit_client::TFsync { fid, data_only }) => Request::Fsync { fid, data_only },
        TMessage::Link(wit_client::TLink { dfid, fid, name }) => Request::Link { dfid, fid, name },
        TMessage::Mkdir(wit_client::TMkdir { dfid, name, mode, gid }) => Request::Mkdir { dfid, name, mode, gid },
        TMessage::Renameat(wit_client::TRenameat { olddirfid, oldname, newdirfid, newname }) => {
            Request::Renameat { olddirfid, oldname, newdirfid, newname }
        }
        TMessage::Unlinkat(wit_client::TUnlinkat { dirfid, name, flags }) => Request::Unlinkat { dirfid, name, flags },
        TMessage::Statfs(fid) => Request::Statfs { fid },
        TMessage::Read(io) => Request::Read(tio(io, iter::Direction::Dest)),
        TMessage::Write(io) => Request::Write(tio(io, iter::Direction::Source)),
        TMessage::Clunk(fid) => Request::Clunk { fid },
        TMessage::Remove(fid) => Request::Remove { fid },
    })
}

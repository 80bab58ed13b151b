//! The component: world `client-component`. What is here only turns the types of its interfaces into this crate's.

mod bindings {
    // Borrowed where they are arguments of imports: a flight's headers are in one buffer.
    wit_bindgen::generate!({
        path: "../../wit",
        world: "client-component",
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}

mod host_ring;

use std::cell::RefCell;

use bindings::{
    exports::ninering::fs::{
        client::{self as wit_client, Guest as ClientGuest},
        vfs::{self as wit_vfs, Guest as VfsGuest},
    },
    ninering::fs::{
        iter,
        memory::{self, Region},
        types,
        virtqueue::Virtqueue,
    },
};
use ninering_wire::{Attributes, Errno, Qid, SetAttributes, Statfs, setattr};

use self::host_ring::{HostIter, HostRing};
use crate::{
    client::{Reply, Request, Tio},
    error::Error,
    mount::{self, Mount},
    vfs::{Entry, OpenFlags, Value, Vfs},
};

/// `EFAULT`: the host refused the buffer.
const EFAULT: Errno = Errno(14);

struct Component;

bindings::export!(Component with_types_in bindings);

thread_local! {
    /// The one mount of this instance. A component has one thread.
    static MOUNT: RefCell<Option<Mount<HostRing>>> = const { RefCell::new(None) };
}

/// Does something with the mount; `None` before it is started.
fn with_mount<T>(act: impl FnOnce(&Mount<HostRing>) -> T) -> Option<T> {
    MOUNT.with_borrow(|mount| mount.as_ref().map(act))
}

fn not_started() -> wit_vfs::Error {
    wit_vfs::Error::Broken("the mount was not started".into())
}

/// Begins a filesystem call.
fn run(operation: impl AsyncFnOnce(&Vfs<HostRing>) -> Result<Value, Error> + 'static) -> wit_vfs::Outcome {
    match with_mount(|mount| mount.run(operation)) {
        Some(outcome) => outcome.into(),
        None => wit_vfs::Outcome::Complete(Err(not_started())),
    }
}

impl VfsGuest for Component {
    fn start(region: Region, queue: Virtqueue, options: wit_vfs::Options) -> wit_vfs::Outcome {
        if MOUNT.with_borrow(Option::is_some) {
            return wit_vfs::Outcome::Complete(Err(Errno::EALREADY.into()));
        }
        let wit_vfs::Options { aname, uname, n_uname, msize, ordered, immediate } = options;
        let mount = Mount::new(HostRing::new(region, queue, immediate));
        let outcome = mount.start(mount::Options { aname, uname, n_uname, msize, ordered, immediate });
        MOUNT.set(Some(mount));
        outcome.into()
    }

    fn reap() -> Vec<wit_vfs::Completion> {
        completions(with_mount(Mount::reap))
    }

    fn abort(reason: String) -> Vec<wit_vfs::Completion> {
        completions(with_mount(|mount| mount.abort(&reason)))
    }

    fn open(directory: wit_vfs::Node, path: String, flags: wit_vfs::OpenFlags, mode: u32) -> wit_vfs::Outcome {
        let has = |flag| flags.contains(flag);
        let flags = OpenFlags {
            read: has(wit_vfs::OpenFlags::READ),
            write: has(wit_vfs::OpenFlags::WRITE),
            append: has(wit_vfs::OpenFlags::APPEND),
            create: has(wit_vfs::OpenFlags::CREATE),
            exclusive: has(wit_vfs::OpenFlags::EXCLUSIVE),
            directory: has(wit_vfs::OpenFlags::DIRECTORY),
            truncate: has(wit_vfs::OpenFlags::TRUNCATE),
            follow: has(wit_vfs::OpenFlags::FOLLOW),
            sync: has(wit_vfs::OpenFlags::SYNC),
            data_sync: has(wit_vfs::OpenFlags::DATA_SYNC),
        };
        run(async move |vfs| vfs.open(directory, path, flags, mode).await)
    }

    fn close(node: wit_vfs::Node) {
        with_mount(|mount| mount.close(node));
    }

    fn read(node: wit_vfs::Node, offset: u64, buffers: Vec<memory::Extent>) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over_application(&buffers, iter::Direction::Dest);
        run(async move |vfs| vfs.read(node, offset, iter, bytes).await)
    }

    fn write(node: wit_vfs::Node, offset: u64, buffers: Vec<memory::Extent>) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over_application(&buffers, iter::Direction::Source);
        run(async move |vfs| vfs.write(node, offset, iter, bytes).await)
    }

    fn read_directory(node: wit_vfs::Node, offset: u64) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.read_directory(node, offset).await)
    }

    fn sync(node: wit_vfs::Node, data_only: bool) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.sync(node, data_only).await)
    }

    fn stat(node: wit_vfs::Node) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.stat(node).await)
    }

    fn stat_at(directory: wit_vfs::Node, path: String, follow: bool) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.stat_at(directory, path, follow).await)
    }

    fn identify_at(directory: wit_vfs::Node, path: String, follow: bool) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.identify_at(directory, path, follow).await)
    }

    fn set_attributes(node: wit_vfs::Node, changes: types::AttributeChanges) -> wit_vfs::Outcome {
        match changes.try_into() {
            Ok(changes) => run(async move |vfs| vfs.set_attributes(node, changes).await),
            Err(errno) => wit_vfs::Outcome::Complete(Err(Errno::into(errno))),
        }
    }

    fn set_attributes_at(
        directory: wit_vfs::Node,
        path: String,
        follow: bool,
        changes: types::AttributeChanges,
    ) -> wit_vfs::Outcome {
        match changes.try_into() {
            Ok(changes) => run(async move |vfs| vfs.set_attributes_at(directory, path, follow, changes).await),
            Err(errno) => wit_vfs::Outcome::Complete(Err(Errno::into(errno))),
        }
    }

    fn statfs(node: wit_vfs::Node) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.statfs(node).await)
    }

    fn make_directory(directory: wit_vfs::Node, path: String, mode: u32) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.make_directory(directory, path, mode).await)
    }

    fn symlink(directory: wit_vfs::Node, path: String, target: String) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.symlink(directory, path, target).await)
    }

    fn read_link(directory: wit_vfs::Node, path: String) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.read_link(directory, path).await)
    }

    fn link(
        old_directory: wit_vfs::Node,
        old_path: String,
        follow: bool,
        new_directory: wit_vfs::Node,
        new_path: String,
    ) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.link(old_directory, old_path, follow, new_directory, new_path).await)
    }

    fn rename(
        old_directory: wit_vfs::Node,
        old_path: String,
        new_directory: wit_vfs::Node,
        new_path: String,
    ) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.rename(old_directory, old_path, new_directory, new_path).await)
    }

    fn unlink(directory: wit_vfs::Node, path: String) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.unlink(directory, path).await)
    }

    fn remove_directory(directory: wit_vfs::Node, path: String) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.remove_directory(directory, path).await)
    }
}

impl ClientGuest for Component {
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

    fn reap() -> Vec<wit_client::CallCompletion> {
        let completions = with_mount(Mount::reap_calls).unwrap_or_default().into_iter();
        completions.map(|(token, result)| wit_client::CallCompletion { token, outcome: reply(result) }).collect()
    }
}

fn completions(completions: Option<mount::Completions<Value>>) -> Vec<wit_vfs::Completion> {
    let completions = completions.unwrap_or_default().into_iter();
    completions.map(|(token, result)| wit_vfs::Completion { token, outcome: value(result) }).collect()
}

fn value(result: Result<Value, Error>) -> Result<wit_vfs::Value, wit_vfs::Error> {
    Ok(match result? {
        Value::None => wit_vfs::Value::None,
        Value::Count(count) => wit_vfs::Value::Count(count),
        Value::Opened { node, qid } => wit_vfs::Value::Opened(wit_vfs::Opened { node, qid: qid.into() }),
        Value::Qid(qid) => wit_vfs::Value::Qid(qid.into()),
        Value::Attributes(attributes) => wit_vfs::Value::Attributes(attributes.into()),
        Value::Entries { entries, end } => wit_vfs::Value::Entries(entries_of(entries, end)),
        Value::Target(target) => wit_vfs::Value::Target(target),
        Value::Statistics(statfs) => wit_vfs::Value::Statistics(statfs.into()),
    })
}

fn reply(result: Result<Reply, Error>) -> Result<wit_client::RMessage, wit_vfs::Error> {
    Ok(match result? {
        Reply::Done => wit_client::RMessage::Done,
        Reply::Qid(qid) => wit_client::RMessage::Qid(qid.into()),
        Reply::Qids(qids) => wit_client::RMessage::Qids(qids.into_iter().map(Into::into).collect()),
        Reply::Opened(qid, iounit) => wit_client::RMessage::Opened((qid.into(), iounit)),
        Reply::Target(target) => wit_client::RMessage::Target(target),
        Reply::Attributes(attributes) => wit_client::RMessage::Attributes(attributes.into()),
        Reply::Entries { entries, end } => wit_client::RMessage::Entries(entries_of(entries, end)),
        Reply::Statistics(statfs) => wit_client::RMessage::Statistics(statfs.into()),
        Reply::Count(count) => wit_client::RMessage::Count(count),
    })
}

fn entries_of(entries: Vec<Entry>, end: bool) -> wit_vfs::Entries {
    wit_vfs::Entries { entries: entries.into_iter().map(Into::into).collect(), end }
}

fn request(message: wit_client::TMessage) -> Result<Request<HostIter>, Errno> {
    use wit_client::TMessage;

    let tio = |wit_client::TIo { fid, offset, buffers }, direction| {
        let (iter, bytes) = HostIter::over_application(&buffers, direction);
        Tio { fid, offset, iter, bytes }
    };
    Ok(match message {
        TMessage::Attach(wit_client::TAttach { fid, uname, aname, n_uname }) => {
            Request::Attach { fid, uname, aname, n_uname }
        }
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

impl From<mount::Outcome<Value>> for wit_vfs::Outcome {
    fn from(outcome: mount::Outcome<Value>) -> Self {
        match outcome {
            mount::Outcome::Complete(result) => Self::Complete(value(result)),
            mount::Outcome::Pending(token) => Self::Pending(token),
        }
    }
}

impl From<Errno> for wit_vfs::Error {
    fn from(Errno(number): Errno) -> Self {
        Self::Errno(number)
    }
}

impl From<Error> for wit_vfs::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Errno(errno) => errno.into(),
            Error::Broken(reason) => Self::Broken(reason.to_string()),
        }
    }
}

impl From<Qid> for types::Qid {
    fn from(Qid { kind, version, path }: Qid) -> Self {
        Self { kind: kind.0, version, path }
    }
}

impl From<Entry> for types::DirectoryEntry {
    fn from(Entry { qid, offset, kind, name }: Entry) -> Self {
        Self { qid: qid.into(), offset, kind, name }
    }
}

impl From<Attributes> for types::Attributes {
    fn from(attributes: Attributes) -> Self {
        Self {
            qid: attributes.qid.into(),
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            nlink: attributes.nlink,
            rdev: attributes.rdev,
            size: attributes.size,
            block_size: attributes.blksize,
            blocks: attributes.blocks,
            accessed: timestamp(attributes.atime_sec, attributes.atime_nsec),
            modified: timestamp(attributes.mtime_sec, attributes.mtime_nsec),
            changed: timestamp(attributes.ctime_sec, attributes.ctime_nsec),
        }
    }
}

/// A time as the server tells it. Nanoseconds that make no sense are cut to what does.
fn timestamp(seconds: u64, nanoseconds: u64) -> types::Timestamp {
    let nanoseconds = nanoseconds.min(999_999_999) as u32; // fits after that
    types::Timestamp { seconds: seconds.cast_signed(), nanoseconds }
}

impl TryFrom<types::AttributeChanges> for SetAttributes {
    type Error = Errno;

    fn try_from(changes: types::AttributeChanges) -> Result<Self, Errno> {
        let types::AttributeChanges { mode, uid, gid, size, accessed, modified } = changes;
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let (atime, atime_bits) = time(accessed, setattr::ATIME, setattr::ATIME_SET)?;
        let (mtime, mtime_bits) = time(modified, setattr::MTIME, setattr::MTIME_SET)?;
        Ok(Self {
            valid: bit(mode.is_some(), setattr::MODE)
                | bit(uid.is_some(), setattr::UID)
                | bit(gid.is_some(), setattr::GID)
                | bit(size.is_some(), setattr::SIZE)
                | atime_bits
                | mtime_bits,
            mode: mode.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            gid: gid.unwrap_or_default(),
            size: size.unwrap_or_default(),
            atime_sec: atime.seconds.cast_unsigned(),
            atime_nsec: atime.nanoseconds.into(),
            mtime_sec: mtime.seconds.cast_unsigned(),
            mtime_nsec: mtime.nanoseconds.into(),
        })
    }
}

/// A time to set, and the bits that say how.
fn time(set: types::SetTime, to_now: u32, to_this: u32) -> Result<(types::Timestamp, u32), Errno> {
    let nothing = types::Timestamp { seconds: 0, nanoseconds: 0 };
    match set {
        types::SetTime::Keep => Ok((nothing, 0)),
        types::SetTime::Now => Ok((nothing, to_now)),
        types::SetTime::To(time) if time.nanoseconds < 1_000_000_000 => Ok((time, to_now | to_this)),
        types::SetTime::To(_) => Err(Errno::EINVAL),
    }
}

impl From<Statfs> for types::Statistics {
    fn from(statfs: Statfs) -> Self {
        Self {
            kind: statfs.kind,
            block_size: statfs.bsize,
            blocks: statfs.blocks,
            blocks_free: statfs.bfree,
            blocks_available: statfs.bavail,
            files: statfs.files,
            files_free: statfs.ffree,
            filesystem: statfs.fsid,
            name_length: statfs.namelen,
        }
    }
}

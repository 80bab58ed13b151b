//! The interface `vfs`.

use ninering_wire::{Attributes, Errno};

use super::{
    Component, MOUNT,
    bindings::{
        exports::ninering::fs::vfs::{self as wit_vfs, Guest},
        ninering::fs::{
            iter,
            memory::{self, Region},
            types,
            virtqueue::Virtqueue,
        },
    },
    host_ring::{HostIter, HostRing},
    not_started,
    types::entries_of,
    with_mount,
};
use crate::{
    error::Error,
    mount::{self, Mount},
    session::Recovered,
    vfs::{AccessMode, Entry, LookedUp, OpenFlags, Place, SetMode, Value, Vfs},
};

/// Begins a filesystem call.
fn run(operation: impl AsyncFnOnce(&Vfs<HostRing>) -> Result<Value, Error> + 'static) -> wit_vfs::Outcome {
    match with_mount(|mount| mount.run(operation)) {
        Some(outcome) => outcome.into(),
        None => wit_vfs::Outcome::Complete(Err(not_started())),
    }
}

fn extents(buffers: &wit_vfs::Buffers) -> &[memory::Extent] {
    match buffers {
        wit_vfs::Buffers::One(extent) => std::slice::from_ref(extent),
        wit_vfs::Buffers::Many(extents) => extents,
    }
}

impl Guest for Component {
    fn start(region: Region, queue: Virtqueue, options: wit_vfs::Options) -> wit_vfs::Outcome {
        if MOUNT.with_borrow(Option::is_some) {
            return wit_vfs::Outcome::Complete(Err(Errno::EALREADY.into()));
        }
        let wit_vfs::Options {
            aname,
            uname,
            n_uname,
            msize,
            ordered,
            plain,
            immediate,
            authenticate,
            client_id,
            recover,
        } = options;
        let mount = Mount::new(HostRing::new(region, queue, immediate));
        let outcome = mount.start(mount::Options {
            aname,
            uname,
            n_uname,
            msize,
            ordered,
            plain,
            immediate,
            authenticate,
            client_id,
            recover,
        });
        MOUNT.set(Some(mount));
        outcome.into()
    }

    fn auth_read(buffers: Vec<memory::Extent>) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over(wit_vfs::MemoryKind::Application, &buffers, iter::Direction::Dest);
        run(async move |vfs| vfs.auth_read(iter, bytes).await)
    }

    fn auth_write(buffers: Vec<memory::Extent>) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over(wit_vfs::MemoryKind::Application, &buffers, iter::Direction::Source);
        run(async move |vfs| vfs.auth_write(iter, bytes).await)
    }

    fn attach() -> wit_vfs::Outcome {
        run(async move |vfs| vfs.attach().await)
    }

    fn cancel(token: u32) {
        with_mount(|mount| mount.cancel(token));
    }

    fn reconnect() -> wit_vfs::Outcome {
        match with_mount(Mount::reconnect) {
            Some(outcome) => outcome.into(),
            None => wit_vfs::Outcome::Complete(Err(not_started())),
        }
    }

    fn recovery() -> wit_vfs::Recovered {
        let recovered = with_mount(|mount| mount.session().recovered()).unwrap_or_default();
        let Recovered { reconnects, resent, settled, doubtful, stale_fids, lost_locks } = recovered;
        wit_vfs::Recovered { reconnects, resent, settled, doubtful, stale_fids, lost_locks }
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
            attributes: has(wit_vfs::OpenFlags::ATTRIBUTES),
        };
        run(async move |vfs| vfs.open(directory, path, flags, mode).await)
    }

    fn close(node: wit_vfs::Node) {
        with_mount(|mount| mount.close(node));
    }

    fn read(
        node: wit_vfs::Node,
        offset: u64,
        memory: wit_vfs::MemoryKind,
        buffers: wit_vfs::Buffers,
    ) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over(memory, extents(&buffers), iter::Direction::Dest);
        run(async move |vfs| vfs.read(node, offset, iter, bytes).await)
    }

    fn write(
        node: wit_vfs::Node,
        offset: u64,
        memory: wit_vfs::MemoryKind,
        buffers: wit_vfs::Buffers,
    ) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over(memory, extents(&buffers), iter::Direction::Source);
        run(async move |vfs| vfs.write(node, offset, iter, bytes).await)
    }

    fn read_directory(node: wit_vfs::Node, offset: u64) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.read_directory(node, offset).await)
    }

    fn read_directory_plus(node: wit_vfs::Node, offset: u64) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.read_directory_plus(node, offset).await)
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

    fn look_up_at(directory: wit_vfs::Node, path: String, follow: bool) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.look_up_at(directory, path, follow).await)
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

    fn version(node: wit_vfs::Node) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.version(node).await)
    }

    fn access(directory: wit_vfs::Node, path: String, follow: bool, mode: wit_vfs::AccessMode) -> wit_vfs::Outcome {
        let has = |bit| mode.contains(bit);
        let mode = AccessMode {
            read: has(wit_vfs::AccessMode::READ),
            write: has(wit_vfs::AccessMode::WRITE),
            execute: has(wit_vfs::AccessMode::EXECUTE),
        };
        run(async move |vfs| vfs.access(directory, path, follow, mode).await)
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

    fn make_special(directory: wit_vfs::Node, path: String, mode: u32, major: u32, minor: u32) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.make_special(directory, path, mode, (major, minor)).await)
    }

    fn get_xattr(
        directory: wit_vfs::Node,
        path: String,
        follow: bool,
        name: String,
        buffers: Vec<memory::Extent>,
    ) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over(wit_vfs::MemoryKind::Application, &buffers, iter::Direction::Dest);
        let place = Place { directory, path, follow };
        run(async move |vfs| vfs.get_xattr(place, name, iter, bytes).await)
    }

    fn list_xattrs(
        directory: wit_vfs::Node,
        path: String,
        follow: bool,
        buffers: Vec<memory::Extent>,
    ) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over(wit_vfs::MemoryKind::Application, &buffers, iter::Direction::Dest);
        let place = Place { directory, path, follow };
        run(async move |vfs| vfs.list_xattrs(place, iter, bytes).await)
    }

    fn set_xattr(
        directory: wit_vfs::Node,
        path: String,
        follow: bool,
        name: String,
        mode: wit_vfs::SetMode,
        buffers: Vec<memory::Extent>,
    ) -> wit_vfs::Outcome {
        let (iter, bytes) = HostIter::over(wit_vfs::MemoryKind::Application, &buffers, iter::Direction::Source);
        let place = Place { directory, path, follow };
        let mode = match mode {
            wit_vfs::SetMode::Any => SetMode::Any,
            wit_vfs::SetMode::Create => SetMode::Create,
            wit_vfs::SetMode::Replace => SetMode::Replace,
        };
        run(async move |vfs| vfs.set_xattr(place, name, mode, iter, bytes).await)
    }

    fn remove_xattr(directory: wit_vfs::Node, path: String, follow: bool, name: String) -> wit_vfs::Outcome {
        let place = Place { directory, path, follow };
        run(async move |vfs| vfs.remove_xattr(place, name).await)
    }

    fn lock(node: wit_vfs::Node, request: wit_vfs::LockRequest, wait: bool) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.lock(node, request.into(), wait).await)
    }

    fn test_lock(node: wit_vfs::Node, request: wit_vfs::LockRequest) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.test_lock(node, request.into()).await)
    }

    fn remove_directory(directory: wit_vfs::Node, path: String) -> wit_vfs::Outcome {
        run(async move |vfs| vfs.remove_directory(directory, path).await)
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
        Value::Opened { node, qid, attributes } => {
            let attributes = attributes.map(|attributes| (*attributes).into());
            wit_vfs::Value::Opened(wit_vfs::Opened { node, qid: qid.into(), attributes })
        }
        Value::Qid(qid) => wit_vfs::Value::Qid(qid.into()),
        Value::Attributes(attributes) => wit_vfs::Value::Attributes((*attributes).into()),
        Value::Entries { entries, end } => wit_vfs::Value::Entries(entries_of(entries, end)),
        Value::EntriesPlus { entries, end } => {
            let plus = |(entry, attributes): (Entry, Option<Box<Attributes>>)| wit_vfs::EntryPlus {
                entry: entry.into(),
                attributes: attributes.map(|attributes| (*attributes).into()),
            };
            wit_vfs::Value::EntriesPlus(wit_vfs::EntriesPlus { entries: entries.into_iter().map(plus).collect(), end })
        }
        Value::LookedUp(LookedUp { passed, attributes }) => wit_vfs::Value::LookedUp(wit_vfs::LookedUp {
            passed: passed.map(|passed| passed.into_iter().map(Into::into).collect()),
            attributes: attributes.map(|attributes| (*attributes).into()),
        }),
        Value::Target(target) => wit_vfs::Value::Target(target),
        Value::Statistics(statfs) => wit_vfs::Value::Statistics((*statfs).into()),
        Value::Version(version) => wit_vfs::Value::Version(version.into()),
        Value::LockStatus(status) => wit_vfs::Value::LockStatus(status.into()),
        Value::Lock(lock) => wit_vfs::Value::Lock(lock.map(Into::into)),
        Value::Authentication(qid) => wit_vfs::Value::Authentication(qid.into()),
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

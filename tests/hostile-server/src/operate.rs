//! What is asked of a mount.

use ninering_client::{
    Error, Outcome,
    client::{Request, Tio},
    lock::FileLock,
    session::FIRST_FOREIGN_FID,
    vfs::{AccessMode, LockRequest, Place, SetMode, Value, Vfs},
};
use ninering_wire::{SetAttributes, setattr};

use crate::{
    play::{Begun, Player, Transfer, Yields},
    ring::{Buffer, Layout, LyingRing},
    script::{Call, Node, Operation, Path, Range},
    server::byte_at,
};

/// The extended attribute.
const XATTR: &str = "user.a";

fn lock_request(range: Range) -> LockRequest {
    LockRequest { kind: range.kind(), start: range.start, length: range.length, owner: 7 }
}

fn file_lock(range: Range) -> FileLock {
    let client_id = b"client".to_vec();
    FileLock { kind: range.kind(), start: range.start, length: range.length, proc_id: 7, client_id }
}

impl Player {
    /// Begins an operation.
    fn run(
        &mut self,
        yields: Yields,
        transfer: Option<Transfer>,
        operation: impl AsyncFnOnce(&Vfs<LyingRing>) -> Result<Value, Error> + 'static,
    ) {
        let outcome = self.mount.run(operation);
        self.began(outcome, Begun { yields, transfer });
    }

    pub(crate) fn operate(&mut self, operation: &Operation) {
        let number = |node: &Node| node.number(&self.nodes);
        match operation.clone() {
            Operation::Open(node, path, flags) => {
                let (node, flags) = (number(&node), flags.get());
                self.run(Yields::Opened, None, async move |vfs| vfs.open(node, path.0, flags, 0o644).await);
            }
            Operation::Read(node, offset, memory) => {
                let (node, offset) = (number(&node), offset.0);
                let (iter, bytes, transfer) = self.lend(&memory.0, offset, true);
                let read = async move |vfs: &Vfs<LyingRing>| vfs.read(node, offset, iter, bytes).await;
                self.run(Yields::Count, Some(transfer), read);
            }
            Operation::Write(node, offset, memory) => {
                let (node, offset) = (number(&node), offset.0);
                let (iter, bytes, transfer) = self.lend(&memory.0, offset, false);
                let write = async move |vfs: &Vfs<LyingRing>| vfs.write(node, offset, iter, bytes).await;
                self.run(Yields::Count, Some(transfer), write);
            }
            Operation::ReadDirectory(node, offset) => {
                let node = number(&node);
                self.run(Yields::Entries, None, async move |vfs| vfs.read_directory(node, offset.0).await);
            }
            Operation::Sync(node, data_only) => {
                let node = number(&node);
                self.run(Yields::None, None, async move |vfs| vfs.sync(node, data_only).await);
            }
            Operation::Stat(node) => {
                let node = number(&node);
                self.run(Yields::Attributes, None, async move |vfs| vfs.stat(node).await);
            }
            Operation::StatAt(node, path, follow) => {
                let node = number(&node);
                self.run(Yields::Attributes, None, async move |vfs| vfs.stat_at(node, path.0, follow).await);
            }
            Operation::IdentifyAt(node, path, follow) => {
                let node = number(&node);
                self.run(Yields::Qid, None, async move |vfs| vfs.identify_at(node, path.0, follow).await);
            }
            Operation::SetAttributes(node, size) => {
                let node = number(&node);
                let changes = SetAttributes { valid: setattr::SIZE, size, ..SetAttributes::default() };
                self.run(Yields::None, None, async move |vfs| vfs.set_attributes(node, changes).await);
            }
            Operation::SetAttributesAt(node, path, follow, size) => {
                let node = number(&node);
                let changes = SetAttributes { valid: setattr::SIZE, size, ..SetAttributes::default() };
                let set = async move |vfs: &Vfs<LyingRing>| vfs.set_attributes_at(node, path.0, follow, changes).await;
                self.run(Yields::None, None, set);
            }
            Operation::Statfs(node) => {
                let node = number(&node);
                self.run(Yields::Statistics, None, async move |vfs| vfs.statfs(node).await);
            }
            Operation::MakeDirectory(node, path) => {
                let node = number(&node);
                self.run(Yields::Qid, None, async move |vfs| vfs.make_directory(node, path.0, 0o755).await);
            }
            Operation::Symlink(node, path, target) => {
                let node = number(&node);
                self.run(Yields::Qid, None, async move |vfs| vfs.symlink(node, path.0, target.0).await);
            }
            Operation::ReadLink(node, path) => {
                let node = number(&node);
                self.run(Yields::Target, None, async move |vfs| vfs.read_link(node, path.0).await);
            }
            Operation::Link(node, path, follow, other, new) => {
                let (node, other) = (number(&node), number(&other));
                let link = async move |vfs: &Vfs<LyingRing>| vfs.link(node, path.0, follow, other, new.0).await;
                self.run(Yields::None, None, link);
            }
            Operation::Rename(node, path, other, new) => {
                let (node, other) = (number(&node), number(&other));
                self.run(Yields::None, None, async move |vfs| vfs.rename(node, path.0, other, new.0).await);
            }
            Operation::Unlink(node, path) => {
                let node = number(&node);
                self.run(Yields::None, None, async move |vfs| vfs.unlink(node, path.0).await);
            }
            Operation::RemoveDirectory(node, path) => {
                let node = number(&node);
                self.run(Yields::None, None, async move |vfs| vfs.remove_directory(node, path.0).await);
            }
            Operation::ReadDirectoryPlus(node, offset) => {
                let node = number(&node);
                let read = async move |vfs: &Vfs<LyingRing>| vfs.read_directory_plus(node, offset.0).await;
                self.run(Yields::EntriesPlus, None, read);
            }
            Operation::LookUpAt(node, path, follow) => {
                let node = number(&node);
                self.run(Yields::LookedUp, None, async move |vfs| vfs.look_up_at(node, path.0, follow).await);
            }
            Operation::Version(node) => {
                let node = number(&node);
                self.run(Yields::Version, None, async move |vfs| vfs.version(node).await);
            }
            Operation::Access(node, path, follow, mode) => {
                let node = number(&node);
                let mode = AccessMode { read: mode & 4 != 0, write: mode & 2 != 0, execute: mode & 1 != 0 };
                self.run(Yields::None, None, async move |vfs| vfs.access(node, path.0, follow, mode).await);
            }
            Operation::MakeSpecial(node, path, mode) => {
                let node = number(&node);
                self.run(Yields::Qid, None, async move |vfs| vfs.make_special(node, path.0, mode, (1, 2)).await);
            }
            Operation::Lock(node, wait, range) => {
                let (node, request) = (number(&node), lock_request(range));
                self.run(Yields::LockStatus, None, async move |vfs| vfs.lock(node, request, wait).await);
            }
            Operation::TestLock(node, range) => {
                let (node, request) = (number(&node), lock_request(range));
                self.run(Yields::Lock, None, async move |vfs| vfs.test_lock(node, request).await);
            }
            attribute => self.operate_on_attributes(attribute),
        }
    }

    /// Extended attributes, and the authentication.
    fn operate_on_attributes(&mut self, operation: Operation) {
        let place = |node: Node, path: Path| Place { directory: node.number(&self.nodes), path: path.0, follow: true };
        match operation {
            Operation::GetXattr(node, path, memory) => {
                let place = place(node, path);
                let (iter, bytes, transfer) = self.lend(&memory.0, 0, true);
                let get = async move |vfs: &Vfs<LyingRing>| vfs.get_xattr(place, XATTR.into(), iter, bytes).await;
                self.run(Yields::Count, Some(transfer.of_attribute()), get);
            }
            Operation::ListXattrs(node, path, memory) => {
                let place = place(node, path);
                let (iter, bytes, transfer) = self.lend(&memory.0, 0, true);
                let list = async move |vfs: &Vfs<LyingRing>| vfs.list_xattrs(place, iter, bytes).await;
                self.run(Yields::Count, Some(transfer.of_attribute()), list);
            }
            Operation::SetXattr(node, path, mode, memory) => {
                let place = place(node, path);
                let mode = [SetMode::Any, SetMode::Create, SetMode::Replace][usize::from(mode % 3)];
                let (iter, bytes, transfer) = self.lend(&memory.0, 0, false);
                let set = async move |vfs: &Vfs<LyingRing>| vfs.set_xattr(place, XATTR.into(), mode, iter, bytes).await;
                self.run(Yields::None, Some(transfer), set);
            }
            Operation::RemoveXattr(node, path) => {
                let place = place(node, path);
                self.run(Yields::None, None, async move |vfs| vfs.remove_xattr(place, XATTR.into()).await);
            }
            Operation::AuthRead(memory) => {
                let (iter, bytes, transfer) = self.lend(&memory.0, 0, true);
                let read = async move |vfs: &Vfs<LyingRing>| vfs.auth_read(iter, bytes).await;
                self.run(Yields::Count, Some(transfer.of_conversation()), read);
            }
            Operation::AuthWrite(memory) => {
                let (iter, bytes, transfer) = self.lend(&memory.0, 0, false);
                let write = async move |vfs: &Vfs<LyingRing>| vfs.auth_write(iter, bytes).await;
                self.run(Yields::Count, Some(transfer), write);
            }
            Operation::Attach => self.run(Yields::Start, None, async move |vfs| vfs.attach().await),
            other => unreachable!("{other:?} is played above"),
        }
    }

    /// Lends memory for a read or write of a file.
    fn lend(&self, layout: &Layout, offset: u64, is_read: bool) -> (Buffer, u64, Transfer) {
        let (iter, extents) = self.ring.lend(layout, !is_read, |at| byte_at(offset.wrapping_add(at)));
        let transfer = Transfer { extents, offset: Some(offset), is_read, may_count_all: false };
        (iter, transfer.bytes(), transfer)
    }

    pub(crate) fn call(&mut self, call: &Call) {
        // One of four, or one that may not be used here.
        let fid = |fid: u8| if fid < 250 { FIRST_FOREIGN_FID + u32::from(fid % 4) } else { u32::from(fid) };
        let mut transfer = None;
        let mut io = |player: &Self, number: u8, offset: u64, layout: &Layout, is_read: bool| {
            let (iter, bytes, lent) = player.lend(layout, offset, is_read);
            transfer = Some(lent);
            Tio { fid: fid(number), offset, iter, bytes }
        };
        let request = match call.clone() {
            Call::Auth(number) => Request::Auth { afid: fid(number), uname: "u".into(), aname: "a".into(), n_uname: 0 },
            Call::Attach(number, afid) => {
                let (uname, aname) = ("u".into(), "a".into());
                Request::Attach { fid: fid(number), afid: afid.map(fid), uname, aname, n_uname: 0 }
            }
            Call::Walk(from, to, names) => {
                let names = names.into_iter().map(|name| name.0).collect();
                Request::Walk { fid: fid(from), newfid: fid(to), names }
            }
            Call::Lopen(number, flags) => Request::Lopen { fid: fid(number), flags },
            Call::Lcreate(number, name) => {
                Request::Lcreate { fid: fid(number), name: name.0, flags: 0, mode: 0o644, gid: 0 }
            }
            Call::Readlink(number) => Request::Readlink { fid: fid(number) },
            Call::Getattr(number) => Request::Getattr { fid: fid(number) },
            Call::Readdir(number, offset, count) => Request::Readdir { fid: fid(number), offset: offset.0, count },
            Call::Statfs(number) => Request::Statfs { fid: fid(number) },
            Call::Read(number, offset, memory) => Request::Read(io(self, number, offset.0, &memory.0, true)),
            Call::Write(number, offset, memory) => Request::Write(io(self, number, offset.0, &memory.0, false)),
            Call::Clunk(number) => Request::Clunk { fid: fid(number) },
            Call::Remove(number) => Request::Remove { fid: fid(number) },
            Call::Symlink(number, name, target) => {
                Request::Symlink { fid: fid(number), name: name.0, target: target.0, gid: 0 }
            }
            Call::Mknod(number, name) => {
                Request::Mknod { fid: fid(number), name: name.0, mode: 0o10_644, major: 0, minor: 0, gid: 0 }
            }
            Call::Rename(number, to, name) => Request::Rename { fid: fid(number), dfid: fid(to), name: name.0 },
            Call::Setattr(number, size) => {
                let changes = SetAttributes { valid: setattr::SIZE, size, ..SetAttributes::default() };
                Request::Setattr { fid: fid(number), changes }
            }
            Call::Xattrwalk(number, to, name) => Request::Xattrwalk { fid: fid(number), newfid: fid(to), name: name.0 },
            Call::Xattrcreate(number, name, size) => {
                Request::Xattrcreate { fid: fid(number), name: name.0, size, flags: 0 }
            }
            Call::Fsync(number) => Request::Fsync { fid: fid(number), data_only: true },
            Call::Lock(number, range) => Request::Lock { fid: fid(number), lock: file_lock(range), flags: 1 },
            Call::Getlock(number, range) => Request::Getlock { fid: fid(number), lock: file_lock(range) },
            Call::Link(number, to, name) => Request::Link { dfid: fid(number), fid: fid(to), name: name.0 },
            Call::Mkdir(number, name) => Request::Mkdir { dfid: fid(number), name: name.0, mode: 0o755, gid: 0 },
            Call::Renameat(from, name, to, new) => {
                let (olddirfid, newdirfid) = (fid(from), fid(to));
                Request::Renameat { olddirfid, oldname: name.0, newdirfid, newname: new.0 }
            }
            Call::Unlinkat(number, name) => Request::Unlinkat { dirfid: fid(number), name: name.0, flags: 0 },
        };
        // Before there is an agreement there is nothing to call by.
        if self.mount.session().msize() == 0 {
            if let Some(transfer) = transfer {
                self.ring.take_back(&transfer.extents, true);
            }
            return;
        }
        let begun = Begun { yields: Yields::Anything, transfer };
        match self.mount.call(request) {
            Outcome::Complete(result) => self.called(begun, result),
            Outcome::Pending(token) => assert!(self.calls.insert(token, begun).is_none(), "a token in use"),
        }
    }
}

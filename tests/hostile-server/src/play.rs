//! One session, and how it must end.

use std::collections::HashMap;

use ninering_client::{
    Error, Mount, Options, Outcome,
    client::{Reply, Request, Tio},
    ring::Extent,
    session::FIRST_FOREIGN_FID,
    vfs::{Value, Vfs},
};
use ninering_wire::SetAttributes;

use crate::{
    ring::{Layout, LyingRing},
    script::{Call, Input, Mode, Operation, Step},
    server::{Server, byte_at},
};

/// How many steps of an input are taken; more teach nothing that two inputs would not.
const MOST_STEPS: usize = 300;
/// Buffers for directory entries that the client may keep for later.
const SPARE_BUFFERS: usize = 4;

/// A session under way.
struct Player {
    mount: Mount<LyingRing>,
    ring: LyingRing,
    nodes: Vec<u32>,
    operations: HashMap<u32, Begun>,
    calls: HashMap<u32, Begun>,
}

/// What was asked for.
#[derive(Debug)]
struct Begun {
    yields: Yields,
    transfer: Option<Transfer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Yields {
    None,
    Count,
    Opened,
    Qid,
    Attributes,
    Entries,
    Target,
    Statistics,
    /// Whatever a 9P call does.
    Anything,
}

/// The memory of a read or write.
#[derive(Debug)]
struct Transfer {
    extents: Vec<Extent>,
    offset: u64,
    is_read: bool,
}

impl Transfer {
    fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.len)).sum()
    }
}

/// Plays `input` to a client, and panics where that does not keep its word.
pub fn play(input: &Input) {
    let mode = &input.mode;
    let server = Server::new(mode.visits, mode.ordered || mode.immediate, mode.msize());
    let ring = LyingRing::new(server, mode.queue_size(), mode.immediate, mode.deferring);
    let mount = Mount::new(ring.clone());
    let mut player = Player { mount, ring, nodes: Vec::new(), operations: HashMap::new(), calls: HashMap::new() };
    let mut steps = input.steps.iter().take(MOST_STEPS).peekable();
    // The first answers are those to the beginning.
    while let Some(Step::Answer(answer)) = steps.next_if(|step| matches!(step, Step::Answer(_))) {
        player.ring.answer(answer.clone());
    }
    player.start(mode);
    for step in steps {
        player.take(step);
    }
    player.end(mode);
}

impl Player {
    fn start(&mut self, mode: &Mode) {
        let options = Options {
            aname: "export".into(),
            uname: "user".into(),
            n_uname: 1000,
            msize: 64 << 10,
            ordered: mode.ordered || mode.immediate,
            plain: false,
            immediate: mode.immediate,
            authenticate: false,
            client_id: "client".into(),
            recover: false,
        };
        let outcome = self.mount.start(options);
        self.began(outcome, Begun { yields: Yields::Qid, transfer: None });
        self.settle();
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Do(operation) => self.operate(operation),
            Step::Call(call) => self.call(call),
            Step::Close(node) => {
                let number = node.number(&self.nodes);
                self.nodes.retain(|&open| open != number);
                self.mount.close(number);
            }
            Step::Answer(answer) => self.ring.answer(answer.clone()),
            Step::Serve(which) => _ = self.ring.serve((*which).into()),
            Step::Reap => self.reap(),
            Step::ReapCalls => self.reap_calls(),
            Step::Refuse(count) => self.ring.refuse(count % 4),
            Step::Forge(id, header) => self.ring.forge((*id).into(), header.0.clone()),
        }
    }

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

    fn operate(&mut self, operation: &Operation) {
        let number = |node: &crate::script::Node| node.number(&self.nodes);
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
                let changes = SetAttributes { valid: 8, size, ..SetAttributes::default() };
                self.run(Yields::None, None, async move |vfs| vfs.set_attributes(node, changes).await);
            }
            Operation::SetAttributesAt(node, path, follow, size) => {
                let node = number(&node);
                let changes = SetAttributes { valid: 8, size, ..SetAttributes::default() };
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
        }
    }

    /// Lends memory for a read or write of a file.
    fn lend(&self, layout: &Layout, offset: u64, is_read: bool) -> (crate::ring::Buffer, u64, Transfer) {
        let (iter, extents) = self.ring.lend(layout, !is_read, |at| byte_at(offset.wrapping_add(at)));
        let transfer = Transfer { extents, offset, is_read };
        (iter, transfer.bytes(), transfer)
    }

    fn call(&mut self, call: &Call) {
        // One of four, or one that may not be used here.
        let fid = |fid: u8| if fid < 250 { FIRST_FOREIGN_FID + u32::from(fid % 4) } else { u32::from(fid) };
        let mut transfer = None;
        let mut io = |player: &Self, number: u8, offset: u64, layout: &Layout, is_read: bool| {
            let (iter, bytes, lent) = player.lend(layout, offset, is_read);
            transfer = Some(lent);
            Tio { fid: fid(number), offset, iter, bytes }
        };
        let request = match call.clone() {
            Call::Attach(number) => {
                Request::Attach { fid: fid(number), afid: None, uname: "u".into(), aname: "a".into(), n_uname: 0 }
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

    fn began(&mut self, outcome: Outcome<Value>, begun: Begun) {
        match outcome {
            Outcome::Complete(result) => self.ended(begun, result),
            Outcome::Pending(token) => assert!(self.operations.insert(token, begun).is_none(), "a token in use"),
        }
    }

    fn reap(&mut self) {
        for (token, result) in self.mount.reap() {
            let begun = self.operations.remove(&token).expect("an operation under way");
            self.ended(begun, result);
        }
    }

    fn reap_calls(&mut self) {
        for (token, result) in self.mount.reap_calls() {
            let begun = self.calls.remove(&token).expect("a call under way");
            self.called(begun, result);
        }
    }

    /// Checks how an operation has ended.
    fn ended(&mut self, begun: Begun, result: Result<Value, Error>) {
        let counted = match &result {
            Ok(Value::Count(count)) => Some(*count),
            _ => None,
        };
        self.check_end(&begun, counted, result.as_ref().err());
        let Ok(value) = result else { return };
        let yields = match &value {
            Value::None => Yields::None,
            Value::Count(_) => Yields::Count,
            Value::Opened { .. } => Yields::Opened,
            Value::Qid(_) => Yields::Qid,
            Value::Attributes(_) => Yields::Attributes,
            Value::Entries { .. } => Yields::Entries,
            Value::Target(_) => Yields::Target,
            Value::Statistics(_) => Yields::Statistics,
            // Of operations that are not played yet.
            Value::Version(_)
            | Value::LockStatus(_)
            | Value::Lock(_)
            | Value::Authentication(_)
            | Value::EntriesPlus { .. }
            | Value::LookedUp(_) => {
                panic!("nobody asked for {value:?}")
            }
        };
        assert_eq!(yields, begun.yields);
        match value {
            Value::Opened { node, .. } => {
                assert!(node != 0 && !self.nodes.contains(&node), "node {node} is in use");
                self.nodes.push(node);
            }
            Value::Entries { entries, end } => {
                assert_eq!(end, entries.is_empty());
                for entry in entries {
                    let name = entry.name;
                    assert!(!name.is_empty() && name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0));
                    assert!(name != b"." && name != b"..");
                }
            }
            _ => {}
        }
    }

    /// The same of a 9P call.
    fn called(&mut self, begun: Begun, result: Result<Reply, Error>) {
        let counted = match &result {
            Ok(Reply::Count(count)) => Some(*count),
            _ => None,
        };
        self.check_end(&begun, counted, result.as_ref().err());
    }

    fn check_end(&self, begun: &Begun, counted: Option<u64>, error: Option<&Error>) {
        let is_broken = self.mount.session().is_broken();
        match error {
            Some(Error::Errno(errno)) => assert!((1..4096).contains(&errno.0), "no error number: {errno:?}"),
            Some(Error::Broken(reason)) => assert!(is_broken && !reason.is_empty()),
            Some(Error::InDoubt) => panic!("no connection was lost"),
            None => {}
        }
        let Some(transfer) = &begun.transfer else { return };
        self.ring.take_back(&transfer.extents, is_broken);
        let Some(count) = counted else { return };
        assert!(count <= transfer.bytes(), "{count} bytes were moved of {}", transfer.bytes());
        if transfer.is_read && self.ring.reads_are_true() {
            for at in 0..count {
                let byte = self.ring.byte(&transfer.extents, at);
                assert_eq!(byte, byte_at(transfer.offset + at), "byte {at} of {count} is not the file's");
            }
        }
    }

    /// Lets the server answer all that it is asked, until nothing is under way.
    fn settle(&mut self) {
        loop {
            self.reap();
            self.reap_calls();
            if self.mount.session().is_broken() {
                break;
            }
            if !self.ring.serve(0) {
                self.reap();
                self.reap_calls();
                if self.ring.in_flight() == 0 {
                    break;
                }
                assert!(self.ring.serve(0), "requests are in flight that the device was not told of");
            }
        }
        self.reap();
        self.reap_calls();
        let (operations, calls) = (&self.operations, &self.calls);
        assert!(operations.is_empty() && calls.is_empty(), "hanging: {operations:?} {calls:?}");
        assert_eq!(self.mount.running(), 0);
    }

    fn end(mut self, mode: &Mode) {
        self.ring.repent();
        if mode.dies {
            for (token, result) in self.mount.abort("the server is gone") {
                assert!(matches!(result, Err(Error::Broken(_))) || !mode.immediate);
                let begun = self.operations.remove(&token).expect("an operation under way");
                self.ended(begun, result);
            }
        }
        self.settle();
        if self.mount.session().is_broken() {
            // What comes late is nobody's, and is taken all the same.
            while self.ring.serve(0) {}
            self.reap();
            return;
        }
        for node in std::mem::take(&mut self.nodes) {
            self.mount.close(node);
        }
        self.settle();
        let session = self.mount.session();
        assert_eq!(session.tags_in_use(), 0, "tags");
        if self.ring.server().counts_fids() {
            assert_eq!(session.fids_in_use(), self.ring.server().fids(), "fids");
        }
        assert!(session.fids_in_use() <= 2, "more fids than the root's and that by which it is listed");
        assert!(self.ring.allocated() <= SPARE_BUFFERS, "buffers");
    }
}

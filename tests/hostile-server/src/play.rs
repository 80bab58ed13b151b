//! One session, and how it must end.

use std::collections::HashMap;

use ninering_client::{
    Error, Mount, Options, Outcome,
    client::Reply,
    ring::Extent,
    vfs::{Entry, Value},
};

use crate::{
    ring::LyingRing,
    script::{Input, Mode, Step},
    server::{Server, byte_at},
};

/// How many steps of an input are taken; more teach nothing that two inputs would not.
const MOST_STEPS: usize = 300;
/// Buffers for directory entries that the client may keep for later.
const SPARE_BUFFERS: usize = 4;

/// So often in a row another connection is tried.
const MOST_RECONNECTS: usize = 20;

/// A session under way.
pub(crate) struct Player {
    pub(crate) mount: Mount<LyingRing>,
    pub(crate) ring: LyingRing,
    pub(crate) nodes: Vec<u32>,
    operations: HashMap<u32, Begun>,
    pub(crate) calls: HashMap<u32, Begun>,
    /// The operation that makes all fids again at another connection.
    reconnecting: Option<u32>,
    recovers: bool,
    /// There is a root.
    is_attached: bool,
    /// The user has authenticated once more, as it were, and is to attach next.
    attaches_again: bool,
}

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) yields: Yields,
    pub(crate) transfer: Option<Transfer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Yields {
    None,
    Count,
    Opened,
    Qid,
    Attributes,
    Entries,
    Target,
    Statistics,
    EntriesPlus,
    LookedUp,
    Version,
    LockStatus,
    Lock,
    /// The root's qid, or that of an authentication.
    Start,
    /// Nothing, or an authentication.
    Reconnect,
    /// Whatever a 9P call does.
    Anything,
}

/// The memory of a read or write.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) extents: Vec<Extent>,
    /// Where in a file; `None` where the bytes are not one's.
    pub(crate) offset: Option<u64>,
    pub(crate) is_read: bool,
    /// Without space, all bytes that there are, are counted.
    pub(crate) may_count_all: bool,
}

impl Transfer {
    /// The same for the value of an extended attribute.
    pub(crate) fn of_attribute(self) -> Self {
        Self { may_count_all: true, ..self }
    }

    /// The same for what is said in an authentication.
    pub(crate) fn of_conversation(self) -> Self {
        Self { offset: None, ..self }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.len)).sum()
    }
}

/// Plays `input` to a client, and panics where that does not keep its word.
pub fn play(input: &Input) {
    let mode = &input.mode;
    let server = Server::new(mode.visits, mode.ordered || mode.immediate, mode.msize());
    let ring = LyingRing::new(server, mode);
    let mount = Mount::new(ring.clone());
    let mut player = Player {
        mount,
        ring,
        nodes: Vec::new(),
        operations: HashMap::new(),
        calls: HashMap::new(),
        reconnecting: None,
        recovers: mode.recovers(),
        is_attached: false,
        attaches_again: false,
    };
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
            plain: mode.plain,
            immediate: mode.immediate,
            authenticate: mode.authenticate,
            client_id: "client".into(),
            recover: self.recovers,
        };
        let outcome = self.mount.start(options);
        self.began(outcome, Begun { yields: Yields::Start, transfer: None });
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
            Step::Cancel(which) => {
                let mut tokens: Vec<u32> = self.operations.keys().chain(self.calls.keys()).copied().collect();
                tokens.retain(|&token| self.reconnecting != Some(token));
                tokens.sort_unstable();
                if let Some(&token) = tokens.get(usize::from(*which) % tokens.len().max(1)) {
                    self.mount.cancel(token);
                }
            }
            Step::Answer(answer) => self.ring.answer(answer.clone()),
            Step::Serve(which) => _ = self.ring.serve((*which).into()),
            Step::Reap => self.reap(),
            Step::ReapCalls => self.reap_calls(),
            Step::Refuse(count) => self.ring.refuse(count % 4),
            Step::Forge(id, header) => self.ring.forge((*id).into(), header.0.clone()),
            Step::Lose if self.recovers => self.ring.lose(),
            Step::Reconnect if self.ring.is_lost() => self.reconnect(),
            Step::Lose | Step::Reconnect => {}
        }
    }

    /// Another connection takes the place of a lost one.
    fn reconnect(&mut self) {
        // What waited to be sent goes to where nobody is.
        self.reap();
        if self.reconnecting.is_some() {
            return;
        }
        self.ring.connect();
        if !self.is_attached {
            return self.abort("the server was lost before there was anything to recover");
        }
        let outcome = self.mount.reconnect();
        self.goes_on(outcome);
    }

    fn goes_on(&mut self, outcome: Outcome<Value>) {
        if let Outcome::Pending(token) = outcome {
            self.reconnecting = Some(token);
        }
        self.began(outcome, Begun { yields: Yields::Reconnect, transfer: None });
    }

    pub(crate) fn began(&mut self, outcome: Outcome<Value>, begun: Begun) {
        match outcome {
            Outcome::Complete(result) => self.ended(begun, result),
            Outcome::Pending(token) => assert!(self.operations.insert(token, begun).is_none(), "a token in use"),
        }
    }

    fn reap(&mut self) {
        for (token, result) in self.mount.reap() {
            self.ended_under(token, result);
        }
        if std::mem::take(&mut self.attaches_again) {
            let outcome = self.mount.run(async move |vfs| vfs.attach().await);
            self.goes_on(outcome);
        }
    }

    fn ended_under(&mut self, token: u32, result: Result<Value, Error>) {
        let begun = self.operations.remove(&token).expect("an operation under way");
        self.reconnecting.take_if(|reconnecting| *reconnecting == token);
        self.ended(begun, result);
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
        let Ok(value) = result else {
            // It is tried again with yet another connection.
            if begun.yields == Yields::Reconnect {
                self.ring.lose();
            }
            return;
        };
        let yields = match &value {
            Value::Qid(_) | Value::Authentication(_) if begun.yields == Yields::Start => Yields::Start,
            Value::None | Value::Authentication(_) if begun.yields == Yields::Reconnect => Yields::Reconnect,
            Value::None => Yields::None,
            Value::Count(_) => Yields::Count,
            Value::Opened { .. } => Yields::Opened,
            Value::Qid(_) => Yields::Qid,
            Value::Attributes(_) => Yields::Attributes,
            Value::Entries { .. } => Yields::Entries,
            Value::EntriesPlus { .. } => Yields::EntriesPlus,
            Value::LookedUp(_) => Yields::LookedUp,
            Value::Target(_) => Yields::Target,
            Value::Statistics(_) => Yields::Statistics,
            Value::Version(_) => Yields::Version,
            Value::LockStatus(_) => Yields::LockStatus,
            Value::Lock(_) => Yields::Lock,
            Value::Authentication(_) => panic!("nobody asked for {value:?}"),
        };
        assert_eq!(yields, begun.yields);
        match value {
            Value::Opened { node, .. } => {
                assert!(node != 0 && !self.nodes.contains(&node), "node {node} is in use");
                self.nodes.push(node);
            }
            Value::Entries { entries, end } => {
                assert_eq!(end, entries.is_empty());
                entries.iter().for_each(check_entry);
            }
            Value::EntriesPlus { entries, end } => {
                assert_eq!(end, entries.is_empty());
                entries.iter().for_each(|(entry, _)| check_entry(entry));
            }
            Value::Qid(_) if begun.yields == Yields::Start => self.is_attached = true,
            Value::Authentication(_) if begun.yields == Yields::Reconnect => self.attaches_again = true,
            _ => {}
        }
    }

    /// The same of a 9P call.
    pub(crate) fn called(&mut self, begun: Begun, result: Result<Reply, Error>) {
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
            Some(Error::InDoubt) => assert!(self.recovers, "no connection was lost"),
            None => {}
        }
        let Some(transfer) = &begun.transfer else { return };
        self.ring.take_back(&transfer.extents, is_broken);
        let Some(count) = counted else { return };
        if transfer.may_count_all && transfer.bytes() == 0 {
            return;
        }
        assert!(count <= transfer.bytes(), "{count} bytes were moved of {}", transfer.bytes());
        let Some(offset) = transfer.offset.filter(|_| transfer.is_read && self.ring.reads_are_true()) else { return };
        for at in 0..count {
            let byte = self.ring.byte(&transfer.extents, at);
            assert_eq!(byte, byte_at(offset + at), "byte {at} of {count} is not the file's");
        }
    }

    /// Lets the server answer all that it is asked, until nothing is under way.
    fn settle(&mut self) {
        let mut reconnects = 0;
        loop {
            self.reap();
            self.reap_calls();
            if self.mount.session().is_broken() {
                break;
            }
            if self.ring.serve(0) {
                continue;
            }
            self.reap();
            self.reap_calls();
            // A chain that comes back with nothing says that the connection is lost, whether or not it is.
            let waits = self.ring.in_flight() == 0 && self.mount.running() > 0;
            if self.recovers && (self.ring.is_lost() || waits) {
                if reconnects == MOST_RECONNECTS {
                    self.abort("the server is gone");
                    break;
                }
                reconnects += 1;
                self.ring.lose();
                self.reconnect();
            } else if self.ring.in_flight() == 0 {
                break;
            } else {
                assert!(self.ring.serve(0), "requests are in flight that the device was not told of");
            }
        }
        self.reap();
        self.reap_calls();
        let (operations, calls) = (&self.operations, &self.calls);
        assert!(operations.is_empty() && calls.is_empty(), "hanging: {operations:?} {calls:?}");
        assert_eq!(self.mount.running(), 0);
    }

    fn abort(&mut self, reason: &str) {
        for (token, result) in self.mount.abort(reason) {
            self.ended_under(token, result);
        }
    }

    fn end(mut self, mode: &Mode) {
        self.ring.repent();
        if mode.dies {
            self.abort("the server is gone");
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
        // A fid that could not be made again is one that the server does not know.
        if self.ring.server().counts_fids() && session.recovered().stale_fids == 0 {
            assert_eq!(session.fids_in_use(), self.ring.server().fids(), "fids");
        }
        let most = 2 + usize::from(mode.authenticate);
        assert!(session.fids_in_use() <= most, "more fids than the root's, that by which it is listed, and the afid");
        assert!(self.ring.allocated() <= SPARE_BUFFERS, "buffers");
    }
}

fn check_entry(Entry { name, .. }: &Entry) {
    assert!(!name.is_empty() && name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0));
    assert!(name != b"." && name != b"..");
}

//! A mount: one session, what is under way in it, and the two interfaces to it.

use std::rc::Rc;

use crate::{
    client::{self, Reply, Request},
    error::Error,
    executor::{Executor, Task},
    ring::Ring,
    session::Session,
    vfs::{NodeNumber, Start, Value, Vfs},
};

/// How a mount is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which of the server's exports.
    pub aname: String,
    /// Who the files are accessed as, by name.
    pub uname: String,
    /// The same by number; 0xffffffff for none.
    pub n_uname: u32,
    /// The largest message to ask for, in bytes.
    pub msize: u32,
    /// The device processes requests in the order in which they were added, each before the next.
    pub ordered: bool,
    /// The server is asked for 9P2000.L alone, without extensions.
    pub plain: bool,
    /// It has completed all requests when it was kicked.
    pub immediate: bool,
    /// Ask the server for authentication before attaching.
    pub authenticate: bool,
    /// Names this client in locks; at most [`CLIENT_ID_MAX`](crate::lock::CLIENT_ID_MAX) bytes.
    pub client_id: String,
    /// When the connection is lost, another one will take its place.
    pub recover: bool,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It is complete.
    Complete(Result<T, Error>),
    /// It comes back under this token when it is.
    Pending(Task),
}

/// What became of calls that were pending.
pub type Completions<T> = Vec<(Task, Result<T, Error>)>;

/// The result of an operation of either interface.
enum Output {
    Vfs(Result<Value, Error>),
    Client(Result<Reply, Error>),
}

/// A mount.
pub struct Mount<R: Ring> {
    session: Rc<Session<R>>,
    vfs: Rc<Vfs<R>>,
    executor: Executor<R, Output>,
}

impl<R: Ring> Mount<R> {
    /// A mount over `ring`, not started.
    pub fn new(ring: R) -> Self {
        let session = Rc::new(Session::new(ring));
        Self { vfs: Rc::new(Vfs::new(session.clone())), executor: Executor::new(session.clone()), session }
    }

    /// Negotiates with the server and attaches. Yields the root's qid.
    pub fn start(&self, options: Options) -> Outcome<Value> {
        let Options { aname, uname, n_uname, msize, ordered, plain, immediate, authenticate, client_id, recover } =
            options;
        if recover && !immediate {
            self.session.set_recovers();
        }
        self.session.set_ordered(ordered);
        self.session.set_plain(plain);
        self.session.set_immediate(immediate);
        let start = Start { msize, uname, aname, n_uname, authenticate, client_id };
        self.run(async move |vfs| vfs.start(start).await)
    }

    /// Goes on at another connection, when the device of the lost one has returned all that it had and another one has
    /// taken its place. Yields nothing. An error says that it can be tried again, with yet another connection.
    pub fn reconnect(&self) -> Outcome<Value> {
        self.begin(async move |vfs| vfs.reconnect().await)
    }

    /// Begins one of the filesystem calls: `run(async move |vfs| vfs.stat(node).await)`.
    pub fn run(&self, operation: impl AsyncFnOnce(&Vfs<R>) -> Result<Value, Error> + 'static) -> Outcome<Value> {
        if self.session.is_immediate() {
            return Outcome::Complete(self.executor.run(operation(&self.vfs)));
        }
        let session = self.session.clone();
        self.begin(async move |vfs| session.count_doubtful(operation(vfs).await))
    }

    fn begin(&self, operation: impl AsyncFnOnce(&Vfs<R>) -> Result<Value, Error> + 'static) -> Outcome<Value> {
        let vfs = self.vfs.clone();
        match self.executor.submit(async move { Output::Vfs(operation(&vfs).await) }) {
            Ok(Output::Vfs(result)) => Outcome::Complete(result),
            Ok(Output::Client(_)) => unreachable!("the operation yields the other kind"),
            Err(task) => Outcome::Pending(task),
        }
    }

    /// Begins one of the 9P calls.
    pub fn call(&self, request: Request<R::Iter>) -> Outcome<Reply> {
        if self.session.is_immediate() {
            return Outcome::Complete(self.executor.run(client::call(&self.session, request)));
        }
        let session = self.session.clone();
        match self
            .executor
            .submit(async move { Output::Client(session.count_doubtful(client::call(&session, request).await)) })
        {
            Ok(Output::Client(result)) => Outcome::Complete(result),
            Ok(Output::Vfs(_)) => unreachable!("the operation yields the other kind"),
            Err(task) => Outcome::Pending(task),
        }
    }

    /// Nobody wants to know any more what becomes of a pending call, of either interface. It still comes back: when nothing
    /// of it is in flight any more, with what it yields if it was done by then, else with `EINTR`.
    pub fn cancel(&self, task: Task) {
        self.executor.cancel(task);
    }

    /// Forgets a node. Nobody waits for that.
    pub fn close(&self, node: NodeNumber) {
        self.vfs.close(node);
        self.executor.flush();
    }

    /// Takes what the device has returned, and returns the filesystem calls that are complete by it.
    pub fn reap(&self) -> Completions<Value> {
        self.executor.reap();
        self.completed()
    }

    /// The same for the 9P calls.
    pub fn reap_calls(&self) -> Completions<Reply> {
        self.executor.reap();
        let finished = self.executor.finished(|output| matches!(output, Output::Client(_)));
        let calls = finished.into_iter().filter_map(|(task, output)| match output {
            Output::Client(result) => Some((task, result)),
            Output::Vfs(_) => None,
        });
        calls.collect()
    }

    /// Gives the mount up: everything that is pending and all that follows is broken, with this reason.
    pub fn abort(&self, reason: &str) -> Completions<Value> {
        self.executor.abort(reason);
        self.completed()
    }

    /// The session, to see how it is doing.
    pub fn session(&self) -> &Session<R> {
        &self.session
    }

    /// The number of calls under way.
    pub fn running(&self) -> usize {
        self.executor.running()
    }

    fn completed(&self) -> Completions<Value> {
        let finished = self.executor.finished(|output| matches!(output, Output::Vfs(_)));
        let calls = finished.into_iter().filter_map(|(task, output)| match output {
            Output::Vfs(result) => Some((task, result)),
            Output::Client(_) => None,
        });
        calls.collect()
    }
}

//! Runs operations as far as they come without waiting.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::{ring::Ring, session::Session};

/// The number by which an operation is known while it is under way.
pub type Task = u32;

/// The one operation on an immediate device, which is not in the table.
const IMMEDIATE: Task = Task::MAX - 1;

type Operation<T> = Pin<Box<dyn Future<Output = T>>>;

enum Entry<T> {
    Free,
    Running(Operation<T>),
    /// Its future is out of the table for as long as it is polled.
    Polled,
    /// Nobody has asked for it yet. Its number stays taken so that no other operation is mistaken for it.
    Finished(T),
}

/// Operations under way, all on one session, each yielding a `T`.
///
/// There are no wakers: the session knows which operation waits for which reply, and hands out the ones that can go
/// on ([`Session::next_ready`]), so that no other is polled.
pub struct Executor<R: Ring, T> {
    session: Rc<Session<R>>,
    entries: RefCell<Vec<Entry<T>>>,
    free: RefCell<Vec<Task>>,
    finished: RefCell<VecDeque<Task>>,
    /// The operation being submitted, whose result is returned at once.
    submitted: Cell<Option<Task>>,
}

impl<R: Ring, T> Executor<R, T> {
    /// An executor without operations.
    pub fn new(session: Rc<Session<R>>) -> Self {
        Self {
            session,
            entries: RefCell::default(),
            free: RefCell::default(),
            finished: RefCell::default(),
            submitted: Cell::new(None),
        }
    }

    /// Begins an operation and runs it, and all others that can go on, until nothing moves any more.
    ///
    /// # Errors
    /// The number of the operation, by which [`Executor::finished`] will return its result, if it has to wait.
    pub fn submit(&self, operation: impl Future<Output = T> + 'static) -> Result<T, Task> {
        let task = self.insert(Entry::Running(Box::pin(operation)));
        self.submitted.set(Some(task));
        self.poll(task);
        self.pump(false);
        self.submitted.set(None);
        let mut entries = self.entries.borrow_mut();
        let entry = &mut entries[task as usize];
        match std::mem::replace(entry, Entry::Free) {
            Entry::Finished(result) => {
                self.free.borrow_mut().push(task);
                Ok(result)
            }
            unfinished => {
                *entry = unfinished;
                Err(task)
            }
        }
    }

    /// Runs an operation to its end, on a device that is [immediate](Session::set_immediate). It is never put by.
    pub fn run<O>(&self, operation: impl Future<Output = O>) -> O {
        let mut operation = pin!(operation);
        self.session.set_current(IMMEDIATE);
        let result = loop {
            if let Poll::Ready(result) = operation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                break result;
            }
            // All that it can wait for has happened when the device was kicked. If nothing has, nothing ever will.
            if !self.session.exchange() && !self.session.is_broken() {
                self.session.break_off("the device has not completed what it was given");
            }
        };
        while self.session.exchange() {}
        result
    }

    /// Takes what the device has returned and runs what can go on by it.
    pub fn reap(&self) {
        self.session.urge();
        self.pump(true);
    }

    /// Nobody wants to know any more what becomes of an operation: gives up what it waits for. It comes to its end all the
    /// same, and is returned by [`Executor::finished`].
    pub fn cancel(&self, task: Task) {
        if !matches!(self.entries.borrow().get(task as usize), Some(Entry::Running(_))) {
            return;
        }
        self.session.cancel(task);
        self.poll(task);
        self.pump(false);
    }

    /// Breaks the session and ends all operations.
    pub fn abort(&self, reason: &str) {
        self.session.break_off(reason);
        self.end_all();
    }

    /// Sends what was left for the next occasion, such as a clunk.
    pub fn flush(&self) {
        self.pump(false);
    }

    /// The results, since the last call, of those operations that had to wait and whose result is `wanted`.
    pub fn finished(&self, wanted: impl Fn(&T) -> bool) -> Vec<(Task, T)> {
        let mut entries = self.entries.borrow_mut();
        let mut results = Vec::new();
        self.finished.borrow_mut().retain(|&task| {
            let entry = &mut entries[task as usize];
            if !matches!(entry, Entry::Finished(result) if wanted(result)) {
                return true;
            }
            if let Entry::Finished(result) = std::mem::replace(entry, Entry::Free) {
                self.free.borrow_mut().push(task);
                results.push((task, result));
            }
            false
        });
        results
    }

    /// The number of operations that are not finished.
    pub fn running(&self) -> usize {
        self.entries.borrow().iter().filter(|entry| matches!(entry, Entry::Running(_))).count()
    }

    fn insert(&self, entry: Entry<T>) -> Task {
        let mut entries = self.entries.borrow_mut();
        if let Some(task) = self.free.borrow_mut().pop() {
            entries[task as usize] = entry;
            return task;
        }
        entries.push(entry);
        (entries.len() - 1) as Task // there is memory for far fewer than 2^32
    }

    /// Kicks, takes what was used, and polls whom that concerns, until nothing moves. `look` takes what was used
    /// even if there is nothing to kick for.
    fn pump(&self, mut look: bool) {
        loop {
            if self.session.is_broken() {
                // What the device has returned is of no interest any more, but the leases end by being taken.
                self.session.take_used();
                self.end_all();
                break;
            }
            look |= self.session.kick() || self.session.holds_used();
            if !look {
                break;
            }
            look = false;
            self.session.take_used();
            while let Some(task) = self.session.next_ready() {
                self.poll(task);
            }
        }
    }

    /// Polls every operation of a broken session: each finds out wherever it waits.
    fn end_all(&self) {
        let tasks = self.entries.borrow().len() as Task;
        (0..tasks).for_each(|task| self.poll(task));
    }

    fn poll(&self, task: Task) {
        let entry = {
            let mut entries = self.entries.borrow_mut();
            match entries.get_mut(task as usize) {
                Some(entry @ Entry::Running(_)) => std::mem::replace(entry, Entry::Polled),
                // It has finished since it was said to be ready.
                _ => return,
            }
        };
        let Entry::Running(mut operation) = entry else { return };
        self.session.set_current(task);
        let polled = operation.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let entry = match polled {
            Poll::Pending => Entry::Running(operation),
            Poll::Ready(result) => {
                drop(operation);
                self.session.end(task);
                if self.submitted.get() != Some(task) {
                    self.finished.borrow_mut().push_back(task);
                }
                Entry::Finished(result)
            }
        };
        self.entries.borrow_mut()[task as usize] = entry;
    }
}

/// Runs two operations at a time, as one.
pub(crate) async fn both<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut of_one, mut of_other) = (None, None);
    poll_fn(|context| {
        if of_one.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(context)
        {
            of_one = Some(output);
        }
        if of_other.is_none()
            && let Poll::Ready(output) = other.as_mut().poll(context)
        {
            of_other = Some(output);
        }
        match (of_one.take(), of_other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            unfinished => {
                (of_one, of_other) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

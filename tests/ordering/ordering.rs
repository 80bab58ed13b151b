//! The index protocol of the virtqueue, the very file that host and device use, run by loom: through all interleavings
//! of a driver's and a device's thread, with each value that a load may return under the memory model.
//!
//! A notification that gets lost leaves its thread waiting for ever, which loom reports; an entry that is read before
//! its writing is visible is a data race, which it reports too. Weaken any ordering in the file, or leave out a fence,
//! and a test here fails.

#[path = "../../host/src/virtqueue/index.rs"]
mod index;

use std::{cell::Cell, sync::atomic::Ordering};

use index::{Consumer, Publisher, Wish, Word};
use loom::{
    cell::UnsafeCell,
    sync::{Arc, Notify, atomic::AtomicU16},
    thread,
};

impl Word for AtomicU16 {
    fn load(&self, ordering: Ordering) -> u16 {
        self.load(ordering)
    }

    fn store(&self, value: u16, ordering: Ordering) {
        self.store(value, ordering);
    }

    fn fence(ordering: Ordering) {
        loom::sync::atomic::fence(ordering);
    }
}

/// A word for what happens before the threads begin.
impl Word for Cell<u16> {
    fn load(&self, _: Ordering) -> u16 {
        self.get()
    }

    fn store(&self, value: u16, _: Ordering) {
        self.set(value);
    }

    fn fence(_: Ordering) {}
}

/// Where the indices begin: one entry before they wrap around, so that the threads do.
#[derive(Clone, Copy)]
struct Start {
    publisher: Publisher,
    consumer: Consumer,
    idx: u16,
}

impl Start {
    fn before_the_wrap() -> Self {
        let (mut publisher, mut consumer, word) = (Publisher::default(), Consumer::default(), Cell::new(0));
        for _ in 0..u16::MAX {
            publisher.publish(&word);
            consumer.advance();
        }
        assert_eq!((publisher.idx(), consumer.idx(), word.get()), (u16::MAX, u16::MAX, u16::MAX));
        assert!(publisher.must_notify(Wish::Event(&Cell::new(77))) && !publisher.is_untold());
        Self { publisher, consumer, idx: u16::MAX }
    }
}

/// Entries that a direction can hold.
const SIZE: u16 = 2;

/// The shared memory of one direction, and the notification that goes with it.
struct Direction {
    entries: [UnsafeCell<u16>; SIZE as usize],
    idx: AtomicU16,
    event: AtomicU16,
    flags: AtomicU16,
    notification: Notify,
    has_event_index: bool,
}

impl Direction {
    /// The consumer is waiting, as it is when the queue is new.
    fn new(start: Start, has_event_index: bool) -> Self {
        Self {
            entries: [UnsafeCell::new(0), UnsafeCell::new(0)],
            idx: AtomicU16::new(start.idx),
            event: AtomicU16::new(start.idx),
            flags: AtomicU16::new(0),
            notification: Notify::new(),
            has_event_index,
        }
    }

    fn wish(&self) -> Wish<'_, AtomicU16> {
        if self.has_event_index { Wish::Event(&self.event) } else { Wish::Flags(&self.flags) }
    }

    fn put(&self, publisher: &mut Publisher, entry: u16) {
        let place = &self.entries[usize::from(publisher.idx() % SIZE)];
        // SAFETY: loom checks that nobody reads it meanwhile.
        place.with_mut(|place| unsafe { *place = entry });
        publisher.publish(&self.idx);
        self.tell(publisher);
    }

    fn tell(&self, publisher: &mut Publisher) {
        if publisher.is_untold() && publisher.must_notify(self.wish()) {
            self.notification.notify();
        }
    }

    /// The next entry, once it is there.
    fn take(&self, consumer: &mut Consumer) -> u16 {
        consumer.forgo_notification(self.wish());
        while consumer.available(&self.idx) == 0 {
            if consumer.want_notification(&self.idx, self.wish()) {
                self.notification.wait();
            }
        }
        let place = &self.entries[usize::from(consumer.idx() % SIZE)];
        // SAFETY: as in `put`.
        let entry = place.with(|place| unsafe { *place });
        consumer.advance();
        entry
    }
}

fn explore(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

/// As many entries as there is room for, published while they are waited for.
fn one_way(has_event_index: bool) {
    let start = Start::before_the_wrap();
    explore(3, move || {
        let direction = Arc::new(Direction::new(start, has_event_index));
        let publisher = {
            let direction = Arc::clone(&direction);
            thread::spawn(move || {
                let mut publisher = start.publisher;
                (0..SIZE).for_each(|entry| direction.put(&mut publisher, 100 + entry));
            })
        };
        let mut consumer = start.consumer;
        for entry in 0..SIZE {
            assert_eq!(direction.take(&mut consumer), 100 + entry);
        }
        publisher.join().unwrap();
    });
}

/// A driver that has up to two chains in flight, and a device that returns them.
fn both_ways(has_event_index: bool) {
    let start = Start::before_the_wrap();
    explore(2, move || {
        let available = Arc::new(Direction::new(start, has_event_index));
        let used = Arc::new(Direction::new(start, has_event_index));
        let device = {
            let (available, used) = (Arc::clone(&available), Arc::clone(&used));
            thread::spawn(move || {
                let (mut consumer, mut publisher) = (start.consumer, start.publisher);
                for _ in 0..3 {
                    let chain = available.take(&mut consumer);
                    used.put(&mut publisher, chain + 1);
                }
            })
        };
        let (mut publisher, mut consumer) = (start.publisher, start.consumer);
        available.put(&mut publisher, 10);
        available.put(&mut publisher, 20);
        assert_eq!(used.take(&mut consumer), 11);
        // Its entry is free again: what the device has read is read before this is written.
        available.put(&mut publisher, 30);
        assert_eq!(used.take(&mut consumer), 21);
        assert_eq!(used.take(&mut consumer), 31);
        device.join().unwrap();
    });
}

#[test]
fn no_entry_and_no_notification_is_lost_with_event_index() {
    one_way(true);
}

#[test]
fn no_entry_and_no_notification_is_lost_with_flags() {
    one_way(false);
}

#[test]
fn chains_go_and_come_back_with_event_index() {
    both_ways(true);
}

#[test]
fn chains_go_and_come_back_with_flags() {
    both_ways(false);
}

//! The hand-off between threads, in every order there is.

use std::{
    sync::Arc as StdArc,
    task::{Context, Poll, Wake, Waker},
};

use loom::thread;

use super::*;
use crate::sync::AtomicUsize;
use crate::sync::pass_for_thread;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key(u32);

impl PoolKey for Key {}

struct Conn;

impl Connection for Conn {
    fn is_open(&self) -> bool {
        true
    }

    fn last_active(&self) -> Timestamp {
        Timestamp::ZERO
    }
}

struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn new() -> StdArc<Self> {
        StdArc::new(Self(AtomicUsize::new(0)))
    }

    fn has_rung(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

fn pool(open_total_max: usize) -> Pool<Key, Conn> {
    let config = PoolConfig { shards: 2, open_per_host_max: 1, open_total_max, ..PoolConfig::default() };
    Pool::new(&config).expect("a valid configuration")
}

fn poll(checkout: &mut Checkout<Key, Conn>, bell: &StdArc<Bell>) -> Poll<Step<Key, Conn>> {
    let waker = Waker::from(StdArc::clone(bell));
    let mut cx = Context::from_waker(&waker);
    checkout.poll_next(&mut cx, Timestamp::ZERO).map(|step| step.expect("nothing fails here"))
}

/// A model of so many steps that every order of them takes hours: those in which a thread is held up at most three times.
fn bounded(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A connection in use, and its socket.
fn connect(pool: &Pool<Key, Conn>, key: &Key) -> (Pooled<Key, Conn>, Permit<Key, Conn>) {
    let mut checkout = pool.host(key).checkout();
    let bell = Bell::new();
    let Poll::Ready(Step::Dial(mut permit)) = poll(&mut checkout, &bell) else { panic!("no dial") };
    permit.opened(Conn, Timestamp::ZERO);
    let Poll::Ready(Step::Connection(pooled)) = poll(&mut checkout, &bell) else { panic!("no connection") };
    (pooled, permit)
}

#[test]
fn loom_a_waiter_that_goes_away_loses_no_connection() {
    loom::model(|| {
        let pool = pool(8);
        let (pooled, _permit) = connect(&pool, &Key(1));
        let mut checkout = pool.host(&Key(1)).checkout();
        assert!(poll(&mut checkout, &Bell::new()).is_pending());
        let giver = thread::spawn(move || pooled.checkin());
        drop(checkout);
        giver.join().expect("no panic");
        assert!(pool.take(&Key(1), Timestamp::ZERO).is_some(), "it is lost");
    });
}

#[test]
fn loom_a_waiter_is_woken_by_what_comes_back() {
    loom::model(|| {
        let pool = pool(8);
        let (pooled, _permit) = connect(&pool, &Key(1));
        let giver = thread::spawn(move || pooled.checkin());
        let mut checkout = pool.host(&Key(1)).checkout();
        let bell = Bell::new();
        let first = poll(&mut checkout, &bell);
        giver.join().expect("no panic");
        if first.is_pending() {
            assert!(bell.has_rung(), "it waits in vain");
            assert!(matches!(poll(&mut checkout, &bell), Poll::Ready(Step::Connection(_))));
        }
    });
}

#[test]
fn loom_what_is_idle_is_taken_by_one() {
    bounded(|| {
        let pool = pool(8);
        let (pooled, _permit) = connect(&pool, &Key(1));
        pooled.checkin();
        let other = pool.clone();
        let taker = thread::spawn(move || {
            pass_for_thread(1);
            let taken = other.take(&Key(1), Timestamp::ZERO);
            let has = taken.is_some();
            std::mem::forget(taken);
            has
        });
        let taken = pool.take(&Key(1), Timestamp::ZERO);
        let theirs = taker.join().expect("no panic");
        assert_ne!(taken.is_some(), theirs);
        std::mem::forget(taken);
    });
}

#[test]
fn loom_what_lies_at_one_s_hand_is_taken_by_one() {
    bounded(|| {
        let pool = pool(8);
        let (pooled, _permit) = connect(&pool, &Key(1));
        pooled.checkin();
        let slot = pool.host(&Key(1));
        let taker = thread::spawn(move || {
            pass_for_thread(1);
            let taken = slot.take(Timestamp::ZERO);
            let has = taken.is_some();
            std::mem::forget(taken);
            has
        });
        let taken = pool.host(&Key(1)).take(Timestamp::ZERO);
        let theirs = taker.join().expect("no panic");
        assert_ne!(taken.is_some(), theirs);
        std::mem::forget(taken);
    });
}

#[test]
fn loom_a_key_looks_for_nothing_at_a_host_that_is_gone() {
    bounded(|| {
        let pool = pool(8);
        let (pooled, permit) = connect(&pool, &Key(1));
        pooled.checkin();
        // The last that refers to the host: it goes with its connection.
        let ender = thread::spawn(move || drop(permit));
        drop(pool.take(&Key(1), Timestamp::ZERO));
        ender.join().expect("no panic");
        assert!(pool.take(&Key(1), Timestamp::ZERO).is_none());
    });
}

#[test]
fn loom_who_waits_is_given_what_goes_back_to_a_seat() {
    bounded(|| {
        let pool = pool(8);
        let (pooled, _permit) = connect(&pool, &Key(1));
        pooled.checkin();
        let slot = pool.host(&Key(1));
        let pooled = slot.take(Timestamp::ZERO).expect("it is at hand");
        let waiter = thread::spawn(move || {
            pass_for_thread(1);
            let mut checkout = slot.checkout();
            let bell = Bell::new();
            let is_pending = poll(&mut checkout, &bell).is_pending();
            (checkout, bell, is_pending)
        });
        pooled.checkin();
        let (mut checkout, bell, is_pending) = waiter.join().expect("no panic");
        if is_pending {
            assert!(bell.has_rung(), "it waits in vain");
            assert!(matches!(poll(&mut checkout, &bell), Poll::Ready(Step::Connection(_))));
        }
    });
}

#[test]
fn loom_a_host_that_waits_for_the_pool_gets_the_permit_that_comes_back() {
    loom::model(|| {
        let pool = pool(1);
        let (pooled, permit) = connect(&pool, &Key(1));
        let ender = thread::spawn(move || {
            drop(pooled);
            drop(permit);
        });
        let mut checkout = pool.host(&Key(2)).checkout();
        let bell = Bell::new();
        let first = poll(&mut checkout, &bell);
        ender.join().expect("no panic");
        if first.is_pending() {
            assert!(bell.has_rung(), "it starves");
            assert!(matches!(poll(&mut checkout, &bell), Poll::Ready(Step::Dial(_))));
        }
    });
}

#[test]
fn loom_the_last_socket_tells_who_waits_for_the_end() {
    loom::model(|| {
        let pool = pool(1);
        let (pooled, permit) = connect(&pool, &Key(1));
        pool.close();
        let ender = thread::spawn(move || {
            drop(pooled);
            drop(permit);
        });
        let bell = Bell::new();
        let waker = Waker::from(StdArc::clone(&bell));
        let mut drained = Box::pin(pool.drained());
        let first = std::future::Future::poll(drained.as_mut(), &mut Context::from_waker(&waker));
        ender.join().expect("no panic");
        assert!(first.is_ready() || bell.has_rung(), "nobody told it");
    });
}

#[test]
fn loom_what_comes_back_as_its_socket_ends_is_not_kept() {
    bounded(|| {
        let pool = pool(1);
        let (pooled, permit) = connect(&pool, &Key(1));
        let slot = pool.host(&Key(1));
        // At hand, and in use again: it may come back without the lock of its shard.
        pooled.checkin();
        let pooled = slot.take(Timestamp::ZERO).expect("it is at hand");
        let ender = thread::spawn(move || drop(permit));
        slot.checkin(pooled);
        ender.join().expect("no panic");
        let stats = pool.stats();
        assert_eq!((stats.open, stats.idle), (0, 0));
    });
}

#[test]
fn loom_of_what_was_closed_for_a_starving_host_nothing_is_waited_for_when_it_is_gone() {
    bounded(|| {
        let pool = pool(1);
        let (pooled, permit) = connect(&pool, &Key(1));
        pooled.checkin();
        let ender = thread::spawn(move || drop(permit));
        let mut checkout = pool.host(&Key(2)).checkout();
        let bell = Bell::new();
        let first = poll(&mut checkout, &bell);
        ender.join().expect("no panic");
        assert!(pool.owner.inner.queue.lock().reclaimed.is_empty());
        assert!(first.is_ready() || bell.has_rung(), "it starves");
    });
}

#[test]
fn loom_a_permit_that_nobody_takes_reaches_who_queues_up_meanwhile() {
    bounded(|| {
        let pool = pool(1);
        let (pooled, permit) = connect(&pool, &Key(1));
        let mut leaving = pool.host(&Key(2)).checkout();
        assert!(poll(&mut leaving, &Bell::new()).is_pending());
        let ender = thread::spawn(move || {
            drop(pooled);
            drop(permit);
        });
        let leaver = thread::spawn(move || drop(leaving));
        let mut checkout = pool.host(&Key(3)).checkout();
        let bell = Bell::new();
        let first = poll(&mut checkout, &bell);
        ender.join().expect("no panic");
        leaver.join().expect("no panic");
        assert!(first.is_ready() || bell.has_rung(), "it starves");
    });
}

#[test]
fn loom_a_host_that_is_forgotten_by_two_at_once_is_forgotten_once() {
    bounded(|| {
        let pool = pool(1);
        let slot = pool.host(&Key(1));
        let other = thread::spawn(move || drop(slot));
        drop(pool.host(&Key(1)));
        other.join().expect("no panic");
        assert_eq!(pool.stats().hosts, 0);
    });
}

#[test]
fn loom_the_end_is_told_though_a_permit_was_held_for_a_moment() {
    bounded(|| {
        let pool = pool(1);
        let (pooled, permit) = connect(&pool, &Key(1));
        let mut starved = pool.host(&Key(2)).checkout();
        assert!(poll(&mut starved, &Bell::new()).is_pending());
        pool.close();
        let bell = Bell::new();
        let waker = Waker::from(StdArc::clone(&bell));
        let mut drained = Box::pin(pool.drained());
        let first = std::future::Future::poll(drained.as_mut(), &mut Context::from_waker(&waker));
        let ender = thread::spawn(move || {
            drop(pooled);
            drop(permit);
        });
        // Looks at the queue as it looks at its place.
        let _ = starved.poll_next(&mut Context::from_waker(Waker::noop()), Timestamp::ZERO);
        ender.join().expect("no panic");
        assert!(first.is_ready() || bell.has_rung(), "nobody told it");
    });
}

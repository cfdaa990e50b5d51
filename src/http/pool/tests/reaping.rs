//! Age, and the end.

use std::{future::Future, pin::pin};

use super::*;
use crate::env::{Clock, Timer};

fn brief() -> PoolConfig {
    PoolConfig { idle_timeout: Duration::from_secs(10), lifetime_max: Duration::from_secs(60), ..roomy() }
}

#[test]
fn what_was_idle_for_the_timeout_is_given_to_nobody() {
    let mut world = World::new(brief());
    let pooled = world.connect(&A);
    world.checkin(pooled);
    world.pass(Duration::from_millis(9_999));
    let pooled = world.pool.take(&A, world.now).expect("it is young enough");
    world.checkin(pooled);
    world.pass(Duration::from_secs(10));
    assert!(world.pool.take(&A, world.now).is_none());
    world.settle();
    world.check();
    assert_eq!(world.pool.stats().open, 0);
}

#[test]
fn idle_time_counts_from_the_last_use_and_not_from_the_checkout() {
    let mut world = World::new(brief());
    let pooled = world.connect(&A);
    world.pass(Duration::from_secs(30));
    world.checkin(pooled);
    world.pass(Duration::from_secs(9));
    assert!(world.pool.take(&A, world.now).is_some());
}

#[test]
fn what_has_lived_too_long_is_not_kept() {
    let mut world = World::new(brief());
    let (first, second) = (world.connect(&A), world.connect(&A));
    world.pass(Duration::from_secs(55));
    world.checkin(first);
    world.pass(Duration::from_secs(5));
    assert!(world.pool.take(&A, world.now).is_none(), "idle for five seconds, but an hour old");
    world.checkin(second);
    assert_eq!(world.pool.stats(), PoolStats::default());
}

#[test]
fn expiry_closes_what_is_due_and_says_when_to_come_back() {
    let mut world = World::new(brief());
    let (first, second) = (world.connect(&A), world.connect(&B));
    world.checkin(first);
    world.pass(Duration::from_secs(4));
    world.checkin(second);
    assert_eq!(world.pool.expire(world.now), Some(at(11)));
    assert_eq!(world.pool.expire(at(11)), Some(at(15)));
    world.settle();
    assert_eq!(world.pool.stats().open, 1);
    assert_eq!(world.pool.expire(at(15)), None);
    world.settle();
    assert_eq!(world.pool.stats(), PoolStats::default());
}

#[test]
fn a_shared_connection_that_is_used_is_only_too_old_for_new_streams() {
    let mut world = World::new(brief());
    let mut caller = world.caller(&H2);
    let permit = caller.dial(&world);
    let number = world.open_shared(permit, 10);
    let stream = caller.take(&world);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.pool.expire(world.now), None, "nothing to come back for");
    assert!(world.pool.take(&H2, world.now).is_none());
    assert!(world.is_open(number));
    drop(stream);
    world.settle();
    assert!(!world.is_open(number));
}

#[test]
fn drain_lets_go_of_what_there_is_and_dials_anew() {
    let mut world = World::new(roomy());
    let (idle, used) = (world.connect(&A), world.connect(&A));
    let (one, two) = (idle.number, used.number);
    world.checkin(idle);
    world.pool.drain();
    world.settle();
    assert!(!world.is_open(one) && world.is_open(two));
    world.checkin(used);
    assert!(!world.is_open(two));
    let pooled = world.connect(&A);
    world.checkin(pooled);
    assert_eq!(world.pool.stats().idle, 1);
    world.check();
}

#[test]
fn a_dial_of_before_the_drain_is_of_no_use_after_it() {
    let mut world = World::new(roomy());
    let mut caller = world.caller(&A);
    let permit = caller.dial(&world);
    world.pool.drain();
    let number = world.open(permit);
    world.settle();
    assert!(!world.is_open(number));
    assert!(caller.rung());
    let _permit = caller.dial(&world);
    world.check();
}

#[test]
fn close_tells_who_waits_and_is_over_with_the_last_socket() {
    let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let pooled = world.connect(&A);
    let mut caller = world.caller(&A);
    assert!(caller.waits(&world));
    world.pool.close();
    assert!(caller.rung());
    let Poll::Ready(Err(error)) = caller.poll(&world) else { panic!("it was not told") };
    assert_eq!((error.kind(), error.is_closed()), (ErrorKind::Closed, true));
    let pool = world.pool.clone();
    let mut drained = pin!(pool.drained());
    let bell = Arc::new(Bell { rung: AtomicUsize::new(0), pool: Arc::clone(&world.own) });
    let waker = Waker::from(Arc::clone(&bell));
    assert!(drained.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    world.checkin(pooled);
    assert_eq!(bell.rung.load(Ordering::SeqCst), 1);
    assert!(drained.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    let mut late = world.caller(&B);
    assert!(matches!(late.poll(&world), Poll::Ready(Err(error)) if error.is_closed()));
    assert!(world.pool.take(&A, world.now).is_none());
}

#[test]
fn a_dial_that_ends_after_close_is_dropped() {
    let mut world = World::new(roomy());
    let mut caller = world.caller(&A);
    let permit = caller.dial(&world);
    world.pool.close();
    world.open(permit);
    world.settle();
    assert_eq!(world.pool.stats().open, 0);
}

#[test]
fn the_drop_of_the_last_pool_closes_what_is_idle() {
    let mut world = World::new(roomy());
    let pooled = world.connect(&A);
    let state = Arc::clone(&pooled.socket);
    world.checkin(pooled);
    *world.own.lock().expect("no panic") = None;
    let World { pool, sockets, .. } = world;
    drop(pool);
    assert!(state.dropped.load(Ordering::SeqCst));
    drop(sockets);
}

#[test]
fn a_checkout_outlives_its_pool_and_is_told() {
    let world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let mut first = world.caller(&A);
    let _permit = first.dial(&world);
    let mut second = world.caller(&A);
    assert!(second.waits(&world));
    *world.own.lock().expect("no panic") = None;
    let now = world.now;
    drop(world);
    let waker = Waker::noop();
    let told = second.checkout.poll_next(&mut Context::from_waker(waker), now);
    assert!(matches!(told, Poll::Ready(Err(error)) if error.is_closed()));
}

/// A clock set by hand, whose timers remember what they were armed for.
#[derive(Clone)]
struct Hands {
    now: Arc<AtomicU64>,
    armed: Arc<AtomicU64>,
}

impl Clock for Hands {
    type Timer = HandsTimer;

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now.load(Ordering::SeqCst))
    }

    fn unix_time(&self) -> Duration {
        Duration::ZERO
    }

    fn timer(&self) -> HandsTimer {
        HandsTimer { hands: self.clone(), at: Timestamp::MAX }
    }
}

struct HandsTimer {
    hands: Hands,
    at: Timestamp,
}

impl Timer for HandsTimer {
    fn arm(mut self: std::pin::Pin<&mut Self>, at: Timestamp) {
        self.at = at;
        self.hands.armed.store(at.as_nanos(), Ordering::SeqCst);
    }

    fn poll_expired(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.hands.now() >= self.at { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[test]
fn the_reaper_has_one_timer_and_none_while_nothing_is_idle() {
    let mut world = World::new(brief());
    let hands = Hands { now: Arc::new(AtomicU64::new(at(1).as_nanos())), armed: Arc::default() };
    let mut reaper = pin!(world.pool.reaper().run(hands.clone()));
    let bell = Arc::new(Bell { rung: AtomicUsize::new(0), pool: Arc::clone(&world.own) });
    let waker = Waker::from(Arc::clone(&bell));
    let mut cx = Context::from_waker(&waker);
    let rung = || bell.rung.swap(0, Ordering::SeqCst) > 0;
    assert!(reaper.as_mut().poll(&mut cx).is_pending());
    assert_eq!(hands.armed.load(Ordering::SeqCst), 0, "no timer");
    let pooled = world.connect(&A);
    assert!(!rung(), "what is used can't grow too old");
    world.checkin(pooled);
    assert!(rung());
    assert!(reaper.as_mut().poll(&mut cx).is_pending());
    assert_eq!(hands.armed.load(Ordering::SeqCst), at(11).as_nanos());
    // Whatever happens before is no reason to wake.
    let pooled = world.pool.take(&A, world.now).expect("it is idle");
    world.checkin(pooled);
    assert!(!rung());
    hands.now.store(at(11).as_nanos(), Ordering::SeqCst);
    world.now = at(11);
    assert!(reaper.as_mut().poll(&mut cx).is_pending());
    world.settle();
    assert_eq!(world.pool.stats().open, 0);
    world.pool.close();
    assert!(rung());
    assert!(reaper.as_mut().poll(&mut cx).is_ready());
}

/// Two threads drain at once, and the later drain gets to this shard first.
#[test]
fn a_drain_that_comes_late_to_a_shard_changes_nothing_more() {
    let mut world = World::new(roomy());
    world.pool.drain();
    world.pool.drain();
    let inner = std::sync::Arc::clone(&world.pool.owner.inner);
    for shard in &inner.shards {
        inner.run(shard, |shard, permits, effects| shard.drain(1, permits, effects));
    }
    let pooled = world.connect(&A);
    world.checkin(pooled);
    assert_eq!(world.pool.stats().idle, 1);
}

//! What lies at a thread's hand is hidden from nobody.

use super::*;
use crate::sync::pass_for_thread;

/// A world in which the first thread has a connection of A at hand. Its number.
fn at_hand(config: PoolConfig) -> (World, usize) {
    pass_for_thread(0);
    let mut world = World::new(config);
    let pooled = world.connect(&A);
    let number = pooled.number;
    world.checkin(pooled);
    (world, number)
}

/// True if the connection lies on a seat: the shard's own list is empty.
fn is_seated(world: &World) -> bool {
    let slot = world.pool.host(&A);
    let shard = world.pool.owner.inner.shards[slot.host.shard].0.lock();
    let host = &shard.hosts[slot.host.host];
    host.idle.is_empty() && host.seated() == 1
}

#[test]
fn what_one_thread_gave_back_another_finds() {
    for by_key in [true, false] {
        let (world, number) = at_hand(roomy());
        assert!(is_seated(&world));
        pass_for_thread(1);
        let taken = match by_key {
            true => world.pool.take(&A, world.now),
            false => world.pool.host(&A).take(world.now),
        };
        assert_eq!(taken.expect("it is idle").number, number);
    }
}

#[test]
fn each_thread_gets_back_what_it_gave_back_last() {
    let (mut world, first) = at_hand(roomy());
    let mine = world.pool.host(&A).take(world.now).expect("it is idle");
    pass_for_thread(1);
    let theirs = world.connect(&A);
    let second = theirs.number;
    world.checkin(theirs);
    pass_for_thread(0);
    world.checkin(mine);
    for (thread, number) in [(1, second), (0, first), (1, second)] {
        pass_for_thread(thread);
        let pooled = world.pool.host(&A).take(world.now).expect("it is idle");
        assert_eq!(pooled.number, number);
        world.checkin(pooled);
    }
}

#[test]
fn on_one_thread_the_newest_is_taken_first_however_many_there_are() {
    pass_for_thread(0);
    let mut world = World::new(roomy());
    let used: Vec<_> = (0..4).map(|_| world.connect(&A)).collect();
    let numbers: Vec<usize> = used.iter().map(|pooled| pooled.number).collect();
    for pooled in used {
        world.pass(Duration::from_secs(1));
        world.checkin(pooled);
    }
    for by_key in [false, true, false, true] {
        let slot = world.pool.host(&A);
        let pooled = if by_key { world.pool.take(&A, world.now) } else { slot.take(world.now) };
        let pooled = pooled.expect("it is idle");
        assert_eq!(pooled.number, numbers[world.pool.stats().idle]);
        // In use until the end.
        std::mem::forget(pooled);
    }
}

#[test]
fn who_waits_is_given_what_goes_back_to_a_seat_that_was_lent() {
    let (mut world, number) = at_hand(PoolConfig { open_per_host_max: 1, ..roomy() });
    let pooled = world.pool.host(&A).take(world.now).expect("it is idle");
    pass_for_thread(1);
    let mut caller = world.caller(&A);
    assert!(caller.waits(&world));
    pass_for_thread(0);
    world.checkin(pooled);
    assert!(caller.rung());
    assert_eq!(caller.take(&world).number, number);
}

#[test]
fn what_lies_at_another_s_hand_is_closed_in_time_and_counted() {
    let (mut world, number) = at_hand(PoolConfig { idle_timeout: Duration::from_secs(5), ..roomy() });
    pass_for_thread(1);
    assert_eq!(world.pool.stats().idle, 1);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.pool.expire(world.now), Some(at(6)));
    world.pass(Duration::from_secs(1));
    assert!(world.pool.host(&A).take(world.now).is_none(), "too old");
    world.settle();
    assert!(!world.is_open(number));
    world.check();
}

#[test]
fn a_host_that_waits_gets_the_place_of_what_lies_at_another_s_hand() {
    let (mut world, number) = at_hand(PoolConfig { open_total_max: 1, ..roomy() });
    pass_for_thread(1);
    let mut caller = world.caller(&B);
    assert!(caller.waits(&world));
    world.settle();
    assert!(caller.rung() && !world.is_open(number));
    let _permit = caller.dial(&world);
    world.check();
}

#[test]
fn limits_on_what_is_idle_count_the_seats() {
    let limits =
        [PoolConfig { idle_per_host_max: 2, ..roomy() }, PoolConfig { idle_total_max: 2, ..roomy() }];
    for config in limits {
        let mut world = World::new(config);
        let used: Vec<_> = (0..4).map(|_| world.connect(&A)).collect();
        for (thread, pooled) in used.into_iter().enumerate() {
            pass_for_thread(thread);
            world.pass(Duration::from_secs(1));
            world.checkin(pooled);
            assert!(world.pool.stats().idle <= 2);
        }
        assert_eq!(world.pool.stats().idle, 2);
        // The newest two are there, the others are closed.
        assert_eq!([0, 1, 2, 3].map(|number| world.is_open(number)), [false, false, true, true]);
    }
}

#[test]
fn nothing_of_before_a_drain_comes_back_by_a_seat() {
    let (mut world, old) = at_hand(roomy());
    let pooled = world.pool.host(&A).take(world.now).expect("it is idle");
    world.pool.drain();
    // The seat is lent again, for one that was dialed since.
    let young = world.connect(&A);
    world.checkin(young);
    let young = world.pool.host(&A).take(world.now).expect("it is idle");
    world.checkin(pooled);
    assert!(!world.is_open(old), "it was to be let go of");
    world.checkin(young);
    world.pool.close();
    world.settle();
    assert_eq!(world.pool.stats(), PoolStats::default());
}

#[test]
fn what_comes_back_to_a_seat_when_its_socket_is_gone_is_not_kept() {
    let (mut world, _) = at_hand(roomy());
    let slot = world.pool.host(&A);
    let first = slot.take(world.now).expect("it is at hand");
    let second = world.connect(&A);
    let (permit, _) = world.sockets[first.number].take().expect("it is open");
    drop(permit);
    // The seat is lent anew, and empty, when the first comes back to it.
    world.checkin(second);
    let second = slot.take(world.now).expect("it is at hand");
    slot.checkin(first);
    assert_eq!(world.pool.stats().idle, 0);
    world.checkin(second);
    assert!(is_seated(&world));
}

//! Who is served, and what becomes of what was given to somebody who went away.

use super::*;

#[test]
fn what_comes_back_is_taken_again_the_newest_first() {
    let mut world = World::new(roomy());
    let (first, second) = (world.connect(&A), world.connect(&A));
    let numbers = (first.number, second.number);
    world.checkin(first);
    world.checkin(second);
    let slot = world.pool.host(&A);
    assert_eq!(slot.take(world.now).map(|conn| conn.number), Some(numbers.1));
    world.check();
}

#[test]
fn a_key_finds_what_its_slot_left() {
    let mut world = World::new(roomy());
    let pooled = world.connect(&A);
    world.checkin(pooled);
    assert!(world.pool.take(&B, world.now).is_none());
    let pooled = world.pool.take(&A, world.now).expect("it is idle");
    assert!(world.pool.take(&A, world.now).is_none(), "one user at a time");
    world.checkin(pooled);
    assert_eq!(world.pool.stats().idle, 1);
}

#[test]
fn a_connection_comes_back_through_its_slot_and_through_no_other_host_s() {
    let mut world = World::new(roomy());
    let (own, other) = (world.pool.host(&A), world.pool.host(&B));
    let pooled = world.connect(&A);
    own.checkin(pooled);
    assert_eq!(world.pool.stats().idle, 1);
    let pooled = own.take(world.now).expect("it is idle");
    other.checkin(pooled);
    world.settle();
    assert_eq!((world.pool.stats().idle, world.pool.stats().open), (0, 0), "it was closed");
}

#[test]
fn first_come_first_served() {
    let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let pooled = world.connect(&A);
    let mut callers: Vec<_> = (0..3).map(|_| world.caller(&A)).collect();
    assert!(callers.iter_mut().all(|caller| caller.waits(&world)));
    world.checkin(pooled);
    assert!(callers[0].rung() && !callers[1].rung() && !callers[2].rung());
    // Nobody who comes now is served before them.
    assert!(world.pool.take(&A, world.now).is_none());
    for caller in &mut callers {
        let pooled = caller.take(&world);
        world.checkin(pooled);
    }
    world.check();
}

#[test]
fn what_was_given_to_one_who_went_away_goes_to_the_next_at_once() {
    let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let pooled = world.connect(&A);
    let number = pooled.number;
    let (mut first, mut second) = (world.caller(&A), world.caller(&A));
    assert!(first.waits(&world) && second.waits(&world));
    world.checkin(pooled);
    drop(first);
    assert!(second.rung());
    assert_eq!(second.take(&world).number, number);
}

#[test]
fn what_was_given_to_the_last_who_went_away_is_idle_again() {
    let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let pooled = world.connect(&A);
    let mut caller = world.caller(&A);
    assert!(caller.waits(&world));
    world.checkin(pooled);
    assert_eq!(world.pool.stats().idle, 0);
    drop(caller);
    assert_eq!(world.pool.stats().idle, 1);
    assert!(world.pool.take(&A, world.now).is_some());
}

#[test]
fn a_connection_its_user_leaves_halfway_is_closed_and_its_place_given_on() {
    let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let pooled = world.connect(&A);
    let mut caller = world.caller(&A);
    assert!(caller.waits(&world) && caller.dials.is_empty());
    drop(pooled);
    world.settle();
    assert!(caller.rung());
    caller.dial(&world);
    world.check();
}

#[test]
fn what_comes_first_is_taken_the_dial_or_what_comes_back() {
    let mut world = World::new(roomy());
    let pooled = world.connect(&A);
    let number = pooled.number;
    let mut caller = world.caller(&A);
    let permit = caller.dial(&world);
    world.checkin(pooled);
    assert_eq!(caller.take(&world).number, number);
    // The dial goes on, and serves the next.
    let dialed = world.open(permit);
    assert_eq!(world.pool.take(&A, world.now).map(|conn| conn.number), Some(dialed));
}

#[test]
fn a_dial_serves_the_longest_waiting_whoever_made_it() {
    let mut world = World::new(roomy());
    let (mut first, mut second) = (world.caller(&A), world.caller(&A));
    let _slow = first.dial(&world);
    let quick = second.dial(&world);
    let number = world.open(quick);
    assert_eq!(first.take(&world).number, number);
    assert!(second.waits(&world));
}

#[test]
fn a_dial_s_failure_is_told_to_its_owner_alone() {
    let world = World::new(roomy());
    let (mut first, mut second) = (world.caller(&A), world.caller(&A));
    let permits = (first.dial(&world), second.dial(&world));
    permits.1.failed(failure());
    assert!(first.waits(&world));
    let Poll::Ready(Err(error)) = second.poll(&world) else { panic!("it was not told") };
    assert_eq!(error.kind(), ErrorKind::Connect);
    drop(permits.0);
}

#[test]
fn a_failed_dial_whose_owner_is_gone_makes_room_for_the_next() {
    let world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let (mut first, mut second) = (world.caller(&A), world.caller(&A));
    let permit = first.dial(&world);
    assert!(second.waits(&world) && second.dials.is_empty());
    drop(first);
    permit.failed(failure());
    assert!(second.rung());
    let _permit = second.dial(&world);
    world.check();
}

#[test]
fn an_abandoned_dial_is_made_again() {
    let world = World::new(roomy());
    let mut caller = world.caller(&A);
    drop(caller.dial(&world));
    assert!(caller.rung());
    let _permit = caller.dial(&world);
    world.check();
}

#[test]
fn a_permission_nobody_took_goes_to_the_next() {
    let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let pooled = world.connect(&A);
    let (mut first, mut second) = (world.caller(&A), world.caller(&A));
    assert!(first.waits(&world) && second.waits(&world));
    drop(pooled);
    world.settle();
    assert!(first.rung());
    drop(first);
    assert!(second.rung());
    let _permit = second.dial(&world);
    world.check();
}

#[test]
fn what_its_peer_closed_while_idle_is_given_to_nobody() {
    let mut world = World::new(roomy());
    let (first, second) = (world.connect(&A), world.connect(&A));
    let alive = first.number;
    let dead = second.number;
    world.checkin(first);
    world.checkin(second);
    // Its task hasn't noticed yet: the probe does.
    let state = world.sockets[dead].as_ref().map(|(_, socket)| Arc::clone(socket)).expect("it is open");
    state.closed_by_peer.store(true, Ordering::SeqCst);
    assert_eq!(world.pool.take(&A, world.now).map(|conn| conn.number), Some(alive));
    world.settle();
    world.check();
}

#[test]
fn one_who_is_given_a_dead_connection_keeps_its_place() {
    let mut world = World::new(PoolConfig { open_per_host_max: 2, ..roomy() });
    let (first, second) = (world.connect(&A), world.connect(&A));
    let mut callers: Vec<_> = (0..2).map(|_| world.caller(&A)).collect();
    assert!(callers.iter_mut().all(|caller| caller.waits(&world)));
    let dead = first.number;
    world.checkin(first);
    world.sockets[dead].as_ref().expect("open").1.closed_by_peer.store(true, Ordering::SeqCst);
    assert!(callers[0].waits(&world));
    world.checkin(second);
    assert!(callers[0].rung());
    let _pooled = callers[0].take(&world);
}

#[test]
fn what_its_peer_closed_is_out_of_the_books_at_once() {
    let mut world = World::new(roomy());
    let pooled = world.connect(&A);
    let number = pooled.number;
    world.checkin(pooled);
    world.close_by_peer(number);
    assert_eq!(world.pool.stats(), PoolStats::default());
    assert!(world.pool.take(&A, world.now).is_none());
}

#[test]
fn a_host_nobody_refers_to_is_forgotten() {
    let mut world = World::new(roomy());
    let slot = world.pool.host(&A);
    let pooled = world.connect(&A);
    drop(slot);
    assert_eq!(world.pool.stats().hosts, 1);
    world.checkin(pooled);
    assert_eq!(world.pool.stats().hosts, 1, "it has an idle connection");
    drop(world.pool.take(&A, world.now));
    world.settle();
    assert_eq!(world.pool.stats(), PoolStats::default());
}

#[test]
fn keys_are_told_apart_though_they_hash_alike() {
    #[derive(Clone, PartialEq, Eq)]
    struct Same(u32);
    impl std::hash::Hash for Same {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            0_u8.hash(state);
        }
    }
    impl PoolKey for Same {}
    struct Plain;
    impl Connection for Plain {
        fn is_open(&self) -> bool {
            true
        }
        fn last_active(&self) -> Timestamp {
            at(1)
        }
    }
    let pool: Pool<Same, Plain> = Pool::new(&roomy()).expect("valid");
    let slots: Vec<_> = (0..20).map(|key| pool.host(&Same(key))).collect();
    let waker = Waker::noop();
    let mut cx = Context::from_waker(waker);
    let mut permits = Vec::new();
    for slot in slots.iter().step_by(2) {
        let mut checkout = slot.checkout();
        let Poll::Ready(Ok(Step::Dial(mut permit))) = checkout.poll_next(&mut cx, at(1)) else { panic!() };
        permit.opened(Plain, at(1));
        permits.push(permit);
    }
    for key in 0..20 {
        assert_eq!(pool.take(&Same(key), at(1)).is_some(), key % 2 == 0, "{key}");
    }
}

#[test]
fn a_connection_that_dies_before_its_waiter_looks_is_never_idle_again() {
    for leaves in [true, false] {
        let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
        let pooled = world.connect(&A);
        let number = pooled.number;
        let mut caller = world.caller(&A);
        assert!(caller.waits(&world));
        world.checkin(pooled);
        assert!(caller.rung());
        world.close_by_peer(number);
        match leaves {
            true => drop(caller),
            // It stands where it stood, and dials.
            false => drop((caller.dial(&world), caller)),
        }
        world.settle();
        assert_eq!((world.pool.stats().idle, world.pool.stats().open), (0, 0));
        assert!(world.pool.take(&A, world.now).is_none());
        world.check();
    }
}

/// The end of a socket overtakes its user, who has just looked whether the connection is open.
#[test]
fn what_comes_back_when_its_socket_is_gone_is_not_kept() {
    for seated in [false, true] {
        let mut world = World::new(PoolConfig { open_total_max: 1, ..roomy() });
        let mut pooled = world.connect(&A);
        if seated {
            // A thread has a seat from its first checkin on.
            let number = pooled.number;
            world.checkin(pooled);
            pooled = world.pool.host(&A).take(world.now).expect("it is idle");
            assert_eq!(pooled.number, number);
        }
        let (permit, _) = world.sockets[pooled.number].take().expect("it is open");
        drop(permit);
        world.checkin(pooled);
        let stats = world.pool.stats();
        assert_eq!((stats.open, stats.idle), (0, 0), "seated: {seated}");
        // Of the one place there is nothing is owed to it.
        let b = world.connect(&B);
        world.checkin(b);
        let mut a = world.caller(&A);
        assert!(a.waits(&world));
        world.settle();
        assert!(a.rung(), "the place of B's idle connection is A's");
    }
}

#[test]
fn a_permit_whose_connection_had_come_about_fails_like_any_other_end() {
    let mut world = World::new(roomy());
    let pooled = world.connect(&A);
    let (permit, _) = world.sockets[pooled.number].take().expect("it is open");
    permit.failed(failure());
    assert_eq!(world.pool.stats().open, 0);
}

#[test]
fn what_a_waiter_leaves_behind_when_its_socket_is_gone_is_not_kept() {
    let mut world = World::new(roomy());
    let (first, second) = (world.connect(&A), world.connect(&A));
    let mut waiting = world.caller(&A);
    let _dial = waiting.dial(&world);
    let number = first.number;
    world.checkin(first);
    let (permit, _) = world.sockets[number].take().expect("it is open");
    drop(permit);
    drop(waiting);
    world.settle();
    assert_eq!(world.pool.stats().idle, 0);
    drop(second);
}

#[test]
fn one_who_comes_back_to_its_place_is_given_what_became_idle_meanwhile() {
    let mut world = World::new(PoolConfig { open_per_host_max: 2, ..roomy() });
    let (first, second) = (world.connect(&A), world.connect(&A));
    let mut waiting = world.caller(&A);
    assert!(waiting.waits(&world));
    let (dies, stays) = (first.number, second.number);
    world.checkin(first);
    // Nobody stands in line: it becomes idle.
    world.checkin(second);
    world.close_by_peer(dies);
    assert_eq!(waiting.take(&world).number, stays);
    assert!(waiting.dials.is_empty());
}

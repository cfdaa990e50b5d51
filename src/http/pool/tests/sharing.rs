//! Connections that many share.

use super::*;

fn shared(limit: usize) -> (World, usize, Vec<Pooled<Key, Conn>>) {
    let mut world = World::new(roomy());
    let mut caller = world.caller(&H2);
    let permit = caller.dial(&world);
    let number = world.open_shared(permit, limit);
    let pooled = caller.take(&world);
    (world, number, vec![pooled])
}

#[test]
fn one_dial_serves_all_who_wait() {
    let mut world = World::new(roomy());
    let mut callers: Vec<_> = (0..10).map(|_| world.caller(&H2)).collect();
    assert!(callers.iter_mut().all(|caller| caller.waits(&world)));
    assert_eq!(callers.iter().map(|caller| caller.dials.len()).sum::<usize>(), 1);
    let permit = callers[0].dials.pop().expect("the first dials");
    world.open_shared(permit, 100);
    for caller in &mut callers {
        assert!(caller.rung());
        assert!(caller.take(&world).is_shared());
    }
    world.check();
}

#[test]
fn if_it_turns_out_that_none_is_shared_each_dials_its_own() {
    let mut world = World::new(roomy());
    let mut callers: Vec<_> = (0..3).map(|_| world.caller(&H2)).collect();
    assert!(callers.iter_mut().all(|caller| caller.waits(&world)));
    let permit = callers[0].dials.pop().expect("the first dials");
    world.open(permit);
    let _first = callers[0].take(&world);
    for caller in &mut callers[1..] {
        assert!(caller.rung());
        let _permit = caller.dial(&world);
    }
}

#[test]
fn when_the_one_who_dials_goes_away_the_dial_goes_on() {
    let mut world = World::new(roomy());
    let (mut leader, mut follower) = (world.caller(&H2), world.caller(&H2));
    let permit = leader.dial(&world);
    assert!(follower.waits(&world));
    drop(leader);
    world.open_shared(permit, 10);
    assert!(follower.rung());
    let _stream = follower.take(&world);
}

#[test]
fn when_the_dial_fails_the_next_in_line_dials() {
    let world = World::new(roomy());
    let (mut leader, mut follower) = (world.caller(&H2), world.caller(&H2));
    let permit = leader.dial(&world);
    assert!(follower.waits(&world));
    permit.failed(failure());
    assert!(matches!(leader.poll(&world), Poll::Ready(Err(_))));
    assert!(follower.rung());
    let _permit = follower.dial(&world);
}

#[test]
fn streams_keep_to_the_limit_and_the_next_connection_takes_the_rest() {
    let (mut world, first, mut streams) = shared(2);
    let mut callers: Vec<_> = (0..3).map(|_| world.caller(&H2)).collect();
    streams.push(callers[0].take(&world));
    let permit = callers[1].dial(&world);
    assert!(callers[2].waits(&world) && callers[2].dials.is_empty(), "one dial at a time");
    let second = world.open_shared(permit, 2);
    for caller in &mut callers[1..] {
        let stream = caller.take(&world);
        assert_eq!(stream.number, second);
        streams.push(stream);
    }
    assert_eq!(streams.iter().filter(|stream| stream.number == first).count(), 2);
    world.check();
}

#[test]
fn a_stream_that_ends_serves_the_next_in_line() {
    let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let mut caller = world.caller(&H2);
    let permit = caller.dial(&world);
    world.open_shared(permit, 1);
    let stream = caller.take(&world);
    let (mut first, mut second) = (world.caller(&H2), world.caller(&H2));
    assert!(first.waits(&world) && second.waits(&world));
    drop(stream);
    assert!(first.rung() && !second.rung());
    drop(first.take(&world));
    assert!(second.rung());
    drop(second.take(&world));
}

#[test]
fn a_limit_that_rises_serves_who_waits_and_one_that_falls_takes_nothing_away() {
    let mut world = World::new(PoolConfig { open_per_host_max: 1, ..roomy() });
    let mut caller = world.caller(&H2);
    let permit = caller.dial(&world);
    let number = world.open_shared(permit, 1);
    let mut streams = vec![caller.take(&world)];
    let mut waiting: Vec<_> = (0..3).map(|_| world.caller(&H2)).collect();
    assert!(waiting.iter_mut().all(|caller| caller.waits(&world)));
    let set_limit = |world: &World, limit| {
        world.sockets[number].as_ref().expect("it is open").0.set_limit(limit);
    };
    set_limit(&world, 3);
    assert_eq!(waiting.iter().filter(|caller| caller.rung()).count(), 2);
    streams.push(waiting[0].take(&world));
    streams.push(waiting[1].take(&world));
    set_limit(&world, 1);
    assert!(streams.iter().all(|stream| stream.is_open()));
    streams.pop();
    streams.pop();
    assert!(waiting[2].waits(&world), "one is still there");
    streams.pop();
    let _stream = waiting[2].take(&world);
}

#[test]
fn a_connection_that_is_going_away_takes_no_more_streams_and_goes_with_the_last() {
    let (mut world, number, mut streams) = shared(10);
    world.sockets[number].as_ref().expect("it is open").0.set_draining();
    assert!(world.pool.take(&H2, world.now).is_none());
    let mut caller = world.caller(&H2);
    let permit = caller.dial(&world);
    let other = world.open_shared(permit, 10);
    assert_eq!(caller.take(&world).number, other);
    world.settle();
    assert!(world.is_open(number), "its stream runs to its end");
    streams.clear();
    world.settle();
    assert!(!world.is_open(number));
    world.check();
}

#[test]
fn a_connection_that_goes_away_while_nobody_uses_it_goes_at_once() {
    let (mut world, number, mut streams) = shared(10);
    streams.clear();
    assert_eq!(world.pool.stats().idle, 1);
    world.sockets[number].as_ref().expect("it is open").0.set_draining();
    world.settle();
    assert_eq!(world.pool.stats(), PoolStats::default());
}

#[test]
fn a_shared_connection_that_dies_is_out_of_the_books_and_its_streams_end_in_peace() {
    let (mut world, number, streams) = shared(10);
    world.close_by_peer(number);
    assert_eq!(world.pool.stats().open, 0);
    let mut caller = world.caller(&H2);
    let _permit = caller.dial(&world);
    drop(streams);
    world.check();
}

#[test]
fn an_unused_shared_connection_makes_room_for_another_host() {
    let mut world = World::new(PoolConfig { open_total_max: 1, ..roomy() });
    let mut caller = world.caller(&H2);
    let permit = caller.dial(&world);
    let number = world.open_shared(permit, 10);
    drop(caller.take(&world));
    let mut other = world.caller(&A);
    assert!(other.waits(&world));
    world.settle();
    assert!(other.rung() && !world.is_open(number));
    let _permit = other.dial(&world);
    world.check();
}

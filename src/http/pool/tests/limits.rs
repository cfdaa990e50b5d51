//! The limits, each at its edge.

use super::*;

#[test]
fn a_host_has_no_more_dials_and_sockets_than_its_limit() {
    let mut world = World::new(PoolConfig { open_per_host_max: 2, ..roomy() });
    let mut callers: Vec<_> = (0..4).map(|_| world.caller(&A)).collect();
    assert!(callers.iter_mut().all(|caller| caller.waits(&world)));
    let dials = |callers: &[Caller]| callers.iter().map(|caller| caller.dials.len()).sum::<usize>();
    assert_eq!(dials(&callers), 2);
    let permit = callers[0].dials.pop().expect("it may dial");
    permit.failed(failure());
    assert!(callers[0].poll(&world).is_ready());
    assert!(callers[2].rung());
    let permit = callers[2].dial(&world);
    world.open(permit);
    world.check();
    assert_eq!(world.pool.stats().open, 2);
}

#[test]
fn the_pool_has_no_more_in_all_however_many_shards_there_are() {
    for shards in [1, 16] {
        let world = World::new(PoolConfig { open_total_max: 5, shards, ..roomy() });
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|name| Key(name, false));
        let mut callers: Vec<_> = keys.iter().map(|key| world.caller(key)).collect();
        assert!(callers.iter_mut().all(|caller| caller.waits(&world)));
        let dials: Vec<usize> = callers.iter().map(|caller| caller.dials.len()).collect();
        assert_eq!(dials, [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
        // Each that goes lets the longest waiting in.
        for at in 0..5 {
            drop(callers[at].dials.pop());
            assert!(callers[at + 5].rung() || callers[at].rung(), "{at}");
            world.check();
        }
        assert_eq!(world.pool.stats().open, 5);
    }
}

#[test]
fn a_host_that_waits_gets_the_place_of_another_s_idle_connection() {
    for shards in [1, 16] {
        let mut world = World::new(PoolConfig { open_total_max: 2, shards, ..roomy() });
        let (old, young) = (world.connect(&B), world.connect(&B));
        let numbers = (old.number, young.number);
        world.checkin(old);
        world.pass(Duration::from_secs(1));
        world.checkin(young);
        let mut caller = world.caller(&A);
        assert!(caller.waits(&world));
        world.settle();
        assert!(caller.rung());
        let _permit = caller.dial(&world);
        assert!(!world.is_open(numbers.0), "the longest idle goes");
        assert!(world.is_open(numbers.1));
        world.check();
    }
}

#[test]
fn a_host_that_waits_gets_the_place_of_what_another_gives_back() {
    for shards in [1, 16] {
        let mut world = World::new(PoolConfig { open_total_max: 1, shards, ..roomy() });
        let pooled = world.connect(&B);
        let mut caller = world.caller(&A);
        assert!(caller.waits(&world) && caller.dials.is_empty());
        world.checkin(pooled);
        assert!(caller.rung());
        let permit = caller.dial(&world);
        world.open(permit);
        let _pooled = caller.take(&world);
        world.check();
    }
}

#[test]
fn hosts_that_wait_for_the_pool_take_turns() {
    let mut world = World::new(PoolConfig { open_total_max: 1, ..roomy() });
    let pooled = world.connect(&H2);
    let mut callers: Vec<_> = [&A, &A, &B].into_iter().map(|key| world.caller(key)).collect();
    assert!(callers.iter_mut().all(|caller| caller.waits(&world)));
    drop(pooled);
    let mut order = Vec::new();
    for _ in 0..3 {
        world.settle();
        let at = (0..3).find(|at| callers[*at].rung()).expect("somebody may dial");
        order.push(at);
        let permit = callers[at].dial(&world);
        world.open(permit);
        drop(callers[at].take(&world));
    }
    assert_eq!(order, [0, 2, 1]);
}

#[test]
fn only_so_many_are_kept_idle_for_one_host_the_newest() {
    let mut world = World::new(PoolConfig { idle_per_host_max: 2, ..roomy() });
    let conns: Vec<_> = (0..4).map(|_| world.connect(&A)).collect();
    for conn in conns {
        world.checkin(conn);
    }
    assert_eq!(world.pool.stats().idle, 2);
    assert_eq!((0..4).map(|number| world.is_open(number)).collect::<Vec<_>>(), [false, false, true, true]);
    world.check();
}

#[test]
fn only_so_many_are_kept_idle_in_all() {
    for shards in [1, 16] {
        let mut world = World::new(PoolConfig { idle_total_max: 2, shards, ..roomy() });
        let conns: Vec<_> = [&A, &B, &A, &B].into_iter().map(|key| world.connect(key)).collect();
        for conn in conns {
            world.pass(Duration::from_secs(1));
            world.checkin(conn);
            assert!(world.pool.stats().idle <= 2);
        }
        assert_eq!(world.pool.stats().idle, 2);
        world.check();
    }
}

#[test]
fn none_are_kept_where_none_may_be() {
    for config in
        [PoolConfig { idle_per_host_max: 0, ..roomy() }, PoolConfig { idle_total_max: 0, ..roomy() }]
    {
        let mut world = World::new(config);
        let pooled = world.connect(&A);
        world.checkin(pooled);
        assert_eq!(world.pool.stats(), PoolStats::default());
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_named_by_its_field() {
    let field = |config: PoolConfig| {
        let error = Pool::<Key, Conn>::new(&config).expect_err("it was taken");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.field()
    };
    assert_eq!(field(PoolConfig { shards: 0, ..roomy() }), Some("shards"));
    assert_eq!(field(PoolConfig { shards: 1025, ..roomy() }), Some("shards"));
    assert_eq!(field(PoolConfig { open_per_host_max: 0, ..roomy() }), Some("open_per_host_max"));
    assert_eq!(field(PoolConfig { open_total_max: 0, ..roomy() }), Some("open_total_max"));
    assert_eq!(field(PoolConfig { lifetime_max: Duration::ZERO, ..roomy() }), Some("lifetime_max"));
}

//! Allocations on the client's thread, counted exactly, against the same work done by a hand-written loop.

#[path = "../benches/support/mod.rs"]
mod support;

use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use hpx_transport::{
    env::Timestamp,
    http::{
        h2::Recorder,
        pool::{Connection, Pool, PoolConfig, PoolKey, Step},
    },
};
use support::{Ingest, floor::Floor, ours::Ours, runtime, server};

#[test]
fn a_request_allocates_at_most_once_more_than_the_floor() {
    const TOTAL: usize = 20_000;
    let url = server::start();
    let runtime = runtime();
    let mut floor = runtime.block_on(Floor::connect(&url));
    let mut ours = runtime.block_on(Ours::connect(&url));
    // Queues and buffers have their size after a first round.
    runtime.block_on(floor.requests(64, TOTAL));
    runtime.block_on(ours.requests(64, TOTAL));
    let count = |round: &mut dyn FnMut()| measure(round).count_total as f64 / TOTAL as f64;
    let floor = count(&mut || {
        runtime.block_on(floor.requests(64, TOTAL));
    });
    let ours = count(&mut || {
        runtime.block_on(ours.requests(64, TOTAL));
    });
    println!("allocations per request: floor {floor:.3}, ours {ours:.3}");
    assert!(ours <= floor + 1.0, "{ours:.3} for a floor of {floor:.3}");
}

#[test]
fn a_routed_message_allocates_less_than_a_tenth() {
    let url = server::start();
    let runtime = runtime();
    for topics in [1, 100] {
        let ingest = Ingest { size: 128, topics, messages: 200_000 };
        let mut ours = runtime.block_on(Ours::connect(&url));
        let guards = runtime.block_on(ours.subscribe(topics));
        let (_, guards, _) = runtime.block_on(ours.ingest(guards, ingest));
        let mut lost = 0;
        let counted = measure(|| {
            let (_, guards, lagged) = runtime.block_on(ours.ingest(guards, ingest));
            lost = lagged;
            drop(guards);
        });
        let each = counted.count_total as f64 / server::pushed(ingest) as f64;
        println!("allocations per message, {topics} topic(s): {each:.4}; {lost} lost to lag");
        assert!(each <= 0.1, "{each:.4} per message over {topics} topics");
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Host(String);

impl PoolKey for Host {}

struct Conn;

impl Connection for Conn {
    fn is_open(&self) -> bool {
        true
    }

    fn last_active(&self) -> Timestamp {
        Timestamp::ZERO
    }
}

#[test]
fn a_pool_hit_allocates_nothing() {
    let pool: Pool<Host, Conn> = Pool::new(&PoolConfig::default()).expect("a valid configuration");
    let key = Host("example.test".to_owned());
    let slot = pool.host(&key);
    let mut checkout = slot.checkout();
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(Step::Dial(mut permit))) = checkout.poll_next(&mut cx, Timestamp::ZERO) else {
        panic!("nothing is there yet")
    };
    permit.opened(Conn, Timestamp::ZERO);
    drop(checkout);
    let counted = measure(|| {
        for _ in 0..1000 {
            slot.take(Timestamp::ZERO).expect("it is idle").checkin();
            pool.take(&key, Timestamp::ZERO).expect("it is idle").checkin();
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn counting_what_was_received_allocates_nothing() {
    let recorder = Recorder::new();
    let counted = measure(|| {
        for _ in 0..1000 {
            recorder.record_data(16_384);
            recorder.record_non_data();
        }
    });
    assert_eq!((counted.count_total, recorder.received()), (0, 16_384_000));
}

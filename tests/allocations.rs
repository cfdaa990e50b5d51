//! Allocations on the client's thread, counted exactly, against the same work done by a hand-written loop.

#[path = "../benches/support/mod.rs"]
mod support;

use allocation_counter::measure;
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

//! A read that nobody allowed trips; what is fed is the seed's, on its own thread alone.
#![cfg(target_os = "linux")]

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use hpx_sim::{Backend, Plan, SimHandler, Simulation};
use hpx_tripwire::{allow, supply, trip};

fn simulation(backend: Backend, ask: fn()) -> Simulation {
    // A handler is made as its connection starts: inside the run.
    Simulation::of(Plan::draw(3)).backend(backend).handler(move || {
        ask();
        SimHandler
    })
}

fn asks_nobody() {}

fn asks_the_wall() {
    let _ = SystemTime::now();
}

/// The functions on the way of reads that are not on the list.
fn strangers(simulation: Simulation) -> Vec<String> {
    let (report, reads) = trip(simulation);
    assert!(report.is_green(), "{report}");
    let list = allow::list();
    reads.into_iter().filter(|read| allow::allows(&list, read).is_none()).map(|read| read.backtrace).collect()
}

#[test]
fn a_read_of_the_wall_clock_inside_a_run_is_named_by_its_function() {
    for backend in Backend::ALL {
        let found = strangers(simulation(backend, asks_the_wall));
        assert!(!found.is_empty(), "{}", backend.name());
        assert!(found.iter().all(|trace| trace.contains("asks_the_wall")), "{found:#?}");
    }
}

#[test]
fn a_run_that_asks_nobody_trips_nothing() {
    for backend in Backend::ALL {
        assert_eq!(strangers(simulation(backend, asks_nobody)), Vec::<String>::new(), "{}", backend.name());
    }
}

#[test]
fn what_is_fed_follows_from_the_seed_and_reaches_no_other_thread() {
    // std's hashers draw their keys once a thread; a run has a thread of its own.
    let drawn = |seed| {
        let key = Arc::new(Mutex::new(0));
        let found = Arc::clone(&key);
        let before = move || *found.lock().expect("nobody panics") = RandomState::new().hash_one(1);
        let mut plan = Plan::draw(3);
        plan.seed = seed;
        supply(Simulation::of(plan).handler(move || {
            before();
            SimHandler
        }));
        *key.lock().expect("nobody panics")
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let outside = || std::thread::spawn(|| RandomState::new().hash_one(1)).join().expect("it ends");
    assert_ne!(outside(), drawn(1));
}

#[test]
fn with_entropy_from_the_seed_two_runs_have_the_same_bytes() {
    for backend in Backend::ALL {
        // Over TLS nothing but entropy tells two runs apart.
        let mut plan = Plan::draw(5);
        plan.clients.iter_mut().for_each(|client| client.tls = true);
        let run = || supply(Simulation::of(plan.clone()).backend(backend)).byte_digest();
        let first = run();
        assert!(first.is_some());
        assert_eq!(first, run(), "{}", backend.name());
    }
}

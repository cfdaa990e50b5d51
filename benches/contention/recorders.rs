//! Who counts the bytes of a connection's bodies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use hpx_transport::http::h2::Recorder;
use parking_lot::Mutex;

use super::{Contender, Entry, Made};

struct Ours(Recorder);

impl Contender for Ours {
    fn once(&self, _: usize, _: usize) {
        self.0.record_data(16_384);
    }
}

/// What a recorder under one lock does for each frame while it samples: stamp, add, look whether a ping is due.
struct Locked {
    state: std::sync::Mutex<State>,
}

struct State {
    bytes: usize,
    ping_sent: bool,
    heard: Instant,
    next: Instant,
}

impl Contender for Locked {
    fn once(&self, _: usize, _: usize) {
        let mut state = self.state.lock().expect("no panic");
        let now = Instant::now();
        state.heard = now;
        if now < state.next {
            state.bytes += 16_384;
            return;
        }
        state.bytes += 16_384;
        state.ping_sent = true;
    }
}

/// The same under parking_lot's lock.
struct Parked(Mutex<(usize, Instant)>);

impl Contender for Parked {
    fn once(&self, _: usize, _: usize) {
        let mut state = self.0.lock();
        *state = (state.0 + 16_384, Instant::now());
    }
}

/// The floor.
struct Bare(AtomicU64);

impl Contender for Bare {
    fn once(&self, _: usize, _: usize) {
        self.0.fetch_add(16_384, Ordering::Relaxed);
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    let entry = |name, make: fn() -> Made| Entry { name, make: Box::new(move |_, _| make()) };
    vec![
        entry("ours", || Arc::new(Ours(Recorder::new()))),
        entry("floor: one relaxed fetch_add", || Arc::new(Bare(AtomicU64::new(0)))),
        entry("mutexed recorder (std)", || {
            let state = State { bytes: 0, ping_sent: false, heard: Instant::now(), next: Instant::now() };
            Arc::new(Locked { state: std::sync::Mutex::new(state) })
        }),
        entry("mutexed recorder (parking_lot)", || Arc::new(Parked(Mutex::new((0, Instant::now()))))),
    ]
}

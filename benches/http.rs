//! The HTTP client over loopback, beside hyper-util's and beside the bare connections (the floor).
//!
//! `cargo bench --bench http` prints two tables: requests with small responses, and one large body over a link with a round trip
//! of 20 ms. `-- small` and `-- bulk` print one.
//!
//! Rounds alternate and medians count. The client is one thread on one core, its server another on another; the client's
//! processor time counts neither the server nor what else the machine does.
#![allow(missing_docs, reason = "a benchmark has no API")]

#[path = "http/bulk.rs"]
mod bulk;
#[path = "support/cores.rs"]
mod cores;
#[path = "http/servers.rs"]
mod servers;
#[path = "http/small.rs"]
mod small;

use std::time::Duration;

use tokio::runtime::Runtime;

const ROUNDS: usize = 7;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    // `cargo test --benches` only asks whether it builds and starts.
    let (rounds, scale) = if words.iter().any(|word| word == "--bench") { (ROUNDS, 1) } else { (1, 100) };
    let asks = |name: &str| {
        let is_named = |word: &String| ["small", "bulk"].contains(&word.as_str());
        words.iter().any(|word| word == name) || !words.iter().any(is_named)
    };
    cores::bind(0);
    if asks("small") {
        small::table(servers::serve_h1(), servers::serve_h2(Duration::ZERO, None), rounds, scale);
    }
    if asks("bulk") {
        bulk::table(rounds, scale);
    }
}

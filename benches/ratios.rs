//! Ours next to the floor, in turns, in one process: the figures of record. `cargo bench --bench ratios`.
//!
//! The machine may be shared and noisy; a ratio within one run holds where an absolute figure doesn't. Rounds alternate, and
//! the median of each side counts.
#![allow(missing_docs, reason = "a benchmark has no API")]

mod support;

use std::time::Duration;

use hpx_transport::websocket::WsMessage;
use support::{Ingest, floor::Floor, ours::Ours, runtime, server};

const ROUNDS: usize = 9;

fn main() {
    // `cargo test --benches` only asks whether it builds and starts.
    let rounds = if std::env::args().any(|word| word == "--bench") { ROUNDS } else { 1 };
    let scale = if rounds == 1 { 100 } else { 1 };
    let url = server::start();
    println!("{:<38} {:>12} {:>12} {:>8}  target", "", "floor", "ours", "ratio");
    runtime().block_on(async {
        latency(&url, rounds, 20_000 / scale).await;
        for (in_flight, target) in [(64, ">= 0.90"), (512, ">= 0.85")] {
            throughput(&url, rounds, in_flight, 400_000 / scale, target).await;
        }
        for (size, topics, target) in
            [(128, 1, ">= 0.75"), (128, 100, ">= 0.75"), (4096, 1, ">= 0.85"), (4096, 100, ">= 0.85")]
        {
            let ingest = Ingest { size, topics, messages: (256 << 20) / size / scale };
            feed(&url, rounds, ingest, target).await;
        }
        topics_scale(&url, rounds, scale).await;
        pending_scale(&url, rounds, scale).await;
    });
}

async fn latency(url: &str, rounds: usize, total: usize) {
    let (mut floor, mut ours) = (Floor::connect(url).await, Ours::connect(url).await);
    let mut times = Times::default();
    for _ in 0..rounds {
        times.floor.push(floor.requests(1, total).await);
        times.ours.push(ours.one_by_one(total).await);
    }
    let (floor, ours) = times.medians();
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / total as f64;
    row("request, 1 in flight, us", micros(floor), micros(ours), micros(ours) / micros(floor), "<= 1.05");
}

async fn throughput(url: &str, rounds: usize, in_flight: usize, total: usize, target: &str) {
    let (mut floor, mut ours) = (Floor::connect(url).await, Ours::connect(url).await);
    let mut times = Times::default();
    for _ in 0..rounds {
        times.floor.push(floor.requests(in_flight, total).await);
        times.ours.push(ours.requests(in_flight, total).await);
    }
    let rates = times.rates(total);
    row(&format!("requests, {in_flight} in flight, /s"), rates.0, rates.1, rates.1 / rates.0, target);
}

async fn feed(url: &str, rounds: usize, ingest: Ingest, target: &str) {
    let (mut floor, mut ours) = (Floor::connect(url).await, Ours::connect(url).await);
    let mut guards = ours.subscribe(ingest.topics).await;
    let mut times = Times::default();
    let mut lost = 0;
    for _ in 0..rounds {
        times.floor.push(floor.ingest(ingest).await);
        let (time, back, lagged) = ours.ingest(guards, ingest).await;
        times.ours.push(time);
        guards = back;
        lost += lagged;
    }
    let rates = times.rates(server::pushed(ingest));
    let name = format!("ingest, {} B, {} topic(s), /s", ingest.size, ingest.topics);
    row(&name, rates.0, rates.1, rates.1 / rates.0, target);
    if lost > 0 {
        println!("{:<38} {lost} messages lost to lag", "");
    }
}

/// Messages of ten topics, with ten subscribed and with ten thousand.
async fn topics_scale(url: &str, rounds: usize, scale: usize) {
    let ingest = Ingest { size: 128, topics: 10, messages: 1_000_000 / scale };
    let (mut few, mut many) = (Ours::connect(url).await, Ours::connect(url).await);
    let mut few_guards = few.subscribe(10).await;
    let mut many_guards = many.subscribe(10_000).await;
    let idle = many_guards.split_off(10);
    let mut times = Times::default();
    for _ in 0..rounds {
        let (time, back, _) = few.ingest(few_guards, ingest).await;
        times.floor.push(time);
        few_guards = back;
        let (time, back, _) = many.ingest(many_guards, ingest).await;
        times.ours.push(time);
        many_guards = back;
    }
    drop(idle);
    let (few, many) = times.medians();
    let nanos = |time: Duration| time.as_secs_f64() * 1e9 / server::pushed(ingest) as f64;
    row("message, 10 and 10,000 topics, ns", nanos(few), nanos(many), nanos(many) / nanos(few), "<= 1.5");
}

/// Requests with ten others unanswered, and with ten thousand.
async fn pending_scale(url: &str, rounds: usize, scale: usize) {
    let total = 200_000 / scale;
    let (mut few, mut many) = (Ours::connect(url).await, Ours::connect(url).await);
    let local = tokio::task::LocalSet::new();
    for (client, held) in [(&few, 10), (&many, 10_000)] {
        for _ in 0..held {
            let handle = client.handle().clone();
            local.spawn_local(async move {
                // The server never answers these.
                let _ = handle.request_message(WsMessage::text(r#"{"op":"hold"}"#)).await;
            });
        }
    }
    let times = local
        .run_until(async {
            while few.handle().pending_count() < 10 || many.handle().pending_count() < 10_000 {
                tokio::task::yield_now().await;
            }
            let mut times = Times::default();
            for _ in 0..rounds {
                times.floor.push(few.requests(64, total).await);
                times.ours.push(many.requests(64, total).await);
            }
            times
        })
        .await;
    let (few, many) = times.medians();
    let nanos = |time: Duration| time.as_secs_f64() * 1e9 / total as f64;
    row("request, 10 and 10,000 pending, ns", nanos(few), nanos(many), nanos(many) / nanos(few), "<= 1.5");
}

#[derive(Default)]
struct Times {
    floor: Vec<Duration>,
    ours: Vec<Duration>,
}

impl Times {
    fn medians(mut self) -> (Duration, Duration) {
        self.floor.sort();
        self.ours.sort();
        (self.floor[self.floor.len() / 2], self.ours[self.ours.len() / 2])
    }

    fn rates(self, total: usize) -> (f64, f64) {
        let (floor, ours) = self.medians();
        (total as f64 / floor.as_secs_f64(), total as f64 / ours.as_secs_f64())
    }
}

fn row(name: &str, floor: f64, ours: f64, ratio: f64, target: &str) {
    let width = if floor < 1000.0 { 1 } else { 0 };
    println!("{name:<38} {floor:>12.width$} {ours:>12.width$} {ratio:>8.2}  {target}");
}

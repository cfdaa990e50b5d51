//! Ours next to the floor, in turns, in one process: the figures of record. `cargo bench --bench ratios`.
//!
//! The machine may be shared and noisy; a ratio within one run holds where an absolute figure doesn't. Rounds alternate, and
//! the median of each side counts. The client is bound to one core and its server to another, or both to one for latency:
//! left to the scheduler, which of the two sides has its server beside it decides more than the code. The last two columns
//! are the client thread's processor time for each: what else runs on the machine doesn't count in them.
#![allow(missing_docs, reason = "a benchmark has no API")]

mod support;

use std::time::Duration;

use hpx_transport::websocket::WsMessage;
use support::{Ingest, cores, floor::Floor, ours::Ours, runtime, server};

const ROUNDS: usize = 9;

fn main() {
    // `cargo test --benches` only asks whether it builds and starts.
    let rounds = if std::env::args().any(|word| word == "--bench") { ROUNDS } else { 1 };
    let scale = if rounds == 1 { 100 } else { 1 };
    let (beside, apart) = (server::start_on(0), server::start_on(1));
    cores::bind(0);
    let header = ["", "floor", "ours", "ratio", "target", "cpu floor", "cpu ours, ns"];
    let [name, floor, ours, ratio, target, cpu_floor, cpu_ours] = header;
    println!("{name:<38} {floor:>12} {ours:>12} {ratio:>8}  {target:<8} {cpu_floor:>10} {cpu_ours:>12}");
    runtime().block_on(async {
        latency(&beside, rounds, 20_000 / scale).await;
        for (in_flight, target) in [(64, ">= 0.90"), (512, ">= 0.85")] {
            throughput(&apart, rounds, in_flight, 400_000 / scale, target).await;
        }
        for (size, topics, target) in
            [(128, 1, ">= 0.75"), (128, 100, ">= 0.75"), (4096, 1, ">= 0.85"), (4096, 100, ">= 0.85")]
        {
            let ingest = Ingest { size, topics, messages: (256 << 20) / size / scale };
            feed(&apart, rounds, ingest, target).await;
        }
        topics_scale(&apart, rounds, scale).await;
        pending_scale(&apart, rounds, scale).await;
    });
}

async fn latency(url: &str, rounds: usize, total: usize) {
    let (mut floor, mut ours) = (Floor::connect(url).await, Ours::connect(url).await);
    let mut times = Times::default();
    for _ in 0..rounds {
        times.floor.push(timed(async { floor.requests(1, total).await }).await);
        times.ours.push(timed(async { ours.one_by_one(total).await }).await);
    }
    times.row("request, 1 in flight, one core, ns", Unit::Nanos, total, "<= 1.05");
}

async fn throughput(url: &str, rounds: usize, in_flight: usize, total: usize, target: &str) {
    let (mut floor, mut ours) = (Floor::connect(url).await, Ours::connect(url).await);
    let mut times = Times::default();
    for _ in 0..rounds {
        times.floor.push(timed(async { floor.requests(in_flight, total).await }).await);
        times.ours.push(timed(async { ours.requests(in_flight, total).await }).await);
    }
    times.row(&format!("requests, {in_flight} in flight, /s"), Unit::Rate, total, target);
}

async fn feed(url: &str, rounds: usize, ingest: Ingest, target: &str) {
    let (mut floor, mut ours) = (Floor::connect(url).await, Ours::connect(url).await);
    let mut guards = ours.subscribe(ingest.topics).await;
    let mut times = Times::default();
    let mut lost = 0;
    for _ in 0..rounds {
        times.floor.push(timed(async { floor.ingest(ingest).await }).await);
        let before = cores::processor_time();
        let (time, back, lagged) = ours.ingest(guards, ingest).await;
        times.ours.push((time, cores::processor_time() - before));
        guards = back;
        lost += lagged;
    }
    let name = format!("ingest, {} B, {} topic(s), /s", ingest.size, ingest.topics);
    times.row(&name, Unit::Rate, server::pushed(ingest), target);
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
        let before = cores::processor_time();
        let (time, back, _) = few.ingest(few_guards, ingest).await;
        times.floor.push((time, cores::processor_time() - before));
        few_guards = back;
        let before = cores::processor_time();
        let (time, back, _) = many.ingest(many_guards, ingest).await;
        times.ours.push((time, cores::processor_time() - before));
        many_guards = back;
    }
    drop(idle);
    times.row("message, 10 and 10,000 topics, ns", Unit::Nanos, server::pushed(ingest), "<= 1.5");
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
                times.floor.push(timed(async { few.requests(64, total).await }).await);
                times.ours.push(timed(async { many.requests(64, total).await }).await);
            }
            times
        })
        .await;
    times.row("request, 10 and 10,000 pending, ns", Unit::Nanos, total, "<= 1.5");
}

/// A round with its processor time.
async fn timed(round: impl Future<Output = Duration>) -> (Duration, Duration) {
    let before = cores::processor_time();
    let time = round.await;
    (time, cores::processor_time() - before)
}

/// Time and processor time of every round.
#[derive(Default)]
struct Times {
    floor: Vec<(Duration, Duration)>,
    ours: Vec<(Duration, Duration)>,
}

/// What a row shows.
enum Unit {
    /// So many a second: more is better.
    Rate,
    /// Nanoseconds each: less is better.
    Nanos,
}

impl Times {
    /// Prints the medians, each for `total` of what was measured.
    fn row(&self, name: &str, unit: Unit, total: usize, target: &str) {
        let each = |median: Duration| median.as_secs_f64() * 1e9 / total as f64;
        let shown = |rounds: &[(Duration, Duration)]| {
            let nanos = each(median(rounds.iter().map(|round| round.0)));
            match unit {
                Unit::Rate => 1e9 / nanos,
                Unit::Nanos => nanos,
            }
        };
        let cpu = |rounds: &[(Duration, Duration)]| each(median(rounds.iter().map(|round| round.1)));
        let (floor, ours) = (shown(&self.floor), shown(&self.ours));
        let (cpu_floor, cpu_ours) = (cpu(&self.floor), cpu(&self.ours));
        let ratio = ours / floor;
        println!(
            "{name:<38} {floor:>12.0} {ours:>12.0} {ratio:>8.2}  {target:<8} {cpu_floor:>10.0} {cpu_ours:>12.0}"
        );
    }
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times[times.len() / 2]
}

//! Checkout and checkin, and `record_data`, under contention: ours beside others.
//!
//! `cargo bench --bench contention` measures with criterion; `cargo bench --bench contention -- table` prints one table of
//! medians and ratios (`-- table '10 hosts'` those rows), for which every contender takes its turn in each of many rounds, each round with another seed of our
//! hash. Threads are started before the clock. A figure is the wall time by all operations of all threads.
//!
//! Every checkout reads the clock once, as a request does. Every pool's limits and expiry are on.
#![allow(missing_docs, reason = "a benchmark has no API")]

#[path = "contention/pools.rs"]
mod pools;
#[path = "contention/recorders.rs"]
mod recorders;

use std::{
    hint::black_box,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};

/// Something many threads do at once.
trait Contender: Send + Sync + 'static {
    /// One operation: the `turn`-th of thread `task`.
    fn once(&self, task: usize, turn: usize);
}

type Made = Arc<dyn Contender>;

/// A name and how to make one for so many tasks, with this seed.
struct Entry {
    name: &'static str,
    make: Box<dyn Fn(usize, u64) -> Made>,
}

/// The wall time of `turns` operations in each of so many threads.
fn measure(contender: &Made, tasks: usize, turns: usize) -> Duration {
    let barrier = Arc::new(Barrier::new(tasks + 1));
    let threads: Vec<_> = (0..tasks)
        .map(|task| {
            let (contender, barrier) = (Arc::clone(contender), Arc::clone(&barrier));
            thread::spawn(move || {
                // Warm, and past its first allocations.
                (0..64).for_each(|turn| contender.once(task, turn));
                barrier.wait();
                (0..turns).for_each(|turn| contender.once(task, black_box(turn)));
                barrier.wait();
            })
        })
        .collect();
    barrier.wait();
    let begun = Instant::now();
    barrier.wait();
    let took = begun.elapsed();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    took
}

struct Row {
    name: String,
    tasks: usize,
    entries: Vec<Entry>,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (hosts, tasks) in
        [(1, 1), (1, 4), (1, 16), (10, 1), (10, 4), (10, 16), (1000, 1), (1000, 4), (1000, 16)]
    {
        let name = format!("pool, {hosts} hosts, {tasks} tasks");
        rows.push(Row { name, tasks, entries: pools::entries(hosts) });
    }
    for tasks in [1, 4, 16] {
        rows.push(Row {
            name: format!("record_data, {tasks} threads"),
            tasks,
            entries: recorders::entries(),
        });
    }
    rows
}

/// One table: medians over rounds in which all take turns.
fn table(rounds: usize, turns: usize, only: &str) {
    for row in rows().into_iter().filter(|row| row.name.contains(only)) {
        let mut figures = vec![Vec::new(); row.entries.len()];
        for round in 0..rounds {
            for (entry, figures) in row.entries.iter().zip(&mut figures) {
                let contender = (entry.make)(row.tasks, round as u64);
                let each = turns / row.tasks;
                let took = measure(&contender, row.tasks, each);
                figures.push(took.as_nanos() as f64 / (each * row.tasks) as f64);
            }
        }
        let medians: Vec<f64> = figures
            .into_iter()
            .map(|mut of| {
                of.sort_by(f64::total_cmp);
                of[of.len() / 2]
            })
            .collect();
        println!("{}", row.name);
        for (entry, median) in row.entries.iter().zip(&medians) {
            println!("    {:<44} {median:>9.1} ns {:>8.2} x ours", entry.name, median / medians[0]);
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.iter().any(|word| word == "table") {
        let only = words.iter().skip_while(|word| *word != "table").nth(1);
        return table(15, 200_000, only.filter(|word| !word.starts_with('-')).map_or("", String::as_str));
    }
    // `cargo test --benches` only asks whether it builds and starts.
    if !words.iter().any(|word| word == "--bench") {
        return table(1, 64, "");
    }
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(200));
    for row in rows() {
        let mut group = criterion.benchmark_group(&row.name);
        for entry in &row.entries {
            group.bench_function(BenchmarkId::from_parameter(entry.name), |bench| {
                let mut seed = 0;
                bench.iter_custom(|turns| {
                    seed += 1;
                    let contender = (entry.make)(row.tasks, seed);
                    measure(&contender, row.tasks, turns as usize) / row.tasks as u32
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

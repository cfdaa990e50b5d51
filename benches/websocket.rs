//! Requests and ingest over loopback sockets, ours and the floor side by side. For the ratios of record see `ratios`.
#![allow(missing_docs, reason = "a benchmark has no API")]

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{Ingest, floor::Floor, ours::Ours, runtime, server};

fn requests(criterion: &mut Criterion) {
    let url = server::start();
    let runtime = runtime();
    let mut group = criterion.benchmark_group("requests");
    group.throughput(Throughput::Elements(1));
    for in_flight in [1, 64, 512] {
        let mut floor = runtime.block_on(Floor::connect(&url));
        group.bench_function(BenchmarkId::new("floor", in_flight), |bench| {
            bench.iter_custom(|total| runtime.block_on(floor.requests(in_flight, total as usize)));
        });
        let mut ours = runtime.block_on(Ours::connect(&url));
        group.bench_function(BenchmarkId::new("ours", in_flight), |bench| {
            bench.iter_custom(|total| match in_flight {
                1 => runtime.block_on(ours.one_by_one(total as usize)),
                _ => runtime.block_on(ours.requests(in_flight, total as usize)),
            });
        });
    }
    group.finish();
}

fn ingest(criterion: &mut Criterion) {
    let url = server::start();
    let runtime = runtime();
    let mut group = criterion.benchmark_group("ingest");
    for (size, topics) in [(128, 1), (128, 100), (4096, 1), (4096, 100)] {
        let ingest = Ingest { size, topics, messages: (16 << 20) / size };
        group.throughput(Throughput::Elements(server::pushed(ingest) as u64));
        let name = format!("{size}B-{topics}");
        let mut floor = runtime.block_on(Floor::connect(&url));
        group.bench_function(BenchmarkId::new("floor", &name), |bench| {
            bench.iter_custom(|rounds| (0..rounds).map(|_| runtime.block_on(floor.ingest(ingest))).sum());
        });
        let mut ours = runtime.block_on(Ours::connect(&url));
        let mut guards = runtime.block_on(ours.subscribe(topics));
        group.bench_function(BenchmarkId::new("ours", &name), |bench| {
            bench.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        let (time, back, _) =
                            runtime.block_on(ours.ingest(std::mem::take(&mut guards), ingest));
                        guards = back;
                        time
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests, ingest);
criterion_main!(benches);

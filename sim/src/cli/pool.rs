//! Work on many seeds at once, whose results come back in the order of the seeds.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
};

/// Does `work` for every seed, `jobs` at a time, and hands each result to `take`, in the order of the seeds and on this
/// thread. Once `stop` is set no further seed is begun; those under way are finished and handed over.
///
/// What waits for a slow seed before it is kept: `work` should return little.
pub(super) fn in_order<R: Send>(
    seeds: impl Iterator<Item = u64> + Send,
    jobs: usize,
    stop: &AtomicBool,
    work: impl Fn(u64) -> R + Sync,
    mut take: impl FnMut(u64, R),
) {
    let seeds = Mutex::new(seeds.enumerate());
    let next = || {
        // The number is drawn with the seed: what is begun is a prefix of the range, also after a stop.
        let mut seeds = seeds.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.load(Ordering::Relaxed) { None } else { seeds.next() }
    };
    // Bounded by the jobs: whoever is ahead of the one who takes waits.
    let (sender, receiver) = sync_channel(jobs);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((index, seed)) = next() {
                    // Nobody listens any more only if `take` panicked, which ends everything anyway.
                    if sender.send((index, seed, work(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut expected) = (BTreeMap::new(), 0);
        for (index, seed, result) in receiver {
            early.insert(index, (seed, result));
            while let Some((seed, result)) = early.remove(&expected) {
                expected += 1;
                take(seed, result);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_seeds_however_long_each_takes() {
        let stop = AtomicBool::new(false);
        let mut taken = Vec::new();
        // The first of each four waits for the others to have gone ahead.
        let ahead = Mutex::new(0);
        let work = |seed: u64| {
            let mut rounds = if seed.is_multiple_of(4) { 1000 } else { 0 };
            while rounds > 0 && *ahead.lock().unwrap() < seed + 2 {
                std::thread::yield_now();
                rounds -= 1;
            }
            *ahead.lock().unwrap() += 1;
            seed * 10
        };
        in_order(0..40, 4, &stop, work, |seed, result| taken.push((seed, result)));
        assert_eq!(taken, (0..40).map(|seed| (seed, seed * 10)).collect::<Vec<_>>());
    }

    #[test]
    fn a_stop_leaves_a_prefix_of_the_seeds_done() {
        let stop = AtomicBool::new(false);
        let mut taken = Vec::new();
        in_order(
            0..1_000_000,
            3,
            &stop,
            |seed| seed,
            |seed, _| {
                taken.push(seed);
                stop.store(seed >= 20, Ordering::Relaxed);
            },
        );
        assert!((21..1000).contains(&taken.len()), "{} were done", taken.len());
        assert_eq!(taken, (0..taken.len() as u64).collect::<Vec<_>>());
    }
}

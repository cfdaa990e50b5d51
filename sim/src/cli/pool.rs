//! Work on many seeds at once, whose results come back in the order of the seeds.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
};

/// Seeds a job may be ahead of the results taken: what one slow seed lets the others pile up. A slow seed takes as long
/// as some hundred others.
const AHEAD: usize = 1024;

/// Does `work` for every seed, `jobs` at a time, and hands each result to `take`, in the order of the seeds and on this
/// thread. Once `stop` is set no further seed is begun; those under way are finished and handed over.
///
/// What waits for a slow seed before it is kept, up to [`AHEAD`] results a job: `work` should return little.
pub(super) fn in_order<R: Send>(
    seeds: impl Iterator<Item = u64> + Send,
    jobs: usize,
    stop: &AtomicBool,
    work: impl Fn(u64) -> R + Sync,
    mut take: impl FnMut(u64, R),
) {
    // A seed is begun for a permit, which comes back as its result is taken.
    let (permits, permitted) = sync_channel(AHEAD * jobs);
    for () in std::iter::repeat_n((), AHEAD * jobs) {
        permits.send(()).expect("the channel has room for every permit");
    }
    let seeds = Mutex::new((seeds.enumerate(), permitted));
    let next = || {
        // The number is drawn with the seed: what is begun is a prefix of the range, also after a stop.
        let mut seeds = seeds.lock().unwrap_or_else(PoisonError::into_inner);
        // The one who gives permits is gone only if `take` panicked, which ends everything anyway.
        seeds.1.recv().ok()?;
        if stop.load(Ordering::Relaxed) { None } else { seeds.0.next() }
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
        // Dropped with this closure: workers who wait for one must not outlast a panic of `take`.
        let permits = permits;
        let (mut early, mut expected) = (BTreeMap::new(), 0);
        for (index, seed, result) in receiver {
            early.insert(index, (seed, result));
            while let Some((seed, result)) = early.remove(&expected) {
                expected += 1;
                take(seed, result);
                // Nobody wants one any more once all seeds are begun.
                let _ = permits.try_send(());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

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
        assert!((21..=21 + 3 * AHEAD).contains(&taken.len()), "{} were done", taken.len());
        assert_eq!(taken, (0..taken.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_slow_seed_holds_the_others_up_before_their_results_pile_up() {
        let (begun, taken, seeds) = (AtomicU64::new(0), AtomicU64::new(0), 4 * AHEAD as u64);
        let work = |seed: u64| {
            begun.fetch_add(1, Ordering::SeqCst);
            // The first ends when every other seed that may begin before it has begun.
            while seed == 0 && begun.load(Ordering::SeqCst) < 2 * AHEAD as u64 {
                std::thread::yield_now();
            }
            assert!(seed < taken.load(Ordering::SeqCst) + 2 * AHEAD as u64, "seed {seed} was begun");
        };
        in_order(0..seeds, 2, &AtomicBool::new(false), work, |_, ()| {
            taken.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(taken.into_inner(), seeds);
    }

    #[test]
    #[should_panic(expected = "no more")]
    fn a_panic_of_the_one_who_takes_ends_the_work() {
        in_order(0..u64::MAX, 2, &AtomicBool::new(false), |_| (), |_, ()| panic!("no more"));
    }
}

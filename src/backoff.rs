//! When to try again: capped exponential growth, full jitter, forgotten only after a stable period.
//!
//! Pure: the draws come from a generator that was seeded once per connection, so a simulation can redraw every wait from
//! the same seed and compare.

use std::time::Duration;

use crate::planted::{self, Bug};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

/// The shape of the waits between attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffPolicy {
    /// Upper bound of the first wait.
    pub initial: Duration,
    /// Upper bound of every wait.
    pub max: Duration,
    /// Growth of the upper bound from one attempt to the next; at least 1.
    pub factor: f64,
    /// Share of the wait that is random, from 0 (exact) to 1 (full jitter: anything from zero to the bound).
    pub jitter: f64,
}

impl BackoffPolicy {
    /// The upper bound of the wait before attempt `attempt`, counted from 1.
    pub fn bound(&self, attempt: u32) -> Duration {
        // Bounded: growth stops at the cap.
        let max = self.max.as_secs_f64();
        let mut bound = self.initial.as_secs_f64();
        for _ in 1..attempt {
            if bound >= max || bound <= 0.0 || self.factor <= 1.0 {
                break;
            }
            bound *= self.factor;
        }
        if bound >= max { self.max } else { Duration::from_secs_f64(bound) }
    }
}

/// The retries of one connection.
///
/// ```
/// use std::time::Duration;
/// use hpx_transport::backoff::{Backoff, BackoffPolicy};
///
/// let policy = BackoffPolicy {
///     initial: Duration::from_secs(1),
///     max: Duration::from_secs(60),
///     factor: 2.0,
///     jitter: 0.0,
/// };
/// let mut backoff = Backoff::new(policy, [7; 32]);
/// assert_eq!(backoff.next_delay(None), Duration::from_secs(1));
/// assert_eq!(backoff.next_delay(None), Duration::from_secs(2));
/// backoff.reset();
/// assert_eq!(backoff.next_delay(None), Duration::from_secs(1));
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    rng: ChaCha12Rng,
    attempt: u32,
}

impl Backoff {
    /// No attempt made yet; `seed` is the connection's, as its `Entropy` gave it.
    pub fn new(policy: BackoffPolicy, seed: [u8; 32]) -> Self {
        let seed = if planted::alive(Bug::JitterShared) { [0; 32] } else { seed };
        Self { policy, rng: stream(seed, Purpose::Backoff), attempt: 0 }
    }

    /// Attempts since the last stable period.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Counts one more attempt and draws the wait before it. `hint` is a wait the peer asked for (Retry-After): it raises
    /// the draw, and never above the policy's maximum.
    pub fn next_delay(&mut self, hint: Option<Duration>) -> Duration {
        self.attempt = self.attempt.saturating_add(1);
        let bound = match planted::alive(Bug::BackoffNotCapped) {
            true => self.policy.initial * 2_u32.saturating_pow(self.attempt.min(16)),
            false => self.policy.bound(self.attempt),
        };
        let draw = self.rng.next_u64();
        let random = bound.mul_f64(self.policy.jitter.clamp(0.0, 1.0)).min(bound);
        let exact = bound - random;
        let wait = exact + scale(random, draw);
        wait.max(hint.unwrap_or_default().min(self.policy.max))
    }

    /// A stable period has passed: growth starts anew.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// What a connection draws randomness for. One stream each, so that a draw added to one never moves another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Backoff = 1,
    /// Nonces of upgrades and the masks of frames.
    Links = 2,
    Hasher = 3,
}

/// The generator of one purpose.
pub(crate) fn stream(seed: [u8; 32], purpose: Purpose) -> ChaCha12Rng {
    let mut rng = ChaCha12Rng::from_seed(seed);
    rng.set_stream(purpose as u64);
    rng
}

/// `span` times `draw / 2^64`, in integers: equal on every machine.
fn scale(span: Duration, draw: u64) -> Duration {
    let nanos = (span.as_nanos() * u128::from(draw)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(jitter: f64) -> BackoffPolicy {
        BackoffPolicy { initial: Duration::from_secs(1), max: Duration::from_secs(60), factor: 2.0, jitter }
    }

    #[test]
    fn without_jitter_the_waits_are_exact_and_capped() {
        let mut backoff = Backoff::new(policy(0.0), [0; 32]);
        let waits: Vec<u64> = (0..8).map(|_| backoff.next_delay(None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn full_jitter_stays_under_the_bound_and_uses_the_range() {
        let mut backoff = Backoff::new(policy(1.0), [3; 32]);
        let mut shares = Vec::new();
        for attempt in 1..=200 {
            let wait = backoff.next_delay(None);
            let bound = policy(1.0).bound(attempt);
            assert!(wait <= bound, "attempt {attempt}: {wait:?} over {bound:?}");
            shares.push(wait.as_secs_f64() / bound.as_secs_f64());
        }
        let mean = shares.iter().sum::<f64>() / 200.0;
        assert!((0.42..0.58).contains(&mean), "mean share {mean}");
        assert!(shares.iter().any(|share| *share < 0.05) && shares.iter().any(|share| *share > 0.95));
    }

    #[test]
    fn the_same_seed_draws_the_same_waits_and_another_seed_others() {
        let draw = |seed| {
            let mut backoff = Backoff::new(policy(1.0), seed);
            (0..20).map(|_| backoff.next_delay(None)).collect::<Vec<_>>()
        };
        assert_eq!(draw([1; 32]), draw([1; 32]));
        assert_ne!(draw([1; 32]), draw([2; 32]));
    }

    #[test]
    fn a_hint_raises_the_wait_up_to_the_cap() {
        let mut backoff = Backoff::new(policy(1.0), [0; 32]);
        assert!(backoff.next_delay(Some(Duration::from_secs(30))) >= Duration::from_secs(30));
        assert_eq!(backoff.next_delay(Some(Duration::from_secs(3600))), Duration::from_secs(60));
    }

    #[test]
    fn growth_ends_at_the_cap_however_many_attempts() {
        assert_eq!(policy(1.0).bound(u32::MAX), Duration::from_secs(60));
        let flat = BackoffPolicy { factor: 1.0, ..policy(1.0) };
        assert_eq!(flat.bound(u32::MAX), Duration::from_secs(1));
    }
}

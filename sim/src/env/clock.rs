//! A client's own clock, which may run fast or slow.

use std::time::Duration;

use hpx_transport::env::Timestamp;

/// How a client's time follows from the world's: a straight line from the last change on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OwnClock {
    /// The last change, by the world's clock and by this one.
    world: Timestamp,
    own: Timestamp,
    /// What this clock gains, in millionths.
    ppm: i64,
}

impl OwnClock {
    /// This clock's time at a time of the world.
    pub(super) fn now(&self, world: Timestamp) -> Timestamp {
        let since = world.since(self.world).as_nanos();
        let gained = since * self.rate() / MILLION;
        self.own + nanos(gained)
    }

    /// How long the world takes until this clock shows `at`.
    pub(super) fn wait(&self, world: Timestamp, at: Timestamp) -> Duration {
        let own = at.since(self.now(world)).as_nanos();
        // Rounded up: a timer that rings early would be another one's bug.
        nanos((own * MILLION).div_ceil(self.rate()))
    }

    /// From now on it gains so many millionths. It never jumps.
    pub(super) fn set(&mut self, world: Timestamp, ppm: i64) {
        if ppm != self.ppm {
            *self = Self { world, own: self.now(world), ppm };
        }
    }

    fn rate(&self) -> u128 {
        // The plan's check keeps it between half and twice the speed.
        u128::try_from(1_000_000 + self.ppm).unwrap_or(MILLION).max(1)
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

const MILLION: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_clock_that_gains_a_tenth_is_a_tenth_ahead_and_never_jumps() {
        let mut clock = OwnClock::default();
        assert_eq!(clock.now(at(500)), at(500));
        clock.set(at(1000), 100_000);
        assert_eq!((clock.now(at(1000)), clock.now(at(2000))), (at(1000), at(2100)));
        assert_eq!(clock.wait(at(1000), at(2100)), Duration::from_secs(1));
        clock.set(at(2000), 0);
        assert_eq!((clock.now(at(2000)), clock.now(at(3000))), (at(2100), at(3100)));
    }
}

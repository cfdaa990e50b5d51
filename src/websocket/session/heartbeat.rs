//! Is the peer there? One ping at a time, and any byte is an answer.
//!
//! | state | leaves by |
//! |---|---|
//! | resting until `next_ping` | the time: ping, then awaiting |
//! | awaiting until the deadline | any byte: resting; the deadline: dead |

use std::time::Duration;

use crate::env::Timestamp;

#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next_ping: Timestamp,
    /// When silence since the last ping becomes a verdict.
    awaiting: Option<Timestamp>,
}

/// What the time asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Nothing,
    Ping,
    Dead,
}

impl Heartbeat {
    /// The first ping is due one interval after `now`.
    pub(super) fn start(interval: Duration, timeout: Duration, now: Timestamp) -> Self {
        Self { interval, timeout, next_ping: now + interval, awaiting: None }
    }

    /// Bytes came in.
    pub(super) fn alive(&mut self) {
        self.awaiting = None;
    }

    pub(super) fn beat(&mut self, now: Timestamp) -> Beat {
        if let Some(deadline) = self.awaiting {
            return if deadline <= now { Beat::Dead } else { Beat::Nothing };
        }
        if now < self.next_ping {
            return Beat::Nothing;
        }
        self.awaiting = Some(now + self.timeout);
        self.next_ping = now + self.interval;
        Beat::Ping
    }

    /// When to ask again.
    pub(super) fn deadline(&self) -> Timestamp {
        self.awaiting.unwrap_or(self.next_ping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_prompt_peer_is_never_given_up_on_whatever_the_pair_of_times() {
        for interval in 1..=12 {
            for timeout in 1..=12 {
                let mut heartbeat = Heartbeat::start(secs(interval), secs(timeout), at(0));
                let mut answer_at = None;
                for now in 1..400 {
                    // The peer answers one second before its time is up.
                    if answer_at == Some(now) {
                        heartbeat.alive();
                        answer_at = None;
                    }
                    match heartbeat.beat(at(now)) {
                        Beat::Nothing => {}
                        Beat::Ping => answer_at = Some(now + (timeout - 1).max(1)),
                        Beat::Dead if timeout == 1 => answer_at = None,
                        Beat::Dead => panic!("given up on at {now} with ({interval}, {timeout})"),
                    }
                    if timeout == 1 {
                        heartbeat.alive();
                    }
                }
            }
        }
    }

    #[test]
    fn a_silent_peer_is_dead_within_interval_and_timeout() {
        for (interval, timeout) in [(30, 10), (10, 30), (1, 1), (7, 7)] {
            let mut heartbeat = Heartbeat::start(secs(interval), secs(timeout), at(0));
            let dead = (0..).find(|now| heartbeat.beat(at(*now)) == Beat::Dead);
            assert_eq!(dead, Some(interval + timeout));
        }
    }

    #[test]
    fn only_one_ping_is_out_at_a_time() {
        let mut heartbeat = Heartbeat::start(secs(1), secs(10), at(0));
        assert_eq!(heartbeat.beat(at(1)), Beat::Ping);
        for now in 2..11 {
            assert_eq!(heartbeat.beat(at(now)), Beat::Nothing);
        }
        assert_eq!(heartbeat.beat(at(11)), Beat::Dead);
    }
}

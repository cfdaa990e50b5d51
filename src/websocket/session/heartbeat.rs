//! Is the peer there? One ping at a time, and any byte is an answer.
//!
//! | state | leaves by |
//! |---|---|
//! | resting until `next_ping` | the time: a ping is queued |
//! | queued behind what was written before | the socket took it: awaiting; any byte: resting |
//! | awaiting until the deadline | any byte: resting; the deadline: dead |
//!
//! While a ping is queued the peer is judged by whether it takes bytes, which is the write timeout's business: a large
//! message on a slow line delays the ping and is no silence.

use std::time::Duration;

use crate::{
    env::Timestamp,
    planted::{self, Bug},
};

#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next_ping: Timestamp,
    state: State,
}

#[derive(Debug)]
enum State {
    Resting,
    Queued,
    /// When silence since the ping becomes a verdict.
    Awaiting(Timestamp),
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
        Self { interval, timeout, next_ping: now + interval, state: State::Resting }
    }

    /// Bytes came in.
    pub(super) fn alive(&mut self) {
        self.state = State::Resting;
    }

    /// The socket took the last byte of the ping.
    pub(super) fn ping_left(&mut self, now: Timestamp) {
        if matches!(self.state, State::Queued) {
            self.state = State::Awaiting(now + self.timeout);
        }
    }

    pub(super) fn beat(&mut self, now: Timestamp) -> Beat {
        match self.state {
            State::Awaiting(deadline) if deadline <= now => Beat::Dead,
            // The last pong came in when the last ping was answered: an interval ago.
            State::Resting
                if planted::alive(Bug::PongAgeAtPingTicks)
                    && self.next_ping <= now
                    && self.interval > self.timeout =>
            {
                Beat::Dead
            }
            State::Resting if self.next_ping <= now => {
                self.state = State::Queued;
                self.next_ping = now + self.interval;
                Beat::Ping
            }
            State::Resting | State::Queued | State::Awaiting(_) => Beat::Nothing,
        }
    }

    /// When to ask again.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            State::Resting => Some(self.next_ping),
            State::Queued => None,
            State::Awaiting(deadline) => Some(deadline),
        }
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
                        Beat::Ping => {
                            heartbeat.ping_left(at(now));
                            answer_at = Some(now + (timeout - 1).max(1));
                        }
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
            let dead = (0..).find(|now| {
                let beat = heartbeat.beat(at(*now));
                heartbeat.ping_left(at(*now));
                beat == Beat::Dead
            });
            assert_eq!(dead, Some(interval + timeout));
        }
    }

    #[test]
    fn only_one_ping_is_out_at_a_time() {
        let mut heartbeat = Heartbeat::start(secs(1), secs(10), at(0));
        assert_eq!(heartbeat.beat(at(1)), Beat::Ping);
        heartbeat.ping_left(at(1));
        for now in 2..11 {
            assert_eq!(heartbeat.beat(at(now)), Beat::Nothing);
        }
        assert_eq!(heartbeat.beat(at(11)), Beat::Dead);
    }

    #[test]
    fn the_time_of_a_queued_ping_begins_when_it_leaves() {
        let mut heartbeat = Heartbeat::start(secs(5), secs(3), at(0));
        assert_eq!(heartbeat.beat(at(5)), Beat::Ping);
        assert_eq!(heartbeat.deadline(), None);
        for now in 6..100 {
            assert_eq!(heartbeat.beat(at(now)), Beat::Nothing);
        }
        heartbeat.ping_left(at(100));
        assert_eq!(heartbeat.beat(at(102)), Beat::Nothing);
        assert_eq!(heartbeat.beat(at(103)), Beat::Dead);
    }

    #[test]
    fn a_ping_that_leaves_after_a_sign_of_life_starts_no_verdict() {
        let mut heartbeat = Heartbeat::start(secs(5), secs(3), at(0));
        assert_eq!(heartbeat.beat(at(5)), Beat::Ping);
        heartbeat.alive();
        heartbeat.ping_left(at(6));
        assert_eq!(heartbeat.beat(at(9)), Beat::Nothing);
        assert_eq!(heartbeat.beat(at(10)), Beat::Ping);
    }
}

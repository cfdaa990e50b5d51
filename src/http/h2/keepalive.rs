//! Is the peer there? Pings after silence, and a verdict after more of it.
//!
//! Any byte of the peer is a sign of life, whatever frame it belongs to. Pure: `now` is passed in, and so is whether streams are
//! open.

use std::time::Duration;

use crate::{
    env::Timestamp,
    planted::{self, Bug},
};

/// The keep-alive of one connection. Without an interval it asks for no timer and gives no verdict.
#[derive(Debug, Clone)]
pub(crate) struct KeepAlive {
    /// Silence after which a ping goes out.
    interval: Option<Duration>,
    /// Silence after a ping after which the peer is given up on.
    timeout: Duration,
    /// Also while no stream is open.
    while_idle: bool,
    heard: Timestamp,
    /// When the ping went out whose pong hasn't come.
    pinged: Option<Timestamp>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// A ping, for the peer has been silent.
    Ping,
    /// A ping to measure the link by.
    Sample,
    /// The peer is gone.
    Dead,
}

impl KeepAlive {
    pub(crate) fn new(
        interval: Option<Duration>,
        timeout: Duration,
        while_idle: bool,
        now: Timestamp,
    ) -> Self {
        let interval = interval.or(planted::alive(Bug::KeepAliveUnasked).then_some(timeout));
        Self { interval, timeout, while_idle, heard: now, pinged: None }
    }

    /// Bytes came in.
    pub(crate) fn handle_bytes(&mut self, now: Timestamp) {
        self.heard = self.heard.max(now);
    }

    /// A ping went out, for whatever reason: one serves all.
    pub(crate) fn handle_ping(&mut self, now: Timestamp) {
        self.pinged = Some(now);
    }

    /// Its pong came.
    pub(crate) fn handle_pong(&mut self, now: Timestamp) {
        self.pinged = None;
        self.handle_bytes(now);
    }

    /// The peer asked for fewer pings.
    pub(crate) fn slow_down(&mut self) {
        self.interval = self.interval.map(|interval| interval.saturating_mul(2).min(INTERVAL_MAX));
    }

    /// When the ping went out whose pong hasn't come.
    pub(crate) fn pinged(&self) -> Option<Timestamp> {
        self.pinged
    }

    /// It asks for nothing any more.
    pub(crate) fn stop(&mut self) {
        self.interval = None;
    }

    /// When to come back. `None`: not before something happens.
    pub(crate) fn poll_timeout(&self, streams_open: bool) -> Option<Timestamp> {
        let interval = self.interval?;
        let streams_open = streams_open || planted::alive(Bug::PingsWhileIdle);
        match self.pinged {
            Some(_) if planted::alive(Bug::SilenceUnnoticed) => None,
            Some(pinged) => Some(pinged.max(self.heard) + self.timeout),
            None if streams_open || self.while_idle => Some(self.heard + interval),
            None => None,
        }
    }

    /// What is due. Order matters: what is readable has been read before this is asked, so that a pong in the socket's buffer
    /// comes before the verdict.
    pub(crate) fn handle_timeout(&self, now: Timestamp, streams_open: bool) -> Due {
        match self.poll_timeout(streams_open) {
            Some(at) if now < at => Due::Nothing,
            Some(_) if self.pinged.is_some() => Due::Dead,
            Some(_) => Due::Ping,
            None => Due::Nothing,
        }
    }

    /// True if the peer has been silent after a ping for so long that nothing new should be asked of it: half of what the
    /// verdict takes.
    pub(crate) fn is_overdue(&self, now: Timestamp) -> bool {
        self.overdue_at().is_some_and(|at| now >= at)
    }

    /// When that would be, if nothing comes.
    pub(crate) fn overdue_at(&self) -> Option<Timestamp> {
        self.interval?;
        self.pinged.map(|pinged| pinged.max(self.heard) + self.timeout / 2)
    }
}

/// A peer that keeps asking for fewer pings gets one an hour.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    fn keep_alive(while_idle: bool) -> KeepAlive {
        KeepAlive::new(Some(Duration::from_secs(30)), Duration::from_secs(10), while_idle, at(0))
    }

    #[test]
    fn silence_brings_a_ping_and_more_silence_the_verdict() {
        let mut it = keep_alive(false);
        assert_eq!(it.handle_timeout(at(29), true), Due::Nothing);
        assert_eq!(it.handle_timeout(at(30), true), Due::Ping);
        it.handle_ping(at(30));
        assert_eq!(it.handle_timeout(at(39), true), Due::Nothing);
        assert_eq!(it.handle_timeout(at(40), true), Due::Dead);
    }

    #[test]
    fn any_byte_puts_the_verdict_off_and_the_pong_ends_the_wait() {
        let mut it = keep_alive(false);
        it.handle_ping(at(30));
        it.handle_bytes(at(39));
        assert_eq!(it.handle_timeout(at(48), true), Due::Nothing);
        assert_eq!(it.handle_timeout(at(49), true), Due::Dead);
        it.handle_pong(at(49));
        assert_eq!(it.handle_timeout(at(49), true), Due::Nothing);
        assert_eq!(it.poll_timeout(true), Some(at(79)));
    }

    #[test]
    fn an_idle_connection_is_left_alone_unless_asked() {
        assert_eq!(keep_alive(false).poll_timeout(false), None);
        assert_eq!(keep_alive(false).handle_timeout(at(3600), false), Due::Nothing);
        assert_eq!(keep_alive(true).handle_timeout(at(30), false), Due::Ping);
    }

    #[test]
    fn a_ping_that_is_out_is_waited_for_though_the_last_stream_has_ended() {
        let mut it = keep_alive(false);
        it.handle_ping(at(30));
        assert_eq!(it.poll_timeout(false), Some(at(40)));
    }

    #[test]
    fn one_ping_at_a_time_is_out() {
        let mut it = keep_alive(true);
        // Another's purpose: a sample of the link.
        it.handle_ping(at(1));
        for second in 1..11 {
            assert_eq!(it.handle_timeout(at(second), true), Due::Nothing);
        }
        assert_eq!(it.handle_timeout(at(11), true), Due::Dead);
    }

    #[test]
    fn off_it_asks_for_no_timer_and_gives_no_verdict() {
        let mut it = KeepAlive::new(None, Duration::from_secs(10), true, at(0));
        it.handle_ping(at(1));
        assert_eq!(it.poll_timeout(true), None);
        assert_eq!(it.handle_timeout(at(3600), true), Due::Nothing);
        assert!(!it.is_overdue(at(3600)));
    }

    #[test]
    fn nothing_new_is_asked_of_a_peer_that_is_late() {
        let mut it = keep_alive(false);
        it.handle_ping(at(30));
        assert!(!it.is_overdue(at(34)));
        assert!(it.is_overdue(at(35)));
        it.handle_bytes(at(35));
        assert!(!it.is_overdue(at(35)));
    }

    #[test]
    fn each_complaint_doubles_the_interval_up_to_an_hour() {
        let mut it = keep_alive(true);
        it.slow_down();
        assert_eq!(it.poll_timeout(true), Some(at(60)));
        for _ in 0..20 {
            it.slow_down();
        }
        assert_eq!(it.poll_timeout(true), Some(at(3600)));
    }

    #[test]
    fn time_that_was_slept_through_is_no_verdict_before_the_ping() {
        let it = keep_alive(true);
        // A process that stood still for a day first asks.
        assert_eq!(it.handle_timeout(at(86_400), true), Due::Ping);
    }

    #[test]
    fn what_was_heard_never_goes_back() {
        let mut it = keep_alive(true);
        it.handle_bytes(at(100));
        it.handle_bytes(at(50));
        assert_eq!(it.poll_timeout(true), Some(at(130)));
    }
}

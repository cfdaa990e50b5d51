//! Who sends pings, when, and what comes of them: the link's window, and whether the peer is there.
//!
//! Whoever reads bodies only counts ([`Recorder::record_data`]: one addition, no lock, no clock). The connection's task does the
//! rest once in a turn: it stamps what the socket gave, asks what is due, and samples the count at a ping and at its pong.

use std::time::Duration;

use super::{
    bdp::{Bdp, WINDOW_MAX},
    keepalive::{Due, KeepAlive},
};
use crate::{
    env::Timestamp,
    planted::{self, Bug},
    sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, Padded},
};

/// Counts what a connection's streams receive. Clones count for the same connection.
///
/// ```
/// use hpx_transport::http::h2::Recorder;
///
/// let recorder = Recorder::new();
/// let reader = recorder.clone();
/// reader.record_data(16_384);
/// reader.record_non_data();
/// assert_eq!(recorder.received(), 16_384);
/// ```
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    /// Payload of DATA frames.
    data: Padded<AtomicU64>,
    /// Frames of other kinds.
    others: Padded<AtomicU64>,
    /// When the socket last gave something.
    heard: AtomicU64,
    overdue: AtomicBool,
    cold: Mutex<PingStats>,
}

/// What a connection's pings have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PingStats {
    /// From the last ping to its pong.
    pub round_trip: Option<Duration>,
    /// The flow-control window asked for, of each stream, in bytes.
    pub window: u32,
    /// Pings sent.
    pub pings: u64,
    /// Pings answered.
    pub pongs: u64,
}

impl Recorder {
    /// For a new connection.
    pub fn new() -> Self {
        let padded = || Padded(AtomicU64::new(0));
        let shared = Shared {
            data: padded(),
            others: padded(),
            heard: AtomicU64::new(0),
            overdue: AtomicBool::new(false),
            cold: Mutex::new(PingStats::default()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// So many bytes of a body were received. Never locks, never waits, reads no clock.
    pub fn record_data(&self, bytes: usize) {
        // What is counted is sampled by one task: no order with anything else is needed.
        self.shared.data.0.fetch_add(bytes as u64, Ordering::Relaxed);
        if planted::alive(Bug::CountedTwice) {
            self.shared.data.0.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// A frame without payload was received, such as the head of a response. Never locks, never waits, reads no clock.
    pub fn record_non_data(&self) {
        self.shared.others.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of bodies received so far.
    pub fn received(&self) -> u64 {
        self.shared.data.0.load(Ordering::Relaxed)
    }

    /// Frames without payload received so far.
    pub fn frames(&self) -> u64 {
        self.shared.others.0.load(Ordering::Relaxed)
    }

    /// What the pings have shown so far. Takes the lock that the connection's task takes at a ping and a pong.
    pub fn stats(&self) -> PingStats {
        *self.shared.cold.lock()
    }

    #[cfg(all(test, hpx_loom))]
    pub(super) fn hold_cold_lock(&self) -> impl Drop + '_ {
        self.shared.cold.lock()
    }

    /// When the socket last gave something. Never goes back.
    pub(crate) fn last_heard(&self) -> Timestamp {
        Timestamp::from_nanos(self.shared.heard.load(Ordering::Acquire))
    }

    /// The socket gave something, whatever it was.
    pub(crate) fn stamp(&self, now: Timestamp) {
        self.shared.heard.fetch_max(now.as_nanos(), Ordering::AcqRel);
    }

    /// True if the peer owes a pong for so long that nothing new should be asked of it.
    pub(crate) fn is_overdue(&self) -> bool {
        self.shared.overdue.load(Ordering::Acquire)
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("received", &self.received()).finish_non_exhaustive()
    }
}

/// How a connection pings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PingRules {
    /// Where the window of a stream starts, and how far it may grow; equal if it is not to.
    pub(crate) window: u32,
    pub(crate) window_max: u32,
    pub(crate) interval: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) while_idle: bool,
    /// How often this host has asked for calm.
    pub(crate) complaints: u32,
}

impl PingRules {
    /// The window of the connection as a whole where its streams have this one: a body that nobody reads holds up no other.
    pub(crate) fn of_connection(&self, window: u32) -> u32 {
        window.saturating_mul(STREAMS_OF_WINDOW).min(self.window_max.max(window))
    }
}

/// The connection task's side: decides, and leaves frames to the caller.
#[derive(Debug)]
pub(crate) struct Ponger {
    recorder: Recorder,
    bdp: Option<Bdp>,
    keep_alive: KeepAlive,
    budget: Budget,
    /// A window the peer has not been told of. The last one wins.
    untold: Option<u32>,
}

impl Ponger {
    pub(crate) fn new(recorder: Recorder, rules: PingRules, now: Timestamp) -> Self {
        let window = rules.window.min(WINDOW_MAX);
        recorder.shared.cold.lock().window = window;
        recorder.stamp(now);
        let mut keep_alive = KeepAlive::new(rules.interval, rules.timeout, rules.while_idle, now);
        // Bounded: the interval has a maximum that is reached before.
        (0..rules.complaints.min(COMPLAINTS_MAX)).for_each(|_| keep_alive.slow_down());
        Self {
            recorder,
            bdp: (rules.window_max > window).then(|| Bdp::new(window, rules.window_max)),
            keep_alive,
            budget: Budget::new(rules.complaints, now),
            untold: None,
        }
    }

    /// The socket gave something since the last turn.
    pub(crate) fn handle_bytes(&mut self, now: Timestamp) {
        self.recorder.stamp(now);
        if !planted::alive(Bug::TimeoutAlthoughData) {
            self.keep_alive.handle_bytes(now);
        }
    }

    /// A ping of ours was answered.
    pub(crate) fn handle_pong(&mut self, now: Timestamp) {
        let Some(pinged) = self.keep_alive.pinged() else { return };
        self.keep_alive.handle_pong(now);
        let received = self.recorder.received();
        let grown = self.bdp.as_mut().and_then(|bdp| bdp.handle_pong(now, received));
        self.untold = grown.or(self.untold);
        let mut stats = self.recorder.shared.cold.lock();
        stats.pongs += 1;
        stats.round_trip = Some(now.since(pinged));
        stats.window = grown.unwrap_or(stats.window);
    }

    /// What is due, after everything readable was read: once in a turn. At most one ping is out at a time. A window may be to be
    /// [told](Self::untold) besides.
    pub(crate) fn due(&mut self, now: Timestamp, streams_open: bool) -> Due {
        let received = self.recorder.received();
        if let Some(window) = self.bdp.as_mut().and_then(|bdp| bdp.handle_received(now, received)) {
            self.untold = Some(window);
            self.recorder.shared.cold.lock().window = window;
        }
        let due = self.keep_alive.handle_timeout(now, streams_open);
        self.recorder.shared.overdue.store(self.keep_alive.is_overdue(now), Ordering::Release);
        let is_second = self.keep_alive.pinged().is_some();
        if due != Due::Nothing || (is_second && !planted::alive(Bug::SecondPingOut)) {
            return due;
        }
        let samples = is_second || self.bdp.as_ref().is_some_and(|bdp| bdp.wants_ping(now));
        if samples && self.budget.take(now) { Due::Sample } else { Due::Nothing }
    }

    /// The ping that was due went out. What made it due belongs to its sample.
    pub(crate) fn handle_ping(&mut self, now: Timestamp) {
        self.keep_alive.handle_ping(now);
        if let Some(bdp) = &mut self.bdp {
            bdp.handle_ping(now);
        }
        self.recorder.shared.cold.lock().pings += 1;
    }

    /// No ping can be sent any more: none is due from here on.
    pub(crate) fn give_up_pinging(&mut self) {
        self.bdp = None;
        self.keep_alive.stop();
    }

    /// When to ask again though nothing happens.
    pub(crate) fn poll_timeout(&self, now: Timestamp, streams_open: bool) -> Option<Timestamp> {
        let at = self.keep_alive.poll_timeout(streams_open)?;
        // Half of the wait for a pong is told to whoever picks connections.
        match self.keep_alive.overdue_at() {
            Some(overdue) if overdue > now => Some(at.min(overdue)),
            _ => Some(at),
        }
    }

    /// A window to tell the peer of. It is kept until [`told`](Self::told): the peer may still owe an answer to the last
    /// settings, and two changes are one then.
    pub(crate) fn untold(&self) -> Option<u32> {
        self.untold
    }

    /// The peer was told of this window.
    pub(crate) fn told(&mut self, window: u32) {
        self.untold.take_if(|untold| *untold == window);
    }
}

/// How many pings may sample the link: strict servers count those that come without need.
#[derive(Debug)]
struct Budget {
    left: u32,
    since: Timestamp,
    /// Between one and the next in the long run.
    every: Duration,
}

impl Budget {
    fn new(complaints: u32, now: Timestamp) -> Self {
        let shift = complaints.min(COMPLAINTS_MAX);
        Self { left: BURST >> shift.min(BURST.ilog2()), since: now, every: SAMPLE_EVERY * (1 << shift) }
    }

    fn take(&mut self, now: Timestamp) -> bool {
        let more = now.since(self.since).as_nanos() / self.every.as_nanos();
        if more > 0 {
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(BURST);
            self.since = now;
        }
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }
}

/// So many bodies may be left unread before a connection carries no more.
const STREAMS_OF_WINDOW: u32 = 4;
/// Samples at once: five steps of the window take half of them.
const BURST: u32 = 16;
/// In the long run, one sample in so long.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Complaints beyond this change nothing any more.
const COMPLAINTS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::default() + Duration::from_millis(millis)
    }

    fn rules() -> PingRules {
        PingRules {
            window: 100_000,
            window_max: 1_000_000,
            interval: Some(Duration::from_secs(30)),
            timeout: Duration::from_secs(10),
            while_idle: false,
            complaints: 0,
        }
    }

    fn ponger(rules: PingRules) -> (Ponger, Recorder) {
        let recorder = Recorder::new();
        (Ponger::new(recorder.clone(), rules, at(0)), recorder)
    }

    #[test]
    fn a_count_goes_on_while_the_cold_lock_is_held() {
        let recorder = Recorder::new();
        let held = recorder.shared.cold.lock();
        let other = recorder.clone();
        std::thread::spawn(move || other.record_data(5)).join().expect("no panic");
        drop(held);
        assert_eq!(recorder.received(), 5);
    }

    #[test]
    fn data_brings_a_ping_and_its_pong_a_larger_window() {
        let (mut ponger, recorder) = ponger(rules());
        assert_eq!(ponger.due(at(1), true), Due::Nothing);
        recorder.record_data(1000);
        assert_eq!(ponger.due(at(2), true), Due::Sample);
        ponger.handle_ping(at(2));
        recorder.record_data(79_000);
        assert_eq!(ponger.due(at(3), true), Due::Nothing, "one at a time");
        ponger.handle_pong(at(22));
        assert_eq!(ponger.untold(), Some(320_000));
        let stats = recorder.stats();
        assert_eq!((stats.pings, stats.pongs, stats.window), (1, 1, 320_000));
        assert_eq!(stats.round_trip, Some(Duration::from_millis(20)));
    }

    #[test]
    fn a_window_that_arrives_in_one_burst_ahead_of_the_ping_is_full() {
        let (mut ponger, recorder) = ponger(rules());
        assert_eq!(ponger.due(at(1), true), Due::Nothing);
        // The whole window, read in one turn; the next comes behind the pong.
        recorder.record_data(100_000);
        assert_eq!(ponger.due(at(2), true), Due::Sample);
        ponger.handle_ping(at(2));
        assert_eq!(ponger.due(at(2), true), Due::Nothing);
        ponger.handle_pong(at(22));
        assert_eq!(ponger.untold(), Some(400_000));
    }

    #[test]
    fn a_window_the_peer_cannot_be_told_of_yet_is_kept_and_the_last_one_wins() {
        let (mut ponger, recorder) = ponger(rules());
        let mut now = 0;
        let mut grow = |ponger: &mut Ponger, bytes| {
            recorder.record_data(bytes / 2);
            now += 1000;
            assert_eq!(ponger.due(at(now), true), Due::Sample);
            ponger.handle_ping(at(now));
            recorder.record_data(bytes);
            ponger.handle_pong(at(now + 10));
        };
        grow(&mut ponger, 100_000);
        assert_eq!(ponger.untold(), Some(400_000));
        // Not told: the peer owes an answer to older settings.
        grow(&mut ponger, 400_000);
        assert_eq!(ponger.untold(), Some(1_000_000));
        ponger.told(400_000);
        assert_eq!(ponger.untold(), Some(1_000_000));
        ponger.told(1_000_000);
        assert_eq!(ponger.untold(), None);
    }

    #[test]
    fn a_ping_for_the_window_is_a_ping_for_life() {
        let (mut ponger, recorder) = ponger(rules());
        recorder.record_data(1);
        assert_eq!(ponger.due(at(1), true), Due::Sample);
        ponger.handle_ping(at(1));
        assert_eq!(ponger.due(at(5000), true), Due::Nothing);
        assert!(!recorder.is_overdue());
        assert_eq!(ponger.poll_timeout(at(1), true), Some(at(5001)));
        assert_eq!(ponger.due(at(5001), true), Due::Nothing);
        assert!(recorder.is_overdue());
        assert_eq!(ponger.poll_timeout(at(5001), true), Some(at(10_001)));
        assert_eq!(ponger.due(at(10_001), true), Due::Dead);
    }

    #[test]
    fn with_everything_off_nothing_is_ever_due() {
        let off = PingRules { window_max: 100_000, interval: None, ..rules() };
        let (mut ponger, recorder) = ponger(off);
        recorder.record_data(1_000_000);
        assert_eq!(ponger.due(at(3_600_000), true), Due::Nothing);
        assert_eq!(ponger.poll_timeout(at(3_600_000), true), None);
    }

    #[test]
    fn samples_have_a_budget_that_complaints_cut() {
        let mut pings = Vec::new();
        for complaints in [0, 1, 3, 40] {
            let mut budget = Budget::new(complaints, at(0));
            pings.push((0..60_000).filter(|millis| budget.take(at(*millis))).count());
        }
        assert_eq!(pings, [16 + 59, 8 + 29, 2 + 7, 1]);
    }

    #[test]
    fn complaints_of_a_host_slow_the_keep_alive_of_its_next_connection() {
        let (ponger, _) = ponger(PingRules { complaints: 2, ..rules() });
        assert_eq!(ponger.poll_timeout(at(0), true), Some(at(120_000)));
    }

    #[test]
    fn where_no_ping_can_be_sent_none_is_due() {
        let (mut ponger, recorder) = ponger(rules());
        recorder.record_data(1000);
        ponger.give_up_pinging();
        assert_eq!(ponger.due(at(3_600_000), true), Due::Nothing);
        assert_eq!(ponger.poll_timeout(at(3_600_000), true), None);
    }

    #[test]
    fn a_pong_nobody_asked_for_changes_nothing() {
        let (mut ponger, recorder) = ponger(rules());
        ponger.handle_pong(at(5));
        assert_eq!(recorder.stats().pongs, 0);
    }

    #[test]
    fn no_byte_is_sampled_twice_and_what_lies_between_samples_is_left_out() {
        let (mut ponger, recorder) = ponger(rules());
        let (mut residue, mut asked, mut sampled) = (0, 0, 0);
        for round in 0..20_u64 {
            recorder.record_data(100);
            let due = ponger.due(at(round * 2000), true);
            let from = std::mem::replace(&mut asked, recorder.received());
            if due != Due::Nothing {
                ponger.handle_ping(at(round * 2000));
                recorder.record_data(999);
                ponger.handle_pong(at(round * 2000 + 5));
                residue += from.saturating_sub(sampled);
                sampled = recorder.received();
            } else {
                recorder.record_data(999);
            }
        }
        residue += recorder.received() - sampled;
        let sampled = ponger.bdp.as_ref().map(Bdp::sampled);
        assert_eq!(sampled.map(|sampled| sampled + residue), Some(recorder.received()));
        assert!(residue > 0);
    }
}

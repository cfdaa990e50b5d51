//! How large a flow-control window must be for the link to be full: an estimate of the bandwidth-delay product.
//!
//! A ping goes out while data flows, and what arrives from the burst that made it due until its pong is what the link holds for a
//! round trip, or what the window lets it hold: a link much faster than its window lies still between two bursts, and the pong
//! comes ahead of the second. If that is most of the window, and the rate has grown since the window last did, the window is the
//! limit, and grows: to [`GROWTH`] times what the link holds without queues, and at least to twice what it was. If the rate has
//! not grown, the link is the limit, and more window would only fill its queues.
//!
//! Once a round trip is known, most of it needs no ping. What comes so fast that the window would be full before a round trip is
//! over makes it grow at once; and a ping goes out only where a good part of the window has come within a round trip.
//!
//! Pure: `now` and the count of bytes are passed in.

use std::time::Duration;

use crate::{
    env::Timestamp,
    planted::{self, Bug},
};

/// The estimate of one connection. The window never shrinks: the peer may have used it already (RFC 9113, section 6.9.2).
///
/// | state | left by | to |
/// |---|---|---|
/// | resting | a ping, which data asks for once the rest is over | sampling |
/// | sampling | the pong | resting |
#[derive(Debug, Clone)]
pub(crate) struct Bdp {
    window: u32,
    cap: u32,
    /// Bytes a second when the window last grew.
    rate: f64,
    /// The shortest so far: what a full queue adds is not the link's.
    round_trip: Option<Duration>,
    /// How long it rests when it has found the link to be the limit.
    rest: Duration,
    state: State,
    /// What had been received when it was told last, and the time before.
    seen: [u64; 2],
    span: Span,
    /// What the samples held.
    sampled: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// No sooner than this, and only for data beyond what was counted by then.
    Resting { until: Timestamp, counted: u64 },
    /// Since then, from that count. The window may have grown before the pong.
    Sampling { since: Timestamp, counted: u64, grown: Option<Timestamp> },
}

/// What comes within a round trip at most.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    since: Timestamp,
    /// What had been received before, and with its first burst: what came in no time tells no rate.
    before: u64,
    first: u64,
}

/// What a sample shows.
enum Limit {
    /// Nothing: there was less to receive than the window allows.
    Peer,
    Link,
    /// It has grown.
    Window(u32),
}

impl Bdp {
    /// From the window the connection was opened with, up to `cap` at most. A cap below the window never comes to bear.
    pub(crate) fn new(window: u32, cap: u32) -> Self {
        let window = window.min(WINDOW_MAX);
        Self {
            window,
            cap: cap.clamp(window, WINDOW_MAX),
            rate: 0.0,
            round_trip: None,
            rest: REST_MIN,
            state: State::Resting { until: Timestamp::default(), counted: 0 },
            seen: [0; 2],
            span: Span::default(),
            sampled: 0,
        }
    }

    /// The window that each stream should have.
    #[cfg(test)]
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    /// So many bytes have been received in the connection's life. The new window, if they come so fast that it must grow.
    pub(crate) fn handle_received(&mut self, now: Timestamp, received: u64) -> Option<u32> {
        self.seen = [received, self.seen[0]];
        let round_trip = self.round_trip?;
        if now.since(self.span.since) > round_trip {
            self.span = Span { since: now, before: self.seen[1], first: received };
        }
        let is_ready = match self.state {
            State::Resting { until, .. } => now >= until,
            State::Sampling { grown, .. } => grown.is_none(),
        };
        let bytes = received.saturating_sub(self.span.first);
        if !is_ready || bytes < u64::from(self.window) / TELLING {
            return None;
        }
        let took = now.since(self.span.since).max(ROUND_TRIP_MIN);
        let rate = bytes as f64 / took.as_secs_f64();
        if rate * round_trip.as_secs_f64() < f64::from(self.window) {
            return None;
        }
        let Limit::Window(window) = self.judge(rate, round_trip) else { return None };
        match &mut self.state {
            // What arrives within the next round trip was sent into the old window.
            State::Resting { until, counted } => (*until, *counted) = (now + round_trip, received),
            State::Sampling { grown, .. } => *grown = Some(now),
        }
        Some(window)
    }

    /// True if a ping sent now would make a sample that may show something.
    pub(crate) fn wants_ping(&self, now: Timestamp) -> bool {
        let received = self.seen[0];
        match self.state {
            _ if self.window >= self.cap => false,
            State::Sampling { .. } => false,
            State::Resting { until, counted } if now >= until && received > counted => {
                let window = u64::from(self.window);
                let is_much = received.saturating_sub(self.span.before) >= window / PROMISING;
                // The round trip that is known may have become wrong.
                let is_long_ago = now.since(until) >= REST_MAX && received - counted >= window;
                self.round_trip.is_none() || is_much || is_long_ago
            }
            State::Resting { .. } => false,
        }
    }

    /// A ping went out, for whatever reason: from here to its pong is a sample, and what has just come belongs to it.
    pub(crate) fn handle_ping(&mut self, now: Timestamp) {
        let (State::Resting { counted: before, .. } | State::Sampling { counted: before, .. }) = self.state;
        self.state = State::Sampling { since: now, counted: self.seen[1].max(before), grown: None };
    }

    /// Its pong came. The new window, if it has grown.
    pub(crate) fn handle_pong(&mut self, now: Timestamp, received: u64) -> Option<u32> {
        let State::Sampling { since, counted, grown } = self.state else { return None };
        let bytes = received.saturating_sub(counted);
        self.sampled += bytes;
        // A virtual clock, or a coarse one, may not have moved.
        let round_trip = now.since(since).max(ROUND_TRIP_MIN);
        let shortest = self.round_trip.map_or(round_trip, |shortest| shortest.min(round_trip));
        self.round_trip = Some(shortest);
        let window = f64::from(self.window);
        let limit = match bytes as f64 {
            _ if grown.is_some() => Limit::Peer,
            bytes if bytes < window * FULL => Limit::Peer,
            bytes => self.judge(bytes.min(window) / round_trip.as_secs_f64(), shortest),
        };
        // What arrives within a round trip of its growth was sent into the old window.
        let until = match limit {
            Limit::Window(_) => now + round_trip,
            Limit::Link => now + self.rest,
            Limit::Peer => grown.map_or(now, |at| now.max(at + round_trip)),
        };
        self.state = State::Resting { until, counted: received };
        if let Limit::Link = limit {
            self.rest = (self.rest * REST_GROWS).min(REST_MAX);
        }
        if let Limit::Window(window) = limit {
            return Some(window);
        }
        if planted::alive(Bug::WindowShrinks) {
            self.window = (self.window / 2).max(1);
            return Some(self.window);
        }
        None
    }

    /// So many bytes a second come, and the window is full, or would be before a round trip is over.
    fn judge(&mut self, rate: f64, round_trip: Duration) -> Limit {
        if rate <= self.rate * RATE_GROWS || self.window >= self.cap {
            return Limit::Link;
        }
        let (window, round_trip) = (f64::from(self.window), round_trip.as_secs_f64());
        let product = (rate * round_trip).clamp(window / 2.0, window * AHEAD);
        self.rate = product / round_trip;
        self.rest = REST_MIN;
        // A cast of what is too large for it gives the largest.
        self.window = ((product * GROWTH) as u32).min(self.cap);
        Limit::Window(self.window)
    }

    /// What all samples held: no more than was received.
    #[cfg(test)]
    pub(crate) fn sampled(&self) -> u64 {
        self.sampled
    }
}

/// What part of the window must have come within a round trip for it to be the limit.
const FULL: f64 = 2.0 / 3.0;
/// How many times what the link holds the window should be: two steps lie between 64 KiB and 1 MiB.
const GROWTH: f64 = 4.0;
/// How many windows the link is taken to hold at most, however fast they come.
const AHEAD: f64 = 4.0;
/// What part of the window tells a rate.
const TELLING: u64 = 8;
/// A rate must have grown by so much to count as grown.
const RATE_GROWS: f64 = 1.1;
/// What part of the window must have come within a round trip for a ping to be worth it: a sample needs two thirds, and lasts as
/// long.
const PROMISING: u64 = 3;
/// No round trip counts as shorter: what the coarsest clocks tell apart.
const ROUND_TRIP_MIN: Duration = Duration::from_millis(1);
/// The rest after the first sample that found the link to be the limit, by how much each next one is longer, and the longest.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_GROWS: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(10);
/// RFC 9113, section 6.9.1.
pub(crate) const WINDOW_MAX: u32 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand_chacha::{
        ChaCha12Rng,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;

    /// A link that holds back what does not fit, and a server that has no end of data and keeps to the window.
    struct Link {
        /// One way.
        delay: Duration,
        bytes_per_s: f64,
        now: Timestamp,
        /// What the server may still send.
        credit: i64,
        /// When the link has carried all it was given.
        free_at: Timestamp,
        to_client: VecDeque<(Timestamp, Down)>,
        to_server: VecDeque<(Timestamp, Up)>,
        received: u64,
    }

    enum Down {
        Data(u64),
        Pong,
    }

    enum Up {
        Credit(i64),
        Ping,
    }

    impl Link {
        fn new(round_trip: Duration, bytes_per_s: f64, window: u32) -> Self {
            Self {
                delay: round_trip / 2,
                bytes_per_s,
                now: Timestamp::default(),
                credit: i64::from(window),
                free_at: Timestamp::default(),
                to_client: VecDeque::new(),
                to_server: VecDeque::new(),
                received: 0,
            }
        }

        fn send(&mut self, size: u64, what: Down) {
            let takes = Duration::from_secs_f64(size as f64 / self.bytes_per_s);
            self.free_at = self.free_at.max(self.now) + takes;
            self.to_client.push_back((self.free_at + self.delay, what));
        }

        /// Lets the server send what it may, and moves on to what happens next.
        fn step(&mut self, bdp: &mut Bdp) {
            while self.credit > 0 && self.free_at <= self.now + self.delay {
                let size = self.credit.min(16_384);
                self.credit -= size;
                self.send(size as u64, Down::Data(size as u64));
            }
            let next = |queue: Option<Timestamp>| queue.unwrap_or(Timestamp::from_nanos(u64::MAX));
            let down = next(self.to_client.front().map(|(at, _)| *at));
            let up = next(self.to_server.front().map(|(at, _)| *at));
            let sent = next((self.credit > 0).then_some(self.free_at).filter(|at| *at > self.now));
            self.now = down.min(up).min(sent);
            if up <= self.now {
                match self.to_server.pop_front() {
                    Some((_, Up::Credit(bytes))) => self.credit += bytes,
                    Some((_, Up::Ping)) => self.send(17, Down::Pong),
                    None => {}
                }
            } else if down <= self.now {
                let arrives = self.now + self.delay;
                match self.to_client.pop_front() {
                    Some((_, Down::Data(bytes))) => {
                        self.received += bytes;
                        self.to_server.push_back((arrives, Up::Credit(bytes as i64)));
                        let before = bdp.window();
                        if let Some(window) = bdp.handle_received(self.now, self.received) {
                            self.to_server
                                .push_back((arrives, Up::Credit(i64::from(window) - i64::from(before))));
                        }
                        if bdp.wants_ping(self.now) {
                            bdp.handle_ping(self.now);
                            self.to_server.push_back((arrives, Up::Ping));
                        }
                    }
                    Some((_, Down::Pong)) => {
                        let before = bdp.window();
                        if let Some(window) = bdp.handle_pong(self.now, self.received) {
                            let more = i64::from(window) - i64::from(before);
                            self.to_server.push_back((arrives, Up::Credit(more)));
                        }
                    }
                    None => {}
                }
            }
        }

        fn run_until(&mut self, at: Duration, bdp: &mut Bdp) {
            while self.now < Timestamp::default() + at {
                self.step(bdp);
            }
        }
    }

    #[test]
    fn two_thirds_of_the_bandwidth_delay_product_are_reached_within_ten_round_trips_and_kept() {
        for round_trip_ms in [1_u64, 3, 10, 30, 100, 300] {
            for megabits in [1_u32, 10, 100, 1000] {
                let round_trip = Duration::from_millis(round_trip_ms);
                let bytes_per_s = f64::from(megabits) * 125_000.0;
                let product = bytes_per_s * round_trip.as_secs_f64();
                for start in [2 * 1024 * 1024, 1024 * 1024] {
                    let mut bdp = Bdp::new(start, 64 * 1024 * 1024);
                    let mut link = Link::new(round_trip, bytes_per_s, start);
                    // From the first byte on; what waits in the link's queue takes longer than a round trip.
                    let fill = Duration::from_secs_f64(f64::from(start) / bytes_per_s);
                    link.run_until(round_trip * 10 + fill, &mut bdp);
                    let name =
                        format!("{round_trip_ms} ms, {megabits} Mbit/s, from {start}: {}", bdp.window());
                    assert!(f64::from(bdp.window()) >= product * 2.0 / 3.0, "{name}");
                    let (before, since) = (link.received, link.now);
                    let until = since.since_epoch() + round_trip * 30 + Duration::from_secs(1);
                    link.run_until(until, &mut bdp);
                    let took = link.now.since(since).as_secs_f64();
                    let rate = (link.received - before) as f64 / took;
                    assert!(rate >= bytes_per_s * 2.0 / 3.0, "{name}: {rate} of {bytes_per_s}");
                    // No more than a few steps beyond what fills the link.
                    let most = (product * 5.0).max(f64::from(start) * GROWTH);
                    assert!(f64::from(bdp.window()) <= most, "{name}");
                }
            }
        }
    }

    #[test]
    fn the_window_of_the_protocol_s_default_grows_too() {
        let round_trip = Duration::from_millis(30);
        let mut bdp = Bdp::new(65_535, 64 * 1024 * 1024);
        let mut link = Link::new(round_trip, 12_500_000.0, 65_535);
        link.run_until(round_trip * 10, &mut bdp);
        assert!(bdp.window() >= 250_000, "{}", bdp.window());
    }

    #[test]
    fn a_reader_that_is_slower_than_the_window_gets_no_more_of_it() {
        let mut bdp = Bdp::new(100_000, 1_000_000);
        let mut now = Timestamp::default();
        let mut received = 0;
        for _ in 0..50 {
            received += 40_000;
            assert_eq!(bdp.handle_received(now, received), None);
            if bdp.wants_ping(now) {
                bdp.handle_ping(now);
                received += 20_000;
                assert_eq!(bdp.handle_pong(now + Duration::from_millis(50), received), None);
            }
            now = now + Duration::from_secs(1);
        }
        assert_eq!(bdp.window(), 100_000);
    }

    /// Pings in ten minutes of ten arrivals a second of so many bytes.
    fn pings_in_ten_minutes(bytes: u64) -> usize {
        let mut bdp = Bdp::new(100_000, 200_000);
        let (mut pings, mut received) = (0, 0);
        for tenth in 0..6000_u64 {
            let now = Timestamp::default() + Duration::from_millis(tenth * 100);
            received += bytes;
            bdp.handle_received(now, received);
            if bdp.wants_ping(now) {
                pings += 1;
                bdp.handle_ping(now);
                bdp.handle_pong(now + Duration::from_millis(10), received);
            }
        }
        pings
    }

    #[test]
    fn who_receives_little_is_asked_for_its_round_trip_and_hardly_ever_again() {
        assert_eq!(pings_in_ten_minutes(10), 1);
        // A window's worth takes ten seconds and more.
        assert!((30..=60).contains(&pings_in_ten_minutes(500)));
    }

    #[test]
    fn where_the_link_is_the_limit_the_window_stands_and_pings_are_rare() {
        let mut bdp = Bdp::new(100_000, 10_000_000);
        let (mut pings, mut received, mut pong_at) = (0, 0, None);
        let mut windows = vec![bdp.window()];
        for turn in 0..60_000_u64 {
            let now = Timestamp::default() + Duration::from_millis(turn * 10);
            received += 27_000;
            bdp.handle_received(now, received);
            if pong_at == Some(turn) {
                bdp.handle_pong(now, received);
                pong_at = None;
            }
            if bdp.wants_ping(now) {
                pings += 1;
                bdp.handle_ping(now);
                pong_at = Some(turn + 10);
            }
            if windows.last() != Some(&bdp.window()) {
                windows.push(bdp.window());
            }
        }
        // Four times what the link holds for a round trip of 100 ms, and the turn before the ping with it.
        assert_eq!(windows, [100_000, 400_000, 1_188_000]);
        // In ten minutes: a ping in ten seconds.
        assert!((58..=65).contains(&pings), "{pings}");
    }

    #[test]
    fn a_window_that_would_fill_before_a_round_trip_is_over_grows_at_once() {
        let at = |millis| Timestamp::default() + Duration::from_millis(millis);
        let mut bdp = Bdp::new(100_000, 10_000_000);
        bdp.handle_received(at(0), 1000);
        assert!(bdp.wants_ping(at(0)));
        bdp.handle_ping(at(0));
        assert_eq!(bdp.handle_pong(at(20), 1000), None, "nothing is known of the window");
        // What comes in one burst tells no rate.
        assert_eq!(bdp.handle_received(at(5000), 31_000), None);
        assert_eq!(bdp.handle_received(at(5001), 35_000), None);
        assert_eq!(bdp.handle_received(at(5002), 43_500), Some(500_000));
        assert_eq!(bdp.handle_received(at(5003), 200_000), None, "sent into the old window");
        assert_eq!(bdp.handle_received(at(5022), 240_000), None);
        assert_eq!(bdp.handle_received(at(5024), 340_000), Some(4_000_000));
    }

    #[test]
    fn without_data_there_is_no_ping() {
        let mut bdp = Bdp::new(100_000, 1_000_000);
        let late = Timestamp::default() + Duration::from_secs(3600);
        assert!(!bdp.wants_ping(late));
        bdp.handle_received(late, 1);
        assert!(bdp.wants_ping(late));
    }

    #[test]
    fn at_the_cap_there_is_nothing_to_ask_for() {
        let mut bdp = Bdp::new(1000, 2000);
        bdp.handle_ping(Timestamp::default());
        assert_eq!(bdp.handle_pong(Timestamp::default() + Duration::from_millis(5), 1000), Some(2000));
        bdp.handle_received(Timestamp::default() + Duration::from_secs(60), 1_000_000);
        assert!(!bdp.wants_ping(Timestamp::default() + Duration::from_secs(60)));
    }

    #[test]
    fn any_input_leaves_it_finite_monotone_and_within_its_bounds() {
        let mut rng = ChaCha12Rng::seed_from_u64(7);
        for _ in 0..2000 {
            let initial = 1 + rng.next_u32() % WINDOW_MAX;
            let cap = rng.next_u32();
            let mut bdp = Bdp::new(initial, cap);
            let (mut now, mut received, mut last) = (Timestamp::default(), 0_u64, initial);
            for _ in 0..40 {
                // Time may stand still, and a count may leap.
                if rng.next_u32().is_multiple_of(3) {
                    now = now + Duration::from_nanos(rng.next_u64() >> (20 + rng.next_u32() % 44));
                }
                received = received.saturating_add(rng.next_u64() >> (rng.next_u32() % 64));
                match rng.next_u32() % 4 {
                    0 => bdp.handle_ping(now),
                    1 => drop(bdp.handle_pong(now, received)),
                    2 => drop(bdp.handle_received(now, received)),
                    _ => drop(bdp.wants_ping(now)),
                }
                assert!(bdp.rate.is_finite());
                assert!(bdp.window() >= last && bdp.window() <= cap.clamp(initial, WINDOW_MAX));
                assert!(bdp.sampled() <= received, "more was sampled than came");
                last = bdp.window();
            }
        }
    }
}

//! Each rule of HTTP clients fires on a story made bad by hand, and is silent on its good neighbour.

use std::time::Duration;

use hpx_transport::{
    Delivery, ErrorKind,
    http::{Event, PoolStats, Protocol},
};

use super::{Plan, at, found_in};
use crate::{
    env::Census,
    plan::{
        Fault, FaultKind, HttpOp, HttpStep, OriginPlan, Preset, Spoken, Target, Until, When, Work,
        http::port_of,
    },
    trace::{Entry, FaultLog, HttpLog, HttpOutcome, Place, SocketLog, TaskLog, WebLog, What},
};

/// Hosts of the plan below, by what they speak.
const FIRST: usize = 0;
const SECOND: usize = 1;
const OTHER_SECOND: usize = 2;

/// One client and three hosts. Its requests ask for a thousand bytes each.
fn plan() -> Plan {
    let mut plan = Plan::draw_for(Work::Http, Preset::Calm, 7);
    plan.clients.clear();
    plan.faults.clear();
    plan.http.truncate(1);
    (plan.tick_ms, plan.heal_ms, plan.settle_ms) = (1, 10_000, 20_000);
    let http = &mut plan.http[0];
    http.latency_ms = 1;
    let speaks = |h2| OriginPlan { tls: h2, h2, streams_max: None };
    http.origins = vec![speaks(false), speaks(true), speaks(true)];
    let ask = |label| HttpOp::Request {
        label,
        origin: FIRST,
        post: false,
        reply_after_ms: 0,
        bytes: 1000,
        drop_body: false,
        cancel: None,
    };
    http.script = (1..=4).map(|label| HttpStep { at_ms: 0, op: ask(label) }).collect();
    let config = &mut http.config;
    config.protocol = Spoken::Auto;
    (config.open_per_host_max, config.open_total_max) = (2, 3);
    (config.idle_per_host_max, config.idle_total_max) = (2, 3);
    (config.idle_timeout_ms, config.lifetime_max_ms) = (1000, 5000);
    (config.connect_timeout_ms, config.request_timeout_ms, config.body_timeout_ms) = (500, 2000, 500);
    (config.h2_window, config.h2_window_max, config.h2_streams_max) = (65_535, 1 << 20, 2);
    (config.h2_keep_alive_interval_ms, config.h2_keep_alive_timeout_ms) = (Some(1000), 500);
    config.h2_keep_alive_while_idle = false;
    config.session_lifetime_s = 2;
    plan
}

/// What befalls the client and its hosts, in order.
#[derive(Clone, Default)]
struct Story {
    now_ms: u64,
    entries: Vec<Entry>,
}

impl Story {
    fn at(mut self, ms: u64) -> Self {
        self.now_ms = ms;
        self
    }

    fn what(mut self, place: Place, what: What) -> Self {
        self.entries.push(Entry { at: at(self.now_ms), place, what });
        self
    }

    fn http(self, log: HttpLog) -> Self {
        self.what(Place::Client(0), What::Http(log))
    }

    fn event(self, event: Event) -> Self {
        self.http(HttpLog::Event(event))
    }

    fn web(self, log: WebLog) -> Self {
        self.what(Place::Exchange, What::Web(log))
    }

    fn dials(self, connection: u64, origin: usize) -> Self {
        self.event(Event::Dialing { connection, host: "host".into(), port: port_of(origin) })
    }

    /// A connection stands, which takes two streams if it takes more than one.
    fn opens(self, connection: u64, origin: usize) -> Self {
        let (protocol, streams) = match origin {
            FIRST => (Protocol::Http1, 1),
            _ => (Protocol::Http2, 2),
        };
        self.dials(connection, origin)
            .event(Event::Opened { connection, protocol, resumed: None, streams })
            .http(HttpLog::Owns { connection, socket: connection })
    }

    fn calls(self, label: u64, origin: usize) -> Self {
        self.http(HttpLog::Called { label, origin })
    }

    fn waits(self, label: u64, origin: usize) -> Self {
        self.calls(label, origin).event(Event::Waiting { call: label })
    }

    fn acquires(self, call: u64, connection: u64) -> Self {
        self.event(Event::Acquired { call, connection, reused: false })
    }

    fn asks(self, label: u64, origin: usize, connection: u64) -> Self {
        self.calls(label, origin).acquires(label, connection)
    }

    fn releases(self, connection: u64) -> Self {
        self.event(Event::Released { connection })
    }

    fn ends(self, label: u64, outcome: HttpOutcome) -> Self {
        self.http(HttpLog::Ended { label, outcome })
    }

    fn fails(self, label: u64, kind: ErrorKind, delivery: Delivery) -> Self {
        self.ends(label, HttpOutcome::Failed { kind, delivery, in_body: false })
    }

    fn pings(self, connection: u64, keep_alive: bool, silent_ms: u64) -> Self {
        self.event(Event::PingSent { connection, keep_alive, silent: Duration::from_millis(silent_ms) })
    }

    fn hears_pong(self, connection: u64, round_trip_ms: u64, received: u64) -> Self {
        let round_trip = Duration::from_millis(round_trip_ms);
        self.event(Event::PongReceived { connection, round_trip, received })
    }

    fn closes(self, connection: u64, silent: bool) -> Self {
        self.event(Event::Closed { connection, silent })
    }

    fn reads(self, socket: u64) -> Self {
        self.what(Place::Client(0), What::Socket(SocketLog::Read { socket, bytes: 1 }))
    }

    /// The books by host: open, dialing, idle, waiting; and the sockets there are.
    fn books<const N: usize>(self, hosts: [(usize, [usize; 4]); N], sockets: usize) -> Self {
        let stats = |(origin, [open, dialing, idle, waiting]): (usize, [usize; 4])| {
            let stats = PoolStats { hosts: 1, open, dialing, idle, waiting };
            (port_of(origin), stats)
        };
        let hosts = hosts.into_iter().map(stats).collect();
        self.http(HttpLog::Books { hosts, census: Census { sockets, ..Census::default() } })
    }

    fn accepts(self, conn: u64, origin: usize) -> Self {
        self.web(WebLog::Accepted { conn, client: 0, port: port_of(origin) })
    }

    fn executes(self, conn: u64, label: u64) -> Self {
        self.web(WebLog::Executed { conn, label, post: true })
    }

    /// A handshake that brings tickets, and an answer with which the client has them.
    fn brings_tickets(self, conn: u64, origin: usize, tickets: &[u64]) -> Self {
        let story = self.accepts(conn, origin);
        let issued = |story: Self, ticket: &u64| story.web(WebLog::TicketIssued { conn, ticket: *ticket });
        tickets.iter().fold(story, issued).http(HttpLog::Head { label: 1, conn, status: 200 })
    }

    fn offers(self, conn: u64, ticket: u64, accepted: bool) -> Self {
        self.web(WebLog::TicketOffered { conn, ticket: Some(ticket), accepted })
    }

    fn secures(self, conn: u64, resumed: bool) -> Self {
        self.web(WebLog::Secured { conn, resumed })
    }
}

type Turn = fn(Story) -> Story;

/// The rule fires where the story takes the bad turn, and not where it takes the good one.
#[track_caller]
fn tells(id: &str, given: Turn, good: Turn, bad: Turn) {
    tells_in(&plan(), id, given, good, bad);
}

#[track_caller]
fn tells_in(plan: &Plan, id: &str, given: Turn, good: Turn, bad: Turn) {
    let found = |turn: Turn| {
        let story = turn(given(Story::default()));
        // An instant is judged when the next one has come.
        let last = story.now_ms + 1;
        found_in(plan, id, story.at(last).http(HttpLog::Started).entries)
    };
    assert_eq!(found(good), Vec::<String>::new(), "{id}");
    assert!(!found(bad).is_empty(), "{id} let it pass");
}

fn nothing(story: Story) -> Story {
    story
}

const IO: (ErrorKind, Delivery) = (ErrorKind::Io, Delivery::MaybeSent);

#[test]
fn an_own_connection_has_one_user_at_a_time() {
    let given = |story: Story| story.opens(1, FIRST).asks(1, FIRST, 1);
    tells("P-1", given, |story| story.releases(1).asks(2, FIRST, 1), |story| story.asks(2, FIRST, 1));
    let asks_early = |story: Story| story.accepts(1, FIRST).web(WebLog::Pipelined { conn: 1 });
    tells("P-1", given, nothing, asks_early);
}

#[test]
fn the_books_hold_every_socket_and_no_more() {
    let good: Turn = |story| story.books([(FIRST, [1, 0, 1, 0])], 1);
    tells("P-2", nothing, good, |story| story.books([(FIRST, [1, 0, 1, 0])], 2));
    tells("P-2", nothing, good, |story| story.books([(FIRST, [2, 0, 1, 0])], 1));
}

#[test]
fn a_connection_in_nobody_s_hands_is_lost() {
    let given = |story: Story| story.opens(1, FIRST).asks(1, FIRST, 1);
    let books = |story: Story| story.books([(FIRST, [1, 0, 0, 0])], 1);
    tells("P-3", given, books, |story| story.releases(1).books([(FIRST, [1, 0, 0, 0])], 1));
}

#[test]
fn who_came_later_is_served_later() {
    let given = |story: Story| {
        story.opens(1, FIRST).asks(1, FIRST, 1).waits(2, FIRST).waits(3, FIRST).at(9).releases(1)
    };
    tells("P-4", given, |story| story.acquires(2, 1), |story| story.acquires(3, 1));
}

#[test]
fn nobody_waits_beside_what_may_be_dialed_or_is_free() {
    let good: Turn = |story| story.books([(FIRST, [1, 1, 0, 1])], 0);
    tells("P-5", nothing, good, |story| story.books([(FIRST, [1, 0, 0, 1])], 1));
    tells("P-5", nothing, good, |story| story.books([(FIRST, [2, 0, 1, 1])], 2));
}

#[test]
fn what_comes_back_is_taken_in_the_same_instant() {
    let given = |story: Story| story.opens(1, FIRST).asks(1, FIRST, 1).waits(2, FIRST).at(9).releases(1);
    tells("P-6", given, |story| story.acquires(2, 1), nothing);
}

#[test]
fn limits_of_a_host_and_of_all_are_kept() {
    let good: Turn = |story| story.books([(FIRST, [2, 0, 0, 0]), (SECOND, [1, 0, 0, 0])], 3);
    tells("P-7", nothing, good, |story| story.books([(FIRST, [3, 0, 0, 0])], 3));
    tells("P-7", nothing, good, |story| story.books([(FIRST, [2, 0, 0, 0]), (SECOND, [2, 0, 0, 0])], 4));
    tells("P-7", nothing, good, |story| story.books([(FIRST, [2, 0, 0, 0])], 4));
}

#[test]
fn a_full_pool_makes_room_for_a_host_that_has_nothing() {
    let good: Turn = |story| story.books([(FIRST, [2, 0, 0, 0]), (SECOND, [1, 0, 0, 1])], 3);
    tells("P-8", nothing, good, |story| story.books([(FIRST, [2, 0, 1, 0]), (SECOND, [1, 0, 0, 1])], 3));
}

#[test]
fn what_is_too_old_or_about_to_close_is_handed_to_nobody() {
    let given = |story: Story| story.opens(1, FIRST);
    let good: Turn = |story| story.at(900).asks(1, FIRST, 1);
    tells("P-9", given, good, |story| story.at(1100).asks(1, FIRST, 1));
    tells("P-9", given, good, |story| story.asks(1, FIRST, 1).at(5500).releases(1).asks(2, FIRST, 1));
    tells("P-9", given, good, |story| {
        story.event(Event::GoingAway { connection: 1 }).at(900).asks(1, FIRST, 1)
    });
    tells("P-9", given, good, |story| story.closes(1, false).at(900).asks(1, FIRST, 1));
}

#[test]
fn what_is_idle_is_closed_when_its_time_is_up() {
    let given = |story: Story| story.opens(1, FIRST);
    let good: Turn = |story| story.at(1000).closes(1, false).at(1500).http(HttpLog::Started);
    tells("P-10", given, good, |story| story.at(1500).http(HttpLog::Started));
}

#[test]
fn the_most_recently_used_is_handed_out_first() {
    let given = |story: Story| {
        let both = story.opens(1, FIRST).opens(2, FIRST).asks(1, FIRST, 1).asks(2, FIRST, 2);
        both.at(10).releases(1).at(20).releases(2).at(30).calls(3, FIRST)
    };
    tells("P-11", given, |story| story.acquires(3, 2), |story| story.acquires(3, 1));
}

#[test]
fn a_failed_dial_fails_one_request() {
    let given = |story: Story| {
        let dialing = story.calls(1, FIRST).calls(2, FIRST).dials(1, FIRST);
        let failed = dialing.event(Event::DialFailed { connection: 1, kind: ErrorKind::Connect });
        failed.fails(1, ErrorKind::Connect, Delivery::NotSent)
    };
    tells("P-12", given, nothing, |story| story.fails(2, ErrorKind::Connect, Delivery::NotSent));
}

#[test]
fn who_may_speak_http_2_is_dialed_once() {
    let good: Turn = |story| story.books([(SECOND, [1, 1, 0, 2])], 0);
    tells("P-13", nothing, good, |story| story.books([(SECOND, [2, 2, 0, 2])], 0));
}

#[test]
fn a_connection_has_no_more_streams_than_it_takes() {
    let given = |story: Story| story.opens(1, SECOND).asks(1, SECOND, 1);
    let good: Turn = |story| story.asks(2, SECOND, 1);
    tells("P-14", given, good, |story| story.asks(2, SECOND, 1).asks(3, SECOND, 1));
    tells("P-14", given, good, |story| {
        let lower = story.event(Event::StreamsChanged { connection: 1, streams: 1 });
        lower.at(5).asks(2, SECOND, 1)
    });
}

#[test]
fn long_after_goaway_no_request_comes() {
    let given = |story: Story| story.accepts(1, SECOND).web(WebLog::Leaving { conn: 1, why: "goaway" });
    tells("P-15", given, |story| story.executes(1, 1), |story| story.at(200).executes(1, 1));
}

#[test]
fn what_must_not_be_repeated_or_was_called_unsent_is_executed_once_at_most() {
    let given = |story: Story| story.opens(1, FIRST).accepts(1, FIRST).asks(1, FIRST, 1).executes(1, 1);
    let good: Turn = |story| story.fails(1, IO.0, IO.1);
    tells("P-16", given, good, |story| story.executes(1, 1));
    tells("P-16", given, good, |story| story.fails(1, ErrorKind::Io, Delivery::NotSent));
    let ghost = |story: Story| story.calls(2, FIRST).fails(2, IO.0, IO.1).executes(1, 2);
    tells("P-16", given, good, ghost);
}

#[test]
fn close_returns_with_the_last_connection_and_takes_no_more() {
    let given = |story: Story| story.opens(1, FIRST).http(HttpLog::CloseCalled).at(5);
    let good: Turn = |story| story.closes(1, false).http(HttpLog::CloseReturned { open: 0 });
    tells("P-19", given, good, |story| story.http(HttpLog::CloseReturned { open: 1 }));
    tells("P-19", given, good, |story| story.asks(1, FIRST, 1));
}

#[test]
fn a_client_that_is_gone_leaves_nothing() {
    let empty: Turn = |story| story.http(HttpLog::Dropped).http(HttpLog::Residue(Census::default()));
    let held = |story: Story| {
        let census = Census { sockets: 1, ..Census::default() };
        story.http(HttpLog::Dropped).http(HttpLog::Residue(census))
    };
    tells("P-20", nothing, empty, held);
    tells("P-20", nothing, empty, |story| story.http(HttpLog::Residue(Census::default())));
}

#[test]
fn a_connection_serves_its_own_host() {
    let given = |story: Story| story.opens(1, SECOND);
    tells("P-21", given, |story| story.asks(1, SECOND, 1), |story| story.asks(1, OTHER_SECOND, 1));
}

/// A connection over which a request is out.
fn busy(story: Story) -> Story {
    story.opens(1, SECOND).asks(1, SECOND, 1)
}

#[test]
fn one_ping_is_out_at_a_time() {
    let given = |story: Story| busy(story).pings(1, false, 0).at(20);
    let good: Turn = |story| story.hears_pong(1, 20, 0).pings(1, false, 0);
    tells("K-1", given, good, |story| story.pings(1, false, 0));
}

#[test]
fn keep_alive_asks_after_silence_and_where_somebody_waits() {
    let good: Turn = |story| story.at(1000).pings(1, true, 1000);
    tells("K-2", busy, good, |story| story.at(500).pings(1, true, 500));
    tells("K-2", busy, good, |story| story.releases(1).at(1000).pings(1, true, 1000));
}

#[test]
fn who_has_said_something_is_not_given_up_on() {
    let given = |story: Story| busy(story).at(1000).pings(1, true, 1000);
    let good: Turn = |story| story.at(1500).closes(1, true);
    tells("K-3", given, good, |story| story.at(1400).reads(1).at(1500).closes(1, true));
    tells("K-3", busy, nothing_silent, |story| story.at(1500).closes(1, true));
}

/// The peer is pinged and given up on in time.
fn nothing_silent(story: Story) -> Story {
    story.at(1000).pings(1, true, 1000).at(1500).closes(1, true)
}

#[test]
fn the_last_sign_of_life_is_what_the_socket_gave() {
    let given = |story: Story| busy(story).at(700).reads(1).at(1700);
    tells("K-4", given, |story| story.pings(1, true, 1000), |story| story.pings(1, true, 1700));
}

#[test]
fn a_peer_given_up_on_fails_what_waits_for_it_at_once() {
    let given = |story: Story| nothing_silent(busy(story));
    tells("K-5", given, |story| story.fails(1, ErrorKind::Timeout, Delivery::MaybeSent), nothing);
}

#[test]
fn the_window_grows_up_to_its_limit() {
    let good: Turn = |story| story.event(Event::WindowGrew { connection: 1, window: 1 << 20 });
    tells("K-6", busy, good, |story| story.event(Event::WindowGrew { connection: 1, window: 65_534 }));
    let beyond = |story: Story| story.event(Event::WindowGrew { connection: 1, window: (1 << 20) + 1 });
    tells("K-6", busy, good, beyond);
}

#[test]
fn what_is_counted_is_what_came() {
    let given = |story: Story| busy(story).pings(1, false, 0).at(20);
    let good: Turn = |story| story.hears_pong(1, 20, 1000);
    tells("K-7", given, good, |story| story.hears_pong(1, 20, 1001));
    tells("K-7", given, good, |story| {
        story.hears_pong(1, 20, 1000).pings(1, false, 0).at(40).hears_pong(1, 20, 999)
    });
}

#[test]
fn a_round_trip_is_the_time_from_a_ping_to_its_pong() {
    let given = |story: Story| busy(story).pings(1, false, 0).at(20);
    tells("K-8", given, |story| story.hears_pong(1, 20, 0), |story| story.hears_pong(1, 40, 0));
}

#[test]
fn a_host_that_asked_for_calm_is_pinged_half_as_often() {
    let given = |story: Story| {
        let calmed = busy(story).event(Event::CalmAsked { connection: 1 }).closes(1, false);
        calmed.opens(2, SECOND).asks(2, SECOND, 2)
    };
    let good: Turn = |story| story.at(2000).pings(2, true, 2000);
    tells("K-9", given, good, |story| story.at(1000).pings(2, true, 1000));
}

#[test]
fn no_connection_is_open_and_silent_for_long() {
    let good: Turn = |story| story.at(1900).http(HttpLog::Started);
    tells("K-12", busy, good, |story| story.at(2100).http(HttpLog::Started));
    let pinged = |story: Story| busy(story).at(1000).pings(1, true, 1000);
    tells(
        "K-12",
        pinged,
        |story| story.at(1500).closes(1, true),
        |story| story.at(1510).http(HttpLog::Started),
    );
}

#[test]
fn without_keep_alive_nobody_is_pinged_for_it_or_given_up_on() {
    let mut plan = plan();
    plan.http[0].config.h2_keep_alive_interval_ms = None;
    let good: Turn = |story| story.pings(1, false, 0).ends(1, HttpOutcome::Whole);
    tells_in(&plan, "K-13", busy, good, |story| story.pings(1, true, 0));
    tells_in(&plan, "K-13", busy, good, |story| story.closes(1, true));
}

#[test]
fn a_clock_that_jumps_makes_nobody_silent() {
    let mut plan = plan();
    let kind = FaultKind::ClockJump { by_ms: 60_000 };
    plan.faults = vec![Fault { at: When::At(100), until: Until::Heal, target: Target::All, kind }];
    let jump = |story: Story| {
        let began = What::Fault(FaultLog::Began { fault: 0, text: "clock-jump".to_owned() });
        busy(story).at(100).what(Place::World, began)
    };
    tells_in(&plan, "K-14", jump, nothing, |story| story.closes(1, true));
}

#[test]
fn a_ticket_is_offered_once() {
    let given = |story: Story| {
        let first = story.brings_tickets(1, SECOND, &[1, 2]).at(9).accepts(2, SECOND).offers(2, 2, true);
        first.accepts(3, SECOND)
    };
    tells("T-1", given, |story| story.offers(3, 1, true), |story| story.offers(3, 2, true));
}

#[test]
fn a_ticket_is_offered_to_the_host_it_is_from() {
    let given = |story: Story| story.brings_tickets(1, SECOND, &[1]).at(9);
    tells(
        "T-2",
        given,
        |story| story.accepts(2, SECOND).offers(2, 1, true),
        |story| story.accepts(2, OTHER_SECOND).offers(2, 1, true),
    );
}

#[test]
fn the_newest_ticket_is_offered_and_none_that_has_expired() {
    let given = |story: Story| story.brings_tickets(1, SECOND, &[1, 2]);
    let good: Turn = |story| story.at(9).accepts(2, SECOND).offers(2, 2, true);
    tells("T-3", given, good, |story| story.at(9).accepts(2, SECOND).offers(2, 1, true));
    tells("T-3", given, good, |story| story.at(4000).accepts(2, SECOND).offers(2, 2, true));
}

#[test]
fn a_ticket_that_is_turned_down_makes_a_full_handshake() {
    let given =
        |story: Story| story.brings_tickets(1, SECOND, &[1]).at(9).accepts(2, SECOND).offers(2, 1, false);
    tells("T-6", given, |story| story.secures(2, false), |story| story.secures(2, true));
}

#[test]
fn where_there_is_a_ticket_a_session_is_resumed() {
    let given = |story: Story| story.brings_tickets(1, SECOND, &[1]).at(9).accepts(2, SECOND);
    let good: Turn = |story| story.offers(2, 1, true).secures(2, true);
    tells("T-7", given, good, |story| story.secures(2, false));
}

#[test]
fn a_request_ends_in_its_time() {
    let given = |story: Story| story.calls(1, FIRST);
    let good: Turn = |story| story.at(1990).http(HttpLog::Started);
    tells("H-1", given, good, |story| story.at(2010).http(HttpLog::Started));
}

#[test]
fn an_answer_is_the_request_s_own() {
    let given = |story: Story| busy(story).accepts(1, SECOND);
    let good: Turn = |story| story.executes(1, 1).ends(1, HttpOutcome::Whole);
    tells("H-2", given, good, |story| story.ends(1, HttpOutcome::Whole));
    tells("H-2", given, good, |story| story.ends(1, HttpOutcome::Wrong { text: "another's".to_owned() }));
}

#[test]
fn in_a_healthy_world_every_request_is_answered() {
    let given = |story: Story| busy(story.at(20_001));
    tells("H-3", given, |story| story.ends(1, HttpOutcome::Whole), |story| story.fails(1, IO.0, IO.1));
}

#[test]
fn a_task_that_panics_or_spins_is_seen() {
    let good: Turn = |story| story.what(Place::Client(0), What::Task(TaskLog::Ended { name: "hpx-http" }));
    tells("H-4", nothing, good, |story| {
        let text = "index out of bounds".to_owned();
        story.what(Place::Client(0), What::Task(TaskLog::Panicked { name: "hpx-http", text }))
    });
    tells("H-4", nothing, good, |story| {
        story.what(Place::Client(0), What::Task(TaskLog::Spun { polls: 100_000 }))
    });
}

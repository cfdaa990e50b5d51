//! Each oracle fires on a trace made bad by hand, and is silent on its good neighbour.

mod contract;
mod http;

use std::{sync::Arc, time::Duration};

use hpx_transport::{
    ErrorKind, TransportError,
    backoff::Backoff,
    env::Timestamp,
    websocket::{ConnectionEpoch, ConnectionState, Event, WsConfig},
};
use serde_json::Value;

use super::Bench;
use crate::{
    dialect::{Dialect, Heard, SimDialect},
    env::Census,
    plan::{Op, Plan, Step},
    trace::{Entry, Frame, Outcome, Place, ServerLog, SocketLog, TaskLog, What, WorkLog},
};

const SEED: [u8; 32] = [7; 32];

fn plan() -> Plan {
    let mut plan = Plan::draw(42);
    plan.clients.truncate(1);
    plan.faults.clear();
    (plan.tick_ms, plan.heal_ms, plan.settle_ms) = (1, 10_000, 20_000);
    let client = &mut plan.clients[0];
    client.reader = crate::plan::Reader::Prompt;
    client.script = vec![Step { at_ms: 20_000, op: Op::Close }];
    let config = &mut client.config;
    (config.reconnect_initial_delay_ms, config.reconnect_max_delay_ms) = (100, 400);
    (config.reconnect_backoff_factor, config.reconnect_jitter, config.stable_after_ms) = (2.0, 1.0, 1000);
    (config.ping_interval_ms, config.pong_timeout_ms, config.close_timeout_ms) = (1000, 500, 300);
    plan
}

/// What the oracle `id` finds in a trace of one client.
fn found(id: &str, trace: Vec<(u64, What)>) -> Vec<String> {
    found_in(&plan(), id, placed(trace))
}

/// The trace of the one client and its exchange.
fn placed(trace: Vec<(u64, What)>) -> Vec<Entry> {
    let entry = |(ms, what)| {
        let place = if matches!(what, What::Server(_)) { Place::Exchange } else { Place::Client(0) };
        Entry { at: at(ms), place, what }
    };
    trace.into_iter().map(entry).collect()
}

/// What the oracle `id` finds in a trace of this plan.
fn found_in(plan: &Plan, id: &str, entries: Vec<Entry>) -> Vec<String> {
    let mut bench = Bench::new(&Arc::new(plan.clone()), &(Arc::new(SimDialect) as Arc<dyn Dialect>));
    entries.iter().for_each(|entry| bench.observe(entry));
    bench.finish(at(30_000));
    let verdict =
        bench.verdicts().into_iter().find(|verdict| verdict.card.id == id).expect("the oracle has a seat");
    assert!(verdict.armed > 0 || !verdict.violations.is_empty(), "{id} was not armed");
    verdict.violations.into_iter().map(|violation| violation.text).collect()
}

#[track_caller]
fn fires(id: &str, trace: Vec<(u64, What)>) {
    assert!(!found(id, trace).is_empty(), "{id} let it pass");
}

#[track_caller]
fn is_silent(id: &str, trace: Vec<(u64, What)>) {
    assert_eq!(found(id, trace), Vec::<String>::new(), "{id}");
}

fn at(ms: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(ms)
}

/// An error whose text names the field: only the library itself makes others.
fn error(config: WsConfig) -> TransportError {
    config.validate().expect_err("the config is invalid")
}

fn cause() -> TransportError {
    error(WsConfig::new("nonsense"))
}

fn silence() -> TransportError {
    error(WsConfig::new("ws://x/").pong_timeout(Duration::ZERO))
}

fn connected(epoch: u64) -> What {
    What::Event(Event::Connected { epoch: ConnectionEpoch(epoch) })
}

fn disconnected(epoch: u64, reason: TransportError) -> What {
    What::Event(Event::Disconnected { epoch: ConnectionEpoch(epoch), reason })
}

fn retrying(attempt: u32, ms: u64) -> What {
    What::Event(Event::Retrying { attempt, delay: Duration::from_millis(ms), cause: cause() })
}

fn dialing(socket: u64) -> What {
    What::Socket(SocketLog::Dialing { socket })
}

fn opened(socket: u64) -> What {
    What::Socket(SocketLog::Opened { socket, local: ([10, 0, 0, 1], 1000 + socket as u16).into() })
}

fn closed(socket: u64) -> What {
    What::Socket(SocketLog::Closed { socket })
}

fn wrote(text: &str) -> What {
    let frame = Frame { opcode: 1, payload: text.as_bytes().to_vec() };
    What::Socket(SocketLog::Frame { socket: 1, frame })
}

fn accepted(conn: u64) -> What {
    What::Server(ServerLog::Accepted { conn, client: 0, peer: ([10, 0, 0, 1], 1000 + conn as u16).into() })
}

fn authenticated(conn: u64) -> What {
    What::Server(ServerLog::Authenticated { conn })
}

fn heard(heard: Heard) -> What {
    What::Server(ServerLog::Heard { conn: 1, heard, bytes: 1 })
}

fn work(log: WorkLog) -> What {
    What::Work(log)
}

fn task_ended() -> What {
    What::Task(TaskLog::Ended { name: "driver" })
}

fn task_spawned() -> What {
    What::Task(TaskLog::Spawned { name: "driver" })
}

fn ended(label: u64, outcome: Outcome) -> What {
    work(WorkLog::CallEnded { label, request: true, outcome, live: 0, pending: 0 })
}

fn snapshot(state: ConnectionState, pending: usize, guards: &[&str]) -> What {
    let names: Vec<String> = guards.iter().map(|name| (*name).to_owned()).collect();
    work(WorkLog::Snapshot { state, pending, live: 0, topics: names.clone(), guards: names })
}

#[test]
fn ws_1_fires_on_a_second_dial() {
    is_silent("WS-1", vec![(0, dialing(1)), (1, opened(1)), (2, closed(1)), (3, dialing(2))]);
    fires("WS-1", vec![(0, dialing(1)), (1, opened(1)), (3, dialing(2))]);
}

#[test]
fn ws_3_fires_on_every_break_of_the_grammar() {
    let lived = || vec![(0, accepted(1)), (0, authenticated(1)), (1, connected(1))];
    let with = |more: Vec<(u64, What)>| lived().into_iter().chain(more).collect::<Vec<_>>();
    is_silent("WS-3", with(vec![(2, disconnected(1, cause())), (3, retrying(1, 5))]));
    fires("WS-3", with(vec![(2, connected(2))]));
    fires("WS-3", with(vec![(2, disconnected(2, cause()))]));
    fires("WS-3", with(vec![(2, retrying(1, 5))]));
    fires("WS-3", with(vec![(2, disconnected(1, cause())), (2, authenticated(1)), (3, connected(1))]));
    fires("WS-3", with(vec![(2, work(WorkLog::StreamEnded))]));
    fires("WS-3", vec![(1, connected(1))]);
}

#[test]
fn ws_5_fires_on_a_long_wait_and_on_growth_that_begins_anew_without_reason() {
    is_silent("WS-5", vec![(0, retrying(1, 100)), (1, retrying(2, 200)), (2, retrying(3, 400))]);
    fires("WS-5", vec![(0, retrying(1, 101))]);
    fires("WS-5", vec![(0, retrying(1, 10)), (1, retrying(3, 10))]);
    fires("WS-5", vec![(0, retrying(1, 10)), (1, retrying(1, 10))]);
    let short = |until| {
        vec![
            (0, retrying(1, 10)),
            (10, accepted(1)),
            (10, authenticated(1)),
            (until, closed(1)),
            (until, retrying(1, 10)),
        ]
    };
    is_silent("WS-5", short(1010));
    fires("WS-5", short(900));
}

#[test]
fn ws_6_fires_on_a_wait_the_seed_does_not_draw_and_on_a_dial_nobody_announced() {
    let attempt = || What::Socket(SocketLog::Resolving);
    let delay = Backoff::new(plan().clients[0].config.backoff(), SEED).next_delay(None);
    let seeded = (0, What::Task(TaskLog::Seeded { seed: SEED }));
    let drawn = |delay: Duration, dialed: Duration| {
        let retrying = What::Event(Event::Retrying { attempt: 1, delay, cause: cause() });
        let dialed = u64::try_from(dialed.as_millis()).expect("a short wait") + 1;
        vec![seeded.clone(), (0, attempt()), (0, retrying), (dialed, attempt()), (29_999, attempt())]
    };
    let only = |mut trace: Vec<(u64, What)>| {
        trace.pop();
        trace
    };
    is_silent("WS-6", only(drawn(delay, delay)));
    fires("WS-6", only(drawn(delay + Duration::from_nanos(1), delay)));
    fires("WS-6", only(drawn(delay, delay + Duration::from_millis(20))));
    fires("WS-6", drawn(delay, delay));
    let never =
        vec![seeded, (0, attempt()), (0, What::Event(Event::Retrying { attempt: 1, delay, cause: cause() }))];
    fires("WS-6", never);
}

#[test]
fn ws_9_fires_on_every_breach_of_the_contract() {
    let start = |label| (0, work(WorkLog::RequestStarted { label, timeout: Duration::from_millis(100) }));
    let sent = (1, wrote(&SimDialect.request(1, 0)));
    let link = || vec![(0, accepted(1)), (0, opened(1)), start(1)];
    let with = |more: Vec<(u64, What)>| link().into_iter().chain(more).collect::<Vec<_>>();
    let reply = |label, conn| (5, ended(1, Outcome::Answered { label, conn }));
    is_silent("WS-9", with(vec![sent.clone(), reply(1, 1)]));
    // A ghost: written after it was dropped.
    fires("WS-9", with(vec![(1, ended(1, Outcome::Cancelled { polls: 1 })), sent.clone()]));
    // Written twice.
    fires("WS-9", with(vec![sent.clone(), sent.clone(), reply(1, 1)]));
    // Heard twice.
    let hears = || (2, heard(Heard::Request { id: Value::Null, label: 1, reply_after_ms: 0 }));
    fires("WS-9", with(vec![sent.clone(), hears(), hears(), reply(1, 1)]));
    // The reply to another request, or of another link.
    fires("WS-9", with(vec![sent.clone(), reply(2, 1)]));
    fires("WS-9", with(vec![sent.clone(), reply(1, 2)]));
    // Answered after its link was gone; answered twice.
    fires(
        "WS-9",
        with(vec![sent.clone(), (3, closed(1)), (50, ended(1, Outcome::Answered { label: 1, conn: 1 }))]),
    );
    fires("WS-9", with(vec![sent.clone(), reply(1, 1), reply(1, 1)]));
    // Reported as not sent, and it was.
    let delivery = hpx_transport::Delivery::NotSent;
    fires("WS-9", with(vec![sent, (5, ended(1, Outcome::Failed { kind: ErrorKind::Timeout, delivery }))]));
}

#[test]
fn ws_11_fires_on_what_is_left() {
    let left = |census| vec![(25_000, work(WorkLog::Residue(census)))];
    is_silent("WS-11", left(Census::default()));
    fires("WS-11", left(Census { tasks: 1, ..Census::default() }));
    fires("WS-11", left(Census { timers: 1, ..Census::default() }));
    fires("WS-11", left(Census { sockets: 1, ..Census::default() }));
    fires("WS-11", vec![(1, snapshot(ConnectionState::Ready, 1, &[]))]);
    let outcome = Outcome::Cancelled { polls: 1 };
    fires(
        "WS-11",
        vec![(1, work(WorkLog::CallEnded { label: 1, request: true, outcome, live: 0, pending: 1 }))],
    );
}

#[test]
fn ws_14_fires_on_every_slip_of_a_subscription() {
    let sub = || wrote(r#"{"op":"sub","id":1,"topics":["t1"]}"#);
    let unsub = || wrote(r#"{"op":"unsub","id":1,"topics":["t1"]}"#);
    let auth = || (1, wrote(r#"{"op":"auth"}"#));
    let guard = || (0, work(WorkLog::GuardOpened { guard: 1, topic: "t1".to_owned() }));
    let hears = || heard(Heard::Subscribe { id: Value::Null, topics: vec!["t1".to_owned()] });
    let standing = |more: Vec<(u64, What)>| {
        let link = vec![guard(), (0, opened(1)), (0, accepted(1)), (1, authenticated(1)), auth()];
        link.into_iter().chain(more).collect::<Vec<_>>()
    };
    let rest = || (9000, snapshot(ConnectionState::Ready, 0, &["t1"]));
    is_silent("WS-14", standing(vec![(2, sub()), (3, hears()), rest()]));
    fires("WS-14", vec![guard(), (0, opened(1)), (2, sub())]);
    fires("WS-14", standing(vec![(2, sub()), (3, sub())]));
    fires("WS-14", standing(vec![(2, unsub())]));
    // More topics than fit.
    let many: Vec<String> = (0..101).map(|topic| format!("t{topic}")).collect();
    fires(
        "WS-14",
        standing(vec![(2, wrote(&serde_json::json!({"op": "sub", "id": 1, "topics": many}).to_string()))]),
    );
    // A queued message went out first.
    fires("WS-14", standing(vec![(2, wrote(&SimDialect.message(9))), (2, sub())]));
    // The exchange was never told; or still believes what is over.
    fires("WS-14", standing(vec![(2, sub()), rest()]));
    fires(
        "WS-14",
        standing(vec![(2, sub()), (3, hears()), (9000, snapshot(ConnectionState::Ready, 0, &[]))]),
    );
}

#[test]
fn ws_16_fires_on_a_panic() {
    is_silent("WS-16", vec![(1, task_ended())]);
    fires("WS-16", vec![(1, What::Task(TaskLog::Panicked { name: "driver", text: "oh".to_owned() }))]);
}

#[test]
fn ws_17_fires_on_impatience_and_on_endless_patience() {
    let ping =
        || (1000, What::Socket(SocketLog::Frame { socket: 1, frame: Frame { opcode: 9, payload: vec![] } }));
    let read = |ms| (ms, What::Socket(SocketLog::Read { socket: 1, bytes: 1 }));
    is_silent("WS-17", vec![(0, connected(1)), read(1000), ping(), (1500, disconnected(1, silence()))]);
    fires("WS-17", vec![(0, connected(1)), ping(), read(1100), (1500, disconnected(1, silence()))]);
    fires("WS-17", vec![(0, connected(1)), ping(), (1600, task_spawned())]);
}

#[test]
fn ws_l1_fires_on_a_connection_that_does_not_come_back() {
    let there = || vec![(1, accepted(1)), (2, authenticated(1))];
    let with = |what| there().into_iter().chain([(20_000, what)]).collect::<Vec<_>>();
    is_silent("WS-L1", with(snapshot(ConnectionState::Ready, 0, &[])));
    fires("WS-L1", with(snapshot(ConnectionState::Reconnecting { attempt: 9 }, 0, &[])));
    // Ready, says the library, and the exchange knows of nothing.
    fires("WS-L1", vec![(20_000, snapshot(ConnectionState::Ready, 0, &[]))]);
}

#[test]
fn ws_l2_fires_on_an_end_that_takes_too_long() {
    let ending = |asked, took: u64| vec![(0, task_spawned()), (10, work(asked)), (10 + took, task_ended())];
    is_silent("WS-L2", ending(WorkLog::HandlesDropped, 300));
    fires("WS-L2", ending(WorkLog::HandlesDropped, 320));
    fires("WS-L2", vec![(0, task_spawned()), (10, work(WorkLog::HandlesDropped))]);
    // The driver has ended, and `close` never returned.
    fires("WS-L2", ending(WorkLog::CloseCalled, 100));
    fires(
        "WS-L2",
        vec![(0, task_spawned()), (10, work(WorkLog::CloseCalled)), (11, work(WorkLog::CloseReturned))],
    );
}

#[test]
fn ws_l4_fires_on_any_loss_in_a_calm_sea() {
    is_silent(
        "WS-L4",
        vec![(0, connected(1)), (5, work(WorkLog::CloseCalled)), (6, disconnected(1, cause()))],
    );
    fires("WS-L4", vec![(0, connected(1)), (6, disconnected(1, cause()))]);
}

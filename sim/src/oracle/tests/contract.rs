//! Sends, limits, guards, causes, fleets, hostile peers, and the model.

use hpx_transport::{Delivery, websocket::CloseCause};

use super::*;
use crate::plan::Behaviour;

fn taken(label: u64) -> What {
    work(WorkLog::CallEnded { label, request: false, outcome: Outcome::Taken, live: 0, pending: 0 })
}

fn send(label: u64, confirmed: bool) -> What {
    work(WorkLog::SendStarted { label, confirmed })
}

fn on(socket: u64, text: &str) -> What {
    let frame = Frame { opcode: 1, payload: text.as_bytes().to_vec() };
    What::Socket(SocketLog::Frame { socket, frame })
}

fn goodbye(code: u16) -> What {
    let frame = Frame { opcode: 8, payload: code.to_be_bytes().to_vec() };
    What::Socket(SocketLog::Frame { socket: 1, frame })
}

fn over(unsent: u64) -> What {
    What::Event(Event::Closed { cause: CloseCause::CloseCalled, unsent })
}

fn misbehaved(behaviour: Behaviour) -> What {
    What::Server(ServerLog::Misbehaved { conn: 1, behaviour })
}

#[test]
fn ws_2_fires_on_a_message_to_an_old_link() {
    is_silent("WS-2", vec![(0, on(1, "a")), (1, on(2, "b"))]);
    fires("WS-2", vec![(0, on(1, "a")), (1, on(2, "b")), (2, on(1, "c"))]);
}

#[test]
fn ws_4_fires_on_a_retry_without_a_failure() {
    let attempt = || What::Socket(SocketLog::Resolving);
    is_silent("WS-4", vec![(0, attempt()), (1, retrying(1, 5)), (6, attempt()), (7, retrying(2, 5))]);
    fires("WS-4", vec![(0, attempt()), (1, retrying(1, 5)), (1, retrying(2, 5))]);
}

#[test]
fn ws_7_fires_where_a_fleet_draws_as_one() {
    let mut fleet = plan();
    let client = fleet.clients[0].clone();
    fleet.clients = vec![client; 300];
    let waits = |share: fn(u64) -> u64| {
        let entry = |client: u64| {
            let at = at(client);
            Entry { at, place: Place::Client(client as usize), what: retrying(1, share(client)) }
        };
        (0..300).map(entry).collect::<Vec<_>>()
    };
    let found = |entries| found_in(&fleet, "WS-7", entries);
    assert_eq!(found(waits(|client| client / 3)), Vec::<String>::new());
    assert_ne!(found(waits(|_| 50)), Vec::<String>::new());
    // Two clients, one share.
    fleet.clients.truncate(2);
    let two = |second| {
        let entry = |client, ms| Entry { at: at(1), place: Place::Client(client), what: retrying(1, ms) };
        found_in(&fleet, "WS-7", vec![entry(0, 50), entry(1, second)])
    };
    assert_eq!(two(51), Vec::<String>::new());
    assert_ne!(two(50), Vec::<String>::new());
}

#[test]
fn ws_8_fires_on_every_slip_of_the_accounts() {
    let say = |label| wrote(&SimDialect.message(label));
    let two = || vec![(0, send(1, false)), (0, taken(1)), (0, send(2, false)), (0, taken(2))];
    let with = |more: Vec<(u64, What)>| two().into_iter().chain(more).collect::<Vec<_>>();
    is_silent("WS-8", with(vec![(5, say(1)), (5, say(2)), (9, over(0))]));
    is_silent("WS-8", with(vec![(9, over(2))]));
    // Overtaken; lost and not counted; counted and written.
    fires("WS-8", with(vec![(5, say(2)), (5, say(1))]));
    fires("WS-8", with(vec![(9, over(1))]));
    fires("WS-8", with(vec![(5, say(1)), (5, say(2)), (9, over(1))]));
    // Confirmed, and there was no link.
    let linked = || vec![(0, accepted(1)), (0, authenticated(1))];
    let confirmed = || vec![(1, send(3, true)), (2, taken(3))];
    is_silent("WS-8", linked().into_iter().chain(confirmed()).collect());
    fires("WS-8", confirmed());
    // A goodbye before the last words.
    let leaves = vec![(0, connected(1)), (1, send(1, false)), (1, taken(1)), (1, work(WorkLog::CloseCalled))];
    let leaves = |more: Vec<(u64, What)>| leaves.clone().into_iter().chain(more).collect::<Vec<_>>();
    is_silent("WS-8", leaves(vec![(1, say(1)), (1, goodbye(1000))]));
    fires("WS-8", leaves(vec![(1, goodbye(1000))]));
}

#[test]
fn ws_10_fires_on_a_queue_beyond_its_limit() {
    let mut small = plan();
    let config = &mut small.clients[0].config;
    (config.command_channel_capacity, config.max_pending_requests) = (2, 3);
    let found = |trace: Vec<(u64, What)>| found_in(&small, "WS-10", placed(trace));
    let sends = |count| (1..=count).flat_map(|label| [(0, send(label, false)), (0, taken(label))]).collect();
    assert_eq!(found(sends(2)), Vec::<String>::new());
    assert_ne!(found(sends(3)), Vec::<String>::new());
    assert_eq!(found(vec![(1, snapshot(ConnectionState::Ready, 3, &[]))]), Vec::<String>::new());
    assert_ne!(found(vec![(1, snapshot(ConnectionState::Ready, 4, &[]))]), Vec::<String>::new());
}

#[test]
fn ws_12_fires_on_what_a_dropped_future_leaves() {
    let dropped = |live, pending| {
        let outcome = Outcome::Cancelled { polls: 1 };
        (1, work(WorkLog::CallEnded { label: 1, request: true, outcome, live, pending }))
    };
    is_silent("WS-12", vec![dropped(1, 1)]);
    fires("WS-12", vec![dropped(0, 1)]);
    fires("WS-12", vec![dropped(0, 0), (2, ended(1, Outcome::Answered { label: 1, conn: 1 }))]);
    let left = || (9, work(WorkLog::Residue(Census::default())));
    let cancelled = || (1, work(WorkLog::CloseCancelled { polls: 1 }));
    is_silent("WS-12", vec![(0, task_spawned()), cancelled(), (2, task_ended()), left()]);
    fires("WS-12", vec![(0, task_spawned()), cancelled(), left()]);
}

#[test]
fn ws_13_fires_on_a_spin_and_on_bytes_left_unread() {
    let read = || (1, What::Socket(SocketLog::Read { socket: 1, bytes: 9 }));
    is_silent("WS-13", vec![read()]);
    fires("WS-13", vec![read(), (1, What::Task(TaskLog::Spun { polls: 1000 }))]);
    fires("WS-13", vec![read(), (5, What::Socket(SocketLog::LeftUnread { socket: 1, since: at(1) }))]);
}

#[test]
fn ws_15_fires_on_every_slip_of_a_guard() {
    let open = || {
        let mut trace = vec![(0, task_spawned()), (0, accepted(1)), (0, accepted(2))];
        trace.push((0, work(WorkLog::GuardOpened { guard: 1, topic: "t1".to_owned() })));
        for (conn, sequence) in [(1, 1), (1, 2), (1, 3), (2, 4)] {
            let text = SimDialect.push("t1", sequence, conn);
            trace.push((1, What::Server(ServerLog::Said { conn, text })));
        }
        trace
    };
    let with = |more: Vec<(u64, What)>| open().into_iter().chain(more).collect::<Vec<_>>();
    let got = |sequence, conn| {
        (2, work(WorkLog::GuardMessage { guard: 1, topic: "t1".to_owned(), sequence, conn }))
    };
    let lagged = (2, work(WorkLog::GuardLagged { guard: 1, count: 1 }));
    let gap = (2, work(WorkLog::GuardGap { guard: 1, from: 1, to: 2 }));
    let ended = || (3, work(WorkLog::GuardEnded { guard: 1, topic: "t1".to_owned() }));
    let end = || vec![(3, task_ended()), ended()];
    let lived = |more: Vec<(u64, What)>| with(more.into_iter().chain(end()).collect());
    is_silent("WS-15", lived(vec![got(1, 1), lagged.clone(), got(3, 1), gap.clone(), got(4, 2)]));
    // A loss that is not counted, or counted and was none; a new link that doesn't show; a push nobody made.
    fires("WS-15", lived(vec![got(1, 1), got(3, 1)]));
    fires("WS-15", lived(vec![got(1, 1), lagged.clone(), got(2, 1)]));
    fires("WS-15", lived(vec![got(3, 1), got(4, 2)]));
    fires("WS-15", lived(vec![got(9, 1)]));
    fires("WS-15", lived(vec![(2, work(WorkLog::GuardGap { guard: 1, from: 2, to: 2 }))]));
    // It ends before its driver; or not at all.
    fires("WS-15", with(vec![ended()]));
    fires("WS-15", with(vec![(3, task_ended())]));
}

#[test]
fn ws_16_fires_on_a_blame_that_does_not_fit_and_on_a_link_that_should_be_gone() {
    let link = || vec![(0, accepted(1)), (0, opened(1))];
    let with = |more: Vec<(u64, What)>| link().into_iter().chain(more).collect::<Vec<_>>();
    is_silent("WS-16", with(vec![(1, misbehaved(Behaviour::BadUtf8)), (2, goodbye(1007))]));
    fires("WS-16", with(vec![(1, misbehaved(Behaviour::BadUtf8)), (2, goodbye(1002))]));
    fires("WS-16", with(vec![(2, goodbye(1002))]));
    let rest = || (20_000, snapshot(ConnectionState::Ready, 0, &[]));
    let gone = || (3, What::Server(ServerLog::Gone { conn: 1, why: String::new() }));
    is_silent("WS-16", with(vec![(1, misbehaved(Behaviour::OversizeMessage)), gone(), rest()]));
    is_silent("WS-16", with(vec![(1, misbehaved(Behaviour::PingFlood)), rest()]));
    fires("WS-16", with(vec![(1, misbehaved(Behaviour::OversizeMessage)), rest()]));
}

#[test]
fn ws_l3_fires_on_a_request_that_outlives_its_deadline() {
    let start = || (0, work(WorkLog::RequestStarted { label: 1, timeout: Duration::from_millis(100) }));
    let failed = Outcome::Failed { kind: ErrorKind::Timeout, delivery: Delivery::NotSent };
    is_silent("WS-L3", vec![start(), (100, ended(1, failed.clone()))]);
    fires("WS-L3", vec![start(), (200, ended(1, failed))]);
    fires("WS-L3", vec![start()]);
}

#[test]
fn ws_l6_fires_where_one_dead_address_keeps_a_client_down() {
    use crate::plan::{DnsFault, Fault, FaultKind, Target, Until, When};
    let mut plan = plan();
    let kind = FaultKind::Dns(DnsFault::DeadFirst { refuses: false });
    plan.faults = vec![Fault { at: When::At(0), until: Until::Never, target: Target::Client(0), kind }];
    let found = |state| {
        let there = vec![(1, accepted(1)), (2, authenticated(1)), (20_000, snapshot(state, 0, &[]))];
        found_in(&plan, "WS-L6", placed(there))
    };
    assert_eq!(found(ConnectionState::Ready), Vec::<String>::new());
    assert_ne!(found(ConnectionState::Reconnecting { attempt: 3 }), Vec::<String>::new());
}

#[test]
fn the_model_fires_on_an_event_or_a_state_that_it_does_not_know() {
    let stands = |state, epoch| (2, work(WorkLog::Stands { state, epoch }));
    is_silent("MODEL", vec![(1, connected(1)), stands(ConnectionState::Ready, 1)]);
    fires("MODEL", vec![(1, connected(1)), stands(ConnectionState::Closed, 1)]);
    fires("MODEL", vec![(1, disconnected(1, cause()))]);
    fires("MODEL", vec![(1, over(0))]);
    is_silent("MODEL", vec![(0, work(WorkLog::CloseCalled)), (1, over(0))]);
}

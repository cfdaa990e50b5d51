//! Each way in which an exchange can refuse or misbehave, on both backends: it strikes, and the library does what the table
//! of [`FaultKind::expected`] says.

use hpx_sim::{
    Backend, Plan, Report, Simulation,
    plan::{Behaviour, Expected, Fate, Fault, FaultKind, Op, Reader, Step, Target, Until, When},
    trace::{Frame, ServerLog, SocketLog, What, WorkLog},
};
use hpx_transport::{
    ErrorKind,
    websocket::{CloseCause, ConnectionState, Event},
};

const HEAL_MS: u64 = 4000;

/// One client that meets the fault with its first connection, makes requests, subscribes, and closes long after.
fn plan(kind: FaultKind) -> Plan {
    let mut plan = Plan::draw(42);
    plan.clients.truncate(1);
    (plan.tick_ms, plan.heal_ms, plan.settle_ms, plan.push_every_ms) = (5, HEAL_MS, 9000, 300);
    plan.faults = vec![Fault { at: When::At(0), until: Until::ForMs(1500), target: Target::All, kind }];
    let client = &mut plan.clients[0];
    (client.start_ms, client.latency_ms) = (100, 10);
    (client.reader, client.guard_reader) = (Reader::Prompt, Reader::Prompt);
    let config = &mut client.config;
    (config.reconnect_initial_delay_ms, config.reconnect_max_delay_ms) = (200, 800);
    (config.reconnect_backoff_factor, config.reconnect_jitter) = (2.0, 0.0);
    (config.reconnect_max_attempts, config.stable_after_ms) = (None, 1000);
    (config.ping_interval_ms, config.pong_timeout_ms, config.request_timeout_ms) = (1000, 500, 1500);
    (config.connect_timeout_ms, config.auth_timeout_ms) = (1000, 500);
    (config.write_timeout_ms, config.close_timeout_ms) = (1000, 300);
    (config.event_channel_capacity, config.command_channel_capacity) = (64, 16);
    (config.subscription_channel_capacity, config.max_pending_requests) = (256, 1000);
    let request = |label| Op::Request { label, reply_after_ms: 20, cancel: None };
    let steps = [
        (150, Op::Subscribe { guard: 1, topic: "t1".to_owned() }),
        (200, request(1)),
        (1000, request(2)),
        (7000, request(3)),
        (9100, Op::Close),
    ];
    client.script = steps.into_iter().map(|(at_ms, op)| Step { at_ms, op }).collect();
    plan
}

/// Runs it on both backends, and holds what came about against the table.
#[track_caller]
fn meets(kind: FaultKind) {
    let plan = plan(kind.clone());
    let plan = Plan::from_json(&plan.to_json()).expect("the plan is valid");
    let expected = kind.expected(&plan.clients[0].config).expect("a fault of the exchange's");
    for backend in Backend::ALL {
        let report = Simulation::of(plan.clone()).backend(backend).run();
        let context = format!("{kind:?} on {}", backend.name());
        assert!(report.is_green(), "{context}\n{report}");
        assert!(struck(&report, &kind), "{context}: it never struck\n{report}");
        judge(&report, expected, &context);
        assert!(report.entries().len() < 20_000, "{context}: {} entries", report.entries().len());
    }
}

fn struck(report: &Report, kind: &FaultKind) -> bool {
    report.entries().iter().any(|entry| match (&entry.what, kind) {
        (What::Server(ServerLog::Misbehaved { behaviour, .. }), FaultKind::Misbehave(own)) => {
            behaviour == own
        }
        (What::Server(ServerLog::Refused { status, .. }), FaultKind::Refuse { status: own, .. }) => {
            status == own
        }
        _ => false,
    })
}

#[track_caller]
fn judge(report: &Report, expected: Expected, context: &str) {
    let whats = || report.entries().iter().map(|entry| &entry.what);
    let dials = whats().filter(|what| matches!(what, What::Socket(SocketLog::Dialing { .. }))).count();
    let losses: Vec<ErrorKind> = whats()
        .filter_map(|what| match what {
            What::Event(Event::Retrying { cause, .. }) => Some(cause.kind()),
            What::Event(Event::Closed { cause: CloseCause::Refused(error), .. }) => Some(error.kind()),
            _ => None,
        })
        .collect();
    let state = whats().find_map(|what| match what {
        What::Work(WorkLog::Snapshot { state, .. }) => Some(*state),
        _ => None,
    });
    match expected.fate {
        Fate::Stands => assert_eq!((dials, losses.first()), (1, None), "{context}\n{report}"),
        Fate::Retried => {
            assert_eq!(losses.first().copied(), expected.kind, "{context}\n{report}");
            assert!(dials > 1, "{context}: nobody dialed again\n{report}");
        }
        Fate::Refused => {
            assert_eq!((dials, losses), (1, expected.kind.into_iter().collect()), "{context}\n{report}");
        }
    }
    let end = if expected.fate == Fate::Refused { ConnectionState::Closed } else { ConnectionState::Ready };
    assert_eq!(state, Some(end), "{context}\n{report}");
    if expected.fate != Fate::Stands {
        assert_eq!(first_close_code(report), expected.close_code, "{context}: close code\n{report}");
    }
}

/// Of the Close frame the client sent on its first socket.
fn first_close_code(report: &Report) -> Option<u16> {
    report.entries().iter().find_map(|entry| match &entry.what {
        What::Socket(SocketLog::Frame { socket: 1, frame: Frame { opcode: 8, payload } }) => {
            Some(u16::from_be_bytes([*payload.first()?, *payload.get(1)?]))
        }
        _ => None,
    })
}

#[test]
fn a_refusal_that_no_retry_cures_ends_the_connection() {
    for status in [301, 400, 401, 403, 404, 410] {
        meets(FaultKind::Refuse { status, retry_after_s: None });
    }
}

#[test]
fn a_refusal_that_time_cures_is_retried() {
    for status in [408, 425, 429, 500, 502, 503] {
        meets(FaultKind::Refuse { status, retry_after_s: None });
    }
    meets(FaultKind::Refuse { status: 429, retry_after_s: Some(1) });
}

#[test]
fn rejected_authentication_ends_the_connection() {
    meets(FaultKind::Misbehave(Behaviour::RejectAuth));
}

#[test]
fn silence_is_noticed_and_retried() {
    meets(FaultKind::Misbehave(Behaviour::SilentAfterUpgrade));
    meets(FaultKind::Misbehave(Behaviour::IgnoreAuth));
}

#[test]
fn what_breaks_the_protocol_loses_the_link_with_the_code_that_says_why() {
    for behaviour in [
        Behaviour::OversizeMessage,
        Behaviour::BadUtf8,
        Behaviour::BadAcceptKey,
        Behaviour::MaskedFrames,
        Behaviour::FragmentBomb,
    ] {
        meets(FaultKind::Misbehave(behaviour));
    }
}

#[test]
fn every_close_code_loses_the_link_and_the_reserved_ones_break_the_protocol() {
    for code in (1000..=1015).chain([3000, 4999]) {
        meets(FaultKind::Misbehave(Behaviour::CloseCode(code)));
    }
}

#[test]
fn what_is_merely_odd_costs_no_link() {
    for behaviour in [
        Behaviour::PingFlood,
        Behaviour::DuplicateReplies,
        Behaviour::LateReplies { by_ms: 5000 },
        Behaviour::UnknownReplies,
        Behaviour::UnknownTopics,
        Behaviour::IgnorePings,
        Behaviour::StaleReplies,
        Behaviour::Slowloris { every_ms: 5 },
    ] {
        meets(FaultKind::Misbehave(behaviour));
    }
}

#[test]
fn an_upgrade_that_takes_too_long_is_given_up() {
    meets(FaultKind::Misbehave(Behaviour::Slowloris { every_ms: 20 }));
}

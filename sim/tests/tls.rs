//! Connections over TLS, on both backends: they live, refuse certificates for good and truly, and survive cut handshakes.

use hpx_sim::{
    Backend, Plan, Report, Simulation,
    plan::{Fault, FaultKind, Op, Reader, Step, Target, TlsFault, Until, When},
    trace::{Outcome, ServerLog, SocketLog, What, WorkLog},
};
use hpx_transport::{
    ErrorKind,
    websocket::{CloseCause, ConnectionState, Event},
};

/// One client over TLS that makes requests, subscribes, and closes long after.
fn plan(faults: Vec<(u64, u64, FaultKind)>) -> Plan {
    let mut plan = Plan::draw(42);
    plan.clients.truncate(1);
    (plan.tick_ms, plan.heal_ms, plan.settle_ms, plan.push_every_ms) = (5, 4000, 9000, 300);
    let fault = |(at_ms, for_ms, kind): (u64, u64, FaultKind)| {
        let until = if kind.is_instant() { Until::default() } else { Until::ForMs(for_ms) };
        Fault { at: When::At(at_ms), until, target: Target::Client(0), kind }
    };
    plan.faults = faults.into_iter().map(fault).collect();
    let client = &mut plan.clients[0];
    (client.start_ms, client.latency_ms, client.tls) = (100, 10, true);
    (client.reader, client.guard_reader) = (Reader::Prompt, Reader::Prompt);
    let config = &mut client.config;
    (config.reconnect_initial_delay_ms, config.reconnect_max_delay_ms) = (200, 800);
    (config.reconnect_jitter, config.reconnect_max_attempts) = (0.0, None);
    (config.ping_interval_ms, config.pong_timeout_ms, config.request_timeout_ms) = (1000, 500, 1500);
    (config.connect_timeout_ms, config.auth_timeout_ms) = (1000, 500);
    let request = |label| Op::Request { label, reply_after_ms: 20, cancel: None };
    let steps = [
        (150, Op::Subscribe { guard: 1, topic: "t1".to_owned() }),
        (500, request(1)),
        (7000, request(2)),
        (9100, Op::Close),
    ];
    client.script = steps.into_iter().map(|(at_ms, op)| Step { at_ms, op }).collect();
    plan
}

fn on_both(plan: &Plan, look: impl Fn(&Report)) {
    let plan = Plan::from_json(&plan.to_json()).expect("the plan is valid");
    for backend in Backend::ALL {
        let report = Simulation::of(plan.clone()).backend(backend).run();
        assert!(report.is_green(), "{}\n{report}", backend.name());
        look(&report);
    }
}

fn whats(report: &Report) -> impl Iterator<Item = &What> {
    report.entries().iter().map(|entry| &entry.what)
}

fn count(report: &Report, test: impl Fn(&What) -> bool) -> usize {
    whats(report).filter(|what| test(what)).count()
}

fn is_answered(what: &What) -> bool {
    matches!(what, What::Work(WorkLog::CallEnded { outcome: Outcome::Answered { .. }, .. }))
}

fn is_dial(what: &What) -> bool {
    matches!(what, What::Socket(SocketLog::Dialing { .. }))
}

fn state(report: &Report) -> Option<ConnectionState> {
    whats(report).find_map(|what| match what {
        What::Work(WorkLog::Snapshot { state, .. }) => Some(*state),
        _ => None,
    })
}

/// The error of the end, if it is a refusal.
fn refusal(report: &Report) -> Option<ErrorKind> {
    whats(report).find_map(|what| match what {
        What::Event(Event::Closed { cause: CloseCause::Refused(error), .. }) => Some(error.kind()),
        _ => None,
    })
}

#[test]
fn a_connection_over_tls_lives_and_its_wire_is_not_read() {
    on_both(&plan(Vec::new()), |report| {
        assert_eq!((count(report, is_answered), count(report, is_dial)), (2, 1), "{report}");
        assert!(
            count(report, |what| matches!(what, What::Work(WorkLog::GuardMessage { .. }))) > 5,
            "{report}"
        );
        assert_eq!(
            count(report, |what| matches!(what, What::Socket(SocketLog::Frame { .. }))),
            0,
            "{report}"
        );
    });
}

#[test]
fn a_certificate_that_nobody_vouches_for_ends_the_connection_for_good() {
    let bad = FaultKind::Tls(TlsFault::BadCertificate);
    on_both(&plan(vec![(50, 2000, bad)]), |report| {
        assert_eq!((refusal(report), count(report, is_dial)), (Some(ErrorKind::Certificate), 1), "{report}");
        let shown = |what: &What| matches!(what, What::Server(ServerLog::BadCertificate { .. }));
        assert_eq!(count(report, shown), 1, "{report}");
    });
}

#[test]
fn a_certificate_that_has_expired_by_the_client_s_clock_is_refused_at_the_next_handshake() {
    let day_ms = 24 * 3_600_000;
    let jump = |days: i64| {
        let by_ms = days * day_ms;
        plan(vec![(1000, 0, FaultKind::ClockJump { by_ms }), (1500, 0, FaultKind::Reset)])
    };
    on_both(&jump(40), |report| {
        assert_eq!(refusal(report), Some(ErrorKind::Certificate), "{report}");
        assert_eq!((count(report, is_answered), count(report, is_dial)), (1, 2), "{report}");
    });
    // Within its days nothing happens; and a clock that went back finds its ticket good, which asks for no certificate.
    for days in [20, -40] {
        on_both(&jump(days), |report| assert_eq!(state(report), Some(ConnectionState::Ready), "{report}"));
    }
    // Before the first handshake there is no ticket.
    let early = plan(vec![(50, 0, FaultKind::ClockJump { by_ms: -40 * day_ms })]);
    on_both(&early, |report| assert_eq!(refusal(report), Some(ErrorKind::Certificate), "{report}"));
}

#[test]
fn a_handshake_that_is_cut_anywhere_is_made_again() {
    for after_bytes in [0, 1, 50, 127, 300, 600, 800] {
        let cut = FaultKind::Tls(TlsFault::CutMidHandshake { after_bytes });
        on_both(&plan(vec![(50, 1500, cut)]), |report| {
            assert!(count(report, is_dial) > 1, "{after_bytes} bytes\n{report}");
            assert_eq!(state(report), Some(ConnectionState::Ready), "{after_bytes} bytes\n{report}");
        });
    }
}

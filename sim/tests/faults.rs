//! Each fault does what it says, on both backends: one client, one fault, and what the trace tells of it.

use std::time::Duration;

use hpx_sim::{
    Backend, Plan, Report, Simulation,
    plan::{
        Anchor, ConnectFault, CutHow, DnsFault, Fault, FaultKind, Moment, Op, Reader, Step, Target, Until,
        Way, When,
    },
    trace::{Entry, Place, ServerLog, SocketLog, What, WorkLog},
};
use hpx_transport::websocket::Event;

/// One client, 10 ms away, with round settings; no faults yet.
fn plan() -> Plan {
    let mut plan = Plan::draw(42);
    plan.clients.truncate(1);
    plan.faults.clear();
    (plan.tick_ms, plan.heal_ms, plan.settle_ms, plan.push_every_ms) = (5, 8000, 13_000, 400);
    let client = &mut plan.clients[0];
    (client.start_ms, client.latency_ms, client.reader) = (0, 10, Reader::Prompt);
    let config = &mut client.config;
    (config.reconnect_initial_delay_ms, config.reconnect_max_delay_ms) = (200, 1600);
    (config.reconnect_backoff_factor, config.reconnect_jitter) = (2.0, 0.0);
    (config.reconnect_max_attempts, config.stable_after_ms) = (None, 1000);
    (config.ping_interval_ms, config.pong_timeout_ms, config.request_timeout_ms) = (1000, 500, 2000);
    (config.connect_timeout_ms, config.auth_timeout_ms) = (1000, 500);
    (config.write_timeout_ms, config.close_timeout_ms) = (1000, 300);
    (config.event_channel_capacity, config.command_channel_capacity) = (64, 16);
    client.script = vec![
        step(100, Op::Subscribe { guard: 1, topic: "t1".to_owned() }),
        step(12_000, Op::Request { label: 9, reply_after_ms: 0, cancel: None }),
        step(13_100, Op::Close),
    ];
    plan
}

fn step(at_ms: u64, op: Op) -> Step {
    Step { at_ms, op }
}

fn fault(at: When, for_ms: u64, kind: FaultKind) -> Fault {
    Fault { at, until: Until::ForMs(for_ms), target: Target::Client(0), kind }
}

fn at(ms: u64) -> When {
    When::At(ms)
}

fn on(event: Moment) -> When {
    When::On(Anchor { event, client: 0, plus_ms: 0 })
}

/// Runs the plan with this fault on each backend, twice: the same both times, green, and as told.
fn tell(fault: Fault, judge: impl Fn(&Report, Backend)) {
    tell_of(plan(), vec![fault], judge);
}

fn tell_of(mut plan: Plan, faults: Vec<Fault>, judge: impl Fn(&Report, Backend)) {
    plan.faults = faults;
    plan.clients[0].script.sort_by_key(|step| step.at_ms);
    let plan = Plan::from_json(&plan.to_json()).expect("the plan is valid");
    for backend in Backend::ALL {
        let run = || Simulation::of(plan.clone()).backend(backend).run();
        let report = run();
        judge(&report, backend);
        assert!(report.is_green(), "{}:\n{report}", backend.name());
        assert_eq!(report.digests(), run().digests(), "{}: another run, another trace", backend.name());
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The times of the client's entries that are such.
fn times(report: &Report, is_such: impl Fn(&What) -> bool) -> Vec<Duration> {
    let own = |entry: &&Entry| entry.place == Place::Client(0) && is_such(&entry.what);
    report.entries().iter().filter(own).map(|entry| entry.at.since_epoch()).collect()
}

fn sockets(report: &Report) -> impl Iterator<Item = (Duration, &SocketLog)> {
    report.entries().iter().filter_map(|entry| match &entry.what {
        What::Socket(log) => Some((entry.at.since_epoch(), log)),
        _ => None,
    })
}

/// How the first socket ended, in the eyes of the library, and when.
fn first_end(report: &Report) -> (Duration, String) {
    let end = sockets(report).find_map(|(at, log)| match log {
        SocketLog::Ended { how, .. } => Some((at, how.clone())),
        _ => None,
    });
    end.expect("a socket ends")
}

fn bytes_read(report: &Report, of: u64) -> usize {
    let bytes = |(_, log): (Duration, &SocketLog)| match log {
        SocketLog::Read { socket, bytes } if *socket == of => Some(*bytes),
        _ => None,
    };
    sockets(report).filter_map(bytes).sum()
}

fn bytes_written(report: &Report, of: u64) -> usize {
    let bytes = |(_, log): (Duration, &SocketLog)| match log {
        SocketLog::Wrote { socket, bytes } if *socket == of => Some(*bytes),
        _ => None,
    };
    sockets(report).filter_map(bytes).sum()
}

fn dials(report: &Report) -> Vec<Duration> {
    times(report, |what| matches!(what, What::Socket(SocketLog::Dialing { .. })))
}

fn connected(report: &Report) -> Vec<Duration> {
    times(report, |what| matches!(what, What::Event(Event::Connected { .. })))
}

/// When the exchange was rid of its first connection.
fn first_gone(report: &Report) -> Duration {
    let gone = report
        .entries()
        .iter()
        .find(|entry| matches!(entry.what, What::Server(ServerLog::Gone { conn: 1, .. })));
    gone.expect("the exchange loses its first connection").at.since_epoch()
}

#[test]
fn a_reset_ends_the_open_socket_at_once_and_the_peer_knows() {
    tell(fault(at(2000), 0, FaultKind::Reset), |report, backend| {
        let (at, how) = first_end(report);
        assert_eq!(how, "connection reset");
        assert!(at >= ms(2000) && at <= ms(2010), "{at:?}");
        assert!(first_gone(report) <= ms(2030), "{:?}", first_gone(report));
        let gone = |entry: &Entry| match &entry.what {
            What::Server(ServerLog::Gone { conn: 1, why }) => Some(why.clone()),
            _ => None,
        };
        let why = report.entries().iter().find_map(gone).unwrap_or_default();
        // turmoil has no reset for a socket that owes its peer nothing: there it is a bare end.
        assert!(backend == Backend::Turmoil || why.contains("IO error"), "{why}");
    });
}

#[test]
fn a_cut_after_the_last_byte_does_not_wait_for_another() {
    let calm = Simulation::of(plan()).run();
    let asks = |(at, log): (Duration, &SocketLog)| match log {
        SocketLog::Wrote { bytes, .. } if at < ms(30) => Some(*bytes),
        _ => None,
    };
    let byte = sockets(&calm).find_map(asks).expect("it asks for the upgrade");
    for how in [CutHow::Reset, CutHow::End] {
        tell(fault(at(0), 900, FaultKind::Cut { way: Way::Write, byte, how }), |report, _| {
            // While it waits for the response, with nothing to write.
            assert!(first_end(report).0 <= ms(25), "{how:?}: {report}");
        });
    }
}

#[test]
fn a_cut_ends_the_socket_at_its_byte_in_either_direction() {
    for (way, how, words) in [
        (Way::Read, CutHow::Reset, "connection reset"),
        (Way::Read, CutHow::End, "end of stream"),
        (Way::Write, CutHow::Reset, "connection reset"),
        (Way::Write, CutHow::End, "end of stream"),
    ] {
        for byte in [0, 17, 200] {
            tell(fault(at(0), 900, FaultKind::Cut { way, byte, how }), |report, backend| {
                let bytes = match way {
                    Way::Read => bytes_read(report, 1),
                    Way::Write => bytes_written(report, 1),
                };
                if way == Way::Read || how == CutHow::Reset {
                    assert_eq!(bytes, byte, "{way:?} {how:?} on {}: {report}", backend.name());
                    assert_eq!(first_end(report).1, words);
                }
                // Long before a heartbeat could have found out.
                assert!(first_end(report).0 <= ms(900), "{:?}", first_end(report));
                assert!(first_gone(report) <= ms(900), "{:?}", first_gone(report));
            });
        }
    }
}

#[test]
fn a_half_open_socket_takes_what_nobody_gets_and_is_reset_in_the_end() {
    let mut plan = plan();
    // Longer than the fault: nobody gives the socket up before it is reset.
    (plan.clients[0].config.ping_interval_ms, plan.clients[0].config.pong_timeout_ms) = (6000, 5000);
    plan.clients[0].script.push(step(2500, Op::Request { label: 1, reply_after_ms: 0, cancel: None }));
    tell_of(plan, vec![fault(at(2000), 1500, FaultKind::HalfOpen)], |report, _| {
        let within = |at: Duration| at > ms(2000) && at < ms(3500);
        let heard = sockets(report).filter(|(at, log)| within(*at) && matches!(log, SocketLog::Read { .. }));
        assert_eq!(heard.count(), 0, "{report}");
        let written =
            |(at, log): &(Duration, &SocketLog)| within(*at) && matches!(log, SocketLog::Wrote { .. });
        assert!(sockets(report).any(|entry| written(&entry)), "the request is written");
        let arrived = report.entries().iter().any(|entry| {
            within(entry.at.since_epoch()) && matches!(entry.what, What::Server(ServerLog::Heard { .. }))
        });
        assert!(!arrived, "nobody gets it");
        let (at, how) = first_end(report);
        assert_eq!(how, "connection reset");
        assert!(at >= ms(3500) && at <= ms(3510), "{at:?}");
    });
}

#[test]
fn a_stalled_socket_takes_so_many_bytes_and_goes_on_when_it_is_over() {
    let mut plan = plan();
    plan.clients[0].config.write_timeout_ms = 3000;
    (plan.clients[0].config.ping_interval_ms, plan.clients[0].config.pong_timeout_ms) = (6000, 5000);
    plan.clients[0].script.push(step(2500, Op::Request { label: 1, reply_after_ms: 0, cancel: None }));
    tell_of(plan, vec![fault(at(2000), 1500, FaultKind::Stall { after_bytes: 10 })], |report, _| {
        let written = |from: Duration, to: Duration| -> usize {
            let bytes = |(at, log): (Duration, &SocketLog)| match log {
                SocketLog::Wrote { bytes, .. } if at >= from && at < to => Some(*bytes),
                _ => None,
            };
            sockets(report).filter_map(bytes).sum()
        };
        assert_eq!(written(ms(2000), ms(3500)), 10, "{report}");
        assert!(written(ms(3500), ms(3510)) > 10, "{report}");
        let answered = times(report, |what| matches!(what, What::Work(WorkLog::CallEnded { label: 1, .. })));
        assert!(answered[0] >= ms(3500) && answered[0] < ms(3600), "{answered:?}");
        assert_eq!(dials(report).len(), 1, "the socket survives it");
    });
}

#[test]
fn a_throttled_socket_moves_its_bytes_a_second_whatever_the_tick() {
    for tick_ms in [1, 5, 50] {
        throttled(tick_ms);
    }
}

fn throttled(tick_ms: u64) {
    let mut plan = plan();
    (plan.tick_ms, plan.clients[0].latency_ms) = (tick_ms, tick_ms.max(10));
    let round_trips = 10 * ms(plan.clients[0].latency_ms);
    let config = &mut plan.clients[0].config;
    (config.connect_timeout_ms, config.auth_timeout_ms, config.write_timeout_ms) = (6000, 3000, 5000);
    (config.ping_interval_ms, config.pong_timeout_ms) = (6000, 5000);
    plan.clients[0].script.retain(|step| step.at_ms > 1000);
    tell_of(plan, vec![fault(at(0), 7900, FaultKind::Throttle { bytes_per_s: 250 })], |report, backend| {
        // Of the upgrade alone: what is written and read before the first frame.
        let up = times(report, |what| matches!(what, What::Event(Event::Connected { .. })))[0];
        let before_up = |(at, log): (Duration, &SocketLog)| match log {
            SocketLog::Wrote { bytes, .. } | SocketLog::Read { bytes, .. } if at <= up => Some(*bytes),
            _ => None,
        };
        let bytes: usize = sockets(report).filter_map(before_up).sum();
        let takes = Duration::from_millis(bytes as u64 * 4);
        assert!(up > takes - ms(50), "{bytes} bytes by {up:?} on {}", backend.name());
        assert!(up < takes + round_trips, "{bytes} bytes by {up:?} on {}, tick {tick_ms} ms", backend.name());
        assert_eq!(dials(report).len(), 1);
    });
}

#[test]
fn a_dribble_and_partial_writes_take_less_than_they_are_offered_and_lose_nothing() {
    let pieces = [
        FaultKind::Dribble { bytes: 1 },
        FaultKind::Dribble { bytes: 3 },
        FaultKind::PartialWrites { bytes: 1 },
    ];
    for kind in pieces {
        tell(fault(at(0), 4000, kind), |report, _| {
            let blocked = sockets(report).any(|(_, log)| matches!(log, SocketLog::Blocked { socket: 1 }));
            assert!(blocked, "the upgrade request is longer than 3 bytes");
            assert_eq!(dials(report).len(), 1, "{report}");
            assert!(connected(report)[0] < ms(200), "{report}");
        });
    }
}

#[test]
fn a_corrupted_byte_comes_in_changed_and_breaks_the_upgrade() {
    // The first byte of "HTTP/1.1".
    tell(fault(at(0), 100, FaultKind::Corrupt { byte: 0, mask: 0xff }), |report, _| {
        assert_eq!(dials(report).len(), 2, "{report}");
        let up = times(report, |what| matches!(what, What::Event(Event::Connected { .. })));
        assert!(up[0] > ms(200), "{up:?}");
    });
    // In a frame: the first after the response.
    tell(fault(at(0), 100, FaultKind::Corrupt { byte: 129, mask: 0x70 }), |report, _| {
        assert_eq!(dials(report).len(), 2, "{report}");
    });
}

#[test]
fn dials_are_refused_or_silent_or_slow() {
    tell(fault(at(0), 500, FaultKind::Connect(ConnectFault::Refused)), |report, _| {
        let failed = |log: &SocketLog| {
            matches!(log, SocketLog::DialFailed { error: std::io::ErrorKind::ConnectionRefused, .. })
        };
        let failed: Vec<Duration> =
            sockets(report).filter(|(_, log)| failed(log)).map(|(at, _)| at).collect();
        // At 0 and 200 ms; the next waits 400 ms.
        assert_eq!(failed.len(), 2, "{report}");
        assert!(failed[0] <= ms(10), "{failed:?}");
        assert!(connected(report)[0] > ms(600));
    });
    tell(fault(at(0), 1500, FaultKind::Connect(ConnectFault::Silent)), |report, _| {
        let given_up = sockets(report).find(|(_, log)| matches!(log, SocketLog::DialAbandoned { socket: 1 }));
        let (at, _) = given_up.expect("a silent dial is given up");
        assert!(at >= ms(1000) && at <= ms(1010), "{at:?}");
        assert!(connected(report)[0] >= ms(1500));
    });
    tell(fault(at(0), 500, FaultKind::Connect(ConnectFault::Slow { by_ms: 300 })), |report, _| {
        let opened = sockets(report).find(|(_, log)| matches!(log, SocketLog::Opened { socket: 1, .. }));
        let (at, _) = opened.expect("it opens");
        assert!(at > ms(300) && at <= ms(340), "{at:?}");
    });
}

#[test]
fn names_are_unknown_or_slow_or_lead_to_a_dead_address_first() {
    tell(fault(at(0), 500, FaultKind::Dns(DnsFault::NxDomain)), |report, _| {
        assert!(dials(report)[0] >= ms(500), "no dial while the name is unknown: {report}");
    });
    tell(fault(at(0), 500, FaultKind::Dns(DnsFault::Slow { by_ms: 300 })), |report, _| {
        let first = dials(report)[0];
        assert!(first >= ms(300) && first <= ms(310), "{first:?}");
    });
    tell(fault(at(0), 500, FaultKind::Dns(DnsFault::DeadFirst { refuses: true })), |report, _| {
        let refused = sockets(report).any(|(at, log)| {
            at <= ms(10)
                && matches!(
                    log,
                    SocketLog::DialFailed { socket: 1, error: std::io::ErrorKind::ConnectionRefused }
                )
        });
        assert!(refused, "{report}");
        // The second address is tried in the same attempt.
        assert!(dials(report).len() == 2 && connected(report)[0] < ms(200), "{report}");
    });
    tell(fault(at(0), 500, FaultKind::Dns(DnsFault::DeadFirst { refuses: false })), |report, _| {
        let given_up = sockets(report).any(|(_, log)| matches!(log, SocketLog::DialAbandoned { socket: 1 }));
        assert!(given_up && dials(report).len() >= 2, "{report}");
    });
}

#[test]
fn a_paused_process_does_nothing_and_then_all_that_is_due() {
    let mut plan = plan();
    plan.clients[0].script.push(step(2500, Op::Request { label: 1, reply_after_ms: 0, cancel: None }));
    tell_of(plan, vec![fault(at(2000), 1300, FaultKind::Pause)], |report, _| {
        let within = times(report, |_| true).into_iter().filter(|at| *at > ms(2005) && *at < ms(3300));
        assert_eq!(within.count(), 0, "{report}");
        let said = report.entries().iter().filter(|entry| {
            let at = entry.at.since_epoch();
            at > ms(2000) && at < ms(3300) && matches!(entry.what, What::Server(ServerLog::Said { .. }))
        });
        assert!(said.count() >= 2, "the world goes on");
        let asked =
            times(report, |what| matches!(what, What::Work(WorkLog::RequestStarted { label: 1, .. })));
        assert!(asked[0] >= ms(3300) && asked[0] <= ms(3305), "{asked:?}");
    });
}

#[test]
fn a_clock_that_is_off_by_half_times_its_pings_so() {
    // A ping each 1 s of its own time, counted from the Connected.
    for (ppm, between) in [(1_000_000, ms(500)), (-500_000, ms(2000))] {
        let mut plan = plan();
        // Pushes would count as signs of life.
        plan.clients[0].script.retain(|step| step.at_ms > 1000);
        tell_of(plan, vec![fault(at(1500), 6000, FaultKind::ClockSkew { ppm })], |report, backend| {
            let ping = |what: &What| matches!(what, What::Socket(SocketLog::Frame { frame, .. }) if frame.opcode == 9);
            let pings = times(report, ping);
            let inside: Vec<Duration> =
                pings.iter().copied().filter(|at| *at > ms(2000) && *at < ms(7500)).collect();
            assert!(inside.len() >= 2, "{report}");
            for pair in inside.windows(2) {
                let gap = pair[1] - pair[0];
                // A round trip and two ticks on top: the time of a ping runs from the last sign of life.
                assert!(
                    gap >= between - ms(10) && gap <= between + ms(60),
                    "{gap:?} at {ppm} on {}",
                    backend.name()
                );
            }
            let after: Vec<Duration> =
                pings.iter().copied().filter(|at| *at > ms(9000) && *at < ms(12_000)).collect();
            for pair in after.windows(2) {
                let gap = pair[1] - pair[0];
                assert!(gap >= ms(990) && gap <= ms(1060), "{gap:?} after {ppm}");
            }
            assert_eq!(dials(report).len(), 1, "{report}");
        });
    }
}

#[test]
fn a_fault_begins_at_the_very_byte_of_the_upgrade_response() {
    for byte in [0, 1, 17, 100] {
        for (kind, ends) in
            [(FaultKind::Reset, true), (FaultKind::HalfOpen, false), (FaultKind::Partition, false)]
        {
            let moment = Moment::UpgradeByte { dial: 1, byte };
            let mut plan = plan();
            plan.heal_ms = 8000;
            tell_of(plan, vec![fault(on(moment), 300, kind.clone())], |report, backend| {
                let stop = |(_, log): &(Duration, &SocketLog)| matches!(log, SocketLog::UpgradeByte { .. });
                let (stopped_at, _) = sockets(report).find(stop).expect("the byte comes");
                let until = |at: Duration| at <= stopped_at + ms(5);
                let read = |(at, log): (Duration, &SocketLog)| match log {
                    SocketLog::Read { socket: 1, bytes } if until(at) => Some(*bytes),
                    _ => None,
                };
                let bytes: usize = sockets(report).filter_map(read).sum();
                if !matches!(kind, FaultKind::Partition) {
                    assert_eq!(bytes, byte, "{kind:?} on {}: {report}", backend.name());
                }
                if ends {
                    assert_eq!(bytes_read(report, 1), byte);
                    assert_eq!(first_end(report).1, "connection reset");
                }
            });
        }
    }
}

#[test]
fn a_machine_without_power_is_silent_and_resets_what_comes_after_it_is_back() {
    let mut plan = plan();
    // Nobody gives the socket up before the machine is back; then a request is the first to be written.
    (plan.clients[0].config.ping_interval_ms, plan.clients[0].config.pong_timeout_ms) = (6000, 5000);
    plan.clients[0].script.push(step(4000, Op::Request { label: 1, reply_after_ms: 0, cancel: None }));
    let mut loss = fault(at(2000), 1000, FaultKind::PowerLoss);
    loss.target = Target::All;
    tell_of(plan, vec![loss], |report, backend| {
        let heard = sockets(report)
            .filter(|(at, log)| *at > ms(2020) && *at < ms(4000) && !matches!(log, SocketLog::Wrote { .. }))
            .count();
        assert_eq!(heard, 0, "silence, on {}: {report}", backend.name());
        let (at, how) = first_end(report);
        assert_eq!(how, "connection reset", "{report}");
        assert!(at >= ms(4015) && at <= ms(4040), "{at:?} on {}", backend.name());
    });
}

#[test]
fn the_line_of_a_client_is_as_the_plan_says_in_memory() {
    let up = |change: fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        let plan = Plan::from_json(&plan.to_json()).expect("the plan is valid");
        let report = Simulation::of(plan).backend(Backend::Memory).run();
        assert!(report.is_green(), "{report}");
        connected(&report)[0]
    };
    let plain = up(|_| {});
    let jittery = up(|plan| plan.clients[0].jitter_ms = 40);
    assert!(jittery > plain && jittery < plain + ms(6 * 40), "{jittery:?}, {plain:?} without");
    let narrow = up(|plan| plan.clients[0].bandwidth_bytes_per_s = Some(2000));
    assert!(narrow > plain + ms(100), "{narrow:?}, {plain:?} without");
    // The response comes in pieces, with a round trip between them.
    let cramped = up(|plan| plan.clients[0].window_bytes = Some(40));
    assert!(cramped > plain + ms(40), "{cramped:?}, {plain:?} without");
}

/// Every kind of fault there is at a socket, a dial or a clock, one after the other and some at once.
fn everything() -> Vec<Fault> {
    let cut = |way, how| FaultKind::Cut { way, byte: 150, how };
    vec![
        fault(on(Moment::UpgradeByte { dial: 1, byte: 60 }), 0, FaultKind::Reset),
        fault(at(0), 150, FaultKind::Dns(DnsFault::DeadFirst { refuses: true })),
        fault(at(150), 300, FaultKind::Connect(ConnectFault::Slow { by_ms: 40 })),
        fault(at(300), 900, FaultKind::Dribble { bytes: 5 }),
        fault(at(900), 1500, FaultKind::ClockSkew { ppm: 200_000 }),
        fault(on(Moment::Connected(1)), 700, FaultKind::Throttle { bytes_per_s: 900 }),
        fault(at(1500), 800, FaultKind::Stall { after_bytes: 30 }),
        fault(at(2000), 0, FaultKind::ClockJump { by_ms: -86_400_000 }),
        fault(at(2100), 400, FaultKind::Pause),
        fault(at(2600), 700, FaultKind::HalfOpen),
        fault(at(3200), 700, cut(Way::Read, CutHow::End)),
        fault(at(3900), 500, cut(Way::Write, CutHow::Reset)),
        fault(at(4400), 600, FaultKind::Corrupt { byte: 140, mask: 0x20 }),
        fault(at(4500), 600, FaultKind::Connect(ConnectFault::Refused)),
        fault(at(5200), 600, FaultKind::PartialWrites { bytes: 4 }),
        fault(at(5300), 300, FaultKind::Dns(DnsFault::NxDomain)),
        fault(at(5800), 900, FaultKind::ClockSkew { ppm: -400_000 }),
        fault(at(6400), 600, FaultKind::Connect(ConnectFault::Silent)),
        fault(at(7000), 500, FaultKind::Dns(DnsFault::Slow { by_ms: 120 })),
        fault(on(Moment::PingSent(2)), 300, FaultKind::Pause),
    ]
}

#[test]
fn a_plan_of_every_fault_is_the_same_run_in_every_process() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults");
    std::fs::create_dir_all(&folder).expect("cargo's folder for tests can be written to");
    let mut plan = plan();
    plan.clients[0].script.extend(
        (1..8)
            .map(|label| step(900 * label, Op::Request { label, reply_after_ms: 30 * label, cancel: None })),
    );
    plan.faults = everything();
    plan.clients[0].script.sort_by_key(|step| step.at_ms);
    let file = folder.join("everything.json");
    std::fs::write(&file, plan.to_json()).expect("it can be written");
    for backend in Backend::ALL {
        let report = Simulation::of(plan.clone()).backend(backend).run();
        assert!(report.is_green(), "{}:\n{report}", backend.name());
        let words = [format!("PLAN={}", file.display()), format!("BACKEND={}", backend.name())];
        let mut other = std::process::Command::new(env!("CARGO_BIN_EXE_sim"));
        let output = other.arg("trace").args(words).current_dir(&folder).output().expect("the binary runs");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let digest = format!("digest {}", report.digests());
        assert_eq!(out.lines().last(), Some(digest.as_str()), "{}", backend.name());
    }
}

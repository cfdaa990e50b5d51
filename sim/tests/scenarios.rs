//! Named scenarios as transcripts: what a user sees, line by line.

use hpx_sim::{
    Plan, Simulation,
    plan::{
        Behaviour, ConnectFault, DnsFault, Fault, FaultKind, Op, Reader, Stage, Step, Target, Until, When,
    },
};

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
    (config.event_channel_capacity, config.command_channel_capacity) = (8, 16);
    client.script = vec![step(13_100, Op::Close)];
    plan
}

fn step(at_ms: u64, op: Op) -> Step {
    Step { at_ms, op }
}

fn request(label: u64, reply_after_ms: u64) -> Op {
    Op::Request { label, reply_after_ms, cancel: None }
}

fn subscribe(guard: u32, topic: &str) -> Op {
    Op::Subscribe { guard, topic: topic.to_owned() }
}

fn fault(at_ms: u64, for_ms: u64, kind: FaultKind) -> Fault {
    Fault { at: When::At(at_ms), until: Until::ForMs(for_ms), target: Target::All, kind }
}

fn tell(name: &str, mut plan: Plan, script: Vec<Step>) {
    plan.clients[0].script.splice(..0, script);
    plan.clients[0].script.sort_by_key(|step| step.at_ms);
    let plan = Plan::from_json(&plan.to_json()).expect("the scenario is a valid plan");
    let report = Simulation::of(plan).run();
    assert!(report.is_green(), "{report}");
    let story = report.transcript();
    assert!(story.lines().count() <= 80, "{name} has {} lines", story.lines().count());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots/sim");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, story));
}

#[test]
fn partition_mid_request() {
    let mut plan = plan();
    plan.faults = vec![fault(2000, 2500, FaultKind::Partition)];
    let script = vec![
        step(100, subscribe(1, "t1")),
        step(500, request(1, 50)),
        step(1990, request(2, 300)),
        step(3700, request(3, 0)),
    ];
    tell("partition_mid_request", plan, script);
}

#[test]
fn accept_then_close() {
    let mut plan = plan();
    plan.faults = vec![
        fault(0, 5000, FaultKind::AcceptThenClose { stage: Stage::Auth }),
        fault(6000, 0, FaultKind::ServerClose { code: 1001, reason: "going away".to_owned() }),
    ];
    tell("accept_then_close", plan, vec![step(100, request(1, 0))]);
}

#[test]
fn slow_reader() {
    let mut plan = plan();
    plan.clients[0].reader = Reader::Slow { every_ms: 1500 };
    let close = FaultKind::ServerClose { code: 1001, reason: "going away".to_owned() };
    plan.faults = (1..=7).map(|second| fault(second * 1000, 0, close.clone())).collect();
    tell("slow_reader", plan, vec![step(100, subscribe(1, "t1")), step(7500, request(1, 0))]);
}

#[test]
fn server_restart() {
    let mut plan = plan();
    plan.faults = vec![fault(2000, 1500, FaultKind::Crash)];
    let script = vec![
        step(100, subscribe(1, "t1")),
        step(120, subscribe(2, "t2")),
        step(1995, request(1, 300)),
        step(2500, request(2, 0)),
        step(2600, Op::DropGuard { guard: 2 }),
        step(5000, request(3, 0)),
    ];
    tell("server_restart", plan, script);
}

#[test]
fn handle_drop_during_backoff() {
    let mut plan = plan();
    plan.faults = vec![fault(500, 6000, FaultKind::Partition)];
    // The partition is noticed at 1.5 s; refused dials follow, with waits that double: 0.2, 0.4, 0.8 s.
    plan.clients[0].script = vec![step(3500, Op::DropHandle)];
    tell("handle_drop_during_backoff", plan, vec![step(100, subscribe(1, "t1")), step(3000, request(1, 0))]);
}

/// Three clients of one exchange: each waits as its own seed draws, and none waits for the others.
#[test]
fn reconnect_storm() {
    let mut plan = plan();
    plan.clients[0].config.reconnect_jitter = 1.0;
    plan.clients = vec![plan.clients[0].clone(); 3];
    plan.faults = vec![fault(2000, 700, FaultKind::Crash)];
    tell("reconnect_storm", plan, vec![step(100, subscribe(1, "t1"))]);
}

/// The machine says nothing when it goes; what the client writes after it is back meets a reset.
#[test]
fn power_loss() {
    let mut plan = plan();
    plan.faults = vec![fault(2000, 900, FaultKind::PowerLoss)];
    let script = vec![step(100, subscribe(1, "t1")), step(1995, request(1, 300)), step(4500, request(2, 0))];
    tell("power_loss", plan, script);
}

/// The peer is gone and the socket doesn't know: the heartbeat does.
#[test]
fn half_open() {
    let mut plan = plan();
    plan.faults = vec![fault(2000, 5000, FaultKind::HalfOpen)];
    let script = vec![step(100, subscribe(1, "t1")), step(2500, request(1, 0)), step(4000, request(2, 0))];
    tell("half_open", plan, script);
}

/// Drops the last handle at 3 s, in the phase that the faults have brought about.
fn drop_the_handle(name: &str, faults: Vec<Fault>) {
    let mut plan = plan();
    plan.faults = faults;
    plan.clients[0].start_ms = 2500;
    plan.clients[0].script = vec![step(3000, Op::DropHandle)];
    tell(name, plan, vec![step(2600, subscribe(1, "t1")), step(2700, request(1, 0))]);
}

#[test]
fn handle_drop_while_resolving() {
    drop_the_handle(
        "handle_drop_while_resolving",
        vec![fault(0, 6000, FaultKind::Dns(DnsFault::Slow { by_ms: 900 }))],
    );
}

#[test]
fn handle_drop_while_dialing() {
    drop_the_handle(
        "handle_drop_while_dialing",
        vec![fault(0, 6000, FaultKind::Connect(ConnectFault::Silent))],
    );
}

#[test]
fn handle_drop_while_upgrading() {
    // A byte each 100 ms: of the response, five have come.
    let slow = FaultKind::Misbehave(Behaviour::Slowloris { every_ms: 100 });
    drop_the_handle("handle_drop_while_upgrading", vec![fault(0, 6000, slow)]);
}

#[test]
fn handle_drop_while_authenticating() {
    let silent = FaultKind::Misbehave(Behaviour::IgnoreAuth);
    drop_the_handle("handle_drop_while_authenticating", vec![fault(0, 6000, silent)]);
}

#[test]
fn handle_drop_while_up() {
    drop_the_handle("handle_drop_while_up", Vec::new());
}

#[test]
fn handle_drop_while_a_write_is_blocked() {
    let stall = FaultKind::Stall { after_bytes: 0 };
    drop_the_handle("handle_drop_while_a_write_is_blocked", vec![fault(2650, 4000, stall)]);
}

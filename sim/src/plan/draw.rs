//! A plan from a seed. One ChaCha stream per purpose: a fault more never moves a latency.

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{Cancel, ClientPlan, ConfigPlan, Fault, FaultKind, Op, Plan, Reader, Stage, Step};

/// What randomness is drawn for.
#[derive(Clone, Copy)]
enum Purpose {
    Shape = 1,
    Config = 2,
    Workload = 3,
    Faults = 4,
    Latency = 5,
}

/// A generator with the few draws a plan needs, in integers: equal on every machine.
struct Draw(ChaCha12Rng);

impl Draw {
    fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high.max(low) - low) + 1;
        low + ((u128::from(self.0.next_u64()) * span) >> 64) as u64
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.between(0, from.len() as u64 - 1) as usize].clone()
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut shape = Draw::new(seed, Purpose::Shape);
        let tick_ms = shape.pick(&[1, 2, 5, 5, 10, 10]);
        let heal_ms = shape.between(6, 14) * 1000;
        let clients = shape.pick(&[1, 1, 2, 3]);
        let push_every_ms = shape.between(100, 600);
        let mut config = Draw::new(seed, Purpose::Config);
        let mut latency = Draw::new(seed, Purpose::Latency);
        let mut clients: Vec<ClientPlan> = (0..clients)
            .map(|index| ClientPlan {
                start_ms: if index == 0 { 0 } else { shape.between(0, heal_ms / 2) },
                latency_ms: latency.between(1, 40),
                config: draw_config(&mut config),
                reader: draw_reader(&mut shape),
                script: Vec::new(),
            })
            .collect();
        let faults = draw_faults(&mut Draw::new(seed, Purpose::Faults), heal_ms, clients.len());
        let recovery =
            clients.iter().map(|client| client.config.recovery_ms() + 10 * client.latency_ms).max();
        let settle_ms = heal_ms + recovery.unwrap_or(0) + 20 * tick_ms + 200;
        let mut work = Draw::new(seed, Purpose::Workload);
        let mut label = 0;
        for client in &mut clients {
            let span = Span { heal_ms, settle_ms, start_ms: client.start_ms };
            client.script = draw_script(&mut work, span, &faults, &mut label);
        }
        Self { version: Self::VERSION, seed, tick_ms, heal_ms, settle_ms, push_every_ms, clients, faults }
    }

    /// A plan without faults: the control run. `hours` of one idle, subscribed connection, in steps of `tick_ms`.
    pub fn control(seed: u64, hours: u64, tick_ms: u64) -> Self {
        let mut plan = Self::draw(seed);
        let end_ms = hours * 3_600_000;
        let mut client = plan.clients.swap_remove(0);
        client.reader = Reader::Prompt;
        client.latency_ms = tick_ms;
        client.config.ping_interval_ms = 30_000;
        client.config.pong_timeout_ms = 10_000;
        client.config.connect_timeout_ms = 10_000;
        client.config.auth_timeout_ms = 10_000;
        client.config.request_timeout_ms = 30_000;
        client.script = vec![
            Step { at_ms: tick_ms * 10, op: Op::Subscribe { guard: 1, topic: "t1".to_owned() } },
            Step { at_ms: end_ms / 2, op: Op::Request { label: 1, reply_after_ms: 0, cancel: None } },
            Step { at_ms: end_ms + 60_000, op: Op::Close },
        ];
        Self {
            tick_ms,
            heal_ms: end_ms,
            settle_ms: end_ms + 30_000,
            push_every_ms: 600_000,
            clients: vec![client],
            faults: Vec::new(),
            ..plan
        }
    }
}

fn draw_config(draw: &mut Draw) -> ConfigPlan {
    let initial = draw.between(20, 300);
    ConfigPlan {
        reconnect_initial_delay_ms: initial,
        reconnect_max_delay_ms: initial * draw.between(1, 8),
        reconnect_backoff_factor: draw.pick(&[1.0, 1.5, 2.0, 3.0]),
        reconnect_jitter: draw.pick(&[0.0, 0.5, 1.0, 1.0, 1.0]),
        reconnect_max_attempts: if draw.chance(12) { Some(draw.between(6, 12) as u32) } else { None },
        stable_after_ms: draw.between(500, 3000),
        ping_interval_ms: draw.between(300, 2500),
        pong_timeout_ms: draw.between(250, 2000),
        request_timeout_ms: draw.between(400, 4000),
        connect_timeout_ms: draw.between(400, 2000),
        auth_timeout_ms: draw.between(300, 1500),
        write_timeout_ms: draw.between(500, 2000),
        close_timeout_ms: draw.between(200, 1000),
        event_channel_capacity: draw.pick(&[8, 16, 256]),
        command_channel_capacity: draw.pick(&[1, 4, 64]),
    }
}

fn draw_reader(draw: &mut Draw) -> Reader {
    match draw.between(1, 10) {
        1 => Reader::Absent,
        2..=3 => Reader::Slow { every_ms: draw.between(50, 1500) },
        _ => Reader::Prompt,
    }
}

/// Each seed has its own mix: some kinds not at all, others often.
fn draw_faults(draw: &mut Draw, heal_ms: u64, clients: usize) -> Vec<Fault> {
    let mut kinds = Vec::new();
    for name in 0..7 {
        let weight = if draw.chance(45) { draw.between(1, 3) } else { 0 };
        kinds.extend(std::iter::repeat_n(name, weight as usize));
    }
    let mut faults: Vec<Fault> = Vec::new();
    // One seed in sixteen has a calm sea: it is its own control.
    if kinds.is_empty() || draw.chance(6) {
        return faults;
    }
    let mut at_ms = draw.between(200, 2500);
    while at_ms + 300 < heal_ms {
        let kind = draw_kind(draw, &kinds);
        let for_ms = if kind.is_instant() { 0 } else { draw.between(50, 3000).min(heal_ms - at_ms - 100) };
        let whole_world =
            matches!(kind, FaultKind::Crash | FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. });
        let client = (!whole_world && draw.chance(70)).then(|| draw.between(0, clients as u64 - 1) as usize);
        let fault = Fault { at_ms, for_ms, client, kind };
        // An exchange that misbehaves towards new connections only is not noticed until an old one is lost.
        if matches!(fault.kind, FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. }) {
            let kind = FaultKind::ServerClose { code: 1012, reason: "restarting".to_owned() };
            faults.push(Fault { at_ms: at_ms + 1, for_ms: 0, client: None, kind });
        }
        // Faults follow each other: two at once on one link would not add up in turmoil.
        at_ms += for_ms + draw.between(20, 2500);
        faults.push(fault);
    }
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

fn draw_kind(draw: &mut Draw, kinds: &[u64]) -> FaultKind {
    match draw.pick(kinds) {
        0 => FaultKind::Partition,
        1 => FaultKind::Hold,
        2 => FaultKind::Crash,
        3 => {
            let (code, reason) =
                draw.pick(&[(1000, "bye"), (1001, "going away"), (1011, "oops"), (4000, "tired")]);
            FaultKind::ServerClose { code, reason: reason.to_owned() }
        }
        4 => FaultKind::AcceptThenClose { stage: draw.pick(&[Stage::Accept, Stage::Upgrade, Stage::Auth]) },
        5 => FaultKind::Refuse { retry_after_s: draw.between(0, 2) },
        _ => FaultKind::Dribble { bytes: draw.between(1, 3) as usize },
    }
}

/// The times that bound a client's script.
#[derive(Clone, Copy)]
struct Span {
    heal_ms: u64,
    settle_ms: u64,
    start_ms: u64,
}

fn draw_script(draw: &mut Draw, span: Span, faults: &[Fault], label: &mut u64) -> Vec<Step> {
    let mut script = Vec::new();
    let mut guards = 0;
    let mut live = Vec::new();
    let pace = draw.between(40, 400);
    let mut at_ms = span.start_ms + draw.between(0, 200);
    // Quiet before the settling time: what the exchange knows must have caught up by then.
    while at_ms + 1000 < span.settle_ms {
        for _ in 0..draw.pick(&[1, 1, 1, 2, 6]) {
            let op = match draw_op(draw, &mut guards, &mut live, label) {
                // Whoever asks for a new link in the calm has himself to thank for being down.
                Op::Reconnect if at_ms >= span.heal_ms => continue,
                op => op,
            };
            script.push(Step { at_ms, op });
        }
        at_ms += draw.between(1, 2 * pace);
    }
    // Bursts just before and during trouble: queued, written and lost requests are all of them.
    for fault in faults.iter().filter(|fault| fault.at_ms > span.start_ms) {
        for _ in 0..draw.between(0, 4) {
            *label += 1;
            let at_ms =
                (fault.at_ms + draw.between(0, fault.for_ms + 120)).saturating_sub(60).max(span.start_ms);
            let cancel = draw.chance(50).then(|| draw_cancel(draw));
            let op = Op::Request { label: *label, reply_after_ms: draw.between(0, 300), cancel };
            script.push(Step { at_ms, op });
        }
    }
    let end = draw_end(draw, span, faults);
    script.retain(|step| step.at_ms < end.at_ms);
    script.sort_by_key(|step| step.at_ms);
    script.push(end);
    script
}

fn draw_op(draw: &mut Draw, guards: &mut u32, live: &mut Vec<u32>, label: &mut u64) -> Op {
    match draw.between(1, 100) {
        1..=40 => {
            *label += 1;
            let cancel = draw.chance(20).then(|| draw_cancel(draw));
            Op::Request { label: *label, reply_after_ms: draw.pick(&[0, 0, 0, 20, 200, 900]), cancel }
        }
        41..=58 => {
            *label += 1;
            let cancel = draw.chance(20).then(|| draw_cancel(draw));
            Op::Send { label: *label, confirmed: draw.chance(40), cancel }
        }
        59..=78 => {
            *guards += 1;
            live.push(*guards);
            Op::Subscribe { guard: *guards, topic: format!("t{}", draw.between(1, 5)) }
        }
        79..=93 if !live.is_empty() => {
            let index = draw.between(0, live.len() as u64 - 1) as usize;
            Op::DropGuard { guard: live.swap_remove(index) }
        }
        94..=97 => Op::Unsubscribe { topic: format!("t{}", draw.between(1, 5)) },
        98..=99 => Op::Reconnect,
        _ => {
            *label += 1;
            Op::Send { label: *label, confirmed: false, cancel: None }
        }
    }
}

fn draw_cancel(draw: &mut Draw) -> Cancel {
    Cancel { poll: draw.between(1, 6) as u32, every_ms: draw.between(2, 60) }
}

/// A connection ends by `close` or by the drop of its handles; some in the storm, the rest after it.
fn draw_end(draw: &mut Draw, span: Span, faults: &[Fault]) -> Step {
    let op = if draw.chance(50) { Op::Close } else { Op::DropHandle };
    let early = draw.chance(35) && span.start_ms + 1500 < span.heal_ms;
    let at_ms = if !early {
        span.settle_ms + draw.between(50, 400)
    } else if draw.chance(70) && faults.iter().any(|fault| fault.at_ms > span.start_ms + 300) {
        let late: Vec<&Fault> = faults.iter().filter(|fault| fault.at_ms > span.start_ms + 300).collect();
        let fault = draw.pick(&late);
        fault.at_ms + draw.between(1, fault.for_ms.max(300))
    } else {
        draw.between(span.start_ms + 500, span.heal_ms)
    };
    Step { at_ms, op }
}

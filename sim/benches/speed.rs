//! How fast the simulation is: `cargo bench --package hpx-sim --bench speed`, or `just bench-sim`.
//!
//! One run at a time, so one core. The rates are by processor time, which the other programs of a shared machine don't
//! change; the last column is by the clock on the wall.
//!
//! How long a run of a minute takes depends on what happens in it. `drawn` is the plan of a seed, its storm stretched to a
//! minute; `dense` is a minute into which as many drawn plans are put as it holds, one after the other. Both are shown.
#![allow(missing_docs, reason = "a benchmark has no API")]

use std::time::{Duration, Instant};

use hpx_sim::{
    Backend, Plan, Simulation,
    plan::{Fault, Op, Step, Target, Until, When},
};

fn main() {
    // `cargo test --benches` only asks whether it builds and starts.
    let full = std::env::args().any(|word| word == "--bench");
    let scale = if full { 1 } else { 100 };
    println!("{:<52} {:>12} {:>12} {:>12}", "", "target", "by cpu", "by wall");
    println!("runs of 60 s with faults, a minute");
    for (name, plan) in [("drawn", stretched as fn(u64) -> Plan), ("dense", minute)] {
        storms(&format!("  memory, {name}"), Backend::Memory, plan, 400 / scale, 5000.0);
        let at_ten_ms = move |seed| Plan { tick_ms: 10, ..plan(seed) };
        storms(
            &format!("  turmoil, {name}, ticks of 10 ms"),
            Backend::Turmoil,
            at_ten_ms,
            200 / scale,
            1500.0,
        );
    }
    idle(if full { 24 } else { 1 });
}

fn storms(name: &str, backend: Backend, plan: impl Fn(u64) -> Plan, runs: u64, target: f64) {
    let simulation = |seed| Simulation::of(plan(seed)).backend(backend);
    let all: Vec<Simulation> = (0..runs.max(1)).map(simulation).collect();
    let faults: usize = all.iter().map(|one| one.plan().faults.len()).sum();
    let spent = measure(|| {
        for one in &all {
            // What is measured is a run whose oracles held: one that broke off early would be fast.
            let report = one.run();
            assert!(report.failure().is_none(), "seed {}: {:?}", one.plan().seed, report.failure());
        }
    });
    spent.print(name, target, all.len() as f64 * 60.0);
    let steps: usize = all.iter().flat_map(|one| &one.plan().clients).map(|client| client.script.len()).sum();
    let each = |amount: usize| amount as f64 / all.len() as f64;
    println!("    planned in each: {:.1} faults, {:.1} steps", each(faults), each(steps));
}

fn idle(hours: u64) {
    let simulation = Simulation::of(Plan::control(1, hours, 10)).backend(Backend::Memory);
    let spent = measure(|| {
        for _ in 0..IDLE_RUNS {
            let report = simulation.run();
            assert!(report.is_green(), "{report}");
        }
    });
    let simulated = (IDLE_RUNS * hours * 3600) as f64;
    spent.print("memory: idle seconds, a second", 500_000.0, simulated);
}

/// The plan of a seed, its times stretched until it ends after a minute; what takes its time from the configuration does not.
fn stretched(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    let settle_ms = MINUTE_MS - 1500;
    let heal_ms = settle_ms - (plan.settle_ms - plan.heal_ms);
    let stretch = |ms: u64| ms * heal_ms / plan.heal_ms;
    for step in plan.clients.iter_mut().flat_map(|client| &mut client.script) {
        step.at_ms =
            if step.at_ms < plan.heal_ms { stretch(step.at_ms) } else { step.at_ms - plan.heal_ms + heal_ms };
    }
    for fault in &mut plan.faults {
        if let When::At(ms) = &mut fault.at {
            *ms = stretch(*ms);
        }
        if let Until::ForMs(ms) = &mut fault.until {
            *ms = stretch(*ms);
        }
    }
    Plan { heal_ms, settle_ms, ..plan }
}

/// A plan that ends after a minute: as many drawn plans as fit, one after the other, as the life of the first one's clients.
fn minute(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    let recovery_ms = plan.settle_ms - plan.heal_ms;
    let settle_ms = MINUTE_MS - 1500;
    let (clients, heal_ms) = (plan.clients.len(), settle_ms - recovery_ms);
    let mut scripts = vec![Vec::new(); clients];
    let mut faults = Vec::new();
    let (mut offset_ms, mut part) = (0, plan.clone());
    for number in 1.. {
        for (index, client) in part.clients.iter().enumerate() {
            let script: &mut Vec<Step> = &mut scripts[index % clients];
            // Nobody leaves before the end.
            let stays = |step: &&Step| {
                !matches!(step.op, Op::Close | Op::CloseAndCancel { .. } | Op::DropHandle | Op::DropStream)
            };
            for step in client.script.iter().filter(stays) {
                script.push(Step { at_ms: step.at_ms + offset_ms, op: renumbered(&step.op, number) });
            }
        }
        faults.extend(part.faults.iter().filter_map(|fault| shifted(fault, offset_ms, heal_ms, clients)));
        offset_ms += part.heal_ms;
        if offset_ms >= heal_ms {
            break;
        }
        part = Plan::draw(seed + number * SEEDS_APART);
    }
    faults.sort_by_key(Fault::begins_ms);
    for (client, mut script) in plan.clients.iter_mut().zip(scripts) {
        script.retain(|step| step.at_ms + 1000 < settle_ms);
        script.retain(|step| step.at_ms < heal_ms || !matches!(step.op, Op::Reconnect));
        script.sort_by_key(|step| step.at_ms);
        script.push(Step { at_ms: settle_ms + 100, op: Op::Close });
        client.script = script;
        client.config.reconnect_max_attempts = None;
    }
    Plan { heal_ms, settle_ms, faults, ..plan }
}

/// The same with the names of another life: calls and guards of different parts must not be taken for each other.
fn renumbered(op: &Op, part: u64) -> Op {
    let mut op = op.clone();
    match &mut op {
        Op::Request { label, .. } => *label += part * 100_000,
        Op::Send { label, bytes, .. } => {
            *label += part * 100_000;
            // No plan has large messages beside sockets that move a byte at a time; these lives are not one plan.
            *bytes = (*bytes).min(2000);
        }
        Op::SubscribeMany { first_guard, .. } => *first_guard += part as u32 * 100_000,
        Op::Subscribe { guard, .. } | Op::DropGuard { guard } => *guard += part as u32 * 100_000,
        _ => {}
    }
    op
}

/// A fault of a later part; none if it would stay for ever, or begin after all is healed.
fn shifted(fault: &Fault, offset_ms: u64, heal_ms: u64, clients: usize) -> Option<Fault> {
    let mut fault = fault.clone();
    if let When::At(ms) = &mut fault.at {
        *ms += offset_ms;
    }
    if let Target::Client(client) = &mut fault.target {
        *client %= clients;
    }
    let fits = fault.begins_ms().is_none_or(|ms| ms < heal_ms);
    // What lasts until its plan heals would last for most of a minute.
    if fault.until == Until::Heal {
        fault.until = Until::ForMs(3000);
    }
    if let When::On(anchor) = &mut fault.at {
        anchor.client %= clients;
    }
    (fits && fault.until != Until::Never).then_some(fault)
}

/// Time spent on something.
struct Spent {
    cpu: Duration,
    wall: Duration,
}

impl Spent {
    fn print(&self, name: &str, target: f64, amount: f64) {
        let rate = |time: Duration| amount / time.as_secs_f64();
        let (cpu, wall) = (rate(self.cpu), rate(self.wall));
        let verdict = if cpu >= target { "met" } else { "MISSED" };
        println!("{name:<52} {:>12} {cpu:>12.0} {wall:>12.0}  {verdict}", format!(">= {target}"));
    }
}

fn measure(work: impl FnOnce()) -> Spent {
    let (cpu, wall) = (processor_time(), Instant::now());
    work();
    let wall = wall.elapsed();
    let cpu = processor_time().zip(cpu).map_or(wall, |(after, before)| after - before);
    Spent { cpu: cpu.max(Duration::from_millis(1)), wall }
}

/// What this process has used, its threads that have ended included, where the system tells: Linux, to 10 ms.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in brackets, may have blanks in it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

const MINUTE_MS: u64 = 60_000;
/// Enough for the resolution of the processor's clock.
const IDLE_RUNS: u64 = 10;
/// Far from the seeds that are run.
const SEEDS_APART: u64 = 1_000_003;

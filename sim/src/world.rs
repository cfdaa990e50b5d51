//! The world of one run: turmoil, its hosts, and the faults that happen to them.
//!
//! | phase | until | what |
//! |---|---|---|
//! | storm | `heal_ms` | the script runs, faults happen: safety |
//! | calm | `settle_ms` | the script runs on, the world is healthy: liveness |
//! | end | the plan's end | every connection has been closed or dropped: nothing may be left |
//!
//! A second backend replaces this file: plan, workload, oracles and trace know nothing of turmoil.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hpx_transport::env::Timestamp;

use crate::{
    env::{SimEnv, panic_text},
    oracle::Bench,
    peers::exchange::{Exchange, PORT},
    plan::{Fault, FaultKind, Plan},
    trace::{Entry, FaultLog, Recorder, What, WorkLog},
    workload::{self, Kit},
};

/// What a run leaves behind.
pub(crate) struct Ran {
    pub(crate) entries: Vec<Entry>,
    pub(crate) bench: Bench,
    /// The simulation itself broke, or a host panicked.
    pub(crate) failure: Option<String>,
}

/// Runs the plan to its end on the current thread.
pub(crate) fn run(plan: &Arc<Plan>, kit: &Kit) -> Ran {
    let recorder = Recorder::default();
    let mut bench = Bench::new(plan, &kit.dialect);
    let mut fed = 0;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::build(plan, kit, &recorder);
        let result = world.run(&mut bench, &mut fed);
        // What the teardown does is no part of the run.
        recorder.seal();
        result
    }));
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("a host of the simulation failed: {error}")),
        Err(panic) => Some(format!("the simulation panicked: {}", panic_text(panic.as_ref()))),
    };
    recorder.seal();
    let entries = recorder.take();
    bench.finish(Timestamp::ZERO + Duration::from_millis(plan.end_ms()));
    Ran { entries, bench, failure }
}

struct World<'a> {
    plan: &'a Plan,
    recorder: Recorder,
    sim: turmoil::Sim<'a>,
    exchange: Exchange,
    envs: Vec<SimEnv>,
    /// Faults that have begun and are to end, by the time they do.
    running: BTreeMap<(u64, usize), Fault>,
    next_fault: usize,
    healed: bool,
}

impl<'a> World<'a> {
    fn build(plan: &'a Plan, kit: &Kit, recorder: &Recorder) -> Self {
        let mut sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH)
            .simulation_duration(Duration::from_secs(u64::from(u32::MAX)))
            .tick_duration(plan.tick())
            // Equal bounds: turmoil's own generator has nothing to decide.
            .min_message_latency(plan.tick())
            .max_message_latency(plan.tick())
            .tcp_capacity(TCP_SEGMENTS)
            .rng_seed(plan.seed)
            .build();
        let push_every = Duration::from_millis(plan.push_every_ms);
        let exchange = Exchange::new(recorder.clone(), Arc::clone(&kit.dialect), push_every);
        let host = exchange.clone();
        sim.host(EXCHANGE, move || host.clone().serve());
        recorder.name(EXCHANGE, sim.lookup(EXCHANGE));
        let mut envs = Vec::new();
        for (index, client) in plan.clients.iter().enumerate() {
            let name = format!("{CLIENT_PREFIX}{index}");
            let env = SimEnv::new(index, plan.seed, recorder.clone());
            envs.push(env.clone());
            let url = format!("ws://{EXCHANGE}:{PORT}/");
            let (client_plan, kit, settle_ms) = (client.clone(), kit.clone(), plan.settle_ms);
            // It never returns: turmoil stops the clock of a host that has.
            sim.client(name.as_str(), async move {
                workload::run(env, client_plan, settle_ms, url, kit).await;
                Ok(())
            });
            recorder.name(&name, sim.lookup(name.as_str()));
            sim.set_link_latency(EXCHANGE, name.as_str(), Duration::from_millis(client.latency_ms));
        }
        let (running, recorder) = (BTreeMap::new(), recorder.clone());
        Self { plan, recorder, sim, exchange, envs, running, next_fault: 0, healed: false }
    }

    fn run(&mut self, bench: &mut Bench, fed: &mut usize) -> turmoil::Result {
        let end = Duration::from_millis(self.plan.end_ms());
        while self.sim.elapsed() < end {
            self.recorder.set_world_time(Timestamp::ZERO + self.sim.elapsed());
            self.turn_the_screws();
            self.sim.step()?;
            let entries = self.recorder.since(*fed);
            *fed += entries.len();
            bench.observe_all(&entries);
        }
        self.recorder.set_world_time(Timestamp::ZERO + self.sim.elapsed());
        for (client, env) in self.envs.iter().enumerate() {
            self.recorder.client(client, What::Work(WorkLog::Residue(env.census())));
        }
        let entries = self.recorder.since(*fed);
        *fed += entries.len();
        bench.observe_all(&entries);
        Ok(())
    }

    /// Begins and ends the faults whose time has come.
    fn turn_the_screws(&mut self) {
        let now_ms = u64::try_from(self.sim.elapsed().as_millis()).unwrap_or(u64::MAX);
        while let Some((&(until, index), _)) = self.running.first_key_value()
            && until <= now_ms
        {
            if let Some(fault) = self.running.remove(&(until, index)) {
                self.undo(index, &fault);
            }
        }
        while let Some(fault) = self.plan.faults.get(self.next_fault)
            && fault.at_ms <= now_ms
        {
            let index = self.next_fault;
            self.next_fault += 1;
            self.begin(index, fault);
            if !fault.kind.is_instant() {
                self.running.insert((fault.at_ms + fault.for_ms, index), fault.clone());
            }
        }
        if !self.healed && self.plan.heal_ms <= now_ms {
            self.healed = true;
            self.recorder.world(FaultLog::Healed);
        }
    }

    fn begin(&mut self, index: usize, fault: &Fault) {
        self.recorder.world(FaultLog::Began { fault: index, text: describe(fault) });
        match &fault.kind {
            FaultKind::Partition => {
                self.each_link(fault, |sim, name| sim.partition(EXCHANGE, name));
                self.exchange.freeze_open(fault.client);
            }
            FaultKind::Hold => self.each_link(fault, |sim, name| sim.hold(EXCHANGE, name)),
            FaultKind::Crash => self.sim.crash(EXCHANGE),
            FaultKind::ServerClose { code, reason } => self.exchange.close_open(fault.client, *code, reason),
            FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. } => {
                self.exchange.set_mood(Some(fault.kind.clone()));
            }
            FaultKind::Dribble { bytes } => self.set_dribble(fault, Some(*bytes)),
        }
    }

    fn undo(&mut self, index: usize, fault: &Fault) {
        match &fault.kind {
            FaultKind::Partition => self.each_link(fault, |sim, name| sim.repair(EXCHANGE, name)),
            FaultKind::Hold => self.each_link(fault, |sim, name| sim.release(EXCHANGE, name)),
            FaultKind::Crash => self.sim.bounce(EXCHANGE),
            FaultKind::ServerClose { .. } => {}
            FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. } => self.exchange.set_mood(None),
            FaultKind::Dribble { .. } => self.set_dribble(fault, None),
        }
        self.recorder.world(FaultLog::Ended { fault: index, text: describe(fault) });
    }

    fn each_link(&self, fault: &Fault, act: impl Fn(&turmoil::Sim<'a>, &str)) {
        for index in 0..self.plan.clients.len() {
            if fault.client.is_none_or(|client| client == index) {
                act(&self.sim, &format!("{CLIENT_PREFIX}{index}"));
            }
        }
    }

    fn set_dribble(&self, fault: &Fault, bytes: Option<usize>) {
        for (index, env) in self.envs.iter().enumerate() {
            if fault.client.is_none_or(|client| client == index) {
                env.set_dribble(bytes);
            }
        }
    }
}

/// A fault in words, without its times.
pub(crate) fn describe(fault: &Fault) -> String {
    let whom = fault.client.map_or_else(|| "all clients".to_owned(), |client| format!("client {client}"));
    match &fault.kind {
        FaultKind::Partition => format!("partition: the network drops everything of {whom}"),
        FaultKind::Hold => format!("hold: the network keeps back everything of {whom}"),
        FaultKind::Crash => "crash: the exchange is down".to_owned(),
        FaultKind::ServerClose { code, reason } => format!("server-close: {whom}, code {code} ({reason})"),
        FaultKind::AcceptThenClose { stage } => {
            let stage = format!("{stage:?}").to_lowercase();
            format!("accept-then-close: the exchange ends every new connection after the {stage}")
        }
        FaultKind::Refuse { retry_after_s } => {
            format!("refuse: the exchange answers upgrades with 503, retry-after {retry_after_s} s")
        }
        FaultKind::Dribble { bytes } => format!("dribble: sockets of {whom} move {bytes} byte(s) at a time"),
    }
}

pub(crate) const EXCHANGE: &str = "exchange";
pub(crate) const CLIENT_PREFIX: &str = "client-";
/// turmoil counts segments, not bytes, and panics at more pending SYNs than this. A dribble makes a segment of each byte.
const TCP_SEGMENTS: usize = 1 << 16;

//! The world of one run: its hosts, and the faults that happen to them.
//!
//! | phase | until | what |
//! |---|---|---|
//! | storm | `heal_ms` | the script runs, faults happen: safety |
//! | calm | `settle_ms` | the script runs on, the world is healthy: liveness |
//! | end | the plan's end | every connection has been closed or dropped: nothing may be left |
//!
//! It knows no network: a [`Platform`] is one. Plan, workload, oracles and trace are the same on each.

mod memory;
mod turmoil;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use hpx_transport::env::Timestamp;

use crate::{
    env::{SimEnv, panic_text},
    net::{Backend, LinkChange, SimClock, ms},
    oracle::Bench,
    peers::exchange::{Exchange, PORT},
    plan::{Fault, FaultKind, Plan},
    trace::{Entry, FaultLog, Recorder, What, WorkLog},
    workload::Kit,
};

/// What a run leaves behind.
pub(crate) struct Ran {
    pub(crate) entries: Vec<Entry>,
    pub(crate) bench: Bench,
    /// The simulation itself broke, or a host panicked.
    pub(crate) failure: Option<String>,
}

/// A backend at work: hosts that run, and a network that can be hurt.
trait Platform {
    /// Time since the run began.
    fn elapsed(&self) -> Duration;

    /// Lets time pass until then, or to the first step after it.
    fn run_until(&mut self, until: Duration) -> Result<(), String>;

    /// The exchange's host goes down: its sockets end, and no dial is answered.
    fn crash(&mut self);

    /// It starts anew.
    fn bounce(&mut self);

    /// Changes the line between the exchange and a client.
    fn change_link(&mut self, client: usize, change: LinkChange);

    /// Everybody's environment, by client.
    fn envs(&self) -> &[SimEnv];
}

/// Runs the plan to its end on the current thread.
pub(crate) fn run(plan: &Arc<Plan>, kit: &Kit, backend: Backend) -> Ran {
    let bench = Bench::new(plan, &kit.dialect);
    match backend {
        Backend::Turmoil => {
            let recorder = Recorder::new(SimClock::Turmoil, bench);
            watch(plan, kit, &recorder, |exchange| turmoil::Turmoil::build(plan, kit, &recorder, exchange))
        }
        Backend::Memory => {
            let runtime = memory::runtime();
            let recorder = Recorder::new(memory::clock(&runtime), bench);
            watch(plan, kit, &recorder, |exchange| {
                memory::Memory::build(runtime, plan, kit, &recorder, exchange)
            })
        }
    }
}

/// Builds a platform, lets the world happen on it, and takes down what is left.
fn watch<P: Platform>(
    plan: &Plan,
    kit: &Kit,
    recorder: &Recorder,
    build: impl FnOnce(&Exchange) -> P,
) -> Ran {
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let exchange = Exchange::new(recorder.clone(), Arc::clone(&kit.dialect), ms(plan.push_every_ms));
        let platform = build(&exchange);
        let (running, next_fault, healed) = (BTreeMap::new(), 0, false);
        let mut world = World { plan, recorder, exchange, platform, running, next_fault, healed };
        let result = world.run();
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
    let (entries, bench) = recorder.take();
    // Each run has a recorder of its own, and this is its only end.
    let mut bench = bench.expect("the oracles come back with the trace they watched");
    bench.finish(Timestamp::ZERO + ms(plan.end_ms()));
    Ran { entries, bench, failure }
}

struct World<'a, P> {
    plan: &'a Plan,
    recorder: &'a Recorder,
    exchange: Exchange,
    platform: P,
    /// Faults that have begun and are to end, by the time they do.
    running: BTreeMap<(u64, usize), Fault>,
    next_fault: usize,
    healed: bool,
}

impl<P: Platform> World<'_, P> {
    fn run(&mut self) -> Result<(), String> {
        let end = ms(self.plan.end_ms());
        loop {
            let now = self.platform.elapsed();
            self.recorder.set_world_time(Timestamp::ZERO + now);
            if now >= end {
                break;
            }
            self.turn_the_screws(now);
            let next = self.next_turn().map_or(end, |next_ms| ms(next_ms).min(end));
            self.platform.run_until(next)?;
        }
        for (client, env) in self.platform.envs().iter().enumerate() {
            self.recorder.client(client, What::Work(WorkLog::Residue(env.census())));
        }
        Ok(())
    }

    /// When the next fault begins or ends.
    fn next_turn(&self) -> Option<u64> {
        let ends = self.running.keys().next().map(|(until, _)| *until);
        let begins = self.plan.faults.get(self.next_fault).map(|fault| fault.at_ms);
        let heals = (!self.healed).then_some(self.plan.heal_ms);
        [ends, begins, heals].into_iter().flatten().min()
    }

    /// Begins and ends the faults whose time has come.
    fn turn_the_screws(&mut self, now: Duration) {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
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
            FaultKind::Partition => self.change_links(fault, LinkChange::Partition),
            FaultKind::Hold => self.change_links(fault, LinkChange::Hold),
            FaultKind::Crash => self.platform.crash(),
            FaultKind::ServerClose { code, reason } => self.exchange.close_open(fault.client, *code, reason),
            FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. } => {
                self.exchange.set_mood(Some(fault.kind.clone()));
            }
            FaultKind::Dribble { bytes } => self.set_dribble(fault, Some(*bytes)),
        }
    }

    fn undo(&mut self, index: usize, fault: &Fault) {
        match &fault.kind {
            FaultKind::Partition => self.change_links(fault, LinkChange::Repair),
            FaultKind::Hold => self.change_links(fault, LinkChange::Release),
            FaultKind::Crash => self.platform.bounce(),
            FaultKind::ServerClose { .. } => {}
            FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. } => self.exchange.set_mood(None),
            FaultKind::Dribble { .. } => self.set_dribble(fault, None),
        }
        self.recorder.world(FaultLog::Ended { fault: index, text: describe(fault) });
    }

    fn change_links(&mut self, fault: &Fault, change: LinkChange) {
        for client in 0..self.plan.clients.len() {
            if concerns(fault, client) {
                self.platform.change_link(client, change);
            }
        }
    }

    fn set_dribble(&self, fault: &Fault, bytes: Option<usize>) {
        for (client, env) in self.platform.envs().iter().enumerate() {
            if concerns(fault, client) {
                env.set_dribble(bytes);
            }
        }
    }
}

fn concerns(fault: &Fault, client: usize) -> bool {
    fault.client.is_none_or(|only| only == client)
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

/// Where the clients dial.
fn url() -> String {
    format!("ws://{EXCHANGE}:{PORT}/")
}

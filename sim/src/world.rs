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

use std::{collections::BTreeSet, io, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::future::try_join;
use hpx_transport::env::Timestamp;

use crate::{
    env::{Conditions, SimEnv, panic_text},
    net::{Backend, LinkChange, Listener, SimClock, ms},
    oracle::Bench,
    peers::{
        exchange::{Exchange, PORT},
        web::Web,
    },
    plan::{Fault, FaultKind, Plan, Until, describe_fault as describe},
    trace::{Entry, FaultLog, HttpLog, Recorder, What, WorkLog},
    workload::Kit,
};

/// What a run leaves behind.
pub(crate) struct Ran {
    pub(crate) entries: Vec<Entry>,
    pub(crate) bench: Bench,
    /// Of every byte of the clients' sockets, if it was asked for.
    pub(crate) bytes: Option<[u8; 16]>,
    /// The simulation itself broke, or a host panicked.
    pub(crate) failure: Option<String>,
}

/// A backend at work: hosts that run, and a network that can be hurt.
trait Platform {
    /// Time since the run began.
    fn elapsed(&self) -> Duration;

    /// Lets time pass until then, or to the first step after it, or until an event has set off a fault.
    fn run_until(&mut self, until: Duration) -> Result<(), String>;

    /// The exchange's host goes down: its sockets end, and no dial is answered.
    fn crash(&mut self);

    /// It goes down without a word: what comes for its old sockets when it is up again is reset.
    fn lose_power(&mut self);

    /// It starts anew.
    fn bounce(&mut self);

    /// Changes the line between the exchange and a client.
    fn change_link(&mut self, client: usize, change: LinkChange);

    /// Everybody's environment, by client.
    fn envs(&self) -> &[SimEnv];
}

/// Runs the plan to its end on the current thread.
pub(crate) fn run(plan: &Arc<Plan>, kit: &Kit, backend: Backend, bytes: bool) -> Ran {
    let bench = Bench::new(plan, &kit.dialect);
    match backend {
        Backend::Turmoil => {
            let recorder = Recorder::new(SimClock::Turmoil, plan, bench);
            recorder.take_bytes(bytes);
            watch(plan, kit, &recorder, |peers| turmoil::Turmoil::build(plan, kit, &recorder, peers))
        }
        Backend::Memory => {
            let runtime = memory::runtime();
            let recorder = Recorder::new(memory::clock(&runtime), plan, bench);
            recorder.take_bytes(bytes);
            watch(plan, kit, &recorder, |peers| memory::Memory::build(runtime, plan, kit, &recorder, peers))
        }
    }
}

/// Builds a platform, lets the world happen on it, and takes down what is left.
fn watch<P: Platform>(plan: &Plan, kit: &Kit, recorder: &Recorder, build: impl FnOnce(&Peers) -> P) -> Ran {
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let peers = Peers {
            exchange: Exchange::new(recorder.clone(), Arc::clone(&kit.dialect), plan),
            web: Web::new(recorder.clone(), plan),
        };
        let platform = build(&peers);
        let mut world = World::new(plan, recorder, peers, platform);
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
    let bytes = recorder.byte_digest();
    let (entries, bench) = recorder.take();
    // Each run has a recorder of its own, and this is its only end.
    let mut bench = bench.expect("the oracles come back with the trace they watched");
    bench.finish(Timestamp::ZERO + ms(plan.end_ms()));
    Ran { entries, bench, bytes, failure }
}

/// Who listens on the exchange's machine.
#[derive(Clone)]
struct Peers {
    exchange: Exchange,
    web: Web,
}

impl Peers {
    /// Until the machine crashes. The exchange's listener, and those of the HTTP hosts.
    async fn serve(self, exchange: Listener, web: Vec<(u16, Listener)>) -> io::Result<()> {
        if web.is_empty() {
            return self.exchange.serve(exchange).await;
        }
        try_join(self.exchange.serve(exchange), self.web.serve(web)).await.map(drop)
    }
}

struct World<'a, P> {
    plan: &'a Plan,
    recorder: &'a Recorder,
    peers: Peers,
    platform: P,
    /// Faults whose time is known and has not come.
    ahead: BTreeSet<(Timestamp, usize)>,
    /// When those that have begun end.
    ends: BTreeSet<(Timestamp, usize)>,
    /// What is the case now: faults that have begun and not ended.
    active: BTreeSet<usize>,
    /// How each client's line is.
    lines: Vec<Line>,
    down: bool,
    healed: bool,
}

/// A client's line to the exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Clear,
    Held,
    Cut,
}

impl<'a, P: Platform> World<'a, P> {
    fn new(plan: &'a Plan, recorder: &'a Recorder, peers: Peers, platform: P) -> Self {
        let at = |(index, fault): (usize, &Fault)| Some((Timestamp::ZERO + ms(fault.begins_ms()?), index));
        Self {
            plan,
            recorder,
            peers,
            platform,
            ahead: plan.faults.iter().enumerate().filter_map(at).collect(),
            ends: BTreeSet::new(),
            active: BTreeSet::new(),
            lines: vec![Line::Clear; plan.hosts()],
            down: false,
            healed: false,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let end = ms(self.plan.end_ms());
        loop {
            let now = self.platform.elapsed();
            self.recorder.set_world_time(Timestamp::ZERO + now);
            if now >= end {
                break;
            }
            self.turn_the_screws(Timestamp::ZERO + now);
            let next = self.next_turn().map_or(end, |next| next.since_epoch().min(end));
            self.platform.run_until(next)?;
        }
        for (client, env) in self.platform.envs().iter().enumerate() {
            let census = env.census();
            let log = match client < self.plan.clients.len() {
                true => What::Work(WorkLog::Residue(census)),
                false => What::Http(HttpLog::Residue(census)),
            };
            self.recorder.client(client, log);
        }
        Ok(())
    }

    fn heal_at(&self) -> Timestamp {
        Timestamp::ZERO + ms(self.plan.heal_ms)
    }

    /// When the next fault begins or ends, as far as is known now.
    fn next_turn(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, usize)>| set.first().map(|(at, _)| *at);
        let heals = (!self.healed).then(|| self.heal_at());
        [first(&self.ends), first(&self.ahead), heals].into_iter().flatten().min()
    }

    /// Begins and ends the faults whose time has come.
    fn turn_the_screws(&mut self, now: Timestamp) {
        // What an event has set off; after the healing nothing begins any more.
        self.ahead.extend(self.recorder.take_triggered());
        let heal_at = self.heal_at();
        while let Some((at, index)) = self.ends.first().copied()
            && at <= now
        {
            self.ends.remove(&(at, index));
            self.end(index);
        }
        while let Some((at, index)) = self.ahead.first().copied()
            && at <= now
        {
            self.ahead.remove(&(at, index));
            if at < heal_at {
                self.begin(at, index);
            }
        }
        if !self.healed && heal_at <= now {
            self.healed = true;
            self.recorder.world(FaultLog::Healed);
        }
        self.recorder.resume();
    }

    fn begin(&mut self, at: Timestamp, index: usize) {
        let plan = self.plan;
        let fault = &plan.faults[index];
        self.recorder.world(FaultLog::Began { fault: index, text: describe(fault) });
        if !fault.kind.is_instant() {
            self.active.insert(index);
            let until = match fault.until {
                Until::ForMs(length) => Some((at + ms(length)).min(self.heal_at())),
                Until::Heal => Some(self.heal_at()),
                Until::Never => None,
            };
            self.ends.extend(until.map(|until| (until, index)));
            self.apply(fault);
            return;
        }
        let struck = self.platform.envs().iter().enumerate().filter(|(client, _)| fault.concerns(*client));
        match &fault.kind {
            FaultKind::ServerClose { code, reason } => {
                self.peers.exchange.close_open(fault.target, *code, reason);
                self.peers.web.close_open(fault.target);
            }
            FaultKind::Reset => struck.for_each(|(_, env)| env.reset_sockets()),
            FaultKind::ClockJump { by_ms } => struck.for_each(|(_, env)| env.jump(*by_ms)),
            _ => {}
        }
    }

    fn end(&mut self, index: usize) {
        let plan = self.plan;
        let fault = &plan.faults[index];
        self.active.remove(&index);
        self.apply(fault);
        self.recorder.world(FaultLog::Ended { fault: index, text: describe(fault) });
    }

    /// Makes the world as the active faults want it. What one of them asks for stands while it lasts, however they overlap:
    /// where two contradict each other, the later in the plan has its way.
    fn apply(&mut self, changed: &Fault) {
        if changed.kind.is_of_the_machine() {
            let down = self.active_faults().any(|fault| fault.kind.is_of_the_machine());
            match (self.down, down) {
                (false, true) if changed.kind == FaultKind::PowerLoss => self.platform.lose_power(),
                (false, true) => self.platform.crash(),
                (true, false) => self.platform.bounce(),
                _ => {}
            }
            self.down = down;
            return;
        }
        for client in 0..self.plan.hosts() {
            if !changed.concerns(client) {
                continue;
            }
            let of_client: Vec<&FaultKind> = self
                .active_faults()
                .filter(|fault| fault.concerns(client))
                .map(|fault| &fault.kind)
                .collect();
            let moods = |kind: &&&FaultKind| {
                matches!(
                    kind,
                    FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. } | FaultKind::Misbehave(_)
                )
            };
            let mood = of_client.iter().rev().find(moods).map(|kind| (*kind).clone());
            let line = match () {
                () if of_client.contains(&&FaultKind::Partition) => Line::Cut,
                () if of_client.contains(&&FaultKind::Hold) => Line::Held,
                () => Line::Clear,
            };
            let conditions = Conditions::of(&of_client);
            let handshake = of_client.iter().rev().find_map(|kind| match kind {
                FaultKind::Tls(fault) => Some(*fault),
                _ => None,
            });
            if client < self.plan.clients.len() {
                self.peers.exchange.set_handshake(client, handshake);
                self.peers.exchange.set_mood(client, mood);
            } else {
                let behaviour = of_client.iter().rev().find_map(|kind| match kind {
                    FaultKind::Serve { how, nth } => Some((*how, *nth)),
                    _ => None,
                });
                self.peers.web.set_handshake(client, handshake);
                self.peers.web.set_mood(client, mood);
                self.peers.web.set_behaviour(client, behaviour);
            }
            self.platform.envs()[client].set_conditions(conditions);
            self.set_line(client, line);
        }
    }

    fn active_faults(&self) -> impl Iterator<Item = &'a Fault> {
        let plan = self.plan;
        self.active.iter().map(move |index| &plan.faults[*index])
    }

    fn set_line(&mut self, client: usize, line: Line) {
        let before = std::mem::replace(&mut self.lines[client], line);
        if before == line {
            return;
        }
        match before {
            Line::Clear => {}
            Line::Held => self.platform.change_link(client, LinkChange::Release),
            Line::Cut => self.platform.change_link(client, LinkChange::Repair),
        }
        match line {
            Line::Clear => {}
            Line::Held => self.platform.change_link(client, LinkChange::Hold),
            Line::Cut => self.platform.change_link(client, LinkChange::Partition),
        }
    }
}

pub(crate) const EXCHANGE: &str = "exchange";
pub(crate) const CLIENT_PREFIX: &str = "client-";

/// Where the clients dial.
fn url(tls: bool) -> String {
    format!("{}://{EXCHANGE}:{PORT}/", if tls { "wss" } else { "ws" })
}

//! The network in memory as the platform of a run: one paused runtime, in which time jumps from event to event.
//!
//! Clients are tasks. The exchange is a future polled by whoever drives the network, so that a crash ends it, and all it
//! holds, in one moment.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hpx_transport::env::Timestamp;
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, Sleep, sleep_until},
};

use super::{CLIENT_PREFIX, EXCHANGE, Peers, Platform, url};
use crate::{
    env::SimEnv,
    net::{
        LinkChange, Listener, SimClock, Wire,
        memory::{Host, Network},
        ms,
    },
    peers::exchange::PORT,
    plan::Plan,
    trace::Recorder,
    workload::{self, Kit},
};

/// The one runtime of a run, its clock standing still while there is work.
pub(super) fn runtime() -> Runtime {
    // Without I/O there is nothing of the system's that could fail.
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O starts")
}

/// Time since now.
pub(super) fn clock(runtime: &Runtime) -> SimClock {
    let _inside = runtime.enter();
    SimClock::Memory(Instant::now())
}

pub(super) struct Memory {
    ground: Ground,
    peers: Peers,
    host: Host,
    clients: Vec<Host>,
    envs: Vec<SimEnv>,
    // Dropped last: what the others hold has timers in it.
    runtime: Runtime,
}

/// What is driven while time passes.
struct Ground {
    clock: SimClock,
    recorder: Recorder,
    network: Network,
    /// The exchange, while its host is up.
    serving: Option<Serving>,
    alarm: Pin<Box<Sleep>>,
}

type Serving = Pin<Box<dyn Future<Output = io::Result<()>>>>;

impl Memory {
    pub(super) fn build(
        runtime: Runtime,
        plan: &Plan,
        kit: &Kit,
        recorder: &Recorder,
        peers: &Peers,
    ) -> Self {
        let (clients, envs, host, ground) = {
            let _inside = runtime.enter();
            let network = Network::new(plan.seed, recorder.clock());
            let host = network.host();
            recorder.name(EXCHANGE, host.ip());
            let (mut clients, mut envs) = (Vec::new(), Vec::new());
            for (index, client) in plan.clients.iter().enumerate() {
                let own = network.host();
                recorder.name(&format!("{CLIENT_PREFIX}{index}"), own.ip());
                network.set_latency(&host, &own, ms(client.latency_ms));
                network.set_quality(&host, &own, ms(client.jitter_ms), client.bandwidth_bytes_per_s);
                if let Some(bytes) = client.window_bytes {
                    own.set_window(bytes);
                }
                let env =
                    SimEnv::new(index, plan.seed, recorder.clone(), Wire::Memory(own.clone()), client.tls);
                env.set_stops(plan.stops(index));
                let run =
                    workload::run(env.clone(), client.clone(), plan.settle_ms, url(client.tls), kit.clone());
                runtime.spawn(env.of_process(Box::pin(run)));
                clients.push(own);
                envs.push(env);
            }
            for (index, client) in plan.http.iter().enumerate() {
                let index = plan.clients.len() + index;
                let own = network.host();
                recorder.name(&format!("{CLIENT_PREFIX}{index}"), own.ip());
                network.set_latency(&host, &own, ms(client.latency_ms));
                let env = SimEnv::new(index, plan.seed, recorder.clone(), Wire::Memory(own.clone()), true);
                env.set_stops(plan.stops(index));
                let run = workload::http::run(env.clone(), client.clone(), index);
                runtime.spawn(env.of_process(Box::pin(run)));
                clients.push(own);
                envs.push(env);
            }
            let alarm = Box::pin(sleep_until(Instant::now()));
            let (clock, recorder) = (recorder.clock(), recorder.clone());
            let ground = Ground { clock, recorder, network, serving: None, alarm };
            (clients, envs, host, ground)
        };
        let mut memory = Self { ground, peers: peers.clone(), host, clients, envs, runtime };
        memory.bounce();
        memory
    }
}

impl Platform for Memory {
    fn elapsed(&self) -> Duration {
        let _inside = self.runtime.enter();
        self.ground.clock.now().unwrap_or_default().since_epoch()
    }

    fn run_until(&mut self, until: Duration) -> Result<(), String> {
        let (ground, until) = (&mut self.ground, Timestamp::ZERO + until);
        self.runtime.block_on(poll_fn(|cx| ground.poll_until(until, cx)))
    }

    fn crash(&mut self) {
        let _inside = self.runtime.enter();
        self.ground.serving = None;
        self.host.crash();
    }

    fn lose_power(&mut self) {
        let _inside = self.runtime.enter();
        // Before the exchange lets go of its sockets: they must not say goodbye.
        self.host.lose_power();
        self.ground.serving = None;
    }

    fn bounce(&mut self) {
        let _inside = self.runtime.enter();
        self.host.boot();
        let listen = |port| Listener::Memory(self.host.listen(port));
        let web = self.peers.web.ports().map(|port| (port, listen(port))).collect();
        self.ground.serving = Some(Box::pin(self.peers.clone().serve(listen(PORT), web)));
    }

    fn change_link(&mut self, client: usize, change: LinkChange) {
        let _inside = self.runtime.enter();
        self.ground.network.change(&self.host, &self.clients[client], change);
    }

    fn envs(&self) -> &[SimEnv] {
        &self.envs
    }
}

impl Ground {
    /// Drives the network and the exchange. Between two calls of this the clients run; when all wait, tokio moves the
    /// clock to the nearest timer, of a client or of this.
    fn poll_until(&mut self, until: Timestamp, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.recorder.tell_of_triggers(cx);
        loop {
            if self.recorder.has_triggered() {
                return Poll::Ready(Ok(()));
            }
            if let Some(serving) = &mut self.serving
                && let Poll::Ready(result) = serving.as_mut().poll(cx)
            {
                let why = result.err().map_or_else(|| "it returned".to_owned(), |error| error.to_string());
                return Poll::Ready(Err(why));
            }
            let next = self.network.poll_due(cx);
            let now = self.clock.now().unwrap_or_default();
            if now >= until {
                return Poll::Ready(Ok(()));
            }
            let wake_at = next.unwrap_or(until).min(until);
            self.alarm.as_mut().reset(Instant::now() + wake_at.since(now));
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

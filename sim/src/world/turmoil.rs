//! turmoil as the platform of a run: every host has a runtime of its own, and time goes in ticks.

use std::time::{Duration, SystemTime};

use hpx_transport::env::Timestamp;
use turmoil::net::TcpListener;

use super::{CLIENT_PREFIX, EXCHANGE, Peers, Platform, url};
use crate::{
    env::SimEnv,
    net::{LinkChange, Listener, Wire, ms},
    peers::exchange::PORT,
    plan::Plan,
    trace::Recorder,
    workload::{self, Kit},
};

pub(super) struct Turmoil {
    recorder: Recorder,
    peers: Peers,
    sim: turmoil::Sim<'static>,
    envs: Vec<SimEnv>,
    /// Clients whose line is cut.
    cut: Vec<bool>,
    /// The exchange's machine has no power.
    dark: bool,
}

impl Turmoil {
    pub(super) fn build(plan: &Plan, kit: &Kit, recorder: &Recorder, peers: &Peers) -> Self {
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
        let host = peers.clone();
        sim.host(EXCHANGE, move || {
            let peers = host.clone();
            async move {
                let listen = async |port| TcpListener::bind(("0.0.0.0", port)).await.map(Listener::Turmoil);
                let exchange = listen(PORT).await?;
                let mut web = Vec::new();
                for port in peers.web.ports() {
                    web.push((port, listen(port).await?));
                }
                Ok(peers.serve(exchange, web).await?)
            }
        });
        recorder.name(EXCHANGE, sim.lookup(EXCHANGE));
        let mut envs = Vec::new();
        for (index, client) in plan.clients.iter().enumerate() {
            let name = name(index);
            let env = SimEnv::new(index, plan.seed, recorder.clone(), Wire::Turmoil, client.tls);
            env.set_stops(plan.stops(index));
            envs.push(env.clone());
            let (client_plan, kit, settle_ms) = (client.clone(), kit.clone(), plan.settle_ms);
            // It never returns: turmoil stops the clock of a host that has.
            sim.client(name.as_str(), async move {
                let url = url(client_plan.tls);
                let run = workload::run(env.clone(), client_plan, settle_ms, url, kit);
                env.of_process(Box::pin(run)).await;
                Ok(())
            });
            recorder.name(&name, sim.lookup(name.as_str()));
            sim.set_link_latency(EXCHANGE, name.as_str(), ms(client.latency_ms));
        }
        for (index, client) in plan.http.iter().enumerate() {
            let index = plan.clients.len() + index;
            let name = name(index);
            let env = SimEnv::new(index, plan.seed, recorder.clone(), Wire::Turmoil, true);
            env.set_stops(plan.stops(index));
            envs.push(env.clone());
            let client_plan = client.clone();
            sim.client(name.as_str(), async move {
                let run = workload::http::run(env.clone(), client_plan, index);
                env.of_process(Box::pin(run)).await;
                Ok(())
            });
            recorder.name(&name, sim.lookup(name.as_str()));
            sim.set_link_latency(EXCHANGE, name.as_str(), ms(client.latency_ms));
        }
        let cut = vec![false; envs.len()];
        Self { recorder: recorder.clone(), peers: peers.clone(), sim, envs, cut, dark: false }
    }
}

impl Platform for Turmoil {
    fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    fn run_until(&mut self, until: Duration) -> Result<(), String> {
        while self.sim.elapsed() < until && !self.recorder.has_triggered() {
            self.recorder.set_world_time(Timestamp::ZERO + self.sim.elapsed());
            self.sim.step().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn crash(&mut self) {
        self.sim.crash(EXCHANGE);
    }

    fn lose_power(&mut self) {
        // Cut off first, so that nobody hears the end of the process.
        self.dark = true;
        for client in 0..self.envs.len() {
            self.sim.partition(EXCHANGE, name(client));
        }
        self.sim.crash(EXCHANGE);
    }

    fn bounce(&mut self) {
        self.sim.bounce(EXCHANGE);
        if std::mem::take(&mut self.dark) {
            for (client, cut) in self.cut.clone().into_iter().enumerate() {
                if !cut {
                    self.sim.repair(EXCHANGE, name(client));
                }
            }
        }
    }

    fn change_link(&mut self, client: usize, change: LinkChange) {
        let name = name(client);
        match change {
            LinkChange::Partition => {
                self.cut[client] = true;
                self.sim.partition(EXCHANGE, name.as_str());
                // turmoil alone would leave a stream alive in the direction that happened to lose nothing.
                self.peers.exchange.freeze_open(client);
            }
            LinkChange::Repair => {
                self.cut[client] = false;
                if !self.dark {
                    self.sim.repair(EXCHANGE, name.as_str());
                }
            }
            // In the dark nothing is sent that could be kept back.
            LinkChange::Hold | LinkChange::Release if self.dark => {}
            LinkChange::Hold => self.sim.hold(EXCHANGE, name.as_str()),
            LinkChange::Release => self.sim.release(EXCHANGE, name.as_str()),
        }
    }

    fn envs(&self) -> &[SimEnv] {
        &self.envs
    }
}

fn name(client: usize) -> String {
    format!("{CLIENT_PREFIX}{client}")
}

/// turmoil counts segments, not bytes, and panics at more pending SYNs than this. A dribble makes a segment of each byte.
const TCP_SEGMENTS: usize = 1 << 16;

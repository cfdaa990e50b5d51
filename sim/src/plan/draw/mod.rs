//! A plan from a seed. One ChaCha stream per purpose: a fault more never moves a latency.

mod config;
mod faults;
mod script;

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

use self::{
    config::{draw_config, draw_reader},
    faults::draw_faults,
    script::{Span, draw_script},
};
use super::{ClientPlan, Op, Plan, Reader, Step};

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

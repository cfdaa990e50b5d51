//! A plan from a seed, or from the bytes of a fuzzer. One stream per purpose: a fault more never moves a latency.

mod config;
mod faults;
mod http;
mod presets;
mod script;

use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

pub use self::presets::Preset;
use self::{
    config::{draw_config, draw_guard_reader, draw_handler, draw_reader},
    faults::{draw_faults, draw_tls_faults},
    presets::Sea,
    script::{Span, draw_script},
};
use super::{ClientPlan, Fault, HandlerPlan, Op, Plan, Reader, Step};

/// What randomness is drawn for.
#[derive(Clone, Copy)]
enum Purpose {
    Shape = 1,
    Config = 2,
    Workload = 3,
    Faults = 4,
    Latency = 5,
    Tls = 6,
    Handler = 7,
    Http = 8,
    HttpFaults = 9,
}

/// What a plan's clients are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Work {
    /// WebSocket connections.
    #[default]
    WebSocket,
    /// HTTP clients.
    Http,
    /// Both, on one machine's doorstep.
    Both,
}

impl Work {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Http, Self::Both];

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.name() == name)
    }

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Http => "http",
            Self::Both => "both",
        }
    }
}

/// A generator with the few draws a plan needs, in integers: equal on every machine.
struct Draw {
    /// Drawn first: the words of a fuzzer. A seed has none.
    words: VecDeque<u64>,
    rng: ChaCha12Rng,
}

impl Draw {
    /// From `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high.max(low) - low) + 1;
        let word = self.words.pop_front().unwrap_or_else(|| self.rng.next_u64());
        low + ((u128::from(word) * span) >> 64) as u64
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.between(0, from.len() as u64 - 1) as usize].clone()
    }
}

/// Where the streams of one plan come from.
struct Springs<'a> {
    seed: u64,
    /// Of a fuzzer: shared out among the purposes.
    words: &'a [u64],
}

impl Springs<'_> {
    fn of(&self, purpose: Purpose) -> Draw {
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        rng.set_stream(purpose as u64);
        // Each purpose takes every ninth word: a word more changes one draw of one purpose.
        let words = self.words.iter().skip(purpose as usize - 1).step_by(PURPOSES).copied().collect();
        Draw { words, rng }
    }
}

impl Plan {
    /// The stormy plan of a seed.
    pub fn draw(seed: u64) -> Self {
        Self::draw_as(Preset::Stormy, seed)
    }

    /// The plan of a seed, of this kind.
    pub fn draw_as(preset: Preset, seed: u64) -> Self {
        draw(&Springs { seed, words: &[] }, preset, 0)
    }

    /// The plan of a seed, of this kind, with clients of that kind.
    pub fn draw_for(work: Work, preset: Preset, seed: u64) -> Self {
        let springs = Springs { seed, words: &[] };
        match work {
            Work::WebSocket => draw(&springs, preset, 0),
            Work::Http => http::draw(&springs, preset),
            Work::Both => {
                let http = http::draw(&springs, preset);
                http::join(draw(&springs, preset, http.settle_ms), http)
            }
        }
    }

    /// A plan without faults: the control run. `hours` of one idle, subscribed connection, in steps of `tick_ms`.
    pub fn control(seed: u64, hours: u64, tick_ms: u64) -> Self {
        let mut plan = Self::draw(seed);
        let end_ms = hours * 3_600_000;
        let mut client = plan.clients.swap_remove(0);
        client.reader = Reader::Prompt;
        client.guard_reader = Reader::Prompt;
        client.latency_ms = tick_ms;
        client.tls = false;
        client.handler = HandlerPlan::default();
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

/// A plan of any preset but the long ones, from a fuzzer's bytes: a byte changed is a draw changed, and what the bytes don't
/// reach is drawn from the first of them.
impl<'a> Arbitrary<'a> for Plan {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let preset = *u.choose(&[Preset::Calm, Preset::Stormy, Preset::Hostile])?;
        let seed = u.arbitrary()?;
        let count = (u.len() / 8).min(WORDS_MAX);
        let words = (0..count).map(|_| u.arbitrary()).collect::<arbitrary::Result<Vec<u64>>>()?;
        Ok(draw(&Springs { seed, words: &words }, preset, 0))
    }
}

/// A plan of WebSocket clients, who have until `settle_min_ms` at least: others may need as long.
fn draw(springs: &Springs<'_>, preset: Preset, settle_min_ms: u64) -> Plan {
    let mut shape = springs.of(Purpose::Shape);
    let sea = Sea::draw(&mut shape, preset);
    let mut config = springs.of(Purpose::Config);
    let mut latency = springs.of(Purpose::Latency);
    let mut tls = springs.of(Purpose::Tls);
    let mut handler = springs.of(Purpose::Handler);
    let mut clients: Vec<ClientPlan> = (0..sea.clients)
        .map(|index| {
            let start_ms = if index == 0 { 0 } else { shape.between(0, sea.start_max_ms) };
            let (latency_ms, config) = (latency.between(1, 40), draw_config(&mut config));
            let reader = draw_reader(&mut shape);
            let guard_reader = draw_guard_reader(&mut shape);
            ClientPlan {
                start_ms,
                latency_ms,
                tls: preset != Preset::Fleet && tls.chance(15),
                jitter_ms: 0,
                bandwidth_bytes_per_s: None,
                window_bytes: None,
                handler: draw_handler(&mut handler),
                config: sea.settings(config),
                reader,
                guard_reader,
                script: Vec::new(),
            }
        })
        .collect();
    sea.make_equal(&mut clients);
    let mut faults = draw_faults(&mut springs.of(Purpose::Faults), &sea);
    let secure = clients.iter().enumerate().filter(|(_, client)| client.tls);
    faults.extend(draw_tls_faults(&mut tls, &sea, secure.map(|(client, _)| client)));
    faults.sort_by_key(Fault::begins_ms);
    let settle_ms =
        sea.settle_ms(clients.iter().map(|client| (client.config.recovery_ms(), client.latency_ms)));
    let settle_ms = settle_ms.max(settle_min_ms);
    let mut work = springs.of(Purpose::Workload);
    let mut label = 0;
    for client in &mut clients {
        let (heal_ms, start_ms, pace_ms) = (sea.heal_ms, client.start_ms, sea.pace_ms);
        let span = Span { heal_ms, settle_ms, start_ms, pace_ms };
        client.script = if preset == Preset::Fleet {
            sea.idle_script(span.settle_ms)
        } else {
            draw_script(&mut work, span, &faults, &mut label)
        };
    }
    Plan {
        version: Plan::VERSION,
        seed: springs.seed,
        tick_ms: sea.tick_ms,
        heal_ms: sea.heal_ms,
        settle_ms,
        push_every_ms: sea.push_every_ms,
        clients,
        http: Vec::new(),
        faults,
    }
}

const PURPOSES: usize = 9;
/// Enough for every draw of a plan that anybody reads.
const WORDS_MAX: usize = 4096;

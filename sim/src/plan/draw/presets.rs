//! Kinds of weather: how long a run is, how many clients there are, and what may befall them.

use super::{Draw, faults};
use crate::plan::{ClientPlan, ConfigPlan, FaultKind, Op, Reader, Step};

/// A kind of plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Nothing that a healthy connection does not survive.
    Calm,
    /// The network and the exchange's machine fail.
    #[default]
    Stormy,
    /// And the exchange is not to be trusted.
    Hostile,
    /// Twenty-four hours.
    LongHaul,
    /// A thousand clients of one exchange, which restarts.
    Fleet,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 5] = [Self::Calm, Self::Stormy, Self::Hostile, Self::LongHaul, Self::Fleet];

    /// The preset of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The kinds of fault that many plans of this preset have, those in a client's script among them.
    pub fn fault_names(self) -> Vec<&'static str> {
        let script = ["handle-drop", "slow-reader", "cancelled-future"];
        let of_fleet = [FaultKind::Crash.name(), "server-close"];
        match self {
            Self::Fleet => of_fleet.to_vec(),
            Self::Calm => faults::names(self).into_iter().chain(script).collect(),
            _ => faults::names(self).into_iter().chain(script).chain(["tls"]).collect(),
        }
    }

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Stormy => "stormy",
            Self::Hostile => "hostile",
            Self::LongHaul => "long-haul",
            Self::Fleet => "fleet",
        }
    }
}

/// What all of a plan is drawn within.
pub(super) struct Sea {
    pub(super) preset: Preset,
    pub(super) tick_ms: u64,
    pub(super) heal_ms: u64,
    pub(super) clients: usize,
    /// The last start of a client.
    pub(super) start_max_ms: u64,
    pub(super) push_every_ms: u64,
    /// The mean time between two steps of a script, at least and at most.
    pub(super) pace_ms: (u64, u64),
    /// The time between two faults, at least and at most.
    pub(super) lull_ms: (u64, u64),
    /// How long a fault lasts, at least and at most.
    pub(super) length_ms: (u64, u64),
}

impl Sea {
    pub(super) fn draw(draw: &mut Draw, preset: Preset) -> Self {
        let tick_ms = draw.pick(&[1, 2, 5, 5, 10, 10]);
        let heal_ms = draw.between(6, 14) * 1000;
        let clients = draw.pick(&[1, 1, 2, 3]);
        let push_every_ms = draw.between(100, 600);
        let short = Self {
            preset,
            tick_ms,
            heal_ms,
            clients,
            start_max_ms: heal_ms / 2,
            push_every_ms,
            pace_ms: (40, 400),
            lull_ms: (20, 2500),
            length_ms: (50, 3000),
        };
        match preset {
            Preset::Calm | Preset::Stormy | Preset::Hostile => short,
            Preset::LongHaul => Self {
                tick_ms: 100,
                heal_ms: DAY_MS - 600_000,
                start_max_ms: 3_600_000,
                push_every_ms: push_every_ms * 200,
                pace_ms: (60_000, 300_000),
                lull_ms: (60_000, 3_600_000),
                length_ms: (100, 120_000),
                ..short
            },
            Preset::Fleet => Self {
                tick_ms: 10,
                heal_ms: 10_000,
                clients: FLEET,
                start_max_ms: 2000,
                push_every_ms: 5000,
                ..short
            },
        }
    }

    /// When every client must stand, from how long each takes to recover and how far away it is.
    pub(super) fn settle_ms(&self, clients: impl Iterator<Item = (u64, u64)>) -> u64 {
        let slowest = clients.map(|(recovery_ms, latency_ms)| recovery_ms + 10 * latency_ms).max();
        self.heal_ms + slowest.unwrap_or(0) + 20 * self.tick_ms + 200
    }

    /// The settings of a connection in these waters: a day is not lived in pings of half a second.
    pub(super) fn settings(&self, mut config: ConfigPlan) -> ConfigPlan {
        if self.preset == Preset::LongHaul {
            for time in [
                &mut config.reconnect_initial_delay_ms,
                &mut config.reconnect_max_delay_ms,
                &mut config.stable_after_ms,
                &mut config.ping_interval_ms,
                &mut config.pong_timeout_ms,
                &mut config.request_timeout_ms,
                &mut config.connect_timeout_ms,
                &mut config.auth_timeout_ms,
                &mut config.write_timeout_ms,
                &mut config.close_timeout_ms,
            ] {
                *time *= LONG_HAUL_FACTOR;
            }
        }
        config
    }

    /// A fleet is one program a thousand times: the same settings, and full jitter.
    pub(super) fn make_equal(&self, clients: &mut [ClientPlan]) {
        if self.preset != Preset::Fleet {
            return;
        }
        let mut config = clients[0].config.clone();
        config.reconnect_initial_delay_ms = 1000;
        config.reconnect_max_delay_ms = 8000;
        config.reconnect_backoff_factor = 2.0;
        config.reconnect_jitter = 1.0;
        config.reconnect_max_attempts = None;
        config.stable_after_ms = 500;
        config.ping_interval_ms = 5000;
        config.pong_timeout_ms = 3000;
        config.connect_timeout_ms = 3000;
        for client in clients {
            client.config = config.clone();
            client.reader = Reader::Prompt;
            client.guard_reader = Reader::Prompt;
        }
    }

    /// Stands and listens.
    pub(super) fn idle_script(&self, settle_ms: u64) -> Vec<Step> {
        vec![
            Step { at_ms: self.start_max_ms, op: Op::Subscribe { guard: 1, topic: "t1".to_owned() } },
            Step { at_ms: settle_ms + 100, op: Op::Close },
        ]
    }
}

const DAY_MS: u64 = 24 * 3_600_000;
/// Pings every 6 to 50 s, and the rest to match.
const LONG_HAUL_FACTOR: u64 = 20;
/// The least number of clients whose first waits say something about their distribution (WS-7).
const FLEET: usize = 1000;

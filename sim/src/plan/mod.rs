//! The plan: everything a run is made of, drawn from a seed or read from a file, before anything runs.
//!
//! Versioned JSON. A seed draws the same plan only with the same version of this package, so what matters is kept as a plan
//! and not as a seed.

mod describe;
mod draw;
mod expected;
mod fault;
pub(crate) mod http;
mod read;

use std::time::Duration;

use hpx_transport::{backoff::BackoffPolicy, websocket::WsConfig};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    describe::{describe, describe_fault},
    expected::is_for_good,
};
pub use self::{
    draw::{Preset, Work},
    expected::{Expected, Fate},
    fault::{
        Anchor, Behaviour, ConnectFault, CutHow, DnsFault, FAULT_NAMES, Fault, FaultKind, Moment, Stage,
        Target, TlsFault, Until, Way, When,
    },
    http::{HttpBehaviour, HttpConfigPlan, HttpOp, HttpPlan, HttpStep, OriginPlan, Spoken},
    read::PlanError,
};

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Of the format: [`Plan::VERSION`].
    pub version: u32,
    /// Feeds the connections' own seeds.
    pub seed: u64,
    /// Length of a step of the simulated network.
    pub tick_ms: u64,
    /// Every fault has ended by now, and the exchange is healthy from here on.
    pub heal_ms: u64,
    /// Every connection must stand by now: a bound from the configuration, after `heal_ms`.
    pub settle_ms: u64,
    /// Time between two pushes on a subscribed topic.
    pub push_every_ms: u64,
    /// One host and one connection each.
    pub clients: Vec<ClientPlan>,
    /// HTTP clients, each on a host of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpPlan>,
    /// What happens to the world.
    pub faults: Vec<Fault>,
}

/// One client: its connection and what it does with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientPlan {
    /// When it connects.
    pub start_ms: u64,
    /// From its host to the exchange, one way.
    pub latency_ms: u64,
    /// A packet takes at most so much longer; none overtakes another. In memory alone: turmoil has one latency for all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jitter_ms: u64,
    /// What its line carries, each way; without it, anything. In memory alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bytes_per_s: Option<u64>,
    /// What it takes from a peer before it reads; without it, 64 KiB. In memory alone: turmoil counts segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_bytes: Option<u64>,
    /// It dials `wss://`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tls: bool,
    /// What its protocol handler is like.
    #[serde(default, skip_serializing_if = "HandlerPlan::is_usual")]
    pub handler: HandlerPlan,
    /// The connection's settings.
    pub config: ConfigPlan,
    /// How it reads the event stream. Whatever it is, what is left is read once the handles are gone.
    pub reader: Reader,
    /// How it reads its guards: one update of each at a time, or all there are.
    #[serde(default, skip_serializing_if = "Reader::is_prompt")]
    pub guard_reader: Reader,
    /// What it does, in order of time.
    pub script: Vec<Step>,
}

/// What a client's protocol handler is like. A handler of the user's own decides for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HandlerPlan {
    /// A subscribe or unsubscribe message names at most so many.
    pub topics_per_message: usize,
    /// Requests have ids of text; else of numbers.
    pub text_ids: bool,
}

impl Default for HandlerPlan {
    fn default() -> Self {
        Self { topics_per_message: 100, text_ids: false }
    }
}

impl HandlerPlan {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How an event stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reader {
    /// At once.
    #[default]
    Prompt,
    /// One event, then a pause.
    Slow {
        /// The pause.
        every_ms: u64,
    },
    /// Never: the stream is held and not read.
    Absent,
}

/// The settings of a connection that a plan sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the setting of WsConfig of the same name")]
pub struct ConfigPlan {
    pub reconnect_initial_delay_ms: u64,
    pub reconnect_max_delay_ms: u64,
    pub reconnect_backoff_factor: f64,
    pub reconnect_jitter: f64,
    pub reconnect_max_attempts: Option<u32>,
    pub stable_after_ms: u64,
    pub ping_interval_ms: u64,
    pub pong_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub auth_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub close_timeout_ms: u64,
    pub event_channel_capacity: usize,
    pub command_channel_capacity: usize,
    #[serde(default = "default_subscription_capacity")]
    pub subscription_channel_capacity: usize,
    #[serde(default = "default_pending_max")]
    pub max_pending_requests: usize,
}

/// Something a client does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When.
    pub at_ms: u64,
    /// What.
    #[serde(rename = "do")]
    pub op: Op,
}

/// What a client can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// A request.
    Request {
        /// Numbers requests and sends of the whole run.
        label: u64,
        /// How long the exchange takes over it.
        reply_after_ms: u64,
        /// Drops its future early.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancel: Option<Cancel>,
    },
    /// A message without a reply.
    Send {
        /// Numbers requests and sends of the whole run.
        label: u64,
        /// Waits until it is encoded.
        confirmed: bool,
        /// It is filled up with blanks to so many bytes.
        #[serde(default, skip_serializing_if = "is_zero")]
        bytes: u64,
        /// Drops its future early.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancel: Option<Cancel>,
    },
    /// Takes a guard.
    Subscribe {
        /// Numbers the guards of the client.
        guard: u32,
        /// The topic.
        topic: String,
    },
    /// Takes several guards at once.
    SubscribeMany {
        /// The number of the first; the others follow.
        first_guard: u32,
        /// A topic each.
        topics: Vec<String>,
    },
    /// Drops a guard.
    DropGuard {
        /// Which.
        guard: u32,
    },
    /// Ends a topic for all its guards.
    Unsubscribe {
        /// The topic.
        topic: String,
    },
    /// Waits until the connection is ready.
    Ready {
        /// Drops its future early.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancel: Option<Cancel>,
    },
    /// Calls `reconnect`.
    Reconnect,
    /// Drops the event stream.
    DropStream,
    /// Calls `close` and drops its future early: the connection ends all the same.
    CloseAndCancel {
        /// When.
        cancel: Cancel,
    },
    /// Calls `close`.
    Close,
    /// Drops every handle, and with them the calls in progress.
    DropHandle,
}

/// When a future is dropped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// After so many polls.
    pub poll: u32,
    /// It is polled at least this often.
    pub every_ms: u64,
}

impl Plan {
    /// The version of the format.
    pub const VERSION: u32 = 2;

    /// The plan as JSON, one field a line.
    pub fn to_json(&self) -> String {
        // Plain structs, numbers and strings have no way to fail.
        serde_json::to_string_pretty(self).expect("a plan has a JSON form")
    }

    /// Hosts of clients, of either kind.
    pub(crate) fn hosts(&self) -> usize {
        self.clients.len() + self.http.len()
    }

    /// The HTTP client of this number.
    pub(crate) fn http_client(&self, client: usize) -> Option<&HttpPlan> {
        self.http.get(client.checked_sub(self.clients.len())?)
    }

    pub(crate) fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }

    /// Two ticks, and the millisecond that tokio's timers round up to.
    pub(crate) fn slack(&self) -> Duration {
        2 * self.tick() + Duration::from_millis(2)
    }

    /// True if nothing that stays befalls this client: once the world has healed, it must stand. A name of which one address
    /// is dead for good still leads there (WS-L6).
    pub(crate) fn is_core(&self, client: usize) -> bool {
        let stays = |fault: &Fault| {
            let bearable = matches!(fault.kind, FaultKind::Dns(DnsFault::DeadFirst { .. }));
            fault.until == Until::Never && !fault.kind.is_instant() && !bearable && fault.concerns(client)
        };
        !self.faults.iter().any(stays)
    }

    /// What a time bound of this client's may be off by: its clock may run at another speed than the world's, and its process
    /// may stand still. `span` is how long the bound is.
    pub(crate) fn slack_for(&self, client: usize, span: Duration) -> Duration {
        let (mut paused_ms, mut ppm) = (0, 0);
        for fault in self.faults.iter().filter(|fault| fault.concerns(client)) {
            match fault.kind {
                FaultKind::Pause => paused_ms += fault.length_ms().unwrap_or(self.heal_ms),
                FaultKind::ClockSkew { ppm: gained } => ppm = gained.unsigned_abs().max(ppm),
                _ => {}
            }
        }
        // A clock that loses a part takes a little more than that part longer: twice covers clocks at half the speed.
        let skewed = span.as_nanos() * u128::from(2 * ppm) / 1_000_000;
        let skewed = Duration::from_nanos(u64::try_from(skewed).unwrap_or(u64::MAX));
        self.slack() + Duration::from_millis(paused_ms) + skewed
    }

    /// True if what this client reads may have been changed on its way.
    pub(crate) fn is_corrupted(&self, client: usize) -> bool {
        let corrupts =
            |fault: &Fault| matches!(fault.kind, FaultKind::Corrupt { .. }) && fault.concerns(client);
        self.faults.iter().any(corrupts)
    }

    /// True if this client's times can't be told to the tick.
    pub(crate) fn is_out_of_time(&self, client: usize) -> bool {
        let out = |fault: &Fault| {
            matches!(fault.kind, FaultKind::Pause | FaultKind::ClockSkew { .. }) && fault.concerns(client)
        };
        self.faults.iter().any(out)
    }

    /// The dials of a client in whose upgrade response a fault begins, and at which byte.
    pub(crate) fn stops(&self, client: usize) -> Vec<(u64, usize)> {
        let stop = |fault: &Fault| match fault.at {
            When::On(Anchor { event: Moment::UpgradeByte { dial, byte }, client: of, .. })
                if of == client =>
            {
                Some((dial, byte))
            }
            _ => None,
        };
        self.faults.iter().filter_map(stop).collect()
    }

    /// When the run is over: every connection has had its time to end.
    pub(crate) fn end_ms(&self) -> u64 {
        let last_step = self.clients.iter().flat_map(|client| &client.script).map(|step| step.at_ms).max();
        let close = self.clients.iter().map(|client| client.config.close_timeout_ms).max();
        let of_http = |client: &HttpPlan| {
            let last = client.script.last().map_or(0, |step| step.at_ms);
            // Calls in progress run to their end, and close waits for them.
            last + client.config.request_timeout_ms + client.config.body_timeout_ms * 4
        };
        let http = self.http.iter().map(of_http).max().unwrap_or(0);
        let last = last_step.unwrap_or(0).max(self.settle_ms).max(http);
        last + close.unwrap_or(0) + 10 * self.tick_ms + 100
    }
}

impl ConfigPlan {
    pub(crate) fn backoff(&self) -> BackoffPolicy {
        BackoffPolicy {
            initial: Duration::from_millis(self.reconnect_initial_delay_ms),
            max: Duration::from_millis(self.reconnect_max_delay_ms),
            factor: self.reconnect_backoff_factor,
            jitter: self.reconnect_jitter,
        }
    }

    /// The library's settings, for this URL.
    pub fn to_config(&self, url: &str) -> WsConfig {
        let ms = Duration::from_millis;
        let backoff = self.backoff();
        WsConfig::new(url)
            .reconnect_initial_delay(backoff.initial)
            .reconnect_max_delay(backoff.max)
            .reconnect_backoff_factor(backoff.factor)
            .reconnect_jitter(backoff.jitter)
            .reconnect_max_attempts(self.reconnect_max_attempts)
            .stable_after(ms(self.stable_after_ms))
            .ping_interval(ms(self.ping_interval_ms))
            .pong_timeout(ms(self.pong_timeout_ms))
            .request_timeout(ms(self.request_timeout_ms))
            .connect_timeout(ms(self.connect_timeout_ms))
            .auth_timeout(ms(self.auth_timeout_ms))
            .write_timeout(ms(self.write_timeout_ms))
            .close_timeout(ms(self.close_timeout_ms))
            .event_channel_capacity(self.event_channel_capacity)
            .command_channel_capacity(self.command_channel_capacity)
            .subscription_channel_capacity(self.subscription_channel_capacity)
            .max_pending_requests(self.max_pending_requests)
            .max_message_size(MESSAGE_BYTES_MAX)
    }

    /// How long after the world healed a connection may take to stand (WS-L1), but for round trips.
    pub(crate) fn recovery_ms(&self) -> u64 {
        let silence = self.ping_interval_ms + self.pong_timeout_ms;
        let dialing = self.connect_timeout_ms + self.auth_timeout_ms;
        silence.max(self.write_timeout_ms).max(dialing) + self.reconnect_max_delay_ms
    }
}

/// The longest message that a plan's client takes: small, so that one too long is soon sent.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 << 10;

/// The library's own, for plans that don't say.
fn default_subscription_capacity() -> usize {
    256
}

/// The library's own, for plans that don't say.
fn default_pending_max() -> usize {
    1000
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Reader {
    fn is_prompt(&self) -> bool {
        *self == Self::Prompt
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ClientPlan {
    /// True if every event is read in the moment it comes, to the end.
    pub(crate) fn is_read_promptly(&self) -> bool {
        self.reader == Reader::Prompt && !self.drops_stream()
    }

    /// True if it drops the event stream before its end.
    fn drops_stream(&self) -> bool {
        self.script.iter().any(|step| matches!(step.op, Op::DropStream))
    }

    /// As oracles see it, who ask at every entry: whoever drops the stream is one who doesn't read, and has no script.
    pub(crate) fn for_oracles(&self) -> Self {
        let reader = if self.drops_stream() { Reader::Absent } else { self.reader };
        let keep = |step: &&Step| matches!(step.op, Op::Reconnect | Op::Close | Op::DropHandle);
        let script = self.script.iter().filter(keep).cloned().collect();
        Self { reader, script, ..self.clone() }
    }
}

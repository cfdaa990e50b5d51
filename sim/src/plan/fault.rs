//! What happens to the world: when, for how long, to whom.

use std::fmt;

use super::http::HttpBehaviour;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Something that happens to the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When it begins: a time, or an event and a time after it. An event that doesn't come about is a fault that doesn't.
    pub at: When,
    /// When it ends; an instant ignores it.
    #[serde(default)]
    pub until: Until,
    /// To whom.
    #[serde(default)]
    pub target: Target,
    /// What.
    #[serde(rename = "fault")]
    pub kind: FaultKind,
}

/// The beginning of a fault: `1200`, or `{"event": {"connected": 2}, "client": 0, "plus_ms": 40}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum When {
    /// Milliseconds since the run began.
    At(u64),
    /// An event, and a time after it.
    On(Anchor),
}

/// A place in the course of a run that has no time before it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The event.
    pub event: Moment,
    /// Whose.
    pub client: usize,
    /// So long after it.
    #[serde(default)]
    pub plus_ms: u64,
}

/// An event of one client's connection, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Moment {
    /// Its n-th dial begins.
    Dialing(u64),
    /// Its n-th dial has become a socket.
    Opened(u64),
    /// Of the n-th dial's upgrade response, so many bytes were read, and not one more.
    UpgradeByte {
        /// The dial.
        dial: u64,
        /// How many bytes.
        byte: usize,
    },
    /// The exchange has let it in for the n-th time.
    Connected(u64),
    /// The library has let go of its n-th socket.
    Disconnected(u64),
    /// It has written its n-th Ping frame: what comes now is between ping and pong.
    PingSent(u64),
    /// It has written its n-th text message.
    MessageSent(u64),
}

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// So long after its beginning, and when the world heals at the latest.
    ForMs(u64),
    /// When the world heals.
    Heal,
    /// It stays: whom it strikes is not of the core that must recover.
    Never,
}

/// Whom a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Everybody.
    #[default]
    All,
    /// One client: its line, its sockets, its connections at the exchange.
    Client(usize),
}

/// What can happen to the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// The network drops everything, both ways: silence. On turmoil, streams that lost a segment stay dead after it.
    Partition,
    /// The network keeps everything back, and delivers it at the end.
    Hold,
    /// The exchange's process exits, its sockets end cleanly; it starts anew at the end.
    Crash,
    /// The exchange's machine loses its power: silence, and what comes for old sockets afterwards is reset.
    PowerLoss,
    /// The exchange closes open connections. An instant.
    ServerClose {
        /// The code of its Close frame.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The exchange ends every new connection at once.
    AcceptThenClose {
        /// How far it lets it come.
        stage: Stage,
    },
    /// The exchange answers upgrades with an HTTP status.
    Refuse {
        /// The status.
        status: u16,
        /// The `Retry-After` header, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_s: Option<u64>,
    },
    /// The exchange breaks the protocol, or nearly, on connections that begin while it lasts.
    Misbehave(Behaviour),
    /// HTTP hosts misbehave.
    Serve {
        /// How.
        how: HttpBehaviour,
        /// With each so many-th request of a connection.
        nth: u32,
    },
    /// Sockets take and give a few bytes at a time.
    Dribble {
        /// How many.
        bytes: usize,
    },
    /// Sockets take a few bytes at a time, and give as many as there are.
    PartialWrites {
        /// How many.
        bytes: usize,
    },
    /// Sockets move so many bytes a second, each way.
    Throttle {
        /// How many.
        bytes_per_s: u64,
    },
    /// The peer stops reading: after so many bytes more, sockets take no more.
    Stall {
        /// How many bytes still go.
        after_bytes: usize,
    },
    /// Sockets that open while it lasts end at a byte, if they come to it while it lasts.
    Cut {
        /// Of which direction.
        way: Way,
        /// So many bytes pass before it.
        byte: usize,
        /// How.
        how: CutHow,
    },
    /// Open sockets are reset. An instant.
    Reset,
    /// Open sockets lose their peer unnoticed: writes go nowhere and nothing comes; at its end they are reset.
    HalfOpen,
    /// In sockets that open while it lasts, a byte comes in changed, if it comes while it lasts.
    Corrupt {
        /// So many bytes pass before it.
        byte: usize,
        /// What is flipped in it.
        mask: u8,
    },
    /// Dials fail.
    Connect(ConnectFault),
    /// Names resolve badly.
    Dns(DnsFault),
    /// Handshakes of clients that dial `wss://` go wrong.
    Tls(TlsFault),
    /// The client's wall clock jumps. An instant.
    ClockJump {
        /// How far, in milliseconds.
        by_ms: i64,
    },
    /// The client's clock runs fast, or slow.
    ClockSkew {
        /// By how much, in parts per million.
        ppm: i64,
    },
    /// The client's process stands still, while the world goes on.
    Pause,
}

/// How far a connection comes before the exchange ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The socket.
    Accept,
    /// The upgrade.
    Upgrade,
    /// The authentication.
    Auth,
}

/// A direction, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// What it reads.
    Read,
    /// What it writes.
    Write,
}

/// How a socket is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutHow {
    /// By a reset.
    Reset,
    /// By an end of the stream.
    End,
}

/// How dials fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ConnectFault {
    /// At once.
    Refused,
    /// By silence.
    Silent,
    /// They don't, and take longer.
    Slow {
        /// By how much.
        by_ms: u64,
    },
}

/// How names resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DnsFault {
    /// To nothing: there is no such name.
    NxDomain,
    /// Late.
    Slow {
        /// By how much.
        by_ms: u64,
    },
    /// To several addresses, of which the first is dead.
    DeadFirst {
        /// It refuses; else it is silent.
        refuses: bool,
    },
}

/// How handshakes go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TlsFault {
    /// The exchange shows a certificate that nobody vouches for.
    BadCertificate,
    /// The exchange is gone in the middle of its words.
    CutMidHandshake {
        /// So many bytes of them come before it.
        after_bytes: usize,
    },
}

/// How the exchange breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Behaviour {
    /// It upgrades, and says nothing more, not even a pong.
    SilentAfterUpgrade,
    /// It turns the authentication down.
    RejectAuth,
    /// It never answers the authentication.
    IgnoreAuth,
    /// It sends a message longer than the client takes.
    OversizeMessage,
    /// It sends text that is not UTF-8.
    BadUtf8,
    /// It answers the upgrade with a wrong accept key.
    BadAcceptKey,
    /// It masks its frames.
    MaskedFrames,
    /// It sends a message in fragments without end.
    FragmentBomb,
    /// It sends pings without end.
    PingFlood,
    /// It sends every byte by itself, slowly.
    Slowloris {
        /// A byte each so often.
        every_ms: u64,
    },
    /// It answers every request twice.
    DuplicateReplies,
    /// It answers requests late, and often too late.
    LateReplies {
        /// By how much.
        by_ms: u64,
    },
    /// It sends replies to requests nobody made.
    UnknownReplies,
    /// It pushes topics nobody subscribed.
    UnknownTopics,
    /// It answers no ping, and pushes on.
    IgnorePings,
    /// What it owed an earlier connection it says on this one.
    StaleReplies,
    /// It closes with this code after the authentication.
    CloseCode(u16),
}

/// The kinds of fault that are counted, those in a client's script among them.
pub const FAULT_NAMES: [&str; 26] = [
    "partition",
    "hold",
    "crash",
    "power-loss",
    "server-close",
    "accept-then-close",
    "refuse",
    "misbehave",
    "serve",
    "dribble",
    "partial-writes",
    "throttle",
    "stall",
    "cut",
    "reset",
    "half-open",
    "corrupt",
    "connect",
    "dns",
    "tls",
    "clock-jump",
    "clock-skew",
    "pause",
    "handle-drop",
    "slow-reader",
    "cancelled-future",
];

impl Fault {
    /// When it begins, where that is known before the run.
    pub fn begins_ms(&self) -> Option<u64> {
        match self.at {
            When::At(ms) => Some(ms),
            When::On(_) => None,
        }
    }

    /// How long it lasts, where that is known before the run; an instant does not last.
    pub fn length_ms(&self) -> Option<u64> {
        match self.until {
            _ if self.kind.is_instant() => Some(0),
            Until::ForMs(ms) => Some(ms),
            Until::Heal | Until::Never => None,
        }
    }

    /// True if it strikes this client.
    pub fn concerns(&self, client: usize) -> bool {
        match self.target {
            Target::All => true,
            Target::Client(only) => only == client,
        }
    }
}

impl FaultKind {
    /// The name it is counted by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Hold => "hold",
            Self::Crash => "crash",
            Self::PowerLoss => "power-loss",
            Self::ServerClose { .. } => "server-close",
            Self::AcceptThenClose { .. } => "accept-then-close",
            Self::Refuse { .. } => "refuse",
            Self::Misbehave(_) => "misbehave",
            Self::Serve { .. } => "serve",
            Self::Dribble { .. } => "dribble",
            Self::PartialWrites { .. } => "partial-writes",
            Self::Throttle { .. } => "throttle",
            Self::Stall { .. } => "stall",
            Self::Cut { .. } => "cut",
            Self::Reset => "reset",
            Self::HalfOpen => "half-open",
            Self::Corrupt { .. } => "corrupt",
            Self::Connect(_) => "connect",
            Self::Dns(_) => "dns",
            Self::Tls(_) => "tls",
            Self::ClockJump { .. } => "clock-jump",
            Self::ClockSkew { .. } => "clock-skew",
            Self::Pause => "pause",
        }
    }

    /// True if it has no length.
    pub fn is_instant(&self) -> bool {
        matches!(self, Self::ServerClose { .. } | Self::Reset | Self::ClockJump { .. })
    }

    /// True if it befalls the exchange's whole machine, and so everybody.
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self, Self::Crash | Self::PowerLoss)
    }
}

impl Default for Until {
    fn default() -> Self {
        Self::ForMs(0)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeOrAnchor;

        impl<'de> Visitor<'de> for TimeOrAnchor {
            type Value = When;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds, or an event with its client")
            }

            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<When, E> {
                Ok(When::At(ms))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<When, A::Error> {
                Anchor::deserialize(MapAccessDeserializer::new(map)).map(When::On)
            }
        }

        deserializer.deserialize_any(TimeOrAnchor)
    }
}

//! What an HTTP client of a plan is, and what it does.

use std::{collections::BTreeSet, time::Duration};

use hpx_transport::http::{HttpConfig, PoolConfig, Protocol};
use serde::{Deserialize, Serialize};

use super::Cancel;

/// One HTTP client: its settings, the hosts it asks, and its requests. In faults and anchors it is numbered after the plan's
/// `clients`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpPlan {
    /// When it begins.
    pub start_ms: u64,
    /// From its host to the exchange's machine, one way.
    pub latency_ms: u64,
    /// The hosts it asks, each a port of the exchange's machine.
    pub origins: Vec<OriginPlan>,
    /// Its settings.
    pub config: HttpConfigPlan,
    /// What it does, in order of time.
    pub script: Vec<HttpStep>,
}

/// A host that an HTTP client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginPlan {
    /// It is asked over TLS.
    pub tls: bool,
    /// It speaks HTTP/2: over TLS if the client wants it, without TLS and nothing else.
    pub h2: bool,
    /// Requests at once on one HTTP/2 connection, as it says; without it, it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams_max: Option<u32>,
}

/// The settings of an HTTP client that a plan sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the setting of HttpConfig, or of its pool, of the same name")]
pub struct HttpConfigPlan {
    pub protocol: Spoken,
    pub shards: usize,
    pub open_per_host_max: usize,
    pub open_total_max: usize,
    pub idle_per_host_max: usize,
    pub idle_total_max: usize,
    pub idle_timeout_ms: u64,
    pub lifetime_max_ms: u64,
    pub connect_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub h2_window: u32,
    pub h2_window_max: u32,
    pub h2_streams_max: usize,
    pub h2_keep_alive_interval_ms: Option<u64>,
    pub h2_keep_alive_timeout_ms: u64,
    pub h2_keep_alive_while_idle: bool,
    /// How long a TLS session is kept.
    pub session_lifetime_s: u64,
}

/// Which protocol an HTTP client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoken {
    /// What the host has, over TLS.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Something an HTTP client does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpStep {
    /// When.
    pub at_ms: u64,
    /// What.
    #[serde(rename = "do")]
    pub op: HttpOp,
}

/// What an HTTP client can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HttpOp {
    /// A request.
    Request {
        /// Numbers the requests of the client, from 1.
        label: u64,
        /// Of whom, as an index of `origins`.
        origin: usize,
        /// It must not be executed twice.
        post: bool,
        /// How long the host takes over it.
        reply_after_ms: u64,
        /// The length of its response's body.
        bytes: usize,
        /// The body of the response is dropped after its first piece.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        drop_body: bool,
        /// Drops its future early.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancel: Option<Cancel>,
    },
    /// Lets go of every connection.
    Drain,
    /// Ends the client, and waits for that.
    Close,
    /// Drops the client and the calls in progress.
    DropClient,
}

/// What hosts do that they should not: with every n-th request of a connection, while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HttpBehaviour {
    /// It executes the request and never answers.
    Hang,
    /// It executes the request, and the connection ends without a word.
    Drop,
    /// It pauses in the middle of the body.
    SlowBody {
        /// How long.
        by_ms: u64,
    },
    /// It stops in the middle of the body.
    HalfBody,
    /// It says 103 first.
    EarlyHints,
    /// It ends the body before its announced length.
    ShortBody,
    /// It says more than it has announced.
    LongBody,
    /// It turns the request away unexecuted: REFUSED_STREAM; over HTTP/1.1 it hangs up instead.
    Refuse,
    /// It ends the connection in the orderly way: GOAWAY, or `Connection: close`.
    GoAway,
    /// It ends the connection in the middle of the head, or by GOAWAY with an error.
    Abrupt,
    /// It resets the stream it has executed; over HTTP/1.1 it hangs up instead.
    Reset,
    /// It changes its settings; over HTTP/1.1 that means nothing.
    Settings {
        /// The window of each stream.
        window: u32,
    },
    /// It answers with what is not HTTP.
    Garbage,
    /// It closes behind its response, without having said so.
    CloseBehind,
    /// It asks for calm: GOAWAY with ENHANCE_YOUR_CALM; over HTTP/1.1 it hangs up instead.
    Calm,
    /// Its head is larger than anybody takes.
    GiantHead,
    /// It has forgotten its tickets.
    ForgetTickets,
}

impl HttpOp {
    /// The host that is asked.
    pub(crate) fn origin(&self) -> Option<usize> {
        match self {
            Self::Request { origin, .. } => Some(*origin),
            Self::Drain | Self::Close | Self::DropClient => None,
        }
    }
}

impl HttpConfigPlan {
    /// The library's settings.
    pub fn to_config(&self) -> HttpConfig {
        let ms = Duration::from_millis;
        HttpConfig {
            protocol: match self.protocol {
                Spoken::Auto => Protocol::Auto,
                Spoken::Http1 => Protocol::Http1,
                Spoken::Http2 => Protocol::Http2,
            },
            pool: PoolConfig {
                shards: self.shards,
                open_per_host_max: self.open_per_host_max,
                open_total_max: self.open_total_max,
                idle_per_host_max: self.idle_per_host_max,
                idle_total_max: self.idle_total_max,
                idle_timeout: ms(self.idle_timeout_ms),
                lifetime_max: ms(self.lifetime_max_ms),
                ..PoolConfig::default()
            },
            connect_timeout: ms(self.connect_timeout_ms),
            request_timeout: ms(self.request_timeout_ms),
            body_timeout: ms(self.body_timeout_ms),
            head_bytes_max: HEAD_BYTES_MAX,
            h2_window: self.h2_window,
            h2_window_max: self.h2_window_max,
            h2_streams_max: self.h2_streams_max,
            h2_keep_alive_interval: self.h2_keep_alive_interval_ms.map(ms),
            h2_keep_alive_timeout: ms(self.h2_keep_alive_timeout_ms),
            h2_keep_alive_while_idle: self.h2_keep_alive_while_idle,
            ..HttpConfig::default()
        }
    }
}

impl HttpPlan {
    /// A path, and what is wrong there.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let rule = |holds: bool, path: &str, text: &str| {
            if holds { Ok(()) } else { Err((path.to_owned(), text.to_owned())) }
        };
        self.config.to_config().validate().map_err(|error| ("config".to_owned(), error.to_string()))?;
        let lifetime = self.config.session_lifetime_s;
        rule(
            lifetime <= SESSION_LIFETIME_MAX_S,
            "config.session_lifetime_s",
            "must be at most 604800, seven days",
        )?;
        let count = self.origins.len();
        rule((1..=ORIGINS_MAX).contains(&count), "origins", "must name 1 to 4 hosts")?;
        for (index, origin) in self.origins.iter().enumerate() {
            let path = format!("origins[{index}].streams_max");
            rule(origin.streams_max != Some(0), &path, "must be at least 1, or left out")?;
        }
        let sorted = self.script.is_sorted_by_key(|step| step.at_ms);
        rule(sorted, "script", "must be in order of at_ms")?;
        let ends = matches!(self.script.last().map(|step| step.op), Some(HttpOp::Close | HttpOp::DropClient));
        rule(ends, "script", "must end with close or drop_client")?;
        let mut labels = BTreeSet::new();
        for (step, op) in self.script.iter().map(|step| step.op).enumerate() {
            if let HttpOp::Request { label, origin, bytes, .. } = op {
                let path = |field: &str| format!("script[{step}].do.request.{field}");
                rule(labels.insert(label), &path("label"), "must be that of no other request of its client")?;
                rule(origin < count, &path("origin"), "names no host of this client")?;
                rule(bytes <= BODY_BYTES_MAX, &path("bytes"), "must be at most 1048576")?;
            }
        }
        Ok(())
    }

    /// How long after the world healed a request may take to find a connection that is of use.
    pub(super) fn recovery_ms(&self) -> u64 {
        let config = &self.config;
        let silence =
            config.h2_keep_alive_interval_ms.unwrap_or(0).max(1000) * 2 + config.h2_keep_alive_timeout_ms;
        config.request_timeout_ms + config.body_timeout_ms + config.connect_timeout_ms + silence
    }
}

/// The ports of the hosts, by their index.
pub(crate) fn port_of(origin: usize) -> u16 {
    8001 + origin as u16
}

/// What the library keeps a session for at most (RFC 8446, section 4.6.1).
const SESSION_LIFETIME_MAX_S: u64 = 7 * 24 * 3600;
/// Hosts of one client.
pub(crate) const ORIGINS_MAX: usize = 4;
const BODY_BYTES_MAX: usize = 1 << 20;
/// Small, so that a giant head is soon sent.
const HEAD_BYTES_MAX: u32 = 4096;

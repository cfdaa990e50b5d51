//! What can be set on a connection, and the rules between the settings.

use std::{fmt, time::Duration};

use tungstenite::http::{HeaderName, HeaderValue, Uri};

use crate::{
    backoff::BackoffPolicy,
    error::{TransportError, TransportResult},
    tls::TlsConfig,
};

/// The settings of a connection. Every setter takes and returns the config; [`validate`](Self::validate), which connecting
/// calls first, checks them together.
///
/// ```
/// use std::time::Duration;
/// use hpx_transport::websocket::WsConfig;
///
/// let config = WsConfig::new("wss://stream.example.com/v1")
///     .reconnect_max_delay(Duration::from_secs(30))
///     .ping_interval(Duration::from_secs(15))
///     .header("x-api-key", "secret");
/// assert!(config.validate().is_ok());
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct WsConfig {
    pub(crate) url: String,
    pub(crate) backoff: BackoffPolicy,
    pub(crate) reconnect_max_attempts: Option<u32>,
    pub(crate) stable_after: Duration,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong_timeout: Duration,
    pub(crate) use_websocket_ping: bool,
    pub(crate) request_timeout: Duration,
    pub(crate) max_pending_requests: usize,
    pub(crate) subscription_channel_capacity: usize,
    pub(crate) command_channel_capacity: usize,
    pub(crate) event_channel_capacity: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) auth_on_connect: bool,
    pub(crate) auth_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) max_message_size: usize,
    pub(crate) read_buffer_size: usize,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) tls: TlsConfig,
}

impl WsConfig {
    /// The defaults, for a `ws://` or `wss://` URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            backoff: BackoffPolicy {
                initial: Duration::from_secs(1),
                max: Duration::from_secs(60),
                factor: 2.0,
                jitter: 1.0,
            },
            reconnect_max_attempts: None,
            stable_after: Duration::from_secs(10),
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(10),
            use_websocket_ping: true,
            request_timeout: Duration::from_secs(30),
            max_pending_requests: 1000,
            subscription_channel_capacity: 256,
            command_channel_capacity: 64,
            event_channel_capacity: 256,
            connect_timeout: Duration::from_secs(10),
            auth_on_connect: true,
            auth_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(1),
            max_message_size: 16 << 20,
            read_buffer_size: 64 << 10,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            tls: TlsConfig::default(),
        }
    }

    /// Upper bound of the first wait before a retry. Default 1 s.
    pub fn reconnect_initial_delay(mut self, delay: Duration) -> Self {
        self.backoff.initial = delay;
        self
    }

    /// Upper bound of every wait, also of one the peer asks for. Default 60 s.
    pub fn reconnect_max_delay(mut self, delay: Duration) -> Self {
        self.backoff.max = delay;
        self
    }

    /// Growth of the bound from one retry to the next, at least 1. Default 2.
    pub fn reconnect_backoff_factor(mut self, factor: f64) -> Self {
        self.backoff.factor = factor;
        self
    }

    /// Retries since the last stable period after which the connection ends; `None` never gives up. Default `None`.
    pub fn reconnect_max_attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.reconnect_max_attempts = attempts.into();
        self
    }

    /// The random share of a wait: 1 is full jitter (from zero to the bound), 0 is exact. Default 1.
    pub fn reconnect_jitter(mut self, share: f64) -> Self {
        self.backoff.jitter = share;
        self
    }

    /// How long a link must have been ready before its loss starts the growth of waits anew. Default 10 s.
    pub fn stable_after(mut self, uptime: Duration) -> Self {
        self.stable_after = uptime;
        self
    }

    /// Time between pings; `None` sends none, and then a silent peer is never noticed. Default 30 s.
    pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.ping_interval = interval.into();
        self
    }

    /// How long after a ping anything at all must have come in. May be longer than the interval: a ping is not repeated
    /// while one is unanswered. Default 10 s.
    pub fn pong_timeout(mut self, timeout: Duration) -> Self {
        self.pong_timeout = timeout;
        self
    }

    /// Ping with WebSocket Ping frames (default), or, when false, with the handler's `build_ping`.
    pub fn use_websocket_ping(mut self, websocket: bool) -> Self {
        self.use_websocket_ping = websocket;
        self
    }

    /// How long a request may take, from when the driver takes it (at its next turn after the call) to its reply, waiting
    /// for a link included. Default 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// The most requests that may wait at once, at most 2^19; one more fails with `CapacityExceeded`. Default 1000.
    pub fn max_pending_requests(mut self, requests: usize) -> Self {
        self.max_pending_requests = requests;
        self
    }

    /// Messages a guard holds for a slow reader before the oldest is dropped and counted. Default 256.
    pub fn subscription_channel_capacity(mut self, messages: usize) -> Self {
        self.subscription_channel_capacity = messages;
        self
    }

    /// Messages `send` may have accepted and not yet written; further calls wait. Default 64.
    pub fn command_channel_capacity(mut self, messages: usize) -> Self {
        self.command_channel_capacity = messages;
        self
    }

    /// Lifecycle events, and as many messages, that the event stream holds for a slow reader; at least 8. Default 256.
    pub fn event_channel_capacity(mut self, events: usize) -> Self {
        self.event_channel_capacity = events;
        self
    }

    /// Name, socket, TLS and upgrade together. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Send the handler's authentication message, if it builds one, and wait for the answer before anything else.
    /// Default true.
    pub fn auth_on_connect(mut self, auth: bool) -> Self {
        self.auth_on_connect = auth;
        self
    }

    /// How long the answer to the authentication message may take. Default 10 s.
    pub fn auth_timeout(mut self, timeout: Duration) -> Self {
        self.auth_timeout = timeout;
        self
    }

    /// How long the peer may accept no byte of what is to be written. Default 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// How long closing may take, flush and Close frame included, in whatever state. Default 1 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// The largest message in bytes, in either direction. A larger one from the peer ends the link with code 1009 before it
    /// is buffered. Default 16 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// The most bytes read at once. A link begins with 4 KiB, reads more at once while they are filled, and less again in a
    /// trickle; idle it holds at most 8 KiB. Default 64 KiB.
    pub fn read_buffer_size(mut self, bytes: usize) -> Self {
        self.read_buffer_size = bytes;
        self
    }

    /// Adds a header to the upgrade request. Its value is kept out of logs and errors.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Replaces the headers added to the upgrade request.
    pub fn headers<N: Into<String>, V: Into<String>>(
        mut self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.headers = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self
    }

    /// The subprotocols to offer, best first. The peer must pick one of them (RFC 6455, section 4.1).
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// How `wss://` verifies the peer. Default: the roots of Mozilla.
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = tls;
        self
    }

    /// Checks every field and the rules between them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the first field that breaks a rule, and the rule.
    pub fn validate(&self) -> TransportResult<()> {
        Endpoint::parse(&self.url)?;
        self.validate_durations()?;
        self.validate_limits()?;
        self.validate_headers()
    }

    fn validate_durations(&self) -> TransportResult<()> {
        let positive = [
            ("reconnect_initial_delay", self.backoff.initial),
            ("reconnect_max_delay", self.backoff.max),
            ("ping_interval", self.ping_interval.unwrap_or(Duration::MAX)),
            ("pong_timeout", self.pong_timeout),
            ("stable_after", self.stable_after),
            ("request_timeout", self.request_timeout),
            ("connect_timeout", self.connect_timeout),
            ("auth_timeout", self.auth_timeout),
            ("write_timeout", self.write_timeout),
            ("close_timeout", self.close_timeout),
        ];
        for (field, duration) in positive {
            require(!duration.is_zero(), field, "must be longer than zero")?;
        }
        require(
            self.backoff.initial <= self.backoff.max,
            "reconnect_initial_delay",
            "must not exceed reconnect_max_delay",
        )?;
        let factor = self.backoff.factor;
        require(
            factor.is_finite() && factor >= 1.0,
            "reconnect_backoff_factor",
            "must be a finite number of at least 1",
        )?;
        require((0.0..=1.0).contains(&self.backoff.jitter), "reconnect_jitter", "must lie between 0 and 1")
    }

    fn validate_limits(&self) -> TransportResult<()> {
        require(self.max_pending_requests >= 1, "max_pending_requests", "must be at least 1")?;
        require(
            self.max_pending_requests <= PENDING_REQUESTS_MAX,
            "max_pending_requests",
            "must be at most 524288",
        )?;
        require(
            self.subscription_channel_capacity >= 1,
            "subscription_channel_capacity",
            "must be at least 1",
        )?;
        require(self.command_channel_capacity >= 1, "command_channel_capacity", "must be at least 1")?;
        require(
            self.command_channel_capacity <= SENDS_MAX,
            "command_channel_capacity",
            "must be at most 262144",
        )?;
        require(self.event_channel_capacity >= 8, "event_channel_capacity", "must be at least 8")?;
        require(self.max_message_size >= 1, "max_message_size", "must be at least 1 byte")?;
        require(self.read_buffer_size >= 128, "read_buffer_size", "must be at least 128 bytes")
    }

    fn validate_headers(&self) -> TransportResult<()> {
        for (name, value) in &self.headers {
            let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
                return Err(TransportError::config("headers", format_args!("has an invalid name {name:?}")));
            };
            let reserved = RESERVED_HEADERS.contains(&parsed.as_str());
            require(
                !reserved,
                "headers",
                format_args!("must not set {parsed}, which the upgrade itself sets"),
            )?;
            // The value is a secret until proven otherwise: the text names the header alone.
            require(
                HeaderValue::from_str(value).is_ok(),
                "headers",
                format_args!("has an invalid value for {parsed}"),
            )?;
        }
        for name in &self.subprotocols {
            let token = !name.is_empty() && name.bytes().all(is_token_byte);
            require(token, "subprotocols", format_args!("has an invalid name {name:?}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for WsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let mut out = f.debug_struct("WsConfig");
        // The path or query of a URL often holds a token.
        match Endpoint::parse(&self.url) {
            Ok(endpoint) => out.field("url", &endpoint.redacted()),
            Err(_) => out.field("url", &"(invalid)"),
        };
        out.field("backoff", &self.backoff)
            .field("reconnect_max_attempts", &self.reconnect_max_attempts)
            .field("stable_after", &self.stable_after)
            .field("ping_interval", &self.ping_interval)
            .field("pong_timeout", &self.pong_timeout)
            .field("use_websocket_ping", &self.use_websocket_ping)
            .field("request_timeout", &self.request_timeout)
            .field("max_pending_requests", &self.max_pending_requests)
            .field("subscription_channel_capacity", &self.subscription_channel_capacity)
            .field("command_channel_capacity", &self.command_channel_capacity)
            .field("event_channel_capacity", &self.event_channel_capacity)
            .field("connect_timeout", &self.connect_timeout)
            .field("auth_on_connect", &self.auth_on_connect)
            .field("auth_timeout", &self.auth_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("close_timeout", &self.close_timeout)
            .field("max_message_size", &self.max_message_size)
            .field("read_buffer_size", &self.read_buffer_size)
            .field("header_names", &names)
            .field("subprotocols", &self.subprotocols)
            .field("tls", &self.tls);
        out.finish()
    }
}

/// Where a URL leads, parsed once.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) tls: bool,
    /// Without the brackets of an IPv6 literal.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Of the `Host` header: without the port where it is the scheme's own.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
}

impl Endpoint {
    /// Parses a `ws://` or `wss://` URL (RFC 6455, section 3).
    pub(crate) fn parse(url: &str) -> TransportResult<Self> {
        // A fragment is never sent, and the RFC forbids it here.
        require(!url.contains('#'), "url", "must not have a fragment")?;
        let uri: Uri = url
            .parse()
            .map_err(|error| TransportError::config("url", format_args!("is malformed: {error}")))?;
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            Some(scheme) => {
                return Err(TransportError::config(
                    "url",
                    format_args!("must start with ws:// or wss://, not {scheme}://"),
                ));
            }
            None => return Err(TransportError::config("url", "must start with ws:// or wss://")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        require(!authority.contains('@'), "url", "must not hold credentials: set a header instead")?;
        let host = uri.host().unwrap_or_default();
        require(!host.is_empty(), "url", "must name a host")?;
        let default_port = if tls { 443 } else { 80 };
        let port = match uri.port() {
            Some(port) => port.as_u16(),
            None if authority.ends_with(':') || authority.len() > host.len() => {
                return Err(TransportError::config("url", "has a malformed port"));
            }
            None => default_port,
        };
        require(port != 0, "url", "must not have port 0")?;
        let authority = if port == default_port { host.to_owned() } else { format!("{host}:{port}") };
        // A URL may have a query and no path; a request line may not (RFC 6455, section 3).
        let target = match uri.path_and_query().map_or("/", |target| target.as_str()) {
            rooted if rooted.starts_with('/') => rooted.to_owned(),
            query => format!("/{query}"),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port, authority, target })
    }

    /// The URL without path and query, either of which may hold a key.
    pub(crate) fn redacted(&self) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        let rest = if self.target == "/" { "/" } else { "/.." };
        format!("{scheme}://{}{rest}", self.authority)
    }
}

fn require(holds: bool, field: &'static str, rule: impl fmt::Display) -> TransportResult<()> {
    if holds { Ok(()) } else { Err(TransportError::config(field, rule)) }
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A slot index must fit the low bits of a 53-bit id, and leave the generation room.
const PENDING_REQUESTS_MAX: usize = 1 << 19;
/// Far above what a queue of messages to write is good for.
const SENDS_MAX: usize = 1 << 18;
const RESERVED_HEADERS: [&str; 7] = [
    "host",
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_a_path_is_asked_for_at_the_root() {
        for (url, target) in [
            ("ws://host?token=abc", "/?token=abc"),
            ("ws://host", "/"),
            ("ws://host/", "/"),
            ("wss://host:9/v2/x?y", "/v2/x?y"),
        ] {
            assert_eq!(Endpoint::parse(url).expect("a valid URL").target, target, "{url}");
        }
    }

    #[test]
    fn neither_path_nor_query_is_shown() {
        let endpoint = Endpoint::parse("wss://host/v2/KEY?token=KEY").expect("a valid URL");
        assert_eq!(endpoint.redacted(), "wss://host/..");
    }
}

//! The settings of a client.

use std::{sync::Arc, time::Duration};

use super::{event::Observer, h2::WINDOW_MAX, pool::PoolConfig};
use crate::{
    error::{TransportError, TransportResult},
    tls::TlsConfig,
};

/// The settings of a [`Client`](super::Client).
///
/// ```
/// use std::time::Duration;
/// use hpx_transport::http::HttpConfig;
///
/// let config = HttpConfig { request_timeout: Duration::from_secs(5), ..HttpConfig::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Whom to trust, and where TLS sessions are kept.
    pub tls: TlsConfig,
    /// Which protocol to speak.
    pub protocol: Protocol,
    /// The limits of the connection pool.
    pub pool: PoolConfig,
    /// How long a connection may take to come about: name, socket, TLS and the first words of HTTP/2. Default 10 s.
    pub connect_timeout: Duration,
    /// From the call to the head of the response, waiting for a connection and retries included. Default 30 s.
    pub request_timeout: Duration,
    /// Between two pieces of a response's body, while somebody waits for one. Default 30 s.
    pub body_timeout: Duration,
    /// The longest head of a response, in bytes. Default 64 KiB.
    pub head_bytes_max: u32,
    /// The flow-control window that each HTTP/2 stream begins with, in bytes: as much as a body that nobody reads may take up
    /// before its peer waits. Default 8 MiB.
    pub h2_window: u32,
    /// How far that window may grow where the link has room for more; equal to `h2_window` it doesn't. It bounds what a connection
    /// takes up in all, too: its own window is four times that of a stream, and no more than this. At most 2^31-1, default
    /// 64 MiB.
    pub h2_window_max: u32,
    /// Requests at once on one HTTP/2 connection, if the peer allows as many. Default 100.
    pub h2_streams_max: usize,
    /// Silence after which an HTTP/2 peer is pinged while a request is open. `None`: never. Default 20 s.
    pub h2_keep_alive_interval: Option<Duration>,
    /// Silence after a ping after which an HTTP/2 peer is given up on. Default 10 s.
    pub h2_keep_alive_timeout: Duration,
    /// Whether peers are pinged also while no request is open. Default no.
    pub h2_keep_alive_while_idle: bool,
    /// Who is told what happens inside the client. Default nobody.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Which protocol to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Over TLS HTTP/2 where the peer has it, else HTTP/1.1; without TLS HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS by prior knowledge (RFC 9113, section 3.3).
    Http2,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            tls: TlsConfig::default(),
            protocol: Protocol::Auto,
            pool: PoolConfig::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            head_bytes_max: 64 * 1024,
            h2_window: 8 * 1024 * 1024,
            h2_window_max: 64 * 1024 * 1024,
            h2_streams_max: 100,
            h2_keep_alive_interval: Some(Duration::from_secs(20)),
            h2_keep_alive_timeout: Duration::from_secs(10),
            h2_keep_alive_while_idle: false,
            observer: None,
        }
    }
}

impl HttpConfig {
    /// The rules that hold between the fields.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the field.
    pub fn validate(&self) -> TransportResult<()> {
        let rule = |holds: bool, field, text: &str| match holds {
            true => Ok(()),
            false => Err(TransportError::config(field, text)),
        };
        self.pool.validate()?;
        for (time, field) in [
            (self.connect_timeout, "connect_timeout"),
            (self.request_timeout, "request_timeout"),
            (self.body_timeout, "body_timeout"),
            (self.h2_keep_alive_timeout, "h2_keep_alive_timeout"),
        ] {
            rule(!time.is_zero(), field, "must be longer than nothing")?;
        }
        rule(self.head_bytes_max >= 1024, "head_bytes_max", "must be at least 1024")?;
        rule(
            self.h2_window >= H2_WINDOW_MIN,
            "h2_window",
            "must be at least 65535, which the protocol begins with",
        )?;
        rule(self.h2_window <= WINDOW_MAX, "h2_window", "must be at most 2^31-1")?;
        rule(self.h2_window_max >= self.h2_window, "h2_window_max", "must not be less than h2_window")?;
        rule(self.h2_window_max <= WINDOW_MAX, "h2_window_max", "must be at most 2^31-1")?;
        rule(self.h2_streams_max >= 1, "h2_streams_max", "must be at least 1")?;
        let patient = self.h2_keep_alive_interval.is_none_or(|interval| interval >= KEEP_ALIVE_MIN);
        rule(
            patient,
            "h2_keep_alive_interval",
            "must be at least 1 s: servers hang up on those who ping more often",
        )
    }
}

/// RFC 9113, section 6.9.2.
const H2_WINDOW_MIN: u32 = 65_535;
/// Strict servers count pings.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);

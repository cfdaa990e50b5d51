//! What can go wrong, whose fault it is, and what became of the message.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::planted::{self, Bug};

/// A result whose error is a [`TransportError`].
pub type TransportResult<T> = Result<T, TransportError>;

/// An error of this crate. Cheap to clone: one shared allocation.
///
/// [`kind`](Self::kind) says what happened, [`origin`](Self::origin) whose fault it is, [`delivery`](Self::delivery) what
/// became of the message it concerns. The text names the field, limit or status and holds no header, credential or payload.
#[derive(Clone)]
pub struct TransportError {
    inner: Arc<Inner>,
    delivery: Delivery,
}

struct Inner {
    kind: ErrorKind,
    origin: Origin,
    text: Cow<'static, str>,
    detail: Detail,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a kind carries beside its text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Detail {
    None,
    Field(&'static str),
    Status { code: u16, retry_after: Option<Duration> },
    Close { code: Option<u16>, reason: Box<str> },
    Peer(Box<str>),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A configuration value is out of its range; [`TransportError::field`] names it.
    Config,
    /// The host name did not resolve.
    Resolve,
    /// No address accepted a connection.
    Connect,
    /// The TLS handshake failed for a reason other than the certificate.
    Tls,
    /// The peer's certificate was refused. Permanent.
    Certificate,
    /// The peer answered the upgrade with an HTTP status other than 101; [`TransportError::status`] has it.
    UpgradeRefused,
    /// The peer's answer to the upgrade was not a valid handshake (RFC 6455, section 4.1).
    Handshake,
    /// The peer rejected the authentication message. Permanent.
    AuthRejected,
    /// Nothing came in time: connect, authentication, request, heartbeat or write; the text says which.
    Timeout,
    /// The peer broke the protocol. Over WebSocket it was sent close code 1002 or 1007.
    Protocol,
    /// A message is larger than `max_message_size`, a head than `head_bytes_max`, or a body than its reader's limit.
    MessageTooLarge,
    /// The peer closed the connection; [`TransportError::close_code`] and [`TransportError::close_reason`] have its words.
    PeerClosed,
    /// The socket failed, or ended without a Close frame.
    Io,
    /// The caller asked for a new link with `reconnect`.
    ReconnectRequested,
    /// A limit on outstanding work was reached.
    CapacityExceeded,
    /// A value did not serialise, or the handler could not encode the request.
    Encode,
    /// A reply did not deserialise into the wanted type.
    Decode,
    /// The peer answered the request with an error; [`TransportError::peer_error`] has its body.
    Rejected,
    /// The connection has ended; the text says why.
    Closed,
    /// The protocol handler panicked. The connection ends.
    HandlerPanicked,
    /// The driver was dropped before it ended: the runtime shut down.
    DriverDropped,
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The code that called this crate, its configuration or its protocol handler.
    Caller,
    /// The other side spoke, and said no or nonsense.
    Peer,
    /// The way between the two.
    Network,
    /// This crate or the runtime under it.
    Library,
}

/// What became of the message an error concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
// As wide as a word: a byte here makes the compiler move every `Result` of a reply in pieces that straddle words, which
// costs a stall each.
#[repr(u64)]
pub enum Delivery {
    /// Not a byte of it was handed to a socket. Sending it again can't execute it twice.
    NotSent,
    /// It was handed to a socket and no answer came: the peer may have acted on it.
    MaybeSent,
    /// The peer got it and answered with an error.
    Rejected,
}

impl TransportError {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self::build(kind, text.into(), Detail::None, None)
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        text: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::build(kind, text.into(), Detail::None, Some(source.into()))
    }

    pub(crate) fn config(field: &'static str, rule: impl fmt::Display) -> Self {
        Self::build(ErrorKind::Config, format!("{field} {rule}").into(), Detail::Field(field), None)
    }

    pub(crate) fn refused(code: u16, retry_after: Option<Duration>) -> Self {
        let text = format!("the peer answered the upgrade with HTTP status {code}");
        Self::build(ErrorKind::UpgradeRefused, text.into(), Detail::Status { code, retry_after }, None)
    }

    pub(crate) fn peer_closed(code: Option<u16>, reason: &str) -> Self {
        let text = match code {
            Some(code) if reason.is_empty() => format!("the peer closed the connection with code {code}"),
            Some(code) => format!("the peer closed the connection with code {code}: {}", Clip(reason)),
            None => "the peer closed the connection without a code".to_owned(),
        };
        let detail = Detail::Close { code, reason: reason.into() };
        Self::build(ErrorKind::PeerClosed, text.into(), detail, None)
    }

    pub(crate) fn rejected(body: &str) -> Self {
        let text = "the peer answered the request with an error";
        Self::build(ErrorKind::Rejected, text.into(), Detail::Peer(body.into()), None)
            .with_delivery(Delivery::Rejected)
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        let text = format!("the body is longer than the limit of {limit} bytes");
        Self::build(ErrorKind::MessageTooLarge, text.into(), Detail::Field("limit"), None)
    }

    pub(crate) fn head_too_large(limit: u32) -> Self {
        let text = format!("the head of the response is longer than head_bytes_max of {limit} bytes");
        Self::build(ErrorKind::MessageTooLarge, text.into(), Detail::Field("head_bytes_max"), None)
    }

    pub(crate) fn too_large(size: usize, limit: usize) -> Self {
        let text = format!("a message of {size} bytes is over max_message_size of {limit} bytes");
        Self::build(ErrorKind::MessageTooLarge, text.into(), Detail::Field("max_message_size"), None)
    }

    /// The connection has ended because of `cause`: closed, with the cause's origin and details.
    pub(crate) fn closed_by(cause: &Self, text: String) -> Self {
        let inner = Inner {
            kind: ErrorKind::Closed,
            origin: cause.inner.origin,
            text: text.into(),
            detail: cause.inner.detail.clone(),
            source: Some(Box::new(cause.clone())),
        };
        Self { inner: Arc::new(inner), delivery: Delivery::NotSent }
    }

    fn build(
        kind: ErrorKind,
        text: Cow<'static, str>,
        detail: Detail,
        source: Option<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let origin = origin_of(kind);
        Self { inner: Arc::new(Inner { kind, origin, text, detail, source }), delivery: Delivery::NotSent }
    }

    /// Lays it at another door than its kind's usual one.
    pub(crate) fn blamed_on(mut self, origin: Origin) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.origin = origin;
        }
        self
    }

    pub(crate) fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whose fault it is.
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// What became of the message this error concerns. [`Delivery::NotSent`] where it concerns none.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// True if something did not come in time.
    pub fn is_timeout(&self) -> bool {
        self.inner.kind == ErrorKind::Timeout
    }

    /// True if the connection has ended and will not come back.
    pub fn is_closed(&self) -> bool {
        matches!(self.inner.kind, ErrorKind::Closed | ErrorKind::HandlerPanicked | ErrorKind::DriverDropped)
    }

    /// True if the same attempt may succeed later.
    ///
    /// Of a lost link or a failed dial: false for what a retry can't cure (a refused certificate, rejected authentication,
    /// a 3xx or 4xx status other than 408, 425 and 429), true for the rest. Of a request: true only where sending it again
    /// can't execute it twice ([`Delivery::NotSent`]) and the connection still lives.
    pub fn may_retry(&self) -> bool {
        use ErrorKind as K;
        if self.delivery != Delivery::NotSent {
            return false;
        }
        match self.inner.kind {
            K::AuthRejected if planted::alive(Bug::AuthRejectionRetried) => true,
            K::Certificate if planted::alive(Bug::CertificateRetried) => true,
            K::UpgradeRefused if planted::alive(Bug::RefusalRetried) => true,
            K::Config | K::Certificate | K::AuthRejected | K::Encode | K::Decode | K::Rejected => false,
            K::Closed | K::HandlerPanicked | K::DriverDropped => false,
            K::UpgradeRefused => match self.status() {
                Some(408 | 425 | 429) => true,
                Some(code) => !(300..500).contains(&code),
                None => true,
            },
            K::Resolve | K::Connect | K::Tls | K::Handshake | K::Timeout | K::Protocol => true,
            K::MessageTooLarge | K::PeerClosed | K::Io | K::ReconnectRequested | K::CapacityExceeded => true,
        }
    }

    /// The HTTP status of a refused upgrade, also after the connection has ended for it.
    pub fn status(&self) -> Option<u16> {
        match self.inner.detail {
            Detail::Status { code, .. } => Some(code),
            _ => None,
        }
    }

    /// How long the peer asked to wait, from the `Retry-After` header of a refused upgrade (RFC 9110, section 10.2.3; the
    /// form in seconds).
    pub fn retry_after(&self) -> Option<Duration> {
        match self.inner.detail {
            Detail::Status { retry_after, .. } => retry_after,
            _ => None,
        }
    }

    /// The code of the peer's Close frame (RFC 6455, section 7.4).
    pub fn close_code(&self) -> Option<u16> {
        match self.inner.detail {
            Detail::Close { code, .. } if !planted::alive(Bug::CloseCodeLost) => code,
            _ => None,
        }
    }

    /// The reason in the peer's Close frame.
    pub fn close_reason(&self) -> Option<&str> {
        match &self.inner.detail {
            Detail::Close { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// The body of the error the peer answered a request with, as the protocol handler cut it out. Not part of the text,
    /// since it may repeat what was sent.
    pub fn peer_error(&self) -> Option<&str> {
        match &self.inner.detail {
            Detail::Peer(body) => Some(body),
            _ => None,
        }
    }

    /// The configuration field or limit concerned.
    pub fn field(&self) -> Option<&'static str> {
        match self.inner.detail {
            Detail::Field(field) => Some(field),
            _ => None,
        }
    }
}

fn origin_of(kind: ErrorKind) -> Origin {
    use ErrorKind as K;
    match kind {
        K::Config | K::ReconnectRequested | K::CapacityExceeded | K::Encode => Origin::Caller,
        K::Closed | K::HandlerPanicked => Origin::Caller,
        K::Certificate | K::UpgradeRefused | K::Handshake | K::AuthRejected | K::Protocol => Origin::Peer,
        K::PeerClosed | K::Decode | K::Rejected | K::MessageTooLarge => Origin::Peer,
        K::Resolve | K::Connect | K::Tls | K::Timeout | K::Io => Origin::Network,
        K::DriverDropped => Origin::Library,
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.text)
    }
}

impl fmt::Debug for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TransportError");
        out.field("kind", &self.inner.kind).field("text", &self.inner.text);
        out.field("delivery", &self.delivery);
        if let Some(source) = &self.inner.source {
            out.field("source", &source.to_string());
        }
        out.finish()
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// A peer's words, cut to a length fit for a log line.
struct Clip<'a>(&'a str);

impl fmt::Display for Clip<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars().take(CLIP_CHARS_MAX) {
            write!(f, "{}", char.escape_debug())?;
        }
        Ok(())
    }
}

/// A close reason is at most 123 bytes (RFC 6455, section 5.5); this bounds what other sources may bring.
const CLIP_CHARS_MAX: usize = 123;

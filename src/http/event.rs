//! What happens inside a client, told as it happens: for metrics, logs and tests.

use std::{fmt, sync::Arc, time::Duration};

use super::config::Protocol;
use crate::error::ErrorKind;

/// Is told what happens inside a [`Client`](super::Client), in the moment it happens and on the task it happens on: be quick, and
/// don't block. No lock of the client is held: it may be asked for its [`pool`](super::Client::pool), and used.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use hpx_transport::http::{Event, HttpConfig, Observer};
///
/// #[derive(Default)]
/// struct Dials(AtomicU64);
///
/// impl Observer for Dials {
///     fn observe(&self, event: &Event) {
///         if let Event::Dialing { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let dials = Arc::new(Dials::default());
/// let config = HttpConfig { observer: Some(dials.clone()), ..HttpConfig::default() };
/// # let _ = config;
/// ```
pub trait Observer: Send + Sync + 'static {
    /// It has just happened.
    fn observe(&self, event: &Event);
}

impl fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Something that happened inside a [`Client`](super::Client).
///
/// `connection` numbers its dials from 1, and `call` its requests from 1, in the order in which their futures were first polled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// No connection was free for a request, which waits for one.
    Waiting {
        /// The request.
        call: u64,
    },
    /// A request was given a connection. A request that is sent again is given another, or the same.
    Acquired {
        /// The request.
        call: u64,
        /// The connection.
        connection: u64,
        /// It had carried a request before.
        reused: bool,
    },
    /// A request is done with its connection, whose next it may be. An HTTP/1.1 connection that is of no more use is
    /// [`Closed`](Self::Closed) instead.
    Released {
        /// The connection.
        connection: u64,
    },
    /// A dial began.
    Dialing {
        /// The connection it is to be.
        connection: u64,
        /// Of the host.
        host: Box<str>,
        /// Of the host.
        port: u16,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The connection it was to be.
        connection: u64,
        /// Why.
        kind: ErrorKind,
    },
    /// A dial became a connection.
    Opened {
        /// The connection.
        connection: u64,
        /// [`Protocol::Http1`] or [`Protocol::Http2`].
        protocol: Protocol,
        /// Whether TLS resumed a session; `None` without TLS.
        resumed: Option<bool>,
        /// How many requests it carries at a time.
        streams: usize,
    },
    /// An HTTP/2 connection carries another number of requests at a time from now on: its peer said so, or is silent.
    StreamsChanged {
        /// The connection.
        connection: u64,
        /// How many.
        streams: usize,
    },
    /// An HTTP/2 connection takes no more requests: its peer is about to close it (GOAWAY; RFC 9113, section 6.8).
    GoingAway {
        /// The connection.
        connection: u64,
    },
    /// A ping went out.
    PingSent {
        /// The connection.
        connection: u64,
        /// To hear whether the peer is there; else to measure the link.
        keep_alive: bool,
        /// Time since the socket last gave something.
        silent: Duration,
    },
    /// A ping was answered.
    PongReceived {
        /// The connection.
        connection: u64,
        /// Since the ping.
        round_trip: Duration,
        /// Bytes of bodies received over the connection so far.
        received: u64,
    },
    /// The peer was told of a larger flow-control window for each stream.
    WindowGrew {
        /// The connection.
        connection: u64,
        /// In bytes.
        window: u32,
    },
    /// The peer asked for fewer pings (ENHANCE_YOUR_CALM; RFC 9113, section 7).
    CalmAsked {
        /// The connection.
        connection: u64,
    },
    /// The connection is over, and its socket closed.
    Closed {
        /// The connection.
        connection: u64,
        /// True if its peer was given up on for its silence.
        silent: bool,
    },
}

/// Whoever is to be told, if there is somebody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    observer: Option<Arc<dyn Observer>>,
}

impl Watch {
    pub(crate) fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        Self { observer }
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.observer {
            observer.observe(&event());
        }
    }
}

/// Tells of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    watch: Watch,
    connection: u64,
}

impl Reporter {
    pub(crate) fn new(watch: Watch, connection: u64) -> Self {
        Self { watch, connection }
    }

    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// Tells what is made of the connection's number.
    pub(crate) fn tell(&self, event: impl FnOnce(u64) -> Event) {
        self.watch.tell(|| event(self.connection));
    }
}

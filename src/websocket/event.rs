//! What a connection reports: events, states, and why it ended.

use std::{fmt, time::Duration};

use super::message::{Text, Topic, WsMessage};
use crate::error::{ErrorKind, TransportError};

/// The number of a link: one TCP life of the connection. It rises with every completed upgrade, so it may skip numbers
/// whose link was lost before it was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConnectionEpoch(pub u64);

impl fmt::Display for ConnectionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Created, and not yet dialing.
    #[default]
    Disconnected,
    /// The first dial: name, socket, TLS, upgrade.
    Connecting,
    /// The upgrade is done; first messages are being written. Passes within one turn of the driver, so it isn't seen today.
    Connected,
    /// Waiting for the peer's answer to the authentication message.
    Authenticating,
    /// Authenticated, and subscriptions written: the only state in which requests and sends are written.
    Ready,
    /// Waiting for, or dialing, retry number `attempt`.
    Reconnecting {
        /// Retries since the last stable period.
        attempt: u32,
    },
    /// Flushing what was accepted and saying goodbye.
    Closing,
    /// Ended.
    Closed,
}

/// One event of a connection's life, in order:
/// `(Retrying* Connected Message* Disconnected)* Retrying*`, then exactly one `Closed`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Ready: authenticated, and resubscriptions written.
    Connected {
        /// The link's number; higher than every earlier one.
        epoch: ConnectionEpoch,
    },
    /// A ready link was lost.
    Disconnected {
        /// The lost link.
        epoch: ConnectionEpoch,
        /// Why.
        reason: TransportError,
    },
    /// A retry has been scheduled.
    Retrying {
        /// Retries since the last stable period, this one included.
        attempt: u32,
        /// The wait before it dials.
        delay: Duration,
        /// What the last attempt or link failed of.
        cause: TransportError,
    },
    /// A message that was routed nowhere else.
    Message(IncomingMessage),
    /// Lifecycle events were dropped because nobody read them, some of them older than what follows; always whole pairs of `Connected` and
    /// `Disconnected` with what lay between, or single `Retrying`s.
    Skipped {
        /// How many events are missing.
        events: u64,
    },
    /// The end. Nothing comes after it.
    Closed {
        /// Why.
        cause: CloseCause,
        /// Messages that `send` had accepted and that were never written.
        unsent: u64,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CloseCause {
    /// `close()` was called.
    CloseCalled,
    /// The last handle was dropped.
    HandlesDropped,
    /// `reconnect_max_attempts` retries in a row failed.
    RetriesExhausted {
        /// How many were made.
        attempts: u32,
        /// What the last one failed of.
        last: TransportError,
    },
    /// The peer refused in a way no retry cures, or the handler's `should_reconnect` said no.
    Refused(TransportError),
    /// The protocol handler panicked, or the runtime dropped the driver.
    Failed(TransportError),
}

impl CloseCause {
    /// The error behind the end, where there is one.
    pub fn error(&self) -> Option<&TransportError> {
        match self {
            Self::CloseCalled | Self::HandlesDropped => None,
            Self::RetriesExhausted { last, .. } => Some(last),
            Self::Refused(error) | Self::Failed(error) => Some(error),
        }
    }

    /// What a caller still waiting is told.
    pub(crate) fn to_error(&self) -> TransportError {
        match self {
            Self::Failed(error) => error.clone(),
            Self::CloseCalled | Self::HandlesDropped => {
                TransportError::new(ErrorKind::Closed, format!("the connection has ended: {self}"))
            }
            Self::RetriesExhausted { last: error, .. } | Self::Refused(error) => {
                TransportError::closed_by(error, format!("the connection has ended: {self}"))
            }
        }
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloseCalled => f.write_str("close was called"),
            Self::HandlesDropped => f.write_str("the last handle was dropped"),
            Self::RetriesExhausted { attempts, last } => {
                write!(f, "{attempts} retries failed, the last: {last}")
            }
            Self::Refused(error) | Self::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

/// A message that no request and no subscription claimed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IncomingMessage {
    /// As it came.
    pub raw: WsMessage,
    /// Its text: of a text message, or of a binary one the handler decoded.
    pub text: Option<Text>,
    /// What the handler took it for.
    pub kind: MessageKind,
    /// Its topic, for an update nobody holds a guard of.
    pub topic: Option<Topic>,
}

/// What a handler takes a message for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// The reply to a request.
    Response,
    /// A message of a topic.
    Update,
    /// A notice of the peer: a welcome, an acknowledgement, a warning.
    System,
    /// Upkeep of the link: a ping or pong of the application's own.
    Control,
    /// None of these.
    Unknown,
}

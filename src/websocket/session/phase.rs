//! Where a session stands, and which steps are legal.
//!
//! ```text
//!            +------------------------------ lost, refused ----------------------------+
//!            v                                                                         |
//!  Idle -> Dialing -> Authenticating -> Ready ------ lost ------> Backoff -> Dialing   |
//!            |   +------ no auth -------^  |                         |                 |
//!            +-------------+---------------+------- close -----------+------> Closing -+-> Closed
//! ```

use crate::{
    env::Timestamp,
    websocket::event::{CloseCause, ConnectionState},
};

/// One phase with what belongs to it.
#[derive(Debug)]
pub(super) enum Phase {
    /// Not started.
    Idle,
    /// A link is being opened.
    Dialing { deadline: Timestamp },
    /// The link is up; the peer's verdict on the authentication is awaited.
    Authenticating { deadline: Timestamp },
    /// The link is up and carries traffic.
    Ready { since: Timestamp },
    /// No link; the next dial waits.
    Backoff { until: Timestamp },
    /// The link is up; what was accepted and the Close frame are on their way out.
    Closing { deadline: Timestamp, cause: CloseCause, said: bool },
    /// Over.
    Closed,
}

impl Phase {
    /// True while a socket is open and upgraded.
    pub(super) fn link_is_up(&self) -> bool {
        matches!(self, Self::Authenticating { .. } | Self::Ready { .. } | Self::Closing { .. })
    }

    /// The name of the phase, for the transition table.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Dialing { .. } => "Dialing",
            Self::Authenticating { .. } => "Authenticating",
            Self::Ready { .. } => "Ready",
            Self::Backoff { .. } => "Backoff",
            Self::Closing { .. } => "Closing",
            Self::Closed => "Closed",
        }
    }

    /// What users see. `attempt` counts retries since the last stable period.
    pub(super) fn state(&self, attempt: u32) -> ConnectionState {
        match self {
            Self::Idle => ConnectionState::Disconnected,
            Self::Dialing { .. } if attempt == 0 => ConnectionState::Connecting,
            Self::Dialing { .. } | Self::Backoff { .. } => ConnectionState::Reconnecting { attempt },
            Self::Authenticating { .. } => ConnectionState::Authenticating,
            Self::Ready { .. } => ConnectionState::Ready,
            Self::Closing { .. } => ConnectionState::Closing,
            Self::Closed => ConnectionState::Closed,
        }
    }
}

/// Every legal step. Anything else is a bug of this crate, caught in debug builds and in simulation.
pub(super) const TRANSITIONS: &[(&str, &str)] = &[
    ("Idle", "Dialing"),
    ("Idle", "Closed"),
    ("Dialing", "Authenticating"),
    ("Dialing", "Ready"),
    ("Dialing", "Backoff"),
    ("Dialing", "Closed"),
    ("Authenticating", "Ready"),
    ("Authenticating", "Backoff"),
    ("Authenticating", "Closing"),
    ("Authenticating", "Closed"),
    ("Ready", "Backoff"),
    ("Ready", "Closing"),
    ("Ready", "Closed"),
    ("Backoff", "Dialing"),
    ("Backoff", "Closed"),
    ("Closing", "Closed"),
];

//! What the library must make of an exchange that refuses or misbehaves: the table that oracles and tests share.

use hpx_transport::ErrorKind;

use super::{Behaviour, ConfigPlan, FaultKind, Stage};

/// What becomes of a connection that such a fault strikes, where nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Of the link and the connection.
    pub fate: Fate,
    /// The error that the loss of the link is reported with.
    pub kind: Option<ErrorKind>,
    /// The code of the Close frame the client sends because of it.
    pub close_code: Option<u16>,
}

/// What becomes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stands. Requests may fail each for itself.
    Stands,
    /// It is lost, and the client dials again.
    Retried,
    /// It is lost, and the connection ends for good.
    Refused,
}

impl FaultKind {
    /// What the library must make of it; `None` for faults that are not the exchange's treatment of a new connection.
    pub fn expected(&self, config: &ConfigPlan) -> Option<Expected> {
        match self {
            Self::Refuse { status, .. } => {
                let fate = if is_for_good(*status) { Fate::Refused } else { Fate::Retried };
                Some(lost(fate, ErrorKind::UpgradeRefused, None))
            }
            Self::AcceptThenClose { stage: Stage::Accept } => Some(retried(ErrorKind::Io, None)),
            Self::AcceptThenClose { stage: Stage::Upgrade | Stage::Auth } => {
                Some(retried(ErrorKind::PeerClosed, Some(1013)))
            }
            Self::Misbehave(behaviour) => Some(behaviour.expected(config)),
            _ => None,
        }
    }
}

impl Behaviour {
    /// What the library must make of it.
    pub fn expected(&self, config: &ConfigPlan) -> Expected {
        match *self {
            // The link stood: the client leaves it with a plain goodbye.
            Self::SilentAfterUpgrade | Self::IgnoreAuth => retried(ErrorKind::Timeout, Some(1000)),
            Self::RejectAuth => lost(Fate::Refused, ErrorKind::AuthRejected, Some(1000)),
            Self::OversizeMessage | Self::FragmentBomb => retried(ErrorKind::MessageTooLarge, Some(1009)),
            Self::BadUtf8 => retried(ErrorKind::Protocol, Some(1007)),
            Self::BadAcceptKey => retried(ErrorKind::Handshake, None),
            Self::MaskedFrames => retried(ErrorKind::Protocol, Some(1002)),
            Self::CloseCode(code) if may_be_sent(code) => retried(ErrorKind::PeerClosed, Some(code)),
            Self::CloseCode(_) => retried(ErrorKind::Protocol, Some(1002)),
            Self::Slowloris { every_ms } => match () {
                () if UPGRADE_BYTES.saturating_mul(every_ms) > config.connect_timeout_ms => {
                    retried(ErrorKind::Timeout, None)
                }
                () if AUTH_BYTES.saturating_mul(every_ms) > config.auth_timeout_ms => {
                    retried(ErrorKind::Timeout, Some(1000))
                }
                () => STANDS,
            },
            Self::PingFlood
            | Self::DuplicateReplies
            | Self::LateReplies { .. }
            | Self::UnknownReplies
            | Self::UnknownTopics
            | Self::IgnorePings
            | Self::StaleReplies => STANDS,
        }
    }
}

/// True for an upgrade's status that stays as it is, however often one asks.
pub(crate) fn is_for_good(status: u16) -> bool {
    (300..500).contains(&status) && !matches!(status, 408 | 425 | 429)
}

/// RFC 6455, section 7.4, with the codes registered since.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn lost(fate: Fate, kind: ErrorKind, close_code: Option<u16>) -> Expected {
    Expected { fate, kind: Some(kind), close_code }
}

fn retried(kind: ErrorKind, close_code: Option<u16>) -> Expected {
    lost(Fate::Retried, kind, close_code)
}

const STANDS: Expected = Expected { fate: Fate::Stands, kind: None, close_code: None };
/// About what the answer to an upgrade comes to, and the frame that accepts an authentication.
const UPGRADE_BYTES: u64 = 129;
const AUTH_BYTES: u64 = 15;

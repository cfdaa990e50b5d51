//! Bugs that can be switched on, to show that an oracle sees them.
//!
//! They exist only in a build with `--cfg hpx_planted`; which one is alive is chosen at run time, per process. In every
//! other build the question is answered `false` at compile time and nothing of this is left.

/// A bug the project is known to be able to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A link that is given up stays open beside the next one.
    DoubleConnection,
    /// Resubscriptions go to a socket of their own.
    ResubscribeElsewhere,
    /// The attempt counter is reset at connect, not after a stable period.
    AttemptResetAtConnect,
    /// The wait before a retry hears neither close nor the drop of the last handle.
    DeafBackoff,
    /// A dropped request future keeps its slot.
    LeakedRequestSlot,
    /// A request that was cancelled while queued is still written.
    GhostRequest,
    /// Dropping the last guard of a topic is not told to the peer.
    LostUnsubscribe,
    /// The driver does not notice the drop of the last handle.
    DriverOutlivesHandles,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::DoubleConnection,
        Self::ResubscribeElsewhere,
        Self::AttemptResetAtConnect,
        Self::DeafBackoff,
        Self::LeakedRequestSlot,
        Self::GhostRequest,
        Self::LostUnsubscribe,
        Self::DriverOutlivesHandles,
    ];

    /// The name it is chosen by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DoubleConnection => "double-connection",
            Self::ResubscribeElsewhere => "resubscribe-elsewhere",
            Self::AttemptResetAtConnect => "attempt-reset-at-connect",
            Self::DeafBackoff => "deaf-backoff",
            Self::LeakedRequestSlot => "leaked-request-slot",
            Self::GhostRequest => "ghost-request",
            Self::LostUnsubscribe => "lost-unsubscribe",
            Self::DriverOutlivesHandles => "driver-outlives-handles",
        }
    }
}

/// True in a build that can plant bugs.
pub const AVAILABLE: bool = cfg!(hpx_planted);

/// Brings one bug to life in this process, or none.
#[cfg(hpx_planted)]
pub fn plant(bug: Option<Bug>) {
    let index = bug.and_then(|bug| Bug::ALL.iter().position(|other| *other == bug));
    let number = index.map_or(0, |index| index + 1);
    ALIVE.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// True if `bug` is alive.
#[cfg(hpx_planted)]
pub(crate) fn alive(bug: Bug) -> bool {
    let number = ALIVE.load(std::sync::atomic::Ordering::SeqCst);
    number > 0 && Bug::ALL[number - 1] == bug
}

/// True if `bug` is alive: never, in this build.
#[cfg(not(hpx_planted))]
#[inline(always)]
pub(crate) const fn alive(_bug: Bug) -> bool {
    false
}

#[cfg(hpx_planted)]
static ALIVE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

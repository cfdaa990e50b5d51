//! Bugs that can be switched on, to show that an oracle sees them.
//!
//! They exist only in a build with `--cfg hpx_planted`; which one is alive is chosen at run time, per process. In every
//! other build the question is answered `false` at compile time and nothing of this is left. Each is a mistake that clients
//! of this kind are known for.

/// Writes the list once: the enum, its names, and the invariant that each breaks.
macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident, $name:literal, $breaks:literal;)*) => {
        /// A bug the project is known to be able to find.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them; the first is the canary.
            pub const ALL: &'static [Self] = &[$(Self::$bug,)*];

            /// The name it is chosen by.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }

            /// The id of the invariant it breaks. Others may break with it, and show sooner.
            pub const fn breaks(self) -> &'static str {
                match self {
                    $(Self::$bug => $breaks,)*
                }
            }
        }
    };
}

bugs! {
    /// The driver panics when its first link is up: a hunt that doesn't see this sees nothing.
    Canary, "canary", "WS-16";
    /// A link that is given up stays open beside the next one.
    DoubleConnection, "double-connection", "WS-1";
    /// Each loss starts two dials: the error's, and the close's (failure mode 15).
    ErrorAndCloseReconnect, "error-and-close-reconnect", "WS-1";
    /// Resubscriptions go to a socket of their own.
    ResubscribeElsewhere, "resubscribe-elsewhere", "WS-1";
    /// The attempt counter is reset at connect, not after a stable period (failure mode 5).
    AttemptResetAtConnect, "attempt-reset-at-connect", "WS-5";
    /// One attempt more than `reconnect_max_attempts`.
    MaxAttemptsOffByOne, "max-attempts-off-by-one", "WS-5";
    /// Waits grow past `reconnect_max_delay`.
    BackoffNotCapped, "backoff-not-capped", "WS-5";
    /// Every connection draws the same waits: a fleet redials as one.
    JitterShared, "jitter-shared", "WS-7";
    /// A wait the server asked for is not kept.
    RetryAfterIgnored, "retry-after-ignored", "WS-6";
    /// The wait before a retry hears neither close nor the drop of the last handle (failure mode 6).
    DeafBackoff, "deaf-backoff", "WS-L2";
    /// Close during a wait first dials, and closes what comes of it (failure mode 6).
    CloseReconnectsFirst, "close-reconnects-first", "WS-L2";
    /// The driver does not notice the drop of the last handle (failure mode 6).
    DriverOutlivesHandles, "driver-outlives-handles", "WS-L2";
    /// The age of the last pong is judged when the next ping is due (failure mode 1).
    PongAgeAtPingTicks, "pong-age-at-ping-ticks", "WS-17";
    /// Only pongs count as a sign of life (failure mode 2).
    DataIsNoLiveness, "data-is-no-liveness", "WS-17";
    /// A peer that takes no bytes is waited for without end (failure mode 3).
    WriteWithoutDeadline, "write-without-deadline", "WS-17";
    /// A lifecycle event is dropped uncounted when the queue is full (failure mode 4).
    LifecycleEventLost, "lifecycle-event-lost", "WS-3";
    /// `Closed` is dropped when the queue is full.
    TerminalEventLost, "terminal-event-lost", "WS-3";
    /// A dropped request future keeps its slot (failure mode 8).
    LeakedRequestSlot, "leaked-request-slot", "WS-11";
    /// Close leaves requests without an answer (failure mode 8).
    PendingHangsAtClose, "pending-hangs-at-close", "WS-9";
    /// A request without a reply is never given up.
    RequestDeadlineIgnored, "request-deadline-ignored", "WS-L3";
    /// A request that was cancelled while queued is still written (failure mode 7).
    GhostRequest, "ghost-request", "WS-9";
    /// A request that timed out while queued is still written (failure mode 7).
    ExpiredStillWritten, "expired-still-written", "WS-9";
    /// What was written before a loss is written again after it (failure mode 7).
    ReplayedWrite, "replayed-write", "WS-9";
    /// A reply to an earlier request in the same slot answers the next one.
    StaleReplyAccepted, "stale-reply-accepted", "WS-9";
    /// A request of a lost link waits on, and is answered over the next.
    StaleEpochAccepted, "stale-epoch-accepted", "WS-9";
    /// A guard that lags ends (failure mode 9).
    LaggingGuardEnds, "lagging-guard-ends", "WS-15";
    /// A guard waits on after the driver has ended (failure mode 10).
    GuardOutlivesDriver, "guard-outlives-driver", "WS-15";
    /// A guard is not told that a link was lost between two updates.
    GapNotMarked, "gap-not-marked", "WS-15";
    /// Updates that a slow guard missed are not counted.
    LagNotTold, "lag-not-told", "WS-15";
    /// A guard dropped and taken anew in one turn is alive without a feed (failure mode 11).
    DropAndResubscribe, "drop-and-resubscribe", "WS-14";
    /// Dropping the last guard of a topic is not told to the peer (failure mode 12).
    LostUnsubscribe, "lost-unsubscribe", "WS-14";
    /// The drop of a guard that `unsubscribe` has ended takes a later guard's place (failure mode 12).
    UnsubscribeStaleGeneration, "unsubscribe-stale-generation", "WS-14";
    /// A topic is subscribed again for each further guard (failure mode 13).
    DoubleSub, "double-sub", "WS-14";
    /// Resubscriptions go out before the authentication.
    SubBeforeAuth, "sub-before-auth", "WS-14";
    /// Queued messages go out before the resubscriptions.
    SendsBeforeSub, "sends-before-sub", "WS-14";
    /// A new guard doesn't wake the driver: told when something else does (failure mode 11).
    SubscribeUnheard, "subscribe-unheard", "WS-14";
    /// `max_message_size` is not kept (failure mode 14).
    MessageSizeIgnored, "message-size-ignored", "WS-16";
    /// Text that is not UTF-8 is unwrapped.
    HostileBytesPanic, "hostile-bytes-panic", "WS-16";
    /// A frame header that comes in two pieces loses the first.
    SplitHeaderLost, "split-header-lost", "WS-18";
    /// What was accepted and not yet written is dropped at close, uncounted (failure mode 14).
    CloseLosesSends, "close-loses-sends", "WS-8";
    /// Messages overtake each other in the queue.
    SendsReordered, "sends-reordered", "WS-8";
    /// `send_confirmed` says done when the message is queued.
    ConfirmedTooEarly, "confirmed-too-early", "WS-8";
    /// Requests beyond `max_pending_requests` are queued.
    QueueUnbounded, "queue-unbounded", "WS-10";
    /// Sends beyond `command_channel_capacity` are queued.
    SendQueueUnbounded, "send-queue-unbounded", "WS-10";
    /// 401, 403 and 404 are retried for ever (failure mode 15).
    RefusalRetried, "refusal-retried", "WS-L5";
    /// A rejected authentication is retried for ever (failure mode 15).
    AuthRejectionRetried, "auth-rejection-retried", "WS-L5";
    /// A certificate that nobody vouches for is asked for again and again (failure mode 15).
    CertificateRetried, "certificate-retried", "WS-L5";
    /// The peer's close code does not reach the user (failure mode 15).
    CloseCodeLost, "close-code-lost", "WS-4";
    /// The driver wakes itself while it has nothing to do.
    BusyLoop, "busy-loop", "WS-13";
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

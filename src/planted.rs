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
    /// A connection that was handed to a waiter as it went away is lost, and its permit with it.
    WaiterLosesConnection, "waiter-loses-connection", "P-3";
    /// What comes back goes to whoever came last.
    Barging, "barging", "P-4";
    /// A limit of each host is all there is: the pool as a whole has none.
    TotalLimitIgnored, "total-limit-ignored", "P-7";
    /// Nobody looks at the age of what comes back while somebody waits.
    ExpiredHandedOut, "expired-handed-out", "P-9";
    /// Nobody closes what is idle for too long.
    IdleNeverClosed, "idle-never-closed", "P-10";
    /// A dial that fails keeps its permit.
    PermitLeakedOnDialError, "permit-leaked-on-dial-error", "P-2";
    /// An HTTP/1.1 connection is given back with the head of the response, its body unread.
    UnreadBodyReused, "unread-body-reused", "P-1";
    /// A connection whose peer is going away is handed out all the same.
    HandedOutAfterGoaway, "handed-out-after-goaway", "P-9";
    /// What the peer may have acted on is sent again, whatever its method.
    ProcessedRequestRetried, "processed-request-retried", "P-16";
    /// One failed dial fails all who wait.
    OneErrorForAll, "one-error-for-all", "P-12";
    /// Each who waits dials for itself, though one connection may serve all.
    DialsAtOnce, "dials-at-once", "P-13";
    /// The peer's limit of streams is not kept.
    StreamLimitIgnored, "stream-limit-ignored", "P-14";
    /// The connection longest idle is handed out first: none ever grows old.
    OldestHandedOutFirst, "oldest-handed-out-first", "P-11";
    /// After a failed dial nobody looks whether another may begin.
    FailedDialWakesNobody, "failed-dial-wakes-nobody", "P-5";
    /// What comes back is put away though somebody waits for it.
    PutAwayBesideWaiters, "put-away-beside-waiters", "P-6";
    /// A full pool keeps what is idle of one host while another's requests wait.
    NothingReclaimed, "nothing-reclaimed", "P-8";
    /// `close` returns while connections are open.
    ClosedTooEarly, "closed-too-early", "P-19";
    /// The drop of the last client is not noticed.
    OutlivesItsClients, "outlives-its-clients", "P-20";
    /// A ping is sent while another is out.
    SecondPingOut, "second-ping-out", "K-1";
    /// A connection without a stream is pinged, whatever was asked.
    PingsWhileIdle, "pings-while-idle", "K-2";
    /// Data is no sign of life: a pong alone is.
    TimeoutAlthoughData, "timeout-although-data", "K-3";
    /// The window follows the samples down too.
    WindowShrinks, "window-shrinks", "K-6";
    /// What is received is counted twice.
    CountedTwice, "counted-twice", "K-7";
    /// A request for calm is forgotten with its connection.
    CalmForgotten, "calm-forgotten", "K-9";
    /// No verdict: a peer that is silent after a ping is waited for.
    SilenceUnnoticed, "silence-unnoticed", "K-12";
    /// Keep-alive that was turned off goes on.
    KeepAliveUnasked, "keep-alive-unasked", "K-13";
    /// One partition holds the tickets of all ports of a host.
    TicketsOfAllPorts, "tickets-of-all-ports", "T-2";
    /// The oldest ticket is given out first.
    OldestTicketFirst, "oldest-ticket-first", "T-3";
    /// A ticket is given out however old it is.
    ExpiredTicketOffered, "expired-ticket-offered", "T-3";
    /// Tickets are kept, and never given out.
    TicketsUnused, "tickets-unused", "T-7";
    /// A request without an answer waits for ever.
    RequestTimeoutIgnored, "request-timeout-ignored", "H-1";
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

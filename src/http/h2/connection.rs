//! One task per HTTP/2 connection (RFC 9113): it polls the h2 crate's connection, pings, and tells the pool how many streams the
//! peer allows. Requests are written by their callers.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Ping, PingPong, Reason, client::SendRequest};

use super::{
    super::{
        event::{Event, Reporter},
        inbox::Inbox,
        link::Link,
        memory::HostMemory,
        origin::Origin,
        outside::{Counts, Outside, Wire},
        pool::Permit,
    },
    keepalive::Due,
    ping::{PingRules, Ponger, Recorder},
    stream::{Stream, lost},
};
use crate::{
    env::Timestamp,
    error::{ErrorKind, TransportError, TransportResult},
    planted::{self, Bug},
    sync::{Arc, AtomicUsize, Mutex, Ordering},
};

/// What the pool keeps of a connection. When the pool has dropped it, the connection ends with its last stream.
pub(crate) struct Handle {
    send: SendRequest<Bytes>,
    shared: Arc<Shared>,
}

/// What callers and the task share.
pub(crate) struct Shared {
    pub(super) recorder: Recorder,
    /// Requests whose response isn't over.
    streams: AtomicUsize,
    /// Streams whose response is over before all of the request was sent.
    pub(super) inbox: Inbox<Stream>,
    /// Why it ended, if the task ended it.
    cause: Mutex<Option<TransportError>>,
    pub(super) reporter: Reporter,
}

/// How a connection is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) pings: PingRules,
    pub(crate) streams_max: usize,
    /// What the peer's last connection allowed. Until it says otherwise this one allows no more.
    pub(crate) streams_known: usize,
    pub(crate) head_bytes_max: u32,
    /// Given to a peer that takes nothing of a body.
    pub(crate) body_timeout: Duration,
}

/// A connection whose first words were said.
pub(crate) struct Made {
    send: SendRequest<Bytes>,
    conn: h2::client::Connection<Wire, Bytes>,
    ping_pong: PingPong,
    counts: Arc<Counts>,
}

/// Says the first words (RFC 9113, section 3.4). The peer's needn't have come.
///
/// # Errors
///
/// [`ErrorKind::Io`] if the connection is lost over it.
pub(crate) async fn handshake(io: Wire, settings: &Settings) -> TransportResult<Made> {
    let counts = io.counts();
    let made = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(settings.pings.window)
        .initial_connection_window_size(settings.pings.of_connection(settings.pings.window))
        .max_header_list_size(settings.head_bytes_max)
        // Small frames are the peer's choice: flow control bounds them.
        .data_frame_budget(usize::MAX)
        // A frame that comes late on a stream we reset is no error, however long ago that was.
        .reset_stream_duration(FOREVER)
        // Nor is it counted: a peer may have sent much that crosses our resets, and they are as many as callers make.
        .max_local_error_reset_streams(None)
        .handshake(io)
        .await;
    let (send, mut conn) = made.map_err(|error| lost(&error))?;
    // A connection gives it out once.
    let ping_pong = conn.ping_pong().expect("nobody else has this connection");
    Ok(Made { send, conn, ping_pong, counts })
}

impl Handle {
    pub(crate) fn is_open(&self) -> bool {
        self.shared.inbox.is_open()
    }

    pub(crate) fn last_active(&self) -> Timestamp {
        self.shared.recorder.last_heard()
    }

    /// What [`send`](super::send) takes.
    pub(crate) fn parts(&self) -> (SendRequest<Bytes>, Arc<Shared>) {
        (self.send.clone(), Arc::clone(&self.shared))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.inbox.abandon();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("h2").field("open", &self.is_open()).finish()
    }
}

impl Shared {
    pub(super) fn begin_stream(&self) {
        self.streams.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn end_stream(&self) {
        self.streams.fetch_sub(1, Ordering::AcqRel);
    }

    fn tell_of_pong(&self) {
        let recorder = &self.recorder;
        self.reporter.tell(|connection| Event::PongReceived {
            connection,
            round_trip: recorder.stats().round_trip.unwrap_or_default(),
            received: recorder.received(),
        });
    }

    /// Why the task ended the connection, if it did.
    pub(super) fn cause(&self) -> Option<TransportError> {
        self.cause.lock().clone()
    }
}

/// The task's side.
pub(crate) struct Task {
    conn: h2::client::Connection<Wire, Bytes>,
    ping_pong: PingPong,
    /// Says when the peer is about to go away. Gone when nothing new may begin: the connection ends when nobody could.
    probe: Option<SendRequest<Bytes>>,
    shared: Arc<Shared>,
    counts: Arc<Counts>,
    seen: u64,
    ponger: Ponger,
    rules: PingRules,
    streams_max: usize,
    /// What the h2 crate takes for the peer's limit until the peer has said it.
    first: usize,
    /// What the pool was told.
    limit: usize,
    /// By the pool: no more requests come.
    is_let_go: bool,
    has_complained: bool,
    uploads: Vec<Leftover>,
    body_timeout: Duration,
}

/// A request whose response is over.
struct Leftover {
    stream: Stream,
    /// Of its body.
    left: usize,
    /// When it is given up, unless the peer takes more of it until then.
    by: Timestamp,
}

impl Leftover {
    fn goes_on(&mut self, cx: &mut Context<'_>, now: Timestamp, timeout: Duration) -> bool {
        if self.stream.poll_upload(cx).is_ready() {
            return false;
        }
        let left = self.stream.left();
        if left < self.left {
            (self.left, self.by) = (left, now + timeout);
        }
        now < self.by
    }
}

impl Task {
    pub(crate) fn new(
        made: Made,
        settings: &Settings,
        now: Timestamp,
        reporter: Reporter,
    ) -> (Handle, Self, usize) {
        let Made { send, conn, ping_pong, counts } = made;
        let recorder = Recorder::new();
        let shared = Arc::new(Shared {
            recorder: recorder.clone(),
            streams: AtomicUsize::new(0),
            inbox: Inbox::new(),
            cause: Mutex::new(None),
            reporter,
        });
        let first = send.current_max_send_streams();
        let limit = settings.streams_max.min(first).min(settings.streams_known.max(1));
        let task = Self {
            ponger: Ponger::new(recorder, settings.pings, now),
            conn,
            ping_pong,
            probe: Some(send.clone()),
            shared: Arc::clone(&shared),
            counts,
            seen: 0,
            rules: settings.pings,
            streams_max: settings.streams_max,
            first,
            limit,
            is_let_go: false,
            has_complained: false,
            uploads: Vec::new(),
            body_timeout: settings.body_timeout,
        };
        (Handle { send, shared }, task, limit)
    }

    /// Runs until the connection is over. True if the peer was given up on.
    pub(crate) async fn run(
        mut self,
        permit: &Permit<Origin, Link>,
        outside: Arc<dyn Outside>,
        memory: &HostMemory,
    ) -> bool {
        let (mut alarm, mut goodbye) = (outside.alarm(), None);
        poll_fn(|cx| {
            // Bounded: a turn is followed by another only if a ping or a setting was handed over, or a deadline has come.
            loop {
                let now = outside.now();
                if self.turn(cx, permit, memory, now).is_ready() {
                    return Poll::Ready(false);
                }
                let again = match self.hand_over(now) {
                    Next::Over => return Poll::Ready(true),
                    Next::Again => true,
                    Next::Wait => {
                        // A peer that reads nothing is not told for ever.
                        let is_over = self.is_let_go && !self.has_streams();
                        let by = is_over.then(|| *goodbye.get_or_insert(now + GOODBYE_MAX));
                        if by.is_some_and(|by| now >= by) {
                            return Poll::Ready(false);
                        }
                        let asks = self.ponger.poll_timeout(now, self.has_streams());
                        let uploads = self.uploads.iter().map(|upload| upload.by).min();
                        alarm.poll_at(cx, asks.into_iter().chain(by).chain(uploads).min()).is_ready()
                    }
                };
                if !again {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Reads and writes what there is, and tells the pool what has changed.
    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        permit: &Permit<Origin, Link>,
        memory: &HostMemory,
        now: Timestamp,
    ) -> Poll<()> {
        // Bounded: each is a stream that was open.
        while let Poll::Ready(left) = self.shared.inbox.poll_next(cx) {
            let Some(stream) = left else {
                self.is_let_go = true;
                self.probe = None;
                break;
            };
            self.uploads.push(Leftover { left: stream.left(), stream, by: now + self.body_timeout });
        }
        self.uploads.retain_mut(|upload| upload.goes_on(cx, now, self.body_timeout));
        let conn = pin!(&mut self.conn).poll(cx);
        let read = self.counts.read();
        if read != self.seen {
            self.seen = read;
            self.ponger.handle_bytes(now);
        }
        if let Poll::Ready(Ok(_)) = self.ping_pong.poll_pong(cx) {
            self.ponger.handle_pong(now);
            self.shared.tell_of_pong();
        }
        if let Poll::Ready(result) = conn {
            if let Err(error) = result {
                self.hear_complaint(&error, memory);
            }
            return Poll::Ready(());
        }
        if let Some(probe) = &mut self.probe {
            if let Poll::Ready(Err(error)) = probe.poll_ready(cx) {
                self.probe = None;
                self.hear_complaint(&error, memory);
                self.shared.reporter.tell(|connection| Event::GoingAway { connection });
                if !planted::alive(Bug::HandedOutAfterGoaway) {
                    permit.set_draining();
                }
            } else {
                let said = probe.current_max_send_streams();
                // The peer's settings are the first it says (RFC 9113, section 3.4), and may repeat what is assumed: a response
                // shows that they have been applied. Bytes alone don't.
                if said != self.first || self.shared.recorder.frames() > 0 {
                    memory.set_streams(said);
                }
                let allowed = self.streams_max.min(said).min(memory.streams().max(1));
                let limit = if self.shared.recorder.is_overdue() { 0 } else { allowed };
                if limit != self.limit {
                    self.limit = limit;
                    self.shared
                        .reporter
                        .tell(|connection| Event::StreamsChanged { connection, streams: limit });
                    permit.set_limit(limit);
                }
            }
        }
        Poll::Pending
    }

    /// The peer may have asked for fewer pings as it hung up: once, however often that is told.
    fn hear_complaint(&mut self, error: &h2::Error, memory: &HostMemory) {
        let is_complaint = error.is_remote() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
        if is_complaint && !std::mem::replace(&mut self.has_complained, true) {
            memory.complain();
            self.shared.reporter.tell(|connection| Event::CalmAsked { connection });
        }
    }

    /// Hands the connection what is due: a window, a ping.
    fn hand_over(&mut self, now: Timestamp) -> Next {
        let mut again = false;
        let was_overdue = self.shared.recorder.is_overdue();
        let due = self.ponger.due(now, self.has_streams());
        if let Some(window) = self.ponger.untold() {
            self.conn.set_target_window_size(self.rules.of_connection(window));
            // Refused while the peer owes an answer to the last settings: kept for the next turn.
            if self.conn.set_initial_window_size(window).is_ok() {
                self.ponger.told(window);
                self.shared.reporter.tell(|connection| Event::WindowGrew { connection, window });
                again = true;
            }
        }
        match due {
            Due::Nothing => {}
            Due::Ping | Due::Sample => match self.ping_pong.send_ping(Ping::opaque()) {
                // Only of a connection that is closing: its socket says the rest.
                Err(_) if !planted::alive(Bug::SecondPingOut) => self.ponger.give_up_pinging(),
                _ => {
                    self.ponger.handle_ping(now);
                    let silent = now.since(self.shared.recorder.last_heard());
                    let keep_alive = due == Due::Ping;
                    let sent = |connection| Event::PingSent { connection, keep_alive, silent };
                    self.shared.reporter.tell(sent);
                    again = true;
                }
            },
            Due::Dead => {
                let text = "the peer was silent for h2_keep_alive_timeout after a ping";
                *self.shared.cause.lock() = Some(TransportError::new(ErrorKind::Timeout, text));
                return Next::Over;
            }
        }
        // What is overdue is told in the next turn.
        if again || was_overdue != self.shared.recorder.is_overdue() { Next::Again } else { Next::Wait }
    }

    fn has_streams(&self) -> bool {
        self.shared.streams.load(Ordering::Acquire) > 0
    }
}

/// What follows a turn.
enum Next {
    /// The connection has to be polled for what it was handed.
    Again,
    Wait,
    /// The peer is gone.
    Over,
}

impl Drop for Task {
    fn drop(&mut self) {
        drop(self.shared.inbox.close());
    }
}

/// How long a connection that the pool has let go of, and that nobody uses, may take to say so.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// Longer than any run of a process.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

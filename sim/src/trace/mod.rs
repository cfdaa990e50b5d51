//! The trace: everything that happened in a run, typed, in one order.
//!
//! Entries are ordered by (step, host, sequence): the order in which turmoil ran the hosts. Times of different hosts may
//! invert by one tick, so whoever compares them allows for that.

mod digest;
mod http;
mod lanes;
mod recorder;
mod render;
mod triggers;

use std::{net::SocketAddr, time::Duration};

use hpx_transport::{
    Delivery, ErrorKind,
    env::Timestamp,
    websocket::{ConnectionState, Event},
};

pub use self::{
    digest::Digests,
    http::{HttpLog, HttpOutcome, WebLog},
};
pub(crate) use self::{
    lanes::lanes,
    recorder::Recorder,
    render::{story, whole_line},
};
pub use crate::env::frames::Frame;
use crate::{dialect::Heard, env::Census, plan::Behaviour};

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When, by the clock of the host it happened on.
    pub at: Timestamp,
    /// Where.
    pub place: Place,
    /// What.
    pub what: What,
}

/// Where something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Outside: the one who injects faults.
    World,
    /// The mock exchange.
    Exchange,
    /// The client of this index in the plan.
    Client(usize),
}

/// What happened, by observer.
#[derive(Debug, Clone)]
pub enum What {
    /// The library's event stream, when its reader got to it.
    Event(Event),
    /// The exchange.
    Server(ServerLog),
    /// The sockets of a client.
    Socket(SocketLog),
    /// The tasks of a client.
    Task(TaskLog),
    /// What a client asked of the library and what came of it.
    Work(WorkLog),
    /// A fault began or ended.
    Fault(FaultLog),
    /// An HTTP client.
    Http(HttpLog),
    /// The HTTP hosts.
    Web(WebLog),
}

/// What the exchange saw and did. `conn` numbers its connections through the whole run.
#[derive(Debug, Clone)]
pub enum ServerLog {
    /// It listens: at the start, and again after a crash.
    Listening,
    /// A socket was accepted.
    Accepted {
        /// The connection.
        conn: u64,
        /// Whose it is, by address.
        client: usize,
        /// The client's end.
        peer: SocketAddr,
    },
    /// It shows a certificate that nobody vouches for.
    BadCertificate {
        /// The connection.
        conn: u64,
    },
    /// The upgrade is done.
    Upgraded {
        /// The connection.
        conn: u64,
    },
    /// The upgrade was answered with this status.
    Refused {
        /// The connection.
        conn: u64,
        /// HTTP status.
        status: u16,
    },
    /// A message came in.
    Heard {
        /// The connection.
        conn: u64,
        /// What it means.
        heard: Heard,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The client was told that it is authenticated.
    Authenticated {
        /// The connection.
        conn: u64,
    },
    /// A message went out.
    Said {
        /// The connection.
        conn: u64,
        /// The text.
        text: String,
    },
    /// A Ping frame came in and was answered.
    Pinged {
        /// The connection.
        conn: u64,
    },
    /// The exchange breaks the protocol, or nearly: from here on it behaves as the fault has it.
    Misbehaved {
        /// The connection.
        conn: u64,
        /// How.
        behaviour: Behaviour,
    },
    /// The exchange closes.
    Closing {
        /// The connection.
        conn: u64,
        /// The code of the Close frame; `None` is a bare end of the stream.
        code: Option<u16>,
        /// Its reason.
        reason: String,
    },
    /// A partition has cut the connection off: nothing is said or heard on it any more.
    Frozen {
        /// The connection.
        conn: u64,
    },
    /// The connection is over.
    Gone {
        /// The connection.
        conn: u64,
        /// Why.
        why: String,
    },
}

/// What became of a client's sockets. `socket` numbers the dials of one client from 1.
#[derive(Debug, Clone)]
pub enum SocketLog {
    /// An attempt has begun: the name is looked up, and dials follow.
    Resolving,
    /// A dial has begun.
    Dialing {
        /// The dial.
        socket: u64,
    },
    /// It was refused.
    DialFailed {
        /// The dial.
        socket: u64,
        /// How.
        error: std::io::ErrorKind,
    },
    /// Its future was dropped.
    DialAbandoned {
        /// The dial.
        socket: u64,
    },
    /// It became a socket.
    Opened {
        /// The socket.
        socket: u64,
        /// Its own address.
        local: SocketAddr,
    },
    /// The library read bytes.
    Read {
        /// The socket.
        socket: u64,
        /// How many.
        bytes: usize,
    },
    /// The library wrote bytes.
    Wrote {
        /// The socket.
        socket: u64,
        /// How many.
        bytes: usize,
    },
    /// So much of the upgrade response has been read, and a fault of the plan begins there.
    UpgradeByte {
        /// The socket.
        socket: u64,
        /// How many bytes.
        byte: usize,
    },
    /// Bytes may have been there for the library to read, and it came back for them only now.
    LeftUnread {
        /// The socket.
        socket: u64,
        /// Since when.
        since: Timestamp,
    },
    /// The socket takes less than the library has for it.
    Blocked {
        /// The socket.
        socket: u64,
    },
    /// It has taken all of it.
    Flushed {
        /// The socket.
        socket: u64,
    },
    /// The bytes written so far complete this frame.
    Frame {
        /// The socket.
        socket: u64,
        /// The frame, unmasked.
        frame: Frame,
    },
    /// The library was told that the stream is over.
    Ended {
        /// The socket.
        socket: u64,
        /// How.
        how: String,
    },
    /// The library dropped it.
    Closed {
        /// The socket.
        socket: u64,
    },
}

/// What became of a client's tasks.
#[derive(Debug, Clone)]
pub enum TaskLog {
    /// A connection took its seed.
    Seeded {
        /// The seed.
        seed: [u8; 32],
    },
    /// A task runs.
    Spawned {
        /// Its name.
        name: &'static str,
    },
    /// A task is over.
    Ended {
        /// Its name.
        name: &'static str,
    },
    /// A future of the client's was polled again and again in one instant, and nothing came of it. It is not polled again
    /// before something else happens.
    Spun {
        /// How often.
        polls: u32,
    },
    /// A task panicked.
    Panicked {
        /// Its name.
        name: &'static str,
        /// The words of the panic.
        text: String,
    },
}

/// What a client did and what came of it. `label` numbers requests and sends through the whole run.
#[derive(Debug, Clone)]
pub enum WorkLog {
    /// The connection was started.
    Started,
    /// It was not: the configuration is invalid.
    StartFailed {
        /// The error.
        text: String,
    },
    /// A request future was polled for the first time.
    RequestStarted {
        /// Of the request.
        label: u64,
        /// How long it may take.
        timeout: Duration,
    },
    /// A send future was polled for the first time.
    SendStarted {
        /// Of the message.
        label: u64,
        /// Whether it waits until the message is encoded.
        confirmed: bool,
    },
    /// A request or send is over.
    CallEnded {
        /// Of the request or message.
        label: u64,
        /// A request, and not a send.
        request: bool,
        /// How.
        outcome: Outcome,
        /// Request futures of this client that live.
        live: usize,
        /// Requests the library says are pending.
        pending: usize,
    },
    /// A guard was taken.
    GuardOpened {
        /// The guard.
        guard: u32,
        /// Its topic.
        topic: String,
    },
    /// A guard was dropped.
    GuardDropped {
        /// The guard.
        guard: u32,
        /// Its topic.
        topic: String,
    },
    /// A guard yielded its last.
    GuardEnded {
        /// The guard.
        guard: u32,
        /// Its topic.
        topic: String,
    },
    /// A guard yielded a push.
    GuardMessage {
        /// The guard.
        guard: u32,
        /// Its topic.
        topic: String,
        /// The exchange's number of the push.
        sequence: u64,
        /// The exchange's connection it came over.
        conn: u64,
    },
    /// A guard yielded that it missed messages.
    GuardLagged {
        /// The guard.
        guard: u32,
        /// How many.
        count: u64,
    },
    /// A guard yielded that its link was replaced.
    GuardGap {
        /// The guard.
        guard: u32,
        /// The epoch it heard from.
        from: u64,
        /// The epoch it hears from now on.
        to: u64,
    },
    /// `subscribe` was not ready at its first poll.
    SubscribeWaited {
        /// The guard to be.
        guard: u32,
    },
    /// `unsubscribe` was called.
    Unsubscribed {
        /// The topic.
        topic: String,
    },
    /// `reconnect` was called.
    ReconnectCalled,
    /// `close` was called.
    CloseCalled,
    /// `close` has returned.
    CloseReturned,
    /// The future of `close` was dropped.
    CloseCancelled {
        /// After so many polls.
        polls: u32,
    },
    /// `ready` is over.
    ReadyEnded {
        /// How; `Taken` is ready.
        outcome: Outcome,
    },
    /// The event stream was dropped.
    StreamDropped,
    /// What the handle says once all events there were have been read.
    Stands {
        /// Its state.
        state: ConnectionState,
        /// Its epoch.
        epoch: u64,
    },
    /// The last handle was dropped.
    HandlesDropped,
    /// The event stream yielded its last.
    StreamEnded,
    /// How the connection stands, at a time the plan names.
    Snapshot {
        /// Its state.
        state: ConnectionState,
        /// Requests the library says are pending.
        pending: usize,
        /// Request futures that live.
        live: usize,
        /// Topics the library says are subscribed.
        topics: Vec<String>,
        /// Topics of live guards.
        guards: Vec<String>,
    },
    /// What a client still holds of the world after its end.
    Residue(Census),
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A request was answered; the reply's own label and connection.
    Answered {
        /// The label in the reply.
        label: u64,
        /// The exchange's connection in the reply.
        conn: u64,
    },
    /// A send was taken.
    Taken,
    /// It failed.
    Failed {
        /// What happened.
        kind: ErrorKind,
        /// What became of the message.
        delivery: Delivery,
    },
    /// Its future was dropped after so many polls.
    Cancelled {
        /// How many.
        polls: u32,
    },
}

/// A fault of the plan, by its index there.
#[derive(Debug, Clone)]
pub enum FaultLog {
    /// It began.
    Began {
        /// The index.
        fault: usize,
        /// In words.
        text: String,
    },
    /// It was undone.
    Ended {
        /// The index.
        fault: usize,
        /// In words.
        text: String,
    },
    /// From here on the world is healthy.
    Healed,
}

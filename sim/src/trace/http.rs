//! What HTTP clients and hosts write into the trace.

use hpx_transport::{
    Delivery, ErrorKind,
    http::{Event, PoolStats},
};

use crate::env::Census;

/// What an HTTP client did, and what it heard. `label` numbers its requests.
#[derive(Debug, Clone)]
pub enum HttpLog {
    /// It stands ready.
    Started,
    /// The future of a request is about to be polled for the first time.
    Called {
        /// The request.
        label: u64,
        /// Of whom.
        origin: usize,
    },
    /// The head of the response is there.
    Head {
        /// The request.
        label: u64,
        /// The host's connection that answers, by its own words.
        conn: u64,
        /// Of the response.
        status: u16,
    },
    /// A request is over.
    Ended {
        /// The request.
        label: u64,
        /// How.
        outcome: HttpOutcome,
    },
    /// The client's observer was told.
    Event(Event),
    /// The connection that was just opened has this socket.
    Owns {
        /// The client's number of it.
        connection: u64,
        /// The registry's.
        socket: u64,
    },
    /// What the pool says it holds, by port, and what there is. Written when it has changed, after a step.
    Books {
        /// By port.
        hosts: Vec<(u16, PoolStats)>,
        /// By the registry.
        census: Census,
    },
    /// `drain` was called.
    Drained,
    /// `close` was called.
    CloseCalled,
    /// `close` has returned.
    CloseReturned {
        /// What the pool says it holds.
        open: usize,
    },
    /// The client was dropped, and the calls in progress with it.
    Dropped,
    /// What is left of the world at the end.
    Residue(Census),
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpOutcome {
    /// The whole response came, and is its own.
    Whole,
    /// The response was one to another request, or to nobody's.
    Wrong {
        /// In which way.
        text: String,
    },
    /// It failed.
    Failed {
        /// What happened.
        kind: ErrorKind,
        /// What became of the request.
        delivery: Delivery,
        /// The head had come.
        in_body: bool,
    },
    /// Its body was dropped, unread.
    Left,
    /// Its future was dropped.
    Cancelled,
}

/// What the hosts saw and did. `conn` numbers their connections through the whole run.
#[derive(Debug, Clone)]
pub enum WebLog {
    /// A socket was accepted.
    Accepted {
        /// The connection.
        conn: u64,
        /// Whose it is.
        client: usize,
        /// At which port.
        port: u16,
    },
    /// TLS stands.
    Secured {
        /// The connection.
        conn: u64,
        /// A session was resumed.
        resumed: bool,
    },
    /// A TLS 1.3 ticket went out.
    TicketIssued {
        /// The connection.
        conn: u64,
        /// Numbers the tickets.
        ticket: u64,
    },
    /// A client offered a ticket.
    TicketOffered {
        /// The connection.
        conn: u64,
        /// The ticket; `None` for one that was never issued.
        ticket: Option<u64>,
        /// It is good.
        accepted: bool,
    },
    /// A request came in whole and was executed.
    Executed {
        /// The connection.
        conn: u64,
        /// The request.
        label: u64,
        /// It must not be executed twice.
        post: bool,
    },
    /// The response is out.
    Answered {
        /// The connection.
        conn: u64,
        /// The request.
        label: u64,
    },
    /// A request came in before the last one on an HTTP/1.1 connection was answered.
    Pipelined {
        /// The connection.
        conn: u64,
    },
    /// It says, or shows, that the connection takes no more requests.
    Leaving {
        /// The connection.
        conn: u64,
        /// And why.
        why: &'static str,
    },
    /// The connection is over.
    Gone {
        /// The connection.
        conn: u64,
    },
}

//! Everything that goes into a session or comes out of it.

use std::{ops::Range, time::Duration};

use super::subscriptions::TopicId;
use crate::{
    error::{TransportError, TransportResult},
    websocket::{
        event::{CloseCause, ConnectionEpoch, Event, IncomingMessage},
        message::{Topic, WsMessage},
    },
};

/// One waiting caller: a slot of the shared table, and which of its uses. A key whose generation is gone is dead: nothing
/// is written for it, and no answer reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u64,
}

impl Key {
    /// The key as a number for the wire: unique in the connection's life, at most 2^53-1.
    pub(crate) fn sequence(self) -> u64 {
        ((self.generation & GENERATION_MASK) << INDEX_BITS) | u64::from(self.index)
    }

    /// The generation after `generation`: kept within the bits a sequence number has for it.
    pub(crate) fn next_generation(generation: u64) -> u64 {
        (generation + 1) & GENERATION_MASK
    }

    pub(crate) fn from_sequence(sequence: u64) -> Self {
        Self { index: (sequence & u64::from(INDEX_MASK)) as u32, generation: sequence >> INDEX_BITS }
    }
}

/// The low bits of a sequence number are the slot; 2^20 of them, of which the last is nobody's.
pub(crate) const INDEX_BITS: u32 = 20;
/// The slot index of messages the session itself numbers (subscribe and unsubscribe): no caller ever gets it.
pub(crate) const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
/// 33 bits: a slot may be used 8 billion times before a sequence number repeats.
const GENERATION_MASK: u64 = (1 << 33) - 1;

/// What callers queue for the wire.
#[derive(Debug)]
pub(crate) enum DataCommand {
    /// A request; `timeout` runs from when the driver takes it.
    Request { key: Key, message: WsMessage, timeout: Duration },
    /// Fire and forget.
    Send { message: WsMessage },
    /// A send whose caller waits until it is encoded.
    Confirm { key: Key, message: WsMessage, timeout: Duration },
}

/// What callers want of the connection itself. Always read before data.
#[derive(Debug)]
pub(crate) enum ControlCommand {
    Reconnect(String),
    Close(CloseCause),
}

/// What became of the link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// Socket, TLS and upgrade are done. With it, what the handler wants said first.
    Up {
        greetings: Vec<WsMessage>,
        auth: Option<WsMessage>,
    },
    /// The dial failed or the link was lost.
    Down(TransportError),
    /// Bytes came in: whatever they were, the peer lives.
    Alive,
    AuthAccepted,
    AuthRejected(TransportError),
    /// A message for the event stream.
    Incoming(IncomingMessage),
    /// The answer to a ping of the application's own.
    PongDue(WsMessage),
    /// After a flush: whether bytes are left over, whether any left, and whether the buffer has room. The flush in which
    /// the last byte of a ping left says so.
    Flushed {
        pending: bool,
        progressed: bool,
        room: bool,
        ping_left: bool,
    },
}

/// What the driver is to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Open a link. There is none.
    Dial {
        attempt: u32,
    },
    Write(Outgoing),
    /// Close the link, whatever it is doing; `say_goodbye` puts a Close frame into the socket if it takes it at once.
    Hangup {
        say_goodbye: bool,
    },
    /// Tell a caller.
    Answer(Key, TransportResult<Reply>),
    /// The peer has been told of a topic: its guards may expect messages of this epoch.
    Told(TopicId, ConnectionEpoch),
    /// Plain sends left the queue.
    Release {
        sends: usize,
    },
    Emit(Event),
    /// A message for the event stream is dropped: it counts as dropped.
    Discard,
    /// All is over. `unsent` plain sends were still queued.
    End {
        cause: CloseCause,
        unsent: u64,
    },
}

/// A message for the wire.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// The connection's own, as it is: greetings, authentication, pongs.
    Own(WsMessage),
    /// Of `send`: its caller has gone on.
    Send(WsMessage),
    /// Of a caller who waits for it to be encoded; not written if the caller is gone.
    Confirmed {
        key: Key,
        message: WsMessage,
    },
    /// To be encoded by the handler; not written if the caller is gone.
    Request {
        key: Key,
        message: WsMessage,
    },
    Subscribe {
        topics: Vec<Topic>,
        sequence: u64,
    },
    Unsubscribe {
        topics: Vec<Topic>,
        sequence: u64,
    },
    /// A ping: of the protocol, or of the application's own.
    Ping,
    /// The Close frame that ends the conversation.
    Close,
}

/// What a waiting caller gets.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The message was encoded.
    Written,
    /// The peer answered.
    Message { message: WsMessage, body: ReplyBody },
}

/// Where in the reply the answer lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyBody {
    Whole,
    Result(Range<usize>),
    Error(Range<usize>),
}

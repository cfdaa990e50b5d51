//! [`ProtocolHandler`]: the dialect of one API, as pure functions over messages.

use std::borrow::Cow;

use super::{
    event::MessageKind,
    message::{RequestId, Topic, WsMessage},
};
use crate::error::{ErrorKind, TransportError, TransportResult};

/// Teaches a connection the dialect of one API.
///
/// Every method is a synchronous function of its arguments and is called by the driver, never under a lock. Required are
/// [`classify_message`](Self::classify_message), the two `extract_` and the two `build_` methods; the rest has defaults.
/// What the driver calls per message is [`route`](Self::route), and per request [`encode_request`](Self::encode_request);
/// both have defaults made of the others, and a handler that overrides them parses once, on borrowed bytes.
///
/// A method that panics ends the connection with [`ErrorKind::HandlerPanicked`].
///
/// ```
/// use hpx_transport::websocket::{MessageKind, ProtocolHandler, RequestId, Topic, WsMessage};
///
/// /// `reply <id> ..`, `<topic>: ..`, and lines to the reader.
/// struct Lines;
///
/// impl ProtocolHandler for Lines {
///     fn classify_message(&self, text: &str) -> MessageKind {
///         if text.starts_with("reply ") {
///             MessageKind::Response
///         } else if text.contains(": ") {
///             MessageKind::Update
///         } else {
///             MessageKind::System
///         }
///     }
///     fn extract_request_id(&self, text: &str) -> Option<RequestId> {
///         text.split(' ').nth(1).map(RequestId::from)
///     }
///     fn extract_topic(&self, text: &str) -> Option<Topic> {
///         text.split_once(": ").map(|(topic, _)| Topic::from(topic))
///     }
///     fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
///         let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
///         WsMessage::text(format!("sub {id} {}", names.join(" ")))
///     }
///     fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
///         let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
///         WsMessage::text(format!("unsub {id} {}", names.join(" ")))
///     }
/// }
/// ```
pub trait ProtocolHandler: Send + Sync + 'static {
    /// What a text message is.
    fn classify_message(&self, text: &str) -> MessageKind;

    /// The id of the request a message answers.
    fn extract_request_id(&self, text: &str) -> Option<RequestId>;

    /// The topic a message belongs to.
    fn extract_topic(&self, text: &str) -> Option<Topic>;

    /// The message that subscribes to `topics`, never more than
    /// [`topics_per_message`](Self::topics_per_message) of them. `id` is unique in the connection's life.
    fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage;

    /// The message that ends subscriptions.
    fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage;

    /// Messages to write first on every new link, before authentication.
    fn on_connect(&self) -> Vec<WsMessage> {
        Vec::new()
    }

    /// The authentication message, asked for on every new link, so that a fresh token can go out with each. `None`: the API
    /// needs none, and the link is ready at once.
    fn build_auth_message(&self) -> Option<WsMessage> {
        None
    }

    /// True if `text` accepts the authentication. Asked only while that is awaited.
    fn is_auth_success(&self, text: &str) -> bool {
        let _ = text;
        false
    }

    /// True if `text` rejects the authentication, which ends the connection. Asked only while that is awaited.
    fn is_auth_failure(&self, text: &str) -> bool {
        let _ = text;
        false
    }

    /// The ping of the application's own, sent every `ping_interval` when `use_websocket_ping` is off. `None`: a WebSocket
    /// Ping frame all the same.
    fn build_ping(&self) -> Option<WsMessage> {
        None
    }

    /// The answer to a ping of the application's own; `ping` is its payload. `None`: no answer is due.
    fn build_pong(&self, ping: &[u8]) -> Option<WsMessage> {
        let _ = ping;
        None
    }

    /// The text of a binary message, for an API that compresses or packs. `None`: it stays binary.
    fn decode_binary(&self, bytes: &[u8]) -> Option<String> {
        let _ = bytes;
        None
    }

    /// True if `text` is a ping of the application's own, to be answered by [`build_pong`](Self::build_pong).
    fn is_server_ping(&self, text: &str) -> bool {
        let _ = text;
        false
    }

    /// True if `text` answers [`build_ping`](Self::build_ping).
    fn is_pong_response(&self, text: &str) -> bool {
        let _ = text;
        false
    }

    /// True if `text`, a reply to a subscribe message, accepts it. A reply that doesn't is logged and passed to the event
    /// stream as [`MessageKind::System`].
    fn is_subscription_success(&self, text: &str) -> bool {
        let _ = text;
        true
    }

    /// True if the connection is to be dialed again after `cause`. The default is the cause's own
    /// [`may_retry`](TransportError::may_retry).
    fn should_reconnect(&self, cause: &TransportError) -> bool {
        cause.may_retry()
    }

    /// The id of a request. `sequence` is unique in the connection's life and at most 2^53-1; a handler whose API wants text
    /// makes one of it, as unique as it was. Numbers equal to `sequence` are matched without a lookup.
    fn generate_request_id(&self, sequence: u64) -> RequestId {
        numeric(sequence)
    }

    /// `payload` with `id` put in. The default adds a field `id` in front of the fields of a JSON object.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] if it can't be: the request fails, not sent.
    fn inject_request_id(&self, payload: &str, id: &RequestId) -> TransportResult<String> {
        let mut out = Vec::with_capacity(payload.len() + 32);
        splice_field(payload, "id", id, &mut out)?;
        String::from_utf8(out).map_err(|error| {
            TransportError::with_source(ErrorKind::Encode, "the request with its id is not UTF-8", error)
        })
    }

    /// The most topics one subscribe or unsubscribe message may name; longer sets are split. At least 1.
    fn topics_per_message(&self) -> usize {
        100
    }

    /// Where a message goes, found in one pass and borrowing from it. A binary message comes here only if
    /// [`decode_binary`](Self::decode_binary) left it binary.
    ///
    /// The default asks the other methods in turn and takes the whole of a reply for the answer, so that no reply is an
    /// error to it.
    fn route<'m>(&self, message: &'m WsMessage) -> Route<'m> {
        route_by_parts(self, message)
    }

    /// Appends the request `payload` with `id` put in to `out`. The default is
    /// [`inject_request_id`](Self::inject_request_id) for text; a binary payload is taken as it is and must hold an id the
    /// peer will answer to.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] if it can't be: the request fails, not sent, and `out` is as it was.
    fn encode_request(&self, id: &RequestId, payload: &WsMessage, out: &mut Vec<u8>) -> TransportResult<()> {
        match payload {
            WsMessage::Text(text) => out.extend_from_slice(self.inject_request_id(text, id)?.as_bytes()),
            WsMessage::Binary(bytes) => out.extend_from_slice(bytes),
        }
        Ok(())
    }
}

/// Where a message goes. Borrows from the message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route<'m> {
    /// To the request of this id, if it still waits.
    Response {
        /// The id.
        id: RouteId<'m>,
        /// What of the message is the answer.
        body: ResponseBody<'m>,
    },
    /// To the guards of this topic; to the event stream if there are none.
    Update {
        /// The topic.
        topic: Cow<'m, str>,
    },
    /// A ping of the application's own: answered by the driver.
    Ping,
    /// The answer to a ping of ours: liveness, and nothing more.
    Pong,
    /// To the event stream.
    Event(MessageKind),
}

/// The id in a reply, borrowed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteId<'m> {
    /// A JSON number.
    Number(u64),
    /// A text.
    Text(Cow<'m, str>),
}

impl From<RequestId> for RouteId<'_> {
    fn from(id: RequestId) -> Self {
        match (id.as_number(), id.as_text()) {
            (Some(number), _) => Self::Number(number),
            (None, text) => Self::Text(Cow::Owned(text.unwrap_or_default().to_owned())),
        }
    }
}

/// What of a reply is the answer. Slices must lie within the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseBody<'m> {
    /// All of it.
    Whole,
    /// This part, as in the `result` of JSON-RPC.
    Result(&'m str),
    /// This part, and it is an error: `request` fails with [`ErrorKind::Rejected`].
    Error(&'m str),
}

/// [`ProtocolHandler::route`] made of the handler's other methods.
fn route_by_parts<'m, H: ProtocolHandler + ?Sized>(handler: &H, message: &'m WsMessage) -> Route<'m> {
    let Some(text) = message.as_text() else { return Route::Event(MessageKind::Unknown) };
    if handler.is_server_ping(text) {
        return Route::Ping;
    }
    if handler.is_pong_response(text) {
        return Route::Pong;
    }
    let kind = handler.classify_message(text);
    match kind {
        MessageKind::Response => match handler.extract_request_id(text) {
            Some(id) => Route::Response { id: id.into(), body: ResponseBody::Whole },
            None => Route::Event(MessageKind::Unknown),
        },
        MessageKind::Update => match handler.extract_topic(text) {
            Some(topic) => Route::Update { topic: Cow::Owned(topic.as_str().to_owned()) },
            None => Route::Event(MessageKind::Unknown),
        },
        kind => Route::Event(kind),
    }
}

/// Appends the JSON object `payload` with one more field in front.
///
/// # Errors
///
/// [`ErrorKind::Encode`] if `payload` is not a JSON object.
pub(crate) fn splice_field(
    payload: &str,
    field: &str,
    id: &RequestId,
    out: &mut Vec<u8>,
) -> TransportResult<()> {
    let fields = object_fields(payload)?;
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b"\":");
    write_id(id, out);
    if !fields.starts_with('}') {
        out.push(b',');
    }
    out.extend_from_slice(fields.as_bytes());
    Ok(())
}

/// What follows the opening brace of a JSON object.
pub(crate) fn object_fields(payload: &str) -> TransportResult<&str> {
    let object = payload.trim_ascii();
    match object.strip_prefix('{') {
        Some(fields) if object.ends_with('}') => Ok(fields.trim_ascii_start()),
        _ => Err(TransportError::new(
            ErrorKind::Encode,
            "a request payload must be a JSON object, so that an id can be put in",
        )),
    }
}

/// Appends an id as JSON: a number bare, a text quoted and escaped.
pub(crate) fn write_id(id: &RequestId, out: &mut Vec<u8>) {
    match (id.as_number(), id.as_text()) {
        (Some(number), _) => write_decimal(number, out),
        (None, text) => {
            // A Vec takes every byte, and every text has a JSON form.
            let written = serde_json::to_writer(out, text.unwrap_or_default());
            debug_assert!(written.is_ok());
        }
    }
}

fn write_decimal(mut number: u64, out: &mut Vec<u8>) {
    // 2^64-1 has 20 digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The id of a sequence number the connection made.
pub(crate) fn numeric(sequence: u64) -> RequestId {
    // Sequence numbers are made of a slot and a generation and stay within 53 bits.
    RequestId::number(sequence & RequestId::NUMBER_MAX).unwrap_or_else(|| RequestId::from(0))
}

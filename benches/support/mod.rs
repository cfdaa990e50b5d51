//! What the benchmarks share: a dialect, a server that is never the bottleneck, our client and the floor.
#![allow(dead_code, missing_docs, reason = "each benchmark uses a part of it")]

pub(crate) mod cores;
pub(crate) mod floor;
pub(crate) mod ours;
pub(crate) mod server;

use std::borrow::Cow;

use hpx_transport::websocket::{
    MessageKind, ProtocolHandler, RequestId, ResponseBody, Route, RouteId, Topic, TransportResult, WsMessage,
};

/// Requests are `{"id":N,"method":"echo","params":"xx.."}`, updates `{"topic":"tN","data":"xx.."}`.
pub(crate) struct Lean;

/// The one pass over a message, the same for ours and for the floor.
pub(crate) fn scan(text: &str) -> Route<'_> {
    if let Some(rest) = text.strip_prefix(r#"{"id":"#) {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if let Ok(id) = rest[..digits].parse() {
            return Route::Response { id: RouteId::Number(id), body: ResponseBody::Whole };
        }
    }
    match text.strip_prefix(r#"{"topic":""#).and_then(|rest| rest.split_once('"')) {
        Some((topic, _)) => Route::Update { topic: Cow::Borrowed(topic) },
        None => Route::Event(MessageKind::Unknown),
    }
}

/// About 100 bytes on the wire, without its id.
pub(crate) fn request_body() -> String {
    format!(r#""method":"echo","params":"{}"}}"#, "x".repeat(56))
}

impl ProtocolHandler for Lean {
    fn classify_message(&self, _: &str) -> MessageKind {
        MessageKind::Unknown
    }

    fn extract_request_id(&self, _: &str) -> Option<RequestId> {
        None
    }

    fn extract_topic(&self, _: &str) -> Option<Topic> {
        None
    }

    fn build_subscribe(&self, _: &[Topic], _: RequestId) -> WsMessage {
        WsMessage::text("subscribe")
    }

    fn build_unsubscribe(&self, _: &[Topic], _: RequestId) -> WsMessage {
        WsMessage::text("unsubscribe")
    }

    fn topics_per_message(&self) -> usize {
        usize::MAX
    }

    fn route<'m>(&self, message: &'m WsMessage) -> Route<'m> {
        scan(message.as_text().unwrap_or_default())
    }

    fn encode_request(&self, id: &RequestId, payload: &WsMessage, out: &mut Vec<u8>) -> TransportResult<()> {
        let mut digits = [0; 20];
        out.extend_from_slice(br#"{"id":"#);
        out.extend_from_slice(decimal(id.as_number().unwrap_or_default(), &mut digits));
        out.push(b',');
        out.extend_from_slice(&payload.as_bytes()[1..]);
        Ok(())
    }
}

/// The digits of a number.
pub(crate) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

/// What is pushed for one measurement of ingest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ingest {
    pub(crate) size: usize,
    pub(crate) topics: usize,
    pub(crate) messages: usize,
}

impl Ingest {
    /// The command that makes the server push. Rounded up to whole blocks.
    pub(crate) fn command(&self) -> String {
        format!("push {} {} {}", self.size, self.topics, self.messages)
    }
}

/// A runtime of one thread, as the client's.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

//! The dialect of the scripted server, in the plainest code there is.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use hpx_transport::websocket::{
    MessageKind, ProtocolHandler, RequestId, ResponseBody, Route, RouteId, Topic, WsMessage,
};
use serde_json::{Value, json};

/// JSON: `{"op": "sub"|"unsub", "id", "topics"}`, `{"id", "op", ..}` answered by `{"id", "result"|"error"}`,
/// `{"topic", "data"}`, `{"op": "auth", "token"}` answered by `{"op": "auth", "ok"}`, `{"op": "ping"|"pong"}`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dialect {
    /// Sent on every link, with the number of the link.
    pub(crate) token: Option<String>,
    /// Written first on every link.
    pub(crate) greetings: Vec<String>,
    /// Authentication messages made so far.
    pub(crate) auths: Arc<AtomicU32>,
    /// Panics at messages that contain this.
    pub(crate) panic_at: Option<&'static str>,
}

impl Dialect {
    pub(crate) fn with_token(token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::default() }
    }
}

impl ProtocolHandler for Dialect {
    fn classify_message(&self, text: &str) -> MessageKind {
        let value = parse(text);
        match () {
            () if value["topic"].is_string() => MessageKind::Update,
            () if value["id"].is_number() => MessageKind::Response,
            () if value["op"].is_string() => MessageKind::System,
            () => MessageKind::Unknown,
        }
    }

    fn extract_request_id(&self, text: &str) -> Option<RequestId> {
        RequestId::number(parse(text)["id"].as_u64()?)
    }

    fn extract_topic(&self, text: &str) -> Option<Topic> {
        parse(text)["topic"].as_str().map(Topic::from)
    }

    fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        topic_message("sub", topics, &id)
    }

    fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        topic_message("unsub", topics, &id)
    }

    fn on_connect(&self) -> Vec<WsMessage> {
        self.greetings.iter().map(|text| WsMessage::text(text.as_str())).collect()
    }

    fn build_auth_message(&self) -> Option<WsMessage> {
        let token = self.token.as_ref()?;
        let number = self.auths.fetch_add(1, Ordering::Relaxed) + 1;
        Some(WsMessage::text(json!({"op": "auth", "token": token, "number": number}).to_string()))
    }

    fn is_auth_success(&self, text: &str) -> bool {
        let value = parse(text);
        value["op"] == "auth" && value["ok"] == true
    }

    fn is_auth_failure(&self, text: &str) -> bool {
        let value = parse(text);
        value["op"] == "auth" && value["ok"] == false
    }

    fn build_ping(&self) -> Option<WsMessage> {
        Some(WsMessage::text(r#"{"op":"ping"}"#))
    }

    fn build_pong(&self, ping: &[u8]) -> Option<WsMessage> {
        let ping: Value = serde_json::from_slice(ping).ok()?;
        Some(WsMessage::text(json!({"op": "pong", "of": ping["number"]}).to_string()))
    }

    fn decode_binary(&self, bytes: &[u8]) -> Option<String> {
        // Packed by turning every byte's bits around; whoever starts with 0 is raw.
        let packed = bytes.strip_prefix(&[PACKED])?;
        String::from_utf8(packed.iter().map(|byte| !byte).collect()).ok()
    }

    fn is_server_ping(&self, text: &str) -> bool {
        parse(text)["op"] == "ping"
    }

    fn is_pong_response(&self, text: &str) -> bool {
        parse(text)["op"] == "pong"
    }

    fn is_subscription_success(&self, text: &str) -> bool {
        parse(text)["error"].is_null()
    }

    fn route<'m>(&self, message: &'m WsMessage) -> Route<'m> {
        let Some(text) = message.as_text() else { return Route::Event(MessageKind::Unknown) };
        if self.panic_at.is_some_and(|part| text.contains(part)) {
            panic!("the handler was made to panic");
        }
        if self.is_server_ping(text) {
            return Route::Ping;
        }
        if self.is_pong_response(text) {
            return Route::Pong;
        }
        match (self.classify_message(text), self.extract_topic(text), parse(text)["id"].as_u64()) {
            (MessageKind::Update, Some(topic), _) => {
                Route::Update { topic: Cow::Owned(topic.as_str().to_owned()) }
            }
            (MessageKind::Response, _, Some(id)) => {
                Route::Response { id: RouteId::Number(id), body: body(text) }
            }
            (kind, ..) => Route::Event(kind),
        }
    }
}

/// The server writes these two fields last.
fn body(text: &str) -> ResponseBody<'_> {
    let part = |field: &str| {
        let start = text.find(field)? + field.len();
        text.get(start..text.len() - 1)
    };
    match (part(r#""error":"#), part(r#""result":"#)) {
        (Some(error), _) => ResponseBody::Error(error),
        (None, Some(result)) => ResponseBody::Result(result),
        (None, None) => ResponseBody::Whole,
    }
}

fn topic_message(op: &str, topics: &[Topic], id: &RequestId) -> WsMessage {
    let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
    WsMessage::text(json!({"op": op, "id": id.as_number(), "topics": names}).to_string())
}

pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// As [`Dialect::decode_binary`] unpacks it.
pub(crate) fn pack(text: &str) -> Vec<u8> {
    std::iter::once(PACKED).chain(text.bytes().map(|byte| !byte)).collect()
}

const PACKED: u8 = 1;

//! The language of the mock exchange, and the handler that speaks it.

use std::{borrow::Cow, fmt};

use hpx_transport::websocket::{MessageKind, ProtocolHandler, RequestId, Topic, WsMessage};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json};

use crate::plan::HandlerPlan;

/// The exchange's side of a protocol: the counterpart of a [`ProtocolHandler`].
///
/// The exchange and the oracles read a client's messages through it, and the exchange words its own. The default is
/// [`SimDialect`]; a handler for another API brings its own.
pub trait Dialect: Send + Sync + 'static {
    /// What a client's message means.
    fn read(&self, text: &str) -> Heard;

    /// The payload of a request that carries `label`, before the handler puts its id in. The exchange is to answer it
    /// `reply_after_ms` later.
    fn request(&self, label: u64, reply_after_ms: u64) -> String;

    /// A message nobody answers.
    fn message(&self, label: u64) -> String;

    /// The authentication is accepted.
    fn auth_accepted(&self) -> String;

    /// The authentication is turned down. `None`: the dialect has no word for it, and the exchange is silent.
    fn auth_rejected(&self) -> Option<String> {
        None
    }

    /// The reply to a subscribe or unsubscribe message, if there is one.
    fn acknowledge(&self, id: &Value) -> Option<String>;

    /// The reply to a request. It carries the label and the exchange's number of the connection.
    fn reply(&self, id: &Value, label: u64, conn: u64) -> String;

    /// A push on a topic, with the topic's running number and the exchange's number of the connection.
    fn push(&self, topic: &str, sequence: u64, conn: u64) -> String;

    /// Label and connection of a reply.
    fn read_reply(&self, text: &str) -> Option<(u64, u64)>;

    /// Topic of a push. `None`: the dialect can't tell, and nobody checks what a slow guard has missed (WS-15).
    fn read_topic(&self, text: &str) -> Option<String> {
        let _ = text;
        None
    }

    /// Running number and connection of a push.
    fn read_push(&self, text: &str) -> Option<(u64, u64)>;
}

/// What a client's message means to the exchange.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It authenticates.
    Auth,
    /// It subscribes.
    Subscribe {
        /// The id to answer, null if there is none.
        id: Value,
        /// To these.
        topics: Vec<String>,
    },
    /// It ends subscriptions.
    Unsubscribe {
        /// The id to answer, null if there is none.
        id: Value,
        /// To these.
        topics: Vec<String>,
    },
    /// It asks.
    Request {
        /// The id to answer.
        id: Value,
        /// The workload's number of it.
        label: u64,
        /// How long the answer is to take.
        reply_after_ms: u64,
    },
    /// It says something.
    Message {
        /// The workload's number of it.
        label: u64,
    },
    /// None of these.
    Other,
}

/// The default dialect: flat JSON objects.
///
/// ```text
/// -> {"op":"auth"}                              <- {"auth":"ok"}
/// -> {"op":"sub","id":1,"topics":["t1"]}        <- {"id":1,"ack":true}
/// -> {"id":2,"op":"req","label":7,"after":50}   <- {"id":2,"label":7,"conn":3}
/// -> {"op":"msg","label":8}                     <- {"topic":"t1","seq":4,"conn":3}
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SimDialect;

impl Dialect for SimDialect {
    fn read(&self, text: &str) -> Heard {
        let Ok(words) = serde_json::from_str::<Words<'_>>(text) else { return Heard::Other };
        let (id, topics) = (words.id.to_value(), words.topics.texts());
        let label = words.label.number().unwrap_or_default();
        match words.op.text() {
            Some("auth") => Heard::Auth,
            Some("sub") => Heard::Subscribe { id, topics },
            Some("unsub") => Heard::Unsubscribe { id, topics },
            Some("req") => {
                Heard::Request { id, label, reply_after_ms: words.after.number().unwrap_or_default() }
            }
            Some("msg") => Heard::Message { label },
            _ => Heard::Other,
        }
    }

    fn request(&self, label: u64, reply_after_ms: u64) -> String {
        format!(r#"{{"after":{reply_after_ms},"label":{label},"op":"req"}}"#)
    }

    fn message(&self, label: u64) -> String {
        format!(r#"{{"label":{label},"op":"msg"}}"#)
    }

    fn auth_accepted(&self) -> String {
        r#"{"auth":"ok"}"#.to_owned()
    }

    fn auth_rejected(&self) -> Option<String> {
        Some(json!({"auth": "no"}).to_string())
    }

    fn acknowledge(&self, id: &Value) -> Option<String> {
        Some(format!(r#"{{"ack":true,"id":{id}}}"#))
    }

    fn reply(&self, id: &Value, label: u64, conn: u64) -> String {
        format!(r#"{{"conn":{conn},"id":{id},"label":{label}}}"#)
    }

    fn push(&self, topic: &str, sequence: u64, conn: u64) -> String {
        // A topic may hold what JSON escapes.
        format!(r#"{{"conn":{conn},"seq":{sequence},"topic":{}}}"#, Value::from(topic))
    }

    fn read_reply(&self, text: &str) -> Option<(u64, u64)> {
        let words: Words<'_> = serde_json::from_str(text).ok()?;
        Some((words.label.number()?, words.conn.number()?))
    }

    fn read_topic(&self, text: &str) -> Option<String> {
        let words: Words<'_> = serde_json::from_str(text).ok()?;
        words.topic.text().map(str::to_owned)
    }

    fn read_push(&self, text: &str) -> Option<(u64, u64)> {
        let words: Words<'_> = serde_json::from_str(text).ok()?;
        Some((words.seq.number()?, words.conn.number()?))
    }
}

/// A message, as far as the dialect goes. Every message is read by several who watch, so nothing of it is copied, and a field
/// of another type than it should be is no error: bytes of it may have been changed on the way.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Words<'a> {
    #[serde(borrow)]
    op: Word<'a>,
    id: Word<'a>,
    topic: Word<'a>,
    topics: Word<'a>,
    auth: Word<'a>,
    label: Word<'a>,
    after: Word<'a>,
    conn: Word<'a>,
    seq: Word<'a>,
}

/// The value of a field.
#[derive(Default)]
enum Word<'a> {
    #[default]
    Absent,
    Number(u64),
    Text(Cow<'a, str>),
    List(Vec<Word<'a>>),
    Other,
}

impl Word<'_> {
    fn is_there(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    fn number(&self) -> Option<u64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn texts(&self) -> Vec<String> {
        let Self::List(words) = self else { return Vec::new() };
        words.iter().filter_map(|word| word.text().map(str::to_owned)).collect()
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Number(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_ref()),
            _ => Value::Null,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyWord)
    }
}

struct AnyWord;

impl<'de> Visitor<'de> for AnyWord {
    type Value = Word<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Word::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Word::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Word::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Word::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Word::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Word::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Word::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(Word::List(words))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Word::Other)
    }
}

/// The client's side of [`SimDialect`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SimHandler;

impl ProtocolHandler for SimHandler {
    fn classify_message(&self, text: &str) -> MessageKind {
        let Ok(words) = serde_json::from_str::<Words<'_>>(text) else { return MessageKind::Unknown };
        if words.id.is_there() {
            MessageKind::Response
        } else if words.topic.is_there() {
            MessageKind::Update
        } else {
            MessageKind::System
        }
    }

    fn extract_request_id(&self, text: &str) -> Option<RequestId> {
        let words: Words<'_> = serde_json::from_str(text).ok()?;
        match &words.id {
            Word::Text(id) => Some(RequestId::text(id.as_ref())),
            id => RequestId::number(id.number()?),
        }
    }

    fn extract_topic(&self, text: &str) -> Option<Topic> {
        let words: Words<'_> = serde_json::from_str(text).ok()?;
        words.topic.text().map(Topic::from)
    }

    fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        about_topics("sub", topics, &id)
    }

    fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        about_topics("unsub", topics, &id)
    }

    fn build_auth_message(&self) -> Option<WsMessage> {
        Some(WsMessage::text(json!({"op": "auth"}).to_string()))
    }

    fn is_auth_success(&self, text: &str) -> bool {
        serde_json::from_str::<Words<'_>>(text).is_ok_and(|words| words.auth.text() == Some("ok"))
    }

    fn is_auth_failure(&self, text: &str) -> bool {
        serde_json::from_str::<Value>(text).is_ok_and(|value| value["auth"] == "no")
    }
}

fn about_topics(op: &str, topics: &[Topic], id: &RequestId) -> WsMessage {
    let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
    let id = id.as_number().map_or_else(|| Value::from(id.to_string()), Value::from);
    WsMessage::text(json!({"op": op, "id": id, "topics": names}).to_string())
}

/// A [`SimHandler`] as a plan wants it.
pub(crate) struct PlannedHandler(pub(crate) HandlerPlan);

impl ProtocolHandler for PlannedHandler {
    fn classify_message(&self, text: &str) -> MessageKind {
        SimHandler.classify_message(text)
    }

    fn extract_request_id(&self, text: &str) -> Option<RequestId> {
        SimHandler.extract_request_id(text)
    }

    fn extract_topic(&self, text: &str) -> Option<Topic> {
        SimHandler.extract_topic(text)
    }

    fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        SimHandler.build_subscribe(topics, id)
    }

    fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        SimHandler.build_unsubscribe(topics, id)
    }

    fn build_auth_message(&self) -> Option<WsMessage> {
        SimHandler.build_auth_message()
    }

    fn is_auth_success(&self, text: &str) -> bool {
        SimHandler.is_auth_success(text)
    }

    fn is_auth_failure(&self, text: &str) -> bool {
        SimHandler.is_auth_failure(text)
    }

    fn generate_request_id(&self, sequence: u64) -> RequestId {
        match self.0.text_ids {
            true => RequestId::text(format!("r{sequence}")),
            false => SimHandler.generate_request_id(sequence),
        }
    }

    fn topics_per_message(&self) -> usize {
        self.0.topics_per_message
    }
}

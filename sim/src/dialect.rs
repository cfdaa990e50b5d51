//! The language of the mock exchange, and the handler that speaks it.

use hpx_transport::websocket::{MessageKind, ProtocolHandler, RequestId, Topic, WsMessage};
use serde_json::{Value, json};

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
        let Ok(value) = serde_json::from_str::<Value>(text) else { return Heard::Other };
        let id = value["id"].clone();
        let topics = || {
            let names = value["topics"].as_array().into_iter().flatten();
            names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        let label = value["label"].as_u64().unwrap_or_default();
        match value["op"].as_str() {
            Some("auth") => Heard::Auth,
            Some("sub") => Heard::Subscribe { id, topics: topics() },
            Some("unsub") => Heard::Unsubscribe { id, topics: topics() },
            Some("req") => {
                Heard::Request { id, label, reply_after_ms: value["after"].as_u64().unwrap_or_default() }
            }
            Some("msg") => Heard::Message { label },
            _ => Heard::Other,
        }
    }

    fn request(&self, label: u64, reply_after_ms: u64) -> String {
        json!({"op": "req", "label": label, "after": reply_after_ms}).to_string()
    }

    fn message(&self, label: u64) -> String {
        json!({"op": "msg", "label": label}).to_string()
    }

    fn auth_accepted(&self) -> String {
        json!({"auth": "ok"}).to_string()
    }

    fn auth_rejected(&self) -> Option<String> {
        Some(json!({"auth": "no"}).to_string())
    }

    fn acknowledge(&self, id: &Value) -> Option<String> {
        Some(json!({"id": id, "ack": true}).to_string())
    }

    fn reply(&self, id: &Value, label: u64, conn: u64) -> String {
        json!({"id": id, "label": label, "conn": conn}).to_string()
    }

    fn push(&self, topic: &str, sequence: u64, conn: u64) -> String {
        json!({"topic": topic, "seq": sequence, "conn": conn}).to_string()
    }

    fn read_reply(&self, text: &str) -> Option<(u64, u64)> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some((value["label"].as_u64()?, value["conn"].as_u64()?))
    }

    fn read_push(&self, text: &str) -> Option<(u64, u64)> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some((value["seq"].as_u64()?, value["conn"].as_u64()?))
    }
}

/// The client's side of [`SimDialect`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SimHandler;

impl ProtocolHandler for SimHandler {
    fn classify_message(&self, text: &str) -> MessageKind {
        let Ok(value) = serde_json::from_str::<Value>(text) else { return MessageKind::Unknown };
        if value.get("id").is_some() {
            MessageKind::Response
        } else if value.get("topic").is_some() {
            MessageKind::Update
        } else {
            MessageKind::System
        }
    }

    fn extract_request_id(&self, text: &str) -> Option<RequestId> {
        let value: Value = serde_json::from_str(text).ok()?;
        RequestId::number(value["id"].as_u64()?)
    }

    fn extract_topic(&self, text: &str) -> Option<Topic> {
        let value: Value = serde_json::from_str(text).ok()?;
        value["topic"].as_str().map(Topic::from)
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
        serde_json::from_str::<Value>(text).is_ok_and(|value| value["auth"] == "ok")
    }

    fn is_auth_failure(&self, text: &str) -> bool {
        serde_json::from_str::<Value>(text).is_ok_and(|value| value["auth"] == "no")
    }
}

fn about_topics(op: &str, topics: &[Topic], id: &RequestId) -> WsMessage {
    let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
    WsMessage::text(json!({"op": op, "id": id.as_number(), "topics": names}).to_string())
}

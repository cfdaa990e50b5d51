//! [`GenericJsonHandler`]: an id field, a topic field, an operation field, by whatever names.

use std::{borrow::Cow, fmt, sync::Arc};

use serde_json::Value;

use super::{
    condition::{Condition, Mark, all_hold},
    envelope::{Fields, Id, Malformed, field, topic_of},
    parts,
    write::{message, payload_fields, write_fields, write_text, write_topics},
};
use crate::{
    error::TransportResult,
    websocket::{
        event::MessageKind,
        message::{RequestId, Topic, WsMessage},
        protocol::{ProtocolHandler, ResponseBody, Route, write_id},
    },
};

/// Speaks the JSON of APIs whose replies repeat an id and whose updates name a topic.
///
/// Checked in this order, wherever in the message the fields stand:
///
/// | message | route |
/// |---|---|
/// | what [`server_ping_text`](Self::server_ping_text) or [`server_ping_when`](Self::server_ping_when) describe | ping |
/// | what [`pong_text`](Self::pong_text) or [`pong_when`](Self::pong_when) describe | pong |
/// | an id | reply |
/// | a topic | update |
/// | any other object | [`MessageKind::System`] |
/// | the rest | [`MessageKind::Unknown`] |
///
/// The pass ends early in two cases, and what follows is not looked at: at the id, if neither result, error, ping nor pong
/// fields are set; at the topic, with [`topic_decides`](Self::topic_decides).
///
/// A request is any JSON object; the id is put in front of its fields. It must not bring an id itself.
///
/// ```
/// use hpx_transport::websocket::{
///     ProtocolHandler, RequestId, ResponseBody, Route, RouteId, Topic, WsMessage, handlers::GenericJsonHandler,
/// };
///
/// let handler = GenericJsonHandler::new().id_field("req_id").result_field("data").error_field("error");
///
/// let message = handler.build_subscribe(&[Topic::from("trades.BTC")], RequestId::from(7));
/// assert_eq!(message.as_text(), Some(r#"{"op":"subscribe","args":["trades.BTC"],"req_id":7}"#));
///
/// let reply = WsMessage::text(r#"{"req_id":8,"data":[1,2]}"#);
/// let route = handler.route(&reply);
/// assert_eq!(route, Route::Response { id: RouteId::Number(8), body: ResponseBody::Result("[1,2]") });
/// ```
#[derive(Clone)]
pub struct GenericJsonHandler {
    id_field: Box<str>,
    topic_fields: Box<[Box<str>]>,
    topic_decides: bool,
    result_field: Option<Box<str>>,
    error_field: Option<Box<str>>,
    op_field: Box<str>,
    args_field: Box<str>,
    subscribe_op: Box<str>,
    unsubscribe_op: Box<str>,
    topics_per_message: usize,
    auth: Option<Arc<MakeMessage>>,
    auth_accepted: Vec<Condition>,
    auth_rejected: Vec<Condition>,
    ping: Option<WsMessage>,
    answer: Option<WsMessage>,
    server_ping: Mark,
    pong: Mark,
}

type MakeMessage = dyn Fn() -> Option<WsMessage> + Send + Sync;

impl GenericJsonHandler {
    /// The handler with its defaults: id field `id`, topic field `topic`, the whole reply as the answer, and
    /// `{"op":"subscribe","args":[..],"id":..}` to subscribe.
    pub fn new() -> Self {
        Self {
            id_field: "id".into(),
            topic_fields: ["topic".into()].into(),
            topic_decides: false,
            result_field: None,
            error_field: None,
            op_field: "op".into(),
            args_field: "args".into(),
            subscribe_op: "subscribe".into(),
            unsubscribe_op: "unsubscribe".into(),
            topics_per_message: parts::TOPICS_PER_MESSAGE,
            auth: None,
            auth_accepted: Vec::new(),
            auth_rejected: Vec::new(),
            ping: None,
            answer: None,
            server_ping: Mark::default(),
            pong: Mark::default(),
        }
    }

    /// The field that holds the id, in requests and replies; default `id`.
    pub fn id_field(mut self, field: &str) -> Self {
        self.id_field = field.into();
        self
    }

    /// The fields that may name the topic of an update; default `topic`. Of several in one message the first there that
    /// holds a text or a whole number counts.
    pub fn topic_fields<'a>(mut self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        self.topic_fields = fields.into_iter().map(Box::from).collect();
        self
    }

    /// Takes every message that names a topic for an update, whatever else it has. For an API whose updates have ids of
    /// their own; also the faster way, since nothing behind the topic is read.
    pub fn topic_decides(mut self) -> Self {
        self.topic_decides = true;
        self
    }

    /// The field of a reply that is the answer. Without one, or in a reply that lacks it, the whole reply is.
    pub fn result_field(mut self, field: &str) -> Self {
        self.result_field = Some(field.into());
        self
    }

    /// The field whose presence, other than as `null`, makes a reply an error.
    pub fn error_field(mut self, field: &str) -> Self {
        self.error_field = Some(field.into());
        self
    }

    /// The field that names the operation in subscribe and unsubscribe messages; default `op`.
    pub fn op_field(mut self, field: &str) -> Self {
        self.op_field = field.into();
        self
    }

    /// The field that lists the topics in subscribe and unsubscribe messages; default `args`.
    pub fn args_field(mut self, field: &str) -> Self {
        self.args_field = field.into();
        self
    }

    /// The operation that subscribes; default `subscribe`.
    pub fn subscribe_op(mut self, op: &str) -> Self {
        self.subscribe_op = op.into();
        self
    }

    /// The operation that ends subscriptions; default `unsubscribe`.
    pub fn unsubscribe_op(mut self, op: &str) -> Self {
        self.unsubscribe_op = op.into();
        self
    }

    /// The most topics one subscribe message may name; default 100, and at least 1.
    pub fn max_topics_per_message(mut self, topics: usize) -> Self {
        self.topics_per_message = topics.max(1);
        self
    }

    /// Authenticates every new link with what `make` returns, called once per link so that each gets a fresh token. `None`
    /// from it: the link needs none. Set [`auth_accepted_when`](Self::auth_accepted_when) too, or no answer is accepted and
    /// authentication times out.
    ///
    /// ```
    /// use hpx_transport::websocket::{ProtocolHandler, WsMessage, handlers::GenericJsonHandler};
    ///
    /// let handler = GenericJsonHandler::new()
    ///     .auth(|| Some(WsMessage::text(r#"{"op":"auth","args":["a fresh token"]}"#)))
    ///     .auth_accepted_when("op", "auth")
    ///     .auth_accepted_when("success", true)
    ///     .auth_rejected_when("success", false);
    /// assert!(handler.is_auth_success(r#"{"op":"auth","success":true}"#));
    /// assert!(handler.is_auth_failure(r#"{"op":"auth","success":false}"#));
    /// assert!(!format!("{handler:?}").contains("token"));
    /// ```
    pub fn auth(mut self, make: impl Fn() -> Option<WsMessage> + Send + Sync + 'static) -> Self {
        self.auth = Some(Arc::new(make));
        self
    }

    /// Accepts the authentication on a message whose `field` is `value`: a text, a number written the same way, a boolean
    /// or null. Called again, all of the fields must be as given.
    pub fn auth_accepted_when(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.auth_accepted.push(Condition::new(field, value.into()));
        self
    }

    /// Rejects the authentication, and so ends the connection, on a message whose `field` is `value`. Called again, all of
    /// the fields must be as given.
    pub fn auth_rejected_when(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.auth_rejected.push(Condition::new(field, value.into()));
        self
    }

    /// The text of the ping sent every `ping_interval` when `use_websocket_ping` is off.
    ///
    /// ```
    /// use hpx_transport::websocket::{ProtocolHandler, handlers::GenericJsonHandler};
    ///
    /// let handler = GenericJsonHandler::new().ping(r#"{"op":"ping"}"#).pong_when("op", "pong");
    /// assert!(handler.is_pong_response(r#"{"ts":1,"op":"pong"}"#));
    /// ```
    pub fn ping(mut self, text: &str) -> Self {
        self.ping = Some(WsMessage::text(text));
        self
    }

    /// The exact text that answers our ping.
    pub fn pong_text(mut self, text: &str) -> Self {
        self.pong.text = Some(text.into());
        self
    }

    /// The field and value of a message that answers our ping.
    pub fn pong_when(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.pong.condition = Some(Condition::new(field, value.into()));
        self
    }

    /// The exact text of the peer's ping.
    pub fn server_ping_text(mut self, text: &str) -> Self {
        self.server_ping.text = Some(text.into());
        self
    }

    /// The field and value of a message that is the peer's ping.
    pub fn server_ping_when(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.server_ping.condition = Some(Condition::new(field, value.into()));
        self
    }

    /// The text that answers the peer's ping. Without one its pings go unanswered, and reach nobody.
    pub fn answer_ping(mut self, text: &str) -> Self {
        self.answer = Some(WsMessage::text(text));
        self
    }

    fn read<'m>(&self, text: &'m str) -> Route<'m> {
        if self.server_ping.is_text(text) {
            Route::Ping
        } else if self.pong.is_text(text) {
            Route::Pong
        } else {
            self.pass(text).unwrap_or(Route::Event(MessageKind::Unknown))
        }
    }

    /// The one pass over a message.
    fn pass<'m>(&self, text: &'m str) -> Result<Route<'m>, Malformed> {
        let id_decides = !self.topic_decides
            && self.result_field.is_none()
            && self.error_field.is_none()
            && self.server_ping.condition.is_none()
            && self.pong.condition.is_none();
        let mut fields = Fields::of(text)?;
        let mut seen = Seen::default();
        while let Some(name) = fields.next_name()? {
            self.note(&name, fields.value()?, &mut seen);
            if (id_decides && seen.has_id()) || (self.topic_decides && seen.topic.is_some()) {
                return Ok(self.decide(seen));
            }
        }
        fields.finish()?;
        Ok(self.decide(seen))
    }

    /// Notes what one field tells. It may tell several things; of fields of the same name the first counts.
    fn note<'m>(&self, name: &str, value: &'m str, seen: &mut Seen<'m>) {
        if seen.id.is_none() && *name == *self.id_field {
            seen.id = Some(Id::of(value));
        }
        if seen.topic.is_none() && self.topic_fields.iter().any(|field| **field == *name) {
            seen.topic = topic_of(value);
        }
        if seen.result.is_none() && self.result_field.as_deref() == Some(name) {
            seen.result = Some(value);
        }
        if seen.error.is_none() && self.error_field.as_deref() == Some(name) {
            seen.error = Some(value);
        }
        if seen.ping.is_none() {
            seen.ping = self.server_ping.holds(name, value);
        }
        if seen.pong.is_none() {
            seen.pong = self.pong.holds(name, value);
        }
    }

    fn decide<'m>(&self, seen: Seen<'m>) -> Route<'m> {
        if self.topic_decides
            && let Some(topic) = seen.topic
        {
            return Route::Update { topic };
        }
        if seen.ping == Some(true) {
            return Route::Ping;
        }
        if seen.pong == Some(true) {
            return Route::Pong;
        }
        let body = match (seen.error.filter(|error| *error != "null"), seen.result) {
            (Some(error), _) => ResponseBody::Error(error),
            (None, Some(result)) => ResponseBody::Result(result),
            (None, None) => ResponseBody::Whole,
        };
        match (seen.id, seen.topic) {
            (Some(Id::Ours(id)), _) => Route::Response { id, body },
            (Some(Id::Foreign), _) => Route::Event(MessageKind::Unknown),
            (None | Some(Id::Null), Some(topic)) => Route::Update { topic },
            (None | Some(Id::Null), None) => Route::Event(MessageKind::System),
        }
    }

    fn topic_message(&self, op: &str, topics: &[Topic], id: &RequestId) -> WsMessage {
        let mut out = vec![b'{'];
        write_text(&self.op_field, &mut out);
        out.push(b':');
        write_text(op, &mut out);
        out.push(b',');
        write_text(&self.args_field, &mut out);
        out.push(b':');
        write_topics(topics, &mut out);
        out.push(b',');
        write_text(&self.id_field, &mut out);
        out.push(b':');
        write_id(id, &mut out);
        out.push(b'}');
        message(out)
    }
}

impl Default for GenericJsonHandler {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells that there is an authentication message and not what it says: it holds a credential. Pings may too.
impl fmt::Debug for GenericJsonHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenericJsonHandler")
            .field("id_field", &self.id_field)
            .field("topic_fields", &self.topic_fields)
            .field("topic_decides", &self.topic_decides)
            .field("result_field", &self.result_field)
            .field("error_field", &self.error_field)
            .field("auth", &self.auth.is_some())
            .field("ping", &self.ping.is_some())
            .finish_non_exhaustive()
    }
}

impl ProtocolHandler for GenericJsonHandler {
    fn classify_message(&self, text: &str) -> MessageKind {
        parts::kind(&self.read(text))
    }

    fn extract_request_id(&self, text: &str) -> Option<RequestId> {
        parts::request_id(self.read(text))
    }

    fn extract_topic(&self, text: &str) -> Option<Topic> {
        parts::topic(self.read(text))
    }

    fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        self.topic_message(&self.subscribe_op, topics, &id)
    }

    fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        self.topic_message(&self.unsubscribe_op, topics, &id)
    }

    fn build_auth_message(&self) -> Option<WsMessage> {
        self.auth.as_ref().and_then(|make| make())
    }

    fn is_auth_success(&self, text: &str) -> bool {
        all_hold(&self.auth_accepted, text)
    }

    fn is_auth_failure(&self, text: &str) -> bool {
        all_hold(&self.auth_rejected, text)
    }

    fn build_ping(&self) -> Option<WsMessage> {
        self.ping.clone()
    }

    fn build_pong(&self, _ping: &[u8]) -> Option<WsMessage> {
        self.answer.clone()
    }

    fn is_server_ping(&self, text: &str) -> bool {
        self.read(text) == Route::Ping
    }

    fn is_pong_response(&self, text: &str) -> bool {
        self.read(text) == Route::Pong
    }

    fn is_subscription_success(&self, text: &str) -> bool {
        let error = self.error_field.as_deref().and_then(|name| field(text, name));
        error.is_none_or(|error| error == "null")
    }

    fn inject_request_id(&self, payload: &str, id: &RequestId) -> TransportResult<String> {
        parts::inject(self, payload, id)
    }

    fn topics_per_message(&self) -> usize {
        self.topics_per_message
    }

    fn route<'m>(&self, message: &'m WsMessage) -> Route<'m> {
        message.as_text().map_or(Route::Event(MessageKind::Unknown), |text| self.read(text))
    }

    fn encode_request(&self, id: &RequestId, payload: &WsMessage, out: &mut Vec<u8>) -> TransportResult<()> {
        let fields = payload_fields(payload)?;
        out.push(b'{');
        write_text(&self.id_field, out);
        out.push(b':');
        write_id(id, out);
        write_fields(fields, out);
        Ok(())
    }
}

/// What a pass has found.
#[derive(Default)]
struct Seen<'m> {
    id: Option<Id<'m>>,
    topic: Option<Cow<'m, str>>,
    result: Option<&'m str>,
    error: Option<&'m str>,
    ping: Option<bool>,
    pong: Option<bool>,
}

impl Seen<'_> {
    fn has_id(&self) -> bool {
        !matches!(self.id, None | Some(Id::Null))
    }
}

//! [`JsonRpcHandler`]: JSON-RPC 2.0.

use std::borrow::Cow;

use super::{
    envelope::{Fields, Id, Malformed, field, text_of, topic_of},
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

/// Speaks JSON-RPC 2.0, with subscriptions as its common extension.
///
/// | message | route |
/// |---|---|
/// | an `id` and an `error` other than `null` | reply: the error |
/// | an `id` and a `result` | reply: the result |
/// | no `id`, a `method`, and a topic in `params` | update |
/// | any other with a `method`, requests of the peer too | [`MessageKind::System`] |
/// | the rest | [`MessageKind::Unknown`] |
///
/// The topic is the first field of `params` called `channel` or `subscription` that holds a text or a whole number;
/// [`topic_fields`](Self::topic_fields) and [`topic_from_method`](Self::topic_from_method) change that. Where `method` and
/// topic come before any `id`, as they do in notifications, the pass ends there: an `id` behind them goes unseen.
///
/// A request is an object with `method` and, as the API wants, `params`; `jsonrpc` and `id` are put in front of them. It
/// may bring `jsonrpc` itself as its first field. It must not bring an `id`.
///
/// ```
/// use hpx_transport::websocket::{ProtocolHandler, RequestId, Topic, WsMessage, handlers::JsonRpcHandler};
///
/// let handler = JsonRpcHandler::new().subscribe_method("public/subscribe");
/// let message = handler.build_subscribe(&[Topic::from("trades.BTC")], RequestId::from(7));
/// assert_eq!(
///     message.as_text(),
///     Some(r#"{"jsonrpc":"2.0","id":7,"method":"public/subscribe","params":{"channels":["trades.BTC"]}}"#)
/// );
///
/// let mut request = Vec::new();
/// let payload = WsMessage::text(r#"{"method":"public/get_time"}"#);
/// handler.encode_request(&RequestId::from(8), &payload, &mut request)?;
/// assert_eq!(request, br#"{"jsonrpc":"2.0","id":8,"method":"public/get_time"}"#);
/// # Ok::<(), hpx_transport::websocket::TransportError>(())
/// ```
#[derive(Debug, Clone)]
pub struct JsonRpcHandler {
    subscribe_method: Box<str>,
    unsubscribe_method: Box<str>,
    /// The member of `params` that lists topics. `None`: `params` is the list.
    params_field: Option<Box<str>>,
    topic_fields: Box<[Box<str>]>,
    topic_from_method: bool,
    topics_per_message: usize,
}

impl JsonRpcHandler {
    /// The handler with its defaults: methods `subscribe` and `unsubscribe` with params `{"channels":[..]}`.
    pub fn new() -> Self {
        Self {
            subscribe_method: "subscribe".into(),
            unsubscribe_method: "unsubscribe".into(),
            params_field: Some("channels".into()),
            topic_fields: ["channel".into(), "subscription".into()].into(),
            topic_from_method: false,
            topics_per_message: parts::TOPICS_PER_MESSAGE,
        }
    }

    /// The method that subscribes; default `subscribe`.
    pub fn subscribe_method(mut self, method: &str) -> Self {
        self.subscribe_method = method.into();
        self
    }

    /// The method that ends subscriptions; default `unsubscribe`.
    pub fn unsubscribe_method(mut self, method: &str) -> Self {
        self.unsubscribe_method = method.into();
        self
    }

    /// The member of `params` that lists the topics to subscribe to; default `channels`.
    pub fn params_field(mut self, field: &str) -> Self {
        self.params_field = Some(field.into());
        self
    }

    /// Makes `params` itself the list of topics to subscribe to.
    pub fn params_array(mut self) -> Self {
        self.params_field = None;
        self
    }

    /// The members of a notification's `params` that may name its topic; default `channel` and `subscription`. Of several
    /// in one message the first there counts.
    pub fn topic_fields<'a>(mut self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        self.topic_fields = fields.into_iter().map(Box::from).collect();
        self
    }

    /// Takes the method of a notification for its topic where `params` names none.
    pub fn topic_from_method(mut self) -> Self {
        self.topic_from_method = true;
        self
    }

    /// The most topics one subscribe message may name; default 100, and at least 1.
    pub fn max_topics_per_message(mut self, topics: usize) -> Self {
        self.topics_per_message = topics.max(1);
        self
    }

    fn read<'m>(&self, text: &'m str) -> Route<'m> {
        self.pass(text).unwrap_or(Route::Event(MessageKind::Unknown))
    }

    /// The one pass over a message.
    fn pass<'m>(&self, text: &'m str) -> Result<Route<'m>, Malformed> {
        let mut fields = Fields::of(text)?;
        let mut seen = Seen::default();
        while let Some(name) = fields.next_name()? {
            if name == "params" && !seen.params {
                seen.params = true;
                seen.topic = fields.nested().and_then(|params| self.topic_in(params));
            }
            if let Some(topic) = seen.take_notified_topic() {
                return Ok(Route::Update { topic });
            }
            let value = fields.value()?;
            // Of fields of the same name the first counts.
            match &*name {
                "id" if seen.id.is_none() => seen.id = Some(Id::of(value)),
                "result" if seen.result.is_none() => seen.result = Some(value),
                "error" if seen.error.is_none() => seen.error = Some(value),
                "method" if seen.method.is_none() => seen.method = Some(value),
                _ => {}
            }
        }
        fields.finish()?;
        Ok(self.decide(seen))
    }

    /// The topic that `params` names. Damage is found by the pass over the whole.
    fn topic_in<'m>(&self, mut params: Fields<'m>) -> Option<Cow<'m, str>> {
        while let Ok(Some(name)) = params.next_name() {
            let value = params.value().ok()?;
            if self.topic_fields.iter().any(|field| **field == *name)
                && let Some(topic) = topic_of(value)
            {
                return Some(topic);
            }
        }
        None
    }

    fn decide<'m>(&self, seen: Seen<'m>) -> Route<'m> {
        let method = seen.method.and_then(text_of);
        let body = match (seen.error.filter(|error| *error != "null"), seen.result) {
            (Some(error), _) => Some(ResponseBody::Error(error)),
            (None, result) => result.map(ResponseBody::Result),
        };
        match (seen.id.unwrap_or(Id::Null), body, method) {
            (Id::Ours(id), Some(body), _) => Route::Response { id, body },
            (Id::Foreign, _, _) | (_, _, None) => Route::Event(MessageKind::Unknown),
            (Id::Ours(_), None, Some(_)) => Route::Event(MessageKind::System),
            (Id::Null, _, Some(method)) => match seen.topic {
                Some(topic) => Route::Update { topic },
                None if self.topic_from_method => Route::Update { topic: method },
                None => Route::Event(MessageKind::System),
            },
        }
    }

    /// Appends all of a request but its fields and closing brace.
    fn write_head(id: &RequestId, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        write_id(id, out);
    }

    fn topic_message(&self, method: &str, topics: &[Topic], id: &RequestId) -> WsMessage {
        let mut out = Vec::new();
        Self::write_head(id, &mut out);
        out.extend_from_slice(br#","method":"#);
        write_text(method, &mut out);
        out.extend_from_slice(br#","params":"#);
        match &self.params_field {
            Some(field) => {
                out.push(b'{');
                write_text(field, &mut out);
                out.push(b':');
                write_topics(topics, &mut out);
                out.push(b'}');
            }
            None => write_topics(topics, &mut out),
        }
        out.push(b'}');
        message(out)
    }
}

impl Default for JsonRpcHandler {
    fn default() -> Self {
        Self::new()
    }
}

impl ProtocolHandler for JsonRpcHandler {
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
        self.topic_message(&self.subscribe_method, topics, &id)
    }

    fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        self.topic_message(&self.unsubscribe_method, topics, &id)
    }

    fn is_subscription_success(&self, text: &str) -> bool {
        field(text, "error").is_none_or(|error| error == "null")
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
        // A second `jsonrpc` makes strict peers refuse the request. One further back would cost a pass to find.
        if fields.starts_with(r#""jsonrpc""#) {
            out.extend_from_slice(br#"{"id":"#);
            write_id(id, out);
        } else {
            Self::write_head(id, out);
        }
        write_fields(fields, out);
        Ok(())
    }
}

/// What a pass has found.
#[derive(Default)]
struct Seen<'m> {
    id: Option<Id<'m>>,
    result: Option<&'m str>,
    error: Option<&'m str>,
    method: Option<&'m str>,
    params: bool,
    topic: Option<Cow<'m, str>>,
}

impl<'m> Seen<'m> {
    /// The topic, once it is known that the message is a notification. The specification gives those no id, so one that
    /// has not come yet is not waited for: what follows is the bulk of the message.
    fn take_notified_topic(&mut self) -> Option<Cow<'m, str>> {
        let notified = self.id.is_none() && self.method.is_some_and(|method| method.starts_with('"'));
        if notified { self.topic.take() } else { None }
    }
}

//! Both handlers against bytes no peer should send, and against a second reading of those it may.

use std::borrow::Cow;

use serde_json::Value;

use super::{GenericJsonHandler, JsonRpcHandler, tests::full};
use crate::websocket::{
    event::MessageKind,
    message::{RequestId, Topic, WsMessage},
    protocol::{ProtocolHandler, ResponseBody, Route, RouteId},
};

const UNKNOWN: Route<'static> = Route::Event(MessageKind::Unknown);

/// Knuth's MMIX generator: the same bytes in every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

#[test]
fn a_binary_message_is_unknown() {
    let message = WsMessage::binary(&br#"{"id":1,"result":1}"#[..]);
    assert_eq!(JsonRpcHandler::new().route(&message), UNKNOWN);
    assert_eq!(full().route(&message), UNKNOWN);
}

#[test]
fn a_fragment_bomb_is_unknown() {
    for handler in [&JsonRpcHandler::new() as &dyn ProtocolHandler, &full(), &GenericJsonHandler::new()] {
        let open = "[".repeat(1 << 20);
        let closed = format!("{open}{}", "]".repeat(1 << 20));
        let params = r#"{"a":"#.repeat(1 << 18);
        for text in [
            open.clone(),
            closed.clone(),
            params.clone(),
            format!(r#"{{"x":{open}"#),
            format!(r#"{{"method":"m","params":{params}"#),
            format!(r#"{{"x":{closed},"id":1,"result":1}}"#),
            format!(r#"{{"result":{closed},"id":1}}"#),
            "{\"".repeat(1 << 18),
            "\\".repeat(1 << 20),
        ] {
            assert_eq!(handler.route(&WsMessage::text(text.as_str())), UNKNOWN, "{}", &text[..16]);
        }
    }
}

#[test]
fn a_reply_that_breaks_off_anywhere_is_unknown() {
    for text in [
        r#"{"jsonrpc":"2.0","id":7,"result":{"a":[1,"\"}é"]}}"#,
        r#" {"error":{"code":1},"id":"7\n" , "x":-1.5}"#,
    ] {
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let message = WsMessage::text(&text[..end]);
            assert_eq!(JsonRpcHandler::new().route(&message), UNKNOWN);
            assert_eq!(full().route(&message), UNKNOWN);
        }
    }
}

#[test]
fn hostile_bytes_never_panic_and_every_reading_of_them_agrees() {
    let mut draws = Draws(7);
    let spice = br#"{}[]",:\ 017.-eEntu/"#;
    for text in SAMPLES {
        for end in 0..=text.len() {
            check_all(&String::from_utf8_lossy(&text.as_bytes()[..end]));
        }
        for _ in 0..3_000 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..=draws.below(4) {
                let at = draws.below(bytes.len());
                match draws.below(4) {
                    0 => bytes[at] = spice[draws.below(spice.len())],
                    1 => bytes.insert(at, spice[draws.below(spice.len())]),
                    2 => bytes[at] = draws.below(256) as u8,
                    _ if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            check_all(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn valid_json_is_routed_as_serde_json_reads_it() {
    let mut draws = Draws(11);
    for _ in 0..20_000 {
        let mut names = vec!["jsonrpc", "id", "result", "error", "method", "params", "x"];
        let mut fields = Vec::new();
        while !names.is_empty() && fields.len() < 5 {
            let name = names.remove(draws.below(names.len()));
            fields.push((name, draws.one_of(VALUES)));
        }
        let space = draws.one_of(&["", " ", "\n\t"]);
        let parts: Vec<String> =
            fields.iter().map(|(name, value)| format!(r#""{name}"{space}:{value}"#)).collect();
        let text = format!("{space}{{{}{space}}}", parts.join(&format!("{space},{space}")));
        let read: Value = serde_json::from_str(&text).unwrap();
        let place = |name: &str| fields.iter().position(|field| field.0 == name);
        let id_leads = place("id") < place("method").max(place("params"));
        let message = WsMessage::text(text.as_str());
        assert_eq!(JsonRpcHandler::new().route(&message), expected(&read, &fields, id_leads), "{text}");
    }
}

/// The table in [`JsonRpcHandler`]'s documentation, once more and at leisure.
fn expected<'a>(read: &'a Value, fields: &[(&str, &'a str)], id_leads: bool) -> Route<'a> {
    let written = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| field.1);
    let topic = read["params"]["channel"].as_str().filter(|_| read["method"].is_string());
    let id = match &read["id"] {
        Value::Number(id) => id.as_u64().filter(|id| *id < 1 << 53).map(RouteId::Number),
        Value::String(id) => Some(RouteId::Text(id.into())),
        _ => None,
    };
    let error = written("error").filter(|error| *error != "null").map(ResponseBody::Error);
    match (id, error.or(written("result").map(ResponseBody::Result)), topic) {
        (_, _, Some(topic)) if read["id"].is_null() || !id_leads => {
            Route::Update { topic: Cow::Borrowed(topic) }
        }
        (Some(id), Some(body), _) => Route::Response { id, body },
        (None, _, _) if !read["id"].is_null() => UNKNOWN,
        _ if read["method"].is_string() => Route::Event(MessageKind::System),
        _ => UNKNOWN,
    }
}

const VALUES: &[&str] = &[
    "7",
    "9007199254740991",
    "9007199254740992",
    "-1",
    "0.5",
    "1e3",
    "null",
    "true",
    r#""7""#,
    r#""a\u00e9\"b""#,
    r#""}],{""#,
    "[]",
    "{}",
    r#"[{"id":1},"]"]"#,
    r#"{"channel":"c"}"#,
    r#"{"a":{"channel":"no"},"channel":"c\\d","id":5}"#,
    r#"{ "id" : 1 , "channel" : [ "no" ] }"#,
];

const SAMPLES: &[&str] = &[
    r#"{"jsonrpc":"2.0","id":1048583,"result":{"a":[1,"x"],"id":2}}"#,
    r#"{"id":"a\u0062\"c","error":{"code":-1,"message":"no\\"},"result":null}"#,
    r#"{"jsonrpc":"2.0","method":"s","params":{"channel":"a\/b","data":{"id":1}}}"#,
    r#"{"params":{"subscription":5},"id":null,"method":"m"}"#,
    r#" { "channel" : "trades.é" , "id" : 1.5e3 , "result" : [ { } ] } "#,
    r#"{"op":"ping","id":7,"stream":"s","topic":"t"}"#,
    r#"{"op":"pong"}"#,
    r#"{"topic":7,"\u0069d":9007199254740991}"#,
    "ping",
];

fn check_all(text: &str) {
    check(JsonRpcHandler::new(), text);
    check(JsonRpcHandler::new().topic_from_method(), text);
    check(GenericJsonHandler::new(), text);
    check(GenericJsonHandler::new().topic_decides(), text);
    check(full(), text);
}

/// That the handler's route and the one made of its other methods are the same, and that what it cuts out of valid JSON is
/// valid JSON.
fn check(handler: impl ProtocolHandler, text: &str) {
    let message = WsMessage::text(text);
    let route = handler.route(&message);
    if let Route::Response { body: ResponseBody::Result(part) | ResponseBody::Error(part), .. } = &route {
        assert_eq!(part.trim_ascii(), *part, "{text}");
        let valid = serde_json::from_str::<Value>(text).is_ok();
        assert!(!valid || serde_json::from_str::<Value>(part).is_ok(), "{part} of {text}");
    }
    let route = match route {
        Route::Response { id, .. } => Route::Response { id, body: ResponseBody::Whole },
        route => route,
    };
    assert_eq!(ByParts(handler).route(&message), route, "{text}");
}

/// A handler whose `route` is the trait's own.
struct ByParts<H>(H);

impl<H: ProtocolHandler> ProtocolHandler for ByParts<H> {
    fn classify_message(&self, text: &str) -> MessageKind {
        self.0.classify_message(text)
    }
    fn extract_request_id(&self, text: &str) -> Option<RequestId> {
        self.0.extract_request_id(text)
    }
    fn extract_topic(&self, text: &str) -> Option<Topic> {
        self.0.extract_topic(text)
    }
    fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        self.0.build_subscribe(topics, id)
    }
    fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        self.0.build_unsubscribe(topics, id)
    }
    fn is_server_ping(&self, text: &str) -> bool {
        self.0.is_server_ping(text)
    }
    fn is_pong_response(&self, text: &str) -> bool {
        self.0.is_pong_response(text)
    }
}

//! Both handlers in dialogue with well-behaved peers and with careless ones.

use std::borrow::Cow;

use super::{GenericJsonHandler, JsonRpcHandler};
use crate::{
    error::ErrorKind,
    websocket::{
        event::MessageKind,
        message::{RequestId, Topic, WsMessage},
        protocol::{ProtocolHandler, ResponseBody, Route, RouteId},
    },
};

const UNKNOWN: Route<'static> = Route::Event(MessageKind::Unknown);
const SYSTEM: Route<'static> = Route::Event(MessageKind::System);

fn response<'m>(number: u64, body: ResponseBody<'m>) -> Route<'m> {
    Route::Response { id: RouteId::Number(number), body }
}

fn update(topic: &str) -> Route<'_> {
    Route::Update { topic: Cow::Borrowed(topic) }
}

#[track_caller]
fn assert_route(handler: &impl ProtocolHandler, text: &str, expected: Route<'_>) {
    assert_eq!(handler.route(&WsMessage::text(text)), expected, "{text}");
}

/// A generic handler with everything set that can be.
pub(super) fn full() -> GenericJsonHandler {
    GenericJsonHandler::new()
        .topic_fields(["channel", "stream"])
        .result_field("result")
        .error_field("error")
        .server_ping_text("ping")
        .server_ping_when("op", "ping")
        .answer_ping(r#"{"op":"pong"}"#)
        .pong_text("pong")
        .pong_when("op", "pong")
}

/// Every order of `fields`, as an object.
fn orders(fields: &[&str]) -> Vec<String> {
    fn permute(rest: &[&str], chosen: &mut Vec<String>, out: &mut Vec<String>) {
        if rest.is_empty() {
            out.push(format!("{{{}}}", chosen.join(",")));
        }
        for (index, field) in rest.iter().enumerate() {
            let mut others = rest.to_vec();
            others.remove(index);
            chosen.push((*field).to_owned());
            permute(&others, chosen, out);
            chosen.pop();
        }
    }
    let mut out = Vec::new();
    permute(fields, &mut Vec::new(), &mut out);
    out
}

#[test]
fn a_json_rpc_reply_is_found_whatever_the_order_of_its_fields() {
    let handler = JsonRpcHandler::new();
    let version = r#""jsonrpc":"2.0""#;
    let id = r#""id":7"#;
    for text in orders(&[version, id, r#""result":{"id":8,"error":9}"#, r#""error":null"#]) {
        assert_route(&handler, &text, response(7, ResponseBody::Result(r#"{"id":8,"error":9}"#)));
    }
    for text in orders(&[version, id, r#""result":null"#]) {
        assert_route(&handler, &text, response(7, ResponseBody::Result("null")));
    }
    for text in orders(&[version, id, r#""error":{"code":-32601}"#, r#""result":null"#]) {
        assert_route(&handler, &text, response(7, ResponseBody::Error(r#"{"code":-32601}"#)));
    }
}

#[test]
fn a_json_rpc_notification_goes_to_the_topic_in_its_params() {
    let handler = JsonRpcHandler::new();
    let method = r#""method":"subscription""#;
    for params in [
        r#""params":{"data":{"channel":"no"},"channel":"a.b"}"#,
        r#""params":{"subscription":"a.b","data":[1]}"#,
    ] {
        for text in orders(&[r#""jsonrpc":"2.0""#, method, params]) {
            assert_route(&handler, &text, update("a.b"));
        }
    }
    assert_route(&handler, r#"{"method":"m","params":{"subscription":23784,"result":1}}"#, update("23784"));
    assert_route(&handler, r#"{"method":"m","params":{"channel":"a\u002eb"}}"#, update("a.b"));
    assert_route(
        &handler,
        r#"{"method":"m","params":{"channel":"a"},"params":{"channel":"b"}}"#,
        update("a"),
    );
    assert_route(&handler, r#"{"method":"m","params":{},"params":{"channel":"b"}}"#, SYSTEM);
    let custom = JsonRpcHandler::new().topic_fields(["feed"]);
    assert_route(&custom, r#"{"method":"m","params":{"channel":"no","feed":"yes"}}"#, update("yes"));
}

#[test]
fn a_json_rpc_method_is_the_topic_only_if_asked_for_and_if_params_name_none() {
    let (plain, by_method) = (JsonRpcHandler::new(), JsonRpcHandler::new().topic_from_method());
    for text in [
        r#"{"method":"tick"}"#,
        r#"{"params":[1],"method":"tick"}"#,
        r#"{"method":"tick","params":{"a":{"channel":"no"}}}"#,
    ] {
        assert_route(&plain, text, SYSTEM);
        assert_route(&by_method, text, update("tick"));
    }
    assert_route(&by_method, r#"{"method":"tick","params":{"channel":"c"}}"#, update("c"));
}

#[test]
fn a_json_rpc_message_that_is_neither_reply_nor_notification_is_an_event() {
    let handler = JsonRpcHandler::new();
    for text in [
        r#"{"id":1,"method":"ask","params":{"channel":"c"}}"#,
        r#"{"id":"x","method":"ask"}"#,
        r#"{"id":null,"method":"m"}"#,
    ] {
        assert_route(&handler, text, SYSTEM);
    }
    for text in [
        "{}",
        r#"{"id":1}"#,
        r#"{"result":1}"#,
        r#"{"id":1,"error":null}"#,
        r#"{"id":null,"error":{}}"#,
        r#"{"id":-1,"method":"m"}"#,
        r#"{"params":{"channel":"c"}}"#,
        r#"{"method":5,"params":{"channel":"c"}}"#,
        r#"[{"id":1,"result":1}]"#,
        r#"{"data":{"id":1,"result":1}}"#,
    ] {
        assert_route(&handler, text, UNKNOWN);
    }
}

#[test]
fn a_generic_reply_is_found_whatever_the_order_of_its_fields() {
    for text in
        orders(&[r#""id":7"#, r#""channel":"c""#, r#""result":[{"id":1}]"#, r#""error":null"#, r#""op":"x""#])
    {
        assert_route(&full(), &text, response(7, ResponseBody::Result(r#"[{"id":1}]"#)));
    }
    for text in orders(&[r#""id":7"#, r#""result":{}"#, r#""error":"no""#]) {
        assert_route(&full(), &text, response(7, ResponseBody::Error(r#""no""#)));
    }
    assert_route(&full(), r#"{"id":7,"ok":true}"#, response(7, ResponseBody::Whole));
    for text in orders(&[r#""id":7"#, r#""topic":"t""#, r#""result":{}"#]) {
        assert_route(&GenericJsonHandler::new(), &text, response(7, ResponseBody::Whole));
    }
}

#[test]
fn an_id_ends_the_pass_only_if_no_other_field_could_matter() {
    let handler = GenericJsonHandler::new();
    assert_route(
        &handler,
        r#"{"id":7,"error":1,"result":2,"op":"ping"} x"#,
        response(7, ResponseBody::Whole),
    );
    let text = r#"{"id":7,"error":1,"result":2,"op":"ping"}"#;
    assert_route(&handler.clone().error_field("error"), text, response(7, ResponseBody::Error("1")));
    assert_route(&handler.clone().result_field("result"), text, response(7, ResponseBody::Result("2")));
    assert_route(&handler.clone().server_ping_when("op", "ping"), text, Route::Ping);
    assert_route(&handler.pong_when("op", "ping"), text, Route::Pong);
}

#[test]
fn what_follows_an_object_makes_the_message_unknown() {
    for tail in ["x", "{}", "}", ",", "\0"] {
        let text = format!(r#"{{"id":7,"result":1,"op":"ping"}} {tail}"#);
        assert_route(&JsonRpcHandler::new(), &text, UNKNOWN);
        assert_route(&full(), &text, UNKNOWN);
    }
}

#[test]
fn a_generic_update_goes_to_its_topic() {
    for text in orders(&[r#""stream":"c""#, r#""data":{"id":5,"channel":"no"}"#, r#""id":null"#]) {
        assert_route(&full(), &text, update("c"));
    }
    assert_route(&full(), r#"{"channel":{"name":"no"},"stream":"yes"}"#, update("yes"));
    assert_route(&full(), r#"{"data":{"channel":"no"}}"#, SYSTEM);
    assert_route(&GenericJsonHandler::new().topic_fields([]), r#"{"topic":"t"}"#, SYSTEM);
}

#[test]
fn a_topic_that_decides_makes_an_update_of_a_message_with_an_id() {
    for text in orders(&[r#""id":7"#, r#""topic":"t""#, r#""op":"ping""#]) {
        let handler = GenericJsonHandler::new().topic_decides();
        assert_route(&handler, &text, update("t"));
        assert_route(&handler.server_ping_when("op", "ping"), &text, update("t"));
    }
    assert_route(&GenericJsonHandler::new().topic_decides(), r#"{"id":7}"#, response(7, ResponseBody::Whole));
}

#[test]
fn pings_and_pongs_are_known_by_text_or_by_field() {
    let handler = full();
    assert_route(&handler, "ping", Route::Ping);
    assert_route(&handler, "pong", Route::Pong);
    for text in orders(&[r#""op":"ping""#, r#""id":1"#, r#""channel":"c""#]) {
        assert_route(&handler, &text, Route::Ping);
    }
    assert_route(&handler, r#"{"op":"po\u006eg","ts":1}"#, Route::Pong);
    assert_route(&handler, r#"{"op":"x","op":"ping"}"#, SYSTEM);
    assert_route(&handler, r#"{"data":{"op":"ping"}}"#, SYSTEM);
    assert_eq!(handler.build_pong(b"ping"), Some(WsMessage::text(r#"{"op":"pong"}"#)));
    assert_eq!(handler.build_ping(), None);
    let numeric = GenericJsonHandler::new().server_ping_when("type", 9).ping("hello");
    assert_route(&numeric, r#"{"type":9}"#, Route::Ping);
    assert_route(&numeric, r#"{"type":"9"}"#, SYSTEM);
    assert_eq!(numeric.build_ping(), Some(WsMessage::text("hello")));
}

#[test]
fn number_and_text_ids_are_kept_apart_and_foreign_ones_reach_nobody() {
    for handler in [&JsonRpcHandler::new() as &dyn ProtocolHandler, &full(), &GenericJsonHandler::new()] {
        let route = |id: &str| {
            format!(
                "{:?}",
                handler.route(&WsMessage::text(format!(
                    r#"{{"id":{id},"result":1,"channel":"c","topic":"c"}}"#
                )))
            )
        };
        assert!(route("7").contains("Number(7)"));
        assert!(route(r#""7""#).contains(r#"Text("7")"#));
        assert!(route(r#""a\"\u00e9""#).contains(r#"Text("a\"é")"#));
        assert!(route("9007199254740991").contains("Number(9007199254740991)"));
        for id in ["9007199254740992", "-7", "7.0", "7e0", "true", "[7]", "{}", r#""\ud800""#] {
            assert_eq!(route(id), format!("{UNKNOWN:?}"), "{id}");
        }
    }
}

#[test]
fn of_two_ids_the_first_counts_and_a_nested_one_never() {
    for handler in [&JsonRpcHandler::new() as &dyn ProtocolHandler, &full(), &GenericJsonHandler::new()] {
        for text in [
            r#"{"data":{"id":1},"id":2,"result":3,"id":4}"#,
            r#"{"\u0069d":2,"id":4,"result":3}"#,
            r#"{"s":"\"id\":9,","id":2,"result":3}"#,
        ] {
            assert!(format!("{:?}", handler.route(&WsMessage::text(text))).contains("Number(2)"), "{text}");
        }
    }
}

#[test]
fn the_authentication_message_is_made_afresh_and_never_shown() {
    let count = std::sync::atomic::AtomicU64::new(0);
    let handler = GenericJsonHandler::new()
        .auth(move || {
            Some(WsMessage::text(format!(
                "secret {}",
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            )))
        })
        .auth_accepted_when("op", "auth")
        .auth_accepted_when("success", true)
        .auth_rejected_when("success", false);
    assert_eq!(handler.build_auth_message(), Some(WsMessage::text("secret 0")));
    assert_eq!(handler.build_auth_message(), Some(WsMessage::text("secret 1")));
    assert!(handler.is_auth_success(r#"{"success":true,"op":"auth"}"#));
    for text in [
        r#"{"success":true}"#,
        r#"{"op":"auth","success":"true"}"#,
        r#"{"op":"auth","success":false}"#,
        "",
        "[",
    ] {
        assert!(!handler.is_auth_success(text), "{text}");
    }
    assert!(handler.is_auth_failure(r#"{"op":"auth","success":false}"#));
    assert!(!handler.is_auth_failure(r#"{"data":{"success":false}}"#));
    assert!(!format!("{handler:?}").contains("secret"));
    assert_eq!(GenericJsonHandler::new().build_auth_message(), None);
    assert!(
        !GenericJsonHandler::new().is_auth_success("{}") && !GenericJsonHandler::new().is_auth_failure("{}")
    );
}

#[test]
fn subscribe_messages_escape_what_needs_it() {
    let topics = [Topic::from("a\"b"), Topic::from("ü\n")];
    let id = RequestId::text("i\"d");
    let expect = |message: WsMessage, text: &str| assert_eq!(message.as_text(), Some(text));
    let rpc = JsonRpcHandler::new();
    expect(
        rpc.build_subscribe(&topics, id.clone()),
        r#"{"jsonrpc":"2.0","id":"i\"d","method":"subscribe","params":{"channels":["a\"b","ü\n"]}}"#,
    );
    let rpc = rpc.unsubscribe_method("un\"sub").params_array();
    expect(
        rpc.build_unsubscribe(&topics, 7.into()),
        r#"{"jsonrpc":"2.0","id":7,"method":"un\"sub","params":["a\"b","ü\n"]}"#,
    );
    let json = GenericJsonHandler::new();
    expect(json.build_subscribe(&topics, 7.into()), r#"{"op":"subscribe","args":["a\"b","ü\n"],"id":7}"#);
    let json = json
        .op_field("o\"p")
        .args_field("params")
        .id_field("req_id")
        .subscribe_op("SUB")
        .unsubscribe_op("UNSUB");
    expect(
        json.build_unsubscribe(&topics, id),
        r#"{"o\"p":"UNSUB","params":["a\"b","ü\n"],"req_id":"i\"d"}"#,
    );
    assert!(
        json.build_subscribe(&[], 7.into())
            .as_text()
            .is_some_and(|text| text.contains(r#""SUB","params":[]"#))
    );
    assert_eq!(
        json.topics_per_message(),
        GenericJsonHandler::new().max_topics_per_message(100).topics_per_message()
    );
    assert_eq!(JsonRpcHandler::new().max_topics_per_message(0).topics_per_message(), 1);
}

#[test]
fn a_subscription_has_failed_if_its_reply_has_an_error() {
    for handler in [&JsonRpcHandler::new() as &dyn ProtocolHandler, &full()] {
        assert!(handler.is_subscription_success(r#"{"id":1,"result":["error"]}"#));
        assert!(handler.is_subscription_success(r#"{"id":1,"result":{"error":1},"error":null}"#));
        assert!(!handler.is_subscription_success(r#"{"id":1,"result":null,"error":{"code":1}}"#));
    }
    assert!(GenericJsonHandler::new().is_subscription_success(r#"{"id":1,"error":1}"#));
}

#[test]
fn a_request_gets_its_id_in_front() {
    let encode = |handler: &dyn ProtocolHandler, id: RequestId, payload: &str| {
        let mut out = b"earlier ".to_vec();
        handler.encode_request(&id, &WsMessage::text(payload), &mut out).unwrap();
        assert_eq!(handler.inject_request_id(payload, &id).unwrap().as_bytes(), &out[8..]);
        let mut binary = b"earlier ".to_vec();
        handler.encode_request(&id, &WsMessage::binary(payload.as_bytes().to_vec()), &mut binary).unwrap();
        assert_eq!(binary, out);
        String::from_utf8(out).unwrap()
    };
    let rpc = JsonRpcHandler::new();
    assert_eq!(
        encode(&rpc, 7.into(), r#" { "method":"m"} "#),
        r#"earlier {"jsonrpc":"2.0","id":7,"method":"m"}"#
    );
    assert_eq!(encode(&rpc, RequestId::text("7"), "{ }"), r#"earlier {"jsonrpc":"2.0","id":"7"}"#);
    assert_eq!(
        encode(&rpc, 7.into(), r#"{"jsonrpc":"2.0","method":"m"}"#),
        r#"earlier {"id":7,"jsonrpc":"2.0","method":"m"}"#
    );
    let json = GenericJsonHandler::new();
    assert_eq!(
        encode(&json, RequestId::text("a\"\n\\"), r#"{"op":"x"}"#),
        r#"earlier {"id":"a\"\n\\","op":"x"}"#
    );
    assert_eq!(encode(&json.id_field("i\"d"), 7.into(), "{}"), r#"earlier {"i\"d":7}"#);
}

#[test]
fn a_payload_that_is_no_object_is_an_encode_error_and_writes_nothing() {
    for handler in [&JsonRpcHandler::new() as &dyn ProtocolHandler, &GenericJsonHandler::new()] {
        let payloads = ["", " ", "[]", "7", "\"{}\"", "{", "}", "null", "{} x"].map(WsMessage::text);
        for payload in
            payloads.into_iter().chain([WsMessage::binary(&b"\xff"[..]), WsMessage::binary(&b"[]"[..])])
        {
            let mut out = b"earlier".to_vec();
            let error = handler.encode_request(&7.into(), &payload, &mut out).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encode, "{payload:?}");
            assert_eq!(out, b"earlier", "{payload:?}");
        }
        assert_eq!(handler.inject_request_id("[]", &7.into()).unwrap_err().kind(), ErrorKind::Encode);
    }
}

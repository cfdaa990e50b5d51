//! Authentication, on every link, before anything else.

use std::{sync::atomic::Ordering, time::Duration};

use hpx_transport::websocket::{CloseCause, ErrorKind, Origin};
use serde_json::json;

use super::support::{
    Dialect, Seen, Server, config, connect_with,
    server::{Auth, Script},
    soon,
};

async fn server(auth: Auth) -> Server {
    Server::scripted(Script { auth, ..Script::default() }).await
}

#[tokio::test]
async fn an_accepted_authentication_makes_the_link_ready() {
    let server = server(Auth::Accept).await;
    let (handle, _events) = connect_with(config(&server.url()), Dialect::with_token("t1")).await;
    let _guard = handle.subscribe("trades").await.expect("it lives");
    handle.send_json(&json!({"op": "note"})).await.expect("accepted");
    soon("ready", handle.ready()).await.expect("the server accepts");
    server.until_ops("note", 1).await;
    let ops = server.look(|lives| {
        let seen = lives[0].seen.iter().map(|seen| match seen {
            Seen::Json(value) => value["op"].as_str().unwrap_or_default().to_owned(),
            other => format!("{other:?}"),
        });
        seen.collect::<Vec<_>>()
    });
    assert_eq!(ops, ["auth", "sub", "note"], "nothing goes before authentication, no send before a topic");
}

#[tokio::test]
async fn a_rejected_authentication_is_terminal() {
    let server = server(Auth::Reject).await;
    let (handle, mut events) = connect_with(config(&server.url()), Dialect::with_token("bad")).await;
    let (cause, _) = events.closed().await;
    let CloseCause::Refused(cause) = cause else { panic!("{cause:?}") };
    assert_eq!((cause.kind(), cause.origin()), (ErrorKind::AuthRejected, Origin::Peer));
    assert!(!cause.may_retry());
    assert!(soon("an end", handle.ready()).await.expect_err("rejected").is_closed());
    assert_eq!(server.connections(), 1, "bad credentials are not retried");
}

#[tokio::test]
async fn a_silent_authentication_times_out_and_is_retried() {
    let server = server(Auth::Silence).await;
    let settings = config(&server.url()).auth_timeout(Duration::from_millis(60));
    let (_handle, mut events) = connect_with(settings, Dialect::with_token("t")).await;
    let (_, _, cause) = events.retrying().await;
    assert!(cause.is_timeout());
    assert!(cause.to_string().contains("auth_timeout of 60ms"), "{cause}");
    server.until_ops("auth", 2).await;
}

#[tokio::test]
async fn every_link_authenticates_with_a_fresh_message() {
    let server = server(Auth::Accept).await;
    let dialect = Dialect::with_token("t");
    let made = dialect.auths.clone();
    let (handle, _events) = connect_with(config(&server.url()), dialect).await;
    soon("ready", handle.ready()).await.expect("accepted");
    server.cut();
    server.until_ops("auth", 2).await;
    let numbers = server
        .look(|lives| lives.iter().map(|life| life.ops("auth")[0]["number"].as_u64()).collect::<Vec<_>>());
    assert_eq!(numbers, [Some(1), Some(2)]);
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn authentication_can_be_turned_off() {
    let server = server(Auth::Silence).await;
    let settings = config(&server.url()).auth_on_connect(false);
    let (handle, _events) = connect_with(settings, Dialect::with_token("t")).await;
    soon("ready", handle.ready()).await.expect("nothing is awaited");
    assert_eq!(server.look(|lives| lives[0].ops("auth").len()), 0);
}

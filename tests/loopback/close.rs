//! The end: asked for, by drop, and from every phase.

use std::time::{Duration, Instant};

use hpx_transport::websocket::{CloseCause, ConnectionState, Delivery, ErrorKind, WsMessage};
use serde_json::json;

use super::support::{
    Dialect, Seen, Server, clog, config, connect, connect_with, data_of, eventually,
    raw::RawServer,
    ready, runtime,
    server::{Auth, Script},
    soon,
};

#[tokio::test]
async fn close_writes_what_send_accepted_and_then_the_close_frame() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    for number in 0..50 {
        handle.send_json(&json!({"op": "note", "number": number})).await.expect("accepted");
    }
    soon("close", handle.close()).await;
    let (cause, unsent) = events.closed().await;
    assert!(matches!(cause, CloseCause::CloseCalled));
    assert_eq!(unsent, 0);
    server.until_end().await;
    let seen = server.look(|lives| lives[0].seen.clone());
    let numbers: Vec<_> = server.look(|lives| {
        lives[0].ops("note").iter().map(|value| value["number"].as_u64().unwrap_or_default()).collect()
    });
    assert_eq!(numbers, (0..50).collect::<Vec<u64>>());
    assert_eq!(seen[50..], [Seen::Close(Some(1000)), Seen::End]);
}

#[tokio::test]
async fn a_closed_connection_refuses_everything_at_once() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    soon("close", handle.close()).await;
    assert_eq!(handle.state(), ConnectionState::Closed);
    assert!(!handle.is_connected());
    let message = || WsMessage::text(r#"{"op":"echo"}"#);
    let errors = [
        handle.ready().await.expect_err("closed"),
        handle.request::<_, i32>(&json!({"op": "echo"})).await.expect_err("closed"),
        handle.request_raw(message()).await.expect_err("closed"),
        handle.request_message(message()).await.expect_err("closed"),
        handle.send(message()).await.expect_err("closed"),
        handle.send_confirmed(message()).await.expect_err("closed"),
        handle.send_json(&1).await.expect_err("closed"),
        handle.subscribe("a").await.map(drop).expect_err("closed"),
        handle.subscribe_many(["a", "b"]).await.map(drop).expect_err("closed"),
        handle.unsubscribe("a").await.expect_err("closed"),
        handle.reconnect("why").expect_err("closed"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.is_closed() && !error.may_retry(), "{error}");
        assert_eq!(error.delivery(), Delivery::NotSent);
    }
    soon("a second close", handle.close()).await;
}

#[tokio::test]
async fn the_drop_of_the_last_handle_says_goodbye_and_ends() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    let clone = handle.clone();
    drop(handle);
    soon("an answer", clone.request_raw(r#"{"op":"echo","value":1}"#.into()))
        .await
        .expect("a clone keeps it alive");
    drop(clone);
    let (cause, _) = events.closed().await;
    assert!(matches!(cause, CloseCause::HandlesDropped), "{cause:?}");
    assert!(events.next().await.is_none());
    server.until_end().await;
    assert!(server.look(|lives| lives[0].has_close(1000)));
}

#[tokio::test]
async fn a_send_before_the_drop_of_the_last_handle_is_not_lost() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    handle.send_json(&json!({"op": "note"})).await.expect("accepted");
    drop(handle);
    server.until_end().await;
    assert_eq!(server.look(|lives| lives[0].ops("note").len()), 1);
}

#[tokio::test]
async fn guards_and_streams_keep_nothing_alive_and_drain_before_they_end() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    server.push("trades", 1);
    server.push("trades", 2);
    eventually("two messages", || guard.len() == 2).await;
    drop(handle);
    let (cause, _) = events.closed().await;
    assert!(matches!(cause, CloseCause::HandlesDropped));
    for number in [1, 2] {
        let message = soon("a message", guard.recv()).await.expect("it drains");
        assert_eq!(data_of(&message), number);
    }
    assert!(soon("the end", guard.recv()).await.is_none());
    assert!(soon("the end", guard.next_update()).await.is_none());
    assert!(guard.try_recv().is_none());
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn close_ends_a_dial_that_nobody_answers() {
    let silent = RawServer::start(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let (handle, mut events) = connect(config(&silent.url())).await;
    eventually("a dial", || silent.accepted() == 1).await;
    soon("close", handle.close()).await;
    assert!(matches!(events.closed().await, (CloseCause::CloseCalled, 0)));
}

#[tokio::test]
async fn close_ends_an_authentication_that_nobody_answers() {
    let server = Server::scripted(Script { auth: Auth::Silence, ..Script::default() }).await;
    let (handle, mut events) = connect_with(config(&server.url()), Dialect::with_token("t")).await;
    handle.send_json(&json!({"op": "note"})).await.expect("accepted");
    server.until_ops("auth", 1).await;
    soon("close", handle.close()).await;
    assert!(matches!(events.closed().await, (CloseCause::CloseCalled, 1)));
    server.until_end().await;
    assert_eq!(server.look(|lives| lives[0].ops("note").len()), 0, "nothing goes before authentication");
    assert!(server.look(|lives| lives[0].has_close(1000)));
}

#[tokio::test]
async fn closed_counts_what_was_never_written() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, mut events) = connect(config(&url)).await;
    for number in 0..3 {
        handle.send_json(&number).await.expect("accepted");
    }
    // The driver has looked at its queue since.
    events.retrying().await;
    events.retrying().await;
    soon("close", handle.close()).await;
    let (_, unsent) = events.closed().await;
    assert_eq!(unsent, 3);
}

#[tokio::test]
async fn closed_counts_sends_of_the_same_instant_as_close() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, mut events) = connect(config(&url)).await;
    for number in 0..3 {
        handle.send_json(&number).await.expect("accepted");
    }
    soon("close", handle.close()).await;
    let (_, unsent) = events.closed().await;
    assert_eq!(unsent, 3);
}

#[tokio::test]
async fn close_ends_within_its_timeout_against_a_peer_that_never_reads() {
    let server = Server::scripted(Script { deaf: true, ..Script::default() }).await;
    let timeout = Duration::from_millis(300);
    let settings = config(&server.url()).close_timeout(timeout).command_channel_capacity(4);
    let (handle, mut events) = ready(settings).await;
    clog(&handle).await;
    let began = Instant::now();
    soon("close", handle.close()).await;
    assert!(began.elapsed() < timeout + Duration::from_secs(2), "took {:?}", began.elapsed());
    let (_, unsent) = events.closed().await;
    assert!(unsent > 0, "not everything can have been written");
}

#[tokio::test]
async fn a_request_in_flight_at_close_is_told_at_once() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let request = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request_raw(r#"{"op":"hold"}"#.into()).await })
    };
    server.until_ops("hold", 1).await;
    soon("close", handle.close()).await;
    let error = soon("an answer", request).await.expect("no panic").expect_err("closing");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Closed, Delivery::MaybeSent));
    assert_eq!(handle.pending_count(), 0);
}

#[tokio::test]
async fn dropping_the_close_future_still_closes() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    {
        let mut close = std::pin::pin!(handle.close());
        let waker = std::task::Waker::noop();
        assert!(close.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    }
    assert!(matches!(events.closed().await, (CloseCause::CloseCalled, 0)));
}

#[test]
fn a_runtime_that_shuts_down_tells_everybody() {
    let runtime = runtime();
    let (handle, mut guard) = runtime.block_on(async {
        let server = Server::start().await;
        let (handle, _events) = ready(config(&server.url())).await;
        let guard = handle.subscribe("trades").await.expect("it lives");
        (handle, guard)
    });
    drop(runtime);
    let other = super::support::runtime();
    other.block_on(async {
        assert!(soon("the end", guard.recv()).await.is_none());
        let error = soon("ready", handle.ready()).await.expect_err("the driver is gone");
        assert_eq!(error.kind(), ErrorKind::DriverDropped);
        assert!(error.is_closed());
        let error = handle.send(WsMessage::text("x")).await.expect_err("the driver is gone");
        assert_eq!((error.kind(), error.delivery()), (ErrorKind::DriverDropped, Delivery::NotSent));
        soon("close", handle.close()).await;
    });
}

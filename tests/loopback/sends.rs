//! Sends: in order, accounted for, and never in anybody's way.

use std::time::Duration;

use hpx_transport::websocket::{Delivery, ErrorKind, WsMessage};
use serde_json::json;

use super::support::{
    Dialect, Seen, Server, clog, config, connect, connect_with, eventually, ready,
    server::{Auth, Script},
    soon,
};

fn note(number: usize) -> WsMessage {
    WsMessage::text(json!({"op": "note", "number": number}).to_string())
}

fn numbers(server: &Server) -> Vec<u64> {
    server.look(|lives| {
        let notes = lives.iter().flat_map(|life| life.ops("note"));
        notes.map(|note| note["number"].as_u64().expect("a number")).collect()
    })
}

#[tokio::test]
async fn sends_arrive_in_their_order() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    for number in 0..300 {
        soon("accepted", handle.send(note(number))).await.expect("it lives");
    }
    server.until_ops("note", 300).await;
    assert_eq!(numbers(&server), (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn sends_accepted_while_down_go_out_on_the_next_link() {
    let mut server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    server.stop().await;
    events.disconnected().await;
    for number in 0..10 {
        handle.send(note(number)).await.expect("there is room");
    }
    server.restart().await;
    server.until_ops("note", 10).await;
    assert_eq!(numbers(&server), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn send_waits_while_the_queue_is_full() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, _events) = connect(config(&url).command_channel_capacity(3)).await;
    for number in 0..3 {
        soon("accepted", handle.send(note(number))).await.expect("there is room");
    }
    let mut fourth = std::pin::pin!(handle.send(note(3)));
    let waker = std::task::Waker::noop();
    assert!(fourth.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    server.restart().await;
    soon("room", fourth).await.expect("it lives");
    server.until_ops("note", 4).await;
    assert_eq!(numbers(&server), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_send_withdrawn_while_it_waits_is_never_written() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, _events) = connect(config(&url).command_channel_capacity(1)).await;
    handle.send(note(0)).await.expect("there is room");
    {
        let mut withdrawn = std::pin::pin!(handle.send(note(1)));
        let waker = std::task::Waker::noop();
        assert!(withdrawn.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    }
    server.restart().await;
    soon("room", handle.send(note(2))).await.expect("it lives");
    server.until_ops("note", 2).await;
    assert_eq!(numbers(&server), [0, 2]);
}

#[tokio::test]
async fn send_confirmed_resolves_once_written_on_a_live_link() {
    let mut server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    soon("confirmed", handle.send_confirmed(note(1))).await.expect("there is a link");
    server.until_ops("note", 1).await;
    server.stop().await;
    events.disconnected().await;
    let waiting = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.send_confirmed(note(2)).await })
    };
    events.retrying().await;
    assert!(!waiting.is_finished());
    server.restart().await;
    soon("confirmed", waiting).await.expect("no panic").expect("there is a link again");
    server.until_ops("note", 2).await;
    assert_eq!(handle.pending_count(), 0, "a confirmed send is no request");
}

#[tokio::test]
async fn send_confirmed_without_a_link_expires_not_sent() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, _events) = connect(config(&url).request_timeout(Duration::from_millis(60))).await;
    let error = soon("a timeout", handle.send_confirmed(note(1))).await.expect_err("nobody listens");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Timeout, Delivery::NotSent));
    server.restart().await;
    soon("ready", handle.ready()).await.expect("it comes up");
    soon("confirmed", handle.send_confirmed(note(2))).await.expect("there is a link");
    server.until_ops("note", 1).await;
    assert_eq!(numbers(&server), [2]);
}

#[tokio::test]
async fn a_confirmed_send_dropped_before_it_was_written_never_is() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, mut events) = connect(config(&url)).await;
    let dropped = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.send_confirmed(note(1)).await })
    };
    events.retrying().await;
    dropped.abort();
    assert!(dropped.await.is_err());
    server.restart().await;
    soon("confirmed", handle.send_confirmed(note(2))).await.expect("there is a link");
    server.until_ops("note", 1).await;
    assert_eq!(numbers(&server), [2]);
}

#[tokio::test]
async fn text_and_binary_arrive_as_they_were_sent() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    handle.send(WsMessage::binary(bytes.clone())).await.expect("it lives");
    handle.send_json(&json!({"op": "note", "text": "ünïcode ✓"})).await.expect("it lives");
    server.until_ops("note", 1).await;
    let seen = server.look(|lives| lives[0].seen.clone());
    assert_eq!(seen, [Seen::Binary(bytes), Seen::Json(json!({"op": "note", "text": "ünïcode ✓"}))]);
}

#[tokio::test]
async fn a_message_over_the_size_limit_is_refused_before_it_is_queued() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).max_message_size(100)).await;
    for error in [
        handle.send(WsMessage::binary(vec![0; 101])).await.expect_err("too large"),
        handle.send_confirmed(WsMessage::binary(vec![0; 101])).await.expect_err("too large"),
        handle.send_json(&"x".repeat(101)).await.expect_err("too large"),
    ] {
        assert_eq!((error.kind(), error.delivery()), (ErrorKind::MessageTooLarge, Delivery::NotSent));
        assert!(error.to_string().contains("max_message_size of 100 bytes"), "{error}");
    }
    handle.send(WsMessage::binary(vec![0; 100])).await.expect("just right");
    server.until("the message", |lives| lives[0].seen.len() == 1).await;
}

#[tokio::test]
async fn a_value_that_does_not_serialise_is_an_encode_error() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let bad: std::collections::BTreeMap<(u8, u8), u8> = [((1, 2), 3)].into();
    let error = handle.send_json(&bad).await.expect_err("JSON keys are text");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Encode, Delivery::NotSent));
}

#[tokio::test]
async fn a_peer_that_never_reads_is_given_up_on_at_write_timeout() {
    let server = Server::scripted(Script { deaf: true, ..Script::default() }).await;
    let settings =
        config(&server.url()).write_timeout(Duration::from_millis(300)).command_channel_capacity(4);
    let (handle, mut events) = ready(settings).await;
    clog(&handle).await;
    let reason = events.disconnected().await;
    assert_eq!(reason.kind(), ErrorKind::Timeout);
    assert!(reason.to_string().contains("write_timeout"), "{reason}");
    eventually("the next link", || server.connections() >= 2).await;
}

#[tokio::test]
async fn a_send_that_waits_for_room_is_told_of_the_end() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, mut events) = connect(config(&url).command_channel_capacity(1)).await;
    handle.send(note(0)).await.expect("there is room");
    let waiting = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.send(note(1)).await })
    };
    let confirmed = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.send_confirmed(note(2)).await })
    };
    events.retrying().await;
    soon("close", handle.close()).await;
    for call in [waiting, confirmed] {
        let error = soon("an answer", call).await.expect("no panic").expect_err("closed");
        assert!(error.is_closed());
        assert_eq!(error.delivery(), Delivery::NotSent);
    }
    assert_eq!(events.closed().await.1, 1, "only the one that was accepted is counted");
}

#[tokio::test]
async fn sends_a_panic_of_the_handler_left_unwritten_are_counted() {
    let dialect = Dialect { panic_at: Some("poison"), ..Dialect::with_token("t") };
    let silent = Server::scripted(Script { auth: Auth::Silence, ..Script::default() }).await;
    let (handle, mut events) = connect_with(config(&silent.url()), dialect).await;
    for number in 0..3 {
        handle.send(note(number)).await.expect("there is room");
    }
    silent.until_ops("auth", 1).await;
    silent.send(&json!({"op": "poison"}));
    let (cause, unsent) = events.closed().await;
    assert_eq!(cause.error().map(|error| error.kind()), Some(ErrorKind::HandlerPanicked));
    assert_eq!(unsent, 3);
}

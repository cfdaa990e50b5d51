//! Ways in which clients of this kind have failed their users, one by one, over real sockets. Each test fails without its
//! cure. The numbers are those of `docs/COVERAGE.md`.

use std::time::{Duration, Instant};

use hpx_transport::websocket::{CloseCause, ConnectionEpoch, Delivery, ErrorKind, WsMessage};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::support::{
    Dialect, Seen, Server, clog, config, connect, connect_with, data_of, eventually, next_data,
    raw::{self, RawServer},
    ready, runtime,
    server::Script,
    soon,
};

const HOUR: Duration = Duration::from_secs(3600);

fn echo(value: u32) -> Value {
    json!({"op": "echo", "value": value})
}

/// A server that upgrades and hangs up at once.
async fn accept_then_close() -> RawServer {
    RawServer::start(|mut stream, _| async move {
        raw::upgrade(&mut stream).await;
        let _ = stream.write_all(&raw::frame(0x88, &1001u16.to_be_bytes())).await;
        raw::drain(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn failure_mode_01_a_pong_older_than_its_timeout_at_the_next_ping_is_no_failure() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .ping_interval(Duration::from_millis(500))
        .pong_timeout(Duration::from_millis(400));
    let (handle, _events) = ready(settings).await;
    let pings = |seen: &[Seen]| seen.iter().filter(|seen| matches!(seen, Seen::Ping)).count();
    server.until("three pings", |lives| pings(&lives[0].seen) >= 3).await;
    assert_eq!((handle.epoch(), server.connections()), (ConnectionEpoch(1), 1));
}

#[tokio::test]
async fn failure_mode_02_a_flood_neither_starves_the_ping_nor_goes_for_silence() {
    // Floods for as long as it takes to see four pings, and answers none of them.
    let (done_out, mut done) = tokio::sync::mpsc::unbounded_channel();
    let server = RawServer::start(move |mut stream, _| {
        let done_out = done_out.clone();
        async move {
            raw::upgrade(&mut stream).await;
            let (mut input, mut output) = stream.into_split();
            let flood = tokio::spawn(async move {
                let burst = raw::text(r#"{"op":"notice"}"#).repeat(1000);
                while output.write_all(&burst).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            });
            let mut pings = 0;
            while pings < 4 {
                let Some((opcode, _)) = raw::read_frame(&mut input).await else { break };
                pings += usize::from(opcode == 0x9);
            }
            flood.abort();
            let _ = done_out.send(pings);
        }
    })
    .await;
    let settings = config(&server.url())
        .ping_interval(Duration::from_millis(100))
        .pong_timeout(Duration::from_millis(400))
        .event_channel_capacity(8);
    let (_handle, _events) = ready(settings).await;
    assert_eq!(soon("four pings", done.recv()).await, Some(4), "the link was lost before");
}

#[tokio::test]
async fn failure_mode_03_a_peer_that_does_not_read_freezes_neither_reads_nor_close() {
    let server = Server::scripted(Script { deaf: true, ..Script::default() }).await;
    let settings = config(&server.url()).command_channel_capacity(4).write_timeout(HOUR);
    let (handle, mut events) = ready(settings.close_timeout(Duration::from_millis(300))).await;
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    clog(&handle).await;
    server.push("trades", 1);
    assert_eq!(next_data(&mut guard).await, 1);
    let began = Instant::now();
    soon("close", handle.close()).await;
    assert!(began.elapsed() < Duration::from_secs(3), "close took {:?}", began.elapsed());
    assert!(matches!(events.closed().await.0, CloseCause::CloseCalled));
}

#[tokio::test]
async fn failure_mode_04_events_nobody_reads_do_not_block_the_driver() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).event_channel_capacity(8)).await;
    for link in 1..=12u64 {
        handle.reconnect("again").expect("it lives");
        eventually("the next link", || handle.epoch().0 > link && handle.is_connected()).await;
        for _ in 0..20 {
            server.send(&json!({"op": "notice"}));
        }
    }
    assert_eq!(soon("a reply", handle.request::<_, u32>(&echo(3))).await.expect("answered"), 3);
    soon("close", handle.close()).await;
}

#[tokio::test]
async fn failure_mode_05_accept_then_close_neither_resets_the_wait_nor_escapes_max_attempts() {
    let server = accept_then_close().await;
    let settings = config(&server.url()).reconnect_jitter(0.0).reconnect_max_attempts(4);
    let (_handle, mut events) = connect(settings).await;
    let mut waits = Vec::new();
    for _ in 0..4 {
        let (attempt, wait, _) = events.retrying().await;
        waits.push((attempt, wait.as_millis()));
    }
    assert_eq!(waits, [(1, 5), (2, 10), (3, 20), (4, 40)]);
    let (cause, _) = events.closed().await;
    assert!(matches!(cause, CloseCause::RetriesExhausted { attempts: 4, .. }), "{cause:?}");
    assert_eq!(server.accepted(), 5);
}

#[tokio::test]
async fn failure_mode_06_a_wait_for_the_next_dial_hears_close_and_the_drop_of_the_last_handle() {
    for closes in [true, false] {
        let server = accept_then_close().await;
        let settings = config(&server.url())
            .reconnect_max_delay(HOUR)
            .reconnect_initial_delay(HOUR)
            .reconnect_jitter(0.0);
        let (handle, mut events) = connect(settings).await;
        assert_eq!(events.retrying().await.1, HOUR);
        if closes {
            soon("close", handle.close()).await;
        }
        drop(handle);
        let (cause, _) = events.closed().await;
        assert_eq!(matches!(cause, CloseCause::CloseCalled), closes, "{cause:?}");
        assert!(events.next().await.is_none());
        assert_eq!(server.accepted(), 1, "closing dials no more");
    }
}

#[tokio::test]
async fn failure_mode_07_requests_that_expired_or_were_dropped_while_down_are_never_written() {
    let mut server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    server.stop().await;
    events.disconnected().await;
    let dropped = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request::<_, u32>(&echo(2)).await })
    };
    let payload = echo(1);
    let expired = handle.request_with_timeout::<_, u32>(&payload, Duration::from_millis(50));
    let error = soon("a timeout", expired).await.expect_err("nobody listens");
    assert_eq!(error.delivery(), Delivery::NotSent);
    events.retrying().await;
    dropped.abort();
    assert!(dropped.await.is_err());
    assert_eq!(handle.pending_count(), 0);
    let survivor = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request::<_, u32>(&echo(3)).await })
    };
    eventually("it waits", || handle.pending_count() == 1).await;
    server.restart().await;
    assert_eq!(soon("a reply", survivor).await.expect("no panic").expect("answered"), 3);
    let written = server.look(|lives| lives.iter().flat_map(|life| life.ops("echo")).collect::<Vec<_>>());
    assert_eq!(written.len(), 1, "{written:?}");
}

#[tokio::test]
async fn failure_mode_07_a_written_request_is_not_replayed_on_the_next_link() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let request = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request_raw(r#"{"op":"hold"}"#.into()).await })
    };
    server.until_ops("hold", 1).await;
    server.cut();
    let error = soon("an answer", request).await.expect("no panic").expect_err("the link is lost");
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    soon("a reply", handle.request::<_, u32>(&echo(1))).await.expect("answered");
    assert_eq!(server.look(|lives| lives.iter().map(|life| life.ops("hold").len()).sum::<usize>()), 1);
}

#[tokio::test]
async fn failure_mode_08_a_dropped_request_gives_its_place_back() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).max_pending_requests(4)).await;
    for _ in 0..100 {
        let request = handle.request_raw(r#"{"op":"hold"}"#.into());
        assert!(
            tokio::time::timeout(Duration::from_millis(1), request).await.is_err(),
            "the server answers none of them"
        );
    }
    assert_eq!(handle.pending_count(), 0);
    assert_eq!(soon("a reply", handle.request::<_, u32>(&echo(1))).await.expect("there is room"), 1);
}

#[tokio::test]
async fn failure_mode_08_close_leaves_no_request_hanging() {
    let mut server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    let hold = |handle: &hpx_transport::websocket::ConnectionHandle| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request_raw(r#"{"op":"hold"}"#.into()).await })
    };
    let written = hold(&handle);
    server.until_ops("hold", 1).await;
    server.stop().await;
    events.disconnected().await;
    let queued = hold(&handle);
    eventually("it waits", || handle.pending_count() == 1).await;
    soon("close", handle.close()).await;
    let error = soon("an answer", written).await.expect("no panic").expect_err("lost");
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    let error = soon("an answer", queued).await.expect("no panic").expect_err("closed");
    assert!(error.is_closed());
    assert_eq!(error.delivery(), Delivery::NotSent);
}

#[tokio::test]
async fn failure_mode_09_a_lagging_subscriber_goes_on_reading() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).subscription_channel_capacity(2)).await;
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    for number in 0..50 {
        server.push("trades", number);
    }
    eventually("lag", || guard.lagged() == 48).await;
    for number in [48, 49] {
        assert_eq!(next_data(&mut guard).await, number);
    }
    server.push("trades", 50);
    assert_eq!(next_data(&mut guard).await, 50);
    assert!(server.look(|lives| lives[0].ops("unsub").is_empty()));
}

#[tokio::test]
async fn failure_mode_10_a_guard_ends_when_the_driver_has_died() {
    let server = Server::start().await;
    let dialect = Dialect { panic_at: Some("poison"), ..Dialect::default() };
    let (handle, mut events) = connect_with(config(&server.url()), dialect).await;
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    let request = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request_raw(r#"{"op":"hold"}"#.into()).await })
    };
    server.until_topic("sub", "trades").await;
    server.until_ops("hold", 1).await;
    server.push("trades", 1);
    assert_eq!(next_data(&mut guard).await, 1);
    server.send(&json!({"op": "poison"}));
    assert!(soon("the end", guard.recv()).await.is_none());
    let error = soon("an answer", request).await.expect("no panic").expect_err("the handler panicked");
    assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
    // The server had it already.
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    assert!(error.to_string().contains("route"), "{error}");
    let (cause, _) = events.closed().await;
    let CloseCause::Failed(cause) = cause else { panic!("{cause:?}") };
    assert_eq!(cause.kind(), ErrorKind::HandlerPanicked);
    assert_eq!(handle.ready().await.expect_err("it has ended").kind(), ErrorKind::HandlerPanicked);
}

#[tokio::test]
async fn failure_mode_11_subscribe_has_no_point_at_which_it_could_be_cancelled() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    // Never polled: nothing was asked for.
    drop(handle.subscribe("never"));
    assert_eq!(handle.subscription_count(), 0);
    // Polled once: done.
    let waker = std::task::Waker::noop();
    let mut once = std::pin::pin!(handle.subscribe("trades"));
    let std::task::Poll::Ready(guard) = once.as_mut().poll(&mut std::task::Context::from_waker(waker)) else {
        panic!("subscribe waited")
    };
    let mut guard = guard.expect("it lives");
    server.until_topic("sub", "trades").await;
    server.push("trades", 1);
    assert_eq!(next_data(&mut guard).await, 1);
    assert!(server.look(|lives| !lives[0].topics_of("sub").contains(&"never".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_mode_11_drop_and_subscribe_at_once_leaves_a_live_feed() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    for round in 0..100 {
        // On another thread, at the same time.
        let old = guard;
        let dropping = tokio::spawn(async move { drop(old) });
        guard = handle.subscribe("trades").await.expect("it lives");
        dropping.await.expect("no panic");
        if round % 10 == 9 {
            soon("a reply", handle.request::<_, u32>(&echo(1))).await.expect("answered");
            assert!(server.look(|lives| lives[0].topics.contains("trades")), "the feed is dead");
            server.push("trades", round);
            assert_eq!(next_data(&mut guard).await, round);
        }
    }
}

#[tokio::test]
async fn failure_mode_12_an_unsubscribe_is_not_lost_on_a_full_queue() {
    let mut server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url()).command_channel_capacity(2)).await;
    let guard = handle.subscribe("trades").await.expect("it lives");
    let _other = handle.subscribe("other").await.expect("it lives");
    server.until_topic("sub", "other").await;
    server.stop().await;
    events.disconnected().await;
    for number in 0..2 {
        handle.send_json(&number).await.expect("there is room");
    }
    drop(guard);
    server.restart().await;
    server.until("both sends", |lives| lives.len() == 2 && lives[1].seen.len() >= 3).await;
    assert_eq!(server.look(|lives| lives[1].topics_of("sub")), ["other"]);
}

#[test]
fn failure_mode_12_a_guard_dropped_outside_a_runtime_does_not_panic() {
    let runtime = runtime();
    let (server, _handle, guard) = runtime.block_on(async {
        let server = Server::start().await;
        let (handle, _events) = ready(config(&server.url())).await;
        let guard = handle.subscribe("trades").await.expect("it lives");
        server.until_topic("sub", "trades").await;
        (server, handle, guard)
    });
    drop(guard);
    runtime.block_on(server.until_topic("unsub", "trades"));
}

#[tokio::test]
async fn failure_mode_12_a_guard_of_an_ended_generation_takes_no_stranger_s_reference() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let old = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    handle.unsubscribe("trades").await.expect("it lives");
    server.until_topic("unsub", "trades").await;
    let mut stranger = handle.subscribe("trades").await.expect("it lives");
    server.until_ops("sub", 2).await;
    drop(old);
    soon("a reply", handle.request::<_, u32>(&echo(1))).await.expect("answered");
    assert_eq!(handle.subscription_count(), 1);
    server.push("trades", 1);
    assert_eq!(next_data(&mut stranger).await, 1);
    assert_eq!(server.look(|lives| lives[0].ops("unsub").len()), 1);
}

#[tokio::test]
async fn failure_mode_13_a_topic_wanted_while_down_is_told_once() {
    let mut server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    let _first = handle.subscribe("first").await.expect("it lives");
    server.until_topic("sub", "first").await;
    server.stop().await;
    events.disconnected().await;
    let _second = handle.subscribe("second").await.expect("it lives");
    server.restart().await;
    server.until("a second link", |lives| lives.len() == 2).await;
    soon("a reply", handle.request::<_, u32>(&echo(1))).await.expect("answered");
    let mut told = server.look(|lives| lives[1].topics_of("sub"));
    told.sort();
    assert_eq!(told, ["first", "second"]);
}

#[tokio::test]
async fn failure_mode_14_an_oversized_message_is_refused_by_code_and_makes_no_quick_loop() {
    // Offends on every link: the growth of the waits must hold, as in any other accept-then-close.
    let server = RawServer::start(|mut stream, _| async move {
        raw::upgrade(&mut stream).await;
        let _ = stream.write_all(&raw::text(&"x".repeat(2000))).await;
        let code = raw::close_code(&mut stream).await;
        assert_eq!(code, Some(1009));
    })
    .await;
    let settings =
        config(&server.url()).max_message_size(1000).reconnect_jitter(0.0).reconnect_max_attempts(3);
    let (_handle, mut events) = connect(settings).await;
    let mut waits = Vec::new();
    for _ in 0..3 {
        let (_, wait, cause) = events.retrying().await;
        assert_eq!(cause.kind(), ErrorKind::MessageTooLarge);
        waits.push(wait.as_millis());
    }
    assert_eq!(waits, [5, 10, 20]);
    assert!(matches!(events.closed().await.0, CloseCause::RetriesExhausted { attempts: 3, .. }));
}

#[tokio::test]
async fn failure_mode_14_a_send_just_before_the_last_drop_arrives_before_the_close_frame() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    handle.send(WsMessage::text(r#"{"op":"last words"}"#)).await.expect("accepted");
    drop(handle);
    server.until_end().await;
    let expected = [Seen::Json(json!({"op": "last words"})), Seen::Close(Some(1000)), Seen::End];
    assert_eq!(server.look(|lives| lives[0].seen.clone()), expected);
}

#[tokio::test]
async fn failure_mode_15_permanent_refusals_are_not_retried() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let server = RawServer::answering(raw::http(status, "")).await;
        let (_handle, mut events) = connect(config(&server.url())).await;
        assert_eq!(events.names().await, ["Closed 0"], "{status}");
        assert_eq!(server.accepted(), 1, "{status}");
    }
}

#[tokio::test]
async fn failure_mode_15_a_close_frame_and_the_end_behind_it_make_one_retry() {
    let server = Server::start().await;
    let settings = config(&server.url()).reconnect_jitter(0.0).reconnect_initial_delay(super::A_MOMENT);
    let (handle, mut events) = ready(settings.reconnect_max_delay(super::A_MOMENT)).await;
    server.close(1012, "restart");
    server.cut();
    let reason = events.disconnected().await;
    assert_eq!((reason.close_code(), reason.close_reason()), (Some(1012), Some("restart")));
    eventually("the next link", || handle.epoch() == ConnectionEpoch(2) && handle.is_connected()).await;
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    server.push("trades", 1);
    let message = soon("a message", guard.recv()).await.expect("it lives");
    assert_eq!(data_of(&message), 1);
    soon("close", handle.close()).await;
    assert_eq!(events.names().await, ["Retrying 1", "Connected 2", "Disconnected 2", "Closed 0"]);
    assert_eq!(server.connections(), 2, "one cause, one retry, one socket");
}

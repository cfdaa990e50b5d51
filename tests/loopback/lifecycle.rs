//! Connecting, losing, and what is told about it.

use futures_util::StreamExt;
use hpx_transport::{
    env,
    websocket::{
        CloseCause, Connection, ConnectionEpoch, ConnectionState, ErrorKind, Event, MessageKind, Origin,
    },
};
use serde_json::json;

use super::support::{
    Dialect, Seen, Server, config, connect, connect_with, raw::RawServer, ready, server::Script, soon,
};

#[tokio::test]
async fn the_first_link_is_epoch_one_and_ready() {
    let server = Server::start().await;
    let (handle, mut events) = connect(config(&server.url())).await;
    let epoch = soon("ready", handle.ready()).await.expect("the server accepts");
    assert_eq!(epoch, ConnectionEpoch(1));
    assert!(handle.is_connected());
    assert_eq!((handle.state(), handle.epoch()), (ConnectionState::Ready, ConnectionEpoch(1)));
    assert!(matches!(events.next().await, Some(Event::Connected { epoch: ConnectionEpoch(1) })));
}

#[tokio::test]
async fn connect_returns_before_the_peer_was_reached() {
    let silent = RawServer::start(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let (handle, _events) = soon("connect", connect(config(&silent.url()))).await;
    assert!(!handle.is_connected());
    assert!(matches!(handle.state(), ConnectionState::Disconnected | ConnectionState::Connecting));
    assert_eq!(handle.epoch(), ConnectionEpoch(0));
}

#[tokio::test]
async fn a_connection_is_a_stream_of_its_events_and_splits() {
    let server = Server::start().await;
    let mut connection =
        Connection::connect_stream(config(&server.url()), Dialect::default()).await.expect("a valid config");
    let first = soon("an event", connection.next()).await;
    assert!(matches!(first, Some(Event::Connected { .. })));
    assert!(connection.handle().is_connected());
    connection.handle().reconnect("a look at the next event").expect("it lives");
    let second = soon("an event", connection.recv()).await;
    assert!(matches!(second, Some(Event::Disconnected { .. })));
    let (handle, mut stream) = connection.split();
    soon("close", handle.close()).await;
    let mut last = None;
    while let Some(event) = soon("an event", stream.next()).await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Closed { cause: CloseCause::CloseCalled, .. })));
}

#[tokio::test]
async fn connect_in_takes_an_environment_of_the_caller_s() {
    let server = Server::start().await;
    let (handle, _stream) =
        Connection::connect_in(env::Tokio::new(), config(&server.url()), Dialect::default())
            .await
            .expect("a valid config");
    assert_eq!(soon("ready", handle.ready()).await.expect("the server accepts"), ConnectionEpoch(1));
    let connection =
        Connection::connect_stream_in(env::Tokio::new(), config(&server.url()), Dialect::default())
            .await
            .expect("a valid config");
    assert!(soon("ready", connection.handle().ready()).await.is_ok());
}

#[tokio::test]
async fn headers_path_query_and_subprotocols_reach_the_server() {
    let server = Server::start().await;
    let url = format!("{}v1/feed?depth=5", server.url());
    let settings = config(&url).header("x-api-key", "k1").headers([("x-one", "1"), ("x-two", "2")]);
    let (_handle, _events) = ready(settings).await;
    let headers = server.look(|lives| lives[0].headers.clone());
    let value = |name: &str| {
        headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    assert_eq!(value("(path)"), "/v1/feed?depth=5");
    assert_eq!((value("x-one"), value("x-two"), value("x-api-key")), ("1".into(), "2".into(), "".into()));
    assert_eq!(format!("ws://{}/", value("host")), server.url());
    assert_eq!(value("sec-websocket-version"), "13");
}

#[tokio::test]
async fn greetings_are_written_first_on_every_link() {
    let server = Server::start().await;
    let dialect = Dialect { greetings: vec![r#"{"op":"hello"}"#.into()], ..Dialect::with_token("t") };
    let (handle, _events) = connect_with(config(&server.url()), dialect).await;
    soon("ready", handle.ready()).await.expect("the server accepts");
    server.cut();
    server.until("a second link", |lives| lives.len() == 2 && lives[1].seen.len() >= 2).await;
    for place in 0..2 {
        let first = server.look(|lives| lives[place].seen[..2].to_vec());
        assert_eq!(first[0], Seen::Json(json!({"op": "hello"})), "link {place}");
        assert!(matches!(&first[1], Seen::Json(value) if value["op"] == "auth"), "link {place}");
    }
}

#[tokio::test]
async fn a_peer_s_close_code_and_reason_are_kept_and_echoed() {
    let server = Server::start().await;
    let (_handle, mut events) = ready(config(&server.url())).await;
    server.close(4001, "maintenance at noon");
    let reason = events.disconnected().await;
    assert_eq!(reason.kind(), ErrorKind::PeerClosed);
    assert_eq!((reason.close_code(), reason.close_reason()), (Some(4001), Some("maintenance at noon")));
    assert_eq!(reason.origin(), Origin::Peer);
    assert!(reason.to_string().contains("4001: maintenance at noon"), "{reason}");
    server.until("the code echoed", |lives| lives[0].has_close(4001)).await;
}

#[tokio::test]
async fn a_cut_socket_is_an_io_error_and_the_next_link_has_the_next_epoch() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    server.cut();
    let reason = events.disconnected().await;
    assert_eq!((reason.kind(), reason.origin()), (ErrorKind::Io, Origin::Network));
    let (attempt, _, cause) = events.retrying().await;
    assert_eq!((attempt, cause.kind()), (1, ErrorKind::Io));
    let epoch = soon("ready", handle.ready()).await.expect("the server accepts");
    assert_eq!(epoch, ConnectionEpoch(2));
}

#[tokio::test]
async fn reconnect_says_goodbye_and_dials_anew() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    handle.reconnect("the token changed").expect("it lives");
    let reason = events.disconnected().await;
    assert_eq!(reason.kind(), ErrorKind::ReconnectRequested);
    assert!(reason.to_string().contains("the token changed"), "{reason}");
    server.until("a goodbye and a second link", |lives| lives[0].has_close(1000) && lives.len() == 2).await;
    assert_eq!(soon("ready", handle.ready()).await.expect("it comes back"), ConnectionEpoch(2));
}

#[tokio::test]
async fn reconnect_cuts_a_wait_short() {
    let mut server = Server::start().await;
    // A wait nobody here would sit out.
    let settings = config(&server.url())
        .reconnect_max_delay(std::time::Duration::from_secs(3600))
        .reconnect_initial_delay(std::time::Duration::from_secs(3600))
        .reconnect_jitter(0.0);
    let (handle, mut events) = ready(settings).await;
    server.stop().await;
    server.restart().await;
    let (_, delay, _) = events.retrying().await;
    assert_eq!(delay.as_secs(), 3600);
    assert_eq!(handle.state(), ConnectionState::Reconnecting { attempt: 1 });
    handle.reconnect("now").expect("it lives");
    assert_eq!(soon("ready", handle.ready()).await.expect("it comes back"), ConnectionEpoch(2));
}

#[tokio::test]
async fn messages_that_nothing_claims_are_events() {
    let server = Server::start().await;
    let (_handle, mut events) = ready(config(&server.url())).await;
    server.send(&json!({"op": "notice", "text": "hi"}));
    server.push("nobody's", 1);
    server.send(&json!([1, 2]));
    let mut found = Vec::new();
    for _ in 0..3 {
        let message = events
            .find("a message", |event| match event {
                Event::Message(message) => Some(message.clone()),
                _ => None,
            })
            .await;
        assert_eq!(message.text.as_deref(), message.raw.as_text());
        found.push((message.kind, message.topic.map(|topic| topic.to_string())));
    }
    let nobody_s = Some("nobody's".to_owned());
    assert_eq!(
        found,
        [(MessageKind::System, None), (MessageKind::Update, nobody_s), (MessageKind::Unknown, None)]
    );
}

#[tokio::test]
async fn messages_a_slow_reader_misses_are_counted() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url()).event_channel_capacity(8)).await;
    for number in 0..100 {
        server.send(&json!({"op": "notice", "number": number}));
    }
    // Answered behind the notices: all of them have come in.
    soon("an answer", handle.request_raw(r#"{"op":"echo","value":1}"#.into())).await.expect("answered");
    soon("close", handle.close()).await;
    let read = events.names().await.iter().filter(|name| name.starts_with("Message")).count() as u64;
    assert_eq!(read + events.0.dropped(), 100);
    assert_eq!(read, 8);
}

#[tokio::test]
async fn lifecycle_events_a_slow_reader_misses_are_skipped_with_their_count() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url()).event_channel_capacity(8)).await;
    for link in 1..=20 {
        handle.reconnect("again").expect("it lives");
        server.until("the next link", |lives| lives.len() > link).await;
        super::support::eventually("ready again", || handle.epoch().0 > link as u64 && handle.is_connected())
            .await;
    }
    soon("close", handle.close()).await;
    let names = events.names().await;
    assert!(names.iter().any(|name| name.starts_with("Skipped")), "{names:?}");
    assert!(names.last().is_some_and(|name| name.starts_with("Closed")), "{names:?}");
    assert!(names.len() <= 10, "{names:?}");
}

#[tokio::test]
async fn retries_end_at_max_attempts_with_the_last_cause() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, mut events) = connect(config(&url).reconnect_max_attempts(3)).await;
    let error = soon("an end", handle.ready()).await.expect_err("nobody listens");
    assert!(error.is_closed() && error.to_string().contains("3 retries failed"), "{error}");
    let mut attempts = Vec::new();
    let cause = events
        .find("Closed", |event| {
            if let Event::Retrying { attempt, cause, .. } = event {
                assert_eq!(cause.kind(), ErrorKind::Connect);
                attempts.push(*attempt);
            }
            if let Event::Closed { cause, .. } = event { Some(cause.clone()) } else { None }
        })
        .await;
    assert_eq!(attempts, [1, 2, 3]);
    let CloseCause::RetriesExhausted { attempts: 3, last } = cause else { panic!("{cause:?}") };
    assert_eq!(last.kind(), ErrorKind::Connect);
    assert_eq!(handle.state(), ConnectionState::Closed);
}

#[tokio::test]
async fn events_follow_their_grammar_over_restarts() {
    let mut server = Server::start().await;
    // A jitter of 0 and no retry before the restart: one cause, one retry.
    let settings = config(&server.url()).reconnect_jitter(0.0).reconnect_initial_delay(super::A_MOMENT);
    let settings = settings.reconnect_max_delay(super::A_MOMENT);
    let (handle, mut events) = ready(settings).await;
    for link in 1..=3u64 {
        server.stop().await;
        server.restart().await;
        super::support::eventually("the next link", || handle.epoch().0 > link && handle.is_connected())
            .await;
    }
    soon("close", handle.close()).await;
    let names = events.names().await;
    let expected = [
        "Connected 1",
        "Disconnected 1",
        "Retrying 1",
        "Connected 2",
        "Disconnected 2",
        "Retrying 2",
        "Connected 3",
        "Disconnected 3",
        "Retrying 3",
        "Connected 4",
        "Disconnected 4",
        "Closed 0",
    ];
    assert_eq!(names, expected);
    assert!(events.next().await.is_none(), "nothing comes after Closed");
}

#[tokio::test]
async fn only_one_socket_is_open_at_a_time() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    for link in 1..=5 {
        handle.reconnect("again").expect("it lives");
        server.until("the next link", |lives| lives.len() > link).await;
        super::support::eventually("ready again", || handle.epoch().0 > link as u64 && handle.is_connected())
            .await;
        server.until("one live socket", |lives| lives.iter().filter(|life| !life.ended).count() == 1).await;
    }
    assert_eq!(server.connections(), 6);
}

#[tokio::test]
async fn authentication_and_resubscription_are_seen_on_the_socket_that_serves() {
    let server = Server::scripted(Script::default()).await;
    let (handle, _events) = connect_with(config(&server.url()), Dialect::with_token("t")).await;
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    server.cut();
    server.until("a second link", |lives| lives.len() == 2).await;
    server.until_topic("sub", "trades").await;
    server.push("trades", 7);
    assert_eq!(super::support::next_data(&mut guard).await, 7);
    let seen = server.look(|lives| lives[1].seen.clone());
    assert!(matches!(&seen[0], Seen::Json(value) if value["op"] == "auth" && value["number"] == 2));
    assert!(matches!(&seen[1], Seen::Json(value) if value["op"] == "sub"));
    assert_eq!(server.connections(), 2);
}

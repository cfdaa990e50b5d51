//! Servers that don't upgrade, each in its own way.

use std::time::Duration;

use hpx_transport::websocket::{CloseCause, ErrorKind, Origin, TransportError, WsConfig};
use tokio::io::AsyncWriteExt;

use super::support::{
    config, connect, eventually,
    raw::{self, RawServer},
    soon,
};

/// Connects, expects to be refused for good, and gives back why.
async fn refused(settings: WsConfig) -> TransportError {
    let (handle, mut events) = connect(settings).await;
    let error = soon("an end", handle.ready()).await.expect_err("the server refuses");
    assert_eq!(error.kind(), ErrorKind::Closed);
    let (cause, _) = events.closed().await;
    let CloseCause::Refused(cause) = cause else { panic!("ended by {cause:?}") };
    assert!(!cause.may_retry());
    cause
}

async fn refused_with(status: &str) -> TransportError {
    let server = RawServer::answering(raw::http(status, "")).await;
    let cause = refused(config(&server.url())).await;
    assert_eq!(server.accepted(), 1, "a refusal is not retried");
    assert_eq!((cause.kind(), cause.origin()), (ErrorKind::UpgradeRefused, Origin::Peer));
    cause
}

/// What the first retry is for.
async fn first_failure(server: &RawServer) -> TransportError {
    let (_handle, mut events) = connect(config(&server.url())).await;
    events.retrying().await.2
}

#[tokio::test]
async fn a_401_ends_the_connection_with_its_status() {
    let cause = refused_with("401 Unauthorized").await;
    assert_eq!(cause.status(), Some(401));
    assert!(cause.to_string().contains("401"), "{cause}");
}

#[tokio::test]
async fn a_403_ends_the_connection_with_its_status() {
    assert_eq!(refused_with("403 Forbidden").await.status(), Some(403));
}

#[tokio::test]
async fn a_404_ends_the_connection_with_its_status() {
    assert_eq!(refused_with("404 Not Found").await.status(), Some(404));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_ends_the_connection() {
    assert_eq!(refused_with("301 Moved Permanently").await.status(), Some(301));
}

#[tokio::test]
async fn a_429_is_retried_no_sooner_than_it_asks() {
    let server = RawServer::answering(raw::http("429 Too Many Requests", "Retry-After: 7\r\n")).await;
    let settings = config(&server.url()).reconnect_max_delay(Duration::from_secs(60));
    let (_handle, mut events) = connect(settings).await;
    let (attempt, delay, cause) = events.retrying().await;
    assert_eq!((attempt, cause.status()), (1, Some(429)));
    assert_eq!(cause.retry_after(), Some(Duration::from_secs(7)));
    assert!(delay >= Duration::from_secs(7) && delay <= Duration::from_secs(60), "{delay:?}");
}

#[tokio::test]
async fn the_wait_a_429_asks_for_is_capped() {
    let server = RawServer::answering(raw::http("429 Too Many Requests", "Retry-After: 86400\r\n")).await;
    let (_handle, mut events) = connect(config(&server.url())).await;
    let (_, delay, _) = events.retrying().await;
    assert_eq!(delay, Duration::from_millis(50));
}

#[tokio::test]
async fn a_503_is_retried_until_the_server_is_back() {
    let server = RawServer::start(|mut stream, number| async move {
        if number < 3 {
            raw::read_head(&mut stream).await;
            let _ = stream.write_all(raw::http("503 Service Unavailable", "").as_bytes()).await;
        } else {
            raw::upgrade(&mut stream).await;
            raw::drain(&mut stream).await;
        }
    })
    .await;
    let (handle, mut events) = connect(config(&server.url())).await;
    assert_eq!(soon("ready", handle.ready()).await.expect("the fourth dial succeeds").0, 1);
    for attempt in 1..=3 {
        let (number, _, cause) = events.retrying().await;
        assert_eq!((number, cause.status()), (attempt, Some(503)));
    }
    assert_eq!(server.accepted(), 4);
}

#[tokio::test]
async fn a_server_that_answers_http_instead_of_upgrading_is_named_by_its_status() {
    let server = RawServer::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let cause = first_failure(&server).await;
    assert_eq!((cause.kind(), cause.status()), (ErrorKind::UpgradeRefused, Some(200)));
    assert!(cause.to_string().contains("HTTP status 200"), "{cause}");
}

#[tokio::test]
async fn a_server_that_never_answers_fails_at_connect_timeout() {
    let server = RawServer::start(|mut stream, _| async move { raw::drain(&mut stream).await }).await;
    let timeout = Duration::from_millis(80);
    let (_handle, mut events) = connect(config(&server.url()).connect_timeout(timeout)).await;
    let (_, _, cause) = events.retrying().await;
    assert_eq!((cause.kind(), cause.origin()), (ErrorKind::Timeout, Origin::Network));
    assert!(cause.is_timeout());
    assert!(cause.to_string().contains("connect_timeout of 80ms"), "{cause}");
}

#[tokio::test]
async fn a_server_that_answers_byte_by_byte_is_still_bound_by_connect_timeout() {
    let server = RawServer::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n").await;
        // Progress without an end.
        while stream.write_all(b"X").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let (_handle, mut events) =
        connect(config(&server.url()).connect_timeout(Duration::from_millis(80))).await;
    let (_, _, cause) = events.retrying().await;
    assert_eq!(cause.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_server_that_hangs_up_in_the_upgrade_is_an_io_error() {
    let server = RawServer::start(|mut stream, _| async move {
        raw::read_head(&mut stream).await;
    })
    .await;
    assert_eq!(first_failure(&server).await.kind(), ErrorKind::Io);
}

#[tokio::test]
async fn garbage_instead_of_http_is_a_handshake_error() {
    let server = RawServer::answering("220 smtp.example.com ESMTP\r\n").await;
    let cause = first_failure(&server).await;
    assert_eq!((cause.kind(), cause.origin()), (ErrorKind::Handshake, Origin::Peer));
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    let server = RawServer::answering(format!("HTTP/1.1 101 X\r\nA: {}", "a".repeat(64 << 10))).await;
    let cause = first_failure(&server).await;
    assert_eq!(cause.kind(), ErrorKind::Handshake);
    assert!(cause.to_string().contains("16384"), "{cause}");
}

#[tokio::test]
async fn a_wrong_accept_key_is_a_handshake_error() {
    let server = RawServer::answering(raw::switching("dGhlIHdyb25nIGtleSBoZXJlIQ==")).await;
    let cause = first_failure(&server).await;
    assert_eq!(cause.kind(), ErrorKind::Handshake);
    assert!(cause.to_string().contains("Sec-WebSocket-Accept"), "{cause}");
}

#[tokio::test]
async fn a_switch_to_another_protocol_is_a_handshake_error() {
    let server = RawServer::answering("HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n").await;
    assert_eq!(first_failure(&server).await.kind(), ErrorKind::Handshake);
}

/// Upgrades with one more header line.
async fn upgrading_with(line: &'static str) -> RawServer {
    RawServer::start(move |mut stream, _| async move {
        let head = raw::read_head(&mut stream).await;
        let answer =
            raw::switching(&raw::accept_key(&head)).replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1);
        let _ = stream.write_all(answer.as_bytes()).await;
        raw::drain(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn a_subprotocol_that_was_offered_is_accepted() {
    let server = upgrading_with("Sec-WebSocket-Protocol: v2").await;
    let (handle, _events) = connect(config(&server.url()).subprotocols(["v3", "v2"])).await;
    soon("ready", handle.ready()).await.expect("v2 was offered");
}

#[tokio::test]
async fn a_subprotocol_that_was_not_offered_is_a_handshake_error() {
    let server = upgrading_with("Sec-WebSocket-Protocol: v9").await;
    let (_handle, mut events) = connect(config(&server.url()).subprotocols(["v3", "v2"])).await;
    let (_, _, cause) = events.retrying().await;
    assert_eq!(cause.kind(), ErrorKind::Handshake);
    assert!(cause.to_string().contains("subprotocol"), "{cause}");
}

#[tokio::test]
async fn an_extension_that_was_not_offered_is_a_handshake_error() {
    let second_line = "Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions: permessage-deflate";
    for header in ["Sec-WebSocket-Extensions: permessage-deflate", second_line] {
        let server = upgrading_with(header).await;
        let cause = first_failure(&server).await;
        assert_eq!(cause.kind(), ErrorKind::Handshake);
        assert!(cause.to_string().contains("extension"), "{cause}");
    }
}

#[tokio::test]
async fn frames_in_the_same_packet_as_the_answer_are_not_lost() {
    let server = RawServer::start(|mut stream, _| async move {
        let head = raw::read_head(&mut stream).await;
        let mut bytes = raw::switching(&raw::accept_key(&head)).into_bytes();
        bytes.extend(raw::text(r#"{"op":"welcome"}"#));
        let _ = stream.write_all(&bytes).await;
        raw::drain(&mut stream).await;
    })
    .await;
    let (_handle, mut events) = connect(config(&server.url())).await;
    let text = events
        .find("the welcome", |event| match event {
            hpx_transport::websocket::Event::Message(message) => message.text.clone(),
            _ => None,
        })
        .await;
    assert_eq!(&*text, r#"{"op":"welcome"}"#);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_resolve_error() {
    // `.invalid` never resolves (RFC 6761, section 6.4).
    let (_handle, mut events) = connect(config("ws://nowhere.invalid/")).await;
    let (_, _, cause) = events.retrying().await;
    // A resolver that can't be reached may hang instead of answering.
    assert!(matches!(cause.kind(), ErrorKind::Resolve | ErrorKind::Timeout), "{cause:?}");
}

#[tokio::test]
async fn refusals_do_not_storm() {
    let server = RawServer::answering(raw::http("403 Forbidden", "")).await;
    let (handle, mut events) = connect(config(&server.url())).await;
    let names = events.names().await;
    assert_eq!(names, ["Closed 0"]);
    eventually("one dial", || server.accepted() == 1).await;
    assert!(handle.send(hpx_transport::websocket::WsMessage::text("x")).await.is_err());
}

#[tokio::test]
async fn an_address_of_the_sixth_version_is_dialed() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        println!("skipped: there is no IPv6 loopback");
        return;
    };
    let address = listener.local_addr().expect("a bound socket has an address");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let head = raw::read_head(&mut stream).await;
        let _ = stream.write_all(raw::switching(&raw::accept_key(&head)).as_bytes()).await;
        raw::close_code(&mut stream).await;
        head
    });
    let (handle, _events) = connect(config(&format!("ws://{address}/"))).await;
    soon("ready", handle.ready()).await.expect("the server accepts");
    soon("close", handle.close()).await;
    let head = soon("the request", serving).await.expect("no panic");
    assert!(head.contains(&format!("Host: [::1]:{}", address.port())), "{head}");
}

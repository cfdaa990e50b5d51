//! Bad input, from both sides: each a typed error, and the pool's books balance after it.

use std::time::Duration;

use hpx_transport::{
    Delivery, ErrorKind, Origin,
    http::{Body, Client, HttpConfig, PoolStats, Protocol},
};
use http::Request;
use tokio::io::AsyncWriteExt;

use super::support::*;

/// What a client makes of a server that says this and hangs up.
async fn said(words: &'static [u8]) -> hpx_transport::TransportError {
    let server = Server::start(move |mut stream, _| async move {
        head(&mut stream).await;
        let _ = stream.write_all(words).await;
    })
    .await;
    let client = plain();
    let request = Request::post(server.uri("/")).body(Body::empty()).expect("a request");
    let error = failure(client.request(request).await).await;
    assert_eq!(error.delivery(), Delivery::MaybeSent);
    settles(&client, |pool| pool == PoolStats::default()).await;
    assert_eq!(server.accepted(), 1, "nothing is sent twice");
    error
}

#[tokio::test]
async fn a_body_shorter_than_declared_is_an_io_error() {
    let error = said(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[tokio::test]
async fn a_body_longer_than_declared_costs_the_connection_and_no_more() {
    let server = Server::start(|mut stream, _| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello, and more").await;
        until_gone(&mut stream).await;
    })
    .await;
    let client = plain();
    for number in 1..=3 {
        assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
        settles(&client, |pool| pool == PoolStats::default()).await;
        assert_eq!(server.accepted(), number);
    }
}

#[tokio::test]
async fn chunk_garbage_is_a_protocol_error() {
    for words in [
        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n",
    ] {
        let error = said(words).await;
        assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Io), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error_of_the_peer() {
    for words in [&b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..], b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n"]
    {
        let error = said(words).await;
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Protocol, Origin::Peer), "{error:?}");
    }
}

#[tokio::test]
async fn two_lengths_that_differ_are_a_protocol_error() {
    let error = said(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!").await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
}

#[tokio::test]
async fn a_giant_head_is_refused_by_its_limit() {
    let server = Server::start(|mut stream, _| async move {
        head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\nx-giant: {}\r\n\r\n", "a".repeat(100_000));
        let _ = stream.write_all(head.as_bytes()).await;
        until_gone(&mut stream).await;
    })
    .await;
    let client = client(|config| config.head_bytes_max = 16 * 1024);
    let error = failure(client.get(&server.uri("/")).await).await;
    assert_eq!(
        (error.kind(), error.field()),
        (ErrorKind::MessageTooLarge, Some("head_bytes_max")),
        "{error:?}"
    );
    settles(&client, |pool| pool == PoolStats::default()).await;
}

#[tokio::test]
async fn a_body_over_its_reader_s_limit_is_refused() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    let body = plain().get(&server.uri("/")).await.expect("a response").into_body();
    let error = body.bytes(4).await.expect_err("five are more than four");
    assert_eq!((error.kind(), error.field()), (ErrorKind::MessageTooLarge, Some("limit")));
}

#[tokio::test]
async fn a_server_without_http_2_is_told_apart_from_one_that_is_broken() {
    let server = Server::saying("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let client = prior();
    let error = failure(client.get(&server.uri("/")).await).await;
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Protocol, Origin::Peer), "{error:?}");
    settles(&client, |pool| pool == PoolStats::default()).await;
}

#[tokio::test]
async fn http_2_frames_out_of_order_are_a_protocol_error() {
    // Settings, then DATA on stream 1 before its HEADERS; HEADERS on stream 0; a frame that is too long.
    for frames in [
        &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'][..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 0, 0x88],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
    ] {
        let server = Server::start(move |mut stream, _| async move {
            let _ = stream.write_all(frames).await;
            until_gone(&mut stream).await;
        })
        .await;
        let client = prior();
        let error = failure(client.get(&server.uri("/")).await).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
        settles(&client, |pool| pool == PoolStats::default()).await;
    }
}

#[tokio::test]
async fn addresses_and_methods_that_lead_nowhere_are_named_by_their_field() {
    let client = plain();
    for uri in ["", "/path", "not a uri", "ftp://example.test/", "http://user:pass@example.test/"] {
        let error = client.get(uri).await.expect_err(uri);
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("uri")), "{uri}");
        assert_eq!(error.origin(), Origin::Caller);
    }
    let request = Request::connect("http://example.test:443").body(Body::empty()).expect("a request");
    let error = client.request(request).await.expect_err("no tunnels");
    assert_eq!(error.field(), Some("method"));
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_named_by_its_field() {
    let field = |change: &dyn Fn(&mut HttpConfig)| {
        let mut config = HttpConfig::default();
        change(&mut config);
        Client::new(config).expect_err("it was taken").field().expect("a field")
    };
    assert_eq!(field(&|config| config.connect_timeout = Duration::ZERO), "connect_timeout");
    assert_eq!(field(&|config| config.request_timeout = Duration::ZERO), "request_timeout");
    assert_eq!(field(&|config| config.body_timeout = Duration::ZERO), "body_timeout");
    assert_eq!(field(&|config| config.head_bytes_max = 10), "head_bytes_max");
    assert_eq!(field(&|config| config.h2_window = 1), "h2_window");
    assert_eq!(field(&|config| config.h2_window_max = 100_000), "h2_window_max");
    assert_eq!(field(&|config| config.h2_streams_max = 0), "h2_streams_max");
    let brief = Some(Duration::from_millis(10));
    assert_eq!(field(&|config| config.h2_keep_alive_interval = brief), "h2_keep_alive_interval");
    assert_eq!(field(&|config| config.pool.shards = 0), "shards");
    assert_eq!(HttpConfig::default().protocol, Protocol::Auto);
}

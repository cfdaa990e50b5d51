//! HTTP/1.1.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use hpx_transport::{
    Delivery, ErrorKind,
    http::{Body, ConnectionInfo, PoolConfig, PoolStats},
};
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_response_comes_whole_and_its_connection_serves_the_next_request() {
    let server = Server::saying(HELLO).await;
    let client = plain();
    for number in 0..3 {
        let response = soon("a response", client.get(&server.uri("/"))).await;
        let info = response.as_ref().expect("a response").body().connection();
        assert_eq!(info, ConnectionInfo { reused: number > 0, resumed: None });
        assert_eq!(text(response).await, "hello");
        settles(&client, |pool| pool.idle == 1).await;
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn the_request_is_sent_as_it_was_given() {
    let server = Server::start(|mut stream, _| async move {
        let head = head(&mut stream).await.expect("a request");
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.expect("a body");
        let echo = format!("{head}{}", String::from_utf8_lossy(&body));
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{echo}", echo.len());
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let request = Request::put(server.uri("/a/b?c=d")).header("x-own", "1").body(Body::from("body"));
    let echo = text(plain().request(request.expect("a request")).await).await;
    assert!(echo.starts_with("PUT /a/b?c=d HTTP/1.1\r\n"), "{echo}");
    assert!(echo.contains("x-own: 1\r\n") && echo.contains("content-length: 4\r\n"), "{echo}");
    assert!(echo.contains(&format!("host: {}\r\n", server.address)), "{echo}");
    assert!(echo.ends_with("body"));
}

#[tokio::test]
async fn chunks_stream_and_trailers_come_after_them() {
    let server = Server::saying(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 7\r\n\r\n",
    )
    .await;
    let mut body = plain().get(&server.uri("/")).await.expect("a response").into_body();
    let mut whole = Vec::new();
    while let Some(chunk) = body.chunk().await.expect("a whole body") {
        whole.extend_from_slice(&chunk);
    }
    assert_eq!(whole, b"hello world");
    assert_eq!(
        body.trailers().and_then(|trailers| trailers.get("x-sum")).map(|sum| sum.as_bytes()),
        Some(&b"7"[..])
    );
}

#[tokio::test]
async fn what_a_server_says_before_its_response_is_passed_over() {
    let server =
        Server::saying("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").await;
    let client = plain();
    for _ in 0..2 {
        let response = client.get(&server.uri("/")).await.expect("a response");
        assert_eq!(response.status(), 204);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_response_whose_body_nobody_reads_costs_its_connection() {
    let server = Server::start(|mut stream, _| async move {
        while head(&mut stream).await.is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nhello").await;
        }
    })
    .await;
    let client = plain();
    for number in 1..=3 {
        let mut body = client.get(&server.uri("/")).await.expect("a response").into_body();
        assert!(body.chunk().await.expect("a piece").is_some());
        drop(body);
        settles(&client, |pool| pool == PoolStats::default()).await;
        assert_eq!(server.accepted(), number);
    }
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_unnoticed() {
    let server = Server::start(|mut stream, _| async move {
        head(&mut stream).await;
        let _ = stream.write_all(HELLO.as_bytes()).await;
    })
    .await;
    let client = plain();
    for _ in 0..10 {
        // No wait: the end of the stream and the next request cross.
        assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
    }
}

/// Answers the first request on each connection and hangs up on the second.
async fn hangs_up_on_the_second() -> (Server, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let server = Server::start(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            head(&mut stream).await;
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(HELLO.as_bytes()).await;
            if head(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    (server, seen)
}

#[tokio::test]
async fn an_idempotent_request_that_met_a_dying_connection_is_made_again() {
    let (server, seen) = hangs_up_on_the_second().await;
    let client = plain();
    for _ in 0..3 {
        assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
        settles(&client, |pool| pool.idle == 1).await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 5, "the second and third were sent twice");
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_not_made_again() {
    let (server, seen) = hangs_up_on_the_second().await;
    let client = plain();
    assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
    settles(&client, |pool| pool.idle == 1).await;
    let post = Request::post(server.uri("/")).body(Body::empty()).expect("a request");
    let error = failure(client.request(post).await).await;
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Io, Delivery::MaybeSent));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_not_stormed() {
    let server = Server::start(|stream, _| async move { drop(stream) }).await;
    let client = plain();
    let error = failure(client.get(&server.uri("/")).await).await;
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    assert!(server.accepted() <= 3, "{} dials for one request", server.accepted());
    settles(&client, |pool| pool == PoolStats::default()).await;
}

#[tokio::test]
async fn connection_close_is_heeded() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    let client = plain();
    for number in 1..=3 {
        assert_eq!(text(client.get(&server.uri("/")).await).await, "ok");
        assert_eq!(server.accepted(), number);
    }
}

#[tokio::test]
async fn a_host_has_no_more_connections_than_its_limit() {
    let open = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let count = Arc::clone(&open);
    let server = Server::start(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            let now = count.0.fetch_add(1, Ordering::SeqCst) + 1;
            count.1.fetch_max(now, Ordering::SeqCst);
            while head(&mut stream).await.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let _ = stream.write_all(HELLO.as_bytes()).await;
            }
            count.0.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let client = limited(2);
    let uri = server.uri("/");
    let all = join_all((0..20).map(|_| async { text(client.get(&uri).await).await })).await;
    assert!(all.iter().all(|body| body == "hello"));
    assert_eq!((open.1.load(Ordering::SeqCst), server.accepted()), (2, 2));
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_and_the_request_may_have_been_sent() {
    let server = Server::start(|mut stream, _| async move { until_gone(&mut stream).await }).await;
    let client = client(|config| config.request_timeout = Duration::from_millis(50));
    let error = failure(client.get(&server.uri("/")).await).await;
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Timeout, Delivery::MaybeSent));
    settles(&client, |pool| pool == PoolStats::default()).await;
}

#[tokio::test]
async fn a_wait_for_a_connection_that_takes_too_long_sent_nothing() {
    let server = Server::start(|mut stream, _| async move { until_gone(&mut stream).await }).await;
    let client = client(|config| {
        config.request_timeout = Duration::from_millis(200);
        config.pool.open_per_host_max = 1;
    });
    let uri = server.uri("/");
    let (first, second) = tokio::join!(client.get(&uri), client.get(&uri));
    assert_eq!(first.expect_err("silence").delivery(), Delivery::MaybeSent);
    assert_eq!(second.expect_err("no connection").delivery(), Delivery::NotSent);
}

#[tokio::test]
async fn nobody_at_the_address_is_told_as_such() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let client = plain();
    let error = client.get(&format!("http://{address}/")).await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Connect, Delivery::NotSent));
    assert_eq!(client.pool(), PoolStats::default());
}

#[tokio::test]
async fn a_body_that_stops_coming_is_a_timeout() {
    let server = Server::start(|mut stream, _| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
        until_gone(&mut stream).await;
    })
    .await;
    let client = client(|config| config.body_timeout = Duration::from_millis(50));
    let mut body = client.get(&server.uri("/")).await.expect("a head").into_body();
    assert_eq!(body.chunk().await.expect("a piece").as_deref(), Some(&b"hello"[..]));
    let error = body.chunk().await.expect_err("nothing comes");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Timeout, Delivery::MaybeSent));
    assert!(body.chunk().await.expect("it is over").is_none());
}

#[tokio::test]
async fn a_request_that_is_dropped_closes_its_connection() {
    let server = Server::start(|mut stream, _| async move { until_gone(&mut stream).await }).await;
    let client = plain();
    let uri = server.uri("/");
    let request = tokio::time::timeout(Duration::from_millis(50), client.get(&uri)).await;
    assert!(request.is_err());
    settles(&client, |pool| pool == PoolStats::default()).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_up() {
    let server = Server::saying(HELLO).await;
    let client = client(|config| {
        config.pool = PoolConfig { idle_timeout: Duration::from_millis(50), ..PoolConfig::default() };
    });
    assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
    settles(&client, |pool| pool.idle == 1).await;
    settles(&client, |pool| pool == PoolStats::default()).await;
}

#[tokio::test]
async fn a_head_request_has_no_body_though_a_length_is_named() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
    let client = plain();
    for _ in 0..2 {
        let request = Request::builder().method(Method::HEAD).uri(server.uri("/")).body(Body::empty());
        assert_eq!(text(client.request(request.expect("a request")).await).await, "");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn close_takes_no_more_requests_and_waits_for_the_last_connection() {
    let server = Server::start(|mut stream, _| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = stream.write_all(b"lo").await;
        until_gone(&mut stream).await;
    })
    .await;
    let client = plain();
    let response = client.get(&server.uri("/")).await;
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!closing.is_finished(), "a response is in progress");
    let error = client.get(&server.uri("/")).await.expect_err("it is closed");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Closed, Delivery::NotSent));
    assert_eq!(text(response).await, "hello");
    soon("the end", closing).await.expect("no panic");
    assert_eq!(client.pool().open, 0);
}

#[tokio::test]
async fn drain_ends_what_is_idle_and_dials_anew() {
    let server = Server::saying(HELLO).await;
    let client = plain();
    assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
    settles(&client, |pool| pool.idle == 1).await;
    client.drain();
    settles(&client, |pool| pool.open == 0).await;
    assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
    assert_eq!(server.accepted(), 2);
}

/// Answers before it has read the request, and reads nothing more of it.
#[tokio::test]
async fn a_response_that_comes_before_the_request_was_read_keeps_its_place_for_a_while_only() {
    let server = Server::start(|mut stream, _| async move {
        let _ = head(&mut stream).await;
        let last = HELLO.replace("content-length", "connection: close\r\ncontent-length");
        let _ = stream.write_all(last.as_bytes()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let client = client(|config| config.body_timeout = Duration::from_millis(300));
    // More than sockets take.
    let body = Body::from(vec![b'x'; 64 << 20]);
    let request = Request::post(server.uri("/")).body(body).expect("a request");
    assert_eq!(text(client.request(request).await).await, "hello");
    assert_eq!(client.pool().open, 1);
    soon("the end", client.close()).await;
    assert_eq!(client.pool(), PoolStats::default());
}

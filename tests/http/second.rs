//! HTTP/2, without TLS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::{Reason, server};
use hpx_transport::{
    Delivery, ErrorKind,
    http::{Body, PoolStats, Protocol},
};
use http::{Request, Response, Version};

use super::support::*;

async fn hello(settings: server::Builder) -> Server {
    Server::start(move |stream, _| {
        let settings = settings.clone();
        async move {
            serve_h2(stream, &settings, |_, answer, _| async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                respond(answer, "hello");
            })
            .await;
        }
    })
    .await
}

#[tokio::test]
async fn requests_share_one_connection() {
    let server = hello(server::Builder::new()).await;
    let client = prior();
    let uri = server.uri("/");
    let all = join_all((0..30).map(|_| async { client.get(&uri).await })).await;
    for response in all {
        assert_eq!(response.as_ref().map(Response::version).ok(), Some(Version::HTTP_2));
        assert_eq!(text(response).await, "hello");
    }
    assert_eq!((server.accepted(), client.pool().open), (1, 1));
    settles(&client, |pool| pool.idle == 1).await;
}

#[tokio::test]
async fn no_more_streams_are_open_than_the_peer_allows() {
    let open = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let count = Arc::clone(&open);
    let server = Server::start(move |stream, _| {
        let count = Arc::clone(&count);
        async move {
            let mut settings = server::Builder::new();
            settings.max_concurrent_streams(3);
            serve_h2(stream, &settings, |_, answer, _| {
                let count = Arc::clone(&count);
                async move {
                    let now = count.0.fetch_add(1, Ordering::SeqCst) + 1;
                    count.1.fetch_max(now, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    count.0.fetch_sub(1, Ordering::SeqCst);
                    respond(answer, "hello");
                }
            })
            .await;
        }
    })
    .await;
    let client = client(|config| {
        config.protocol = Protocol::Http2;
        config.pool.open_per_host_max = 2;
    });
    let uri = server.uri("/");
    assert_eq!(text(client.get(&uri).await).await, "hello");
    let all = join_all((0..40).map(|_| async { text(client.get(&uri).await).await })).await;
    assert!(all.iter().all(|body| body == "hello"));
    assert!(open.1.load(Ordering::SeqCst) <= 6, "three on each of two connections");
    assert!(server.accepted() <= 2);
}

#[tokio::test]
async fn a_large_body_goes_both_ways_through_flow_control() {
    let server = Server::start(|stream, _| async move {
        serve_h2(stream, &server::Builder::new(), |request, mut answer, _| async move {
            let mut body = request.into_body();
            let mut sum = 0_usize;
            while let Some(Ok(data)) = body.data().await {
                sum += data.len();
                let _ = body.flow_control().release_capacity(data.len());
            }
            let Ok(mut stream) = answer.send_response(Response::new(()), false) else { return };
            let mut rest = Bytes::from(vec![b'x'; sum]);
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                let Some(Ok(capacity)) = capacity else { return };
                let piece = rest.split_to(capacity.min(rest.len()));
                let _ = stream.send_data(piece, rest.is_empty());
            }
        })
        .await;
    })
    .await;
    let body = Body::from(vec![b'y'; 3_000_000]);
    let request = Request::post(server.uri("/")).body(body).expect("a request");
    assert_eq!(text(prior().request(request).await).await.len(), 3_000_000);
}

#[tokio::test]
async fn what_the_peer_refused_is_sent_again_whatever_it_is() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let server = Server::start(move |stream, _| {
        let count = Arc::clone(&count);
        async move {
            serve_h2(stream, &server::Builder::new(), |_, mut answer, number| {
                count.fetch_add(1, Ordering::SeqCst);
                async move {
                    match number {
                        1 => answer.send_reset(Reason::REFUSED_STREAM),
                        _ => respond(answer, "hello"),
                    }
                }
            })
            .await;
        }
    })
    .await;
    let request = Request::post(server.uri("/")).body(Body::from("once")).expect("a request");
    assert_eq!(text(prior().request(request).await).await, "hello");
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_the_peer_reset_otherwise_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let server = Server::start(move |stream, _| {
        let count = Arc::clone(&count);
        async move {
            serve_h2(stream, &server::Builder::new(), |_, mut answer, _| {
                count.fetch_add(1, Ordering::SeqCst);
                async move { answer.send_reset(Reason::INTERNAL_ERROR) }
            })
            .await;
        }
    })
    .await;
    let client = prior();
    let error = failure(client.get(&server.uri("/")).await).await;
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::PeerClosed, Delivery::MaybeSent));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(client.pool().idle, 1, "the connection goes on");
}

#[tokio::test]
async fn after_a_goaway_what_is_open_runs_on_and_what_is_new_goes_elsewhere() {
    let server = Server::start(|stream, number| async move {
        let Ok(mut connection) = server::Builder::new().handshake::<_, Bytes>(stream).await else { return };
        let Some(Ok((_, answer))) = connection.accept().await else { return };
        if number == 1 {
            connection.graceful_shutdown();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                respond(answer, "the last");
            });
        } else {
            respond(answer, "elsewhere");
        }
        while let Some(Ok((_, answer))) = connection.accept().await {
            respond(answer, if number == 1 { "too late" } else { "elsewhere" });
        }
    })
    .await;
    let client = prior();
    let uri = server.uri("/");
    let (first, second) = tokio::join!(async { text(client.get(&uri).await).await }, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        text(client.get(&uri).await).await
    });
    assert_eq!((first.as_str(), second.as_str()), ("the last", "elsewhere"));
    assert_eq!(server.accepted(), 2);
    settles(&client, |pool| pool.open == 1).await;
}

#[tokio::test]
async fn a_server_that_says_goodbye_at_once_is_not_stormed() {
    let server = Server::start(|stream, _| async move {
        let Ok(mut connection) = server::Builder::new().handshake::<_, Bytes>(stream).await else { return };
        connection.abrupt_shutdown(Reason::NO_ERROR);
        while let Some(Ok(_)) = connection.accept().await {}
    })
    .await;
    let client = prior();
    let error = failure(client.get(&server.uri("/")).await).await;
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::PeerClosed), "{error:?}");
    assert!(server.accepted() <= 3, "{} dials for one request", server.accepted());
}

#[tokio::test]
async fn a_request_that_is_dropped_resets_its_stream_and_no_other() {
    let was_reset = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&was_reset);
    let server = Server::start(move |stream, _| {
        let flag = Arc::clone(&flag);
        async move {
            serve_h2(stream, &server::Builder::new(), |request, mut answer, _| {
                let flag = Arc::clone(&flag);
                async move {
                    if request.uri().path() != "/silent" {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        return respond(answer, "hello");
                    }
                    let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
                    flag.store(reason.is_ok_and(|reason| reason == Reason::CANCEL), Ordering::SeqCst);
                }
            })
            .await;
        }
    })
    .await;
    let client = prior();
    let (silent, other) = (server.uri("/silent"), server.uri("/"));
    let (dropped, kept) =
        tokio::join!(tokio::time::timeout(Duration::from_millis(30), client.get(&silent)), async {
            text(client.get(&other).await).await
        });
    assert!(dropped.is_err());
    assert_eq!(kept, "hello");
    assert_eq!(server.accepted(), 1);
    settles(&client, |pool| pool.idle == 1).await;
    for _ in 0..100 {
        if was_reset.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the server heard of no reset");
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up_on_and_says_so() {
    let server = Server::silent().await;
    let client = client(|config| {
        config.protocol = Protocol::Http2;
        config.request_timeout = Duration::from_secs(20);
        config.h2_keep_alive_interval = Some(Duration::from_secs(1));
        config.h2_keep_alive_timeout = Duration::from_millis(200);
    });
    let error = soon("the verdict", client.get(&server.uri("/"))).await.expect_err("it is silent");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Timeout, Delivery::MaybeSent));
    assert!(error.to_string().contains("h2_keep_alive_timeout"), "{error}");
    settles(&client, |pool| pool == PoolStats::default()).await;
}

#[tokio::test]
async fn headers_that_concern_one_connection_are_not_sent() {
    let server = Server::start(|stream, _| async move {
        serve_h2(stream, &server::Builder::new(), |request, answer, _| async move {
            let has = ["connection", "host", "transfer-encoding"]
                .iter()
                .any(|name| request.headers().contains_key(*name));
            respond(answer, if has { "they were" } else { "they were not" });
        })
        .await;
    })
    .await;
    let request = Request::get(server.uri("/"))
        .header("connection", "keep-alive")
        .header("host", "example.test")
        .body(Body::empty())
        .expect("a request");
    assert_eq!(text(prior().request(request).await).await, "they were not");
}

#[tokio::test]
async fn trailers_come_after_the_body() {
    let server = Server::start(|stream, _| async move {
        serve_h2(stream, &server::Builder::new(), |_, mut answer, _| async move {
            let Ok(mut stream) = answer.send_response(Response::new(()), false) else { return };
            let _ = stream.send_data(Bytes::from_static(b"hello"), false);
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", http::HeaderValue::from_static("7"));
            let _ = stream.send_trailers(trailers);
        })
        .await;
    })
    .await;
    let mut body = prior().get(&server.uri("/")).await.expect("a response").into_body();
    while body.chunk().await.expect("a whole body").is_some() {}
    assert!(body.trailers().is_some_and(|trailers| trailers.contains_key("x-sum")));
}

/// Reads nothing of a body that takes up its stream's window, and asks for another.
#[tokio::test]
async fn a_body_that_nobody_reads_holds_up_no_other() {
    let server = Server::start(move |stream, _| async move {
        serve_h2(stream, &server::Builder::new(), |request, mut answer, _| async move {
            if request.uri().path() == "/" {
                return respond(answer, "hello");
            }
            let mut stream = answer.send_response(Response::new(()), false).expect("a stream");
            // More than any window lets through: it is sent as far as that goes.
            stream.send_data(Bytes::from(vec![0; 1 << 20]), true).expect("it is taken");
        })
        .await;
    })
    .await;
    let client = client(|config| {
        config.protocol = Protocol::Http2;
        config.pool.open_per_host_max = 1;
        (config.h2_window, config.h2_window_max) = (100_000, 400_000);
    });
    let unread = client.get(&server.uri("/large")).await.expect("a response");
    for _ in 0..10 {
        assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
    }
    assert_eq!(server.accepted(), 1);
    let mut rest = unread.into_body();
    assert!(soon("the rest", rest.chunk()).await.expect("a piece").is_some());
}

/// What crosses a reset is the peer's right (RFC 9113, section 5.1), however often.
#[tokio::test]
async fn cancelled_downloads_never_cost_their_connection() {
    let server = Server::start(move |stream, _| async move {
        serve_h2(stream, &server::Builder::new(), |_, mut answer, _| async move {
            let Ok(mut stream) = answer.send_response(Response::new(()), false) else { return };
            // Sent while it is cancelled, piece by piece.
            while stream.send_data(Bytes::from_static(&[0; 1000]), false).is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    })
    .await;
    let client = prior();
    for number in 0..1_200 {
        let response = soon("a response", client.get(&server.uri("/"))).await;
        let mut body = response.unwrap_or_else(|error| panic!("{number}: {error:?}")).into_body();
        assert!(body.chunk().await.expect("a piece").is_some());
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_peer_that_takes_no_streams_for_a_while_is_not_stormed() {
    let server = Server::start(move |stream, _| async move {
        let mut settings = server::Builder::new();
        settings.max_concurrent_streams(0);
        serve_h2(stream, &settings, |_, answer, _| async move { respond(answer, "hello") }).await;
    })
    .await;
    let client = client(|config| {
        config.protocol = Protocol::Http2;
        config.request_timeout = Duration::from_millis(300);
        (config.pool.open_per_host_max, config.pool.idle_per_host_max) = (3, 1);
    });
    for _ in 0..4 {
        // The first may be under way before the peer has said a word.
        let _ = client.get(&server.uri("/")).await;
    }
    assert!(server.accepted() <= 4, "{} connections", server.accepted());
}

#[tokio::test]
async fn an_upload_goes_on_when_its_response_is_over() {
    let (done, mut read) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |stream, _| {
        let done = done.clone();
        async move {
            serve_h2(stream, &server::Builder::new(), |request, answer, _| {
                let done = done.clone();
                async move {
                    respond(answer, "");
                    let (mut body, mut size) = (request.into_body(), 0);
                    while let Some(Ok(piece)) = body.data().await {
                        size += piece.len();
                        let _ = body.flow_control().release_capacity(piece.len());
                    }
                    let _ = done.send((size, body.is_end_stream()));
                }
            })
            .await;
        }
    })
    .await;
    let client = prior();
    let request = Request::post(server.uri("/")).body(Body::from(vec![b'x'; 1_000_000])).expect("a request");
    assert_eq!(text(client.request(request).await).await, "");
    assert_eq!(soon("the rest", read.recv()).await, Some((1_000_000, true)));
    settles(&client, |pool| pool.idle == 1).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn an_upload_that_nobody_reads_is_given_up_in_time() {
    let server = Server::start(move |stream, _| async move {
        serve_h2(stream, &server::Builder::new(), |request, answer, _| async move {
            respond(answer, "");
            // Kept, and not read.
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(request);
        })
        .await;
    })
    .await;
    let client = client(|config| {
        config.protocol = Protocol::Http2;
        config.body_timeout = Duration::from_millis(300);
    });
    let request = Request::post(server.uri("/")).body(Body::from(vec![b'x'; 1_000_000])).expect("a request");
    assert_eq!(text(client.request(request).await).await, "");
    soon("the end", client.close()).await;
    assert_eq!(client.pool(), PoolStats::default());
}

//! Requests a second over loopback: ours beside hyper-util's client and beside the bare connections (the floor).
//! `cargo bench --bench http`.
//!
//! Rounds alternate and medians count. The client is one thread; its server another, which lays out its answers in advance
//! (HTTP/1.1) or is the h2 crate's (HTTP/2).
#![allow(missing_docs, reason = "a benchmark has no API")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::join_all;
use hpx_transport::http::{Client, HttpConfig, Protocol};
use http::{Request, Response};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpStream, runtime::Runtime, sync::Semaphore};

const ROUNDS: usize = 7;
const BODY: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// Answers every head with the same bytes.
fn serve_h1() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let runtime = move || {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.set_nodelay(true);
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    let heads = buffer[..read].windows(4).filter(|end| end == b"\r\n\r\n").count();
                    if stream.write_all(answer.repeat(heads).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    };
    thread::spawn(runtime);
    address
}

fn serve_h2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("it can");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    let mut settings = h2::server::Builder::new();
                    settings.max_concurrent_streams(1000);
                    let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
                            let _ = stream.send_data(Bytes::from_static(BODY.as_bytes()), true);
                        }
                    }
                });
            }
        });
    });
    address
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Requests a second, with so many in flight.
fn rate<F: Future<Output = ()>>(in_flight: usize, total: usize, one: impl Fn() -> F) -> f64 {
    let each = total / in_flight;
    let worker = || async {
        for _ in 0..each {
            one().await;
        }
    };
    let runtime = runtime();
    // Warm: connections are there.
    runtime.block_on(join_all((0..in_flight).map(|_| one())));
    let begun = Instant::now();
    runtime.block_on(join_all((0..in_flight).map(|_| worker())));
    (each * in_flight) as f64 / begun.elapsed().as_secs_f64()
}

fn ours(address: SocketAddr, protocol: Protocol, in_flight: usize, total: usize) -> f64 {
    let mut config = HttpConfig { protocol, h2_streams_max: 1000, ..HttpConfig::default() };
    config.pool.idle_per_host_max = 256;
    let client = Client::new(config).expect("a valid configuration");
    let uri = format!("http://{address}/");
    rate(in_flight, total, || async {
        let response = client.get(&uri).await.expect("a response");
        assert_eq!(response.into_body().bytes(1000).await.expect("a body").len(), BODY.len());
    })
}

fn theirs(address: SocketAddr, h2: bool, in_flight: usize, total: usize) -> f64 {
    let client: legacy::Client<_, http_body_util::Empty<Bytes>> =
        legacy::Client::builder(TokioExecutor::new()).http2_only(h2).build_http();
    let uri: http::Uri = format!("http://{address}/").parse().expect("a URI");
    rate(in_flight, total, || async {
        let response = client.get(uri.clone()).await.expect("a response");
        let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
        assert_eq!(body.len(), BODY.len());
    })
}

/// As many bare connections as there are requests in flight, each used by one at a time.
fn floor_h1(address: SocketAddr, in_flight: usize, total: usize) -> f64 {
    let each = total / in_flight;
    let runtime = runtime();
    let senders = runtime.block_on(async {
        let mut senders = Vec::new();
        for _ in 0..in_flight {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let _ = stream.set_nodelay(true);
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
            tokio::spawn(connection);
            senders.push(sender);
        }
        senders
    });
    let begun = Instant::now();
    runtime.block_on(join_all(senders.into_iter().map(|mut sender| async move {
        for _ in 0..each {
            let request =
                Request::get("/").header("host", "localhost").body(http_body_util::Empty::<Bytes>::new());
            sender.ready().await.expect("it is open");
            let response = sender.send_request(request.expect("a request")).await.expect("a response");
            let body =
                http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
            assert_eq!(body.len(), BODY.len());
        }
    })));
    (each * in_flight) as f64 / begun.elapsed().as_secs_f64()
}

/// One bare connection, shared.
fn floor_h2(address: SocketAddr, in_flight: usize, total: usize) -> f64 {
    let each = total / in_flight;
    let runtime = runtime();
    let sender = runtime.block_on(async {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let _ = stream.set_nodelay(true);
        let (sender, connection) = h2::client::handshake(stream).await.expect("a handshake");
        tokio::spawn(connection);
        sender
    });
    let uri: http::Uri = format!("http://{address}/").parse().expect("a URI");
    let uri = Arc::new(uri);
    let permits = Arc::new(Semaphore::new(in_flight));
    let begun = Instant::now();
    runtime.block_on(join_all((0..in_flight).map(|_| {
        let (sender, uri, permits) = (sender.clone(), Arc::clone(&uri), Arc::clone(&permits));
        async move {
            for _ in 0..each {
                let _permit = permits.acquire().await;
                let mut sender = sender.clone().ready().await.expect("it is open");
                let mut request = Request::new(());
                *request.uri_mut() = (*uri).clone();
                let (response, _) = sender.send_request(request, true).expect("it is sent");
                let mut body = response.await.expect("a response").into_body();
                let mut size = 0;
                while let Some(data) = body.data().await {
                    let data = data.expect("a body");
                    size += data.len();
                    let _ = body.flow_control().release_capacity(data.len());
                }
                assert_eq!(size, BODY.len());
            }
        }
    })));
    (each * in_flight) as f64 / begun.elapsed().as_secs_f64()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    // `cargo test --benches` only asks whether it builds and starts.
    let full = std::env::args().any(|word| word == "--bench");
    let (rounds, scale) = if full { (ROUNDS, 1) } else { (1, 100) };
    let (h1, h2) = (serve_h1(), serve_h2());
    println!(
        "{:<22} {:>10} {:>10} {:>12} {:>9} {:>13}",
        "requests a second", "floor", "ours", "hyper-util", "ours/floor", "ours/hyper-util"
    );
    for (name, is_h2, in_flight, total) in [
        ("h1, 1", false, 1, 20_000),
        ("h1, 16", false, 16, 60_000),
        ("h1, 128", false, 128, 60_000),
        ("h2, 1", true, 1, 20_000),
        ("h2, 16", true, 16, 100_000),
        ("h2, 128", true, 128, 200_000),
    ] {
        let total = (total / scale).max(in_flight);
        let mut figures = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let (floor, protocol, address) = match is_h2 {
                true => (floor_h2(h2, in_flight, total), Protocol::Http2, h2),
                false => (floor_h1(h1, in_flight, total), Protocol::Http1, h1),
            };
            figures[0].push(floor);
            figures[1].push(ours(address, protocol, in_flight, total));
            figures[2].push(theirs(address, is_h2, in_flight, total));
        }
        let [floor, ours, theirs] = figures.map(median);
        println!(
            "{name:<22} {floor:>10.0} {ours:>10.0} {theirs:>12.0} {:>9.2} {:>13.2}",
            ours / floor,
            ours / theirs
        );
    }
}

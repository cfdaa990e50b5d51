//! Requests with small responses: ours, the bare connections (the floor), and hyper-util's client.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use hpx_transport::http::{Body, Client, HttpConfig, Protocol};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpStream, runtime::Runtime};

use crate::{cores, median, runtime, servers::BODY};

/// Requests a second, and the client's processor time for each in nanoseconds.
type Figure = (f64, f64);

/// Runs `each` requests in each of so many tasks at once.
fn measure<F: Future<Output = ()>>(
    runtime: &Runtime,
    total: usize,
    workers: impl Iterator<Item = F>,
) -> Figure {
    let (begun, before) = (Instant::now(), cores::processor_time());
    runtime.block_on(join_all(workers));
    let (took, processor) = (begun.elapsed(), cores::processor_time() - before);
    (total as f64 / took.as_secs_f64(), processor.as_nanos() as f64 / total as f64)
}

/// So many in flight.
fn rate<F: Future<Output = ()>>(in_flight: usize, total: usize, one: impl Fn() -> F) -> Figure {
    let each = total / in_flight;
    let worker = || async {
        for _ in 0..each {
            one().await;
        }
    };
    let runtime = runtime();
    // Warm: connections are there.
    runtime.block_on(join_all((0..in_flight).map(|_| one())));
    measure(&runtime, each * in_flight, (0..in_flight).map(|_| worker()))
}

fn ours(address: SocketAddr, protocol: Protocol, in_flight: usize, total: usize) -> Figure {
    let mut config = HttpConfig { protocol, h2_streams_max: 1000, ..HttpConfig::default() };
    config.pool.idle_per_host_max = 256;
    let client = Client::new(config).expect("a valid configuration");
    let uri: http::Uri = format!("http://{address}/").parse().expect("a URI");
    rate(in_flight, total, || async {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.clone();
        let response = client.request(request).await.expect("a response");
        assert_eq!(response.into_body().bytes(1000).await.expect("a body").len(), BODY.len());
    })
}

fn theirs(address: SocketAddr, h2: bool, in_flight: usize, total: usize) -> Figure {
    let client: legacy::Client<_, Empty<Bytes>> =
        legacy::Client::builder(TokioExecutor::new()).http2_only(h2).build_http();
    let uri: http::Uri = format!("http://{address}/").parse().expect("a URI");
    rate(in_flight, total, || async {
        let response = client.get(uri.clone()).await.expect("a response");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body.len(), BODY.len());
    })
}

/// As many bare connections as there are requests in flight, each used by one at a time.
fn floor_h1(address: SocketAddr, in_flight: usize, total: usize) -> Figure {
    let each = total / in_flight;
    let runtime = runtime();
    let senders = runtime.block_on(join_all((0..in_flight).map(|_| async {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let _ = stream.set_nodelay(true);
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        sender
    })));
    let worker = |mut sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>| async move {
        for _ in 0..each {
            let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new());
            sender.ready().await.expect("it is open");
            let response = sender.send_request(request.expect("a request")).await.expect("a response");
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(body.len(), BODY.len());
        }
    };
    measure(&runtime, each * in_flight, senders.into_iter().map(worker))
}

/// One bare connection, shared.
fn floor_h2(address: SocketAddr, in_flight: usize, total: usize) -> Figure {
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
    let worker = |_| {
        let (sender, uri) = (sender.clone(), Arc::clone(&uri));
        async move {
            for _ in 0..each {
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
    };
    // The server's limit is known before there are more than it allows.
    runtime.block_on(worker(0));
    measure(&runtime, each * in_flight, (0..in_flight).map(worker))
}

/// One table: medians of rounds in which all take turns.
pub(crate) fn table(h1: SocketAddr, h2: SocketAddr, rounds: usize, scale: usize) {
    println!(
        "{:<12} {:>9} {:>9} {:>10} {:>10} {:>15}   processor, ns: floor, ours, hyper-util",
        "in flight", "floor", "ours", "hyper-util", "ours/floor", "ours/hyper-util"
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
        let processor = figures.clone().map(|of| median(of.into_iter().map(|(_, nanos)| nanos).collect()));
        let [floor, ours, theirs] = figures.map(|of| median(of.into_iter().map(|(rate, _)| rate).collect()));
        println!(
            "{name:<12} {floor:>9.0} {ours:>9.0} {theirs:>10.0} {:>10.2} {:>15.2}   {:>13.0} {:>6.0} {:>8.0}",
            ours / floor,
            ours / theirs,
            processor[0],
            processor[1],
            processor[2]
        );
    }
}

//! One large body over HTTP/2 on a link with a round trip of 20 ms: how fast the window lets it through.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hpx_transport::http::{Client, HttpConfig, Protocol};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy, rt::TokioExecutor};

use crate::{cores, median, runtime, servers};

const SIZE: usize = 100 * 1024 * 1024;
const LARGE: u32 = 64 * 1024 * 1024;
const ONE_WAY: Duration = Duration::from_millis(10);
/// A link of 3.5 Gbit/s, and one as fast as the machine.
const LINKS: [(&str, Option<f64>); 2] = [("3.5 Gbit/s", Some(437.5e6)), ("unlimited", None)];

/// Gigabytes a second, and the client's processor time.
type Figure = (f64, Duration);

/// A contender: its name, and how it fetches.
type Entry = (&'static str, Box<dyn Fn(SocketAddr, usize) -> Figure>);

async fn timed<F: Future<Output = usize>>(size: usize, fetch: impl Fn(usize) -> F) -> Figure {
    // The connection is there, and knows its peer's settings.
    fetch(1).await;
    let (begun, before) = (Instant::now(), cores::processor_time());
    assert_eq!(fetch(size).await, size);
    (size as f64 / begun.elapsed().as_secs_f64() / 1e9, cores::processor_time() - before)
}

fn ours(window: u32, window_max: u32) -> impl Fn(SocketAddr, usize) -> Figure {
    move |address, size| {
        let protocol = Protocol::Http2;
        let config =
            HttpConfig { protocol, h2_window: window, h2_window_max: window_max, ..HttpConfig::default() };
        let client = Client::new(config).expect("a valid configuration");
        runtime().block_on(timed(size, |size| {
            let client = client.clone();
            async move {
                let response = client.get(&format!("http://{address}/{size}")).await.expect("a response");
                let mut body = response.into_body();
                let mut read = 0;
                while let Some(piece) = body.chunk().await.expect("a body") {
                    read += piece.len();
                }
                read
            }
        }))
    }
}

fn theirs(set: impl Fn(&mut legacy::Builder)) -> impl Fn(SocketAddr, usize) -> Figure {
    move |address, size| {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.http2_only(true);
        set(&mut builder);
        let client: legacy::Client<_, Empty<Bytes>> = builder.build_http();
        runtime().block_on(timed(size, |size| {
            let client = client.clone();
            async move {
                let uri = format!("http://{address}/{size}").parse().expect("a URI");
                let mut body = client.get(uri).await.expect("a response").into_body();
                let mut read = 0;
                while let Some(frame) = body.frame().await {
                    read += frame.expect("a body").into_data().map_or(0, |data| data.len());
                }
                read
            }
        }))
    }
}

fn entries() -> Vec<Entry> {
    let default = HttpConfig::default();
    let fixed = |builder: &mut legacy::Builder| {
        builder.http2_initial_stream_window_size(LARGE).http2_initial_connection_window_size(LARGE);
    };
    let adaptive = |builder: &mut legacy::Builder| {
        builder.http2_adaptive_window(true);
    };
    vec![
        ("hyper-util, 64 MiB fixed", Box::new(theirs(fixed))),
        ("hyper-util, adaptive", Box::new(theirs(adaptive))),
        ("hyper-util, as it comes", Box::new(theirs(|_| {}))),
        ("ours, 64 MiB fixed", Box::new(ours(LARGE, LARGE))),
        ("ours, as it comes", Box::new(ours(default.h2_window, default.h2_window_max))),
    ]
}

/// One table: medians of rounds in which all take turns.
pub(crate) fn table(rounds: usize, scale: usize) {
    for (name, rate) in LINKS {
        link(name, servers::serve_h2(ONE_WAY, rate), rounds, scale);
    }
}

fn link(name: &str, address: SocketAddr, rounds: usize, scale: usize) {
    let entries = entries();
    let mut figures = vec![Vec::new(); entries.len()];
    for _ in 0..rounds {
        for ((_, fetch), figures) in entries.iter().zip(&mut figures) {
            figures.push(fetch(address, SIZE / scale));
        }
    }
    println!(
        "\n{:<36} {:>8} {:>9} {:>14}",
        format!("100 MiB at 20 ms, {name}"),
        "GB/s",
        "of fixed",
        "processor, ms"
    );
    let rate = |of: &[Figure]| median(of.iter().map(|(rate, _)| *rate).collect());
    let best = rate(&figures[3]).max(rate(&figures[0]));
    for ((name, _), figures) in entries.iter().zip(&figures) {
        let processor = median(figures.iter().map(|(_, time)| time.as_secs_f64() * 1e3).collect());
        println!("{name:<36} {:>8.3} {:>9.2} {processor:>14.0}", rate(figures), rate(figures) / best);
    }
}

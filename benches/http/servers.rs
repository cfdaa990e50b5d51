//! Servers that are never the bottleneck for long, on a core of their own.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::Response;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::Instant,
};

use crate::{cores, runtime};

/// What every small response carries.
pub(crate) const BODY: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// The core servers run on.
const CORE: usize = 1;

/// Answers every head with the same bytes.
pub(crate) fn serve_h1() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        cores::bind(CORE);
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
    });
    address
}

/// The h2 crate's server. It answers `/` with [`BODY`] and `/N` with N bytes, over a link that takes `delay` each
/// way and lets `rate` bytes a second through.
pub(crate) fn serve_h2(delay: Duration, rate: Option<f64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("it can");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        cores::bind(CORE);
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                if delay.is_zero() {
                    tokio::spawn(answer_h2(stream));
                    continue;
                }
                let (near, far) = tokio::io::duplex(1024 * 1024);
                let (near, (from_client, to_client)) = (tokio::io::split(near), stream.into_split());
                tokio::spawn(carry(from_client, near.1, delay, rate));
                tokio::spawn(carry(near.0, to_client, delay, rate));
                tokio::spawn(answer_h2(far));
            }
        });
    });
    address
}

async fn answer_h2(io: impl AsyncRead + AsyncWrite + Unpin) {
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(1000).max_send_buffer_size(4 * 1024 * 1024);
    let Ok(mut connection) = settings.handshake::<_, Bytes>(io).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let Ok(mut stream) = respond.send_response(Response::new(()), false) else { continue };
        let Ok(size) = request.uri().path()[1..].parse::<usize>() else {
            let _ = stream.send_data(Bytes::from_static(BODY.as_bytes()), true);
            continue;
        };
        tokio::spawn(async move {
            let block = Bytes::from(vec![7; 1024 * 1024]);
            let mut left = size;
            while left > 0 {
                stream.reserve_capacity(left.min(block.len()));
                let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
                    return;
                };
                let piece = room.min(left).min(block.len());
                left -= piece;
                if stream.send_data(block.slice(..piece), left == 0).is_err() {
                    return;
                }
            }
        });
    }
}

/// Carries bytes at a rate, each `delay` later. What is on the way is bounded by what the two ends allow each other.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
    rate: Option<f64>,
) {
    let (way_in, mut way_out) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    let reads = async move {
        let mut buffer = BytesMut::new();
        // When the link is free for more.
        let mut free_at = Instant::now();
        loop {
            buffer.reserve(256 * 1024);
            let Ok(read @ 1..) = from.read_buf(&mut buffer).await else { return };
            let takes = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(read as f64 / rate));
            free_at = free_at.max(Instant::now()) + takes;
            if way_in.send((free_at + delay, buffer.split().freeze())).is_err() {
                return;
            }
        }
    };
    let writes = async move {
        while let Some((due, bytes)) = way_out.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reads, writes);
}

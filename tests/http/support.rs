//! Servers that do what a test says.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::server::SendResponse;
use hpx_transport::{
    TransportError, TransportResult,
    http::{Client, HttpConfig, PoolConfig, Protocol, ResponseBody},
};
use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// A listening server; each connection is served by a task of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// `serve` is given each connection and its number, from 1.
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(serve(stream, number));
            }
        });
        Self { address, accepted }
    }

    /// Takes the first request of each connection over HTTP/2 and is silent: nothing more is read, and no ping answered.
    pub(crate) async fn silent() -> Self {
        Self::start(|stream, _| async move {
            let settings = h2::server::Builder::new();
            let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
            let first = connection.accept().await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop((first, connection));
        })
        .await
    }

    /// Answers every request on every connection with the same words.
    pub(crate) async fn saying(words: &'static str) -> Self {
        Self::start(move |mut stream, _| async move {
            while head(&mut stream).await.is_some() {
                if stream.write_all(words.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    pub(crate) fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The head of the next request, without its body; `None` if the client has gone.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Reads until the client has gone.
pub(crate) async fn until_gone(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
}

/// Serves HTTP/2; `answer` is given each request and its number on the connection, from 1.
pub(crate) async fn serve_h2<F>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    settings: &h2::server::Builder,
    answer: impl Fn(Request<h2::RecvStream>, SendResponse<Bytes>, usize) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
    let mut number = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        number += 1;
        tokio::spawn(answer(request, respond, number));
    }
}

/// Answers with a body.
pub(crate) fn respond(mut respond: SendResponse<Bytes>, body: &'static str) {
    let Ok(mut stream) = respond.send_response(Response::new(()), body.is_empty()) else { return };
    if !body.is_empty() {
        let _ = stream.send_data(Bytes::from_static(body.as_bytes()), true);
    }
}

pub(crate) fn client(change: impl FnOnce(&mut HttpConfig)) -> Client {
    let mut config = HttpConfig {
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        ..HttpConfig::default()
    };
    change(&mut config);
    Client::new(config).expect("a valid configuration")
}

pub(crate) fn plain() -> Client {
    client(|_| {})
}

/// HTTP/2 without TLS.
pub(crate) fn prior() -> Client {
    client(|config| config.protocol = Protocol::Http2)
}

pub(crate) fn limited(open_per_host_max: usize) -> Client {
    client(|config| config.pool = PoolConfig { open_per_host_max, ..PoolConfig::default() })
}

/// Nothing here takes longer.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// The body of a response, which must come whole.
pub(crate) async fn text(response: TransportResult<Response<ResponseBody>>) -> String {
    let body = response.expect("a response").into_body();
    let bytes = soon("the body", body.bytes(1 << 24)).await.expect("a whole body");
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Why a response, or its body, failed.
pub(crate) async fn failure(response: TransportResult<Response<ResponseBody>>) -> TransportError {
    match response {
        Err(error) => error,
        Ok(response) => {
            soon("the body", response.into_body().bytes(1 << 24)).await.expect_err("it came whole")
        }
    }
}

/// Waits until the pool of the client is as wanted.
pub(crate) async fn settles(client: &Client, is_so: impl Fn(hpx_transport::http::PoolStats) -> bool) {
    for _ in 0..500 {
        if is_so(client.pool()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the pool is at {:?}", client.pool());
}

//! The production environment keeps the contract of `env`.
#![cfg(feature = "test-util")]

use hpx_transport::env::{self, conformance};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[tokio::test]
async fn tokio_passes_every_check_that_needs_no_peer() {
    conformance::run(&env::Tokio::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_passes_them_on_many_threads() {
    conformance::run(&env::Tokio::new()).await;
}

#[tokio::test]
async fn tokio_resolves_names() {
    conformance::a_known_name_resolves(&env::Tokio::new(), "localhost").await;
    conformance::a_known_name_resolves(&env::Tokio::new(), "127.0.0.1").await;
    // Never a name: an empty label (RFC 1035, section 2.3.1). No resolver is asked.
    conformance::an_unknown_name_does_not_resolve(&env::Tokio::new(), "no..name").await;
}

#[tokio::test]
async fn tokio_connects_and_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut bytes = [0; 13];
        stream.read_exact(&mut bytes).await.expect("thirteen bytes");
        stream.write_all(&bytes).await.expect("an open stream");
        // The drop of the other end is heard.
        assert_eq!(stream.read(&mut bytes).await.unwrap_or(0), 0);
    });
    conformance::bytes_come_back(&env::Tokio::new(), address).await;
    echo.await.expect("the echo server saw the end");
    // Its listener is gone.
    conformance::a_closed_port_refuses(&env::Tokio::new(), address).await;
}

//! HTTPS: protocols offered, sessions resumed, certificates refused.

use std::sync::Arc;

use h2::server;
use hpx_transport::{
    ErrorKind, Origin,
    http::{Client, ConnectionInfo, HttpConfig, PoolStats, Protocol},
    tls::{SessionCache, TlsConfig},
};
use rustls::RootCertStore;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use super::{identity::Identity, support::*};

struct Secure {
    server: Server,
    roots: RootCertStore,
}

/// A server of `name` that picks among these protocols, and says over which it was asked.
async fn secure(name: &str, alpn: &[&str]) -> Secure {
    let identity = Identity::new(name, |_| {});
    let roots = identity.roots();
    let mut config = identity.server;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let answer = |_, answer, _| async move { respond(answer, "over h2") };
                return serve_h2(stream, &server::Builder::new(), answer).await;
            }
            while head(&mut stream).await.is_some() {
                let words = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nover h1";
                if stream.write_all(words).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    Secure { server, roots }
}

impl Secure {
    fn uri(&self) -> String {
        format!("https://localhost:{}/", self.server.address.port())
    }

    fn client(&self, protocol: Protocol) -> (Client, SessionCache) {
        let sessions = SessionCache::default();
        let tls = TlsConfig::with_roots(self.roots.clone()).sessions(sessions.clone());
        let config = HttpConfig { tls, protocol, ..HttpConfig::default() };
        (Client::new(config).expect("a valid configuration"), sessions)
    }
}

#[tokio::test]
async fn the_best_protocol_both_have_is_spoken() {
    for (offered, wanted, spoken) in [
        (&["h2", "http/1.1"][..], Protocol::Auto, "over h2"),
        (&["http/1.1"], Protocol::Auto, "over h1"),
        (&[], Protocol::Auto, "over h1"),
        (&["h2", "http/1.1"], Protocol::Http1, "over h1"),
        (&["h2", "http/1.1"], Protocol::Http2, "over h2"),
    ] {
        let secure = secure("localhost", offered).await;
        let (client, _) = secure.client(wanted);
        assert_eq!(text(client.get(&secure.uri()).await).await, spoken, "{offered:?} {wanted:?}");
    }
}

#[tokio::test]
async fn a_peer_without_the_only_protocol_wanted_is_a_tls_error() {
    for offered in [&[][..], &["http/1.1"]] {
        let secure = secure("localhost", offered).await;
        let (client, _) = secure.client(Protocol::Http2);
        let error = client.get(&secure.uri()).await.expect_err("it has no HTTP/2");
        assert_eq!((error.kind(), client.pool()), (ErrorKind::Tls, PoolStats::default()), "{error:?}");
    }
}

#[tokio::test]
async fn the_second_connection_resumes_the_session_of_the_first() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let secure = secure("localhost", &["h2", "http/1.1"]).await;
        let (client, sessions) = secure.client(protocol);
        for (number, resumed) in [(0, false), (1, true), (2, true)] {
            let response = client.get(&secure.uri()).await;
            let info = response.as_ref().expect("a response").body().connection();
            assert_eq!(info, ConnectionInfo { reused: false, resumed: Some(resumed) }, "{number}");
            text(response).await;
            settles(&client, |pool| pool.idle == 1).await;
            client.drain();
            settles(&client, |pool| pool.open == 0).await;
        }
        let stats = sessions.stats();
        assert_eq!((stats.full, stats.resumed), (1, 2));
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused_and_nothing_is_sent() {
    let secure = secure("elsewhere.test", &["h2"]).await;
    let (client, _) = secure.client(Protocol::Auto);
    let error = client.get(&secure.uri()).await.expect_err("another name");
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Certificate, Origin::Peer));
    assert!(!error.may_retry());
    assert_eq!(client.pool(), PoolStats::default());
}

#[tokio::test]
async fn a_host_is_dialed_once_while_nobody_knows_its_protocol() {
    let secure = secure("localhost", &["h2"]).await;
    let (client, _) = secure.client(Protocol::Auto);
    let uri = secure.uri();
    let all = (0..20).map(|_| async { text(client.get(&uri).await).await });
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|body| body == "over h2"));
    assert_eq!(secure.server.accepted(), 1);
}

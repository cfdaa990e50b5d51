//! `wss://`, against certificates made for the test.

use std::sync::Arc;

use hpx_transport::{
    tls::{SessionCache, TlsConfig},
    websocket::{CloseCause, ErrorKind, Event, Origin, TransportError, WsConfig},
};
use rcgen::{CertificateParams, date_time_ymd};
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use super::identity::Identity;
use super::support::{
    config, connect,
    raw::{self, RawServer},
    soon,
};

/// A certificate, and a server that shows it.
struct Shown {
    identity: Identity,
    acceptor: TlsAcceptor,
}

fn identity(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
    let identity = Identity::new(name, change);
    let acceptor = TlsAcceptor::from(Arc::new(identity.server.clone()));
    Shown { identity, acceptor }
}

impl Shown {
    fn trusted(&self) -> TlsConfig {
        TlsConfig::with_roots(self.identity.roots())
    }

    /// Upgrades over TLS and says welcome, on every connection.
    async fn serve(&self) -> RawServer {
        let acceptor = self.acceptor.clone();
        RawServer::start(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                raw::upgrade(&mut stream).await;
                let _ = stream.write_all(&raw::text(r#"{"op":"welcome"}"#)).await;
                raw::drain(&mut stream).await;
            }
        })
        .await
    }
}

fn wss(server: &RawServer, host: &str, tls: TlsConfig) -> WsConfig {
    config(&format!("wss://{host}:{}/", server.address.port())).tls(tls)
}

async fn welcome(settings: WsConfig) {
    let (handle, mut events) = connect(settings).await;
    soon("ready", handle.ready()).await.expect("the certificate is trusted");
    let text = events
        .find("the welcome", |event| match event {
            Event::Message(message) => message.text.clone(),
            _ => None,
        })
        .await;
    assert_eq!(&*text, r#"{"op":"welcome"}"#);
}

/// Why a connection is refused for good.
async fn refused(settings: WsConfig) -> TransportError {
    let (_handle, mut events) = connect(settings).await;
    let (cause, _) = events.closed().await;
    let CloseCause::Refused(cause) = cause else { panic!("{cause:?}") };
    assert_eq!((cause.kind(), cause.origin()), (ErrorKind::Certificate, Origin::Peer));
    assert!(!cause.may_retry());
    assert!(std::error::Error::source(&cause).is_some());
    cause
}

#[tokio::test]
async fn a_certificate_of_a_custom_root_is_trusted() {
    let identity = identity("localhost", |_| {});
    let server = identity.serve().await;
    welcome(wss(&server, "localhost", identity.trusted())).await;
}

#[tokio::test]
async fn reconnects_resume_the_session() {
    let identity = identity("localhost", |_| {});
    let server = identity.serve().await;
    let sessions = SessionCache::default();
    let settings = wss(&server, "localhost", identity.trusted().sessions(sessions.clone()));
    let (handle, mut events) = connect(settings.clone()).await;
    for reconnects in 0..3 {
        soon("ready", handle.ready()).await.expect("the certificate is trusted");
        // The tickets come with what the server says first.
        events.find("the welcome", |event| matches!(event, Event::Message(_)).then_some(())).await;
        let stats = sessions.stats();
        assert_eq!((stats.full, stats.resumed), (1, reconnects));
        handle.reconnect("a test").expect("it lives");
        events.find("the loss", |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    }
    // Another connection of the same configuration has them too.
    welcome(settings).await;
    assert_eq!(sessions.stats().full, 1);
}

#[tokio::test]
async fn a_certificate_may_name_an_address() {
    let identity = identity("127.0.0.1", |_| {});
    let server = identity.serve().await;
    welcome(wss(&server, "127.0.0.1", identity.trusted())).await;
}

#[tokio::test]
async fn extra_roots_come_on_top_of_the_known_ones() {
    let identity = identity("localhost", |_| {});
    let server = identity.serve().await;
    let tls = TlsConfig::with_extra_roots([identity.identity.certificate.clone()]).expect("a certificate");
    welcome(wss(&server, "localhost", tls)).await;
}

#[tokio::test]
async fn a_custom_rustls_config_is_taken_as_it_is() {
    let identity = identity("localhost", |_| {});
    let server = identity.serve().await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has TLS")
        .with_root_certificates(identity.identity.roots())
        .with_no_client_auth();
    welcome(wss(&server, "localhost", TlsConfig::custom(Arc::new(client)))).await;
}

#[tokio::test]
async fn an_unknown_root_is_refused_for_good() {
    let server = identity("localhost", |_| {}).serve().await;
    let cause = refused(wss(&server, "localhost", TlsConfig::default())).await;
    assert!(cause.to_string().contains("certificate of localhost was refused"), "{cause}");
    assert_eq!(server.accepted(), 1, "a bad certificate is not retried");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused_for_good() {
    let identity = identity("example.com", |_| {});
    let server = identity.serve().await;
    let cause = refused(wss(&server, "localhost", identity.trusted())).await;
    assert!(cause.to_string().contains("localhost"), "{cause}");
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_for_good() {
    let identity = identity("localhost", |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let server = identity.serve().await;
    let cause = refused(wss(&server, "localhost", identity.trusted())).await;
    assert!(cause.to_string().contains("expired"), "{cause}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_a_tls_error_and_retried() {
    let server = RawServer::start(|mut stream, _| async move {
        let _ = stream.write_all(raw::http("400 Bad Request", "").as_bytes()).await;
        raw::drain(&mut stream).await;
    })
    .await;
    let (_handle, mut events) = connect(wss(&server, "localhost", TlsConfig::default())).await;
    let (_, _, cause) = events.retrying().await;
    assert_eq!(cause.kind(), ErrorKind::Tls);
}

#[tokio::test]
async fn a_tls_handshake_that_never_ends_fails_at_connect_timeout() {
    let server = RawServer::start(|mut stream, _| async move { raw::drain(&mut stream).await }).await;
    let settings = wss(&server, "localhost", TlsConfig::default());
    let (_handle, mut events) = connect(settings.connect_timeout(std::time::Duration::from_millis(80))).await;
    let (_, _, cause) = events.retrying().await;
    assert!(cause.is_timeout(), "{cause:?}");
}

#[tokio::test]
async fn close_over_tls_says_goodbye() {
    let identity = identity("localhost", |_| {});
    let acceptor = identity.acceptor.clone();
    let (codes_out, mut codes) = tokio::sync::mpsc::unbounded_channel();
    let server = RawServer::start(move |stream, _| {
        let (acceptor, codes_out) = (acceptor.clone(), codes_out.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            raw::upgrade(&mut stream).await;
            let _ = codes_out.send(raw::close_code(&mut stream).await);
        }
    })
    .await;
    let (handle, _events) = connect(wss(&server, "localhost", identity.trusted())).await;
    soon("ready", handle.ready()).await.expect("the certificate is trusted");
    soon("close", handle.close()).await;
    assert_eq!(soon("a code", codes.recv()).await, Some(Some(1000)));
}

//! Settings that can't be: refused before anything is dialed, by field and rule.

use std::time::Duration;

use hpx_transport::websocket::{Connection, Delivery, ErrorKind, Origin, WsClient, WsConfig};

use super::support::Dialect;

/// The error for a config, which must name `field` and say `rule`.
async fn refuses(settings: WsConfig, field: &str, rule: &str) {
    let error = Connection::connect(settings, Dialect::default()).await.expect_err(rule);
    assert_eq!((error.kind(), error.origin()), (ErrorKind::Config, Origin::Caller), "{error}");
    assert_eq!((error.field(), error.delivery()), (Some(field), Delivery::NotSent), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(field) && text.contains(rule), "{text}");
    assert!(!error.may_retry());
}

fn base() -> WsConfig {
    WsConfig::new("ws://127.0.0.1:9/")
}

#[tokio::test]
async fn a_malformed_url_is_refused() {
    refuses(WsConfig::new("ws://exa mple.com"), "url", "is malformed").await;
    refuses(WsConfig::new(""), "url", "is malformed").await;
    refuses(WsConfig::new("ws://"), "url", "").await;
    refuses(WsConfig::new("ws://host:70000/"), "url", "").await;
    refuses(WsConfig::new("ws://host:0/"), "url", "port 0").await;
}

#[tokio::test]
async fn an_unknown_scheme_is_refused_by_name() {
    refuses(WsConfig::new("http://host/"), "url", "not http://").await;
    refuses(WsConfig::new("host/path"), "url", "").await;
    refuses(WsConfig::new("/path"), "url", "must start with ws:// or wss://").await;
}

#[tokio::test]
async fn credentials_and_fragments_in_a_url_are_refused() {
    refuses(WsConfig::new("ws://user:secret@host/"), "url", "must not hold credentials").await;
    refuses(WsConfig::new("ws://host/#part"), "url", "must not have a fragment").await;
}

#[tokio::test]
async fn a_duration_of_zero_is_refused() {
    const ZERO: Duration = Duration::ZERO;
    let rule = "must be longer than zero";
    refuses(base().ping_interval(ZERO), "ping_interval", rule).await;
    refuses(base().pong_timeout(ZERO), "pong_timeout", rule).await;
    refuses(base().request_timeout(ZERO), "request_timeout", rule).await;
    refuses(base().connect_timeout(ZERO), "connect_timeout", rule).await;
    refuses(base().auth_timeout(ZERO), "auth_timeout", rule).await;
    refuses(base().write_timeout(ZERO), "write_timeout", rule).await;
    refuses(base().close_timeout(ZERO), "close_timeout", rule).await;
    refuses(base().reconnect_max_delay(ZERO), "reconnect_max_delay", rule).await;
}

#[tokio::test]
async fn a_backoff_that_makes_no_sense_is_refused() {
    refuses(
        base().reconnect_initial_delay(Duration::from_secs(61)),
        "reconnect_initial_delay",
        "must not exceed reconnect_max_delay",
    )
    .await;
    for factor in [0.5, f64::NAN, f64::INFINITY] {
        refuses(base().reconnect_backoff_factor(factor), "reconnect_backoff_factor", "at least 1").await;
    }
    for share in [-0.1, 1.1, f64::NAN] {
        refuses(base().reconnect_jitter(share), "reconnect_jitter", "between 0 and 1").await;
    }
}

#[tokio::test]
async fn a_limit_out_of_range_is_refused() {
    refuses(base().max_pending_requests(0), "max_pending_requests", "at least 1").await;
    refuses(base().max_pending_requests((1 << 19) + 1), "max_pending_requests", "at most 524288").await;
    refuses(base().subscription_channel_capacity(0), "subscription_channel_capacity", "at least 1").await;
    refuses(base().command_channel_capacity(0), "command_channel_capacity", "at least 1").await;
    refuses(base().command_channel_capacity(usize::MAX), "command_channel_capacity", "at most").await;
    refuses(base().event_channel_capacity(7), "event_channel_capacity", "at least 8").await;
    refuses(base().max_message_size(0), "max_message_size", "at least 1 byte").await;
    refuses(base().read_buffer_size(127), "read_buffer_size", "at least 128 bytes").await;
}

#[tokio::test]
async fn a_bad_header_is_refused_without_its_value() {
    refuses(base().header("bad name", "x"), "headers", "invalid name").await;
    refuses(base().header("Host", "x"), "headers", "must not set host").await;
    refuses(base().header("Sec-WebSocket-Key", "x"), "headers", "must not set sec-websocket-key").await;
    let split = base().header("x-token", "hunter2\r\nx-evil: 1");
    let error = Connection::connect(split, Dialect::default()).await.expect_err("a line break");
    assert_eq!(error.field(), Some("headers"));
    assert!(error.to_string().contains("invalid value for x-token"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_bad_subprotocol_is_refused() {
    refuses(base().subprotocols([""]), "subprotocols", "invalid name").await;
    refuses(base().subprotocols(["a b"]), "subprotocols", "invalid name").await;
}

#[tokio::test]
async fn a_host_no_certificate_can_name_is_refused() {
    refuses(WsConfig::new("wss://under_score..example/"), "url", "").await;
}

#[tokio::test]
async fn a_bad_root_certificate_is_refused() {
    let junk = rustls::pki_types::CertificateDer::from(vec![1, 2, 3]);
    let error = hpx_transport::tls::TlsConfig::with_extra_roots([junk]).expect_err("no certificate");
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("tls")));
}

#[tokio::test]
async fn every_way_to_connect_checks_the_config() {
    let bad = || base().request_timeout(Duration::ZERO);
    assert_eq!(bad().validate().expect_err("zero").field(), Some("request_timeout"));
    let error = Connection::connect_stream(bad(), Dialect::default()).await.expect_err("zero");
    assert_eq!(error.field(), Some("request_timeout"));
    let error = WsClient::connect(bad(), Dialect::default()).await.expect_err("zero");
    assert_eq!(error.field(), Some("request_timeout"));
}

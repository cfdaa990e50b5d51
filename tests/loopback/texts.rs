//! What every error says, in one place to read. A changed text is a changed snapshot.

use std::time::Duration;

use hpx_transport::{
    tls::TlsConfig,
    websocket::{
        Connection, Event, ProtocolHandler, RequestId, SubscriptionGuard, Topic, TransportError, WsConfig,
        WsMessage,
    },
};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::support::{
    Dialect, Server, config, connect, connect_with,
    elsewhere::{Elsewhere, Names},
    raw::{self, RawServer},
    ready,
    server::{Auth, Script},
    soon,
};

const SHORT: Duration = Duration::from_millis(50);

/// One line an error: kind, origin, delivery, text.
#[derive(Default)]
struct Texts(Vec<String>);

impl Texts {
    fn note(&mut self, error: &TransportError) {
        let text = without_ports(&error.to_string());
        assert!(!text.contains('\n') && !text.ends_with('.'), "one clause: {text}");
        assert!(text.starts_with(|first: char| !first.is_uppercase()), "small letters: {text}");
        let (kind, origin, delivery) = (error.kind(), error.origin(), error.delivery());
        self.0.push(format!("{kind:?}, {origin:?}, {delivery:?}: {text}"));
    }

    fn check(self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/text"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, self.0.join("\n")));
    }
}

/// Ports differ from run to run.
fn without_ports(text: &str) -> String {
    let parts = text.split("127.0.0.1:").enumerate().map(|(place, part)| match place {
        0 => part.to_owned(),
        _ => format!("127.0.0.1:PORT{}", part.trim_start_matches(|digit: char| digit.is_ascii_digit())),
    });
    parts.collect()
}

#[test]
fn the_texts_of_bad_settings() {
    const ZERO: Duration = Duration::ZERO;
    let base = || WsConfig::new("ws://host/");
    let bad = [
        WsConfig::new("ws://ho st/"),
        WsConfig::new("http://host/"),
        WsConfig::new("/path"),
        WsConfig::new("ws://user:password@host/"),
        WsConfig::new("ws://host/#part"),
        WsConfig::new("ws://host:0/"),
        WsConfig::new("ws://host:99999/"),
        WsConfig::new("ws://:80/"),
        base().reconnect_max_delay(ZERO),
        base().ping_interval(ZERO),
        base().pong_timeout(ZERO),
        base().request_timeout(ZERO),
        base().connect_timeout(ZERO),
        base().auth_timeout(ZERO),
        base().write_timeout(ZERO),
        base().close_timeout(ZERO),
        base().reconnect_initial_delay(Duration::from_secs(61)),
        base().reconnect_backoff_factor(0.0),
        base().reconnect_jitter(2.0),
        base().max_pending_requests(0),
        base().max_pending_requests(usize::MAX),
        base().subscription_channel_capacity(0),
        base().command_channel_capacity(0),
        base().command_channel_capacity(usize::MAX),
        base().event_channel_capacity(0),
        base().max_message_size(0),
        base().read_buffer_size(0),
        base().header("bad name", "x"),
        base().header("host", "x"),
        base().header("x-key", "line\nbreak"),
        base().subprotocols(["a b"]),
    ];
    let mut texts = Texts::default();
    for settings in bad {
        texts.note(&settings.validate().expect_err("a bad setting"));
    }
    let junk = [CertificateDer::from(vec![1, 2, 3])];
    texts.note(&TlsConfig::with_extra_roots(junk).expect_err("no certificate"));
    texts.check("config");
}

/// Why the first dial failed.
async fn failure(texts: &mut Texts, settings: WsConfig) {
    let (_handle, mut events) = connect(settings.reconnect_max_attempts(0)).await;
    let (cause, _) = events.closed().await;
    texts.note(cause.error().expect("a failure"));
}

async fn answer(texts: &mut Texts, answer: impl Into<String>) {
    let server = RawServer::answering(answer).await;
    failure(texts, config(&server.url())).await;
}

#[tokio::test]
async fn the_texts_of_failed_dials() {
    let mut texts = Texts::default();
    for names in [Names::Unknown, Names::Nowhere, Names::Refusing] {
        let settings = config("ws://example.com/").reconnect_max_attempts(0).connect_timeout(SHORT);
        let (_handle, mut stream) =
            Connection::connect_in(Elsewhere::new(names), settings, Dialect::default())
                .await
                .expect("a valid config");
        while let Some(event) = soon("an event", stream.recv()).await {
            if let Event::Closed { cause, .. } = event {
                texts.note(cause.error().expect("a failure"));
            }
        }
    }
    for status in ["200 OK", "301 Moved Permanently", "401 Unauthorized", "429 Too Many", "503 Unavailable"] {
        answer(&mut texts, raw::http(status, "")).await;
    }
    answer(&mut texts, "SMTP\r\n").await;
    answer(&mut texts, "HTTP/1.1 what\r\n\r\n").await;
    answer(&mut texts, format!("HTTP/1.1 101 X\r\nA: {}", "a".repeat(20_000))).await;
    answer(&mut texts, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n").await;
    answer(&mut texts, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n").await;
    answer(&mut texts, raw::switching("bm8=")).await;
    answer(&mut texts, "").await;
    for line in
        ["Sec-WebSocket-Extensions: x", "Sec-WebSocket-Protocol: v9", "Sec-WebSocket-Protocol: v1", "X: y"]
    {
        let server = RawServer::start(move |mut stream, _| async move {
            let head = raw::read_head(&mut stream).await;
            let key = raw::accept_key(&head);
            let answer = raw::switching(&key).replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1);
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.write_all(&raw::frame(0x88, &[])).await;
            raw::drain(&mut stream).await;
        })
        .await;
        failure(&mut texts, config(&server.url()).subprotocols(["v1"])).await;
    }
    let silent = RawServer::start(|mut stream, _| async move { raw::drain(&mut stream).await }).await;
    failure(&mut texts, config(&silent.url()).connect_timeout(SHORT)).await;
    let plain = RawServer::start(|mut stream, _| async move {
        let _ = stream.write_all(&raw::text("not TLS")).await;
        raw::drain(&mut stream).await;
    })
    .await;
    failure(&mut texts, config(&plain.url().replacen("ws", "wss", 1))).await;
    let hangs_up = RawServer::start(|mut stream, _| async move {
        let _ = stream.shutdown().await;
        raw::drain(&mut stream).await;
    })
    .await;
    failure(&mut texts, config(&hangs_up.url().replacen("ws", "wss", 1))).await;
    texts.check("dial");
}

/// Why a link was lost on which the server wrote `bytes`.
async fn loss(texts: &mut Texts, bytes: Vec<u8>) {
    let server = RawServer::start(move |mut stream, _| {
        let bytes = bytes.clone();
        async move {
            raw::upgrade(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            raw::drain(&mut stream).await;
        }
    })
    .await;
    failure(texts, config(&server.url()).max_message_size(1000)).await;
}

#[tokio::test]
async fn the_texts_of_lost_links() {
    let mut texts = Texts::default();
    loss(&mut texts, Vec::new()).await;
    loss(&mut texts, raw::text(&"x".repeat(1001))).await;
    loss(&mut texts, raw::frame(0x81, &[0xff])).await;
    loss(&mut texts, raw::frame(0x83, b"")).await;
    loss(&mut texts, raw::frame(0xc1, b"")).await;
    loss(&mut texts, raw::frame(0x80, b"")).await;
    loss(&mut texts, vec![0x81, 0x81, 0, 0, 0, 0, b'x']).await;
    loss(&mut texts, raw::frame(0x88, &[])).await;
    loss(&mut texts, raw::frame(0x88, &1001u16.to_be_bytes())).await;
    loss(&mut texts, raw::frame(0x88, &[b"\x0f\xa1".as_slice(), "line\nbreak".as_bytes()].concat())).await;
    let rejecting = Server::scripted(Script { auth: Auth::Reject, ..Script::default() }).await;
    let silent = Server::scripted(Script { auth: Auth::Silence, ..Script::default() }).await;
    for server in [&rejecting, &silent] {
        let settings = config(&server.url()).auth_timeout(SHORT).reconnect_max_attempts(0);
        let (_handle, mut events) = connect_with(settings, Dialect::with_token("t")).await;
        texts.note(events.closed().await.0.error().expect("a failure"));
    }
    let mute = RawServer::upgraded_then(Vec::new()).await;
    failure(&mut texts, config(&mute.url()).ping_interval(SHORT).pong_timeout(SHORT)).await;
    let deaf = Server::scripted(Script { deaf: true, ..Script::default() }).await;
    let settings = config(&deaf.url()).write_timeout(SHORT).command_channel_capacity(100);
    let (handle, mut events) = ready(settings).await;
    for _ in 0..24 {
        handle.send(WsMessage::binary(vec![0; 1 << 20])).await.expect("accepted");
    }
    texts.note(&events.disconnected().await);
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    handle.reconnect("a new token").expect("it lives");
    texts.note(&events.disconnected().await);
    soon("ready", handle.ready()).await.expect("it comes back");
    soon("close", handle.close()).await;
    texts.note(&events.disconnected().await);
    let (handle, mut events) = ready(config(&server.url())).await;
    drop(handle);
    texts.note(&events.disconnected().await);
    texts.check("loss");
}

#[tokio::test]
async fn the_texts_of_failed_calls() {
    let mut texts = Texts::default();
    let server = Server::start().await;
    let settings =
        config(&server.url()).max_message_size(1000).max_pending_requests(1).request_timeout(SHORT);
    let (handle, _events) = ready(settings.clone()).await;
    let request = async |value: Value| {
        soon("an error", handle.request::<_, u32>(&value)).await.expect_err("it can't succeed")
    };
    texts.note(&request(json!({"op": "hold"})).await);
    texts.note(&request(json!({"op": "echo", "value": "text"})).await);
    texts.note(&request(json!({"op": "fail", "value": "secret"})).await);
    texts.note(&request(json!([])).await);
    texts.note(&request(json!({"op": "x".repeat(2000)})).await);
    let bad: std::collections::BTreeMap<(u8, u8), u8> = [((1, 2), 3)].into();
    texts.note(&handle.send_json(&bad).await.expect_err("JSON keys are text"));
    let hold = {
        let handle = handle.clone();
        tokio::spawn(async move {
            handle.request_raw_with_timeout(r#"{"op":"hold"}"#.into(), super::support::PATIENCE).await
        })
    };
    server.until_ops("hold", 2).await;
    texts.note(&request(json!({"op": "echo"})).await);
    server.cut();
    texts.note(&soon("an error", hold).await.expect("no panic").expect_err("the link is lost"));
    soon("ready", handle.ready()).await.expect("it comes back");

    let down = config("ws://example.com/").request_timeout(SHORT);
    let (waiting, _stream) =
        Connection::connect_in(Elsewhere::new(Names::Refusing), down, Dialect::default())
            .await
            .expect("a valid config");
    texts.note(&soon("a timeout", waiting.request_raw("{}".into())).await.expect_err("no link"));
    texts.note(&soon("a timeout", waiting.send_confirmed("{}".into())).await.expect_err("no link"));

    {
        let mut close = std::pin::pin!(handle.close());
        let _ = close.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        texts.note(&handle.send("{}".into()).await.expect_err("closing"));
        soon("close", close).await;
    }
    texts.note(&handle.send("{}".into()).await.expect_err("closed"));

    let refusing = RawServer::answering(raw::http("403 Forbidden", "")).await;
    let (handle, _events) = connect(config(&refusing.url())).await;
    texts.note(&soon("an end", handle.ready()).await.expect_err("refused"));
    let (handle, _stream) = Connection::connect_in(
        Elsewhere::new(Names::Refusing),
        config("ws://example.com/").reconnect_max_attempts(2),
        Dialect::default(),
    )
    .await
    .expect("a valid config");
    texts.note(&soon("an end", handle.ready()).await.expect_err("nobody listens"));
    texts.check("call");
}

/// Panics where it is told to.
struct Clumsy(&'static str);

impl Clumsy {
    fn at(&self, method: &str) {
        assert!(self.0 != method, "clumsy");
    }
}

impl ProtocolHandler for Clumsy {
    fn classify_message(&self, _: &str) -> hpx_transport::websocket::MessageKind {
        self.at("route");
        hpx_transport::websocket::MessageKind::Unknown
    }

    fn extract_request_id(&self, _: &str) -> Option<RequestId> {
        None
    }

    fn extract_topic(&self, _: &str) -> Option<Topic> {
        None
    }

    fn build_subscribe(&self, _: &[Topic], _: RequestId) -> WsMessage {
        self.at("build_subscribe");
        WsMessage::text("{}")
    }

    fn build_unsubscribe(&self, _: &[Topic], _: RequestId) -> WsMessage {
        self.at("build_unsubscribe");
        WsMessage::text("{}")
    }

    fn on_connect(&self) -> Vec<WsMessage> {
        self.at("on_connect");
        Vec::new()
    }

    fn build_auth_message(&self) -> Option<WsMessage> {
        self.at("build_auth_message");
        self.0.starts_with("is_auth").then(|| WsMessage::text(r#"{"op":"auth"}"#))
    }

    fn is_auth_success(&self, _: &str) -> bool {
        self.at("is_auth_success");
        false
    }

    fn is_auth_failure(&self, _: &str) -> bool {
        self.at("is_auth_failure");
        false
    }

    fn build_ping(&self) -> Option<WsMessage> {
        self.at("build_ping");
        None
    }

    fn build_pong(&self, _: &[u8]) -> Option<WsMessage> {
        self.at("build_pong");
        None
    }

    fn is_server_ping(&self, _: &str) -> bool {
        self.0 == "build_pong"
    }

    fn decode_binary(&self, _: &[u8]) -> Option<String> {
        self.at("decode_binary");
        None
    }

    fn should_reconnect(&self, _: &TransportError) -> bool {
        self.at("should_reconnect");
        true
    }

    fn generate_request_id(&self, sequence: u64) -> RequestId {
        self.at("generate_request_id");
        RequestId::text(sequence.to_string())
    }

    fn inject_request_id(&self, payload: &str, _: &RequestId) -> Result<String, TransportError> {
        self.at("encode_request");
        Ok(payload.to_owned())
    }
}

#[tokio::test]
async fn the_texts_of_handlers_that_panic_anywhere() {
    let mut texts = Texts::default();
    let methods = [
        "on_connect",
        "build_auth_message",
        "is_auth_success",
        "is_auth_failure",
        "build_subscribe",
        "build_unsubscribe",
        "build_ping",
        "build_pong",
        "decode_binary",
        "route",
        "generate_request_id",
        "encode_request",
        "should_reconnect",
    ];
    for method in methods {
        let server = Server::start().await;
        let settings = config(&server.url()).ping_interval(SHORT).use_websocket_ping(false);
        let settings = if method == "build_ping" { settings } else { settings.ping_interval(None) };
        let (handle, mut events) = connect_with(settings, Clumsy(method)).await;
        // One of these leads to the method, whichever it is; those behind the panic fail.
        let guard = handle.subscribe("t").await;
        let call = {
            let handle = handle.clone();
            tokio::spawn(async move { handle.request_raw("{}".into()).await })
        };
        let _guard = match guard {
            Ok(guard) => provoke(method, &server, guard).await,
            Err(_) => None,
        };
        let (cause, _) = events.closed().await;
        let error = cause.error().expect("a failure");
        texts.note(error);
        let told = soon("an answer", call).await.expect("no panic").expect_err("the handler panicked");
        assert_eq!(told.kind(), error.kind(), "{method}");
    }
    texts.check("panic");
}

/// Makes the server do what calls `method`, where nothing else does. Gives the guard back, or drops it for the same end.
async fn provoke(method: &str, server: &Server, guard: SubscriptionGuard) -> Option<SubscriptionGuard> {
    let after_link = ["build_unsubscribe", "decode_binary", "route", "build_pong", "should_reconnect"];
    if after_link.contains(&method) {
        server.until("a message", |lives| lives.last().is_some_and(|life| !life.seen.is_empty())).await;
    }
    match method {
        "build_unsubscribe" => return None,
        "decode_binary" => server.send_message(tokio_tungstenite::tungstenite::Message::binary(vec![0])),
        "route" | "build_pong" => server.send(&json!({"op": "notice"})),
        "should_reconnect" => server.cut(),
        _ => {}
    }
    Some(guard)
}

#[test]
fn the_text_of_a_driver_that_was_dropped() {
    let runtime = super::support::runtime();
    let handle = runtime.block_on(async {
        let server = Server::start().await;
        ready(config(&server.url())).await.0
    });
    drop(runtime);
    let mut texts = Texts::default();
    super::support::runtime().block_on(async {
        texts.note(&handle.send("{}".into()).await.expect_err("the driver is gone"));
    });
    texts.check("dropped");
}

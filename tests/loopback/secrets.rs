//! What must not be told.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use hpx_transport::websocket::{TransportError, WsMessage};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::support::{
    Dialect, Server, config, connect_with,
    raw::{self, RawServer},
    server::{Auth, Script},
    soon,
};

/// In every place where a secret may be put.
const SECRET: &str = "hunter2";

/// Everything traced on this thread, in small letters.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics under it")).to_lowercase()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics under it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Traces at every level, as long as the guard lives. One runtime thread runs all tasks of such a test.
fn record() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

fn assert_clean(what: &str, text: &str) {
    assert!(!text.contains(SECRET), "{what} tells the secret:\n{text}");
}

/// The error and all that it holds on to.
fn all_of(error: &TransportError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    text
}

#[tokio::test]
async fn a_whole_life_is_traced_without_a_secret() {
    let (log, _recording) = record();
    let mut server = Server::start().await;
    let url = format!("{}{SECRET}?token={SECRET}", server.url());
    let settings = config(&url).header("authorization", format!("Bearer {SECRET}"));
    let debug = format!("{settings:?} {settings:#?}");
    assert_clean("the config", &debug);
    assert!(debug.contains("authorization") && debug.contains("/.."), "{debug}");
    let (handle, mut events) = connect_with(settings, Dialect::with_token(SECRET)).await;
    soon("ready", handle.ready()).await.expect("the server accepts");
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    server.push("trades", SECRET);
    let payload = WsMessage::text(json!({"op": "echo", "value": SECRET}).to_string());
    soon("a reply", handle.request_raw(payload.clone())).await.expect("answered");
    handle.send(payload).await.expect("accepted");
    server.send(&json!({"id": 424_242, "result": SECRET}));
    server.send(&json!({"op": "notice", "text": SECRET}));
    soon("a message", guard.recv()).await.expect("it lives");
    // Waits for the gap.
    let reading = tokio::spawn(async move { guard.next_update().await.map(|_| guard) });
    server.stop().await;
    let reason = events.disconnected().await;
    assert_clean("the reason", &all_of(&reason));
    server.restart().await;
    let guard = soon("the gap", reading).await.expect("no panic").expect("it lives");
    assert_clean("Debug", &format!("{handle:?} {:?} {guard:?}", events.0));
    soon("close", handle.close()).await;
    let log = log.text();
    assert_clean("the trace", &log);
    for word in ["dialing", "link up", "connected", "disconnected", "retrying", "gap", "closed"] {
        assert!(log.contains(word), "no trace of {word}:\n{log}");
    }
}

#[tokio::test]
async fn failures_are_traced_without_a_secret() {
    let (log, _recording) = record();
    let refusing = RawServer::answering(raw::http("401 Unauthorized", "")).await;
    let rejecting = Server::scripted(Script { auth: Auth::Reject, ..Script::default() }).await;
    let garbled = RawServer::answering("SSH-2.0\r\n").await;
    let broken = RawServer::upgraded_then(vec![0xff; 64]).await;
    for url in [refusing.url(), rejecting.url(), garbled.url(), broken.url()] {
        let settings = config(&format!("{url}?key={SECRET}"))
            .header("x-key", SECRET)
            .reconnect_max_attempts(1)
            .header("cookie", format!("s={SECRET}"));
        let (handle, mut events) = connect_with(settings, Dialect::with_token(SECRET)).await;
        let payload = json!({"op": "echo", "value": SECRET});
        let request = handle.request::<_, Value>(&payload);
        let error = soon("an error", request).await.expect_err("no server answers");
        assert_clean("the error", &all_of(&error));
        let (cause, _) = events.closed().await;
        assert_clean("the cause", &format!("{cause} {cause:?}"));
        assert_clean("the cause", &cause.error().map(all_of).unwrap_or_default());
    }
    assert_clean("the trace", &log.text());
}

#[tokio::test]
async fn bad_settings_are_refused_without_their_secrets() {
    let (log, _recording) = record();
    let cases = [
        config(&format!("http://host/?token={SECRET}")),
        config(&format!("ws://user:{SECRET}@host/")),
        config(&format!("ws://ho st/?token={SECRET}")),
        config(&format!("ws://host/?token={SECRET}#part")),
        config("ws://host/").header("x-key", format!("{SECRET}\n")),
        config("ws://host/").header("sec-websocket-key", SECRET),
    ];
    for settings in cases {
        let error = settings.validate().expect_err("a bad setting");
        assert_clean("the error", &all_of(&error));
        assert_clean("the config", &format!("{settings:?}"));
    }
    assert_clean("the trace", &log.text());
}

#[tokio::test]
async fn a_slow_reader_is_traced() {
    let (log, _recording) = record();
    let server = Server::start().await;
    let settings = config(&server.url()).subscription_channel_capacity(1);
    let (handle, _events) = connect_with(settings, Dialect::default()).await;
    let guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    for number in 0..3 {
        server.push("trades", number);
    }
    super::support::eventually("lag", || guard.lagged() > 0).await;
    assert!(log.text().contains("not read fast enough"), "{}", log.text());
}

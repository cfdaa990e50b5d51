//! Against a server that was not written here: Python's `websockets`, killed and restarted under a live connection.
//!
//! `interop/run.sh` makes the virtualenv and names its interpreter in `HPX_INTEROP_PYTHON`; without it the tests say so and
//! pass.

use std::{process::Stdio, time::Duration};

use hpx_transport::websocket::{
    Connection, ConnectionEpoch, ConnectionHandle, ConnectionStream, Delivery, ErrorKind, Event,
    GenericJsonHandler, SubscriptionGuard, Update, WsConfig,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// Far beyond what anything here takes: reached only by what hangs.
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("did not happen: {what}"),
    }
}

/// A server process. Killed when dropped.
struct Server {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    python: String,
    port: u16,
}

impl Server {
    /// `None` where there is no interpreter to run it.
    async fn start() -> Option<Self> {
        let Ok(python) = std::env::var("HPX_INTEROP_PYTHON") else {
            println!("skipped: HPX_INTEROP_PYTHON is not set; interop/run.sh sets it");
            return None;
        };
        Some(Self::launch(python, 0).await)
    }

    async fn launch(python: String, port: u16) -> Self {
        let mut child = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/server.py"))
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the interpreter starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut server = Self { child, lines: BufReader::new(stdout).lines(), python, port };
        server.port = server.line("listening").await.parse().expect("a port");
        server
    }

    /// What follows `word` on the next line that begins with it.
    async fn line(&mut self, word: &str) -> String {
        loop {
            let line = soon(word, self.lines.next_line()).await.expect("text");
            let Some(line) = line else { panic!("the server ended before it said: {word}") };
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    /// As by power loss: no goodbye.
    async fn kill(&mut self) {
        self.child.kill().await.expect("it ran");
    }

    async fn restart(self) -> Self {
        Self::launch(self.python.clone(), self.port).await
    }

    fn config(&self) -> WsConfig {
        WsConfig::new(format!("ws://127.0.0.1:{}/", self.port))
            .reconnect_initial_delay(Duration::from_millis(20))
            .reconnect_max_delay(Duration::from_millis(100))
            .ping_interval(Duration::from_millis(100))
            .close_timeout(Duration::from_secs(5))
    }

    async fn connect(&self) -> (ConnectionHandle, ConnectionStream) {
        let handler = GenericJsonHandler::new().result_field("result").error_field("error");
        let (handle, stream) = Connection::connect(self.config(), handler).await.expect("a valid config");
        soon("ready", handle.ready()).await.expect("the server accepts");
        (handle, stream)
    }
}

/// The next update, with the number it carries.
async fn next(guard: &mut SubscriptionGuard) -> Result<u64, (ConnectionEpoch, ConnectionEpoch)> {
    match soon("an update", guard.next_update()).await.expect("the subscription lives") {
        Update::Message(message) => {
            let value: Value = serde_json::from_slice(message.as_bytes()).expect("JSON");
            Ok(value["data"].as_u64().expect("a number"))
        }
        Update::Gap { from, to } => Err((from, to)),
        Update::Lagged(count) => panic!("a reader that waits lost {count}"),
    }
}

async fn echo(handle: &ConnectionHandle, value: u64) -> u64 {
    let request = json!({"op": "echo", "value": value});
    soon("a reply", handle.request(&request)).await.expect("the server answers")
}

#[tokio::test]
async fn a_feed_goes_on_over_a_killed_and_restarted_server() {
    let Some(mut server) = Server::start().await else { return };
    let (handle, _stream) = server.connect().await;
    let mut feed = handle.subscribe("trades").await.expect("it lives");
    for number in 1..=20 {
        assert_eq!(next(&mut feed).await, Ok(number));
    }
    assert_eq!(echo(&handle, 7).await, 7);
    for life in 1..=3 {
        let written = {
            let handle = handle.clone();
            tokio::spawn(async move { handle.request_raw(r#"{"op":"hold"}"#.into()).await })
        };
        // Answered behind it: the held request is on the wire.
        echo(&handle, 0).await;
        server.kill().await;
        let lost = soon("an answer", written).await.expect("no panic").expect_err("the server is dead");
        assert_eq!((lost.kind(), lost.delivery()), (ErrorKind::Io, Delivery::MaybeSent));
        let waiting = {
            let handle = handle.clone();
            tokio::spawn(async move { echo(&handle, 8).await })
        };
        server = server.restart().await;
        let gap = loop {
            if let Err(gap) = next(&mut feed).await {
                break gap;
            }
        };
        assert_eq!(gap, (ConnectionEpoch(life), ConnectionEpoch(life + 1)));
        // The new server counts from 1.
        for number in 1..=20 {
            assert_eq!(next(&mut feed).await, Ok(number));
        }
        assert_eq!(soon("a reply", waiting).await.expect("no panic"), 8);
    }
    assert_eq!(feed.lagged(), 0);
}

#[tokio::test]
async fn subscriptions_follow_their_guards() {
    let Some(server) = Server::start().await else { return };
    let (handle, _stream) = server.connect().await;
    let topics = async || -> Vec<String> {
        soon("a reply", handle.request(&json!({"op": "topics"}))).await.expect("the server answers")
    };
    let mut guards = handle.subscribe_many(["a", "b", "c"]).await.expect("it lives");
    assert_eq!(topics().await, ["a", "b", "c"]);
    drop(guards.remove(1));
    assert_eq!(topics().await, ["a", "c"]);
    handle.unsubscribe("a").await.expect("it lives");
    assert_eq!(topics().await, ["c"]);
    drop(guards);
    assert!(topics().await.is_empty());
}

#[tokio::test]
async fn errors_large_messages_and_pings_of_both_sides_pass() {
    let Some(server) = Server::start().await else { return };
    let (handle, _stream) = server.connect().await;
    let error = soon("a reply", handle.request::<_, Value>(&json!({"op": "dance"}))).await;
    assert_eq!(error.expect_err("unknown").peer_error(), Some(r#""unknown operation dance""#));
    for size in [1, 125, 126, 65_535, 65_536, 900_000] {
        let text = "ü".repeat(size / 2 + 1);
        let request = json!({"op": "echo", "value": text});
        let reply: String = soon("a reply", handle.request(&request)).await.expect("the server answers");
        assert_eq!(reply, text);
    }
    // Both sides ping ten times a second.
    let mut feed = handle.subscribe("ticks").await.expect("it lives");
    for number in 1..=50 {
        assert_eq!(next(&mut feed).await, Ok(number));
    }
    assert_eq!(handle.epoch(), ConnectionEpoch(1));
}

#[tokio::test]
async fn goodbyes_of_either_side_keep_their_code_and_reason() {
    let Some(mut server) = Server::start().await else { return };
    let (handle, mut stream) = server.connect().await;
    handle.send_json(&json!({"op": "leave", "code": 4003, "reason": "maintenance"})).await.expect("accepted");
    let reason = loop {
        match soon("an event", stream.recv()).await.expect("the connection lives") {
            Event::Disconnected { reason, .. } => break reason,
            _ => continue,
        }
    };
    assert_eq!((reason.close_code(), reason.close_reason()), (Some(4003), Some("maintenance")));
    assert_eq!(server.line("closed").await, "4003");
    soon("ready", handle.ready()).await.expect("it comes back");
    soon("close", handle.close()).await;
    assert_eq!(server.line("closed").await, "1000");
}

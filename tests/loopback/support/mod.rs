//! What the tests share: a scripted server, raw TCP servers, a dialect, and ways to wait without sleeping.

pub(crate) mod dialect;
pub(crate) mod elsewhere;
pub(crate) mod raw;
pub(crate) mod server;

use std::{future::Future, time::Duration};

use hpx_transport::websocket::{
    CloseCause, Connection, ConnectionHandle, ConnectionStream, Event, ProtocolHandler, SubscriptionGuard,
    TransportError, WsConfig, WsMessage,
};

pub(crate) use self::{
    dialect::Dialect,
    server::{Seen, Server},
};

/// Far beyond what anything here takes: reached only by what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// `future`'s output, or a panic that says what did not happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("did not happen: {what}"),
    }
}

/// Yields until `holds`.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A config for `url` that retries at once and closes late enough to be seen.
pub(crate) fn config(url: &str) -> WsConfig {
    WsConfig::new(url)
        .reconnect_initial_delay(Duration::from_millis(5))
        .reconnect_max_delay(Duration::from_millis(50))
        .close_timeout(Duration::from_secs(5))
}

/// Connects with the test dialect.
pub(crate) async fn connect(config: WsConfig) -> (ConnectionHandle, Events) {
    connect_with(config, Dialect::default()).await
}

/// Connects with a handler.
pub(crate) async fn connect_with<H: ProtocolHandler>(
    config: WsConfig,
    handler: H,
) -> (ConnectionHandle, Events) {
    let (handle, stream) = Connection::connect(config, handler).await.expect("a valid config");
    (handle, Events(stream))
}

/// Connects and waits until it is ready.
pub(crate) async fn ready(config: WsConfig) -> (ConnectionHandle, Events) {
    let (handle, events) = connect(config).await;
    soon("ready", handle.ready()).await.expect("the server accepts");
    (handle, events)
}

/// An event stream read under a deadline.
pub(crate) struct Events(pub(crate) ConnectionStream);

impl Events {
    /// The next event; `None` after `Closed`.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        soon("an event", self.0.recv()).await
    }

    /// Reads on until an event that `pick` takes.
    pub(crate) async fn find<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = soon(what, self.0.recv()).await;
            let Some(event) = event else { panic!("the stream ended before: {what}") };
            if let Some(found) = pick(&event) {
                return found;
            }
        }
    }

    /// Why the next lost link was lost.
    pub(crate) async fn disconnected(&mut self) -> TransportError {
        self.find("Disconnected", |event| match event {
            Event::Disconnected { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// What the next retry is for.
    pub(crate) async fn retrying(&mut self) -> (u32, Duration, TransportError) {
        self.find("Retrying", |event| match event {
            Event::Retrying { attempt, delay, cause } => Some((*attempt, *delay, cause.clone())),
            _ => None,
        })
        .await
    }

    /// How it ended.
    pub(crate) async fn closed(&mut self) -> (CloseCause, u64) {
        self.find("Closed", |event| match event {
            Event::Closed { cause, unsent } => Some((cause.clone(), *unsent)),
            _ => None,
        })
        .await
    }

    /// All events to the end, by name.
    pub(crate) async fn names(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(event) = self.next().await {
            names.push(match event {
                Event::Connected { epoch } => format!("Connected {epoch}"),
                Event::Disconnected { epoch, .. } => format!("Disconnected {epoch}"),
                Event::Retrying { attempt, .. } => format!("Retrying {attempt}"),
                Event::Message(message) => format!("Message {:?}", message.kind),
                Event::Closed { unsent, .. } => format!("Closed {unsent}"),
                other => format!("{other:?}"),
            });
        }
        names
    }
}

/// The next message of a guard, as JSON.
pub(crate) async fn next_data(guard: &mut SubscriptionGuard) -> serde_json::Value {
    let message = soon("a message", guard.recv()).await.expect("the subscription lives");
    data_of(&message)
}

/// What a push of the scripted server carries.
pub(crate) fn data_of(message: &WsMessage) -> serde_json::Value {
    let value: serde_json::Value = serde_json::from_slice(message.as_bytes()).expect("a push is JSON");
    value["data"].clone()
}

/// Sends until the queue is full and stays so: for a peer that never reads.
pub(crate) async fn clog(handle: &ConnectionHandle) {
    // A send that waits so long waits for the peer. Were it not so, the queue would still be nearly full.
    const STUCK: Duration = Duration::from_millis(100);
    let send = || handle.send(WsMessage::binary(vec![0; 1 << 20]));
    while let Ok(sent) = tokio::time::timeout(STUCK, send()).await {
        sent.expect("it lives");
    }
}

/// A runtime and its server, for tests that leave the runtime.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
